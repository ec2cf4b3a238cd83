//! How frames are written down in few bytes, and read again: numbers as differences, seven bits a byte, texts by their number ([`texts`](super::super::texts)).
//! Nothing is left out of a frame but long secrets: only hashes of those are ever shown, so a digest of each is as good.

use sheer_lens::{
    h2::{Priority, Room, Setting},
    hpack::{ListKind, TableState},
};

use super::super::{
    log::{Form, Record},
    replay::{BlockField, Detail, Head, LeftOut, REPRESENTATIONS, Shown, ShownBlock},
    texts::{Interner, Texts},
};
use crate::redact::{Digest, Redactor};

/// Secrets that are longer than this, in bytes, are kept as digests: a token can be larger than all else that a request says, and each caller has its own.
pub(super) const LONG_SECRET: usize = 64;
const KINDS: [ListKind; 4] = [
    ListKind::Request,
    ListKind::Informational,
    ListKind::Response,
    ListKind::Trailers,
];
const FORMS: [Form; 4] = [Form::Frame, Form::RequestHead, Form::ResponseHead, Form::Trailers];

/// Frames that were written down, with the numbers of their texts.
pub(super) fn frames(frames: &[u8], numbers: &[u8], texts: &Texts) -> Vec<Shown> {
    let mut unpacker = Unpacker {
        frames: Reader(frames),
        numbers: Reader(numbers),
        texts,
        before: Before::default(),
    };
    std::iter::from_fn(|| unpacker.frame()).collect()
}

/// Numbers that were written down one after the other.
pub(super) fn numbers(bytes: &[u8]) -> impl Iterator<Item = u64> {
    let mut reader = Reader(bytes);
    std::iter::from_fn(move || reader.number())
}

/// The frame before, from which a frame differs little.
#[derive(Debug, Default)]
struct Before {
    number: u64,
    base: u64,
    at: u32,
    stream: u32,
}

/// What a frame has, in its first byte. Its form takes two bits.
mod has {
    pub(super) const WRITTEN: u8 = 1;
    pub(super) const FORM: u8 = 1;
    pub(super) const BASE: u8 = 1 << 3;
    pub(super) const STREAM: u8 = 1 << 4;
    pub(super) const ROOM: u8 = 1 << 5;
    pub(super) const BLOCK: u8 = 1 << 6;
    pub(super) const VIOLATIONS: u8 = 1 << 7;
}

/// What a field is, in its first byte. Its representation takes two bits.
mod is {
    pub(super) const HUFFMAN_NAME: u8 = 1 << 2;
    pub(super) const HUFFMAN_VALUE: u8 = 1 << 3;
    /// It does not begin where the one before ended.
    pub(super) const APART: u8 = 1 << 4;
    /// It changed the table.
    pub(super) const CHANGE: u8 = 1 << 5;
    /// The table is not as the field before left it.
    pub(super) const JUMP: u8 = 1 << 6;
    /// Its value is a digest.
    pub(super) const DIGEST: u8 = 1 << 7;
}

/// Writes frames.
#[derive(Debug, Default)]
pub(super) struct Packer {
    /// Numbers of texts in the order in which frames name them.
    pub(super) texts: Vec<u8>,
    pub(super) frames: Vec<u8>,
    first: Option<u64>,
    before: Before,
}

impl Packer {
    /// Number of the first record, if there is one.
    pub(super) fn first(&self) -> Option<u64> {
        self.first
    }

    /// Number of the record behind the last.
    pub(super) fn next(&self) -> u64 {
        self.before.number
    }

    fn number(&mut self, number: impl Into<u64>) {
        write(&mut self.frames, number.into());
    }

    fn signed(&mut self, number: i64) {
        self.number(((number << 1) ^ (number >> 63)) as u64);
    }

    fn text(&mut self, text: &[u8], interner: &mut Interner) {
        write(&mut self.texts, interner.hold(text).into());
    }

