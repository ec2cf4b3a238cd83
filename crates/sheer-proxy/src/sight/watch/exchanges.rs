//! Requests that are still recorded, as they were on the wire at both sides of this proxy.

use sheer_api::v1;
use sheer_lens::hpack::ListKind;
use tonic::Status;

use super::{
    super::service::Sight,
    Right, allowed,
    connections::{connection, direction, speaks},
    redactor, show,
    tap::passed_over,
};
use crate::{
    exchange::End,
    record::{Exchange, FailureCopy, Form, LegId, Peer, RecorderCopy, RecordingCopy, Shown, Speaks, Wanted},
    redact::Redactor,
    tap::names_trace,
};

/// Why nothing is known of a request whose connection has ended. Both say what is kept, and why the rest is not.
const GONE: &str = "its connection is gone: frames are kept of open ones, of the last that ended, of the last 200 failures and of what a tap has just shown, so that memory stays within its bound";
/// The same of one whose connection goes on.
const OVERWRITTEN: &str = "its connection has said too much since: of each one the last frames are kept, and those of the last 200 failures and of what a tap has just shown";
/// Requests that are looked through for a trace.
const LOOKED_THROUGH: usize = 512;

/// Requests, the latest first.
pub(in crate::sight) async fn exchanges(
    sight: &Sight,
    asked: v1::ExchangesRequest,
) -> Result<v1::ExchangesResponse, Status> {
    let rights = allowed(asked.rights.clone(), Right::Tap)?;
    let redactor = redactor(sight, &rights);
    let limit = (asked.limit as usize).clamp(1, LOOKED_THROUGH);
    let wanted = Wanted {
        id: asked.id,
        failed: asked.failed,
        clients: asked.clients.iter().map(leg_of).collect::<Result<_, _>>()?,
        upstreams: asked.upstreams.iter().map(leg_of).collect::<Result<_, _>>()?,
        limit: if asked.trace.is_empty() { limit } else { LOOKED_THROUGH },
        with_kept: !asked.trace.is_empty(),
        in_short: asked.in_short && asked.trace.is_empty(),
    };
    let halves = sight.workers().exchanges(&wanted).await;
    let mut views: Vec<_> = halves
        .iter()
        .flat_map(|half| half.exchanges.iter().map(move |exchange| (half, exchange)))
        .map(|(half, exchange)| view(half, exchange, &redactor))
        .filter(|view| asked.trace.is_empty() || is_of_trace(view, &asked.trace))
        .collect();
    let started = |view: &v1::ExchangeView| view.exchange.as_ref().map_or(0, |exchange| exchange.started_us);
    views.sort_by_key(|view| std::cmp::Reverse(started(view)));
    views.truncate(limit);
    if wanted.in_short {
        views.iter_mut().for_each(shorten);
    }
    Ok(v1::ExchangesResponse { exchanges: views })
}

/// What is told of it in short says it all once more.
fn shorten(view: &mut v1::ExchangeView) {
    (view.client_connection, view.upstream_connection) = (None, None);
    (view.client, view.upstream) = (None, None);
}

fn leg_of(leg: &v1::Leg) -> Result<(std::net::SocketAddr, std::net::SocketAddr, u32), Status> {
    let wrong = |text: &str| Status::invalid_argument(format!("{text:?} is not an address with a port"));
    let local = leg.local.parse().map_err(|_| wrong(&leg.local))?;
    let remote = leg.remote.parse().map_err(|_| wrong(&leg.remote))?;
    Ok((local, remote, leg.stream))
}

fn view(half: &RecorderCopy, exchange: &Exchange, redactor: &Redactor) -> v1::ExchangeView {
    let failed = half.failures.iter().find(|failure| {
        let of = failure.facts.exchange.as_ref();
        of.is_some_and(|of| of.id == exchange.id)
    });
    view_of(half, exchange, failed, redactor)
}

