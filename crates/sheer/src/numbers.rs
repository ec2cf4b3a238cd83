//! Numbers of traffic, wherever they come from: the control plane's windows, or a Prometheus. `stat`, `edges` and `top` ask through this and show
//! what they get alike.

mod prometheus;
mod queries;

use std::time::Duration;

use sheer_api::v1::{
    EdgesRequest, EdgesResponse, Resource, Selector, StatRequest, StatResponse, Traffic, WorkloadPropagation,
    selector::Kind,
};

use crate::{
    cli::Global,
    outcome::Misuse,
    output::Tone,
    running::{Mesh, proxies_asked},
};
pub(crate) use prometheus::Prometheus;

/// Fewer successes than this are a finding.
pub(crate) const ENOUGH: f64 = 0.99;

/// Where numbers come from.
pub(crate) enum Numbers {
    /// The windows of the control plane.
    Windows(Mesh),
    /// A Prometheus that scrapes the proxies.
    Prometheus(Prometheus),
}

impl Numbers {
    /// What the flags name: a Prometheus by its URL, or the mesh.
    pub(crate) async fn find(global: &Global, prometheus: Option<&str>) -> anyhow::Result<Self> {
        Ok(match prometheus {
            Some(url) => Self::Prometheus(Prometheus::at(url)?),
            None => Self::Windows(Mesh::find(global).await?),
        })
    }

    /// How resources did.
    pub(crate) async fn stat(&self, request: &StatRequest) -> anyhow::Result<StatResponse> {
        match self {
            Self::Windows(mesh) => proxies_asked(mesh.stats().await?.stat(request.clone())).await,
            Self::Prometheus(prometheus) => queries::stat(prometheus, request).await,
        }
    }

    /// Who talked to whom.
    pub(crate) async fn edges(&self, request: &EdgesRequest) -> anyhow::Result<EdgesResponse> {
        match self {
            Self::Windows(mesh) => proxies_asked(mesh.stats().await?.edges(request.clone())).await,
            Self::Prometheus(prometheus) => queries::edges(prometheus, request).await,
        }
    }

    /// Which workloads pass on the contexts of traces, and which lose them. No Prometheus knows.
    pub(crate) async fn propagation(&self) -> anyhow::Result<Vec<WorkloadPropagation>> {
        match self {
            Self::Windows(mesh) => mesh.propagation().await,
            Self::Prometheus(_) => Ok(Vec::new()),
        }
    }
}

/// What an operator means by `deploy`, `deploy/web`, `svc/ledger` or `pods`.
pub(crate) fn selector(reference: &str, namespace: Option<&str>) -> Result<Selector, Misuse> {
    let (kind, name) = reference.split_once('/').unwrap_or((reference, ""));
    let kind = match kind {
        "workload" | "workloads" => Kind::Workload,
        "deploy" | "deployment" | "deployments" => Kind::Deployment,
        "sts" | "statefulset" | "statefulsets" => Kind::Statefulset,
        "po" | "pod" | "pods" => Kind::Pod,
        "svc" | "service" | "services" => Kind::Service,
        "route" | "routes" | "httproute" | "httproutes" | "grpcroute" | "grpcroutes" => Kind::Route,
        "ns" | "namespace" | "namespaces" => Kind::Namespace,
        _ => {
            return Err(Misuse(format!(
                "{reference:?} names nothing that has numbers; write deploy, sts, pods, svc, routes or ns, or one of them as deploy/web"
            )));
        }
    };
    if name.is_empty() && reference.contains('/') {
        return Err(Misuse(format!("{reference:?} lacks a name; without / it means all")));
    }
    // `svc/ledger.bank`, as addresses have it.
    let (name, namespace) = match (name.split_once('.'), namespace) {
        (Some((name, own)), None) if kind != Kind::Namespace => (name, own.split('.').next().unwrap_or_default()),
        (_, namespace) => (name, namespace.unwrap_or_default()),
    };
    Ok(Selector {
        kind: kind.into(),
        name: name.to_owned(),
        namespace: namespace.to_owned(),
    })
}

/// A resource as operators write it, `deploy/ledger`. What is outside of the mesh goes by its name alone.
pub(crate) fn resource(resource: Option<&Resource>, with_namespace: bool) -> String {
    let Some(resource) = resource else {
        return "-".to_owned();
    };
    let Resource {
        kind,
        namespace,
        name,
        part,
    } = resource;
    let mut text = match kind.as_str() {
        "address" | "host" | "identity" | "other" | "none" => name.clone(),
        kind => format!("{kind}/{name}"),
    };
    if with_namespace && !namespace.is_empty() {
        text = format!("{namespace}/{text}");
    }
    match part.as_str() {
        "" => text,
        port if port.bytes().all(|byte| byte.is_ascii_digit()) => format!("{text}:{port}"),
        part => format!("{text} {part}"),
    }
}

