//! One request: who sent it to whom, how it ended and whose fault that was; what was on the wire at the four points and where they differ, as `sheer diff`
//! has it; and by which numbers its frames and its trace are found.

use std::sync::Arc;

use serde::Serialize;
use serde_json::Value;
use sheer_api::v1::{
    Connection, ExchangeView, JoinedRequest, Leg, RequestDiff, Selection, ShownField, WatchDiffRequest,
};

use super::tap::{value, with_namespace};
use super::{Sources, seen};
use crate::problem::{Kind, Problem};
use crate::query::Query;
use crate::wire;

const FORGOTTEN: &str = "The proxies have forgotten what was on the wire: a busy one remembers its last 512 requests, and for longer those that failed and the last 200 that a tap has shown. What follows is what the tap was told.";

#[derive(Debug, Serialize)]
struct Page {
    /// Of the proxy that counted it, with which a link leads here.
    namespace: String,
    id: String,
    /// As the tap has it: who, what, how it ended, the verdict.
    summary: Value,
    /// As `sheer diff` has it; null where no proxy remembers the request.
    diff: Value,
    /// The streams that carried it, by point.
    legs: Vec<Stream>,
    /// Of the trace that it is a part of; empty where no header names one.
    trace: String,
    notes: Vec<String>,
}

/// A stream of a connection at one of the four points.
#[derive(Debug, Serialize)]
struct Stream {
    point: u8,
    /// Whose proxy recorded it.
    pod: String,
    /// The request's number at that proxy.
    request: u64,
    connection: u64,
    stream: u32,
    local: String,
    remote: String,
    protocol: String,
    identity: String,
    tls: String,
}

pub(super) async fn model(sources: &Sources, query: &Query) -> Result<Arc<Value>, Problem> {
    // First of all: it is the control plane that says whether the caller may look.
    let answer = sources.control.diff(question(query)?).await?;
    let notes = answer.notes;
    let page = match answer.requests.into_iter().next() {
        Some(diff) => {
            let mut page = page(&diff, notes);
            // The tap was told all of it, also what a recorder has forgotten since.
            if let Some(told) = sources.seen.lock().await.find(&page.namespace, &page.id) {
                page.summary = told;
            }
            if page.trace.is_empty() {
                query.text("trace").clone_into(&mut page.trace);
            }
            page
        }
        None => return forgotten(sources, query, notes).await,
    };
    let key = key(&page.namespace, &page.id);
    let mut shown = serde_json::to_value(page).map_err(|error| Problem::unshown(&error))?;
    if extent(&shown) == 0 {
        shown["diff"] = Value::Null;
        if let Some(notes) = shown["notes"].as_array_mut() {
            notes.push(FORGOTTEN.into());
        }
    }
    let shown = Arc::new(shown);
    let mut seen = sources.seen.lock().await;
    // A recorder forgets a request bit by bit: what the page has shown of it stays.
    if let Some(before) = seen.find_opened(&key)
        && extent(&before) > extent(&shown)
    {
        return Ok(before);
    }
    seen.opened(&key, Arc::clone(&shown));
    Ok(shown)
}

/// How much of what was on the wire a page shows.
fn extent(page: &Value) -> usize {
    let points = page["diff"]["points"].as_object();
    let fields = |point: &Value| {
        let lists = point.as_object().into_iter().flat_map(|parts| parts.values());
        lists.filter_map(Value::as_array).map(Vec::len).sum::<usize>()
    };
    points.map_or(0, |points| points.values().map(fields).sum())
}

fn key(namespace: &str, id: &str) -> String {
    format!("request {namespace}/{id}")
}

