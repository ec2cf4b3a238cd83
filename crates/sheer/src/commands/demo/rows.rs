//! The demo's table: what each workload did over a time. Pure.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::output::{Table, Tone};
use crate::scrape::Traffic;

/// Fewer successes than this fail an unattended demo.
const ENOUGH: f64 = 0.99;

/// What one scrape of all proxies found.
#[derive(Clone, Debug, Default)]
pub(super) struct Snapshot {
    /// By the workload's name.
    pub(super) workloads: BTreeMap<String, Workload>,
}

impl Snapshot {
    /// Whether every replica of every workload is ready.
    pub(super) fn is_ready(&self) -> bool {
        !self.workloads.is_empty() && self.not_ready().is_empty()
    }

    /// What each pod counted, by workload and pod.
    fn pods(&self) -> impl Iterator<Item = ((String, String), &Counters)> {
        self.workloads.iter().flat_map(|(name, workload)| {
            let pods = workload.pods.iter();
            pods.map(move |(pod, counters)| ((name.clone(), pod.clone()), counters))
        })
    }

    /// The workloads that are not.
    pub(super) fn not_ready(&self) -> Vec<String> {
        let lacking = self
            .workloads
            .iter()
            .filter(|(_, workload)| workload.ready < workload.replicas);
        lacking
            .map(|(name, Workload { replicas, ready, .. })| format!("{name}: {ready} of {replicas} replicas are ready"))
            .collect()
    }
}

/// One workload in a snapshot.
#[derive(Clone, Debug, Default)]
pub(super) struct Workload {
    /// Replicas that should be.
    pub(super) replicas: usize,
    /// Replicas that are ready, proxies included.
    pub(super) ready: usize,
    /// By pod.
    pub(super) pods: BTreeMap<String, Counters>,
}

/// What the proxy of one pod counted since it began.
#[derive(Clone, Debug, Default)]
pub(super) struct Counters {
    pub(super) inbound: Traffic,
    pub(super) outbound: Traffic,
}

impl Counters {
    /// What the workload served; what it asked of others if it serves nothing, as a load generator.
    fn own(&self) -> &Traffic {
        if self.inbound.responses() > 0.0 {
            &self.inbound
        } else {
            &self.outbound
        }
    }
}

/// One line of the table, and one element of the JSON. Null where nothing was asked of the workload.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(super) struct Row {
    name: String,
    replicas: usize,
    ready: usize,
    success_rate: Option<f64>,
    rps: f64,
    p50_ms: Option<f64>,
    p99_ms: Option<f64>,
    mtls_share: Option<f64>,
}

/// What `sheer demo -o json` prints.
#[derive(Debug, Serialize)]
pub(super) struct Final {
    pub(super) workloads: Vec<Row>,
    pub(super) duration_s: f64,
}

/// What happened between two snapshots, `seconds` apart.
pub(super) fn between(earlier: &Snapshot, later: &Snapshot, seconds: f64) -> Vec<Row> {
    let mut tally = Tally::since(earlier);
    tally.add(later);
    tally.rows(later, seconds)
}

/// What workloads did from one snapshot on, summed snapshot by snapshot: also what pods did that are gone by now.
#[derive(Debug)]
pub(super) struct Tally {
    /// What each pod had counted when it was seen last, by workload and pod.
    seen: BTreeMap<(String, String), Counters>,
    /// By workload.
    sums: BTreeMap<String, Counters>,
}

impl Tally {
    /// Begins with what is new after a snapshot.
    pub(super) fn since(snapshot: &Snapshot) -> Self {
        let seen = snapshot.pods().map(|(key, counters)| (key, counters.clone()));
        Self {
            seen: seen.collect(),
            sums: BTreeMap::new(),
        }
    }

