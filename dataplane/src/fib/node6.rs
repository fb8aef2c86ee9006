//! The nodes of an IPv6 table, and how a look-up goes from one to the next. `build6` builds them.
//!
//! A chunk's tree looks at the next 32 bits of the address, the *key*. A *leaf* has up to 11 runs: the last address of
//! each but the final one, ascending, then a 16-bit value for each; that fits in one cache line. Behind it is a 32-bit
//! cell for each value that does not fit in 15 bits. The run of an address is how many of the last addresses are below
//! it; one instruction compares with all of them. What does not fit in a leaf begins with a *table*: 2^4 to 2^12
//! handles, indexed by the first bits of the key. Under an entry of it with more runs than a leaf has are *forks*: the
//! last address of each of up to 8 children but the final one, filled up with ones, then their handles, in one line.
//!
//! A handle is the byte at which the node's cache line begins, and in the six bits that this leaves a code: where in
//! the line a leaf begins and how long it is, of which there are 51 cases; a fork; or a table of one of nine sizes. So
//! a handle as it is, taken as an address, is one within the node's first line.
//!
//! The last address of a node as a whole is never stored, so that an address of all ones needs no special case.

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
pub(super) const TOPS: usize = 1 << TOP_BITS;
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
/// 32-bit words of a cache line.
pub(super) const LINE: usize = 16;
/// The bits of a table's index, at least and at most.
pub(super) const TABLE_BITS: std::ops::RangeInclusive<u32> = 4..=12;

/// The bits of a handle that are its code.
pub(super) const CODE: u32 = 63;
/// The code of a fork; smaller ones are leaves.
pub(super) const FORK: u32 = 51;
/// The code of the smallest table; larger ones follow.
pub(super) const TABLE: u32 = 52;
/// What a table's code and the bits of the key that are not its index make together.
pub(super) const SHIFT: u32 = 80;

/// By a leaf's code: its first 64-bit word in the line, and how many last addresses it has.
const LEAVES: [(u8, u8); FORK as usize] = {
    let mut leaves = [(0, 0); FORK as usize];
    let (mut at, mut lasts) = (0, 0);
    while lasts < RUNS {
        let mut first = 0;
        while first + (6 * lasts + 2).div_ceil(8) <= 8 {
            leaves[at] = (first as u8, lasts as u8);
            at += 1;
            first += 1;
        }
        lasts += 1;
    }
    assert!(at == FORK as usize);
    leaves
};

/// By a code: which of the line's 32-bit words are a leaf's last addresses, one bit each, in the low half, and where
/// its values begin, in 16-bit words from the start of the line, in the high half.
pub(super) const PARTS: [u32; 64] = {
    let mut parts = [0; 64];
    let mut at = 0;
    while at < FORK as usize {
        let (first, lasts) = (LEAVES[at].0 as u32 * 2, LEAVES[at].1 as u32);
        parts[at] = ((1 << lasts) - 1) << first | ((first + lasts) * 2) << 16;
        at += 1;
    }
    parts
};

/// A handle, taken apart.
#[derive(Clone, Copy)]
pub(super) struct Node(pub(super) u32);

impl Node {
    /// A leaf at a 64-bit word.
    pub(super) fn leaf(offset: u32, lasts: usize) -> Self {
        let code = LEAVES.iter().position(|&leaf| leaf == (offset as u8 % 8, lasts as u8));
        debug_assert!(code.is_some());
        Self((offset & !7) << 3 | code.unwrap_or(0) as u32)
    }

    /// A fork at a 64-bit word that begins a line.
    pub(super) fn fork(offset: u32) -> Self {
        Self(offset << 3 | FORK)
    }

    /// A table with this many bits of index, alike.
    pub(super) fn table(offset: u32, bits: u32) -> Self {
        Self(offset << 3 | (TABLE + bits - TABLE_BITS.start()))
    }

    #[inline(always)]
    pub(super) fn code(self) -> u32 {
        self.0 & CODE
    }

    #[inline(always)]
    pub(super) fn is_fork(self) -> bool {
        self.code() == FORK
    }

    /// For a table, how many bits of the key are behind its index.
    #[inline(always)]
    pub(super) fn table_shift(self) -> Option<u32> {
        (self.code() >= TABLE).then(|| SHIFT - self.code())
    }

