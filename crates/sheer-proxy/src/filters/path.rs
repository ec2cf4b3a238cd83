//! Paths as redirects and rewrites change them (Gateway API, `HTTPPathModifier`).

use sheer_policy::{outbound::PathModifier, routes::PathMatch};

/// The new path. A prefix is replaced where the rule matched by one, and else the path stays.
pub(super) fn replaced(path: &str, modifier: &PathModifier, matched: Option<&PathMatch>) -> String {
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
