//! Frames that were recorded, and those to come. What follows is fetched from the recorder while somebody reads: a reader that is slow, or stuck, costs the
//! data path nothing, and is told how much it missed.

use std::{
    collections::{HashMap, HashSet, VecDeque},
    sync::Arc,
    time::{Duration, Instant},
};

use futures::stream::{BoxStream, StreamExt as _, unfold};
use sheer_api::{
    names,
    v1::{self, frame_event::Event},
};
use sheer_lens::grpc;
use tonic::Status;

use super::{
    super::service::Sight,
    Right, allowed,
    connections::{connection, direction, ending},
    exchanges::{self, words},
    peer, redactor, show,
};
use crate::{
    exchange::End,
    record::{
        Caller, Detail, Exchange, FailureCopy, FailureKind, LegId, Peer, Query, RecorderCopy, RecordingCopy, Shown,
    },
    redact::Redactor,
};

/// How long somebody who follows waits for what is new.
const LONGEST: Duration = Duration::from_millis(100);
/// The same while logs forget quickly.
const SHORTEST: Duration = Duration::from_millis(5);
/// Rounds in which no log began a new segment, before the next wait is longer.
const QUIET: u32 = 10;
/// How often a reader is told how many frames it missed.
const TOLD: Duration = Duration::from_secs(1);
/// Frames of a connection that died, where nobody says how many.
const OF_DEAD: usize = 64;

/// The recorded frames, and where it was asked for, what follows.
pub(in crate::sight) async fn frames(
    sight: Arc<Sight>,
    asked: v1::FramesRequest,
) -> Result<BoxStream<'static, Result<v1::FrameEvent, Status>>, Status> {
    let rights = allowed(asked.rights.clone(), Right::Frames)?;
    let redactor = redactor(&sight, &rights);
    let leg = LegId {
        connection: asked.connection,
        stream: asked.stream.unwrap_or(0),
    };
    let is_one = leg.connection > 0 && leg.stream > 0 && !asked.follow;
    let query = Query {
        peer: peer(&asked.peer)?,
        connection: asked.connection,
        ended: true,
        records: Some(Vec::new()),
        leg: is_one.then_some(leg),
    };
    let mut reading = Reading {
        sight,
        asked,
        query,
        redactor,
        pending: VecDeque::new(),
        next: HashMap::new(),
        closed: HashSet::new(),
        failures: 0,
        rounds: 0,
        pace: Pace::default(),
        missed: Missed::default(),
    };
    if reading.asked.only_new {
        // Before anything is answered: whoever has the answer misses nothing.
        reading.first_round().await;
    }
    Ok(unfold(reading, |mut reading| async move {
        let event = reading.next().await?;
        Some((Ok(event), reading))
    })
    .boxed())
}

struct Reading {
    sight: Arc<Sight>,
    asked: v1::FramesRequest,
    query: Query,
    redactor: Redactor,
    pending: VecDeque<v1::FrameEvent>,
    /// Of each connection, the record to show next.
    next: HashMap<u64, u64>,
    /// Connections whose end was shown.
    closed: HashSet<u64>,
    /// Failures that were shown, by the highest number of each half.
    failures: u64,
    rounds: u64,
    pace: Pace,
    missed: Missed,
}

/// Frames that passed too fast to be shown.
#[derive(Default)]
struct Missed {
    count: u64,
    told: Option<Instant>,
}

impl Missed {
    /// How many to tell of now: at once, and of more once in a while.
    fn untold(&mut self, now: Instant) -> Option<u64> {
        let is_early = self.told.is_some_and(|told| now.duration_since(told) < TOLD);
        if self.count == 0 || is_early {
            return None;
        }
        self.told = Some(now);
        Some(std::mem::take(&mut self.count))
    }
}

/// How long to wait for what is new: a log has two segments, so whoever looks before the second is full misses nothing.
struct Pace {
    wait: Duration,
    quiet: u32,
    /// A log has begun a new segment since it was looked at.
    has_rolled: bool,
}

impl Default for Pace {
    fn default() -> Self {
        Self {
            wait: SHORTEST * 2,
            quiet: 0,
            has_rolled: false,
        }
    }
}

impl Pace {
    /// A round is over: how long until the next.
    fn next(&mut self) -> Duration {
        if std::mem::take(&mut self.has_rolled) {
            (self.wait, self.quiet) = ((self.wait / 2).max(SHORTEST), 0);
        } else {
            self.quiet += 1;
            if self.quiet >= QUIET {
                (self.wait, self.quiet) = ((self.wait * 2).min(LONGEST), 0);
            }
        }
        self.wait
    }
}

