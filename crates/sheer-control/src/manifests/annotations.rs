//! Annotations of the mesh: which exist, what their values look like, and which of Linkerd's are not honoured.

use super::Severity;
use crate::objects::{Labels, parse_ports};

/// How a value is checked.
type Check = fn(&str) -> Result<(), String>;

/// `scope`, name and form of what is honoured, under `sheer.dev` and `linkerd.io` alike.
const HONOURED: &[(&str, &str, Check)] = &[
    ("", "inject", inject),
    ("config", "opaque-ports", ports),
    ("config", "skip-inbound-ports", ports),
    ("config", "skip-outbound-ports", ports),
    ("config", "skip-subnets", networks),
    ("config", "default-inbound-policy", inbound_policy),
    ("config", "proxy-require-identity-inbound-ports", ports),
    ("config", "proxy-log-level", any),
    ("config", "proxy-log-format", any),
    ("config", "proxy-cpu-limit", any),
    ("config", "proxy-binary", any),
    ("config", "shutdown-grace-period", any),
];

/// Honoured under `sheer.dev` only.
const OWN: &[&str] = &["sheer.dev/publish", "sheer.dev/meshed"];

/// What is wrong with some annotations: severity, name, message.
pub(super) fn check(annotations: &Labels) -> Vec<(Severity, String, String)> {
    let mut wrong = Vec::new();
    for (key, value) in annotations {
        let Some((domain, name)) = key.split_once('/') else {
            continue;
        };
        let Some((scope, ours)) = scope(domain) else { continue };
        if let Some((.., check)) = HONOURED
            .iter()
            .find(|(known, known_name, _)| *known == scope && *known_name == name)
        {
            if let Err(message) = check(value) {
                wrong.push((Severity::Error, key.clone(), message));
            }
        } else if !OWN.contains(&key.as_str()) {
            let message = if ours {
                "not an annotation that Sheer knows: left out"
            } else {
                "not honoured: Linkerd's meaning does not apply"
            };
            wrong.push((Severity::Warning, key.clone(), message.to_owned()));
        }
    }
    wrong
}

/// The scope of an annotation's domain, and whether it is Sheer's own.
fn scope(domain: &str) -> Option<(&str, bool)> {
    for (suffix, ours) in [("sheer.dev", true), ("linkerd.io", false)] {
        if domain == suffix {
            return Some(("", ours));
        }
        if let Some(scope) = domain.strip_suffix(suffix).and_then(|rest| rest.strip_suffix('.')) {
            return Some((scope, ours));
        }
    }
    None
}

fn any(_: &str) -> Result<(), String> {
    Ok(())
}

fn ports(value: &str) -> Result<(), String> {
    parse_ports(value).map(drop)
}

fn networks(value: &str) -> Result<(), String> {
    let parts = value.split(',').map(str::trim).filter(|part| !part.is_empty());
    let wrong: Vec<_> = parts
        .filter(|part| part.parse::<ipnet::IpNet>().is_err())
        .map(|part| format!("{part:?}"))
        .collect();
    if wrong.is_empty() {
        Ok(())
    } else {
        Err(format!("{} must be networks, as 10.0.0.0/8", wrong.join(", ")))
    }
}

fn inject(value: &str) -> Result<(), String> {
    match value {
        "enabled" | "disabled" | "true" | "false" => Ok(()),
        _ => Err(format!("{value:?} must be enabled or disabled")),
    }
}

/// Names of the default inbound policies.
pub(crate) const INBOUND_POLICIES: &[&str] = &[
    "all-unauthenticated",
    "all-authenticated",
    "cluster-authenticated",
    "cluster-unauthenticated",
    "all-tls-unauthenticated",
    "cluster-tls-unauthenticated",
    "deny",
    "audit",
];

fn inbound_policy(value: &str) -> Result<(), String> {
    if INBOUND_POLICIES.contains(&value) {
        return Ok(());
    }
    Err(format!("{value:?} is not one of {}", INBOUND_POLICIES.join(", ")))
}
