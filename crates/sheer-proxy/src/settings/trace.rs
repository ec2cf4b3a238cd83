//! Settings of traces and of the access log.

use std::{path::PathBuf, time::Duration};

use sheer_policy::log_filter::LogFilter;

use super::{
    ControlAddr,
    source::Source,
    table::{self as t},
};

/// Traces: what is recorded, who gets it, and what it says of this workload.
#[derive(Clone, Debug)]
pub struct Trace {
    /// Share of the traces that begin here which is recorded.
    pub sample_rate: f64,
    /// How many of them are, a second at the most.
    pub sample_limit: f64,
    /// A request that takes this long is kept although it was not drawn; never where it is zero.
    pub slow: Duration,
    /// How many failed and slow requests that were not drawn are kept, a second at the most.
    pub keep_limit: f64,
    /// Whether the control plane gets spans.
    pub control_plane: bool,
    /// A collector of OpenTelemetry.
    pub collector: Option<Collector>,
    /// What spans say of the workload.
    pub resource: Resource,
}

/// A collector of OpenTelemetry.
#[derive(Clone, Debug)]
pub struct Collector {
    /// Where it is; plaintext where no name is expected there.
    pub addr: ControlAddr,
    /// How it is spoken to.
    pub protocol: ExportProtocol,
}

/// How a collector is spoken to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ExportProtocol {
    /// OTLP over gRPC.
    Grpc,
    /// OTLP over HTTP/1.1, as protobuf.
    Http,
}

/// What spans say of the workload (OpenTelemetry's resource).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Resource {
    /// `service.name`; the identity's first label where it is empty.
    pub service_name: String,
    /// Attributes from the environment, the later of a name holds.
    pub attributes: Vec<(String, String)>,
    /// A file with more, as the downward API writes labels: `key="value"`, one a line.
    pub attributes_file: Option<PathBuf>,
}

/// The access log.
#[derive(Clone, Debug, PartialEq)]
pub struct AccessLog {
    /// Shape of a line.
    pub format: AccessLogFormat,
    /// Which requests; all where there is none.
    pub filter: Option<LogFilter>,
    /// Whether the collector gets it too.
    pub otlp: bool,
}

/// Shape of a line of the access log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AccessLogFormat {
    /// Apache's combined format.
    Apache,
    /// One JSON object a line.
    Json,
}

pub(super) fn trace(source: &mut Source) -> Trace {
    Trace {
        sample_rate: source.value(&t::TRACE_SAMPLE_RATE),
        sample_limit: source.value(&t::TRACE_SAMPLE_LIMIT) as f64,
        slow: source.value(&t::TRACE_SLOW),
        keep_limit: source.value(&t::TRACE_KEEP_LIMIT) as f64,
        control_plane: source.value(&t::TRACE_CONTROL_PLANE),
        collector: collector(source),
        resource: resource(source),
    }
}

fn collector(source: &mut Source) -> Option<Collector> {
    let addr = source.optional(&t::TRACE_COLLECTOR_SVC_ADDR);
    let name = source.optional(&t::TRACE_COLLECTOR_SVC_NAME);
    let protocol = source.value(&t::TRACE_PROTOCOL);
    let (host, port) = addr?;
    // Linkerd ignores the name of a loopback address.
    let name = name.filter(|_| !host.is_loopback());
    Some(Collector {
        addr: ControlAddr { host, port, name },
        protocol,
    })
}

/// What is named for Sheer or Linkerd goes before OpenTelemetry's own variable.
fn resource(source: &mut Source) -> Resource {
    let mut attributes = source
        .plain("HOSTNAME")
        .map(|host| ("host.name".to_owned(), host))
        .into_iter()
        .collect::<Vec<_>>();
    if let Some(otel) = source.plain("OTEL_RESOURCE_ATTRIBUTES") {
        attributes.extend(pairs(&otel).map(|(key, value)| (key, percent_decoded(&value))));
    }
    attributes.extend(pairs(&source.value(&t::TRACE_EXTRA_ATTRIBUTES)));
    let named = attributes
        .iter()
        .rfind(|(key, _)| key == "service.name")
        .map(|(_, value)| value.clone());
    attributes.retain(|(key, _)| key != "service.name");
    Resource {
        service_name: source.optional(&t::TRACE_SERVICE_NAME).or(named).unwrap_or_default(),
        attributes,
        attributes_file: source.optional(&t::TRACE_ATTRIBUTES_PATH),
    }
}

pub(super) fn access_log(source: &mut Source) -> Option<AccessLog> {
    let format = source.value(&t::ACCESS_LOG);
    let filter = source.optional(&t::ACCESS_LOG_FILTER);
    let otlp = source.value(&t::ACCESS_LOG_OTLP);
    Some(AccessLog {
        format: format?,
        filter,
        otlp,
    })
}

/// `key=value`, one a line (as Linkerd's chart writes them) or with commas between (as OpenTelemetry has it). What has no `=` is left out.
pub(crate) fn pairs(text: &str) -> impl Iterator<Item = (String, String)> + use<> {
    let separator = if text.trim().contains('\n') { '\n' } else { ',' };
    let pairs = text.split(separator).filter_map(|pair| {
        let (key, value) = pair.split_once('=')?;
        let (key, value) = (key.trim(), value.trim().trim_matches('"'));
        (!key.is_empty()).then(|| (key.to_owned(), value.to_owned()))
    });
    pairs.collect::<Vec<_>>().into_iter()
}

/// Values of `OTEL_RESOURCE_ATTRIBUTES` are percent-encoded as W3C Baggage has it.
fn percent_decoded(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut decoded = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        let code = || u8::from_str_radix(text.get(at + 1..at + 3)?, 16).ok();
        match (bytes[at] == b'%').then(code).flatten() {
            Some(byte) => {
                decoded.push(byte);
                at += 3;
            }
            None => {
                decoded.push(bytes[at]);
                at += 1;
            }
        }
    }
    String::from_utf8_lossy(&decoded).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attributes_are_read_as_linkerd_and_opentelemetry_write_them() {
        let of = |text| {
            pairs(text)
                .map(|(key, value)| format!("{key}:{value}"))
                .collect::<Vec<_>>()
        };
        assert_eq!(of("a=1,b=2=3, c = x y ,nothing,=no"), ["a:1", "b:2=3", "c:x y"]);
        assert_eq!(of("k8s.pod.uid=1\nlist=a,b\n"), ["k8s.pod.uid:1", "list:a,b"]);
        assert_eq!(of("app=\"web\"\ntier=\"front\""), ["app:web", "tier:front"]);
        assert_eq!(percent_decoded("a%20b%2"), "a b%2");
    }
}
