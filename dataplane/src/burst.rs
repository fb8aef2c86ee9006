//! A burst: up to 64 packets of one port, as a structure of arrays that the stages fill one after another.

use std::sync::Arc;

use crate::acl::RuleCounters;
use crate::ids::{AdjId, GroupId, PortId, SubIfId, VrfId};
use crate::packet::Packet;
use crate::verdict::{DropReason, PuntReason, Verdict};

/// Most packets in a burst. A set of packets is the bits of a `u64`.
pub const BURST: usize = 64;

/// Entries of an array that is written sixteen at a time from any packet on: a whole number of cache lines of two-byte
/// entries, as [`BURST`] is of any.
pub(crate) const ROOM: usize = BURST + 32;

/// Up to [`BURST`] packets and what the stages found out about each. Index `i` of every array is packet `i`;
/// an array's entry means something only after the stage that fills it.
///
/// Arrays come first, and each begins with a cache line: a vector over two of them takes twice as long to load.
#[repr(C, align(64))]
pub struct Burst<P> {
    /// The buffers.
    pub packets: [Option<P>; BURST],
    /// The IPv6 packets to look up.
    pub v6: Lane<u128>,
    /// The IPv4 packets to look up.
    pub v4: Lane<u32>,
    /// Of those that are as expected: TTL and checksum as they are to leave (`ipv4::aged`).
    pub aged: [u32; ROOM],
    /// The adjacency that its route led to.
    pub adjacency: [AdjId; BURST],
    /// Length of the frame as received, in bytes, without FCS and with all tags.
    pub frame_len: [u16; ROOM],
    /// Length of the IP packet, in bytes.
    pub l3_len: [u16; ROOM],
    /// Length of the frame as sent, in bytes, without FCS.
    pub out_len: [u16; BURST],
    /// Sub-interface it came in on.
    pub sub_if: [SubIfId; BURST],
    /// The VRF it is routed in.
    pub vrf: [VrfId; BURST],
    /// Sub-interface it leaves on.
    pub out_sub_if: [SubIfId; BURST],
    /// Port it leaves on.
    pub out_port: [PortId; BURST],
    /// VLAN ids, outer and inner, as `stage::wide` finds them.
    #[cfg(all(target_arch = "x86_64", not(miri)))]
    pub(crate) vids: [[u16; ROOM]; 2],
    /// Where the IP header starts, in bytes from the frame's start.
    pub l3_offset: [u8; BURST],
    /// Priority of the outermost tag it came with, 0 to 7.
    pub pcp: [u8; ROOM],
    /// What becomes of each that is not alive.
    pub verdict: [Verdict; BURST],
    /// Packets in it, from index 0 on.
    pub len: usize,
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
    /// Packets from a link-local source, or to an IPv4 link-local destination, which may be for us but not for
    /// beyond the link, as bits.
    pub link_local: u64,
    /// Where rules of access lists count, if anybody wants to know.
    pub rule_counters: Option<Arc<RuleCounters>>,
    /// The port all of them came from.
    pub port: PortId,
    /// Whether what lies before frames that may grow was asked for.
    pub(crate) fetched: bool,
    /// Whether the NIC's word counts for IPv4 header checksums that it calls right.
    pub vouched: bool,
    /// What control has seen to already.
    pub seen_to: SeenTo,
    /// Whether packets that are dropped in `transmit` are to stay in `packets`, for a session of `watch` to look at.
    pub keep_unsent: bool,
}

/// What the control thread has seen to already for the packets that it forwards itself, so that it is not done again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(clippy::struct_excessive_bools, reason = "each is asked by another stage")]
pub struct SeenTo {
    /// Options: packets need not be punted for them.
    pub options: bool,
    /// Checks of what comes in.
    pub ingress: bool,
    /// Checks of what goes out.
    pub egress: bool,
    /// Size: a packet that is larger than the MTU will be cut.
    pub size: bool,
}

impl SeenTo {
    /// Nothing: the packets come from a port.
    pub const NOTHING: Self = Self { options: false, ingress: false, egress: false, size: false };
}

/// The packets of one address family on their way through the look-up, without gaps, in the order of their numbers.
#[repr(C, align(64))]
pub struct Lane<A> {
    /// Its destination, host byte order.
    pub destination: [A; ROOM],
    /// What the FIB says.
    pub group: [GroupId; BURST],
    /// Which packet each is.
    pub packet: [u8; BURST],
    /// How many there are.
    pub len: usize,
}

