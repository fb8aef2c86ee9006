//! Where a burst's frames are, and how their starts differ from that of the first.
#![allow(unsafe_code)] // Vector instructions after a check for them, and loads in bounds that the callers know.

use std::arch::x86_64::{
    __m256i, _mm256_extract_epi16, _mm256_loadu_si256, _mm256_or_si256, _mm256_setzero_si256,
    _mm256_ternarylogic_epi64, _mm256_test_epi64_mask, _mm256_xor_si256,
};
use std::mem::MaybeUninit;

use crate::burst::BURST;
use crate::expected::HEAD;
use crate::sub_interface::Head;

/// What is read in place of a frame.
static NO_FRAME: [u8; 64] = [0; 64];

/// Places in a burst's frames, by packet. All have to be set before they are read, those that are no packet's by
/// [`Self::end_at`].
#[repr(align(64))]
pub struct Places([MaybeUninit<*const u8>; BURST]);

impl Places {
    /// In place of a frame.
    const NONE: *const u8 = NO_FRAME.as_ptr();

    /// None of them set.
    #[inline(always)]
    pub fn unset() -> Self {
        Self([const { MaybeUninit::uninit() }; BURST])
    }

    /// Sets those from `count` on.
    #[inline(always)]
    pub fn end_at(&mut self, count: usize) {
        for place in self.0.iter_mut().skip(count) {
            place.write(Self::NONE);
        }
    }

    /// To be set.
    #[inline(always)]
    pub fn to_set(&mut self) -> &mut [MaybeUninit<*const u8>; BURST] {
        &mut self.0
    }

    /// All of them.
    ///
    /// # Safety
    /// All are set.
    #[inline(always)]
    pub unsafe fn all(&self) -> &[*const u8; BURST] {
        // SAFETY: the caller says so.
        unsafe { &*(&raw const self.0).cast() }
    }

    /// Sixteen, from a multiple of 16 below [`BURST`] on.
    ///
    /// # Safety
    /// As above.
    #[inline(always)]
    pub unsafe fn sixteen(&self, from: usize) -> &[*const u8; 16] {
        const NONE: [*const u8; 16] = [Places::NONE; 16];
        // SAFETY: as above.
        let all = unsafe { self.all() };
        all.get(from..).and_then(|places| places.first_chunk()).unwrap_or(const { &NONE })
    }
}

/// How the starts of frames differ from that of the first.
#[derive(Clone, Copy)]
pub struct Difference {
    first: __m256i,
    bits: __m256i,
}

impl Difference {
    /// None yet.
    #[inline]
    #[target_feature(enable = "avx512f,avx512vl")]
    pub(crate) fn to(first: &[u8; HEAD]) -> Self {
        // SAFETY: reads 32 bytes.
        let first = unsafe { _mm256_loadu_si256(first.as_ptr().cast()) };
        Self { first, bits: _mm256_setzero_si256() }
    }

    /// Adds that of one more frame.
    ///
    /// # Safety
    /// There are 32 bytes, and the processor has the features that this is compiled with.
    #[inline]
    #[target_feature(enable = "avx512f,avx512vl")]
    pub unsafe fn add(&mut self, frame: *const u8) {
        // Bits are added where the two frames are not the same.
        const ADD: i32 = 0b1111_0110;
        // SAFETY: as above.
        let start = unsafe { _mm256_loadu_si256(frame.cast()) };
        self.bits = _mm256_ternarylogic_epi64::<ADD>(self.bits, start, self.first);
    }

    /// Whether all begin like this.
    #[inline]
    #[target_feature(enable = "avx512f,avx512vl")]
    pub(crate) fn is_none_from(self, head: &Head) -> bool {
        // SAFETY: reads the 32 bytes of both.
        let (bytes, mask) = unsafe {
            (_mm256_loadu_si256(head.bytes.as_ptr().cast()), _mm256_loadu_si256(head.mask.as_ptr().cast()))
        };
        let bits = _mm256_or_si256(self.bits, _mm256_xor_si256(self.first, bytes));
        _mm256_test_epi64_mask(bits, mask) == 0
    }

    /// Whether all have the same two bytes where a tag's TCI is.
    #[inline]
    #[target_feature(enable = "avx512f,avx512vl")]
    pub(crate) fn is_none_in_tci(self) -> bool {
        _mm256_extract_epi16::<7>(self.bits) == 0
    }
}
