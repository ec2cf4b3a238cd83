//! What happened to one resource, added up over rows.

use std::collections::BTreeMap;

use sheer_api::v1::{self, series_key::Direction};

use super::{
    histogram::Histogram,
    record::{Count, Record},
    row::{KIB, Row, Status},
    time::{LONG, Span},
};

/// What happened to one resource in a time.
#[derive(Clone, Debug, Default)]
pub(super) struct Totals {
    statuses: BTreeMap<Status, u64>,
    latency: Histogram,
    pub(super) requests: u64,
    pub(super) successes: u64,
    /// With those that are under way, which is why a part of them may be less than none.
    attempts: i64,
    attempt_successes: i64,
    retries: u64,
    retries_limited: u64,
    retries_over_budget: u64,
    secured: u64,
    with_peer: u64,
    connections_secured: u64,
    tcp: v1::TcpCounts,
}

/// Which numbers of a row count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Part {
    /// All.
    All,
    /// Retries: the rest of a route's row counts where the requests went.
    Retries,
}

/// Records of a length of windows are read into these.
#[derive(Debug, Default)]
pub(super) struct Scratch {
    sum: Record,
    read: Record,
}

impl Totals {
    /// Adds what happened in a row. `false` where nothing did.
    pub(super) fn add_row(&mut self, row: &Row, span: &Span, part: Part, scratch: &mut Scratch) -> bool {
        let log = if span.length == LONG { &row.long } else { &row.short };
        scratch.sum.clear();
        log.sum(&span.slots, &mut scratch.sum, &mut scratch.read);
        let is_something = !scratch.sum.is_empty() || row.open > 0;
        self.add_record(row, &scratch.sum, part);
        if part == Part::All {
            self.tcp.open += row.open;
        }
        is_something
    }

    pub(super) fn add_record(&mut self, row: &Row, record: &Record, part: Part) {
        self.retries += record.of(Count::Retries);
        self.retries_limited += record.of(Count::RetriesLimited);
        self.retries_over_budget += record.of(Count::RetriesOverBudget);
        if part == Part::Retries {
            return;
        }
        let (mut requests, mut successes) = (0_u64, 0_u64);
        for &(place, n) in &record.statuses {
            let Some(status) = row.statuses.get(usize::from(place)) else {
                continue;
            };
            requests += n;
            successes += if status.success { n } else { 0 };
            match self.statuses.get_mut(status) {
                Some(sum) => *sum += n,
                None => drop(self.statuses.insert(status.clone(), n)),
            }
        }
        self.requests += requests;
        self.successes += successes;
        self.latency.add(&record.latency);
        if row.key.direction == Direction::Outbound {
            self.attempts += requests.cast_signed() + record.difference(Count::MoreAttempts);
            self.attempt_successes += successes.cast_signed() + record.difference(Count::MoreSuccesses);
        }
        let is_mutual = row.key.tls == v1::Tls::Mutual;
        self.with_peer += if row.key.peer.is_some() { requests } else { 0 };
        self.secured += if is_mutual { requests } else { 0 };
        self.connections_secured += if is_mutual { record.of(Count::Opened) } else { 0 };
        self.tcp.opened += record.of(Count::Opened);
        self.tcp.closed += record.of(Count::Closed);
        self.tcp.failed += record.of(Count::Failed);
        self.tcp.read_bytes += record.of(Count::Read) * KIB;
        self.tcp.written_bytes += record.of(Count::Written) * KIB;
    }

    pub(super) fn add(&mut self, other: &Self) {
        for (status, n) in &other.statuses {
            *self.statuses.entry(status.clone()).or_default() += n;
        }
        self.latency.add(&other.latency);
        self.requests += other.requests;
        self.successes += other.successes;
        self.attempts += other.attempts;
        self.attempt_successes += other.attempt_successes;
        self.retries += other.retries;
        self.retries_limited += other.retries_limited;
        self.retries_over_budget += other.retries_over_budget;
        self.secured += other.secured;
        self.with_peer += other.with_peer;
        self.connections_secured += other.connections_secured;
        self.tcp = v1::TcpCounts {
            opened: self.tcp.opened + other.tcp.opened,
            closed: self.tcp.closed + other.tcp.closed,
            failed: self.tcp.failed + other.tcp.failed,
            read_bytes: self.tcp.read_bytes + other.tcp.read_bytes,
            written_bytes: self.tcp.written_bytes + other.tcp.written_bytes,
            open: self.tcp.open + other.tcp.open,
        };
    }

    /// Whether nothing happened, and nothing is open.
    pub(super) fn is_silent(&self) -> bool {
        self.requests == 0 && self.attempts == 0 && self.tcp == v1::TcpCounts::default()
    }

    pub(super) fn message(&self, span_ms: u64) -> v1::Traffic {
        let statuses = self.statuses.iter().map(|(status, count)| v1::StatusCount {
            http_status: status.http,
            grpc_status: status.grpc,
            success: status.success,
            error: status.error.to_string(),
            count: *count,
        });
        v1::Traffic {
            span_ms,
            requests: self.requests,
            successes: self.successes,
            statuses: statuses.collect(),
            latency: (!self.latency.is_empty()).then(|| self.latency.message()),
            p50_ms: self.latency.quantile(0.5),
            p95_ms: self.latency.quantile(0.95),
            p99_ms: self.latency.quantile(0.99),
            attempts: u64::try_from(self.attempts).unwrap_or(0),
            attempt_successes: u64::try_from(self.attempt_successes).unwrap_or(0),
            retries: self.retries,
            retries_limited: self.retries_limited,
            retries_over_budget: self.retries_over_budget,
            requests_secured: self.secured,
            requests_with_peer: self.with_peer,
            tcp: Some(self.tcp),
            connections_secured: self.connections_secured,
        }
    }

    /// As a point of a series.
    pub(super) fn point(&self, at_ms: i64) -> v1::Point {
        v1::Point {
            at_ms,
            requests: self.requests,
            successes: self.successes,
            p50_ms: self.latency.quantile(0.5),
            p95_ms: self.latency.quantile(0.95),
            p99_ms: self.latency.quantile(0.99),
            retries: self.retries,
            connections_opened: self.tcp.opened,
            read_bytes: self.tcp.read_bytes,
            written_bytes: self.tcp.written_bytes,
        }
    }

    /// Adds counts of one path.
    pub(super) fn add_path(&mut self, path: &v1::PathDelta) {
        for status in &path.statuses {
            let key = Status {
                http: status.http_status,
                grpc: status.grpc_status,
                success: status.success,
                error: status.error.as_str().into(),
            };
            *self.statuses.entry(key).or_default() += status.count;
            self.requests += status.count;
            self.successes += if status.success { status.count } else { 0 };
        }
        if let Some(latency) = &path.latency {
            self.latency.add(&Histogram::of(latency));
        }
    }
}