impl Reading {
    /// What is there already is only counted.
    async fn first_round(&mut self) {
        self.round().await;
        self.rounds += 1;
        let is_old = |event: &v1::FrameEvent| matches!(event.event, Some(Event::Frame(_)));
        self.pending.retain(|event| !is_old(event));
    }

    async fn next(&mut self) -> Option<v1::FrameEvent> {
        loop {
            if let Some(event) = self.pending.pop_front() {
                return Some(event);
            }
            if self.rounds > 0 {
                if !self.asked.follow {
                    return None;
                }
                tokio::time::sleep(self.pace.next()).await;
            }
            self.round().await;
            self.rounds += 1;
        }
    }

    async fn round(&mut self) {
        if let Some(records) = &mut self.query.records {
            *records = self.next.iter().map(|(id, next)| (*id, *next)).collect();
        }
        let failures = self.asked.last_failures;
        let query = if failures {
            // Failures bring their recordings along.
            Query {
                connection: u64::MAX,
                ..Query::default()
            }
        } else {
            self.query.clone()
        };
        let halves = self.sight.workers().recorded(&query, failures).await;
        if halves.is_empty() && self.rounds == 0 {
            self.push(Event::Note(
                "this proxy records nothing: SHEER_PROXY_RECORDER is off".to_owned(),
            ));
        }
        if failures {
            self.failures(&halves);
            return;
        }
        for half in &halves {
            for recording in &half.recordings {
                self.recording(half, recording);
            }
        }
        if let Some(missed) = self.missed.untold(Instant::now()) {
            self.push(Event::Dropped(missed));
        }
    }

    fn push(&mut self, event: Event) {
        self.pending.push_back(v1::FrameEvent {
            event: Some(event),
            pod: String::new(),
        });
    }

    /// What is new of a connection.
    fn recording(&mut self, half: &RecorderCopy, recording: &RecordingCopy) {
        let id = recording.id;
        if self.closed.contains(&id) {
            return;
        }
        let known = self.next.get(&id).copied();
        self.pace.has_rolled |= known.is_some() && recording.segments.len() > 1;
        let wanted = |shown: &Shown| {
            let stream = shown.record.stream;
            shown.number >= known.unwrap_or(0) && self.asked.stream.is_none_or(|wanted| stream == wanted || stream == 0)
        };
        let mut shown: Vec<Shown> = recording.shown().into_iter().filter(wanted).collect();
        if known.is_none() {
            let of_stream = |shown: &Shown| self.asked.stream.is_none_or(|wanted| shown.record.stream == wanted);
            let relevant = self.asked.stream.is_none() || shown.iter().any(of_stream);
            // An old connection that has ended is of interest only to who asks for it.
            let is_wanted = self.asked.connection != 0 || (self.asked.follow && !self.is_first_of_new());
            if !relevant || (recording.ending.is_some() && !is_wanted) {
                self.next.insert(id, recording.next);
                self.closed.extend(recording.ending.map(|_| id));
                return;
            }
            keep_last(&mut shown, self.asked.limit as usize);
            self.push(Event::Connection(connection(half, recording)));
        } else if let Some(missed) = recording
            .forgotten()
            .checked_sub(known.unwrap_or(0))
            .filter(|missed| *missed > 0)
        {
            self.missed.count += missed;
        }
        self.next.insert(id, recording.next);
        self.shown(half, recording, &shown);
        if recording.ending.is_some() {
            self.closed.insert(id);
            self.next.remove(&id);
        }
    }

    /// Connections that have ended before are of no interest to who asks for what is new.
    fn is_first_of_new(&self) -> bool {
        self.asked.only_new && self.rounds == 0
    }

    fn shown(&mut self, half: &RecorderCopy, recording: &RecordingCopy, shown: &[Shown]) {
        for shown in shown {
            let frame = show::frame(recording.id, shown, half.clock, &self.redactor);
            let caller = recording.callers.find(frame.stream).map(caller);
            self.push(Event::Frame(v1::Frame { caller, ..frame }));
        }
        if let Some(ended) = recording.ending {
            let ended = ending(half.clock, ended, recording.standing.as_deref());
            let (at_us, written) = (ended.at_us, ended.by == "proxy");
            self.push(Event::Frame(v1::Frame {
                connection: recording.id,
                number: recording.next,
                at_us,
                written,
                r#type: "CLOSE".to_owned(),
                ending: Some(ended),
                ..v1::Frame::default()
            }));
        }
    }

    /// Whether not all connections are wanted.
    fn is_choosy(&self) -> bool {
        self.query.peer.is_some() || self.asked.connection != 0 || self.asked.stream.is_some()
    }

