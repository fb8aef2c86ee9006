//! One face for all tables that are compared, and ours behind it.

use std::sync::Arc;

use dataplane::fib::{Fib4, Fib4Writer, Fib6, Fib6Writer};
use dataplane::grace::GracePeriod;
use dataplane::ids::GroupId;

use super::Family;
use super::routes::Route;
use super::workload::Addresses;

/// Addresses of a burst.
pub const BURST: usize = 64;

/// A table under test.
pub trait Table {
    fn name(&self) -> &str;
    /// Looks up the burst that begins at `from`.
    fn lookup(&mut self, addresses: &Addresses, from: usize);
    /// What the last look-up found at `at`; 0 for no route.
    fn hop(&self, at: usize) -> u32;
    /// Where the table has such a thing: asks for the memory of a burst ahead of its look-up.
    fn prefetch(&self, _addresses: &Addresses, _from: usize) {}
    fn insert(&mut self, route: Route) -> Result<(), String>;
    fn remove(&mut self, route: Route) -> Result<(), String>;
    /// Does a batch of changes: announcements, and withdrawals by `false`.
    fn apply(&mut self, changes: &[(Route, bool)]) -> Result<(), String> {
        changes
            .iter()
            .try_for_each(|&(route, there)| if there { self.insert(route) } else { self.remove(route) })
    }
    /// Loads an empty table.
    fn load(&mut self, routes: &[Route]) -> Result<(), String> {
        routes.iter().try_for_each(|&route| self.insert(route))
    }
    /// Bytes that look-ups may touch, where the table says so.
    fn memory(&self) -> Option<usize>;
    /// Bytes of the control side's own copy.
    fn control_memory(&self) -> Option<usize> {
        None
    }
}

/// Turnpike's table of either family.
pub struct Ours {
    family: Family,
    v4: Fib4Writer,
    v6: Fib6Writer,
    reader4: Arc<Fib4>,
    reader6: Arc<Fib6>,
    prefetch: bool,
    out: [GroupId; BURST],
    batch4: Vec<(u32, u8, Option<GroupId>)>,
    batch6: Vec<(u128, u8, Option<GroupId>)>,
}

impl Ours {
    pub fn new(family: Family, grace: &Arc<dyn GracePeriod>, prefetch: bool) -> Result<Self, String> {
        let v4 = Fib4Writer::new(Arc::clone(grace)).map_err(|error| error.to_string())?;
        let v6 = Fib6Writer::new(Arc::clone(grace)).map_err(|error| error.to_string())?;
        let (reader4, reader6) = (v4.reader(), v6.reader());
        Ok(Self {
            family,
            v4,
            v6,
            reader4,
            reader6,
            prefetch,
            out: [GroupId(0); BURST],
            batch4: vec![],
            batch6: vec![],
        })
    }

    pub fn readers(&self) -> (Arc<Fib4>, Arc<Fib6>) {
        (Arc::clone(&self.reader4), Arc::clone(&self.reader6))
    }
}

impl Table for Ours {
    fn name(&self) -> &str {
        if self.prefetch { "turnpike, prefetched" } else { "turnpike" }
    }

    fn lookup(&mut self, addresses: &Addresses, from: usize) {
        match self.family {
            Family::V4 => self.reader4.lookup_batch(&addresses.v4[from..from + BURST], &mut self.out),
            Family::V6 => self.reader6.lookup_batch(&addresses.v6[from..from + BURST], &mut self.out),
        }
    }

    fn hop(&self, at: usize) -> u32 {
        self.out[at].0
    }

    fn prefetch(&self, addresses: &Addresses, from: usize) {
        if !self.prefetch {
            return;
        }
        match self.family {
            Family::V4 => {
                addresses.v4[from..from + BURST].iter().for_each(|&addr| self.reader4.prefetch(addr));
            }
            Family::V6 => {
                addresses.v6[from..from + BURST].iter().for_each(|&addr| self.reader6.prefetch(addr));
            }
        }
    }

    fn insert(&mut self, (prefix, len, hop): Route) -> Result<(), String> {
        match self.family {
            Family::V4 => self.v4.insert((prefix >> 96) as u32, len, GroupId(hop)),
            Family::V6 => self.v6.insert(prefix, len, GroupId(hop)),
        }
        .map(|_| ())
        .map_err(|error| error.to_string())
    }

    fn remove(&mut self, (prefix, len, _): Route) -> Result<(), String> {
        match self.family {
            Family::V4 => self.v4.remove((prefix >> 96) as u32, len),
            Family::V6 => self.v6.remove(prefix, len),
        }
        .map(|_| ())
        .map_err(|error| error.to_string())
    }

    fn apply(&mut self, changes: &[(Route, bool)]) -> Result<(), String> {
        let group = |hop, there: bool| there.then_some(GroupId(hop));
        let changes = changes.iter();
        match self.family {
            Family::V4 => {
                self.batch4.clear();
                let narrow = |&((prefix, len, hop), there): &(Route, bool)| {
                    ((prefix >> 96) as u32, len, group(hop, there))
                };
                self.batch4.extend(changes.map(narrow));
                self.v4.apply(&self.batch4)
            }
            Family::V6 => {
                self.batch6.clear();
                self.batch6
                    .extend(changes.map(|&((prefix, len, hop), there)| (prefix, len, group(hop, there))));
                self.v6.apply(&self.batch6)
            }
        }
        .map_err(|(at, error)| format!("change {at}: {error}"))
    }

    fn load(&mut self, routes: &[Route]) -> Result<(), String> {
        let routes = routes.iter();
        match self.family {
            Family::V4 => {
                self.v4.load(routes.map(|&(prefix, len, hop)| ((prefix >> 96) as u32, len, GroupId(hop))))
            }
            Family::V6 => self.v6.load(routes.map(|&(prefix, len, hop)| (prefix, len, GroupId(hop)))),
        }
        .map_err(|error| error.to_string())
    }

    fn memory(&self) -> Option<usize> {
        Some(match self.family {
            Family::V4 => self.reader4.memory(),
            Family::V6 => self.reader6.memory(),
        })
    }

    fn control_memory(&self) -> Option<usize> {
        Some(match self.family {
            Family::V4 => self.v4.control_memory(),
            Family::V6 => self.v6.control_memory(),
        })
    }
}
