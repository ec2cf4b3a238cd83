//! `OutboundPolicies` and `sheer.v1.OutboundExtras`.

mod attempts;
mod backends;
mod filters;

use std::{collections::HashMap, sync::Arc, time::Duration};

use sheer_api::{linkerd::outbound as api, v1};

pub(super) use self::{
    attempts::{MAX_REQUEST_BYTES, budget},
    filters::{extra as extra_filter, grpc_abort, http_abort, redirect, request_headers},
};
use super::{common, matches};
use crate::{
    ObjectRef, ProtocolPlan,
    outbound::{Backends, HttpPolicy, HttpRule, OutboundPolicy, Refusal, ResponseClasses, RouteBackend, StreamRule},
    routes::{HostMatch, PathMatch, RequestMatch, Routes, Rule},
};

/// A policy, with what Linkerd's API cannot say of it. `detect_timeout` bounds the wait for first bytes.
pub fn policy(
    policy: api::OutboundPolicy,
    extras: Option<&v1::OutboundExtras>,
    detect_timeout: Duration,
) -> OutboundPolicy {
    use api::proxy_protocol::Kind;
    let cx = Extras::new(extras);
    let detect = |timeout| ProtocolPlan::Detect {
        timeout: common::duration(timeout).unwrap_or(detect_timeout).min(detect_timeout),
    };
    let mut whole = OutboundPolicy {
        parent: common::object(policy.metadata),
        protocol: detect(None),
        http1: HttpPolicy::default(),
        http2: HttpPolicy::default(),
        opaque: Arc::default(),
        tls: Arc::default(),
        budget: extras.and_then(|extras| extras.budget).map(budget).unwrap_or_default(),
    };
    match policy.protocol.and_then(|protocol| protocol.kind) {
        Some(Kind::Detect(found)) => {
            whole.protocol = detect(found.timeout);
            let http1 = found.http1.unwrap_or_default();
            whole.http1 = cx.http(http1.routes, http1.failure_accrual);
            let http2 = found.http2.unwrap_or_default();
            whole.http2 = cx.http(http2.routes, http2.failure_accrual);
            whole.opaque = cx.opaque(found.opaque.unwrap_or_default().routes);
        }
        Some(Kind::Http1(http)) => {
            whole.protocol = ProtocolPlan::Http1;
            whole.http1 = cx.http(http.routes, http.failure_accrual);
        }
        Some(Kind::Http2(http)) => {
            whole.protocol = ProtocolPlan::Http2;
            whole.http2 = cx.http(http.routes, http.failure_accrual);
        }
        Some(Kind::Grpc(grpc)) => {
            whole.protocol = ProtocolPlan::Http2;
            whole.http2 = cx.grpc(grpc.routes, grpc.failure_accrual);
        }
        Some(Kind::Opaque(opaque)) => {
            whole.protocol = ProtocolPlan::Opaque;
            whole.opaque = cx.opaque(opaque.routes);
        }
        Some(Kind::Tls(tls)) => {
            whole.protocol = ProtocolPlan::Tls;
            whole.tls = cx.tls(tls.routes);
        }
        None => {}
    }
    whole
}

/// What the companion stream says, by what it is about.
struct Extras<'a> {
    rules: HashMap<(ObjectRef, usize), &'a v1::RuleExtras>,
    backends: HashMap<ObjectRef, &'a v1::BackendExtras>,
}

/// The four kinds of routes differ in their generated types only.
macro_rules! backends {
    ($cx:expr, $kind:ident, $distribution:expr, $filters:expr) => {{
        use api::$kind::distribution::Kind;
        let of = |backend: api::$kind::RouteBackend| RouteBackend {
            backend: $cx.backend(backend.backend.unwrap_or_default()),
            filters: $filters(backend.filters),
        };
        match $distribution.and_then(|distribution| distribution.kind) {
            Some(Kind::FirstAvailable(first)) => Backends::First(first.backends.into_iter().map(of).collect()),
            Some(Kind::RandomAvailable(random)) => {
                let weighted = random.backends.into_iter();
                Backends::Weighted(
                    weighted
                        .map(|weighted| (of(weighted.backend.unwrap_or_default()), weighted.weight))
                        .collect(),
                )
            }
            Some(Kind::Empty(_)) | None => Backends::None,
        }
    }};
}

