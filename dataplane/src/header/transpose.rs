//! Words of sixteen frames, with AVX-512: each 32-bit word of a header becomes a vector over the frames.
#![allow(unsafe_code)] // Vector instructions after a check for them, and loads in bounds that the callers know.
#![allow(clippy::wildcard_imports)] // One intrinsic for each line.

use std::arch::x86_64::*;

/// Four words of sixteen frames, from byte `at` on.
///
/// # Safety
/// All have 16 bytes from there on, and the processor has the features that this is compiled with.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl")]
pub unsafe fn transposed(starts: &[*const u8; 16], at: usize) -> [__m512i; 4] {
    // Four frames, 4 apart, so that transposing within lanes puts all sixteen in order.
    let four = |first: usize| {
        // SAFETY: as above.
        let lane = |k: usize| unsafe { _mm_loadu_si128(starts[first + 4 * k].add(at).cast()) };
        let all = _mm512_castsi128_si512(lane(0));
        let all = _mm512_inserti32x4::<1>(all, lane(1));
        let all = _mm512_inserti32x4::<2>(all, lane(2));
        _mm512_inserti32x4::<3>(all, lane(3))
    };
    within_lanes([four(0), four(1), four(2), four(3)])
}

/// Transposes the words of each lane.
#[inline]
#[target_feature(enable = "avx512f")]
fn within_lanes([a, b, c, d]: [__m512i; 4]) -> [__m512i; 4] {
    let (ab_low, ab_high) = (_mm512_unpacklo_epi32(a, b), _mm512_unpackhi_epi32(a, b));
    let (cd_low, cd_high) = (_mm512_unpacklo_epi32(c, d), _mm512_unpackhi_epi32(c, d));
    [
        _mm512_unpacklo_epi64(ab_low, cd_low),
        _mm512_unpackhi_epi64(ab_low, cd_low),
        _mm512_unpacklo_epi64(ab_high, cd_high),
        _mm512_unpackhi_epi64(ab_high, cd_high),
    ]
}

/// Eight words of sixteen frames, from byte `at` on.
///
/// # Safety
/// All have 32 bytes from there on, and the processor has the features that this is compiled with.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl")]
pub unsafe fn transposed8(starts: &[*const u8; 16], at: usize) -> [__m512i; 8] {
    // Two frames, 4 apart.
    let two = |k: usize| {
        // SAFETY: as above.
        let half = |k: usize| unsafe { _mm256_loadu_si256(starts[k].add(at).cast()) };
        _mm512_inserti64x4::<1>(_mm512_castsi256_si512(half(k)), half(k + 4))
    };
    // In the lanes of each: a word of four frames, the fourth word behind it, and both of the next four frames.
    let low = within_lanes([two(0), two(1), two(2), two(3)]);
    let high = within_lanes([two(8), two(9), two(10), two(11)]);
    [
        _mm512_shuffle_i32x4::<0x88>(low[0], high[0]),
        _mm512_shuffle_i32x4::<0x88>(low[1], high[1]),
        _mm512_shuffle_i32x4::<0x88>(low[2], high[2]),
        _mm512_shuffle_i32x4::<0x88>(low[3], high[3]),
        _mm512_shuffle_i32x4::<0xdd>(low[0], high[0]),
        _mm512_shuffle_i32x4::<0xdd>(low[1], high[1]),
        _mm512_shuffle_i32x4::<0xdd>(low[2], high[2]),
        _mm512_shuffle_i32x4::<0xdd>(low[3], high[3]),
    ]
}
