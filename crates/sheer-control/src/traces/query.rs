//! Answers what the command line and the dashboard ask.

#![expect(clippy::disallowed_methods, reason = "searches go back from the time of day")]

use std::time::{Instant, SystemTime, UNIX_EPOCH};

use sheer_api::v1::{
    ListTracesRequest, ListTracesResponse, PropagationRequest, PropagationResponse, ShowTraceRequest, Trace,
    traces_server::Traces as Service,
};
use tonic::{Request, Response, Status};

use super::{
    Traces,
    show::show,
    store::hex_of,
    summary::{Search, summary},
};

/// Traces of an answer, where nobody says how many.
const LIMIT: usize = 50;
/// Most of one answer.
const MOST: usize = 1_000;

/// The service.
pub(crate) struct Query(pub(super) Traces);

#[tonic::async_trait]
impl Service for Query {
    async fn list(&self, request: Request<ListTracesRequest>) -> Result<Response<ListTracesResponse>, Status> {
        let request = request.into_inner();
        let limit = match request.limit as usize {
            0 => LIMIT,
            limit => limit.min(MOST),
        };
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let search = Search::new(&request, u64::try_from(now.as_nanos()).unwrap_or(u64::MAX));
        let kept = self.0.kept.lock();
        let found = kept.latest().filter(|(id, trace)| search.wants(id, trace)).take(limit);
        Ok(Response::new(ListTracesResponse {
            traces: found.map(|(id, trace)| summary(id, trace)).collect(),
            store: Some(kept.state()),
        }))
    }

    async fn show(&self, request: Request<ShowTraceRequest>) -> Result<Response<Trace>, Status> {
        let asked = request.into_inner().trace_id.to_ascii_lowercase();
        if asked.is_empty() || asked.len() > 32 || !asked.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return Err(Status::invalid_argument(format!(
                "{asked:?} is no id of a trace: 32 hexadecimal digits, or the first of them"
            )));
        }
        let kept = self.0.kept.lock();
        match &kept.beginning(&asked)[..] {
            [(id, trace)] => Ok(Response::new(show(id, trace))),
            [] => Err(Status::not_found(format!(
                "no trace {asked} is kept: it was not recorded, or it was pushed out by later ones ({} are kept)",
                kept.state().traces
            ))),
            several => {
                let ids: Vec<_> = several.iter().take(5).map(|(id, _)| hex_of(*id)).collect();
                Err(Status::invalid_argument(format!(
                    "{} traces begin with {asked}: {}",
                    several.len(),
                    ids.join(", ")
                )))
            }
        }
    }

    async fn propagation(&self, request: Request<PropagationRequest>) -> Result<Response<PropagationResponse>, Status> {
        let namespace = request.into_inner().namespace;
        let workloads = self.0.propagation.lock().workloads(&namespace, Instant::now());
        Ok(Response::new(PropagationResponse { workloads }))
    }
}
