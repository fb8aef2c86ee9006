//! Every combination of received and sent tags, IPv4 and IPv6, compared byte for byte with frames put together
//! here.

mod common;

use common::{
    OUR_MAC, PEER_MAC, Router, Routes, Target, ethernet, ipv4, ipv6, set_ipv4_checksum, sub_if, tag,
};
use dataplane::packet::{HeapPacket, StrippedTags};
use dataplane::sub_interface::Tags;
use proptest::prelude::*;

/// The encapsulations of the test: those of ExpressRoute, and what stands on LANs.
fn encapsulations() -> Vec<Tags> {
    vec![
        Tags::Untagged,
        Tags::One(tag(0x8100, 30)),
        Tags::Two(tag(0x8100, 100), tag(0x8100, 10)),
        Tags::Two(tag(0x88a8, 100), tag(0x8100, 10)),
        Tags::Two(tag(0x9100, 4094), tag(0x8100, 1)),
    ]
}

/// (TPID, TCI) of a frame with these tags and this priority.
fn on_wire(tags: Tags, pcp: u16) -> Vec<(u16, u16)> {
    let all = match tags {
        Tags::Untagged => vec![],
        Tags::One(tag) => vec![tag],
        Tags::Two(outer, inner) => vec![outer, inner],
    };
    all.iter().map(|tag| (tag.tpid, tag.vid | pcp << 13)).collect()
}

fn routes() -> Routes {
    Routes {
        v4: vec![(0, 0x0a01_0000, 16, Target::Via(vec![1]))],
        v6: vec![(0, 0x2001_0db8 << 96, 32, Target::Via(vec![1]))],
    }
}

fn header_from_us(tags: &[(u16, u16)], ethertype: u16) -> Vec<u8> {
    let mut frame = ethernet(tags, ethertype);
    frame[..6].copy_from_slice(&PEER_MAC);
    frame[6..12].copy_from_slice(&OUR_MAC);
    frame
}

#[test]
fn every_combination_in_and_out() {
    let mut cases = 0;
    for from in encapsulations() {
        for to in encapsulations() {
            for pcp_set in [None, Some(6)] {
                let mut egress = sub_if(1, to, 0);
                egress.pcp = pcp_set;
                let mut router = Router::new(2, vec![sub_if(0, from, 0), egress], &routes());
                let received_pcp = 3;
                let carried = if from == Tags::Untagged { 0 } else { received_pcp };
                let sent_pcp = pcp_set.map_or(carried, u16::from);
                for payload in [0, 1, 1472] {
                    let mut packet = ipv4([192, 0, 2, 1], [10, 1, 2, 3], 64, payload);
                    router.receive(
                        0,
                        &[ethernet(&on_wire(from, received_pcp), 0x0800), packet.clone()].concat(),
                    );
                    router.run();
                    packet[8] = 63;
                    set_ipv4_checksum(&mut packet);
                    let expected = [header_from_us(&on_wire(to, sent_pcp), 0x0800), packet].concat();
                    assert_eq!(router.sent(1), [expected], "{from:?} to {to:?}");
                    cases += 1;
                }
                for payload in [0, 1, 1452] {
                    let destination = 0x2001_0db8 << 96 | 5;
                    let mut packet = ipv6(0xfd00 << 112 | 1, destination, 64, payload);
                    router.receive(
                        0,
                        &[ethernet(&on_wire(from, received_pcp), 0x86dd), packet.clone()].concat(),
                    );
                    router.run();
                    packet[7] = 63;
                    let expected = [header_from_us(&on_wire(to, sent_pcp), 0x86dd), packet].concat();
                    assert_eq!(router.sent(1), [expected], "{from:?} to {to:?}");
                    cases += 1;
                }
                assert!(router.ends(0).is_empty(), "{:?}", router.ends(0));
                router.assert_adds_up();
            }
        }
    }
    assert_eq!(cases, 5 * 5 * 2 * 6);
}

#[test]
fn padding_of_short_frames_does_not_travel() {
    let mut router =
        Router::new(2, vec![sub_if(0, Tags::Untagged, 0), sub_if(1, encapsulations()[2], 0)], &routes());
    let mut frame = [ethernet(&[], 0x0800), ipv4([192, 0, 2, 1], [10, 1, 2, 3], 64, 0)].concat();
    frame.resize(60, 0xee);
    router.receive(0, &frame);
    router.run();
    let sent = router.sent(1);
    assert_eq!(sent[0].len(), 22 + 28);
    let sub_if = router.counters.sub_interface(dataplane::ids::SubIfId(0));
    assert_eq!(sub_if.received.l2_bytes.get(), 60);
    assert_eq!(sub_if.received.l3_bytes.get(), 28);
}

#[test]
fn priority_tags_are_taken_as_no_tag() {
    let one = Tags::One(tag(0x8100, 30));
    let mut router = Router::new(
        2,
        vec![sub_if(0, Tags::Untagged, 0), sub_if(1, encapsulations()[2], 0), sub_if(0, one, 0)],
        &routes(),
    );
    let packet = ipv4([192, 0, 2, 1], [10, 1, 2, 3], 64, 4);
    // VID 0 with PCP 5; then VID 0 outside and inside of VID 30.
    for (tags, id) in [
        (vec![(0x8100, 0xa000)], 0),
        (vec![(0x8100, 0xa000), (0x8100, 30)], 2),
        (vec![(0x8100, 0xa01e), (0x8100, 0)], 2),
    ] {
        let before = router.counters.sub_interface(dataplane::ids::SubIfId(id)).received.packets.get();
        router.receive(0, &[ethernet(&tags, 0x0800), packet.clone()].concat());
        router.run();
        let sent = router.sent(1);
        assert_eq!(sent.len(), 1, "{tags:?}: {:?}", router.ends(0));
        assert_eq!(sent[0][14] >> 5, 5, "the priority is carried over");
        assert_eq!(sent[0][18] >> 5, 5);
        assert_eq!(
            router.counters.sub_interface(dataplane::ids::SubIfId(id)).received.packets.get(),
            before + 1
        );
    }
}

