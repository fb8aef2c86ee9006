//! A search tree over the ends of intervals: which interval a value is in, by one cache line for each level.
//!
//! A line's ends are compared with the value all at once, and the number of those below it says which line of the next
//! level to go to, or at the last level which interval the value is in. Lines of a level lie one after another, so
//! there are no pointers: with 16 ends a line, 4,912 ends are three levels.

/// A value to search for: the ends of a line, and how they are compared.
pub trait Value: Copy + Ord {
    /// Ends of one cache line.
    type Line: Copy + std::fmt::Debug;
    /// How many they are.
    const PER_LINE: usize;

    /// A line of up to `PER_LINE` ends, filled up with the largest value.
    fn line(ends: &[Self]) -> Self::Line;

    /// How many of a line's ends are below the value. `WIDE`: the caller is compiled for, and runs on, a processor
    /// with AVX-512 F and BW.
    fn above<const WIDE: bool>(self, line: &Self::Line) -> usize;
}

macro_rules! value {
    ($value:ty, $line:ident, $per_line:literal, $compare:ident, $broadcast:ident) => {
        #[derive(Clone, Copy, Debug)]
        #[repr(C, align(64))]
        pub struct $line([$value; $per_line]);

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
        }
    };
}

value!(u16, Line16, 32, _mm512_cmplt_epu16_mask, _mm512_set1_epi16);
value!(u32, Line32, 16, _mm512_cmplt_epu32_mask, _mm512_set1_epi32);
value!(u64, Line64, 8, _mm512_cmplt_epu64_mask, _mm512_set1_epi64);

/// Most levels: with 8 ends a line, 59,048 ends.
const MAX_LEVELS: usize = 5;

/// The tree.
#[derive(Debug)]
pub(super) struct Ranks<V: Value> {
    lines: Box<[V::Line]>,
    /// Where each level begins; the last is that of all ends.
    levels: [u32; MAX_LEVELS],
    depth: usize,
}

impl<V: Value> Ranks<V> {
    /// The tree of these ends, which rise, and of which there are at most 32,768. Each is the last value of its interval;
    /// the last interval has none.
    pub(super) fn new(ends: &[V]) -> Self {
        let mut level: Vec<V::Line> = ends.chunks(V::PER_LINE).map(V::line).collect();
        // The last value of what is under each line.
        let mut lasts: Vec<V> = ends.chunks(V::PER_LINE).filter_map(|line| line.last().copied()).collect();
        if level.is_empty() {
            level.push(V::line(&[]));
        }
        let mut levels = vec![level];
        while lasts.len() > 1 {
            let children = lasts.chunks(V::PER_LINE + 1);
            let level = children.clone().map(|lasts| V::line(&lasts[..lasts.len() - 1])).collect();
            lasts = children.filter_map(|lasts| lasts.last().copied()).collect();
            levels.push(level);
        }
        let depth = levels.len().min(MAX_LEVELS);
        let mut this = Self { lines: Box::new([]), levels: [0; MAX_LEVELS], depth };
        let mut lines = Vec::new();
        for (level, start) in levels.iter().rev().zip(&mut this.levels) {
            *start = lines.len() as u32;
            lines.extend_from_slice(level);
        }
        this.lines = lines.into();
        this
    }

    /// Calls `found` with the number of each value and of its interval.
    #[inline(always)]
    pub(super) fn search<const WIDE: bool>(&self, values: &[V], found: impl FnMut(usize, usize)) {
        match self.depth {
            1 => self.search_in::<WIDE, 1>(values, found),
            2 => self.search_in::<WIDE, 2>(values, found),
            3 => self.search_in::<WIDE, 3>(values, found),
            4 => self.search_in::<WIDE, 4>(values, found),
            _ => self.search_in::<WIDE, MAX_LEVELS>(values, found),
        }
    }

    #[inline(always)]
    fn search_in<const WIDE: bool, const DEPTH: usize>(
        &self,
        values: &[V],
        mut found: impl FnMut(usize, usize),
    ) {
        for (at, value) in values.iter().enumerate() {
            let mut line = 0;
            for (level, start) in self.levels[..DEPTH].iter().enumerate() {
                let Some(ends) = self.lines.get(*start as usize + line) else { break };
                let fan_out = if level + 1 == DEPTH { V::PER_LINE } else { V::PER_LINE + 1 };
                line = line * fan_out + value.above::<WIDE>(ends);
            }
            found(at, line);
        }
    }

    /// The interval of one value.
    pub(super) fn interval(&self, value: V) -> usize {
        let mut interval = 0;
        self.search::<false>(&[value], |_, found| interval = found);
        interval
    }

    pub(super) fn memory(&self) -> usize {
        size_of_val(&*self.lines)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Every end, and its neighbours, against a count.
    fn check<V: Value + std::fmt::Debug>(ends: &[V], probes: &[V]) {
        let ranks = Ranks::new(ends);
        let count = |value: V| ends.iter().filter(|end| **end < value).count();
        ranks.search::<false>(probes, |at, found| assert_eq!(found, count(probes[at]), "{:?}", probes[at]));
        #[cfg(all(target_arch = "x86_64", not(miri)))]
        if crate::worker::has_avx512() {
            ranks
                .search::<true>(probes, |at, found| assert_eq!(found, count(probes[at]), "{:?}", probes[at]));
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
