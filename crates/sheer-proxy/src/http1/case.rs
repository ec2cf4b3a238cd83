//! The case of header names, kept across a representation that has none.

use std::cmp::Ordering;

use bytes::Bytes;
use http::{HeaderName, HeaderValue};

/// Longest encoded form. Names beyond it lose their case rather than double the size of a hostile head.
const MAX_ENCODED: usize = 4096;

/// How the names of a head were spelt, so that they can be spelt so again. `Default` is all lower case.
///
/// Two spellings cover nearly every program: all lower case, and `Title-Case`. The rest are exceptions, kept as they were: most heads
/// have none, some have an `ETag` or an `X-B3-TraceId`.
///
/// Encoded, it is `l` or `t` for the spelling of the many, then the exceptions: `t,ETag,X-B3-TraceId`. Where a repeated field is
/// spelt in several ways its spellings follow each other in order, and the last one holds for all further fields of the name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HeaderCase {
    /// Names without an exception are `Title-Case`, else lower case.
    title: bool,
    /// Sorted by their lower case; the spellings of one name in the order of its fields.
    exceptions: Vec<Bytes>,
}

impl HeaderCase {
    /// Name of the field that carries this over HTTP/2 between two sidecars.
    pub const FIELD: HeaderName = HeaderName::from_static("sheer-h1-case");

    /// All lower case.
    pub const fn lower() -> Self {
        Self {
            title: false,
            exceptions: Vec::new(),
        }
    }

    /// What names most programs spell so: `User-Agent`. For heads that the proxy makes up for a client of HTTP/1.
    pub const fn title() -> Self {
        Self {
            title: true,
            exceptions: Vec::new(),
        }
    }

    /// Learns the spelling of a head from what was counted while it was parsed, and where that is not enough from its names in the
    /// order of the wire.
    pub(super) fn learn<'a>(seen: Tally, head: &'a Bytes, names: impl Iterator<Item = &'a [u8]>) -> Self {
        if seen.lower == seen.total {
            return Self::lower();
        }
        let mostly_title = seen.title >= seen.lower;
        if mostly_title && seen.title == seen.total {
            return Self::title();
        }
        let mut names: Vec<&[u8]> = names.collect();
        names.sort_by(|a, b| compare(a, b));
        let mut exceptions = Vec::new();
        for same in names.chunk_by(|a, b| a.eq_ignore_ascii_case(b)) {
            if same.iter().all(|name| Spelling::of(name).0.is(mostly_title)) {
                continue;
            }
            let last = same[same.len() - 1];
            let tail = same.iter().rev().take_while(|name| **name == last).count();
            exceptions.extend(same[..=same.len() - tail].iter().map(|name| head.slice_ref(name)));
        }
        Self {
            title: mostly_title,
            exceptions,
        }
    }

    /// Whether every name is lower case.
    pub fn is_lower(&self) -> bool {
        !self.title && self.exceptions.is_empty()
    }

    /// The value of [`Self::FIELD`]; `None` where every name is lower case and there is nothing to carry.
    pub fn encode(&self) -> Option<HeaderValue> {
        if self.is_lower() {
            return None;
        }
        let base = if self.title { "t" } else { "l" };
        if self.exceptions.is_empty() {
            return Some(HeaderValue::from_static(base));
        }
        let mut value = Vec::with_capacity(1 + self.exceptions.iter().map(|name| name.len() + 1).sum::<usize>());
        value.extend_from_slice(base.as_bytes());
        for name in &self.exceptions {
            if value.len() + 1 + name.len() <= MAX_ENCODED {
                value.push(b',');
                value.extend_from_slice(name);
            }
        }
        HeaderValue::from_maybe_shared(Bytes::from(value)).ok()
    }

    /// Reads the value of [`Self::FIELD`]. Whatever does not parse is taken as all lower case: case never matters enough to refuse,
    /// and an exception only ever changes the case of a name that is in the head anyway.
    pub fn decode(value: &HeaderValue) -> Self {
        Self::parse(value.as_bytes()).unwrap_or_default()
    }

    fn parse(value: &[u8]) -> Option<Self> {
        let (base, rest) = value.split_first()?;
        let title = match base {
            b'l' => false,
            b't' => true,
            _ => return None,
        };
        if rest.is_empty() {
            return Some(Self {
                title,
                exceptions: Vec::new(),
            });
        }
        if rest[0] != b',' || value.len() > MAX_ENCODED {
            return None;
        }
        let list = Bytes::copy_from_slice(&rest[1..]);
        let mut exceptions = Vec::new();
        for name in list.split(|byte| *byte == b',') {
            HeaderName::from_bytes(name).ok()?;
            exceptions.push(list.slice_ref(name));
        }
        exceptions.sort_by(|a, b| compare(a, b));
        Some(Self { title, exceptions })
    }

    /// Appends the name of the `nth` field (from 0) that has it.
    pub(super) fn write(&self, name: &HeaderName, nth: usize, out: &mut Vec<u8>) {
        let name = name.as_str().as_bytes();
        if let Some(spelling) = self.exception(name, nth) {
            out.extend_from_slice(spelling);
        } else if self.title {
            let start = out.len();
            out.extend_from_slice(name);
            let mut first = true;
            for byte in &mut out[start..] {
                if first {
                    byte.make_ascii_uppercase();
                }
                first = *byte == b'-';
            }
        } else {
            out.extend_from_slice(name);
        }
    }

    fn exception(&self, name: &[u8], nth: usize) -> Option<&Bytes> {
        if self.exceptions.is_empty() {
            return None;
        }
        let start = self
            .exceptions
            .partition_point(|other| compare(other, name) == Ordering::Less);
        let same = self.exceptions[start..]
            .iter()
            .take(nth + 1)
            .take_while(|other| other.eq_ignore_ascii_case(name));
        same.last()
    }
}

