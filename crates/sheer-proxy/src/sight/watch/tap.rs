//! The tap as an answer: what failed lately, then what passes, redacted and in the words of the protocol.

use std::{
    collections::{BTreeSet, HashMap, VecDeque},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use futures::stream::{BoxStream, StreamExt as _, unfold};
use sheer_api::v1::{self, tap_event};
use sheer_policy::limit::Throttle;
use tokio::{
    sync::{Notify, mpsc},
    time::timeout,
};
use tonic::Status;

use super::{
    super::service::Sight,
    Right, allowed,
    bodies::{Bodies, How},
    connections, exchanges, redactor,
};
use crate::{
    exchange::PassedOver,
    record::{FailureCopy, FailureKind, LegId, Query, RecorderCopy},
    redact::Redactor,
    tap::{ConnectionEvent, Event, Filter, LegFacts, Losses, RequestEvent, Stage, Untold, Watcher, fold},
    tcp::Side,
};

/// Requests a second, where nobody says.
const RATE: u32 = 100;
/// Bytes of a body, at most.
const LARGEST_BODY: usize = 1024 * 1024;
/// Events that may wait for the reader.
const QUEUE: usize = 2_048;
/// Events that are taken at once.
const TAKEN: usize = 256;
/// How often it is woken for events, unless half of those that may wait do. A request is three of them, and to be woken costs more than to tell it: what the worker has
/// in the core's caches is gone then.
const WOKEN: Duration = Duration::from_millis(40);
/// How often a reader is told what it lost.
const LOSSES: Duration = Duration::from_millis(500);

/// What passes, until the reader goes away.
pub(in crate::sight) async fn tap(
    sight: Arc<Sight>,
    asked: v1::TapRequest,
) -> Result<BoxStream<'static, Result<v1::TapEvent, Status>>, Status> {
    let rights = allowed(asked.rights.clone(), Right::Tap)?;
    if !rights.tap {
        return Err(Status::permission_denied("the caller has not the right `tap`"));
    }
    if asked.bodies > 0 && !rights.bodies {
        return Err(Status::permission_denied("the caller has not the right `bodies`"));
    }
    let redactor = redactor(&sight, &rights);
    let limit = (asked.bodies as usize).min(LARGEST_BODY);
    let how = How {
        limit,
        redactor: redactor.clone(),
        wire: asked.wire,
        marked: BTreeSet::new(),
    };
    let (bodies, wrong) = Bodies::new(how, &asked.descriptors);
    let waiting = Arc::new(AtomicUsize::new(0));
    let wanted = asked.filter.clone().unwrap_or_default();
    let filter = Filter::read(&wanted, &redactor).map_err(Status::invalid_argument)?;
    let (events, receiver) = mpsc::channel(QUEUE);
    let losses = Arc::new(Losses::default());
    let crowd = Arc::new(Notify::new());
    let rate = if asked.rate == 0 { RATE } else { asked.rate };
    let watcher = Watcher {
        filter: Arc::new(filter),
        events,
        crowd: Arc::clone(&crowd),
        losses: Arc::clone(&losses),
        rate: Arc::new(Throttle::new(rate, Instant::now())),
        // A body belongs to a head.
        only_ends: asked.ends && limit == 0,
        bodies: limit,
        waiting: Arc::clone(&waiting),
    };
    // First those who watch, then what is kept: nothing falls in between.
    sight.workers().tap(&watcher).await;
    let mut pending: VecDeque<_> = wrong.into_iter().map(|why| of(tap_event::Event::Note(why))).collect();
    if asked.kept {
        let halves = sight.workers().recorded(&nothing(), true).await;
        pending.extend(kept(&halves, &watcher.filter, &redactor));
    }
    let reading = Reading {
        pending,
        receiver,
        crowd,
        woken: None,
        taken: Vec::with_capacity(TAKEN),
        losses,
        told: (0, 0),
        at: Instant::now(),
        redactor,
        // A body belongs to a head.
        folds: asked.folds && bodies.are_unwanted(),
        bodies,
        waiting,
        _sight: sight,
    };
    Ok(unfold(reading, |mut reading| async move {
        let event = reading.next().await?;
        Some((Ok(event), reading))
    })
    .boxed())
}

/// No connection: failures bring their own.
fn nothing() -> Query {
    Query {
        connection: u64::MAX,
        ..Query::default()
    }
}

