//! What types alone cannot hold of routes and what stands beside them.

use std::collections::HashSet;

use super::Checker;
use crate::objects::{
    BackendRef, EgressNetwork, FilterType, GrpcRoute, HeaderModifier, HttpBackendRef, HttpFault, HttpRoute,
    HttpRouteMatch, HttpRouteRule, MatchType, ParentRef, PathMatchType, PathModifier, PathModifierType, ReferenceGrant,
    RequestCondition, RequestMirror, RequestRedirect, RouteFilter, ServiceProfile, StreamRouteRule, TlsRoute,
    ValueMatch, parse_ports,
};

/// Largest weight of a backend (Gateway API).
const MAX_WEIGHT: u32 = 1_000_000;
/// Statuses of a redirect (Gateway API).
const REDIRECTS: [u16; 5] = [301, 302, 303, 307, 308];

impl Checker {
    pub(super) fn http_route(&mut self, route: &HttpRoute) {
        self.parents(&route.spec.parent_refs);
        self.hostnames(&route.spec.hostnames);
        if route.spec.rules.is_empty() {
            self.error("rules", "empty: leave the field out for one rule that takes everything");
        }
        self.each("rules", &route.spec.rules, Self::http_rule);
    }

    fn http_rule(&mut self, rule: &HttpRouteRule) {
        self.each("matches", &rule.matches, Self::http_match);
        self.filters(&rule.filters, FilterType::is_http);
        if let Some(message) = prefix_without_prefix(rule) {
            self.error("filters", message);
        }
        self.http_backends(&rule.backend_refs, FilterType::is_http);
        let redirects = rule
            .filters
            .iter()
            .any(|filter| filter.kind == FilterType::RequestRedirect);
        if redirects && !rule.backend_refs.is_empty() {
            self.error("backendRefs", "a rule that redirects has no backends");
        }
        if let Some(timeouts) = &rule.timeouts {
            let bound = |interval: Option<crate::objects::Interval>| interval.and_then(crate::objects::Interval::bound);
            if let (Some(request), Some(one)) = (bound(timeouts.request), bound(timeouts.backend_request))
                && one > request
            {
                self.within("timeouts", |c| {
                    c.error(
                        "backendRequest",
                        "longer than request: one attempt cannot take longer than all of them",
                    );
                });
            }
        }
        if let Some(retry) = &rule.retry {
            self.within("retry", |c| {
                c.each("codes", &retry.codes, |c, code| {
                    if !(400..=599).contains(code) {
                        c.error("", format!("{code} is not a status from 400 to 599"));
                    }
                });
                if retry.attempts == Some(0) {
                    c.warning("attempts", "0: nothing is sent again");
                }
            });
        }
        if let Some(session) = &rule.session_persistence {
            self.session(session.session_name.as_deref());
        }
    }

    fn session(&mut self, name: Option<&str>) {
        self.within("sessionPersistence", |c| match name {
            None | Some("") => c.warning(
                "sessionName",
                "missing: the mesh sets no cookie of its own, so requests go to any endpoint; name what the application sets",
            ),
            Some(name) if http::HeaderName::from_bytes(name.as_bytes()).is_err() => {
                c.error("sessionName", format!("{name:?} cannot be the name of a cookie or header"));
            }
            Some(_) => {}
        });
    }

    fn http_match(&mut self, found: &HttpRouteMatch) {
        if let Some(path) = &found.path {
            self.within("path", |c| match path.kind {
                PathMatchType::RegularExpression => c.regex("value", &path.value),
                PathMatchType::Exact | PathMatchType::PathPrefix if !path.value.starts_with('/') => {
                    c.error(
                        "value",
                        format!("{:?} does not begin with a slash: it would match nothing", path.value),
                    );
                }
                _ => {}
            });
        }
        if let Some(method) = &found.method
            && http::Method::from_bytes(method.as_bytes()).is_err()
        {
            self.error("method", format!("{method:?} is no method"));
        }
        self.each("headers", &found.headers, Self::header_match);
        let mut names = HashSet::new();
        self.each("queryParams", &found.query_params, |c, parameter| {
            if !names.insert(parameter.name.clone()) {
                c.error("name", format!("{:?} twice in one match", parameter.name));
            }
            if parameter.kind == MatchType::RegularExpression {
                c.regex("value", &parameter.value);
            }
        });
    }

    fn header_match(&mut self, header: &ValueMatch) {
        self.header_name("name", &header.name);
        if header.kind == MatchType::RegularExpression {
            self.regex("value", &header.value);
        }
    }

