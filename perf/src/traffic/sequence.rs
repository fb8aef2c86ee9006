//! The order of one flow: what is new, what is late, and what came before.

/// What a sequence number is, seen against those that came before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// Higher than all before.
    Next,
    /// New, but one that was sent later has come already: reordered by RFC 4737. The highest number before it is
    /// higher by this much.
    Late(u64),
    /// It came before.
    Duplicate,
    /// So late that the window does not know it any more. It is not counted as received.
    Stale,
}

/// The numbers of one flow that have come, exactly for the last `64 * words` of them.
///
/// The bits are the caller's: one slice of words (a power of two) for each flow.
#[derive(Clone, Copy, Debug, Default)]
pub struct Sequence {
    /// One more than the highest number so far.
    next: u64,
}

impl Sequence {
    /// Notes a number.
    #[inline]
    pub fn note(&mut self, seq: u64, words: &mut [u64]) -> Order {
        let window = words.len() as u64 * 64;
        let mask = words.len() - 1;
        let (word, bit) = ((seq / 64) as usize & mask, 1 << (seq % 64));
        if seq >= self.next {
            self.forget(seq, words);
            words[word] |= bit;
            self.next = seq + 1;
            return Order::Next;
        }
        // The highest number is `next - 1`. Its word is partly used, so the window ends a word short of the whole.
        if self.next - seq > window - 64 {
            return Order::Stale;
        }
        if words[word] & bit != 0 {
            return Order::Duplicate;
        }
        words[word] |= bit;
        Order::Late(self.next - 1 - seq)
    }

    /// Clears the words that the window moves into when `seq` becomes the highest number.
    #[inline]
    fn forget(self, seq: u64, words: &mut [u64]) {
        // Before the first number the flow's words are all zero.
        let Some(highest) = self.next.checked_sub(1) else { return };
        let (from, to) = (highest / 64, seq / 64);
        if from == to {
            return;
        }
        let mask = words.len() - 1;
        let steps = (to - from).min(words.len() as u64);
        for step in 0..steps {
            words[(to - step) as usize & mask] = 0;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use proptest::prelude::*;

    proptest! {
        /// Against a model that remembers everything.
        #[test]
        fn as_a_set_would_say(steps in prop::collection::vec((0_u32..4, 0_u64..300), 1..400)) {
            let mut words = [0_u64; 4];
            let mut sequence = Sequence::default();
            let mut seen = BTreeSet::new();
            let mut at = 0_u64;
            for (kind, far) in steps {
                let seq = match kind {
                    0 | 1 => at + far % 3,
                    2 => at + far,
                    _ => at.saturating_sub(far),
                };
                let next = seen.last().map_or(0, |highest: &u64| highest + 1);
                let expected = if seq >= next {
                    Order::Next
                } else if next - seq > 192 {
                    Order::Stale
                } else if seen.contains(&seq) {
                    Order::Duplicate
                } else {
                    Order::Late(next - 1 - seq)
                };
                prop_assert_eq!(sequence.note(seq, &mut words), expected, "{} after {}", seq, next);
                if expected != Order::Stale {
                    seen.insert(seq);
                }
                at = at.max(seq);
            }
        }
    }
}
