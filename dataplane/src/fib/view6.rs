//! The memory of an IPv6 table as the look-up of a burst reads it: without a check for each word, since a place,
//! whatever a handle says, is cut to lie within the table's memory, which goes on a little behind.
#![allow(unsafe_code)] // Reads without checks: they would be a tenth of a look-up.

use std::sync::atomic::{AtomicU16, AtomicU32, Ordering};

use super::node6::{BLOCKS, FIRST_NUMBER, LINE, MIDDLE, TOPS, tops};
use super::pages::{Pages, SPARE};

/// The memory.
#[derive(Clone, Copy)]
pub(super) struct View<'a> {
    tops: &'a [AtomicU32; TOPS],
    heads: &'a [AtomicU32],
    words: &'a [AtomicU32],
    halves: &'a [AtomicU16],
    /// What the place of a block's byte may be: below a power of two that leaves `2 * SPARE` words behind it.
    mask: u32,
}

impl<'a> View<'a> {
    #[inline(always)]
    pub(super) fn of(pages: &'a Pages) -> Self {
        let (heads, words) = (pages.heads(), &pages.heads()[BLOCKS..]);
        // The arena's size is a power of two, so this cuts nothing off that is in use.
        let room = 4 << (words.len() - 2 * SPARE).ilog2();
        Self { tops: tops(pages), heads, words, halves: pages.head_halves(BLOCKS), mask: room as u32 - 1 }
    }

    /// What the bytes of a handle, or of a place in a table, are cut with.
    #[inline(always)]
    pub(super) fn mask(self) -> u32 {
        self.mask
    }

    /// The handle of the tree for an address whose first 16 bits are `top`, and the next 12 `second`.
    ///
    /// # Safety
    /// `second` is below [`MIDDLE`].
    #[inline(always)]
    pub(super) unsafe fn root(self, top: u16, second: u32) -> u32 {
        let place = self.tops[usize::from(top)].load(Ordering::Acquire);
        debug_assert!((second as usize) < MIDDLE && place as usize + MIDDLE <= FIRST_NUMBER);
        // SAFETY: the top entries are the writer's (or 0), and the places of second parts, which end before the writer's
        // numbers. `of` has seen that there are words behind these.
        unsafe { self.heads.get_unchecked((place + second) as usize) }.load(Ordering::Acquire)
    }

    /// The first of the top entries.
    #[inline(always)]
    pub(super) fn tops(self) -> *const AtomicU32 {
        self.tops.as_ptr()
    }

    /// The first of the words that top entries are the places of.
    #[inline(always)]
    pub(super) fn heads(self) -> *const AtomicU32 {
        self.heads.as_ptr()
    }

    /// The first word of the blocks.
    #[inline(always)]
    pub(super) fn words(self) -> *const AtomicU32 {
        self.words.as_ptr()
    }

    /// The 32-bit word at byte `place` of the blocks. Acquire: it may be a handle that leads to a block that was not
    /// there a moment ago.
    ///
    /// # Safety
    /// The place is cut with the mask, and a multiple of 4.
    #[inline(always)]
    pub(super) unsafe fn word(self, place: u32) -> u32 {
        debug_assert!(place <= self.mask && place.is_multiple_of(4));
        // SAFETY: below the mask, behind which there are more words; an atomic has the alignment of its word.
        unsafe { &*self.words.as_ptr().byte_add(place as usize) }.load(Ordering::Acquire)
    }

    /// The cache line at byte `place` of the blocks.
    ///
    /// # Safety
    /// The place is cut with the mask, and a multiple of 64.
    #[inline(always)]
    pub(super) unsafe fn line(self, place: u32) -> &'a [AtomicU32; LINE] {
        debug_assert!(place <= self.mask && place.is_multiple_of(64));
        // SAFETY: below the mask, behind which there are `2 * SPARE` words more, and that is over a line. An array of
        // atomics has their alignment.
        unsafe { &*self.words.as_ptr().byte_add(place as usize).cast() }
    }

    /// The 16-bit word `at` of the blocks.
    ///
    /// # Safety
    /// It is at most two lines behind what the mask leaves.
    #[inline(always)]
    pub(super) unsafe fn half(self, at: u32) -> u16 {
        debug_assert!(at <= self.mask / 2 + 4 * LINE as u32);
        // SAFETY: `2 * SPARE` words are eight lines.
        unsafe { self.halves.get_unchecked(at as usize) }.load(Ordering::Relaxed)
    }
}
