//! What a peer has announced and not withdrawn (its Adj-RIB-In, without the attributes): for the count, for the
//! limit, and for what a route refresh did not bring again.

use std::collections::BTreeSet;

use crate::prefix::map::Map;
use crate::prefix::{AnyPrefix, Prefix, V4, V6};
use crate::source::{Family, Nlri};

/// The prefixes of one session, by path.
#[derive(Debug, Default)]
pub(super) struct Prefixes {
    ipv4: Table<V4>,
    ipv6: Table<V6>,
}

#[derive(Debug)]
struct Table<K: Prefix> {
    present: Set<K>,
    /// Not announced again since the refresh began, if one is under way (RFC 7313, section 4.2).
    stale: Option<Set<K>>,
}

/// A set of paths. Without add-path all have path id 0, and need no room for it.
#[derive(Clone, Debug)]
struct Set<K: Prefix> {
    plain: Map<K, ()>,
    other: BTreeSet<(K, u32)>,
}

impl<K: Prefix> Default for Table<K> {
    fn default() -> Self {
        Self { present: Set::default(), stale: None }
    }
}

impl<K: Prefix> Default for Set<K> {
    fn default() -> Self {
        Self { plain: Map::default(), other: BTreeSet::new() }
    }
}

impl<K: Prefix> Set<K> {
    fn len(&self) -> usize {
        self.plain.len() + self.other.len()
    }

    fn insert(&mut self, key: K, path_id: u32) {
        if path_id == 0 {
            self.plain.entry(key);
        } else {
            self.other.insert((key, path_id));
        }
    }

    fn remove(&mut self, key: K, path_id: u32) {
        if path_id == 0 {
            self.plain.remove_if(key, |()| true);
        } else {
            self.other.remove(&(key, path_id));
        }
    }

    fn iter(&self) -> impl Iterator<Item = (K, u32)> {
        let plain = self.plain.iter_from(K::new(K::ZERO, 0)).map(|(key, ())| (key, 0));
        plain.chain(self.other.iter().copied())
    }
}

impl<K: Prefix> Table<K> {
    fn announce(&mut self, key: K, path_id: u32) {
        if let Some(stale) = &mut self.stale {
            stale.remove(key, path_id);
        }
        self.present.insert(key, path_id);
    }

    fn withdraw(&mut self, key: K, path_id: u32) {
        if let Some(stale) = &mut self.stale {
            stale.remove(key, path_id);
        }
        self.present.remove(key, path_id);
    }

    fn begin_refresh(&mut self) {
        self.stale = Some(self.present.clone());
    }

    fn end_refresh(&mut self) -> Vec<Nlri> {
        let stale = self.stale.take().unwrap_or_default();
        for (key, path_id) in stale.iter() {
            self.present.remove(key, path_id);
        }
        stale.iter().map(|(key, path_id)| Nlri { prefix: key.network(), path_id }).collect()
    }
}

impl Prefixes {
    /// Paths of both families.
    pub(super) fn len(&self) -> usize {
        self.ipv4.present.len() + self.ipv6.present.len()
    }

    /// Paths of a family.
    pub(super) fn len_of(&self, family: Family) -> usize {
        match family {
            Family::Ipv4 => self.ipv4.present.len(),
            Family::Ipv6 => self.ipv6.present.len(),
        }
    }

    pub(super) fn announce(&mut self, nlri: &Nlri) {
        match nlri.prefix.into() {
            AnyPrefix::V4(prefix) => self.ipv4.announce(prefix, nlri.path_id),
            AnyPrefix::V6(prefix) => self.ipv6.announce(prefix, nlri.path_id),
        }
    }

    pub(super) fn withdraw(&mut self, nlri: &Nlri) {
        match nlri.prefix.into() {
            AnyPrefix::V4(prefix) => self.ipv4.withdraw(prefix, nlri.path_id),
            AnyPrefix::V6(prefix) => self.ipv6.withdraw(prefix, nlri.path_id),
        }
    }

    /// From here on what is present is stale until it is announced again.
    pub(super) fn begin_refresh(&mut self, family: Family) {
        match family {
            Family::Ipv4 => self.ipv4.begin_refresh(),
            Family::Ipv6 => self.ipv6.begin_refresh(),
        }
    }

    /// Removes and returns what the refresh did not bring again; nothing, if none had begun.
    pub(super) fn end_refresh(&mut self, family: Family) -> Vec<Nlri> {
        match family {
            Family::Ipv4 => self.ipv4.end_refresh(),
            Family::Ipv6 => self.ipv6.end_refresh(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn nlri(prefix: &str, path_id: u32) -> Nlri {
        Nlri { prefix: prefix.parse().unwrap(), path_id }
    }

    #[test]
    fn paths_of_a_prefix_count_each() {
        let mut prefixes = Prefixes::default();
        for path_id in [1, 2, 2] {
            prefixes.announce(&nlri("10.0.0.0/8", path_id));
            prefixes.announce(&nlri("2001:db8::/32", path_id));
        }
        assert_eq!(prefixes.len(), 4);
        prefixes.withdraw(&nlri("10.0.0.0/8", 1));
        prefixes.withdraw(&nlri("10.0.0.0/8", 7));
        assert_eq!(prefixes.len(), 3);
    }

    #[test]
    fn a_refresh_removes_what_did_not_come_again() {
        let mut prefixes = Prefixes::default();
        for prefix in ["10.0.0.0/8", "10.1.0.0/16", "10.2.0.0/16", "2001:db8::/32"] {
            prefixes.announce(&nlri(prefix, 0));
        }
        prefixes.begin_refresh(Family::Ipv4);
        prefixes.announce(&nlri("10.1.0.0/16", 0));
        prefixes.announce(&nlri("10.3.0.0/16", 0));
        prefixes.withdraw(&nlri("10.2.0.0/16", 0));
        assert_eq!(prefixes.end_refresh(Family::Ipv4), [nlri("10.0.0.0/8", 0)]);
        assert_eq!(prefixes.len(), 3);
        assert_eq!(prefixes.end_refresh(Family::Ipv4), []);
        assert_eq!(prefixes.len(), 3);
    }
}
