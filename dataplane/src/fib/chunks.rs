//! The control side's chunks: each a part of the address space with its own list of routes, found by a number. The
//! number of one under the root is beside the root's entry; that of a deeper one is found by a hash of its prefix.

use std::collections::HashMap;
use std::hash::{BuildHasher, Hasher, RandomState};

use super::FibError;
use super::routes::{Routes, Value};

/// One chunk.
#[derive(Default)]
pub(super) struct Chunk {
    pub(super) routes: Routes,
    /// The value of the longest route that covers the whole chunk.
    pub(super) cover: Value,
    /// The handle of its blocks.
    pub(super) tree: u32,
    /// How many routes there were when the tree was last built as a whole.
    pub(super) built: u32,
}

/// A chunk's number, good until the chunk is removed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Id(u32);

impl Id {
    /// As a number that is not 0.
    pub(super) fn number(self) -> u32 {
        self.0 + 1
    }

    /// From such a number; `None` for 0.
    pub(super) fn from_number(number: u32) -> Option<Self> {
        number.checked_sub(1).map(Self)
    }
}

/// The chunks, and the deeper ones by their keys: the prefix, left-aligned, with the level in the last byte.
#[derive(Default)]
pub(super) struct Chunks {
    ids: HashMap<u128, u32, Seeds>,
    all: Vec<Chunk>,
    free: Vec<u32>,
}

impl Chunks {
    pub(super) fn find(&self, key: u128) -> Option<Id> {
        self.ids.get(&key).map(|&id| Id(id))
    }

    /// Asks for the memory of a chunk.
    pub(super) fn prefetch(&self, id: Id) {
        crate::fib::prefetch(self.all.as_ptr().wrapping_add(id.0 as usize));
    }

    /// Room for `count` more.
    pub(super) fn reserve(&mut self, count: usize) -> Result<(), FibError> {
        let error = FibError::Memory { bytes: count * (size_of::<Chunk>() + size_of::<(u128, u32)>()) };
        self.ids.try_reserve(count).map_err(|_| error)?;
        // What is freed later has room too.
        self.free.try_reserve(self.all.len() + count).map_err(|_| error)?;
        self.all.try_reserve(count.saturating_sub(self.free.len())).map_err(|_| error)
    }

    pub(super) fn insert(&mut self, key: Option<u128>, chunk: Chunk) -> Id {
        let id = self.free.pop().unwrap_or(self.all.len() as u32);
        if id as usize == self.all.len() {
            self.all.push(chunk);
        } else {
            self.all[id as usize] = chunk;
        }
        if let Some(key) = key {
            self.ids.insert(key, id);
        }
        Id(id)
    }

    pub(super) fn remove(&mut self, key: Option<u128>, id: Id) {
        if let Some(key) = key {
            self.ids.remove(&key);
        }
        self.free.push(id.0);
        self.all[id.0 as usize] = Chunk::default();
    }

    #[cfg(test)]
    pub(super) fn is_empty(&self) -> bool {
        self.ids.is_empty() && self.free.len() == self.all.len()
    }

    pub(super) fn bytes(&self) -> usize {
        self.ids.capacity() * (size_of::<(u128, u32)>() + 1) * 8 / 7
            + self.all.capacity() * size_of::<Chunk>()
            + self.free.capacity() * size_of::<u32>()
            + self.all.iter().map(|chunk| chunk.routes.bytes()).sum::<usize>()
    }
}

impl std::ops::Index<Id> for Chunks {
    type Output = Chunk;

    fn index(&self, id: Id) -> &Chunk {
        &self.all[id.0 as usize]
    }
}

impl std::ops::IndexMut<Id> for Chunks {
    fn index_mut(&mut self, id: Id) -> &mut Chunk {
        &mut self.all[id.0 as usize]
    }
}

/// A hash of one 128-bit number: a multiplication with secret numbers, so that a peer cannot choose prefixes that
/// collide. Several times faster than the standard hash, and an update needs a few.
#[derive(Clone)]
struct Seeds(u64, u64);

impl Default for Seeds {
    fn default() -> Self {
        let random = RandomState::new();
        Self(random.hash_one(1), random.hash_one(2))
    }
}

impl BuildHasher for Seeds {
    type Hasher = Mix;

    fn build_hasher(&self) -> Mix {
        Mix { seeds: self.clone(), hash: 0 }
    }
}

struct Mix {
    seeds: Seeds,
    hash: u64,
}

impl Hasher for Mix {
    fn write_u128(&mut self, key: u128) {
        let product = u128::from((key >> 64) as u64 ^ self.seeds.0) * u128::from(key as u64 ^ self.seeds.1);
        let folded = product as u64 ^ (product >> 64) as u64;
        // Once more, as the table takes its bits from both ends.
        let product = u128::from(folded ^ self.seeds.1) * u128::from(self.seeds.0 | 1);
        self.hash ^= product as u64 ^ (product >> 64) as u64;
    }

    fn write(&mut self, bytes: &[u8]) {
        for &byte in bytes {
            self.write_u128(u128::from(byte) << 64 | u128::from(self.hash));
        }
    }

    fn finish(&self) -> u64 {
        self.hash
    }
}
