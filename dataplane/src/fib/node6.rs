//! The nodes of an IPv6 table, and how a look-up goes from one to the next. `build6` builds them.
//!
//! A chunk's tree looks at the next 32 bits of the address, the *key*. A *leaf* has up to 17 runs: the last address of
//! each but the final one, ascending, then a 16-bit value for each. One instruction compares a key with all that is in
//! a cache line; the run of an address is how many of the last addresses are below it. Up to 11 runs fit in a line
//! together with their values; the values of more are in the next. Behind them is a 32-bit cell for each value that
//! does not fit in 15 bits. What does not fit in a leaf is a *table*: 2^4 to 2^12 handles, indexed by the first bits of
//! the key, or, under an entry of another table, by some of the bits after those that led there.
//!
//! A handle is a place in bytes, a multiple of 64, and in the six bits that this leaves a code: where in its line a
//! leaf begins and how long it is, of which there are 46 cases, or how many bits of the key are behind a table's index.
//! Of a table the place is not where it begins, but as far before it as the index of its first key would be in a table
//! of all keys: so its entry for a key is at the place plus 4 times the key without the bits behind the index, with no
//! mask. Places are added modulo 2^32.
//!
//! The last address of a node as a whole is never stored, so that an address of all ones needs no special case. Lengths
//! between those of the codes are filled up with last addresses of all ones, below which no run is.

use std::sync::atomic::{AtomicU32, Ordering};

use super::pages::{Pages, written_bytes};
use super::routes::Value;

/// Where the windows of the levels begin: what indexes the root comes before the first.
pub(super) const STARTS: [u8; 4] = [TOP_BITS + MIDDLE_BITS, 60, 92, 124];
/// Bits that index the first part of the root.
pub(super) const TOP_BITS: u8 = 16;
/// Bits that index the second part.
pub(super) const MIDDLE_BITS: u8 = 12;
/// Entries of a second part.
pub(super) const MIDDLE: usize = 1 << MIDDLE_BITS;
/// How many second parts there can be: one for each /16 of the space that is handed out, `2000::/3`, and as many
/// more for private use.
pub(super) const MIDDLES: usize = 1 << 14;
// The root, in 32-bit words: a second part of zeros, where top entries that were never written lead, and which is never
// written either; the top entries; the other second parts. What the words of second parts hold are handles.
/// Where the top entries begin. Each is the place of a second part.
const TOP: usize = MIDDLE;
/// How many there are.
pub(super) const TOPS: usize = 1 << TOP_BITS;
/// Where second parts begin.
pub(super) const FIRST_MIDDLE: usize = TOP + TOPS;
/// Where the blocks begin, in 32-bit words.
pub(super) const BLOCKS: usize = FIRST_NUMBER + MIDDLES * MIDDLE;
/// Where the writer's own numbers for the entries of second parts begin.
pub(super) const FIRST_NUMBER: usize = FIRST_MIDDLE + MIDDLES * MIDDLE;
/// A run's value from here on is the place of its cell: 32-bit words from the start of the leaf.
pub(super) const ESCAPE: u16 = 0x8000;
/// A cell with this bit holds a value, else the handle of a deeper tree.
pub(super) const LITERAL: u32 = 1 << 31;
/// The most runs of a leaf.
pub(super) const RUNS: usize = LINE + 1;
/// 32-bit words of a cache line.
pub(super) const LINE: usize = 16;

/// The bits of a handle that are its code.
pub(super) const CODE: u32 = 63;
/// How many codes of leaves there are; larger codes are tables.
pub(super) const TABLE: u32 = 46;

/// How many last addresses a leaf can have room for: those between take as many words as the next.
const ROOM: [u8; 11] = [0, 1, 2, 3, 5, 6, 7, 9, 10, 13, 16];
/// How many bits of the key can be behind the index of a table.
pub(super) const SHIFTS: [u8; 64 - TABLE as usize] =
    [28, 27, 26, 25, 24, 23, 22, 21, 20, 18, 16, 14, 12, 10, 8, 6, 4, 0];
/// The bits of a table's index, at least and at most.
pub(super) const TABLE_BITS: std::ops::RangeInclusive<u32> = 4..=12;

/// By a leaf's code: its first 64-bit word in the line, and for how many last addresses it has room.
const LEAVES: [(u8, u8); TABLE as usize] = {
    let mut leaves = [(0, 0); TABLE as usize];
    let (mut at, mut room) = (0, 0);
    while room < ROOM.len() {
        let words = (6 * ROOM[room] + 2).div_ceil(8);
        let mut first = 0;
        // What is longer than a line begins with one.
        while first == 0 || first + words <= 8 {
            leaves[at] = (first, ROOM[room]);
            at += 1;
            first += 1;
        }
        room += 1;
    }
    assert!(at == TABLE as usize);
    leaves
};

/// By a code: which of the line's 32-bit words are a leaf's last addresses, one bit each, in the low half, and where
/// its values begin, in 16-bit words from the start of the line, in the high half.
pub(super) const PARTS: [u32; 64] = {
    let mut parts = [0; 64];
    let mut at = 0;
    while at < TABLE as usize {
        let (first, lasts) = (LEAVES[at].0 as u32 * 2, LEAVES[at].1 as u32);
        parts[at] = ((1 << lasts) - 1) << first | ((first + lasts) * 2) << 16;
        at += 1;
    }
    parts
};

/// By a code: how many bits of the key are behind a table's index. For a leaf so many that almost nothing is left: a
/// look-up that takes it for a table reads at the beginning of its line, and drops what it reads.
pub(super) const BEHIND: [u8; 64] = {
    let mut behind = [31; 64];
    let mut at = 0;
    while at < SHIFTS.len() {
        behind[TABLE as usize + at] = SHIFTS[at];
        at += 1;
    }
    behind
};

