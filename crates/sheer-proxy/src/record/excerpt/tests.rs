//! Excerpts against what a replay shows, how much they take, and what a storm of failures may cost.

mod shown;

use std::time::{Duration, Instant};

use bytes::BytesMut;
use sheer_lens::hpack::ListKind;
use sheer_testkit::h2peer::{Block, Frame, split_headers};

use super::{packed::LONG_SECRET, *};
use crate::{
    error::ResetCode,
    exchange::{End, Outcome, Spoken},
    record::{
        About, FailureCopy, LegId, Peer, Query, Recorder, RecordingCopy, Speaks, Tape,
        exchange::{Exchange, Leg},
        failure::{Facts, Failure, FailureKind, Failures},
        flow::{Flow, Found},
        log::Form,
        recording::Recording,
        replay::{BlockField, Detail, LeftOut},
    },
    redact::Digest,
};

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// What failures may hold in a recorder of the default size, with two workers.
const QUARTER: usize = 256 * 1024;
const HEADERS: u8 = 0x1;
const RST_STREAM: u8 = 0x3;

fn bytes(frames: impl IntoIterator<Item = Frame>) -> BytesMut {
    let mut out = BytesMut::new();
    frames.into_iter().for_each(|frame| frame.encode(&mut out));
    out
}

/// A connection of HTTP/2 whose other side has said hello.
fn connection(recorder: &Recorder, id: u64, accepted: bool) -> Rc<Recording> {
    let inner = recorder.inner();
    let flow = Flow::http2(inner.clock.now(), accepted, inner.room(0));
    let about = About::new(if accepted { Peer::App } else { Peer::Mesh }, accepted, Speaks::Http2);
    let recording = Recording::new(inner, id, about, Some(flow));
    let (hello, settings) = (
        [PREFACE, &bytes([Frame::settings(&[(3, 100)])])].concat(),
        bytes([Frame::settings(&[])]),
    );
    if accepted {
        recording.read(&hello);
        recording.wrote(settings.len(), [&settings[..]]);
    } else {
        recording.wrote(hello.len(), [&hello[..]]);
        recording.read(&settings);
    }
    recording
}

fn request(nth: u64, token: &str) -> Block {
    Block::get("ledger.bank", &format!("/x/{nth}"))
        .literal("authorization", token)
        .insert("user-agent", "grpc-go/1.60")
        .literal("x-request-id", format!("{nth:032x}"))
}

/// A request on a leg: it comes in on an accepted connection, and goes out on the other.
fn ask(leg: &Rc<Recording>, stream: u32, block: &Block) {
    let head = bytes([Frame::headers(stream, block.bytes()).end_headers().end_stream()]);
    if leg.about().accepted {
        leg.read(&head);
    } else {
        leg.wrote(head.len(), [&head[..]]);
    }
}

/// Its answer, as frames.
fn answer(leg: &Rc<Recording>, frames: impl IntoIterator<Item = Frame>) {
    let frames = bytes(frames);
    if leg.about().accepted {
        leg.wrote(frames.len(), [&frames[..]]);
    } else {
        leg.read(&frames);
    }
}

fn facts(number: u64, at: u64, legs: [LegId; 2]) -> Facts {
    let exchange = Exchange::new(number, at, 5, (legs[0], legs[1]), &outcome());
    Facts {
        number,
        at,
        kind: FailureKind::Request,
        verdict: None,
        reason: "server-reset".into(),
        message: String::new(),
        exchange: Some(exchange),
        relay: None,
        place: legs[1],
    }
}

fn outcome() -> Outcome {
    Outcome {
        spoken: Spoken::Http2,
        started: Instant::now(),
        first_byte: None,
        status: None,
        grpc_status: None,
        retry_after: None,
        request_bytes: 0,
        response_bytes: 0,
        classes: None,
        stalls: [0; 2],
        trace: None,
        deadline: None,
        attempts: 0,
        passed_over: Vec::new(),
        end: End::ServerReset(ResetCode(h2::Reason::INTERNAL_ERROR)),
    }
}

/// A proxy between a client and a server, both busy.
struct Busy {
    recorder: Recorder,
    legs: [Rc<Recording>; 2],
    next: u32,
}

impl Busy {
    fn new() -> Self {
        Self::on(Recorder::for_tests())
    }

