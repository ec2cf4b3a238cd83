//! What is known of each stream to the control plane: when it last spoke, and whether it stands. Streams write, sight reads.

use std::{
    collections::BTreeMap,
    sync::{Arc, Weak},
    time::{Duration, Instant},
};

use parking_lot::Mutex;
use tonic::{Code, Status};

use crate::metrics::{LabelSet, Reading, family};

/// The streams of one service. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub(crate) struct Ledger(Arc<Mutex<Vec<Weak<Mutex<Record>>>>>);

/// One stream and those that took its place.
#[derive(Clone, Debug)]
pub(crate) struct Record {
    /// As `OutboundPolicies.Watch`.
    pub(crate) method: String,
    /// What was asked for, as `10.78.0.3:8080`.
    pub(crate) target: String,
    /// When the last message came.
    pub(crate) heard: Option<Instant>,
    /// Messages so far.
    pub(crate) messages: u64,
    /// Whether the stream stands.
    pub(crate) connected: bool,
    /// Why the last one ended, where that was a failure.
    pub(crate) last_error: String,
}

/// Where one stream writes. What it wrote is forgotten with it.
#[derive(Clone, Debug)]
pub(super) struct Line(Arc<Mutex<Record>>);

impl Ledger {
    /// Begins a line.
    pub(super) fn line(&self, method: &str, target: &str) -> Line {
        let record = Arc::new(Mutex::new(Record {
            method: method.to_owned(),
            target: target.to_owned(),
            heard: None,
            messages: 0,
            connected: false,
            last_error: String::new(),
        }));
        let mut lines = self.0.lock();
        // A new stream is rare enough to clear away those that are gone.
        lines.retain(|line| line.strong_count() > 0);
        lines.push(Arc::downgrade(&record));
        Line(record)
    }

    /// Every line as it stands.
    pub(crate) fn records(&self) -> Vec<Record> {
        let lines = self.0.lock();
        lines
            .iter()
            .filter_map(Weak::upgrade)
            .map(|record| record.lock().clone())
            .collect()
    }
}

/// For the metrics page: how many streams of each kind stand, and for how long the most silent of those has been.
pub(crate) fn ages(records: &[Record]) -> Vec<Reading> {
    let mut by_method: BTreeMap<(&str, bool), (i64, i64)> = BTreeMap::new();
    for record in records {
        let (count, oldest) = by_method.entry((&record.method, record.connected)).or_default();
        let age = record.age().map_or(0, |age| age.as_secs());
        *count += 1;
        *oldest = (*oldest).max(i64::try_from(age).unwrap_or(i64::MAX));
    }
    let readings = by_method
        .into_iter()
        .flat_map(|((method, connected), (count, oldest))| {
            let labels = LabelSet::builder().label("method", method);
            let labels = labels
                .label("connected", if connected { "true" } else { "false" })
                .build();
            [
                (&family::SHEER_CONTROL_STREAMS, count),
                (&family::SHEER_CONTROL_STREAM_AGE_SECONDS, oldest),
            ]
            .map(|(family, value)| Reading {
                family,
                labels: labels.clone(),
                value,
            })
        });
    readings.collect()
}

impl Record {
    /// Since the last message.
    pub(crate) fn age(&self) -> Option<Duration> {
        self.heard.map(|heard| heard.elapsed())
    }
}

impl Line {
    /// A message came.
    pub(super) fn heard(&self) {
        let mut record = self.0.lock();
        record.heard = Some(Instant::now());
        record.messages += 1;
        record.connected = true;
        record.last_error.clear();
    }

    /// The stream ended.
    pub(super) fn ended(&self, status: &Status) {
        let mut record = self.0.lock();
        record.connected = false;
        record.last_error = match status.code() {
            Code::Ok => String::new(),
            code if status.message().is_empty() => code.description().to_owned(),
            _ => status.message().to_owned(),
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_lives_as_long_as_its_stream() {
        let ledger = Ledger::default();
        let line = ledger.line("Destination.Get", "ledger");
        line.heard();
        line.ended(&Status::unavailable("gone"));
        let [record] = &ledger.records()[..] else { panic!() };
        assert_eq!(
            (record.messages, record.connected, record.last_error.as_str()),
            (1, false, "gone")
        );
        assert!(record.age().is_some());
        let shown: Vec<_> = ages(&ledger.records())
            .iter()
            .map(|reading| (reading.family.name, reading.value))
            .collect();
        assert_eq!(
            shown,
            [("sheer_control_streams", 1), ("sheer_control_stream_age_seconds", 0)]
        );
        drop(line);
        assert!(ledger.records().is_empty());
    }
}
