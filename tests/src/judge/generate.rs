//! The frames: every sort that a router may meet, each made from the seed and its number alone.

use std::net::IpAddr;

use crate::frame::{self, Tag};
use crate::judge::linux;
use crate::judge::plan::{KINDS, MACS, PORT_MTU, Place};
use crate::judge::random::Random;

/// A frame for one of the ports.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Input {
    /// The port.
    pub port: usize,
    /// All of it, tags included.
    pub frame: Vec<u8>,
}

/// Frame `number` under `seed`, for `port`.
pub fn frame(seed: u64, number: u64, port: usize) -> Input {
    let mut random = Random::new(seed, number);
    let r = &mut random;
    let place = Place { port, kind: r.below(KINDS.len()) };
    let v6 = place.kind().v6 && r.percent(45);
    let packet = if v6 { packet6(r, place) } else { packet4(r, place) };
    Input { port, frame: link(r, place, v6, &packet) }
}

/// A source behind the sub-interface, or its neighbour; now and then one that no packet may have.
fn source(r: &mut Random, place: Place, v6: bool, neighbour: bool) -> IpAddr {
    const BOGUS4: [[u8; 4]; 5] = [[0; 4], [127, 0, 0, 1], [224, 0, 0, 5], [255; 4], [239, 1, 2, 3]];
    const BOGUS6: [[u16; 8]; 3] = [[0; 8], [0, 0, 0, 0, 0, 0, 0, 1], [0xff02, 0, 0, 0, 0, 0, 0, 1]];
    match r.below(100) {
        0..=1 if v6 => r.pick(&BOGUS6).into(),
        0..=1 => r.pick(&BOGUS4).into(),
        2..=20 if neighbour => place.host(v6, 2),
        // Behind our neighbour, but not where the longer prefix leads elsewhere.
        _ => place.beyond(v6, (r.draw() % 0xc000) as u16 + 1),
    }
}

/// Somewhere; and whether there is a route.
fn destination(r: &mut Random, place: Place, v6: bool) -> (IpAddr, bool) {
    let kinds: Vec<_> = (0..KINDS.len()).filter(|k| !v6 || KINDS[*k].v6).collect();
    let other = Place { port: 1 - place.port, kind: r.pick(&kinds) };
    let same = Place { port: place.port, kind: r.pick(&kinds) };
    let low = r.draw() as u16;
    let martian4 = [[0; 4], [127, 1, 2, 3], [224, 0, 0, 5], [255; 4]];
    let address = match r.below(100) {
        0..=69 => other.beyond(v6, low),
        70..=77 => same.beyond(v6, low),
        78..=83 => other.host(v6, 2),
        84..=85 if !v6 => other.host(false, 255),
        86..=88 if v6 => IpAddr::from([0x2001, 0xdb8, 0xdead, 0, 0, 0, 0, low]),
        86..=88 => IpAddr::from([203, 0, 113, low as u8]),
        89..=92 if v6 => IpAddr::from([0xff0e, 0, 0, 0, 0, 0, 0, 5]),
        89..=92 => r.pick(&martian4).into(),
        93..=96 if v6 => return (IpAddr::from([0x2a01, low, 0, 0, 0, 0, 0, 1]), false),
        93..=96 => return (IpAddr::from([30, 1, (low >> 8) as u8, low as u8]), false),
        _ => other.beyond(v6, low),
    };
    (address, true)
}

/// Mostly enough, now and then not.
fn ttl(r: &mut Random) -> u8 {
    match r.below(100) {
        0..=3 => 1,
        4 => 0,
        5..=7 => 2,
        8..=20 => r.draw() as u8,
        _ => 64,
    }
}

/// A length for a whole packet: small ones, those around every MTU, and any.
fn length(r: &mut Random, header: usize) -> usize {
    let around = |r: &mut Random, mtu: usize| mtu - 9 + r.below(19);
    let length = match r.below(100) {
        0..=54 => header + r.below(120),
        55..=79 => {
            let mtu = r.pick(&[576, 1280, 1500]);
            around(r, mtu)
        }
        80..=83 => usize::from(PORT_MTU) - r.below(10),
        84..=92 => header + r.below(1500),
        _ => r.below(usize::from(PORT_MTU) + 1),
    };
    length.clamp(header, usize::from(PORT_MTU))
}

