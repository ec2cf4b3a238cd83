//! How values are written: one parser a format, each with the words that tell an operator what is allowed.

use std::{
    collections::BTreeSet,
    net::{IpAddr, SocketAddr},
    path::PathBuf,
    str::FromStr,
    time::Duration,
};

use ipnet::IpNet;
use rustls_pki_types::ServerName;

use sheer_policy::log_filter::LogFilter;

use super::{AccessLogFormat, ExportProtocol, Host, LogFormat};

/// A way to write values of one type.
#[derive(Debug)]
pub(super) struct Format<T> {
    /// What is allowed, for people.
    pub(super) allowed: &'static str,
    /// Reads a value, or says what is wrong with it.
    pub(super) parse: fn(&str) -> Result<T, String>,
}

macro_rules! formats {
    ($($id:ident: $type:ty = $parse:expr, $allowed:literal;)*) => {
        $(pub(super) static $id: Format<$type> = Format { allowed: $allowed, parse: $parse };)*
    };
}

formats! {
    ADDRESS: SocketAddr = address, "IP:PORT, as 127.0.0.1:4140 or [::1]:4140";
    ADDRESSES: Vec<SocketAddr> = addresses, "one or two IP:PORT with a comma between, of different families";
    CONTROL: (Host, u16) = control, "HOST:PORT or IP:PORT, as sheer-control.sheer.svc.cluster.local.:8086";
    TLS_NAME: ServerName<'static> = tls_name, "a DNS name, as sheer-control.sheer.serviceaccount.identity.sheer.cluster.local";
    IDENTITY: String = identity, "a DNS name or a spiffe:// URI";
    DURATION: Duration = duration, "a whole number and ms, s, m, h or d, as 500ms";
    BOOL: bool = boolean, "true or false";
    ON: bool = on, "on or off";
    NAMES: Vec<String> = names, "names of fields with commas between, a * standing for their beginning, as x-account,*-key";
    FIELDS: Vec<String> = fields, "names of fields with commas between, or the ends of their paths, as iban,card.number";
    PORTS: BTreeSet<u16> = ports, "ports and ranges, as 80,100-200";
    IPS: BTreeSet<IpAddr> = ips, "IP addresses with commas between";
    NETWORKS: Vec<IpNet> = networks, "networks with commas between, as 10.0.0.0/8,fd00::/8";
    COUNT: usize = number, "a whole number";
    POSITIVE: usize = positive, "a whole number above 0";
    FRAME_SIZE: u32 = frame_size, "16384 to 16777215 (RFC 9113, 6.5.2)";
    WINDOW: u32 = window, "1 to 2147483647 (RFC 9113, 6.9.2)";
    STREAMS: u32 = number, "a whole number";
    MARK: u32 = mark, "a number that is not 0, decimal or as 0x53484545";
    RATIO: f64 = ratio, "a number from 0 to 1";
    TEXT: String = text, "text";
    PATH: PathBuf = path, "a path";
    ANCHORS: String = anchors, "PEM with at least one certificate";
    LOG_FORMAT: LogFormat = log_format, "plain or json";
    ACCESS_LOG: Option<AccessLogFormat> = access_log, "off, apache or json";
    ACCESS_LOG_FILTER: LogFilter = access_log_filter, "comparisons, as in docs/tracing.md";
    EXPORT_PROTOCOL: ExportProtocol = export_protocol, "grpc or http/protobuf";
    LOG_FILTER: String = log_filter, "directives with commas between, as warn,sheer_proxy=debug";
    DEFAULT_POLICY: String = default_policy,
        "deny, audit, all-authenticated, all-unauthenticated, cluster-authenticated or cluster-unauthenticated";
    HEADER_LIMIT: usize = header_limit, "4096 to 16777216 bytes";
    WORKERS: usize = workers, "1 to 256";
}

fn text(value: &str) -> Result<String, String> {
    Ok(value.to_owned())
}