/// Of a request that no proxy remembers: the page as it was when it was opened, or else what the tap was told.
async fn forgotten(sources: &Sources, query: &Query, notes: Vec<String>) -> Result<Arc<Value>, Problem> {
    let (namespace, id) = (query.namespace(), query.text("id"));
    let seen = sources.seen.lock().await;
    if let Some(page) = seen.find_opened(&key(namespace, id)) {
        return Ok(page);
    }
    let Some(summary) = seen.find(namespace, id) else {
        let what = notes.into_iter().next();
        return Err(Problem::new(
            Kind::NotFound,
            what.unwrap_or_else(|| "No such request is recorded.".to_owned()),
            "What goes well is remembered for seconds where a proxy is busy, failures for longer. The live page shows new ones; hold it (`.`) and choose one.",
        ));
    };
    let page = Page {
        namespace: namespace.to_owned(),
        id: id.to_owned(),
        trace: trace_of_summary(&summary),
        summary,
        diff: Value::Null,
        legs: Vec::new(),
        notes: vec![FORGOTTEN.to_owned()],
    };
    serde_json::to_value(page)
        .map(Arc::new)
        .map_err(|error| Problem::unshown(&error))
}

/// By id (`ns`, `id`), or of a workload (`of`): the one that a stream carried (`wire`), that belongs to a trace (`trace`), or the last that failed (`failed`).
fn question(query: &Query) -> Result<WatchDiffRequest, Problem> {
    let id = query.text("id");
    if !id.is_empty() {
        return Ok(WatchDiffRequest {
            of: Some(Selection {
                workload: String::new(),
                namespace: query.namespace().to_owned(),
            }),
            request_id: id.to_owned(),
            ..WatchDiffRequest::default()
        });
    }
    let wire = query.text("wire");
    let carried = (!wire.is_empty()).then(|| leg(wire)).transpose()?;
    Ok(WatchDiffRequest {
        of: Some(query.selection()?),
        // The stream says which; a trace may have been through a workload more than once.
        trace: if carried.is_some() {
            String::new()
        } else {
            query.text("trace").to_owned()
        },
        failed: query.is_on("failed"),
        wire: carried,
        ..WatchDiffRequest::default()
    })
}

/// `10.78.1.2:40000,10.78.1.3:8080,31`: the client's end, the server's, the stream.
fn leg(text: &str) -> Result<Leg, Problem> {
    let wrong = || {
        Problem::parameter(
            "wire",
            text,
            "both ends of a connection and a stream, as 10.78.1.2:40000,10.78.1.3:8080,31",
        )
    };
    let parts: Vec<&str> = text.split(',').collect();
    let [client, server, stream] = parts[..] else {
        return Err(wrong());
    };
    Ok(Leg {
        local: client.to_owned(),
        remote: server.to_owned(),
        stream: stream.parse().map_err(|_| wrong())?,
        ..Leg::default()
    })
}

fn page(diff: &RequestDiff, notes: Vec<String>) -> Page {
    let tapped = |view: &Option<ExchangeView>| view.as_ref().and_then(|view| view.tapped.clone()).map(Box::new);
    let joined = JoinedRequest {
        id: diff.request_id.clone(),
        source: diff.source.clone(),
        destination: diff.destination.clone(),
        outbound: tapped(&diff.outbound),
        inbound: tapped(&diff.inbound),
        ..JoinedRequest::default()
    };
    Page {
        namespace: seen::namespace_of(&diff.request_id, [&diff.source, &diff.destination]),
        id: diff.request_id.clone(),
        summary: with_namespace(value(&wire::tap::request(&joined))),
        diff: wire::diff::request(diff),
        legs: legs(diff),
        trace: trace_of(diff),
        notes,
    }
}

fn legs(diff: &RequestDiff) -> Vec<Stream> {
    let sides = [(1, &diff.source, &diff.outbound), (3, &diff.destination, &diff.inbound)];
    let mut legs = Vec::new();
    for (first, pod, view) in sides {
        let Some(view) = view else { continue };
        let exchange = view.exchange.clone().unwrap_or_default();
        for (point, leg, connection) in [
            (first, exchange.client, &view.client_connection),
            (first + 1, exchange.upstream, &view.upstream_connection),
        ] {
            let Some(leg) = leg else { continue };
            let connection = connection.clone().unwrap_or_default();
            legs.push(Stream {
                point,
                pod: pod.clone(),
                request: exchange.id,
                connection: leg.connection,
                stream: leg.stream,
                local: leg.local,
                remote: leg.remote,
                tls: tls(&connection),
                protocol: connection.protocol,
                identity: connection.identity,
            });
        }
    }
    legs
}

