//! What the DNS server knows: names of services and of their pods. Pure data, made anew on every change.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
};

/// One address with a name of its own below a headless service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Host {
    /// First label of the name.
    pub name: String,
    /// Addresses.
    pub addresses: Vec<IpAddr>,
}

/// What a service is called and where it is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ServiceNames {
    /// Virtual addresses; of a headless service, those of its pods.
    pub addresses: Vec<IpAddr>,
    /// Pods with names of their own (headless services only).
    pub hosts: Vec<Host>,
    /// Named ports, for SRV. A port of a headless service is the pods'.
    pub ports: Vec<(String, u16)>,
}

/// What the server answers from.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Zone {
    /// Services by namespace, then name.
    pub services: BTreeMap<String, BTreeMap<String, ServiceNames>>,
    /// Namespace of each pod, so that a bare `svc` without search domains means the client's own.
    pub clients: BTreeMap<IpAddr, String>,
}

/// What a name below `svc.cluster.local` stands for.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Found<'a> {
    /// A service.
    Service(&'a ServiceNames),
    /// A pod of a headless service.
    Host(&'a Host),
    /// `_port._tcp.svc.ns`.
    Port(&'a ServiceNames, u16),
    /// Nothing of its own, but there are names below it (RFC 8020: no error).
    Parent,
}

impl Zone {
    /// Looks up the labels left of `svc.cluster.local`, in lower case, in the order in which they are written.
    pub(super) fn find(&self, labels: &[&str]) -> Option<Found<'_>> {
        let Some((namespace, rest)) = labels.split_last() else {
            return Some(Found::Parent);
        };
        let services = self.services.get(*namespace)?;
        let Some((service, rest)) = rest.split_last() else {
            return Some(Found::Parent);
        };
        let service = services.get(*service)?;
        match rest {
            [] => Some(Found::Service(service)),
            ["_tcp"] if !service.ports.is_empty() => Some(Found::Parent),
            [port, "_tcp"] => {
                let name = port.strip_prefix('_')?;
                service
                    .ports
                    .iter()
                    .find(|(port, _)| port == name)
                    .map(|(_, port)| Found::Port(service, *port))
            }
            [host] => service.hosts.iter().find(|known| known.name == *host).map(Found::Host),
            _ => None,
        }
    }

    /// Namespaces that have services.
    pub fn namespaces(&self) -> BTreeSet<&str> {
        self.services.keys().map(String::as_str).collect()
    }
}
