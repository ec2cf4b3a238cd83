//! Choices that need a random number or a name: which backend of a rule, which rule for a connection.

use super::{Backends, OutboundPolicy, RouteBackend, StreamRule};
use crate::routes::HostMatch;

impl Backends {
    /// The place of the backend (as in [`Self::all`]) that a request goes to by its weights; `random` is uniform in `0..1`. Of backends
    /// that are tried in order, the first. None where there is none, or every weight is 0.
    pub fn choose(&self, random: f64) -> Option<usize> {
        match self {
            Self::None => None,
            Self::First(backends) => (!backends.is_empty()).then_some(0),
            Self::Weighted(backends) => {
                let total: u64 = backends.iter().map(|(_, weight)| u64::from(*weight)).sum();
                // Below `total` but for rounding, which the last backend with a weight takes.
                let mut left = (random * total as f64) as u64;
                let mut last = None;
                for (place, (_, weight)) in backends.iter().enumerate().filter(|(_, (_, weight))| *weight > 0) {
                    let weight = u64::from(*weight);
                    if left < weight {
                        return Some(place);
                    }
                    left -= weight;
                    last = Some(place);
                }
                last
            }
        }
    }

    /// The backend at a place.
    pub fn at(&self, place: usize) -> Option<&RouteBackend> {
        match self {
            Self::None => None,
            Self::First(backends) => backends.get(place),
            Self::Weighted(backends) => backends.get(place).map(|(backend, _)| backend),
        }
    }
}

impl OutboundPolicy {
    /// The rule for a connection of TLS that names this server: one for that very name, else the one with the longest suffix, else one
    /// for all; the first of equals.
    pub fn tls_rule(&self, server_name: Option<&str>) -> Option<&StreamRule> {
        let specificity = |rule: &StreamRule| {
            if rule.server_names.is_empty() {
                return Some((0, 0));
            }
            let name = server_name?;
            let matching = rule.server_names.iter().filter(|pattern| pattern.matches(name));
            matching
                .map(|pattern| match pattern {
                    HostMatch::Exact(exact) => (2, exact.len()),
                    HostMatch::Suffix(suffix) => (1, suffix.len()),
                })
                .max()
        };
        let rules = self.tls.iter().filter_map(|rule| Some((specificity(rule)?, rule)));
        // The last of the greatest is what `max_by_key` gives: from the back it is the first.
        rules
            .rev()
            .max_by_key(|(specificity, _)| *specificity)
            .map(|(_, rule)| rule)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use proptest::prelude::*;

    use super::*;
    use crate::{ObjectRef, ProtocolPlan, outbound::Backend};

    fn weighted(weights: &[u32]) -> Backends {
        let backend = RouteBackend {
            backend: Arc::new(Backend::balanced(ObjectRef::default(), "a:1")),
            filters: Vec::new(),
        };
        Backends::Weighted(weights.iter().map(|weight| (backend.clone(), *weight)).collect())
    }

    #[test]
    fn the_most_specific_server_name_wins() {
        let backend = Arc::new(Backend::balanced(ObjectRef::default(), "a:1"));
        let mut policy = OutboundPolicy::plain(ObjectRef::default(), ProtocolPlan::Tls, Backend::clone(&backend));
        let rule = |name: &str, server_names: Vec<HostMatch>| StreamRule {
            server_names,
            ..StreamRule::plain(name, &backend)
        };
        let suffix = |suffix: &str| HostMatch::Suffix(suffix.to_owned());
        policy.tls = Arc::new([
            rule("any", vec![]),
            rule("com", vec![suffix(".com")]),
            rule("example", vec![suffix(".example.com")]),
            rule("exact", vec![HostMatch::Exact("a.example.com".to_owned())]),
            rule("again", vec![HostMatch::Exact("a.example.com".to_owned())]),
        ]);
        let found = |name| policy.tls_rule(name).map(|rule| rule.route.name.as_str());
        assert_eq!(found(Some("A.example.com")), Some("exact"));
        assert_eq!(found(Some("b.example.com")), Some("example"));
        assert_eq!(found(Some("other.com")), Some("com"));
        assert_eq!((found(Some("org")), found(None)), (Some("any"), Some("any")));
        policy.tls = Arc::new([rule("com", vec![suffix(".com")])]);
        assert!(policy.tls_rule(None).is_none() && policy.tls_rule(Some("org")).is_none());
    }

    proptest! {
        /// Backends without weight get nothing, and each other gets its share.
        #[test]
        fn shares_are_as_the_weights_say(weights in prop::collection::vec(prop_oneof![Just(0u32), 1u32..100], 0..6)) {
            let backends = weighted(&weights);
            let total: u32 = weights.iter().sum();
            let draws = 2_000;
            let mut counts = vec![0u32; weights.len()];
            for draw in 0..draws {
                match backends.choose(f64::from(draw) / f64::from(draws)) {
                    Some(place) => counts[place] += 1,
                    None => prop_assert_eq!(total, 0),
                }
            }
            for (weight, count) in weights.iter().zip(&counts).filter(|_| total > 0) {
                let expected = f64::from(draws) * f64::from(*weight) / f64::from(total);
                prop_assert!((f64::from(*count) - expected).abs() <= 1.0 + f64::from(draws) / f64::from(total), "{counts:?} of {weights:?}");
                prop_assert!(*weight > 0 || *count == 0);
            }
        }
    }
}
