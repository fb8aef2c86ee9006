//! The L2 and IP headers of sixteen frames of one kind at a time, with AVX-512: each 32-bit word of the headers is a
//! vector over the frames.
#![allow(unsafe_code)] // Vector instructions after a check for them, and loads in bounds that the callers know.
#![allow(clippy::wildcard_imports)] // One intrinsic for each line.
#![allow(clippy::cast_possible_wrap)] // Vectors are of signed words; lengths and offsets are small.

use std::arch::x86_64::*;

use crate::burst::ROOM;
use crate::header::ethernet;
use crate::sub_interface::Pattern;

/// What is read in place of a frame.
static NO_FRAME: [u8; 64] = [0; 64];

/// The starts of a burst's frames, from the front.
#[repr(align(64))]
pub struct Frames(pub [*const u8; ROOM]);

impl Frames {
    /// None.
    #[inline(always)]
    pub fn none() -> Self {
        Self([NO_FRAME.as_ptr(); ROOM])
    }
}

/// Where what is found goes. An entry means something only for packets that are right.
pub struct Found<'a> {
    /// VIDs of the outer tag and of the inner one.
    pub vids: &'a mut [[u16; ROOM]; 2],
    /// Priority of the outer tag, 0 to 7; 0 without a tag.
    pub pcp: &'a mut [u8; ROOM],
    /// Length of the IP packet, in bytes.
    pub l3_len: &'a mut [u16; ROOM],
    /// IPv4 destination, host byte order.
    pub destination4: &'a mut [u32; ROOM],
    /// `ipv4::aged`.
    pub aged: &'a mut [u32; ROOM],
    /// IPv6 destination, host byte order; that of the first IPv6 packet first.
    pub destination6: &'a mut [u128; ROOM],
    /// The first IPv6 packet.
    pub first6: usize,
}

/// The ethertype as a half of a word that was read little-endian.
const fn swapped(ethertype: u16) -> i32 {
    ethertype.swap_bytes() as i32
}

/// The kinds of frames: IPv4 with no, one, two tags; IPv6 alike.
pub const KINDS: usize = 6;

/// Bytes to the end of the shortest header of a kind.
pub const fn end_of(kind: usize) -> usize {
    14 + 4 * (kind % 3) + if kind < 3 { 20 } else { 40 }
}

/// The sixteen frames from `from` on by their kinds, as bits of each; those too short for their kind's headers are of
/// none.
///
/// # Safety
/// `from` is less than 64. Each frame has 34 bytes, and `len` says how many, and in the place of any other there is a
/// valid pointer to 34 bytes. The processor has the features that this is compiled with.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl")]
pub unsafe fn kinds(frames: &Frames, len: &[u16; ROOM], from: usize) -> [u16; KINDS] {
    let half = _mm512_set1_epi32(0xffff);
    // SAFETY: as above: 12 + 16 is less than 34, and `from + 16` at most `ROOM`.
    let ([first, second, third, _], len) = unsafe {
        let starts = &*frames.0.as_ptr().add(from).cast();
        (transposed(starts, 12), _mm256_loadu_si256(len.as_ptr().add(from).cast()))
    };
    let len = _mm512_cvtepu16_epi32(len);
    let is = |word, ethertype| {
        _mm512_cmpeq_epi32_mask(_mm512_and_si512(word, half), _mm512_set1_epi32(swapped(ethertype)))
    };
    let fits = |kind| _mm512_cmpge_epi32_mask(len, _mm512_set1_epi32(end_of(kind) as i32));
    let words = [first, second, third];
    let (four, six) =
        (words.map(|word| is(word, ethernet::IPV4)), words.map(|word| is(word, ethernet::IPV6)));
    let tagged = !(four[0] | six[0]);
    let twice = tagged & !(four[1] | six[1]);
    [
        four[0] & fits(0),
        four[1] & tagged & fits(1),
        four[2] & twice & fits(2),
        six[0] & fits(3),
        six[1] & tagged & fits(4),
        six[2] & twice & fits(5),
    ]
}

