//! Next-hop resolution: from the address that a source named down to (sub-interface, gateway) pairs.
//!
//! Each distinct (VRF, address) is resolved once, and shared by all paths that name it. It is resolved again only
//! when a prefix that covers it changes, or a next hop that it rests on.
//!
//! The rule, so that the outcome depends on the routes and not on their history:
//!
//! - Level 0: the longest covering prefix with a usable path is a connected one, or the next hop is unresolved.
//! - Level *n*: the longest covering prefix with a path that is usable at level *n* − 1. A path is usable at a
//!   level if one of its next hops is resolved there. If the prefix is connected, the next hop is on that
//!   sub-interface; if its best paths have next hops, the outcome is theirs at level *n* − 1, merged.
//! - The outcome is that of level [`DEPTH`].
//!
//! So a chain of up to eight recursions resolves, and a loop does not: what rests only on itself is unusable at
//! each level. A more specific route that covers its own next hop does no harm: below it the connected prefix
//! still resolves. One of our own addresses, a discard route and the default route resolve nothing: a next hop
//! that is only reached by the default route is not taken for reachable, as in FRR and on other routers.
//!
//! A set of next hops (see `hop_sets`) leads where its members lead at the level below.
//!
//! A next hop that comes with its sub-interface, as link-local ones do, is there while that link is up. A link-local
//! next hop without one stays unresolved: its address does not say on which link it is.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use dataplane::ids::{GroupId, SubIfId, VrfId};

use super::attrs::{Leg, Own, Slot, Slots, Target};
use super::best::select;
use super::leaving::Users;
use super::prefix::{AnyPrefix, Prefix, with_prefix};
use super::sources::Sources;
use super::table::{Path, VrfTables};

/// Most recursions.
pub(super) const DEPTH: usize = 8;
/// Most (sub-interface, gateway) pairs of a next hop or group; the first in their order stay.
pub(super) const MAX_MEMBERS: usize = 64;

/// Number of a tracked next hop.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct NhId(pub u32);

/// Where packets are sent in the end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Hop {
    pub subif: SubIfId,
    pub gateway: IpAddr,
    pub weight: u16,
}

/// Sorted by (sub-interface, gateway), each pair once.
pub(super) type Hops = Arc<[Hop]>;

/// Sorts, and keeps each (sub-interface, gateway) once, with the greatest of its weights.
pub(super) fn normalize(hops: &mut Vec<Hop>) {
    hops.sort_unstable_by(|a, b| (a.subif, a.gateway, b.weight).cmp(&(b.subif, b.gateway, a.weight)));
    hops.dedup_by_key(|hop| (hop.subif, hop.gateway));
    hops.truncate(MAX_MEMBERS);
}

/// How a tracked next hop is resolved.
enum Kind {
    /// By the routes to its address.
    Address,
    /// It came with its sub-interface: no route is asked for it.
    OnLink(SubIfId),
    /// It stands for these, with a reference to each; it has no address of its own.
    Set(Box<[Leg]>),
}

/// A tracked next hop.
pub(super) struct Tracked {
    pub vrf: VrfId,
    pub address: IpAddr,
    kind: Kind,
    /// Groups that hold it.
    pub groups: BTreeSet<GroupId>,
    /// Who has routes over it.
    pub users: Users,
    refs: u32,
    /// The outcome at each level; the last one holds for all further levels.
    levels: Vec<Hops>,
    /// Next hops that it rests on, or would if they were usable.
    uses: BTreeSet<NhId>,
    used_by: BTreeSet<NhId>,
    dirty: bool,
}

impl Tracked {
    /// Where it leads; empty if it is unresolved.
    pub(super) fn hops(&self) -> &[Hop] {
        self.levels.last().map_or(&[], |hops| hops)
    }

    fn at(&self, level: usize) -> &[Hop] {
        self.levels.get(level).or(self.levels.last()).map_or(&[], |hops| hops)
    }
}

/// All tracked next hops. Their index by address is in the tables ([`super::table::Afi::next_hops`]).
#[derive(Default)]
pub(super) struct NextHops {
    slab: Vec<Option<Tracked>>,
    free: Vec<NhId>,
    dirty: Vec<NhId>,
    /// Those that came with their sub-interface.
    on_link: HashMap<(VrfId, IpAddr, SubIfId), NhId>,
    up: BTreeSet<SubIfId>,
    /// Those that groups are to leave now, or no longer, and did not yet.
    pub regrouped: Vec<NhId>,
}

