//! IPv6 (RFC 8200, sections 3 and 4).

use super::{be16, be128};

/// Length of the fixed header, in bytes.
pub const HEADER_LEN: usize = 40;
/// Offset of the hop limit.
pub const HOP_LIMIT: usize = 7;
/// Next-header value of the hop-by-hop options header.
pub const HOP_BY_HOP: u8 = 0;
/// Next-header value of the fragment header.
pub const FRAGMENT: u8 = 44;
/// Next-header value of ICMPv6.
pub const ICMPV6: u8 = 58;

/// Payload length, in bytes, extension headers included.
pub fn payload_len(header: &[u8]) -> u16 {
    be16(header, 4)
}

/// The next-header field of the fixed header.
pub fn next_header(header: &[u8]) -> u8 {
    header.get(6).copied().unwrap_or(59)
}

/// Source address, host byte order.
pub fn source(header: &[u8]) -> u128 {
    be128(header, 8)
}

/// Destination address, host byte order.
pub fn destination(header: &[u8]) -> u128 {
    be128(header, 24)
}

/// Whether an address is multicast (RFC 4291, section 2.7).
pub const fn is_multicast(address: u128) -> bool {
    address >> 120 == 0xff
}

/// Whether an address is link-local unicast (RFC 4291, section 2.5.6).
pub const fn is_link_local(address: u128) -> bool {
    address >> 118 == 0xfe80 >> 6
}

/// Whether an address is an IPv4 address in IPv6's form, `::ffff:0:0/96`, which no packet may have (RFC 6890).
pub const fn is_mapped(address: u128) -> bool {
    address >> 32 == 0xffff
}

/// Whether a packet is neighbour discovery (RFC 4861, section 4: ICMPv6 types 133 to 137).
pub fn is_neighbour_discovery(packet: &[u8]) -> bool {
    next_header(packet) == ICMPV6 && matches!(packet.get(HEADER_LEN), Some(133..=137))
}
