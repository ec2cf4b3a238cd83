//! A fake control plane: Linkerd's proxy API on a loopback port, saying exactly what a test tells it to.
//!
//! Answers are set by key (an address, a service's path, a port) at any time; open streams tell the change. It can fall silent, go
//! away with all connections cut, come back on the same port, and issue certificates that are wrong in a named way.

mod answers;
mod pki;
mod services;

use std::{
    collections::HashMap,
    net::{Ipv4Addr, SocketAddr, TcpListener},
    path::Path,
    sync::Arc,
    time::{Duration, Instant},
};

use parking_lot::Mutex;
use sheer_api::{
    linkerd::{
        destination::{DestinationProfile, WeightedAddr, destination_server::DestinationServer},
        identity::identity_server::IdentityServer,
        inbound::{Server, inbound_server_policies_server::InboundServerPoliciesServer},
        outbound::{OutboundPolicy, outbound_policies_server::OutboundPoliciesServer},
    },
    v1::{
        InboundExtras, OutboundExtras, TelemetryPush, extras_server::ExtrasServer, telemetry_server::TelemetryServer,
    },
};
use tokio::{runtime::Runtime, sync::watch};

pub use answers::{balance_policy, endpoint, forward_policy, meshed_endpoint, open_server};
pub use pki::{Leaf, Pki};

/// How certificates are issued.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Issue {
    /// Right, valid from half a minute ago for this long.
    Valid(Duration),
    /// Ended an hour ago.
    Expired,
    /// Begins in an hour.
    NotYetValid,
    /// For this other name.
    OtherName(String),
    /// For another key.
    OtherKey,
    /// Signed by somebody else.
    Untrusted,
    /// Not a certificate.
    Garbage,
    /// Refused: `FAILED_PRECONDITION`, as Linkerd answers to a bad token.
    Refused,
}

/// A fake control plane, running until dropped. All services share one port, without TLS.
#[derive(Debug)]
pub struct ControlPlane {
    addr: SocketAddr,
    script: Arc<Script>,
    /// Its own, so that going away cuts every connection.
    runtime: Mutex<Option<Runtime>>,
}

/// One answer, followed by the streams that asked for it. `None` where nothing is known.
pub(crate) type Answer<T> = watch::Sender<Option<T>>;

/// What is answered.
#[derive(Debug)]
pub(crate) struct Script {
    pub(crate) pki: Pki,
    pub(crate) issue: Mutex<Issue>,
    pub(crate) token: Mutex<Option<Vec<u8>>>,
    pub(crate) certified: watch::Sender<usize>,
    pub(crate) silent: watch::Sender<bool>,
    pub(crate) streams: Mutex<HashMap<&'static str, usize>>,
    pub(crate) profiles: Answers<DestinationProfile>,
    pub(crate) endpoints: Answers<Vec<WeightedAddr>>,
    pub(crate) policies: Answers<OutboundPolicy>,
    pub(crate) servers: Answers<Server>,
    pub(crate) extras: Answers<OutboundExtras>,
    pub(crate) port_extras: Answers<InboundExtras>,
    /// Reports of traffic, as they came.
    pub(crate) reports: watch::Sender<Vec<TelemetryPush>>,
    /// Whether reports are acknowledged, and whether rates by path are asked for.
    pub(crate) acknowledges: watch::Sender<bool>,
    pub(crate) wants_paths: watch::Sender<bool>,
    /// Whether it is Sheer's: another has no extras, and takes no reports.
    has_extras: bool,
}

/// Answers by key.
#[derive(Debug)]
pub(crate) struct Answers<T>(Mutex<HashMap<String, Answer<T>>>);

impl<T> Default for Answers<T> {
    fn default() -> Self {
        Self(Mutex::default())
    }
}

impl<T> Answers<T> {
    pub(crate) fn of(&self, key: &str) -> Answer<T> {
        let mut answers = self.0.lock();
        answers
            .entry(key.to_owned())
            .or_insert_with(|| watch::Sender::new(None))
            .clone()
    }
}

