//! Requests as they pass, the views of both proxies joined.
//!
//! The proxies of the workload are tapped. What the other side of each request saw is fetched from its proxy's recorder when the request is over, so that no
//! other proxy is disturbed by requests that nobody looks at.

mod to;

use std::{collections::HashSet, net::IpAddr, sync::Arc};

use futures::{
    FutureExt as _,
    future::{BoxFuture, Either, Ready, join_all, ready},
    stream::{self, BoxStream, StreamExt as _},
};
use sheer_api::{
    names as wire_names,
    v1::{self, tap_event::Event, tap_line::Line},
};
use tonic::Status;

use self::to::To;
use super::{
    Asked, Sight, is_hidden, judge::Judge, looked, name, names, peers::Peers, reflect, refused, rights, select,
    together::Together, until_revoked,
};
use crate::{
    objects::Pod,
    sight::{
        asker::{Asker, Right},
        connect::Proxy,
        dump,
    },
    store::Snapshot,
};

/// Requests whose other half is being fetched.
const FETCHED_AT_ONCE: usize = 256;

/// Lines as they come.
pub(in crate::sight) async fn tap(
    sight: &Sight,
    asked: v1::WatchTapRequest,
    asker: &Asker,
) -> Result<BoxStream<'static, Result<v1::TapLine, Status>>, Status> {
    let snapshot = sight.snapshot();
    let mut question = asked.asked.unwrap_or_default();
    let of = asked.of.clone().unwrap_or_default();
    let namespace = of.namespace.clone();
    let pods = select(sight, &snapshot, asked.of, (asker, Right::Tap, "tap"))?;
    let own = pods
        .first()
        .map_or(namespace, |asked| asked.pod.metadata.namespace.clone());
    let to = to::read(&sight.config, &snapshot, &asked.to, &own)?;
    let mut filter = question.filter.clone().unwrap_or_default();
    filter.to.clone_from(&to.words);
    if !to.words.is_empty() {
        "outbound".clone_into(&mut filter.direction);
    }
    let peers = Peers::new(sight, asker);
    if question.bodies > 0 {
        let named = (of.workload.as_str(), of.namespace.as_str());
        for one in &pods {
            let may = asker.must(&snapshot, &one.pod, Right::Bodies);
            may.inspect_err(|why| refused(("tap", "bodies"), asker, named, why))?;
        }
        looked(("tap", "bodies"), asker, named);
        let own = reflect::descriptors(sight, &snapshot, (&pods, &to.behind), asker).await;
        question.descriptors.extend(own);
    }
    let together = Together::of(pods.len(), question.rate);
    let losses = stream::iter(together.as_ref().map(Together::losses)).flatten();
    let proxies = join_all(pods.into_iter().map(|asked| connect(sight, asked))).await;
    // Of one that cannot be asked the others tell what came from it.
    let asked = proxies.iter().filter(|(_, proxy)| proxy.is_ok());
    let tapped: HashSet<IpAddr> = asked.flat_map(|(pod, _)| pod.addresses()).collect();
    filter.not_from = tapped.iter().map(ToString::to_string).collect();
    filter.endpoints = to.pods.iter().flatten().map(ToString::to_string).collect();
    let question = v1::TapRequest {
        rights: Some(rights(sight, &snapshot, asker)),
        filter: Some(filter),
        ..question
    };
    let opened = proxies.into_iter().map(|(pod, proxy)| {
        let question = question.clone();
        async move {
            match proxy {
                Ok(mut proxy) => (pod, proxy.tap(question).await),
                Err(why) => (pod, Err(why)),
            }
        }
    });
    let opened = join_all(opened).await;
    if let Some(why) = refused_by_all(&opened, &tapped) {
        return Err(Status::invalid_argument(why));
    }
    let streams = opened.into_iter().map(|(pod, events)| {
        let joiner = Joiner {
            peers: Arc::clone(&peers),
            own: name(&pod),
            workload: dump::workload(&snapshot, &pod),
            pod,
            tapped: tapped.clone(),
            to: to.clone(),
        };
        match events {
            Ok(events) => one(Arc::new(joiner), Judge::new(together.clone()), events),
            Err(why) => stream::once(ready(Ok(v1::TapLine {
                line: Some(note(&joiner.own, &why)),
            })))
            .boxed(),
        }
    });
    let losses = losses.map(|loss| {
        Ok(v1::TapLine {
            line: Some(Line::Loss(loss)),
        })
    });
    let lines = stream::select_all(streams.chain([losses.boxed()]));
    Ok(until_revoked(asker, lines.boxed()))
}

