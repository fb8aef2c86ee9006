//! The IPv6 table of one VRF.

use std::net::Ipv6Addr;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::FibError;
use super::default::DefaultRoute;
use super::front::{Family, FibWriter, Table};
use super::node6::{self, BLOCKS, first_bits, resolve, root_cell, tops};
use super::pages::{Pages, Room};
use super::search6::batch;
use super::shape6::Shape6;
use super::writer::Writer;
use crate::grace::GracePeriod;
use crate::ids::GroupId;

/// Addresses that a look-up takes at once.
pub(super) const BATCH: usize = 64;

/// The side of an IPv6 table that workers read. Share it in an `Arc`.
#[derive(Debug)]
pub struct Fib6 {
    pub(super) pages: Arc<Pages>,
    pub(super) default: DefaultRoute,
}

impl Fib6 {
    /// The group of the longest prefix that covers `addr` (host byte order), or `GroupId::NO_ROUTE`.
    #[inline]
    pub fn lookup(&self, addr: u128) -> GroupId {
        loop {
            let seen = self.default.seen();
            let heads = self.pages.heads();
            let tree = heads[root_cell(tops(&self.pages), first_bits(addr))].load(Ordering::Acquire);
            let value = resolve(&heads[BLOCKS..], tree, addr, 0);
            if value != 0 || self.default.held(seen) {
                return seen.group(value);
            }
        }
    }

    /// Looks up a burst: `out[i]` becomes the group of `addrs[i]`, for as many as the shorter slice has.
    #[inline]
    pub fn lookup_batch(&self, addrs: &[u128], out: &mut [GroupId]) {
        for (addrs, out) in addrs.chunks(BATCH).zip(out.chunks_mut(BATCH)) {
            batch(self, addrs, out);
        }
    }

    /// Asks the memory for what a look-up of `addr` will read first. Worth calling when the address is known
    /// some tens of nanoseconds before its look-up.
    #[inline]
    pub fn prefetch(&self, addr: u128) {
        // What leads there is in the nearest cache: few of the top's entries are in use.
        let cell = root_cell(tops(&self.pages), first_bits(addr));
        super::prefetch(self.pages.heads().as_ptr().wrapping_add(cell));
    }

    /// Bytes that the table occupies: its blocks, and the pages of its root that hold anything.
    pub fn memory(&self) -> usize {
        self.pages.used_bytes() + node6::root_bytes(&self.pages)
    }

    /// Whether the table is on huge pages; `None` while it is too small to ask for them.
    pub fn is_on_huge_pages(&self) -> Option<bool> {
        self.pages.huge()
    }
}

/// The side of an IPv6 table that control writes. There is one for each table.
pub type Fib6Writer = FibWriter<Fib6>;

impl Table for Fib6 {
    type Addr = u128;
}

impl Family for Fib6 {
    type Shape = Shape6;
    const WIDTH: u8 = 128;
    /// What a handle can name.
    const MOST: usize = 1 << 29;
    #[cfg(test)]
    const FIRST_BLOCK: usize = 1;

    fn empty(grace: Arc<dyn GracePeriod>, most: usize) -> Result<(Self, Writer<Shape6>), FibError> {
        let pages = Arc::new(Pages::reserve(BLOCKS, Room::Heads(most))?);
        let mut writer = Writer::new(Shape6::default(), Arc::clone(&pages), BLOCKS, grace);
        writer.start()?;
        Ok((Self { pages, default: DefaultRoute::default() }, writer))
    }

    fn default_route(&self) -> &DefaultRoute {
        &self.default
    }

    fn widen(addr: u128) -> u128 {
        addr
    }

    fn host_bits(prefix: u128, len: u8) -> FibError {
        FibError::HostBits6 { prefix: Ipv6Addr::from_bits(prefix), len }
    }
}
