//! Names, values and other texts that many excerpts hold, each kept once for as long as somebody holds it.
//!
//! Texts stand one behind the other in one buffer. Places of those that nobody holds any more are used again; their bytes are given back by moving the
//! others together, once they are a quarter of all. Numbers stay what they are.

use std::sync::Arc;

/// The buffer grows by an eighth, and at least by this much.
const STEP: usize = 1_024;

/// Texts by number.
#[derive(Clone, Debug, Default)]
pub(crate) struct Texts {
    bytes: Vec<u8>,
    places: Vec<Place>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Place {
    start: u32,
    length: u32,
    holders: u32,
}

impl Texts {
    /// Empty where there is no such text.
    pub(super) fn text(&self, number: u32) -> &[u8] {
        let place = self.places.get(number as usize).copied().unwrap_or_default();
        let start = place.start as usize;
        self.bytes.get(start..start + place.length as usize).unwrap_or_default()
    }
}

/// Gives texts their numbers.
#[derive(Debug, Default)]
pub(super) struct Interner {
    /// Shared with copies that sight reads.
    texts: Arc<Texts>,
    /// Numbers of those that are held, in the order of what they say.
    sorted: Vec<u32>,
    /// Numbers that nobody uses.
    free: Vec<u32>,
    /// Bytes of texts that nobody holds.
    unused: usize,
}

impl Interner {
    /// The texts as they are now.
    pub(super) fn texts(&self) -> Arc<Texts> {
        Arc::clone(&self.texts)
    }

    pub(super) fn memory(&self) -> usize {
        self.texts.bytes.capacity()
            + self.texts.places.capacity() * size_of::<Place>()
            + (self.sorted.capacity() + self.free.capacity()) * size_of::<u32>()
    }

    /// Holds a text, and gives its number.
    pub(super) fn hold(&mut self, text: &[u8]) -> u32 {
        let texts = Arc::make_mut(&mut self.texts);
        let at = match self.sorted.binary_search_by(|&known| texts.text(known).cmp(text)) {
            Ok(at) => {
                let number = self.sorted[at];
                texts.places[number as usize].holders += 1;
                return number;
            }
            Err(at) => at,
        };
        let place = Place {
            start: texts.bytes.len() as u32,
            length: text.len() as u32,
            holders: 1,
        };
        reserve(&mut texts.bytes, text.len(), STEP);
        texts.bytes.extend_from_slice(text);
        let number = match self.free.pop() {
            Some(number) => {
                texts.places[number as usize] = place;
                number
            }
            None => {
                reserve(&mut texts.places, 1, STEP / size_of::<Place>());
                texts.places.push(place);
                texts.places.len() as u32 - 1
            }
        };
        reserve(&mut self.sorted, 1, STEP / size_of::<u32>());
        self.sorted.insert(at, number);
        number
    }

    /// Lets a text go that was held.
    pub(super) fn release(&mut self, number: u32) {
        let texts = Arc::make_mut(&mut self.texts);
        let Some(place) = texts.places.get_mut(number as usize) else {
            return;
        };
        place.holders -= 1;
        if place.holders > 0 {
            return;
        }
        self.unused += place.length as usize;
        let text = texts.text(number);
        if let Ok(at) = self.sorted.binary_search_by(|&known| texts.text(known).cmp(text)) {
            self.sorted.remove(at);
        }
        texts.places[number as usize] = Place::default();
        self.free.push(number);
    }

    /// Gives back what nobody holds.
    pub(super) fn tidy(&mut self) {
        if self.sorted.is_empty() {
            *self = Self::default();
        }
        if self.unused * 4 <= self.texts.bytes.len() {
            return;
        }
        let texts = Arc::make_mut(&mut self.texts);
        let mut bytes = Vec::with_capacity(texts.bytes.len() - self.unused + STEP);
        for &number in &self.sorted {
            let start = bytes.len() as u32;
            bytes.extend_from_slice(texts.text(number));
            texts.places[number as usize].start = start;
        }
        (texts.bytes, self.unused) = (bytes, 0);
    }
}

/// Makes room for more without doubling.
fn reserve<T>(all: &mut Vec<T>, more: usize, step: usize) {
    if all.capacity() - all.len() < more {
        all.reserve_exact(more + step.max(all.len() / 8));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_is_kept_once_and_its_number_stays() {
        let mut interner = Interner::default();
        let token = interner.hold(&[b't'; 6_000]);
        let name = interner.hold(b"authorization");
        let memory = interner.memory();
        for _ in 0..100 {
            assert_eq!(interner.hold(&[b't'; 6_000]), token);
        }
        assert_eq!(interner.memory(), memory);
        assert_ne!(token, name);
        let texts = interner.texts();
        assert_eq!(texts.text(token), [b't'; 6_000]);
        assert_eq!(texts.text(name), b"authorization");
    }

    #[test]
    fn what_nobody_holds_is_given_back_and_the_rest_stays() {
        let mut interner = Interner::default();
        let text = |nth: u32| format!("{nth}-{}", "x".repeat(nth as usize % 500)).into_bytes();
        let numbers: Vec<u32> = (0..1_000).map(|nth| interner.hold(&text(nth))).collect();
        let most = interner.memory();
        for nth in (0..1_000).filter(|nth| nth % 10 != 0) {
            interner.release(numbers[nth]);
        }
        interner.tidy();
        assert!(interner.memory() < most / 3, "{} of {most}", interner.memory());
        let texts = interner.texts();
        for nth in (0..1_000).step_by(10) {
            assert_eq!(texts.text(numbers[nth as usize]), text(nth));
            assert_eq!(interner.hold(&text(nth)), numbers[nth as usize], "found again");
        }
        // Numbers that are free are used again.
        assert!(interner.hold(b"another") < 1_000);
        drop(texts);
        for nth in (0..1_000).step_by(10) {
            interner.release(numbers[nth]);
            interner.release(numbers[nth]);
        }
        interner.release(interner.sorted[0]);
        interner.tidy();
        assert_eq!(interner.memory(), 0);
    }

    #[test]
    fn a_copy_that_somebody_reads_stays_as_it_was() {
        let mut interner = Interner::default();
        let number = interner.hold(b"before");
        let texts = interner.texts();
        interner.release(number);
        interner.tidy();
        assert_eq!(interner.hold(b"after"), number);
        assert_eq!(texts.text(number), b"before");
    }
}
