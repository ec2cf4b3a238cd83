//! Records of one direction, from bytes in any pieces (RFC 8446, 5.1).

use std::fmt;

use super::hello::{ClientHello, ServerHello, client_hello, server_hello};

/// Largest handshake message that is put together, its header included. Chains of certificates have some KiB.
pub const MAX_HANDSHAKE: usize = 64 * 1024;
/// Type, version, length.
const HEADER: usize = 5;
/// Type and 24-bit length.
const MESSAGE_HEADER: usize = 4;
/// Longest payload of a record: 2^14 bytes and what encryption adds (RFC 5246, 6.2.3; less in RFC 8446).
const MAX_RECORD: u16 = (1 << 14) + 2048;
const CHANGE_CIPHER_SPEC: u8 = 20;
const ALERT: u8 = 21;
const HANDSHAKE: u8 = 22;
const APPLICATION_DATA: u8 = 23;
/// Bytes of an alert that is not encrypted.
const ALERT_LENGTH: usize = 2;

/// A record's header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Record {
    /// Its type: see [`super::content_name`].
    pub kind: u8,
    /// Its version, which says little.
    pub version: u16,
    /// Bytes of payload.
    pub length: u16,
    /// Where it begins, counted from the direction's first byte.
    pub offset: u64,
}

/// An alert that is not encrypted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Alert {
    /// Whether it ends the connection at once.
    pub is_fatal: bool,
    /// Why: see [`super::alert_name`].
    pub description: u8,
}

/// A rule that a side broke, and where.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Violation {
    /// Which.
    pub rule: Rule,
    /// Where the record begins, counted from the direction's first byte.
    pub offset: u64,
}

/// What can be seen to be broken from outside.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rule {
    /// No TLS record: nothing more is reported.
    NotTls,
    /// Longer than a record may be: nothing more is reported.
    RecordTooLong,
    /// A handshake record without content.
    Empty,
    /// A hello that cannot be read.
    HelloMalformed,
    /// A handshake message larger than the lens reads; the messages after it are not shown.
    MessageTooLarge,
}

impl Rule {
    /// The section of RFC 8446 that states it; empty for a limit of the lens.
    pub fn section(self) -> &'static str {
        match self {
            Self::NotTls | Self::RecordTooLong | Self::Empty => "RFC 8446, 5.1",
            Self::HelloMalformed => "RFC 8446, 4.1",
            Self::MessageTooLarge => "",
        }
    }
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NotTls => "this is no TLS record",
            Self::RecordTooLong => "a record is longer than records may be",
            Self::Empty => "a handshake record is empty",
            Self::HelloMalformed => "a hello cannot be read",
            Self::MessageTooLarge => "a handshake message is larger than the lens reads",
        })?;
        if self.section().is_empty() {
            Ok(())
        } else {
            write!(f, " ({})", self.section())
        }
    }
}

/// Sees what a direction says, in its order.
pub trait Visitor {
    /// A record begins.
    fn record(&mut self, _record: &Record) {}
    /// A handshake message that is not encrypted: its type (see [`super::handshake_name`]) and how many bytes it has.
    fn handshake(&mut self, _kind: u8, _length: u32) {}
    /// A ClientHello.
    fn client_hello(&mut self, _hello: &ClientHello) {}
    /// A ServerHello or HelloRetryRequest.
    fn server_hello(&mut self, _hello: &ServerHello) {}
    /// An alert that is not encrypted. An encrypted one is just its record.
    fn alert(&mut self, _alert: Alert) {}
    /// A broken rule.
    fn violation(&mut self, _violation: Violation) {}
}

#[derive(Clone, Copy, Debug)]
enum State {
    /// How much of the next header has been seen.
    Header(usize),
    Payload {
        record: Record,
        left: u16,
    },
    Lost,
}

/// Records of one direction.
#[derive(Clone, Debug)]
pub struct Records {
    state: State,
    header: [u8; HEADER],
    /// The handshake message, or the alert, so far.
    message: Vec<u8>,
    /// From here on handshake and alerts cannot be read.
    is_encrypted: bool,
    /// ChangeCipherSpec was seen. In TLS 1.2 the cipher is in use from there on; in TLS 1.3 it is decoration, and a hello may still follow, as after a
    /// HelloRetryRequest (RFC 8446, D.4).
    is_changed: bool,
    offset: u64,
    records: u64,
}

impl Default for Records {
    fn default() -> Self {
        Self::new()
    }
}

impl Records {
    /// From a direction's first byte.
    pub fn new() -> Self {
        Self {
            state: State::Header(0),
            header: [0; HEADER],
            message: Vec::new(),
            is_encrypted: false,
            is_changed: false,
            offset: 0,
            records: 0,
        }
    }

    /// Records so far, by their headers.
    pub fn records(&self) -> u64 {
        self.records
    }

    /// Bytes so far.
    pub fn offset(&self) -> u64 {
        self.offset
    }

    /// Whether nothing more will be reported.
    pub fn is_lost(&self) -> bool {
        matches!(self.state, State::Lost)
    }

    /// Bytes of memory, beside itself.
    pub fn memory(&self) -> usize {
        self.message.capacity()
    }

