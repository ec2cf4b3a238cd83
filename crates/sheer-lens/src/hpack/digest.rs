//! A header list in a few words, to tell cheaply whether two readings of it agree: the second opinion on every block.
//!
//! A digest adds up one hash a field, so that the order of different names does not count (maps do not keep it), while the order within a name does:
//! the second field of a name is hashed as the second. The hash of a table's entry is computed when it enters, so a field that is indexed costs an
//! addition. Of `:path` the part before a fragment counts: it has none (RFC 9113, 8.3.1), and libraries that report a URI drop it. Not a hash against adversaries: whoever can forge it only hides from us what a library does to its own headers.

const SEEDS: [u64; 5] = [
    0x9e37_79b9_7f4a_7c15,
    0xc2b2_ae3d_27d4_eb4f,
    0x1656_67b1_9e37_79f9,
    0xd6e8_feb8_6659_fd93,
    0xa076_1d64_78bd_642f,
];
/// Names that are remembered without an allocation.
const FEW: usize = 48;

/// The hash of one field, and what its name is to a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FieldHash {
    name: u64,
    field: u64,
    class: Class,
}

/// What a name is to a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Class {
    Regular = 0,
    Method = 1,
    Scheme = 2,
    Authority = 4,
    OtherPseudo = 8,
    Interim = 16,
    Status = 32,
    Path = 64,
}

impl FieldHash {
    /// Of a name and a value.
    pub fn of(name: &[u8], value: &[u8]) -> Self {
        Self::with_name(hash(name), name, value)
    }

    /// Of a name whose hash is known.
    #[inline]
    fn with_name(hashed: u64, name: &[u8], value: &[u8]) -> Self {
        let class = class(name, value);
        let value = match class {
            Class::Path => before_fragment(value),
            _ => value,
        };
        Self {
            name: hashed,
            field: fold(hashed ^ SEEDS[3], hash(value) ^ SEEDS[4]),
            class,
        }
    }

    /// Of another value of the same name.
    #[inline]
    pub(super) fn same_name(self, name: &[u8], value: &[u8]) -> Self {
        Self::with_name(self.name, name, value)
    }
}

#[inline]
fn before_fragment(path: &[u8]) -> &[u8] {
    memchr::memchr(b'#', path).map_or(path, |at| &path[..at])
}

#[inline]
fn class(name: &[u8], value: &[u8]) -> Class {
    match name {
        [b':', pseudo @ ..] => match pseudo {
            b"method" => Class::Method,
            b"path" => Class::Path,
            b"scheme" => Class::Scheme,
            b"authority" => Class::Authority,
            b"status" if value.starts_with(b"1") => Class::Interim,
            b"status" => Class::Status,
            _ => Class::OtherPseudo,
        },
        _ => Class::Regular,
    }
}

/// A name that is known beforehand, as those of pseudo fields are: it is hashed once.
#[derive(Clone, Copy, Debug)]
pub struct Name {
    text: &'static [u8],
    hash: u64,
}

impl Name {
    /// `:method`
    pub const METHOD: Self = Self::new(b":method");
    /// `:scheme`
    pub const SCHEME: Self = Self::new(b":scheme");
    /// `:authority`
    pub const AUTHORITY: Self = Self::new(b":authority");
    /// `:path`
    pub const PATH: Self = Self::new(b":path");
    /// `:status`
    pub const STATUS: Self = Self::new(b":status");
    /// `:protocol` (RFC 8441, 4)
    pub const PROTOCOL: Self = Self::new(b":protocol");

    /// Any other.
    pub const fn new(text: &'static [u8]) -> Self {
        Self { text, hash: hash(text) }
    }

    /// How it is spelled.
    pub const fn text(&self) -> &'static [u8] {
        self.text
    }
}

#[inline]
const fn fold(a: u64, b: u64) -> u64 {
    let wide = a as u128 * b as u128;
    wide as u64 ^ (wide >> 64) as u64
}

