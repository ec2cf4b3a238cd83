//! What a program said of its own end: of its stderr, what is worth a place in a message about that end.
//!
//! Programs of this mesh log lines with a time and a level, among which only warnings and errors tell of an end, and a panic is followed by
//! a backtrace whose last line says nothing. Whatever other programs write is taken as it is.

/// Follows the lines that a program writes.
#[derive(Debug, Default)]
pub(super) struct LastWords {
    words: Option<String>,
    /// The lines of a panic that are still to come.
    panic: Panic,
}

/// Where in a panic's lines the program is.
#[derive(Debug, Default, PartialEq)]
enum Panic {
    #[default]
    None,
    /// The next line is its message.
    Message,
    /// What follows is its backtrace.
    Backtrace,
}

impl LastWords {
    /// Takes in one line.
    pub(super) fn note(&mut self, line: &[u8]) {
        let line = String::from_utf8_lossy(line);
        let text = line.trim_end();
        if text.is_empty() {
            return;
        }
        if let Some(level) = level(text) {
            self.panic = Panic::None;
            // What it said in passing is no word on its end, and neither is what it said before that.
            self.words = matches!(level, "WARN" | "ERROR").then(|| text.to_owned());
        } else if text.starts_with("thread '") && text.contains("panicked at") {
            self.panic = Panic::Message;
            self.words = Some(text.to_owned());
        } else if self.panic == Panic::Message {
            self.panic = Panic::Backtrace;
            self.words = self.words.take().map(|panic| format!("{panic} {}", text.trim_start()));
        } else if self.panic == Panic::None {
            self.words = Some(text.to_owned());
        }
    }

    /// What it said last, if that tells of its end.
    pub(super) fn take(self) -> Option<String> {
        self.words
    }
}

/// The level of a log line as `2026-11-26T18:00:00.123456Z  INFO certified dns=…`.
fn level(line: &str) -> Option<&str> {
    let mut words = line.split_ascii_whitespace();
    let time = words.next()?.as_bytes();
    let is_time = time.len() >= 20 && time[4] == b'-' && time[10] == b'T' && time.ends_with(b"Z");
    let level = words.next()?;
    (is_time && ["TRACE", "DEBUG", "INFO", "WARN", "ERROR"].contains(&level)).then_some(level)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn last_of(text: &str) -> Option<String> {
        let mut words = LastWords::default();
        text.lines().for_each(|line| words.note(line.as_bytes()));
        words.take()
    }

    const INFO: &str = "2026-11-26T18:00:00.123456Z  INFO certified dns=web.shop";
    const ERROR: &str = "2026-11-26T18:00:01.123456Z ERROR the socket cannot be listened on";

    #[test]
    fn what_a_program_logs_in_passing_is_no_word_on_its_end() {
        assert_eq!(last_of(INFO), None);
        assert_eq!(last_of(&format!("{ERROR}\n{INFO}")), None, "it went on after that");
        assert_eq!(last_of(&format!("{INFO}\n{ERROR}\n\n")).as_deref(), Some(ERROR));
        let failed = "sheer: anchor.key may be read by others";
        assert_eq!(last_of(&format!("{INFO}\n{failed}")).as_deref(), Some(failed));
    }

    #[test]
    fn a_panic_is_its_message_and_not_the_end_of_its_backtrace() {
        let panic = "thread 'main' (7) panicked at src/main.rs:2:5:\nno such index\nstack backtrace:\n   0: main\n             at ./src/main.rs:2";
        let words = "thread 'main' (7) panicked at src/main.rs:2:5: no such index";
        assert_eq!(last_of(&format!("{INFO}\n{panic}")).as_deref(), Some(words));
        assert_eq!(last_of(&format!("{panic}\n{INFO}")), None, "it survived that");
    }

    #[test]
    fn other_programs_words_are_taken_as_they_are() {
        assert_eq!(
            last_of("Traceback:\n  File \"x\"\nValueError: 3").as_deref(),
            Some("ValueError: 3")
        );
        assert_eq!(last_of("2026 INFO x").as_deref(), Some("2026 INFO x"));
    }
}
