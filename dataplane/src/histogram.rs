//! A histogram of times that costs its one writer two loads and two stores a value, and that anyone may read.
//!
//! Buckets are log-linear: eight for each power of two, so that a value is known to an eighth of itself.

use crate::counters::Counter;

/// Buckets of a power of two.
const STEPS: usize = 8;
/// Buckets in all, for 64 bits.
const BUCKETS: usize = 62 * STEPS;

/// Values, by size. It has one writer.
#[derive(Debug)]
pub struct Histogram {
    counts: Box<[Counter; BUCKETS]>,
    largest: Counter,
}

impl Default for Histogram {
    fn default() -> Self {
        Self { counts: Box::new(std::array::from_fn(|_| Counter::default())), largest: Counter::default() }
    }
}

/// The bucket of a value.
fn bucket(value: u64) -> usize {
    if value < STEPS as u64 {
        return value as usize;
    }
    let power = 63 - value.leading_zeros() as usize;
    (power - 2) * STEPS + (value >> (power - 3)) as usize % STEPS
}

/// The largest value of a bucket.
fn largest_of(bucket: usize) -> u64 {
    if bucket < STEPS {
        return bucket as u64;
    }
    let (power, step) = (bucket / STEPS + 2, bucket % STEPS);
    let width = 1u64 << (power - 3);
    (1u64 << power) + step as u64 * width + (width - 1)
}

impl Histogram {
    /// Counts a value. Only the writer calls this.
    pub fn record(&self, value: u64) {
        self.counts[bucket(value)].add(1);
        if value > self.largest.get() {
            self.largest.set(value);
        }
    }

    /// The largest value so far.
    pub fn largest(&self) -> u64 {
        self.largest.get()
    }

    /// The buckets that hold anything: the largest value that belongs there, and how many do.
    pub fn buckets(&self) -> impl Iterator<Item = (u64, u64)> {
        let all = self.counts.iter().enumerate().map(|(i, count)| (largest_of(i), count.get()));
        all.filter(|(_, count)| *count > 0)
    }

    /// The value that a share of `quantile` (0 to 1) of all do not pass, to an eighth of itself; 0 without values.
    pub fn quantile(&self, quantile: f64) -> u64 {
        let buckets: Vec<_> = self.buckets().collect();
        let total: u64 = buckets.iter().map(|(_, count)| count).sum();
        let mut left = (total as f64 * quantile).ceil() as u64;
        for (value, count) in buckets {
            if count >= left {
                return value.min(self.largest());
            }
            left -= count;
        }
        self.largest()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_value_is_in_the_bucket_that_says_so() {
        let values = (0..200).chain((3..64).flat_map(|power| {
            let base = 1u64 << power;
            [base - 1, base, base + base / 8, base + (base - 1)]
        }));
        for value in values.chain([u64::MAX]) {
            let at = bucket(value);
            assert!(largest_of(at) >= value && largest_of(at) - value <= value / 8, "{value}");
            assert!(at == 0 || largest_of(at - 1) < value, "{value}");
        }
        assert_eq!(bucket(u64::MAX), BUCKETS - 1);
    }

    #[test]
    fn quantiles_are_within_an_eighth() {
        let histogram = Histogram::default();
        assert_eq!((histogram.quantile(0.5), histogram.largest()), (0, 0));
        (1..=1000).for_each(|value| histogram.record(value));
        for (quantile, exact) in [(0.5, 500), (0.99, 990), (0.999, 999), (1.0, 1000)] {
            let value = histogram.quantile(quantile);
            assert!(value >= exact && value <= exact + exact / 8, "{quantile}: {value}");
        }
        assert_eq!(histogram.largest(), 1000);
        assert_eq!(histogram.buckets().map(|(_, count)| count).sum::<u64>(), 1000);
    }
}
