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
    /// KiB.
    Read,
    /// KiB.
    Written,
    Opened,
    Closed,
    Failed,
    /// Attempts at endpoints, less the requests that ended: mostly none.
    MoreAttempts,
    /// Attempts that went well, less the requests that did.
    MoreSuccesses,
    Retries,
    RetriesLimited,
    RetriesOverBudget,
}

/// How many kinds of [`Count`] there are.
const COUNTS: usize = Count::RetriesOverBudget as usize + 1;

const HAS_STATUSES: u8 = 1;
const HAS_LATENCY: u8 = 2;
const HAS_COUNTS: u8 = 4;
/// All ended in the first way, and each has a latency: the latencies say how many.
const ALL_ALIKE: u8 = 8;

/// Half bytes of a count of latencies: a run of zeros follows, the count itself, or what is more than 14 follows.
const ZEROS: u8 = 0;
const LARGE: u8 = 15;

/// How finely latencies are written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Grain {
    /// Every bucket.
    #[default]
    Fine,
    /// Two buckets as one: four a doubling.
    Coarse,
}

/// What happened in one series in one window, or in several.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Record {
    /// By place in the series' list of statuses.
    pub(super) statuses: Vec<(u8, u64)>,
    pub(super) latency: Histogram,
    counts: [i64; COUNTS],
}

impl Record {
    /// Latencies alone.
    pub(super) fn of_latency(latency: Histogram) -> Self {
        Self {
            latency,
            ..Self::default()
        }
    }

    /// A count that is none of the differences.
    pub(super) fn of(&self, count: Count) -> u64 {
        u64::try_from(self.counts[count as usize]).unwrap_or(0)
    }

    /// One of the differences.
    pub(super) fn difference(&self, count: Count) -> i64 {
        self.counts[count as usize]
    }

    pub(super) fn count(&mut self, count: Count, n: u64) {
        self.count_difference(count, i64::try_from(n).unwrap_or(i64::MAX));
    }

    pub(super) fn count_difference(&mut self, count: Count, n: i64) {
        let sum = &mut self.counts[count as usize];
        *sum = sum.saturating_add(n);
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
            *sum = sum.saturating_add(*n);
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
            counts: self.counts.map(|n| {
                let share = i64::try_from(share(n.unsigned_abs())).unwrap_or(i64::MAX);
                share * n.signum()
            }),
        }
    }

    pub(super) fn write(&self, to: &mut Writer, grain: Grain) {
        let alike = !self.latency.is_empty() && self.statuses == [(0, self.latency.count())];
        let has_counts = self.counts != [0; COUNTS];
        let parts = [
            (HAS_STATUSES, !self.statuses.is_empty() && !alike),
            (HAS_LATENCY, !self.latency.is_empty()),
            (HAS_COUNTS, has_counts),
            (ALL_ALIKE, alike),
        ];
        to.push(parts.iter().filter(|(_, has)| *has).map(|(part, _)| part).sum());
        if !self.statuses.is_empty() && !alike {
            to.put(self.statuses.len() as u64);
            for &(place, n) in &self.statuses {
                to.put(place.into());
                to.put(n);
            }
        }
        match (self.latency.is_empty(), grain) {
            (true, _) => {}
            (false, Grain::Fine) => write_counts(self.latency.first, &self.latency.counts, to),
            (false, Grain::Coarse) => {
                let (first, counts) = self.latency.in_pairs();
                write_counts(first, &counts, to);
            }
        }
        if has_counts {
            let mask = self.counts.iter().enumerate();
            to.put(mask.map(|(at, &n)| u64::from(n != 0) << at).sum());
            self.counts.iter().filter(|&&n| n != 0).for_each(|&n| to.put_signed(n));
        }
    }

    /// Reads in place of what this was.
    pub(super) fn read(&mut self, from: &mut Reader<'_>, grain: Grain) {
        self.clear();
        let parts = from.nibble();
        if parts & HAS_STATUSES != 0 {
            for _ in 0..from.take() {
                let place = from.take() as u8;
                self.statuses.push((place, from.take()));
            }
        }
        if parts & HAS_LATENCY != 0 {
            read_counts(&mut self.latency, from);
            if grain == Grain::Coarse {
                self.latency.out_of_pairs();
            }
        }
        if parts & ALL_ALIKE != 0 {
            self.statuses.push((0, self.latency.count()));
        }
        if parts & HAS_COUNTS != 0 {
            let mask = from.take();
            for (at, n) in self.counts.iter_mut().enumerate() {
                if mask >> at & 1 == 1 {
                    *n = from.take_signed();
                }
            }
        }
    }
}

/// Counts of buckets that lie beside each other: most are small, and many are zero where there are few requests.
fn write_counts(first: i16, counts: &[u64], to: &mut Writer) {
    to.put_signed(first.into());
    to.put(counts.len() as u64);
    let mut at = 0;
    while let Some(&n) = counts.get(at) {
        match n {
            0 => {
                let zeros = counts[at..].iter().take_while(|n| **n == 0).count();
                to.push(ZEROS);
                to.put(zeros as u64 - 1);
                at += zeros;
                continue;
            }
            n if n < u64::from(LARGE) => to.push(n as u8),
            n => {
                to.push(LARGE);
                to.put(n - u64::from(LARGE));
            }
        }
        at += 1;
    }
}

fn read_counts(latency: &mut Histogram, from: &mut Reader<'_>) {
    latency.first = from.take_signed() as i16;
    let len = from.take() as usize;
    while latency.counts.len() < len {
        match from.nibble() {
            ZEROS => {
                let zeros = from.take() as usize + 1;
                let end = (latency.counts.len() + zeros).min(len);
                latency.counts.resize(end, 0);
            }
            LARGE => latency.counts.push(u64::from(LARGE) + from.take()),
            n => latency.counts.push(n.into()),
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
        record.count_difference(Count::MoreSuccesses, -4);
        record
    }

    /// Every request went well, as most do.
    fn alike() -> Record {
        let mut record = Record::default();
        record.latency.add_counts(3, &[1, 20, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 4]);
        record.status(0, 25);
        record
    }

    #[test]
    fn a_record_comes_back_as_it_was() {
        let mut writer = Writer::default();
        for record in [sample(), Record::default(), alike(), sample()] {
            record.write(&mut writer, Grain::Fine);
        }
        let (mut reader, mut record) = (writer.reader(), Record::default());
        for expected in [sample(), Record::default(), alike(), sample()] {
            record.read(&mut reader, Grain::Fine);
            assert_eq!(record, expected);
        }
    }

    #[test]
    fn what_is_usual_takes_few_bytes() {
        let mut writer = Writer::default();
        alike().write(&mut writer, Grain::Fine);
        writer.shrink();
        assert!(writer.capacity() <= 8, "{}", writer.capacity());
    }

    #[test]
    fn a_coarse_record_has_every_request_within_two_buckets_of_its_own() {
        for record in [sample(), alike()] {
            let mut writer = Writer::default();
            record.write(&mut writer, Grain::Coarse);
            let mut coarse = Record::default();
            coarse.read(&mut writer.reader(), Grain::Coarse);
            assert_eq!(
                (coarse.latency.count(), &coarse.statuses),
                (record.latency.count(), &record.statuses)
            );
            for quantile in [0.1, 0.5, 0.9, 0.99] {
                let (fine, found) = (record.latency.quantile(quantile), coarse.latency.quantile(quantile));
                let off = fine.zip(found).map(|(fine, found)| (found / fine).max(fine / found));
                assert!(
                    off.is_some_and(|off| off < 1.19),
                    "{quantile}: {fine:?} became {found:?}"
                );
            }
        }
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
