//! What one connection says, followed by the lens as it passes: into the log, and to the second opinion.

use sheer_lens::{
    h2::{Block, BlockKind, Connection, Events, Frame, Kind, Payload, Room, Sender, Settings, flags},
    hpack::{self, Digester, ErrorKind, ListKind, Repeats, TableState},
};

use super::{
    log::{Form, Leaving, Log},
    open::Open,
    opinion::{List, Opinion},
};

/// Of the debug data of a GOAWAY, this much is kept.
const DEBUG_DATA: usize = 128;

/// The last GOAWAY of a side.
#[derive(Clone, Debug)]
pub(crate) struct GoAway {
    pub(crate) last: u32,
    pub(crate) code: u32,
    pub(crate) debug: Vec<u8>,
}

/// How a connection of HTTP/2 stands. Pairs are of what is read and of what is written.
#[derive(Clone, Debug)]
pub(crate) struct Standing {
    /// As the sender of that direction announced them, and the other side acknowledged.
    pub(crate) settings: [Settings; 2],
    /// What the sender of that direction may still send.
    pub(crate) windows: [i64; 2],
    pub(crate) tables: [TableState; 2],
    pub(crate) goaway: [Option<GoAway>; 2],
    /// Time of the last answered PING of this side, in microseconds.
    pub(crate) ping: u64,
}

impl Standing {
    pub(super) fn memory(&self) -> usize {
        let debug = self.goaway.iter().flatten().map(|goaway| goaway.debug.capacity());
        size_of::<Self>() + debug.sum::<usize>()
    }
}

/// A block in which lens and library differ.
#[derive(Clone, Debug)]
pub(super) struct Found {
    pub(super) written: bool,
    pub(super) stream: u32,
    pub(super) kind: ListKind,
    /// Of the block's last frame on the connection.
    pub(super) number: u64,
    /// What the library reported or was given, where that is kept.
    pub(super) library: Option<List>,
}

/// One connection's bytes, above TLS.
#[derive(Debug)]
pub(super) struct Flow {
    /// Of HTTP/2.
    lens: Option<Box<Connection>>,
    /// Who writes what this proxy reads.
    reads: Sender,
    pub(super) log: Log,
    pub(super) opinion: Opinion,
    /// Of what is read and of what is written.
    repeats: [Repeats; 2],
    pub(super) frames: [u64; 2],
    goaway: [Option<GoAway>; 2],
    pinged: Option<u64>,
    ping: u64,
    compared: u64,
    /// Not yet told.
    pub(super) found: Vec<Found>,
    /// What the log is about to lose, for who keeps it.
    pub(super) leaving: Option<Leaving>,
}

impl Flow {
    /// Of HTTP/2, from its first byte. `accepted`: the other side opened it.
    pub(super) fn http2(now: u64, accepted: bool, room: usize) -> Self {
        let lens = Connection::with_streams(0);
        let reads = if accepted { Sender::Client } else { Sender::Server };
        let start = Some(Box::new(lens.clone()));
        Self {
            lens: Some(Box::new(lens)),
            ..Self::new(reads, Log::new(now, start, room))
        }
    }

    /// Of HTTP/1: its codec says what the heads are.
    pub(super) fn http1(now: u64, accepted: bool, room: usize) -> Self {
        let reads = if accepted { Sender::Client } else { Sender::Server };
        Self::new(reads, Log::new(now, None, room))
    }

    fn new(reads: Sender, log: Log) -> Self {
        Self {
            lens: None,
            reads,
            log,
            opinion: Opinion::default(),
            repeats: Default::default(),
            frames: [0; 2],
            goaway: [None, None],
            pinged: None,
            ping: 0,
            compared: 0,
            found: Vec::new(),
            leaving: None,
        }
    }

    /// Bytes that were read or written. Gives how many blocks were compared.
    #[inline]
    pub(super) fn bytes(&mut self, now: u64, written: bool, bytes: &[u8], digester: &mut Digester) -> u64 {
        let Some(lens) = &mut self.lens else { return 0 };
        let sender = if written { self.reads.peer() } else { self.reads };
        let mut eye = Eye {
            now,
            written,
            log: &mut self.log,
            opinion: &mut self.opinion,
            repeats: &mut self.repeats[usize::from(written)],
            frames: &mut self.frames[usize::from(written)],
            goaway: &mut self.goaway[usize::from(written)],
            pinged: &mut self.pinged,
            ping: &mut self.ping,
            compared: &mut self.compared,
            found: &mut self.found,
            digester,
        };
        lens.feed(sender, bytes, &mut eye);
        std::mem::take(&mut self.compared)
    }

    /// A head of HTTP/1.
    pub(super) fn head(&mut self, now: u64, written: bool, (form, request): (Form, u32), head: (&[u8], usize)) {
        self.frames[usize::from(written)] += 1;
        self.log.other(now, (written, form, request), head);
    }