/// Orders names by their lower case.
fn compare(a: &[u8], b: &[u8]) -> Ordering {
    a.iter()
        .map(u8::to_ascii_lowercase)
        .cmp(b.iter().map(u8::to_ascii_lowercase))
}

/// How many names of a head have which of the two usual spellings.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Tally {
    lower: usize,
    title: usize,
    total: usize,
}

impl Tally {
    /// Counts the name in front of the colon of a field line, and tells how long it is; `None` where there is no colon.
    pub(super) fn count_name(&mut self, line: &[u8]) -> Option<usize> {
        let (spelling, length) = Spelling::of(line);
        self.lower += usize::from(spelling.lower);
        self.title += usize::from(spelling.title);
        self.total += 1;
        (length < line.len()).then_some(length)
    }
}

/// Which of the two usual spellings a name has; both where it has no letter that could differ.
struct Spelling {
    lower: bool,
    title: bool,
}

impl Spelling {
    /// The spelling of a name that ends at the first colon, and its length.
    fn of(name: &[u8]) -> (Self, usize) {
        let (mut lower, mut title, mut first, mut length) = (true, true, true, 0);
        for byte in name {
            if *byte == b':' {
                break;
            }
            lower &= !byte.is_ascii_uppercase();
            title &= if first {
                !byte.is_ascii_lowercase()
            } else {
                !byte.is_ascii_uppercase()
            };
            first = *byte == b'-';
            length += 1;
        }
        (Self { lower, title }, length)
    }

    fn is(&self, title: bool) -> bool {
        if title { self.title } else { self.lower }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn learn(names: &[&str]) -> HeaderCase {
        let head = Bytes::from(names.join(","));
        let mut seen = Tally::default();
        for name in names {
            seen.count_name(name.as_bytes());
        }
        HeaderCase::learn(seen, &head, head.split(|byte| *byte == b','))
    }

    fn written(case: &HeaderCase, name: &'static str, nth: usize) -> String {
        let mut out = Vec::new();
        case.write(&HeaderName::from_static(name), nth, &mut out);
        String::from_utf8(out).expect("a name is ASCII")
    }

    #[test]
    fn usual_heads_encode_to_a_byte_or_nothing() {
        assert_eq!(learn(&["host", "x-b3-traceid", "te"]).encode(), None);
        assert_eq!(learn(&[]).encode(), None);
        assert_eq!(
            learn(&["Host", "User-Agent", "Accept", "X-1"])
                .encode()
                .expect("has case"),
            "t"
        );
    }

    #[test]
    fn exceptions_are_kept_as_spelt() {
        let case = learn(&["Host", "ETag", "X-B3-TraceId", "Accept", "Vary"]);
        assert_eq!(case.encode().expect("has case"), "t,ETag,X-B3-TraceId");
        assert_eq!(written(&case, "etag", 0), "ETag");
        assert_eq!(written(&case, "etag", 7), "ETag");
        assert_eq!(written(&case, "content-type", 0), "Content-Type");
        let case = learn(&["host", "accept", "DNT", "te"]);
        assert_eq!(case.encode().expect("has case"), "l,DNT");
        assert_eq!(written(&case, "dnt", 0), "DNT");
        assert_eq!(written(&case, "content-type", 0), "content-type");
    }

    #[test]
    fn repeated_names_keep_the_spelling_of_each_field() {
        let case = learn(&["X-A", "Via", "x-a", "X-A", "X-A", "Host", "Age"]);
        let case = HeaderCase::decode(&case.encode().expect("has case"));
        let spelt: Vec<String> = (0..4).map(|nth| written(&case, "x-a", nth)).collect();
        assert_eq!(spelt, ["X-A", "x-a", "X-A", "X-A"]);
        assert_eq!(case.encode().expect("has case"), "t,X-A,x-a,X-A");
    }

    #[test]
    fn hostile_values_mean_lower_case() {
        for value in ["", "x", "tt", "t,", "t,a b", "t,A,,B", "l;A", "t,A:", "t,A\u{e9}"] {
            let value = HeaderValue::from_bytes(value.as_bytes()).expect("a header value");
            assert!(HeaderCase::decode(&value).is_lower(), "{value:?}");
        }
        let long = HeaderValue::try_from(format!("t,{}", vec!["ABc"; 1100].join(","))).expect("a header value");
        assert!(HeaderCase::decode(&long).is_lower());
    }

    #[test]
    fn the_encoded_form_is_bounded() {
        let names: Vec<String> = (0..1000).map(|n| format!("oDd-nAmE-{n}")).collect();
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        let value = learn(&names).encode().expect("has case");
        assert!(value.len() <= MAX_ENCODED);
        assert!(!HeaderCase::decode(&value).is_lower(), "what was cut still decodes");
    }
}
