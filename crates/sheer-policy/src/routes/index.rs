//! Finds the rule for a request without looking at every rule.
//!
//! Every host and match of every rule is one candidate, and how specific it is does not depend on the request; so all candidates are put in
//! order once, and the first that matches wins. Hosts are found by name, exact paths by a hash, prefixes by a hash for each length that
//! occurs, regular expressions in one pass for all of them, and among candidates of one path those that ask for a header by the value of that
//! header. What remains is walked in order.

use std::{cmp::Reverse, sync::Arc};

use ahash::AHashMap;
use http::HeaderName;
use regex_automata::{Anchored, Input, meta, nfa::thompson::WhichCaptures};

use super::{Found, HostMatch, PathMatch, RequestMatch, RequestView, Rule, ValueMatch, matching::without_port};

/// From this many candidates on, a list is searched by the value of a header, and patterns become one automaton.
const WORTH_HASHING: usize = 8;
/// Largest automaton, bytes: some ten thousand patterns as people write them.
const AUTOMATON: usize = 32 << 20;
/// What a thread keeps of the states that such an automaton met, bytes. Where it is too little, matching falls back to a much slower way.
const STATES: usize = 8 << 20;

/// The rules of one parent by what requests look like.
#[derive(Clone, Debug, Default)]
pub(super) struct Index {
    /// Where each candidate came from, the most specific first.
    candidates: Vec<Candidate>,
    exact_hosts: AHashMap<Box<str>, Paths>,
    /// Longest first.
    suffix_hosts: Vec<(Box<str>, Paths)>,
    any_host: Paths,
}

/// A rule, and which of its matches.
#[derive(Clone, Copy, Debug)]
struct Candidate {
    rule: usize,
    matched: usize,
}

/// Candidates of one host by path. A number is a place in [`Index::candidates`].
#[derive(Clone, Debug, Default)]
struct Paths {
    exact: AHashMap<Box<str>, List>,
    prefix: AHashMap<Box<str>, List>,
    /// Lengths of prefixes, the longest first.
    prefix_lengths: Vec<usize>,
    /// Regular expressions and the like: in order.
    pattern: List,
    /// Where there are many of them.
    many: Option<Many>,
    any: List,
}

/// Candidates in order, and those of them that ask for one value of a header.
#[derive(Clone, Debug, Default)]
struct List {
    /// Looked at for every request.
    rest: Vec<u32>,
    by_value: Option<ByValue>,
}

/// Many patterns as one automaton, which in one pass over a path finds the first of them that matches: what it costs does not depend on
/// their number.
#[derive(Clone, Debug)]
struct Many {
    automaton: meta::Regex,
    /// The place in [`List::rest`] of each pattern, in order.
    places: Vec<u32>,
}

#[derive(Clone, Debug)]
struct ByValue {
    name: HeaderName,
    values: AHashMap<Box<[u8]>, Vec<u32>>,
}

impl Index {
    pub(super) fn new<R>(rules: &[Rule<R>]) -> Self {
        let mut all = Vec::new();
        for (rule, said) in rules.iter().enumerate() {
            let hosts = said.hosts.iter().map(Some);
            for host in hosts.chain(said.hosts.is_empty().then_some(None)) {
                let matches = said.matches.iter().enumerate().map(|(i, found)| (i, Some(found)));
                for (matched, found) in matches.chain(said.matches.is_empty().then_some((0, None))) {
                    let mut specificity = found.map(RequestMatch::specificity).unwrap_or_default();
                    specificity.host = host.map_or((0, 0), HostMatch::rank);
                    all.push((specificity, Candidate { rule, matched }, host, found));
                }
            }
        }
        // Stable: what is equally specific stays in the control plane's order.
        all.sort_by_key(|(specificity, ..)| Reverse(*specificity));
        let mut index = Self::default();
        for (place, (_, candidate, host, found)) in all.iter().enumerate() {
            index.candidates.push(*candidate);
            let paths = index.paths(*host);
            paths
                .list(found.and_then(|found| found.path.as_ref()))
                .rest
                .push(place as u32);
        }
        let matches: Vec<_> = all.iter().map(|(.., found)| *found).collect();
        let lists = index.exact_hosts.values_mut();
        let lists = lists.chain(index.suffix_hosts.iter_mut().map(|(_, paths)| paths));
        for paths in lists.chain([&mut index.any_host]) {
            paths.finish(&matches);
        }
        index
    }