    fn header_name(&mut self, key: &str, name: &str) {
        if http::HeaderName::from_bytes(name.as_bytes()).is_err() {
            self.error(key, format!("{name:?} cannot be the name of a header field"));
        }
    }

    fn regex(&mut self, key: &str, pattern: &str) {
        if let Err(message) = sheer_policy::wire::check_regex(pattern) {
            // Between its first and last line the library draws the place.
            let why = message.lines().last().unwrap_or_default();
            let why = why.strip_prefix("error: ").unwrap_or(why);
            self.error(key, format!("{pattern:?} is no regular expression: {why}"));
        }
    }

    pub(super) fn grpc_route(&mut self, route: &GrpcRoute) {
        self.parents(&route.spec.parent_refs);
        self.hostnames(&route.spec.hostnames);
        self.each("rules", &route.spec.rules, |c, rule| {
            c.each("matches", &rule.matches, |c, found| {
                if let Some(method) = &found.method {
                    c.within("method", |c| {
                        if method.service.is_none() && method.method.is_none() {
                            c.error("", "names neither a service nor a method");
                        }
                        for (key, name) in [("service", &method.service), ("method", &method.method)] {
                            let Some(name) = name else { continue };
                            match method.kind {
                                MatchType::RegularExpression => c.regex(key, name),
                                MatchType::Exact if name.is_empty() || name.contains('/') => {
                                    c.error(key, format!("{name:?} cannot be the name of a {key}"));
                                }
                                MatchType::Exact => {}
                            }
                        }
                    });
                }
                c.each("headers", &found.headers, Self::header_match);
            });
            c.filters(&rule.filters, FilterType::is_grpc);
            c.http_backends(&rule.backend_refs, FilterType::is_grpc);
            if let Some(session) = &rule.session_persistence {
                c.session(session.session_name.as_deref());
            }
        });
    }

    pub(super) fn tls_route(&mut self, route: &TlsRoute) {
        self.hostnames(&route.spec.hostnames);
        self.stream_rules(&route.spec.parent_refs, &route.spec.rules);
    }

    pub(super) fn stream_rules(&mut self, parents: &[ParentRef], rules: &[StreamRouteRule]) {
        self.parents(parents);
        if rules.is_empty() {
            self.error("rules", "empty: at least one rule must say where connections go");
        }
        if rules.len() > 1 {
            self.warning(
                "rules",
                "more than one: the first takes every connection, the others none",
            );
        }
        self.each("rules", rules, |c, rule| {
            c.each("backendRefs", &rule.backend_refs, Self::backend);
        });
    }

    fn parents(&mut self, parents: &[ParentRef]) {
        let mut seen = HashSet::new();
        self.each("parentRefs", parents, |c, parent| {
            if parent.port == Some(0) {
                c.error("port", "0 is not a port");
            }
            if !seen.insert(parent.clone()) {
                c.error("", "the same parent twice");
            }
        });
    }

    fn hostnames(&mut self, names: &[String]) {
        self.each("hostnames", names, |c, name| {
            let plain = name.strip_prefix("*.").unwrap_or(name);
            if super::check_name(plain).is_err() {
                c.error(
                    "",
                    format!("{name:?} is neither a host name nor *.DOMAIN (lower-case, no port)"),
                );
            }
        });
    }

    fn http_backends(&mut self, backends: &[HttpBackendRef], allowed: fn(FilterType) -> bool) {
        self.each("backendRefs", backends, |c, backend| {
            c.backend(&backend.plain());
            c.filters(&backend.filters, allowed);
        });
    }

    fn backend(&mut self, backend: &BackendRef) {
        let is_service = matches!(backend.group.as_str(), "" | "core") && backend.kind == "Service";
        if is_service && backend.port.is_none() {
            self.error("port", "missing: a Service as backend needs one");
        }
        if backend.port == Some(0) {
            self.error("port", "0 is not a port");
        }
        if backend.weight.is_some_and(|weight| weight > MAX_WEIGHT) {
            self.error("weight", format!("more than {MAX_WEIGHT}"));
        }
    }

    fn filters(&mut self, filters: &[RouteFilter], allowed: fn(FilterType) -> bool) {
        let mut kinds = Vec::new();
        self.each("filters", filters, |c, filter| {
            if !allowed(filter.kind) {
                c.error("type", "not a filter of this kind of route");
            }
            let repeats = matches!(filter.kind, FilterType::RequestMirror | FilterType::ExtensionRef);
            if kinds.contains(&filter.kind) && !repeats {
                c.error("type", "twice in one rule: only one can hold");
            }
            kinds.push(filter.kind);
            c.filter(filter);
        });
        if kinds.contains(&FilterType::RequestRedirect) && kinds.contains(&FilterType::UrlRewrite) {
            self.error(
                "filters",
                "RequestRedirect and URLRewrite exclude each other: a redirected request is not sent",
            );
        }
    }

