//! The process, from checked settings to its end: a list of steps, each a function.
//!
//! ```text
//! main ─► run ─► control runtime: channels ─ identity ─ discovery ─ admin ─ sight
//!             ─► wait until identity and policy are there
//!             ─► workers (data path)
//!             ─► a signal or /shutdown ─► drain ─► end
//! ```

use std::{io, net::SocketAddr, sync::Arc, time::Duration};

use tokio::{
    net::TcpListener,
    runtime::Handle,
    signal::unix::{SignalKind, signal},
    sync::watch,
    time::{Instant, interval},
};

use crate::{
    admin::{self, Admin, Readiness},
    control::{self, Channel, ChannelOptions},
    discovery::{Client, ClientOptions, Discovery},
    identity::{self, Certifier, Identity},
    life::{Drained, Life, LifeControl, Shutdown},
    logs::LogLevel,
    metrics::{self, LabelSet, Reading, Registry, family},
    settings::{ControlAddr, Settings},
    sight::{self, Sight, Sources, Workers},
    sys,
    telemetry::{Flush, Pusher, PusherOptions, Table},
    trace::{self, Collecting, Collector},
};

/// How often the log says that the proxy is still not ready.
const NOT_READY_REMINDER: Duration = Duration::from_secs(15);
/// How long the end waits until the control plane knows what was done last.
const LAST_WORD: Duration = Duration::from_millis(500);
/// How often idle metrics are forgotten where nobody scrapes.
const SWEEP: Duration = Duration::from_secs(60);
/// By then a proxy that is ready has said its first words to everybody.
const LET_GO_AFTER: Duration = Duration::from_secs(10);
/// What is let go and needed again costs about a hundred minor faults.
const LET_GO_EVERY: Duration = Duration::from_secs(30);

/// Exit code for wrong settings (`EX_USAGE`), as linkerd2-proxy's.
pub const EXIT_USAGE: u8 = 64;

/// What the data path is given. Cheap to clone, one for each worker.
#[derive(Clone)]
pub struct Parts {
    /// Everything an operator can set.
    pub settings: Arc<Settings>,
    /// Makes each worker's shard of metrics.
    pub registry: Registry,
    /// The newest credentials; there are some before workers start.
    pub identity: Identity,
    /// What the control plane says.
    pub discovery: Arc<dyn Discovery>,
    /// Drain and stop.
    pub life: Life,
    /// Where workers take questions.
    pub sight: Workers,
    /// Where workers put what they record of requests.
    pub traces: Collecting,
}

/// Why the process cannot go on. Words for the operator.
#[derive(Debug, thiserror::Error)]
pub enum ProcessError {
    /// A port is taken, or not allowed.
    #[error("cannot listen on {addr} ({what}): {error}")]
    Listen {
        /// Which listener.
        what: &'static str,
        /// Its address.
        addr: SocketAddr,
        /// Why.
        error: io::Error,
    },
    /// Signals or workers.
    #[error("cannot start: {0}")]
    Start(#[from] io::Error),
}

/// The part beside the data path, running.
pub struct Control {
    /// What the data path is given.
    pub parts: Parts,
    /// Where the admin server listens.
    pub admin: SocketAddr,
    /// Where sight listens; none where its port cannot be had.
    pub sight: Option<SocketAddr>,
    /// Asks for the end.
    pub shutdown: Shutdown,
    readiness: Readiness,
    listening: watch::Sender<bool>,
    life: LifeControl,
    traces: trace::Finish,
    telemetry: Option<Flush>,
}

/// Runs the proxy to its end. `workers` starts the data path; it returns once the listeners are bound.
pub async fn run(
    settings: Settings,
    log_level: Option<LogLevel>,
    workers: impl FnOnce(Parts) -> io::Result<()>,
) -> Result<(), ProcessError> {
    let control = Control::start(settings, log_level).await?;
    ask_on_signals(&control.shutdown)?;
    let shutdown = control.shutdown.clone();
    tokio::select! {
        biased; // who asks for the end need not wait for the control plane
        why = shutdown.asked() => {
            tracing::info!("{why} before the proxy was ready: ending");
            return Ok(());
        }
        () = control.ready() => {}
    }
    workers(control.parts.clone())?;
    control.listening();
    let why = shutdown.asked().await;
    control.drain(why).await;
    Ok(())
}

impl Control {
    /// Starts everything beside the data path, on the runtime of the caller.
    pub async fn start(settings: Settings, log_level: Option<LogLevel>) -> Result<Self, ProcessError> {
        let settings = Arc::new(settings);
        let telemetry = settings.telemetry.then(Arc::<Table>::default);
        let registry = Registry::with_telemetry(settings.metrics_retain_idle, telemetry.clone());
        metrics::describe_build(registry.control());
        let life = LifeControl::default();
        let (identity, discovery, policy) = control_plane(&settings, &registry);
        let telemetry = telemetry.map(|table| push(table, policy.clone(), &settings, &identity));
        let (traces, finish) = collect_traces(&settings, &registry, &identity, policy);
        let discovery = Arc::new(discovery);
        read_ages(&registry, &identity, &discovery);
        let (listening, is_listening) = watch::channel(false);
        let readiness = Readiness::new(
            identity.clone(),
            discovery.unreached(),
            discovery.unanswered_ports(),
            is_listening,
        );
        let shutdown = Shutdown::default();
        let admin = Admin {
            registry: registry.clone(),
            readiness: readiness.clone(),
            log_level: log_level.clone(),
            life: life.life(),
            shutdown: settings.admin.shutdown_endpoint.then(|| shutdown.clone()),
        };
        let admin = serve_admin(settings.admin.listen, admin).await?;
        tokio::spawn(sweep(registry.clone()));
        let workers = Workers::default();
        let sight = serve_sight(&settings, &registry, life.life(), |bound| {
            let sources = Sources {
                settings: Arc::clone(&settings),
                identity: identity.clone(),
                client: Arc::clone(&discovery),
                workers: workers.clone(),
                log_level,
                registry: registry.clone(),
            };
            Sight::new(sources, bound, admin)
        })
        .await;
        let parts = Parts {
            settings,
            registry,
            identity,
            discovery,
            life: life.life(),
            sight: workers,
            traces,
        };
        Ok(Self {
            parts,
            admin,
            sight,
            shutdown,
            readiness,
            listening,
            life,
            traces: finish,
            telemetry,
        })
    }