impl ControlPlane {
    /// Begins on a free loopback port. It knows nothing, and issues certificates for a day.
    pub fn start() -> Self {
        Self::start_as(true)
    }

    /// As [`Self::start`], with Linkerd's services alone.
    pub fn start_foreign() -> Self {
        Self::start_as(false)
    }

    fn start_as(has_extras: bool) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
        let addr = listener.local_addr().expect("bound");
        let script = Arc::new(Script {
            pki: Pki::new(),
            issue: Mutex::new(Issue::Valid(Duration::from_secs(86_400))),
            token: Mutex::default(),
            certified: watch::Sender::new(0),
            silent: watch::Sender::new(false),
            streams: Mutex::default(),
            profiles: Answers::default(),
            endpoints: Answers::default(),
            policies: Answers::default(),
            servers: Answers::default(),
            extras: Answers::default(),
            port_extras: Answers::default(),
            reports: watch::Sender::default(),
            acknowledges: watch::Sender::new(true),
            wants_paths: watch::Sender::new(false),
            has_extras,
        });
        let runtime = Mutex::new(Some(serve(listener, Arc::clone(&script))));
        Self { addr, script, runtime }
    }

    /// Where it listens.
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// Keys and certificates of its mesh.
    pub fn pki(&self) -> &Pki {
        &self.script.pki
    }

    /// The least environment of a proxy under this control plane. Makes the token file in `dir`; the admin port is any.
    pub fn environment(&self, name: &str, dir: &Path) -> HashMap<String, String> {
        let token = dir.join("token");
        std::fs::write(&token, "token").expect("the directory is writable");
        let addr = self.addr.to_string();
        let path = |path: &Path| path.to_str().expect("paths of tests are UTF-8").to_owned();
        [
            ("DESTINATION_SVC_ADDR", addr.clone()),
            ("POLICY_SVC_ADDR", addr.clone()),
            ("POLICY_WORKLOAD", r#"{"ns":"test","pod":"test-0"}"#.to_owned()),
            ("IDENTITY_SVC_ADDR", addr),
            ("IDENTITY_LOCAL_NAME", name.to_owned()),
            ("IDENTITY_DIR", path(&dir.join("identity"))),
            ("IDENTITY_TOKEN_FILE", path(&token)),
            ("IDENTITY_TRUST_ANCHORS", self.pki().anchors_pem().to_owned()),
            ("ADMIN_LISTEN_ADDR", "127.0.0.1:0".to_owned()),
            ("CONTROL_LISTEN_ADDR", "127.0.0.1:0".to_owned()),
        ]
        .map(|(name, value)| (format!("SHEER_PROXY_{name}"), value))
        .into()
    }

    /// Answer of `GetProfile` for an address.
    pub fn set_profile(&self, dst: SocketAddr, profile: Option<DestinationProfile>) {
        self.script.profiles.of(&dst.to_string()).send_replace(profile);
    }

    /// Answer of `OutboundPolicies.Watch` for an address.
    pub fn set_policy(&self, dst: SocketAddr, policy: Option<OutboundPolicy>) {
        self.script.policies.of(&dst.to_string()).send_replace(policy);
    }

    /// Answer of `Extras.WatchOutbound` for an address.
    pub fn set_extras(&self, dst: SocketAddr, extras: Option<OutboundExtras>) {
        self.script.extras.of(&dst.to_string()).send_replace(extras);
    }

    /// Answer of `Extras.WatchInbound` for a port.
    pub fn set_port_extras(&self, port: u16, extras: Option<InboundExtras>) {
        self.script.port_extras.of(&port.to_string()).send_replace(extras);
    }

    /// Endpoints of a service: open streams are told the difference. `None`: the service does not exist.
    pub fn set_endpoints(&self, path: &str, endpoints: Option<Vec<WeightedAddr>>) {
        self.script.endpoints.of(path).send_replace(endpoints);
    }

    /// Answer of `InboundServerPolicies.WatchPort`.
    pub fn set_server(&self, port: u16, server: Option<Server>) {
        self.script.servers.of(&port.to_string()).send_replace(server);
    }

    /// Reports of traffic as they came, those that came twice twice. Follow them with `wait_for`.
    pub fn reports(&self) -> watch::Receiver<Vec<TelemetryPush>> {
        self.script.reports.subscribe()
    }

    /// Whether reports are acknowledged from now on.
    pub fn acknowledge(&self, acknowledges: bool) {
        self.script.acknowledges.send_replace(acknowledges);
    }

    /// Whether rates by path are asked for from now on.
    pub fn want_paths(&self, wanted: bool) {
        self.script.wants_paths.send_replace(wanted);
    }

    /// From now on certificates are issued like this.
    pub fn issue(&self, issue: Issue) {
        *self.script.issue.lock() = issue;
    }

    /// From now on only this token is accepted.
    pub fn accept_token(&self, token: &[u8]) {
        *self.script.token.lock() = Some(token.to_vec());
    }

    /// How many times a certificate was asked for. Follow it with `wait_for`.
    pub fn certified(&self) -> watch::Receiver<usize> {
        self.script.certified.subscribe()
    }

    /// Streams that were opened so far, by method (`GetProfile`, `Get`, `Watch`, `WatchPort`).
    pub fn streams(&self, method: &str) -> usize {
        self.script.streams.lock().get(method).copied().unwrap_or_default()
    }

    /// While silent, requests are taken and not answered.
    pub fn set_silent(&self, silent: bool) {
        self.script.silent.send_replace(silent);
    }

    /// Cuts every connection and refuses new ones.
    pub fn go_away(&self) {
        let Some(runtime) = self.runtime.lock().take() else {
            return;
        };
        // Waited for, by a thread that may wait: what it was doing is done when this returns, and nobody hears from it again.
        let ended = std::thread::spawn(move || runtime.shutdown_timeout(Duration::from_secs(10))).join();
        ended.expect("it ends");
    }

    /// Serves again, on the same port. Does nothing where it never went away.
    pub async fn come_back(&self) {
        let until = Instant::now() + Duration::from_secs(10);
        while self.runtime.lock().is_none() {
            // The port may have been given to somebody's outgoing connection meanwhile.
            match TcpListener::bind(self.addr) {
                Ok(listener) => *self.runtime.lock() = Some(serve(listener, Arc::clone(&self.script))),
                Err(error) => assert!(Instant::now() < until, "{} is taken: {error}", self.addr),
            }
            tokio::task::yield_now().await;
        }
    }
}

