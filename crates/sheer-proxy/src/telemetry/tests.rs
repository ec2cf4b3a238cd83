//! From the worker's handle to what goes over the wire, without the wire.

use std::{
    net::{IpAddr, Ipv4Addr},
    sync::Arc,
    time::{Duration, Instant},
};

use sheer_api::v1;

use super::{
    Count, Key, PathPeer, PeerKey, Recorder, Table,
    collect::{Collected, Collector},
    paths::MOST_PATHS,
    table::{MOST_SERIES, MOST_WITHOUT_ADDRESS},
};
use crate::{discovery::ObjectRef, error::Direction, exchange::Spoken, metrics::ResponseOutcome};

const OK: ResponseOutcome = ResponseOutcome {
    status: 200,
    grpc_status: Some(0),
    success: true,
    error: None,
    latency: Duration::from_millis(2),
    spoken: Spoken::Grpc,
    trace: None,
};
const UNAVAILABLE: ResponseOutcome = ResponseOutcome {
    grpc_status: Some(14),
    success: false,
    error: Some("failfast"),
    ..OK
};

fn client(address: u32) -> Key {
    let peer = PeerKey {
        address: Some(IpAddr::V4(Ipv4Addr::from_bits(address))),
        identity: None,
        tls: v1::Tls::Plain,
        place: None,
    };
    Key::from_client(&Arc::new(ObjectRef::default_of("all")), 8080, peer)
}

fn proxy() -> (Arc<Table>, Recorder, Collector) {
    let table = Arc::<Table>::default();
    let recorder = table.recorder();
    let collector = Collector::new(Arc::clone(&table));
    (table, recorder, collector)
}

fn requests(collected: &Collected) -> u64 {
    let deltas = collected.series.iter();
    deltas
        .flat_map(|delta| &delta.statuses)
        .map(|status| status.count)
        .sum()
}

#[test]
fn what_happened_is_told_once_and_summed_over_workers() {
    let (table, first, mut collector) = proxy();
    let second = table.recorder();
    let (a, b) = (first.series(client(1)), second.series(client(1)));
    a.ended(&OK);
    b.ended(&OK);
    b.ended(&UNAVAILABLE);
    a.cells().add(Count::Opened, 2);
    a.cells().add(Count::Closed, 1);
    let collected = collector.collect(Instant::now());
    let [delta] = &collected.series[..] else {
        panic!("{collected:?}")
    };
    let counts: Vec<_> = delta
        .statuses
        .iter()
        .map(|status| (status.grpc_status, status.count))
        .collect();
    assert_eq!(counts, [(Some(0), 2), (Some(14), 1)]);
    assert_eq!(delta.requests.map(|requests| requests.grpc), Some(3));
    let tcp = delta.tcp.expect("connections were opened");
    assert_eq!((tcp.opened, tcp.closed, tcp.open), (2, 1, 1));
    assert_eq!(
        delta
            .latency
            .as_ref()
            .map(|latency| (latency.first, latency.sum_micros)),
        Some((8, 6_000))
    );
    assert!(collector.collect(Instant::now()).is_empty());
    a.ended(&OK);
    assert_eq!(requests(&collector.collect(Instant::now())), 1);
}

#[test]
fn a_name_of_the_peer_that_comes_late_is_told() {
    let (_table, recorder, mut collector) = proxy();
    let cells = recorder.cells(client(1));
    cells.add(Count::Opened, 1);
    let id = collector.collect(Instant::now()).series[0].id;
    assert!(!collector.is_named(id));
    cells.name_host("api.example.org");
    cells.name_host("other.example.org");
    assert!(collector.is_named(id));
    let peer = collector.key(id).and_then(|key| key.peer).expect("a peer");
    assert_eq!(
        (peer.address.as_str(), peer.host.as_str()),
        ("0.0.0.1", "api.example.org")
    );
}

