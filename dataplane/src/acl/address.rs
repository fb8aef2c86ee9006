//! Addresses of both families as a field that is searched.

use crate::burst::BURST;

use super::compile::Bound;
use super::ranks::Ranks;
use super::rule::{Addresses, Family};

/// An address as a number in host byte order.
#[allow(private_bounds)] // Sealed: there are two families.
pub trait Address: Copy + Default + std::fmt::Debug + Bound {
    /// Its family.
    const FAMILY: Family;
    /// How intervals of it are found.
    #[doc(hidden)]
    type Search: std::fmt::Debug;

    #[doc(hidden)]
    fn ranges(addresses: &Addresses) -> Vec<(Self, Self)>;
    #[doc(hidden)]
    fn build(ends: &[Self]) -> Self::Search;
    /// Puts the number of each address's interval into `into`: of the first `len`, and maybe of more.
    #[doc(hidden)]
    fn find<const WIDE: bool>(
        search: &Self::Search,
        values: &[Self; BURST],
        len: usize,
        into: &mut [u16; BURST],
    );
    #[doc(hidden)]
    fn memory(search: &Self::Search) -> usize;
}

impl Address for u32 {
    const FAMILY: Family = Family::V4;
    type Search = Ranks<u32>;

    fn ranges(addresses: &Addresses) -> Vec<(Self, Self)> {
        let range = |&(address, len): &(u32, u8)| {
            let hosts = Self::MAX.checked_shr(u32::from(len)).unwrap_or(0);
            (address & !hosts, address | hosts)
        };
        addresses.v4.iter().map(range).collect()
    }

    fn build(ends: &[Self]) -> Ranks<u32> {
        Ranks::new(ends)
    }

    #[inline(always)]
    fn find<const WIDE: bool>(
        search: &Ranks<u32>,
        values: &[Self; BURST],
        len: usize,
        into: &mut [u16; BURST],
    ) {
        search.search::<WIDE>(values, len, into);
    }

    fn memory(search: &Ranks<u32>) -> usize {
        search.memory()
    }
}

/// IPv6: by the upper half of an address, which nearly always decides; where it does not, by the lower half in a tree of
/// its own.
#[derive(Debug)]
pub struct Halves {
    upper: Ranks<u64>,
    /// By interval of the upper half: the number of the address's interval, or from [`INNER`] on, that of a tree in `inner`.
    numbers: Box<[u16]>,
    /// Trees for the lower half, and the number of the first interval in each.
    inner: Box<[(Ranks<u64>, u16)]>,
}

/// Numbers from here on are those of trees for the lower half.
const INNER: u16 = 1 << 15;

/// [`Halves`] as they are built.
#[derive(Default)]
struct Building {
    ends: Vec<u64>,
    numbers: Vec<u16>,
    inner: Vec<(Ranks<u64>, u16)>,
    /// The tree for the lower half that is being built: its ends, and its first interval.
    open: (Vec<u64>, u16),
}

impl Building {
    fn upper(&mut self, end: u64, number: u16) {
        self.ends.push(end);
        self.numbers.push(number);
    }

    /// Adds interval `number` from `first` to `last`, which follows the one before.
    fn add(&mut self, first: u128, last: u128, number: u16) {
        let halves = |value: u128| ((value >> 64) as u64, value as u64);
        let ((mut upper, lower), (last_upper, last_lower)) = (halves(first), halves(last));
        if lower != 0 {
            if upper == last_upper && last_lower != u64::MAX {
                return self.open.0.push(last_lower);
            }
            let (ends, first) = std::mem::take(&mut self.open);
            self.upper(upper, INNER | self.inner.len() as u16);
            self.inner.push((Ranks::new(&ends), first));
            if upper == last_upper {
                return;
            }
            upper += 1;
        }
        if last_lower == u64::MAX {
            return self.upper(last_upper, number);
        }
        if last_upper > upper {
            self.upper(last_upper - 1, number);
        }
        self.open = (vec![last_lower], number);
    }
}

impl Address for u128 {
    const FAMILY: Family = Family::V6;
    type Search = Halves;

    fn ranges(addresses: &Addresses) -> Vec<(Self, Self)> {
        let range = |&(address, len): &(u128, u8)| {
            let hosts = Self::MAX.checked_shr(u32::from(len)).unwrap_or(0);
            (address & !hosts, address | hosts)
        };
        addresses.v6.iter().map(range).collect()
    }

    fn build(ends: &[Self]) -> Halves {
        let mut building = Building::default();
        let mut first = 0;
        for (number, last) in ends.iter().chain([&Self::MAX]).enumerate() {
            building.add(first, *last, number as u16);
            first = last.wrapping_add(1);
        }
        // The last interval ends where addresses end.
        building.ends.pop();
        Halves {
            upper: Ranks::new(&building.ends),
            numbers: building.numbers.into(),
            inner: building.inner.into(),
        }
    }

    #[inline(always)]
    fn find<const WIDE: bool>(search: &Halves, values: &[Self; BURST], len: usize, into: &mut [u16; BURST]) {
        let mut upper = [0; BURST];
        for (upper, value) in upper.iter_mut().zip(values) {
            *upper = (value >> 64) as u64;
        }
        search.upper.search::<WIDE>(&upper, len, into);
        let mut any = 0;
        for number in &mut into[..len] {
            *number = search.numbers.get(usize::from(*number)).copied().unwrap_or(0);
            any |= *number;
        }
        if any & INNER != 0 {
            find_lower::<WIDE>(search, &values[..len], into);
        }
    }

    fn memory(search: &Halves) -> usize {
        let inner = search.inner.iter().map(|(tree, _)| tree.memory()).sum::<usize>();
        search.upper.memory() + size_of_val(&*search.numbers) + size_of_val(&*search.inner) + inner
    }
}

/// Goes on with the lower half where the upper one does not decide.
#[inline(always)]
fn find_lower<const WIDE: bool>(search: &Halves, values: &[u128], into: &mut [u16; BURST]) {
    for (number, value) in into.iter_mut().zip(values) {
        if *number & INNER != 0 {
            let tree = search.inner.get(usize::from(*number & !INNER));
            let interval = |tree: &Ranks<u64>| tree.interval::<WIDE>(*value as u64) as u16;
            *number = tree.map_or(0, |(tree, first)| first.wrapping_add(interval(tree)));
        }
    }
}
