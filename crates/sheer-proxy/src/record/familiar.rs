//! The list of its kind before, so that of the next only what differs is hashed: most lists of a connection say nearly the same.

use http::{HeaderName, HeaderValue};
use sheer_lens::hpack::{Digest, Digester, FieldHash};

use super::lists::{Listed, Pseudo, See};

/// Fields that are remembered of a list.
const FIELDS: usize = 48;
/// Bytes of values that are remembered of a list.
const VALUES: usize = 8 * 1024;

/// The last list of its kind, in copies of its own: nothing of the library's memory is held.
#[derive(Debug, Default)]
pub(super) struct Familiar {
    fields: Vec<Known>,
    /// Of their values.
    bytes: usize,
    /// Where all of the list is remembered.
    digest: Option<Digest>,
}

/// A field, at its place in the list.
#[derive(Debug)]
struct Known {
    name: Name,
    value: Vec<u8>,
    /// Whether there was room for the value.
    is_whole: bool,
    hash: FieldHash,
}

#[derive(Debug)]
enum Name {
    Pseudo(Pseudo),
    Field(HeaderName),
}

impl Known {
    #[inline]
    fn has(&self, value: &[u8]) -> bool {
        self.is_whole && self.value == value
    }

    #[inline]
    fn is_pseudo(&self, name: Pseudo) -> bool {
        matches!(self.name, Name::Pseudo(known) if known == name)
    }

    #[inline]
    fn is_field(&self, name: &HeaderName) -> bool {
        matches!(&self.name, Name::Field(known) if known == name)
    }
}

impl Familiar {
    /// The digest of a list, which is the last one from here on.
    #[inline]
    pub(super) fn digest(&mut self, list: &impl Listed, digester: &mut Digester) -> Digest {
        let mut compare = Compare {
            last: self,
            digester,
            at: 0,
            differs: false,
        };
        list.show(&mut compare);
        let Compare { at, differs, .. } = compare;
        match self.digest {
            Some(digest) if !differs && at == self.fields.len() => digest,
            _ => self.end(at, differs, digester),
        }
    }

    /// The list, of `length` fields, is another one than the last.
    #[inline(never)]
    fn end(&mut self, length: usize, differs: bool, digester: &mut Digester) -> Digest {
        if !differs {
            self.add_until(length, digester);
        }
        for gone in self.fields.drain(length.min(self.fields.len())..) {
            self.bytes -= gone.value.len();
        }
        let digest = digester.digest();
        let is_whole = self.fields.len() == length && self.fields.iter().all(|known| known.is_whole);
        self.digest = is_whole.then_some(digest);
        digest
    }

    /// Begins a digest with the first fields.
    fn add_until(&self, end: usize, digester: &mut Digester) {
        digester.clear();
        self.fields[..end].iter().for_each(|known| digester.add(known.hash));
    }

    /// The hash of a field that is not as the last list's at its place, and takes that. `is_named`: as that one is.
    fn learn(
        &mut self,
        at: usize,
        (name, is_named): (&[u8], bool),
        own_name: impl FnOnce() -> Name,
        value: &[u8],
    ) -> FieldHash {
        let hash = match self.fields.get(at) {
            Some(known) if is_named => known.hash.with_value(name, value),
            _ => FieldHash::of(name, value),
        };
        if at == self.fields.len() && at < FIELDS {
            self.fields.push(Known {
                name: own_name(),
                value: Vec::new(),
                is_whole: false,
                hash,
            });
        } else if let Some(known) = self.fields.get_mut(at).filter(|_| !is_named) {
            known.name = own_name();
        }
        if let Some(known) = self.fields.get_mut(at) {
            self.bytes -= known.value.len();
            known.value.clear();
            known.is_whole = self.bytes + value.len() <= VALUES;
            if known.is_whole {
                known.value.extend_from_slice(value);
            }
            self.bytes += known.value.len();
            known.hash = hash;
        }
        hash
    }

    /// Bytes of memory that it holds beside itself.
    pub(super) fn memory(&self) -> usize {
        let values: usize = self.fields.iter().map(|known| known.value.capacity()).sum();
        self.fields.capacity() * size_of::<Known>() + values
    }
}

/// Compares a list with the last one. The digest is only begun where they differ.
struct Compare<'a> {
    last: &'a mut Familiar,
    digester: &'a mut Digester,
    at: usize,
    differs: bool,
}

