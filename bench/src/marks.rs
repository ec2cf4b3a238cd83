//! What Sheer has to reach, and whether it did: the verdict at the end of the report, and the exit code of `--check`.

use std::fmt::Write as _;

use crate::{
    peer::Peer,
    runner::{Loaded, Measured, median},
};

/// Most CPU of both hops, in that of a pair of bare forwarders.
const TIMES_FLOOR: f64 = 1.8;
/// Most CPU of both hops, as a share of Envoy's.
const OF_ENVOY: f64 = 0.4;
/// Most resident memory of a sidecar under load, MiB.
const RSS_MIB: f64 = 15.0;

/// One mark.
#[derive(Debug, PartialEq)]
pub(crate) struct Mark {
    what: String,
    /// None where what it takes was not measured in this run.
    measured: Option<f64>,
    most: f64,
}

impl Mark {
    /// Whether it was reached. What was not measured was not.
    pub(crate) fn is_met(&self) -> bool {
        self.measured.is_some_and(|measured| measured <= self.most)
    }
}

/// Every mark, for what was measured in this run.
pub(crate) fn of(measured: &[Measured]) -> Vec<Mark> {
    let find = |peer: Peer| measured.iter().find(|m| m.peer == peer);
    let sheer = find(Peer::Sheer);
    let mut marks = Vec::new();
    for (other, most) in [(Peer::Floor, TIMES_FLOOR), (Peer::Envoy, OF_ENVOY)] {
        let loads = measured.first().map_or(0, |any| any.loads.len());
        for load in 0..loads {
            let pair = sheer.zip(find(other));
            marks.push(Mark {
                what: format!(
                    "CPU of both hops under {}, times {}'s",
                    measured[0].loads[load].load.name,
                    other.name()
                ),
                measured: pair.map(|(ours, theirs)| ratio(&ours.loads[load], &theirs.loads[load])),
                most,
            });
        }
    }
    marks.push(Mark {
        what: "RSS of the larger half under load, MiB".to_owned(),
        measured: sheer.map(|sheer| sheer.busy.larger() as f64 / 1024.0),
        most: RSS_MIB,
    });
    marks.push(Mark {
        what: "Errors".to_owned(),
        measured: sheer.map(|sheer| sheer.loads.iter().map(Loaded::errors).sum::<u64>() as f64),
        most: 0.0,
    });
    marks
}

/// Within a round, because noise of the machine falls on both alike there.
fn ratio(ours: &Loaded, theirs: &Loaded) -> f64 {
    median(ours.samples.iter().zip(&theirs.samples).map(|(a, b)| a.cpu() / b.cpu()))
}

/// The verdict, as a table.
pub(crate) fn table(marks: &[Mark]) -> String {
    let mut text = "## Marks\n\n| mark | measured | at most | verdict |\n|---|---|---|---|\n".to_owned();
    for mark in marks {
        let measured = mark
            .measured
            .map_or_else(|| "not measured".to_owned(), |measured| format!("{measured:.2}"));
        let verdict = if mark.is_met() { "met" } else { "**missed**" };
        let _ = writeln!(text, "| {} | {measured} | {} | {verdict} |", mark.what, mark.most);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        h2load::LOADS,
        measure::{Memory, Sample},
        open_loop::Latencies,
    };

    /// A pair that takes so much CPU a request in each round.
    fn pair(peer: Peer, cpu: &[f64], rss_kib: u64) -> Measured {
        let samples = cpu.iter().map(|cpu| Sample {
            cpu_outbound: cpu / 2.0,
            cpu_inbound: cpu / 2.0,
            rps: 1.0,
            errors: 0,
        });
        let samples: Vec<_> = samples.collect();
        let loads = LOADS.map(|load| Loaded {
            load,
            samples: samples.clone(),
            rate: 1.0,
            latencies: Latencies::default(),
        });
        Measured {
            peer,
            version: String::new(),
            idle: Memory::default(),
            busy: Memory {
                outbound: rss_kib,
                inbound: 1,
            },
            loads: loads.into(),
            tcp_gbit: None,
            handshakes: None,
            idle_connections: None,
        }
    }

    fn verdicts(measured: &[Measured]) -> Vec<bool> {
        of(measured).iter().map(Mark::is_met).collect()
    }

    #[test]
    fn each_mark_can_be_missed_by_itself() {
        let run = |sheer: f64, rss| {
            [
                pair(Peer::Floor, &[10.0], 1),
                pair(Peer::Sheer, &[sheer], rss),
                pair(Peer::Envoy, &[44.0], 1),
            ]
        };
        let loads = LOADS.len();
        let all = |floor: bool, envoy: bool, rss: bool| {
            let (floor, envoy) = (vec![floor; loads], vec![envoy; loads]);
            [floor, envoy, vec![rss, true]].concat()
        };
        assert_eq!(verdicts(&run(17.0, 15 * 1024)), all(true, true, true));
        assert_eq!(verdicts(&run(17.9, 15 * 1024)), all(true, false, true));
        assert_eq!(verdicts(&run(19.0, 15 * 1024)), all(false, false, true));
        assert_eq!(verdicts(&run(17.0, 15 * 1024 + 11)), all(true, true, false));
    }

    #[test]
    fn what_was_not_measured_is_not_met() {
        let marks = of(&[pair(Peer::Sheer, &[1.0], 1)]);
        assert!(marks.iter().filter(|mark| !mark.is_met()).count() == 2 * LOADS.len());
        assert!(
            table(&marks).contains("| not measured | 1.8 | **missed** |"),
            "{}",
            table(&marks)
        );
    }

    /// One noisy round decides nothing.
    #[test]
    fn ratios_are_the_middle_one_of_the_rounds() {
        let floor = pair(Peer::Floor, &[10.0, 20.0, 10.0], 1);
        let sheer = pair(Peer::Sheer, &[15.0, 30.0, 90.0], 1);
        assert_eq!(of(&[floor, sheer])[0].measured, Some(1.5));
    }
}
