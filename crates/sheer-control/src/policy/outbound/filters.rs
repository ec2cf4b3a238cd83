//! Filters of rules and backends: what Linkerd's policy can say of them, and what goes into the extras.

use sheer_api::{
    linkerd::{
        grpc_route::GrpcFailureInjector,
        http_route::{
            HttpFailureInjector, PathModifier, Ratio, RequestHeaderModifier, RequestRedirect, ResponseHeaderModifier,
            path_modifier,
        },
        http_types::{Headers, Scheme, headers, scheme},
        outbound::{grpc_route, http_route},
    },
    v1,
};

use super::{Compiler, settings};
use crate::{
    objects::{self, FaultAbort, FilterType, Header, HeaderModifier, PathModifierType, RouteFilter},
    routes::{Fault, Route, RouteIndex, fault_of, unsupported},
};

/// Of a fault's share, a million is the whole.
const WHOLE: u32 = 1_000_000;

/// What the filters of a rule, or of a backend, do.
#[derive(Default)]
pub(in crate::policy) struct Actions {
    policy: Vec<PolicyFilter>,
    extras: Vec<v1::FilterExtra>,
    /// Who gets copies.
    pub(super) mirrors: Vec<v1::Mirror>,
    /// Why nothing may pass.
    pub(in crate::policy) dead: Option<String>,
}

/// What Linkerd's policies can say in at least one kind of route.
pub(in crate::policy) enum PolicyFilter {
    RequestHeaders(RequestHeaderModifier),
    ResponseHeaders(ResponseHeaderModifier),
    Redirect(RequestRedirect),
    Abort(FaultAbort),
}

impl Compiler<'_> {
    /// What some filters of a route do.
    pub(super) fn actions(&mut self, route: &Route, filters: &[RouteFilter], of_backend: bool) -> Actions {
        let routes = self.routes();
        let mut actions = Actions::read(routes, route, filters, of_backend);
        let mirrors = filters.iter().filter(|filter| filter.kind == FilterType::RequestMirror);
        for mirror in mirrors.filter_map(|filter| filter.request_mirror.as_ref()) {
            if let Some((backend, path)) = self.mirror_target(route, &mirror.backend_ref) {
                actions.mirrors.push(v1::Mirror {
                    backend: Some(backend),
                    path,
                    share: mirror_share(mirror),
                });
            }
        }
        actions
    }
}

impl Actions {
    /// What filters do, but for mirrors.
    pub(in crate::policy) fn read(
        routes: &RouteIndex,
        route: &Route,
        filters: &[RouteFilter],
        of_backend: bool,
    ) -> Self {
        let mut actions = Self {
            dead: unsupported(filters, of_backend),
            ..Self::default()
        };
        for filter in filters {
            actions.add(routes, route, filter);
        }
        actions
    }

    fn add(&mut self, routes: &RouteIndex, route: &Route, filter: &RouteFilter) {
        match filter.kind {
            FilterType::RequestHeaderModifier => {
                let said = filter.request_header_modifier.iter();
                self.policy
                    .extend(said.map(|said| PolicyFilter::RequestHeaders(request_headers(said))));
            }
            FilterType::ResponseHeaderModifier => {
                let said = filter.response_header_modifier.iter();
                self.policy
                    .extend(said.map(|said| PolicyFilter::ResponseHeaders(response_headers(said))));
            }
            FilterType::RequestRedirect => {
                let said = filter.request_redirect.iter();
                self.policy
                    .extend(said.map(|said| PolicyFilter::Redirect(redirect(said))));
            }
            FilterType::UrlRewrite => {
                let said = filter.url_rewrite.iter();
                let extra = said.map(|said| v1::filter_extra::Kind::Rewrite(rewrite(said)));
                self.extras.extend(extra.map(extra_filter));
            }
            FilterType::ExtensionRef => {
                let Some(reference) = &filter.extension_ref else { return };
                match fault_of(routes, &route.metadata().namespace, reference) {
                    Ok(fault) => self.fault(fault),
                    Err(bad) => {
                        self.dead.get_or_insert(bad.message);
                    }
                }
            }
            FilterType::RequestMirror | FilterType::Cors | FilterType::ExternalAuth => {}
        }
    }

