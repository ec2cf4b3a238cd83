//! Which events of a tap are shown: a request is judged before anything of it is, and its bodies share what becomes of it.

use std::{collections::BTreeMap, sync::Arc};

use sheer_api::v1::{self, tap_event::Event};

use super::together::Together;
use crate::sight::hidden::{Hidden, Verdict};

/// Requests that are remembered, of one proxy; of older ones nothing more is shown.
const REMEMBERED: usize = 4_096;
/// Events of a request that wait until its endpoint is known.
const WAITING: usize = 64;

/// Judges the events of one proxy, in their order.
#[derive(Default)]
pub(super) struct Judge {
    known: BTreeMap<u64, Judged>,
    /// What all proxies that are watched may show together; each has a rate of its own.
    together: Option<Arc<Together>>,
}

enum Judged {
    Shown,
    /// Nobody may look at it, or it is beyond the rate.
    Hidden,
    /// Until an endpoint is chosen.
    Waiting(Vec<v1::TapEvent>),
}

impl Judge {
    /// One of several whose proxies show so much together.
    pub(super) fn new(together: Option<Arc<Together>>) -> Self {
        Self {
            together,
            ..Self::default()
        }
    }

    /// What is shown now: nothing, this event, or this one after those that waited for it.
    pub(super) fn take(&mut self, hidden: &Hidden, event: v1::TapEvent) -> Vec<v1::TapEvent> {
        let (id, verdict, is_end, is_kept) = match &event.event {
            Some(Event::Request(request)) => {
                let is_end = request.kind == "end";
                let (id, verdict) = judge(hidden, request, is_end);
                (id, verdict, is_end, request.kept)
            }
            Some(Event::Connection(connection)) if is_hidden_connection(hidden, connection) => return Vec::new(),
            // One alone needs no count of them; those that were kept have other numbers.
            Some(Event::Connection(connection)) if self.together.is_some() && !connection.kept => {
                (connection.id, Verdict::Shown, connection.kind == "end", false)
            }
            Some(Event::Body(body)) => {
                return match self.known.get_mut(&body.id) {
                    Some(Judged::Shown) => vec![event],
                    Some(Judged::Waiting(events)) => {
                        if events.len() < WAITING {
                            events.push(event);
                        }
                        Vec::new()
                    }
                    // Nobody knows whose it is.
                    Some(Judged::Hidden) | None => Vec::new(),
                };
            }
            _ => return vec![event],
        };
        let shown = if is_kept || self.admits(id, verdict) {
            self.judged(id, verdict, event)
        } else {
            self.remember(id, Judged::Hidden);
            Vec::new()
        };
        if is_end {
            self.known.remove(&id);
        }
        shown
    }

    /// Whether the rate allows it, where this is the first that is told of it.
    fn admits(&self, id: u64, verdict: Verdict) -> bool {
        let is_new = verdict != Verdict::Hidden && !self.known.contains_key(&id);
        !is_new || self.together.as_ref().is_none_or(|together| together.admits())
    }

    fn remember(&mut self, id: u64, judged: Judged) {
        self.known.insert(id, judged);
        if self.known.len() > REMEMBERED {
            self.known.pop_first();
        }
    }

    fn judged(&mut self, id: u64, verdict: Verdict, event: v1::TapEvent) -> Vec<v1::TapEvent> {
        let before = self.known.remove(&id);
        let (judged, shown) = match (before, verdict) {
            (Some(Judged::Hidden), _) | (_, Verdict::Hidden) => (Judged::Hidden, Vec::new()),
            (Some(Judged::Waiting(mut events)), Verdict::Shown) => {
                events.push(event);
                (Judged::Shown, events)
            }
            (_, Verdict::Shown) => (Judged::Shown, vec![event]),
            (Some(Judged::Waiting(mut events)), Verdict::Unknown) => {
                events.push(event);
                (Judged::Waiting(events), Vec::new())
            }
            (_, Verdict::Unknown) => (Judged::Waiting(vec![event]), Vec::new()),
        };
        self.remember(id, judged);
        shown
    }
}

/// A request by its number, and whether it may be shown.
fn judge(hidden: &Hidden, request: &v1::TappedRequest, is_end: bool) -> (u64, Verdict) {
    let none = v1::Exchange::default();
    let exchange = request.exchange.as_ref().unwrap_or(&none);
    let mut attempts = request.passed_over.iter();
    let verdict = match hidden.judge(exchange, &request.destination, &request.endpoint) {
        // It never got so far that anybody could tell.
        Verdict::Unknown if is_end => Verdict::Hidden,
        _ if attempts.any(|attempt| hidden.is_at(&attempt.endpoint)) => Verdict::Hidden,
        verdict => verdict,
    };
    (exchange.id, verdict)
}

