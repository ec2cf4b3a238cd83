//! What happened in one series in one window.

use super::{
    histogram::Histogram,
    nibbles::{Reader, Writer},
};

/// Kinds of ends of requests that one series tells apart.
pub(super) const MOST_STATUSES: usize = 24;

/// Counts beside statuses, latencies and bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(usize)]
pub(super) enum Count {
    Retries,
    /// Attempts at endpoints.
    Attempts,
    AttemptSuccesses,
    RetriesLimited,
    RetriesOverBudget,
    Opened,
    Closed,
    Failed,
    Read,
    Written,
}

/// How many kinds of [`Count`] there are.
const COUNTS: usize = Count::Written as usize + 1;

const HAS_STATUSES: u64 = 1;
const HAS_LATENCY: u64 = 2;
const HAS_COUNTS: u64 = 4;

/// What happened in one series in one window, or in several.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Record {
    /// By place in the series' list of statuses.
    pub(super) statuses: Vec<(u8, u64)>,
    pub(super) latency: Histogram,
    counts: [u64; COUNTS],
}

impl Record {
    pub(super) fn of(&self, count: Count) -> u64 {
        self.counts[count as usize]
    }

    pub(super) fn count(&mut self, count: Count, n: u64) {
        self.counts[count as usize] += n;
    }

    pub(super) fn set(&mut self, count: Count, n: u64) {
        self.counts[count as usize] = n;
    }

    pub(super) fn status(&mut self, place: u8, n: u64) {
        match self.statuses.iter_mut().find(|(known, _)| *known == place) {
            Some((_, count)) => *count += n,
            None => self.statuses.push((place, n)),
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.statuses.is_empty() && self.latency.is_empty() && self.counts == [0; COUNTS]
    }

    pub(super) fn clear(&mut self) {
        self.statuses.clear();
        self.latency.clear();
        self.counts = [0; COUNTS];
    }

    pub(super) fn add(&mut self, other: &Self) {
        for &(place, n) in &other.statuses {
            self.status(place, n);
        }
        self.latency.add(&other.latency);
        for (sum, n) in self.counts.iter_mut().zip(&other.counts) {
            *sum += n;
        }
    }

    /// The share of this that falls into part `part` of `parts`, so that all parts together are the whole.
    pub(super) fn part(&self, part: u64, parts: u64) -> Self {
        let share = |n: u64| {
            let until = |part: u64| (u128::from(n) * u128::from(part) / u128::from(parts)) as u64;
            until(part + 1) - until(part)
        };
        let shares = |counts: &[u64]| {
            // Counts of one each would all fall into the last part: they take turns.
            let mut before = 0;
            let mut of_all = |n: u64| {
                let until = |n: u64| (u128::from(n) * u128::from(part + 1) / u128::from(parts)) as u64;
                let since = |n: u64| (u128::from(n) * u128::from(part) / u128::from(parts)) as u64;
                let (start, end) = (before, before + n);
                before = end;
                (until(end) - since(end)) - (until(start) - since(start))
            };
            counts.iter().map(|&n| of_all(n)).collect::<Vec<_>>()
        };
        let statuses = self.statuses.iter().map(|&(place, n)| (place, share(n)));
        Self {
            statuses: statuses.filter(|(_, n)| *n > 0).collect(),
            latency: Histogram {
                first: self.latency.first,
                counts: shares(&self.latency.counts),
            },
            counts: self.counts.map(share),
        }
    }

    pub(super) fn write(&self, to: &mut Writer) {
        let has_counts = self.counts != [0; COUNTS];
        let parts = [
            (HAS_STATUSES, !self.statuses.is_empty()),
            (HAS_LATENCY, !self.latency.is_empty()),
            (HAS_COUNTS, has_counts),
        ];
        to.put(parts.iter().filter(|(_, has)| *has).map(|(part, _)| part).sum());
        if !self.statuses.is_empty() {
            to.put(self.statuses.len() as u64);
            for &(place, n) in &self.statuses {
                to.put(place.into());
                to.put(n);
            }
        }
        if !self.latency.is_empty() {
            to.put_signed(self.latency.first.into());
            to.put(self.latency.counts.len() as u64);
            self.latency.counts.iter().for_each(|&n| to.put(n));
        }
        if has_counts {
            let mask = self.counts.iter().enumerate();
            to.put(mask.map(|(at, &n)| u64::from(n > 0) << at).sum());
            self.counts.iter().filter(|&&n| n > 0).for_each(|&n| to.put(n));
        }
    }

    /// Reads in place of what this was.
    pub(super) fn read(&mut self, from: &mut Reader<'_>) {
        self.clear();
        let parts = from.take();
        if parts & HAS_STATUSES != 0 {
            for _ in 0..from.take() {
                let place = from.take() as u8;
                self.statuses.push((place, from.take()));
            }
        }
        if parts & HAS_LATENCY != 0 {
            self.latency.first = from.take_signed() as i16;
            for _ in 0..from.take() {
                self.latency.counts.push(from.take());
            }
        }
        if parts & HAS_COUNTS != 0 {
            let mask = from.take();
            for (at, n) in self.counts.iter_mut().enumerate() {
                if mask >> at & 1 == 1 {
                    *n = from.take();
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> Record {
        let mut record = Record::default();
        record.status(0, 97);
        record.status(3, 2);
        record.latency.add_counts(-4, &[60, 0, 30, 9]);
        record.count(Count::Retries, 3);
        record.count(Count::Written, 123_456_789);
        record
    }

    #[test]
    fn a_record_comes_back_as_it_was() {
        let mut writer = Writer::default();
        sample().write(&mut writer);
        Record::default().write(&mut writer);
        sample().write(&mut writer);
        let (mut reader, mut record) = (writer.reader(), Record::default());
        record.read(&mut reader);
        assert_eq!(record, sample());
        record.read(&mut reader);
        assert!(record.is_empty());
        record.read(&mut reader);
        assert_eq!(record, sample());
    }

    #[test]
    fn parts_are_the_whole() {
        let mut sum = Record::default();
        for part in 0..7 {
            sum.add(&sample().part(part, 7));
        }
        assert_eq!(sum, sample());
        // Latencies are spread as evenly as requests are.
        let one = sample().part(3, 7);
        assert_eq!(one.latency.count(), 14);
    }
}
