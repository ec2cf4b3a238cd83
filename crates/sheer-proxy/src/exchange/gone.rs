//! How a peer left: the facts that a reset, a GOAWAY or the end of a connection carry, and what to tell the other side.

use std::net::SocketAddr;

use h2::Reason;

use crate::{
    error::{ListSize, ProxyError, ResetCode, connection_lost},
    http1::{ParseError, ReadError, WriteError},
};

/// How a peer left before its stream was complete.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Gone {
    /// It reset the stream.
    Reset(Reason),
    /// It said GOAWAY and will not serve the stream.
    GoAway(Reason),
    /// It broke HTTP/1, as our codec says of what was read.
    Malformed(ParseError),
    /// It broke the protocol otherwise, as our codec says; the stream or the connection was ended from this side.
    Broke { code: Reason, why: String },
    /// Its connection ended.
    Closed { why: String },
}

impl Gone {
    /// What an error of the HTTP/2 codec means.
    pub(crate) fn of(error: h2::Error) -> Self {
        match error.reason() {
            Some(reason) if error.is_remote() && error.is_go_away() => Self::GoAway(reason),
            Some(reason) if error.is_remote() => Self::Reset(reason),
            Some(code) => Self::Broke {
                code,
                why: format!("{} ({})", error, ResetCode(code)),
            },
            None => Self::Closed {
                why: error
                    .get_io()
                    .map_or_else(|| error.to_string(), |error| connection_lost(error).to_owned()),
            },
        }
    }

    /// What an error of the HTTP/1 codec means, where a message was read.
    pub(crate) fn of_read(error: &ReadError) -> Self {
        match error {
            ReadError::Parse(why) => Self::Malformed(*why),
            ReadError::Io(error) => Self::Closed {
                why: connection_lost(error).to_owned(),
            },
            ReadError::HeadTruncated | ReadError::BodyTruncated | ReadError::NoResponse | ReadError::BodyUnread => {
                Self::Closed {
                    why: "end of stream".to_owned(),
                }
            }
        }
    }

    /// The code for RST_STREAM towards the other side: the peer's own where it gave one.
    pub(crate) fn code(&self) -> ResetCode {
        ResetCode(match self {
            Self::Reset(code) => *code,
            // The stream was not served, but the connection of the other side is well: it may try again.
            Self::GoAway(_) => Reason::REFUSED_STREAM,
            Self::Broke { .. } => Reason::INTERNAL_ERROR,
            // What came of the message will never be whole: nobody waits for it any more.
            Self::Malformed(_) | Self::Closed { .. } => Reason::CANCEL,
        })
    }

    /// As an error, where the server left.
    pub(crate) fn server_error(self, addr: SocketAddr) -> ProxyError {
        match self {
            Self::Reset(code) => ProxyError::UpstreamReset {
                addr,
                code: ResetCode(code),
            },
            Self::GoAway(code) => ProxyError::UpstreamClosed {
                addr,
                sidecar: false,
                why: format!("GOAWAY {}", ResetCode(code)),
                unprocessed: true,
            },
            Self::Malformed(why) => ProxyError::BadResponse {
                addr,
                why: why.to_string(),
            },
            Self::Broke { why, .. } => ProxyError::BadResponse { addr, why },
            Self::Closed { why } => ProxyError::UpstreamClosed {
                addr,
                sidecar: false,
                why,
                unprocessed: false,
            },
        }
    }
}

/// How large the list of fields is for which a message was refused; `None` where it was refused for something else.
pub(crate) fn list_size(why: ParseError) -> Option<ListSize> {
    match why {
        ParseError::HeadTooLarge { limit }
        | ParseError::TargetTooLong { limit }
        | ParseError::TrailersTooLarge { limit } => Some(ListSize::MoreThan(limit)),
        ParseError::TooManyFields { limit } => Some(ListSize::Fields(limit)),
        _ => None,
    }
}

impl From<WriteError> for Gone {
    /// What an error of the HTTP/1 codec means, where a message was written.
    fn from(error: WriteError) -> Self {
        match error {
            WriteError::Io(error) => Self::Closed {
                why: connection_lost(&error).to_owned(),
            },
            WriteError::BodyTooLong | WriteError::BodyTooShort { .. } | WriteError::Target => Self::Broke {
                code: Reason::PROTOCOL_ERROR,
                why: error.to_string(),
            },
        }
    }
}