/// Looks at the frames `from..to`, sixteen at most, which have so many tags as far as is known. Returns those that are
/// right, as bits from the first one on: by destination MAC address, TPIDs, ethertype, and all that `ipv4::expected` and
/// `ipv6::expected` ask for. The VLAN ids are not looked at, and IPv4's checksums only with `sum`.
///
/// # Safety
/// `from < to`, `to <= from + 16`, `to <= 64`, `found.first6 <= from` of IPv6, and each of the frames has at least
/// [`end_of`] their kind bytes. The processor has the features that this is compiled with.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,bmi2")]
#[allow(clippy::too_many_lines)] // One pass over vectors that would have to be handed on.
pub unsafe fn look<const TAGS: usize, const V6: bool>(
    frames: &Frames,
    len: &[u16; ROOM],
    from: usize,
    to: usize,
    pattern: &Pattern,
    sum: bool,
    found: &mut Found<'_>,
) -> u16 {
    let l3_offset = 14 + 4 * TAGS;
    let ones = _mm512_set1_epi32(-1);
    let half = _mm512_set1_epi32(0xffff);
    let byte = _mm512_set1_epi32(0xff);
    let all = u16::MAX >> (16 - (to - from).clamp(1, 16));

    // The others of the sixteen are none.
    let mut some = [NO_FRAME.as_ptr(); 16];
    let starts = match frames.0[from..].first_chunk() {
        Some(starts) if to - from == 16 => starts,
        _ => {
            some.iter_mut().zip(&frames.0[from..to]).for_each(|(some, start)| *some = *start);
            &some
        }
    };
    // SAFETY: `from + 16` is at most `ROOM`.
    let len = unsafe { _mm256_loadu_si256(len.as_ptr().add(from).cast()) };
    let len = _mm512_cvtepu16_epi32(len);
    let room = _mm512_sub_epi32(len, _mm512_set1_epi32(l3_offset as i32));
    // SAFETY: all are within the frame up to the end of an IPv4 header.
    let ([mac_low, mac_high, ..], [tag1, tag2, tag3, first], [second, third, source, destination]) = unsafe {
        (transposed(starts, 0), transposed(starts, l3_offset - 12), transposed(starts, l3_offset + 4))
    };

    let mac = pattern.mac;
    let high_is = |word, ethertype: u16| {
        _mm512_cmpeq_epi32_mask(_mm512_srli_epi32::<16>(word), _mm512_set1_epi32(swapped(ethertype)))
    };
    let mut l2 = _mm512_cmpeq_epi32_mask(
        mac_low,
        _mm512_set1_epi32(i32::from_le_bytes([mac[0], mac[1], mac[2], mac[3]])),
    ) & _mm512_cmpeq_epi32_mask(
        _mm512_and_si512(mac_high, half),
        _mm512_set1_epi32(i32::from_le_bytes([mac[4], mac[5], 0, 0])),
    ) & high_is(tag3, if V6 { ethernet::IPV6 } else { ethernet::IPV4 });
    if TAGS == 1 {
        l2 &= high_is(tag2, pattern.tpids[0]);
    }
    if TAGS == 2 {
        l2 &= high_is(tag1, pattern.tpids[0]) & high_is(tag2, pattern.tpids[1]);
    }
    // Bytes 1 and 0 of each word; 0xff in an index makes a zero.
    let low_half = _mm512_set4_epi32(-0xf3f3, -0xf7f7, -0xfbfb, -0xffff);
    let vid = |word| {
        _mm512_cvtepi32_epi16(_mm512_and_si512(_mm512_shuffle_epi8(word, low_half), _mm512_set1_epi32(0xfff)))
    };
    let pcp = |word| _mm512_cvtepi32_epi8(_mm512_srli_epi32::<5>(_mm512_and_si512(word, byte)));
    let (outer, inner, pcp) = match TAGS {
        0 => (_mm256_setzero_si256(), _mm256_setzero_si256(), _mm_setzero_si128()),
        1 => (vid(tag3), _mm256_setzero_si256(), pcp(tag3)),
        _ => (vid(tag2), vid(tag3), pcp(tag2)),
    };
    // SAFETY: `from + 16` is at most `ROOM`.
    unsafe {
        if TAGS > 0 {
            _mm256_storeu_si256(found.vids[0].as_mut_ptr().add(from).cast(), outer);
        }
        if TAGS > 1 {
            _mm256_storeu_si256(found.vids[1].as_mut_ptr().add(from).cast(), inner);
        }
        _mm_storeu_si128(found.pcp.as_mut_ptr().add(from).cast(), pcp);
    }

    let (l3, l3_len) = if V6 {
        // The second word: payload length, next header, hop limit.
        let l3_len = _mm512_add_epi32(_mm512_shuffle_epi8(second, low_half), _mm512_set1_epi32(40));
        let next_header = _mm512_and_si512(_mm512_srli_epi32::<16>(second), byte);
        let unusual = |first: __m512i| {
            let first = _mm512_and_si512(_mm512_add_epi32(first, _mm512_set1_epi32(2)), byte);
            _mm512_cmple_epu32_mask(first, _mm512_set1_epi32(2))
        };
        // SAFETY: a frame of this kind has 40 bytes from `l3` on, `NO_FRAME` 64 in all.
        let special =
            unsafe { destinations6(starts, l3_offset + 24, from - found.first6, found.destination6) };
        let right = _mm512_cmpeq_epi32_mask(
            _mm512_and_si512(first, _mm512_set1_epi32(0xf0)),
            _mm512_set1_epi32(0x60),
        ) & _mm512_cmple_epi32_mask(l3_len, room)
            & _mm512_test_epi32_mask(next_header, ones)
            & _mm512_cmpge_epu32_mask(_mm512_srli_epi32::<24>(second), _mm512_set1_epi32(2))
            & !unusual(third)
            & !special;
        (right, l3_len)
    } else {
        let mut sum_right = u16::MAX;
        if sum {
            let mut sum = _mm512_setzero_si512();
            for word in [first, second, third, source, destination] {
                sum = _mm512_add_epi32(sum, _mm512_and_si512(word, half));
                sum = _mm512_add_epi32(sum, _mm512_srli_epi32::<16>(word));
            }
            for _ in 0..2 {
                sum = _mm512_add_epi32(_mm512_and_si512(sum, half), _mm512_srli_epi32::<16>(sum));
            }
            sum_right = _mm512_cmpeq_epi32_mask(sum, half);
        }
        // Bytes 3 and 2 of each word.
        let l3_len = _mm512_shuffle_epi8(first, _mm512_set4_epi32(-0xf1f1, -0xf5f5, -0xf9f9, -0xfdfd));
        let special = |address| {
            let octet = _mm512_and_si512(address, byte);
            let less = _mm512_sub_epi32(octet, _mm512_set1_epi32(1));
            _mm512_cmpge_epu32_mask(less, _mm512_set1_epi32(223))
                | _mm512_cmpeq_epi32_mask(octet, _mm512_set1_epi32(127))
                | _mm512_cmpeq_epi32_mask(_mm512_and_si512(address, half), _mm512_set1_epi32(0xfea9))
        };
        let right = sum_right
            & _mm512_cmpeq_epi32_mask(_mm512_and_si512(first, byte), _mm512_set1_epi32(0x45))
            & _mm512_cmpge_epi32_mask(l3_len, _mm512_set1_epi32(20))
            & _mm512_cmple_epi32_mask(l3_len, room)
            & _mm512_test_epi32_mask(third, _mm512_set1_epi32(0xfe))
            & !special(source)
            & !special(destination);

        // As `ipv4::aged`.
        let old = _mm512_srli_epi32::<16>(_mm512_xor_si512(third, ones));
        let new = _mm512_add_epi32(old, _mm512_set1_epi32(0xfffe));
        let new = _mm512_add_epi32(new, _mm512_srli_epi32::<16>(new));
        let new = _mm512_slli_epi32::<16>(_mm512_xor_si512(new, ones));
        let aged = _mm512_and_si512(_mm512_sub_epi32(third, _mm512_set1_epi32(1)), half);
        let aged = _mm512_or_si512(aged, new);
        let reversed = _mm512_set4_epi32(0x0c0d_0e0f, 0x0809_0a0b, 0x0405_0607, 0x0001_0203);
        // SAFETY: `from + 16` is at most `ROOM`.
        unsafe {
            let to = found.destination4.as_mut_ptr().add(from).cast();
            _mm512_storeu_si512(to, _mm512_shuffle_epi8(destination, reversed));
            _mm512_storeu_si512(found.aged.as_mut_ptr().add(from).cast(), aged);
        }
        (right, l3_len)
    };
    // SAFETY: `from + 16` is at most `ROOM`.
    unsafe { _mm256_storeu_si256(found.l3_len.as_mut_ptr().add(from).cast(), _mm512_cvtepi32_epi16(l3_len)) };
    l2 & l3 & all
}

