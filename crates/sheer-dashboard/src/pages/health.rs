//! Health: the points of `sheer check`, and what the control plane says of itself and of the manifests.

use serde::Serialize;
use sheer_api::v1::finding::Severity;
use sheer_api::v1::{Finding, ProxiesRequest, ProxyStatus, ReportResponse};

use super::Sources;
use crate::checks::Checked;
use crate::problem::Problem;

#[derive(Debug, Serialize)]
pub(super) struct Health {
    checked: Checked,
    /// How old that is.
    checked_age_ms: u64,
    /// Absent where the control plane does not answer; the checks say so too.
    control: Option<Control>,
    problem: Option<Problem>,
    proxies: Vec<Proxy>,
}

#[derive(Debug, Serialize)]
struct Control {
    version: String,
    trust_domain: String,
    objects: Vec<(String, u32)>,
    streams: Vec<(String, u32)>,
    issuer_not_after: i64,
    last_change_age_ms: u64,
    findings: Vec<Found>,
}

#[derive(Debug, Serialize)]
struct Found {
    /// "error" or "warning".
    severity: &'static str,
    /// As "routes.yaml:12"; may be empty.
    place: String,
    object: String,
    field: String,
    message: String,
}

#[derive(Debug, Serialize)]
struct Proxy {
    namespace: String,
    pod: String,
    workload: String,
    version: String,
    certificate_not_after: i64,
    started_ms: i64,
    connected: bool,
    last_seen_ms: i64,
    clock_ahead_ms: i64,
    overflowed: u64,
}

/// Shown as far as it goes: a page about health must not need health.
pub(super) async fn model(sources: &Sources) -> Result<Health, Problem> {
    let report = sources.control.report();
    let proxies = sources.control.proxies(ProxiesRequest::default());
    let ((checked, age), report, proxies) = tokio::join!(sources.checks.look(), report, proxies);
    let (control, problem) = match report {
        Ok(report) => (Some(control(report)), None),
        Err(problem) => (None, Some(problem)),
    };
    Ok(Health {
        checked,
        checked_age_ms: age.as_millis() as u64,
        control,
        problem,
        proxies: proxies
            .map(|answer| answer.proxies.into_iter().map(proxy).collect())
            .unwrap_or_default(),
    })
}

fn control(report: ReportResponse) -> Control {
    let sorted = |counts: std::collections::HashMap<String, u32>| {
        let mut counts: Vec<_> = counts.into_iter().collect();
        counts.sort();
        counts
    };
    Control {
        version: report.version,
        trust_domain: report.trust_domain,
        objects: sorted(report.objects),
        streams: sorted(report.streams),
        issuer_not_after: report.issuer_not_after,
        last_change_age_ms: report.last_change_age_ms,
        findings: report.findings.into_iter().map(found).collect(),
    }
}

fn found(finding: Finding) -> Found {
    Found {
        severity: if finding.severity() == Severity::Error {
            "error"
        } else {
            "warning"
        },
        place: match (finding.file.as_str(), finding.line) {
            ("", _) => String::new(),
            (file, 0) => file.to_owned(),
            (file, line) => format!("{file}:{line}"),
        },
        object: finding.object,
        field: finding.field,
        message: finding.message,
    }
}

fn proxy(status: ProxyStatus) -> Proxy {
    let reporter = status.reporter.unwrap_or_default();
    Proxy {
        namespace: status.namespace,
        pod: status.pod,
        workload: status.workload,
        version: reporter.version,
        certificate_not_after: reporter.certificate_not_after,
        started_ms: reporter.started_ms,
        connected: status.connected,
        last_seen_ms: status.last_seen_ms,
        clock_ahead_ms: status.clock_ahead_ms,
        overflowed: status.overflowed,
    }
}