    /// Takes the next bytes of the direction.
    pub fn feed(&mut self, mut bytes: &[u8], visitor: &mut impl Visitor) {
        while !bytes.is_empty() {
            let rest = match self.state {
                State::Header(seen) => self.header(seen, bytes, visitor),
                State::Payload { record, left } => self.payload(record, left, bytes, visitor),
                State::Lost => &[],
            };
            self.offset += (bytes.len() - rest.len()) as u64;
            bytes = rest;
        }
    }

    fn header<'a>(&mut self, seen: usize, bytes: &'a [u8], visitor: &mut impl Visitor) -> &'a [u8] {
        self.header[seen] = bytes[0];
        let rest = &bytes[1..];
        if seen + 1 < HEADER {
            self.state = State::Header(seen + 1);
            return rest;
        }
        let [kind, major, minor, high, low] = self.header;
        let length = u16::from(high) << 8 | u16::from(low);
        let offset = (self.offset + 1).saturating_sub(HEADER as u64);
        let record = Record {
            kind,
            version: u16::from(major) << 8 | u16::from(minor),
            length,
            offset,
        };
        let rule = match record {
            _ if !(CHANGE_CIPHER_SPEC..=APPLICATION_DATA + 1).contains(&kind) || major != 3 => Rule::NotTls,
            _ if length > MAX_RECORD => Rule::RecordTooLong,
            _ => {
                self.begin(record, visitor);
                return rest;
            }
        };
        visitor.violation(Violation { rule, offset });
        self.state = State::Lost;
        self.message = Vec::new();
        &[]
    }

    fn begin(&mut self, record: Record, visitor: &mut impl Visitor) {
        self.records += 1;
        visitor.record(&record);
        if record.kind == HANDSHAKE && record.length == 0 {
            visitor.violation(Violation {
                rule: Rule::Empty,
                offset: record.offset,
            });
        }
        if record.kind == CHANGE_CIPHER_SPEC {
            self.is_changed = true;
        }
        if record.kind == APPLICATION_DATA {
            self.is_encrypted = true;
            self.message = Vec::new();
        }
        if record.kind == ALERT {
            self.message.clear();
        }
        self.state = if record.length == 0 {
            State::Header(0)
        } else {
            State::Payload {
                record,
                left: record.length,
            }
        };
    }

    fn payload<'a>(&mut self, record: Record, left: u16, bytes: &'a [u8], visitor: &mut impl Visitor) -> &'a [u8] {
        let (now, rest) = bytes.split_at(bytes.len().min(left.into()));
        let left = left - now.len() as u16;
        self.state = if left == 0 {
            State::Header(0)
        } else {
            State::Payload { record, left }
        };
        if !self.is_encrypted {
            match record.kind {
                HANDSHAKE => self.handshake(now, record, visitor),
                ALERT if usize::from(record.length) == ALERT_LENGTH => self.alert(now, left, visitor),
                _ => {}
            }
        }
        rest
    }

    fn alert(&mut self, bytes: &[u8], left: u16, visitor: &mut impl Visitor) {
        self.message.extend_from_slice(bytes);
        if let (0, [level, description]) = (left, self.message.as_slice()) {
            visitor.alert(Alert {
                is_fatal: *level == 2,
                description: *description,
            });
            self.message.clear();
        }
    }

    /// A piece of the handshake: messages span records, and records hold several.
    fn handshake(&mut self, bytes: &[u8], record: Record, visitor: &mut impl Visitor) {
        let (mut rest, offset) = (bytes, record.offset);
        while !rest.is_empty() && !self.is_encrypted {
            let wanted = self.wanted();
            let (now, later) = rest.split_at(rest.len().min(wanted - self.message.len()));
            self.message.extend_from_slice(now);
            rest = later;
            let wanted = self.wanted();
            if self.is_changed && self.message.len() >= MESSAGE_HEADER && !self.is_hello_of(record) {
                self.is_encrypted = true;
                self.message = Vec::new();
            } else if wanted > MAX_HANDSHAKE {
                visitor.violation(Violation {
                    rule: Rule::MessageTooLarge,
                    offset,
                });
                self.is_encrypted = true;
                self.message = Vec::new();
            } else if self.message.len() == wanted {
                let message = std::mem::take(&mut self.message);
                self.message(&message, offset, visitor);
            }
        }
    }

    /// Whether the message is a hello that fills its record: nothing that is encrypted looks like that.
    fn is_hello_of(&self, record: Record) -> bool {
        matches!(self.message.first(), Some(1 | 2)) && self.wanted() == usize::from(record.length)
    }

    /// Bytes of the message that is being put together, as far as is known.
    fn wanted(&self) -> usize {
        match self.message.first_chunk::<MESSAGE_HEADER>() {
            Some([_, a, b, c]) => MESSAGE_HEADER + (usize::from(*a) << 16 | usize::from(*b) << 8 | usize::from(*c)),
            None => MESSAGE_HEADER,
        }
    }

    fn message(&mut self, message: &[u8], offset: u64, visitor: &mut impl Visitor) {
        let (kind, body) = (message[0], &message[MESSAGE_HEADER..]);
        visitor.handshake(kind, body.len() as u32);
        let is_read = match kind {
            1 => client_hello(body).map(|hello| visitor.client_hello(&hello)),
            2 => server_hello(body).map(|hello| visitor.server_hello(&hello)),
            _ => Some(()),
        };
        if is_read.is_none() {
            visitor.violation(Violation {
                rule: Rule::HelloMalformed,
                offset,
            });
        }
    }
}
