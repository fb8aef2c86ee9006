//! What is unusual about any of many packets: one or two instructions for each, and the questions afterwards.

use super::{CHECKSUM, Mbuf, STRIPPED};
use crate::{layout, sys};

/// What is unusual about any of the packets that were added.
#[derive(Clone, Copy, Debug)]
pub struct Oddities {
    /// The bits of their numbers of segments.
    segments: u16,
    /// Flags that any has.
    any: u64,
    /// Flags that all have.
    all: u64,
}

impl Default for Oddities {
    /// Of no packets: nothing.
    #[inline(always)]
    fn default() -> Self {
        Self { segments: 1, any: 0, all: u64::MAX }
    }
}

impl Oddities {
    /// Adds a packet.
    #[inline(always)]
    #[allow(clippy::inline_always, reason = "in every packet's way")]
    pub fn add(&mut self, packet: &Mbuf) {
        // SAFETY: fields of a live mbuf.
        let (segments, flags) = unsafe { (*layout::nb_segs(packet.0), *layout::ol_flags(packet.0)) };
        self.segments |= segments;
        self.any |= flags;
        self.all &= flags;
    }

    /// Whether any is of several segments, or the NIC has taken a tag off.
    #[inline]
    pub fn any_odd(&self) -> bool {
        // No packet has 0 segments.
        self.segments != 1 || self.any & STRIPPED != 0
    }

    /// Whether there is any whose IPv4 checksum the NIC does not call right.
    #[inline]
    pub fn any_doubt(&self) -> bool {
        const RIGHT: u64 = sys::DPDK_SYS_RX_IP_CKSUM_GOOD;
        self.any & CHECKSUM != RIGHT || self.all & RIGHT == 0
    }
}

#[cfg(test)]
mod tests {
    use core::mem::ManuallyDrop;
    use core::ptr::NonNull;

    use super::*;

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