fn path(value: &str) -> Result<PathBuf, String> {
    if value.is_empty() {
        Err("is empty".into())
    } else {
        Ok(value.into())
    }
}

fn number<T: FromStr>(value: &str) -> Result<T, String> {
    value
        .trim()
        .parse()
        .map_err(|_| "is not a whole number, or too large".to_owned())
}

fn within<T: FromStr + PartialOrd + std::fmt::Display>(value: &str, least: T, most: T) -> Result<T, String> {
    let number: T = number(value)?;
    if number < least {
        Err(format!("is below {least}"))
    } else if number > most {
        Err(format!("is above {most}"))
    } else {
        Ok(number)
    }
}

fn positive(value: &str) -> Result<usize, String> {
    within(value, 1, usize::MAX)
}

fn frame_size(value: &str) -> Result<u32, String> {
    within(value, 16_384, 16_777_215)
}

fn window(value: &str) -> Result<u32, String> {
    within(value, 1, 2_147_483_647)
}

fn header_limit(value: &str) -> Result<usize, String> {
    within(value, 4_096, 16 * 1024 * 1024)
}

fn workers(value: &str) -> Result<usize, String> {
    within(value, 1, 256)
}

fn mark(value: &str) -> Result<u32, String> {
    let value = value.trim();
    let mark = match value.strip_prefix("0x").or(value.strip_prefix("0X")) {
        Some(hex) => u32::from_str_radix(hex, 16).map_err(|_| "is not a hexadecimal number of 32 bits".to_owned())?,
        None => number(value)?,
    };
    if mark == 0 {
        Err("is 0, which marks nothing".into())
    } else {
        Ok(mark)
    }
}

fn ratio(value: &str) -> Result<f64, String> {
    let ratio: f64 = value.trim().parse().map_err(|_| "is not a number".to_owned())?;
    if (0.0..=1.0).contains(&ratio) {
        Ok(ratio)
    } else {
        Err("is not from 0 to 1".into())
    }
}

fn boolean(value: &str) -> Result<bool, String> {
    match value.trim() {
        "true" => Ok(true),
        "false" => Ok(false),
        _ => Err("is neither".into()),
    }
}

fn on(value: &str) -> Result<bool, String> {
    match value.trim() {
        "on" | "true" => Ok(true),
        "off" | "false" => Ok(false),
        _ => Err("is neither".into()),
    }
}

fn names(value: &str) -> Result<Vec<String>, String> {
    let names: Vec<String> = value
        .split(',')
        .map(|name| name.trim().to_ascii_lowercase())
        .filter(|name| !name.is_empty())
        .collect();
    let is_name = |name: &String| {
        let name = name.strip_prefix('*').unwrap_or(name);
        http::HeaderName::from_bytes(name.as_bytes()).is_ok()
    };
    match names.iter().find(|name| !is_name(name)) {
        Some(wrong) => Err(format!("has {wrong:?}, which is no name of a field")),
        None => Ok(names),
    }
}

fn fields(value: &str) -> Result<Vec<String>, String> {
    let names = value.split(',').map(str::trim).filter(|name| !name.is_empty());
    Ok(names.map(str::to_owned).collect())
}

fn duration(value: &str) -> Result<Duration, String> {
    let value = value.trim();
    let digits = value.find(|c: char| !c.is_ascii_digit()).unwrap_or(value.len());
    let (amount, unit) = value.split_at(digits);
    let amount: u64 = number(amount)?;
    let unit_millis = match unit {
        "ms" => 1,
        "s" => 1_000,
        "m" => 60_000,
        "h" => 3_600_000,
        "d" => 86_400_000,
        "" if amount == 0 => 1,
        "" => return Err("has no unit".into()),
        _ => return Err(format!("has the unknown unit {unit:?}")),
    };
    amount
        .checked_mul(unit_millis)
        .map(Duration::from_millis)
        .ok_or_else(|| "is too long".to_owned())
}

fn address(value: &str) -> Result<SocketAddr, String> {
    value
        .trim()
        .parse()
        .map_err(|_| "is not an IP address and a port".to_owned())
}