struct Reading {
    pending: VecDeque<v1::TapEvent>,
    receiver: mpsc::Receiver<Event>,
    crowd: Arc<Notify>,
    /// When the last events were taken, where they were few.
    woken: Option<Instant>,
    taken: Vec<Event>,
    losses: Arc<Losses>,
    told: (u64, u64),
    /// When the reader was last told what it lost.
    at: Instant,
    redactor: Redactor,
    /// The reader takes heads from ends that have them.
    folds: bool,
    bodies: Bodies,
    waiting: Arc<AtomicUsize>,
    _sight: Arc<Sight>,
}

impl Reading {
    async fn next(&mut self) -> Option<v1::TapEvent> {
        loop {
            if let Some(event) = self.pending.pop_front() {
                return Some(event);
            }
            if let Some(woken) = self.woken.take() {
                let rest = WOKEN.saturating_sub(woken.elapsed());
                let _ = timeout(rest, self.crowd.notified()).await;
            }
            let untold = LOSSES.saturating_sub(self.at.elapsed());
            match timeout(untold, self.receiver.recv_many(&mut self.taken, TAKEN)).await {
                Ok(0) => return None,
                Ok(count) => {
                    self.lost();
                    let mut taken = std::mem::take(&mut self.taken);
                    let untold = if self.folds { fold(&mut taken) } else { HashMap::new() };
                    taken.drain(..).for_each(|event| self.take(event, &untold));
                    self.taken = taken;
                    // Bodies are large: they do not wait.
                    self.woken = (count < TAKEN && self.bodies.are_unwanted()).then(Instant::now);
                }
                Err(_) => self.lost(),
            }
        }
    }

    fn take(&mut self, event: Event, untold: &HashMap<u64, Untold>) {
        let show = |body| of(tap_event::Event::Body(body));
        match event {
            Event::Request(event) => {
                self.pending.extend(self.bodies.end(&event).into_iter().map(show));
                let mut shown = request(&event, &self.redactor);
                if let Some(untold) = untold.get(&event.id) {
                    (shown.untold_request, shown.untold_response) = (untold.request, untold.response);
                }
                self.pending.push_back(of(tap_event::Event::Request(Box::new(shown))));
            }
            Event::Connection(event) => {
                self.pending
                    .push_back(of(tap_event::Event::Connection(connection(&event))));
            }
            Event::Body(event) => {
                self.waiting.fetch_sub(event.data.len(), Relaxed);
                self.pending.extend(self.bodies.piece(&event).into_iter().map(show));
            }
        }
    }

    fn lost(&mut self) {
        if self.at.elapsed() < LOSSES {
            return;
        }
        self.at = Instant::now();
        let now = (self.losses.slow.load(Relaxed), self.losses.rate.load(Relaxed));
        let told = std::mem::replace(&mut self.told, now);
        if now != told {
            let (slow, rate) = (now.0 - told.0, now.1 - told.1);
            self.pending
                .push_back(of(tap_event::Event::Loss(v1::TapLoss { slow, rate })));
        }
    }
}

fn of(event: tap_event::Event) -> v1::TapEvent {
    v1::TapEvent {
        event: Some(event),
        pod: String::new(),
    }
}

fn fields(headers: &http::HeaderMap, redactor: &Redactor) -> Vec<v1::HeaderField> {
    let field = |(name, value): (&http::HeaderName, &http::HeaderValue)| v1::HeaderField {
        name: name.to_string(),
        value: redactor
            .value(name.as_str().as_bytes(), value.as_bytes())
            .0
            .into_owned(),
    };
    headers.iter().map(field).collect()
}

fn leg(facts: &LegFacts) -> v1::Leg {
    let text = |address: Option<std::net::SocketAddr>| address.map_or_else(String::new, |address| address.to_string());
    v1::Leg {
        connection: facts.id.connection,
        stream: facts.id.stream,
        local: text(facts.local),
        remote: text(facts.remote),
        original: text(facts.original),
        mesh: facts.is_mesh,
    }
}

fn direction(outbound: bool) -> String {
    if outbound { "outbound" } else { "inbound" }.to_owned()
}

