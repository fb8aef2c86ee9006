//! The control side of a table, the same for both families: which blocks a change of a route touches, and in
//! which order they are built, published and retired. Short routes and bulk loads have files of their own.
//!
//! Addresses are left-aligned in 128 bits. The first bits of one index the root; what is under an entry of the
//! root is a *chunk* of level 0 with its own sorted list of routes, from which its *tree* of blocks is built.
//! Routes longer than a level's window live in a chunk of the next level, whose tree hangs in its parent's.
//!
//! A change first builds its new blocks beside the old ones, and notes what it does to the lists and counts. When all
//! of that is there it publishes each block by one store; if memory runs out before, it takes back what it noted, and
//! readers have seen nothing of it.

mod batch;
mod bulk;
mod long;
mod short;
mod tree;
mod whole;

pub(super) use bulk::Load;

use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::FibError;
use super::chunks::{Chunk, Chunks, Id};
use super::memory::Memory;
use super::pages::Pages;
use super::routes::{ShortRoutes, Value};
use super::shape::Shape;
use super::sweep::Run;
use crate::grace::GracePeriod;
use whole::Undo;

/// The most levels that a family has.
const LEVELS: usize = 4;

pub(super) struct Writer<S> {
    shape: S,
    memory: Memory,
    short: ShortRoutes,
    chunks: Chunks,
    len: usize,
    /// Room for the runs of a chunk of each level.
    runs: [Vec<Run>; LEVELS],
    /// What the change under way has done to chunks.
    undo: Vec<Undo>,
}

/// The first `len` bits set.
pub(super) fn mask128(len: u8) -> u128 {
    u128::MAX.checked_shl(128 - u32::from(len)).unwrap_or(0)
}

impl<S: Shape> Writer<S> {
    pub(super) fn new(shape: S, pages: Arc<Pages>, first: usize, grace: Arc<dyn GracePeriod>) -> Self {
        Self {
            shape,
            memory: Memory::new(pages, first, S::MARGIN, grace),
            short: ShortRoutes::default(),
            chunks: Chunks::default(),
            len: 0,
            runs: [const { Vec::new() }; LEVELS],
            undo: Vec::new(),
        }
    }

    /// Builds what an empty root, all zeros, leads to: the block at 0, for "follow the default route".
    pub(super) fn start(&mut self) -> Result<(), FibError> {
        self.attempt(|writer| {
            let tree = writer.uniform(0, 0)?;
            debug_assert_eq!(tree, 0);
            // The root's zeros are links that nobody counted.
            writer.memory.link(0, i64::MAX / 2)?;
            writer.finish(0, 0, None)
        })
    }

    /// Whether nothing is left of the routes that were ever here.
    #[cfg(test)]
    pub(super) fn is_as_new(&mut self, blocks: usize) -> bool {
        self.memory.reclaim();
        self.len == 0 && self.chunks.is_empty() && self.memory.is_as_new(blocks)
    }

    /// Bytes that the kernel was asked for so far, for blocks.
    #[cfg(test)]
    pub(super) fn committed(&self) -> usize {
        self.memory.committed()
    }

    /// Bytes that blocks occupy.
    pub(super) fn block_bytes(&self) -> usize {
        self.memory.pages().used_bytes()
    }

    /// Bytes of the control side's own copy and bookkeeping.
    pub(super) fn control_bytes(&self) -> usize {
        self.short.bytes()
            + self.chunks.bytes()
            + self.memory.bookkeeping()
            + self.runs.iter().map(|runs| runs.capacity() * size_of::<Run>()).sum::<usize>()
            + self.undo.capacity() * size_of::<Undo>()
    }

    /// How many routes there are, the default route aside.
    pub(super) fn len(&self) -> usize {
        self.len
    }

    pub(super) fn get(&self, prefix: u128, len: u8) -> Option<Value> {
        match Self::level(len) {
            None => self.short.get(top(prefix), len),
            Some(level) => {
                let chunk = self.chunk(prefix, level)?;
                chunk.routes.get(Self::suffix(prefix, level), len - S::STARTS[level])
            }
        }
    }

    /// Announces or replaces a route, which is not the default route, or withdraws it by `None`; returns the value it
    /// had.
    pub(super) fn change(
        &mut self,
        prefix: u128,
        len: u8,
        value: Option<Value>,
    ) -> Result<Option<Value>, FibError> {
        let old = self.change_only(prefix, len, value);
        self.memory.retire();
        old
    }