fn packet4(r: &mut Random, place: Place) -> Vec<u8> {
    let (to, routed) = destination(r, place, false);
    let options = if r.percent(25) { options(r, place) } else { Vec::new() };
    // Links of a circuit are used asymmetrically: what comes in on one may be answered over another. With options
    // Linux records the address of that other one, and an IPv6 error has it for its source.
    let behind = if options.is_empty() && r.percent(5) { r.below(KINDS.len()) } else { place.kind };
    let from = source(r, Place { kind: behind, ..place }, false, routed);
    let header = 20 + options.len();
    let protocol = r.pick(&[17, 17, 6, 1, 1, 47, 50, 89, 253]);
    let data = length(r, header) - header;
    let mut payload = r.bytes(data);
    if protocol == 1
        && let Some(message) = payload.first_mut()
    {
        *message = r.pick(&[0, 3, 4, 5, 8, 8, 8, 9, 11, 12, 13, 15, 17, 30, 42]);
    }
    let mut packet = frame::packet(from, to, protocol, ttl(r), &payload);
    packet[1] = r.draw() as u8;
    packet.splice(20..20, options.iter().copied());
    packet[0] = 0x40 | (header / 4) as u8;
    let total = packet.len() as u16;
    packet[2..4].copy_from_slice(&total.to_be_bytes());
    let id = r.draw() as u16;
    packet[4..6].copy_from_slice(&id.to_be_bytes());
    let field = match r.below(100) {
        0..=49 => 0x4000,
        50..=79 => 0,
        80..=85 => 0x2000,
        // Low enough that the last of its own fragments can be named.
        86..=92 => r.below(7000) as u16,
        93..=97 => 0x2000 | r.below(7000) as u16,
        _ => 0x8000,
    };
    packet[6..8].copy_from_slice(&field.to_be_bytes());
    frame::renew_checksum(&mut packet);
    if r.percent(10) {
        spoil4(r, &mut packet);
    }
    packet
}

/// Makes something wrong in an IPv4 header.
fn spoil4(r: &mut Random, packet: &mut Vec<u8>) {
    let right = |packet: &mut Vec<u8>| {
        if packet.len() >= 20 {
            frame::renew_checksum(packet);
        }
    };
    match r.below(7) {
        0 => packet[10] ^= 1 << r.below(8),
        1 => {
            packet[0] = packet[0] & 0x0f | r.pick(&[0x00, 0x30, 0x50, 0x60, 0xf0]);
            right(packet);
        }
        2 => {
            packet[0] = 0x40 | r.below(16) as u8;
            // Whatever is behind the header becomes options: nothing to compare.
            if packet[0] > 0x45 {
                packet[0] = 0x40;
            }
            right(packet);
        }
        3 | 4 => {
            let total = match r.below(3) {
                0 => r.below(packet.len() + 1),
                1 => packet.len() + 1 + r.below(100),
                _ => r.below(65_536),
            } as u16;
            packet[2..4].copy_from_slice(&total.to_be_bytes());
            right(packet);
        }
        5 => packet.truncate(r.below(packet.len())),
        _ => {
            let more = 1 + r.below(60);
            let padding = r.bytes(more);
            packet.extend(padding);
        }
    }
}

