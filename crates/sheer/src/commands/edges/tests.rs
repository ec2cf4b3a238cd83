//! What operators and programs read.

use clap::Parser as _;
use sheer_api::v1::{PropagationCount, Resource, TcpCounts, Window, series_key::Direction};

use super::*;

#[derive(clap::Parser)]
struct Command {
    #[command(flatten)]
    args: Args,
}

fn args(line: &[&str]) -> Args {
    Command::parse_from([&["edges"], line].concat()).args
}

fn party(kind: &str, namespace: &str, name: &str) -> Option<Resource> {
    Some(Resource {
        kind: kind.to_owned(),
        namespace: namespace.to_owned(),
        name: name.to_owned(),
        part: String::new(),
    })
}

fn answer() -> EdgesResponse {
    let identity = |name: &str| format!("{name}.bank.serviceaccount.identity.sheer.cluster.local");
    let mut service = party("svc", "bank", "ledger");
    if let Some(service) = &mut service {
        service.part = "9000".to_owned();
    }
    let traffic = |requests: u64, open| Traffic {
        span_ms: 60_000,
        requests,
        successes: requests,
        p50_ms: (requests > 0).then_some(1.5),
        p99_ms: (requests > 0).then_some(9.0),
        tcp: Some(TcpCounts {
            open,
            read_bytes: 100,
            written_bytes: 200,
            ..TcpCounts::default()
        }),
        ..Traffic::default()
    };
    let meshed = Edge {
        source: party("deploy", "bank", "payments"),
        destination: party("deploy", "bank", "ledger"),
        service,
        source_identity: identity("payments"),
        destination_identity: identity("ledger"),
        tls: Tls::Mutual.into(),
        protocols: vec!["grpc".to_owned()],
        last_seen_ms: 59_000,
        traffic: Some(traffic(600, 2)),
        seen_by: Direction::Outbound.into(),
        ..Edge::default()
    };
    let plain = Edge {
        source: party("pod", "jobs", "cron"),
        destination: party("deploy", "bank", "ledger"),
        tls: Tls::Plain.into(),
        why_plain: "cron has no sidecar".to_owned(),
        protocols: vec!["tcp".to_owned()],
        last_seen_ms: -300_000,
        traffic: Some(traffic(0, 0)),
        seen_by: Direction::Inbound.into(),
        ..Edge::default()
    };
    EdgesResponse {
        edges: vec![meshed, plain],
        window: Some(Window {
            to_ms: 60_000,
            ..Window::default()
        }),
    }
}

/// `payments` passes nothing on to `ledger`.
fn broken() -> Vec<WorkloadPropagation> {
    let count = PropagationCount {
        target: "ledger.bank.svc.cluster.local:9000".to_owned(),
        with_context: 1,
        without_context: 99,
    };
    vec![WorkloadPropagation {
        namespace: "bank".to_owned(),
        workload: "deploy/payments".to_owned(),
        with_context: 1,
        without_context: 99,
        targets: vec![count],
        breaks: true,
        finding: "traces break in bank/deploy/payments: pass on `traceparent`".to_owned(),
    }]
}

#[test]
fn where_traces_break_is_a_finding_of_the_edge() {
    let rows = rows(&answer(), &broken());
    let passed = rows[0].traces.as_ref().expect("it is known");
    let told = serde_json::to_value(passed).expect("JSON");
    assert_eq!((&told["without_context"], &told["breaks"]), (&99.into(), &true.into()));
    assert!(
        told["finding"]
            .as_str()
            .is_some_and(|finding| finding.contains("traceparent"))
    );
    assert_eq!(rows[1].traces, None);
    let text = traces::findings(&answer(), &broken());
    assert_eq!(text.matches("traces break in").count(), 1, "{text}");
    let elsewhere = EdgesResponse {
        edges: answer().edges.split_off(1),
        ..answer()
    };
    assert_eq!(traces::findings(&elsewhere, &broken()), "");
    let wide = table(&args(&["-o", "wide"]), &answer(), &broken()).render(false);
    assert!(wide.contains("  break"), "{wide}");
}

#[test]
fn the_table_reads_well() {
    insta::assert_snapshot!(table(&args(&["-n", "bank"]), &answer(), &[]).render(false));
    insta::assert_snapshot!(table(&args(&["-A", "-o", "wide"]), &answer(), &[]).render(false));
}

#[test]
fn the_json_has_the_promised_shape() {
    insta::assert_json_snapshot!(rows(&answer(), &[]));
}

#[test]
fn a_namespace_alone_means_both_sides() {
    let asked = request(&args(&["-n", "bank"])).unwrap();
    assert_eq!(asked.what.map(|what| what.name), Some("bank".to_owned()));
    let asked = request(&args(&["-n", "bank", "--from", "deploy/web"])).unwrap();
    assert_eq!(
        (asked.what, asked.from.map(|from| from.namespace)),
        (None, Some("bank".to_owned()))
    );
}
