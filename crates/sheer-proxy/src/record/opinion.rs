//! The second opinion: what the library reported of a header block, or was given to write, against what the lens reads in the bytes.
//!
//! Bytes come first where they are read, and the library reports later or never (a stream that was reset, a request that it refused by itself). Where they
//! are written the library is given a list first. Whoever is first waits here for the other. What has no other is no evidence of anything, and is
//! forgotten with its stream.

use std::{ops::Range, rc::Rc};

use sheer_lens::hpack::{Digest, Digester, ListKind};

use super::heads::{Fields, See};

/// Lists that may wait. Beyond it, those that wait will not be compared: nobody knows any more which of a stream's lists comes next.
const WAITING: usize = 1_024;
/// Text of lists that may wait to be written.
const TEXT: usize = 256 * 1024;

/// A list that waits for the other opinion.
#[derive(Clone, Debug)]
pub(super) struct Waiting {
    stream: u32,
    kind: ListKind,
    /// None where the lens cannot decode it.
    pub(super) digest: Option<Digest>,
    /// Of its last frame on the connection.
    pub(super) number: u64,
    text: Text,
}

/// Names and values of a list, one after the other.
#[derive(Clone, Debug)]
enum Text {
    /// Within [`Opinion::text`].
    Own(Range<usize>),
    /// Of a list that is given again and again.
    Habit(Rc<[u8]>),
}

/// The list of its kind that was given last. One that comes twice in a row will come again: its text is kept, and not written down each time.
#[derive(Debug, Default)]
struct Habit {
    digest: Digest,
    text: Option<Rc<[u8]>>,
}

/// Lists of one direction that wait.
#[derive(Debug, Default)]
struct Queue {
    waiting: Vec<Waiting>,
    /// Streams up to this one are not compared any more.
    floor: u32,
}

impl Queue {
    fn push(&mut self, waiting: Waiting) {
        if waiting.stream <= self.floor {
            return;
        }
        if self.waiting.len() >= WAITING {
            self.floor = self
                .waiting
                .iter()
                .map(|one| one.stream)
                .max()
                .unwrap_or(0)
                .max(waiting.stream);
            self.waiting.clear();
            return;
        }
        self.waiting.push(waiting);
    }

    fn take(&mut self, stream: u32, kind: ListKind) -> Option<Waiting> {
        let fits = |one: &Waiting| one.stream == stream && (one.kind == kind || one.digest.is_none());
        let at = self.waiting.iter().position(fits)?;
        Some(self.waiting.remove(at))
    }

    fn forget(&mut self, stream: u32) {
        self.waiting.retain(|one| one.stream != stream);
    }
}

/// Both directions of a connection.
#[derive(Debug, Default)]
pub(super) struct Opinion {
    read: Queue,
    written: Queue,
    /// Lists that were given, for whoever has to see both.
    text: Vec<u8>,
    /// Of heads and of trailers.
    habits: [Habit; 2],
}

/// A list that the library was given, before its stream is known.
#[derive(Clone, Debug)]
pub(crate) struct Given {
    digest: Digest,
    text: Text,
}

/// Names and values.
pub(crate) type List = Vec<(Vec<u8>, Vec<u8>)>;

impl Opinion {
    /// The lens has read a block; `digest` is none where it could not.
    pub(super) fn block_read(&mut self, stream: u32, kind: ListKind, digest: Option<Digest>, number: u64) {
        self.read.push(Waiting {
            stream,
            kind,
            digest,
            number,
            text: Text::Own(0..0),
        });
    }

    /// The library has reported a list: what the lens made of the same block.
    pub(super) fn reported(&mut self, stream: u32, kind: ListKind) -> Option<Waiting> {
        self.read.take(stream, kind)
    }

    /// The library is given a list.
    #[inline]
    pub(super) fn give(&mut self, digester: &mut Digester, is_trailers: bool, list: &impl Fields) -> Given {
        let habit = &mut self.habits[usize::from(is_trailers)];
        digester.clear();
        if let Some(text) = &habit.text {
            list.each(digester);
            if digester.digest() == habit.digest {
                return Given {
                    digest: habit.digest,
                    text: Text::Habit(Rc::clone(text)),
                };
            }
            habit.text = None;
            digester.clear();
        }
        let begin = self.text.len();
        let keeps = begin < TEXT;
        list.each(&mut Noting {
            digester,
            text: keeps.then_some(&mut self.text),
        });
        let (digest, text) = (digester.digest(), begin..self.text.len());
        if habit.digest == digest && keeps {
            habit.text = Some(Rc::from(&self.text[text.clone()]));
        }
        habit.digest = digest;
        Given {
            digest,
            text: Text::Own(text),
        }
    }

