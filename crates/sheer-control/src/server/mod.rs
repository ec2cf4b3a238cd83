//! Listens, and puts the services together.

mod connections;
mod report;
mod streams;

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use anyhow::Context;
pub(crate) use connections::Peer;
use futures::stream::BoxStream;
pub(crate) use report::to_message as finding_message;
use rustls::ServerConfig;
use sheer_api::{names, v1::control_server::ControlServer};
pub(crate) use streams::Streams;
use tokio::{
    net::{TcpListener, UnixListener},
    sync::watch,
    task::JoinSet,
};
use tonic::{service::Routes, transport::Server};

use crate::{
    ControlOptions,
    config::MeshConfig,
    destination::DestinationService,
    identity::{Authority, IdentityService, OwnIdentity, token::Signer},
    policy::PolicyService,
    sight::{Sight, asker::Tokens},
    socket::shorten,
    store::Store,
    telemetry::{Intake, StatsService, Windows},
    traces::Traces,
};

/// A PING when a connection has been silent for this long finds proxies that vanished.
const KEEP_ALIVE: Duration = Duration::from_secs(30);
/// How long open calls may take to end at shutdown.
const GRACE: Duration = Duration::from_secs(2);

/// A control plane that listens, but does not answer before [`Bound::serve`].
pub struct Bound {
    listeners: [TcpListener; 3],
    socket: Option<(UnixListener, PathBuf)>,
    tls: Option<Arc<ServerConfig>>,
    own: Arc<OwnIdentity>,
    services: Services,
    trust_domain: String,
    down: watch::Sender<bool>,
}

/// Every service, in the groups in which ports have them.
struct Services {
    identity: Routes,
    destination: Routes,
    policy: Routes,
    all: Routes,
}

impl Bound {
    /// Reads everything, and binds.
    pub async fn new(options: ControlOptions) -> anyhow::Result<Self> {
        options.check()?;
        let config = Arc::new(MeshConfig::from(&options));
        let authority = Authority::load_or_create(&options.identity, &options.trust_domain, options.leaf_lifetime)?;
        let authority = Arc::new(authority);
        let verifier = Signer::load_or_create(&options.identity)?.verifier();
        let dns = config.identity(&config.control_namespace, "sheer-control");
        let spiffe = names::spiffe_identity("sheer-control", &config.control_namespace, &config.trust_domain);
        let own = OwnIdentity::new(authority.clone(), dns, spiffe)?;
        // On loopback nobody listens but this machine's processes, and linkerd2-proxy expects plaintext there.
        let tls = if options.listen.is_loopback() {
            None
        } else {
            Some(own.server_config()?)
        };
        let (manifests, status, memory) = (
            options.manifests.clone(),
            options.status.clone(),
            options.identity.join("last-good"),
        );
        let store = tokio::task::spawn_blocking(move || Store::open(manifests, status, memory)).await?;
        let (down, shutdown) = watch::channel(false);
        let streams = Streams::new(shutdown.clone());

        let identity = IdentityService::server(authority.clone(), verifier, config.clone());
        let destination = DestinationService::server(store.clone(), config.clone(), streams.clone());
        let policy = PolicyService::new(store.clone(), config.clone(), streams.clone());
        let traces = Traces::new(store.clone(), config.clone(), streams.clone());
        let tokens = Tokens::open(&options.identity)?;
        let sight = Sight::new(store.clone(), config.clone(), streams.clone(), &own, tokens)?;
        let report = |sight| {
            ControlServer::new(report::ReportService {
                store: store.clone(),
                config: config.clone(),
                authority: authority.clone(),
                streams: streams.clone(),
                sight,
            })
        };
        let windows = Windows::start();
        let intake = Intake::server(store.clone(), config.clone(), windows.clone(), shutdown.clone());
        let stats = StatsService::server(store.clone(), config.clone(), windows, shutdown);
        let (outbound, inbound, extras) = (policy.outbound(), policy.inbound(), policy.extras());
        let all = Routes::new(identity.clone())
            .add_service(destination.clone())
            .add_service(outbound.clone());
        let all = all.add_service(inbound.clone()).add_service(extras.clone());
        let all = all.add_service(report(Some(sight))).add_service(stats);
        let all = all.add_service(traces.intake()).add_service(traces.query());
        let policy = Routes::new(outbound).add_service(inbound).add_service(extras);
        let policy = policy
            .add_service(report(None))
            .add_service(traces.intake())
            .add_service(intake);
        let services = Services {
            identity: Routes::new(identity),
            destination: Routes::new(destination),
            policy,
            all,
        };
        let bind = |port| bind(SocketAddr::new(options.listen, port));
        let ports = options.ports;
        let listeners = [
            bind(ports.identity).await?,
            bind(ports.destination).await?,
            bind(ports.policy).await?,
        ];
        let socket = options
            .socket
            .map(|path| bind_socket(&path).map(|listener| (listener, path)))
            .transpose()?;
        Ok(Self {
            listeners,
            socket,
            tls,
            own,
            services,
            trust_domain: options.trust_domain,
            down,
        })
    }

