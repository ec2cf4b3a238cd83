//! One state of the mesh, indexed for the questions that proxies ask.

use std::{
    collections::{BTreeMap, HashMap},
    net::IpAddr,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Instant,
};

use super::Diagnosis;
use crate::{
    manifests::{Finding, Manifest},
    objects::{
        AuthorizationPolicy, Deployment, HttpLocalRateLimitPolicy, Kind, MeshTlsAuthentication, Namespace,
        NetworkAuthentication, Object, ObjectId, Pod, Server, ServerAuthorization, Service, StatefulSet,
    },
    routes::RouteIndex,
};

/// Objects by namespace, then name.
type Named<T> = BTreeMap<String, BTreeMap<String, Arc<T>>>;

/// One state of the mesh. Never changes; the next state is another one.
#[derive(Debug)]
pub(crate) struct Snapshot {
    generation: u64,
    namespaces: BTreeMap<String, Arc<Namespace>>,
    services: Named<Service>,
    service_by_address: HashMap<IpAddr, Arc<Service>>,
    pods: Named<Pod>,
    pod_by_address: HashMap<IpAddr, Arc<Pod>>,
    /// Pods of each Service, by namespace and name: every stream of a Service reads the same list.
    pods_by_service: HashMap<(String, String), Vec<Arc<Pod>>>,
    /// Kind and name of the workload that made a pod, by the pod's namespace and name.
    owners: HashMap<(String, String), (Kind, String)>,
    deployments: Named<Deployment>,
    stateful_sets: Named<StatefulSet>,
    servers: Named<Server>,
    policies: Named<AuthorizationPolicy>,
    mesh_tls: Named<MeshTlsAuthentication>,
    networks: Named<NetworkAuthentication>,
    rate_limits: Named<HttpLocalRateLimitPolicy>,
    server_authorizations: Named<ServerAuthorization>,
    routes: RouteIndex,
    /// File and line of what users wrote.
    places: HashMap<ObjectId, (Arc<Path>, u32)>,
    counts: BTreeMap<Kind, u32>,
    diagnosis: Diagnosis,
    /// What all of it was made of: where objects were written, and for states that differ in a few of them.
    written: Vec<Manifest>,
    running: Vec<Manifest>,
}

fn put<T>(map: &mut Named<T>, namespace: &str, name: &str, object: Arc<T>) {
    map.entry(namespace.to_owned())
        .or_default()
        .insert(name.to_owned(), object);
}

fn find<'a, T>(map: &'a Named<T>, namespace: &str, name: &str) -> Option<&'a Arc<T>> {
    map.get(namespace)?.get(name)
}

fn all<'a, T>(map: &'a Named<T>, namespace: &str) -> impl Iterator<Item = &'a Arc<T>> {
    map.get(namespace).into_iter().flat_map(BTreeMap::values)
}

impl Snapshot {
    /// Builds a snapshot from what users wrote and what runs. Only pods that run count; addresses of Services are laid over what
    /// users wrote of them.
    pub(crate) fn new(written: &[Manifest], running: &[Manifest], findings: Vec<Finding>) -> Self {
        static GENERATIONS: AtomicU64 = AtomicU64::new(1);
        let mut snapshot = Self {
            generation: GENERATIONS.fetch_add(1, Ordering::Relaxed),
            namespaces: BTreeMap::new(),
            services: Named::new(),
            service_by_address: HashMap::new(),
            pods: Named::new(),
            pod_by_address: HashMap::new(),
            pods_by_service: HashMap::new(),
            owners: HashMap::new(),
            deployments: Named::new(),
            stateful_sets: Named::new(),
            servers: Named::new(),
            policies: Named::new(),
            mesh_tls: Named::new(),
            networks: Named::new(),
            rate_limits: Named::new(),
            server_authorizations: Named::new(),
            routes: RouteIndex::new(written.iter().map(|manifest| &manifest.object)),
            places: written
                .iter()
                .map(|manifest| (manifest.object.id(), (manifest.file.clone(), manifest.line)))
                .collect(),
            counts: BTreeMap::new(),
            diagnosis: Diagnosis {
                findings,
                changed: Instant::now(),
            },
            written: written.to_vec(),
            running: running.to_vec(),
        };
        for manifest in written {
            *snapshot.counts.entry(manifest.object.kind()).or_default() += 1;
            snapshot.add_written(&manifest.object);
        }
        for manifest in running {
            match &manifest.object {
                Object::Pod(pod) => {
                    put(
                        &mut snapshot.pods,
                        &pod.metadata.namespace,
                        &pod.metadata.name,
                        pod.clone(),
                    );
                    *snapshot.counts.entry(Kind::Pod).or_default() += 1;
                }
                Object::Service(overlay) => snapshot.lay_over(overlay),
                _ => {}
            }
        }
        snapshot.index_addresses();
        snapshot.index_pods();
        snapshot
    }

