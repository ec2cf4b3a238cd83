//! What one half of the proxy records on one worker: its connections, what failed, and how much memory that may take.

mod copies;

use std::{
    borrow::Cow,
    cell::{Cell, RefCell},
    collections::VecDeque,
    fmt, io,
    net::SocketAddr,
    os::fd::AsRawFd as _,
    rc::Rc,
    sync::atomic::{AtomicU64, Ordering::Relaxed},
    time::{Duration, Instant},
};

use sheer_api::Verdict;
use sheer_lens::hpack::Digester;
use tokio::net::TcpStream;

use super::{
    clock::Clock,
    copy::{Query, RecorderCopy},
    exchange::{Exchange, Leg, LegId, Ring},
    failure::{Difference, Facts, Failure, FailureKind, Failures, has_any},
    flow::{Flow, Found},
    log::Leaving,
    opinion::List,
    recording::{About, Ending, How, Recording, Speaks},
    tape::Tape,
    tee::Recorded,
};
use crate::{
    detect::Rewind,
    error::{Direction, ProxyError, ResetCode},
    exchange::{End, Outcome},
    io::{Io, Stream},
    metrics::{Counter, LabelSet, Shard, family},
    redact::Redactor,
    settings,
    tcp::Fault,
};

/// Smallest and largest segment of a connection's log: some frames, and more than anybody reads.
const SEGMENT: std::ops::RangeInclusive<usize> = 2 * 1024..=64 * 1024;
/// So many times its share a connection may have of what others leave free.
const MOST_OF_SHARES: usize = 4;
/// What a fresh connection takes until it is counted: small segments and the tables of both directions.
const FRESH: usize = 8 * 1024;
/// Ended connections that are remembered.
const ENDED: usize = 32;
/// What they may take of the memory: one in this many. What failed is kept besides; of what ended well the latest is wanted at most.
const ENDED_SHARE: usize = 8;
/// Connections that are looked at for one to forget, where memory is short.
const LOOKED_AT: usize = 16;
/// Between two disagreements that are shown; all are counted.
const TELL_INTERVAL: Duration = Duration::from_millis(100);
/// Ids of requests that a recorder takes at once.
const ID_BLOCK: u64 = 64;

/// Records the connections of one half of one worker. Cheap to clone; the default records nothing.
#[derive(Clone, Default)]
pub struct Recorder(Option<Rc<Inner>>);

impl fmt::Debug for Recorder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.0.is_some() { "Recorder" } else { "Recorder(off)" })
    }
}

/// What is wanted of the requests that passed.
#[derive(Clone, Debug, Default)]
pub(crate) struct Wanted {
    pub(crate) id: u64,
    pub(crate) failed: bool,
    /// Addresses of the client's connection as this proxy has them, and the stream: any of these.
    pub(crate) clients: Vec<(SocketAddr, SocketAddr, u32)>,
    /// The same of the connection that it went out on.
    pub(crate) upstreams: Vec<(SocketAddr, SocketAddr, u32)>,
    /// The latest, at most.
    pub(crate) limit: usize,
    /// And however many came since, those of which more is kept: they failed, or a tap has shown them.
    pub(crate) with_kept: bool,
    /// Without what was on the wire.
    pub(crate) in_short: bool,
}

pub(crate) struct Inner {
    direction: Direction,
    pub(super) clock: Clock,
    pub(super) digester: RefCell<Digester>,
    limit: usize,
    keep_answers: bool,
    /// For what is logged.
    redactor: Redactor,
    used: Cell<usize>,
    live: RefCell<Vec<Rc<Recording>>>,
    ended: RefCell<VecDeque<Rc<Recording>>>,
    /// Where the search for something to forget goes on.
    hand: Cell<usize>,
    failures: RefCell<Failures>,
    exchanges: RefCell<Ring>,
    /// Ids that are taken: the next, and the end.
    ids: Cell<(u64, u64)>,
    compared: Cell<u64>,
    disagreements: [Counter; 2],
    told: Cell<Option<Instant>>,
}

/// Connections of this process so far.
static CONNECTIONS: AtomicU64 = AtomicU64::new(0);
/// Ids of requests that were taken by all recorders of this process.
static REQUESTS: AtomicU64 = AtomicU64::new(1);

fn next_connection() -> u64 {
    CONNECTIONS.fetch_add(1, Relaxed) + 1
}

/// A number for a request that counts no recorder.
pub(crate) fn next_request() -> u64 {
    REQUESTS.fetch_add(1, Relaxed)
}

