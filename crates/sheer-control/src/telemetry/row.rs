//! One series of the windows: who, with whom, and what happened when.

use std::sync::Arc;

use sheer_api::v1::{self, series_key::Direction};

use super::{
    histogram::Histogram,
    log::Log,
    record::{Count, Grain, MOST_STATUSES, Record},
    time::{LONG, Length, SHORT},
};

/// Something that sends or is sent to: a workload, a Service, an address.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct Party {
    pub(super) namespace: Arc<str>,
    /// As in `Resource`.
    pub(super) kind: &'static str,
    pub(super) name: Arc<str>,
}

impl Party {
    pub(super) fn new(kind: &'static str, namespace: &str, name: &str) -> Self {
        Self {
            namespace: namespace.into(),
            kind,
            name: name.into(),
        }
    }

    pub(super) fn message(&self) -> v1::Resource {
        v1::Resource {
            kind: self.kind.to_owned(),
            namespace: self.namespace.to_string(),
            name: self.name.to_string(),
            part: String::new(),
        }
    }
}

/// What a row is about, beside the pod whose proxy told it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct RowKey {
    pub(super) direction: Direction,
    /// The rule of a route that took the requests; none for what went to or came from a peer.
    pub(super) route: Option<RouteOf>,
    /// The other side: its workload where it has one. None for a request that got to no endpoint, and for routes.
    pub(super) peer: Option<Party>,
    pub(super) identity: Arc<str>,
    pub(super) tls: v1::Tls,
    /// The Service that was addressed, and its port.
    pub(super) service: Option<(Party, u16)>,
}

impl RowKey {
    /// Whether the client has a proxy too, which tells the same.
    pub(super) fn is_told_by_its_client(&self) -> bool {
        self.direction == Direction::Inbound && self.tls == v1::Tls::Mutual && self.peer.is_some()
    }

    /// The latencies of all that came to a pod from proxies.
    pub(super) fn arrived() -> Self {
        Self {
            direction: Direction::Inbound,
            route: None,
            peer: None,
            identity: "".into(),
            tls: v1::Tls::Mutual,
            service: None,
        }
    }
}

/// A rule of a route. Without a route: requests that no route took.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct RouteOf {
    /// None where nobody wrote one.
    pub(super) route: Option<Party>,
    pub(super) rule: u32,
    /// Where the rule sent the requests.
    pub(super) backend: Option<Party>,
}

/// A kind of ends of requests.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct Status {
    pub(super) http: u32,
    pub(super) grpc: Option<u32>,
    pub(super) success: bool,
    pub(super) error: Arc<str>,
}

/// One series.
#[derive(Debug)]
pub(super) struct Row {
    pub(super) key: RowKey,
    /// What the places in records mean.
    pub(super) statuses: Vec<Status>,
    pub(super) short: Log,
    pub(super) long: Log,
    /// Connections that are open, by what was told last.
    pub(super) open: u64,
    /// By the control plane's clock.
    pub(super) last_ms: i64,
    /// A bit for each of [`PROTOCOLS`] that was spoken.
    pub(super) protocols: u8,
    /// Bytes read and written that are no whole KiB yet: they count with the next.
    rest: [u64; 2],
}

/// The unit in which windows count bytes.
pub(super) const KIB: u64 = 1_024;

/// Protocols of applications.
pub(super) const PROTOCOLS: [&str; 4] = ["grpc", "http/2", "http/1", "tcp"];

/// When something happened, in the control plane's time.
#[derive(Clone, Copy, Debug)]
pub(super) struct When {
    /// The end.
    pub(super) at_ms: i64,
    pub(super) span_ms: u64,
}

impl Row {
    pub(super) fn new(key: RowKey) -> Self {
        Self {
            key,
            statuses: Vec::new(),
            short: Log::new(Grain::Fine),
            long: Log::new(Grain::Coarse),
            open: 0,
            last_ms: 0,
            protocols: 0,
            rest: [0; 2],
        }
    }

    /// Takes in what a proxy told.
    pub(super) fn add(&mut self, delta: &v1::SeriesDelta, when: When) {
        let mut record = self.record(delta);
        self.last_ms = self.last_ms.max(when.at_ms);
        spread(&mut self.short, SHORT, &record, when);
        self.make_long(&mut record);
        spread(&mut self.long, LONG, &record, when);
    }

    /// Takes in latencies alone, for long windows.
    pub(super) fn add_latency(&mut self, latency: Histogram, when: When) {
        let record = Record::of_latency(latency);
        self.last_ms = self.last_ms.max(when.at_ms);
        spread(&mut self.long, LONG, &record, when);
    }

