//! Requests that a tap has shown keep their frames, in what failures leave of their room.

use http::StatusCode;

use super::*;
use crate::record::{Clock, Exchange, Wanted};

impl Busy {
    /// A request that ends well, and was shown to somebody. Gives its legs.
    fn show(&mut self, id: u64, token: &str) -> [LegId; 2] {
        self.show_before(id, token, |_| {})
    }

    /// The same, and more passes before the client is answered.
    fn show_before(&mut self, id: u64, token: &str, passes: impl FnOnce(&mut Self)) -> [LegId; 2] {
        let stream = self.begin(token);
        let legs = self
            .legs
            .each_ref()
            .map(|leg| Leg::new(&Tape::new(Rc::clone(leg)), stream));
        let well = Outcome {
            status: Some(StatusCode::OK),
            end: End::Complete,
            ..outcome()
        };
        let answered = || {
            let head = Frame::headers(stream, Block::status(200).bytes());
            [head.end_headers().end_stream()]
        };
        answer(&self.legs[1], answered());
        self.recorder.request_ended(Some(id), (&legs[0], &legs[1]), &well);
        self.recorder.request_shown(id, (&legs[0], &legs[1]));
        // What ends it is written behind.
        passes(self);
        answer(&self.legs[0], answered());
        legs.each_ref().map(Leg::id)
    }

    /// What there is of a request.
    fn request(&self, id: u64) -> (Vec<Exchange>, Vec<FailureCopy>) {
        let wanted = Wanted {
            id,
            limit: 1,
            ..Wanted::default()
        };
        let found = self.recorder.exchanges(&wanted).expect("on");
        (found.exchanges, found.failures)
    }

    /// Whether both heads of both legs are there.
    fn has_frames(&self, id: u64, token: &str) -> bool {
        let (found, kept) = self.request(id);
        let [request] = &kept[..] else { return false };
        let is_kept =
            |recording: &RecordingCopy| super::kept(request, recording, token) == (vec![HEADERS, HEADERS], true);
        found.len() == 1 && request.recordings.len() == 2 && request.recordings.iter().all(is_kept)
    }
}

fn token(nth: u64) -> String {
    format!("Bearer {nth}{}", "t".repeat(6 * 1024))
}

/// Time goes by in which nothing passes.
#[expect(clippy::disallowed_methods, reason = "no worker: nobody else is on this thread")]
fn pause(ms: u64) {
    std::thread::sleep(Duration::from_millis(ms));
}

#[test]
fn what_was_shown_is_there_after_much_else_has_passed() {
    let mut busy = Busy::new();
    let legs = busy.show(1, &token(1));
    busy.much();
    assert!(busy.has_frames(1, &token(1)), "{:?}", busy.request(1));
    // It is no failure.
    assert!(busy.failures().is_empty());
    assert_eq!(
        busy.recorder.copy(&Query::default(), true).expect("on").failures_total,
        0
    );
    // Its streams show in their connections, before what these have of their own.
    for leg in legs {
        let of = |leg: LegId| {
            let query = Query {
                connection: leg.connection,
                records: Some(Vec::new()),
                leg: Some(leg),
                ..Query::default()
            };
            let copy = busy.recorder.copy(&query, false).expect("on");
            copy.recordings.into_iter().next()
        };
        let recording = of(leg).expect("its connection");
        assert_eq!(recording.id, leg.connection);
        assert_eq!(recording.stream(leg.stream).len(), 2);
        let shown = recording.shown();
        assert!(
            shown.is_sorted_by(|one, next| one.number < next.number),
            "in order, and once"
        );
        assert!(shown.len() > 100);
        let other = LegId {
            stream: leg.stream + 2,
            ..leg
        };
        assert!(of(other).is_none(), "of a connection that nobody has any more");
    }
}

#[test]
fn two_hundred_are_kept_and_found_by_their_ids() {
    let mut busy = Busy::new();
    for nth in 1..=210 {
        busy.show(nth, "Bearer t");
        // The same once more is no other.
        let found = busy.request(nth).0;
        busy.recorder.inner().shown(&found[0], std::iter::empty());
        pause(20);
    }
    // One replay is of all.
    busy.much();
    assert!(busy.request(10).1.is_empty());
    let lost: Vec<u64> = (11..=210).filter(|nth| !busy.has_frames(*nth, "Bearer t")).collect();
    assert_eq!(lost, [0; 0]);
}

