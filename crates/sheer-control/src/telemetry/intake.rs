//! Takes in what proxies push: `sheer.v1.Telemetry`.

use std::{collections::HashMap, sync::Arc};

use futures::{StreamExt as _, stream::BoxStream};
use parking_lot::Mutex;
use sheer_api::v1::{
    self,
    telemetry_server::{Telemetry, TelemetryServer},
};
use tokio::sync::{mpsc, watch};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status, Streaming};

use super::{
    Windows, resolve,
    row::{RowKey, When},
    source::Source,
    time::now_ms,
};
use crate::{config::MeshConfig, server::Peer, store::Store, target::WorkloadName};

/// Series that one stream may name.
const MOST_SERIES: usize = 20_000;
/// Largest message. A report of 2,000 series, each with new keys and all its latencies, is under 2 MiB.
const LARGEST: usize = 8 * 1024 * 1024;

/// The service.
#[derive(Clone)]
pub(crate) struct Intake {
    store: Store,
    config: Arc<MeshConfig>,
    windows: Arc<Windows>,
    shutdown: watch::Receiver<bool>,
}

/// One stream.
pub(super) struct Reports {
    store: Store,
    source: Arc<Mutex<Source>>,
    series: HashMap<u32, Series>,
}

/// A series that the stream has named.
struct Series {
    named: v1::SeriesKey,
    row: RowKey,
    /// The state of the mesh that says who is who.
    generation: u64,
}

impl Intake {
    pub(crate) fn server(
        store: Store,
        config: Arc<MeshConfig>,
        windows: Arc<Windows>,
        shutdown: watch::Receiver<bool>,
    ) -> TelemetryServer<Self> {
        let intake = Self {
            store,
            config,
            windows,
            shutdown,
        };
        TelemetryServer::new(intake).max_decoding_message_size(LARGEST)
    }

    #[cfg(test)]
    pub(super) fn for_tests(store: Store, windows: Arc<Windows>) -> Self {
        Self {
            store,
            config: Arc::new(MeshConfig::for_tests()),
            windows,
            shutdown: watch::channel(false).1,
        }
    }

    /// Begins a stream with a proxy's first message. Over TLS a proxy speaks for its own pod alone.
    pub(super) fn begin(&self, peer: Option<&Peer>, first: v1::TelemetryPush) -> Result<Reports, Status> {
        let missing = || Status::invalid_argument("the first message says who reports");
        let reporter = first.reporter.ok_or_else(missing)?;
        let WorkloadName { namespace, pod } = WorkloadName::parse(&reporter.workload)?;
        let snapshot = self.store.latest();
        if let Some(peer) = peer.filter(|peer| peer.tls) {
            let names = peer.names.as_deref().unwrap_or_default();
            // A pod that the control plane has not heard of yet is heard when it has.
            let unknown = || Status::unavailable(format!("no pod {namespace}/{pod} runs in this mesh yet"));
            let found = snapshot.find_pod(&namespace, &pod).ok_or_else(unknown)?;
            let identity = self.config.pod_identity(found);
            if !names.contains(&identity) {
                let why = format!("reports of {namespace}/{pod} are taken from {identity} alone");
                return Err(Status::permission_denied(why));
            }
        }
        let source = self.windows.source(&snapshot, &namespace, &pod);
        {
            let mut source = source.lock();
            source.streams += 1;
            source.introduce(reporter, first.at_ms, now_ms());
        }
        Ok(Reports {
            store: self.store.clone(),
            source,
            series: HashMap::new(),
        })
    }

    /// Answers reports until the stream ends.
    async fn serve(
        self,
        mut reports: Reports,
        mut messages: Streaming<v1::TelemetryPush>,
        answers: mpsc::Sender<Result<v1::TelemetryAnswer, Status>>,
    ) {
        let (mut watchers, mut shutdown) = (self.windows.path_watchers(), self.shutdown.clone());
        loop {
            let paths = *watchers.borrow_and_update() > 0;
            let acknowledged = reports.source.lock().acknowledged();
            let answer = v1::TelemetryAnswer { acknowledged, paths };
            if answers.send(Ok(answer)).await.is_err() {
                return;
            }
            let message = tokio::select! {
                biased; // the end first
                _ = shutdown.wait_for(|down| *down) => return,
                Ok(()) = watchers.changed() => continue,
                message = messages.message() => message,
            };
            match message {
                Ok(Some(message)) => reports.take(message),
                Ok(None) => return,
                Err(status) => return tracing::debug!(%status, "a stream of reports ended"),
            }
        }
    }
}

impl Reports {
    pub(super) fn take(&mut self, message: v1::TelemetryPush) {
        let (snapshot, now) = (self.store.latest(), now_ms());
        for key in message.keys {
            if self.series.len() >= MOST_SERIES && !self.series.contains_key(&key.id) {
                continue;
            }
            let series = Series {
                row: resolve::row(&snapshot, &key),
                generation: snapshot.generation(),
                named: key,
            };
            self.series.insert(series.named.id, series);
        }
        let mut source = self.source.lock();
        if let Some(reporter) = message.reporter {
            source.introduce(reporter, message.at_ms, now);
        }
        source.last_ms = now;
        source.overflowed = message.overflowed.max(source.overflowed);
        if message.sequence == 0 || !source.is_new(message.sequence) {
            return;
        }
        if source.place.workload.is_none() {
            source.place = resolve::Place::of(&snapshot, &source.place.namespace, &source.place.pod);
        }
        let at_ms = source.clock.correct(message.at_ms, now);
        let when = When {
            at_ms,
            span_ms: message.span_ms,
        };
        for delta in &message.series {
            let Some(series) = self.series.get_mut(&delta.id) else {
                continue;
            };
            series.follow(&snapshot);
            source.add(&series.row, delta, when);
        }
        source.add_paths(message.paths, at_ms);
    }
}

impl Series {
    /// Looks again who is meant, where the mesh has changed: an address may be another pod's now. A pod that is gone stays who it was.
    fn follow(&mut self, snapshot: &crate::store::Snapshot) {
        if self.generation == snapshot.generation() {
            return;
        }
        self.generation = snapshot.generation();
        let row = resolve::row(snapshot, &self.named);
        let is_nameless = |row: &RowKey| {
            row.peer
                .as_ref()
                .is_some_and(|peer| matches!(peer.kind, "address" | "sa" | "identity"))
        };
        if !is_nameless(&row) || is_nameless(&self.row) {
            self.row = row;
        }
    }
}

impl Drop for Reports {
    fn drop(&mut self) {
        let mut source = self.source.lock();
        source.streams = source.streams.saturating_sub(1);
    }
}

#[tonic::async_trait]
impl Telemetry for Intake {
    type PushStream = BoxStream<'static, Result<v1::TelemetryAnswer, Status>>;

    async fn push(&self, request: Request<Streaming<v1::TelemetryPush>>) -> Result<Response<Self::PushStream>, Status> {
        let peer = request.extensions().get::<Peer>().cloned();
        let mut messages = request.into_inner();
        let first = messages.message().await?;
        let first = first.ok_or_else(|| Status::invalid_argument("the first message says who reports"))?;
        let reports = self.begin(peer.as_ref(), first)?;
        let (answers, stream) = mpsc::channel(4);
        tokio::spawn(self.clone().serve(reports, messages, answers));
        Ok(Response::new(ReceiverStream::new(stream).boxed()))
    }
}
