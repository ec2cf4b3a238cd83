//! Candidates of one path in order, and a way to the few of them that a request can be for: by the value of a header or of a query parameter, by
//! a hash; by a regular expression for one of these or for the path, by one automaton for all of them. Built and asked by the index, which alone
//! knows what a candidate is.

use std::cmp::Reverse;

use ahash::{AHashMap, AHashSet};
use http::HeaderName;
use regex::Regex;
use regex_automata::{Anchored, Input, meta, nfa::thompson::WhichCaptures, util::syntax};

use super::super::{Condition, RequestMatch, RequestView, ValueMatch, matching::query_value};

/// From this many candidates on, a list is searched by what they ask for.
const WORTH_HASHING: usize = 8;
/// Largest automaton, bytes: some ten thousand patterns as people write them.
const AUTOMATON: usize = 32 << 20;
/// What a thread keeps of the states that such an automaton met, bytes. Where it is too little, matching falls back to a much slower way.
const STATES: usize = 8 << 20;

/// Candidates in order, by their places in the index.
#[derive(Clone, Debug, Default)]
pub(super) struct List {
    /// Looked at for every request.
    rest: Vec<u32>,
    /// Those that ask for something of one kind, found by what a request has of it.
    apart: Vec<Apart>,
}

#[derive(Clone, Debug)]
struct Apart {
    asked: Asked,
    by: By,
}

/// What of a request a candidate asks for.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Asked {
    Header(HeaderName),
    Query(String),
    Path,
}

impl Asked {
    fn name(&self) -> &str {
        match self {
            Self::Header(name) => name.as_str(),
            Self::Query(name) => name,
            Self::Path => "",
        }
    }
}

/// How that has to be.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Wanted {
    Value(Box<[u8]>),
    Pattern(String),
}

#[derive(Clone, Debug)]
enum By {
    Value(AHashMap<Box<[u8]>, Vec<u32>>),
    Pattern(Many),
}

/// Many patterns as one automaton, which in one pass over a text finds the first of them that matches: what it costs does not depend on their
/// number.
#[derive(Clone, Debug)]
struct Many {
    automaton: meta::Regex,
    /// By pattern: where in `places` its first candidate stands.
    first: Vec<usize>,
    /// In order.
    places: Vec<u32>,
}

impl List {
    pub(super) fn push(&mut self, place: u32) {
        self.rest.push(place);
    }

    /// The first that holds; told whether its path is already known to be as it asks.
    pub(super) fn first(&self, request: &RequestView<'_>, holds: impl Fn(u32, bool) -> bool) -> Option<u32> {
        let mut best = self.rest.iter().copied().find(|place| holds(*place, false));
        for apart in &self.apart {
            best = apart.first(request, best, &holds).or(best);
        }
        best
    }

    /// Puts those apart that can be found by what they ask for, the most telling kind first.
    pub(super) fn split(&mut self, matches: &[Option<&RequestMatch>]) {
        if self.rest.len() < WORTH_HASHING {
            return;
        }
        let asks = |place: &u32| (*place, matches[*place as usize].map(asks).unwrap_or_default());
        let mut left: Vec<_> = self.rest.iter().map(asks).collect();
        let mut tried = AHashSet::new();
        while let Some(kind) = most_telling(&left, &tried) {
            let wants =
                |asks: &[(Asked, Wanted)]| asks.iter().find(|ask| kind_of(ask) == kind).map(|ask| ask.1.clone());
            let chosen: Vec<_> = left
                .iter()
                .filter_map(|(place, asks)| Some((*place, wants(asks)?)))
                .collect();
            if let Some(by) = By::new(&kind.0, chosen) {
                left.retain(|(_, asks)| wants(asks).is_none());
                self.apart.push(Apart {
                    asked: kind.0.clone(),
                    by,
                });
            }
            tried.insert(kind);
        }
        self.rest = left.into_iter().map(|(place, _)| place).collect();
    }
}

/// What is asked for, and whether by a pattern.
type Kind = (Asked, bool);

fn kind_of((asked, wanted): &(Asked, Wanted)) -> Kind {
    (asked.clone(), matches!(wanted, Wanted::Pattern(_)))
}

/// What many candidates ask for in the most different ways; of equals a value, which is found faster.
fn most_telling(left: &[(u32, Vec<(Asked, Wanted)>)], tried: &AHashSet<Kind>) -> Option<Kind> {
    let mut kinds: AHashMap<Kind, (usize, AHashSet<&Wanted>)> = AHashMap::new();
    for ask in left.iter().flat_map(|(_, asks)| asks) {
        let (count, different) = kinds.entry(kind_of(ask)).or_default();
        *count += 1;
        different.insert(&ask.1);
    }
    let worth = kinds
        .into_iter()
        .filter(|(kind, (count, _))| *count >= WORTH_HASHING && !tried.contains(kind));
    let telling = |((asked, is_pattern), (_, different)): &(Kind, (usize, AHashSet<&Wanted>))| {
        (different.len(), !is_pattern, Reverse(asked.name().to_owned()))
    };
    worth.max_by_key(telling).map(|(kind, _)| kind)
}

