//! Names for addresses, and words for the connections between them.

use std::{collections::BTreeMap, net::IpAddr};

use sheer_api::names::{INBOUND_PORT, OUTBOUND_PORT};
use sheer_local::packets::Packet;

use crate::running::Pod;

/// Who has which address.
pub(super) struct Names(BTreeMap<IpAddr, String>);

impl Names {
    /// Pods as `web-0.bank`; virtual addresses of services as `ledger.bank`.
    pub(super) fn new(pods: &[Pod], services: &[(IpAddr, String)]) -> Self {
        let services = services.iter().cloned();
        let pods = pods.iter().flat_map(|pod| {
            pod.ips
                .iter()
                .map(|ip| (*ip, format!("{}.{}", pod.name, pod.namespace)))
        });
        Self(services.chain(pods).collect())
    }

    /// All of them.
    pub(super) fn iter(&self) -> impl Iterator<Item = (IpAddr, &str)> {
        self.0.iter().map(|(ip, name)| (*ip, name.as_str()))
    }

    fn of(&self, address: IpAddr) -> String {
        self.0
            .get(&address.to_canonical())
            .cloned()
            .unwrap_or_else(|| address.to_string())
    }

    /// What a connection is, for the comment at its first packet; empty for any other packet. The numbers are those of the four points at
    /// which a request is seen.
    pub(super) fn comment(&self, packet: &Packet<'_>, interface: &str, pod: &Pod) -> String {
        let (true, Some((_, to))) = (packet.begins, packet.ports) else {
            return String::new();
        };
        let (from, at) = (self.of(packet.source), self.of(packet.destination));
        match (interface == "lo", to) {
            (true, OUTBOUND_PORT) => format!("(1) the application of {} to its sidecar, redirected", pod.name),
            (true, _) if pod.meshed => format!("(4) within {}, to port {to}", pod.name),
            (false, INBOUND_PORT) => format!("(2)(3) {from} to the sidecar of {at}, mutual TLS"),
            _ => format!("{from} to {at}, port {to}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_connections_first_packet_says_which_leg_it_is() {
        let pod = Pod {
            ips: vec!["10.77.0.2".parse().expect("an address")],
            ..Pod::sample("web-0")
        };
        let names = Names::new(
            std::slice::from_ref(&pod),
            &[("10.78.0.1".parse().expect("an address"), "ledger.bank".to_owned())],
        );
        let packet = |port, begins| Packet {
            source: "10.77.0.2".parse().expect("an address"),
            destination: "10.78.0.1".parse().expect("an address"),
            protocol: 6,
            ports: Some((4000, port)),
            begins,
            payload: &[],
        };
        let comment = |port, interface| names.comment(&packet(port, true), interface, &pod);
        assert_eq!(
            comment(4140, "lo"),
            "(1) the application of web-0 to its sidecar, redirected"
        );
        assert_eq!(
            comment(4143, "eth0"),
            "(2)(3) web-0.bank to the sidecar of ledger.bank, mutual TLS"
        );
        assert_eq!(comment(8080, "lo"), "(4) within web-0, to port 8080");
        assert_eq!(comment(53, "eth0"), "web-0.bank to ledger.bank, port 53");
        assert_eq!(names.comment(&packet(4143, false), "eth0", &pod), "");
    }
}
