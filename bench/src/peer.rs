//! The pairs that are compared, each brought up ready to measure: client side, `outbound` proxy, mTLS HTTP/2, `inbound` proxy, server.

mod direct;
mod envoy;
mod floor;
mod nghttpx;
pub(crate) mod sheer;

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
    process::Stdio,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail};
use clap::ValueEnum;
use sheer_testkit::mesh::Mesh;

use crate::{
    h2load::{self, LOADS},
    process::{self, LOAD_CORE, PROXY_CORE, Place, Proc},
    site::{self, SERVER, Site},
};

/// What is asked for: 128 bytes.
pub(crate) const PATH: &str = "/f128";
/// Where nghttpd listens.
const HTTP_PORT: u16 = 9000;
/// Where the TCP server listens.
const TCP_PORT: u16 = 9100;

/// What is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Peer {
    /// No proxy.
    Direct,
    /// A bare forwarder from the same libraries.
    Floor,
    /// Sheer, with its control plane and everything on.
    Sheer,
    /// Envoy, static configuration.
    Envoy,
    /// nghttpx.
    Nghttpx,
}

impl Peer {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Direct => "direct",
            Self::Floor => "floor",
            Self::Sheer => "sheer",
            Self::Envoy => "envoy",
            Self::Nghttpx => "nghttpx",
        }
    }
}

/// A pair that is up.
#[derive(Debug)]
pub(crate) struct Pair {
    pub(crate) peer: Peer,
    /// Version, for the report.
    pub(crate) version: String,
    /// Where load comes from.
    pub(crate) client: Place,
    /// Entrance for HTTP/2 as the client sees it.
    pub(crate) http: SocketAddr,
    /// `:authority` of the requests.
    pub(crate) authority: String,
    /// Entrance for opaque TCP, where the peer can carry it.
    pub(crate) tcp: Option<SocketAddr>,
    pub(crate) outbound: Vec<u32>,
    pub(crate) inbound: Vec<u32>,
    /// The proxies that carry TCP; the same as above or processes of their own.
    pub(crate) tcp_outbound: Vec<u32>,
    pub(crate) tcp_inbound: Vec<u32>,
    _held: Held,
}

/// What ends with a pair.
#[derive(Debug)]
enum Held {
    Nothing,
    Procs { _procs: Vec<Proc> },
    Mesh { _mesh: Box<Mesh> },
}

/// What every pair needs to come up.
pub(crate) struct Bring<'a> {
    pub(crate) site: &'a Site,
    /// Certificates, documents, configurations and logs of this run.
    pub(crate) work: &'a Path,
    /// Folder of the binaries `sheer` and `sheer-proxy`.
    pub(crate) bin: &'a Path,
    /// Envoy's binary.
    pub(crate) envoy: &'a Path,
}

/// What measurements of Sheer alone stand on, without any other proxy.
pub(crate) struct Alone {
    site: Site,
    work: tempfile::TempDir,
    bin: PathBuf,
}

impl Alone {
    /// Inside namespaces of its own; `bin` has `sheer` and `sheer-proxy`, and is where this program is by default.
    pub(crate) fn enter(bin: Option<&Path>) -> Result<Self> {
        site::enter()?;
        let work = tempfile::Builder::new().prefix("sheer-bench.").tempdir()?;
        std::fs::create_dir(work.path().join("www"))?;
        std::fs::write(work.path().join("www/f128"), [b'x'; 128])?;
        let beside = || Some(std::env::current_exe().ok()?.parent()?.to_owned());
        let bin = bin
            .map(Path::to_owned)
            .or_else(beside)
            .context("no folder of binaries")?;
        let site = Site::new()?;
        Ok(Self { site, work, bin })
    }

    pub(crate) fn bring(&self) -> Bring<'_> {
        Bring {
            site: &self.site,
            work: self.work.path(),
            bin: &self.bin,
            envoy: Path::new(""),
        }
    }
}

impl Bring<'_> {
    /// Brings a pair up and waits until it answers.
    pub(crate) fn up(&self, peer: Peer) -> Result<Pair> {
        let pair = match peer {
            Peer::Direct => direct::up(self),
            Peer::Floor => floor::up(self),
            Peer::Sheer => sheer::up(self),
            Peer::Envoy => envoy::up(self),
            Peer::Nghttpx => nghttpx::up(self),
        };
        let pair = pair.with_context(|| format!("bring up {}", peer.name()))?;
        pair.wait_until_it_answers().with_context(|| {
            format!(
                "{} does not answer; its logs are in {}",
                peer.name(),
                self.work.display()
            )
        })?;
        Ok(pair)
    }

    /// The servers that the pairs without a mesh share.
    pub(crate) fn servers(&self) -> Result<Vec<Proc>> {
        let mut nghttpd = self.site.server.command(LOAD_CORE, "nghttpd");
        nghttpd
            .args(["--no-tls", "-d"])
            .arg(self.documents())
            .arg(HTTP_PORT.to_string());
        let mut tcp = self.site.server.command(LOAD_CORE, std::env::current_exe()?);
        tcp.args(["tcp-server", "--listen", &format!("0.0.0.0:{TCP_PORT}")]);
        Ok(vec![
            self.spawn("nghttpd", &mut nghttpd)?,
            self.spawn("tcp-server", &mut tcp)?,
        ])
    }

    fn documents(&self) -> PathBuf {
        self.work.join("www")
    }

    /// A proxy on the proxies' core.
    fn proxy(&self, place: Place, program: impl AsRef<std::ffi::OsStr>) -> std::process::Command {
        place.command(PROXY_CORE, program)
    }

    /// Starts a program with its output in a log of its own.
    fn spawn(&self, name: &str, command: &mut std::process::Command) -> Result<Proc> {
        let log = std::fs::File::create(self.work.join(format!("{name}.log")))?;
        Proc::spawn(command.stdout(Stdio::from(log.try_clone()?)).stderr(Stdio::from(log)))
    }

    /// Writes a configuration with `@WORK@` replaced, and gives its path.
    fn config(&self, name: &str, template: &str) -> Result<PathBuf> {
        let path = self.work.join(name);
        std::fs::write(&path, template.replace("@WORK@", &self.work.display().to_string()))?;
        Ok(path)
    }
}

impl Pair {
    fn wait_until_it_answers(&self) -> Result<()> {
        let end = Instant::now() + Duration::from_secs(30);
        loop {
            match h2load::run(self.client, self.http, &self.authority, LOADS[1], 16) {
                Ok(closed) if closed.errors == 0 => return Ok(()),
                Err(error) if Instant::now() > end => return Err(error),
                Ok(closed) if Instant::now() > end => bail!("{} of 16 requests fail", closed.errors),
                _ => process::pause(Duration::from_millis(200)),
            }
        }
    }
}

/// `host:port` of something that listens in the server's namespace.
fn at_server(port: u16) -> SocketAddr {
    SocketAddr::new(SERVER.parse().expect("a constant address"), port)
}

/// `127.0.0.1:port`.
fn local(port: u16) -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], port))
}

/// First line of a program's version text.
fn version_of(program: &Path, argument: &str) -> String {
    let text = process::output(
        std::process::Command::new(program).arg(argument),
        Duration::from_secs(5),
    );
    text.ok()
        .and_then(|text| Some(text.trim().lines().next()?.to_owned()))
        .unwrap_or_default()
}
