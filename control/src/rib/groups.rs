//! Next-hop groups: what FIB entries point to, shared by all prefixes with the same next hops.
//!
//! A group is known by its next hops *as learned* (tracked next hops and weights), not by what they resolve to.
//! So when a next hop resolves otherwise, its groups are rewritten in place and no prefix is touched, be there ten
//! or a million. Members are the (sub-interface, gateway) pairs that the next hops resolve to.

use std::collections::{HashMap, VecDeque};
use std::net::IpAddr;

use dataplane::ids::{AdjId, GroupId, SubIfId};

use super::adjacency::{AdjKey, Adjacencies, AdjacencyDesc, Neighbour};
use super::attrs::{Leg, Slots};
use super::buckets::{Blocks, assign, size_for};
use super::resolve::{NextHops, normalize};
use super::table::{Path, VrfTables};

/// A group for the data plane: `buckets` (a power of two) entries of [`GroupsSnapshot::buckets`] from
/// `first_bucket` on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct GroupDesc {
    /// Index of its first bucket.
    pub first_bucket: u32,
    /// How many it has; a power of two, so that a flow's hash is masked.
    pub buckets: u32,
}

/// Groups, buckets and adjacencies as the data plane is to see them; the index of `groups` is the `GroupId`, that
/// of `adjacencies` the `AdjId`.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct GroupsSnapshot {
    /// All groups. Unused numbers drop as "no route".
    pub groups: Vec<GroupDesc>,
    /// All groups' buckets.
    pub buckets: Vec<AdjId>,
    /// All adjacencies.
    pub adjacencies: Vec<AdjacencyDesc>,
}

/// What a group is known by.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum GroupKey {
    Glean(SubIfId),
    Host(SubIfId, IpAddr),
    Via {
        legs: Box<[Leg]>,
        /// What takes over when none of `legs` leads to a neighbour that answers.
        backup: Box<[Leg]>,
    },
}

impl GroupKey {
    /// Whether it is the key of these next hops.
    pub(super) fn is_via(&self, with: &[Leg], spare: &[Leg]) -> bool {
        matches!(self, Self::Via { legs, backup } if **legs == *with && **backup == *spare)
    }

    /// All next hops that it names.
    fn legs(&self) -> impl Iterator<Item = &Leg> {
        let (legs, backup): (&[Leg], &[Leg]) = match self {
            Self::Via { legs, backup } => (legs, backup),
            Self::Glean(_) | Self::Host(..) => (&[], &[]),
        };
        legs.iter().chain(backup)
    }
}

/// A member of a group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Member {
    pub adj: AdjId,
    pub weight: u16,
    /// Whether it only stands in for the others.
    pub backup: bool,
    /// Whether its routes are about to go: others are preferred.
    leaving: bool,
}

/// A member that a group is to have.
struct Wanted {
    key: AdjKey,
    weight: u16,
    backup: bool,
    leaving: bool,
}

pub(super) struct Group {
    pub key: GroupKey,
    /// Each adjacency once.
    pub members: Vec<Member>,
    pub refs: u32,
    /// The commit that gave back the last reference.
    released: u64,
}

/// All groups and adjacencies.
pub(super) struct Groups {
    pub adjacencies: Adjacencies,
    slab: Vec<Option<Group>>,
    by_key: HashMap<GroupKey, GroupId>,
    free: Vec<GroupId>,
    /// Groups without a reference, with the commit that gave the last one back. Workers may still hold their
    /// numbers, so they keep their members.
    released: VecDeque<(u64, GroupId)>,
    blocks: Blocks,
    snapshot: GroupsSnapshot,
    /// Whether the snapshot differs from what was last published.
    pub dirty: bool,
    /// How many times a group's buckets were worked out; for tests of what a change costs.
    pub refreshed: u64,
}

const FIXED: [AdjacencyDesc; 3] = [AdjacencyDesc::NoRoute, AdjacencyDesc::Discard, AdjacencyDesc::Local];

