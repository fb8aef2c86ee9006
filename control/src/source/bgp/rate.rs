//! How many of something there are a second, over the last ten.

use std::time::Instant;

const SECONDS: usize = 10;

/// Counts by the second, in a ring.
#[derive(Debug)]
pub(super) struct Rate {
    start: Instant,
    /// The present second and the ten before it.
    counts: [u64; SECONDS + 1],
    second: u64,
}

impl Rate {
    pub(super) fn new(now: Instant) -> Self {
        Self { start: now, counts: [0; SECONDS + 1], second: 0 }
    }

    pub(super) fn add(&mut self, now: Instant, n: usize) {
        self.turn(now);
        self.counts[self.second as usize % self.counts.len()] += n as u64;
    }

    /// Of the last ten whole seconds.
    pub(super) fn per_second(&mut self, now: Instant) -> u64 {
        self.turn(now);
        let present = self.counts[self.second as usize % self.counts.len()];
        (self.counts.iter().sum::<u64>() - present) / SECONDS as u64
    }

    fn turn(&mut self, now: Instant) {
        let second = now.saturating_duration_since(self.start).as_secs();
        for passed in (self.second + 1..=second).rev().take(self.counts.len()) {
            self.counts[passed as usize % self.counts.len()] = 0;
        }
        self.second = self.second.max(second);
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn it_rises_and_falls() {
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let mut rate = Rate::new(start);
        for second in 0..20 {
            rate.add(at(second), 500);
        }
        assert_eq!(rate.per_second(at(20)), 500);
        assert_eq!(rate.per_second(at(25)), 250);
        assert_eq!(rate.per_second(at(31)), 0);
        rate.add(at(1000), 100);
        assert_eq!(rate.per_second(at(1001)), 10);
    }
}
