//! Sight: asks the proxies what they hold and would do, beside what the control plane itself would say.
//!
//! ```text
//! sheer (socket) ─► Sight ─┬─► proxies, port 4190, mutual TLS as the control plane ([`connect`])
//!                          └─► the same services that answer proxies, with the latest snapshot or a changed one ([`view`])
//! ```
//!
//! [`watch`] shows what passed and passes on the wire.
//!
//! Only asks: nothing here changes what proxies are told. A proxy that does not answer is a note, never an error of the whole.

pub(crate) mod asker;
mod connect;
mod diff;
mod dump;
mod enter;
mod explain;
pub(crate) mod hidden;
mod log_level;
mod places;
mod resolve;
mod secrets;
mod view;
mod watch;

use std::sync::Arc;

use futures::stream::BoxStream;
use sheer_api::v1;
use tonic::Status;

use crate::{
    config::MeshConfig,
    identity::OwnIdentity,
    server::Streams,
    store::{Snapshot, Store},
};
use asker::{Asker, Tokens};
use connect::Proxies;
use hidden::Latest;
pub(crate) use secrets::Secrets;
use view::View;
use watch::RedactionKey;
pub(crate) use watch::refused;

/// Answers the questions of `sheer.v1.Control` that are about proxies.
pub(crate) struct Sight {
    store: Store,
    config: Arc<MeshConfig>,
    streams: Streams,
    proxies: Arc<Proxies>,
    redaction: RedactionKey,
    hidden: Arc<Latest>,
    tokens: Tokens,
}

impl Sight {
    /// Asks proxies as `own`.
    pub(crate) fn new(
        store: Store,
        config: Arc<MeshConfig>,
        streams: Streams,
        own: &Arc<OwnIdentity>,
        tokens: Tokens,
    ) -> anyhow::Result<Self> {
        Ok(Self {
            store,
            config,
            streams,
            proxies: Arc::new(Proxies::new(own.client_config()?)),
            redaction: RedactionKey::new()?,
            hidden: Arc::default(),
            tokens,
        })
    }

    /// What becomes of a request.
    pub(crate) async fn explain(&self, request: v1::ExplainRequest) -> Result<v1::ExplainResponse, Status> {
        explain::explain(self, request).await
    }

    /// What proxies hold.
    pub(crate) async fn config_dump(&self, request: v1::ConfigDumpRequest) -> Result<v1::ConfigDumpResponse, Status> {
        dump::dump(self, request).await
    }

    /// What changed manifests would do.
    pub(crate) async fn policy_diff(&self, request: v1::PolicyDiffRequest) -> Result<v1::PolicyDiffResponse, Status> {
        diff::diff(self, request).await
    }

    /// Connections of proxies.
    pub(crate) async fn connections(
        &self,
        request: v1::WatchConnectionsRequest,
        asker: &Asker,
    ) -> Result<v1::WatchConnectionsResponse, Status> {
        watch::connections(self, request, asker).await
    }

    /// Frames that proxies recorded, and those to come.
    pub(crate) async fn frames(
        &self,
        request: v1::WatchFramesRequest,
        asker: &Asker,
    ) -> Result<BoxStream<'static, Result<v1::FrameEvent, Status>>, Status> {
        watch::frames(self, request, asker).await
    }

    /// Requests as they pass.
    pub(crate) async fn tap(
        &self,
        request: v1::WatchTapRequest,
        asker: &Asker,
    ) -> Result<BoxStream<'static, Result<v1::TapLine, Status>>, Status> {
        watch::tap(self, request, asker).await
    }

    /// Frames and bodies from now on.
    pub(crate) async fn plaintext(
        &self,
        request: v1::WatchPlaintextRequest,
        asker: &Asker,
    ) -> Result<BoxStream<'static, Result<v1::PlaintextEvent, Status>>, Status> {
        watch::plaintext(self, request, asker).await
    }

    /// Requests at the four points.
    pub(crate) async fn diff(
        &self,
        request: v1::WatchDiffRequest,
        asker: &Asker,
    ) -> Result<v1::WatchDiffResponse, Status> {
        watch::diff(self, request, asker).await
    }

    /// Secrets of TLS sessions, of all proxies of a workload.
    pub(crate) fn secrets(&self, request: &v1::WatchSecretsRequest, asker: &Asker) -> Result<Secrets, Status> {
        secrets::watch(self, request, asker)
    }

    /// Has proxies replace their connections.
    pub(crate) async fn renew_connections(
        &self,
        request: v1::RenewRequest,
        asker: &Asker,
    ) -> Result<v1::RenewResponse, Status> {
        secrets::renew(self, request, asker).await
    }

    /// Shows and changes what proxies log.
    pub(crate) async fn log_level(
        &self,
        request: v1::WorkloadLogLevelRequest,
        asker: &Asker,
    ) -> Result<v1::WorkloadLogLevelResponse, Status> {
        log_level::log_level(self, request, asker).await
    }

    /// Somebody enters the network of a workload.
    pub(crate) fn enter(&self, request: &v1::EnterRequest, asker: &Asker) -> Result<v1::EnterResponse, Status> {
        enter::enter(self, request, asker)
    }

    /// Who asks.
    pub(crate) fn asker<T>(&self, request: &tonic::Request<T>) -> Result<Asker, Status> {
        Asker::of(request.metadata(), request.extensions(), &self.tokens)
            .inspect_err(|refused| tracing::warn!(target: "audit", why = refused.message(), "audit: refused"))
    }

    /// Makes a token. Workloads that do not run yet may be named, and the answer says which.
    pub(crate) fn issue_token(
        &self,
        request: &v1::IssueTokenRequest,
        asker: &Asker,
    ) -> Result<v1::IssueTokenResponse, Status> {
        let missing = asker::missing(&self.snapshot(), &request.on)?;
        let issued = self.tokens.issue(request, asker.caller())?;
        Ok(v1::IssueTokenResponse { missing, ..issued })
    }

    /// Revokes tokens.
    pub(crate) fn tokens(&self) -> &Tokens {
        &self.tokens
    }

    fn snapshot(&self) -> Arc<Snapshot> {
        self.store.latest()
    }

    /// What the control plane would say with a snapshot.
    fn view(&self, snapshot: Arc<Snapshot>) -> View {
        View::new(snapshot, Arc::clone(&self.config), self.streams.clone())
    }
}

#[cfg(test)]
mod tests;
