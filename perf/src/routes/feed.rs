//! The feed: UPDATEs made before anything is timed, so that the sender is as fast as its socket.

use std::net::{Ipv4Addr, Ipv6Addr};

use crate::lpm::random::Random;
use crate::lpm::routes::Route;

/// Longest message (RFC 4271, section 4.1): nobody has to know extended ones.
const MAX_MESSAGE: usize = 4096;
const HEADER: usize = 19;
const UPDATE: u8 = 2;

/// Where a feed's routes lead.
#[derive(Clone, Copy, Debug)]
pub struct NextHops {
    pub v4: Ipv4Addr,
    pub v6: Ipv6Addr,
}

/// A prefix of either family.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Prefix {
    V4(u32, u8),
    V6(u128, u8),
}

impl Prefix {
    fn encode(self, out: &mut Vec<u8>) {
        let (bytes, len): (&[u8], u8) = match &self {
            Self::V4(addr, len) => (&addr.to_be_bytes()[..usize::from(len.div_ceil(8))], *len),
            Self::V6(addr, len) => (&addr.to_be_bytes()[..usize::from(len.div_ceil(8))], *len),
        };
        out.push(len);
        out.extend(bytes);
    }

    fn is_v4(self) -> bool {
        matches!(self, Self::V4(..))
    }
}

/// What a run of prefixes shares.
#[derive(Clone, Copy, Debug)]
pub struct Path {
    /// Its number, which makes its `AS_PATH`.
    pub number: u32,
    pub med: u32,
    pub next_hops: NextHops,
}

impl Path {
    /// The attributes, but for those of the IPv6 family.
    fn encode(self, v4: bool, out: &mut Vec<u8>) {
        // ORIGIN: IGP.
        out.extend([0x40, 1, 1, 0]);
        // AS_PATH: one sequence of four-byte numbers.
        let path = [12_076, 3356, 4_200_000_000_u32 + self.number / 64, 100_000 + self.number];
        out.extend([0x40, 2, 2 + 4 * path.len() as u8, 2, path.len() as u8]);
        out.extend(path.iter().flat_map(|asn| asn.to_be_bytes()));
        if v4 {
            out.extend([0x40, 3, 4]);
            out.extend(self.next_hops.v4.octets());
        }
        out.extend([0x80, 4, 4]);
        out.extend(self.med.to_be_bytes());
        // LOCAL_PREF, for a session within an AS.
        out.extend([0x40, 5, 4, 0, 0, 0, 100]);
        // COMMUNITIES: 12076:51004.
        out.extend([0xc0, 8, 4, 0x2f, 0x2c, 0xc7, 0x3c]);
    }
}

fn message(body: &[u8], out: &mut Vec<u8>) {
    out.extend([0xff; 16]);
    out.extend(((HEADER + body.len()) as u16).to_be_bytes());
    out.push(UPDATE);
    out.extend(body);
}

/// An attribute of more than 255 bytes.
fn long_attribute(flags: u8, kind: u8, value: &[u8], out: &mut Vec<u8>) {
    out.extend([flags | 0x10, kind]);
    out.extend((value.len() as u16).to_be_bytes());
    out.extend(value);
}

/// Splits `prefixes`, all of one family, so that each part takes at most `room` bytes.
fn parts(prefixes: &[Prefix], room: usize) -> Vec<Vec<u8>> {
    let mut parts = vec![Vec::new()];
    let mut one = Vec::new();
    for prefix in prefixes {
        one.clear();
        prefix.encode(&mut one);
        if parts.last().is_some_and(|part| part.len() + one.len() > room) {
            parts.push(Vec::new());
        }
        if let Some(part) = parts.last_mut() {
            part.extend(&one);
        }
    }
    parts
}

