//! How a command ended: exit code 0 for healthy, 1 for a finding or a failure, 2 for misuse.

use std::{fmt, process::ExitCode};

/// How a command ended that did what it was asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// All is well.
    Healthy,
    /// It found something that is not well, and said what.
    Finding,
    /// The exit code of a program that it ran for the operator (`exec`).
    Code(u8),
}

/// Misuse: the request itself was wrong. Exit code 2, as for a wrong flag.
#[derive(Debug)]
pub(crate) struct Misuse(pub(crate) String);

impl fmt::Display for Misuse {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Misuse {}

/// Prints an error for the operator and maps the result to an exit code.
pub(crate) fn to_exit_code(result: anyhow::Result<Outcome>) -> ExitCode {
    match result {
        Ok(Outcome::Healthy) => ExitCode::SUCCESS,
        Ok(Outcome::Finding) => ExitCode::from(1),
        Ok(Outcome::Code(code)) => ExitCode::from(code),
        Err(error) if is_closed_pipe(&error) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("sheer: {error:#}");
            ExitCode::from(if error.downcast_ref::<Misuse>().is_some() { 2 } else { 1 })
        }
    }
}

/// `sheer ps | head` is no failure.
fn is_closed_pipe(error: &anyhow::Error) -> bool {
    error
        .chain()
        .filter_map(|cause| cause.downcast_ref::<std::io::Error>())
        .any(|io| io.kind() == std::io::ErrorKind::BrokenPipe)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn misuse_and_failure_have_codes_of_their_own() {
        let code = |result| format!("{:?}", to_exit_code(result));
        assert_eq!(code(Ok(Outcome::Healthy)), code(Ok(Outcome::Code(0))));
        assert_eq!(code(Err(anyhow::anyhow!("no"))), code(Ok(Outcome::Finding)));
        assert_eq!(code(Err(Misuse("no".into()).into())), code(Ok(Outcome::Code(2))));
        let closed = anyhow::Error::from(std::io::Error::from(std::io::ErrorKind::BrokenPipe)).context("writing");
        assert_eq!(code(Err(closed)), code(Ok(Outcome::Healthy)));
    }
}