#[test]
fn among_much_else_each_is_kept_where_there_is_time_for_it() {
    let mut busy = Busy::new();
    for nth in 1..=40 {
        busy.show(nth, &token(nth));
        for _ in 0..25 {
            busy.pass(&token(nth + 1_000));
        }
        // What it takes to replay a segment of each leg.
        pause(90);
        let held = busy.recorder.inner().held();
        assert!(held <= QUARTER, "{held}");
    }
    let lost: Vec<u64> = (1..=40).filter(|nth| !busy.has_frames(*nth, &token(*nth))).collect();
    assert_eq!(lost, [0; 0]);
}

#[test]
fn no_more_than_anybody_reads_are_kept() {
    let mut busy = Busy::new();
    for nth in 1..=1_000 {
        busy.show(nth, "Bearer t");
    }
    let kept = (1..=1_000).filter(|nth| !busy.request(*nth).1.is_empty()).count();
    assert!((100..200).contains(&kept), "{kept}");
}

#[test]
fn failures_keep_their_frames_however_much_is_shown() {
    let mut busy = Busy::new();
    for nth in 0..200 {
        busy.fail(&token(nth));
        busy.show(nth + 1, &token(nth + 10_000));
        busy.time(Duration::from_millis(21), &token(nth + 1_000));
    }
    for nth in 200..300 {
        busy.show(nth + 1, &token(nth + 10_000));
        pause(20);
    }
    busy.much();
    let failures = busy.failures();
    assert_eq!(failures.len(), 200);
    let lost = (0..)
        .zip(&failures)
        .filter(|(nth, failure)| !is_whole(failure, &token(*nth)));
    assert_eq!(lost.count(), 0);
    assert!(busy.recorder.inner().used() <= 1024 * 1024);
}

#[test]
fn what_ends_it_is_there_although_the_log_has_moved_on_in_between() {
    let mut busy = Busy::new();
    busy.show_before(1, "Bearer t", |busy| {
        let first = |busy: &Busy| busy.legs[0].segments().last().expect("one").borrow().first;
        let before = first(busy);
        while first(busy) == before {
            busy.pass(&token(2));
        }
    });
    assert!(busy.has_frames(1, "Bearer t"), "while it is held");
    busy.much();
    assert!(busy.has_frames(1, "Bearer t"), "as an excerpt");
}

#[test]
fn what_was_shown_goes_before_a_failure_loses_its_frames() {
    let whole = |shown: u64| {
        let mut failures = Failures::new(QUARTER);
        // How much fits beside each other hangs on how long times are written.
        let mut busy = Busy::on(Recorder::with_clock(Clock::still()));
        let note = |nth: u64| format!("{nth}{}", "n".repeat(1024));
        for nth in 0..shown {
            failures.push_shown(alone(&busy, nth, nth * 20_000, &note(nth)));
        }
        let excerpts = failures.shown().filter(|request| !request.excerpts.is_empty()).count();
        // More at once than there is time for.
        for nth in 200..600 {
            push(&mut failures, &mut busy, nth, 4_000_000, &note(nth));
        }
        let is_whole = |failure: &&Failure| !failure.held.is_empty() || !failure.excerpts.is_empty();
        (excerpts, failures.all().filter(is_whole).count())
    };
    let ((_, alone), (excerpts, beside)) = (whole(0), whole(200));
    assert!(excerpts > 50, "{excerpts}");
    assert!(alone > 5 && beside + 2 >= alone, "{beside} and {alone}");
}

#[test]
fn what_many_hold_is_copied_once_and_only_of_the_side_that_is_asked_for() {
    let mut busy = Busy::new();
    let legs = [1, 2].map(|id| busy.show(id, "Bearer t"));
    let wanted = Wanted {
        limit: 9,
        ..Wanted::default()
    };
    let kept = busy.recorder.exchanges(&wanted).expect("on").failures;
    let segments: Vec<_> = kept.iter().map(|request| &request.recordings[0].segments[0]).collect();
    assert_eq!(segments.len(), 2);
    assert!(std::sync::Arc::ptr_eq(segments[0], segments[1]));
    let copies = |peer| {
        let query = Query {
            connection: legs[0][1].connection,
            records: Some(Vec::new()),
            leg: Some(legs[0][1]),
            peer: Some(peer),
            ..Query::default()
        };
        busy.recorder.copy(&query, false).expect("on").recordings.len()
    };
    assert_eq!((copies(Peer::Mesh), copies(Peer::App)), (1, 0));
}