/// By how many last addresses a leaf holds: for how many it has room, and the code of one that begins its line. The codes
/// of those that begin later follow.
const FORMS: [(u8, u8); LINE + 1] = {
    let mut forms = [(0, 0); LINE + 1];
    let (mut lasts, mut code) = (0, 0);
    while lasts <= LINE {
        while (LEAVES[code].1 as usize) < lasts {
            code += 1;
        }
        forms[lasts] = (LEAVES[code].1, code as u8);
        lasts += 1;
    }
    forms
};

/// A handle, taken apart.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) struct Node(pub(super) u32);

impl Node {
    /// For how many last addresses a leaf that holds `lasts` has room.
    pub(super) fn room(lasts: usize) -> usize {
        debug_assert!(lasts <= LINE);
        FORMS.get(lasts).map_or(0, |form| form.0.into())
    }

    /// A leaf at a 64-bit word, with room for this many last addresses.
    pub(super) fn leaf(offset: u32, room: usize) -> Self {
        let code = FORMS.get(room).map_or(0, |form| u32::from(form.1)) + offset % 8;
        debug_assert_eq!(LEAVES[code as usize], (offset as u8 % 8, room as u8));
        Self((offset & !7) << 3 | code)
    }

    /// A table at a 64-bit word that begins a line, for keys from `first` on, with `shift` bits behind the index.
    pub(super) fn table(offset: u32, first: u32, shift: u32) -> Self {
        let code = BEHIND.iter().position(|&behind| u32::from(behind) == shift);
        debug_assert!(code.is_some());
        Self((offset << 3).wrapping_sub(first >> shift << 2) | code.unwrap_or(0) as u32)
    }

    #[inline(always)]
    pub(super) fn code(self) -> u32 {
        self.0 & CODE
    }

    /// For a table, how many bits of the key are behind its index.
    #[inline(always)]
    pub(super) fn table_shift(self) -> Option<u32> {
        (self.code() >= TABLE).then(|| BEHIND[self.code() as usize].into())
    }

    /// Where the entry of a table for `key` is, in 32-bit words.
    #[inline(always)]
    pub(super) fn entry(self, key: u32, shift: u32) -> usize {
        ((self.0 & !CODE).wrapping_add(key >> shift << 2) / 4) as usize
    }

    /// Where a leaf is, in 64-bit words.
    pub(super) fn offset(self) -> u32 {
        (self.at() / 2) as u32
    }

    /// Where a leaf is, in 32-bit words.
    pub(super) fn at(self) -> usize {
        let first = LEAVES.get(self.code() as usize).map_or(0, |leaf| leaf.0);
        (self.0 / 64) as usize * LINE + usize::from(first) * 2
    }

    /// For how many last addresses a leaf has room.
    pub(super) fn lasts(self) -> u32 {
        LEAVES.get(self.code() as usize).map_or(0, |leaf| leaf.1.into())
    }
}

/// The 32 bits of an address that a level's trees look at.
#[inline(always)]
pub(super) fn key(addr: u128, level: usize) -> u32 {
    (addr << STARTS[level] >> 96) as u32
}

/// The top entries.
#[inline(always)]
pub(super) fn tops(pages: &Pages) -> &[AtomicU32; TOPS] {
    static EMPTY: [AtomicU32; TOPS] = [const { AtomicU32::new(0) }; TOPS];
    // Always the first: there are that many.
    pages.heads()[TOP..].first_chunk().unwrap_or(&EMPTY)
}

/// The bits of an address that index the root.
#[inline(always)]
pub(super) fn first_bits(addr: u128) -> u32 {
    (addr >> (128 - STARTS[0])) as u32
}

/// The last entry of the root for an address with these first bits.
#[inline(always)]
pub(super) fn root_cell(tops: &[AtomicU32; TOPS], first: u32) -> usize {
    let middle = tops[(first >> MIDDLE_BITS) as usize % TOPS].load(Ordering::Acquire);
    middle as usize + first as usize % MIDDLE
}

/// Bytes that the root occupies.
pub(super) fn root_bytes(pages: &Pages) -> usize {
    let is_zero = |word: &AtomicU32| word.load(Ordering::Relaxed) == 0;
    let mut middles: Vec<_> = tops(pages).iter().map(|top| top.load(Ordering::Acquire) as usize).collect();
    middles.sort_unstable();
    middles.dedup();
    let bytes = |&middle: &usize| written_bytes(&pages.heads()[middle..middle + MIDDLE], is_zero);
    written_bytes(tops(pages), is_zero) + middles.iter().map(bytes).sum::<usize>()
}

/// How many of a leaf's last addresses are below `key`: the run that it belongs to.
#[inline(always)]
pub(super) fn rank(cells: &[AtomicU32], leaf: Node, key: u32) -> u32 {
    let lasts = &cells[leaf.at()..][..leaf.lasts() as usize];
    lasts.partition_point(|last| last.load(Ordering::Relaxed) < key) as u32
}

/// Where a table has the handle for `key`; `None` for a leaf.
#[inline(always)]
pub(super) fn link(node: Node, key: u32) -> Option<usize> {
    node.table_shift().map(|shift| node.entry(key, shift))
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
    while let Some(link) = link(node, key) {
        // Acquire: the handle may lead to a block that was not there a moment ago.
        node = Node(cells[link].load(Ordering::Acquire));
    }
    let said = run(cells, node, rank(cells, node, key));
    if is_escape(said) { escape(cells, node, said, addr, level) } else { Value::from(said) }
}
