//! The L2 and IP headers of sixteen frames at a time, with AVX-512: each 32-bit word of the headers is a vector over the
//! frames.
#![allow(unsafe_code)] // Vector instructions after a check for them, and loads in bounds that the callers know.
#![allow(clippy::wildcard_imports)] // One intrinsic for each line.
#![allow(clippy::cast_possible_wrap)] // Vectors are of signed words; lengths and offsets are small.

use std::arch::x86_64::*;

use crate::burst::{BURST, Bits, Lane, ROOM};
use crate::header::ethernet;
use crate::header::places::Places;
use crate::header::transpose::{transposed, transposed8};
use crate::sub_interface::Pattern;

/// Where what is found of packets goes. An entry means something only for packets that are right.
pub struct Found<'a> {
    /// VIDs of the outer tag and of the inner one.
    pub vids: &'a mut [[u16; ROOM]; 2],
    /// Priority of the outer tag, 0 to 7; 0 without a tag.
    pub pcp: &'a mut [u8; ROOM],
    /// Where the IP header starts, in bytes from the frame's start.
    pub l3_offset: &'a mut [u8; BURST],
    /// Length of the IP packet, in bytes.
    pub l3_len: &'a mut [u16; ROOM],
    /// The IPv4 packets to look up.
    pub v4: &'a mut Lane<u32>,
    /// `ipv4::aged` of each of them.
    pub aged: &'a mut [u32; ROOM],
    /// The IPv6 packets to look up.
    pub v6: &'a mut Lane<u128>,
}

/// The ethertype as a half of a word that was read little-endian.
const fn swapped(ethertype: u16) -> i32 {
    ethertype.swap_bytes() as i32
}

/// Bytes to the end of the shortest header of a kind of frames: 0 to 2 are IPv4 with as many tags, 3 to 5 IPv6 alike.
pub const fn end_of(kind: usize) -> usize {
    14 + 4 * (kind % 3) + if kind < 3 { 20 } else { 40 }
}

/// Looks at the first `count` frames, which are of one kind by `Head`. Returns those that are right, as bits: by all
/// that `ipv4::expected` and `ipv6::expected` ask for, IPv4's checksums only with `sum`. The VLAN ids are not looked at.
/// The lanes have each packet at the place of its number. `one_tci`: all have the same outer tag, and neither its VID nor
/// its priority is looked for.
///
/// # Safety
/// `count <= 64`; all places are set, and each of the frames has [`end_of`] their kind bytes. The processor has the
/// features that this is compiled with.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,bmi2")]
pub unsafe fn look<const TAGS: usize, const V6: bool>(
    frames: &Places,
    len: &[u16; ROOM],
    count: usize,
    [sum, one_tci]: [bool; 2],
    found: &mut Found<'_>,
) -> u64 {
    let l3_offset = 14 + 4 * TAGS;
    let mut all_right = 0;
    for from in (0..count.min(BURST)).step_by(16) {
        // SAFETY: all are set.
        let starts = unsafe { frames.sixteen(from) };
        // SAFETY: `from + 16` is at most `ROOM`.
        let len = _mm512_cvtepu16_epi32(unsafe { _mm256_loadu_si256(len.as_ptr().add(from).cast()) });
        let room = _mm512_sub_epi32(len, _mm512_set1_epi32(l3_offset as i32));
        let (last_but_one, last, right, l3_len) = if V6 {
            // SAFETY: these are within the frame; it has 40 bytes from its IP header on, what is read in place of one 64 in
            // all.
            let (last_but_one, [last, _, second, third], special) = unsafe {
                let [last_but_one, ..] = transposed(starts, l3_offset - 8);
                let special = destinations6(starts, l3_offset + 24, from, &mut found.v6.destination);
                (last_but_one, transposed(starts, l3_offset - 4), special)
            };
            let (right, l3_len) = six(second, third, room);
            (last_but_one, last, right & !special, l3_len)
        } else {
            // SAFETY: all are within the frame up to the end of an IPv4 header.
            let [_, last_but_one, last, first, second, third, source, destination] =
                unsafe { transposed8(starts, l3_offset - 12) };
            let (right, l3_len, aged) = four(&[first, second, third, source, destination], room, sum);
            // SAFETY: `from + 16` is at most `ROOM`.
            unsafe {
                let to = found.v4.destination.as_mut_ptr().add(from).cast();
                _mm512_storeu_si512(to, reversed(destination));
                _mm512_storeu_si512(found.aged.as_mut_ptr().add(from).cast(), aged);
            }
            (last_but_one, last, right, l3_len)
        };
        // SAFETY: `from + 16` is at most `ROOM`.
        unsafe {
            if TAGS > 0 && !one_tci {
                let outer = if TAGS == 1 { last } else { last_but_one };
                _mm256_storeu_si256(found.vids[0].as_mut_ptr().add(from).cast(), vid(outer));
                _mm_storeu_si128(found.pcp.as_mut_ptr().add(from).cast(), pcp(outer));
            }
            if TAGS > 1 {
                _mm256_storeu_si256(found.vids[1].as_mut_ptr().add(from).cast(), vid(last));
            }
        }
        // SAFETY: `from + 16` is at most `ROOM`.
        unsafe {
            _mm256_storeu_si256(found.l3_len.as_mut_ptr().add(from).cast(), _mm512_cvtepi32_epi16(l3_len));
        }
        all_right |= u64::from(right) << from;
    }
    all_right & u64::MAX >> (BURST - count.clamp(1, BURST))
}