    fn on(recorder: Recorder) -> Self {
        let legs = [connection(&recorder, 1, true), connection(&recorder, 2, false)];
        Self {
            recorder,
            legs,
            next: 1,
        }
    }

    fn begin(&mut self, token: &str) -> u32 {
        let stream = self.next;
        self.next += 2;
        for leg in &self.legs {
            ask(leg, stream, &request(stream.into(), token));
        }
        stream
    }

    /// A request that ends well.
    fn pass(&mut self, token: &str) {
        let stream = self.begin(token);
        for leg in self.legs.iter().rev() {
            answer(
                leg,
                [Frame::headers(stream, Block::status(200).bytes())
                    .end_headers()
                    .end_stream()],
            );
        }
    }

    /// One that is answered and reset. The client hears of it once that is known.
    fn fail(&mut self, token: &str) {
        let stream = self.begin(token);
        let [client, upstream] = &self.legs;
        let frames = || {
            let head = Frame::headers(stream, Block::status(200).literal("x-served-by", "ledger-0").bytes());
            [head.end_headers(), Frame::reset(stream, 2)]
        };
        answer(upstream, frames());
        let legs = [client, upstream].map(|leg| Leg::new(&Tape::new(Rc::clone(leg)), stream));
        self.recorder.request_ended(None, (&legs[0], &legs[1]), &outcome());
        answer(client, frames());
    }

    /// What passes while this time does, and at least so much that nothing of what was before is in the log.
    fn time(&mut self, duration: Duration, token: &str) {
        let began = Instant::now();
        let mut passed = 0;
        while passed < 25 || began.elapsed() < duration {
            self.pass(token);
            passed += 1;
        }
    }

    fn failures(&self) -> Vec<FailureCopy> {
        failures_of(&self.recorder)
    }
}

fn failures_of(recorder: &Recorder) -> Vec<FailureCopy> {
    let query = Query {
        connection: u64::MAX,
        ..Query::default()
    };
    recorder.copy(&query, true).expect("on").failures
}

/// Kinds of the frames that are kept of a leg's stream, and whether this token came, as such or as its digest.
fn kept(failure: &FailureCopy, recording: &RecordingCopy, token: &str) -> (Vec<u8>, bool) {
    let stream = failure.facts.streams(recording.id)[0];
    let shown = recording.stream(stream);
    let mut fields = shown
        .iter()
        .filter_map(|shown| shown.block.as_ref())
        .flat_map(|block| &block.fields);
    let came = fields
        .find(|field| field.name == b"authorization")
        .is_some_and(|field| {
            let digest = recording.excerpts.first().map(|_| Digest::of(token.as_bytes()));
            let value = if digest.is_some() { "" } else { token };
            (field.digest, &*field.value) == (digest, value.as_bytes())
        });
    (shown.iter().map(|shown| shown.record.kind).collect(), came)
}

/// Whether nothing of it is lost.
fn is_whole(failure: &FailureCopy, token: &str) -> bool {
    let is_kept =
        |recording: &RecordingCopy| kept(failure, recording, token) == (vec![HEADERS, HEADERS, RST_STREAM], true);
    failure.recordings.len() == 2 && failure.recordings.iter().all(is_kept)
}

#[test]
fn the_last_two_hundred_failures_keep_their_frames_whatever_passes() {
    let mut busy = Busy::new();
    // Each caller has its own.
    let token = |nth: usize| format!("Bearer {nth}{}", "t".repeat(6 * 1024));
    for nth in 0..210 {
        busy.fail(&token(nth));
        busy.time(Duration::from_millis(21), &token(nth + 1));
    }
    let failures = busy.failures();
    assert_eq!(failures.len(), 200);
    let excerpts = failures.iter().flat_map(|failure| &failure.recordings);
    let excerpts = excerpts.filter(|recording| !recording.excerpts.is_empty()).count();
    assert!(excerpts > 380, "{excerpts} excerpts: others hold segments");
    let lost = (10..)
        .zip(&failures)
        .filter(|(nth, failure)| !is_whole(failure, &token(*nth)));
    assert_eq!(lost.count(), 0);
    // The newest holds its segments.
    let newest = failures.last().expect("some");
    assert!(newest.recordings.iter().all(|recording| recording.excerpts.is_empty()));
    let held = busy.recorder.inner().held();
    let raw: usize = newest
        .recordings
        .iter()
        .flat_map(|recording| &recording.segments)
        .map(|segment| segment.memory())
        .sum();
    assert!(
        held <= QUARTER.max(QUARTER / 4 * 3 + 2 * raw),
        "{held}, {raw} of them raw"
    );
    assert!(
        busy.recorder.inner().used() <= 1024 * 1024,
        "{}",
        busy.recorder.inner().used()
    );
}

