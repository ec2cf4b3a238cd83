//! The control plane's questions, asked of a Prometheus: the same messages in and out.
//!
//! Series are expected to have the labels `namespace`, `pod` and `deployment` or `statefulset` of the pod that was scraped, as Linkerd's scrape
//! configuration gives them, and that of `observability/`.

use std::{
    collections::BTreeMap,
    time::{SystemTime, UNIX_EPOCH},
};

use futures::future::try_join_all;
use sheer_api::v1::{
    Edge, EdgesRequest, EdgesResponse, Resource, Selector, Stat, StatRequest, StatResponse, TcpCounts, Tls, Traffic,
    Window, selector::Kind, series_key::Direction,
};

use super::prometheus::{Prometheus, Sample};
use crate::outcome::Misuse;

/// What answers are asked for without a window: as the control plane's.
const STAT_WINDOW_MS: u64 = 60_000;
const EDGES_WINDOW_MS: u64 = 600_000;

/// One way to see resources in series: which labels name them, which series are meant, and which families count.
#[derive(Clone, Debug)]
struct View {
    kind: &'static str,
    direction: Direction,
    /// Labels that name namespace and name, and what tells apart beyond those.
    by: [&'static str; 3],
    matchers: Vec<String>,
    /// What is before `response_total`: `route_` for what was routed.
    family: &'static str,
}

/// What a query is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Number {
    Successes,
    Failures,
    Attempts,
    AttemptSuccesses,
    Retries,
    P50,
    P95,
    P99,
    Secured,
    WithPeer,
    OpenConnections,
    Opened,
    OpenedSecured,
    Read,
    Written,
    Pods,
}

const NUMBERS: [Number; 16] = [
    Number::Successes,
    Number::Failures,
    Number::Attempts,
    Number::AttemptSuccesses,
    Number::Retries,
    Number::P50,
    Number::P95,
    Number::P99,
    Number::Secured,
    Number::WithPeer,
    Number::OpenConnections,
    Number::Opened,
    Number::OpenedSecured,
    Number::Read,
    Number::Written,
    Number::Pods,
];

/// Namespace, kind, name, part.
type Key = (String, String, String, String);

/// How resources did.
pub(super) async fn stat(prometheus: &Prometheus, request: &StatRequest) -> anyhow::Result<StatResponse> {
    let window_ms = if request.window_ms == 0 {
        STAT_WINDOW_MS
    } else {
        request.window_ms
    };
    let at = now();
    let what = request.what.clone().unwrap_or_default();
    let (mut views, fallback) = views(&what, request.from.as_ref(), request.to.as_ref())?;
    let firsts = views.len();
    views.extend(fallback);
    let answers = try_join_all(views.iter().map(|view| of_view(prometheus, view, window_ms, at))).await?;
    let mut stats: BTreeMap<Key, Stat> = BTreeMap::new();
    for (place, (view, found)) in views.iter().zip(answers).enumerate() {
        for (key, stat) in found {
            let traffic = stat.traffic.as_ref();
            let is_silent = traffic.is_none_or(|traffic| traffic.requests == 0 && !has_connections(traffic));
            match stats.get_mut(&key) {
                // What was sent counts where nothing arrived.
                Some(first) if place >= firsts => {
                    let arrived = first
                        .traffic
                        .as_ref()
                        .is_some_and(|traffic| traffic.requests > 0 || has_connections(traffic));
                    if !arrived && !is_silent {
                        let pods = first.pods;
                        *first = Stat {
                            pods,
                            pods_meshed: pods,
                            pods_ready: pods,
                            ..stat
                        };
                    }
                }
                Some(_) => {}
                None if is_silent && request.only_active => {}
                None => drop(stats.insert(
                    key,
                    Stat {
                        direction: view.direction.into(),
                        ..stat
                    },
                )),
            }
        }
    }
    Ok(StatResponse {
        stats: stats.into_values().collect(),
        window: Some(window(at, window_ms)),
        notes: Vec::new(),
    })
}

fn has_connections(traffic: &Traffic) -> bool {
    traffic.tcp.is_some_and(|tcp| tcp.opened > 0 || tcp.open > 0)
}

