//! One direction of a relay.
//!
//! Bytes are read into memory that the thread's relays share, and written from there at once; only what the receiver does not take
//! is kept. So an idle direction holds nothing, and a blocked one holds at most one read. Where reads fill what they are given, more
//! is asked for; a direction that stays hot between two plain sockets is left to the kernel.
//!
//! ```text
//! Open ──end of the sender──► Closing ──receiver told──► Closed
//! ```

use std::{
    cell::{Cell, RefCell},
    io,
    mem::MaybeUninit,
    pin::Pin,
    sync::OnceLock,
    task::{Context, Poll, ready},
};

use bytes::{Buf, Bytes};
use tokio::{
    io::{AsyncWrite, Interest, ReadBuf},
    net::TcpStream,
};

use super::{
    Duplex, Moved, Side,
    handshake::{Follower, Handshake},
    hello::Looker,
};
use crate::sys::Pipe;

/// What a fresh direction reads at once.
const SMALL: usize = 4 * 1024;
/// What a hot one reads at once. 256 KiB is about what two hosts of a data centre keep in flight.
const LARGE: usize = 256 * 1024;
/// Reads that fill this much make a direction hot enough for `splice`, whose set-up a short exchange would not earn back.
const HOT: usize = 16 * 1024;
/// After this many small moves in a row a direction is not hot any more.
const CALM_MOVES: u8 = 16;
/// Empty pipes that a thread keeps for the next hot direction.
const SPARE_PIPES: usize = 8;

thread_local! {
    /// Where every relay of this thread reads to. Never held over a poll, so one is enough.
    static SPACE: RefCell<Box<[MaybeUninit<u8>]>> = RefCell::new(Box::new_uninit_slice(LARGE));
    /// Empty pipes.
    static PIPES: Cell<Vec<Pipe>> = const { Cell::new(Vec::new()) };
}

/// Which side of a direction failed, and how.
#[derive(Debug)]
pub(super) enum Failure {
    Sender(io::Error),
    Receiver(io::Error),
}

/// Where a direction stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    /// The sender may still speak.
    Open,
    /// The sender has ended; the receiver has to be told once it took everything.
    Closing,
    /// The receiver was told.
    Closed,
}

/// What a direction runs between.
pub(super) struct Ends<'a, A, B> {
    pub(super) from: &'a mut A,
    pub(super) to: &'a mut B,
    pub(super) counter: &'a Moved,
    /// Who looks at what a client says first, and where that is noted.
    pub(super) look: Option<(&'a mut Looker, &'a OnceLock<Box<str>>)>,
    /// Who follows the handshake of TLS, whose words these are, and where that is noted.
    pub(super) follow: (&'a mut Follower, Side, &'a Handshake),
}

impl<A, B> Ends<'_, A, B> {
    fn look(&mut self, bytes: &[u8]) {
        if let Some((looker, hello)) = &mut self.look {
            looker.look(bytes, hello);
        }
        let (follower, from, seen) = &mut self.follow;
        follower.follow(bytes, *from, seen);
    }

    /// Bytes pass that nobody sees.
    fn miss(&mut self) {
        if let Some((looker, _)) = &mut self.look {
            looker.miss();
        }
        self.follow.0.miss();
    }
}

/// State of one direction.
#[derive(Debug)]
pub(super) struct Half {
    pub(super) phase: Phase,
    /// Bytes that the receiver took.
    pub(super) moved: u64,
    /// Bytes that it has yet to take.
    held: Bytes,
    /// How much to read at once.
    window: usize,
    /// Whether the kernel may move bytes.
    may_splice: bool,
    /// Small moves in a row.
    calm: u8,
    /// Something was written and not flushed.
    unflushed: bool,
    /// Holds bytes only while the receiver is not ready.
    pipe: Option<Pipe>,
    /// The sender is known to be cut off, although it may not look so: its end is no orderly one.
    pub(super) cut_off: bool,
}

