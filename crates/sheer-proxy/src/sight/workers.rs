//! Questions to the workers, which share nothing with anybody.

use std::{rc::Rc, sync::Arc, time::Duration};

use parking_lot::Mutex;
use sheer_api::v1;
use tokio::{
    sync::{mpsc, oneshot},
    time::timeout,
};

use crate::{
    inbound::Inbound,
    outbound::Outbound,
    pool::ServiceView,
    record::{Query, RecorderCopy, Wanted},
    tap::Watcher,
};

/// Longest wait for a worker. One that is well answers in microseconds.
const PATIENCE: Duration = Duration::from_millis(500);
/// Questions that may wait at a worker.
const QUEUE: usize = 16;

/// Where each worker takes questions. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct Workers(Arc<Mutex<Vec<mpsc::Sender<Question>>>>);

/// The questions of one worker.
#[derive(Debug)]
pub(crate) struct Worker(mpsc::Receiver<Question>);

#[derive(Debug)]
enum Question {
    /// Its services as they stand.
    Services(oneshot::Sender<Vec<ServiceView>>),
    /// Its samples, not older than this.
    Traffic(Option<Duration>, oneshot::Sender<Traffic>),
    /// Connections as recorded, and failures where they are wanted.
    Recorded(Query, bool, oneshot::Sender<Vec<RecorderCopy>>),
    /// Somebody watches from now on.
    Tap(Watcher, oneshot::Sender<()>),
    /// Requests that passed.
    Exchanges(Wanted, oneshot::Sender<Vec<RecorderCopy>>),
    /// Replace the connections with peers of the mesh.
    Renew(oneshot::Sender<Renewed>),
}

/// Connections that are being replaced.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Renewed {
    /// By this proxy.
    pub(super) opened: usize,
    /// By its peers.
    pub(super) accepted: usize,
}

/// What a worker saw.
#[derive(Clone, Debug, Default)]
pub(super) struct Traffic {
    pub(super) samples: Vec<v1::TrafficSample>,
    /// Requests since the first of these.
    pub(super) seen: u64,
}

impl Workers {
    /// A new worker.
    pub(crate) fn register(&self) -> Worker {
        let (sender, receiver) = mpsc::channel(QUEUE);
        self.0.lock().push(sender);
        Worker(receiver)
    }

    /// The services of every worker that answers in time.
    pub(super) async fn services(&self) -> Vec<ServiceView> {
        self.ask(Question::Services).await.into_iter().flatten().collect()
    }

    /// The samples of every worker that answers in time, newest last.
    pub(super) async fn traffic(&self, within: Option<Duration>) -> Traffic {
        let mut all = Traffic::default();
        for one in self.ask(|answer| Question::Traffic(within, answer)).await {
            all.samples.extend(one.samples);
            all.seen += one.seen;
        }
        all.samples.sort_by_key(|sample| sample.at_ms);
        all
    }

    /// What is recorded, by half and worker. With `failures`, those too.
    pub(super) async fn recorded(&self, query: &Query, failures: bool) -> Vec<RecorderCopy> {
        let question = |answer| Question::Recorded(query.clone(), failures, answer);
        self.ask(question).await.into_iter().flatten().collect()
    }

    /// Has somebody told what passes, by every worker that answers in time.
    pub(super) async fn tap(&self, watcher: &Watcher) {
        self.ask(|answer| Question::Tap(watcher.clone(), answer)).await;
    }

    /// Requests that passed, with the connections that they were on.
    pub(super) async fn exchanges(&self, wanted: &Wanted) -> Vec<RecorderCopy> {
        let question = |answer| Question::Exchanges(wanted.clone(), answer);
        self.ask(question).await.into_iter().flatten().collect()
    }

    /// Has every worker that answers in time replace its connections with peers of the mesh.
    pub(super) async fn renew(&self) -> Renewed {
        let mut all = Renewed::default();
        for one in self.ask(Question::Renew).await {
            all.opened += one.opened;
            all.accepted += one.accepted;
        }
        all
    }

    /// All are asked before the first is waited for.
    async fn ask<T>(&self, question: impl Fn(oneshot::Sender<T>) -> Question) -> Vec<T> {
        let senders = self.0.lock().clone();
        let answers = senders.into_iter().filter_map(|worker| {
            let (sender, answer) = oneshot::channel();
            // Full: it has not answered what it was asked before.
            worker.try_send(question(sender)).ok().map(|()| answer)
        });
        let in_time = answers.map(|answer| timeout(PATIENCE, answer)).collect::<Vec<_>>();
        let answered = futures::future::join_all(in_time).await;
        answered.into_iter().filter_map(|answer| answer.ok()?.ok()).collect()
    }
}

/// Answers the questions of one worker, on that worker, to its end.
pub(crate) async fn answer(mut worker: Worker, outbound: Rc<Outbound>, inbound: Rc<Inbound>) {
    while let Some(question) = worker.0.recv().await {
        match question {
            Question::Services(answer) => drop(answer.send(outbound.services())),
            Question::Traffic(within, answer) => {
                let mut traffic = outbound.sampler().kept(within);
                let other = inbound.sampler().kept(within);
                traffic.samples.extend(other.samples);
                traffic.seen += other.seen;
                drop(answer.send(traffic));
            }
            Question::Recorded(query, failures, answer) => {
                let both = [outbound.recorder(), inbound.recorder()];
                let copies = both.into_iter().filter_map(|recorder| recorder.copy(&query, failures));
                drop(answer.send(copies.collect()));
            }
            Question::Tap(watcher, answer) => {
                outbound.taps().watch(watcher.clone());
                inbound.taps().watch(watcher);
                // Whoever asked may have left.
                let _ = answer.send(());
            }
            Question::Exchanges(wanted, answer) => {
                let both = [outbound.recorder(), inbound.recorder()];
                let copies = both.into_iter().filter_map(|recorder| recorder.exchanges(&wanted));
                drop(answer.send(copies.collect()));
            }
            Question::Renew(answer) => drop(answer.send(Renewed {
                opened: outbound.renew_connections(),
                accepted: inbound.renew_connections(),
            })),
        }
    }
}