    /// Begins a new segment of the log where the current one is full. Not within a header block: its first frame belongs to its last.
    #[inline]
    pub(super) fn roll(&mut self, now: u64, streams: &Open, room: impl FnOnce() -> usize) -> bool {
        if !self.log.is_full(now) {
            return false;
        }
        let start = match &self.lens {
            None => None,
            Some(lens) => {
                let within = |sender| lens.frames(sender).open_block().is_some();
                if within(Sender::Client) || within(Sender::Server) {
                    return false;
                }
                Some(Box::new(lens.between_frames(0)))
            }
        };
        self.leave(streams);
        self.log.roll(now, start, room());
        true
    }

    /// The log is about to forget its older segment.
    fn leave(&mut self, streams: &Open) {
        if streams.has_old() && self.lens.is_some() {
            self.leaving = self.log.leaving(self.reads == Sender::Client, &streams.told());
        }
    }

    /// Keeps less of what passed.
    pub(super) fn shorten(&mut self, streams: &Open) {
        self.leave(streams);
        self.log.shorten();
    }

    /// How it stands; none for HTTP/1, and once it has ended.
    pub(super) fn standing(&self) -> Option<Standing> {
        let lens = self.lens.as_ref()?;
        let senders = [self.reads, self.reads.peer()];
        Some(Standing {
            settings: senders.map(|sender| lens.settings(sender)),
            windows: senders.map(|sender| lens.window(sender)),
            tables: senders.map(|sender| lens.hpack(sender).state()),
            goaway: self.goaway.clone(),
            ping: self.ping,
        })
    }

    /// Streams whose header block has begun and not ended, in what is read and in what is written.
    pub(super) fn within_blocks(&self) -> [Option<u32>; 2] {
        let Some(lens) = &self.lens else { return [None; 2] };
        [self.reads, self.reads.peer()].map(|sender| lens.frames(sender).open_block())
    }

    /// The connection has ended: only the log is kept.
    pub(super) fn end(&mut self) {
        self.lens = None;
        self.opinion = Opinion::default();
        self.repeats = Default::default();
    }

    pub(super) fn memory(&self) -> usize {
        let lens = self
            .lens
            .as_ref()
            .map_or(0, |lens| size_of::<Connection>() + lens.memory());
        let repeats: usize = self.repeats.iter().map(Repeats::memory).sum();
        lens + self.log.memory() + self.opinion.memory() + repeats
    }
}

/// Sees what the lens sees in one read or write.
struct Eye<'a> {
    now: u64,
    written: bool,
    log: &'a mut Log,
    opinion: &'a mut Opinion,
    repeats: &'a mut Repeats,
    frames: &'a mut u64,
    goaway: &'a mut Option<GoAway>,
    pinged: &'a mut Option<u64>,
    ping: &'a mut u64,
    compared: &'a mut u64,
    found: &'a mut Vec<Found>,
    digester: &'a mut Digester,
}

impl Eye<'_> {
    /// What was written, against what was given.
    fn written(&mut self, stream: u32, outcome: Result<(), hpack::Error>) {
        let digest = self.digester.digest();
        let kind = outcome.is_ok().then(|| digest.kind());
        let Some(given) = self.opinion.block_written(stream, kind) else {
            return;
        };
        *self.compared += 1;
        let agrees = outcome.is_ok() && given.digest.is_some_and(|given| given.agrees(&digest));
        if !agrees {
            self.found.push(Found {
                written: true,
                stream,
                kind: given.digest.map_or(ListKind::Trailers, |given| given.kind()),
                number: self.log.next() - 1,
                library: self.opinion.list(&given),
            });
        }
        self.opinion.tidy();
    }
}

/// Whether the lens has lost the thread, so that it has no opinion.
fn is_blind(outcome: Result<(), hpack::Error>) -> bool {
    matches!(
        outcome,
        Err(hpack::Error {
            kind: ErrorKind::TableUnknown | ErrorKind::TableBeyondLimit { .. },
            ..
        })
    )
}

