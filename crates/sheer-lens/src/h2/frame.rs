//! What a frame says (RFC 9113, 4 and 6).

use std::fmt;

use super::names;

/// Bytes of a frame's header.
pub const HEADER_LENGTH: usize = 9;

/// Who wrote the bytes of a direction.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Sender {
    /// The side that opened the connection.
    Client,
    /// The side that accepted it.
    Server,
}

impl Sender {
    /// The other side.
    pub fn peer(self) -> Self {
        match self {
            Self::Client => Self::Server,
            Self::Server => Self::Client,
        }
    }
}

/// Type of a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// RFC 9113, 6.1
    Data,
    /// RFC 9113, 6.2
    Headers,
    /// RFC 9113, 6.3
    Priority,
    /// RFC 9113, 6.4
    RstStream,
    /// RFC 9113, 6.5
    Settings,
    /// RFC 9113, 6.6
    PushPromise,
    /// RFC 9113, 6.7
    Ping,
    /// RFC 9113, 6.8
    GoAway,
    /// RFC 9113, 6.9
    WindowUpdate,
    /// RFC 9113, 6.10
    Continuation,
    /// RFC 7838, 4
    AltSvc,
    /// RFC 8336, 2
    Origin,
    /// RFC 9218, 7.1
    PriorityUpdate,
    /// A type of no RFC that the lens knows.
    Unknown(u8),
}

impl From<u8> for Kind {
    fn from(kind: u8) -> Self {
        match kind {
            0x0 => Self::Data,
            0x1 => Self::Headers,
            0x2 => Self::Priority,
            0x3 => Self::RstStream,
            0x4 => Self::Settings,
            0x5 => Self::PushPromise,
            0x6 => Self::Ping,
            0x7 => Self::GoAway,
            0x8 => Self::WindowUpdate,
            0x9 => Self::Continuation,
            0xa => Self::AltSvc,
            0xc => Self::Origin,
            0x10 => Self::PriorityUpdate,
            other => Self::Unknown(other),
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Data => "DATA",
            Self::Headers => "HEADERS",
            Self::Priority => "PRIORITY",
            Self::RstStream => "RST_STREAM",
            Self::Settings => "SETTINGS",
            Self::PushPromise => "PUSH_PROMISE",
            Self::Ping => "PING",
            Self::GoAway => "GOAWAY",
            Self::WindowUpdate => "WINDOW_UPDATE",
            Self::Continuation => "CONTINUATION",
            Self::AltSvc => "ALTSVC",
            Self::Origin => "ORIGIN",
            Self::PriorityUpdate => "PRIORITY_UPDATE",
            Self::Unknown(kind) => return write!(f, "UNKNOWN({kind:#x})"),
        })
    }
}

/// A frame's header: all that a recorder keeps of most frames.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FrameHeader {
    /// Bytes of payload.
    pub length: u32,
    /// Its type.
    pub kind: Kind,
    /// Its flags, as sent.
    pub flags: u8,
    /// The stream, or 0 for the connection.
    pub stream: u32,
    /// The bit before the stream, which should be 0.
    pub reserved: bool,
}

impl FrameHeader {
    /// Reads the nine bytes.
    pub fn parse(bytes: &[u8; HEADER_LENGTH]) -> Self {
        let [a, b, c, kind, flags, stream @ ..] = *bytes;
        let stream = u32::from_be_bytes(stream);
        Self {
            length: u32::from_be_bytes([0, a, b, c]),
            kind: kind.into(),
            flags,
            stream: stream & 0x7fff_ffff,
            reserved: stream >> 31 == 1,
        }
    }

    /// Whether a flag of [`super::flags`] is set.
    pub fn has(&self, flag: u8) -> bool {
        self.flags & flag != 0
    }

    /// The flags by the names that they have on this type.
    pub fn flag_names(&self) -> impl Iterator<Item = &'static str> + use<> {
        names::flag_names(self.kind, self.flags)
    }
}

/// A whole frame; of DATA, its beginning.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Frame<'a> {
    /// Type, flags, stream, length.
    pub header: FrameHeader,
    /// Where its header begins, counted from the direction's first byte.
    pub offset: u64,
    /// Its payload, read.
    pub payload: Payload<'a>,
    /// Its payload as it was sent, up to [`super::MAX_PAYLOAD`]; empty for DATA.
    pub bytes: &'a [u8],
    /// Bytes of padding behind the payload, its own length not counted.
    pub padding: Option<u8>,
    /// Payload bytes past [`super::MAX_PAYLOAD`] that were dropped.
    pub dropped: u32,
}

/// What a payload says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Payload<'a> {
    /// A part of a body, without padding. The bytes follow by [`super::Visitor::data`].
    Data {
        /// How many.
        length: u32,
    },
    /// The first fragment of a header block.
    Headers {
        /// Priority, where the flag says so.
        priority: Option<Priority>,
        /// The fragment.
        fragment: &'a [u8],
    },
    /// Priority of a stream (deprecated by RFC 9113, 5.3.2).
    Priority(Priority),
    /// The end of a stream.
    RstStream {
        /// Why: see [`super::error_code_name`].
        code: u32,
    },
    /// Settings of the sender, or the acknowledgement of the receiver's.
    Settings(&'a [u8]),
    /// The beginning of a pushed exchange.
    PushPromise {
        /// The stream that it will use.
        promised: u32,
        /// The first fragment of the request's header block.
        fragment: &'a [u8],
    },
    /// A ping or its answer.
    Ping([u8; 8]),
    /// No streams above `last` are or will be worked on.
    GoAway {
        /// The last stream that the sender worked on.
        last: u32,
        /// Why: see [`super::error_code_name`].
        code: u32,
        /// Whatever the sender wanted to add, often text.
        debug: &'a [u8],
    },
    /// More room for the receiver's DATA.
    WindowUpdate {
        /// How much more.
        increment: u32,
    },
    /// The next fragment of a header block.
    Continuation {
        /// The fragment.
        fragment: &'a [u8],
    },
    /// An alternative service.
    AltSvc {
        /// For which origin.
        origin: &'a [u8],
        /// As in the field `alt-svc`.
        value: &'a [u8],
    },
    /// A new priority of a stream.
    PriorityUpdate {
        /// Which.
        stream: u32,
        /// As in the field `priority`.
        value: &'a [u8],
    },
    /// ORIGIN, an unknown type, or a payload whose length is wrong for its type.
    Raw(&'a [u8]),
}

/// Priority fields (RFC 7540, 5.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Priority {
    /// The stream that this one depends on.
    pub dependency: u32,
    /// To the exclusion of others.
    pub exclusive: bool,
    /// As sent: one less than the weight.
    pub weight: u8,
}

/// One setting.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Setting {
    /// Which: see [`super::setting_name`].
    pub id: u16,
    /// Its value.
    pub value: u32,
}

impl Setting {
    /// The settings of a SETTINGS payload, in order.
    pub fn list(payload: &[u8]) -> impl Iterator<Item = Self> + '_ {
        payload.chunks_exact(6).map(|bytes| Self {
            id: u16::from_be_bytes([bytes[0], bytes[1]]),
            value: u32::from_be_bytes([bytes[2], bytes[3], bytes[4], bytes[5]]),
        })
    }
}
