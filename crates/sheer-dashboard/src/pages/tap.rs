//! Requests one by one, as `sheer tap` has them. Each event of the page is what came since the one before: lines, how many are not shown, and what there is to
//! know of the watching itself.

use std::sync::Arc;
use std::time::Duration;

use futures::stream::{self, Stream};
use serde::Serialize;
use serde_json::Value;
use sheer_api::v1::tap_line::Line;
use sheer_api::v1::{HeaderMatch, TapFilter, TapLine, TapRequest, WatchTapRequest};
use tokio::time::{Instant, timeout_at};
use tonic::Streaming;

use super::{Model, Sources, json, seen};
use crate::problem::{Kind, Problem};
use crate::query::Query;
use crate::wire;

/// A browser draws this often, at most: quick enough to be live, few enough to be cheap.
const TOGETHER: Duration = Duration::from_millis(200);
/// Where nothing passes, the page hears this often that it still watches.
const QUIET: Duration = Duration::from_secs(2);
/// Lines of one event.
const MOST: usize = 200;
/// Requests a second, where nothing else is asked for, and at most.
const RATE: u64 = 100;
const HIGHEST_RATE: u64 = 1_000;
/// Time before asking anew, when the stream broke, and when it was refused: each question is in the audit record.
const PAUSE: Duration = Duration::from_secs(2);
const LONG_PAUSE: Duration = Duration::from_secs(15);
/// What a proxy says of itself within this time is of the beginning; later, one has ended, and its successor is not watched yet.
const BEGINNING: Duration = Duration::from_secs(3);

/// What came.
#[derive(Debug, Default, Serialize)]
struct Batch {
    /// Counts from 0 where watching began: what is shown from before is of an earlier stream.
    number: u64,
    /// Requests and connections that are over, in the order in which they came.
    lines: Vec<Value>,
    /// Not shown, as they came faster than they were read, and beyond the rate.
    slow: u64,
    beyond_rate: u64,
    /// Of the rate that holds.
    rate: u32,
    notes: Vec<String>,
}

fn request(query: &Query) -> Result<WatchTapRequest, Problem> {
    let text = |name: &str| query.text(name).trim().to_owned();
    let failed_only = query.is_on("failed");
    let filter = TapFilter {
        method: text("method"),
        path: text("path"),
        authority: text("authority"),
        status: text("status"),
        grpc_code: text("grpc"),
        headers: query.text("header").lines().map(header).collect::<Result<_, _>>()?,
        trace: text("trace"),
        latency_over_us: query.number("over_ms", 0)?.saturating_mul(1_000),
        failed_only,
        ..TapFilter::default()
    };
    Ok(WatchTapRequest {
        of: Some(query.selection()?),
        to: text("to"),
        asked: Some(TapRequest {
            filter: Some(filter),
            rate: rate(query)?,
            kept: failed_only,
            ends: true,
            ..TapRequest::default()
        }),
    })
}

fn rate(query: &Query) -> Result<u32, Problem> {
    let rate = query.number("rate", RATE)?.clamp(1, HIGHEST_RATE);
    Ok(u32::try_from(rate).unwrap_or(u32::MAX))
}

/// `x-tenant=acme`, or a name alone.
fn header(text: &str) -> Result<HeaderMatch, Problem> {
    let (name, value) = text.split_once('=').unwrap_or((text, ""));
    if name.trim().is_empty() {
        return Err(Problem::parameter(
            "header",
            text,
            "a name, or a name and a value as x-tenant=acme",
        ));
    }
    Ok(HeaderMatch {
        name: name.trim().to_owned(),
        value: value.to_owned(),
    })
}

/// What comes first.
pub(super) async fn first(sources: &Sources, query: &Query) -> Model {
    let mut open = Open::new(sources, query).await?;
    json(&open.batch(sources, QUIET).await?)
}

/// Everything that comes. A broken stream is a problem to show, and then opened anew.
pub(super) fn watch(sources: Arc<Sources>, query: Query) -> impl Stream<Item = Model> + Send {
    stream::unfold((sources, query, State::Asking), |(sources, query, state)| async move {
        let (model, state) = state.next(&sources, &query).await;
        Some((model, (sources, query, state)))
    })
}

enum State {
    Asking,
    Open(Box<Open>),
    Broken(Duration),
}

impl State {
    async fn next(self, sources: &Sources, query: &Query) -> (Model, Self) {
        let mut open = match self {
            Self::Open(open) if !open.is_incomplete => open,
            other => {
                if let Self::Broken(pause) = other {
                    tokio::time::sleep(pause).await;
                } else if matches!(other, Self::Open(_)) {
                    tokio::time::sleep(PAUSE).await;
                }
                match Open::new(sources, query).await {
                    // At once, so that the page knows that it watches.
                    Ok(mut open) => return (open.nothing(), Self::Open(Box::new(open))),
                    Err(problem) => {
                        let pause = pause(&problem);
                        return (Err(problem), Self::Broken(pause));
                    }
                }
            }
        };
        match open.batch(sources, QUIET).await {
            Ok(batch) => (json(&batch), Self::Open(open)),
            Err(problem) => {
                let pause = pause(&problem);
                (Err(problem), Self::Broken(pause))
            }
        }
    }
}

fn pause(problem: &Problem) -> Duration {
    match problem.kind {
        Kind::Forbidden | Kind::BadQuestion | Kind::NotFound => LONG_PAUSE,
        _ => PAUSE,
    }
}

