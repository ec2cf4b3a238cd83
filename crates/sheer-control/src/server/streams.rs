//! Streams to proxies: each computes its answer anew from the latest snapshot and sends it only where it differs from the last.
//!
//! An answer is computed when the client is ready to take it: a slow client holds one small state and skips what it missed.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::Arc,
};

use futures::{StreamExt, stream, stream::BoxStream};
use parking_lot::Mutex;
use tokio::sync::watch;
use tonic::Status;

use crate::store::{Snapshot, Snapshots};

/// Opens streams, counts them, and ends them all at shutdown. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Streams {
    open: Arc<Mutex<BTreeMap<&'static str, u32>>>,
    shutdown: watch::Receiver<bool>,
}

/// Counts one stream while it lives.
struct Open {
    streams: Streams,
    method: &'static str,
}

impl Drop for Open {
    fn drop(&mut self) {
        if let Some(count) = self.streams.open.lock().get_mut(self.method) {
            *count = count.saturating_sub(1);
        }
    }
}

struct State<T, F> {
    snapshots: Snapshots,
    shutdown: watch::Receiver<bool>,
    answer: F,
    pending: VecDeque<T>,
    ended: bool,
    _open: Open,
}

impl Streams {
    /// Streams that live until `shutdown` turns true.
    pub(crate) fn new(shutdown: watch::Receiver<bool>) -> Self {
        Self {
            open: Arc::default(),
            shutdown,
        }
    }

    /// How many are open, by method.
    pub(crate) fn counts(&self) -> BTreeMap<&'static str, u32> {
        self.open.lock().clone()
    }

    /// A stream of what `answer` makes of each snapshot: any number of updates, or a status that ends the stream.
    pub(crate) fn open<T, F>(
        &self,
        method: &'static str,
        snapshots: Snapshots,
        answer: F,
    ) -> BoxStream<'static, Result<T, Status>>
    where
        T: Send + 'static,
        F: FnMut(&Snapshot) -> Result<Vec<T>, Status> + Send + 'static,
    {
        *self.open.lock().entry(method).or_default() += 1;
        let open = Open {
            streams: self.clone(),
            method,
        };
        let shutdown = self.shutdown.clone();
        let state = State {
            snapshots,
            shutdown,
            answer,
            pending: VecDeque::new(),
            ended: false,
            _open: open,
        };
        stream::unfold(state, |mut state| async move {
            state.next().await.map(|item| (item, state))
        })
        .boxed()
    }

    /// A stream that somebody else makes, counted as the others are, and ended at shutdown.
    pub(crate) fn until_down<T: Send + 'static>(
        &self,
        method: &'static str,
        stream: BoxStream<'static, Result<T, Status>>,
    ) -> BoxStream<'static, Result<T, Status>> {
        *self.open.lock().entry(method).or_default() += 1;
        let open = Open {
            streams: self.clone(),
            method,
        };
        let mut shutdown = self.shutdown.clone();
        let down = async move { drop(shutdown.wait_for(|down| *down).await) };
        let counted = stream.map(move |item| {
            let _open = &open;
            item
        });
        counted.take_until(down).boxed()
    }

    /// A stream of whole values: each replaces the one before it.
    pub(crate) fn open_latest<T, F>(
        &self,
        method: &'static str,
        snapshots: Snapshots,
        mut answer: F,
    ) -> BoxStream<'static, Result<T, Status>>
    where
        T: Clone + PartialEq + Send + 'static,
        F: FnMut(&Snapshot) -> Result<T, Status> + Send + 'static,
    {
        let mut last = None;
        self.open(method, snapshots, move |snapshot| {
            let value = answer(snapshot)?;
            if last.as_ref() == Some(&value) {
                return Ok(Vec::new());
            }
            last = Some(value.clone());
            Ok(vec![value])
        })
    }
}

impl<T, F> State<T, F>
where
    F: FnMut(&Snapshot) -> Result<Vec<T>, Status>,
{
    async fn next(&mut self) -> Option<Result<T, Status>> {
        loop {
            if let Some(item) = self.pending.pop_front() {
                return Some(Ok(item));
            }
            if self.ended {
                return None;
            }
            tokio::select! {
                // Shutdown first: at the end, no change is worth waiting for.
                biased;
                _ = self.shutdown.wait_for(|down| *down) => {
                    self.ended = true;
                    return Some(Err(Status::unavailable("the control plane is shutting down: connect again")));
                }
                changed = self.snapshots.changed() => {
                    if changed.is_err() {
                        self.ended = true;
                        return Some(Err(Status::unavailable("the control plane has stopped watching: connect again")));
                    }
                }
            }
            let snapshot = self.snapshots.borrow_and_update().clone();
            match (self.answer)(&snapshot) {
                Ok(items) => self.pending.extend(items),
                Err(status) => {
                    self.ended = true;
                    return Some(Err(status));
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn snapshots() -> (watch::Sender<Arc<Snapshot>>, Snapshots) {
        let (sender, mut receiver) = watch::channel(Arc::new(Snapshot::of("", "")));
        receiver.mark_changed();
        (sender, receiver)
    }

    #[tokio::test(start_paused = true)]
    async fn redundant_answers_are_not_sent_and_slow_clients_see_the_latest() {
        let (_down, shutdown) = watch::channel(false);
        let streams = Streams::new(shutdown);
        let (sender, receiver) = snapshots();
        let mut calls = 0;
        let mut stream = streams.open_latest("Test", receiver, move |_| {
            calls += 1;
            Ok(calls / 2)
        });
        assert_eq!(stream.next().await.unwrap().unwrap(), 0);
        for _ in 0..5 {
            sender.send_replace(Arc::new(Snapshot::of("", "")));
        }
        assert_eq!(
            stream.next().await.unwrap().unwrap(),
            1,
            "five snapshots are one answer to a client that was not waiting"
        );
        sender.send_replace(Arc::new(Snapshot::of("", "")));
        let next = tokio::time::timeout(Duration::from_secs(1), stream.next()).await;
        assert!(next.is_err(), "an answer like the last is not sent");
    }

    #[tokio::test]
    async fn streams_are_counted_and_end_at_shutdown() {
        let (down, shutdown) = watch::channel(false);
        let streams = Streams::new(shutdown);
        let (_sender, receiver) = snapshots();
        let mut stream = streams.open_latest("Test", receiver.clone(), |_| Ok(1));
        assert_eq!(streams.counts(), BTreeMap::from([("Test", 1)]));
        assert_eq!(stream.next().await.unwrap().unwrap(), 1);
        down.send_replace(true);
        assert_eq!(
            stream.next().await.unwrap().unwrap_err().code(),
            tonic::Code::Unavailable
        );
        assert!(stream.next().await.is_none());
        drop(stream);
        assert_eq!(streams.counts(), BTreeMap::from([("Test", 0)]));
    }

    #[tokio::test]
    async fn a_status_ends_the_stream() {
        let (_down, shutdown) = watch::channel(false);
        let (_sender, receiver) = snapshots();
        let mut stream =
            Streams::new(shutdown).open_latest::<(), _>("Test", receiver, |_| Err(Status::not_found("gone")));
        assert_eq!(stream.next().await.unwrap().unwrap_err().code(), tonic::Code::NotFound);
        assert!(stream.next().await.is_none());
    }
}