    /// An abort alone can stand in the policy. After a delay it cannot: the policy's filters come first.
    fn fault(&mut self, fault: Fault) {
        let delayed = fault.delay.is_some();
        if let Some(delay) = fault.delay {
            self.extras.push(extra_filter(v1::filter_extra::Kind::Delay(v1::Delay {
                delay: settings::duration(delay.duration.0),
                share: share(delay.percent),
            })));
        }
        match fault.abort {
            Some(abort) if delayed => self.extras.push(abort_extra(&abort)),
            Some(abort) => self.policy.push(PolicyFilter::Abort(abort)),
            None => {}
        }
    }

    /// What the policy says of it, in the words of one kind of route, and the extras: what `say` has no words for, and the rest.
    pub(in crate::policy) fn split<F>(
        self,
        say: impl Fn(&PolicyFilter) -> Option<F>,
    ) -> (Vec<F>, Vec<v1::FilterExtra>) {
        let (mut filters, mut extras) = (Vec::new(), Vec::new());
        for filter in self.policy {
            match say(&filter) {
                Some(said) => filters.push(said),
                None => extras.extend(filter.extra()),
            }
        }
        extras.extend(self.extras);
        (filters, extras)
    }

    /// Filters of an HTTPRoute.
    pub(super) fn http(self) -> (Vec<http_route::Filter>, Vec<v1::FilterExtra>) {
        use http_route::filter::Kind;
        self.split(|filter| {
            let kind = match filter {
                PolicyFilter::RequestHeaders(said) => Kind::RequestHeaderModifier(said.clone()),
                PolicyFilter::ResponseHeaders(said) => Kind::ResponseHeaderModifier(said.clone()),
                PolicyFilter::Redirect(said) => Kind::Redirect(said.clone()),
                PolicyFilter::Abort(abort) => Kind::FailureInjector(http_injector(abort)?),
            };
            Some(http_route::Filter { kind: Some(kind) })
        })
    }

    /// Filters of a GRPCRoute.
    pub(super) fn grpc(self) -> (Vec<grpc_route::Filter>, Vec<v1::FilterExtra>) {
        use grpc_route::filter::Kind;
        self.split(|filter| {
            let kind = match filter {
                PolicyFilter::RequestHeaders(said) => Kind::RequestHeaderModifier(said.clone()),
                PolicyFilter::ResponseHeaders(_) | PolicyFilter::Redirect(_) => return None,
                PolicyFilter::Abort(abort) => Kind::FailureInjector(grpc_injector(abort)?),
            };
            Some(grpc_route::Filter { kind: Some(kind) })
        })
    }
}

impl PolicyFilter {
    /// The same in the words of the extras. Request headers can be said everywhere, and manifests with a redirect of gRPC are refused.
    fn extra(self) -> Option<v1::FilterExtra> {
        match self {
            Self::ResponseHeaders(said) => {
                let fields = |fields: Option<Headers>| {
                    let fields = fields.unwrap_or_default().headers.into_iter();
                    fields.map(|field| v1::HeaderField {
                        name: field.name,
                        value: field.value,
                    })
                };
                let modifier = v1::HeaderModifier {
                    add: fields(said.add).collect(),
                    set: fields(said.set).collect(),
                    remove: said.remove,
                };
                Some(extra_filter(v1::filter_extra::Kind::ResponseHeaders(modifier)))
            }
            Self::Abort(abort) => Some(abort_extra(&abort)),
            Self::RequestHeaders(_) | Self::Redirect(_) => None,
        }
    }
}

/// An abort in the words of HTTP, where it says a status.
pub(in crate::policy) fn http_injector(abort: &FaultAbort) -> Option<HttpFailureInjector> {
    Some(HttpFailureInjector {
        status: abort.http_status?.into(),
        message: message(abort),
        ratio: ratio(abort.percent),
    })
}

/// An abort in the words of gRPC, where it says a code.
pub(in crate::policy) fn grpc_injector(abort: &FaultAbort) -> Option<GrpcFailureInjector> {
    Some(GrpcFailureInjector {
        code: abort.grpc_code?.into(),
        message: message(abort),
        ratio: ratio(abort.percent),
    })
}

/// Answers everything with 500.
pub(super) fn http_failure(status: u32, message: String) -> http_route::Filter {
    http_route::Filter {
        kind: Some(http_route::filter::Kind::FailureInjector(HttpFailureInjector {
            status,
            message,
            ratio: None,
        })),
    }
}

/// Answers everything with a code of gRPC.
pub(super) fn grpc_failure(code: u32, message: String) -> grpc_route::Filter {
    grpc_route::Filter {
        kind: Some(grpc_route::filter::Kind::FailureInjector(GrpcFailureInjector {
            code,
            message,
            ratio: None,
        })),
    }
}

