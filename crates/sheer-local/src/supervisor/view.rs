//! What services and pods mean for DNS and for virtual addresses. Pure.

use std::{
    collections::BTreeMap,
    net::{IpAddr, SocketAddr},
    sync::Arc,
};

use sheer_control::objects::{Labels, PodSpec, Service, ServicePort};

use crate::{
    dns::{Host, ServiceNames, Zone},
    rules::ServiceRule,
};

/// A pod, as far as others can see it.
#[derive(Clone, Debug)]
pub(super) struct VisiblePod {
    /// Namespace.
    pub(super) namespace: String,
    /// Name.
    pub(super) name: String,
    /// Labels.
    pub(super) labels: Labels,
    /// Ports by name.
    pub(super) spec: Arc<PodSpec>,
    /// Addresses.
    pub(super) ips: Vec<IpAddr>,
    /// Whether it takes traffic.
    pub(super) ready: bool,
}

/// A service and its virtual addresses (none where it is headless).
#[derive(Clone, Debug)]
pub(super) struct AddressedService {
    /// The service.
    pub(super) service: Arc<Service>,
    /// Virtual addresses.
    pub(super) addresses: Vec<IpAddr>,
}

impl AddressedService {
    /// Pods that its selector matches and that take traffic.
    pub(super) fn endpoints<'a>(&'a self, pods: &'a [VisiblePod]) -> impl Iterator<Item = &'a VisiblePod> {
        let Service { metadata, spec } = &*self.service;
        pods.iter().filter(move |pod| {
            // A service without a selector has no endpoints, rather than all.
            let selected = !spec.selector.is_empty()
                && spec
                    .selector
                    .iter()
                    .all(|(key, value)| pod.labels.get(key) == Some(value));
            selected && pod.namespace == metadata.namespace && (pod.ready || spec.publish_not_ready_addresses)
        })
    }
}

/// Rules for the virtual addresses of all services.
pub(super) fn rules(services: &[AddressedService], pods: &[VisiblePod]) -> Vec<ServiceRule> {
    let mut rules = Vec::new();
    for service in services {
        for port in service.service.spec.ports.iter().filter(|port| port.is_tcp()) {
            for address in &service.addresses {
                let endpoints = service
                    .endpoints(pods)
                    .filter_map(|pod| endpoint(pod, port, *address))
                    .collect();
                rules.push(ServiceRule {
                    address: *address,
                    port: port.port,
                    endpoints,
                });
            }
        }
    }
    rules.sort();
    rules
}

fn endpoint(pod: &VisiblePod, port: &ServicePort, family: IpAddr) -> Option<SocketAddr> {
    let ip = pod.ips.iter().find(|ip| ip.is_ipv4() == family.is_ipv4())?;
    Some(SocketAddr::new(*ip, pod.spec.find_port(&port.target())?))
}

/// What the DNS server answers.
pub(super) fn zone(services: &[AddressedService], pods: &[VisiblePod]) -> Zone {
    let mut zone = Zone::default();
    for service in services {
        let metadata = &service.service.metadata;
        let names = zone.services.entry(metadata.namespace.clone()).or_default();
        names.insert(metadata.name.clone(), names_of(service, pods));
    }
    let clients = pods
        .iter()
        .flat_map(|pod| pod.ips.iter().map(|ip| (*ip, pod.namespace.clone())));
    zone.clients = clients.collect::<BTreeMap<_, _>>();
    zone
}

fn names_of(service: &AddressedService, pods: &[VisiblePod]) -> ServiceNames {
    let named_ports = service
        .service
        .spec
        .ports
        .iter()
        .filter_map(|port| Some((port.name.clone()?, port)));
    if !service.service.is_headless() {
        let ports = named_ports.map(|(name, port)| (name, port.port)).collect();
        return ServiceNames {
            addresses: service.addresses.clone(),
            hosts: Vec::new(),
            ports,
        };
    }
    let endpoints: Vec<&VisiblePod> = service.endpoints(pods).collect();
    let host = |pod: &&VisiblePod| Host {
        name: pod.name.clone(),
        addresses: pod.ips.clone(),
    };
    let target = |port: &ServicePort| {
        endpoints
            .first()
            .and_then(|pod| pod.spec.find_port(&port.target()))
            .unwrap_or(port.port)
    };
    ServiceNames {
        addresses: endpoints.iter().flat_map(|pod| &pod.ips).copied().collect(),
        hosts: endpoints.iter().map(host).collect(),
        ports: named_ports.map(|(name, port)| (name, target(port))).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn service(yaml: &str, addresses: &[&str]) -> AddressedService {
        let service: Service = serde_json::from_str(yaml).expect("a service");
        AddressedService {
            service: Arc::new(service),
            addresses: addresses.iter().map(|ip| ip.parse().expect("ip")).collect(),
        }
    }

    fn pod(name: &str, ip: &str, ready: bool) -> VisiblePod {
        let spec = serde_json::json!({ "containers": [{ "name": "app", "ports": [{ "name": "grpc", "containerPort": 9000 }] }] });
        VisiblePod {
            namespace: "bank".into(),
            name: name.into(),
            labels: [("app".to_owned(), "ledger".to_owned())].into(),
            spec: Arc::new(serde_json::from_value(spec).expect("a spec")),
            ips: vec![ip.parse().expect("ip")],
            ready,
        }
    }

    const LEDGER: &str = r#"{ "metadata": { "name": "ledger", "namespace": "bank" },
        "spec": { "selector": { "app": "ledger" }, "ports": [{ "name": "grpc", "port": 80, "targetPort": "grpc" }] } }"#;

    #[test]
    fn only_ready_pods_of_the_family_are_endpoints() {
        let services = [service(LEDGER, &["10.78.0.5", "fd78::5"])];
        let pods = [pod("ledger-0", "10.77.0.2", true), pod("ledger-1", "10.77.0.3", false)];
        let rules: Vec<String> = rules(&services, &pods)
            .iter()
            .map(|rule| format!("{}:{} {:?}", rule.address, rule.port, rule.endpoints))
            .collect();
        assert_eq!(rules, ["10.78.0.5:80 [10.77.0.2:9000]", "fd78::5:80 []"]);
    }

    #[test]
    fn a_service_without_a_selector_or_of_another_namespace_has_no_endpoints() {
        let none = LEDGER.replace(r#""selector": { "app": "ledger" },"#, "");
        let elsewhere = LEDGER.replace(r#""namespace": "bank""#, r#""namespace": "shop""#);
        let pods = [pod("ledger-0", "10.77.0.2", true)];
        for text in [none, elsewhere] {
            assert!(rules(&[service(&text, &["10.78.0.5"])], &pods)[0].endpoints.is_empty());
        }
    }

    #[test]
    fn names_of_headless_services_are_their_pods() {
        let headless = LEDGER.replace(r#""selector""#, r#""clusterIP": "None", "selector""#);
        let pods = [pod("ledger-0", "10.77.0.2", true), pod("ledger-1", "10.77.0.3", false)];
        let zone = zone(&[service(&headless, &[])], &pods);
        let names = &zone.services["bank"]["ledger"];
        assert_eq!(
            (names.addresses.len(), names.hosts[0].name.as_str(), names.ports[0].1),
            (1, "ledger-0", 9000)
        );
        assert_eq!(zone.clients.len(), 2, "a pod asks before it is ready");
    }
}
