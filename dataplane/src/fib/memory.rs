//! A table's memory as its writer sees it: blocks are allocated and filled, unlinked after a newer one has been
//! published, and given back once no reader can still hold them.

use std::collections::{HashMap, VecDeque};
use std::hash::{BuildHasherDefault, Hasher};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::FibError;
use super::arena::Arena;
use super::pages::Pages;
use super::routes::Value;
use super::sweep::Run;
use crate::grace::GracePeriod;

/// How many blocks may wait before a change looks whether they can be freed: asking costs a look at every worker.
const PATIENCE: usize = 64;
/// From this many words on, a table asks for huge pages.
const LARGE: usize = 1 << 17;

/// A 32-bit word: what links one block to the next. The family's shape knows where it is.
#[derive(Clone, Copy, Debug)]
pub(super) struct Cell(pub(super) usize);

/// A block that is waiting for its grace period.
struct Retired {
    ticket: u64,
    offset: u32,
    words: u32,
}

/// A hash of a value. Values are control's own numbers, which nobody else chooses, so one multiplication will do.
#[derive(Default)]
struct ByValue(u64);

impl Hasher for ByValue {
    fn write_u32(&mut self, value: u32) {
        // The table takes its bits from both ends.
        let product = u64::from(value).wrapping_mul(0x9E37_79B9_7F4A_7C15);
        self.0 = product ^ product >> 32;
    }

    fn write(&mut self, bytes: &[u8]) {
        for &byte in bytes {
            self.write_u32(self.0 as u32 ^ u32::from(byte));
        }
    }

    fn finish(&self) -> u64 {
        self.0
    }
}

pub(super) struct Memory {
    pages: Arc<Pages>,
    /// The first 32-bit word that blocks may use, where they are in 32-bit words.
    first: usize,
    arena: Arena,
    grace: Arc<dyn GracePeriod>,
    /// Unlinked by the change under way, with no ticket yet.
    unlinked: Vec<(u32, u32)>,
    retired: VecDeque<Retired>,
    /// The blocks that stand for one value throughout: handle, and how many links lead there.
    uniform: HashMap<Value, (u32, usize), BuildHasherDefault<ByValue>>,
    slots: Slots,
    /// Room for the runs of a part of a tree that is built again.
    runs: Vec<Run>,
}

/// Equal parts of a root, of which few are in use.
#[derive(Default)]
struct Slots {
    free: Vec<u32>,
    next: u32,
}

/// Marks a retired slot, which has no size of its own.
const SLOT: u32 = 0;

impl Memory {
    /// Blocks go to the 64-bit words of the pages, or, where there are none, to the 32-bit words from `first` on,
    /// two for each.
    /// The last `margin` 64-bit words are left free.
    pub(super) fn new(pages: Arc<Pages>, first: usize, margin: usize, grace: Arc<dyn GracePeriod>) -> Self {
        let words =
            if pages.words().is_empty() { (pages.heads().len() - first) / 2 } else { pages.words().len() };
        let arena = Arena::new(words - margin);
        Self {
            pages,
            first,
            arena,
            grace,
            unlinked: Vec::new(),
            retired: VecDeque::new(),
            uniform: HashMap::default(),
            slots: Slots::default(),
            runs: Vec::new(),
        }
    }

    pub(super) fn pages(&self) -> &Pages {
        &self.pages
    }

    pub(super) fn words(&self) -> &[AtomicU64] {
        self.pages.words()
    }

    /// Makes sure that blocks of `words` words in all can be allocated, and `blocks` unlinked, without an error.
    pub(super) fn ensure(&mut self, words: usize, blocks: usize) -> Result<(), FibError> {
        let bytes = blocks * size_of::<Retired>();
        self.retired.try_reserve(blocks + self.unlinked.len()).map_err(|_| FibError::Memory { bytes })?;
        self.unlinked.try_reserve(blocks).map_err(|_| FibError::Memory { bytes })?;
        while !self.arena.has_room(words) {
            self.grow()?;
        }
        Ok(())
    }

    /// Makes sure that a part of a tree with this many blocks can be built again without an error.
    pub(super) fn ensure_parts(&mut self, blocks: usize) -> Result<(), FibError> {
        // A tree has no more runs than it can have blocks.
        let bytes = blocks * size_of::<Run>();
        self.runs.try_reserve(blocks).map_err(|_| FibError::Memory { bytes })?;
        let bytes = blocks * size_of::<(Value, (u32, usize))>();
        self.uniform.try_reserve(blocks).map_err(|_| FibError::Memory { bytes })?;
        Ok(())
    }

    /// An empty list with room for the runs of any tree that was asked for: give it [back](Self::return_runs).
    pub(super) fn take_runs(&mut self) -> Vec<Run> {
        std::mem::take(&mut self.runs)
    }

    /// Takes the list back, and what is in it is gone.
    pub(super) fn return_runs(&mut self, mut runs: Vec<Run>) {
        runs.clear();
        self.runs = runs;
    }

    /// A block of `words` words, at most 2048.
    pub(super) fn alloc(&mut self, words: usize) -> Result<u32, FibError> {
        loop {
            match self.arena.alloc(words) {
                Some(offset) => return Ok(offset),
                None => self.grow()?,
            }
        }
    }

