//! Asks the control plane. Every answer is bounded in time and size; every error is in words.

use std::future::Future;
use std::time::Duration;

use sheer_api::v1::control_client::ControlClient;
use sheer_api::v1::stats_client::StatsClient;
use sheer_api::v1::traces_client::TracesClient;
use sheer_api::v1::{
    ConfigDumpRequest, ConfigDumpResponse, EdgesRequest, EdgesResponse, ExplainRequest, ExplainResponse, FrameEvent,
    ListTracesRequest, ListTracesResponse, PropagationRequest, PropagationResponse, ProxiesRequest, ProxiesResponse,
    ReportRequest, ReportResponse, RoutesRequest, RoutesResponse, SeriesRequest, SeriesResponse, ShowTraceRequest,
    StatRequest, StatResponse, TapLine, TopRequest, TopResponse, Trace, WatchDiffRequest, WatchDiffResponse,
    WatchFramesRequest, WatchTapRequest,
};
use tokio::time::timeout;
use tonic::Streaming;
use tonic::metadata::{Ascii, MetadataValue};
use tonic::transport::Channel;

use crate::problem::{Kind, Problem};

/// Patience with one question.
const PATIENCE: Duration = Duration::from_secs(5);
/// The same, where the control plane has to ask proxies first.
const PROXIES_PATIENCE: Duration = Duration::from_secs(20);
/// What all proxies of a mesh hold can be much.
const LARGEST_ANSWER: usize = 256 * 1024 * 1024;

/// The control plane, which need not run now: a channel connects anew by itself.
#[derive(Clone, Debug)]
pub(crate) struct Control {
    channel: Channel,
    /// With which traffic is looked at; none of the mesh's owner.
    token: Option<MetadataValue<Ascii>>,
}

impl Control {
    pub(crate) fn new(channel: Channel) -> Self {
        Self { channel, token: None }
    }

    /// Asks as whoever has this token, as `authorization` has it.
    pub(crate) fn narrow(&mut self, token: MetadataValue<Ascii>) {
        self.token = Some(token);
    }

    /// Whether it may look at traffic and nothing else.
    pub(crate) fn is_narrowed(&self) -> bool {
        self.token.is_some()
    }

    fn stats(&self) -> Result<StatsClient<Channel>, Problem> {
        self.must_own()?;
        Ok(StatsClient::new(self.channel.clone()).max_decoding_message_size(LARGEST_ANSWER))
    }

    fn traces(&self) -> Result<TracesClient<Channel>, Problem> {
        self.must_own()?;
        Ok(TracesClient::new(self.channel.clone()).max_decoding_message_size(LARGEST_ANSWER))
    }

    fn control(&self) -> ControlClient<Channel> {
        ControlClient::new(self.channel.clone()).max_decoding_message_size(LARGEST_ANSWER)
    }

    /// For what a token never allows, as for the commands.
    fn must_own(&self) -> Result<(), Problem> {
        if self.is_narrowed() {
            return Err(Problem::new(
                Kind::Forbidden,
                "A token allows to look at traffic and nothing else: this only the mesh's owner may see.",
                "This dashboard was started with a token (SHEER_TOKEN, --token). The live requests are what it may show.",
            ));
        }
        Ok(())
    }

    fn with_token<T>(&self, question: T) -> tonic::Request<T> {
        let mut request = tonic::Request::new(question);
        if let Some(token) = &self.token {
            request.metadata_mut().insert("authorization", token.clone());
        }
        request
    }

    pub(crate) async fn stat(&self, request: StatRequest) -> Result<StatResponse, Problem> {
        answer(PATIENCE, self.stats()?.stat(request)).await
    }

    pub(crate) async fn series(&self, request: SeriesRequest) -> Result<SeriesResponse, Problem> {
        answer(PATIENCE, self.stats()?.series(request)).await
    }

    pub(crate) async fn edges(&self, request: EdgesRequest) -> Result<EdgesResponse, Problem> {
        answer(PATIENCE, self.stats()?.edges(request)).await
    }

    /// Proxies look at paths for as long as the stream is held.
    pub(crate) async fn top(&self, request: TopRequest) -> Result<Streaming<TopResponse>, Problem> {
        answer(PATIENCE, self.stats()?.top(request)).await
    }

    pub(crate) async fn proxies(&self, request: ProxiesRequest) -> Result<ProxiesResponse, Problem> {
        answer(PATIENCE, self.stats()?.proxies(request)).await
    }

    pub(crate) async fn list_traces(&self, request: ListTracesRequest) -> Result<ListTracesResponse, Problem> {
        answer(PATIENCE, self.traces()?.list(request)).await
    }

    pub(crate) async fn show_trace(&self, request: ShowTraceRequest) -> Result<Trace, Problem> {
        answer(PATIENCE, self.traces()?.show(request)).await
    }

    pub(crate) async fn propagation(&self, request: PropagationRequest) -> Result<PropagationResponse, Problem> {
        answer(PATIENCE, self.traces()?.propagation(request)).await
    }

    pub(crate) async fn report(&self) -> Result<ReportResponse, Problem> {
        self.must_own()?;
        answer(PATIENCE, self.control().report(ReportRequest {})).await
    }

    pub(crate) async fn routes(&self, request: RoutesRequest) -> Result<RoutesResponse, Problem> {
        self.must_own()?;
        answer(PATIENCE, self.control().routes(request)).await
    }

    pub(crate) async fn config_dump(&self, request: ConfigDumpRequest) -> Result<ConfigDumpResponse, Problem> {
        answer(PROXIES_PATIENCE, self.control().config_dump(self.with_token(request))).await
    }

    pub(crate) async fn explain(&self, request: ExplainRequest) -> Result<ExplainResponse, Problem> {
        answer(PROXIES_PATIENCE, self.control().explain(self.with_token(request))).await
    }

    /// Requests and connections as they pass, for as long as the stream is held.
    pub(crate) async fn tap(&self, request: WatchTapRequest) -> Result<Streaming<TapLine>, Problem> {
        answer(PROXIES_PATIENCE, self.control().tap(self.with_token(request))).await
    }

    pub(crate) async fn diff(&self, request: WatchDiffRequest) -> Result<WatchDiffResponse, Problem> {
        answer(PROXIES_PATIENCE, self.control().diff(self.with_token(request))).await
    }

    pub(crate) async fn frames(&self, request: WatchFramesRequest) -> Result<Streaming<FrameEvent>, Problem> {
        answer(PROXIES_PATIENCE, self.control().frames(self.with_token(request))).await
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
