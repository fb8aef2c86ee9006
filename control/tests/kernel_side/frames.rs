//! Ethernet frames by hand: ARP, ICMP, neighbour discovery, and checksums to check what the kernel made.

use std::net::{Ipv4Addr, Ipv6Addr};

/// Operation, sender MAC, sender, target MAC, target.
pub type Arp = (u16, [u8; 6], Ipv4Addr, [u8; 6], Ipv4Addr);

pub const BROADCAST: [u8; 6] = [0xff; 6];

/// A frame that came, with its fields by offset.
#[derive(Clone, Copy)]
pub struct Frame<'a>(pub &'a [u8]);

impl Frame<'_> {
    pub fn destination(&self) -> [u8; 6] {
        self.0[0..6].try_into().unwrap()
    }

    pub fn source(&self) -> [u8; 6] {
        self.0[6..12].try_into().unwrap()
    }

    pub fn ethertype(&self) -> u16 {
        u16::from_be_bytes([self.0[12], self.0[13]])
    }

    pub fn payload(&self) -> &[u8] {
        &self.0[14..]
    }

    /// What an ARP packet says.
    pub fn arp(&self) -> Option<Arp> {
        let arp = self.payload();
        (self.ethertype() == 0x0806).then(|| {
            let v4 = |at: usize| Ipv4Addr::from_octets(arp[at..at + 4].try_into().unwrap());
            let mac = |at: usize| arp[at..at + 6].try_into().unwrap();
            (u16::from_be_bytes([arp[6], arp[7]]), mac(8), v4(14), mac(18), v4(24))
        })
    }

    /// (protocol, source, destination, payload) of an IPv4 packet with a right header checksum.
    pub fn ipv4(&self) -> Option<(u8, Ipv4Addr, Ipv4Addr, &[u8])> {
        let ip = self.payload();
        (self.ethertype() == 0x0800).then(|| {
            let header = usize::from(ip[0] & 15) * 4;
            assert_eq!(checksum(&[&ip[..header]]), 0, "IPv4 header checksum");
            let v4 = |at: usize| Ipv4Addr::from_octets(ip[at..at + 4].try_into().unwrap());
            let length = usize::from(u16::from_be_bytes([ip[2], ip[3]]));
            (ip[9], v4(12), v4(16), &ip[header..length])
        })
    }

    /// (next header, source, destination, payload) of an IPv6 packet.
    pub fn ipv6(&self) -> Option<(u8, Ipv6Addr, Ipv6Addr, &[u8])> {
        let ip = self.payload();
        (self.ethertype() == 0x86dd).then(|| {
            let v6 = |at: usize| Ipv6Addr::from_octets(ip[at..at + 16].try_into().unwrap());
            let length = usize::from(u16::from_be_bytes([ip[4], ip[5]]));
            (ip[6], v6(8), v6(24), &ip[40..40 + length])
        })
    }

    /// (type, source, destination, message) of an `ICMPv6` packet with a right checksum.
    pub fn icmp6(&self) -> Option<(u8, Ipv6Addr, Ipv6Addr, &[u8])> {
        let (next, source, destination, message) = self.ipv6()?;
        (next == 58).then(|| {
            assert_eq!(checksum6(source, destination, 58, message), 0, "ICMPv6 checksum");
            (message[0], source, destination, message)
        })
    }

    /// (source, destination, target) of a neighbour solicitation.
    pub fn solicitation(&self) -> Option<(Ipv6Addr, Ipv6Addr, Ipv6Addr)> {
        let (kind, source, destination, message) = self.icmp6()?;
        (kind == 135)
            .then(|| (source, destination, Ipv6Addr::from_octets(message[8..24].try_into().unwrap())))
    }
}

/// The Internet checksum (RFC 1071) over `parts`, of which only the last may have an odd length.
pub fn checksum(parts: &[&[u8]]) -> u16 {
    let mut sum = 0u32;
    for part in parts {
        for pair in part.chunks(2) {
            sum += u32::from(u16::from_be_bytes([pair[0], pair.get(1).copied().unwrap_or(0)]));
        }
    }
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !(sum as u16)
}

/// With the pseudo-header of IPv4 (RFC 768); 0 when right.
pub fn checksum4(source: Ipv4Addr, destination: Ipv4Addr, protocol: u8, payload: &[u8]) -> u16 {
    let tail = [&[0, protocol][..], &(payload.len() as u16).to_be_bytes()].concat();
    checksum(&[&source.octets(), &destination.octets(), &tail, payload])
}

