//! What `dashboard` and `demo` share: a port of loopback, and the page of a mesh served there.

use std::sync::Arc;

use anyhow::Context as _;
use futures::future::BoxFuture;
use sheer_api::names::DASHBOARD_PORT;
use sheer_dashboard::Dashboard;
use sheer_dashboard::checks::{Checked, Checks};
use tokio::net::TcpListener;

use crate::cli::Global;
use crate::commands::check;
use crate::running::Mesh;

/// A port that is taken, at which nothing is served yet.
pub(crate) struct Bound(TcpListener);

/// Takes a port; where none is wanted, the usual one, or any where that is in use (another mesh's dashboard).
pub(crate) async fn bind(port: Option<u16>) -> anyhow::Result<Bound> {
    let wanted = port.unwrap_or(DASHBOARD_PORT);
    let listener = match Dashboard::bind(wanted).await {
        Err(error) if port.is_none() && error.kind() == std::io::ErrorKind::AddrInUse => Dashboard::bind(0).await,
        bound => bound,
    };
    let listener = listener.with_context(|| format!("127.0.0.1:{wanted} cannot be listened on; choose another port with --port, or any that is free with --port 0"))?;
    Ok(Bound(listener))
}

impl Bound {
    /// Where the page will be.
    pub(crate) fn url(&self) -> anyhow::Result<String> {
        Ok(format!("http://{}/", self.0.local_addr()?))
    }

    /// Serves the page of a mesh. Never ends by itself.
    pub(crate) async fn serve(self, mesh: &Mesh, global: &Global) -> anyhow::Result<()> {
        let checks = Arc::new(MeshChecks { global: global.clone() });
        Dashboard::new(mesh.channel(), checks)
            .with_token(mesh.token())?
            .serve(self.0)
            .await?;
        Ok(())
    }
}

/// `sheer check`, for the page.
struct MeshChecks {
    global: Global,
}

impl Checks for MeshChecks {
    fn run(&self) -> BoxFuture<'_, Checked> {
        Box::pin(check::look(&self.global))
    }
}
