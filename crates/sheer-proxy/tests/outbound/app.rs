//! An application of HTTP/2 that answers as a test's script says, a client that sees everything of its answers, and policies to put
//! between the two.

use std::{
    cell::{Cell, RefCell},
    rc::Rc,
    sync::Arc,
    time::Duration,
};

use bytes::Bytes;
use h2::server::SendResponse;
use http::{HeaderMap, HeaderName, HeaderValue, Request, Response, StatusCode, request::Parts};
use sheer_policy::{
    outbound::{Backend, Backends, HttpRule, OutboundPolicy, RouteBackend},
    routes::{RequestMatch, Routes, Rule},
};
use sheer_proxy::{
    discovery::{Endpoint, Lookup, OutboundTarget},
    metrics::Format,
};
use tokio::net::TcpListener;

use crate::support::{Client, DETECT, PATH, Proxy, SERVICE, balanced, endpoint, object, with_policy};

/// What an application does with a request.
#[derive(Clone, Debug)]
pub(crate) struct Say {
    /// Before anything else.
    pub(crate) delay: Duration,
    pub(crate) status: StatusCode,
    pub(crate) headers: Vec<(&'static str, String)>,
    pub(crate) body: Option<&'static str>,
    /// Between head and body.
    pub(crate) pause: Duration,
    pub(crate) trailers: Option<Vec<(&'static str, String)>>,
    /// Instead of everything else.
    pub(crate) reset: Option<h2::Reason>,
}

impl Say {
    pub(crate) fn status(status: u16) -> Self {
        Self {
            delay: Duration::ZERO,
            status: StatusCode::from_u16(status).unwrap(),
            headers: vec![],
            body: Some("answer"),
            pause: Duration::ZERO,
            trailers: None,
            reset: None,
        }
    }

    pub(crate) fn ok() -> Self {
        Self::status(200)
    }

    /// A gRPC answer of a head alone.
    pub(crate) fn grpc_head(code: u16) -> Self {
        Self {
            headers: vec![
                ("content-type", "application/grpc".into()),
                ("grpc-status", code.to_string()),
            ],
            body: None,
            ..Self::ok()
        }
    }

    /// A gRPC answer of head and trailers, with a message between them where it is well.
    pub(crate) fn grpc(code: u16) -> Self {
        Self {
            headers: vec![("content-type", "application/grpc".into())],
            body: (code == 0).then_some("answer"),
            trailers: Some(vec![("grpc-status", code.to_string())]),
            ..Self::ok()
        }
    }

    pub(crate) fn reset(code: h2::Reason) -> Self {
        Self {
            reset: Some(code),
            ..Self::ok()
        }
    }

    pub(crate) fn after(self, delay: Duration) -> Self {
        Self { delay, ..self }
    }

    pub(crate) fn with(mut self, name: &'static str, value: &str) -> Self {
        self.headers.push((name, value.to_owned()));
        self
    }
}

/// What an application has seen.
#[derive(Debug)]
pub(crate) struct Seen {
    pub(crate) head: Parts,
    pub(crate) body: Vec<u8>,
}

/// An application.
pub(crate) struct App {
    pub(crate) endpoint: Endpoint,
    pub(crate) seen: Rc<RefCell<Vec<Seen>>>,
    /// Requests that were reset before their answer was out.
    pub(crate) cancelled: Rc<Cell<usize>>,
}

impl App {
    /// Answers the n-th request (from 0) as the script says.
    pub(crate) async fn start(script: impl Fn(usize) -> Say + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        let (seen, cancelled, script) = (Rc::default(), Rc::default(), Rc::new(script));
        let app = Self {
            endpoint: endpoint(addr),
            seen: Rc::clone(&seen),
            cancelled: Rc::clone(&cancelled),
        };
        tokio::task::spawn_local(async move {
            let arrived = Rc::new(Cell::new(0));
            loop {
                let (tcp, _) = listener.accept().await.unwrap();
                let (seen, script, arrived) = (Rc::clone(&seen), Rc::clone(&script), Rc::clone(&arrived));
                let cancelled = Rc::clone(&cancelled);
                tokio::task::spawn_local(async move {
                    let Ok(mut connection) = h2::server::handshake(tcp).await else {
                        return;
                    };
                    while let Some(Ok((request, respond))) = connection.accept().await {
                        let n = arrived.replace(arrived.get() + 1);
                        let (seen, cancelled, say) = (Rc::clone(&seen), Rc::clone(&cancelled), script(n));
                        tokio::task::spawn_local(async move {
                            let (head, mut body) = request.into_parts();
                            let mut bytes = Vec::new();
                            while let Some(Ok(chunk)) = body.data().await {
                                let _ = body.flow_control().release_capacity(chunk.len());
                                bytes.extend_from_slice(&chunk);
                            }
                            seen.borrow_mut().push(Seen { head, body: bytes });
                            answer(respond, say, &cancelled).await;
                        });
                    }
                });
            }
        });
        app
    }

    pub(crate) fn calls(&self) -> usize {
        self.seen.borrow().len()
    }

    /// A header of the n-th request.
    pub(crate) fn header(&self, n: usize, name: &str) -> Option<String> {
        let seen = self.seen.borrow();
        let value = seen[n].head.headers.get(name)?;
        Some(value.to_str().unwrap().to_owned())
    }
}

async fn answer(mut respond: SendResponse<Bytes>, say: Say, cancelled: &Cell<usize>) {
    let gone = std::future::poll_fn(|cx| respond.poll_reset(cx));
    tokio::select! {
        biased;
        _ = gone => {
            cancelled.set(cancelled.get() + 1);
            return;
        }
        () = tokio::time::sleep(say.delay) => {}
    }
    if let Some(code) = say.reset {
        return respond.send_reset(code);
    }
    let mut head = Response::new(());
    *head.status_mut() = say.status;
    for (name, value) in say.headers {
        head.headers_mut().append(name, value.parse().unwrap());
    }
    let end = say.body.is_none() && say.trailers.is_none();
    let Ok(mut stream) = respond.send_response(head, end) else {
        return;
    };
    if !say.pause.is_zero() {
        tokio::time::sleep(say.pause).await;
    }
    if let Some(body) = say.body {
        let _ = stream.send_data(body.into(), say.trailers.is_none());
    }
    if let Some(trailers) = say.trailers {
        let mut map = HeaderMap::new();
        for (name, value) in trailers {
            map.append(HeaderName::from_static(name), value.parse().unwrap());
        }
        let _ = stream.send_trailers(map);
    }
}

/// An answer, whole.
#[derive(Debug)]
pub(crate) struct Heard {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) body: String,
    pub(crate) trailers: HeaderMap,
}

impl Heard {
    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }

