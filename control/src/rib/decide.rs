//! Where an entry leads: its best paths' group, with the next best ones as a backup that stands ready.

use dataplane::ids::{GroupId, SubIfId, VrfId};

use super::Rib;
use super::attrs::{Leg, Own, Slot, Slots, Target};
use super::best::select;
use super::groups::GroupKey;
use super::prefix::Prefix;
use super::table::Path;
use super::write::Plans;

/// Room for decisions.
#[derive(Debug, Default)]
pub(super) struct Scratch {
    best: Vec<Path>,
    backup: Vec<Path>,
    legs: [Vec<Leg>; 2],
    pub plans: Plans,
}

impl Rib {
    /// Where an entry leads, with a reference to it; `NO_ROUTE` if none of its paths may be used.
    pub(super) fn decide<K: Prefix>(&mut self, vrf: VrfId, key: K) -> GroupId {
        let mut scratch = std::mem::take(&mut self.scratch);
        self.used_paths(vrf, key, &mut scratch.best, &mut scratch.backup);
        self.leak(vrf, key, &scratch.best);
        self.note_refused(vrf, key);
        let home = scratch.best.first().and_then(|path| self.leaked_from(path));
        if let Some(from) = home {
            self.used_paths(from, key, &mut scratch.best, &mut scratch.backup);
        }
        let group = self.group_of(&mut scratch);
        // What is followed here may change back before it is looked at at home: that look then has this one repeated.
        if let Some(from) = home
            && let Some(entry) = K::afi_mut(&mut self.vrfs[usize::from(from.0)]).table.get_mut(key)
        {
            entry.unsure |= entry.installed != group;
        }
        self.scratch = scratch;
        group
    }

    fn group_of(&mut self, scratch: &mut Scratch) -> GroupId {
        let Some(first) = scratch.best.first().copied() else { return GroupId::NO_ROUTE };
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
            None => self.learned_group(scratch),
        }
    }

    /// The group of learned paths that are used together, with its backup.
    fn learned_group(&mut self, scratch: &mut Scratch) -> GroupId {
        let [legs, backup] = &mut scratch.legs;
        merge_legs(&self.slots, &scratch.best, legs);
        if legs.is_empty() {
            return GroupId::DISCARD;
        }
        merge_legs(&self.slots, &scratch.backup, backup);
        backup.retain(|leg| !legs.iter().any(|own| own.nh == leg.nh));
        let cache = scratch.best[0].slot;
        if let Some(group) = self.slots.get(cache).group
            && self.groups.get(group).is_some_and(|g| g.key.is_via(legs, backup))
        {
            self.groups.hold(group);
            return group;
        }
        let key = GroupKey::Via { legs: legs.as_slice().into(), backup: backup.as_slice().into() };
        let group = self.groups.acquire(key, &mut self.next_hops, self.ticket);
        if let Some(slot) = self.slots.try_get_mut(cache)
            && let before = slot.group.replace(group)
        {
            self.groups.hold(group);
            if let Some(before) = before {
                self.groups.release(before, self.ticket);
            }
        }
        group
    }

    /// The paths of an entry that are used, and the best of those that lead over other next hops too.
    pub(super) fn used_paths<K: Prefix>(
        &self,
        vrf: VrfId,
        key: K,
        best: &mut Vec<Path>,
        backup: &mut Vec<Path>,
    ) {
        best.clear();
        backup.clear();
        let afi = K::afi(&self.vrfs[usize::from(vrf.0)]);
        let Some(entry) = afi.table.get(key) else { return };
        let paths = entry.paths.as_slice();
        let usable = |path: Path, slot: &Slot| match slot.target {
            // That is seen to at home.
            _ if self.leaked_from(&path).is_some() => true,
            Target::Own(Own::Host(subif, _)) => self.on_link(vrf, key, subif),
            _ => slot.eligible && self.guarded(key, slot).is_none(),
        };
        select(paths, &self.slots, &self.sources, usable, best);
        // Only what leads over next hops can lose them, or take their place.
        let leads = |path: &Path| !self.slots.get(path.slot).legs().is_empty();
        if best.is_empty() || best.len() == paths.len() || !best.iter().all(leads) {
            return;
        }
        let of_best =
            |nh| best.iter().any(|path| self.slots.get(path.slot).legs().iter().any(|leg| leg.nh == nh));
        let other =
            |path: Path, slot: &Slot| usable(path, slot) && slot.legs().iter().any(|leg| !of_best(leg.nh));
        select(paths, &self.slots, &self.sources, other, backup);
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

/// The next hops of all of these paths: each once, with the greatest of its weights.
fn merge_legs(slots: &Slots, paths: &[Path], legs: &mut Vec<Leg>) {
    legs.clear();
    legs.extend(paths.iter().flat_map(|path| slots.get(path.slot).legs()).copied());
    legs.sort_unstable_by_key(|leg| (leg.nh, std::cmp::Reverse(leg.weight)));
    legs.dedup_by_key(|leg| leg.nh);
}
