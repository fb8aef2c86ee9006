//! The memory of one table: a stretch of address space that the kernel fills with zeroed pages as they are
//! first written, so that a table's address never changes while it grows and an empty one costs next to nothing.
//!
//! Everything in it is an atomic, so that a reader that races the writer is never a data race.
#![allow(unsafe_code)] // mmap and madvise have no safe form; this file is the FIB's only use of them.

use std::ptr::NonNull;
use std::sync::atomic::{AtomicBool, AtomicU16, AtomicU32, AtomicU64, AtomicUsize, Ordering};

use super::FibError;

/// A huge page on `x86_64`, and the alignment of the whole stretch.
const HUGE: usize = 2 << 20;

/// The fewest bytes of blocks to work with.
const LEAST: usize = 1 << 20;

/// 64-bit words behind the blocks, so that a reader of the last one may read on a little.
pub(super) const SPARE: usize = 64;

/// What to reserve beside the root, in bytes, a power of two.
#[derive(Clone, Copy)]
pub(super) enum Room {
    /// More 32-bit words.
    Heads(usize),
    /// 64-bit words.
    Words(usize),
}

/// Zeroed pages: first `heads` 32-bit words, then 64-bit words to the end.
pub(super) struct Pages {
    base: NonNull<u8>,
    /// Where the reservation starts and how long it is: `base` is its first huge-page boundary.
    #[cfg(not(miri))]
    reserved: (NonNull<libc::c_void>, usize),
    heads: usize,
    words: usize,
    /// Whether huge pages were asked for, and whether they were granted.
    asked: AtomicBool,
    huge: AtomicBool,
    used: AtomicUsize,
}

// SAFETY: the stretch belongs to this value alone, is unmapped only when it is dropped, and is only handed out
// as slices of atomics.
unsafe impl Send for Pages {}
// SAFETY: as above.
unsafe impl Sync for Pages {}

impl Pages {
    /// Reserves room for `heads` 32-bit words (whole cache lines of them) and what `room` says, or less of that where
    /// address space is limited.
    pub(super) fn reserve(heads: usize, room: Room) -> Result<Self, FibError> {
        debug_assert!(heads.is_multiple_of(16));
        let (Room::Heads(most) | Room::Words(most)) = room;
        let mut bytes = if cfg!(miri) { 1 << 20 } else { most };
        loop {
            let pages = match room {
                Room::Heads(_) => Self::try_reserve(heads + bytes / 4 + 2 * SPARE, 0),
                Room::Words(_) => Self::try_reserve(heads, bytes / 8 + SPARE),
            };
            match pages {
                Some(pages) => return Ok(pages),
                None if bytes > LEAST => bytes /= 2,
                None => return Err(FibError::Memory { bytes: heads * 4 + bytes }),
            }
        }
    }

    #[cfg(not(miri))]
    fn try_reserve(heads: usize, words: usize) -> Option<Self> {
        let length = heads.checked_mul(4)?.checked_add(words.checked_mul(8)?)?.checked_add(HUGE)?;
        // SAFETY: a fresh anonymous mapping; it touches no memory that exists.
        let start = unsafe {
            libc::mmap(
                std::ptr::null_mut(),
                length,
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE,
                -1,
                0,
            )
        };
        if start == libc::MAP_FAILED {
            return None;
        }
        let start = NonNull::new(start)?;
        let skip = start.cast::<u8>().as_ptr().align_offset(HUGE);
        // SAFETY: `skip` is below HUGE, by which the mapping is longer than what is used of it.
        let base = unsafe { start.cast::<u8>().add(skip) };
        Some(Self {
            base,
            reserved: (start, length),
            heads,
            words,
            asked: AtomicBool::new(false),
            huge: AtomicBool::new(false),
            used: AtomicUsize::new(0),
        })
    }

    #[cfg(miri)]
    fn try_reserve(heads: usize, words: usize) -> Option<Self> {
        let layout = std::alloc::Layout::from_size_align(heads * 4 + words * 8, 64).ok()?;
        // SAFETY: the layout's size is not zero.
        let base = NonNull::new(unsafe { std::alloc::alloc_zeroed(layout) })?;
        let (asked, huge) = (AtomicBool::new(false), AtomicBool::new(false));
        Some(Self { base, heads, words, asked, huge, used: AtomicUsize::new(0) })
    }

    /// The 32-bit words.
    #[inline]
    pub(super) fn heads(&self) -> &[AtomicU32] {
        // SAFETY: `base` is aligned and points to `heads` zeroed words that live as long as `self` and that
        // nobody sees as anything but `AtomicU32`.
        unsafe { std::slice::from_raw_parts(self.base.as_ptr().cast(), self.heads) }
    }

    /// The 64-bit words, aligned to a cache line when `heads` is a multiple of 16.
    #[inline]
    pub(super) fn words(&self) -> &[AtomicU64] {
        // SAFETY: as in `heads`, for the `words` words behind them; `heads` is even, which keeps the alignment.
        unsafe { std::slice::from_raw_parts(self.base.as_ptr().add(self.heads * 4).cast(), self.words) }
    }

