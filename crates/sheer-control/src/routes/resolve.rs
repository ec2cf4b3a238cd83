//! What a reference of a route to a backend means.

use std::sync::Arc;

use super::index::{ParentKey, ParentKind, Route, RouteIndex};
use crate::objects::{BackendRef, Service};

/// What a backend is.
#[derive(Clone, Debug)]
pub(crate) enum Target {
    /// A Service's port.
    Service(Arc<Service>, u16),
    /// Addresses outside the mesh: where the client wanted to go.
    Egress,
}

/// Why a reference leads nowhere. Requests that it would have got are answered with 500 (Gateway API).
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct BadRef {
    /// `BackendNotFound`, `InvalidKind` or `RefNotPermitted`.
    pub(crate) reason: &'static str,
    /// For people.
    pub(crate) message: String,
}

fn bad(reason: &'static str, message: impl Into<String>) -> BadRef {
    BadRef {
        reason,
        message: message.into(),
    }
}

impl RouteIndex {
    /// What a route's reference to a backend means.
    pub(crate) fn resolve(&self, route: &Route, reference: &BackendRef) -> Result<Target, BadRef> {
        let namespace = reference.namespace.as_deref().unwrap_or(&route.metadata().namespace);
        let BackendRef { group, kind, name, .. } = reference;
        match (group.as_str(), kind.as_str()) {
            ("" | "core", "Service") => {
                self.permitted(route, ParentKind::Service, namespace, reference)?;
                let service = self.find_service(namespace, name);
                let service =
                    service.ok_or_else(|| bad("BackendNotFound", format!("there is no Service {namespace}/{name}")))?;
                let Some(port) = reference.port else {
                    return Err(bad(
                        "BackendNotFound",
                        format!("the port of Service {namespace}/{name} is missing"),
                    ));
                };
                if !service
                    .spec
                    .ports
                    .iter()
                    .any(|known| known.port == port && known.is_tcp())
                {
                    return Err(bad(
                        "BackendNotFound",
                        format!("Service {namespace}/{name} has no port {port}"),
                    ));
                }
                Ok(Target::Service(service.clone(), port))
            }
            ("policy.sheer.dev" | "policy.linkerd.io", "EgressNetwork") => {
                self.find_egress(namespace, name).ok_or_else(|| {
                    bad(
                        "BackendNotFound",
                        format!("there is no EgressNetwork {namespace}/{name}"),
                    )
                })?;
                if !names_parent(route, ParentKind::EgressNetwork, namespace, name) {
                    let message = format!(
                        "EgressNetwork {namespace}/{name} can only be the backend of a route that has it as parent"
                    );
                    return Err(bad("RefNotPermitted", message));
                }
                Ok(Target::Egress)
            }
            _ => Err(bad(
                "InvalidKind",
                format!("{kind} of group {group:?} is neither a Service nor an EgressNetwork"),
            )),
        }
    }

    /// A backend in another namespace needs that namespace's ReferenceGrant, unless it is the route's own parent: the client may go there
    /// anyhow (GEP-1426).
    fn permitted(
        &self,
        route: &Route,
        kind: ParentKind,
        namespace: &str,
        reference: &BackendRef,
    ) -> Result<(), BadRef> {
        let own = &route.metadata().namespace;
        if namespace == own || names_parent(route, kind, namespace, &reference.name) {
            return Ok(());
        }
        let (route_group, route_kind) = (route.group(), route.kind().as_str());
        let granted = self.grants(namespace).iter().any(|grant| {
            let from =
                grant.spec.from.iter().any(|from| {
                    from.namespace == *own && from.kind == route_kind && same_group(&from.group, route_group)
                });
            let to = grant.spec.to.iter().any(|to| {
                let kind = matches!(to.group.as_str(), "" | "core") && to.kind == reference.kind;
                kind && to.name.as_ref().is_none_or(|name| *name == reference.name)
            });
            from && to
        });
        if granted {
            return Ok(());
        }
        let message = format!(
            "no ReferenceGrant of namespace {namespace} lets a {route_kind} of namespace {own} name Service {}",
            reference.name
        );
        Err(bad("RefNotPermitted", message))
    }
}

/// Sheer's and Linkerd's group are one.
fn same_group(a: &str, b: &str) -> bool {
    let plain = |group: &str| {
        if group == "policy.sheer.dev" {
            "policy.linkerd.io".to_owned()
        } else {
            group.to_owned()
        }
    };
    plain(a) == plain(b)
}

fn names_parent(route: &Route, kind: ParentKind, namespace: &str, name: &str) -> bool {
    let parents = route.parents().iter();
    let mut parents = parents.filter_map(|parent| ParentKey::of(parent, &route.metadata().namespace));
    parents.any(|parent| parent.kind == kind && parent.namespace == namespace && parent.name == name)
}
