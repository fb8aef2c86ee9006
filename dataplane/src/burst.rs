//! A burst: up to 64 packets of one port, as a structure of arrays that the stages fill one after another.

use crate::ids::{AdjId, GroupId, PortId, SubIfId};
use crate::packet::Packet;
use crate::verdict::{DropReason, PuntReason, Verdict};

/// Most packets in a burst. A set of packets is the bits of a `u64`.
pub const BURST: usize = 64;

/// Up to [`BURST`] packets and what the stages found out about each. Index `i` of every array is packet `i`;
/// an array's entry means something only after the stage that fills it.
pub struct Burst<P> {
    /// Packets in it, from index 0 on.
    pub len: usize,
    /// The port all of them came from.
    pub port: PortId,
    /// The buffers.
    pub packets: [Option<P>; BURST],
    /// What becomes of each.
    pub verdict: [Verdict; BURST],
    /// Packets that are to be forwarded, as bits.
    pub alive: u64,
    /// Packets that have a sub-interface, as bits.
    pub classified: u64,
    /// Packets that are not as a sub-interface expects them, as bits: each later stage takes them the long way.
    pub odd: u64,
    /// IPv6 packets among the odd ones, as bits.
    pub ipv6: u64,
    /// Packets that came in a link-layer broadcast or multicast, as bits.
    pub link_multicast: u64,
    /// Packets from a link-local source, which may be for us but not for beyond the link, as bits.
    pub link_local_source: u64,
    /// Length of the frame as received, in bytes, without FCS and with all tags.
    pub frame_len: [u16; BURST],
    /// Where the IP header starts, in bytes from the frame's start.
    pub l3_offset: [u8; BURST],
    /// Length of the IP packet, in bytes.
    pub l3_len: [u16; BURST],
    /// The sub-interfaces that packets came in on.
    pub sub_ifs: Agreement,
    /// Sub-interface it came in on.
    pub sub_if: [SubIfId; BURST],
    /// Priority of the outermost tag it came with, 0 to 7.
    pub pcp: [u8; BURST],
    /// The IPv4 packets to look up.
    pub v4: Lane<u32>,
    /// Of those that are as expected: TTL and checksum as they are to leave (`ipv4::aged`).
    pub aged: [u32; BURST],
    /// The IPv6 packets to look up.
    pub v6: Lane<u128>,
    /// The VRFs of the packets to look up.
    pub vrfs: Agreement,
    /// The adjacency that its route led to.
    pub adjacency: [AdjId; BURST],
    /// Sub-interface it leaves on.
    pub out_sub_if: [SubIfId; BURST],
    /// Length of the frame as sent, in bytes, without FCS.
    pub out_len: [u16; BURST],
    /// The ports that packets leave on.
    pub out_ports: Agreement,
    /// The sub-interfaces that packets leave on.
    pub out_sub_ifs: Agreement,
}

/// The packets of one address family on their way through the look-up, without gaps.
pub struct Lane<A> {
    /// How many there are.
    pub len: usize,
    /// Which packet each is.
    pub packet: [u8; BURST],
    /// Its destination, host byte order.
    pub destination: [A; BURST],
    /// What the FIB says.
    pub group: [GroupId; BURST],
}

impl<A: Copy + Default> Lane<A> {
    fn new() -> Self {
        Self {
            len: 0,
            packet: [0; BURST],
            destination: [A::default(); BURST],
            group: [GroupId::NO_ROUTE; BURST],
        }
    }

    /// Adds packet `i`; there is room for each packet of a burst once.
    #[inline(always)]
    pub fn push(&mut self, i: usize, destination: A) {
        let at = self.len & (BURST - 1);
        self.packet[at] = i as u8;
        self.destination[at] = destination;
        self.len += 1;
    }
}

/// Whether a burst's packets all have the same small number.
#[derive(Clone, Copy, Debug)]
pub struct Agreement {
    any: u16,
    all: u16,
}

impl Agreement {
    /// Of no packet.
    pub const NONE: Self = Self { any: 0, all: u16::MAX };

