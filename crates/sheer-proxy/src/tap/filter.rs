//! What a watcher wants to see. Every part that is there must be met; what only the end can tell is asked then.

use std::{
    net::{IpAddr, SocketAddr},
    ops::Deref,
    time::Duration,
};

use http::{HeaderMap, HeaderName, HeaderValue, Method};
use sheer_api::v1;

use super::{
    Said,
    event::{ConnectionEvent, Stream},
    request::Subject,
};
use crate::{exchange::Outcome, redact::Redactor, trace};

/// Fields that carry the id of a trace or of a request.
const TRACE: [&str; 4] = ["traceparent", "b3", "x-b3-traceid", "x-request-id"];
/// Those of a trace alone.
const CONTEXTS: [&str; 4] = ["traceparent", "b3", "x-b3-traceid", "grpc-trace-bin"];

/// What can be asked for, in words.
const STATUSES: &str = "status: 100 to 599 or 1xx to 5xx, as 503, 5xx or !2xx";
const GRPC_CODES: &str = "gRPC code: 0 to 16 or a name, as 14, unavailable or !0";

/// Where a request goes.
#[derive(Clone, Debug, PartialEq, Eq)]
enum To {
    Address(SocketAddr),
    Ip(IpAddr),
    /// A service by its name, with or without its port.
    Name(String),
}

impl To {
    fn parse(text: &str) -> Self {
        match (text.parse(), text.parse()) {
            (Ok(address), _) => Self::Address(address),
            (_, Ok(ip)) => Self::Ip(ip),
            _ => Self::Name(text.to_ascii_lowercase()),
        }
    }

    fn is(&self, address: Option<SocketAddr>, name: &str) -> bool {
        match self {
            Self::Address(wanted) => address == Some(*wanted),
            Self::Ip(wanted) => address.is_some_and(|address| address.ip() == *wanted),
            Self::Name(wanted) => {
                let is = |name: &str| name.eq_ignore_ascii_case(wanted);
                is(name) || name.rsplit_once(':').is_some_and(|(host, _)| is(host))
            }
        }
    }
}

/// Which codes: one, a class of them, or all others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Codes {
    from: u16,
    to: u16,
    others: bool,
}

impl Codes {
    /// `503`, `5xx`, `!2xx`.
    fn status(text: &str) -> Option<Self> {
        let (others, text) = text.strip_prefix('!').map_or((false, text), |rest| (true, rest));
        let class = text.strip_suffix("xx").or_else(|| text.strip_suffix("XX"));
        let (from, to) = match class {
            Some(class) => {
                let class: u16 = class.parse().ok().filter(|class| (1..=5).contains(class))?;
                (class * 100, class * 100 + 99)
            }
            None => {
                let code = text.parse().ok().filter(|code| (100..=599).contains(code))?;
                (code, code)
            }
        };
        Some(Self { from, to, others })
    }

    /// `14`, `unavailable`, `!0`.
    fn grpc(text: &str) -> Option<Self> {
        const NAMES: [&str; 17] = [
            "ok",
            "cancelled",
            "unknown",
            "invalid-argument",
            "deadline-exceeded",
            "not-found",
            "already-exists",
            "permission-denied",
            "resource-exhausted",
            "failed-precondition",
            "aborted",
            "out-of-range",
            "unimplemented",
            "internal",
            "unavailable",
            "data-loss",
            "unauthenticated",
        ];
        let (others, text) = text.strip_prefix('!').map_or((false, text), |rest| (true, rest));
        let name = text.to_ascii_lowercase().replace('_', "-");
        let named = NAMES.iter().position(|known| *known == name).map(|code| code as u16);
        let number = || text.parse().ok().filter(|code| usize::from(*code) < NAMES.len());
        let code = named.or_else(number)?;
        Some(Self {
            from: code,
            to: code,
            others,
        })
    }

    fn has(self, code: Option<u16>) -> bool {
        code.is_some_and(|code| (self.from..=self.to).contains(&code) != self.others)
    }
}

