//! The IPv4 table of one VRF.

use std::net::Ipv4Addr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use super::FibError;
use super::default::DefaultRoute;
use super::front::{Family, FibWriter, Table};
use super::pages::{Pages, Room, written_bytes};
use super::routes::Value;
use super::shape4::{Blocks, ROOT_BITS, Shape4, escape, is_escape, resolve, run_value, slot_of};
use super::writer::Writer;
use crate::grace::GracePeriod;
use crate::ids::GroupId;

/// Entries of the root.
const ROOT: usize = 1 << ROOT_BITS;
/// Addresses that a look-up takes at once.
const BATCH: usize = 64;

/// The side of an IPv4 table that workers read. Share it in an `Arc`.
#[derive(Debug)]
pub struct Fib4 {
    pages: Arc<Pages>,
    default: DefaultRoute,
}

impl Fib4 {
    /// The group of the longest prefix that covers `addr` (host byte order), or `GroupId::NO_ROUTE`.
    #[inline]
    pub fn lookup(&self, addr: u32) -> GroupId {
        loop {
            let seen = self.default.seen();
            let tree = self.root(addr);
            let value = resolve(Blocks::of(&self.pages), tree, addr);
            if value != 0 || self.default.held(seen) {
                return seen.group(value);
            }
        }
    }

    /// Looks up a burst: `out[i]` becomes the group of `addrs[i]`, for as many as the shorter slice has.
    #[inline]
    pub fn lookup_batch(&self, addrs: &[u32], out: &mut [GroupId]) {
        for (addrs, out) in addrs.chunks(BATCH).zip(out.chunks_mut(BATCH)) {
            self.batch(addrs, out);
        }
    }

    #[cfg(all(target_arch = "x86_64", not(miri)))]
    #[inline]
    fn batch(&self, addrs: &[u32], out: &mut [GroupId]) {
        if !x86::wide_batch(self, addrs, out) {
            self.portable_batch(addrs, out);
        }
    }

    #[cfg(not(all(target_arch = "x86_64", not(miri))))]
    fn batch(&self, addrs: &[u32], out: &mut [GroupId]) {
        self.portable_batch(addrs, out);
    }

    #[inline(always)]
    fn portable_batch(&self, addrs: &[u32], out: &mut [GroupId]) {
        // A full burst is what matters: as its length is known, its loops have no remainders.
        match (<&[u32; BATCH]>::try_from(addrs), <&mut [GroupId; BATCH]>::try_from(&mut *out)) {
            (Ok(addrs), Ok(out)) => self.passes(addrs, out),
            _ => self.passes(addrs, out),
        }
    }

    /// A burst in short passes, each of which does one thing for all addresses: the processor then sees far enough
    /// ahead for the whole burst to wait for memory together, and does the last pass for several addresses at once.
    #[inline(always)]
    fn passes(&self, addrs: &[u32], out: &mut [GroupId]) {
        let (root, blocks) = (self.root_entries(), Blocks::of(&self.pages));
        let (mut trees, mut slots, mut found) = ([0; BATCH], [0; BATCH], [0; BATCH]);
        loop {
            let seen = self.default.seen();
            for (tree, &addr) in trees.iter_mut().zip(addrs) {
                *tree = root[(addr >> (32 - ROOT_BITS)) as usize].load(Ordering::Acquire);
                super::prefetch(blocks.words.as_ptr().wrapping_add(*tree as usize));
            }
            for (slot, &addr) in slots.iter_mut().zip(addrs) {
                *slot = slot_of(addr);
            }
            for ((found, &tree), &slot) in found.iter_mut().zip(&trees).zip(&slots).take(addrs.len()) {
                // SAFETY: the pass before read the tree from the root.
                #[allow(unsafe_code)]
                unsafe {
                    *found = run_value(blocks, tree, slot);
                }
            }
            let mut any = 0;
            for (group, &found) in out.iter_mut().zip(&found).take(addrs.len()) {
                *group = seen.group(Value::from(found));
                any |= found;
            }
            if is_escape(any) {
                for (at, (&addr, group)) in addrs.iter().zip(&mut *out).enumerate() {
                    if is_escape(found[at]) {
                        *group = seen.group(escape(blocks, trees[at], found[at], addr));
                    }
                }
            }
            if self.default.held(seen) {
                return;
            }
        }
    }

    #[inline(always)]
    fn root_entries(&self) -> &[AtomicU32; ROOT] {
        static EMPTY: [AtomicU32; ROOT] = [const { AtomicU32::new(0) }; ROOT];
        // Always the first: a table is made with more words than that. An array needs no checks of its index.
        self.pages.heads().first_chunk().unwrap_or(&EMPTY)
    }

    /// Asks the memory for what a look-up of `addr` will read first. Worth calling when the address is known
    /// some tens of nanoseconds before its look-up.
    #[inline]
    pub fn prefetch(&self, addr: u32) {
        super::prefetch(self.pages.heads().as_ptr().wrapping_add((addr >> (32 - ROOT_BITS)) as usize));
    }

    /// Bytes that the table occupies: its blocks, and the pages of its root that hold anything.
    pub fn memory(&self) -> usize {
        let is_zero = |word: &AtomicU32| word.load(Ordering::Relaxed) == 0;
        self.pages.used_bytes() + written_bytes(self.root_entries(), is_zero)
    }

