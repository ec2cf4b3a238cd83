//! Open-loop HTTP/2 load: requests leave when they are due, whether or not earlier ones were answered, and latency counts from the moment
//! that they were due. A slow proxy cannot slow the generator down and so hide its own queue.

use std::{cell::RefCell, collections::BTreeMap, net::SocketAddr, os::fd::OwnedFd, rc::Rc, time::Duration};

use anyhow::{Context as _, Result, bail, ensure};
use bytes::Bytes;
use clap::Args;
use h2::client::SendRequest;
use http::{Request, Uri};
use nix::sys::{
    time::TimeSpec,
    timerfd::{ClockId, Expiration, TimerFd, TimerFlags, TimerSetTimeFlags},
};
use serde::{Deserialize, Serialize};
use tokio::{
    io::unix::AsyncFd,
    net::TcpStream,
    task::spawn_local,
    time::{Instant, sleep},
};

/// Requests before this moment warm up and are not counted.
const WARM_UP: Duration = Duration::from_millis(500);
/// What is not answered by then, after the last request was sent, is an error.
const PATIENCE: Duration = Duration::from_secs(5);

/// Open-loop load.
#[derive(Args)]
pub(crate) struct OpenLoop {
    /// Where to connect to.
    #[arg(long)]
    addr: SocketAddr,
    /// What to ask for.
    #[arg(long)]
    uri: Uri,
    /// Requests a second over all connections.
    #[arg(long)]
    rate: f64,
    /// For how long.
    #[arg(long)]
    seconds: f64,
    /// Connections, used in turn.
    #[arg(long)]
    connections: usize,
}

/// What came out, in µs.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Latencies {
    /// Every counted latency, sorted, so that runs can be pooled.
    pub(crate) micros: Vec<u32>,
    /// Requests that failed, or were not answered in time, by what was said of them.
    pub(crate) failures: BTreeMap<String, u64>,
}

impl Latencies {
    /// Pools runs.
    pub(crate) fn pool(runs: &[Self]) -> Self {
        let mut micros: Vec<u32> = runs.iter().flat_map(|run| run.micros.iter().copied()).collect();
        micros.sort_unstable();
        let mut failures = BTreeMap::new();
        for (what, count) in runs.iter().flat_map(|run| &run.failures) {
            *failures.entry(what.clone()).or_default() += count;
        }
        Self { micros, failures }
    }

    /// Requests that failed.
    pub(crate) fn errors(&self) -> u64 {
        self.failures.values().sum()
    }

    /// A quantile, 0 where nothing was counted.
    pub(crate) fn quantile(&self, q: f64) -> u32 {
        let last = self.micros.len().saturating_sub(1);
        self.micros
            .get((last as f64 * q).round() as usize)
            .copied()
            .unwrap_or(0)
    }
}

#[derive(Default)]
struct Tally {
    latencies: Latencies,
    in_flight: usize,
}

impl OpenLoop {
    pub(crate) async fn run(self) -> Result<()> {
        ensure!(self.rate > 0.0 && self.connections > 0, "nothing to do");
        let mut senders = Vec::new();
        for _ in 0..self.connections {
            senders.push(connect(self.addr).await?);
        }
        let tally = Rc::new(RefCell::new(Tally::default()));
        self.pace(&senders, &tally).await?;
        let deadline = Instant::now() + PATIENCE;
        while tally.borrow().in_flight > 0 && Instant::now() < deadline {
            sleep(Duration::from_millis(5)).await;
        }
        let mut tally = tally.borrow_mut();
        let mut latencies = std::mem::take(&mut tally.latencies);
        latencies.micros.sort_unstable();
        if tally.in_flight > 0 {
            let late = format!("not answered within {PATIENCE:?} after the last request");
            latencies.failures.insert(late, tally.in_flight as u64);
        }
        serde_json::to_writer(std::io::stdout(), &latencies)?;
        Ok(())
    }

    /// Sends each request when it is due. A timer of the kernel paces: the runtime's own ticks once a millisecond.
    async fn pace(&self, senders: &[SendRequest<Bytes>], tally: &Rc<RefCell<Tally>>) -> Result<()> {
        let interval = Duration::from_secs_f64(1.0 / self.rate);
        let total = (self.rate * (self.seconds + WARM_UP.as_secs_f64())) as u64;
        let timer = TimerFd::new(ClockId::CLOCK_MONOTONIC, TimerFlags::TFD_NONBLOCK)?;
        let started = Instant::now();
        timer.set(
            Expiration::Interval(TimeSpec::from_duration(interval)),
            TimerSetTimeFlags::empty(),
        )?;
        #[expect(
            deprecated,
            reason = "its successor is unsafe; this descriptor is owned and outlives its registration"
        )]
        let timer = AsyncFd::new(OwnedFd::from(timer))?;
        let mut sent = 0;
        while sent < total {
            timer.readable().await?.clear_ready();
            let due = (started.elapsed().as_secs_f64() * self.rate) as u64;
            // The kernel's count is only the wake-up; the clock says what is due.
            let _ = nix::unistd::read(timer.get_ref(), &mut [0; 8]);
            for n in sent..due.min(total) {
                let at = started + interval.mul_f64((n + 1) as f64);
                let counted = at.duration_since(started) > WARM_UP;
                let sender = senders[n as usize % senders.len()].clone();
                tally.borrow_mut().in_flight += 1;
                spawn_local(request(sender, self.uri.clone(), at, counted, tally.clone()));
            }
            sent = sent.max(due.min(total));
        }
        Ok(())
    }
}

async fn connect(addr: SocketAddr) -> Result<SendRequest<Bytes>> {
    let stream = TcpStream::connect(addr)
        .await
        .with_context(|| format!("connect {addr}"))?;
    stream.set_nodelay(true)?;
    let (send, connection) = h2::client::handshake(stream).await?;
    spawn_local(async move {
        let _ = connection.await;
    });
    Ok(send)
}

async fn request(sender: SendRequest<Bytes>, uri: Uri, due: Instant, counted: bool, tally: Rc<RefCell<Tally>>) {
    let outcome = exchange(sender, uri).await;
    let mut tally = tally.borrow_mut();
    tally.in_flight -= 1;
    match outcome {
        Ok(()) if counted => tally.latencies.micros.push(due.elapsed().as_micros() as u32),
        Ok(()) => {}
        Err(error) => *tally.latencies.failures.entry(format!("{error:#}")).or_default() += 1,
    }
}

async fn exchange(sender: SendRequest<Bytes>, uri: Uri) -> Result<()> {
    let mut sender = sender.ready().await?;
    let (response, _) = sender.send_request(Request::get(uri).body(())?, true)?;
    let response = response.await?;
    if !response.status().is_success() {
        // Sheer says it as Linkerd does; Envoy says it in the body.
        let said = response.headers().get("l5d-proxy-error");
        let said = said.map(|said| String::from_utf8_lossy(said.as_bytes()).into_owned());
        bail!(
            "{}: {}",
            response.status(),
            said.as_deref().unwrap_or("no more is said")
        );
    }
    let mut body = response.into_body();
    while let Some(chunk) = body.data().await {
        body.flow_control().release_capacity(chunk?.len())?;
    }
    Ok(())
}