impl Compare<'_> {
    #[inline]
    fn same(&mut self, hash: FieldHash) {
        if self.differs {
            self.digester.add(hash);
        }
        self.at += 1;
    }

    #[inline(never)]
    fn other(&mut self, name: (&[u8], bool), own_name: impl FnOnce() -> Name, value: &[u8]) {
        if !self.differs {
            self.differs = true;
            self.last.add_until(self.at.min(self.last.fields.len()), self.digester);
        }
        let hash = self.last.learn(self.at, name, own_name, value);
        self.digester.add(hash);
        self.at += 1;
    }
}

impl See for Compare<'_> {
    #[inline]
    fn pseudo(&mut self, name: Pseudo, value: &[u8]) {
        let known = self.last.fields.get(self.at);
        let is_named = known.is_some_and(|known| known.is_pseudo(name));
        match known {
            Some(known) if is_named && known.has(value) => {
                let hash = known.hash;
                self.same(hash);
            }
            _ => self.other((name.name(), is_named), || Name::Pseudo(name), value),
        }
    }

    #[inline]
    fn field(&mut self, name: &HeaderName, value: &HeaderValue) {
        let (known, value) = (self.last.fields.get(self.at), value.as_bytes());
        let is_named = known.is_some_and(|known| known.is_field(name));
        match known {
            Some(known) if is_named && known.has(value) => {
                let hash = known.hash;
                self.same(hash);
            }
            _ => self.other((name.as_str().as_bytes(), is_named), || own(name), value),
        }
    }
}

/// A copy: the library's may be a part of all that it read.
fn own(name: &HeaderName) -> Name {
    Name::Field(HeaderName::from_bytes(name.as_str().as_bytes()).unwrap_or_else(|_| name.clone()))
}

#[cfg(test)]
mod tests {
    use super::{
        super::lists::tests::{Pairs, digest},
        *,
    };

    /// Lists in a row have the digests that they have alone.
    fn agree<'a>(lists: impl IntoIterator<Item = Pairs<'a>>) -> Familiar {
        let (mut familiar, mut digester) = (Familiar::default(), Digester::new());
        for list in lists {
            assert_eq!(familiar.digest(&list, &mut digester), digest(&list), "{list:?}");
            let bytes: usize = familiar.fields.iter().map(|known| known.value.len()).sum();
            assert_eq!(familiar.bytes, bytes);
        }
        familiar
    }

    #[test]
    fn lists_that_are_nearly_the_last_are_told_apart() {
        let get = [(":method", "GET"), (":path", "/a"), ("accept", "*/*"), ("x-id", "1")];
        let mut lists = vec![Pairs(&get), Pairs(&get)];
        let others: [&[(&str, &str)]; 12] = [
            &[(":method", "GET"), (":path", "/a"), ("accept", "*/*"), ("x-id", "2")],
            &[(":method", "GET"), (":path", "/b"), ("accept", "*/*"), ("x-id", "2")],
            &[(":method", "GET"), (":path", "/b"), ("accept", "*/*")],
            &[
                (":method", "GET"),
                (":path", "/b"),
                ("accept", "*/*"),
                ("x-id", "2"),
                ("te", ""),
            ],
            &[
                (":method", "GET"),
                (":path", "/b"),
                ("x-other", "*/*"),
                ("x-id", "2"),
                ("te", ""),
            ],
            &[
                (":method", "GET"),
                (":path", "/b"),
                ("x-id", "2"),
                ("x-id", "2"),
                ("x-id", "1"),
            ],
            &[
                (":method", "GET"),
                (":path", "/b"),
                ("x-id", "2"),
                ("x-id", "1"),
                ("x-id", "2"),
            ],
            &[(":status", "200")],
            &[(":status", "103")],
            &[("x-id", "2")],
            &[],
            &[],
        ];
        lists.extend(others.map(Pairs));
        agree(lists);
    }

    #[test]
    fn what_is_remembered_has_an_end() {
        let long = "x".repeat(VALUES - 10);
        let names: Vec<String> = (0..2 * FIELDS).map(|nth| format!("x-{nth}")).collect();
        let many: Vec<(&str, &str)> = names.iter().map(|name| (name.as_str(), "v")).collect();
        let longs = [("a", &*long), ("b", &*long), ("c", "1"), ("d", "2")];
        let other = [("a", "1"), ("b", &*long), ("c", "1"), ("d", "2")];
        let familiar = agree([
            Pairs(&longs),
            Pairs(&longs),
            Pairs(&many),
            Pairs(&many),
            Pairs(&longs),
            Pairs(&other),
            Pairs(&other),
            Pairs(&longs),
        ]);
        assert!(familiar.bytes <= VALUES, "{}", familiar.bytes);
        assert!(familiar.memory() < 3 * VALUES, "{}", familiar.memory());
        assert_eq!(familiar.digest, None, "one is too long");
    }
}
