//! The same look-up with wider instructions, where the processor has them.
//!
//! The words of a line are read by one wide load. The writer may store to some of them meanwhile, and Rust's rules
//! forbid a plain wide load then; so it is assembly, which does no more than sixteen relaxed atomic loads in some
//! order could: the processor reads each aligned word as a whole.
#![allow(unsafe_code)] // Calls that need a processor feature, after a check for it; loads by assembly.
#![allow(clippy::wildcard_imports)] // The look-up is one macro, and this module two more uses of it.

use std::arch::asm;
use std::arch::x86_64::*;
use std::sync::atomic::AtomicU32;

use super::super::node6::STARTS;
use super::*;

#[inline]
pub(in super::super) fn batch(fib: &Fib6, addrs: &[u128], out: &mut [GroupId]) {
    if has_avx512() {
        // SAFETY: the processor has the features that the function is compiled with.
        unsafe { with_avx512(fib, addrs, out) }
    } else if has_avx2() {
        // SAFETY: as above.
        unsafe { with_avx2(fib, addrs, out) }
    } else {
        portable(fib, addrs, out);
    }
}

fn has_avx2() -> bool {
    is_x86_feature_detected!("popcnt")
        && is_x86_feature_detected!("bmi1")
        && is_x86_feature_detected!("bmi2")
        && is_x86_feature_detected!("avx2")
}

fn has_avx512() -> bool {
    has_avx2()
        && is_x86_feature_detected!("avx512f")
        && is_x86_feature_detected!("avx512bw")
        && is_x86_feature_detected!("avx512vl")
        && is_x86_feature_detected!("avx512vpopcntdq")
}

#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vpopcntdq,avx2,popcnt,bmi1,bmi2")]
fn with_avx512(fib: &Fib6, addrs: &[u128], out: &mut [GroupId]) {
    full_or_not!(fib, addrs, out, split_avx512, entries_avx512, take_avx512, below_avx512, values_avx512);
}

#[target_feature(enable = "avx2,popcnt,bmi1,bmi2")]
fn with_avx2(fib: &Fib6, addrs: &[u128], out: &mut [GroupId]) {
    full_or_not!(fib, addrs, out, split, entries, take, below_avx2, values);
}

/// Sixteen words of the burst, from a multiple of 16 on.
#[inline]
#[target_feature(enable = "avx512f")]
fn sixteen(lanes: &Lanes, from: usize) -> __m512i {
    let words: &[u32; GROUP] = lanes.0[from..].first_chunk().unwrap_or(&[0; GROUP]);
    // SAFETY: reads the array.
    unsafe { _mm512_loadu_si512(words.as_ptr().cast()) }
}

/// Writes them.
#[inline]
#[target_feature(enable = "avx512f")]
fn put(lanes: &mut Lanes, from: usize, words: __m512i) {
    if let Some(lanes) = lanes.0[from..].first_chunk_mut::<GROUP>() {
        // SAFETY: writes the array.
        unsafe { _mm512_storeu_si512(lanes.as_mut_ptr().cast(), words) }
    }
}

#[inline]
#[target_feature(enable = "avx512f")]
fn all(word: u32) -> __m512i {
    _mm512_set1_epi32(word.cast_signed())
}

/// The same as [`split`].
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl")]
fn split_avx512(addrs: &[u128; BATCH], seconds: &mut Lanes, keys: &mut Lanes, lanes: usize) {
    // How far the bits are from the end of the upper half of an address.
    const FIRST: u32 = 64 - STARTS[0] as u32;
    const KEY: u32 = 32 - STARTS[0] as u32;
    // The upper halves of eight addresses.
    let upper = _mm512_setr_epi64(1, 3, 5, 7, 9, 11, 13, 15);
    let second = _mm256_set1_epi32((MIDDLE as u32 - 1).cast_signed());
    #[allow(clippy::cast_ptr_alignment)] // The loads ask for no alignment.
    for (addrs, from) in addrs.as_chunks::<8>().0.iter().zip((0..lanes).step_by(8)) {
        let at = addrs.as_ptr().cast::<__m512i>();
        // SAFETY: reads the eight addresses.
        let (low, high) = unsafe { (_mm512_loadu_si512(at), _mm512_loadu_si512(at.add(1))) };
        let halves = _mm512_permutex2var_epi64(low, upper, high);
        let first = _mm256_and_si256(_mm512_cvtepi64_epi32(_mm512_srli_epi64::<FIRST>(halves)), second);
        let key = _mm512_cvtepi64_epi32(_mm512_srli_epi64::<KEY>(halves));
        for (lanes, words) in [(&mut *seconds, first), (&mut *keys, key)] {
            if let Some(lanes) = lanes.0[from..].first_chunk_mut::<8>() {
                // SAFETY: writes the array.
                unsafe { _mm256_storeu_si256(lanes.as_mut_ptr().cast(), words) }
            }
        }
    }
}

