//! Wide registers whose lanes are addresses, as the AVX-512 look-ups of both families have them.

use std::arch::x86_64::{
    __m128i, __m512i, _mm256_castsi128_si256, _mm256_inserti128_si256, _mm512_castsi256_si512,
    _mm512_inserti64x4,
};

/// Makes one register of four of four words each.
#[inline]
#[target_feature(enable = "avx512f")]
pub(super) fn join(fours: [__m128i; 4]) -> __m512i {
    let low = _mm256_inserti128_si256::<1>(_mm256_castsi128_si256(fours[0]), fours[1]);
    let high = _mm256_inserti128_si256::<1>(_mm256_castsi128_si256(fours[2]), fours[3]);
    _mm512_inserti64x4::<1>(_mm512_castsi256_si512(low), high)
}