    /// Whether one of the connections of a failure is wanted.
    fn is_of_interest(&self, failure: &FailureCopy, recording: &RecordingCopy) -> bool {
        let is_of = |stream: u32| failure.facts.streams(recording.id).contains(&stream);
        self.query.peer.is_none_or(|peer| peer == recording.about.peer)
            && [0, recording.id].contains(&self.asked.connection)
            && self.asked.stream.is_none_or(is_of)
    }

    /// Failures that were not shown yet, oldest first.
    fn failures(&mut self, halves: &[RecorderCopy]) {
        let mut all: Vec<(&RecorderCopy, &FailureCopy)> = halves
            .iter()
            .flat_map(|half| half.failures.iter().map(move |failure| (half, failure)))
            .filter(|(half, failure)| half.clock.unix(failure.facts.at) as u64 > self.failures)
            .collect();
        all.sort_by_key(|(half, failure)| half.clock.unix(failure.facts.at));
        for (half, failure) in all {
            self.failures = half.clock.unix(failure.facts.at) as u64;
            let wanted: Vec<_> = failure
                .recordings
                .iter()
                .filter(|recording| self.is_of_interest(failure, recording))
                .collect();
            if wanted.is_empty() && self.is_choosy() {
                continue;
            }
            self.push(Event::Failure(failure_of(half, failure, &self.redactor)));
            for recording in wanted {
                let streams = failure.facts.streams(recording.id);
                let mut shown = recording.shown();
                shown.retain(|shown| {
                    streams.is_empty() || shown.record.stream == 0 || streams.contains(&shown.record.stream)
                });
                if streams.is_empty() {
                    let most = match self.asked.limit {
                        0 => OF_DEAD,
                        limit => limit as usize,
                    };
                    keep_last(&mut shown, most);
                } else {
                    around(&mut shown, &streams);
                    keep_last(&mut shown, self.asked.limit as usize);
                }
                self.push(Event::Connection(connection(half, recording)));
                self.shown(half, recording, &shown);
            }
        }
    }
}

/// Of the frames of the whole connection, those between the first and the last of the streams.
fn around(shown: &mut Vec<Shown>, streams: &[u32]) {
    let of_stream = |shown: &Shown| streams.contains(&shown.record.stream) && shown.record.stream != 0;
    let first = shown.iter().position(of_stream).unwrap_or(0);
    let last = shown
        .iter()
        .rposition(of_stream)
        .unwrap_or(shown.len().saturating_sub(1));
    // What ended the connection comes behind.
    let last = shown
        .iter()
        .rposition(|shown| shown.record.kind == 0x7)
        .map_or(last, |goaway| goaway.max(last));
    shown.truncate(last + 1);
    // And what set it up comes before.
    let is_setup = |shown: &Shown| matches!(shown.record.kind, 0x4 | 0x7);
    let mut at = 0;
    shown.retain(|shown| {
        at += 1;
        at > first || is_setup(shown)
    });
}

fn keep_last(shown: &mut Vec<Shown>, most: usize) {
    if most > 0 && shown.len() > most {
        shown.drain(..shown.len() - most);
    }
}

/// A failure in the words of the protocol.
fn failure_of(half: &RecorderCopy, failure: &FailureCopy, redactor: &Redactor) -> v1::Failure {
    let facts = &failure.facts;
    let (kind, disagreement) = match &facts.kind {
        FailureKind::Request => ("request", None),
        FailureKind::Connection => ("connection", None),
        FailureKind::Disagreement(difference) => {
            ("library-disagreement", Some(words::disagreement(difference, redactor)))
        }
    };
    let exchange = facts.exchange.as_ref();
    let [named_verdict, named_reason] = exchange.map_or_else(Default::default, |exchange| named(failure, exchange));
    let place = facts.place;
    let of_place = failure
        .recordings
        .iter()
        .find(|recording| recording.id == place.connection);
    v1::Failure {
        number: facts.number,
        at_us: half.clock.unix(facts.at),
        kind: kind.to_owned(),
        verdict: facts
            .verdict
            .map_or_else(String::new, |verdict| verdict.as_str().to_owned()),
        reason: facts.reason.clone().into_owned(),
        message: if facts.message.is_empty() {
            exchange
                .and_then(|exchange| said(failure, exchange))
                .unwrap_or_default()
        } else {
            facts.message.clone()
        },
        exchange: match exchange {
            Some(exchange) => Some(exchanges::exchange(half, exchange, &failure.recordings)),
            None => way(half, failure),
        },
        connection: place.connection,
        stream: place.stream,
        disagreement,
        caller: of_place
            .and_then(|recording| recording.callers.find(place.stream))
            .map(caller),
        named_verdict,
        named_reason,
        passed_on: exchange.is_some_and(|exchange| matches!(exchange.end, End::Complete | End::ServerReset(_))),
    }
}

