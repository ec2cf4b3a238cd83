//! `sheer capture`: the packets of a workload in a file that Wireshark opens decrypted.
//!
//! ```text
//! pods ── reader in each pod's namespace ──┐
//!                                           ├─► Recording ──(at the end)──► file.pcapng
//! sidecars ── secrets, by way of control ───┘
//! ```
//!
//! [`readers`] runs the readers, [`recording`] holds what came, [`file`] and [`pcapng`] write it. Nothing is written before the end, because
//! the secrets of a connection have to stand before its packets.
//!
//! Where packets may not be read, [`plaintext`] makes such a file of what the sidecars say.

mod file;
mod names;
mod pcapng;
mod plaintext;
mod readers;
mod recording;
mod unseen;

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::Context as _;
use sheer_api::v1::{RenewRequest, WatchSecretsRequest, WorkloadSecret};
use sheer_local::packets::Filter;
use tokio::{
    signal::unix::{SignalKind, signal},
    sync::mpsc,
    time::{Instant, sleep_until, timeout},
};

use self::{
    names::Names,
    readers::{Event, Readers},
    recording::Recording,
};
use crate::{
    cli::Global,
    descriptors,
    outcome::{Misuse, Outcome},
    output::size,
    running::{Mesh, Pod},
    words::duration,
};

/// Until readers and sidecars are there. They take milliseconds.
const READY: Duration = Duration::from_secs(10);

/// Flags of `sheer capture`.
#[derive(clap::Args, Debug)]
#[command(after_help = "\
The file holds every interface of the pods, loopback included: what the application says to its sidecar and what crosses the mesh. The secrets of
exactly these TLS connections are inside, and the names of pods and services. Sidecars speak TLS on the ports of applications, where Wireshark may
expect something else, so it has to look at the bytes first: wireshark -o tcp.try_heuristic_first:TRUE FILE (the same for tshark). What the control plane asks
of sidecars (port 4190) is left out. Only connections that
begin during the capture can be decrypted; --fresh has those that are there replaced first.

With --plaintext no packet is read and no secret is asked for: the sidecars say what they read and wrote above TLS, and the file has each connection as TCP that
is made up around it. The values of secret fields are keyed hashes; of bodies there is what `sheer tap --body` shows, and no byte of connections that are only
relayed. Connections that are there already are in it from then on. Wireshark has to be told which ports speak HTTP (the same for tshark): the command says how.

Examples:
  sheer capture -n bank deploy/payments -o payments.pcapng --for 30s --fresh
  sheer capture deploy/web -o - --for 5s | tshark -o tcp.try_heuristic_first:TRUE -r - -Y http2 -O http2
  sheer capture deploy/web -o web.pcapng --filter 'port 9000 and host 10.77.0.4'
  sheer capture deploy/web -o web.pcapng --for 30s --plaintext")]
pub(crate) struct Args {
    /// Workload or pod, as deploy/web
    workload: String,
    /// Namespace; any where absent
    #[arg(short, long)]
    namespace: Option<String>,
    /// File to write, or a named pipe to write into; - is stdout
    #[arg(short, long, value_name = "FILE")]
    output: PathBuf,
    /// End after this long, as 30s or 5m [default: at Ctrl-C]
    #[arg(long = "for", value_name = "TIME", value_parser = duration)]
    lasting: Option<Duration>,
    /// Keep only these packets: pcap's words tcp, udp, icmp, [src|dst] host|net|port, and, or, not
    #[arg(long, value_name = "FILTER", default_value = "", hide_default_value = true)]
    filter: String,
    /// Have the connections between sidecars replaced when the capture has begun, so that all can be decrypted; no request is lost
    #[arg(long, conflicts_with = "no_secrets")]
    fresh: bool,
    /// What the sidecars read and wrote above TLS, secret values replaced, instead of packets
    #[arg(long, conflicts_with_all = ["filter", "fresh", "no_secrets", "snap"])]
    plaintext: bool,
    /// With --plaintext: how much of each body, at most, as 64KiB or 1MiB
    #[arg(long, value_name = "SIZE", value_parser = super::tap::bytes, default_value = "64KiB", requires = "plaintext")]
    body: u32,
    /// With --plaintext: requests a second whose bodies are shown, at most, of all pods together
    #[arg(long, value_name = "N", default_value_t = 1_000, requires = "plaintext")]
    rate: u32,
    /// With --plaintext: descriptors of messages beside those that applications offer: a FileDescriptorSet
    #[arg(long, value_name = "FILE", requires = "plaintext")]
    descriptors: Option<PathBuf>,
    /// Leave the secrets of TLS out
    #[arg(long)]
    no_secrets: bool,
    /// Keep at most this many bytes of each packet
    #[arg(long, value_name = "BYTES", default_value_t = 65_550)]
    snap: usize,
    /// End when this much was captured, in MiB
    #[arg(long, value_name = "MIB", default_value_t = 256)]
    max_size: usize,
}

