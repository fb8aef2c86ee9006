//! Frames of flows: the ready-made head of each, and what one looks like when it comes back.

use std::net::IpAddr;

use dataplane::header::checksum;

use super::stamp;

/// Bytes at the start of each frame that are written anew for every one: the longest headers and a stamp fit.
pub const HEAD: usize = 96;
/// The Ethernet frame check sequence, which frame sizes count and buffers do not hold, in bytes.
pub const FCS: usize = 4;
/// What a frame takes on the wire beside itself: preamble, start delimiter and the gap after it, in bytes.
pub const WIRE_OVERHEAD: usize = 20;

const UDP: u8 = 17;
const UDP_LEN: usize = 8;
const IPV4_LEN: usize = 20;
const IPV6_LEN: usize = 40;

/// An 802.1Q tag.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Tag {
    /// Its ethertype, e.g. 0x8100.
    pub tpid: u16,
    /// Priority, drop eligibility and VLAN id, host byte order.
    pub tci: u16,
}

/// The tags of a frame, the outer one first; a single tag is the first.
pub type Tags = [Option<Tag>; 2];

/// What is in front of the IP header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Layer2 {
    /// Destination MAC address.
    pub dst: [u8; 6],
    /// Source MAC address.
    pub src: [u8; 6],
    /// Tags.
    pub tags: Tags,
}

/// A flow: frames that must come back in the order in which they were sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Flow {
    /// The port that sends it, by its place among the ports.
    pub from: u8,
    /// The ports on which it may come back: bit `n` for port `n`. 0 when nothing may come back.
    pub to: u32,
    /// What it is sent with.
    pub l2: Layer2,
    /// Source address.
    pub src: IpAddr,
    /// Destination address, of the same family.
    pub dst: IpAddr,
    /// UDP source port.
    pub src_port: u16,
    /// UDP destination port.
    pub dst_port: u16,
    /// TTL or hop limit as it is sent.
    pub hop_limit: u8,
}

impl Flow {
    /// Whether it is IPv6.
    pub fn is_v6(&self) -> bool {
        self.src.is_ipv6()
    }
}

/// The least frame of a family, in bytes, counted as RFC 2544 does: with the check sequence, without tags.
pub fn least_size(v6: bool) -> u16 {
    let ip = if v6 { IPV6_LEN } else { IPV4_LEN };
    (14 + ip + UDP_LEN + stamp::LEN + FCS) as u16
}

/// The start of all frames of one flow and size.
#[derive(Clone, Copy, Debug)]
#[repr(C, align(64))]
pub struct Template {
    /// Headers, room for the stamp, then the pattern.
    pub head: [u8; HEAD],
    /// Bytes of the frame, with tags, without the check sequence.
    pub len: u16,
    /// Where the stamp goes.
    pub stamp_at: u8,
    /// Whether it is IPv6.
    pub v6: bool,
    /// TTL or hop limit.
    pub hop_limit: u8,
}

impl Template {
    /// The head of `flow`'s frames of `size` bytes, counted as RFC 2544 does. `None` when the size is too small or
    /// too large, or the addresses' families differ.
    pub fn new(flow: &Flow, size: u16) -> Option<Self> {
        let v6 = flow.is_v6();
        let tags = flow.l2.tags.iter().flatten().count();
        let len = usize::from(size).checked_sub(FCS)? + 4 * tags;
        if size < least_size(v6) || len > stamp::LONGEST {
            return None;
        }
        let mut head = [0; HEAD];
        head.copy_from_slice(&stamp::PATTERN[..HEAD]);
        head[..6].copy_from_slice(&flow.l2.dst);
        head[6..12].copy_from_slice(&flow.l2.src);
        let mut at = 12;
        for tag in flow.l2.tags.iter().flatten() {
            head[at..at + 2].copy_from_slice(&tag.tpid.to_be_bytes());
            head[at + 2..at + 4].copy_from_slice(&tag.tci.to_be_bytes());
            at += 4;
        }
        let ethertype: u16 = if v6 { 0x86dd } else { 0x0800 };
        head[at..at + 2].copy_from_slice(&ethertype.to_be_bytes());
        let l3 = at + 2;
        let l4 = write_ip(&mut head, l3, len - l3, flow)?;
        let udp_len = (len - l4) as u16;
        head[l4..l4 + 2].copy_from_slice(&flow.src_port.to_be_bytes());
        head[l4 + 2..l4 + 4].copy_from_slice(&flow.dst_port.to_be_bytes());
        head[l4 + 4..l4 + 6].copy_from_slice(&udp_len.to_be_bytes());
        head[l4 + 6..l4 + 8].fill(0);
        let stamp_at = l4 + UDP_LEN;
        head[stamp_at..stamp_at + stamp::LEN].fill(0);
        let checksum = udp_checksum(&head, l3, l4, v6, &stamp::PATTERN[stamp_at + stamp::LEN..len]);
        head[l4 + 6..l4 + 8].copy_from_slice(&checksum.to_be_bytes());
        Some(Self { head, len: len as u16, stamp_at: stamp_at as u8, v6, hop_limit: flow.hop_limit })
    }

