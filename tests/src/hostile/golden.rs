//! Right frames come out right, byte by byte, whatever the tags on either side.

use crate::bench::{Bench, KINDS, MACS, their_mac};
use crate::frame::{self, Tag};

/// The frame in which `packet`, as it was received with `pcp`, must leave towards the neighbour on `kind` of port
/// `b`: TTL and checksum renewed, fresh link header, priority on every tag.
fn expected(packet: &[u8], kind: usize, pcp: u8) -> Vec<u8> {
    let mut packet = packet.to_vec();
    let v6 = packet[0] >> 4 == 6;
    if v6 {
        packet[7] -= 1;
    } else {
        packet[8] -= 1;
        frame::renew_checksum(&mut packet);
    }
    let pcp = KINDS[kind].pcp.unwrap_or(pcp);
    let tags: Vec<Tag> = KINDS[kind].tags.iter().map(|t| t.with_pcp(pcp)).collect();
    let ethertype = if v6 { frame::IPV6 } else { frame::IPV4 };
    frame::build(their_mac(1, kind), MACS[1], &tags, ethertype, &packet)
}

/// No, one or two tags in, no, one or two tags out, either TPID, either family, small and full-size, any priority.
pub fn every_tag_combination(bench: &mut Bench) {
    let (mut frames, mut want) = (Vec::new(), Vec::new());
    for (from, kind) in KINDS.iter().enumerate() {
        for to in 0..KINDS.len() {
            for v6 in [false, true] {
                let full = if v6 { 1452 } else { 1472 };
                for (pcp, size) in [(0, 18), (5, 300), (7, full)] {
                    let packet = Bench::packet(from, to, v6, 64, &vec![pcp; size]);
                    let tags: Vec<Tag> = kind.tags.iter().map(|t| t.with_pcp(pcp)).collect();
                    let plain = Bench::wrap(0, &packet);
                    let mut frame = frame::push(&plain, &tags);
                    frame[6..12].copy_from_slice(&their_mac(0, from));
                    frames.push(frame);
                    want.push(expected(&packet, to, if tags.is_empty() { 0 } else { pcp }));
                }
            }
        }
    }
    assert_same(bench, &frames, &want);
}

/// A tag with VLAN id 0 says only the priority, outside or between other tags.
pub fn priority_tags(bench: &mut Bench) {
    let (mut frames, mut want) = (Vec::new(), Vec::new());
    for from in [0, 1] {
        for v6 in [false, true] {
            let packet = Bench::packet(from, 2, v6, 64, b"a priority and no VLAN");
            frames.push(frame::push(&Bench::wrap(from, &packet), &[Tag::new(0x8100, 0).with_pcp(6)]));
            want.push(expected(&packet, 2, 6));
        }
    }
    assert_same(bench, &frames, &want);
}

/// What follows the IP packet in a frame is padding, and does not go on.
pub fn padding_is_trimmed(bench: &mut Bench) {
    let (mut frames, mut want) = (Vec::new(), Vec::new());
    for (from, to) in [(0, 2), (2, 0), (1, 1)] {
        for v6 in [false, true] {
            for padding in [1, 17, 64] {
                let packet = Bench::packet(from, to, v6, 64, b"");
                let mut frame = Bench::wrap(from, &packet);
                frame.extend(vec![0xee; padding]);
                frames.push(frame);
                want.push(expected(&packet, to, 0));
            }
        }
    }
    assert_same(bench, &frames, &want);
}

/// IPv4 options, fragments, and IPv6 extension headers go through unchanged.
pub fn options_and_extensions(bench: &mut Bench) {
    let mut packets = Vec::new();
    let plain = Bench::packet(1, 2, false, 64, b"with options");
    for words in [1, 5, 10] {
        // No-operation options between header and datagram.
        let mut packet = [&plain[..20], &vec![1; 4 * words], &plain[20..]].concat();
        packet[0] = 0x45 + words as u8;
        let length = (packet.len() as u16).to_be_bytes();
        packet[2..4].copy_from_slice(&length);
        frame::renew_checksum(&mut packet);
        packets.push(packet);
    }
    // First fragment: more to come.
    let mut fragment = plain.clone();
    fragment[6..8].copy_from_slice(&[0x20, 0]);
    frame::renew_checksum(&mut fragment);
    packets.push(fragment);
    let frames: Vec<_> = packets.iter().map(|p| Bench::wrap(1, p)).collect();
    let want: Vec<_> = packets.iter().map(|p| expected(p, 2, 0)).collect();
    assert_same(bench, &frames, &want);

    // A destination-options header before UDP: ports are not where a plain packet has them, so only counted here.
    let mut packet = Bench::packet(1, 2, true, 64, b"with extensions");
    packet[6] = 60;
    packet.splice(40..40, [frame::UDP, 0, 1, 4, 0, 0, 0, 0]);
    let length = (packet.len() as u16 - 40).to_be_bytes();
    packet[4..6].copy_from_slice(&length);
    let record = bench.wires[1].record();
    let counted = bench.send(&[Bench::wrap(1, &packet)]);
    assert_eq!(counted.forwarded, 1, "{counted:?}");
    let want = expected(&packet, 2, 0);
    crate::wait::until_true(crate::suite::SOON, "the packet with an extension header", || {
        record.count(crate::wire::Way::FromRouter, |f| f == want) == 1
    });
}

#[track_caller]
fn assert_same(bench: &mut Bench, frames: &[Vec<u8>], want: &[Vec<u8>]) {
    let (counted, seen) = bench.forwarded(frames);
    assert_eq!(counted.forwarded, frames.len() as u64, "{counted:?}");
    assert_eq!(seen.len(), want.len(), "frames that left port b");
    for ((seen, want), frame) in seen.iter().zip(want).zip(frames) {
        assert_eq!(&seen.frame, want, "what became of {frame:02x?}");
    }
    bench.assert_unharmed();
}