    /// Returns once the control plane has given all that traffic needs. Says every while what is missing.
    pub async fn ready(&self) {
        let mut reminder = interval(NOT_READY_REMINDER);
        reminder.reset();
        loop {
            tokio::select! {
                biased; // no reminder of what is there
                () = self.readiness.control() => return,
                _ = reminder.tick() => {
                    tracing::warn!("not ready, so no traffic passes yet: {}", self.readiness.missing_control().join("; "));
                }
            }
        }
    }

    /// The data path listens: the proxy is ready.
    pub fn listening(&self) {
        self.listening.send_replace(true);
        let Settings { inbound, outbound, .. } = &*self.parts.settings;
        tracing::info!(
            identity = %self.parts.settings.identity.name,
            inbound = %inbound.listen,
            outbound = ?outbound.listen,
            admin = %self.admin,
            "ready"
        );
        tokio::spawn(let_go_now_and_then());
    }

    /// Ends everything, in-flight requests last.
    pub async fn drain(&self, why: &str) -> Drained {
        let grace = self.parts.settings.shutdown_grace;
        let began = Instant::now();
        tracing::info!(grace_s = grace.as_secs(), "{why}: draining");
        let drained = self.life.drain(grace).await;
        self.traces.finish().await;
        if let Some(telemetry) = &self.telemetry {
            telemetry.flush(LAST_WORD).await;
        }
        match drained {
            Drained::Clean => tracing::info!(took_ms = began.elapsed().as_millis(), "drained"),
            Drained::Cut(left) => tracing::warn!(left, "the grace period is over: what was still in flight is cut"),
        }
        drained
    }
}

/// What the start needed of the program does not count as memory any longer; nor, once in a while, what a burst, a handshake or somebody's question needed.
async fn let_go_now_and_then() {
    let mut wait = LET_GO_AFTER;
    loop {
        if let Err(error) = sys::text::let_go() {
            return tracing::debug!("code that is not needed stays mapped: {error}");
        }
        tokio::time::sleep(wait).await;
        wait = LET_GO_EVERY;
    }
}

fn control_plane(settings: &Arc<Settings>, registry: &Registry) -> (Identity, Client, Channel) {
    let roots = Arc::new(identity::roots(&settings.identity.trust_anchors));
    let (publish, identity) = identity::channel();
    let channel = |service, addr: &ControlAddr, wait_for_identity: bool| {
        let options = ChannelOptions {
            service,
            whose: "the control plane",
            connected: &family::CONTROL_CONNECTED,
            addr: addr.clone(),
            mark: settings.mark,
            roots: Arc::clone(&roots),
            identity: identity.clone(),
            wait_for_identity: wait_for_identity && addr.name.is_some(),
        };
        Channel::new(options, registry.control())
    };
    let issuer = channel("identity", &settings.identity.service, false);
    tokio::spawn(Certifier::new(settings.identity.clone(), issuer, Arc::clone(&roots), publish).run());
    let policy = channel("policy", &settings.policy, true);
    let options = ClientOptions {
        destination: channel("destination", &settings.destination, true),
        policy: policy.clone(),
        runtime: Handle::current(),
    };
    let discovery = Client::new(settings, options);
    (identity, discovery, policy)
}

/// Takes what workers record, and sends it on.
fn collect_traces(
    settings: &Arc<Settings>,
    registry: &Registry,
    identity: &Identity,
    control_plane: Channel,
) -> (Collecting, trace::Finish) {
    let (collecting, told) = Collecting::new(settings);
    let (mark, identity, shard) = (settings.mark, identity.clone(), registry.control().clone());
    let roots = Arc::new(identity::roots(&settings.identity.trust_anchors));
    let parts = trace::Parts {
        settings: Arc::clone(settings),
        shard: shard.clone(),
        control_plane,
        channel: Box::new(move |addr| {
            let options = ChannelOptions {
                service: "trace-collector",
                whose: "the collector",
                connected: &family::SHEER_TRACE_COLLECTOR_CONNECTED,
                addr: addr.clone(),
                mark,
                roots: Arc::clone(&roots),
                identity: identity.clone(),
                wait_for_identity: addr.name.is_some(),
            };
            Channel::new(options, &shard)
        }),
    };
    let finish = Collector::start(&collecting, told, parts);
    (collecting, finish)
}

/// Begins to tell the control plane of traffic.
fn push(table: Arc<Table>, channel: Channel, settings: &Arc<Settings>, identity: &Identity) -> Flush {
    let options = PusherOptions {
        table,
        channel,
        settings: Arc::clone(settings),
        identity: identity.clone(),
    };
    let (pusher, flush) = Pusher::new(options);
    tokio::spawn(pusher.run());
    flush
}

/// Ages are read when somebody looks: of the certificate, and of what the control plane said last.
fn read_ages(registry: &Registry, identity: &Identity, discovery: &Arc<Client>) {
    let (identity, discovery) = (identity.clone(), Arc::clone(discovery));
    registry.read(move || {
        let mut readings = Vec::new();
        if let Some(age) = identity.current().and_then(|credentials| credentials.age()) {
            readings.push(Reading {
                family: &family::SHEER_IDENTITY_CERT_AGE_SECONDS,
                labels: LabelSet::default(),
                value: i64::try_from(age.as_secs()).unwrap_or(i64::MAX),
            });
        }
        readings.extend(control::ages(&discovery.streams()));
        readings
    });
}

async fn serve_admin(addr: SocketAddr, admin: Admin) -> Result<SocketAddr, ProcessError> {
    let listen = |error| ProcessError::Listen {
        what: "admin",
        addr,
        error,
    };
    let listener = TcpListener::bind(addr).await.map_err(listen)?;
    let bound = listener.local_addr().map_err(listen)?;
    tokio::spawn(admin::serve(listener, Arc::new(admin)));
    Ok(bound)
}

/// Sight must never hurt traffic: where its port cannot be had, the proxy runs without.
async fn serve_sight(
    settings: &Settings,
    registry: &Registry,
    life: Life,
    sight: impl FnOnce(SocketAddr) -> Arc<Sight>,
) -> Option<SocketAddr> {
    let addr = settings.sight.listen;
    let bound = match TcpListener::bind(addr).await {
        Ok(listener) => listener.local_addr().map(|bound| (listener, bound)),
        Err(error) => Err(error),
    };
    match bound {
        Ok((listener, bound)) => {
            let (clients, shard) = (settings.sight.clients.clone(), registry.control().clone());
            let sight = sight(bound);
            tokio::spawn(async move { sight::serve(listener, sight, clients, &shard, life).await });
            Some(bound)
        }
        Err(error) => {
            tracing::warn!(%addr, %error, "cannot listen for sight: what this proxy holds cannot be shown");
            None
        }
    }
}

async fn sweep(registry: Registry) {
    let mut every = interval(SWEEP);
    loop {
        every.tick().await;
        registry.sweep(std::time::Instant::now());
    }
}

fn ask_on_signals(shutdown: &Shutdown) -> io::Result<()> {
    for (kind, name) in [
        (SignalKind::terminate(), "SIGTERM"),
        (SignalKind::interrupt(), "SIGINT"),
    ] {
        let (mut signals, shutdown) = (signal(kind)?, shutdown.clone());
        tokio::spawn(async move {
            while signals.recv().await.is_some() {
                shutdown.ask(name);
            }
        });
    }
    Ok(())
}
