//! A frame as a router received it: what the judge has to know of it.

use std::net::IpAddr;

use crate::frame;
use crate::judge::generate::Input;
use crate::judge::linux;
use crate::judge::plan::Place;

/// A frame that arrived on a sub-interface, without its tags.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Received {
    /// Where.
    pub place: Place,
    /// From the destination MAC on.
    pub frame: Vec<u8>,
}

/// A well-formed option of an IPv4 header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Found {
    /// Its type.
    pub kind: u8,
    /// Its first byte, counted from the first option.
    pub at: usize,
    /// Its length.
    pub len: usize,
}

impl Received {
    /// `None`: its tags are those of no sub-interface.
    pub fn of(input: &Input) -> Option<Self> {
        linux::untag(input.port, &input.frame).map(|(place, frame)| Self { place, frame })
    }

    /// What is behind the Ethernet header.
    pub fn packet(&self) -> &[u8] {
        self.frame.get(14..).unwrap_or_default()
    }

    /// Whether it is IPv4, by ethertype and version, with a whole header without options at least.
    pub fn is_v4(&self) -> bool {
        self.is(frame::IPV4, 4, 20)
    }

    /// Whether it is IPv6 with a whole header.
    pub fn is_v6(&self) -> bool {
        self.is(frame::IPV6, 6, 40)
    }

    fn is(&self, ethertype: u16, version: u8, header: usize) -> bool {
        let packet = self.packet();
        self.frame.get(12..14) == Some(&ethertype.to_be_bytes())
            && packet.len() >= header
            && packet[0] >> 4 == version
    }

    /// The options of an IPv4 header, none of IPv6.
    pub fn options(&self) -> &[u8] {
        if self.is_v4() { options(self.packet()) } else { &[] }
    }

    /// Source and destination.
    pub fn addresses(&self) -> Option<(IpAddr, IpAddr)> {
        let packet = self.packet();
        let four = |at: usize| <[u8; 4]>::try_from(&packet[at..at + 4]).map(IpAddr::from).ok();
        let sixteen = |at: usize| <[u8; 16]>::try_from(&packet[at..at + 16]).map(IpAddr::from).ok();
        match (self.is_v4(), self.is_v6()) {
            (true, _) => four(12).zip(four(16)),
            (_, true) => sixteen(8).zip(sixteen(24)),
            _ => None,
        }
    }

    /// Whether the link layer brought it to many.
    pub fn is_group(&self) -> bool {
        self.frame[0] & 1 == 1
    }

    /// Whether the checksum of its IPv4 header is right.
    pub fn checksum_is_right(&self) -> bool {
        let packet = self.packet();
        packet.get(..header_len(packet)).is_some_and(|header| frame::checksum(header) == 0)
    }

    /// The same with other IPv4 options, and a checksum that is right.
    #[must_use]
    pub fn with_options(&self, options: &[u8]) -> Self {
        let mut other = self.clone();
        other.frame[34..34 + options.len()].copy_from_slice(options);
        frame::renew_checksum(&mut other.frame[14..]);
        other
    }

    /// Where the IPv6 hop-by-hop options lie in the packet, if there are any that are whole.
    pub fn hop_by_hop(&self) -> Option<std::ops::Range<usize>> {
        let packet = self.packet();
        let end = 40 + (usize::from(*packet.get(41)?) + 1) * 8;
        (self.is_v6() && packet[6] == 0 && packet.len() >= end).then_some(42..end)
    }
}

/// The options of an IPv4 packet.
pub fn options(packet: &[u8]) -> &[u8] {
    packet.get(20..header_len(packet)).unwrap_or_default()
}

/// Length of an IPv4 header, as it says itself.
pub fn header_len(packet: &[u8]) -> usize {
    packet.first().map_or(0, |first| usize::from(first & 0x0f) * 4)
}

/// The well-formed options up to the first that is not, without padding; and where the list has its end mark.
pub fn walk(all: &[u8]) -> (Vec<Found>, Option<usize>) {
    let (mut found, mut at) = (Vec::new(), 0);
    while let Some(kind) = all.get(at).copied() {
        match (kind, all.get(at + 1).map_or(0, |len| usize::from(*len))) {
            (0, _) => return (found, Some(at)),
            (1, _) => at += 1,
            (_, len) if len < 2 || at + len > all.len() => break,
            (_, len) => {
                found.push(Found { kind, at, len });
                at += len;
            }
        }
    }
    (found, None)
}

/// Where options of IPv6's form are, with their types, up to the first that is not whole.
pub fn walk6(all: &[u8]) -> Vec<(usize, u8)> {
    let (mut found, mut at) = (Vec::new(), 0);
    while let Some(kind) = all.get(at).copied() {
        let len = if kind == 0 { 1 } else { 2 + all.get(at + 1).map_or(all.len(), |len| usize::from(*len)) };
        if at + len > all.len() {
            break;
        }
        found.push((at, kind));
        at += len;
    }
    found
}
