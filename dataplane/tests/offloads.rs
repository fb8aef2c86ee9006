//! What a NIC says of its packets: checked before it counts, and after.
#![allow(clippy::unwrap_used, clippy::panic)]

mod common;

use std::sync::Arc;

use common::{Router, Routes, Target, ethernet, ipv4, ipv6, sub_if};
use dataplane::header::flow;
use dataplane::offload::{Checks, ENOUGH, ENOUGH_TAGS, Kinds, Offload, PortOffloads, State};
use dataplane::packet::{Checksum, HeapPacket, StrippedTags};
use dataplane::sub_interface::Tags;

/// A router with two ports, of which the first's offloads are in this state.
fn router(checksum: State, rss: State) -> (Router, Arc<PortOffloads>) {
    let sub_ifs = vec![sub_if(0, Tags::Untagged, 0), sub_if(1, Tags::Untagged, 0)];
    let routes = Routes {
        v4: vec![(0, 0x0a00_0000, 8, Target::Via(vec![1]))],
        v6: vec![(0, 0x2001 << 112, 16, Target::Via(vec![1]))],
    };
    let mut router = Router::new(2, sub_ifs, &routes);
    let offloads = Arc::new(PortOffloads::new([checksum, rss, State::NotAsked, State::NotAsked]));
    let none = Arc::new(PortOffloads::new([State::NotAsked; 4]));
    router.worker = router.worker.with_checks(Checks::new(&[Arc::clone(&offloads), none], 0));
    (router, offloads)
}

/// A frame to 10.0.0.1 from this port, whose checksum is right or not.
fn frame(source_port: u16, right: bool) -> Vec<u8> {
    let mut packet = ipv4([192, 0, 2, 1], [10, 0, 0, 1], 64, 18);
    packet[20..22].copy_from_slice(&source_port.to_be_bytes());
    if !right {
        packet[10] ^= 0x40;
    }
    [ethernet(&[], 0x0800), packet].concat()
}

fn receive(router: &mut Router, frames: &[(Vec<u8>, Checksum)]) {
    for (frame, said) in frames {
        let mut packet = HeapPacket::new(frame);
        packet.checksum = *said;
        router.receive_packet(0, packet);
    }
    router.run();
    router.assert_adds_up();
}

/// Has the NIC judge so many frames as it should.
fn honestly(router: &mut Router, count: u64) {
    let frames: Vec<_> = (0..count)
        .map(|i| match i % 4 {
            0 => (frame(1, false), Checksum::Wrong),
            _ => (frame(1, true), Checksum::Right),
        })
        .collect();
    receive(router, &frames);
}

#[test]
fn its_word_counts_once_it_was_right_often_enough() {
    let (mut router, offloads) = router(State::Checking, State::NotAsked);
    honestly(&mut router, ENOUGH - 1);
    assert_eq!(offloads.state(Offload::RxChecksum), State::Checking);
    honestly(&mut router, 1);
    assert_eq!(offloads.state(Offload::RxChecksum), State::InUse);
    honestly(&mut router, 4000);
    assert_eq!(router.ends(0), [("ipv4_checksum", ENOUGH.div_ceil(4) + 1 + 1000)]);
    assert_eq!(offloads.state(Offload::RxChecksum), State::InUse);
}

#[test]
fn a_lie_during_the_check_is_caught_and_software_decides() {
    let (mut router, offloads) = router(State::Checking, State::NotAsked);
    honestly(&mut router, 64);
    receive(&mut router, &[(frame(1, true), Checksum::Right), (frame(1, false), Checksum::Right)]);
    assert_eq!(offloads.state(Offload::RxChecksum), State::FalselyRight);
    assert_eq!(router.ends(0), [("ipv4_checksum", 17)]);
    // It is not asked again, however right it is then.
    honestly(&mut router, 4 * ENOUGH);
    receive(&mut router, &[(frame(1, false), Checksum::Right)]);
    assert_eq!(offloads.state(Offload::RxChecksum), State::FalselyRight);
    assert_eq!(router.ends(0), [("ipv4_checksum", 17 + ENOUGH + 1)]);
}

#[test]
fn right_ones_that_it_calls_wrong_end_its_use_and_are_forwarded() {
    for state in [State::Checking, State::InUse] {
        let (mut router, offloads) = router(state, State::NotAsked);
        for _ in 0..64 {
            receive(&mut router, &[(frame(1, true), Checksum::Wrong)]);
        }
        assert_eq!(offloads.state(Offload::RxChecksum), State::FalselyWrong);
        assert_eq!(router.sent(1).len(), 64);
    }
}