fn addresses(value: &str) -> Result<Vec<SocketAddr>, String> {
    let addresses = list(value).map(address).collect::<Result<Vec<_>, _>>()?;
    match addresses.as_slice() {
        [_] => Ok(addresses),
        [a, b] if a.is_ipv4() != b.is_ipv4() => Ok(addresses),
        [_, _] => Err("has two addresses of one family".into()),
        other => Err(format!("has {} addresses", other.len())),
    }
}

fn control(value: &str) -> Result<(Host, u16), String> {
    let value = value.trim();
    if let Ok(address) = value.parse::<SocketAddr>() {
        return Ok((Host::Ip(address.ip()), address.port()));
    }
    let (host, port) = value.rsplit_once(':').ok_or("has no port")?;
    let port = port
        .parse::<u16>()
        .ok()
        .filter(|port| *port != 0)
        .ok_or("has no valid port")?;
    let host = host.trim_end_matches('.');
    match ServerName::try_from(host) {
        Ok(ServerName::DnsName(_)) => Ok((Host::Name(host.to_owned()), port)),
        _ => Err("has no valid host name".into()),
    }
}

fn tls_name(value: &str) -> Result<ServerName<'static>, String> {
    match ServerName::try_from(value.trim().trim_end_matches('.').to_owned()) {
        Ok(name @ ServerName::DnsName(_)) => Ok(name),
        _ => Err("is not a DNS name".into()),
    }
}

fn identity(value: &str) -> Result<String, String> {
    let value = value.trim().trim_end_matches('.');
    if let Some(rest) = value.strip_prefix("spiffe://") {
        let valid = rest
            .split_once('/')
            .is_some_and(|(domain, path)| !domain.is_empty() && !path.is_empty());
        return if valid {
            Ok(value.to_owned())
        } else {
            Err("is not spiffe://TRUST-DOMAIN/PATH".into())
        };
    }
    tls_name(value).map(|_| value.to_ascii_lowercase())
}

fn ports(value: &str) -> Result<BTreeSet<u16>, String> {
    let mut ports = BTreeSet::new();
    for part in list(value) {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let port = |text: &str| {
            text.trim()
                .parse::<u16>()
                .map_err(|_| format!("has {text:?}, which is not a port"))
        };
        let (first, last) = (port(first)?, port(last)?);
        if first == 0 {
            return Err("has port 0".into());
        }
        if first > last {
            return Err(format!("has the range {part}, which ends before it begins"));
        }
        ports.extend(first..=last);
    }
    Ok(ports)
}

fn ips(value: &str) -> Result<BTreeSet<IpAddr>, String> {
    list(value)
        .map(|ip| {
            ip.parse()
                .map_err(|_| format!("has {ip:?}, which is not an IP address"))
        })
        .collect()
}

fn networks(value: &str) -> Result<Vec<IpNet>, String> {
    let network = |text: &str| {
        let network = text
            .parse::<IpNet>()
            .or_else(|_| text.parse::<IpAddr>().map(IpNet::from));
        network
            .map(|network| network.trunc())
            .map_err(|_| format!("has {text:?}, which is not a network"))
    };
    list(value).map(network).collect()
}

fn anchors(value: &str) -> Result<String, String> {
    use rustls_pki_types::{CertificateDer, pem::PemObject as _};
    let mut certificates = 0;
    for certificate in CertificateDer::pem_slice_iter(value.as_bytes()) {
        let certificate = certificate.map_err(|error| format!("is not valid PEM: {error}"))?;
        rustls::RootCertStore::empty()
            .add(certificate)
            .map_err(|error| format!("has a bad certificate: {error}"))?;
        certificates += 1;
    }
    if certificates == 0 {
        Err("has no certificate".into())
    } else {
        Ok(value.to_owned())
    }
}

fn log_format(value: &str) -> Result<LogFormat, String> {
    match value.trim().to_ascii_lowercase().as_str() {
        "plain" => Ok(LogFormat::Plain),
        "json" => Ok(LogFormat::Json),
        _ => Err("is neither".into()),
    }
}

