//! Frames that are wrong, each in one way: dropped, or answered, and counted under the right name to the last one.

use std::net::IpAddr;

use crate::bench::{Bench, KINDS, MACS, ours, their_mac, theirs};
use crate::frame::{self, IPV4, IPV6, Tag};
use crate::suite::SOON;
use crate::wait;
use crate::wire::Way;

/// Shortest frame that a packet socket sends.
const SHORTEST: usize = 14;
/// How often each wrong frame is sent: counters must move by exactly that.
const TIMES: usize = 3;

fn times(frames: Vec<Vec<u8>>) -> Vec<Vec<u8>> {
    frames.into_iter().flat_map(|f| vec![f; TIMES]).collect()
}

/// Frames cut off at every length up to 64 bytes (and beyond, up to one byte short), with every kind of tags.
pub fn truncated_frames(bench: &mut Bench) {
    for (number, kind) in KINDS.iter().enumerate() {
        for v6 in [false, true] {
            let whole = Bench::wrap(number, &Bench::packet(number, 2, v6, 64, &[0x55; 40]));
            let l3 = 14 + 4 * kind.tags.len();
            let header_end = l3 + if v6 { 40 } else { 20 };
            let (header, length) =
                if v6 { ("ipv6_header", "ipv6_length") } else { ("ipv4_header", "ipv4_length") };
            let cut = |from: usize, to: usize| {
                let (from, to) = (from.max(SHORTEST), to.min(whole.len()));
                times((from..to).map(|n| whole[..n].to_vec()).collect())
            };
            let parts =
                [("frame_too_short", 0, l3), (header, l3, header_end), (length, header_end, usize::MAX)];
            for (reason, from, to) in parts {
                let frames = cut(from, to);
                if !frames.is_empty() {
                    bench.assert_dropped(reason, &frames);
                }
            }
        }
    }
    bench.assert_unharmed();
}

/// Wrong versions, header lengths, total lengths and checksums.
pub fn wrong_ipv4_headers(bench: &mut Bench) {
    let right = Bench::packet(1, 2, false, 64, &[0x55; 40]);
    let changed = |change: &dyn Fn(&mut Vec<u8>)| {
        let mut packet = right.clone();
        change(&mut packet);
        let mut frame = Bench::wrap(1, &right);
        frame.truncate(18);
        frame.extend(packet);
        frame
    };
    let first_byte = |byte: u8| {
        changed(&|p: &mut Vec<u8>| {
            p[0] = byte;
            frame::renew_checksum(p);
        })
    };
    // Versions other than 4, and header lengths of 0 to 16 bytes.
    let headers = [0x05, 0x15, 0x55, 0x65, 0xf5, 0x40, 0x41, 0x42, 0x43, 0x44].map(first_byte);
    bench.assert_dropped("ipv4_header", &times(headers.into()));
    // A header that would end behind the packet.
    let mut short = changed(&|p| p[0] = 0x4f);
    short.truncate(18 + 40);
    bench.assert_dropped("ipv4_header", &times(vec![short]));
    let length = |length: u16| {
        changed(&|p: &mut Vec<u8>| {
            p[2..4].copy_from_slice(&length.to_be_bytes());
            frame::renew_checksum(p);
        })
    };
    let lengths = [0, 1, 19, right.len() as u16 + 1, 1500, 0xffff].map(length);
    bench.assert_dropped("ipv4_length", &times(lengths.into()));
    let checksums = (0..16).map(|bit| changed(&|p| p[10 + bit / 8] ^= 1 << (bit % 8))).collect();
    bench.assert_dropped("ipv4_checksum", &times(checksums));
    bench.assert_unharmed();
}

/// Once the port was seen to judge checksums rightly its word counts, and wrong ones are dropped as before.
pub fn the_ports_word_on_checksums(bench: &mut Bench) {
    let right: Vec<_> = (0..KINDS.len())
        .map(|kind| Bench::wrap(kind, &Bench::packet(kind, 2, false, 64, &[0x55; 40])))
        .collect();
    let wrong: Vec<_> = right
        .iter()
        .zip(KINDS)
        .map(|(frame, kind)| {
            let mut frame = frame.clone();
            frame[14 + 4 * kind.tags.len() + 10] ^= 0x10;
            frame
        })
        .collect();
    let all: Vec<_> = right.iter().cycle().take(1100).cloned().collect();
    assert_eq!(bench.send(&all).forwarded, 1100);
    let ports = bench.router().show("ports");
    assert_eq!(ports[0]["offloads"]["rx_checksum"], "in use", "{ports}");
    assert_eq!(ports[0]["offloads"]["rss"], "software (not asked for)", "{ports}");
    assert!(bench.router().table("ports").contains("in use"));
    bench.assert_dropped("ipv4_checksum", &times(wrong));
    let (counted, seen) = bench.forwarded(&right);
    assert_eq!((counted.forwarded, seen.len()), (right.len() as u64, right.len()), "{counted:?}");
    assert!(seen.iter().all(|seen| frame::ip(&seen.frame).is_some_and(|ip| ip.checksum_right)));
    bench.assert_unharmed();
}