impl Recorder {
    /// A recorder, as the settings want it: off where they say so.
    pub(crate) fn new(settings: &settings::Settings, direction: Direction, shard: &Shard) -> Self {
        // Two halves on each worker.
        let limit = settings.recorder.memory / (2 * settings.workers.max(1));
        if limit < FRESH {
            return Self(None);
        }
        let keep_answers = settings.recorder.keep_answers;
        let redactor = settings.sight.redactor.clone();
        let inner = Inner::new(direction, (limit, keep_answers), redactor, shard);
        Self(Some(Rc::new(inner)))
    }

    /// Records what passes on a connection that HTTP is spoken on. What was read of it already is in its prefix.
    pub(crate) fn http(&self, about: About, io: Io) -> (Io, Tape) {
        let Some(inner) = &self.0 else {
            return (io, Tape::default());
        };
        let (stream, prefix) = io.into_parts();
        let recording = inner.begin(about, stream.tcp());
        let tape = Tape::new(Rc::clone(&recording));
        if !prefix.is_empty() {
            recording.read(&prefix);
        }
        let recorded = Stream::Recorded(Box::new(Recorded::new(stream, tape.clone())));
        (Rewind::new(recorded, prefix), tape)
    }

    /// Records a connection that is relayed as bytes: how long it lived, how much it moved, how it ended.
    pub(crate) fn relay(&self, about: About, tcp: &TcpStream) -> Tape {
        match &self.0 {
            Some(inner) => Tape::new(inner.begin(about, tcp)),
            None => Tape::default(),
        }
    }

    /// A connection was given up before it was known what for. Gives its number.
    pub(crate) fn given_up(&self, about: About, error: &ProxyError) -> LegId {
        let Some(inner) = &self.0 else {
            return LegId::default();
        };
        let recording = Recording::new(inner, next_connection(), about, None);
        let place = whole(&recording);
        Tape::new(recording).refused(error);
        place
    }

    /// A request has ended. `id` where it has a number already.
    pub(crate) fn request_ended(&self, id: Option<u64>, legs: (&Leg, &Leg), outcome: &Outcome) {
        let Some(inner) = &self.0 else { return };
        let ids = (legs.0.id(), legs.1.id());
        let started = inner.clock.at(outcome.started);
        let duration = inner.clock.now().saturating_sub(started);
        let id = id.unwrap_or_else(|| inner.next_id());
        let mut exchange = Exchange::new(id, started, duration, ids, outcome);
        if let Some((verdict, reason)) = inner.failed(outcome) {
            exchange.failed = true;
            inner.request_failed(&exchange, (verdict, reason), [legs.0.tape(), legs.1.tape()]);
        }
        inner.exchanges.borrow_mut().push(exchange);
    }

    /// Somebody was shown a request that has just ended: its frames are kept, as they may be looked at next.
    pub(crate) fn request_shown(&self, id: u64, legs: (&Leg, &Leg)) {
        let Some(inner) = &self.0 else { return };
        let exchange = inner.exchanges.borrow().latest().find(|one| one.id == id).cloned();
        if let Some(exchange) = exchange {
            let recordings = [legs.0, legs.1].into_iter().filter_map(|leg| leg.tape().recording());
            inner.shown(&exchange, recordings.cloned());
        }
    }

    /// Copies what sight asks for: connections, and with `failures` those as well.
    pub(crate) fn copy(&self, query: &Query, failures: bool) -> Option<RecorderCopy> {
        let inner = self.0.as_ref()?;
        let mut copy = inner.summary();
        copy.recordings = inner.recordings(query);
        if let Some(leg) = query.leg {
            inner.add_shown(&mut copy.recordings, query, leg);
        }
        if failures {
            copy.failures = inner.copies_of(inner.failures.borrow().all());
            let bare = inner.bare_legs(&copy);
            copy.recordings.extend(bare);
        }
        Some(copy)
    }