/// Why a rule lets no connection through, where a filter says so.
macro_rules! refusal {
    ($kind:ident, $filters:expr) => {
        $filters.into_iter().find_map(|filter| {
            Some(match filter.kind? {
                api::$kind::filter::Kind::Invalid(invalid) => Refusal::Invalid(invalid.message.into()),
                api::$kind::filter::Kind::Forbidden(_) => Refusal::Forbidden,
            })
        })
    };
}

impl<'a> Extras<'a> {
    fn new(extras: Option<&'a v1::OutboundExtras>) -> Self {
        let (mut rules, mut backends) = (HashMap::new(), HashMap::new());
        for rule in extras.iter().flat_map(|extras| &extras.rules) {
            rules.insert((reference(rule.route.as_ref()), rule.rule as usize), rule);
        }
        for backend in extras.iter().flat_map(|extras| &extras.backends) {
            backends.insert(reference(backend.backend.as_ref()), backend);
        }
        Self { rules, backends }
    }

    fn http(&self, routes: Vec<api::HttpRoute>, accrual: Option<api::FailureAccrual>) -> HttpPolicy {
        let rules = routes.into_iter().flat_map(|route| {
            let object = common::object(route.metadata);
            let hosts = matches::hosts(route.hosts);
            route.rules.into_iter().enumerate().map(move |(index, said)| {
                let action = HttpRule {
                    backends: backends!(self, http_route, said.backends, filters::of_http),
                    filters: filters::of_http(said.filters),
                    timeouts: attempts::timeouts(said.timeouts),
                    retry: said.retry.map(attempts::http_retry),
                    allow_request_headers: said.allow_l5d_request_headers,
                    ..HttpRule::default()
                };
                let found = all(said.matches, matches::http);
                self.rule((&object, index, false), &hosts, found, action)
            })
        });
        http_policy(rules.collect(), accrual)
    }

    fn grpc(&self, routes: Vec<api::GrpcRoute>, accrual: Option<api::FailureAccrual>) -> HttpPolicy {
        let rules = routes.into_iter().flat_map(|route| {
            let object = common::object(route.metadata);
            let hosts = matches::hosts(route.hosts);
            route.rules.into_iter().enumerate().map(move |(index, said)| {
                let action = HttpRule {
                    backends: backends!(self, grpc_route, said.backends, filters::of_grpc),
                    filters: filters::of_grpc(said.filters),
                    timeouts: attempts::timeouts(said.timeouts),
                    retry: said.retry.map(attempts::grpc_retry),
                    allow_request_headers: said.allow_l5d_request_headers,
                    ..HttpRule::default()
                };
                let found = all(said.matches, matches::grpc);
                self.rule((&object, index, true), &hosts, found, action)
            })
        });
        http_policy(rules.collect(), accrual)
    }

    /// A rule with what the companion stream says of it.
    fn rule(
        &self,
        (route, index, is_grpc): (&ObjectRef, usize, bool),
        hosts: &Arc<[HostMatch]>,
        (mut matches, mut invalid): (Vec<RequestMatch>, Option<String>),
        mut action: HttpRule,
    ) -> Rule<HttpRule> {
        self.add(route, index, &mut action);
        if let Err(why) = self.replace(route, index, &mut matches) {
            invalid.get_or_insert(why);
        }
        refuse_invalid(&mut action, invalid);
        Rule {
            route: route.clone(),
            index,
            is_grpc,
            hosts: Arc::clone(hosts),
            matches,
            action,
        }
    }

    fn opaque(&self, routes: Vec<api::OpaqueRoute>) -> Arc<[StreamRule]> {
        let rules = routes.into_iter().flat_map(|route| {
            let object = common::object(route.metadata);
            route.rules.into_iter().map(move |said| StreamRule {
                route: object.clone(),
                server_names: Vec::new(),
                refuses: refusal!(opaque_route, said.filters),
                backends: backends!(self, opaque_route, said.backends, |_| Vec::new()),
            })
        });
        rules.collect()
    }