/// Frames whose L2 headers are right but for the VLAN ids, as bits: by number of tags, and those of IPv6.
#[derive(Clone, Copy, Default)]
pub struct Layers {
    /// With no, one, two tags.
    pub tags: [u64; 3],
    /// With IPv6.
    pub six: u64,
}

/// Looks at the L2 headers of the first `count` frames, of whatever kinds; `patterns` are those of the numbers of tags.
/// Those that are right have all of their kind's headers. Of others `l3_offset` is noted as 14, so that all have 20 bytes
/// from there on.
///
/// # Safety
/// `count <= 64`; all places are set, and each of the frames has 34 bytes, and `len` says how many.
/// The processor has the features that this is compiled with.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl")]
pub unsafe fn layers(
    frames: &Places,
    len: &[u16; ROOM],
    count: usize,
    patterns: [Option<&Pattern>; 3],
    found: &mut Found<'_>,
) -> Layers {
    let mut layers = Layers::default();
    for from in (0..count.min(BURST)).step_by(16) {
        // SAFETY: all are set.
        let starts = unsafe { frames.sixteen(from) };
        // SAFETY: all are within 32 bytes.
        let [mac_low, mac_high, _, first, second, third, ..] = unsafe { transposed8(starts, 0) };
        // SAFETY: `from + 16` is at most `ROOM`.
        let len = _mm512_cvtepu16_epi32(unsafe { _mm256_loadu_si256(len.as_ptr().add(from).cast()) });
        let ip = |word| {
            let six = low_is(word, swapped(ethernet::IPV6));
            (low_is(word, swapped(ethernet::IPV4)) | six, six)
        };
        let [(ip0, six0), (ip1, six1), (ip2, six2)] = [ip(first), ip(second), ip(third)];
        let mut tags = [ip0, !ip0 & ip1, !ip0 & !ip1 & ip2];
        let six = tags[0] & six0 | tags[1] & six1 | tags[2] & six2;
        for (with, (count, pattern)) in tags.iter_mut().zip(patterns.iter().enumerate()) {
            let Some(Pattern { mac, tpids }) = pattern else {
                *with = 0;
                continue;
            };
            let low = i32::from_le_bytes([mac[0], mac[1], mac[2], mac[3]]);
            let high = i32::from_le_bytes([mac[4], mac[5], 0, 0]);
            *with &= _mm512_cmpeq_epi32_mask(mac_low, _mm512_set1_epi32(low)) & low_is(mac_high, high);
            if count > 0 {
                *with &= low_is(first, swapped(tpids[0]));
            }
            if count > 1 {
                *with &= low_is(second, swapped(tpids[1]));
            }
        }
        let l3_offset = _mm512_set1_epi32(14);
        let l3_offset = _mm512_mask_mov_epi32(l3_offset, tags[1], _mm512_set1_epi32(18));
        let l3_offset = _mm512_mask_mov_epi32(l3_offset, tags[2], _mm512_set1_epi32(22));
        let header = _mm512_mask_mov_epi32(_mm512_set1_epi32(20), six, _mm512_set1_epi32(40));
        let fits = _mm512_cmpge_epi32_mask(len, _mm512_add_epi32(l3_offset, header));
        let outer = _mm512_maskz_srli_epi32::<16>(tags[1] | tags[2], first);
        let inner = _mm512_srli_epi32::<16>(second);
        let right = (tags[0] | tags[1] | tags[2]) & fits;
        let l3_offset = _mm512_mask_mov_epi32(_mm512_set1_epi32(14), right, l3_offset);
        // SAFETY: `from + 16` is at most `BURST`.
        unsafe {
            _mm256_storeu_si256(found.vids[0].as_mut_ptr().add(from).cast(), vid(outer));
            _mm256_storeu_si256(found.vids[1].as_mut_ptr().add(from).cast(), vid(inner));
            _mm_storeu_si128(found.pcp.as_mut_ptr().add(from).cast(), pcp(outer));
            _mm_storeu_si128(found.l3_offset.as_mut_ptr().add(from).cast(), _mm512_cvtepi32_epi8(l3_offset));
        }
        for (all, with) in layers.tags.iter_mut().zip(tags) {
            *all |= u64::from(with & fits) << from;
        }
        layers.six |= u64::from(six & right) << from;
    }
    layers
}

