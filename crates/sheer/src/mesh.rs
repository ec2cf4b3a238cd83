//! What `up` and `demo` share: from paths of manifests to a mesh that can be started.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use anyhow::Context as _;
use sheer_control::manifests::{self, Loaded, Severity};
use sheer_local::{
    launch::Launch,
    state::State,
    workload::{Overrides, desired},
};

/// Variables of the operator's environment that applications get: enough for programs to find themselves, nothing that makes a run
/// depend on who started it.
const INHERITED: [&str; 6] = ["HOME", "USER", "LOGNAME", "LANG", "LC_ALL", "TZ"];

/// Reads manifests and works out how to run them. Errors in them are all named; nothing is started then.
pub(crate) fn prepare(state: &State, paths: &[PathBuf]) -> anyhow::Result<Launch> {
    let paths: Vec<PathBuf> = paths.iter().map(|path| absolute(path)).collect::<anyhow::Result<_>>()?;
    let loaded = manifests::load(&paths);
    refuse_errors(&loaded)?;
    let proxy = find_proxy(&loaded)?;
    Ok(Launch {
        state: state.root().to_owned(),
        manifests: paths,
        folder: std::env::current_dir().context("the current folder is gone")?,
        proxy,
        environment: environment(state)?,
    })
}

fn absolute(path: &Path) -> anyhow::Result<PathBuf> {
    path.canonicalize()
        .with_context(|| format!("{} cannot be read", path.display()))
}

fn refuse_errors(loaded: &Loaded) -> anyhow::Result<()> {
    let errors: Vec<String> = loaded
        .findings
        .iter()
        .filter(|finding| finding.severity == Severity::Error)
        .map(ToString::to_string)
        .collect();
    anyhow::ensure!(
        errors.is_empty(),
        "the manifests have errors, so nothing was started:\n{}",
        errors.join("\n")
    );
    anyhow::ensure!(
        !loaded.manifests.is_empty(),
        "there is no object in these manifests, so there is nothing to run"
    );
    Ok(())
}

/// The sidecar: `$SHEER_PROXY_BIN`, or `sheer-proxy` beside this program. Only needed where a workload has one.
fn find_proxy(loaded: &Loaded) -> anyhow::Result<PathBuf> {
    let proxy = match std::env::var_os("SHEER_PROXY_BIN").filter(|path| !path.is_empty()) {
        Some(path) => std::path::absolute(path)?,
        None => own_folder()?.join("sheer-proxy"),
    };
    let desired = desired(&loaded.manifests, &Overrides::default());
    let needed = desired
        .workloads
        .values()
        .any(|workload| workload.mesh.as_ref().is_some_and(|mesh| mesh.proxy_binary.is_none()));
    anyhow::ensure!(
        !needed || proxy.is_file(),
        "there is no sidecar at {}: build it (cargo build --bin sheer-proxy), or name it with SHEER_PROXY_BIN",
        proxy.display()
    );
    Ok(proxy)
}

fn own_folder() -> anyhow::Result<PathBuf> {
    let program = std::env::current_exe().context("this program cannot find itself")?;
    Ok(program.parent().context("this program lies in no folder")?.to_owned())
}

/// Where `nft`, `ip` and the like lie: an ordinary user's `PATH` may lack it, and inside the mesh everybody is root.
const SYSTEM_FOLDERS: [&str; 2] = ["/usr/sbin", "/sbin"];

/// The environment of applications. Programs beside this one (the sample) are found by name.
fn environment(state: &State) -> anyhow::Result<BTreeMap<String, String>> {
    let inherited = INHERITED
        .into_iter()
        .filter_map(|name| Some((name.to_owned(), std::env::var(name).ok()?)));
    let mut env: BTreeMap<String, String> = inherited.collect();
    let path = std::env::var("PATH").unwrap_or_else(|_| "/usr/local/bin:/usr/bin:/bin".to_owned());
    let lacking = SYSTEM_FOLDERS
        .into_iter()
        .filter(|folder| !path.split(':').any(|known| known == *folder));
    let folders: Vec<String> = std::iter::once(own_folder()?.display().to_string())
        .chain([path.clone()])
        .chain(lacking.map(str::to_owned))
        .collect();
    env.insert("PATH".to_owned(), folders.join(":"));
    // Where a Prometheus in the mesh finds what to scrape, and `sheer` the mesh.
    env.insert("SHEER_STATE".to_owned(), state.root().display().to_string());
    Ok(env)
}