#[test]
fn a_lie_after_the_check_is_caught_by_the_next_audit() {
    let (mut router, offloads) = router(State::InUse, State::NotAsked);
    let lie = [(frame(1, false), Checksum::Right)];
    receive(&mut router, &lie);
    assert_eq!(router.sent(1).len(), 1, "its word counts");
    for _ in 0..63 {
        receive(&mut router, &lie);
    }
    assert_eq!(offloads.state(Offload::RxChecksum), State::FalselyRight);
    let before = router.sent(1).len();
    receive(&mut router, &lie);
    assert_eq!((before, router.sent(1).len()), (62, 0));
}

#[test]
fn a_packet_that_was_forwarded_with_a_wrong_checksum_still_has_one() {
    let (mut router, _) = router(State::InUse, State::NotAsked);
    receive(&mut router, &[(frame(1, false), Checksum::Right)]);
    let mut sent = router.sent(1).remove(0).split_off(14);
    let got = [sent[10], sent[11]];
    common::set_ipv4_checksum(&mut sent);
    assert_ne!([sent[10], sent[11]], got, "the next router drops it");
}

#[test]
fn what_it_says_nothing_of_is_checked() {
    let (mut router, offloads) = router(State::InUse, State::NotAsked);
    let v6 = [ethernet(&[], 0x86dd), ipv6(0x2002 << 112, 0x2001 << 112 | 1, 64, 10)].concat();
    let mixed = [
        (v6, Checksum::Unknown),
        (frame(1, true), Checksum::Right),
        (frame(1, false), Checksum::Unknown),
        (frame(1, false), Checksum::Wrong),
    ];
    receive(&mut router, &mixed);
    assert_eq!((router.sent(1).len(), router.ends(0)), (2, vec![("ipv4_checksum", 2)]));
    assert_eq!(offloads.state(Offload::RxChecksum), State::InUse);
}

#[test]
fn a_nic_that_never_says_anything_is_not_asked_for_ever() {
    let (mut router, offloads) = router(State::Checking, State::NotAsked);
    let all = vec![(frame(1, true), Checksum::Unknown); 4 * ENOUGH as usize];
    receive(&mut router, &all);
    assert_eq!(offloads.state(Offload::RxChecksum), State::Silent);
    assert_eq!(router.sent(1).len(), all.len());
}

/// Has frames come on the queues that stand with them, in their order; returns what becomes of RSS. A queue is another
/// worker here.
fn dealt(frames: impl IntoIterator<Item = (Vec<u8>, usize)>) -> Arc<PortOffloads> {
    let offloads =
        Arc::new(PortOffloads::new([State::NotAsked, State::Checking, State::NotAsked, State::NotAsked]));
    let mut workers: Vec<_> = (0..2)
        .map(|worker| {
            let (mut router, _) = router(State::NotAsked, State::NotAsked);
            router.worker = router.worker.with_checks(Checks::new(&[Arc::clone(&offloads)], worker));
            router
        })
        .collect();
    for (frame, queue) in frames {
        receive(&mut workers[queue], &[(frame, Checksum::Unknown)]);
    }
    offloads
}

/// What becomes of RSS when each flow of so many comes on the queue that `queue` says, three times.
fn rss(flows: u16, queue: impl Fn(u16, u16) -> usize) -> State {
    let all = (0..3).flat_map(|time| (0..flows).map(move |flow| (flow, time)));
    dealt(all.map(|(flow, time)| (frame(flow, true), queue(flow, time)))).state(Offload::Rss)
}

/// As [`frame`], with tags of these VLAN ids.
fn tagged(flow: u16, vids: &[u16]) -> Vec<u8> {
    let tags: Vec<_> = vids.iter().map(|vid| (0x8100, *vid)).collect();
    [ethernet(&tags, 0x0800), frame(flow, true).split_off(14)].concat()
}

#[test]
fn rss_must_deal_flows_out_and_never_split_one() {
    assert_eq!(rss(2000, |flow, _| usize::from(flow % 2)), State::InUse);
    assert_eq!(rss(2000, |_, _| 1), State::OneQueue);
    assert_eq!(rss(2000, |flow, time| usize::from((flow + time) % 2)), State::FlowSplit);
    // One of many, and late.
    assert_eq!(
        rss(500, |flow, time| usize::from((flow % 2) ^ u16::from(flow == 7 && time == 2))),
        State::FlowSplit
    );
    assert_eq!(rss(20, |_, _| 0), State::Checking, "too few to tell");
}