fn extra_filter(kind: v1::filter_extra::Kind) -> v1::FilterExtra {
    v1::FilterExtra { kind: Some(kind) }
}

fn fields(fields: &[Header]) -> Option<Headers> {
    let field = |field: &Header| headers::Header {
        name: field.name.clone(),
        value: field.value.clone().into_bytes(),
    };
    (!fields.is_empty()).then(|| Headers {
        headers: fields.iter().map(field).collect(),
    })
}

fn request_headers(said: &HeaderModifier) -> RequestHeaderModifier {
    RequestHeaderModifier {
        add: fields(&said.add),
        set: fields(&said.set),
        remove: said.remove.clone(),
    }
}

fn response_headers(said: &HeaderModifier) -> ResponseHeaderModifier {
    ResponseHeaderModifier {
        add: fields(&said.add),
        set: fields(&said.set),
        remove: said.remove.clone(),
    }
}

/// A path of a redirect or rewrite: whole, or in place of the matched prefix.
enum NewPath {
    Full(String),
    Prefix(String),
}

fn new_path(path: &objects::PathModifier) -> Option<NewPath> {
    match path.kind {
        PathModifierType::ReplaceFullPath => path.replace_full_path.clone().map(NewPath::Full),
        PathModifierType::ReplacePrefixMatch => path.replace_prefix_match.clone().map(NewPath::Prefix),
    }
}

fn redirect(said: &objects::RequestRedirect) -> RequestRedirect {
    let scheme = said.scheme.as_deref().map(|name| match name {
        "https" => scheme::Registered::Https,
        _ => scheme::Registered::Http,
    });
    let path = said.path.as_ref().and_then(new_path).map(|path| match path {
        NewPath::Full(path) => path_modifier::Replace::Full(path),
        NewPath::Prefix(path) => path_modifier::Replace::Prefix(path),
    });
    RequestRedirect {
        scheme: scheme.map(|scheme| Scheme {
            r#type: Some(scheme::Type::Registered(scheme.into())),
        }),
        host: said.hostname.clone().unwrap_or_default(),
        path: path.map(|replace| PathModifier { replace: Some(replace) }),
        port: said.port.unwrap_or(0).into(),
        status: said.status_code.unwrap_or(302).into(),
    }
}

fn rewrite(said: &objects::UrlRewrite) -> v1::Rewrite {
    let path = said.path.as_ref().and_then(new_path).map(|path| match path {
        NewPath::Full(path) => v1::rewrite::Path::Full(path),
        NewPath::Prefix(path) => v1::rewrite::Path::Prefix(path),
    });
    v1::Rewrite {
        host: said.hostname.clone().unwrap_or_default(),
        path,
    }
}

fn mirror_share(mirror: &objects::RequestMirror) -> Option<v1::Share> {
    let of_percent = mirror.percent.map(|numerator| v1::Share {
        numerator,
        denominator: 100,
    });
    of_percent.or_else(|| {
        mirror.fraction.map(|fraction| v1::Share {
            numerator: fraction.numerator,
            denominator: fraction.denominator.max(1),
        })
    })
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "clamped to the range of a share"
)]
fn parts(percent: f64) -> u32 {
    (percent.clamp(0.0, 100.0) / 100.0 * f64::from(WHOLE)).round() as u32
}

fn share(percent: Option<f64>) -> Option<v1::Share> {
    percent.map(|percent| v1::Share {
        numerator: parts(percent),
        denominator: WHOLE,
    })
}

fn ratio(percent: Option<f64>) -> Option<Ratio> {
    percent.map(|percent| Ratio {
        numerator: parts(percent),
        denominator: WHOLE,
    })
}

fn message(abort: &FaultAbort) -> String {
    abort
        .message
        .clone()
        .unwrap_or_else(|| "injected by an HTTPFault".to_owned())
}

fn abort_extra(abort: &FaultAbort) -> v1::FilterExtra {
    use v1::abort::Answer;
    let http = abort.http_status.map(|status| Answer::HttpStatus(status.into()));
    let grpc = || abort.grpc_code.map(|code| Answer::GrpcCode(code.into()));
    extra_filter(v1::filter_extra::Kind::Abort(v1::Abort {
        answer: http.or_else(grpc),
        message: message(abort),
        share: share(abort.percent),
    }))
}
