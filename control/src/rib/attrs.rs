//! What paths share: attributes and targets, interned, so that a path is twelve bytes and a change of
//! eligibility is noted once for all of the paths that it concerns.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;

use dataplane::ids::{GroupId, SubIfId};

use super::resolve::{Hop, NhId};
use crate::source::Attributes;

/// One next hop of a path: which, and with what share.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Leg {
    pub nh: NhId,
    pub weight: u8,
}

impl Leg {
    /// What it resolves to, by its weight.
    pub(super) fn weigh(self, hops: &[Hop]) -> impl Iterator<Item = Hop> {
        hops.iter().map(move |hop| Hop { weight: hop.weight.saturating_mul(u16::from(self.weight)), ..*hop })
    }
}

/// Where the paths of the router itself lead.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Own {
    /// One of our own addresses.
    Local,
    /// The network and directed broadcast addresses of a connected IPv4 prefix (RFC 2644: not forwarded).
    Broadcast,
    /// A connected prefix.
    Glean(SubIfId),
    /// A resolved neighbour.
    Host(SubIfId, IpAddr),
}

/// Where a path leads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Target {
    Own(Own),
    Discard,
    /// Over these next hops: sorted, each once.
    Via(Box<[Leg]>),
}

/// What makes two slots the same.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum SlotKey {
    /// By the index of its source, so that it is known who vouches for a next hop.
    Learned(u16, Arc<Attributes>),
    Own(Own),
}

/// One set of attributes, shared by paths.
pub(super) struct Slot {
    pub key: SlotKey,
    pub target: Target,
    /// Whether its paths may be used: it does not lead over next hops, or one of them resolves.
    pub eligible: bool,
    /// The group to which an entry led last whose first path is of this slot, with a reference held: the next one
    /// most likely leads there too.
    pub group: Option<GroupId>,
    refs: u32,
}

impl Slot {
    /// The attributes of a learned path.
    pub(super) fn attributes(&self) -> Option<&Arc<Attributes>> {
        match &self.key {
            SlotKey::Learned(_, attributes) => Some(attributes),
            SlotKey::Own(_) => None,
        }
    }

    /// The next hops that it leads over.
    pub(super) fn legs(&self) -> &[Leg] {
        match &self.target {
            Target::Via(legs) => legs,
            _ => &[],
        }
    }
}

/// All slots.
#[derive(Default)]
pub(super) struct Slots {
    slab: Vec<Option<Slot>>,
    free: Vec<u32>,
    by_key: HashMap<SlotKey, u32>,
    /// Slots whose `eligible` has never been worked out. All entries with such paths are on the dirty lists.
    pub fresh: Vec<u32>,
}

impl Slots {
    /// The slot at an index that a path holds.
    #[expect(clippy::expect_used, reason = "a path holds a reference to its slot, so the slot is there")]
    pub(super) fn get(&self, id: u32) -> &Slot {
        self.slab[id as usize].as_ref().expect("a referenced slot exists")
    }

    pub(super) fn try_get_mut(&mut self, id: u32) -> Option<&mut Slot> {
        self.slab.get_mut(id as usize)?.as_mut()
    }

    pub(super) fn find(&self, key: &SlotKey) -> Option<u32> {
        self.by_key.get(key).copied()
    }

    /// Adds a slot that [`Self::find`] did not find; it has no reference yet.
    pub(super) fn add(&mut self, key: SlotKey, target: Target) -> u32 {
        let eligible = !matches!(target, Target::Via(_));
        let slot = Slot { key: key.clone(), target, eligible, group: None, refs: 0 };
        let id = if let Some(id) = self.free.pop() {
            self.slab[id as usize] = Some(slot);
            id
        } else {
            self.slab.push(Some(slot));
            (self.slab.len() - 1) as u32
        };
        if !eligible {
            self.fresh.push(id);
        }
        self.by_key.insert(key, id);
        id
    }

    pub(super) fn acquire(&mut self, id: u32) {
        if let Some(slot) = self.try_get_mut(id) {
            slot.refs += 1;
        }
    }

    /// Gives a reference back; the slot itself with the last one, for its owner to let go of what it holds.
    pub(super) fn release(&mut self, id: u32) -> Option<Slot> {
        let slot = self.try_get_mut(id)?;
        slot.refs -= 1;
        if slot.refs > 0 {
            return None;
        }
        let slot = self.slab[id as usize].take()?;
        self.by_key.remove(&slot.key);
        self.free.push(id);
        Some(slot)
    }

    /// All slots with their indices.
    pub(super) fn iter_mut(&mut self) -> impl Iterator<Item = (u32, &mut Slot)> {
        self.slab.iter_mut().enumerate().filter_map(|(id, slot)| Some((id as u32, slot.as_mut()?)))
    }

    /// One more than the highest index in use.
    pub(super) fn bound(&self) -> usize {
        self.slab.len()
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.by_key.len()
    }
}
