//! What `sheer top` shows, and what keys do to it. Pure: answers and keys in, rows out.

use std::{
    cmp::Ordering,
    collections::{BTreeMap, HashMap},
    time::Duration,
};

use ratatui::crossterm::event::{KeyCode, KeyEvent, KeyModifiers};
use sheer_api::v1::{PathStat, TopResponse, Traffic};

use crate::numbers::{Rates as _, resource};

/// Seconds of which the rate of a path is drawn.
pub(super) const HISTORY: usize = 120;

/// What rows are sorted by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Column {
    Source,
    Destination,
    Method,
    Path,
    Rps,
    Success,
    P50,
    P95,
    P99,
}

impl Column {
    pub(super) const ALL: [Self; 9] = [
        Self::Source,
        Self::Destination,
        Self::Method,
        Self::Path,
        Self::Rps,
        Self::Success,
        Self::P50,
        Self::P95,
        Self::P99,
    ];

    pub(super) const fn title(self) -> &'static str {
        match self {
            Self::Source => "SOURCE",
            Self::Destination => "DESTINATION",
            Self::Method => "METHOD",
            Self::Path => "PATH",
            Self::Rps => "RPS",
            Self::Success => "SUCCESS",
            Self::P50 => "P50",
            Self::P95 => "P95",
            Self::P99 => "P99",
        }
    }

    /// Whether its interesting end is the large one.
    const fn is_downward(self) -> bool {
        matches!(self, Self::Rps | Self::P50 | Self::P95 | Self::P99)
    }

    fn beside(self, step: isize) -> Self {
        let at = Self::ALL.iter().position(|column| *column == self).unwrap_or(0);
        let len = Self::ALL.len();
        Self::ALL[(at + len).wrapping_add_signed(step) % len]
    }
}

/// What a path is known by from one answer to the next.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Key {
    pub(super) source: String,
    pub(super) destination: String,
    pub(super) method: String,
    pub(super) path: String,
    outbound: bool,
}

impl Key {
    pub(super) fn of(path: &PathStat) -> Self {
        Self {
            source: resource(path.source.as_ref(), true),
            destination: resource(path.destination.as_ref(), true),
            method: path.method.clone(),
            path: path.path.clone(),
            outbound: path.seen_by() == sheer_api::v1::series_key::Direction::Outbound,
        }
    }
}

/// Requests and failures by second, since the Unix epoch.
pub(super) type History = BTreeMap<i64, (u64, u64)>;

/// What happens after a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Next {
    Go,
    Quit,
}

/// The screen.
#[derive(Debug)]
pub(super) struct Top {
    answer: TopResponse,
    history: HashMap<Key, History>,
    pub(super) window: Duration,
    pub(super) sort: Column,
    pub(super) reversed: bool,
    pub(super) filter: String,
    /// The filter is being typed.
    pub(super) editing: bool,
    pub(super) paused: bool,
    /// Which row is marked; it stays with its path when the order changes.
    marked: Option<Key>,
    /// The path that is looked into.
    pub(super) inside: Option<Key>,
    /// Whether any answer came yet.
    pub(super) heard: bool,
}

/// Whether a path has a text in it, in its source or in its destination, in whatever case.
pub(super) fn fits(path: &PathStat, filter: &str) -> bool {
    let filter = filter.to_lowercase();
    let of = |text: &str| text.to_lowercase().contains(&filter);
    of(&path.path)
        || of(&path.method)
        || of(&resource(path.source.as_ref(), true))
        || of(&resource(path.destination.as_ref(), true))
}

impl Top {
    pub(super) fn new(filter: String, window: Duration) -> Self {
        Self {
            answer: TopResponse::default(),
            history: HashMap::new(),
            window,
            sort: Column::Rps,
            reversed: false,
            filter,
            editing: false,
            paused: false,
            marked: None,
            inside: None,
            heard: false,
        }
    }

