//! How a chunk's tree follows its list of routes.

use super::{Undo, Writer, mask128};
use crate::fib::FibError;
use crate::fib::chunks::{Chunk, Id};
use crate::fib::memory::Memory;
use crate::fib::routes::{DEEPER, Entry, Value, mask32};
use crate::fib::shape::{Patched, Shape};
use crate::fib::sweep::{Goal, Run, sweep};

/// Lists up to this long are rebuilt as a whole for each change.
const SMALL: usize = 4;

/// The part of a chunk that is under a prefix (within the window).
struct Part {
    first: u32,
    len: u8,
    /// From where on the chunk's list has what is under it.
    at: usize,
    /// The value of the route of the prefix itself, if there is one, which is there then.
    value: Option<Value>,
}

impl<S: Shape> Writer<S> {
    /// Sets or takes away the route of a chunk at this prefix and length (within the window), `DEEPER` for a deeper
    /// chunk, and publishes what that changes in its tree. `at` is where its list has the route, or would.
    pub(super) fn edit(
        &mut self,
        id: Id,
        prefix: u128,
        level: usize,
        (len, at): (u8, Result<usize, usize>),
        value: Option<Value>,
    ) -> Result<(), FibError> {
        let within = len.min(S::WINDOWS[level]);
        let first = Self::suffix(prefix, level) & mask32(within);
        self.reserve_undo()?;
        let routes = &mut self.chunks[id].routes;
        let old = match value {
            Some(value) => routes.put(at, first, len, value)?,
            None => at.ok().map(|at| routes.take(at)),
        };
        let at = at.unwrap_or_else(|at| at);
        self.undo.push(Undo::Route { id, suffix: first, len, value: old });
        let part = Part { first, len: within, at, value: value.filter(|_| len != DEEPER) };
        if !self.splices(id) {
            let tree = match self.patch(id, prefix, level, &part)? {
                Some(tree) => tree,
                None => self.rebuild(id, prefix, level, self.chunks[id].cover)?,
            };
            self.finish(prefix, level, Some(tree))?;
        } else if self.with_runs(id, prefix, level, &part, S::splice)? {
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

    /// Builds a chunk's tree from the old one and the routes under a prefix, where the shape does that, and notes the old
    /// one as unlinked.
    fn patch(&mut self, id: Id, prefix: u128, level: usize, part: &Part) -> Result<Option<u32>, FibError> {
        if !S::PATCHES || level > 0 {
            return Ok(None);
        }
        let tree = match self.with_runs(id, prefix, level, part, S::patch)? {
            Patched::No => return Ok(None),
            Patched::Tree(tree) => tree,
            Patched::Uniform(value) => self.uniform(level, value)?,
        };
        self.note_tree(id)?;
        let old = std::mem::replace(&mut self.chunks[id].tree, tree);
        self.unlink(level, old)?;
        Ok(Some(tree))
    }

    /// Hands a chunk's tree and the runs of a part of it to what makes something of them.
    fn with_runs<T>(
        &mut self,
        id: Id,
        prefix: u128,
        level: usize,
        part: &Part,
        make: impl FnOnce(&mut Memory, u32, (u32, u8), &[Run]) -> Result<T, FibError>,
    ) -> Result<T, FibError> {
        let &Part { first, len, at, value } = part;
        let last = first | !mask32(len);
        let (routes, cover) = (std::mem::take(&mut self.chunks[id].routes), self.chunks[id].cover);
        let cover = value.or_else(|| routes.cover_before(at, first, len)).unwrap_or(cover);
        let under = routes.under_from(at + usize::from(value.is_some()), last);
        let runs = self.sweep(prefix, level, (first, last), cover, under);
        self.chunks[id].routes = routes;
        let runs = runs?;
        let made = make(&mut self.memory, self.chunks[id].tree, (first, len), &runs);
        self.runs[level] = runs;
        made
    }

    /// Notes what a chunk's tree is before a change.
    fn note_tree(&mut self, id: Id) -> Result<(), FibError> {
        self.reserve_undo()?;
        let &Chunk { cover, tree, built, .. } = &self.chunks[id];
        self.undo.push(Undo::Tree { id, cover, tree, built });
        Ok(())
    }

    /// Builds a chunk's tree again, for this cover, and notes the old one as unlinked.
    pub(super) fn rebuild(
        &mut self,
        id: Id,
        prefix: u128,
        level: usize,
        cover: Value,
    ) -> Result<u32, FibError> {
        self.note_tree(id)?;
        let chunk = &mut self.chunks[id];
        let old = chunk.tree;
        chunk.cover = cover;
        let tree = self.build(id, prefix, level)?;
        self.unlink(level, old)?;
        Ok(tree)
    }

    /// Builds a chunk's tree from its routes.
    pub(super) fn build(&mut self, id: Id, prefix: u128, level: usize) -> Result<u32, FibError> {
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
    pub(super) fn publish(&mut self, prefix: u128, level: usize, tree: u32) {
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
    pub(super) fn uniform(&mut self, level: usize, value: Value) -> Result<u32, FibError> {
        let run = Run { end: u32::MAX, goal: Goal::Value(value) };
        if level > 0 && !S::DEEP_UNIFORM {
            return S::build(&mut self.memory, level, &[run]);
        }
        self.memory.uniform(value, |memory| S::build(memory, 0, &[run]))
    }

    /// Notes a tree as unlinked; a shared one when its last link goes.
    pub(super) fn unlink(&mut self, level: usize, tree: u32) -> Result<(), FibError> {
        match S::uniform_value(&self.memory, level, tree) {
            Some(value) => self.memory.link(value, -1),
            None => S::unlink(&mut self.memory, level, tree),
        }
    }

    /// The first address of the deeper chunk at `suffix`.
    fn below(prefix: u128, level: usize, suffix: u32) -> u128 {
        prefix & mask128(S::STARTS[level]) | u128::from(suffix) << 96 >> S::STARTS[level]
    }
}
