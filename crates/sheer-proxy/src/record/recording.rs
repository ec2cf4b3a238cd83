//! One connection: what is known of it, what passed, and how it ended.

use std::{
    cell::{Cell, RefCell},
    fmt, io,
    net::SocketAddr,
    os::fd::RawFd,
    rc::Rc,
    sync::Arc,
    time::Duration,
};

use sheer_lens::hpack::ListKind;

use super::{
    callers::{Caller, Callers},
    copy::{Copied, RecordingCopy, SegmentCopy},
    excerpt::ExcerptCopy,
    exchange::LegId,
    flow::{Flow, Found, Standing},
    heads::Fields,
    log::{Form, Leaving, Shared},
    open::Open,
    opinion::{self, Given, List},
    recorder::Inner,
};
use crate::{
    sys::{self, TcpInfo},
    tcp::{Counters, PassedTls},
};

/// Who is at the other end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Peer {
    /// The workload beside this proxy.
    App,
    /// Another proxy of the mesh.
    Mesh,
    /// Somebody else.
    Outside,
}

/// What is spoken on a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Speaks {
    Http2,
    Http1,
    /// Bytes that nobody looks at.
    Tcp,
    /// TLS of the application, passed through.
    Tls,
}

/// What a handshake agreed on.
#[derive(Clone, Debug, Default)]
pub(crate) struct TlsFacts {
    pub(crate) version: String,
    pub(crate) cipher: String,
    pub(crate) group: String,
    pub(crate) alpn: String,
    pub(crate) server_name: String,
    pub(crate) resumed: bool,
}

impl TlsFacts {
    fn memory(&self) -> usize {
        let texts = [&self.version, &self.cipher, &self.group, &self.alpn, &self.server_name];
        size_of::<Self>() + texts.into_iter().map(String::capacity).sum::<usize>()
    }
}

/// What is known of a connection when it begins to be recorded.
#[derive(Clone, Debug)]
pub(crate) struct About {
    pub(crate) peer: Peer,
    /// The other end opened it.
    pub(crate) accepted: bool,
    pub(crate) speaks: Speaks,
    pub(crate) local: Option<SocketAddr>,
    pub(crate) remote: Option<SocketAddr>,
    /// Where an accepted connection was going.
    pub(crate) original: Option<SocketAddr>,
    /// What it is for.
    pub(crate) name: Option<Arc<str>>,
    /// What the other end proved to be.
    pub(crate) identity: Option<Arc<str>>,
    pub(crate) tls: Option<Box<TlsFacts>>,
    /// How long TCP took to connect, and TLS to agree.
    pub(crate) took: (Duration, Duration),
}

impl About {
    /// Of a connection of which nothing is known but who is at its end and what is spoken.
    pub(crate) fn new(peer: Peer, accepted: bool, speaks: Speaks) -> Self {
        Self {
            peer,
            accepted,
            speaks,
            local: None,
            remote: None,
            original: None,
            name: None,
            identity: None,
            tls: None,
            took: (Duration::ZERO, Duration::ZERO),
        }
    }

    /// Bytes beside itself.
    fn memory(&self) -> usize {
        let names: usize = [&self.name, &self.identity]
            .into_iter()
            .flatten()
            .map(|name| name.len())
            .sum();
        names + self.tls.as_ref().map_or(0, |facts| facts.memory())
    }
}

/// How a connection ended: the first sign of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum How {
    /// The other side said that it has no more to say.
    PeerClosed,
    /// The other side, or the network, broke it off.
    PeerBroke(io::ErrorKind),
    /// This proxy closed it.
    Closed,
    /// This proxy broke it off.
    Reset,
}

/// The end of a connection.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ending {
    pub(crate) at: u64,
    pub(crate) how: How,
    /// As it should: no error, and nothing was under way.
    pub(crate) clean: bool,
    /// Streams within whose header block the reading and the writing side were cut off.
    pub(crate) within: [Option<u32>; 2],
}

