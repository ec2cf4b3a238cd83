//! Stands before a service: verifies the metadata of each call, applies the faults, and echoes the seal in the answer.
//! Handlers find the verified [`Call`] with [`call_of`].

use std::convert::Infallible;
use std::sync::Arc;
use std::task::{Context, Poll};

use http_body_util::BodyExt;
use tonic::body::Body;
use tonic::codegen::{BoxFuture, Service};
use tonic::metadata::MetadataMap;
use tonic::server::NamedService;
use tonic::{Request, Status};

use crate::faults::{Plan, Switchboard};
use crate::metadata::Call;

/// A service behind the guard.
#[derive(Clone)]
pub struct Guard<S> {
    inner: S,
    faults: Arc<Switchboard>,
}

impl<S> Guard<S> {
    /// Puts the guard before a service.
    pub fn new(inner: S, faults: Arc<Switchboard>) -> Self {
        Self { inner, faults }
    }
}

/// The verified metadata of a call that came through the guard.
pub fn call_of<M>(request: &Request<M>) -> Result<Call, Status> {
    let call = request.extensions().get::<Call>();
    call.cloned()
        .ok_or_else(|| Status::internal("this service must stand behind the guard"))
}

impl<S: NamedService> NamedService for Guard<S> {
    const NAME: &'static str = S::NAME;
}

impl<S> Service<http::Request<Body>> for Guard<S>
where
    S: Service<http::Request<Body>, Response = http::Response<Body>, Error = Infallible> + Clone + Send + 'static,
    S::Future: Send,
{
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<Self::Response, Infallible>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, mut request: http::Request<Body>) -> Self::Future {
        let mut inner = self.inner.clone();
        let plan = self.faults.plan();
        Box::pin(async move {
            if let Err(status) = suffer(plan).await {
                return Ok(status.into_http());
            }
            let call = match Call::verify(&MetadataMap::from_headers(request.headers().clone())) {
                Ok(call) => call,
                Err(status) => {
                    tracing::warn!(path = request.uri().path(), %status, "refused a call");
                    return Ok(status.into_http());
                }
            };
            request.extensions_mut().insert(call.clone());
            let mut response = inner.call(request).await?;
            call.echo(response.headers_mut());
            Ok(if plan.wrong_trailers {
                response.map(with_wrong_trailers)
            } else {
                response
            })
        })
    }
}

/// The faults that come before the service is reached.
pub async fn suffer(plan: Plan) -> Result<(), Status> {
    if !plan.latency.is_zero() {
        tokio::time::sleep(plan.latency).await;
    }
    if plan.hang {
        std::future::pending::<()>().await;
    }
    if plan.error {
        return Err(Status::unavailable("a fault that was switched on"));
    }
    Ok(())
}

fn with_wrong_trailers(body: Body) -> Body {
    Body::new(body.map_frame(|mut frame| {
        if let Some(trailers) = frame.trailers_mut() {
            trailers.insert("grpc-status", http::HeaderValue::from_static("wrong"));
        }
        frame
    }))
}
