//! Takes spans from proxies: who tells is checked once a stream, against the certificate of the connection.

use std::sync::Arc;

use futures::{StreamExt as _, stream::BoxStream};
use sheer_api::v1::{PushReply, Span, SpanBatch, SpanSource, trace_intake_server::TraceIntake};
use tonic::{Request, Response, Status, Streaming};

use super::{Source, Traces, store::text};
use crate::{server::Peer, sight::hidden::Hidden, target::WorkloadName};

/// Largest name of a service that is taken.
const LONGEST_NAME: usize = 256;

/// The service.
pub(crate) struct Intake(pub(super) Traces);

/// A proxy that pushes, until dropped.
struct Pushing(Traces);

impl Drop for Pushing {
    fn drop(&mut self) {
        self.0.kept.lock().proxies -= 1;
    }
}

#[tonic::async_trait]
impl TraceIntake for Intake {
    type PushStream = BoxStream<'static, Result<PushReply, Status>>;

    async fn push(&self, request: Request<Streaming<SpanBatch>>) -> Result<Response<Self::PushStream>, Status> {
        let peer = request.extensions().get::<Peer>().cloned().unwrap_or_default();
        let mut batches = request.into_inner();
        let first = batches
            .message()
            .await?
            .ok_or_else(|| Status::invalid_argument("no source was told"))?;
        let source = self.0.source(first.source.as_ref(), &peer)?;
        let traces = self.0.clone();
        traces.kept.lock().proxies += 1;
        let pushing = Pushing(traces.clone());
        // The first message is answered too: spans are wanted.
        let state = (batches, Some(first), source, 0, pushing);
        let replies = futures::stream::unfold(Some(state), move |state| {
            let (traces, peer) = (traces.clone(), peer.clone());
            async move {
                let (mut batches, first, source, taken, pushing) = state?;
                let batch = match first {
                    Some(first) => Ok(Some(first)),
                    None => batches.message().await,
                };
                let batch = match batch {
                    Ok(Some(batch)) => batch,
                    Ok(None) => return None,
                    Err(status) => return Some((Err(status), None)),
                };
                let source = match batch.source.as_ref().map(|told| traces.source(Some(told), &peer)) {
                    Some(Ok(source)) => source,
                    Some(Err(status)) => return Some((Err(status), None)),
                    None => source,
                };
                let taken = taken + batch.spans.len() as u64;
                traces.take(batch, &source);
                let reply = PushReply { spans: taken };
                Some((Ok(reply), Some((batches, None, source, taken, pushing))))
            }
        });
        Ok(Response::new(
            self.0.streams.until_down("TraceIntake.Push", replies.boxed()),
        ))
    }
}

impl Traces {
    fn take(&self, batch: SpanBatch, source: &Arc<Source>) {
        if !batch.propagation.is_empty() {
            let mut propagation = self.propagation.lock();
            propagation.add(source, &batch.propagation, std::time::Instant::now());
        }
        let hidden = self.hidden.of(&self.objects.latest());
        let mut kept = self.kept.lock();
        kept.dropped_by_proxies += batch.dropped;
        for span in &batch.spans {
            if is_hidden(&hidden, span, source) {
                kept.add(&without_contents(span), source);
            } else {
                kept.add(span, source);
            }
        }
    }

    /// Who tells, as far as the mesh knows it. A proxy speaks for its own pod only.
    fn source(&self, told: Option<&SpanSource>, peer: &Peer) -> Result<Arc<Source>, Status> {
        let told = told.ok_or_else(|| Status::invalid_argument("no source was told"))?;
        let WorkloadName { namespace, pod } = WorkloadName::parse(&told.workload)?;
        let snapshot = self.objects.latest();
        let known = snapshot.find_pod(&namespace, &pod);
        let account = known.map_or("default", |pod| pod.service_account());
        let expected = self.config.identity(&namespace, account);
        match &peer.names {
            // Plaintext, which is on loopback only: whoever is there can be anybody.
            None if !peer.tls => {}
            Some(names) if names.contains(&expected) => {}
            Some(names) => {
                let names = names.join(", ");
                return Err(Status::permission_denied(format!(
                    "{names} does not speak for pod {namespace}/{pod}"
                )));
            }
            None => {
                return Err(Status::unauthenticated(
                    "spans are taken from proxies with an identity of the mesh only",
                ));
            }
        }
        let owner = known.and_then(|pod| snapshot.owner_of(pod));
        let workload = owner.map_or_else(
            || format!("pod/{pod}"),
            |(kind, name)| format!("{}/{name}", short(kind.as_str())),
        );
        let service = text(&told.attributes, "service.name").unwrap_or_default();
        let service = service.chars().take(LONGEST_NAME).collect();
        Ok(Arc::new(Source {
            namespace,
            pod,
            workload,
            service,
        }))
    }
}

/// Whether nobody may look at a request that this span is of: by who recorded it, and by both ends.
pub(super) fn is_hidden(hidden: &Hidden, span: &Span, source: &Source) -> bool {
    let is_at = |end: &str| hidden.is_at(end);
    let is_named = |key| text(&span.attributes, key).is_some_and(|name| hidden.is_called(name));
    hidden.has_pod(&source.namespace, &source.pod)
        || span
            .wire
            .as_ref()
            .is_some_and(|wire| is_at(&wire.client) || is_at(&wire.server))
        || is_named("peer.service")
        || is_named("server.address")
        || is_named("client.address")
}

/// The place of a span in its tree, its times, and whether it failed.
pub(super) fn without_contents(span: &Span) -> Span {
    Span {
        name: "hidden (sheer.dev/sight: disabled)".to_owned(),
        status_message: String::new(),
        attributes: Vec::new(),
        events: Vec::new(),
        trace_state: String::new(),
        ..span.clone()
    }
}

/// A kind as commands name it.
fn short(kind: &str) -> &str {
    match kind {
        "Deployment" => "deploy",
        "StatefulSet" => "sts",
        "DaemonSet" => "ds",
        kind => kind,
    }
}