#[test]
fn where_texts_differ_as_many_as_fit_keep_their_frames() {
    let mut busy = Busy::new();
    let mut failures = Failures::new(QUARTER);
    let note = |nth: u64| format!("{nth}{}", "n".repeat(6 * 1024));
    for nth in 0..300 {
        push(&mut failures, &mut busy, nth, nth * 20_000, &note(nth));
        assert!(failures.bytes() <= QUARTER, "{}", failures.bytes());
    }
    let whole: Vec<u64> = failures
        .all()
        .filter(|failure| failure.excerpts.len() == 2 || !failure.held.is_empty())
        .map(|failure| failure.facts.number)
        .collect();
    // Each has 6 KiB and a little that others do not have: it stands once for both legs.
    assert!((20..=QUARTER / 6_000).contains(&whole.len()), "{}", whole.len());
    let oldest = 300 - whole.len() as u64;
    assert_eq!(whole, (oldest..300).collect::<Vec<_>>(), "the oldest lose theirs first");
}

/// A failure whose connections nobody else uses; of its request this is said too.
fn push(failures: &mut Failures, busy: &mut Busy, nth: u64, at: u64, note: &str) {
    failures.push(alone(busy, nth, at, note));
}

/// A request whose connections nobody else uses.
fn alone(busy: &Busy, nth: u64, at: u64, note: &str) -> Failure {
    let legs = [2 * nth + 1, 2 * nth + 2].map(|id| connection(&busy.recorder, id, id % 2 == 1));
    let held = legs.each_ref().map(|leg| {
        ask(leg, 1, &request(nth, "Bearer t").literal("x-note", note));
        answer(leg, [Frame::reset(1, 2)]);
        (Rc::clone(leg), leg.segments())
    });
    let ids = legs.each_ref().map(|leg| LegId {
        connection: leg.id(),
        stream: 1,
    });
    for leg in &legs {
        leg.forget("memory");
    }
    Failure::new(facts(nth, at, ids), held.into())
}

#[test]
fn a_storm_is_replayed_as_far_as_its_share_of_time_goes() {
    let mut busy = Busy::new();
    // Room for the newest, and for excerpts.
    let mut failures = Failures::new(128 * 1024);
    // A quarter of a millisecond is time enough for two connections of four frames.
    for nth in 0..300 {
        push(&mut failures, &mut busy, nth, nth * 250, "");
    }
    let excerpts = |failures: &Failures| failures.all().filter(|failure| failure.excerpts.len() == 2).count();
    let calm = excerpts(&failures);
    let newest = failures.all().last().expect("some");
    assert!(
        !newest.held.is_empty() && newest.excerpts.is_empty(),
        "the newest is held as it is"
    );
    assert!(calm > 30, "{calm}");
    // All at once: what was saved is spent, and then nothing is replayed.
    let mut nth = 300;
    while failures.credit() > 0 {
        push(&mut failures, &mut busy, nth, 75_000, "");
        nth += 1;
    }
    let spent = failures.credit();
    for _ in 0..200 {
        push(&mut failures, &mut busy, nth, 75_000, "");
        nth += 1;
    }
    assert_eq!((failures.credit(), excerpts(&failures)), (spent, 0));
    // From here on a record's worth comes with each, and some twenty are what one takes.
    for more in 1..=400 {
        push(&mut failures, &mut busy, nth + more, 75_000 + more * 4, "");
    }
    let few = excerpts(&failures);
    assert!((5..=20).contains(&few), "{few} of 200");
    assert!(failures.credit() > spent - 50, "{}", failures.credit());
}

/// A request that is under way.
struct Waiting {
    legs: [Leg; 2],
    stream: u32,
}

