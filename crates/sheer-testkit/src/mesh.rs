//! A local mesh for tests of the whole product: `sheer up` on manifests in a state folder of its own, ended and cleaned up with the value.
//!
//! It goes through the command line only, as a user does. It must not reach into the product's crates.

use std::{
    fs,
    net::IpAddr,
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail, ensure};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use serde_json::Value;

/// Names the folder with the binaries `sheer` and `sheer-proxy` that tests run.
pub const BIN: &str = "SHEER_TEST_BIN";
/// How long a mesh may take to come up on a busy machine.
const START: Duration = Duration::from_secs(90);
/// How long one command may take.
const COMMAND: Duration = Duration::from_secs(120);

/// A mesh that runs.
#[derive(Debug)]
pub struct Mesh {
    sheer: PathBuf,
    state: tempfile::TempDir,
    supervisor: Child,
}

/// One pod, as `sheer ps -o json` has it.
#[derive(Clone, Debug)]
pub struct Pod {
    /// Name.
    pub name: String,
    /// What made it, as `deploy/web`.
    pub workload: String,
    /// First IPv4 address.
    pub ip: IpAddr,
    /// Whether it takes traffic.
    pub ready: bool,
    /// Process of its first container, in the mesh's pid namespace.
    pub app: Option<u32>,
    /// Its sidecar's process.
    pub proxy: Option<u32>,
}

impl Mesh {
    /// Brings up what a manifest says with the binaries of [`BIN`], and waits until every workload is ready.
    pub fn up(manifests: &Path) -> Result<Self> {
        let bin = std::env::var_os(BIN).with_context(|| {
            format!("{BIN} must name the folder with `sheer` and `sheer-proxy`, as target/quick after `make build`")
        })?;
        Self::up_with(Path::new(&bin), manifests)
    }

    /// The same with the binaries of a folder.
    pub fn up_with(bin: &Path, manifests: &Path) -> Result<Self> {
        let sheer = bin.join("sheer");
        let both = sheer.exists() && bin.join("sheer-proxy").exists();
        ensure!(both, "no `sheer` and `sheer-proxy` in {}", bin.display());
        let state = tempfile::Builder::new().prefix("sheer-test.").tempdir()?;
        let log = fs::File::create(state.path().join("up.log"))?;
        // The mesh ends with the test, also where that is killed.
        let supervisor = Command::new("setpriv")
            .args(["--pdeathsig", "TERM"])
            .arg(&sheer)
            .arg("--state")
            .arg(state.path())
            .args(["up", "-f"])
            .arg(manifests)
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()
            .context("start sheer up through setpriv (util-linux)")?;
        let mut mesh = Self {
            sheer,
            state,
            supervisor,
        };
        mesh.wait_until_ready(START)?;
        Ok(mesh)
    }

    /// Waits until every workload has all its pods ready.
    pub fn wait_until_ready(&mut self, patience: Duration) -> Result<()> {
        let end = Instant::now() + patience;
        loop {
            if let Some(status) = self.supervisor.try_wait()? {
                bail!("`sheer up` ended with {status}:\n{}", self.log());
            }
            let status = self.status();
            let all = status.as_ref().ok().and_then(|status| status["workloads"].as_array());
            if all.is_some_and(|all| !all.is_empty() && all.iter().all(|w| w["ready"] == w["replicas"])) {
                return Ok(());
            }
            if Instant::now() > end {
                let table = self.run(&["ps", "-o", "wide"]).unwrap_or_default();
                bail!("the mesh is not ready after {patience:?}:\n{table}\n{}", self.log());
            }
            pause(Duration::from_millis(100));
        }
    }

    /// What `sheer up` has said so far.
    pub fn log(&self) -> String {
        fs::read_to_string(self.state.path().join("up.log")).unwrap_or_default()
    }

    /// The folder of the mesh's state, sockets and logs.
    pub fn state(&self) -> &Path {
        self.state.path()
    }

    /// A command of `sheer` on this mesh.
    pub fn sheer(&self, args: &[&str]) -> Command {
        let mut command = Command::new(&self.sheer);
        command
            .arg("--state")
            .arg(self.state.path())
            .args(args)
            .stdin(Stdio::null());
        command
    }

    /// Runs a command of `sheer` and gives what it printed; an exit code other than 0 is an error.
    pub fn run(&self, args: &[&str]) -> Result<String> {
        finish(&mut self.sheer(args), COMMAND)
    }

    /// A command inside a pod.
    pub fn exec(&self, workload: &str, command: &[&str]) -> Command {
        let mut args = vec!["exec", workload, "--"];
        args.extend(command);
        self.sheer(&args)
    }

    /// Runs a command inside a pod and gives what it printed; an exit code other than 0 is an error.
    pub fn inside(&self, workload: &str, command: &[&str]) -> Result<String> {
        finish(&mut self.exec(workload, command), COMMAND)
    }

    /// `sheer ps -o json`.
    pub fn status(&self) -> Result<Value> {
        let output = run_for(&mut self.sheer(&["ps", "-o", "json"]), Duration::from_secs(10))?;
        serde_json::from_slice(&output.stdout).context("sheer ps -o json")
    }

    /// Pods of a workload, in the order of their names.
    pub fn pods(&self, workload: &str) -> Result<Vec<Pod>> {
        let status = self.status()?;
        let pods = status["pods"].as_array().into_iter().flatten().filter_map(pod);
        let mut pods: Vec<Pod> = pods.filter(|pod| pod.workload == workload).collect();
        pods.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(pods)
    }