fn tls(connection: &Connection) -> String {
    connection.tls.as_ref().map_or_else(String::new, |tls| {
        format!("{} {} {}", tls.version, tls.cipher, tls.group)
    })
}

/// The trace that the request says it is of: at the points behind the first proxy first, which may have begun it.
fn trace_of(diff: &RequestDiff) -> String {
    let points = wire::diff::points(diff);
    let fields = [1, 2, 3, 0].into_iter().filter_map(|nth| points[nth]);
    let mut found = fields.filter_map(|point| trace_in(point.request.iter().map(field)));
    found.next().unwrap_or_default()
}

fn field(field: &ShownField) -> (String, String) {
    (
        field.name.to_ascii_lowercase(),
        String::from_utf8_lossy(&field.value).into_owned(),
    )
}

fn trace_of_summary(summary: &Value) -> String {
    let fields = summary["headers"]["request"].as_array().into_iter().flatten();
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    trace_in(fields.map(|pair| (text(&pair[0]).to_ascii_lowercase(), text(&pair[1])))).unwrap_or_default()
}

/// W3C's `traceparent` before B3's fields.
fn trace_in(fields: impl Iterator<Item = (String, String)>) -> Option<String> {
    let id = |(name, value): (String, String)| {
        let (rank, id) = match name.as_str() {
            "traceparent" => (0, value.split('-').nth(1)?),
            "b3" => (1, value.split('-').next()?),
            "x-b3-traceid" => (2, value.as_str()),
            _ => return None,
        };
        let is_id = matches!(id.len(), 16 | 32) && id.bytes().all(|byte| byte.is_ascii_hexdigit());
        is_id.then(|| (rank, format!("{:0>32}", id.to_ascii_lowercase())))
    };
    fields.filter_map(id).min().map(|(_, id)| id)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn trace(fields: &[(&str, &str)]) -> Option<String> {
        trace_in(
            fields
                .iter()
                .map(|(name, value)| ((*name).to_owned(), (*value).to_owned())),
        )
    }

    #[test]
    fn a_request_says_of_which_trace_it_is() {
        let w3c = ("traceparent", "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01");
        let b3 = ("b3", "a3ce929d0e0e4736-00f067aa0ba902b7-1");
        let whole = "4bf92f3577b34da6a3ce929d0e0e4736";
        assert_eq!(trace(&[b3, w3c]).as_deref(), Some(whole));
        assert_eq!(trace(&[b3]).as_deref(), Some("0000000000000000a3ce929d0e0e4736"));
        assert_eq!(
            trace(&[("b3", "0"), ("traceparent", "garbage"), ("accept", "*/*")]),
            None
        );
    }

    #[test]
    fn a_stream_is_named_by_both_ends() {
        let leg = leg("10.78.1.2:40000,10.78.1.3:8080,31").unwrap();
        assert_eq!(
            (leg.local.as_str(), leg.remote.as_str(), leg.stream),
            ("10.78.1.2:40000", "10.78.1.3:8080", 31)
        );
        for wrong in ["", "a,b", "a,b,c", "a,b,1,2"] {
            assert!(self::leg(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn of_two_pages_the_fuller_is_known() {
        let page = |request: usize| {
            let fields = vec![serde_json::json!([":path", "/"]); request];
            serde_json::json!({"diff": {"points": {"1": {"protocol": "http/2", "request": fields}, "2": null}}})
        };
        assert_eq!(
            (
                extent(&page(3)),
                extent(&page(0)),
                extent(&serde_json::json!({"diff": null}))
            ),
            (3, 0, 0)
        );
    }
}