    /// The 64-bit words, as four 16-bit words each, lowest first.
    ///
    /// Rust lets atomics of different sizes share memory as long as accesses of different sizes do not race. So only
    /// words may be read this way that no longer change once a reader has been led to them by an acquiring load.
    #[cfg(target_endian = "little")]
    #[inline]
    pub(super) fn halves(&self) -> &[AtomicU16] {
        // SAFETY: the memory of `words`, whose alignment is more than enough; `AtomicU16` is what callers see of it
        // under the rule above.
        unsafe { std::slice::from_raw_parts(self.words().as_ptr().cast(), self.words * 4) }
    }

    /// The 32-bit words from `first` on, as two 16-bit words each, lowest first, under the rule of
    /// [`halves`](Self::halves).
    #[cfg(target_endian = "little")]
    #[inline]
    pub(super) fn head_halves(&self, first: usize) -> &[AtomicU16] {
        let words = &self.heads()[first..];
        // SAFETY: as in `halves`, for the memory of these words.
        unsafe { std::slice::from_raw_parts(words.as_ptr().cast(), words.len() * 2) }
    }

    /// Makes the kernel give pages for the bytes `from..to` now, so that a lack of memory is an error here and not
    /// a signal at the first write.
    #[cfg(not(miri))]
    pub(super) fn commit(&self, from: usize, to: usize) -> Result<(), FibError> {
        const PAGE: usize = 4096;
        let first = from & !(PAGE - 1);
        let last = to.min(self.heads * 4 + self.words * 8);
        // SAFETY: the range lies in our own mapping, and populating pages does not change what they hold.
        let result = unsafe {
            libc::madvise(self.base.as_ptr().add(first).cast(), last - first, libc::MADV_POPULATE_WRITE)
        };
        // Kernels before 5.14 do not know the advice (EINVAL) and fill pages at the first write.
        if result == 0 || std::io::Error::last_os_error().raw_os_error() == Some(libc::EINVAL) {
            Ok(())
        } else {
            Err(FibError::Memory { bytes: last - first })
        }
    }

    #[cfg(miri)]
    #[allow(clippy::unused_self, clippy::unnecessary_wraps)] // The same face as the real one.
    pub(super) fn commit(&self, _from: usize, _to: usize) -> Result<(), FibError> {
        Ok(())
    }

    /// Asks for huge pages from byte `from` on, and for what is used of them up to `to` at once. Worth it for a large
    /// table: the look-ups of a burst then need a few TLB entries instead of hundreds.
    pub(super) fn prefer_huge(&self, from: usize, to: usize) {
        if self.asked.swap(true, Ordering::Relaxed) {
            return;
        }
        #[cfg(not(miri))]
        {
            const MADV_COLLAPSE: i32 = 25;
            let from = from & !(HUGE - 1);
            let end = (self.heads * 4 + self.words * 8) & !(HUGE - 1);
            let to = to.next_multiple_of(HUGE).min(end);
            // SAFETY: the ranges lie in our own mapping, and the advice does not change what they hold.
            let granted = unsafe {
                let start = self.base.as_ptr().add(from).cast();
                libc::madvise(start, end - from, libc::MADV_HUGEPAGE) == 0
                    && libc::madvise(start, to - from, MADV_COLLAPSE) == 0
            };
            self.huge.store(granted, Ordering::Relaxed);
        }
        #[cfg(miri)]
        let _ = (from, to);
    }

    /// Notes how many of the 64-bit words blocks occupy.
    pub(super) fn set_used(&self, words: usize) {
        self.used.store(words, Ordering::Relaxed);
    }

    /// Bytes that blocks occupy.
    pub(super) fn used_bytes(&self) -> usize {
        self.used.load(Ordering::Relaxed) * size_of::<AtomicU64>()
    }

    /// Whether huge pages were granted; `None` if they were not asked for.
    pub(super) fn huge(&self) -> Option<bool> {
        self.asked.load(Ordering::Relaxed).then(|| self.huge.load(Ordering::Relaxed))
    }
}

/// Bytes of the pages under some words that were ever written: the kernel gives a page where something is.
pub(super) fn written_bytes<W>(words: &[W], is_zero: impl Fn(&W) -> bool) -> usize {
    const PAGE: usize = 4096;
    words.chunks(PAGE / size_of::<W>()).filter(|page| !page.iter().all(&is_zero)).count() * PAGE
}

impl Drop for Pages {
    fn drop(&mut self) {
        // SAFETY: this is the mapping that `try_reserve` made; no slice of it outlives `self`.
        #[cfg(not(miri))]
        unsafe {
            libc::munmap(self.reserved.0.as_ptr(), self.reserved.1);
        }
        #[cfg(miri)]
        if let Ok(layout) = std::alloc::Layout::from_size_align(self.heads * 4 + self.words * 8, 64) {
            // SAFETY: the allocation and layout of `try_reserve`.
            unsafe { std::alloc::dealloc(self.base.as_ptr(), layout) };
        }
    }
}

impl std::fmt::Debug for Pages {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Pages")
            .field("heads", &self.heads)
            .field("words", &self.words)
            .finish_non_exhaustive()
    }
}