#[inline]
const fn hash(text: &[u8]) -> u64 {
    let length = text.len() as u64;
    let (a, b) = if text.len() > 16 {
        return hash_long(text);
    } else if let (Some(first), Some(last)) = (text.first_chunk::<8>(), text.last_chunk::<8>()) {
        (u64::from_le_bytes(*first), u64::from_le_bytes(*last))
    } else if let (Some(first), Some(last)) = (text.first_chunk::<4>(), text.last_chunk::<4>()) {
        (u32::from_le_bytes(*first) as u64, u32::from_le_bytes(*last) as u64)
    } else {
        match text {
            [first, second, .., last] => ((*first as u64) << 8 | *last as u64, *second as u64 + 2),
            [first, last] => ((*first as u64) << 8 | *last as u64, *last as u64 + 2),
            [only] => (*only as u64, 1),
            [] => (0, 0),
        }
    };
    fold(a ^ SEEDS[0], b ^ SEEDS[1] ^ length.wrapping_mul(SEEDS[2]))
}

const fn hash_long(text: &[u8]) -> u64 {
    let mut state = SEEDS[2] ^ text.len() as u64;
    let (mut blocks, _) = text.as_chunks::<16>();
    while let [block, rest @ ..] = blocks {
        let (a, b) = pair(block);
        state = fold(a ^ SEEDS[0], b ^ state);
        blocks = rest;
    }
    // The last 16 bytes, in part for the second time.
    let (a, b) = match text.last_chunk() {
        Some(last) => pair(last),
        None => (0, 0),
    };
    fold(a ^ SEEDS[1], b ^ state)
}

#[inline]
const fn pair(block: &[u8; 16]) -> (u64, u64) {
    let wide = u128::from_le_bytes(*block);
    (wide as u64, (wide >> 64) as u64)
}

/// Which part of a message a list is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ListKind {
    /// The head of a request.
    Request,
    /// The head of an interim response (1xx).
    Informational,
    /// The head of a response.
    Response,
    /// Fields behind a body.
    Trailers,
}

/// A header list in a few words.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Digest {
    /// Of all fields but the scheme, and of the scheme: a library may have no place for one without an authority.
    sums: [u64; 2],
    classes: u8,
    fields: u32,
}

impl Digest {
    /// Fields that were added.
    pub fn fields(&self) -> u32 {
        self.fields
    }

    /// What the pseudo fields say that it is.
    pub fn kind(&self) -> ListKind {
        let has = |class: Class| self.classes & class as u8 != 0;
        if has(Class::Method) {
            ListKind::Request
        } else if has(Class::Interim) {
            ListKind::Informational
        } else if has(Class::Status) {
            ListKind::Response
        } else {
            ListKind::Trailers
        }
    }

    /// Whether both lists have the same fields, those of one name in the same order. The scheme counts only beside an authority: `http::Uri`, in which
    /// libraries report both, cannot say it alone.
    pub fn agrees(&self, other: &Self) -> bool {
        let authority = Class::Authority as u8;
        self.sums[0] == other.sums[0]
            && (self.classes & authority == 0 || self.sums[1] == other.sums[1])
            && self.classes & authority == other.classes & authority
    }
}

/// Builds a [`Digest`], field by field.
#[derive(Debug)]
pub struct Digester {
    digest: Digest,
    /// One bit a name that was seen: most lists have no name twice, and for those this is all that is looked at.
    seen: u64,
    few: [u64; FEW],
    more: Vec<u64>,
}

impl Default for Digester {
    fn default() -> Self {
        Self {
            digest: Digest::default(),
            seen: 0,
            few: [0; FEW],
            more: Vec::new(),
        }
    }
}

impl Digester {
    /// Of no field yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a field.
    #[inline]
    pub fn field(&mut self, name: &[u8], value: &[u8]) {
        self.add(FieldHash::of(name, value));
    }

    /// Adds a field whose name is known beforehand.
    #[inline]
    pub fn named(&mut self, name: Name, value: &[u8]) {
        self.add(FieldHash::with_name(name.hash, name.text, value));
    }

    /// Adds a field by its hash.
    #[inline]
    pub fn add(&mut self, hash: FieldHash) {
        let bit = 1 << (hash.name >> 58);
        let index = self.digest.fields as usize;
        let before = if self.seen & bit == 0 { 0 } else { self.count(hash.name) };
        self.seen |= bit;
        match self.few.get_mut(index) {
            Some(place) => *place = hash.name,
            None => self.more.push(hash.name),
        }
        let field = if before == 0 {
            hash.field
        } else {
            fold(hash.field ^ SEEDS[1], SEEDS[2].wrapping_mul(2 * before + 1))
        };
        let sum = &mut self.digest.sums[usize::from(hash.class == Class::Scheme)];
        *sum = sum.wrapping_add(field);
        self.digest.classes |= hash.class as u8;
        self.digest.fields += 1;
    }

