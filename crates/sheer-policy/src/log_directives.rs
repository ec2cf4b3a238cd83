//! Filters of what a proxy logs, as `warn,sheer_proxy=debug`: one reader for the proxy, which obeys them, and for the control plane, which
//! names what is wrong with one in a manifest.

use std::borrow::Cow;

use tracing_subscriber::{EnvFilter, filter::LevelFilter};

/// What a proxy is made of that logs, and what filters for Linkerd name. Parts of a name follow after `_` or `::`.
const MODULES: &[&str] = &[
    "sheer",
    "h2",
    "http",
    "hyper",
    "rustls",
    "tokio",
    "tonic",
    "tower",
    "hickory",
    "trust_dns",
];

/// Reads a filter that somebody wrote for this proxy, or says what is wrong with it.
pub fn parse(filter: &str) -> Result<EnvFilter, String> {
    let directives = own_targets(filter);
    if let Some(unknown) = directives.split(',').find(|directive| is_unknown(directive)) {
        return Err(wrong(format_args!(
            "{unknown:?} is neither a level (off, error, warn, info, debug, trace) nor a module of the proxy"
        )));
    }
    read(filter)
}

/// Reads a filter that may be for another proxy, as an environment made for Linkerd's has one: modules that are not there are no mistake.
pub fn read(filter: &str) -> Result<EnvFilter, String> {
    let filter = EnvFilter::builder().parse(own_targets(filter));
    filter.map_err(|error| wrong(format_args!("{error}")))
}

/// Whether with this filter a proxy logs what tells of single requests (`debug`, `trace`), of any of its modules. A filter that cannot be read makes it log nothing.
pub fn is_verbose(filter: &str) -> bool {
    let level = read(filter).ok().and_then(|filter| filter.max_level_hint());
    level.is_some_and(|level| level > LevelFilter::INFO)
}

fn wrong(why: std::fmt::Arguments<'_>) -> String {
    format!("is not a filter: {why}; write it as info,sheer_proxy=debug")
}

/// A word that is taken for a module of which there is none: nothing would be logged.
fn is_unknown(directive: &str) -> bool {
    let is_of = |module: &&str| {
        let rest = directive.strip_prefix(*module);
        rest.is_some_and(|rest| rest.is_empty() || rest.starts_with(['_', ':']))
    };
    let is_word = !directive.is_empty() && !directive.contains(['=', '[']);
    is_word && directive.parse::<LevelFilter>().is_err() && !MODULES.iter().any(is_of)
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
        assert!(parse("warn,kubert").is_err() && read("warn,kubert").is_ok() && read("===").is_err());
    }

    #[test]
    fn debug_of_any_module_is_verbose() {
        for verbose in [
            "debug",
            "TRACE",
            "5",
            "warn,sheer_proxy::inbound=debug",
            "sheer_proxy",
            "info,[request]=trace",
        ] {
            assert!(is_verbose(verbose), "{verbose}");
        }
        for quiet in [
            "",
            "info",
            "warn",
            "error",
            "off",
            "2",
            "warn,linkerd=info,hickory=error",
            "===",
            "dbug=info",
        ] {
            assert!(!is_verbose(quiet), "{quiet}");
        }
    }

    #[test]
    fn a_word_that_is_neither_level_nor_module_is_no_filter() {
        for good in [
            "debug",
            "DEBUG",
            "off",
            "3",
            "",
            "warn, sheer_proxy::inbound",
            "h2",
            "hyper_util",
            "linkerd_app_outbound",
            "blah=info",
            "[request]",
        ] {
            assert!(parse(good).is_ok(), "{good}");
        }
        for wrong in ["blah", "dbug", "info,dbug", "6", "hyperr", "verbose,sheer_proxy=debug"] {
            assert!(parse(wrong).is_err(), "{wrong}");
        }
        assert_eq!(
            parse("info,dbug").map(drop),
            Err(
                "is not a filter: \"dbug\" is neither a level (off, error, warn, info, debug, trace) nor a module of the proxy; write it \
                 as info,sheer_proxy=debug"
                    .to_owned()
            )
        );
    }
}