/// What must hold for a match to hold.
fn asks(found: &RequestMatch) -> Vec<(Asked, Wanted)> {
    let mut all = Vec::new();
    for header in &found.headers {
        let wanted = match &header.value {
            ValueMatch::Exact(value) => Wanted::Value(value.as_slice().into()),
            ValueMatch::Regex(regex) => Wanted::Pattern(regex.as_str().to_owned()),
        };
        all.push((Asked::Header(header.name.clone()), wanted));
    }
    for parameter in &found.query {
        let wanted = match &parameter.value {
            ValueMatch::Exact(value) => Wanted::Value(value.as_bytes().into()),
            ValueMatch::Regex(regex) => Wanted::Pattern(regex.as_str().to_owned()),
        };
        all.push((Asked::Query(parameter.name.clone()), wanted));
    }
    let of_path = found.path.as_ref().and_then(|path| path.pattern());
    let of_condition = || Some(found.condition.as_ref().and_then(path_of)?.as_str().to_owned());
    if let Some(pattern) = of_path.or_else(of_condition) {
        all.push((Asked::Path, Wanted::Pattern(pattern)));
    }
    all
}

/// The path without which a condition does not hold, where there is one.
fn path_of(condition: &Condition) -> Option<&Regex> {
    match condition {
        Condition::Path(regex) => Some(regex),
        Condition::All(all) => all.iter().find_map(path_of),
        Condition::Any(any) if any.len() == 1 => path_of(&any[0]),
        Condition::Any(_) | Condition::Not(_) | Condition::Method(_) => None,
    }
}

impl Apart {
    /// The first that holds and stands before another.
    fn first(&self, request: &RequestView<'_>, before: Option<u32>, holds: &impl Fn(u32, bool) -> bool) -> Option<u32> {
        let of_other_than_path = |place, _| holds(place, false);
        match &self.asked {
            Asked::Path => self.by.first(request.path.as_bytes(), before, holds),
            Asked::Query(name) => {
                let value = query_value(request.query.unwrap_or_default(), name)?;
                self.by.first(value.as_bytes(), before, of_other_than_path)
            }
            Asked::Header(name) => {
                let mut best = None;
                for value in request.headers.get_all(name) {
                    let found = self.by.first(value.as_bytes(), best.or(before), of_other_than_path);
                    best = found.or(best);
                }
                best
            }
        }
    }
}

impl By {
    /// None where patterns are too large for one automaton: those are walked.
    fn new(asked: &Asked, chosen: Vec<(u32, Wanted)>) -> Option<Self> {
        let mut values: AHashMap<Box<[u8]>, Vec<u32>> = AHashMap::new();
        let (mut patterns, mut first, mut places) = (Vec::new(), Vec::new(), Vec::new());
        let mut known = AHashSet::new();
        for (place, wanted) in chosen {
            match wanted {
                Wanted::Value(value) => values.entry(value).or_default().push(place),
                Wanted::Pattern(pattern) => {
                    if known.insert(pattern.clone()) {
                        patterns.push(pattern);
                        first.push(places.len());
                    }
                    places.push(place);
                }
            }
        }
        if patterns.is_empty() {
            return Some(Self::Value(values));
        }
        // A header's value need not be UTF-8.
        let is_text = !matches!(asked, Asked::Header(_));
        let config = meta::Config::new()
            .utf8_empty(is_text)
            .nfa_size_limit(Some(AUTOMATON))
            .hybrid_cache_capacity(STATES)
            .which_captures(WhichCaptures::Implicit);
        let mut builder = meta::Builder::new();
        builder.configure(config).syntax(syntax::Config::new().utf8(is_text));
        let automaton = builder.build_many(&patterns).ok()?;
        Some(Self::Pattern(Many {
            automaton,
            first,
            places,
        }))
    }

    /// The first that holds and stands before another; what holds is told whether its text is known to match.
    fn first(&self, text: &[u8], before: Option<u32>, holds: impl Fn(u32, bool) -> bool) -> Option<u32> {
        let places = match self {
            Self::Value(values) => values.get(text)?,
            Self::Pattern(many) => return many.first(text, before, holds),
        };
        let mut earlier = places.iter().copied().take_while(|place| is_before(*place, before));
        earlier.find(|place| holds(*place, false))
    }
}

impl Many {
    /// Patterns are anchored at both ends: of those that match, the first wins. Where its candidate asks for more and does not get it, the
    /// others are walked, which then have to be looked at whole.
    fn first(&self, text: &[u8], before: Option<u32>, holds: impl Fn(u32, bool) -> bool) -> Option<u32> {
        let input = Input::new(text).anchored(Anchored::Yes);
        let found = self.automaton.search_half(&input)?;
        let start = self.first[found.pattern()];
        let mut earlier = self.places[start..]
            .iter()
            .copied()
            .take_while(|place| is_before(*place, before));
        let known = self.places[start];
        earlier.find(|place| holds(*place, *place == known))
    }
}

fn is_before(place: u32, other: Option<u32>) -> bool {
    other.is_none_or(|other| place < other)
}
