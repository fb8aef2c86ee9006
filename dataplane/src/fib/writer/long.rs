//! Changes of routes that are longer than the root's index, which live in chunks.

use super::{LEVELS, Writer};
use crate::fib::FibError;
use crate::fib::chunks::Chunk;
use crate::fib::routes::{Entry, Routes, Value, mask32};
use crate::fib::shape::Shape;
use crate::fib::sweep::Run;

/// A part of a tree that is replaced has fewer runs than this many routes make, beside those of the routes in it.
const SPLICED: usize = 12;

impl<S: Shape> Writer<S> {
    /// Makes sure that a change of one longer route cannot fail half-way.
    pub(super) fn ensure_change(&mut self, prefix: u128, len: u8, level: usize) -> Result<(), FibError> {
        self.chunks.reserve(S::STARTS.len())?;
        let (mut words, mut blocks) = (S::most_words(0, 1), 8);
        let mut most = 1;
        for above in 0..=level {
            let Some(id) = self.find(prefix, above) else {
                words += S::most_words(above, 2);
                continue;
            };
            self.chunks[id].routes.reserve(1)?;
            let chunk = &self.chunks[id];
            let count = chunk.routes.entries().len();
            most = most.max(count);
            // One route more or less, what is under it, and what else is in the leaf where it is.
            let part =
                if above == level { Self::under(chunk, prefix, len, level).len() + SPLICED } else { SPLICED };
            let splices =
                [count.saturating_sub(1), count, count + 1].iter().all(|&count| self.splices(id, count));
            words += S::most_words(above, if splices { part } else { count + 2 });
            // A tree that was built for more routes keeps its nodes until it is built again.
            blocks += S::most_blocks((count + 2).max(chunk.built as usize));
        }
        if S::STARTS.len() > level + 1
            && let Some(chunk) = self.chunk(prefix, level)
        {
            let (more_words, more_blocks) =
                self.most_below(prefix, level, Self::under(chunk, prefix, len, level));
            words += more_words;
            blocks += more_blocks;
        }
        // A tree has no more runs than it can have blocks, in IPv4 than there are addresses in a page.
        self.ensure_runs((2 * most + 3).max(blocks / 3).max(260))?;
        self.memory.ensure_parts(blocks)?;
        self.memory.ensure(words, blocks)
    }

    /// What of a chunk's list a route covers.
    fn under(chunk: &Chunk, prefix: u128, len: u8, level: usize) -> &[Entry] {
        let (first, len) = (Self::suffix(prefix, level), len - S::STARTS[level]);
        chunk.routes.under(first, len, first | !mask32(len))
    }

    /// Room for this many runs of a chunk of each level.
    pub(super) fn ensure_runs(&mut self, most: usize) -> Result<(), FibError> {
        for runs in &mut self.runs[..S::STARTS.len()] {
            runs.clear();
            let bytes = most * size_of::<Run>();
            runs.try_reserve(most).map_err(|_| FibError::Memory { bytes })?;
        }
        Ok(())
    }

    /// Announces or replaces a longer route.
    pub(super) fn set_long(
        &mut self,
        prefix: u128,
        len: u8,
        level: usize,
        value: Value,
    ) -> Result<(), FibError> {
        let (suffix, rel) = (Self::suffix(prefix, level), len - S::STARTS[level]);
        if let Some(id) = self.find(prefix, level) {
            self.chunks[id].routes.set(suffix, rel, value)?;
            return self.repaint(id, prefix, level, rel);
        }
        // New chunks, deepest first, each hanging in the next, up to one that exists or the root. All lists first: an
        // error must come before anything has changed.
        let mut lists: [Routes; LEVELS] = std::array::from_fn(|_| Routes::default());
        for above in (0..=level).rev() {
            if self.find(prefix, above).is_some() {
                break;
            }
            lists[above].reserve(1)?;
        }
        let mut routes = std::mem::take(&mut lists[level]);
        routes.set(suffix, rel, value)?;
        for level in (0..=level).rev() {
            let cover = self.cover(prefix, level);
            let chunk = Chunk { routes, cover, ..Chunk::default() };
            let id = self.add_chunk(prefix, level, chunk);
            let tree = self.build(id, prefix, level)?;
            if level == 0 {
                let old = self.shape.root(&self.memory, Self::index(prefix));
                self.shape.set_root(&self.memory, Self::index(prefix), tree);
                self.unlink(0, old);
                return Ok(());
            }
            let above = level - 1;
            let suffix = Self::suffix(prefix, above) & mask32(S::WINDOWS[above]);
            if let Some(id) = self.find(prefix, above) {
                self.chunks[id].routes.set_deeper(suffix)?;
                return self.repaint(id, prefix, above, S::WINDOWS[above]);
            }
            routes = std::mem::take(&mut lists[above]);
            routes.set_deeper(suffix)?;
        }
        Ok(())
    }

    /// Withdraws a longer route.
    pub(super) fn unset_long(&mut self, prefix: u128, len: u8, level: usize) -> Result<(), FibError> {
        let (suffix, rel) = (Self::suffix(prefix, level), len - S::STARTS[level]);
        let Some(id) = self.find(prefix, level) else { return Ok(()) };
        self.chunks[id].routes.unset(suffix, rel);
        if !self.chunks[id].routes.entries().is_empty() {
            return self.repaint(id, prefix, level, rel);
        }
        // Chunks that have become empty go, deepest first.
        for level in (0..=level).rev() {
            let Some(chunk) = self.remove_chunk(prefix, level) else { return Ok(()) };
            if level == 0 {
                let tree = self.uniform(0, chunk.cover)?;
                self.shape.set_root(&self.memory, Self::index(prefix), tree);
                self.unlink(0, chunk.tree);
                return Ok(());
            }
            self.unlink(level, chunk.tree);
            let above = level - 1;
            let suffix = Self::suffix(prefix, above) & mask32(S::WINDOWS[above]);
            let Some(parent) = self.find(prefix, above) else { return Ok(()) };
            self.chunks[parent].routes.unset_deeper(suffix);
            if !self.chunks[parent].routes.entries().is_empty() {
                return self.repaint(parent, prefix, above, S::WINDOWS[above]);
            }
        }
        Ok(())
    }
}
