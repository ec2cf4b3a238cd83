//! All pods of the mesh and what they shall be: the one task that owns the state.
//!
//! Every pass does the same, whatever woke it: work out what shall run, start and stop pods, publish what runs. A pass costs little and
//! is idempotent, so nothing has to be remembered between passes.

mod answer;
mod endings;
mod summary;

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{IpAddr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use sheer_control::manifests::{Loaded, Severity};
use tokio::{
    sync::{Notify, mpsc, watch},
    task::JoinSet,
    time::{Instant, sleep, timeout},
};

use endings::Places;

use super::{
    api::Asked,
    forward::Routes,
    plan::{self, Action, Existing},
    scrape::ScrapeWriter,
    status::{self, StatusWriter},
    usage::Usage,
    view::{self, AddressedService, VisiblePod},
};
use crate::{
    addresses::{Pair, PodAddresses, ServiceAddresses},
    dns::SharedZone,
    launch::{Event, Refusals},
    logs,
    pod::{
        NewPod, Phase, PodHandle, Stop,
        program::ProgramCell,
        run::{self, MeshContext},
    },
    rules,
    workload::{Desired, Overrides, PublishTarget, Workload, desired},
};

/// Changes that come within this are one pass.
const SETTLE: Duration = Duration::from_millis(2);
/// All pods together may take so long to end; what is left then ends with the pid namespace.
const LONGEST_END: Duration = Duration::from_secs(10);
/// Logs of pods that are kept for each workload.
const KEPT_LOGS: usize = 8;

type Key = (String, String);

/// What the fleet is made from.
pub(super) struct Parts {
    pub(super) mesh: Arc<MeshContext>,
    pub(super) manifests: watch::Receiver<Arc<Loaded>>,
    pub(super) asked: mpsc::Receiver<Asked>,
    pub(super) events: mpsc::UnboundedSender<Event>,
    pub(super) zone: SharedZone,
    pub(super) routes: Routes,
    pub(super) usage: Usage,
    pub(super) control: Arc<ProgramCell>,
    pub(super) changed: Arc<Notify>,
    pub(super) refusals: mpsc::UnboundedReceiver<Refusals>,
}

/// All pods of the mesh and what they shall be.
pub(super) struct Fleet {
    parts: Parts,
    overrides: Overrides,
    desired: Desired,
    pods: BTreeMap<Key, Arc<PodHandle>>,
    tasks: JoinSet<()>,
    pod_addresses: PodAddresses,
    service_addresses: ServiceAddresses,
    assigned: BTreeMap<Key, Pair>,
    rules: Arc<str>,
    status: StatusWriter,
    scrape: ScrapeWriter,
    published: Vec<u16>,
    /// Of these, those that the outer process could not open, and why.
    refused: BTreeMap<u16, String>,
    /// What was last said of the control plane's end.
    control_end: String,
    warned: Vec<String>,
    /// Ports on which workloads do not listen, as was last said.
    silent_ports: BTreeSet<String>,
    /// Which file declares each workload.
    places: Places,
    progress: String,
    started: Instant,
    was_ready: bool,
}

impl Fleet {
    pub(super) fn new(parts: Parts) -> Self {
        Self {
            status: StatusWriter::new(parts.mesh.state.status()),
            scrape: ScrapeWriter::new(parts.mesh.state.prometheus()),
            parts,
            overrides: Overrides::default(),
            desired: Desired::default(),
            pods: BTreeMap::new(),
            tasks: JoinSet::new(),
            pod_addresses: PodAddresses::default(),
            service_addresses: ServiceAddresses::default(),
            assigned: BTreeMap::new(),
            rules: rules::services(&[]).into(),
            published: Vec::new(),
            refused: BTreeMap::new(),
            control_end: String::new(),
            warned: Vec::new(),
            silent_ports: BTreeSet::new(),
            places: Places::new(),
            progress: String::new(),
            started: Instant::now(),
            was_ready: false,
        }
    }

    /// Runs until `end` is done or somebody asks for the end; returns once every pod is gone.
    pub(super) async fn run(mut self, end: impl Future<Output = ()>) {
        tokio::pin!(end);
        self.read_manifests();
        loop {
            self.pass();
            let changed = Arc::clone(&self.parts.changed);
            tokio::select! {
                biased; // the end first: whatever else there is to do does not matter then
                () = &mut end => break,
                Some((request, reply)) = self.parts.asked.recv() => {
                    let down = matches!(request, crate::protocol::Request::Down);
                    // Somebody who does not wait for the answer has lost nothing.
                    let _ = reply.send(self.answer(request));
                    if down {
                        break;
                    }
                }
                Ok(()) = self.parts.manifests.changed() => self.read_manifests(),
                Some(Refusals(refused)) = self.parts.refusals.recv() => self.refused = refused,
                () = changed.notified() => sleep(SETTLE).await,
            }
        }
        self.end().await;
    }

    fn read_manifests(&mut self) {
        let manifests = self.parts.manifests.borrow_and_update().clone();
        self.desired = desired(&manifests.manifests, &self.overrides);
        self.overrides.forget_ended(&self.desired);
        let places = endings::places(&manifests.manifests);
        for text in endings::endings(&self.places, &places, std::path::Path::exists) {
            self.tell(Event::Warning { text });
        }
        self.places = places;
        let errors = manifests
            .findings
            .iter()
            .filter(|finding| finding.severity == Severity::Error);
        let errors = errors.map(|finding| format!("{finding} (what it said before stays in force)"));
        let unhonoured = manifests
            .findings
            .iter()
            .filter(|finding| finding.severity == Severity::Warning)
            .map(ToString::to_string);
        let warnings: Vec<String> = errors.chain(unhonoured).chain(self.desired.warnings.clone()).collect();
        for text in warnings.iter().filter(|text| !self.warned.contains(text)) {
            self.tell(Event::Warning { text: text.clone() });
        }
        self.warned = warnings;
    }

    /// One pass: idempotent.
    fn pass(&mut self) {
        self.forget_gone();
        self.assign_services();
        for action in self.plan() {
            self.act(action);
        }
        self.publish();
        self.report_control();
        self.report_silent_ports();
        self.report();
    }

    /// Says once how the control plane ended: everything waits for it.
    fn report_control(&mut self) {
        let control = self.parts.control.state();
        let Some(exit) = control.last_exit else { return };
        let words = control.last_words.map(|words| format!(": {words}")).unwrap_or_default();
        let text = format!(
            "the control plane has ended ({exit}){words}. It is started again; `sheer logs control` has the rest."
        );
        if text != self.control_end {
            self.control_end.clone_from(&text);
            self.tell(Event::Warning { text });
        }
    }

    /// Says once of each workload on which of its ports nobody listens.
    fn report_silent_ports(&mut self) {
        let pods = self.pods.values().filter(|pod| !pod.is_stopping());
        let silent: BTreeSet<String> = pods.flat_map(|pod| summary::silent_ports(pod)).collect();
        for text in silent.difference(&self.silent_ports) {
            self.tell(Event::Warning { text: text.clone() });
        }
        self.silent_ports = silent;
    }

    fn forget_gone(&mut self) {
        while self.tasks.try_join_next().is_some() {}
        let gone: Vec<Key> = self
            .pods
            .iter()
            .filter(|(_, pod)| pod.phase() == Phase::Gone)
            .map(|(key, _)| key.clone())
            .collect();
        for key in gone {
            let pod = self.pods.remove(&key).expect("just listed");
            self.pod_addresses.release(pod.addresses);
            let folder = self.parts.mesh.state.pod_logs(&pod.workload.id, &pod.name);
            if let Some(workload) = folder.parent()
                && let Err(error) = logs::prune(workload, KEPT_LOGS)
            {
                tracing::warn!(folder = %workload.display(), %error, "old logs cannot be removed");
            }
        }
    }

    fn assign_services(&mut self) {
        let gone: Vec<Key> = self
            .assigned
            .keys()
            .filter(|key| !self.desired.services.contains_key(*key))
            .cloned()
            .collect();
        for key in gone {
            let pair = self.assigned.remove(&key).expect("just listed");
            self.service_addresses.release(pair);
        }
        for (key, service) in &self.desired.services {
            let wants = !service.is_headless() && service.addresses().is_empty();
            if wants && !self.assigned.contains_key(key) {
                match self.service_addresses.take(&key.0, &key.1) {
                    Some(pair) => {
                        self.assigned.insert(key.clone(), pair);
                    }
                    None => tracing::error!(service = key.1, "no virtual address is free"),
                }
            }
        }
    }

    fn plan(&self) -> Vec<(Option<Arc<Workload>>, Key, Action)> {
        let mut actions = Vec::new();
        for (id, workload) in &self.desired.workloads {
            let pods = self.pods.values().filter(|pod| pod.workload.id == *id);
            let existing: Vec<Existing> = pods.map(|pod| existing(pod)).collect();
            for action in plan::plan(workload, &existing) {
                let (Action::Start(name) | Action::Stop(name)) = &action;
                actions.push((Some(Arc::clone(workload)), (id.namespace.clone(), name.clone()), action));
            }
        }
        let orphans = self
            .pods
            .iter()
            .filter(|(_, pod)| !self.desired.workloads.contains_key(&pod.workload.id) && !pod.is_stopping());
        actions.extend(orphans.map(|(key, _)| (None, key.clone(), Action::Stop(key.1.clone()))));
        actions
    }

    fn act(&mut self, (workload, key, action): (Option<Arc<Workload>>, Key, Action)) {
        match (action, workload) {
            (Action::Start(name), Some(workload)) if !self.pods.contains_key(&key) => self.start(key, name, workload),
            (Action::Stop(_), _) => {
                if let Some(pod) = self.pods.get(&key) {
                    pod.stop(Stop::Gently);
                }
            }
            // A name that another workload's pod has: it is free once that pod is gone.
            (Action::Start(_), _) => {}
        }
    }

    fn start(&mut self, key: Key, name: String, workload: Arc<Workload>) {
        let Some(addresses) = self.pod_addresses.take() else {
            tracing::error!(pod = name, "no address is free");
            return;
        };
        let (ipv6, changed, rules) = (
            self.parts.mesh.ipv6,
            Arc::clone(&self.parts.changed),
            Arc::clone(&self.rules),
        );
        let pod = PodHandle::new(NewPod {
            name,
            workload,
            addresses,
            rules,
            ipv6,
            changed,
        });
        self.tasks
            .spawn(run::run(Arc::clone(&pod), Arc::clone(&self.parts.mesh)));
        self.pods.insert(key, pod);
    }

    /// What others see of the mesh: virtual addresses, names, status files, published ports.
    fn publish(&mut self) {
        let (services, pods) = (self.addressed_services(), self.visible_pods());
        let rules: Arc<str> = rules::services(&view::rules(&services, &pods)).into();
        if rules != self.rules {
            self.rules = rules;
            for pod in self.pods.values() {
                pod.rules.send_replace(Arc::clone(&self.rules));
            }
        }
        self.parts.zone.replace(view::zone(&services, &pods));
        let overlays = services
            .iter()
            .filter(|service| !service.addresses.is_empty())
            .map(|service| {
                let metadata = &service.service.metadata;
                status::service(&metadata.namespace, &metadata.name, &service.addresses)
            });
        let pods_status = self.pods.values().map(|pod| status::pod(pod.to_object()));
        if let Err(error) = self.status.write(pods_status.chain(overlays)) {
            tracing::error!(%error, "the control plane does not learn what runs: the status directory cannot be written");
        }
        if let Err(error) = self.scrape.write(self.pods.values().map(|pod| &**pod)) {
            tracing::error!(%error, "Prometheus does not learn what runs: its targets cannot be written");
        }
        self.publish_ports(&services, &pods);
    }

    fn addressed_services(&self) -> Vec<AddressedService> {
        let both = |pair: Pair| -> Vec<IpAddr> {
            pair.both()
                .into_iter()
                .filter(|ip| self.parts.mesh.ipv6 || ip.is_ipv4())
                .collect()
        };
        let addressed = |(key, service): (&Key, &Arc<sheer_control::objects::Service>)| {
            let assigned = self.assigned.get(key).map(|pair| both(*pair));
            AddressedService {
                service: Arc::clone(service),
                addresses: assigned.unwrap_or_else(|| service.addresses()),
            }
        };
        self.desired.services.iter().map(addressed).collect()
    }

    fn visible_pods(&self) -> Vec<VisiblePod> {
        let visible = |pod: &Arc<PodHandle>| VisiblePod {
            namespace: pod.namespace().to_owned(),
            name: pod.name.clone(),
            labels: pod.workload.labels.clone(),
            spec: Arc::new(pod.workload.spec.clone()),
            ips: pod.ips(),
            ready: pod.is_ready(),
        };
        self.pods.values().map(visible).collect()
    }

    fn publish_ports(&mut self, services: &[AddressedService], pods: &[VisiblePod]) {
        let mut routes = BTreeMap::new();
        for (host, publication) in &self.desired.published {
            let addresses = match &publication.target {
                PublishTarget::Workload(id) => {
                    let pods = self
                        .pods
                        .values()
                        .filter(|pod| pod.workload.id == *id && pod.is_ready());
                    pods.map(|pod| SocketAddr::new(pod.addresses.v4.into(), publication.port))
                        .collect()
                }
                PublishTarget::Service(namespace, name) => {
                    service_routes(services, pods, (namespace, name), publication.port)
                }
            };
            routes.insert(*host, addresses);
        }
        let ports: Vec<u16> = routes.keys().copied().collect();
        self.parts.routes.replace(routes);
        if ports != self.published {
            self.published.clone_from(&ports);
            self.tell(Event::Publish { ports });
        }
    }

    /// Progress until everything was ready once.
    fn report(&mut self) {
        if self.was_ready {
            return;
        }
        let waiting = self.waiting();
        if waiting.is_empty() && !self.pods.values().all(|pod| pod.is_settled()) {
            return;
        }
        if waiting.is_empty() {
            self.was_ready = true;
            let pods = self.pods.values().filter(|pod| pod.is_ready()).count();
            self.tell(Event::Ready {
                pods,
                millis: self.started.elapsed().as_millis() as u64,
            });
            return;
        }
        let ready = self.desired.workloads.len() - waiting.len();
        let text = format!(
            "{ready} of {} workloads ready; waiting for {}",
            self.desired.workloads.len(),
            waiting.join(", ")
        );
        if text != self.progress {
            self.progress.clone_from(&text);
            self.tell(Event::Progress { text });
        }
    }

    /// Names of workloads that are not what they shall be.
    fn waiting(&self) -> Vec<String> {
        let complete = |workload: &Workload| {
            let pods = || {
                self.pods
                    .values()
                    .filter(|pod| pod.workload.id == workload.id && !pod.is_stopping())
            };
            let ready = pods()
                .filter(|pod| pod.workload.hash == workload.hash && pod.is_ready())
                .count();
            ready == workload.replicas as usize && pods().count() == ready
        };
        self.desired
            .workloads
            .values()
            .filter(|workload| !complete(workload))
            .map(|workload| workload.id.name.clone())
            .collect()
    }

    async fn end(&mut self) {
        for pod in self.pods.values() {
            pod.stop(Stop::AtOnce);
        }
        let tasks = &mut self.tasks;
        if timeout(LONGEST_END, async { while tasks.join_next().await.is_some() {} })
            .await
            .is_err()
        {
            tracing::warn!("some programs did not end in time and are killed");
        }
    }

    fn tell(&self, event: Event) {
        // The outer process is gone: so is the mesh, in a moment.
        let _ = self.parts.events.send(event);
    }
}

fn existing(pod: &PodHandle) -> Existing {
    Existing {
        name: pod.name.clone(),
        hash: pod.workload.hash.clone(),
        ready: pod.is_ready(),
        stopping: pod.is_stopping(),
    }
}

fn service_routes(services: &[AddressedService], pods: &[VisiblePod], key: (&str, &str), port: u16) -> Vec<SocketAddr> {
    let find = |service: &&AddressedService| {
        let metadata = &service.service.metadata;
        (metadata.namespace.as_str(), metadata.name.as_str()) == key
    };
    let Some(service) = services.iter().find(find) else {
        return Vec::new();
    };
    let Some(port) = service.service.spec.ports.iter().find(|known| known.port == port) else {
        return Vec::new();
    };
    let endpoint = |pod: &VisiblePod| Some(SocketAddr::new(*pod.ips.first()?, pod.spec.find_port(&port.target())?));
    service.endpoints(pods).filter_map(endpoint).collect()
}
