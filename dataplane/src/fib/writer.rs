//! The control side of a table, the same for both families: which blocks a change of a route touches, and in
//! which order they are built, published and retired.
//!
//! Addresses are left-aligned in 128 bits. The first bits of one index the root; what is under an entry of the
//! root is a *chunk* of level 0 with its own sorted list of routes, from which its *tree* of blocks is built.
//! Routes longer than a level's window live in a chunk of the next level, whose tree hangs in its parent's.
//!
//! Every change first makes sure of the memory that it can need, so that it fails before anything has changed.

use std::collections::HashMap;
use std::sync::Arc;

use super::FibError;
use super::memory::{Cell, Memory};
use super::pages::Pages;
use super::routes::{Entry, Routes, ShortRoutes, Value, mask32};
use super::sweep::{Goal, Run, sweep};
use crate::grace::GracePeriod;

/// How one family lays its blocks out.
pub(super) trait Shape {
    /// Where each level's window begins, in bits from the left; the first is what indexes the root.
    const STARTS: &'static [u8];
    /// How many bits each level's window has. A deeper chunk hangs at a prefix that is a full window long.
    const WINDOWS: &'static [u8];
    /// Whether a tree that is the same throughout is also shared when it is a deeper chunk's.
    const DEEP_UNIFORM: bool;

    /// The most words that a tree of this many routes can take.
    fn most_words(level: usize, routes: usize) -> usize;
    /// Builds the blocks for runs that cover the whole window, and returns their handle.
    fn build(memory: &mut Memory, level: usize, runs: &[Run]) -> Result<u32, FibError>;
    /// The value of a tree that is the same throughout, of which there is one for each value.
    fn uniform_value(memory: &Memory, level: usize, tree: u32) -> Option<Value>;
    /// Notes all blocks of a tree, but not of the deeper trees in it, as unlinked.
    fn unlink(memory: &mut Memory, level: usize, tree: u32);
    /// The cell that leads from a tree to the deeper tree at `suffix`.
    fn link(memory: &Memory, level: usize, tree: u32, suffix: u32) -> Option<Cell>;
    /// Publishes a deeper tree by its cell: readers that see the link see what it leads to.
    fn publish(memory: &Memory, cell: Cell, tree: u32);
    /// Replaces the runs of `first..=last` in a large tree without rebuilding all of it, where that can be done.
    fn splice(
        memory: &mut Memory,
        level: usize,
        tree: u32,
        span: (u32, u32),
        runs: &[Run],
    ) -> Result<Splice, FibError>;

    /// The tree under an entry of the root.
    fn root(&self, memory: &Memory, chunk: u32) -> u32;
    /// Publishes the tree under an entry of the root.
    fn set_root(&self, memory: &Memory, chunk: u32, tree: u32);
    /// How many entries of the root, from `chunk` on, are one word and change together.
    fn span(&self, chunk: u32) -> u32;
    /// Prepares the root for one more route of this length, before it is added.
    fn hold(&mut self, memory: &mut Memory, prefix: u128, len: u8) -> Result<(), FibError>;
    /// Takes back a [`hold`](Self::hold), after the route is gone.
    fn release(&mut self, memory: &mut Memory, prefix: u128, len: u8);
}

/// What came of a [`Shape::splice`].
pub(super) enum Splice {
    /// Done, and published within the tree.
    Done,
    /// The tree has a new first block; the caller links it, and the old one is noted as unlinked.
    Tree(u32),
    /// It takes a rebuild.
    Rebuild,
}

struct Chunk {
    routes: Routes,
    /// The value of the longest route that covers the whole chunk.
    cover: Value,
    tree: u32,
    /// How many routes there were when the tree was last built as a whole.
    built: usize,
}

/// Lists up to this long are rebuilt as a whole for each change.
const SMALL: usize = 20;

pub(super) struct Writer<S> {
    shape: S,
    memory: Memory,
    short: ShortRoutes,
    chunks: HashMap<u128, Chunk>,
    len: usize,
    runs: Vec<Run>,
}

/// The first `len` bits set.
pub(super) fn mask128(len: u8) -> u128 {
    u128::MAX.checked_shl(128 - u32::from(len)).unwrap_or(0)
}

