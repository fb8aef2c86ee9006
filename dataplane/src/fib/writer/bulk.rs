//! Many routes at once: all lists first, then every tree once.

use super::{Writer, top};
use crate::fib::FibError;
use crate::fib::chunks::Chunk;
use crate::fib::routes::{Value, mask32};
use crate::fib::shape::Shape;

impl<S: Shape> Writer<S> {
    /// Announces many routes, none of them the default route, sorted by (prefix, length), the last of equal ones
    /// winning.
    pub(in crate::fib) fn load(&mut self, routes: &[(u128, u8, Value)]) -> Result<(), FibError> {
        if routes.len() < 64 || routes.len() < self.len / 8 {
            let worst: usize = routes.len() * 2 * S::most_words(0, 4);
            self.memory.ensure(worst, routes.len() * 4)?;
            return routes
                .iter()
                .try_for_each(|&(prefix, len, value)| self.change(prefix, len, Some(value)).map(|_| ()));
        }
        self.ensure_load(routes)?;
        let (mut longs, mut replaced) = (Vec::new(), Vec::new());
        for group in routes.chunk_by(|a, b| Self::key(a.0, 0) == Self::key(b.0, 0)) {
            let mut first_level = false;
            for &(prefix, len, value) in group {
                match Self::level(len) {
                    None => {
                        self.shape.hold(&mut self.memory, prefix, len, value)?;
                        match self.short.set(top(prefix), len, value) {
                            Some(old) => replaced.push((prefix, len, old)),
                            None => self.len += 1,
                        }
                    }
                    Some(0) => first_level = true,
                    Some(_) => longs.push((prefix, len, value)),
                }
            }
            if first_level {
                self.merge_chunk(group)?;
            }
        }
        self.rebuild_all()?;
        for (prefix, len, old) in replaced {
            self.shape.release(&mut self.memory, prefix, len, old);
        }
        self.memory.retire();
        longs.iter().try_for_each(|&(prefix, len, value)| self.change(prefix, len, Some(value)).map(|_| ()))
    }

    fn ensure_load(&mut self, routes: &[(u128, u8, Value)]) -> Result<(), FibError> {
        let (mut words, mut blocks, mut chunks) = (0, 1 << 10, 0);
        for group in routes.chunk_by(|a, b| Self::key(a.0, 0) == Self::key(b.0, 0)) {
            let longer = group.iter().filter(|route| Self::level(route.1).is_some()).count();
            if longer == 0 {
                continue;
            }
            let deeper = group.iter().filter(|route| Self::level(route.1) > Some(0)).count();
            let had = self.chunk(group[0].0, 0).map_or(0, |chunk| chunk.routes.entries().len());
            words += S::most_words(0, had + longer) + deeper * 2 * S::most_words(0, 4);
            // What is new unlinks nothing but a shared tree.
            blocks += if had > 0 { S::most_blocks(had) } else { 1 } + deeper * 4;
            chunks += usize::from(had == 0) + deeper;
        }
        self.chunks.reserve(chunks)?;
        // Chunks that are there already, and whose cover may change.
        for (key, chunk) in self.chunks.iter().filter(|(key, _)| key.trailing_zeros() >= 8) {
            let count = chunk.routes.entries().len();
            let (more_words, more_blocks) = self.most_below(key, 0, chunk.routes.entries());
            words += S::most_words(0, count) + more_words;
            blocks += S::most_blocks(count.max(chunk.built as usize)) + more_blocks;
        }
        self.memory.ensure(words, blocks)
    }

    /// Adds the routes of the first level in `group`, all of one chunk, to its list.
    fn merge_chunk(&mut self, group: &[(u128, u8, Value)]) -> Result<(), FibError> {
        let prefix = group[0].0;
        let firsts = group.iter().filter(|route| Self::level(route.1) == Some(0));
        let mut before = None;
        for &(prefix, len, value) in firsts.clone() {
            let there = self
                .chunk(prefix, 0)
                .is_some_and(|chunk| chunk.routes.get(Self::suffix(prefix, 0), len - S::STARTS[0]).is_some());
            if !there && before != Some((prefix, len)) {
                self.shape.hold(&mut self.memory, prefix, len, value)?;
            }
            before = Some((prefix, len));
        }
        let id = self.find(prefix, 0).unwrap_or_else(|| self.add_chunk(prefix, 0, Chunk::default()));
        let chunk = &mut self.chunks[id];
        // No cover is like this: the tree is built when the whole root is gone through.
        chunk.cover = Value::MAX;
        chunk.routes.reserve(firsts.clone().count())?;
        self.len += chunk
            .routes
            .merge(firsts.map(|&(prefix, len, value)| (Self::suffix(prefix, 0), len - S::STARTS[0], value)));
        Ok(())
    }

    /// Goes through the whole root after a load.
    fn rebuild_all(&mut self) -> Result<(), FibError> {
        let shift = 32 - S::STARTS[0];
        let mut spans = Vec::new();
        let mut open: Vec<(u32, Value)> = vec![(u32::MAX, 0)];
        let mut next = 0u64;
        for (start, len, value) in self.short.under(0, 0, u32::MAX) {
            while let Some(&(end, value)) = open.last().filter(|(end, _)| *end < start) {
                if next <= u64::from(end) {
                    spans.push(((next >> shift) as u32, end >> shift, value));
                    next = u64::from(end) + 1;
                }
                open.pop();
            }
            if next < u64::from(start) {
                spans.push((
                    (next >> shift) as u32,
                    (start - 1) >> shift,
                    open.last().map_or(0, |open| open.1),
                ));
                next = u64::from(start);
            }
            open.push((start | !mask32(len), value));
        }
        for &(end, value) in open.iter().rev() {
            if next <= u64::from(end) {
                spans.push(((next >> shift) as u32, end >> shift, value));
                next = u64::from(end) + 1;
            }
        }
        spans.into_iter().try_for_each(|(first, last, value)| self.fill(first, last, value))
    }
}