    fn paths(&mut self, host: Option<&HostMatch>) -> &mut Paths {
        match host {
            None => &mut self.any_host,
            Some(HostMatch::Exact(name)) => self.exact_hosts.entry(lower(name)).or_default(),
            Some(HostMatch::Suffix(suffix)) => {
                let suffix = lower(suffix);
                // They come in the order of their length.
                let known = self.suffix_hosts.iter().position(|(known, _)| *known == suffix);
                let at = known.unwrap_or_else(|| {
                    self.suffix_hosts.push((suffix, Paths::default()));
                    self.suffix_hosts.len() - 1
                });
                &mut self.suffix_hosts[at].1
            }
        }
    }

    pub(super) fn find<'a, R>(&self, rules: &'a [Arc<Rule<R>>], request: &RequestView<'_>) -> Option<Found<'a, R>> {
        let found = self
            .find_host(rules, request)
            .or_else(|| self.find_in(&self.any_host, rules, request))?;
        Some(Found {
            rule: &rules[found.rule],
            matched: found.matched,
        })
    }

    fn find_host<R>(&self, rules: &[Arc<Rule<R>>], request: &RequestView<'_>) -> Option<Candidate> {
        if self.exact_hosts.is_empty() && self.suffix_hosts.is_empty() {
            return None;
        }
        let host = without_port(request.host?);
        let lowered = host.bytes().any(|byte| byte.is_ascii_uppercase()).then(|| lower(host));
        let host = lowered.as_deref().unwrap_or(host);
        let exact = self.exact_hosts.get(host);
        exact.and_then(|paths| self.find_in(paths, rules, request)).or_else(|| {
            let mut suffixes = self.suffix_hosts.iter();
            suffixes.find_map(|(suffix, paths)| {
                let matches = host.len() > suffix.len() && host.ends_with(&**suffix);
                matches.then(|| self.find_in(paths, rules, request)).flatten()
            })
        })
    }

    fn find_in<R>(&self, paths: &Paths, rules: &[Arc<Rule<R>>], request: &RequestView<'_>) -> Option<Candidate> {
        let path = request.path;
        let first = |list: &List, by_path| self.first(list, rules, request, by_path);
        if let Some(found) = paths.exact.get(path).and_then(|list| first(list, false)) {
            return Some(found);
        }
        for &length in &paths.prefix_lengths {
            let ends_here = length == path.len() || path.as_bytes().get(length) == Some(&b'/');
            if ends_here && let Some(found) = paths.prefix.get(&path[..length]).and_then(|list| first(list, false)) {
                return Some(found);
            }
        }
        self.find_pattern(paths, rules, request)
            .or_else(|| first(&paths.any, false))
    }

    /// The first pattern that matches. Where its rule asks for more than a path and does not get it, the others are walked.
    fn find_pattern<R>(&self, paths: &Paths, rules: &[Arc<Rule<R>>], request: &RequestView<'_>) -> Option<Candidate> {
        let Some(many) = &paths.many else {
            return self.first(&paths.pattern, rules, request, true);
        };
        let place = many.find(request.path)?;
        let candidate = self.candidates[place as usize];
        let found = &rules[candidate.rule].matches[candidate.matched];
        if found.check_rest(request).is_ok() {
            return Some(candidate);
        }
        self.first(&paths.pattern, rules, request, true)
    }

    /// The first of a list that matches. `by_path`: the path has to be looked at as well.
    fn first<R>(
        &self,
        list: &List,
        rules: &[Arc<Rule<R>>],
        request: &RequestView<'_>,
        by_path: bool,
    ) -> Option<Candidate> {
        let holds = |place: &&u32| {
            let candidate = self.candidates[**place as usize];
            let Some(found) = rules[candidate.rule].matches.get(candidate.matched) else {
                return true;
            };
            (!by_path || found.path.as_ref().is_none_or(|path| path.matches(request.path)))
                && found.check_rest(request).is_ok()
        };
        let mut best = list.rest.iter().find(holds);
        if let Some(by_value) = &list.by_value {
            for value in request.headers.get_all(&by_value.name) {
                let places = by_value.values.get(value.as_bytes()).into_iter().flatten();
                let found = places
                    .take_while(|place| best.is_none_or(|best| *place < best))
                    .find(holds);
                best = found.or(best);
            }
        }
        best.map(|place| self.candidates[*place as usize])
    }
}

