//! `OutboundPolicies` as tonic serves it, with `Watch` sending policies that were encoded once: 200 proxies that watch one Service cost one
//! encoding, not 200.

use std::{
    convert::Infallible,
    task::{Context, Poll},
};

use futures::{StreamExt, future::BoxFuture, stream::BoxStream};
use prost::{
    Message,
    bytes::{BufMut, Bytes},
};
use sheer_api::linkerd::outbound::{TrafficSpec, outbound_policies_server::OutboundPoliciesServer};
use tonic::{
    Request, Response, Status,
    body::Body,
    codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder},
    codegen::Service,
    server::{Grpc, NamedService, ServerStreamingService},
};

use super::PolicyService;

/// The path of `Watch`; everything else is as tonic generates it.
const WATCH: &str = "/io.linkerd.proxy.outbound.OutboundPolicies/Watch";

/// `OutboundPolicies`.
#[derive(Clone)]
pub(crate) struct OutboundServer {
    service: PolicyService,
    others: OutboundPoliciesServer<PolicyService>,
}

impl OutboundServer {
    pub(super) fn new(service: PolicyService) -> Self {
        Self {
            others: OutboundPoliciesServer::new(service.clone()),
            service,
        }
    }
}

impl NamedService for OutboundServer {
    const NAME: &'static str = <OutboundPoliciesServer<PolicyService> as NamedService>::NAME;
}

impl Service<http::Request<Body>> for OutboundServer {
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<'static, Result<Self::Response, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        if request.uri().path() != WATCH {
            return self.others.call(request);
        }
        let watch = Watch(self.service.clone());
        Box::pin(async move { Ok(Grpc::new(Encoded).server_streaming(watch, request).await) })
    }
}

struct Watch(PolicyService);

impl ServerStreamingService<TrafficSpec> for Watch {
    type Response = Bytes;
    type ResponseStream = BoxStream<'static, Result<Bytes, Status>>;
    type Future = BoxFuture<'static, Result<Response<Self::ResponseStream>, Status>>;

    fn call(&mut self, request: Request<TrafficSpec>) -> Self::Future {
        let stream = self.0.watch_outbound_policy(request.into_inner());
        Box::pin(async move {
            let policies = stream?.map(|shared| shared.map(|shared| shared.encoded.clone()));
            Ok(Response::new(policies.boxed()))
        })
    }
}

/// Messages that are encoded already.
struct Encoded;

impl Codec for Encoded {
    type Encode = Bytes;
    type Decode = TrafficSpec;
    type Encoder = Self;
    type Decoder = Self;

    fn encoder(&mut self) -> Self {
        Self
    }

    fn decoder(&mut self) -> Self {
        Self
    }
}

impl Encoder for Encoded {
    type Item = Bytes;
    type Error = Status;

    fn encode(&mut self, message: Bytes, buffer: &mut EncodeBuf<'_>) -> Result<(), Status> {
        buffer.put(message);
        Ok(())
    }
}

impl Decoder for Encoded {
    type Item = TrafficSpec;
    type Error = Status;

    fn decode(&mut self, buffer: &mut DecodeBuf<'_>) -> Result<Option<TrafficSpec>, Status> {
        let message = TrafficSpec::decode(buffer);
        message
            .map(Some)
            .map_err(|error| Status::invalid_argument(format!("not a TrafficSpec: {error}")))
    }
}
