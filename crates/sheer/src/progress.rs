//! Progress of long steps, on stderr: one line on a terminal, elsewhere silent or a line a step.

use std::io::Write as _;

use crate::output::{Tone, paint, stderr_is_terminal};

/// One line that is rewritten until it is done.
#[derive(Debug)]
pub(crate) struct Progress {
    terminal: bool,
    open: bool,
}

impl Progress {
    /// Progress on stderr.
    pub(crate) fn new() -> Self {
        Self {
            terminal: stderr_is_terminal(),
            open: false,
        }
    }

    /// For those who look at something else meanwhile.
    pub(crate) fn silent() -> Self {
        Self {
            terminal: false,
            open: false,
        }
    }

    /// Rewrites the line with what goes on.
    pub(crate) fn step(&mut self, text: &str) {
        if self.terminal {
            eprint!("\r\x1b[K{} {text}", paint("…", Tone::Dim, true));
            let _ = std::io::stderr().flush();
            self.open = true;
        }
    }

    /// The same for steps that take long enough that silence would look like a fault: where there is no terminal, each is a line.
    pub(crate) fn report(&mut self, text: &str) {
        if self.terminal {
            self.step(text);
        } else {
            eprintln!("sheer: {text}");
        }
    }

    /// Ends the line with what was reached.
    pub(crate) fn done(&mut self, text: &str) {
        if self.terminal {
            eprintln!("\r\x1b[K{} {text}", paint("✓", Tone::Good, true));
            self.open = false;
        }
    }

    /// Clears an open line, so that other output starts on a line of its own.
    pub(crate) fn clear(&mut self) {
        if self.terminal && self.open {
            eprint!("\r\x1b[K");
            let _ = std::io::stderr().flush();
            self.open = false;
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.clear();
    }
}