impl Busy {
    fn wait(&mut self, token: &str) -> Waiting {
        let stream = self.begin(token);
        let legs = self
            .legs
            .each_ref()
            .map(|leg| Leg::new(&Tape::new(Rc::clone(leg)), stream));
        Waiting { legs, stream }
    }

    /// Its server resets it.
    fn give_up(&self, waiting: Waiting) {
        let Waiting { legs, stream } = waiting;
        answer(&self.legs[1], [Frame::reset(stream, 2)]);
        self.recorder.request_ended(None, (&legs[0], &legs[1]), &outcome());
        answer(&self.legs[0], [Frame::reset(stream, 2)]);
    }

    /// Enough that nothing of what was before is in the logs.
    fn much(&mut self) {
        for _ in 0..1_000 {
            self.pass("Bearer other");
        }
    }
}

#[test]
fn a_call_that_fails_long_after_it_began_keeps_what_it_said() {
    let token = format!("Bearer {}", "t".repeat(LONG_SECRET));
    let mut busy = Busy::new();
    let first = busy.wait(&token);
    // It holds the segment that the first began in, also when the two are let go together.
    busy.fail("Bearer t");
    // On a connection of many, its number is far from theirs.
    busy.next += 200_000;
    busy.much();
    let second = busy.wait("Bearer short");
    busy.much();
    busy.give_up(first);
    let check = |busy: &Busy, token: &str| {
        let failures = busy.failures();
        let digest = (token.len() > "Bearer ".len() + LONG_SECRET - 1).then(|| Digest::of(token.as_bytes()));
        let newest = failures.last().expect("some");
        assert_eq!(newest.recordings.len(), 2);
        for recording in &newest.recordings {
            let shown = recording.stream(newest.facts.streams(recording.id)[0]);
            let kinds: Vec<u8> = shown.iter().map(|shown| shown.record.kind).collect();
            assert_eq!(kinds, [HEADERS, RST_STREAM]);
            assert!(shown[0].number + 1_000 < shown[1].number, "in their order");
            let fields = &shown[0].block.as_ref().expect("a head").fields;
            let field = fields.iter().find(|field| field.name == b"authorization").expect("one");
            assert_eq!(field.digest, digest);
            assert!(digest.is_some() || field.value == token.as_bytes());
            assert!(!recording.excerpts.is_empty());
        }
    };
    // As its connections are held, and once only excerpts are.
    check(&busy, &token);
    let first = busy.failures().pop().expect("some");
    assert!(first.recordings.iter().all(|recording| !recording.segments.is_empty()));
    busy.much();
    busy.give_up(second);
    check(&busy, "Bearer short");
    busy.much();
    busy.fail("Bearer t");
    busy.much();
    busy.fail("Bearer t");
    let failures = busy.failures();
    let oldest = &failures[1];
    for recording in &oldest.recordings {
        assert!(recording.segments.is_empty(), "let go");
        let kinds: Vec<u8> = recording
            .stream(oldest.facts.streams(recording.id)[0])
            .iter()
            .map(|shown| shown.record.kind)
            .collect();
        assert_eq!(kinds, [HEADERS, RST_STREAM]);
    }
}

#[test]
fn what_open_streams_said_takes_its_part_and_goes_when_they_end_well() {
    let mut busy = Busy::new();
    let waiting: Vec<Waiting> = (0..4_000).map(|_| busy.wait("Bearer t")).collect();
    busy.much();
    let held = busy.recorder.inner().held();
    // A quarter, and what their texts leave unused.
    assert!((QUARTER / 8..=QUARTER / 2).contains(&held), "{held}");
    // The other half of what may be replayed is for what has failed, but for the last segment.
    let credit = busy.recorder.inner().credit();
    assert!(credit > 10_000 - 5_000, "{credit}");
    drop(waiting);
    assert_eq!(busy.recorder.inner().held(), 0);
    // Nobody waits.
    busy.much();
    assert_eq!(busy.recorder.inner().held(), 0);
}

#[test]
fn nothing_is_kept_ahead_of_a_connection_that_is_over() {
    let mut busy = Busy::new();
    let one = busy.wait("Bearer t");
    // Nobody tells how these ended.
    for _ in 0..50 {
        busy.begin("Bearer t");
    }
    busy.much();
    drop(one);
    assert!(busy.recorder.inner().held() > 0);
    for leg in &busy.legs {
        leg.ended(None);
    }
    assert_eq!(busy.recorder.inner().held(), 0);
}

