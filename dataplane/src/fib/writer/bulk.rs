//! Many routes at once: every tree is built once.

use super::Writer;
use crate::fib::FibError;
use crate::fib::chunks::Chunk;
use crate::fib::memory::append;
use crate::fib::routes::{Routes, Value};
use crate::fib::shape::Shape;

/// A route: the prefix, left-aligned, its length, its value, and how many came before it.
type Route = (u128, u8, Value, u32);

/// Routes to load, none of them the default route.
#[derive(Default)]
pub(in crate::fib) struct Load(Vec<Route>);

impl Load {
    /// Adds one: the prefix, left-aligned, its length, and its value.
    pub(in crate::fib) fn add(&mut self, prefix: u128, len: u8, value: Value) -> Result<(), FibError> {
        let count = self.0.len() as u32;
        append(&mut self.0, (prefix, len, value, count))
    }
}

impl<S: Shape> Writer<S> {
    /// Announces many routes, the last of equal ones winning.
    pub(in crate::fib) fn load(&mut self, Load(mut routes): Load) -> Result<(), FibError> {
        // Without the memory that a stable sort takes.
        routes.sort_unstable_by_key(|&(prefix, len, _, count)| (prefix, len, count));
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

    fn load_one(&mut self, &(prefix, len, value, _): &Route) -> Result<(), FibError> {
        self.change(prefix, len, Some(value)).map(|_| ())
    }

    /// Adds routes of one chunk of the first level.
    fn load_chunk<'a>(
        &mut self,
        prefix: u128,
        routes: impl Iterator<Item = &'a Route> + Clone,
    ) -> Result<(), FibError> {
        let Some(&(_, len, value, _)) = routes.clone().next() else { return Ok(()) };
        let relative =
            routes.map(|&(prefix, len, value, _)| (Self::suffix(prefix, 0), len - S::STARTS[0], value));
        let none = Routes::default();
        let old = self.chunk(prefix, 0).map_or(&none, |chunk| &chunk.routes);
        let mut routes = old.merged(relative)?;
        let new = routes.entries().len() - old.entries().len();
        self.chunks.reserve(1)?;
        // What one route of a chunk holds others hold too.
        for held in 0..new {
            if let Err(error) = self.hold(prefix, len, value) {
                (0..held).for_each(|_| self.shape.release(&mut self.memory, prefix, len, value));
                return Err(error);
            }
        }
        let found = self.find(prefix, 0);
        let id = found.unwrap_or_else(|| {
            let cover = self.cover(prefix, 0);
            let tree = self.shape.root(&self.memory, Self::index(prefix));
            self.add_chunk(prefix, 0, Chunk { cover, tree, ..Chunk::default() })
        });
        std::mem::swap(&mut self.chunks[id].routes, &mut routes);
        let done = self.attempt(|writer| {
            let tree = writer.rebuild(id, prefix, 0, writer.chunks[id].cover)?;
            writer.finish(prefix, 0, Some(tree))
        });
        if done.is_ok() {
            self.len += new;
            return Ok(());
        }
        std::mem::swap(&mut self.chunks[id].routes, &mut routes);
        if found.is_none() {
            self.remove_chunk(prefix, 0);
        }
        (0..new).for_each(|_| self.shape.release(&mut self.memory, prefix, len, value));
        done
    }
}