    /// Copies of requests, with the recordings of their connections.
    pub(crate) fn exchanges(&self, wanted: &Wanted) -> Option<RecorderCopy> {
        let inner = self.0.as_ref()?;
        let mut copy = inner.summary();
        copy.exchanges = inner.wanted(wanted);
        let mut ids: Vec<u64> = copy
            .exchanges
            .iter()
            .flat_map(|exchange| [exchange.client.connection, exchange.upstream.connection])
            .collect();
        ids.sort_unstable();
        ids.dedup();
        let records = (!wanted.in_short).then_some(0);
        let found = |id: &u64| match inner.find(*id) {
            Some(recording) => Some(recording.copy(records)),
            // Of what failed on a connection that is gone, whose it was.
            None if wanted.in_short => {
                let failures = inner.failures.borrow();
                failures.find(*id).map(|recording| recording.copy(None))
            }
            None => None,
        };
        copy.recordings = ids.iter().filter_map(found).collect();
        if !wanted.in_short {
            let failures = inner.failures.borrow();
            let is_wanted = |failure: &&Failure| {
                let of = failure.facts.exchange.as_ref();
                of.is_some_and(|of| copy.exchanges.iter().any(|exchange| exchange.id == of.id))
            };
            copy.failures = inner.copies_of(failures.all().chain(failures.shown()).filter(is_wanted));
        }
        Some(copy)
    }

    #[cfg(test)]
    pub(crate) fn for_tests() -> Self {
        Self::with_clock(Clock::new())
    }

    #[cfg(test)]
    pub(super) fn with_clock(clock: Clock) -> Self {
        let shard = crate::metrics::Registry::new(Duration::from_secs(60)).shard();
        let redactor = Redactor::own().clone();
        let inner = Inner::new(Direction::Inbound, (1024 * 1024, true), redactor, &shard);
        Self(Some(Rc::new(Inner { clock, ..inner })))
    }

    #[cfg(test)]
    pub(super) fn recording_for_tests(&self) -> Rc<Recording> {
        let inner = self.0.as_ref().expect("on");
        Recording::new(
            inner,
            1,
            About::new(super::recording::Peer::App, true, Speaks::Http2),
            None,
        )
    }

    #[cfg(test)]
    pub(super) fn inner(&self) -> &Rc<Inner> {
        self.0.as_ref().expect("on")
    }
}

impl Inner {
    fn new(direction: Direction, (limit, keep_answers): (usize, bool), redactor: Redactor, shard: &Shard) -> Self {
        let count = |side| {
            let labels = LabelSet::builder()
                .label("side", side)
                .label("direction", direction.as_str())
                .build();
            shard.counter(&family::SHEER_LIBRARY_DISAGREEMENTS_TOTAL, &labels)
        };
        Self {
            direction,
            clock: Clock::new(),
            digester: RefCell::default(),
            limit,
            keep_answers,
            redactor,
            used: Cell::new(0),
            live: RefCell::default(),
            ended: RefCell::default(),
            hand: Cell::new(0),
            failures: RefCell::new(Failures::new(limit / 4)),
            exchanges: RefCell::default(),
            ids: Cell::new((0, 0)),
            compared: Cell::new(0),
            disagreements: [count("read"), count("written")],
            told: Cell::new(None),
        }
    }

    fn next_id(&self) -> u64 {
        let (next, end) = self.ids.get();
        let (next, end) = if next == end {
            let first = REQUESTS.fetch_add(ID_BLOCK, Relaxed);
            (first, first + ID_BLOCK)
        } else {
            (next, end)
        };
        self.ids.set((next + 1, end));
        next
    }

    fn begin(self: &Rc<Self>, about: About, tcp: &TcpStream) -> Rc<Recording> {
        let decoded = matches!(about.speaks, Speaks::Http1 | Speaks::Http2);
        let has_room = decoded && self.make_room();
        let (now, accepted, room) = (self.clock.now(), about.accepted, self.room(0));
        let flow = match about.speaks {
            Speaks::Http2 if has_room => Some(Flow::http2(now, accepted, room)),
            Speaks::Http1 if has_room => Some(Flow::http1(now, accepted, room)),
            _ => None,
        };
        let id = next_connection();
        let about = About {
            local: about.local.or_else(|| tcp.local_addr().ok().map(crate::sys::canonical)),
            remote: about.remote.or_else(|| tcp.peer_addr().ok().map(crate::sys::canonical)),
            ..about
        };
        let recording = Recording::new(self, id, about, flow);
        if has_room {
            recording.account(FRESH);
        } else if decoded {
            recording.forget("memory");
        }
        recording.socket(Some(tcp.as_raw_fd()));
        self.live.borrow_mut().push(Rc::clone(&recording));
        recording
    }