impl NextHops {
    pub(super) fn get(&self, id: NhId) -> Option<&Tracked> {
        self.slab.get(id.0 as usize)?.as_ref()
    }

    pub(super) fn get_mut(&mut self, id: NhId) -> Option<&mut Tracked> {
        self.slab.get_mut(id.0 as usize)?.as_mut()
    }

    /// Where it leads; empty if it is unresolved.
    pub(super) fn hops(&self, id: NhId) -> &[Hop] {
        self.get(id).map_or(&[], Tracked::hops)
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.slab.len() - self.free.len()
    }

    /// The next hop `address` in `vrf`, on `interface` if that is given, tracked from now on if it was not.
    pub(super) fn acquire(
        &mut self,
        tables: &mut VrfTables,
        vrf: VrfId,
        address: IpAddr,
        interface: Option<SubIfId>,
    ) -> NhId {
        let known = match interface {
            Some(interface) => self.on_link.get(&(vrf, address, interface)).copied(),
            None => with_prefix!(AnyPrefix::host(address), p => find(p, tables, address)),
        };
        let id = known.unwrap_or_else(|| {
            let id = self.add(vrf, address, interface.map_or(Kind::Address, Kind::OnLink));
            match interface {
                Some(interface) => drop(self.on_link.insert((vrf, address, interface), id)),
                None => with_prefix!(AnyPrefix::host(address), p => note(p, tables, address, id)),
            }
            id
        });
        self.hold(id);
        id
    }

    fn add(&mut self, vrf: VrfId, address: IpAddr, kind: Kind) -> NhId {
        let id = self.free.pop().unwrap_or_else(|| {
            self.slab.push(None);
            NhId(self.slab.len() as u32 - 1)
        });
        self.slab[id.0 as usize] = Some(Tracked {
            vrf,
            address,
            kind,
            groups: BTreeSet::new(),
            users: Users::default(),
            refs: 0,
            levels: Vec::new(),
            uses: BTreeSet::new(),
            used_by: BTreeSet::new(),
            dirty: false,
        });
        self.mark(id);
        id
    }

    /// An empty set, with a reference.
    pub(super) fn add_set(&mut self, vrf: VrfId) -> NhId {
        let id = self.add(vrf, Ipv4Addr::UNSPECIFIED.into(), Kind::Set(Box::default()));
        self.hold(id);
        id
    }

    /// Gives a set its members, with a reference to each; returns those that it had, with theirs.
    pub(super) fn set_legs(&mut self, id: NhId, legs: Box<[Leg]>) -> Box<[Leg]> {
        self.mark(id);
        match self.get_mut(id) {
            Some(Tracked { kind: Kind::Set(members), .. }) => std::mem::replace(members, legs),
            _ => legs,
        }
    }

