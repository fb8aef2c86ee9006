//! What a zebra or a kernel has, gathered from its messages, and what of it the control thread does not know yet.
//!
//! Changes wait here, each prefix once, until there is room on the way to the control thread: ten changes of a prefix
//! in that time become one, and what came and went becomes none. So a source is read as fast as it writes, whatever
//! the others do, and what waits is bounded by the number of prefixes.
//!
//! Mark and sweep: [`Replica::begin`] starts a new generation, in which all is told anew; [`Replica::sweep`] takes out
//! what was not. In between all stays in use, and what is told as it was before is no change.

use std::collections::{HashSet, VecDeque};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

use ipnetwork::IpNetwork;

use super::decode::{self, Event, Lead, Object, Place, RouteKind};
use super::feed::{Batch, Stats, add};
use super::leads::{self, Leads, Unusable};
use super::news::{News, Teller};
use super::order::{Manners, edit};
use super::routes::{Route, Routes};
use super::tables::Tables;
use crate::prefix::{AnyPrefix, V4, V6};
use crate::source::SourceEvent;

/// Prefixes that are kept, of both families and all tables together.
const MAX_ROUTES: usize = 4_000_000;
/// Prefixes that are put into batches at a time.
const BATCH: usize = 1024;

/// A route that was not taken, of which table, and why.
pub(super) type Problem = (u8, IpNetwork, Unusable);

/// How much there is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Counts {
    /// Prefixes, those that are gone and not yet told among them.
    pub routes: usize,
    /// Prefixes that wait to be told.
    pub waiting: usize,
}

/// What one side has.
#[derive(Debug)]
pub struct Replica {
    manners: Manners,
    tables: Tables,
    /// For each table.
    stats: Vec<Arc<Stats>>,
    leads: Leads,
    v4: Routes<V4>,
    v6: Routes<V6>,
    generation: u16,
    /// When what waits came: a time, and how many were queued in all before it.
    stamps: VecDeque<(Instant, u64)>,
    told: u64,
    problem: Option<Problem>,
    /// What was said does not fit what was said before.
    doubt: bool,
}

impl Replica {
    /// Empty, of these tables; each has its counters.
    pub fn new(manners: Manners, tables: Tables, stats: Vec<Arc<Stats>>) -> Self {
        Self {
            manners,
            stats,
            leads: Leads::new(manners == Manners::Kernel),
            v4: Routes::new(tables.all().len()),
            v6: Routes::new(tables.all().len()),
            tables,
            generation: 0,
            stamps: VecDeque::new(),
            told: 0,
            problem: None,
            doubt: false,
        }
    }

    /// Whether something was said, since this was asked last, of a route that is not known, so that something before it
    /// was lost or meant something else: the tables are to be read.
    pub fn take_doubt(&mut self) -> bool {
        std::mem::take(&mut self.doubt)
    }

    /// How much there is.
    pub fn counts(&self) -> Counts {
        Counts { routes: self.v4.len() + self.v6.len(), waiting: self.v4.waiting() + self.v6.waiting() }
    }

    #[cfg(test)]
    pub(super) fn leads_kept(&self) -> usize {
        self.leads.len()
    }

    /// Its counters, for each table.
    pub fn stats(&self) -> &[Arc<Stats>] {
        &self.stats
    }

    /// The last route that was not taken, and why, since it was asked last.
    pub fn take_problem(&mut self) -> Option<(IpNetwork, Unusable)> {
        let (table, prefix, why) = self.problem.take()?;
        if let Some(stats) = self.stats.get(usize::from(table)) {
            stats.set_error(format!("{prefix} is not used: {why}"));
        }
        Some((prefix, why))
    }

    /// From now on all is told anew. What is not by the next [`Self::sweep`] is gone.
    pub fn begin(&mut self) {
        if self.generation == u16::MAX {
            // Numbers start anew: none of those that come may still be in use.
            self.sweep();
            self.generation = 0;
        }
        self.generation += 1;
        self.leads.begin(self.generation);
    }

    /// What was not told since [`Self::begin`] is gone. How many routes that are.
    pub fn sweep(&mut self) -> usize {
        for id in self.leads.untold() {
            self.leads.remove(id);
        }
        let generation = self.generation;
        let stale = move |route: &Route| route.generation != generation;
        self.v4.remove_if(stale) + self.v6.remove_if(stale)
    }

    /// Prefixes that were told in this generation, and those that were not.
    pub fn told_and_stale(&self) -> (usize, usize) {
        let (told4, stale4) = self.v4.told_and_stale(self.generation);
        let (told6, stale6) = self.v6.told_and_stale(self.generation);
        (told4 + told6, stale4 + stale6)
    }