    /// What a segment may take, so that all connections fit into half of the memory: each has two, which may have grown to twice as much. The other
    /// half is for tables, failures, and what has ended.
    ///
    /// `counted` is what the connection that asks has now. One that says much gets of what silent ones leave free, some times its share: they may all
    /// begin to speak before that is seen.
    pub(super) fn room(&self, counted: usize) -> usize {
        let connections = self.limit / 2;
        let share = connections / 4 / self.live.borrow().len().max(1);
        let ended: usize = self.ended.borrow().iter().map(|one| one.accounted()).sum();
        let others = self.used.get().saturating_sub(ended + counted);
        let free = connections.saturating_sub(others) / 4;
        let room = free.min(share * MOST_OF_SHARES).max(share);
        room.clamp(*SEGMENT.start(), *SEGMENT.end())
    }

    /// Makes sure that there is room for another connection: what ended long ago goes first, then what has been silent longest.
    fn make_room(&self) -> bool {
        let short = || self.taken() + FRESH > self.limit;
        self.forget_ended_while(short);
        if short() {
            let live = self.live.borrow();
            let from = self.hand.get();
            let looked_at = (from..from + LOOKED_AT.min(live.len())).map(|at| &live[at % live.len()]);
            let silent = looked_at.filter(|one| one.has_flow()).min_by_key(|one| one.active());
            if let Some(silent) = silent {
                silent.forget("memory");
            }
            self.hand.set(from.wrapping_add(LOOKED_AT) % live.len().max(1));
            drop(live);
            self.let_go();
        }
        !short()
    }

    /// Forgets what ended, the oldest first, as long as this says so. What failures hold of it is theirs from then on.
    fn forget_ended_while(&self, short: impl Fn() -> bool) {
        while short() {
            let Some(ended) = self.ended.borrow_mut().pop_front() else {
                break;
            };
            ended.forget("memory");
            self.let_go();
        }
    }

    /// A segment leaves its log while streams are open that have something in it. Says whether anything of it is kept.
    pub(super) fn keep_ahead(&self, recording: &Rc<Recording>, leaving: &Leaving) -> bool {
        let mut failures = self.failures.borrow_mut();
        failures.keep_ahead(recording, leaving, self.clock.now())
    }

    pub(super) fn forget_ahead(&self, leg: LegId) -> bool {
        self.failures.borrow_mut().forget_ahead(leg)
    }

    pub(super) fn forget_ahead_of(&self, connection: u64) {
        self.failures.borrow_mut().forget_ahead_of(connection);
    }

    fn let_go(&self) {
        self.failures.borrow_mut().let_go(self.clock.now());
    }

    /// What connections and failures take.
    fn taken(&self) -> usize {
        self.used.get() + self.failures.borrow().bytes()
    }

    /// Recordings have grown: where that is too much together, what has ended is forgotten, then the older half of what has been silent longest. No
    /// open connection loses its thread.
    pub(super) fn keep_within(&self) {
        self.let_go();
        let over = || self.taken() > self.limit;
        self.forget_ended_while(over);
        if !over() {
            return;
        }
        let live = self.live.borrow();
        let from = self.hand.get();
        let mut looked_at: Vec<_> = (from..from + LOOKED_AT.min(live.len()))
            .map(|at| &live[at % live.len()])
            .collect();
        looked_at.sort_by_key(|one| one.active());
        for one in looked_at {
            one.shorten();
            self.let_go();
            if !over() {
                break;
            }
        }
        self.hand.set(from.wrapping_add(LOOKED_AT) % live.len().max(1));
    }

    pub(super) fn account(&self, before: usize, now: usize) {
        self.used.set(self.used.get() + now - before);
    }

    pub(super) fn compared(&self, blocks: u64) {
        self.compared.set(self.compared.get() + blocks);
    }

    /// A connection has ended.
    pub(super) fn ended(&self, recording: &Rc<Recording>, ending: Ending) {
        let mut live = self.live.borrow_mut();
        if let Some(at) = live.iter().position(|other| Rc::ptr_eq(other, recording)) {
            live.swap_remove(at);
        }
        drop(live);
        if !ending.clean && !recording.is_judged() {
            self.connection_failed(recording, ending);
        }
        if recording.is_empty() {
            return;
        }
        let mut ended = self.ended.borrow_mut();
        ended.push_back(Rc::clone(recording));
        let mut taken: usize = ended.iter().map(|one| one.accounted()).sum();
        while ended.len() > ENDED || (taken > self.limit / ENDED_SHARE && ended.len() > 1) {
            let Some(oldest) = ended.pop_front() else { break };
            taken -= oldest.accounted();
            oldest.forget("memory");
        }
        drop(ended);
        self.let_go();
    }

