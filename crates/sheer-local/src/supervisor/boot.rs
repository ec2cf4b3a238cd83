//! The supervisor's start, one line a step.

use std::{
    collections::BTreeMap,
    fs,
    io::{self, Read as _, Write as _},
    os::unix::net::UnixStream,
    sync::Arc,
    time::Duration,
};

use anyhow::Context as _;
use nix::sys::{prctl::set_pdeathsig, signal::Signal};
use sheer_api::names::CLUSTER_DOMAIN;
use sheer_control::{identity::token::Signer, watch_manifests};
use tokio::{
    io::{AsyncBufReadExt as _, BufReader},
    sync::{Notify, mpsc, watch},
    task::JoinHandle,
};

use super::{
    api,
    fleet::{Fleet, Parts},
    forward::{self, Routes},
    usage::Usage,
};
use crate::{
    addresses,
    dns::{self, SharedZone},
    launch::{Event, Launch, Refusals, outer_socket},
    link,
    logs::LogWriter,
    namespaces::on_thread,
    pod::{
        program::{Backoff, ProgramCell, Runner},
        readiness::Readiness,
        run::MeshContext,
    },
    process::Program,
    rules::Exemption,
    socket,
    state::State,
    userns,
};

/// From SIGTERM to SIGKILL of the control plane.
const CONTROL_GRACE: Duration = Duration::from_secs(3);

/// Runs the supervisor; returns the exit code of the mesh.
pub fn main() -> anyhow::Result<u8> {
    set_pdeathsig(Signal::SIGKILL)?;
    let mut outer = outer_socket()?;
    let launch = take_over(&mut outer)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    match runtime.block_on(run(launch, outer.try_clone()?)) {
        Ok(()) => Ok(0),
        Err(error) => {
            outer.set_nonblocking(false)?;
            send(
                &mut outer,
                &Event::Failed {
                    text: format!("{error:#}"),
                },
            )?;
            Ok(1)
        }
    }
}

/// Greets the outer process, which then says what to run.
fn take_over(outer: &mut UnixStream) -> anyhow::Result<Launch> {
    outer.write_all(b"\n")?;
    let mut line = Vec::new();
    let mut byte = [0];
    // Byte by byte: what follows the line is for somebody else.
    while outer.read(&mut byte)? == 1 && byte[0] != b'\n' {
        line.push(byte[0]);
    }
    serde_json::from_slice(&line).context("the outer process did not say what to run")
}

fn send(outer: &mut impl io::Write, event: &Event) -> io::Result<()> {
    let mut line = serde_json::to_vec(event)?;
    line.push(b'\n');
    outer.write_all(&line)
}

async fn run(launch: Launch, outer: UnixStream) -> anyhow::Result<()> {
    let state = State::locate(Some(launch.state.clone()))?;
    let (events, refusals, end) = talk_to(outer)?;
    let ipv6 = link::has_ipv6();
    on_thread(move || link::create_bridge(ipv6)).await??;
    clear_logs(&state)?;
    let zone = serve_dns(ipv6).await?;
    let changed = Arc::new(Notify::new());
    let mesh = Arc::new(context(&launch, &state, ipv6)?);
    let control = start_control(&mesh, &changed)?;
    let paths = launch.manifests.clone();
    // What runs is what the control plane sees: the same reader, with the same rules for files that are broken or being written.
    let manifests = on_thread(move || watch_manifests(paths)).await?;
    let routes = serve_forward(&state)?;
    let asked = serve_api(&state)?;
    let usage = Usage::default();
    tokio::spawn(usage.clone().keep());
    describe(&launch, &state, ipv6)?;
    let cell = Arc::clone(&control.cell);
    Fleet::new(Parts {
        mesh,
        manifests,
        asked,
        events,
        zone,
        routes,
        usage,
        control: cell,
        changed,
        refusals,
    })
    .run(end)
    .await;
    control.end().await;
    Ok(())
}

/// What goes to the outer process, what comes from it, and its end.
type Talk<End> = (mpsc::UnboundedSender<Event>, mpsc::UnboundedReceiver<Refusals>, End);

/// Events go out in order; the end comes when the outer process closes its side.
fn talk_to(outer: UnixStream) -> anyhow::Result<Talk<impl Future<Output = ()>>> {
    outer.set_nonblocking(true)?;
    let (reader, mut writer) = tokio::net::UnixStream::from_std(outer)?.into_split();
    let (said, refusals) = mpsc::unbounded_channel();
    let (events, mut queue) = mpsc::unbounded_channel::<Event>();
    tokio::spawn(async move {
        while let Some(event) = queue.recv().await {
            let mut line = serde_json::to_vec(&event).expect("events are plain data");
            line.push(b'\n');
            if tokio::io::AsyncWriteExt::write_all(&mut writer, &line).await.is_err() {
                return;
            }
        }
    });
    let end = async move {
        let mut lines = BufReader::new(reader).lines();
        while let Ok(Some(line)) = lines.next_line().await {
            if let Ok(refusals) = serde_json::from_str(&line) {
                // The fleet is gone only where the mesh ends anyway.
                let _ = said.send(refusals);
            }
        }
    };
    Ok((events, refusals, end))
}

