//! The open streams of a connection, with the flow-control windows of both directions (RFC 9113, 5.1 and 6.9).

use std::{
    collections::HashMap,
    hash::{BuildHasherDefault, Hasher},
};

use super::{Rule, Sender};

/// Streams that are followed at once. Beyond it streams pass unfollowed, and nothing is claimed of them.
pub const MAX_STREAMS: usize = 4096;
/// Largest window (RFC 9113, 6.9.1).
pub(super) const MAX_WINDOW: i64 = (1 << 31) - 1;

/// A stream with something still to come.
#[derive(Clone, Copy, Debug)]
struct Stream {
    /// What the client and the server may still send.
    windows: [i64; 2],
    ended: [bool; 2],
}

/// Numbers of streams come in order and from the peer, who gains nothing from collisions among [`MAX_STREAMS`]: one multiplication is enough.
#[derive(Clone, Copy, Debug, Default)]
struct IdHasher(u64);

impl Hasher for IdHasher {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.write_u32(u32::from(*byte));
        }
    }

    fn write_u32(&mut self, id: u32) {
        self.0 = (self.0 ^ u64::from(id))
            .wrapping_mul(0x9e37_79b9_7f4a_7c15)
            .rotate_left(32);
    }
}

/// The streams of a connection.
#[derive(Clone, Debug, Default)]
pub(super) struct Streams {
    open: HashMap<u32, Stream, BuildHasherDefault<IdHasher>>,
    /// Highest number that each side opened.
    last: [u32; 2],
    /// Followed streams that each side opened.
    count: [u32; 2],
    limit: usize,
}

fn side(sender: Sender) -> usize {
    match sender {
        Sender::Client => 0,
        Sender::Server => 1,
    }
}

/// Who may open a stream with this number.
fn owner(id: u32) -> usize {
    usize::from(id.is_multiple_of(2))
}

impl Streams {
    pub(super) fn new(limit: usize) -> Self {
        Self {
            limit,
            ..Self::default()
        }
    }

    /// Without the streams that are followed now.
    pub(super) fn afresh(&self, limit: usize) -> Self {
        Self {
            last: self.last,
            ..Self::new(limit)
        }
    }

    pub(super) fn len(&self) -> usize {
        self.open.len()
    }

    pub(super) fn opened_by(&self, sender: Sender) -> u32 {
        self.count[side(sender)]
    }

    pub(super) fn memory(&self) -> usize {
        self.open.capacity() * size_of::<(u32, Stream)>()
    }

    pub(super) fn window(&self, id: u32, sender: Sender) -> Option<i64> {
        self.open.get(&id).map(|stream| stream.windows[side(sender)])
    }

    /// HEADERS by `sender`: opens the stream where it is new. `windows` are the initial ones of client and server.
    pub(super) fn headers(&mut self, id: u32, sender: Sender, windows: [i64; 2]) -> (bool, Option<Rule>) {
        if let Some(stream) = self.open.get(&id) {
            return (false, stream.ended[side(sender)].then_some(Rule::StreamEnded));
        }
        match id {
            0 => (false, None),
            // Closed, or one that is not followed.
            id if id <= self.last[owner(id)] => (false, None),
            id if owner(id) == side(sender) => (self.open(id, windows), None),
            _ if sender == Sender::Client => (false, Some(Rule::StreamParity)),
            _ => (false, Some(Rule::StreamIdle)),
        }
    }

    /// A stream that the server promised: only the server will send on it.
    pub(super) fn promise(&mut self, id: u32, windows: [i64; 2]) -> Option<Rule> {
        if id == 0 || owner(id) != side(Sender::Server) || id <= self.last[owner(id)] {
            return Some(Rule::PromisedStream);
        }
        self.open(id, windows);
        self.end(id, Sender::Client);
        None
    }

    fn open(&mut self, id: u32, windows: [i64; 2]) -> bool {
        self.last[owner(id)] = id;
        if self.open.len() >= self.limit {
            return false;
        }
        self.open.insert(
            id,
            Stream {
                windows,
                ended: [false; 2],
            },
        );
        self.count[owner(id)] += 1;
        true
    }

    /// Whether nobody opened this stream yet.
    pub(super) fn is_idle(&self, id: u32) -> bool {
        id > self.last[owner(id)]
    }

    /// DATA by `sender`, padding included.
    pub(super) fn data(&mut self, id: u32, sender: Sender, length: u32) -> Option<Rule> {
        let Some(stream) = self.open.get_mut(&id) else {
            return (id != 0 && self.is_idle(id)).then_some(Rule::StreamIdle);
        };
        if stream.ended[side(sender)] {
            return Some(Rule::StreamEnded);
        }
        let window = &mut stream.windows[side(sender)];
        *window -= i64::from(length);
        (*window < 0 && length > 0).then_some(Rule::StreamWindowExceeded)
    }

    /// More room for what `sender` sends.
    pub(super) fn widen(&mut self, id: u32, sender: Sender, increment: u32) -> Option<Rule> {
        let Some(stream) = self.open.get_mut(&id) else {
            return self.is_idle(id).then_some(Rule::StreamIdle);
        };
        let window = &mut stream.windows[side(sender)];
        *window += i64::from(increment);
        (*window > MAX_WINDOW).then_some(Rule::WindowTooLarge)
    }

    /// The initial window of what `sender` sends changed (RFC 9113, 6.9.2).
    pub(super) fn shift(&mut self, sender: Sender, difference: i64) {
        if difference != 0 {
            self.open
                .values_mut()
                .for_each(|stream| stream.windows[side(sender)] += difference);
        }
    }

    /// `sender` is done with the stream.
    pub(super) fn end(&mut self, id: u32, sender: Sender) {
        if let Some(stream) = self.open.get_mut(&id) {
            stream.ended[side(sender)] = true;
            if stream.ended == [true; 2] {
                self.close(id);
            }
        }
    }

    /// Both sides are done with the stream.
    pub(super) fn close(&mut self, id: u32) {
        if self.open.remove(&id).is_some() {
            self.count[owner(id)] -= 1;
        }
    }
}