impl Paths {
    fn list(&mut self, path: Option<&PathMatch>) -> &mut List {
        match path {
            None => &mut self.any,
            Some(PathMatch::Exact(path)) => self.exact.entry(path.as_str().into()).or_default(),
            Some(PathMatch::Prefix(prefix)) => self.prefix.entry(prefix.as_str().into()).or_default(),
            Some(PathMatch::Regex(_) | PathMatch::GrpcMethod(_)) => &mut self.pattern,
        }
    }

    fn finish(&mut self, matches: &[Option<&RequestMatch>]) {
        self.prefix_lengths = self.prefix.keys().map(|prefix| prefix.len()).collect();
        self.prefix_lengths.sort_unstable_by_key(|length| Reverse(*length));
        self.prefix_lengths.dedup();
        for list in self.exact.values_mut().chain(self.prefix.values_mut()) {
            list.split(matches);
        }
        self.many = Many::of(&self.pattern, matches);
        if self.many.is_none() {
            self.pattern.split(matches);
        }
        self.any.split(matches);
    }
}

impl Many {
    /// None where there are few, or where they are too large for one automaton: those are walked.
    fn of(list: &List, matches: &[Option<&RequestMatch>]) -> Option<Self> {
        if list.rest.len() < WORTH_HASHING {
            return None;
        }
        let path = |place: &u32| matches[*place as usize]?.path.as_ref();
        let patterns = list.rest.iter().map(|place| path(place)?.pattern());
        let patterns: Vec<_> = patterns.collect::<Option<_>>()?;
        let config = meta::Config::new()
            .nfa_size_limit(Some(AUTOMATON))
            .hybrid_cache_capacity(STATES)
            .which_captures(WhichCaptures::Implicit);
        let automaton = meta::Builder::new().configure(config).build_many(&patterns).ok()?;
        Some(Self {
            automaton,
            places: list.rest.clone(),
        })
    }

    /// Patterns are anchored at both ends: of those that match, the first wins.
    fn find(&self, path: &str) -> Option<u32> {
        let input = Input::new(path).anchored(Anchored::Yes);
        let found = self.automaton.search_half(&input)?;
        Some(self.places[found.pattern()])
    }
}

impl List {
    /// Puts those that ask for one value of the most wanted header apart.
    fn split(&mut self, matches: &[Option<&RequestMatch>]) {
        if self.rest.len() < WORTH_HASHING {
            return;
        }
        let exact = |place: u32| {
            let headers = matches[place as usize].map_or(&[][..], |found| &found.headers);
            headers.iter().filter_map(|header| match &header.value {
                ValueMatch::Exact(value) => Some((&header.name, value)),
                ValueMatch::Regex(_) => None,
            })
        };
        let mut wanted: AHashMap<&HeaderName, usize> = AHashMap::new();
        for (name, _) in self.rest.iter().flat_map(|place| exact(*place)) {
            *wanted.entry(name).or_default() += 1;
        }
        let Some((name, count)) = wanted
            .into_iter()
            .max_by_key(|(name, count)| (*count, Reverse(name.as_str())))
        else {
            return;
        };
        if count < WORTH_HASHING {
            return;
        }
        let mut values: AHashMap<Box<[u8]>, Vec<u32>> = AHashMap::new();
        self.rest.retain(|place| {
            let value = exact(*place).find(|(found, _)| *found == name).map(|(_, value)| value);
            if let Some(value) = value {
                values.entry(value.as_slice().into()).or_default().push(*place);
            }
            value.is_none()
        });
        self.by_value = Some(ByValue {
            name: name.clone(),
            values,
        });
    }
}

fn lower(name: &str) -> Box<str> {
    name.to_ascii_lowercase().into()
}
