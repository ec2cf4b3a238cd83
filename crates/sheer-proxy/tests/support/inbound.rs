//! The inbound half on loopback, with a discovery and an authority of the test.

use std::{
    collections::HashMap,
    net::SocketAddr,
    rc::Rc,
    sync::{Arc, Mutex},
    time::Duration,
};

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair, SanType};
use rustls::{RootCertStore, crypto::aws_lc_rs::sign::any_supported_type};
use rustls_pki_types::{PrivateKeyDer, ServerName};
use sheer_proxy::{
    addr::{ClientAddr, OrigDst},
    discovery::{
        Authentication, Authorization, Budgets, Discovery, EndpointSet, InboundPolicy, Lookup, ObjectRef,
        OutboundTarget, PeerIdentity, ProtocolPlan,
    },
    identity::{self, Credentials, Identity, Material, MeshAlpn},
    inbound::Inbound,
    io::Stream,
    life::LifeControl,
    metrics::{Format, Registry},
    settings::{self, Settings},
    tls,
};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::watch,
};

pub(crate) const SERVER: &str = "ledger.bank.serviceaccount.identity.sheer.cluster.local";
pub(crate) const CLIENT: &str = "web.bank.serviceaccount.identity.sheer.cluster.local";

/// What a test says about ports.
pub(crate) struct Policies(Mutex<HashMap<u16, watch::Sender<Lookup<InboundPolicy>>>>, InboundPolicy);

impl Policies {
    pub(crate) fn set(&self, port: u16, policy: InboundPolicy) {
        let said = Lookup::Known(Arc::new(policy));
        let mut ports = self.0.lock().unwrap();
        ports
            .entry(port)
            .or_insert_with(|| watch::Sender::new(Lookup::Pending))
            .send_replace(said);
    }
}

impl Discovery for Policies {
    fn outbound(&self, _dst: OrigDst) -> watch::Receiver<Lookup<OutboundTarget>> {
        watch::Sender::new(Lookup::Unknown).subscribe()
    }

    fn endpoints(&self, _path: &str) -> watch::Receiver<Lookup<EndpointSet>> {
        watch::Sender::new(Lookup::Unknown).subscribe()
    }

    fn inbound(&self, port: u16) -> watch::Receiver<Lookup<InboundPolicy>> {
        let first = || watch::Sender::new(Lookup::Known(Arc::new(self.1.clone())));
        self.0.lock().unwrap().entry(port).or_insert_with(first).subscribe()
    }

    fn budgets(&self) -> &Budgets {
        unreachable!("nothing goes out here")
    }
}

/// A policy that lets everybody in, or only the given identities.
pub(crate) fn policy(protocol: ProtocolPlan, identities: Option<&[&str]>) -> InboundPolicy {
    let authentication = match identities {
        None => Authentication::Unauthenticated,
        Some(identities) => Authentication::MeshTls {
            identities: identities.iter().map(ToString::to_string).collect(),
            suffixes: vec![],
        },
    };
    let networks = ["0.0.0.0/0", "::/0"]
        .map(|network| (network.parse().unwrap(), vec![]))
        .to_vec();
    let object = |kind: &str, name: &str| ObjectRef {
        kind: kind.into(),
        namespace: "bank".into(),
        name: name.into(),
        ..ObjectRef::default()
    };
    InboundPolicy {
        protocol,
        authorizations: vec![Authorization {
            networks,
            authentication,
            policy: object("AuthorizationPolicy", "test"),
        }],
        server: object("Server", "test"),
        routes: Default::default(),
        rate_limit: None,
    }
}

pub(crate) const DETECT: ProtocolPlan = ProtocolPlan::Detect {
    timeout: Duration::from_secs(10),
};

/// An inbound proxy that listens on loopback.
pub(crate) struct Proxy {
    pub(crate) policies: Arc<Policies>,
    pub(crate) registry: Registry,
    pub(crate) life: LifeControl,
    addr: SocketAddr,
    inbound: Rc<Inbound>,
    client_identity: Identity,
}

impl Proxy {
    pub(crate) async fn start() -> Self {
        let issuer = issuer();
        let identity = published(credentials(&issuer, SERVER));
        let client_identity = published(credentials(&issuer, CLIENT));
        Self::start_as(identity, client_identity).await
    }

