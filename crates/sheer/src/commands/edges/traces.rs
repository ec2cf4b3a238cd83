//! Which edges lose the contexts of traces: what the control plane found of workloads, put beside the edges that show it.

use std::fmt::Write as _;

use serde::Serialize;
use sheer_api::{
    names::CLUSTER_DOMAIN,
    v1::{Edge, EdgesResponse, PropagationCount, WorkloadPropagation},
};

use crate::output::Tone;

/// What of the contexts of traces a client passed on to a Service, in the last ten minutes, as programs read it.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(super) struct Passed {
    /// Requests with a context, while every request that the client served had one.
    with_context: u64,
    /// The same without.
    without_context: u64,
    /// Traces break here.
    breaks: bool,
    /// What is wrong, and what to do; null where nothing is.
    finding: Option<String>,
}

/// What is known of an edge.
pub(super) fn passed(edge: &Edge, propagation: &[WorkloadPropagation]) -> Option<Passed> {
    let (workload, count) = find(edge, propagation)?;
    let breaks = is_broken(workload, count);
    Some(Passed {
        with_context: count.with_context,
        without_context: count.without_context,
        breaks,
        finding: breaks.then(|| workload.finding.clone()),
    })
}

/// The same in a word.
pub(super) fn word(edge: &Edge, propagation: &[WorkloadPropagation]) -> (String, Tone) {
    match find(edge, propagation) {
        None => ("-".to_owned(), Tone::Plain),
        Some((workload, count)) if is_broken(workload, count) => ("break".to_owned(), Tone::Warn),
        Some(_) => ("pass".to_owned(), Tone::Plain),
    }
}

/// What is wrong with the workloads that are shown, and what to do: a paragraph each.
pub(super) fn findings(answer: &EdgesResponse, propagation: &[WorkloadPropagation]) -> String {
    let mut text = String::new();
    let is_shown = |workload: &&WorkloadPropagation| {
        let breaks =
            |edge: &Edge| find(edge, propagation).is_some_and(|(of, count)| of == *workload && is_broken(of, count));
        answer.edges.iter().any(breaks)
    };
    for workload in propagation.iter().filter(is_shown) {
        let _ = writeln!(text, "\n{}", workload.finding); // to a String: cannot fail
    }
    text
}

/// Of what a client sent to the Service of an edge.
fn find<'a>(
    edge: &Edge,
    propagation: &'a [WorkloadPropagation],
) -> Option<(&'a WorkloadPropagation, &'a PropagationCount)> {
    let (source, service) = (edge.source.as_ref()?, edge.service.as_ref()?);
    let own = format!("{}/{}", source.kind, source.name);
    let is_own = |workload: &&WorkloadPropagation| workload.namespace == source.namespace && workload.workload == own;
    let workload = propagation.iter().find(is_own)?;
    let target = format!(
        "{}.{}.svc.{CLUSTER_DOMAIN}:{}",
        service.name, service.namespace, service.part
    );
    let count = workload.targets.iter().find(|count| count.target == target)?;
    Some((workload, count))
}

fn is_broken(workload: &WorkloadPropagation, count: &PropagationCount) -> bool {
    workload.breaks && count.without_context > count.with_context
}
