//! The control side's own copy of the routes, in small sorted lists: of the longer ones, one for each chunk of the
//! address space; of the short ones, one for each first byte.
//!
//! They are ordered by (prefix, length), in which a route comes before what it covers. So the routes under one are
//! a contiguous stretch, and the cover of one is found by a few steps back.

use super::FibError;

/// What an address resolves to, as tables store it: 0 for "whatever the default route says", else group + 1.
pub(super) type Value = u32;

/// The bits that a stored value has.
pub(super) const VALUE_BITS: u32 = 26;

/// The length that marks, in a list, where a deeper chunk hangs. It sorts after any route.
pub(super) const DEEPER: u8 = 63;

/// A route of a list: 32 bits of prefix within the chunk's window, left-aligned, then its length within the
/// window, then its value.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Entry(u64);

impl Entry {
    pub(super) fn suffix(self) -> u32 {
        (self.0 >> 32) as u32
    }

    pub(super) fn len(self) -> u8 {
        (self.0 >> VALUE_BITS) as u8 & DEEPER
    }

    pub(super) fn value(self) -> Value {
        self.0 as u32 & ((1 << VALUE_BITS) - 1)
    }

    pub(super) fn is_deeper(self) -> bool {
        self.len() == DEEPER
    }

    fn place(self) -> u64 {
        self.0 >> VALUE_BITS
    }
}

fn place(suffix: u32, len: u8) -> u64 {
    u64::from(suffix) << 6 | u64::from(len)
}

/// The first `len` bits set.
pub(super) fn mask32(len: u8) -> u32 {
    u32::MAX.checked_shl(32 - u32::from(len)).unwrap_or(0)
}

/// The routes of one chunk.
#[derive(Default)]
pub(super) struct Routes(Vec<Entry>);

impl Routes {
    pub(super) fn entries(&self) -> &[Entry] {
        &self.0
    }

    pub(super) fn bytes(&self) -> usize {
        self.0.capacity() * size_of::<Entry>()
    }

    /// Asks for the memory of the list, but no more of it than a change is likely to read: a long one is searched by
    /// halving, and only a part of it read.
    pub(super) fn prefetch(&self, suffix: u32) {
        const LINE: usize = 64 / size_of::<Entry>();
        let first = self.0.as_ptr();
        if self.0.len() <= 8 * LINE {
            (0..self.0.len()).step_by(LINE).for_each(|at| super::prefetch(first.wrapping_add(at)));
            return;
        }
        // Where a route would be if all were spread evenly.
        let guess = ((u64::from(suffix) * self.0.len() as u64) >> 32) as usize;
        for at in [guess, self.0.len() / 2, self.0.len() / 4, self.0.len() * 3 / 4] {
            super::prefetch(first.wrapping_add(at));
        }
    }

    /// Where a route is, or else where it would be.
    pub(super) fn find(&self, suffix: u32, len: u8) -> Result<usize, usize> {
        let place = place(suffix, len);
        self.0.binary_search_by_key(&place, |entry| entry.place())
    }

    pub(super) fn get(&self, suffix: u32, len: u8) -> Option<Value> {
        self.find(suffix, len).ok().map(|at| self.0[at].value())
    }

    /// Adds or replaces a route; returns the value it had. Nothing has changed on an error.
    pub(super) fn set(&mut self, suffix: u32, len: u8, value: Value) -> Result<Option<Value>, FibError> {
        self.put(self.find(suffix, len), suffix, len, value)
    }

    /// The same, where [`find`](Self::find) found it.
    pub(super) fn put(
        &mut self,
        at: Result<usize, usize>,
        suffix: u32,
        len: u8,
        value: Value,
    ) -> Result<Option<Value>, FibError> {
        let entry = Entry(place(suffix, len) << VALUE_BITS | u64::from(value));
        match at {
            Ok(at) => Ok(Some(std::mem::replace(&mut self.0[at], entry).value())),
            Err(at) => {
                self.reserve(1)?;
                self.0.insert(at, entry);
                Ok(None)
            }
        }
    }

    /// Takes a route away, and keeps the room for it.
    pub(super) fn take(&mut self, at: usize) -> Value {
        self.0.remove(at).value()
    }

