//! Random choice in proportion to weights, in constant time (Walker's alias method, in Vose's form).

use rand::Rng;

/// Alias table over `0..n`. Built in O(n) when the endpoints change, sampled in O(1) for every request.
#[derive(Debug)]
pub struct AliasTable {
    columns: Vec<Column>,
}

#[derive(Clone, Copy, Debug)]
struct Column {
    /// Chance to keep this column's own index.
    keep: f64,
    alias: usize,
}

impl AliasTable {
    /// A table for weights that are positive and finite. `None` where all are equal: then a plain uniform choice does.
    pub fn new(weights: &[f64]) -> Option<Self> {
        let first = *weights.first()?;
        if weights
            .iter()
            .all(|weight| (weight - first).abs() <= f64::EPSILON * first)
        {
            return None;
        }
        let mean = weights.iter().sum::<f64>() / weights.len() as f64;
        let mut columns: Vec<Column> = weights
            .iter()
            .enumerate()
            .map(|(i, weight)| Column {
                keep: weight / mean,
                alias: i,
            })
            .collect();
        let (mut small, mut large): (Vec<usize>, Vec<usize>) = (0..columns.len()).partition(|&i| columns[i].keep < 1.0);
        while let (Some(&less), Some(&more)) = (small.last(), large.last()) {
            small.pop();
            columns[less].alias = more;
            columns[more].keep -= 1.0 - columns[less].keep;
            if columns[more].keep < 1.0 {
                large.pop();
                small.push(more);
            }
        }
        // What is left differs from 1 by rounding only.
        for i in small.into_iter().chain(large) {
            columns[i].keep = 1.0;
        }
        Some(Self { columns })
    }

    /// An index, in proportion to its weight.
    pub fn sample(&self, rng: &mut impl Rng) -> usize {
        let i = rng.random_range(0..self.columns.len());
        let column = self.columns[i];
        if rng.random::<f64>() < column.keep {
            i
        } else {
            column.alias
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rand::{SeedableRng, rngs::SmallRng};

    use super::*;

    #[test]
    fn equal_weights_need_no_table() {
        assert!(AliasTable::new(&[]).is_none());
        assert!(AliasTable::new(&[1.0]).is_none());
        assert!(AliasTable::new(&[0.3, 0.3, 0.3]).is_none());
    }

    proptest! {
        #[test]
        fn samples_follow_the_weights(weights in prop::collection::vec(0.01f64..10.0, 2..12), seed: u64) {
            let Some(table) = AliasTable::new(&weights) else { return Ok(()) };
            let mut rng = SmallRng::seed_from_u64(seed);
            let mut counts = vec![0u32; weights.len()];
            let draws = 40_000;
            (0..draws).for_each(|_| counts[table.sample(&mut rng)] += 1);
            let sum: f64 = weights.iter().sum();
            for (count, weight) in counts.iter().zip(&weights) {
                let (share, expected) = (f64::from(*count) / f64::from(draws), weight / sum);
                prop_assert!((share - expected).abs() < 0.02, "{share} instead of {expected}");
            }
        }
    }
}
