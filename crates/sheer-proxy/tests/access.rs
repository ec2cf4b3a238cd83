//! Access as one process: routes that decide who may send a request, rate limits, and changes of policy under open connections. What is let in is
//! counted twice: by the application and on the metrics page.

#![expect(clippy::unwrap_used, reason = "a test's panic is its report")]

#[expect(dead_code, reason = "shared with the other tests of the inbound half")]
#[path = "support/inbound.rs"]
mod inbound;
#[path = "support/run.rs"]
mod run;

use std::{
    cell::RefCell,
    net::SocketAddr,
    rc::Rc,
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::Bytes;
use h2::client::SendRequest;
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode};
use inbound::{CLIENT, DETECT, Proxy, policy};
use run::run;
use sheer_policy::{
    inbound::{InboundRule, RateLimit, RateOverride},
    limit::Limiter,
    outbound::{Abort, AbortAnswer, Delay, Filter, HeaderModifier, PathModifier, Redirect, Rewrite, Share},
    routes::{PathMatch, RequestMatch, Routes, Rule},
};
use sheer_proxy::{
    discovery::{Authorization, InboundPolicy, ObjectRef, ProtocolPlan},
    identity::MeshAlpn,
    transport_header::{SessionProtocol, TransportHeader},
};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::TcpListener,
    task::JoinHandle,
};

/// How long something may take that takes milliseconds on an idle machine.
const PATIENCE: Duration = Duration::from_secs(20);

/// An application that answers every request but those to `/hang` and `/begin` (of which it sends the head), and remembers what it was sent.
#[derive(Clone)]
struct App {
    addr: SocketAddr,
    seen: Rc<RefCell<Vec<(String, HeaderMap)>>>,
}

impl App {
    async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let app = Self {
            addr: listener.local_addr().unwrap(),
            seen: Rc::default(),
        };
        let seen = Rc::clone(&app.seen);
        tokio::task::spawn_local(async move {
            while let Ok((tcp, _)) = listener.accept().await {
                let seen = Rc::clone(&seen);
                tokio::task::spawn_local(async move {
                    let mut server = h2::server::handshake(tcp).await.unwrap();
                    let mut hanging = Vec::new();
                    while let Some(Ok((request, mut respond))) = server.accept().await {
                        let path = request.uri().path().to_owned();
                        seen.borrow_mut().push((path.clone(), request.headers().clone()));
                        match path.as_str() {
                            "/hang" => hanging.push((respond, None)),
                            "/begin" => {
                                let body = respond.send_response(Response::new(()), false).unwrap();
                                hanging.push((respond, Some(body)));
                            }
                            _ => {
                                let fields = [("x-server", "1.2.3"), ("x-kept", "yes")];
                                let mut response = Response::new(());
                                for (name, value) in fields {
                                    response.headers_mut().append(name, HeaderValue::from_static(value));
                                }
                                respond.send_response(response, true).unwrap();
                            }
                        }
                    }
                });
            }
        });
        app
    }

    /// How many requests to a path came.
    fn count(&self, path: &str) -> usize {
        self.seen.borrow().iter().filter(|(seen, _)| seen == path).count()
    }
}

/// A client of HTTP/2, and the end of its connection.
struct Client {
    send: SendRequest<Bytes>,
    connection: JoinHandle<Result<(), h2::Error>>,
}

impl Client {
    async fn on<T: AsyncRead + AsyncWrite + Unpin + 'static>(io: T) -> Self {
        let (send, connection) = h2::client::handshake(io).await.unwrap();
        let connection = tokio::task::spawn_local(connection);
        let send = send.ready().await.unwrap();
        Self { send, connection }
    }

    /// With the identity [`CLIENT`].
    async fn meshed(proxy: &Proxy, addr: SocketAddr) -> Self {
        Self::on(mesh(proxy, addr, Some(SessionProtocol::Http2)).await).await
    }

    async fn plain(proxy: &Proxy, addr: SocketAddr) -> Self {
        Self::on(proxy.plain(addr).await).await
    }

    async fn send(&mut self, request: Request<()>) -> Response<()> {
        let response = self.send.send_request(request, true).unwrap().0.await.unwrap();
        Response::from_parts(response.into_parts().0, ())
    }

    async fn get(&mut self, path: &str) -> Response<()> {
        self.send(get(path)).await
    }

    async fn status(&mut self, path: &str) -> u16 {
        self.get(path).await.status().as_u16()
    }
}

