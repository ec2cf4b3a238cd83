//! Progress of long steps, on stderr: one line on a terminal, elsewhere silent or a line a step.

use std::io::Write as _;

use crate::output::{Tone, paint, stderr_is_terminal, tell};

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
            write(&format!("\r\x1b[K{} {text}", paint("…", Tone::Dim, true)));
            self.open = true;
        }
    }

    /// The same for steps that take long enough that silence would look like a fault: where there is no terminal, each is a line.
    pub(crate) fn report(&mut self, text: &str) {
        if self.terminal {
            self.step(text);
        } else {
            tell(text);
        }
    }

    /// Ends the line with what was reached.
    pub(crate) fn done(&mut self, text: &str) {
        if self.terminal {
            write(&format!("\r\x1b[K{} {text}\n", paint("✓", Tone::Good, true)));
            self.open = false;
        }
    }

    /// Clears an open line, so that other output starts on a line of its own.
    pub(crate) fn clear(&mut self) {
        if self.terminal && self.open {
            write("\r\x1b[K");
            self.open = false;
        }
    }
}

/// The terminal may have been closed: then nobody misses it.
fn write(text: &str) {
    let mut stderr = std::io::stderr().lock();
    let _ = stderr.write_all(text.as_bytes()).and_then(|()| stderr.flush());
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.clear();
    }
}
