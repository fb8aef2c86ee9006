//! The passes with AVX-512, for 16 addresses at once.
//!
//! Where each address reads a word of its own, the words are read one by one straight into a wide register: that is
//! faster than the processor's own gather, and than by way of memory, which a wide load finds only after all narrow
//! stores to it have left the core.
//!
//! That, and the wide load of a leaf's line, are assembly. The writer may store to some of the words meanwhile, and
//! Rust's rules forbid a plain wide load then; the assembly does no more than relaxed (and, as all loads of this
//! processor are, acquiring) loads of the single words could: the processor reads each aligned word as a whole.

#![allow(clippy::wildcard_imports)] // Intrinsics, a dozen of them.

use std::arch::asm;
use std::arch::x86_64::*;

use super::super::node6::{BEHIND, CODE, MIDDLE, PARTS, STARTS, TABLE};
use super::super::v6::BATCH;
use super::super::view6::View;
use super::{GROUP, Lanes};

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

/// The same as [`portable::split`](super::portable::split).
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl")]
pub(super) fn split(addrs: &[u128; BATCH], seconds: &mut Lanes, keys: &mut Lanes, lanes: usize) {
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

/// The same as [`portable::entries`](super::portable::entries).
#[inline]
#[target_feature(enable = "avx512f,avx512bw")]
pub(super) fn entries(view: View<'_>, nodes: &Lanes, keys: &Lanes, places: &mut Lanes, lanes: usize) {
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
        put(places, from, _mm512_and_si512(place, all(view.mask() & !3)));
    }
}

/// The same as [`portable::take`](super::portable::take).
#[inline]
#[target_feature(enable = "avx512f,avx512bw")]
pub(super) fn take(view: View<'_>, nodes: &mut Lanes, read: &mut Lanes, lanes: usize) -> u64 {
    let is_table = |nodes| _mm512_cmpge_epu32_mask(_mm512_and_si512(nodes, all(CODE)), all(TABLE));
    let mut tables = 0;
    for from in (0..lanes).step_by(GROUP) {
        let old = sixteen(nodes, from);
        let new = _mm512_mask_mov_epi32(old, is_table(old), sixteen(read, from));
        tables |= u64::from(is_table(new)) << from;
        put(nodes, from, new);
        put(read, from, _mm512_and_si512(new, all(view.mask() & !CODE)));
    }
    tables
}

/// Makes one register of sixteen words of four of four.
#[inline]
#[target_feature(enable = "avx512f")]
fn join(fours: [__m128i; 4]) -> __m512i {
    let low = _mm256_inserti128_si256::<1>(_mm256_castsi128_si256(fours[0]), fours[1]);
    let high = _mm256_inserti128_si256::<1>(_mm256_castsi128_si256(fours[2]), fours[3]);
    _mm512_inserti64x4::<1>(_mm512_castsi256_si512(low), high)
}

/// The same as [`portable::root`](super::portable::root).
#[inline]
#[target_feature(enable = "avx512f")]
pub(super) unsafe fn root(
    view: View<'_>,
    addrs: &[u128; BATCH],
    seconds: &Lanes,
    nodes: &mut Lanes,
    lanes: usize,
) {
    for from in (0..lanes).step_by(GROUP) {
        // SAFETY: `view.root` for each of four addresses: the top entry for the first 16 bits, which are the last bytes
        // of an address in memory, then the word in the second part. The arrays have four more from there on.
        let four = |at: usize| unsafe {
            let four: __m128i;
            asm!(
                "movzx {a:e}, word ptr [{addrs} + 14]",
                "movzx {b:e}, word ptr [{addrs} + 30]",
                "movzx {c:e}, word ptr [{addrs} + 46]",
                "movzx {d:e}, word ptr [{addrs} + 62]",
                "mov {a:e}, dword ptr [{tops} + {a} * 4]",
                "mov {b:e}, dword ptr [{tops} + {b} * 4]",
                "mov {c:e}, dword ptr [{tops} + {c} * 4]",
                "mov {d:e}, dword ptr [{tops} + {d} * 4]",
                "add {a:e}, dword ptr [{seconds}]",
                "add {b:e}, dword ptr [{seconds} + 4]",
                "add {c:e}, dword ptr [{seconds} + 8]",
                "add {d:e}, dword ptr [{seconds} + 12]",
                "vmovd {four}, dword ptr [{heads} + {a} * 4]",
                "vpinsrd {four}, {four}, dword ptr [{heads} + {b} * 4], 1",
                "vpinsrd {four}, {four}, dword ptr [{heads} + {c} * 4], 2",
                "vpinsrd {four}, {four}, dword ptr [{heads} + {d} * 4], 3",
                a = out(reg) _, b = out(reg) _, c = out(reg) _, d = out(reg) _,
                four = out(xmm_reg) four,
                addrs = in(reg) addrs.as_ptr().add(from + at),
                seconds = in(reg) seconds.0.as_ptr().add(from + at),
                tops = in(reg) view.tops(),
                heads = in(reg) view.heads(),
                options(nostack, readonly),
            );
            four
        };
        put(nodes, from, join([four(0), four(4), four(8), four(12)]));
    }
}