/// One connection.
pub(crate) struct Recording {
    recorder: Rc<Inner>,
    id: u64,
    about: About,
    opened: u64,
    /// None where there is nothing to decode, and where memory is short.
    flow: RefCell<Option<Box<Flow>>>,
    unrecorded: Cell<&'static str>,
    bytes: [Cell<u64>; 2],
    /// Of a relay, which counts by itself.
    counters: RefCell<Option<(Rc<Counters>, bool)>>,
    active: Cell<u64>,
    streams: Open,
    streams_total: Cell<u64>,
    was_relayed: Cell<bool>,
    /// While the socket is open.
    socket: Cell<Option<RawFd>>,
    first_sign: Cell<Option<How>>,
    ending: Cell<Option<Ending>>,
    /// At the end.
    tcp: Cell<Option<TcpInfo>>,
    standing: RefCell<Option<Box<Standing>>>,
    /// Of a connection to the application.
    callers: RefCell<Option<Box<Callers>>>,
    /// What is wrong with its end is said of the relay that it is part of.
    is_judged: Cell<bool>,
    accounted: Cell<usize>,
    /// Something is kept of open streams that the log has no longer.
    has_ahead: Cell<bool>,
}

impl fmt::Debug for Recording {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Recording({})", self.id)
    }
}

impl Recording {
    pub(super) fn new(recorder: &Rc<Inner>, id: u64, about: About, flow: Option<Flow>) -> Rc<Self> {
        let now = recorder.clock.now();
        Rc::new(Self {
            recorder: Rc::clone(recorder),
            id,
            about,
            opened: now,
            flow: RefCell::new(flow.map(Box::new)),
            unrecorded: Cell::new(""),
            bytes: Default::default(),
            counters: RefCell::default(),
            active: Cell::new(now),
            streams: Open::default(),
            streams_total: Cell::new(0),
            was_relayed: Cell::new(false),
            socket: Cell::new(None),
            first_sign: Cell::new(None),
            ending: Cell::new(None),
            tcp: Cell::new(None),
            standing: RefCell::default(),
            callers: RefCell::default(),
            is_judged: Cell::new(false),
            accounted: Cell::new(0),
            has_ahead: Cell::new(false),
        })
    }

    pub(crate) fn id(&self) -> u64 {
        self.id
    }

    pub(crate) fn about(&self) -> &About {
        &self.about
    }

    pub(super) fn recorder(&self) -> &Rc<Inner> {
        &self.recorder
    }

    pub(super) fn active(&self) -> u64 {
        self.active.get()
    }

    /// Whether nothing passed that could be shown: it was given up before.
    pub(super) fn is_empty(&self) -> bool {
        !self.has_flow() && !self.was_relayed.get() && self.accounted() == 0
    }

    pub(super) fn has_flow(&self) -> bool {
        self.flow.borrow().is_some()
    }

    /// The socket beneath, for as long as it is open.
    pub(super) fn socket(&self, socket: Option<RawFd>) {
        self.socket.set(socket);
    }

    /// Bytes moved on a relay: `reversed` where this is its server's side.
    pub(super) fn count_with(&self, counters: &Rc<Counters>, reversed: bool) {
        self.was_relayed.set(true);
        self.counters.replace(Some((Rc::clone(counters), reversed)));
    }

    /// Bytes were read.
    #[inline]
    pub(super) fn read(self: &Rc<Self>, bytes: &[u8]) {
        self.bytes[0].set(self.bytes[0].get() + bytes.len() as u64);
        self.pass(false, [bytes]);
    }

