//! The checks of `ipv4::expected` on a burst's headers: one by one, or sixteen at a time with AVX-512.

use crate::burst::BURST;
use crate::header::ipv4;

/// A burst's IPv4 headers, those of its lane from the front.
pub type Headers<'a> = [&'a [u8; ipv4::MIN_HEADER_LEN]; BURST];

/// What the checks find. Index `k` is the lane's; an entry means something only where the checks say so.
pub struct Found<'a> {
    /// Destination, host byte order.
    pub destination: &'a mut [u32; BURST],
    /// Total length, in bytes.
    pub len: &'a mut [u16; BURST],
    /// [`ipv4::aged`].
    pub aged: &'a mut [u32; BURST],
}

/// Checks the first `count` headers. `room`: bytes from each header to the end of its frame. Returns those that are as
/// expected, as bits. `WIDE`: the caller is compiled for, and runs on, a processor with AVX-512 F, BW, DQ and VL.
#[inline(always)]
pub fn expected<const WIDE: bool>(
    headers: &Headers<'_>,
    room: &[u16; BURST],
    count: usize,
    found: &mut Found<'_>,
) -> u64 {
    #[cfg(all(target_arch = "x86_64", not(miri)))]
    if WIDE {
        return x86::expected(headers, room, count, found);
    }
    portable(headers, room, count, found)
}

#[inline(always)]
fn portable(headers: &Headers<'_>, room: &[u16; BURST], count: usize, found: &mut Found<'_>) -> u64 {
    let mut right = 0;
    for k in 0..count.min(BURST) {
        if let Some(header) = ipv4::expected(headers[k], room[k]) {
            found.destination[k] = header.destination;
            found.len[k] = header.len;
            found.aged[k] = header.aged;
            right |= 1 << k;
        }
    }
    right
}

#[cfg(all(target_arch = "x86_64", not(miri)))]
mod x86 {
    //! Sixteen headers as five vectors, one for each 32-bit word of a header.
    #![allow(unsafe_code)] // Vector instructions after a check for them, and loads and stores in constant bounds.
    #![allow(clippy::wildcard_imports)] // One intrinsic for each line.

    use std::arch::x86_64::*;

    use super::{BURST, Found, Headers};

    #[inline(always)]
    pub(super) fn expected(
        headers: &Headers<'_>,
        room: &[u16; BURST],
        count: usize,
        found: &mut Found<'_>,
    ) -> u64 {
        let mut right = 0;
        for from in (0..count.min(BURST)).step_by(16) {
            // SAFETY: the caller says that the processor has the features. `from` is at most 48.
            right |= u64::from(unsafe { sixteen(headers, room, from, found) }) << from;
        }
        if count < BURST { right & ((1 << count) - 1) } else { right }
    }

