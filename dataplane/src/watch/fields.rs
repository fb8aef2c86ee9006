//! The header fields of a frame that match expressions are about, whatever the frame.

use crate::header::{be16, be32, be128, ethernet, ipv4, ipv6};
use crate::packet::StrippedTags;

/// Source and destination, host byte order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Addresses {
    /// Neither IP nor ARP, or cut short.
    #[default]
    None,
    /// Of IPv4; of ARP sender and target.
    V4(u32, u32),
    /// Of IPv6.
    V6(u128, u128),
}

/// What was found in a frame's headers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Fields {
    /// VLAN ids, outermost first, priority tags (VID 0) left out; 0: no tag.
    pub vlans: [u16; 2],
    /// The ethertype behind the tags; 0 if the frame ends before it.
    pub ethertype: u16,
    /// Network addresses.
    pub addresses: Addresses,
    /// The protocol behind the IP header and IPv6's extension headers.
    pub protocol: Option<u8>,
    /// Source and destination port of TCP, UDP and SCTP; none in fragments but the first.
    pub ports: Option<(u16, u16)>,
    /// TTL or hop limit.
    pub ttl: Option<u8>,
    /// The DSCP.
    pub dscp: Option<u8>,
    /// Whether it is a fragment of a packet, the first included.
    pub fragment: bool,
}

/// Most tags that are read, as in `classify`.
const MAX_TAGS: usize = 3;
/// Most IPv6 extension headers that are walked.
const MAX_EXTENSIONS: usize = 8;

const TCP: u8 = 6;
const UDP: u8 = 17;
const SCTP: u8 = 132;

impl Fields {
    /// Those of a frame, and of the tags that the NIC took off it.
    pub fn of(frame: &[u8], stripped: StrippedTags) -> Self {
        let mut this = Self::default();
        match stripped {
            StrippedTags::None => {}
            StrippedTags::One(tci) => this.push(tci),
            StrippedTags::Two { outer, inner } => {
                this.push(outer);
                this.push(inner);
            }
        }
        let mut at = ethernet::HEADER_LEN - 2;
        let mut ethertype = be16(frame, at);
        for _ in 0..MAX_TAGS {
            if !ethernet::is_tpid(ethertype) {
                break;
            }
            this.push(be16(frame, at + 2));
            at += ethernet::TAG_LEN;
            ethertype = be16(frame, at);
        }
        this.ethertype = ethertype;
        let l3 = frame.get(at + 2..).unwrap_or(&[]);
        match ethertype {
            ethernet::IPV4 => this.ipv4(l3),
            ethernet::IPV6 => this.ipv6(l3),
            // Of Ethernet and IPv4 (RFC 826): sender's and target's protocol addresses.
            ethernet::ARP if l3.len() >= 28 && l3[2..6] == [8, 0, 6, 4] => {
                this.addresses = Addresses::V4(be32(l3, 14), be32(l3, 24));
            }
            _ => {}
        }
        this
    }

    fn push(&mut self, tci: u16) {
        let vid = ethernet::vid(tci);
        if let Some(free) = self.vlans.iter_mut().find(|vlan| **vlan == 0) {
            *free = vid;
        }
    }

    fn ipv4(&mut self, l3: &[u8]) {
        if l3.len() < ipv4::MIN_HEADER_LEN {
            return;
        }
        self.addresses = Addresses::V4(ipv4::source(l3), ipv4::destination(l3));
        self.ttl = Some(l3[ipv4::TTL]);
        self.dscp = Some(l3[1] >> 2);
        self.fragment = ipv4::is_fragment(l3);
        let protocol = ipv4::protocol(l3);
        self.protocol = Some(protocol);
        let header_len = ipv4::header_len(l3);
        if ipv4::fragment_field(l3) & 0x1fff == 0 && header_len >= ipv4::MIN_HEADER_LEN {
            self.ports = ports(protocol, l3, header_len);
        }
    }

    fn ipv6(&mut self, l3: &[u8]) {
        if l3.len() < ipv6::HEADER_LEN {
            return;
        }
        self.addresses = Addresses::V6(be128(l3, 8), be128(l3, 24));
        self.ttl = Some(l3[ipv6::HOP_LIMIT]);
        self.dscp = Some((be16(l3, 0) >> 6) as u8 & 0x3f);
        let (mut next, mut at) = (ipv6::next_header(l3), ipv6::HEADER_LEN);
        for _ in 0..MAX_EXTENSIONS {
            let Some(header) = l3.get(at..at + 4) else { break };
            let len = match next {
                // Hop-by-hop options, routing, destination options (RFC 8200, section 4).
                ipv6::HOP_BY_HOP | 43 | 60 => 8 * (usize::from(header[1]) + 1),
                // Authentication (RFC 4302, section 2.2).
                51 => 4 * (usize::from(header[1]) + 2),
                ipv6::FRAGMENT => {
                    self.fragment = true;
                    if be16(header, 2) >> 3 != 0 {
                        self.protocol = Some(header[0]);
                        return;
                    }
                    8
                }
                _ => break,
            };
            next = header[0];
            at += len;
        }
        self.protocol = Some(next);
        self.ports = ports(next, l3, at);
    }
}

