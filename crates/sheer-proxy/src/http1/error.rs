//! What can go wrong with a message, and what to answer.

use std::io;

use http::StatusCode;

/// Why a message was refused. `Display` is written for people: it goes into the response and the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ParseError {
    /// Not `METHOD SP target SP HTTP/x.y`.
    #[error("the request line is malformed")]
    RequestLine,
    /// A method with bytes that no token may have.
    #[error("the method is not a token")]
    Method,
    /// A target with control characters or spaces, or in a form that its method may not have.
    #[error("the request target is invalid")]
    Target,
    /// A request line longer than the limit of the head.
    #[error("the request line is longer than {limit} bytes")]
    TargetTooLong {
        /// The limit.
        limit: usize,
    },
    /// Not `HTTP/1.x`.
    #[error("the HTTP version is malformed")]
    Version,
    /// A well-formed version that this codec does not speak.
    #[error("HTTP/{0} is not spoken here")]
    VersionNotSupported(u8),
    /// Not `HTTP/1.x SP 3DIGIT`.
    #[error("the status line is malformed")]
    StatusLine,
    /// A field line without a colon, or with an empty name.
    #[error("a header line has no name")]
    FieldLine,
    /// A name with bytes that no token may have.
    #[error("a header name has invalid characters")]
    FieldName,
    /// White space between name and colon (RFC 9112 5.1).
    #[error("a header has white space before its colon")]
    SpaceBeforeColon,
    /// A field continued on the next line (RFC 9112 5.2).
    #[error("a header is folded over several lines")]
    ObsFold,
    /// NUL, CR or another control character in a value.
    #[error("a header value has control characters")]
    FieldValue,
    /// A CR that no LF follows (RFC 9112 2.2).
    #[error("a carriage return stands without its line feed")]
    BareCr,
    /// A head longer than the limit.
    #[error("the header section is longer than {limit} bytes")]
    HeadTooLarge {
        /// The limit.
        limit: usize,
    },
    /// More fields than the limit.
    #[error("there are more than {limit} header fields")]
    TooManyFields {
        /// The limit.
        limit: usize,
    },
    /// A `Content-Length` that is not a number.
    #[error("Content-Length is not a number")]
    ContentLength,
    /// Several lengths that disagree.
    #[error("there are several Content-Length values that differ")]
    ContentLengthConflict,
    /// Both framings at once (RFC 9112 6.1).
    #[error("Content-Length and Transfer-Encoding are both present")]
    LengthAndEncoding,
    /// `Transfer-Encoding` of a request whose last coding is not `chunked`, or that names it twice.
    #[error("Transfer-Encoding does not end in a single chunked")]
    TransferEncoding,
    /// A coding other than `chunked`.
    #[error("the transfer coding is not known here, only chunked is")]
    TransferCoding,
    /// `Transfer-Encoding` in a message of HTTP/1.0 (RFC 9112 6.1).
    #[error("Transfer-Encoding is not allowed in HTTP/1.0")]
    EncodingInHttp10,
    /// More than one `Host`, or one that is not a host.
    #[error("there is more than one Host header, or it is invalid")]
    Host,
    /// A chunk size that is not hexadecimal, has a sign or spaces, or does not fit in 64 bits.
    #[error("a chunk size is invalid")]
    ChunkSize,
    /// More extension bytes in a chunk than the limit, or invalid ones.
    #[error("a chunk extension is invalid or longer than {limit} bytes")]
    ChunkExtension {
        /// The limit.
        limit: usize,
    },
    /// Chunk data that CRLF does not follow.
    #[error("a chunk does not end in CRLF")]
    ChunkEnd,
    /// A line of chunked framing or of trailers that ends in LF alone.
    #[error("a line of the chunked body or its trailers does not end in CRLF")]
    BareLf,
    /// A trailer section longer than the limit.
    #[error("the trailer section is longer than {limit} bytes")]
    TrailersTooLarge {
        /// The limit.
        limit: usize,
    },
}

impl ParseError {
    /// What to answer where the refused message is a request. A refused response is 502, whatever the reason.
    pub fn status(self) -> StatusCode {
        match self {
            Self::TargetTooLong { .. } => StatusCode::URI_TOO_LONG,
            Self::VersionNotSupported(_) => StatusCode::HTTP_VERSION_NOT_SUPPORTED,
            Self::HeadTooLarge { .. } | Self::TooManyFields { .. } | Self::TrailersTooLarge { .. } => {
                StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE
            }
            Self::TransferCoding => StatusCode::NOT_IMPLEMENTED,
            Self::RequestLine
            | Self::Method
            | Self::Target
            | Self::Version
            | Self::StatusLine
            | Self::FieldLine
            | Self::FieldName
            | Self::SpaceBeforeColon
            | Self::ObsFold
            | Self::FieldValue
            | Self::BareCr
            | Self::ContentLength
            | Self::ContentLengthConflict
            | Self::LengthAndEncoding
            | Self::TransferEncoding
            | Self::EncodingInHttp10
            | Self::Host
            | Self::ChunkSize
            | Self::ChunkExtension { .. }
            | Self::ChunkEnd
            | Self::BareLf => StatusCode::BAD_REQUEST,
        }
    }
}

/// Why a head or a body could not be read. After any of these the connection carries no further message.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// The message was refused.
    #[error(transparent)]
    Parse(#[from] ParseError),
    /// The peer closed in the middle of a head.
    #[error("the connection was closed in the middle of a message head")]
    HeadTruncated,
    /// The peer closed before the body was whole.
    #[error("the connection was closed in the middle of a message body")]
    BodyTruncated,
    /// A response was due and the peer closed without a byte of it: the server may never have seen the request.
    #[error("the connection was closed before a response")]
    NoResponse,
    /// The body of the last message was not read to its end, so nobody knows where the next one starts.
    #[error("the body of the last message was not read to its end")]
    BodyUnread,
    /// The connection broke.
    #[error("the connection broke: {0}")]
    Io(#[from] io::Error),
}

/// Why a message could not be written. After any of these the connection carries no further message.
#[derive(Debug, thiserror::Error)]
pub enum WriteError {
    /// The connection broke.
    #[error("the connection broke: {0}")]
    Io(#[from] io::Error),
    /// The body has more bytes than its `Content-Length`.
    #[error("the body is longer than its Content-Length")]
    BodyTooLong,
    /// The body ended with this many bytes of its `Content-Length` missing.
    #[error("the body ended {missing} bytes short of its Content-Length")]
    BodyTooShort {
        /// Bytes that the head promised and nobody sent.
        missing: u64,
    },
    /// The target has bytes that would split the request line.
    #[error("the request target has spaces or control characters")]
    Target,
}
