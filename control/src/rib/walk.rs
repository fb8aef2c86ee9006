//! What concerns a whole table, done a slice at a time: taking out what is stale of a source, and finding the entries
//! whose paths became usable or unusable.
//!
//! A pass goes over the table once, from the first prefix to the last. What is asked for meanwhile waits for the next
//! pass, all of it together, so that however often next hops change there is never more than one pass to come.

use super::Rib;
use super::prefix::Prefix;
use super::table::{Path, VrfTables};
use dataplane::ids::VrfId;

/// Entries that are looked at before the clock is.
const STEP: usize = 512;

/// Paths of a source that are stale.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Stale {
    pub source: u16,
    /// The source's generation when the sweep was asked for.
    pub asked: u64,
    /// What is of this generation or a later one stays.
    pub before: u64,
}

impl Stale {
    /// Whether a path is one of them; `now` is its source's present generation, of which it carries the low bits.
    pub(super) fn has(self, path: &Path, now: u64) -> bool {
        let age = u64::from((now as u16).wrapping_sub(path.stamp));
        path.source == self.source && now.saturating_sub(age) < self.before
    }
}

/// What a pass looks for.
#[derive(Debug, Default)]
struct Pass {
    stale: Vec<Stale>,
    /// By slot: its paths became usable or unusable.
    flipped: Vec<u64>,
}

impl Pass {
    fn is_empty(&self) -> bool {
        self.stale.is_empty() && self.flipped.is_empty()
    }

    fn is_flipped(&self, slot: u32) -> bool {
        let word = self.flipped.get(slot as usize / 64).copied().unwrap_or(0);
        word & 1 << (slot % 64) != 0
    }
}

/// The passes over one table.
#[derive(Debug)]
pub(super) struct Walk<K> {
    /// The pass under way, and where it is.
    now: Option<(K, Pass)>,
    next: Pass,
}

impl<K> Default for Walk<K> {
    fn default() -> Self {
        Self { now: None, next: Pass::default() }
    }
}

impl<K: Prefix> Walk<K> {
    /// Whether no pass is under way or to come.
    pub(super) fn is_done(&self) -> bool {
        self.now.is_none() && self.next.is_empty()
    }

    /// Asks for a sweep.
    pub(super) fn sweep(&mut self, stale: Stale) {
        match self.next.stale.iter_mut().find(|known| known.source == stale.source) {
            Some(known) => {
                known.before = known.before.max(stale.before);
                known.asked = known.asked.min(stale.asked);
            }
            None => self.next.stale.push(stale),
        }
    }

    /// Asks for a look at all entries that have a path of these slots, given as bits.
    pub(super) fn flip(&mut self, slots: &[u64]) {
        let flipped = &mut self.next.flipped;
        flipped.resize(flipped.len().max(slots.len()), 0);
        for (word, more) in flipped.iter_mut().zip(slots) {
            *word |= more;
        }
    }

    /// Whether a pass is about this source's stale paths that was asked for in `generation` or before.
    fn sweeps(&self, source: u16, generation: u64) -> bool {
        let passes = self.now.iter().map(|(_, pass)| pass).chain([&self.next]);
        passes.flat_map(|pass| &pass.stale).any(|stale| stale.source == source && stale.asked <= generation)
    }
}

impl Rib {
    /// Goes on with the passes over a table while there is `more` time.
    pub(super) fn walk<K: Prefix>(&mut self, vrf: VrfId, more: &mut dyn FnMut() -> bool) {
        let index = usize::from(vrf.0);
        while !K::afi(&self.vrfs[index]).walk.is_done() && more() {
            let walk = &mut K::afi_mut(&mut self.vrfs[index]).walk;
            let (start, pass) =
                walk.now.take().unwrap_or_else(|| (K::new(K::ZERO, 0), std::mem::take(&mut walk.next)));
            let next = self.step(index, start, &pass);
            K::afi_mut(&mut self.vrfs[index]).walk.now = next.map(|next| (next, pass));
        }
    }

    /// One step of a pass, from `start` on. Returns where the next one starts.
    fn step<K: Prefix>(&mut self, index: usize, start: K, pass: &Pass) -> Option<K> {
        let stale = pass.stale.iter().map(|stale| (*stale, self.sources.get(stale.source).generation));
        let stale: Vec<(Stale, u64)> = stale.collect();
        let of_interest = |path: &Path| {
            pass.is_flipped(path.slot) || stale.iter().any(|(stale, now)| stale.has(path, *now))
        };
        let mut entries = K::afi(&self.vrfs[index]).table.iter_from(start);
        let found = entries
            .by_ref()
            .take(STEP)
            .filter_map(|(key, entry)| entry.paths.as_slice().iter().any(of_interest).then_some(key));
        let found: Vec<K> = found.collect();
        let next = entries.next().map(|(key, _)| key);
        drop(entries);
        for key in found {
            mark(&mut self.vrfs[index], key);
            for (stale, now) in &stale {
                self.take_paths(stale.source, key, |path| stale.has(path, *now));
            }
        }
        next
    }

    /// Brings to their end the passes that sweep a source and were asked for in `generation` or before.
    pub(super) fn finish_sweeps(&mut self, source: u16, generation: u64) {
        fn finish<K: Prefix>(rib: &mut Rib, vrf: VrfId, source: u16, generation: u64) {
            while K::afi(&rib.vrfs[usize::from(vrf.0)]).walk.sweeps(source, generation) {
                let mut steps = 0;
                rib.walk::<K>(vrf, &mut || {
                    steps += 1;
                    steps <= 1
                });
            }
        }
        let vrf = self.sources.get(source).vrf;
        finish::<super::prefix::V4>(self, vrf, source, generation);
        finish::<super::prefix::V6>(self, vrf, source, generation);
    }
}

fn mark<K: Prefix>(vrf: &mut VrfTables, key: K) {
    K::afi_mut(vrf).mark(key);
}
