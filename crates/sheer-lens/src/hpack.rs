//! HPACK (RFC 7541): header blocks in, fields out, each with how it was encoded and what it did to the table.
//!
//! A decoder follows one direction of a connection from its first block on. It has two speeds over the same state: [`Decoder::decode`] shows every
//! field to a [`Visitor`], borrowed and without an allocation; [`Decoder::advance`] only brings the table up to date, and skips what does not touch
//! it. So a recorder may keep raw blocks, and decode them when somebody asks: see [`History`].
//!
//! ```
//! use sheer_lens::hpack::{Decoder, Field};
//!
//! let mut decoder = Decoder::new();
//! let mut list = Vec::new();
//! let block = [0x82, 0x86, 0x84, 0x41, 0x8c, 0xf1, 0xe3, 0xc2, 0xe5, 0xf2, 0x3a, 0x6b, 0xa0, 0xab, 0x90, 0xf4, 0xff];
//! let done = decoder.decode(&block, &mut |field: &Field<'_>| list.push((field.name.to_vec(), field.value.to_vec())))?;
//! assert_eq!(list[3], (b":authority".to_vec(), b"www.example.com".to_vec()));
//! assert_eq!((done.fields, done.table.entries, done.table.size), (4, 1, 57));
//! # Ok::<(), sheer_lens::hpack::Error>(())
//! ```

mod digest;
mod error;
mod history;
mod huffman;
mod read;
mod repeats;
mod static_table;
mod table;

use std::ops::Range;

pub use digest::{Digest, Digester, FieldHash, ListKind, Name};
pub use error::{Error, ErrorKind, Violation};
pub use history::{Entry as HistoryEntry, History};
pub use repeats::{REMEMBERED, Repeated, Repeats};
pub use static_table::{STATIC_ENTRIES, static_entry};
pub use table::{DEFAULT_TABLE_SIZE, ENTRY_OVERHEAD};

use read::{Instruction, Reader, Text};
use table::{Span, Table};

/// Largest dynamic table that is mirrored, unless [`Decoder::with_table_limit`] says otherwise. Browsers ask for 64 KiB; a peer may allow 4 GiB.
pub const MAX_TABLE_SIZE: u32 = 64 * 1024;
/// Size updates that a block may begin with (RFC 7541, 4.2).
const MAX_SIZE_UPDATES: u32 = 2;
/// What a run over a block is for: the table alone, its fields, or their hashes.
const ADVANCE: u8 = 0;
const SHOW: u8 = 1;
const DIGEST: u8 = 2;

/// One field of a block, and how it came.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Field<'a> {
    /// Its name as sent.
    pub name: &'a [u8],
    /// Its value as sent.
    pub value: &'a [u8],
    /// How it was encoded.
    pub representation: Representation,
    /// Which bytes of the block it took.
    pub wire: Range<u32>,
    /// The table before it.
    pub before: TableState,
    /// The table after it.
    pub after: TableState,
    /// Entries that it evicted, oldest first: those numbered `before.inserted - before.entries` and up.
    pub evicted: u32,
}

/// How a field was encoded (RFC 7541, 6).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Representation {
    /// An index for name and value (6.1).
    Indexed {
        /// 1 to 61 are static entries, above that the dynamic table begins, newest first.
        index: u32,
    },
    /// At least the value is spelled out (6.2).
    Literal {
        /// Whether the field enters the table.
        indexing: Indexing,
        /// Where the name comes from.
        name: NameSource,
        /// Whether the value is in Huffman code.
        huffman: bool,
    },
}

/// What a literal does to the table (RFC 7541, 6.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Indexing {
    /// The field becomes the newest entry (6.2.1).
    Incremental,
    /// The field leaves the table alone (6.2.2).
    Without,
    /// The same, and no hop may ever index it: a secret (6.2.3).
    Never,
}

/// Where the name of a literal comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NameSource {
    /// The entry with this index.
    Index(u32),
    /// It is spelled out.
    Literal {
        /// In Huffman code.
        huffman: bool,
    },
}

