//! Scripts of Node that drive headless Chromium. What they need is installed by `tools/setup.sh test`; where it is missing, tests fail and say so.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use tokio::process::{Child, Command};
use tokio::time::timeout;

/// A script ends within this, or hangs.
pub const PATIENCE: Duration = Duration::from_secs(400);
/// Debian's.
const CHROMIUM: &str = "/usr/bin/chromium";

/// Where the modules lie that drive Chromium.
fn modules() -> Result<PathBuf> {
    let cache = std::env::var_os("SHEER_CACHE").map(PathBuf::from).or_else(|| {
        let base = std::env::var_os("XDG_CACHE_HOME").map(PathBuf::from);
        let base = base.or_else(|| Some(Path::new(&std::env::var_os("HOME")?).join(".cache")));
        Some(base?.join("sheer"))
    });
    Ok(cache.context("HOME is not set")?.join("dashboard-node"))
}

/// Starts a script; what it says can be read.
pub fn start(script: &Path, args: &[&str]) -> Result<Child> {
    let modules = modules()?;
    ensure!(
        modules.exists(),
        "{} is not there: run tools/setup.sh test",
        modules.display()
    );
    ensure!(
        Path::new(CHROMIUM).exists(),
        "{CHROMIUM} is not there: run tools/setup.sh test"
    );
    Command::new("node")
        .arg(script)
        .args(args)
        .env("SHEER_NODE_MODULES", modules)
        .env("SHEER_CHROMIUM", CHROMIUM)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .context("node cannot be started: run tools/setup.sh test")
}

/// Waits until a script ends well; what it said. An error has what went wrong in its words.
pub async fn finish(script: Child) -> Result<String> {
    let output = timeout(PATIENCE, script.wait_with_output())
        .await
        .context("the browser hangs")??;
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    if !output.status.success() {
        bail!("{said}{}", String::from_utf8_lossy(&output.stderr));
    }
    Ok(said)
}
