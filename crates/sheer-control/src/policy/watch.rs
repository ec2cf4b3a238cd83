//! The two streams about outbound traffic as tonic serves them, with messages that were encoded once: 200 proxies that watch one Service cost
//! one encoding, and one compression, not 200.
//!
//! tonic's own servers do everything else. They would encode, and compress, for each stream anew.

use std::{
    convert::Infallible,
    io::Write,
    marker::PhantomData,
    sync::{Arc, OnceLock},
    task::{Context, Poll},
};

use flate2::{Compression, write::GzEncoder};
use futures::{StreamExt, future::BoxFuture, stream::BoxStream};
use http::{HeaderMap, HeaderValue, header};
use http_body::Frame;
use http_body_util::StreamBody;
use prost::{
    Message,
    bytes::{BufMut, Bytes},
};
use sheer_api::{linkerd::outbound::outbound_policies_server::OutboundPoliciesServer, v1::extras_server::ExtrasServer};
use tonic::{
    Status, Streaming,
    body::Body,
    codec::{DecodeBuf, Decoder},
    codegen::Service,
    server::NamedService,
};

use super::PolicyService;

/// What stands before each message of gRPC: whether it is compressed, and its length.
const PREFIX: usize = 5;
/// Smaller messages fit into a packet as they are.
const WORTH_COMPRESSING: usize = 1024;
/// gRPC's names of the two headers.
const ACCEPT_ENCODING: &str = "grpc-accept-encoding";
const ENCODING: &str = "grpc-encoding";

/// A message as it is sent, for everybody who is told the same.
#[derive(Debug)]
pub(super) struct Encoded {
    plain: Bytes,
    compressed: OnceLock<Bytes>,
}

impl Encoded {
    pub(super) fn new(message: &impl Message) -> Self {
        let length = message.encoded_len();
        let mut plain = Vec::with_capacity(PREFIX + length);
        put_prefix(&mut plain, false, length);
        message.encode_raw(&mut plain);
        Self {
            plain: plain.into(),
            compressed: OnceLock::new(),
        }
    }

    /// The message, as protobuf has it.
    pub(super) fn message(&self) -> &[u8] {
        &self.plain[PREFIX..]
    }

    /// What is sent to a client that takes `form`.
    fn framed(&self, form: Form) -> Bytes {
        match form {
            Form::Gzip if self.plain.len() > WORTH_COMPRESSING => {
                self.compressed.get_or_init(|| self.compress()).clone()
            }
            Form::Gzip | Form::Plain => self.plain.clone(),
        }
    }

    /// Fast: every proxy waits for it, and policies are so much alike in themselves that little is gained by more.
    fn compress(&self) -> Bytes {
        let mut packed = Vec::with_capacity(self.plain.len() / 8);
        packed.resize(PREFIX, 0);
        let mut encoder = GzEncoder::new(packed, Compression::fast());
        let whole = encoder.write_all(self.message()).and_then(|()| encoder.finish());
        let mut packed = whole.expect("memory takes every byte");
        let length = packed.len() - PREFIX;
        put_prefix(&mut &mut packed[..PREFIX], true, length);
        packed.into()
    }
}

impl PartialEq for Encoded {
    fn eq(&self, other: &Self) -> bool {
        self.plain == other.plain
    }
}

// What is the same value is not compared.
impl Eq for Encoded {}

fn put_prefix(buffer: &mut impl BufMut, is_compressed: bool, length: usize) {
    buffer.put_u8(is_compressed.into());
    buffer.put_u32(u32::try_from(length).expect("no message has 4 GiB"));
}

/// How a client takes messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Form {
    Plain,
    Gzip,
}

impl Form {
    fn accepted(headers: &HeaderMap) -> Self {
        let accepted = headers.get_all(ACCEPT_ENCODING).iter();
        let mut names = accepted
            .filter_map(|value| value.to_str().ok())
            .flat_map(|value| value.split(','));
        if names.any(|name| name.trim() == "gzip") {
            Self::Gzip
        } else {
            Self::Plain
        }
    }
}

/// A stream of shared messages, or why there is none.
type Answers = Result<BoxStream<'static, Result<Arc<Encoded>, Status>>, Status>;
/// How a call is answered.
type Call = fn(PolicyService, http::Request<Body>) -> BoxFuture<'static, http::Response<Body>>;

/// A service of which one call sends shared messages; the others are as tonic generates them.
#[derive(Clone)]
pub(crate) struct Sharing<S> {
    service: PolicyService,
    others: S,
    path: &'static str,
    call: Call,
}

/// `OutboundPolicies`.
pub(crate) type OutboundServer = Sharing<OutboundPoliciesServer<PolicyService>>;
/// `Extras`.
pub(crate) type SharedExtrasServer = Sharing<ExtrasServer<PolicyService>>;

impl OutboundServer {
    pub(super) fn new(service: PolicyService) -> Self {
        Self {
            others: OutboundPoliciesServer::new(service.clone()),
            service,
            path: "/io.linkerd.proxy.outbound.OutboundPolicies/Watch",
            call: |service, request| Box::pin(answer(request, move |spec| service.watch_encoded_policy(spec))),
        }
    }
}

