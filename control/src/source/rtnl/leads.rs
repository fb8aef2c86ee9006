//! Where routes lead: next-hop objects, and what a route's hops come to, once for all routes that share them.
//!
//! Objects come in any order, a group before its members too. What names an object that is not known is undecided:
//! a route that was announced before stays as it was until it is known. What an object comes to is told as a numbered
//! set of next hops, so that its change is one event, however many routes there are. Each generation of a source (a connection, a
//! reading of the tables) has objects of its own: numbers mean something else after zebra's restart.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::net::IpAddr;
use std::sync::Arc;

use super::decode::{Hop, ObjectKind};
use super::tables::Tables;
use crate::source::{Attributes, HopSet, NextHop, RouteEvent};

/// What zebra sends for an IPv4 route over an IPv6 next hop if it may not use next-hop groups.
const LOSSY: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(169, 254, 0, 1));

/// Objects that are kept.
const MAX_OBJECTS: usize = 1 << 18;
/// Members of all groups together, and hops of all routes together (each set counted once), that are kept.
const MAX_HOPS: usize = 1 << 20;
/// Sets of hops that may lie unused before they are looked for.
const IDLE: usize = 4096;

/// Why a route cannot be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unusable {
    /// It is of a connected prefix: ours come from the configuration.
    #[error("it has no gateway; connected prefixes come from `addresses` in the configuration")]
    NoGateway,
    /// Its gateway is on an interface that is none of our TAPs.
    #[error("its gateway is on an interface that is no TAP of this VRF")]
    Foreign,
    /// Its interfaces are down.
    #[error("its interfaces are down")]
    Dead,
    /// It wants a label or another header.
    #[error("it wants an encapsulation (MPLS, SRv6 or a tunnel), which turnpike does not do")]
    Encapsulated,
    /// zebra does not say where it leads.
    #[error(
        "zebra sent the next hop 169.254.0.1, which stands for an IPv6 one that it may not name: configure \
         `fpm use-next-hop-groups` in zebra"
    )]
    Lossy,
    /// There are too many.
    #[error("too many different next hops, or routes: more are not kept")]
    TooMany,
}

/// What a route's lead comes to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    /// It names an object that is not known.
    Undecided,
    /// It cannot be used.
    Unusable(Unusable),
    /// It leads there.
    Use(Arc<Attributes>),
}

/// What a route's lead is known by.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum Key {
    /// By the type of the route: the kernel takes two types for two routes.
    Discard(u8),
    /// An object of a generation.
    Object(u32, u16),
    Hops(Vec<Hop>),
}

#[derive(Debug)]
struct Slot {
    key: (u8, Key),
    outcome: Outcome,
    /// The number by which an object's next hops were told.
    set: Option<u64>,
}

/// What was told of a set.
#[derive(Debug)]
struct Set {
    table: u8,
    next_hops: Vec<NextHop>,
    /// How many leads have its number.
    leads: usize,
}

/// All leads and objects of a source.
#[derive(Debug, Default)]
pub(super) struct Leads {
    slab: Vec<Option<Slot>>,
    free: Vec<u32>,
    by_key: HashMap<(u8, Key), u32>,
    /// The object that was asked for last, of a table and generation, and its lead: the next route most likely has it
    /// too.
    recent: Option<((u8, u32, u16), u32)>,
    /// Hops in the keys.
    hops: usize,
    /// In use when they were last looked at.
    live: usize,
    /// Objects of the present generation.
    objects: HashMap<u32, ObjectKind>,
    members: usize,
    users: HashMap<u32, BTreeSet<u32>>,
    touched: BTreeSet<u32>,
    generation: u16,
    kernel: bool,
    /// The kernel's objects that were told in this generation.
    told: HashSet<u32>,
    /// By number.
    sets: HashMap<u64, Set>,
    /// The last number that was given to a set.
    last_set: u64,
    /// Sets of earlier generations, by table and next hops: an object that comes to the same takes one over, so that a
    /// zebra that comes back with other numbers disturbs no route.
    orphans: HashMap<(u8, Vec<NextHop>), u64>,
    /// Sets that came, changed and went since that was told, of which table.
    set_events: Vec<(u8, RouteEvent)>,
}

