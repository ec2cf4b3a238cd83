//! A request at the four points as JSON.

use serde_json::{Map, Value, json};
use sheer_api::v1::{PointView, RequestDiff, ShownField};

use super::text::text;

/// The four points, where they are known.
#[must_use]
pub fn points(request: &RequestDiff) -> [Option<&PointView>; 4] {
    [
        request.outbound.as_ref().and_then(|view| view.client.as_ref()),
        request.outbound.as_ref().and_then(|view| view.upstream.as_ref()),
        request.inbound.as_ref().and_then(|view| view.client.as_ref()),
        request.inbound.as_ref().and_then(|view| view.upstream.as_ref()),
    ]
}

/// A part of a point, and where it is.
pub type Part = (&'static str, fn(&PointView) -> &[ShownField]);

/// In the order in which they pass.
pub const PARTS: [Part; 5] = [
    ("request", |point| &point.request),
    ("request-trailers", |point| &point.request_trailers),
    ("interim", |point| &point.interim),
    ("response", |point| &point.response),
    ("response-trailers", |point| &point.response_trailers),
];

/// A request.
#[must_use]
pub fn request(request: &RequestDiff) -> Value {
    let mut shown = Map::new();
    for (nth, point) in (1..).zip(points(request)) {
        shown.insert(nth.to_string(), point.map_or(Value::Null, self::point));
    }
    let values = |values: &[Vec<u8>]| -> Vec<String> { values.iter().map(|value| text(value)).collect() };
    let differences: Vec<Value> = request
        .differences
        .iter()
        .map(|one| {
            json!({
                "part": one.part,
                "field": one.field,
                "first_seen_at": one.first_seen_at,
                "documented": one.documented,
                "before": values(&one.before),
                "after": values(&one.after),
                "why": one.why,
            })
        })
        .collect();
    json!({
        "request_id": request.request_id,
        "source": request.source,
        "destination": request.destination,
        "points": shown,
        "missing": request.missing,
        "differences": differences,
    })
}

fn point(point: &PointView) -> Value {
    let list = |fields: &[ShownField]| -> Vec<Value> {
        fields
            .iter()
            .map(|field| json!([field.name, text(&field.value)]))
            .collect()
    };
    let mut shown = Map::new();
    shown.insert("protocol".to_owned(), json!(point.protocol));
    for (part, fields) in PARTS {
        shown.insert(part.replace('-', "_"), json!(list(fields(point))));
    }
    if !point.reason_phrase.is_empty() {
        shown.insert("reason_phrase".to_owned(), json!(point.reason_phrase));
    }
    if !point.missing.is_empty() {
        shown.insert("missing".to_owned(), json!(point.missing));
    }
    Value::Object(shown)
}
