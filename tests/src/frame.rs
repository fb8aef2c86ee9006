//! Ethernet frames, tags and the IP, UDP and ICMP headers that the suites build and look at. Written for the tests
//! alone, so that a fault in the program's own code cannot hide itself.

use std::net::{IpAddr, Ipv4Addr};

/// Ethertype of an 802.1Q tag.
pub const TPID_8021Q: u16 = 0x8100;
/// Ethertype of an 802.1ad service tag.
pub const TPID_8021AD: u16 = 0x88a8;
/// Ethertype of IPv4.
pub const IPV4: u16 = 0x0800;
/// Ethertype of IPv6.
pub const IPV6: u16 = 0x86dd;
/// IP protocol number of UDP.
pub const UDP: u8 = 17;
/// IP protocol number of TCP.
pub const TCP: u8 = 6;

/// A MAC address.
pub type Mac = [u8; 6];

/// One 802.1Q or 802.1ad tag.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Tag {
    /// The ethertype that announces it.
    pub tpid: u16,
    /// Priority, 0 to 7.
    pub pcp: u8,
    /// Drop eligible.
    pub dei: bool,
    /// VLAN id.
    pub vid: u16,
}

impl Tag {
    /// A tag of priority 0.
    pub const fn new(tpid: u16, vid: u16) -> Self {
        Self { tpid, pcp: 0, dei: false, vid }
    }

    /// The tag of a TPID and a tag control field.
    pub const fn from_tci(tpid: u16, tci: u16) -> Self {
        Self { tpid, pcp: (tci >> 13) as u8, dei: tci & 0x1000 != 0, vid: tci & 0x0fff }
    }

    /// The same with another priority.
    #[must_use]
    pub const fn with_pcp(mut self, pcp: u8) -> Self {
        self.pcp = pcp;
        self
    }

    /// Its four bytes.
    pub fn bytes(self) -> [u8; 4] {
        let tci = u16::from(self.pcp) << 13 | u16::from(self.dei) << 12 | self.vid;
        let ([a, b], [c, d]) = (self.tpid.to_be_bytes(), tci.to_be_bytes());
        [a, b, c, d]
    }

    /// Whether TPID and VLAN id are the same, whatever the priority.
    pub fn same_vlan(self, other: Self) -> bool {
        (self.tpid, self.vid) == (other.tpid, other.vid)
    }
}

/// A frame taken apart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ethernet<'a> {
    /// Destination.
    pub dst: Mac,
    /// Source.
    pub src: Mac,
    /// Its tags, outermost first.
    pub tags: Vec<Tag>,
    /// What the payload is.
    pub ethertype: u16,
    /// What follows the header.
    pub payload: &'a [u8],
}

/// Takes a frame apart; `None` when it is too short for its header.
pub fn ethernet(frame: &[u8]) -> Option<Ethernet<'_>> {
    let (dst, src) = (frame.get(..6)?.try_into().ok()?, frame.get(6..12)?.try_into().ok()?);
    let mut at = 12;
    let mut tags = Vec::new();
    loop {
        let ethertype = word(frame, at)?;
        at += 2;
        if ethertype != TPID_8021Q && ethertype != TPID_8021AD {
            return Some(Ethernet { dst, src, tags, ethertype, payload: frame.get(at..)? });
        }
        tags.push(Tag::from_tci(ethertype, word(frame, at)?));
        at += 2;
    }
}

/// Puts a frame together.
pub fn build(dst: Mac, src: Mac, tags: &[Tag], ethertype: u16, payload: &[u8]) -> Vec<u8> {
    let mut frame = Vec::with_capacity(14 + 4 * tags.len() + payload.len());
    frame.extend(dst);
    frame.extend(src);
    frame.extend(tags.iter().flat_map(|t| t.bytes()));
    frame.extend(ethertype.to_be_bytes());
    frame.extend(payload);
    frame
}

/// The same frame with `tags` in front of those that it has.
pub fn push(frame: &[u8], tags: &[Tag]) -> Vec<u8> {
    let split = frame.len().min(12);
    let mut tagged = Vec::with_capacity(frame.len() + 4 * tags.len());
    tagged.extend(&frame[..split]);
    tagged.extend(tags.iter().flat_map(|t| t.bytes()));
    tagged.extend(&frame[split..]);
    tagged
}

/// The frame without its outer `count` tags.
pub fn pop(frame: &[u8], count: usize) -> Vec<u8> {
    let split = frame.len().min(12);
    [&frame[..split], frame.get(split + 4 * count..).unwrap_or_default()].concat()
}

