//! The sight port of a whole proxy, under a fake control plane: who may ask, and what is answered.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use hyper_util::rt::TokioIo;
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::{CertificateDer, ServerName, pem::PemObject as _};
use sheer_api::v1::{
    ExplainInboundRequest, ExplainOutboundRequest, Explanation, ProxyState, RequestHead, StateRequest, TrafficRequest,
    sight_client::SightClient,
};
use sheer_proxy::{process::Control, settings, worker};
use sheer_testkit::control::{self, ControlPlane};
use tokio::{net::TcpStream, time::timeout};
use tokio_rustls::TlsConnector;
use tonic::transport::{Channel, Endpoint};

const NAME: &str = "ledger.bank.serviceaccount.identity.sheer.cluster.local";
const CONTROL: &str = "sheer-control.sheer.serviceaccount.identity.sheer.cluster.local";
const WEB: &str = "web.bank.serviceaccount.identity.sheer.cluster.local";
const PATH: &str = "ledger.test.svc.cluster.local:8080";
const PATIENCE: Duration = Duration::from_secs(30);

struct Proxy {
    control: Control,
    sight: SocketAddr,
    _dir: tempfile::TempDir,
}

impl Proxy {
    async fn start(plane: &ControlPlane) -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        let mut environment = plane.environment(NAME, dir.path());
        for (name, value) in [
            ("POLICY_SVC_NAME", CONTROL),
            ("INBOUND_LISTEN_ADDR", "127.0.0.1:0"),
            ("OUTBOUND_LISTEN_ADDR", "127.0.0.1:0"),
        ] {
            environment.insert(format!("SHEER_PROXY_{name}"), value.to_owned());
        }
        let (settings, _) = settings::read(environment).expect("settings");
        let control = Control::start(settings, None).await.expect("starts");
        timeout(PATIENCE, control.ready()).await.expect("ready in time");
        worker::start(control.parts.clone()).expect("workers");
        let sight = control.sight.expect("a free port");
        Self {
            control,
            sight,
            _dir: dir,
        }
    }

    /// A client that proves to be somebody, or nobody.
    async fn ask_as(&self, plane: &ControlPlane, name: Option<&str>) -> SightClient<Channel> {
        let (plane_anchors, addr) = (plane.pki().anchors_pem().to_owned(), self.sight);
        let leaf = name.map(|name| plane.pki().leaf(&[name]));
        let mut roots = RootCertStore::empty();
        let anchors = CertificateDer::from_pem_slice(plane_anchors.as_bytes()).expect("an anchor");
        roots.add(anchors).expect("an anchor");
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let builder = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .expect("TLS 1.3")
            .with_root_certificates(roots);
        let mut config = match leaf {
            Some(leaf) => builder.with_client_auth_cert(leaf.chain, leaf.key).expect("a key"),
            None => builder.with_no_client_auth(),
        };
        config.alpn_protocols = vec![b"h2".to_vec()];
        let connector = TlsConnector::from(Arc::new(config));
        let connect = move |_| {
            let connector = connector.clone();
            async move {
                let tcp = TcpStream::connect(addr).await?;
                let name = ServerName::try_from(NAME).expect("a name");
                connector.connect(name, tcp).await.map(TokioIo::new)
            }
        };
        let endpoint = Endpoint::from_static("http://proxy");
        SightClient::new(endpoint.connect_with_connector_lazy(tower::service_fn(connect)))
    }

    async fn client(&self, plane: &ControlPlane) -> SightClient<Channel> {
        self.ask_as(plane, Some(CONTROL)).await
    }

    fn connections(&self, result: &str) -> u64 {
        let page = self
            .control
            .parts
            .registry
            .render(sheer_proxy::metrics::Format::Prometheus);
        let series = format!("sheer_sight_connections_total{{result=\"{result}\"}} ");
        let line = page.lines().find_map(|line| line.strip_prefix(&series));
        line.map_or(0, |count| count.parse().expect("a number"))
    }
}

fn post(path: &str) -> Option<RequestHead> {
    Some(RequestHead {
        method: "POST".to_owned(),
        path: path.to_owned(),
        ..RequestHead::default()
    })
}

fn addr(port: u16) -> SocketAddr {
    ([10, 77, 0, 1], port).into()
}

async fn state(client: &mut SightClient<Channel>) -> ProxyState {
    let answer = timeout(PATIENCE, client.state(StateRequest {})).await.expect("in time");
    answer.expect("an answer").into_inner()
}

async fn outbound(client: &mut SightClient<Channel>, address: SocketAddr) -> Explanation {
    let request = ExplainOutboundRequest {
        address: address.to_string(),
        request: post("/bank.Ledger/Post"),
        ..ExplainOutboundRequest::default()
    };
    let answer = timeout(PATIENCE, client.explain_outbound(request))
        .await
        .expect("in time");
    answer.expect("an answer").into_inner()
}