    /// Takes in an answer.
    pub(super) fn take(&mut self, answer: TopResponse) {
        self.heard = true;
        let from = answer.window.as_ref().map_or(0, |window| window.from_ms / 1_000);
        for path in &answer.paths {
            let history = self.history.entry(Key::of(path)).or_default();
            let seconds = path.requests_by_second.iter().zip(&path.failures_by_second);
            for (second, (requests, failures)) in (from..).zip(seconds) {
                history.insert(second, (*requests, *failures));
            }
        }
        let oldest = self.last_second(&answer) - HISTORY as i64;
        for history in self.history.values_mut() {
            *history = history.split_off(&oldest);
        }
        self.history.retain(|_, history| !history.is_empty());
        if !self.paused {
            self.answer = answer;
        }
    }

    fn last_second(&self, answer: &TopResponse) -> i64 {
        answer.window.as_ref().map_or(0, |window| window.to_ms / 1_000)
    }

    /// Proxies that tell of paths.
    pub(super) fn proxies(&self) -> u32 {
        self.answer.proxies
    }

    /// What is shown, in order.
    pub(super) fn rows(&self) -> Vec<&PathStat> {
        let mut rows: Vec<_> = self
            .answer
            .paths
            .iter()
            .filter(|path| fits(path, &self.filter))
            .collect();
        rows.sort_by(|a, b| {
            let order = compare(a, b, self.sort);
            let order = if self.sort.is_downward() != self.reversed {
                order.reverse()
            } else {
                order
            };
            // What is alike stays where it is.
            order.then_with(|| name(a).cmp(&name(b)))
        });
        rows
    }

    /// Which row is marked.
    pub(super) fn selected(&self) -> Option<usize> {
        let rows = self.rows();
        let marked = self.marked.as_ref()?;
        rows.iter().position(|row| Key::of(row) == *marked)
    }

    /// The path that is looked into: what happened to it in the window, and its requests and failures by second, oldest first.
    #[expect(clippy::type_complexity, reason = "three things that the page shows side by side")]
    pub(super) fn looked_into(&self) -> Option<(&Key, Option<&PathStat>, Vec<(u64, u64)>)> {
        let key = self.inside.as_ref()?;
        let path = self.answer.paths.iter().find(|path| Key::of(path) == *key);
        let end = self.last_second(&self.answer);
        let history = self.history.get(key);
        let seconds = (end - HISTORY as i64..end).map(|second| {
            let known = history.and_then(|history| history.get(&second));
            known.copied().unwrap_or_default()
        });
        Some((key, path, seconds.collect()))
    }

    /// A key was pressed.
    pub(super) fn key(&mut self, key: KeyEvent) -> Next {
        if key.modifiers.contains(KeyModifiers::CONTROL) && key.code == KeyCode::Char('c') {
            return Next::Quit;
        }
        if self.editing {
            self.edit(key.code);
            return Next::Go;
        }
        match key.code {
            KeyCode::Char('q') => return Next::Quit,
            KeyCode::Esc if self.inside.take().is_some() => {}
            KeyCode::Esc if !self.filter.is_empty() => self.filter.clear(),
            KeyCode::Esc => return Next::Quit,
            KeyCode::Char('p') => self.paused = !self.paused,
            KeyCode::Backspace => self.inside = None,
            _ if self.inside.is_some() => {}
            KeyCode::Char('/') => self.editing = true,
            KeyCode::Char('r') => self.reversed = !self.reversed,
            KeyCode::Char('s') | KeyCode::Right => self.sort_by(self.sort.beside(1)),
            KeyCode::Char('S') | KeyCode::Left => self.sort_by(self.sort.beside(-1)),
            KeyCode::Down | KeyCode::Char('j') => self.mark(|at, _| at + 1),
            KeyCode::Up | KeyCode::Char('k') => self.mark(|at, _| at.saturating_sub(1)),
            KeyCode::PageDown => self.mark(|at, _| at + 10),
            KeyCode::PageUp => self.mark(|at, _| at.saturating_sub(10)),
            KeyCode::Home => self.mark(|_, _| 0),
            KeyCode::End => self.mark(|_, len| len),
            KeyCode::Enter => self.inside = self.marked.clone().filter(|_| self.selected().is_some()),
            _ => {}
        }
        Next::Go
    }

