//! Annotations that a local mesh honours: redirection, the sidecar's program and log, published ports.

use std::{net::IpAddr, ops::RangeInclusive, path::PathBuf, time::Duration};

use ipnet::IpNet;
use sheer_control::objects::{Labels, annotation, parse_ports};

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
    /// Reads the annotations; all mistakes at once.
    pub(super) fn parse(annotations: &Labels) -> Result<Self, Vec<String>> {
        let mut mistakes = Vec::new();
        let config = |name: &str| annotation(annotations, "config", name);
        let mut ports = |name: &str| {
            let parsed = config(name).map(parse_ports).transpose();
            parsed.unwrap_or_else(|why| {
                mistakes.push(format!("annotation config.sheer.dev/{name}: {why}"));
                None
            })
        };
        let (skip_inbound, skip_outbound) = (ports("skip-inbound-ports"), ports("skip-outbound-ports"));
        let mut checked = |name: &str, check: &dyn Fn(&str) -> Result<(), String>| {
            let text = config(name)?;
            if let Err(why) = check(text) {
                mistakes.push(format!("annotation config.sheer.dev/{name}: {why}"));
                return None;
            }
            Some(text.to_owned())
        };
        let subnets = checked("skip-subnets", &|text| parse_networks(text).map(drop));
        let cpu = checked("proxy-cpu-limit", &|text| parse_cores(text).map(drop));
        let grace = checked("shutdown-grace-period", &|text| parse_duration(text).map(drop));
        let options = Self {
            skip_inbound: skip_inbound.unwrap_or_default(),
            skip_outbound: skip_outbound.unwrap_or_default(),
            skip_subnets: subnets.and_then(|text| parse_networks(&text).ok()).unwrap_or_default(),
            proxy_binary: config("proxy-binary").map(PathBuf::from),
            log_level: config("proxy-log-level").map(str::to_owned),
            log_format: config("proxy-log-format").map(str::to_owned),
            cores: cpu.and_then(|text| parse_cores(&text).ok()),
            shutdown_grace: grace.and_then(|text| parse_duration(&text).ok()),
        };
        if mistakes.is_empty() {
            Ok(options)
        } else {
            Err(mistakes)
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

fn parse_networks(text: &str) -> Result<Vec<IpNet>, String> {
    let parts = text.split(',').map(str::trim).filter(|part| !part.is_empty());
    parts
        .map(|part| {
            part.parse()
                .map_err(|_| format!("{part:?} is not a network, as 10.0.0.0/8"))
        })
        .collect()
}

/// A CPU quantity of Kubernetes (`1`, `1500m`), rounded up to threads.
fn parse_cores(text: &str) -> Result<u32, String> {
    let wrong = || format!("{text:?} is not a number of CPUs, as 1 or 1500m");
    let millis = match text.strip_suffix('m') {
        Some(millis) => millis.parse::<u32>().map_err(|_| wrong())?,
        None => (text.parse::<f64>().map_err(|_| wrong())? * 1000.0) as u32,
    };
    if millis == 0 {
        Err(wrong())
    } else {
        Ok(millis.div_ceil(1000))
    }
}

/// `30s`, `500ms`, `2m`.
fn parse_duration(text: &str) -> Result<Duration, String> {
    let wrong = || format!("{text:?} is not a duration, as 30s");
    let digits = text.find(|c: char| !c.is_ascii_digit()).ok_or_else(wrong)?;
    let number: u64 = text[..digits].parse().map_err(|_| wrong())?;
    match &text[digits..] {
        "ms" => Ok(Duration::from_millis(number)),
        "s" => Ok(Duration::from_secs(number)),
        "m" => Ok(Duration::from_secs(number * 60)),
        "h" => Ok(Duration::from_secs(number * 3_600)),
        _ => Err(wrong()),
    }
}

/// `18080:8080`, `8080` (the same on both sides) or a list of them; `18080:` means the first port of the target.
pub(super) fn parse_publish(text: &str, default: Option<u16>) -> Result<Vec<(u16, u16)>, String> {
    let port = |text: &str| text.trim().parse::<u16>().ok().filter(|port| *port != 0);
    let parse = |part: &str| match part.split_once(':') {
        Some((host, "")) => port(host).zip(default),
        Some((host, target)) => port(host).zip(port(target)),
        None => port(part).zip(port(part)),
    };
    text.split(',')
        .map(str::trim)
        .filter(|part| !part.is_empty())
        .map(|part| parse(part).ok_or_else(|| format!("{part:?} is not HOST-PORT:PORT, as 18080:8080")))
        .collect()
}
