//! A scrape in messages of `io.prometheus.client` (`metrics.proto` of Prometheus' client model), each behind its length. They are few and do not
//! change, so they are written down here.

use prost::Message as _;
use prost_types::Timestamp;

use super::{
    cell::Exemplar,
    family::{self, Bounds, Family, Kind},
    native, process,
    render::{Sum, Sums},
};

#[derive(Clone, PartialEq, prost::Message)]
struct MetricFamily {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(string, tag = "2")]
    help: String,
    #[prost(enumeration = "MetricType", tag = "3")]
    kind: i32,
    #[prost(message, repeated, tag = "4")]
    metrics: Vec<Metric>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, prost::Enumeration)]
#[repr(i32)]
enum MetricType {
    Counter = 0,
    Gauge = 1,
    Histogram = 4,
}

#[derive(Clone, PartialEq, prost::Message)]
struct Metric {
    #[prost(message, repeated, tag = "1")]
    labels: Vec<LabelPair>,
    #[prost(message, optional, tag = "2")]
    gauge: Option<Value>,
    #[prost(message, optional, tag = "3")]
    counter: Option<Value>,
    #[prost(message, optional, tag = "7")]
    histogram: Option<Histogram>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct LabelPair {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(string, tag = "2")]
    value: String,
}

/// `Gauge` and `Counter` alike.
#[derive(Clone, PartialEq, prost::Message)]
struct Value {
    #[prost(double, tag = "1")]
    value: f64,
}

#[derive(Clone, PartialEq, prost::Message)]
struct Histogram {
    #[prost(uint64, tag = "1")]
    sample_count: u64,
    #[prost(double, tag = "2")]
    sample_sum: f64,
    #[prost(message, repeated, tag = "3")]
    buckets: Vec<Bucket>,
    #[prost(sint32, tag = "5")]
    schema: i32,
    #[prost(double, tag = "6")]
    zero_threshold: f64,
    #[prost(uint64, tag = "7")]
    zero_count: u64,
    #[prost(message, repeated, tag = "12")]
    positive_spans: Vec<BucketSpan>,
    #[prost(sint64, repeated, tag = "13")]
    positive_deltas: Vec<i64>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct Bucket {
    #[prost(uint64, tag = "1")]
    cumulative_count: u64,
    #[prost(double, tag = "2")]
    upper_bound: f64,
    #[prost(message, optional, tag = "3")]
    exemplar: Option<Told>,
}

/// Buckets beside each other: how many, and how many none lie before.
#[derive(Clone, PartialEq, prost::Message)]
struct BucketSpan {
    #[prost(sint32, tag = "1")]
    offset: i32,
    #[prost(uint32, tag = "2")]
    length: u32,
}

/// An exemplar.
#[derive(Clone, PartialEq, prost::Message)]
struct Told {
    #[prost(message, repeated, tag = "1")]
    labels: Vec<LabelPair>,
    #[prost(double, tag = "2")]
    value: f64,
    #[prost(message, optional, tag = "3")]
    timestamp: Option<Timestamp>,
}

/// The page.
pub(super) fn page(sums: &Sums) -> Vec<u8> {
    let mut page = Vec::with_capacity(64 * 1024);
    let known = family::ALL
        .iter()
        .filter_map(|family| Some((*family, sums.get(family.name)?)));
    for (family, series) in known {
        let metrics = series.iter().map(|(labels, sum)| Metric {
            labels: labels
                .pairs()
                .into_iter()
                .map(|(name, value)| LabelPair { name, value })
                .collect(),
            ..metric(sum)
        });
        push(&mut page, (family.name, family.help), kind(family), metrics.collect());
    }
    for sample in process::samples() {
        let value = Some(Value { value: sample.value });
        let (kind, metric) = match sample.kind {
            "counter" => (
                MetricType::Counter,
                Metric {
                    counter: value,
                    ..Metric::default()
                },
            ),
            _ => (
                MetricType::Gauge,
                Metric {
                    gauge: value,
                    ..Metric::default()
                },
            ),
        };
        push(&mut page, (sample.name, sample.help), kind, vec![metric]);
    }
    page
}

fn push(page: &mut Vec<u8>, (name, help): (&str, &str), kind: MetricType, metrics: Vec<Metric>) {
    let family = MetricFamily {
        name: name.to_owned(),
        help: help.to_owned(),
        kind: kind.into(),
        metrics,
    };
    page.extend(family.encode_length_delimited_to_vec());
}

fn kind(family: &Family) -> MetricType {
    match family.kind {
        Kind::Counter => MetricType::Counter,
        Kind::Gauge => MetricType::Gauge,
        Kind::Histogram(_) => MetricType::Histogram,
    }
}

#[expect(
    clippy::cast_precision_loss,
    reason = "the format has nothing else; 2^53 is beyond every count here"
)]
fn metric(sum: &Sum) -> Metric {
    let value = |value| Some(Value { value });
    match sum {
        Sum::Count(count) => Metric {
            counter: value(*count as f64),
            ..Metric::default()
        },
        Sum::Level(level) => Metric {
            gauge: value(*level as f64),
            ..Metric::default()
        },
        Sum::Buckets {
            bounds,
            buckets,
            exemplars,
            native,
            ..
        } => {
            let native = native.clone().unwrap_or_default();
            Metric {
                histogram: Some(histogram(bounds, (buckets, exemplars), &native)),
                ..Metric::default()
            }
        }
    }
}

