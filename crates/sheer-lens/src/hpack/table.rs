//! The dynamic table (RFC 7541, 2.3.2 and 4): entries over one buffer, no allocation an entry.
//!
//! Text of new entries is appended, evicted entries leave a gap at the front, and once the gap is larger than what lives the buffer moves down.
//! The end of the buffer doubles as scratch for strings that are not kept.

use std::{collections::VecDeque, ops::Range, sync::LazyLock};

use super::digest::FieldHash;
use super::static_table::{STATIC_ENTRIES, static_entry};

/// What an entry counts beyond its text (RFC 7541, 4.1).
pub const ENTRY_OVERHEAD: u32 = 32;
/// The table's size before any setting or update (RFC 9113, 6.5.2).
pub const DEFAULT_TABLE_SIZE: u32 = 4096;
/// A gap smaller than this is not worth a move.
const SMALLEST_GAP: usize = 512;
/// A buffer that grew beyond this for one long string is given back.
const KEPT_CAPACITY: usize = 32 * 1024;

/// Text in the table's buffer, counted from the beginning of the connection, so that moving the buffer changes nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Span {
    start: u64,
    length: u32,
}

#[derive(Clone, Copy, Debug)]
struct Entry {
    start: u64,
    name: u32,
    value: u32,
    hash: FieldHash,
}

/// Hashes of the static table, in its order.
static STATIC_HASHES: LazyLock<Vec<FieldHash>> = LazyLock::new(|| {
    let entries = (1..=STATIC_ENTRIES).filter_map(static_entry);
    entries.map(|(name, value)| FieldHash::of(name, value)).collect()
});

impl Entry {
    #[inline]
    fn size(self) -> u32 {
        entry_size(self.name as usize, self.value as usize)
    }
}

/// What an entry counts (RFC 7541, 4.1).
fn entry_size(name: usize, value: usize) -> u32 {
    u32::try_from(name + value)
        .unwrap_or(u32::MAX)
        .saturating_add(ENTRY_OVERHEAD)
}

#[derive(Clone, Debug)]
pub(super) struct Table {
    buffer: Vec<u8>,
    /// Position of the buffer's first byte.
    base: u64,
    /// Oldest first.
    entries: VecDeque<Entry>,
    size: u32,
    maximum: u32,
    inserted: u64,
}

impl Table {
    pub(super) fn new(maximum: u32) -> Self {
        Self {
            buffer: Vec::new(),
            base: 0,
            entries: VecDeque::new(),
            size: 0,
            maximum,
            inserted: 0,
        }
    }

    #[inline]
    pub(super) fn size(&self) -> u32 {
        self.size
    }

    #[inline]
    pub(super) fn maximum(&self) -> u32 {
        self.maximum
    }

    #[inline]
    pub(super) fn entries(&self) -> usize {
        self.entries.len()
    }

    #[inline]
    pub(super) fn inserted(&self) -> u64 {
        self.inserted
    }

    /// Bytes of memory that the table holds.
    pub(super) fn memory(&self) -> usize {
        self.buffer.capacity() + self.entries.capacity() * size_of::<Entry>()
    }

    pub(super) fn set_inserted(&mut self, inserted: u64) {
        self.inserted = inserted;
    }

    /// Name and value of a dynamic entry, the newest being 0.
    #[inline]
    pub(super) fn spans(&self, nth: usize) -> Option<(Span, Span)> {
        let entry = self.entries.get(self.entries.len().checked_sub(nth + 1)?)?;
        let value = Span {
            start: entry.start + u64::from(entry.name),
            length: entry.value,
        };
        Some((
            Span {
                start: entry.start,
                length: entry.name,
            },
            value,
        ))
    }

    #[inline]
    pub(super) fn text(&self, span: Span) -> &[u8] {
        &self.buffer[self.range(span)]
    }

    #[inline]
    fn range(&self, span: Span) -> Range<usize> {
        let start = (span.start - self.base) as usize;
        start..start + span.length as usize
    }

    /// Static and dynamic entry by the index that a block names; `None` where there is none.
    #[inline]
    pub(super) fn entry(&self, index: usize) -> Option<(&[u8], &[u8])> {
        if index <= STATIC_ENTRIES {
            return static_entry(index);
        }
        let (name, value) = self.spans(index - STATIC_ENTRIES - 1)?;
        Some((self.text(name), self.text(value)))
    }