/// Four words of sixteen frames, from byte `at` on.
///
/// # Safety
/// All have 16 bytes from there on, and the processor has the features that this is compiled with.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl")]
unsafe fn transposed(starts: &[*const u8; 16], at: usize) -> [__m512i; 4] {
    // Four frames, 4 apart, so that transposing within lanes puts all sixteen in order.
    let four = |first: usize| {
        // SAFETY: as above.
        let lane = |k: usize| unsafe { _mm_loadu_si128(starts[first + 4 * k].add(at).cast()) };
        let all = _mm512_castsi128_si512(lane(0));
        let all = _mm512_inserti32x4::<1>(all, lane(1));
        let all = _mm512_inserti32x4::<2>(all, lane(2));
        _mm512_inserti32x4::<3>(all, lane(3))
    };
    let [a, b, c, d] = [four(0), four(1), four(2), four(3)];
    let (ab_low, ab_high) = (_mm512_unpacklo_epi32(a, b), _mm512_unpackhi_epi32(a, b));
    let (cd_low, cd_high) = (_mm512_unpacklo_epi32(c, d), _mm512_unpackhi_epi32(c, d));
    [
        _mm512_unpacklo_epi64(ab_low, cd_low),
        _mm512_unpackhi_epi64(ab_low, cd_low),
        _mm512_unpacklo_epi64(ab_high, cd_high),
        _mm512_unpackhi_epi64(ab_high, cd_high),
    ]
}

