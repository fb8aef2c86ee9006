//! The RIB: every source's routes, which of them are used, where they lead, and what the FIB is to hold.
//!
//! Pure logic with no I/O and no threads. Control tells it what happened ([`Rib::apply`], [`Rib::set_link`],
//! [`Rib::set_neighbour`], ...), as often as it likes, and then calls [`Rib::commit`], which brings the data plane
//! up to date in an order that loses no packet. Ten changes to a prefix between two commits cost one FIB write.
//! A commit can be had in slices, so that a full table that comes or goes holds up nothing else.
//!
//! - `table`: prefix → paths. `attrs`: what paths share. `sources`: who announces.
//! - `best`, `best_path`: which paths are used. `resolve`: where their next hops lead.
//! - `hop_sets`: next hops that a source changes for all its routes at once.
//! - `groups`, `buckets`, `adjacency`: what FIB entries point to.
//! - `leaving`: next hops whose sources were all lost.
//! - `leak`: routes of one VRF in another. `default_route`: those that are refused.
//! - `own`: interfaces, links, neighbours. `sweep`: stale routes. `walk`: what concerns a whole table.
//! - `commit`: out to the data plane; `decide`: where an entry leads; `write`: into the FIB.
//! - `view`: answers for the API.

mod adjacency;
mod attrs;
mod best;
mod best_path;
mod buckets;
mod commit;
mod decide;
mod default_route;
mod groups;
mod hop_sets;
mod leak;
mod leaving;
mod own;
mod prefix;
mod resolve;
mod sources;
mod sweep;
mod table;
#[cfg(test)]
mod tests;
mod view;
mod walk;
mod write;

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use dataplane::ids::{SubIfId, VrfId};
use ipnetwork::IpNetwork;

pub use adjacency::{AdjacencyDesc, MOST_HELD, Neighbour};
pub use commit::{Change, Commit, FailedWrite, FibSink, FibSinkError};
pub use default_route::RefusedDefault;
pub use groups::{GroupDesc, GroupsSnapshot};
pub use view::{
    GroupView, HopView, MemberView, NeighbourView, NextHopView, Page, PathView, RouteView, SourceView,
};

use crate::config::model::{self, StaticRoute, Target as StaticTarget};
use crate::source::{Attributes, HopSet, NextHop, Nlri, RouteEvent, SourceEvent, SourceId, SourceKind};
use attrs::{Leg, SlotKey, Slots, Target};
use default_route::DefaultGuard;
use groups::Groups;
use leak::Leak;
use own::Interface;
use prefix::{AnyPrefix, Prefix, with_prefix};
use resolve::{NextHops, NhId};
use sources::Sources;
use table::{MAX_PATHS, Path, VrfTables};

/// What the RIB refuses.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RibError {
    /// An event came from a source that was not declared.
    #[error(
        "route source {source_id} is not known to the RIB; declare it with add_source before its first event"
    )]
    UnknownSource {
        /// Its number.
        source_id: u32,
    },
    /// An event names a VRF that the RIB was not made with.
    #[error("VRF {vrf} is not known to the RIB, which has {count}; make it known with ensure_vrfs")]
    UnknownVrf {
        /// Its number.
        vrf: u16,
        /// How many there are.
        count: usize,
    },
    /// A sub-interface was not added.
    #[error("sub-interface {subif} is not known to the RIB; add it with add_interface first")]
    UnknownInterface {
        /// Its number.
        subif: u16,
    },
    /// Too many neighbours are taken for dead by order.
    #[error(
        "{MOST_HELD} neighbours are taken for dead by order already: leave some of them to the kernel again (`turnpike neighbour ADDRESS up`)"
    )]
    TooManyHeld,
    /// More than 65,535 pairs of source and VRF.
    #[error("more than 65,535 pairs of route source and VRF; use fewer BGP sessions")]
    TooManySources,
}

