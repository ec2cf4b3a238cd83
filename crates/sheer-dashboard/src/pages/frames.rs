//! The frames of one request at the points where it was recorded: its own stream, and what concerned the whole connection meanwhile. As `sheer frames` has
//! them, from the open connection, or from what was kept where the request failed.

use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;
use serde_json::Value;
use sheer_api::v1::frame_event::Event;
use sheer_api::v1::{FrameEvent, FramesRequest, Selection, WatchFramesRequest};
use tokio::time::timeout;
use tonic::Streaming;

use super::Sources;
use crate::problem::Problem;
use crate::query::Query;
use crate::wire;

/// A request has four points.
const MOST_LEGS: usize = 4;
/// Frames of one point that are shown.
const MOST: usize = 400;
/// Frames of the whole connection are shown this long before and after those of the stream, in microseconds.
const AROUND_US: i64 = 20_000;
/// Proxies answer with what they have: they do not wait for anything.
const PATIENCE: Duration = Duration::from_secs(15);

#[derive(Debug, Serialize)]
struct Frames {
    points: Vec<Point>,
}

#[derive(Debug, Serialize)]
struct Point {
    point: u8,
    pod: String,
    connection: u64,
    stream: u32,
    /// As `sheer frames -o json` has them.
    frames: Vec<Value>,
    /// They are of what was kept when the request failed.
    kept: bool,
    /// Beyond those that are shown.
    left_out: usize,
    /// What there is to know of the answer; why there are none.
    notes: Vec<String>,
}

/// A stream whose frames are wanted.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Wanted {
    point: u8,
    namespace: String,
    pod: String,
    /// The request's number at that proxy.
    request: u64,
    connection: u64,
    stream: u32,
}

impl Wanted {
    /// `2:bank/web-0:41:7:31`: point, pod, request, connection, stream.
    fn parse(text: &str) -> Option<Self> {
        let parts: Vec<&str> = text.split(':').collect();
        let [point, pod, request, connection, stream] = parts[..] else {
            return None;
        };
        let (namespace, pod) = pod.split_once('/')?;
        Some(Self {
            point: point.parse().ok().filter(|point| (1..=4).contains(point))?,
            namespace: namespace.to_owned(),
            pod: Some(pod.to_owned()).filter(|pod| !pod.is_empty())?,
            request: request.parse().ok()?,
            // 0 is none, and would mean all.
            connection: connection.parse().ok().filter(|connection| *connection > 0)?,
            stream: stream.parse().ok()?,
        })
    }

    fn question(&self, last_failures: bool) -> WatchFramesRequest {
        WatchFramesRequest {
            of: Some(Selection {
                workload: format!("pod/{}", self.pod),
                namespace: self.namespace.clone(),
            }),
            asked: Some(FramesRequest {
                connection: self.connection,
                stream: Some(self.stream),
                last_failures,
                ..FramesRequest::default()
            }),
        }
    }
}

pub(super) async fn model(sources: &Sources, query: &Query) -> Result<Arc<Value>, Problem> {
    let text = query.text("legs");
    let wanted: Option<Vec<Wanted>> = text.split(' ').map(Wanted::parse).collect();
    let wanted = wanted.filter(|wanted| wanted.len() <= MOST_LEGS).ok_or_else(|| {
        Problem::parameter(
            "legs",
            text,
            "up to four streams as 2:bank/web-0:41:7:31 (point, pod, request, connection, stream)",
        )
    })?;
    let points = wanted.into_iter().map(|wanted| point(sources, wanted));
    let points = futures::future::try_join_all(points).await?;
    let key = format!("frames {text}");
    let mut seen = sources.seen.lock().await;
    // What was there when the page was opened is more than what is left of it.
    let count = points.iter().map(|point| point.frames.len()).sum();
    if let Some(before) = seen.find_opened(&key).filter(|before| counted(before) > count) {
        return Ok(before);
    }
    let frames = serde_json::to_value(Frames { points }).map_err(|error| Problem::unshown(&error))?;
    let frames = Arc::new(frames);
    seen.opened(&key, Arc::clone(&frames));
    Ok(frames)
}

/// Frames of an answer.
fn counted(answer: &Value) -> usize {
    let points = answer["points"].as_array().into_iter().flatten();
    points
        .filter_map(|point| point["frames"].as_array())
        .map(Vec::len)
        .sum()
}