    /// The same, but what it unlinks waits for the next change that is ended.
    fn change_only(
        &mut self,
        prefix: u128,
        len: u8,
        value: Option<Value>,
    ) -> Result<Option<Value>, FibError> {
        let Some(level) = Self::level(len) else {
            let old = self.short.get(top(prefix), len);
            if old != value {
                self.change_short(prefix, len, old, value)?;
                self.count(old, value);
            }
            return Ok(old);
        };
        let routes = self.find(prefix, level).map(|id| &self.chunks[id].routes);
        let at =
            routes.map_or(Err(0), |routes| routes.find(Self::suffix(prefix, level), len - S::STARTS[level]));
        let old = routes.zip(at.ok()).map(|(routes, at)| routes.entries()[at].value());
        match value {
            _ if old == value => return Ok(old),
            Some(value) => {
                if old.is_none() {
                    self.hold(prefix, len, value)?;
                }
                let done = self.set_long(prefix, len, level, at, value);
                if done.is_err() && old.is_none() {
                    self.shape.release(&mut self.memory, prefix, len, value);
                }
                done?;
            }
            None => {
                self.unset_long(prefix, len, level, at)?;
                self.shape.release(&mut self.memory, prefix, len, old.unwrap_or_default());
            }
        }
        self.count(old, value);
        Ok(old)
    }

    /// Counts a change of a route.
    fn count(&mut self, old: Option<Value>, new: Option<Value>) {
        self.len = self.len + usize::from(old.is_none()) - usize::from(new.is_none());
    }

    pub(super) fn reclaim(&mut self) {
        self.memory.reclaim();
    }

    /// The level whose lists hold routes of this length; `None` for short ones.
    fn level(len: u8) -> Option<usize> {
        S::STARTS.iter().rposition(|&start| start < len)
    }

    /// The chunk of a level in which an address is.
    fn key(prefix: u128, level: usize) -> u128 {
        prefix & mask128(S::STARTS[level]) | level as u128
    }

    /// The chunk of a level in which an address is. The first level's are found beside the root, which is quick; the
    /// others are few.
    fn find(&self, prefix: u128, level: usize) -> Option<Id> {
        if level > 0 {
            return self.chunks.find(Self::key(prefix, level));
        }
        let number = self.shape.number(&self.memory, Self::index(prefix))?;
        Id::from_number(number.load(Ordering::Relaxed))
    }

    fn chunk(&self, prefix: u128, level: usize) -> Option<&Chunk> {
        self.find(prefix, level).map(|id| &self.chunks[id])
    }

    /// The key of a chunk that is found by a hash.
    fn hashed(prefix: u128, level: usize) -> Option<u128> {
        (level > 0).then(|| Self::key(prefix, level))
    }

    fn add_chunk(&mut self, prefix: u128, level: usize, chunk: Chunk) -> Id {
        let id = self.chunks.insert(Self::hashed(prefix, level), chunk);
        self.set_number(prefix, level, id.number());
        id
    }

    fn remove_chunk(&mut self, prefix: u128, level: usize) {
        if let Some(id) = self.find(prefix, level) {
            self.set_number(prefix, level, 0);
            self.chunks.remove(Self::hashed(prefix, level), id);
        }
    }

    fn set_number(&self, prefix: u128, level: usize, new: u32) {
        if level == 0
            && let Some(number) = self.shape.number(&self.memory, Self::index(prefix))
        {
            number.store(new, Ordering::Relaxed);
        }
    }

    /// What of an address is within a level's window, left-aligned.
    fn suffix(prefix: u128, level: usize) -> u32 {
        (prefix << S::STARTS[level] >> 96) as u32
    }

    /// The root's entry for an address.
    fn index(prefix: u128) -> u32 {
        (prefix >> (128 - S::STARTS[0])) as u32
    }

    /// The value of the longest route that covers a whole chunk of this level.
    fn cover(&self, prefix: u128, level: usize) -> Value {
        for above in (0..level).rev() {
            if let Some(chunk) = self.chunk(prefix, above) {
                let found = chunk.routes.cover(Self::suffix(prefix, above), S::WINDOWS[above]);
                return found.unwrap_or(chunk.cover);
            }
        }
        self.short.cover(top(prefix), S::STARTS[0])
    }
}

/// The first 32 bits of a left-aligned address.
fn top(prefix: u128) -> u32 {
    (prefix >> 96) as u32
}