    fn edit(&mut self, code: KeyCode) {
        match code {
            KeyCode::Enter => self.editing = false,
            KeyCode::Esc => {
                self.editing = false;
                self.filter.clear();
            }
            KeyCode::Backspace => drop(self.filter.pop()),
            KeyCode::Char(c) => self.filter.push(c),
            _ => {}
        }
    }

    fn sort_by(&mut self, column: Column) {
        self.sort = column;
        self.reversed = false;
    }

    fn mark(&mut self, step: impl FnOnce(usize, usize) -> usize) {
        let rows = self.rows();
        let Some(last) = rows.len().checked_sub(1) else { return };
        // The first key marks the first row.
        let at = self.selected().map_or(0, |at| step(at, last));
        self.marked = rows.get(at.min(last)).map(|row| Key::of(row));
    }
}

fn name(path: &PathStat) -> (String, String, &str, &str) {
    let of = |part| resource(part, true);
    (
        of(path.source.as_ref()),
        of(path.destination.as_ref()),
        &path.path,
        &path.method,
    )
}

fn compare(a: &PathStat, b: &PathStat, column: Column) -> Ordering {
    let none = Traffic::default();
    let traffic = |path: &PathStat| path.traffic.clone().unwrap_or_else(|| none.clone());
    let number = |of: fn(&Traffic) -> Option<f64>| {
        let (a, b) = (of(&traffic(a)), of(&traffic(b)));
        a.partial_cmp(&b).unwrap_or(Ordering::Equal)
    };
    match column {
        Column::Source => name(a).0.cmp(&name(b).0),
        Column::Destination => name(a).1.cmp(&name(b).1),
        Column::Method => a.method.cmp(&b.method),
        Column::Path => a.path.cmp(&b.path),
        Column::Rps => number(|traffic| Some(traffic.rps())),
        Column::Success => number(Traffic::success_rate),
        Column::P50 => number(|traffic| traffic.p50_ms),
        Column::P95 => number(|traffic| traffic.p95_ms),
        Column::P99 => number(|traffic| traffic.p99_ms),
    }
}

#[cfg(test)]
pub(super) mod tests {
    use sheer_api::v1::{LatencyHistogram, Resource, StatusCount, Window};

    use super::*;

    pub(crate) fn path(source: &str, path: &str, requests: u64, failures: u64, p99_ms: f64) -> PathStat {
        let of = |kind: &str, name: &str| {
            Some(Resource {
                kind: kind.to_owned(),
                namespace: "bank".to_owned(),
                name: name.to_owned(),
                part: String::new(),
            })
        };
        let status = |grpc, success, count| StatusCount {
            http_status: 200,
            grpc_status: Some(grpc),
            success,
            count,
            error: String::new(),
        };
        let mut by_second = vec![requests / 10; 10];
        by_second[9] += requests % 10;
        PathStat {
            source: of("deploy", source),
            destination: of("svc", "ledger"),
            method: "POST".to_owned(),
            path: path.to_owned(),
            traffic: Some(Traffic {
                span_ms: 10_000,
                requests,
                successes: requests - failures,
                statuses: vec![status(0, true, requests - failures), status(14, false, failures)],
                latency: Some(LatencyHistogram::default()),
                p50_ms: Some(p99_ms / 4.0),
                p95_ms: Some(p99_ms / 2.0),
                p99_ms: Some(p99_ms),
                ..Traffic::default()
            }),
            requests_by_second: by_second,
            failures_by_second: vec![0; 10],
            seen_by: sheer_api::v1::series_key::Direction::Outbound.into(),
            ..PathStat::default()
        }
    }

    pub(crate) fn answer() -> TopResponse {
        TopResponse {
            paths: vec![
                path("payments", "/bank.v1.Ledger/Post", 420, 0, 8.0),
                path("gateway", "/bank.v1.Ledger/Balance", 37, 3, 40.0),
                path("audit", "/bank.v1.Ledger/List", 5, 0, 2.0),
            ],
            window: Some(Window {
                from_ms: 1_000_000,
                to_ms: 1_010_000,
                step_ms: 1_000,
                known_from_ms: 0,
            }),
            proxies: 12,
        }
    }

