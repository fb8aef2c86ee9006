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

/// The block that stands for one value throughout, of which there is one for each value.
struct Shared {
    handle: u32,
    /// Where it is, and how many words it has.
    block: (u32, u32),
    links: i64,
}

pub(super) struct Memory {
    pages: Arc<Pages>,
    /// The first 32-bit word that blocks may use, where they are in 32-bit words.
    first: usize,
    arena: Arena,
    grace: Arc<dyn GracePeriod>,
    // The change under way: it only adds to these until it is sure of all that it needs.
    /// Blocks that it has built.
    built: Vec<(u32, u32)>,
    /// Links to shared blocks that it gains and loses.
    links: Vec<(Value, i64)>,
    /// Cells that will lead to what it has built.
    stores: Vec<(Cell, u32)>,
    /// Blocks that it makes unreachable. Those before `ended` are of changes that are done, with no ticket yet.
    unlinked: Vec<(u32, u32)>,
    ended: usize,
    retired: VecDeque<Retired>,
    shared: HashMap<Value, Shared, BuildHasherDefault<ByValue>>,
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
/// How many slots and shared blocks can be unlinked beside what a change has noted.
const MORE: usize = 2;

/// Appends, or fails for want of memory.
pub(super) fn append<T>(list: &mut Vec<T>, item: T) -> Result<(), FibError> {
    if list.len() == list.capacity() {
        list.try_reserve(1).map_err(|_| FibError::Memory { bytes: (list.len() + 1) * size_of::<T>() })?;
    }
    list.push(item);
    Ok(())
}

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
            built: Vec::new(),
            links: Vec::new(),
            stores: Vec::new(),
            unlinked: Vec::new(),
            ended: 0,
            retired: VecDeque::new(),
            shared: HashMap::default(),
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

    /// Makes sure that the change under way, all of which is noted now, can be [done](Self::commit).
    pub(super) fn secure(&mut self) -> Result<(), FibError> {
        // A shared block for each link that is lost, and what is released afterwards.
        let more = self.links.len() + MORE;
        let blocks = self.unlinked.len() + more;
        let error = FibError::Memory { bytes: blocks * size_of::<Retired>() };
        self.unlinked.try_reserve(more).map_err(|_| error)?;
        self.retired.try_reserve(blocks).map_err(|_| error)
    }

    /// Does the change under way, which is [secured](Self::secure): publishes its cells, counts its links, and notes what
    /// it unlinks.
    pub(super) fn commit(&mut self, publish: impl Fn(&Self, Cell, u32)) {
        for &(cell, tree) in &self.stores {
            publish(self, cell, tree);
        }
        for &(value, links) in &self.links {
            if let Some(shared) = self.shared.get_mut(&value) {
                shared.links += links;
            }
        }
        for at in 0..self.links.len() {
            self.drop_unused(self.links[at].0);
        }
        self.built.clear();
        self.links.clear();
        self.stores.clear();
        self.ended = self.unlinked.len();
    }

    /// Takes the change under way back: nothing of it has been published.
    pub(super) fn undo(&mut self) {
        for (value, _) in self.links.drain(..) {
            if self.shared.get(&value).is_some_and(|shared| shared.links == 0) {
                self.shared.remove(&value);
            }
        }
        for (offset, words) in self.built.drain(..) {
            self.arena.free(offset, words as usize);
        }
        self.stores.clear();
        self.unlinked.truncate(self.ended);
    }

    /// Unlinks the shared block of a value if nothing leads there. `secure` made room.
    fn drop_unused(&mut self, value: Value) {
        if self.shared.get(&value).is_some_and(|shared| shared.links == 0)
            && let Some(shared) = self.shared.remove(&value)
        {
            self.unlinked.push(shared.block);
        }
    }

    /// An empty list for runs: give it [back](Self::return_runs).
    pub(super) fn take_runs(&mut self) -> Vec<Run> {
        std::mem::take(&mut self.runs)
    }

    /// Takes the list back, and what is in it is gone.
    pub(super) fn return_runs(&mut self, mut runs: Vec<Run>) {
        runs.clear();
        self.runs = runs;
    }