    /// As [`Self::start`], with the identities of the proxy and of its meshed clients.
    pub(crate) async fn start_as(identity: Identity, client_identity: Identity) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        let policies = Arc::new(Policies(Mutex::default(), policy(DETECT, None)));
        let registry = Registry::new(Duration::from_secs(600));
        let life = LifeControl::default();
        let inbound = Inbound::new(
            Arc::new(settings(addr)),
            Arc::<Policies>::clone(&policies),
            identity,
            life.life(),
            registry.shard(),
        );
        let serve = Rc::clone(&inbound);
        tokio::task::spawn_local(async move {
            while let Ok((tcp, client)) = listener.accept().await {
                tokio::task::spawn_local(Rc::clone(&serve).serve(tcp, ClientAddr(client)));
            }
        });
        Self {
            policies,
            registry,
            life,
            addr,
            inbound,
            client_identity,
        }
    }

    /// The proxy's own port.
    pub(crate) fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// What a sidecar beside a client proves itself with.
    pub(crate) fn client_identity(&self) -> Identity {
        self.client_identity.clone()
    }

    fn client(&self) -> Arc<Credentials> {
        self.client_identity.current().expect("the client has an identity")
    }

    /// An address from which redirection leads to `app` through this proxy.
    pub(crate) async fn in_front_of(&self, app: SocketAddr) -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        let inbound = Rc::clone(&self.inbound);
        tokio::task::spawn_local(async move {
            while let Ok((tcp, from)) = listener.accept().await {
                tokio::task::spawn_local(Rc::clone(&inbound).serve_to(tcp, ClientAddr(from), Some(app)));
            }
        });
        addr
    }

    /// A connection to the proxy's own port, as a sidecar opens it.
    pub(crate) async fn mesh(&self, alpn: MeshAlpn) -> Stream {
        let tcp = TcpStream::connect(self.addr).await.unwrap();
        let peer = PeerIdentity {
            id: SERVER.into(),
            server_name: ServerName::try_from(SERVER).unwrap(),
        };
        tls::connect(tcp, self.addr, &self.client(), &peer, alpn).await.unwrap()
    }

    /// A plain connection that redirection brought, on its way to `dst`.
    pub(crate) async fn plain(&self, dst: SocketAddr) -> TcpStream {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let (accepted, from) = listener.accept().await.unwrap();
        tokio::task::spawn_local(Rc::clone(&self.inbound).serve_to(accepted, ClientAddr(from), Some(dst)));
        client
    }

    /// A plain connection to the proxy's own port.
    pub(crate) async fn direct(&self) -> TcpStream {
        TcpStream::connect(self.addr).await.unwrap()
    }

    /// Connections that the proxy ended for this reason.
    pub(crate) fn errors(&self, reason: &str) -> u64 {
        counted(&self.registry, "sheer_errors_total", &format!("reason=\"{reason}\""))
    }

    /// As [`Self::plain`], with the TLS of a sidecar.
    pub(crate) async fn mesh_to(&self, dst: SocketAddr, alpn: MeshAlpn) -> Stream {
        let tcp = self.plain(dst).await;
        let peer = PeerIdentity {
            id: SERVER.into(),
            server_name: ServerName::try_from(SERVER).unwrap(),
        };
        tls::connect(tcp, dst, &self.client(), &peer, alpn).await.unwrap()
    }
}

/// The sum of all series of a family whose labels contain `labels`.
pub(crate) fn counted(registry: &Registry, family: &str, labels: &str) -> u64 {
    let page = registry.render(Format::Prometheus);
    let series = page
        .lines()
        .filter_map(|line| line.strip_prefix(family)?.strip_prefix('{'));
    let values = series.filter(|series| series.contains(labels));
    values
        .map(|series| series.rsplit_once(' ').unwrap().1.parse::<u64>().unwrap())
        .sum()
}

fn published(credentials: Credentials) -> Identity {
    let (publish, identity) = identity::channel();
    publish.publish(credentials);
    // The channel's sender lives as long as the process would.
    std::mem::forget(publish);
    identity
}

pub(crate) fn settings(listen: SocketAddr) -> Settings {
    let anchors = rcgen::generate_simple_self_signed(["anchor".to_owned()]).unwrap();
    let environment = [
        ("LINKERD2_PROXY_DESTINATION_SVC_ADDR", "localhost.:8086"),
        ("LINKERD2_PROXY_POLICY_SVC_ADDR", "127.0.0.1:8090"),
        ("LINKERD2_PROXY_POLICY_WORKLOAD", "{}"),
        ("LINKERD2_PROXY_IDENTITY_SVC_ADDR", "localhost:8080"),
        ("LINKERD2_PROXY_IDENTITY_LOCAL_NAME", SERVER),
        ("LINKERD2_PROXY_IDENTITY_DIR", "/id"),
        ("LINKERD2_PROXY_IDENTITY_TOKEN_FILE", "/token"),
        ("LINKERD2_PROXY_IDENTITY_TRUST_ANCHORS", &anchors.cert.pem()),
        ("SHEER_PROXY_INBOUND_LISTEN_ADDR", &listen.to_string()),
        ("SHEER_PROXY_DETECT_WAIT", "100ms"),
    ]
    .map(|(name, value)| (name.to_owned(), value.to_owned()));
    settings::read(environment).unwrap().0
}

type Issuer = CertifiedIssuer<'static, KeyPair>;

fn issuer() -> Issuer {
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap()
}

fn credentials(issuer: &Issuer, name: &str) -> Credentials {
    let key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::new(vec![name.to_owned()]).unwrap();
    let service_account = name.split('.').next().unwrap();
    let spiffe = format!("spiffe://cluster.local/ns/bank/sa/{service_account}");
    params.subject_alt_names.push(SanType::URI(spiffe.try_into().unwrap()));
    let leaf = params.signed_by(&key, issuer).unwrap();
    let mut roots = RootCertStore::empty();
    roots.add(issuer.der().clone()).unwrap();
    let key = PrivateKeyDer::try_from(key.serialize_der()).unwrap();
    Credentials::new(Material {
        name: name.into(),
        server_name: ServerName::try_from(name.to_owned()).unwrap(),
        key: any_supported_type(&key).unwrap(),
        chain: vec![leaf.der().clone()],
        roots: Arc::new(roots),
    })
    .unwrap()
}
