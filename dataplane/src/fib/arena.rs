//! Which words of a table's memory are in use: the allocator of its blocks. Control's side only; readers never
//! see it.
//!
//! A block of up to eight words never straddles a cache line. Within a line, free words are a bit mask, and lines
//! that are partly free hang in lists by their longest free run. Whole lines are a buddy system. Both merge what
//! is freed, so that a table that becomes empty is as it was when new.

use super::FibError;

/// 64-bit words of a cache line.
const LINE: usize = 8;
/// The largest buddy block, 2^8 lines or 16 KiB, by which the arena also grows.
const TOP: usize = 8;
const NONE: u32 = u32::MAX;

/// What a line is.
#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    /// Some words used: the free ones are the set bits. All used when there are none.
    Used(u8),
    /// The first line of a free buddy block of this order.
    Free(u8),
    /// Another line of a free buddy block.
    Inside,
}

#[derive(Clone, Copy)]
struct Line {
    state: State,
    prev: u32,
    next: u32,
}

/// The allocator. Offsets and sizes are in 64-bit words.
pub(super) struct Arena {
    lines: Vec<Line>,
    /// Heads of the lists of partly used lines, by longest free run (1 to 7; 0 is unused).
    partial: [u32; LINE],
    /// Heads of the lists of free buddy blocks, by order.
    buddies: [u32; TOP + 1],
    max_lines: usize,
    used: usize,
}

impl Arena {
    /// An arena that may grow to `words`.
    pub(super) fn new(words: usize) -> Self {
        Self {
            lines: Vec::new(),
            partial: [NONE; LINE],
            buddies: [NONE; TOP + 1],
            max_lines: words / LINE,
            used: 0,
        }
    }

    /// Words in use.
    pub(super) fn used(&self) -> usize {
        self.used
    }

    /// The words by which [`grow`](Self::grow) would grow it: commit the memory under them first.
    pub(super) fn next(&self) -> std::ops::Range<usize> {
        let first = self.lines.len() * LINE;
        first..first + (LINE << TOP)
    }

    /// Bytes of the allocator's own bookkeeping.
    pub(super) fn bookkeeping(&self) -> usize {
        self.lines.capacity() * size_of::<Line>()
    }

    /// A block of `words` words, at most 2^`TOP` lines, or `None` when the arena has to [`grow`](Self::grow)
    /// first.
    pub(super) fn alloc(&mut self, words: usize) -> Option<u32> {
        debug_assert!(words > 0 && words <= LINE << TOP);
        let offset = if words < LINE { self.alloc_small(words)? } else { self.alloc_large(words)? };
        self.used += words;
        Some(offset)
    }

    /// Asks for the bookkeeping of a block.
    pub(super) fn prefetch(&self, offset: u32) {
        super::prefetch(self.lines.as_ptr().wrapping_add(offset as usize / LINE));
    }

    /// Gives back a block.
    pub(super) fn free(&mut self, offset: u32, words: usize) {
        self.used -= words;
        let (first, whole, rest) = (offset as usize / LINE, words / LINE, words % LINE);
        for line in first..first + whole {
            self.free_lines(line, 0);
        }
        if rest > 0 {
            let mask = ((1u16 << rest) - 1) as u8;
            self.free_in_line(first + whole, mask << (offset as usize % LINE));
        }
    }

    /// Room for 2^`TOP` more lines. Nothing has changed on an error.
    pub(super) fn grow(&mut self) -> Result<(), FibError> {
        let count = 1 << TOP;
        let first = self.lines.len();
        let error = FibError::Memory { bytes: count * LINE * 8 };
        if first + count > self.max_lines {
            return Err(error);
        }
        self.lines.try_reserve(count).map_err(|_| error)?;
        self.lines.resize(first + count, Line { state: State::Inside, prev: NONE, next: NONE });
        self.push_buddy(first, TOP);
        Ok(())
    }

    fn alloc_small(&mut self, words: usize) -> Option<u32> {
        let line = if let Some(run) = (words..LINE).find(|&run| self.partial[run] != NONE) {
            self.partial[run] as usize
        } else {
            let line = self.take_lines(0)?;
            self.lines[line].state = State::Used(u8::MAX);
            line
        };
        let State::Used(mask) = self.lines[line].state else { return None };
        let start = (1..words).fold(mask, |fits, shift| fits & (mask >> shift)).trailing_zeros() as usize;
        let taken = (((1u16 << words) - 1) as u8) << start;
        self.set_mask(line, mask & !taken);
        Some((line * LINE + start) as u32)
    }

    fn alloc_large(&mut self, words: usize) -> Option<u32> {
        let (count, rest) = (words.div_ceil(LINE), words % LINE);
        let order = count.next_power_of_two().trailing_zeros() as usize;
        let first = self.take_lines(order)?;
        for line in first..first + count {
            self.lines[line].state = State::Used(0);
        }
        // What the power of two has too much goes back, in aligned pieces.
        let (mut spare, end) = (first + count, first + (1 << order));
        while spare < end {
            let piece = spare.trailing_zeros() as usize;
            self.free_lines(spare, piece);
            spare += 1 << piece;
        }
        if rest > 0 {
            self.set_mask(first + count - 1, u8::MAX << rest);
        }
        Some((first * LINE) as u32)
    }

