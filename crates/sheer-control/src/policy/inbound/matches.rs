//! Matches of routes, as Linkerd's API has them.

use sheer_api::linkerd::{
    http_route::{
        HeaderMatch, HostMatch, HttpRouteMatch, PathMatch, QueryParamMatch, header_match, host_match, path_match,
        query_param_match,
    },
    http_types::{HttpMethod, http_method},
};

use crate::objects::{self, MatchType, PathMatchType, ValueMatch};

/// A host name, `*.` in front of it for all names below.
pub(super) fn host(name: &str) -> HostMatch {
    let found = match name.strip_prefix("*.") {
        Some(suffix) => host_match::Match::Suffix(host_match::Suffix {
            reverse_labels: suffix.rsplit('.').map(str::to_owned).collect(),
        }),
        None => host_match::Match::Exact(name.to_owned()),
    };
    HostMatch { r#match: Some(found) }
}

/// A match of an HTTPRoute.
pub(super) fn http(said: &objects::HttpRouteMatch) -> HttpRouteMatch {
    let path = said.path.as_ref().map(|path| match path.kind {
        PathMatchType::Exact => path_match::Kind::Exact(path.value.clone()),
        PathMatchType::PathPrefix => path_match::Kind::Prefix(path.value.clone()),
        PathMatchType::RegularExpression => path_match::Kind::Regex(path.value.clone()),
    });
    let query = |said: &ValueMatch| QueryParamMatch {
        name: said.name.clone(),
        value: Some(match said.kind {
            MatchType::Exact => query_param_match::Value::Exact(said.value.clone()),
            MatchType::RegularExpression => query_param_match::Value::Regex(said.value.clone()),
        }),
    };
    HttpRouteMatch {
        // Gateway API: without a path, every path.
        path: Some(PathMatch {
            kind: Some(path.unwrap_or_else(|| path_match::Kind::Prefix("/".to_owned()))),
        }),
        headers: headers(&said.headers),
        query_params: said.query_params.iter().map(query).collect(),
        method: said.method.as_deref().map(method),
    }
}

/// Header fields to match. Of two for one field the first counts (Gateway API).
pub(super) fn headers(said: &[ValueMatch]) -> Vec<HeaderMatch> {
    let mut matches: Vec<HeaderMatch> = Vec::new();
    for header in said {
        if matches
            .iter()
            .any(|known| known.name.eq_ignore_ascii_case(&header.name))
        {
            continue;
        }
        matches.push(HeaderMatch {
            name: header.name.clone(),
            value: Some(match header.kind {
                MatchType::Exact => header_match::Value::Exact(header.value.clone().into_bytes()),
                MatchType::RegularExpression => header_match::Value::Regex(header.value.clone()),
            }),
        });
    }
    matches
}

/// A method.
pub(super) fn method(name: &str) -> HttpMethod {
    use http_method::{Registered, Type};
    HttpMethod {
        r#type: Some(match Registered::from_str_name(name) {
            Some(registered) => Type::Registered(registered.into()),
            None => Type::Unregistered(name.to_owned()),
        }),
    }
}
