//! HPACK with the representation in the test's hands: a block encoder that does exactly what it is told, and a strict decoder.
//!
//! Written apart from the proxy's libraries and from `sheer-lens`, so that a fault of theirs cannot hide itself.

use std::collections::VecDeque;

use anyhow::{Context as _, Result, bail, ensure};
use bytes::Bytes;

use super::huffman;

/// The static table (RFC 7541, appendix A); index 1 is the first.
#[rustfmt::skip]
const STATIC: [(&str, &str); 61] = [
    (":authority", ""), (":method", "GET"), (":method", "POST"), (":path", "/"), (":path", "/index.html"), (":scheme", "http"),
    (":scheme", "https"), (":status", "200"), (":status", "204"), (":status", "206"), (":status", "304"), (":status", "400"),
    (":status", "404"), (":status", "500"), ("accept-charset", ""), ("accept-encoding", "gzip, deflate"), ("accept-language", ""),
    ("accept-ranges", ""), ("accept", ""), ("access-control-allow-origin", ""), ("age", ""), ("allow", ""), ("authorization", ""),
    ("cache-control", ""), ("content-disposition", ""), ("content-encoding", ""), ("content-language", ""), ("content-length", ""),
    ("content-location", ""), ("content-range", ""), ("content-type", ""), ("cookie", ""), ("date", ""), ("etag", ""), ("expect", ""),
    ("expires", ""), ("from", ""), ("host", ""), ("if-match", ""), ("if-modified-since", ""), ("if-none-match", ""), ("if-range", ""),
    ("if-unmodified-since", ""), ("last-modified", ""), ("link", ""), ("location", ""), ("max-forwards", ""),
    ("proxy-authenticate", ""), ("proxy-authorization", ""), ("range", ""), ("referer", ""), ("refresh", ""), ("retry-after", ""),
    ("server", ""), ("set-cookie", ""), ("strict-transport-security", ""), ("transfer-encoding", ""), ("user-agent", ""),
    ("vary", ""), ("via", ""), ("www-authenticate", ""),
];

/// Bookkeeping cost of an entry (RFC 7541, section 4.1).
const ENTRY_OVERHEAD: usize = 32;

/// One header field, bytes as they were on the wire.
pub type Field = (Bytes, Bytes);

/// Builds a header block, one representation a call. It keeps no table: the test counts the indices that it uses, which is the point.
#[derive(Clone, Debug, Default)]
pub struct Block(Vec<u8>);

impl Block {
    /// An empty block.
    pub fn new() -> Self {
        Self::default()
    }

    /// A block of fields, all literal without indexing.
    pub fn of<N: AsRef<[u8]>, V: AsRef<[u8]>>(fields: impl IntoIterator<Item = (N, V)>) -> Self {
        fields
            .into_iter()
            .fold(Self::new(), |block, (name, value)| block.literal(name, value))
    }

    /// The pseudo header fields of a `POST` over plain HTTP, as a gRPC client sends them.
    pub fn post(authority: &str, path: &str) -> Self {
        Self::new().indexed(3).indexed(6).named(4, path).named(1, authority)
    }

    /// The pseudo header fields of a `GET` over plain HTTP.
    pub fn get(authority: &str, path: &str) -> Self {
        Self::new().indexed(2).indexed(6).named(4, path).named(1, authority)
    }

    /// Starts a response.
    pub fn status(code: u16) -> Self {
        Self::new().named(8, code.to_string())
    }

    /// A whole entry of the static (1–61) or dynamic (62 and up) table.
    pub fn indexed(mut self, index: usize) -> Self {
        self.integer(0x80, 7, index);
        self
    }

    /// Literal that is not put into the table, name spelt out.
    pub fn literal(mut self, name: impl AsRef<[u8]>, value: impl AsRef<[u8]>) -> Self {
        self.0.push(0x00);
        self.string(name.as_ref());
        self.string(value.as_ref());
        self
    }

    /// Literal that is not put into the table, name from the table.
    pub fn named(mut self, index: usize, value: impl AsRef<[u8]>) -> Self {
        self.integer(0x00, 4, index);
        self.string(value.as_ref());
        self
    }

