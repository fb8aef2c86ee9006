//! The way out: brings the data plane in line with the tables, in an order in which no look-up meets a group that
//! is not there, and no change of next hops waits for prefixes.
//!
//! 1. Next hops are resolved again where needed, their groups rewritten, and the groups published. This is all
//!    that a lost link or neighbour needs while a group has another member: its cost is in groups.
//! 2. Entries that changed are looked at, those too whose paths became usable or unusable. New groups are
//!    published before the FIB entries that point to them are written.
//! 3. Entries are written before others are removed, so that what is covered twice is never uncovered.
//!
//! A write that fails is kept and tried again in the next commit; the FIB holds the old entry until then.

use std::collections::BTreeSet;
use std::sync::Arc;

use dataplane::ids::{GroupId, SubIfId, VrfId};
use ipnetwork::IpNetwork;

use super::Rib;
use super::attrs::{Leg, Own, Slot, Target};
use super::best::select;
use super::groups::{GroupKey, GroupsSnapshot};
use super::prefix::{Prefix, V4, V6};
use super::resolve::NhId;
use super::table::{Path, VrfTables};

/// Why a FIB refused a write, as its own error says.
pub type FibSinkError = Box<dyn std::error::Error + Send + Sync>;

/// The FIBs, as the RIB writes them.
pub trait FibSink {
    /// Makes `prefix` lead to `group`, in the place of what it led to.
    ///
    /// # Errors
    ///
    /// The FIB has no room; it is unchanged then.
    fn insert(&mut self, vrf: VrfId, prefix: IpNetwork, group: GroupId) -> Result<(), FibSinkError>;

    /// Takes `prefix` out.
    ///
    /// # Errors
    ///
    /// The FIB has no room to do so; it is unchanged then.
    fn remove(&mut self, vrf: VrfId, prefix: IpNetwork) -> Result<(), FibSinkError>;
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

/// Entries that are worked out before they are written.
const CHUNK: usize = 1 << 16;
/// After so many failed writes in a commit, inserts are put off without a try.
const GIVE_UP: usize = 64;
/// Put-off entries that are tried at a time.
const RETRY: usize = 1024;

/// What a commit works with.
struct Work<'a> {
    publish: &'a mut dyn FnMut(&GroupsSnapshot),
    fib: &'a mut dyn FibSink,
    done: Commit,
    failures: usize,
}

impl Work<'_> {
    fn failed(&mut self, vrf: VrfId, prefix: IpNetwork, error: &FibSinkError) {
        self.failures += 1;
        if self.done.failure.is_none() {
            self.done.failure = Some(FailedWrite { vrf, prefix, reason: error.to_string().into() });
        }
    }
}

impl Rib {
    /// Brings the data plane up to date.
    ///
    /// `publish` gets the groups each time they changed. When it returns, no worker may still use older ones for a
    /// FIB entry that it reads from then on: so it swaps the tables and waits until each worker has been quiescent
    /// (or the workers load the tables after the look-up).
    pub fn commit(&mut self, publish: &mut dyn FnMut(&GroupsSnapshot), fib: &mut dyn FibSink) -> Commit {
        let done = Commit { ticket: self.ticket, ..Commit::default() };
        let mut work = Work { publish, fib, done, failures: 0 };
        let changed = self.next_hops.resolve(&self.vrfs, &self.slots, &self.sources);
        self.rebuild_groups(&changed);
        self.publish(&mut work);
        self.refresh_eligibility(!changed.is_empty());
        let mut gone: Vec<(VrfId, Vec<V4>, Vec<V6>)> = Vec::new();
        for vrf in (0..self.vrfs.len()).map(|vrf| VrfId(vrf as u16)) {
            let (mut gone4, mut gone6) = (Vec::new(), Vec::new());
            self.write_family(vrf, &mut work, &mut gone4);
            self.write_family(vrf, &mut work, &mut gone6);
            gone.push((vrf, gone4, gone6));
        }
        for (vrf, gone4, gone6) in gone {
            self.remove_family(vrf, gone4, &mut work);
            self.remove_family(vrf, gone6, &mut work);
        }
        self.ticket += 1;
        work.done.pending = self.vrfs.iter().map(|vrf| vrf.v4.pending.len() + vrf.v6.pending.len()).sum();
        work.done
    }

    /// Whether a commit would do something.
    pub fn is_dirty(&self) -> bool {
        self.groups.dirty
            || self.next_hops.is_dirty()
            || self.vrfs.iter().any(|vrf| !(vrf.v4.dirty.is_empty() && vrf.v6.dirty.is_empty()))
    }

    fn publish(&mut self, work: &mut Work) {
        if std::mem::take(&mut self.groups.dirty) {
            (work.publish)(self.groups.snapshot());
            work.done.published += 1;
        }
    }