/// A request with what is recorded of it; `failed` is what was kept, where it failed.
pub(super) fn view_of(
    half: &RecorderCopy,
    exchange: &Exchange,
    failed: Option<&FailureCopy>,
    redactor: &Redactor,
) -> v1::ExchangeView {
    // Where it failed its recording is held, while the connection may have forgotten it.
    let find = |leg: LegId| {
        let held = failed.and_then(|failed| {
            failed
                .recordings
                .iter()
                .find(|recording| recording.id == leg.connection)
        });
        held.or_else(|| half.find(leg.connection))
    };
    let (client, upstream) = (find(exchange.client), find(exchange.upstream));
    let (verdict, reason) = match exchange.end {
        End::Proxy { verdict, reason } => (verdict.as_str(), reason),
        _ => ("", ""),
    };
    let held = failed.map_or(&[][..], |failed| &failed.recordings);
    let shown = self::exchange(half, exchange, held);
    let mut view = v1::ExchangeView {
        exchange: Some(shown),
        client_connection: client.map(|recording| connection(half, recording)),
        upstream_connection: upstream.map(|recording| connection(half, recording)),
        client: Some(point(exchange.client, client, redactor)),
        upstream: Some(point(exchange.upstream, upstream, redactor)),
        verdict: verdict.to_owned(),
        reason: reason.to_owned(),
        failed: exchange.failed,
        status: exchange.status.into(),
        grpc_status: exchange.grpc_status.map_or(-1, i32::from),
        tapped: None,
    };
    let mut tapped = tapped(half, exchange, &view);
    let timing = tapped.timing.get_or_insert_default();
    (timing.sent_us, timing.request_end_us) = upstream.map_or((0, 0), |recording| went_out(recording, exchange));
    view.tapped = Some(tapped);
    view
}

/// A request in short.
pub(super) fn exchange(half: &RecorderCopy, exchange: &Exchange, recordings: &[RecordingCopy]) -> v1::Exchange {
    let leg = |leg| leg_with(leg, half, recordings);
    v1::Exchange {
        id: exchange.id,
        direction: direction(half).to_owned(),
        client: leg(exchange.client),
        upstream: leg(exchange.upstream),
        started_us: half.clock.unix(exchange.started),
        duration_us: exchange.duration,
    }
}

/// A leg with its addresses, where its connection is still known.
pub(super) fn leg_with(leg: LegId, half: &RecorderCopy, recordings: &[RecordingCopy]) -> Option<v1::Leg> {
    leg.is_known().then(|| {
        let mut shown = v1::Leg {
            connection: leg.connection,
            stream: leg.stream,
            ..v1::Leg::default()
        };
        let recording = recordings.iter().find(|recording| recording.id == leg.connection);
        if let Some(recording) = recording.or_else(|| half.find(leg.connection)) {
            addresses(&mut shown, recording);
        }
        shown
    })
}

fn addresses(leg: &mut v1::Leg, recording: &RecordingCopy) {
    let text = |address: Option<std::net::SocketAddr>| address.map_or_else(String::new, |address| address.to_string());
    leg.local = text(recording.about.local);
    leg.remote = text(recording.about.remote);
    leg.original = text(recording.about.original);
    leg.mesh = recording.about.peer == Peer::Mesh;
}

/// What one side of the proxy said and heard.
fn point(leg: LegId, recording: Option<&RecordingCopy>, redactor: &Redactor) -> v1::PointView {
    let missing = |why: &str| v1::PointView {
        missing: why.to_owned(),
        ..v1::PointView::default()
    };
    let Some(recording) = recording else {
        return missing(if leg.is_known() { GONE } else { "it did not get there" });
    };
    if !recording.unrecorded.is_empty() {
        return missing("not recorded, for want of memory");
    }
    let mut point = v1::PointView {
        protocol: speaks(recording.about.speaks).to_owned(),
        ..v1::PointView::default()
    };
    // Of an accepted connection, requests are read and responses written.
    let is_request = |written: bool| written != recording.about.accepted;
    let all = recording.stream(leg.stream);
    for shown in &all {
        if recording.about.speaks == Speaks::Http1 {
            http1(&mut point, shown, is_request(shown.record.written), redactor);
        } else if let Some(block) = shown.block.as_ref().filter(|block| !block.is_promise) {
            let fields = show::fields(&block.fields, redactor);
            match (block.kind, is_request(shown.record.written)) {
                (ListKind::Request, _) => point.request = fields,
                (ListKind::Response, _) => point.response = fields,
                (ListKind::Trailers, true) => point.request_trailers = fields,
                (ListKind::Trailers, false) => point.response_trailers = fields,
                (ListKind::Informational, _) => point.interim.extend(fields),
            }
        }
    }
    if point.request.is_empty() {
        OVERWRITTEN.clone_into(&mut point.missing);
    }
    point
}

