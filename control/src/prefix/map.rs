//! The ordered map from prefix to a value: B-trees sharded by the address's two highest bytes.
//!
//! The shards keep each tree small, so that an insertion at a million routes costs about what a hash map's does,
//! keys lose two bytes, and iteration is still in order, which is what paging and scans want. The longest match
//! probes the lengths that exist; only next-hop resolution and queries need it.

use std::collections::{BTreeMap, btree_map};

use super::Prefix;

type Shard<K, V> = BTreeMap<<K as Prefix>::Local, V>;
/// The shards of one highest byte.
type Top<K, V> = Box<[Shard<K, V>; 256]>;

/// A map whose keys are prefixes of a family.
#[derive(Clone, Debug)]
pub struct Map<K: Prefix, V> {
    tops: Vec<Option<Top<K, V>>>,
    /// How many prefixes there are of each length.
    lengths: Vec<u32>,
    count: usize,
}

impl<K: Prefix, V> Default for Map<K, V> {
    fn default() -> Self {
        Self { tops: (0..256).map(|_| None).collect(), lengths: vec![0; usize::from(K::BITS) + 1], count: 0 }
    }
}

impl<K: Prefix, V> Map<K, V> {
    pub fn len(&self) -> usize {
        self.count
    }

    fn shard(&self, high: u8, low: u8) -> Option<&Shard<K, V>> {
        self.tops[usize::from(high)].as_ref().map(|top| &top[usize::from(low)])
    }

    pub fn get(&self, key: K) -> Option<&V> {
        let (high, low, local) = key.split();
        self.shard(high, low)?.get(&local)
    }

    pub fn get_mut(&mut self, key: K) -> Option<&mut V> {
        let (high, low, local) = key.split();
        self.tops[usize::from(high)].as_mut()?[usize::from(low)].get_mut(&local)
    }

    /// The value of `key`, made if there is none.
    pub fn entry(&mut self, key: K) -> &mut V
    where
        V: Default,
    {
        let (high, low, local) = key.split();
        let top = self.tops[usize::from(high)]
            .get_or_insert_with(|| Box::new(std::array::from_fn(|_| BTreeMap::new())));
        let (count, length) = (&mut self.count, &mut self.lengths[usize::from(key.len())]);
        top[usize::from(low)].entry(local).or_insert_with(|| {
            *count += 1;
            *length += 1;
            V::default()
        })
    }

    /// Takes out the value of `key` if there is one for which `gone` holds.
    pub fn remove_if(&mut self, key: K, gone: impl FnOnce(&mut V) -> bool) {
        let (high, low, local) = key.split();
        let Some(top) = self.tops[usize::from(high)].as_mut() else { return };
        if let btree_map::Entry::Occupied(mut entry) = top[usize::from(low)].entry(local)
            && gone(entry.get_mut())
        {
            entry.remove();
            self.count -= 1;
            self.lengths[usize::from(key.len())] -= 1;
        }
    }

    /// The prefixes with a length in `shortest..=longest` that cover `addr`, longest first.
    pub fn covering(&self, addr: K::Addr, shortest: u8, longest: u8) -> impl Iterator<Item = (K, &V)> {
        (shortest..=longest).rev().filter(|len| self.lengths[usize::from(*len)] > 0).filter_map(move |len| {
            let key = K::new(addr, len);
            self.get(key).map(|entry| (key, entry))
        })
    }

    /// All entries from `start` on, in order.
    pub fn iter_from(&self, start: K) -> impl Iterator<Item = (K, &V)> {
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

#[cfg(test)]
mod tests {
    use super::super::V4;
    use super::*;

    #[test]
    fn order_longest_match_and_count() {
        let mut table = Map::<V4, u8>::default();
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
        table.remove_if(V4::new(0x0a01_0000, 16), |_| false);
        assert_eq!(table.len(), 5);
        table.remove_if(V4::new(0x0a01_0000, 16), |_| true);
        let covers: Vec<u8> = table.covering(0x0a01_02ff, 1, 32).map(|(k, _)| k.len()).collect();
        assert_eq!(covers, [24, 8]);
        assert_eq!(table.iter_from(V4::new(0, 0)).count(), table.len());
    }
}
