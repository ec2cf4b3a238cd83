//! Answering a client of HTTP/1.

use std::{cell::Cell, rc::Rc};

use http::{HeaderValue, Method, StatusCode, Version, header::CONNECTION};

use super::{
    gone::Gone,
    loan::{Loan, Writer},
    reply::Reply,
    sink::BodyOut,
};
use crate::http1::{BodyLength, HeaderCase, StatusLine, strip_hop_by_hop};

/// The way back to a client of HTTP/1.
#[derive(Debug)]
pub(crate) struct Http1Reply {
    pub(crate) writer: Loan<Writer>,
    pub(crate) method: Method,
    /// The client speaks HTTP/1.0.
    pub(crate) http10: bool,
    /// What becomes of the connection, for whoever lent it.
    pub(crate) fate: Rc<Fate>,
}

/// What becomes of an HTTP/1 connection after a response.
#[derive(Debug, Default)]
pub(crate) struct Fate {
    /// No further request.
    pub(crate) close: Cell<bool>,
    /// The response was broken off: the client must not take it for whole.
    pub(crate) abort: Cell<bool>,
    /// The client waits for 100 before it sends its body, and has not got it.
    pub(crate) unanswered_expect: Cell<bool>,
}

impl Http1Reply {
    /// Writes an interim response.
    pub(crate) async fn interim(&mut self, reply: Reply) -> Result<(), Gone> {
        if reply.status == StatusCode::CONTINUE {
            self.fate.unanswered_expect.set(false);
        }
        // A client of HTTP/1.0 does not know interim responses (RFC 9110 15.2).
        if self.http10 {
            return Ok(());
        }
        self.queue(&reply, BodyLength::None);
        Ok(self.writer.flush().await?)
    }

    /// Queues the final head. `end` where the source has said that no body follows.
    pub(crate) fn head(mut self, mut reply: Reply, end: bool) -> BodyOut {
        let switching = reply.status == StatusCode::SWITCHING_PROTOCOLS;
        let body = reply.framing(&self.method, self.http10, end);
        if !switching {
            strip_hop_by_hop(&mut reply.headers);
            self.connection(&mut reply, body);
        }
        self.queue(&reply, body);
        BodyOut::H1 {
            writer: self.writer,
            fate: Some(self.fate),
        }
    }

    fn queue(&mut self, reply: &Reply, body: BodyLength) {
        let parts = Line::of(reply);
        let held = self.writer.pending().len();
        self.writer.response_head(parts.line, &reply.headers, parts.case, body);
        self.writer
            .io()
            .tape()
            .http1_head(true, false, &self.writer.pending()[held..]);
    }

    /// Says what becomes of the connection, where the client would not guess it.
    fn connection(&self, reply: &mut Reply, body: BodyLength) {
        if body == BodyLength::UntilClose || self.fate.unanswered_expect.get() {
            self.fate.close.set(true);
        }
        let server10 = reply
            .http1
            .as_ref()
            .is_some_and(|line| line.version == Version::HTTP_10);
        if self.fate.close.get() {
            reply.headers.insert(CONNECTION, HeaderValue::from_static("close"));
        } else if self.http10 || server10 {
            reply.headers.insert(CONNECTION, HeaderValue::from_static("keep-alive"));
        }
    }
}

/// First line of a reply and the case of its names.
struct Line<'a> {
    line: StatusLine<'a>,
    case: &'a HeaderCase,
}

impl<'a> Line<'a> {
    fn of(reply: &'a Reply) -> Self {
        const LOWER: &HeaderCase = &HeaderCase::lower();
        match &reply.http1 {
            Some(http1) => Self {
                line: StatusLine {
                    version: http1.version,
                    status: reply.status,
                    reason: http1.reason.as_deref(),
                },
                case: &http1.case,
            },
            None => Self {
                line: StatusLine {
                    version: Version::HTTP_11,
                    status: reply.status,
                    reason: None,
                },
                case: LOWER,
            },
        }
    }
}
