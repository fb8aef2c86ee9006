//! The tables: what is known of each prefix, and which of it is to be looked at.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use dataplane::ids::GroupId;

use super::prefix::{Prefix, V4, V6};
use super::resolve::NhId;
use super::walk::Walk;
use crate::prefix::map::Map;

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
    /// The source's generation when it last announced it: its low bits, which tell 65,536 generations apart.
    pub stamp: u16,
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

impl Entry {
    /// Whether it may be forgotten: it has no paths, and nothing of it is in the FIB or to be done.
    pub(super) fn is_empty(&mut self) -> bool {
        self.paths.as_slice().is_empty() && self.installed == GroupId::NO_ROUTE && !self.dirty
    }
}

/// All prefixes of a VRF and family.
pub(super) type Table<K> = Map<K, Entry>;

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
        assert_eq!(size_of::<<V4 as crate::prefix::Prefix>::Local>(), 4);
    }

    #[test]
    fn paths_shrink_to_the_small_form() {
        let path = |id| Path { slot: 0, path_id: id, source: 0, stamp: 0 };
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
