//! Which events of a tap may be shown: a request is judged before anything of it is, and its bodies share what becomes of it.

use std::collections::BTreeMap;

use sheer_api::v1::{self, tap_event::Event};

use crate::sight::hidden::{Hidden, Verdict};

/// Requests that are remembered, of one proxy; of older ones nothing more is shown.
const REMEMBERED: usize = 4_096;
/// Events of a request that wait until its endpoint is known.
const WAITING: usize = 64;

/// Judges the events of one proxy, in their order.
#[derive(Default)]
pub(super) struct Judge(BTreeMap<u64, Judged>);

enum Judged {
    Shown,
    Hidden,
    /// Until an endpoint is chosen.
    Waiting(Vec<v1::TapEvent>),
}

impl Judge {
    /// What may be shown now: nothing, this event, or this one after those that waited for it.
    pub(super) fn take(&mut self, hidden: &Hidden, event: v1::TapEvent) -> Vec<v1::TapEvent> {
        match &event.event {
            Some(Event::Request(request)) => {
                let exchange = request.exchange.clone().unwrap_or_default();
                let is_end = request.kind == "end";
                let tried = request
                    .passed_over
                    .iter()
                    .any(|attempt| hidden.is_at(&attempt.endpoint));
                let verdict = match hidden.judge(&exchange, &request.destination, &request.endpoint) {
                    // It never got so far that anybody could tell.
                    Verdict::Unknown if is_end => Verdict::Hidden,
                    _ if tried => Verdict::Hidden,
                    verdict => verdict,
                };
                let shown = self.request(exchange.id, verdict, event);
                if is_end {
                    self.0.remove(&exchange.id);
                }
                shown
            }
            Some(Event::Body(body)) => match self.0.get_mut(&body.id) {
                Some(Judged::Shown) => vec![event],
                Some(Judged::Waiting(events)) => {
                    if events.len() < WAITING {
                        events.push(event);
                    }
                    Vec::new()
                }
                // Nobody knows whose it is.
                Some(Judged::Hidden) | None => Vec::new(),
            },
            _ => vec![event],
        }
    }

    fn request(&mut self, id: u64, verdict: Verdict, event: v1::TapEvent) -> Vec<v1::TapEvent> {
        let before = self.0.remove(&id);
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
        self.0.insert(id, judged);
        if self.0.len() > REMEMBERED {
            self.0.pop_first();
        }
        shown
    }
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
            event: Some(Event::Request(v1::TappedRequest {
                kind: kind.to_owned(),
                exchange: Some(exchange),
                endpoint: endpoint.to_owned(),
                ..v1::TappedRequest::default()
            })),
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
