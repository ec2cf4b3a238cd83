//! Both directions of a connection: responses by the requests that they answer, and what becomes of it after an upgrade.

use super::{Answering, Fields, Head, Rule, Scanner, Start, Violation, Visitor};
use crate::h2::Sender;

/// Sees what a connection says, each direction in its order: as [`Visitor`] does.
pub trait Events {
    /// See [`Visitor::head`].
    fn head(&mut self, _sender: Sender, _head: &Head<'_>) {}
    /// See [`Visitor::chunk`].
    fn chunk(&mut self, _sender: Sender, _size: u64) {}
    /// See [`Visitor::body`].
    fn body(&mut self, _sender: Sender, _bytes: &[u8]) {}
    /// See [`Visitor::trailers`].
    fn trailers(&mut self, _sender: Sender, _fields: Fields<'_>, _raw: &[u8]) {}
    /// See [`Visitor::end`].
    fn end(&mut self, _sender: Sender) {}
    /// See [`Visitor::tunnel`].
    fn tunnel(&mut self, _sender: Sender, _bytes: &[u8]) {}
    /// See [`Visitor::violation`].
    fn violation(&mut self, _sender: Sender, _violation: Violation) {}
}

/// Both directions of a connection. Bytes have to be given in the order in which an endpoint read and wrote them.
#[derive(Clone, Debug)]
pub struct Connection {
    requests: Scanner,
    responses: Scanner,
}

impl Default for Connection {
    fn default() -> Self {
        Self::new()
    }
}

impl Connection {
    /// From the first byte of either direction.
    pub fn new() -> Self {
        Self {
            requests: Scanner::requests(),
            responses: Scanner::responses(),
        }
    }

    /// Takes the next bytes that `sender` wrote.
    pub fn feed(&mut self, sender: Sender, bytes: &[u8], events: &mut impl Events) {
        let mut follow = Follow {
            sender,
            events,
            peer: None,
            after: After::Http,
        };
        match sender {
            Sender::Client => {
                follow.peer = Some(&mut self.responses);
                self.requests.feed(bytes, &mut follow);
            }
            Sender::Server => {
                self.responses.feed(bytes, &mut follow);
                match follow.after {
                    After::Http => {}
                    After::Switched => self.requests.switch(),
                    After::Refused => self.requests.resume(),
                }
            }
        }
    }

    /// A side will send nothing more.
    pub fn close(&mut self, sender: Sender, events: &mut impl Events) {
        let mut follow = Follow {
            sender,
            events,
            peer: None,
            after: After::Http,
        };
        match sender {
            Sender::Client => self.requests.close(&mut follow),
            Sender::Server => self.responses.close(&mut follow),
        }
    }

    /// One direction.
    pub fn scanner(&self, sender: Sender) -> &Scanner {
        match sender {
            Sender::Client => &self.requests,
            Sender::Server => &self.responses,
        }
    }

    /// Bytes of memory, beside itself.
    pub fn memory(&self) -> usize {
        self.requests.memory() + self.responses.memory()
    }
}

struct Follow<'a, E> {
    sender: Sender,
    events: &'a mut E,
    /// Where a request announces itself.
    peer: Option<&'a mut Scanner>,
    /// What the server's answer means for what the client sends.
    after: After,
}

#[derive(Clone, Copy)]
enum After {
    Http,
    /// The server agreed to another protocol.
    Switched,
    /// It refused a CONNECT.
    Refused,
}

impl<E: Events> Visitor for Follow<'_, E> {
    fn head(&mut self, head: &Head<'_>) {
        match head.start {
            Start::Request { method, .. } => {
                let has_room = self
                    .peer
                    .as_mut()
                    .is_none_or(|peer| peer.expect(Answering::method(method)));
                if !has_room {
                    let violation = Violation {
                        rule: Rule::TooManyWaiting,
                        offset: head.offset,
                    };
                    self.events.violation(self.sender, violation);
                }
            }
            Start::Response { status: 101, .. } => self.after = After::Switched,
            Start::Response { .. } => {}
        }
        self.events.head(self.sender, head);
    }

    fn chunk(&mut self, size: u64) {
        self.events.chunk(self.sender, size);
    }

    fn body(&mut self, bytes: &[u8]) {
        self.events.body(self.sender, bytes);
    }

    fn trailers(&mut self, fields: Fields<'_>, raw: &[u8]) {
        self.events.trailers(self.sender, fields, raw);
    }

    fn end(&mut self) {
        self.events.end(self.sender);
    }

    fn refused(&mut self) {
        self.after = After::Refused;
    }

    fn tunnel(&mut self, bytes: &[u8]) {
        self.events.tunnel(self.sender, bytes);
    }

    fn violation(&mut self, violation: Violation) {
        self.events.violation(self.sender, violation);
    }
}