/// What every proxy says that was asked: a filter that none of them understands is wrong.
fn refused_by_all<T>(opened: &[(Arc<Pod>, Result<T, String>)], asked: &HashSet<IpAddr>) -> Option<String> {
    let is_asked = |pod: &Pod| pod.addresses().iter().any(|ip| asked.contains(ip));
    let mut answers = opened
        .iter()
        .filter(|(pod, _)| is_asked(pod))
        .map(|(_, answer)| answer.as_ref().err());
    let first = answers.next()??;
    answers.all(|other| other == Some(first)).then(|| first.clone())
}

/// The proxy of a pod; the error says why it cannot be asked.
async fn connect(sight: &Sight, Asked { pod, why_not }: Asked) -> (Arc<Pod>, Result<Proxy, String>) {
    let proxy = match why_not {
        Some(why) => Err(why),
        None => sight.proxies.connect(&sight.config, &pod).await,
    };
    (pod, proxy)
}

/// Makes lines of the events of one proxy.
struct Joiner {
    peers: Arc<Peers>,
    pod: Arc<Pod>,
    own: String,
    workload: String,
    /// Addresses of all pods that are tapped: what one of them sends to another is shown once.
    tapped: HashSet<IpAddr>,
    to: To,
}

fn note(pod: &str, why: &str) -> Line {
    Line::Note(format!("{pod}: {why}"))
}

fn one(
    joiner: Arc<Joiner>,
    mut judge: Judge,
    events: tonic::Streaming<v1::TapEvent>,
) -> BoxStream<'static, Result<v1::TapLine, Status>> {
    let judging = Arc::clone(&joiner);
    let judged = events.flat_map(move |event| {
        let shown: Vec<_> = match event {
            Ok(event) => judging.judged(&mut judge, event).into_iter().map(Ok).collect(),
            Err(status) => vec![Err(status)],
        };
        stream::iter(shown)
    });
    let lines = judged
        .map(move |event| match event {
            Ok(event) => joiner.line(event),
            Err(status) => Either::Left(ready(Some(note(&joiner.own, status.message())))),
        })
        .buffered(FETCHED_AT_ONCE);
    let told = lines.filter_map(|line| ready(line.map(|line| Ok(v1::TapLine { line: Some(line) }))));
    told.boxed()
}

/// The address that a request came from.
fn client_of(request: &v1::TappedRequest) -> &str {
    let client = request.exchange.as_ref().and_then(|exchange| exchange.client.as_ref());
    client.map_or(&request.client_address, |leg| &leg.remote)
}

/// What the other proxy recorded of a request that passes now: not one from before. It is asked in short, how it went; what was on the wire between the
/// two, which both saw, is filled in from what this one saw.
fn other_half(view: v1::ExchangeView, own: &v1::TappedRequest) -> Option<v1::TappedRequest> {
    let mut half = view.tapped?;
    half.kept = false;
    if half.request.as_ref().is_none_or(|head| head.method.is_empty()) {
        half.request.clone_from(&own.request);
        half.request_trailers.clone_from(&own.request_trailers);
        half.response_headers.clone_from(&own.response_headers);
        half.response_trailers.clone_from(&own.response_trailers);
        half.grpc_message.clone_from(&own.grpc_message);
        half.message.clone_from(&own.message);
    }
    if half.protocol.is_empty() {
        half.protocol.clone_from(&own.protocol);
    }
    Some(half)
}

/// The other proxy cannot be asked: where it made the answer up, that says by itself whose fault it is.
fn take_named(request: &mut v1::TappedRequest) {
    let exchange = request.exchange.as_ref();
    let is_of_mesh = exchange
        .and_then(|exchange| exchange.upstream.as_ref())
        .is_some_and(|leg| leg.mesh);
    if !is_of_mesh || !request.reason.is_empty() {
        return;
    }
    let said = |name: &str| {
        let mut all = request.response_headers.iter().chain(&request.response_trailers);
        let field = all.find(|field| field.name.eq_ignore_ascii_case(name));
        field.map_or_else(String::new, |field| String::from_utf8_lossy(&field.value).into_owned())
    };
    (request.verdict, request.reason) = (said(wire_names::VERDICT), said(wire_names::REASON));
}