    /// Adds a frame, later than those before it.
    pub(super) fn frame(&mut self, shown: &Shown, interner: &mut Interner) {
        let record = &shown.record;
        let base = shown.at - u64::from(record.at);
        let before = &self.before;
        let form = FORMS.iter().position(|form| *form == record.form).unwrap_or(0) as u8;
        let bits = [
            (record.written, has::WRITTEN),
            (base != before.base, has::BASE),
            (record.stream != before.stream, has::STREAM),
            (shown.room.is_some(), has::ROOM),
            (shown.block.is_some(), has::BLOCK),
            (!shown.violations.is_empty(), has::VIOLATIONS),
        ];
        let first = flags(&bits) | form << has::FORM;
        self.first.get_or_insert(shown.number);
        self.frames.extend([first, record.kind, record.flags]);
        self.number(shown.number - self.before.number);
        if base != self.before.base {
            self.number(base - self.before.base);
            self.before.at = 0;
        }
        self.number(record.at.wrapping_sub(self.before.at));
        if record.stream != self.before.stream {
            self.number(record.stream);
        }
        self.number(record.length);
        self.number(record.kept);
        self.before = Before {
            number: shown.number + 1,
            base,
            at: record.at,
            stream: record.stream,
        };
        self.detail(&shown.detail, interner);
        if let Some(room) = shown.room {
            self.signed(room.connection);
            self.number(room.stream.is_some());
            if let Some(room) = room.stream {
                self.signed(room);
            }
        }
        if let Some(block) = &shown.block {
            self.block(block, interner);
        }
        if !shown.violations.is_empty() {
            self.number(shown.violations.len() as u64);
            for violation in &shown.violations {
                self.text(violation.as_bytes(), interner);
            }
        }
    }

    fn detail(&mut self, detail: &Detail, interner: &mut Interner) {
        match detail {
            Detail::Nothing => self.number(0u8),
            Detail::Settings(settings) => {
                self.number(1u8);
                self.number(settings.len() as u64);
                for setting in settings {
                    self.number(setting.id);
                    self.number(setting.value);
                }
            }
            Detail::Reset(code) => {
                self.number(2u8);
                self.number(*code);
            }
            Detail::GoAway { last, code, debug } => {
                self.number(3u8);
                self.number(*last);
                self.number(*code);
                self.text(debug, interner);
            }
            Detail::WindowUpdate(increment) => {
                self.number(4u8);
                self.number(*increment);
            }
            Detail::Priority(priority) => {
                self.number(5u8);
                self.number(priority.dependency);
                self.number(priority.exclusive);
                self.number(priority.weight);
            }
            Detail::Promise(promised) => {
                self.number(6u8);
                self.number(*promised);
            }
            // The opaque bytes of a PING are like no others.
            Detail::Bytes(bytes) => {
                self.number(7u8);
                self.number(bytes.len() as u64);
                self.frames.extend(bytes);
            }
            // Line by line: most of them repeat.
            Detail::Head(head) => {
                let lines = || head.bytes.split_inclusive(|byte| *byte == b'\n');
                self.number(8u8);
                self.number(lines().count() as u64);
                for (at, line) in lines().enumerate() {
                    match long_secret(line).filter(|_| at > 0) {
                        Some((before, length, digest)) => {
                            self.number(length);
                            self.text(before, interner);
                            self.text(digest.bytes(), interner);
                        }
                        None => {
                            self.number(0u8);
                            self.text(line, interner);
                        }
                    }
                }
            }
        }
    }

    fn block(&mut self, block: &ShownBlock, interner: &mut Interner) {
        let kind = KINDS.iter().position(|kind| *kind == block.kind).unwrap_or(0) as u8;
        self.frames
            .push(kind | u8::from(block.is_promise) << 2 | u8::from(block.error.is_some()) << 3);
        self.number(block.bytes);
        self.number(block.frames);
        self.number(block.list_size);
        for table in [block.before, block.after] {
            self.number(table.inserted);
            self.number(table.entries);
            self.number(table.size);
            self.number(table.maximum);
        }
        self.number(block.size_updates.len() as u64);
        for update in &block.size_updates {
            self.number(*update);
        }
        if let Some(error) = &block.error {
            self.text(error.as_bytes(), interner);
        }
        self.number(block.fields.len() as u64);
        let (mut end, mut table) = (0, block.before.size);
        for field in &block.fields {
            self.field(field, (end, table), interner);
            (end, table) = (field.offset + field.length, field.tables.1);
        }
    }

