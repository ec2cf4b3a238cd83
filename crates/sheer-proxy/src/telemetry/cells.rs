//! The numbers of one series on one worker, and the handle by which it counts.

use std::{
    cell::RefCell,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
};

use parking_lot::Mutex;
use sheer_api::v1;

use super::{
    key::Key,
    latency::{Latency, Reading, Sums},
};
use crate::{
    exchange::Spoken,
    metrics::{Counter, ResponseOutcome},
};

/// Statuses that one series tells apart. More than that are counted by their class.
const MOST_STATUSES: usize = 16;

/// What is counted beside statuses and latencies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(usize)]
pub enum Count {
    /// Requests of HTTP/1.
    Http1,
    /// Requests of HTTP/2 that are not gRPC.
    Http2,
    /// Calls.
    Grpc,
    /// Attempts beyond the first, by a rule's retry.
    Retries,
    /// Attempts at endpoints.
    Attempts,
    /// Those of them that went well.
    AttemptSuccesses,
    /// Retries that the rule's limit forbade.
    RetriesLimited,
    /// Retries that the destination's budget forbade.
    RetriesOverBudget,
    /// Connections that were opened.
    Opened,
    /// Connections that ended.
    Closed,
    /// Those of them that ended with an error.
    Failed,
    /// Bytes read from the peer.
    Read,
    /// Bytes written to the peer.
    Written,
}

/// How many kinds of [`Count`] there are.
const COUNTS: usize = Count::Written as usize + 1;

/// How requests end that are counted together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct StatusKey {
    status: u16,
    grpc_status: Option<u16>,
    success: bool,
    error: Option<&'static str>,
}

/// The numbers of one series on one worker: the worker writes, the collector reads.
#[derive(Debug)]
pub struct Cells {
    key: Arc<Key>,
    counts: [AtomicU64; COUNTS],
    /// Locked to add a status and to collect, never to count.
    statuses: Mutex<Vec<(StatusKey, Counter)>>,
    latency: OnceLock<Box<Latency>>,
    /// What the peer is called by those who talk to it, where the mesh does not know it.
    host: OnceLock<Box<str>>,
}

impl Cells {
    pub(super) fn new(key: Arc<Key>) -> Self {
        Self {
            key,
            counts: [const { AtomicU64::new(0) }; COUNTS],
            statuses: Mutex::default(),
            latency: OnceLock::new(),
            host: OnceLock::new(),
        }
    }

    /// Counts. Only the worker whose cells these are may call this: it is no read-modify-write.
    pub fn add(&self, count: Count, n: u64) {
        let cell = &self.counts[count as usize];
        cell.store(cell.load(Relaxed).wrapping_add(n), Relaxed);
    }

    /// Notes what the peer is called; the first name stays.
    pub fn name_host(&self, host: &str) {
        if self.host.get().is_none() && !host.is_empty() {
            let _ = self.host.set(host.into());
        }
    }

    pub(super) fn key(&self) -> &Arc<Key> {
        &self.key
    }

    pub(super) fn host(&self) -> &str {
        self.host.get().map_or("", |host| host)
    }

    fn status(&self, key: StatusKey) -> Counter {
        let mut statuses = self.statuses.lock();
        let class = StatusKey {
            status: key.status / 100 * 100,
            grpc_status: None,
            success: key.success,
            error: None,
        };
        let full = statuses.len() >= MOST_STATUSES && !statuses.iter().any(|(known, _)| *known == key);
        let key = if full { class } else { key };
        if let Some((_, counter)) = statuses.iter().find(|(known, _)| *known == key) {
            return counter.clone();
        }
        let counter = Counter::default();
        statuses.push((key, counter.clone()));
        counter
    }
}

/// A handle to [`Cells`], of one worker: not `Sync`.
#[derive(Debug)]
pub struct Series {
    cells: Arc<Cells>,
    /// A handful: found by a walk.
    statuses: RefCell<Vec<(StatusKey, Counter)>>,
}

impl Series {
    pub(super) fn new(cells: Arc<Cells>) -> Self {
        Self {
            cells,
            statuses: RefCell::default(),
        }
    }

    /// Where connections count.
    pub fn cells(&self) -> &Arc<Cells> {
        &self.cells
    }

    /// Counts the end of a request.
    pub fn ended(&self, outcome: &ResponseOutcome) {
        let key = StatusKey {
            status: outcome.status,
            grpc_status: outcome.grpc_status,
            success: outcome.success,
            error: outcome.error,
        };
        let mut statuses = self.statuses.borrow_mut();
        if let Some((_, counter)) = statuses.iter().find(|(known, _)| *known == key) {
            counter.inc();
        } else {
            let counter = self.cells.status(key);
            counter.inc();
            statuses.push((key, counter));
        }
        self.cells.latency.get_or_init(Box::default).record(outcome.latency);
        let protocol = match outcome.spoken {
            Spoken::Http1 => Count::Http1,
            Spoken::Http2 => Count::Http2,
            Spoken::Grpc => Count::Grpc,
        };
        self.cells.add(protocol, 1);
    }