impl Drop for ControlPlane {
    fn drop(&mut self) {
        self.go_away();
    }
}

fn serve(listener: TcpListener, script: Arc<Script>) -> Runtime {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build();
    let runtime = runtime.expect("threads are to be had");
    listener
        .set_nonblocking(true)
        .expect("a socket can be made non-blocking");
    runtime.spawn(async move {
        let listener = tokio::net::TcpListener::from_std(listener).expect("within a runtime");
        let router = tonic::transport::Server::builder()
            .add_service(IdentityServer::from_arc(Arc::clone(&script)))
            .add_service(DestinationServer::from_arc(Arc::clone(&script)))
            .add_service(OutboundPoliciesServer::from_arc(Arc::clone(&script)))
            .add_service(InboundServerPoliciesServer::from_arc(Arc::clone(&script)))
            .add_optional_service(
                script
                    .has_extras
                    .then(|| TelemetryServer::from_arc(Arc::clone(&script))),
            )
            .add_optional_service(script.has_extras.then(|| ExtrasServer::from_arc(script)));
        let incoming = tokio_stream::wrappers::TcpListenerStream::new(listener);
        if let Err(error) = router.serve_with_incoming(incoming).await {
            tracing::error!(%error, "the fake control plane ended");
        }
    });
    runtime
}
