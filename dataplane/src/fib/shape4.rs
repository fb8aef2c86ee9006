//! The blocks of an IPv4 table, as the writer lays them out and readers read them.
//!
//! A *block* covers the 64 /24s of a chunk: a bit map with a bit for each /24 where a run of equal ones starts, a
//! 16-bit value for each run, and a 32-bit cell for each value that does not fit in 15 bits. A cell holds such a
//! value, or leads to a *page*, which does the same for the 256 addresses of one /24 with 32-bit values, and with
//! a count of the runs in the words before each of its four words of bit map.

use std::sync::atomic::{AtomicU16, AtomicU32, AtomicU64, Ordering};

use super::FibError;
use super::memory::{Cell, Memory};
use super::pages::Pages;
use super::routes::Value;
use super::shape::{Patched, Shape};
use super::sweep::{Goal, Run};

/// The address bits that index the root.
pub(super) const ROOT_BITS: u8 = 18;
/// A run's value from here on is the place of its cell: 32-bit words from the start of the block.
pub(super) const ESCAPE: u16 = 0x8000;
/// The highest bits of four values.
const ESCAPES: u64 = 0x8000_8000_8000_8000;
/// The /24s of a block.
const SLOTS: usize = 64;
/// How many words from its start on a reader may read of a block without a look at how long it is: a bit map, and as
/// many 16-bit values as that can have bits.
const REACH: usize = 17;
/// A cell with this bit holds a value, else the offset of a page.
const LITERAL: u32 = 1 << 31;

pub(super) struct Shape4;

/// The memory of the blocks, as its two sorts of words.
#[derive(Clone, Copy)]
pub(super) struct Blocks<'a> {
    pub(super) words: &'a [AtomicU64],
    halves: &'a [AtomicU16],
}

impl<'a> Blocks<'a> {
    #[inline(always)]
    pub(super) fn of(pages: &'a Pages) -> Self {
        Self { words: pages.words(), halves: pages.halves() }
    }
}

/// Where in its chunk an address is, as [`run_value`] takes it: the slot counted from the end, in the lowest six bits.
#[inline(always)]
pub(super) fn slot_of(addr: u32) -> u32 {
    !(addr >> 8)
}

/// What the run of a slot holds: a value, or the place of a cell.
///
/// # Safety
/// `tree` comes from the root of the same table.
#[allow(unsafe_code)] // Checked, this is a tenth slower.
#[inline(always)]
pub(super) unsafe fn run_value(blocks: Blocks<'_>, tree: u32, slot: u32) -> u16 {
    let block = tree as usize;
    debug_assert!(block + REACH <= blocks.words.len());
    // SAFETY: `set_root` keeps entries of the root at least `REACH` words, which is more than one, from the end.
    let starts = unsafe { blocks.words.get_unchecked(block) }.load(Ordering::Relaxed);
    // The shift takes its distance modulo 64.
    let rank = starts.wrapping_shl(slot).count_ones() as usize;
    // SAFETY: whatever the bit map says, the rank is at most 64, and this word within `REACH` of the block.
    unsafe { blocks.halves.get_unchecked(block * 4 + 3 + rank) }.load(Ordering::Relaxed)
}

/// Whether what a run holds is the place of a cell. Of several, joined by "or": whether any is.
#[inline(always)]
pub(super) fn is_escape(value: u16) -> bool {
    value >= ESCAPE
}

/// The value for an address, given the tree under its root entry.
#[inline(always)]
pub(super) fn resolve(blocks: Blocks<'_>, tree: u32, addr: u32) -> Value {
    let block = tree as usize;
    let starts = blocks.words[block].load(Ordering::Relaxed);
    let rank = starts.wrapping_shl(slot_of(addr)).count_ones() as usize;
    let value = blocks.halves[block * 4 + 3 + rank].load(Ordering::Relaxed);
    if is_escape(value) { escape(blocks, tree, value, addr) } else { Value::from(value) }
}

/// Goes on where a run says that a cell has the rest.
#[cold]
#[inline(never)]
pub(super) fn escape(blocks: Blocks<'_>, tree: u32, value: u16, addr: u32) -> Value {
    let words = blocks.words;
    let cell = cell(words, tree as usize * 2 + usize::from(value - ESCAPE));
    if cell & LITERAL != 0 {
        return cell & !LITERAL;
    }
    let page = cell as usize;
    let word = (addr >> 6 & 3) as usize;
    let before = (words[page].load(Ordering::Relaxed) >> (word * 16)) as u16;
    let starts = words[page + 1 + word].load(Ordering::Relaxed);
    let rank = usize::from(before) + (starts << (63 - (addr & 63))).count_ones() as usize;
    self::cell(words, (page + 5) * 2 + rank - 1)
}

/// The value of run `run` of a block, as the writer reads it.
fn half(memory: &Memory, block: usize, run: usize) -> u16 {
    (memory.word(block + 1 + run / 4) >> (run % 4 * 16)) as u16
}

