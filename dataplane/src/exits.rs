//! Exits: what most packets need of the way from a next-hop group to a neighbour, laid out so that it takes one load by
//! group and one cache line by adjacency. They say nothing that groups and adjacencies do not say.

use crate::adjacency::{Adjacency, Forward, MAX_L2_LEN};
use crate::ids::{AdjId, GroupId, PortId, SubIfId};

/// Where a packet leaves: adjacency, sub-interface, port and length of the L2 header in one word, from its lowest bit
/// on in 32, 16, 8 and 8 bits. A length of 0: not known here, the long way knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(transparent)]
pub struct Exit(u64);

impl Exit {
    /// None that is known here.
    pub const NONE: Self = Self(u32::MAX as u64);

    fn of(id: AdjId, adjacency: &Adjacency) -> Self {
        match adjacency {
            Adjacency::Forward(forward) if forward.port.0 < 256 => Self(
                u64::from(id.0)
                    | u64::from(forward.sub_if.0) << 32
                    | u64::from(forward.port.0) << 48
                    | u64::from(forward.l2_len) << 56,
            ),
            _ => Self::NONE,
        }
    }

    /// Whether it is known. Any that is comes behind [`Exit::NONE`] by order.
    #[inline(always)]
    pub fn is_known(self) -> bool {
        self.0 >> 56 != 0
    }

    /// The adjacency.
    #[inline(always)]
    pub fn adjacency(self) -> AdjId {
        AdjId(self.0 as u32)
    }

    /// The sub-interface.
    #[inline(always)]
    pub fn sub_if(self) -> SubIfId {
        SubIfId((self.0 >> 32) as u16)
    }

    /// The port.
    #[inline(always)]
    pub fn port(self) -> PortId {
        PortId((self.0 >> 48) as u16 & 0xff)
    }

    /// Length of the L2 header, in bytes.
    #[inline(always)]
    pub fn l2_len(self) -> u8 {
        (self.0 >> 56) as u8
    }
}

/// An adjacency's L2 header, as long as what is written of it to a frame at once: the header in network byte order, whose
/// last two bytes, the ethertype, and what is behind them are unspecified, up to the last eight bytes.
/// Those are [`Forward::pcp_bits`], and like the ethertype they never get into a frame: `stage::leave` keeps what is there.
#[derive(Clone, Copy, Debug, Default)]
#[repr(align(32))]
pub struct Line(pub [u8; 32]);

impl Line {
    fn of(forward: &Forward) -> Self {
        let len = usize::from(forward.l2_len).min(MAX_L2_LEN);
        let mut line = [0; 32];
        line[..len].copy_from_slice(&forward.l2[..len]);
        line[24..].copy_from_slice(&forward.pcp_bits.to_le_bytes());
        Self(line)
    }

    /// [`Forward::pcp_bits`].
    pub fn pcp_bits(&self) -> u64 {
        self.0.last_chunk().copied().map_or(0, u64::from_le_bytes)
    }
}

/// The exits of all groups and adjacencies.
#[derive(Clone, Debug)]
pub struct Exits {
    /// By group; known for those of one member.
    pub(crate) by_group: Vec<Exit>,
    /// By adjacency.
    pub(crate) by_adjacency: Vec<Exit>,
    /// By adjacency.
    pub(crate) lines: Vec<Line>,
    /// An IP packet no longer than this, in bytes, may leave by any.
    pub(crate) least_mtu: u16,
    /// Length of the longest L2 header, in bytes.
    pub(crate) longest_l2: u8,
}

impl Default for Exits {
    fn default() -> Self {
        Self {
            by_group: Vec::new(),
            by_adjacency: Vec::new(),
            lines: Vec::new(),
            least_mtu: u16::MAX,
            longest_l2: 0,
        }
    }
}

impl Exits {
    /// Adds the next adjacency.
    pub(crate) fn push_adjacency(&mut self, adjacency: &Adjacency) {
        let id = AdjId(self.by_adjacency.len() as u32);
        self.by_adjacency.push(Exit::of(id, adjacency));
        self.lines.push(match adjacency {
            Adjacency::Forward(forward) => {
                self.least_mtu = self.least_mtu.min(forward.mtu);
                self.longest_l2 = self.longest_l2.max(forward.l2_len);
                Line::of(forward)
            }
            _ => Line::default(),
        });
    }

    /// Adds the next group, whose members' adjacencies were added before.
    pub(crate) fn push_group(&mut self, members: &[AdjId]) {
        self.by_group.push(match members {
            [only] => self.of_adjacency(*only),
            _ => Exit::NONE,
        });
    }

    /// That of a group.
    #[inline(always)]
    pub(crate) fn of_group(&self, id: GroupId) -> Exit {
        self.by_group.get(id.0 as usize).copied().unwrap_or(Exit::NONE)
    }

    /// That of an adjacency.
    #[inline(always)]
    pub(crate) fn of_adjacency(&self, id: AdjId) -> Exit {
        self.by_adjacency.get(id.0 as usize).copied().unwrap_or(Exit::NONE)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::VrfId;
    use crate::sub_interface::{SubInterface, Tag, Tags};
    use crate::verdict::DropReason;

    fn adjacency(port: u16, tags: Tags, mtu: u16) -> Adjacency {
        let sub_if = SubInterface { port: PortId(port), tags, vrf: VrfId(0), mac: [2; 6], mtu, pcp: Some(3) };
        Adjacency::Forward(Forward::new(SubIfId(7), &sub_if, [4; 6]))
    }

    #[test]
    fn an_exit_says_what_its_adjacency_says() {
        let mut exits = Exits::default();
        exits.push_adjacency(&Adjacency::Drop(DropReason::DiscardRoute));
        exits.push_adjacency(&adjacency(9, Tags::One(Tag { tpid: 0x8100, vid: 5 }), 1500));
        exits.push_adjacency(&adjacency(256, Tags::Untagged, 1400));
        exits.push_group(&[AdjId(1)]);
        exits.push_group(&[AdjId(1), AdjId(2)]);
        exits.push_group(&[AdjId(0)]);
        exits.push_group(&[AdjId(77)]);
        let exit = exits.by_group[0];
        assert!(exit.is_known());
        assert_eq!(
            (exit.adjacency(), exit.sub_if(), exit.port(), exit.l2_len()),
            (AdjId(1), SubIfId(7), PortId(9), 18)
        );
        assert_eq!(exits.by_group[1..], [Exit::NONE; 3]);
        assert_eq!(exits.of_adjacency(AdjId(2)), Exit::NONE, "a port that has no room in the word");
        assert_eq!((exits.least_mtu, exits.longest_l2), (1400, 18));
        let l2 = exits.lines[1].0;
        assert_eq!(l2[..16], [4, 4, 4, 4, 4, 4, 2, 2, 2, 2, 2, 2, 0x81, 0, 0x60, 5]);
    }
}
