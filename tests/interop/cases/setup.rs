//! The mesh of the cases, and where the peers lie.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result, ensure};
use sheer_testkit::mesh::Mesh;

/// The mesh, and what cases need besides.
pub(crate) struct Bench {
    pub(crate) mesh: Mesh,
    /// Folder of this run, open to every user: PostgreSQL is not root.
    work: tempfile::TempDir,
    python: PathBuf,
    peers: PathBuf,
}

impl Bench {
    pub(crate) fn new() -> Result<Self> {
        let cache = cache()?;
        let (python, node) = (cache.join("interop-python/bin/python"), cache.join("interop-node"));
        ensure!(
            python.exists() && node.exists(),
            "the peers are not in {}: run tools/setup.sh test",
            cache.display()
        );
        let peers = Path::new(env!("CARGO_MANIFEST_DIR")).join("peers");
        let work = tempfile::Builder::new().prefix("sheer-interop.").tempdir()?;
        let open = std::os::unix::fs::PermissionsExt::from_mode(0o755);
        fs::set_permissions(work.path(), open)?;
        fs::create_dir(work.path().join("www"))?;
        fs::write(work.path().join("www/small"), "hello\n")?;
        fs::write(work.path().join("www/big"), big())?;
        let manifest = [
            ("@PEERS@", &peers),
            ("@PYTHON@", &python),
            ("@NODE@", &node),
            ("@SELF@", &std::env::current_exe()?),
            ("@WORK@", &work.path().to_path_buf()),
        ]
        .into_iter()
        .fold(include_str!("../mesh.yaml").to_owned(), |text, (what, path)| {
            text.replace(what, &path.display().to_string())
        });
        let path = work.path().join("mesh.yaml");
        fs::write(&path, manifest)?;
        Ok(Self {
            mesh: Mesh::up(&path)?,
            work,
            python,
            peers,
        })
    }

    /// Runs a peer's script, or any program, inside a workload.
    pub(crate) fn run(&self, workload: &str, command: &[&str]) -> Result<String> {
        let command: Vec<String> = command.iter().map(|word| self.fill(word)).collect();
        let command: Vec<&str> = command.iter().map(String::as_str).collect();
        self.mesh.inside(&format!("deploy/{workload}"), &command)
    }

    /// The same through `sh -c`.
    pub(crate) fn shell(&self, workload: &str, script: &str) -> Result<String> {
        self.run(workload, &["sh", "-c", script])
    }

    /// The metrics page of a pod's sidecar.
    pub(crate) fn metrics(&self, pod: &str) -> Result<String> {
        let curl = [
            "curl",
            "-sS",
            "--fail",
            "--max-time",
            "10",
            "http://127.0.0.1:4191/metrics",
        ];
        self.mesh.inside(&format!("pod/{pod}"), &curl)
    }

    /// Replaces what the manifest replaces.
    pub(crate) fn fill(&self, word: &str) -> String {
        word.replace("@PEERS@", &self.peers.display().to_string())
            .replace("@PYTHON@", &self.python.display().to_string())
            .replace("@WORK@", &self.work.path().display().to_string())
    }

    /// Folder of this run.
    pub(crate) fn work(&self) -> &Path {
        self.work.path()
    }

    /// How many pods there are.
    pub(crate) fn pods(&self) -> Result<usize> {
        Ok(self.mesh.status()?["pods"].as_array().map_or(0, Vec::len))
    }

    /// Puts the mesh's logs where they outlive it.
    pub(crate) fn keep_logs(&self) -> Result<PathBuf> {
        let to = std::env::temp_dir().join("sheer-interop-logs");
        let _ = fs::remove_dir_all(&to);
        self.mesh.keep_logs(&to)?;
        Ok(to)
    }
}

/// A file in which no line repeats.
fn big() -> String {
    (0..200_000).map(|n| format!("line {n}\n")).collect()
}

/// As the Makefile has it.
fn cache() -> Result<PathBuf> {
    if let Some(cache) = std::env::var_os("SHEER_CACHE") {
        return Ok(cache.into());
    }
    let base = std::env::var_os("XDG_CACHE_HOME").map(PathBuf::from);
    let base = base.or_else(|| Some(PathBuf::from(std::env::var_os("HOME")?).join(".cache")));
    Ok(base.context("HOME is not set")?.join("sheer"))
}