    fn top() -> Top {
        let mut top = Top::new(String::new(), Duration::from_secs(10));
        top.take(answer());
        top
    }

    pub(crate) fn press(top: &mut Top, keys: &str) -> Next {
        let mut next = Next::Go;
        for key in keys.chars() {
            let code = match key {
                '\n' => KeyCode::Enter,
                '\x1b' => KeyCode::Esc,
                '↓' => KeyCode::Down,
                '↑' => KeyCode::Up,
                '→' => KeyCode::Right,
                '←' => KeyCode::Left,
                key => KeyCode::Char(key),
            };
            next = top.key(KeyEvent::new(code, KeyModifiers::NONE));
        }
        next
    }

    fn shown(top: &Top) -> Vec<String> {
        top.rows()
            .iter()
            .map(|row| row.path.rsplit('/').next().unwrap_or_default().to_owned())
            .collect()
    }

    #[test]
    fn the_busiest_come_first_and_every_column_sorts() {
        let mut top = top();
        assert_eq!(shown(&top), ["Post", "Balance", "List"]);
        press(&mut top, "→");
        assert_eq!(
            (top.sort, shown(&top)[0].as_str()),
            (Column::Success, "Balance"),
            "the worst first"
        );
        press(&mut top, "→→→");
        assert_eq!(
            (top.sort, shown(&top)[0].as_str()),
            (Column::P99, "Balance"),
            "the slowest first"
        );
        press(&mut top, "r");
        assert_eq!(shown(&top)[0], "List");
        press(&mut top, "→");
        assert_eq!(
            (top.sort, top.reversed, shown(&top)),
            (
                Column::Source,
                false,
                ["List", "Balance", "Post"].map(String::from).to_vec()
            )
        );
    }

    #[test]
    fn a_filter_is_typed_and_taken_back() {
        let mut top = top();
        press(&mut top, "/BALq");
        assert!(top.editing, "q is a letter here");
        assert!(shown(&top).is_empty());
        top.key(KeyEvent::new(KeyCode::Backspace, KeyModifiers::NONE));
        press(&mut top, "\n");
        assert_eq!(shown(&top), ["Balance"]);
        assert_eq!(press(&mut top, "\x1b"), Next::Go);
        assert_eq!(shown(&top).len(), 3);
        assert_eq!(press(&mut top, "\x1b"), Next::Quit);
    }

    #[test]
    fn the_mark_stays_with_its_path() {
        let mut top = top();
        assert_eq!(top.selected(), None);
        press(&mut top, "↓↓");
        assert_eq!(top.selected(), Some(1));
        press(&mut top, "→");
        assert_eq!(top.selected(), Some(0), "the order changed, the path did not");
        press(&mut top, "\n");
        let (key, path, history) = top.looked_into().expect("inside");
        assert_eq!((key.path.as_str(), path.is_some()), ("/bank.v1.Ledger/Balance", true));
        assert_eq!(
            (history.len(), history[HISTORY - 10], history[HISTORY - 1]),
            (HISTORY, (3, 0), (10, 0))
        );
        assert_eq!(press(&mut top, "\x1b"), Next::Go);
        assert!(top.looked_into().is_none());
    }

    #[test]
    fn a_pause_holds_the_picture_and_history_goes_on() {
        let mut top = top();
        press(&mut top, "p");
        let mut next = answer();
        next.paths[0].path = "/bank.v1.Ledger/Other".to_owned();
        next.window = next.window.map(|window| Window {
            from_ms: window.from_ms + 1_000,
            to_ms: window.to_ms + 1_000,
            ..window
        });
        top.take(next);
        assert_eq!(shown(&top)[0], "Post");
        press(&mut top, "p");
        assert_eq!(top.history.len(), 4);
        assert_eq!(press(&mut top, "q"), Next::Quit);
    }
}
