//! The passes with the wider instructions of AVX2: the comparison with a leaf's line. For why its loads are assembly see
//! `avx512`.

use std::arch::asm;
use std::arch::x86_64::{
    __m256i, _mm256_castsi256_ps, _mm256_cmpeq_epi32, _mm256_max_epu32, _mm256_movemask_ps, _mm256_set1_epi32,
};
use std::sync::atomic::AtomicU32;

use super::super::view6::View;
use super::Lanes;
pub(super) use super::portable::{entries, halves, root, split, take, values, words};

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

/// Which words of each leaf's line are below the key, one bit each.
#[inline]
#[target_feature(enable = "avx2,popcnt,bmi1,bmi2")]
pub(super) unsafe fn below(view: View<'_>, lines: &Lanes, keys: &Lanes, found: &mut Lanes, lanes: usize) {
    for at in 0..lanes {
        // SAFETY: as the caller vouches for.
        let line = unsafe { view.line(lines.0[at]) }.as_ptr();
        // SAFETY: the halves of the line.
        found.0[at] = unsafe { eight_below(line, keys.0[at]) | eight_below(line.add(8), keys.0[at]) << 8 };
    }
}