fn get(path: &str) -> Request<()> {
    Request::get(format!("http://ledger.bank{path}")).body(()).unwrap()
}

fn grpc(path: &str) -> Request<()> {
    let mut request = get(path);
    *request.method_mut() = Method::POST;
    request
        .headers_mut()
        .insert("content-type", HeaderValue::from_static("application/grpc"));
    request
}

async fn mesh(proxy: &Proxy, addr: SocketAddr, protocol: Option<SessionProtocol>) -> sheer_proxy::io::Stream {
    let mut io = proxy.mesh(MeshAlpn::TransportHeader).await;
    let header = TransportHeader {
        port: addr.port(),
        name: None,
        protocol,
    };
    io.write_all(&header.encode()).await.unwrap();
    io
}

/// The sum of a metric over all series that have all of these labels.
fn metric(proxy: &Proxy, name: &str, labels: &[&str]) -> u64 {
    let page = proxy.registry.render(sheer_proxy::metrics::Format::Prometheus);
    let start = format!("{name}{{");
    let lines = page
        .lines()
        .filter(|line| line.starts_with(&start) && labels.iter().all(|label| line.contains(label)));
    lines
        .map(|line| line.rsplit(' ').next().unwrap().parse::<u64>().unwrap())
        .sum()
}

async fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let until = Instant::now() + PATIENCE;
    while !holds() {
        assert!(Instant::now() < until, "not within {PATIENCE:?}: {what}");
        tokio::task::yield_now().await;
    }
}

fn header<'a>(response: &'a Response<()>, name: &str) -> &'a str {
    response.headers().get(name).map_or("", |value| value.to_str().unwrap())
}

fn route(name: &str) -> ObjectRef {
    ObjectRef {
        group: "gateway.networking.k8s.io".into(),
        kind: "HTTPRoute".into(),
        namespace: "bank".into(),
        name: name.into(),
        ..ObjectRef::default()
    }
}

/// Authorizations that let in whom [`policy`] lets in.
fn who(identities: Option<&[&str]>) -> Vec<Authorization> {
    policy(DETECT, identities).authorizations
}

fn rule(route: ObjectRef, prefix: &str, authorizations: Vec<Authorization>, filters: Vec<Filter>) -> Rule<InboundRule> {
    let path = (prefix != "/").then(|| PathMatch::Prefix(prefix.to_owned()));
    Rule {
        route,
        index: 0,
        is_grpc: false,
        hosts: Arc::default(),
        matches: vec![RequestMatch {
            path,
            ..RequestMatch::default()
        }],
        action: InboundRule {
            authorizations: authorizations.into(),
            filters,
        },
    }
}

/// A policy whose server lets in some identities (everybody where `None`), with routes.
fn routed(identities: Option<&[&str]>, rules: Vec<Rule<InboundRule>>) -> InboundPolicy {
    InboundPolicy {
        routes: Arc::new(Routes::new(rules)),
        ..policy(DETECT, identities)
    }
}

