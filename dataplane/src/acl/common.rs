//! What the rows of a packet's fields have in common: the lowest bit, or all before it that count. Each with AVX-512 and
//! without.

use super::rows::Row;

/// The lowest bit that all rows have; [`PER_ROW`](super::rows::PER_ROW) if there is none, which may be only in rows of eight words.
#[inline(always)]
pub(super) fn common<const WIDE: bool, const USED: usize, const WORDS: usize>(
    rows: [&[u64; WORDS]; USED],
) -> usize {
    #[cfg(all(target_arch = "x86_64", not(miri)))]
    if WIDE && WORDS > 1 {
        // SAFETY: `WIDE` says that the processor has the features.
        #[allow(unsafe_code)]
        return unsafe { wide::first::<WORDS>(wide::all(rows)) };
    }
    first(&all(rows))
}

/// Words, and which of them are not 0.
pub(super) type Hits<const WORDS: usize> = (u8, [u64; WORDS]);

/// The lowest bit that all rows have and `counts` does not, and if there are any, those that all have and `counts` does.
#[inline(always)]
pub(super) fn common_but<const WIDE: bool, const USED: usize, const WORDS: usize>(
    rows: [&[u64; WORDS]; USED],
    counts: &Row,
) -> (usize, Option<Hits<WORDS>>) {
    let counts = counts.0.first_chunk::<WORDS>().unwrap_or(&[0; WORDS]);
    #[cfg(all(target_arch = "x86_64", not(miri)))]
    if WIDE && WORDS > 1 {
        // SAFETY: `WIDE` says that the processor has the features.
        #[allow(unsafe_code)]
        return unsafe { wide::common_but(rows, counts) };
    }
    let mut others = all(rows);
    let hits: [u64; WORDS] = std::array::from_fn(|word| others[word] & counts[word]);
    for (word, hits) in others.iter_mut().zip(hits) {
        *word &= !hits;
    }
    let words = (0..WORDS).fold(0, |words, at| words | u8::from(hits[at] != 0) << at);
    (first(&others), (words != 0).then_some((words, hits)))
}

/// The bits that all rows have.
#[inline(always)]
fn all<const USED: usize, const WORDS: usize>(rows: [&[u64; WORDS]; USED]) -> [u64; WORDS] {
    let mut all = [u64::MAX; WORDS];
    for row in rows {
        for (word, other) in all.iter_mut().zip(row) {
            *word &= other;
        }
    }
    all
}

/// The lowest bit; [`PER_ROW`](super::rows::PER_ROW) if there is none.
#[inline(always)]
fn first<const WORDS: usize>(row: &[u64; WORDS]) -> usize {
    if WORDS == 1 {
        return row[0].trailing_zeros() as usize;
    }
    let nonzero = (0..WORDS).fold(1u32 << 8, |nonzero, at| nonzero | u32::from(row[at] != 0) << at);
    let word = nonzero.trailing_zeros() as usize;
    // Without any: 8 words, and no bit in the next.
    let bits = row.get(word).copied().unwrap_or(0);
    word * 64 + (bits.trailing_zeros() as usize & 63)
}

/// Calls with each bit before `end`, the lowest first. `nonzero`: which words are not 0, as bits.
#[inline(always)]
pub(super) fn each(mut nonzero: u8, words: &[u64], end: usize, mut call: impl FnMut(usize)) {
    while nonzero != 0 {
        let word = nonzero.trailing_zeros() as usize;
        nonzero &= nonzero - 1;
        let before = end.saturating_sub(word * 64);
        let mut bits = words.get(word).copied().unwrap_or(0);
        if before < 64 {
            bits &= (1 << before) - 1;
            nonzero = 0;
        }
        while bits != 0 {
            call(word * 64 + bits.trailing_zeros() as usize);
            bits &= bits - 1;
        }
    }
}

#[cfg(all(target_arch = "x86_64", not(miri)))]
mod wide {
    //! Rows as vectors.
    #![allow(unsafe_code)] // Vectors from arrays of their size.

    use super::Hits;
    use std::arch::x86_64::{
        __m512i, _mm_cvtsi128_si64, _mm256_castsi256_si128, _mm256_loadu_si256, _mm256_maskz_compress_epi64,
        _mm256_test_epi64_mask, _mm512_and_si512, _mm512_andnot_si512, _mm512_castsi512_si128,
        _mm512_castsi512_si256, _mm512_loadu_si512, _mm512_maskz_compress_epi64, _mm512_set1_epi64,
        _mm512_test_epi64_mask, _mm512_zextsi256_si512,
    };

    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl")]
    pub(super) fn all<const USED: usize, const WORDS: usize>(rows: [&[u64; WORDS]; USED]) -> __m512i {
        rows.into_iter().fold(_mm512_set1_epi64(-1), |all, row| _mm512_and_si512(all, load(row)))
    }

    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl")]
    fn load<const WORDS: usize>(row: &[u64; WORDS]) -> __m512i {
        // SAFETY: a row has so many words.
        unsafe {
            if WORDS == 8 {
                _mm512_loadu_si512(row.as_ptr().cast())
            } else {
                _mm512_zextsi256_si512(_mm256_loadu_si256(row.as_ptr().cast()))
            }
        }
    }

    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,bmi1")]
    pub(super) fn common_but<const USED: usize, const WORDS: usize>(
        rows: [&[u64; WORDS]; USED],
        counts: &[u64; WORDS],
    ) -> (usize, Option<Hits<WORDS>>) {
        let (all, counts) = (all(rows), load(counts));
        let words = _mm512_test_epi64_mask(all, counts);
        // SAFETY: words from the vector that holds them.
        let hits = || unsafe { (words, std::mem::transmute_copy(&_mm512_and_si512(all, counts))) };
        (first::<WORDS>(_mm512_andnot_si512(counts, all)), (words != 0).then(hits))
    }

    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,bmi1")]
    pub(super) fn first<const WORDS: usize>(row: __m512i) -> usize {
        let (words, first) = if WORDS == 8 {
            let words = _mm512_test_epi64_mask(row, row);
            (u32::from(words) | 1 << 8, _mm512_castsi512_si128(_mm512_maskz_compress_epi64(words, row)))
        } else {
            let row = _mm512_castsi512_si256(row);
            let words = _mm256_test_epi64_mask(row, row);
            (u32::from(words), _mm256_castsi256_si128(_mm256_maskz_compress_epi64(words, row)))
        };
        // Without any: 8 words, and no bit in the next.
        let word = words.trailing_zeros() as usize;
        let bit = (_mm_cvtsi128_si64(first) as u64).trailing_zeros() as usize;
        word * 64 + (bit & 63)
    }
}
