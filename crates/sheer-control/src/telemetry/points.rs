//! `Stats.Series`: what happened to each resource over time.

use std::collections::BTreeMap;

use sheer_api::v1::{self, series_key::Direction};
use tonic::Status;

use super::{
    Windows,
    record::Record,
    select::Question,
    stat::{ResourceKey, key_of},
    time::{LONG, Span},
    totals::Totals,
};
use crate::store::Snapshot;

const DEFAULT_WINDOW_MS: i64 = 600_000;
/// Points of an answer, for each resource.
const MOST_POINTS: u32 = 720;

/// One resource on one side, by step.
type Steps = BTreeMap<u32, Totals>;

/// Answers a question.
pub(super) fn series(
    windows: &Windows,
    snapshot: &Snapshot,
    request: &v1::SeriesRequest,
) -> Result<v1::SeriesResponse, Status> {
    let question = Question::new(request.what.as_ref(), request.from.as_ref(), request.to.as_ref())?;
    let span = windows.span(request.window_ms, DEFAULT_WINDOW_MS);
    let windows_a_step = step(&span, request.step_ms);
    let mut found: BTreeMap<ResourceKey, [Steps; 2]> = BTreeMap::new();
    for resource in question.all(snapshot) {
        found.entry(key_of(&resource)).or_default();
    }
    let mut scratch = Record::default();
    for source in windows.sources() {
        let source = source.lock();
        for row in source.rows() {
            let Some(counted) = question.count(&source.place, row) else {
                continue;
            };
            let steps = &mut found.entry(key_of(&counted.resource)).or_default()[side(counted.direction)];
            let log = if span.length == LONG { &row.long } else { &row.short };
            log.each(&span.slots, &mut scratch, |slot, record| {
                let step = (slot - span.slots.start) / windows_a_step;
                let totals: &mut Totals = steps.entry(step).or_default();
                totals.add_record(row, record, counted.part);
            });
        }
    }
    let steps = span.slots.len() as u32 / windows_a_step;
    let series = found.into_iter().map(|(key, [inbound, outbound])| {
        let of_clients = question.is_of_clients() && !outbound.is_empty() || inbound.is_empty() && !outbound.is_empty();
        let (direction, totals) = if of_clients {
            (Direction::Outbound, outbound)
        } else {
            (Direction::Inbound, inbound)
        };
        of_resource(key, direction, &totals, (&span, windows_a_step, steps))
    });
    Ok(v1::SeriesResponse {
        series: series.collect(),
        window: Some(v1::Window {
            step_ms: u64::from(windows_a_step) * span.length.ms.cast_unsigned(),
            ..span.message()
        }),
    })
}

/// How many windows a step has.
fn step(span: &Span, step_ms: u64) -> u32 {
    let asked = u32::try_from(step_ms / span.length.ms.cast_unsigned())
        .unwrap_or(u32::MAX)
        .max(1);
    let windows = span.slots.len() as u32;
    asked.max(windows.div_ceil(MOST_POINTS)).min(windows.max(1))
}

fn side(direction: Direction) -> usize {
    usize::from(direction == Direction::Outbound)
}

fn of_resource(
    (namespace, kind, name, part): ResourceKey,
    direction: Direction,
    totals: &Steps,
    (span, windows_a_step, steps): (&Span, u32, u32),
) -> v1::SeriesOfResource {
    let nothing = Totals::default();
    let points = (0..steps).map(|step| {
        let slot = span.slots.start + step * windows_a_step;
        let totals = totals.get(&step).unwrap_or(&nothing);
        totals.point(i64::from(slot) * span.length.ms)
    });
    v1::SeriesOfResource {
        resource: Some(v1::Resource {
            kind,
            namespace,
            name,
            part,
        }),
        direction: direction.into(),
        points: points.collect(),
    }
}
