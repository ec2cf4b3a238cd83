//! The line below every page: which mesh this is, who reports, how full the windows are.

use serde::Serialize;
use sheer_api::v1::ProxiesRequest;
use sheer_api::v1::finding::Severity;

use super::Sources;
use crate::problem::Problem;

#[derive(Debug, Serialize)]
pub(super) struct Status {
    /// Of the control plane.
    version: String,
    /// Of the dashboard.
    dashboard: &'static str,
    trust_domain: String,
    /// Of what proxies and manifests said, by name.
    namespaces: Vec<String>,
    /// Proxies that report, and those of them whose stream is open.
    proxies: usize,
    connected: usize,
    /// Of the control plane's windows.
    bytes: u64,
    bytes_limit: u64,
    series: u64,
    errors: usize,
    warnings: usize,
}

pub(super) async fn model(sources: &Sources) -> Result<Status, Problem> {
    let report = sources.control.report();
    let proxies = sources.control.proxies(ProxiesRequest::default());
    let (report, proxies) = tokio::try_join!(report, proxies)?;
    let of = |severity| {
        report
            .findings
            .iter()
            .filter(|finding| finding.severity() == severity)
            .count()
    };
    let mut namespaces: Vec<String> = proxies.proxies.iter().map(|proxy| proxy.namespace.clone()).collect();
    namespaces.sort_unstable();
    namespaces.dedup();
    Ok(Status {
        dashboard: env!("CARGO_PKG_VERSION"),
        namespaces,
        proxies: proxies.proxies.len(),
        connected: proxies.proxies.iter().filter(|proxy| proxy.connected).count(),
        bytes: proxies.bytes,
        bytes_limit: proxies.bytes_limit,
        series: proxies.series,
        errors: of(Severity::Error),
        warnings: of(Severity::Warning),
        version: report.version,
        trust_domain: report.trust_domain,
    })
}
