//! The IPv6 look-up of a burst, in short passes, each of which does one thing for all addresses: the root, the forks
//! level by level for those that are at one, then the leaf of each. The processor sees far enough ahead for the whole
//! burst to wait for memory together, and no branch depends on an address.
//!
//! What differs by processor is how a key is ranked in a node: by halving, or against all words of a line at once.

use std::sync::atomic::{AtomicU32, Ordering};

use super::node6::{BLOCKS, FORK_LINKS, Top, escape, is_escape, key, node, top, tops};
use super::routes::Value;
use super::v6::{BATCH, Fib6};
use super::view6::{Leaf, View};
use crate::ids::GroupId;

/// The look-up with a given way to rank a key in a node.
macro_rules! search {
    ($fib:expr, $addrs:expr, $out:expr, $cell:path, $child:path, $run:path) => {{
        let (fib, addrs, out): (&Fib6, _, _) = ($fib, $addrs, $out);
        let (heads, tops, view) = (fib.pages.heads(), tops(&fib.pages), View::of(&fib.pages));
        let (mut keys, mut nodes, mut found) = ([0u32; BATCH], [node(0); BATCH], [0u16; BATCH]);
        // Who is at a fork: addresses by their numbers.
        let mut forks = [0u8; BATCH];
        loop {
            let seen = fib.default.seen();
            let mut waiting = 0;
            for (at, ((&addr, key), next)) in addrs.iter().zip(&mut keys).zip(&mut nodes).enumerate() {
                let (high, top) = top(tops, addr);
                *next = node(heads[$cell(top, high)].load(Ordering::Acquire));
                *key = self::key(addr, 0);
                view.prefetch(*next);
                forks[waiting & (BATCH - 1)] = at as u8;
                waiting += next.is_fork();
            }
            while waiting > 0 {
                let mut still = 0;
                for turn in 0..waiting.min(BATCH) {
                    let at = usize::from(forks[turn]) & (BATCH - 1);
                    let line = view.line(nodes[at]);
                    let next = node(
                        line[FORK_LINKS + ($child(line, keys[at]) & 7) as usize].load(Ordering::Acquire),
                    );
                    nodes[at] = next;
                    view.prefetch(next);
                    forks[still & (BATCH - 1)] = at as u8;
                    still += next.is_fork();
                }
                waiting = still;
            }
            for ((&node, &key), found) in nodes.iter().zip(&keys).zip(&mut found).take(addrs.len()) {
                let leaf = Leaf::of(node);
                *found = view.run(node, leaf.values(), $run(view.line(node), &leaf, key));
            }
            let mut any = 0;
            for (group, &found) in out.iter_mut().zip(&found) {
                *group = seen.group(Value::from(found));
                any |= found;
            }
            if is_escape(any) {
                for (at, (&addr, group)) in addrs.iter().zip(&mut *out).enumerate() {
                    if is_escape(found[at]) {
                        *group = seen.group(escape(&heads[BLOCKS..], nodes[at], found[at], addr, 0));
                    }
                }
            }
            if fib.default.held(seen) {
                return;
            }
        }
    }};
}

/// Calls the look-up with arrays where the burst is full, which is what matters: as its length is known, its loops
/// are unrolled.
macro_rules! full_or_not {
    ($fib:expr, $addrs:expr, $out:expr, $($how:path),+) => {{
        match (<&[u128; BATCH]>::try_from($addrs), <&mut [GroupId; BATCH]>::try_from(&mut *$out)) {
            (Ok(addrs), Ok(out)) => search!($fib, addrs, out, $($how),+),
            _ => {
                let count = $addrs.len().min($out.len()).min(BATCH);
                search!($fib, &$addrs[..count], &mut $out[..count], $($how),+);
            }
        }
    }};
}

/// The child of a fork that `key` belongs to: by halving, without a branch.
#[inline(always)]
fn child(line: &[AtomicU32; 16], key: u32) -> u32 {
    let mut below = 0;
    for step in [4, 2, 1] {
        below += u32::from(line[(below + step - 1) as usize & 15].load(Ordering::Relaxed) < key) * step;
    }
    below
}

