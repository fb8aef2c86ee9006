//! What one worker counts of each rule.

use crate::counters::Counter;

use super::MAX_COUNTERS;

/// Packets and bytes of one rule.
#[derive(Debug, Default)]
pub struct RuleCounter {
    /// Packets that it matched.
    pub packets: Counter,
    /// Bytes of their IP packets.
    pub bytes: Counter,
}

/// One worker's counters for the rules of all lists. A rule has the same one for as long as it stands, through reloads;
/// control says which (the counters that a list is compiled with).
#[derive(Debug)]
pub struct RuleCounters(Box<[RuleCounter]>);

impl Default for RuleCounters {
    fn default() -> Self {
        Self((0..MAX_COUNTERS).map(|_| RuleCounter::default()).collect())
    }
}

impl RuleCounters {
    /// One of them; the index is taken modulo [`MAX_COUNTERS`].
    #[inline(always)]
    pub fn get(&self, at: u16) -> &RuleCounter {
        &self.0[usize::from(at) % MAX_COUNTERS]
    }

    /// Counts packets.
    #[inline(always)]
    pub fn add(&self, at: u16, packets: u64, bytes: u64) {
        let counter = self.get(at);
        counter.packets.add(packets);
        counter.bytes.add(bytes);
    }
}