    /// Rewrites the groups of next hops that resolve otherwise now.
    fn rebuild_groups(&mut self, changed: &[NhId]) {
        let of = |nh: &NhId| self.next_hops.get(*nh).into_iter().flat_map(|t| t.groups.iter().copied());
        let groups: BTreeSet<GroupId> = changed.iter().flat_map(of).collect();
        for group in groups {
            self.groups.rebuild(group, &self.next_hops, self.ticket);
        }
    }

    /// Works out which paths may be used, and marks the entries of those for which that changed.
    fn refresh_eligibility(&mut self, changed: bool) {
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
        let mut flipped = vec![false; self.slots.bound()];
        let mut any = false;
        for (id, slot) in self.slots.iter_mut() {
            if matches!(slot.target, Target::Via(_)) && slot.eligible != resolved(slot) {
                slot.eligible = !slot.eligible;
                flipped[id as usize] = true;
                any = true;
            }
        }
        if any {
            for vrf in &mut self.vrfs {
                mark_flipped::<V4>(vrf, &flipped);
                mark_flipped::<V6>(vrf, &flipped);
            }
        }
    }

    /// Writes the entries of a family that lead somewhere else now; those that lead nowhere go into `gone`.
    fn write_family<K: Prefix>(&mut self, vrf: VrfId, work: &mut Work, gone: &mut Vec<K>) {
        let index = usize::from(vrf.0);
        let mut plan = Vec::new();
        loop {
            let afi = K::afi_mut(&mut self.vrfs[index]);
            if afi.dirty.is_empty() {
                // What failed before gets its turn when all else is done, as long as it goes well.
                let retry = if work.failures == 0 { RETRY.min(afi.pending.len()) } else { 0 };
                let again: Vec<K> = afi.pending.drain(..retry).collect();
                for key in again {
                    if let Some(entry) = afi.table.get_mut(key) {
                        entry.pending = false;
                    }
                    afi.mark(key);
                }
                if afi.dirty.is_empty() {
                    return;
                }
            }
            let at = afi.dirty.len().saturating_sub(CHUNK);
            let chunk = afi.dirty.split_off(at);
            if at == 0 {
                // Gives back the memory of a full table's worth of changes.
                afi.dirty = Vec::new();
            }
            for key in chunk {
                self.plan_entry(vrf, key, &mut plan, gone);
            }
            self.publish(work);
            for (key, group) in plan.drain(..) {
                self.write_entry(vrf, key, group, work);
            }
        }
    }

    /// Works out where an entry leads, and notes it if that is news.
    fn plan_entry<K: Prefix>(&mut self, vrf: VrfId, key: K, plan: &mut Vec<(K, GroupId)>, gone: &mut Vec<K>) {
        let index = usize::from(vrf.0);
        let afi = K::afi_mut(&mut self.vrfs[index]);
        let Some(entry) = afi.table.get_mut(key) else { return };
        entry.dirty = false;
        let (installed, pending) = (entry.installed, entry.pending);
        let group = self.decide(vrf, key);
        // After a failed write `installed` does not say what was decided last.
        if key.len() < K::BITS && (group != installed || pending) {
            let afi = K::afi_mut(&mut self.vrfs[index]);
            let hosts: Vec<K::Addr> = afi.hosts.range(key.first()..=key.last()).copied().collect();
            for addr in hosts {
                afi.mark(K::host(addr));
            }
        }
        if group == installed {
            self.groups.release(group, self.ticket);
            self.drop_if_empty(vrf, key);
            return;
        }
        if group == GroupId::NO_ROUTE { gone.push(key) } else { plan.push((key, group)) }
    }

    fn write_entry<K: Prefix>(&mut self, vrf: VrfId, key: K, group: GroupId, work: &mut Work) {
        let afi = K::afi_mut(&mut self.vrfs[usize::from(vrf.0)]);
        let Some(entry) = afi.table.get_mut(key) else { return };
        let written = if work.failures < GIVE_UP {
            work.fib
                .insert(vrf, key.network(), group)
                .map_err(|e| work.failed(vrf, key.network(), &e))
                .is_ok()
        } else {
            false
        };
        if written {
            work.done.inserted += 1;
            let old = std::mem::replace(&mut entry.installed, group);
            self.groups.release(old, self.ticket);
        } else {
            if !std::mem::replace(&mut entry.pending, true) {
                afi.pending.push_back(key);
            }
            self.groups.release(group, self.ticket);
        }
    }

    fn remove_family<K: Prefix>(&mut self, vrf: VrfId, gone: Vec<K>, work: &mut Work) {
        for key in gone {
            let afi = K::afi_mut(&mut self.vrfs[usize::from(vrf.0)]);
            let Some(entry) = afi.table.get_mut(key) else { continue };
            if entry.installed == GroupId::NO_ROUTE {
                // Noted twice: it was looked at again after a cover of it changed, or as a failed write.
                continue;
            }
            match work.fib.remove(vrf, key.network()) {
                Ok(()) => {
                    work.done.removed += 1;
                    let old = std::mem::take(&mut entry.installed);
                    self.groups.release(old, self.ticket);
                    self.drop_if_empty(vrf, key);
                }
                Err(error) => {
                    work.failed(vrf, key.network(), &error);
                    if !std::mem::replace(&mut entry.pending, true) {
                        afi.pending.push_back(key);
                    }
                }
            }
        }
    }

