//! Changes of routes that are longer than the root's index, which live in chunks.

use super::{LEVELS, Writer};
use crate::fib::FibError;
use crate::fib::chunks::{Chunk, Id};
use crate::fib::routes::{DEEPER, Routes, Value, mask32};
use crate::fib::shape::Shape;

impl<S: Shape> Writer<S> {
    /// Announces or replaces a longer route, which its chunk's list has at `at`, or would.
    pub(super) fn set_long(
        &mut self,
        prefix: u128,
        len: u8,
        level: usize,
        at: Result<usize, usize>,
        value: Value,
    ) -> Result<(), FibError> {
        // New chunks, each hanging in the one above it, the first of them in one that exists, or in the root.
        let first = (0..=level).find(|&above| self.find(prefix, above).is_none()).unwrap_or(level + 1);
        let len = len - S::STARTS[level];
        self.add_chunks(prefix, first..level + 1, len, value)?;
        let done = self.attempt(|writer| {
            for above in (first..=level).rev() {
                if let Some(id) = writer.find(prefix, above) {
                    writer.build(id, prefix, above)?;
                }
            }
            let Some(above) = first.checked_sub(1) else {
                writer.unlink(0, writer.shape.root(&writer.memory, Self::index(prefix)))?;
                let tree = writer.chunk(prefix, 0).map(|chunk| chunk.tree);
                return writer.finish(prefix, 0, tree);
            };
            let Some(id) = writer.find(prefix, above) else { return Ok(()) };
            let (place, value) =
                if above == level { ((len, at), value) } else { (writer.mark(id, prefix, above), 0) };
            writer.edit(id, prefix, above, place, Some(value))
        });
        if done.is_err() {
            (first..=level).for_each(|above| self.remove_chunk(prefix, above));
        }
        done
    }

    /// Where a chunk's list marks that a deeper one hangs in it.
    fn mark(&self, id: Id, prefix: u128, level: usize) -> (u8, Result<usize, usize>) {
        let suffix = Self::suffix(prefix, level) & mask32(S::WINDOWS[level]);
        (DEEPER, self.chunks[id].routes.find(suffix, DEEPER))
    }

    /// New chunks of these levels for a route in the last, whose trees are still to be built.
    fn add_chunks(
        &mut self,
        prefix: u128,
        levels: std::ops::Range<usize>,
        len: u8,
        value: Value,
    ) -> Result<(), FibError> {
        if levels.is_empty() {
            return Ok(());
        }
        self.chunks.reserve(levels.len())?;
        let mut lists: [Routes; LEVELS] = std::array::from_fn(|_| Routes::default());
        for level in levels.clone() {
            let last = level + 1 == levels.end;
            let (len, value) = if last { (len, value) } else { (DEEPER, 0) };
            let suffix = Self::suffix(prefix, level) & mask32(len.min(S::WINDOWS[level]));
            lists[level].set(suffix, len, value)?;
        }
        for level in levels {
            let (routes, cover) = (std::mem::take(&mut lists[level]), self.cover(prefix, level));
            self.add_chunk(prefix, level, Chunk { routes, cover, ..Chunk::default() });
        }
        Ok(())
    }

    /// Withdraws a longer route, which its chunk's list has at `at`.
    pub(super) fn unset_long(
        &mut self,
        prefix: u128,
        len: u8,
        level: usize,
        at: Result<usize, usize>,
    ) -> Result<(), FibError> {
        // Chunks in which nothing else is go with it: those from `first` on.
        let mut first = level + 1;
        while let Some(above) = first.checked_sub(1)
            && self.chunk(prefix, above).is_some_and(|chunk| chunk.routes.entries().len() == 1)
        {
            first = above;
        }
        self.attempt(|writer| {
            for level in first..=level {
                let tree = writer.chunk(prefix, level).map_or(0, |chunk| chunk.tree);
                writer.unlink(level, tree)?;
            }
            let Some(above) = first.checked_sub(1) else {
                let cover = writer.chunk(prefix, 0).map_or(0, |chunk| chunk.cover);
                let tree = writer.uniform(0, cover)?;
                return writer.finish(prefix, 0, Some(tree));
            };
            let Some(id) = writer.find(prefix, above) else { return Ok(()) };
            let place =
                if above == level { (len - S::STARTS[level], at) } else { writer.mark(id, prefix, above) };
            writer.edit(id, prefix, above, place, None)
        })?;
        (first..=level).for_each(|above| self.remove_chunk(prefix, above));
        Ok(())
    }
}