    fn filter(&mut self, filter: &RouteFilter) {
        let given = [
            (
                FilterType::RequestHeaderModifier,
                "requestHeaderModifier",
                filter.request_header_modifier.is_some(),
            ),
            (
                FilterType::ResponseHeaderModifier,
                "responseHeaderModifier",
                filter.response_header_modifier.is_some(),
            ),
            (
                FilterType::RequestRedirect,
                "requestRedirect",
                filter.request_redirect.is_some(),
            ),
            (FilterType::UrlRewrite, "urlRewrite", filter.url_rewrite.is_some()),
            (
                FilterType::RequestMirror,
                "requestMirror",
                filter.request_mirror.is_some(),
            ),
            (FilterType::ExtensionRef, "extensionRef", filter.extension_ref.is_some()),
        ];
        for (kind, key, is_there) in given {
            if is_there != (kind == filter.kind) {
                let message = if is_there {
                    "not what type names: only one can hold"
                } else {
                    "missing: type names it"
                };
                self.error(key, message);
            }
        }
        for (key, modifier) in [
            ("requestHeaderModifier", &filter.request_header_modifier),
            ("responseHeaderModifier", &filter.response_header_modifier),
        ] {
            if let Some(modifier) = modifier {
                self.within(key, |c| c.modifier(modifier));
            }
        }
        if let Some(redirect) = &filter.request_redirect {
            self.within("requestRedirect", |c| c.redirect(redirect));
        }
        if let Some(rewrite) = &filter.url_rewrite {
            self.within("urlRewrite", |c| c.path_modifier(rewrite.path.as_ref()));
        }
        if let Some(mirror) = &filter.request_mirror {
            self.within("requestMirror", |c| c.mirror(mirror));
        }
    }

    fn modifier(&mut self, modifier: &HeaderModifier) {
        for (key, fields) in [("set", &modifier.set), ("add", &modifier.add)] {
            self.each(key, fields, |c, field| {
                c.header_name("name", &field.name);
                if http::HeaderValue::from_str(&field.value).is_err() {
                    c.error(
                        "value",
                        format!("{:?} cannot be the value of a header field", field.value),
                    );
                }
            });
        }
        self.each("remove", &modifier.remove, |c, name| c.header_name("", name));
    }

    fn redirect(&mut self, redirect: &RequestRedirect) {
        if let Some(scheme) = redirect
            .scheme
            .as_deref()
            .filter(|scheme| !matches!(*scheme, "http" | "https"))
        {
            self.error("scheme", format!("{scheme:?} is neither http nor https"));
        }
        if let Some(status) = redirect.status_code.filter(|status| !REDIRECTS.contains(status)) {
            self.error("statusCode", format!("{status} is not one of 301, 302, 303, 307, 308"));
        }
        self.path_modifier(redirect.path.as_ref());
    }

    fn path_modifier(&mut self, path: Option<&PathModifier>) {
        let Some(path) = path else { return };
        let (key, value) = match path.kind {
            PathModifierType::ReplaceFullPath => ("replaceFullPath", &path.replace_full_path),
            PathModifierType::ReplacePrefixMatch => ("replacePrefixMatch", &path.replace_prefix_match),
        };
        self.within("path", |c| {
            if value.is_none() {
                c.error(key, "missing: type names it");
            }
        });
    }

    fn mirror(&mut self, mirror: &RequestMirror) {
        self.within("backendRef", |c| c.backend(&mirror.backend_ref));
        if mirror.percent.is_some_and(|percent| percent > 100) {
            self.error("percent", "more than 100");
        }
        if mirror.percent.is_some() && mirror.fraction.is_some() {
            self.error("fraction", "percent is given too: only one of them can hold");
        }
        if let Some(fraction) = mirror.fraction
            && (fraction.denominator == 0 || fraction.numerator > fraction.denominator)
        {
            self.error("fraction", "must be a share from 0 to 1");
        }
    }

    pub(super) fn grant(&mut self, grant: &ReferenceGrant) {
        for (key, empty) in [("from", grant.spec.from.is_empty()), ("to", grant.spec.to.is_empty())] {
            if empty {
                self.error(key, "empty: it would grant nothing");
            }
        }
        self.each("to", &grant.spec.to, |c, to| {
            if !matches!(to.group.as_str(), "" | "core") || to.kind != "Service" {
                c.warning(
                    "kind",
                    "only references to Services of group \"\" are looked at: this grants nothing",
                );
            }
        });
    }