#[test]
fn tags_that_nobody_has_and_wrong_tpids_are_dropped() {
    let mut router =
        Router::new(2, vec![sub_if(0, encapsulations()[3], 0), sub_if(1, Tags::Untagged, 0)], &routes());
    let packet = ipv4([192, 0, 2, 1], [10, 1, 2, 3], 64, 4);
    let unknown: [&[(u16, u16)]; 7] = [
        &[],
        &[(0x8100, 100)],
        &[(0x88a8, 100), (0x8100, 11)],
        &[(0x88a8, 101), (0x8100, 10)],
        &[(0x8100, 100), (0x8100, 10)],
        &[(0x88a8, 100), (0x88a8, 10)],
        &[(0x88a8, 4095), (0x8100, 10)],
    ];
    for tags in unknown {
        router.receive(0, &[ethernet(tags, 0x0800), packet.clone()].concat());
    }
    router.receive(0, &[ethernet(&[(0x88a8, 100), (0x8100, 10), (0x8100, 5)], 0x0800), packet].concat());
    router.run();
    assert_eq!(router.ends(0), [("unknown_tag", 7), ("too_many_tags", 1)]);
    assert!(router.sent(1).is_empty());
    router.assert_adds_up();
}

#[test]
fn tags_that_the_nic_took_off_count_as_tags() {
    let mut router =
        Router::new(2, vec![sub_if(0, encapsulations()[2], 0), sub_if(1, Tags::Untagged, 0)], &routes());
    let packet = ipv4([192, 0, 2, 1], [10, 1, 2, 3], 64, 4);
    let mut both = HeapPacket::new(&[ethernet(&[], 0x0800), packet.clone()].concat());
    both.stripped = StrippedTags::Two { outer: 100, inner: 10 };
    let mut outer = HeapPacket::new(&[ethernet(&[(0x8100, 10)], 0x0800), packet].concat());
    outer.stripped = StrippedTags::One(100);
    router.receive_packet(0, both);
    router.receive_packet(0, outer);
    router.run();
    assert_eq!(router.sent(1).len(), 2, "{:?}", router.ends(0));
}

proptest! {
    /// Whether a NIC takes tags off and tells of them makes no difference, in bursts of several kinds, with priorities,
    /// with tags of nobody and with faults behind them; and the bytes that it took off are counted.
    #[test]
    fn what_a_nic_takes_off_makes_no_difference(
        packets in prop::collection::vec(
            (0..5usize, 0..4u16, any::<bool>(), 0..8u8, any::<bool>(), prop::option::of((0..60usize, any::<u8>()))),
            1..80,
        ),
    ) {
        let sub_ifs = || {
            let mut all: Vec<_> = encapsulations().into_iter().map(|tags| sub_if(0, tags, 0)).collect();
            // One of the two with the same VLAN ids.
            all.remove(3);
            all.push(sub_if(0, Tags::Two(tag(0x88a8, 200), tag(0x8100, 10)), 0));
            all[1] = sub_if(1, Tags::Untagged, 0);
            all.push(sub_if(0, encapsulations()[1], 0));
            all
        };
        let (mut left_on, mut taken_off) =
            (Router::new(2, sub_ifs(), &routes()), Router::new(2, sub_ifs(), &routes()));
        for (kind, pcp, v6, vid, both, change) in packets {
            let tags = match kind {
                3 => Tags::Two(tag(0x88a8, 200), tag(0x8100, 10)),
                _ => encapsulations()[kind],
            };
            let mut tags = on_wire(tags, pcp);
            if let Some((_, tci)) = tags.last_mut()
                && vid < 1
            {
                *tci ^= 1;
            }
            let mut packet = if v6 {
                ipv6(0xfd00 << 112 | 1, 0x2001_0db8 << 96 | 5, 64, 30)
            } else {
                ipv4([192, 0, 2, 1], [10, 1, 2, 3], 64, 30)
            };
            if let Some((at, to)) = change {
                packet[at % 50] = to;
            }
            let framed = |tags: &[(u16, u16)]| {
                [ethernet(tags, if v6 { 0x86dd } else { 0x0800 }), packet.clone()].concat()
            };
            left_on.receive(0, &framed(&tags));
            let (off, stripped) = match tags[..] {
                [] => (0, StrippedTags::None),
                [(_, outer), (_, inner)] if both => (2, StrippedTags::Two { outer, inner }),
                [(_, outer), ..] => (1, StrippedTags::One(outer)),
            };
            let mut rest = HeapPacket::new(&framed(&tags[off..]));
            rest.stripped = stripped;
            taken_off.receive_packet(0, rest);
        }
        left_on.run();
        taken_off.run();
        let sorted = |router: &Router| {
            let mut sent = router.sent(1);
            sent.sort();
            sent
        };
        prop_assert_eq!(sorted(&left_on), sorted(&taken_off));
        prop_assert_eq!(left_on.ends(0), taken_off.ends(0));
        for id in 0..6 {
            let counted = |router: &Router| {
                let received = &router.counters.sub_interface(dataplane::ids::SubIfId(id)).received;
                [received.packets.get(), received.l2_bytes.get(), received.l3_bytes.get()]
            };
            prop_assert_eq!(counted(&left_on), counted(&taken_off));
        }
        taken_off.assert_adds_up();
    }
}
