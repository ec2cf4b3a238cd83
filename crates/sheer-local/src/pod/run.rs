//! The life of a pod, top to bottom.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, SystemTime},
};

use anyhow::Context as _;
use sheer_api::names::PROXY_UID;
use sheer_control::{identity::token::Signer, objects::Container};
use tokio::{
    sync::watch,
    task::JoinHandle,
    time::{sleep, timeout},
};

use super::{
    Phase, PodHandle, SIDECAR, Stop,
    files::{self, PodFacts},
    probe::Check,
    program::{Backoff, ProgramCell, Runner},
    readiness::Readiness,
    sidecar::{self, Sidecar},
};
use crate::{
    addresses,
    launch::{Launch, PRIVATE},
    link,
    logs::LogWriter,
    namespaces::{Interior, Namespaces, on_thread},
    process::{self, Program},
    rules::{self, Exemption, Redirection},
    state::State,
    tools,
    workload::MeshOptions,
};

/// From "takes no traffic" to SIGTERM. The control plane notices a changed status file within 100 ms and sidecars act on its word in a
/// few more; the rest is slack for a loaded machine.
const PROPAGATION: Duration = Duration::from_millis(500);
/// From SIGTERM to SIGKILL where the whole mesh ends.
const SHORT_GRACE: Duration = Duration::from_secs(5);
/// Wait after a set-up that failed.
const SETUP_RETRY: Duration = Duration::from_secs(2);
/// Wait after rules that could not be applied.
const RULES_RETRY: Duration = Duration::from_secs(1);
/// Changes of rules that come within this are applied as one.
const RULES_SETTLE: Duration = Duration::from_millis(20);

/// What all pods of a mesh have in common.
pub(crate) struct MeshContext {
    /// What the mesh was started with.
    pub(crate) launch: Launch,
    /// State directory.
    pub(crate) state: State,
    /// Whether the mesh has IPv6.
    pub(crate) ipv6: bool,
    /// Whether it runs without root.
    pub(crate) rootless: bool,
    /// How sidecars are told from applications.
    pub(crate) exemption: Exemption,
    /// Signs workload tokens.
    pub(crate) signer: Signer,
    /// Environment of every application.
    pub(crate) environment: BTreeMap<String, String>,
}

/// Runs a pod until it is told to stop; returns once nothing of it is left.
pub(crate) async fn run(pod: Arc<PodHandle>, mesh: Arc<MeshContext>) {
    let life = Life {
        facts: facts(&pod),
        folder: folder(&pod),
        pod: Arc::clone(&pod),
        mesh,
    };
    if let Some(namespaces) = life.set_up_until_stopped().await {
        let rules = tokio::spawn(keep_rules(Arc::clone(&pod), Arc::clone(&namespaces)));
        life.live(&namespaces).await;
        rules.abort();
        process::kill_all(&namespaces);
    }
    let _ = fs::remove_dir_all(&life.folder);
    pod.enter(Phase::Gone);
}

fn facts(pod: &PodHandle) -> PodFacts {
    PodFacts {
        name: pod.name.clone(),
        namespace: pod.namespace().to_owned(),
        uid: pod.uid.clone(),
        service_account: pod.workload.spec.service_account().to_owned(),
        labels: pod.workload.labels.clone(),
        annotations: pod.workload.annotations.clone(),
        ips: pod.ips(),
        host_ip: addresses::bridge().v4.into(),
    }
}

fn folder(pod: &PodHandle) -> PathBuf {
    Path::new(PRIVATE)
        .join("pods")
        .join(format!("{}.{}", pod.namespace(), pod.name))
}

struct Life {
    pod: Arc<PodHandle>,
    mesh: Arc<MeshContext>,
    facts: PodFacts,
    folder: PathBuf,
}

/// Programs that were started, in the order in which they end.
struct Started {
    stop: watch::Sender<bool>,
    tasks: Vec<JoinHandle<()>>,
}

/// Where one program runs, who keeps its state, and how it learns that it shall end.
struct Slot {
    namespaces: Arc<Namespaces>,
    cell: Arc<ProgramCell>,
    stop: watch::Receiver<bool>,
}

