//! What a NIC says of its packets: checked before it counts, and after.
#![allow(clippy::unwrap_used, clippy::panic)]

mod common;

use std::sync::Arc;

use common::{Router, Routes, Target, ethernet, ipv4, ipv6, sub_if};
use dataplane::header::flow;
use dataplane::offload::{Checks, ENOUGH, Offload, PortOffloads, State};
use dataplane::packet::{Checksum, HeapPacket};
use dataplane::sub_interface::Tags;

/// A router with two ports, of which the first's offloads are in this state.
fn router(checksum: State, rss: State) -> (Router, Arc<PortOffloads>) {
    let sub_ifs = vec![sub_if(0, Tags::Untagged, 0), sub_if(1, Tags::Untagged, 0)];
    let routes = Routes {
        v4: vec![(0, 0x0a00_0000, 8, Target::Via(vec![1]))],
        v6: vec![(0, 0x2001 << 112, 16, Target::Via(vec![1]))],
    };
    let mut router = Router::new(2, sub_ifs, &routes);
    let offloads = Arc::new(PortOffloads::new([checksum, rss]));
    let none = Arc::new(PortOffloads::new([State::NotAsked; 2]));
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

/// What becomes of RSS when each flow of so many comes on the queue that `queue` says, three times. A queue is another
/// worker here.
fn rss(flows: u16, queue: impl Fn(u16, u16) -> usize) -> State {
    let offloads = Arc::new(PortOffloads::new([State::NotAsked, State::Checking]));
    let mut workers: Vec<_> = (0..2)
        .map(|worker| {
            let (mut router, _) = router(State::NotAsked, State::NotAsked);
            router.worker = router.worker.with_checks(Checks::new(&[Arc::clone(&offloads)], worker));
            router
        })
        .collect();
    for time in 0..3 {
        for flow in 0..flows {
            receive(&mut workers[queue(flow, time)], &[(frame(flow, true), Checksum::Unknown)]);
        }
    }
    offloads.state(Offload::Rss)
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
fn flows_that_hash_alike_may_have_a_queue_each() {
    // Two hosts, each with the other's number of the network as its own, in the place of the interface.
    let frame = |source: u128| {
        let mut packet = ipv6(source, 0x2001 << 112 | 1, 64, 18);
        packet[40..44].copy_from_slice(&[0, 123, 0, 123]);
        [ethernet(&[], 0x86dd), packet].concat()
    };
    let [one, other] = [(1 << 64 | 2), (2 << 64 | 1)].map(|host: u128| frame(0x2002 << 112 | host));
    assert_eq!(flow::of_frame(&one), flow::of_frame(&other));
    let state = |frames: [&Vec<u8>; 2]| {
        let offloads = Arc::new(PortOffloads::new([State::NotAsked, State::Checking]));
        for (worker, frame) in frames.into_iter().enumerate() {
            let (mut router, _) = router(State::NotAsked, State::NotAsked);
            router.worker = router.worker.with_checks(Checks::new(&[Arc::clone(&offloads)], worker));
            receive(&mut router, &[(frame.clone(), Checksum::Unknown)]);
        }
        offloads.state(Offload::Rss)
    };
    assert_eq!(state([&one, &other]), State::Checking);
    assert_eq!(state([&one, &one]), State::FlowSplit);
}

#[test]
fn ports_that_have_nothing_to_look_at_are_not_looked_at() {
    let port = |state| Arc::new(PortOffloads::new([state; 2]));
    for state in [State::NotAsked, State::NotGranted] {
        assert!(Checks::new(&[port(state), port(state)], 0).is_none());
    }
    assert!(Checks::new(&[port(State::NotAsked), port(State::Checking)], 0).is_some());
}