async fn point(sources: &Sources, wanted: Wanted) -> Result<Point, Problem> {
    let mut found = Found::default();
    let mut kept = false;
    for last_failures in [false, true] {
        let events = sources.control.frames(wanted.question(last_failures)).await?;
        found = read(events, &wanted, last_failures).await?;
        kept = last_failures;
        if found.frames.iter().any(|frame| is_of(frame, wanted.stream)) {
            break;
        }
    }
    let (frames, left_out) = around(found.frames, wanted.stream);
    if frames.is_empty() {
        found
            .notes
            .push("Its frames are forgotten: newer ones have taken their place.".to_owned());
    }
    Ok(Point {
        point: wanted.point,
        pod: format!("{}/{}", wanted.namespace, wanted.pod),
        connection: wanted.connection,
        stream: wanted.stream,
        kept: kept && !frames.is_empty(),
        frames,
        left_out,
        notes: found.notes,
    })
}

#[derive(Default)]
struct Found {
    frames: Vec<(i64, Value)>,
    notes: Vec<String>,
}

/// Everything that a proxy has of a connection; of failures only what belongs to the request.
async fn read(mut events: Streaming<FrameEvent>, wanted: &Wanted, failures: bool) -> Result<Found, Problem> {
    let read = async {
        let mut found = Found::default();
        let mut lines = wire::frames::Lines::default();
        let mut is_its = !failures;
        while let Some(event) = events.message().await? {
            let Some(of) = &event.event else { continue };
            match of {
                Event::Failure(failure) => {
                    is_its = failure.exchange.as_ref().is_some_and(|of| of.id == wanted.request);
                    // Its frames say of what they were kept.
                    drop(lines.event(&event.pod, of));
                }
                Event::Note(note) => found.notes.push(note.clone()),
                Event::Dropped(frames) => found.notes.push(format!("{frames} frames passed too fast to be shown")),
                Event::Frame(frame) if is_its && frame.connection == wanted.connection => {
                    let value = lines.event(&event.pod, of);
                    found.frames.extend(value.map(|value| (frame.at_us, value)));
                }
                Event::Connection(connection) => {
                    if is_its && connection.excerpt && connection.id == wanted.connection {
                        found
                            .notes
                            .push("An excerpt: frames of other streams are no longer kept.".to_owned());
                    }
                    drop(lines.event(&event.pod, of));
                }
                Event::Frame(_) => {}
            }
        }
        Ok(found)
    };
    timeout(PATIENCE, read).await.unwrap_or_else(|_| Err(Problem::slow()))
}

fn is_of((_, frame): &(i64, Value), stream: u32) -> bool {
    frame["stream"] == stream
}

/// Frames of the stream, and of the whole connection around them; how many are left out beyond [`MOST`].
fn around(frames: Vec<(i64, Value)>, stream: u32) -> (Vec<Value>, usize) {
    let own = frames.iter().filter(|frame| is_of(frame, stream)).map(|(at, _)| *at);
    let (Some(first), Some(last)) = (own.clone().min(), own.max()) else {
        return (Vec::new(), 0);
    };
    let near = first - AROUND_US..=last + AROUND_US;
    let mut shown: Vec<Value> = frames
        .into_iter()
        .filter(|frame| is_of(frame, stream) || near.contains(&frame.0))
        .map(|(_, frame)| frame)
        .collect();
    let left_out = shown.len().saturating_sub(MOST);
    shown.truncate(MOST);
    (shown, left_out)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn streams_are_named_whole() {
        let wanted = Wanted::parse("2:bank/web-0:41:7:31").unwrap();
        assert_eq!((wanted.point, wanted.pod.as_str(), wanted.request), (2, "web-0", 41));
        assert_eq!((wanted.connection, wanted.stream), (7, 31));
        for wrong in [
            "",
            "5:bank/web-0:41:7:31",
            "2:web-0:41:7:31",
            "2:bank/:41:7:31",
            "2:bank/web-0:41:0:31",
            "2:bank/web-0:41:7",
        ] {
            assert_eq!(Wanted::parse(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn what_the_connection_said_long_before_is_left_out() {
        let frame = |at: i64, stream: u32| (at, json!({"stream": stream, "at": at}));
        let frames = vec![
            frame(0, 0),
            frame(990_000, 0),
            frame(1_000_000, 31),
            frame(1_400_000, 31),
            frame(1_500_000, 0),
        ];
        let (shown, left_out) = around(frames, 31);
        let times: Vec<_> = shown.iter().map(|frame| frame["at"].as_i64().unwrap()).collect();
        assert_eq!((times, left_out), (vec![990_000, 1_000_000, 1_400_000], 0));
        let many = (0..500).map(|at| frame(at, 31)).collect();
        assert_eq!(around(many, 31).1, 100);
        assert!(around(vec![frame(0, 0)], 31).0.is_empty());
    }
}
