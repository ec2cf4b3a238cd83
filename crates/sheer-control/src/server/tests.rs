//! Protocol level: the whole control plane on ephemeral ports, asked by the API's own clients.

mod identity;
mod traces;

use std::{
    net::{IpAddr, Ipv4Addr},
    time::Instant,
};

use sheer_api::linkerd::{
    destination::{GetDestination, Update, destination_client::DestinationClient, update},
    inbound::{PortSpec, inbound_server_policies_client::InboundServerPoliciesClient},
    outbound::{TrafficSpec, outbound_policies_client::OutboundPoliciesClient, proxy_protocol, traffic_spec},
};
use sheer_api::v1::{ReportRequest, ReportResponse, control_client::ControlClient, finding::Severity};
use tonic::{Code, Streaming, transport::Channel};

use super::*;
use crate::Ports;

/// How long an edit may take to reach a proxy.
const SOON: Duration = Duration::from_secs(1);

const FREE: Ports = Ports {
    identity: 0,
    destination: 0,
    policy: 0,
};

const SERVICE: &str = "\
apiVersion: v1
kind: Service
metadata: {name: ledger, namespace: bank}
spec:
  selector: {app: ledger}
  ports: [{port: 80, targetPort: 8080}]
";

fn pod(name: &str, ip: &str, ready: bool) -> String {
    let ready = if ready { "True" } else { "False" };
    serde_json::json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {"name": name, "namespace": "bank", "labels": {"app": "ledger"}, "annotations": {"sheer.dev/meshed": "true"}},
        "spec": {"serviceAccountName": "ledger", "containers": [{"name": "ledger", "ports": [{"containerPort": 8080}]}]},
        "status": {"phase": "Running", "podIP": ip, "conditions": [{"type": "Ready", "status": ready}]},
    })
    .to_string()
}

/// A control plane on loopback, and the folders that it watches.
struct Mesh {
    folder: tempfile::TempDir,
    addresses: [SocketAddr; 3],
    stop: Option<tokio::sync::oneshot::Sender<()>>,
    running: tokio::task::JoinHandle<anyhow::Result<()>>,
}

impl Mesh {
    async fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        for name in ["manifests", "status/pods", "status/services"] {
            std::fs::create_dir_all(folder.path().join(name)).unwrap();
        }
        Self::start_in(folder, FREE, Ipv4Addr::LOCALHOST.into()).await
    }

    async fn start_in(folder: tempfile::TempDir, ports: Ports, listen: IpAddr) -> Self {
        let path = |name: &str| folder.path().join(name);
        let mut options = ControlOptions::new(path("identity"), listen);
        options.ports = ports;
        options.manifests = vec![path("manifests")];
        options.status = Some(path("status"));
        options.socket = Some(path("control.sock"));
        let bound = Bound::new(options).await.unwrap();
        let addresses = bound.addresses().unwrap();
        let (stop, stopped) = tokio::sync::oneshot::channel();
        let running = tokio::spawn(bound.serve(async { drop(stopped.await) }));
        Self {
            folder,
            addresses,
            stop: Some(stop),
            running,
        }
    }

    /// Writes as sheer-local does: beside, then renamed.
    fn write(&self, name: &str, content: &str) {
        let path = self.folder.path().join(name);
        let temporary = path.with_extension("tmp");
        std::fs::write(&temporary, content).unwrap();
        std::fs::rename(temporary, path).unwrap();
    }

    fn remove(&self, name: &str) {
        std::fs::remove_file(self.folder.path().join(name)).unwrap();
    }

    fn channel(&self, which: usize) -> Channel {
        Channel::from_shared(format!("http://{}", self.addresses[which]))
            .unwrap()
            .connect_lazy()
    }

    async fn endpoints(&self, path: &str) -> Streaming<Update> {
        let request = GetDestination {
            path: path.to_owned(),
            ..GetDestination::default()
        };
        DestinationClient::new(self.channel(1))
            .get(request)
            .await
            .unwrap()
            .into_inner()
    }

    async fn report(&self) -> ReportResponse {
        let socket = format!("unix://{}", self.folder.path().join("control.sock").display());
        let channel = tonic::transport::Endpoint::new(socket)
            .unwrap()
            .connect()
            .await
            .unwrap();
        ControlClient::new(channel)
            .report(ReportRequest {})
            .await
            .unwrap()
            .into_inner()
    }

    async fn stop(mut self) -> tempfile::TempDir {
        self.stop.take().unwrap().send(()).unwrap();
        self.running.await.unwrap().unwrap();
        self.folder
    }
}