/// What another proxy recorded of a relayed connection: `is_outbound` is that proxy's side.
fn other_end(connection: v1::Connection, own: &v1::TappedConnection, is_outbound: bool) -> v1::TappedConnection {
    let leg = v1::Leg {
        connection: connection.id,
        local: connection.local,
        remote: connection.remote,
        original: connection.original,
        ..v1::Leg::default()
    };
    let (to_server, to_client, peer) = if is_outbound {
        (connection.bytes_written, connection.bytes_read, "server")
    } else {
        (connection.bytes_read, connection.bytes_written, "client")
    };
    let ending = connection.ending.unwrap_or_default();
    v1::TappedConnection {
        kind: own.kind.clone(),
        id: connection.id,
        at_us: if ending.at_us > 0 { ending.at_us } else { own.at_us },
        direction: connection.direction,
        protocol: own.protocol.clone(),
        server_name: own.server_name.clone(),
        client: (!is_outbound).then(|| leg.clone()),
        upstream: is_outbound.then_some(leg),
        destination: connection.name,
        client_identity: if is_outbound {
            String::new()
        } else {
            connection.identity
        },
        bytes_to_server: to_server,
        bytes_to_client: to_client,
        duration_us: connection.age_ms.saturating_mul(1_000),
        closed_by: if ending.by == "peer" {
            peer.to_owned()
        } else {
            ending.by
        },
        how: ending.how,
        failed: own.failed,
        connected_us: if is_outbound { connection.connect_us } else { 0 },
        ..v1::TappedConnection::default()
    }
}

impl Joiner {
    /// The part of what comes that may be shown.
    fn judged(&self, judge: &mut Judge, event: v1::TapEvent) -> Vec<v1::TapEvent> {
        let snapshot = self.peers.snapshot();
        if is_hidden(&snapshot, &self.pod) || self.is_told_by_the_client(&event) {
            return Vec::new();
        }
        judge.take(&self.peers.hidden(&snapshot), event)
    }

    /// Whether it came from another pod that is tapped: that one tells of it, and this one is asked.
    fn is_told_by_the_client(&self, event: &v1::TapEvent) -> bool {
        match &event.event {
            Some(Event::Request(request)) => request.mutual_tls && names::is_one_of(&self.tapped, client_of(request)),
            Some(Event::Connection(connection)) if connection.direction != "outbound" => {
                let client = connection.client.as_ref();
                let is_tapped = client.is_some_and(|leg| names::is_one_of(&self.tapped, &leg.remote));
                is_tapped && !connection.client_identity.is_empty()
            }
            _ => false,
        }
    }

