//! The small tables that all workers read: sub-interfaces, next-hop groups, adjacencies, and the VRFs' FIBs,
//! as one immutable snapshot.

use std::sync::Arc;

use crate::adjacency::Adjacency;
use crate::exits::Exits;
use crate::fib::{Fib4, Fib6};
use crate::ids::{AdjId, GroupId, SubIfId, VrfId};
use crate::policy::Policies;
use crate::sub_interface::SubInterfaces;
use crate::verdict::{DropReason, PuntReason};
use crate::watch::Watch;

/// A next-hop group: a power of two of buckets, each of which names an adjacency.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Group {
    /// Index of its first bucket in [`Tables::buckets`].
    pub first: u32,
    /// Number of buckets less one; 0 for a group of one member.
    pub mask: u32,
}

/// The look-up tables of one VRF.
#[derive(Clone)]
pub struct VrfTables {
    /// IPv4 routes.
    pub v4: Arc<Fib4>,
    /// IPv6 routes.
    pub v6: Arc<Fib6>,
}

/// One snapshot. A worker takes it once per burst; control builds the next and swaps.
#[derive(Clone)]
pub struct Tables {
    /// All sub-interfaces.
    pub sub_interfaces: Arc<SubInterfaces>,
    /// By [`VrfId`].
    pub vrfs: Arc<[VrfTables]>,
    /// By [`GroupId`].
    groups: Vec<Group>,
    /// Buckets of all groups.
    buckets: Vec<AdjId>,
    /// By [`AdjId`].
    adjacencies: Vec<Adjacency>,
    /// What follows from groups and adjacencies, for most packets.
    exits: Exits,
    /// Traces and captures; none nearly always.
    pub watch: Option<Arc<Watch>>,
    /// What sub-interfaces do besides forwarding.
    pub policies: Arc<Policies>,
    /// Where each group leads; needed for strict reverse path checks only.
    pub reverse_paths: ReversePaths,
}

/// The sub-interfaces that each next-hop group leads out of.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ReversePaths {
    /// Where each group's end in `sub_ifs`; they begin where those of the group before end.
    ends: Vec<u32>,
    sub_ifs: Vec<SubIfId>,
}

impl ReversePaths {
    /// Adds those of the next group.
    pub fn push(&mut self, sub_ifs: impl IntoIterator<Item = SubIfId>) {
        let start = self.sub_ifs.len();
        self.sub_ifs.extend(sub_ifs);
        self.sub_ifs[start..].sort_unstable();
        let mut kept = start;
        for at in start..self.sub_ifs.len() {
            if at == start || self.sub_ifs[at] != self.sub_ifs[kept - 1] {
                self.sub_ifs[kept] = self.sub_ifs[at];
                kept += 1;
            }
        }
        self.sub_ifs.truncate(kept);
        self.ends.push(kept as u32);
    }

    /// Those of a group.
    pub fn of(&self, group: GroupId) -> &[SubIfId] {
        let group = group.0 as usize;
        let start = group.checked_sub(1).and_then(|before| self.ends.get(before)).copied().unwrap_or(0);
        let end = self.ends.get(group).copied().unwrap_or(start);
        self.sub_ifs.get(start as usize..end as usize).unwrap_or(&[])
    }
}

/// What an index out of range yields; control publishes no such index.
static NOWHERE: Adjacency = Adjacency::Punt(PuntReason::NoRoute);

impl Tables {
    /// Tables with the given sub-interfaces and VRFs, and only the fixed groups and adjacencies of [`GroupId`]
    /// and [`AdjId`].
    pub fn new(sub_interfaces: Arc<SubInterfaces>, vrfs: Arc<[VrfTables]>) -> Self {
        let mut this = Self {
            sub_interfaces,
            vrfs,
            groups: Vec::new(),
            buckets: Vec::new(),
            adjacencies: Vec::new(),
            exits: Exits::default(),
            policies: Arc::default(),
            reverse_paths: ReversePaths::default(),
            watch: None,
        };
        let groups = (0..GroupId::FIRST_FREE.0).map(|first| Group { first, mask: 0 }).collect();
        let buckets = vec![AdjId::NO_ROUTE, AdjId::DISCARD, AdjId::LOCAL];
        this.set_next_hops(groups, buckets, Self::fixed_adjacencies().to_vec());
        this
    }

