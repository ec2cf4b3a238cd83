//! Which authorization lets a client in, and why the others do not.

use std::net::IpAddr;

use super::{Loser, words};
use crate::inbound::{Authentication, Authorization};

/// Who asks to come in.
#[derive(Clone, Copy, Debug)]
pub struct Client<'a> {
    /// Its address.
    pub address: IpAddr,
    /// Whether it speaks TLS of the mesh.
    pub meshed: bool,
    /// The names that it proved: a DNS-like name, a `spiffe://` URI, or both.
    pub identities: &'a [&'a str],
}

/// What became of a client at a list of authorizations.
pub(super) struct Judged<'a> {
    pub(super) winner: Option<&'a Authorization>,
    pub(super) losers: Vec<Loser>,
}

/// The first that matches decides.
pub(super) fn judge<'a>(rules: impl Iterator<Item = &'a Authorization>, client: &Client<'_>) -> Judged<'a> {
    let (mut winner, mut losers) = (None, Vec::new());
    for rule in rules {
        let why = match refused(rule, client) {
            None if winner.is_none() => {
                winner = Some(rule);
                continue;
            }
            None => "would let it in too, but stands behind".to_owned(),
            Some(why) => why,
        };
        losers.push(Loser {
            object: rule.policy.clone(),
            rule: None,
            choice: words::lets_in(rule),
            why,
        });
    }
    Judged { winner, losers }
}

/// Why a rule does not let a client in; none where it does.
pub(super) fn refused(rule: &Authorization, client: &Client<'_>) -> Option<String> {
    network(rule, client.address).or_else(|| identity(&rule.authentication, client))
}

fn network(rule: &Authorization, address: IpAddr) -> Option<String> {
    let mut excepted = None;
    for (network, except) in &rule.networks {
        if network.contains(&address) {
            match except.iter().find(|except| except.contains(&address)) {
                None => return None,
                Some(except) => excepted = Some(except),
            }
        }
    }
    Some(match excepted {
        Some(except) => format!("{address} is within the exception {except}"),
        None => {
            let networks: Vec<_> = rule.networks.iter().map(|(network, _)| network.to_string()).collect();
            format!("{address} is outside of {}", networks.join(", "))
        }
    })
}

fn identity(authentication: &Authentication, client: &Client<'_>) -> Option<String> {
    let (identities, suffixes) = match authentication {
        Authentication::Unauthenticated => return None,
        Authentication::MeshTlsAny => {
            return (!client.meshed).then(|| "the client speaks plaintext, it wants TLS of the mesh".to_owned());
        }
        Authentication::MeshTls { identities, suffixes } => (identities, suffixes),
    };
    let named = client
        .identities
        .iter()
        .any(|name| identities.iter().any(|wanted| wanted.eq_ignore_ascii_case(name)));
    let ends = |suffix: &Vec<String>| {
        suffix.is_empty() && !client.identities.is_empty() || client.identities.iter().any(|name| ends_in(name, suffix))
    };
    if named || suffixes.iter().any(ends) {
        return None;
    }
    let wanted = words::names(authentication);
    Some(match client.identities.first() {
        None if client.meshed => "the client shows no identity".to_owned(),
        None => "the client has no identity: it speaks plaintext".to_owned(),
        Some(name) => not_one_of(name, identities, &wanted),
    })
}

/// Whole names where the short ones would not tell the difference.
fn not_one_of(name: &str, identities: &[String], wanted: &[String]) -> String {
    let short = words::identity(name);
    if wanted.contains(&short) {
        return format!("{name} is not {}", identities.join(", "));
    }
    match wanted {
        [] => format!("{short} is not one of none: it names no identity"),
        [one] => format!("{short} is not {one}"),
        several => format!("{short} is not one of {}", several.join(", ")),
    }
}

/// Whether a name ends in whole labels.
fn ends_in(name: &str, suffix: &[String]) -> bool {
    let mut labels = name.rsplit('.');
    !suffix.is_empty()
        && !name.contains("://")
        && suffix
            .iter()
            .rev()
            .all(|label| labels.next().is_some_and(|own| own.eq_ignore_ascii_case(label)))
}