impl Events for Eye<'_> {
    #[inline]
    fn frame(&mut self, _sender: Sender, frame: &Frame<'_>, _room: Room) {
        *self.frames += 1;
        self.log.frame(self.now, self.written, frame);
        match frame.payload {
            Payload::RstStream { .. } => self.opinion.forget(frame.header.stream),
            Payload::GoAway { last, code, debug } => {
                let debug = debug[..debug.len().min(DEBUG_DATA)].to_vec();
                *self.goaway = Some(GoAway { last, code, debug });
            }
            Payload::Ping(_) if frame.header.kind == Kind::Ping => match (self.written, frame.header.has(flags::ACK)) {
                (true, false) => *self.pinged = Some(self.now),
                (false, true) => {
                    if let Some(pinged) = self.pinged.take() {
                        *self.ping = self.now.saturating_sub(pinged);
                    }
                }
                _ => {}
            },
            _ => {}
        }
    }

    #[inline]
    fn block(&mut self, _sender: Sender, block: &Block<'_>, hpack: &mut hpack::Decoder) -> Result<(), hpack::Error> {
        self.digester.clear();
        let outcome = hpack.digest_repeated(block.bytes, self.repeats, self.digester);
        if let Ok(repeated) = &outcome {
            self.log.block(self.written, block, repeated);
        }
        let outcome = outcome.map(drop);
        if matches!(block.kind, BlockKind::PushPromise { .. }) {
            return outcome;
        }
        if is_blind(outcome) {
            // Nor have those that wait for it.
            self.opinion.forget(block.stream);
        } else if self.written {
            self.written(block.stream, outcome);
        } else {
            let digest = self.digester.digest();
            let read = outcome.is_ok().then_some(digest);
            self.opinion
                .block_read(block.stream, digest.kind(), read, self.log.next() - 1);
        }
        outcome
    }
}

#[cfg(test)]
mod tests {
    use bytes::BytesMut;
    use sheer_testkit::h2peer::{Block, Frame, split_headers};

    use super::{
        super::{copy, replay},
        *,
    };

    const HEADERS: u8 = 0x1;
    const END_HEADERS_PADDED: u8 = 0x4 | 0x8;

    fn padded(stream: u32, block: &Block) -> Frame {
        let payload = [&[2], block.bytes(), &[0; 2]].concat();
        Frame::new(HEADERS, END_HEADERS_PADDED, stream, payload)
    }

    #[test]
    fn blocks_that_come_again_are_kept_once_and_shown_each_time() {
        let mut flow = Flow::http2(0, true, 32 * 1024);
        let mut digester = Digester::new();
        flow.bytes(0, false, b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", &mut digester);
        let (get, post) = (
            Block::get("a.bank", "/x"),
            Block::post("a.bank", "/long/path/of/a/call"),
        );
        let answer = Block::status(200).literal("served-by", "ledger-0");
        let entering = Block::get("a.bank", "/y").insert("x-id", "one");
        let whole = |stream, block: &Block| Frame::headers(stream, block.bytes()).end_headers();
        let mut expected = Vec::new();
        for round in 0..60 {
            let stream = 2 * round + 1;
            let (block, frames) = match round % 12 {
                // What changes the table, what is split, and what is padded is kept by itself.
                3 => (&entering, vec![whole(stream, &entering)]),
                5 => (&get, split_headers(stream, &get, &[4])),
                7 => (&post, vec![padded(stream, &post)]),
                even if even % 2 == 0 => (&get, vec![whole(stream, &get)]),
                _ => (&post, vec![whole(stream, &post)]),
            };
            for (written, block, frames) in [(false, block, frames), (true, &answer, vec![whole(stream, &answer)])] {
                let mut bytes = BytesMut::new();
                frames.iter().for_each(|frame| frame.encode(&mut bytes));
                flow.bytes(u64::from(round), written, &bytes, &mut digester);
                expected.push((stream, written, block.bytes().len()));
            }
            if round == 40 {
                flow.log.roll(40, flow.lens.clone(), 32 * 1024);
            }
        }
        let segments: Vec<_> = flow.log.segments().cloned().collect();
        let copies = copy::Copied::default().segments(&segments, 0);
        let shown: Vec<_> = copies
            .iter()
            .flat_map(|segment| replay::segment(segment, true))
            .collect();
        assert!(
            shown
                .iter()
                .all(|shown| shown.violations.iter().all(|rule| !rule.contains("decode")))
        );
        let blocks = shown.iter().filter_map(|shown| Some((shown, shown.block.as_ref()?)));
        let found: Vec<_> = blocks
            .map(|(shown, block)| {
                let path = block.fields.iter().find(|field| field.name == b":path");
                let expected: &[u8] = match block.bytes as usize {
                    length if length == post.bytes().len() => b"/long/path/of/a/call",
                    length if length == entering.bytes().len() => b"/y",
                    _ => b"/x",
                };
                match path {
                    Some(path) => assert_eq!(path.value, expected, "stream {}", shown.record.stream),
                    None => assert_eq!(block.fields[1].value, b"ledger-0"),
                }
                (shown.record.stream, shown.record.written, block.bytes as usize)
            })
            .collect();
        assert_eq!(found, expected);
        let kept: usize = copies.iter().map(|segment| segment.bytes.len()).sum();
        let all: usize = expected.iter().map(|(_, _, length)| length).sum();
        assert!(kept < all / 3, "{kept} of {all}");
    }
}
