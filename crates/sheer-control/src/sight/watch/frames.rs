//! Frames of the proxies of a workload, as one stream.

use std::{collections::HashSet, sync::Arc};

use futures::stream::{self, BoxStream, StreamExt as _};
use sheer_api::v1::{self, frame_event::Event};
use tonic::Status;

use super::{is_hidden, name, names, rights, select, until_revoked};
use crate::{
    objects::Pod,
    sight::{
        Sight,
        asker::{Asker, Right},
        dump,
        hidden::Latest,
    },
    store::Store,
};

/// Frames as they come, those of one proxy in their order.
pub(in crate::sight) async fn frames(
    sight: &Sight,
    asked: v1::WatchFramesRequest,
    asker: &Asker,
) -> Result<BoxStream<'static, Result<v1::FrameEvent, Status>>, Status> {
    let snapshot = sight.snapshot();
    let question = asked.asked.unwrap_or_default();
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
            Ok(events) => streams.push(one((sight.store.clone(), Arc::clone(&sight.hidden)), pod, events)),
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
    mesh: (Store, Arc<Latest>),
    pod: Arc<Pod>,
    events: tonic::Streaming<v1::FrameEvent>,
) -> BoxStream<'static, Result<v1::FrameEvent, Status>> {
    let own = name(&pod);
    let mut hidden: HashSet<u64> = HashSet::new();
    let shown = events.filter_map(move |event| {
        let shown = match event {
            Ok(event) => show(&mesh, &pod, &own, event, &mut hidden).map(Ok),
            Err(status) => Some(Ok(note(&pod, status.message().to_owned()))),
        };
        futures::future::ready(shown)
    });
    shown.boxed()
}

fn show(
    (store, latest): &(Store, Arc<Latest>),
    pod: &Pod,
    own: &str,
    mut event: v1::FrameEvent,
    hidden: &mut HashSet<u64>,
) -> Option<v1::FrameEvent> {
    let snapshot = store.latest();
    let places = latest.of(&snapshot);
    own.clone_into(&mut event.pod);
    if is_hidden(&snapshot, pod) {
        return None;
    }
    match event.event.as_mut()? {
        Event::Connection(connection) => {
            let workload = dump::workload(&snapshot, pod);
            if !names::fill(&snapshot, &places, connection, (own, &workload)) {
                hidden.insert(connection.id);
                return None;
            }
        }
        Event::Frame(frame) if hidden.contains(&frame.connection) => return None,
        Event::Failure(failure) => {
            let hides = |exchange: &v1::Exchange| places.hides(exchange, "", "");
            if failure.exchange.as_ref().is_some_and(hides) {
                return None;
            }
        }
        Event::Frame(_) | Event::Dropped(_) | Event::Note(_) => {}
    }
    Some(event)
}