    fn tls(&self, routes: Vec<api::TlsRoute>) -> Arc<[StreamRule]> {
        let rules = routes.into_iter().flat_map(|route| {
            let object = common::object(route.metadata);
            let names = matches::server_names(route.snis);
            route.rules.into_iter().map(move |said| StreamRule {
                route: object.clone(),
                server_names: names.clone(),
                refuses: refusal!(tls_route, said.filters),
                backends: backends!(self, tls_route, said.backends, |_| Vec::new()),
            })
        });
        rules.collect()
    }

    /// Adds to a rule what the companion stream says of it.
    fn add(&self, route: &ObjectRef, index: usize, rule: &mut HttpRule) {
        let Some(extra) = self.rules.get(&(route.clone(), index)) else {
            return;
        };
        rule.filters.extend(extra.filters.iter().filter_map(filters::extra));
        for of_backend in &extra.backends {
            if let Some(backend) = rule.backends.get_mut(of_backend.backend as usize) {
                backend
                    .filters
                    .extend(of_backend.filters.iter().filter_map(filters::extra));
            }
        }
        rule.mirrors = extra.mirrors.iter().map(|mirror| self.mirror(mirror)).collect();
        rule.hedge = extra.hedge.as_ref().and_then(attempts::hedge);
        rule.classes = extra.classes.as_ref().map(|said| Arc::new(classes(said)));
        if let (Some(retry), Some(extra)) = (&mut rule.retry, &extra.retry) {
            attempts::add_to_retry(retry, extra);
        }
    }

    /// Replaces matches that the policy can only say in part.
    fn replace(&self, route: &ObjectRef, index: usize, found: &mut Vec<RequestMatch>) -> Result<(), String> {
        let Some(extra) = self.rules.get(&(route.clone(), index)) else {
            return Ok(());
        };
        for pattern in &extra.rpc_patterns {
            if let Some(found) = found.get_mut(pattern.r#match as usize) {
                found.path = Some(PathMatch::Regex(matches::anchored(&pattern.path_regex)?));
            }
        }
        if let Some(condition) = &extra.condition {
            *found = vec![RequestMatch {
                condition: Some(matches::condition(condition)?),
                ..RequestMatch::default()
            }];
        }
        Ok(())
    }
}

/// What several messages of `sheer.v1` refer to.
pub fn reference(said: Option<&v1::ObjectRef>) -> ObjectRef {
    let Some(said) = said else {
        return ObjectRef::default_of("");
    };
    ObjectRef {
        group: said.group.clone(),
        kind: said.kind.clone(),
        namespace: said.namespace.clone(),
        name: said.name.clone(),
        section: said.section.clone(),
        port: common::port(said.port).unwrap_or(0),
    }
}

fn classes(said: &v1::ResponseClasses) -> ResponseClasses {
    let ranges = |said: &[v1::StatusRange]| {
        let status = |status: u32| u16::try_from(status).unwrap_or(u16::MAX);
        said.iter()
            .map(|range| (status(range.first), status(range.last)))
            .collect()
    };
    ResponseClasses {
        failures: ranges(&said.failures),
        successes: ranges(&said.successes),
    }
}

fn http_policy(rules: Vec<Rule<HttpRule>>, accrual: Option<api::FailureAccrual>) -> HttpPolicy {
    HttpPolicy {
        routes: Arc::new(Routes::new(rules)),
        accrual: accrual.and_then(attempts::failure_accrual),
    }
}

/// Matches that can be read, and what is wrong with the first that cannot.
fn all<W>(said: Vec<W>, read: impl Fn(W) -> Result<RequestMatch, String>) -> (Vec<RequestMatch>, Option<String>) {
    let mut found = Vec::new();
    for one in said {
        match read(one) {
            Ok(one) => found.push(one),
            Err(why) => return (Vec::new(), Some(why)),
        }
    }
    (found, None)
}

/// A rule that cannot be read takes every request of its hosts and refuses it: what it would have kept apart must not get through.
fn refuse_invalid(rule: &mut HttpRule, invalid: Option<String>) {
    if let Some(why) = invalid {
        rule.filters.clear();
        rule.mirrors.clear();
        rule.backends = Backends::First(vec![RouteBackend {
            backend: Arc::new(backends::refusing(why)),
            filters: Vec::new(),
        }]);
    }
}