#[test]
fn a_disagreement_leaves_what_is_kept_of_an_open_stream_to_its_end() {
    let mut busy = Busy::new();
    let waiting = busy.wait("Bearer t");
    busy.much();
    let leg = Rc::clone(&busy.legs[0]);
    busy.recorder.inner().disagreed(
        &leg,
        Found {
            written: false,
            stream: waiting.stream,
            kind: ListKind::Request,
            number: u64::MAX,
            library: None,
        },
    );
    busy.give_up(waiting);
    for recording in &busy.failures().last().expect("some").recordings {
        assert!(!recording.excerpts.is_empty(), "{}", recording.id);
    }
}

#[test]
fn what_http1_failures_hold_is_bounded_while_nothing_more_fails() {
    let recorder = Recorder::for_tests();
    let inner = recorder.inner();
    let head = format!("GET / HTTP/1.1\r\nX-Note: {}\r\n\r\n", "n".repeat(1_000));
    let legs: Vec<Rc<Recording>> = (0..20)
        .map(|id| {
            let flow = Flow::http1(inner.clock.now(), true, inner.room(0));
            let about = About::new(Peer::App, true, Speaks::Http1);
            Recording::new(inner, id + 1, about, Some(flow))
        })
        .collect();
    for leg in &legs {
        let stream = leg.next_request();
        leg.head(false, Form::RequestHead, (head.as_bytes(), head.len()));
        let client = Leg::new(&Tape::new(Rc::clone(leg)), stream);
        recorder.request_ended(None, (&client, &Leg::default()), &outcome());
    }
    for leg in &legs {
        for _ in 0..200 {
            leg.next_request();
            leg.head(false, Form::RequestHead, (head.as_bytes(), head.len()));
        }
    }
    // The newest keeps its two segments.
    let held = inner.held();
    assert!(held <= QUARTER + 2 * 64 * 1024, "{held}");
    assert_eq!(failures_of(&recorder).len(), 20);
}

#[test]
fn segments_that_newer_failures_hold_are_not_let_go() {
    let recorder = Recorder::for_tests();
    let legs = [connection(&recorder, 1, true), connection(&recorder, 2, false)];
    let mut failures = Failures::new(1_024);
    for nth in 0..50 {
        let stream = nth as u32 * 2 + 1;
        for leg in &legs {
            ask(leg, stream, &request(nth, "Bearer t"));
        }
        let ids = [1, 2].map(|connection| LegId { connection, stream });
        let held = legs.each_ref().map(|leg| (Rc::clone(leg), leg.segments()));
        failures.push(Failure::new(facts(nth, nth, ids), held.to_vec()));
    }
    // What the connections have themselves is theirs.
    assert!(failures.bytes() <= 1_024, "{}", failures.bytes());
    for leg in &legs {
        leg.forget("memory");
    }
    failures.let_go(50);
    // Nothing would be gained by it.
    assert!(failures.bytes() > 1_024);
    assert!(failures.all().all(|failure| !failure.held.is_empty()));
}

#[test]
fn what_failures_no_longer_need_is_given_back() {
    let recorder = Recorder::for_tests();
    let mut excerpts = Excerpts::default();
    let mut all = Vec::new();
    for nth in 0..50 {
        let leg = connection(&recorder, nth, true);
        ask(&leg, 1, &request(nth, &format!("Bearer {nth}")));
        let segments: Segments = leg.segments().iter().map(|one| (order(one), Rc::clone(one))).collect();
        let want = Want {
            streams: vec![1],
            before: None,
            only_heads: false,
            from: 0,
        };
        let made = excerpts.distil(&leg, &segments, &[want]).0.pop().flatten();
        all.push((leg, made.expect("frames")));
    }
    let full = excerpts.bytes();
    excerpts.forget(&all[..40]);
    assert!(excerpts.bytes() < full / 2, "{} of {full}", excerpts.bytes());
    let left = excerpts.copy(&all[45].1).shown();
    let block = left.last().and_then(|shown| shown.block.as_ref()).expect("the request");
    assert!(block.fields.iter().any(|field| field.value == b"Bearer 45"));
    excerpts.forget(&all[40..]);
    assert_eq!(excerpts.bytes(), 0);
}

