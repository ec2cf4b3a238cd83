//! Filters: what a rule, or one of its backends, does to requests and responses.

use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, uri::Scheme};
use sheer_api::{
    linkerd::{grpc_route, http_route, http_types, outbound as api},
    v1,
};

use crate::{
    outbound::{Abort, AbortAnswer, Delay, Filter, HeaderModifier, PathModifier, Redirect, Rewrite, Share},
    wire::common,
};

pub(super) fn of_http(said: Vec<api::http_route::Filter>) -> Vec<Filter> {
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

pub(super) fn of_grpc(said: Vec<api::grpc_route::Filter>) -> Vec<Filter> {
    use api::grpc_route::filter::Kind;
    let filter = |filter: api::grpc_route::Filter| {
        Some(match filter.kind? {
            Kind::FailureInjector(injector) => grpc_abort(injector),
            Kind::RequestHeaderModifier(said) => request_headers(said),
        })
    };
    said.into_iter().filter_map(filter).collect()
}

pub(in crate::wire) fn request_headers(said: http_route::RequestHeaderModifier) -> Filter {
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

pub(in crate::wire) fn redirect(said: http_route::RequestRedirect) -> Filter {
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
    Filter::Redirect(Redirect {
        scheme,
        host: (!said.host.is_empty()).then(|| said.host.into()),
        port: common::port(said.port),
        path: said.path.and_then(|path| path.replace).map(|path| match path {
            http_route::path_modifier::Replace::Full(path) => PathModifier::Full(path.into()),
            http_route::path_modifier::Replace::Prefix(path) => PathModifier::Prefix(path.into()),
        }),
        status: status(said.status)
            .filter(StatusCode::is_redirection)
            .unwrap_or(StatusCode::MOVED_PERMANENTLY),
    })
}

pub(in crate::wire) fn http_abort(said: http_route::HttpFailureInjector) -> Filter {
    Filter::Abort(Abort {
        answer: AbortAnswer::Http(status(said.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR)),
        message: said.message.into(),
        share: ratio(said.ratio),
    })
}

pub(in crate::wire) fn grpc_abort(said: grpc_route::GrpcFailureInjector) -> Filter {
    Filter::Abort(Abort {
        answer: AbortAnswer::Grpc(u16::try_from(said.code).unwrap_or(2)),
        message: said.message.into(),
        share: ratio(said.ratio),
    })
}

fn status(said: u32) -> Option<StatusCode> {
    StatusCode::from_u16(u16::try_from(said).ok()?).ok()
}

fn ratio(said: Option<http_route::Ratio>) -> Share {
    said.map_or(Share::ALL, |ratio| Share {
        numerator: ratio.numerator,
        denominator: ratio.denominator.max(1),
    })
}

pub(super) fn share(said: Option<v1::Share>) -> Share {
    said.map_or(Share::ALL, |share| Share {
        numerator: share.numerator,
        denominator: share.denominator.max(1),
    })
}

pub(in crate::wire) fn extra(said: &v1::FilterExtra) -> Option<Filter> {
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