/// The dynamic table in numbers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TableState {
    /// Entries that ever entered it: the newest has this number less one.
    pub inserted: u64,
    /// Entries in it.
    pub entries: u32,
    /// What they count, [`ENTRY_OVERHEAD`] each and their text.
    pub size: u32,
    /// What they may count: the size that the encoder chose.
    pub maximum: u32,
}

/// The encoder set the size of the table (RFC 7541, 6.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SizeUpdate {
    /// The table before it.
    pub before: TableState,
    /// The table after it.
    pub after: TableState,
}

/// A block that was read to its end.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Done {
    /// How many fields it had.
    pub fields: u32,
    /// The size of its list as `SETTINGS_MAX_HEADER_LIST_SIZE` counts (RFC 9113, 6.5.2); 0 from [`Decoder::advance`].
    pub list_size: u64,
    /// The table after it.
    pub table: TableState,
}

/// Sees what a block says, in its order. A closure over fields is one.
pub trait Visitor {
    /// A field.
    fn field(&mut self, field: &Field<'_>);
    /// A field by its hash, instead of [`Visitor::field`]: from [`Decoder::digest`].
    fn hashed(&mut self, _hash: FieldHash) {}
    /// A new size of the table.
    fn size_update(&mut self, _update: SizeUpdate) {}
    /// A broken rule that decoding survives.
    fn violation(&mut self, _violation: Violation) {}
}

impl Visitor for Digester {
    fn field(&mut self, _field: &Field<'_>) {}

    #[inline]
    fn hashed(&mut self, hash: FieldHash) {
        self.add(hash);
    }
}

impl<F: FnMut(&Field<'_>)> Visitor for F {
    fn field(&mut self, field: &Field<'_>) {
        self(field);
    }
}

/// The table, entry by entry: what `before` and `after` mean in full.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Snapshot {
    /// Name and value, newest first: the first has index 62.
    pub entries: Vec<(Vec<u8>, Vec<u8>)>,
    /// The table in numbers.
    pub state: TableState,
    /// `SETTINGS_HEADER_TABLE_SIZE` of the decoder's side, as acknowledged.
    pub allowed: u32,
    /// Whether the table is what the peer has; false after an error or a lost block.
    pub known: bool,
}

/// Decoder of one direction. Cheap to clone: the table is at most [`MAX_TABLE_SIZE`].
#[derive(Clone, Debug)]
pub struct Decoder {
    table: Table,
    /// What settings allow, and what of it the lens follows.
    allowed: u32,
    limit: u32,
    /// The smallest size that was allowed since the last block, where the table has more.
    owed: Option<u32>,
    blocks: u64,
    failed: bool,
}

impl Default for Decoder {
    fn default() -> Self {
        Self::new()
    }
}

impl Decoder {
    /// For a connection's first block: an empty table of [`DEFAULT_TABLE_SIZE`].
    pub fn new() -> Self {
        Self::with_table_limit(MAX_TABLE_SIZE)
    }

    /// The same, but follows tables up to `limit`. A larger one that settings allow and the encoder chooses is [`ErrorKind::TableBeyondLimit`].
    pub fn with_table_limit(limit: u32) -> Self {
        Self {
            table: Table::new(DEFAULT_TABLE_SIZE),
            allowed: DEFAULT_TABLE_SIZE,
            limit: limit.max(DEFAULT_TABLE_SIZE),
            owed: None,
            blocks: 0,
            failed: false,
        }
    }

    /// The side that decodes announced this `SETTINGS_HEADER_TABLE_SIZE`, and the encoder has just acknowledged it.
    pub fn set_allowed(&mut self, size: u32) {
        self.allowed = size;
        if size < self.table.maximum() {
            self.owed = Some(self.owed.map_or(size, |owed| owed.min(size)));
        }
    }

