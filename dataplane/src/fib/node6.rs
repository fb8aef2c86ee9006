//! The nodes of an IPv6 table, and how a look-up goes from one to the next. `shape6` builds them.
//!
//! A chunk's tree is a search tree over the next 32 bits of the address. A *leaf* has up to 11 runs: the last
//! address of each but the final one, ascending, then a 16-bit value for each; that fits in one cache line. Behind it
//! is a 32-bit cell for each value that does not fit in 15 bits. A *fork* is one line too: the last address of each
//! of its up to 8 children but the final one, filled up with ones, then their handles. The child, or run, of an
//! address is how many of the last addresses are below it; one instruction compares with all of them.
//!
//! A handle is the block's offset, how many last addresses it has (4 bits), and whether it is a fork (1 bit). The
//! last address of a node as a whole is never stored, so that an address of all ones needs no special case.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use super::pages::{Pages, written_bytes};
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
// The root, in 32-bit words: a cell that stays 0, where top entries that were never written lead; the top entries, of
// 64 bits; for each its only cell, for where there is no second part; the second parts.
/// Where the top entries begin: a cache line on.
const TOP: usize = 16;
/// How many there are.
const TOPS: usize = 1 << TOP_BITS;
/// Where their only cells begin.
pub(super) const ONLY: usize = TOP + 2 * TOPS;
/// Where second parts begin.
pub(super) const FIRST_MIDDLE: usize = ONLY + TOPS;
/// Where the blocks begin, in 32-bit words.
pub(super) const BLOCKS: usize = FIRST_NUMBER + MIDDLES * MIDDLE;
/// Where the writer's own numbers for the entries of second parts begin.
pub(super) const FIRST_NUMBER: usize = FIRST_MIDDLE + MIDDLES * MIDDLE;
/// A run's value from here on is the place of its cell: 32-bit words from the start of the leaf.
pub(super) const ESCAPE: u16 = 0x8000;
/// A cell with this bit holds a value, else the handle of a deeper tree.
pub(super) const LITERAL: u32 = 1 << 31;
/// Where a fork's handles begin, in 32-bit words: as many as there are children.
pub(super) const FORK_LINKS: usize = 8;
/// The most runs of a leaf.
pub(super) const RUNS: usize = 11;

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

/// A top entry: the place of its only cell, or of its second part, in the high half; in bits 0 to 7 where the bits of
/// the address's upper half begin that index the second part, and in bits 8 to 15 how many these are: none for an
/// only cell. That is how processors take a field that is to be extracted.
#[derive(Clone, Copy)]
pub(super) struct Top(pub(super) u64);

impl Top {
    const START: u64 = 64 - TOP_BITS as u64 - MIDDLE_BITS as u64;

    pub(super) fn only(place: usize) -> Self {
        Self((place as u64) << 32 | Self::START)
    }

    pub(super) fn middle(place: usize) -> Self {
        Self((place as u64) << 32 | u64::from(MIDDLE_BITS) << 8 | Self::START)
    }

    pub(super) fn has_middle(self) -> bool {
        self.0 >> 8 & 0xFF != 0
    }

    /// The entry's cell for an address with this upper half.
    #[inline(always)]
    pub(super) fn cell(self, high: u64) -> usize {
        let bits = (1 << (self.0 >> 8 & 63)) - 1;
        self.place() + (high >> (self.0 & 63) & bits) as usize
    }

    #[inline(always)]
    pub(super) fn place(self) -> usize {
        (self.0 >> 32) as usize
    }
}

/// The top entries.
#[inline(always)]
pub(super) fn tops(pages: &Pages) -> &[AtomicU64] {
    pages.pairs(TOP, TOPS)
}

/// The upper half of an address, and its top entry.
#[inline(always)]
pub(super) fn top(tops: &[AtomicU64], addr: u128) -> (u64, Top) {
    let high = (addr >> 64) as u64;
    (high, Top(tops[(high >> (64 - TOP_BITS)) as usize].load(Ordering::Acquire)))
}

/// The last entry of the root for an address.
#[inline(always)]
pub(super) fn root_cell(tops: &[AtomicU64], addr: u128) -> usize {
    let (high, top) = top(tops, addr);
    top.cell(high)
}

/// Bytes that the root occupies.
pub(super) fn root_bytes(pages: &Pages) -> usize {
    let is_zero = |word: &AtomicU32| word.load(Ordering::Relaxed) == 0;
    written_bytes(tops(pages), |entry| entry.load(Ordering::Relaxed) == 0)
        + written_bytes(&pages.heads()[ONLY..FIRST_NUMBER], is_zero)
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
