//! Rules for header lists (RFC 9113, 8.2 and 8.3), apart from how they were encoded.

use std::fmt;

/// What a list is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum List {
    /// A request's head.
    Request,
    /// A response's head, final or interim.
    Response,
    /// Trailers of either.
    Trailers,
}

/// A broken rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FieldRule {
    /// An upper-case letter in a name.
    Uppercase,
    /// A byte that no name has.
    Name,
    /// NUL, CR or LF in a value, or white space at one of its ends.
    Value,
    /// A field that belongs to a connection of HTTP/1.
    ConnectionSpecific,
    /// `te` with anything but `trailers`.
    Te,
    /// A pseudo-field after a field.
    PseudoLate,
    /// A pseudo-field that this kind of list does not have.
    PseudoUnknown,
    /// A pseudo-field for the second time.
    PseudoRepeated,
    /// A pseudo-field in trailers.
    PseudoInTrailers,
    /// A pseudo-field that has to be there is not.
    PseudoMissing(&'static str),
    /// An empty `:path`.
    PathEmpty,
    /// A `:status` that is not three digits.
    Status,
    /// CONNECT with `:scheme` or `:path`, or without `:authority`.
    Connect,
    /// Two values of `content-length` that differ.
    ContentLength,
}

impl FieldRule {
    /// The section of RFC 9113 that states it.
    pub fn section(self) -> &'static str {
        match self {
            Self::Uppercase | Self::Name | Self::Value => "8.2.1",
            Self::ConnectionSpecific | Self::Te => "8.2.2",
            Self::PseudoLate | Self::PseudoUnknown | Self::PseudoRepeated => "8.3",
            Self::PseudoInTrailers => "8.1",
            Self::PseudoMissing(":status") | Self::Status => "8.3.2",
            Self::PseudoMissing(_) | Self::PathEmpty => "8.3.1",
            Self::Connect => "8.5",
            Self::ContentLength => "8.1.1",
        }
    }
}

impl fmt::Display for FieldRule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Uppercase => "a name has an upper-case letter",
            Self::Name => "a name has a byte that no name has",
            Self::Value => "a value has NUL, CR or LF, or white space at one of its ends",
            Self::ConnectionSpecific => "a field belongs to a connection of HTTP/1",
            Self::Te => "`te` says anything but `trailers`",
            Self::PseudoLate => "a pseudo-field follows a field",
            Self::PseudoUnknown => "a pseudo-field does not belong here",
            Self::PseudoRepeated => "a pseudo-field is repeated",
            Self::PseudoInTrailers => "trailers have a pseudo-field",
            Self::PseudoMissing(name) => return write!(f, "`{name}` is missing (RFC 9113, {})", self.section()),
            Self::PathEmpty => "`:path` is empty",
            Self::Status => "`:status` is not three digits",
            Self::Connect => "CONNECT has `:scheme` or `:path`, or lacks `:authority`",
            Self::ContentLength => "two values of `content-length` differ",
        })?;
        write!(f, " (RFC 9113, {})", self.section())
    }
}

/// The pseudo-fields, by what [`Checker`] remembers of them.
const PSEUDO: [(&[u8], u8); 6] = [
    (b":method", 0x1),
    (b":scheme", 0x2),
    (b":authority", 0x4),
    (b":path", 0x8),
    (b":status", 0x10),
    (b":protocol", 0x20),
];
const METHOD: u8 = 0x1;
const SCHEME: u8 = 0x2;
const AUTHORITY: u8 = 0x4;
const PATH: u8 = 0x8;
const STATUS: u8 = 0x10;
const PROTOCOL: u8 = 0x20;

/// Judges a list field by field.
///
/// ```
/// use sheer_lens::h2::fields::{Checker, FieldRule, List};
///
/// let mut checker = Checker::new(List::Response);
/// assert_eq!(checker.field(b":status", b"200"), None);
/// assert_eq!(checker.field(b"connection", b"close"), Some(FieldRule::ConnectionSpecific));
/// assert_eq!(checker.finish(), None);
/// ```
#[derive(Clone, Debug)]
pub struct Checker {
    list: List,
    seen: u8,
    is_past_pseudo: bool,
    is_connect: bool,
    content_length: Option<Box<[u8]>>,
}