    /// Adds one packet's number.
    #[inline(always)]
    pub fn add(&mut self, number: u16) {
        self.any |= number;
        self.all &= number;
    }

    /// The number that all packets have.
    #[inline(always)]
    pub fn common(self) -> Option<u16> {
        (self.any == self.all).then_some(self.any)
    }
}

impl<P: Packet> Burst<P> {
    /// An empty burst.
    pub fn new() -> Self {
        Self {
            len: 0,
            port: PortId(0),
            packets: [const { None }; BURST],
            verdict: [Verdict::Forward; BURST],
            alive: 0,
            classified: 0,
            odd: 0,
            ipv6: 0,
            link_multicast: 0,
            link_local_source: 0,
            frame_len: [0; BURST],
            l3_offset: [0; BURST],
            l3_len: [0; BURST],
            sub_ifs: Agreement::NONE,
            sub_if: [SubIfId(0); BURST],
            pcp: [0; BURST],
            v4: Lane::new(),
            aged: [0; BURST],
            v6: Lane::new(),
            vrfs: Agreement::NONE,
            adjacency: [AdjId::NO_ROUTE; BURST],
            out_sub_if: [SubIfId(0); BURST],
            out_len: [0; BURST],
            out_ports: Agreement::NONE,
            out_sub_ifs: Agreement::NONE,
        }
    }

    /// Starts over with the `len` packets that now lie in `packets`, received on `port`.
    #[inline(always)]
    pub fn begin(&mut self, port: PortId, len: usize) {
        debug_assert!(len <= BURST);
        self.port = port;
        self.len = len.min(BURST);
        self.alive = self.all();
        self.verdict[..self.len].fill(Verdict::Forward);
        self.classified = 0;
        self.odd = 0;
        self.ipv6 = 0;
        self.link_multicast = 0;
        self.link_local_source = 0;
        self.v4.len = 0;
        self.v6.len = 0;
        self.vrfs = Agreement::NONE;
        self.sub_ifs = Agreement::NONE;
        self.out_ports = Agreement::NONE;
        self.out_sub_ifs = Agreement::NONE;
    }

    /// All packets, as bits.
    #[inline(always)]
    pub fn all(&self) -> u64 {
        if self.len == BURST { u64::MAX } else { (1 << self.len) - 1 }
    }

    /// Ends packet `i` here.
    pub fn drop_packet(&mut self, i: usize, reason: DropReason) {
        self.alive &= !(1 << i);
        self.verdict[i] = Verdict::Drop(reason);
    }

    /// Sends packet `i` to the control thread.
    pub fn punt(&mut self, i: usize, reason: PuntReason) {
        self.alive &= !(1 << i);
        self.verdict[i] = Verdict::Punt(reason);
    }

    /// The IP packet in buffer `i`: from its header to the end of the frame, padding included.
    pub fn l3(&self, i: usize) -> &[u8] {
        let bytes = self.packets[i].as_ref().map_or(&[][..], P::bytes);
        bytes.get(usize::from(self.l3_offset[i])..).unwrap_or(&[])
    }

    /// Whether the odd packet `i` is IPv6.
    pub fn is_ipv6(&self, i: usize) -> bool {
        self.ipv6 >> i & 1 == 1
    }
}

impl<P: Packet> Default for Burst<P> {
    fn default() -> Self {
        Self::new()
    }
}

/// The positions of the set bits, lowest first.
#[derive(Clone, Debug)]
pub struct Bits(pub u64);

impl Iterator for Bits {
    type Item = usize;

    fn next(&mut self) -> Option<usize> {
        if self.0 == 0 {
            return None;
        }
        let i = self.0.trailing_zeros() as usize;
        self.0 &= self.0 - 1;
        Some(i)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bits_are_walked_from_low_to_high() {
        assert_eq!(Bits(0b1000_0000_0101).collect::<Vec<_>>(), [0, 2, 11]);
        assert_eq!(Bits(u64::MAX).count(), 64);
        assert_eq!(Bits(0).count(), 0);
    }
}
