//! Finds the rule for a request without looking at every rule.
//!
//! Every host and match of every rule is one candidate, and how specific it is does not depend on the request; so all candidates are put in
//! order once, and the first that matches wins. Hosts are found by name, exact paths by a hash, prefixes by a hash for each length that
//! occurs, regular expressions in one pass for all of them, and among candidates of one path those that ask for a header, a query parameter or a
//! ServiceProfile's path by what the request has of it. What remains is walked in order.

mod list;

use std::{cmp::Reverse, sync::Arc};

use ahash::AHashMap;

use self::list::List;
use super::{Found, HostMatch, PathMatch, RequestMatch, RequestView, Rule, matching::without_port};

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
    any: List,
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
        first(&paths.pattern, true).or_else(|| first(&paths.any, false))
    }

    /// The first of a list that matches. `by_path`: the path has to be looked at as well.
    fn first<R>(
        &self,
        list: &List,
        rules: &[Arc<Rule<R>>],
        request: &RequestView<'_>,
        by_path: bool,
    ) -> Option<Candidate> {
        let place = list.first(request, |place, is_path_known| {
            let candidate = self.candidates[place as usize];
            let Some(found) = rules[candidate.rule].matches.get(candidate.matched) else {
                return true;
            };
            // A path costs the most.
            let by_path = by_path && !is_path_known;
            found.check_rest(request).is_ok()
                && (!by_path || found.path.as_ref().is_none_or(|path| path.matches(request.path)))
        })?;
        Some(self.candidates[place as usize])
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
        let lists = self.exact.values_mut().chain(self.prefix.values_mut());
        for list in lists.chain([&mut self.pattern, &mut self.any]) {
            list.split(matches);
        }
    }
}

fn lower(name: &str) -> Box<str> {
    name.to_ascii_lowercase().into()
}
