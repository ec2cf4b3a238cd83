//! What a question is about: which rows count, and for which resource.

use sheer_api::v1::{self, selector::Kind as Wanted, series_key::Direction};
use tonic::Status;

use super::{
    resolve::Place,
    row::{Party, Row},
    totals::Part,
};
use crate::{objects::Kind, store::Snapshot};

/// One side of a question.
#[derive(Clone, Debug)]
pub(super) struct Selector {
    pub(super) kind: Wanted,
    name: String,
    namespace: String,
}

/// A question: for each of what, and between whom.
#[derive(Clone, Debug)]
pub(super) struct Question {
    pub(super) what: Selector,
    from: Option<Selector>,
    to: Option<Selector>,
}

/// A row that counts: for whom, and in which sense.
#[derive(Clone, Debug)]
pub(super) struct Counted {
    pub(super) resource: v1::Resource,
    pub(super) direction: Direction,
    pub(super) part: Part,
}

impl Selector {
    pub(super) fn of(message: &v1::Selector) -> Result<Self, Status> {
        let kind = message.kind();
        if kind == Wanted::Unspecified {
            return Err(Status::invalid_argument(
                "name a kind: workloads, pods, services, routes or namespaces",
            ));
        }
        Ok(Self {
            kind,
            name: message.name.clone(),
            namespace: message.namespace.clone(),
        })
    }

    /// Whether a workload, Service or route is meant.
    pub(super) fn means(&self, party: &Party) -> bool {
        let is_kind = match self.kind {
            Wanted::Workload => matches!(party.kind, "deploy" | "sts"),
            Wanted::Deployment => party.kind == "deploy",
            Wanted::Statefulset => party.kind == "sts",
            Wanted::Pod => party.kind == "pod",
            Wanted::Service => matches!(party.kind, "svc" | "egress"),
            Wanted::Route => party.kind.ends_with("route") || party.kind == "serviceprofile",
            Wanted::Namespace => return self.name.is_empty() || self.name == *party.namespace,
            Wanted::Unspecified => false,
        };
        is_kind && self.fits(&party.namespace, &party.name)
    }

    /// Whether a pod or what made it is meant.
    pub(super) fn means_place(&self, place: &Place) -> bool {
        match self.kind {
            Wanted::Pod => self.fits(&place.namespace, &place.pod),
            Wanted::Namespace => self.name.is_empty() || self.name == place.namespace,
            _ => place.workload.as_ref().is_some_and(|workload| self.means(workload)),
        }
    }

    /// An error where one thing was named, and there is no such thing.
    pub(super) fn found_nothing(&self) -> Result<(), Status> {
        if self.name.is_empty() {
            return Ok(());
        }
        let kind = match self.kind {
            Wanted::Deployment => "Deployment",
            Wanted::Statefulset => "StatefulSet",
            Wanted::Pod => "pod",
            Wanted::Service => "Service",
            Wanted::Route => "route with traffic",
            Wanted::Namespace => "namespace with workloads",
            Wanted::Workload | Wanted::Unspecified => "workload",
        };
        let place = match self.namespace.as_str() {
            "" => String::new(),
            namespace => format!(" in namespace {namespace}"),
        };
        Err(Status::not_found(format!(
            "there is no {kind} {}{place}: `sheer ps` shows what runs",
            self.name
        )))
    }

    pub(super) fn fits(&self, namespace: &str, name: &str) -> bool {
        (self.namespace.is_empty() || self.namespace == namespace) && (self.name.is_empty() || self.name == name)
    }
}

impl Question {
    pub(super) fn new(
        what: Option<&v1::Selector>,
        from: Option<&v1::Selector>,
        to: Option<&v1::Selector>,
    ) -> Result<Self, Status> {
        let what = what.ok_or_else(|| Status::invalid_argument("say of what: workloads, pods, services or routes"))?;
        Ok(Self {
            what: Selector::of(what)?,
            from: from.map(Selector::of).transpose()?,
            to: to.map(Selector::of).transpose()?,
        })
    }

    /// Whether numbers of clients are asked for.
    pub(super) fn is_of_clients(&self) -> bool {
        self.to.is_some() || self.from.is_some() || matches!(self.what.kind, Wanted::Service | Wanted::Route)
    }

    /// For what a row of a pod counts, if for anything.
    pub(super) fn count(&self, place: &Place, row: &Row) -> Option<Counted> {
        match self.what.kind {
            Wanted::Service | Wanted::Route => self.count_service(place, row),
            _ => self.count_workload(place, row),
        }
    }

    /// Services and routes: what their meshed clients saw.
    fn count_service(&self, place: &Place, row: &Row) -> Option<Counted> {
        let is_from = self.from.as_ref().is_none_or(|from| from.means_place(place));
        if row.key.direction != Direction::Outbound || !is_from {
            return None;
        }
        let towards = self.towards(row)?;
        let (service, _) = row.key.service.as_ref()?;
        let (resource, part) = match (self.what.kind, &row.key.route) {
            (Wanted::Service, _) => (self.what.means(service).then(|| service.message())?, towards),
            (_, Some(route)) => {
                let resource = match &route.route {
                    Some(of) if self.what.means(of) => named(of, &format!("rule {}", route.rule)),
                    // What nobody wrote a route for goes by its Service's name.
                    None if self.what.name.is_empty() && self.what.fits(&service.namespace, "") => {
                        named(service, "default")
                    }
                    Some(_) | None => return None,
                };
                (resource, Part::All)
            }
            (_, None) => return None,
        };
        Some(Counted {
            resource,
            direction: Direction::Outbound,
            part,
        })
    }

