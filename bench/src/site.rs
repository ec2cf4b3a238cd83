//! Where the measurements happen: namespaces of the runner's own, in which a client's and a server's network hang on one bridge. All of it
//! vanishes with the runner.

use std::{
    os::unix::process::CommandExt as _,
    process::{Command, Stdio},
};

use anyhow::{Context as _, Result, ensure};

use crate::process::{Place, Proc};

/// Set for the runner inside its namespaces.
const INSIDE: &str = "SHEER_BENCH_INSIDE";
/// The client's address.
pub(crate) const CLIENT: &str = "10.99.0.2";
/// The server's address.
pub(crate) const SERVER: &str = "10.99.0.3";

/// Runs this program again inside namespaces of its own, as root or as root of a user namespace. Returns inside.
pub(crate) fn enter() -> Result<()> {
    if std::env::var_os(INSIDE).is_some() {
        return Ok(());
    }
    let mut command = Command::new("unshare");
    if !nix::unistd::geteuid().is_root() {
        command.args(["--user", "--map-root-user"]);
    }
    command.args(["--net", "--mount", "--pid", "--fork", "--mount-proc", "--kill-child"]);
    command
        .arg(std::env::current_exe()?)
        .args(std::env::args_os().skip(1))
        .env(INSIDE, "1");
    Err(command.exec()).context("start unshare (util-linux)")
}

/// The client's and the server's network.
#[derive(Debug)]
pub(crate) struct Site {
    pub(crate) client: Place,
    pub(crate) server: Place,
    _holders: [Proc; 2],
}

impl Site {
    /// Two namespaces, each with a veth on one bridge, as two pods of a mesh have it.
    pub(crate) fn new() -> Result<Self> {
        ip("link set lo up")?;
        ip("link add bench0 type bridge")?;
        ip("link set bench0 up")?;
        ip("addr add 10.99.0.1/24 dev bench0")?;
        let holders = [holder()?, holder()?];
        for (holder, (name, addr)) in holders.iter().zip([("client", CLIENT), ("server", SERVER)]) {
            let pid = holder.pid();
            ip(&format!("link add {name} type veth peer name eth0 netns {pid}"))?;
            ip(&format!("link set {name} master bench0 up"))?;
            for line in [
                "link set lo up".into(),
                format!("addr add {addr}/24 dev eth0"),
                "link set eth0 up".into(),
            ] {
                ip_in(pid, &line)?;
            }
        }
        let [client, server] = [holders[0].pid(), holders[1].pid()].map(|pid| Place { pid });
        Ok(Self {
            client,
            server,
            _holders: holders,
        })
    }
}

/// A process that does nothing in a network namespace of its own.
fn holder() -> Result<Proc> {
    let holder = Proc::spawn(
        Command::new("unshare")
            .args(["--net", "sleep", "infinity"])
            .stdout(Stdio::null()),
    )?;
    let own = std::fs::read_link("/proc/self/ns/net")?;
    for _ in 0..200 {
        if std::fs::read_link(format!("/proc/{}/ns/net", holder.pid())).is_ok_and(|ns| ns != own) {
            return Ok(holder);
        }
        crate::process::pause(std::time::Duration::from_millis(5));
    }
    anyhow::bail!("no network namespace")
}

fn ip(line: &str) -> Result<()> {
    run(Command::new("ip").args(line.split(' ')))
}

fn ip_in(pid: u32, line: &str) -> Result<()> {
    run(Command::new("nsenter")
        .arg(format!("--net=/proc/{pid}/ns/net"))
        .arg("ip")
        .args(line.split(' ')))
}

fn run(command: &mut Command) -> Result<()> {
    let status = command.status().with_context(|| format!("start {command:?}"))?;
    ensure!(status.success(), "{command:?}: {status}");
    Ok(())
}