    /// A block of `words` words, at most 2048, for the change under way.
    pub(super) fn alloc(&mut self, words: usize) -> Result<u32, FibError> {
        let offset = loop {
            match self.arena.alloc(words) {
                Some(offset) => break offset,
                None => self.grow().or_else(|error| if self.reclaim() { Ok(()) } else { Err(error) })?,
            }
        };
        append(&mut self.built, (offset, words as u32)).inspect_err(|_| self.arena.free(offset, words))?;
        Ok(offset)
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
    pub(super) fn unlink(&mut self, offset: u32, words: usize) -> Result<(), FibError> {
        append(&mut self.unlinked, (offset, words as u32))
    }

    /// Notes a cell that the change under way will lead elsewhere.
    pub(super) fn store(&mut self, cell: Cell, tree: u32) -> Result<(), FibError> {
        append(&mut self.stores, (cell, tree))
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

    /// Notes a slot as unreachable, after a change that was secured.
    pub(super) fn unlink_slot(&mut self, slot: u32) {
        self.unlinked.push((slot, SLOT));
        self.ended = self.unlinked.len();
    }

    /// Ends a change: what it unlinked is freed after a grace period from now on.
    pub(super) fn retire(&mut self) {
        if !self.unlinked.is_empty() {
            let ticket = self.grace.ticket();
            let retired = self.unlinked.drain(..).map(|(offset, words)| Retired { ticket, offset, words });
            self.retired.extend(retired);
            self.ended = 0;
        }
        if self.retired.len() > PATIENCE {
            self.reclaim();
        }
        self.pages.set_used(self.arena.used());
    }

    /// Frees what no reader can hold any more; whether there was anything.
    pub(super) fn reclaim(&mut self) -> bool {
        let (mut passed, waiting) = (None, self.retired.len());
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
        self.retired.len() < waiting
    }

    /// Bytes that the arena has grown to.
    #[cfg(test)]
    pub(super) fn committed(&self) -> usize {
        self.arena.next().start * 8
    }

    /// Whether all that is allocated are `blocks` words in the first buddy block, and the rest is whole again.
    #[cfg(test)]
    pub(super) fn is_as_new(&self, blocks: usize) -> bool {
        self.retired.is_empty()
            && self.shared.len() == 1
            && self.arena.used() == blocks
            && self.arena.is_merged()
    }

    /// The shared block of one value, which is built if there is none yet, with one link more.
    pub(super) fn uniform(
        &mut self,
        value: Value,
        build: impl FnOnce(&mut Self) -> Result<u32, FibError>,
    ) -> Result<u32, FibError> {
        self.link(value, 1)?;
        if let Some(shared) = self.shared.get(&value) {
            return Ok(shared.handle);
        }
        let bytes = size_of::<(Value, Shared)>();
        self.shared.try_reserve(1).map_err(|_| FibError::Memory { bytes })?;
        let handle = build(self)?;
        let block = self.built.last().copied().unwrap_or_default();
        self.shared.insert(value, Shared { handle, block, links: 0 });
        Ok(handle)
    }

    /// The shared block of a value, if there is one.
    pub(super) fn shared_tree(&self, value: Value) -> Option<u32> {
        self.shared.get(&value).map(|shared| shared.handle)
    }

    /// Notes that the change under way adds so many links to the shared block of a value, or takes them away.
    pub(super) fn link(&mut self, value: Value, links: i64) -> Result<(), FibError> {
        match self.links.last_mut() {
            Some(last) if last.0 == value => last.1 += links,
            _ => append(&mut self.links, (value, links))?,
        }
        Ok(())
    }

    /// Takes links to the shared block of a value away, after a change that was secured.
    pub(super) fn unlink_now(&mut self, value: Value, links: i64) {
        if let Some(shared) = self.shared.get_mut(&value) {
            shared.links -= links;
            self.drop_unused(value);
            self.ended = self.unlinked.len();
        }
    }

    /// Bytes of the control side's bookkeeping.
    pub(super) fn bookkeeping(&self) -> usize {
        self.arena.bookkeeping()
            + self.retired.capacity() * size_of::<Retired>()
            + (self.unlinked.capacity() + self.built.capacity()) * size_of::<(u32, u32)>()
            + self.links.capacity() * size_of::<(Value, i64)>()
            + self.stores.capacity() * size_of::<(Cell, u32)>()
            + self.runs.capacity() * size_of::<Run>()
            + self.shared.capacity() * size_of::<(Value, Shared)>()
    }
}