/// Looks at the IP headers of the packets `v4` and `v6` (bits), at their `l3_offset`, adds those that are right to their lanes,
/// and returns them, as bits. What is asked of them is as in [`look`].
///
/// # Safety
/// All places are set; from their `l3_offset` on packets of `v6` have 40 bytes, and all others 20. The lanes are empty. The
/// processor has the features that this is compiled with.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,bmi1,bmi2,popcnt")]
pub unsafe fn headers(
    frames: &Places,
    len: &[u16; ROOM],
    [v4, v6]: [u64; 2],
    sum: bool,
    found: &mut Found<'_>,
) -> u64 {
    let numbers = _mm512_set_epi32(15, 14, 13, 12, 11, 10, 9, 8, 7, 6, 5, 4, 3, 2, 1, 0);
    let mut all_right = 0;
    for from in (0..BURST).step_by(16) {
        if (v4 | v6) >> from == 0 {
            break;
        }
        // SAFETY: all are set.
        let frames = unsafe { frames.sixteen(from) };
        let starts: [_; 16] =
            std::array::from_fn(|k| frames[k].wrapping_add(found.l3_offset[from + k].into()));
        // SAFETY: all are within 20 bytes.
        let ([first, ..], [second, third, source, destination]) =
            unsafe { (transposed(&starts, 0), transposed(&starts, 4)) };
        // SAFETY: `from + 16` is at most `BURST`.
        let (len, l3_offset) = unsafe {
            let len = _mm512_cvtepu16_epi32(_mm256_loadu_si256(len.as_ptr().add(from).cast()));
            (len, _mm512_cvtepu8_epi32(_mm_loadu_si128(found.l3_offset.as_ptr().add(from).cast())))
        };
        let room = _mm512_sub_epi32(len, l3_offset);
        let version = _mm512_and_si512(first, _mm512_set1_epi32(0xff));
        let (right4, len4, aged) = four(&[first, second, third, source, destination], room, sum);
        let right4 = right4 & (v4 >> from) as u16 & _mm512_cmpeq_epi32_mask(version, _mm512_set1_epi32(0x45));
        let (right6, len6) = six(second, third, room);
        let version = _mm512_and_si512(first, _mm512_set1_epi32(0xf0));
        let mut right6 =
            right6 & (v6 >> from) as u16 & _mm512_cmpeq_epi32_mask(version, _mm512_set1_epi32(0x60));
        let l3_len = _mm512_mask_mov_epi32(len4, right6, len6);
        let number = _mm512_add_epi32(numbers, _mm512_set1_epi32(from as i32));
        let number = _mm512_cvtepi32_epi8(_mm512_maskz_compress_epi32(right4, number));
        // No more packets were added than there are before `from`, which is at most 48.
        let at = found.v4.len.min(BURST - 16);
        // SAFETY: `from + 16` and `at + 16` are at most `BURST`.
        unsafe {
            let to = found.l3_len.as_mut_ptr().add(from).cast();
            _mm256_storeu_si256(to, _mm512_cvtepi32_epi16(l3_len));
            let destination = _mm512_maskz_compress_epi32(right4, reversed(destination));
            _mm512_storeu_si512(found.v4.destination.as_mut_ptr().add(at).cast(), destination);
            let aged = _mm512_maskz_compress_epi32(right4, aged);
            _mm512_storeu_si512(found.aged.as_mut_ptr().add(at).cast(), aged);
            _mm_storeu_si128(found.v4.packet.as_mut_ptr().add(at).cast(), number);
        }
        found.v4.len = at + right4.count_ones() as usize;
        for k in Bits(right6.into()) {
            // SAFETY: IPv6 packets have 40 bytes.
            let destination = unsafe { starts[k & 15].add(24).cast::<[u8; 16]>().read_unaligned() };
            if is_special6(destination[0]) {
                right6 &= !(1 << k);
            } else {
                found.v6.push(from + k, u128::from_be_bytes(destination));
            }
        }
        all_right |= u64::from(right4 | right6) << from;
    }
    all_right
}

