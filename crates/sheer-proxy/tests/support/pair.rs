//! Two whole sidecars in this process, outbound and inbound, with mTLS between them: what a client sends comes out at a listener of the test.
//! Or one sidecar, before an application without any.

use std::{net::SocketAddr, rc::Rc, sync::Arc, time::Duration};

use rustls::{RootCertStore, crypto::aws_lc_rs::sign::any_supported_type};
use rustls_pki_types::{CertificateDer, ServerName, pem::PemObject as _};
use sheer_policy::outbound::Backend;
use sheer_proxy::{
    addr::{ClientAddr, OrigDst},
    discovery::{
        Authentication, Authorization, Budgets, Discovery, Endpoint, EndpointSet, Hint, InboundPolicy, Lookup,
        ObjectRef, OutboundPolicy, OutboundTarget, PeerIdentity, ProtocolPlan,
    },
    identity::{self, Credentials, Identity, Material},
    inbound::Inbound,
    life::LifeControl,
    metrics::{Format, Registry},
    outbound::Outbound,
    settings::{self, Settings},
    trace::{Collecting, Spans, Tracer},
};
use sheer_testkit::control::Pki;
use tokio::{
    net::{TcpListener, TcpStream},
    sync::watch,
    task::spawn_local,
};

/// Who the client's sidecar is.
pub(crate) const CLIENT: &str = "web.bank.serviceaccount.identity.sheer.cluster.local";
const SERVER: &str = "ledger.bank.serviceaccount.identity.sheer.cluster.local";
/// What the client asks for; nothing listens there.
const SERVICE: &str = "10.9.8.7:80";
const DETECT: ProtocolPlan = ProtocolPlan::Detect {
    timeout: Duration::from_secs(10),
};

/// Client's sidecar, server's sidecar, and the application's listener.
pub(crate) struct Pair {
    outbound: Rc<Outbound>,
    inbound: Option<Rc<Inbound>>,
    anchors: String,
    app: TcpListener,
    registry: Registry,
    pub(crate) life: LifeControl,
}

/// Says one thing of every destination: it is one endpoint, and everybody may come in.
struct OneEndpoint(Endpoint, Budgets);

impl Discovery for OneEndpoint {
    fn budgets(&self) -> &Budgets {
        &self.1
    }

    fn outbound(&self, _dst: OrigDst) -> watch::Receiver<Lookup<OutboundTarget>> {
        let policy = OutboundPolicy::plain(ObjectRef::default(), DETECT, Backend::forward(self.0.clone()));
        known(OutboundTarget {
            name: "ledger.bank:80".into(),
            policy: Arc::new(policy),
        })
    }

    fn endpoints(&self, _path: &str) -> watch::Receiver<Lookup<EndpointSet>> {
        unreachable!("one endpoint is not balanced")
    }

    fn inbound(&self, _port: u16) -> watch::Receiver<Lookup<InboundPolicy>> {
        let networks = ["0.0.0.0/0", "::/0"]
            .map(|network| (network.parse().unwrap(), vec![]))
            .to_vec();
        let everybody = Authorization {
            networks,
            authentication: Authentication::Unauthenticated,
            policy: ObjectRef::default(),
        };
        known(InboundPolicy {
            protocol: DETECT,
            authorizations: vec![everybody],
            server: ObjectRef::default(),
            routes: Arc::default(),
            rate_limit: None,
        })
    }
}

fn known<T>(said: T) -> watch::Receiver<Lookup<T>> {
    watch::Sender::new(Lookup::Known(Arc::new(said))).subscribe()
}

impl Pair {
    /// Brings both up; without `meshed` only the client's.
    pub(crate) async fn start(meshed: bool) -> Self {
        Self::with(meshed, &[]).await
    }

    /// As [`Self::start`], with settings of both changed.
    pub(crate) async fn with(meshed: bool, changes: &[(&str, &str)]) -> Self {
        let app = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let application = app.local_addr().unwrap();
        let (pki, life, registry) = (
            Pki::new(),
            LifeControl::default(),
            Registry::new(Duration::from_secs(600)),
        );
        let settings = Arc::new(settings(pki.anchors_pem(), changes));
        let mut endpoint = Endpoint {
            addr: application,
            weight: 1.0,
            identity: None,
            hint: Hint::Unknown,
            transport_port: None,
            authority_override: None,
            labels: Arc::default(),
        };
        let mut callee = None;
        if meshed {
            let front = TcpListener::bind("127.0.0.1:0").await.unwrap();
            endpoint.addr = front.local_addr().unwrap();
            endpoint.hint = Hint::H2;
            let server_name = ServerName::try_from(SERVER).unwrap();
            endpoint.identity = Some(PeerIdentity {
                id: SERVER.into(),
                server_name,
            });
            let discovery = Arc::new(OneEndpoint(endpoint.clone(), Budgets::default()));
            let shard = registry.shard();
            let inbound = Inbound::new(Arc::clone(&settings), discovery, own(&pki, SERVER), life.life(), shard);
            callee = Some(Rc::clone(&inbound));
            spawn_local(redirect(front, inbound, application));
        }
        let discovery = Arc::new(OneEndpoint(endpoint, Budgets::default()));
        let outbound = Outbound::new(settings, discovery, own(&pki, CLIENT), life.life(), registry.shard());
        Self {
            outbound,
            inbound: callee,
            anchors: pki.anchors_pem().to_owned(),
            app,
            registry,
            life,
        }
    }

