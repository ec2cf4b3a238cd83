//! What a series is about.

use std::{net::IpAddr, sync::Arc};

use sheer_api::v1;
use sheer_policy::wire::explain::object;

use crate::{
    discovery::{Endpoint, ObjectRef},
    error::Direction,
};

/// What a series is about. Two that are equal are the same series.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Key {
    /// Which half of the proxy.
    pub direction: Direction,
    /// What is counted.
    pub scope: Scope,
    /// The other side; none for a request that got to no endpoint.
    pub peer: Option<PeerKey>,
    /// Outbound: what the application addressed. Inbound: the Server of the port.
    pub target: Arc<ObjectRef>,
    /// Outbound: the name of it, with its port.
    pub authority: Arc<str>,
    /// The workload's own port (inbound).
    pub port: u16,
    /// Stands for all that did not fit.
    pub overflow: bool,
}

/// What is counted.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Scope {
    /// What went to or came from one peer.
    Peer,
    /// Requests of one rule of a route, and where it sent them.
    Route {
        /// The route.
        route: Arc<ObjectRef>,
        /// Which rule of it.
        rule: usize,
        /// Where the rule sent them.
        backend: Option<Arc<ObjectRef>>,
    },
    /// Requests that no route took.
    Unrouted,
}

/// The other side of a connection.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct PeerKey {
    /// Its address; none where there are too many.
    pub address: Option<IpAddr>,
    /// Who it proved to be.
    pub identity: Option<Arc<str>>,
    /// How.
    pub tls: v1::Tls,
    /// Namespace, pod and workload, as far as discovery said.
    pub place: Option<Arc<[Box<str>; 3]>>,
}

impl Key {
    /// What goes to an endpoint.
    pub fn to_endpoint(target: &Arc<ObjectRef>, authority: &Arc<str>, endpoint: &Endpoint) -> Self {
        Self {
            direction: Direction::Outbound,
            scope: Scope::Peer,
            peer: Some(PeerKey::of_endpoint(endpoint)),
            target: Arc::clone(target),
            authority: Arc::clone(authority),
            port: 0,
            overflow: false,
        }
    }

    /// What goes to a destination and got to no endpoint.
    pub fn to_nobody(target: &Arc<ObjectRef>, authority: &Arc<str>) -> Self {
        Self {
            direction: Direction::Outbound,
            scope: Scope::Peer,
            peer: None,
            target: Arc::clone(target),
            authority: Arc::clone(authority),
            port: 0,
            overflow: false,
        }
    }

    /// The same destination, by how requests were routed.
    pub fn routed(self, scope: Scope) -> Self {
        Self {
            scope,
            peer: None,
            ..self
        }
    }

    /// What comes in for one of the workload's ports.
    pub fn from_client(server: &Arc<ObjectRef>, port: u16, peer: PeerKey) -> Self {
        Self {
            direction: Direction::Inbound,
            scope: Scope::Peer,
            peer: Some(peer),
            target: Arc::clone(server),
            authority: "".into(),
            port,
            overflow: false,
        }
    }

    /// What this is counted under where there are too many peers.
    pub(super) fn without_address(&self) -> Self {
        let mut key = self.clone();
        if let Some(peer) = &mut key.peer {
            peer.address = None;
            peer.place = None;
        }
        key
    }

    /// What this is counted under where there is too much of everything.
    pub(super) fn overflowing(&self) -> Self {
        Self {
            direction: self.direction,
            scope: match self.scope {
                Scope::Peer => Scope::Peer,
                Scope::Route { .. } | Scope::Unrouted => Scope::Unrouted,
            },
            peer: None,
            target: Arc::default(),
            authority: "".into(),
            port: 0,
            overflow: true,
        }
    }

    /// As it goes over the wire.
    pub(super) fn message(&self, id: u32, host: &str) -> v1::SeriesKey {
        use v1::series_key as wire;
        let direction = match self.direction {
            Direction::Inbound => wire::Direction::Inbound,
            Direction::Outbound => wire::Direction::Outbound,
        };
        let (scope, route, rule, backend) = match &self.scope {
            Scope::Peer => (wire::Scope::Peer, None, 0, None),
            Scope::Unrouted => (wire::Scope::Route, None, 0, None),
            Scope::Route { route, rule, backend } => (
                wire::Scope::Route,
                Some(object(route)),
                u32::try_from(*rule).unwrap_or(u32::MAX),
                backend.as_deref().map(object),
            ),
        };
        v1::SeriesKey {
            id,
            direction: direction.into(),
            scope: scope.into(),
            peer: self.peer.as_ref().map(|peer| peer.message(host)),
            target: Some(object(&self.target)),
            authority: self.authority.to_string(),
            port: self.port.into(),
            route,
            rule,
            backend,
            overflow: self.overflow,
        }
    }
}

impl PeerKey {
    fn of_endpoint(endpoint: &Endpoint) -> Self {
        let label = |name: &str| endpoint.labels.get(name).map_or("", String::as_str);
        let owner = ["deployment", "statefulset"]
            .into_iter()
            .zip(["deploy", "sts"])
            .find(|(label_name, _)| !label(label_name).is_empty());
        let workload = owner.map_or_else(String::new, |(label_name, short)| {
            format!("{short}/{}", label(label_name))
        });
        let known = !label("pod").is_empty() || !workload.is_empty();
        Self {
            address: Some(endpoint.addr.ip()),
            identity: endpoint.identity.as_ref().map(|identity| Arc::clone(&identity.id)),
            tls: match endpoint.identity {
                Some(_) => v1::Tls::Mutual,
                None => v1::Tls::Plain,
            },
            place: known.then(|| Arc::new([label("namespace").into(), label("pod").into(), workload.into()])),
        }
    }

    pub(super) fn message(&self, host: &str) -> v1::Peer {
        let [namespace, pod, workload] = self.place.as_deref().cloned().unwrap_or_default();
        v1::Peer {
            address: self.address.map(|address| address.to_string()).unwrap_or_default(),
            identity: self.identity.as_deref().unwrap_or_default().to_owned(),
            tls: self.tls.into(),
            host: host.to_owned(),
            namespace: namespace.into(),
            pod: pod.into(),
            workload: workload.into(),
        }
    }
}