impl Leads {
    pub(super) fn new(kernel: bool) -> Self {
        Self { kernel, ..Self::default() }
    }

    /// Objects are told anew. What leads over zebra's old ones stays as it is, since zebra numbers them anew when it
    /// restarts; the kernel's keep their numbers.
    pub(super) fn begin(&mut self, generation: u16) {
        self.told.clear();
        if self.kernel {
            return;
        }
        self.generation = generation;
        let sets = self.sets.iter();
        self.orphans = sets.map(|(number, set)| ((set.table, set.next_hops.clone()), *number)).collect();
        self.objects.clear();
        self.users.clear();
        self.touched.clear();
        self.members = 0;
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.by_key.len()
    }

    /// The generation in the keys of objects.
    pub(super) fn generation(&self) -> u16 {
        self.generation
    }

    /// The kernel's objects that were not told since [`Self::begin`].
    pub(super) fn untold(&self) -> Vec<u32> {
        if !self.kernel {
            return Vec::new();
        }
        self.objects.keys().filter(|id| !self.told.contains(id)).copied().collect()
    }

    /// An object came, or changed.
    pub(super) fn define(&mut self, id: u32, kind: &ObjectKind) -> Result<(), Unusable> {
        let size = if let ObjectKind::Group(members) = kind { members.len() } else { 0 };
        self.forget_members(id);
        if self.members + size > MAX_HOPS
            || (self.objects.len() >= MAX_OBJECTS && !self.objects.contains_key(&id))
        {
            self.objects.remove(&id);
            return Err(Unusable::TooMany);
        }
        if let ObjectKind::Group(members) = kind {
            self.members += size;
            for (member, _) in members {
                self.users.entry(*member).or_default().insert(id);
            }
        }
        self.objects.insert(id, kind.clone());
        self.touched.insert(id);
        if self.kernel {
            self.told.insert(id);
        }
        Ok(())
    }

    /// An object is gone: groups go on without it. Returns what led over it alone.
    pub(super) fn remove(&mut self, id: u32) -> Vec<u32> {
        self.forget_members(id);
        if self.objects.remove(&id).is_none() {
            return Vec::new();
        }
        for user in self.users.remove(&id).unwrap_or_default() {
            if let Some(ObjectKind::Group(members)) = self.objects.get_mut(&user) {
                let before = members.len();
                members.retain(|(member, _)| *member != id);
                self.members -= before - members.len();
                self.touched.insert(user);
            }
        }
        self.of_object(id)
    }

    fn forget_members(&mut self, id: u32) {
        if let Some(ObjectKind::Group(members)) = self.objects.get(&id) {
            self.members -= members.len();
            for (member, _) in members {
                if let Some(users) = self.users.get_mut(member) {
                    users.remove(&id);
                    if users.is_empty() {
                        self.users.remove(member);
                    }
                }
            }
        }
    }

    /// The leads over an object of the present generation, in each table.
    fn of_object(&self, id: u32) -> Vec<u32> {
        let key = |table| (table, Key::Object(id, self.generation));
        (0..=u8::MAX).map_while(|table| Some(self.by_key.get(&key(table)))).flatten().copied().collect()
    }

    /// Decides again what leads over objects that changed. Returns the leads that now come to something else.
    pub(super) fn refresh(&mut self, tables: &Tables) -> HashSet<u32> {
        let mut touched = std::mem::take(&mut self.touched);
        let users: Vec<u32> = touched.iter().filter_map(|id| self.users.get(id)).flatten().copied().collect();
        touched.extend(users);
        let mut changed = HashSet::new();
        let count = tables.all().len().min(usize::from(u8::MAX)) as u8;
        for id in touched {
            for table in 0..count {
                let key = (table, Key::Object(id, self.generation));
                let Some(lead) = self.by_key.get(&key).copied() else { continue };
                let outcome = self.decide(tables, table, &key.1);
                if outcome == Outcome::Undecided {
                    continue;
                }
                let place = |slab: &mut Vec<Option<Slot>>| slab.get_mut(lead as usize)?.take();
                let Some(mut slot) = place(&mut self.slab) else { continue };
                let outcome = self.told_as(tables, &key, outcome, &mut slot.set);
                if slot.outcome != outcome {
                    slot.outcome = outcome;
                    changed.insert(lead);
                }
                self.slab[lead as usize] = Some(slot);
            }
        }
        changed
    }

