//! The state directory of a local mesh: where everything lies, and who may read it.
//!
//! The supervisor writes it, the command line reads it. Nothing else in the crate spells a path below it.

use std::{
    fs, io,
    os::unix::fs::{DirBuilderExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
};

use crate::workload::WorkloadId;

/// Why there is no state directory.
#[derive(Debug, thiserror::Error)]
pub enum StateError {
    /// Neither flag nor environment names one.
    #[error("no place for the mesh's state: HOME is not set. Name a directory with --state DIR or SHEER_STATE.")]
    NoHome,
    /// The directory cannot be made or opened.
    #[error("the mesh's state directory {path} cannot be used; name another with --state DIR or SHEER_STATE")]
    Unusable {
        /// The directory.
        path: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
}

/// Paths of one local mesh. Two meshes on a machine have two state directories.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct State {
    root: PathBuf,
}

impl State {
    /// The directory that a flag names, else `$SHEER_STATE`, `$XDG_STATE_HOME/sheer`, `~/.local/state/sheer`. Made absolute, not created.
    pub fn locate(flag: Option<PathBuf>) -> Result<Self, StateError> {
        let variable = |name: &str| {
            std::env::var_os(name)
                .filter(|value| !value.is_empty())
                .map(PathBuf::from)
        };
        let root = flag
            .or_else(|| variable("SHEER_STATE"))
            .or_else(|| variable("XDG_STATE_HOME").map(|dir| dir.join("sheer")))
            .or_else(|| variable("HOME").map(|home| home.join(".local/state/sheer")))
            .ok_or(StateError::NoHome)?;
        let root = std::path::absolute(&root).map_err(|source| StateError::Unusable { path: root, source })?;
        Ok(Self { root })
    }

    /// Makes the directory tree, readable by its owner only: it holds keys.
    pub fn create(&self) -> Result<(), StateError> {
        for dir in [
            self.root.clone(),
            self.run(),
            self.status().join("pods"),
            self.status().join("services"),
            self.identity(),
            self.logs(),
            self.prometheus(),
        ] {
            private_dir(&dir).map_err(|source| StateError::Unusable { path: dir, source })?;
        }
        Ok(())
    }

    /// The directory itself.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Sockets and the process id: empty while no mesh runs.
    pub fn run(&self) -> PathBuf {
        self.root.join("run")
    }

    /// What runs, one JSON object a file, for the control plane.
    pub fn status(&self) -> PathBuf {
        self.root.join("status")
    }

    /// Trust anchor, issuer and token key.
    pub fn identity(&self) -> PathBuf {
        self.root.join("identity")
    }

    /// Rotated logs of workloads, sidecars and the control plane.
    pub fn logs(&self) -> PathBuf {
        self.root.join("logs")
    }

    /// What a Prometheus needs to scrape the sidecars.
    pub fn prometheus(&self) -> PathBuf {
        self.root.join("prometheus")
    }

    /// Logs of one pod.
    pub fn pod_logs(&self, workload: &WorkloadId, pod: &str) -> PathBuf {
        let folder = format!("{}.{}", workload.kind.as_str(), workload.name);
        self.logs().join(&workload.namespace).join(folder).join(pod)
    }

    /// What the mesh is: where its manifests lie, its addresses.
    pub fn description(&self) -> PathBuf {
        self.root.join("mesh.json")
    }

    /// Socket of the supervisor, for `ps`, `down` and the like.
    pub fn supervisor_socket(&self) -> PathBuf {
        self.run().join("sheer.sock")
    }

    /// Socket of the control plane (gRPC, plaintext, all services), for the command line.
    pub fn control_socket(&self) -> PathBuf {
        self.run().join("control.sock")
    }

    /// Socket over which the host's published ports lead into the mesh.
    pub fn forward_socket(&self) -> PathBuf {
        self.run().join("forward.sock")
    }

    /// Locked while a supervisor lives: the kernel frees it whatever ends that process.
    pub fn lock(&self) -> PathBuf {
        self.root.join("lock")
    }
}

fn private_dir(dir: &Path) -> io::Result<()> {
    fs::DirBuilder::new().recursive(true).mode(0o700).create(dir)?;
    fs::set_permissions(dir, fs::Permissions::from_mode(0o700))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unusable_directory_is_said_with_its_cause_once() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let state = State::locate(Some(file.path().join("below"))).unwrap();
        let error = anyhow::Error::from(state.create().unwrap_err());
        let said = format!("{error:#}").replace(&file.path().display().to_string(), "FILE");
        assert_eq!(
            said,
            "the mesh's state directory FILE/below cannot be used; name another with --state DIR or SHEER_STATE: Not a directory (os error 20)"
        );
        let up = crate::launch::UpError::from(error);
        assert_eq!(
            format!("{:#}", anyhow::Error::from(up)).matches("os error 20").count(),
            1
        );
    }
}
