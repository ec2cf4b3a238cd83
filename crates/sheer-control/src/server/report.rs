//! What the control plane tells the command line of itself (`sheer.v1.Control`).

use std::{
    sync::Arc,
    time::{SystemTime, UNIX_EPOCH},
};

use sheer_api::v1::{
    ConfigDumpRequest, ConfigDumpResponse, ExplainRequest, ExplainResponse, Finding, PolicyDiffRequest,
    PolicyDiffResponse, ReportRequest, ReportResponse, control_server::Control, finding,
};
use tonic::{Request, Response, Status};

use super::Streams;
use crate::{config::MeshConfig, identity::Authority, manifests, sight::Sight, store::Store};

/// The report service.
pub(super) struct ReportService {
    pub(super) store: Store,
    pub(super) config: Arc<MeshConfig>,
    pub(super) authority: Arc<Authority>,
    pub(super) streams: Streams,
    /// Only for the socket, which is its owner's: what proxies hold is nobody else's business.
    pub(super) sight: Option<Sight>,
}

impl ReportService {
    fn sight(&self) -> Result<&Sight, Status> {
        let refused = || Status::permission_denied("asked through the control plane's socket only");
        self.sight.as_ref().ok_or_else(refused)
    }
}

#[tonic::async_trait]
impl Control for ReportService {
    async fn report(&self, _: Request<ReportRequest>) -> Result<Response<ReportResponse>, Status> {
        let snapshot = self.store.latest();
        let diagnosis = snapshot.diagnosis();
        Ok(Response::new(ReportResponse {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            trust_domain: self.config.trust_domain.clone(),
            objects: snapshot
                .counts()
                .iter()
                .map(|(kind, count)| (kind.to_string(), *count))
                .collect(),
            findings: diagnosis.findings.iter().map(to_message).collect(),
            streams: self
                .streams
                .counts()
                .into_iter()
                .map(|(method, count)| (method.to_owned(), count))
                .collect(),
            issuer_not_after: unix(self.authority.issuer_not_after()),
            last_change_age_ms: u64::try_from(diagnosis.changed.elapsed().as_millis()).unwrap_or(u64::MAX),
        }))
    }

    async fn explain(&self, request: Request<ExplainRequest>) -> Result<Response<ExplainResponse>, Status> {
        self.sight()?.explain(request.into_inner()).await.map(Response::new)
    }

    async fn config_dump(&self, request: Request<ConfigDumpRequest>) -> Result<Response<ConfigDumpResponse>, Status> {
        self.sight()?.config_dump(request.into_inner()).await.map(Response::new)
    }

    async fn policy_diff(&self, request: Request<PolicyDiffRequest>) -> Result<Response<PolicyDiffResponse>, Status> {
        self.sight()?.policy_diff(request.into_inner()).await.map(Response::new)
    }
}

fn unix(time: SystemTime) -> i64 {
    time.duration_since(UNIX_EPOCH)
        .map_or(0, |since| i64::try_from(since.as_secs()).unwrap_or(i64::MAX))
}

/// A finding as `sheer.v1` says it.
pub(crate) fn to_message(finding: &manifests::Finding) -> Finding {
    let severity = match finding.severity {
        manifests::Severity::Error => finding::Severity::Error,
        manifests::Severity::Warning => finding::Severity::Warning,
    };
    Finding {
        severity: severity.into(),
        file: finding.file.display().to_string(),
        line: finding.line,
        object: finding.object.clone(),
        field: finding.field.clone(),
        message: finding.message.clone(),
    }
}
