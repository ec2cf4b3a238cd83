//! Messages of one direction, from bytes in any pieces.

use std::collections::VecDeque;

use memchr::memchr;

use super::{
    Fields, Head, Rule, Start, Violation,
    chunked::{Chunks, Step},
    framing::{Framing, framing},
    survey::Survey,
    violation::Rules,
};

/// Largest head, and largest trailers, that are read. Servers refuse more than 8 to 16 KiB unless told otherwise.
pub const MAX_HEAD: usize = 64 * 1024;
/// Requests that may wait for their answers.
pub const MAX_WAITING: usize = 1024;
/// What is kept of a buffer that a large head needed.
const KEPT_CAPACITY: usize = 4 * 1024;

/// What a response answers, as far as its length depends on it (RFC 9112, 6.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answering {
    /// HEAD: no body follows.
    Head,
    /// CONNECT: a tunnel follows.
    Connect,
    /// Anything else.
    Other,
}

impl Answering {
    /// By the request's method.
    pub fn method(method: &[u8]) -> Self {
        match method {
            b"HEAD" => Self::Head,
            b"CONNECT" => Self::Connect,
            _ => Self::Other,
        }
    }
}

/// Sees what a direction says, in its order.
pub trait Visitor {
    /// A whole head: of a request, of a final or of an interim response.
    fn head(&mut self, _head: &Head<'_>) {}
    /// A chunk of this many bytes begins.
    fn chunk(&mut self, _size: u64) {}
    /// Bytes of a body, its coding taken off.
    fn body(&mut self, _bytes: &[u8]) {}
    /// Trailers, and their bytes as sent.
    fn trailers(&mut self, _fields: Fields<'_>, _raw: &[u8]) {}
    /// A message is complete. An interim response is, too.
    fn end(&mut self) {}
    /// A CONNECT was refused, so its connection goes on with HTTP.
    fn refused(&mut self) {}
    /// Bytes after an upgrade or CONNECT.
    fn tunnel(&mut self, _bytes: &[u8]) {}
    /// A broken rule. After one that is fatal nothing more is reported.
    fn violation(&mut self, _violation: Violation) {}
}

///```text
///          ┌──────────────────────────────────────────────┐
///          ▼                                              │
/// Idle ► Head ─► Length, Chunks ─► Trailers ─► (end) ─────┘
///          ├───► UntilClose, Tunnel                          and stays there
///          └───► Lost                                        after a fatal violation
///```
#[derive(Clone, Debug)]
enum State {
    /// Between messages: whether an empty line has been told.
    Idle {
        is_told: bool,
    },
    /// Collecting; whether the line so far is blank.
    Head {
        is_blank: bool,
    },
    Length(u64),
    Chunks(Chunks),
    /// Collecting; whether the line so far is blank.
    Trailers {
        is_blank: bool,
    },
    UntilClose,
    Tunnel,
    Lost,
}

/// Messages of one direction.
#[derive(Clone, Debug)]
pub struct Scanner {
    is_responses: bool,
    state: State,
    /// The head or the trailers so far.
    buffer: Vec<u8>,
    /// What the next responses answer.
    waiting: VecDeque<Answering>,
    offset: u64,
    /// Where the message begins.
    began: u64,
    messages: u64,
}

impl Scanner {
    /// What a client sends.
    pub fn requests() -> Self {
        Self {
            is_responses: false,
            state: State::Idle { is_told: false },
            buffer: Vec::new(),
            waiting: VecDeque::new(),
            offset: 0,
            began: 0,
            messages: 0,
        }
    }

    /// What a server sends; [`Scanner::expect`] tells of each request.
    pub fn responses() -> Self {
        Self {
            is_responses: true,
            ..Self::requests()
        }
    }

    /// A request was sent, whose response will come after those of the requests before it. False where too many wait already.
    pub fn expect(&mut self, answering: Answering) -> bool {
        let has_room = self.waiting.len() < MAX_WAITING;
        if has_room {
            self.waiting.push_back(answering);
        }
        has_room
    }

    /// Requests that have no final response yet.
    pub fn waiting(&self) -> usize {
        self.waiting.len()
    }

    /// The other side agreed to another protocol: what follows the current message is none of HTTP's.
    pub fn switch(&mut self) {
        self.state = State::Tunnel;
    }

    /// The other side refused a CONNECT: what follows is HTTP again.
    pub fn resume(&mut self) {
        if matches!(self.state, State::Tunnel) {
            self.state = State::Idle { is_told: false };
        }
    }

    /// Whether nothing more will be reported.
    pub fn is_lost(&self) -> bool {
        matches!(self.state, State::Lost)
    }

    /// Whether the bytes so far end between two messages, or where a body without a length may end.
    pub fn may_end(&self) -> bool {
        matches!(self.state, State::Idle { .. } | State::UntilClose | State::Tunnel)
    }

    /// Whole messages so far.
    pub fn messages(&self) -> u64 {
        self.messages
    }

    /// Bytes so far.
    pub fn offset(&self) -> u64 {
        self.offset
    }

    /// Bytes of memory, beside itself.
    pub fn memory(&self) -> usize {
        self.buffer.capacity() + self.waiting.capacity()
    }

    /// Takes the next bytes of the direction.
    pub fn feed(&mut self, mut bytes: &[u8], visitor: &mut impl Visitor) {
        while !bytes.is_empty() {
            let rest = self.step(bytes, visitor);
            self.offset += (bytes.len() - rest.len()) as u64;
            bytes = rest;
        }
    }

    /// The connection is at its end: a body without a length is complete.
    pub fn close(&mut self, visitor: &mut impl Visitor) {
        if matches!(self.state, State::UntilClose) {
            self.end(visitor);
        }
    }

    fn step<'a>(&mut self, bytes: &'a [u8], visitor: &mut impl Visitor) -> &'a [u8] {
        match &mut self.state {
            State::Idle { is_told } => {
                if !matches!(bytes[0], b'\r' | b'\n') {
                    self.began = self.offset;
                    self.state = State::Head { is_blank: false };
                    return bytes;
                }
                if !std::mem::replace(is_told, true) {
                    visitor.violation(Violation {
                        rule: Rule::EmptyLine,
                        offset: self.offset,
                    });
                }
                &bytes[1..]
            }
            State::Head { is_blank } => {
                let end = end_of_lines(bytes, is_blank);
                self.collect((bytes, end), Rule::HeadTooLarge, visitor, Self::head)
            }
            State::Trailers { is_blank } => {
                let end = end_of_lines(bytes, is_blank);
                self.collect((bytes, end), Rule::TrailersTooLarge, visitor, Self::trailers)
            }
            State::Length(left) => {
                let (now, rest) = bytes.split_at(usize::try_from(*left).unwrap_or(usize::MAX).min(bytes.len()));
                *left -= now.len() as u64;
                let is_end = *left == 0;
                visitor.body(now);
                if is_end {
                    self.end(visitor);
                }
                rest
            }
            State::Chunks(_) => self.chunks(bytes, visitor),
            State::UntilClose => {
                visitor.body(bytes);
                &[]
            }
            State::Tunnel => {
                visitor.tunnel(bytes);
                &[]
            }
            State::Lost => &[],
        }
    }