/// Logs of an earlier mesh would be read as this one's.
fn clear_logs(state: &State) -> io::Result<()> {
    for entry in fs::read_dir(state.logs())?.flatten() {
        let own = entry.file_name().to_string_lossy().starts_with("supervisor.");
        if entry.file_type()?.is_dir() {
            fs::remove_dir_all(entry.path())?;
        } else if !own {
            fs::remove_file(entry.path())?;
        }
    }
    Ok(())
}

async fn serve_dns(ipv6: bool) -> anyhow::Result<SharedZone> {
    let zone = SharedZone::default();
    for address in addresses::bridge()
        .both()
        .into_iter()
        .filter(|address| ipv6 || address.is_ipv4())
    {
        dns::serve(address, zone.clone())
            .await
            .with_context(|| format!("the DNS server cannot listen on {address}"))?;
    }
    Ok(zone)
}

fn context(launch: &Launch, state: &State, ipv6: bool) -> anyhow::Result<MeshContext> {
    Ok(MeshContext {
        launch: launch.clone(),
        state: state.clone(),
        ipv6,
        rootless: userns::is_rootless(),
        exemption: if userns::has_proxy_uid() {
            Exemption::Uid
        } else {
            Exemption::Mark
        },
        signer: Signer::load_or_create(&state.identity()).context("workload tokens cannot be signed")?,
        environment: launch.environment.clone(),
    })
}

fn serve_forward(state: &State) -> anyhow::Result<Routes> {
    let routes = Routes::default();
    let listener = socket::listen(&state.forward_socket()).context("published ports cannot be served")?;
    tokio::spawn(forward::serve(listener, routes.clone()));
    Ok(routes)
}

fn serve_api(state: &State) -> anyhow::Result<mpsc::Receiver<api::Asked>> {
    let (sender, receiver) = mpsc::channel(16);
    let listener = socket::listen(&state.supervisor_socket()).context("the command line cannot be served")?;
    tokio::spawn(api::serve(listener, sender));
    Ok(receiver)
}

/// The control plane: attended like a container, in the mesh's own namespaces.
struct Control {
    cell: Arc<ProgramCell>,
    stop: watch::Sender<bool>,
    task: JoinHandle<()>,
}

impl Control {
    async fn end(self) {
        self.stop.send_replace(true);
        let _ = self.task.await;
    }
}

fn start_control(mesh: &MeshContext, changed: &Arc<Notify>) -> anyhow::Result<Control> {
    let program = control_program(mesh);
    let cell = ProgramCell::new("control", Arc::clone(changed));
    let (stop, stopped) = watch::channel(false);
    let runner = Runner {
        cell: Arc::clone(&cell),
        namespaces: None,
        make: Box::new(move || Ok(program.clone())),
        readiness: Readiness::Running,
        backoff: Backoff::OWN,
        log: LogWriter::open(&mesh.state.logs().join("control.log"))
            .context("the control plane's log cannot be written")?,
        stop: stopped,
        grace: CONTROL_GRACE,
    };
    Ok(Control {
        cell,
        stop,
        task: tokio::spawn(runner.run()),
    })
}

fn control_program(mesh: &MeshContext) -> Program {
    let networks = addresses::pod_networks()
        .into_iter()
        .chain(addresses::service_networks());
    let networks: Vec<String> = networks.map(|network| network.to_string()).collect();
    let mut command = vec!["/proc/self/exe".to_owned(), "control".to_owned()];
    let mut flag = |name: &str, value: String| command.extend([name.to_owned(), value]);
    for path in &mesh.launch.manifests {
        flag("--manifests", path.display().to_string());
    }
    flag("--status", mesh.state.status().display().to_string());
    flag("--identity", mesh.state.identity().display().to_string());
    flag("--listen", addresses::bridge().v4.to_string());
    flag("--socket", mesh.state.control_socket().display().to_string());
    flag("--cluster-networks", networks.join(","));
    flag("--trust-domain", CLUSTER_DOMAIN.to_owned());
    let mut env = BTreeMap::from([("RUST_BACKTRACE".to_owned(), "1".to_owned())]);
    env.extend(
        std::env::var("SHEER_LOG")
            .ok()
            .map(|filter| ("SHEER_LOG".to_owned(), filter)),
    );
    Program {
        command,
        env,
        dir: "/".into(),
        uid: None,
        mounted_at: None,
        quiet: false,
    }
}

/// `mesh.json`: what the mesh is, for other programs.
fn describe(launch: &Launch, state: &State, ipv6: bool) -> anyhow::Result<()> {
    let bridge = addresses::bridge();
    let description = serde_json::json!({
        "version": env!("CARGO_PKG_VERSION"),
        "manifests": launch.manifests,
        "folder": launch.folder,
        "rootless": userns::is_rootless(),
        "control": bridge.v4,
        "trustDomain": CLUSTER_DOMAIN,
        "ipv6": ipv6,
        "podNetworks": addresses::pod_networks(),
        "serviceNetworks": addresses::service_networks(),
    });
    let new = state.root().join(".mesh.json.new");
    fs::write(&new, serde_json::to_vec_pretty(&description)?)?;
    fs::rename(new, state.description())?;
    Ok(())
}
