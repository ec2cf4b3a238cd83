//! What errors are made of: causes, codes, and the names of what they are about.

use std::{fmt, io, time::Duration};

use http::StatusCode;

/// How an attempt to connect ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ConnectCause {
    /// Nothing listens there (RST to the SYN).
    Refused,
    /// No answer in time.
    TimedOut(Duration),
    /// Reset during the handshake.
    Reset,
    /// No route, or an ICMP error.
    Unreachable,
    /// This machine could not: descriptors, ports, memory.
    Local(io::ErrorKind),
    /// Anything else that the system said.
    Other(io::ErrorKind),
}

impl ConnectCause {
    /// What another sidecar means by this reason ([`ProxyError::reason`](super::ProxyError::reason)) of a connection of its own to its application.
    pub(crate) fn of_reason(reason: &[u8]) -> Option<Self> {
        match reason {
            b"connect-refused" => Some(Self::Refused),
            b"connect-reset" => Some(Self::Reset),
            b"connect-unreachable" => Some(Self::Unreachable),
            _ => None,
        }
    }

    /// What an error of `connect(2)` or of the first bytes means.
    pub fn of(error: &io::Error) -> Self {
        use io::ErrorKind as Kind;
        match error.kind() {
            Kind::ConnectionRefused => Self::Refused,
            Kind::ConnectionReset | Kind::ConnectionAborted | Kind::BrokenPipe => Self::Reset,
            Kind::HostUnreachable | Kind::NetworkUnreachable | Kind::NetworkDown => Self::Unreachable,
            kind @ (Kind::AddrNotAvailable | Kind::OutOfMemory | Kind::PermissionDenied) => Self::Local(kind),
            kind => match error.raw_os_error() {
                Some(libc::EMFILE | libc::ENFILE | libc::ENOBUFS) => Self::Local(kind),
                _ => Self::Other(kind),
            },
        }
    }
}

impl fmt::Display for ConnectCause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Refused => f.write_str("connection refused"),
            Self::TimedOut(after) => write!(f, "no answer within {after:?}"),
            Self::Reset => f.write_str("connection reset"),
            Self::Unreachable => f.write_str("unreachable"),
            Self::Local(kind) | Self::Other(kind) => write!(f, "{kind}"),
        }
    }
}

/// How a connection was lost, in words.
pub(crate) fn connection_lost(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::ConnectionReset => "connection reset",
        io::ErrorKind::TimedOut => "no answer to TCP keepalive or unacknowledged data",
        // The codec reports the end of a connection with open streams as a broken pipe.
        io::ErrorKind::BrokenPipe | io::ErrorKind::UnexpectedEof => "end of stream",
        io::ErrorKind::HostUnreachable | io::ErrorKind::NetworkUnreachable => "unreachable",
        _ => "connection lost",
    }
}

/// A code of RST_STREAM or GOAWAY, as users know them (`CANCEL`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ResetCode(pub h2::Reason);

impl ResetCode {
    /// The name of RFC 9113 7, `UNKNOWN` where it has none.
    pub fn as_str(self) -> &'static str {
        match self.0 {
            h2::Reason::NO_ERROR => "NO_ERROR",
            h2::Reason::PROTOCOL_ERROR => "PROTOCOL_ERROR",
            h2::Reason::INTERNAL_ERROR => "INTERNAL_ERROR",
            h2::Reason::FLOW_CONTROL_ERROR => "FLOW_CONTROL_ERROR",
            h2::Reason::SETTINGS_TIMEOUT => "SETTINGS_TIMEOUT",
            h2::Reason::STREAM_CLOSED => "STREAM_CLOSED",
            h2::Reason::FRAME_SIZE_ERROR => "FRAME_SIZE_ERROR",
            h2::Reason::REFUSED_STREAM => "REFUSED_STREAM",
            h2::Reason::CANCEL => "CANCEL",
            h2::Reason::COMPRESSION_ERROR => "COMPRESSION_ERROR",
            h2::Reason::CONNECT_ERROR => "CONNECT_ERROR",
            h2::Reason::ENHANCE_YOUR_CALM => "ENHANCE_YOUR_CALM",
            h2::Reason::INADEQUATE_SECURITY => "INADEQUATE_SECURITY",
            h2::Reason::HTTP_1_1_REQUIRED => "HTTP_1_1_REQUIRED",
            _ => "UNKNOWN",
        }
    }
}

impl fmt::Display for ResetCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Which list of headers a limit was about. Displays as the subject of a sentence.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Leg {
    /// Which of the two proxies speaks.
    pub direction: Direction,
    /// Which list.
    pub part: Part,
}

/// Which side of a workload a proxy stands on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Direction {
    /// What arrives at the workload.
    Inbound,
    /// What the workload sends.
    Outbound,
}

impl Direction {
    /// `inbound` or `outbound`, as metric labels have it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Inbound => "inbound",
            Self::Outbound => "outbound",
        }
    }
}

/// A list of fields.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Part {
    /// Headers of a request.
    RequestHeaders,
    /// Trailers of a request.
    RequestTrailers,
    /// Headers of a response, interim ones included.
    ResponseHeaders,
    /// Trailers of a response.
    ResponseTrailers,
}