    /// Takes back a [`put`](Self::put) or [`take`](Self::take), for which there is room still.
    pub(super) fn put_back(&mut self, suffix: u32, len: u8, value: Option<Value>) {
        let entry = |value| Entry(place(suffix, len) << VALUE_BITS | u64::from(value));
        match (self.find(suffix, len), value) {
            (Ok(at), Some(value)) => self.0[at] = entry(value),
            (Err(at), Some(value)) => self.0.insert(at, entry(value)),
            (Ok(at), None) => {
                self.0.remove(at);
            }
            (Err(_), None) => {}
        }
    }

    /// Gives back the room of a list that has become much shorter.
    pub(super) fn shrink(&mut self) {
        let (len, mut smaller) = (self.0.len(), Vec::new());
        // Without memory for the smaller list the larger one will do.
        if len * 4 < self.0.capacity() && smaller.try_reserve_exact(len * 2).is_ok() {
            smaller.append(&mut self.0);
            self.0 = smaller;
        }
    }

    /// These routes and `more`, which are in order of (suffix, length); of equal ones the later wins.
    pub(super) fn merged(
        &self,
        more: impl Iterator<Item = (u32, u8, Value)> + Clone,
    ) -> Result<Self, FibError> {
        let count = self.0.len() + more.clone().count();
        let error = FibError::Memory { bytes: count * size_of::<Entry>() };
        let mut all: Vec<Entry> = Vec::new();
        all.try_reserve_exact(count).map_err(|_| error)?;
        let mut old = self.0.iter().copied().peekable();
        for (suffix, len, value) in more {
            let place = place(suffix, len);
            while let Some(entry) = old.next_if(|entry| entry.place() <= place) {
                all.push(entry);
            }
            if all.last().is_some_and(|last| last.place() == place) {
                all.pop();
            }
            all.push(Entry(place << VALUE_BITS | u64::from(value)));
        }
        all.extend(old);
        Ok(Self(all))
    }

    /// Room for `count` more routes.
    pub(super) fn reserve(&mut self, count: usize) -> Result<(), FibError> {
        // Lists are many and mostly short: grow by half, not to double.
        if self.0.capacity() - self.0.len() < count {
            let more = count.max(self.0.len() / 2).max(2);
            let error = FibError::Memory { bytes: more * size_of::<Entry>() };
            self.0.try_reserve_exact(more).map_err(|_| error)?;
        }
        Ok(())
    }

    /// The value of the longest route that covers `suffix` and is at most `len` long.
    pub(super) fn cover(&self, suffix: u32, len: u8) -> Option<Value> {
        let last = place(suffix & mask32(len), len);
        self.cover_before(self.0.partition_point(|entry| entry.place() <= last), suffix, len)
    }

    /// The same, where what is after such a route in the list begins at `before`.
    pub(super) fn cover_before(&self, mut before: usize, suffix: u32, mut len: u8) -> Option<Value> {
        while len > 0 {
            let entry = self.0[..before].last()?;
            // A cover of `suffix` covers all between itself and `suffix`, this entry among it.
            let common = (entry.suffix() ^ suffix).leading_zeros() as u8;
            if entry.len() <= common {
                return Some(entry.value());
            }
            len = common.min(len);
            // The cover is likely to be near.
            let (last, mut step) = (place(suffix & mask32(len), len), 1);
            while before > 0 {
                let from = before.saturating_sub(step);
                if self.0[from].place() <= last {
                    before = from + self.0[from..before].partition_point(|entry| entry.place() <= last);
                    break;
                }
                (before, step) = (from, step * 2);
            }
        }
        None
    }

    /// The routes, and marks of deeper chunks, that begin in `first..=last`, but only those after (`first`, `len`).
    pub(super) fn under(&self, first: u32, len: u8, last: u32) -> &[Entry] {
        let from = self.0.partition_point(|entry| entry.place() <= place(first, len));
        self.under_from(from, last)
    }

    /// Those from `from` on that begin in up to `last`.
    pub(super) fn under_from(&self, from: usize, last: u32) -> &[Entry] {
        let rest = &self.0[from..];
        // Mostly there is none.
        let to = match rest.first() {
            Some(entry) if entry.suffix() <= last => rest.partition_point(|entry| entry.suffix() <= last),
            _ => 0,
        };
        &rest[..to]
    }
}

