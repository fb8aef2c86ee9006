//! The blocks of an IPv6 table as the look-up of a burst reads them: without a check for each word, since the place
//! of a block, whatever a handle says, is cut to lie within the table's memory, which goes on a little behind.
#![allow(unsafe_code)] // Reads without checks: they would be a tenth of a look-up.

use std::sync::atomic::{AtomicU16, AtomicU32, Ordering};

use super::node6::{BLOCKS, Node};
use super::pages::{Pages, SPARE};

/// 32-bit words of a cache line.
const LINE: usize = 16;

/// The blocks.
#[derive(Clone, Copy)]
pub(super) struct View<'a> {
    words: &'a [AtomicU32],
    halves: &'a [AtomicU16],
    /// What the place of a line may be: below a power of two that leaves `2 * SPARE` words behind it.
    mask: u32,
}

impl<'a> View<'a> {
    #[inline(always)]
    pub(super) fn of(pages: &'a Pages) -> Self {
        let words = &pages.heads()[BLOCKS..];
        // The arena's size is a power of two, so this cuts nothing off that is in use.
        let room = 1 << (words.len() - 2 * SPARE).ilog2();
        Self { words, halves: pages.head_halves(BLOCKS), mask: (room as u32 - 1) & !(LINE as u32 - 1) }
    }

    /// The cache line of a node: a fork begins one, a leaf but for its cells lies within one.
    #[inline(always)]
    pub(super) fn line(self, node: Node) -> &'a [AtomicU32; LINE] {
        let start = (node.0 >> 4 & self.mask) as usize;
        debug_assert!(start + LINE <= self.words.len());
        // SAFETY: `start` is below the mask, behind which there are `2 * SPARE` words more, and that is over a line. An
        // array of atomics has their alignment.
        unsafe { &*self.words.as_ptr().add(start).cast() }
    }

    /// What the run `rank` of a leaf holds, a value or the place of a cell. `first` is where the first run's stands, in
    /// 16-bit words from the start of the line.
    #[inline(always)]
    pub(super) fn run(self, leaf: Node, first: u32, rank: u32) -> u16 {
        let at = (leaf.0 >> 3 & self.mask << 1) as usize + first as usize + rank as usize;
        debug_assert!(at < self.halves.len() && first < 64 && rank < 16);
        // SAFETY: 80 behind a place below the mask, which is within the words behind it.
        unsafe { self.halves.get_unchecked(at) }.load(Ordering::Relaxed)
    }

    /// Asks for the memory of a node.
    #[inline(always)]
    pub(super) fn prefetch(self, node: Node) {
        super::prefetch(self.words.as_ptr().wrapping_add((node.0 >> 4 & self.mask) as usize));
    }
}

/// Where in its line a leaf is, by the last eight bits of its handle.
pub(super) struct Leaf(u32);

impl Leaf {
    /// Of a leaf.
    #[inline(always)]
    pub(super) fn of(leaf: Node) -> Self {
        static LEAVES: [u32; 256] = {
            let mut leaves = [0; 256];
            let mut at = 0;
            while at < leaves.len() {
                let (first, lasts) = (at as u32 >> 5 << 1, at as u32 >> 1 & 15);
                // Its first word in the line, how many last addresses it has, and where its values begin.
                leaves[at] = first | lasts << 8 | ((first + lasts) * 2) << 16;
                at += 1;
            }
            leaves
        };
        Self(LEAVES[(leaf.0 & 0xFF) as usize])
    }

    /// The leaf's first word in the line in bits 0 to 7, and in bits 8 to 15 how many last addresses it has.
    #[inline(always)]
    pub(super) fn lasts(&self) -> u32 {
        self.0
    }

    /// Where its values begin, in 16-bit words from the start of the line.
    #[inline(always)]
    pub(super) fn values(&self) -> u32 {
        self.0 >> 16
    }
}
