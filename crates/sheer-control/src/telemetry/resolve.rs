//! Who is meant by what a proxy says: addresses and labels become workloads and Services.

use std::net::IpAddr;

use sheer_api::v1::{self, series_key};

use super::row::{Party, RouteOf, RowKey};
use crate::{
    objects::{Kind, Pod},
    store::Snapshot,
};

/// Whose proxy speaks.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Place {
    pub(super) namespace: String,
    pub(super) pod: String,
    /// None for a pod that nothing made.
    pub(super) workload: Option<Party>,
}

impl Place {
    pub(super) fn of(snapshot: &Snapshot, namespace: &str, pod: &str) -> Self {
        let found = snapshot.find_pod(namespace, pod);
        Self {
            namespace: namespace.to_owned(),
            pod: pod.to_owned(),
            workload: found.and_then(|pod| workload_of(snapshot, pod)),
        }
    }

    /// The workload, or the pod itself.
    pub(super) fn party(&self) -> Party {
        let pod = || Party::new("pod", &self.namespace, &self.pod);
        self.workload.clone().unwrap_or_else(pod)
    }
}

/// The row that a proxy's series belongs to.
pub(super) fn row(snapshot: &Snapshot, key: &v1::SeriesKey) -> RowKey {
    let peer = key.peer.as_ref();
    let is_route = key.scope() == series_key::Scope::Route;
    RowKey {
        direction: key.direction(),
        route: is_route.then(|| route(key)),
        peer: match peer {
            _ if key.overflow => Some(Party::new("other", "", "(other)")),
            Some(peer) => Some(party(snapshot, peer)),
            None => None,
        },
        identity: peer.map_or("", |peer| peer.identity.as_str()).into(),
        tls: peer.map_or(v1::Tls::Unspecified, v1::Peer::tls),
        service: key.target.as_ref().and_then(service),
    }
}

/// The Service that requests were for, and its port.
pub(super) fn service(target: &v1::ObjectRef) -> Option<(Party, u16)> {
    let kind = match target.kind.as_str() {
        "Service" => "svc",
        "EgressNetwork" => "egress",
        _ => return None,
    };
    let port = u16::try_from(target.port).unwrap_or(0);
    Some((Party::new(kind, &target.namespace, &target.name), port))
}

fn route(key: &v1::SeriesKey) -> RouteOf {
    let route = key.route.as_ref().and_then(|route| {
        let kind = match route.kind.as_str() {
            "HTTPRoute" => "httproute",
            "GRPCRoute" => "grpcroute",
            "TCPRoute" => "tcproute",
            "TLSRoute" => "tlsroute",
            "ServiceProfile" => "serviceprofile",
            _ => return None,
        };
        Some(Party::new(kind, &route.namespace, &route.name))
    });
    RouteOf {
        // The default route has one rule: those of other protocols are the same to whoever asks.
        rule: if route.is_some() { key.rule } else { 0 },
        route,
        backend: key.backend.as_ref().and_then(service).map(|(party, _)| party),
    }
}

/// The other side: by its address, by what discovery said, by its identity.
pub(super) fn party(snapshot: &Snapshot, peer: &v1::Peer) -> Party {
    let address = peer.address.parse::<IpAddr>().ok();
    if let Some(pod) = address.and_then(|address| snapshot.find_pod_at(address)) {
        return party_of(snapshot, pod);
    }
    let workload = peer.workload.split_once('/').and_then(|(kind, name)| {
        let kind = ["deploy", "sts"].into_iter().find(|known| *known == kind)?;
        Some(Party::new(kind, &peer.namespace, name))
    });
    if let Some(workload) = workload {
        return workload;
    }
    if !peer.pod.is_empty() {
        return Party::new("pod", &peer.namespace, &peer.pod);
    }
    if !peer.host.is_empty() {
        return Party::new("host", "", &peer.host);
    }
    if !peer.identity.is_empty() {
        return of_identity(&peer.identity);
    }
    match address {
        Some(address) => Party::new("address", "", &address.to_string()),
        None => Party::new("other", "", "(other)"),
    }
}

/// A name that says the ServiceAccount, as `web.bank.serviceaccount.identity.…`.
fn of_identity(identity: &str) -> Party {
    match identity.split('.').collect::<Vec<_>>()[..] {
        [account, namespace, "serviceaccount", "identity", ..] => Party::new("sa", namespace, account),
        _ => Party::new("identity", "", identity),
    }
}

fn party_of(snapshot: &Snapshot, pod: &Pod) -> Party {
    let own = || Party::new("pod", &pod.metadata.namespace, &pod.metadata.name);
    workload_of(snapshot, pod).unwrap_or_else(own)
}

/// What made a pod.
pub(super) fn workload_of(snapshot: &Snapshot, pod: &Pod) -> Option<Party> {
    let (kind, name) = snapshot.owner_of(pod)?;
    Some(Party::new(short_kind(*kind), &pod.metadata.namespace, name))
}

pub(super) fn short_kind(kind: Kind) -> &'static str {
    if kind == Kind::StatefulSet { "sts" } else { "deploy" }
}