    /// # Safety
    /// `from` is at most 48.
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl")]
    unsafe fn sixteen(headers: &Headers<'_>, room: &[u16; BURST], from: usize, found: &mut Found<'_>) -> u16 {
        // Four headers, 4 apart, so that transposing within lanes puts all sixteen in order. `at`: 0 or 4.
        let four = |first: usize, at: usize| {
            // SAFETY: `first + 12` is less than 64, and a header has 20 bytes.
            unsafe {
                let lane = |k: usize| _mm_loadu_si128(headers.get_unchecked(k).as_ptr().add(at).cast());
                let all = _mm512_castsi128_si512(lane(from + first));
                let all = _mm512_inserti32x4::<1>(all, lane(from + first + 4));
                let all = _mm512_inserti32x4::<2>(all, lane(from + first + 8));
                _mm512_inserti32x4::<3>(all, lane(from + first + 12))
            }
        };
        let [a, b, c, d] = [four(0, 0), four(1, 0), four(2, 0), four(3, 0)];
        let (ab_low, ab_high) = (_mm512_unpacklo_epi32(a, b), _mm512_unpackhi_epi32(a, b));
        let (cd_low, cd_high) = (_mm512_unpacklo_epi32(c, d), _mm512_unpackhi_epi32(c, d));
        // Version, header length, TOS, total length; identification, fragment; TTL, protocol, checksum; source.
        let first = _mm512_unpacklo_epi64(ab_low, cd_low);
        let second = _mm512_unpackhi_epi64(ab_low, cd_low);
        let third = _mm512_unpacklo_epi64(ab_high, cd_high);
        let source = _mm512_unpackhi_epi64(ab_high, cd_high);
        let [a, b, c, d] = [four(0, 4), four(1, 4), four(2, 4), four(3, 4)];
        let destination = _mm512_unpackhi_epi64(_mm512_unpackhi_epi32(a, b), _mm512_unpackhi_epi32(c, d));

        let half = _mm512_set1_epi32(0xffff);
        let words = [first, second, third, source, destination];
        let mut sum = _mm512_setzero_si512();
        for word in words {
            sum = _mm512_add_epi32(sum, _mm512_and_si512(word, half));
            sum = _mm512_add_epi32(sum, _mm512_srli_epi32::<16>(word));
        }
        for _ in 0..2 {
            sum = _mm512_add_epi32(_mm512_and_si512(sum, half), _mm512_srli_epi32::<16>(sum));
        }
        let byte = _mm512_set1_epi32(0xff);
        // 0xff in an index makes a zero.
        let len = _mm512_shuffle_epi8(first, _mm512_set4_epi32(-0xf1f1, -0xf5f5, -0xf9f9, -0xfdfd));
        let special = |address| {
            let octet = _mm512_and_si512(address, byte);
            let less = _mm512_sub_epi32(octet, _mm512_set1_epi32(1));
            _mm512_cmpge_epu32_mask(less, _mm512_set1_epi32(223))
                | _mm512_cmpeq_epi32_mask(octet, _mm512_set1_epi32(127))
                | _mm512_cmpeq_epi32_mask(_mm512_and_si512(address, half), _mm512_set1_epi32(0xfea9))
        };
        // SAFETY: 16 from `from` on are within 64.
        let room = unsafe { _mm256_loadu_si256(room.as_ptr().add(from).cast()) };
        let right = _mm512_cmpeq_epi32_mask(sum, half)
            & _mm512_cmpeq_epi32_mask(_mm512_and_si512(first, byte), _mm512_set1_epi32(0x45))
            & _mm512_cmpge_epu32_mask(len, _mm512_set1_epi32(20))
            & _mm512_cmple_epu32_mask(len, _mm512_cvtepu16_epi32(room))
            & _mm512_test_epi32_mask(third, _mm512_set1_epi32(0xfe))
            & !special(source)
            & !special(destination);

        // As `ipv4::aged`.
        let ones = _mm512_set1_epi32(-1);
        let old = _mm512_srli_epi32::<16>(_mm512_xor_si512(third, ones));
        let new = _mm512_add_epi32(old, _mm512_set1_epi32(0xfffe));
        let new = _mm512_add_epi32(new, _mm512_srli_epi32::<16>(new));
        let new = _mm512_slli_epi32::<16>(_mm512_xor_si512(new, ones));
        let aged = _mm512_and_si512(_mm512_sub_epi32(third, _mm512_set1_epi32(1)), half);
        let aged = _mm512_or_si512(aged, new);

        let reversed = _mm512_set4_epi32(0x0c0d_0e0f, 0x0809_0a0b, 0x0405_0607, 0x0001_0203);
        // SAFETY: 16 from `from` on are within 64.
        unsafe {
            let to = found.destination.as_mut_ptr().add(from).cast();
            _mm512_storeu_si512(to, _mm512_shuffle_epi8(destination, reversed));
            _mm512_storeu_si512(found.aged.as_mut_ptr().add(from).cast(), aged);
            _mm256_storeu_si256(found.len.as_mut_ptr().add(from).cast(), _mm512_cvtepi32_epi16(len));
        }
        right
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::header::checksum;

    /// Headers of which most are right but for one or two bytes.
    fn any_header() -> impl Strategy<Value = ([u8; 20], u16)> {
        let changes = prop::collection::vec((0..20usize, prop_oneof![any::<u8>(), Just(169u8)]), 0..3);
        (any::<[u8; 20]>(), changes, any::<bool>(), any::<bool>(), 0..100u16).prop_map(
            |(mut header, changes, mend, ordinary, room)| {
                header[0] = 0x45;
                if ordinary {
                    (header[2], header[3]) = (0, 20 + header[3] % 60);
                }
                header[10..12].fill(0);
                let sum = !checksum::sum(&header);
                header[10..12].copy_from_slice(&sum.to_be_bytes());
                for (at, value) in changes {
                    header[at] = value;
                    // Link-local addresses are too rare to be drawn.
                    if value == 169 && at % 4 == 0 {
                        header[at + 1] = 254;
                    }
                }
                if mend {
                    header[10..12].fill(0);
                    let sum = !checksum::sum(&header);
                    header[10..12].copy_from_slice(&sum.to_be_bytes());
                }
                (header, room)
            },
        )
    }

    proptest! {
        #[test]
        #[cfg(all(target_arch = "x86_64", not(miri)))]
        fn the_wide_checks_are_the_portable_ones(all in prop::collection::vec(any_header(), BURST), count in 0..=BURST) {
            if !crate::worker::has_avx512() {
                return Ok(());
            }
            let mut headers: Headers<'_> = [&[0; 20]; BURST];
            let mut room = [0; BURST];
            for (k, (header, space)) in all.iter().enumerate() {
                (headers[k], room[k]) = (header, *space);
            }
            let run = |wide: bool| {
                let (mut destination, mut len, mut aged) = ([0; BURST], [0; BURST], [0; BURST]);
                let mut found = Found { destination: &mut destination, len: &mut len, aged: &mut aged };
                let right = if wide {
                    expected::<true>(&headers, &room, count, &mut found)
                } else {
                    expected::<false>(&headers, &room, count, &mut found)
                };
                let rows: Vec<_> = crate::burst::Bits(right).map(|k| (destination[k], len[k], aged[k])).collect();
                (right, rows)
            };
            prop_assert_eq!(run(true), run(false));
        }
    }
}
