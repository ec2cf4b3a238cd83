//! From what proxies push to what is answered.

mod scale;

use std::sync::Arc;

use sheer_api::v1::{self, selector, series_key};

use super::{Intake, Windows, edges, intake::Reports, points, stat, time::now_ms, top};
use crate::{
    config::MeshConfig,
    server::Peer,
    sight::hidden::Hidden,
    store::{Snapshot, Store},
};

const MESH: &str = "
apiVersion: v1
kind: Service
metadata: {name: ledger, namespace: bank}
spec: {clusterIP: 10.96.0.1, selector: {app: ledger}, ports: [{port: 9000}]}
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: ledger, namespace: bank}
spec: {selector: {matchLabels: {app: ledger}}, template: {metadata: {labels: {app: ledger}}, spec: {containers: [{name: app}]}}}
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: web, namespace: bank}
spec: {selector: {matchLabels: {app: web}}, template: {metadata: {labels: {app: web}}, spec: {containers: [{name: app}]}}}
";
const PODS: &str = "
apiVersion: v1
kind: Pod
metadata: {name: ledger-0, namespace: bank, labels: {app: ledger}, annotations: {sheer.dev/meshed: 'true'}}
spec: {serviceAccountName: ledger, containers: [{name: app}]}
status: {podIP: 10.77.0.5, conditions: [{type: Ready, status: 'True'}]}
---
apiVersion: v1
kind: Pod
metadata: {name: web-0, namespace: bank, labels: {app: web}, annotations: {sheer.dev/meshed: 'true'}}
spec: {serviceAccountName: web, containers: [{name: app}]}
status: {podIP: 10.77.0.6, conditions: [{type: Ready, status: 'True'}]}
---
apiVersion: v1
kind: Pod
metadata: {name: cron, namespace: jobs}
spec: {containers: [{name: app}]}
status: {podIP: 10.77.0.9, conditions: [{type: Ready, status: 'True'}]}
";

/// A control plane that hears what tests say.
struct Mesh {
    snapshot: Arc<Snapshot>,
    windows: Arc<Windows>,
    intake: Intake,
    config: MeshConfig,
}

/// A proxy that says what tests have it say.
struct Proxy {
    reports: Reports,
    sequence: u64,
}

impl Mesh {
    fn new() -> Self {
        Self::of(MESH, PODS)
    }

    fn of(written: &str, pods: &str) -> Self {
        let snapshot = Arc::new(Snapshot::of(written, pods));
        // Up for long.
        let windows = Windows::new(u64::MAX, 0);
        let intake = Intake::for_tests(Store::fixed(Arc::clone(&snapshot)), Arc::clone(&windows));
        Self {
            snapshot,
            windows,
            intake,
            config: MeshConfig::for_tests(),
        }
    }

    fn proxy(&self, pod: &str, instance: &str) -> Proxy {
        let hello = v1::TelemetryPush {
            reporter: Some(v1::Reporter {
                workload: serde_json::json!({"ns": "bank", "pod": pod}).to_string(),
                instance: instance.to_owned(),
                identity: format!(
                    "{}.bank.serviceaccount.identity.sheer.cluster.local",
                    &pod[..pod.len() - 2]
                ),
                ..v1::Reporter::default()
            }),
            at_ms: now_ms(),
            ..v1::TelemetryPush::default()
        };
        let reports = self.intake.begin(None, hello).expect("taken");
        Proxy { reports, sequence: 0 }
    }

    fn stat(&self, request: v1::StatRequest) -> Vec<v1::Stat> {
        stat::stat(&self.windows, &self.snapshot, &self.config, &request)
            .expect("answered")
            .stats
    }

    fn stat_of(&self, kind: selector::Kind, name: &str) -> v1::Stat {
        let stats = self.stat(v1::StatRequest {
            what: Some(of(kind, name)),
            window_ms: 60_000,
            ..v1::StatRequest::default()
        });
        assert_eq!(stats.len(), 1, "{stats:#?}");
        stats[0].clone()
    }

    fn top(&self, look: &top::Look) -> v1::TopResponse {
        top::top(&self.windows, (&self.snapshot, &Hidden::of(&self.snapshot)), look)
    }

    fn edges(&self) -> Vec<v1::Edge> {
        let request = v1::EdgesRequest::default();
        edges::edges(&self.windows, &self.snapshot, &self.config, &request)
            .expect("answered")
            .edges
    }
}

