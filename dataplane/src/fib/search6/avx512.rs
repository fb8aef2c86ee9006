//! The look-up with AVX-512, for 16 addresses at once.
//!
//! What is known of the addresses is in wide registers, or on its way between them. Where each address reads a word of its
//! own, the words are read one by one straight into a wide register: that is faster than the processor's own gather, and
//! than by way of memory, which a wide load finds only after all narrow stores to it have left the core. The places of
//! the words leave the wide registers by way of memory, two at a time: what was just stored is read at one word a cycle.
//!
//! These reads, and the wide load of a leaf's line, are assembly. The writer may store to some of the words meanwhile, and
//! Rust's rules forbid a plain wide load then; the assembly does no more than relaxed (and, as all loads of this
//! processor are, acquiring) loads of the single words could: the processor reads each aligned word as a whole.

#![allow(clippy::wildcard_imports)] // Intrinsics, two dozen of them.

use std::arch::asm;
use std::arch::x86_64::*;

use super::super::lanes::join;
use super::super::node6::{
    BEHIND, BLOCKS, CODE, ESCAPE, MIDDLE_BITS, Node, PARTS, STARTS, TABLE, escape, is_escape,
};
use super::super::v6::Fib6;
use super::super::view6::View;
use super::{GROUP, deeper};
use crate::ids::GroupId;

/// A table of 16-bit words by the code of a handle.
type ByCode = [u16; 64];

/// How many bits of the key are behind a table's index.
static SHIFTS: ByCode = {
    let mut shifts = [0; 64];
    let mut at = 0;
    while at < 64 {
        shifts[at] = BEHIND[at] as u16;
        at += 1;
    }
    shifts
};
/// Which words of its line are a leaf's last addresses.
static LASTS: ByCode = half_parts(false);
/// Where its values begin.
static VALUES: ByCode = half_parts(true);

/// Half of `PARTS`, the lower or the upper 16 bits of each.
const fn half_parts(upper: bool) -> ByCode {
    let mut half = [0; 64];
    let mut at = 0;
    while at < half.len() {
        half[at] = if upper { (PARTS[at] >> 16) as u16 } else { PARTS[at] as u16 };
        at += 1;
    }
    half
}

#[inline]
#[target_feature(enable = "avx512f")]
fn all(word: u32) -> __m512i {
    _mm512_set1_epi32(word.cast_signed())
}

/// What a table has for the code of each handle.
#[inline]
#[target_feature(enable = "avx512f,avx512bw")]
fn by_code(table: &'static ByCode, nodes: __m512i) -> __m512i {
    // The lower half of each 32-bit word.
    const LOWER: __mmask32 = 0x5555_5555;
    // SAFETY: the halves of an array of 128 bytes.
    let (low, high) = unsafe {
        (_mm512_loadu_si512(table[..32].as_ptr().cast()), _mm512_loadu_si512(table[32..].as_ptr().cast()))
    };
    // The instruction looks at the lowest six bits of each index.
    _mm512_maskz_permutex2var_epi16(LOWER, low, nodes, high)
}

/// The 32 bits of each address that its first tree looks at.
#[inline]
#[target_feature(enable = "avx512f")]
fn keys(addrs: &[u128; GROUP]) -> __m512i {
    // How far they are from the end of the upper half of an address.
    const KEY: u32 = 32 - STARTS[0] as u32;
    // The upper halves of eight addresses.
    let upper = _mm512_setr_epi64(1, 3, 5, 7, 9, 11, 13, 15);
    let eight = |from: usize| {
        #[allow(clippy::cast_ptr_alignment)] // The loads ask for no alignment.
        let at = addrs[from..].as_ptr().cast::<__m512i>();
        // SAFETY: reads eight addresses of the sixteen.
        let (low, high) = unsafe { (_mm512_loadu_si512(at), _mm512_loadu_si512(at.add(1))) };
        _mm512_cvtepi64_epi32(_mm512_srli_epi64::<KEY>(_mm512_permutex2var_epi64(low, upper, high)))
    };
    _mm512_inserti64x4::<1>(_mm512_castsi256_si512(eight(0)), eight(8))
}

