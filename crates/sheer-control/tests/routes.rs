//! Routes over the wire: an edit of a file reaches every stream that it concerns, and only those; a broken file changes nothing.

#![expect(clippy::unwrap_used, reason = "in a test a panic is the message")]

use std::{
    fmt::Write,
    net::{Ipv4Addr, SocketAddr},
    path::Path,
    time::{Duration, Instant},
};

use http::Request;
use http_body_util::{BodyExt, Full};
use prost::Message;
use sheer_api::{
    linkerd::{
        destination::{GetDestination, destination_client::DestinationClient},
        net::TcpAddress,
        outbound::{
            OutboundPolicy, TrafficSpec, http_route, outbound_policies_client::OutboundPoliciesClient, proxy_protocol,
            traffic_spec,
        },
    },
    v1::{
        ExtrasRequest, OutboundExtras, ReportRequest, RoutesRequest, control_client::ControlClient,
        extras_client::ExtrasClient, filter_extra, finding,
    },
};
use sheer_control::{Bound, ControlOptions, Ports};
use tonic::{Streaming, body::Body, codec::CompressionEncoding, transport::Channel};
use tower::{Service, ServiceExt};

/// Longest wait for what has to come.
const PATIENCE: Duration = Duration::from_secs(20);

const SERVICES: &str = "
apiVersion: v1
kind: Service
metadata: {name: ledger, namespace: bank}
spec: {clusterIP: 10.78.0.1, selector: {app: ledger}, ports: [{port: 80}]}
---
apiVersion: v1
kind: Service
metadata: {name: other, namespace: bank}
spec: {clusterIP: 10.78.0.2, selector: {app: other}, ports: [{port: 80}]}
";

/// An HTTPRoute of the ledger that rewrites a path.
fn route(name: &str, path: &str, to: &str) -> String {
    format!(
        "---
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {{name: {name}, namespace: bank}}
spec:
  parentRefs: [{{group: '', kind: Service, name: ledger}}]
  rules:
  - matches: [{{path: {{type: Exact, value: {path}}}}}]
    filters: [{{type: URLRewrite, urlRewrite: {{path: {{type: ReplaceFullPath, replaceFullPath: {to}}}}}}}]
    backendRefs: [{{name: ledger, port: 80}}, {{name: other, port: 80}}]
"
    )
}

/// A control plane over a folder: the addresses of its destination and policy ports.
async fn serve(folder: &Path) -> [SocketAddr; 2] {
    let mut options = ControlOptions::new(folder.join("identity"), Ipv4Addr::LOCALHOST.into());
    options.ports = Ports {
        identity: 0,
        destination: 0,
        policy: 0,
    };
    options.manifests = vec![folder.join("manifests")];
    let bound = Bound::new(options).await.unwrap();
    let [_, destination, policy] = bound.addresses().unwrap();
    tokio::spawn(bound.serve(std::future::pending()));
    [destination, policy]
}

/// The same, and channels to the two.
async fn control(folder: &Path) -> [Channel; 2] {
    serve(folder).await.map(|address| {
        let channel = Channel::from_shared(format!("http://{address}"));
        channel.unwrap().connect_lazy()
    })
}

fn write(folder: &Path, name: &str, text: &str) {
    let manifests = folder.join("manifests");
    std::fs::create_dir_all(&manifests).unwrap();
    std::fs::write(manifests.join(".new"), text).unwrap();
    std::fs::rename(manifests.join(".new"), manifests.join(name)).unwrap();
}

fn spec(address: &str) -> TrafficSpec {
    let address: SocketAddr = address.parse().unwrap();
    TrafficSpec {
        source_workload: r#"{"ns":"web","pod":"web-0"}"#.to_owned(),
        target: Some(traffic_spec::Target::Addr(TcpAddress::from(address))),
    }
}

async fn watch(channel: &Channel, address: &str) -> Streaming<OutboundPolicy> {
    let client = OutboundPoliciesClient::new(channel.clone()).accept_compressed(CompressionEncoding::Gzip);
    let mut client = client.max_decoding_message_size(64 << 20);
    client.watch(spec(address)).await.unwrap().into_inner()
}

async fn watch_extras(channel: &Channel, address: &str) -> Streaming<OutboundExtras> {
    let request = ExtrasRequest {
        source_workload: r#"{"ns":"web","pod":"web-0"}"#.to_owned(),
        address: address.to_owned(),
    };
    let client = ExtrasClient::new(channel.clone()).accept_compressed(CompressionEncoding::Gzip);
    let mut client = client.max_decoding_message_size(64 << 20);
    client.watch_outbound(request).await.unwrap().into_inner()
}