    pub(crate) fn reason(&self) -> &str {
        self.header("sheer-reason")
    }

    /// From head or trailers.
    pub(crate) fn grpc_status(&self) -> &str {
        let value = self.trailers.get("grpc-status").or(self.headers.get("grpc-status"));
        value.map_or("", |value| value.to_str().unwrap())
    }
}

/// A request to the service.
pub(crate) fn get(path: &str) -> Request<()> {
    Request::get(format!("http://web.shop{path}")).body(()).unwrap()
}

/// A gRPC call.
pub(crate) fn grpc() -> Request<()> {
    let call = Request::post("http://web.shop/shop.Web/Get");
    call.header("content-type", "application/grpc").body(()).unwrap()
}

pub(crate) fn with(mut request: Request<()>, name: &'static str, value: &str) -> Request<()> {
    let value = HeaderValue::from_str(value).unwrap();
    request.headers_mut().append(name, value);
    request
}

/// Sends a request with a body and hears the answer.
pub(crate) async fn ask(client: &Client, request: Request<()>, body: &[u8]) -> Result<Heard, h2::Error> {
    let mut send = client.send.clone().ready().await?;
    let (response, mut stream) = send.send_request(request, false)?;
    stream.send_data(Bytes::copy_from_slice(body), true)?;
    let (head, mut body) = response.await?.into_parts();
    let mut bytes = Vec::new();
    while let Some(chunk) = body.data().await {
        let chunk = chunk?;
        let _ = body.flow_control().release_capacity(chunk.len());
        bytes.extend_from_slice(&chunk);
    }
    Ok(Heard {
        status: head.status,
        headers: head.headers,
        body: String::from_utf8(bytes).unwrap(),
        trailers: body.trailers().await?.unwrap_or_default(),
    })
}