/// What a table of 64 entries has for the code of each handle.
#[inline]
#[target_feature(enable = "avx512f,avx512bw")]
fn by_code(table: &'static [u16; 64], nodes: __m512i) -> __m512i {
    // The lower half of each 32-bit word.
    const LOWER: __mmask32 = 0x5555_5555;
    // SAFETY: the halves of an array of 128 bytes.
    let (low, high) = unsafe {
        (_mm512_loadu_si512(table[..32].as_ptr().cast()), _mm512_loadu_si512(table[32..].as_ptr().cast()))
    };
    // The instruction looks at the lowest six bits of each index.
    _mm512_maskz_permutex2var_epi16(LOWER, low, nodes, high)
}

/// The same as [`entries`].
#[inline]
#[target_feature(enable = "avx512f,avx512bw")]
fn entries_avx512(nodes: &Lanes, keys: &Lanes, places: &mut Lanes, mask: u32, lanes: usize) {
    static SHIFTS: [u16; 64] = {
        let mut shifts = [0; 64];
        let mut at = 0;
        while at < 64 {
            shifts[at] = BEHIND[at] as u16;
            at += 1;
        }
        shifts
    };
    for from in (0..lanes).step_by(GROUP) {
        let nodes = sixteen(nodes, from);
        let index = _mm512_srlv_epi32(sixteen(keys, from), by_code(&SHIFTS, nodes));
        let place = _mm512_add_epi32(_mm512_andnot_si512(all(CODE), nodes), _mm512_slli_epi32::<2>(index));
        put(places, from, _mm512_and_si512(place, all(mask & !3)));
    }
}

/// The same as [`take`].
#[inline]
#[target_feature(enable = "avx512f,avx512bw")]
fn take_avx512(nodes: &mut Lanes, read: &mut Lanes, mask: u32, lanes: usize) -> u64 {
    let is_table = |nodes| _mm512_cmpge_epu32_mask(_mm512_and_si512(nodes, all(CODE)), all(TABLE));
    let mut tables = 0;
    for from in (0..lanes).step_by(GROUP) {
        let old = sixteen(nodes, from);
        let new = _mm512_mask_mov_epi32(old, is_table(old), sixteen(read, from));
        tables |= u64::from(is_table(new)) << from;
        put(nodes, from, new);
        put(read, from, _mm512_and_si512(new, all(mask & !CODE)));
    }
    tables
}