    /// Whether the table is on huge pages; `None` while it is too small to ask for them.
    pub fn is_on_huge_pages(&self) -> Option<bool> {
        self.pages.huge()
    }

    #[inline(always)]
    fn root(&self, addr: u32) -> u32 {
        self.pages.heads()[(addr >> (32 - ROOT_BITS)) as usize].load(Ordering::Acquire)
    }
}

#[cfg(all(target_arch = "x86_64", not(miri)))]
mod avx512;

#[cfg(all(target_arch = "x86_64", not(miri)))]
mod x86 {
    //! The portable look-up, compiled for what the processor has: bit counts in one instruction, and wide ones for
    //! the passes that touch no table.
    #![allow(unsafe_code)] // Calls that need a processor feature, after a check for it.

    use super::super::processor::Processor;
    use super::{Fib4, GroupId};

    #[target_feature(enable = "popcnt,bmi1,bmi2,avx2,avx512f,avx512bw,avx512vl")]
    pub(super) fn avx512(fib: &Fib4, addrs: &[u32], out: &mut [GroupId]) {
        match (addrs.try_into(), (&mut *out).try_into()) {
            (Ok(addrs), Ok(out)) => super::avx512::full(fib, addrs, out),
            _ => fib.portable_batch(addrs, out),
        }
    }

    #[target_feature(enable = "popcnt,bmi1,bmi2,avx2")]
    pub(super) fn avx2(fib: &Fib4, addrs: &[u32], out: &mut [GroupId]) {
        fib.portable_batch(addrs, out);
    }

    /// False where the processor has neither, and nothing was looked up.
    #[inline]
    pub(super) fn wide_batch(fib: &Fib4, addrs: &[u32], out: &mut [GroupId]) -> bool {
        let processor = Processor::this();
        if processor >= Processor::Avx512 {
            // SAFETY: the processor has the features that the function is compiled with.
            unsafe { avx512(fib, addrs, out) }
        } else if processor >= Processor::Avx2 {
            // SAFETY: as above.
            unsafe { avx2(fib, addrs, out) }
        } else {
            return false;
        }
        true
    }

    #[cfg(test)]
    mod tests {
        use std::sync::Arc;

        use proptest::prelude::*;

        use super::super::{BATCH, Fib4Writer};
        use super::*;
        use crate::grace::NoReaders;

        proptest! {
            #[test]
            fn wide_and_portable_look_ups_agree(
                routes in prop::collection::vec((any::<u32>(), 1u8..=32, prop::sample::select(vec![3u32, 9, 0x7FFE, 0x7FFF, 0x8000, 1 << 20])), 0..200),
                addrs in prop::collection::vec(any::<u32>(), 0..=BATCH),
                near in prop::collection::vec((any::<prop::sample::Index>(), 0u32..4), 0..=BATCH),
            ) {
                let mut writer = Fib4Writer::new(Arc::new(NoReaders)).unwrap();
                for &(addr, len, group) in &routes {
                    writer.insert(addr & crate::fib::routes::mask32(len), len, GroupId(group)).unwrap();
                }
                let near = near.iter().filter(|_| !routes.is_empty()).map(|(at, off)| at.get(&routes).0.wrapping_add(*off));
                let addrs: Vec<u32> = near.chain(addrs.iter().copied()).take(BATCH).collect();
                let fib = writer.reader();
                let one_by_one: Vec<GroupId> = addrs.iter().map(|&addr| fib.lookup(addr)).collect();
                let mut out = vec![GroupId(u32::MAX); addrs.len()];
                fib.portable_batch(&addrs, &mut out);
                prop_assert_eq!(&out, &one_by_one);
                if Processor::this() >= Processor::Avx2 {
                    out.fill(GroupId(u32::MAX));
                    // SAFETY: the processor has the features.
                    unsafe { avx2(&fib, &addrs, &mut out) };
                    prop_assert_eq!(&out, &one_by_one);
                }
                if Processor::this() >= Processor::Avx512 {
                    out.fill(GroupId(u32::MAX));
                    // SAFETY: the processor has the features.
                    unsafe { avx512(&fib, &addrs, &mut out) };
                    prop_assert_eq!(&out, &one_by_one);
                }
            }
        }
    }
}

/// The side of an IPv4 table that control writes. There is one for each table.
pub type Fib4Writer = FibWriter<Fib4>;

impl Table for Fib4 {
    type Addr = u32;
}

impl Family for Fib4 {
    type Shape = Shape4;
    const WIDTH: u8 = 32;
    const MOST: usize = 1 << 30;
    #[cfg(test)]
    const FIRST_BLOCK: usize = 2;

    fn empty(grace: Arc<dyn GracePeriod>, most: usize) -> Result<(Self, Writer<Shape4>), FibError> {
        // The root, and behind it the writer's own numbers of what is under each entry.
        let pages = Arc::new(Pages::reserve(2 * ROOT, Room::Words(most))?);
        let mut writer = Writer::new(Shape4, Arc::clone(&pages), 0, grace);
        writer.start()?;
        Ok((Self { pages, default: DefaultRoute::default() }, writer))
    }

    fn default_route(&self) -> &DefaultRoute {
        &self.default
    }

    fn widen(addr: u32) -> u128 {
        u128::from(addr) << 96
    }

    fn host_bits(prefix: u32, len: u8) -> FibError {
        FibError::HostBits4 { prefix: Ipv4Addr::from_bits(prefix), len }
    }
}
