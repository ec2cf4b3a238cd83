//! Addresses of a local mesh: one private range for pods, one for services, each in IPv4 and IPv6. Pure.
//!
//! Pods take the next free address going up and round, so that an address is not reused while somebody may still hold it. Services
//! take the address that their name hashes to, so that it stays the same from one `sheer up` to the next.

use std::{
    collections::BTreeSet,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

/// First two bytes of pod addresses: 10.77.0.0/16.
const PODS_V4: [u8; 2] = [10, 77];
/// First two bytes of service addresses: 10.78.0.0/16.
const SERVICES_V4: [u8; 2] = [10, 78];
/// Network of pods in IPv6: fd77::/64 (RFC 4193).
const PODS_V6: u16 = 0xfd77;
/// Network of services in IPv6: fd78::/64.
const SERVICES_V6: u16 = 0xfd78;
/// Hosts of a range that are handed out: .0.0 is the network, .0.1 the bridge, .255.255 the broadcast address.
const HOSTS: std::ops::Range<u16> = 2..u16::MAX;
/// The bridge: gateway, DNS server and control plane.
const BRIDGE: u16 = 1;

/// The two addresses of a pod or service.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Pair {
    /// IPv4 address.
    pub v4: Ipv4Addr,
    /// IPv6 address.
    pub v6: Ipv6Addr,
}

impl Pair {
    fn new(v4: [u8; 2], v6: u16, host: u16) -> Self {
        let [high, low] = host.to_be_bytes();
        Self {
            v4: Ipv4Addr::new(v4[0], v4[1], high, low),
            v6: Ipv6Addr::new(v6, 0, 0, 0, 0, 0, 0, host),
        }
    }

    /// Both, IPv4 first.
    pub fn both(self) -> [IpAddr; 2] {
        [self.v4.into(), self.v6.into()]
    }
}

/// The bridge's addresses.
pub fn bridge() -> Pair {
    Pair::new(PODS_V4, PODS_V6, BRIDGE)
}

/// Networks of the pods.
pub fn pod_networks() -> [IpNet; 2] {
    networks(PODS_V4, PODS_V6)
}

/// Networks of the services' virtual addresses.
pub fn service_networks() -> [IpNet; 2] {
    networks(SERVICES_V4, SERVICES_V6)
}

fn networks(v4: [u8; 2], v6: u16) -> [IpNet; 2] {
    let v4 = Ipv4Net::new_assert(Ipv4Addr::new(v4[0], v4[1], 0, 0), 16);
    [
        v4.into(),
        Ipv6Net::new_assert(Ipv6Addr::new(v6, 0, 0, 0, 0, 0, 0, 0), 64).into(),
    ]
}

/// Hands out pod addresses.
#[derive(Debug)]
pub struct PodAddresses {
    next: u16,
    taken: BTreeSet<u16>,
}

impl Default for PodAddresses {
    fn default() -> Self {
        Self {
            next: HOSTS.start,
            taken: BTreeSet::new(),
        }
    }
}

impl PodAddresses {
    /// The next free address, or `None` where 65,533 pods run.
    pub fn take(&mut self) -> Option<Pair> {
        let host = (self.next..HOSTS.end)
            .chain(HOSTS.start..self.next)
            .find(|host| !self.taken.contains(host))?;
        self.taken.insert(host);
        self.next = if host + 1 < HOSTS.end { host + 1 } else { HOSTS.start };
        Some(Pair::new(PODS_V4, PODS_V6, host))
    }

    /// Gives an address back.
    pub fn release(&mut self, pair: Pair) {
        let [_, _, high, low] = pair.v4.octets();
        self.taken.remove(&u16::from_be_bytes([high, low]));
    }
}

/// Hands out virtual addresses of services.
#[derive(Debug, Default)]
pub struct ServiceAddresses {
    taken: BTreeSet<u16>,
}

impl ServiceAddresses {
    /// The address that a service's name hashes to, or the next free one after it; `None` where the range is full.
    pub fn take(&mut self, namespace: &str, name: &str) -> Option<Pair> {
        let start = HOSTS.start + (fnv(&format!("{namespace}/{name}")) % u64::from(HOSTS.end - HOSTS.start)) as u16;
        let host = (start..HOSTS.end)
            .chain(HOSTS.start..start)
            .find(|host| !self.taken.contains(host))?;
        self.taken.insert(host);
        Some(Pair::new(SERVICES_V4, SERVICES_V6, host))
    }

    /// Gives an address back.
    pub fn release(&mut self, pair: Pair) {
        let [_, _, high, low] = pair.v4.octets();
        self.taken.remove(&u16::from_be_bytes([high, low]));
    }
}

/// FNV-1a: the same on every run and every machine, which std's hasher does not promise.
pub(crate) fn fnv(text: &str) -> u64 {
    text.bytes().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pods_do_not_get_an_address_that_was_just_given_back() {
        let mut pods = PodAddresses::default();
        let first = pods.take().expect("free");
        assert_eq!(first.both().map(|ip| ip.to_string()), ["10.77.0.2", "fd77::2"]);
        pods.release(first);
        assert_eq!(pods.take().expect("free").v4.to_string(), "10.77.0.3");
    }

    #[test]
    fn the_range_is_handed_out_once_and_wraps() {
        let mut pods = PodAddresses::default();
        let all: BTreeSet<Pair> = std::iter::from_fn(|| pods.take()).collect();
        assert_eq!(all.len(), 65_533);
        let back = *all.iter().nth(700).expect("many");
        pods.release(back);
        assert_eq!(pods.take(), Some(back));
        assert!(
            all.iter()
                .all(|pair| pod_networks()[0].contains(&IpAddr::from(pair.v4)) && *pair != bridge())
        );
    }

    #[test]
    fn services_keep_their_address_from_run_to_run() {
        let take = |names: [&str; 2]| {
            let mut services = ServiceAddresses::default();
            names.map(|name| services.take("bank", name).expect("free"))
        };
        let [ledger, fx] = take(["ledger", "fx"]);
        let [fx_again, ledger_again] = take(["fx", "ledger"]);
        assert_eq!((ledger, fx), (ledger_again, fx_again));
        assert_ne!(ledger, fx);
        assert!(service_networks()[1].contains(&IpAddr::from(fx.v6)));
    }
}
