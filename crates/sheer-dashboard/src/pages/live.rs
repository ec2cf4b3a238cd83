//! What goes through now, by path. Proxies look at paths only while somebody asks, so one stream is held for as long as the page is open.

use std::sync::Arc;
use std::time::Duration;

use futures::stream::{self, Stream};
use serde::Serialize;
use sheer_api::v1::selector::Kind;
use sheer_api::v1::series_key::Direction;
use sheer_api::v1::{PathStat, Selector, TopRequest, TopResponse, Window};
use tokio::time::Instant;
use tonic::Streaming;

use super::{Model, Sources, Span, json};
use crate::numbers::{self, Ending, Numbers};
use crate::problem::{Kind as ProblemKind, Problem};
use crate::query::Query;
use crate::resource::Id;

/// What an answer is about where nothing else is asked for: long enough for slow paths to show.
const WINDOW_MS: u64 = 30_000;
/// What the control plane gives at most.
const LONGEST_MS: u64 = 60_000;
/// Time before asking anew, when the stream broke.
const PAUSE: Duration = Duration::from_secs(2);
/// Nobody reads more lines than this; the busiest are kept.
const MOST: usize = 500;

#[derive(Debug, Serialize)]
struct Live {
    window: Span,
    /// What rates are of: the window, as far as somebody has looked for so long.
    known_ms: u64,
    /// Proxies that tell of paths.
    proxies: u32,
    /// The busiest first.
    paths: Vec<Path>,
    /// Lines beyond those that are shown.
    left_out: usize,
}

#[derive(Debug, Serialize)]
struct Path {
    source: Id,
    destination: Id,
    /// As "bank/ledger"; may be empty.
    service: String,
    method: String,
    path: String,
    numbers: Numbers,
    endings: Vec<Ending>,
    /// "out" for what the client's proxy says, "in" for what the server's does.
    seen_by: &'static str,
    requests: Vec<u64>,
    failures: Vec<u64>,
}

fn request(query: &Query) -> Result<TopRequest, Problem> {
    let window_ms = match query.text("window") {
        "" => WINDOW_MS,
        _ => query.window_ms()?.min(LONGEST_MS),
    };
    let what = match query.text("of") {
        "" => query
            .every(Kind::Workload)
            .filter(|what: &Selector| !what.namespace.is_empty()),
        _ => query.workload()?.selector(),
    };
    Ok(TopRequest {
        what,
        window_ms,
        interval_ms: 1_000,
        ..TopRequest::default()
    })
}

/// The first answer.
pub(super) async fn first(sources: &Sources, query: &Query) -> Model {
    let mut stream = sources.control.top(request(query)?).await?;
    match stream.message().await? {
        Some(answer) => json(&model(answer, Duration::ZERO)),
        None => Err(ended()),
    }
}

fn ended() -> Problem {
    Problem::new(
        ProblemKind::ControlAway,
        "The control plane has ended the stream.",
        "It may be starting anew. This page tries again by itself.",
    )
}

/// Every answer. A broken stream is a problem to show, and then opened anew.
pub(super) fn watch(sources: Arc<Sources>, query: Query) -> impl Stream<Item = Model> + Send {
    stream::unfold((sources, query, State::Asking), |(sources, query, state)| async move {
        let (model, state) = state.next(&sources, &query).await;
        Some((model, (sources, query, state)))
    })
}

enum State {
    Asking,
    /// Since when.
    Open(Box<Streaming<TopResponse>>, Instant),
    Broken,
}

impl State {
    async fn next(mut self, sources: &Sources, query: &Query) -> (Model, Self) {
        if matches!(self, Self::Broken) {
            tokio::time::sleep(PAUSE).await;
        }
        if !matches!(self, Self::Open(..)) {
            let opened = match request(query) {
                Ok(request) => sources.control.top(request).await,
                Err(problem) => Err(problem),
            };
            match opened {
                Ok(stream) => self = Self::Open(Box::new(stream), Instant::now()),
                Err(problem) => return (Err(problem), Self::Broken),
            }
        }
        let Self::Open(mut stream, since) = self else {
            return (Err(ended()), Self::Broken);
        };
        match stream.message().await {
            Ok(Some(answer)) => (json(&model(answer, since.elapsed())), Self::Open(stream, since)),
            Ok(None) => (Err(ended()), Self::Broken),
            Err(status) => (Err(status.into()), Self::Broken),
        }
    }
}

fn model(answer: TopResponse, looked: Duration) -> Live {
    let mut paths = answer.paths;
    let span_ms = known_ms(&paths, answer.window, looked);
    for traffic in paths.iter_mut().filter_map(|path| path.traffic.as_mut()) {
        traffic.span_ms = span_ms;
    }
    paths.sort_by_key(|path| std::cmp::Reverse(path.traffic.as_ref().map_or(0, |traffic| traffic.requests)));
    let left_out = paths.len().saturating_sub(MOST);
    paths.truncate(MOST);
    Live {
        window: Span::of(answer.window),
        known_ms: span_ms,
        proxies: answer.proxies,
        paths: paths.into_iter().map(path).collect(),
        left_out,
    }
}

/// Proxies tell of paths from when somebody looks: this stream, or another since the first second in which there is something. Rates over the whole window would
/// be too small until then.
fn known_ms(paths: &[PathStat], window: Option<Window>, looked: Duration) -> u64 {
    let window = window.unwrap_or_default();
    let whole = u64::try_from(window.to_ms - window.from_ms).unwrap_or(0).max(1_000);
    let seconds = |path: &PathStat| {
        let busy = path.requests_by_second.iter().position(|requests| *requests > 0);
        busy.map_or(0, |first| path.requests_by_second.len() - first)
    };
    let told = paths.iter().map(seconds).max().unwrap_or(0) as u64 * 1_000;
    told.max(looked.as_millis() as u64).clamp(1_000, whole)
}

fn path(stat: PathStat) -> Path {
    let service = stat.service.as_ref().filter(|service| !service.name.is_empty());
    Path {
        source: Id::of(stat.source.as_ref()),
        destination: Id::of(stat.destination.as_ref()),
        service: service
            .map(|service| format!("{}/{}", service.namespace, service.name))
            .unwrap_or_default(),
        numbers: Numbers::of(stat.traffic.as_ref()),
        endings: numbers::endings(stat.traffic.as_ref().map_or(&[], |traffic| &traffic.statuses)),
        seen_by: if stat.seen_by() == Direction::Inbound {
            "in"
        } else {
            "out"
        },
        method: stat.method,
        path: stat.path,
        requests: stat.requests_by_second,
        failures: stat.failures_by_second,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_are_of_the_time_that_somebody_looked() {
        let window = Some(Window {
            from_ms: 0,
            to_ms: 30_000,
            ..Window::default()
        });
        let path = |requests_by_second: Vec<u64>| PathStat {
            requests_by_second,
            ..PathStat::default()
        };
        let mut seconds = vec![0; 30];
        seconds[28] = 5;
        let begun = [path(seconds)];
        assert_eq!(known_ms(&begun, window, Duration::ZERO), 2_000);
        assert_eq!(known_ms(&begun, window, Duration::from_secs(9)), 9_000);
        assert_eq!(known_ms(&begun, window, Duration::from_secs(900)), 30_000);
        assert_eq!(known_ms(&[path(vec![1; 30])], window, Duration::ZERO), 30_000);
        assert_eq!(known_ms(&[], None, Duration::ZERO), 1_000);
    }
}