    /// Writes the head into a frame buffer that holds the pattern behind it.
    #[inline]
    pub fn write(&self, stamp: stamp::Stamp, frame: &mut [u8]) {
        if let Some(head) = frame.first_chunk_mut::<HEAD>() {
            *head = self.head;
        } else {
            frame.copy_from_slice(&self.head[..frame.len()]);
        }
        let at = usize::from(self.stamp_at);
        if let Some(to) = frame.get_mut(at..).and_then(|rest| rest.first_chunk_mut()) {
            stamp.write(to);
        }
    }

    /// Addresses, ports, UDP length and checksum, as they must come back: 16 or 40 bytes.
    #[inline]
    fn identity(&self) -> &[u8] {
        let at = usize::from(self.stamp_at);
        // `new` puts a stamp behind an IP and a UDP header, so the range is within the head.
        &self.head[at - if self.v6 { 40 } else { 16 }..at]
    }
}

fn write_ip(head: &mut [u8; HEAD], l3: usize, len: usize, flow: &Flow) -> Option<usize> {
    match (flow.src, flow.dst) {
        (IpAddr::V4(src), IpAddr::V4(dst)) => {
            let ip = &mut head[l3..l3 + IPV4_LEN];
            ip.fill(0);
            ip[0] = 0x45;
            ip[2..4].copy_from_slice(&(len as u16).to_be_bytes());
            ip[6] = 0x40; // DF: a test frame that needs fragmenting is a mistake of the set-up.
            ip[8] = flow.hop_limit;
            ip[9] = UDP;
            ip[12..16].copy_from_slice(&src.octets());
            ip[16..20].copy_from_slice(&dst.octets());
            let sum = !checksum::sum(ip);
            ip[10..12].copy_from_slice(&sum.to_be_bytes());
            Some(l3 + IPV4_LEN)
        }
        (IpAddr::V6(src), IpAddr::V6(dst)) => {
            let ip = &mut head[l3..l3 + IPV6_LEN];
            ip[..4].copy_from_slice(&[0x60, 0, 0, 0]);
            ip[4..6].copy_from_slice(&((len - IPV6_LEN) as u16).to_be_bytes());
            ip[6] = UDP;
            ip[7] = flow.hop_limit;
            ip[8..24].copy_from_slice(&src.octets());
            ip[24..40].copy_from_slice(&dst.octets());
            Some(l3 + IPV6_LEN)
        }
        _ => None,
    }
}

/// The UDP checksum (RFC 768, RFC 8200 section 8.1) of a head with its stamp still zero.
fn udp_checksum(head: &[u8; HEAD], l3: usize, l4: usize, v6: bool, rest: &[u8]) -> u16 {
    let addresses = if v6 { &head[l3 + 8..l4] } else { &head[l3 + 12..l4] };
    let mut text = addresses.to_vec();
    text.extend([0, UDP]);
    text.extend_from_slice(&head[l4 + 4..l4 + 6]);
    text.extend_from_slice(&head[l4..l4 + UDP_LEN]);
    text.extend_from_slice(rest);
    match !checksum::sum(&text) {
        0 => 0xffff,
        sum => sum,
    }
}

/// A frame that came back, as far as the headers before its payload.
#[derive(Clone, Copy, Debug)]
pub struct Arrival<'a> {
    frame: &'a [u8],
    l3: usize,
    payload: usize,
    v6: bool,
}

impl<'a> Arrival<'a> {
    /// Takes a frame apart; `None` when it is not UDP in IP without options and extension headers behind at most two
    /// tags, or too short for a stamp.
    #[inline]
    pub fn parse(frame: &'a [u8]) -> Option<Self> {
        let mut at = 12;
        let mut ethertype = be16(frame, at)?;
        for _ in 0..2 {
            if !matches!(ethertype, 0x8100 | 0x88a8 | 0x9100) {
                break;
            }
            at += 4;
            ethertype = be16(frame, at)?;
        }
        let l3 = at + 2;
        let (v6, payload) = match (ethertype, *frame.get(l3)?) {
            (0x0800, 0x45) if frame.get(l3 + 9) == Some(&UDP) => (false, l3 + IPV4_LEN + UDP_LEN),
            (0x86dd, 0x60..=0x6f) if frame.get(l3 + 6) == Some(&UDP) => (true, l3 + IPV6_LEN + UDP_LEN),
            _ => return None,
        };
        (frame.len() >= payload + stamp::LEN).then_some(Self { frame, l3, payload, v6 })
    }

    /// UDP destination port.
    #[inline]
    pub fn dst_port(&self) -> u16 {
        be16(self.frame, self.payload - 6).unwrap_or_default()
    }