/// What a watcher wants to see.
#[derive(Clone, Debug)]
pub(crate) struct Filter {
    /// What the reader is shown in place of secrets.
    redactor: Redactor,
    to: Vec<To>,
    method: Option<Method>,
    path: String,
    authority: String,
    headers: Vec<(HeaderName, Option<Vec<u8>>)>,
    trace: String,
    outbound: Option<bool>,
    status: Option<Codes>,
    grpc: Option<Codes>,
    latency_over: Option<Duration>,
    failed_only: bool,
    endpoints: Vec<IpAddr>,
    not_from: Vec<IpAddr>,
}

impl Filter {
    /// Reads a filter, for somebody who is shown what this leaves; the error is for people.
    pub(crate) fn read(filter: &v1::TapFilter, redactor: &Redactor) -> Result<Self, String> {
        let method = match filter.method.as_str() {
            "" => None,
            method => {
                let method = Method::from_bytes(method.to_ascii_uppercase().as_bytes());
                Some(method.map_err(|_| format!("{:?} is no method", filter.method))?)
            }
        };
        let codes = |text: &str, read: fn(&str) -> Option<Codes>, what: &str| match text {
            "" => Ok(None),
            text => read(text).map(Some).ok_or_else(|| format!("{text:?} is no {what}")),
        };
        let header = |wanted: &v1::HeaderMatch| {
            let name = HeaderName::from_bytes(wanted.name.as_bytes());
            let name = name.map_err(|_| format!("{:?} is no name of a header field", wanted.name))?;
            let value = (!wanted.value.is_empty()).then(|| wanted.value.clone().into_bytes());
            Ok::<_, String>((name, value))
        };
        let ips = |all: &[String]| -> Result<Vec<IpAddr>, String> {
            let ip = |text: &String| text.parse().map_err(|_| format!("{text:?} is no IP address"));
            all.iter().map(ip).collect()
        };
        Ok(Self {
            redactor: redactor.clone(),
            endpoints: ips(&filter.endpoints)?,
            not_from: ips(&filter.not_from)?,
            to: filter.to.iter().map(|text| To::parse(text)).collect(),
            method,
            path: filter.path.clone(),
            authority: filter.authority.clone(),
            headers: filter.headers.iter().map(header).collect::<Result<_, _>>()?,
            trace: filter.trace.clone(),
            outbound: match filter.direction.as_str() {
                "" => None,
                "outbound" => Some(true),
                "inbound" => Some(false),
                other => return Err(format!("{other:?} is neither outbound nor inbound")),
            },
            status: codes(&filter.status, Codes::status, STATUSES)?,
            grpc: codes(&filter.grpc_code, Codes::grpc, GRPC_CODES)?,
            latency_over: (filter.latency_over_us > 0).then(|| Duration::from_micros(filter.latency_over_us)),
            failed_only: filter.failed_only,
        })
    }

    pub(super) fn wants_half(&self, outbound: bool) -> bool {
        self.outbound.is_none_or(|wanted| wanted == outbound)
    }

    /// Whether only the end tells: nothing is shown before.
    pub(super) fn waits_for_end(&self) -> bool {
        self.status.is_some()
            || self.grpc.is_some()
            || self.latency_over.is_some()
            || self.failed_only
            || !self.endpoints.is_empty()
    }

    /// The same of a connection, whose name its bytes may tell.
    pub(super) fn waits_for_end_of(&self, is_tls: bool) -> bool {
        self.waits_for_end() || (!self.authority.is_empty() && !is_tls)
    }

    fn goes_to(&self, endpoint: Option<IpAddr>) -> bool {
        self.endpoints.is_empty() || endpoint.is_some_and(|ip| self.endpoints.contains(&ip))
    }

    /// Whether the proxy at the other end tells of it, which is watched too.
    fn is_told_there(&self, client: Option<IpAddr>) -> bool {
        client.is_some_and(|ip| self.not_from.contains(&ip))
    }

