//! Rules of HTTP/1 that a side broke: facts, each with its section.

use std::fmt;

/// A broken rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Violation {
    /// Which.
    pub rule: Rule,
    /// Where the message begins, counted from the direction's first byte.
    pub offset: u64,
}

macro_rules! rules {
    ($($name:ident, $section:literal, $fatal:literal, $text:literal;)*) => {
        /// A rule of RFC 9110 or RFC 9112 that can be seen to be broken from outside.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
        pub enum Rule {
            $(#[doc = $text] #[doc = concat!("(", $section, ").")] $name,)*
        }

        impl Rule {
            const ALL: &[Self] = &[$(Self::$name,)*];

            /// The section that states it; empty for a limit of the lens.
            pub fn section(self) -> &'static str {
                match self {
                    $(Self::$name => $section,)*
                }
            }

            /// Whether nobody can say where the next message begins.
            pub fn is_fatal(self) -> bool {
                match self {
                    $(Self::$name => $fatal,)*
                }
            }
        }

        impl fmt::Display for Rule {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                let (text, section) = match self {
                    $(Self::$name => ($text, $section),)*
                };
                f.write_str(text)?;
                if section.is_empty() { Ok(()) } else { write!(f, " ({section})") }
            }
        }
    };
}

rules! {
    EmptyLine, "RFC 9112, 2.2", false, "an empty line stands before a message";
    BareLineFeed, "RFC 9112, 2.2", false, "a line ends with LF alone";
    BareCarriageReturn, "RFC 9112, 2.2", false, "a CR stands alone";
    RequestLine, "RFC 9112, 3", true, "a request does not begin with method, target and version";
    StatusLine, "RFC 9112, 4", true, "a response does not begin with version and status";
    StartSpaces, "RFC 9112, 3", false, "the parts of a start line are not apart by one space each";
    Version, "RFC 9112, 2.3", false, "the version is neither HTTP/1.1 nor HTTP/1.0";
    LeadingSpace, "RFC 9112, 2.2", false, "white space stands between the start line and the first field";
    Folded, "RFC 9112, 5.2", false, "a field goes on in the next line";
    SpaceBeforeColon, "RFC 9112, 5.1", false, "white space stands between a name and its colon";
    NoColon, "RFC 9112, 5", false, "a line has no colon";
    FieldName, "RFC 9110, 5.1", false, "a name is empty or has a byte that no name has";
    FieldValue, "RFC 9110, 5.5", false, "a value has a control character";
    HostMissing, "RFC 9112, 3.2", false, "a request of HTTP/1.1 has no Host";
    HostRepeated, "RFC 9112, 3.2", false, "a request has more than one Host";
    ContentLength, "RFC 9112, 6.3", true, "Content-Length is no number";
    ContentLengthsDiffer, "RFC 9112, 6.3", true, "several values of Content-Length differ";
    ContentLengthRepeated, "RFC 9110, 8.6", false, "Content-Length is repeated with the same value";
    TwoLengths, "RFC 9112, 6.3", false, "a message has both Transfer-Encoding and Content-Length";
    LengthForbidden, "RFC 9110, 8.6", false, "a response that has no body by its status has Content-Length";
    CodingForbidden, "RFC 9112, 6.1", false, "a response that has no body by its status has Transfer-Encoding";
    CodingInOldVersion, "RFC 9112, 6.1", false, "a message of HTTP/1.0 has Transfer-Encoding";
    NotChunkedLast, "RFC 9112, 6.3", true, "the last transfer coding of a request is not chunked";
    ChunkedTwice, "RFC 9112, 6.1", false, "chunked is applied twice, or something after it";
    ChunkSize, "RFC 9112, 7.1", true, "a chunk does not begin with its size";
    ChunkEnd, "RFC 9112, 7.1", true, "no CRLF follows the bytes of a chunk";
    ChunkLineFeed, "RFC 9112, 7.1", false, "a line of the chunked coding ends with LF alone";
    TrailerForbidden, "RFC 9110, 6.5.1", false, "trailers have a field that frames or routes a message";
    ResponseUnasked, "RFC 9112, 9.2", false, "a response answers no request";
    HeadTooLarge, "", true, "a head is larger than the lens reads";
    TrailersTooLarge, "", true, "trailers are larger than the lens reads";
    ChunkLineTooLong, "", true, "the line of a chunk's size is longer than the lens reads";
    TooManyWaiting, "", true, "more requests wait for an answer than the lens remembers";
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}, in the message at byte {}", self.rule, self.offset)
    }
}

/// Rules that one message breaks, each once.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Rules(u64);

const _: () = assert!(Rule::ALL.len() <= 64, "a bit for each rule");

impl Rules {
    #[inline]
    pub(super) fn add(&mut self, rule: Rule) {
        self.0 |= 1 << rule as u64;
    }

    #[inline]
    pub(super) fn add_if(&mut self, broken: bool, rule: Rule) {
        self.0 |= u64::from(broken) << rule as u64;
    }

    pub(super) fn iter(self) -> impl Iterator<Item = Rule> {
        let mut left = self.0;
        std::iter::from_fn(move || {
            let rule = Rule::ALL.get(left.trailing_zeros() as usize)?;
            left &= left - 1;
            Some(*rule)
        })
    }
}
