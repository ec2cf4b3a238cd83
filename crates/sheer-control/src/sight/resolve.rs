//! What an operator means: `deploy/web`, `pod/web-0`, `svc/ledger:8080`, an address.

use std::{net::SocketAddr, sync::Arc};

use tonic::Status;

use crate::{
    config::MeshConfig,
    objects::{Kind, Pod, Service},
    store::Snapshot,
};

/// Where a request goes.
#[derive(Clone, Debug)]
pub(super) struct Destination {
    /// The address that the application connects to.
    pub(super) address: SocketAddr,
    /// Others of the same destination.
    pub(super) also: Vec<SocketAddr>,
    /// What the application calls it, as `ledger.bank:8080`.
    pub(super) authority: String,
}

/// The pods that a reference means, ready ones first. An error where there are none, or where they are of several namespaces.
pub(super) fn pods(snapshot: &Snapshot, reference: &str, namespace: &str) -> Result<Vec<Arc<Pod>>, Status> {
    if let Some(("ns" | "namespace" | "namespaces", name)) = reference.split_once('/') {
        return pods_in(snapshot, name);
    }
    let (kind, name) = match reference.split_once('/') {
        Some((kind, name)) => (Some(kind_of(kind, reference)?), name),
        None => (None, reference),
    };
    let (name, namespace) = match name.split_once('.') {
        Some((name, own)) if namespace.is_empty() => (name, own),
        _ => (name, namespace),
    };
    let means = |pod: &&Arc<Pod>| {
        let owner = snapshot.owner_of(pod);
        let by_owner = owner.is_some_and(|(own, of)| of == name && kind.is_none_or(|kind| kind == *own));
        let by_name = pod.metadata.name == name && kind.is_none_or(|kind| kind == Kind::Pod);
        (by_owner || by_name) && (namespace.is_empty() || pod.metadata.namespace == namespace)
    };
    let mut pods: Vec<_> = snapshot.pods().filter(means).cloned().collect();
    pods.sort_by_key(|pod| !pod.is_ready());
    let Some(first) = pods.first() else {
        let place = if namespace.is_empty() {
            String::new()
        } else {
            format!(" in namespace {namespace}")
        };
        return Err(Status::not_found(format!(
            "no pod of {reference} runs{place}: `sheer ps` shows what runs"
        )));
    };
    let other = pods
        .iter()
        .find(|pod| pod.metadata.namespace != first.metadata.namespace);
    if let Some(other) = other {
        return Err(Status::invalid_argument(format!(
            "{reference} is in {} and in {}: choose with -n",
            first.metadata.namespace, other.metadata.namespace
        )));
    }
    Ok(pods)
}

/// Every pod of a namespace, ready ones first.
fn pods_in(snapshot: &Snapshot, namespace: &str) -> Result<Vec<Arc<Pod>>, Status> {
    let own = snapshot.pods().filter(|pod| pod.metadata.namespace == namespace);
    let mut pods: Vec<_> = own.cloned().collect();
    pods.sort_by_key(|pod| !pod.is_ready());
    if pods.is_empty() {
        return Err(Status::not_found(format!(
            "no pod runs in namespace {namespace}: `sheer ps` shows what runs"
        )));
    }
    Ok(pods)
}

fn kind_of(kind: &str, reference: &str) -> Result<Kind, Status> {
    match kind {
        "deploy" | "deployment" | "deployments" => Ok(Kind::Deployment),
        "sts" | "statefulset" | "statefulsets" => Ok(Kind::StatefulSet),
        "po" | "pod" | "pods" => Ok(Kind::Pod),
        _ => Err(Status::invalid_argument(format!(
            "{reference:?} names no workload; write it as deploy/web, sts/db, pod/web-0 or, for all of a namespace, ns/bank"
        ))),
    }
}