impl Started {
    fn new() -> Self {
        Self {
            stop: watch::Sender::new(false),
            tasks: Vec::new(),
        }
    }

    fn slot(&self, namespaces: &Arc<Namespaces>, cell: &Arc<ProgramCell>) -> Slot {
        Slot {
            namespaces: Arc::clone(namespaces),
            cell: Arc::clone(cell),
            stop: self.stop.subscribe(),
        }
    }

    fn start(&mut self, runner: Runner) {
        self.tasks.push(tokio::spawn(runner.run()));
    }

    async fn end(mut self) {
        self.stop.send_replace(true);
        for task in &mut self.tasks {
            // A panic was logged by its hook; the processes are killed with the pod.
            let _ = task.await;
        }
    }
}

impl Drop for Started {
    /// Nothing is started again once nobody waits for it any more.
    fn drop(&mut self) {
        self.tasks.iter().for_each(JoinHandle::abort);
    }
}

impl Life {
    async fn set_up_until_stopped(&self) -> Option<Arc<Namespaces>> {
        let mut stop = self.pod.stop.subscribe();
        loop {
            match self.set_up().await {
                Ok(namespaces) => return Some(self.pod.namespaces.get_or_init(|| Arc::new(namespaces)).clone()),
                Err(error) => {
                    tracing::error!(pod = self.pod.name, "cannot be set up: {error:#}");
                    self.pod.enter(Phase::Pending {
                        why: format!("{error:#}"),
                    });
                }
            }
            if timeout(SETUP_RETRY, stop.wait_for(|stop| *stop != Stop::No))
                .await
                .is_ok()
            {
                return None;
            }
        }
    }

    /// Namespaces, link, rules: everything that must stand before the first program starts.
    async fn set_up(&self) -> anyhow::Result<Namespaces> {
        fs::create_dir_all(&self.folder)?;
        fs::write(self.folder.join("hosts"), files::hosts(&self.facts))?;
        fs::write(self.folder.join("resolv.conf"), files::resolv_conf(&self.facts))?;
        let (pair, ipv6) = (self.pod.addresses, self.mesh.ipv6);
        let redirection = self.pod.workload.mesh.as_ref().map(|options| self.redirection(options));
        let current = self.pod.rules.borrow().clone();
        let services = current.to_string();
        let interior = Interior {
            hostname: self.facts.hostname().to_owned(),
            folder: self.folder.clone(),
        };
        let (namespaces, ()) = Namespaces::create(interior, move || {
            link::create_pod_link(pair, ipv6)?;
            tools::nft(redirection.unwrap_or_default() + &services)?;
            Ok(())
        })
        .await?;
        on_thread(move || link::join_bridge(pair)).await??;
        self.pod.rules_applied(current);
        Ok(namespaces)
    }

    fn redirection(&self, options: &MeshOptions) -> String {
        rules::redirection(&Redirection {
            exemption: self.mesh.exemption,
            skip_inbound: options.skip_inbound.clone(),
            skip_outbound: options.skip_outbound.clone(),
            skip_subnets: options.skip_subnets.clone(),
        })
    }

    async fn live(&self, namespaces: &Arc<Namespaces>) {
        let mut stop = self.pod.stop.subscribe();
        let (mut sidecar, mut containers) = (Started::new(), Started::new());
        tokio::select! {
            biased; // a pod that was told to stop must not start further programs
            _ = stop.wait_for(|stop| *stop != Stop::No) => {}
            () = self.start(namespaces, &mut sidecar, &mut containers) => unreachable!("a pod runs until it is told to stop"),
        }
        let was_running = self.pod.phase() == Phase::Running;
        self.pod.enter(Phase::Terminating);
        if was_running {
            // Those who send requests must learn of it before the application does.
            let _ = timeout(PROPAGATION, stop.wait_for(|stop| *stop == Stop::AtOnce)).await;
        }
        let end = async {
            containers.end().await;
            sidecar.end().await;
        };
        tokio::select! {
            () = end => {}
            () = async { let _ = stop.wait_for(|stop| *stop == Stop::AtOnce).await; sleep(SHORT_GRACE).await } => {}
        }
    }

