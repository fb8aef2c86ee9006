//! The fields of packets that rules look at, as a structure of arrays, and how they are read from a packet.

use crate::burst::BURST;
use crate::header::{be16, ipv4, ipv6};

use super::rule::TCP;

/// Fields of up to [`BURST`] packets of one family.
#[derive(Debug)]
pub struct Keys<A> {
    /// How many packets.
    pub len: usize,
    /// Source addresses, host byte order.
    pub source: [A; BURST],
    /// Destination addresses, host byte order.
    pub destination: [A; BURST],
    /// Protocol, with its [`State`] above: an index below [`KINDS`].
    pub kind: [u16; BURST],
    /// The first two bytes of the transport header: source port, or ICMP's type and code. 0 if there is none.
    pub source_port: [u16; BURST],
    /// The next two bytes.
    pub destination_port: [u16; BURST],
    /// DSCP, 0 to 63.
    pub dscp: [u8; BURST],
    /// VLAN id of the outer tag as received; 0: untagged.
    pub outer_vlan: [u16; BURST],
    /// VLAN id of the inner tag as received; 0: there is none.
    pub inner_vlan: [u16; BURST],
}

impl<A: Copy + Default> Default for Keys<A> {
    fn default() -> Self {
        Self {
            len: 0,
            source: [A::default(); BURST],
            destination: [A::default(); BURST],
            kind: [0; BURST],
            source_port: [0; BURST],
            destination_port: [0; BURST],
            dscp: [0; BURST],
            outer_vlan: [0; BURST],
            inner_vlan: [0; BURST],
        }
    }
}

/// What is known of a packet's transport header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u16)]
pub(super) enum State {
    /// It is there.
    Whole,
    /// It is there, TCP, with ACK or RST.
    Established,
    /// The packet ends before it, or within its first four bytes.
    CutOff,
    /// The packet is a fragment other than the first.
    LaterFragment,
}

impl State {
    pub(super) const ALL: [Self; 4] = [Self::Whole, Self::Established, Self::CutOff, Self::LaterFragment];
}

/// Kinds of packets: protocol and [`State`].
pub(super) const KINDS: usize = 256 * State::ALL.len();

/// The kind of a packet.
pub(super) const fn kind(protocol: u8, state: State) -> u16 {
    (state as u16) << 8 | protocol as u16
}

/// A packet's transport header: kind, and its first four bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Transport {
    pub kind: u16,
    pub ports: (u16, u16),
}

impl Transport {
    /// The one that `bytes` begins with.
    #[inline(always)]
    fn read(protocol: u8, bytes: &[u8]) -> Self {
        if let Some(head) = bytes.first_chunk::<14>() {
            // ACK or RST (RFC 9293, section 3.1).
            let established = protocol == TCP && head[13] & 0x14 != 0;
            return Self {
                kind: u16::from(protocol) | u16::from(established) << 8,
                ports: (u16::from_be_bytes([head[0], head[1]]), u16::from_be_bytes([head[2], head[3]])),
            };
        }
        Self::read_short(protocol, bytes)
    }

    #[cold]
    fn read_short(protocol: u8, bytes: &[u8]) -> Self {
        if bytes.len() < 4 {
            return Self::none(protocol, State::CutOff);
        }
        Self { kind: kind(protocol, State::Whole), ports: (be16(bytes, 0), be16(bytes, 2)) }
    }

    fn none(protocol: u8, state: State) -> Self {
        Self { kind: kind(protocol, state), ports: (0, 0) }
    }

    /// That of an IPv4 packet with a checked header; `packet` ends where its total length says.
    #[inline(always)]
    pub(super) fn of4(packet: &[u8]) -> Self {
        let protocol = ipv4::protocol(packet);
        if ipv4::fragment_field(packet) & 0x1fff != 0 {
            return Self::none(protocol, State::LaterFragment);
        }
        Self::read(protocol, packet.get(ipv4::header_len(packet)..).unwrap_or(&[]))
    }

    /// That of an IPv6 packet with a checked header, cut to its length.
    #[inline(always)]
    pub(super) fn of6(packet: &[u8]) -> Self {
        let next = ipv6::next_header(packet);
        let rest = packet.get(ipv6::HEADER_LEN..).unwrap_or(&[]);
        if is_extension(next) { Self::behind_extensions(next, rest) } else { Self::read(next, rest) }
    }

    /// Behind extension headers (RFC 8200, section 4). Beyond [`MAX_EXTENSIONS`] of them, or past the packet's end, it
    /// counts as cut off, and its protocol is the header that was come to.
    #[cold]
    fn behind_extensions(mut next: u8, mut rest: &[u8]) -> Self {
        for _ in 0..MAX_EXTENSIONS {
            if !is_extension(next) {
                return Self::read(next, rest);
            }
            let &[following, len, high, low, ..] = rest else { break };
            let len = match next {
                ipv6::FRAGMENT if u16::from_be_bytes([high, low]) >> 3 != 0 => {
                    return Self::none(following, State::LaterFragment);
                }
                ipv6::FRAGMENT => 8,
                AUTHENTICATION => (usize::from(len) + 2) * 4,
                _ => (usize::from(len) + 1) * 8,
            };
            next = following;
            rest = rest.get(len..).unwrap_or(&[]);
        }
        if is_extension(next) { Self::none(next, State::CutOff) } else { Self::read(next, rest) }
    }
}

/// Extension headers that are followed to the transport header.
const MAX_EXTENSIONS: usize = 8;
/// RFC 4302.
const AUTHENTICATION: u8 = 51;

/// Extension headers with a length of their own: hop-by-hop, routing, fragment, authentication, destination options,
/// mobility, HIP, shim6 (IANA's list, without ESP, behind which nothing can be read, and the experimental ones).
fn is_extension(next: u8) -> bool {
    matches!(next, 0 | 43 | 44 | AUTHENTICATION | 60 | 135 | 139 | 140)
}

/// Puts an IPv4 packet with a checked header at `at`, without its tags; `packet` ends where its total length says.
#[inline(always)]
pub fn read4(keys: &mut Keys<u32>, at: usize, packet: &[u8]) {
    let at = at & (BURST - 1);
    let transport = Transport::of4(packet);
    keys.source[at] = ipv4::source(packet);
    keys.destination[at] = ipv4::destination(packet);
    keys.dscp[at] = packet.get(1).map_or(0, |tos| tos >> 2);
    keys.kind[at] = transport.kind;
    (keys.source_port[at], keys.destination_port[at]) = transport.ports;
}

/// The same for an IPv6 packet.
#[inline(always)]
pub fn read6(keys: &mut Keys<u128>, at: usize, packet: &[u8]) {
    let at = at & (BURST - 1);
    let transport = Transport::of6(packet);
    keys.source[at] = ipv6::source(packet);
    keys.destination[at] = ipv6::destination(packet);
    keys.dscp[at] = (be16(packet, 0) >> 6) as u8 & 0x3f;
    keys.kind[at] = transport.kind;
    (keys.source_port[at], keys.destination_port[at]) = transport.ports;
}