    fn is_to(&self, address: Option<SocketAddr>, name: &str) -> bool {
        self.to.is_empty() || self.to.iter().any(|to| to.is(address, name))
    }

    /// Asks for the subject only where a part of the filter is about it.
    pub(super) fn takes_head(&self, subject: &dyn Deref<Target = Subject>, said: &Said<'_>) -> bool {
        self.method.as_ref().is_none_or(|method| said.method == Some(method))
            && self.takes_path(said.path)
            && (self.authority.is_empty() || is_authority(said.authority, &self.authority))
            && self.headers.iter().all(|(name, value)| {
                let mut values = said.headers.get_all(name).iter();
                values.any(|found| value.as_ref().is_none_or(|value| self.is_shown_as(name, found, value)))
            })
            && (self.to.is_empty() || self.is_to(subject.address, &subject.destination))
            && (self.trace.is_empty() || self.is_of_trace(subject, said.headers))
            && (self.not_from.is_empty() || !subject.mutual_tls || !self.is_told_there(ip_of(subject.client.remote)))
    }

    /// Whether the reader is shown this value of a field. Compared with what it is, a value that nobody may see could be guessed.
    fn is_shown_as(&self, name: &HeaderName, value: &HeaderValue, wanted: &[u8]) -> bool {
        *self.redactor.value(name.as_str().as_bytes(), value.as_bytes()).0 == *wanted
    }

    /// The same of a path, whose parameters may be secrets.
    fn takes_path(&self, path: &str) -> bool {
        let shown = || self.redactor.value(b":path", path.as_bytes()).0;
        self.path.is_empty() || shown().starts_with(self.path.as_bytes())
    }

    fn is_of_trace(&self, subject: &Subject, headers: &HeaderMap) -> bool {
        let is = |trace: Option<[u8; 32]>| trace.is_some_and(|trace| trace.eq_ignore_ascii_case(self.trace.as_bytes()));
        // A field that is hidden names no trace, but by the hash that is shown of it.
        let is_hidden = |name: &&str| self.redactor.is_sensitive(name.as_bytes());
        let is_named = || is(subject.trace) || is(trace::named(headers));
        (!CONTEXTS.iter().any(is_hidden) && is_named())
            || TRACE.iter().any(|name| {
                let value = headers.get(*name).map(HeaderValue::as_bytes).unwrap_or_default();
                let value = self.redactor.value(name.as_bytes(), value).0;
                *value == *self.trace.as_bytes()
                    || value
                        .split(|byte| *byte == b'-')
                        .any(|part| part == self.trace.as_bytes())
            })
    }

    /// What the end tells.
    pub(super) fn takes_end(&self, outcome: &Outcome, endpoint: Option<SocketAddr>, took: Duration) -> bool {
        self.goes_to(ip_of(endpoint))
            && self
                .status
                .is_none_or(|codes| codes.has(outcome.status.map(|status| status.as_u16())))
            && self.grpc.is_none_or(|codes| codes.has(outcome.grpc_status))
            && self
                .latency_over
                .is_none_or(|over| outcome.first_byte.unwrap_or(took) > over)
            && (!self.failed_only || !outcome.is_success())
    }