    /// Sidecar first, containers once it is ready, as Kubernetes starts native sidecars; then keeps them. Never returns.
    async fn start(&self, namespaces: &Arc<Namespaces>, sidecar: &mut Started, containers: &mut Started) {
        if let Some(options) = &self.pod.workload.mesh {
            self.pod.enter(Phase::Pending {
                why: "the control plane starts".to_owned(),
            });
            let anchors = self.wait_for_anchors().await;
            self.retry(|| self.prepare_sidecar()).await;
            let start = async {
                if self.start_sidecar(options, &anchors, namespaces, sidecar).await {
                    self.start_containers(namespaces, containers);
                }
            };
            // Beside the start, which lasts as long as the sidecar has no certificate: for that it needs a token.
            let renew = self
                .sidecar()
                .renew_token(&self.mesh.signer, self.facts.clone(), wall_clock);
            tokio::join!(start, renew);
        } else {
            self.start_containers(namespaces, containers);
            std::future::pending().await
        }
    }

    /// Returns once the sidecar is ready; `false` where it can never be.
    async fn start_sidecar(
        &self,
        options: &MeshOptions,
        anchors: &str,
        namespaces: &Arc<Namespaces>,
        sidecar: &mut Started,
    ) -> bool {
        let cell = self.pod.programs.first().expect("a meshed pod has a sidecar");
        match self.sidecar_runner(options, anchors, sidecar.slot(namespaces, cell)) {
            Ok(runner) => sidecar.start(runner),
            Err(error) => {
                self.pod.enter(Phase::Pending {
                    why: format!("{error:#}"),
                });
                return false;
            }
        }
        self.pod.enter(Phase::Pending {
            why: "its sidecar starts".to_owned(),
        });
        cell.wait_ready().await;
        true
    }

    fn start_containers(&self, namespaces: &Arc<Namespaces>, containers: &mut Started) {
        let sidecars = usize::from(self.pod.workload.mesh.is_some());
        let specs = self
            .pod
            .workload
            .spec
            .containers
            .iter()
            .filter(|container| !container.command.is_empty());
        for (container, cell) in specs.zip(&self.pod.programs[sidecars..]) {
            match self.container_runner(container, containers.slot(namespaces, cell)) {
                Ok(runner) => containers.start(runner),
                Err(error) => tracing::error!(pod = self.pod.name, container = container.name, "{error:#}"),
            }
        }
        self.pod.enter(Phase::Running);
    }

    async fn retry(&self, work: impl Fn() -> anyhow::Result<()>) {
        while let Err(error) = work() {
            self.pod.enter(Phase::Pending {
                why: format!("{error:#}"),
            });
            sleep(SETUP_RETRY).await;
        }
    }

    /// The trust anchors appear when the control plane first starts.
    async fn wait_for_anchors(&self) -> String {
        let path = self.mesh.state.identity().join("anchors.pem");
        loop {
            match fs::read_to_string(&path) {
                Ok(anchors) if !anchors.trim().is_empty() => return anchors,
                _ => sleep(Duration::from_millis(20)).await,
            }
        }
    }

    fn sidecar(&self) -> Sidecar {
        Sidecar {
            identity: self.folder.join("identity"),
            exemption: self.mesh.exemption,
            ipv6: self.mesh.ipv6,
        }
    }

    fn prepare_sidecar(&self) -> anyhow::Result<()> {
        let sidecar = self.sidecar();
        sidecar
            .create_identity(&self.facts)
            .context("the sidecar's key cannot be made")?;
        sidecar
            .write_token(&self.mesh.signer, &self.facts)
            .context("the sidecar's token cannot be written")
    }

    fn sidecar_runner(&self, options: &MeshOptions, anchors: &str, slot: Slot) -> anyhow::Result<Runner> {
        let proxy = match &options.proxy_binary {
            Some(path) => self.mesh.launch.folder.join(path),
            None => self.mesh.launch.proxy.clone(),
        };
        let own_uid = self.mesh.exemption == Exemption::Uid;
        let file = proxy
            .file_name()
            .context("config.sheer.dev/proxy-binary names no file")?;
        let program = Program {
            env: self.sidecar().environment(&self.facts, &self.pod.workload, anchors)?,
            dir: "/".into(),
            uid: own_uid.then_some(PROXY_UID),
            mounted_at: own_uid.then(|| self.folder.join(file)),
            command: vec![proxy.display().to_string()],
            quiet: false,
        };
        Ok(Runner {
            cell: slot.cell,
            namespaces: Some(slot.namespaces),
            make: Box::new(move || Ok(program.clone())),
            readiness: Readiness::Probed(Check::of_sidecar(sidecar::admin_address(self.pod.addresses.v4.into()))),
            backoff: Backoff::OWN,
            log: self.log(SIDECAR)?,
            stop: slot.stop,
            grace: self.pod.grace(),
        })
    }

