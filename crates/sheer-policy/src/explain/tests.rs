//! Policies in, whole explanations out.

use std::sync::Arc;

use http::{HeaderMap, Method, StatusCode};
use regex::Regex;

use super::{Client, Explanation, inbound, outbound, words};
use crate::{
    ObjectRef, ProtocolPlan,
    inbound::{Authentication, Authorization, InboundPolicy, InboundRule, RateLimit, RateOverride},
    limit::Limiter,
    outbound::{
        Abort, AbortAnswer, Backend, BackendTarget, Backends, Backoff, Balancing, Filter, HeaderModifier, HttpPolicy,
        HttpRule, LoadEstimate, Mirror, OutboundPolicy, PathModifier, Redirect, Refusal, Retry, Rewrite, RouteBackend,
        Share, StreamRule, Timeouts,
    },
    routes::{HeaderMatch, HostMatch, PathMatch, QueryMatch, RequestMatch, RequestView, Routes, Rule, ValueMatch},
};

/// An explanation as a page.
fn page(explanation: &Explanation) -> String {
    let mut text = String::new();
    for decision in &explanation.decisions {
        let object = decision.object.as_ref().map(ToString::to_string).unwrap_or_default();
        text += &format!(
            "{} [{object}]: {} ({})\n",
            decision.stage, decision.choice, decision.why
        );
        for loser in &decision.losers {
            text += &format!("  not {} {}: {}\n", loser.object, loser.choice, loser.why);
        }
    }
    text += &match &explanation.answer {
        None => explanation.outcome.as_str().to_owned(),
        Some(answer) => format!(
            "{}: {} {:?} {:?} {:?}",
            explanation.outcome.as_str(),
            answer.verdict,
            answer.reason,
            answer.status.map(|status| status.as_u16()),
            answer.grpc_status
        ),
    };
    text
}

fn object(kind: &str, name: &str) -> ObjectRef {
    ObjectRef {
        kind: kind.to_owned(),
        namespace: "bank".to_owned(),
        name: name.to_owned(),
        ..ObjectRef::default()
    }
}

fn backend(name: &str) -> RouteBackend {
    let backend = Backend {
        object: ObjectRef {
            port: 8080,
            ..object("Service", name)
        },
        target: BackendTarget::Balance {
            path: format!("{name}.bank.svc.cluster.local:8080").into(),
            load: LoadEstimate::default(),
        },
        queue_capacity: None,
        failfast_timeout: None,
        balancing: Balancing::default(),
    };
    RouteBackend {
        backend: Arc::new(backend),
        filters: Vec::new(),
    }
}

fn rule(route: &str, index: usize, matches: Vec<RequestMatch>, action: HttpRule) -> Rule<HttpRule> {
    Rule {
        route: object("HTTPRoute", route),
        index,
        is_grpc: false,
        hosts: Arc::default(),
        matches,
        action,
    }
}

fn to(name: &str) -> HttpRule {
    HttpRule {
        backends: Backends::First(vec![backend(name)]),
        ..HttpRule::default()
    }
}

fn prefix_of(prefix: &str) -> RequestMatch {
    RequestMatch {
        path: Some(PathMatch::Prefix(prefix.trim_end_matches('/').to_owned())),
        ..RequestMatch::default()
    }
}

fn policy_of(rules: Vec<Rule<HttpRule>>) -> OutboundPolicy {
    OutboundPolicy {
        parent: ObjectRef {
            port: 8080,
            ..object("Service", "ledger")
        },
        protocol: ProtocolPlan::Detect {
            timeout: std::time::Duration::from_secs(10),
        },
        http1: HttpPolicy::default(),
        http2: HttpPolicy {
            routes: Arc::new(Routes::new(rules)),
            accrual: None,
        },
        opaque: Arc::default(),
        tls: Arc::default(),
        budget: Default::default(),
    }
}

fn request<'a>(method: &'a Method, path: &'a str, headers: &'a HeaderMap) -> RequestView<'a> {
    RequestView {
        method,
        host: Some("ledger.bank:8080"),
        path,
        query: Some("page=2"),
        headers,
    }
}

fn explained(policy: &OutboundPolicy, path: &str) -> String {
    let headers = HeaderMap::from_iter([("x-tenant".parse().unwrap(), "acme".parse().unwrap())]);
    let view = request(&Method::GET, path, &headers);
    page(&outbound::explain(policy, &outbound::Traffic::Http2(view)).explanation)
}