/// Rates and shares of traffic.
pub(crate) trait Rates {
    /// Share of requests that went well, 0 to 1.
    fn success_rate(&self) -> Option<f64>;
    /// The same of attempts.
    fn actual_success_rate(&self) -> Option<f64>;
    /// Requests a second.
    fn rps(&self) -> f64;
    /// Attempts a second.
    fn actual_rps(&self) -> f64;
    /// Share of requests, or where there are none of connections, over mutual TLS.
    fn mtls_share(&self) -> Option<f64>;
    /// A count by the time that it is about.
    fn per_second(&self, count: u64) -> f64;
}

#[expect(clippy::cast_precision_loss, reason = "counts are far below 2^53")]
impl Rates for Traffic {
    fn success_rate(&self) -> Option<f64> {
        share(self.successes, self.requests)
    }

    fn actual_success_rate(&self) -> Option<f64> {
        share(self.attempt_successes, self.attempts)
    }

    fn rps(&self) -> f64 {
        self.per_second(self.requests)
    }

    fn actual_rps(&self) -> f64 {
        self.per_second(self.attempts)
    }

    fn mtls_share(&self) -> Option<f64> {
        let opened = self.tcp.as_ref().map_or(0, |tcp| tcp.opened);
        share(self.requests_secured, self.requests_with_peer).or_else(|| share(self.connections_secured, opened))
    }

    fn per_second(&self, count: u64) -> f64 {
        let seconds = Duration::from_millis(self.span_ms).as_secs_f64();
        if seconds > 0.0 { count as f64 / seconds } else { 0.0 }
    }
}

#[expect(clippy::cast_precision_loss, reason = "counts are far below 2^53")]
fn share(part: u64, whole: u64) -> Option<f64> {
    (whole > 0).then(|| part as f64 / whole as f64)
}

/// Rounded down: 0.99999 must not pass as 1.
pub(crate) fn rounded(value: f64, digits: i32) -> f64 {
    let unit = 10_f64.powi(digits);
    ((value * unit) + 1e-6).floor() / unit
}

/// A share as a cell: `99.95%`.
pub(crate) fn percent(share: Option<f64>, enough: f64) -> (String, Tone) {
    match share {
        None => ("-".to_owned(), Tone::Dim),
        Some(share) => {
            let digits = if share < 1.0 { 2 } else { 0 };
            let tone = if share >= enough { Tone::Good } else { Tone::Bad };
            (format!("{:.digits$}%", rounded(share * 100.0, 2)), tone)
        }
    }
}

/// A rate as a cell: `0.2`, `41.7`, `1320`.
pub(crate) fn rate(rate: f64) -> String {
    if rate >= 1_000.0 {
        format!("{rate:.0}")
    } else {
        format!("{rate:.1}")
    }
}

/// A latency as a cell: `0.42ms`, `7.3ms`, `120ms`, `2.5s`.
pub(crate) fn millis(millis: Option<f64>) -> (String, Tone) {
    let Some(millis) = millis else {
        return ("-".to_owned(), Tone::Dim);
    };
    let text = match millis {
        ms if ms < 1.0 => format!("{ms:.2}ms"),
        ms if ms < 100.0 => format!("{ms:.1}ms"),
        ms if ms < 1_000.0 => format!("{ms:.0}ms"),
        ms => format!("{:.1}s", ms / 1_000.0),
    };
    (text, Tone::Plain)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn references_as_operators_write_them() {
        let of = |reference: &str, namespace| {
            let selector = selector(reference, namespace).unwrap();
            (selector.kind(), selector.name, selector.namespace)
        };
        assert_eq!(
            of("deploy", Some("bank")),
            (Kind::Deployment, String::new(), "bank".to_owned())
        );
        assert_eq!(of("po/web-0", None), (Kind::Pod, "web-0".to_owned(), String::new()));
        assert_eq!(
            of("svc/ledger.bank.svc", None),
            (Kind::Service, "ledger".to_owned(), "bank".to_owned())
        );
        assert_eq!(
            of("ns/bank", Some("bank")),
            (Kind::Namespace, "bank".to_owned(), "bank".to_owned())
        );
        assert!(selector("web", None).is_err());
        assert!(selector("deploy/", None).is_err());
    }

    #[test]
    fn cells_read_well() {
        let text = |cell: (String, Tone)| cell.0;
        assert_eq!(
            [0.42, 7.31, 123.4, 2_500.0].map(|ms| text(millis(Some(ms)))),
            ["0.42ms", "7.3ms", "123ms", "2.5s"]
        );
        assert_eq!(
            [1.0, 0.999_99, 0.5].map(|share| text(percent(Some(share), ENOUGH))),
            ["100%", "99.99%", "50.00%"]
        );
        assert_eq!([0.0, 41.66, 1_320.4].map(rate), ["0.0", "41.7", "1320"]);
    }

    #[test]
    fn where_there_are_no_requests_connections_say_how_much_is_secured() {
        let traffic = Traffic {
            connections_secured: 1,
            tcp: Some(sheer_api::v1::TcpCounts {
                opened: 4,
                ..Default::default()
            }),
            ..Traffic::default()
        };
        assert_eq!(traffic.mtls_share(), Some(0.25));
        assert_eq!(Traffic::default().mtls_share(), None);
    }
}