impl SharedExtrasServer {
    pub(super) fn of_extras(service: PolicyService) -> Self {
        Self {
            others: ExtrasServer::new(service.clone()),
            service,
            path: "/sheer.v1.Extras/WatchOutbound",
            call: |service, request| Box::pin(answer(request, move |asked| service.watch_extras(&asked))),
        }
    }
}

impl<S: NamedService> NamedService for Sharing<S> {
    const NAME: &'static str = S::NAME;
}

impl<S> Service<http::Request<Body>> for Sharing<S>
where
    S: Service<http::Request<Body>, Response = http::Response<Body>, Error = Infallible>,
    S::Future: Send + 'static,
{
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<'static, Result<Self::Response, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        if request.uri().path() != self.path {
            return Box::pin(self.others.call(request));
        }
        let answer = (self.call)(self.service.clone(), request);
        Box::pin(async move { Ok(answer.await) })
    }
}

/// Reads the one message of a call and streams what it asks for.
async fn answer<M>(request: http::Request<Body>, open: impl FnOnce(M) -> Answers) -> http::Response<Body>
where
    M: Message + Default + 'static,
{
    let form = Form::accepted(request.headers());
    let mut messages = Streaming::new_request(Asked(PhantomData), request.into_body(), None, None);
    let asked = messages.message().await;
    let asked = asked.and_then(|asked| asked.ok_or_else(|| Status::invalid_argument("the call has no message")));
    let frames = match asked.and_then(open) {
        Ok(messages) => messages.map(move |message| {
            Ok::<_, Infallible>(match message {
                Ok(message) => Frame::data(message.framed(form)),
                Err(status) => Frame::trailers(trailers(&status)),
            })
        }),
        Err(status) => return status.into_http(),
    };
    let mut response = http::Response::new(Body::new(StreamBody::new(frames)));
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
    if form == Form::Gzip {
        headers.insert(ENCODING, HeaderValue::from_static("gzip"));
    }
    response
}

fn trailers(status: &Status) -> HeaderMap {
    let mut trailers = HeaderMap::new();
    if status.add_header(&mut trailers).is_err() {
        trailers.insert("grpc-status", HeaderValue::from(status.code() as i32));
    }
    trailers
}

/// What a call asks.
struct Asked<M>(PhantomData<M>);

impl<M: Message + Default> Decoder for Asked<M> {
    type Item = M;
    type Error = Status;

    fn decode(&mut self, buffer: &mut DecodeBuf<'_>) -> Result<Option<M>, Status> {
        let message = M::decode(buffer);
        message
            .map(Some)
            .map_err(|error| Status::invalid_argument(format!("the call's message cannot be read: {error}")))
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use flate2::read::GzDecoder;
    use sheer_api::v1::{ObjectRef, OutboundExtras, RuleExtras};

    use super::*;

    fn extras(rules: u32) -> OutboundExtras {
        let rule = |rule| RuleExtras {
            route: Some(ObjectRef {
                name: format!("route-{rule}"),
                ..ObjectRef::default()
            }),
            rule,
            ..RuleExtras::default()
        };
        OutboundExtras {
            rules: (0..rules).map(rule).collect(),
            ..OutboundExtras::default()
        }
    }

    #[test]
    fn both_forms_are_the_same_message() {
        let (said, small) = (extras(500), extras(1));
        let encoded = Encoded::new(&said);
        assert_eq!(OutboundExtras::decode(encoded.message()).unwrap(), said);
        let plain = encoded.framed(Form::Plain);
        assert_eq!(
            plain[..PREFIX],
            [&[0][..], &(encoded.message().len() as u32).to_be_bytes()].concat()
        );
        let packed = encoded.framed(Form::Gzip);
        assert!(packed.len() < plain.len() / 4, "{} of {}", packed.len(), plain.len());
        assert_eq!(
            packed[..PREFIX],
            [&[1][..], &((packed.len() - PREFIX) as u32).to_be_bytes()].concat()
        );
        let mut unpacked = Vec::new();
        GzDecoder::new(&packed[PREFIX..]).read_to_end(&mut unpacked).unwrap();
        assert_eq!(unpacked, encoded.message());
        assert_eq!(encoded.framed(Form::Gzip).as_ptr(), packed.as_ptr(), "once for all");
        assert_eq!(Encoded::new(&small).framed(Form::Gzip)[0], 0, "not worth it");
    }

    #[test]
    fn clients_say_what_they_take() {
        let form = |values: &[&'static str]| {
            let values = values.iter().map(|value| {
                (
                    http::HeaderName::from_static(ACCEPT_ENCODING),
                    HeaderValue::from_static(value),
                )
            });
            Form::accepted(&values.collect())
        };
        assert_eq!(form(&[]), Form::Plain);
        assert_eq!(form(&["identity,deflate"]), Form::Plain);
        assert_eq!(form(&["identity", "zstd, gzip"]), Form::Gzip);
    }
}
