//! `Stats`, as far as the dashboard asks.

use std::pin::Pin;
use std::time::Duration;

use futures::stream::{self, Stream, StreamExt as _};
use sheer_api::v1::selector::Kind;
use sheer_api::v1::series_key::Direction;
use sheer_api::v1::stats_server::Stats;
use sheer_api::v1::{
    Edge, EdgesRequest, EdgesResponse, PathStat, Point, ProxiesRequest, ProxiesResponse, ProxyStatus, Reporter,
    Resource, Selector, SeriesOfResource, SeriesRequest, SeriesResponse, Stat, StatRequest, StatResponse, TopRequest,
    TopResponse, Traffic, Window,
};
use tonic::{Request, Response, Status};

use super::meshes::{End, Mesh, now_ms, rate, traffic};
use super::{Call, Simulated};

type Streamed<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

impl Mesh {
    fn meant(&self, index: usize, selector: Option<&Selector>) -> bool {
        let workload = &self.workloads[index];
        selector.is_none_or(|selector| {
            (selector.name.is_empty() || selector.name == workload.name)
                && (selector.namespace.is_empty() || selector.namespace == workload.namespace)
        })
    }

    fn end_meant(&self, end: &End, selector: Option<&Selector>) -> bool {
        match end {
            End::Workload(index) => self.meant(*index, selector),
            _ => selector.is_none(),
        }
    }

    /// What arrived at a workload, or what it sent where nothing arrives.
    fn own(&self, index: usize, end_ms: i64, span_ms: u64) -> (Direction, Traffic) {
        let calls = |of: fn(&Call) -> &End| {
            let own = self
                .calls
                .iter()
                .enumerate()
                .filter(move |(_, call)| *of(call) == End::Workload(index));
            own.map(move |(i, call)| traffic(call, i, end_ms, span_ms))
                .collect::<Vec<_>>()
        };
        let arrived = calls(|call| &call.to);
        if arrived.is_empty() {
            (Direction::Outbound, total(&calls(|call| &call.from), span_ms))
        } else {
            (Direction::Inbound, total(&arrived, span_ms))
        }
    }

    pub fn pods(&self, index: usize) -> Vec<String> {
        let workload = &self.workloads[index];
        (0..workload.pods)
            .map(|pod| format!("{}-6d9f4-{pod}", workload.name))
            .collect()
    }
}

/// The sum, its quantiles those of the busiest part.
fn total(parts: &[Traffic], span_ms: u64) -> Traffic {
    let busiest = parts
        .iter()
        .max_by_key(|part| part.requests)
        .cloned()
        .unwrap_or_default();
    let sum = |of: fn(&Traffic) -> u64| parts.iter().map(of).sum();
    Traffic {
        span_ms,
        requests: sum(|part| part.requests),
        successes: sum(|part| part.successes),
        requests_secured: sum(|part| part.requests_secured),
        requests_with_peer: sum(|part| part.requests_with_peer),
        statuses: parts.iter().flat_map(|part| part.statuses.clone()).collect(),
        ..busiest
    }
}

fn window(ms: u64, step_ms: u64) -> Window {
    let to_ms = now_ms() / 1_000 * 1_000;
    Window {
        from_ms: to_ms - ms as i64,
        to_ms,
        step_ms,
        known_from_ms: 0,
    }
}

fn stat(mesh: &Mesh, request: &StatRequest) -> StatResponse {
    let span_ms = request.window_ms.max(1_000);
    let kind = request.what.as_ref().map_or(Kind::Unspecified, Selector::kind);
    let mut stats = Vec::new();
    for (index, workload) in mesh.workloads.iter().enumerate() {
        if !mesh.meant(index, request.what.as_ref()) && kind != Kind::Pod {
            continue;
        }
        let (direction, traffic) = mesh.own(index, now_ms(), span_ms);
        let meshed = if workload.meshed { workload.pods } else { 0 };
        let one = |kind: &str, name: &str, part: &str, pods: u32| Stat {
            resource: Some(Resource {
                kind: kind.to_owned(),
                namespace: workload.namespace.clone(),
                name: name.to_owned(),
                part: part.to_owned(),
            }),
            pods,
            pods_ready: pods,
            pods_meshed: meshed.min(pods),
            direction: direction.into(),
            traffic: Some(traffic.clone()),
        };
        match kind {
            Kind::Pod => stats.extend(mesh.pods(index).iter().map(|pod| one("pod", pod, "", 1))),
            Kind::Service => stats.push(one("svc", &workload.name, "8080", workload.pods)),
            Kind::Route if workload.name.contains("gateway") || workload.name.contains("api") => {
                stats.push(one("httproute", &workload.name, "POST /v1/*", 0));
                stats.push(one("httproute", &workload.name, "GET /v1/accounts/*", 0));
            }
            Kind::Route => {}
            _ => stats.push(one("deploy", &workload.name, "", workload.pods)),
        }
    }
    StatResponse {
        stats,
        window: Some(window(span_ms, 1_000)),
        notes: Vec::new(),
    }
}

