//! The frames: every sort that a router may meet, each made from the seed and its number alone.

use std::net::IpAddr;

use crate::frame::{self, Tag};
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

/// A source behind the sub-interface, or its neighbour; now and then one that no packet may have, or that is elsewhere:
/// the links of a circuit are used asymmetrically.
fn source(r: &mut Random, place: Place, v6: bool) -> IpAddr {
    const BOGUS4: [[u8; 4]; 9] = [
        [0; 4],
        [0, 1, 2, 3],
        [127, 0, 0, 1],
        [169, 254, 1, 2],
        [169, 254, 200, 2],
        [224, 0, 0, 5],
        [240, 1, 2, 3],
        [255; 4],
        [239, 1, 2, 3],
    ];
    const BOGUS6: [[u16; 8]; 5] = [
        [0; 8],
        [0, 0, 0, 0, 0, 0, 0, 1],
        [0, 0, 0, 0, 0, 0xffff, 0x1400, 1],
        [0xfe80, 0, 0, 0, 0, 0, 0, 9],
        [0xff02, 0, 0, 0, 0, 0, 0, 1],
    ];
    let other = any(r, 1 - place.port, v6);
    match r.below(100) {
        0..=1 if v6 => r.pick(&BOGUS6).into(),
        0..=1 => r.pick(&BOGUS4).into(),
        2 if v6 => place.link_local(),
        2 => place.host(false, r.pick(&[0, 255])),
        3 => r.pick(&[place.ours(v6), other.ours(v6)]),
        4..=19 => place.host(v6, 2),
        20..=24 => other.beyond(v6, r.draw() as u16),
        25..=27 => any(r, place.port, v6).beyond(v6, r.draw() as u16),
        // Behind our neighbour, but not where the longer prefix leads elsewhere.
        _ => place.beyond(v6, (r.draw() % 0xc000) as u16 + 1),
    }
}

/// A sub-interface of a port that has the family.
fn any(r: &mut Random, port: usize, v6: bool) -> Place {
    let kinds: Vec<_> = (0..KINDS.len()).filter(|k| !v6 || KINDS[*k].v6).collect();
    Place { port, kind: r.pick(&kinds) }
}

