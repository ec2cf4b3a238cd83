//! Blocks that come again: the same bytes over the same table say the same, and need no second reading.

use super::{Decoder, Digest, Digester, Done, Error, TableState};

/// Blocks of one direction that are remembered: heads and trailers of a few kinds of call.
pub const REMEMBERED: usize = 4;
/// A longer block is read each time.
const LONGEST: usize = 256;

/// The last blocks that left the table as it was, for one [`Decoder`].
///
/// A block is remembered with all its bytes, so that no other is ever taken for it, and only until the table changes.
#[derive(Clone, Debug, Default)]
pub struct Repeats {
    table: TableState,
    blocks: Vec<Block>,
    /// Which one is forgotten next.
    next: usize,
}

/// What a block was found to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Repeated {
    /// What became of it.
    pub done: Done,
    /// Which of the [`REMEMBERED`] it is from now on; none where it changed the table, or is too long.
    pub place: Option<usize>,
    /// Whether it is the same, byte for byte, as the last that was found to be that one.
    pub again: bool,
}

#[derive(Clone, Debug)]
struct Block {
    bytes: Vec<u8>,
    digest: Digest,
    fields: u32,
}

impl Repeats {
    /// Bytes of memory that they hold beside themselves.
    pub fn memory(&self) -> usize {
        let bytes: usize = self.blocks.iter().map(|block| block.bytes.capacity()).sum();
        self.blocks.capacity() * size_of::<Block>() + bytes
    }

    #[inline]
    fn find(&self, table: TableState, block: &[u8]) -> Option<(usize, &Block)> {
        if self.table != table {
            return None;
        }
        self.blocks.iter().enumerate().find(|(_, known)| known.bytes == block)
    }

    fn remember(&mut self, table: TableState, block: &[u8], (digest, fields): (Digest, u32)) -> usize {
        if self.table != table {
            self.blocks.clear();
            (self.table, self.next) = (table, 0);
        }
        let known = Block {
            bytes: block.to_vec(),
            digest,
            fields,
        };
        let place = self.next;
        match self.blocks.get_mut(place) {
            Some(before) => *before = known,
            None => self.blocks.push(known),
        }
        self.next = (place + 1) % REMEMBERED;
        place
    }
}

impl Decoder {
    /// As [`Decoder::digest`], with `repeats` of the blocks before.
    ///
    /// # Errors
    /// As [`Decoder::decode`]. The digest is then of the fields before.
    #[inline]
    pub fn digest_repeated(
        &mut self,
        block: &[u8],
        repeats: &mut Repeats,
        digester: &mut Digester,
    ) -> Result<Repeated, Error> {
        let table = self.state();
        // A size update that is owed has to be noticed in the next block, whatever that says.
        if !self.failed
            && self.owed.is_none()
            && let Some((place, known)) = repeats.find(table, block)
        {
            self.blocks += 1;
            digester.resume(known.digest);
            let done = Done {
                fields: known.fields,
                list_size: 0,
                table,
            };
            return Ok(Repeated {
                done,
                place: Some(place),
                again: true,
            });
        }
        let done = self.digest(block, digester)?;
        let is_kept = block.len() <= LONGEST && done.table == table && !begins_with_update(block);
        Ok(Repeated {
            done,
            place: is_kept.then(|| repeats.remember(table, block, (digester.digest(), done.fields))),
            again: false,
        })
    }
}

/// Whether a block begins with a size update (RFC 7541, 6.3), which may leave the table as it was only this time.
fn begins_with_update(block: &[u8]) -> bool {
    block.first().is_some_and(|first| first & 0xe0 == 0x20)
}
