//! Lines of ends, and how many of their ends are below a value: for one value, or for a burst's.

use crate::burst::BURST;

/// A value to search for: the ends of a line, and how they are compared.
pub trait Value: Copy + Ord + Default {
    /// Ends of one cache line.
    type Line: Copy + std::fmt::Debug + AsRef<[Self]>;
    /// How many they are.
    const PER_LINE: usize;

    /// A line of up to `PER_LINE` ends, filled up with the largest value.
    fn line(ends: &[Self]) -> Self::Line;

    /// How many of a line's ends are below the value. `WIDE`: the caller is compiled for, and runs on, a processor
    /// with AVX-512 F, BW, CD, DQ and VL, AVX2, BMI1, BMI2, LZCNT and POPCNT.
    fn above<const WIDE: bool>(self, line: &Self::Line) -> usize;

    /// Puts the number of the next level's line into `into`, which has each value's line in `lines`: of the first `len`
    /// values. `fan_out`: how many lines, or intervals, follow a line. `WIDE`: as above.
    fn descend<const WIDE: bool>(
        values: &[Self; BURST],
        len: usize,
        lines: &[Self::Line],
        fan_out: usize,
        into: &mut [u16; BURST],
    );

    /// For each value, how many of the first `ends` of `top` are below it: of the first `len` values, and maybe of more.
    /// `WIDE`: as above.
    fn all_above<const WIDE: bool>(
        values: &[Self; BURST],
        len: usize,
        top: &[Self::Line; TOP],
        ends: usize,
        into: &mut [u16; BURST],
    );
}

/// Values that are compared together without AVX-512.
const TOGETHER: usize = 32;

/// Lines of ends that all values of a burst are compared with.
pub const TOP: usize = 4;

macro_rules! value {
    ($value:ty, $module:ident, $line:ident, $per_line:literal, $compare:ident, $broadcast:ident) => {
        #[derive(Clone, Copy, Debug)]
        #[repr(C, align(64))]
        pub struct $line([$value; $per_line]);

        impl AsRef<[$value]> for $line {
            fn as_ref(&self) -> &[$value] {
                &self.0
            }
        }

        impl Value for $value {
            type Line = $line;
            const PER_LINE: usize = $per_line;

            fn line(ends: &[Self]) -> $line {
                let mut line = [<$value>::MAX; $per_line];
                for (to, end) in line.iter_mut().zip(ends) {
                    *to = *end;
                }
                $line(line)
            }

            #[inline(always)]
            fn above<const WIDE: bool>(self, line: &$line) -> usize {
                #[cfg(all(target_arch = "x86_64", not(miri)))]
                if WIDE {
                    /// How many are below.
                    #[inline]
                    #[target_feature(enable = "avx512f,avx512bw,popcnt")]
                    fn wide(value: $value, line: &$line) -> usize {
                        use std::arch::x86_64::{__m512i, $broadcast, $compare};
                        // SAFETY: a line is 64 bytes, at a multiple of 64, and any bits are a vector.
                        #[allow(unsafe_code)]
                        let line = unsafe { *std::ptr::from_ref(line).cast::<__m512i>() };
                        $compare(line, $broadcast(value.cast_signed())).count_ones() as usize
                    }
                    // SAFETY: the caller says that the processor has the features.
                    #[allow(unsafe_code)]
                    return unsafe { wide(self, line) };
                }
                line.0.iter().fold(0 as $value, |below, end| below + <$value>::from(*end < self)) as usize
            }

            #[inline(always)]
            fn descend<const WIDE: bool>(
                values: &[Self; BURST],
                len: usize,
                lines: &[$line],
                fan_out: usize,
                into: &mut [u16; BURST],
            ) {
                #[cfg(all(target_arch = "x86_64", not(miri)))]
                if WIDE {
                    // SAFETY: the caller says that the processor has the features.
                    #[allow(unsafe_code)]
                    return unsafe { wide::$module::descend(values, len, lines, fan_out, into) };
                }
                for (value, into) in values.iter().zip(into).take(len) {
                    let line = usize::from(*into);
                    let above = lines.get(line).map_or(0, |line| value.above::<false>(line));
                    *into = (line * fan_out + above) as u16;
                }
            }

            #[inline(always)]
            fn all_above<const WIDE: bool>(
                values: &[Self; BURST],
                len: usize,
                top: &[$line; TOP],
                ends: usize,
                into: &mut [u16; BURST],
            ) {
                #[cfg(all(target_arch = "x86_64", not(miri)))]
                if WIDE {
                    // SAFETY: the caller says that the processor has the features.
                    #[allow(unsafe_code)]
                    return unsafe { wide::$module::below(values, top, ends, into) };
                }
                // A few vectors of values, against one end after another.
                let chunks = values.as_chunks::<TOGETHER>().0.iter().zip(into.as_chunks_mut::<TOGETHER>().0);
                for (values, into) in chunks.take(len.div_ceil(TOGETHER)) {
                    let mut below = [0 as $value; TOGETHER];
                    for end in top.iter().flat_map(|line| line.0).take(ends) {
                        for (below, value) in below.iter_mut().zip(values) {
                            *below += <$value>::from(end < *value);
                        }
                    }
                    for (into, below) in into.iter_mut().zip(below) {
                        *into = below as u16;
                    }
                }
            }
        }
    };
}

#[cfg(all(target_arch = "x86_64", not(miri)))]
mod wide {
    //! How many ends are below each value, by halving.
    #![allow(unsafe_code)] // Vectors from and to arrays of their size.
    #![allow(clippy::wildcard_imports)] // One intrinsic for each line.

    use std::arch::x86_64::*;