    /// A block was not seen, so nothing is known of the table any more: every block from here on is [`ErrorKind::TableUnknown`].
    pub fn lose(&mut self) {
        self.failed = true;
    }

    /// The table in numbers.
    #[inline]
    pub fn state(&self) -> TableState {
        TableState {
            inserted: self.table.inserted(),
            entries: self.table.entries() as u32,
            size: self.table.size(),
            maximum: self.table.maximum(),
        }
    }

    /// Blocks that were decoded or advanced over, also those that failed.
    pub fn blocks(&self) -> u64 {
        self.blocks
    }

    /// Bytes of memory that the decoder holds beside itself.
    pub fn memory(&self) -> usize {
        self.table.memory()
    }

    /// Name and value by the index that a block would name.
    pub fn entry(&self, index: u32) -> Option<(&[u8], &[u8])> {
        self.table.entry(index as usize)
    }

    /// The whole table, to keep or to show.
    pub fn snapshot(&self) -> Snapshot {
        let entry = |nth: u32| {
            self.entry(STATIC_ENTRIES as u32 + 1 + nth)
                .map(|(name, value)| (name.to_vec(), value.to_vec()))
        };
        Snapshot {
            entries: (0..self.table.entries() as u32).filter_map(entry).collect(),
            state: self.state(),
            allowed: self.allowed,
            known: !self.failed,
        }
    }

    /// A decoder that goes on where the snapshot was taken.
    pub fn restore(snapshot: &Snapshot) -> Self {
        let mut decoder = Self::with_table_limit(snapshot.state.maximum.max(MAX_TABLE_SIZE));
        decoder.table.resize(snapshot.state.maximum);
        for (name, value) in snapshot.entries.iter().rev() {
            let (name, value) = (decoder.table.append(name), decoder.table.append(value));
            let hash = FieldHash::of(decoder.table.text(name), decoder.table.text(value));
            decoder.table.insert(name, value, hash);
        }
        decoder.table.set_inserted(snapshot.state.inserted);
        decoder.set_allowed(snapshot.allowed);
        decoder.failed = !snapshot.known;
        decoder
    }

    /// Decodes a whole block: the fragments of HEADERS or PUSH_PROMISE and its CONTINUATIONs, joined.
    ///
    /// # Errors
    /// The first thing that is wrong. The fields before it have been visited, and no later block can be decoded.
    pub fn decode(&mut self, block: &[u8], visitor: &mut impl Visitor) -> Result<Done, Error> {
        self.run::<SHOW>(block, visitor)
    }