    /// Adds what happened since the snapshot before.
    pub(super) fn add(&mut self, snapshot: &Snapshot) {
        for (key, counters) in snapshot.pods() {
            let sum = self.sums.entry(key.0.clone()).or_default();
            match self.seen.get(&key) {
                Some(before) => {
                    sum.inbound.add(&counters.inbound.since(&before.inbound));
                    sum.outbound.add(&counters.outbound.since(&before.outbound));
                }
                None => {
                    sum.inbound.add(&counters.inbound);
                    sum.outbound.add(&counters.outbound);
                }
            }
            self.seen.insert(key, counters.clone());
        }
    }

    /// The workloads of the latest snapshot, with what they did in `seconds`.
    pub(super) fn rows(&self, latest: &Snapshot, seconds: f64) -> Vec<Row> {
        let nothing = Counters::default();
        let rows = latest.workloads.iter().map(|(name, workload)| {
            let traffic = self.sums.get(name).unwrap_or(&nothing).own();
            Row {
                name: name.clone(),
                replicas: workload.replicas,
                ready: workload.ready,
                success_rate: traffic.success_rate().map(|rate| rounded(rate, 4)),
                rps: rounded(traffic.responses() / seconds.max(0.001), 2),
                p50_ms: traffic.quantile(0.5).map(|millis| rounded(millis, 2)),
                p99_ms: traffic.quantile(0.99).map(|millis| rounded(millis, 2)),
                mtls_share: traffic.mtls_share().map(|share| rounded(share, 4)),
            }
        });
        rows.collect()
    }
}

/// Rounded down: 0.99999 must not pass as 1.
fn rounded(value: f64, digits: i32) -> f64 {
    let unit = 10_f64.powi(digits);
    ((value * unit) + 1e-6).floor() / unit
}

/// Why an unattended demo has failed; empty if it has not.
pub(super) fn failures(rows: &[Row]) -> Vec<String> {
    let mut failures = Vec::new();
    if rows.is_empty() {
        failures.push("no workload runs".to_owned());
    }
    for row in rows {
        let Row {
            name, replicas, ready, ..
        } = row;
        if ready < replicas || *replicas == 0 {
            failures.push(format!("{name}: {ready} of {replicas} replicas are ready"));
        }
        match row.success_rate {
            None => failures.push(format!("{name}: no request came through")),
            Some(rate) if rate <= ENOUGH => {
                failures.push(format!(
                    "{name}: {:.2} % of requests succeeded, more than 99 % should",
                    rate * 100.0
                ));
            }
            Some(_) => {}
        }
        if let Some(share) = row.mtls_share.filter(|share| *share < 1.0) {
            failures.push(format!(
                "{name}: only {:.2} % of requests came over mutual TLS",
                share * 100.0
            ));
        }
    }
    failures
}