    macro_rules! below {
        ($module:ident, $value:ty, $line:ident, $mask:ty, $lanes:literal, $compare:ident, $broadcast:ident, $add:ident, $sum:ident,
            $permute:ident, $blend:ident, $narrow:expr) => {
            pub(super) mod $module {
                use super::super::{BURST, TOP, $line};
                use super::*;

                /// Ends of two lines.
                const HALF: $value = 2 * $lanes;
                /// Vectors of values.
                const COUNT: usize = BURST / $lanes;

                #[inline]
                #[target_feature(enable = "avx512f,avx512bw,avx512vl")]
                pub(in super::super) fn below(
                    values: &[$value; BURST],
                    top: &[$line; TOP],
                    ends: usize,
                    into: &mut [u16; BURST],
                ) {
                    // SAFETY: arrays are as large as the vectors, and any bits are right for either.
                    let values: [__m512i; COUNT] = unsafe { std::mem::transmute_copy(values) };
                    // SAFETY: so are lines.
                    let [a, b, c, d]: [__m512i; TOP] = unsafe { std::mem::transmute_copy(top) };
                    // Ends below each value are counted bit by bit, the highest first.
                    let mut below = [_mm512_setzero_si512(); COUNT];
                    if ends < usize::from(HALF as u16) {
                        let mut step = (ends + 1).next_power_of_two() as $value / 2;
                        while step > 0 {
                            let (before, add) =
                                ($broadcast((step - 1).cast_signed()), $broadcast(step.cast_signed()));
                            for of in 0..COUNT {
                                let ends = $permute(a, $sum(below[of], before), b);
                                below[of] = $add(below[of], $compare(ends, values[of]), below[of], add);
                            }
                            step /= 2;
                        }
                    } else {
                        let middle = $broadcast(top[1].0[$lanes - 1].cast_signed());
                        let upper: [_; COUNT] = std::array::from_fn(|of| $compare(middle, values[of]));
                        let mut step = HALF / 2;
                        while step > 0 {
                            let (before, add) =
                                ($broadcast((step - 1).cast_signed()), $broadcast(step.cast_signed()));
                            for of in 0..COUNT {
                                let at = $sum(below[of], before);
                                let ends = $blend(upper[of], $permute(a, at, b), $permute(c, at, d));
                                below[of] = $add(below[of], $compare(ends, values[of]), below[of], add);
                            }
                            step /= 2;
                        }
                        for of in 0..COUNT {
                            below[of] = $add(below[of], upper[of], below[of], $broadcast(HALF.cast_signed()));
                        }
                    }
                    let narrow: fn(__m512i, &mut [u16; $lanes]) = $narrow;
                    for (below, into) in below.into_iter().zip(into.as_chunks_mut::<$lanes>().0) {
                        narrow(below, into);
                    }
                }

                #[inline]
                #[target_feature(
                    enable = "avx512f,avx512bw,avx512cd,avx512dq,avx512vl,avx2,bmi1,bmi2,lzcnt,popcnt"
                )]
                pub(in super::super) fn descend(
                    values: &[$value; BURST],
                    len: usize,
                    lines: &[$line],
                    fan_out: usize,
                    into: &mut [u16; BURST],
                ) {
                    // The ends below a value are a line's first ones, and so are the bits of the comparison.
                    let mut below = [0 as $mask; BURST];
                    for ((value, line), below) in values.iter().zip(&*into).zip(&mut below).take(len) {
                        let Some(line) = lines.get(usize::from(*line)) else { break };
                        // SAFETY: a line is as large as a vector, and any bits are right for either.
                        let line: __m512i = unsafe { std::mem::transmute_copy(line) };
                        *below = $compare(line, $broadcast(value.cast_signed()));
                    }
                    for (into, below) in into.iter_mut().zip(below) {
                        *into = *into * fan_out as u16 + (<$mask>::BITS - below.leading_zeros()) as u16;
                    }
                }
            }
        };
    }
    below!(
        v16,
        u16,
        Line16,
        u32,
        32,
        _mm512_cmplt_epu16_mask,
        _mm512_set1_epi16,
        _mm512_mask_add_epi16,
        _mm512_add_epi16,
        _mm512_permutex2var_epi16,
        _mm512_mask_blend_epi16,
        |below, into| {
            // SAFETY: as above.
            *into = unsafe { std::mem::transmute::<__m512i, [u16; 32]>(below) };
        }
    );
    below!(
        v32,
        u32,
        Line32,
        u16,
        16,
        _mm512_cmplt_epu32_mask,
        _mm512_set1_epi32,
        _mm512_mask_add_epi32,
        _mm512_add_epi32,
        _mm512_permutex2var_epi32,
        _mm512_mask_blend_epi32,
        |below, into| {
            // SAFETY: as above.
            *into = unsafe { std::mem::transmute::<__m256i, [u16; 16]>(_mm512_cvtepi32_epi16(below)) };
        }
    );
    below!(
        v64,
        u64,
        Line64,
        u8,
        8,
        _mm512_cmplt_epu64_mask,
        _mm512_set1_epi64,
        _mm512_mask_add_epi64,
        _mm512_add_epi64,
        _mm512_permutex2var_epi64,
        _mm512_mask_blend_epi64,
        |below, into| {
            // SAFETY: as above.
            *into = unsafe { std::mem::transmute::<__m128i, [u16; 8]>(_mm512_cvtepi64_epi16(below)) };
        }
    );
}

value!(u16, v16, Line16, 32, _mm512_cmplt_epu16_mask, _mm512_set1_epi16);
value!(u32, v32, Line32, 16, _mm512_cmplt_epu32_mask, _mm512_set1_epi32);
value!(u64, v64, Line64, 8, _mm512_cmplt_epu64_mask, _mm512_set1_epi64);