    fn find(&self, id: u64) -> Option<Rc<Recording>> {
        let is = |one: &&Rc<Recording>| one.id() == id;
        let live = self.live.borrow().iter().find(is).cloned();
        live.or_else(|| self.ended.borrow().iter().find(is).cloned())
    }

    /// Why a request failed; none where it did not.
    fn failed(&self, outcome: &Outcome) -> Option<(Option<Verdict>, Cow<'static, str>)> {
        let reset = |code: ResetCode| !matches!(code.0, h2::Reason::CANCEL | h2::Reason::NO_ERROR);
        match outcome.end {
            End::Proxy { verdict, reason } => Some((Some(verdict), reason.into())),
            End::ServerReset(_) => Some((Some(Verdict::Application), "server-reset".into())),
            End::ClientReset(code) if reset(code) => Some((Some(Verdict::Application), "client-reset".into())),
            End::Dropped => Some((Some(Verdict::Proxy), "dropped".into())),
            End::Complete if self.keep_answers && !outcome.is_success() => {
                let reason = match (outcome.grpc_status, outcome.status) {
                    (Some(code), _) if code != 0 => format!("grpc-{code}"),
                    (_, Some(status)) => format!("status-{}", status.as_u16()),
                    (_, None) => "no-status".to_owned(),
                };
                Some((Some(Verdict::Application), reason.into()))
            }
            End::ClientReset(_) | End::Complete => None,
        }
    }

