//! Prefixes with their routes, and the queue of those that changed: however often one changes while it waits, it is
//! told once.

use std::collections::{HashMap, HashSet, VecDeque};
use std::hash::Hash;

use ipnetwork::{IpNetwork, Ipv4Network, Ipv6Network};

/// A prefix in a table.
pub(super) trait Key: Copy + Eq + Hash {
    fn network(self) -> Option<IpNetwork>;
    fn table(self) -> u8;
}

/// Of IPv4.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct V4 {
    pub address: u32,
    pub length: u8,
    pub table: u8,
}

impl Key for V4 {
    fn network(self) -> Option<IpNetwork> {
        Ipv4Network::new(self.address.into(), self.length).ok().map(Into::into)
    }

    fn table(self) -> u8 {
        self.table
    }
}

/// Of IPv6.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct V6 {
    /// In network byte order, which keeps the key at 18 bytes.
    pub address: [u8; 16],
    pub length: u8,
    pub table: u8,
}

impl Key for V6 {
    fn network(self) -> Option<IpNetwork> {
        Ipv6Network::new(self.address.into(), self.length).ok().map(Into::into)
    }

    fn table(self) -> u8 {
        self.table
    }
}

/// One route of a prefix.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Route {
    pub lead: u32,
    pub metric: u32,
    pub generation: u16,
    pub protocol: u8,
}

impl Route {
    /// The same but for its generation.
    pub(super) fn is(&self, other: &Self) -> bool {
        (self.lead, self.metric, self.protocol) == (other.lead, other.metric, other.protocol)
    }
}

/// A prefix: the route that counts, and how far it was told.
#[derive(Clone, Copy, Debug)]
struct Entry {
    first: Option<Route>,
    queued: bool,
    announced: bool,
}

/// All prefixes of a family.
#[derive(Debug)]
pub(super) struct Routes<K> {
    map: HashMap<K, Entry>,
    /// The routes behind the first, where a prefix has several.
    more: HashMap<K, Vec<Route>>,
    queue: VecDeque<K>,
}

impl<K> Default for Routes<K> {
    fn default() -> Self {
        Self { map: HashMap::new(), more: HashMap::new(), queue: VecDeque::new() }
    }
}

/// A prefix that is to be told.
pub(super) struct Change<K> {
    pub key: K,
    /// Its route; none: it is gone.
    pub lead: Option<u32>,
    pub announced: bool,
}

impl<K: Key> Routes<K> {
    pub(super) fn len(&self) -> usize {
        self.map.len()
    }

    pub(super) fn waiting(&self) -> usize {
        self.queue.len()
    }

    /// Changes the routes of a prefix, which are in the order in which they count. The prefix is queued if another
    /// one counts after that.
    pub(super) fn edit(&mut self, key: K, change: impl FnOnce(&mut Vec<Route>)) {
        let known = self.map.get(&key).copied();
        let mut list: Vec<Route> = known.and_then(|entry| entry.first).into_iter().collect();
        if !self.more.is_empty() {
            list.extend(self.more.remove(&key).into_iter().flatten());
        }
        change(&mut list);
        let first = list.first().copied();
        if list.len() > 1 {
            self.more.insert(key, list.split_off(1));
        }
        if known.is_none() && first.is_none() {
            return;
        }
        let entry = self.map.entry(key).or_insert(Entry { first: None, queued: false, announced: false });
        let news = match (&entry.first, &first) {
            (Some(before), Some(now)) => before.lead != now.lead,
            (before, now) => before.is_some() != now.is_some(),
        };
        entry.first = first;
        if news && !entry.queued {
            entry.queued = true;
            self.queue.push_back(key);
        }
    }

    /// The routes of a prefix, in the order in which they count.
    pub(super) fn routes(&self, key: K) -> impl Iterator<Item = Route> {
        let first = self.map.get(&key).and_then(|entry| entry.first);
        first.into_iter().chain(self.more.get(&key).into_iter().flatten().copied())
    }

    /// Takes out the routes for which `gone` holds; how many there were.
    pub(super) fn remove_if(&mut self, gone: impl Fn(&Route) -> bool) -> usize {
        let of_more = self.more.iter().filter(|(_, list)| list.iter().any(&gone)).map(|(key, _)| *key);
        let of_first =
            self.map.iter().filter(|(_, e)| e.first.as_ref().is_some_and(&gone)).map(|(key, _)| *key);
        let keys: HashSet<K> = of_more.chain(of_first).collect();
        let mut count = 0;
        for key in keys {
            self.edit(key, |list| {
                let before = list.len();
                list.retain(|route| !gone(route));
                count += before - list.len();
            });
        }
        count
    }

    /// Prefixes whose route is of this generation, and the others.
    pub(super) fn told_and_stale(&self, generation: u16) -> (usize, usize) {
        let there = self.map.values().filter_map(|entry| entry.first);
        there.fold(
            (0, 0),
            |(told, stale), route| {
                if route.generation == generation { (told + 1, stale) } else { (told, stale + 1) }
            },
        )
    }

    /// Queues the prefixes whose route has one of these leads.
    pub(super) fn queue_leads(&mut self, leads: &HashSet<u32>) {
        for (key, entry) in &mut self.map {
            if !entry.queued && entry.first.is_some_and(|route| leads.contains(&route.lead)) {
                entry.queued = true;
                self.queue.push_back(*key);
            }
        }
    }

    /// Notes all leads that are used.
    pub(super) fn note_leads(&self, used: &mut HashSet<u32>) {
        used.extend(self.map.values().filter_map(|entry| entry.first).map(|route| route.lead));
        used.extend(self.more.values().flatten().map(|route| route.lead));
    }

    /// The next prefix that is to be told.
    pub(super) fn pop(&mut self) -> Option<Change<K>> {
        let key = self.queue.pop_front()?;
        // What is queued stays in the map.
        let entry = self.map.get_mut(&key)?;
        entry.queued = false;
        let change = Change { key, lead: entry.first.map(|route| route.lead), announced: entry.announced };
        if entry.first.is_none() {
            self.map.remove(&key);
        }
        Some(change)
    }

    /// Notes whether a prefix that is there stands announced.
    pub(super) fn set_announced(&mut self, key: K, announced: bool) {
        if let Some(entry) = self.map.get_mut(&key) {
            entry.announced = announced;
        }
    }
}