/// Whether nobody may look at a relayed connection.
fn is_hidden_connection(hidden: &Hidden, connection: &v1::TappedConnection) -> bool {
    let exchange = v1::Exchange {
        direction: connection.direction.clone(),
        client: connection.client.clone(),
        upstream: connection.upstream.clone(),
        ..v1::Exchange::default()
    };
    hidden.hides(&exchange, &connection.destination, "")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sight::hidden::tests::shop;

    fn request(id: u64, kind: &str, original: &str, endpoint: &str) -> v1::TapEvent {
        let leg = |remote: &str, original: &str| v1::Leg {
            remote: remote.to_owned(),
            original: original.to_owned(),
            ..v1::Leg::default()
        };
        let exchange = v1::Exchange {
            id,
            direction: "outbound".to_owned(),
            client: Some(leg("10.77.0.9:1", original)),
            upstream: (!endpoint.is_empty()).then(|| leg(endpoint, "")),
            ..v1::Exchange::default()
        };
        v1::TapEvent {
            event: Some(Event::Request(Box::new(v1::TappedRequest {
                kind: kind.to_owned(),
                exchange: Some(exchange),
                endpoint: endpoint.to_owned(),
                ..v1::TappedRequest::default()
            }))),
            pod: String::new(),
        }
    }

    fn body(id: u64) -> v1::TapEvent {
        let body = v1::TappedBody {
            id,
            ..v1::TappedBody::default()
        };
        v1::TapEvent {
            event: Some(Event::Body(body)),
            pod: String::new(),
        }
    }

    #[test]
    fn proxies_that_are_watched_together_show_one_rate() {
        let hidden = shop();
        let together = Together::of(2, 3);
        let [mut busy, mut quiet] = [(); 2].map(|()| Judge::new(together.clone()));
        let other = "1.1.1.1:80";
        for id in [1, 2] {
            for kind in ["request", "end"] {
                let shown = busy.take(&hidden, request(id, kind, other, other));
                assert_eq!(shown.len(), 1, "{id} {kind}");
            }
        }
        // What nobody may see takes nothing from it.
        assert_eq!(quiet.take(&hidden, request(4, "request", "10.96.0.3:80", "")).len(), 0);
        assert_eq!(quiet.take(&hidden, request(1, "request", other, "")).len(), 1);
        // The rate is used up, whoever it is: nothing of one more is shown.
        assert_eq!(
            [
                busy.take(&hidden, request(3, "request", other, "")),
                busy.take(&hidden, body(3)),
                busy.take(&hidden, request(3, "end", other, other))
            ]
            .map(|shown| shown.len()),
            [0; 3]
        );
        assert_eq!(
            quiet.take(&hidden, request(1, "end", other, other)).len(),
            1,
            "it began in time"
        );
        // What was kept is shown.
        let mut kept = request(5, "end", other, other);
        if let Some(Event::Request(request)) = &mut kept.event {
            request.kept = true;
        }
        assert_eq!(quiet.take(&hidden, kept).len(), 1);
    }

    #[test]
    fn bodies_share_the_fate_of_their_request() {
        let hidden = shop();
        let mut judge = Judge::default();
        let mut shown = |event| judge.take(&hidden, event).len();
        let (quiet, split) = ("10.96.0.3:80", "10.96.0.5:80");
        // To a hidden workload: from the head on, also where the proxy answers itself.
        assert_eq!(
            [
                shown(request(1, "request", quiet, "")),
                shown(body(1)),
                shown(request(1, "end", quiet, ""))
            ],
            [0; 3]
        );
        // To another.
        let other = "1.1.1.1:80";
        assert_eq!(
            [
                shown(request(2, "request", other, "")),
                shown(body(2)),
                shown(request(2, "end", other, other))
            ],
            [1; 3]
        );
        assert_eq!(shown(body(2)), 0, "it is over");
        assert_eq!(shown(body(9)), 0, "nobody knows whose it is");
        // Where a rule may send it to either, nothing is shown until it is known.
        assert_eq!([shown(request(3, "request", split, "")), shown(body(3))], [0; 2]);
        assert_eq!(shown(request(3, "response", split, "10.77.0.4:80")), 3);
        assert_eq!([shown(request(4, "request", split, "")), shown(body(4))], [0; 2]);
        assert_eq!(
            [shown(request(4, "response", split, "10.77.0.5:80")), shown(body(4))],
            [0; 2]
        );
        assert_eq!(
            [
                shown(request(5, "request", split, "")),
                shown(request(5, "end", split, ""))
            ],
            [0; 2]
        );
    }
}