/// Acquire: a cell is how a page is published that was not there when its block was.
fn cell(words: &[AtomicU64], at: usize) -> u32 {
    (words[at / 2].load(Ordering::Acquire) >> (at % 2 * 32)) as u32
}

/// A block under construction: 64-bit words filled by smaller ones.
struct Draft<const N: usize> {
    words: [u64; N],
    len: usize,
}

impl<const N: usize> Draft<N> {
    fn new() -> Self {
        Self { words: [0; N], len: 0 }
    }

    fn put(&mut self, at: usize, bits: usize, value: u64) {
        let (word, shift) = (at * bits / 64, at * bits % 64);
        self.words[word] |= value << shift;
        self.len = self.len.max(word + 1);
    }

    fn place(&self, memory: &mut Memory) -> Result<u32, FibError> {
        let offset = memory.alloc(self.len)?;
        for (at, &word) in self.words[..self.len].iter().enumerate() {
            memory.set_word(offset as usize + at, word);
        }
        Ok(offset)
    }
}

/// A block without cells under construction: a bit for each slot where a run starts, and the runs' values.
struct Runs {
    starts: u64,
    values: [u16; SLOTS],
    len: usize,
}

impl Runs {
    fn new() -> Self {
        Self { starts: 0, values: [0; SLOTS], len: 0 }
    }

    /// Adds a run, or lengthens the last one when that has the same value.
    fn push(&mut self, slot: u32, value: u16) {
        if self.len == 0 || self.values[self.len - 1] != value {
            self.extend(1 << slot, &[value]);
        }
    }

    /// Adds runs, each of another value than the one before it.
    fn extend(&mut self, starts: u64, values: &[u16]) {
        self.starts |= starts;
        self.values[self.len..self.len + values.len()].copy_from_slice(values);
        self.len += values.len();
    }

    fn place(&self, memory: &mut Memory) -> Result<u32, FibError> {
        let offset = memory.alloc(block_words(self.len, 0))?;
        let block = offset as usize;
        memory.set_word(block, self.starts);
        for (at, four) in self.values.chunks_exact(4).take(self.len.div_ceil(4)).enumerate() {
            let word = four.iter().rev().fold(0, |word, &value| word << 16 | u64::from(value));
            memory.set_word(block + 1 + at, word);
        }
        Ok(offset)
    }
}

/// A block's runs and cells.
fn counts(memory: &Memory, block: usize) -> (usize, usize) {
    let runs = memory.word(block).count_ones() as usize;
    // The highest bit of each 16; the last are 0 where there are no values.
    let values = &memory.words()[block + 1..block + 1 + runs.div_ceil(4)];
    let escapes = values.iter().map(|four| four.load(Ordering::Relaxed) & ESCAPES);
    let cells = escapes.map(|bits| bits.count_ones() as usize).sum();
    (runs, cells)
}

/// Where a block's cells begin, in 32-bit words: at a 64-bit word of their own, as cells change in place.
fn cells_at(runs: usize) -> usize {
    2 + runs.div_ceil(4) * 2
}

fn block_words(runs: usize, cells: usize) -> usize {
    (cells_at(runs) + cells).div_ceil(2)
}

fn page_words(runs: usize) -> usize {
    5 + runs.div_ceil(2)
}

impl Shape for Shape4 {
    const STARTS: &'static [u8] = &[ROOT_BITS, 24];
    const WINDOWS: &'static [u8] = &[6, 8];
    const PATCHES: bool = true;
    const DEEP_UNIFORM: bool = false;
    const MARGIN: usize = REACH;

    fn build(memory: &mut Memory, level: usize, runs: &[Run]) -> Result<u32, FibError> {
        let mut start = 0;
        if level > 0 {
            let mut page = Draft::<133>::new();
            for (at, run) in runs.iter().enumerate() {
                page.words[1 + start / 64] |= 1 << (start % 64);
                let Goal::Value(value) = run.goal else { continue };
                page.put(10 + at, 32, u64::from(value));
                start = (run.end >> 24) as usize + 1;
            }
            let mut before = 0;
            for word in 0..4 {
                page.put(word, 16, before);
                before += u64::from(page.words[1 + word].count_ones());
            }
            return page.place(memory);
        }
        let mut block = Draft::<49>::new();
        let mut next_cell = cells_at(runs.len());
        for (at, run) in runs.iter().enumerate() {
            block.put(0, 64, 1 << start);
            start = (run.end >> 26) as usize + 1;
            let cell = match run.goal {
                Goal::Value(value) if value < Value::from(ESCAPE) => {
                    block.put(4 + at, 16, u64::from(value));
                    continue;
                }
                Goal::Value(value) => value | LITERAL,
                Goal::Tree(page) => page,
            };
            block.put(4 + at, 16, u64::from(ESCAPE) | next_cell as u64);
            block.put(next_cell, 32, u64::from(cell));
            next_cell += 1;
        }
        block.place(memory)
    }

