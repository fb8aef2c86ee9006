//! What is unusual about any of many packets: one instruction for each, and the questions afterwards.

use super::{CHECKSUM, Mbuf, STRIPPED};
use crate::sys;

/// What is looked at of each packet: two words, the number of segments in the first, and the flags.
const WORDS: usize = sys::MBUF_OFFSET_ol_flags as usize - 8;
/// The number of segments is from this bit of the first word on.
const SEGMENTS: usize = 8 * (sys::MBUF_OFFSET_nb_segs as usize - WORDS);
const _: () = assert!(SEGMENTS <= 48, "the number of segments is not in the eight bytes before the flags");
const _: () =
    assert!(cfg!(target_endian = "little"), "the words are looked at as those of a little-endian processor");

/// These of a usual packet, whose checksum the NIC calls right.
const USUAL: [u64; 2] = [1 << SEGMENTS, sys::DPDK_SYS_RX_IP_CKSUM_GOOD];

/// What is unusual about any of the packets that were added: the bits in which their words differ from the usual ones.
#[derive(Clone, Copy, Debug, Default)]
pub struct Oddities([u64; 2]);

impl Oddities {
    /// Adds a packet.
    #[inline(always)]
    #[allow(clippy::inline_always, reason = "in every packet's way")]
    pub fn add(&mut self, packet: &Mbuf) {
        let words: *const [u64; 2] = packet.0.as_ptr().cast_const().wrapping_byte_add(WORDS).cast();
        // SAFETY: they lie within a live mbuf, which nobody else refers to.
        self.0 = unsafe { with_differences(self.0, words) };
    }

    /// Whether any is of several segments, or the NIC has taken a tag off.
    #[inline]
    pub fn any_odd(&self) -> bool {
        let [segments, flags] = self.0;
        (segments >> SEGMENTS) as u16 != 0 || flags & STRIPPED != 0
    }

    /// Whether there is any whose IPv4 checksum the NIC does not call right.
    #[inline]
    pub fn any_doubt(&self) -> bool {
        self.0[1] & CHECKSUM != 0
    }
}

/// The bits, and those in which the words differ from the usual ones. As a vector, which takes one load.
///
/// # Safety
/// The words can be read.
#[cfg(target_arch = "x86_64")]
#[inline(always)]
unsafe fn with_differences(bits: [u64; 2], words: *const [u64; 2]) -> [u64; 2] {
    use core::arch::x86_64::{__m128i, _mm_loadu_si128, _mm_or_si128, _mm_xor_si128};
    use core::mem::transmute;
    // SAFETY: the caller says so. Any bits are right for either type, and SSE2 is part of the x86-64 baseline.
    unsafe {
        let usual = transmute::<[u64; 2], __m128i>(USUAL);
        let differences = _mm_xor_si128(_mm_loadu_si128(words.cast()), usual);
        transmute(_mm_or_si128(transmute::<[u64; 2], __m128i>(bits), differences))
    }
}

/// The same word by word.
///
/// # Safety
/// The words can be read.
#[cfg(not(target_arch = "x86_64"))]
#[inline(always)]
unsafe fn with_differences(bits: [u64; 2], words: *const [u64; 2]) -> [u64; 2] {
    // SAFETY: the caller says so.
    let words = unsafe { words.read_unaligned() };
    [bits[0] | words[0] ^ USUAL[0], bits[1] | words[1] ^ USUAL[1]]
}

#[cfg(test)]
mod tests {
    use core::mem::ManuallyDrop;
    use core::ptr::NonNull;

    use super::*;
    use crate::layout;

    /// Whether any is odd, and whether there is any doubt, of packets with these numbers of segments and flags.
    fn told(packets: &[(u16, u64)]) -> (bool, bool) {
        let mut oddities = Oddities::default();
        for (segments, flags) in packets {
            let mut raw = sys::rte_mbuf::default();
            let pointer = NonNull::from(&mut raw);
            // SAFETY: fields of an mbuf on the stack, which has the true size and alignment.
            unsafe {
                *layout::nb_segs(pointer) = *segments;
                *layout::ol_flags(pointer) = *flags;
            }
            // SAFETY: nobody else refers to it. It is of no pool, so it must not be dropped; only fields are read.
            oddities.add(&ManuallyDrop::new(unsafe { Mbuf::from_raw(pointer) }));
        }
        (oddities.any_odd(), oddities.any_doubt())
    }

    #[test]
    fn one_of_many_is_enough() {
        const RIGHT: u64 = sys::DPDK_SYS_RX_IP_CKSUM_GOOD;
        let others = !(STRIPPED | CHECKSUM);
        for at in 0..5 {
            let with = |one| {
                let mut packets =
                    [(1, RIGHT), (1, RIGHT | others), (1, RIGHT), (1, RIGHT | others), (1, RIGHT)];
                packets[at] = one;
                told(&packets)
            };
            for usual in [RIGHT, RIGHT | others] {
                assert_eq!(with((1, usual)), (false, false));
                for segments in [2, 3, 4, 255, u16::MAX] {
                    assert_eq!(with((segments, usual)), (true, false));
                }
                for tags in [sys::DPDK_SYS_RX_VLAN_STRIPPED, sys::DPDK_SYS_RX_QINQ_STRIPPED, STRIPPED] {
                    assert_eq!(with((1, usual | tags)), (true, false));
                }
                let wrong = sys::DPDK_SYS_RX_IP_CKSUM_BAD;
                for said in [0, wrong, RIGHT | wrong, RIGHT | sys::DPDK_SYS_RX_OUTER_IP_CKSUM_BAD] {
                    assert_eq!(with((1, usual & !CHECKSUM | said)), (false, true));
                }
            }
        }
    }
}