    /// The number of a lead.
    pub(super) fn intern(&mut self, tables: &Tables, table: u8, key: Key) -> Result<u32, Unusable> {
        let object = if let Key::Object(id, generation) = key { Some((table, id, generation)) } else { None };
        if let Some((recent, lead)) = self.recent
            && Some(recent) == object
        {
            return Ok(lead);
        }
        let lead = self.look_up(tables, table, key)?;
        self.recent = object.map(|object| (object, lead));
        Ok(lead)
    }

    fn look_up(&mut self, tables: &Tables, table: u8, key: Key) -> Result<u32, Unusable> {
        let key = (table, key);
        if let Some(id) = self.by_key.get(&key) {
            return Ok(*id);
        }
        let size = if let Key::Hops(hops) = &key.1 { hops.len() } else { 0 };
        if self.hops + size > MAX_HOPS {
            return Err(Unusable::TooMany);
        }
        self.hops += size;
        let outcome = self.decide(tables, table, &key.1);
        let mut set = None;
        let outcome = self.told_as(tables, &key, outcome, &mut set);
        let slot = Some(Slot { key: key.clone(), outcome, set });
        let id = self.free.pop().unwrap_or(self.slab.len() as u32);
        match self.slab.get_mut(id as usize) {
            Some(place) => *place = slot,
            None => self.slab.push(slot),
        }
        self.by_key.insert(key, id);
        Ok(id)
    }

    /// What is told of a lead that comes to `outcome`: of an object, that it leads over a numbered set. `set` is the one
    /// that it has.
    fn told_as(
        &mut self,
        tables: &Tables,
        (table, key): &(u8, Key),
        outcome: Outcome,
        set: &mut Option<u64>,
    ) -> Outcome {
        let (Key::Object(..), Outcome::Use(attributes), Some(of)) = (key, &outcome, tables.get(*table))
        else {
            return outcome;
        };
        if attributes.next_hops.is_empty() {
            return outcome;
        }
        let next_hops = &attributes.next_hops;
        let orphan = || self.orphans.remove(&(*table, next_hops.clone()));
        let number =
            set.or_else(orphan).filter(|number| self.sets.contains_key(number)).unwrap_or_else(|| {
                self.last_set += 1;
                self.last_set
            });
        let told =
            self.sets.entry(number).or_insert_with(|| Set { table: *table, next_hops: Vec::new(), leads: 0 });
        told.leads += usize::from(set.is_none());
        if told.next_hops != *next_hops {
            told.next_hops.clone_from(next_hops);
            self.set_events.push((*table, RouteEvent::HopSet { number, next_hops: next_hops.clone() }));
        }
        *set = Some(number);
        let hop_set = Some(HopSet { source: of.source, number });
        Outcome::Use(Arc::new(Attributes { hop_set, ..Attributes::default() }))
    }

    /// Whether there is something to tell of sets.
    pub(super) fn has_set_events(&self) -> bool {
        !self.set_events.is_empty()
    }

    /// What is to be told of sets before any route, and of which table.
    pub(super) fn take_set_events(&mut self) -> Vec<(u8, RouteEvent)> {
        std::mem::take(&mut self.set_events)
    }

    pub(super) fn outcome(&self, lead: u32) -> &Outcome {
        let slot = self.slab.get(lead as usize).and_then(Option::as_ref);
        slot.map_or(&Outcome::Undecided, |slot| &slot.outcome)
    }

    /// The hops that a lead was made of.
    pub(super) fn hops(&self, lead: u32) -> Option<&[Hop]> {
        match &self.slab.get(lead as usize)?.as_ref()?.key.1 {
            Key::Hops(hops) => Some(hops),
            _ => None,
        }
    }

    /// Whether so many lie unused that it is worth the look.
    pub(super) fn wants_collection(&self) -> bool {
        self.by_key.len() > 2 * self.live + IDLE || self.hops > MAX_HOPS / 2
    }

