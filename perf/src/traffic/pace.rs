//! When the next frame is due.

/// Frames at an even rate, by a clock of ticks.
#[derive(Clone, Copy, Debug)]
pub struct Pacer {
    per_tick: f64,
    start: u64,
    given: u64,
    /// Frames that may be caught up with after a delay of the generator.
    catch_up: u64,
    skipped: u64,
}

/// For how long a delayed generator may send faster to catch up, in seconds. What it missed beyond that it leaves out:
/// a burst at full speed would tell of the tester's scheduling, not of the device.
const CATCH_UP: f64 = 200e-6;

impl Pacer {
    /// `rate` frames a second from `start` on, at `hz` ticks a second; an infinite rate gives all that is asked for.
    pub fn new(rate: f64, hz: u64, start: u64) -> Self {
        let catch_up = if rate.is_finite() { (rate * CATCH_UP) as u64 + 64 } else { 0 };
        Self { per_tick: rate / hz as f64, start, given: 0, catch_up, skipped: 0 }
    }

    /// How many of at most `most` frames are due at `now`.
    #[inline]
    pub fn due(&mut self, now: u64, most: usize) -> usize {
        if self.per_tick.is_infinite() {
            return most;
        }
        let wanted = (now.saturating_sub(self.start) as f64 * self.per_tick) as u64;
        let mut due = wanted.saturating_sub(self.given + self.skipped);
        if due > self.catch_up {
            self.skipped += due - self.catch_up;
            due = self.catch_up;
        }
        most.min(due as usize)
    }

    /// Notes that `n` frames were given to the port.
    #[inline]
    pub fn gave(&mut self, n: usize) {
        self.given += n as u64;
    }

    /// Frames that should have been given by `now` and were not, since the generator was late.
    pub fn missed(&self, now: u64) -> u64 {
        if self.per_tick.is_infinite() {
            return 0;
        }
        let wanted = (now.saturating_sub(self.start) as f64 * self.per_tick) as u64;
        wanted.saturating_sub(self.given)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HZ: u64 = 1_000_000_000;

    #[test]
    fn frames_are_due_evenly() {
        let mut pacer = Pacer::new(1e6, HZ, 500);
        let mut sent = 0;
        for now in (500..=1_000_500).step_by(100) {
            let due = pacer.due(now, 32);
            assert!(due <= 1, "{due} at {now}");
            pacer.gave(due);
            sent += due;
        }
        assert_eq!(sent, 1000);
        assert_eq!(pacer.missed(1_000_500), 0);
    }

    #[test]
    fn a_long_delay_is_not_caught_up_with() {
        let mut pacer = Pacer::new(1e6, HZ, 0);
        // 10 ms late: 10,000 frames were due.
        let now = 10_000_000;
        let mut burst = 0;
        loop {
            let due = pacer.due(now, 32);
            if due == 0 {
                break;
            }
            pacer.gave(due);
            burst += due;
        }
        assert_eq!(burst, 264);
        assert_eq!(pacer.missed(now), 10_000 - 264);
        // From then on at the old rate.
        assert_eq!(pacer.due(now + 5_000, 32), 5);
    }

    #[test]
    fn without_a_rate_everything_is_due() {
        let mut pacer = Pacer::new(f64::INFINITY, HZ, 0);
        assert_eq!(pacer.due(0, 32), 32);
        pacer.gave(32);
        assert_eq!((pacer.due(0, 7), pacer.missed(HZ)), (7, 0));
    }
}
