//! The table of workloads.

use serde::Serialize;
use sheer_api::v1::selector::Kind;
use sheer_api::v1::series_key::Direction;
use sheer_api::v1::{SeriesRequest, StatRequest};

use super::{Sources, Span};
use crate::numbers::Numbers;
use crate::problem::Problem;
use crate::query::Query;
use crate::resource::Id;

/// Points of the line beside each workload.
const POINTS: u64 = 30;

#[derive(Debug, Serialize)]
pub(super) struct Workloads {
    window: Span,
    workloads: Vec<Row>,
    notes: Vec<String>,
}

#[derive(Debug, Serialize)]
struct Row {
    id: Id,
    namespace: String,
    kind: String,
    name: String,
    pods: u32,
    ready: u32,
    meshed: u32,
    direction: &'static str,
    numbers: Numbers,
    /// Requests and failures a second over the window, oldest first.
    rps: Vec<f64>,
    failing: Vec<f64>,
}

pub(super) async fn model(sources: &Sources, query: &Query) -> Result<Workloads, Problem> {
    let window_ms = query.window_ms()?;
    let stat = sources.control.stat(StatRequest {
        what: query.every(Kind::Workload),
        window_ms,
        ..StatRequest::default()
    });
    let series = sources.control.series(SeriesRequest {
        what: query.every(Kind::Workload),
        window_ms,
        step_ms: window_ms / POINTS,
        ..SeriesRequest::default()
    });
    let (stat, series) = tokio::try_join!(stat, series)?;
    let step_s = series.window.map_or(1, |window| window.step_ms).max(1) as f64 / 1e3;
    let rows = stat.stats.iter().map(|stat| {
        let id = Id::of(stat.resource.as_ref());
        let own = series
            .series
            .iter()
            .find(|series| Id::of(series.resource.as_ref()) == id);
        let points = own.map_or(&[][..], |own| &own.points);
        Row {
            namespace: id.namespace.clone(),
            kind: id.kind.clone(),
            name: id.name.clone(),
            pods: stat.pods,
            ready: stat.pods_ready,
            meshed: stat.pods_meshed,
            direction: if stat.direction() == Direction::Outbound {
                "out"
            } else {
                "in"
            },
            numbers: Numbers::of(stat.traffic.as_ref()),
            rps: points.iter().map(|point| point.requests as f64 / step_s).collect(),
            failing: points
                .iter()
                .map(|point| point.requests.saturating_sub(point.successes) as f64 / step_s)
                .collect(),
            id,
        }
    });
    Ok(Workloads {
        window: Span::of(stat.window),
        workloads: rows.collect(),
        notes: stat.notes,
    })
}