    /// The next hops with an address that a leg leads over: itself, or the members of a set.
    pub(super) fn named<'a>(&'a self, leg: &'a Leg) -> impl Iterator<Item = (&'a Tracked, u8)> {
        let legs = match self.get(leg.nh) {
            Some(Tracked { kind: Kind::Set(members), .. }) => members,
            _ => std::slice::from_ref(leg),
        };
        legs.iter().filter_map(|leg| Some((self.get(leg.nh)?, leg.weight)))
    }

    /// Notes a link's state: what came with that sub-interface is to be resolved again.
    pub(super) fn set_link(&mut self, interface: SubIfId, up: bool) {
        let news = if up { self.up.insert(interface) } else { self.up.remove(&interface) };
        if news {
            let on_it = self.on_link.iter().filter(|((_, _, i), _)| *i == interface);
            for id in on_it.map(|(_, id)| *id).collect::<Vec<_>>() {
                self.mark(id);
            }
        }
    }

    /// Adds a reference.
    pub(super) fn hold(&mut self, id: NhId) {
        if let Some(tracked) = self.get_mut(id) {
            tracked.refs += 1;
        }
    }

    /// Gives a reference back; with the last one it is tracked no longer.
    pub(super) fn release(&mut self, vrfs: &mut [VrfTables], id: NhId) {
        let Some(tracked) = self.get_mut(id) else { return };
        tracked.refs -= 1;
        if tracked.refs > 0 {
            return;
        }
        let Some(tracked) = self.slab[id.0 as usize].take() else { return };
        for used in &tracked.uses {
            if let Some(used) = self.get_mut(*used) {
                used.used_by.remove(&id);
            }
        }
        for user in &tracked.used_by {
            if let Some(user) = self.get_mut(*user) {
                user.uses.remove(&id);
            }
            self.mark(*user);
        }
        self.free.push(id);
        match tracked.kind {
            Kind::OnLink(interface) => {
                self.on_link.remove(&(tracked.vrf, tracked.address, interface));
            }
            Kind::Address => with_prefix!(AnyPrefix::host(tracked.address), p =>
                forget(p, &mut vrfs[usize::from(tracked.vrf.0)], tracked.address)),
            Kind::Set(members) => members.iter().for_each(|leg| self.release(vrfs, leg.nh)),
        }
    }

    /// Whether something is to be resolved.
    pub(super) fn is_dirty(&self) -> bool {
        !(self.dirty.is_empty() && self.regrouped.is_empty())
    }

    /// All that are tracked.
    pub(super) fn iter_mut(&mut self) -> impl Iterator<Item = (NhId, &mut Tracked)> {
        self.slab.iter_mut().enumerate().filter_map(|(i, t)| Some((NhId(i as u32), t.as_mut()?)))
    }

    /// Has it resolved again in the next commit.
    pub(super) fn mark(&mut self, id: NhId) {
        if let Some(tracked) = self.get_mut(id)
            && !tracked.dirty
        {
            tracked.dirty = true;
            self.dirty.push(id);
        }
    }

    /// Resolves what is marked, and what rests on it. Gives those whose outcome changed.
    pub(super) fn resolve(&mut self, vrfs: &[VrfTables], slots: &Slots, sources: &Sources) -> Vec<NhId> {
        let mut work = std::mem::take(&mut self.dirty);
        // One that was released meanwhile is gone, or its number is another's, which then is marked itself.
        work.retain(|id| self.get_mut(*id).is_some_and(|t| std::mem::take(&mut t.dirty)));
        if work.is_empty() {
            return work;
        }
        let mut candidates = Vec::new();
        for id in &work {
            candidates.push(self.candidates(vrfs, *id));
            self.relink(*id, candidates.last().into_iter().flatten().flatten(), slots);
        }
        let mut place: BTreeMap<NhId, usize> = work.iter().enumerate().map(|(i, id)| (*id, i)).collect();
        let mut next = 0;
        while let Some(id) = work.get(next).copied() {
            next += 1;
            let users = self.get(id).map(|t| t.used_by.clone()).unwrap_or_default();
            for user in users {
                if let std::collections::btree_map::Entry::Vacant(vacant) = place.entry(user) {
                    vacant.insert(work.len());
                    work.push(user);
                    candidates.push(self.candidates(vrfs, user));
                }
            }
        }
        let levels = self.levels(&work, &place, &candidates, slots, sources);
        let mut changed = Vec::new();
        for (id, mut levels) in work.into_iter().zip(levels) {
            while levels.len() > 1 && levels[levels.len() - 1] == levels[levels.len() - 2] {
                levels.pop();
            }
            if let Some(tracked) = self.get_mut(id) {
                if tracked.hops() != levels.last().map_or(&[][..], |hops| hops) {
                    changed.push(id);
                }
                tracked.levels = levels;
            }
        }
        changed
    }

    /// The outcomes of `work` at each level, until they stay as they are.
    fn levels(
        &self,
        work: &[NhId],
        place: &BTreeMap<NhId, usize>,
        candidates: &[Vec<Vec<Path>>],
        slots: &Slots,
        sources: &Sources,
    ) -> Vec<Vec<Hops>> {
        // The level from which on all that the work rests on, outside of itself, stays the same.
        let outside = work.iter().filter_map(|id| self.get(*id)).flat_map(|t| &t.uses);
        let outside = outside.filter(|id| !place.contains_key(id)).filter_map(|id| self.get(*id));
        let steady = outside.map(|t| t.levels.len()).max().unwrap_or(0);
        let mut levels: Vec<Vec<Hops>> = vec![Vec::new(); work.len()];
        for level in 0..=DEPTH {
            for (i, id) in work.iter().enumerate() {
                let hops = {
                    let below = |nh: NhId| match (level.checked_sub(1), place.get(&nh)) {
                        (None, _) => &[][..],
                        (Some(below), Some(i)) => &levels[*i][below],
                        (Some(below), None) => self.get(nh).map_or(&[][..], |t| t.at(below)),
                    };
                    self.get(*id).map(|t| match &t.kind {
                        Kind::OnLink(subif) if self.up.contains(subif) => {
                            [Hop { subif: *subif, gateway: t.address, weight: 1 }].into()
                        }
                        Kind::OnLink(_) => Hops::default(),
                        Kind::Set(members) => merged(Vec::new(), members.iter(), below),
                        Kind::Address => outcome(t.address, &candidates[i], slots, sources, below),
                    })
                };
                levels[i].push(hops.unwrap_or_default());
            }
            if level > 0 && level >= steady && levels.iter().all(|l| l[level] == l[level - 1]) {
                break;
            }
        }
        levels
    }

    /// The paths of the prefixes that cover a next hop, longest prefix first, without the default route.
    fn candidates(&self, vrfs: &[VrfTables], id: NhId) -> Vec<Vec<Path>> {
        fn of<K: Prefix>(_: K, tables: &VrfTables, address: IpAddr) -> Vec<Vec<Path>> {
            let Some(addr) = K::addr_of(address) else { return Vec::new() };
            let covering = K::afi(tables).table.covering(addr, 1, K::BITS);
            covering.map(|(_, entry)| entry.paths.as_slice().to_vec()).collect()
        }
        let Some(tracked) = self.get(id).filter(|t| matches!(t.kind, Kind::Address)) else {
            return Vec::new();
        };
        with_prefix!(AnyPrefix::host(tracked.address), p =>
            of(p, &vrfs[usize::from(tracked.vrf.0)], tracked.address))
    }

    /// Notes which next hops `id` rests on.
    fn relink<'a>(&mut self, id: NhId, paths: impl Iterator<Item = &'a Path>, slots: &Slots) {
        let legs = paths.flat_map(|p| slots.get(p.slot).legs());
        let mut uses: BTreeSet<NhId> = legs.map(|leg| leg.nh).collect();
        let Some(tracked) = self.get_mut(id) else { return };
        if let Kind::Set(members) = &tracked.kind {
            uses.extend(members.iter().map(|leg| leg.nh));
        }
        let before = std::mem::replace(&mut tracked.uses, uses.clone());
        for gone in before.difference(&uses) {
            if let Some(used) = self.get_mut(*gone) {
                used.used_by.remove(&id);
            }
        }
        for new in uses.difference(&before) {
            if let Some(used) = self.get_mut(*new) {
                used.used_by.insert(id);
            }
        }
    }
}