    /// Follows what a block does to the table and nothing else. Strings that never reach the table are skipped unread, so a fault within them goes
    /// unnoticed.
    ///
    /// # Errors
    /// As [`Decoder::decode`].
    pub fn advance(&mut self, block: &[u8]) -> Result<Done, Error> {
        self.run::<ADVANCE>(block, &mut |_: &Field<'_>| {})
    }

    /// Decodes a block for what [`Digester`] makes of it. An entry's hash was computed when it entered the table.
    ///
    /// # Errors
    /// As [`Decoder::decode`]. The digest is then of the fields before.
    pub fn digest(&mut self, block: &[u8], digester: &mut Digester) -> Result<Done, Error> {
        self.run::<DIGEST>(block, digester)
    }

    fn run<const MODE: u8>(&mut self, block: &[u8], visitor: &mut impl Visitor) -> Result<Done, Error> {
        self.blocks += 1;
        if self.failed {
            return Err(Error {
                at: 0,
                kind: ErrorKind::TableUnknown,
            });
        }
        let mut reader = Reader::new(block);
        let mut done = Done::default();
        let mut at = 0;
        let outcome = self.block::<MODE>(&mut reader, visitor, (&mut done, &mut at));
        self.failed = outcome.is_err();
        done.table = self.state();
        outcome.map(|()| done).map_err(|kind| Error { at, kind })
    }

    fn block<const MODE: u8>(
        &mut self,
        reader: &mut Reader<'_>,
        visitor: &mut impl Visitor,
        (done, at): (&mut Done, &mut usize),
    ) -> Result<(), ErrorKind> {
        let mut updates = 0;
        while !reader.is_empty() {
            *at = reader.position();
            let instruction = reader.instruction()?;
            if let Instruction::SizeUpdate(size) = instruction {
                if done.fields > 0 {
                    return Err(ErrorKind::SizeUpdateAfterField);
                }
                updates += 1;
                self.size_update(size, visitor)?;
                continue;
            }
            if done.fields == 0 {
                self.first_field(updates, visitor);
            }
            done.fields += 1;
            let size = match instruction {
                Instruction::Indexed(index) => self.indexed::<MODE>(index, *at..reader.position(), visitor)?,
                Instruction::Literal(indexing, index) => {
                    self.literal::<MODE>(reader, (indexing, index, *at), visitor)?
                }
                Instruction::SizeUpdate(_) => 0,
            };
            done.list_size += size;
        }
        Ok(())
    }

    fn size_update(&mut self, size: u32, visitor: &mut impl Visitor) -> Result<(), ErrorKind> {
        if size > self.limit {
            return Err(ErrorKind::TableBeyondLimit {
                size,
                limit: self.limit,
            });
        }
        if size > self.allowed {
            visitor.violation(Violation::SizeUpdateTooLarge {
                size,
                allowed: self.allowed,
            });
        }
        if self.owed.is_some_and(|owed| size <= owed) {
            self.owed = None;
        }
        let before = self.state();
        self.table.resize(size);
        visitor.size_update(SizeUpdate {
            before,
            after: self.state(),
        });
        Ok(())
    }

    /// What the size updates of a block must have said by the time its fields begin.
    #[inline]
    fn first_field(&mut self, updates: u32, visitor: &mut impl Visitor) {
        if updates > MAX_SIZE_UPDATES {
            visitor.violation(Violation::SizeUpdatesTooMany);
        }
        if let Some(allowed) = self.owed.take() {
            visitor.violation(Violation::SizeUpdateMissing {
                allowed,
                size: self.table.maximum(),
            });
        }
    }

    #[inline]
    fn indexed<const MODE: u8>(
        &mut self,
        index: u32,
        wire: Range<usize>,
        visitor: &mut impl Visitor,
    ) -> Result<u64, ErrorKind> {
        if index == 0 {
            return Err(ErrorKind::IndexZero);
        }
        if MODE == DIGEST {
            visitor.hashed(self.table.hash(index as usize).ok_or_else(|| self.beyond(index))?);
            return Ok(0);
        }
        let (name, value) = self.table.entry(index as usize).ok_or_else(|| self.beyond(index))?;
        if MODE == ADVANCE {
            return Ok(0);
        }
        let state = self.state();
        visitor.field(&Field {
            name,
            value,
            representation: Representation::Indexed { index },
            wire: span(wire),
            before: state,
            after: state,
            evicted: 0,
        });
        Ok(list_size(name, value))
    }

    /// `begin` is how the literal begins: what it does to the table, the index of its name or 0, and where it stands.
    fn literal<const MODE: u8>(
        &mut self,
        reader: &mut Reader<'_>,
        begin: (Indexing, u32, usize),
        visitor: &mut impl Visitor,
    ) -> Result<u64, ErrorKind> {
        let (indexing, index, at) = begin;
        let spelled = if index == 0 { Some(reader.text()?) } else { None };
        let text = reader.text()?;
        let is_kept = indexing == Indexing::Incremental;
        if MODE == ADVANCE && !is_kept {
            let is_known = index == 0 || self.table.entry(index as usize).is_some();
            return if is_known { Ok(0) } else { Err(self.beyond(index)) };
        }
        let (before, end) = (self.state(), self.table.end());
        let name = match spelled {
            Some(name) => self.spelled(name)?,
            None => self.name(index)?,
        };
        let (name, value, evicted) = if is_kept {
            let name = self.append(name);
            let value = self.spelled(text)?;
            let value = self.append(value);
            let hash = self.hash(index, self.table.text(name), self.table.text(value));
            if MODE == DIGEST {
                visitor.hashed(hash);
            }
            let evicted = self.table.insert(name, value, hash);
            (Source::Table(name), Source::Table(value), evicted)
        } else {
            let value = self.spelled(text)?;
            if MODE == DIGEST {
                visitor.hashed(self.hash(index, self.resolve(name), self.resolve(value)));
            }
            (name, value, 0)
        };
        let (name, value) = (self.resolve(name), self.resolve(value));
        let size = list_size(name, value);
        if MODE == SHOW {
            let source = spelled.map_or(NameSource::Index(index), |name| NameSource::Literal {
                huffman: name.huffman,
            });
            visitor.field(&Field {
                name,
                value,
                representation: Representation::Literal {
                    indexing,
                    name: source,
                    huffman: text.huffman,
                },
                wire: span(at..reader.position()),
                before,
                after: self.state(),
                evicted,
            });
        }
        if is_kept {
            self.table.tidy();
        } else {
            self.table.forget(end);
        }
        Ok(size)
    }

    /// A spelled out string: where it lies, or decoded at the table's end.
    #[inline]
    fn spelled<'a>(&mut self, text: Text<'a>) -> Result<Source<'a>, ErrorKind> {
        if !text.huffman {
            return Ok(Source::Bytes(text.bytes));
        }
        let room = huffman::longest(text.bytes.len());
        self.table
            .append_with(room, |out| huffman::decode(text.bytes, out))
            .map(Source::Table)
    }