    pub(super) fn egress(&mut self, network: &EgressNetwork) {
        if network.spec.networks.as_ref().is_some_and(Vec::is_empty) {
            self.error(
                "networks",
                "empty: it would mean no address; leave the field out for everything outside the cluster",
            );
        }
    }

    pub(super) fn fault(&mut self, fault: &HttpFault) {
        if fault.spec.delay.is_none() && fault.spec.abort.is_none() {
            self.error("", "neither delay nor abort: it would do nothing");
        }
        if let Some(delay) = &fault.spec.delay {
            self.within("delay", |c| c.percent(delay.percent));
        }
        if let Some(abort) = &fault.spec.abort {
            self.within("abort", |c| {
                c.percent(abort.percent);
                if abort.http_status.is_some() == abort.grpc_code.is_some() {
                    c.error("", "exactly one of httpStatus and grpcCode must be given");
                }
                if abort.http_status.is_some_and(|status| !(200..=599).contains(&status)) {
                    c.error("httpStatus", "not a status from 200 to 599");
                }
                if abort.grpc_code.is_some_and(|code| !(1..=16).contains(&code)) {
                    c.error("grpcCode", "not a code of gRPC (1-16)");
                }
            });
        }
    }

    fn percent(&mut self, percent: Option<f64>) {
        if percent.is_some_and(|percent| !(0.0..=100.0).contains(&percent)) {
            self.error("percent", "not a share from 0 to 100");
        }
    }

    pub(super) fn profile(&mut self, profile: &ServiceProfile) {
        let mut labels = profile.metadata.name.splitn(4, '.').skip(2);
        if labels.next() != Some("svc") || labels.next().is_none() {
            self.within("metadata", |c| {
                c.warning(
                    "name",
                    "not of the form NAME.NAMESPACE.svc.DOMAIN: the profile is of no service and has no effect",
                );
            });
        }
        self.within("spec", |c| {
            c.each("routes", &profile.spec.routes, |c, route| {
                c.within("condition", |c| c.condition(&route.condition));
            });
            if let Some(budget) = &profile.spec.retry_budget
                && (!budget.retry_ratio.is_finite() || budget.retry_ratio < 0.0)
            {
                c.within("retryBudget", |c| c.error("retryRatio", "must not be negative"));
            }
            c.each("opaquePorts", &profile.spec.opaque_ports, |c, port| {
                if let Err(message) = parse_ports(port) {
                    c.error("", message);
                }
            });
        });
    }

    fn condition(&mut self, condition: &RequestCondition) {
        if let Some(pattern) = &condition.path_regex {
            self.regex("pathRegex", pattern);
        }
        if let Some(method) = &condition.method
            && http::Method::from_bytes(method.as_bytes()).is_err()
        {
            self.error("method", format!("{method:?} is no method"));
        }
        for (key, conditions) in [("all", &condition.all), ("any", &condition.any)] {
            if let Some(conditions) = conditions {
                self.each(key, conditions, Self::condition);
            }
        }
        if let Some(not) = &condition.not {
            self.within("not", |c| c.condition(not));
        }
        if *condition == RequestCondition::default() {
            self.error(
                "",
                "empty: it says nothing of the request; for every request write pathRegex: \".*\"",
            );
        }
    }
}

impl FilterType {
    fn is_http(self) -> bool {
        // Those that Sheer does not have are told of by the route's status.
        true
    }

    fn is_grpc(self) -> bool {
        !matches!(
            self,
            Self::RequestRedirect | Self::UrlRewrite | Self::Cors | Self::ExternalAuth
        )
    }
}

/// A prefix can only be replaced where every match has one (Gateway API).
fn prefix_without_prefix(rule: &HttpRouteRule) -> Option<&'static str> {
    let replaces = |path: &Option<PathModifier>| {
        path.as_ref()
            .is_some_and(|path| path.kind == PathModifierType::ReplacePrefixMatch)
    };
    let replaces = rule.filters.iter().any(|filter| {
        filter
            .request_redirect
            .as_ref()
            .is_some_and(|redirect| replaces(&redirect.path))
            || filter
                .url_rewrite
                .as_ref()
                .is_some_and(|rewrite| replaces(&rewrite.path))
    });
    let is_prefix = |found: &HttpRouteMatch| {
        found
            .path
            .as_ref()
            .is_none_or(|path| path.kind == PathMatchType::PathPrefix)
    };
    (replaces && !rule.matches.iter().all(is_prefix))
        .then_some("replacePrefixMatch needs matches of type PathPrefix: there is no prefix to replace")
}