fn page(explanation: &Explanation) -> String {
    let line = |one: &sheer_api::v1::Decision| format!("{}: {} ({})\n", one.stage, one.choice, one.why);
    explanation.decisions.iter().map(line).collect::<String>() + &explanation.outcome
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn only_the_control_plane_may_ask() {
    let plane = ControlPlane::start();
    let proxy = Proxy::start(&plane).await;
    let mut right = proxy.client(&plane).await;
    assert_eq!(state(&mut right).await.identity, NAME);
    assert_eq!(proxy.connections("allowed"), 1);
    for (wrong, refused) in [(Some(WEB), 1), (Some(NAME), 2), (None, 3)] {
        let mut client = proxy.ask_as(&plane, wrong).await;
        let answer = timeout(PATIENCE, client.state(StateRequest {})).await.expect("in time");
        assert!(answer.is_err(), "{wrong:?} was answered: {answer:?}");
        // A client that is refused may try once more by itself.
        assert!(proxy.connections("refused") >= refused, "{wrong:?} is not counted");
    }
    let stranger = ControlPlane::start();
    let mut client = proxy.ask_as(&stranger, Some(CONTROL)).await;
    let answer = timeout(PATIENCE, client.state(StateRequest {})).await.expect("in time");
    assert!(answer.is_err(), "another mesh's control plane was answered: {answer:?}");
    assert_eq!(proxy.connections("allowed"), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_the_proxy_holds_and_would_do() {
    let plane = ControlPlane::start();
    plane.set_policy(addr(8080), Some(control::balance_policy("ledger", PATH)));
    let endpoints = vec![control::meshed_endpoint(([10, 77, 0, 9], 9000).into(), NAME, 4143)];
    plane.set_endpoints(PATH, Some(endpoints));
    plane.set_server(9000, Some(control::open_server()));
    let proxy = Proxy::start(&plane).await;
    let mut client = proxy.client(&plane).await;

    let explained = outbound(&mut client, addr(8080)).await;
    insta::assert_snapshot!(page(&explained));
    assert_eq!(explained.endpoints.len(), 1);

    let nobody = outbound(&mut client, addr(81)).await;
    assert_eq!(
        (nobody.outcome.as_str(), nobody.endpoints.len()),
        ("forwarded", 1),
        "{nobody:?}"
    );

    let request = ExplainInboundRequest {
        port: 9000,
        client_identity: WEB.to_owned(),
        client_address: "10.77.0.3".to_owned(),
        request: post("/bank.Ledger/Post"),
    };
    let admitted = client.explain_inbound(request).await.expect("an answer").into_inner();
    insta::assert_snapshot!(page(&admitted));

    let held = state(&mut client).await;
    let names: Vec<_> = held.listeners.iter().map(|one| one.name.as_str()).collect();
    assert_eq!(names, ["outbound", "inbound", "sight", "admin"]);
    assert!(held.certificate_not_after > held.certificate_not_before);
    let [unknown, ledger] = &held.outbound[..] else {
        panic!("{:?}", held.outbound)
    };
    assert_eq!((unknown.protocol.as_str(), ledger.name.as_str()), ("unknown", PATH));
    assert_eq!(ledger.backends[0].endpoints[0].identity, NAME);
    assert_eq!(held.inbound[0].port, 9000);
    let traffic = client.traffic(TrafficRequest::default()).await.expect("an answer");
    assert!(traffic.into_inner().samples.is_empty());
}

/// What is known stays in force while the control plane is away, and whoever asks is told how old it is.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn state_that_is_behind_says_its_age() {
    let plane = ControlPlane::start();
    plane.set_policy(addr(8080), Some(control::balance_policy("ledger", PATH)));
    plane.set_endpoints(PATH, Some(vec![control::endpoint(addr(9000))]));
    let proxy = Proxy::start(&plane).await;
    let mut client = proxy.client(&plane).await;
    assert_eq!(outbound(&mut client, addr(8080)).await.outcome, "forwarded");
    // Held as the application's traffic would hold it.
    let _held = proxy
        .control
        .parts
        .discovery
        .outbound(sheer_proxy::addr::OrigDst(addr(8080)));
    plane.go_away();
    let cut = async {
        loop {
            let held = state(&mut client).await;
            let policy = held
                .control_streams
                .iter()
                .find(|stream| stream.method == "OutboundPolicies.Watch" && stream.target == addr(8080).to_string());
            if policy.is_some_and(|stream| !stream.connected && stream.last_update_age_ms > 0) {
                return;
            }
            tokio::task::yield_now().await;
        }
    };
    timeout(PATIENCE, cut).await.expect("the cut is seen");
    let explained = outbound(&mut client, addr(8080)).await;
    assert_eq!(explained.outcome, "forwarded");
    assert!(explained.state_age_ms > 0);
}
