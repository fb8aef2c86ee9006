//! A search tree over the ends of intervals: which interval a value is in, by one cache line for each level.
//!
//! A line's ends are compared with the value all at once, and the number of those below it says which line of the next
//! level to go to, or at the last level which interval the value is in. Lines of a level lie one after another, so
//! there are no pointers. The uppermost level is searched the other way round: each of its few ends is compared with all
//! values of a burst at once.

use crate::burst::BURST;

/// A value to search for: the ends of a line, and how they are compared.
pub trait Value: Copy + Ord + Default {
    /// Ends of one cache line.
    type Line: Copy + std::fmt::Debug;
    /// How many they are.
    const PER_LINE: usize;
    /// Most ends that all values of a burst are compared with, one end after another: so few that it costs no more than
    /// a level of lines.
    const AT_ONCE: usize;

    /// A line of up to `PER_LINE` ends, filled up with the largest value.
    fn line(ends: &[Self]) -> Self::Line;

    /// How many of a line's ends are below the value. `WIDE`: the caller is compiled for, and runs on, a processor
    /// with AVX-512 F, BW, DQ and VL, AVX2, BMI1, BMI2, LZCNT and POPCNT.
    fn above<const WIDE: bool>(self, line: &Self::Line) -> usize;

    /// For each value, how many of `ends` are below it. `WIDE`: as above.
    fn all_above<const WIDE: bool>(
        values: &[Self; BURST],
        len: usize,
        ends: &[Self],
        into: &mut [u16; BURST],
    );
}

