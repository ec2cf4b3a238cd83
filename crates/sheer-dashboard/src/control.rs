//! Asks the control plane. Every answer is bounded in time and size; every error is in words.

use std::future::Future;
use std::time::Duration;

use sheer_api::v1::control_client::ControlClient;
use sheer_api::v1::stats_client::StatsClient;
use sheer_api::v1::traces_client::TracesClient;
use sheer_api::v1::{
    ConfigDumpRequest, ConfigDumpResponse, EdgesRequest, EdgesResponse, ExplainRequest, ExplainResponse,
    ListTracesRequest, ListTracesResponse, PropagationRequest, PropagationResponse, ProxiesRequest, ProxiesResponse,
    ReportRequest, ReportResponse, RoutesRequest, RoutesResponse, SeriesRequest, SeriesResponse, ShowTraceRequest,
    StatRequest, StatResponse, TopRequest, TopResponse, Trace,
};
use tokio::time::timeout;
use tonic::Streaming;
use tonic::transport::Channel;

use crate::problem::Problem;

/// Patience with one question.
const PATIENCE: Duration = Duration::from_secs(5);
/// The same, where the control plane has to ask proxies first.
const PROXIES_PATIENCE: Duration = Duration::from_secs(20);
/// What all proxies of a mesh hold can be much.
const LARGEST_ANSWER: usize = 256 * 1024 * 1024;

/// The control plane, which need not run now: a channel connects anew by itself.
#[derive(Clone, Debug)]
pub(crate) struct Control(Channel);

impl Control {
    pub(crate) fn new(channel: Channel) -> Self {
        Self(channel)
    }

    fn stats(&self) -> StatsClient<Channel> {
        StatsClient::new(self.0.clone()).max_decoding_message_size(LARGEST_ANSWER)
    }

    fn traces(&self) -> TracesClient<Channel> {
        TracesClient::new(self.0.clone()).max_decoding_message_size(LARGEST_ANSWER)
    }

    fn control(&self) -> ControlClient<Channel> {
        ControlClient::new(self.0.clone()).max_decoding_message_size(LARGEST_ANSWER)
    }

    pub(crate) async fn stat(&self, request: StatRequest) -> Result<StatResponse, Problem> {
        answer(PATIENCE, self.stats().stat(request)).await
    }

    pub(crate) async fn series(&self, request: SeriesRequest) -> Result<SeriesResponse, Problem> {
        answer(PATIENCE, self.stats().series(request)).await
    }

    pub(crate) async fn edges(&self, request: EdgesRequest) -> Result<EdgesResponse, Problem> {
        answer(PATIENCE, self.stats().edges(request)).await
    }

    /// Proxies look at paths for as long as the stream is held.
    pub(crate) async fn top(&self, request: TopRequest) -> Result<Streaming<TopResponse>, Problem> {
        answer(PATIENCE, self.stats().top(request)).await
    }

    pub(crate) async fn proxies(&self, request: ProxiesRequest) -> Result<ProxiesResponse, Problem> {
        answer(PATIENCE, self.stats().proxies(request)).await
    }

    pub(crate) async fn list_traces(&self, request: ListTracesRequest) -> Result<ListTracesResponse, Problem> {
        answer(PATIENCE, self.traces().list(request)).await
    }

    pub(crate) async fn show_trace(&self, request: ShowTraceRequest) -> Result<Trace, Problem> {
        answer(PATIENCE, self.traces().show(request)).await
    }

    pub(crate) async fn propagation(&self, request: PropagationRequest) -> Result<PropagationResponse, Problem> {
        answer(PATIENCE, self.traces().propagation(request)).await
    }

    pub(crate) async fn report(&self) -> Result<ReportResponse, Problem> {
        answer(PATIENCE, self.control().report(ReportRequest {})).await
    }

    pub(crate) async fn routes(&self, request: RoutesRequest) -> Result<RoutesResponse, Problem> {
        answer(PATIENCE, self.control().routes(request)).await
    }

    pub(crate) async fn config_dump(&self, request: ConfigDumpRequest) -> Result<ConfigDumpResponse, Problem> {
        answer(PROXIES_PATIENCE, self.control().config_dump(request)).await
    }

    pub(crate) async fn explain(&self, request: ExplainRequest) -> Result<ExplainResponse, Problem> {
        answer(PROXIES_PATIENCE, self.control().explain(request)).await
    }
}

async fn answer<T>(
    patience: Duration,
    asked: impl Future<Output = Result<tonic::Response<T>, tonic::Status>>,
) -> Result<T, Problem> {
    match timeout(patience, asked).await {
        Ok(answer) => Ok(answer?.into_inner()),
        Err(_) => Err(Problem::slow()),
    }
}