fn ports(protocol: u8, l3: &[u8], at: usize) -> Option<(u16, u16)> {
    let there = matches!(protocol, TCP | UDP | SCTP) && l3.len() >= at + 4;
    there.then(|| (be16(l3, at), be16(l3, at + 2)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn frame(tags: &[u16], ethertype: u16, l3: &[u8]) -> Vec<u8> {
        let mut frame = vec![2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2];
        for tci in tags {
            frame.extend([0x81, 0]);
            frame.extend(tci.to_be_bytes());
        }
        frame.extend(ethertype.to_be_bytes());
        frame.extend(l3);
        frame
    }

    fn v6(next: u8, payload: &[u8]) -> Vec<u8> {
        let mut packet = vec![0x6b, 0x80, 0, 0, 0, payload.len() as u8, next, 61];
        packet.extend(1u128.to_be_bytes());
        packet.extend(2u128.to_be_bytes());
        packet.extend(payload);
        packet
    }

    #[test]
    fn ipv4_behind_two_tags() {
        let mut l3 = vec![0x46, 0xb8, 0, 32, 0, 0, 0, 0, 64, 17, 0, 0, 10, 0, 0, 1, 192, 0, 2, 9, 1, 1, 1, 1];
        l3.extend([0, 53, 0x30, 0x39]);
        let found = Fields::of(&frame(&[0xa00a, 100], ethernet::IPV4, &l3), StrippedTags::None);
        let expected = Fields {
            vlans: [10, 100],
            ethertype: ethernet::IPV4,
            addresses: Addresses::V4(0x0a00_0001, 0xc000_0209),
            protocol: Some(17),
            ports: Some((53, 12345)),
            ttl: Some(64),
            dscp: Some(46),
            fragment: false,
        };
        assert_eq!(found, expected);
        l3[7] = 1;
        let later = Fields::of(&frame(&[], ethernet::IPV4, &l3), StrippedTags::One(7));
        assert_eq!((later.vlans, later.ports, later.fragment), ([7, 0], None, true));
        let stripped = StrippedTags::Two { outer: 0x2001, inner: 5 };
        assert_eq!(Fields::of(&frame(&[], ethernet::IPV4, &l3), stripped).vlans, [1, 5]);
        assert_eq!(Fields::of(&frame(&[0, 9], ethernet::IPV4, &l3), StrippedTags::None).vlans, [9, 0]);
    }

    #[test]
    fn ipv6_behind_extension_headers() {
        let udp = [0, 53, 0x30, 0x39, 0, 8, 0, 0];
        let options = [&[44, 0, 1, 4, 0, 0, 0, 0, 17, 0, 0, 1, 0, 0, 0, 7], &udp[..]].concat();
        let found = Fields::of(&frame(&[], ethernet::IPV6, &v6(0, &options)), StrippedTags::None);
        assert_eq!(found.addresses, Addresses::V6(1, 2));
        assert_eq!((found.protocol, found.ports, found.fragment), (Some(17), Some((53, 12345)), true));
        assert_eq!((found.ttl, found.dscp), (Some(61), Some(46)));
        let later = [&[17, 0, 0, 8, 0, 0, 0, 7], &udp[..]].concat();
        let found = Fields::of(&frame(&[], ethernet::IPV6, &v6(44, &later)), StrippedTags::None);
        assert_eq!((found.protocol, found.ports, found.fragment), (Some(17), None, true));
    }

    proptest! {
        /// Whatever the bytes, fields are found that are in the frame, or none.
        #[test]
        fn any_bytes_are_read(
            tags in prop::collection::vec(any::<u16>(), 0..4),
            ethertype in prop::sample::select(vec![ethernet::IPV4, ethernet::IPV6, ethernet::ARP, 0x88cc]),
            l3 in prop::collection::vec(any::<u8>(), 0..120),
            first in prop::sample::select(vec![0x45u8, 0x4f, 0x60]),
            next in prop::sample::select(vec![0u8, 6, 17, 43, 44, 51, 60]),
            cut in 0..150usize,
        ) {
            let mut l3 = l3;
            for (at, byte) in [(0, first), (6, next), (9, next)] {
                if let Some(to) = l3.get_mut(at) {
                    *to = byte;
                }
            }
            let mut bytes = frame(&tags, ethertype, &l3);
            bytes.truncate(cut);
            let found = Fields::of(&bytes, StrippedTags::None);
            prop_assert!(found.addresses == Addresses::None || bytes.len() >= 14 + 20);
            prop_assert!(found.ports.is_none() || matches!(found.protocol, Some(6 | 17 | 132)));
            prop_assert!(found.vlans[1] == 0 || found.vlans[0] != 0);
        }
    }

    #[test]
    fn arp_has_addresses() {
        let mut arp = vec![0, 1, 8, 0, 6, 4, 0, 1];
        arp.extend([2, 0, 0, 0, 0, 1, 10, 0, 0, 1, 0, 0, 0, 0, 0, 0, 10, 0, 0, 2]);
        let found = Fields::of(&frame(&[], ethernet::ARP, &arp), StrippedTags::None);
        assert_eq!(found.addresses, Addresses::V4(0x0a00_0001, 0x0a00_0002));
        arp.truncate(27);
        assert_eq!(
            Fields::of(&frame(&[], ethernet::ARP, &arp), StrippedTags::None).addresses,
            Addresses::None
        );
    }
}
