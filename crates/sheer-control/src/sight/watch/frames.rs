//! Frames of the proxies of a workload, as one stream.

use std::{collections::HashSet, sync::Arc};

use futures::{
    FutureExt as _,
    future::{Either, ready},
    stream::{self, BoxStream, StreamExt as _},
};
use sheer_api::v1::{self, frame_event::Event};
use tonic::Status;

use super::{Hidden, is_hidden, name, names, peers::Peers, rights, select, until_revoked};
use crate::{
    objects::Pod,
    sight::{
        Sight,
        asker::{Asker, Right},
        dump,
        hidden::Latest,
    },
    store::{Snapshot, Store},
};

/// Events that are read ahead, of one proxy: of the failures among them the other halves are asked about together, as each question waits for others.
const READ_AHEAD: usize = 2_048;

/// Frames as they come, those of one proxy in their order.
pub(in crate::sight) async fn frames(
    sight: &Sight,
    asked: v1::WatchFramesRequest,
    asker: &Asker,
) -> Result<BoxStream<'static, Result<v1::FrameEvent, Status>>, Status> {
    let snapshot = sight.snapshot();
    let question = asked.asked.unwrap_or_default();
    let peers = Peers::new(sight, asker);
    let mut streams = Vec::new();
    for asked in select(sight, &snapshot, asked.of, (asker, Right::Frames, "frames"))? {
        let pod = asked.pod;
        let question = v1::FramesRequest {
            rights: Some(rights(sight, &snapshot, asker)),
            ..question.clone()
        };
        let opened = match asked.why_not {
            Some(why) => Err(why),
            None => match sight.proxies.connect(&sight.config, &pod).await {
                Ok(mut proxy) => proxy.frames(question).await,
                Err(why) => Err(why),
            },
        };
        match opened {
            Ok(events) => {
                let events = one((sight.store.clone(), Arc::clone(&sight.hidden)), pod, events);
                let peers = Arc::clone(&peers);
                let judging = events.map(move |event| {
                    if event.as_ref().is_ok_and(is_failure) {
                        let peers = Arc::clone(&peers);
                        Either::Right(async move { Ok(judged(peers, event?).await) }.boxed())
                    } else {
                        Either::Left(ready(event))
                    }
                });
                streams.push(judging.buffered(READ_AHEAD).boxed());
            }
            Err(why) => streams.push(stream::once(async move { Ok(note(&pod, why)) }).boxed()),
        }
    }
    // Each to its end, unless they go on.
    let frames = if question.follow {
        stream::select_all(streams).boxed()
    } else {
        stream::iter(streams).flatten().boxed()
    };
    Ok(until_revoked(asker, frames))
}

pub(super) fn note(pod: &Pod, why: String) -> v1::FrameEvent {
    v1::FrameEvent {
        event: Some(Event::Note(why)),
        pod: name(pod),
    }
}

/// The events of one proxy, with names, and without what nobody may see.
pub(super) fn one(
    (store, latest): (Store, Arc<Latest>),
    pod: Arc<Pod>,
    events: tonic::Streaming<v1::FrameEvent>,
) -> BoxStream<'static, Result<v1::FrameEvent, Status>> {
    let own = name(&pod);
    let mut shown = Shown::default();
    let events = events.filter_map(move |event| {
        let event = match event {
            Ok(mut event) => {
                let snapshot = store.latest();
                own.clone_into(&mut event.pod);
                let of_pod = (own.as_str(), &*dump::workload(&snapshot, &pod));
                let may =
                    !is_hidden(&snapshot, &pod) && shown.may(&snapshot, &latest.of(&snapshot), of_pod, &mut event);
                may.then_some(Ok(event))
            }
            Err(status) => Some(Ok(note(&pod, status.message().to_owned()))),
        };
        ready(event)
    });
    events.boxed()
}

/// What is known of the events that came before.
#[derive(Default)]
struct Shown {
    /// Connections that nobody may look at.
    hidden: HashSet<u64>,
    /// Connections to the application: they carry requests of everybody.
    to_app: HashSet<u64>,
    /// What comes belongs to a failure that nobody may look at.
    is_failure_hidden: bool,
    /// Or to one of a request that may be shown: its connection and stream to the application.
    of_failure: Option<(u64, u32)>,
}

impl Shown {
    /// Whether an event may be shown; names are filled in.
    fn may(&mut self, snapshot: &Snapshot, hidden: &Hidden, own: (&str, &str), event: &mut v1::FrameEvent) -> bool {
        if let Some(Event::Failure(failure)) = &event.event {
            let exchange = failure.exchange.as_ref();
            self.is_failure_hidden = exchange.is_some_and(|exchange| hidden.hides(exchange, "", ""))
                || failure
                    .caller
                    .as_ref()
                    .is_some_and(|caller| hidden.hides_caller(caller))
                // Both lists of a block to the application, of whom nobody knows.
                || (failure.disagreement.is_some()
                    && failure.caller.is_none()
                    && exchange.is_none()
                    && !hidden.is_nothing());
            let upstream = exchange.and_then(|exchange| exchange.upstream.as_ref());
            self.of_failure = upstream.map(|leg| (leg.connection, leg.stream));
        }
        match event.event.as_mut() {
            Some(Event::Note(_) | Event::Dropped(_)) => true,
            None => false,
            Some(_) if self.is_failure_hidden => false,
            Some(Event::Failure(_)) => true,
            Some(Event::Connection(connection)) => {
                if connection.peer == "app" && connection.direction == "inbound" {
                    self.to_app.insert(connection.id);
                }
                let may = names::fill(snapshot, hidden, connection, own);
                if !may {
                    self.hidden.insert(connection.id);
                }
                may
            }
            Some(Event::Frame(frame)) if self.hidden.contains(&frame.connection) => false,
            Some(Event::Frame(frame)) => {
                let is_its_own = self.of_failure == Some((frame.connection, frame.stream));
                let is_of_stream = frame.stream != 0 && !is_its_own && self.to_app.contains(&frame.connection);
                // Of whom nobody knows is not shown where there is anybody to hide.
                let may = |caller: &v1::Caller| !hidden.hides_caller(caller);
                !is_of_stream || hidden.is_nothing() || frame.caller.as_ref().is_some_and(may)
            }
        }
    }
}