/// A request at a stage.
fn request(event: &RequestEvent, redactor: &Redactor) -> v1::TappedRequest {
    let head = &event.head;
    let upstream = (event.attempts > 0).then(|| leg(&event.upstream));
    let mut shown = v1::TappedRequest {
        kind: match event.stage {
            Stage::Request => "request",
            Stage::Response => "response",
            Stage::End => "end",
        }
        .to_owned(),
        exchange: Some(v1::Exchange {
            id: event.id,
            direction: direction(event.is_outbound),
            client: Some(leg(&head.client)),
            upstream,
            started_us: event.clock.unix(event.started),
            duration_us: event.end.as_ref().map_or(0, |end| end.after),
        }),
        at_us: event.clock.unix(event.at),
        request: Some(v1::RequestHead {
            method: head.method.as_ref().map_or_else(String::new, http::Method::to_string),
            authority: redactor.authority(&head.authority).into_owned(),
            path: redactor.path(&head.path),
            headers: fields(&head.headers, redactor),
        }),
        protocol: if head.is_http1 { "http/1" } else { "http/2" }.to_owned(),
        grpc_status: -1,
        destination: head.destination.clone(),
        endpoint: event
            .upstream
            .remote
            .map_or_else(String::new, |address| address.to_string()),
        attempts: event.attempts,
        passed_over: passed_over(&event.passed_over, event.clock.unix(event.started)),
        client_identity: head.identity.as_deref().unwrap_or_default().to_owned(),
        client_address: head
            .client
            .remote
            .map_or_else(String::new, |address| address.to_string()),
        mutual_tls: head.mutual_tls,
        ..v1::TappedRequest::default()
    };
    let mut timing = v1::Timing {
        sent_us: event.sent.unwrap_or(0),
        request_end_us: event.sent_whole.unwrap_or(0),
        ..v1::Timing::default()
    };
    if let Some(answer) = &event.answer {
        shown.status = answer.status.into();
        shown.response_headers = fields(&answer.headers, redactor);
        timing.first_byte_us = answer.after;
    }
    if let Some(end) = &event.end {
        timing.end_us = end.after;
        shown.grpc_status = end.grpc_status.map_or(-1, i32::from);
        shown.response_trailers = fields(&end.trailers, redactor);
        shown.request_trailers = fields(&end.request_trailers, redactor);
        shown.request_bytes = end.request_bytes;
        shown.response_bytes = end.response_bytes;
        shown.end = end.how.to_owned();
        shown.reset_code = end.reset.to_owned();
        shown.verdict = end
            .verdict
            .map_or_else(String::new, |verdict| verdict.as_str().to_owned());
        shown.reason = end.reason.to_owned();
        shown.message = end.message.clone();
        shown.failed = end.failed;
    }
    shown.grpc_message = grpc_message(&shown);
    shown.timing = Some(timing);
    shown
}

/// Attempts that were followed by another, of a request that began then.
pub(super) fn passed_over(all: &[PassedOver], started_us: i64) -> Vec<v1::Attempt> {
    let attempt = |one: &PassedOver| v1::Attempt {
        endpoint: one.endpoint.map_or_else(String::new, |address| address.to_string()),
        status: one.status.map_or(0, |status| status.as_u16().into()),
        grpc_status: one.grpc_status.map_or(-1, i32::from),
        reason: one.reason.to_owned(),
        at_us: started_us.saturating_add(one.after.as_micros() as i64) as u64,
    };
    all.iter().map(attempt).collect()
}

fn grpc_message(shown: &v1::TappedRequest) -> String {
    let mut all = shown.response_trailers.iter().chain(&shown.response_headers);
    let message = all.find(|field| field.name == "grpc-message");
    message.map_or_else(String::new, |field| sheer_lens::grpc::metadata::message(&field.value))
}

/// A relayed connection.
fn connection(event: &ConnectionEvent) -> v1::TappedConnection {
    let stream = &event.stream;
    v1::TappedConnection {
        kind: if event.is_end { "end" } else { "open" }.to_owned(),
        id: event.id,
        at_us: event.clock.unix(event.at),
        direction: direction(event.is_outbound),
        protocol: if stream.is_tls { "tls" } else { "tcp" }.to_owned(),
        server_name: stream.server_name.clone(),
        client: Some(leg(&stream.client)),
        upstream: event.upstream.remote.is_some().then(|| leg(&event.upstream)),
        destination: stream.destination.clone(),
        client_identity: stream.identity.as_deref().unwrap_or_default().to_owned(),
        bytes_to_server: event.to_server,
        bytes_to_client: event.to_client,
        duration_us: event.at.saturating_sub(event.started),
        closed_by: if event.is_end { event.closed_by } else { "" }.to_owned(),
        how: if event.is_end { event.how.clone() } else { String::new() },
        verdict: event
            .verdict
            .map_or_else(String::new, |verdict| verdict.as_str().to_owned()),
        reason: event.reason.to_owned(),
        message: event.message.clone(),
        failed: event.is_end && event.failed,
        kept: false,
        connected_us: event.connected,
        first_byte_us: event.first_byte,
    }
}

