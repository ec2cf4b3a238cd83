//! Reading variables under both prefixes, and collecting every mistake.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
};

use super::table::{self, Fallback, Variable};

/// Sheer's prefix. Wins over Linkerd's.
pub(super) const OWN: &str = "SHEER_PROXY_";
/// Linkerd's prefix.
pub(super) const LINKERD: &str = "LINKERD2_PROXY_";

/// What is read without a prefix.
const PLAIN: [&str; 2] = ["OTEL_RESOURCE_ATTRIBUTES", "HOSTNAME"];

/// One wrong setting.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mistake {
    /// The variable, with its prefix.
    pub variable: String,
    /// Its value, shortened; absent where it is not set.
    pub value: Option<String>,
    /// What is wrong.
    pub problem: String,
    /// What is allowed.
    pub allowed: String,
}

impl fmt::Display for Mistake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.value {
            Some(value) => write!(f, "{}={value:?} {}", self.variable, self.problem)?,
            None => write!(f, "{} {}", self.variable, self.problem)?,
        }
        if self.allowed.is_empty() {
            Ok(())
        } else {
            write!(f, "; allowed: {}", self.allowed)
        }
    }
}

/// Something to say about a setting that is no mistake.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Note {
    /// Worth a warning, or only a debug line.
    pub warn: bool,
    /// The text.
    pub text: String,
}

/// The environment while it is read.
pub(super) struct Source {
    variables: BTreeMap<String, String>,
    /// What others than proxies read too, under names without a prefix.
    plain: BTreeMap<String, String>,
    pub(super) mistakes: Vec<Mistake>,
    pub(super) notes: Vec<Note>,
}

impl Source {
    /// Keeps what is ours of an environment, and judges names.
    pub(super) fn new(environment: impl IntoIterator<Item = (String, String)>) -> Self {
        let ours = |name: &str| name.starts_with(OWN) || name.starts_with(LINKERD);
        let (variables, others): (BTreeMap<_, _>, BTreeMap<_, _>) =
            environment.into_iter().partition(|(name, _)| ours(name));
        let plain = others.into_iter().filter(|(name, _)| PLAIN.contains(&name.as_str()));
        let mut source = Self {
            variables,
            plain: plain.collect(),
            mistakes: Vec::new(),
            notes: Vec::new(),
        };
        source.judge_names();
        source
    }

    /// A variable without a prefix: one of [`PLAIN`].
    pub(super) fn plain(&self, name: &str) -> Option<String> {
        self.plain.get(name).filter(|value| !value.is_empty()).cloned()
    }

    /// The value, or its default. `None` where there is neither, or the value is wrong.
    pub(super) fn optional<T>(&mut self, variable: &Variable<T>) -> Option<T> {
        let Some((name, value)) = self.find(variable.name) else {
            return match variable.default {
                Fallback::Value(value) => (variable.format.parse)(value).ok(),
                Fallback::Required | Fallback::Absent(_) => None,
            };
        };
        match (variable.format.parse)(&value) {
            Ok(value) => Some(value),
            Err(problem) => {
                self.mistake(name, Some(&value), &problem, variable.format.allowed);
                None
            }
        }
    }

    /// The value of a setting that must be there.
    pub(super) fn required<T>(&mut self, variable: &Variable<T>) -> Option<T> {
        if !self.is_set(variable) {
            self.mistake(
                format!("{OWN}{}", variable.name),
                None,
                "is not set",
                variable.format.allowed,
            );
            return None;
        }
        self.optional(variable)
    }

    /// The value of a setting that has a default; the default too where the value is wrong (nobody will use it).
    pub(super) fn value<T>(&mut self, variable: &Variable<T>) -> T {
        self.optional(variable).unwrap_or_else(|| {
            let Fallback::Value(value) = variable.default else {
                unreachable!("{} has a default", variable.name)
            };
            (variable.format.parse)(value).expect("the tests parse every default")
        })
    }

    pub(super) fn is_set<T>(&self, variable: &Variable<T>) -> bool {
        [OWN, LINKERD]
            .iter()
            .any(|prefix| self.variables.contains_key(&format!("{prefix}{}", variable.name)))
    }

    pub(super) fn mistake(&mut self, variable: String, value: Option<&str>, problem: &str, allowed: &str) {
        self.mistakes.push(Mistake {
            variable,
            value: value.map(shorten),
            problem: problem.to_owned(),
            allowed: allowed.to_owned(),
        });
    }

    fn find(&mut self, name: &str) -> Option<(String, String)> {
        let (own, linkerd) = (format!("{OWN}{name}"), format!("{LINKERD}{name}"));
        let found = match (self.variables.get(&own), self.variables.get(&linkerd)) {
            (Some(value), other) => {
                if other.is_some_and(|other| other != value) {
                    let text = format!("{own} and {linkerd} differ: {own} holds");
                    self.notes.push(Note { warn: true, text });
                }
                (own, value.clone())
            }
            (None, Some(value)) => (linkerd, value.clone()),
            (None, None) => return None,
        };
        Some(found)
    }

    fn judge_names(&mut self) {
        let known: BTreeSet<&str> = table::sections()
            .into_iter()
            .flat_map(|(_, rows)| rows)
            .map(|row| row.name)
            .collect();
        let mut mistakes = Vec::new();
        for (variable, value) in &self.variables {
            let name = variable
                .strip_prefix(OWN)
                .or(variable.strip_prefix(LINKERD))
                .unwrap_or(variable);
            if known.contains(name) {
                continue;
            }
            let ignored = table::NOT_HONOURED.iter().find(|(other, _)| *other == name);
            if name == "IDENTITY_DISABLED" {
                mistakes.push((
                    variable.clone(),
                    value.clone(),
                    "is not possible: every proxy has an identity".to_owned(),
                ));
            } else if let Some((_, why)) = ignored {
                self.notes.push(Note {
                    warn: false,
                    text: format!("{variable} has no effect: {why}"),
                });
            } else if variable.starts_with(OWN) {
                let problem = match nearest(name, known.iter().copied()) {
                    Some(near) => format!("is not a setting: did you mean {OWN}{near}?"),
                    None => "is not a setting".to_owned(),
                };
                mistakes.push((variable.clone(), value.clone(), problem));
            } else {
                self.notes.push(Note {
                    warn: false,
                    text: format!("{variable} has no effect: not known here"),
                });
            }
        }
        for (variable, value, problem) in mistakes {
            self.mistake(variable, Some(&value), &problem, "");
        }
    }
}

/// Long values (PEM) would hide the message.
fn shorten(value: &str) -> String {
    const LONGEST: usize = 64;
    match value.char_indices().nth(LONGEST) {
        Some((end, _)) => format!("{}…", &value[..end]),
        None => value.to_owned(),
    }
}

/// The known name with the fewest edits, where that are few.
fn nearest<'a>(name: &str, known: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let most = (name.len() / 4).max(2);
    known
        .map(|known| (edits(name, known), known))
        .filter(|(edits, _)| *edits <= most)
        .min()
        .map(|(_, known)| known)
}

/// Levenshtein distance.
fn edits(a: &str, b: &str) -> usize {
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, from) in a.bytes().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, to) in b.bytes().enumerate() {
            let change = diagonal + usize::from(from != to);
            diagonal = row[j + 1];
            row[j + 1] = change.min(diagonal + 1).min(row[j] + 1);
        }
    }
    row[b.len()]
}
