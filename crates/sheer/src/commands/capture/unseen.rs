//! What a capture leaves out: traffic with workloads that have `sheer.dev/sight: disabled`, as the control plane says who they are.
//!
//! Packets from and to them are known by their addresses. What an application says to its own sidecar is redirected, and does not say where it was going:
//! the sidecar knows, and where anything in the mesh is hidden only connections that it says may be seen are kept.

use std::{
    collections::HashSet,
    net::{IpAddr, SocketAddr},
};

use sheer_api::{names::OUTBOUND_PORT, v1::Unseen};
use sheer_local::packets::dissect;

/// Where packets may not be shown.
#[derive(Debug, Default)]
pub(super) struct Hidden {
    addresses: HashSet<IpAddr>,
    seen: HashSet<SocketAddr>,
    hidden: HashSet<SocketAddr>,
    /// Pods whom somebody hidden has called.
    called: HashSet<String>,
}

impl Hidden {
    /// Takes what the control plane says; what it said before stays.
    pub(super) fn take(&mut self, pod: &str, unseen: Unseen) {
        self.addresses
            .extend(unseen.addresses.iter().filter_map(|ip| ip.parse::<IpAddr>().ok()));
        self.seen
            .extend(unseen.seen.iter().filter_map(|end| end.parse::<SocketAddr>().ok()));
        self.hidden
            .extend(unseen.hidden.iter().filter_map(|end| end.parse::<SocketAddr>().ok()));
        if unseen.calls {
            self.called.insert(pod.to_owned());
        }
    }

    /// Whether a packet must be left out.
    pub(super) fn hides(&self, packet: &[u8], interface: &str, pod: &str, meshed: bool) -> bool {
        if self.addresses.is_empty() {
            return false;
        }
        let Some(packet) = dissect(packet) else { return false };
        let is_hidden = |ip: IpAddr| self.addresses.contains(&ip.to_canonical());
        if is_hidden(packet.source) || is_hidden(packet.destination) {
            return true;
        }
        if interface != "lo" || !meshed {
            return false;
        }
        // A piece of a packet says nothing of where it belongs.
        let Some((from, to)) = packet.ports else { return true };
        let end = match (from, to) {
            (_, OUTBOUND_PORT) => SocketAddr::new(packet.source.to_canonical(), from),
            (OUTBOUND_PORT, _) => SocketAddr::new(packet.destination.to_canonical(), to),
            _ => return self.called.contains(pod),
        };
        self.hidden.contains(&end) || !self.seen.contains(&end)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A segment of TCP over IPv4, from its Ethernet header on.
    fn segment(from: &str, to: &str) -> Vec<u8> {
        let (from, to): (SocketAddr, SocketAddr) = (from.parse().expect("an address"), to.parse().expect("an address"));
        let mut bytes = vec![0; 12];
        bytes.extend([8, 0, 0x45, 0, 0, 40, 0, 0, 0, 0, 64, 6, 0, 0]);
        for address in [from, to] {
            let IpAddr::V4(ip) = address.ip() else { panic!("IPv4") };
            bytes.extend(ip.octets());
        }
        bytes.extend(from.port().to_be_bytes());
        bytes.extend(to.port().to_be_bytes());
        bytes.extend([0, 0, 0, 0, 0, 0, 0, 0, 0x50, 0x10, 0, 0, 0, 0, 0, 0]);
        bytes
    }

    #[test]
    fn traffic_with_hidden_workloads_is_left_out_and_no_other() {
        let mut hidden = Hidden::default();
        let (app, sidecar) = ("10.77.0.2:4000", "127.0.0.1:4140");
        let hides = |hidden: &Hidden, from: &str, to: &str, interface: &str| {
            hidden.hides(&segment(from, to), interface, "cli", true)
        };
        assert!(!hides(&hidden, app, sidecar, "lo"), "nothing is hidden in this mesh");
        hidden.take(
            "cli",
            Unseen {
                addresses: vec!["10.77.0.5".to_owned(), "10.96.0.3".to_owned()],
                seen: vec!["10.77.0.2:4001".to_owned()],
                hidden: vec!["10.77.0.2:4002".to_owned()],
                calls: false,
            },
        );
        assert!(
            hides(&hidden, "10.77.0.2:5", "10.77.0.5:80", "eth0")
                && hides(&hidden, "10.77.0.5:80", "10.77.0.2:5", "eth0")
        );
        assert!(!hides(&hidden, "10.77.0.2:5", "10.77.0.4:80", "eth0"));
        assert!(hides(&hidden, app, sidecar, "lo"), "nobody knows where it goes");
        assert!(!hides(&hidden, "10.77.0.2:4001", sidecar, "lo") && !hides(&hidden, sidecar, "10.77.0.2:4001", "lo"));
        assert!(hides(&hidden, "10.77.0.2:4002", sidecar, "lo") && hides(&hidden, sidecar, "10.77.0.2:4002", "lo"));
        // Once hidden, for good: ports are used again.
        hidden.take(
            "cli",
            Unseen {
                seen: vec!["10.77.0.2:4002".to_owned()],
                ..Unseen::default()
            },
        );
        assert!(hides(&hidden, "10.77.0.2:4002", sidecar, "lo"));
        let inside = |hidden: &Hidden| hides(hidden, "127.0.0.1:1", "10.77.0.2:8080", "lo");
        assert!(!inside(&hidden));
        hidden.take(
            "cli",
            Unseen {
                calls: true,
                ..Unseen::default()
            },
        );
        assert!(inside(&hidden), "a hidden caller's requests go there in plain");
    }
}