const SECRET: &str = "se";

/// Everything that frames can say.
fn zoo(leg: &Rc<Recording>) {
    let block = Block::get("ledger.bank", "/x")
        .insert("x-one", "1")
        .insert("x-two", "2".repeat(3_000))
        .insert("x-three", "3".repeat(3_000))
        .never_indexed("cookie", "s")
        .never_indexed("authorization", SECRET.repeat(LONG_SECRET))
        .literal("x-large", "l".repeat(5_000));
    answer_or_ask(leg, true, split_headers(1, &block, &[30, 200]));
    let again = Block::new()
        .table_size(100)
        .then(&Block::get("ledger.bank", "/y"))
        .indexed(2);
    answer_or_ask(leg, true, [Frame::headers(3, again.bytes()).end_headers()]);
    answer_or_ask(
        leg,
        true,
        [Frame::data(3, vec![0; 5_000]), Frame::window_update(0, 5_000)],
    );
    answer_or_ask(
        leg,
        false,
        [
            Frame::headers(1, Block::status(103).literal("link", "</a>").bytes()).end_headers(),
            Frame::headers(1, Block::status(200).bytes()).end_headers(),
            Frame::data(1, "some"),
            Frame::headers(1, Block::new().literal("grpc-status", "0").bytes())
                .end_headers()
                .end_stream(),
            Frame::new(
                0x5,
                0x4,
                3,
                [&8u32.to_be_bytes()[..], Block::get("a", "/pushed").bytes()].concat(),
            ),
            Frame::window_update(3, 70_000),
            Frame::new(0x2, 0, 3, vec![0x80, 0, 0, 1, 15]),
            Frame::new(0xfa, 7, 3, b"unknown".to_vec()),
            Frame::ping(*b"pingpong"),
            // Breaks a rule, in a name and in its table.
            Frame::headers(3, Block::status(200).literal("X-Upper", "u").indexed(99).bytes()).end_headers(),
            Frame::reset(3, 1),
            Frame::goaway(3, 1, "what went wrong"),
        ],
    );
}

fn answer_or_ask(leg: &Rc<Recording>, asks: bool, frames: impl IntoIterator<Item = Frame>) {
    let frames = bytes(frames);
    if leg.about().accepted == asks {
        leg.read(&frames);
    } else {
        leg.wrote(frames.len(), [&frames[..]]);
    }
}

#[test]
fn an_excerpt_shows_what_a_replay_shows() {
    let recorder = Recorder::for_tests();
    for accepted in [true, false] {
        let leg = connection(&recorder, 1, accepted);
        zoo(&leg);
        let segments: Segments = leg.segments().iter().map(|one| (order(one), Rc::clone(one))).collect();
        let want = |streams: &[u32]| Want {
            streams: streams.to_vec(),
            before: None,
            only_heads: false,
            from: 0,
        };
        let mut excerpts = Excerpts::default();
        let (made, _) = excerpts.distil(&leg, &segments, &[want(&[1, 3]), want(&[3]), want(&[])]);
        let mut whole: Vec<Shown> = segments
            .values()
            .flat_map(|segment| replay::segment(&segment.borrow(), accepted))
            .collect();
        // All but the long secret.
        let fields = whole.iter_mut().filter_map(|shown| shown.block.as_mut());
        let long = |field: &&mut BlockField| field.value == SECRET.repeat(LONG_SECRET).as_bytes();
        let mut secrets: Vec<_> = fields.flat_map(|block| &mut block.fields).filter(long).collect();
        assert_eq!(secrets.len(), 1);
        secrets[0].digest = Some(Digest::of(&std::mem::take(&mut secrets[0].value)));
        let told = |all: &[Shown], wanted: &dyn Fn(u32) -> bool| -> Vec<String> {
            let wanted = all.iter().filter(|shown| wanted(shown.record.stream));
            wanted.map(|shown| format!("{shown:?}")).collect()
        };
        let shown = |at: usize| excerpts.copy(made[at].as_ref().expect("frames")).shown();
        // All of it, as all frames are of these streams or of the connection.
        assert_eq!(told(&shown(0), &|_| true), told(&whole, &|_| true));
        assert_eq!(told(&shown(1), &|_| true), told(&whole, &|stream| stream != 1));
        assert_eq!(told(&shown(2), &|_| true), told(&whole, &|stream| stream == 0));
        // What an excerpt from before has is not there again.
        let late = Want {
            from: whole[5].number,
            ..want(&[1, 3])
        };
        let (late, _) = excerpts.distil(&leg, &segments, &[late]);
        let late = excerpts.copy(late[0].as_ref().expect("frames")).shown();
        assert_eq!(told(&late, &|_| true), told(&whole[5..], &|_| true));
        assert!(whole.len() > 18, "{whole:#?}");
        let broken = whole.iter().filter(|shown| !shown.violations.is_empty()).count();
        assert!(
            broken > 0
                && whole
                    .iter()
                    .any(|shown| shown.room.is_some_and(|room| room.stream.is_some()))
        );
    }
}