/// Addresses that `ipv6::expected` does not take, by their first byte.
fn is_special6(first: u8) -> bool {
    first.wrapping_add(2) <= 2
}

/// The lower halves that are such.
#[inline]
#[target_feature(enable = "avx512f")]
fn low_is(words: __m512i, half: i32) -> u16 {
    _mm512_cmpeq_epi32_mask(_mm512_and_si512(words, _mm512_set1_epi32(0xffff)), _mm512_set1_epi32(half))
}

/// Bytes 1 and 0 of each word; 0xff in an index makes a zero.
#[inline]
#[target_feature(enable = "avx512f,avx512bw")]
fn low_half(words: __m512i) -> __m512i {
    _mm512_shuffle_epi8(words, _mm512_set4_epi32(-0xf3f3, -0xf7f7, -0xfbfb, -0xffff))
}

/// Bytes 3 and 2 of each word.
#[inline]
#[target_feature(enable = "avx512f,avx512bw")]
fn high_half(words: __m512i) -> __m512i {
    _mm512_shuffle_epi8(words, _mm512_set4_epi32(-0xf1f1, -0xf5f5, -0xf9f9, -0xfdfd))
}

/// All bytes of each word, from the last to the first.
#[inline]
#[target_feature(enable = "avx512f,avx512bw")]
fn reversed(words: __m512i) -> __m512i {
    let order = _mm512_set4_epi32(0x0c0d_0e0f, 0x0809_0a0b, 0x0405_0607, 0x0001_0203);
    _mm512_shuffle_epi8(words, order)
}

/// The VID of the TCI in the lower half of each word.
#[inline]
#[target_feature(enable = "avx512f,avx512bw")]
fn vid(words: __m512i) -> __m256i {
    _mm512_cvtepi32_epi16(_mm512_and_si512(low_half(words), _mm512_set1_epi32(0xfff)))
}