    /// Everything is gone.
    pub fn clear(&mut self) {
        self.v4.remove_if(|_| true);
        self.v6.remove_if(|_| true);
    }

    /// Notes that what is taken from now on comes at this time.
    pub fn arrives(&mut self, now: Instant) {
        let queued = self.told + self.counts().waiting as u64;
        match self.stamps.back_mut() {
            // Nothing came of what was taken since.
            Some((at, before)) if *before == queued => *at = now,
            _ => self.stamps.push_back((now, queued)),
        }
    }

    /// Takes in what a message says, if it says something of routes.
    pub fn take(&mut self, event: &Event) {
        match event {
            Event::Route(route) => self.route(route),
            Event::Object(object) => self.object(object),
            _ => {}
        }
    }

    fn object(&mut self, object: &Object) {
        if !object.gone {
            if let Err(why) = self.leads.define(object.id, &object.kind) {
                self.problem = Some((0, any_prefix(), why));
            }
            return;
        }
        let over_it: HashSet<u32> = self.leads.remove(object.id).into_iter().collect();
        // The kernel takes an object's routes with it, and does not say so. zebra has moved its routes before.
        if self.manners == Manners::Kernel && !over_it.is_empty() {
            let gone = |route: &Route| over_it.contains(&route.lead);
            self.v4.remove_if(gone);
            self.v6.remove_if(gone);
        }
    }

    fn route(&mut self, route: &decode::Route) {
        let Some(table) = self.tables.place(route.table) else { return };
        if route.tos != 0 {
            return;
        }
        let wanted = route.kind != RouteKind::Other
            && self.tables.get(table).is_some_and(|table| table.protocols.take(route.protocol));
        let known = self.counts().routes < MAX_ROUTES || self.is_known(table, route.prefix);
        let lead = match (&route.lead, route.kind) {
            _ if !wanted || !known => Ok(None),
            // In the kernel, one that drops by an object goes with that.
            (lead, RouteKind::Discard(kind))
                if self.manners == Manners::Zebra || matches!(lead, Lead::Hops(_)) =>
            {
                self.lead(table, leads::Key::Discard(kind))
            }
            (Lead::Object(id), _) => self.lead(table, leads::Key::Object(*id, self.leads.generation())),
            (Lead::Hops(hops), _) => {
                let mut hops = hops.clone();
                if route.prefix.is_ipv6() {
                    // The kernel begins with whichever it has at hand.
                    hops.sort_unstable();
                }
                self.lead(table, leads::Key::Hops(hops))
            }
        };
        if !known {
            self.refuse(table, route.prefix, Unusable::TooMany);
        }
        let lead = lead.unwrap_or_else(|why| {
            self.refuse(table, route.prefix, why);
            None
        });
        let (metric, generation, protocol) = (route.metric, self.generation, route.protocol);
        let new = lead.map(|lead| Route { lead, metric, generation, protocol });
        let prefix = AnyPrefix::from(route.prefix);
        if self.manners == Manners::Zebra {
            // A prefix has one route in a table.
            let new = new.filter(|_| !route.gone);
            match prefix {
                AnyPrefix::V4(key) => self.v4.set(table, key, new),
                AnyPrefix::V6(key) => self.v6.set(table, key, new),
            }
            return;
        }
        let mut sure = true;
        match prefix {
            AnyPrefix::V4(key) => self.v4.edit(table, key, |list| sure = edit(list, route, new, None)),
            AnyPrefix::V6(key) => {
                let turned = match (new, &route.lead) {
                    (None, _) => None,
                    (_, Lead::Hops(hops)) if route.gone && hops.len() == 1 => {
                        self.without(table, key, route, &hops[0])
                    }
                    (Some(new), _) if !route.gone && route.place != Place::Dumped => {
                        self.turned(table, key, route, new)
                    }
                    _ => None,
                };
                self.v6.edit(table, key, |list| sure = edit(list, route, new, turned));
            }
        }
        self.doubt |= !sure;
    }

    fn lead(&mut self, table: u8, key: leads::Key) -> Result<Option<u32>, Unusable> {
        if self.leads.wants_collection() {
            let mut used = HashSet::new();
            self.v4.note_leads(&mut used);
            self.v6.note_leads(&mut used);
            self.leads.collect(&used);
        }
        self.leads.intern(&self.tables, table, key).map(Some)
    }

    fn is_known(&self, table: u8, prefix: IpNetwork) -> bool {
        match AnyPrefix::from(prefix) {
            AnyPrefix::V4(key) => self.v4.routes(table, key).next().is_some(),
            AnyPrefix::V6(key) => self.v6.routes(table, key).next().is_some(),
        }
    }