    fn request_failed(
        &self,
        exchange: &Exchange,
        (verdict, reason): (Option<Verdict>, Cow<'static, str>),
        tapes: [&Tape; 2],
    ) {
        let recordings = tapes.into_iter().filter_map(Tape::recording);
        let held = recordings
            .map(|recording| (Rc::clone(recording), recording.segments()))
            .collect();
        let place = if exchange.upstream.is_known() {
            exchange.upstream
        } else {
            exchange.client
        };
        let facts = Facts {
            kind: FailureKind::Request,
            verdict,
            reason,
            exchange: Some(exchange.clone()),
            ..self.facts(place)
        };
        self.keep(Failure::new(facts, held));
    }

    /// A request that was shown: of one that failed as much is kept anyway.
    pub(super) fn shown(&self, exchange: &Exchange, recordings: impl Iterator<Item = Rc<Recording>>) {
        let now = self.clock.now();
        let of_many = self.exchanges.borrow().is_fast(now);
        if exchange.failed || !self.failures.borrow_mut().takes_shown(exchange.id, now, of_many) {
            return;
        }
        let facts = Facts {
            kind: FailureKind::Request,
            exchange: Some(exchange.clone()),
            ..self.facts(LegId::default())
        };
        let held = recordings.map(|recording| {
            let streams = facts.streams(recording.id());
            let all = recording.segments();
            // What ends it may not be written yet.
            let last = all.len().saturating_sub(1);
            let wanted = all.into_iter().enumerate();
            let wanted = wanted.filter(|(at, segment)| *at == last || has_any(segment, &streams));
            (recording, wanted.map(|(_, segment)| segment).collect())
        });
        let held = held.collect();
        let request = Failure::new(facts, held);
        self.failures.borrow_mut().push_shown(request);
    }

    fn connection_failed(&self, recording: &Rc<Recording>, ending: Ending) {
        let (verdict, reason) = match ending.how {
            How::PeerBroke(
                io::ErrorKind::TimedOut | io::ErrorKind::HostUnreachable | io::ErrorKind::NetworkUnreachable,
            ) => (Some(Verdict::Network), "connection-lost"),
            How::PeerBroke(_) => (None, "connection-broken"),
            How::Reset => (None, "connection-reset"),
            How::PeerClosed => (None, "connection-closed-early"),
            How::Closed => (None, "connection-ended"),
        };
        let facts = Facts {
            kind: FailureKind::Connection,
            verdict,
            reason: reason.into(),
            ..self.facts(whole(recording))
        };
        let held = vec![(Rc::clone(recording), recording.segments())];
        self.keep(Failure::new(facts, held));
    }

    /// A relayed connection failed, or never got a server's side.
    pub(super) fn relay_failed(&self, (client, server): (&Rc<Recording>, Option<&Rc<Recording>>), fault: Fault) {
        let facts = Facts {
            kind: FailureKind::Connection,
            verdict: Some(fault.verdict),
            reason: fault.reason.into(),
            message: fault.message,
            relay: Some((whole(client), server.map_or(LegId::default(), whole))),
            ..self.facts(whole(server.unwrap_or(client)))
        };
        let both = [Some(client), server].into_iter().flatten();
        let held = both.map(|recording| (Rc::clone(recording), recording.segments()));
        self.keep(Failure::new(facts, held.collect()));
    }

    /// Lens and library differ.
    pub(super) fn disagreed(&self, recording: &Rc<Recording>, found: Found) {
        self.disagreements[usize::from(found.written)].inc();
        // A library that is wrong is so for every block, and showing one costs more than a request: some a second tell as much as all.
        let now = Instant::now();
        if self
            .told
            .get()
            .is_some_and(|last| now.duration_since(last) < TELL_INTERVAL)
        {
            return;
        }
        self.told.set(Some(now));
        let difference = Difference {
            written: found.written,
            kind: found.kind,
            wire: recording.wire_list(found.number),
            library: found.library,
        };
        tell(recording, found.stream, &difference, &self.redactor);
        let place = LegId {
            connection: recording.id(),
            stream: found.stream,
        };
        let message = if difference.written {
            "the bytes that the HTTP library wrote say something else than it was given"
        } else {
            "the HTTP library reported something else than the bytes say"
        };
        let facts = Facts {
            kind: FailureKind::Disagreement(Box::new(difference)),
            verdict: Some(Verdict::ProxyLibrary),
            reason: "library-disagreement".into(),
            message: message.to_owned(),
            ..self.facts(place)
        };
        let held = vec![(Rc::clone(recording), recording.segments())];
        self.keep(Failure::new(facts, held));
    }

    fn facts(&self, place: LegId) -> Facts {
        Facts {
            number: self.failures.borrow().total + 1,
            at: self.clock.now(),
            kind: FailureKind::Connection,
            verdict: None,
            reason: Cow::Borrowed(""),
            message: String::new(),
            exchange: None,
            relay: None,
            place,
        }
    }

    fn keep(&self, failure: Failure) {
        self.failures.borrow_mut().push(failure);
    }

    #[cfg(test)]
    pub(super) fn used(&self) -> usize {
        self.taken()
    }

    #[cfg(test)]
    pub(super) fn credit(&self) -> i64 {
        self.failures.borrow().credit()
    }

    #[cfg(test)]
    pub(super) fn held(&self) -> usize {
        self.failures.borrow().bytes()
    }

    #[cfg(test)]
    pub(super) fn disagreements(&self) -> [u64; 2] {
        self.disagreements.each_ref().map(Counter::value)
    }
}

/// A connection as a whole.
fn whole(recording: &Rc<Recording>) -> LegId {
    LegId {
        connection: recording.id(),
        stream: 0,
    }
}

/// Both lists, for the log.
fn tell(recording: &Recording, stream: u32, difference: &Difference, redactor: &Redactor) {
    let Difference {
        written,
        kind,
        wire,
        library,
    } = difference;
    let about = recording.about();
    tracing::error!(
        verdict = %Verdict::ProxyLibrary,
        connection = recording.id(),
        remote = ?about.remote,
        stream,
        side = if *written { "written" } else { "read" },
        block = ?kind,
        wire = %words(wire.as_ref(), redactor),
        library = %words(library.as_ref(), redactor),
        "library-disagreement: the HTTP library and the bytes on the wire say different things; `sheer frames` shows the frames"
    );
}

fn words(list: Option<&List>, redactor: &Redactor) -> String {
    let Some(list) = list else {
        return "(cannot be decoded, or is no longer kept)".to_owned();
    };
    let field = |(name, value): &(Vec<u8>, Vec<u8>)| {
        let (value, _) = redactor.value(name, value);
        format!("{}: {}", name.escape_ascii(), value.escape_ascii())
    };
    list.iter().map(field).collect::<Vec<_>>().join("; ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_logged_of_a_list_has_none_of_the_secrets_that_settings_name() {
        let redactor = Redactor::new(&[], &["x-account".to_owned()]).with_fields(&["iban".to_owned()]);
        let field = |name: &str, value: &str| (name.into(), value.into());
        let list = [
            field(":path", "/pay?iban=planted&page=2"),
            field("x-account", "planted"),
            field("x-tenant", "acme"),
        ];
        let said = words(Some(&list.into_iter().collect()), &redactor);
        assert!(!said.contains("planted"), "{said}");
        assert!(
            said.contains("&page=2; x-account: hash:") && said.ends_with("x-tenant: acme"),
            "{said}"
        );
    }
}
