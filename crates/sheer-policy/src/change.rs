//! What filters make of a request's path and of header lists (Gateway API, `HTTPPathModifier`, `HTTPHeaderFilter`).

use http::{HeaderMap, HeaderName};

use crate::{
    outbound::{HeaderModifier, PathModifier},
    routes::PathMatch,
};

/// Changes a header list: what is added, then what is set, then what is removed. Fields that are not `free` stay as they are.
pub fn modify(headers: &mut HeaderMap, modifier: &HeaderModifier, free: impl Fn(&HeaderName) -> bool) {
    for (name, value) in modifier.add.iter().filter(|(name, _)| free(name)) {
        headers.append(name, value.clone());
    }
    for name in modifier.set.keys().filter(|name| free(name)) {
        headers.remove(name);
        for value in modifier.set.get_all(name) {
            headers.append(name, value.clone());
        }
    }
    for name in modifier.remove.iter().filter(|name| free(name)) {
        headers.remove(name);
    }
}

/// The new path. A prefix is replaced where the rule matched by one, and else the path stays.
pub fn replaced(path: &str, modifier: &PathModifier, matched: Option<&PathMatch>) -> String {
    match modifier {
        PathModifier::Full(full) => with_slash(full),
        PathModifier::Prefix(replacement) => {
            let prefix = match matched {
                Some(PathMatch::Prefix(prefix)) => prefix.trim_end_matches('/'),
                // A rule without a path takes everything under `/`.
                None => "",
                Some(PathMatch::Exact(_) | PathMatch::Regex(_) | PathMatch::GrpcMethod(_)) => return path.to_owned(),
            };
            let Some(rest) = path.strip_prefix(prefix) else {
                return path.to_owned();
            };
            joined(replacement.trim_end_matches('/'), rest)
        }
    }
}

/// `start` without, `rest` with a leading slash or empty; `/` where there is nothing.
fn joined(start: &str, rest: &str) -> String {
    let whole = if rest.is_empty() || rest.starts_with('/') {
        format!("{start}{rest}")
    } else {
        format!("{start}/{rest}")
    };
    with_slash(&whole)
}

fn with_slash(path: &str) -> String {
    if path.starts_with('/') {
        path.to_owned()
    } else {
        format!("/{path}")
    }
}
