//! A request that somebody watches: what happens to it is noted, and told as it happens, or at its end to who waits for that.

use std::{
    net::SocketAddr,
    rc::Rc,
    sync::{Arc, atomic::Ordering::Relaxed},
};

use bytes::Bytes;
use http::{HeaderMap, StatusCode};

use super::{
    Said, Taps, Watcher,
    event::{Answer, BodyEvent, End, Event, Head, LegFacts, RequestEvent, Stage},
};
use crate::{
    error::ProxyError,
    exchange::{End as Ended, Outcome, PassedOver, Way},
    record::{self, Leg},
};

/// What a path knows of a request besides its head.
#[derive(Clone, Debug)]
pub(crate) struct Subject {
    /// Where it goes: outbound the original destination, inbound the workload's port.
    pub(crate) address: Option<SocketAddr>,
    /// The same by name.
    pub(crate) destination: String,
    /// What the client proved to be.
    pub(crate) identity: Option<Arc<str>>,
    pub(crate) mutual_tls: bool,
    pub(crate) client: LegFacts,
    /// The trace that it is part of, as its proxy knows it: also one that no field names yet.
    pub(crate) trace: Option<[u8; 32]>,
}

/// A request that somebody watches.
pub(crate) struct Tapped {
    taps: Rc<Taps>,
    watching: Vec<Rc<Watcher>>,
    event: RequestEvent,
    message: String,
    trailers: HeaderMap,
    request_trailers: HeaderMap,
    bodies: Bodies,
}

/// Bytes of bodies that a half of a worker holds until the ends of their requests tell whether anybody sees them.
const HELD: usize = 4 * 1024 * 1024;

/// What is kept of the bodies of a request that somebody watches.
struct Bodies {
    /// The most that anybody wants of each; 0: nobody wants them.
    most: usize,
    passed: [usize; 2],
    /// Where somebody waits for the end.
    held: Option<Held>,
}

/// Pieces of bodies until the end of their request.
struct Held {
    taps: Rc<Taps>,
    pieces: Vec<BodyEvent>,
    bytes: usize,
    /// By way: there was no room for a piece, and nobody can read what follows.
    lost: [bool; 2],
}

impl Held {
    fn push(&mut self, piece: BodyEvent) {
        let lost = &mut self.lost[piece.way as usize];
        let (all, size) = (&self.taps.held, size_of::<BodyEvent>() + piece.data.len());
        *lost |= all.get() + size > HELD;
        if *lost {
            return;
        }
        all.set(all.get() + size);
        self.bytes += size;
        self.pieces.push(piece);
    }

    fn send(&self, to: &Watcher) {
        let wanted = self.pieces.iter().filter(|piece| to.bodies > piece.offset);
        wanted.for_each(|piece| to.send_body(piece));
        let lost = self.lost.iter().filter(|lost| **lost).count();
        to.losses.slow.fetch_add(lost as u64, Relaxed);
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.taps.held.set(self.taps.held.get() - self.bytes);
    }
}

impl Bodies {
    fn new(taps: &Rc<Taps>, watching: &[Rc<Watcher>]) -> Self {
        let wanted = || watching.iter().filter(|one| one.bodies > 0);
        let are_held = wanted().any(|one| one.filter.waits_for_end());
        Self {
            most: wanted().map(|one| one.bodies).max().unwrap_or(0),
            passed: [0; 2],
            held: are_held.then(|| Held {
                taps: Rc::clone(taps),
                pieces: Vec::new(),
                bytes: 0,
                lost: [false; 2],
            }),
        }
    }
}

impl std::fmt::Debug for Tapped {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Tapped({})", self.event.id)
    }
}

impl Tapped {
    pub(super) fn new(taps: &Rc<Taps>, watching: Vec<Rc<Watcher>>, subject: Subject, said: &Said<'_>) -> Box<Self> {
        let started = taps.clock.now();
        let head = Head {
            method: said.method.cloned(),
            authority: said.authority.to_owned(),
            path: said.path.to_owned(),
            headers: said.headers.clone(),
            is_http1: said.is_http1,
            destination: subject.destination,
            identity: subject.identity,
            client: subject.client,
            mutual_tls: subject.mutual_tls,
        };
        let tapped = Box::new(Self {
            event: RequestEvent {
                stage: Stage::Request,
                id: record::next_request(),
                is_outbound: taps.is_outbound,
                clock: taps.clock,
                started,
                at: started,
                head: Arc::new(head),
                upstream: LegFacts::default(),
                sent: None,
                sent_whole: None,
                attempts: 0,
                passed_over: Vec::new(),
                answer: None,
                end: None,
            },
            taps: Rc::clone(taps),
            bodies: Bodies::new(taps, &watching),
            watching,
            message: String::new(),
            trailers: HeaderMap::new(),
            request_trailers: HeaderMap::new(),
        });
        tapped.tell();
        tapped
    }

    /// Its number, for whoever else counts it.
    pub(crate) fn id(&self) -> u64 {
        self.event.id
    }

    fn tell(&self) {
        for watching in self.watching.iter().filter(|watching| watching.is_told_at_once()) {
            watching.send(Event::Request(Box::new(self.event.clone())));
        }
    }

    fn after(&self) -> u64 {
        self.taps.clock.now().saturating_sub(self.event.started)
    }

    /// It went out.
    #[cold]
    pub(crate) fn went_to(&mut self, leg: &Leg) {
        self.event.attempts += 1;
        (self.event.sent, self.event.sent_whole) = (Some(self.after()), None);
        self.event.upstream = LegFacts::new(leg.id(), leg.tape());
    }

