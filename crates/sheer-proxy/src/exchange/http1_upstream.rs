//! Asking a server of HTTP/1.

use std::{fmt, rc::Rc, sync::Arc};

use http::{HeaderValue, Version, header};

use super::{
    gone::Gone,
    loan::{Home, Loan, Reader, Writer},
    request::{Head, Origin},
};
use crate::{
    connect::Link,
    http1::{BodyLength, Limits, RequestLine},
    io::Io,
};

/// A connection to a server of HTTP/1, between two requests.
#[derive(Debug)]
pub struct Http1Connection {
    pub(super) home: Rc<Home>,
    /// Requests that it has carried: a server may close an idle connection at any time, so a reused one may fail innocently.
    pub(super) served: usize,
    /// How it came to be, where that is known.
    pub(super) link: Option<Arc<Link>>,
}

/// Who takes a connection back after a response, to lend it again.
pub trait GiveBack {
    /// The connection may carry another request.
    fn give_back(&self, connection: Http1Connection);
}

/// A lent connection.
pub struct Http1Upstream {
    /// The connection.
    pub connection: Http1Connection,
    /// Where it goes afterwards; it is closed where there is nobody.
    pub give_back: Option<Rc<dyn GiveBack>>,
}

impl fmt::Debug for Http1Upstream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.connection.fmt(f)
    }
}

impl Http1Connection {
    /// A fresh connection. `header_limit` as [`super::Context`] has it.
    pub fn new(io: Io, header_limit: usize) -> Self {
        Self {
            home: Home::of(io, limits(header_limit)),
            served: 0,
            link: None,
        }
    }

    /// Says how it came to be.
    #[must_use]
    pub fn over(mut self, link: Arc<Link>) -> Self {
        self.link = Some(link);
        self
    }

    /// How it came to be.
    pub(crate) fn link(&self) -> Option<&Arc<Link>> {
        self.link.as_ref()
    }

    /// Whether it has carried a request before.
    pub fn is_reused(&self) -> bool {
        self.served > 0
    }

    /// Whether it looks usable: open, and the server has said nothing unasked.
    pub fn is_usable(&self) -> bool {
        self.home.lend::<Reader>().is_some_and(|mut reader| reader.is_usable())
    }

    /// Waits until it can no longer be used. Cancel-safe; for a pool that watches its idle connections.
    pub async fn ended(&self) {
        if let Some(mut reader) = self.home.lend::<Reader>() {
            reader.idle_end().await;
        }
    }
}

/// The limits of the codec, such that ours is met first and can say how large the list is.
pub(crate) fn limits(header_limit: usize) -> Limits {
    // HTTP/2 counts 28 bytes more a field than HTTP/1 writes for it; a start line comes on top.
    let with_slack = header_limit.saturating_add(64 * 1024);
    Limits {
        head: with_slack,
        fields: 4096,
        trailers: with_slack,
        ..Limits::default()
    }
}

/// Writes the head of a request (held back until its body begins) and gives where its body goes. `end` if there is none.
pub(super) fn write_head(head: &mut Head, end: bool, writer: &mut Loan<Writer>) -> Result<(), Gone> {
    let body = match content_length(head) {
        Some(length) => BodyLength::Exact(length),
        None if end => BodyLength::None,
        None => BodyLength::Chunked,
    };
    if let Some(upgrade) = head.upgrade.take() {
        head.headers
            .insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
        head.headers.insert(header::UPGRADE, upgrade);
    }
    let http10 = matches!(head.origin, Origin::Http1 { http10: true, .. });
    let target = head.http1_target();
    let line = RequestLine {
        method: &head.method,
        target: &target,
        version: if http10 { Version::HTTP_10 } else { Version::HTTP_11 },
    };
    writer.request_head(line, &head.headers, &head.case, body)?;
    let tape = writer.io().tape();
    tape.http1_request();
    tape.http1_head(true, true, writer.pending());
    Ok(())
}

fn content_length(head: &Head) -> Option<u64> {
    head.headers.get(header::CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}