/// Where `to` leads, seen from a namespace.
pub(super) fn destination(
    snapshot: &Snapshot,
    config: &MeshConfig,
    to: &str,
    namespace: &str,
) -> Result<Destination, Status> {
    if let Ok(address) = to.parse::<SocketAddr>() {
        return Ok(Destination {
            address,
            also: Vec::new(),
            authority: to.to_owned(),
        });
    }
    let (kind, rest) = match to.split_once('/') {
        Some((kind, rest)) => (kind, rest),
        None => ("svc", to),
    };
    let (name, port) = match rest.rsplit_once(':') {
        Some((name, port)) => {
            let port = port.parse::<u16>().ok().filter(|port| *port != 0);
            let wrong = || Status::invalid_argument(format!("{to:?} has no port; write it as svc/ledger:8080"));
            (name, Some(port.ok_or_else(wrong)?))
        }
        None => (rest, None),
    };
    match kind {
        "svc" | "service" | "services" => {
            let service = service(snapshot, config, name, namespace)?;
            of_service(service, port, to)
        }
        "po" | "pod" | "pods" | "deploy" | "deployment" | "sts" | "statefulset" => {
            let pods = pods(snapshot, &format!("{kind}/{name}"), namespace)?;
            let pod = &pods[0];
            let port = port.ok_or_else(|| Status::invalid_argument(format!("name a port of {to}, as {to}:8080")))?;
            let ip = pod.addresses().first().copied();
            let ip = ip.ok_or_else(|| Status::unavailable(format!("{} has no address yet", pod.metadata.name)))?;
            let address = SocketAddr::new(ip, port);
            Ok(Destination {
                address,
                also: Vec::new(),
                authority: address.to_string(),
            })
        }
        _ => Err(Status::invalid_argument(format!(
            "{to:?} is no destination; write it as svc/ledger:8080, pod/ledger-0:8080 or an address with a port"
        ))),
    }
}

/// `ledger`, `ledger.bank` or the whole name.
pub(super) fn service<'a>(
    snapshot: &'a Snapshot,
    config: &MeshConfig,
    name: &str,
    namespace: &str,
) -> Result<&'a Arc<Service>, Status> {
    let short = name
        .strip_suffix(&format!(".svc.{}", config.cluster_domain))
        .or_else(|| name.strip_suffix(".svc"))
        .unwrap_or(name);
    let (name, namespace) = short.split_once('.').unwrap_or((short, namespace));
    let found = snapshot.find_service(namespace, name);
    found.ok_or_else(|| {
        let elsewhere: Vec<_> = snapshot
            .services()
            .filter(|service| service.metadata.name == name)
            .map(|service| service.metadata.namespace.as_str())
            .collect();
        let hint = if elsewhere.is_empty() {
            String::new()
        } else {
            format!("; there is one in {}", elsewhere.join(", "))
        };
        Status::not_found(format!("there is no service {name} in namespace {namespace}{hint}"))
    })
}

fn of_service(service: &Service, port: Option<u16>, to: &str) -> Result<Destination, Status> {
    let port = match (port, &service.spec.ports[..]) {
        (Some(port), _) => port,
        (None, [only]) => only.port,
        (None, ports) => {
            let ports: Vec<_> = ports.iter().map(|port| port.port.to_string()).collect();
            return Err(Status::invalid_argument(format!(
                "{to} has the ports {}: choose one, as {to}:{}",
                ports.join(", "),
                ports.first().map_or("8080", String::as_str)
            )));
        }
    };
    let (name, namespace) = (&service.metadata.name, &service.metadata.namespace);
    let addresses = service.addresses();
    let Some((ip, others)) = addresses.split_first() else {
        return Err(Status::failed_precondition(format!(
            "service {namespace}/{name} has no address of its own (it is headless): name a pod, as pod/{name}-0:{port}"
        )));
    };
    Ok(Destination {
        address: SocketAddr::new(*ip, port),
        also: others.iter().map(|ip| SocketAddr::new(*ip, port)).collect(),
        authority: format!("{name}.{namespace}:{port}"),
    })
}