macro_rules! value {
    ($value:ty, $module:ident, $line:ident, $per_line:literal, $at_once:literal, $compare:ident, $broadcast:ident) => {
        #[derive(Clone, Copy, Debug)]
        #[repr(C, align(64))]
        pub struct $line([$value; $per_line]);

        impl Value for $value {
            type Line = $line;
            const PER_LINE: usize = $per_line;
            const AT_ONCE: usize = $at_once;

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
            fn all_above<const WIDE: bool>(
                values: &[Self; BURST],
                len: usize,
                ends: &[Self],
                into: &mut [u16; BURST],
            ) {
                // A few vectors of values, against one end after another.
                const TOGETHER: usize = 32;
                let chunks = values.as_chunks::<TOGETHER>().0.iter().zip(into.as_chunks_mut::<TOGETHER>().0);
                for (values, into) in chunks.take(len.div_ceil(TOGETHER)) {
                    #[cfg(all(target_arch = "x86_64", not(miri)))]
                    if WIDE {
                        // SAFETY: the caller says that the processor has the features.
                        #[allow(unsafe_code)]
                        unsafe {
                            wide::$module::below(values, ends, into);
                        }
                        continue;
                    }
                    let mut below = [0 as $value; TOGETHER];
                    for end in ends {
                        for (below, value) in below.iter_mut().zip(values) {
                            *below += <$value>::from(*end < *value);
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
    //! How many ends are below each of 32 values.
    #![allow(unsafe_code)] // Vectors from and to arrays of their size.
    #![allow(clippy::wildcard_imports)] // One intrinsic for each line.

    use std::arch::x86_64::*;

    macro_rules! below {
        ($module:ident, $value:ty, $vectors:literal, $compare:ident, $broadcast:ident, $add:ident, $narrow:expr) => {
            pub(super) mod $module {
                use super::*;

                #[inline]
                #[target_feature(enable = "avx512f,avx512bw,avx512vl")]
                pub(in super::super) fn below(values: &[$value; 32], ends: &[$value], into: &mut [u16; 32]) {
                    // SAFETY: the arrays are as large as the vectors, and any bits are right for either.
                    let values: [__m512i; $vectors] = unsafe { std::mem::transmute_copy(values) };
                    let one = $broadcast(1);
                    let mut below = [_mm512_setzero_si512(); $vectors];
                    for end in ends {
                        let end = $broadcast(end.cast_signed());
                        for at in 0..$vectors {
                            below[at] = $add(below[at], $compare(end, values[at]), below[at], one);
                        }
                    }
                    let narrow: fn([__m512i; $vectors], &mut [u16; 32]) = $narrow;
                    narrow(below, into);
                }
            }
        };
    }
    below!(v16, u16, 1, _mm512_cmplt_epu16_mask, _mm512_set1_epi16, _mm512_mask_add_epi16, |below, into| {
        // SAFETY: as above.
        *into = unsafe { std::mem::transmute::<[__m512i; 1], [u16; 32]>(below) };
    });
    below!(v32, u32, 2, _mm512_cmplt_epu32_mask, _mm512_set1_epi32, _mm512_mask_add_epi32, |below, into| {
        let (low, high) = into.split_at_mut(16);
        for (into, below) in [low, high].into_iter().zip(below) {
            // SAFETY: as above; each half has 16 places.
            unsafe { _mm256_storeu_si256(into.as_mut_ptr().cast(), _mm512_cvtepi32_epi16(below)) };
        }
    });
    below!(v64, u64, 4, _mm512_cmplt_epu64_mask, _mm512_set1_epi64, _mm512_mask_add_epi64, |below, into| {
        for (into, below) in into.chunks_exact_mut(8).zip(below) {
            // SAFETY: as above; each chunk has 8 places.
            unsafe { _mm_storeu_si128(into.as_mut_ptr().cast(), _mm512_cvtepi64_epi16(below)) };
        }
    });
}

value!(u16, v16, Line16, 32, 64, _mm512_cmplt_epu16_mask, _mm512_set1_epi16);
value!(u32, v32, Line32, 16, 32, _mm512_cmplt_epu32_mask, _mm512_set1_epi32);
value!(u64, v64, Line64, 8, 24, _mm512_cmplt_epu64_mask, _mm512_set1_epi64);

/// Most levels of lines: with 8 ends a line and 24 at the top, 145,800 ends are four.
const MAX_LEVELS: usize = 4;

/// The tree.
#[derive(Debug)]
pub struct Ranks<V: Value> {
    /// The last value under each line of the first level, but for the last line; without lines, all ends.
    top: Box<[V]>,
    lines: Box<[V::Line]>,
    /// Where each level begins; the last is that of all ends.
    levels: [u32; MAX_LEVELS],
    depth: usize,
}

impl<V: Value> Ranks<V> {
    /// The tree of these ends, which rise, and of which there are at most 32,768. Each is the last value of its interval;
    /// the last interval has none.
    pub(super) fn new(ends: &[V]) -> Self {
        let mut this = Self { top: ends.into(), lines: Box::new([]), levels: [0; MAX_LEVELS], depth: 0 };
        if ends.len() <= V::AT_ONCE {
            return this;
        }
        let mut levels: Vec<Vec<V::Line>> = vec![ends.chunks(V::PER_LINE).map(V::line).collect()];
        // The last value of what is under each line.
        let mut lasts: Vec<V> = ends.chunks(V::PER_LINE).filter_map(|line| line.last().copied()).collect();
        while lasts.len() > V::AT_ONCE + 1 {
            let children = lasts.chunks(V::PER_LINE + 1);
            levels.push(children.clone().map(|lasts| V::line(&lasts[..lasts.len() - 1])).collect());
            lasts = children.filter_map(|lasts| lasts.last().copied()).collect();
        }
        lasts.pop();
        this.top = lasts.into();
        this.depth = levels.len().min(MAX_LEVELS);
        let mut lines = Vec::new();
        for (level, start) in levels.iter().rev().zip(&mut this.levels) {
            *start = lines.len() as u32;
            lines.extend_from_slice(level);
        }
        this.lines = lines.into();
        this
    }

    /// Puts the number of each value's interval into `into`: of the first `len`, and maybe of more.
    #[inline(always)]
    pub(super) fn search<const WIDE: bool>(&self, values: &[V; BURST], len: usize, into: &mut [u16; BURST]) {
        V::all_above::<WIDE>(values, len, &self.top, into);
        match self.depth {
            0 => {}
            1 => self.descend::<WIDE, 1>(values, len, into),
            2 => self.descend::<WIDE, 2>(values, len, into),
            3 => self.descend::<WIDE, 3>(values, len, into),
            _ => self.descend::<WIDE, MAX_LEVELS>(values, len, into),
        }
    }

    #[inline(always)]
    fn descend<const WIDE: bool, const DEPTH: usize>(
        &self,
        values: &[V; BURST],
        len: usize,
        into: &mut [u16; BURST],
    ) {
        for (value, into) in values.iter().zip(into).take(len) {
            let mut line = usize::from(*into);
            for (level, start) in self.levels[..DEPTH].iter().enumerate() {
                let Some(ends) = self.lines.get(*start as usize + line) else { break };
                let fan_out = if level + 1 == DEPTH { V::PER_LINE } else { V::PER_LINE + 1 };
                line = line * fan_out + value.above::<WIDE>(ends);
            }
            *into = line as u16;
        }
    }

    /// The interval of one value.
    pub(super) fn interval(&self, value: V) -> usize {
        let (mut values, mut into) = ([V::default(); BURST], [0; BURST]);
        values[0] = value;
        self.search::<false>(&values, 1, &mut into);
        usize::from(into[0])
    }

    pub(super) fn memory(&self) -> usize {
        size_of_val(&*self.lines) + size_of_val(&*self.top)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Every end, and its neighbours, against a count.
    fn check<V: Value + std::fmt::Debug>(ends: &[V], probes: &[V]) {
        let ranks = Ranks::new(ends);
        for probes in probes.chunks(BURST) {
            let mut values = [V::default(); BURST];
            values[..probes.len()].copy_from_slice(probes);
            let mut portable = [0; BURST];
            ranks.search::<false>(&values, probes.len(), &mut portable);
            let mut wide = portable;
            #[cfg(all(target_arch = "x86_64", not(miri)))]
            if crate::worker::has_avx512() {
                ranks.search::<true>(&values, probes.len(), &mut wide);
            }
            for (at, probe) in probes.iter().enumerate() {
                let count = ends.iter().filter(|end| **end < *probe).count();
                assert_eq!((usize::from(portable[at]), usize::from(wide[at])), (count, count), "{probe:?}");
            }
        }
    }

    proptest! {
        #[test]
        fn a_value_is_in_the_interval_that_counting_says(mut ends in prop::collection::vec(any::<u64>(), 0..3000)) {
            ends.sort_unstable();
            ends.dedup();
            let around = |end: &u64| [end.wrapping_sub(1), *end, end.wrapping_add(1)];
            let mut probes: Vec<u64> = ends.iter().step_by(7).flat_map(around).collect();
            probes.extend([0, u64::MAX]);
            probes.extend(ends.last().iter().flat_map(|end| around(end)));
            check(&ends, &probes);
            macro_rules! narrow {
                ($to:ty, $shift:literal) => {
                    let mut narrow: Vec<$to> = ends.iter().map(|end| (end >> $shift) as $to).collect();
                    narrow.dedup();
                    check(&narrow, &probes.iter().map(|probe| (probe >> $shift) as $to).collect::<Vec<_>>());
                };
            }
            narrow!(u32, 32);
            narrow!(u16, 48);
        }
    }

    #[test]
    fn trees_at_the_limits_of_a_level_are_whole() {
        for count in [0, 1, 7, 8, 9, 71, 72, 73, 80, 81, 647, 648, 728, 729, 730, 6560, 6561, 32768] {
            let ends: Vec<u64> = (0..count).map(|end| end * 3).collect();
            let mut probes: Vec<u64> = (0..count * 3 + 2).step_by(1 + count as usize / 300).collect();
            probes.extend([0, count * 3, (count * 3).saturating_sub(3), u64::MAX]);
            check(&ends, &probes);
        }
    }
}