/// What the suites ask of an IP header.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ip<'a> {
    /// Source.
    pub src: IpAddr,
    /// Destination.
    pub dst: IpAddr,
    /// Protocol, or next header.
    pub protocol: u8,
    /// TTL, or hop limit.
    pub ttl: u8,
    /// DSCP.
    pub dscp: u8,
    /// Length of the whole packet by its header.
    pub length: usize,
    /// Whether the IPv4 header checksum is right; always for IPv6.
    pub checksum_right: bool,
    /// What follows the (first) header.
    pub payload: &'a [u8],
}

impl Ip<'_> {
    /// Source and destination port, where there are any.
    pub fn ports(&self) -> Option<(u16, u16)> {
        (self.protocol == UDP || self.protocol == 6)
            .then(|| Some((word(self.payload, 0)?, word(self.payload, 2)?)))?
    }
}

/// The IP packet of a frame; `None` when it is none or cut short.
pub fn ip(frame: &[u8]) -> Option<Ip<'_>> {
    let ethernet = ethernet(frame)?;
    let p = ethernet.payload;
    match ethernet.ethertype {
        IPV4 => {
            let header = usize::from(p.first()? & 0x0f) * 4;
            let length = usize::from(word(p, 2)?);
            Some(Ip {
                src: IpAddr::from(<[u8; 4]>::try_from(p.get(12..16)?).ok()?),
                dst: IpAddr::from(<[u8; 4]>::try_from(p.get(16..20)?).ok()?),
                protocol: p[9],
                ttl: p[8],
                dscp: p[1] >> 2,
                length,
                checksum_right: sum(p.get(..header)?) == 0xffff,
                payload: p.get(header..length)?,
            })
        }
        IPV6 => Some(Ip {
            src: IpAddr::from(<[u8; 16]>::try_from(p.get(8..24)?).ok()?),
            dst: IpAddr::from(<[u8; 16]>::try_from(p.get(24..40)?).ok()?),
            protocol: p[6],
            ttl: p[7],
            dscp: ((word(p, 0)? >> 4) & 0xff) as u8 >> 2,
            length: 40 + usize::from(word(p, 4)?),
            checksum_right: true,
            payload: p.get(40..40 + usize::from(word(p, 4)?))?,
        }),
        _ => None,
    }
}

/// An IPv4 or IPv6 packet (with right checksum and lengths) of two addresses of one family. Panics when they are not.
pub fn packet(src: IpAddr, dst: IpAddr, protocol: u8, ttl: u8, payload: &[u8]) -> Vec<u8> {
    match (src, dst) {
        (IpAddr::V4(src), IpAddr::V4(dst)) => {
            let mut p = vec![0x45, 0, 0, 0, 0x12, 0x34, 0x40, 0, ttl, protocol, 0, 0];
            p.extend(src.octets());
            p.extend(dst.octets());
            p.extend(payload);
            let length = (p.len() as u16).to_be_bytes();
            p[2..4].copy_from_slice(&length);
            renew_checksum(&mut p);
            p
        }
        (IpAddr::V6(src), IpAddr::V6(dst)) => {
            let mut p = vec![0x60, 0, 0, 0, 0, 0, protocol, ttl];
            p[4..6].copy_from_slice(&(payload.len() as u16).to_be_bytes());
            p.extend(src.octets());
            p.extend(dst.octets());
            p.extend(payload);
            p
        }
        _ => panic!("{src} and {dst} are of two families"),
    }
}

/// Writes the right header checksum into an IPv4 packet.
pub fn renew_checksum(packet: &mut [u8]) {
    let header = (usize::from(packet[0] & 0x0f) * 4).clamp(20, packet.len());
    packet[10..12].fill(0);
    let checksum = (!sum(&packet[..header])).to_be_bytes();
    packet[10..12].copy_from_slice(&checksum);
}

/// A UDP datagram in an IP packet, all checksums right.
pub fn udp(src: (IpAddr, u16), dst: (IpAddr, u16), ttl: u8, payload: &[u8]) -> Vec<u8> {
    let length = 8 + payload.len() as u16;
    let mut datagram = Vec::with_capacity(usize::from(length));
    for field in [src.1, dst.1, length, 0] {
        datagram.extend(field.to_be_bytes());
    }
    datagram.extend(payload);
    let checksum = match transport_checksum(src.0, dst.0, UDP, &datagram) {
        0 => 0xffff,
        other => other,
    };
    datagram[6..8].copy_from_slice(&checksum.to_be_bytes());
    packet(src.0, dst.0, UDP, ttl, &datagram)
}