    /// What an event says; what the other proxy is to be asked for first comes later.
    fn line(self: &Arc<Self>, event: v1::TapEvent) -> Either<Ready<Option<Line>>, BoxFuture<'static, Option<Line>>> {
        let at_once = match event.event {
            None => None,
            Some(Event::Request(request)) if self.is_asked_for(&request) => {
                let joiner = Arc::clone(self);
                return Either::Right(async move { joiner.whole(request).await.map(Line::Request) }.boxed());
            }
            Some(Event::Request(request)) => self.request(&self.peers.snapshot(), request).map(Line::Request),
            Some(Event::Connection(connection)) => {
                let joiner = Arc::clone(self);
                return Either::Right(async move { joiner.connection(connection).await.map(Line::Connection) }.boxed());
            }
            Some(Event::Body(body)) => Some(Line::Body(v1::JoinedBody {
                id: format!("{}/{}", self.pod.metadata.name, body.id),
                body: Some(body),
            })),
            Some(Event::Loss(loss)) => Some(Line::Loss(loss)),
            Some(Event::Note(why)) => Some(note(&self.own, &why)),
        };
        Either::Left(ready(at_once))
    }

    /// Whether another proxy saw it too, and can say how it ended there.
    fn is_asked_for(&self, request: &v1::TappedRequest) -> bool {
        let exchange = request.exchange.as_ref();
        request.kind == "end"
            && exchange.is_some_and(|exchange| {
                if exchange.direction == "outbound" {
                    exchange.upstream.is_some()
                } else {
                    exchange.client.is_some() && request.mutual_tls
                }
            })
    }

    /// A request that is over, as both proxies saw it.
    async fn whole(&self, request: Box<v1::TappedRequest>) -> Option<Box<v1::JoinedRequest>> {
        let mut joined = self.request(&self.peers.snapshot(), request)?;
        let v1::JoinedRequest { outbound, inbound, .. } = &mut *joined;
        if let Some(request) = outbound {
            let upstream = request
                .exchange
                .as_ref()
                .and_then(|exchange| exchange.upstream.as_ref())?;
            let view = self.peers.inbound_of(upstream, true).await.ok();
            *inbound = view.and_then(|view| other_half(view, request)).map(Box::new);
            if inbound.is_none() {
                take_named(request);
            }
        } else if let Some(request) = inbound {
            let client = request
                .exchange
                .as_ref()
                .and_then(|exchange| exchange.client.as_ref())?;
            let view = self.peers.outbound_of(client, true).await.ok();
            *outbound = view.and_then(|view| other_half(view, request)).map(Box::new);
        }
        Some(joined)
    }

    /// A request as the proxy that is tapped sees it. None where nobody may look at it, or it went elsewhere.
    fn request(&self, snapshot: &Snapshot, request: Box<v1::TappedRequest>) -> Option<Box<v1::JoinedRequest>> {
        let exchange = request.exchange.as_ref();
        let mut joined = Box::new(v1::JoinedRequest {
            id: format!(
                "{}/{}",
                self.pod.metadata.name,
                exchange.map_or(0, |exchange| exchange.id)
            ),
            ..v1::JoinedRequest::default()
        });
        if exchange.is_some_and(|exchange| exchange.direction == "outbound") {
            (joined.source, joined.source_workload) = (self.own.clone(), self.workload.clone());
            let upstream = exchange.and_then(|exchange| exchange.upstream.as_ref());
            let endpoint = upstream.map_or(&request.endpoint, |leg| &leg.remote);
            (joined.destination, joined.destination_workload) = self.place(snapshot, endpoint, &request.destination)?;
            if request.untold_request {
                joined.called = self.called(&request.destination);
            }
            let is_of = |pods| names::is_one_of(pods, endpoint);
            if request.kind == "end" && !self.to.pods.as_ref().is_none_or(is_of) {
                return None;
            }
            joined.outbound = Some(request);
        } else {
            let address = client_of(&request);
            (joined.source, joined.source_workload) = self.place(snapshot, address, address)?;
            (joined.destination, joined.destination_workload) = (self.own.clone(), self.workload.clone());
            joined.inbound = Some(request);
        }
        Some(joined)
    }

    async fn connection(&self, connection: v1::TappedConnection) -> Option<v1::JoinedConnection> {
        let snapshot = &*self.peers.snapshot();
        let is_end = connection.kind == "end";
        let mut joined = v1::JoinedConnection {
            id: format!("{}/{}", self.pod.metadata.name, connection.id),
            ..v1::JoinedConnection::default()
        };
        let remote = |leg: &Option<v1::Leg>| leg.as_ref().map_or_else(String::new, |leg| leg.remote.clone());
        if connection.direction == "outbound" {
            let endpoint = remote(&connection.upstream);
            (joined.source, joined.source_workload) = (self.own.clone(), self.workload.clone());
            (joined.destination, joined.destination_workload) =
                self.place(snapshot, &endpoint, &connection.destination)?;
            if let Some(leg) = connection.upstream.as_ref().filter(|_| is_end) {
                let other = self.peers.connection_of((&leg.local, &leg.remote)).await.ok();
                joined.inbound = other.map(|other| other_end(other, &connection, false));
            }
            joined.outbound = Some(connection);
        } else {
            let client = remote(&connection.client);
            (joined.source, joined.source_workload) = self.place(snapshot, &client, &client)?;
            (joined.destination, joined.destination_workload) = (self.own.clone(), self.workload.clone());
            let leg = connection.client.as_ref();
            if let Some(leg) = leg.filter(|_| is_end && !connection.client_identity.is_empty()) {
                // The other side connected to the application's port, or to the proxy's own.
                let mut other = self.peers.connection_of((&leg.original, &leg.remote)).await;
                if other.is_err() {
                    other = self.peers.connection_of((&leg.local, &leg.remote)).await;
                }
                joined.outbound = other.ok().map(|other| other_end(other, &connection, true));
            }
            joined.inbound = Some(connection);
        }
        Some(joined)
    }

    /// Who is at an address; by what it is called where that is no pod. None where nobody may look at it.
    fn place(&self, snapshot: &Snapshot, address: &str, called: &str) -> Option<(String, String)> {
        if self.peers.hidden(snapshot).is_at(address) {
            return None;
        }
        let (pod, workload) = names::pod_at(snapshot, address);
        if !pod.is_empty() {
            return Some((pod, workload));
        }
        let called = self.called(called);
        Some((
            if called.is_empty() { address.to_owned() } else { called },
            String::new(),
        ))
    }

    /// The name of a service without what all of them have.
    fn called(&self, name: &str) -> String {
        name.replace(&format!(".svc.{}", self.peers.domain()), "")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn field(name: &str) -> v1::HeaderField {
        v1::HeaderField {
            name: name.to_owned(),
            value: b"x".to_vec(),
        }
    }

    /// The other proxy is asked in short: what was between the two this one saw.
    #[test]
    fn the_other_half_has_the_head_that_both_saw() {
        let own = v1::TappedRequest {
            request: Some(v1::RequestHead {
                method: "GET".to_owned(),
                path: "/x".to_owned(),
                ..v1::RequestHead::default()
            }),
            protocol: "http/2".to_owned(),
            response_headers: vec![field("a")],
            response_trailers: vec![field("b")],
            request_trailers: vec![field("c")],
            status: 200,
            ..v1::TappedRequest::default()
        };
        let short = v1::TappedRequest {
            request: Some(v1::RequestHead::default()),
            status: 503,
            kept: true,
            ..v1::TappedRequest::default()
        };
        let view = |tapped| v1::ExchangeView {
            tapped: Some(tapped),
            ..v1::ExchangeView::default()
        };
        let half = other_half(view(short), &own).expect("a view");
        assert_eq!(
            (half.request.as_ref(), half.status, half.kept),
            (own.request.as_ref(), 503, false),
            "how it went is its own"
        );
        assert_eq!(
            (
                half.response_headers.len(),
                half.response_trailers.len(),
                half.request_trailers.len()
            ),
            (1, 1, 1)
        );
        assert_eq!(half.protocol, "http/2");
        // What the other one saw itself stands.
        let whole = v1::TappedRequest {
            request: Some(v1::RequestHead {
                method: "POST".to_owned(),
                ..v1::RequestHead::default()
            }),
            ..v1::TappedRequest::default()
        };
        let half = other_half(view(whole), &own).expect("a view");
        assert_eq!(half.request.map(|head| head.method).as_deref(), Some("POST"));
    }

    #[test]
    fn the_other_end_of_a_relayed_connection_counts_from_its_side() {
        let connection = v1::Connection {
            bytes_read: 3,
            bytes_written: 7,
            connect_us: 9,
            ending: Some(v1::Ending {
                by: "peer".to_owned(),
                ..v1::Ending::default()
            }),
            ..v1::Connection::default()
        };
        let own = v1::TappedConnection {
            server_name: "ledger".to_owned(),
            ..v1::TappedConnection::default()
        };
        let inbound = other_end(connection.clone(), &own, false);
        assert_eq!(
            (inbound.bytes_to_server, inbound.bytes_to_client, &*inbound.closed_by),
            (3, 7, "client")
        );
        assert!(inbound.client.is_some() && inbound.upstream.is_none() && inbound.server_name == "ledger");
        let outbound = other_end(connection, &own, true);
        assert_eq!(
            (outbound.bytes_to_server, outbound.bytes_to_client, &*outbound.closed_by),
            (7, 3, "server")
        );
        assert_eq!((outbound.connected_us, outbound.upstream.is_some()), (9, true));
    }
}
