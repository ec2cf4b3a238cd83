//! Numbers in half bytes: most of what a window holds is below eight.
//!
//! A number is written three bits at a time, lowest first; the fourth bit says that more follow.

/// Writes numbers.
#[derive(Clone, Debug, Default)]
pub(super) struct Writer {
    bytes: Vec<u8>,
    /// The last byte has room for another half.
    half: bool,
}

/// Reads numbers; 0 for whatever is beyond the end.
#[derive(Clone, Debug)]
pub(super) struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
    high: bool,
}

impl Writer {
    pub(super) fn put(&mut self, mut number: u64) {
        loop {
            let three = (number & 7) as u8;
            number >>= 3;
            let more = number > 0;
            self.push(three | if more { 8 } else { 0 });
            if !more {
                return;
            }
        }
    }

    /// A number that may be negative.
    pub(super) fn put_signed(&mut self, number: i64) {
        self.put(((number << 1) ^ (number >> 63)).cast_unsigned());
    }

    /// One half byte, as it is.
    pub(super) fn push(&mut self, nibble: u8) {
        if self.half
            && let Some(last) = self.bytes.last_mut()
        {
            *last |= nibble << 4;
        } else {
            self.bytes.push(nibble);
        }
        self.half = !self.half;
    }

    pub(super) fn reader(&self) -> Reader<'_> {
        Reader {
            bytes: &self.bytes,
            at: 0,
            high: false,
        }
    }

    /// Gives back what is not needed.
    pub(super) fn shrink(&mut self) {
        self.bytes.shrink_to_fit();
    }

    /// Bytes of memory.
    pub(super) fn capacity(&self) -> usize {
        self.bytes.capacity()
    }
}

impl Reader<'_> {
    pub(super) fn take(&mut self) -> u64 {
        let mut number = 0_u64;
        for shift in (0..64).step_by(3) {
            let nibble = self.nibble();
            number |= u64::from(nibble & 7) << shift;
            if nibble & 8 == 0 {
                break;
            }
        }
        number
    }

    pub(super) fn take_signed(&mut self) -> i64 {
        let number = self.take();
        (number >> 1).cast_signed() ^ -((number & 1).cast_signed())
    }

    /// One half byte, as it is.
    pub(super) fn nibble(&mut self) -> u8 {
        let byte = self.bytes.get(self.at).copied().unwrap_or(0);
        let nibble = if self.high { byte >> 4 } else { byte & 15 };
        self.at += usize::from(self.high);
        self.high = !self.high;
        nibble
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_come_back_as_they_were() {
        let numbers = [0, 1, 7, 8, 63, 64, 1_000, u64::from(u32::MAX), u64::MAX, 3];
        let signed = [0, -1, 1, -4, i64::MIN, i64::MAX];
        let mut writer = Writer::default();
        numbers.iter().for_each(|number| writer.put(*number));
        signed.iter().for_each(|number| writer.put_signed(*number));
        let mut reader = writer.reader();
        assert!(numbers.iter().all(|number| reader.take() == *number));
        assert!(signed.iter().all(|number| reader.take_signed() == *number));
        assert_eq!(reader.take(), 0);
    }

    #[test]
    fn small_numbers_are_half_a_byte() {
        let mut writer = Writer::default();
        (0..8).for_each(|number| writer.put(number));
        assert_eq!(writer.bytes.len(), 4);
    }
}