#[test]
fn frames_are_judged_by_how_many_tags_they_have() {
    // It looks behind one tag, not behind two.
    let queue = |flow, vids: &[u16]| if vids.len() < 2 { usize::from(flow % 2) } else { 0 };
    let kinds: [&[u16]; 3] = [&[], &[10], &[100, 20]];
    let all = |kinds: &[&[u16]]| {
        let all = kinds.iter().flat_map(|vids| (0..600).map(|flow| (tagged(flow, vids), queue(flow, vids))));
        dealt(all.collect::<Vec<_>>())
    };
    let offloads = all(&kinds);
    assert_eq!(offloads.state(Offload::Rss), State::InUse);
    assert_eq!(offloads.not_dealt_out().names().as_deref(), Some("two tags"));
    let offloads = all(&kinds[..2]);
    assert_eq!((offloads.state(Offload::Rss), offloads.not_dealt_out()), (State::InUse, Kinds::NONE));
    // Where those with two tags come first, software has its turn, and keeps it.
    let offloads = all(&[kinds[2], kinds[0], kinds[1]]);
    assert_eq!((offloads.state(Offload::Rss), offloads.not_dealt_out()), (State::OneQueue, Kinds::ALL));
}

#[test]
fn the_same_addresses_in_another_vlan_are_another_flow() {
    for [one, other] in [[&[10][..], &[11]], [&[100, 10], &[101, 10]], [&[100, 10], &[100, 11]], [&[], &[10]]]
    {
        let all = (0..300).flat_map(|flow| [(tagged(flow, one), 0), (tagged(flow, other), 1)]);
        assert_ne!(dealt(all).state(Offload::Rss), State::FlowSplit, "{one:?} {other:?}");
    }
    let split = [(tagged(1, &[10]), 0), (tagged(1, &[0x600a]), 1)];
    assert_eq!(dealt(split).state(Offload::Rss), State::FlowSplit, "with another priority it is the same");
}

#[test]
fn tags_that_the_nic_took_off_count() {
    let offloads =
        Arc::new(PortOffloads::new([State::NotAsked, State::InUse, State::NotAsked, State::NotAsked]));
    let (mut router, _) = router(State::NotAsked, State::NotAsked);
    router.worker = router.worker.with_checks(Checks::new(&[Arc::clone(&offloads)], 0));
    for flow in 0..600 {
        let mut packet = HeapPacket::new(&tagged(flow, &[20]));
        packet.stripped = StrippedTags::One(100);
        router.receive_packet(0, packet);
        router.run();
    }
    assert_eq!(offloads.not_dealt_out().names().as_deref(), Some("two tags"));
}

#[test]
fn flows_that_hash_alike_may_have_a_queue_each() {
    // Two hosts, each with the other's number of the network as its own, in the place of the interface.
    let frame = |source: u128| {
        let mut packet = ipv6(source, 0x2001 << 112 | 1, 64, 18);
        packet[40..44].copy_from_slice(&[0, 123, 0, 123]);
        [ethernet(&[], 0x86dd), packet].concat()
    };
    let [one, other] = [(1 << 64 | 2), (2 << 64 | 1)].map(|host: u128| frame(0x2002 << 112 | host));
    assert_eq!(flow::of_frame(&one), flow::of_frame(&other));
    let state =
        |frames: [&Vec<u8>; 2]| dealt([(frames[0].clone(), 0), (frames[1].clone(), 1)]).state(Offload::Rss);
    assert_eq!(state([&one, &other]), State::Checking);
    assert_eq!(state([&one, &one]), State::FlowSplit);
}

#[test]
fn ports_that_have_nothing_to_look_at_are_not_looked_at() {
    let port = |state| Arc::new(PortOffloads::new([state; 4]));
    for state in [State::NotAsked, State::NotGranted] {
        assert!(Checks::new(&[port(state), port(state)], 0).is_none());
    }
    assert!(Checks::new(&[port(State::NotAsked), port(State::Checking)], 0).is_some());
}

/// A router with VLANs 10 and 20 on its first port, which is to take tags off.
fn with_vlans() -> (Router, Arc<PortOffloads>) {
    let vlan = |vid| sub_if(0, Tags::One(common::tag(0x8100, vid)), 0);
    let routes = Routes { v4: vec![(0, 0x0a00_0000, 8, Target::Via(vec![2]))], v6: vec![] };
    let mut router = Router::new(2, vec![vlan(10), vlan(20), sub_if(1, Tags::Untagged, 0)], &routes);
    let offloads =
        Arc::new(PortOffloads::new([State::NotAsked, State::NotAsked, State::Checking, State::NotAsked]));
    let none = Arc::new(PortOffloads::new([State::NotAsked; 4]));
    router.worker = router.worker.with_checks(Checks::new(&[Arc::clone(&offloads), none], 0));
    (router, offloads)
}

