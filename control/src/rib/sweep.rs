//! Mark and sweep: what a source does not announce again after it was lost goes at its end-of-RIB mark, or when
//! its retain time is over, and forwards until then. The sweep itself is done by commits, a slice at a time: see `walk`.

use super::Rib;
use super::prefix::{Prefix, V4, V6};
use super::resolve::NhId;
use super::walk::Stale;
use crate::source::{Family, SourceId};

/// Paths carry the low sixteen bits of their generation only. So a look is taken each time after so many generations for
/// what is twice as old, which goes, in slices like all else and whatever retain time it has: before the next look is
/// taken it is four times as old at most, which is just what the bits can tell.
const FAR: u64 = 1 << 14;

/// Most next hops of others for which it is looked at once what they rest on; for more, the sweep comes to it.
const MOST_BORNE: usize = 10_000;

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
        self.sweep_before(id, u64::MAX);
    }

    /// The number of a source's present generation. It grows when the source is lost, and when it comes.
    pub fn generation(&self, id: SourceId) -> u64 {
        self.sources.indices(id).into_iter().map(|s| self.sources.get(s).generation).max().unwrap_or(0)
    }

    /// As [`Self::sweep_source`], but leaves what was announced in `generation` or later: of a source that was lost
    /// twice, what it announced between has its own retain time.
    ///
    /// Next hops that only this source's routes lead over are left by the groups that have others, with the next
    /// commit and before any prefix is looked at.
    pub fn sweep_before(&mut self, id: SourceId, generation: u64) {
        for source in self.sources.indices(id) {
            let of = self.sources.get(source);
            let all_go = [Family::Ipv4, Family::Ipv6].into_iter().all(|family| {
                let count = of.count(family);
                count.stale == count.total
            });
            if all_go && generation >= of.generation {
                self.next_hops.leave(source);
            }
            self.sweep_table::<V4>(source, generation);
            self.sweep_table::<V6>(source, generation);
        }
    }

    /// All that the source announced so far is stale from now on.
    pub(super) fn next_generation(&mut self, source: u16) {
        let next = self.sources.get(source).generation + 1;
        let look = next.is_multiple_of(FAR);
        if look {
            // The look of the last time is over long since, unless the source came and went thousands of times within
            // two passes over the table.
            self.finish_sweeps(source, next.saturating_sub(FAR));
        }
        let of = self.sources.get_mut(source);
        of.generation = next;
        for family in [Family::Ipv4, Family::Ipv6] {
            let count = of.count_mut(family);
            count.stale = count.total;
        }
        if look {
            self.sweep_table::<V4>(source, next.saturating_sub(2 * FAR));
            self.sweep_table::<V6>(source, next.saturating_sub(2 * FAR));
        }
    }

    /// Takes out what is stale of a source and family.
    pub(super) fn sweep(&mut self, source: u16, family: Family) {
        match family {
            Family::Ipv4 => self.sweep_table::<V4>(source, u64::MAX),
            Family::Ipv6 => self.sweep_table::<V6>(source, u64::MAX),
        }
    }

    /// Asks for a sweep of what is stale now and older than `before`; commits do it.
    fn sweep_table<K: Prefix>(&mut self, source: u16, before: u64) {
        let from = self.sources.get(source);
        if from.count(K::FAMILY).stale == 0 {
            return;
        }
        let stale = Stale { source, asked: from.generation, before: before.min(from.generation) };
        let vrf = usize::from(from.vrf.0);
        self.sweep_what_bears::<K>(vrf, stale);
        K::afi_mut(&mut self.vrfs[vrf]).walk.sweep(stale);
    }

    /// Takes out at once what is stale and covers next hops that others have routes over: these lead elsewhere from the
    /// next commit on, before any other prefix is looked at. Its cost is in next hops, and not in routes.
    fn sweep_what_bears<K: Prefix>(&mut self, vrf: usize, stale: Stale) {
        let now = self.sources.get(stale.source).generation;
        let afi = K::afi(&self.vrfs[vrf]);
        let of_others = |id: &NhId| !self.next_hops.is_used_by_only(*id, stale.source);
        let mut found = Vec::new();
        for address in afi.next_hops.iter().filter(|(_, id)| of_others(id)).map(|(a, _)| *a).take(MOST_BORNE)
        {
            let covering = afi.table.covering(address, 1, K::BITS);
            let gone = covering.filter(|(_, entry)| entry.paths.as_slice().iter().any(|p| stale.has(p, now)));
            found.extend(gone.map(|(key, _)| key));
        }
        // One that covers several is found several times: after the first there is nothing left to take.
        for key in found {
            self.take_paths(stale.source, key, |path| stale.has(path, now));
        }
    }
}
