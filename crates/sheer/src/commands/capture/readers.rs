//! The readers: one process in the network namespace of each pod, by way of `sheer exec`.

use std::{
    io::{self, BufReader},
    process::{Child, Command, Stdio},
};

use anyhow::Context as _;
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use sheer_local::packets::Record;
use tokio::sync::mpsc;

use crate::running::{Mesh, Pod};

/// Records that wait to be taken; readers wait beyond that, and the kernel's buffers fill.
const WAITING: usize = 4096;

/// What a reader says.
#[derive(Debug)]
pub(super) struct Event {
    /// Which pod.
    pub(super) pod: usize,
    /// None at its end.
    pub(super) record: anyhow::Result<Option<Record>>,
}

impl Event {
    /// What [`super::Recording::take`] gives back for a reader that is there.
    pub(super) const READY: Option<Record> = Some(Record::Ready);
}

/// All readers. They end when dropped.
pub(super) struct Readers {
    children: Vec<Child>,
    events: mpsc::Receiver<Event>,
}

impl Readers {
    /// Starts one in each pod.
    pub(super) fn start(mesh: &Mesh, pods: &[Pod], snap: usize, filter: &str) -> anyhow::Result<Self> {
        let program = std::env::current_exe().context("this program cannot be found")?;
        let (sender, events) = mpsc::channel(WAITING);
        let mut readers = Self {
            children: Vec::new(),
            events,
        };
        for (number, pod) in pods.iter().enumerate() {
            let mut command = Command::new(&program);
            command.arg("--state").arg(mesh.state().root());
            command
                .args(["exec", "-n", &pod.namespace, &format!("pod/{}", pod.name), "--"])
                .arg(&program);
            command.args(["packets", "--snap", &snap.to_string(), "--filter", filter]);
            // The right to capture was asked of the control plane; a token opens no pod by itself.
            command.env_remove("SHEER_TOKEN");
            let started = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn();
            let mut child = started.with_context(|| format!("packets of {} cannot be read", pod.name))?;
            let stdout = child.stdout.take().context("its output is a pipe")?;
            readers.children.push(child);
            let (sender, name) = (sender.clone(), pod.name.clone());
            tokio::task::spawn_blocking(move || pass_on(number, &name, stdout, &sender));
        }
        Ok(readers)
    }

    /// What is said next, while they run. The end of one is an error: nothing ends it but [`Self::end`].
    pub(super) async fn next(&mut self) -> Event {
        match self.events.recv().await {
            Some(event) => Event {
                record: event.record.and_then(|record| match record {
                    None => anyhow::bail!("a reader of packets has ended: did its pod?"),
                    record => Ok(record),
                }),
                ..event
            },
            None => std::future::pending().await,
        }
    }

    /// Ends them.
    pub(super) fn end(&mut self) {
        for child in &self.children {
            if let Ok(pid) = i32::try_from(child.id()) {
                // An error means that it has just ended.
                let _ = kill(Pid::from_raw(pid), Signal::SIGTERM);
            }
        }
    }

    /// What they said before their end; none once all have ended.
    pub(super) async fn last(&mut self) -> Option<Event> {
        let event = self.events.recv().await?;
        // Cut in the middle of a record, perhaps: what came before is whole.
        Some(Event {
            record: Ok(event.record.unwrap_or(None)),
            ..event
        })
    }
}

impl Drop for Readers {
    fn drop(&mut self) {
        self.end();
        for child in &mut self.children {
            let _ = child.wait();
        }
    }
}

fn pass_on(pod: usize, name: &str, output: impl io::Read, sender: &mpsc::Sender<Event>) {
    let mut output = BufReader::with_capacity(1 << 20, output);
    loop {
        let record = Record::read(&mut output).with_context(|| format!("packets of {name}"));
        let last = !matches!(record, Ok(Some(_)));
        if sender.blocking_send(Event { pod, record }).is_err() || last {
            return;
        }
    }
}