    fn add_written(&mut self, object: &Object) {
        let (namespace, name) = (object.metadata().namespace.as_str(), object.metadata().name.as_str());
        match object {
            Object::Namespace(o) => drop(self.namespaces.insert(name.to_owned(), o.clone())),
            Object::Service(o) => put(&mut self.services, namespace, name, o.clone()),
            Object::Deployment(o) => put(&mut self.deployments, namespace, name, o.clone()),
            Object::StatefulSet(o) => put(&mut self.stateful_sets, namespace, name, o.clone()),
            Object::Server(o) => put(&mut self.servers, namespace, name, o.clone()),
            Object::AuthorizationPolicy(o) => put(&mut self.policies, namespace, name, o.clone()),
            Object::MeshTlsAuthentication(o) => put(&mut self.mesh_tls, namespace, name, o.clone()),
            Object::NetworkAuthentication(o) => put(&mut self.networks, namespace, name, o.clone()),
            Object::HttpLocalRateLimitPolicy(o) => put(&mut self.rate_limits, namespace, name, o.clone()),
            Object::ServerAuthorization(o) => put(&mut self.server_authorizations, namespace, name, o.clone()),
            // A service account is an identity whether or not it is declared; a pod counts when it runs.
            Object::ServiceAccount(_) | Object::Pod(_) => {}
            // All of these are in the index of routes.
            Object::HttpRoute(_)
            | Object::PolicyHttpRoute(_)
            | Object::GrpcRoute(_)
            | Object::TlsRoute(_)
            | Object::TcpRoute(_)
            | Object::ReferenceGrant(_)
            | Object::EgressNetwork(_)
            | Object::HttpFault(_)
            | Object::ServiceProfile(_) => {}
        }
    }

    /// Gives a Service the addresses that were assigned to it; without the Service itself they mean nothing.
    fn lay_over(&mut self, overlay: &Service) {
        let names = self.services.get_mut(&overlay.metadata.namespace);
        if let Some(service) = names.and_then(|names| names.get_mut(&overlay.metadata.name))
            && !service.is_headless()
        {
            let service = Arc::make_mut(service);
            service.spec.cluster_ip.clone_from(&overlay.spec.cluster_ip);
            service.spec.cluster_ips.clone_from(&overlay.spec.cluster_ips);
        }
    }

    fn index_addresses(&mut self) {
        for service in self.services.values().flat_map(BTreeMap::values) {
            for address in service.addresses() {
                self.service_by_address
                    .entry(address)
                    .or_insert_with(|| service.clone());
            }
        }
        for pod in self
            .pods
            .values()
            .flat_map(BTreeMap::values)
            .filter(|pod| !pod.has_ended())
        {
            for address in pod.addresses() {
                self.pod_by_address.insert(address, pod.clone());
            }
        }
    }

    fn index_pods(&mut self) {
        for service in self.services.values().flat_map(BTreeMap::values) {
            let selector = &service.spec.selector;
            let matches = |pod: &&Arc<Pod>| {
                let labels = &pod.metadata.labels;
                // A Service without a selector has no endpoints, rather than all of them.
                !selector.is_empty()
                    && !pod.has_ended()
                    && selector.iter().all(|(key, value)| labels.get(key) == Some(value))
            };
            let key = (service.metadata.namespace.clone(), service.metadata.name.clone());
            let pods = all(&self.pods, &service.metadata.namespace)
                .filter(matches)
                .cloned()
                .collect();
            self.pods_by_service.insert(key, pods);
        }
        for pod in self.pods.values().flat_map(BTreeMap::values) {
            let (namespace, labels) = (&pod.metadata.namespace, &pod.metadata.labels);
            let deployment = all(&self.deployments, namespace).find(|o| o.spec.selector.matches(labels));
            let set = || all(&self.stateful_sets, namespace).find(|o| o.spec.selector.matches(labels));
            let owner = deployment
                .map(|o| (Kind::Deployment, o.metadata.name.clone()))
                .or_else(|| set().map(|o| (Kind::StatefulSet, o.metadata.name.clone())));
            if let Some(owner) = owner {
                self.owners
                    .insert((namespace.clone(), pod.metadata.name.clone()), owner);
            }
        }
    }

    /// Grows from one snapshot to the next, and is never the same for two.
    pub(crate) fn generation(&self) -> u64 {
        self.generation
    }

    /// A namespace, where one is declared.
    pub(crate) fn find_namespace(&self, name: &str) -> Option<&Namespace> {
        self.namespaces.get(name).map(|namespace| &**namespace)
    }

    /// A Service by name.
    pub(crate) fn find_service(&self, namespace: &str, name: &str) -> Option<&Arc<Service>> {
        find(&self.services, namespace, name)
    }

    /// The Service that has a virtual address.
    pub(crate) fn find_service_at(&self, address: IpAddr) -> Option<&Arc<Service>> {
        self.service_by_address.get(&address)
    }

    /// A running pod by name.
    pub(crate) fn find_pod(&self, namespace: &str, name: &str) -> Option<&Arc<Pod>> {
        find(&self.pods, namespace, name)
    }