    /// Long windows leave out latencies that another row has too: those of a Service without a route are its endpoints', and those of a workload
    /// by its clients are the clients'. The workload's own are kept as one ([`RowKey::arrived`]).
    fn make_long(&self, record: &mut Record) {
        let is_default_route = self.key.route.as_ref().is_some_and(|route| route.route.is_none());
        if is_default_route || self.key.is_told_by_its_client() {
            record.latency.clear();
        }
    }

    /// The same, in one length of windows only: a test makes up hours.
    #[cfg(test)]
    pub(super) fn add_short(&mut self, delta: &v1::SeriesDelta, when: When) {
        let record = self.record(delta);
        self.short.add(SHORT.windows(when).0, &record);
    }

    #[cfg(test)]
    pub(super) fn add_long(&mut self, delta: &v1::SeriesDelta, when: When) {
        let mut record = self.record(delta);
        self.make_long(&mut record);
        self.long.add(LONG.slot(when.at_ms - 1), &record);
    }

    fn record(&mut self, delta: &v1::SeriesDelta) -> Record {
        let mut record = Record::default();
        for status in &delta.statuses {
            let place = self.place(status);
            record.status(place, status.count);
        }
        record.latency = delta.latency.as_ref().map(Histogram::of).unwrap_or_default();
        if let Some(requests) = &delta.requests {
            record.count(Count::Retries, requests.retries);
            if self.key.direction == Direction::Outbound {
                let ended: u64 = delta.statuses.iter().map(|status| status.count).sum();
                let well = delta.statuses.iter().filter(|status| status.success);
                let well: u64 = well.map(|status| status.count).sum();
                record.count_difference(Count::MoreAttempts, less(requests.attempts, ended));
                record.count_difference(Count::MoreSuccesses, less(requests.attempt_successes, well));
            }
            record.count(Count::RetriesLimited, requests.retries_limited);
            record.count(Count::RetriesOverBudget, requests.retries_over_budget);
            for (bit, count) in [requests.grpc, requests.http2, requests.http1].into_iter().enumerate() {
                self.protocols |= u8::from(count > 0) << bit;
            }
        }
        if let Some(tcp) = &delta.tcp {
            record.count(Count::Opened, tcp.opened);
            record.count(Count::Closed, tcp.closed);
            record.count(Count::Failed, tcp.failed);
            let bytes = [(Count::Read, tcp.read_bytes), (Count::Written, tcp.written_bytes)];
            for ((count, bytes), rest) in bytes.into_iter().zip(&mut self.rest) {
                let bytes = bytes.saturating_add(*rest);
                *rest = bytes % KIB;
                record.count(count, bytes / KIB);
            }
            self.open = tcp.open;
        }
        record
    }

    /// The protocols that were spoken. Where no request was, bytes were.
    pub(super) fn protocols(&self) -> impl Iterator<Item = &'static str> {
        let bits = if self.protocols == 0 { 1 << 3 } else { self.protocols };
        let all = PROTOCOLS.into_iter().enumerate();
        all.filter(move |(bit, _)| bits >> bit & 1 == 1).map(|(_, name)| name)
    }

    /// The place of a kind of ends. Past the bound, ends are told apart by their class alone.
    fn place(&mut self, status: &v1::StatusCount) -> u8 {
        let mut wanted = Status {
            http: status.http_status,
            grpc: status.grpc_status,
            success: status.success,
            error: status.error.as_str().into(),
        };
        let find = |statuses: &[Status], wanted: &Status| statuses.iter().position(|known| known == wanted);
        if let Some(place) = find(&self.statuses, &wanted) {
            return place as u8;
        }
        // Five classes, well or not, always have room.
        if self.statuses.len() >= MOST_STATUSES - 10 {
            wanted = Status {
                http: (status.http_status / 100).min(5) * 100,
                grpc: None,
                success: status.success,
                error: "".into(),
            };
            if let Some(place) = find(&self.statuses, &wanted) {
                return place as u8;
            }
        }
        if self.statuses.len() >= MOST_STATUSES {
            return (MOST_STATUSES - 1) as u8;
        }
        self.statuses.push(wanted);
        (self.statuses.len() - 1) as u8
    }

    /// Bytes of memory.
    pub(super) fn bytes(&self) -> usize {
        size_of::<Self>() + self.statuses.capacity() * size_of::<Status>() + self.short.bytes() + self.long.bytes()
    }
}

/// A report of a long time, as after an outage, is spread over that time.
fn spread(log: &mut Log, length: Length, record: &Record, when: When) {
    let (first, windows) = length.windows(when);
    if windows == 1 {
        return log.add(first, record);
    }
    for window in 0..windows {
        log.add(first + window, &record.part(window.into(), windows.into()));
    }
}

fn less(one: u64, other: u64) -> i64 {
    one.cast_signed().saturating_sub(other.cast_signed())
}