    /// Workloads, pods and namespaces: what arrived, or what was sent where that is asked for.
    fn count_workload(&self, place: &Place, row: &Row) -> Option<Counted> {
        let direction = row.key.direction;
        if let Some(from) = &self.from {
            // The clients' numbers, under the name of the server; the server's own where the client has no proxy, and of pods, which clients do
            // not tell apart.
            let of_pods = self.what.kind == Wanted::Pod;
            let server = match direction {
                Direction::Outbound if !of_pods && from.means_place(place) => row.key.peer.clone()?,
                Direction::Inbound if (of_pods || is_unmeshed(row)) && from.means(row.key.peer.as_ref()?) => {
                    return self.own(place, Direction::Inbound, Part::All);
                }
                _ => return None,
            };
            if row.key.route.is_some() || !self.what.means(&server) {
                return None;
            }
            return Some(Counted {
                resource: self.resource_of(&server),
                direction: Direction::Outbound,
                part: Part::All,
            });
        }
        if self.to.is_none() {
            return self.own(place, direction, once(row));
        }
        if direction != Direction::Outbound {
            return None;
        }
        let part = self.towards(row)?;
        self.own(place, Direction::Outbound, part)
    }

    /// The pod's own resource, where that is meant.
    fn own(&self, place: &Place, direction: Direction, part: Part) -> Option<Counted> {
        if !self.what.means_place(place) {
            return None;
        }
        let party = match self.what.kind {
            Wanted::Pod => Party::new("pod", &place.namespace, &place.pod),
            _ => place.party(),
        };
        Some(Counted {
            resource: self.resource_of(&party),
            direction,
            part,
        })
    }

    fn resource_of(&self, party: &Party) -> v1::Resource {
        match self.what.kind {
            Wanted::Namespace => Party::new("ns", "", &party.namespace).message(),
            _ => party.message(),
        }
    }

    /// What of a row of a client counts by where it went.
    fn towards(&self, row: &Row) -> Option<Part> {
        let Some(to) = &self.to else { return Some(once(row)) };
        let is_meant = |party: &Option<Party>| party.as_ref().is_some_and(|party| to.means(party));
        let is_part_meant = match (to.kind, &row.key.route) {
            (Wanted::Service, route) => {
                let service = row.key.service.as_ref();
                if service.is_some_and(|(service, _)| to.means(service)) {
                    return Some(once(row));
                }
                // A route of another Service sends some here.
                route.as_ref().is_some_and(|route| is_meant(&route.backend))
            }
            (Wanted::Route, Some(route)) => is_meant(&route.route),
            (Wanted::Route, None) | (_, Some(_)) => false,
            (_, None) => is_meant(&row.key.peer),
        };
        is_part_meant.then_some(Part::All)
    }

    /// Every resource that is meant, whether or not anything happened.
    pub(super) fn all(&self, snapshot: &Snapshot) -> Vec<v1::Resource> {
        let workloads = snapshot
            .workloads()
            .map(|(kind, namespace, name)| Party::new(super::resolve::short_kind(kind), namespace, name));
        let parties: Vec<Party> = match self.what.kind {
            Wanted::Workload | Wanted::Deployment | Wanted::Statefulset => workloads.collect(),
            Wanted::Pod => {
                let pods = snapshot.pods();
                pods.map(|pod| Party::new("pod", &pod.metadata.namespace, &pod.metadata.name))
                    .collect()
            }
            Wanted::Namespace => {
                let mut namespaces: Vec<_> = workloads.map(|party| party.namespace.to_string()).collect();
                namespaces.dedup();
                let meant = namespaces
                    .into_iter()
                    .map(|namespace| Party::new("ns", &namespace, &namespace));
                let meant = meant.filter(|party| self.what.name.is_empty() || self.what.name == *party.name);
                return meant.map(|party| Party::new("ns", "", &party.name).message()).collect();
            }
            Wanted::Service => {
                let services = snapshot.services();
                services
                    .map(|service| Party::new("svc", &service.metadata.namespace, &service.metadata.name))
                    .collect()
            }
            Wanted::Route | Wanted::Unspecified => Vec::new(),
        };
        parties
            .iter()
            .filter(|party| self.what.means(party))
            .map(Party::message)
            .collect()
    }
}

/// A request counts where it ended, and once: its route adds how often it was tried again.
fn once(row: &Row) -> Part {
    if row.key.route.is_some() {
        Part::Retries
    } else {
        Part::All
    }
}

/// Whether the client of a row tells nothing itself.
fn is_unmeshed(row: &Row) -> bool {
    row.key.tls != v1::Tls::Mutual
}

/// The kind of what made pods.
pub(super) fn is_workload(kind: &str, of: Kind) -> bool {
    kind == super::resolve::short_kind(of)
}

pub(super) fn named(party: &Party, part: &str) -> v1::Resource {
    v1::Resource {
        part: part.to_owned(),
        ..party.message()
    }
}
