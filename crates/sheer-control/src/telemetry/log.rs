//! The windows of one series, in order of arrival, in few bytes: a window in which nothing happened costs nothing, a busy one some twenty bytes.
//!
//! ```text
//! block: [records … with the distance of each from the one before] + what all of them are together, once the block is full
//! ```

use std::{collections::VecDeque, ops::Range};

use super::{
    nibbles::Writer,
    record::{Grain, Record},
};

/// Records of a block. A block goes as a whole, and is read as a whole where a question covers it.
const RECORDS: u32 = 120;

/// The windows of one series and one length. Windows are numbered by their length since the Unix epoch.
#[derive(Clone, Debug, Default)]
pub(super) struct Log {
    blocks: VecDeque<Block>,
    /// The window that is being filled.
    open: Record,
    open_slot: u32,
    grain: Grain,
}

#[derive(Clone, Debug)]
struct Block {
    first: u32,
    last: u32,
    /// What the distance of the first record is from.
    start: u32,
    /// The slot that was written last: a report may come late.
    before: u32,
    records: u32,
    data: Writer,
    whole: Option<Box<Writer>>,
}

impl Log {
    /// Nothing yet, to be written so finely.
    pub(super) fn new(grain: Grain) -> Self {
        Self {
            grain,
            ..Self::default()
        }
    }

    /// Adds what happened in a window, mostly the one of now.
    pub(super) fn add(&mut self, slot: u32, record: &Record) {
        if record.is_empty() {
            return;
        }
        if self.open.is_empty() {
            self.open_slot = slot;
        }
        if slot == self.open_slot {
            return self.open.add(record);
        }
        if slot < self.open_slot {
            return self.append(slot, record);
        }
        let mut full = std::mem::take(&mut self.open);
        self.append(self.open_slot, &full);
        full.clear();
        full.add(record);
        (self.open, self.open_slot) = (full, slot);
    }

    fn append(&mut self, slot: u32, record: &Record) {
        if self.blocks.back().is_none_or(|block| block.records >= RECORDS) {
            self.blocks.push_back(Block::new(slot));
        }
        if let Some(block) = self.blocks.back_mut() {
            block.append(slot, record, self.grain);
        }
    }

    /// Forgets what happened before a window, block by block.
    pub(super) fn forget_before(&mut self, slot: u32) {
        while self.blocks.front().is_some_and(|block| block.last < slot) {
            self.blocks.pop_front();
        }
        if self.open_slot < slot {
            self.open.clear();
        }
    }

    /// What happened in a range of windows, together.
    pub(super) fn sum(&self, slots: &Range<u32>, sum: &mut Record, scratch: &mut Record) {
        for block in &self.blocks {
            match &block.whole {
                Some(whole) if slots.contains(&block.first) && slots.contains(&block.last) => {
                    scratch.read(&mut whole.reader(), self.grain);
                    sum.add(scratch);
                }
                _ => block.each(slots, (&mut *scratch, self.grain), |_, record| sum.add(record)),
            }
        }
        if slots.contains(&self.open_slot) {
            sum.add(&self.open);
        }
    }

    /// What happened in each of a range of windows, in no order; a window may come more than once.
    pub(super) fn each(&self, slots: &Range<u32>, scratch: &mut Record, mut tell: impl FnMut(u32, &Record)) {
        for block in &self.blocks {
            block.each(slots, (&mut *scratch, self.grain), &mut tell);
        }
        if slots.contains(&self.open_slot) && !self.open.is_empty() {
            tell(self.open_slot, &self.open);
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.blocks.is_empty() && self.open.is_empty()
    }

    /// The first window of which something is known.
    pub(super) fn oldest(&self) -> Option<u32> {
        self.blocks.front().map(|block| block.first)
    }

    /// Bytes of memory.
    pub(super) fn bytes(&self) -> usize {
        let blocks = self.blocks.iter().map(|block| {
            let whole = block
                .whole
                .as_ref()
                .map_or(0, |whole| size_of::<Writer>() + whole.capacity());
            block.data.capacity() + whole
        });
        let open = self.open.latency.counts.capacity() * 8 + self.open.statuses.capacity() * 16;
        blocks.sum::<usize>() + self.blocks.capacity() * size_of::<Block>() + open
    }
}

impl Block {
    fn new(slot: u32) -> Self {
        Self {
            first: slot,
            last: slot,
            start: slot,
            before: slot,
            records: 0,
            data: Writer::default(),
            whole: None,
        }
    }

