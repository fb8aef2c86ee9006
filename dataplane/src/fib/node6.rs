//! The nodes of an IPv6 table, and how a look-up goes from one to the next. `shape6` builds them.
//!
//! A chunk's tree is a search tree over the next 32 bits of the address. A *leaf* has up to 16 runs: the last
//! address of each but the final one, ascending, then a 16-bit value for each, then a 32-bit cell for each value
//! that does not fit in 15 bits. Up to 11 runs are one cache line. A *fork* has up to 16 children: one line with
//! the last address of each but the final one, one line with their handles. The child, or run, of an address is
//! how many of the last addresses are below it; one instruction compares with all of them.
//!
//! A handle is the block's offset, how many last addresses it has (4 bits), and whether it is a fork (1 bit). The
//! last address of a node as a whole is never stored, so that an address of all ones needs no special case.

use std::sync::atomic::{AtomicU32, Ordering};

use super::routes::Value;

/// Where the windows of the levels begin: what indexes the root comes before the first.
pub(super) const STARTS: [u8; 4] = [TOP_BITS + MIDDLE_BITS, 60, 92, 124];
/// Bits that index the first part of the root.
pub(super) const TOP_BITS: u8 = 16;
/// Bits that index the second part, where there is one.
pub(super) const MIDDLE_BITS: u8 = 12;
/// Entries of a second part.
pub(super) const MIDDLE: usize = 1 << MIDDLE_BITS;
/// How many second parts there can be: one for each /16 of the space that is handed out, `2000::/3`, and as many
/// more for private use.
pub(super) const MIDDLES: usize = 1 << 14;
// The root, in 32-bit words: a cell that stays 0, where top entries that were never written lead; the top entries;
// for each its only cell, for where there is no second part; the second parts. A top entry is the place of its cell
// or second part, doubled, plus 1 for a second part.
/// Where the top entries begin: a cache line on.
pub(super) const TOP: usize = 16;
/// Where their only cells begin.
pub(super) const ONLY: usize = TOP + (1 << TOP_BITS);
/// Where second parts begin.
pub(super) const FIRST_MIDDLE: usize = ONLY + (1 << TOP_BITS);
/// Where the blocks begin, in 32-bit words.
pub(super) const BLOCKS: usize = FIRST_NUMBER + MIDDLES * MIDDLE;
/// Where the writer's own numbers for the entries of second parts begin.
pub(super) const FIRST_NUMBER: usize = FIRST_MIDDLE + MIDDLES * MIDDLE;
/// How much of that is the root proper.
pub(super) const ROOT: usize = FIRST_NUMBER;
/// A run's value from here on is the place of its cell: 32-bit words from the start of the leaf.
pub(super) const ESCAPE: u16 = 0x8000;
/// A cell with this bit holds a value, else the handle of a deeper tree.
pub(super) const LITERAL: u32 = 1 << 31;
/// Where a fork's handles begin, in 32-bit words.
pub(super) const FORK_LINKS: usize = 16;

/// A handle, taken apart.
#[derive(Clone, Copy)]
pub(super) struct Node(pub(super) u32);

impl Node {
    pub(super) fn new(offset: u32, lasts: usize, fork: bool) -> Self {
        Self(offset << 5 | (lasts as u32) << 1 | u32::from(fork))
    }

    /// Where it is, in 64-bit words.
    pub(super) fn offset(self) -> u32 {
        self.0 >> 5
    }

    /// Where it is, in 32-bit words.
    #[inline(always)]
    pub(super) fn at(self) -> usize {
        (self.0 >> 4 & !1) as usize
    }

    /// How many last addresses it stores.
    #[inline(always)]
    pub(super) fn lasts(self) -> u32 {
        self.0 >> 1 & 15
    }

    /// 1 for a fork, 0 for a leaf.
    #[inline(always)]
    pub(super) fn is_fork(self) -> usize {
        (self.0 & 1) as usize
    }
}