    /// The running pod that has an address.
    pub(crate) fn find_pod_at(&self, address: IpAddr) -> Option<&Arc<Pod>> {
        self.pod_by_address.get(&address)
    }

    /// The running pods that a Service's selector matches, ready or not, by name.
    pub(crate) fn pods_of(&self, service: &Service) -> &[Arc<Pod>] {
        let key = (service.metadata.namespace.clone(), service.metadata.name.clone());
        self.pods_by_service.get(&key).map_or(&[], Vec::as_slice)
    }

    /// Kind and name of the workload that made a pod.
    pub(crate) fn owner_of(&self, pod: &Pod) -> Option<&(Kind, String)> {
        self.owners
            .get(&(pod.metadata.namespace.clone(), pod.metadata.name.clone()))
    }

    /// Every Deployment and StatefulSet: kind, namespace, name.
    pub(crate) fn workloads(&self) -> impl Iterator<Item = (Kind, &str, &str)> {
        fn names<T>(kind: Kind, all: &Named<T>) -> impl Iterator<Item = (Kind, &str, &str)> {
            let names = all
                .iter()
                .flat_map(|(namespace, names)| names.keys().map(move |name| (namespace, name)));
            names.map(move |(namespace, name)| (kind, namespace.as_str(), name.as_str()))
        }
        names(Kind::Deployment, &self.deployments).chain(names(Kind::StatefulSet, &self.stateful_sets))
    }

    /// The Servers of a namespace, by name.
    pub(crate) fn servers(&self, namespace: &str) -> impl Iterator<Item = &Arc<Server>> {
        all(&self.servers, namespace)
    }

    /// The AuthorizationPolicies of a namespace, by name.
    pub(crate) fn policies(&self, namespace: &str) -> impl Iterator<Item = &Arc<AuthorizationPolicy>> {
        all(&self.policies, namespace)
    }

    /// A MeshTLSAuthentication by name.
    pub(crate) fn find_mesh_tls(&self, namespace: &str, name: &str) -> Option<&Arc<MeshTlsAuthentication>> {
        find(&self.mesh_tls, namespace, name)
    }

    /// A NetworkAuthentication by name.
    pub(crate) fn find_network(&self, namespace: &str, name: &str) -> Option<&Arc<NetworkAuthentication>> {
        find(&self.networks, namespace, name)
    }

    /// Every Service, by namespace and name.
    pub(crate) fn services(&self) -> impl Iterator<Item = &Arc<Service>> {
        self.services.values().flat_map(BTreeMap::values)
    }

    /// Every running pod, by namespace and name.
    pub(crate) fn pods(&self) -> impl Iterator<Item = &Arc<Pod>> {
        let all = self.pods.values().flat_map(BTreeMap::values);
        all.filter(|pod| !pod.has_ended())
    }

    /// What users wrote.
    pub(crate) fn written(&self) -> &[Manifest] {
        &self.written
    }

    /// The state that would stand with some objects changed or added, and others gone.
    pub(crate) fn with(&self, changed: &[Manifest], deleted: &[ObjectId]) -> Self {
        let is_kept = |manifest: &&Manifest| {
            let id = manifest.object.id();
            !deleted.contains(&id) && !changed.iter().any(|other| other.object.id() == id)
        };
        let kept = self.written.iter().filter(is_kept);
        let written: Vec<Manifest> = kept.chain(changed).cloned().collect();
        Self::new(&written, &self.running, Vec::new())
    }

    /// The HTTPLocalRateLimitPolicies of a namespace, by name.
    pub(crate) fn rate_limits(&self, namespace: &str) -> impl Iterator<Item = &Arc<HttpLocalRateLimitPolicy>> {
        all(&self.rate_limits, namespace)
    }

    /// The ServerAuthorizations of a namespace, by name.
    pub(crate) fn server_authorizations(&self, namespace: &str) -> impl Iterator<Item = &Arc<ServerAuthorization>> {
        all(&self.server_authorizations, namespace)
    }

    /// Routes, and what they may refer to.
    pub(crate) fn routes(&self) -> &RouteIndex {
        &self.routes
    }

    /// File and line where an object was written; `None` where no file has it.
    pub(crate) fn find_place(&self, object: &ObjectId) -> Option<(&Path, u32)> {
        self.places.get(object).map(|(file, line)| (&**file, *line))
    }

    /// How many objects there are of each kind; of pods, those that run.
    pub(crate) fn counts(&self) -> &BTreeMap<Kind, u32> {
        &self.counts
    }

    /// What is wrong, and since when the state stands.
    pub(crate) fn diagnosis(&self) -> &Diagnosis {
        &self.diagnosis
    }

    /// A snapshot of manifests in YAML, for tests of what is made of it.
    #[cfg(test)]
    pub(crate) fn of(written: &str, running: &str) -> Self {
        let read = |text: &str| {
            let loaded = crate::manifests::parse(std::path::Path::new("test.yaml"), text);
            assert!(!loaded.has_errors(), "{:?}", loaded.findings);
            loaded.manifests
        };
        Self::new(&read(written), &read(running), Vec::new())
    }
}