    /// Forgets an entry that has no paths and is not in the FIB.
    fn drop_if_empty<K: Prefix>(&mut self, vrf: VrfId, key: K) {
        let table = &mut K::afi_mut(&mut self.vrfs[usize::from(vrf.0)]).table;
        let empty = |e: &super::table::Entry| {
            e.paths.as_slice().is_empty() && e.installed == GroupId::NO_ROUTE && !e.dirty
        };
        if table.get(key).is_some_and(empty) {
            table.remove(key);
        }
    }

    /// Where an entry leads, with a reference to it; `NO_ROUTE` if none of its paths may be used.
    fn decide<K: Prefix>(&mut self, vrf: VrfId, key: K) -> GroupId {
        let mut best = Vec::new();
        self.best_paths(vrf, key, &mut best);
        let Some(first) = best.first().copied() else { return GroupId::NO_ROUTE };
        let own = match &self.slots.get(first.slot).target {
            Target::Own(own) => Some(*own),
            Target::Discard | Target::Via(_) => None,
        };
        match own {
            Some(Own::Local) => GroupId::LOCAL,
            Some(Own::Broadcast) => GroupId::DISCARD,
            Some(Own::Glean(subif)) => {
                self.groups.acquire(GroupKey::Glean(subif), &mut self.next_hops, self.ticket)
            }
            Some(Own::Host(subif, address)) => {
                self.groups.acquire(GroupKey::Host(subif, address), &mut self.next_hops, self.ticket)
            }
            None => self.learned_group(&best),
        }
    }

    /// The group of learned paths that are used together.
    fn learned_group(&mut self, best: &[Path]) -> GroupId {
        let ticket = self.ticket;
        if let [path, rest @ ..] = best
            && rest.iter().all(|other| other.slot == path.slot)
        {
            let slot = self.slots.get(path.slot);
            if let Some(group) = slot.group {
                self.groups.hold(group);
                return group;
            }
            if slot.legs().is_empty() {
                return GroupId::DISCARD;
            }
            let key = GroupKey::Via(slot.legs().into());
            let group = self.groups.acquire(key, &mut self.next_hops, ticket);
            if let Some(slot) = self.slots.try_get_mut(path.slot) {
                slot.group = Some(group);
                self.groups.hold(group);
            }
            return group;
        }
        let mut legs: Vec<Leg> = best.iter().flat_map(|p| self.slots.get(p.slot).legs()).copied().collect();
        // Each next hop once, with the greatest of its weights.
        legs.sort_unstable_by_key(|leg| (leg.nh, std::cmp::Reverse(leg.weight)));
        legs.dedup_by_key(|leg| leg.nh);
        if legs.is_empty() {
            return GroupId::DISCARD;
        }
        self.groups.acquire(GroupKey::Via(legs.into()), &mut self.next_hops, ticket)
    }

    /// The paths of an entry that are used.
    pub(super) fn best_paths<K: Prefix>(&self, vrf: VrfId, key: K, best: &mut Vec<Path>) {
        let afi = K::afi(&self.vrfs[usize::from(vrf.0)]);
        let Some(entry) = afi.table.get(key) else { return };
        let usable = |_: Path, slot: &Slot| match slot.target {
            Target::Own(Own::Host(subif, _)) => self.on_link(vrf, key, subif),
            _ => slot.eligible,
        };
        select(entry.paths.as_slice(), &self.slots, &self.sources, usable, best);
    }

    /// Whether the longest match for a host, itself aside, is a connected prefix of `subif`.
    fn on_link<K: Prefix>(&self, vrf: VrfId, host: K, subif: SubIfId) -> bool {
        let usable = |_: Path, slot: &Slot| slot.eligible;
        let mut best = Vec::new();
        for (_, entry) in K::afi(&self.vrfs[usize::from(vrf.0)]).table.covering(host.first(), 0, K::BITS - 1)
        {
            select(entry.paths.as_slice(), &self.slots, &self.sources, usable, &mut best);
            if let Some(path) = best.first() {
                return self.slots.get(path.slot).target == Target::Own(Own::Glean(subif));
            }
        }
        false
    }
}

/// Marks the entries that have a path of a flipped slot.
fn mark_flipped<K: Prefix>(vrf: &mut VrfTables, flipped: &[bool]) {
    let afi = K::afi_mut(vrf);
    for (key, entry) in afi.table.iter_mut() {
        if !entry.dirty && entry.paths.as_slice().iter().any(|p| flipped[p.slot as usize]) {
            entry.dirty = true;
            afi.dirty.push(key);
        }
    }
}
