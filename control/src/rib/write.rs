//! From the tables into the FIB: which entries lead somewhere else now, written in batches.

use dataplane::ids::{GroupId, VrfId};

use super::Rib;
use super::commit::{Change, Work};
use super::prefix::{Prefix, V4, V6};
use super::table::{Afi, Entry, Path};
use crate::source::SourceKind;

/// Entries that are worked out before they are written: between the two the groups are published, for which each
/// worker is waited for.
const PLAN: usize = 1024;
/// Entries that are written at once: the FIB asks for the memory of later ones while it does earlier ones.
const BATCH: usize = 256;
/// After so many failed writes in a commit, inserts are put off without a try.
const GIVE_UP: usize = 64;
/// Put-off entries that are tried in a commit.
const RETRY: usize = 1024;

impl Rib {
    /// Has writes tried again that failed in earlier commits, a thousand of each table.
    pub fn retry(&mut self) {
        fn again<K: Prefix>(afi: &mut Afi<K>) {
            let count = RETRY.min(afi.pending.len());
            for key in afi.pending.drain(..count).collect::<Vec<_>>() {
                if let Some(entry) = afi.table.get_mut(key) {
                    entry.pending = false;
                }
                afi.mark(key);
            }
        }
        for vrf in &mut self.vrfs {
            again(&mut vrf.v4);
            again(&mut vrf.v6);
        }
    }

    /// Writes the entries of a family that lead somewhere else now, and takes out those that lead nowhere.
    pub(super) fn write_family<K: Prefix>(&mut self, vrf: VrfId, work: &mut Work) {
        let index = usize::from(vrf.0);
        let mut plan = std::mem::take(K::plan(&mut self.scratch));
        loop {
            // What is put on the list meanwhile has its turn when these are written: it may be one of them again.
            for _ in 0..PLAN.min(K::afi(&self.vrfs[index]).dirty.len()) {
                let afi = K::afi_mut(&mut self.vrfs[index]);
                let Some(key) = afi.dirty.pop_front() else { break };
                afi.looked += 1;
                self.plan_entry(vrf, key, &mut plan);
            }
            self.publish(work);
            // Neighbours in the table are neighbours in the FIB's memory.
            plan.sort_unstable_by_key(|(key, ..)| *key);
            for batch in plan.chunks(BATCH) {
                self.write_batch(vrf, batch, work);
            }
            plan.clear();
            let afi = K::afi_mut(&mut self.vrfs[index]);
            if afi.dirty.is_empty() && afi.dirty.capacity() > PLAN {
                // Gives back the memory of a full table's worth of changes.
                afi.dirty.shrink_to(0);
            }
            self.remove_gone::<K>(vrf, work);
            let afi = K::afi(&self.vrfs[index]);
            if afi.dirty.is_empty() && afi.gone.is_empty() || !(work.more)() {
                break;
            }
        }
        *K::plan(&mut self.scratch) = plan;
    }

    /// Looks at an entry, and writes it, or takes it out if none of its paths may be used, without regard to those that
    /// wait. One without paths waits for them: they may cover what it did.
    pub(super) fn write_at_once<K: Prefix>(&mut self, vrf: VrfId, key: K, work: &mut Work) {
        let entry = |rib: &mut Self| {
            let entry = K::afi_mut(&mut rib.vrfs[usize::from(vrf.0)]).table.get_mut(key)?;
            Some((entry.dirty, entry.gone && !entry.paths.as_slice().is_empty()))
        };
        let Some((dirty, _)) = entry(self) else { return };
        let mut plan = std::mem::take(K::plan(&mut self.scratch));
        self.plan_entry(vrf, key, &mut plan);
        self.publish(work);
        self.write_batch(vrf, &plan, work);
        plan.clear();
        *K::plan(&mut self.scratch) = plan;
        if entry(self).is_some_and(|(_, refused)| refused) {
            K::afi_mut(&mut self.vrfs[usize::from(vrf.0)]).gone.push_front((key, 0));
            self.remove_gone::<K>(vrf, work);
        }
        // If it stood in the list, it does so still.
        if let Some(entry) = K::afi_mut(&mut self.vrfs[usize::from(vrf.0)]).table.get_mut(key) {
            entry.dirty |= dirty;
        }
    }

    /// Works out where an entry leads, and notes it if that is news.
    fn plan_entry<K: Prefix>(&mut self, vrf: VrfId, key: K, plan: &mut Vec<Planned<K>>) {
        let index = usize::from(vrf.0);
        let afi = K::afi_mut(&mut self.vrfs[index]);
        let Some(entry) = afi.table.get_mut(key) else { return };
        entry.dirty = false;
        let (installed, unsure) = (entry.installed, std::mem::take(&mut entry.unsure));
        let paths = entry.paths.as_slice();
        let leaked = |path: &Path| self.sources.get(path.source).kind == SourceKind::Leak;
        // Leaks and the guard of default routes want a decision each time.
        let plain = key.len() > 0 && self.leaks[index].is_empty() && !paths.iter().take(1).any(leaked);
        let known = if plain { self.groups.hold_known(paths, &self.slots) } else { None };
        if let Some(group) = known
            && (group == installed && !unsure || afi.hosts.range(key.first()..=key.last()).next().is_none())
        {
            // As nearly always: one path, whose group is there. The entry is at hand.
            entry.gone = false;
            if group == installed {
                self.groups.release(group, self.ticket);
            } else {
                plan.push((key, group, std::mem::replace(&mut entry.installed, group)));
            }
            return;
        }
        let nowhere = (plain && paths.is_empty()).then_some(GroupId::NO_ROUTE);
        let group = known.or(nowhere).unwrap_or_else(|| self.decide(vrf, key));
        if group != installed || unsure {
            self.leads_elsewhere(vrf, key);
        }
        let afi = K::afi_mut(&mut self.vrfs[index]);
        // The hosts below follow what is decided.
        if !afi.hosts.is_empty() && key.len() < K::BITS && (group != installed || unsure) {
            let hosts: Vec<K::Addr> = afi.hosts.range(key.first()..=key.last()).copied().collect();
            for addr in hosts {
                afi.mark(K::host(addr));
            }
        }
        let at = afi.looked + afi.dirty.len() as u64;
        let Some(entry) = afi.table.get_mut(key) else { return };
        if group == GroupId::NO_ROUTE && installed != group {
            entry.unsure = true;
            if !std::mem::replace(&mut entry.gone, true) {
                afi.gone.push_back((key, at));
            }
            return;
        }
        entry.gone = false;
        if group == installed {
            self.groups.release(group, self.ticket);
            afi.table.remove_if(key, Entry::is_empty);
        } else {
            plan.push((key, group, std::mem::replace(&mut entry.installed, group)));
        }
    }