/// Captures until the time is over, the size is reached or Ctrl-C comes, then writes the file.
pub(crate) fn run(args: &Args, global: &Global) -> anyhow::Result<Outcome> {
    let _: Filter = args.filter.parse().map_err(|error| Misuse(format!("{error}")))?;
    // Found out before anything is captured.
    let place = file::place(&args.output)?;
    crate::running::block_on(async {
        let mesh = Mesh::find(global).await?;
        let all = mesh.pods().await?;
        let reference = args.workload.parse().map_err(Misuse)?;
        let meant = |pod: &&Pod| {
            pod.is_meant_by(&reference)
                && args
                    .namespace
                    .as_ref()
                    .is_none_or(|namespace| pod.namespace == *namespace)
        };
        let pods: Vec<Pod> = all.iter().filter(meant).cloned().collect();
        if pods.is_empty() {
            return Err(Misuse(format!("no pod of {} runs: `sheer ps` shows what runs", args.workload)).into());
        }
        let names = Names::new(&all, &mesh.virtual_addresses()?);
        if args.plaintext {
            return plaintext(args, &mesh, &pods, &names, place).await;
        }
        let recording = capture(args, &mesh, &pods).await?;
        let stays = place.stays();
        let wrote = place.fill(|out| file::write(out, &recording, &pods, &names));
        let bytes = wrote.with_context(|| format!("{} cannot be written", args.output.display()))?;
        report(args, &recording, &names, (bytes, stays));
        Ok(Outcome::Healthy)
    })
}

/// The same without packets.
async fn plaintext(
    args: &Args,
    mesh: &Mesh,
    pods: &[Pod],
    names: &Names,
    place: file::Place,
) -> anyhow::Result<Outcome> {
    let asked = plaintext::Asked {
        workload: &args.workload,
        namespace: args.namespace.as_deref().unwrap_or_default(),
        bodies: args.body,
        rate: args.rate,
        lasting: args.lasting,
        most: args.max_size.saturating_mul(1 << 20),
        descriptors: args
            .descriptors
            .iter()
            .map(|path| descriptors::read(path))
            .collect::<Result<_, _>>()?,
    };
    let shown = plaintext::collect(&asked, mesh, pods.len()).await?;
    let stays = place.stays();
    let wrote = place.fill(|out| shown.write(out, pods, names));
    let bytes = wrote.with_context(|| format!("{} cannot be written", args.output.display()))?;
    shown.report(&format!("{} → {}", size(bytes), target(args)));
    if stays {
        open_with(args, &shown.options());
    }
    Ok(Outcome::Healthy)
}