    fn grow(&mut self) -> Result<(), FibError> {
        let new = self.arena.next();
        let start = if self.pages.words().is_empty() { self.first } else { self.pages.heads().len() } * 4;
        self.pages.commit(start + new.start * 8, start + new.end * 8)?;
        self.arena.grow()?;
        if new.end > LARGE {
            self.pages
                .prefer_huge(if self.pages.words().is_empty() { start } else { 0 }, start + new.end * 8);
        }
        Ok(())
    }

    /// Reads a 64-bit word. Relaxed: there is one writer, and it is us.
    pub(super) fn word(&self, at: usize) -> u64 {
        self.pages.words()[at].load(Ordering::Relaxed)
    }

    /// Fills a 64-bit word of a block that no reader has been led to yet; publishing the link to it orders this before.
    pub(super) fn set_word(&self, at: usize, word: u64) {
        self.pages.words()[at].store(word, Ordering::Relaxed);
    }

    /// Asks for the bookkeeping of a block.
    pub(super) fn prefetch(&self, offset: u32) {
        self.arena.prefetch(offset);
    }

    /// Notes a block that the change under way makes unreachable.
    pub(super) fn unlink(&mut self, offset: u32, words: usize) {
        self.unlinked.push((offset, words as u32));
    }

    /// A free slot below `most`.
    pub(super) fn slot(&mut self, most: u32) -> Result<u32, FibError> {
        let bytes = size_of::<u32>() * (self.slots.next as usize + 1);
        // Room for all of them to come back.
        self.slots.free.try_reserve(self.slots.next as usize + 1).map_err(|_| FibError::Memory { bytes })?;
        if let Some(slot) = self.slots.free.pop() {
            return Ok(slot);
        }
        let slot = self.slots.next;
        if slot >= most {
            return Err(FibError::Memory { bytes });
        }
        self.slots.next += 1;
        Ok(slot)
    }

    /// Takes back a slot that no reader has been led to.
    pub(super) fn return_slot(&mut self, slot: u32) {
        // `slot` made room for all of them.
        self.slots.free.push(slot);
    }

    /// Notes a slot that the change under way makes unreachable.
    pub(super) fn unlink_slot(&mut self, slot: u32) {
        self.unlinked.push((slot, SLOT));
    }

    /// Ends a change: what it unlinked is freed after a grace period from now on.
    pub(super) fn retire(&mut self) {
        if !self.unlinked.is_empty() {
            let ticket = self.grace.ticket();
            let retired = self.unlinked.drain(..).map(|(offset, words)| Retired { ticket, offset, words });
            self.retired.extend(retired);
        }
        if self.retired.len() > PATIENCE {
            self.reclaim();
        }
        self.pages.set_used(self.arena.used());
    }

    /// Frees what no reader can hold any more.
    pub(super) fn reclaim(&mut self) {
        let mut passed = None;
        while let Some(&Retired { ticket, offset, words }) = self.retired.front() {
            if passed != Some(ticket) && !self.grace.has_passed(ticket) {
                break;
            }
            passed = Some(ticket);
            if words == SLOT {
                self.slots.free.push(offset);
            } else {
                self.arena.free(offset, words as usize);
            }
            self.retired.pop_front();
        }
        self.pages.set_used(self.arena.used());
    }

    /// Whether all that is allocated are `blocks` words in the first buddy block, and the rest is whole again.
    #[cfg(test)]
    pub(super) fn is_as_new(&self, blocks: usize) -> bool {
        self.retired.is_empty()
            && self.uniform.len() == 1
            && self.arena.used() == blocks
            && self.arena.is_merged()
    }

    /// The shared block of one value, which is built if there is none yet. Link it by [`link_uniform`].
    ///
    /// [`link_uniform`]: Self::link_uniform
    pub(super) fn uniform(
        &mut self,
        value: Value,
        build: impl FnOnce(&mut Self) -> Result<u32, FibError>,
    ) -> Result<u32, FibError> {
        if let Some(&(handle, _)) = self.uniform.get(&value) {
            return Ok(handle);
        }
        let bytes = size_of::<(Value, (u32, usize))>();
        self.uniform.try_reserve(1).map_err(|_| FibError::Memory { bytes })?;
        let handle = build(self)?;
        self.uniform.insert(value, (handle, 0));
        Ok(handle)
    }

    /// Counts `links` more to the shared block of a value.
    pub(super) fn link_uniform(&mut self, value: Value, links: usize) {
        if let Some((_, count)) = self.uniform.get_mut(&value) {
            *count += links;
        }
    }

    /// Counts `links` fewer. True when there is none left: the caller unlinks the block.
    pub(super) fn unlink_uniform(&mut self, value: Value, links: usize) -> bool {
        let Some((_, count)) = self.uniform.get_mut(&value) else { return false };
        *count -= links;
        let last = *count == 0;
        if last {
            self.uniform.remove(&value);
        }
        last
    }

    /// Bytes of the control side's bookkeeping.
    pub(super) fn bookkeeping(&self) -> usize {
        self.arena.bookkeeping()
            + self.retired.capacity() * size_of::<Retired>()
            + self.unlinked.capacity() * size_of::<(u32, u32)>()
            + self.runs.capacity() * size_of::<Run>()
            + self.uniform.capacity() * size_of::<(Value, (u32, usize))>()
    }
}
