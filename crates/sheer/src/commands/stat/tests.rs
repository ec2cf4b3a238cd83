//! What operators and programs read.

use sheer_api::v1::{Resource, StatusCount, TcpCounts};

use super::*;

fn stat(kind: &str, name: &str, requests: u64, successes: u64) -> Stat {
    let status = |code, success, count, error: &str| StatusCount {
        http_status: 200,
        grpc_status: Some(code),
        success,
        error: error.to_owned(),
        count,
    };
    Stat {
        resource: Some(Resource {
            kind: kind.to_owned(),
            namespace: "bank".to_owned(),
            name: name.to_owned(),
            part: String::new(),
        }),
        pods: 3,
        pods_ready: 3,
        pods_meshed: 3,
        direction: Direction::Inbound.into(),
        traffic: Some(Traffic {
            span_ms: 60_000,
            requests,
            successes,
            statuses: vec![
                status(14, false, requests - successes, "failfast"),
                status(0, true, successes, ""),
            ],
            p50_ms: (requests > 0).then_some(1.234),
            p95_ms: (requests > 0).then_some(12.04),
            p99_ms: (requests > 0).then_some(1_204.0),
            attempts: requests + requests / 10,
            attempt_successes: successes,
            retries: requests / 10,
            requests_secured: requests,
            requests_with_peer: requests,
            tcp: Some(TcpCounts {
                opened: 4,
                open: 12,
                read_bytes: 6_000_000,
                written_bytes: 60_000,
                ..TcpCounts::default()
            }),
            ..Traffic::default()
        }),
    }
}

fn answer() -> StatResponse {
    let mut load = stat("deploy", "load", 3_000, 3_000);
    load.direction = Direction::Outbound.into();
    StatResponse {
        stats: vec![
            stat("deploy", "audit", 0, 0),
            stat("deploy", "ledger", 2_500, 2_499),
            load,
        ],
        ..StatResponse::default()
    }
}

fn asked(what: &str) -> StatRequest {
    StatRequest {
        what: Some(selector(what, Some("bank")).unwrap()),
        ..StatRequest::default()
    }
}

#[test]
fn the_table_reads_well() {
    insta::assert_snapshot!(table(&asked("deploy"), &answer(), false).render(false));
    insta::assert_snapshot!(table(&asked("svc"), &answer(), true).render(false));
}

#[test]
fn the_json_has_the_promised_shape() {
    insta::assert_json_snapshot!(rows(&asked("deploy"), &answer()));
    insta::assert_json_snapshot!(rows(&asked("svc"), &answer())[1]);
}

#[test]
fn failures_and_silent_proxies_are_findings() {
    assert_eq!(outcome(&answer()), Outcome::Healthy);
    let mut bad = answer();
    bad.stats.push(stat("deploy", "fx", 100, 98));
    assert_eq!(outcome(&bad), Outcome::Finding);
    let mut silent = answer();
    silent.notes.push("the proxies of bank/fx-0 do not report".to_owned());
    assert_eq!(outcome(&silent), Outcome::Finding);
}