    fn append(&mut self, slot: u32, record: &Record, grain: Grain) {
        // Mostly one further.
        self.data.put_signed(i64::from(slot) - i64::from(self.before) - 1);
        record.write(&mut self.data, grain);
        self.before = slot;
        self.first = self.first.min(slot);
        self.last = self.last.max(slot);
        self.records += 1;
        if self.records == RECORDS {
            self.close(grain);
        }
    }

    /// The block is full: what all of it is together is read more often than what is in it.
    fn close(&mut self, grain: Grain) {
        let (mut sum, mut scratch) = (Record::default(), Record::default());
        let all = self.first..self.last.saturating_add(1);
        self.each(&all, (&mut scratch, grain), |_, record| sum.add(record));
        let mut whole = Writer::default();
        sum.write(&mut whole, grain);
        whole.shrink();
        self.whole = Some(Box::new(whole));
        self.data.shrink();
    }

    fn each(&self, slots: &Range<u32>, (scratch, grain): (&mut Record, Grain), mut tell: impl FnMut(u32, &Record)) {
        if self.last < slots.start || self.first >= slots.end {
            return;
        }
        let mut reader = self.data.reader();
        let mut slot = self.start;
        for _ in 0..self.records {
            let at = i64::from(slot) + reader.take_signed() + 1;
            slot = u32::try_from(at).unwrap_or_default();
            scratch.read(&mut reader, grain);
            if slots.contains(&slot) {
                tell(slot, scratch);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(requests: u64) -> Record {
        let mut record = Record::default();
        record.status(0, requests);
        record.latency.add_counts(8, &[requests]);
        record
    }

    fn requests(log: &Log, slots: Range<u32>) -> u64 {
        let mut sum = Record::default();
        log.sum(&slots, &mut sum, &mut Record::default());
        sum.statuses.first().map_or(0, |(_, requests)| *requests)
    }

    #[test]
    fn every_range_adds_up() {
        let mut log = Log::default();
        for slot in 1_000..2_000 {
            log.add(slot, &record(u64::from(slot % 7)));
        }
        let expected = |slots: Range<u32>| slots.map(|slot| u64::from(slot % 7)).sum::<u64>();
        for slots in [
            1_000..2_000,
            1_000..1_001,
            1_059..1_061,
            1_777..1_999,
            1_999..2_000,
            1_030..1_970,
        ] {
            assert_eq!(requests(&log, slots.clone()), expected(slots));
        }
        assert_eq!(requests(&log, 0..1_000), 0);
        let mut each = std::collections::BTreeMap::new();
        log.each(&(1_500..1_600), &mut Record::default(), |slot, record| {
            *each.entry(slot).or_insert(0) += record.latency.count();
        });
        assert!(each.iter().all(|(slot, count)| *count == u64::from(slot % 7)));
    }

    #[test]
    fn late_reports_count_where_they_belong() {
        let mut log = Log::default();
        for slot in [100, 101, 105, 103, 104, 105, 99, 106] {
            log.add(slot, &record(1));
        }
        assert_eq!(requests(&log, 99..100), 1);
        assert_eq!(requests(&log, 103..105), 2);
        assert_eq!(requests(&log, 105..106), 2);
        assert_eq!(requests(&log, 0..1_000), 8);
    }

    #[test]
    fn what_is_old_goes() {
        let mut log = Log::default();
        for slot in 0..300 {
            log.add(slot, &record(1));
        }
        let before = log.bytes();
        log.forget_before(200);
        assert!(log.bytes() < before);
        // Blocks go as a whole.
        assert_eq!(requests(&log, 0..300), 180);
        log.forget_before(1_000);
        assert!(log.is_empty());
    }
}