/// The same as [`below`].
#[inline]
#[target_feature(enable = "avx512f")]
fn below_avx512(view: View<'_>, lines: &Lanes, keys: &Lanes, found: &mut Lanes, lanes: usize) {
    for at in (0..lanes).step_by(4) {
        // SAFETY: reads lines of the blocks, as `take` has cut their places with the mask, left no bits of the code,
        // and lanes are whole groups. Why it may: see the module's documentation.
        unsafe {
            asm!(
                "mov {a:e}, dword ptr [{lines} + {at} * 4]",
                "mov {b:e}, dword ptr [{lines} + {at} * 4 + 4]",
                "mov {c:e}, dword ptr [{lines} + {at} * 4 + 8]",
                "mov {d:e}, dword ptr [{lines} + {at} * 4 + 12]",
                "vmovdqa64 {line}, zmmword ptr [{words} + {a}]",
                "vpcmpltud {below}, {line}, dword ptr [{keys} + {at} * 4]{{1to16}}",
                "kmovw {a:e}, {below}",
                "vmovdqa64 {line}, zmmword ptr [{words} + {b}]",
                "vpcmpltud {below}, {line}, dword ptr [{keys} + {at} * 4 + 4]{{1to16}}",
                "kmovw {b:e}, {below}",
                "vmovdqa64 {line}, zmmword ptr [{words} + {c}]",
                "vpcmpltud {below}, {line}, dword ptr [{keys} + {at} * 4 + 8]{{1to16}}",
                "kmovw {c:e}, {below}",
                "vmovdqa64 {line}, zmmword ptr [{words} + {d}]",
                "vpcmpltud {below}, {line}, dword ptr [{keys} + {at} * 4 + 12]{{1to16}}",
                "kmovw {d:e}, {below}",
                "mov dword ptr [{found} + {at} * 4], {a:e}",
                "mov dword ptr [{found} + {at} * 4 + 4], {b:e}",
                "mov dword ptr [{found} + {at} * 4 + 8], {c:e}",
                "mov dword ptr [{found} + {at} * 4 + 12], {d:e}",
                a = out(reg) _, b = out(reg) _, c = out(reg) _, d = out(reg) _,
                line = out(zmm_reg) _,
                below = out(kreg) _,
                at = in(reg) at,
                lines = in(reg) lines.0.as_ptr(),
                keys = in(reg) keys.0.as_ptr(),
                found = in(reg) found.0.as_mut_ptr(),
                words = in(reg) view.words(),
                options(nostack, preserves_flags),
            );
        }
    }
}

/// Half of `PARTS`, the lower or the upper 16 bits of each.
const fn half_parts(upper: bool) -> [u16; 64] {
    let mut half = [0; 64];
    let mut at = 0;
    while at < half.len() {
        half[at] = if upper { (PARTS[at] >> 16) as u16 } else { PARTS[at] as u16 };
        at += 1;
    }
    half
}

/// The same as [`values`].
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vpopcntdq,avx2,popcnt,bmi1,bmi2")]
fn values_avx512(nodes: &Lanes, below: &Lanes, places: &mut Lanes, mask: u32, lanes: usize) {
    static LASTS: [u16; 64] = half_parts(false);
    static VALUES: [u16; 64] = half_parts(true);
    for from in (0..lanes).step_by(GROUP) {
        let nodes = sixteen(nodes, from);
        let ranks = _mm512_popcnt_epi32(_mm512_and_si512(sixteen(below, from), by_code(&LASTS, nodes)));
        let lines = _mm512_and_si512(nodes, all(mask & !CODE));
        let run = _mm512_add_epi32(by_code(&VALUES, nodes), ranks);
        put(places, from, _mm512_add_epi32(_mm512_srli_epi32::<1>(lines), run));
    }
}

/// Which of the eight words at `at` are below `key`, one bit each.
///
/// # Safety
/// They are words of a line.
#[inline]
#[target_feature(enable = "avx2")]
unsafe fn eight_below(at: *const AtomicU32, key: u32) -> u32 {
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
    let not_below = _mm256_cmpeq_epi32(_mm256_max_epu32(lasts, _mm256_set1_epi32(key.cast_signed())), lasts);
    _mm256_movemask_ps(_mm256_castsi256_ps(not_below)).cast_unsigned() ^ 0xFF
}

/// The same as [`below`].
#[inline]
#[target_feature(enable = "avx2,popcnt,bmi1,bmi2")]
fn below_avx2(view: View<'_>, lines: &Lanes, keys: &Lanes, found: &mut Lanes, lanes: usize) {
    for at in 0..lanes {
        // SAFETY: `take` has cut it with the mask, and left no bits of the code.
        let line = unsafe { view.line(lines.0[at]) }.as_ptr();
        // SAFETY: the halves of the line.
        found.0[at] = unsafe { eight_below(line, keys.0[at]) | eight_below(line.add(8), keys.0[at]) << 8 };
    }
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
            if has_avx2() {
                out.fill(GroupId(u32::MAX));
                // SAFETY: the processor has the features.
                unsafe { with_avx2(&fib, &addrs, &mut out) };
                prop_assert_eq!(&out, &one_by_one);
            }
            if has_avx512() {
                out.fill(GroupId(u32::MAX));
                // SAFETY: as above.
                unsafe { with_avx512(&fib, &addrs, &mut out) };
                prop_assert_eq!(&out, &one_by_one);
            }
        }
    }
}
