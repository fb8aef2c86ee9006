//! The whole worker where sub-interfaces have policies: each does what it says to its own packets, and nothing to
//! those of others; what is punted is as it was received; the counters add up.

mod common;

use common::{PEER_MAC, Router, Routes, Target, ethernet, ipv4, ipv6, set_ipv4_checksum, sub_if, tag};
use dataplane::packet::Packet;
use dataplane::policy::{Policies, Policy, ReversePath};
use dataplane::punt::default_budget;
use dataplane::sub_interface::Tags;
use dataplane::verdict::PuntReason;
use proptest::prelude::*;

const PUBLIC: u128 = 0x2001_0db8_0001 << 80;
const LOCAL: u128 = 0xfd00 << 112;

/// Sub-interfaces 0: LAN on port 0, untagged. 1 and 2: Microsoft links on port 1, QinQ, of equal cost for 10.1/16 and
/// the /48 of `PUBLIC`. 3: a private link on port 2. All in VRF 0. 192.0.2/24, 198.51.100/24 and an IPv6 /48 are behind
/// the LAN; 10.9/16 is discarded.
fn router(policies: [Policy; 4], tell: bool) -> Router {
    let qinq = |inner| Tags::Two(tag(0x8100, 100), tag(0x8100, inner));
    let sub_ifs = vec![
        sub_if(0, Tags::Untagged, 0),
        sub_if(1, qinq(10), 0),
        sub_if(1, qinq(20), 0),
        sub_if(2, Tags::One(tag(0x8100, 7)), 0),
    ];
    let routes = Routes {
        v4: vec![
            (0, 0x0a01_0000, 16, Target::Via(vec![1, 2])),
            (0, 0x0a02_0000, 16, Target::Via(vec![3])),
            (0, 0x0a09_0000, 16, Target::Discard),
            (0, 0xc000_0200, 24, Target::Via(vec![0])),
            (0, 0xc633_6400, 24, Target::Via(vec![0])),
            (0, 0x0a01_0001, 32, Target::Local),
        ],
        v6: vec![
            (0, PUBLIC, 48, Target::Via(vec![1, 2])),
            (0, 0x2001_0db8_0002 << 80, 48, Target::Via(vec![3])),
            (0, 0x2001_0db8 << 96, 48, Target::Via(vec![0])),
            (0, PUBLIC | 1, 128, Target::Local),
        ],
    };
    Router::with_policies(3, sub_ifs, &routes, Policies::new(policies.into(), tell))
}

fn none() -> Policy {
    Policy::default()
}

fn v4_with(source: [u8; 4], destination: [u8; 4], change: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
    let mut packet = ipv4(source, destination, 64, 20);
    change(&mut packet);
    set_ipv4_checksum(&mut packet);
    packet
}

fn v4(source: [u8; 4], destination: [u8; 4]) -> Vec<u8> {
    v4_with(source, destination, |_| {})
}

fn v6(source: u128, destination: u128) -> Vec<u8> {
    ipv6(source, destination, 64, 20)
}

/// The tags of each sub-interface.
const TAGS: [&[(u16, u16)]; 4] =
    [&[], &[(0x8100, 100), (0x8100, 10)], &[(0x8100, 100), (0x8100, 20)], &[(0x8100, 7)]];
const PORT: [usize; 4] = [0, 1, 1, 2];

fn frame(sub_if: usize, packet: &[u8]) -> Vec<u8> {
    let ethertype = if packet[0] >> 4 == 4 { 0x0800 } else { 0x86dd };
    [ethernet(TAGS[sub_if], ethertype), packet.to_vec()].concat()
}

/// What becomes of a packet received on `sub_if`: "forward", or the reason's name.
fn fate(router: &mut Router, sub_if: usize, packet: &[u8]) -> String {
    let before = router.ends(PORT[sub_if]);
    router.receive(PORT[sub_if], &frame(sub_if, packet));
    router.run();
    router.assert_adds_up();
    let sent: usize = (0..3).map(|port| router.sent(port).len()).sum();
    let after = router.ends(PORT[sub_if]);
    let more: Vec<_> = after.iter().filter(|end| !before.contains(end)).collect();
    match (sent, more.as_slice()) {
        (1, []) => "forward".into(),
        (0, [(name, _)]) => (*name).into(),
        other => format!("{other:?}"),
    }
}