impl<S: Shape> Writer<S> {
    pub(super) fn new(shape: S, pages: Arc<Pages>, first: usize, grace: Arc<dyn GracePeriod>) -> Self {
        Self {
            shape,
            memory: Memory::new(pages, first, grace),
            short: ShortRoutes::default(),
            chunks: HashMap::new(),
            len: 0,
            runs: Vec::new(),
        }
    }

    /// Builds what an empty root, all zeros, leads to: the block at 0, for "follow the default route".
    pub(super) fn start(&mut self) -> Result<(), FibError> {
        let tree = self.uniform(0, 0)?;
        debug_assert_eq!(tree, 0);
        // The root's zeros are links that nobody counted.
        self.memory.link_uniform(0, usize::MAX / 2);
        Ok(())
    }

    /// Whether nothing is left of the routes that were ever here.
    #[cfg(test)]
    pub(super) fn is_as_new(&mut self, blocks: usize) -> bool {
        self.memory.reclaim();
        self.len == 0 && self.chunks.is_empty() && self.memory.is_as_new(blocks)
    }

    /// Bytes of the control side's own copy and bookkeeping.
    pub(super) fn control_bytes(&self) -> usize {
        // A B-tree's nodes are two thirds full or better, and a hash table's slots seven eighths or fewer.
        self.short.len() * (size_of::<u64>() + size_of::<Value>()) * 3 / 2
            + self.chunks.capacity() * (size_of::<(u128, Chunk)>() + 1)
            + self.chunks.values().map(|chunk| chunk.routes.bytes()).sum::<usize>()
            + self.memory.bookkeeping()
    }

    /// How many routes there are, the default route aside.
    pub(super) fn len(&self) -> usize {
        self.len
    }

    pub(super) fn get(&self, prefix: u128, len: u8) -> Option<Value> {
        match Self::level(len) {
            None => self.short.get(top(prefix), len),
            Some(level) => {
                let chunk = self.chunks.get(&Self::key(prefix, level))?;
                chunk.routes.get(Self::suffix(prefix, level), len - S::STARTS[level])
            }
        }
    }

    /// Announces or replaces a route, which is not the default route; returns the value it had.
    pub(super) fn insert(&mut self, prefix: u128, len: u8, value: Value) -> Result<Option<Value>, FibError> {
        let old = self.get(prefix, len);
        if old == Some(value) {
            return Ok(old);
        }
        match Self::level(len) {
            None => self.change_short(prefix, len, Some(value))?,
            Some(level) => {
                self.ensure_change(prefix, len, level)?;
                if old.is_none() {
                    self.shape.hold(&mut self.memory, prefix, len)?;
                }
                self.set_long(prefix, len, level, value)?;
            }
        }
        self.memory.retire();
        self.len += usize::from(old.is_none());
        Ok(old)
    }

    /// Withdraws a route, which is not the default route; returns the value it had.
    pub(super) fn remove(&mut self, prefix: u128, len: u8) -> Result<Option<Value>, FibError> {
        let Some(old) = self.get(prefix, len) else { return Ok(None) };
        match Self::level(len) {
            None => self.change_short(prefix, len, None)?,
            Some(level) => {
                self.ensure_change(prefix, len, level)?;
                self.unset_long(prefix, len, level)?;
                self.shape.release(&mut self.memory, prefix, len);
            }
        }
        self.memory.retire();
        self.len -= 1;
        Ok(Some(old))
    }

