//! The ordered map from prefix to what is known of it: B-trees sharded by the address's two highest bytes.
//!
//! The shards keep each tree small, so that an insertion at a million routes costs about what a hash map's does,
//! keys lose two bytes, and iteration is still in order, which is what paging and scans want. The longest match
//! probes the lengths that exist; only next-hop resolution and queries need it.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use dataplane::ids::GroupId;

use super::prefix::{Prefix, V4, V6};
use super::resolve::NhId;
use super::walk::Walk;

/// Most paths that are kept for one prefix; further ones are ignored and counted, so that a hostile speaker
/// with add-path can make no prefix expensive.
pub(super) const MAX_PATHS: usize = 256;

/// One (source, path id) for a prefix.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Path {
    /// Index of its attributes.
    pub slot: u32,
    /// RFC 7911's path identifier.
    #[expect(clippy::struct_field_names, reason = "the field's standard name")]
    pub path_id: u32,
    /// Index of its source.
    pub source: u16,
    /// The source's generation when it last announced it.
    pub generation: u16,
}

/// The paths of a prefix; nearly always there is one.
#[derive(Debug, Default)]
pub(super) enum Paths {
    #[default]
    None,
    One(Path),
    #[expect(clippy::box_collection, reason = "a thin pointer keeps every entry at 24 bytes")]
    Many(Box<Vec<Path>>),
}

impl Paths {
    pub(super) fn as_slice(&self) -> &[Path] {
        match self {
            Self::None => &[],
            Self::One(path) => std::slice::from_ref(path),
            Self::Many(paths) => paths,
        }
    }

    pub(super) fn as_mut_slice(&mut self) -> &mut [Path] {
        match self {
            Self::None => &mut [],
            Self::One(path) => std::slice::from_mut(path),
            Self::Many(paths) => paths,
        }
    }

    pub(super) fn push(&mut self, path: Path) {
        match self {
            Self::None => *self = Self::One(path),
            Self::One(first) => *self = Self::Many(Box::new(vec![*first, path])),
            Self::Many(paths) => paths.push(path),
        }
    }

    /// Takes out the paths for which `gone` holds, and hands each to `taken`.
    pub(super) fn take(&mut self, gone: impl Fn(&Path) -> bool, mut taken: impl FnMut(Path)) {
        match self {
            Self::None => {}
            Self::One(path) => {
                if gone(path) {
                    taken(*path);
                    *self = Self::None;
                }
            }
            Self::Many(paths) => {
                paths.retain(|path| {
                    let gone = gone(path);
                    if gone {
                        taken(*path);
                    }
                    !gone
                });
                match paths.as_slice() {
                    [] => *self = Self::None,
                    &[one] => *self = Self::One(one),
                    _ => {}
                }
            }
        }
    }
}

/// What is known of a prefix.
#[derive(Debug, Default)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "each says where the entry stands, and one does not exclude another"
)]
pub(super) struct Entry {
    pub paths: Paths,
    /// What the FIB holds for it; `NO_ROUTE`: nothing. The entry owns a reference to it.
    pub installed: GroupId,
    /// Whether it stands in the family's list of entries to look at.
    pub dirty: bool,
    /// Whether it stands in the family's queue of failed writes.
    pub pending: bool,
    /// Whether it leads nowhere any more, and waits for its removal from the FIB.
    pub gone: bool,
    /// Whether `installed` is not what was decided last: a write failed, or a removal waits.
    pub unsure: bool,
}

type Shard<K> = BTreeMap<<K as Prefix>::Local, Entry>;

/// All prefixes of a VRF and family.
pub(super) struct Table<K: Prefix> {
    tops: Vec<Option<Box<[Shard<K>; 256]>>>,
    /// How many prefixes there are of each length.
    lengths: Vec<u32>,
    count: usize,
}

impl<K: Prefix> Default for Table<K> {
    fn default() -> Self {
        Self { tops: (0..256).map(|_| None).collect(), lengths: vec![0; usize::from(K::BITS) + 1], count: 0 }
    }
}

impl<K: Prefix> Table<K> {
    pub(super) fn len(&self) -> usize {
        self.count
    }

    fn shard(&self, high: u8, low: u8) -> Option<&Shard<K>> {
        self.tops[usize::from(high)].as_ref().map(|top| &top[usize::from(low)])
    }

    pub(super) fn get(&self, key: K) -> Option<&Entry> {
        let (high, low, local) = key.split();
        self.shard(high, low)?.get(&local)
    }

    pub(super) fn get_mut(&mut self, key: K) -> Option<&mut Entry> {
        let (high, low, local) = key.split();
        self.tops[usize::from(high)].as_mut()?[usize::from(low)].get_mut(&local)
    }

    /// The entry of `key`, made if there is none.
    pub(super) fn entry(&mut self, key: K) -> &mut Entry {
        let (high, low, local) = key.split();
        let top = self.tops[usize::from(high)]
            .get_or_insert_with(|| Box::new(std::array::from_fn(|_| BTreeMap::new())));
        let (count, length) = (&mut self.count, &mut self.lengths[usize::from(key.len())]);
        top[usize::from(low)].entry(local).or_insert_with(|| {
            *count += 1;
            *length += 1;
            Entry::default()
        })
    }

    pub(super) fn remove(&mut self, key: K) {
        let (high, low, local) = key.split();
        let Some(top) = self.tops[usize::from(high)].as_mut() else { return };
        if top[usize::from(low)].remove(&local).is_some() {
            self.count -= 1;
            self.lengths[usize::from(key.len())] -= 1;
        }
    }