impl Half {
    /// A direction with bytes that were read already.
    pub(super) fn new(prefix: Bytes, may_splice: bool) -> Self {
        Self {
            phase: Phase::Open,
            moved: 0,
            held: prefix,
            window: SMALL,
            may_splice,
            calm: 0,
            unflushed: false,
            pipe: None,
            cut_off: false,
        }
    }

    /// What was read already.
    pub(super) fn prefix(&self) -> &[u8] {
        &self.held
    }

    /// Moves bytes until the sender has ended and the receiver was told.
    pub(super) fn poll<A: Duplex, B: Duplex>(
        &mut self,
        ends: &mut Ends<'_, A, B>,
        cx: &mut Context<'_>,
    ) -> Poll<Result<(), Failure>> {
        loop {
            ready!(self.poll_send(ends, cx)).map_err(Failure::Receiver)?;
            match self.phase {
                Phase::Closed => return Poll::Ready(Ok(())),
                Phase::Closing => {
                    ready!(poll_close(ends.to, cx)).map_err(Failure::Receiver)?;
                    self.phase = Phase::Closed;
                }
                Phase::Open => match self.poll_receive(ends, cx) {
                    Poll::Ready(received) => {
                        if received? == 0 {
                            self.rest();
                            if self.cut_off {
                                return Poll::Ready(Err(Failure::Sender(io::ErrorKind::ConnectionReset.into())));
                            }
                            self.phase = Phase::Closing;
                        }
                    }
                    Poll::Pending => {
                        self.rest();
                        ready!(self.poll_flush(ends.to, cx)).map_err(Failure::Receiver)?;
                        return Poll::Pending;
                    }
                },
            }
        }
    }

    /// Writes what is held, in memory or in the pipe, to the last byte.
    fn poll_send<A, B: Duplex>(&mut self, ends: &mut Ends<'_, A, B>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.held.is_empty() {
            let written = nonzero(ready!(Pin::new(&mut *ends.to).poll_write(cx, &self.held))?)?;
            self.held.advance(written);
            self.note(written, ends.counter);
        }
        self.held = Bytes::new(); // gives the memory back
        while let (Some(pipe), Some(socket)) = (&mut self.pipe, ends.to.socket()) {
            if pipe.held() == 0 {
                break;
            }
            ready!(socket.poll_write_ready(cx))?;
            match socket.try_io(Interest::WRITABLE, || pipe.drain(socket)) {
                Ok(moved) => {
                    let moved = nonzero(moved)?;
                    self.note(moved, ends.counter);
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Poll::Ready(Err(error)),
            }
        }
        Poll::Ready(Ok(()))
    }

    /// Takes bytes from the sender once, and passes on as much of them as the receiver takes at once. Gives how many were taken.
    fn poll_receive<A: Duplex, B: Duplex>(
        &mut self,
        ends: &mut Ends<'_, A, B>,
        cx: &mut Context<'_>,
    ) -> Poll<Result<usize, Failure>> {
        if self.may_splice
            && self.window > HOT
            && let Some(socket) = ends.from.socket()
            && let Some(pipe) = ready!(self.poll_pipe(socket, cx)).map_err(Failure::Sender)?
        {
            let moved = ready!(poll_fill(pipe, socket, cx));
            // Whatever began there is longer than any ClientHello.
            ends.miss();
            match moved {
                Ok(moved) => {
                    self.calm = if moved < SMALL { self.calm + 1 } else { 0 };
                    if self.calm == CALM_MOVES {
                        self.window = SMALL;
                        self.calm = 0;
                    }
                    return Poll::Ready(Ok(moved));
                }
                // A sandbox or a kind of socket that cannot: copy from here on.
                Err(error) if matches!(error.raw_os_error(), Some(libc::EINVAL | libc::ENOSYS | libc::EPERM)) => {
                    self.may_splice = false;
                    self.pipe = None;
                }
                Err(error) => return Poll::Ready(Err(Failure::Sender(error))),
            }
        }
        SPACE.with_borrow_mut(|space| self.poll_copy(ends, &mut space[..self.window], cx))
    }