    /// Announces many routes, none of them the default route, sorted by (prefix, length), the last of equal ones
    /// winning.
    pub(super) fn load(&mut self, routes: &[(u128, u8, Value)]) -> Result<(), FibError> {
        if routes.len() < 64 || routes.len() < self.len / 8 {
            let worst: usize = routes.len() * 2 * S::most_words(0, 4);
            self.memory.ensure(worst, routes.len() * 4)?;
            return routes
                .iter()
                .try_for_each(|&(prefix, len, value)| self.insert(prefix, len, value).map(|_| ()));
        }
        self.ensure_load(routes)?;
        let mut longs = Vec::new();
        for group in routes.chunk_by(|a, b| Self::key(a.0, 0) == Self::key(b.0, 0)) {
            let mut first_level = false;
            for &(prefix, len, value) in group {
                match Self::level(len) {
                    None => {
                        if self.short.get(top(prefix), len).is_none() {
                            self.shape.hold(&mut self.memory, prefix, len)?;
                            self.len += 1;
                        }
                        self.short.set(top(prefix), len, value);
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
        self.memory.retire();
        longs.iter().try_for_each(|&(prefix, len, value)| self.insert(prefix, len, value).map(|_| ()))
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
            if let Some(chunk) = self.chunks.get(&Self::key(prefix, above)) {
                let found = chunk.routes.cover(Self::suffix(prefix, above), S::WINDOWS[above]);
                return found.unwrap_or(chunk.cover);
            }
        }
        self.short.cover(top(prefix), S::STARTS[0])
    }

    /// Makes sure that a change of one longer route cannot fail half-way.
    fn ensure_change(&mut self, prefix: u128, len: u8, level: usize) -> Result<(), FibError> {
        let bytes = S::STARTS.len() * size_of::<(u128, Chunk)>();
        self.chunks.try_reserve(S::STARTS.len()).map_err(|_| FibError::Memory { bytes })?;
        let (mut words, mut blocks) = (S::most_words(0, 1), 8);
        for above in 0..=level {
            let Some(chunk) = self.chunks.get_mut(&Self::key(prefix, above)) else {
                words += S::most_words(above, 2);
                continue;
            };
            chunk.routes.reserve(1)?;
            let count = chunk.routes.entries().len();
            words += S::most_words(above, count + 2);
            blocks += count + 2;
        }
        if let Some(chunk) = self.chunks.get(&Self::key(prefix, level)) {
            let first = Self::suffix(prefix, level);
            let len = len - S::STARTS[level];
            let last = first | !mask32(len);
            let (more_words, more_blocks) =
                self.most_below(prefix, level, chunk.routes.under(first, len, last));
            words += more_words;
            blocks += more_blocks;
        }
        self.memory.ensure(words, blocks)
    }

    /// The most words and blocks that rebuilding the chunks below these entries can take.
    fn most_below(&self, prefix: u128, level: usize, entries: &[Entry]) -> (usize, usize) {
        let (mut words, mut blocks) = (0, 0);
        for entry in entries.iter().filter(|entry| entry.is_deeper()) {
            let below = Self::below(prefix, level, entry.suffix());
            if let Some(chunk) = self.chunks.get(&Self::key(below, level + 1)) {
                let count = chunk.routes.entries().len();
                let (more_words, more_blocks) = self.most_below(below, level + 1, chunk.routes.entries());
                words += S::most_words(level + 1, count) + more_words;
                blocks += count + 1 + more_blocks;
            }
        }
        (words, blocks)
    }

    /// The first address of the deeper chunk at `suffix`.
    fn below(prefix: u128, level: usize, suffix: u32) -> u128 {
        prefix & mask128(S::STARTS[level]) | u128::from(suffix) << 96 >> S::STARTS[level]
    }

    fn set_long(&mut self, prefix: u128, len: u8, level: usize, value: Value) -> Result<(), FibError> {
        let key = Self::key(prefix, level);
        let (suffix, rel) = (Self::suffix(prefix, level), len - S::STARTS[level]);
        if let Some(chunk) = self.chunks.get_mut(&key) {
            chunk.routes.set(suffix, rel, value)?;
            return self.repaint(prefix, level, rel);
        }
        // New chunks, deepest first, each hanging in the next, up to one that exists or the root.
        let mut routes = Routes::default();
        routes.set(suffix, rel, value)?;
        for level in (0..=level).rev() {
            let cover = self.cover(prefix, level);
            self.chunks.insert(Self::key(prefix, level), Chunk { routes, cover, tree: 0, built: 0 });
            let tree = self.build(prefix, level)?;
            if level == 0 {
                let old = self.shape.root(&self.memory, Self::index(prefix));
                self.shape.set_root(&self.memory, Self::index(prefix), tree);
                self.unlink(0, old);
                return Ok(());
            }
            let above = level - 1;
            let suffix = Self::suffix(prefix, above) & mask32(S::WINDOWS[above]);
            if let Some(chunk) = self.chunks.get_mut(&Self::key(prefix, above)) {
                chunk.routes.set_deeper(suffix)?;
                return self.repaint(prefix, above, S::WINDOWS[above]);
            }
            routes = Routes::default();
            routes.set_deeper(suffix)?;
        }
        Ok(())
    }

    fn unset_long(&mut self, prefix: u128, len: u8, level: usize) -> Result<(), FibError> {
        let (suffix, rel) = (Self::suffix(prefix, level), len - S::STARTS[level]);
        let Some(chunk) = self.chunks.get_mut(&Self::key(prefix, level)) else { return Ok(()) };
        chunk.routes.unset(suffix, rel);
        if !chunk.routes.entries().is_empty() {
            return self.repaint(prefix, level, rel);
        }
        // Chunks that have become empty go, deepest first.
        for level in (0..=level).rev() {
            let Some(chunk) = self.chunks.remove(&Self::key(prefix, level)) else { return Ok(()) };
            if level == 0 {
                let tree = self.uniform(0, chunk.cover)?;
                self.shape.set_root(&self.memory, Self::index(prefix), tree);
                self.unlink(0, chunk.tree);
                return Ok(());
            }
            self.unlink(level, chunk.tree);
            let above = level - 1;
            let suffix = Self::suffix(prefix, above) & mask32(S::WINDOWS[above]);
            let Some(parent) = self.chunks.get_mut(&Self::key(prefix, above)) else { return Ok(()) };
            parent.routes.unset_deeper(suffix);
            if !parent.routes.entries().is_empty() {
                return self.repaint(prefix, above, S::WINDOWS[above]);
            }
        }
        Ok(())
    }

    /// Brings a chunk's tree up to date after the route of this prefix and length (within the window) changed.
    fn repaint(&mut self, prefix: u128, level: usize, len: u8) -> Result<(), FibError> {
        let Some(chunk) = self.chunks.get_mut(&Self::key(prefix, level)) else { return Ok(()) };
        let (old, count) = (chunk.tree, chunk.routes.entries().len());
        if count > SMALL && count > chunk.built / 4 {
            let first = Self::suffix(prefix, level) & mask32(len);
            let last = first | !mask32(len);
            let routes = std::mem::take(&mut chunk.routes);
            let cover = routes.cover(first, len).unwrap_or(chunk.cover);
            let runs = self.sweep(prefix, level, (first, last), cover, routes.under(first, len, last));
            if let Some(chunk) = self.chunks.get_mut(&Self::key(prefix, level)) {
                chunk.routes = routes;
            }
            let runs = runs?;
            let splice = S::splice(&mut self.memory, level, old, (first, last), &runs)?;
            self.runs = runs;
            match splice {
                Splice::Done => return Ok(()),
                Splice::Tree(tree) => {
                    if let Some(chunk) = self.chunks.get_mut(&Self::key(prefix, level)) {
                        chunk.tree = tree;
                    }
                    self.publish(prefix, level, tree);
                    return Ok(());
                }
                Splice::Rebuild => {}
            }
        }
        let tree = self.build(prefix, level)?;
        self.publish(prefix, level, tree);
        self.unlink(level, old);
        Ok(())
    }

    /// Builds a chunk's tree from its routes; the old tree is the caller's to unlink.
    fn build(&mut self, prefix: u128, level: usize) -> Result<u32, FibError> {
        let key = Self::key(prefix, level);
        let Some(chunk) = self.chunks.get_mut(&key) else { return Ok(0) };
        let (routes, cover) = (std::mem::take(&mut chunk.routes), chunk.cover);
        let runs = self.sweep(prefix, level, (0, u32::MAX), cover, routes.entries());
        let built = routes.entries().len();
        if let Some(chunk) = self.chunks.get_mut(&key) {
            chunk.routes = routes;
        }
        let runs = runs?;
        let tree = match runs.as_slice() {
            [Run { goal: Goal::Value(value), .. }] => self.uniform(level, *value),
            runs => S::build(&mut self.memory, level, runs),
        };
        self.runs = runs;
        let tree = tree?;
        if let Some(chunk) = self.chunks.get_mut(&key) {
            chunk.tree = tree;
            chunk.built = built;
        }
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
        let mut runs = std::mem::take(&mut self.runs);
        runs.clear();
        sweep(&mut runs, span, cover, entries, S::WINDOWS[level], |suffix, cover| {
            let below = Self::below(prefix, level, suffix);
            let Some(chunk) = self.chunks.get_mut(&Self::key(below, level + 1)) else { return Ok(0) };
            let old = chunk.tree;
            if chunk.cover == cover {
                return Ok(old);
            }
            chunk.cover = cover;
            let tree = self.build(below, level + 1)?;
            self.unlink(level + 1, old);
            Ok(tree)
        })?;
        Ok(runs)
    }

    /// Leads readers to a chunk's new tree.
    fn publish(&mut self, prefix: u128, level: usize, tree: u32) {
        if level == 0 {
            self.shape.set_root(&self.memory, Self::index(prefix), tree);
        } else if let Some(parent) = self.chunks.get(&Self::key(prefix, level - 1)) {
            let suffix = Self::suffix(prefix, level - 1);
            if let Some(cell) = S::link(&self.memory, level - 1, parent.tree, suffix) {
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
        let tree = self.memory.uniform(value, |memory| S::build(memory, 0, &[run]))?;
        self.memory.link_uniform(value, 1);
        Ok(tree)
    }

    /// Notes a tree as unlinked; a shared one when its last link goes.
    fn unlink(&mut self, level: usize, tree: u32) {
        match S::uniform_value(&self.memory, level, tree) {
            Some(value) => {
                if self.memory.unlink_uniform(value, 1) {
                    S::unlink(&mut self.memory, level, tree);
                }
            }
            None => S::unlink(&mut self.memory, level, tree),
        }
    }

    /// Changes a short route: every chunk that it covers and no longer short route does.
    fn change_short(&mut self, prefix: u128, len: u8, value: Option<Value>) -> Result<(), FibError> {
        let top_bits = top(prefix);
        let new = value.unwrap_or_else(|| self.short.cover(top_bits, len - 1));
        let shift = 32 - S::STARTS[0];
        let end = top_bits | !mask32(len);
        let mut spans = Vec::new();
        let mut next = u64::from(top_bits);
        for (start, nested, _) in self.short.under(top_bits, len, end) {
            if u64::from(start) >= next {
                if u64::from(start) > next {
                    spans.push(((next >> shift) as u32, (start - 1) >> shift));
                }
                next = u64::from(start | !mask32(nested)) + 1;
            }
        }
        if next <= u64::from(end) {
            spans.push(((next >> shift) as u32, end >> shift));
        }
        let is_new = self.short.get(top_bits, len).is_none();
        self.ensure_spans(&spans)?;
        if value.is_some() && is_new {
            self.shape.hold(&mut self.memory, prefix, len)?;
        }
        for &(first, last) in &spans {
            self.fill(first, last, new)?;
        }
        match value {
            Some(value) => {
                self.short.set(top_bits, len, value);
            }
            None => {
                self.short.unset(top_bits, len);
                self.shape.release(&mut self.memory, prefix, len);
            }
        }
        Ok(())
    }

    /// Makes sure that filling these spans of the root cannot fail half-way.
    fn ensure_spans(&mut self, spans: &[(u32, u32)]) -> Result<(), FibError> {
        let (mut words, mut blocks) = (S::most_words(0, 2), 8);
        for &(first, last) in spans {
            let mut chunk = first;
            loop {
                let span = self.shape.span(chunk);
                blocks += 1;
                if span == 1
                    && let Some(found) = self.chunks.get(&Self::chunk_key(chunk))
                {
                    let count = found.routes.entries().len();
                    let (more_words, more_blocks) =
                        self.most_below(Self::chunk_key(chunk), 0, found.routes.entries());
                    words += S::most_words(0, count) + more_words;
                    blocks += count + more_blocks;
                }
                if last - chunk < span {
                    break;
                }
                chunk += span;
            }
        }
        self.memory.ensure(words, blocks)
    }

    fn chunk_key(chunk: u32) -> u128 {
        u128::from(chunk) << (128 - S::STARTS[0])
    }

    /// Makes `value` the cover of the chunks `first..=last`, and rebuilds those with routes whose cover it was not.
    fn fill(&mut self, first: u32, last: u32, value: Value) -> Result<(), FibError> {
        let mut chunk = first;
        loop {
            let span = self.shape.span(chunk);
            let prefix = Self::chunk_key(chunk);
            let old = self.shape.root(&self.memory, chunk);
            match self.chunks.get_mut(&prefix) {
                Some(found) if span == 1 => {
                    if found.cover != value {
                        found.cover = value;
                        let tree = self.build(prefix, 0)?;
                        self.shape.set_root(&self.memory, chunk, tree);
                        self.unlink(0, old);
                    }
                }
                _ => {
                    if S::uniform_value(&self.memory, 0, old) != Some(value) {
                        let tree = self.uniform(0, value)?;
                        self.shape.set_root(&self.memory, chunk, tree);
                        self.unlink(0, old);
                    }
                }
            }
            if last - chunk < span {
                return Ok(());
            }
            chunk += span;
        }
    }

    fn ensure_load(&mut self, routes: &[(u128, u8, Value)]) -> Result<(), FibError> {
        let (mut words, mut blocks, mut chunks) = (0, 1 << 10, 0);
        for group in routes.chunk_by(|a, b| Self::key(a.0, 0) == Self::key(b.0, 0)) {
            let longer = group.iter().filter(|route| Self::level(route.1).is_some()).count();
            if longer == 0 {
                continue;
            }
            let deeper = group.iter().filter(|route| Self::level(route.1) > Some(0)).count();
            let had =
                self.chunks.get(&Self::key(group[0].0, 0)).map_or(0, |chunk| chunk.routes.entries().len());
            words += S::most_words(0, had + longer) + deeper * 2 * S::most_words(0, 4);
            blocks += had + 1 + deeper * 4;
            chunks += usize::from(had == 0) + deeper;
        }
        let bytes = chunks * size_of::<(u128, Chunk)>();
        self.chunks.try_reserve(chunks).map_err(|_| FibError::Memory { bytes })?;
        // Chunks that are there already, and whose cover may change.
        for (key, chunk) in self.chunks.iter().filter(|(key, _)| **key & 255 == 0) {
            let count = chunk.routes.entries().len();
            let (more_words, more_blocks) = self.most_below(*key, 0, chunk.routes.entries());
            words += S::most_words(0, count) + more_words;
            blocks += count + more_blocks;
        }
        self.memory.ensure(words, blocks)
    }

    /// Adds the routes of the first level in `group`, all of one chunk, to its list.
    fn merge_chunk(&mut self, group: &[(u128, u8, Value)]) -> Result<(), FibError> {
        let key = Self::key(group[0].0, 0);
        if !self.chunks.contains_key(&key) {
            // No cover is like this: the tree is built when the whole table is gone through.
            let tree = self.shape.root(&self.memory, Self::index(key));
            let chunk = Chunk { routes: Routes::default(), cover: Value::MAX, tree, built: 0 };
            self.chunks.insert(key, chunk);
        }
        let Some(chunk) = self.chunks.get_mut(&key) else { return Ok(()) };
        chunk.cover = Value::MAX;
        let firsts = group.iter().filter(|route| Self::level(route.1) == Some(0));
        chunk.routes.reserve(firsts.clone().count())?;
        let mut held = Vec::new();
        for &(prefix, len, _) in firsts.clone() {
            let new = chunk.routes.get(Self::suffix(prefix, 0), len - S::STARTS[0]).is_none();
            if new && held.last() != Some(&(prefix, len)) {
                held.push((prefix, len));
            }
        }
        self.len += chunk
            .routes
            .merge(firsts.map(|&(prefix, len, value)| (Self::suffix(prefix, 0), len - S::STARTS[0], value)));
        held.into_iter().try_for_each(|(prefix, len)| self.shape.hold(&mut self.memory, prefix, len))
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

/// The first 32 bits of a left-aligned address.
fn top(prefix: u128) -> u32 {
    (prefix >> 96) as u32
}
