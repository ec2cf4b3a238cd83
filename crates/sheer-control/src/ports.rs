//! Which ports are opaque, meshed, or in a probe's path: what annotations of pods, Services and namespaces say, in one place for
//! discovery and policy.

use std::collections::BTreeSet;

use sheer_api::names;

use crate::{
    objects::{Labels, Pod, ProxyProtocol, Server, Service, ServicePort, annotation, parse_ports},
    store::Snapshot,
};

/// Whether an annotation lists a port; `None` where the annotation is absent. Mistakes in it were told when the file was read.
fn listed(annotations: &Labels, name: &str, port: u16) -> Option<bool> {
    let ports = parse_ports(annotation(annotations, "config", name)?).unwrap_or_default();
    Some(ports.iter().any(|range| range.contains(&port)))
}

/// An annotation of an object, or else of its namespace.
pub(crate) fn setting<'a>(
    snapshot: &'a Snapshot,
    namespace: &str,
    annotations: &'a Labels,
    name: &str,
) -> Option<&'a str> {
    let of_namespace = || {
        annotation(
            &snapshot.find_namespace(namespace)?.metadata.annotations,
            "config",
            name,
        )
    };
    annotation(annotations, "config", name).or_else(of_namespace)
}

fn listed_or_default(snapshot: &Snapshot, namespace: &str, annotations: &Labels, port: u16) -> bool {
    let own = listed(annotations, "opaque-ports", port);
    let of_namespace = || {
        listed(
            &snapshot.find_namespace(namespace)?.metadata.annotations,
            "opaque-ports",
            port,
        )
    };
    own.or_else(of_namespace)
        .unwrap_or_else(|| names::DEFAULT_OPAQUE_PORTS.contains(&port))
}

/// The Server of a pod's port: the first by name that selects it.
pub(crate) fn find_server<'a>(snapshot: &'a Snapshot, pod: &Pod, port: u16) -> Option<&'a Server> {
    let mut servers = snapshot.servers(&pod.metadata.namespace);
    let selects = |server: &Server| {
        server.spec.pod_selector.matches(&pod.metadata.labels) && pod.spec.find_port(&server.spec.port) == Some(port)
    };
    servers.find(|server| selects(server)).map(|server| &**server)
}

/// Whether a pod's port is never inspected: its Server decides, or else annotations.
pub(crate) fn is_opaque(snapshot: &Snapshot, pod: &Pod, port: u16) -> bool {
    match find_server(snapshot, pod, port).map(|server| server.spec.proxy_protocol) {
        Some(ProxyProtocol::Opaque) => true,
        Some(ProxyProtocol::Http1 | ProxyProtocol::Http2 | ProxyProtocol::Grpc | ProxyProtocol::Tls) => false,
        Some(ProxyProtocol::Unknown) | None => {
            listed_or_default(snapshot, &pod.metadata.namespace, &pod.metadata.annotations, port)
        }
    }
}

/// Whether a Service's port is never inspected: by its annotation, or because a pod behind it says so of the port that it leads to.
pub(crate) fn is_service_opaque(snapshot: &Snapshot, service: &Service, port: &ServicePort) -> bool {
    if let Some(opaque) = listed(&service.metadata.annotations, "opaque-ports", port.port) {
        return opaque;
    }
    let profiles = snapshot
        .routes()
        .profiles_of(&service.metadata.namespace, &service.metadata.name);
    let of_profile =
        |listed: &String| parse_ports(listed).is_ok_and(|ports| ports.iter().any(|range| range.contains(&port.port)));
    if profiles
        .iter()
        .any(|profile| profile.spec.opaque_ports.iter().any(of_profile))
    {
        return true;
    }
    let target = port.target();
    listed_or_default(
        snapshot,
        &service.metadata.namespace,
        &service.metadata.annotations,
        port.port,
    ) || snapshot.pods_of(service).iter().any(|pod| {
        pod.spec
            .find_port(&target)
            .is_some_and(|target| says_opaque(snapshot, pod, target))
    })
}

/// Whether a pod itself says that a port is opaque, defaults aside.
fn says_opaque(snapshot: &Snapshot, pod: &Pod, port: u16) -> bool {
    let by_server = find_server(snapshot, pod, port).map(|server| server.spec.proxy_protocol == ProxyProtocol::Opaque);
    by_server.unwrap_or(false) || listed(&pod.metadata.annotations, "opaque-ports", port).unwrap_or(false)
}

/// Whether connections to a pod's port meet its sidecar's listener, and so mutual TLS. The sidecar's own ports are not redirected, and
/// what listens there speaks plaintext.
pub(crate) fn is_meshed(snapshot: &Snapshot, pod: &Pod, port: u16, control_namespace: &str) -> bool {
    let own = annotation(&pod.metadata.annotations, "", "meshed") == Some("true");
    let linkerd = pod
        .metadata
        .labels
        .get("linkerd.io/control-plane-ns")
        .is_some_and(|namespace| namespace == control_namespace);
    let skipped = setting(
        snapshot,
        &pod.metadata.namespace,
        &pod.metadata.annotations,
        "skip-inbound-ports",
    );
    let skipped = skipped.is_some_and(|text| {
        parse_ports(text)
            .unwrap_or_default()
            .iter()
            .any(|range| range.contains(&port))
    });
    let by_sidecar = matches!(port, names::ADMIN_PORT | names::SIGHT_PORT);
    (own || linkerd) && !skipped && !by_sidecar
}

/// Whether a pod, or its namespace, asks that clients of a port prove an identity, where no Server says who may come in.
pub(crate) fn requires_identity(snapshot: &Snapshot, pod: &Pod, port: u16) -> bool {
    let (namespace, annotations) = (&pod.metadata.namespace, &pod.metadata.annotations);
    let text = setting(snapshot, namespace, annotations, "proxy-require-identity-inbound-ports");
    let ports = text.map(|text| parse_ports(text).unwrap_or_default());
    ports.is_some_and(|ports| ports.iter().any(|range| range.contains(&port)))
}

/// The paths on a port that are let in whatever the policy: those of the pod's probes, and the sidecar's own on its admin port.
pub(crate) fn probe_paths(pod: &Pod, port: u16) -> BTreeSet<String> {
    if port == names::ADMIN_PORT {
        return ["/live", "/ready", "/metrics"].map(str::to_owned).into();
    }
    let probes = pod.spec.containers.iter().flat_map(|container| {
        [
            &container.readiness_probe,
            &container.liveness_probe,
            &container.startup_probe,
        ]
        .into_iter()
        .flatten()
    });
    let actions = probes.filter_map(|probe| probe.http_get.as_ref());
    let on_port = actions.filter(|action| pod.spec.find_port(&action.port) == Some(port));
    on_port
        .map(|action| action.path.clone().unwrap_or_else(|| "/".to_owned()))
        .collect()
}