impl Proxy {
    /// Reports of a second that ended some time ago.
    fn push(&mut self, ago_ms: i64, span_ms: u64, keys: Vec<v1::SeriesKey>, series: Vec<v1::SeriesDelta>) {
        self.sequence += 1;
        self.push_as(self.sequence, ago_ms, span_ms, (keys, series));
    }

    fn push_as(
        &mut self,
        sequence: u64,
        ago_ms: i64,
        span_ms: u64,
        (keys, series): (Vec<v1::SeriesKey>, Vec<v1::SeriesDelta>),
    ) {
        self.reports.take(v1::TelemetryPush {
            sequence,
            at_ms: now_ms() - ago_ms,
            span_ms,
            keys,
            series,
            ..v1::TelemetryPush::default()
        });
    }
}

fn of(kind: selector::Kind, name: &str) -> v1::Selector {
    v1::Selector {
        kind: kind.into(),
        name: name.to_owned(),
        namespace: String::new(),
    }
}

fn peer(address: &str, identity: &str) -> v1::Peer {
    let tls = if identity.is_empty() {
        v1::Tls::Plain
    } else {
        v1::Tls::Mutual
    };
    v1::Peer {
        address: address.to_owned(),
        identity: identity.to_owned(),
        tls: tls.into(),
        ..v1::Peer::default()
    }
}

fn inbound(id: u32, peer: v1::Peer) -> v1::SeriesKey {
    v1::SeriesKey {
        id,
        direction: series_key::Direction::Inbound.into(),
        scope: series_key::Scope::Peer.into(),
        peer: Some(peer),
        port: 9000,
        ..v1::SeriesKey::default()
    }
}

fn ledger() -> v1::ObjectRef {
    v1::ObjectRef {
        kind: "Service".to_owned(),
        namespace: "bank".to_owned(),
        name: "ledger".to_owned(),
        port: 9000,
        ..v1::ObjectRef::default()
    }
}

fn outbound(id: u32, scope: series_key::Scope, peer: Option<v1::Peer>) -> v1::SeriesKey {
    v1::SeriesKey {
        id,
        direction: series_key::Direction::Outbound.into(),
        scope: scope.into(),
        peer,
        target: Some(ledger()),
        authority: "ledger.bank.svc.cluster.local:9000".to_owned(),
        ..v1::SeriesKey::default()
    }
}

/// Calls of which so many went well and so many did not, each of 10 ms.
fn calls(id: u32, good: u64, bad: u64) -> v1::SeriesDelta {
    let status = |grpc, success, count| v1::StatusCount {
        http_status: 200,
        grpc_status: Some(grpc),
        success,
        count,
        ..v1::StatusCount::default()
    };
    let statuses = [status(0, true, good), status(14, false, bad)];
    v1::SeriesDelta {
        id,
        statuses: statuses.into_iter().filter(|status| status.count > 0).collect(),
        latency: Some(v1::LatencyHistogram {
            first: 27,
            counts: vec![good + bad],
            sum_micros: 10_000 * (good + bad),
        }),
        requests: Some(v1::RequestCounts {
            grpc: good + bad,
            ..v1::RequestCounts::default()
        }),
        tcp: None,
    }
}

const WEB: &str = "web.bank.serviceaccount.identity.sheer.cluster.local";
const LEDGER: &str = "ledger.bank.serviceaccount.identity.sheer.cluster.local";

fn traffic(stat: &v1::Stat) -> &v1::Traffic {
    stat.traffic.as_ref().expect("traffic")
}

/// Web calls ledger ten times a second: one in ten goes badly there, and well when it is tried again.
fn with_calls() -> Mesh {
    let mesh = Mesh::new();
    let (mut ledger, mut web) = (mesh.proxy("ledger-0", "a"), mesh.proxy("web-0", "a"));
    for second in 10..20 {
        let ago = second * 1_000;
        ledger.push(
            ago,
            1_000,
            vec![inbound(1, peer("10.77.0.6", WEB))],
            vec![calls(1, 9, 1)],
        );
        let keys = vec![
            outbound(1, series_key::Scope::Peer, Some(peer("10.77.0.5", LEDGER))),
            outbound(2, series_key::Scope::Route, None),
        ];
        let (mut endpoint, mut route) = (calls(1, 10, 0), calls(2, 10, 0));
        for requests in [&mut endpoint, &mut route]
            .into_iter()
            .filter_map(|row| row.requests.as_mut())
        {
            (requests.attempts, requests.attempt_successes) = (11, 10);
        }
        if let Some(requests) = &mut route.requests {
            requests.retries = 1;
        }
        web.push(ago, 1_000, keys, vec![endpoint, route]);
    }
    drop((ledger, web));
    mesh
}

