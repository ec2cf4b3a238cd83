//! How an operator ends what runs in the foreground: Ctrl-C, SIGTERM, and the end of its terminal.

use tokio::signal::unix::{Signal, SignalKind, signal};

/// The signals that mean "end in order".
pub(crate) struct Ending {
    interrupt: Signal,
    terminate: Signal,
    hangup: Signal,
    begun: bool,
}

impl Ending {
    /// Listens from now on: none of them ends the process at once any more.
    pub(crate) fn listen() -> std::io::Result<Self> {
        Ok(Self {
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
            hangup: signal(SignalKind::hangup())?,
            begun: false,
        })
    }

    /// Returns when the operator asks for the end, and again when that is asked for once more. Nothing is lost where this is not waited for to
    /// the end.
    pub(crate) async fn asked(&mut self) {
        loop {
            let again = tokio::select! {
                _ = self.interrupt.recv() => true,
                _ = self.terminate.recv() => true,
                // A terminal's end is told twice to its first process, and a session's beside SIGTERM: that is nobody's impatience.
                _ = self.hangup.recv() => false,
            };
            if again || !self.begun {
                self.begun = true;
                return;
            }
        }
    }
}