/// The table for people.
pub(super) fn table(rows: &[Row]) -> Table {
    let mut table = Table::new(["WORKLOAD", "READY", "SUCCESS", "RPS", "P50", "P99", "MTLS"]);
    for row in rows {
        let tone = |good: bool| if good { Tone::Good } else { Tone::Bad };
        let percent = |share: Option<f64>, digits: usize, enough: f64| match share {
            None => ("-".to_owned(), Tone::Dim),
            Some(share) => (format!("{:.digits$}%", share * 100.0), tone(share >= enough)),
        };
        let millis = |millis: Option<f64>| millis.map_or_else(|| "-".to_owned(), |millis| format!("{millis:.1}ms"));
        table.toned([
            (row.name.clone(), Tone::Plain),
            (
                format!("{}/{}", row.ready, row.replicas),
                tone(row.ready >= row.replicas),
            ),
            percent(row.success_rate, 2, ENOUGH),
            (format!("{:.1}", row.rps), Tone::Plain),
            (millis(row.p50_ms), Tone::Plain),
            (millis(row.p99_ms), Tone::Plain),
            percent(row.mtls_share, 0, 1.0),
        ]);
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scrape::{Direction, parse};

    fn counters(direction: &str, succeeded: u32, failed: u32, plain: u32) -> Counters {
        let total = succeeded + failed + plain;
        let text = format!(
            "response_total{{direction=\"{direction}\",tls=\"true\",classification=\"success\"}} {succeeded}\n\
             response_total{{direction=\"{direction}\",tls=\"true\",classification=\"failure\"}} {failed}\n\
             response_total{{direction=\"{direction}\",tls=\"no_identity\",classification=\"success\"}} {plain}\n\
             response_latency_ms_bucket{{direction=\"{direction}\",le=\"10\"}} {}\n\
             response_latency_ms_bucket{{direction=\"{direction}\",le=\"20\"}} {total}\n\
             response_latency_ms_bucket{{direction=\"{direction}\",le=\"+Inf\"}} {total}\n",
            total / 2
        );
        let samples = parse(&text).unwrap();
        Counters {
            inbound: Traffic::of(&samples, Direction::Inbound),
            outbound: Traffic::of(&samples, Direction::Outbound),
        }
    }

    fn snapshot(workloads: &[(&str, usize, Counters)]) -> Snapshot {
        let workloads = workloads.iter().map(|(name, ready, counters)| {
            let pods = BTreeMap::from([(format!("{name}-0"), counters.clone())]);
            (
                (*name).to_owned(),
                Workload {
                    replicas: 1,
                    ready: *ready,
                    pods,
                },
            )
        });
        Snapshot {
            workloads: workloads.collect(),
        }
    }

    fn rows() -> Vec<Row> {
        let earlier = snapshot(&[
            ("ledger", 1, counters("inbound", 100, 50, 0)),
            ("load", 1, counters("outbound", 0, 0, 0)),
        ]);
        let later = snapshot(&[
            ("fx", 0, Counters::default()),
            ("ledger", 1, counters("inbound", 1100, 50, 0)),
            ("load", 1, counters("outbound", 400, 100, 500)),
        ]);
        between(&earlier, &later, 10.0)
    }

    #[test]
    fn the_table_reads_well() {
        insta::assert_snapshot!(table(&rows()).render(false));
    }

    #[test]
    fn the_json_has_the_promised_shape() {
        insta::assert_json_snapshot!(Final {
            workloads: rows(),
            duration_s: 10.0
        });
    }

    #[test]
    fn every_failed_condition_is_named() {
        insta::assert_snapshot!(failures(&rows()).join("\n"));
        assert_eq!(failures(&rows()[1..2]), Vec::<String>::new());
        assert_eq!(failures(&[]), ["no workload runs"]);
    }

    #[test]
    fn what_a_pod_did_counts_after_it_has_gone() {
        let with = |pods: &[(&str, Counters)]| {
            let mut snapshot = snapshot(&[("ledger", 1, Counters::default())]);
            let workload = snapshot.workloads.get_mut("ledger").unwrap();
            workload.pods = pods.iter().map(|(pod, c)| ((*pod).to_owned(), c.clone())).collect();
            snapshot
        };
        let inbound = |succeeded, failed| counters("inbound", succeeded, failed, 0);
        let mut tally = Tally::since(&with(&[("a", inbound(100, 0))]));
        // One fails half of what it gets, is away for a scrape, comes back, and goes for ever; another takes over.
        tally.add(&with(&[("a", inbound(110, 10))]));
        tally.add(&with(&[]));
        let last = with(&[("a", inbound(140, 40)), ("b", inbound(20, 0))]);
        tally.add(&last);
        let last = with(&[("b", inbound(40, 0))]);
        tally.add(&last);
        let rows = tally.rows(&last, 10.0);
        assert_eq!((rows[0].success_rate, rows[0].rps), (Some(0.6666), 12.0));
        assert_eq!(failures(&rows).len(), 1, "{:?}", failures(&rows));
    }

    #[test]
    fn what_is_almost_all_is_not_shown_as_all() {
        assert_eq!(rounded(0.999_99, 4), 0.9999);
        assert_eq!(rounded(1.0, 4), 1.0);
        assert_eq!(rounded(0.57, 2), 0.57);
    }
}