fn access_log(value: &str) -> Result<Option<AccessLogFormat>, String> {
    match value.trim().to_ascii_lowercase().as_str() {
        "" | "off" => Ok(None),
        "apache" => Ok(Some(AccessLogFormat::Apache)),
        "json" => Ok(Some(AccessLogFormat::Json)),
        _ => Err("is none of them".into()),
    }
}

fn access_log_filter(value: &str) -> Result<LogFilter, String> {
    LogFilter::parse(value).map_err(|error| format!("cannot be read: {error}"))
}

/// Linkerd's injector writes `opentelemetry`, which is gRPC.
fn export_protocol(value: &str) -> Result<ExportProtocol, String> {
    match value.trim() {
        "grpc" | "opentelemetry" => Ok(ExportProtocol::Grpc),
        "http/protobuf" | "http" => Ok(ExportProtocol::Http),
        _ => Err("is neither".into()),
    }
}

fn log_filter(value: &str) -> Result<String, String> {
    crate::logs::check_filter(value).map(|()| value.to_owned())
}

fn default_policy(value: &str) -> Result<String, String> {
    const NAMES: [&str; 6] = [
        "deny",
        "audit",
        "all-authenticated",
        "all-unauthenticated",
        "cluster-authenticated",
        "cluster-unauthenticated",
    ];
    if NAMES.contains(&value.trim()) {
        Ok(value.trim().to_owned())
    } else {
        Err("is none of them".into())
    }
}

fn list(value: &str) -> impl Iterator<Item = &str> {
    value.split(',').map(str::trim).filter(|part| !part.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_need_a_unit_unless_they_are_none() {
        assert_eq!(duration(" 500ms "), Ok(Duration::from_millis(500)));
        assert_eq!(duration("2d"), Ok(Duration::from_secs(172_800)));
        assert_eq!(duration("0"), Ok(Duration::ZERO));
        for bad in [
            "5",
            "",
            "ms",
            "-1s",
            "1.5s",
            "5 s",
            "1w",
            "18446744073709551615d",
            "99999999999999999999s",
        ] {
            assert!(duration(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn ports_take_ranges() {
        assert_eq!(ports("80, 100-102,"), Ok(BTreeSet::from([80, 100, 101, 102])));
        assert_eq!(ports(""), Ok(BTreeSet::new()));
        for bad in ["0", "0-5", "70000", "9-8", "a", "1-2-3"] {
            assert!(ports(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn control_addresses() {
        assert_eq!(control("localhost.:8086"), Ok((Host::Name("localhost".into()), 8086)));
        assert_eq!(
            control("[::1]:8086"),
            Ok((Host::Ip(IpAddr::from([0, 0, 0, 0, 0, 0, 0, 1])), 8086))
        );
        for bad in ["localhost", ":1", "a b:1", "a:0", "a:70000", "1.2.3:4:5"] {
            assert!(control(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn identities_are_names_or_uris() {
        assert_eq!(identity("Web.NS.example."), Ok("web.ns.example".into()));
        assert!(identity("spiffe://cluster.local/ns/a/sa/b").is_ok());
        for bad in ["", "spiffe://", "spiffe:///a", "spiffe://a", "a b", "10.0.0.1"] {
            assert!(identity(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn marks_and_lists() {
        assert_eq!(mark("0x53484545"), Ok(0x5348_4545));
        assert!(mark("0").is_err() && mark("0x").is_err() && mark("x").is_err());
        assert_eq!(
            networks("10.1.2.3/8").map(|nets| nets[0].to_string()),
            Ok("10.0.0.0/8".into())
        );
        assert!(networks("10.0.0.0/33").is_err());
        assert!(addresses("127.0.0.1:1,[::1]:1").is_ok());
        assert!(addresses("127.0.0.1:1,127.0.0.2:1").is_err() && addresses("").is_err());
    }
}