    /// The prefixes with a length in `shortest..=longest` that cover `addr`, longest first.
    pub(super) fn covering(
        &self,
        addr: K::Addr,
        shortest: u8,
        longest: u8,
    ) -> impl Iterator<Item = (K, &Entry)> {
        (shortest..=longest).rev().filter(|len| self.lengths[usize::from(*len)] > 0).filter_map(move |len| {
            let key = K::new(addr, len);
            self.get(key).map(|entry| (key, entry))
        })
    }

    /// All entries from `start` on, in order.
    pub(super) fn iter_from(&self, start: K) -> impl Iterator<Item = (K, &Entry)> {
        let (high, low, local) = start.split();
        let head = self.shard(high, low).into_iter().flat_map(move |shard| {
            shard.range(local..).map(move |(local, entry)| (K::join(high, low, *local), entry))
        });
        let tops = self.tops.iter().enumerate().skip(usize::from(high));
        let rest = tops.filter_map(|(h, top)| Some((h as u8, top.as_ref()?))).flat_map(move |(h, top)| {
            let first = if h == high { usize::from(low) + 1 } else { 0 };
            top.iter().enumerate().skip(first).flat_map(move |(l, shard)| {
                shard.iter().map(move |(local, entry)| (K::join(h, l as u8, *local), entry))
            })
        });
        head.chain(rest)
    }
}

/// One family of a VRF.
pub(super) struct Afi<K: Prefix> {
    pub table: Table<K>,
    /// Entries to look at in the next commit, oldest first.
    pub dirty: VecDeque<K>,
    /// How many entries were taken from `dirty` so far.
    pub looked: u64,
    /// Entries to take out of the FIB, each when `looked` has come so far: what may cover them is written first.
    pub gone: VecDeque<(K, u64)>,
    /// Passes over the whole table, a slice at a time.
    pub walk: Walk<K>,
    /// Entries whose FIB write failed, to be tried again.
    pub pending: VecDeque<K>,
    /// Next hops that this table resolves, by address.
    pub next_hops: BTreeMap<K::Addr, NhId>,
    /// Addresses of resolved neighbours that want a host route.
    pub hosts: BTreeSet<K::Addr>,
}

impl<K: Prefix> Default for Afi<K> {
    fn default() -> Self {
        Self {
            table: Table::default(),
            dirty: VecDeque::new(),
            looked: 0,
            gone: VecDeque::new(),
            walk: Walk::default(),
            pending: VecDeque::new(),
            next_hops: BTreeMap::new(),
            hosts: BTreeSet::new(),
        }
    }
}

impl<K: Prefix> Afi<K> {
    /// Whether a commit has something to do here; writes that failed aside.
    pub(super) fn is_dirty(&self) -> bool {
        !(self.dirty.is_empty() && self.gone.is_empty() && self.walk.is_done())
    }

    /// Puts `key` on the list of entries to look at.
    pub(super) fn mark(&mut self, key: K) {
        if let Some(entry) = self.table.get_mut(key)
            && !entry.dirty
        {
            entry.dirty = true;
            self.dirty.push_back(key);
        }
    }
}

/// The tables of a VRF.
#[derive(Default)]
pub(super) struct VrfTables {
    pub v4: Afi<V4>,
    pub v6: Afi<V6>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_is_small() {
        assert!(size_of::<Entry>() <= 24, "{}", size_of::<Entry>());
        assert_eq!(size_of::<Path>(), 12);
        assert_eq!(size_of::<<V4 as Prefix>::Local>(), 4);
    }

    #[test]
    fn order_longest_match_and_count() {
        let mut table = Table::<V4>::default();
        let keys = [(0, 0), (0x0a00_0000, 8), (0x0a01_0000, 16), (0x0a01_0200, 24), (0xff00_0000, 8)];
        for (addr, len) in keys.into_iter().rev() {
            table.entry(V4::new(addr, len));
            table.entry(V4::new(addr, len));
        }
        assert_eq!(table.len(), 5);
        let all: Vec<V4> = table.iter_from(V4::new(0, 0)).map(|(k, _)| k).collect();
        assert_eq!(all, keys.map(|(a, l)| V4::new(a, l)));
        let from: Vec<V4> = table.iter_from(V4::new(0x0a01_0000, 17)).map(|(k, _)| k).collect();
        assert_eq!(from, all[3..]);
        let covers: Vec<u8> = table.covering(0x0a01_02ff, 0, 32).map(|(k, _)| k.len()).collect();
        assert_eq!(covers, [24, 16, 8, 0]);
        table.remove(V4::new(0x0a01_0000, 16));
        let covers: Vec<u8> = table.covering(0x0a01_02ff, 1, 32).map(|(k, _)| k.len()).collect();
        assert_eq!(covers, [24, 8]);
        assert_eq!(table.iter_from(V4::new(0, 0)).count(), table.len());
    }

    #[test]
    fn paths_shrink_to_the_small_form() {
        let path = |id| Path { slot: 0, path_id: id, source: 0, generation: 0 };
        let mut paths = Paths::default();
        (0..3).for_each(|id| paths.push(path(id)));
        let mut taken = vec![];
        paths.take(|p| p.path_id != 1, |p| taken.push(p.path_id));
        assert_eq!(taken, [0, 2]);
        assert!(matches!(paths, Paths::One(p) if p.path_id == 1));
        paths.take(|_| true, |_| {});
        assert!(matches!(paths, Paths::None));
    }
}