#[test]
fn series_are_forgotten_when_nobody_holds_them_and_all_is_told() {
    let (_table, recorder, mut collector) = proxy();
    let start = Instant::now();
    let (held, dropped) = (recorder.series(client(1)), recorder.series(client(2)));
    held.ended(&OK);
    dropped.ended(&OK);
    drop(dropped);
    assert_eq!(requests(&collector.collect(start)), 2);
    let later = start + Duration::from_secs(61);
    assert!(collector.collect(later).is_empty());
    // A new handle of the one that is gone begins anew; the one that was held goes on.
    recorder.series(client(2)).ended(&OK);
    held.ended(&OK);
    let collected = collector.collect(later);
    assert_eq!((collected.series.len(), requests(&collected)), (2, 2));
}

#[test]
fn ten_thousand_clients_are_a_bounded_number_of_series_and_none_is_lost() {
    let (table, recorder, mut collector) = proxy();
    for address in 0..10_000 {
        recorder.series(client(address)).ended(&OK);
    }
    let collected = collector.collect(Instant::now());
    assert_eq!(collected.series.len(), MOST_SERIES + 1);
    assert_eq!(requests(&collected), 10_000);
    assert_eq!(table.overflowed(), 8_000);
    let (id, most) = collected
        .series
        .iter()
        .map(|delta| (delta.id, delta.statuses[0].count))
        .max_by_key(|(_, count)| *count)
        .expect("series");
    assert_eq!(most, 8_000);
    let peer = collector.key(id).and_then(|key| key.peer).expect("a peer");
    assert_eq!((peer.address.as_str(), peer.tls()), ("", v1::Tls::Plain));
}

#[test]
fn too_much_of_everything_is_one_series() {
    let (_table, recorder, mut collector) = proxy();
    let other = |port: usize| Key {
        port: port as u16,
        ..client(1)
    };
    for port in 0..MOST_SERIES + MOST_WITHOUT_ADDRESS + 500 {
        recorder.series(other(port)).ended(&OK);
    }
    let collected = collector.collect(Instant::now());
    assert_eq!(collected.series.len(), MOST_SERIES + MOST_WITHOUT_ADDRESS + 1);
    let overflowing: Vec<_> = collected
        .series
        .iter()
        .filter(|delta| collector.key(delta.id).is_some_and(|key| key.overflow))
        .map(|delta| delta.statuses[0].count)
        .collect();
    assert_eq!(overflowing, [500]);
}

#[test]
fn paths_are_counted_while_somebody_looks_and_bounded() {
    let (table, recorder, mut collector) = proxy();
    let note = |path: &str| {
        let about = || PathPeer {
            direction: Direction::Inbound,
            client: None,
            target: Arc::default(),
            authority: "".into(),
        };
        recorder.path(about, "GET", path)
    };
    assert!(note("/").is_none());
    table.want_paths(true);
    for path in 0..10_000 {
        note(&format!("/accounts/{path}?secret=1")).expect("wanted").ended(&OK);
    }
    let paths = collector.collect(Instant::now()).paths;
    assert_eq!(paths.len(), MOST_PATHS + 1);
    assert!(paths.iter().all(|path| !path.path.contains("secret")));
    let other = paths.iter().find(|path| path.path == "(other)").expect("the rest");
    assert_eq!(other.statuses[0].count, 10_000 - MOST_PATHS as u64);
    assert!(collector.collect(Instant::now()).paths.is_empty());
}

#[test]
fn nothing_grows_while_nobody_takes_reports() {
    let (table, recorder, mut collector) = proxy();
    let start = Instant::now();
    table.want_paths(true);
    let held = recorder.series(client(0));
    held.ended(&OK);
    for address in 1..1_000 {
        recorder.series(client(address)).ended(&OK);
    }
    collector.give_up(start, Duration::from_secs(600));
    collector.give_up(start + Duration::from_secs(601), Duration::from_secs(600));
    held.ended(&OK);
    let collected = collector.collect(start + Duration::from_secs(602));
    assert_eq!((collected.series.len(), requests(&collected)), (1, 2));
}