#[test]
fn a_workload_has_what_arrived_and_a_client_what_it_sent() {
    let mesh = with_calls();
    let server = mesh.stat_of(selector::Kind::Workload, "ledger");
    assert_eq!(server.direction(), series_key::Direction::Inbound);
    assert_eq!((traffic(&server).requests, traffic(&server).successes), (100, 90));
    assert_eq!(
        (traffic(&server).requests_secured, traffic(&server).requests_with_peer),
        (100, 100)
    );
    assert_eq!((server.pods, server.pods_ready, server.pods_meshed), (1, 1, 1));
    let p99 = traffic(&server).p99_ms.expect("there were requests");
    assert!((p99 - 10.0).abs() < 0.9, "{p99}");

    let client = mesh.stat_of(selector::Kind::Workload, "web");
    assert_eq!(client.direction(), series_key::Direction::Outbound);
    assert_eq!(traffic(&client).requests, 100);

    let service = mesh.stat_of(selector::Kind::Service, "ledger");
    let effective = traffic(&service);
    assert_eq!((effective.requests, effective.successes), (100, 100));
    assert_eq!(
        (effective.attempts, effective.attempt_successes, effective.retries),
        (110, 100, 10)
    );
    assert_eq!(effective.requests_secured, 100);
}

#[test]
fn either_side_can_be_asked_for() {
    let mesh = with_calls();
    let from = mesh.stat(v1::StatRequest {
        what: Some(of(selector::Kind::Workload, "ledger")),
        from: Some(of(selector::Kind::Workload, "web")),
        ..v1::StatRequest::default()
    });
    assert_eq!(traffic(&from[0]).requests, 100);
    let to = mesh.stat(v1::StatRequest {
        what: Some(of(selector::Kind::Pod, "web-0")),
        to: Some(of(selector::Kind::Service, "ledger")),
        ..v1::StatRequest::default()
    });
    assert_eq!((traffic(&to[0]).requests, traffic(&to[0]).attempts), (100, 110));
    let pods = mesh.stat(v1::StatRequest {
        what: Some(of(selector::Kind::Pod, "ledger-0")),
        from: Some(of(selector::Kind::Workload, "web")),
        ..v1::StatRequest::default()
    });
    assert_eq!(
        (pods[0].direction(), traffic(&pods[0]).successes),
        (series_key::Direction::Inbound, 90)
    );
    let nobody = mesh.stat(v1::StatRequest {
        what: Some(of(selector::Kind::Workload, "web")),
        from: Some(of(selector::Kind::Workload, "ledger")),
        only_active: true,
        ..v1::StatRequest::default()
    });
    assert_eq!(nobody, []);
}

#[test]
fn hours_keep_a_latency_once_with_a_workload_and_with_a_service() {
    let mesh = with_calls();
    for (kind, name) in [
        (selector::Kind::Workload, "ledger"),
        (selector::Kind::Workload, "web"),
        (selector::Kind::Service, "ledger"),
    ] {
        let stats = mesh.stat(v1::StatRequest {
            what: Some(of(kind, name)),
            window_ms: 3_600_000,
            ..v1::StatRequest::default()
        });
        let of_an_hour = traffic(&stats[0]);
        let latencies: u64 = of_an_hour.latency.iter().flat_map(|latency| &latency.counts).sum();
        assert!(
            of_an_hour.requests > 0 && latencies == of_an_hour.requests,
            "{name}: {of_an_hour:#?}"
        );
        let p99 = of_an_hour.p99_ms.expect("there were requests");
        assert!((p99 / 10.0).max(10.0 / p99) < 1.19, "{name}: {p99}");
    }
}

