//! What a check says of evidence.

use std::collections::HashMap;

use sheer_api::v1::finding::Severity;
use sheer_api::v1::{Finding, ReportResponse};

use super::evidence::{Evidence, Mesh, Pod, Proxy};
use super::points::judge;
use super::report::Mark;
use crate::certificate::Certificate;

const NOW: i64 = 1_795_375_800;
const DAY: i64 = 24 * 3600;

fn pod(name: &str) -> Pod {
    let proxy = Proxy {
        ready: Ok(()),
        version: Some(env!("CARGO_PKG_VERSION").to_owned()),
        certificate: Ok(()),
        redirected: Ok(()),
        disconnected: Vec::new(),
        panics: 0.0,
    };
    Pod {
        namespace: "bank".to_owned(),
        name: name.to_owned(),
        ready: true,
        state: "Running".to_owned(),
        restarts: 0,
        proxy: Some(proxy),
    }
}

fn healthy() -> Mesh {
    let anchor = Certificate {
        subject: "CN=root.identity.sheer.cluster.local".to_owned(),
        dns_names: Vec::new(),
        uris: Vec::new(),
        issuer: "CN=root.identity.sheer.cluster.local".to_owned(),
        not_before: NOW - DAY,
        not_after: NOW + 365 * DAY,
        sha256: "00".repeat(32),
    };
    let control = ReportResponse {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        trust_domain: "cluster.local".to_owned(),
        objects: HashMap::new(),
        findings: Vec::new(),
        streams: HashMap::new(),
        issuer_not_after: NOW + 365 * DAY,
        last_change_age_ms: 0,
    };
    Mesh {
        control: Ok(control),
        anchors: Ok(vec![anchor]),
        dns: Ok(()),
        pods: vec![
            pod("ledger-0"),
            Pod {
                proxy: None,
                ..pod("plain-0")
            },
        ],
        propagation: Ok(Vec::new()),
    }
}

fn evidence(mesh: Result<Mesh, String>) -> Evidence {
    Evidence {
        now: NOW,
        missing_tools: Vec::new(),
        namespaces: Ok(()),
        mesh,
    }
}

#[test]
fn a_healthy_mesh() {
    let report = judge(&evidence(Ok(healthy())));
    assert_eq!(report.mark(), Mark::Pass);
    insta::assert_snapshot!(report.text(false, false));
    assert_eq!(report.text(true, false), "Status check results are √\n");
}

#[test]
fn no_mesh() {
    let report = judge(&evidence(Err("no mesh runs here".to_owned())));
    assert_eq!(report.mark(), Mark::Fail);
    insta::assert_snapshot!(report.text(false, false));
}

fn sick() -> Mesh {
    let mut mesh = healthy();
    let control = mesh.control.as_mut().unwrap();
    control.version = "0.0.9".to_owned();
    control.issuer_not_after = NOW + 10 * DAY;
    control.findings = vec![
        Finding {
            severity: Severity::Error.into(),
            file: "bank.yaml".to_owned(),
            line: 12,
            object: "Deployment bank/ledger".to_owned(),
            field: "spec.replicas".to_owned(),
            message: "must be a number".to_owned(),
        },
        Finding {
            severity: Severity::Warning.into(),
            message: "left out".to_owned(),
            ..Finding::default()
        },
    ];
    mesh.anchors.as_mut().unwrap()[0].not_after = NOW - 1;
    mesh.propagation = Ok(vec![
        "traces break in bank/deploy/ledger: 30 of its 35 requests".to_owned(),
    ]);
    mesh.dns = Err("ledger.bank.svc.cluster.local: there is no such name".to_owned());
    let sick = &mut mesh.pods[0];
    (sick.ready, sick.state, sick.restarts) = (false, "CrashLoopBackOff".to_owned(), 3);
    sick.proxy = Some(Proxy {
        ready: Err("not ready (503): no identity".to_owned()),
        version: Some("0.0.9".to_owned()),
        certificate: Err("it is for another identity".to_owned()),
        redirected: Err("what is sent to port 9000 does not reach the proxy: no TLS handshake".to_owned()),
        disconnected: vec!["destination".to_owned()],
        panics: 2.0,
    });
    mesh
}

#[test]
fn everything_that_is_wrong_is_named_with_what_to_do() {
    let report = judge(&evidence(Ok(sick())));
    assert_eq!(report.mark(), Mark::Fail);
    insta::assert_snapshot!(report.text(true, false));
}

#[test]
fn json_has_linkerds_shape() {
    let mut mesh = sick();
    mesh.control = Err("the control plane does not answer".to_owned());
    insta::assert_json_snapshot!(judge(&evidence(Ok(mesh))).json());
}

#[test]
fn warnings_alone_are_no_finding() {
    let mut mesh = healthy();
    mesh.pods[0].restarts = 1;
    let report = judge(&evidence(Ok(mesh)));
    assert_eq!(report.mark(), Mark::Warn);
    assert!(
        report
            .text(true, false)
            .contains("bank/ledger-0 was started again 1 time\n")
    );
    assert!(report.text(false, false).ends_with("Status check results are √\n"));
}