    /// Replaces all groups and adjacencies, the fixed ones too.
    pub fn set_next_hops(&mut self, groups: Vec<Group>, buckets: Vec<AdjId>, adjacencies: Vec<Adjacency>) {
        self.exits = Exits::default();
        for adjacency in &adjacencies {
            self.exits.push_adjacency(adjacency);
        }
        for group in &groups {
            let first = group.first as usize;
            self.exits.push_group(buckets.get(first..=first + group.mask as usize).unwrap_or(&[]));
        }
        (self.groups, self.buckets, self.adjacencies) = (groups, buckets, adjacencies);
    }

    /// Adds an adjacency.
    pub fn add_adjacency(&mut self, adjacency: Adjacency) -> AdjId {
        self.exits.push_adjacency(&adjacency);
        self.adjacencies.push(adjacency);
        AdjId(self.adjacencies.len() as u32 - 1)
    }

    /// Adds a group of these members, a power of two of them.
    pub fn add_group(&mut self, members: &[AdjId]) -> GroupId {
        let first = self.buckets.len() as u32;
        self.exits.push_group(members);
        self.buckets.extend_from_slice(members);
        self.groups.push(Group { first, mask: (members.len() as u32).saturating_sub(1) });
        GroupId(self.groups.len() as u32 - 1)
    }

    /// What follows from groups and adjacencies.
    #[inline(always)]
    pub(crate) fn exits(&self) -> &Exits {
        &self.exits
    }

    /// The adjacencies below [`AdjId::FIRST_FREE`], in order.
    pub fn fixed_adjacencies() -> [Adjacency; 3] {
        [
            Adjacency::Punt(PuntReason::NoRoute),
            Adjacency::Drop(DropReason::DiscardRoute),
            Adjacency::Punt(PuntReason::Local),
        ]
    }

    /// All groups; the index is the id.
    pub fn groups(&self) -> &[Group] {
        &self.groups
    }

    /// The buckets of a group.
    pub fn buckets(&self, group: Group) -> &[AdjId] {
        let first = group.first as usize;
        self.buckets.get(first..=first + group.mask as usize).unwrap_or(&[])
    }

    /// The tables of a VRF.
    pub fn vrf(&self, id: VrfId) -> Option<&VrfTables> {
        self.vrfs.get(usize::from(id.0))
    }

    /// The group of that id; the one without a route if there is none.
    pub fn group(&self, id: GroupId) -> Group {
        self.groups.get(id.0 as usize).copied().unwrap_or(Group { first: 0, mask: 0 })
    }

    /// The adjacency in bucket `hash & mask` of a group.
    pub fn member(&self, group: Group, hash: u32) -> AdjId {
        let bucket = group.first as usize + (hash & group.mask) as usize;
        self.buckets.get(bucket).copied().unwrap_or(AdjId::NO_ROUTE)
    }

    /// The adjacency of that id; one that drops if there is none.
    pub fn adjacency(&self, id: AdjId) -> &Adjacency {
        self.adjacencies.get(id.0 as usize).unwrap_or(&NOWHERE)
    }

    /// The largest IP packet that may leave by an adjacency, in bytes; 0 where nothing leaves.
    pub fn mtu(&self, id: AdjId) -> u16 {
        match self.adjacency(id) {
            Adjacency::Forward(adjacency) => adjacency.mtu,
            Adjacency::Drop(_) | Adjacency::Punt(_) => 0,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_group_has_its_sub_interfaces_once() {
        let mut paths = ReversePaths::default();
        let ids = |ids: &[u16]| ids.iter().map(|id| SubIfId(*id)).collect::<Vec<_>>();
        paths.push(ids(&[]));
        paths.push(ids(&[3, 1, 3, 3]));
        paths.push(ids(&[]));
        paths.push(ids(&[1]));
        for (group, expected) in [(0, &[][..]), (1, &[1, 3]), (2, &[]), (3, &[1]), (4, &[]), (99, &[])] {
            assert_eq!(paths.of(GroupId(group)), ids(expected), "{group}");
        }
    }
}
