//! What is told next: prefixes that share where they lead in one event.

use std::collections::HashMap;
use std::sync::Arc;

use super::feed::{Stats, add};
use super::leads::{Leads, Outcome, Unusable};
use super::replica::{Problem, refuse};
use super::routes::Change;
use crate::prefix::Prefix;
use crate::source::{Attributes, Nlri, RouteEvent};

/// Prefixes that come or change and lead to one place.
#[derive(Debug)]
struct Shared {
    table: u8,
    lead: u32,
    attributes: Arc<Attributes>,
    announced: Vec<Nlri>,
}

/// How many prefixes of a table came for the first time, and what else is counted.
#[derive(Clone, Debug, Default)]
struct Table {
    withdrawn: Vec<Nlri>,
    announced: usize,
    new: usize,
}

/// What is told next.
#[derive(Debug)]
pub(super) struct News {
    shared: Vec<Shared>,
    /// Where in `shared`, by table and lead.
    places: HashMap<(u8, u32), usize>,
    /// The place of the last prefix: the next one most likely leads there too.
    last: usize,
    tables: Vec<Table>,
}

impl News {
    /// Nothing, of so many tables.
    pub(super) fn new(tables: usize) -> Self {
        let tables = vec![Table::default(); tables];
        Self { shared: Vec::new(), places: HashMap::new(), last: 0, tables }
    }

    fn announce(&mut self, table: u8, lead: u32, attributes: &Arc<Attributes>, nlri: Nlri) {
        if self.shared.get(self.last).is_none_or(|shared| (shared.table, shared.lead) != (table, lead)) {
            self.last = *self.places.entry((table, lead)).or_insert(self.shared.len());
        }
        if let Some(shared) = self.shared.get_mut(self.last) {
            shared.announced.push(nlri);
        } else {
            let attributes = Arc::clone(attributes);
            self.shared.push(Shared { table, lead, attributes, announced: vec![nlri] });
        }
    }

    /// The events, each with its table, which are counted as told.
    pub(super) fn into_events(self, stats: &[Arc<Stats>]) -> impl Iterator<Item = (u8, RouteEvent)> {
        for (stats, table) in stats.iter().zip(&self.tables) {
            add(&stats.announced, table.announced);
            add(&stats.withdrawn, table.withdrawn.len());
            add(&stats.routes, table.new);
            stats.routes.fetch_sub(table.withdrawn.len() as u64, std::sync::atomic::Ordering::Relaxed);
        }
        let announced = self.shared.into_iter().map(|Shared { table, attributes, announced, .. }| {
            (table, RouteEvent::Update { withdrawn: Vec::new(), announced, attributes })
        });
        let withdrawn = self.tables.into_iter().enumerate().filter(|(_, table)| !table.withdrawn.is_empty());
        announced.chain(withdrawn.map(|(place, Table { withdrawn, .. })| {
            (place as u8, RouteEvent::Update { withdrawn, announced: Vec::new(), attributes: Arc::default() })
        }))
    }
}

/// Decides what is told of changes.
pub(super) struct Teller<'a> {
    pub leads: &'a Leads,
    pub stats: &'a [Arc<Stats>],
    pub news: &'a mut News,
    pub problem: &'a mut Option<Problem>,
}

impl Teller<'_> {
    /// Tells of a change what is news of it; returns whether the prefix stands announced then.
    pub(super) fn tell<K: Prefix>(&mut self, change: Change<K>) -> bool {
        let Change { table, key, lead, announced } = change;
        let nlri = Nlri { prefix: key.network(), path_id: 0 };
        let outcome = lead.map(|lead| (lead, self.leads.outcome(lead)));
        match outcome {
            Some((_, Outcome::Undecided)) => return announced,
            Some((lead, Outcome::Use(attributes))) => {
                self.news.announce(table, lead, attributes, nlri);
                if let Some(table) = self.news.tables.get_mut(usize::from(table)) {
                    table.announced += 1;
                    table.new += usize::from(!announced);
                }
                return true;
            }
            // What zebra has of connected prefixes is no problem.
            Some((_, Outcome::Unusable(Unusable::NoGateway))) | None => {}
            Some((_, Outcome::Unusable(why))) => {
                *self.problem = Some(refuse(self.stats, table, nlri.prefix, *why));
            }
        }
        if announced && let Some(table) = self.news.tables.get_mut(usize::from(table)) {
            table.withdrawn.push(nlri);
        }
        false
    }
}