#[test]
fn a_route_wins_and_each_loser_says_why() {
    let header = HeaderMatch {
        name: "x-tenant".parse().unwrap(),
        value: ValueMatch::Exact(b"globex".to_vec()),
    };
    let query = QueryMatch {
        name: "page".to_owned(),
        value: ValueMatch::Exact("1".to_owned()),
    };
    let with = |found: RequestMatch| vec![found];
    let other_host = Rule {
        hosts: [HostMatch::Suffix(".example.com".to_owned())].into(),
        ..rule("hosts", 0, vec![], to("ledger"))
    };
    let policy = policy_of(vec![
        rule("canary", 0, with(prefix_of("/api")), to("ledger-v2")),
        rule("canary", 1, with(prefix_of("")), to("ledger")),
        rule("canary", 2, vec![prefix_of("/a"), prefix_of("/b")], to("ledger")),
        rule("other", 0, with(prefix_of("/api")), to("ledger")),
        rule(
            "other",
            1,
            with(RequestMatch {
                method: Some(Method::POST),
                ..prefix_of("/api")
            }),
            to("ledger"),
        ),
        rule(
            "other",
            2,
            with(RequestMatch {
                headers: vec![header],
                ..prefix_of("/api")
            }),
            to("ledger"),
        ),
        rule(
            "other",
            3,
            with(RequestMatch {
                query: vec![query],
                ..prefix_of("/api")
            }),
            to("ledger"),
        ),
        rule(
            "other",
            4,
            with(RequestMatch {
                path: Some(PathMatch::Regex(Regex::new("^(?:/v[12]/.*)$").unwrap())),
                ..RequestMatch::default()
            }),
            to("ledger"),
        ),
        other_host,
    ]);
    insta::assert_snapshot!(explained(&policy, "/api/accounts"));
    let only_other_host = policy_of(vec![rule("canary", 0, with(prefix_of("/api")), to("ledger-v2"))]);
    insta::assert_snapshot!(explained(&only_other_host, "/v1/x"));
}

#[test]
fn what_a_rule_does_is_told_in_order() {
    let seconds = std::time::Duration::from_secs;
    let action = HttpRule {
        filters: vec![
            Filter::RequestHeaders(HeaderModifier {
                set: HeaderMap::from_iter([("x-from".parse().unwrap(), "mesh".parse().unwrap())]),
                remove: vec!["x-debug".parse().unwrap()],
                ..HeaderModifier::default()
            }),
            Filter::Rewrite(Rewrite {
                host: None,
                path: Some(PathModifier::Prefix("/v2".into())),
            }),
            Filter::Abort(Abort {
                answer: AbortAnswer::Http(StatusCode::SERVICE_UNAVAILABLE),
                message: "test".into(),
                share: Share {
                    numerator: 1,
                    denominator: 20,
                },
            }),
        ],
        backends: Backends::Weighted(vec![(backend("a"), 10), (backend("b"), 90), (backend("c"), 0)]),
        timeouts: Timeouts {
            request: Some(seconds(2)),
            response: None,
            idle: Some(seconds(60)),
        },
        retry: Some(Retry {
            limit: 2,
            max_request_bytes: 65_536,
            statuses: vec![(500, 599), (429, 429)],
            grpc_codes: vec![14],
            timeout: Some(std::time::Duration::from_millis(300)),
            backoff: Some(Backoff {
                min: std::time::Duration::from_millis(25),
                max: std::time::Duration::from_millis(250),
                jitter: 0.5,
                honour_hint: true,
            }),
            max_hint: Some(seconds(5)),
        }),
        mirrors: vec![Mirror {
            backend: backend("shadow").backend,
            share: Share::ALL,
        }],
        ..HttpRule::default()
    };
    insta::assert_snapshot!(explained(&policy_of(vec![rule("all", 0, vec![], action)]), "/x"));
}

#[test]
fn what_is_not_forwarded_names_its_answer() {
    let redirect = HttpRule {
        filters: vec![Filter::Redirect(Redirect {
            scheme: None,
            host: Some("new.bank".into()),
            port: Some(80),
            path: None,
            status: StatusCode::FOUND,
        })],
        ..HttpRule::default()
    };
    let abort = HttpRule {
        filters: vec![Filter::Abort(Abort {
            answer: AbortAnswer::Grpc(14),
            message: "test".into(),
            share: Share::ALL,
        })],
        ..HttpRule::default()
    };
    let weightless = HttpRule {
        backends: Backends::Weighted(vec![(backend("a"), 0)]),
        ..HttpRule::default()
    };
    let pages: Vec<_> = [redirect, abort, weightless, HttpRule::default()]
        .into_iter()
        .map(|action| explained(&policy_of(vec![rule("all", 0, vec![], action)]), "/x"))
        .collect();
    insta::assert_snapshot!(pages.join("\n\n"));
}