/// The IPv6 destinations of sixteen frames, from byte `at` on, go to `found` from `place` on. Returns those whose first
/// byte makes them unusual, as `ipv6::expected` has it, as bits.
///
/// # Safety
/// All have 16 bytes from there on; `place` is less than 64; and the processor has the features that this is compiled
/// with.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,bmi2")]
unsafe fn destinations6(starts: &[*const u8; 16], at: usize, place: usize, found: &mut [u128; ROOM]) -> u16 {
    let reversed = _mm512_set4_epi32(0x0001_0203, 0x0405_0607, 0x0809_0a0b, 0x0c0d_0e0f);
    let mut special = 0;
    for first in [0, 4, 8, 12] {
        // SAFETY: as above; `place + 16` is at most `ROOM`.
        let unusual = unsafe {
            let lane = |k: usize| _mm_loadu_si128(starts[first + k].add(at).cast());
            let all = _mm512_castsi128_si512(lane(0));
            let all = _mm512_inserti32x4::<1>(all, lane(1));
            let all = _mm512_inserti32x4::<2>(all, lane(2));
            let all = _mm512_inserti32x4::<3>(all, lane(3));
            let to = found.as_mut_ptr().add(place + first).cast();
            _mm512_storeu_si512(to, _mm512_shuffle_epi8(all, reversed));
            _mm512_cmple_epu8_mask(_mm512_add_epi8(all, _mm512_set1_epi8(2)), _mm512_set1_epi8(2))
        };
        special |= (_pext_u64(unusual, 0x0001_0001_0001_0001) as u16) << first;
    }
    special
}
