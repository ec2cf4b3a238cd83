//! The parameters of the API, which are those of the page's own links: a window, a namespace, a resource.

use std::collections::HashMap;

use sheer_api::v1::selector::Kind;
use sheer_api::v1::{Selection, Selector};

use crate::problem::{Kind as ProblemKind, Problem};
use crate::resource::Id;

/// What the control plane's windows hold at most: 6 h.
const LONGEST_WINDOW_MS: u64 = 6 * 3600 * 1000;
/// Where nothing else is asked for.
const WINDOW_MS: u64 = 60_000;

/// Parameters as they came.
#[derive(Clone, Debug, Default)]
pub(crate) struct Query(HashMap<String, String>);

impl Query {
    pub(crate) fn new(parameters: HashMap<String, String>) -> Self {
        Self(parameters)
    }

    /// A parameter; empty where it lacks.
    pub(crate) fn text(&self, name: &str) -> &str {
        self.0.get(name).map_or("", |value| value.as_str())
    }

    pub(crate) fn namespace(&self) -> &str {
        self.text("ns")
    }

    /// `window`, as `30s`, `10m` or `6h`, in milliseconds.
    pub(crate) fn window_ms(&self) -> Result<u64, Problem> {
        match self.text("window") {
            "" => Ok(WINDOW_MS),
            text => {
                let ms = milliseconds(text).filter(|ms| (1_000..=LONGEST_WINDOW_MS).contains(ms));
                ms.ok_or_else(|| Problem::parameter("window", text, "a time from 1s to 6h, as 30s, 10m or 1h"))
            }
        }
    }

    /// A number; `default` where it lacks.
    pub(crate) fn number(&self, name: &str, default: u64) -> Result<u64, Problem> {
        match self.text(name) {
            "" => Ok(default),
            text => text
                .parse()
                .map_err(|_| Problem::parameter(name, text, "a whole number")),
        }
    }

    /// The workload that `of` names, as `bank/deploy/ledger`.
    pub(crate) fn workload(&self) -> Result<Id, Problem> {
        let text = self.text("of");
        Id::parse(text)
            .filter(|id| id.workload_kind().is_some())
            .ok_or_else(|| Problem::parameter("of", text, "a workload as bank/deploy/ledger"))
    }

    /// Whose traffic is looked at: the workload or pod that `of` names, or else every pod of the namespace.
    pub(crate) fn selection(&self) -> Result<Selection, Problem> {
        let id = match (self.text("of"), self.namespace()) {
            ("", "") => {
                return Err(Problem::new(
                    ProblemKind::BadQuestion,
                    "Whose requests? There are too many to show those of a whole mesh.",
                    "Choose a namespace above, or a workload.",
                ));
            }
            ("", namespace) => return Ok(selection(format!("ns/{namespace}"), String::new())),
            _ => self.workload()?,
        };
        Ok(selection(id.short(), id.namespace))
    }

    /// A switch: `1` or nothing.
    pub(crate) fn is_on(&self, name: &str) -> bool {
        matches!(self.text(name), "1" | "true" | "yes")
    }

    /// Everything of a kind, in the namespace of the query or in all.
    pub(crate) fn every(&self, kind: Kind) -> Option<Selector> {
        Some(Selector {
            kind: kind.into(),
            name: String::new(),
            namespace: self.namespace().to_owned(),
        })
    }
}

fn selection(workload: String, namespace: String) -> Selection {
    Selection { workload, namespace }
}

fn milliseconds(text: &str) -> Option<u64> {
    let digits = text.find(|c: char| !c.is_ascii_digit())?;
    let number: u64 = text[..digits].parse().ok()?;
    let unit = match &text[digits..] {
        "ms" => 1,
        "s" => 1_000,
        "m" => 60_000,
        "h" => 3_600_000,
        _ => return None,
    };
    number.checked_mul(unit)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn query(name: &str, value: &str) -> Query {
        Query::new(HashMap::from([(name.to_owned(), value.to_owned())]))
    }

    #[test]
    fn windows_are_times_within_what_is_kept() {
        for (text, ms) in [("30s", 30_000), ("10m", 600_000), ("6h", 21_600_000), ("", WINDOW_MS)] {
            assert_eq!(query("window", text).window_ms().unwrap(), ms, "{text}");
        }
        for wrong in ["7h", "0s", "10", "m", "-1s", "99999999999999999999h"] {
            assert!(query("window", wrong).window_ms().is_err(), "{wrong}");
        }
    }

    #[test]
    fn traffic_is_of_a_workload_or_of_a_namespace() {
        let of = |name, value| {
            let Selection { workload, namespace } = query(name, value).selection().unwrap();
            (workload, namespace)
        };
        assert_eq!(of("of", "bank/pod/web-0"), ("pod/web-0".to_owned(), "bank".to_owned()));
        assert_eq!(of("ns", "bank"), ("ns/bank".to_owned(), String::new()));
        assert!(Query::default().selection().is_err());
    }

    #[test]
    fn a_workload_is_named_whole() {
        assert_eq!(query("of", "bank/deploy/ledger").workload().unwrap().name, "ledger");
        for wrong in ["", "ledger", "bank/ledger", "bank/svc/ledger", "bank/deploy/"] {
            assert!(query("of", wrong).workload().is_err(), "{wrong}");
        }
    }
}