/// Requests and relayed connections that failed before the tap began, oldest first, as far as they are still recorded.
fn kept(halves: &[RecorderCopy], filter: &Filter, redactor: &Redactor) -> Vec<v1::TapEvent> {
    let failures = halves
        .iter()
        .flat_map(|half| half.failures.iter().map(move |failure| (half, failure)));
    let mut all = Vec::new();
    for (half, failure) in failures {
        match failure.facts.kind {
            FailureKind::Request => {
                let shown = kept_request(half, failure, redactor).filter(|shown| filter.takes_shown(shown));
                all.extend(shown.map(|shown| (shown.at_us, tap_event::Event::Request(Box::new(shown)))));
            }
            FailureKind::Connection => {
                let shown = kept_connection(half, failure).filter(|shown| filter.takes_shown_connection(shown));
                all.extend(shown.map(|shown| (shown.at_us, tap_event::Event::Connection(shown))));
            }
            FailureKind::Disagreement(_) => {}
        }
    }
    all.sort_by_key(|(at, _)| *at);
    all.into_iter().map(|(_, event)| of(event)).collect()
}

/// A relayed connection that failed, as it was kept.
fn kept_connection(half: &RecorderCopy, failure: &FailureCopy) -> Option<v1::TappedConnection> {
    let facts = &failure.facts;
    let (client, upstream) = facts.relay?;
    let recording = |leg: LegId| {
        let kept = failure.recordings.iter().find(|one| one.id == leg.connection);
        kept.or_else(|| half.find(leg.connection))
    };
    let [accepted, opened] = [client, upstream].map(recording);
    let either = || [accepted, opened].into_iter().flatten();
    let server_name = either().find_map(connections::passed_name);
    let alert = either().find_map(|one| one.passed_tls.as_ref()?.alert.as_ref());
    let alerted = alert.map(|(side, _)| *side);
    let began = either().map(|one| one.opened).min().unwrap_or(facts.at);
    let [to_server, to_client] = accepted.map_or([0; 2], |one| one.bytes);
    let text = |address: Option<std::net::SocketAddr>| address.map_or_else(String::new, |address| address.to_string());
    let about = accepted.map(|one| &one.about);
    let leg = |leg| exchanges::leg_with(leg, half, &failure.recordings);
    Some(v1::TappedConnection {
        kind: "end".to_owned(),
        id: client.connection,
        at_us: half.clock.unix(facts.at),
        direction: direction(half.is_outbound),
        protocol: if server_name.is_some() { "tls" } else { "tcp" }.to_owned(),
        server_name: server_name.unwrap_or_default().to_owned(),
        client: leg(client),
        upstream: leg(upstream),
        destination: text(about.and_then(|about| about.original)),
        client_identity: about
            .and_then(|about| about.identity.as_deref())
            .unwrap_or_default()
            .to_owned(),
        bytes_to_server: to_server,
        bytes_to_client: to_client,
        duration_us: facts.at.saturating_sub(began),
        closed_by: match (&*facts.reason, alerted) {
            ("client-reset", _) | ("tls-alert", Some(Side::Client)) => "client",
            ("server-reset", _) | ("tls-alert", Some(Side::Server)) => "server",
            _ => "",
        }
        .to_owned(),
        how: facts.message.clone(),
        verdict: facts
            .verdict
            .map_or_else(String::new, |verdict| verdict.as_str().to_owned()),
        reason: facts.reason.clone().into_owned(),
        message: facts.message.clone(),
        failed: true,
        kept: true,
        connected_us: opened.map_or(0, |one| one.about.took.0.as_micros() as u64),
        first_byte_us: 0,
    })
}

fn kept_request(half: &RecorderCopy, failure: &FailureCopy, redactor: &Redactor) -> Option<v1::TappedRequest> {
    let exchange = failure.facts.exchange.as_ref()?;
    exchanges::view_of(half, exchange, Some(failure), redactor).tapped
}

#[cfg(test)]
mod tests;