/// IPv4 options: all kinds that a router looks at and some that it does not, padded; now and then spoiled.
fn options(r: &mut Random, place: Place) -> Vec<u8> {
    let mut all = Vec::new();
    for _ in 0..=r.below(3) {
        let count = 1 + r.below(4);
        let option = match r.below(10) {
            0 => vec![1; count],
            1 | 2 => record(7, r.pick(&[4, 4, 8, 12, 200]), &vec![0; 4 * count]),
            3 => stamp(r, 0, 0, &vec![0; 4 * count]),
            4 => stamp(r, 0, 1, &vec![0; 8 * count]),
            5 => {
                let hop = r.pick(&[place.ours(false), place.host(false, 9)]);
                let IpAddr::V4(hop) = hop else { unreachable!("IPv4 was asked for") };
                stamp(r, 0, 3, &[&hop.octets()[..], &[0; 4]].concat())
            }
            6 => vec![148, 4, 0, r.pick(&[0, 0, 1])],
            7 => record(r.pick(&[131, 137]), r.pick(&[4, 8, 3]), &[20, 16, 1, 1]),
            8 => [&[130, 2 + count as u8][..], &vec![0xab; count]].concat(),
            _ => [&[r.pick(&[0x1e, 0x9e, 0x5e, 0xde, 25]), 2 + count as u8][..], &vec![0xcd; count]].concat(),
        };
        if all.len() + option.len() <= 40 {
            all.extend(option);
        }
    }
    if r.percent(20) && !all.is_empty() {
        let at = r.below(all.len());
        all[at] = r.draw() as u8;
    }
    let end = r.pick(&[0, 1]);
    while all.len() % 4 != 0 || all.is_empty() {
        all.push(end);
    }
    // Security labels are for hosts and routers that have some (FIPS 188), and turnpike has none.
    if all.contains(&134) || stamps_at_nobody(&all) {
        return Vec::new();
    }
    clear_behind_the_end(&mut all);
    all
}

fn record(kind: u8, pointer: u8, data: &[u8]) -> Vec<u8> {
    [&[kind, 3 + data.len() as u8, pointer][..], data].concat()
}

fn stamp(r: &mut Random, overflow: u8, flag: u8, data: &[u8]) -> Vec<u8> {
    let pointers: &[u8] = if flag == 0 { &[5, 5, 5, 9, 13, 200] } else { &[5, 5, 5, 13, 21, 200] };
    let pointer = r.pick(pointers);
    let overflow = if pointer == 200 { r.pick(&[overflow, 7, 15]) } else { overflow };
    [&[68, 4 + data.len() as u8, pointer, overflow << 4 | flag][..], data].concat()
}

/// Whether a time is asked of an address that is no host's: Linux takes itself to be meant.
fn stamps_at_nobody(all: &[u8]) -> bool {
    let stamps = |w: &[u8]| {
        let at = usize::from(w[2]).saturating_sub(1);
        w[0] == 68 && w[3] & 0xf == 3 && w.get(at).is_none_or(|first| matches!(first, 0 | 224..))
    };
    (0..all.len()).any(|at| all[at..].len() >= 4 && stamps(&all[at..]))
}

/// What lies behind the end of the list is nobody's: Linux clears it, turnpike leaves it. So it is clear from the start.
fn clear_behind_the_end(all: &mut [u8]) {
    let mut at = 0;
    while at < all.len() {
        match all[at] {
            0 => return all[at..].fill(0),
            1 => at += 1,
            _ => match all.get(at + 1) {
                Some(len) if *len >= 2 => at += usize::from(*len),
                _ => return,
            },
        }
    }
}

fn packet6(r: &mut Random, place: Place) -> Vec<u8> {
    let (to, routed) = destination(r, place, true);
    let mut from = source(r, place, true, routed);
    if from.is_unspecified() && linux::leads_back(place, to) {
        from = place.beyond(true, 1);
    }
    let multicast = matches!(to, IpAddr::V6(to) if to.is_multicast());
    let last = if multicast { 17 } else { r.pick(&[17, 17, 6, 58, 58, 59, 50, 253]) };
    let (first, chain) = if r.percent(30) { chain(r, last, multicast) } else { (last, Vec::new()) };
    let mut payload = chain;
    let from_here = payload.len();
    let data = length(r, 40 + from_here) - 40 - from_here;
    payload.extend(r.bytes(data));
    if last == 58
        && let Some(message) = payload.get_mut(from_here)
    {
        // No neighbour discovery: it is for the kernel, if it is for anybody.
        *message = r.pick(&[1, 2, 3, 4, 100, 127, 128, 128, 129, 200, 255]);
    }
    let mut packet = frame::packet(from, to, first, ttl(r), &payload);
    let label = r.draw() as u32 & 0x0fff_ffff;
    packet[..4].copy_from_slice(&(0x6000_0000 | label).to_be_bytes());
    if r.percent(8) {
        spoil6(r, &mut packet);
    }
    packet
}

