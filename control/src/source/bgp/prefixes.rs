//! What a peer has announced and not withdrawn (its Adj-RIB-In, without the attributes): for the count, for the
//! limit, and for what a route refresh did not bring again.

use std::collections::HashSet;
use std::hash::Hash;
use std::net::{Ipv4Addr, Ipv6Addr};

use ipnetwork::{IpNetwork, Ipv4Network, Ipv6Network};

use crate::source::{Family, Nlri};

/// The prefixes of one session, by path.
#[derive(Debug, Default)]
pub(super) struct Prefixes {
    ipv4: Table<(Ipv4Addr, u8, u32)>,
    ipv6: Table<(Ipv6Addr, u8, u32)>,
}

#[derive(Debug)]
struct Table<K> {
    present: HashSet<K>,
    /// Not announced again since the refresh began, if one is under way (RFC 7313, section 4.2).
    stale: Option<HashSet<K>>,
}

impl<K> Default for Table<K> {
    fn default() -> Self {
        Self { present: HashSet::new(), stale: None }
    }
}

impl<K: Eq + Hash + Clone> Table<K> {
    fn announce(&mut self, key: K) {
        if let Some(stale) = &mut self.stale {
            stale.remove(&key);
        }
        self.present.insert(key);
    }

    fn withdraw(&mut self, key: &K) {
        if let Some(stale) = &mut self.stale {
            stale.remove(key);
        }
        self.present.remove(key);
    }

    fn end_refresh(&mut self) -> HashSet<K> {
        let stale = self.stale.take().unwrap_or_default();
        self.present.retain(|key| !stale.contains(key));
        stale
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
        match nlri.prefix {
            IpNetwork::V4(prefix) => self.ipv4.announce((prefix.ip(), prefix.prefix(), nlri.path_id)),
            IpNetwork::V6(prefix) => self.ipv6.announce((prefix.ip(), prefix.prefix(), nlri.path_id)),
        }
    }

    pub(super) fn withdraw(&mut self, nlri: &Nlri) {
        match nlri.prefix {
            IpNetwork::V4(prefix) => self.ipv4.withdraw(&(prefix.ip(), prefix.prefix(), nlri.path_id)),
            IpNetwork::V6(prefix) => self.ipv6.withdraw(&(prefix.ip(), prefix.prefix(), nlri.path_id)),
        }
    }

    /// From here on what is present is stale until it is announced again.
    pub(super) fn begin_refresh(&mut self, family: Family) {
        match family {
            Family::Ipv4 => self.ipv4.stale = Some(self.ipv4.present.clone()),
            Family::Ipv6 => self.ipv6.stale = Some(self.ipv6.present.clone()),
        }
    }

    /// Removes and returns what the refresh did not bring again; nothing, if none had begun.
    pub(super) fn end_refresh(&mut self, family: Family) -> Vec<Nlri> {
        match family {
            Family::Ipv4 => self
                .ipv4
                .end_refresh()
                .into_iter()
                .filter_map(|(address, length, path_id)| {
                    Some(Nlri { prefix: Ipv4Network::new(address, length).ok()?.into(), path_id })
                })
                .collect(),
            Family::Ipv6 => self
                .ipv6
                .end_refresh()
                .into_iter()
                .filter_map(|(address, length, path_id)| {
                    Some(Nlri { prefix: Ipv6Network::new(address, length).ok()?.into(), path_id })
                })
                .collect(),
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