/// The handle of each address's tree.
#[inline]
#[target_feature(enable = "avx512f,bmi1")]
fn root(view: View<'_>, addrs: &[u128; GROUP]) -> __m512i {
    // Where in an address's first 32 bits those are that index the second part of the root, and how many.
    const SECOND: u64 = (32 - STARTS[0] as u64) | (MIDDLE_BITS as u64) << 8;
    // SAFETY: `view.root` for each of four addresses, of which `from` leaves as many.
    let four = |from: usize| unsafe {
        let four: __m128i;
        asm!(
            "mov {a:e}, dword ptr [{addrs} + 12]",
            "mov {b:e}, dword ptr [{addrs} + 28]",
            "mov {c:e}, dword ptr [{addrs} + 44]",
            "mov {d:e}, dword ptr [{addrs} + 60]",
            "bextr {e:e}, {a:e}, {second:e}",
            "shr {a:e}, 16",
            "add {e:e}, dword ptr [{tops} + {a} * 4]",
            "bextr {a:e}, {b:e}, {second:e}",
            "shr {b:e}, 16",
            "add {a:e}, dword ptr [{tops} + {b} * 4]",
            "bextr {b:e}, {c:e}, {second:e}",
            "shr {c:e}, 16",
            "add {b:e}, dword ptr [{tops} + {c} * 4]",
            "bextr {c:e}, {d:e}, {second:e}",
            "shr {d:e}, 16",
            "add {c:e}, dword ptr [{tops} + {d} * 4]",
            "vmovd {four}, dword ptr [{heads} + {e} * 4]",
            "vpinsrd {four}, {four}, dword ptr [{heads} + {a} * 4], 1",
            "vpinsrd {four}, {four}, dword ptr [{heads} + {b} * 4], 2",
            "vpinsrd {four}, {four}, dword ptr [{heads} + {c} * 4], 3",
            a = out(reg) _, b = out(reg) _, c = out(reg) _, d = out(reg) _, e = out(reg) _,
            four = out(xmm_reg) four,
            addrs = in(reg) addrs.as_ptr().add(from),
            second = in(reg) SECOND,
            tops = in(reg) view.tops(),
            heads = in(reg) view.heads(),
            options(nostack, readonly),
        );
        four
    };
    join([four(0), four(4), four(8), four(12)])
}

/// Where a table has the entry for each key, in bytes. For a leaf, somewhere at the beginning of its line.
#[inline]
#[target_feature(enable = "avx512f,avx512bw")]
fn entries(view: View<'_>, nodes: __m512i, keys: __m512i) -> __m512i {
    let index = _mm512_srlv_epi32(keys, by_code(&SHIFTS, nodes));
    let place = _mm512_add_epi32(_mm512_andnot_si512(all(CODE), nodes), _mm512_slli_epi32::<2>(index));
    _mm512_and_si512(place, all(view.mask() & !3))
}

/// Reads the 32-bit words at these places.
///
/// # Safety
/// They are cut with the mask, and multiples of 4.
#[inline]
#[target_feature(enable = "avx512f")]
unsafe fn words(view: View<'_>, places: &__m512i) -> __m512i {
    // SAFETY: `view.word` for each of four places.
    let four = |from: usize| unsafe {
        let four: __m128i;
        asm!(
            "mov {b}, qword ptr [{places}]",
            "mov {d}, qword ptr [{places} + 8]",
            "mov {a:e}, {b:e}",
            "shr {b}, 32",
            "mov {c:e}, {d:e}",
            "shr {d}, 32",
            "vmovd {four}, dword ptr [{words} + {a}]",
            "vpinsrd {four}, {four}, dword ptr [{words} + {b}], 1",
            "vpinsrd {four}, {four}, dword ptr [{words} + {c}], 2",
            "vpinsrd {four}, {four}, dword ptr [{words} + {d}], 3",
            a = out(reg) _, b = out(reg) _, c = out(reg) _, d = out(reg) _,
            four = out(xmm_reg) four,
            places = in(reg) std::ptr::from_ref(places).cast::<u32>().add(from),
            words = in(reg) view.words(),
            options(nostack, readonly),
        );
        four
    };
    join([four(0), four(4), four(8), four(12)])
}

