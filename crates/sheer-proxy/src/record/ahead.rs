//! What requests said that are still under way, once the log of their connection no longer has it: a call that fails by its deadline began long ago.

use std::collections::{BTreeMap, VecDeque};

use super::{
    excerpt::{Excerpt, Excerpts},
    exchange::LegId,
};

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
        kept.push((excerpt, bytes));
        self.bytes += bytes;
    }

    /// What is kept of a stream, oldest first; it is the caller's from here on.
    pub(super) fn take(&mut self, leg: LegId) -> Vec<Excerpt> {
        let key = (leg.connection, leg.stream);
        let Some(kept) = self.kept.remove(&key) else {
            return Vec::new();
        };
        self.order.retain(|other| *other != key);
        self.bytes -= kept.iter().map(|(_, bytes)| bytes).sum::<usize>();
        kept.into_iter().map(|(excerpt, _)| excerpt).collect()
    }

    /// Whether something is kept of any stream of a connection.
    pub(super) fn is_of(&self, connection: u64) -> bool {
        let mut all = self.kept.range((connection, 0)..=(connection, u32::MAX));
        all.next().is_some()
    }

    /// The oldest go where all take more than this.
    pub(super) fn shed(&mut self, limit: usize, excerpts: &mut Excerpts) {
        while self.bytes > limit
            && let Some((connection, stream)) = self.order.front().copied()
        {
            for excerpt in self.take(LegId { connection, stream }) {
                excerpts.drop(&excerpt);
            }
        }
    }
}
