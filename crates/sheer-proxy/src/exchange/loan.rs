//! The halves of an HTTP/1 connection, lent to one exchange after the other.

use std::{
    cell::{Cell, RefCell},
    io,
    ops::{Deref, DerefMut},
    pin::Pin,
    rc::Rc,
    task::{Context, Poll},
    time::Duration,
};

use bytes::BytesMut;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::{
    detect::Rewind,
    http1,
    io::Io,
    record::{Leg, Tape},
    sys,
};

/// How often a connection is asked whether it still lives, where reading cannot tell.
const LOOK_INTERVAL: Duration = Duration::from_secs(2);

/// The reading half of an HTTP/1 connection.
pub(crate) type Reader = http1::Reader<Shared>;
/// The writing half of an HTTP/1 connection.
pub(crate) type Writer = http1::Writer<Shared>;

/// A connection that its two halves share. Never borrowed beyond a poll.
#[derive(Debug)]
pub(crate) struct Shared(Rc<RefCell<Io>>);

impl Shared {
    /// What records the connection.
    pub(crate) fn tape(&self) -> Tape {
        self.0.borrow().io().tape()
    }

    /// The request that is under way on the connection, as the recorder counts it.
    pub(crate) fn leg(&self) -> Leg {
        let tape = self.tape();
        let number = tape.requests();
        tape.leg(number)
    }

    /// Returns once the connection is dead. A socket whose peer has half-closed says that only to who asks the kernel: reading it gives
    /// the same end as before.
    pub(crate) async fn died(&self) {
        let is_dead = || sys::tcp_info(self.0.borrow().io().tcp()).map_or(true, |info| info.dead);
        while !is_dead() {
            tokio::time::sleep(LOOK_INTERVAL).await;
        }
    }
}

impl AsyncRead for Shared {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut *self.0.borrow_mut()).poll_read(cx, buf)
    }
}

impl AsyncWrite for Shared {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, data: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut *self.0.borrow_mut()).poll_write(cx, data)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        data: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut *self.0.borrow_mut()).poll_write_vectored(cx, data)
    }

    fn is_write_vectored(&self) -> bool {
        self.0.borrow().is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut *self.0.borrow_mut()).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut *self.0.borrow_mut()).poll_shutdown(cx)
    }
}

/// Where the halves of a connection are while nobody uses them.
#[derive(Default)]
pub(crate) struct Home {
    reader: Cell<Option<Reader>>,
    writer: Cell<Option<Writer>>,
}

impl std::fmt::Debug for Home {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Home")
    }
}

/// A half that goes home when dropped.
#[derive(Debug)]
pub(crate) struct Loan<T: Half> {
    half: Option<T>,
    home: Rc<Home>,
}

/// A half of a connection.
pub(crate) trait Half: Sized {
    fn place(home: &Home) -> &Cell<Option<Self>>;
}

impl Half for Reader {
    fn place(home: &Home) -> &Cell<Option<Self>> {
        &home.reader
    }
}

impl Half for Writer {
    fn place(home: &Home) -> &Cell<Option<Self>> {
        &home.writer
    }
}

impl Home {
    /// A home with both halves of a connection in it.
    pub(crate) fn of(io: Io, limits: http1::Limits) -> Rc<Self> {
        let shared = Rc::new(RefCell::new(io));
        Rc::new(Self {
            reader: Cell::new(Some(Reader::new(Shared(Rc::clone(&shared)), limits))),
            writer: Cell::new(Some(Writer::new(Shared(shared)))),
        })
    }

    /// Lends a half; `None` while it is lent, or was taken.
    pub(crate) fn lend<T: Half>(self: &Rc<Self>) -> Option<Loan<T>> {
        T::place(self).take().map(|half| Loan {
            half: Some(half),
            home: Rc::clone(self),
        })
    }
}

impl<T: Half> Loan<T> {
    /// Keeps the half: it does not go home.
    fn take(mut self) -> T {
        self.half.take().expect("a loan holds its half until it is dropped")
    }
}

/// The whole connection again, with the bytes that were read beyond the last message.
pub(crate) fn whole(reader: Loan<Reader>, writer: Loan<Writer>) -> Rewind<Io> {
    let (Shared(shared), rest): (_, BytesMut) = reader.take().into_parts();
    drop(writer.take());
    let io = Rc::try_unwrap(shared).expect("the halves of one connection, and there are only two");
    Rewind::new(io.into_inner(), rest)
}

impl<T: Half> Deref for Loan<T> {
    type Target = T;

    fn deref(&self) -> &T {
        self.half.as_ref().expect("a loan holds its half until it is dropped")
    }
}

impl<T: Half> DerefMut for Loan<T> {
    fn deref_mut(&mut self) -> &mut T {
        self.half.as_mut().expect("a loan holds its half until it is dropped")
    }
}

impl<T: Half> Drop for Loan<T> {
    fn drop(&mut self) {
        if let Some(half) = self.half.take() {
            T::place(&self.home).set(Some(half));
        }
    }
}
