//! What came from the proxies: connections with their frames, and requests with their bodies, which say of which streams they are.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use sheer_api::v1::{
    Connection, Exchange, Frame, FrameEvent, HeaderField, PlaintextEvent, TapEvent, TappedBody, TappedRequest,
    frame_event, plaintext_event, tap_event,
};

/// Beside what it carries: what keeping an event costs.
const OVERHEAD: usize = 256;

/// A connection of one proxy: the pod as `bank/web-0`, and its number.
pub(super) type Id = (String, u64);

/// Everything so far.
#[derive(Debug, Default)]
pub(super) struct Collected {
    pub(super) connections: BTreeMap<Id, Recorded>,
    requests: Requests,
    pub(super) notes: BTreeSet<String>,
    pub(super) lost: Lost,
    size: usize,
    /// Connections that come before it is were there already.
    is_new: bool,
}

/// What is not there, as it came too fast.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Lost {
    pub(super) frames: u64,
    /// Requests beyond the rate: without bodies.
    pub(super) rate: u64,
    /// Of requests and bodies.
    pub(super) events: u64,
}

/// A connection.
#[derive(Debug)]
pub(super) struct Recorded {
    pub(super) connection: Connection,
    /// It was there before.
    pub(super) was_open: bool,
    pub(super) frames: Vec<Frame>,
}

/// Requests by their number, and by their streams.
#[derive(Debug, Default)]
pub(super) struct Requests {
    all: HashMap<Id, Request>,
    streams: HashMap<(Id, u32), u64>,
}

/// What a request carries, and its answer.
#[derive(Debug, Default)]
pub(super) struct Request {
    /// Of the request and of the answer.
    pub(super) bodies: [Vec<TappedBody>; 2],
    pub(super) trailers: [Vec<HeaderField>; 2],
}

impl Collected {
    /// Takes what comes.
    pub(super) fn take(&mut self, event: PlaintextEvent) {
        match event.event {
            Some(plaintext_event::Event::Frame(event)) => self.frame(event),
            Some(plaintext_event::Event::Tap(event)) => self.tap(event),
            None => {}
        }
    }

    /// What comes from now on was not there before.
    pub(super) fn is_new_from_now_on(&mut self) {
        self.is_new = true;
    }

    /// Bytes that it takes.
    pub(super) fn size(&self) -> usize {
        self.size
    }

    pub(super) fn requests(&self) -> &Requests {
        &self.requests
    }

    fn frame(&mut self, FrameEvent { event, pod }: FrameEvent) {
        self.size += OVERHEAD;
        match event {
            Some(frame_event::Event::Connection(connection)) => {
                let was_open = !self.is_new;
                let recorded = Recorded {
                    was_open,
                    frames: Vec::new(),
                    connection,
                };
                self.connections
                    .entry((pod, recorded.connection.id))
                    .or_insert(recorded);
            }
            Some(frame_event::Event::Frame(frame)) => {
                let fields = frame.block.iter().flat_map(|block| &block.fields);
                let fields = fields.chain(frame.http1.iter().flat_map(|head| &head.fields));
                self.size += fields
                    .map(|field| field.name.len() + field.value.len() + 64)
                    .sum::<usize>();
                if let Some(recorded) = self.connections.get_mut(&(pod, frame.connection)) {
                    recorded.frames.push(frame);
                }
            }
            Some(frame_event::Event::Dropped(frames)) => self.lost.frames += frames,
            Some(frame_event::Event::Note(note)) => {
                self.notes.insert(format!("{pod}: {note}"));
            }
            Some(frame_event::Event::Failure(_)) | None => {}
        }
    }

    fn tap(&mut self, TapEvent { event, pod }: TapEvent) {
        match event {
            Some(tap_event::Event::Request(request)) => {
                self.size += OVERHEAD;
                self.requests.head(&pod, *request);
            }
            Some(tap_event::Event::Body(body)) => {
                self.size += OVERHEAD + body.wire.len();
                self.requests.body(pod, body);
            }
            Some(tap_event::Event::Loss(loss)) => {
                self.lost.events += loss.slow;
                self.lost.rate += loss.rate;
            }
            Some(tap_event::Event::Note(note)) => {
                self.notes.insert(format!("{pod}: {note}"));
            }
            Some(tap_event::Event::Connection(_)) | None => {}
        }
    }
}

impl Requests {
    /// The request that a stream of a connection carries, where it was seen.
    pub(super) fn on(&self, connection: &Id, stream: u32) -> Option<&Request> {
        let (pod, _) = connection;
        let id = self.streams.get(&(connection.clone(), stream))?;
        self.all.get(&(pod.clone(), *id))
    }

    fn head(&mut self, pod: &str, request: TappedRequest) {
        let Some(Exchange {
            id, client, upstream, ..
        }) = request.exchange
        else {
            return;
        };
        for leg in [client, upstream]
            .into_iter()
            .flatten()
            .filter(|leg| leg.connection != 0)
        {
            self.streams.insert(((pod.to_owned(), leg.connection), leg.stream), id);
        }
        let known = self.all.entry((pod.to_owned(), id)).or_default();
        known.trailers = [request.request_trailers, request.response_trailers];
    }

    fn body(&mut self, pod: String, mut body: TappedBody) {
        // The text is for people.
        body.text = String::new();
        let known = self.all.entry((pod, body.id)).or_default();
        known.bodies[usize::from(body.response)].push(body);
    }
}

#[cfg(test)]
mod tests {
    use sheer_api::v1::Leg;

    use super::*;

    #[test]
    fn a_body_is_found_by_either_stream() {
        let leg = |connection, stream| {
            Some(Leg {
                connection,
                stream,
                ..Leg::default()
            })
        };
        let mut collected = Collected::default();
        let mut take = |event| {
            collected.take(PlaintextEvent {
                event: Some(plaintext_event::Event::Tap(TapEvent {
                    event: Some(event),
                    pod: "bank/web-0".to_owned(),
                })),
            });
        };
        take(tap_event::Event::Body(TappedBody {
            id: 9,
            response: true,
            wire: b"x".to_vec(),
            ..TappedBody::default()
        }));
        take(tap_event::Event::Request(Box::new(TappedRequest {
            exchange: Some(Exchange {
                id: 9,
                client: leg(1, 3),
                upstream: leg(2, 5),
                ..Exchange::default()
            }),
            ..TappedRequest::default()
        })));
        let id = |connection| ("bank/web-0".to_owned(), connection);
        for (connection, stream) in [(1, 3), (2, 5)] {
            let found = collected.requests().on(&id(connection), stream).expect("a request");
            assert_eq!((found.bodies[0].len(), found.bodies[1].len()), (0, 1));
        }
        assert!(collected.requests().on(&id(1), 5).is_none());
    }
}
