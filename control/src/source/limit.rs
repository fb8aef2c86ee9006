//! A rate limit for log lines: what a peer does a thousand times a second is told ten times, then once a second.

use std::time::{Duration, Instant};

const BURST: u32 = 10;
const REFILL: Duration = Duration::from_secs(1);

/// A token bucket that counts what it held back.
#[derive(Debug)]
pub(crate) struct RateLimit {
    tokens: u32,
    refilled: Instant,
    suppressed: u64,
}

impl RateLimit {
    pub(crate) fn new(now: Instant) -> Self {
        Self { tokens: BURST, refilled: now, suppressed: 0 }
    }

    /// `Some(n)`: say it, and that `n` alike were held back before. `None`: hold it back.
    pub(crate) fn pass(&mut self, now: Instant) -> Option<u64> {
        let earned = now.saturating_duration_since(self.refilled).as_secs() / REFILL.as_secs();
        if earned > 0 {
            self.tokens = BURST.min(self.tokens.saturating_add(earned.min(BURST.into()) as u32));
            self.refilled = now;
        }
        if self.tokens == 0 {
            self.suppressed += 1;
            return None;
        }
        self.tokens -= 1;
        Some(std::mem::take(&mut self.suppressed))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_passes_then_one_a_second() {
        let start = Instant::now();
        let mut limit = RateLimit::new(start);
        let passed = (0..1000).filter(|_| limit.pass(start).is_some()).count();
        assert_eq!(passed, 10);
        assert_eq!(limit.pass(start + Duration::from_millis(999)), None);
        assert_eq!(limit.pass(start + Duration::from_secs(1)), Some(991));
        assert_eq!(limit.pass(start + Duration::from_secs(1)), None);
    }
}
