//! Namespaces of a pod: network, mounts, host name. Threads enter them; processes that such a thread starts are born there.
//!
//! A thread that entered a namespace ends with its work and never goes back to a pool: the rest of the supervisor stays where it is.

use std::{
    fs::{self, File},
    io,
    os::fd::{AsRawFd as _, OwnedFd, RawFd},
    path::Path,
};

use anyhow::Context as _;
use nix::{
    mount::{MsFlags, mount},
    sched::{CloneFlags, setns, unshare},
    unistd::sethostname,
};
use tokio::sync::oneshot;

/// What a pod's namespaces are made from.
#[derive(Clone, Debug)]
pub(crate) struct Interior {
    /// Host name.
    pub(crate) hostname: String,
    /// Folder with the pod's own `hosts` and `resolv.conf`.
    pub(crate) folder: std::path::PathBuf,
}

/// The namespaces, kept alive by these descriptors and by the processes inside.
#[derive(Debug)]
pub(crate) struct Namespaces {
    network: OwnedFd,
    mounts: OwnedFd,
    hostname: OwnedFd,
}

/// Descriptors of a pod's namespaces in the supervisor, for whoever may open them there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct NamespaceFds {
    /// Network namespace.
    pub network: RawFd,
    /// Mount namespace.
    pub mounts: RawFd,
    /// Host name namespace.
    pub hostname: RawFd,
}

impl Namespaces {
    /// Makes the namespaces of a pod. `setup` runs inside before anything else does.
    pub(crate) async fn create<T: Send + 'static>(
        interior: Interior,
        setup: impl FnOnce() -> anyhow::Result<T> + Send + 'static,
    ) -> anyhow::Result<(Self, T)> {
        on_thread(move || {
            unshare(CloneFlags::CLONE_NEWNET | CloneFlags::CLONE_NEWNS | CloneFlags::CLONE_NEWUTS)
                .context("namespaces of its own")?;
            sethostname(&interior.hostname).with_context(|| format!("the host name {}", interior.hostname))?;
            for file in ["hosts", "resolv.conf"] {
                bind(&interior.folder.join(file), &Path::new("/etc").join(file))
                    .with_context(|| format!("/etc/{file} of the pod"))?;
            }
            let made = setup()?;
            let open = |name: &str| File::open(format!("/proc/thread-self/ns/{name}")).map(OwnedFd::from);
            Ok((
                Self {
                    network: open("net")?,
                    mounts: open("mnt")?,
                    hostname: open("uts")?,
                },
                made,
            ))
        })
        .await?
    }

    /// Runs `work` on a new thread inside.
    pub(crate) async fn run<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> io::Result<T> {
        let [network, mounts, hostname] = [
            self.network.try_clone()?,
            self.mounts.try_clone()?,
            self.hostname.try_clone()?,
        ];
        on_thread(move || {
            // A mount namespace can only be entered by a thread with a working directory of its own.
            unshare(CloneFlags::CLONE_FS)?;
            setns(mounts, CloneFlags::CLONE_NEWNS)?;
            setns(network, CloneFlags::CLONE_NEWNET)?;
            setns(hostname, CloneFlags::CLONE_NEWUTS)?;
            Ok(work())
        })
        .await?
    }

    /// Runs `work` on a new thread in the network namespace alone: all that rules and sockets need.
    pub(crate) async fn run_in_network<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> io::Result<T> {
        let network = self.network.try_clone()?;
        on_thread(move || {
            setns(network, CloneFlags::CLONE_NEWNET)?;
            Ok(work())
        })
        .await?
    }

    /// The descriptors, for [`crate::exec`].
    pub(crate) fn fds(&self) -> NamespaceFds {
        NamespaceFds {
            network: self.network.as_raw_fd(),
            mounts: self.mounts.as_raw_fd(),
            hostname: self.hostname.as_raw_fd(),
        }
    }

    /// Processes of the mesh that live in the network namespace, whoever started them.
    pub(crate) fn processes(&self) -> io::Result<Vec<i32>> {
        let own = fs::read_link(format!("/proc/self/fd/{}", self.network.as_raw_fd()))?;
        let pids = fs::read_dir("/proc")?
            .flatten()
            .filter_map(|entry| entry.file_name().to_str()?.parse().ok());
        Ok(pids
            .filter(|pid: &i32| fs::read_link(format!("/proc/{pid}/ns/net")).is_ok_and(|net| net == own))
            .collect())
    }
}

/// Binds a file over another, in the calling thread's mount namespace.
pub(crate) fn bind(from: &Path, to: &Path) -> nix::Result<()> {
    mount(Some(from), to, None::<&str>, MsFlags::MS_BIND, None::<&str>)
}

/// Runs blocking `work` on a thread of its own, which ends with it.
pub(crate) async fn on_thread<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> io::Result<T> {
    let (sender, receiver) = oneshot::channel();
    std::thread::Builder::new().name("namespace".into()).spawn(move || {
        let _ = sender.send(work());
    })?;
    receiver
        .await
        .map_err(|_| io::Error::other("a thread of the supervisor panicked; its log has the backtrace"))
}