/// The views of a question, and those that count where the first have nothing.
fn views(what: &Selector, from: Option<&Selector>, to: Option<&Selector>) -> Result<(Vec<View>, Vec<View>), Misuse> {
    let clients = |view: View| -> Result<View, Misuse> {
        let mut view = view;
        if let Some(from) = from {
            view.matchers.extend(own(from)?);
        }
        if let Some(to) = to {
            view.matchers.extend(peer(to)?);
        }
        Ok(view)
    };
    match what.kind() {
        Kind::Service => {
            let view = View {
                kind: "svc",
                direction: Direction::Outbound,
                by: ["parent_namespace", "parent_name", "parent_kind"],
                matchers: [
                    vec!["parent_kind=\"Service\"".to_owned()],
                    matchers("parent_namespace", "parent_name", what),
                ]
                .concat(),
                family: "",
            };
            Ok((vec![clients(view)?], Vec::new()))
        }
        Kind::Route => {
            let of = |kind: &'static str, spelt: &str| View {
                kind,
                direction: Direction::Outbound,
                by: ["route_namespace", "route_name", "route_rule"],
                matchers: [
                    vec![format!("route_kind=\"{spelt}\"")],
                    matchers("route_namespace", "route_name", what),
                ]
                .concat(),
                family: "route_",
            };
            let routes = [
                clients(of("httproute", "HTTPRoute"))?,
                clients(of("grpcroute", "GRPCRoute"))?,
            ];
            let mut views = routes.to_vec();
            if what.name.is_empty() {
                // What nobody wrote a route for goes by its Service.
                let mut unrouted = of("svc", "default");
                unrouted.by = ["parent_namespace", "parent_name", "route_kind"];
                unrouted.matchers = [
                    vec![
                        "route_kind=\"default\"".to_owned(),
                        "parent_kind=\"Service\"".to_owned(),
                    ],
                    matchers("parent_namespace", "", what),
                ]
                .concat();
                views.push(clients(unrouted)?);
            }
            Ok((views, Vec::new()))
        }
        _ => of_workloads(what, from, to),
    }
}