impl Default for Groups {
    fn default() -> Self {
        let fixed = [AdjId::NO_ROUTE, AdjId::DISCARD, AdjId::LOCAL];
        Self {
            adjacencies: Adjacencies::default(),
            slab: Vec::new(),
            by_key: HashMap::new(),
            free: Vec::new(),
            released: VecDeque::new(),
            blocks: Blocks::default(),
            snapshot: GroupsSnapshot {
                groups: (0..3).map(|i| GroupDesc { first_bucket: i, buckets: 1 }).collect(),
                buckets: fixed.to_vec(),
                adjacencies: FIXED.to_vec(),
            },
            dirty: true,
            refreshed: 0,
        }
    }
}

impl Groups {
    fn slot(id: GroupId) -> Option<usize> {
        id.0.checked_sub(GroupId::FIRST_FREE.0).map(|i| i as usize)
    }

    pub(super) fn get(&self, id: GroupId) -> Option<&Group> {
        self.slab.get(Self::slot(id)?)?.as_ref()
    }

    fn get_mut(&mut self, id: GroupId) -> Option<&mut Group> {
        self.slab.get_mut(Self::slot(id)?)?.as_mut()
    }

    pub(super) fn snapshot(&self) -> &GroupsSnapshot {
        &self.snapshot
    }

    pub(super) fn find(&self, key: &GroupKey) -> Option<GroupId> {
        self.by_key.get(key).copied()
    }

    /// A reference to the group of `key`, made if there is none. The fixed groups are not counted.
    pub(super) fn acquire(&mut self, key: GroupKey, next_hops: &mut NextHops, ticket: u64) -> GroupId {
        if let Some(id) = self.find(&key) {
            self.hold(id);
            return id;
        }
        let group = Group { key: key.clone(), members: Vec::new(), refs: 1, released: 0 };
        let first_bucket = self.blocks.take(&mut self.snapshot.buckets, 1);
        let desc = GroupDesc { first_bucket, buckets: 1 };
        let id = if let Some(id) = self.free.pop() {
            if let Some(slot) = Self::slot(id) {
                self.slab[slot] = Some(group);
            }
            self.snapshot.groups[id.0 as usize] = desc;
            id
        } else {
            self.slab.push(Some(group));
            self.snapshot.groups.push(desc);
            GroupId(self.snapshot.groups.len() as u32 - 1)
        };
        for leg in key.legs() {
            next_hops.hold(leg.nh);
            if let Some(tracked) = next_hops.get_mut(leg.nh) {
                tracked.groups.insert(id);
            }
        }
        self.by_key.insert(key, id);
        self.rebuild(id, next_hops, ticket);
        id
    }

    /// Adds a reference.
    pub(super) fn hold(&mut self, id: GroupId) {
        if let Some(group) = self.get_mut(id) {
            group.refs += 1;
        }
    }

    /// A reference to the group of an entry with these paths, if that is plain: one path over next hops, of which one
    /// resolves, and the group to which its slot's entries led last is that of its next hops alone.
    pub(super) fn hold_known(&mut self, paths: &[Path], slots: &Slots) -> Option<GroupId> {
        let [path] = paths else { return None };
        let slot = slots.get(path.slot);
        let id = slot.group.filter(|_| slot.eligible)?;
        let group = self.get_mut(id).filter(|group| group.key.is_via(slot.legs(), &[]))?;
        group.refs += 1;
        Some(id)
    }

    /// Gives a reference back. The group keeps working until it is reclaimed, and comes back if it is asked for.
    pub(super) fn release(&mut self, id: GroupId, ticket: u64) {
        let Some(group) = self.get_mut(id) else { return };
        group.refs -= 1;
        if group.refs == 0 {
            group.released = ticket;
            self.released.push_back((ticket, id));
        }
    }

    /// Frees what lost its last reference in a commit for which `may_reuse` holds.
    pub(super) fn reclaim(
        &mut self,
        may_reuse: impl Fn(u64) -> bool,
        next_hops: &mut NextHops,
        vrfs: &mut [VrfTables],
        now: u64,
    ) {
        self.adjacencies.reclaim(&may_reuse);
        while let Some(&(ticket, id)) = self.released.front()
            && may_reuse(ticket)
        {
            self.released.pop_front();
            if self.get(id).is_none_or(|group| group.refs > 0 || group.released != ticket) {
                continue;
            }
            let Some(group) = Self::slot(id).and_then(|slot| self.slab[slot].take()) else { continue };
            self.by_key.remove(&group.key);
            self.free_adjacencies(group.members.iter().map(|m| m.adj), id, now);
            let desc = std::mem::replace(
                &mut self.snapshot.groups[id.0 as usize],
                GroupDesc { first_bucket: 0, buckets: 1 },
            );
            self.blocks.give(&mut self.snapshot.buckets, desc.first_bucket, desc.buckets);
            for leg in group.key.legs() {
                if let Some(tracked) = next_hops.get_mut(leg.nh) {
                    tracked.groups.remove(&id);
                }
                next_hops.release(vrfs, leg.nh);
            }
            self.free.push(id);
            self.dirty = true;
        }
    }