/// A head or trailers of HTTP/1; the first line of a head as the pseudo fields that it stands for.
fn http1(point: &mut v1::PointView, shown: &Shown, is_request: bool, redactor: &Redactor) {
    let crate::record::Detail::Head(head) = &shown.detail else {
        return;
    };
    if shown.record.kept < shown.record.length {
        let part = if is_request { "request" } else { "response" };
        point.cut.push(part.to_owned());
    }
    let head = show::http1(head, shown.record.length, redactor);
    let pseudo = |name: &str, value: &str| v1::ShownField {
        name: name.to_owned(),
        value: value.as_bytes().to_vec(),
        ..v1::ShownField::default()
    };
    let mut words = head.line.splitn(3, ' ');
    let (first, second) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
    let last = words.next().unwrap_or_default();
    match shown.record.form {
        Form::RequestHead => {
            let path = v1::ShownField {
                redacted: head.redacted,
                ..pseudo(":path", second)
            };
            point.request = [pseudo(":method", first), path].into();
            point.request.extend(head.fields);
            last.clone_into(&mut point.http1_version);
        }
        Form::ResponseHead => {
            let fields = std::iter::once(pseudo(":status", second)).chain(head.fields);
            if second.starts_with('1') && second != "101" {
                point.interim.extend(fields);
            } else {
                point.response = fields.collect();
                point.reason_phrase = redactor.text(last).into_owned();
            }
        }
        Form::Trailers if is_request => point.request_trailers = head.fields,
        Form::Trailers => point.response_trailers = head.fields,
        Form::Frame => {}
    }
}

/// When the head, and the last of a request, were written to its server, in microseconds since it began; 0 where that is not recorded. The end of a body of
/// HTTP/1 is no record.
fn went_out(recording: &RecordingCopy, exchange: &Exchange) -> (u64, u64) {
    let written = recording.stream(exchange.upstream.stream).into_iter();
    let written: Vec<_> = written.filter(|shown| shown.record.written).collect();
    let after = |shown: Option<&Shown>| shown.map_or(0, |shown| shown.at.saturating_sub(exchange.started).max(1));
    let is_head = |shown: &&Shown| match &shown.block {
        Some(block) => block.kind == ListKind::Request,
        None => shown.record.form == Form::RequestHead,
    };
    let is_end = |shown: &&Shown| shown.record.form == Form::Frame && shown.record.ends_stream();
    (after(written.iter().find(is_head)), after(written.iter().find(is_end)))
}

/// A request that is over, as the tap shows it.
fn tapped(half: &RecorderCopy, exchange: &Exchange, view: &v1::ExchangeView) -> v1::TappedRequest {
    let (client, upstream) = (view.client_connection.as_ref(), view.upstream_connection.as_ref());
    let point = view.client.clone().unwrap_or_default();
    let value = |name: &str| {
        let field = point.request.iter().find(|field| field.name.eq_ignore_ascii_case(name));
        field.map_or_else(String::new, |field| String::from_utf8_lossy(&field.value).into_owned())
    };
    let (of_target, path) = target((&value(":method"), &value(":path")), &point.protocol);
    let authority = [value(":authority"), of_target, value("host")];
    let authority = authority.into_iter().find(|authority| !authority.is_empty());
    let (end, reset) = match exchange.end {
        End::Complete => ("complete", ""),
        End::ClientReset(code) => ("client-reset", code.as_str()),
        End::ServerReset(code) => ("server-reset", code.as_str()),
        End::Proxy { .. } => ("proxy", ""),
        End::Dropped => ("dropped", ""),
    };
    let mut shown = v1::TappedRequest {
        kind: "end".to_owned(),
        exchange: view.exchange.clone(),
        at_us: half.clock.unix(exchange.started + exchange.duration),
        request: Some(v1::RequestHead {
            method: value(":method"),
            authority: authority.unwrap_or_default(),
            path,
            headers: plain(&point.request),
        }),
        protocol: point.protocol.clone(),
        status: exchange.status.into(),
        response_headers: plain(&point.response),
        response_trailers: plain(&point.response_trailers),
        request_trailers: plain(&point.request_trailers),
        grpc_status: exchange.grpc_status.map_or(-1, i32::from),
        timing: Some(v1::Timing {
            first_byte_us: exchange.first_byte.unwrap_or(0),
            end_us: exchange.duration,
            ..v1::Timing::default()
        }),
        request_bytes: exchange.request_bytes,
        response_bytes: exchange.response_bytes,
        end: end.to_owned(),
        reset_code: reset.to_owned(),
        verdict: view.verdict.clone(),
        reason: view.reason.clone(),
        failed: exchange.failed,
        destination: client.map_or_else(String::new, |client| {
            if client.name.is_empty() {
                client.original.clone()
            } else {
                client.name.clone()
            }
        }),
        endpoint: upstream.map_or_else(String::new, |upstream| upstream.remote.clone()),
        attempts: exchange.attempts,
        passed_over: passed_over(&exchange.passed_over, half.clock.unix(exchange.started)),
        client_identity: client.map_or_else(String::new, |client| client.identity.clone()),
        client_address: client.map_or_else(String::new, |client| client.remote.clone()),
        mutual_tls: client.is_some_and(|client| client.tls.is_some()),
        kept: true,
        ..v1::TappedRequest::default()
    };
    let said = |name: &str| {
        let mut all = shown.response_trailers.iter().chain(&shown.response_headers);
        let field = all.find(|field| field.name == name);
        field.map_or_else(String::new, |field| String::from_utf8_lossy(&field.value).into_owned())
    };
    let grpc_message = sheer_lens::grpc::metadata::message(said("grpc-message").as_bytes());
    (shown.grpc_message, shown.message) = (grpc_message, said("l5d-proxy-error"));
    shown
}