    fn chunks<'a>(&mut self, bytes: &'a [u8], visitor: &mut impl Visitor) -> &'a [u8] {
        let State::Chunks(chunks) = &mut self.state else {
            return bytes;
        };
        let offset = self.began;
        match chunks.step(bytes, |rule| visitor.violation(Violation { rule, offset })) {
            Ok((step, rest)) => {
                match step {
                    Step::Coding => {}
                    Step::Chunk(size) => visitor.chunk(size),
                    Step::Data(data) => visitor.body(data),
                    Step::Last => self.state = State::Trailers { is_blank: true },
                }
                rest
            }
            Err(rule) => {
                self.broken(rule, visitor);
                &[]
            }
        }
    }

    /// Collects lines up to `end`, and hands them on where they are whole: where they lie, if they lie in one piece.
    fn collect<'a, V: Visitor>(
        &mut self,
        (bytes, end): (&'a [u8], Option<usize>),
        too_large: Rule,
        visitor: &mut V,
        whole: impl FnOnce(&mut Self, &[u8], &mut V),
    ) -> &'a [u8] {
        let (now, rest) = bytes.split_at(end.unwrap_or(bytes.len()));
        if self.buffer.len() + now.len() > MAX_HEAD {
            self.broken(too_large, visitor);
            return &[];
        }
        if end.is_none() || !self.buffer.is_empty() {
            self.buffer.extend_from_slice(now);
        }
        if end.is_some() {
            let mut buffer = std::mem::take(&mut self.buffer);
            whole(self, if buffer.is_empty() { now } else { &buffer }, visitor);
            buffer.clear();
            buffer.shrink_to(KEPT_CAPACITY);
            self.buffer = buffer;
        }
        rest
    }

    /// Reports a rule, and gives up where it is fatal.
    fn broken(&mut self, rule: Rule, visitor: &mut impl Visitor) {
        visitor.violation(Violation {
            rule,
            offset: self.began,
        });
        if rule.is_fatal() {
            self.state = State::Lost;
            self.buffer = Vec::new();
        }
    }

    fn report(&self, rules: Rules, visitor: &mut impl Visitor) {
        rules.iter().for_each(|rule| {
            visitor.violation(Violation {
                rule,
                offset: self.began,
            })
        });
    }

    fn head(&mut self, raw: &[u8], visitor: &mut impl Visitor) {
        let parse = if self.is_responses {
            Head::response
        } else {
            Head::request
        };
        let head = match parse(raw, self.began) {
            Ok(head) => head,
            Err(rule) => return self.broken(rule, visitor),
        };
        let mut survey = Survey::of(&head);
        let answering = self.answering(&head, &mut survey.rules);
        let framing = framing(head.start, answering, &mut survey);
        self.report(survey.rules, visitor);
        visitor.head(&head);
        if let (Answering::Connect, Start::Response { status: 300.., .. }) = (answering, head.start) {
            visitor.refused();
        }
        self.state = match framing {
            _ if survey.rules.iter().any(Rule::is_fatal) => State::Lost,
            Framing::None | Framing::Length(0) => return self.end(visitor),
            Framing::Length(length) => State::Length(length),
            Framing::Chunked => State::Chunks(Chunks::new()),
            Framing::UntilClose => State::UntilClose,
            Framing::Tunnel => {
                self.end(visitor);
                State::Tunnel
            }
        };
    }

    /// What a response answers. Interim ones leave their request waiting.
    fn answering(&mut self, head: &Head<'_>, rules: &mut Rules) -> Answering {
        let Start::Response { status, .. } = head.start else {
            return Answering::Other;
        };
        let answering = match status {
            100..=199 if status != 101 => self.waiting.front().copied(),
            _ => self.waiting.pop_front(),
        };
        answering.unwrap_or_else(|| {
            rules.add(Rule::ResponseUnasked);
            Answering::Other
        })
    }

    fn trailers(&mut self, raw: &[u8], visitor: &mut impl Visitor) {
        self.report(Survey::of_trailers(raw), visitor);
        // The empty line alone is no trailers.
        if raw.iter().any(|byte| !matches!(byte, b'\r' | b'\n')) {
            visitor.trailers(Fields::new(raw), raw);
        }
        self.end(visitor);
    }

    fn end(&mut self, visitor: &mut impl Visitor) {
        self.messages += 1;
        self.state = State::Idle { is_told: false };
        visitor.end();
    }
}

/// Where the empty line ends that closes a head. `is_blank` is whether the line so far has nothing but CR.
fn end_of_lines(bytes: &[u8], is_blank: &mut bool) -> Option<usize> {
    let mut begin = 0;
    while let Some(length) = memchr(b'\n', &bytes[begin..]) {
        let line = &bytes[begin..begin + length];
        begin += length + 1;
        if *is_blank && line.iter().all(|byte| *byte == b'\r') {
            return Some(begin);
        }
        *is_blank = true;
    }
    *is_blank &= bytes[begin..].iter().all(|byte| *byte == b'\r');
    None
}
