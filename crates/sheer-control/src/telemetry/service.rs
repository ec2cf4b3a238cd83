//! Answers `sheer.v1.Stats`, on the control plane's socket. Questions are worked on beside everything else: one over a large mesh takes a while.

use std::{sync::Arc, time::Duration};

use futures::{Stream, StreamExt as _, stream, stream::BoxStream};
use sheer_api::v1::{
    self,
    stats_server::{Stats, StatsServer},
};
use tokio::{
    sync::watch,
    time::{Interval, MissedTickBehavior, interval},
};
use tonic::{Request, Response, Status};

use super::{Windows, edges, points, stat, top};
use crate::{config::MeshConfig, sight::hidden::Latest, store::Store};

/// Between two answers, where nobody says.
const DEFAULT_INTERVAL: Duration = Duration::from_secs(1);
const SHORTEST_INTERVAL: Duration = Duration::from_millis(100);

/// The service.
#[derive(Clone)]
pub(crate) struct StatsService {
    store: Store,
    config: Arc<MeshConfig>,
    windows: Arc<Windows>,
    hidden: Arc<Latest>,
    shutdown: watch::Receiver<bool>,
}

type Answers<T> = BoxStream<'static, Result<T, Status>>;

impl StatsService {
    pub(crate) fn server(
        store: Store,
        config: Arc<MeshConfig>,
        windows: Arc<Windows>,
        shutdown: watch::Receiver<bool>,
    ) -> StatsServer<Self> {
        StatsServer::new(Self {
            store,
            config,
            windows,
            hidden: Arc::default(),
            shutdown,
        })
    }

    /// Works out an answer where it holds up nobody.
    async fn work<T: Send + 'static>(
        &self,
        answer: impl FnOnce(&Self) -> Result<T, Status> + Send + 'static,
    ) -> Result<T, Status> {
        let service = self.clone();
        tokio::task::spawn_blocking(move || answer(&service))
            .await
            .map_err(|error| Status::internal(format!("the answer could not be worked out: {error}")))?
    }

    /// The same answer again and again, until nobody listens.
    fn watch<T: Send + 'static>(
        &self,
        interval_ms: u64,
        answer: impl Fn(&Self) -> Result<T, Status> + Clone + Send + 'static,
    ) -> impl Stream<Item = Result<T, Status>> + Send + 'static {
        let (service, ticks, mut shutdown) = (self.clone(), every(interval_ms), self.shutdown.clone());
        let answers = stream::unfold((service, ticks), move |(service, mut ticks)| {
            let answer = answer.clone();
            async move {
                ticks.tick().await;
                let answered = service.work(answer).await;
                Some((answered, (service, ticks)))
            }
        });
        answers.take_until(async move { drop(shutdown.wait_for(|down| *down).await) })
    }

    fn stat_now(&self, request: &v1::StatRequest) -> Result<v1::StatResponse, Status> {
        stat::stat(&self.windows, &self.store.latest(), &self.config, request)
    }

    fn edges_now(&self, request: &v1::EdgesRequest) -> Result<v1::EdgesResponse, Status> {
        edges::edges(&self.windows, &self.store.latest(), &self.config, request)
    }

    fn top_now(&self, look: &top::Look) -> v1::TopResponse {
        let snapshot = self.store.latest();
        let hidden = self.hidden.of(&snapshot);
        top::top(&self.windows, (&snapshot, &hidden), look)
    }

    fn proxies_now(&self, request: &v1::ProxiesRequest) -> v1::ProxiesResponse {
        let mut response = v1::ProxiesResponse {
            bytes: self.windows.bytes(),
            bytes_limit: self.windows.limit(),
            ..v1::ProxiesResponse::default()
        };
        for source in self.windows.sources() {
            let source = source.lock();
            response.series += source.len() as u64;
            let place = &source.place;
            if !request.namespace.is_empty() && request.namespace != place.namespace {
                continue;
            }
            let workload = place.workload.as_ref();
            response.proxies.push(v1::ProxyStatus {
                namespace: place.namespace.clone(),
                pod: place.pod.clone(),
                workload: workload
                    .map(|party| format!("{}/{}", party.kind, party.name))
                    .unwrap_or_default(),
                reporter: Some(source.reporter.clone()),
                connected: source.streams > 0,
                last_seen_ms: source.last_ms,
                clock_ahead_ms: source.clock.ahead_ms(),
                overflowed: source.overflowed,
            });
        }
        response
            .proxies
            .sort_by(|a, b| (&a.namespace, &a.pod).cmp(&(&b.namespace, &b.pod)));
        response
    }
}

fn every(interval_ms: u64) -> Interval {
    let asked = if interval_ms == 0 {
        DEFAULT_INTERVAL
    } else {
        Duration::from_millis(interval_ms)
    };
    let mut ticks = interval(asked.max(SHORTEST_INTERVAL));
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    ticks
}

#[tonic::async_trait]
impl Stats for StatsService {
    type WatchStatStream = Answers<v1::StatResponse>;
    type WatchEdgesStream = Answers<v1::EdgesResponse>;
    type TopStream = Answers<v1::TopResponse>;

    async fn stat(&self, request: Request<v1::StatRequest>) -> Result<Response<v1::StatResponse>, Status> {
        let request = request.into_inner();
        self.work(move |service| service.stat_now(&request))
            .await
            .map(Response::new)
    }

    async fn watch_stat(&self, request: Request<v1::StatRequest>) -> Result<Response<Self::WatchStatStream>, Status> {
        let request = request.into_inner();
        // What is wrong with the question is told as the answer to the call.
        stat::check(&request)?;
        let answers = self.watch(request.interval_ms, move |service| service.stat_now(&request));
        Ok(Response::new(answers.boxed()))
    }

    async fn series(&self, request: Request<v1::SeriesRequest>) -> Result<Response<v1::SeriesResponse>, Status> {
        let request = request.into_inner();
        let answer = self.work(move |service| points::series(&service.windows, &service.store.latest(), &request));
        answer.await.map(Response::new)
    }

    async fn edges(&self, request: Request<v1::EdgesRequest>) -> Result<Response<v1::EdgesResponse>, Status> {
        let request = request.into_inner();
        self.work(move |service| service.edges_now(&request))
            .await
            .map(Response::new)
    }

    async fn watch_edges(
        &self,
        request: Request<v1::EdgesRequest>,
    ) -> Result<Response<Self::WatchEdgesStream>, Status> {
        let request = request.into_inner();
        let answers = self.watch(request.interval_ms, move |service| service.edges_now(&request));
        Ok(Response::new(answers.boxed()))
    }

    async fn top(&self, request: Request<v1::TopRequest>) -> Result<Response<Self::TopStream>, Status> {
        let request = request.into_inner();
        let look = top::Look::new(&request)?;
        // Held by the stream: proxies look at paths until it ends.
        let watcher = Arc::new(self.windows.watch_paths());
        let answers = self.watch(request.interval_ms, move |service| {
            let _watcher = &watcher;
            Ok(service.top_now(&look))
        });
        Ok(Response::new(answers.boxed()))
    }

    async fn proxies(&self, request: Request<v1::ProxiesRequest>) -> Result<Response<v1::ProxiesResponse>, Status> {
        let request = request.into_inner();
        self.work(move |service| Ok(service.proxies_now(&request)))
            .await
            .map(Response::new)
    }
}