#[test]
fn heads_of_http1_are_kept_line_by_line_and_as_they_were() {
    let recorder = Recorder::for_tests();
    let inner = recorder.inner();
    let flow = Flow::http1(inner.clock.now(), true, inner.room(0));
    let leg = Recording::new(inner, 1, About::new(Peer::App, true, Speaks::Http1), Some(flow));
    let secret = "t".repeat(LONG_SECRET);
    let line = format!("Authorization: Bearer {secret}");
    let head =
        |nth: u32, line: &str| format!("GET /{nth} HTTP/1.1\r\nHost: ledger.bank\r\n{line}\r\nCookie: t\r\n\r\n");
    for nth in 1..=20 {
        assert_eq!(leg.next_request(), nth);
        let request = head(nth, &line);
        leg.head(false, Form::RequestHead, (request.as_bytes(), request.len()));
        let response = b"HTTP/1.1 502 Bad Gateway\r\nbroken";
        leg.head(true, Form::ResponseHead, (response, response.len()));
    }
    let segments: Segments = leg.segments().iter().map(|one| (order(one), Rc::clone(one))).collect();
    let wants: Vec<Want> = (1..=20)
        .map(|nth| Want {
            streams: vec![nth],
            before: None,
            only_heads: false,
            from: 0,
        })
        .collect();
    let mut excerpts = Excerpts::default();
    let (made, _) = excerpts.distil(&leg, &segments, &wants);
    for (nth, excerpt) in (1..).zip(&made) {
        let shown = excerpts.copy(excerpt.as_ref().expect("heads")).shown();
        let [Detail::Head(asked), Detail::Head(answered)] = [&shown[0].detail, &shown[1].detail] else {
            panic!("{shown:#?}");
        };
        // All but the long secret.
        assert_eq!(String::from_utf8_lossy(&asked.bytes), head(nth, "Authorization:"));
        let left_out = LeftOut {
            line: 2,
            length: line.len() as u32,
            digest: Digest::of(format!("Bearer {secret}").as_bytes()),
        };
        assert_eq!(asked.left_out, [left_out]);
        assert_eq!(
            (&*answered.bytes, answered.left_out.len()),
            (&b"HTTP/1.1 502 Bad Gateway\r\nbroken"[..], 0)
        );
    }
    // Twenty first lines, what repeats of the others once, and the digest.
    assert_eq!(excerpts.interner.hold(b"one more"), 20 + 6 + 1);
}

#[test]
fn a_connection_that_died_keeps_its_last_frames_whatever_their_stream() {
    let mut busy = Busy::new();
    for _ in 0..100 {
        busy.pass("Bearer t");
    }
    let leg = &busy.legs[0];
    let moment = busy.recorder.inner().clock.now();
    let segments: Segments = leg.segments().iter().map(|one| (order(one), Rc::clone(one))).collect();
    let want = Want {
        streams: Vec::new(),
        before: Some(moment),
        only_heads: false,
        from: 0,
    };
    let mut excerpts = Excerpts::default();
    let made = excerpts
        .distil(leg, &segments, &[want])
        .0
        .pop()
        .flatten()
        .expect("frames");
    let shown = excerpts.copy(&made).shown();
    // Both SETTINGS, and the last sixteen requests with their answers.
    assert_eq!(shown.len(), 2 + 32);
    assert_eq!(shown.last().expect("some").record.stream, 199);
    assert_eq!(made.next, shown.last().expect("some").number + 1);
}