/// The priority in it.
#[inline]
#[target_feature(enable = "avx512f,avx512bw")]
fn pcp(words: __m512i) -> __m128i {
    _mm512_cvtepi32_epi8(_mm512_and_si512(_mm512_srli_epi32::<5>(words), _mm512_set1_epi32(7)))
}

/// Of sixteen IPv4 headers, the five words of each: those that are right but for their first byte, the packets' lengths,
/// and `ipv4::aged`.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,bmi2")]
fn four(words: &[__m512i; 5], room: __m512i, sum: bool) -> (u16, __m512i, __m512i) {
    let [first, _, third, source, destination] = *words;
    let half = _mm512_set1_epi32(0xffff);
    let mut sum_right = u16::MAX;
    if sum {
        // Halves are added as signed ones, each 0x8000 less than it is.
        let mut sum = _mm512_set1_epi32(10 * 0x8000);
        for &word in words {
            let halves = _mm512_xor_si512(word, _mm512_set1_epi16(i16::MIN));
            sum = _mm512_add_epi32(sum, _mm512_madd_epi16(halves, _mm512_set1_epi16(1)));
        }
        // Right: a multiple of 0xffff. That of ten halves is one if its own halves come to 0xffff.
        let sum = _mm512_add_epi16(sum, _mm512_rol_epi32::<16>(sum));
        sum_right = _mm512_cmpeq_epi32_mask(sum, _mm512_set1_epi32(-1));
    }
    let l3_len = high_half(first);
    // The first two octets of both addresses.
    let octets = _mm512_mask_blend_epi16(0xaaaa_aaaa, source, _mm512_slli_epi32::<16>(destination));
    let octet = _mm512_and_si512(octets, _mm512_set1_epi16(0xff));
    let less = _mm512_sub_epi16(octet, _mm512_set1_epi16(1));
    let special = _mm512_cmpge_epu16_mask(less, _mm512_set1_epi16(223))
        | _mm512_cmpeq_epi16_mask(octet, _mm512_set1_epi16(127))
        | _mm512_cmpeq_epi16_mask(octets, _mm512_set1_epi16(0xfea9_u16.cast_signed()));
    let special = _pext_u32(special | special >> 1, 0x5555_5555) as u16;
    let right = sum_right
        & _mm512_cmpge_epi32_mask(l3_len, _mm512_set1_epi32(20))
        & _mm512_cmple_epi32_mask(l3_len, room)
        & _mm512_test_epi32_mask(third, _mm512_set1_epi32(0xfe))
        & !special;
    // One less in the lower half (there is more than one), one more in the upper, and one for what is carried out of it;
    // 0xffff there is written as 0.
    let aged = _mm512_add_epi32(third, half);
    let carried = _mm512_cmpge_epu32_mask(third, _mm512_set1_epi32(-0x2_0000));
    (right, l3_len, _mm512_mask_add_epi32(aged, carried, aged, _mm512_set1_epi32(0x1_0000)))
}

/// Of sixteen IPv6 headers, the second and third word of each: those that are right but for their first byte and their
/// destination, and the packets' lengths.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl")]
fn six(second: __m512i, third: __m512i, room: __m512i) -> (u16, __m512i) {
    let byte = _mm512_set1_epi32(0xff);
    // The second word: payload length, next header, hop limit. The third begins the source.
    let l3_len = _mm512_add_epi32(low_half(second), _mm512_set1_epi32(40));
    let source = _mm512_and_si512(_mm512_add_epi32(third, _mm512_set1_epi32(2)), byte);
    let right = _mm512_cmple_epi32_mask(l3_len, room)
        & _mm512_test_epi32_mask(second, _mm512_set1_epi32(0xff_0000))
        & _mm512_cmpge_epu32_mask(_mm512_srli_epi32::<24>(second), _mm512_set1_epi32(2))
        & _mm512_cmpgt_epu32_mask(source, _mm512_set1_epi32(2));
    (right, l3_len)
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

#[cfg(test)]
mod tests;