/// The run of a leaf that `key` belongs to, alike.
#[allow(clippy::needless_bitwise_bool)] // A lazy operator is a branch.
#[inline(always)]
fn run(line: &[AtomicU32; 16], leaf: &Leaf, key: u32) -> u32 {
    let (first, lasts) = (leaf.lasts() & 0xFF, leaf.lasts() >> 8 & 0xFF);
    let mut below = 0;
    for step in [8, 4, 2, 1] {
        let probe = below + step;
        let last = line[(first + probe - 1) as usize & 15].load(Ordering::Relaxed);
        below += u32::from((probe <= lasts) & (last < key)) * step;
    }
    below
}

#[inline(always)]
fn portable(fib: &Fib6, addrs: &[u128], out: &mut [GroupId]) {
    full_or_not!(fib, addrs, out, Top::cell, child, run);
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
    //!
    //! The words of a line are read by one wide load. The writer may store to some of them meanwhile, and Rust's rules
    //! forbid a plain wide load then; so it is assembly, which does no more than sixteen relaxed atomic loads in some
    //! order could: the processor reads each aligned word as a whole.
    #![allow(unsafe_code)] // Calls that need a processor feature, after a check for it; loads by assembly.
    #![allow(clippy::wildcard_imports)] // The look-up is one macro, and this module two more uses of it.

    use std::arch::asm;
    use std::arch::x86_64::{
        __m256i, __mmask8, __mmask16, _bextr2_u32, _bextr2_u64, _mm256_castsi256_ps, _mm256_cmpeq_epi32,
        _mm256_max_epu32, _mm256_movemask_ps, _mm256_set1_epi32, _mm512_set1_epi32,
    };

    use super::*;

    #[inline]
    pub(in super::super) fn batch(fib: &Fib6, addrs: &[u128], out: &mut [GroupId]) {
        let bits = is_x86_feature_detected!("popcnt")
            && is_x86_feature_detected!("bmi1")
            && is_x86_feature_detected!("bmi2")
            && is_x86_feature_detected!("avx2");
        if bits && is_x86_feature_detected!("avx512f") && is_x86_feature_detected!("avx512vl") {
            // SAFETY: the processor has the features that the function is compiled with.
            unsafe { with_avx512(fib, addrs, out) }
        } else if bits {
            // SAFETY: as above.
            unsafe { with_avx2(fib, addrs, out) }
        } else {
            portable(fib, addrs, out);
        }
    }

    #[target_feature(enable = "avx512f,avx512vl,avx2,popcnt,bmi1,bmi2")]
    fn with_avx512(fib: &Fib6, addrs: &[u128], out: &mut [GroupId]) {
        full_or_not!(fib, addrs, out, cell_bmi, child_avx512, run_avx512);
    }

    #[target_feature(enable = "avx2,popcnt,bmi1,bmi2")]
    fn with_avx2(fib: &Fib6, addrs: &[u128], out: &mut [GroupId]) {
        full_or_not!(fib, addrs, out, cell_bmi, child_avx2, run_avx2);
    }

    /// The same as [`Top::cell`].
    #[inline]
    #[target_feature(enable = "bmi1")]
    fn cell_bmi(top: Top, high: u64) -> usize {
        top.place() + _bextr2_u64(high, top.0) as usize
    }

    /// The same as [`child`].
    #[inline]
    #[target_feature(enable = "avx512f,avx512vl,avx2,popcnt,bmi1,bmi2")]
    fn child_avx512(line: &[AtomicU32; 16], key: u32) -> u32 {
        let below: __mmask8;
        // SAFETY: reads the first half of the line. Why it may: see the module's documentation.
        unsafe {
            asm!(
                "vpcmpnleud {below}, {key}, ymmword ptr [{line}]",
                below = out(kreg) below,
                key = in(ymm_reg) _mm256_set1_epi32(key.cast_signed()),
                line = in(reg) line.as_ptr(),
                options(nostack, preserves_flags, readonly, pure),
            );
        }
        u32::from(below).count_ones()
    }

    /// The same as [`run`].
    #[inline]
    #[target_feature(enable = "avx512f,avx512vl,avx2,popcnt,bmi1,bmi2")]
    fn run_avx512(line: &[AtomicU32; 16], leaf: &Leaf, key: u32) -> u32 {
        let below: __mmask16;
        // SAFETY: reads the line. Why it may: see the module's documentation.
        unsafe {
            asm!(
                "vpcmpnleud {below}, {key}, zmmword ptr [{line}]",
                below = out(kreg) below,
                key = in(zmm_reg) _mm512_set1_epi32(key.cast_signed()),
                line = in(reg) line.as_ptr(),
                options(nostack, preserves_flags, readonly, pure),
            );
        }
        _bextr2_u32(u32::from(below), leaf.lasts()).count_ones()
    }

    /// Which of the eight words at `at` are below `key`, one bit each.
    ///
    /// # Safety
    /// They are words of a line.
    #[inline]
    #[target_feature(enable = "avx2")]
    unsafe fn below_avx2(at: *const AtomicU32, key: u32) -> u32 {
        let lasts: __m256i;
        // SAFETY: reads what the caller vouches for. Why it may: see the module's documentation.
        unsafe {
            asm!(
                "vmovdqu {lasts}, ymmword ptr [{at}]",
                lasts = out(ymm_reg) lasts,
                at = in(reg) at,
                options(nostack, preserves_flags, readonly, pure),
            );
        }
        let not_below =
            _mm256_cmpeq_epi32(_mm256_max_epu32(lasts, _mm256_set1_epi32(key.cast_signed())), lasts);
        _mm256_movemask_ps(_mm256_castsi256_ps(not_below)).cast_unsigned() ^ 0xFF
    }

    /// The same as [`child`].
    #[inline]
    #[target_feature(enable = "avx2,popcnt,bmi1,bmi2")]
    fn child_avx2(line: &[AtomicU32; 16], key: u32) -> u32 {
        // SAFETY: the first half of the line.
        unsafe { below_avx2(line.as_ptr(), key) }.count_ones()
    }

    /// The same as [`run`].
    #[inline]
    #[target_feature(enable = "avx2,popcnt,bmi1,bmi2")]
    fn run_avx2(line: &[AtomicU32; 16], leaf: &Leaf, key: u32) -> u32 {
        // SAFETY: the halves of the line.
        let below = unsafe { below_avx2(line.as_ptr(), key) | below_avx2(line.as_ptr().add(8), key) << 8 };
        _bextr2_u32(below, leaf.lasts()).count_ones()
    }

    #[cfg(test)]
    mod tests {
        use std::sync::Arc;

        use proptest::prelude::*;

        use super::super::super::v6::Fib6Writer;
        use super::*;
        use crate::grace::NoReaders;

        proptest! {
            #[test]
            fn wide_and_portable_look_ups_agree(
                routes in prop::collection::vec(
                    (0u128..4096, 20u8..=128, prop::sample::select(vec![3u32, 9, 11, 0x7FFE, 0x7FFF, 1 << 20])),
                    0..400,
                ),
                addrs in prop::collection::vec((0u128..4096, any::<u128>()), 0..=BATCH),
            ) {
                // Close together, so that trees grow deep.
                let spread = |n: u128| 0x2001_0db8 << 96 | n << 76 | (n * 0x9E37_79B9_7F4A_7C15) & ((1 << 76) - 1);
                let mut writer = Fib6Writer::new(Arc::new(NoReaders)).unwrap();
                for &(n, len, group) in &routes {
                    let mask = u128::MAX << (128 - u32::from(len));
                    writer.insert(spread(n) & mask, len, GroupId(group)).unwrap();
                }
                let fib = writer.reader();
                let addrs: Vec<u128> = addrs.iter().map(|&(n, low)| spread(n) ^ low >> (n % 128)).collect();
                let one_by_one: Vec<GroupId> = addrs.iter().map(|&addr| fib.lookup(addr)).collect();
                let mut out = vec![GroupId(u32::MAX); addrs.len()];
                portable(&fib, &addrs, &mut out);
                prop_assert_eq!(&out, &one_by_one);
                if is_x86_feature_detected!("avx2") && is_x86_feature_detected!("bmi2") {
                    out.fill(GroupId(u32::MAX));
                    // SAFETY: the processor has the features; all that have these have the others.
                    unsafe { with_avx2(&fib, &addrs, &mut out) };
                    prop_assert_eq!(&out, &one_by_one);
                }
                if is_x86_feature_detected!("avx512f") && is_x86_feature_detected!("avx512vl") {
                    out.fill(GroupId(u32::MAX));
                    // SAFETY: as above.
                    unsafe { with_avx512(&fib, &addrs, &mut out) };
                    prop_assert_eq!(&out, &one_by_one);
                }
            }
        }
    }
}