    /// All of it has gone out.
    #[cold]
    pub(crate) fn sent_whole(&mut self) {
        self.event.sent_whole = Some(self.after());
    }

    /// The head of the answer is here.
    #[cold]
    pub(crate) fn response(&mut self, status: StatusCode, headers: &HeaderMap) {
        let after = self.after();
        self.event.answer = Some(Arc::new(Answer {
            status: status.as_u16(),
            headers: headers.clone(),
            after,
        }));
        (self.event.stage, self.event.at) = (Stage::Response, self.event.started + after);
        self.tell();
    }

    /// It goes out again.
    #[cold]
    pub(crate) fn passed_over(&mut self, one: &PassedOver) {
        self.event.passed_over.push(one.clone());
    }

    /// A piece of a body goes by.
    #[cold]
    pub(crate) fn body(&mut self, way: Way, data: &Bytes) {
        let offset = self.bodies.passed[way as usize];
        let room = self.bodies.most.saturating_sub(offset);
        if room == 0 || data.is_empty() {
            return;
        }
        self.bodies.passed[way as usize] += data.len();
        let event = BodyEvent {
            id: self.event.id,
            is_outbound: self.event.is_outbound,
            clock: self.event.clock,
            way,
            at: self.taps.clock.now(),
            head: Arc::clone(&self.event.head),
            answer: self.event.answer.clone(),
            offset,
            // Copied: a piece of what was read last would hold on to all of it.
            data: Bytes::copy_from_slice(&data[..data.len().min(room)]),
        };
        let waits = |watching: &&Rc<Watcher>| watching.filter.waits_for_end();
        let wants = self.watching.iter().filter(|watching| watching.bodies > offset);
        for watching in wants.filter(|watching| !waits(watching)) {
            watching.send_body(&event);
        }
        // Unless all who wait have gone.
        let is_wanted = || {
            self.watching
                .iter()
                .any(|one| waits(&one) && one.bodies > 0 && !one.events.is_closed())
        };
        self.bodies.held.take_if(|_| !is_wanted());
        if let Some(held) = &mut self.bodies.held {
            held.push(event);
        }
    }

    /// Trailers of the answer.
    #[cold]
    pub(crate) fn trailers(&mut self, trailers: &HeaderMap) {
        self.trailers = trailers.clone();
    }

    /// Trailers of the request.
    #[cold]
    pub(crate) fn request_trailers(&mut self, trailers: &HeaderMap) {
        self.request_trailers = trailers.clone();
    }

    /// The proxy ends it itself.
    #[cold]
    pub(crate) fn error(&mut self, error: &ProxyError) {
        self.message = error.in_full();
    }

    /// It is over. `shown` is called with its number where somebody was told of it.
    #[cold]
    pub(crate) fn end(mut self: Box<Self>, outcome: &Outcome, shown: impl FnOnce(u64)) {
        let after = self.after();
        let took = std::time::Duration::from_micros(after);
        let failed = !outcome.is_success();
        let (how, reset, verdict, reason) = match outcome.end {
            Ended::Complete => ("complete", "", None, ""),
            Ended::ClientReset(code) => ("client-reset", code.as_str(), None, ""),
            Ended::ServerReset(code) => ("server-reset", code.as_str(), None, ""),
            Ended::Proxy { verdict, reason } => ("proxy", "", Some(verdict), reason),
            Ended::Dropped => ("dropped", "", None, ""),
        };
        let end = End {
            how,
            reset,
            verdict,
            reason,
            message: std::mem::take(&mut self.message),
            failed,
            grpc_status: outcome.grpc_status,
            trailers: std::mem::take(&mut self.trailers),
            request_trailers: std::mem::take(&mut self.request_trailers),
            request_bytes: outcome.request_bytes,
            response_bytes: outcome.response_bytes,
            after,
        };
        let whole = RequestEvent {
            end: Some(end),
            at: self.event.started + after,
            stage: Stage::End,
            ..self.event.clone()
        };
        let mut is_shown = false;
        for watching in &self.watching {
            let filter = &watching.filter;
            if filter.waits_for_end() {
                if !filter.takes_end(outcome, self.event.upstream.remote, took) || !watching.takes() {
                    continue;
                }
                // Whoever waited for the end has not seen what came before it.
                let before: &[Stage] = if watching.only_ends {
                    &[]
                } else {
                    &[Stage::Request, Stage::Response]
                };
                for stage in before {
                    if let Some(event) = before_end(&whole, *stage) {
                        watching.send(Event::Request(Box::new(event)));
                    }
                }
                if let Some(held) = self.bodies.held.as_ref().filter(|_| watching.bodies > 0) {
                    held.send(watching);
                }
            }
            is_shown |= watching.send(Event::Request(Box::new(whole.clone())));
        }
        if is_shown {
            shown(self.event.id);
        }
    }
}

/// A request as it was at an earlier stage; none where it never was.
fn before_end(whole: &RequestEvent, stage: Stage) -> Option<RequestEvent> {
    let answer = whole.answer.clone().filter(|_| stage == Stage::Response);
    if stage == Stage::Response && answer.is_none() {
        return None;
    }
    let after = answer.as_ref().map_or(0, |answer| answer.after);
    let told = RequestEvent {
        stage,
        at: whole.started + after,
        // It may have been answered before it had gone out whole.
        sent_whole: whole.sent_whole.filter(|sent| *sent <= after),
        answer,
        end: None,
        ..whole.clone()
    };
    Some(match stage {
        // It went nowhere yet.
        Stage::Request => RequestEvent {
            upstream: LegFacts::default(),
            sent: None,
            sent_whole: None,
            attempts: 0,
            passed_over: Vec::new(),
            ..told
        },
        _ => told,
    })
}