/// All routes of all VRFs.
pub struct Rib {
    vrfs: Vec<VrfTables>,
    slots: Slots,
    sources: Sources,
    next_hops: NextHops,
    groups: Groups,
    hop_sets: HashMap<HopSet, NhId>,
    interfaces: BTreeMap<SubIfId, Interface>,
    /// By the VRF whose routes they are.
    leaks: Vec<Vec<Leak>>,
    defaults: DefaultGuard,
    /// Number of the next commit.
    ticket: u64,
    ignored: u64,
    /// Room for decisions, kept so that none allocates.
    scratch: decide::Scratch,
}

impl Rib {
    /// The source of connected prefixes, our own addresses and neighbours.
    pub const CONNECTED: SourceId = SourceId(0);
    /// The source of `[[route]]`s.
    pub const STATIC: SourceId = SourceId(1);
    /// The first number for other sources.
    pub const FIRST_DYNAMIC: SourceId = SourceId(2);

    /// An empty RIB for VRFs 0 to `vrfs` − 1.
    pub fn new(vrfs: usize, distances: &model::Sources) -> Self {
        let mut sources = Sources::new(distances.clone());
        sources.declare(Self::CONNECTED, SourceKind::Connected);
        sources.declare(Self::STATIC, SourceKind::Static);
        let mut rib = Self {
            vrfs: Vec::new(),
            slots: Slots::default(),
            sources,
            next_hops: NextHops::default(),
            groups: Groups::default(),
            hop_sets: HashMap::new(),
            interfaces: BTreeMap::new(),
            leaks: Vec::new(),
            defaults: DefaultGuard::default(),
            ticket: 1,
            ignored: 0,
            scratch: decide::Scratch::default(),
        };
        rib.ensure_vrfs(vrfs);
        rib
    }

    /// Makes VRFs 0 to `vrfs` − 1 known.
    pub fn ensure_vrfs(&mut self, vrfs: usize) {
        while self.vrfs.len() < vrfs {
            self.vrfs.push(VrfTables::default());
            self.leaks.push(Vec::new());
        }
    }

    /// Declares a source, from [`Self::FIRST_DYNAMIC`] on, before its first event.
    pub fn add_source(&mut self, id: SourceId, kind: SourceKind) {
        self.sources.declare(id, kind);
    }

    /// Administrative distance of a kind of source.
    pub fn distance(&self, kind: SourceKind) -> u8 {
        self.sources.distance(kind)
    }

    /// How many announcements were ignored: link-local prefixes (never routed), and paths beyond 256 for one
    /// prefix.
    pub fn ignored(&self) -> u64 {
        self.ignored
    }

    fn vrf(&self, vrf: VrfId) -> Result<(), RibError> {
        if usize::from(vrf.0) < self.vrfs.len() {
            return Ok(());
        }
        Err(RibError::UnknownVrf { vrf: vrf.0, count: self.vrfs.len() })
    }

    /// Takes in what a source says. The data plane follows at the next [`Self::commit`].
    ///
    /// # Errors
    ///
    /// The source or its VRF is not known; then nothing was changed.
    pub fn apply(&mut self, event: &SourceEvent) -> Result<(), RibError> {
        self.vrf(event.vrf)?;
        let source = self.sources.intern(event.source, event.vrf)?;
        match &event.event {
            RouteEvent::Up | RouteEvent::Down { .. } => self.next_generation(source),
            RouteEvent::Speaker(speaker) => self.sources.get_mut(source).speaker = *speaker,
            RouteEvent::EndOfRib(family) => self.sweep(source, *family),
            RouteEvent::HopSet { number, next_hops } => {
                self.define_set(HopSet { source: event.source, number: *number }, event.vrf, next_hops);
            }
            RouteEvent::HopSetGone { number } => {
                self.forget_set(HopSet { source: event.source, number: *number });
            }
            RouteEvent::Update { withdrawn, announced, attributes } => {
                for nlri in withdrawn {
                    with_prefix!(AnyPrefix::from(nlri.prefix), p => self.withdraw(source, p, nlri.path_id));
                }
                if !announced.is_empty() {
                    self.announce(source, announced, attributes);
                }
            }
        }
        Ok(())
    }