    /// All IPv6 routes with a metric and hops of their own are one, and what is new of it is told whole. Others with this
    /// metric, by objects or to drop, stand beside it. The route that becomes `new`, before and after.
    fn turned(&self, table: u8, key: V6, said: &decode::Route, new: Route) -> Option<(Route, Route)> {
        let has_hops = |lead| self.leads.hops(lead).is_some();
        let is_told = |r: Route| r.is(&new);
        let of_object = matches!(said.lead, Lead::Object(_));
        if (of_object && self.v6.routes(table, key).any(is_told))
            || !(said.place == Place::Instead || has_hops(new.lead))
        {
            return None;
        }
        let alike = |r: &Route| r.metric == said.metric && has_hops(r.lead) == has_hops(new.lead);
        Some((self.v6.routes(table, key).find(alike)?, new))
    }

    /// When one hop of several goes from an IPv6 route, the kernel says that a route over this hop is gone. The route
    /// that is left then: the one before, and the one after.
    fn without(
        &mut self,
        table: u8,
        key: V6,
        gone: &decode::Route,
        hop: &decode::Hop,
    ) -> Option<(Route, Route)> {
        let alike = |r: &Route| r.metric == gone.metric && r.protocol == gone.protocol;
        let before = self.v6.routes(table, key).find(alike)?;
        let hops = self.leads.hops(before.lead).filter(|hops| hops.len() > 1)?;
        let other = |h: &&decode::Hop| (h.gateway, h.interface) != (hop.gateway, hop.interface);
        let mut left: Vec<_> = hops.iter().filter(other).copied().collect();
        if left.len() == hops.len() || left.is_empty() {
            return None;
        }
        // A single one is told without a weight.
        if let [only] = left.as_mut_slice() {
            only.weight = 1;
        }
        let lead = self.lead(table, leads::Key::Hops(left)).ok().flatten()?;
        Some((before, Route { lead, generation: self.generation, ..before }))
    }

    fn refuse(&mut self, table: u8, prefix: IpNetwork, why: Unusable) {
        let problem = refuse(&self.stats, table, prefix, why);
        self.problem = Some(problem);
    }

    /// The next changes for the control thread, if there are any.
    pub fn news(&mut self) -> Option<Batch> {
        let changed = self.leads.refresh(&self.tables);
        if !changed.is_empty() {
            self.v4.queue_leads(&changed);
            self.v6.queue_leads(&changed);
        }
        while self.counts().waiting > 0 || self.leads.has_set_events() {
            let batch = self.make();
            // What was not announced and went again is no news.
            if !batch.events.is_empty() {
                return Some(batch);
            }
        }
        None
    }

    /// Puts some of what waits into events: prefixes that share where they lead are in one.
    fn make(&mut self) -> Batch {
        let sets = self.leads.take_set_events();
        let since = self.stamps.front().map_or_else(Instant::now, |(at, _)| *at);
        let mut news = News::new(self.stats.len());
        let mut teller =
            Teller { leads: &self.leads, stats: &self.stats, news: &mut news, problem: &mut self.problem };
        let mut count = 0;
        while count < BATCH
            && (self.v4.tell_next(|change| teller.tell(change))
                || self.v6.tell_next(|change| teller.tell(change)))
        {
            count += 1;
        }
        self.told += count as u64;
        while self.stamps.get(1).is_some_and(|(_, before)| *before <= self.told) {
            self.stamps.pop_front();
        }
        let waiting = self.counts().waiting as u64;
        if waiting == 0 {
            self.stamps.clear();
        }
        for stats in &self.stats {
            stats.pending.store(waiting, Ordering::Relaxed);
        }
        let events = sets.into_iter().chain(news.into_events(&self.stats)).filter_map(|(table, event)| {
            let table = self.tables.get(table)?;
            Some(SourceEvent { source: table.source, vrf: table.vrf, event })
        });
        Batch { events: events.collect(), since, stats: self.stats.clone() }
    }
}

/// Counts a route that is not taken; gives what is told of it.
pub(super) fn refuse(stats: &[Arc<Stats>], table: u8, prefix: IpNetwork, why: Unusable) -> Problem {
    if let Some(stats) = stats.get(usize::from(table)) {
        add(&stats.refused, 1);
    }
    (table, prefix, why)
}

fn any_prefix() -> IpNetwork {
    IpNetwork::V4(ipnetwork::Ipv4Network::from(std::net::Ipv4Addr::UNSPECIFIED))
}