    /// Writes entries, which have their groups already: what fails gets back the group that it had.
    fn write_batch<K: Prefix>(&mut self, vrf: VrfId, batch: &[Planned<K>], work: &mut Work) {
        let changes: Vec<Change<K::Addr>> =
            batch.iter().map(|(key, group, _)| (key.first(), key.len(), Some(*group))).collect();
        let mut from = 0;
        while from < batch.len() {
            let result =
                if work.failures < GIVE_UP { K::write(work.fib, vrf, &changes[from..]) } else { Ok(()) };
            let gave_up = work.failures >= GIVE_UP;
            let written = match &result {
                Ok(()) if gave_up => 0,
                Ok(()) => batch.len() - from,
                Err((at, _)) => *at,
            };
            for (_, _, old) in &batch[from..from + written] {
                self.groups.release(*old, self.ticket);
            }
            work.done.inserted += written;
            from += written;
            let put_off = if gave_up { batch.len() - from } else { usize::from(result.is_err()) };
            for (key, group, old) in &batch[from..from + put_off] {
                put_off_write(K::afi_mut(&mut self.vrfs[usize::from(vrf.0)]), *key, *old);
                self.groups.release(*group, self.ticket);
            }
            if let Err((_, error)) = &result {
                work.failed(vrf, batch[from].0.network(), error);
            }
            from += put_off;
        }
    }

    /// Takes out the entries whose turn has come.
    fn remove_gone<K: Prefix>(&mut self, vrf: VrfId, work: &mut Work) {
        let index = usize::from(vrf.0);
        let mut keys: Vec<K> = Vec::with_capacity(BATCH);
        let mut changes: Vec<Change<K::Addr>> = Vec::with_capacity(BATCH);
        for _ in 0..PLAN / BATCH {
            keys.clear();
            changes.clear();
            let afi = K::afi_mut(&mut self.vrfs[index]);
            while keys.len() < BATCH
                && let Some((key, _)) = afi.gone.pop_front_if(|(_, at)| *at <= afi.looked)
            {
                // Not one that leads somewhere again or may, as it waits for its next look, or was noted twice.
                if let Some(entry) = afi.table.get_mut(key)
                    && std::mem::take(&mut entry.gone)
                    && !entry.dirty
                    && entry.installed != GroupId::NO_ROUTE
                {
                    keys.push(key);
                    changes.push((key.first(), key.len(), None));
                }
            }
            if keys.is_empty() {
                break;
            }
            self.remove_batch(vrf, &keys, &changes, work);
        }
        let gone = &mut K::afi_mut(&mut self.vrfs[index]).gone;
        if gone.is_empty() && gone.capacity() > PLAN {
            gone.shrink_to(0);
        }
    }

    fn remove_batch<K: Prefix>(
        &mut self,
        vrf: VrfId,
        keys: &[K],
        changes: &[Change<K::Addr>],
        work: &mut Work,
    ) {
        let mut from = 0;
        while from < keys.len() {
            let result = K::write(work.fib, vrf, &changes[from..]);
            let removed = result.as_ref().map_or_else(|(at, _)| *at, |()| keys.len() - from);
            let table = &mut K::afi_mut(&mut self.vrfs[usize::from(vrf.0)]).table;
            for key in &keys[from..from + removed] {
                let mut old = GroupId::NO_ROUTE;
                table.remove_if(*key, |entry| {
                    old = std::mem::take(&mut entry.installed);
                    entry.is_empty()
                });
                self.groups.release(old, self.ticket);
            }
            work.done.removed += removed;
            from += removed;
            if let Err((_, error)) = &result {
                work.failed(vrf, keys[from].network(), error);
                let afi = K::afi_mut(&mut self.vrfs[usize::from(vrf.0)]);
                if let Some(installed) = afi.table.get(keys[from]).map(|entry| entry.installed) {
                    put_off_write(afi, keys[from], installed);
                }
                from += 1;
            }
        }
    }
}

/// Has a write tried again in a later commit; until then the FIB holds `installed`.
fn put_off_write<K: Prefix>(afi: &mut Afi<K>, key: K, installed: GroupId) {
    let Some(entry) = afi.table.get_mut(key) else { return };
    entry.installed = installed;
    entry.unsure = true;
    if !std::mem::replace(&mut entry.pending, true) {
        afi.pending.push_back(key);
    }
}

/// An entry that is about to be written, its group, and the one that the FIB still holds; a reference to each.
pub(super) type Planned<K> = (K, GroupId, GroupId);

/// Entries of either family that were worked out and not written yet.
#[derive(Debug, Default)]
pub(super) struct Plans {
    pub v4: Vec<Planned<V4>>,
    pub v6: Vec<Planned<V6>>,
}