/// Somewhere.
fn destination(r: &mut Random, place: Place, v6: bool) -> IpAddr {
    const BOGUS4: [[u8; 4]; 8] = [
        [0; 4],
        [0, 1, 2, 3],
        [127, 1, 2, 3],
        [169, 254, 1, 2],
        [169, 254, 200, 2],
        [224, 0, 0, 5],
        [240, 1, 2, 3],
        [255; 4],
    ];
    const BOGUS6: [[u16; 8]; 6] = [
        [0; 8],
        [0, 0, 0, 0, 0, 0, 0, 1],
        [0, 0, 0, 0, 0, 0xffff, 0x1400, 1],
        [0xfe80, 0, 0, 0, 0, 0, 0, 2],
        [0xff02, 0, 0, 0, 0, 0, 0, 0x77],
        [0xff0e, 0, 0, 0, 0, 0, 0, 5],
    ];
    let (other, same) = (any(r, 1 - place.port, v6), any(r, place.port, v6));
    let low = r.draw() as u16;
    match r.below(100) {
        0..=69 => other.beyond(v6, low),
        70..=76 => same.beyond(v6, low),
        77..=82 => other.host(v6, 2),
        83 => r.pick(&[place.ours(v6), other.ours(v6)]),
        84..=85 if !v6 => other.host(false, r.pick(&[0, 255])),
        86..=88 if v6 => IpAddr::from([0x2001, 0xdb8, 0xdead, 0, 0, 0, 0, low]),
        86..=88 => IpAddr::from([203, 0, 113, low as u8]),
        89..=92 if v6 => r.pick(&BOGUS6).into(),
        89..=92 => r.pick(&BOGUS4).into(),
        93..=96 if v6 => IpAddr::from([0x2a01, low, 0, 0, 0, 0, 0, 1]),
        93..=96 => IpAddr::from([30, 1, (low >> 8) as u8, low as u8]),
        _ => other.beyond(v6, low),
    }
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
    let (mut from, to) = (source(r, place, false), destination(r, place, false));
    let mut most = 3;
    if matches!(to, IpAddr::V4(to) if matches!(to.octets(), [30, ..] | [169, 254, ..128, _])) {
        // Linux limits how often it tells a source that there is no route, by a setting of the whole machine: five
        // times at once. `intended` asks it once more for each option.
        most = 1;
        if from == place.host(false, 2) {
            from = place.beyond(false, r.draw() as u16 & 0x7fff);
        }
    }
    let options = if r.percent(25) { options(r, place, most) } else { Vec::new() };
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
        86..=91 => r.below(0x2000) as u16,
        92..=96 => 0x2000 | r.below(0x2000) as u16,
        97 => 0x1f00 | r.draw() as u16 & 0x2fff,
        98 => 0x8000,
        _ => r.draw() as u16,
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
            // Whatever is behind the header becomes options, or options become payload.
            packet[0] = 0x40 | r.below(16) as u8;
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

/// Up to `most` IPv4 options: all kinds that a router looks at and some that it does not, padded; now and then spoiled.
fn options(r: &mut Random, place: Place, most: usize) -> Vec<u8> {
    let mut all = Vec::new();
    for _ in 0..=r.below(most) {
        let count = 1 + r.below(4);
        let option = match r.below(11) {
            0 => vec![1; count],
            1 | 2 => record(7, r.pick(&[4, 4, 8, 12, 200]), &vec![0; 4 * count]),
            3 => stamp(r, 0, 0, &vec![0; 4 * count]),
            4 => stamp(r, 0, 1, &vec![0; 8 * count]),
            5 => {
                let hop = match place.ours(false) {
                    IpAddr::V4(ours) => {
                        r.pick(&[ours.octets(), [10, 1, 0, 9], [0; 4], [10, 1, 0, 255], [224, 0, 0, 5]])
                    }
                    IpAddr::V6(_) => [0; 4],
                };
                stamp(r, 0, 3, &[&hop[..], &[0; 4]].concat())
            }
            6 => vec![148, 4, 0, r.pick(&[0, 0, 1])],
            7 => record(r.pick(&[131, 137]), r.pick(&[4, 8, 3]), &[20, 16, 1, 1]),
            8 => [&[134, 6 + count as u8, 0, 0, 0, 1][..], &vec![count as u8; count]].concat(),
            9 => [&[130, 2 + count as u8][..], &vec![0xab; count]].concat(),
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
    let end = r.pick(&[0, 0, 1]);
    while all.len() % 4 != 0 || all.is_empty() {
        all.push(end);
    }
    // Behind the end of the list there may be anything.
    if end == 0 && all.len() < 40 && r.percent(5) {
        all.extend([0, 1, 2, r.draw() as u8]);
    }
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

fn packet6(r: &mut Random, place: Place) -> Vec<u8> {
    let (from, to) = (source(r, place, true), destination(r, place, true));
    let last = r.pick(&[17, 17, 6, 58, 58, 59, 50, 253]);
    let (first, chain) = if r.percent(30) { chain(r, last) } else { (last, Vec::new()) };
    let mut payload = chain;
    let from_here = payload.len();
    let data = length(r, 40 + from_here) - 40 - from_here;
    payload.extend(r.bytes(data));
    if last == 58
        && let Some(message) = payload.get_mut(from_here)
    {
        *message = r.pick(&[1, 2, 3, 4, 100, 127, 128, 128, 129, 133, 134, 135, 136, 137, 200, 255]);
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
            let payload = match r.below(4) {
                0 => 0,
                1 => r.below(packet.len() - 39),
                2 => packet.len() - 40 + 1 + r.below(100),
                _ => r.below(65_536),
            } as u16;
            packet[4..6].copy_from_slice(&payload.to_be_bytes());
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
fn chain(r: &mut Random, last: u8) -> (u8, Vec<u8>) {
    let mut kinds: Vec<u8> = Vec::new();
    if r.percent(50) {
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
        options.extend(match r.below(15) {
            0..=2 => vec![5, 2, 0, r.pick(&[0, 1])],
            3 => vec![5, 3, 0, 0, 0],
            4..=7 => [&[r.pick(&[0x1e, 0x3e, 0x26]), count as u8][..], &data].concat(),
            8 => [&[0x5e, count as u8][..], &data].concat(),
            9 => [&[0x9e, count as u8][..], &data].concat(),
            10 => [&[0xde, count as u8][..], &data].concat(),
            11 => vec![0xc2, 4, 0, r.pick(&[0, 1]), 9, 9],
            12 => vec![0; 1 + count],
            13 => [&[7, 8 + count as u8, 0, 0, 0, 1, 0, 0, 0, 0][..], &data].concat(),
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
        let any = r.draw() as u8;
        options[at] = r.pick(&[0, 1, 0xff, 0x9e, any]);
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
        4 | 5 => {
            ethertype = r.pick(&[0x0800, 0x86dd, 0x0806, 0x8809, 0x88cc, 0x8847, 0x0026, 0x05ff, 0x22f3]);
        }
        6..=15 => tags = odd_tags(r, &tags),
        16 => {
            if let Some(tag) = tags.last_mut() {
                tag.vid = r.below(4096) as u16;
            }
        }
        _ => {}
    }
    let mut whole = frame::build(to, place.neighbour_mac(), &tags, ethertype, packet);
    if r.percent(2) {
        // A packet socket sends no frame that is shorter than its Ethernet header: the suite `replay` has those.
        whole.truncate(14 + r.below(whole.len() - 13));
    }
    whole
}

/// Other tags than a sub-interface's own: priority tags around and among them, other TPIDs, too many, too few, those of
/// another sub-interface, and any.
fn odd_tags(r: &mut Random, own: &[Tag]) -> Vec<Tag> {
    let mut tags = own.to_vec();
    let tpid = r.pick(&[0x8100, 0x88a8, 0x9100]);
    match r.below(8) {
        0 | 1 => tags.insert(0, Tag::new(r.pick(&[0x8100, 0x8100, tpid]), 0).with_pcp(r.below(8) as u8)),
        2 => tags.push(Tag::new(tpid, 0)),
        3 => {
            let at = r.below(tags.len() + 1);
            tags.insert(at, Tag::new(tpid, r.pick(&[33, 77, 4095])));
        }
        4 => tags = KINDS[r.below(KINDS.len())].tags.to_vec(),
        5 => {
            if let Some(tag) = tags.first_mut() {
                tag.tpid = tpid;
            }
        }
        6 => tags.extend([Tag::new(0x8100, 5); 3]),
        _ => {
            let count = r.below(4);
            tags = (0..count)
                .map(|_| {
                    let tpid = r.pick(&[0x8100, 0x88a8, 0x9100]);
                    Tag::new(tpid, r.pick(&[0, 10, 30, 100]))
                })
                .collect();
        }
    }
    tags
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
