//! A copy of a request's body, taken while it flows and never slowing it: for whoever sends the same request once more.

use std::{
    cell::{Cell, RefCell},
    future::poll_fn,
    rc::Rc,
};

use super::{
    Context, Upstream,
    body::{Body, Frame},
    outcome::{Observation, Outcome, Sink, Way},
    pump::pump,
    request::Request,
    upstream::{Event, ResponseIn},
};
use crate::error::ProxyError;

/// Collects a body, up to a limit.
#[derive(Debug)]
pub(crate) struct BodyCopy {
    frames: RefCell<Vec<Frame>>,
    bytes: Cell<usize>,
    limit: usize,
    state: Cell<CopyState>,
    /// Told once, when it is known whether there is a whole copy.
    done: RefCell<Option<Done>>,
}

struct Done(Box<dyn FnOnce(Option<Body>)>);

impl std::fmt::Debug for Done {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Done")
    }
}

/// ```text
/// Growing ─ end ──► Whole
///    └─ too large ► TooLarge
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum CopyState {
    /// The end is not here yet.
    Growing,
    /// All of it is here.
    Whole,
    /// It is larger than the limit.
    TooLarge,
}

impl BodyCopy {
    /// An empty copy that takes up to `limit` bytes.
    pub(crate) fn new(limit: usize) -> Self {
        Self {
            frames: RefCell::default(),
            bytes: Cell::new(0),
            limit,
            state: Cell::new(CopyState::Growing),
            done: RefCell::default(),
        }
    }

    /// As [`Self::new`]; `done` gets the copy once it is whole, or nothing where it becomes too large. It is not told of bodies that
    /// break off.
    pub(crate) fn with(limit: usize, done: impl FnOnce(Option<Body>) + 'static) -> Self {
        let copy = Self::new(limit);
        copy.done.replace(Some(Done(Box::new(done))));
        copy
    }

    /// How far it is.
    pub(crate) fn state(&self) -> CopyState {
        self.state.get()
    }

    /// Another body of the same frames, where all of them are here.
    pub(crate) fn body(&self) -> Option<Body> {
        (self.state.get() == CopyState::Whole).then(|| Body::of_frames(self.frames.borrow().clone()))
    }

    pub(super) fn push(&self, frame: &Frame) {
        if self.state.get() != CopyState::Growing {
            return;
        }
        if let Frame::Data { data, .. } = frame {
            self.bytes.set(self.bytes.get() + data.len());
        }
        if self.bytes.get() > self.limit {
            self.state.set(CopyState::TooLarge);
            self.frames.take();
        } else {
            self.frames.borrow_mut().push(frame.clone());
            if matches!(frame, Frame::Data { last: false, .. }) {
                return;
            }
            self.state.set(CopyState::Whole);
        }
        if let Some(Done(done)) = self.done.take() {
            done(self.body());
        }
    }
}

/// Sends a request whose answer nobody reads: it is taken to its end, so that the server is not cancelled, and thrown away.
pub(crate) async fn send_copy(request: Request, upstream: Upstream, cx: &Context) -> Result<(), ProxyError> {
    let Request { head, mut body } = request;
    let mut opened = upstream.open(*head, body.is_empty(), cx.addr)?;
    let observation = Observation::start(Rc::new(Nobody));
    let upload = async {
        if body.is_empty() {
            return opened.out.no_body().await;
        }
        // A server that does not read all of it says why in its answer.
        drop(pump(Way::Request, &mut body, &mut opened.out, cx.header_limit, &observation).await);
        Ok(())
    };
    let (uploaded, answered) = tokio::join!(upload, discard(&mut opened.response));
    uploaded.and(answered).map_err(|gone| gone.server_error(cx.addr))?;
    opened.settle();
    Ok(())
}

async fn discard(response: &mut ResponseIn) -> Result<(), super::gone::Gone> {
    let mut body = loop {
        if let Event::Final(_, body) = response.next().await? {
            break Body::once(body);
        }
    };
    while !body.is_empty() {
        match poll_fn(|cx| body.poll_frame(cx)).await? {
            Frame::Data { data, last: false } => body.release(data.len()),
            Frame::Data { last: true, .. } | Frame::Trailers(..) | Frame::End => break,
        }
    }
    Ok(())
}

/// Is told nothing.
struct Nobody;

impl Sink for Nobody {
    fn end(&self, _outcome: &Outcome) {}
}
