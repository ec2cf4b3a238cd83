//! A request at the four points, and where they differ.
//!
//! What Sheer says that it does (`docs/headers.md`) is told apart from what nobody can explain; what a route does is said with the route. A value that was replaced
//! by a hash is compared by its hash: every proxy hashes with the same key.

mod by_route;
mod compare;

use std::sync::Arc;

use sheer_api::v1;
use tonic::Status;

use super::{Sight, name, names, peers::Peers, rights, select};
use crate::sight::{
    asker::{Asker, Right},
    connect::Proxy,
    view::View,
};
use by_route::ByRoute;

/// The request that is meant, or the last ones.
pub(in crate::sight) async fn diff(
    sight: &Sight,
    asked: v1::WatchDiffRequest,
    asker: &Asker,
) -> Result<v1::WatchDiffResponse, Status> {
    let snapshot = sight.snapshot();
    let (of, id) = which(&asked)?;
    let peers = Peers::new(sight, asker);
    let question = v1::ExchangesRequest {
        id,
        trace: asked.trace.clone(),
        failed: asked.failed,
        limit: 1,
        ..v1::ExchangesRequest::default()
    };
    let questions = of_wire(question, asked.wire.as_ref());
    let mut answer = v1::WatchDiffResponse::default();
    let mut found: Vec<(String, String, v1::ExchangeView)> = Vec::new();
    for one in select(sight, &snapshot, Some(of), (asker, Right::Tap, "diff"))? {
        let pod = one.pod;
        let rights = rights(sight, &snapshot, asker);
        let views = match one.why_not {
            Some(why) => Err(why),
            None => match sight.proxies.connect(&sight.config, &pod).await {
                Ok(proxy) => first_of(proxy, &questions, &rights).await,
                Err(why) => Err(why),
            },
        };
        match views {
            Ok(views) => found.extend(
                views
                    .into_iter()
                    .map(|view| (name(&pod), pod.metadata.name.clone(), view)),
            ),
            Err(why) => answer.notes.push(format!("{}: {why}", name(&pod))),
        }
    }
    // The latest of all proxies.
    let started = |view: &v1::ExchangeView| view.exchange.as_ref().map_or(0, |exchange| exchange.started_us);
    found.sort_by_key(|(_, _, view)| std::cmp::Reverse(started(view)));
    found.truncate(1);
    let control = sight.view(snapshot);
    for (own, pod, view) in found {
        match Box::pin(whole(&peers, &control, (own, &pod), view)).await {
            Some(diff) => answer.requests.push(diff),
            None => answer
                .notes
                .push("sight is disabled for the workload at the other end".to_owned()),
        }
    }
    if answer.requests.is_empty() && answer.notes.is_empty() {
        answer.notes.push(nothing(asked.failed).to_owned());
    }
    Ok(answer)
}

/// Why nothing is shown: of requests that failed, or of any.
fn nothing(failed: bool) -> &'static str {
    if failed {
        "nothing failed of late: proxies keep the last 200 failures of each half; without --failed the last request is shown"
    } else {
        "no such request is recorded: proxies remember the last 512 of each half, and for longer those that failed or that a tap has shown"
    }
}

/// A question for the request that a stream between two proxies carried: one for the proxy of the caller, and one for that of the callee, as nobody knows here which
/// of them is asked. Without a stream, the question as it is.
fn of_wire(question: v1::ExchangesRequest, wire: Option<&v1::Leg>) -> Vec<v1::ExchangesRequest> {
    let Some(wire) = wire else { return vec![question] };
    let mirrored = v1::Leg {
        local: wire.remote.clone(),
        remote: wire.local.clone(),
        ..wire.clone()
    };
    let callers = v1::ExchangesRequest {
        upstreams: vec![wire.clone()],
        ..question.clone()
    };
    let callees = v1::ExchangesRequest {
        clients: vec![mirrored],
        ..question
    };
    vec![callers, callees]
}