/// The 32 bits of an address that a level's trees look at.
#[inline(always)]
pub(super) fn key(addr: u128, level: usize) -> u32 {
    (addr << STARTS[level] >> 96) as u32
}

/// The tree under an address's entry of the root.
#[inline(always)]
pub(super) fn root(heads: &[AtomicU32], addr: u128) -> u32 {
    heads[root_cell(heads, addr)].load(Ordering::Acquire)
}

/// The last entry of the root for an address.
#[inline(always)]
pub(super) fn root_cell(heads: &[AtomicU32], addr: u128) -> usize {
    let high = (addr >> 64) as u64;
    let entry = heads[TOP + (high >> (64 - TOP_BITS)) as usize].load(Ordering::Acquire);
    entry_cell(entry, (high >> (64 - TOP_BITS - MIDDLE_BITS)) as u32)
}

/// The cell that a top entry leads to: its only one, or that of `chunk` in its second part.
#[inline(always)]
pub(super) fn entry_cell(entry: u32, chunk: u32) -> usize {
    let mask = (entry & 1).wrapping_neg() & (MIDDLE as u32 - 1);
    ((entry >> 1) + (chunk & mask)) as usize
}

/// Asks for the memory of an address's entry of the root. What leads there is in the nearest cache: few of the
/// top's entries are in use.
#[inline(always)]
pub(super) fn prefetch_root(heads: &[AtomicU32], addr: u128) {
    super::prefetch(heads.as_ptr().wrapping_add(root_cell(heads, addr)));
}

/// How many of a node's last addresses are below `key`: the child, or run, that it belongs to.
#[inline(always)]
pub(super) fn rank(cells: &[AtomicU32], node: Node, key: u32) -> u32 {
    let lasts = &cells[node.at()..][..node.lasts() as usize];
    lasts.partition_point(|last| last.load(Ordering::Relaxed) < key) as u32
}

/// The child `rank` of a fork. Acquire: its handle may lead to a block that was not there a moment ago.
#[inline(always)]
pub(super) fn child(cells: &[AtomicU32], fork: Node, rank: u32) -> Node {
    Node(cells[fork.at() + FORK_LINKS + rank as usize].load(Ordering::Acquire))
}

/// What the run `rank` of a leaf holds: a value, or the place of a cell.
#[inline(always)]
pub(super) fn run(cells: &[AtomicU32], leaf: Node, rank: u32) -> u16 {
    let two = cells[leaf.at() + (leaf.lasts() + rank / 2) as usize].load(Ordering::Relaxed);
    (two >> (rank % 2 * 16)) as u16
}

/// Whether what a leaf says is the place of a cell. Of several, joined by "or": whether any is.
#[inline(always)]
pub(super) fn is_escape(said: u16) -> bool {
    said >= ESCAPE
}

/// Goes on where a leaf of a level says `said`, to the value.
#[cold]
#[inline(never)]
pub(super) fn escape(cells: &[AtomicU32], leaf: Node, said: u16, addr: u128, level: usize) -> Value {
    let found = cells[leaf.at() + usize::from(said - ESCAPE)].load(Ordering::Acquire);
    if found & LITERAL != 0 { found & !LITERAL } else { resolve(cells, found, addr, level + 1) }
}

/// The value for an address, from a level's tree on.
#[inline]
pub(super) fn resolve(cells: &[AtomicU32], tree: u32, addr: u128, level: usize) -> Value {
    let key = key(addr, level);
    let mut node = Node(tree);
    while node.is_fork() == 1 {
        node = child(cells, node, rank(cells, node, key));
    }
    let said = run(cells, node, rank(cells, node, key));
    if is_escape(said) { escape(cells, node, said, addr, level) } else { Value::from(said) }
}

/// A handle as a node.
#[inline(always)]
pub(super) fn node(tree: u32) -> Node {
    Node(tree)
}