    fn free_adjacencies(&mut self, adjacencies: impl Iterator<Item = AdjId>, group: GroupId, ticket: u64) {
        for adj in adjacencies {
            self.adjacencies.let_go(adj, group, ticket);
            self.describe(adj);
        }
    }

    /// Works out a group's members from what its next hops resolve to, then its buckets.
    pub(super) fn rebuild(&mut self, id: GroupId, next_hops: &NextHops, ticket: u64) {
        let Some(group) = self.get(id) else { return };
        let one = |key: AdjKey| vec![Wanted { key, weight: 1, backup: false, leaving: false }];
        let wanted = match &group.key {
            GroupKey::Glean(subif) => one(AdjKey::Glean(*subif)),
            GroupKey::Host(subif, address) => one(AdjKey::Neighbour(*subif, *address)),
            GroupKey::Via { legs, backup } => members(legs, backup, next_hops),
        };
        let held: Vec<Member> = wanted
            .into_iter()
            .map(|Wanted { key, weight, backup, leaving }| Member {
                adj: self.adjacencies.hold(key, id),
                weight,
                backup,
                leaving,
            })
            .collect();
        for member in &held {
            self.describe(member.adj);
        }
        let Some(group) = self.get_mut(id) else { return };
        let before = std::mem::replace(&mut group.members, held.clone());
        let weight_before = |adj: AdjId| before.iter().find(|m| m.adj == adj).map(|m| m.weight);
        let level = held.iter().any(|m| weight_before(m.adj).is_some_and(|w| w != m.weight));
        let gone = before.iter().map(|m| m.adj).filter(|adj| held.iter().all(|m| m.adj != *adj));
        self.free_adjacencies(gone.collect::<Vec<_>>().into_iter(), id, ticket);
        let spare = held.iter().filter(|m| m.backup).count();
        self.grow(id, size_for(spare.max(held.len() - spare)) as u32);
        self.refresh(id, level);
    }

    /// Gives a group at least `size` buckets, each flow where it was.
    fn grow(&mut self, id: GroupId, size: u32) {
        let old = self.snapshot.groups[id.0 as usize];
        if size <= old.buckets {
            return;
        }
        let first_bucket = self.blocks.take(&mut self.snapshot.buckets, size);
        for i in 0..size {
            // A flow's bucket is its hash's low bits, so the new block repeats the old one.
            let adj = self.snapshot.buckets[(old.first_bucket + i % old.buckets) as usize];
            self.snapshot.buckets[(first_bucket + i) as usize] = adj;
        }
        self.blocks.give(&mut self.snapshot.buckets, old.first_bucket, old.buckets);
        self.snapshot.groups[id.0 as usize] = GroupDesc { first_bucket, buckets: size };
        self.dirty = true;
    }

    /// Works out a group's buckets: they go to the fittest of its members, and among equals not to those that are about
    /// to go, nor to the backups.
    fn refresh(&mut self, id: GroupId, level: bool) {
        let Some(group) = self.get(id) else { return };
        let standing =
            |member: &Member| (self.adjacencies.fitness(member.adj), member.leaving, member.backup);
        let best = group.members.iter().map(standing).min();
        let usable: Vec<(AdjId, u16)> = (group.members.iter())
            .filter(|member| Some(standing(member)) == best)
            .map(|member| (member.adj, member.weight))
            .collect();
        let desc = self.snapshot.groups[id.0 as usize];
        let range = desc.first_bucket as usize..(desc.first_bucket + desc.buckets) as usize;
        assign(&mut self.snapshot.buckets[range], &usable, level);
        self.refreshed += 1;
        self.dirty = true;
    }