#[test]
fn a_message_that_comes_again_counts_once_and_a_new_process_begins_anew() {
    let mesh = Mesh::new();
    let keys = || vec![inbound(1, peer("10.77.0.6", WEB))];
    let mut ledger = mesh.proxy("ledger-0", "a");
    ledger.push_as(1, 5_000, 1_000, (keys(), vec![calls(1, 5, 0)]));
    drop(ledger);
    // The acknowledgement was lost: the same again, on another stream.
    let mut again = mesh.proxy("ledger-0", "a");
    again.push_as(1, 5_000, 1_000, (keys(), vec![calls(1, 5, 0)]));
    again.push_as(2, 4_000, 1_000, (vec![], vec![calls(1, 3, 0)]));
    drop(again);
    let mut restarted = mesh.proxy("ledger-0", "b");
    restarted.push_as(1, 3_500, 1_000, (keys(), vec![calls(1, 2, 0)]));
    assert_eq!(traffic(&mesh.stat_of(selector::Kind::Workload, "ledger")).requests, 10);
}

#[test]
fn what_comes_late_counts_when_it_happened() {
    let mesh = Mesh::new();
    let mut ledger = mesh.proxy("ledger-0", "a");
    let keys = vec![inbound(1, peer("10.77.0.6", WEB))];
    ledger.push(3_000, 1_000, keys, vec![calls(1, 1, 0)]);
    // After an outage: half a minute in one report, which ended half a minute ago.
    ledger.push(30_000, 30_000, vec![], vec![calls(1, 3_000, 0)]);
    let request = v1::SeriesRequest {
        what: Some(of(selector::Kind::Workload, "ledger")),
        window_ms: 120_000,
        ..v1::SeriesRequest::default()
    };
    let answer = points::series(&mesh.windows, &mesh.snapshot, &request).expect("answered");
    let points = &answer.series[0].points;
    assert_eq!(points.len(), 120);
    assert_eq!(points.iter().map(|point| point.requests).sum::<u64>(), 3_001);
    let busy: Vec<_> = points
        .iter()
        .map(|point| point.requests)
        .filter(|requests| *requests > 1)
        .collect();
    assert!((29..=32).contains(&busy.len()), "{busy:?}");
    assert!(busy.iter().all(|requests| *requests <= 104), "{busy:?}");
}

#[test]
fn a_clock_that_is_an_hour_ahead_does_no_harm() {
    let mesh = Mesh::new();
    let mut hello = mesh.proxy("ledger-0", "a");
    let hour = -3_600_000;
    let begin = |sequence| v1::TelemetryPush {
        reporter: Some(v1::Reporter {
            instance: "a".to_owned(),
            ..v1::Reporter::default()
        }),
        at_ms: now_ms() - hour,
        sequence,
        ..v1::TelemetryPush::default()
    };
    hello.reports.take(begin(0));
    hello.push(
        hour + 3_000,
        1_000,
        vec![inbound(1, peer("10.77.0.6", WEB))],
        vec![calls(1, 7, 0)],
    );
    assert_eq!(traffic(&mesh.stat_of(selector::Kind::Workload, "ledger")).requests, 7);
}

#[test]
fn edges_are_told_by_clients_and_by_servers_of_clients_without_a_proxy() {
    let mesh = Mesh::new();
    let (mut ledger, mut web) = (mesh.proxy("ledger-0", "a"), mesh.proxy("web-0", "a"));
    let keys = vec![
        inbound(1, peer("10.77.0.6", WEB)),
        inbound(2, peer("10.77.0.9", "")),
        inbound(3, peer("192.0.2.7", "")),
    ];
    ledger.push(5_000, 1_000, keys, vec![calls(1, 1, 0), calls(2, 2, 0), calls(3, 3, 0)]);
    let mut outside = outbound(2, series_key::Scope::Peer, Some(peer("203.0.113.9", "")));
    outside.target = None;
    if let Some(peer) = &mut outside.peer {
        peer.host = "api.example.org".to_owned();
    }
    let keys = vec![
        outbound(1, series_key::Scope::Peer, Some(peer("10.77.0.5", LEDGER))),
        outside,
    ];
    let bytes = v1::SeriesDelta {
        id: 2,
        tcp: Some(v1::TcpCounts {
            opened: 1,
            written_bytes: 5_000,
            open: 1,
            ..v1::TcpCounts::default()
        }),
        ..v1::SeriesDelta::default()
    };
    web.push(5_000, 1_000, keys, vec![calls(1, 1, 0), bytes]);
    let told: Vec<_> = mesh
        .edges()
        .iter()
        .map(|edge| {
            let name = |resource: &Option<v1::Resource>| {
                let v1::Resource { kind, name, .. } = resource.clone().unwrap_or_default();
                format!("{kind}/{name}")
            };
            let requests = edge.traffic.as_ref().map_or(0, |traffic| traffic.requests);
            format!(
                "{} -> {} {} {} {requests} {:?} {}",
                name(&edge.source),
                name(&edge.destination),
                edge.service.as_ref().map_or("-", |service| service.name.as_str()),
                edge.protocols.join(","),
                edge.tls(),
                edge.why_plain
            )
        })
        .collect();
    insta::assert_snapshot!(told.join("\n"));
}