    /// Where it is, in 64-bit words.
    pub(super) fn offset(self) -> u32 {
        (self.at() / 2) as u32
    }

    /// Where it is, in 32-bit words.
    pub(super) fn at(self) -> usize {
        let first = LEAVES.get(self.code() as usize).map_or(0, |leaf| leaf.0);
        self.line() + usize::from(first) * 2
    }

    /// Where its first line is, in 32-bit words.
    #[inline(always)]
    pub(super) fn line(self) -> usize {
        (self.0 / 64) as usize * LINE
    }

    /// How many last addresses a leaf has.
    pub(super) fn lasts(self) -> u32 {
        LEAVES.get(self.code() as usize).map_or(0, |leaf| leaf.1.into())
    }
}

/// The 32 bits of an address that a level's trees look at.
#[inline(always)]
pub(super) fn key(addr: u128, level: usize) -> u32 {
    (addr << STARTS[level] >> 96) as u32
}

/// A top entry: the place of its only cell, or of its second part, in the high half; in the low half what is left of
/// the index into the second part: all bits of it, or none for an only cell.
#[derive(Clone, Copy)]
pub(super) struct Top(pub(super) u64);

impl Top {
    pub(super) fn only(place: usize) -> Self {
        Self((place as u64) << 32)
    }

    pub(super) fn middle(place: usize) -> Self {
        Self((place as u64) << 32 | (MIDDLE as u64 - 1))
    }

    pub(super) fn has_middle(self) -> bool {
        self.0 as u32 != 0
    }

    /// The entry's cell for an address with these first bits.
    #[inline(always)]
    pub(super) fn cell(self, first: u32) -> usize {
        self.place() + (first & self.0 as u32) as usize
    }

    #[inline(always)]
    pub(super) fn place(self) -> usize {
        (self.0 >> 32) as usize
    }
}

/// The top entries.
#[inline(always)]
pub(super) fn tops(pages: &Pages) -> &[AtomicU64; TOPS] {
    static EMPTY: [AtomicU64; TOPS] = [const { AtomicU64::new(0) }; TOPS];
    // Always the first: there are that many.
    pages.pairs(TOP, TOPS).first_chunk().unwrap_or(&EMPTY)
}

/// The bits of an address that index the root.
#[inline(always)]
pub(super) fn first_bits(addr: u128) -> u32 {
    (addr >> (128 - STARTS[0])) as u32
}

/// The last entry of the root for an address with these first bits.
#[inline(always)]
pub(super) fn root_cell(tops: &[AtomicU64; TOPS], first: u32) -> usize {
    Top(tops[(first >> MIDDLE_BITS) as usize % TOPS].load(Ordering::Acquire)).cell(first)
}

/// Bytes that the root occupies.
pub(super) fn root_bytes(pages: &Pages) -> usize {
    let is_zero = |word: &AtomicU32| word.load(Ordering::Relaxed) == 0;
    written_bytes(tops(pages), |entry| entry.load(Ordering::Relaxed) == 0)
        + written_bytes(&pages.heads()[ONLY..FIRST_NUMBER], is_zero)
}

/// How many of a fork's or leaf's last addresses are below `key`: the child, or run, that it belongs to.
#[inline(always)]
pub(super) fn rank(cells: &[AtomicU32], node: Node, key: u32) -> u32 {
    let lasts = if node.is_fork() { FORK_LINKS - 1 } else { node.lasts() as usize };
    cells[node.at()..][..lasts].partition_point(|last| last.load(Ordering::Relaxed) < key) as u32
}

/// Where a table or a fork has the handle for `key`; `None` for a leaf.
#[inline(always)]
pub(super) fn link(cells: &[AtomicU32], node: Node, key: u32) -> Option<usize> {
    if let Some(shift) = node.table_shift() {
        return Some(node.line() + (key >> shift) as usize);
    }
    node.is_fork().then(|| node.line() + FORK_LINKS + rank(cells, node, key) as usize)
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
    while let Some(link) = link(cells, node, key) {
        // Acquire: the handle may lead to a block that was not there a moment ago.
        node = Node(cells[link].load(Ordering::Acquire));
    }
    let said = run(cells, node, rank(cells, node, key));
    if is_escape(said) { escape(cells, node, said, addr, level) } else { Value::from(said) }
}