    /// `end` and `table`: as the field before left them.
    fn field(&mut self, field: &BlockField, (end, table): (u32, u32), interner: &mut Interner) {
        let known = REPRESENTATIONS.iter().position(|known| *known == field.representation);
        let digest = digest(&field.name, &field.value);
        let bits = [
            (field.huffman.0, is::HUFFMAN_NAME),
            (field.huffman.1, is::HUFFMAN_VALUE),
            (field.offset != end, is::APART),
            (field.evicted != 0 || field.tables.0 != field.tables.1, is::CHANGE),
            (field.tables.0 != table, is::JUMP),
            (digest.is_some(), is::DIGEST),
        ];
        let first = flags(&bits) | known.unwrap_or(0) as u8;
        self.frames.push(first);
        self.text(&field.name, interner);
        self.text(digest.as_ref().map_or(&field.value, Digest::bytes), interner);
        self.number(field.index);
        self.number(field.length);
        if first & is::APART != 0 {
            self.number(field.offset);
        }
        if first & is::JUMP != 0 {
            self.number(field.tables.0);
        }
        if first & is::CHANGE != 0 {
            self.number(field.evicted);
            self.number(field.tables.1);
        }
    }
}

/// What is kept of a value in its place, where it is a long secret by its field's name.
fn digest(name: &[u8], value: &[u8]) -> Option<Digest> {
    (value.len() > LONG_SECRET && Redactor::own().is_sensitive(name)).then(|| Digest::of(value))
}

/// The same of a line of HTTP/1: what stands before the value, how long the line is, and the digest.
fn long_secret(line: &[u8]) -> Option<(&[u8], u32, Digest)> {
    let colon = line.iter().position(|byte| *byte == b':')?;
    let digest = digest(line[..colon].trim_ascii(), line[colon + 1..].trim_ascii())?;
    let line = line.strip_suffix(b"\n").unwrap_or(line);
    let length = line.strip_suffix(b"\r").unwrap_or(line).len();
    Some((&line[..=colon], length as u32, digest))
}

fn flags(bits: &[(bool, u8)]) -> u8 {
    bits.iter().filter(|(is_set, _)| *is_set).map(|(_, bit)| bit).sum()
}

/// Seven bits a byte, the lowest first; the eighth says that more follow.
fn write(out: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        out.push(number as u8 | 0x80);
        number >>= 7;
    }
    out.push(number as u8);
}

/// Reads what was written; none at the end.
struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn byte(&mut self) -> Option<u8> {
        let (first, rest) = self.0.split_first()?;
        self.0 = rest;
        Some(*first)
    }

    fn bytes(&mut self, count: usize) -> Option<&'a [u8]> {
        let (bytes, rest) = self.0.split_at_checked(count)?;
        self.0 = rest;
        Some(bytes)
    }

    fn number(&mut self) -> Option<u64> {
        let (mut number, mut shift) = (0, 0);
        loop {
            let byte = self.byte()?;
            number |= u64::from(byte & 0x7f).checked_shl(shift)?;
            if byte & 0x80 == 0 {
                return Some(number);
            }
            shift += 7;
        }
    }
}

/// Reads frames.
struct Unpacker<'a> {
    frames: Reader<'a>,
    numbers: Reader<'a>,
    texts: &'a Texts,
    before: Before,
}

