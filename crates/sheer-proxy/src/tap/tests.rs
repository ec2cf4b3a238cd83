//! Watchers: what they are told, in which order, and what they lose.

use std::time::Duration;

use http::{HeaderMap, Request, StatusCode};
use sheer_api::v1;

use super::*;
use crate::{
    exchange::{Head as RequestHead, Outcome},
    redact::Redactor,
};

fn head(path: &str) -> RequestHead {
    let request = Request::get(path)
        .header("x-tenant", "acme")
        .body(())
        .expect("a request");
    RequestHead::of_h2(request.into_parts().0)
}

fn subject() -> Subject {
    Subject {
        address: "10.0.0.1:80".parse().ok(),
        destination: "ledger.bank.svc.cluster.local:80".to_owned(),
        identity: None,
        mutual_tls: false,
        client: LegFacts::default(),
        trace: None,
    }
}

fn watcher(filter: v1::TapFilter, rate: u32, room: usize) -> (Watcher, mpsc::Receiver<Event>) {
    let (events, receiver) = mpsc::channel(room);
    let watcher = Watcher {
        filter: Arc::new(Filter::read(&filter, Redactor::own()).expect("a filter")),
        events,
        crowd: Arc::default(),
        losses: Arc::default(),
        rate: Arc::new(Throttle::new(rate, Instant::now())),
        only_ends: false,
        bodies: 0,
        waiting: Arc::default(),
    };
    (watcher, receiver)
}

fn outcome(status: u16) -> Outcome {
    Outcome {
        status: StatusCode::from_u16(status).ok(),
        end: exchange::End::Complete,
        ..Outcome::for_tests()
    }
}

/// A request from its head to its end.
fn request(taps: &Rc<Taps>, path: &str, status: u16) -> bool {
    let Some(mut tapped) = taps.request(subject, &head(path)) else {
        return false;
    };
    let code = StatusCode::from_u16(status).expect("a status");
    tapped.response(code, &HeaderMap::new());
    tapped.end(&outcome(status), |_| {});
    true
}

fn stages(receiver: &mut mpsc::Receiver<Event>) -> Vec<(Stage, String)> {
    let mut stages = Vec::new();
    while let Ok(event) = receiver.try_recv() {
        if let Event::Request(event) = event {
            stages.push((event.stage, event.head.path.clone()));
        }
    }
    stages
}

#[test]
fn nobody_watches_and_nothing_is_made() {
    let taps = Taps::new(true);
    assert!(!request(&taps, "http://a/", 200));
    let (watcher, receiver) = watcher(v1::TapFilter::default(), 100, 8);
    taps.watch(watcher);
    assert!(request(&taps, "http://a/", 200));
    drop(receiver);
    assert!(!request(&taps, "http://a/", 200), "who has gone away is forgotten");
    assert!(!taps.is_watched.get());
}

#[test]
fn a_request_is_told_as_it_happens() {
    let taps = Taps::new(true);
    let (watcher, mut receiver) = watcher(v1::TapFilter::default(), 100, 8);
    taps.watch(watcher);
    request(&taps, "http://a/x", 200);
    let stages: Vec<Stage> = stages(&mut receiver).into_iter().map(|(stage, _)| stage).collect();
    assert_eq!(stages, [Stage::Request, Stage::Response, Stage::End]);
}

#[test]
fn what_only_the_end_tells_is_told_then_and_whole() {
    let taps = Taps::new(true);
    let filter = v1::TapFilter {
        status: "5xx".to_owned(),
        path: "/pay".to_owned(),
        ..v1::TapFilter::default()
    };
    let (watcher, mut receiver) = watcher(filter, 100, 8);
    taps.watch(watcher);
    request(&taps, "http://a/pay/1", 200);
    request(&taps, "http://a/other", 503);
    request(&taps, "http://a/pay/2", 503);
    let seen = stages(&mut receiver);
    assert_eq!(
        seen.iter().map(|(stage, _)| *stage).collect::<Vec<_>>(),
        [Stage::Request, Stage::Response, Stage::End]
    );
    assert!(seen.iter().all(|(_, path)| path == "/pay/2"), "{seen:?}");
}

#[test]
fn who_wants_only_ends_is_told_nothing_else() {
    let status = |status: &str| v1::TapFilter {
        status: status.to_owned(),
        ..v1::TapFilter::default()
    };
    // Whether or not its filter waits for the end.
    for filter in [status(""), status("503")] {
        let taps = Taps::new(true);
        let (watcher, mut receiver) = watcher(filter, 100, 8);
        taps.watch(Watcher {
            only_ends: true,
            ..watcher
        });
        request(&taps, "http://a/x", 503);
        assert_eq!(stages(&mut receiver), [(Stage::End, "/x".to_owned())]);
    }
}

