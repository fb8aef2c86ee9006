//! The look-up of a full burst with AVX-512: the passes of the portable one. The values are read straight into wide
//! registers; by way of memory, a wide load would wait until all narrow stores to it have left the core.
//!
//! Those reads are assembly. It does no more than relaxed loads of the same words could: the processor reads each aligned
//! word as a whole.
#![allow(unsafe_code)] // Reads that are not checked, as in `run_value`, and wide loads and stores of arrays.
#![allow(clippy::wildcard_imports)] // Intrinsics, a dozen of them.

use std::arch::asm;
use std::arch::x86_64::*;
use std::sync::atomic::Ordering;

use super::super::lanes::join;
use super::super::shape4::{Blocks, ESCAPE, escape, is_escape, slot_of};
use super::{BATCH, Fib4, ROOT_BITS};
use crate::ids::GroupId;

/// Addresses that are taken at once.
const LANES: usize = 16;
const GROUPS: usize = BATCH / LANES;

/// A 32-bit word for each address, on cache lines of their own.
#[repr(align(64))]
struct Lanes([[u32; LANES]; GROUPS]);

/// The runs' values of sixteen addresses.
///
/// # Safety
/// The trees come from the root of the table whose blocks these are.
#[inline]
#[target_feature(enable = "popcnt,bmi2,avx512f")]
unsafe fn values(blocks: Blocks<'_>, trees: &[u32; LANES], slots: &[u32; LANES]) -> __m512i {
    // SAFETY: `run_value` for each of four addresses, of which `from` leaves as many. What it says of the bounds holds.
    let four = |from: usize| unsafe {
        let four: __m128i;
        asm!(
            "mov {a:e}, dword ptr [{slots}]",
            "mov {b:e}, dword ptr [{slots} + 4]",
            "mov {c:e}, dword ptr [{slots} + 8]",
            "mov {d:e}, dword ptr [{slots} + 12]",
            "mov {e:e}, dword ptr [{trees}]",
            "shlx {a}, qword ptr [{words} + {e} * 8], {a}",
            "popcnt {a}, {a}",
            "lea {a}, [{a} + {e} * 4]",
            "mov {e:e}, dword ptr [{trees} + 4]",
            "shlx {b}, qword ptr [{words} + {e} * 8], {b}",
            "popcnt {b}, {b}",
            "lea {b}, [{b} + {e} * 4]",
            "mov {e:e}, dword ptr [{trees} + 8]",
            "shlx {c}, qword ptr [{words} + {e} * 8], {c}",
            "popcnt {c}, {c}",
            "lea {c}, [{c} + {e} * 4]",
            "mov {e:e}, dword ptr [{trees} + 12]",
            "shlx {d}, qword ptr [{words} + {e} * 8], {d}",
            "popcnt {d}, {d}",
            "lea {d}, [{d} + {e} * 4]",
            "vpxor {four}, {four}, {four}",
            "vpinsrw {four}, {four}, word ptr [{words} + {a} * 2 + 6], 0",
            "vpinsrw {four}, {four}, word ptr [{words} + {b} * 2 + 6], 2",
            "vpinsrw {four}, {four}, word ptr [{words} + {c} * 2 + 6], 4",
            "vpinsrw {four}, {four}, word ptr [{words} + {d} * 2 + 6], 6",
            a = out(reg) _, b = out(reg) _, c = out(reg) _, d = out(reg) _, e = out(reg) _,
            four = out(xmm_reg) four,
            trees = in(reg) trees.as_ptr().add(from),
            slots = in(reg) slots.as_ptr().add(from),
            words = in(reg) blocks.words.as_ptr(),
            options(nostack, readonly),
        );
        four
    };
    join([four(0), four(4), four(8), four(12)])
}

#[target_feature(enable = "popcnt,bmi1,bmi2,avx2,avx512f,avx512bw,avx512vl")]
pub(super) fn full(fib: &Fib4, addrs: &[u32; BATCH], out: &mut [GroupId; BATCH]) {
    let (root, blocks) = (fib.root_entries(), Blocks::of(&fib.pages));
    let (addrs, out) = (addrs.as_chunks::<LANES>().0, out.as_chunks_mut::<LANES>().0);
    loop {
        let seen = fib.default.seen();
        let (mut trees, mut slots) = (Lanes([[0; LANES]; GROUPS]), Lanes([[0; LANES]; GROUPS]));
        for (slots, addrs) in slots.0.iter_mut().zip(addrs) {
            for (slot, &addr) in slots.iter_mut().zip(addrs) {
                *slot = slot_of(addr);
            }
        }
        for (trees, addrs) in trees.0.iter_mut().zip(addrs) {
            for (tree, &addr) in trees.iter_mut().zip(addrs) {
                *tree = root[(addr >> (32 - ROOT_BITS)) as usize].load(Ordering::Acquire);
                super::super::prefetch(blocks.words.as_ptr().wrapping_add(*tree as usize));
            }
        }
        let mut found = Lanes([[0; LANES]; GROUPS]);
        let mut any = _mm512_setzero_si512();
        for (g, out) in out.iter_mut().enumerate() {
            // SAFETY: the pass before read the trees from the root.
            let values = unsafe { values(blocks, &trees.0[g], &slots.0[g]) };
            // SAFETY: writes the array.
            unsafe { _mm512_storeu_si512(found.0[g].as_mut_ptr().cast(), values) };
            any = _mm512_or_si512(any, values);
            for (group, &found) in out.iter_mut().zip(&found.0[g]) {
                *group = seen.group(found);
            }
        }
        if _mm512_test_epi32_mask(any, _mm512_set1_epi32(i32::from(ESCAPE))) != 0 {
            for (g, out) in out.iter_mut().enumerate() {
                for (at, group) in out.iter_mut().enumerate() {
                    let found = found.0[g][at] as u16;
                    if is_escape(found) {
                        *group = seen.group(escape(blocks, trees.0[g][at], found, addrs[g][at]));
                    }
                }
            }
        }
        if fib.default.held(seen) {
            return;
        }
    }
}