#[test]
fn connections_and_server_names() {
    let stream = |name: &str, names: &[&str], refuses| StreamRule {
        route: object("TLSRoute", name),
        server_names: names.iter().map(|name| HostMatch::Exact((*name).to_owned())).collect(),
        refuses,
        backends: Backends::First(vec![backend("ledger")]),
    };
    let mut policy = policy_of(Vec::new());
    policy.tls = [stream("a", &["a.example"], None), stream("rest", &[], None)].into();
    policy.opaque = [stream("no", &[], Some(Refusal::Forbidden))].into();
    let of = |traffic| page(&outbound::explain(&policy, &traffic).explanation);
    let pages = [
        of(outbound::Traffic::Tls(Some("b.example"))),
        of(outbound::Traffic::Tls(Some("a.example"))),
        of(outbound::Traffic::Opaque),
    ];
    insta::assert_snapshot!(pages.join("\n\n"));
}

const WEB: &str = "web.bank.serviceaccount.identity.sheer.cluster.local";

fn authorization(name: &str, network: &str, except: &[&str], authentication: Authentication) -> Authorization {
    let except = except.iter().map(|except| except.parse().unwrap()).collect();
    Authorization {
        networks: vec![(network.parse().unwrap(), except)],
        authentication,
        policy: object("AuthorizationPolicy", name),
    }
}

fn identities(names: &[&str], suffixes: &[&str]) -> Authentication {
    let labels = |suffix: &&str| suffix.split('.').map(str::to_owned).collect();
    Authentication::MeshTls {
        identities: names.iter().map(ToString::to_string).collect(),
        suffixes: suffixes.iter().map(labels).collect(),
    }
}

fn port(authorizations: Vec<Authorization>) -> InboundPolicy {
    InboundPolicy {
        protocol: ProtocolPlan::Http2,
        authorizations,
        server: object("Server", "ledger-grpc"),
        routes: Arc::default(),
        rate_limit: None,
    }
}

fn admitted(policy: &InboundPolicy, names: &[&str], path: &str) -> String {
    let client = Client {
        address: "10.1.2.3".parse().unwrap(),
        meshed: !names.is_empty(),
        identities: names,
    };
    let headers = HeaderMap::new();
    let view = request(&Method::GET, path, &headers);
    page(&inbound::explain(policy, 8080, &client, Some(&view)))
}

#[test]
fn who_is_let_in_by_which_authorization() {
    let fx = "fx.bank.serviceaccount.identity.sheer.cluster.local";
    let elsewhere = "web.bank.serviceaccount.identity.linkerd.cluster.local";
    let policy = port(vec![
        authorization("far", "192.168.0.0/16", &[], Authentication::Unauthenticated),
        authorization("near", "10.0.0.0/8", &["10.1.0.0/16"], Authentication::Unauthenticated),
        authorization("fx", "0.0.0.0/0", &[], identities(&[fx, "spiffe://x/ns/y/sa/z"], &[])),
        authorization("same-name", "0.0.0.0/0", &[], identities(&[elsewhere], &[])),
        authorization(
            "ops",
            "0.0.0.0/0",
            &[],
            identities(&[], &["ops.serviceaccount.identity.sheer.cluster.local"]),
        ),
        authorization("web", "0.0.0.0/0", &[], identities(&[WEB], &[])),
        authorization("any", "0.0.0.0/0", &[], Authentication::MeshTlsAny),
    ]);
    insta::assert_snapshot!(admitted(&policy, &[WEB], "/x"));
    insta::assert_snapshot!(admitted(&policy, &[], "/x"));
    insta::assert_snapshot!(admitted(&port(Vec::new()), &[WEB], "/x"));
}

#[test]
fn routes_extend_who_may_come_in_and_limits_hold() {
    let inbound_rule = |name: &str, prefix: &str, authorizations: Vec<Authorization>| Rule {
        route: object("HTTPRoute", name),
        index: 0,
        is_grpc: false,
        hosts: Arc::default(),
        matches: vec![prefix_of(prefix)],
        action: InboundRule {
            authorizations: authorizations.into(),
            filters: Vec::new(),
        },
    };
    let web = authorization("web", "0.0.0.0/0", &[], identities(&[WEB], &[]));
    let mut policy = port(Vec::new());
    policy.routes = Arc::new(Routes::new(vec![
        inbound_rule("public", "/public", vec![web]),
        inbound_rule("admin", "/admin", Vec::new()),
    ]));
    let over = RateOverride {
        requests_per_second: 5,
        identities: vec![WEB.to_owned()],
    };
    policy.rate_limit = Some(Arc::new(Limiter::new(RateLimit {
        policy: object("HTTPLocalRateLimitPolicy", "slow"),
        total: Some(100),
        identity: Some(10),
        overrides: vec![over],
    })));
    let pages = ["/public/x", "/admin/x", "/else"].map(|path| admitted(&policy, &[WEB], path));
    insta::assert_snapshot!(pages.join("\n\n"));
    insta::assert_snapshot!(words::rate_limit(policy.rate_limit.as_ref().unwrap()));
}