    /// The library took the list, for this stream.
    pub(super) fn given(&mut self, stream: u32, given: Given) {
        let Given { digest, text } = given;
        self.written.push(Waiting {
            stream,
            kind: digest.kind(),
            digest: Some(digest),
            number: 0,
            text,
        });
        if self.written.waiting.is_empty() {
            self.text.clear();
        }
    }

    /// A block was written: what the library was given for it.
    pub(super) fn block_written(&mut self, stream: u32, kind: Option<ListKind>) -> Option<Waiting> {
        match kind {
            Some(kind) => self.written.take(stream, kind),
            // What cannot be decoded may be any of them: the first that waits.
            None => {
                let at = self.written.waiting.iter().position(|one| one.stream == stream)?;
                Some(self.written.waiting.remove(at))
            }
        }
    }

    /// The list that was given, where it was kept.
    pub(super) fn list(&self, waiting: &Waiting) -> Option<List> {
        let text = match &waiting.text {
            Text::Own(range) => self.text.get(range.clone())?,
            Text::Habit(text) => text,
        };
        let mut text = Some(text).filter(|text| !text.is_empty())?;
        let mut list = Vec::new();
        while let Some((lengths, rest)) = text.split_first_chunk::<8>() {
            let length = |at: usize| {
                lengths[at..]
                    .first_chunk()
                    .map_or(0, |bytes| u32::from_le_bytes(*bytes)) as usize
            };
            let (name, rest) = rest.split_at_checked(length(0))?;
            let (value, rest) = rest.split_at_checked(length(4))?;
            list.push((name.to_vec(), value.to_vec()));
            text = rest;
        }
        Some(list)
    }

    /// After a comparison of written lists: their text goes once nothing waits.
    pub(super) fn tidy(&mut self) {
        if self.written.waiting.is_empty() {
            self.text.clear();
        }
    }

    /// The stream was reset: what waits for it may never have another side.
    pub(super) fn forget(&mut self, stream: u32) {
        self.read.forget(stream);
        self.written.forget(stream);
        self.tidy();
    }

    pub(super) fn memory(&self) -> usize {
        let waiting = self.read.waiting.capacity() + self.written.waiting.capacity();
        let habits = self.habits.iter().flat_map(|habit| &habit.text).map(|text| text.len());
        waiting * size_of::<Waiting>() + self.text.capacity() + habits.sum::<usize>()
    }
}

/// Writes a list down while it is hashed.
struct Noting<'a> {
    digester: &'a mut Digester,
    text: Option<&'a mut Vec<u8>>,
}

impl See for Noting<'_> {
    #[inline]
    fn field(&mut self, name: &[u8], value: &[u8]) {
        self.digester.field(name, value);
        if let Some(text) = &mut self.text {
            write(text, name, value);
        }
    }
}

/// A list, to be shown.
pub(super) fn whole(list: &impl Fields) -> List {
    struct Whole(List);
    impl See for Whole {
        fn field(&mut self, name: &[u8], value: &[u8]) {
            self.0.push((name.to_vec(), value.to_vec()));
        }
    }
    let mut whole = Whole(List::new());
    list.each(&mut whole);
    whole.0
}

