//! Adjacencies: how a packet leaves. Either over a sub-interface with a ready-made L2 header, or not at all.

use crate::ids::{PortId, SubIfId};
use crate::sub_interface::{SubInterface, Tags};
use crate::verdict::{DropReason, PuntReason};

/// Longest L2 header: Ethernet with two tags, in bytes.
pub const MAX_L2_LEN: usize = 22;

/// A priority, 0 to 7, where [`Forward::pcp_bits`] has room for it.
#[inline(always)]
pub(crate) fn priority(pcp: u8) -> u64 {
    u64::from(pcp) * 0x0020_0000_0020_0000
}

/// What is done with a packet that a next-hop group gave to this adjacency.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Adjacency {
    /// Sent to a neighbour.
    Forward(Forward),
    /// Dropped.
    Drop(DropReason),
    /// Given to the control thread.
    Punt(PuntReason),
}

/// A neighbour whose MAC address is known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Forward {
    /// Sub-interface it is on.
    pub sub_if: SubIfId,
    /// That sub-interface's port.
    pub port: PortId,
    /// Largest IP packet that may go there, in bytes.
    pub mtu: u16,
    /// Length of the L2 header: 14, 18 or 22 bytes.
    pub l2_len: u8,
    /// The bits of the header's last eight bytes before the ethertype that a priority of 7 sets, as a little-endian
    /// word; none unless the received priority is carried.
    pub pcp_bits: u64,
    /// Ethernet header with its tags, network byte order; the ethertype at its end is filled in for each packet.
    pub l2: [u8; MAX_L2_LEN],
}

impl Forward {
    /// The adjacency of neighbour `mac` on `sub_if`.
    pub fn new(id: SubIfId, sub_if: &SubInterface, mac: [u8; 6]) -> Self {
        let mut l2 = [0; MAX_L2_LEN];
        l2[..6].copy_from_slice(&mac);
        l2[6..12].copy_from_slice(&sub_if.mac);
        let priority = u16::from(sub_if.pcp.unwrap_or(0)) << 13;
        let mut put = |at: usize, tag: crate::sub_interface::Tag| {
            l2[at..at + 2].copy_from_slice(&tag.tpid.to_be_bytes());
            l2[at + 2..at + 4].copy_from_slice(&(tag.vid | priority).to_be_bytes());
        };
        match sub_if.tags {
            Tags::Untagged => {}
            Tags::One(tag) => put(12, tag),
            Tags::Two(outer, inner) => {
                put(12, outer);
                put(16, inner);
            }
        }
        let carry_pcp = sub_if.pcp.is_none() && sub_if.tags != Tags::Untagged;
        let pcp_bits = match sub_if.tags {
            Tags::Two(..) if carry_pcp => 0x00e0_0000_00e0_0000,
            Tags::One(_) if carry_pcp => 0x00e0_0000_0000_0000,
            _ => 0,
        };
        Self {
            sub_if: id,
            port: sub_if.port,
            mtu: sub_if.mtu,
            l2_len: sub_if.tags.l2_len() as u8,
            pcp_bits,
            l2,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::VrfId;
    use crate::sub_interface::Tag;

    #[test]
    fn the_header_is_ready_made() {
        let sub_if = SubInterface {
            port: PortId(3),
            tags: Tags::Two(Tag { tpid: 0x88a8, vid: 100 }, Tag { tpid: 0x8100, vid: 10 }),
            vrf: VrfId(0),
            mac: [2, 0, 0, 0, 0, 1],
            mtu: 1500,
            pcp: Some(5),
        };
        let adjacency = Forward::new(SubIfId(1), &sub_if, [2, 0, 0, 0, 0, 9]);
        assert_eq!(adjacency.l2_len, 22);
        assert_eq!(adjacency.pcp_bits, 0);
        let expected =
            [2, 0, 0, 0, 0, 9, 2, 0, 0, 0, 0, 1, 0x88, 0xa8, 0xa0, 100, 0x81, 0x00, 0xa0, 10, 0, 0];
        assert_eq!(adjacency.l2, expected);
    }
}