/// The next hop `address` in the index of its family's next hops.
fn find<K: Prefix>(_: K, tables: &VrfTables, address: IpAddr) -> Option<NhId> {
    K::afi(tables).next_hops.get(&K::addr_of(address)?).copied()
}

/// Puts `address` into the index of its family's next hops.
fn note<K: Prefix>(_: K, tables: &mut VrfTables, address: IpAddr, id: NhId) {
    if let Some(addr) = K::addr_of(address) {
        K::afi_mut(tables).next_hops.insert(addr, id);
    }
}

/// Takes `address` out of the index of its family's next hops.
fn forget<K: Prefix>(_: K, tables: &mut VrfTables, address: IpAddr) {
    if let Some(addr) = K::addr_of(address) {
        K::afi_mut(tables).next_hops.remove(&addr);
    }
}

/// Where `address` leads, given the paths that cover it and the outcomes of the level below.
fn outcome<'a>(
    address: IpAddr,
    candidates: &[Vec<Path>],
    slots: &Slots,
    sources: &Sources,
    below: impl Fn(NhId) -> &'a [Hop],
) -> Hops {
    let usable = |_: Path, slot: &Slot| match &slot.target {
        Target::Own(Own::Host(..)) => false,
        Target::Own(_) | Target::Discard => true,
        Target::Via(legs) => legs.iter().any(|leg| !below(leg.nh).is_empty()),
    };
    let mut best = Vec::new();
    for paths in candidates {
        select(paths, slots, sources, usable, &mut best);
        let Some(first) = best.first() else { continue };
        let mut hops = Vec::new();
        if let Target::Own(Own::Glean(subif)) = slots.get(first.slot).target {
            hops.push(Hop { subif, gateway: address, weight: 1 });
        }
        return merged(hops, best.iter().flat_map(|path| slots.get(path.slot).legs()), below);
    }
    Hops::default()
}

/// What `legs` lead to, given their outcomes, with `hops`.
fn merged<'a, 'b>(
    mut hops: Vec<Hop>,
    legs: impl Iterator<Item = &'b Leg>,
    below: impl Fn(NhId) -> &'a [Hop],
) -> Hops {
    for leg in legs {
        hops.extend(leg.weigh(below(leg.nh)));
    }
    normalize(&mut hops);
    hops.into()
}
