//! Names for what proxies know by address.

use std::{
    collections::HashSet,
    net::{IpAddr, SocketAddr},
    sync::Arc,
};

use sheer_api::v1;

use super::{Hidden, name};
use crate::{objects::Pod, sight::dump, store::Snapshot};

/// The pod at an address.
pub(super) fn find_pod(snapshot: &Snapshot, address: &str) -> Option<Arc<Pod>> {
    ip_of(address).and_then(|ip| snapshot.find_pod_at(ip)).cloned()
}

/// Whether an address is of one of these.
pub(super) fn is_one_of(ips: &HashSet<IpAddr>, address: &str) -> bool {
    ip_of(address).is_some_and(|ip| ips.contains(&ip))
}

/// The pod at an address, by name and by what made it; both empty where there is none.
pub(super) fn pod_at(snapshot: &Snapshot, address: &str) -> (String, String) {
    let found = ip_of(address).and_then(|ip| snapshot.find_pod_at(ip));
    found.map_or_else(Default::default, |pod| (name(pod), dump::workload(snapshot, pod)))
}

fn ip_of(address: &str) -> Option<IpAddr> {
    address.parse::<SocketAddr>().ok().map(|address| address.ip())
}

/// Fills in who is at the other end. Of the application beside a proxy that is the pod itself. False where nobody may look at it.
pub(super) fn fill(snapshot: &Snapshot, hidden: &Hidden, connection: &mut v1::Connection, own: (&str, &str)) -> bool {
    if hidden.hides_connection(connection) {
        return false;
    }
    if connection.peer == "app" {
        (connection.remote_pod, connection.remote_workload) = (own.0.to_owned(), own.1.to_owned());
        return true;
    }
    (connection.remote_pod, connection.remote_workload) = pod_at(snapshot, &connection.remote);
    if connection.name.is_empty() && !connection.accepted {
        connection.name =
            match snapshot.find_service_at(ip_of(&connection.remote).unwrap_or(IpAddr::from([0, 0, 0, 0]))) {
                Some(service) => format!("{}.{}", service.metadata.name, service.metadata.namespace),
                None => String::new(),
            };
    }
    true
}