/// Who is at a table.
#[inline]
#[target_feature(enable = "avx512f")]
fn at_table(nodes: __m512i) -> __mmask16 {
    _mm512_cmpge_epu32_mask(_mm512_and_si512(nodes, all(CODE)), all(TABLE))
}

/// Which words of each leaf's line are below the key, one bit each.
///
/// # Safety
/// The places are cut with the mask, and multiples of 64.
#[inline]
#[target_feature(enable = "avx512f")]
unsafe fn below(view: View<'_>, lines: &__m512i, keys: &__m512i) -> __m512i {
    // SAFETY: reads four lines, whose places the caller vouches for.
    let four = |from: usize| unsafe {
        let four: u64;
        asm!(
            "mov {b}, qword ptr [{lines}]",
            "mov {d}, qword ptr [{lines} + 8]",
            "mov {a:e}, {b:e}",
            "shr {b}, 32",
            "mov {c:e}, {d:e}",
            "shr {d}, 32",
            "vmovdqa64 {line}, zmmword ptr [{words} + {a}]",
            "vpcmpltud {ka}, {line}, dword ptr [{keys}]{{1to16}}",
            "vmovdqa64 {line}, zmmword ptr [{words} + {b}]",
            "vpcmpltud {kb}, {line}, dword ptr [{keys} + 4]{{1to16}}",
            "kunpckwd {ka}, {kb}, {ka}",
            "vmovdqa64 {line}, zmmword ptr [{words} + {c}]",
            "vpcmpltud {kb}, {line}, dword ptr [{keys} + 8]{{1to16}}",
            "vmovdqa64 {line}, zmmword ptr [{words} + {d}]",
            "vpcmpltud {kc}, {line}, dword ptr [{keys} + 12]{{1to16}}",
            "kunpckwd {kb}, {kc}, {kb}",
            "kunpckdq {ka}, {kb}, {ka}",
            "kmovq {a:r}, {ka}",
            a = out(reg) four, b = out(reg) _, c = out(reg) _, d = out(reg) _,
            line = out(zmm_reg) _,
            ka = out(kreg) _, kb = out(kreg) _, kc = out(kreg) _,
            lines = in(reg) std::ptr::from_ref(lines).cast::<u32>().add(from),
            keys = in(reg) std::ptr::from_ref(keys).cast::<u32>().add(from),
            words = in(reg) view.words(),
            options(nostack, readonly),
        );
        four.cast_signed()
    };
    _mm512_cvtepu16_epi32(_mm256_setr_epi64x(four(0), four(4), four(8), four(12)))
}

/// Where the values of the leaves' runs are, in 16-bit words.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vpopcntdq")]
fn values(nodes: __m512i, lines: __m512i, below: __m512i) -> __m512i {
    let ranks = _mm512_popcnt_epi32(_mm512_and_si512(below, by_code(&LASTS, nodes)));
    _mm512_add_epi32(_mm512_srli_epi32::<1>(lines), _mm512_add_epi32(by_code(&VALUES, nodes), ranks))
}

/// Reads the 16-bit words at these places.
///
/// # Safety
/// They are at most two lines behind what the mask leaves.
#[inline]
#[target_feature(enable = "avx512f")]
unsafe fn halves(view: View<'_>, places: &__m512i) -> __m512i {
    // SAFETY: `view.half` for each of four places.
    let four = |from: usize| unsafe {
        let four: __m128i;
        asm!(
            "mov {b}, qword ptr [{places}]",
            "mov {d}, qword ptr [{places} + 8]",
            "mov {a:e}, {b:e}",
            "shr {b}, 32",
            "mov {c:e}, {d:e}",
            "shr {d}, 32",
            "movzx {a:e}, word ptr [{words} + {a} * 2]",
            "vmovd {four}, {a:e}",
            "vpinsrw {four}, {four}, word ptr [{words} + {b} * 2], 2",
            "vpinsrw {four}, {four}, word ptr [{words} + {c} * 2], 4",
            "vpinsrw {four}, {four}, word ptr [{words} + {d} * 2], 6",
            a = out(reg) _, b = out(reg) _, c = out(reg) _, d = out(reg) _,
            four = out(xmm_reg) four,
            places = in(reg) std::ptr::from_ref(places).cast::<u32>().add(from),
            words = in(reg) view.words(),
            options(nostack, readonly),
        );
        four
    };
    join([four(0), four(4), four(8), four(12)])
}

