//! kill -9 under load. Requests are lost only where the connection that carried them died; everything else is answered.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use sheer_testkit::mesh::{Pod, pause};

use crate::{
    load::{Running, Shot, now},
    setup::Bench,
};

/// Requests a second.
const RATE: u32 = 200;
/// What one of three replicas is given until all have noticed that it is gone: no more can be on connections that die.
const IN_FLIGHT: usize = (RATE as usize * NOTICE as usize).div_ceil(3 * 1000);
/// From the kill until the last side has noticed that its connections are dead.
const NOTICE: u64 = 150;
/// How long the mesh may take until everything is ready again.
const REPAIR: Duration = Duration::from_secs(30);
/// How long a new sidecar may take.
const RESTART: Duration = Duration::from_secs(5);

/// What is killed.
struct Victim {
    /// Process id within the mesh.
    pid: u32,
    /// Where the status says so again, under a new process id, once it is ready.
    pod: Option<String>,
}

/// What a kill did to the load. Times in ms since the epoch.
struct Damage {
    /// Just before the kill.
    before: u64,
    /// Just after.
    killed: u64,
    /// When the new process was seen to be ready, where that was waited for.
    back: u64,
    shots: Vec<Shot>,
}

impl Damage {
    /// Kills under load.
    fn of(bench: &mut Bench, victim: impl FnOnce(&Bench) -> Result<Victim>) -> Result<Self> {
        bench.mesh.wait_until_ready(REPAIR)?;
        let victim = victim(bench)?;
        let load = Running::start(bench, RATE, 12)?;
        pause(Duration::from_secs(4));
        let before = now();
        let done = bench.mesh.kill(victim.pid);
        let killed = now();
        let back = back(bench, &victim);
        let shots = load.finish();
        bench.mesh.wait_until_ready(REPAIR)?;
        done?;
        Ok(Self {
            before,
            killed,
            back: back?,
            shots: shots?,
        })
    }

    fn lost(&self) -> Vec<&Shot> {
        self.shots.iter().filter(|shot| shot.lost()).collect()
    }

    fn text(&self) -> String {
        let lost = self.lost();
        let recovery = lost.last().map_or(0, |last| last.at.saturating_sub(self.killed));
        format!(
            "{} of {} requests lost, recovered after {recovery} ms",
            lost.len(),
            self.shots.len()
        )
    }

    /// Lost is only what was under way at the kill, or was due by `until`; everything else was answered.
    fn check(&self, until: u64) -> Result<String> {
        let text = self.text();
        let lost = self.lost();
        let over = |shot: &&&Shot| shot.at + shot.micros / 1000 < self.before;
        if let Some(early) = lost.iter().find(over) {
            bail!("lost before anything was killed: {early:?}; {text}");
        }
        let late: Vec<_> = lost.iter().filter(|shot| shot.at > until).collect();
        ensure!(
            late.is_empty(),
            "{} requests were lost that were due more than {} ms after the kill: {text}; first {:?}",
            late.len(),
            until.saturating_sub(self.killed),
            late.first()
        );
        Ok(text)
    }

    /// As [`Self::check`], where only some connections died.
    fn check_connections(&self) -> Result<String> {
        let text = self.check(self.killed + NOTICE)?;
        ensure!(
            self.lost().len() <= IN_FLIGHT,
            "more than {IN_FLIGHT} requests lost: {text}"
        );
        Ok(text)
    }
}

/// Waits until a sidecar runs anew and is ready.
fn back(bench: &Bench, victim: &Victim) -> Result<u64> {
    let Some(name) = &victim.pod else { return Ok(0) };
    let end = Instant::now() + RESTART;
    while Instant::now() < end {
        let status = bench.mesh.status()?;
        let mut pods = status["pods"].as_array().into_iter().flatten();
        let pod = pods.find(|pod| pod["name"].as_str() == Some(name));
        let sidecar = pod.map(|pod| &pod["sidecar"]);
        if sidecar
            .is_some_and(|it| it["ready"] == true && it["pid"].as_u64().is_some_and(|pid| pid != u64::from(victim.pid)))
        {
            return Ok(now());
        }
        pause(Duration::from_millis(20));
    }
    bail!("the sidecar of {name} is not ready again after {RESTART:?}")
}

/// The first pod of a workload, or the last.
fn pod(bench: &Bench, workload: &str, last: bool) -> Result<Pod> {
    let mut pods = bench.mesh.pods(workload)?;
    let pod = if last { pods.pop() } else { pods.into_iter().next() };
    pod.with_context(|| format!("no pod of {workload} runs"))
}

pub(crate) fn endpoint(bench: &mut Bench) -> Result<String> {
    let damage = Damage::of(bench, |bench| {
        let pid = pod(bench, "deploy/replica", false)?.app.context("no replica runs")?;
        Ok(Victim { pid, pod: None })
    })?;
    damage.check_connections()
}

pub(crate) fn endpoint_proxy(bench: &mut Bench) -> Result<String> {
    let damage = Damage::of(bench, |bench| {
        let pid = pod(bench, "deploy/replica", true)?
            .proxy
            .context("no replica has a proxy")?;
        Ok(Victim { pid, pod: None })
    })?;
    damage.check_connections()
}

/// All of the client's traffic goes through what died: what is lost is what fell into the gap.
pub(crate) fn client_proxy(bench: &mut Bench) -> Result<String> {
    let damage = Damage::of(bench, |bench| {
        let pod = pod(bench, "deploy/client", false)?;
        let pid = pod.proxy.context("the client has no proxy")?;
        Ok(Victim {
            pid,
            pod: Some(pod.name),
        })
    })?;
    let text = damage.check(damage.back)?;
    Ok(format!(
        "{text}; a new proxy was ready after {} ms",
        damage.back.saturating_sub(damage.killed)
    ))
}

pub(crate) fn control(bench: &mut Bench) -> Result<String> {
    let damage = Damage::of(bench, |bench| {
        let pid = bench.mesh.control()?;
        Ok(Victim { pid, pod: None })
    })?;
    ensure!(
        damage.lost().is_empty(),
        "{}; first {:?}",
        damage.text(),
        damage.lost().first()
    );
    // The new control plane is listened to: a fourth replica gets its share.
    bench.mesh.run(&["scale", "deploy/replica", "--replicas", "4"])?;
    bench.mesh.wait_until_ready(REPAIR)?;
    let load = Running::start(bench, RATE, 4)?;
    let shots = load.finish()?;
    let mut pods: Vec<u32> = shots.iter().map(|shot| shot.pod).filter(|pod| *pod != 0).collect();
    pods.sort_unstable();
    pods.dedup();
    bench.mesh.run(&["scale", "deploy/replica", "--replicas", "3"])?;
    ensure!(
        pods.len() == 4,
        "after the restart {} replicas get traffic where 4 run",
        pods.len()
    );
    Ok(format!("{}; a new replica was found afterwards", damage.text()))
}