fn caller(caller: Caller) -> v1::Caller {
    v1::Caller {
        address: caller.ip.to_string(),
        mesh: caller.mesh,
    }
}

/// Whence and where to a connection went that failed. None of one to the application that has requests of everybody.
fn way(half: &RecorderCopy, failure: &FailureCopy) -> Option<v1::Exchange> {
    let place = failure.facts.place;
    let first = failure.recordings.first()?;
    let (client, upstream) = match failure.facts.relay {
        Some(legs) => legs,
        None if first.about.accepted => (place, LegId::default()),
        None if half.is_outbound => (LegId::default(), place),
        None => return None,
    };
    let leg = |leg: LegId| exchanges::leg_with(leg, half, &failure.recordings);
    let opened = failure
        .recordings
        .iter()
        .map(|recording| recording.opened)
        .min()
        .unwrap_or(0);
    Some(v1::Exchange {
        id: 0,
        direction: direction(half).to_owned(),
        client: leg(client),
        upstream: leg(upstream),
        started_us: half.clock.unix(opened),
        duration_us: failure.facts.at.saturating_sub(opened),
    })
}

/// Verdict and reason that the answer itself has, where a sidecar gave it.
fn named(failure: &FailureCopy, exchange: &Exchange) -> [String; 2] {
    let upstream = failure
        .recordings
        .iter()
        .find(|one| one.id == exchange.upstream.connection);
    let mut named = [String::new(), String::new()];
    let Some(upstream) = upstream.filter(|upstream| upstream.about.peer == Peer::Mesh) else {
        return named;
    };
    let blocks = upstream
        .stream(exchange.upstream.stream)
        .into_iter()
        .filter(|shown| !shown.record.written);
    for field in blocks.filter_map(|shown| shown.block).flat_map(|block| block.fields) {
        let at = [names::VERDICT, names::REASON]
            .iter()
            .position(|name| name.as_bytes() == field.name);
        if let Some(at) = at {
            named[at] = String::from_utf8_lossy(&field.value).into_owned();
        }
    }
    named
}

/// What the client was told of a request that failed.
fn said(failure: &FailureCopy, exchange: &Exchange) -> Option<String> {
    let is_client = |recording: &&RecordingCopy| recording.id == exchange.client.connection;
    let client = failure.recordings.iter().find(is_client)?;
    let mut message = None;
    for shown in client.stream(exchange.client.stream) {
        if !shown.record.written {
            continue;
        }
        if let Detail::Head(head) = &shown.detail
            && let Some(message) = show::said(head)
        {
            return Some(message);
        }
        let Some(block) = shown.block else { continue };
        for field in block.fields {
            match &field.name[..] {
                b"l5d-proxy-error" => return Some(String::from_utf8_lossy(&field.value).into_owned()),
                b"grpc-message" => message = Some(grpc::metadata::message(&field.value)),
                _ => {}
            }
        }
    }
    message
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Looks at a log whose segment is full after this time; gives how often it had begun more than one since it was last looked at.
    fn missed(segment: Duration, rounds: usize) -> (usize, Duration) {
        let (mut pace, mut now, mut seen, mut missed) = (Pace::default(), Duration::ZERO, 0, 0);
        for _ in 0..rounds {
            now += pace.next();
            let begun = (now.as_nanos() / segment.as_nanos()) as usize;
            pace.has_rolled = begun > seen;
            missed += usize::from(begun > seen + 1);
            seen = begun;
        }
        (missed, pace.wait)
    }

    #[test]
    fn what_was_missed_is_told_at_once_and_then_in_sums() {
        let (mut missed, begin) = (Missed::default(), Instant::now());
        let mut tell = |count, after| {
            missed.count += count;
            missed.untold(begin + Duration::from_millis(after))
        };
        assert_eq!(tell(0, 0), None);
        assert_eq!(tell(3, 5), Some(3));
        assert_eq!([tell(1, 10), tell(2, 500), tell(4, 1_005)], [None, None, Some(7)]);
        assert_eq!(tell(0, 9_000), None);
    }

    #[test]
    fn who_follows_looks_as_often_as_logs_begin_a_new_segment() {
        for busy in [11, 40, 80, 150] {
            let (missed, wait) = missed(Duration::from_millis(busy), 400);
            assert_eq!(missed, 0, "a segment in {busy} ms, looked at every {wait:?}");
        }
        assert_eq!(
            missed(Duration::from_mins(5), 100).1,
            LONGEST,
            "a quiet one costs little"
        );
    }
}
