//! What is behind a name or an address: a service, one pod, or nothing that the mesh knows.

use std::{net::SocketAddr, time::Duration};

use sheer_api::linkerd::{
    destination::{DestinationProfile, RetryBudget},
    meta::{Metadata, Resource, metadata},
};

use super::{endpoints, service_profile};
use crate::{
    config::MeshConfig,
    objects::{Pod, Service},
    ports,
    store::Snapshot,
};

/// Linkerd's default. Without routes that may be retried it does nothing, but proxies expect one.
pub(super) fn retry_budget() -> Option<RetryBudget> {
    let ttl = Duration::from_secs(10).try_into().ok();
    Some(RetryBudget {
        retry_ratio: 0.2,
        min_retries_per_second: 10,
        ttl,
    })
}

/// An address that the mesh does not know: proxies forward to it as it is.
pub(super) fn unknown() -> DestinationProfile {
    DestinationProfile {
        retry_budget: retry_budget(),
        ..DestinationProfile::default()
    }
}

/// A service's port, for the clients of a namespace: with the routes of its ServiceProfile, where it has one.
pub(super) fn of_service(
    snapshot: &Snapshot,
    config: &MeshConfig,
    service: &Service,
    port: u16,
    client: &str,
) -> DestinationProfile {
    let known = service.spec.ports.iter().find(|known| known.port == port);
    let written = snapshot.routes().find_profile(client, service, &config.cluster_domain);
    let of_profile = written
        .map(|written| service_profile::to_message(written))
        .unwrap_or_else(unknown);
    DestinationProfile {
        fully_qualified_name: service.fqdn(&config.cluster_domain),
        opaque_protocol: known.is_some_and(|known| ports::is_service_opaque(snapshot, service, known)),
        parent_ref: Some(Metadata {
            kind: Some(metadata::Kind::Resource(Resource {
                group: "core".to_owned(),
                kind: "Service".to_owned(),
                name: service.metadata.name.clone(),
                namespace: service.metadata.namespace.clone(),
                port: port.into(),
                ..Resource::default()
            })),
        }),
        ..of_profile
    }
}

/// A pod's port, addressed directly.
pub(super) fn of_pod(snapshot: &Snapshot, config: &MeshConfig, pod: &Pod, address: SocketAddr) -> DestinationProfile {
    let mut endpoint = endpoints::of_pod(snapshot, config, pod, address);
    // There is no set around it that would carry the namespace.
    endpoint
        .metric_labels
        .insert("namespace".to_owned(), pod.metadata.namespace.clone());
    DestinationProfile {
        opaque_protocol: ports::is_opaque(snapshot, pod, address.port()),
        endpoint: Some(endpoint),
        ..unknown()
    }
}
