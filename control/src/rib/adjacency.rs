//! Adjacencies: what the data plane does at the end of a look-up, one for each neighbour that something leads to
//! and one for each sub-interface's own prefixes.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::net::IpAddr;

use dataplane::ids::{AdjId, GroupId, SubIfId};

/// What control knows of a neighbour. The kernel's REACHABLE, STALE, DELAY, PROBE and PERMANENT are all
/// `Reachable`: there is a MAC address to send to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Neighbour {
    /// Its MAC address is known.
    Reachable([u8; 6]),
    /// Resolution failed, or the neighbour was found dead: groups leave it while they have another.
    Failed,
    /// Nothing is known of it.
    Gone,
}

/// What an adjacency is, for the data plane to make its L2 header or verdict of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum AdjacencyDesc {
    /// Drops with `DropReason::NoRoute`; also what unused numbers hold.
    NoRoute,
    /// Drops with `DropReason::DiscardRoute`.
    Discard,
    /// Punts with `PuntReason::Local`.
    Local,
    /// A connected prefix: punts as unresolved; the neighbour wanted is the packet's destination.
    Glean {
        /// Where the destination is.
        subif: SubIfId,
    },
    /// A gateway or neighbour with no MAC address or no link: punts as unresolved.
    Incomplete {
        /// Where it is.
        subif: SubIfId,
        /// Its address.
        address: IpAddr,
    },
    /// Sends to a MAC address.
    Forward {
        /// Where to.
        subif: SubIfId,
        /// The neighbour's address, for display.
        address: IpAddr,
        /// The neighbour's MAC address.
        mac: [u8; 6],
    },
}

/// What an adjacency stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum AdjKey {
    Glean(SubIfId),
    Neighbour(SubIfId, IpAddr),
}

/// How fit an adjacency is to carry packets: a group uses only its fittest members.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Fitness {
    /// It sends.
    Live,
    /// It would send if its neighbour were resolved.
    Unresolved,
    /// Its neighbour failed or its link is down.
    Down,
}

pub(super) struct Adjacency {
    pub key: AdjKey,
    /// The groups that have it as a member.
    pub groups: BTreeSet<GroupId>,
}

/// Neighbours that may be taken for dead by order at a time: far more than have BFD, and no more memory than a client of
/// the API may have us spend.
pub const MOST_HELD: usize = 4096;

/// All adjacencies, and the neighbours and links by which they are judged.
#[derive(Default)]
pub(super) struct Adjacencies {
    slab: Vec<Option<Adjacency>>,
    by_key: HashMap<AdjKey, AdjId>,
    neighbours: BTreeMap<(SubIfId, IpAddr), Neighbour>,
    links_down: BTreeSet<SubIfId>,
    /// Neighbours that somebody who knows better says are dead, whatever their state.
    held_down: BTreeSet<(SubIfId, IpAddr)>,
    free: Vec<AdjId>,
    /// Numbers that nothing uses any more, with the commit that let them go.
    released: VecDeque<(u64, AdjId)>,
}

impl Adjacencies {
    fn slot(id: AdjId) -> usize {
        (id.0 - AdjId::FIRST_FREE.0) as usize
    }

    pub(super) fn get(&self, id: AdjId) -> Option<&Adjacency> {
        self.slab.get(Self::slot(id))?.as_ref()
    }

    pub(super) fn find(&self, key: AdjKey) -> Option<AdjId> {
        self.by_key.get(&key).copied()
    }

    /// Makes `group` a holder of the adjacency of `key`.
    pub(super) fn hold(&mut self, key: AdjKey, group: GroupId) -> AdjId {
        let id = self.by_key.get(&key).copied().unwrap_or_else(|| {
            let adjacency = Some(Adjacency { key, groups: BTreeSet::new() });
            let id = if let Some(id) = self.free.pop() {
                self.slab[Self::slot(id)] = adjacency;
                id
            } else {
                self.slab.push(adjacency);
                AdjId(AdjId::FIRST_FREE.0 + self.slab.len() as u32 - 1)
            };
            self.by_key.insert(key, id);
            id
        });
        if let Some(adjacency) = &mut self.slab[Self::slot(id)] {
            adjacency.groups.insert(group);
        }
        id
    }

