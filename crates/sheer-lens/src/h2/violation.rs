//! Rules of HTTP/2 that a side broke: facts, each with its section, what it would have been answered with, and where it happened.

use std::fmt;

use crate::hpack;

/// A broken rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Violation {
    /// Which.
    pub rule: Rule,
    /// The stream of the frame, 0 for the connection.
    pub stream: u32,
    /// Where the frame begins, counted from the direction's first byte.
    pub offset: u64,
}

/// Who has to answer for a broken rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// The connection ends with GOAWAY.
    Connection,
    /// The stream ends with RST_STREAM.
    Stream,
    /// Not a fault of the peer: the lens stopped following.
    Lens,
}

macro_rules! rules {
    ($($(#[doc = $doc:literal])* $name:ident, $section:literal, $scope:ident, $code:literal, $text:literal;)*) => {
        /// A rule of RFC 9113 that can be seen to be broken from outside.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum Rule {
            $(#[doc = $text] #[doc = concat!("(", $section, ").")] $name,)*
            /// A header block that HPACK cannot decode (RFC 9113, 4.3).
            Compression(hpack::Error),
            /// A rule of HPACK that decoding survives.
            Hpack(hpack::Violation),
        }

        impl Rule {
            /// The section that states it; empty for a limit of the lens.
            pub fn section(self) -> &'static str {
                match self {
                    $(Self::$name => $section,)*
                    Self::Compression(_) => "RFC 9113, 4.3",
                    Self::Hpack(_) => "RFC 7541, 4.2",
                }
            }

            /// What ends by it.
            pub fn scope(self) -> Scope {
                match self {
                    $(Self::$name => Scope::$scope,)*
                    Self::Compression(hpack::Error { kind: hpack::ErrorKind::TableUnknown, .. }) => Scope::Lens,
                    Self::Compression(hpack::Error { kind: hpack::ErrorKind::TableBeyondLimit { .. }, .. }) => Scope::Lens,
                    Self::Compression(_) | Self::Hpack(_) => Scope::Connection,
                }
            }

            /// The error code that it is to be answered with, where it is one.
            pub fn error_code(self) -> u32 {
                match self {
                    $(Self::$name => $code,)*
                    Self::Compression(_) | Self::Hpack(_) => 9,
                }
            }
        }

        impl fmt::Display for Rule {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                let (text, section) = match self {
                    $(Self::$name => ($text, $section),)*
                    Self::Compression(error) => return error.fmt(f),
                    Self::Hpack(violation) => return violation.fmt(f),
                };
                f.write_str(text)?;
                if section.is_empty() { Ok(()) } else { write!(f, " ({section})") }
            }
        }
    };
}

rules! {
    Preface, "RFC 9113, 3.4", Connection, 1, "a client's first bytes are not the connection preface";
    FirstFrame, "RFC 9113, 3.4", Connection, 1, "the first frame is not SETTINGS";
    FrameTooLarge, "RFC 9113, 4.2", Connection, 6, "a frame is longer than SETTINGS_MAX_FRAME_SIZE of its receiver";
    StreamZero, "RFC 9113, 6", Connection, 1, "a frame of a stream is on stream 0";
    StreamNotZero, "RFC 9113, 6", Connection, 1, "a frame of the connection is on a stream";
    PaddingTooLong, "RFC 9113, 6.1", Connection, 1, "the padding is longer than the payload";
    PayloadTooShort, "RFC 9113, 4.2", Connection, 6, "a payload is too short for its fields";
    PriorityLength, "RFC 9113, 6.3", Stream, 6, "a PRIORITY frame has not 5 bytes";
    RstStreamLength, "RFC 9113, 6.4", Connection, 6, "a RST_STREAM frame has not 4 bytes";
    RstStreamIdle, "RFC 9113, 6.4", Connection, 1, "a RST_STREAM frame is on a stream that was never opened";
    SettingsLength, "RFC 9113, 6.5", Connection, 6, "the length of a SETTINGS frame is no multiple of 6";
    SettingsAckPayload, "RFC 9113, 6.5", Connection, 6, "an acknowledgement of settings has a payload";
    SettingsAckUnasked, "RFC 9113, 6.5.3", Connection, 1, "settings are acknowledged that nobody sent";
    EnablePush, "RFC 9113, 6.5.2", Connection, 1, "SETTINGS_ENABLE_PUSH is neither 0 nor 1, or a server sets it to 1";
    InitialWindowSize, "RFC 9113, 6.5.2", Connection, 3, "SETTINGS_INITIAL_WINDOW_SIZE is above 2^31-1";
    MaxFrameSize, "RFC 9113, 6.5.2", Connection, 1, "SETTINGS_MAX_FRAME_SIZE is not between 2^14 and 2^24-1";
    PushByClient, "RFC 9113, 8.4", Connection, 1, "a client sent PUSH_PROMISE";
    PushDisabled, "RFC 9113, 6.6", Connection, 1, "PUSH_PROMISE is sent although the client disabled it";
    PromisedStream, "RFC 9113, 5.1.1", Connection, 1, "a promised stream is no new even number";
    PingLength, "RFC 9113, 6.7", Connection, 6, "a PING frame has not 8 bytes";
    GoAwayRaised, "RFC 9113, 6.8", Connection, 1, "GOAWAY names a higher last stream than the one before";
    WindowUpdateLength, "RFC 9113, 6.9", Connection, 6, "a WINDOW_UPDATE frame has not 4 bytes";
    WindowUpdateZero, "RFC 9113, 6.9", Stream, 1, "a WINDOW_UPDATE frame adds nothing";
    WindowTooLarge, "RFC 9113, 6.9.1", Connection, 3, "a flow-control window grew above 2^31-1";
    WindowExceeded, "RFC 9113, 6.9.1", Connection, 3, "more DATA was sent than the window of the connection allows";
    StreamWindowExceeded, "RFC 9113, 6.9.1", Stream, 3, "more DATA was sent than the window of the stream allows";
    ContinuationExpected, "RFC 9113, 6.10", Connection, 1, "another frame stands within a header block";
    ContinuationUnexpected, "RFC 9113, 6.10", Connection, 1, "a CONTINUATION frame continues no header block of its stream";
    StreamParity, "RFC 9113, 5.1.1", Connection, 1, "a side opened a stream with a number that belongs to the other";
    StreamIdle, "RFC 9113, 5.1", Connection, 1, "a frame is on a stream that was never opened";
    StreamEnded, "RFC 9113, 5.1", Stream, 5, "DATA or HEADERS follow the end of their direction of the stream";
    TooManyStreams, "RFC 9113, 5.1.2", Stream, 7, "more streams are open than SETTINGS_MAX_CONCURRENT_STREAMS allows";
    BlockTooLarge, "", Lens, 0, "a header block is larger than the lens reads; the HPACK table is unknown from here on";
    BlockLost, "", Lens, 0, "a header block was never finished; the HPACK table is unknown from here on";
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}, on stream {} at byte {}", self.rule, self.stream, self.offset)
    }
}
