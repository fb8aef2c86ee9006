//! Prefixes with their routes, and the queue of those that changed: however often one changes while it waits, it is
//! told once.

use std::collections::{HashMap, HashSet, VecDeque};

use crate::prefix::Prefix;
use crate::prefix::map::Map;

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
#[derive(Clone, Copy, Debug, Default)]
struct Entry {
    first: Option<Route>,
    queued: bool,
    announced: bool,
}

/// The prefixes of one table.
#[derive(Debug)]
struct Table<K: Prefix> {
    /// In order, as both zebra and the kernel tell them: neighbours here are neighbours in memory.
    map: Map<K, Entry>,
    /// The routes behind the first, where a prefix has several.
    more: HashMap<K, Vec<Route>>,
    queue: VecDeque<K>,
}

/// All prefixes of a family, by table.
#[derive(Debug)]
pub(super) struct Routes<K: Prefix>(Vec<Table<K>>);

/// A prefix that is to be told.
#[derive(Clone, Copy, Debug)]
pub(super) struct Change<K> {
    pub table: u8,
    pub key: K,
    /// Its route; none: it is gone.
    pub lead: Option<u32>,
    /// Whether it stands announced.
    pub announced: bool,
}

impl<K: Prefix> Table<K> {
    /// Gives a prefix its first route, and queues it if another one counts after that.
    fn set(&mut self, key: K, first: Option<Route>) {
        let entry = match first {
            Some(_) => self.map.entry(key),
            None => match self.map.get_mut(key) {
                Some(entry) => entry,
                None => return,
            },
        };
        let news = entry.first.map(|route| route.lead) != first.map(|route| route.lead);
        entry.first = first;
        if news && !entry.queued {
            entry.queued = true;
            self.queue.push_back(key);
        }
    }

    fn iter(&self) -> impl Iterator<Item = (K, &Entry)> {
        self.map.iter_from(K::new(K::ZERO, 0))
    }
}

impl<K: Prefix> Routes<K> {
    /// Without routes, of so many tables.
    pub(super) fn new(tables: usize) -> Self {
        let table = || Table { map: Map::default(), more: HashMap::new(), queue: VecDeque::new() };
        Self((0..tables).map(|_| table()).collect())
    }

    /// Prefixes, those that are gone and not yet told among them.
    pub(super) fn len(&self) -> usize {
        self.0.iter().map(|table| table.map.len()).sum()
    }

    /// Prefixes that wait to be told.
    pub(super) fn waiting(&self) -> usize {
        self.0.iter().map(|table| table.queue.len()).sum()
    }

    /// Gives a prefix that has one route at most this one, or takes it away.
    pub(super) fn set(&mut self, table: u8, key: K, route: Option<Route>) {
        if let Some(table) = self.0.get_mut(usize::from(table)) {
            table.set(key, route);
        }
    }

    /// Changes the routes of a prefix, which are in the order in which they count.
    pub(super) fn edit(&mut self, table: u8, key: K, change: impl FnOnce(&mut Vec<Route>)) {
        let Some(table) = self.0.get_mut(usize::from(table)) else { return };
        let mut list: Vec<Route> = table.map.get(key).and_then(|entry| entry.first).into_iter().collect();
        if !table.more.is_empty() {
            list.extend(table.more.remove(&key).into_iter().flatten());
        }
        change(&mut list);
        let first = list.first().copied();
        if list.len() > 1 {
            table.more.insert(key, list.split_off(1));
        }
        table.set(key, first);
    }

    /// The routes of a prefix, in the order in which they count.
    pub(super) fn routes(&self, table: u8, key: K) -> impl Iterator<Item = Route> {
        self.0.get(usize::from(table)).into_iter().flat_map(move |table| {
            let first = table.map.get(key).and_then(|entry| entry.first);
            first.into_iter().chain(table.more.get(&key).into_iter().flatten().copied())
        })
    }

    /// Takes out the routes for which `gone` holds; how many there were.
    pub(super) fn remove_if(&mut self, gone: impl Fn(&Route) -> bool) -> usize {
        let mut count = 0;
        for place in 0..self.0.len() {
            let table = &self.0[place];
            let of_more = table.more.iter().filter(|(_, list)| list.iter().any(&gone)).map(|(key, _)| *key);
            let of_first =
                table.iter().filter(|(_, e)| e.first.as_ref().is_some_and(&gone)).map(|(key, _)| key);
            let mut keys: Vec<K> = of_first.chain(of_more).collect();
            keys.sort_unstable();
            keys.dedup();
            for key in keys {
                self.edit(place as u8, key, |list| {
                    let before = list.len();
                    list.retain(|route| !gone(route));
                    count += before - list.len();
                });
            }
        }
        count
    }

    /// Prefixes whose route is of this generation, and the others.
    pub(super) fn told_and_stale(&self, generation: u16) -> (usize, usize) {
        let there = self.0.iter().flat_map(Table::iter).filter_map(|(_, entry)| entry.first);
        there.fold(
            (0, 0),
            |(told, stale), route| {
                if route.generation == generation { (told + 1, stale) } else { (told, stale + 1) }
            },
        )
    }

    /// Queues the prefixes whose route has one of these leads.
    pub(super) fn queue_leads(&mut self, leads: &HashSet<u32>) {
        for table in &mut self.0 {
            let over =
                |entry: &Entry| !entry.queued && entry.first.is_some_and(|route| leads.contains(&route.lead));
            let keys: Vec<K> = table.iter().filter(|(_, entry)| over(entry)).map(|(key, _)| key).collect();
            for key in keys {
                if let Some(entry) = table.map.get_mut(key) {
                    entry.queued = true;
                    table.queue.push_back(key);
                }
            }
        }
    }

    /// Notes all leads that are used.
    pub(super) fn note_leads(&self, used: &mut HashSet<u32>) {
        for table in &self.0 {
            used.extend(table.iter().filter_map(|(_, entry)| entry.first).map(|route| route.lead));
            used.extend(table.more.values().flatten().map(|route| route.lead));
        }
    }

    /// Has the next prefix told that waits: `tell` gives whether it stands announced then. Whether there was one.
    pub(super) fn tell_next(&mut self, tell: impl FnOnce(Change<K>) -> bool) -> bool {
        let Some((place, table)) = self.0.iter_mut().enumerate().find(|(_, t)| !t.queue.is_empty()) else {
            return false;
        };
        // What is queued stays in the map.
        if let Some(key) = table.queue.pop_front()
            && let Some(entry) = table.map.get_mut(key)
        {
            let lead = entry.first.map(|route| route.lead);
            entry.queued = false;
            entry.announced = tell(Change { table: place as u8, key, lead, announced: entry.announced });
            if entry.first.is_none() {
                table.map.remove_if(key, |_| true);
            }
        }
        true
    }
}
