//! What requests said that are still under way, once the log of their connection no longer has it: a call that fails by its deadline began long ago.

use std::collections::{BTreeMap, VecDeque};

use super::{
    excerpt::{Excerpt, Excerpts},
    exchange::LegId,
};

/// What an entry takes beside its excerpt: its key twice, a vector, and what is said of the excerpt.
const ENTRY: usize = 2 * size_of::<(u64, u32)>() + size_of::<Vec<(Excerpt, usize)>>() + size_of::<(Excerpt, usize)>();

/// Excerpts of streams that are open, in the order in which they were made.
#[derive(Debug, Default)]
pub(super) struct Ahead {
    /// By connection and stream, each with what it takes, in bytes. Heads of one stream may have left the log one after the other.
    kept: BTreeMap<(u64, u32), Vec<(Excerpt, usize)>>,
    order: VecDeque<(u64, u32)>,
    bytes: usize,
}

impl Ahead {
    /// Keeps an excerpt that takes so many bytes.
    pub(super) fn push(&mut self, leg: LegId, excerpt: Excerpt, bytes: usize) {
        let key = (leg.connection, leg.stream);
        let kept = self.kept.entry(key).or_default();
        if kept.is_empty() {
            self.order.push_back(key);
        }
        kept.reserve_exact(1);
        kept.push((excerpt, bytes + ENTRY));
        self.bytes += bytes + ENTRY;
    }

    /// What is kept of a stream, oldest first; it is the caller's from here on.
    pub(super) fn take(&mut self, leg: LegId) -> Vec<Excerpt> {
        let key = (leg.connection, leg.stream);
        let taken = self.remove(key);
        if !taken.is_empty() {
            self.order.retain(|other| *other != key);
        }
        taken
    }

    fn remove(&mut self, key: (u64, u32)) -> Vec<Excerpt> {
        let kept = self.kept.remove(&key).unwrap_or_default();
        self.bytes -= kept.iter().map(|(_, bytes)| bytes).sum::<usize>();
        kept.into_iter().map(|(excerpt, _)| excerpt).collect()
    }

    /// Whether something is kept of any stream of a connection.
    pub(super) fn is_of(&self, connection: u64) -> bool {
        self.any_of(connection).is_some()
    }

    /// A stream of a connection of which something is kept.
    pub(super) fn any_of(&self, connection: u64) -> Option<LegId> {
        let mut all = self.kept.range((connection, 0)..=(connection, u32::MAX));
        let (&(connection, stream), _) = all.next()?;
        Some(LegId { connection, stream })
    }

    /// The oldest go where all take more than this.
    pub(super) fn shed(&mut self, limit: usize, excerpts: &mut Excerpts) {
        while self.bytes > limit
            && let Some(oldest) = self.order.pop_front()
        {
            for excerpt in self.remove(oldest) {
                excerpts.drop(&excerpt);
            }
        }
    }
}