    /// Has both record requests, each as a process of its own would, into one place.
    pub(crate) fn traced(&self, changes: &[(&str, &str)]) -> Spans {
        let (collecting, spans) = Collecting::recorded(&settings(&self.anchors, changes));
        self.outbound.trace(&Tracer::start(&collecting, &self.registry.shard()));
        if let Some(inbound) = &self.inbound {
            inbound.trace(&Tracer::start(&collecting, &self.registry.shard()));
        }
        spans
    }

    /// Requests and connections that either proxy ended for this reason.
    pub(crate) fn errors(&self, reason: &str) -> u64 {
        let page = self.registry.render(Format::Prometheus);
        let wanted = format!("reason=\"{reason}\"");
        let lines = page
            .lines()
            .filter(|line| line.starts_with("sheer_errors_total") && line.contains(&wanted));
        lines
            .map(|line| line.rsplit(' ').next().unwrap().parse::<u64>().unwrap())
            .sum()
    }

    /// A connection of the client to the service.
    pub(crate) async fn connect(&self) -> TcpStream {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let (accepted, _) = listener.accept().await.unwrap();
        spawn_local(Rc::clone(&self.outbound).serve_to(accepted, OrigDst(SERVICE.parse().unwrap())));
        client
    }

    /// The client's half, and the server's where it is meshed.
    pub(crate) fn halves(&self) -> (&Rc<Outbound>, Option<&Rc<Inbound>>) {
        (&self.outbound, self.inbound.as_ref())
    }

    /// A connection that reached the application.
    pub(crate) async fn accept(&self) -> TcpStream {
        self.app.accept().await.unwrap().0
    }
}

/// What redirection does: whoever connects wanted to go to the application.
async fn redirect(front: TcpListener, inbound: Rc<Inbound>, application: SocketAddr) {
    while let Ok((tcp, client)) = front.accept().await {
        spawn_local(Rc::clone(&inbound).serve_to(tcp, ClientAddr(client), Some(application)));
    }
}

fn own(pki: &Pki, name: &str) -> Identity {
    let leaf = pki.leaf(&[name]);
    let mut roots = RootCertStore::empty();
    roots
        .add(CertificateDer::from_pem_slice(pki.anchors_pem().as_bytes()).unwrap())
        .unwrap();
    let credentials = Credentials::new(Material {
        name: name.into(),
        server_name: ServerName::try_from(name.to_owned()).unwrap(),
        key: any_supported_type(&leaf.key).unwrap(),
        chain: leaf.chain,
        roots: Arc::new(roots),
    });
    let (publish, identity) = identity::channel();
    publish.publish(credentials.unwrap());
    // The channel's sender lives as long as the process would.
    std::mem::forget(publish);
    identity
}

fn settings(anchors: &str, changes: &[(&str, &str)]) -> Settings {
    let environment = [
        ("SHEER_PROXY_DESTINATION_SVC_ADDR", "localhost.:8086"),
        ("SHEER_PROXY_POLICY_SVC_ADDR", "127.0.0.1:8090"),
        ("SHEER_PROXY_POLICY_WORKLOAD", "{}"),
        ("SHEER_PROXY_IDENTITY_SVC_ADDR", "localhost:8080"),
        ("SHEER_PROXY_IDENTITY_LOCAL_NAME", SERVER),
        ("SHEER_PROXY_IDENTITY_DIR", "/id"),
        ("SHEER_PROXY_IDENTITY_TOKEN_FILE", "/token"),
        ("SHEER_PROXY_IDENTITY_TRUST_ANCHORS", anchors),
    ]
    .into_iter()
    .chain(changes.iter().copied())
    .map(|(name, value)| (name.to_owned(), value.to_owned()));
    settings::read(environment).unwrap().0
}
