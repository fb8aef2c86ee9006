//! Where packets' ways through a list end: what each rule's bit stands for.

use crate::burst::BURST;

use super::compile::OfFamily;
use super::rows::{PER_ROW, Row, Wide, set};
use super::rule::{Action, Rule};

/// Where each packet's way through the list ended: the counter of the rule, or of the implicit end; the highest bit says
/// that it is denied.
pub type Ends = [u16; BURST];

/// The bit of [`Ends`] for what is denied.
pub const DENIED: u16 = 1 << 15;

/// What [`Ends`] says of each rule, and of the end.
pub(super) fn ends(of: &OfFamily<'_>, rules: &[Rule], counters: &[u16]) -> Box<[[u16; PER_ROW]]> {
    let mut ends = vec![[DENIED; PER_ROW]; of.lines];
    let numbers = of.numbers.iter().copied().chain([rules.len()]);
    for (number, end) in numbers.zip(ends.as_flattened_mut()) {
        let permits = rules.get(number).is_some_and(|rule| rule.action != Action::Deny);
        *end = counters.get(number).copied().unwrap_or(0) | if permits { 0 } else { DENIED };
    }
    ends.into()
}

/// The bits of the rules that only count, if there are any.
pub(super) fn counts(of: &OfFamily<'_>) -> Option<Wide> {
    let mut counts = of.row(|rule| rule.action == Action::Count);
    set(&mut counts, of.rules.len(), false);
    counts.iter().any(|row| *row != Row::NONE).then_some(counts)
}

/// Those of the first `len` that are denied, as bits.
#[inline(always)]
pub(super) fn denied<const WIDE: bool>(ends: &Ends, len: usize) -> u64 {
    let these = u64::MAX.checked_shr((BURST - len) as u32).unwrap_or(0);
    #[cfg(all(target_arch = "x86_64", not(miri)))]
    if WIDE {
        /// The highest bit of each.
        #[inline]
        #[target_feature(enable = "avx512f,avx512bw")]
        fn highest(ends: &Ends) -> u64 {
            use std::arch::x86_64::{__m512i, _mm512_movepi16_mask};
            // SAFETY: two vectors are as large as the array, and any bits are right for either.
            #[allow(unsafe_code)]
            let [low, high] = unsafe { std::mem::transmute::<Ends, [__m512i; 2]>(*ends) };
            u64::from(_mm512_movepi16_mask(low)) | u64::from(_mm512_movepi16_mask(high)) << 32
        }
        // SAFETY: `WIDE` says that the processor has the features.
        #[allow(unsafe_code)]
        return unsafe { highest(ends) } & these;
    }
    ends.iter().enumerate().fold(0, |denied, (at, end)| denied | u64::from(end >> 15) << at) & these
}