/// The same as [`portable::words`](super::portable::words).
#[inline]
#[target_feature(enable = "avx512f")]
pub(super) unsafe fn words(view: View<'_>, places: &mut Lanes, lanes: usize) {
    for from in (0..lanes).step_by(GROUP) {
        // SAFETY: `view.word` for each of four places.
        let four = |at: usize| unsafe {
            let four: __m128i;
            asm!(
                "mov {a:e}, dword ptr [{places}]",
                "mov {b:e}, dword ptr [{places} + 4]",
                "mov {c:e}, dword ptr [{places} + 8]",
                "mov {d:e}, dword ptr [{places} + 12]",
                "vmovd {four}, dword ptr [{words} + {a}]",
                "vpinsrd {four}, {four}, dword ptr [{words} + {b}], 1",
                "vpinsrd {four}, {four}, dword ptr [{words} + {c}], 2",
                "vpinsrd {four}, {four}, dword ptr [{words} + {d}], 3",
                a = out(reg) _, b = out(reg) _, c = out(reg) _, d = out(reg) _,
                four = out(xmm_reg) four,
                places = in(reg) places.0.as_ptr().add(from + at),
                words = in(reg) view.words(),
                options(nostack, readonly, preserves_flags),
            );
            four
        };
        let words = join([four(0), four(4), four(8), four(12)]);
        put(places, from, words);
    }
}

/// The same as [`portable::below`](super::portable::below).
#[inline]
#[target_feature(enable = "avx512f")]
pub(super) unsafe fn below(view: View<'_>, lines: &Lanes, keys: &Lanes, found: &mut Lanes, lanes: usize) {
    for from in (0..lanes).step_by(GROUP) {
        // SAFETY: reads four lines, whose places the caller vouches for.
        let four = |at: usize| unsafe {
            let four: __m128i;
            asm!(
                "mov {a:e}, dword ptr [{lines}]",
                "mov {b:e}, dword ptr [{lines} + 4]",
                "mov {c:e}, dword ptr [{lines} + 8]",
                "mov {d:e}, dword ptr [{lines} + 12]",
                "vmovdqa64 {line}, zmmword ptr [{words} + {a}]",
                "vpcmpltud {below}, {line}, dword ptr [{keys}]{{1to16}}",
                "kmovw {a:e}, {below}",
                "vmovdqa64 {line}, zmmword ptr [{words} + {b}]",
                "vpcmpltud {below}, {line}, dword ptr [{keys} + 4]{{1to16}}",
                "kmovw {b:e}, {below}",
                "vmovdqa64 {line}, zmmword ptr [{words} + {c}]",
                "vpcmpltud {below}, {line}, dword ptr [{keys} + 8]{{1to16}}",
                "kmovw {c:e}, {below}",
                "vmovdqa64 {line}, zmmword ptr [{words} + {d}]",
                "vpcmpltud {below}, {line}, dword ptr [{keys} + 12]{{1to16}}",
                "kmovw {d:e}, {below}",
                "vmovd {four}, {a:e}",
                "vpinsrd {four}, {four}, {b:e}, 1",
                "vpinsrd {four}, {four}, {c:e}, 2",
                "vpinsrd {four}, {four}, {d:e}, 3",
                a = out(reg) _, b = out(reg) _, c = out(reg) _, d = out(reg) _,
                line = out(zmm_reg) _,
                below = out(kreg) _,
                four = out(xmm_reg) four,
                lines = in(reg) lines.0.as_ptr().add(from + at),
                keys = in(reg) keys.0.as_ptr().add(from + at),
                words = in(reg) view.words(),
                options(nostack, readonly, preserves_flags),
            );
            four
        };
        put(found, from, join([four(0), four(4), four(8), four(12)]));
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

/// The same as [`portable::values`](super::portable::values).
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vpopcntdq,avx2,popcnt,bmi1,bmi2")]
pub(super) fn values(view: View<'_>, nodes: &Lanes, below: &Lanes, places: &mut Lanes, lanes: usize) {
    static LASTS: [u16; 64] = half_parts(false);
    static VALUES: [u16; 64] = half_parts(true);
    for from in (0..lanes).step_by(GROUP) {
        let nodes = sixteen(nodes, from);
        let ranks = _mm512_popcnt_epi32(_mm512_and_si512(sixteen(below, from), by_code(&LASTS, nodes)));
        let lines = _mm512_and_si512(nodes, all(view.mask() & !CODE));
        let run = _mm512_add_epi32(by_code(&VALUES, nodes), ranks);
        put(places, from, _mm512_add_epi32(_mm512_srli_epi32::<1>(lines), run));
    }
}

/// The same as [`portable::halves`](super::portable::halves).
#[inline]
#[target_feature(enable = "avx512f")]
pub(super) unsafe fn halves(view: View<'_>, places: &Lanes, found: &mut Lanes, lanes: usize) {
    for from in (0..lanes).step_by(GROUP) {
        // SAFETY: `view.half` for each of four places.
        let four = |at: usize| unsafe {
            let four: __m128i;
            asm!(
                "mov {a:e}, dword ptr [{places}]",
                "mov {b:e}, dword ptr [{places} + 4]",
                "mov {c:e}, dword ptr [{places} + 8]",
                "mov {d:e}, dword ptr [{places} + 12]",
                "movzx {a:e}, word ptr [{words} + {a} * 2]",
                "vmovd {four}, {a:e}",
                "vpinsrw {four}, {four}, word ptr [{words} + {b} * 2], 2",
                "vpinsrw {four}, {four}, word ptr [{words} + {c} * 2], 4",
                "vpinsrw {four}, {four}, word ptr [{words} + {d} * 2], 6",
                a = out(reg) _, b = out(reg) _, c = out(reg) _, d = out(reg) _,
                four = out(xmm_reg) four,
                places = in(reg) places.0.as_ptr().add(from + at),
                words = in(reg) view.words(),
                options(nostack, readonly, preserves_flags),
            );
            four
        };
        put(found, from, join([four(0), four(4), four(8), four(12)]));
    }
}