    /// Forgets those that are not used.
    pub(super) fn collect(&mut self, used: &HashSet<u32>) {
        self.recent = None;
        for (id, slot) in self.slab.iter_mut().enumerate() {
            let Some(Slot { key, set, .. }) = slot.take_if(|_| !used.contains(&(id as u32))) else {
                continue;
            };
            if let Some(number) = set
                && let Some(told) = self.sets.get_mut(&number)
            {
                told.leads -= 1;
                if told.leads == 0 {
                    self.sets.remove(&number);
                    self.set_events.push((key.0, RouteEvent::HopSetGone { number }));
                }
            }
            if let Key::Hops(hops) = &key.1 {
                self.hops -= hops.len();
            }
            self.by_key.remove(&key);
            self.free.push(id as u32);
        }
        self.live = self.by_key.len();
    }

    fn decide(&self, tables: &Tables, table: u8, key: &Key) -> Outcome {
        match key {
            Key::Discard(_) => Outcome::Use(Arc::default()),
            Key::Hops(hops) => self.weigh(tables, table, hops.iter().map(|hop| (*hop, hop.weight))),
            Key::Object(id, _) => match self.objects.get(id) {
                None => Outcome::Undecided,
                Some(ObjectKind::Discard) => Outcome::Use(Arc::default()),
                Some(ObjectKind::Hop(hop)) => self.weigh(tables, table, std::iter::once((*hop, 1))),
                Some(ObjectKind::Group(members)) => {
                    let mut hops = Vec::with_capacity(members.len());
                    for (member, weight) in members {
                        match self.objects.get(member) {
                            None => return Outcome::Undecided,
                            Some(ObjectKind::Hop(hop)) => hops.push((*hop, *weight)),
                            // As a rule the only member.
                            Some(ObjectKind::Discard) => return Outcome::Use(Arc::default()),
                            // The kernel has no groups in groups.
                            Some(ObjectKind::Group(_)) => {}
                        }
                    }
                    self.weigh(tables, table, hops.into_iter())
                }
            },
        }
    }

    fn weigh(&self, tables: &Tables, table: u8, hops: impl Iterator<Item = (Hop, u16)>) -> Outcome {
        let mut next_hops = Vec::new();
        let mut refused = None;
        for (hop, weight) in hops {
            match self.next_hop(tables, table, &hop, weight) {
                Ok(next_hop) => next_hops.push(next_hop),
                Err(Unusable::Lossy) => return Outcome::Unusable(Unusable::Lossy),
                Err(why) => refused = refused.or(Some(why)),
            }
        }
        if next_hops.is_empty() {
            return Outcome::Unusable(refused.unwrap_or(Unusable::NoGateway));
        }
        next_hops.sort_unstable_by_key(|hop| (hop.address, hop.interface));
        // Named twice, a next hop has the share of both, as in the kernel.
        next_hops.dedup_by(|again, first| {
            let same = (again.address, again.interface) == (first.address, first.interface);
            first.weight = first.weight.saturating_add(if same { again.weight } else { 0 });
            same
        });
        Outcome::Use(Arc::new(Attributes { next_hops, ..Attributes::default() }))
    }

    fn next_hop(&self, tables: &Tables, table: u8, hop: &Hop, weight: u16) -> Result<NextHop, Unusable> {
        if hop.encapsulated {
            return Err(Unusable::Encapsulated);
        }
        let address = hop.gateway.ok_or(Unusable::NoGateway)?;
        if hop.dead {
            return Err(Unusable::Dead);
        }
        if address == LOSSY && !self.kernel {
            return Err(Unusable::Lossy);
        }
        let table = tables.get(table).ok_or(Unusable::Foreign)?;
        let ours = table.interfaces.get(&hop.interface).copied();
        if self.kernel && !table.any_interface && hop.interface != 0 && ours.is_none() {
            return Err(Unusable::Foreign);
        }
        let is_link_local = matches!(address, IpAddr::V6(v6) if v6.is_unicast_link_local());
        if is_link_local && ours.is_none() {
            return Err(Unusable::Foreign);
        }
        let weight = weight.clamp(1, u16::from(u8::MAX)) as u8;
        Ok(NextHop { address, weight, interface: ours.filter(|_| is_link_local) })
    }
}