    /// Writes an adjacency's description into the snapshot.
    fn describe(&mut self, adj: AdjId) {
        let desc = self.adjacencies.describe(adj);
        let index = adj.0 as usize;
        if index >= self.snapshot.adjacencies.len() {
            self.snapshot.adjacencies.resize(index + 1, AdjacencyDesc::NoRoute);
        }
        if self.snapshot.adjacencies[index] != desc {
            self.snapshot.adjacencies[index] = desc;
            self.dirty = true;
        }
    }

    /// An adjacency's neighbour or link changed: it and the groups that hold it follow, nothing else.
    fn touch(&mut self, adj: AdjId) {
        self.describe(adj);
        let holders = self.adjacencies.get(adj).map(|a| a.groups.clone()).unwrap_or_default();
        for group in holders {
            self.refresh(group, false);
        }
    }

    /// Notes what is known of a neighbour; says whether that is news.
    pub(super) fn set_neighbour(&mut self, subif: SubIfId, address: IpAddr, state: Neighbour) -> bool {
        let news = self.adjacencies.set_neighbour(subif, address, state);
        if news && let Some(adj) = self.adjacencies.find(AdjKey::Neighbour(subif, address)) {
            self.touch(adj);
        }
        news
    }

    /// Notes whether a neighbour is to be taken for dead, whatever its state. `None`: there are too many.
    pub(super) fn hold_down(&mut self, subif: SubIfId, address: IpAddr, down: bool) -> Option<()> {
        let news = self.adjacencies.hold_down(subif, address, down)?;
        if news && let Some(adj) = self.adjacencies.find(AdjKey::Neighbour(subif, address)) {
            self.touch(adj);
        }
        Some(())
    }

    /// Notes a link's state; says whether that is news.
    pub(super) fn set_link(&mut self, subif: SubIfId, up: bool) -> bool {
        let news = self.adjacencies.set_link(subif, up);
        if news {
            let on_link: Vec<AdjId> = (self.adjacencies.iter())
                .filter(|(_, a)| matches!(a.key, AdjKey::Glean(s) | AdjKey::Neighbour(s, _) if s == subif))
                .map(|(id, _)| id)
                .collect();
            for adj in on_link {
                self.touch(adj);
            }
        }
        news
    }

    /// All groups, those without a reference too.
    pub(super) fn iter(&self) -> impl Iterator<Item = (GroupId, &Group)> {
        let slots = self.slab.iter().enumerate();
        slots.filter_map(|(i, group)| Some((GroupId(GroupId::FIRST_FREE.0 + i as u32), group.as_ref()?)))
    }

    /// Gateways that a group in use leads over and that have no MAC address, on links that are up.
    pub(super) fn wanted(&self) -> impl Iterator<Item = (SubIfId, IpAddr)> {
        self.adjacencies.iter().filter_map(|(_, adjacency)| {
            let AdjKey::Neighbour(subif, address) = adjacency.key else { return None };
            let resolved = matches!(self.adjacencies.neighbour(subif, address), Neighbour::Reachable(_));
            let used = |id: &GroupId| {
                self.get(*id).is_some_and(|g| g.refs > 0 && matches!(g.key, GroupKey::Via { .. }))
            };
            let wanted = !resolved && self.adjacencies.link_up(subif) && adjacency.groups.iter().any(used);
            wanted.then_some((subif, address))
        })
    }
}

/// The members that a group's next hops resolve to, each once, in its best role.
fn members(legs: &[Leg], backup: &[Leg], next_hops: &NextHops) -> Vec<Wanted> {
    let mut wanted: Vec<Wanted> = Vec::new();
    for (legs, backup, leaving) in
        [(legs, false, false), (backup, true, false), (legs, false, true), (backup, true, true)]
    {
        let mut hops = Vec::new();
        for leg in legs.iter().filter(|leg| next_hops.is_leaving(leg.nh) == leaving) {
            hops.extend(leg.weigh(next_hops.hops(leg.nh)));
        }
        normalize(&mut hops);
        let before = wanted.len();
        for hop in hops {
            let key = AdjKey::Neighbour(hop.subif, hop.gateway);
            if wanted[..before].iter().all(|known| known.key != key) {
                wanted.push(Wanted { key, weight: hop.weight, backup, leaving });
            }
        }
    }
    wanted
}