/// The routes that are as long as the root's index, or shorter; prefixes are the first 32 bits of the address. Those of
/// up to 7 bits are in one list, the others in one for each first byte: none is so long that a change is slow.
pub(super) struct ShortRoutes {
    wide: Routes,
    lists: [Routes; 256],
}

impl Default for ShortRoutes {
    fn default() -> Self {
        Self { wide: Routes::default(), lists: [const { Routes(Vec::new()) }; 256] }
    }
}

impl ShortRoutes {
    pub(super) fn bytes(&self) -> usize {
        size_of::<Self>() + self.wide.bytes() + self.lists.iter().map(Routes::bytes).sum::<usize>()
    }

    fn list(&self, prefix: u32, len: u8) -> &Routes {
        if len < 8 { &self.wide } else { &self.lists[(prefix >> 24) as usize] }
    }

    fn list_mut(&mut self, prefix: u32, len: u8) -> &mut Routes {
        if len < 8 { &mut self.wide } else { &mut self.lists[(prefix >> 24) as usize] }
    }

    pub(super) fn get(&self, prefix: u32, len: u8) -> Option<Value> {
        self.list(prefix, len).get(prefix, len)
    }

    /// Room for one more.
    pub(super) fn reserve(&mut self, prefix: u32, len: u8) -> Result<(), FibError> {
        self.list_mut(prefix, len).reserve(1)
    }

    /// Adds or replaces a route. Nothing has changed on an error.
    pub(super) fn set(&mut self, prefix: u32, len: u8, value: Value) -> Result<(), FibError> {
        self.list_mut(prefix, len).set(prefix, len, value).map(|_| ())
    }

    pub(super) fn unset(&mut self, prefix: u32, len: u8) {
        let list = self.list_mut(prefix, len);
        if let Ok(at) = list.find(prefix, len) {
            list.take(at);
            list.shrink();
        }
    }

    /// The value of the longest route that covers `prefix` and is at most `len` long; 0 when there is none.
    pub(super) fn cover(&self, prefix: u32, len: u8) -> Value {
        let long = if len < 8 { None } else { self.list(prefix, len).cover(prefix, len) };
        long.or_else(|| self.wide.cover(prefix, len.min(7))).unwrap_or(0)
    }

    /// The routes that begin in `first..=last`, which is what a route of this length covers, but only those after
    /// (`first`, `len`): (prefix, length, value), in order.
    pub(super) fn under(
        &self,
        first: u32,
        len: u8,
        last: u32,
    ) -> impl Iterator<Item = (u32, u8, Value)> + '_ {
        let wide = if len < 8 { self.wide.under(first, len, last) } else { &[] };
        // A wide route begins where a first byte does, and comes before the longer ones there.
        let entries = (first >> 24..=last >> 24).flat_map(move |byte| {
            let from = wide.partition_point(|entry| entry.suffix() >> 24 < byte);
            let wide = wide[from..].iter().take_while(move |entry| entry.suffix() >> 24 == byte);
            let (first, len) = if len < 8 { (byte << 24, 7) } else { (first, len) };
            wide.chain(self.lists[byte as usize].under(first, len, last))
        });
        entries.map(|entry| (entry.suffix(), entry.len(), entry.value()))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn covers_are_the_longest(
            routes in prop::collection::vec((any::<u32>(), 1u8..=32, 1u32..9), 0..60),
            (suffix, len) in (any::<u32>(), 0u8..=32),
            shape in prop::sample::select(vec![0x8000_0001u32, 0xF000_000F, 0xFFFF_0000, u32::MAX]),
        ) {
            let (mut list, mut map) = (Routes::default(), ShortRoutes::default());
            for &(suffix, len, value) in &routes {
                let suffix = suffix & shape & mask32(len);
                list.set(suffix, len, value).unwrap();
                map.set(suffix, len, value).unwrap();
            }
            let suffix = suffix & shape;
            let model = list.entries().iter()
                .filter(|entry| entry.len() <= len && suffix & mask32(entry.len()) == entry.suffix())
                .max_by_key(|entry| entry.len())
                .map(|entry| entry.value());
            prop_assert_eq!(list.cover(suffix, len), model);
            prop_assert_eq!(map.cover(suffix, len), model.unwrap_or(0));
        }
    }
}