    /// Puts `[[route]]`s in the place of those there were.
    ///
    /// # Errors
    ///
    /// A route's VRF is not known; then nothing was changed.
    pub fn set_static_routes(&mut self, routes: &[StaticRoute]) -> Result<(), RibError> {
        for route in routes {
            self.vrf(route.vrf)?;
            self.sources.intern(Self::STATIC, route.vrf)?;
        }
        self.source_down(Self::STATIC);
        let mut path_ids: BTreeMap<(VrfId, IpNetwork), u32> = BTreeMap::new();
        for route in routes {
            let next = path_ids.entry((route.vrf, route.prefix)).or_default();
            let nlri = Nlri { prefix: route.prefix, path_id: *next };
            *next += 1;
            let next_hops = match &route.target {
                StaticTarget::Discard => Vec::new(),
                StaticTarget::Via(gateways) => {
                    gateways.iter().map(|address| NextHop::new(*address)).collect()
                }
            };
            let attributes = Arc::new(Attributes { next_hops, local_pref: 100, ..Attributes::default() });
            let source = self.sources.intern(Self::STATIC, route.vrf)?;
            self.announce(source, &[nlri], &attributes);
        }
        self.sweep_source(Self::STATIC);
        Ok(())
    }

    fn announce(&mut self, source: u16, announced: &[Nlri], attributes: &Arc<Attributes>) {
        let slot = self.learned_slot(source, attributes);
        self.slots.acquire(slot);
        for leg in self.slots.get(slot).legs() {
            self.next_hops.stay(leg.nh, source);
        }
        for nlri in announced {
            let prefix = AnyPrefix::from(nlri.prefix);
            if prefix.is_link_local() {
                self.ignored += 1;
            } else {
                with_prefix!(prefix, p => self.put(source, p, nlri.path_id, slot));
            }
        }
        self.drop_slot(slot);
    }

    /// The slot of a source's attributes.
    fn learned_slot(&mut self, source: u16, attributes: &Arc<Attributes>) -> u32 {
        let key = SlotKey::Learned(source, Arc::clone(attributes));
        if let Some(slot) = self.slots.find(&key) {
            return slot;
        }
        let vrf = self.sources.get(source).vrf;
        let legs = if let Some(set) = attributes.hop_set {
            let nh = self.set_of(set, vrf);
            self.next_hops.hold(nh);
            [Leg { nh, weight: 1 }].into()
        } else if attributes.next_hops.is_empty() {
            return self.slots.add(key, Target::Discard);
        } else {
            self.legs(vrf, &attributes.next_hops)
        };
        for leg in &legs {
            self.next_hops.add_user(leg.nh, source);
        }
        self.slots.add(key, Target::Via(legs))
    }

    /// What these next hops are tracked by, sorted, each once, with a reference.
    fn legs(&mut self, vrf: VrfId, next_hops: &[NextHop]) -> Box<[Leg]> {
        let mut weights = BTreeMap::new();
        for next_hop in next_hops {
            let weight: &mut u8 = weights.entry((next_hop.address, next_hop.interface)).or_default();
            *weight = next_hop.weight.max(1).max(*weight);
        }
        let tables = &mut self.vrfs[usize::from(vrf.0)];
        let mut legs: Vec<Leg> = weights
            .into_iter()
            .map(|((address, interface), weight)| Leg {
                nh: self.next_hops.acquire(tables, vrf, address, interface),
                weight,
            })
            .collect();
        legs.sort_unstable();
        legs.into()
    }