    /// The same of a request that is over and was kept.
    pub(crate) fn takes_shown(&self, shown: &v1::TappedRequest) -> bool {
        let exchange = shown.exchange.as_ref();
        let of_half = |outbound: bool| exchange.is_some_and(|exchange| (exchange.direction == "outbound") == outbound);
        let head = shown.request.clone().unwrap_or_default();
        let values = |name: &str| {
            let fields = head
                .headers
                .iter()
                .filter(|field| field.name.eq_ignore_ascii_case(name));
            fields.map(|field| field.value.clone()).collect::<Vec<_>>()
        };
        let timing = shown.timing.unwrap_or_default();
        let took = Duration::from_micros(if timing.first_byte_us > 0 {
            timing.first_byte_us
        } else {
            timing.end_us
        });
        let client = exchange.and_then(|exchange| exchange.client.as_ref());
        let original = client.and_then(|leg| leg.original.parse().ok());
        self.outbound.is_none_or(of_half)
            && (self.is_to(original, &shown.destination) || self.is_to(shown.endpoint.parse().ok(), ""))
            && self.goes_to(ip_of(shown.endpoint.parse().ok()))
            && !(shown.mutual_tls && self.is_told_there(ip_of(remote_of(client))))
            && self.method.as_ref().is_none_or(|method| head.method == method.as_str())
            && head.path.starts_with(&self.path)
            && (self.authority.is_empty() || is_authority(&head.authority, &self.authority))
            && self.headers.iter().all(|(name, wanted)| {
                let values = values(name.as_str());
                values
                    .iter()
                    .any(|value| wanted.as_ref().is_none_or(|wanted| value == wanted))
            })
            && (self.trace.is_empty()
                || head
                    .headers
                    .iter()
                    .any(|field| names_trace(&field.name, &field.value, &self.trace)))
            && self
                .status
                .is_none_or(|codes| codes.has(u16::try_from(shown.status).ok().filter(|status| *status > 0)))
            && self
                .grpc
                .is_none_or(|codes| codes.has(u16::try_from(shown.grpc_status).ok()))
            && self.latency_over.is_none_or(|over| took > over)
            && (!self.failed_only || shown.failed)
    }

    /// The same of a relayed connection that failed before, as it is shown.
    pub(crate) fn takes_shown_connection(&self, shown: &v1::TappedConnection) -> bool {
        let (client, upstream) = (shown.client.as_ref(), shown.upstream.as_ref());
        let original = client.and_then(|leg| leg.original.parse().ok());
        self.outbound
            .is_none_or(|outbound| (shown.direction == "outbound") == outbound)
            && self.goes_to(ip_of(remote_of(upstream)))
            && (shown.client_identity.is_empty() || !self.is_told_there(ip_of(remote_of(client))))
            && self.is_to(original, &shown.destination)
            && self.is_of_bytes()
            && (self.authority.is_empty() || self.authority.eq_ignore_ascii_case(&shown.server_name))
            && self
                .latency_over
                .is_none_or(|over| Duration::from_micros(shown.duration_us) > over)
            && (!self.failed_only || shown.failed)
    }

    /// Whether nothing is asked for that only requests have.
    fn is_of_bytes(&self) -> bool {
        self.method.is_none()
            && self.path.is_empty()
            && self.headers.is_empty()
            && self.trace.is_empty()
            && self.status.is_none()
            && self.grpc.is_none()
    }

    /// Bytes have no head: whoever asks for one does not see them. What is in them is not known yet, unless it was looked into.
    pub(super) fn takes_connection(&self, stream: &Stream) -> bool {
        self.is_to(stream.address, &stream.destination)
            && self.is_of_bytes()
            && (!stream.is_tls || self.takes_name(stream))
            && (stream.identity.is_none() || !self.is_told_there(ip_of(stream.client.remote)))
    }

    /// Whether it is TLS for the name that is asked for.
    pub(super) fn takes_name(&self, stream: &Stream) -> bool {
        self.authority.is_empty() || self.authority.eq_ignore_ascii_case(&stream.server_name)
    }

    pub(super) fn takes_connection_end(&self, event: &ConnectionEvent) -> bool {
        let took = Duration::from_micros(event.at.saturating_sub(event.started));
        self.latency_over.is_none_or(|over| took > over)
            && (!self.failed_only || event.failed)
            && self.takes_name(&event.stream)
            && self.goes_to(ip_of(event.upstream.remote))
    }
}

fn ip_of(address: Option<SocketAddr>) -> Option<IpAddr> {
    address.map(|address| address.ip())
}

