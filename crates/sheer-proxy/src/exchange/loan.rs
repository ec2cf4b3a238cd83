//! The halves of an HTTP/1 connection, lent to one exchange after the other.

use std::{
    cell::Cell,
    ops::{Deref, DerefMut},
    rc::Rc,
};

use bytes::BytesMut;
use tokio::io::{ReadHalf, WriteHalf};

use crate::{detect::Rewind, http1, io::Io};

/// The reading half of an HTTP/1 connection.
pub(crate) type Reader = http1::Reader<ReadHalf<Io>>;
/// The writing half of an HTTP/1 connection.
pub(crate) type Writer = http1::Writer<WriteHalf<Io>>;

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
        let (read, write) = tokio::io::split(io);
        Rc::new(Self {
            reader: Cell::new(Some(Reader::new(read, limits))),
            writer: Cell::new(Some(Writer::new(write))),
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
    let (read, rest): (_, BytesMut) = reader.take().into_parts();
    Rewind::new(read.unsplit(writer.take().into_inner()), rest)
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
