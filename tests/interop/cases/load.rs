//! The replicas of the balancing and fault cases, and the load on them: this program's own ends, which run inside pods.
//!
//! The load is open loop. It opens a connection again where one died, as a real client does, and counts a request as lost where it got no
//! answer or one that is not 200.

use std::{
    cell::RefCell,
    process::{Child, Stdio},
    rc::Rc,
    sync::atomic::{AtomicU64, Ordering},
    time::{Duration, Instant, SystemTime},
};

use anyhow::{Context as _, Result, ensure};
use bytes::Bytes;
use h2::client::SendRequest;
use http::{Request, Response};
use serde::{Deserialize, Serialize};
use tokio::{
    net::{TcpListener, TcpStream},
    task::{LocalSet, spawn_local},
    time::{MissedTickBehavior, interval, sleep, timeout},
};

use crate::setup::Bench;

/// What a replica takes for a request, unless told otherwise.
const WORK: Duration = Duration::from_millis(5);
/// Connections of the load.
const CONNECTIONS: usize = 4;
/// A request without an answer by then is lost.
const PATIENCE: Duration = Duration::from_secs(5);

/// One request of the load.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(crate) struct Shot {
    /// When it was due, ms since the epoch.
    pub(crate) at: u64,
    /// How long until it was answered or lost.
    pub(crate) micros: u64,
    /// HTTP status; 0 where there was no answer.
    pub(crate) status: u16,
    /// Who answered: the replica's process id.
    pub(crate) pod: u32,
}

impl Shot {
    pub(crate) fn lost(&self) -> bool {
        self.status != 200
    }
}

/// Load that runs.
pub(crate) struct Running(Child);

impl Running {
    /// Starts load on the replicas, from the meshed client.
    pub(crate) fn start(bench: &Bench, rate: u32, seconds: u32) -> Result<Self> {
        let program = std::env::current_exe()?.display().to_string();
        let (rate, seconds) = (rate.to_string(), seconds.to_string());
        let mut command = bench.mesh.exec(
            "deploy/client",
            &[&program, "load", "replica.interop:7000", &rate, &seconds],
        );
        Ok(Self(command.stdout(Stdio::piped()).spawn()?))
    }

    /// Waits for its end.
    pub(crate) fn finish(self) -> Result<Vec<Shot>> {
        let output = self.0.wait_with_output()?;
        ensure!(output.status.success(), "the load ended with {}", output.status);
        let shots: Vec<Shot> = serde_json::from_slice(&output.stdout).context("output of the load")?;
        ensure!(!shots.is_empty(), "the load sent nothing");
        Ok(shots)
    }
}

/// Milliseconds since the epoch: what two processes can compare.
#[expect(clippy::disallowed_methods, reason = "two processes have no other clock in common")]
pub(crate) fn now() -> u64 {
    SystemTime::now()
        .duration_since(SystemTime::UNIX_EPOCH)
        .map_or(0, |time| time.as_millis() as u64)
}

/// Latency at a quantile, µs.
pub(crate) fn quantile(shots: &[Shot], q: f64) -> u64 {
    let mut micros: Vec<u64> = shots.iter().map(|shot| shot.micros).collect();
    micros.sort_unstable();
    let last = micros.len().saturating_sub(1) as f64;
    micros.get((last * q).round() as usize).copied().unwrap_or(0)
}

fn block_on<T>(work: impl Future<Output = Result<T>>) -> Result<T> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    LocalSet::new().block_on(&runtime, work)
}

/// `serve PORT`: a replica. `/delay?ms=N` makes it slow.
pub(crate) fn serve(arguments: &[String]) -> Result<()> {
    let port: u16 = arguments.first().context("serve PORT")?.parse()?;
    block_on(async {
        let delay: &'static AtomicU64 = Box::leak(Box::new(AtomicU64::new(0)));
        let listener = TcpListener::bind(("::", port)).await?;
        loop {
            let (stream, _) = listener.accept().await?;
            // Two answers written one after the other would wait 40 ms for the peer's delayed ACK: a latency of this server's own.
            stream.set_nodelay(true)?;
            spawn_local(async move {
                let mut connection = h2::server::handshake(stream).await?;
                while let Some(next) = connection.accept().await {
                    let (request, respond) = next?;
                    spawn_local(answer(request.uri().clone(), respond, delay));
                }
                anyhow::Ok(())
            });
        }
    })
}