    /// Counts an attempt at an endpoint.
    pub fn attempt(&self, success: bool) {
        self.cells.add(Count::Attempts, 1);
        if success {
            self.cells.add(Count::AttemptSuccesses, 1);
        }
    }

    /// Counts something else.
    pub fn add(&self, count: Count, n: u64) {
        self.cells.add(count, n);
    }
}

/// What the collector has told of some cells.
#[derive(Debug, Default)]
pub(super) struct Seen {
    counts: [u64; COUNTS],
    statuses: Vec<u64>,
    latency: Option<Reading>,
}

/// What happened in a series since it was last asked, over all workers.
#[derive(Debug, Default)]
pub(super) struct Change {
    counts: [u64; COUNTS],
    statuses: Vec<(StatusKey, u64)>,
    latency: Option<Sums>,
    /// Connections that are open.
    open: u64,
}

impl Seen {
    /// Adds to `change` what is new in the cells.
    pub(super) fn advance(&mut self, cells: &Cells, change: &mut Change) {
        for ((seen, now), sum) in self.counts.iter_mut().zip(&cells.counts).zip(&mut change.counts) {
            let now = now.load(Relaxed);
            *sum = sum.wrapping_add(now.wrapping_sub(*seen));
            *seen = now;
        }
        let open = |count: Count| self.counts[count as usize];
        change.open += open(Count::Opened).saturating_sub(open(Count::Closed));
        let statuses = cells.statuses.lock();
        self.statuses.resize(statuses.len(), 0);
        for ((key, counter), seen) in statuses.iter().zip(&mut self.statuses) {
            let now = counter.value();
            let new = now - std::mem::replace(seen, now);
            if new == 0 {
                continue;
            }
            match change.statuses.iter_mut().find(|(known, _)| known == key) {
                Some((_, sum)) => *sum += new,
                None => change.statuses.push((*key, new)),
            }
        }
        drop(statuses);
        if let Some(latency) = cells.latency.get() {
            let sums = change.latency.get_or_insert_default();
            self.latency.get_or_insert_default().advance(latency, sums);
        }
    }
}

impl Change {
    fn of(&self, count: Count) -> u64 {
        self.counts[count as usize]
    }

    /// As it goes over the wire; none where nothing happened.
    pub(super) fn message(&self, id: u32) -> Option<v1::SeriesDelta> {
        if self.counts.iter().all(|&count| count == 0) && self.statuses.is_empty() {
            return None;
        }
        let requests = v1::RequestCounts {
            http1: self.of(Count::Http1),
            http2: self.of(Count::Http2),
            grpc: self.of(Count::Grpc),
            retries: self.of(Count::Retries),
            attempts: self.of(Count::Attempts),
            attempt_successes: self.of(Count::AttemptSuccesses),
            retries_limited: self.of(Count::RetriesLimited),
            retries_over_budget: self.of(Count::RetriesOverBudget),
        };
        let tcp = v1::TcpCounts {
            opened: self.of(Count::Opened),
            closed: self.of(Count::Closed),
            failed: self.of(Count::Failed),
            read_bytes: self.of(Count::Read),
            written_bytes: self.of(Count::Written),
            open: 0,
        };
        // A level alone is no news, but a level of 0 is.
        let tcp = (tcp != v1::TcpCounts::default()).then_some(v1::TcpCounts { open: self.open, ..tcp });
        Some(v1::SeriesDelta {
            id,
            statuses: self.statuses.iter().map(|(key, count)| key.message(*count)).collect(),
            latency: self.latency.as_ref().and_then(Sums::message),
            requests: (requests != v1::RequestCounts::default()).then_some(requests),
            tcp,
        })
    }
}

impl StatusKey {
    fn message(self, count: u64) -> v1::StatusCount {
        v1::StatusCount {
            http_status: self.status.into(),
            grpc_status: self.grpc_status.map(u32::from),
            success: self.success,
            error: self.error.unwrap_or_default().to_owned(),
            count,
        }
    }
}

/// Counts of statuses that are not shared: of a path, of which there is one for a moment.
#[derive(Clone, Debug, Default)]
pub(super) struct Statuses(Vec<(StatusKey, u64)>);

impl Statuses {
    /// Counts the end of a request.
    pub(super) fn record(&mut self, outcome: &ResponseOutcome) {
        let key = StatusKey {
            status: outcome.status,
            grpc_status: outcome.grpc_status,
            success: outcome.success,
            error: outcome.error,
        };
        match self.0.iter_mut().find(|(known, _)| *known == key) {
            Some((_, count)) => *count += 1,
            None => self.0.push((key, 1)),
        }
    }

    /// As they go over the wire.
    pub(super) fn message(&self) -> Vec<v1::StatusCount> {
        self.0.iter().map(|(key, count)| key.message(*count)).collect()
    }
}
