//! The IPv6 look-up of a burst: all addresses go down one level of their trees, then those that are not done the
//! next. No address waits for another's memory, and no branch depends on how deep a tree is.
//!
//! The portable search reads a node's addresses one 64-bit word at a time; with AVX-512 one load reads them all.

use super::shape6::{Node, escape, is_escape, key, node, rank, root, step};
use super::v6::{BATCH, Fib6};
use crate::ids::GroupId;

/// The look-up with a given way to rank a key in a node.
macro_rules! search {
    ($fib:expr, $addrs:expr, $out:expr, $rank:path) => {{
        let (fib, addrs, out): (&Fib6, &[u128], &mut [GroupId]) = ($fib, $addrs, $out);
        let count = addrs.len().min(out.len()).min(BATCH);
        let (addrs, out) = (&addrs[..count], &mut out[..count]);
        let (heads, words) = (fib.pages.heads(), fib.pages.words());
        let (mut nodes, mut keys, mut left) = ([node(0); BATCH], [0; BATCH], [0u8; BATCH]);
        loop {
            let seen = fib.default.seen();
            for (at, &addr) in addrs.iter().enumerate() {
                nodes[at] = node(root(heads, words, addr));
                keys[at] = key(addr, 0);
                left[at] = at as u8;
                prefetch(words, nodes[at]);
            }
            let mut waiting = count;
            while waiting > 0 {
                let mut next = 0;
                for turn in 0..waiting {
                    let at = usize::from(left[turn]) % BATCH;
                    let node = nodes[at];
                    let found = step(words, node, $rank(words, node, keys[at]));
                    if !node.is_fork() && is_escape(found) {
                        out[at] = seen.group(escape(words, node, found, addrs[at], 0));
                        continue;
                    }
                    // Both are written for leaf and fork alike; what was wrong for a fork is written again.
                    out[at] = seen.group(found);
                    nodes[at] = self::node(found);
                    left[next] = at as u8;
                    next += usize::from(node.is_fork());
                    if node.is_fork() {
                        prefetch(words, self::node(found));
                    }
                }
                waiting = next;
            }
            if fib.default.held(seen) {
                return;
            }
        }
    }};
}

/// Asks for a node's memory: its first line, and the line of its last value or handle.
#[inline(always)]
fn prefetch(words: &[std::sync::atomic::AtomicU64], node: Node) {
    let first = words.as_ptr().wrapping_add(node.offset());
    super::prefetch(first);
    super::prefetch(first.wrapping_add(node.lasts() as usize * 3 / 4));
}

#[inline(always)]
fn portable(fib: &Fib6, addrs: &[u128], out: &mut [GroupId]) {
    search!(fib, addrs, out, rank)
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

    use std::arch::asm;
    use std::arch::x86_64::{__m512i, _mm512_cmplt_epu32_mask, _mm512_set1_epi32};
    use std::sync::atomic::AtomicU64;

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
        search!(fib, addrs, out, rank_avx512)
    }

    /// The same as [`rank`].
    #[inline]
    #[target_feature(enable = "avx512f,popcnt,bmi1,bmi2")]
    fn rank_avx512(words: &[AtomicU64], node: Node, key: u32) -> u32 {
        let line = &words[node.offset()..node.offset() + 8];
        let lasts: __m512i;
        // SAFETY: reads the 64 bytes of the slice. The writer may store to some of these words meanwhile; Rust's
        // rules forbid a plain wide load then, so this is assembly, which does no more than eight relaxed atomic
        // loads of the words in some order could: the processor reads each aligned 8 bytes as a whole.
        unsafe {
            asm!(
                "vmovdqu64 {lasts}, [{line}]",
                lasts = out(zmm_reg) lasts,
                line = in(reg) line.as_ptr(),
                options(nostack, preserves_flags, readonly),
            );
        }
        let below = _mm512_cmplt_epu32_mask(lasts, _mm512_set1_epi32(key.cast_signed()));
        (u32::from(below) & ((1 << node.lasts()) - 1)).count_ones()
    }

    #[cfg(test)]
    mod tests {
        use proptest::prelude::*;

        use super::*;

        proptest! {
            #[test]
            fn the_wide_rank_is_the_portable_one(
                words in prop::collection::vec(any::<u64>(), 8),
                lasts in 0u32..16,
                keys in prop::collection::vec(any::<u32>(), 8),
            ) {
                if !is_x86_feature_detected!("avx512f") {
                    return Ok(());
                }
                let node = node(lasts << 1);
                let near = words.iter().flat_map(|&word| [word as u32, (word as u32).wrapping_add(1)]);
                let keys: Vec<u32> = keys.into_iter().chain(near).chain([0, u32::MAX]).collect();
                let words: Vec<AtomicU64> = words.into_iter().map(AtomicU64::new).collect();
                for key in keys {
                    // SAFETY: the processor has the features.
                    let wide = unsafe { rank_avx512(&words, node, key) };
                    prop_assert_eq!(wide, rank(&words, node, key));
                }
            }
        }
    }
}
