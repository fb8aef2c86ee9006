//! IPv6 (RFC 8200, sections 3 and 4).

use super::{be16, be128, tcp};

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

/// Whether an address is unique local, `fc00::/7` (RFC 4193).
pub const fn is_unique_local(address: u128) -> bool {
    address >> 121 == 0xfc >> 1
}

/// Where the TCP header of a packet starts, behind at most four extension headers; `None` if it has none.
pub fn tcp(packet: &[u8]) -> Option<usize> {
    const ROUTING: u8 = 43;
    const DESTINATION: u8 = 60;
    let (mut next, mut at) = (next_header(packet), HEADER_LEN);
    for _ in 0..5 {
        let header = packet.get(at..at + 8)?;
        match next {
            tcp::PROTOCOL => return Some(at),
            HOP_BY_HOP | ROUTING | DESTINATION => at += (usize::from(header[1]) + 1) * 8,
            FRAGMENT if be16(header, 2) & 0xfff8 == 0 => at += 8,
            _ => return None,
        }
        next = header[0];
    }
    None
}

/// The traffic class: DSCP and, in its two low bits, ECN.
pub fn traffic_class(header: &[u8]) -> u8 {
    (be16(header, 0) >> 4) as u8
}

/// Sets the traffic class.
pub fn set_traffic_class(header: &mut [u8], class: u8) {
    if let Some([first, second]) = header.first_chunk_mut() {
        *first = *first & 0xf0 | class >> 4;
        *second = *second & 0x0f | class << 4;
    }
}

/// Whether an address is an IPv4 address in IPv6's form, `::ffff:0:0/96`, which no packet may have (RFC 6890).
pub const fn is_mapped(address: u128) -> bool {
    address >> 32 == 0xffff
}

/// Whether a packet is neighbour discovery (RFC 4861, section 4: ICMPv6 types 133 to 137).
pub fn is_neighbour_discovery(packet: &[u8]) -> bool {
    next_header(packet) == ICMPV6 && matches!(packet.get(HEADER_LEN), Some(133..=137))
}

/// What [`expected`] found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Expected {
    /// Length of the packet with its header, in bytes.
    pub len: u16,
    /// Destination, host byte order.
    pub destination: u128,
}

/// Checks a header for all that can be wrong with it at once: `Some` if it has no fault, global or unique local unicast
/// addresses, a hop limit above 1 and no hop-by-hop options, as nearly every one. `room`: bytes from the header to the end of the frame.
#[inline(always)]
pub fn expected(header: &[u8; HEADER_LEN], room: usize) -> Option<Expected> {
    let len = HEADER_LEN + usize::from(u16::from_be_bytes([header[4], header[5]]));
    // First bytes 0xfe (link-local and other scopes), 0xff (multicast) and 0 (unspecified, loopback, mapped).
    let special = |first: u8| first.wrapping_add(2) <= 2;
    if header[0] >> 4 != 6
        || len > room.min(usize::from(u16::MAX))
        || special(header[8])
        || special(header[24])
        || header[HOP_LIMIT] <= 1
        || header[6] == HOP_BY_HOP
    {
        return None;
    }
    let destination = header[24..].first_chunk().map_or(0, |bytes| u128::from_be_bytes(*bytes));
    Some(Expected { len: len as u16, destination })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_traffic_class_lies_across_two_bytes() {
        let mut header = [0x6a, 0xbc, 0xde, 0xf0];
        assert_eq!(traffic_class(&header), 0xab);
        set_traffic_class(&mut header, 0x51);
        assert_eq!(header, [0x65, 0x1c, 0xde, 0xf0]);
        assert_eq!(traffic_class(&header), 0x51);
    }

    #[test]
    fn tcp_is_found_behind_extension_headers() {
        let packet = |first: u8, rest: &[u8]| {
            let mut packet = vec![0; HEADER_LEN];
            packet[6] = first;
            [packet, rest.to_vec(), vec![0; 20]].concat()
        };
        assert_eq!(tcp(&packet(6, &[])), Some(40));
        assert_eq!(tcp(&packet(17, &[])), None);
        assert_eq!(tcp(&packet(60, &[6, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0])), Some(56));
        assert_eq!(tcp(&packet(44, &[6, 0, 0, 1, 0, 0, 0, 9])), Some(48), "the first fragment");
        assert_eq!(tcp(&packet(44, &[6, 0, 0, 9, 0, 0, 0, 9])), None, "a later one");
        assert_eq!(tcp(&packet(51, &[6, 4, 0, 0, 0, 0, 0, 0])), None, "authenticated");
        assert_eq!(
            tcp(&packet(0, &[60, 0, 0, 0, 0, 0, 0, 0, 6, 200, 0, 0, 0, 0, 0, 0])),
            None,
            "beyond its end"
        );
        assert_eq!(tcp(&[]), None);
    }

    #[test]
    fn unique_local_addresses() {
        for (address, is) in [(0xfc, true), (0xfd, true), (0xfb, false), (0xfe, false), (0x20, false)] {
            assert_eq!(is_unique_local(address << 120), is, "{address:x}");
        }
    }
}
