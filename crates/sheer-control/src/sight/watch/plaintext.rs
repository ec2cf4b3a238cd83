//! What proxies read and write above TLS, for a packet capture without packets: their frames and their bodies from now on, secrets replaced by the proxies.
//!
//! It needs two rights: `capture`, as it shows everything that passes, and `bodies`, as these are in it.

use std::{collections::HashSet, sync::Arc};

use futures::stream::{self, BoxStream, StreamExt as _};
use sheer_api::v1::{self, frame_event, plaintext_event::Event, tap_event};
use tonic::Status;

use super::{
    Asked, frames, is_hidden, judge::Judge, looked, reflect, refused, rights, select, together::Together, until_revoked,
};
use crate::{
    objects::Pod,
    sight::{
        Sight,
        asker::{Asker, Right},
        connect::Proxy,
        hidden::Latest,
    },
    store::Store,
};

type Events = BoxStream<'static, Result<v1::PlaintextEvent, Status>>;

/// Events as they come. With the answer every proxy that can be asked shows what is new.
pub(in crate::sight) async fn plaintext(
    sight: &Sight,
    asked: v1::WatchPlaintextRequest,
    asker: &Asker,
) -> Result<Events, Status> {
    let snapshot = sight.snapshot();
    let of = asked.of.clone().unwrap_or_default();
    let pods = select(sight, &snapshot, asked.of, (asker, Right::Capture, "plaintext"))?;
    let named = (of.workload.as_str(), of.namespace.as_str());
    for one in &pods {
        let may = asker.must(&snapshot, &one.pod, Right::Bodies);
        may.inspect_err(|why| refused(("plaintext", Right::Bodies.name()), asker, named, why))?;
    }
    looked(("plaintext", Right::Bodies.name()), asker, named);
    let mut descriptors = asked.descriptors;
    descriptors.extend(reflect::descriptors(sight, &snapshot, (&pods, &[]), asker).await);
    // Who holds these two rights sees what the others show.
    let rights = v1::Rights {
        tap: true,
        frames: true,
        ..rights(sight, &snapshot, asker)
    };
    let frames = v1::FramesRequest {
        rights: Some(rights.clone()),
        follow: true,
        only_new: true,
        ..v1::FramesRequest::default()
    };
    let together = Together::of(pods.len(), asked.rate);
    let tap = v1::TapRequest {
        rights: Some(rights),
        rate: asked.rate,
        bodies: asked.bodies,
        descriptors,
        wire: true,
        ..v1::TapRequest::default()
    };
    let mesh = (sight.store.clone(), Arc::clone(&sight.hidden));
    let losses = stream::iter(together.as_ref().map(Together::losses)).flatten();
    let losses = losses.map(|loss| {
        Ok(tapped(v1::TapEvent {
            event: Some(tap_event::Event::Loss(loss)),
            pod: String::new(),
        }))
    });
    let mut streams = vec![losses.boxed()];
    for Asked { pod, why_not } in pods {
        let opened = match why_not {
            Some(why) => Err(why),
            None => match sight.proxies.connect(&sight.config, &pod).await {
                Ok(proxy) => {
                    of_proxy(
                        proxy,
                        (frames.clone(), tap.clone()),
                        (&mesh, &pod),
                        Judge::new(together.clone()),
                    )
                    .await
                }
                Err(why) => Err(why),
            },
        };
        streams.push(match opened {
            Ok(events) => events,
            Err(why) => {
                let note = frame(frames::note(&pod, why));
                stream::once(async move { Ok(note) }).boxed()
            }
        });
    }
    Ok(until_revoked(asker, stream::select_all(streams).boxed()))
}

/// Both streams of one proxy.
async fn of_proxy(
    mut proxy: Proxy,
    (frames, tap): (v1::FramesRequest, v1::TapRequest),
    (mesh, pod): (&(Store, Arc<Latest>), &Arc<Pod>),
    judge: Judge,
) -> Result<Events, String> {
    let tap = proxy.tap(tap).await?;
    let frames = proxy.frames(frames).await?;
    let frames = frames::one(mesh.clone(), Arc::clone(pod), frames);
    let frames = between_sidecars(mesh.clone(), frames).map(|event| event.map(frame));
    let tap = requests(mesh.clone(), Arc::clone(pod), (judge, tap));
    Ok(stream::select(frames, tap).boxed())
}

/// Where anything in the mesh is hidden: without what a sidecar and its application say to each other, which may be of requests from or to anybody. Of connections
/// with others it is known who is at the other end.
fn between_sidecars(
    (store, latest): (Store, Arc<Latest>),
    events: BoxStream<'static, Result<v1::FrameEvent, Status>>,
) -> impl futures::Stream<Item = Result<v1::FrameEvent, Status>> {
    let mut own = HashSet::new();
    events.filter(move |event| {
        let is_own = match event.as_ref().ok().and_then(|event| event.event.as_ref()) {
            Some(frame_event::Event::Connection(connection)) if connection.peer == "app" => own.insert(connection.id),
            Some(frame_event::Event::Frame(frame)) => own.contains(&frame.connection),
            _ => false,
        };
        let is_shown = !is_own || latest.of(&store.latest()).is_nothing();
        futures::future::ready(is_shown)
    })
}

fn tapped(event: v1::TapEvent) -> v1::PlaintextEvent {
    v1::PlaintextEvent {
        event: Some(Event::Tap(event)),
    }
}

fn frame(event: v1::FrameEvent) -> v1::PlaintextEvent {
    v1::PlaintextEvent {
        event: Some(Event::Frame(event)),
    }
}

/// The requests of one proxy with their bodies, and without what nobody may see.
fn requests(
    (store, latest): (Store, Arc<Latest>),
    pod: Arc<Pod>,
    (mut judge, events): (Judge, tonic::Streaming<v1::TapEvent>),
) -> Events {
    let shown = events.flat_map(move |event| {
        let shown: Vec<_> = match event {
            Err(status) => vec![Ok(frame(frames::note(&pod, status.message().to_owned())))],
            Ok(event) => {
                let snapshot = store.latest();
                let shown = if is_hidden(&snapshot, &pod) {
                    Vec::new()
                } else {
                    judge.take(&latest.of(&snapshot), event)
                };
                let named = shown.into_iter().map(|event| v1::TapEvent {
                    pod: super::name(&pod),
                    ..event
                });
                named.map(|event| Ok(tapped(event))).collect()
            }
        };
        stream::iter(shown)
    });
    shown.boxed()
}
