//! The programs that the mesh is built with (`ip`, `nft`) and what to install where one is missing. Blocking: callers run it on threads of
//! their own, which also decides the namespace.

use std::{
    io::{self, Write as _},
    path::PathBuf,
    process::{Command, Stdio},
};

/// Why a tool did not do its work.
#[derive(Debug, thiserror::Error)]
pub enum ToolError {
    /// Not installed.
    #[error("`{program}` is not installed: install the package {package}, then try again")]
    Missing {
        /// The program.
        program: &'static str,
        /// What brings it, on Debian and most others.
        package: &'static str,
    },
    /// It could not be run.
    #[error("`{program}` cannot be run")]
    Spawn {
        /// The program.
        program: &'static str,
        /// What the kernel said.
        source: io::Error,
    },
    /// It refused.
    #[error("`{program}` refused ({message}); it was given:\n{input}")]
    Refused {
        /// The program.
        program: &'static str,
        /// What it printed.
        message: String,
        /// What it was given.
        input: String,
    },
}

/// Tools and the packages that bring them.
const TOOLS: [(&str, &str); 2] = [("ip", "iproute2"), ("nft", "nftables")];

/// Names every tool that is missing, at once.
pub fn check() -> Result<(), Vec<ToolError>> {
    let missing = |(program, package): (&'static str, &'static str)| {
        find(program)
            .is_none()
            .then_some(ToolError::Missing { program, package })
    };
    let missing: Vec<ToolError> = TOOLS.into_iter().filter_map(missing).collect();
    if missing.is_empty() { Ok(()) } else { Err(missing) }
}

/// A program of `PATH`, or of the folders of system programs, which an ordinary user's `PATH` may lack.
pub(crate) fn find(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders = std::env::split_paths(&path).chain(["/usr/sbin", "/sbin", "/usr/bin", "/bin"].map(PathBuf::from));
    folders
        .map(|folder| folder.join(program))
        .find(|candidate| candidate.is_file())
}

/// Runs `ip -batch` with these lines, in the network namespace of the calling thread.
pub(crate) fn ip(lines: &[String]) -> Result<(), ToolError> {
    run("ip", "iproute2", &["-batch", "-"], lines.join("\n") + "\n")
}

/// Runs `nft -f` with this text, in the network namespace of the calling thread.
pub(crate) fn nft(text: String) -> Result<(), ToolError> {
    run("nft", "nftables", &["-f", "-"], text)
}

fn run(program: &'static str, package: &'static str, args: &[&str], input: String) -> Result<(), ToolError> {
    let path = find(program).ok_or(ToolError::Missing { program, package })?;
    let spawn_error = |source| ToolError::Spawn { program, source };
    let mut command = Command::new(path);
    command
        .args(args)
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped());
    let mut child = command.spawn().map_err(spawn_error)?;
    let mut stdin = child.stdin.take().expect("stdin is piped");
    // A tool that stops reading has something to say on stderr.
    let _ = stdin.write_all(input.as_bytes());
    drop(stdin);
    let output = child.wait_with_output().map_err(spawn_error)?;
    if output.status.success() {
        return Ok(());
    }
    let message = String::from_utf8_lossy(&output.stderr).trim().replace('\n', "; ");
    Err(ToolError::Refused {
        program,
        message,
        input,
    })
}
