//! The way out: brings the data plane in line with the tables, in an order in which no look-up meets a group that
//! is not there, and no change of next hops waits for prefixes.
//!
//! 1. Next hops are resolved again where needed, their groups rewritten, and the groups published. This is all
//!    that a lost link or neighbour needs while a group has another member or a backup: its cost is in groups.
//!    Default routes are looked at again then: some may not lead there.
//! 2. Passes over whole tables go on: stale paths go, and entries are found whose paths became usable or unusable.
//! 3. Entries that changed are looked at. New groups are published before the FIB entries that point to them are
//!    written.
//! 4. An entry is removed when all has been written that changed before it, so that what is covered twice is never
//!    uncovered.
//!
//! A commit ends when its time is over, and the next one goes on where it was, with step 1 first. A write that fails
//! is kept and tried again in a later commit; the FIB holds the old entry until then.

use std::collections::BTreeSet;
use std::sync::Arc;

use dataplane::ids::{GroupId, VrfId};
use ipnetwork::IpNetwork;

use super::Rib;
use super::attrs::{Slot, Target};
use super::groups::GroupsSnapshot;
use super::prefix::{V4, V6};
use super::resolve::NhId;

/// Why a FIB refused a write, as its own error says.
pub type FibSinkError = Box<dyn std::error::Error + Send + Sync>;

/// A change of a FIB entry: address in host order, length, and the group that it leads to from now on; none: it goes.
pub type Change<A> = (A, u8, Option<GroupId>);

/// The FIBs, as the RIB writes them.
pub trait FibSink {
    /// Makes these changes of a VRF's IPv4 table, in order.
    ///
    /// # Errors
    ///
    /// The number of the change for which the FIB has no room, with why. Those before it are made, and no others.
    fn write4(&mut self, vrf: VrfId, changes: &[Change<u32>]) -> Result<(), (usize, FibSinkError)>;

    /// Makes these changes of a VRF's IPv6 table, in order.
    ///
    /// # Errors
    ///
    /// As [`Self::write4`].
    fn write6(&mut self, vrf: VrfId, changes: &[Change<u128>]) -> Result<(), (usize, FibSinkError)>;
}

/// A FIB write that failed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("cannot write {prefix} of VRF {vrf} into the FIB: {reason}; the old entry stays, and the write is tried again", vrf = .vrf.0)]
pub struct FailedWrite {
    /// The table.
    pub vrf: VrfId,
    /// The prefix.
    pub prefix: IpNetwork,
    /// The FIB's own words.
    pub reason: Arc<str>,
}

/// What a commit did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[must_use = "failed writes are to be reported"]
pub struct Commit {
    /// Its number. What it let go may be reused when every worker has been quiescent since; see [`Rib::reclaim`].
    pub ticket: u64,
    /// How many times groups were published.
    pub published: u32,
    /// FIB entries written.
    pub inserted: usize,
    /// FIB entries taken out.
    pub removed: usize,
    /// FIB writes that failed, by the first of them.
    pub failure: Option<FailedWrite>,
    /// Entries whose write failed, in this commit or before, and is still to be done.
    pub pending: usize,
}

/// What a commit works with.
pub(super) struct Work<'a> {
    pub publish: &'a mut dyn FnMut(&GroupsSnapshot),
    pub fib: &'a mut dyn FibSink,
    /// Whether there is time for more.
    pub more: &'a mut dyn FnMut() -> bool,
    pub done: Commit,
    pub failures: usize,
}

impl Work<'_> {
    pub(super) fn failed(&mut self, vrf: VrfId, prefix: IpNetwork, error: &FibSinkError) {
        self.failures += 1;
        if self.done.failure.is_none() {
            self.done.failure = Some(FailedWrite { vrf, prefix, reason: error.to_string().into() });
        }
    }
}

impl Rib {
    /// Brings the data plane up to date, all of it.
    ///
    /// `publish` gets the groups each time they changed. When it returns, no worker may still use older ones for a
    /// FIB entry that it reads from then on: so it swaps the tables and waits until each worker has been quiescent
    /// (or the workers load the tables after the look-up).
    pub fn commit(&mut self, publish: &mut dyn FnMut(&GroupsSnapshot), fib: &mut dyn FibSink) -> Commit {
        self.retry();
        self.commit_slice(publish, fib, &mut || true)
    }

