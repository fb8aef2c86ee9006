//! The small tables that all workers read: sub-interfaces, next-hop groups, adjacencies, and the VRFs' FIBs,
//! as one immutable snapshot.

use std::sync::Arc;

use crate::adjacency::Adjacency;
use crate::fib::{Fib4, Fib6};
use crate::ids::{AdjId, GroupId, VrfId};
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
    pub groups: Vec<Group>,
    /// Buckets of all groups.
    pub buckets: Vec<AdjId>,
    /// By [`AdjId`].
    pub adjacencies: Vec<Adjacency>,
    /// Traces and captures; none nearly always.
    pub watch: Option<Arc<Watch>>,
}

/// What an index out of range yields; control publishes no such index.
static NOWHERE: Adjacency = Adjacency::Punt(PuntReason::NoRoute);

impl Tables {
    /// Tables with the given sub-interfaces and VRFs, and only the fixed groups and adjacencies of [`GroupId`]
    /// and [`AdjId`].
    pub fn new(sub_interfaces: Arc<SubInterfaces>, vrfs: Arc<[VrfTables]>) -> Self {
        Self {
            sub_interfaces,
            vrfs,
            groups: (0..GroupId::FIRST_FREE.0).map(|first| Group { first, mask: 0 }).collect(),
            buckets: vec![AdjId::NO_ROUTE, AdjId::DISCARD, AdjId::LOCAL],
            adjacencies: Self::fixed_adjacencies().to_vec(),
            watch: None,
        }
    }

    /// The adjacencies below [`AdjId::FIRST_FREE`], in order.
    pub fn fixed_adjacencies() -> [Adjacency; 3] {
        [
            Adjacency::Punt(PuntReason::NoRoute),
            Adjacency::Drop(DropReason::DiscardRoute),
            Adjacency::Punt(PuntReason::Local),
        ]
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
}