impl Checker {
    /// Before the first field.
    pub fn new(list: List) -> Self {
        Self {
            list,
            seen: 0,
            is_past_pseudo: false,
            is_connect: false,
            content_length: None,
        }
    }

    /// The next field, and the rule that it breaks.
    pub fn field(&mut self, name: &[u8], value: &[u8]) -> Option<FieldRule> {
        if name.first() == Some(&b':') {
            return self.pseudo(name, value).or_else(|| check_value(value));
        }
        self.is_past_pseudo = true;
        check_name(name)
            .or_else(|| check_value(value))
            .or_else(|| self.regular(name, value))
    }

    /// What the list as a whole lacks.
    pub fn finish(&self) -> Option<FieldRule> {
        let missing = |required: &[(u8, &'static str)]| {
            let lacking = required.iter().find(|(pseudo, _)| self.seen & pseudo == 0)?;
            Some(FieldRule::PseudoMissing(lacking.1))
        };
        match self.list {
            List::Trailers => None,
            List::Response => missing(&[(STATUS, ":status")]),
            // Extended CONNECT (RFC 8441, 4) has all of them.
            List::Request if self.is_connect && self.seen & PROTOCOL == 0 => {
                let is_plain = self.seen & (SCHEME | PATH) == 0 && self.seen & AUTHORITY != 0;
                (!is_plain).then_some(FieldRule::Connect)
            }
            List::Request => missing(&[(METHOD, ":method"), (SCHEME, ":scheme"), (PATH, ":path")]),
        }
    }

    fn pseudo(&mut self, name: &[u8], value: &[u8]) -> Option<FieldRule> {
        let Some((_, pseudo)) = PSEUDO.iter().find(|(known, _)| *known == name) else {
            return Some(FieldRule::PseudoUnknown);
        };
        let is_response = *pseudo == STATUS;
        if self.list == List::Trailers {
            return Some(FieldRule::PseudoInTrailers);
        }
        if is_response != (self.list == List::Response) {
            return Some(FieldRule::PseudoUnknown);
        }
        if self.seen & pseudo != 0 {
            return Some(FieldRule::PseudoRepeated);
        }
        self.seen |= pseudo;
        self.is_connect |= *pseudo == METHOD && value == b"CONNECT";
        match *pseudo {
            _ if self.is_past_pseudo => Some(FieldRule::PseudoLate),
            PATH if value.is_empty() => Some(FieldRule::PathEmpty),
            STATUS if value.len() != 3 || !value.iter().all(u8::is_ascii_digit) => Some(FieldRule::Status),
            _ => None,
        }
    }

    fn regular(&mut self, name: &[u8], value: &[u8]) -> Option<FieldRule> {
        match name {
            b"connection" | b"proxy-connection" | b"keep-alive" | b"transfer-encoding" | b"upgrade" => {
                Some(FieldRule::ConnectionSpecific)
            }
            b"te" => (!value.eq_ignore_ascii_case(b"trailers")).then_some(FieldRule::Te),
            b"content-length" => match &self.content_length {
                None => {
                    self.content_length = Some(value.into());
                    None
                }
                Some(first) => (**first != *value).then_some(FieldRule::ContentLength),
            },
            _ => None,
        }
    }
}

fn check_name(name: &[u8]) -> Option<FieldRule> {
    if name.iter().any(u8::is_ascii_uppercase) {
        return Some(FieldRule::Uppercase);
    }
    let valid = !name.is_empty() && name.iter().all(|byte| (0x21..0x7f).contains(byte) && *byte != b':');
    (!valid).then_some(FieldRule::Name)
}

fn check_value(value: &[u8]) -> Option<FieldRule> {
    let is_space = |byte: Option<&u8>| matches!(byte, Some(b' ' | b'\t'));
    let broken =
        value.iter().any(|byte| matches!(byte, 0 | b'\r' | b'\n')) || is_space(value.first()) || is_space(value.last());
    broken.then_some(FieldRule::Value)
}