/// The next update, in a few words.
async fn next(stream: &mut Streaming<Update>) -> String {
    let update = tokio::time::timeout(SOON, stream.message())
        .await
        .expect("an update within a second")
        .unwrap()
        .unwrap();
    let address = |addr: &Option<sheer_api::linkerd::net::TcpAddress>| {
        let addr = addr.unwrap();
        format!(
            "{}:{}",
            std::net::IpAddr::try_from(addr.ip.unwrap()).unwrap(),
            addr.port
        )
    };
    match update.update.unwrap() {
        update::Update::Add(set) => {
            let addresses: Vec<_> = set.addrs.iter().map(|endpoint| address(&endpoint.addr)).collect();
            format!("add {}", addresses.join(" "))
        }
        update::Update::Remove(set) => {
            let addresses: Vec<_> = set.addrs.into_iter().map(|addr| address(&Some(addr))).collect();
            format!("remove {}", addresses.join(" "))
        }
        update::Update::NoEndpoints(no) => format!("no endpoints, exists: {}", no.exists),
    }
}

/// Waits until something holds, up to a second.
async fn eventually<T: std::fmt::Debug, F: Future<Output = T>>(
    mut get: impl FnMut() -> F,
    holds: impl Fn(&T) -> bool,
) -> T {
    let start = Instant::now();
    loop {
        let value = get().await;
        if holds(&value) {
            return value;
        }
        assert!(start.elapsed() < SOON, "still {value:?}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

#[tokio::test]
async fn an_edit_reaches_a_stream_within_a_second() {
    let mesh = Mesh::start().await;
    let mut stream = mesh.endpoints("ledger.bank.svc.cluster.local:80").await;
    assert_eq!(next(&mut stream).await, "no endpoints, exists: false");
    mesh.write("manifests/ledger.yaml", SERVICE);
    assert_eq!(next(&mut stream).await, "no endpoints, exists: true");
    mesh.write("status/pods/bank.ledger-0.json", &pod("ledger-0", "10.77.0.5", false));
    mesh.write("status/pods/bank.ledger-1.json", &pod("ledger-1", "10.77.0.6", true));
    assert_eq!(next(&mut stream).await, "add 10.77.0.6:8080");
    mesh.write("status/pods/bank.ledger-0.json", &pod("ledger-0", "10.77.0.5", true));
    assert_eq!(next(&mut stream).await, "add 10.77.0.5:8080");
    mesh.remove("status/pods/bank.ledger-1.json");
    assert_eq!(next(&mut stream).await, "remove 10.77.0.6:8080");
    mesh.write("manifests/ledger.yaml", &SERVICE.replace("8080", "9090"));
    assert_eq!(next(&mut stream).await, "add 10.77.0.5:9090");
    assert_eq!(next(&mut stream).await, "remove 10.77.0.5:8080");
    mesh.remove("manifests/ledger.yaml");
    assert_eq!(next(&mut stream).await, "no endpoints, exists: false");
    mesh.stop().await;
}

#[tokio::test]
async fn a_broken_file_is_reported_and_its_last_good_state_stays() {
    let mesh = Mesh::start().await;
    mesh.write("manifests/ledger.yaml", SERVICE);
    mesh.write("status/pods/bank.ledger-0.json", &pod("ledger-0", "10.77.0.5", true));
    let mut stream = mesh.endpoints("ledger.bank.svc.cluster.local:80").await;
    while next(&mut stream).await != "add 10.77.0.5:8080" {}

    mesh.write("manifests/ledger.yaml", &SERVICE.replace("port: 80", "port: eighty"));
    let errors = |report: &ReportResponse| {
        report
            .findings
            .iter()
            .filter(|finding| finding.severity() == Severity::Error)
            .count()
    };
    let report = eventually(|| mesh.report(), |report| errors(report) == 1).await;
    let finding = &report.findings[0];
    assert_eq!(
        (finding.severity(), finding.line, finding.field.as_str()),
        (Severity::Error, 6, "spec.ports[0].port")
    );
    assert!(finding.file.ends_with("manifests/ledger.yaml"), "{finding:?}");
    assert_eq!(report.objects["Service"], 1, "the last good state stays");
    assert_eq!(report.streams["Destination.Get"], 1);

    // Nothing was sent meanwhile: the next update is that of the corrected file.
    mesh.write("manifests/ledger.yaml", &SERVICE.replace("8080", "9090"));
    assert_eq!(next(&mut stream).await, "add 10.77.0.5:9090");
    eventually(|| mesh.report(), |report| errors(report) == 0).await;
    mesh.stop().await;
}

#[tokio::test]
async fn a_restart_loses_nothing() {
    let mesh = Mesh::start().await;
    mesh.write("manifests/ledger.yaml", SERVICE);
    mesh.write("status/pods/bank.ledger-0.json", &pod("ledger-0", "10.77.0.5", true));
    let mut stream = mesh.endpoints("ledger.bank.svc.cluster.local:80").await;
    while next(&mut stream).await != "add 10.77.0.5:8080" {}
    let [identity, destination, policy] = mesh.addresses.map(|address| address.port());
    let anchors = std::fs::read(mesh.folder.path().join("identity/anchors.pem")).unwrap();

    let folder = mesh.stop().await;
    let ended = stream.message().await.unwrap_err();
    assert_eq!(ended.code(), Code::Unavailable, "{ended:?}");
    assert!(!folder.path().join("control.sock").exists());

    let mesh = Mesh::start_in(
        folder,
        Ports {
            identity,
            destination,
            policy,
        },
        Ipv4Addr::LOCALHOST.into(),
    )
    .await;
    let mut stream = mesh.endpoints("ledger.bank.svc.cluster.local:80").await;
    assert_eq!(next(&mut stream).await, "add 10.77.0.5:8080");
    assert_eq!(
        std::fs::read(mesh.folder.path().join("identity/anchors.pem")).unwrap(),
        anchors
    );
    mesh.stop().await;
}

#[tokio::test]
async fn policies_are_watched_and_unknown_targets_are_not_found() {
    let mesh = Mesh::start().await;
    mesh.write("manifests/ledger.yaml", SERVICE);
    let mut outbound = OutboundPoliciesClient::new(mesh.channel(2));
    let spec = |authority: &str| TrafficSpec {
        source_workload: r#"{"ns":"bank","pod":"web-0"}"#.to_owned(),
        target: Some(traffic_spec::Target::Authority(authority.to_owned())),
    };
    let ledger = "ledger.bank.svc.cluster.local:80";
    eventually(|| mesh.report(), |report| report.objects.contains_key("Service")).await;
    let mut stream = outbound.watch(spec(ledger)).await.unwrap().into_inner();
    let kind = |policy: sheer_api::linkerd::outbound::OutboundPolicy| policy.protocol.unwrap().kind.unwrap();
    assert!(matches!(
        kind(stream.message().await.unwrap().unwrap()),
        proxy_protocol::Kind::Detect(_)
    ));
    mesh.write(
        "manifests/ledger.yaml",
        &SERVICE.replace("targetPort: 8080", "appProtocol: grpc"),
    );
    let changed = tokio::time::timeout(SOON, stream.message())
        .await
        .unwrap()
        .unwrap()
        .unwrap();
    assert!(matches!(kind(changed), proxy_protocol::Kind::Grpc(_)));
    // A service that goes away ends its stream: the proxy asks again, and is told so.
    mesh.remove("manifests/ledger.yaml");
    let ended = tokio::time::timeout(SOON, stream.message()).await.unwrap().unwrap_err();
    assert_eq!(ended.code(), Code::NotFound);
    assert_eq!(outbound.watch(spec(ledger)).await.unwrap_err().code(), Code::NotFound);
    assert_eq!(
        outbound.get(spec("example.com:80")).await.unwrap_err().code(),
        Code::InvalidArgument
    );
    assert_eq!(
        outbound.get(TrafficSpec::default()).await.unwrap_err().code(),
        Code::InvalidArgument
    );

    let mut inbound = InboundServerPoliciesClient::new(mesh.channel(2));
    let port = |workload: &str, port| PortSpec {
        workload: workload.to_owned(),
        port,
    };
    assert_eq!(
        inbound
            .watch_port(port("bank:ledger-0", 8080))
            .await
            .unwrap_err()
            .code(),
        Code::NotFound
    );
    assert_eq!(
        inbound.watch_port(port("bank:ledger-0", 0)).await.unwrap_err().code(),
        Code::InvalidArgument
    );
    mesh.write("status/pods/bank.ledger-0.json", &pod("ledger-0", "10.77.0.5", true));
    eventually(|| mesh.report(), |report| report.objects.contains_key("Pod")).await;
    let mut stream = inbound
        .watch_port(port("bank:ledger-0", 8080))
        .await
        .unwrap()
        .into_inner();
    assert_eq!(
        stream.message().await.unwrap().unwrap().labels["name"],
        "all-unauthenticated"
    );
    let denied = pod("ledger-0", "10.77.0.5", true).replace(
        "\"sheer.dev/meshed\"",
        "\"config.linkerd.io/default-inbound-policy\":\"deny\",\"sheer.dev/meshed\"",
    );
    mesh.write("status/pods/bank.ledger-0.json", &denied);
    let changed = tokio::time::timeout(SOON, stream.message())
        .await
        .unwrap()
        .unwrap()
        .unwrap();
    assert_eq!(
        (changed.labels["name"].as_str(), changed.authorizations.len()),
        ("deny", 0)
    );
    mesh.stop().await;
}

#[tokio::test]
async fn garbage_on_every_port_hurts_nobody() {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let mesh = Mesh::start().await;
    mesh.write("manifests/ledger.yaml", SERVICE);
    for address in mesh.addresses {
        for garbage in [
            &b"GET / HTTP/1.1\r\n\r\n"[..],
            b"\x16\x03\x01\xff\xff",
            b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff",
            &[0; 4096],
        ] {
            let mut stream = tokio::net::TcpStream::connect(address).await.unwrap();
            stream.write_all(garbage).await.unwrap();
            stream.shutdown().await.unwrap();
            let _ = tokio::time::timeout(SOON, stream.read_to_end(&mut Vec::new())).await;
        }
    }
    let mut stream = mesh.endpoints("ledger.bank.svc.cluster.local:80").await;
    assert!(next(&mut stream).await.starts_with("no endpoints"));
    mesh.stop().await;
}

#[tokio::test]
async fn the_socket_is_for_its_owner_only() {
    use std::os::unix::fs::PermissionsExt;
    let mesh = Mesh::start().await;
    let mode = std::fs::metadata(mesh.folder.path().join("control.sock"))
        .unwrap()
        .permissions()
        .mode();
    assert_eq!(mode & 0o777, 0o600);
    // A second control plane does not take it over; one that a dead process left behind is.
    let path = mesh.folder.path().join("control.sock");
    let error = bind_socket(&path).unwrap_err().to_string();
    assert!(error.contains("another control plane does"), "{error}");
    let stale = mesh.folder.path().join("stale.sock");
    drop(std::os::unix::net::UnixListener::bind(&stale).unwrap());
    bind_socket(&stale).unwrap();
    mesh.stop().await;
}

#[tokio::test]
async fn what_proxies_hold_is_told_over_the_socket_only() {
    use sheer_api::v1::ConfigDumpRequest;
    let mesh = Mesh::start().await;
    let over_tcp = ControlClient::new(mesh.channel(2))
        .config_dump(ConfigDumpRequest::default())
        .await;
    assert_eq!(over_tcp.unwrap_err().code(), Code::PermissionDenied);
    let socket = format!("unix://{}", mesh.folder.path().join("control.sock").display());
    let channel = tonic::transport::Endpoint::new(socket)
        .unwrap()
        .connect()
        .await
        .unwrap();
    let over_socket = ControlClient::new(channel)
        .config_dump(ConfigDumpRequest::default())
        .await;
    assert!(over_socket.unwrap().into_inner().proxies.is_empty());
    mesh.stop().await;
}