#[test]
fn private_sources_do_not_leave_by_guarded_links() {
    let guarded = || Policy { public_sources: true, ..none() };
    let mut router = router([none(), guarded(), guarded(), none()], false);
    for source in [[10, 0, 0, 1], [172, 16, 3, 4], [172, 31, 255, 255], [192, 168, 1, 1], [100, 64, 0, 1]] {
        assert_eq!(fate(&mut router, 0, &v4(source, [10, 1, 0, 9])), "private_source", "{source:?}");
        assert_eq!(
            fate(&mut router, 0, &v4(source, [10, 2, 0, 9])),
            "forward",
            "the other link has no guard"
        );
        assert_eq!(fate(&mut router, 1, &v4(source, [192, 0, 2, 1])), "forward", "nor has the way in");
    }
    for source in [[192, 0, 2, 7], [172, 32, 0, 1], [100, 128, 0, 1], [11, 0, 0, 1]] {
        assert_eq!(fate(&mut router, 0, &v4(source, [10, 1, 0, 9])), "forward", "{source:?}");
    }
    assert_eq!(fate(&mut router, 0, &v6(LOCAL | 5, PUBLIC | 9)), "private_source");
    assert_eq!(fate(&mut router, 0, &v6(PUBLIC | 5, PUBLIC | 9)), "forward");
    assert_eq!(fate(&mut router, 0, &v6(LOCAL | 5, 0x2001_0db8_0002 << 80 | 9)), "forward");
    assert_eq!(fate(&mut router, 0, &v4([10, 0, 0, 1], [10, 1, 0, 1])), "local", "it does not leave");
    assert_eq!(router.rings.punt.len(), 1, "nobody was told");
}

#[test]
fn the_sender_is_told_within_the_budget_and_each_refusal_is_counted() {
    let guarded = || Policy { public_sources: true, ..none() };
    let mut router = router([none(), guarded(), guarded(), none()], true);
    let packet = frame(0, &v4([10, 0, 0, 1], [10, 1, 0, 9]));
    for _ in 0..300 {
        router.receive(0, &packet);
    }
    router.run();
    router.assert_adds_up();
    assert_eq!(router.ends(0), [("private_source", 300)]);
    let told: Vec<_> = std::iter::from_fn(|| router.rings.punt.pop()).collect();
    // Three quarters of the burst, as one sub-interface alone has no more at once; and what the time of the test adds.
    let burst = default_budget(PuntReason::Prohibited).burst as usize;
    assert!((burst * 3 / 4..burst * 3 / 2).contains(&told.len()), "{}", told.len());
    for punted in told {
        assert_eq!(punted.reason, PuntReason::Prohibited);
        assert_eq!(punted.packet.bytes(), packet, "as it was received");
    }
}

#[test]
fn loose_reverse_paths_need_any_route() {
    let loose = || Policy { reverse_path: ReversePath::Loose, ..none() };
    let mut router = router([none(), loose(), none(), none()], true);
    let to = [192, 0, 2, 1];
    assert_eq!(fate(&mut router, 1, &v4([10, 1, 0, 9], to)), "forward");
    assert_eq!(fate(&mut router, 1, &v4([10, 2, 0, 9], to)), "forward", "by another link, but there is one");
    assert_eq!(fate(&mut router, 1, &v4([11, 0, 0, 1], to)), "reverse_path");
    assert_eq!(fate(&mut router, 1, &v4([10, 9, 0, 1], to)), "reverse_path", "discarded");
    assert_eq!(fate(&mut router, 1, &v4([10, 1, 0, 1], to)), "reverse_path", "our own address");
    assert_eq!(fate(&mut router, 2, &v4([11, 0, 0, 1], to)), "forward", "no check there");
    assert_eq!(fate(&mut router, 1, &v6(PUBLIC | 9, 0x2001_0db8 << 96 | 1)), "forward");
    assert_eq!(fate(&mut router, 1, &v6(0x2001_0db9 << 96, 0x2001_0db8 << 96 | 1)), "reverse_path");
    assert_eq!(fate(&mut router, 1, &v4([11, 0, 0, 1], [10, 1, 0, 1])), "reverse_path", "also to us");
    let neighbour = 0xfe80 << 112 | 9;
    assert_eq!(fate(&mut router, 1, &v6(neighbour, PUBLIC | 1)), "local", "a neighbour, to us");
    assert_eq!(fate(&mut router, 1, &v6(neighbour, 0x2001_0db8 << 96 | 1)), "link_local_source");
}

