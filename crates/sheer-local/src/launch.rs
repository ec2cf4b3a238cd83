//! How a mesh starts: four processes, each a re-execution of the same program.
//!
//! ```text
//!  outer       `sheer up`: holds the lock, publishes ports on the host, talks to the terminal
//!   └ stage    leaves the host's network, mount, pid and host name namespaces (and, without root, the user namespace)
//!      └ init  pid 1 of the mesh: mounts /proc and a private /run, reaps, ends with the supervisor
//!         └ supervisor   runs the mesh: DNS, control plane, pods (see [`crate::supervisor`])
//! ```
//!
//! Each dies with its parent, and everything in a pid namespace dies with its init: whichever of them is killed, by whatever, nothing of
//! the mesh survives. They talk over one socket pair, which is the stdin of all but the outer: lines of JSON.

mod init;
mod outer;
mod ports;
mod stage;
mod stale;

use std::{os::unix::process::CommandExt as _, path::PathBuf};

use serde::{Deserialize, Serialize};

pub(crate) use init::PRIVATE;
pub use init::init;
pub use outer::{Mesh, UpError, refuse_second, start};
pub(crate) use stage::outer_socket;
pub use stage::stage;
pub use stale::{Stale, clean_up, wait_for_end};

/// What a mesh is started with.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Launch {
    /// State directory.
    pub state: PathBuf,
    /// Manifests: files and folders, watched.
    pub manifests: Vec<PathBuf>,
    /// Folder in which commands of manifests start, and against which they are relative.
    pub folder: PathBuf,
    /// The sidecar.
    pub proxy: PathBuf,
    /// Environment that applications have beside their manifest's.
    pub environment: std::collections::BTreeMap<String, String>,
}

/// What the mesh says while it starts and runs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "kebab-case")]
pub enum Event {
    /// A step that takes time.
    Progress {
        /// In the operator's words.
        text: String,
    },
    /// Something that is not honoured or not well, and what to do.
    Warning {
        /// In the operator's words.
        text: String,
    },
    /// Something that was not well is now.
    Recovered {
        /// In the operator's words.
        text: String,
    },
    /// Every workload was ready once.
    Ready {
        /// Pods that are ready.
        pods: usize,
        /// How long it took.
        millis: u64,
    },
    /// The ports that the mesh wants on the host, all of them.
    Publish {
        /// Ports of 127.0.0.1.
        ports: Vec<u16>,
    },
    /// The mesh cannot run.
    Failed {
        /// Why, and what to do.
        text: String,
    },
}

/// What the outer process says while the mesh runs: ports that it cannot open on the host now, and why.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Refusals(pub(crate) std::collections::BTreeMap<u16, String>);

/// The re-executions, as hidden subcommands spell them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Leaves the host's namespaces.
    Stage,
    /// Pid 1 of the mesh.
    Init,
    /// Runs the mesh.
    Supervisor,
}

/// The hidden subcommand under which the command line calls [`stage`], [`init`] and [`crate::supervisor::main`].
pub const COMMAND: &str = "mesh-process";

impl Role {
    /// The word after [`COMMAND`].
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Stage => "stage",
            Self::Init => "init",
            Self::Supervisor => "supervisor",
        }
    }

    /// The command that re-executes this program in the role. `/proc/self/exe`: the very same build, even if the file was replaced since.
    fn command(self) -> std::process::Command {
        let mut command = std::process::Command::new("/proc/self/exe");
        command.arg0("sheer").args([COMMAND, self.as_str()]);
        command
    }
}