/// Appends a field: the lengths of name and value, then both.
#[inline]
fn write(text: &mut Vec<u8>, name: &[u8], value: &[u8]) {
    text.reserve(8 + name.len() + value.len());
    let lengths = u64::from(name.len() as u32) | u64::from(value.len() as u32) << 32;
    text.extend_from_slice(&lengths.to_le_bytes());
    text.extend_from_slice(name);
    text.extend_from_slice(value);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn digest(fields: &[(&str, &str)]) -> Digest {
        let mut digester = Digester::new();
        for (name, value) in fields {
            digester.field(name.as_bytes(), value.as_bytes());
        }
        digester.digest()
    }

    #[test]
    fn lists_of_a_stream_wait_in_order_and_by_kind() {
        let mut opinion = Opinion::default();
        let (interim, other) = (digest(&[(":status", "100")]), digest(&[(":status", "103")]));
        opinion.block_read(1, ListKind::Informational, Some(interim), 3);
        opinion.block_read(1, ListKind::Informational, Some(other), 4);
        opinion.block_read(1, ListKind::Trailers, Some(digest(&[("a", "b")])), 6);
        opinion.block_read(3, ListKind::Response, Some(digest(&[(":status", "200")])), 7);
        assert!(opinion.reported(1, ListKind::Response).is_none());
        let number = |waiting: Option<Waiting>| waiting.map(|one| one.number);
        assert_eq!(number(opinion.reported(1, ListKind::Trailers)), Some(6));
        assert_eq!(number(opinion.reported(1, ListKind::Informational)), Some(3));
        assert_eq!(number(opinion.reported(3, ListKind::Response)), Some(7));
        opinion.forget(1);
        assert!(opinion.reported(1, ListKind::Informational).is_none());
    }

    impl Fields for &[(&str, &str)] {
        fn each(&self, see: &mut impl See) {
            self.iter()
                .for_each(|(name, value)| see.field(name.as_bytes(), value.as_bytes()));
        }
    }

    fn give(opinion: &mut Opinion, digester: &mut Digester, fields: &[(&str, &str)]) -> Given {
        opinion.give(digester, false, &fields)
    }

    #[test]
    fn a_list_that_is_given_again_and_again_can_be_shown_and_so_can_the_next() {
        let (mut opinion, mut digester) = (Opinion::default(), Digester::new());
        let lists = [
            [(":status", "200"), ("a", "1")],
            [(":status", "200"), ("a", "1")],
            [(":status", "200"), ("a", "1")],
            [(":status", "200"), ("a", "2")],
            [(":status", "200"), ("a", "1")],
            [(":status", "200"), ("a", "1")],
            [(":status", "200"), ("a", "1")],
        ];
        for (stream, list) in (1..).zip(&lists) {
            let given = give(&mut opinion, &mut digester, list);
            assert!(given.digest.agrees(&digest(list)));
            opinion.given(stream, given);
        }
        for (stream, list) in (1..).zip(&lists) {
            let waiting = opinion
                .block_written(stream, Some(ListKind::Response))
                .expect("it waits");
            let shown = opinion.list(&waiting).expect("it is kept");
            let expected = list.map(|(name, value)| (name.as_bytes().to_vec(), value.as_bytes().to_vec()));
            assert_eq!(shown, expected, "stream {stream}");
        }
        // The third and the seventh are not written down.
        assert_eq!(opinion.text.len(), 5 * (2 * 8 + 7 + 3 + 1 + 1));
    }

    #[test]
    fn what_was_given_can_be_shown_until_it_was_compared() {
        let mut opinion = Opinion::default();
        let mut digester = Digester::new();
        let fields = [(":status", "200"), ("set-cookie", "a"), ("set-cookie", "")];
        let given = give(&mut opinion, &mut digester, &fields);
        opinion.given(5, given);
        assert!(opinion.block_written(7, Some(ListKind::Response)).is_none());
        let waiting = opinion.block_written(5, Some(ListKind::Response)).expect("it waits");
        let list = opinion.list(&waiting).expect("it is kept");
        assert_eq!(list.len(), 3);
        assert_eq!(list[1], (b"set-cookie".to_vec(), b"a".to_vec()));
        assert!(waiting.digest.is_some_and(|given| given.agrees(&digest(&fields))));
        opinion.tidy();
        assert!(opinion.text.is_empty());
    }

    #[test]
    fn too_many_that_wait_are_given_up_and_what_is_new_is_compared_again() {
        let mut opinion = Opinion::default();
        let head = digest(&[(":method", "GET")]);
        for stream in (1..).step_by(2).take(WAITING + 1) {
            opinion.block_read(stream, ListKind::Request, Some(head), 0);
        }
        let last = 2 * WAITING as u32 + 1;
        assert!(opinion.reported(1, ListKind::Request).is_none());
        opinion.block_read(last - 2, ListKind::Trailers, Some(digest(&[("a", "b")])), 0);
        assert!(opinion.reported(last - 2, ListKind::Trailers).is_none());
        opinion.block_read(last + 2, ListKind::Request, Some(head), 0);
        assert!(opinion.reported(last + 2, ListKind::Request).is_some());
    }
}