/// A histogram in both ways. Both are read while others count, so the classic buckets may be a few ahead: they are told no more than there are.
#[expect(clippy::cast_precision_loss, reason = "2^53 microseconds are 285 years")]
fn histogram(
    bounds: &Bounds,
    (buckets, exemplars): (&[u64], &[Option<Exemplar>]),
    native: &native::Reading,
) -> Histogram {
    let unit = bounds.unit_micros;
    let in_unit = |micros: u64| micros as f64 / unit as f64;
    let sample_count = native.count();
    let (mut cumulative, mut classic) = (0, Vec::with_capacity(buckets.len()));
    for (at, count) in buckets.iter().enumerate() {
        cumulative += count;
        classic.push(Bucket {
            cumulative_count: cumulative.min(sample_count),
            upper_bound: bounds.micros.get(at).map_or(f64::INFINITY, |bound| in_unit(*bound)),
            exemplar: exemplars.get(at).copied().flatten().map(|exemplar| Told {
                labels: vec![LabelPair {
                    name: "trace_id".to_owned(),
                    value: format!("{:032x}", u128::from_be_bytes(exemplar.trace)),
                }],
                value: in_unit(exemplar.micros),
                timestamp: Some(timestamp(exemplar.at)),
            }),
        });
    }
    // What came while this was read.
    if let Some(last) = classic.last_mut() {
        last.cumulative_count = sample_count;
    }
    let (positive_spans, positive_deltas) = spans(native.buckets(unit));
    Histogram {
        sample_count,
        sample_sum: in_unit(native.sum),
        buckets: classic,
        schema: native::SCHEMA,
        zero_threshold: native::zero_threshold(unit),
        zero_count: native.zeros(),
        positive_spans,
        positive_deltas,
    }
}

fn timestamp(at: f64) -> Timestamp {
    Timestamp {
        seconds: at as i64,
        nanos: (at.fract() * 1e9) as i32,
    }
}

/// Buckets as runs without gaps, and each count as what it is more than the one before.
fn spans(buckets: impl Iterator<Item = (i32, u64)>) -> (Vec<BucketSpan>, Vec<i64>) {
    let (mut spans, mut deltas) = (Vec::<BucketSpan>::new(), Vec::new());
    let (mut next, mut before) = (0, 0);
    for (index, count) in buckets {
        match spans.last_mut() {
            Some(span) if index == next => span.length += 1,
            _ => spans.push(BucketSpan {
                offset: index - next,
                length: 1,
            }),
        }
        next = index + 1;
        deltas.push(count.cast_signed() - before);
        before = count.cast_signed();
    }
    (spans, deltas)
}

#[cfg(test)]
mod tests;