    /// Takes a buddy block of this order, splitting a larger one if need be. Its lines' states are the caller's.
    fn take_lines(&mut self, order: usize) -> Option<usize> {
        let from = (order..=TOP).find(|&order| self.buddies[order] != NONE)?;
        let block = self.buddies[from] as usize;
        self.unlink_buddy(block, from);
        for smaller in (order..from).rev() {
            self.push_buddy(block + (1 << smaller), smaller);
        }
        Some(block)
    }

    fn free_lines(&mut self, mut block: usize, mut order: usize) {
        while order < TOP {
            let other = block ^ (1 << order);
            if self.lines[other].state != State::Free(order as u8) {
                break;
            }
            self.unlink_buddy(other, order);
            self.lines[block.max(other)].state = State::Inside;
            block = block.min(other);
            order += 1;
        }
        self.push_buddy(block, order);
    }

    fn free_in_line(&mut self, line: usize, words: u8) {
        if let State::Used(mask) = self.lines[line].state {
            debug_assert_eq!(mask & words, 0, "freed twice");
            self.set_mask(line, mask | words);
        }
    }

    /// Sets the free words of a partly used line and moves it to the list where it belongs.
    fn set_mask(&mut self, line: usize, mask: u8) {
        if let State::Used(old) = self.lines[line].state
            && old != u8::MAX
            && old != 0
        {
            let Line { prev, next, .. } = self.lines[line];
            Self::unlink(&mut self.lines, &mut self.partial[longest_run(old)], prev, next);
        }
        self.lines[line].state = State::Used(mask);
        match mask {
            0 => {}
            u8::MAX => self.free_lines(line, 0),
            _ => Self::link(&mut self.lines, &mut self.partial[longest_run(mask)], line),
        }
    }

    fn push_buddy(&mut self, block: usize, order: usize) {
        self.lines[block].state = State::Free(order as u8);
        Self::link(&mut self.lines, &mut self.buddies[order], block);
    }

    fn unlink_buddy(&mut self, block: usize, order: usize) {
        let Line { prev, next, .. } = self.lines[block];
        Self::unlink(&mut self.lines, &mut self.buddies[order], prev, next);
    }

    fn link(lines: &mut [Line], head: &mut u32, line: usize) {
        lines[line].prev = NONE;
        lines[line].next = *head;
        if *head != NONE {
            lines[*head as usize].prev = line as u32;
        }
        *head = line as u32;
    }

    fn unlink(lines: &mut [Line], head: &mut u32, prev: u32, next: u32) {
        if next != NONE {
            lines[next as usize].prev = prev;
        }
        if prev == NONE {
            *head = next;
        } else {
            lines[prev as usize].next = next;
        }
    }

    /// Whether all but the first of the largest buddy blocks are free and merged again.
    #[cfg(test)]
    pub(super) fn is_merged(&self) -> bool {
        self.lines.chunks(1 << TOP).skip(1).all(|block| block[0].state == State::Free(TOP as u8))
    }
}

/// The length of the longest run of set bits.
fn longest_run(mut mask: u8) -> usize {
    let mut run = 0;
    while mask != 0 {
        mask &= mask << 1;
        run += 1;
    }
    run
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn blocks_are_disjoint_stay_in_lines_and_merge(ops in prop::collection::vec((1usize..400, any::<u16>()), 1..300)) {
            let mut arena = Arena::new(1 << 20);
            let mut live: Vec<(u32, usize)> = Vec::new();
            // What a table has for good: something in the first line.
            arena.grow().unwrap();
            prop_assert_eq!(arena.alloc(1), Some(0));
            let mut owner = vec![false; 1 << 20];
            for (size, pick) in ops {
                if pick % 3 == 0 && !live.is_empty() {
                    let (offset, words) = live.swap_remove(pick as usize % live.len());
                    owner[offset as usize..][..words].fill(false);
                    arena.free(offset, words);
                } else {
                    let words = if pick % 2 == 0 { size } else { size % 8 + 1 };
                    let offset = loop {
                        match arena.alloc(words) {
                            Some(offset) => break offset,
                            None => { arena.grow().unwrap(); }
                        }
                    };
                    if words <= LINE {
                        prop_assert!(offset as usize % LINE + words <= LINE);
                    } else {
                        prop_assert_eq!(offset as usize % LINE, 0);
                    }
                    let span = &mut owner[offset as usize..][..words];
                    prop_assert!(span.iter().all(|used| !used));
                    span.fill(true);
                    live.push((offset, words));
                }
                prop_assert_eq!(arena.used(), 1 + live.iter().map(|block| block.1).sum::<usize>());
            }
            for (offset, words) in live {
                arena.free(offset, words);
            }
            prop_assert!(arena.used() == 1 && arena.is_merged());
        }
    }
}
