//! The last header blocks of a direction, raw, and the table as it was before the oldest of them.
//!
//! Keeping a block costs a copy of its bytes. One that falls out is advanced over, so whatever is left can be decoded at any later time, with the
//! table before and after each field as it was then.

use std::collections::VecDeque;

use super::Decoder;

/// What happened to a direction's table, in order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Event {
    /// A block of this many bytes.
    Block(u32),
    /// The size that is allowed changed.
    Allowed(u32),
    /// A block was lost.
    Lost,
}

/// A block of a [`History`] with the tag that it was kept under.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry<'a, T> {
    /// What the caller gave with it.
    pub tag: &'a T,
    /// The raw block.
    pub block: &'a [u8],
}

/// A ring of raw blocks that can be decoded whenever somebody asks.
#[derive(Clone, Debug)]
pub struct History<T> {
    /// The state before the oldest event.
    oldest: Decoder,
    events: VecDeque<(Event, Option<T>)>,
    bytes: VecDeque<u8>,
    blocks: usize,
    limit: Limit,
}

/// How much is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Limit {
    blocks: usize,
    bytes: usize,
}

impl<T> History<T> {
    /// Keeps at most this many blocks, and this many bytes of them. `decoder` is the state before the first.
    pub fn new(decoder: Decoder, blocks: usize, bytes: usize) -> Self {
        let limit = Limit { blocks, bytes };
        Self {
            oldest: decoder,
            events: VecDeque::new(),
            bytes: VecDeque::new(),
            blocks: 0,
            limit,
        }
    }

    /// Keeps a block. One that is larger than all room empties the ring and is only advanced over.
    pub fn push(&mut self, tag: T, block: &[u8]) {
        while self.blocks > 0 && (self.blocks >= self.limit.blocks || self.bytes.len() + block.len() > self.limit.bytes)
        {
            self.drop_oldest();
        }
        if self.limit.blocks == 0 || block.len() > self.limit.bytes {
            while !self.events.is_empty() {
                self.drop_oldest();
            }
            let _ = self.oldest.advance(block);
            return;
        }
        self.blocks += 1;
        self.bytes.extend(block);
        self.note(Event::Block(block.len() as u32), Some(tag));
    }

    /// See [`Decoder::set_allowed`].
    pub fn set_allowed(&mut self, size: u32) {
        self.note(Event::Allowed(size), None);
    }

    /// See [`Decoder::lose`].
    pub fn lose(&mut self) {
        self.note(Event::Lost, None);
    }

    fn note(&mut self, event: Event, tag: Option<T>) {
        self.events.push_back((event, tag));
        // Settings that change all the time, without a block in between, take no room.
        while self.events.len() > self.limit.blocks * 2 + 2 {
            self.drop_oldest();
        }
    }

    /// Blocks that are kept.
    pub fn len(&self) -> usize {
        self.blocks
    }

    /// Whether no block is kept.
    pub fn is_empty(&self) -> bool {
        self.blocks == 0
    }

    /// Bytes of memory, beside itself.
    pub fn memory(&self) -> usize {
        self.bytes.capacity() + self.events.capacity() * size_of::<(Event, Option<T>)>() + self.oldest.memory()
    }

    /// Shows every kept block, oldest first, with a decoder in the state before it. `show` decodes the block, or not: what it leaves undone is
    /// advanced over.
    pub fn replay(&self, mut show: impl FnMut(Entry<'_, T>, &mut Decoder)) {
        let mut decoder = self.oldest.clone();
        let (mut at, mut block) = (0, Vec::new());
        for (event, tag) in &self.events {
            match (event, tag) {
                (Event::Block(length), Some(tag)) => {
                    block.clear();
                    block.extend(self.bytes.range(at..at + *length as usize));
                    at += *length as usize;
                    let before = decoder.blocks();
                    show(Entry { tag, block: &block }, &mut decoder);
                    if decoder.blocks() == before {
                        let _ = decoder.advance(&block);
                    }
                }
                (event, _) => apply(&mut decoder, *event),
            }
        }
    }

    fn drop_oldest(&mut self) {
        let Some((event, _)) = self.events.pop_front() else {
            return;
        };
        let Event::Block(length) = event else {
            return apply(&mut self.oldest, event);
        };
        let length = length as usize;
        self.blocks -= 1;
        let (front, _) = self.bytes.as_slices();
        // What cannot be decoded here cannot be decoded later either: the decoder remembers.
        let _ = match front.get(..length) {
            Some(block) => self.oldest.advance(block),
            None => self
                .oldest
                .advance(&self.bytes.range(..length).copied().collect::<Vec<_>>()),
        };
        self.bytes.drain(..length);
    }
}

/// An event that is no block.
fn apply(decoder: &mut Decoder, event: Event) {
    match event {
        Event::Allowed(size) => decoder.set_allowed(size),
        Event::Lost => decoder.lose(),
        Event::Block(_) => {}
    }
}