/// Appends UPDATEs that announce `prefixes`, all of one family.
pub fn announce(prefixes: &[Prefix], path: Path, out: &mut Vec<u8>) {
    let Some(first) = prefixes.first() else { return };
    let mut attributes = Vec::new();
    path.encode(first.is_v4(), &mut attributes);
    let room = MAX_MESSAGE - HEADER - 4 - attributes.len() - if first.is_v4() { 0 } else { 4 + 21 };
    for part in parts(prefixes, room) {
        let mut all = attributes.clone();
        if !first.is_v4() {
            let mut value = vec![0, 2, 1, 16];
            value.extend(path.next_hops.v6.octets());
            value.push(0);
            value.extend(&part);
            long_attribute(0x80, 14, &value, &mut all);
        }
        let mut body = vec![0, 0];
        body.extend((all.len() as u16).to_be_bytes());
        body.extend(all);
        if first.is_v4() {
            body.extend(part);
        }
        message(&body, out);
    }
}

/// Appends UPDATEs that withdraw `prefixes`, all of one family.
pub fn withdraw(prefixes: &[Prefix], out: &mut Vec<u8>) {
    let Some(first) = prefixes.first() else { return };
    for part in parts(prefixes, MAX_MESSAGE - HEADER - 16) {
        let mut body = Vec::new();
        if first.is_v4() {
            body.extend((part.len() as u16).to_be_bytes());
            body.extend(part);
            body.extend([0, 0]);
        } else {
            let mut value = vec![0, 2, 1];
            value.extend(part);
            let mut attribute = Vec::new();
            long_attribute(0x80, 15, &value, &mut attribute);
            body.extend([0, 0]);
            body.extend((attribute.len() as u16).to_be_bytes());
            body.extend(attribute);
        }
        message(&body, out);
    }
}

/// All routes of a run, and the messages that bring and take them.
pub struct Feed {
    pub prefixes: Vec<Prefix>,
    pub announce: Vec<u8>,
    pub withdraw: Vec<u8>,
    /// How many different sets of attributes there are.
    pub paths: usize,
}

impl Feed {
    /// A feed of these routes, in about `paths` runs of neighbours that share their attributes.
    pub fn new(v4: &[Route], v6: &[Route], paths: usize, next_hops: NextHops) -> Self {
        let prefixes: Vec<Prefix> = (v4.iter().map(|(addr, len, _)| Prefix::V4((addr >> 96) as u32, *len)))
            .chain(v6.iter().map(|(addr, len, _)| Prefix::V6(*addr, *len)))
            .collect();
        let mut feed = Self { prefixes, announce: Vec::new(), withdraw: Vec::new(), paths: 0 };
        let mut random = Random::new(17);
        let longest = (2 * feed.prefixes.len() / paths.max(1)).max(1);
        for family in [&feed.prefixes[..v4.len()], &feed.prefixes[v4.len()..]] {
            let mut left = family;
            while !left.is_empty() {
                let (run, rest) = left.split_at(left.len().min(1 + random.below(longest)));
                left = rest;
                let path = Path { number: feed.paths as u32, med: 0, next_hops };
                announce(run, path, &mut feed.announce);
                feed.paths += 1;
            }
            withdraw(family, &mut feed.withdraw);
        }
        feed
    }
}

impl Feed {
    /// The same announcements, over other next hops.
    pub fn announced_by(&self, next_hops: NextHops) -> Vec<u8> {
        let v4 = self.prefixes.iter().filter(|prefix| prefix.is_v4()).count();
        let mut out = Vec::new();
        for family in [&self.prefixes[..v4], &self.prefixes[v4..]] {
            for (i, run) in family.chunks(100).enumerate() {
                announce(run, Path { number: i as u32, med: 1, next_hops }, &mut out);
            }
        }
        out
    }
}

