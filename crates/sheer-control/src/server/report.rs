//! What the control plane tells the command line of itself (`sheer.v1.Control`).

use std::{
    sync::Arc,
    time::{SystemTime, UNIX_EPOCH},
};

use sheer_api::v1::{Finding, ReportRequest, ReportResponse, control_server::Control, finding};
use tonic::{Request, Response, Status};

use super::Streams;
use crate::{config::MeshConfig, identity::Authority, manifests, store::Store};

/// The report service.
pub(super) struct ReportService {
    pub(super) store: Store,
    pub(super) config: Arc<MeshConfig>,
    pub(super) authority: Arc<Authority>,
    pub(super) streams: Streams,
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
}

fn unix(time: SystemTime) -> i64 {
    time.duration_since(UNIX_EPOCH)
        .map_or(0, |since| i64::try_from(since.as_secs()).unwrap_or(i64::MAX))
}

fn to_message(finding: &manifests::Finding) -> Finding {
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