async fn next<T>(stream: &mut Streaming<T>) -> T {
    tokio::time::timeout(PATIENCE, stream.message())
        .await
        .expect("an update")
        .unwrap()
        .unwrap()
}

/// The rules for HTTP/1, each with the number of its backends.
fn rules(policy: &OutboundPolicy) -> Vec<usize> {
    use http_route::distribution::Kind;
    let Some(proxy_protocol::Kind::Detect(detect)) = policy.protocol.clone().unwrap().kind else {
        panic!()
    };
    let rules = detect.http1.unwrap().routes.into_iter().flat_map(|route| route.rules);
    rules
        .map(|rule| match rule.backends.unwrap().kind.unwrap() {
            Kind::FirstAvailable(first) => first.backends.len(),
            Kind::RandomAvailable(random) => random.backends.len(),
            Kind::Empty(_) => 0,
        })
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_edit_reaches_policy_and_extras_and_a_broken_file_changes_nothing() {
    let folder = tempfile::tempdir().unwrap();
    write(folder.path(), "services.yaml", SERVICES);
    let [_, channel] = control(folder.path()).await;
    let mut policies = watch(&channel, "10.78.0.1:80").await;
    let mut extras = watch_extras(&channel, "10.78.0.1:80").await;
    let mut others = watch(&channel, "10.78.0.2:80").await;
    assert_eq!(rules(&next(&mut policies).await), [1], "the default");
    assert_eq!(next(&mut extras).await, OutboundExtras::default());
    assert_eq!(rules(&next(&mut others).await), [1]);

    write(folder.path(), "routes.yaml", &route("rewrite", "/a", "/b"));
    assert_eq!(rules(&next(&mut policies).await), [2]);
    let said = next(&mut extras).await;
    let [rule] = &said.rules[..] else { panic!("{said:?}") };
    assert_eq!((rule.route.as_ref().unwrap().name.as_str(), rule.rule), ("rewrite", 0));
    assert!(matches!(rule.filters[0].kind, Some(filter_extra::Kind::Rewrite(_))));

    write(folder.path(), "routes.yaml", &route("rewrite", "nowhere", "/b"));
    let mut control = ControlClient::new(channel.clone());
    let deadline = Instant::now() + PATIENCE;
    let finding = loop {
        let report = control.report(ReportRequest {}).await.unwrap().into_inner();
        let mut errors = report.findings.into_iter();
        if let Some(finding) = errors.find(|finding| finding.severity() == finding::Severity::Error) {
            break finding;
        }
        assert!(Instant::now() < deadline, "the mistake is told");
        tokio::task::yield_now().await;
    };
    assert_eq!(
        (finding.line, finding.field.as_str(), finding.object.as_str()),
        (8, "spec.rules[0].matches[0].path.value", "HTTPRoute bank/rewrite")
    );
    let routes = control
        .routes(RoutesRequest::default())
        .await
        .unwrap()
        .into_inner()
        .routes;
    assert_eq!(routes.len(), 1, "its last good state stays");
    assert!(
        routes[0].file.ends_with("routes.yaml") && routes[0].line == 2,
        "{:?}",
        routes[0]
    );
    let conditions = routes[0].parents[0].conditions.iter();
    assert_eq!(
        conditions
            .map(|condition| (condition.r#type.as_str(), condition.status))
            .collect::<Vec<_>>(),
        [("Accepted", true), ("ResolvedRefs", true)]
    );
    // Only what changed was sent: the next message of each stream is the next edit's.
    write(folder.path(), "routes.yaml", "");
    assert_eq!(rules(&next(&mut policies).await), [1]);
    assert_eq!(next(&mut extras).await, OutboundExtras::default());
    write(
        folder.path(),
        "routes.yaml",
        &route("of-other", "/a", "/b").replace("kind: Service, name: ledger", "kind: Service, name: other"),
    );
    assert_eq!(rules(&next(&mut others).await), [2]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_policy_of_an_egress_network_reaches_a_stream_that_had_none() {
    let folder = tempfile::tempdir().unwrap();
    write(folder.path(), "services.yaml", SERVICES);
    let [_, channel] = control(folder.path()).await;
    let mut policies = watch(&channel, "203.0.113.9:80").await;
    let name = |policy: &OutboundPolicy| format!("{:?}", policy.metadata.as_ref().unwrap().kind);
    assert!(name(&next(&mut policies).await).contains("egress-fallback"));
    let network = "apiVersion: policy.linkerd.io/v1alpha1\nkind: EgressNetwork\nmetadata: {name: out, namespace: web}\nspec: {trafficPolicy: Deny}\n";
    write(folder.path(), "egress.yaml", network);
    assert!(name(&next(&mut policies).await).contains("EgressNetwork"));
}

#[tokio::test]
async fn a_linkerd_proxy_is_told_the_whole_profile() {
    let folder = tempfile::tempdir().unwrap();
    let profile = "---
apiVersion: linkerd.io/v1alpha2
kind: ServiceProfile
metadata: {name: ledger.bank.svc.cluster.local, namespace: bank}
spec:
  retryBudget: {retryRatio: 0.5, minRetriesPerSecond: 3, ttl: 20s}
  dstOverrides: [{authority: 'other.bank.svc.cluster.local:80', weight: 100m}]
  opaquePorts: ['81-82']
  routes:
  - name: post
    condition: {method: POST, pathRegex: '/post/.*'}
    responseClasses: [{condition: {status: {min: 500, max: 502}}, isFailure: true}]
    isRetryable: true
    timeout: 2s
";
    write(folder.path(), "bank.yaml", &(SERVICES.to_owned() + profile));
    let [destination, _] = control(folder.path()).await;
    let mut client = DestinationClient::new(destination);
    let request = GetDestination {
        scheme: "k8s".to_owned(),
        path: "10.78.0.1:80".to_owned(),
        context_token: r#"{"ns":"web","pod":"web-0"}"#.to_owned(),
    };
    let mut stream = client.get_profile(request).await.unwrap().into_inner();
    let told = next(&mut stream).await;
    assert_eq!(told.fully_qualified_name, "ledger.bank.svc.cluster.local");
    let budget = told.retry_budget.unwrap();
    assert_eq!((budget.retry_ratio, budget.min_retries_per_second), (0.5, 3));
    assert_eq!(
        (told.dst_overrides[0].authority.as_str(), told.dst_overrides[0].weight),
        ("other.bank.svc.cluster.local:80", 100)
    );
    let [route] = &told.routes[..] else { panic!("{told:?}") };
    assert!(route.is_retryable && route.response_classes[0].is_failure);
    assert_eq!(route.metrics_labels["route"], "post");
    insta::assert_debug_snapshot!(route.condition);
}

/// A stream of messages of which nothing but their arrival is looked at: unpacking and decoding hundreds of large ones in one process would take
/// longer than what is measured.
struct Arrivals {
    body: Body,
    /// Of the message that comes: its prefix so far, then what is missing of it.
    prefix: Vec<u8>,
    missing: Option<usize>,
}

impl Arrivals {
    /// Asks for `path` as a proxy does.
    async fn open(channel: &mut Channel, path: &str, message: &impl Message, accepts: &'static str) -> Self {
        let mut body = vec![0];
        body.extend(u32::try_from(message.encoded_len()).unwrap().to_be_bytes());
        message.encode(&mut body).unwrap();
        let request = Request::post(format!("http://control{path}"))
            .header("content-type", "application/grpc")
            .header("te", "trailers")
            .header("grpc-accept-encoding", accepts)
            .body(Body::new(Full::from(body)))
            .unwrap();
        let response = channel.ready().await.unwrap().call(request).await.unwrap();
        assert!(
            response.headers().get("grpc-status").is_none(),
            "{:?}",
            response.headers()
        );
        Self {
            body: response.into_body(),
            prefix: Vec::new(),
            missing: None,
        }
    }

    /// The length of the next message.
    async fn next(&mut self) -> usize {
        let next = tokio::time::timeout(PATIENCE, async {
            loop {
                let frame = self.body.frame().await.expect("the stream lives").unwrap();
                if let Some(length) = self.take(&frame.into_data().expect("a message")) {
                    return length;
                }
            }
        });
        next.await.expect("an update")
    }

    fn take(&mut self, mut data: &[u8]) -> Option<usize> {
        while self.prefix.len() < 5 {
            let (first, rest) = data.split_first()?;
            self.prefix.push(*first);
            data = rest;
        }
        let length = u32::from_be_bytes(self.prefix[1..].try_into().unwrap()) as usize;
        let missing = self.missing.get_or_insert(length);
        *missing -= data.len();
        (*missing == 0).then(|| {
            self.prefix.clear();
            self.missing = None;
            length
        })
    }
}

/// Whose connection it is.
#[derive(Clone, Copy, Debug)]
enum Kind {
    /// Policy and extras, compressed.
    Sheer,
    /// The policy alone, as it is.
    Linkerd,
}

/// What a proxy is told of the ledger, over a connection of its own, with the windows that Sheer's has.
async fn watch_as(kind: Kind, address: &str) -> Vec<Arrivals> {
    let channel = Channel::from_shared(address.to_owned())
        .unwrap()
        .initial_stream_window_size(1 << 20)
        .initial_connection_window_size(4 << 20);
    let mut channel = channel.connect().await.unwrap();
    let policies = "/io.linkerd.proxy.outbound.OutboundPolicies/Watch";
    let extras = ExtrasRequest {
        source_workload: spec("10.78.0.1:80").source_workload,
        address: "10.78.0.1:80".to_owned(),
    };
    match kind {
        Kind::Linkerd => vec![Arrivals::open(&mut channel, policies, &spec("10.78.0.1:80"), "identity").await],
        Kind::Sheer => vec![
            Arrivals::open(&mut channel, policies, &spec("10.78.0.1:80"), "identity,gzip").await,
            Arrivals::open(&mut channel, "/sheer.v1.Extras/WatchOutbound", &extras, "identity,gzip").await,
        ],
    }
}

/// What an edit took.
struct Measured {
    /// To reach the first proxy, the middle one, all but one in a hundred, the last.
    times: [Duration; 4],
    /// Bytes that each proxy was sent.
    bytes: usize,
}

/// Makes one route more for the ledger, whose `routes` are watched by so many proxies, in a mesh of `others` Services with routes of their own.
async fn one_more(routes: usize, others: usize, (proxies, kind): (usize, Kind)) -> Measured {
    let folder = tempfile::tempdir().unwrap();
    let of_ledger = |from: usize, to: usize| {
        (from..to).fold(String::new(), |mut all, index| {
            let one = route(&format!("route-{index:04}"), &format!("/{index:04}"), "/to");
            write!(all, "{one}").unwrap();
            all
        })
    };
    write(folder.path(), "services.yaml", SERVICES);
    write(folder.path(), "routes.yaml", &of_ledger(0, routes - 1));
    for other in 0..others {
        write(folder.path(), &format!("other-{other}.yaml"), &another(other));
    }
    let address = serve(folder.path()).await[1];
    let address = format!("http://{address}");
    let mut watching = Vec::new();
    for _ in 0..proxies {
        let mut streams = watch_as(kind, &address).await;
        for stream in &mut streams {
            stream.next().await;
        }
        watching.push(streams);
    }
    let edited = Instant::now();
    write(folder.path(), "one-more.yaml", &of_ledger(routes - 1, routes));
    let mut arrivals = tokio::task::JoinSet::new();
    for mut streams in watching {
        arrivals.spawn(async move {
            let mut bytes = 0;
            for stream in &mut streams {
                bytes += stream.next().await;
            }
            (edited.elapsed(), bytes)
        });
    }
    let arrived = arrivals.join_all().await;
    let bytes = arrived[0].1;
    assert!(
        arrived.iter().all(|(_, others)| *others == bytes),
        "all are told the same"
    );
    let mut times: Vec<Duration> = arrived.into_iter().map(|(time, _)| time).collect();
    times.sort();
    // What arrived is the edit.
    let channel = Channel::from_shared(address).unwrap().connect_lazy();
    assert_eq!(
        rules(&next(&mut watch(&channel, "10.78.0.1:80").await).await).len(),
        routes
    );
    Measured {
        times: [0, proxies / 2, proxies * 99 / 100 - 1, proxies - 1].map(|at| times[at]),
        bytes,
    }
}

/// A Service with nine routes.
fn another(number: usize) -> String {
    let name = format!("service-{number:03}");
    let service = format!(
        "apiVersion: v1\nkind: Service\nmetadata: {{name: {name}, namespace: bank}}\n\
         spec: {{clusterIP: 10.78.1.{number}, selector: {{app: {name}}}, ports: [{{port: 80}}]}}\n"
    );
    (0..9).fold(service, |all, index| {
        let one = route(&format!("{name}-{index}"), &format!("/{index}"), "/to");
        all + &one.replace("kind: Service, name: ledger", &format!("kind: Service, name: {name}"))
    })
}

/// How long it takes is printed: `cargo test --workspace --profile quick --test routes many -- --nocapture`.
#[tokio::test(flavor = "multi_thread")]
async fn one_edit_of_many_routes_reaches_many_proxies() {
    for (routes, others, kind) in [
        (10, 110, Kind::Sheer),
        (1_000, 0, Kind::Sheer),
        (1_000, 0, Kind::Linkerd),
    ] {
        let Measured { times, bytes } = one_more(routes, others, (200, kind)).await;
        let [first, half, p99, last] = times;
        println!(
            "{routes} routes of the Service, {} of others, 200 proxies ({kind:?}), {bytes} bytes each: \
             first {first:?}, half {half:?}, p99 {p99:?}, last {last:?}",
            others * 9
        );
        assert!(last < PATIENCE, "{last:?}");
    }
}
