//! Which applications break traces: what proxies counted of the last minutes.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
    time::{Duration, Instant},
};

use sheer_api::v1::{PropagationCount, WorkloadPropagation};

use super::Source;

/// How far back counts go.
const WINDOW: Duration = Duration::from_secs(600);
/// Counts are kept by the minute.
const STEP: Duration = Duration::from_secs(60);
/// Most workloads.
const MAX_WORKLOADS: usize = 4_096;
/// Most targets of a workload.
const MAX_TARGETS: usize = 64;
/// Fewer requests say nothing.
const ENOUGH: u64 = 20;
/// Share of requests without a context from which on a workload breaks traces. Not all of them: work in the background has none by right.
const BREAKS: f64 = 0.5;
/// The same of one target: an application may pass contexts on with one client library, and with another not.
const BREAKS_TARGET: f64 = 0.9;

/// With and without a context.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Count {
    with: u64,
    without: u64,
}

impl Count {
    fn add(&mut self, with: u64, without: u64) {
        self.with = self.with.saturating_add(with);
        self.without = self.without.saturating_add(without);
    }

    fn breaks(self, share: f64) -> bool {
        let all = self.with.saturating_add(self.without);
        all >= ENOUGH && self.without as f64 >= all as f64 * share
    }

    fn share(self) -> f64 {
        self.without as f64 / (self.with.saturating_add(self.without)).max(1) as f64
    }
}

/// Counts of the last minutes.
#[derive(Debug, Default)]
pub(super) struct Propagation {
    /// By namespace and workload; then by target; then by step since the first count.
    workloads: HashMap<(String, String), BTreeMap<String, BTreeMap<u64, Count>>>,
    began: Option<Instant>,
}

impl Propagation {
    /// Adds what a proxy counted.
    pub(super) fn add(&mut self, source: &Arc<Source>, counts: &[PropagationCount], now: Instant) {
        let step = self.step(now);
        let key = (source.namespace.clone(), source.workload.clone());
        if !self.workloads.contains_key(&key) && self.workloads.len() >= MAX_WORKLOADS {
            self.forget(step);
            if self.workloads.len() >= MAX_WORKLOADS {
                return;
            }
        }
        let targets = self.workloads.entry(key).or_default();
        for count in counts {
            if !targets.contains_key(&count.target) && targets.len() >= MAX_TARGETS {
                continue;
            }
            let steps = targets.entry(count.target.clone()).or_default();
            steps
                .entry(step)
                .or_default()
                .add(count.with_context, count.without_context);
        }
        self.forget(step);
    }

    fn step(&mut self, now: Instant) -> u64 {
        let began = *self.began.get_or_insert(now);
        now.saturating_duration_since(began).as_secs() / STEP.as_secs()
    }

    fn forget(&mut self, step: u64) {
        let oldest = step.saturating_sub(WINDOW.as_secs() / STEP.as_secs());
        self.workloads.retain(|_, targets| {
            targets.retain(|_, steps| {
                steps.retain(|step, _| *step >= oldest);
                !steps.is_empty()
            });
            !targets.is_empty()
        });
    }

    /// What is known of the workloads of a namespace (any where empty), the worst first.
    pub(super) fn workloads(&mut self, namespace: &str, now: Instant) -> Vec<WorkloadPropagation> {
        let step = self.step(now);
        self.forget(step);
        let wanted = self
            .workloads
            .iter()
            .filter(|((own, _), _)| namespace.is_empty() || own == namespace);
        let mut workloads: Vec<_> = wanted.map(|(key, targets)| workload(key, targets)).collect();
        workloads.sort_by(|a, b| {
            let rank = |one: &WorkloadPropagation| (!one.breaks, std::cmp::Reverse(one.without_context));
            rank(a)
                .cmp(&rank(b))
                .then_with(|| (&a.namespace, &a.workload).cmp(&(&b.namespace, &b.workload)))
        });
        workloads
    }
}