    /// Kills a process of the mesh (SIGKILL), by its id in the mesh's pid namespace.
    pub fn kill(&self, pid: u32) -> Result<()> {
        Ok(kill(Pid::from_raw(self.host_pid(pid)? as i32), Signal::SIGKILL)?)
    }

    /// The process id on the host of a process of the mesh.
    pub fn host_pid(&self, pid: u32) -> Result<u32> {
        let ours = self.family();
        ours.into_iter()
            .find(|host| {
                let status = fs::read_to_string(format!("/proc/{host}/status")).unwrap_or_default();
                let mut ids = status.lines().filter_map(|line| line.strip_prefix("NSpid:"));
                ids.next().is_some_and(|ids| {
                    let ids: Vec<u32> = ids.split_whitespace().filter_map(|id| id.parse().ok()).collect();
                    ids.len() > 1 && ids.last() == Some(&pid)
                })
            })
            .with_context(|| format!("no process of this mesh has the id {pid}"))
    }

    /// The supervisor's process id on the host.
    pub fn supervisor(&self) -> u32 {
        self.supervisor.id()
    }

    /// The control plane's process, in the mesh's pid namespace.
    pub fn control(&self) -> Result<u32> {
        let pid = self.status()?["control"]["pid"].as_u64();
        Ok(pid.context("the control plane does not run")? as u32)
    }

    /// The supervisor and all its descendants.
    fn family(&self) -> Vec<u32> {
        let all = fs::read_dir("/proc").into_iter().flatten().flatten();
        let all = all.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
        let parents: Vec<(u32, u32)> = all
            .filter_map(|pid| {
                let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
                Some((pid, stat.rsplit_once(") ")?.1.split(' ').nth(1)?.parse().ok()?))
            })
            .collect();
        let mut family = vec![self.supervisor.id()];
        let mut next = 0;
        while let Some(&member) = family.get(next) {
            family.extend(
                parents
                    .iter()
                    .filter(|(_, parent)| *parent == member)
                    .map(|(pid, _)| *pid),
            );
            next += 1;
        }
        family
    }

    /// Copies the logs of everything to a folder, for a test that failed.
    pub fn keep_logs(&self, to: &Path) -> Result<()> {
        fs::create_dir_all(to)?;
        fs::copy(self.state.path().join("up.log"), to.join("up.log"))?;
        for entry in fs::read_dir(self.state.path().join("logs"))? {
            let entry = entry?;
            if entry.file_type()?.is_file() {
                fs::copy(entry.path(), to.join(entry.file_name()))?;
            }
        }
        Ok(())
    }
}

impl Drop for Mesh {
    fn drop(&mut self) {
        let _ = kill(Pid::from_raw(self.supervisor.id() as i32), Signal::SIGTERM);
        let end = Instant::now() + Duration::from_secs(20);
        while matches!(self.supervisor.try_wait(), Ok(None)) && Instant::now() < end {
            pause(Duration::from_millis(50));
        }
        let _ = self.supervisor.kill();
        let _ = self.supervisor.wait();
        // What a supervisor that hung left behind.
        let _ = run_for(&mut self.sheer(&["down"]), Duration::from_secs(20));
    }
}

fn pod(json: &Value) -> Option<Pod> {
    let text = |key: &str| json[key].as_str().map(ToOwned::to_owned);
    let pid = |program: &Value| program["pid"].as_u64().map(|pid| pid as u32);
    Some(Pod {
        name: text("name")?,
        workload: text("workload")?,
        ip: json["ips"][0].as_str()?.parse().ok()?,
        ready: json["ready"].as_bool()?,
        app: pid(&json["containers"][0]),
        proxy: pid(&json["sidecar"]),
    })
}

/// Runs a command to its end; an exit code other than 0 is an error that holds what it printed.
pub fn finish(command: &mut Command, limit: Duration) -> Result<String> {
    let Output { status, stdout, stderr } = run_for(command, limit)?;
    let stdout = String::from_utf8_lossy(&stdout).into_owned();
    ensure!(
        status.success(),
        "{command:?}: {status}\n{}{}",
        stdout,
        String::from_utf8_lossy(&stderr)
    );
    Ok(stdout)
}

/// Runs a command; kills it after `limit`.
pub fn run_for(command: &mut Command, limit: Duration) -> Result<Output> {
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn();
    let child = child
        .as_mut()
        .map_err(|error| anyhow::anyhow!("start {command:?}: {error}"))?;
    let (stdout, stderr) = (drain(child.stdout.take()), drain(child.stderr.take()));
    let end = Instant::now() + limit;
    let status = loop {
        if let Some(status) = child.try_wait()? {
            break status;
        }
        if Instant::now() > end {
            let _ = child.kill();
            let _ = child.wait();
            bail!("{command:?} took more than {limit:?}");
        }
        pause(Duration::from_millis(5));
    };
    let read = |thread: std::thread::JoinHandle<Vec<u8>>| thread.join().unwrap_or_default();
    Ok(Output {
        status,
        stdout: read(stdout),
        stderr: read(stderr),
    })
}

fn drain(pipe: Option<impl std::io::Read + Send + 'static>) -> std::thread::JoinHandle<Vec<u8>> {
    std::thread::spawn(move || {
        let mut all = Vec::new();
        if let Some(mut pipe) = pipe {
            let _ = pipe.by_ref().read_to_end(&mut all);
        }
        all
    })
}

/// Waits, in a test that has no runtime.
#[expect(clippy::disallowed_methods, reason = "a test of processes has no runtime to block")]
pub fn pause(time: Duration) {
    std::thread::sleep(time);
}