fn remote_of(leg: Option<&v1::Leg>) -> Option<SocketAddr> {
    leg.and_then(|leg| leg.remote.parse().ok())
}

/// Whether a field says that a request is of a trace, or that it has this `x-request-id`.
pub(crate) fn names_trace(name: &str, value: &[u8], wanted: &str) -> bool {
    if name.eq_ignore_ascii_case("grpc-trace-bin") {
        let value = HeaderValue::from_bytes(value);
        let headers = value.map(|value| HeaderMap::from_iter([(HeaderName::from_static("grpc-trace-bin"), value)]));
        let named = headers.ok().and_then(|headers| trace::named(&headers));
        return named.is_some_and(|named| named.eq_ignore_ascii_case(wanted.as_bytes()));
    }
    let value = String::from_utf8_lossy(value);
    let carries = TRACE.iter().any(|field| name.eq_ignore_ascii_case(field));
    carries && (value == wanted || value.split('-').any(|part| part == wanted))
}

/// With its port or without.
fn is_authority(authority: &str, wanted: &str) -> bool {
    authority.eq_ignore_ascii_case(wanted)
        || authority
            .rsplit_once(':')
            .is_some_and(|(host, _)| host.eq_ignore_ascii_case(wanted))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_one_a_class_or_all_others() {
        let status = |text| Codes::status(text).expect("a status");
        assert!(status("503").has(Some(503)) && !status("503").has(Some(500)));
        assert!(status("5xx").has(Some(599)) && !status("5XX").has(Some(404)));
        assert!(status("!2xx").has(Some(302)) && !status("!2xx").has(Some(204)) && !status("!2xx").has(None));
        assert!(
            ["", "x", "0xx", "6xx", "!6xx", "99", "600", "700", "5xxx", "!"]
                .iter()
                .all(|text| Codes::status(text).is_none())
        );
        let grpc = |text| Codes::grpc(text).expect("a code");
        assert_eq!(grpc("UNAVAILABLE"), grpc("14"));
        assert_eq!(grpc("deadline_exceeded"), grpc("4"));
        assert!(grpc("!ok").has(Some(2)) && !grpc("!0").has(Some(0)) && !grpc("!0").has(None));
        assert!(grpc("16").has(Some(16)));
        assert!(
            ["fine", "17", "99", "!17"]
                .iter()
                .all(|text| Codes::grpc(text).is_none())
        );
    }

    #[test]
    fn a_destination_is_an_address_or_a_name() {
        let is = |to: &str| To::parse(to).is("10.0.0.1:80".parse().ok(), "ledger.bank.svc.cluster.local:80");
        for to in [
            "10.0.0.1:80",
            "10.0.0.1",
            "ledger.bank.svc.cluster.local",
            "Ledger.bank.svc.cluster.local:80",
        ] {
            assert!(is(to), "{to}");
        }
        for to in ["10.0.0.1:81", "10.0.0.2", "ledger.bank", "bank.svc.cluster.local"] {
            assert!(!is(to), "{to}");
        }
    }

    #[test]
    fn mistakes_are_told() {
        let wrong = |filter: v1::TapFilter| Filter::read(&filter, Redactor::own()).expect_err("a mistake");
        let status = v1::TapFilter {
            status: "fine".to_owned(),
            ..v1::TapFilter::default()
        };
        assert_eq!(
            wrong(status),
            "\"fine\" is no status: 100 to 599 or 1xx to 5xx, as 503, 5xx or !2xx"
        );
        let grpc = v1::TapFilter {
            grpc_code: "99".to_owned(),
            ..v1::TapFilter::default()
        };
        assert_eq!(
            wrong(grpc),
            "\"99\" is no gRPC code: 0 to 16 or a name, as 14, unavailable or !0"
        );
        let method = v1::TapFilter {
            method: "GET /".to_owned(),
            ..v1::TapFilter::default()
        };
        assert_eq!(wrong(method), "\"GET /\" is no method");
    }
}