#[test]
fn a_trace_is_found_in_every_format_and_where_no_field_names_it_yet() {
    const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";
    let taken = |trace: Option<[u8; 32]>, field: Option<(&str, &str)>| {
        let mut request = Request::get("http://a/").body(()).expect("a request");
        if let Some((name, value)) = field {
            let name = http::HeaderName::from_bytes(name.as_bytes()).expect("a name");
            request.headers_mut().insert(name, value.parse().expect("a value"));
        }
        let filter = v1::TapFilter {
            trace: TRACE.to_owned(),
            ..v1::TapFilter::default()
        };
        let subject = Subject { trace, ..subject() };
        let head = RequestHead::of_h2(request.into_parts().0);
        Filter::read(&filter, Redactor::own())
            .expect("a filter")
            .takes_head(&&subject, &Said::of(&head))
    };
    assert!(!taken(None, None));
    let own: [u8; 32] = TRACE.as_bytes().try_into().expect("32 digits");
    assert!(taken(Some(own), None), "it began at this proxy");
    assert!(taken(
        None,
        Some(("traceparent", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"))
    ));
    // Version 0; field 0: the trace; field 1: the span; field 2: the flags.
    let binary = "AAAK92UZFs1D3YRI6yEcgDGcAbeta3FpIDMxAgE";
    assert!(taken(None, Some(("grpc-trace-bin", binary))));
    assert!(
        names_trace("grpc-trace-bin", binary.as_bytes(), TRACE) && !names_trace("x-other", TRACE.as_bytes(), TRACE)
    );
}

#[test]
fn a_secret_is_found_by_what_is_shown_of_it_and_cannot_be_guessed() {
    let redactor = Redactor::new(&[7; 32], &["x-account".to_owned()]);
    let request = Request::get("http://a/x?token=t&page=2")
        .header("x-account", "42")
        .header("x-tenant", "acme")
        .header("x-callback", "https://ada:secret@b/")
        .body(())
        .expect("a request");
    let head = RequestHead::of_h2(request.into_parts().0);
    let read = |filter: v1::TapFilter| Filter::read(&filter, &redactor).expect("a filter");
    let field = |name: &str, value: &str| {
        let header = v1::HeaderMatch {
            name: name.to_owned(),
            value: value.to_owned(),
        };
        let filter = read(v1::TapFilter {
            headers: vec![header],
            ..v1::TapFilter::default()
        });
        let shown = v1::TappedRequest {
            request: Some(v1::RequestHead {
                headers: head
                    .headers
                    .iter()
                    .map(|(name, value)| v1::HeaderField {
                        name: name.to_string(),
                        value: redactor
                            .value(name.as_str().as_bytes(), value.as_bytes())
                            .0
                            .into_owned(),
                    })
                    .collect(),
                ..v1::RequestHead::default()
            }),
            ..v1::TappedRequest::default()
        };
        let live = filter.takes_head(&&subject(), &Said::of(&head));
        assert_eq!(
            live,
            filter.takes_shown(&shown),
            "the same of what was kept: {name} {value}"
        );
        live
    };
    assert!(field("x-account", "") && field("x-tenant", "acme"));
    assert!(!field("x-account", "42") && !field("x-callback", "https://ada:secret@b/"));
    assert!(field("x-account", &redactor.hashed(b"42")) && !field("x-account", &redactor.hashed(b"43")));
    let path = |path: &str| {
        let filter = v1::TapFilter {
            path: path.to_owned(),
            ..v1::TapFilter::default()
        };
        read(filter).takes_head(&&subject(), &Said::of(&head))
    };
    assert!(path("/x") && path("/x?token=hash:") && !path("/x?token=t"));
}

#[test]
fn what_is_no_request_is_told_as_far_as_it_could_be_read() {
    let method = v1::TapFilter {
        method: "GET".to_owned(),
        ..v1::TapFilter::default()
    };
    for (filter, is_taken) in [(v1::TapFilter::default(), true), (method, false)] {
        let taps = Taps::new(true);
        let (watcher, mut receiver) = watcher(filter, 100, 8);
        taps.watch(watcher);
        let unread = crate::http1::Unread::default();
        let tapped = taps.refused(subject, &Said::of_unread(&unread));
        assert_eq!(tapped.is_some(), is_taken);
        let Some(tapped) = tapped else { continue };
        tapped.end(&outcome(400), |_| {});
        assert_eq!(
            stages(&mut receiver),
            [(Stage::Request, String::new()), (Stage::End, String::new())]
        );
    }
}

#[test]
fn a_half_that_is_not_wanted_is_not_watched() {
    let filter = v1::TapFilter {
        direction: "inbound".to_owned(),
        ..v1::TapFilter::default()
    };
    let (outbound, inbound) = (Taps::new(true), Taps::new(false));
    let (watcher, _receiver) = watcher(filter, 100, 8);
    outbound.watch(watcher.clone());
    inbound.watch(watcher);
    assert!(!request(&outbound, "http://a/", 200) && request(&inbound, "http://a/", 200));
}

#[test]
fn beyond_its_rate_and_its_room_a_watcher_loses_events_which_are_counted() {
    // Two workers: one has most of the requests, and may show what the other has left of the rate.
    let (busy, quiet) = (Taps::new(true), Taps::new(true));
    let (watcher, mut receiver) = watcher(v1::TapFilter::default(), 20, 1_000);
    let losses = Arc::clone(&watcher.losses);
    busy.watch(watcher.clone());
    quiet.watch(watcher);
    let other = (0..10).filter(|_| request(&quiet, "http://a/", 200)).count();
    assert_eq!(other, 10);
    let began = std::time::Instant::now();
    let shown = (0..100).filter(|_| request(&busy, "http://a/", 200)).count();
    let since = (began.elapsed().as_secs_f64() * 20.0).ceil() as usize;
    assert!((10..=10 + since).contains(&shown), "{shown}");
    assert_eq!(losses.rate.load(Relaxed), 100 - shown as u64);
    assert_eq!(stages(&mut receiver).len(), 3 * (shown + other));

    let (stuck, receiver) = self::watcher(v1::TapFilter::default(), 1_000_000, 4);
    let losses = Arc::clone(&stuck.losses);
    let taps = Taps::new(true);
    taps.watch(stuck);
    let began = std::time::Instant::now();
    for _ in 0..10_000 {
        assert!(request(&taps, "http://a/", 200));
    }
    assert_eq!(losses.slow.load(Relaxed), 30_000 - 4);
    assert!(
        began.elapsed() < Duration::from_secs(5),
        "a reader that is stuck is not waited for"
    );
    drop(receiver);
}

#[test]
fn heads_of_what_is_over_are_told_by_its_end() {
    let taps = Taps::new(true);
    let (watcher, mut receiver) = watcher(v1::TapFilter::default(), 100, 100);
    taps.watch(watcher);
    let mut taken = || std::iter::from_fn(|| receiver.try_recv().ok()).collect::<Vec<_>>();
    let told = |events: &[Event]| {
        let stage = |event: &Event| match event {
            Event::Request(event) => Some((event.id, event.stage)),
            _ => None,
        };
        events.iter().filter_map(stage).collect::<Vec<_>>()
    };
    let mut waiting = taps.request(subject, &head("http://a/")).expect("it is watched");
    let mut answered = taps.request(subject, &head("http://a/")).expect("it is watched");
    answered.response(StatusCode::OK, &HeaderMap::new());
    let [first, second] = [waiting.id(), answered.id()];
    request(&taps, "http://a/", 200);
    let mut events = taken();
    let untold = fold(&mut events);
    // Those that are not over are told as they are; of the other one the end.
    let third = told(&events).last().expect("an event").0;
    assert_eq!(
        told(&events),
        [
            (first, Stage::Request),
            (second, Stage::Request),
            (second, Stage::Response),
            (third, Stage::End)
        ]
    );
    let both = |request, response| Untold { request, response };
    assert_eq!(untold, [(third, both(true, true))].into());
    // What was told is not told again; one without an answer has no head of it.
    waiting.response(StatusCode::OK, &HeaderMap::new());
    waiting.end(&outcome(200), |_| {});
    answered.end(&outcome(200), |_| {});
    let gone = taps.request(subject, &head("http://a/")).expect("it is watched");
    let fourth = gone.id();
    gone.end(&outcome(503), |_| {});
    let mut events = taken();
    let untold = fold(&mut events);
    assert_eq!(told(&events), [first, second, fourth].map(|id| (id, Stage::End)));
    assert_eq!(
        untold,
        [
            (first, both(false, true)),
            (second, both(false, false)),
            (fourth, both(true, false))
        ]
        .into()
    );
}

#[test]
fn the_rate_is_of_what_is_shown() {
    let filter = v1::TapFilter {
        status: "5xx".to_owned(),
        ..v1::TapFilter::default()
    };
    let taps = Taps::new(true);
    let (watcher, mut receiver) = watcher(filter, 10, 1_000);
    let losses = Arc::clone(&watcher.losses);
    taps.watch(watcher);
    for _ in 0..100 {
        request(&taps, "http://a/well", 200);
    }
    for _ in 0..10 {
        request(&taps, "http://a/failed", 503);
    }
    // Each with what came before its end.
    assert_eq!(stages(&mut receiver).len(), 3 * 10);
    assert_eq!(losses.rate.load(Relaxed), 0);
    request(&taps, "http://a/failed", 503);
    assert!(
        stages(&mut receiver).is_empty() && losses.rate.load(Relaxed) == 1,
        "one beyond it"
    );
}

#[test]
fn what_another_proxy_tells_or_what_went_elsewhere_takes_nothing_from_the_rate() {
    let filter = v1::TapFilter {
        endpoints: vec!["10.0.0.9".to_owned()],
        not_from: vec!["10.0.0.7".to_owned()],
        ..v1::TapFilter::default()
    };
    let read = Filter::read(&filter, Redactor::own()).expect("a filter");
    let from = |ip: &str, mutual_tls| Subject {
        client: LegFacts {
            remote: format!("{ip}:40000").parse().ok(),
            ..LegFacts::default()
        },
        mutual_tls,
        ..subject()
    };
    let taken = |subject: Subject| read.takes_head(&&subject, &Said::of(&head("http://a/")));
    assert!(!taken(from("10.0.0.7", true)), "its own proxy is watched");
    assert!(taken(from("10.0.0.7", false)) && taken(from("10.0.0.8", true)));
    let went = |endpoint: &str| read.takes_end(&outcome(200), endpoint.parse().ok(), Duration::ZERO);
    assert!(went("10.0.0.9:80") && !went("10.0.0.8:80") && !went(""));

    let taps = Taps::new(true);
    let (watcher, mut receiver) = watcher(filter, 1, 8);
    let losses = Arc::clone(&watcher.losses);
    taps.watch(watcher);
    for _ in 0..10 {
        request(&taps, "http://a/", 200);
    }
    assert!(stages(&mut receiver).is_empty() && losses.rate.load(Relaxed) == 0);
}

#[test]
fn bodies_that_wait_for_an_end_are_bounded_and_given_back() {
    let filter = v1::TapFilter {
        status: "5xx".to_owned(),
        ..v1::TapFilter::default()
    };
    let taps = Taps::new(true);
    let (watcher, mut receiver) = watcher(filter, 1_000, 1_000);
    let losses = Arc::clone(&watcher.losses);
    taps.watch(Watcher {
        bodies: 1024 * 1024,
        ..watcher
    });
    let piece = bytes::Bytes::from(vec![0; 1024 * 1024]);
    let mut open: Vec<_> = (0..6)
        .map(|_| {
            let mut tapped = taps.request(subject, &head("http://a/")).expect("it is watched");
            tapped.body(exchange::Way::Request, &piece);
            tapped
        })
        .collect();
    let one = piece.len() + size_of::<BodyEvent>();
    assert_eq!(taps.held.get(), 3 * one, "of six there is room for three");
    let without = open.pop().expect("a request");
    without.end(&outcome(503), |_| {});
    assert_eq!(losses.slow.load(Relaxed), 1, "its body");
    let with = open.remove(0);
    with.end(&outcome(503), |_| {});
    let told = std::iter::from_fn(|| receiver.try_recv().ok());
    assert_eq!(told.filter(|event| matches!(event, Event::Body(_))).count(), 1);
    open.pop().expect("a request").end(&outcome(200), |_| {});
    drop(open);
    assert_eq!((taps.held.get(), losses.slow.load(Relaxed)), (0, 1));
}

#[tokio::test(start_paused = true)]
async fn who_waits_for_more_events_is_woken_where_they_become_many() {
    let taps = Taps::new(true);
    let (watcher, receiver) = watcher(v1::TapFilter::default(), 100, 8);
    let crowd = Arc::clone(&watcher.crowd);
    taps.watch(watcher);
    let is_woken = || async {
        tokio::time::timeout(Duration::from_secs(1), crowd.notified())
            .await
            .is_ok()
    };
    request(&taps, "http://a/", 200);
    assert!(!is_woken().await, "three of eight");
    request(&taps, "http://a/", 200);
    assert!(is_woken().await, "six of eight");
    assert!(!is_woken().await, "once");
    drop(receiver);
}