async fn answer(uri: http::Uri, mut respond: h2::server::SendResponse<Bytes>, delay: &AtomicU64) -> Result<()> {
    if let Some(ms) = uri.query().and_then(|query| query.strip_prefix("ms=")) {
        delay.store(ms.parse()?, Ordering::Relaxed);
    } else {
        sleep(WORK + Duration::from_millis(delay.load(Ordering::Relaxed))).await;
    }
    let response = Response::builder().header("x-pod", std::process::id()).body(())?;
    respond.send_response(response, true)?;
    Ok(())
}

/// `load HOST:PORT RATE SECONDS`: prints every request as JSON.
pub(crate) fn generate(arguments: &[String]) -> Result<()> {
    let [target, rate, seconds] = arguments else {
        anyhow::bail!("load HOST:PORT RATE SECONDS")
    };
    let (rate, seconds): (f64, f64) = (rate.parse()?, seconds.parse()?);
    block_on(async {
        let shots = Rc::new(RefCell::new(Vec::new()));
        let connections: Vec<Connection> = (0..CONNECTIONS).map(|_| Connection::default()).collect();
        let total = (rate * seconds) as usize;
        let mut ticks = interval(Duration::from_secs_f64(1.0 / rate));
        ticks.set_missed_tick_behavior(MissedTickBehavior::Burst);
        for n in 0..total {
            ticks.tick().await;
            let (connection, target) = (connections[n % CONNECTIONS].clone(), target.clone());
            let shots = shots.clone();
            spawn_local(async move {
                let (at, started) = (now(), Instant::now());
                let (status, pod) = match timeout(PATIENCE, shoot(&connection, &target)).await {
                    Ok(Ok(answer)) => answer,
                    Ok(Err(_)) | Err(_) => (0, 0),
                };
                let micros = started.elapsed().as_micros() as u64;
                shots.borrow_mut().push(Shot {
                    at,
                    micros,
                    status,
                    pod,
                });
            });
        }
        let end = Instant::now() + PATIENCE + Duration::from_secs(1);
        while shots.borrow().len() < total && Instant::now() < end {
            sleep(Duration::from_millis(10)).await;
        }
        let mut shots = shots.borrow_mut();
        shots.sort_by_key(|shot| shot.at);
        serde_json::to_writer(std::io::stdout(), &*shots)?;
        Ok(())
    })
}

type Connection = Rc<RefCell<Option<SendRequest<Bytes>>>>;

async fn shoot(connection: &Connection, target: &str) -> Result<(u16, u32)> {
    let kept = connection.borrow().clone();
    let ready = match kept {
        Some(send) => send.ready().await.ok(),
        None => None,
    };
    let mut send = match ready {
        Some(send) => send,
        None => open(connection, target).await?.ready().await?,
    };
    let (response, _) = send.send_request(Request::get(format!("http://{target}/work")).body(())?, true)?;
    let response = response.await?;
    let pod = response
        .headers()
        .get("x-pod")
        .and_then(|pod| pod.to_str().ok()?.parse().ok())
        .unwrap_or(0);
    Ok((response.status().as_u16(), pod))
}

async fn open(connection: &Connection, target: &str) -> Result<SendRequest<Bytes>> {
    let stream = TcpStream::connect(target).await?;
    stream.set_nodelay(true)?;
    let (send, drive) = h2::client::handshake(stream).await?;
    spawn_local(async move {
        let _ = drive.await;
    });
    *connection.borrow_mut() = Some(send.clone());
    Ok(send)
}