/// Has a packet of a flow come in VLAN `vid`, in a burst of its own. `off`: with its tag taken off.
fn in_vlan(router: &mut Router, flow: u16, vid: u16, off: bool) {
    let untagged = frame(flow, true);
    let tag = [0x81, 0, (vid >> 8) as u8 | 0x60, vid as u8];
    let mut packet = if off {
        HeapPacket::new(&untagged)
    } else {
        HeapPacket::new(&[&untagged[..12], &tag, &untagged[12..]].concat())
    };
    packet.stripped = if off { StrippedTags::One(vid | 0x6000) } else { StrippedTags::None };
    router.receive_packet(0, packet);
    router.run();
}

/// The VLAN that a flow is in.
fn vlan_of(flow: u16) -> u16 {
    10 + flow % 2 * 10
}

/// Has so many flows be looked at with their tags on, and then has tags taken off.
fn learned(router: &mut Router, offloads: &PortOffloads) {
    for flow in 0..ENOUGH_TAGS as u16 {
        assert!(!offloads.wants_tags_off());
        in_vlan(router, flow, vlan_of(flow), false);
    }
    assert!(offloads.wants_tags_off());
    offloads.takes_tags_off(true);
}

#[test]
fn tags_are_told_of_rightly_if_they_are_those_that_were_seen() {
    let (mut router, offloads) = with_vlans();
    learned(&mut router, &offloads);
    let mut sent = router.sent(1).len() as u64;
    // Some flows share a place, and the second one is not known.
    for flow in (0..ENOUGH_TAGS as u16).cycle().take(2 * ENOUGH_TAGS as usize) {
        if sent < 3 * ENOUGH_TAGS {
            assert_eq!(offloads.state(Offload::VlanStrip), State::Checking, "too early");
        }
        // Another flow decides nothing.
        in_vlan(&mut router, flow + 1000, 20, true);
        in_vlan(&mut router, flow, vlan_of(flow), true);
        sent += router.sent(1).len() as u64;
    }
    assert_eq!(offloads.state(Offload::VlanStrip), State::InUse);
    assert!(offloads.wants_tags_off());
    assert_eq!((sent, router.ends(0)), (5 * ENOUGH_TAGS, vec![]));
}

#[test]
fn another_tag_than_was_seen_ends_it() {
    let (mut router, offloads) = with_vlans();
    learned(&mut router, &offloads);
    in_vlan(&mut router, 7, vlan_of(7), true);
    assert_eq!(offloads.state(Offload::VlanStrip), State::Checking);
    in_vlan(&mut router, 7, vlan_of(8), true);
    assert_eq!(offloads.state(Offload::VlanStrip), State::OtherTag);
    assert!(!offloads.wants_tags_off(), "they are left on from now on");
}

#[test]
fn a_flow_in_two_vlans_decides_nothing() {
    let (mut router, offloads) = with_vlans();
    in_vlan(&mut router, 9000, 10, false);
    in_vlan(&mut router, 9000, 20, false);
    for flow in 2..ENOUGH_TAGS as u16 {
        in_vlan(&mut router, flow, vlan_of(flow), false);
    }
    offloads.takes_tags_off(true);
    for vid in [10, 20].repeat(ENOUGH_TAGS as usize) {
        in_vlan(&mut router, 9000, vid, true);
    }
    assert_eq!(offloads.state(Offload::VlanStrip), State::Checking);
}

#[test]
fn tags_that_stay_on_end_it() {
    let (mut router, offloads) = with_vlans();
    learned(&mut router, &offloads);
    for _ in 0..4096 {
        in_vlan(&mut router, 3, vlan_of(3), false);
    }
    assert_eq!(offloads.state(Offload::VlanStrip), State::Checking);
    in_vlan(&mut router, 3, vlan_of(3), false);
    assert_eq!(offloads.state(Offload::VlanStrip), State::LeftOn);
}

#[test]
fn a_port_that_does_not_change_is_left_alone() {
    let (_, offloads) = with_vlans();
    offloads.takes_tags_off(false);
    assert_eq!(offloads.state(Offload::VlanStrip), State::Fixed);
    assert!(!offloads.wants_tags_off());
}