/// Wrong versions and payload lengths.
pub fn wrong_ipv6_headers(bench: &mut Bench) {
    let right = Bench::packet(1, 2, true, 64, &[0x55; 40]);
    let changed = |change: &dyn Fn(&mut Vec<u8>)| {
        let mut packet = right.clone();
        change(&mut packet);
        frame::build(MACS[0], their_mac(0, 1), KINDS[1].tags, IPV6, &packet)
    };
    let versions = [0x00, 0x40, 0x50, 0x70, 0xf0].map(|byte| changed(&|p: &mut Vec<u8>| p[0] = byte));
    bench.assert_dropped("ipv6_header", &times(versions.into()));
    let payload = right.len() as u16 - 40;
    let lengths = [payload + 1, 1500, 0xffff]
        .map(|n| changed(&|p: &mut Vec<u8>| p[4..6].copy_from_slice(&n.to_be_bytes())));
    bench.assert_dropped("ipv6_length", &times(lengths.into()));
    bench.assert_unharmed();
}

/// VLANs that nobody configured, right ones under the wrong TPID or in the wrong place, and too many.
pub fn unknown_tags(bench: &mut Bench) {
    let tagged = |tags: &[Tag]| {
        frame::build(MACS[0], their_mac(0, 1), tags, IPV4, &Bench::packet(1, 2, false, 64, b"lost"))
    };
    let (q, ad) = (0x8100, 0x88a8);
    let unknown = [
        tagged(&[Tag::new(q, 1)]),
        tagged(&[Tag::new(q, 29)]),
        tagged(&[Tag::new(q, 4094)]),
        tagged(&[Tag::new(q, 4095)]),
        // The S-tag or the C-tag alone, and both the wrong way round.
        tagged(&[Tag::new(q, 100)]),
        tagged(&[Tag::new(q, 10)]),
        tagged(&[Tag::new(q, 10), Tag::new(q, 100)]),
        tagged(&[Tag::new(q, 100), Tag::new(q, 11)]),
        tagged(&[Tag::new(q, 101), Tag::new(q, 10)]),
        // A VLAN that is known with one tag, with a second.
        tagged(&[Tag::new(q, 30), Tag::new(q, 10)]),
        // The right VLANs under the wrong TPIDs.
        tagged(&[Tag::new(ad, 30)]),
        tagged(&[Tag::new(ad, 100), Tag::new(q, 10)]),
        tagged(&[Tag::new(q, 200), Tag::new(q, 10)]),
        tagged(&[Tag::new(ad, 200), Tag::new(ad, 10)]),
    ];
    bench.assert_dropped("unknown_tag", &times(unknown.into()));
    let stacks = [
        tagged(&[Tag::new(q, 100), Tag::new(q, 10), Tag::new(q, 10)]),
        tagged(&[Tag::new(q, 30); 4]),
        tagged(&[Tag::new(ad, 200); 8]),
    ];
    bench.assert_dropped("too_many_tags", &times(stacks.into()));
    bench.assert_unharmed();
}

/// For another MAC address, in a broadcast, or of an unknown protocol.
pub fn wrong_link_headers(bench: &mut Bench) {
    let mut others = Vec::new();
    let mut broadcasts = Vec::new();
    let mut protocols = Vec::new();
    for (number, kind) in KINDS.iter().enumerate() {
        for v6 in [false, true] {
            let packet = Bench::packet(number, 2, v6, 64, b"lost");
            let ethertype = if v6 { IPV6 } else { IPV4 };
            let to = |mac| frame::build(mac, their_mac(0, number), kind.tags, ethertype, &packet);
            others.push(to(MACS[1]));
            others.push(to([0; 6]));
            broadcasts.push(to([0xff; 6]));
            broadcasts.push(to([1, 0, 0x5e, 0, 0, 5]));
        }
        for ethertype in [0x0000, 0x0026, 0x0805, 0x88b5, 0x9100, 0xffff] {
            protocols.push(frame::build(MACS[0], their_mac(0, number), kind.tags, ethertype, &[0; 46]));
        }
    }
    bench.assert_dropped("wrong_destination_mac", &times(others));
    bench.assert_dropped("link_broadcast", &times(broadcasts));
    bench.assert_dropped("unknown_ethertype", &times(protocols));
    bench.assert_unharmed();
}

