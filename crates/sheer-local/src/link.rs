//! Links and addresses: the bridge of the mesh, and the pair of interfaces that joins a pod to it.

use std::{fs, io, path::Path};

use crate::{
    addresses::{self, Pair},
    tools::{self, ToolError},
};

/// Name of the bridge, in the mesh's own network namespace.
const BRIDGE: &str = "sheer0";

/// Its hardware address: "sheer", locally administered. Without one of its own a bridge takes the lowest of its ports and changes it as pods
/// come and go; pods then send to an address that nobody has until they ask again, seconds later.
const BRIDGE_ADDRESS: &str = "02:73:68:65:65:72";

/// Whether the kernel speaks IPv6 here.
pub(crate) fn has_ipv6() -> bool {
    Path::new("/proc/net/if_inet6").exists()
}

/// Makes the bridge. Called once, in the mesh's own network namespace.
pub(crate) fn create_bridge(ipv6: bool) -> Result<(), ToolError> {
    // Without routing, what a pod sends to an address that nobody has would vanish in silence; with it the kernel says so.
    let _ = sysctl("net/ipv4/ip_forward", "1");
    let _ = sysctl("net/ipv6/conf/all/forwarding", "1");
    tools::ip(&bridge_lines(ipv6))
}

fn bridge_lines(ipv6: bool) -> Vec<String> {
    let Pair { v4, v6 } = addresses::bridge();
    let [services_v4, services_v6] = addresses::service_networks();
    let mut lines = vec![
        "link set lo up".to_owned(),
        format!("link add {BRIDGE} address {BRIDGE_ADDRESS} type bridge forward_delay 0 mcast_snooping 0"),
        format!("addr add {v4}/16 dev {BRIDGE}"),
        format!("link set {BRIDGE} up"),
        format!("route add unreachable {services_v4}"),
    ];
    if ipv6 {
        // `nodad`: nobody else can have the address, and a second's wait would delay every start.
        lines.push(format!("addr add {v6}/64 dev {BRIDGE} nodad"));
        lines.push(format!("route add unreachable {services_v6}"));
    }
    lines
}

/// Gives a pod its interface. Called on a thread in the pod's new network namespace; the peer goes to the mesh's, where the
/// init process (pid 1) lives.
pub(crate) fn create_pod_link(pair: Pair, ipv6: bool) -> Result<(), ToolError> {
    // As in a container: any program may listen on any port.
    let _ = sysctl("net/ipv4/ip_unprivileged_port_start", "0");
    tools::ip(&pod_lines(pair, ipv6))
}

fn pod_lines(pair: Pair, ipv6: bool) -> Vec<String> {
    let gateway = addresses::bridge();
    let mut lines = vec![
        "link set lo up".to_owned(),
        format!("link add eth0 type veth peer name {} netns 1", peer_name(pair)),
        format!("addr add {}/16 dev eth0", pair.v4),
        "link set eth0 up".to_owned(),
        format!("route add default via {}", gateway.v4),
    ];
    if ipv6 {
        lines.push(format!("addr add {}/64 dev eth0 nodad", pair.v6));
        lines.push(format!("route add default via {}", gateway.v6));
    }
    lines
}

/// Joins the pod's peer interface to the bridge. Called in the mesh's own network namespace.
pub(crate) fn join_bridge(pair: Pair) -> Result<(), ToolError> {
    tools::ip(&[format!("link set {} master {BRIDGE} up", peer_name(pair))])
}

/// At most 15 bytes (IFNAMSIZ); the address makes it unique.
fn peer_name(pair: Pair) -> String {
    let [_, _, high, low] = pair.v4.octets();
    format!("pod{}", u16::from_be_bytes([high, low]))
}

fn sysctl(name: &str, value: &str) -> io::Result<()> {
    fs::write(Path::new("/proc/sys").join(name), value)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::addresses::PodAddresses;

    #[test]
    fn a_pod_is_joined_in_both_families() {
        let pair = PodAddresses::default().take().expect("free");
        insta::assert_snapshot!(pod_lines(pair, true).join("\n"), @r"
        link set lo up
        link add eth0 type veth peer name pod2 netns 1
        addr add 10.77.0.2/16 dev eth0
        link set eth0 up
        route add default via 10.77.0.1
        addr add fd77::2/64 dev eth0 nodad
        route add default via fd77::1
        ");
        assert!(!pod_lines(pair, false).join("\n").contains("fd77"));
    }

    #[test]
    fn the_bridge_refuses_addresses_that_no_service_has() {
        insta::assert_snapshot!(bridge_lines(true).join("\n"), @r"
        link set lo up
        link add sheer0 address 02:73:68:65:65:72 type bridge forward_delay 0 mcast_snooping 0
        addr add 10.77.0.1/16 dev sheer0
        link set sheer0 up
        route add unreachable 10.78.0.0/16
        addr add fd77::1/64 dev sheer0 nodad
        route add unreachable fd78::/64
        ");
    }
}