    /// Lets go of it; its number rests until it is reclaimed.
    pub(super) fn let_go(&mut self, id: AdjId, group: GroupId, ticket: u64) {
        let Some(adjacency) = self.slab.get_mut(Self::slot(id)).and_then(Option::as_mut) else { return };
        adjacency.groups.remove(&group);
        if adjacency.groups.is_empty() {
            self.by_key.remove(&adjacency.key);
            self.slab[Self::slot(id)] = None;
            self.released.push_back((ticket, id));
        }
    }

    /// Makes the numbers usable again that were let go by a commit for which `may_reuse` holds.
    pub(super) fn reclaim(&mut self, may_reuse: impl Fn(u64) -> bool) {
        while let Some(&(ticket, id)) = self.released.front()
            && may_reuse(ticket)
        {
            self.released.pop_front();
            self.free.push(id);
        }
    }

    pub(super) fn neighbour(&self, subif: SubIfId, address: IpAddr) -> Neighbour {
        self.neighbours.get(&(subif, address)).copied().unwrap_or(Neighbour::Gone)
    }

    /// Notes what is known of a neighbour; says whether that is news.
    pub(super) fn set_neighbour(&mut self, subif: SubIfId, address: IpAddr, state: Neighbour) -> bool {
        let old = match state {
            Neighbour::Gone => self.neighbours.remove(&(subif, address)),
            _ => self.neighbours.insert((subif, address), state),
        };
        old.unwrap_or(Neighbour::Gone) != state
    }

    /// Notes a link's state; says whether that is news.
    pub(super) fn set_link(&mut self, subif: SubIfId, up: bool) -> bool {
        if up { self.links_down.remove(&subif) } else { self.links_down.insert(subif) }
    }

    /// Notes whether a neighbour is to be taken for dead; says whether that is news. `None`: there are too many.
    pub(super) fn hold_down(&mut self, subif: SubIfId, address: IpAddr, down: bool) -> Option<bool> {
        let neighbour = (subif, address);
        if !down {
            return Some(self.held_down.remove(&neighbour));
        }
        if self.held_down.contains(&neighbour) {
            return Some(false);
        }
        (self.held_down.len() < MOST_HELD).then(|| self.held_down.insert(neighbour))
    }

    pub(super) fn is_held_down(&self, subif: SubIfId, address: IpAddr) -> bool {
        self.held_down.contains(&(subif, address))
    }

    /// Forgets that neighbours on a sub-interface that goes were to be taken for dead.
    pub(super) fn forget_held(&mut self, subif: SubIfId) {
        self.held_down.retain(|(of, _)| *of != subif);
    }

    pub(super) fn link_up(&self, subif: SubIfId) -> bool {
        !self.links_down.contains(&subif)
    }

    pub(super) fn neighbours(&self) -> impl Iterator<Item = (SubIfId, IpAddr, Neighbour)> {
        self.neighbours.iter().map(|((subif, address), state)| (*subif, *address, *state))
    }

    pub(super) fn fitness(&self, id: AdjId) -> Fitness {
        match self.get(id).map(|adjacency| adjacency.key) {
            Some(AdjKey::Glean(subif)) if self.link_up(subif) => Fitness::Live,
            Some(AdjKey::Neighbour(subif, address))
                if self.link_up(subif) && !self.is_held_down(subif, address) =>
            {
                match self.neighbour(subif, address) {
                    Neighbour::Reachable(_) => Fitness::Live,
                    Neighbour::Gone => Fitness::Unresolved,
                    Neighbour::Failed => Fitness::Down,
                }
            }
            _ => Fitness::Down,
        }
    }

    pub(super) fn describe(&self, id: AdjId) -> AdjacencyDesc {
        match self.get(id).map(|adjacency| adjacency.key) {
            None => AdjacencyDesc::NoRoute,
            Some(AdjKey::Glean(subif)) => AdjacencyDesc::Glean { subif },
            Some(AdjKey::Neighbour(subif, address)) => match self.neighbour(subif, address) {
                Neighbour::Reachable(mac) if self.link_up(subif) && !self.is_held_down(subif, address) => {
                    AdjacencyDesc::Forward { subif, address, mac }
                }
                _ => AdjacencyDesc::Incomplete { subif, address },
            },
        }
    }

    /// All that exist.
    pub(super) fn iter(&self) -> impl Iterator<Item = (AdjId, &Adjacency)> {
        self.slab
            .iter()
            .enumerate()
            .filter_map(|(i, slot)| Some((AdjId(AdjId::FIRST_FREE.0 + i as u32), slot.as_ref()?)))
    }
}
