//! Listens, and says which path is whose.

use std::future::IntoFuture as _;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;

use axum::Router;
use axum::extract::{Path, Request, State};
use axum::middleware::from_fn;
use axum::response::Response;
use axum::routing::get;
use http::HeaderMap;
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tonic::metadata::errors::InvalidMetadataValue;
use tonic::transport::Channel;

use crate::assets::{self, Assets};
use crate::checks::{Checks, LastCheck};
use crate::control::Control;
use crate::pages::Sources;
use crate::{api, guard};

/// Pages that stay open at once: more than anybody has tabs, few enough that a loop somewhere cannot burden the control plane.
const STREAMS: usize = 64;

/// What requests are answered from.
pub(crate) struct App {
    pub(crate) sources: Arc<Sources>,
    assets: Assets,
    pub(crate) streams: Arc<Semaphore>,
}

/// A dashboard that can be served.
pub struct Dashboard {
    sources: Sources,
    assets: Assets,
}

impl Dashboard {
    /// A dashboard of the mesh whose control plane a channel leads to; the channel connects anew by itself.
    pub fn new(control: Channel, checks: Arc<dyn Checks>) -> Self {
        Self {
            sources: Sources::new(Control::new(control), LastCheck::new(checks)),
            assets: Assets::default(),
        }
    }

    /// Asks as whoever has this token of `sheer token`: it may look at the traffic that the token names, and at nothing else.
    pub fn with_token(mut self, token: Option<&str>) -> Result<Self, InvalidMetadataValue> {
        if let Some(token) = token {
            let value = format!("Bearer {}", token.trim()).parse()?;
            self.sources.control.narrow(value);
        }
        Ok(self)
    }

    /// Serves the files of a folder instead of those within this program, and reads them anew for each request: for those who work on the page.
    #[must_use]
    pub fn with_assets(mut self, folder: PathBuf) -> Self {
        self.assets.folder = Some(folder);
        self
    }

    /// Listens on a port of loopback, where 0 means any that is free. There is no other address: whoever may connect sees everything.
    pub async fn bind(port: u16) -> io::Result<TcpListener> {
        TcpListener::bind(SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), port)).await
    }

    /// Serves until it is dropped.
    pub async fn serve(self, listener: TcpListener) -> io::Result<()> {
        axum::serve(listener, self.router()).into_future().await
    }

    fn router(self) -> Router {
        let app = Arc::new(App {
            sources: Arc::new(self.sources),
            assets: self.assets,
            streams: Arc::new(Semaphore::new(STREAMS)),
        });
        Router::new()
            .route("/api/{page}", get(api::once))
            .route("/api/{page}/events", get(api::events))
            .route("/assets/{*path}", get(asset))
            .fallback(page)
            .layer(from_fn(guard::guard))
            .with_state(app)
    }
}

async fn asset(State(app): State<Arc<App>>, Path(path): Path<String>, headers: HeaderMap) -> Response {
    app.assets.file(&path, &headers).await
}

/// Every page is the same file; its script reads the address.
async fn page(State(app): State<Arc<App>>, request: Request) -> Response {
    let first = request.uri().path().split('/').nth(1).unwrap_or_default();
    match first {
        "" | "map" | "workloads" | "routes" | "live" | "requests" | "traces" | "policy" | "health" => {
            app.assets.file("index.html", request.headers()).await
        }
        _ => assets::not_found(),
    }
}
