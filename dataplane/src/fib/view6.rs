//! The blocks of an IPv6 table as the look-up of a burst reads them: without a check for each word, since the place
//! of a block, whatever a handle says, is cut to lie within the table's memory, which goes on a little behind.
#![allow(unsafe_code)] // Reads without checks: they would be a tenth of a look-up.

use std::sync::atomic::{AtomicU16, AtomicU32, Ordering};

use super::node6::{BLOCKS, FORK_LINKS, Node};
use super::pages::{Pages, SPARE};

/// 32-bit words of a cache line.
const LINE: usize = 16;

/// The blocks.
#[derive(Clone, Copy)]
pub(super) struct View<'a> {
    words: &'a [AtomicU32],
    halves: &'a [AtomicU16],
    /// What a place may be: below a power of two that leaves `2 * SPARE` words behind it, and even.
    mask: u32,
}

impl<'a> View<'a> {
    #[inline(always)]
    pub(super) fn of(pages: &'a Pages) -> Self {
        let words = &pages.heads()[BLOCKS..];
        // The arena's size is a power of two, so this cuts nothing off that is in use.
        let room = 1 << (words.len() - 2 * SPARE).ilog2();
        Self { words, halves: pages.head_halves(BLOCKS), mask: (room as u32 - 1) & !1 }
    }

    /// Where a node is, in 32-bit words.
    #[inline(always)]
    fn at(self, node: Node) -> usize {
        (node.0 >> 4 & self.mask) as usize
    }

    /// Where in its line a node begins, in 32-bit words.
    #[inline(always)]
    pub(super) fn place(self, node: Node) -> u32 {
        node.0 >> 4 & self.mask & (LINE as u32 - 1)
    }

    /// The cache line with all of a node's last addresses: a node either lies within a line or begins one.
    #[inline(always)]
    pub(super) fn line(self, node: Node) -> &'a [AtomicU32; LINE] {
        let start = self.at(node) & !(LINE - 1);
        debug_assert!(start + LINE <= self.words.len());
        // SAFETY: `start` is below the mask, behind which there are `2 * SPARE` words more, and that is over a line. An
        // array of atomics has their alignment.
        unsafe { &*self.words.as_ptr().add(start).cast() }
    }

    /// The last address of run or child `rank`, which is at most 15.
    #[inline(always)]
    pub(super) fn last(self, node: Node, rank: u32) -> u32 {
        debug_assert!(rank < 16);
        // SAFETY: at most 15 words behind a place.
        unsafe { self.words.get_unchecked(self.at(node) + (rank & 15) as usize) }.load(Ordering::Relaxed)
    }

    /// The child `rank` of a fork. Acquire: the handle may lead to a block that was not there a moment ago.
    #[inline(always)]
    pub(super) fn child(self, fork: Node, rank: u32) -> Node {
        let at = self.at(fork) + FORK_LINKS + (rank & 15) as usize;
        debug_assert!(at < self.words.len());
        // SAFETY: at most 31 words behind a place.
        Node(unsafe { self.words.get_unchecked(at) }.load(Ordering::Acquire))
    }

    /// What the run `rank` of a leaf holds: a value, or the place of a cell.
    #[inline(always)]
    pub(super) fn run(self, leaf: Node, rank: u32) -> u16 {
        let at = (self.at(leaf) + leaf.lasts() as usize) * 2 + (rank & 15) as usize;
        debug_assert!(at < self.halves.len());
        // SAFETY: a leaf has at most 15 last addresses; so this is at most 23 words behind a place.
        unsafe { self.halves.get_unchecked(at) }.load(Ordering::Relaxed)
    }

    /// Asks for the memory of a node: its first line, and a fork's or a long leaf's second.
    #[inline(always)]
    pub(super) fn prefetch(self, node: Node) {
        let first = self.words.as_ptr().wrapping_add(self.at(node));
        super::prefetch(first);
        let lasts = node.lasts() as usize;
        super::prefetch(first.wrapping_add(if node.is_fork() == 1 { FORK_LINKS } else { lasts + lasts / 2 }));
    }
}