#[test]
fn strict_reverse_paths_lead_out_where_the_packet_came_in() {
    let strict = || Policy { reverse_path: ReversePath::Strict, ..none() };
    let mut router = router([strict(), strict(), strict(), strict()], true);
    let to = [192, 0, 2, 1];
    for link in [1, 2] {
        assert_eq!(fate(&mut router, link, &v4([10, 1, 0, 9], to)), "forward", "either of equal paths");
        assert_eq!(fate(&mut router, link, &v6(PUBLIC | 9, 0x2001_0db8 << 96 | 1)), "forward");
        assert_eq!(fate(&mut router, link, &v4([10, 2, 0, 9], to)), "reverse_path", "out of the other one");
    }
    assert_eq!(fate(&mut router, 3, &v4([10, 2, 0, 9], to)), "forward");
    assert_eq!(fate(&mut router, 3, &v4([10, 1, 0, 9], to)), "reverse_path");
    assert_eq!(fate(&mut router, 3, &v6(PUBLIC | 9, 0x2001_0db8 << 96 | 1)), "reverse_path");
    assert_eq!(fate(&mut router, 0, &v4([198, 51, 100, 4], [10, 2, 0, 1])), "forward");
    assert_eq!(fate(&mut router, 0, &v4([198, 51, 101, 4], [10, 2, 0, 1])), "reverse_path", "no route");
    assert_eq!(fate(&mut router, 0, &v4([10, 9, 0, 4], [10, 2, 0, 1])), "reverse_path", "discarded");
}

/// A SYN with a segment size of 1460, over IPv4 or IPv6.
fn syn(v6: bool, source: u8) -> Vec<u8> {
    let mut segment = vec![0x12, 0x34, 0, 80, 0, 0, 0, 1, 0, 0, 0, 0, 0x60, 2, 0xff, 0xff, 0x55, 0xaa, 0, 0];
    segment.extend([2, 4, 0x05, 0xb4]);
    let mut packet = if v6 {
        ipv6(0x2001_0db8 << 96 | u128::from(source), 0x2001_0db8_0002 << 80, 64, 16)
    } else {
        ipv4([192, 0, 2, source], [10, 2, 0, 1], 64, 16)
    };
    let header = packet.len() - 24;
    packet[if v6 { 6 } else { 9 }] = 6;
    packet[header..].copy_from_slice(&segment);
    if !v6 {
        set_ipv4_checksum(&mut packet);
    }
    packet
}

#[test]
fn segment_sizes_are_limited_in_both_directions() {
    let clamp = |v4, v6| Policy { mss: dataplane::policy::MssClamp { v4, v6 }, ..none() };
    let size = |policies: [Policy; 4], v6: bool| {
        let mut router = router(policies, false);
        router.receive(0, &frame(0, &syn(v6, 7)));
        router.run();
        let sent = router.sent(2).remove(0);
        (u16::from_be_bytes([sent[sent.len() - 2], sent[sent.len() - 1]]), sent[sent.len() - 8])
    };
    assert_eq!(size([none(), none(), none(), clamp(1360, 1300)], false).0, 1360, "by the way out");
    assert_eq!(size([none(), none(), none(), clamp(1360, 1300)], true).0, 1300);
    assert_eq!(size([clamp(1400, 1200), none(), none(), none()], false).0, 1400, "by the way in");
    assert_eq!(size([clamp(1300, 1200), none(), none(), clamp(1360, 1300)], false).0, 1300, "by both");
    assert_eq!(size([clamp(1500, u16::MAX), none(), none(), none()], false), (1460, 0x55), "never raised");
    assert_eq!(size([clamp(1300, u16::MAX), none(), none(), none()], true), (1460, 0x55));
    assert_eq!(
        size([none(), clamp(500, 500), clamp(500, 500), none()], true),
        (1460, 0x55),
        "others' limits"
    );
}

