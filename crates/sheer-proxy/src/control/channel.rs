//! One service of the control plane: a connection that is made when it is wanted and made again when it is lost.

use std::{
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use http::{Request, Response, Uri};
use hyper::{body::Incoming, client::conn::http2::SendRequest};
use rustls::RootCertStore;
use tokio::sync::{Mutex, watch};
use tonic::body::Body;
use tower::Service;

use super::{
    Ledger,
    backoff::Waits,
    connect::{self, Duplex},
};
use crate::{
    identity::Identity,
    metrics::{Family, Gauge, LabelSet, Shard},
    settings::ControlAddr,
};

/// What a channel needs.
#[derive(Clone, Debug)]
pub(crate) struct ChannelOptions {
    /// Name of the service, for logs and labels.
    pub(crate) service: &'static str,
    /// Whose service it is, for logs.
    pub(crate) whose: &'static str,
    /// Says whether there is a connection.
    pub(crate) connected: &'static Family,
    pub(crate) addr: ControlAddr,
    /// `SO_MARK` of its sockets.
    pub(crate) mark: Option<u32>,
    pub(crate) roots: Arc<RootCertStore>,
    /// Shown to the service, where there is one already.
    pub(crate) identity: Identity,
    /// Whether to wait for the own certificate: every service but the one that issues it asks for it.
    pub(crate) wait_for_identity: bool,
}

/// Handle to a service. Clones share the connection.
#[derive(Clone, Debug)]
pub(crate) struct Channel(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    options: ChannelOptions,
    state: Mutex<State>,
    connected: Gauge,
    /// Whether the last attempt to connect failed.
    failing: watch::Sender<bool>,
    shard: Shard,
    ledger: Ledger,
}

#[derive(Debug)]
struct State {
    send: Option<SendRequest<Body>>,
    waits: Waits,
    /// The last failure, so that the log has each once.
    failure: Option<String>,
}

impl Channel {
    pub(crate) fn new(options: ChannelOptions, shard: &Shard) -> Self {
        let labels = LabelSet::builder().label("service", options.service).build();
        let connected = shard.gauge(options.connected, &labels);
        let state = Mutex::new(State {
            send: None,
            waits: Waits::control(),
            failure: None,
        });
        Self(Arc::new(Inner {
            options,
            state,
            connected,
            failing: watch::Sender::new(false),
            shard: shard.clone(),
            ledger: Ledger::default(),
        }))
    }

    /// Name of the service.
    pub(crate) fn service(&self) -> &'static str {
        self.0.options.service
    }

    /// Where its metrics are counted.
    pub(crate) fn shard(&self) -> &Shard {
        &self.0.shard
    }

    /// What is known of its streams.
    pub(crate) fn ledger(&self) -> &Ledger {
        &self.0.ledger
    }

    /// What requests have for `:scheme` and `:authority`.
    pub(crate) fn origin(&self) -> Uri {
        let addr = &self.0.options.addr;
        Uri::builder()
            .scheme(if addr.name.is_some() { "https" } else { "http" })
            .authority(addr.to_string())
            .path_and_query("/")
            .build()
            .expect("the settings hold a valid host and port")
    }

    /// The service's address, as a client of HTTP/1 says it.
    pub(crate) fn host(&self) -> String {
        self.0.options.addr.to_string()
    }

    /// A connection of the caller's own, on which nothing was said yet; for HTTP/1.
    pub(crate) async fn open(&self) -> Result<Box<dyn Duplex>, connect::ConnectError> {
        connect::open(&self.0.options).await
    }

    /// Returns once there is a connection: at once, or after as many attempts as it takes.
    pub(crate) async fn ready(&self) {
        drop(self.connection().await);
    }

    /// Returns once the service is known not to be there: the last attempt to connect failed.
    pub(crate) async fn failing(&self) {
        // The sender lives as long as `self`.
        let _ = self.0.failing.subscribe().wait_for(|failing| *failing).await;
    }

    async fn connection(&self) -> SendRequest<Body> {
        let Inner {
            options,
            connected,
            failing,
            ..
        } = &*self.0;
        // Held while connecting: callers that come meanwhile want the same connection.
        let mut state = self.0.state.lock().await;
        if let Some(send) = &state.send {
            if !send.is_closed() {
                return send.clone();
            }
            state.send = None;
            connected.set(0);
            tracing::info!(service = options.service, "connection to {} lost", options.whose);
        }
        if options.wait_for_identity {
            // An error says that the proxy ends, and this task with it.
            let _ = options.identity.watch().wait_for(Option::is_some).await;
        }
        loop {
            match connect::connect(options, &self.0.shard).await {
                Ok((addr, send)) => {
                    tracing::info!(service = options.service, %addr, "connected to {}", options.whose);
                    connected.set(1);
                    failing.send_replace(false);
                    *state = State {
                        send: Some(send.clone()),
                        waits: Waits::control(),
                        failure: None,
                    };
                    return send;
                }
                Err(error) => {
                    failing.send_replace(true);
                    let failure = error.to_string();
                    if state.failure.as_ref() != Some(&failure) {
                        tracing::warn!(
                            service = options.service,
                            address = %options.addr,
                            "no connection to {}, what is known stays in force: {failure}",
                            options.whose
                        );
                        state.failure = Some(failure);
                    }
                    tokio::time::sleep(state.waits.next()).await;
                }
            }
        }
    }
}

impl Service<Request<Body>> for Channel {
    type Response = Response<Incoming>;
    type Error = hyper::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Self::Error>> + Send>>;

    fn poll_ready(&mut self, _cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let channel = self.clone();
        Box::pin(async move { channel.connection().await.send_request(request).await })
    }
}

#[cfg(test)]
#[path = "tests.rs"]
mod tests;