fn workload(
    (namespace, workload): &(String, String),
    targets: &BTreeMap<String, BTreeMap<u64, Count>>,
) -> WorkloadPropagation {
    let mut whole = Count::default();
    let mut by_target: Vec<(&String, Count)> = Vec::with_capacity(targets.len());
    for (target, steps) in targets {
        let mut sum = Count::default();
        steps.values().for_each(|count| sum.add(count.with, count.without));
        whole.add(sum.with, sum.without);
        by_target.push((target, sum));
    }
    by_target.sort_by(|a, b| {
        b.1.share()
            .total_cmp(&a.1.share())
            .then_with(|| b.1.without.cmp(&a.1.without))
    });
    let broken: Vec<_> = by_target
        .iter()
        .filter(|(_, count)| count.breaks(BREAKS_TARGET))
        .collect();
    let breaks = whole.breaks(BREAKS) || !broken.is_empty();
    let finding = if breaks {
        let to = match (&broken[..], whole.breaks(BREAKS)) {
            ([], _) => "what it calls".to_owned(),
            (some, _) => some
                .iter()
                .map(|(target, _)| target.as_str())
                .collect::<Vec<_>>()
                .join(", "),
        };
        finding(namespace, workload, whole, &to)
    } else {
        String::new()
    };
    WorkloadPropagation {
        namespace: namespace.clone(),
        workload: workload.clone(),
        with_context: whole.with,
        without_context: whole.without,
        targets: by_target
            .into_iter()
            .map(|(target, count)| PropagationCount {
                target: target.clone(),
                with_context: count.with,
                without_context: count.without,
            })
            .collect(),
        breaks,
        finding,
    }
}

fn finding(namespace: &str, workload: &str, count: Count, to: &str) -> String {
    let all = count.with.saturating_add(count.without);
    format!(
        "traces break in {namespace}/{workload}: while every request that it served carried a trace context, {} of its {all} requests carried \
         none (to {to}). A proxy cannot know which request belongs to which, so the application has to pass on `traceparent` and `tracestate` (or \
         the format that it gets: b3, grpc-trace-bin) from each request that it serves to the requests that it makes for it: with OpenTelemetry's \
         library for its language and the instrumentation of its HTTP or gRPC client, or by copying these headers",
        count.without
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn source(workload: &str) -> Arc<Source> {
        Arc::new(Source {
            namespace: "bank".to_owned(),
            pod: "x-0".to_owned(),
            workload: workload.to_owned(),
            service: "x".to_owned(),
        })
    }

    fn count(target: &str, with_context: u64, without_context: u64) -> PropagationCount {
        PropagationCount {
            target: target.to_owned(),
            with_context,
            without_context,
        }
    }

    #[test]
    fn who_loses_contexts_is_named_and_who_works_in_the_background_is_not() {
        let (mut counts, now) = (Propagation::default(), Instant::now());
        counts.add(&source("deploy/good"), &[count("ledger", 90, 10)], now);
        counts.add(&source("deploy/few"), &[count("ledger", 0, 19)], now);
        counts.add(&source("deploy/bad"), &[count("ledger", 0, 30), count("fx", 5, 0)], now);
        counts.add(
            &source("deploy/half"),
            &[count("fx", 100, 0), count("notify", 0, 25)],
            now,
        );
        let broken: Vec<_> = counts
            .workloads("bank", now)
            .into_iter()
            .filter(|workload| workload.breaks)
            .map(|workload| (workload.workload, workload.targets[0].target.clone()))
            .collect();
        let named = |workload: &str, target: &str| (workload.to_owned(), target.to_owned());
        assert_eq!(broken, [named("deploy/bad", "ledger"), named("deploy/half", "notify")]);
        assert!(counts.workloads("shop", now).is_empty());
        let finding = &counts.workloads("", now)[0].finding;
        assert!(
            finding.contains("30 of its 35 requests") && finding.contains("traceparent"),
            "{finding}"
        );
    }

    #[test]
    fn ten_minutes_later_it_is_forgotten() {
        let (mut counts, now) = (Propagation::default(), Instant::now());
        counts.add(&source("deploy/bad"), &[count("ledger", 0, 30)], now);
        counts.add(
            &source("deploy/bad"),
            &[count("ledger", 40, 0)],
            now + Duration::from_secs(300),
        );
        assert_eq!(
            counts.workloads("", now + Duration::from_secs(599))[0].without_context,
            30
        );
        let later = &counts.workloads("", now + Duration::from_secs(720))[0];
        assert_eq!(
            (later.with_context, later.without_context, later.breaks),
            (40, 0, false)
        );
        assert!(counts.workloads("", now + Duration::from_secs(2_000)).is_empty());
    }

    #[test]
    fn counts_are_bounded() {
        let (mut counts, now) = (Propagation::default(), Instant::now());
        for at in 0..MAX_WORKLOADS + 10 {
            counts.add(&source(&format!("deploy/{at}")), &[count("ledger", 1, 0)], now);
        }
        assert_eq!(counts.workloads.len(), MAX_WORKLOADS);
        let many: Vec<_> = (0..MAX_TARGETS + 10).map(|at| count(&format!("{at}"), 1, 0)).collect();
        counts.add(&source("deploy/0"), &many, now);
        assert_eq!(
            counts.workloads[&("bank".to_owned(), "deploy/0".to_owned())].len(),
            MAX_TARGETS
        );
    }
}