    /// Gives back a reference to a slot, and what the slot holds if it was the last.
    fn drop_slot(&mut self, id: u32) {
        let Some(slot) = self.slots.release(id) else { return };
        if let Some(group) = slot.group {
            self.groups.release(group, self.ticket);
        }
        for leg in slot.legs() {
            if let SlotKey::Learned(source, _) = slot.key {
                self.next_hops.remove_user(leg.nh, source);
            }
            self.next_hops.release(&mut self.vrfs, leg.nh);
        }
    }

    /// Adds or replaces a path.
    fn put<K: Prefix>(&mut self, source: u16, key: K, path_id: u32, slot: u32) {
        let from = self.sources.get_mut(source);
        let stamp = from.stamp();
        // Ours are few, and must find room whatever peers announce.
        let limited = !matches!(from.kind, SourceKind::Connected | SourceKind::Static | SourceKind::Leak);
        let afi = K::afi_mut(&mut self.vrfs[usize::from(from.vrf.0)]);
        let entry = afi.table.entry(key);
        let known = entry.paths.as_mut_slice().iter_mut();
        let mut old = None;
        if let Some(path) = known.into_iter().find(|p| p.source == source && p.path_id == path_id) {
            if path.stamp != stamp {
                path.stamp = stamp;
                from.count_mut(K::FAMILY).stale -= 1;
            }
            if path.slot == slot {
                return;
            }
            old = Some(std::mem::replace(&mut path.slot, slot));
        } else if limited && entry.paths.as_slice().len() >= MAX_PATHS {
            self.ignored += 1;
            return;
        } else {
            entry.paths.push(Path { slot, path_id, source, stamp });
            from.count_mut(K::FAMILY).total += 1;
        }
        if !entry.dirty {
            entry.dirty = true;
            afi.dirty.push_back(key);
        }
        self.slots.acquire(slot);
        self.touch_next_hops(source, key);
        if let Some(old) = old {
            self.drop_slot(old);
        }
    }

    /// Takes a path out.
    fn withdraw<K: Prefix>(&mut self, source: u16, key: K, path_id: u32) {
        self.take_paths(source, key, |path| path.path_id == path_id);
    }

    /// Takes out the paths of a source for which `gone` holds.
    fn take_paths<K: Prefix>(&mut self, source: u16, key: K, gone: impl Fn(&Path) -> bool) {
        let from = self.sources.get_mut(source);
        let afi = K::afi_mut(&mut self.vrfs[usize::from(from.vrf.0)]);
        let Some(entry) = afi.table.get_mut(key) else { return };
        let mut first = None;
        let mut more = Vec::new();
        let stamp = from.stamp();
        let count = from.count_mut(K::FAMILY);
        entry.paths.take(
            |path| path.source == source && gone(path),
            |path| {
                count.total -= 1;
                count.stale -= usize::from(path.stamp != stamp);
                if first.is_none() { first = Some(path.slot) } else { more.push(path.slot) }
            },
        );
        let Some(first) = first else { return };
        if !entry.dirty {
            entry.dirty = true;
            afi.dirty.push_back(key);
        }
        self.touch_next_hops(source, key);
        self.drop_slot(first);
        for slot in more {
            self.drop_slot(slot);
        }
    }

    /// The paths of `key` changed: the next hops that it covers are to be resolved again.
    fn touch_next_hops<K: Prefix>(&mut self, source: u16, key: K) {
        // The default route resolves no next hop.
        if key.len() == 0 {
            return;
        }
        let afi = K::afi(&self.vrfs[usize::from(self.sources.get(source).vrf.0)]);
        for nh in afi.next_hops.range(key.first()..=key.last()).map(|(_, nh)| *nh) {
            self.next_hops.mark(nh);
        }
    }

    /// Frees group and adjacency numbers that were let go by a commit (by its [`Commit::ticket`]) for which
    /// `may_reuse` holds: that is, when every worker has passed a quiescent state after that commit.
    pub fn reclaim(&mut self, may_reuse: impl Fn(u64) -> bool) {
        self.groups.reclaim(may_reuse, &mut self.next_hops, &mut self.vrfs, self.ticket);
    }
}
