//! The IPv6 look-up of a burst: all addresses go down one level of their trees, then those that are not done the
//! next. No address waits for another's memory, and no branch depends on how deep a tree is.
//!
//! The portable search reads a node's addresses one 64-bit word at a time; with AVX-512 one load reads them all.

use std::sync::atomic::{AtomicU32, Ordering};

use super::node6::{BLOCKS, Node, count, escape, is_escape, key, line, node, rank, root_cell, step};
use super::v6::{BATCH, Fib6};
use crate::ids::GroupId;

/// The look-up with a given way to rank a key in a node.
macro_rules! search {
    ($fib:expr, $addrs:expr, $out:expr, $rank:path) => {{
        let (fib, addrs, out): (&Fib6, &[u128], &mut [GroupId]) = ($fib, $addrs, $out);
        let count = addrs.len().min(out.len()).min(BATCH);
        let (addrs, out) = (&addrs[..count], &mut out[..count]);
        let heads = fib.pages.heads();
        let cells = &heads[BLOCKS..];
        // What to read next, and who is not done: addresses by their numbers.
        let (mut places, mut nodes, mut left) = ([0u32; BATCH], [node(0); BATCH], [0u8; BATCH]);
        loop {
            let seen = fib.default.seen();
            // Three passes, each of which asks for what the next one reads: that way more of the burst waits for
            // memory at a time than the processor would see ahead.
            for (&addr, place) in addrs.iter().zip(&mut places) {
                *place = root_cell(heads, addr) as u32;
                crate::fib::prefetch(heads.as_ptr().wrapping_add(*place as usize));
            }
            for (&place, next) in places[..count].iter().zip(&mut nodes) {
                *next = node(heads[place as usize].load(Ordering::Acquire));
                prefetch(cells, *next);
            }
            let mut waiting = 0;
            for (at, (&addr, out)) in addrs.iter().zip(&mut *out).enumerate() {
                let node = nodes[at & (BATCH - 1)];
                let mut found = step(cells, node, $rank(cells, node, key(addr, 0)));
                if is_escape(node, found) {
                    found = escape(cells, node, found, addr, 0);
                }
                // For a fork this is wrong, and put right further down. No branch: depths cannot be foreseen.
                *out = seen.group(found);
                nodes[at & (BATCH - 1)] = self::node(found);
                left[waiting & (BATCH - 1)] = at as u8;
                waiting += node.is_fork();
            }
            while waiting > 0 {
                for &at in &left[..waiting.min(BATCH)] {
                    prefetch(cells, nodes[usize::from(at) & (BATCH - 1)]);
                }
                let mut still = 0;
                for turn in 0..waiting {
                    let at = usize::from(left[turn & (BATCH - 1)]) & (BATCH - 1);
                    let (Some(&addr), Some(out)) = (addrs.get(at), out.get_mut(at)) else { break };
                    let node = nodes[at];
                    let mut found = step(cells, node, $rank(cells, node, key(addr, 0)));
                    if is_escape(node, found) {
                        found = escape(cells, node, found, addr, 0);
                    }
                    *out = seen.group(found);
                    nodes[at] = self::node(found);
                    left[still & (BATCH - 1)] = at as u8;
                    still += node.is_fork();
                }
                waiting = still;
            }
            if fib.default.held(seen) {
                return;
            }
        }
    }};
}

/// Asks for a node's memory: its first line, and a fork's or a long leaf's second.
#[inline(always)]
fn prefetch(cells: &[AtomicU32], node: Node) {
    let first = cells.as_ptr().wrapping_add(node.at());
    super::prefetch(first);
    super::prefetch(first.wrapping_add(node.lasts() as usize * 3 / 2));
}

#[inline(always)]
fn portable(fib: &Fib6, addrs: &[u128], out: &mut [GroupId]) {
    search!(fib, addrs, out, rank);
}

#[cfg(not(all(target_arch = "x86_64", not(miri))))]
pub(super) fn batch(fib: &Fib6, addrs: &[u128], out: &mut [GroupId]) {
    portable(fib, addrs, out);
}

#[cfg(all(target_arch = "x86_64", not(miri)))]
pub(super) use x86::batch;

#[cfg(all(target_arch = "x86_64", not(miri)))]
mod x86 {
    //! The same look-up with wider instructions, where the processor has them.
    #![allow(unsafe_code)] // Calls that need a processor feature, after a check for it; one load by assembly.
    #![allow(clippy::wildcard_imports)] // The look-up is one macro, and this module one more use of it.

    use std::arch::asm;
    use std::arch::x86_64::{__m512i, _mm512_cmplt_epu32_mask, _mm512_set1_epi32};
    use std::sync::atomic::AtomicU32;

    use super::*;

    #[inline]
    pub(in super::super) fn batch(fib: &Fib6, addrs: &[u128], out: &mut [GroupId]) {
        if is_x86_feature_detected!("avx512f")
            && is_x86_feature_detected!("popcnt")
            && is_x86_feature_detected!("bmi2")
        {
            // SAFETY: the processor has the features that the function is compiled with.
            unsafe { with_avx512(fib, addrs, out) }
        } else {
            portable(fib, addrs, out);
        }
    }

    #[target_feature(enable = "avx512f,popcnt,bmi1,bmi2")]
    fn with_avx512(fib: &Fib6, addrs: &[u128], out: &mut [GroupId]) {
        search!(fib, addrs, out, rank_avx512);
    }

    /// The same as [`rank`].
    #[inline]
    #[target_feature(enable = "avx512f,popcnt,bmi1,bmi2")]
    fn rank_avx512(cells: &[AtomicU32], node: Node, key: u32) -> u32 {
        let line = line(cells, node);
        let lasts: __m512i;
        // SAFETY: reads the 64 bytes of the slice. The writer may store to some of these words meanwhile; Rust's
        // rules forbid a plain wide load then, so this is assembly, which does no more than sixteen relaxed atomic
        // loads in some order could: the processor reads each aligned word as a whole.
        unsafe {
            asm!(
                "vmovdqu64 {lasts}, zmmword ptr [{line}]",
                lasts = out(zmm_reg) lasts,
                line = in(reg) line.as_ptr(),
                options(nostack, preserves_flags, readonly),
            );
        }
        let below = _mm512_cmplt_epu32_mask(lasts, _mm512_set1_epi32(key.cast_signed()));
        count(u32::from(below), node)
    }

    #[cfg(test)]
    mod tests {
        use proptest::prelude::*;

        use super::*;

        proptest! {
            #[test]
            fn the_wide_rank_is_the_portable_one(
                words in prop::collection::vec(any::<u32>(), 16),
                (place, lasts) in (0u32..8).prop_flat_map(|place| (Just(place), 0..16 - place * 2)),
                keys in prop::collection::vec(any::<u32>(), 8),
            ) {
                if !is_x86_feature_detected!("avx512f") {
                    return Ok(());
                }
                let node = node(place << 5 | lasts << 1);
                let near = words.iter().flat_map(|&word| [word, word.wrapping_add(1)]);
                let keys: Vec<u32> = keys.into_iter().chain(near).chain([0, u32::MAX]).collect();
                let words: Vec<AtomicU32> = words.into_iter().map(AtomicU32::new).collect();
                for key in keys {
                    // SAFETY: the processor has the features.
                    let wide = unsafe { rank_avx512(&words, node, key) };
                    prop_assert_eq!(wide, rank(&words, node, key));
                }
            }
        }
    }
}