/// Makes something wrong in an IPv6 header.
fn spoil6(r: &mut Random, packet: &mut Vec<u8>) {
    match r.below(5) {
        0 => packet[0] = packet[0] & 0x0f | r.pick(&[0x00, 0x40, 0x50, 0x70, 0xf0]),
        1 | 2 => {
            let payload = match r.below(3) {
                0 => r.below(packet.len() - 39),
                1 => packet.len() - 40 + 1 + r.below(100),
                _ => r.below(65_536),
            } as u16;
            // Without a payload there are no hop-by-hop options; Linux takes it for a jumbogram (RFC 2675).
            if payload > 0 || packet[6] != 0 {
                packet[4..6].copy_from_slice(&payload.to_be_bytes());
            }
        }
        3 => packet.truncate(r.below(packet.len())),
        _ => {
            let more = 1 + r.below(60);
            let padding = r.bytes(more);
            packet.extend(padding);
        }
    }
}

/// A chain of extension headers before `last`: the first one's number, and their bytes.
fn chain(r: &mut Random, last: u8, multicast: bool) -> (u8, Vec<u8>) {
    let mut kinds: Vec<u8> = Vec::new();
    // For multicast packets the kernel sees to it, over the TAP.
    if !multicast && r.percent(50) {
        kinds.push(0);
    }
    for _ in 0..r.below(3) {
        kinds.push(r.pick(&[60, 43, 44, 51, 135]));
    }
    let mut bytes = Vec::new();
    for (number, kind) in kinds.iter().enumerate() {
        let next = kinds.get(number + 1).copied().unwrap_or(last);
        bytes.extend(match kind {
            0 => hop_by_hop(r, next),
            44 => {
                let offset = r.pick(&[0, 0, 1, 8, 185]) << 3 | r.pick(&[0_u16, 1]);
                let [high, low] = offset.to_be_bytes();
                vec![next, 0, high, low, 1, 2, 3, r.draw() as u8]
            }
            51 => vec![next, 2, 0, 0, 0, 0, 0, 1, 0, 0, 0, 1, 0, 0, 0, 0],
            43 => vec![next, 0, r.pick(&[0, 2, 3, 253]), r.pick(&[0, 1]), 0, 0, 0, 0],
            _ => vec![next, 0, 1, 4, 0, 0, 0, 0],
        });
    }
    (kinds.first().copied().unwrap_or(last), bytes)
}

/// A hop-by-hop options header, mostly of options that are known or may be passed over.
fn hop_by_hop(r: &mut Random, next: u8) -> Vec<u8> {
    let mut options = Vec::new();
    for _ in 0..=r.below(3) {
        let count = r.below(6);
        let data = r.bytes(count);
        options.extend(match r.below(14) {
            0..=2 => vec![5, 2, 0, r.pick(&[0, 1])],
            3 => vec![5, 3, 0, 0, 0],
            4..=7 => [&[r.pick(&[0x1e, 0x3e, 0x26]), count as u8][..], &data].concat(),
            8 => [&[0x5e, count as u8][..], &data].concat(),
            9 => [&[0x9e, count as u8][..], &data].concat(),
            10 => [&[0xde, count as u8][..], &data].concat(),
            11 => vec![0xc2, 4, 0, r.pick(&[0, 1]), 9, 9],
            12 => vec![0; 1 + count],
            _ => vec![1, count as u8, 0, 0, 0, 0, 0][..2 + count].to_vec(),
        });
    }
    let pad = (8 - (options.len() + 2) % 8) % 8;
    options.extend(match pad {
        0 => vec![],
        1 => vec![0],
        n => [&[1, n as u8 - 2][..], &vec![0; n - 2]].concat(),
    });
    if r.percent(5) {
        let at = r.below(options.len());
        options[at] = r.pick(&[0, 1, 0xff, 0x9e]);
    }
    let blocks = (options.len() + 2) / 8 - 1;
    let blocks = if r.percent(3) { r.draw() as u8 } else { blocks as u8 };
    [&[next, blocks][..], &options].concat()
}

