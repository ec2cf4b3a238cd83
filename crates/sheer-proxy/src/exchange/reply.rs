//! The head of a response, as both HTTP versions can say it.

use bytes::Bytes;
use http::{HeaderMap, Method, Response, StatusCode, Version, header};

use crate::http1::{BodyLength, HeaderCase, ResponseHead};

/// Head of a response, interim or final.
#[derive(Debug)]
pub(crate) struct Reply {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    /// What HTTP/1 says besides, where the response was first said in HTTP/1.
    pub(crate) http1: Option<Box<Http1Line>>,
}

/// What only HTTP/1 says.
#[derive(Debug)]
pub(crate) struct Http1Line {
    pub(crate) version: Version,
    /// Where it is not the usual one of the status.
    pub(crate) reason: Option<Bytes>,
    pub(crate) case: HeaderCase,
    /// Framing on a direct connection; `None` where the response came over HTTP/2.
    pub(crate) body: Option<BodyLength>,
}

impl Reply {
    pub(crate) fn of_h2(response: Response<()>) -> Self {
        let (parts, ()) = response.into_parts();
        Self {
            status: parts.status,
            headers: parts.headers,
            http1: None,
        }
    }

    pub(crate) fn of_http1(head: ResponseHead) -> Self {
        let http1 = Http1Line {
            version: head.version,
            reason: head.reason,
            case: head.case,
            body: Some(head.body),
        };
        Self {
            status: head.status,
            headers: head.headers,
            http1: Some(Box::new(http1)),
        }
    }

    pub(crate) fn into_h2(self) -> Response<()> {
        let mut response = Response::new(());
        *response.status_mut() = self.status;
        *response.headers_mut() = self.headers;
        response
    }

    /// Whether the source sends chunks, so that a body without bytes still has an end of its own.
    pub(crate) fn is_chunked(&self) -> bool {
        self.http1
            .as_ref()
            .is_some_and(|line| line.body == Some(BodyLength::Chunked))
    }

    /// How the body is framed for a client of HTTP/1; `end` where the source has said that there is none.
    pub(crate) fn framing(&self, method: &Method, http10: bool, end: bool) -> BodyLength {
        let never = self.status.is_informational()
            || matches!(self.status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED)
            || *method == Method::HEAD
            || (*method == Method::CONNECT && self.status.is_success());
        if never {
            return BodyLength::None;
        }
        if let Some(BodyLength::UntilClose) = self.http1.as_ref().and_then(|line| line.body) {
            return BodyLength::UntilClose;
        }
        let length = self
            .headers
            .get(header::CONTENT_LENGTH)
            .and_then(|value| value.to_str().ok()?.parse().ok());
        let server10 = self.http1.as_ref().is_some_and(|line| line.version == Version::HTTP_10);
        match length {
            Some(length) => BodyLength::Exact(length),
            None if end => BodyLength::Exact(0),
            // Neither knows chunks: the end of the connection is the end of the body (RFC 9112 6.3).
            None if http10 || server10 => BodyLength::UntilClose,
            None => BodyLength::Chunked,
        }
    }
}
