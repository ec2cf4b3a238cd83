//! What commands print that go on: written by a thread of its own. While nobody reads (a pager, a terminal that was stopped) the command waits, and with it
//! whatever it asks for more, but its connections live: the control plane is still answered, which would take it for dead otherwise.

use std::{io, thread::JoinHandle, time::Duration};

use tokio::sync::mpsc;

/// Texts that may wait for whoever reads.
const WAITING: usize = 64;
/// Bytes of texts that are written together: what a pipe holds.
const AT_ONCE: usize = 65_536;

/// Where such a command prints.
pub(crate) struct Printer {
    texts: mpsc::Sender<Text>,
    /// None where nobody asks any more how it ended.
    thread: Option<JoinHandle<io::Result<()>>>,
}

/// Both go through the same thread: a terminal that was stopped takes neither.
enum Text {
    /// For stdout.
    Data(String),
    /// For stderr.
    Said(String),
}

/// Does what prints, and returns when all is written.
pub(crate) async fn printing<T>(work: impl AsyncFnOnce(&mut Printer) -> anyhow::Result<T>) -> anyhow::Result<T> {
    let mut printer = Printer::start();
    let done = work(&mut printer).await;
    let written = printer.end();
    // Why it could not go on counts more than what became of its last lines.
    let done = done?;
    written?;
    Ok(done)
}

/// Prints a text again and again until Ctrl-C: on a terminal (`in_place`) over the one before.
pub(crate) async fn again(
    every: Duration,
    in_place: bool,
    mut text: impl AsyncFnMut() -> anyhow::Result<String>,
) -> anyhow::Result<()> {
    printing(async |printer| {
        let show = async {
            let mut ticks = tokio::time::interval(every);
            loop {
                ticks.tick().await;
                let text = text().await?;
                let shown = if in_place {
                    // Home, the text with every line's rest cleared, and what stood below it.
                    format!("\x1b[H{}\x1b[J", text.replace('\n', "\x1b[K\n"))
                } else {
                    format!("{text}\n")
                };
                printer.show(shown).await?;
            }
        };
        let ended = tokio::select! {
            biased; // the operator first
            _ = tokio::signal::ctrl_c() => None,
            ended = show => Some(ended),
        };
        match ended {
            Some(ended) => ended,
            None => {
                printer.give_up();
                Ok(())
            }
        }
    })
    .await
}

impl Printer {
    fn start() -> Self {
        let (texts, waiting) = mpsc::channel(WAITING);
        Self {
            texts,
            thread: Some(std::thread::spawn(move || {
                write_all(waiting, &mut io::stdout(), &mut io::stderr())
            })),
        }
    }

    /// Puts text on stdout, once there is room; an error where nobody will read it.
    pub(crate) async fn show(&mut self, text: String) -> io::Result<()> {
        if text.is_empty() {
            return Ok(());
        }
        self.put(Text::Data(text)).await
    }

    /// Says something to the operator, on stderr.
    pub(crate) async fn tell(&mut self, text: impl std::fmt::Display) -> io::Result<()> {
        self.put(Text::Said(format!("sheer: {text}\n"))).await
    }

    /// Forgets what waits: the operator does.
    pub(crate) fn give_up(&mut self) {
        self.thread = None;
    }

    async fn put(&mut self, text: Text) -> io::Result<()> {
        if self.texts.send(text).await.is_ok() {
            return Ok(());
        }
        // Only an error ends it before this end.
        match self.thread.take().map(JoinHandle::join) {
            Some(Ok(Err(error))) => Err(error),
            _ => Err(io::ErrorKind::BrokenPipe.into()),
        }
    }

    fn end(self) -> io::Result<()> {
        drop(self.texts);
        self.thread.map_or(Ok(()), |thread| thread.join().unwrap_or(Ok(())))
    }
}

fn write_all(mut waiting: mpsc::Receiver<Text>, out: &mut impl io::Write, err: &mut impl io::Write) -> io::Result<()> {
    let mut write = |data: &mut String| {
        out.write_all(data.as_bytes())?;
        data.clear();
        // Whoever reads the other end of a pipe wants it now.
        out.flush()
    };
    let mut data = String::new();
    while let Some(text) = waiting.blocking_recv() {
        let mut next = Some(text);
        while let Some(text) = next {
            match text {
                Text::Data(text) if data.is_empty() => data = text,
                Text::Data(text) => data.push_str(&text),
                Text::Said(text) => {
                    write(&mut data)?;
                    // Where nobody hears it there is nothing to be done.
                    drop(err.write_all(text.as_bytes()));
                }
            }
            // What waits already goes with it: lines come in crowds.
            next = (data.len() < AT_ONCE).then(|| waiting.try_recv().ok()).flatten();
        }
        write(&mut data)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

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

    fn printer(mut out: impl io::Write + Send + 'static) -> Printer {
        let (texts, waiting) = mpsc::channel(WAITING);
        Printer {
            texts,
            thread: Some(std::thread::spawn(move || {
                write_all(waiting, &mut out, &mut io::sink())
            })),
        }
    }

    #[tokio::test]
    async fn everything_is_written_in_order_before_the_end() {
        let (mut read, write) = io::pipe().unwrap();
        let mut printer = printer(write);
        for number in 0..3 {
            printer.show(format!("{number}\n")).await.unwrap();
            printer.tell("not here").await.unwrap();
        }
        printer.end().unwrap();
        assert_eq!(io::read_to_string(&mut read).unwrap(), "0\n1\n2\n");
    }

    #[tokio::test]
    async fn a_reader_that_does_not_read_is_waited_for_and_the_rest_goes_on() {
        let (mut read, write) = io::pipe().unwrap();
        let mut printer = printer(write);
        // More than a pipe and the queue hold.
        let line = "x".repeat(65_536);
        let mut shown = 0;
        let fill = async {
            loop {
                printer.show(line.clone()).await.unwrap();
                shown += 1;
            }
        };
        // That this comes to its end is the point: the thread of the runtime is free.
        assert!(
            tokio::time::timeout(std::time::Duration::from_millis(300), fill)
                .await
                .is_err()
        );
        assert!((WAITING..WAITING + 3).contains(&shown), "{shown}");
        let all = std::thread::spawn(move || io::read_to_string(&mut read).unwrap().len());
        printer.end().unwrap();
        assert_eq!(all.join().unwrap(), shown * line.len());
    }

    #[tokio::test]
    async fn a_reader_that_has_gone_ends_it_with_its_own_error() {
        let mut printer = printer(Closed);
        let error = loop {
            if let Err(error) = printer.show("line\n".to_owned()).await {
                break error;
            }
            tokio::task::yield_now().await;
        };
        assert_eq!(error.kind(), io::ErrorKind::BrokenPipe);
        printer.end().unwrap();
    }
}