/// With the pseudo-header of IPv6 (RFC 8200, section 8.1); 0 when right.
pub fn checksum6(source: Ipv6Addr, destination: Ipv6Addr, next: u8, payload: &[u8]) -> u16 {
    let tail = [&(payload.len() as u32).to_be_bytes()[..], &[0, 0, 0, next]].concat();
    checksum(&[&source.octets(), &destination.octets(), &tail, payload])
}

pub fn ethernet(destination: [u8; 6], source: [u8; 6], ethertype: u16, payload: &[u8]) -> Vec<u8> {
    [&destination[..], &source, &ethertype.to_be_bytes(), payload].concat()
}

/// An ARP request (1) or reply (2), padded to 60 bytes as on a wire.
pub fn arp(
    operation: u16,
    sender: ([u8; 6], Ipv4Addr),
    target: ([u8; 6], Ipv4Addr),
    destination: [u8; 6],
) -> Vec<u8> {
    let payload = [
        &[0, 1, 8, 0, 6, 4][..],
        &operation.to_be_bytes(),
        &sender.0,
        &sender.1.octets(),
        &target.0,
        &target.1.octets(),
        &[0; 18],
    ]
    .concat();
    ethernet(destination, sender.0, 0x0806, &payload)
}

pub fn ping4(macs: ([u8; 6], [u8; 6]), source: Ipv4Addr, destination: Ipv4Addr, data: &[u8]) -> Vec<u8> {
    let mut icmp = [&[8, 0, 0, 0, 0x12, 0x34, 0, 1][..], data].concat();
    let sum = checksum(&[&icmp]);
    icmp[2..4].copy_from_slice(&sum.to_be_bytes());
    let mut ip = [
        &[0x45, 0][..],
        &(20 + icmp.len() as u16).to_be_bytes(),
        &[0, 1, 0, 0, 64, 1, 0, 0],
        &source.octets(),
        &destination.octets(),
    ]
    .concat();
    let sum = checksum(&[&ip]);
    ip[10..12].copy_from_slice(&sum.to_be_bytes());
    ip.extend(icmp);
    ethernet(macs.0, macs.1, 0x0800, &ip)
}

pub fn icmp6(
    macs: ([u8; 6], [u8; 6]),
    source: Ipv6Addr,
    destination: Ipv6Addr,
    hop_limit: u8,
    message: &[u8],
) -> Vec<u8> {
    let mut message = message.to_vec();
    let sum = checksum6(source, destination, 58, &message);
    message[2..4].copy_from_slice(&sum.to_be_bytes());
    let ip = [
        &[0x60, 0, 0, 0][..],
        &(message.len() as u16).to_be_bytes(),
        &[58, hop_limit],
        &source.octets(),
        &destination.octets(),
        &message,
    ]
    .concat();
    ethernet(macs.0, macs.1, 0x86dd, &ip)
}

pub fn ping6(macs: ([u8; 6], [u8; 6]), source: Ipv6Addr, destination: Ipv6Addr, data: &[u8]) -> Vec<u8> {
    icmp6(macs, source, destination, 64, &[&[128, 0, 0, 0, 0x12, 0x34, 0, 1][..], data].concat())
}

/// A neighbour solicitation (RFC 4861, section 4.3) to the target's solicited-node address.
pub fn solicit(mac: [u8; 6], source: Ipv6Addr, target: Ipv6Addr) -> Vec<u8> {
    let low: [u8; 3] = target.octets()[13..].try_into().unwrap();
    let mut group = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 1, 0xff00, 0).octets();
    group[13..].copy_from_slice(&low);
    let message = [&[135, 0, 0, 0, 0, 0, 0, 0][..], &target.octets(), &[1, 1], &mac].concat();
    icmp6(([0x33, 0x33, 0xff, low[0], low[1], low[2]], mac), source, group.into(), 255, &message)
}

/// A solicited neighbour advertisement (RFC 4861, section 4.4).
pub fn advertise(macs: ([u8; 6], [u8; 6]), target: Ipv6Addr, destination: Ipv6Addr) -> Vec<u8> {
    let message = [&[136, 0, 0, 0, 0x60, 0, 0, 0][..], &target.octets(), &[2, 1], &macs.1].concat();
    icmp6(macs, target, destination, 255, &message)
}
