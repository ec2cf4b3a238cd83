//! Filters of what a proxy logs, as `warn,sheer_proxy=debug`: one reader for the proxy, which obeys them, and for the control plane, which
//! names what is wrong with one in a manifest.

use std::borrow::Cow;

use tracing_subscriber::EnvFilter;

/// Reads a filter, or says what is wrong with it.
pub fn parse(filter: &str) -> Result<EnvFilter, String> {
    EnvFilter::builder()
        .parse(own_targets(filter))
        .map_err(|error| format!("is not a filter: {error}"))
}

/// Manifests for Linkerd name Linkerd's modules: they mean ours.
fn own_targets(filter: &str) -> String {
    let own = |directive: &str| match directive.trim().strip_prefix("linkerd") {
        Some(rest) => {
            let level = rest.find(['=', '[']).map_or("", |at| &rest[at..]);
            Cow::Owned(format!("sheer_proxy{level}"))
        }
        None => Cow::Owned(directive.trim().to_owned()),
    };
    filter
        .split(',')
        .filter(|directive| !directive.trim().is_empty())
        .map(own)
        .collect::<Vec<_>>()
        .join(",")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn filters_for_linkerd_mean_our_modules() {
        assert_eq!(
            own_targets("warn,linkerd=info,hickory=error"),
            "warn,sheer_proxy=info,hickory=error"
        );
        assert_eq!(own_targets("linkerd_app_outbound=debug, "), "sheer_proxy=debug");
        assert!(parse("warn,linkerd=info,[{headers}]=off,[{request}]=off").is_ok());
        assert!(parse("sheer_proxy=loud").is_err() && parse("===").is_err());
    }
}