    /// The hash of a static or dynamic entry.
    #[inline]
    pub(super) fn hash(&self, index: usize) -> Option<FieldHash> {
        if index <= STATIC_ENTRIES {
            return STATIC_HASHES.get(index.checked_sub(1)?).copied();
        }
        let nth = index - STATIC_ENTRIES - 1;
        Some(self.entries.get(self.entries.len().checked_sub(nth + 1)?)?.hash)
    }

    /// Appends text that is not an entry yet; [`Table::insert`] or [`Table::forget`] says what becomes of it.
    #[inline]
    pub(super) fn append(&mut self, text: &[u8]) -> Span {
        let span = Span {
            start: self.end(),
            length: text.len() as u32,
        };
        self.buffer.extend_from_slice(text);
        span
    }

    /// Appends text that the table already has.
    #[inline]
    pub(super) fn append_own(&mut self, text: Span) -> Span {
        let span = Span {
            start: self.end(),
            length: text.length,
        };
        let range = self.range(text);
        self.buffer.extend_from_within(range);
        span
    }

    /// Whether this text was appended last, and is no entry's.
    #[inline]
    pub(super) fn is_last(&self, text: Span) -> bool {
        let kept = self
            .entries
            .back()
            .map_or(self.base, |newest| newest.start + u64::from(newest.name + newest.value));
        text.start >= kept && text.start + u64::from(text.length) == self.end()
    }

    /// Lets `write` fill up to `room` bytes at the end and say how many it wrote.
    #[inline]
    pub(super) fn append_with<E>(
        &mut self,
        room: usize,
        write: impl FnOnce(&mut [u8]) -> Result<usize, E>,
    ) -> Result<Span, E> {
        let (start, length) = (self.end(), self.buffer.len());
        self.buffer.resize(length + room, 0);
        let written = write(&mut self.buffer[length..]);
        self.buffer
            .truncate(length + written.as_ref().map_or(0, |written| *written));
        Ok(Span {
            start,
            length: written? as u32,
        })
    }

    /// Position of the end.
    #[inline]
    pub(super) fn end(&self) -> u64 {
        self.base + self.buffer.len() as u64
    }

    /// Cuts off what was appended since `end`.
    #[inline]
    pub(super) fn forget(&mut self, end: u64) {
        self.buffer.truncate((end - self.base) as usize);
    }

    /// Makes an entry of name and value, which were appended last and in this order, and says how many entries went. One that is larger than the
    /// table empties it and is not kept (RFC 7541, 4.4), though its text stays readable until something else is appended.
    #[inline]
    pub(super) fn insert(&mut self, name: Span, value: Span, hash: FieldHash) -> u32 {
        self.inserted += 1;
        let size = entry_size(name.length as usize, value.length as usize);
        let evicted = self.evict_to(self.maximum.saturating_sub(size));
        if size <= self.maximum {
            self.entries.push_back(Entry {
                start: name.start,
                name: name.length,
                value: value.length,
                hash,
            });
            self.size += size;
        }
        evicted
    }

    /// Sets the size that the encoder chose, and says how many entries went.
    pub(super) fn resize(&mut self, maximum: u32) -> u32 {
        self.maximum = maximum;
        self.evict_to(maximum)
    }

    fn evict_to(&mut self, size: u32) -> u32 {
        let mut evicted = 0;
        while self.size > size {
            let Some(entry) = self.entries.pop_front() else { break };
            self.size -= entry.size();
            evicted += 1;
        }
        evicted
    }

    /// Closes the gap at the front where it pays. Only between fields: nothing that was appended may be waiting.
    #[inline]
    pub(super) fn tidy(&mut self) {
        let live = self.entries.front().map_or(self.end(), |oldest| oldest.start);
        let gap = (live - self.base) as usize;
        if gap >= SMALLEST_GAP && gap * 2 >= self.buffer.len() {
            self.close_gap(gap);
        }
    }

    #[cold]
    fn close_gap(&mut self, gap: usize) {
        self.buffer.drain(..gap);
        self.base += gap as u64;
        if self.buffer.capacity() > KEPT_CAPACITY.max(self.maximum as usize * 4) {
            self.buffer.shrink_to(KEPT_CAPACITY.max(self.buffer.len()));
        }
    }
}
