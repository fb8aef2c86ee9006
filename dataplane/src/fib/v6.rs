//! The IPv6 table of one VRF.

use std::net::Ipv6Addr;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::FibError;
use super::default::{DefaultRoute, DefaultWriter, value};
use super::node6::{self, BLOCKS, first_bits, resolve, root_cell, tops};
use super::pages::{Pages, Room};
use super::routes::Value;
use super::search6::batch;
use super::shape6::Shape6;
use super::writer::{Load, Writer, mask128};
use crate::grace::GracePeriod;
use crate::ids::GroupId;

/// The bytes of blocks that a table can grow to, which a handle can name: address space, of which the kernel gives
/// what is used.
const MOST: usize = 1 << 29;
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
pub struct Fib6Writer {
    fib: Arc<Fib6>,
    writer: Writer<Shape6>,
    default: DefaultWriter,
}

impl Fib6Writer {
    /// An empty table whose readers are watched by `grace`.
    ///
    /// # Errors
    /// [`FibError::Memory`] when there is no memory for the empty table.
    pub fn new(grace: Arc<dyn GracePeriod>) -> Result<Self, FibError> {
        Self::with_room(grace, MOST)
    }

    /// An empty table whose blocks take `most` bytes at most.
    pub(super) fn with_room(grace: Arc<dyn GracePeriod>, most: usize) -> Result<Self, FibError> {
        let pages = Arc::new(Pages::reserve(BLOCKS, Room::Heads(most))?);
        let mut writer = Writer::new(Shape6::default(), Arc::clone(&pages), BLOCKS, grace);
        writer.start()?;
        let fib = Arc::new(Fib6 { pages, default: DefaultRoute::default() });
        Ok(Self { fib, writer, default: DefaultWriter::default() })
    }

    /// The side for workers.
    pub fn reader(&self) -> Arc<Fib6> {
        Arc::clone(&self.fib)
    }

    /// Announces `prefix/len` or replaces its group; returns the group it had.
    ///
    /// # Errors
    /// Any [`FibError`]; the table is unchanged then.
    pub fn insert(&mut self, prefix: u128, len: u8, group: GroupId) -> Result<Option<GroupId>, FibError> {
        check(prefix, len)?;
        let value = value(group)?;
        if len == 0 {
            return Ok(self.default.change(&self.fib.default, Some(group)));
        }
        Ok(self.writer.change(prefix, len, Some(value))?.map(group_of))
    }

    /// Withdraws `prefix/len`; returns the group it had.
    ///
    /// # Errors
    /// [`FibError::Length`], [`FibError::HostBits6`], or [`FibError::Memory`]: taking a route away can need
    /// a new block too. The table is unchanged then.
    pub fn remove(&mut self, prefix: u128, len: u8) -> Result<Option<GroupId>, FibError> {
        check(prefix, len)?;
        if len == 0 {
            return Ok(self.default.change(&self.fib.default, None));
        }
        Ok(self.writer.change(prefix, len, None)?.map(group_of))
    }

    /// Many changes in order: `Some` announces or replaces, `None` withdraws. The same as [`insert`](Self::insert) or
    /// [`remove`](Self::remove) for each, but the memory that they need is asked for ahead.
    ///
    /// # Errors
    /// Any [`FibError`], with the number of the change that was refused; the changes before it are done.
    pub fn apply(&mut self, changes: &[(u128, u8, Option<GroupId>)]) -> Result<(), (usize, FibError)> {
        let (default, fib) = (&mut self.default, &self.fib);
        self.writer.apply(
            changes,
            |&(prefix, len, group)| {
                check(prefix, len)?;
                let value = group.map(value).transpose()?;
                if len == 0 {
                    default.change(&fib.default, group);
                    return Ok(None);
                }
                Ok(Some((prefix, len, value)))
            },
            |&(prefix, len, _)| (prefix, len),
        )
    }

    /// The group of exactly `prefix/len`.
    pub fn get(&self, prefix: u128, len: u8) -> Option<GroupId> {
        if check(prefix, len).is_err() {
            return None;
        }
        if len == 0 { self.default.get() } else { self.writer.get(prefix, len).map(group_of) }
    }

    /// Announces many routes at once: the same as an [`insert`](Self::insert) for each in order, but faster.
    ///
    /// # Errors
    /// Any [`FibError`]. The table is unchanged then, but for [`FibError::Memory`], after which some of the routes
    /// may be in.
    pub fn load(&mut self, routes: impl IntoIterator<Item = (u128, u8, GroupId)>) -> Result<(), FibError> {
        let mut load = Load::default();
        let mut default = None;
        for (prefix, len, group) in routes {
            check(prefix, len)?;
            let value = value(group)?;
            if len == 0 {
                default = Some(group);
            } else {
                load.add(prefix, len, value)?;
            }
        }
        self.writer.load(load)?;
        if default.is_some() {
            self.default.change(&self.fib.default, default);
        }
        Ok(())
    }

    /// How many routes there are.
    pub fn len(&self) -> usize {
        self.writer.len() + usize::from(self.default.get().is_some())
    }

    /// Whether there is no route.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Frees what was unlinked and whose grace period has passed. Changes do this too; call it when there are
    /// none.
    pub fn reclaim(&mut self) {
        self.writer.reclaim();
    }

    /// Bytes that the control side's own copy of the routes occupies.
    pub fn control_memory(&self) -> usize {
        self.writer.control_bytes()
    }
}

fn group_of(value: Value) -> GroupId {
    GroupId(value - 1)
}

fn check(prefix: u128, len: u8) -> Result<(), FibError> {
    if len > 128 {
        return Err(FibError::Length { len, max: 128 });
    }
    if prefix & !mask128(len) != 0 {
        return Err(FibError::HostBits6 { prefix: Ipv6Addr::from_bits(prefix), len });
    }
    Ok(())
}

#[cfg(test)]
impl Fib6Writer {
    /// Whether nothing is left of the routes that were ever here.
    pub(super) fn is_as_new(&mut self) -> bool {
        // The block for "follow the default route".
        self.writer.is_as_new(1)
    }

    /// Bytes that the kernel was asked for so far, for blocks.
    pub(super) fn committed(&self) -> usize {
        self.writer.committed()
    }
}