    fn uniform_value(memory: &Memory, level: usize, tree: u32) -> Option<Value> {
        let uniform = level == 0 && memory.word(tree as usize) == 1;
        uniform.then(|| resolve(Blocks::of(memory.pages()), tree, 0))
    }

    fn unlink(memory: &mut Memory, level: usize, tree: u32) -> Result<(), FibError> {
        let at = tree as usize;
        let words = if level == 0 {
            let (runs, cells) = counts(memory, at);
            block_words(runs, cells)
        } else {
            page_words((1..5).map(|word| memory.word(at + word).count_ones() as usize).sum())
        };
        memory.unlink(tree, words)
    }

    fn link(memory: &Memory, tree: u32, suffix: u32) -> Option<Cell> {
        let block = tree as usize;
        let rank = (memory.word(block) << (63 - (suffix >> 26))).count_ones() as usize;
        let value = half(memory, block, rank - 1);
        (value >= ESCAPE).then(|| Cell(block * 2 + usize::from(value - ESCAPE)))
    }

    fn publish(memory: &Memory, cell: Cell, tree: u32) {
        let shift = cell.0 % 2 * 32;
        let word = memory.word(cell.0 / 2) & !(u64::from(u32::MAX) << shift) | u64::from(tree) << shift;
        memory.words()[cell.0 / 2].store(word, Ordering::Release);
    }

    /// For blocks without cells, before and after: all but a few.
    fn patch(
        memory: &mut Memory,
        tree: u32,
        (first, len): (u32, u8),
        runs: &[Run],
    ) -> Result<Patched, FibError> {
        let block = tree as usize;
        let starts = memory.word(block);
        let count = starts.count_ones() as usize;
        let (mut old, mut any) = ([0; SLOTS], 0);
        for (values, word) in
            old.chunks_exact_mut(4).zip(&memory.words()[block + 1..]).take(count.div_ceil(4))
        {
            let four = word.load(Ordering::Relaxed);
            any |= four;
            values.copy_from_slice(&[
                four as u16,
                (four >> 16) as u16,
                (four >> 32) as u16,
                (four >> 48) as u16,
            ]);
        }
        if any & ESCAPES != 0 {
            return Ok(Patched::No);
        }
        let slot = first >> 26;
        let (below, next) = ((1 << slot) - 1, slot + (64 >> len));
        let mut new = Runs::new();
        new.extend(starts & below, &old[..(starts & below).count_ones() as usize]);
        let mut start = slot;
        for run in runs {
            match run.goal {
                Goal::Value(value) if value < Value::from(ESCAPE) => new.push(start, value as u16),
                _ => return Ok(Patched::No),
            }
            start = (run.end >> 26) + 1;
        }
        if next < 64 {
            // The run in which the next slot is, which may have begun before.
            let rank = (starts << (63 - next)).count_ones() as usize;
            new.push(next, old[rank - 1]);
            new.extend(starts & !1 << next, &old[rank..count]);
        }
        if new.len == 1 {
            return Ok(Patched::Uniform(Value::from(new.values[0])));
        }
        new.place(memory).map(Patched::Tree)
    }

    fn splices(_tree: u32) -> bool {
        false
    }

    fn splice(_: &mut Memory, _: u32, _: (u32, u8), _: &[Run]) -> Result<bool, FibError> {
        Ok(false)
    }

    fn fold(_: &mut Memory, _: u32, _: u32) -> Result<(), FibError> {
        Ok(())
    }

    fn root(&self, memory: &Memory, chunk: u32) -> u32 {
        memory.pages().heads()[chunk as usize].load(Ordering::Relaxed)
    }

    fn set_root(&self, memory: &Memory, chunk: u32, tree: u32) {
        // The arena hands out nothing that near the end; readers rely on it.
        let last = memory.words().len() - REACH;
        memory.pages().heads()[chunk as usize].store(tree.min(last as u32), Ordering::Release);
    }

    fn prefetch_root(&self, memory: &Memory, chunk: u32) {
        super::prefetch(memory.pages().heads().as_ptr().wrapping_add(chunk as usize));
    }

    fn prefetch(memory: &Memory, tree: u32, _: u32) {
        super::prefetch(memory.words().as_ptr().wrapping_add(tree as usize));
        memory.prefetch(tree);
    }

    fn prefetch_part(_: &Memory, _: u32, _: u32) {}

    fn number<'a>(&self, memory: &'a Memory, chunk: u32) -> Option<&'a AtomicU32> {
        memory.pages().heads().get((1 << ROOT_BITS) + chunk as usize)
    }

    fn span(&self, _chunk: u32) -> u32 {
        1
    }

    fn hold(&mut self, _: &mut Memory, _: u128, _: u8, _: Value) -> Result<(), FibError> {
        Ok(())
    }

    fn release(&mut self, _: &mut Memory, _: u128, _: u8, _: Value) {}
}