/// A TCP segment that opens a connection (SYN), of IPv4, all checksums right.
pub fn syn(src: (Ipv4Addr, u16), dst: (Ipv4Addr, u16)) -> Vec<u8> {
    let mut segment = [src.1.to_be_bytes(), dst.1.to_be_bytes()].concat();
    // Sequence numbers, five words of header, SYN, window, checksum, urgent pointer.
    segment.extend([0, 0, 0, 1, 0, 0, 0, 0, 0x50, 2, 0xff, 0xff, 0, 0, 0, 0]);
    let (from, to) = (src.0.into(), dst.0.into());
    let checksum = transport_checksum(from, to, TCP, &segment);
    segment[16..18].copy_from_slice(&checksum.to_be_bytes());
    packet(from, to, TCP, 64, &segment)
}

/// The checksum of a message whose checksum field is zero, with the pseudo-header before it (RFC 9293, section 3.1; RFC 8200,
/// section 8.1).
pub fn transport_checksum(src: IpAddr, dst: IpAddr, protocol: u8, message: &[u8]) -> u16 {
    let mut pseudo = match (src, dst) {
        (IpAddr::V4(a), IpAddr::V4(b)) => [a.octets(), b.octets()].concat(),
        (IpAddr::V6(a), IpAddr::V6(b)) => [a.octets(), b.octets()].concat(),
        _ => panic!("{src} and {dst} are of two families"),
    };
    pseudo.extend([0, protocol]);
    pseudo.extend((message.len() as u16).to_be_bytes());
    pseudo.extend(message);
    checksum(&pseudo)
}

/// The Internet checksum (RFC 1071) of bytes whose checksum field is zero.
pub fn checksum(bytes: &[u8]) -> u16 {
    !sum(bytes)
}

/// One's complement sum of 16-bit words (RFC 1071), not inverted.
fn sum(bytes: &[u8]) -> u16 {
    let mut total: u32 = 0;
    for pair in bytes.chunks(2) {
        total += u32::from(u16::from_be_bytes([pair[0], pair.get(1).copied().unwrap_or(0)]));
    }
    while total > 0xffff {
        total = (total & 0xffff) + (total >> 16);
    }
    total as u16
}

fn word(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_be_bytes(bytes.get(at..at + 2)?.try_into().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A QinQ frame with an ICMP echo, written by hand from 802.1Q and RFC 791.
    const GOLDEN: &str =
        "02000000000202000000000188a8a06481000014080045000054000040004001b7600a1e000ac633640a";

    fn bytes(hex: &str) -> Vec<u8> {
        (0..hex.len()).step_by(2).map(|i| u8::from_str_radix(&hex[i..i + 2], 16).unwrap()).collect()
    }

    #[test]
    fn a_golden_frame_is_read() {
        let frame = bytes(GOLDEN);
        let e = ethernet(&frame).unwrap();
        assert_eq!(e.dst, [2, 0, 0, 0, 0, 2]);
        assert_eq!(e.tags, [Tag::new(0x88a8, 100).with_pcp(5), Tag::new(0x8100, 20)]);
        assert_eq!(e.ethertype, IPV4);
        assert!(ip(&frame).is_none(), "its length says 84 bytes, and only 20 are there");
    }

    #[test]
    fn tags_go_on_and_off() {
        let frame = bytes(GOLDEN);
        let plain = pop(&frame, 2);
        let e = ethernet(&plain).unwrap();
        assert!(e.tags.is_empty());
        assert_eq!(e.ethertype, IPV4);
        assert_eq!(push(&plain, &ethernet(&frame).unwrap().tags), frame);
    }

    #[test]
    fn udp_packets_of_both_families_read_back() {
        for (a, b) in [("192.0.2.1", "198.51.100.7"), ("2001:db8::1", "2001:db8:1::7")] {
            let (a, b): (IpAddr, IpAddr) = (a.parse().unwrap(), b.parse().unwrap());
            let ethertype = if a.is_ipv4() { IPV4 } else { IPV6 };
            let frame = build([2; 6], [4; 6], &[], ethertype, &udp((a, 1000), (b, 2000), 64, b"odd"));
            let p = ip(&frame).unwrap();
            assert_eq!((p.src, p.dst, p.protocol, p.ttl), (a, b, UDP, 64));
            assert_eq!(p.ports(), Some((1000, 2000)));
            assert!(p.checksum_right);
            assert_eq!(p.length, frame.len() - 14);
        }
    }

    #[test]
    fn a_wrong_checksum_is_seen() {
        let (a, b) = ("192.0.2.1".parse().unwrap(), "198.51.100.7".parse().unwrap());
        let mut p = packet(a, b, UDP, 64, &[0; 8]);
        p[8] -= 1;
        assert!(!ip(&build([2; 6], [4; 6], &[], IPV4, &p)).unwrap().checksum_right);
        renew_checksum(&mut p);
        assert!(ip(&build([2; 6], [4; 6], &[], IPV4, &p)).unwrap().checksum_right);
    }
}