    /// How often a name came already.
    fn count(&self, name: u64) -> u64 {
        let few = &self.few[..FEW.min(self.digest.fields as usize)];
        few.iter().chain(&self.more).filter(|seen| **seen == name).count() as u64
    }

    /// What was added so far.
    #[inline]
    pub fn digest(&self) -> Digest {
        self.digest
    }

    /// Takes over a digest that is whole: nothing is added to it.
    #[inline]
    pub(super) fn resume(&mut self, digest: Digest) {
        self.clear();
        self.digest = digest;
    }

    /// Forgets all.
    #[inline]
    pub fn clear(&mut self) {
        self.digest = Digest::default();
        self.seen = 0;
        self.more.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn digest(fields: &[(&str, &str)]) -> Digest {
        let mut digester = Digester::new();
        for (name, value) in fields {
            digester.field(name.as_bytes(), value.as_bytes());
        }
        digester.digest()
    }

    #[test]
    fn the_order_of_names_does_not_count_and_that_within_a_name_does() {
        let list = digest(&[(":status", "200"), ("a", "1"), ("b", "2"), ("a", "3")]);
        assert!(list.agrees(&digest(&[("b", "2"), ("a", "1"), ("a", "3"), (":status", "200")])));
        for other in [
            &[(":status", "200"), ("a", "3"), ("b", "2"), ("a", "1")][..],
            &[(":status", "200"), ("a", "1"), ("b", "2")],
            &[(":status", "200"), ("a", "1"), ("b", "2"), ("a", "3"), ("a", "3")],
            &[(":status", "200"), ("a", "1"), ("b", "3"), ("a", "2")],
            &[(":status", "201"), ("a", "1"), ("b", "2"), ("a", "3")],
            &[(":status", "200"), ("a", "1"), ("b", "2"), ("A", "3")],
        ] {
            assert!(!list.agrees(&digest(other)), "{other:?}");
        }
        assert_eq!(list.kind(), ListKind::Response);
    }

    #[test]
    fn a_scheme_counts_beside_an_authority() {
        let request = [
            (":method", "GET"),
            (":path", "/"),
            (":scheme", "http"),
            (":authority", "a"),
        ];
        let list = digest(&request);
        assert!(!list.agrees(&digest(&[request[0], request[1], (":scheme", "https"), request[3]])));
        assert!(!list.agrees(&digest(&request[..3])));
        assert!(digest(&request[..3]).agrees(&digest(&request[..2])));
        assert_eq!(list.kind(), ListKind::Request);
    }

    #[test]
    fn a_fragment_is_no_part_of_a_path() {
        let path = |path| digest(&[(":method", "GET"), (":path", path)]);
        assert!(path("/a?b#c").agrees(&path("/a?b")));
        assert!(!path("/a?b#c").agrees(&path("/a")));
        assert!(!digest(&[("x", "/a#b")]).agrees(&digest(&[("x", "/a")])));
    }

    #[test]
    fn long_lists_keep_count_of_their_names() {
        let many: Vec<_> = (0..200)
            .map(|nth| (format!("n{}", nth % 100), nth.to_string()))
            .collect();
        let of = |fields: &[(String, String)]| {
            let mut digester = Digester::new();
            for (name, value) in fields {
                digester.field(name.as_bytes(), value.as_bytes());
            }
            digester.digest()
        };
        let mut swapped = many.clone();
        swapped.swap(99, 199); // two values of one name
        assert!(!of(&many).agrees(&of(&swapped)));
        let mut moved = many.clone();
        moved.swap(98, 99); // two names
        assert!(of(&many).agrees(&of(&moved)));
    }

    #[test]
    fn every_byte_of_a_string_counts() {
        for length in 0..70 {
            let text: Vec<u8> = (0..length).collect();
            let whole = hash(&text);
            for at in 0..text.len() {
                let mut other = text.clone();
                other[at] ^= 1;
                assert_ne!(hash(&other), whole, "{length} {at}");
            }
            let longer: Vec<u8> = text.iter().copied().chain([0]).collect();
            assert_ne!(hash(&longer), whole, "{length}");
        }
    }
}