    /// The name of an entry.
    #[inline]
    fn name<'a>(&self, index: u32) -> Result<Source<'a>, ErrorKind> {
        if let Some((name, _)) = static_entry(index as usize) {
            return Ok(Source::Bytes(name));
        }
        let nth = (index as usize).checked_sub(STATIC_ENTRIES + 1);
        match nth.and_then(|nth| self.table.spans(nth)) {
            Some((name, _)) => Ok(Source::Table(name)),
            None => Err(self.beyond(index)),
        }
    }

    /// A string of a new entry, at the table's end. A name is copied even where an entry has it: that entry may be evicted by the field that uses
    /// its name (RFC 7541, 4.4).
    #[inline]
    fn append(&mut self, text: Source<'_>) -> Span {
        match text {
            Source::Bytes(bytes) => self.table.append(bytes),
            Source::Table(span) if self.table.is_last(span) => span,
            Source::Table(span) => self.table.append_own(span),
        }
    }

    #[inline]
    fn resolve<'a>(&'a self, text: Source<'a>) -> &'a [u8] {
        match text {
            Source::Bytes(bytes) => bytes,
            Source::Table(span) => self.table.text(span),
        }
    }

    /// The hash of a field whose name is that of an entry, or spelled out (0).
    #[inline]
    fn hash(&self, index: u32, name: &[u8], value: &[u8]) -> FieldHash {
        match self.table.hash(index as usize) {
            Some(entry) => entry.same_name(name, value),
            None => FieldHash::of(name, value),
        }
    }

    #[cold]
    fn beyond(&self, index: u32) -> ErrorKind {
        ErrorKind::IndexBeyondTable {
            index,
            entries: (STATIC_ENTRIES + self.table.entries()) as u32,
        }
    }
}

/// Where a string of a literal lies.
#[derive(Clone, Copy)]
enum Source<'a> {
    /// In the block or the static table.
    Bytes(&'a [u8]),
    /// In the dynamic table's buffer.
    Table(Span),
}

#[inline]
fn list_size(name: &[u8], value: &[u8]) -> u64 {
    (name.len() + value.len()) as u64 + u64::from(ENTRY_OVERHEAD)
}

#[inline]
fn span(wire: Range<usize>) -> Range<u32> {
    wire.start as u32..wire.end as u32
}

#[cfg(test)]
mod tests;