/// The words of some registers.
fn words_of<const G: usize>(registers: &[__m512i; G]) -> &[u32] {
    // SAFETY: each is sixteen words, and aligned for more.
    unsafe { std::slice::from_raw_parts(registers.as_ptr().cast(), G * GROUP) }
}

/// The same, to change them.
fn words_mut<const G: usize>(registers: &mut [__m512i; G]) -> &mut [u32] {
    // SAFETY: as in `words_of`, and any bits are a register.
    unsafe { std::slice::from_raw_parts_mut(registers.as_mut_ptr().cast(), G * GROUP) }
}

/// Looks up `G` times 16 addresses. A function of its own for each `G`: as it is known, all loops are unrolled.
#[inline(never)]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vpopcntdq,avx2,popcnt,bmi1,bmi2")]
pub(super) fn search<const G: usize>(
    fib: &Fib6,
    addrs: &[[u128; GROUP]; G],
    out: &mut [[GroupId; GROUP]; G],
) {
    let view = View::of(&fib.pages);
    let zero = [_mm512_setzero_si512(); G];
    loop {
        let seen = fib.default.seen();
        let (mut key, mut nodes) = (zero, zero);
        for g in 0..G {
            key[g] = keys(&addrs[g]);
            nodes[g] = root(view, &addrs[g]);
        }
        let mut places = zero;
        for g in 0..G {
            places[g] = entries(view, nodes[g], key[g]);
        }
        let mut tables = 0;
        for g in 0..G {
            // SAFETY: `entries` has cut them with the mask, and to multiples of 4.
            let read = unsafe { words(view, &places[g]) };
            nodes[g] = _mm512_mask_mov_epi32(nodes[g], at_table(nodes[g]), read);
            tables |= u64::from(at_table(nodes[g])) << (g * GROUP);
        }
        let mut lines = zero;
        for g in 0..G {
            lines[g] = _mm512_and_si512(nodes[g], all(view.mask() & !CODE));
        }
        deeper(view, words_mut(&mut nodes), words_of(&key), words_mut(&mut lines), tables);
        // All of them before the first is used: what `deeper` has stored word by word has left the core then.
        let mut belows = zero;
        for g in 0..G {
            // SAFETY: cut with the mask, and to multiples of 64.
            belows[g] = unsafe { below(view, &lines[g], &key[g]) };
        }
        let mut places = zero;
        for g in 0..G {
            places[g] = values(nodes[g], lines[g], belows[g]);
        }
        let (mut found, mut any) = ([[0; GROUP]; G], _mm512_setzero_si512());
        for g in 0..G {
            // SAFETY: a line cut with the mask, behind it up to 32 words to where the values begin, and 16 more.
            let values = unsafe { halves(view, &places[g]) };
            // SAFETY: writes the array.
            unsafe { _mm512_storeu_si512(found[g].as_mut_ptr().cast(), values) };
            any = _mm512_or_si512(any, values);
            for at in 0..GROUP {
                out[g][at] = seen.group(found[g][at]);
            }
        }
        if _mm512_test_epi32_mask(any, all(ESCAPE.into())) != 0 {
            let blocks = &fib.pages.heads()[BLOCKS..];
            for (at, &handle) in words_of(&nodes).iter().enumerate() {
                let (g, at) = (at / GROUP, at % GROUP);
                let said = found[g][at] as u16;
                if is_escape(said) {
                    out[g][at] = seen.group(escape(blocks, Node(handle), said, addrs[g][at], 0));
                }
            }
        }
        if fib.default.held(seen) {
            break;
        }
    }
}