impl<A: Copy + Default> Lane<A> {
    /// An empty one.
    pub fn new() -> Self {
        Self {
            len: 0,
            packet: [0; BURST],
            destination: [A::default(); ROOM],
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

    /// The number of the packet at this place.
    #[inline(always)]
    pub fn at(&self, place: usize) -> usize {
        usize::from(self.packet[place & (BURST - 1)]) & (BURST - 1)
    }

    /// Those of `packets` (bits) that are in it: the place in the lane, and the packet's number.
    pub fn of(&self, packets: u64) -> impl Iterator<Item = (usize, usize)> {
        (0..self.len.min(BURST)).map(|at| (at, self.at(at))).filter(move |(_, i)| packets >> i & 1 == 1)
    }

    /// Its packets, as bits.
    pub fn bits(&self) -> u64 {
        self.of(u64::MAX).fold(0, |bits, (_, i)| bits | 1 << i)
    }

    /// Keeps the entries at the places `right` (bits) only, without gaps; `moved` hears from where to where each goes.
    /// Returns the packets of the others, as bits.
    pub fn keep(&mut self, right: u64, mut moved: impl FnMut(usize, usize)) -> u64 {
        let mut others = 0;
        let mut to = 0;
        for from in 0..self.len.min(BURST) {
            if right >> from & 1 == 1 {
                self.packet[to] = self.packet[from];
                self.destination[to] = self.destination[from];
                moved(from, to);
                to += 1;
            } else {
                others |= 1 << self.at(from);
            }
        }
        self.len = to;
        others
    }

    /// The packets at its first places, as bits.
    pub(crate) fn first(&self, places: usize) -> u64 {
        (0..places.min(self.len)).fold(0, |bits, place| bits | 1 << self.at(place))
    }

    /// The places of those of `packets`, as bits.
    pub(crate) fn places(&self, packets: u64) -> u64 {
        self.of(packets).fold(0, |places, (at, _)| places | 1 << at)
    }
}

impl<A: Copy + Default> Default for Lane<A> {
    fn default() -> Self {
        Self::new()
    }
}

/// What all of these are, if they are all the same; `None` also where there is nothing.
#[inline(always)]
pub fn common<T: Copy + Eq>(all: &[T]) -> Option<T> {
    let first = *all.first()?;
    // Without an early exit this is a few vector instructions.
    let differ = |all: &[T]| all.iter().fold(0, |differ, one| differ | u32::from(*one != first));
    (of_whole(all, differ) == 0).then_some(first)
}

/// What `f` makes of them. It is compiled once more for whole bursts, where the compiler knows how many there are and
/// makes no loop of a few vector instructions.
#[inline(always)]
pub fn of_whole<T, R>(all: &[T], f: impl Fn(&[T]) -> R) -> R {
    match <&[T; BURST]>::try_from(all) {
        Ok(whole) => f(whole),
        Err(_) => f(all),
    }
}

/// The numbers of a burst's packets, in order.
pub const IN_ORDER: [u8; BURST] = {
    let mut numbers = [0; BURST];
    let mut i = 0;
    while i < BURST {
        numbers[i] = i as u8;
        i += 1;
    }
    numbers
};

impl<P: Packet> Burst<P> {
    /// An empty burst.
    pub fn new() -> Self {
        Self {
            len: 0,
            port: PortId(0),
            packets: [const { None }; BURST],
            #[cfg(all(target_arch = "x86_64", not(miri)))]
            vids: [[0; ROOM]; 2],
            verdict: [Verdict::Forward; BURST],
            alive: 0,
            classified: 0,
            odd: 0,
            ipv6: 0,
            link_multicast: 0,
            link_local: 0,
            fetched: false,
            vouched: false,
            seen_to: SeenTo::NOTHING,
            rule_counters: None,
            keep_unsent: false,
            frame_len: [0; ROOM],
            l3_offset: [0; BURST],
            l3_len: [0; ROOM],
            sub_if: [SubIfId(0); BURST],
            vrf: [VrfId(0); BURST],
            pcp: [0; ROOM],
            v4: Lane::new(),
            aged: [0; ROOM],
            v6: Lane::new(),
            adjacency: [AdjId::NO_ROUTE; BURST],
            out_sub_if: [SubIfId(0); BURST],
            out_len: [0; BURST],
            out_port: [PortId(0); BURST],
        }
    }

    /// Starts over with the `len` packets that now lie in `packets`, received on `port`.
    #[inline(always)]
    pub fn begin(&mut self, port: PortId, len: usize) {
        debug_assert!(len <= BURST);
        self.port = port;
        self.len = len.min(BURST);
        self.alive = self.all();
        self.classified = 0;
        self.odd = 0;
        self.ipv6 = 0;
        self.link_multicast = 0;
        self.link_local = 0;
        self.fetched = false;
        self.vouched = false;
        self.seen_to = SeenTo::NOTHING;
        self.v4.len = 0;
        self.v6.len = 0;
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

    /// Drops packet `i` here, and tells its sender as far as there is a budget for that.
    pub fn refuse_packet(&mut self, i: usize, reason: DropReason) {
        self.alive &= !(1 << i);
        self.verdict[i] = Verdict::Refuse(reason);
    }

    /// Takes packets that are no longer alive out of the lanes, before the look-up.
    pub fn close_ranks(&mut self) {
        let right = self.v4.places(self.alive);
        self.v4.keep(right, |from, to| self.aged[to] = self.aged[from]);
        let right = self.v6.places(self.alive);
        self.v6.keep(right, |_, _| {});
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