#[test]
fn pods_that_do_not_report_are_named() {
    let mesh = Mesh::new();
    let _web = mesh.proxy("web-0", "a");
    let request = v1::StatRequest {
        what: Some(of(selector::Kind::Workload, "")),
        ..v1::StatRequest::default()
    };
    let answer = stat::stat(&mesh.windows, &mesh.snapshot, &mesh.config, &request).expect("answered");
    assert_eq!(answer.stats.len(), 2);
    let [note] = &answer.notes[..] else {
        panic!("{:?}", answer.notes)
    };
    assert!(note.contains("bank/ledger-0") && !note.contains("web-0"), "{note}");
}

#[test]
fn a_proxy_speaks_for_its_own_pod_alone() {
    let mesh = Mesh::new();
    let hello = || v1::TelemetryPush {
        reporter: Some(v1::Reporter {
            workload: serde_json::json!({"ns": "bank", "pod": "ledger-0"}).to_string(),
            ..v1::Reporter::default()
        }),
        ..v1::TelemetryPush::default()
    };
    let begin = |names: &[&str]| {
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let peer = Peer {
            tls: true,
            names: Some(names.into()),
            user: None,
        };
        let began = mesh.intake.begin(Some(&peer), hello());
        began.map(drop).map_err(|status| status.code())
    };
    assert_eq!(begin(&[&mesh.config.identity("bank", "ledger")]), Ok(()));
    assert_eq!(
        begin(&[&mesh.config.identity("bank", "web")]),
        Err(tonic::Code::PermissionDenied)
    );
    assert_eq!(begin(&[]), Err(tonic::Code::PermissionDenied));
}

#[test]
fn paths_are_shown_once_each_and_only_while_they_are_kept() {
    let mesh = Mesh::new();
    let (mut ledger, mut web) = (mesh.proxy("ledger-0", "a"), mesh.proxy("web-0", "a"));
    let path = |direction: series_key::Direction, peer, path: &str| v1::PathDelta {
        direction: direction.into(),
        peer,
        target: Some(ledger_of(direction)),
        method: "POST".to_owned(),
        path: path.to_owned(),
        statuses: calls(1, 4, 1).statuses,
        latency: calls(1, 4, 1).latency,
        ..v1::PathDelta::default()
    };
    let push = |sequence, paths| v1::TelemetryPush {
        sequence,
        at_ms: now_ms() - 5_000 + sequence.cast_signed() * 1_000,
        span_ms: 1_000,
        paths,
        ..v1::TelemetryPush::default()
    };
    let (inbound, outbound) = (series_key::Direction::Inbound, series_key::Direction::Outbound);
    ledger.reports.take(push(
        1,
        vec![
            path(inbound, Some(peer("10.77.0.6", WEB)), "/ledger.Ledger/Post"),
            path(inbound, Some(peer("10.77.0.9", "")), "/ledger.Ledger/Audit"),
        ],
    ));
    web.reports
        .take(push(1, vec![path(outbound, None, "/ledger.Ledger/Post")]));
    let shown = |what: Option<v1::Selector>| {
        let request = v1::TopRequest {
            what,
            ..v1::TopRequest::default()
        };
        let look = top::Look::new(&request).expect("a good question");
        let answer = mesh.top(&look);
        let name = |resource: &Option<v1::Resource>| resource.clone().unwrap_or_default().name;
        let told = answer.paths.iter().map(|path| {
            let requests = path.traffic.as_ref().map_or(0, |traffic| traffic.requests);
            format!(
                "{}->{} {} {requests}",
                name(&path.source),
                name(&path.destination),
                path.path
            )
        });
        let mut told: Vec<_> = told.collect();
        told.sort();
        told
    };
    assert_eq!(
        shown(None),
        [
            "cron->ledger /ledger.Ledger/Audit 5",
            "web->ledger /ledger.Ledger/Post 5"
        ]
    );
    assert_eq!(shown(Some(of(selector::Kind::Workload, "ledger"))).len(), 2);
    assert_eq!(
        shown(Some(of(selector::Kind::Namespace, "bank"))).len(),
        2,
        "each request once, also where both its sides are looked at"
    );
    // Somebody looks since a moment ago: rates are of whole seconds since, whatever the window.
    let look = top::Look::new(&v1::TopRequest::default()).expect("a good question");
    let span = || Some(mesh.top(&look).paths.first()?.traffic.as_ref()?.span_ms);
    assert_eq!(span(), Some(10_000), "nobody looks since a long time ago");
    let _watcher = mesh.windows.watch_paths();
    assert_eq!(span(), None, "a first report is of a part of a second");
    web.reports
        .take(push(2, vec![path(outbound, None, "/ledger.Ledger/Post")]));
    let seen = span();
    assert!(seen.is_some_and(|span| (1_000..=3_000).contains(&span)), "{seen:?}");
    assert_eq!(
        shown(Some(of(selector::Kind::Workload, "web"))),
        ["web->ledger /ledger.Ledger/Post 5"]
    );
    // A proxy reports nothing of seconds without requests: the only one of a quiet service is whole.
    mesh.windows.watch_since_ms(now_ms() - 9_000);
    assert_eq!(shown(None).len(), 2);
}

