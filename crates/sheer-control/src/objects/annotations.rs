//! Annotations that configure the mesh: Sheer's own names first, Linkerd's where those are absent.

use std::ops::RangeInclusive;

use ipnet::IpNet;

use super::Labels;

/// Some ports that follow one another.
pub type PortRange = RangeInclusive<u16>;

/// The value of an annotation that Sheer reads under its own name and under Linkerd's: `annotation(a, "config", "opaque-ports")`
/// reads `config.sheer.dev/opaque-ports`, then `config.linkerd.io/opaque-ports`; an empty `scope` reads `sheer.dev/…`.
pub fn annotation<'a>(annotations: &'a Labels, scope: &str, name: &str) -> Option<&'a str> {
    let dot = if scope.is_empty() { "" } else { "." };
    let find = |domain: &str| annotations.get(&format!("{scope}{dot}{domain}/{name}"));
    find("sheer.dev").or_else(|| find("linkerd.io")).map(String::as_str)
}

/// Reads `80,100-200`. The mistakes are all named at once.
pub fn parse_ports(text: &str) -> Result<Vec<PortRange>, String> {
    let (mut ranges, mut mistakes) = (Vec::new(), Vec::new());
    for part in text.split(',').map(str::trim).filter(|part| !part.is_empty()) {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        match (first.trim().parse::<u16>(), last.trim().parse::<u16>()) {
            (Ok(first), Ok(last)) if first != 0 && first <= last => ranges.push(first..=last),
            _ => mistakes.push(format!("{part:?} is neither a port nor a range of ports")),
        }
    }
    if mistakes.is_empty() {
        Ok(ranges)
    } else {
        Err(mistakes.join("; "))
    }
}

/// Reads the weight of an endpoint: 1 is one like any other, 0 takes traffic only where there is no other.
pub fn parse_weight(text: &str) -> Result<f64, String> {
    let weight = text.trim().parse::<f64>().ok();
    weight
        .filter(|weight| (0.0..=100.0).contains(weight))
        .ok_or_else(|| format!("{text:?} is not a number from 0 to 100"))
}

/// Reads `10.0.0.0/8,fd00::/8`. The mistakes are all named at once.
pub fn parse_networks(text: &str) -> Result<Vec<IpNet>, String> {
    let (mut networks, mut mistakes) = (Vec::new(), Vec::new());
    for part in text.split(',').map(str::trim).filter(|part| !part.is_empty()) {
        match part.parse() {
            Ok(network) => networks.push(network),
            Err(_) => mistakes.push(format!("{part:?} is not a network, as 10.0.0.0/8")),
        }
    }
    if mistakes.is_empty() {
        Ok(networks)
    } else {
        Err(mistakes.join("; "))
    }
}

/// Reads a CPU quantity of Kubernetes (`1`, `1500m`), rounded up to threads.
pub fn parse_cores(text: &str) -> Result<u32, String> {
    let text = text.trim();
    let millis = match text.strip_suffix('m') {
        Some(millis) => millis.parse::<u32>().ok(),
        None => text.parse::<f64>().ok().map(|cores| (cores * 1000.0) as u32),
    };
    // Infinity is cut to the largest number.
    let finite = millis.filter(|millis| *millis > 0 && *millis < u32::MAX);
    let cores = finite.map(|millis| millis.div_ceil(1000));
    cores.ok_or_else(|| format!("{text:?} is not a number of CPUs, as 1 or 1500m"))
}

/// Reads `18080:8080`, `8080` (the same on both sides) or a list of them: ports of the host, and where each leads. `18080:` leads to the
/// first port of what is published, which is not known here: `None`.
pub fn parse_publish(text: &str) -> Result<Vec<(u16, Option<u16>)>, String> {
    let port = |text: &str| text.trim().parse::<u16>().ok().filter(|port| *port != 0);
    let parse = |part: &str| match part.split_once(':') {
        Some((host, "")) => Some((port(host)?, None)),
        Some((host, target)) => Some((port(host)?, Some(port(target)?))),
        None => Some((port(part)?, Some(port(part)?))),
    };
    text.split(',')
        .map(str::trim)
        .filter(|part| !part.is_empty())
        .map(|part| parse(part).ok_or_else(|| format!("{part:?} is not HOST-PORT:PORT, as 18080:8080")))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn networks_cores_and_published_ports() {
        let networks = ["10.0.0.0/8", "fd00::/8"].map(|text| text.parse().unwrap());
        assert_eq!(parse_networks("10.0.0.0/8, fd00::/8,"), Ok(networks.to_vec()));
        assert!(parse_networks("10.0.0.0/8,home,x").unwrap_err().contains("\"home\""));
        assert_eq!(["1", "1500m", "0.2", "2.0"].map(parse_cores), [1, 2, 1, 2].map(Ok));
        for wrong in ["", "lots", "0", "-1", "NaN", "inf", "m"] {
            assert!(parse_cores(wrong).is_err(), "{wrong}");
        }
        let published = vec![(18080, Some(8080)), (9000, Some(9000)), (19000, None)];
        assert_eq!(parse_publish("18080:8080, 9000,19000:"), Ok(published));
        for wrong in ["99999:80", "x:80", "80:x", "0", ":80", "1:2:3"] {
            assert!(parse_publish(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn sheer_annotation_wins_over_linkerd() {
        let both = [
            ("config.sheer.dev/opaque-ports", "1"),
            ("config.linkerd.io/opaque-ports", "2"),
            ("linkerd.io/inject", "enabled"),
        ];
        let annotations: Labels = both.into_iter().map(|(k, v)| (k.to_owned(), v.to_owned())).collect();
        assert_eq!(annotation(&annotations, "config", "opaque-ports"), Some("1"));
        assert_eq!(annotation(&annotations, "", "inject"), Some("enabled"));
        assert_eq!(annotation(&annotations, "config", "skip-outbound-ports"), None);
    }

    #[test]
    fn weights() {
        assert_eq!(parse_weight("0.5"), Ok(0.5));
        assert_eq!(parse_weight(" 0 "), Ok(0.0));
        for wrong in ["", "x", "-1", "101", "NaN", "inf"] {
            assert!(parse_weight(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn ports_and_ranges() {
        assert_eq!(parse_ports("80, 100-200,"), Ok(vec![80..=80, 100..=200]));
        assert_eq!(
            parse_ports("0,9-8,x,70000"),
            Err(
                "\"0\" is neither a port nor a range of ports; \"9-8\" is neither a port nor a range of ports; \
                 \"x\" is neither a port nor a range of ports; \"70000\" is neither a port nor a range of ports"
                    .to_owned()
            )
        );
    }
}