    /// Literal that becomes entry 62 and moves the others on, name spelt out.
    pub fn insert(mut self, name: impl AsRef<[u8]>, value: impl AsRef<[u8]>) -> Self {
        self.0.push(0x40);
        self.string(name.as_ref());
        self.string(value.as_ref());
        self
    }

    /// Literal that becomes entry 62, name from the table.
    pub fn insert_named(mut self, index: usize, value: impl AsRef<[u8]>) -> Self {
        self.integer(0x40, 6, index);
        self.string(value.as_ref());
        self
    }

    /// Literal that no hop may put into a table (`authorization`).
    pub fn never_indexed(mut self, name: impl AsRef<[u8]>, value: impl AsRef<[u8]>) -> Self {
        self.0.push(0x10);
        self.string(name.as_ref());
        self.string(value.as_ref());
        self
    }

    /// Dynamic table size update; only valid at the start of a block.
    pub fn table_size(mut self, size: usize) -> Self {
        self.integer(0x20, 5, size);
        self
    }

    /// Raw bytes, for blocks that are wrong on purpose.
    pub fn raw(mut self, bytes: &[u8]) -> Self {
        self.0.extend_from_slice(bytes);
        self
    }

    /// Appends another block.
    pub fn then(mut self, more: &Self) -> Self {
        self.0.extend_from_slice(&more.0);
        self
    }

    /// The encoded block.
    pub fn bytes(&self) -> &[u8] {
        &self.0
    }

    fn integer(&mut self, pattern: u8, prefix_bits: u8, value: usize) {
        let max = (1_usize << prefix_bits) - 1;
        if value < max {
            self.0.push(pattern | value as u8);
            return;
        }
        self.0.push(pattern | max as u8);
        let mut rest = value - max;
        while rest >= 0x80 {
            self.0.push(rest as u8 | 0x80);
            rest >>= 7;
        }
        self.0.push(rest as u8);
    }

    fn string(&mut self, bytes: &[u8]) {
        self.integer(0x00, 7, bytes.len());
        self.0.extend_from_slice(bytes);
    }
}

/// Decodes header blocks of one direction of a connection.
#[derive(Debug)]
pub struct Decoder {
    entries: VecDeque<Field>,
    size: usize,
    max_size: usize,
    /// What we announced as `SETTINGS_HEADER_TABLE_SIZE`: the most that a size update may ask for.
    allowed: usize,
}

impl Default for Decoder {
    fn default() -> Self {
        Self {
            entries: VecDeque::new(),
            size: 0,
            max_size: 4096,
            allowed: 4096,
        }
    }
}

impl Decoder {
    /// Sets the limit that was announced. A sender that was given less than it uses must shrink before its next field.
    pub fn allow(&mut self, table_size: usize) {
        self.allowed = table_size;
    }

    /// Decodes one whole block.
    pub fn decode(&mut self, block: &[u8]) -> Result<Vec<Field>> {
        let mut rest = block;
        let mut fields = Vec::new();
        while let [first, ..] = rest {
            if first & 0xe0 == 0x20 {
                ensure!(fields.is_empty(), "table size update after a field");
                let size = integer(&mut rest, 5)?;
                ensure!(
                    size <= self.allowed,
                    "table size update to {size}, {} allowed",
                    self.allowed
                );
                self.max_size = size;
                self.evict(0);
                continue;
            }
            ensure!(
                self.max_size <= self.allowed,
                "table of {} used where {} is allowed",
                self.max_size,
                self.allowed
            );
            fields.push(
                self.field(*first, &mut rest)
                    .with_context(|| format!("field {}", fields.len() + 1))?,
            );
        }
        Ok(fields)
    }

    fn field(&mut self, first: u8, rest: &mut &[u8]) -> Result<Field> {
        if first & 0x80 != 0 {
            let index = integer(rest, 7)?;
            return self.entry(index);
        }
        let insert = first & 0x40 != 0;
        let index = integer(rest, if insert { 6 } else { 4 })?;
        let name = if index == 0 {
            string(rest)?
        } else {
            self.entry(index)?.0
        };
        let field = (name, string(rest)?);
        if insert {
            self.insert(field.clone());
        }
        Ok(field)
    }