    /// Brings the data plane up to date as far as it comes while there is `more` time, of which it asks every few
    /// hundred entries; the groups always. [`Self::is_dirty`] tells whether something is left. Writes that failed
    /// are not among it: see [`Self::retry`].
    pub fn commit_slice(
        &mut self,
        publish: &mut dyn FnMut(&GroupsSnapshot),
        fib: &mut dyn FibSink,
        more: &mut dyn FnMut() -> bool,
    ) -> Commit {
        let done = Commit { ticket: self.ticket, ..Commit::default() };
        let mut work = Work { publish, fib, more, done, failures: 0 };
        loop {
            let changed = self.next_hops.resolve(&self.vrfs, &self.slots, &self.sources);
            let regrouped = std::mem::take(&mut self.next_hops.regrouped);
            self.rebuild_groups(changed.iter().chain(&regrouped));
            self.publish(&mut work);
            self.refresh_eligibility(!changed.is_empty());
            self.write_defaults(&mut work);
            for vrf in (0..self.vrfs.len()).map(|vrf| VrfId(vrf as u16)) {
                self.walk::<V4>(vrf, work.more);
                self.walk::<V6>(vrf, work.more);
                self.write_family::<V4>(vrf, &mut work);
                self.write_family::<V6>(vrf, &mut work);
            }
            if !self.is_dirty() || !(work.more)() {
                break;
            }
        }
        self.ticket += 1;
        work.done.pending = self.vrfs.iter().map(|vrf| vrf.v4.pending.len() + vrf.v6.pending.len()).sum();
        work.done
    }

    /// Whether a commit would do something, writes that failed aside.
    pub fn is_dirty(&self) -> bool {
        self.groups.dirty
            || self.next_hops.is_dirty()
            || self.vrfs.iter().any(|vrf| vrf.v4.is_dirty() || vrf.v6.is_dirty())
    }

    /// How many entries wait to be looked at or removed.
    pub fn backlog(&self) -> usize {
        let of = |vrf: &super::table::VrfTables| {
            vrf.v4.dirty.len() + vrf.v4.gone.len() + vrf.v6.dirty.len() + vrf.v6.gone.len()
        };
        self.vrfs.iter().map(of).sum()
    }

    pub(super) fn publish(&mut self, work: &mut Work) {
        if std::mem::take(&mut self.groups.dirty) {
            (work.publish)(self.groups.snapshot());
            work.done.published += 1;
        }
    }

    /// Rewrites the groups of next hops that resolve otherwise now, or that are to be left.
    fn rebuild_groups<'a>(&mut self, changed: impl Iterator<Item = &'a NhId>) {
        let of = |nh: &NhId| self.next_hops.get(*nh).into_iter().flat_map(|t| t.groups.iter().copied());
        let groups: BTreeSet<GroupId> = changed.flat_map(of).collect();
        for group in groups {
            self.groups.rebuild(group, &self.next_hops, self.ticket);
        }
    }

    /// Works out which paths may be used, and has the entries looked at of those for which that changed.
    fn refresh_eligibility(&mut self, changed: bool) {
        if changed {
            self.recheck_defaults();
        }
        let next_hops = &self.next_hops;
        let resolved = |slot: &Slot| slot.legs().iter().any(|leg| !next_hops.hops(leg.nh).is_empty());
        for id in std::mem::take(&mut self.slots.fresh) {
            if let Some(slot) = self.slots.try_get_mut(id)
                && matches!(slot.target, Target::Via(_))
            {
                slot.eligible = resolved(slot);
            }
        }
        if !changed {
            return;
        }
        let mut flipped = vec![0u64; self.slots.bound().div_ceil(64)];
        let mut any = false;
        for (id, slot) in self.slots.iter_mut() {
            if matches!(slot.target, Target::Via(_)) && slot.eligible != resolved(slot) {
                slot.eligible = !slot.eligible;
                flipped[id as usize / 64] |= 1 << (id % 64);
                any = true;
            }
        }
        if any {
            for vrf in &mut self.vrfs {
                vrf.v4.walk.flip(&flipped);
                vrf.v6.walk.flip(&flipped);
            }
        }
    }
}