    fn container_runner(&self, container: &Container, slot: Slot) -> anyhow::Result<Runner> {
        let program = container_program(container, &self.facts, &self.mesh);
        let spec = &self.pod.workload.spec;
        let probe = container.readiness_probe.as_ref();
        let check = probe.and_then(|probe| Check::of_container(probe, spec, self.pod.addresses.v4.into(), &program));
        let readiness = check.map_or_else(|| without_probe(container), Readiness::Probed);
        Ok(Runner {
            cell: slot.cell,
            namespaces: Some(slot.namespaces),
            make: Box::new(move || Ok(program.clone())),
            readiness,
            backoff: Backoff::CONTAINER,
            log: self.log(&container.name)?,
            stop: slot.stop,
            grace: self.pod.grace(),
        })
    }

    fn log(&self, program: &str) -> anyhow::Result<LogWriter> {
        let path = self
            .mesh
            .state
            .pod_logs(&self.pod.workload.id, &self.pod.name)
            .join(format!("{program}.log"));
        LogWriter::open(&path).with_context(|| format!("the log {} cannot be written", path.display()))
    }
}

/// Kubernetes takes a container without a probe for ready as soon as it runs, and requests that come before it listens are lost. Here the
/// ports that it declares say when it does.
fn without_probe(container: &Container) -> Readiness {
    let tcp = container.ports.iter().filter(|port| port.is_tcp());
    let ports: Vec<u16> = tcp.map(|port| port.container_port).collect();
    if ports.is_empty() {
        Readiness::Running
    } else {
        Readiness::Listening(ports)
    }
}

/// A container as a program: command and arguments with their variables, environment, folder.
pub(crate) fn container_program(container: &Container, pod: &PodFacts, mesh: &MeshContext) -> Program {
    let env = files::environment(container, pod, &mesh.environment);
    let command = container
        .command
        .iter()
        .chain(&container.args)
        .map(|part| files::expand(part, &env))
        .collect();
    let dir = container
        .working_dir
        .as_ref()
        .map_or_else(|| mesh.launch.folder.clone(), |dir| mesh.launch.folder.join(dir));
    Program {
        command,
        env,
        dir,
        uid: None,
        mounted_at: None,
        quiet: false,
    }
}

#[expect(clippy::disallowed_methods, reason = "tokens are of wall-clock time")]
fn wall_clock() -> SystemTime {
    SystemTime::now()
}

/// The facts of a pod, for programs that are started in it later.
pub(crate) fn facts_of(pod: &PodHandle) -> PodFacts {
    facts(pod)
}

/// Applies rules for virtual addresses as they change.
async fn keep_rules(pod: Arc<PodHandle>, namespaces: Arc<Namespaces>) {
    let mut rules = pod.rules.subscribe();
    // What changed while the pod was set up counts, too.
    if !pod.is_settled() {
        rules.mark_changed();
    }
    while rules.changed().await.is_ok() {
        sleep(RULES_SETTLE).await;
        let wanted = rules.borrow_and_update().clone();
        match apply(&namespaces, wanted.to_string()).await {
            Ok(()) => pod.rules_applied(wanted),
            Err(error) => {
                tracing::error!(
                    pod = pod.name,
                    "virtual addresses are out of date: {error:#}; tried again in {RULES_RETRY:?}"
                );
                // As if they had changed again; the latest are what counts then.
                sleep(RULES_RETRY).await;
                rules.mark_changed();
            }
        }
    }
}

async fn apply(namespaces: &Namespaces, rules: String) -> anyhow::Result<()> {
    Ok(namespaces.run_in_network(move || tools::nft(rules)).await??)
}