fn is_failure(event: &v1::FrameEvent) -> bool {
    matches!(event.event, Some(Event::Failure(_)))
}

/// A failure that is what the other end answered has the verdict of the sidecar there, as in the tap: where that cannot be asked, the one that the answer
/// itself names.
async fn judged(peers: Arc<Peers>, mut event: v1::FrameEvent) -> v1::FrameEvent {
    let Some(Event::Failure(failure)) = &mut event.event else {
        return event;
    };
    let exchange = failure.exchange.as_ref().filter(|_| failure.passed_on);
    let upstream = exchange.and_then(|exchange| exchange.upstream.as_ref());
    if let Some(upstream) = upstream.filter(|upstream| upstream.mesh) {
        let (verdict, reason) = match peers.inbound_of(upstream, true).await {
            Ok(view) => (view.verdict, view.reason),
            Err(_) => (failure.named_verdict.clone(), failure.named_reason.clone()),
        };
        if !reason.is_empty() {
            (failure.verdict, failure.reason) = (verdict, reason);
        }
    }
    event
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sight::hidden::tests::shop_now;

    const WEB: &str = "10.77.0.4";
    const QUIET: &str = "10.77.0.5";

    fn connection(id: u64, direction: &str, peer: &str, remote: &str) -> Event {
        Event::Connection(v1::Connection {
            id,
            direction: direction.to_owned(),
            peer: peer.to_owned(),
            remote: remote.to_owned(),
            ..v1::Connection::default()
        })
    }

    fn caller(address: &str, mesh: bool) -> v1::Caller {
        v1::Caller {
            address: address.to_owned(),
            mesh,
        }
    }

    fn frame(connection: u64, stream: u32, caller: Option<v1::Caller>) -> Event {
        Event::Frame(v1::Frame {
            connection,
            stream,
            caller,
            ..v1::Frame::default()
        })
    }

    fn failure(exchange: Option<v1::Exchange>, caller: Option<v1::Caller>) -> Event {
        Event::Failure(v1::Failure {
            exchange,
            caller,
            ..v1::Failure::default()
        })
    }

    fn from(remote: &str) -> Option<v1::Exchange> {
        Some(v1::Exchange {
            direction: "inbound".to_owned(),
            client: Some(v1::Leg {
                remote: format!("{remote}:4000"),
                ..v1::Leg::default()
            }),
            ..v1::Exchange::default()
        })
    }

    fn to_app(exchange: Option<v1::Exchange>, connection: u64, stream: u32) -> Option<v1::Exchange> {
        let upstream = Some(v1::Leg {
            connection,
            stream,
            ..v1::Leg::default()
        });
        exchange.map(|exchange| v1::Exchange { upstream, ..exchange })
    }

    /// What is shown of a callee's proxy, one after another.
    fn shown(events: impl IntoIterator<Item = Event>) -> Vec<bool> {
        let snapshot = shop_now();
        let hidden = Hidden::of(&snapshot);
        let mut shown = Shown::default();
        let may = |event| {
            let mut event = v1::FrameEvent {
                event: Some(event),
                pod: String::new(),
            };
            shown.may(&snapshot, &hidden, ("shop/web-0", "deploy/web"), &mut event)
        };
        events.into_iter().map(may).collect()
    }

    /// One connection carries requests of everybody: those of a hidden caller do not show, and neither do those of whom nobody knows.
    #[test]
    fn requests_of_a_hidden_caller_do_not_show_on_the_way_to_the_application() {
        let events = [
            connection(1, "inbound", "mesh", &format!("{QUIET}:4000")),
            frame(1, 1, None),
            connection(2, "inbound", "app", "10.77.0.4:8080"),
            frame(2, 0, None),
            frame(2, 1, Some(caller(QUIET, true))),
            frame(2, 3, Some(caller(WEB, true))),
            frame(2, 5, None),
            frame(2, 7, Some(caller("10.77.0.8", true))),
            frame(2, 9, Some(caller("192.0.2.1", false))),
            // What an application sends goes where its connection goes.
            connection(3, "outbound", "app", "10.77.0.4:4000"),
            frame(3, 1, None),
        ];
        let expected = [false, false, true, true, false, true, false, false, true, true, true];
        assert_eq!(shown(events), expected);
    }

    /// Nor do its connections and frames, where the failure itself does not.
    #[test]
    fn nothing_of_a_hidden_failure_shows() {
        let app = || connection(2, "inbound", "app", "10.77.0.4:8080");
        let events = [
            failure(from(QUIET), None),
            app(),
            frame(2, 0, None),
            failure(from(WEB), None),
            app(),
            frame(2, 3, Some(caller(WEB, true))),
            // Its own stream, also where the caller is forgotten; not another one.
            failure(to_app(from(WEB), 2, 9), None),
            app(),
            frame(2, 9, None),
            frame(2, 11, None),
            // Both lists of a disagreement.
            failure(None, Some(caller(QUIET, true))),
            app(),
            failure(None, Some(caller(WEB, true))),
        ];
        let expected = [
            false, false, false, true, true, true, true, true, true, false, false, false, true,
        ];
        assert_eq!(shown(events), expected);
    }
}
