//! Redirection and virtual addresses as nftables rules. Pure: what a pod is goes in, the text for `nft -f -` comes out.
//!
//! Two tables a pod. `sheer` sends what the application does through the sidecar; it is written once. `sheer_services` turns virtual
//! addresses of services into addresses of ready endpoints, for traffic that does not go through a sidecar; it is rewritten
//! as endpoints come and go. The kernel asks both for the first packet of a connection only, `sheer` first.

use std::{
    fmt::Write as _,
    net::{IpAddr, SocketAddr},
    ops::RangeInclusive,
};

use ipnet::IpNet;
use sheer_api::names::{ADMIN_PORT, INBOUND_PORT, OUTBOUND_PORT, PROXY_MARK, PROXY_UID, SIGHT_PORT};

use crate::addresses;

#[cfg(test)]
mod tests;

/// How the sidecar's own sockets are told from the application's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exemption {
    /// The sidecar runs as [`PROXY_UID`].
    Uid,
    /// The sidecar marks its sockets with [`PROXY_MARK`]: where only one uid can be had.
    Mark,
}

/// What is redirected in a meshed pod, and what is not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Redirection {
    /// The sidecar's own sockets.
    pub exemption: Exemption,
    /// Ports of the pod that clients reach without the sidecar.
    pub skip_inbound: Vec<RangeInclusive<u16>>,
    /// Ports of others that the application reaches without the sidecar.
    pub skip_outbound: Vec<RangeInclusive<u16>>,
    /// Networks with which the pod talks without the sidecar.
    pub skip_subnets: Vec<IpNet>,
}

/// One port of a service with a virtual address.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ServiceRule {
    /// Virtual address.
    pub address: IpAddr,
    /// Port of the virtual address.
    pub port: u16,
    /// Ready endpoints of the same family.
    pub endpoints: Vec<SocketAddr>,
}

/// The rules that send a pod's traffic through its sidecar.
pub fn redirection(redirection: &Redirection) -> String {
    let own = match redirection.exemption {
        Exemption::Uid => format!("meta skuid {PROXY_UID}"),
        Exemption::Mark => format!("meta mark {PROXY_MARK:#x}"),
    };
    let sidecar = [INBOUND_PORT, SIGHT_PORT, ADMIN_PORT].map(|port| port..=port);
    let mut text = String::from(
        "table inet sheer {\n  chain inbound {\n    type nat hook prerouting priority dstnat; policy accept;\n",
    );
    text += "    meta l4proto != tcp return\n    iif lo return\n";
    skip_ports(&mut text, sidecar.iter().chain(&redirection.skip_inbound).cloned());
    skip_networks(&mut text, "saddr", &redirection.skip_subnets);
    let _ = writeln!(text, "    meta l4proto tcp redirect to :{INBOUND_PORT}\n  }}");
    text += "  chain outbound {\n    type nat hook output priority -100; policy accept;\n";
    let _ = writeln!(
        text,
        "    meta l4proto != tcp return\n    {own} return\n    oif lo return"
    );
    // The gateway is the mesh's DNS server and control plane.
    let gateway = addresses::bridge().both().map(IpNet::from);
    skip_networks(&mut text, "daddr", &gateway);
    skip_networks(&mut text, "daddr", &redirection.skip_subnets);
    skip_ports(&mut text, redirection.skip_outbound.iter().cloned());
    let _ = writeln!(text, "    meta l4proto tcp redirect to :{OUTBOUND_PORT}\n  }}\n}}");
    text
}

fn skip_ports(text: &mut String, ports: impl Iterator<Item = RangeInclusive<u16>>) {
    let elements: Vec<String> = merge(ports.collect()).iter().map(port_range).collect();
    if !elements.is_empty() {
        let _ = writeln!(text, "    tcp dport {{ {} }} return", elements.join(", "));
    }
}

fn port_range(range: &RangeInclusive<u16>) -> String {
    if range.start() == range.end() {
        range.start().to_string()
    } else {
        format!("{}-{}", range.start(), range.end())
    }
}

/// nft refuses a set whose intervals overlap.
fn merge(mut ranges: Vec<RangeInclusive<u16>>) -> Vec<RangeInclusive<u16>> {
    ranges.sort_by_key(|range| *range.start());
    let mut merged: Vec<RangeInclusive<u16>> = Vec::new();
    for range in ranges {
        match merged.last_mut() {
            Some(last) if *range.start() <= last.end().saturating_add(1) => {
                *last = *last.start()..=*last.end().max(range.end());
            }
            _ => merged.push(range),
        }
    }
    merged
}

fn skip_networks(text: &mut String, side: &str, networks: &[IpNet]) {
    for network in IpNet::aggregate(&networks.to_vec()) {
        let family = if network.addr().is_ipv4() { "ip" } else { "ip6" };
        let _ = writeln!(text, "    {family} {side} {network} return");
    }
}

/// The chains that [`services`] fills. Once made they stay: taking a chain away and making it anew takes the kernel several times as long
/// as replacing rules.
const SERVICE_CHAINS: &str = "\
table inet sheer_services {
  chain untracked_out { type filter hook output priority raw; policy accept; }
  chain untracked_in { type filter hook prerouting priority raw; policy accept; }
  chain translate { type nat hook output priority -90; policy accept; }
  chain refuse { type filter hook output priority 0; policy accept; }
}
flush table inet sheer_services
";

/// The rules that turn virtual addresses into endpoints, replacing those that stood before in one step.
pub fn services(rules: &[ServiceRule]) -> String {
    let mut text = format!("{SERVICE_CHAINS}table inet sheer_services {{\n");
    // Names are asked for often, and connection tracking has nothing to do there: without it there is no table to fill, and no race between
    // the packets for A and AAAA that resolvers send from one socket.
    text += "  chain untracked_out {\n    udp dport 53 notrack\n  }\n  chain untracked_in {\n    udp sport 53 notrack\n  }\n";
    text += "  chain translate {\n";
    for rule in rules.iter().filter(|rule| !rule.endpoints.is_empty()) {
        let _ = writeln!(text, "    {}", translate(rule));
    }
    text += "  }\n  chain refuse {\n";
    for rule in rules.iter().filter(|rule| rule.endpoints.is_empty()) {
        // As kube-proxy: a service without endpoints refuses, it does not hang.
        let _ = writeln!(
            text,
            "    {} daddr {} tcp dport {} reject with tcp reset",
            family(rule),
            rule.address,
            rule.port
        );
    }
    text += "  }\n}\n";
    text
}

fn family(rule: &ServiceRule) -> &'static str {
    if rule.address.is_ipv4() { "ip" } else { "ip6" }
}

fn translate(rule: &ServiceRule) -> String {
    let family = family(rule);
    let from = format!("{family} daddr {} tcp dport {}", rule.address, rule.port);
    if let [only] = rule.endpoints.as_slice() {
        return format!("{from} dnat {family} to {only}");
    }
    let element =
        |(number, endpoint): (usize, &SocketAddr)| format!("{number} : {} . {}", endpoint.ip(), endpoint.port());
    let elements: Vec<String> = rule.endpoints.iter().enumerate().map(element).collect();
    let count = rule.endpoints.len();
    format!(
        "{from} dnat {family} to numgen random mod {count} map {{ {} }}",
        elements.join(", ")
    )
}
