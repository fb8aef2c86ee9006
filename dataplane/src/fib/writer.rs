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

pub(super) use bulk::Load;

use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::FibError;
use super::chunks::{Chunk, Chunks, Id};
use super::memory::Memory;
use super::pages::Pages;
use super::routes::{Entry, ShortRoutes, Value, mask32};
use super::shape::Shape;
use super::sweep::{Goal, Run, sweep};
use crate::grace::GracePeriod;

/// The most levels that a family has.
const LEVELS: usize = 4;

/// Lists up to this long are rebuilt as a whole for each change.
const SMALL: usize = 4;

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

/// What a chunk had before a change.
enum Undo {
    /// What a tree was built from, beside the routes, and how.
    Tree { id: Id, cover: Value, tree: u32, built: u32 },
    /// A route.
    Route { id: Id, suffix: u32, len: u8, value: Option<Value> },
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
        let old = self.get(prefix, len);
        if old == value {
            return Ok(old);
        }
        match (Self::level(len), value) {
            (None, _) => self.change_short(prefix, len, old, value)?,
            (Some(level), Some(value)) => {
                if old.is_none() {
                    self.hold(prefix, len, value)?;
                }
                let done = self.set_long(prefix, len, level, value);
                if done.is_err() && old.is_none() {
                    self.shape.release(&mut self.memory, prefix, len, value);
                }
                done?;
            }
            (Some(level), None) => {
                self.unset_long(prefix, len, level)?;
                self.shape.release(&mut self.memory, prefix, len, old.unwrap_or_default());
            }
        }
        self.len = self.len + usize::from(old.is_none()) - usize::from(value.is_none());
        Ok(old)
    }

    pub(super) fn reclaim(&mut self) {
        self.memory.reclaim();
    }

    /// Prepares the root for one more route, or changes nothing.
    fn hold(&mut self, prefix: u128, len: u8, value: Value) -> Result<(), FibError> {
        self.attempt(|writer| writer.shape.hold(&mut writer.memory, prefix, len, value))
    }

    /// Does a change, which ends by [`finish`](Self::finish) or by the same two steps, or nothing of it.
    fn attempt(&mut self, change: impl FnOnce(&mut Self) -> Result<(), FibError>) -> Result<(), FibError> {
        let done = change(self);
        if done.is_err() {
            for undo in self.undo.drain(..).rev() {
                match undo {
                    Undo::Tree { id, cover, tree, built } => {
                        let chunk = &mut self.chunks[id];
                        (chunk.cover, chunk.tree, chunk.built) = (cover, tree, built);
                    }
                    Undo::Route { id, suffix, len, value } => {
                        self.chunks[id].routes.put_back(suffix, len, value);
                    }
                }
            }
            self.memory.undo();
        }
        self.undo.clear();
        done
    }

    /// Publishes what the change under way has built, and a chunk's new tree if there is one. It fails before.
    fn finish(&mut self, prefix: u128, level: usize, tree: Option<u32>) -> Result<(), FibError> {
        self.memory.secure()?;
        if let Some(tree) = tree {
            self.publish(prefix, level, tree);
        }
        self.memory.commit(S::publish);
        Ok(())
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

    fn add_chunk(&mut self, prefix: u128, level: usize, chunk: Chunk) -> Id {
        let id = self.chunks.insert(Self::key(prefix, level), chunk);
        self.set_number(prefix, level, id.number());
        id
    }

    fn remove_chunk(&mut self, prefix: u128, level: usize) -> Option<Chunk> {
        self.set_number(prefix, level, 0);
        self.chunks.remove(Self::key(prefix, level))
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

    /// The first address of the deeper chunk at `suffix`.
    fn below(prefix: u128, level: usize, suffix: u32) -> u128 {
        prefix & mask128(S::STARTS[level]) | u128::from(suffix) << 96 >> S::STARTS[level]
    }

    /// Sets or takes away the route of a chunk at this prefix and length (within the window), `DEEPER` for a deeper
    /// chunk, and publishes what that changes in its tree.
    fn edit(
        &mut self,
        id: Id,
        prefix: u128,
        level: usize,
        len: u8,
        value: Option<Value>,
    ) -> Result<(), FibError> {
        let within = len.min(S::WINDOWS[level]);
        let first = Self::suffix(prefix, level) & mask32(within);
        self.reserve_undo()?;
        let routes = &mut self.chunks[id].routes;
        let old = match value {
            Some(value) => routes.set(first, len, value)?,
            None => routes.unset(first, len),
        };
        self.undo.push(Undo::Route { id, suffix: first, len, value: old });
        if !self.splices(id) {
            let tree = self.rebuild(id, prefix, level, self.chunks[id].cover)?;
            self.finish(prefix, level, Some(tree))?;
        } else if self.splice(id, prefix, level, (first, within))? {
            self.finish(prefix, level, None)?;
            self.undo.clear();
            // What is there already will do where there is no memory for less.
            let tree = self.chunks[id].tree;
            let _ = self.attempt(|writer| {
                S::fold(&mut writer.memory, tree, first)?;
                writer.finish(prefix, level, None)
            });
        } else {
            self.finish(prefix, level, None)?;
        }
        if value.is_none() {
            self.chunks[id].routes.shrink();
        }
        Ok(())
    }

    /// Whether a change of a part of a chunk's tree is done in that part only.
    fn splices(&self, id: Id) -> bool {
        // What has grown or shrunk much since it was built wants another form.
        let (chunk, count) = (&self.chunks[id], self.chunks[id].routes.entries().len());
        let built = chunk.built as usize;
        S::splices(chunk.tree) && count > SMALL && count > built / 4 && count <= built.max(8) * 2
    }

    /// Builds the part of a chunk's tree that is under a prefix.
    fn splice(
        &mut self,
        id: Id,
        prefix: u128,
        level: usize,
        (first, len): (u32, u8),
    ) -> Result<bool, FibError> {
        let last = first | !mask32(len);
        let (routes, cover) = (std::mem::take(&mut self.chunks[id].routes), self.chunks[id].cover);
        let cover = routes.cover(first, len).unwrap_or(cover);
        let runs = self.sweep(prefix, level, (first, last), cover, routes.under(first, len, last));
        self.chunks[id].routes = routes;
        let runs = runs?;
        let spliced = S::splice(&mut self.memory, self.chunks[id].tree, (first, len), &runs);
        self.runs[level] = runs;
        spliced
    }

    /// Builds a chunk's tree again, for this cover, and notes the old one as unlinked.
    fn rebuild(&mut self, id: Id, prefix: u128, level: usize, cover: Value) -> Result<u32, FibError> {
        self.reserve_undo()?;
        let chunk = &mut self.chunks[id];
        let old = chunk.tree;
        self.undo.push(Undo::Tree { id, cover: chunk.cover, tree: old, built: chunk.built });
        chunk.cover = cover;
        let tree = self.build(id, prefix, level)?;
        self.unlink(level, old)?;
        Ok(tree)
    }

    fn reserve_undo(&mut self) -> Result<(), FibError> {
        let error = FibError::Memory { bytes: (self.undo.len() + 1) * size_of::<Undo>() };
        self.undo.try_reserve(1).map_err(|_| error)
    }

    /// Builds a chunk's tree from its routes.
    fn build(&mut self, id: Id, prefix: u128, level: usize) -> Result<u32, FibError> {
        let chunk = &mut self.chunks[id];
        let (routes, cover) = (std::mem::take(&mut chunk.routes), chunk.cover);
        let runs = self.sweep(prefix, level, (0, u32::MAX), cover, routes.entries());
        self.chunks[id].built = routes.entries().len() as u32;
        self.chunks[id].routes = routes;
        let runs = runs?;
        let tree = match runs.as_slice() {
            [Run { goal: Goal::Value(value), .. }] => self.uniform(level, *value),
            runs => S::build(&mut self.memory, level, runs),
        };
        self.runs[level] = runs;
        let tree = tree?;
        self.chunks[id].tree = tree;
        Ok(tree)
    }

    /// The runs of a part of a chunk. Deeper chunks whose cover has changed are rebuilt on the way.
    fn sweep(
        &mut self,
        prefix: u128,
        level: usize,
        span: (u32, u32),
        cover: Value,
        entries: &[Entry],
    ) -> Result<Vec<Run>, FibError> {
        let mut runs = std::mem::take(&mut self.runs[level]);
        runs.clear();
        sweep(&mut runs, span, cover, entries, S::WINDOWS[level], |suffix, cover| {
            let below = Self::below(prefix, level, suffix);
            let Some(id) = self.find(below, level + 1) else { return Ok(0) };
            let chunk = &self.chunks[id];
            if chunk.cover == cover { Ok(chunk.tree) } else { self.rebuild(id, below, level + 1, cover) }
        })?;
        Ok(runs)
    }

    /// Leads readers to a chunk's new tree.
    fn publish(&mut self, prefix: u128, level: usize, tree: u32) {
        if level == 0 {
            self.shape.set_root(&self.memory, Self::index(prefix), tree);
        } else if let Some(parent) = self.chunk(prefix, level - 1) {
            let suffix = Self::suffix(prefix, level - 1);
            if let Some(cell) = S::link(&self.memory, parent.tree, suffix) {
                S::publish(&self.memory, cell, tree);
            }
        }
    }

    /// The shared tree of one value, with one link more.
    fn uniform(&mut self, level: usize, value: Value) -> Result<u32, FibError> {
        let run = Run { end: u32::MAX, goal: Goal::Value(value) };
        if level > 0 && !S::DEEP_UNIFORM {
            return S::build(&mut self.memory, level, &[run]);
        }
        self.memory.uniform(value, |memory| S::build(memory, 0, &[run]))
    }

    /// Notes a tree as unlinked; a shared one when its last link goes.
    fn unlink(&mut self, level: usize, tree: u32) -> Result<(), FibError> {
        match S::uniform_value(&self.memory, level, tree) {
            Some(value) => self.memory.link(value, -1),
            None => S::unlink(&mut self.memory, level, tree),
        }
    }
}

/// The first 32 bits of a left-aligned address.
fn top(prefix: u128) -> u32 {
    (prefix >> 96) as u32
}