fn series(mesh: &Mesh, request: &SeriesRequest) -> SeriesResponse {
    let window_ms = request.window_ms.max(1_000);
    let step_ms = (request.step_ms / 1_000 * 1_000).max(1_000);
    let window = window(window_ms, step_ms);
    let of = |resource: Resource, direction: Direction, at: &dyn Fn(i64) -> Traffic| SeriesOfResource {
        resource: Some(resource),
        direction: direction.into(),
        points: (0..window_ms / step_ms)
            .map(|i| {
                let at_ms = window.from_ms + (i * step_ms) as i64;
                point(at_ms, &at(at_ms + step_ms as i64))
            })
            .collect(),
    };
    let mut all = Vec::new();
    if request.from.is_some() {
        for (i, call) in mesh.calls.iter().enumerate() {
            if mesh.end_meant(&call.from, request.from.as_ref()) {
                let mut service = mesh.resource(&call.to);
                service.kind = "svc".to_owned();
                all.push(of(service, Direction::Outbound, &|at| traffic(call, i, at, step_ms)));
            }
        }
    } else {
        for index in (0..mesh.workloads.len()).filter(|index| mesh.meant(*index, request.what.as_ref())) {
            let (direction, _) = mesh.own(index, window.to_ms, step_ms);
            let resource = mesh.resource(&End::Workload(index));
            all.push(of(resource, direction, &|at| mesh.own(index, at, step_ms).1));
        }
    }
    SeriesResponse {
        series: all,
        window: Some(window),
    }
}

fn point(at_ms: i64, traffic: &Traffic) -> Point {
    let tcp = traffic.tcp.unwrap_or_default();
    Point {
        at_ms,
        requests: traffic.requests,
        successes: traffic.successes,
        p50_ms: traffic.p50_ms,
        p95_ms: traffic.p95_ms,
        p99_ms: traffic.p99_ms,
        retries: 0,
        connections_opened: tcp.opened,
        read_bytes: tcp.read_bytes,
        written_bytes: tcp.written_bytes,
    }
}

fn edges(mesh: &Mesh, request: &EdgesRequest) -> EdgesResponse {
    let span_ms = request.window_ms.max(1_000);
    let what = request.what.as_ref();
    let meant = mesh
        .calls
        .iter()
        .enumerate()
        .filter(|(_, call)| what.is_none() || mesh.end_meant(&call.from, what) || mesh.end_meant(&call.to, what));
    let identity = |end: &End, tls| match end {
        End::Workload(i) if tls == sheer_api::v1::Tls::Mutual => {
            let workload = &mesh.workloads[*i];
            format!(
                "{}.{}.serviceaccount.identity.sheer.cluster.local",
                workload.name, workload.namespace
            )
        }
        _ => String::new(),
    };
    let edges = meant.map(|(i, call)| Edge {
        source: Some(mesh.resource(&call.from)),
        destination: Some(mesh.resource(&call.to)),
        service: matches!(call.to, End::Workload(_)).then(|| Resource {
            kind: "svc".to_owned(),
            part: "8080".to_owned(),
            ..mesh.resource(&call.to)
        }),
        source_identity: identity(&call.from, call.tls),
        destination_identity: identity(&call.to, call.tls),
        tls: call.tls.into(),
        why_plain: call.why_plain.to_owned(),
        protocols: vec![call.protocol.to_owned()],
        last_seen_ms: now_ms() - 400,
        traffic: Some(traffic(call, i, now_ms(), span_ms)),
        seen_by: Direction::Outbound.into(),
    });
    EdgesResponse {
        edges: edges.collect(),
        window: Some(window(span_ms, 1_000)),
    }
}

