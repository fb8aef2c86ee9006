//! Many routes at once: every tree is built once.

use super::Writer;
use crate::fib::FibError;
use crate::fib::chunks::Chunk;
use crate::fib::routes::{Routes, Value};
use crate::fib::shape::Shape;

/// A route: the prefix, left-aligned, its length, and its value.
type Route = (u128, u8, Value);

impl<S: Shape> Writer<S> {
    /// Announces many routes, none of them the default route, sorted by (prefix, length), the last of equal ones
    /// winning.
    pub(in crate::fib) fn load(&mut self, routes: &[Route]) -> Result<(), FibError> {
        // The short ones first, which then cover the chunks from the beginning; what is deeper than a chunk's list last.
        let of = |wanted: fn(Option<usize>) -> bool| {
            routes.iter().filter(move |route| wanted(Self::level(route.1)))
        };
        of(|level| level.is_none()).try_for_each(|route| self.load_one(route))?;
        for group in routes.chunk_by(|a, b| Self::key(a.0, 0) == Self::key(b.0, 0)) {
            let firsts = || group.iter().filter(|route| Self::level(route.1) == Some(0));
            let had = self.chunk(group[0].0, 0).map_or(0, |chunk| chunk.routes.entries().len());
            if firsts().count() > had / 8 {
                self.load_chunk(group[0].0, firsts())?;
            } else {
                firsts().try_for_each(|route| self.load_one(route))?;
            }
        }
        self.memory.retire();
        of(|level| level > Some(0)).try_for_each(|route| self.load_one(route))
    }

    fn load_one(&mut self, &(prefix, len, value): &Route) -> Result<(), FibError> {
        self.change(prefix, len, Some(value)).map(|_| ())
    }

    /// Adds routes of one chunk of the first level.
    fn load_chunk<'a>(
        &mut self,
        prefix: u128,
        routes: impl Iterator<Item = &'a Route> + Clone,
    ) -> Result<(), FibError> {
        let count = routes.clone().count();
        self.ensure_chunk(prefix, count)?;
        // For a chunk that is not there yet.
        let mut list = Routes::default();
        if self.find(prefix, 0).is_none() {
            list.reserve(count)?;
        }
        let mut before = None;
        for &(prefix, len, value) in routes.clone() {
            // Only the first can need memory.
            if before != Some((prefix, len)) && self.get(prefix, len).is_none() {
                self.shape.hold(&mut self.memory, prefix, len, value)?;
            }
            before = Some((prefix, len));
        }
        let id = self.find(prefix, 0).unwrap_or_else(|| {
            let cover = self.cover(prefix, 0);
            self.add_chunk(prefix, 0, Chunk { routes: list, cover, ..Chunk::default() })
        });
        let routes = routes.map(|&(prefix, len, value)| (Self::suffix(prefix, 0), len - S::STARTS[0], value));
        self.len += self.chunks[id].routes.merge(routes);
        let old = self.shape.root(&self.memory, Self::index(prefix));
        let tree = self.build(id, prefix, 0)?;
        self.shape.set_root(&self.memory, Self::index(prefix), tree);
        self.unlink(0, old);
        Ok(())
    }

    /// Makes sure that adding this many routes to a chunk cannot fail half-way.
    fn ensure_chunk(&mut self, prefix: u128, count: usize) -> Result<(), FibError> {
        self.chunks.reserve(1)?;
        let (mut words, mut blocks, mut most) = (S::most_words(0, count), 8, count);
        if let Some(id) = self.find(prefix, 0) {
            self.chunks[id].routes.reserve(count)?;
            let chunk = &self.chunks[id];
            let had = chunk.routes.entries().len();
            let (more_words, more_blocks) = self.most_below(prefix, 0, chunk.routes.entries());
            words = S::most_words(0, had + count) + more_words;
            blocks += S::most_blocks(had.max(chunk.built as usize)) + more_blocks;
            most += had;
        }
        self.ensure_runs((2 * most + 3).max(blocks).max(260))?;
        self.memory.ensure_parts(2 * most + 3)?;
        self.memory.ensure(words, blocks)
    }
}