/// The packet in its frame: mostly as it must be, now and then with other addresses, tags or ends.
fn link(r: &mut Random, place: Place, v6: bool, packet: &[u8]) -> Vec<u8> {
    let mut to = MACS[place.port];
    let mut ethertype = if v6 { frame::IPV6 } else { frame::IPV4 };
    let mut tags: Vec<Tag> = place.kind().tags.to_vec();
    for tag in &mut tags {
        tag.pcp = r.below(8) as u8;
        tag.dei = r.percent(10);
    }
    match r.below(200) {
        0 | 1 => to[5] ^= 0x40,
        2 => to = [0xff; 6],
        3 => to = [1, 0, 0x5e, 0, 0, 5],
        4 | 5 => ethertype = r.pick(&[0x0800, 0x86dd, 0x8847, 0x0026, 0x05ff, 0x22f3]),
        6 | 7 => tags.insert(0, Tag::new(0x8100, 0).with_pcp(r.below(8) as u8)),
        8 => tags.push(Tag::new(0x8100, 0)),
        9 => tags.push(Tag::new(0x8100, 33)),
        10 => tags.insert(0, Tag::new(0x88a8, 77)),
        11 => tags.clear(),
        12 => tags.extend([Tag::new(0x8100, 5); 3]),
        13 => {
            if let Some(tag) = tags.first_mut() {
                tag.tpid = r.pick(&[0x88a8, 0x9100, 0x8100]);
            }
        }
        14 => {
            if let Some(tag) = tags.last_mut() {
                tag.vid = r.below(4096) as u16;
            }
        }
        _ => {}
    }
    let mut whole = frame::build(to, place.neighbour_mac(), &tags, ethertype, packet);
    if linux::untag(place.port, &whole).is_some_and(|(other, _)| other != place) {
        // Sources are behind the sub-interface that they arrive on; `packet4` says which may be elsewhere.
        whole = frame::build(to, place.neighbour_mac(), place.kind().tags, ethertype, packet);
    }
    if r.percent(2) {
        // A packet socket sends no frame that is shorter than its Ethernet header: the suite `replay` has those.
        whole.truncate(14 + r.below(whole.len() - 13));
    }
    whole
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frame_is_made_by_its_seed_and_number_alone() {
        for number in 0..1000 {
            assert_eq!(frame(7, number, 0), frame(7, number, 0));
        }
        assert_ne!(frame(7, 1, 0), frame(8, 1, 0));
    }

    #[test]
    fn all_sorts_are_among_them() {
        let frames: Vec<_> = (0..20_000).map(|n| frame(1, n, 0).frame).collect();
        let packets = |v: u8| {
            let of = move |f: &Vec<u8>| {
                frame::ethernet(f)
                    .filter(|e| e.payload.first().is_some_and(|b| b >> 4 == v))
                    .map(|e| e.payload.to_vec())
            };
            frames.iter().filter_map(of).collect::<Vec<_>>()
        };
        let (v4, v6) = (packets(4), packets(6));
        for words in 5..=15 {
            assert!(v4.iter().any(|p| p[0] & 15 == words), "no header of {words} words");
        }
        assert!(v4.len() > 8000 && v6.len() > 4000);
        assert!(v6.iter().filter(|p| p.get(6) == Some(&0)).count() > 200, "hop-by-hop options");
        assert!(frames.iter().any(|f| f.len() >= 9000 + 14 + 8));
        for kind in KINDS {
            let same = |f: &Vec<u8>| frame::ethernet(f).is_some_and(|e| e.tags.len() == kind.tags.len());
            assert!(frames.iter().any(same), "{}", kind.name);
        }
    }
}