    /// The stamp, if its sum is right.
    #[inline]
    pub fn stamp(&self) -> Option<stamp::Stamp> {
        stamp::Stamp::read(self.frame.get(self.payload..)?.first_chunk()?)
    }

    /// Bytes of the IP packet, by its header.
    #[inline]
    pub fn ip_len(&self) -> usize {
        let field = |at| usize::from(be16(self.frame, self.l3 + at).unwrap_or_default());
        if self.v6 { field(4) + IPV6_LEN } else { field(2) }
    }

    /// Whether everything from the IP header to the last byte is as `template` says, with a hop limit that is lower
    /// by `hops`, and a right header checksum.
    #[inline]
    pub fn is_intact(&self, template: &Template, hops: u8) -> bool {
        let start = self.payload - if self.v6 { 40 } else { 16 };
        let hop_limit = self.frame[self.l3 + if self.v6 { 7 } else { 8 }];
        let end = self.l3 + self.ip_len();
        let from = usize::from(template.stamp_at) + stamp::LEN;
        self.v6 == template.v6
            && hop_limit == template.hop_limit.wrapping_sub(hops)
            && &self.frame[start..self.payload] == template.identity()
            && if self.v6 {
                // The flow label; the traffic class may change.
                self.frame[self.l3 + 1] & 0xf == 0 && be16(self.frame, self.l3 + 2) == Some(0)
            } else {
                checksum::sum(&self.frame[self.l3..self.l3 + IPV4_LEN]) == 0xffff
            }
            && self.frame.get(self.payload + stamp::LEN..end)
                == stamp::PATTERN.get(from..usize::from(template.len))
    }

    /// Destination MAC address: with the tags, the next hop that a router chose.
    pub fn dst_mac(&self) -> [u8; 6] {
        self.frame.first_chunk().copied().unwrap_or_default()
    }

    /// The tags.
    pub fn tags(&self) -> Tags {
        let tag = |at: usize| {
            let present = at + 2 < self.l3;
            present.then(|| Some(Tag { tpid: be16(self.frame, at)?, tci: be16(self.frame, at + 2)? }))?
        };
        [tag(12), tag(16)]
    }
}

#[inline]
fn be16(frame: &[u8], at: usize) -> Option<u16> {
    frame.get(at..).and_then(<[u8]>::first_chunk).map(|bytes| u16::from_be_bytes(*bytes))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::traffic::tests::{flow, frame_of};

    #[test]
    fn the_least_frames_have_the_sizes_of_the_rfcs() {
        // RFC 2544, section 9.1, and the 84 bytes of RFC 8219, section 5.1.1.
        assert_eq!((least_size(false), least_size(true)), (64, 84));
        for v6 in [false, true] {
            let flow = flow(0, v6, 2);
            assert!(Template::new(&flow, least_size(v6)).is_some());
            assert!(Template::new(&flow, least_size(v6) - 1).is_none());
            assert!(Template::new(&flow, 9018).is_some());
            assert!(Template::new(&flow, 9019).is_none());
        }
    }

    #[test]
    fn frames_are_as_long_as_asked_and_have_right_checksums() {
        for (v6, tags, size) in
            [(false, 0, 64), (false, 2, 64), (true, 0, 84), (true, 1, 1518), (false, 2, 9018)]
        {
            let frame = frame_of(&flow(7, v6, tags), size, 3);
            assert_eq!(frame.len(), usize::from(size) - FCS + 4 * tags);
            let arrival = Arrival::parse(&frame).unwrap();
            assert_eq!(arrival.tags().iter().flatten().count(), tags);
            let l4 = arrival.payload - UDP_LEN;
            assert_eq!(arrival.l3 + arrival.ip_len(), frame.len());
            let mut pseudo = frame[arrival.l3 + if v6 { 8 } else { 12 }..l4].to_vec();
            pseudo.extend([0, UDP]);
            pseudo.extend_from_slice(&((frame.len() - l4) as u16).to_be_bytes());
            pseudo.extend_from_slice(&frame[l4..]);
            assert_eq!(checksum::sum(&pseudo), 0xffff, "UDP, {size}");
            if !v6 {
                assert_eq!(checksum::sum(&frame[arrival.l3..l4]), 0xffff);
            }
        }
    }

    #[test]
    fn families_do_not_mix() {
        let mixed = Flow { dst: flow(0, true, 0).dst, ..flow(0, false, 0) };
        assert!(Template::new(&mixed, 128).is_none());
    }

    #[test]
    fn other_frames_are_not_ours() {
        let frame = frame_of(&flow(7, false, 1), 64, 3);
        for cut in 0..frame.len() {
            assert!(Arrival::parse(&frame[..cut]).is_none(), "{cut}");
        }
        let mut arp = frame.clone();
        arp[17] = 6;
        assert!(Arrival::parse(&arp).is_none());
        let mut tcp = frame;
        tcp[18 + 9] = 6;
        assert!(Arrival::parse(&tcp).is_none());
    }
}