    /// Reads into `space` and writes from it; keeps what the receiver does not take.
    fn poll_copy<A: Duplex, B: Duplex>(
        &mut self,
        ends: &mut Ends<'_, A, B>,
        space: &mut [MaybeUninit<u8>],
        cx: &mut Context<'_>,
    ) -> Poll<Result<usize, Failure>> {
        let mut space = ReadBuf::uninit(space);
        ready!(Pin::new(&mut *ends.from).poll_read(cx, &mut space)).map_err(Failure::Sender)?;
        let received = space.filled().len();
        if received == self.window {
            self.window = (self.window * 4).min(LARGE);
        } else if received < self.window / 8 {
            self.window = (self.window / 4).max(SMALL);
        }
        if received > 0 {
            ends.look(space.filled());
            let written = match Pin::new(&mut *ends.to).poll_write(cx, space.filled()) {
                Poll::Ready(written) => written.and_then(nonzero).map_err(Failure::Receiver)?,
                Poll::Pending => 0,
            };
            self.held = Bytes::copy_from_slice(&space.filled()[written..]);
            self.note(written, ends.counter);
        }
        Poll::Ready(Ok(received))
    }

    /// The pipe, once there is something to put into it; `None` where none can be had.
    fn poll_pipe(&mut self, from: &TcpStream, cx: &mut Context<'_>) -> Poll<io::Result<Option<&mut Pipe>>> {
        if self.pipe.is_none() {
            ready!(from.poll_read_ready(cx))?;
            self.pipe = take_pipe();
            self.may_splice = self.pipe.is_some();
        }
        Poll::Ready(Ok(self.pipe.as_mut()))
    }

    fn poll_flush<B: AsyncWrite + Unpin>(&mut self, to: &mut B, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.unflushed {
            ready!(Pin::new(to).poll_flush(cx))?;
            self.unflushed = false;
        }
        Poll::Ready(Ok(()))
    }

    /// The sender has nothing to say: an empty pipe is of use to others.
    fn rest(&mut self) {
        if let Some(pipe) = self.pipe.take_if(|pipe| pipe.held() == 0) {
            let mut pipes = PIPES.take();
            if pipes.len() < SPARE_PIPES {
                pipes.push(pipe);
            }
            PIPES.set(pipes);
        }
    }

    fn note(&mut self, sent: usize, counter: &Moved) {
        if sent > 0 {
            self.moved += sent as u64;
            self.unflushed = true;
            counter.add(sent);
        }
    }
}

/// A spare pipe or a new one; `None` where the process has no descriptors left.
fn take_pipe() -> Option<Pipe> {
    let mut pipes = PIPES.take();
    let spare = pipes.pop();
    PIPES.set(pipes);
    spare.or_else(|| Pipe::new(LARGE).ok())
}

/// Lets the kernel take bytes from the socket.
fn poll_fill(pipe: &mut Pipe, from: &TcpStream, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
    loop {
        ready!(from.poll_read_ready(cx))?;
        match from.try_io(Interest::READABLE, || pipe.fill(from)) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            moved => return Poll::Ready(moved),
        }
    }
}

/// Tells the receiver that nothing more comes.
fn poll_close<B: AsyncWrite + Unpin>(to: &mut B, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
    match ready!(Pin::new(to).poll_shutdown(cx)) {
        // It is gone altogether: nobody is left to be told.
        Err(error) if error.kind() == io::ErrorKind::NotConnected => Poll::Ready(Ok(())),
        told => Poll::Ready(told),
    }
}

fn nonzero(written: usize) -> io::Result<usize> {
    if written == 0 {
        Err(io::ErrorKind::WriteZero.into())
    } else {
        Ok(written)
    }
}

#[cfg(test)]
impl Half {
    pub(super) fn holds_nothing(&self) -> bool {
        self.held.is_empty() && self.pipe.is_none()
    }
}

/// Pipes that wait for the next hot direction of this thread.
#[cfg(test)]
pub(super) fn spare_pipes() -> usize {
    let pipes = PIPES.take();
    let spare = pipes.len();
    PIPES.set(pipes);
    spare
}