#[test]
fn a_route_lets_in_more_than_its_server_for_the_requests_that_it_takes() {
    run(async {
        let proxy = Proxy::start().await;
        let app = App::start().await;
        let rules = vec![
            rule(route("public"), "/public", who(None), vec![]),
            rule(route("admin"), "/admin", who(Some(&[CLIENT])), vec![]),
            rule(route("locked"), "/locked", vec![], vec![]),
        ];
        proxy.policies.set(app.addr.port(), routed(Some(&["nobody"]), rules));

        let mut plain = Client::plain(&proxy, app.addr).await;
        assert_eq!(plain.status("/public/x").await, 200);
        let denied = plain.get("/admin").await;
        assert_eq!(
            (denied.status().as_u16(), header(&denied, "sheer-verdict")),
            (403, "policy")
        );
        let text = header(&denied, "l5d-proxy-error");
        assert!(
            text.ends_with(&format!("is not allowed on port {}", app.addr.port())),
            "{text}"
        );
        let lost = plain.get("/elsewhere").await;
        assert_eq!(
            (lost.status().as_u16(), header(&lost, "sheer-reason")),
            (404, "no-route")
        );
        assert_eq!(header(&plain.send(grpc("/admin")).await, "grpc-status"), "7");
        assert_eq!(header(&plain.send(grpc("/elsewhere")).await, "grpc-status"), "5");

        let mut meshed = Client::meshed(&proxy, app.addr).await;
        assert_eq!(meshed.status("/public").await, 200);
        for _ in 0..3 {
            assert_eq!(meshed.status("/admin/x").await, 200);
        }
        let denied = meshed.get("/locked").await;
        let text = header(&denied, "l5d-proxy-error");
        assert!(text.ends_with("by HTTPRoute bank/locked of Server bank/test"), "{text}");

        let seen: Vec<_> = app.seen.borrow().iter().map(|(path, _)| path.clone()).collect();
        assert_eq!(seen, ["/public/x", "/public", "/admin/x", "/admin/x", "/admin/x"]);
        let counted = |name, labels: &[&str]| metric(&proxy, name, labels);
        assert_eq!(
            counted("inbound_http_authz_allow_total", &[r#"route_name="public""#]),
            2
        );
        assert_eq!(
            counted(
                "inbound_http_authz_allow_total",
                &[r#"route_name="admin""#, r#"authz_name="test""#]
            ),
            3
        );
        assert_eq!(counted("inbound_http_authz_deny_total", &[r#"route_name="admin""#]), 2);
        assert_eq!(
            counted("inbound_http_authz_deny_total", &[r#"route_name="locked""#, CLIENT]),
            1
        );
        assert_eq!(
            counted("inbound_http_route_not_found_total", &[r#"srv_name="test""#]),
            2
        );
    });
}

#[test]
fn who_is_let_in_by_the_server_may_use_every_route() {
    run(async {
        let proxy = Proxy::start().await;
        let app = App::start().await;
        let rules = vec![rule(route("admin"), "/admin", who(Some(&["nobody"])), vec![])];
        proxy.policies.set(app.addr.port(), routed(Some(&[CLIENT]), rules));
        let mut meshed = Client::meshed(&proxy, app.addr).await;
        assert_eq!((meshed.status("/admin").await, meshed.status("/").await), (200, 404));
        assert_eq!(app.seen.borrow().len(), 1);
    });
}

#[test]
fn probes_are_let_through_and_nothing_else() {
    run(async {
        let proxy = Proxy::start().await;
        let app = App::start().await;
        let mut probe = rule(ObjectRef::default_of("probe"), "/", who(None), vec![]);
        probe.matches[0] = RequestMatch {
            path: Some(PathMatch::Exact("/ready".to_owned())),
            method: Some(Method::GET),
            ..RequestMatch::default()
        };
        let rules = || {
            vec![
                rule(ObjectRef::default_of("default"), "/", vec![], vec![]),
                probe.clone(),
            ]
        };
        proxy.policies.set(app.addr.port(), routed(Some(&["nobody"]), rules()));
        let mut kubelet = Client::plain(&proxy, app.addr).await;
        assert_eq!((kubelet.status("/ready").await, kubelet.status("/").await), (200, 403));
        assert_eq!(kubelet.send(grpc("/ready")).await.status(), StatusCode::OK);
        assert_eq!(app.count("/ready"), 1, "a POST is no probe");
        let counted = |name| metric(&proxy, name, &[]);
        assert_eq!(
            (
                counted("inbound_http_authz_allow_total"),
                counted("inbound_http_authz_deny_total")
            ),
            (1, 2)
        );

        // Not refused for the load of others either.
        let limited = InboundPolicy {
            rate_limit: Some(limiter(Some(1), None, vec![])),
            ..routed(None, rules())
        };
        proxy.policies.set(app.addr.port(), limited);
        for _ in 0..20 {
            assert_eq!(kubelet.status("/ready").await, 200);
        }
    });
}

#[test]
fn filters_of_a_route_change_redirect_and_fail() {
    run(async {
        let proxy = Proxy::start().await;
        let app = App::start().await;
        let headers = Filter::RequestHeaders(HeaderModifier {
            set: fields("x-team", "books"),
            remove: vec!["x-secret".parse().unwrap()],
            ..HeaderModifier::default()
        });
        let redirect = Filter::Redirect(Redirect {
            scheme: None,
            host: Some("new.bank".into()),
            port: None,
            path: None,
            status: StatusCode::TEMPORARY_REDIRECT,
        });
        let abort = |answer| {
            Filter::Abort(Abort {
                answer,
                message: "an exercise".into(),
                share: Share::ALL,
            })
        };
        let teapot = abort(AbortAnswer::Http(StatusCode::IM_A_TEAPOT));
        let rules = vec![
            rule(route("headers"), "/headers", vec![], vec![headers]),
            rule(route("redirect"), "/old", vec![], vec![redirect]),
            rule(route("fault"), "/fault", vec![], vec![teapot]),
            rule(
                route("grpc-fault"),
                "/bank.Ledger",
                vec![],
                vec![abort(AbortAnswer::Grpc(10))],
            ),
        ];
        proxy.policies.set(app.addr.port(), routed(None, rules));
        let mut client = Client::plain(&proxy, app.addr).await;
        let mut request = get("/headers");
        for (name, value) in [("x-team", "forged"), ("x-secret", "1"), ("x-kept", "2")] {
            request.headers_mut().insert(name, HeaderValue::from_static(value));
        }
        assert_eq!(client.send(request).await.status(), StatusCode::OK);
        let moved = client.get("/old/a?b=c").await;
        assert_eq!(moved.status(), StatusCode::TEMPORARY_REDIRECT);
        assert!(header(&moved, "location").starts_with("http://new.bank"), "{moved:?}");
        assert!(header(&moved, "location").ends_with("/old/a?b=c"), "{moved:?}");
        let failed = client.get("/fault").await;
        assert_eq!(
            (failed.status().as_u16(), header(&failed, "sheer-reason")),
            (418, "fault-injected")
        );
        assert!(header(&failed, "l5d-proxy-error").contains("an exercise"), "{failed:?}");
        assert_eq!(
            header(&client.send(grpc("/bank.Ledger/Pay")).await, "grpc-status"),
            "10"
        );

        let seen = app.seen.borrow();
        let [(path, got)] = &seen[..] else { panic!("{seen:?}") };
        assert_eq!((path.as_str(), got.get("x-secret")), ("/headers", None));
        assert_eq!(
            (got["x-team"].as_bytes(), got["x-kept"].as_bytes()),
            (&b"books"[..], &b"2"[..])
        );
    });
}

/// A field of the test.
fn fields(name: &'static str, value: &'static str) -> HeaderMap {
    HeaderMap::from_iter([(name.parse().unwrap(), HeaderValue::from_static(value))])
}

#[test]
fn filters_of_a_route_change_responses_and_wait() {
    run(async {
        let proxy = Proxy::start().await;
        let app = App::start().await;
        let response = Filter::ResponseHeaders(HeaderModifier {
            add: fields("x-by", "sheer"),
            remove: vec!["x-server".parse().unwrap()],
            ..HeaderModifier::default()
        });
        let rewrite = Filter::Rewrite(Rewrite {
            host: None,
            path: Some(PathModifier::Prefix("/new".into())),
        });
        let delay = Filter::Delay(Delay {
            delay: Duration::from_millis(80),
            share: Share::ALL,
        });
        let rules = vec![
            rule(route("response"), "/response", vec![], vec![response]),
            rule(route("rewrite"), "/old", vec![], vec![rewrite]),
            rule(route("delay"), "/slow", vec![], vec![delay]),
            rule(route("rest"), "/", vec![], vec![]),
        ];
        proxy.policies.set(app.addr.port(), routed(None, rules));
        let mut client = Client::plain(&proxy, app.addr).await;
        for (path, by, server) in [("/response", "sheer", ""), ("/other", "", "1.2.3")] {
            let got = client.get(path).await;
            let said = [header(&got, "x-by"), header(&got, "x-server"), header(&got, "x-kept")];
            assert_eq!(said, [by, server, "yes"], "{path}");
        }
        assert_eq!(client.status("/old/a?b=c").await, 200);
        let began = Instant::now();
        assert_eq!(client.status("/slow").await, 200);
        assert!(began.elapsed() >= Duration::from_millis(80));
        let seen: Vec<_> = app.seen.borrow().iter().map(|(path, _)| path.clone()).collect();
        assert_eq!(seen, ["/response", "/other", "/new/a", "/slow"]);
    });
}

fn with_deadline(path: &str, timeout: &'static str) -> Request<()> {
    let mut request = grpc(path);
    request
        .headers_mut()
        .insert("grpc-timeout", HeaderValue::from_static(timeout));
    request
}

/// What the n-th request said of its time, milliseconds.
fn remaining(app: &App, n: usize) -> f64 {
    let seen = app.seen.borrow();
    let said = seen[n].1["grpc-timeout"].to_str().unwrap();
    let (number, unit) = said.split_at(said.len() - 1);
    let in_ms = match unit {
        "n" => 1e-6,
        "u" => 1e-3,
        "m" => 1.0,
        "S" => 1e3,
        other => panic!("{other}"),
    };
    number.parse::<f64>().unwrap() * in_ms
}

#[test]
fn what_remains_of_a_deadline_goes_to_the_application() {
    run(async {
        let proxy = Proxy::start().await;
        let app = App::start().await;
        let delay = Filter::Delay(Delay {
            delay: Duration::from_millis(60),
            share: Share::ALL,
        });
        let rules = vec![
            rule(route("slow"), "/slow", vec![], vec![delay]),
            rule(route("rest"), "/", vec![], vec![]),
        ];
        proxy.policies.set(app.addr.port(), routed(None, rules));
        let mut client = Client::meshed(&proxy, app.addr).await;
        assert_eq!(
            client.send(with_deadline("/slow", "30S")).await.status(),
            StatusCode::OK
        );
        let left = remaining(&app, 0);
        assert!(left <= 29_940.0 && left > 10_000.0, "{left} ms");

        // Spent before it was sent: the application never sees it.
        for (path, timeout) in [("/slow", "20m"), ("/now", "0n")] {
            let late = client.send(with_deadline(path, timeout)).await;
            let said = [header(&late, "grpc-status"), header(&late, "sheer-reason")];
            assert_eq!(said, ["4", "deadline"], "{path}");
            assert_eq!(header(&late, "sheer-verdict"), "client-config", "{path}");
        }
        assert_eq!(app.seen.borrow().len(), 1);
        // What is no gRPC says nothing of time to a proxy.
        let mut http = get("/now");
        http.headers_mut()
            .insert("grpc-timeout", HeaderValue::from_static("0n"));
        assert_eq!(client.send(http).await.status(), StatusCode::OK);
        assert_eq!(metric(&proxy, "sheer_errors_total", &[r#"reason="deadline""#]), 2);
    });
}

#[test]
fn a_deadline_ends_what_the_application_works_on() {
    run(async {
        let proxy = Proxy::start().await;
        let app = App::start().await;
        let mut client = Client::meshed(&proxy, app.addr).await;
        let began = Instant::now();
        let late = client.send(with_deadline("/hang", "100m")).await;
        let said = [header(&late, "grpc-status"), header(&late, "sheer-reason")];
        assert_eq!(said, ["4", "deadline"]);
        assert_eq!(header(&late, "sheer-verdict"), "application");
        assert!(began.elapsed() >= Duration::from_millis(100));

        // After the head of the response it can only be said in the trailers.
        let sent = client.send.send_request(with_deadline("/begin", "100m"), true).unwrap();
        let mut body = sent.0.await.unwrap().into_body();
        assert!(body.data().await.is_none());
        let trailers = body.trailers().await.unwrap().unwrap();
        assert_eq!(trailers["grpc-status"], "4");
        assert_eq!((app.count("/hang"), app.count("/begin")), (1, 1));
        assert_eq!(metric(&proxy, "sheer_errors_total", &[r#"reason="deadline""#]), 2);
    });
}

/// gRPC's libraries keep the time themselves, and cancel: it must not matter who is the first to notice.
#[test]
fn a_caller_that_gives_up_when_its_deadline_comes_has_met_it() {
    run(async {
        let proxy = Proxy::start().await;
        let app = App::start().await;
        let client = Client::meshed(&proxy, app.addr).await;
        let deadlines = || metric(&proxy, "sheer_errors_total", &[r#"reason="deadline""#]);
        for (calls, timeout, cancelled_after, met) in [(1, "60S", 20, 0), (2, "2S", 1_985, 1)] {
            let mut send = client.send.clone();
            let sent = send.send_request(with_deadline("/hang", timeout), true).unwrap();
            eventually("the application works", || app.count("/hang") == calls).await;
            tokio::time::sleep(Duration::from_millis(cancelled_after)).await;
            drop(sent);
            tokio::time::sleep(Duration::from_millis(100)).await;
            assert_eq!(deadlines(), met, "a deadline of {timeout}");
        }
    });
}

fn limiter(total: Option<u32>, identity: Option<u32>, overrides: Vec<RateOverride>) -> Arc<Limiter> {
    let mut policy = route("slow");
    policy.kind = "HTTPLocalRateLimitPolicy".into();
    Arc::new(Limiter::new(RateLimit {
        policy,
        total,
        identity,
        overrides,
    }))
}

/// Sends requests one after the other; how many were let in, and the last refusal.
async fn burst(client: &mut Client, requests: usize) -> (usize, Option<Response<()>>) {
    let (mut let_in, mut refusal) = (0, None);
    for _ in 0..requests {
        let response = client.get("/").await;
        if response.status() == StatusCode::OK {
            let_in += 1;
        } else {
            assert_eq!(response.status(), StatusCode::TOO_MANY_REQUESTS);
            refusal = Some(response);
        }
    }
    (let_in, refusal)
}

#[test]
fn requests_past_a_limit_are_refused_and_told_when_to_come_back() {
    run(async {
        let proxy = Proxy::start().await;
        let app = App::start().await;
        let limited = InboundPolicy {
            rate_limit: Some(limiter(Some(8), Some(5), vec![])),
            ..policy(DETECT, None)
        };
        proxy.policies.set(app.addr.port(), limited);
        let began = Instant::now();
        let mut meshed = Client::meshed(&proxy, app.addr).await;
        let mut again = Client::meshed(&proxy, app.addr).await;
        let mut plain = Client::plain(&proxy, app.addr).await;
        let (by_identity, refusal) = burst(&mut meshed, 30).await;
        // Another connection of the same client has no bucket of its own.
        let (by_again, _) = burst(&mut again, 30).await;
        let (by_stranger, stranger) = burst(&mut plain, 30).await;
        let seconds = began.elapsed().as_secs_f64();

        let refusal = refusal.unwrap();
        assert_eq!(
            (header(&refusal, "retry-after"), header(&refusal, "sheer-reason")),
            ("1", "rate-limited")
        );
        let text = header(&refusal, "l5d-proxy-error");
        assert_eq!(
            text,
            "more than 5 requests a second, of one client: HTTPLocalRateLimitPolicy bank/slow"
        );
        let text = stranger
            .as_ref()
            .map_or("", |stranger| header(stranger, "l5d-proxy-error"));
        assert!(text.starts_with("more than ") && !text.contains("bank/slow"), "{text}");
        // What came back meanwhile may be let in too, and no more.
        let most = |rate: f64| rate + rate * seconds + 1.0;
        let let_in = by_identity + by_again + by_stranger;
        assert!(
            by_identity >= 5 && by_stranger >= 1,
            "{by_identity} {by_again} {by_stranger}"
        );
        assert!(
            (by_identity + by_again) as f64 <= most(5.0),
            "{by_identity} {by_again} in {seconds} s"
        );
        assert!(let_in as f64 <= most(8.0), "{let_in} in {seconds} s");
        assert_eq!(app.count("/"), let_in, "the application saw what was let in");
        let counted = |labels: &[&str]| metric(&proxy, "inbound_http_local_ratelimit_total", labels);
        assert_eq!(counted(&[r#"ratelimit_name="slow""#]), 90 - let_in as u64);
        assert!(counted(&[r#"ratelimit_scope="identity""#]) >= 1);
        assert_eq!(
            metric(&proxy, "inbound_http_authz_allow_total", &[]),
            let_in as u64,
            "a request past the limit is not one that was let in"
        );

        let refused = loop {
            let response = meshed.send(grpc("/")).await;
            if header(&response, "grpc-status") == "8" {
                break response;
            }
        };
        assert_ne!(header(&refused, "grpc-retry-pushback-ms"), "");
    });
}

#[test]
fn an_override_is_for_its_clients() {
    run(async {
        let proxy = Proxy::start().await;
        let app = App::start().await;
        let over = RateOverride {
            requests_per_second: 100_000,
            identities: vec![CLIENT.to_owned()],
        };
        let limited = InboundPolicy {
            rate_limit: Some(limiter(None, Some(1), vec![over])),
            ..policy(DETECT, None)
        };
        proxy.policies.set(app.addr.port(), limited);
        let mut meshed = Client::meshed(&proxy, app.addr).await;
        assert_eq!(burst(&mut meshed, 100).await.0, 100);
        let mut plain = Client::plain(&proxy, app.addr).await;
        let (let_in, refused) = burst(&mut plain, 20).await;
        assert!(refused.is_some());
        let counted = metric(&proxy, "inbound_http_local_ratelimit_total", &[]);
        assert_eq!(
            counted,
            20 - let_in as u64,
            "the client with the override is not among them"
        );
    });
}

/// Every kind of connection of a client that no rule allows any longer ends, and no other does.
#[test]
fn a_change_of_policy_ends_the_connections_that_it_no_longer_allows() {
    run(async {
        let proxy = Proxy::start().await;
        let app = App::start().await;
        let port = app.addr.port();
        let by_server = || routed(Some(&[CLIENT]), vec![rule(route("all"), "/", vec![], vec![])]);
        let by_route = || {
            routed(
                Some(&["nobody"]),
                vec![rule(route("all"), "/", who(Some(&[CLIENT])), vec![])],
            )
        };
        let by_none = || routed(Some(&["nobody"]), vec![rule(route("all"), "/", vec![], vec![])]);
        proxy.policies.set(port, by_server());

        let mut idle = Client::meshed(&proxy, app.addr).await;
        let mut busy = Client::meshed(&proxy, app.addr).await;
        let mut denied = Client::plain(&proxy, app.addr).await;
        assert_eq!((idle.status("/").await, denied.status("/").await), (200, 403));
        let stream = busy.send.send_request(get("/hang"), true).unwrap().0;
        eventually("the stream is open", || app.count("/hang") == 1).await;

        // Another rule allows the same client: nothing happens to it.
        proxy.policies.set(port, by_route());
        assert_eq!(idle.status("/").await, 200);
        assert_eq!(metric(&proxy, "inbound_tcp_authz_terminate_total", &[]), 0);

        let changed = Instant::now();
        proxy.policies.set(port, by_none());
        idle.connection.await.unwrap().unwrap();
        assert!(
            idle.send.ready().await.is_err(),
            "the connection takes no more requests"
        );
        assert!(stream.await.is_err(), "a stream without end ends as well");
        assert!(changed.elapsed() < PATIENCE);
        assert_eq!(metric(&proxy, "inbound_tcp_authz_terminate_total", &[CLIENT]), 2);
        assert_eq!(
            denied.status("/").await,
            403,
            "who was never let in is told so for each request"
        );
    });
}

#[test]
fn a_change_of_policy_closes_http1_and_resets_opaque_connections() {
    run(async {
        let proxy = Proxy::start().await;
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let app = listener.local_addr().unwrap();
        tokio::task::spawn_local(async move {
            while let Ok((mut tcp, _)) = listener.accept().await {
                tokio::task::spawn_local(async move {
                    let mut buffer = [0; 1024];
                    while tcp.read(&mut buffer).await.is_ok_and(|read| read > 0) {
                        tcp.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
                            .await
                            .unwrap();
                    }
                });
            }
        });
        for (protocol, ask) in [
            (ProtocolPlan::Http1, &b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"[..]),
            (ProtocolPlan::Opaque, b"hello"),
        ] {
            proxy.policies.set(app.port(), policy(protocol, None));
            let mut client = proxy.plain(app).await;
            client.write_all(ask).await.unwrap();
            let mut answer = [0; 40];
            let read = client.read(&mut answer).await.unwrap();
            assert!(answer[..read].starts_with(b"HTTP/1.1 200"), "{}", answer.escape_ascii());
            let before = metric(&proxy, "inbound_tcp_authz_terminate_total", &[]);
            proxy.policies.set(app.port(), policy(protocol, Some(&["nobody"])));
            let mut rest = Vec::new();
            let ended = tokio::time::timeout(PATIENCE, client.read_to_end(&mut rest))
                .await
                .unwrap();
            assert_eq!(
                ended.map_err(|error| error.kind()).is_err(),
                protocol == ProtocolPlan::Opaque,
                "opaque connections are reset, those of HTTP/1 close"
            );
            eventually("it is counted", || {
                metric(&proxy, "inbound_tcp_authz_terminate_total", &[]) == before + 1
            })
            .await;
        }
    });
}

#[test]
fn audit_lets_in_and_counts() {
    run(async {
        let proxy = Proxy::start().await;
        let app = App::start().await;
        let mut audit = who(None);
        audit[0].policy = ObjectRef::default_of("audit");
        let audited = InboundPolicy {
            authorizations: [who(Some(&[CLIENT])), audit].concat(),
            ..policy(DETECT, None)
        };
        proxy.policies.set(app.addr.port(), audited);
        let mut plain = Client::plain(&proxy, app.addr).await;
        let mut meshed = Client::meshed(&proxy, app.addr).await;
        assert_eq!((plain.status("/").await, meshed.status("/").await), (200, 200));
        let counted = |label| metric(&proxy, "inbound_http_authz_allow_total", &[label]);
        assert_eq!(
            (counted(r#"authz_name="audit""#), counted(r#"authz_name="test""#)),
            (1, 1)
        );
    });
}