/// The tag and packet of a frame sent with one tag.
fn one_tag(frame: &[u8]) -> (u16, &[u8]) {
    assert_eq!(frame[..6], PEER_MAC);
    (u16::from_be_bytes([frame[14], frame[15]]), &frame[18..])
}

#[test]
fn what_cannot_leave_is_punted_as_it_came() {
    let zero = || Policy { dscp: [0].into_iter().collect(), ..none() };
    let mut router = router([none(), none(), none(), zero()], false);
    let marked = |ttl: u8, payload: usize, flags: u8| {
        let mut packet = ipv4([192, 0, 2, 7], [10, 2, 0, 1], ttl, payload);
        (packet[1], packet[6]) = (0xb9, flags);
        set_ipv4_checksum(&mut packet[..20]);
        packet
    };
    for (packet, reason) in [
        (marked(1, 20, 0), PuntReason::TtlExpired),
        (marked(64, 1480, 0), PuntReason::Fragment),
        (marked(64, 1480, 0x40), PuntReason::ExceedsMtu),
    ] {
        router.receive(0, &frame(0, &packet));
        router.run();
        let punted = router.rings.punt.pop().unwrap();
        assert_eq!((punted.reason, punted.packet.bytes()), (reason, &frame(0, &packet)[..]));
        assert_eq!(punted.mtu, 1500, "that which it met");
    }
}

proptest! {
    /// Each packet leaves with its DSCP if it is in the set, else with 0, with its ECN, and with the priority of what
    /// it leaves with; nothing else of it changes but TTL and checksum. In bursts of several kinds, with options too.
    #[test]
    fn marks_are_those_of_the_set(
        set: u64,
        table in prop::collection::vec(0u8..8, 64),
        packets in prop::collection::vec((any::<u8>(), 0u8..4), 1..64),
    ) {
        let policy = Policy {
            dscp: dataplane::policy::DscpSet(set),
            pcp_from_dscp: Some(Box::new(table.clone().try_into().unwrap())),
            ..none()
        };
        let mut router = router([none(), none(), none(), policy], false);
        let mut expected = Vec::new();
        for (tos, kind) in packets {
            let dscp = if set >> (tos >> 2) & 1 == 1 { tos >> 2 } else { 0 };
            let (new, pcp) = (dscp << 2 | tos & 3, table[usize::from(dscp)]);
            let packet = |tos: u8, ttl: u8| match kind {
                0 | 1 => v4_with([192, 0, 2, 7], [10, 2, 0, 1], |p| (p[1], p[8]) = (tos, ttl)),
                2 => {
                    let mut packet = ipv4([192, 0, 2, 7], [10, 2, 0, 1], ttl, 8);
                    (packet[0], packet[1]) = (0x46, tos);
                    packet.splice(20..20, [1, 1, 1, 0]);
                    packet[3] += 4;
                    set_ipv4_checksum(&mut packet);
                    packet
                }
                _ => {
                    let mut packet = ipv6(PUBLIC, 0x2001_0db8_0002 << 80, ttl, 9);
                    (packet[0], packet[1]) = (0x60 | tos >> 4, tos << 4 | 0xa);
                    packet
                }
            };
            router.receive(0, &frame(0, &packet(tos, 64)));
            // Packets to the unmarked links beside them keep what they have.
            let other = v4_with([192, 0, 2, 7], [10, 1, 0, 9], |p| p[1] = tos);
            router.receive(0, &frame(0, &other));
            expected.push((kind == 3, u16::from(pcp) << 13 | 7, packet(new, 63)));
        }
        router.run();
        router.assert_adds_up();
        let sent = router.sent(2);
        let mut got: Vec<_> = sent.iter().map(|frame| {
            let (tci, packet) = one_tag(frame);
            (packet[0] >> 4 == 6, tci, packet.to_vec())
        }).collect();
        prop_assert_eq!(router.sent(1).len(), got.len());
        // A packet of the one family may overtake one of the other in a burst.
        got.sort_by_key(|(v6, ..)| *v6);
        expected.sort_by_key(|(v6, ..)| *v6);
        prop_assert_eq!(got, expected);
    }
}
