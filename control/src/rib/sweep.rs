//! Mark and sweep: what a source does not announce again after it was lost goes at its end-of-RIB mark, or when
//! its retain time is over, and forwards until then. The sweep itself is done by commits, a slice at a time: see `walk`.

use super::Rib;
use super::prefix::{Prefix, V4, V6};
use super::walk::Stale;
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
        self.sweep_before(id, u16::MAX);
    }

    /// The number of a source's present generation. It grows when the source is lost, and when it comes.
    pub fn generation(&self, id: SourceId) -> u16 {
        self.sources.indices(id).into_iter().map(|s| self.sources.get(s).generation).max().unwrap_or(0)
    }

    /// As [`Self::sweep_source`], but leaves what was announced in `generation` or later: of a source that was lost
    /// twice, what it announced between has its own retain time.
    pub fn sweep_before(&mut self, id: SourceId, generation: u16) {
        for source in self.sources.indices(id) {
            self.sweep_table::<V4>(source, generation);
            self.sweep_table::<V6>(source, generation);
        }
    }

    /// All that the source announced so far is stale from now on.
    pub(super) fn next_generation(&mut self, source: u16) {
        let generation = self.sources.get(source).generation;
        if generation == u16::MAX {
            // Numbers start anew: none of those that come may still be in use.
            self.sweep(source, Family::Ipv4);
            self.sweep(source, Family::Ipv6);
        }
        if generation >= u16::MAX - 1 {
            self.finish_sweeps(source);
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
            Family::Ipv4 => self.sweep_table::<V4>(source, u16::MAX),
            Family::Ipv6 => self.sweep_table::<V6>(source, u16::MAX),
        }
    }

    /// Asks for a sweep of what is stale now and older than `before`; commits do it.
    fn sweep_table<K: Prefix>(&mut self, source: u16, before: u16) {
        let from = self.sources.get(source);
        if from.count(K::FAMILY).stale == 0 {
            return;
        }
        let stale = Stale { source, current: from.generation, before };
        K::afi_mut(&mut self.vrfs[usize::from(from.vrf.0)]).walk.sweep(stale);
    }
}