    /// Addresses of the identity, destination and policy services.
    pub fn addresses(&self) -> anyhow::Result<[SocketAddr; 3]> {
        let [identity, destination, policy] = &self.listeners;
        Ok([identity.local_addr()?, destination.local_addr()?, policy.local_addr()?])
    }

    /// Answers until `shutdown` is done; then ends every stream and leaves within seconds.
    pub async fn serve(self, shutdown: impl Future<Output = ()>) -> anyhow::Result<()> {
        let mut tasks = JoinSet::new();
        let mut downs = self.down.subscribe();
        let Services {
            identity,
            destination,
            policy,
            all,
        } = self.services;
        for (listener, routes) in self.listeners.into_iter().zip([identity, destination, policy]) {
            tracing::info!(address = %listener.local_addr()?, tls = self.tls.is_some(), "listening");
            tasks.spawn(serve_one(
                routes,
                connections::tcp(listener, self.tls.clone()),
                self.down.subscribe(),
            ));
        }
        let _remove = self.socket.map(|(listener, path)| {
            tasks.spawn(serve_one(all, connections::unix(listener), self.down.subscribe()));
            RemoveOnDrop(path)
        });
        let fresh = tokio::spawn(self.own.keep_fresh(self.trust_domain));
        let ended = tokio::select! {
            () = shutdown => None,
            ended = tasks.join_next() => ended,
        };
        fresh.abort();
        self.down.send_replace(true);
        // Held so that streams which begin from here on end at once.
        let _ = downs.wait_for(|down| *down).await;
        if tokio::time::timeout(GRACE, async { while tasks.join_next().await.is_some() {} })
            .await
            .is_err()
        {
            tracing::info!("some calls did not end in time: cut off");
        }
        match ended {
            None => Ok(()),
            Some(ended) => ended?.context("a listener ended"),
        }
    }
}

/// Takes the socket's file away with the listener.
struct RemoveOnDrop(PathBuf);

impl Drop for RemoveOnDrop {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

async fn bind(address: SocketAddr) -> anyhow::Result<TcpListener> {
    TcpListener::bind(address)
        .await
        .with_context(|| format!("cannot listen on {address}: is another control plane running?"))
}

/// Binds a socket that only its owner can use, over one that a dead process left behind.
fn bind_socket(path: &Path) -> anyhow::Result<UnixListener> {
    use std::os::unix::{fs::PermissionsExt, net::UnixStream};
    let context = || format!("cannot listen on {}", path.display());
    if path.exists() {
        let (short, _folder) = shorten(path).with_context(context)?;
        anyhow::ensure!(
            UnixStream::connect(short).is_err(),
            "cannot listen on {}: another control plane does",
            path.display()
        );
        std::fs::remove_file(path).with_context(context)?;
    }
    // Made under a name that nobody knows, closed to others, then renamed: it is never open to them.
    let hidden = path.with_extension(format!("new.{}", std::process::id()));
    let (short, _folder) = shorten(&hidden).with_context(context)?;
    let listener = UnixListener::bind(short).with_context(context)?;
    std::fs::set_permissions(&hidden, std::fs::Permissions::from_mode(0o600)).with_context(context)?;
    std::fs::rename(&hidden, path).with_context(context)?;
    Ok(listener)
}

async fn serve_one(
    routes: Routes,
    incoming: BoxStream<'static, std::io::Result<connections::Connection>>,
    mut down: watch::Receiver<bool>,
) -> anyhow::Result<()> {
    let shutdown = async move { drop(down.wait_for(|down| *down).await) };
    Server::builder()
        .http2_keepalive_interval(Some(KEEP_ALIVE))
        .add_routes(routes)
        .serve_with_incoming_shutdown(incoming, shutdown)
        .await?;
    Ok(())
}

#[cfg(test)]
mod tests;
