//! What Linkerd's API cannot say of rules and backends.

use sheer_api::{
    linkerd::meta::{Metadata, metadata},
    v1,
};

use super::{Compiler, filters::Actions, settings};
use crate::objects::{Pod, Service, SessionPersistence, SessionType, Traffic, traffic::AffinityKey};

/// A Service's port.
pub(super) fn service(service: &Service, port: u16) -> v1::ObjectRef {
    v1::ObjectRef {
        group: "core".to_owned(),
        kind: "Service".to_owned(),
        namespace: service.metadata.namespace.clone(),
        name: service.metadata.name.clone(),
        section: String::new(),
        port: port.into(),
    }
}

/// A reference of the policy, as the extras have it.
pub(in crate::policy) fn object(metadata: &Metadata) -> v1::ObjectRef {
    match &metadata.kind {
        Some(metadata::Kind::Resource(resource)) => v1::ObjectRef {
            group: resource.group.clone(),
            kind: resource.kind.clone(),
            namespace: resource.namespace.clone(),
            name: resource.name.clone(),
            section: resource.section.clone(),
            port: resource.port,
        },
        Some(metadata::Kind::Default(name)) => v1::ObjectRef {
            kind: "default".to_owned(),
            name: name.clone(),
            ..v1::ObjectRef::default()
        },
        None => v1::ObjectRef::default(),
    }
}

impl Compiler<'_> {
    /// Additions to a rule, where there are any.
    pub(super) fn note_rule(&mut self, route: &Metadata, index: usize, extras: v1::RuleExtras) {
        if extras == v1::RuleExtras::default() {
            return;
        }
        self.extras.rules.push(v1::RuleExtras {
            route: Some(object(route)),
            rule: u32::try_from(index).unwrap_or(u32::MAX),
            ..extras
        });
    }

    /// How a Service asks for its endpoints to be chosen, each Service's port once.
    pub(super) fn note_backend(&mut self, backend: &Service, port: u16) {
        let key = (backend.metadata.namespace.clone(), backend.metadata.name.clone(), port);
        if !self.noted.insert(key) {
            return;
        }
        let said = of_backend(backend, &Traffic::read(&backend.metadata.annotations));
        if said != v1::BackendExtras::default() {
            self.extras.backends.push(v1::BackendExtras {
                backend: Some(service(backend, port)),
                ..said
            });
        }
    }

    /// Sessions of a rule: for the backends that have no affinity of their own.
    pub(super) fn note_session(&mut self, session: Option<&SessionPersistence>, backends: &[super::backends::Share]) {
        let Some(session) = session else { return };
        let Some(name) = session.session_name.clone().filter(|name| !name.is_empty()) else {
            return;
        };
        let key = match session.kind {
            SessionType::Cookie => AffinityKey::Cookie(name),
            SessionType::Header => AffinityKey::Header(name),
        };
        for share in backends.iter().filter(|share| share.invalid.is_none()) {
            let Some(reference) = share.backend.metadata.as_ref().map(object) else {
                continue;
            };
            let known = self
                .extras
                .backends
                .iter_mut()
                .find(|known| known.backend.as_ref() == Some(&reference));
            match known {
                Some(known) => drop(known.affinity.get_or_insert_with(|| affinity(&key))),
                None => self.extras.backends.push(v1::BackendExtras {
                    backend: Some(reference),
                    affinity: Some(affinity(&key)),
                    ..v1::BackendExtras::default()
                }),
            }
        }
    }
}

fn affinity(key: &AffinityKey) -> v1::Affinity {
    use v1::affinity::{ClientIp, Key};
    v1::Affinity {
        key: Some(match key {
            AffinityKey::Header(name) => Key::Header(name.to_ascii_lowercase()),
            AffinityKey::Cookie(name) => Key::Cookie(name.clone()),
            AffinityKey::ClientIp => Key::ClientIp(ClientIp {}),
        }),
    }
}

fn of_backend(backend: &Service, said: &Traffic) -> v1::BackendExtras {
    let client_ip = backend.spec.session_affinity.as_deref() == Some("ClientIP");
    let key = said
        .affinity
        .clone()
        .or_else(|| client_ip.then_some(AffinityKey::ClientIp));
    let prefers = backend.spec.traffic_distribution.as_deref();
    let same_zone = said.same_zone.unwrap_or(matches!(
        prefers,
        Some("PreferClose" | "PreferSameZone" | "PreferSameNode")
    ));
    v1::BackendExtras {
        backend: None,
        slow_start: said.slow_start.and_then(settings::duration),
        affinity: key.as_ref().map(affinity),
        max_ejected_percent: said.max_ejected_percent.unwrap_or(0),
        // The zone is the asking proxy's: it is filled in for each.
        locality: same_zone.then(|| v1::Locality {
            zone: String::new(),
            spill_over_at: said.spill_over.unwrap_or(0.0),
        }),
    }
}

/// The extras for a client: its zone stands where locality is asked for. The same value where nothing asks.
pub(in crate::policy) fn in_zone(extras: &v1::OutboundExtras, client: Option<&Pod>) -> v1::OutboundExtras {
    let mut extras = extras.clone();
    let zone = client.and_then(Pod::zone);
    for backend in &mut extras.backends {
        match (zone, &mut backend.locality) {
            (Some(zone), Some(locality)) => zone.clone_into(&mut locality.zone),
            // A client of unknown zone prefers none.
            _ => backend.locality = None,
        }
    }
    extras
}

/// What filters add to a rule beside the policy's own filters.
pub(super) fn of_actions(actions: &mut Actions) -> v1::RuleExtras {
    v1::RuleExtras {
        mirrors: std::mem::take(&mut actions.mirrors),
        ..v1::RuleExtras::default()
    }
}
