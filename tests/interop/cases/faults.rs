//! kill -9 under load. Requests are lost only where the connection that carried them died; everything else is answered.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use sheer_testkit::mesh::pause;

use crate::{
    load::{Running, Shot, now},
    setup::Bench,
};

/// Requests a second.
const RATE: u32 = 200;
/// What is on its way to one of three replicas that take 5 ms each, with room for a slow machine.
const IN_FLIGHT: usize = 20;
/// How long the mesh may take until everything is ready again.
const REPAIR: Duration = Duration::from_secs(30);

/// What a kill did to the load.
struct Damage {
    killed: u64,
    shots: Vec<Shot>,
}

impl Damage {
    /// Kills under load.
    fn of(bench: &mut Bench, kill: impl FnOnce(&Bench) -> Result<()>) -> Result<Self> {
        bench.mesh.wait_until_ready(REPAIR)?;
        let load = Running::start(bench, RATE, 12)?;
        pause(Duration::from_secs(4));
        let killed = now();
        let done = kill(bench);
        let shots = load.finish();
        bench.mesh.wait_until_ready(REPAIR)?;
        done?;
        Ok(Self { killed, shots: shots? })
    }

    fn lost(&self) -> Vec<&Shot> {
        self.shots.iter().filter(|shot| shot.lost()).collect()
    }

    /// From the kill until the last lost request was due, ms.
    fn recovery(&self) -> u64 {
        self.lost().last().map_or(0, |last| last.at.saturating_sub(self.killed))
    }

    fn text(&self) -> String {
        let lost = self.lost().len();
        format!(
            "{lost} of {} requests lost, recovered after {} ms",
            self.shots.len(),
            self.recovery()
        )
    }

    /// Few were lost, all of them around the kill.
    fn check(&self, most: usize, recovery: u64) -> Result<String> {
        let text = self.text();
        let lost = self.lost();
        let early = lost.iter().filter(|shot| shot.at + 1_000 < self.killed).count();
        ensure!(
            early == 0,
            "{early} requests were lost before anything was killed; {text}"
        );
        ensure!(
            lost.len() <= most,
            "more than {most} requests lost: {text}; first {:?}",
            lost.first()
        );
        ensure!(
            self.recovery() <= recovery,
            "recovery took more than {recovery} ms: {text}"
        );
        Ok(text)
    }
}

pub(crate) fn endpoint(bench: &mut Bench) -> Result<String> {
    let damage = Damage::of(bench, |bench| {
        let pods = bench.mesh.pods("deploy/replica")?;
        bench
            .mesh
            .kill(pods.first().and_then(|pod| pod.app).context("no replica runs")?)
    })?;
    damage.check(IN_FLIGHT, 2_000)
}

pub(crate) fn endpoint_proxy(bench: &mut Bench) -> Result<String> {
    let damage = Damage::of(bench, |bench| {
        let pods = bench.mesh.pods("deploy/replica")?;
        bench.mesh.kill(
            pods.last()
                .and_then(|pod| pod.proxy)
                .context("no replica has a proxy")?,
        )
    })?;
    damage.check(IN_FLIGHT, 2_000)
}

pub(crate) fn client_proxy(bench: &mut Bench) -> Result<String> {
    let damage = Damage::of(bench, |bench| {
        let pods = bench.mesh.pods("deploy/client")?;
        bench.mesh.kill(
            pods.first()
                .and_then(|pod| pod.proxy)
                .context("the client has no proxy")?,
        )
    })?;
    // All of the client's traffic goes through what died: what is lost is what fell into the gap.
    let recovery = 5_000;
    damage.check(RATE as usize * recovery as usize / 1000, recovery)
}

pub(crate) fn control(bench: &mut Bench) -> Result<String> {
    let damage = Damage::of(bench, |bench| bench.mesh.kill(bench.mesh.control()?))?;
    damage.check(0, 0)?;
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