/// A rule for everything.
pub(crate) fn rule(action: HttpRule) -> Rule<HttpRule> {
    Rule {
        route: object("HTTPRoute", "route"),
        index: 0,
        is_grpc: false,
        hosts: Arc::default(),
        matches: vec![],
        action,
    }
}

/// A rule for some requests.
pub(crate) fn rule_for(found: RequestMatch, action: HttpRule) -> Rule<HttpRule> {
    Rule {
        matches: vec![found],
        ..rule(action)
    }
}

/// To the endpoints that [`crate::support::Play::endpoints`] says.
pub(crate) fn to_service() -> HttpRule {
    HttpRule {
        backends: Backends::only(&Arc::new(balanced("web", PATH))),
        ..HttpRule::default()
    }
}

/// Backends by name, with weights; each has the path of its name.
pub(crate) fn weighted(backends: &[(&str, u32)]) -> Backends {
    let of = |name: &str| RouteBackend {
        backend: Arc::new(balanced(name, name)),
        filters: vec![],
    };
    Backends::Weighted(backends.iter().map(|(name, weight)| (of(name), *weight)).collect())
}

/// A policy with these rules for both versions of HTTP.
pub(crate) fn policy(rules: Vec<Rule<HttpRule>>) -> OutboundPolicy {
    let mut policy = OutboundPolicy::plain(object("Service", "web"), DETECT, balanced("web", PATH));
    policy.http1.routes = Arc::new(Routes::new(rules));
    policy.http2.routes = Arc::clone(&policy.http1.routes);
    policy
}

/// Has the destination be what a policy says.
pub(crate) fn apply(proxy: &Proxy, policy: OutboundPolicy) {
    apply_target(proxy, with_policy(policy));
}

pub(crate) fn apply_target(proxy: &Proxy, target: OutboundTarget) {
    proxy
        .discovery
        .target(SERVICE.parse().unwrap(), Lookup::Known(target.into()));
}

/// A proxy whose service is an application, by one rule.
pub(crate) async fn proxy_for(app: &App, action: HttpRule) -> (Proxy, Client) {
    let proxy = Proxy::start();
    apply(&proxy, policy(vec![rule(action)]));
    proxy.discovery.endpoints([app.endpoint.clone()]);
    let client = proxy.h2().await;
    (proxy, client)
}

/// A backend that is one endpoint.
pub(crate) fn forward(app: &App) -> Backends {
    Backends::only(&Arc::new(Backend::forward(app.endpoint.clone())))
}

/// Attempts that the proxy counted: what applications see of its requests.
pub(crate) fn attempts(proxy: &Proxy) -> usize {
    metric(proxy, "route_actual_request_total", &[]) as usize
}

/// Requests that the proxy counted as ended by itself for a reason.
pub(crate) fn errors(proxy: &Proxy, reason: &str) -> u64 {
    metric(proxy, "sheer_errors_total", &[&format!("reason=\"{reason}\"")])
}

/// Requests that the proxy counted as sent again.
pub(crate) fn retries(proxy: &Proxy) -> usize {
    metric(proxy, "outbound_http_route_retry_requests_total", &[]) as usize
}

/// The sum of a family's series whose labels hold all of these.
pub(crate) fn metric(proxy: &Proxy, family: &str, labels: &[&str]) -> u64 {
    let page = proxy.registry.render(Format::Prometheus);
    let lines = page.lines().filter(|line| {
        let name = line.split(['{', ' ']).next().unwrap_or_default();
        name == family && labels.iter().all(|label| line.contains(label))
    });
    lines
        .map(|line| line.rsplit(' ').next().unwrap().parse::<u64>().unwrap())
        .sum()
}
