//! Length-prefixed messages of one direction of a stream, from bytes in any pieces.

/// Bytes before each message: a flag and a length.
pub const PREFIX: usize = 5;

/// A message, or the beginning of one that is larger than what is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Message<'a> {
    /// Its number in the direction, from 0.
    pub index: u64,
    /// The first byte: 0 for a plain message, 1 for one in the encoding of `grpc-encoding`. Anything else breaks the protocol.
    pub flag: u8,
    /// Bytes that it has.
    pub length: u32,
    /// Bytes that were kept: all of them, unless it is larger than the limit.
    pub bytes: &'a [u8],
}

impl Message<'_> {
    /// Whether all of it is there.
    pub fn is_whole(&self) -> bool {
        self.bytes.len() == self.length as usize
    }

    /// Whether it is compressed.
    pub fn is_compressed(&self) -> bool {
        self.flag & 1 != 0
    }
}

/// Cuts a direction of a stream into messages.
#[derive(Clone, Debug)]
pub struct Messages {
    limit: usize,
    prefix: [u8; PREFIX],
    /// How much of the prefix has been seen.
    seen: usize,
    /// What of the message is still to come.
    left: u32,
    message: Vec<u8>,
    index: u64,
}

impl Messages {
    /// Keeps at most `limit` bytes of a message.
    pub fn new(limit: usize) -> Self {
        Self {
            limit,
            prefix: [0; PREFIX],
            seen: 0,
            left: 0,
            message: Vec::new(),
            index: 0,
        }
    }

    /// Messages so far, whole or cut.
    pub fn count(&self) -> u64 {
        self.index
    }

    /// Whether the bytes so far end between two messages. A stream that ends elsewhere was cut off.
    pub fn is_between_messages(&self) -> bool {
        self.seen == 0
    }

    /// The message whose end has not come, as far as it is kept.
    pub fn begun(&self) -> Option<Message<'_>> {
        let [flag, length @ ..] = self.prefix;
        (self.seen == PREFIX).then(|| Message {
            index: self.index,
            flag,
            length: u32::from_be_bytes(length),
            bytes: &self.message,
        })
    }

    /// Bytes of memory, beside itself.
    pub fn memory(&self) -> usize {
        self.message.capacity()
    }

    /// Takes the next bytes of the direction's body. A message that lies whole in them is shown where it lies.
    pub fn feed(&mut self, mut bytes: &[u8], show: &mut impl FnMut(&Message<'_>)) {
        while !bytes.is_empty() {
            bytes = if self.seen < PREFIX {
                self.prefix(bytes, show)
            } else {
                self.body(bytes, show)
            };
        }
    }

    fn prefix<'a>(&mut self, bytes: &'a [u8], show: &mut impl FnMut(&Message<'_>)) -> &'a [u8] {
        let (now, rest) = bytes.split_at((PREFIX - self.seen).min(bytes.len()));
        self.prefix[self.seen..self.seen + now.len()].copy_from_slice(now);
        self.seen += now.len();
        let [_, length @ ..] = self.prefix;
        self.left = u32::from_be_bytes(length);
        if self.seen == PREFIX && self.left == 0 {
            self.show(&[], show);
        }
        rest
    }

    fn body<'a>(&mut self, bytes: &'a [u8], show: &mut impl FnMut(&Message<'_>)) -> &'a [u8] {
        let (now, rest) = bytes.split_at((self.left as usize).min(bytes.len()));
        self.left -= now.len() as u32;
        if self.left == 0 && self.message.is_empty() {
            self.show(&now[..now.len().min(self.limit)], show);
            return rest;
        }
        let room = self.limit - self.message.len();
        self.message.extend_from_slice(&now[..room.min(now.len())]);
        if self.left == 0 {
            let message = std::mem::take(&mut self.message);
            self.show(&message, show);
        }
        rest
    }

    fn show(&mut self, bytes: &[u8], show: &mut impl FnMut(&Message<'_>)) {
        let [flag, length @ ..] = self.prefix;
        show(&Message {
            index: self.index,
            flag,
            length: u32::from_be_bytes(length),
            bytes,
        });
        self.index += 1;
        self.seen = 0;
    }
}