/// Addresses that no packet on a link may come from or go to.
pub fn martians(bench: &mut Bench) {
    let from_to = |from: &str, to: &str| {
        let (from, to): (IpAddr, IpAddr) = (from.parse().unwrap(), to.parse().unwrap());
        Bench::wrap(1, &frame::udp((from, 4000), (to, 5000), 64, b"lost"))
    };
    let (right4, right6) = (theirs(1, 2, false).to_string(), theirs(1, 2, true).to_string());
    let sources4 =
        ["0.0.0.0", "0.1.2.3", "127.0.0.1", "127.255.255.254", "224.0.0.5", "240.0.0.1", "255.255.255.255"];
    let sources6 = ["::", "::1", "ff02::1", "ff0e::1234"];
    let sources =
        sources4.iter().map(|s| from_to(s, &right4)).chain(sources6.iter().map(|s| from_to(s, &right6)));
    bench.assert_dropped("martian_source", &times(sources.collect()));
    let (good4, good6) = (theirs(0, 1, false).to_string(), theirs(0, 1, true).to_string());
    let targets =
        ["0.0.0.1", "127.0.0.1", "127.9.9.9", "240.0.0.1", "255.0.0.1"].iter().map(|t| from_to(&good4, t));
    let targets = targets.chain(["::", "::1"].iter().map(|t| from_to(&good6, t)));
    bench.assert_dropped("martian_destination", &times(targets.collect()));
    bench.assert_dropped("link_local_source", &times(vec![from_to("fe80::1234", &right6)]));
    bench.assert_unharmed();
}

/// Destinations that nobody announced, and those under a discard route.
pub fn no_route(bench: &mut Bench) {
    let to = |to: &str| {
        let to: IpAddr = to.parse().unwrap();
        Bench::wrap(1, &frame::udp((theirs(0, 1, to.is_ipv6()), 4000), (to, 5000), 64, b"lost"))
    };
    let nowhere = ["192.0.2.1", "1.1.1.1", "10.3.0.1", "223.255.255.254", "2001:db8::1", "fd00:3::1"].map(to);
    let frames = times(nowhere.into());
    let counted = bench.send(&frames);
    assert_eq!(counted.ended("no_route"), frames.len() as u64, "{counted:?}");
    assert_eq!(
        (counted.dropped + counted.punted, counted.forwarded),
        (frames.len() as u64, 0),
        "{counted:?}"
    );
    let discarded = ["203.0.113.0", "203.0.113.255", "2001:db8:dead::1"].map(to);
    bench.assert_dropped("discard_route", &times(discarded.into()));
    bench.assert_unharmed();
}

/// A packet whose TTL ran out goes nowhere; its sender is told, from our address on the link that it came in on.
pub fn ttl_zero_and_one(bench: &mut Bench) {
    for v6 in [false, true] {
        for kind in 0..KINDS.len() {
            let frames = [0, 1].map(|ttl| Bench::wrap(kind, &Bench::packet(kind, 2, v6, ttl, b"too far")));
            let told = answers(bench, kind, v6, &frames, "ttl_expired");
            let kind_of = if v6 { (3, 0) } else { (11, 0) };
            assert_eq!(told, vec![kind_of; 2], "ICMP errors to the sender");
        }
    }
    bench.assert_unharmed();
}

/// A packet larger than the link ahead, which must not be fragmented: its sender is told.
pub fn too_big(bench: &mut Bench) {
    for v6 in [false, true] {
        for size in [1501_usize, 1540] {
            let payload = vec![0x55; size - if v6 { 48 } else { 28 }];
            let frames = [Bench::wrap(2, &Bench::packet(2, 2, v6, 64, &payload))];
            let told = answers(bench, 2, v6, &frames, "exceeds_mtu");
            let kind_of = if v6 { (2, 0) } else { (3, 4) };
            assert_eq!(told, [kind_of], "ICMP errors to the sender of {size} bytes");
        }
    }
    bench.assert_unharmed();
}

/// Sends frames that must all be punted for `reason`; types and codes of the ICMP errors that came back to the
/// neighbour on `kind`.
#[track_caller]
fn answers(bench: &Bench, kind: usize, v6: bool, frames: &[Vec<u8>], reason: &str) -> Vec<(u8, u8)> {
    let record = bench.wires[0].record();
    let counted = bench.send(frames);
    let want = [(reason.to_owned(), frames.len() as u64)].into();
    assert_eq!((&counted.punts, counted.forwarded, counted.dropped), (&want, 0, 0), "{counted:?}");
    let is_error = |f: &[u8]| {
        frame::ip(f).is_some_and(|p| p.dst == theirs(0, kind, v6) && p.protocol == if v6 { 58 } else { 1 })
    };
    wait::until_true(SOON, "ICMP errors", || record.count(Way::FromRouter, is_error) >= frames.len());
    let errors = record.frames(Way::FromRouter, is_error);
    for seen in &errors {
        let (e, p) = (frame::ethernet(&seen.frame).unwrap(), frame::ip(&seen.frame).unwrap());
        assert_eq!((e.src, e.dst), (MACS[0], their_mac(0, kind)));
        assert!(e.tags.iter().zip(KINDS[kind].tags).all(|(a, b)| a.same_vlan(*b)), "tags {:?}", e.tags);
        assert_eq!(e.tags.len(), KINDS[kind].tags.len());
        assert_eq!(p.src, ours(0, kind, v6), "source of the ICMP error");
        assert!(p.checksum_right);
    }
    errors.iter().map(|s| frame::ip(&s.frame).map(|p| (p.payload[0], p.payload[1])).unwrap()).collect()
}
