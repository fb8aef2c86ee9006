//! Addresses of both families as a field that is searched.

use crate::burst::BURST;

use super::compile::Bound;
use super::ranks::{Ranks, Value};
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
    fn build(ends: &[Self], numbers: &[u16]) -> Self::Search;
    /// Puts the number of each address's row into `into`.
    #[doc(hidden)]
    fn find<const WIDE: bool>(search: &Self::Search, values: &[Self], into: &mut [u16; BURST]);
    #[doc(hidden)]
    fn memory(search: &Self::Search) -> usize;
}

/// A tree, and the number of each interval's row.
#[derive(Debug)]
pub struct Flat<V: Value> {
    ranks: Ranks<V>,
    numbers: Box<[u16]>,
}

impl<V: Value> Flat<V> {
    pub(super) fn new(ends: &[V], numbers: &[u16]) -> Self {
        Self { ranks: Ranks::new(ends), numbers: numbers.into() }
    }

    #[inline(always)]
    pub(super) fn find<const WIDE: bool>(&self, values: &[V], into: &mut [u16; BURST]) {
        self.ranks.search::<WIDE>(values, |at, interval| {
            into[at & (BURST - 1)] = self.numbers.get(interval).copied().unwrap_or(0);
        });
    }

    fn one(&self, value: V) -> u16 {
        self.numbers.get(self.ranks.interval(value)).copied().unwrap_or(0)
    }

    pub(super) fn memory(&self) -> usize {
        self.ranks.memory() + size_of_val(&*self.numbers)
    }
}

impl Address for u32 {
    const FAMILY: Family = Family::V4;
    type Search = Flat<u32>;

    fn ranges(addresses: &Addresses) -> Vec<(Self, Self)> {
        let range = |&(address, len): &(u32, u8)| {
            let hosts = Self::MAX.checked_shr(u32::from(len)).unwrap_or(0);
            (address & !hosts, address | hosts)
        };
        addresses.v4.iter().map(range).collect()
    }

    fn build(ends: &[Self], numbers: &[u16]) -> Flat<u32> {
        Flat::new(ends, numbers)
    }

    #[inline(always)]
    fn find<const WIDE: bool>(search: &Flat<u32>, values: &[Self], into: &mut [u16; BURST]) {
        search.find::<WIDE>(values, into);
    }

    fn memory(search: &Flat<u32>) -> usize {
        search.memory()
    }
}

/// IPv6: by the upper half of an address, which nearly always decides; where it does not, by the lower half in a tree of
/// its own.
#[derive(Debug)]
pub struct Halves {
    /// Numbers of rows, or from [`INNER`] on, of trees in `inner`.
    upper: Flat<u64>,
    inner: Box<[Flat<u64>]>,
}

/// Numbers from here on are those of trees for the lower half.
const INNER: u16 = 1 << 15;

/// [`Halves`] as they are built.
#[derive(Default)]
struct Building {
    ends: Vec<u64>,
    numbers: Vec<u16>,
    inner: Vec<Flat<u64>>,
    /// Ends and numbers of the tree for the lower half that is being built.
    open: (Vec<u64>, Vec<u16>),
}

impl Building {
    fn upper(&mut self, end: u64, number: u16) {
        self.ends.push(end);
        self.numbers.push(number);
    }

    /// Adds the interval from `first` to `last`, which follows the one before.
    fn add(&mut self, first: u128, last: u128, number: u16) {
        let halves = |value: u128| ((value >> 64) as u64, value as u64);
        let ((mut upper, lower), (last_upper, last_lower)) = (halves(first), halves(last));
        if lower != 0 {
            self.open.1.push(number);
            if upper == last_upper && last_lower != u64::MAX {
                return self.open.0.push(last_lower);
            }
            let (ends, numbers) = std::mem::take(&mut self.open);
            self.upper(upper, INNER | self.inner.len() as u16);
            self.inner.push(Flat::new(&ends, &numbers));
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
        self.open = (vec![last_lower], vec![number]);
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

    fn build(ends: &[Self], numbers: &[u16]) -> Halves {
        let mut building = Building::default();
        let mut first = 0;
        for (at, number) in numbers.iter().enumerate() {
            let last = ends.get(at).copied().unwrap_or(Self::MAX);
            building.add(first, last, *number);
            first = last.wrapping_add(1);
        }
        // The last interval ends where addresses end.
        building.ends.pop();
        Halves { upper: Flat::new(&building.ends, &building.numbers), inner: building.inner.into() }
    }

    #[inline(always)]
    fn find<const WIDE: bool>(search: &Halves, values: &[Self], into: &mut [u16; BURST]) {
        let mut upper = [0; BURST];
        for (upper, value) in upper.iter_mut().zip(values) {
            *upper = (value >> 64) as u64;
        }
        let len = values.len().min(BURST);
        search.upper.find::<WIDE>(&upper[..len], into);
        if into[..len].iter().fold(0, |any, number| any | number) & INNER != 0 {
            find_lower(search, values, into);
        }
    }

    fn memory(search: &Halves) -> usize {
        search.upper.memory() + search.inner.iter().map(Flat::memory).sum::<usize>()
    }
}

/// Goes on with the lower half where the upper one does not decide.
#[inline(never)]
fn find_lower(search: &Halves, values: &[u128], into: &mut [u16; BURST]) {
    for (number, value) in into.iter_mut().zip(values) {
        if *number & INNER != 0 {
            let tree = search.inner.get(usize::from(*number & !INNER));
            *number = tree.map_or(0, |tree| tree.one(*value as u64));
        }
    }
}
