//! Names for addresses, and words for the connections between them.

use std::{collections::BTreeMap, net::IpAddr};

use sheer_api::names::{ADMIN_PORT, OUTBOUND_PORT};
use sheer_local::{addresses, packets::Packet};

use crate::running::Pod;

/// Who has which address.
pub(super) struct Names(BTreeMap<IpAddr, Owner>);

struct Owner {
    name: String,
    /// A pod with a sidecar.
    meshed: bool,
}

impl Names {
    /// Pods as `web-0.bank`; virtual addresses of services as `ledger.bank`.
    pub(super) fn new(pods: &[Pod], services: &[(IpAddr, String)]) -> Self {
        let owner = |name: String, meshed| Owner { name, meshed };
        let services = services.iter().map(|(ip, name)| (*ip, owner(name.clone(), false)));
        let pods = pods.iter().flat_map(|pod| {
            let name = format!("{}.{}", pod.name, pod.namespace);
            pod.ips.iter().map(move |ip| (*ip, owner(name.clone(), pod.meshed)))
        });
        let control = addresses::bridge();
        let control = [IpAddr::from(control.v4), IpAddr::from(control.v6)]
            .map(|ip| (ip, owner("sheer-control".to_owned(), false)));
        Self(services.chain(pods).chain(control).collect())
    }

    /// All of them.
    pub(super) fn iter(&self) -> impl Iterator<Item = (IpAddr, &str)> {
        self.0.iter().map(|(ip, owner)| (*ip, owner.name.as_str()))
    }

    /// Whether a pod with a sidecar has this address.
    pub(super) fn is_meshed(&self, address: IpAddr) -> bool {
        self.of(address).1
    }

    /// Its name, and what it is in the mesh.
    fn of(&self, address: IpAddr) -> (String, bool) {
        let owner = self.0.get(&address.to_canonical());
        owner.map_or_else(
            || (address.to_string(), false),
            |owner| (owner.name.clone(), owner.meshed),
        )
    }

    /// What a connection is, for the comment at its first packet; empty for any other packet. The numbers are those of the four points at
    /// which a request is seen.
    pub(super) fn comment(&self, packet: &Packet<'_>, interface: &str, pod: &Pod) -> String {
        let (true, Some((_, to))) = (packet.begins, packet.ports) else {
            return String::new();
        };
        let ((from, from_mesh), (at, at_mesh)) = (self.of(packet.source), self.of(packet.destination));
        match (interface == "lo", to) {
            (true, OUTBOUND_PORT) => format!("(1) the application of {} to its sidecar, redirected", pod.name),
            (_, ADMIN_PORT) => format!("{from} asks the sidecar of {at} (admin port)"),
            (true, _) if pod.meshed => format!("(4) within {}, to port {to}", pod.name),
            (false, _) if from_mesh && at_mesh => format!("(2)(3) from sidecar to sidecar: {from} to {at}, port {to}"),
            _ => format!("{from} to {at}, port {to}, no sidecar at one end"),
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
        let peer = Pod {
            ips: vec!["10.77.0.3".parse().expect("an address")],
            ..Pod::sample("ledger-0")
        };
        let service = ("10.78.0.1".parse().expect("an address"), "ledger.bank".to_owned());
        let names = Names::new(&[pod.clone(), peer], &[service]);
        let packet = |to: &str, port, begins| Packet {
            source: "10.77.0.2".parse().expect("an address"),
            destination: to.parse().expect("an address"),
            protocol: 6,
            ports: Some((4000, port)),
            begins,
            ends: false,
            payload: &[],
        };
        let comment = |to, port, interface| names.comment(&packet(to, port, true), interface, &pod);
        assert_eq!(
            comment("127.0.0.1", 4140, "lo"),
            "(1) the application of web-0 to its sidecar, redirected"
        );
        assert_eq!(comment("10.77.0.2", 8080, "lo"), "(4) within web-0, to port 8080");
        assert_eq!(
            comment("10.77.0.3", 9000, "eth0"),
            "(2)(3) from sidecar to sidecar: web-0.bank to ledger-0.bank, port 9000"
        );
        assert_eq!(
            comment("1.1.1.1", 53, "eth0"),
            "web-0.bank to 1.1.1.1, port 53, no sidecar at one end"
        );
        assert_eq!(names.comment(&packet("10.77.0.3", 9000, false), "eth0", &pod), "");
    }
}
