//! `OutboundPolicies` and `sheer.v1.OutboundExtras`.

use std::{collections::HashMap, sync::Arc, time::Duration};

use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, uri::Scheme};
use sheer_api::{
    linkerd::{grpc_route, http_route, http_types, outbound as api},
    v1,
};

use super::{common, matches};
use crate::{
    ObjectRef, ProtocolPlan,
    outbound::{
        Abort, AbortAnswer, Affinity, Backend, BackendTarget, Backends, Backoff, Balancing, Delay, FailureAccrual,
        Filter, HeaderModifier, Hedge, HttpPolicy, HttpRule, LoadEstimate, Locality, Mirror, OutboundPolicy,
        PathModifier, Penalty, Redirect, Refusal, ResponseClasses, Retry, RetryBudget, Rewrite, RouteBackend, Share,
        StreamRule, SuccessRate, Timeouts,
    },
    routes::{HostMatch, PathMatch, RequestMatch, Routes, Rule},
};

/// Requests under way at each local endpoint before those of other zones take part, where the control plane does not say.
const SPILL_OVER_AT: f64 = 8.0;
/// Body that is kept for a retry where the policy does not say: Linkerd's.
pub(super) const MAX_REQUEST_BYTES: usize = 64 * 1024;

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
                    backends: backends!(self, http_route, said.backends, http_filters),
                    filters: http_filters(said.filters),
                    timeouts: timeouts(said.timeouts),
                    retry: said.retry.map(http_retry),
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
                    backends: backends!(self, grpc_route, said.backends, grpc_filters),
                    filters: grpc_filters(said.filters),
                    timeouts: timeouts(said.timeouts),
                    retry: said.retry.map(grpc_retry),
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

    fn backend(&self, said: api::Backend) -> Arc<Backend> {
        let object = common::object(said.metadata);
        let target = match said.kind {
            Some(api::backend::Kind::Forward(addr)) => match common::endpoint(addr, &HashMap::new()) {
                Some(endpoint) => BackendTarget::Forward(Arc::new(endpoint)),
                None => invalid("the policy names an endpoint without an address"),
            },
            Some(api::backend::Kind::Balancer(balancer)) => balance(balancer),
            None => invalid("the policy names a backend without an address"),
        };
        let queue = said.queue.unwrap_or_default();
        Arc::new(Backend {
            target,
            queue_capacity: usize::try_from(queue.capacity).ok().filter(|capacity| *capacity > 0),
            failfast_timeout: common::duration(queue.failfast_timeout),
            balancing: self.balancing(&object),
            object,
        })
    }

    fn balancing(&self, object: &ObjectRef) -> Balancing {
        let Some(said) = self.backends.get(object) else {
            return Balancing::default();
        };
        use v1::affinity::Key;
        let affinity = said.affinity.as_ref().and_then(|affinity| affinity.key.as_ref());
        Balancing {
            slow_start: common::duration(said.slow_start),
            affinity: affinity.and_then(|key| match key {
                Key::Header(name) => name.parse().ok().map(Affinity::Header),
                Key::Cookie(name) => Some(Affinity::Cookie(name.as_str().into())),
                Key::ClientIp(_) => Some(Affinity::ClientIp),
            }),
            max_ejected_percent: u8::try_from(said.max_ejected_percent)
                .ok()
                .filter(|share| (1..=100).contains(share)),
            locality: said
                .locality
                .as_ref()
                .filter(|locality| !locality.zone.is_empty())
                .map(|locality| Locality {
                    zone: locality.zone.as_str().into(),
                    spill_over_at: if locality.spill_over_at > 0.0 {
                        locality.spill_over_at
                    } else {
                        SPILL_OVER_AT
                    },
                }),
        }
    }

    /// Adds to a rule what the companion stream says of it.
    fn add(&self, route: &ObjectRef, index: usize, rule: &mut HttpRule) {
        let Some(extra) = self.rules.get(&(route.clone(), index)) else {
            return;
        };
        rule.filters.extend(extra.filters.iter().filter_map(extra_filter));
        for of_backend in &extra.backends {
            if let Some(backend) = rule.backends.get_mut(of_backend.backend as usize) {
                backend
                    .filters
                    .extend(of_backend.filters.iter().filter_map(extra_filter));
            }
        }
        rule.mirrors = extra.mirrors.iter().map(|mirror| self.mirror(mirror)).collect();
        rule.hedge = extra.hedge.as_ref().and_then(|hedge| {
            let delay = common::duration(hedge.delay)?;
            (hedge.max_attempts > 1).then_some(Hedge {
                delay,
                max_attempts: hedge.max_attempts,
            })
        });
        rule.classes = extra.classes.as_ref().map(|said| Arc::new(classes(said)));
        if let (Some(retry), Some(extra)) = (&mut rule.retry, &extra.retry) {
            let codes = extra.grpc_codes.iter().filter_map(|code| u16::try_from(*code).ok());
            retry.grpc_codes.extend(codes);
            if let Some(max) = common::duration(extra.max_hint) {
                let backoff = retry.backoff.get_or_insert(Backoff {
                    min: Duration::ZERO,
                    max,
                    jitter: 0.0,
                    honour_hint: true,
                });
                backoff.honour_hint = true;
                backoff.max = backoff.max.max(max);
            }
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

    fn mirror(&self, said: &v1::Mirror) -> Mirror {
        let object = reference(said.backend.as_ref());
        let target = BackendTarget::Balance {
            path: said.path.as_str().into(),
            load: LoadEstimate::default(),
        };
        Mirror {
            share: share(said.share),
            backend: Arc::new(Backend {
                balancing: self.balancing(&object),
                object,
                target,
                queue_capacity: None,
                failfast_timeout: None,
            }),
        }
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

fn invalid(why: &str) -> BackendTarget {
    BackendTarget::Invalid { why: why.into() }
}

fn balance(balancer: api::backend::BalanceP2c) -> BackendTarget {
    use api::backend::{balance_p2c::Load, endpoint_discovery};
    let Some(endpoint_discovery::Kind::Dst(discovery)) = balancer.discovery.and_then(|discovery| discovery.kind) else {
        return invalid("the policy names a service without a way to find its endpoints");
    };
    if discovery.path.is_empty() {
        return invalid("the policy names a service without a name");
    }
    let mut load = LoadEstimate::default();
    match balancer.load {
        Some(Load::PeakEwma(said)) => {
            load.default_rtt = common::duration(said.default_rtt).unwrap_or(load.default_rtt);
            load.decay = common::duration(said.decay).unwrap_or(load.decay);
        }
        Some(Load::PenaltyPeakEwma(said)) => {
            load.default_rtt = common::duration(said.default_rtt).unwrap_or(load.default_rtt);
            load.decay = common::duration(said.decay).unwrap_or(load.decay);
            load.penalty = common::duration(said.penalty).map(|penalty| Penalty {
                penalty,
                max_retry_after: common::duration(said.max_retry_after).unwrap_or_default(),
                decay: common::duration(said.penalty_decay).unwrap_or(load.decay),
            });
        }
        None => {}
    }
    BackendTarget::Balance {
        path: discovery.path.into(),
        load,
    }
}

fn http_policy(rules: Vec<Rule<HttpRule>>, accrual: Option<api::FailureAccrual>) -> HttpPolicy {
    HttpPolicy {
        routes: Arc::new(Routes::new(rules)),
        accrual: accrual.and_then(failure_accrual),
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
        let backend = Backend {
            object: ObjectRef::default_of("invalid"),
            target: BackendTarget::Invalid { why: why.into() },
            queue_capacity: None,
            failfast_timeout: None,
            balancing: Balancing::default(),
        };
        rule.backends = Backends::First(vec![RouteBackend {
            backend: Arc::new(backend),
            filters: Vec::new(),
        }]);
    }
}

fn timeouts(said: Option<http_route::Timeouts>) -> Timeouts {
    let said = said.unwrap_or_default();
    Timeouts {
        request: common::duration(said.request),
        response: common::duration(said.response),
        idle: common::duration(said.idle),
    }
}

fn http_retry(said: api::http_route::Retry) -> Retry {
    let ranges = said.conditions.unwrap_or_default().status_ranges;
    let status = |status: u32| u16::try_from(status).unwrap_or(u16::MAX);
    Retry {
        limit: said.max_retries,
        max_request_bytes: request_bytes(said.max_request_bytes),
        statuses: ranges
            .into_iter()
            .map(|range| (status(range.start), status(range.end)))
            .collect(),
        grpc_codes: Vec::new(),
        timeout: common::duration(said.timeout),
        backoff: said.backoff.and_then(backoff),
    }
}

fn grpc_retry(said: api::grpc_route::Retry) -> Retry {
    let conditions = said.conditions.unwrap_or_default();
    let codes = [
        (conditions.cancelled, 1),
        (conditions.deadine_exceeded, 4),
        (conditions.resource_exhausted, 8),
        (conditions.internal, 13),
        (conditions.unavailable, 14),
    ];
    Retry {
        limit: said.max_retries,
        max_request_bytes: request_bytes(said.max_request_bytes),
        statuses: Vec::new(),
        grpc_codes: codes
            .into_iter()
            .filter(|(set, _)| *set)
            .map(|(_, code)| code)
            .collect(),
        timeout: common::duration(said.timeout),
        backoff: said.backoff.and_then(backoff),
    }
}

fn request_bytes(said: u32) -> usize {
    usize::try_from(said)
        .ok()
        .filter(|bytes| *bytes > 0)
        .unwrap_or(MAX_REQUEST_BYTES)
}

fn backoff(said: api::ExponentialBackoff) -> Option<Backoff> {
    let min = common::duration(said.min_backoff)?;
    Some(Backoff {
        min,
        max: common::duration(said.max_backoff).unwrap_or(min).max(min),
        jitter: f64::from(said.jitter_ratio).clamp(0.0, 100.0),
        honour_hint: said.respect_retry_after_hint,
    })
}

fn failure_accrual(said: api::FailureAccrual) -> Option<FailureAccrual> {
    use api::failure_accrual::Kind;
    let min_ready = said
        .ejection
        .and_then(|ejection| usize::try_from(ejection.min_ready_endpoints).ok());
    let consecutive = |failures: u32| (failures > 0).then_some(failures);
    let (max_consecutive, success_rate, said_backoff) = match said.kind? {
        Kind::ConsecutiveFailures(said) => (consecutive(said.max_failures), None, said.backoff),
        Kind::Unified(said) => {
            let rate = (said.success_rate_threshold > 0.0).then(|| SuccessRate {
                threshold: said.success_rate_threshold.min(1.0),
                window: common::duration(said.decay).unwrap_or(Duration::from_secs(10)),
                min_requests: said.min_requests,
            });
            (consecutive(said.max_consecutive_failures), rate, said.backoff)
        }
    };
    if max_consecutive.is_none() && success_rate.is_none() {
        return None;
    }
    Some(FailureAccrual {
        max_consecutive,
        success_rate,
        backoff: said_backoff.and_then(backoff).unwrap_or(Backoff {
            min: Duration::from_secs(1),
            max: Duration::from_secs(60),
            jitter: 0.5,
            honour_hint: false,
        }),
        min_ready: min_ready.unwrap_or(0),
    })
}

pub(super) fn budget(said: v1::RetryBudget) -> RetryBudget {
    RetryBudget {
        ratio: if said.ratio.is_finite() {
            said.ratio.clamp(0.0, 1_000.0)
        } else {
            0.0
        },
        min_per_second: said.min_per_second,
        ttl: common::duration(said.ttl).unwrap_or(RetryBudget::default().ttl),
    }
}

pub(super) fn http_filters(said: Vec<api::http_route::Filter>) -> Vec<Filter> {
    use api::http_route::filter::Kind;
    let filter = |filter: api::http_route::Filter| {
        Some(match filter.kind? {
            Kind::FailureInjector(injector) => http_abort(injector),
            Kind::RequestHeaderModifier(said) => request_headers(said),
            Kind::Redirect(said) => redirect(said),
            Kind::ResponseHeaderModifier(said) => Filter::ResponseHeaders(modifier(said.add, said.set, said.remove)),
        })
    };
    said.into_iter().filter_map(filter).collect()
}

fn grpc_filters(said: Vec<api::grpc_route::Filter>) -> Vec<Filter> {
    use api::grpc_route::filter::Kind;
    let filter = |filter: api::grpc_route::Filter| {
        Some(match filter.kind? {
            Kind::FailureInjector(injector) => grpc_abort(injector),
            Kind::RequestHeaderModifier(said) => request_headers(said),
        })
    };
    said.into_iter().filter_map(filter).collect()
}

pub(super) fn request_headers(said: http_route::RequestHeaderModifier) -> Filter {
    Filter::RequestHeaders(modifier(said.add, said.set, said.remove))
}

fn modifier(add: Option<http_types::Headers>, set: Option<http_types::Headers>, remove: Vec<String>) -> HeaderModifier {
    let map = |headers: Option<http_types::Headers>| {
        let fields = headers.unwrap_or_default().headers.into_iter();
        collect(fields.map(|header| (header.name, header.value)))
    };
    HeaderModifier {
        add: map(add),
        set: map(set),
        remove: remove.iter().filter_map(|name| name.parse().ok()).collect(),
    }
}

/// Fields that are none in HTTP are left out.
fn collect(fields: impl Iterator<Item = (String, Vec<u8>)>) -> HeaderMap {
    let mut map = HeaderMap::new();
    for (name, value) in fields {
        if let (Ok(name), Ok(value)) = (name.parse::<HeaderName>(), HeaderValue::from_bytes(&value)) {
            map.append(name, value);
        }
    }
    map
}

pub(super) fn redirect(said: http_route::RequestRedirect) -> Filter {
    use http_types::scheme::{Registered, Type};
    let scheme = said
        .scheme
        .and_then(|scheme| scheme.r#type)
        .and_then(|scheme| match scheme {
            Type::Registered(number) => match Registered::try_from(number) {
                Ok(Registered::Http) => Some(Scheme::HTTP),
                Ok(Registered::Https) => Some(Scheme::HTTPS),
                Err(_) => None,
            },
            Type::Unregistered(name) => name.parse().ok(),
        });
    let status = u16::try_from(said.status)
        .ok()
        .and_then(|status| StatusCode::from_u16(status).ok());
    Filter::Redirect(Redirect {
        scheme,
        host: (!said.host.is_empty()).then(|| said.host.into()),
        port: common::port(said.port),
        path: said.path.and_then(|path| path.replace).map(|path| match path {
            http_route::path_modifier::Replace::Full(path) => PathModifier::Full(path.into()),
            http_route::path_modifier::Replace::Prefix(path) => PathModifier::Prefix(path.into()),
        }),
        status: status
            .filter(StatusCode::is_redirection)
            .unwrap_or(StatusCode::MOVED_PERMANENTLY),
    })
}

pub(super) fn http_abort(said: http_route::HttpFailureInjector) -> Filter {
    let status = u16::try_from(said.status)
        .ok()
        .and_then(|status| StatusCode::from_u16(status).ok());
    Filter::Abort(Abort {
        answer: AbortAnswer::Http(status.unwrap_or(StatusCode::INTERNAL_SERVER_ERROR)),
        message: said.message.into(),
        share: ratio(said.ratio),
    })
}

pub(super) fn grpc_abort(said: grpc_route::GrpcFailureInjector) -> Filter {
    Filter::Abort(Abort {
        answer: AbortAnswer::Grpc(u16::try_from(said.code).unwrap_or(2)),
        message: said.message.into(),
        share: ratio(said.ratio),
    })
}

fn ratio(said: Option<http_route::Ratio>) -> Share {
    said.map_or(Share::ALL, |ratio| Share {
        numerator: ratio.numerator,
        denominator: ratio.denominator.max(1),
    })
}

fn share(said: Option<v1::Share>) -> Share {
    said.map_or(Share::ALL, |share| Share {
        numerator: share.numerator,
        denominator: share.denominator.max(1),
    })
}

pub(super) fn extra_filter(said: &v1::FilterExtra) -> Option<Filter> {
    use v1::filter_extra::Kind;
    Some(match said.kind.as_ref()? {
        Kind::Rewrite(said) => Filter::Rewrite(Rewrite {
            host: (!said.host.is_empty()).then(|| said.host.as_str().into()),
            path: said.path.as_ref().map(|path| match path {
                v1::rewrite::Path::Full(path) => PathModifier::Full(path.as_str().into()),
                v1::rewrite::Path::Prefix(path) => PathModifier::Prefix(path.as_str().into()),
            }),
        }),
        Kind::Delay(said) => Filter::Delay(Delay {
            delay: common::duration(said.delay)?,
            share: share(said.share),
        }),
        Kind::Abort(said) => {
            use v1::abort::Answer;
            let status = |status: u32| {
                u16::try_from(status)
                    .ok()
                    .and_then(|status| StatusCode::from_u16(status).ok())
            };
            Filter::Abort(Abort {
                answer: match said.answer? {
                    Answer::HttpStatus(said) => {
                        AbortAnswer::Http(status(said).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR))
                    }
                    Answer::GrpcCode(code) => AbortAnswer::Grpc(u16::try_from(code).unwrap_or(2)),
                },
                message: said.message.as_str().into(),
                share: share(said.share),
            })
        }
        Kind::ResponseHeaders(said) => {
            let fields = |fields: &[v1::HeaderField]| {
                let fields = fields.iter().map(|field| (field.name.clone(), field.value.clone()));
                collect(fields)
            };
            Filter::ResponseHeaders(HeaderModifier {
                add: fields(&said.add),
                set: fields(&said.set),
                remove: said.remove.iter().filter_map(|name| name.parse().ok()).collect(),
            })
        }
    })
}
