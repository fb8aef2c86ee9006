//! Mark and sweep: what a source does not announce again after it was lost goes at its end-of-RIB mark, or when
//! its retain time is over, and forwards until then.

use super::Rib;
use super::prefix::{Prefix, V4, V6};
use crate::source::{Family, SourceId};

impl Rib {
    /// A source was lost (as [`crate::source::RouteEvent::Down`] says too): its routes become stale and stay in
    /// use until they are announced again or swept.
    pub fn source_down(&mut self, id: SourceId) {
        for source in self.sources.indices(id) {
            self.next_generation(source);
        }
    }

    /// The retain time of a lost source is over: what is still stale of it goes.
    pub fn sweep_source(&mut self, id: SourceId) {
        for source in self.sources.indices(id) {
            self.sweep(source, Family::Ipv4);
            self.sweep(source, Family::Ipv6);
        }
    }

    /// All that the source announced so far is stale from now on.
    pub(super) fn next_generation(&mut self, source: u16) {
        if self.sources.get(source).generation == u16::MAX {
            // Numbers start anew: none of those that come may still be in use.
            self.sweep(source, Family::Ipv4);
            self.sweep(source, Family::Ipv6);
        }
        let source = self.sources.get_mut(source);
        source.generation = source.generation.wrapping_add(1);
        for family in [Family::Ipv4, Family::Ipv6] {
            let count = source.count_mut(family);
            count.stale = count.total;
        }
    }

    /// Takes out what is stale of a source and family.
    pub(super) fn sweep(&mut self, source: u16, family: Family) {
        match family {
            Family::Ipv4 => self.sweep_table::<V4>(source),
            Family::Ipv6 => self.sweep_table::<V6>(source),
        }
    }

    fn sweep_table<K: Prefix>(&mut self, source: u16) {
        let from = self.sources.get(source);
        let stale = from.count(K::FAMILY).stale;
        if stale == 0 {
            return;
        }
        let generation = from.generation;
        let table = &K::afi(&self.vrfs[usize::from(from.vrf.0)]).table;
        let mut keys = Vec::with_capacity(stale);
        keys.extend(table.iter_from(K::new(K::ZERO, 0)).filter_map(|(key, entry)| {
            let stale =
                entry.paths.as_slice().iter().any(|p| p.source == source && p.generation != generation);
            stale.then_some(key)
        }));
        for key in keys {
            self.take_paths(source, key, |path| path.generation != generation);
        }
    }
}
