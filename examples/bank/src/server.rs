//! What all services share: listening, health, reflection, faults, and an end without a lost request.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use tokio::signal::unix::{SignalKind, signal};
use tonic::body::Body;
use tonic::codegen::Service;
use tonic::server::NamedService;
use tonic::service::Routes;
use tonic::transport::Server;
use tonic::transport::server::TcpIncoming;
use tonic_health::ServingStatus;

use crate::DESCRIPTORS;
use crate::faults::{FaultsService, Switchboard};
use crate::guard::Guard;
use crate::v1::faults_server::FaultsServer;

/// After SIGTERM a service answers on for this long, until nobody sends to it any more.
const LINGER: Duration = Duration::from_secs(1);
/// Requests in flight get this long to finish, then the process ends.
pub(crate) const GRACE: Duration = Duration::from_secs(10);

/// Where a service listens and what it is called.
#[derive(Clone, Debug, clap::Args)]
pub struct Listen {
    /// Address of the gRPC port (health, reflection and faults included).
    #[arg(long, env = "BANK_LISTEN", default_value = "0.0.0.0:9000")]
    pub listen: SocketAddr,
    /// Name of this replica in answers. Default: the host's name.
    #[arg(long, env = "HOSTNAME", default_value_t = host_name())]
    pub instance: String,
}

fn host_name() -> String {
    std::fs::read_to_string("/proc/sys/kernel/hostname")
        .map_or_else(|_| "unknown".to_owned(), |name| name.trim().to_owned())
}

/// Serves one service behind its guard, with health, reflection and faults beside it, until SIGTERM or Ctrl-C.
pub async fn serve<S>(listen: &Listen, faults: Arc<Switchboard>, service: S) -> anyhow::Result<()>
where
    S: Service<http::Request<Body>, Response = http::Response<Body>, Error = Infallible>,
    S: NamedService + Clone + Send + Sync + 'static,
    S::Future: Send,
{
    let routes = Routes::new(Guard::new(service, faults.clone()));
    serve_routes(listen, faults, S::NAME, routes).await
}

/// Serves only health, reflection and faults, for a service whose clients do not speak gRPC.
pub async fn serve_operations(listen: &Listen, faults: Arc<Switchboard>) -> anyhow::Result<()> {
    serve_routes(listen, faults, "", Routes::default()).await
}

async fn serve_routes(
    listen: &Listen,
    faults: Arc<Switchboard>,
    name: &'static str,
    routes: Routes,
) -> anyhow::Result<()> {
    let (health, health_service) = tonic_health::server::health_reporter();
    health.set_service_status(name, ServingStatus::Serving).await;
    let incoming = TcpIncoming::bind(listen.listen)
        .with_context(|| format!("cannot listen on {}", listen.listen))?
        .with_nodelay(Some(true));
    tracing::info!(service = name, address = %incoming.local_addr()?, "listening");

    let routes = routes
        .add_service(FaultsServer::new(FaultsService(faults)))
        .add_service(health_service)
        .add_service(reflection().build_v1()?)
        .add_service(reflection().build_v1alpha()?);
    let server = Server::builder()
        .add_routes(routes)
        .serve_with_incoming_shutdown(incoming, async move {
            stop().await;
            tracing::info!("stopping: requests in flight finish");
            health.set_service_status("", ServingStatus::NotServing).await;
            health.set_service_status(name, ServingStatus::NotServing).await;
        });
    tokio::select! {
        biased; // an end in time goes before the hard one
        ended = server => ended.context("the server failed"),
        () = hard_stop() => Ok(()),
    }
}

fn reflection() -> tonic_reflection::server::Builder<'static> {
    tonic_reflection::server::Builder::configure()
        .register_encoded_file_descriptor_set(DESCRIPTORS)
        .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
}

/// Returns when the process should take no more work: at Ctrl-C at once, at SIGTERM after a while in which callers
/// learn that this replica goes.
pub async fn stop() {
    tokio::select! {
        () = received(SignalKind::interrupt()) => {}
        () = received(SignalKind::terminate()) => tokio::time::sleep(LINGER).await,
    }
}

/// Returns when waiting for requests in flight has lasted too long.
pub async fn hard_stop() {
    stop().await;
    tokio::time::sleep(GRACE).await;
    tracing::warn!("stopped with requests in flight");
}

/// Returns at SIGTERM or Ctrl-C.
pub async fn received_any() {
    tokio::select! {
        () = received(SignalKind::interrupt()) => {}
        () = received(SignalKind::terminate()) => {}
    }
}

async fn received(kind: SignalKind) {
    match signal(kind) {
        Ok(mut signals) => {
            signals.recv().await;
        }
        Err(error) => {
            tracing::warn!(%error, "cannot wait for a signal: only SIGKILL ends this process");
            std::future::pending().await
        }
    }
}
