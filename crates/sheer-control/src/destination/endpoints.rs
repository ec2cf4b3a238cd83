//! The endpoints of a service, and the smallest updates from one set of them to the next.

use std::{
    collections::{BTreeMap, HashMap},
    net::{IpAddr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use sheer_api::{
    linkerd::{
        destination::{
            AddrSet, Http2ClientParams, NoEndpoints, ProtocolHint, TlsIdentity, Update, WeightedAddr, WeightedAddrSet,
            http2_client_params::KeepAlive,
            protocol_hint::{self, H2, Opaque, OpaqueTransport},
            tls_identity::{DnsLikeIdentity, Strategy},
            update,
        },
        meta::{Metadata, Resource, metadata},
    },
    names,
};

use crate::{
    config::MeshConfig,
    objects::{Kind, Pod, Service, annotation, parse_weight},
    ports,
    store::Snapshot,
};

/// Weight of an endpoint like any other; proxies divide by it.
const WEIGHT: u32 = 10_000;
/// PINGs of a connection between sidecars, as Linkerd's chart has them: a peer that vanished is noticed within 13 seconds.
const KEEP_ALIVE_INTERVAL: Duration = Duration::from_secs(10);
const KEEP_ALIVE_TIMEOUT: Duration = Duration::from_secs(3);

/// The endpoints of a service's port, with the labels that all of them share.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Endpoints {
    labels: HashMap<String, String>,
    endpoints: BTreeMap<SocketAddr, WeightedAddr>,
}

/// The ready pods behind a service's port.
pub(super) fn of_service(snapshot: &Snapshot, config: &MeshConfig, service: &Service, port: u16) -> Endpoints {
    of_pods(snapshot, config, (service, port), |_| true)
}

/// One pod of a headless service, by its name; `None` where the service has no such pod.
pub(super) fn of_host(
    snapshot: &Snapshot,
    config: &MeshConfig,
    service: &Service,
    port: u16,
    name: &str,
) -> Option<Endpoints> {
    let is_it = |pod: &Pod| pod.metadata.name == name;
    let exists = service.is_headless() && snapshot.pods_of(service).iter().any(|pod| is_it(pod));
    exists.then(|| of_pods(snapshot, config, (service, port), is_it))
}

fn of_pods(
    snapshot: &Snapshot,
    config: &MeshConfig,
    (service, port): (&Service, u16),
    wanted: impl Fn(&Pod) -> bool,
) -> Endpoints {
    let labels = [
        ("namespace", &service.metadata.namespace),
        ("service", &service.metadata.name),
    ];
    let labels = labels
        .into_iter()
        .map(|(key, value)| (key.to_owned(), value.clone()))
        .collect();
    let Some(port) = service
        .spec
        .ports
        .iter()
        .find(|known| known.port == port && known.is_tcp())
    else {
        return Endpoints {
            labels,
            endpoints: BTreeMap::new(),
        };
    };
    let family = service.addresses().first().map(IpAddr::is_ipv6);
    let takes_traffic = |pod: &&Arc<Pod>| wanted(pod) && (pod.is_ready() || service.spec.publish_not_ready_addresses);
    let mut endpoints = BTreeMap::new();
    for pod in snapshot.pods_of(service).iter().filter(takes_traffic) {
        if let (Some(ip), Some(port)) = (address(pod, family), pod.spec.find_port(&port.target())) {
            let address = SocketAddr::new(ip, port);
            endpoints.insert(address, of_pod(snapshot, config, pod, address));
        }
    }
    Endpoints { labels, endpoints }
}

/// One address a pod: of the service's family, or else the pod's first.
fn address(pod: &Pod, ipv6: Option<bool>) -> Option<IpAddr> {
    let addresses = pod.addresses();
    let of_family = addresses.iter().find(|address| ipv6 == Some(address.is_ipv6()));
    of_family.or_else(|| addresses.first()).copied()
}

/// One pod's port as an endpoint.
pub(super) fn of_pod(snapshot: &Snapshot, config: &MeshConfig, pod: &Pod, address: SocketAddr) -> WeightedAddr {
    let meshed = ports::is_meshed(snapshot, pod, address.port(), &config.control_namespace);
    let mut endpoint = WeightedAddr {
        addr: Some(address.into()),
        weight: weight(pod),
        metric_labels: pod_labels(snapshot, config, pod, meshed),
        resource_ref: Some(Metadata {
            kind: Some(metadata::Kind::Resource(Resource {
                group: "core".to_owned(),
                kind: "Pod".to_owned(),
                name: pod.metadata.name.clone(),
                namespace: pod.metadata.namespace.clone(),
                ..Resource::default()
            })),
        }),
        ..WeightedAddr::default()
    };
    if meshed {
        let identity = DnsLikeIdentity {
            name: config.pod_identity(pod),
        };
        endpoint.tls_identity = Some(TlsIdentity {
            strategy: Some(Strategy::DnsLikeIdentity(identity.clone())),
            server_name: Some(identity),
        });
        endpoint.protocol_hint = Some(protocol_hint(ports::is_opaque(snapshot, pod, address.port())));
        endpoint.http2 = Some(Http2ClientParams {
            keep_alive: Some(KeepAlive {
                interval: KEEP_ALIVE_INTERVAL.try_into().ok(),
                timeout: KEEP_ALIVE_TIMEOUT.try_into().ok(),
                while_idle: true,
            }),
            ..Http2ClientParams::default()
        });
    }
    endpoint
}

/// What an annotation of the pod says, relative to an endpoint like any other. A mistake in it is a finding; here it means nothing.
fn weight(pod: &Pod) -> u32 {
    let said = annotation(&pod.metadata.annotations, "balancer", "weight");
    let factor = said.and_then(|text| parse_weight(text).ok()).unwrap_or(1.0);
    // At most 100 times 10,000; 0 would mean "not said".
    (f64::from(WEIGHT) * factor).round().max(1.0) as u32
}

fn protocol_hint(opaque: bool) -> ProtocolHint {
    use protocol_hint::Protocol;
    ProtocolHint {
        protocol: Some(if opaque {
            Protocol::Opaque(Opaque {})
        } else {
            Protocol::H2(H2 {})
        }),
        opaque_transport: Some(OpaqueTransport {
            inbound_port: names::INBOUND_PORT.into(),
        }),
    }
}

/// Linkerd's labels of an endpoint; proxies prefix them with `dst_`.
fn pod_labels(snapshot: &Snapshot, config: &MeshConfig, pod: &Pod, meshed: bool) -> HashMap<String, String> {
    let mut labels = HashMap::new();
    let mut put = |key: &str, value: &str| drop(labels.insert(key.to_owned(), value.to_owned()));
    put("pod", &pod.metadata.name);
    put("serviceaccount", pod.service_account());
    put("zone", pod.zone().unwrap_or_default());
    if let Some((kind, name)) = snapshot.owner_of(pod) {
        put(
            if *kind == Kind::StatefulSet {
                "statefulset"
            } else {
                "deployment"
            },
            name,
        );
    }
    if let Some(hash) = pod.metadata.labels.get("pod-template-hash") {
        put("pod_template_hash", hash);
    }
    if meshed {
        put("control_plane_ns", &config.control_namespace);
    }
    labels
}

/// What a client was told last.
#[derive(Debug, Default)]
pub(super) enum Sent {
    /// Nothing yet.
    #[default]
    Nothing,
    /// That the service does not exist.
    Missing,
    /// These endpoints, none of them where empty.
    Endpoints(Arc<Endpoints>),
}

impl Sent {
    /// The updates that bring a client to the new state (`None`: there is no such service). None where nothing changed.
    pub(super) fn advance(&mut self, new: Option<Arc<Endpoints>>) -> Vec<Update> {
        let Some(new) = new else {
            let told = matches!(self, Self::Missing);
            *self = Self::Missing;
            return if told { Vec::new() } else { vec![no_endpoints(false)] };
        };
        let old = match std::mem::replace(self, Self::Endpoints(new.clone())) {
            Self::Endpoints(old) if Arc::ptr_eq(&old, &new) => return Vec::new(),
            Self::Endpoints(old) => old,
            Self::Nothing | Self::Missing if new.endpoints.is_empty() => return vec![no_endpoints(true)],
            Self::Nothing | Self::Missing => Arc::default(),
        };
        let all = old.labels != new.labels;
        let added = new
            .endpoints
            .iter()
            .filter(|(address, endpoint)| all || old.endpoints.get(address) != Some(endpoint));
        let added: Vec<WeightedAddr> = added.map(|(_, endpoint)| endpoint.clone()).collect();
        let removed = old
            .endpoints
            .keys()
            .filter(|address| !new.endpoints.contains_key(address));
        let removed: Vec<_> = removed.map(|address| (*address).into()).collect();
        // First what is new: a client must not run dry in between.
        let mut updates = Vec::new();
        if !added.is_empty() {
            let set = WeightedAddrSet {
                addrs: added,
                metric_labels: new.labels.clone(),
            };
            updates.push(Update {
                update: Some(update::Update::Add(set)),
            });
        }
        if !removed.is_empty() {
            updates.push(Update {
                update: Some(update::Update::Remove(AddrSet { addrs: removed })),
            });
        }
        updates
    }
}

fn no_endpoints(exists: bool) -> Update {
    Update {
        update: Some(update::Update::NoEndpoints(NoEndpoints { exists })),
    }
}