impl Unpacker<'_> {
    fn number(&mut self) -> Option<u64> {
        self.frames.number()
    }

    fn small(&mut self) -> Option<u32> {
        self.number().map(|number| number as u32)
    }

    fn signed(&mut self) -> Option<i64> {
        let number = self.number()?;
        Some((number >> 1) as i64 ^ -((number & 1) as i64))
    }

    fn text(&mut self) -> Option<Vec<u8>> {
        let number = self.numbers.number()? as u32;
        Some(self.texts.text(number).to_vec())
    }

    fn string(&mut self) -> Option<String> {
        self.text().map(|text| String::from_utf8_lossy(&text).into_owned())
    }

    fn list<T>(&mut self, mut one: impl FnMut(&mut Self) -> Option<T>) -> Option<Vec<T>> {
        let count = self.number()?;
        (0..count).map(|_| one(self)).collect()
    }

    fn frame(&mut self) -> Option<Shown> {
        let first = self.frames.byte()?;
        let (kind, flags) = (self.frames.byte()?, self.frames.byte()?);
        let number = self.before.number + self.number()?;
        if first & has::BASE != 0 {
            self.before.base += self.number()?;
            self.before.at = 0;
        }
        let at = self.before.at.wrapping_add(self.small()?);
        if first & has::STREAM != 0 {
            self.before.stream = self.small()?;
        }
        (self.before.number, self.before.at) = (number + 1, at);
        let record = Record {
            at,
            length: self.small()?,
            stream: self.before.stream,
            kept: self.small()?,
            form: FORMS[usize::from(first >> has::FORM & 3).min(FORMS.len() - 1)],
            kind,
            flags,
            written: first & has::WRITTEN != 0,
        };
        Some(Shown {
            number,
            at: self.before.base + u64::from(at),
            record,
            detail: self.detail()?,
            room: if first & has::ROOM != 0 {
                Some(self.room()?)
            } else {
                None
            },
            block: if first & has::BLOCK != 0 {
                Some(self.block()?)
            } else {
                None
            },
            violations: if first & has::VIOLATIONS != 0 {
                self.list(Self::string)?
            } else {
                Vec::new()
            },
        })
    }

    fn room(&mut self) -> Option<Room> {
        let connection = self.signed()?;
        let has_stream = self.number()? != 0;
        let stream = if has_stream { Some(self.signed()?) } else { None };
        Some(Room { connection, stream })
    }

    fn detail(&mut self) -> Option<Detail> {
        let setting = |one: &mut Self| {
            let (id, value) = (one.small()? as u16, one.small()?);
            Some(Setting { id, value })
        };
        Some(match self.number()? {
            0 => Detail::Nothing,
            1 => Detail::Settings(self.list(setting)?),
            2 => Detail::Reset(self.small()?),
            3 => Detail::GoAway {
                last: self.small()?,
                code: self.small()?,
                debug: self.text()?,
            },
            4 => Detail::WindowUpdate(self.small()?),
            5 => Detail::Priority(Priority {
                dependency: self.small()?,
                exclusive: self.small()? != 0,
                weight: self.small()? as u8,
            }),
            6 => Detail::Promise(self.small()?),
            7 => {
                let length = self.number()? as usize;
                Detail::Bytes(self.frames.bytes(length)?.to_vec())
            }
            _ => Detail::Head(self.head()?),
        })
    }

    fn head(&mut self) -> Option<Head> {
        let mut head = Head::default();
        for line in 0..self.number()? as usize {
            let length = self.small()?;
            head.bytes.extend(self.text()?);
            if length > 0 {
                head.bytes.extend(b"\r\n");
                let digest = Digest::kept(&self.text()?)?;
                head.left_out.push(LeftOut { line, length, digest });
            }
        }
        Some(head)
    }

    fn block(&mut self) -> Option<ShownBlock> {
        let first = self.frames.byte()?;
        let (bytes, frames, list_size) = (self.small()?, self.small()?, self.number()?);
        let (before, after) = (self.table()?, self.table()?);
        let size_updates = self.list(Self::small)?;
        let error = if first & 1 << 3 != 0 {
            Some(self.string()?)
        } else {
            None
        };
        let (mut end, mut table) = (0, before.size);
        let fields = self.list(|one| {
            let field = one.field((end, table))?;
            (end, table) = (field.offset + field.length, field.tables.1);
            Some(field)
        })?;
        Some(ShownBlock {
            kind: KINDS[usize::from(first & 3)],
            is_promise: first & 1 << 2 != 0,
            fields,
            bytes,
            frames,
            list_size,
            before,
            after,
            size_updates,
            error,
        })
    }

    fn table(&mut self) -> Option<TableState> {
        Some(TableState {
            inserted: self.number()?,
            entries: self.small()?,
            size: self.small()?,
            maximum: self.small()?,
        })
    }

    fn field(&mut self, (end, table): (u32, u32)) -> Option<BlockField> {
        let first = self.frames.byte()?;
        let (name, mut value) = (self.text()?, self.text()?);
        let digest = if first & is::DIGEST != 0 {
            Some(Digest::kept(&std::mem::take(&mut value))?)
        } else {
            None
        };
        let (index, length) = (self.small()?, self.small()?);
        let offset = if first & is::APART != 0 { self.small()? } else { end };
        let before = if first & is::JUMP != 0 { self.small()? } else { table };
        let (evicted, after) = if first & is::CHANGE != 0 {
            (self.small()?, self.small()?)
        } else {
            (0, before)
        };
        Some(BlockField {
            name,
            value,
            digest,
            representation: REPRESENTATIONS[usize::from(first & 3)],
            index,
            huffman: (first & is::HUFFMAN_NAME != 0, first & is::HUFFMAN_VALUE != 0),
            offset,
            length,
            evicted,
            tables: (before, after),
        })
    }
}
