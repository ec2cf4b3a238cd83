//! How a command ended: exit code 0 for healthy, 1 for a finding or a failure, 2 for misuse.

use std::{fmt, io, process::ExitCode};

use sheer_local::client::ClientError;

use crate::output::tell;

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
            tell(format_args!("{error:#}"));
            ExitCode::from(if is_misuse(&error) { 2 } else { 1 })
        }
    }
}

/// Whether the request itself was wrong, in this process's eyes or in those of the mesh.
fn is_misuse(error: &anyhow::Error) -> bool {
    error.is::<Misuse>() || matches!(error.downcast_ref(), Some(ClientError::Refused(_)))
}

/// `sheer ps | head` is no failure, whatever wrote what nobody reads. A mesh that hung up is one.
fn is_closed_pipe(error: &anyhow::Error) -> bool {
    let kind = |cause: &(dyn std::error::Error + 'static)| {
        let io = cause.downcast_ref::<io::Error>().map(io::Error::kind);
        // The cause of such an error is not in its chain.
        let json = || cause.downcast_ref::<serde_json::Error>()?.io_error_kind();
        io.or_else(json)
    };
    !error.is::<ClientError>()
        && error
            .chain()
            .any(|cause| kind(cause) == Some(io::ErrorKind::BrokenPipe))
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
        let refused = ClientError::Refused("there is no deploy/nope".into());
        assert_eq!(code(Err(refused.into())), code(Ok(Outcome::Code(2))));
        let not_yet = ClientError::NotYet("try again".into());
        assert_eq!(code(Err(not_yet.into())), code(Ok(Outcome::Finding)));
    }

    /// As a pipe whose reader has gone.
    struct Closed;

    impl io::Write for Closed {
        fn write(&mut self, _: &[u8]) -> io::Result<usize> {
            Err(io::ErrorKind::BrokenPipe.into())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn json_that_nobody_reads_is_no_failure_either() {
        let written = serde_json::to_writer_pretty(Closed, &[1, 2, 3]).unwrap_err();
        assert!(is_closed_pipe(&written.into()));
        let hung_up = ClientError::Io(io::ErrorKind::BrokenPipe.into());
        assert!(!is_closed_pipe(&hung_up.into()), "the mesh is gone, not the reader");
    }
}