/// A stream that is open.
struct Open {
    lines: Streaming<TapLine>,
    since: Instant,
    rate: u32,
    number: u64,
    /// A proxy that was watched has ended: what takes its place is found by asking anew.
    is_incomplete: bool,
}

impl Open {
    async fn new(sources: &Sources, query: &Query) -> Result<Self, Problem> {
        Ok(Self {
            lines: sources.control.tap(request(query)?).await?,
            since: Instant::now(),
            rate: rate(query)?,
            number: 0,
            is_incomplete: false,
        })
    }

    fn empty(&mut self) -> Batch {
        let number = self.number;
        self.number += 1;
        Batch {
            number,
            rate: self.rate,
            ..Batch::default()
        }
    }

    fn nothing(&mut self) -> Model {
        json(&self.empty())
    }

    /// The next lines: those that come together with the first one. Empty where none comes for a while.
    async fn batch(&mut self, sources: &Sources, patience: Duration) -> Result<Batch, Problem> {
        let mut batch = self.empty();
        let mut until = Instant::now() + patience;
        let mut began = false;
        while batch.lines.len() < MOST {
            match timeout_at(until, self.lines.message()).await {
                Err(_) => break,
                Ok(Ok(Some(line))) => {
                    self.take(line, &mut batch);
                    if !std::mem::replace(&mut began, true) {
                        until = Instant::now() + TOGETHER;
                    }
                }
                // What came is shown; the next look finds the same end.
                Ok(_) if began => break,
                Ok(Ok(None)) => {
                    return Err(Problem::new(
                        Kind::ControlAway,
                        "No proxy is watched any more: the pods have ended, or the control plane has.",
                        "This page tries again by itself.",
                    ));
                }
                Ok(Err(status)) => return Err(status.into()),
            }
        }
        let mut seen = sources.seen.lock().await;
        for line in batch.lines.iter().filter(|line| line["kind"] == "end") {
            seen.push(line.clone());
        }
        Ok(batch)
    }

    fn take(&mut self, line: TapLine, batch: &mut Batch) {
        let shown = match line.line {
            Some(Line::Request(request)) => value(&wire::tap::request(&request)),
            Some(Line::Connection(connection)) => value(&wire::tap::connection(&connection)),
            Some(Line::Loss(loss)) => {
                batch.slow += loss.slow;
                batch.beyond_rate += loss.rate;
                return;
            }
            Some(Line::Note(note)) => {
                self.is_incomplete |= self.since.elapsed() > BEGINNING;
                batch.notes.push(note);
                return;
            }
            Some(Line::Body(_)) | None => return,
        };
        if is_over(&shown) {
            batch.lines.push(with_namespace(shown));
        }
    }
}

/// Lines are of what is over; what begins is not shown before.
fn is_over(line: &Value) -> bool {
    line["kind"] == "end" || line["event"] == "end"
}

/// What a page adds to; null where it cannot be told.
pub(super) fn value(line: &impl Serialize) -> Value {
    serde_json::to_value(line).unwrap_or_default()
}

/// With the namespace of the pod that the id names: links need it.
pub(super) fn with_namespace(mut line: Value) -> Value {
    let end = |name: &str| line[name].as_str().unwrap_or_default();
    let namespace = seen::namespace_of(end("id"), [end("source"), end("destination")]);
    line["namespace"] = namespace.into();
    line
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::*;

    fn asked(parameters: &[(&str, &str)]) -> Result<WatchTapRequest, Problem> {
        let parameters = parameters
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        request(&Query::new(parameters.collect::<HashMap<_, _>>()))
    }

    #[test]
    fn what_the_page_filters_by_is_what_proxies_filter_by() {
        let asked = asked(&[
            ("of", "bank/deploy/web"),
            ("to", "svc/ledger"),
            ("method", "POST"),
            ("path", "/pay"),
            ("status", "!2xx"),
            ("grpc", "unavailable"),
            ("header", "x-tenant=acme\nx-debug"),
            ("over_ms", "200"),
            ("failed", "1"),
            ("rate", "7"),
        ])
        .unwrap();
        let of = asked.of.unwrap();
        assert_eq!((of.workload.as_str(), of.namespace.as_str()), ("deploy/web", "bank"));
        let question = asked.asked.unwrap();
        let filter = question.filter.unwrap();
        assert_eq!(asked.to, "svc/ledger");
        assert_eq!((filter.method.as_str(), filter.path.as_str()), ("POST", "/pay"));
        assert_eq!(
            (filter.status.as_str(), filter.grpc_code.as_str()),
            ("!2xx", "unavailable")
        );
        let headers: Vec<_> = filter
            .headers
            .iter()
            .map(|one| (one.name.as_str(), one.value.as_str()))
            .collect();
        assert_eq!(headers, [("x-tenant", "acme"), ("x-debug", "")]);
        assert_eq!((filter.latency_over_us, filter.failed_only), (200_000, true));
        assert_eq!((question.rate, question.kept, question.bodies), (7, true, 0));
    }

    #[test]
    fn a_rate_has_bounds_and_a_namespace_is_enough() {
        let rate = |text| asked(&[("ns", "bank"), ("rate", text)]).unwrap().asked.unwrap().rate;
        assert_eq!([rate(""), rate("0"), rate("999999999")], [100, 1, 1_000]);
        assert_eq!(asked(&[("ns", "bank")]).unwrap().of.unwrap().workload, "ns/bank");
        for wrong in [
            &[][..],
            &[("ns", "bank"), ("over_ms", "soon")],
            &[("ns", "bank"), ("header", "=x")],
        ] {
            assert!(asked(wrong).is_err(), "{wrong:?}");
        }
    }
}