fn of_workloads(
    what: &Selector,
    from: Option<&Selector>,
    to: Option<&Selector>,
) -> Result<(Vec<View>, Vec<View>), Misuse> {
    let kinds: &[(&'static str, &'static str, &'static str)] = match what.kind() {
        Kind::Deployment => &[("deploy", "deployment", "dst_deployment")],
        Kind::Statefulset => &[("sts", "statefulset", "dst_statefulset")],
        Kind::Pod => &[("pod", "pod", "dst_pod")],
        Kind::Namespace => &[("ns", "", "")],
        _ => &[
            ("deploy", "deployment", "dst_deployment"),
            ("sts", "statefulset", "dst_statefulset"),
        ],
    };
    let (mut views, mut fallback) = (Vec::new(), Vec::new());
    for &(kind, label, dst_label) in kinds {
        let is_namespace = kind == "ns";
        // The clients' numbers, under the name of the server.
        let (namespace_label, label) = if from.is_some() {
            ("dst_namespace", dst_label)
        } else {
            ("namespace", label)
        };
        let by = if is_namespace {
            ["", namespace_label, ""]
        } else {
            [namespace_label, label, ""]
        };
        let mut view = View {
            kind,
            direction: Direction::Inbound,
            by,
            matchers: matchers(by[0], by[1], what),
            family: "",
        };
        view.matchers.push(format!("{}!=\"\"", by[1]));
        if from.is_some() || to.is_some() {
            view.direction = Direction::Outbound;
            if let Some(from) = from {
                view.matchers.extend(own(from)?);
            }
            if let Some(to) = to {
                view.matchers.extend(peer(to)?);
            }
            views.push(view);
            continue;
        }
        fallback.push(View {
            direction: Direction::Outbound,
            ..view.clone()
        });
        views.push(view);
    }
    Ok((views, fallback))
}

/// Matchers of labels that name what a selector means.
fn matchers(namespace: &str, name: &str, selector: &Selector) -> Vec<String> {
    let of = |label: &str, value: &str| {
        (!label.is_empty() && !value.is_empty()).then(|| format!("{label}=\"{}\"", value.replace(['"', '\\'], "")))
    };
    [of(namespace, &selector.namespace), of(name, &selector.name)]
        .into_iter()
        .flatten()
        .collect()
}

/// Series of the pods that a selector means.
fn own(selector: &Selector) -> Result<Vec<String>, Misuse> {
    let label = match selector.kind() {
        Kind::Deployment | Kind::Workload => "deployment",
        Kind::Statefulset => "statefulset",
        Kind::Pod => "pod",
        Kind::Namespace => return Ok(matchers("", "namespace", selector)),
        _ => {
            return Err(Misuse(
                "only workloads, pods and namespaces send: name one with --from".to_owned(),
            ));
        }
    };
    Ok(matchers("namespace", label, selector))
}

/// Series of what goes to what a selector means.
fn peer(selector: &Selector) -> Result<Vec<String>, Misuse> {
    let label = match selector.kind() {
        Kind::Deployment | Kind::Workload => "dst_deployment",
        Kind::Statefulset => "dst_statefulset",
        Kind::Pod => "dst_pod",
        Kind::Namespace => return Ok(matchers("", "dst_namespace", selector)),
        Kind::Service => return Ok(matchers("parent_namespace", "parent_name", selector)),
        _ => {
            return Err(Misuse(
                "a Prometheus cannot tell what went by a route: name a service or a workload with --to".to_owned(),
            ));
        }
    };
    Ok(matchers("dst_namespace", label, selector))
}

/// Every resource of a view.
async fn of_view(prometheus: &Prometheus, view: &View, window_ms: u64, at: f64) -> anyhow::Result<BTreeMap<Key, Stat>> {
    let asked = NUMBERS
        .iter()
        .filter_map(|number| Some((*number, query(view, *number, window_ms)?)));
    let asked: Vec<_> = asked.collect();
    let answers = try_join_all(asked.iter().map(|(_, query)| prometheus.query(query, at))).await?;
    let mut stats: BTreeMap<Key, Stat> = BTreeMap::new();
    for ((number, _), samples) in asked.iter().zip(answers) {
        for sample in samples {
            let key = key(view, &sample);
            let stat = stats.entry(key.clone()).or_insert_with(|| empty(view, key, window_ms));
            note(stat, *number, sample.value);
        }
    }
    Ok(stats)
}

fn key(view: &View, sample: &Sample) -> Key {
    let part = match view.by[2] {
        "route_rule" => format!("rule {}", sample.label("route_rule")),
        "route_kind" => "default".to_owned(),
        _ => String::new(),
    };
    (
        sample.label(view.by[0]).to_owned(),
        view.kind.to_owned(),
        sample.label(view.by[1]).to_owned(),
        part,
    )
}

fn empty(view: &View, (namespace, kind, name, part): Key, window_ms: u64) -> Stat {
    Stat {
        resource: Some(Resource {
            kind,
            namespace,
            name,
            part,
        }),
        direction: view.direction.into(),
        traffic: Some(Traffic {
            span_ms: window_ms,
            tcp: Some(TcpCounts::default()),
            ..Traffic::default()
        }),
        ..Stat::default()
    }
}

/// The query for a number; none where the view has no such number.
fn query(view: &View, number: Number, window_ms: u64) -> Option<String> {
    let View { family, direction, .. } = view;
    let by = view
        .by
        .iter()
        .filter(|label| !label.is_empty())
        .copied()
        .collect::<Vec<_>>()
        .join(", ");
    let window = format!("[{}s]", window_ms.div_ceil(1_000));
    let side = if *direction == Direction::Outbound {
        "outbound"
    } else {
        "inbound"
    };
    let select = |more: &[&str]| {
        let all = view.matchers.iter().map(String::as_str).chain(more.iter().copied());
        let direction = format!("direction=\"{side}\"");
        [direction.as_str()]
            .into_iter()
            .chain(all)
            .collect::<Vec<_>>()
            .join(", ")
    };
    let increase = |name: &str, more: &[&str]| format!("sum by ({by}) (increase({name}{{{}}}{window}))", select(more));
    let responses = format!("{family}response_total");
    let quantile = |q: f64| {
        let by = if by.is_empty() {
            "le".to_owned()
        } else {
            format!("{by}, le")
        };
        let name = format!("{family}response_latency_ms_bucket");
        format!(
            "histogram_quantile({q}, sum by ({by}) (rate({name}{{{}}}{window})))",
            select(&[])
        )
    };
    // Connections towards clients where things arrive, towards servers where they are sent.
    let towards = if *direction == Direction::Outbound {
        "peer=\"dst\""
    } else {
        "peer=\"src\""
    };
    let is_routed = !family.is_empty();
    let is_outbound = *direction == Direction::Outbound;
    let attempts = "route_actual_response_total";
    let of_service = view.matchers.iter().any(|matcher| matcher.starts_with("parent_name="));
    let by_parent = view.by[0].starts_with("parent_") || is_routed || of_service;
    Some(match number {
        Number::Successes => increase(&responses, &["classification=\"success\""]),
        Number::Failures => increase(&responses, &["classification=\"failure\""]),
        Number::Attempts if is_outbound && by_parent => increase(attempts, &[]),
        Number::AttemptSuccesses if is_outbound && by_parent => increase(attempts, &["classification=\"success\""]),
        Number::Retries if is_outbound && by_parent => {
            let names = "__name__=~\"outbound_(http|grpc)_route_retry_requests_total\"";
            let all = view
                .matchers
                .iter()
                .map(String::as_str)
                .chain([names])
                .collect::<Vec<_>>()
                .join(", ");
            format!("sum by ({by}) (increase({{{all}}}{window}))")
        }
        Number::P50 => quantile(0.5),
        Number::P95 => quantile(0.95),
        Number::P99 => quantile(0.99),
        Number::Secured if !is_routed => increase("response_total", &["tls=\"true\""]),
        Number::WithPeer if !is_routed => increase("response_total", &["tls!=\"\""]),
        Number::OpenConnections if !is_routed => {
            format!("sum by ({by}) (tcp_open_connections{{{}}})", select(&[towards]))
        }
        Number::Opened if !is_routed => increase("tcp_open_total", &[towards]),
        Number::OpenedSecured if !is_routed => increase("tcp_open_total", &[towards, "tls=\"true\""]),
        Number::Read if !is_routed => increase("tcp_read_bytes_total", &[towards]),
        Number::Written if !is_routed => increase("tcp_write_bytes_total", &[towards]),
        Number::Pods if view.by[0] == "namespace" || view.by[1] == "namespace" => {
            format!("count by ({by}) (proxy_build_info{{{}}})", view.matchers.join(", "))
        }
        _ => return None,
    })
}

fn note(stat: &mut Stat, number: Number, value: f64) {
    let traffic = stat.traffic.get_or_insert_default();
    let tcp = traffic.tcp.get_or_insert_default();
    let count = value.round().max(0.0) as u64;
    match number {
        Number::Successes => {
            traffic.successes = count;
            traffic.requests += count;
        }
        Number::Failures => traffic.requests += count,
        Number::Attempts => traffic.attempts = count,
        Number::AttemptSuccesses => traffic.attempt_successes = count,
        Number::Retries => traffic.retries = count,
        Number::P50 => traffic.p50_ms = Some(value),
        Number::P95 => traffic.p95_ms = Some(value),
        Number::P99 => traffic.p99_ms = Some(value),
        Number::Secured => traffic.requests_secured = count,
        Number::WithPeer => traffic.requests_with_peer = count,
        Number::OpenConnections => tcp.open = count,
        Number::Opened => tcp.opened = count,
        Number::OpenedSecured => traffic.connections_secured = count,
        Number::Read => tcp.read_bytes = count,
        Number::Written => tcp.written_bytes = count,
        Number::Pods => {
            let pods = u32::try_from(count).unwrap_or(u32::MAX);
            (stat.pods, stat.pods_ready, stat.pods_meshed) = (pods, pods, pods);
        }
    }
}

/// Labels that make an edge one of its own.
const EDGE: &str = "namespace, deployment, statefulset, pod, dst_namespace, dst_deployment, dst_statefulset, dst_pod, target_ip, \
                    parent_kind, parent_namespace, parent_name, parent_port, tls, server_id";

/// Who talked to whom, as clients with a sidecar saw it. Who else called is not in the series.
pub(super) async fn edges(prometheus: &Prometheus, request: &EdgesRequest) -> anyhow::Result<EdgesResponse> {
    let window_ms = if request.window_ms == 0 {
        EDGES_WINDOW_MS
    } else {
        request.window_ms
    };
    let at = now();
    let mut matchers = vec![
        "direction=\"outbound\"".to_owned(),
        "peer=\"dst\"".to_owned(),
        "tls!=\"\"".to_owned(),
    ];
    if let Some(from) = &request.from {
        matchers.extend(own(from)?);
    }
    if let Some(to) = &request.to {
        matchers.extend(peer(to)?);
    }
    let select = matchers.join(", ");
    let window_text = format!("[{}s]", window_ms.div_ceil(1_000));
    let increase =
        |name: &str, more: &str| format!("sum by ({EDGE}) (increase({name}{{{select}{more}}}{window_text}))");
    let quantile = |q: f64| {
        let buckets = format!("rate(response_latency_ms_bucket{{{select}}}{window_text})");
        format!("histogram_quantile({q}, sum by ({EDGE}, le) ({buckets}))")
    };
    let asked = [
        (
            Number::Successes,
            increase("response_total", ", classification=\"success\""),
        ),
        (
            Number::Failures,
            increase("response_total", ", classification=\"failure\""),
        ),
        (Number::P50, quantile(0.5)),
        (Number::P95, quantile(0.95)),
        (Number::P99, quantile(0.99)),
        (
            Number::OpenConnections,
            format!("sum by ({EDGE}) (tcp_open_connections{{{select}}})"),
        ),
        (Number::Opened, increase("tcp_open_total", "")),
        (Number::Read, increase("tcp_read_bytes_total", "")),
        (Number::Written, increase("tcp_write_bytes_total", "")),
    ];
    let answers = try_join_all(asked.iter().map(|(_, query)| prometheus.query(query, at))).await?;
    let mut edges: BTreeMap<Vec<String>, (Edge, Stat)> = BTreeMap::new();
    for ((number, _), samples) in asked.iter().zip(answers) {
        for sample in samples {
            let edge = edge(&sample);
            if !request.what.as_ref().is_none_or(|what| is_of(what, &edge)) {
                continue;
            }
            let (_, stat) = edges.entry(edge_key(&edge)).or_insert_with(|| (edge, Stat::default()));
            merge(stat, *number, sample.value);
        }
    }
    let all = edges.into_values().filter_map(|(edge, stat)| {
        let traffic = stat.traffic?;
        let is_busy = traffic.requests > 0 || has_connections(&traffic);
        let edge = Edge {
            last_seen_ms: (at * 1_000.0) as i64,
            traffic: Some(Traffic {
                span_ms: window_ms,
                ..traffic
            }),
            ..edge
        };
        is_busy.then_some(edge)
    });
    Ok(EdgesResponse {
        edges: all.collect(),
        window: Some(window(at, window_ms)),
    })
}

/// Adds what pods of one workload have apart. Quantiles are of the slowest.
fn merge(stat: &mut Stat, number: Number, value: f64) {
    let mut one = Stat::default();
    note(&mut one, number, value);
    let (Some(one), traffic) = (one.traffic, stat.traffic.get_or_insert_default()) else {
        return;
    };
    traffic.requests += one.requests;
    traffic.successes += one.successes;
    let slower = |a: Option<f64>, b: Option<f64>| a.into_iter().chain(b).reduce(f64::max);
    traffic.p50_ms = slower(traffic.p50_ms, one.p50_ms);
    traffic.p95_ms = slower(traffic.p95_ms, one.p95_ms);
    traffic.p99_ms = slower(traffic.p99_ms, one.p99_ms);
    if let Some(more) = one.tcp {
        let tcp = traffic.tcp.get_or_insert_default();
        tcp.open += more.open;
        tcp.opened += more.opened;
        tcp.read_bytes += more.read_bytes;
        tcp.written_bytes += more.written_bytes;
    }
}

fn edge(sample: &Sample) -> Edge {
    let party = |namespace: &str, prefix: &str| {
        let of = |label: &str| sample.label(&format!("{prefix}{label}")).to_owned();
        let kinds = [("deploy", "deployment"), ("sts", "statefulset"), ("pod", "pod")];
        let found = kinds.into_iter().find(|(_, label)| !of(label).is_empty());
        found.map(|(kind, label)| Resource {
            kind: kind.to_owned(),
            namespace: sample.label(namespace).to_owned(),
            name: of(label),
            part: String::new(),
        })
    };
    let address = || Resource {
        kind: "address".to_owned(),
        name: sample.label("target_ip").to_owned(),
        ..Resource::default()
    };
    let is_service = sample.label("parent_kind") == "Service";
    let tls = match sample.label("tls") {
        "true" => Tls::Mutual,
        "opaque" => Tls::Opaque,
        "no_identity" => Tls::Plain,
        _ => Tls::Unspecified,
    };
    Edge {
        source: party("namespace", ""),
        destination: Some(party("dst_namespace", "dst_").unwrap_or_else(address)),
        service: is_service.then(|| Resource {
            kind: "svc".to_owned(),
            namespace: sample.label("parent_namespace").to_owned(),
            name: sample.label("parent_name").to_owned(),
            part: sample.label("parent_port").to_owned(),
        }),
        destination_identity: sample.label("server_id").to_owned(),
        tls: tls.into(),
        seen_by: Direction::Outbound.into(),
        ..Edge::default()
    }
}

fn edge_key(edge: &Edge) -> Vec<String> {
    let of = |resource: &Option<Resource>| super::resource(resource.as_ref(), true);
    vec![
        of(&edge.source),
        of(&edge.destination),
        of(&edge.service),
        edge.tls.to_string(),
        edge.destination_identity.clone(),
    ]
}

/// Whether a selector means either side of an edge.
fn is_of(what: &Selector, edge: &Edge) -> bool {
    let means = |resource: &Option<Resource>| {
        resource.as_ref().is_some_and(|resource| {
            let is_kind = match what.kind() {
                Kind::Workload => matches!(resource.kind.as_str(), "deploy" | "sts"),
                Kind::Deployment => resource.kind == "deploy",
                Kind::Statefulset => resource.kind == "sts",
                Kind::Pod => resource.kind == "pod",
                Kind::Service => resource.kind == "svc",
                Kind::Namespace => return what.name.is_empty() || resource.namespace == what.name,
                _ => false,
            };
            let of = |wanted: &str, is: &str| wanted.is_empty() || wanted == is;
            is_kind && of(&what.name, &resource.name) && of(&what.namespace, &resource.namespace)
        })
    };
    means(&edge.source) || means(&edge.destination) || means(&edge.service)
}

fn window(at: f64, window_ms: u64) -> Window {
    let to_ms = (at * 1_000.0) as i64;
    Window {
        from_ms: to_ms - i64::try_from(window_ms).unwrap_or(0),
        to_ms,
        step_ms: 0,
        known_from_ms: 0,
    }
}

#[expect(clippy::disallowed_methods, reason = "a Prometheus is asked by the wall clock")]
fn now() -> f64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default()
        .as_secs_f64()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::numbers::selector;

    fn asked(what: &str, from: Option<&str>, to: Option<&str>) -> String {
        let of = |reference: &str| selector(reference, Some("bank")).unwrap();
        let (first, fallback) = views(&of(what), from.map(of).as_ref(), to.map(of).as_ref()).unwrap();
        let numbers = [
            Number::Successes,
            Number::Attempts,
            Number::P99,
            Number::OpenConnections,
        ];
        let lines = first.iter().chain(&fallback).flat_map(|view| {
            numbers
                .iter()
                .filter_map(|number| query(view, *number, 60_000))
                .collect::<Vec<_>>()
        });
        lines.collect::<Vec<_>>().join("\n")
    }

    #[test]
    fn questions_become_these_queries() {
        insta::assert_snapshot!("deploy", asked("deploy/ledger", None, None));
        insta::assert_snapshot!(
            "from_and_to",
            asked("deploy/ledger", Some("deploy/payments"), None)
                + "\n\n"
                + &asked("deploy/payments", None, Some("svc/ledger"))
        );
        insta::assert_snapshot!(
            "services_and_routes",
            asked("svc", None, None) + "\n\n" + &asked("routes", None, None)
        );
    }

    #[test]
    fn a_name_cannot_leave_its_quotes() {
        let selector = Selector {
            name: "x\"} or up{a=\"".to_owned(),
            ..Selector::default()
        };
        assert_eq!(matchers("", "pod", &selector), ["pod=\"x} or up{a=\""]);
    }
}