/// How large a list of fields is that went past a limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ListSize {
    /// So many bytes, as RFC 9113 6.5.2 counts: name + value + 32 bytes a field.
    Bytes(usize),
    /// More bytes than these, at which the codec of HTTP/1 stopped to read.
    MoreThan(usize),
    /// More fields than these, whatever they hold.
    Fields(usize),
}

impl ListSize {
    /// The rest of a sentence about a list that went past the limit of bytes, or that of fields.
    pub(super) fn past(self, limit: usize) -> impl fmt::Display {
        fmt::from_fn(move |f| match self {
            Self::Bytes(size) => write!(
                f,
                "are {size} bytes and the limit is {limit} (SHEER_PROXY_HEADER_LIST_LIMIT)"
            ),
            Self::MoreThan(size) => write!(
                f,
                "are more than {size} bytes and the limit is {limit} (SHEER_PROXY_HEADER_LIST_LIMIT)"
            ),
            Self::Fields(most) => write!(
                f,
                "have more than {most} fields, the most that an HTTP/1 message may have"
            ),
        })
    }
}

impl fmt::Display for Leg {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (what, from) = match (self.part, self.direction) {
            (Part::RequestHeaders, Direction::Inbound) => ("request headers", "the client"),
            (Part::RequestHeaders, Direction::Outbound) => ("request headers", "the application"),
            (Part::RequestTrailers, Direction::Inbound) => ("request trailers", "the client"),
            (Part::RequestTrailers, Direction::Outbound) => ("request trailers", "the application"),
            (Part::ResponseHeaders, Direction::Inbound) => ("response headers", "the application"),
            (Part::ResponseHeaders, Direction::Outbound) => ("response headers", "the server"),
            (Part::ResponseTrailers, Direction::Inbound) => ("response trailers", "the application"),
            (Part::ResponseTrailers, Direction::Outbound) => ("response trailers", "the server"),
        };
        write!(f, "{what} from {from} ({})", self.direction.as_str())
    }
}

/// Which timeout of an operator is over. Displays as the start of a sentence that says after how long.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum TimeLimit {
    /// Of the whole request, every attempt included.
    Request,
    /// From the end of the request to the head of the response.
    Response,
    /// Without a byte in either direction.
    Idle,
    /// Of one attempt.
    Attempt,
}

impl TimeLimit {
    /// The reason code.
    pub const fn reason(self) -> &'static str {
        match self {
            Self::Request => "timeout-request",
            Self::Response => "timeout-response",
            Self::Idle => "timeout-idle",
            Self::Attempt => "timeout-attempt",
        }
    }
}

impl fmt::Display for TimeLimit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Request => "the request was not complete",
            Self::Response => "the response headers did not come",
            Self::Idle => "not a byte moved",
            Self::Attempt => "an attempt was not answered",
        })
    }
}

/// The answer of a failure that is injected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Injected {
    /// This HTTP status, to gRPC callers too: so an operator sees what they make of it.
    Http(StatusCode),
    /// This gRPC code.
    Grpc(GrpcCode),
}

impl Injected {
    pub(super) fn http_status(self) -> StatusCode {
        match self {
            Self::Http(status) => status,
            Self::Grpc(_) => StatusCode::OK,
        }
    }

    pub(super) fn grpc_status(self) -> GrpcCode {
        match self {
            Self::Http(_) => GrpcCode::Unavailable,
            Self::Grpc(code) => code,
        }
    }
}

/// The gRPC status codes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum GrpcCode {
    /// Well.
    Ok = 0,
    /// The caller went away.
    Cancelled = 1,
    /// Nobody knows.
    Unknown = 2,
    /// The request is malformed.
    InvalidArgument = 3,
    /// Out of time.
    DeadlineExceeded = 4,
    /// Nothing there.
    NotFound = 5,
    /// There already.
    AlreadyExists = 6,
    /// Not allowed.
    PermissionDenied = 7,
    /// Past a limit.
    ResourceExhausted = 8,
    /// The mesh is set up in a way that cannot work.
    FailedPrecondition = 9,
    /// Another came first.
    Aborted = 10,
    /// Past the end.
    OutOfRange = 11,
    /// No such method.
    Unimplemented = 12,
    /// A party broke its protocol.
    Internal = 13,
    /// Try again, perhaps elsewhere.
    Unavailable = 14,
    /// Data is lost.
    DataLoss = 15,
    /// Nobody knows who the caller is.
    Unauthenticated = 16,
}

impl GrpcCode {
    /// By its number; `Unknown` where there is no such code, as gRPC libraries have it.
    pub fn of(code: u16) -> Self {
        const ALL: [GrpcCode; 17] = [
            GrpcCode::Ok,
            GrpcCode::Cancelled,
            GrpcCode::Unknown,
            GrpcCode::InvalidArgument,
            GrpcCode::DeadlineExceeded,
            GrpcCode::NotFound,
            GrpcCode::AlreadyExists,
            GrpcCode::PermissionDenied,
            GrpcCode::ResourceExhausted,
            GrpcCode::FailedPrecondition,
            GrpcCode::Aborted,
            GrpcCode::OutOfRange,
            GrpcCode::Unimplemented,
            GrpcCode::Internal,
            GrpcCode::Unavailable,
            GrpcCode::DataLoss,
            GrpcCode::Unauthenticated,
        ];
        ALL.get(usize::from(code)).copied().unwrap_or(Self::Unknown)
    }
}