/// Everything of these pods until the end.
async fn capture(args: &Args, mesh: &Mesh, pods: &[Pod]) -> anyhow::Result<Recording> {
    let mut recording = Recording::new(args.max_size.saturating_mul(1 << 20));
    let mut readers = Readers::start(mesh, pods, args.snap, &args.filter)?;
    let (tell, mut secrets) = mpsc::channel(1024);
    let mut sidecars = pods.iter().filter(|pod| pod.meshed).count();
    if args.no_secrets {
        sidecars = 0;
    }
    // Also without secrets: what nobody may look at is left out.
    follow_secrets(args, mesh, tell).await?;
    if !args.fresh && sidecars > 0 {
        eprintln!(
            "sheer: connections between sidecars that are there already stay encrypted, and they last: --fresh has them replaced first, without losing a request"
        );
    }
    let ready = async {
        let (mut waiting_readers, mut waiting_sidecars) = (pods.len(), sidecars);
        while waiting_readers + waiting_sidecars > 0 {
            tokio::select! {
                biased; // the end of a reader before it began is what went wrong
                event = readers.next() => waiting_readers -= usize::from(recording.take(event)? == Event::READY),
                Some(secret) = secrets.recv() => {
                    let is_first = secret.secret.as_ref().is_none_or(|secret| secret.label.is_empty());
                    let first = is_first && secret.unseen.is_none();
                    waiting_sidecars -= usize::from(first && waiting_sidecars > 0);
                    recording.take_secret(secret);
                }
            }
        }
        anyhow::Ok(())
    };
    timeout(READY, ready)
        .await
        .context("the pods or their sidecars did not answer in time: look at them with `sheer check`")??;
    if args.fresh {
        renew(args, mesh).await?;
    }
    let end = args.lasting.map(|lasting| Instant::now() + lasting);
    let until = end.map_or_else(
        || "until Ctrl-C".to_owned(),
        |_| format!("for {:?}", args.lasting.unwrap_or_default()),
    );
    // Before anybody is told that it captures: who ends it then has the file.
    let mut interrupt = signal(SignalKind::interrupt())?;
    eprintln!("sheer: capturing {} ({} pods) {until}", args.workload, pods.len());
    let over = async {
        match end {
            Some(end) => sleep_until(end).await,
            None => std::future::pending().await,
        }
    };
    let mut over = std::pin::pin!(over);
    loop {
        tokio::select! {
            biased; // an end is an end, however much comes
            () = &mut over => break,
            _ = interrupt.recv() => break,
            event = readers.next() => {
                recording.take(event)?;
                if recording.is_full() {
                    eprintln!("sheer: {} MiB are reached: ending (--max-size)", args.max_size);
                    break;
                }
            }
            Some(secret) = secrets.recv() => recording.take_secret(secret),
        }
    }
    readers.end();
    // What was on its way.
    while let Some(event) = readers.last().await {
        recording.take(event)?;
    }
    while let Ok(secret) = secrets.try_recv() {
        recording.take_secret(secret);
    }
    let left_out = recording.leave_out(pods);
    if left_out > 0 {
        eprintln!(
            "sheer: {left_out} packets are left out: they are, or may be, of workloads with sheer.dev/sight: disabled, which nobody looks into"
        );
    }
    Ok(recording)
}

/// Sends what the sidecars tell of TLS, until nobody listens.
async fn follow_secrets(args: &Args, mesh: &Mesh, tell: mpsc::Sender<WorkloadSecret>) -> anyhow::Result<()> {
    let request = WatchSecretsRequest {
        workload: args.workload.clone(),
        namespace: args.namespace.clone().unwrap_or_default(),
        without_secrets: args.no_secrets,
    };
    let mut stream = mesh.secrets(request).await?;
    tokio::spawn(async move {
        while let Ok(Some(secret)) = stream.message().await {
            if tell.send(secret).await.is_err() {
                return;
            }
        }
    });
    Ok(())
}

async fn renew(args: &Args, mesh: &Mesh) -> anyhow::Result<()> {
    let request = RenewRequest {
        workload: args.workload.clone(),
        namespace: args.namespace.clone().unwrap_or_default(),
    };
    let (mut opened, mut accepted) = (0, 0);
    for proxy in mesh.renew_connections(request).await? {
        (opened, accepted) = (opened + proxy.opened, accepted + proxy.accepted);
        if !proxy.error.is_empty() {
            eprintln!("sheer: {}: connections stay: {}", proxy.pod, proxy.error);
        }
    }
    eprintln!("sheer: replaced {opened} connections to peers and {accepted} of peers");
    Ok(())
}

/// Says what the capture has, what it has not, and how to open it where it stays.
fn report(args: &Args, recording: &Recording, names: &Names, (bytes, stays): (u64, bool)) {
    let packets = recording.packets().len();
    eprintln!("sheer: {packets} packets, {} → {}", size(bytes), target(args));
    if recording.lost() > 0 {
        eprintln!(
            "sheer: {} packets were lost: the machine was too slow; narrow it with --filter",
            recording.lost()
        );
    }
    let tls = recording.tls(|address| names.is_meshed(address));
    if !args.no_secrets {
        eprintln!(
            "sheer: TLS connections that can be decrypted: {} of {}",
            tls.readable, tls.begun
        );
    }
    if tls.earlier > 0 && !args.no_secrets {
        eprintln!(
            "sheer: {} connections between sidecars began before the capture and stay encrypted: --fresh has them replaced first, without losing a request",
            tls.earlier
        );
    }
    for note in recording.notes() {
        eprintln!("sheer: {note}");
    }
    if stays {
        open_with(args, "-o tcp.try_heuristic_first:TRUE");
    }
    if tls.readable > 0 {
        eprintln!("sheer: the file opens these connections to whoever has it: keep it as you keep what they carried");
    }
}

fn target(args: &Args) -> String {
    if args.output == Path::new("-") {
        "stdout".to_owned()
    } else {
        args.output.display().to_string()
    }
}

fn open_with(args: &Args, options: &str) {
    eprintln!("sheer: open it with `wireshark {options} {}`", args.output.display());
}