/// Whether everybody takes a route to this prefix: no martian, and none of the laboratory's own networks.
pub fn is_usable(route: &Route, v4: bool) -> bool {
    let (addr, len, _) = *route;
    if v4 {
        let addr = (addr >> 96) as u32;
        let within = |net: [u8; 4], bits: u32| {
            let bits = bits.min(u32::from(len));
            bits == 0 || (addr ^ u32::from_be_bytes(net)) >> (32 - bits) == 0
        };
        let martian = addr >> 29 == 7 || within([0, 0, 0, 0], 8) || within([127, 0, 0, 0], 8);
        let own = [[10, 0, 0, 0], [169, 254, 0, 0], [192, 0, 2, 0], [198, 51, 100, 0]];
        len >= 8 && !martian && !own.into_iter().any(|net| within(net, if net[0] == 10 { 8 } else { 16 }))
    } else {
        // Global unicast, and not for documentation.
        len >= 16 && addr >> 125 == 1 && addr >> 96 != 0x2001_0db8
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOPS: NextHops = NextHops { v4: Ipv4Addr::new(198, 51, 100, 2), v6: Ipv6Addr::LOCALHOST };

    /// Reads messages as RFC 4271 and 4760 have them: announced and withdrawn prefixes.
    fn read(mut bytes: &[u8]) -> (Vec<Prefix>, Vec<Prefix>) {
        fn prefixes(mut bytes: &[u8], v4: bool) -> Vec<Prefix> {
            let mut all = Vec::new();
            while let Some((&len, rest)) = bytes.split_first() {
                let (addr, rest) = rest.split_at(usize::from(len.div_ceil(8)));
                bytes = rest;
                let mut whole = [0; 16];
                whole[..addr.len()].copy_from_slice(addr);
                let addr = u128::from_be_bytes(whole);
                all.push(if v4 { Prefix::V4((addr >> 96) as u32, len) } else { Prefix::V6(addr, len) });
            }
            all
        }
        let short = |bytes: &[u8]| usize::from(u16::from_be_bytes([bytes[0], bytes[1]]));
        let (mut announced, mut withdrawn) = (Vec::new(), Vec::new());
        while !bytes.is_empty() {
            assert_eq!(bytes[..16], [0xff; 16]);
            let length = short(&bytes[16..]);
            assert!(length <= MAX_MESSAGE && bytes[18] == UPDATE);
            let body = &bytes[HEADER..length];
            bytes = &bytes[length..];
            let gone = short(body);
            withdrawn.extend(prefixes(&body[2..2 + gone], true));
            let size = short(&body[2 + gone..]);
            let mut attributes = &body[4 + gone..4 + gone + size];
            announced.extend(prefixes(&body[4 + gone + size..], true));
            while !attributes.is_empty() {
                let (at, size) = if attributes[0] & 0x10 == 0 {
                    (3, usize::from(attributes[2]))
                } else {
                    (4, short(&attributes[2..]))
                };
                let value = &attributes[at..at + size];
                match attributes[1] {
                    14 => announced.extend(prefixes(&value[21..], false)),
                    15 => withdrawn.extend(prefixes(&value[3..], false)),
                    _ => {}
                }
                attributes = &attributes[at + size..];
            }
        }
        (announced, withdrawn)
    }

    #[test]
    fn what_is_encoded_is_read_again() {
        let v4: Vec<Route> = (0..5000u128).map(|i| ((0x2000_0000 + (i << 8)) << 96, 24, 1)).collect();
        let v6: Vec<Route> = (0..3000u128).map(|i| ((0x2400 << 112) + (i << 80), 48, 1)).collect();
        let feed = Feed::new(&v4, &v6, 10, HOPS);
        assert_eq!(read(&feed.announce), (feed.prefixes.clone(), vec![]));
        assert_eq!(read(&feed.withdraw), (vec![], feed.prefixes.clone()));
        assert!(feed.paths >= 5);
    }

    #[test]
    fn martians_are_left_out() {
        let v4 = |a: [u8; 4], len| is_usable(&(u128::from(u32::from_be_bytes(a)) << 96, len, 0), true);
        assert!(v4([8, 8, 8, 0], 24) && v4([100, 64, 0, 0], 10));
        for (net, len) in [([10, 1, 0, 0], 16), ([127, 0, 0, 0], 8), ([224, 0, 0, 0], 24), ([0; 4], 0)] {
            assert!(!v4(net, len), "{net:?}");
        }
        assert!(is_usable(&(0x2600 << 112, 32, 0), false) && !is_usable(&(0xfe80 << 112, 32, 0), false));
    }
}