    fn entry(&self, index: usize) -> Result<Field> {
        if let Some((name, value)) = index.checked_sub(1).and_then(|i| STATIC.get(i)) {
            return Ok((
                Bytes::from_static(name.as_bytes()),
                Bytes::from_static(value.as_bytes()),
            ));
        }
        let dynamic = index.checked_sub(STATIC.len() + 1).context("index 0")?;
        let Some(field) = self.entries.get(dynamic) else {
            bail!(
                "index {index} points past the table of {} entries: it was evicted or never there",
                self.entries.len()
            );
        };
        Ok(field.clone())
    }

    fn insert(&mut self, field: Field) {
        let cost = field.0.len() + field.1.len() + ENTRY_OVERHEAD;
        self.evict(cost);
        if cost <= self.max_size {
            self.size += cost;
            self.entries.push_front(field);
        }
    }

    fn evict(&mut self, room: usize) {
        while self.size + room > self.max_size {
            let Some((name, value)) = self.entries.pop_back() else {
                break;
            };
            self.size -= name.len() + value.len() + ENTRY_OVERHEAD;
        }
    }
}

fn integer(rest: &mut &[u8], prefix_bits: u8) -> Result<usize> {
    let max = (1_usize << prefix_bits) - 1;
    let mut value = usize::from(byte(rest)?) & max;
    if value < max {
        return Ok(value);
    }
    for shift in (0..28).step_by(7) {
        let next = byte(rest)?;
        value += usize::from(next & 0x7f) << shift;
        if next & 0x80 == 0 {
            return Ok(value);
        }
    }
    bail!("integer over 28 bits")
}

fn string(rest: &mut &[u8]) -> Result<Bytes> {
    let huffman = rest.first().is_some_and(|first| first & 0x80 != 0);
    let length = integer(rest, 7)?;
    let Some((coded, after)) = rest.split_at_checked(length) else {
        bail!("string of {length} bytes, {} left", rest.len())
    };
    *rest = after;
    if huffman {
        return Ok(huffman::decode(coded).map_err(anyhow::Error::msg)?.into());
    }
    Ok(Bytes::copy_from_slice(coded))
}

fn byte(rest: &mut &[u8]) -> Result<u8> {
    let (first, after) = rest.split_first().context("block ends inside a field")?;
    *rest = after;
    Ok(*first)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(fields: &[Field]) -> Vec<(String, String)> {
        let utf8 = |bytes: &Bytes| String::from_utf8_lossy(bytes).into_owned();
        fields.iter().map(|(name, value)| (utf8(name), utf8(value))).collect()
    }

    #[test]
    fn blocks_survive_a_round_trip_through_the_table() {
        let mut decoder = Decoder::default();
        let first = decoder
            .decode(Block::get("a", "/x").insert("x-k", "1").insert_named(62, "2").bytes())
            .unwrap();
        assert_eq!(
            text(&first)[4..],
            [("x-k".into(), "1".into()), ("x-k".into(), "2".into())]
        );
        let second = decoder.decode(Block::new().indexed(62).indexed(63).bytes()).unwrap();
        assert_eq!(text(&second), [("x-k".into(), "2".into()), ("x-k".into(), "1".into())]);
    }

    #[test]
    fn an_index_of_an_evicted_entry_is_an_error() {
        let mut decoder = Decoder::default();
        decoder.decode(Block::new().insert("x-k", "1").bytes()).unwrap();
        decoder
            .decode(Block::new().insert("x-big", "v".repeat(4050)).bytes())
            .unwrap();
        let error = decoder.decode(Block::new().named(63, "2").bytes()).unwrap_err();
        assert!(format!("{error:#}").contains("evicted"), "{error:#}");
    }

    #[test]
    fn a_smaller_table_must_be_acknowledged_with_a_size_update() {
        let mut decoder = Decoder::default();
        decoder.allow(0);
        assert!(decoder.decode(Block::get("a", "/").bytes()).is_err());
        assert!(decoder.decode(Block::new().table_size(0).indexed(2).bytes()).is_ok());
    }

    #[test]
    fn long_integers_cross_the_prefix() {
        let value = "v".repeat(70_000);
        let fields = Decoder::default()
            .decode(Block::new().literal("x", &value).bytes())
            .unwrap();
        assert_eq!(fields[0].1.len(), 70_000);
    }
}
