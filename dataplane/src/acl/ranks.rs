//! A search tree over the ends of intervals: which interval a value is in, by one cache line for each level.
//!
//! A line's ends are compared with the value all at once, and the number of those below it says which line of the next
//! level to go to, or at the last level which interval the value is in. Lines of a level lie one after another, so
//! there are no pointers. For a whole burst, the upper levels are searched otherwise (`top`): with AVX-512 by halving,
//! all values of a vector at once, in ends that stay in registers.

use crate::burst::BURST;

use super::lines::{TOP, Value};

/// Most levels of lines: with 8 ends a line, 32,768 ends are five.
const MAX_LEVELS: usize = 5;

/// The tree.
#[derive(Debug)]
pub struct Ranks<V: Value> {
    lines: Box<[V::Line]>,
    /// Where each level begins; the first has one line, the last all ends.
    levels: [u32; MAX_LEVELS],
    depth: usize,
    /// What all values of a burst are compared with: the last value under each line of level `below_top`, but for the
    /// last line; or all ends.
    top: [V::Line; TOP],
    in_top: usize,
    /// The level that follows the top; `depth` if there is none.
    below_top: usize,
}

impl<V: Value> Ranks<V> {
    /// The tree of these ends, which rise, and of which there are at most 32,768. Each is the last value of its interval;
    /// the last interval has none.
    pub(super) fn new(ends: &[V]) -> Self {
        let mut levels: Vec<Vec<V::Line>> = Vec::new();
        // What the top may be instead of the levels above it: the largest that fits.
        let mut top = ends.to_vec();
        let mut below_top = 0;
        if !ends.is_empty() {
            levels.push(ends.chunks(V::PER_LINE).map(V::line).collect());
        }
        // The last value of what is under each line, but for the last.
        let mut lasts: Vec<V> = ends.chunks(V::PER_LINE).filter_map(|line| line.last().copied()).collect();
        loop {
            let between = &lasts[..lasts.len().saturating_sub(1)];
            if top.len() >= TOP * V::PER_LINE {
                top = between.to_vec();
                below_top = levels.len();
            }
            if between.is_empty() {
                break;
            }
            let children = lasts.chunks(V::PER_LINE + 1);
            levels.push(children.clone().map(|lasts| V::line(&lasts[..lasts.len() - 1])).collect());
            lasts = children.filter_map(|lasts| lasts.last().copied()).collect();
        }
        let mut this = Self {
            lines: Box::new([]),
            levels: [0; MAX_LEVELS],
            depth: levels.len().min(MAX_LEVELS),
            top: [V::line(&[]); TOP],
            in_top: top.len(),
            below_top: levels.len() - below_top,
        };
        for (line, ends) in this.top.iter_mut().zip(top.chunks(V::PER_LINE)) {
            *line = V::line(ends);
        }
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
        V::all_above::<WIDE>(values, len, &self.top, self.in_top, into);
        for level in self.below_top..self.depth {
            let (lines, fan_out) = self.level(level);
            V::descend::<WIDE>(values, len, lines, fan_out, into);
        }
    }

    /// The lines of a level and of those below it, and how many lines or intervals follow a line.
    #[inline(always)]
    fn level(&self, level: usize) -> (&[V::Line], usize) {
        let start = self.levels.get(level).map_or(0, |start| *start as usize);
        let last = level + 1 == self.depth;
        (self.lines.get(start..).unwrap_or(&[]), V::PER_LINE + usize::from(!last))
    }

    /// The interval of one value.
    #[inline(always)]
    pub(super) fn interval<const WIDE: bool>(&self, value: V) -> usize {
        (0..self.depth).fold(0, |line, level| {
            let (lines, fan_out) = self.level(level);
            line * fan_out + lines.get(line).map_or(0, |line| value.above::<WIDE>(line))
        })
    }

    pub(super) fn memory(&self) -> usize {
        size_of_val(&*self.lines) + size_of_val(&self.top)
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
            let mut alone = ranks.interval::<false>(values[0]);
            #[cfg(all(target_arch = "x86_64", not(miri)))]
            if crate::worker::has_avx512() {
                wide = [0; BURST];
                ranks.search::<true>(&values, probes.len(), &mut wide);
                assert_eq!(ranks.interval::<true>(values[0]), alone);
            }
            for (at, probe) in probes.iter().enumerate() {
                let count = ends.iter().filter(|end| **end < *probe).count();
                assert_eq!((usize::from(portable[at]), usize::from(wide[at])), (count, count), "{probe:?}");
                if at > 0 {
                    alone = ranks.interval::<false>(*probe);
                }
                assert_eq!(alone, count, "{probe:?}");
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
        // Every size of a top, and the edges of the levels below it.
        for count in
            (0..140).chain([255, 256, 257, 287, 288, 289, 647, 648, 728, 729, 730, 6560, 6561, 32768])
        {
            let ends: Vec<u64> = (0..count).map(|end| end * 3).collect();
            let mut probes: Vec<u64> = (0..count * 3 + 2).step_by(1 + count as usize / 300).collect();
            probes.extend([0, count * 3, (count * 3).saturating_sub(3), u64::MAX]);
            check(&ends, &probes);
            check(
                &ends.iter().map(|end| *end as u32).collect::<Vec<_>>(),
                &probes.iter().map(|probe| *probe as u32).collect::<Vec<_>>(),
            );
            if count <= 6561 {
                check(
                    &ends.iter().map(|end| *end as u16).collect::<Vec<_>>(),
                    &probes.iter().map(|probe| *probe as u16).collect::<Vec<_>>(),
                );
            }
        }
    }
}