/// Such requests are counted, and nobody sees which they are, whoever counted them.
#[test]
fn paths_of_what_nobody_may_look_at_are_not_shown() {
    const HIDES: &str = "annotations: {sheer.dev/sight: disabled}";
    let shown = |written: &str, pods: &str| {
        let mesh = Mesh::of(written, pods);
        let (inbound, outbound) = (series_key::Direction::Inbound, series_key::Direction::Outbound);
        let path = |direction: series_key::Direction, peer, path: &str| v1::PathDelta {
            direction: direction.into(),
            peer,
            target: Some(ledger_of(direction)),
            method: "POST".to_owned(),
            path: path.to_owned(),
            statuses: calls(1, 4, 1).statuses,
            ..v1::PathDelta::default()
        };
        let push = |paths| v1::TelemetryPush {
            sequence: 1,
            at_ms: now_ms() - 4_000,
            span_ms: 1_000,
            paths,
            ..v1::TelemetryPush::default()
        };
        let audit = path(inbound, Some(peer("10.77.0.9", "")), "/Audit");
        mesh.proxy("ledger-0", "a").reports.take(push(vec![audit]));
        // Once it has no endpoint, once it has.
        let posts = [None, Some(peer("10.77.0.5", ""))].map(|peer| path(outbound, peer, "/Post"));
        mesh.proxy("web-0", "a").reports.take(push(posts.into()));
        let answer = mesh.top(&top::Look::new(&v1::TopRequest::default()).expect("a good question"));
        let requests = |path: &v1::PathStat| path.traffic.as_ref().map_or(0, |traffic| traffic.requests);
        assert_eq!(answer.paths.iter().map(requests).sum::<u64>(), 15, "{answer:#?}");
        let mut told: Vec<_> = answer.paths.into_iter().map(|path| path.method + &path.path).collect();
        told.sort();
        told.dedup();
        told.join(" ")
    };
    let hidden = "hidden (sheer.dev/sight: disabled)";
    assert_eq!(shown(MESH, PODS), "POST/Audit POST/Post");
    let namespace = format!("{MESH}---\napiVersion: v1\nkind: Namespace\nmetadata: {{name: bank, {HIDES}}}\n");
    assert_eq!(shown(&namespace, PODS), hidden);
    let callee = MESH.replace(
        "metadata: {name: ledger, namespace: bank}\nspec: {selector",
        &format!("metadata: {{name: ledger, namespace: bank, {HIDES}}}\nspec: {{selector"),
    );
    assert_eq!(shown(&callee, PODS), hidden);
    let caller = MESH.replace(
        "{name: web, namespace: bank}",
        &format!("{{name: web, namespace: bank, {HIDES}}}"),
    );
    assert_eq!(shown(&caller, PODS), format!("POST/Audit {hidden}"));
    let outside = PODS.replace(
        "{name: cron, namespace: jobs}",
        &format!("{{name: cron, namespace: jobs, {HIDES}}}"),
    );
    assert_eq!(shown(MESH, &outside), format!("POST/Post {hidden}"));
}

fn ledger_of(direction: series_key::Direction) -> v1::ObjectRef {
    match direction {
        series_key::Direction::Outbound => ledger(),
        _ => v1::ObjectRef::default(),
    }
}
