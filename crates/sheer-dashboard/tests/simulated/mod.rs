//! A control plane that is not there: it answers the questions of the dashboard from a made-up mesh, over the real wire.

#![allow(
    dead_code,
    unreachable_pub,
    missing_docs,
    clippy::allow_attributes,
    reason = "shared by tests and an example, each of which uses a part"
)]

mod control;
pub mod meshes;
mod sight;
mod stats;
mod traces;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use futures::future::BoxFuture;
use hyper_util::rt::TokioIo;
use sheer_api::v1::control_server::ControlServer;
use sheer_api::v1::stats_server::StatsServer;
use sheer_api::v1::traces_server::TracesServer;
use sheer_dashboard::checks::{Category, Checked, Checks, Mark, Point};
use tokio::net::{UnixListener, UnixStream};
use tokio::runtime::Runtime;
use tokio_stream::wrappers::UnixListenerStream;
use tonic::transport::{Channel, Endpoint, Server};

pub use meshes::{Call, Mesh};

/// The services of a control plane, of one mesh.
#[derive(Clone)]
pub struct Simulated(pub Arc<Mesh>);

/// A control plane that runs; ended with the value, its connections too.
pub struct Running(Option<Runtime>);

impl Drop for Running {
    fn drop(&mut self) {
        if let Some(runtime) = self.0.take() {
            runtime.shutdown_background();
        }
    }
}

/// Serves a mesh on a Unix socket.
#[must_use]
pub fn serve(mesh: Mesh, socket: &Path) -> Running {
    let _ = std::fs::remove_file(socket);
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build();
    let runtime = runtime.expect("a runtime");
    let within = runtime.enter();
    let listener = UnixListener::bind(socket).expect("the socket's folder is there");
    let simulated = Simulated(Arc::new(mesh));
    runtime.spawn(async move {
        Server::builder()
            .add_service(StatsServer::new(simulated.clone()))
            .add_service(TracesServer::new(simulated.clone()))
            .add_service(ControlServer::new(simulated))
            .serve_with_incoming(UnixListenerStream::new(listener))
            .await
            .expect("a Unix socket can be served");
    });
    drop(within);
    Running(Some(runtime))
}

/// A channel to it, as the command line makes one.
pub fn channel(socket: &Path) -> Channel {
    let socket: PathBuf = socket.to_owned();
    Endpoint::from_static("http://control").connect_with_connector_lazy(tower::service_fn(move |_| {
        let socket = socket.clone();
        async move { UnixStream::connect(socket).await.map(TokioIo::new) }
    }))
}

/// The checks of a mesh in which one point fails and one warns.
pub struct MadeUpChecks;

impl Checks for MadeUpChecks {
    fn run(&self) -> BoxFuture<'_, Checked> {
        let point = |description: &str, result, detail: &str, hint: &str| Point {
            description: description.to_owned(),
            result,
            details: Some(detail.to_owned())
                .filter(|detail| !detail.is_empty())
                .into_iter()
                .collect(),
            hint: hint.to_owned(),
        };
        let checked = Checked {
            success: false,
            categories: vec![
                Category {
                    name: "control-plane".to_owned(),
                    points: vec![
                        point("the control plane answers", Mark::Success, "", ""),
                        point(
                            "every field of the manifests is honoured",
                            Mark::Warning,
                            "bank/ledger.yaml:12: Deployment bank/ledger: spec.strategy: has no effect",
                            "take out what is named, or live without it",
                        ),
                    ],
                },
                Category {
                    name: "data-plane".to_owned(),
                    points: vec![
                        point("every proxy is ready", Mark::Success, "", ""),
                        point(
                            "every proxy has a certificate that is valid",
                            Mark::Error,
                            "bank/notify-6d9f4-0: it ended at 2026-11-20 10:00:00",
                            "see `sheer logs deploy/notify`, then `sheer restart deploy/notify`",
                        ),
                    ],
                },
            ],
        };
        Box::pin(async move { checked })
    }
}