/// Authority and path of what stands where a path does; in HTTP/1 that may be a whole URI, and of CONNECT it is an authority (RFC 9112, 3.2).
fn target((method, target): (&str, &str), protocol: &str) -> (String, String) {
    if protocol != "http/1" || target.starts_with('/') {
        return (String::new(), target.to_owned());
    }
    if method == "CONNECT" {
        return (target.to_owned(), String::new());
    }
    let Some((_, rest)) = target.split_once("://") else {
        return (String::new(), target.to_owned());
    };
    let (authority, path) = rest.split_at(rest.find(['/', '?']).unwrap_or(rest.len()));
    (authority.to_owned(), path.to_owned())
}

/// Fields without those that stand for the first line.
fn plain(fields: &[v1::ShownField]) -> Vec<v1::HeaderField> {
    let regular = fields.iter().filter(|field| !field.name.starts_with(':'));
    let field = |field: &v1::ShownField| v1::HeaderField {
        name: field.name.clone(),
        value: field.value.clone(),
    };
    regular.map(field).collect()
}

/// By what was said on either side: a trace that began here is named only where the request went out.
fn is_of_trace(view: &v1::ExchangeView, trace: &str) -> bool {
    let points = [&view.client, &view.upstream].into_iter().flatten();
    let mut fields = points.flat_map(|point| &point.request);
    fields.any(|field| names_trace(&field.name, &field.value, trace))
}

/// Disagreements in the words of the protocol.
pub(super) mod words {
    use std::collections::BTreeMap;

    use sheer_api::v1;

    use crate::{
        record::{Difference, List},
        redact::Redactor,
        sight::watch::show,
    };

    pub(in crate::sight::watch) fn disagreement(difference: &Difference, redactor: &Redactor) -> v1::Disagreement {
        let list = |list: Option<&List>| list.map_or_else(Vec::new, |list| fields(list, redactor));
        v1::Disagreement {
            side: if difference.written { "written" } else { "read" }.to_owned(),
            kind: show::kind(difference.kind).to_owned(),
            wire: list(difference.wire.as_ref()),
            library: list(difference.library.as_ref()),
            differs: differs(difference),
        }
    }

    fn fields(list: &List, redactor: &Redactor) -> Vec<v1::HeaderField> {
        let field = |(name, value): &(Vec<u8>, Vec<u8>)| v1::HeaderField {
            name: String::from_utf8_lossy(name).into_owned(),
            value: redactor.value(name, value).0.into_owned(),
        };
        list.iter().map(field).collect()
    }

    /// Names whose values, in their order, are not the same on both sides.
    fn differs(difference: &Difference) -> Vec<String> {
        let (Some(wire), Some(library)) = (&difference.wire, &difference.library) else {
            return Vec::new();
        };
        let mut names: BTreeMap<&[u8], [Vec<&[u8]>; 2]> = BTreeMap::new();
        for (side, list) in [wire, library].into_iter().enumerate() {
            for (name, value) in list {
                names.entry(name).or_default()[side].push(value);
            }
        }
        let differ = names.into_iter().filter(|(_, [wire, library])| wire != library);
        differ
            .map(|(name, _)| String::from_utf8_lossy(name).into_owned())
            .collect()
    }
}