fn top(mesh: &Mesh, request: &TopRequest) -> TopResponse {
    let span_ms = if request.window_ms == 0 {
        10_000
    } else {
        request.window_ms
    };
    let mut paths = Vec::new();
    for (i, call) in mesh.calls.iter().enumerate() {
        let what = request.what.as_ref();
        if what.is_some() && !mesh.end_meant(&call.from, what) && !mesh.end_meant(&call.to, what) {
            continue;
        }
        for (nth, (method, path)) in call.paths.iter().enumerate() {
            let part = Call {
                rps: call.rps / (nth + 1) as f64 / 1.5,
                ..call.clone()
            };
            let seconds = span_ms / 1_000;
            let by_second = |second: u64| rate(&part, i, now_ms() - ((seconds - second) * 1_000) as i64).round() as u64;
            paths.push(PathStat {
                source: Some(mesh.resource(&call.from)),
                destination: Some(mesh.resource(&call.to)),
                service: Some(mesh.resource(&call.to)),
                method: (*method).to_owned(),
                path: (*path).to_owned(),
                traffic: Some(traffic(&part, i, now_ms(), span_ms)),
                seen_by: Direction::Outbound.into(),
                requests_by_second: (0..seconds).map(by_second).collect(),
                failures_by_second: (0..seconds)
                    .map(|s| ((1.0 - part.success) * by_second(s) as f64) as u64)
                    .collect(),
            });
        }
    }
    TopResponse {
        paths,
        window: Some(window(span_ms, 1_000)),
        proxies: mesh
            .workloads
            .iter()
            .filter(|workload| workload.meshed)
            .map(|workload| workload.pods)
            .sum(),
    }
}

fn proxies(mesh: &Mesh, request: &ProxiesRequest) -> ProxiesResponse {
    let mut proxies = Vec::new();
    for (index, workload) in mesh
        .workloads
        .iter()
        .enumerate()
        .filter(|(_, workload)| workload.meshed)
    {
        if !request.namespace.is_empty() && request.namespace != workload.namespace {
            continue;
        }
        for pod in mesh.pods(index) {
            proxies.push(ProxyStatus {
                namespace: workload.namespace.clone(),
                workload: format!("deploy/{}", workload.name),
                reporter: Some(Reporter {
                    workload: String::new(),
                    instance: format!("{pod}-1"),
                    version: "0.1.0".to_owned(),
                    identity: format!(
                        "{}.{}.serviceaccount.identity.sheer.cluster.local",
                        workload.name, workload.namespace
                    ),
                    certificate_not_after: now_ms() / 1_000 + 70_000,
                    started_ms: now_ms() - 5_400_000,
                    addresses: vec![format!("10.77.0.{}", index + 2)],
                }),
                connected: true,
                last_seen_ms: now_ms() - 300,
                clock_ahead_ms: 2,
                overflowed: 0,
                pod,
            });
        }
    }
    ProxiesResponse {
        series: mesh.calls.len() as u64 * 4,
        bytes: mesh.calls.len() as u64 * 190_000,
        bytes_limit: 256 << 20,
        proxies,
    }
}

#[tonic::async_trait]
impl Stats for Simulated {
    type WatchStatStream = Streamed<StatResponse>;
    type WatchEdgesStream = Streamed<EdgesResponse>;
    type TopStream = Streamed<TopResponse>;

    async fn stat(&self, request: Request<StatRequest>) -> Result<Response<StatResponse>, Status> {
        Ok(Response::new(stat(&self.0, request.get_ref())))
    }

    async fn watch_stat(&self, _: Request<StatRequest>) -> Result<Response<Self::WatchStatStream>, Status> {
        Err(Status::unimplemented("the dashboard does not ask this"))
    }

    async fn series(&self, request: Request<SeriesRequest>) -> Result<Response<SeriesResponse>, Status> {
        Ok(Response::new(series(&self.0, request.get_ref())))
    }

    async fn edges(&self, request: Request<EdgesRequest>) -> Result<Response<EdgesResponse>, Status> {
        Ok(Response::new(edges(&self.0, request.get_ref())))
    }

    async fn watch_edges(&self, _: Request<EdgesRequest>) -> Result<Response<Self::WatchEdgesStream>, Status> {
        Err(Status::unimplemented("the dashboard does not ask this"))
    }

    async fn top(&self, request: Request<TopRequest>) -> Result<Response<Self::TopStream>, Status> {
        let (mesh, request) = (self.0.clone(), request.into_inner());
        let period = Duration::from_millis(if request.interval_ms == 0 {
            1_000
        } else {
            request.interval_ms
        });
        let answers = stream::unfold(tokio::time::interval(period), move |mut ticks| {
            let (mesh, request) = (mesh.clone(), request.clone());
            async move {
                ticks.tick().await;
                Some((Ok(top(&mesh, &request)), ticks))
            }
        });
        Ok(Response::new(answers.boxed()))
    }

    async fn proxies(&self, request: Request<ProxiesRequest>) -> Result<Response<ProxiesResponse>, Status> {
        Ok(Response::new(proxies(&self.0, request.get_ref())))
    }
}