    /// Bytes were written: the first `length` of these.
    #[inline]
    pub(super) fn wrote<'a>(self: &Rc<Self>, length: usize, slices: impl IntoIterator<Item = &'a [u8]>) {
        self.bytes[1].set(self.bytes[1].get() + length as u64);
        let mut left = length;
        let slices = slices.into_iter().map_while(|slice| {
            let now = left.min(slice.len());
            left -= now;
            (now > 0).then(|| &slice[..now])
        });
        self.pass(true, slices);
    }

    fn pass<'a>(self: &Rc<Self>, written: bool, slices: impl IntoIterator<Item = &'a [u8]>) {
        let now = self.recorder.clock.now();
        self.active.set(now);
        let found = {
            let mut flow = self.flow.borrow_mut();
            let Some(flow) = flow.as_mut() else { return };
            let mut digester = self.recorder.digester.borrow_mut();
            let mut compared = 0;
            for slice in slices {
                compared += flow.bytes(now, written, slice, &mut digester);
            }
            if compared > 0 {
                self.recorder.compared(compared);
            }
            let has_grown = flow.roll(now, &self.streams, || self.recorder.room(self.accounted()));
            if has_grown {
                self.streams.rolled(flow.log.newest_stream());
                self.account(flow.memory());
            }
            if flow.found.is_empty() && !has_grown {
                return;
            }
            self.keep_ahead(flow.leaving.take());
            std::mem::take(&mut flow.found)
        };
        self.recorder.keep_within();
        for found in found {
            self.recorder.disagreed(self, found);
        }
    }

    /// A head of HTTP/1 was read or written: what is kept of it, and its length.
    pub(super) fn head(&self, written: bool, form: Form, head: (&[u8], usize)) {
        let now = self.recorder.clock.now();
        let has_grown = {
            let mut flow = self.flow.borrow_mut();
            let Some(flow) = flow.as_mut() else { return };
            flow.head(now, written, (form, self.streams_total.get() as u32), head);
            let has_grown = flow.roll(now, &self.streams, || self.recorder.room(self.accounted()));
            if has_grown {
                self.account(flow.memory());
            }
            has_grown
        };
        if has_grown {
            self.recorder.keep_within();
        }
    }

    /// A request of HTTP/1 begins.
    pub(super) fn next_request(&self) -> u32 {
        let number = self.streams_total.get() + 1;
        self.streams_total.set(number);
        number as u32
    }

    /// Requests that began so far.
    pub(super) fn requests(&self) -> u32 {
        self.streams_total.get() as u32
    }

    /// The library reports a list.
    #[inline]
    pub(super) fn reported(self: &Rc<Self>, (stream, kind): (u32, ListKind), list: &impl Fields) {
        let found = {
            let mut flow = self.flow.borrow_mut();
            let Some(flow) = flow.as_mut() else { return };
            let Some(lens) = flow.opinion.reported(stream, kind) else {
                return;
            };
            self.recorder.compared(1);
            let digester = &mut *self.recorder.digester.borrow_mut();
            digester.clear();
            list.each(digester);
            if lens.digest.is_some_and(|lens| lens.agrees(&digester.digest())) {
                return;
            }
            Found {
                written: false,
                stream,
                kind,
                number: lens.number,
                library: Some(opinion::whole(list)),
            }
        };
        self.recorder.disagreed(self, found);
    }

    /// The library is given a list.
    #[inline]
    pub(super) fn give(&self, is_trailers: bool, list: &impl Fields) -> Option<Given> {
        let mut flow = self.flow.borrow_mut();
        let flow = flow.as_mut()?;
        let mut digester = self.recorder.digester.borrow_mut();
        Some(flow.opinion.give(&mut digester, is_trailers, list))
    }

    /// It took the list for this stream.
    pub(super) fn given(&self, stream: u32, given: Given) {
        if let Some(flow) = self.flow.borrow_mut().as_mut() {
            flow.opinion.given(stream, given);
        }
    }

    /// A stream (of HTTP/1: a request) begins; it ends with [`Self::stream_ended`].
    pub(super) fn stream_began(&self, stream: u32) {
        self.streams.began(stream);
        if self.about.speaks == Speaks::Http2 {
            self.streams_total.set(self.streams_total.get() + 1);
        }
    }

    pub(super) fn stream_ended(&self, stream: u32) {
        self.streams.ended(stream);
    }

    /// A stream of a connection to the application is for whoever is at the other end of this one.
    pub(super) fn called_by(&self, stream: u32, client: &About) {
        let is_to_app = self.about.peer == Peer::App && !self.about.accepted;
        if let (true, Some(remote)) = (is_to_app && self.has_flow(), client.remote) {
            let mesh = client.peer == Peer::Mesh;
            let mut callers = self.callers.borrow_mut();
            callers
                .get_or_insert_default()
                .note(stream, Caller { ip: remote.ip(), mesh });
        }
    }

    /// Who judges its end does so elsewhere.
    pub(super) fn judged(&self) {
        self.is_judged.set(true);
    }

    pub(super) fn is_judged(&self) -> bool {
        self.is_judged.get()
    }

    /// The first sign of the end counts: what follows, follows from it.
    pub(super) fn sign(&self, how: How) {
        if self.first_sign.get().is_none() {
            self.first_sign.set(Some(how));
        }
    }

    /// The socket is about to be closed.
    pub(super) fn ended(self: &Rc<Self>, tcp: Option<TcpInfo>) {
        if self.ending.get().is_some() {
            return;
        }
        self.socket.set(None);
        self.tcp.set(tcp);
        let how = self.first_sign.get().unwrap_or(How::Closed);
        let broke = matches!(how, How::PeerBroke(_) | How::Reset);
        let unfinished = self.streams.count() > 0;
        let mut ending = Ending {
            at: self.recorder.clock.now(),
            how,
            clean: !broke && !unfinished,
            within: [None; 2],
        };
        if let Some(flow) = self.flow.borrow_mut().as_mut() {
            ending.within = flow.within_blocks();
            ending.clean &= ending.within == [None; 2];
            if let Some(standing) = flow.standing() {
                let failed = standing.goaway.iter().flatten().any(|goaway| goaway.code != 0);
                ending.clean &= !failed;
                self.standing.replace(Some(Box::new(standing)));
            }
            flow.end();
            self.account(flow.memory());
        }
        self.ending.set(Some(ending));
        self.forget_ahead();
        self.recorder.ended(self, ending);
    }

    /// The server name of TLS that passes through.
    fn hello(&self) -> Option<Box<str>> {
        let counters = self.counters.borrow();
        let (counters, _) = counters.as_ref()?;
        counters.hello().map(Into::into)
    }

    /// The same of its handshake.
    fn passed_tls(&self) -> Option<Box<PassedTls>> {
        let counters = self.counters.borrow();
        let (counters, _) = counters.as_ref()?;
        counters.passed_tls().map(Box::new)
    }

    /// Forgets what passed, for want of memory.
    pub(super) fn forget(&self, why: &'static str) {
        self.flow.replace(None);
        self.callers.replace(None);
        self.unrecorded.set(why);
        self.account(0);
    }

    /// Keeps less of what passed.
    pub(super) fn shorten(self: &Rc<Self>) {
        if let Some(flow) = self.flow.borrow_mut().as_mut() {
            flow.shorten(&self.streams);
            self.keep_ahead(flow.leaving.take());
            self.account(flow.memory());
        }
    }

    fn keep_ahead(self: &Rc<Self>, leaving: Option<Leaving>) {
        if let Some(leaving) = leaving
            && self.recorder.keep_ahead(self, &leaving)
        {
            self.has_ahead.set(true);
        }
    }

    /// A stream's request is over, and told.
    pub(super) fn stream_told(&self, stream: u32) {
        if self.has_ahead.get() {
            let connection = self.id;
            self.has_ahead
                .set(self.recorder.forget_ahead(LegId { connection, stream }));
        }
        self.forget_ahead();
    }

    /// Nothing is kept ahead of a connection that has ended, once no request of it can fail any more.
    fn forget_ahead(&self) {
        if self.has_ahead.get() && self.ending.get().is_some() && self.streams.count() == 0 {
            self.recorder.forget_ahead_of(self.id);
            self.has_ahead.set(false);
        }
    }

    pub(super) fn account(&self, memory: usize) {
        let callers = || self.callers.borrow().as_ref().map_or(0, |callers| callers.memory());
        let memory = if memory > 0 { memory + callers() } else { 0 };
        let before = self.accounted.replace(memory);
        self.recorder.account(before, memory);
    }

    /// What is counted for it.
    pub(super) fn accounted(&self) -> usize {
        self.accounted.get()
    }

    /// What is kept of what passed, oldest first.
    pub(super) fn segments(&self) -> Vec<Shared> {
        let flow = self.flow.borrow();
        flow.as_ref()
            .map_or_else(Vec::new, |flow| flow.log.segments().cloned().collect())
    }

    /// What the kernel knows of it.
    pub(super) fn tcp_info(&self) -> Option<TcpInfo> {
        self.tcp.get().or_else(|| sys::tcp_info_of(self.socket.get()?).ok())
    }

    /// A copy for sight. With the records from `after` on, where it is there.
    pub(super) fn copy(&self, after: Option<u64>) -> RecordingCopy {
        let flow = self.flow.borrow();
        let moved = match &*self.counters.borrow() {
            Some((counters, reversed)) => moved(counters, *reversed),
            None => [self.bytes[0].get(), self.bytes[1].get()],
        };
        let standing = self.standing.borrow().clone();
        let live = || flow.as_deref().and_then(Flow::standing).map(Box::new);
        let next = flow.as_ref().map_or(0, |flow| flow.log.next());
        let has_news = after.is_some_and(|after| after < next);
        RecordingCopy {
            id: self.id,
            about: self.about.clone(),
            opened: self.opened,
            active: self.active.get(),
            bytes: moved,
            frames: flow.as_ref().map_or([0; 2], |flow| flow.frames),
            next,
            streams: self.streams.count(),
            streams_total: self.streams_total.get(),
            standing: standing.or_else(live),
            tcp: self.tcp_info(),
            ending: self.ending.get(),
            hello: self.hello(),
            passed_tls: self.passed_tls(),
            callers: if has_news { self.callers() } else { Callers::default() },
            unrecorded: self.unrecorded.get(),
            segments: after.map_or_else(Vec::new, |after| Copied::default().segments(&self.segments(), after)),
            excerpts: Vec::new(),
        }
    }

    /// A copy with what was kept of a failure, whatever the connection itself has forgotten since.
    pub(super) fn copy_of_failure(&self, segments: Vec<SegmentCopy>, excerpts: Vec<ExcerptCopy>) -> RecordingCopy {
        let copy = self.copy(None);
        let copied = segments.last().map(|last| last.first + last.records.len() as u64);
        let kept = copied.or(excerpts.last().map(ExcerptCopy::next));
        RecordingCopy {
            next: copy.next.max(kept.unwrap_or(0)),
            unrecorded: if kept.is_some() { "" } else { copy.unrecorded },
            callers: self.callers(),
            segments,
            excerpts,
            ..copy
        }
    }

    fn callers(&self) -> Callers {
        self.callers.borrow().as_deref().cloned().unwrap_or_default()
    }

    /// Bytes that it takes itself, without what passed.
    pub(super) fn memory(&self) -> usize {
        let standing = self.standing.borrow();
        let standing = standing
            .as_ref()
            .map_or(size_of::<Standing>(), |standing| standing.memory());
        let standing = if self.about.speaks == Speaks::Http2 {
            standing
        } else {
            0
        };
        // Beside the counts of its holders.
        2 * size_of::<usize>() + size_of::<Self>() + self.about.memory() + standing
    }

    /// The fields of a block on the wire, by the number of its last frame; none where it is no longer kept, or cannot be decoded.
    pub(super) fn wire_list(&self, number: u64) -> Option<List> {
        super::copy::list_of(&self.segments(), self.about.accepted, number)
    }
}

fn moved(counters: &Counters, reversed: bool) -> [u64; 2] {
    // Read from a client goes to the server.
    let both = [counters.to_server(), counters.to_client()];
    if reversed { [both[1], both[0]] } else { both }
}