/// The answer to the first question to which a proxy knows one.
async fn first_of(
    mut proxy: Proxy,
    questions: &[v1::ExchangesRequest],
    rights: &v1::Rights,
) -> Result<Vec<v1::ExchangeView>, String> {
    for question in questions {
        let question = v1::ExchangesRequest {
            rights: Some(rights.clone()),
            ..question.clone()
        };
        let found = proxy.exchanges(question).await?.exchanges;
        if !found.is_empty() {
            return Ok(found);
        }
    }
    Ok(Vec::new())
}

/// An id as the tap prints it names the pod whose proxy counted the request.
fn which(asked: &v1::WatchDiffRequest) -> Result<(v1::Selection, u64), Status> {
    let of = asked.of.clone().unwrap_or_default();
    if asked.request_id.is_empty() {
        return Ok((of, 0));
    }
    let wrong = || {
        Status::invalid_argument(format!(
            "{:?} is no id of a request; `sheer tap` prints them, as web-0/41",
            asked.request_id
        ))
    };
    let (pod, id) = asked.request_id.rsplit_once('/').ok_or_else(wrong)?;
    let id = id.parse().ok().filter(|id| *id > 0).ok_or_else(wrong)?;
    let workload = format!("pod/{pod}");
    Ok((v1::Selection { workload, ..of }, id))
}

/// What a request was sent to, where that is still recorded.
fn called(view: &v1::ExchangeView) -> String {
    let tapped = view.tapped.as_ref();
    tapped.map_or_else(String::new, |tapped| tapped.destination.clone())
}

/// Both halves of a request, compared. None where one of them nobody may see.
async fn whole(
    peers: &Arc<Peers>,
    control: &View,
    (own, pod): (String, &str),
    view: v1::ExchangeView,
) -> Option<v1::RequestDiff> {
    let snapshot = &*control.snapshot;
    let exchange = view.exchange.clone().unwrap_or_default();
    if peers.hidden(snapshot).hides(&exchange, &called(&view), "") {
        return None;
    }
    let place = |address: &str| {
        let (pod, _) = names::pod_at(snapshot, address);
        if pod.is_empty() { address.to_owned() } else { pod }
    };
    let mut diff = v1::RequestDiff {
        request_id: format!("{pod}/{}", exchange.id),
        ..v1::RequestDiff::default()
    };
    if exchange.direction == "outbound" {
        if let Some(upstream) = &exchange.upstream {
            diff.destination = place(&upstream.remote);
            match peers.inbound_of(upstream, false).await {
                Ok(view) => diff.inbound = Some(view),
                Err(why) => diff.missing = why,
            }
        } else {
            "it was sent nowhere".clone_into(&mut diff.missing);
        }
        (diff.source, diff.outbound) = (own, Some(view));
    } else {
        if let Some(client) = &exchange.client {
            diff.source = place(&client.remote);
            match peers.outbound_of(client, false).await {
                Ok(view) => diff.outbound = Some(view),
                Err(why) => diff.missing = why,
            }
        }
        (diff.destination, diff.inbound) = (own, Some(view));
    }
    let by_route = ByRoute::of(control, &diff).await;
    diff.differences = compare::differences(&diff, &by_route);
    Some(diff)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_failure_is_not_no_request() {
        assert!(nothing(true).starts_with("nothing failed of late"));
        assert!(nothing(false).starts_with("no such request is recorded"));
    }

    #[test]
    fn a_stream_is_asked_for_as_the_caller_and_as_the_callee_has_it() {
        let wire = v1::Leg {
            local: "10.77.0.6:40000".to_owned(),
            remote: "10.77.0.5:9000".to_owned(),
            stream: 31,
            ..v1::Leg::default()
        };
        let question = v1::ExchangesRequest {
            limit: 1,
            ..v1::ExchangesRequest::default()
        };
        let questions = of_wire(question.clone(), Some(&wire));
        assert_eq!(
            (&*questions[0].upstreams, &*questions[0].clients),
            (std::slice::from_ref(&wire), &[][..])
        );
        let callees = questions[1].clients.first().unwrap();
        assert_eq!(
            (&*callees.local, &*callees.remote, callees.stream),
            ("10.77.0.5:9000", "10.77.0.6:40000", 31)
        );
        assert!(questions[1].upstreams.is_empty() && questions.iter().all(|question| question.limit == 1));
        assert_eq!(of_wire(question.clone(), None), vec![question]);
    }
}
