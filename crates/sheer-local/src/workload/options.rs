//! Annotations that a local mesh honours: redirection, the sidecar's program and log, published ports.

use std::{net::IpAddr, ops::RangeInclusive, path::PathBuf, time::Duration};

use ipnet::IpNet;
use sheer_control::objects::{Interval, Labels, annotation, parse_cores, parse_networks, parse_ports};

/// What a workload's sidecar is told.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct MeshOptions {
    /// Ports that clients reach without the sidecar.
    pub skip_inbound: Vec<RangeInclusive<u16>>,
    /// Ports of others that the application reaches without the sidecar.
    pub skip_outbound: Vec<RangeInclusive<u16>>,
    /// Networks with which the pod talks without the sidecar.
    pub skip_subnets: Vec<IpNet>,
    /// Another program in the sidecar's place.
    pub proxy_binary: Option<PathBuf>,
    /// Filter of the sidecar's log.
    pub log_level: Option<String>,
    /// `plain` or `json`.
    pub log_format: Option<String>,
    /// Data-path threads, from a CPU limit.
    pub cores: Option<u32>,
    /// How long the sidecar drains at most.
    pub shutdown_grace: Option<Duration>,
}

impl MeshOptions {
    /// Reads the annotations. A value that cannot be read is an error of its manifest, which is then not in force: here it counts as absent.
    pub(super) fn of(annotations: &Labels) -> Self {
        let config = |name: &str| annotation(annotations, "config", name);
        let ports = |name: &str| config(name).and_then(|text| parse_ports(text).ok()).unwrap_or_default();
        Self {
            skip_inbound: ports("skip-inbound-ports"),
            skip_outbound: ports("skip-outbound-ports"),
            skip_subnets: config("skip-subnets")
                .and_then(|text| parse_networks(text).ok())
                .unwrap_or_default(),
            proxy_binary: config("proxy-binary").map(PathBuf::from),
            log_level: config("proxy-log-level").map(str::to_owned),
            log_format: config("proxy-log-format").map(str::to_owned),
            cores: config("proxy-cpu-limit").and_then(|text| parse_cores(text).ok()),
            shutdown_grace: config("shutdown-grace-period")
                .and_then(|text| Interval::parse(text).ok())
                .map(|Interval(grace)| grace),
        }
    }
}

/// Whether a connection from `client` to a port of a pod with these annotations arrives at its sidecar. What is wrong in an annotation is not
/// in force.
pub fn redirects(annotations: &Labels, client: IpAddr, port: u16) -> bool {
    let ports = annotation(annotations, "config", "skip-inbound-ports").and_then(|text| parse_ports(text).ok());
    let networks = annotation(annotations, "config", "skip-subnets").and_then(|text| parse_networks(text).ok());
    let skipped = ports.unwrap_or_default().iter().any(|range| range.contains(&port));
    !skipped
        && !networks
            .unwrap_or_default()
            .iter()
            .any(|network| network.contains(&client))
}
