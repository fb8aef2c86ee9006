//! Traces and captures on the whole worker: what is recorded is what happened, and recorded + missed = matched.
#![allow(clippy::unwrap_used)] // helpers of tests

mod common;

use std::sync::Arc;

use common::{OUR_MAC, PEER_MAC, Router, Routes, Target, ethernet, ipv4, sub_if, tag};
use dataplane::ids::{AdjId, PortId, SubIfId, VrfId};
use dataplane::packet::{HeapPacket, Packet as _, StrippedTags};
use dataplane::punt::Injected;
use dataplane::sub_interface::Tags;
use dataplane::verdict::{DropReason, PuntReason, Verdict};
use dataplane::watch::{Counts, Fields, Kind, Op, Out, Place, Program, Record, Session, Term, Watch, What};
use proptest::prelude::*;

const ALL: What = What::Capture { received: true, sent: true, dropped: true };
const IN: What = What::Capture { received: true, sent: false, dropped: false };
const OUT: What = What::Capture { received: false, sent: true, dropped: false };
const DROP: What = What::Capture { received: false, sent: false, dropped: true };

/// Port 0: LAN, untagged. Port 1: a circuit, QinQ.
fn router() -> Router {
    let sub_ifs = vec![
        sub_if(0, Tags::Untagged, 0),
        sub_if(1, Tags::Two(tag(0x8100, 10), tag(0x8100, 100)), 0),
        sub_if(1, Tags::One(tag(0x8100, 7)), 1),
    ];
    let routes = Routes {
        v4: vec![
            (0, 0xc000_0200, 24, Target::Via(vec![0])),
            (0, 0x0a00_0000, 8, Target::Via(vec![1])),
            (0, 0xc000_0201, 32, Target::Local),
        ],
        ..Routes::default()
    };
    Router::new(2, sub_ifs, &routes)
}

fn watch(router: &Router, sessions: &[(What, Place, &[Op])], records: usize) -> Vec<Arc<Session>> {
    let session = |(what, place, ops): &(What, Place, &[Op])| {
        Arc::new(Session::new(*what, *place, Program::new(ops).unwrap(), 1, router.ports, records, 256))
    };
    let sessions: Vec<_> = sessions.iter().map(session).collect();
    let mut tables = router.domain_tables.clone();
    tables.watch = Some(Arc::new(Watch::new(sessions.clone())));
    router.domain.publish(tables);
    sessions
}

fn records(session: &Session) -> Vec<Record> {
    let mut records = Vec::new();
    session.drain(0, usize::MAX, |record| records.push(record.clone()));
    records
}

fn counts(session: &Session) -> Counts {
    let of = |port| session.counts(PortId(port));
    Counts { matched: of(0).matched + of(1).matched, missed: of(0).missed + of(1).missed }
}

fn from_cloud(ttl: u8) -> Vec<u8> {
    let l2 = ethernet(&[(0x8100, 0xa00a), (0x8100, 100)], 0x0800);
    [l2, ipv4([10, 1, 2, 3], [192, 0, 2, 77], ttl, 30)].concat()
}

fn to_cloud() -> Vec<u8> {
    [ethernet(&[], 0x0800), ipv4([192, 0, 2, 77], [10, 1, 2, 3], 64, 30)].concat()
}

fn unknown_tag() -> Vec<u8> {
    [ethernet(&[(0x8100, 999)], 0x0800), ipv4([10, 1, 2, 3], [192, 0, 2, 77], 64, 30)].concat()
}

#[test]
fn a_capture_has_frames_as_they_came_and_as_they_left() {
    let mut router = router();
    let sessions = watch(&router, &[(ALL, Place::Anywhere, &[]), (OUT, Place::Anywhere, &[])], 64);
    router.receive(1, &from_cloud(64));
    router.run();
    let sent = router.sent(0);
    let all = records(&sessions[0]);
    assert_eq!(all.len(), 2);
    let came = &all[0];
    assert_eq!((came.kind, came.verdict), (Kind::Received, Verdict::Forward));
    assert_eq!((came.port, came.sub_if), (PortId(1), Some(SubIfId(1))));
    assert_eq!((came.bytes(), came.frame_len as usize), (&from_cloud(64)[..], from_cloud(64).len()));
    let left = &all[1];
    assert_eq!((left.kind, left.verdict), (Kind::Sent, Verdict::Forward));
    assert_eq!((left.port, left.sub_if), (PortId(0), Some(SubIfId(0))));
    assert_eq!(left.bytes(), sent[0]);
    assert!(left.cycles > came.cycles);
    assert_eq!(records(&sessions[1]).len(), 1);
    assert_eq!(counts(&sessions[0]), Counts { matched: 2, missed: 0 });
}

#[test]
fn a_trace_has_what_was_decided() {
    let mut router = router();
    let session = watch(&router, &[(What::Trace, Place::Anywhere, &[])], 64).remove(0);
    router.receive(1, &from_cloud(64));
    router.receive(1, &unknown_tag());
    router.receive(1, &from_cloud(1));
    router.run();
    let sent = router.sent(0);
    let all = records(&session);
    assert_eq!(all.len(), 3);
    let went = &all[0];
    assert_eq!(went.bytes(), from_cloud(64));
    assert_eq!((went.verdict, went.sub_if, went.vrf), (Verdict::Forward, Some(SubIfId(1)), Some(VrfId(0))));
    let (group, adjacency) = (went.group.unwrap(), went.adjacency.unwrap());
    assert_eq!(adjacency, router.domain_tables.member(router.domain_tables.group(group), 0));
    assert_eq!(went.out, Some(Out { port: PortId(0), sub_if: SubIfId(0), len: sent[0].len() as u16 }));
    assert_eq!(went.sent(), &sent[0][..62]);
    assert_eq!(went.sent()[..12], [PEER_MAC, OUR_MAC].concat());
    let dropped = &all[1];
    assert_eq!(dropped.verdict, Verdict::Drop(DropReason::UnknownTag));
    assert_eq!((dropped.sub_if, dropped.vrf, dropped.group, dropped.adjacency), (None, None, None, None));
    assert_eq!((dropped.out, dropped.sent()), (None, &[][..]));
    let punted = &all[2];
    assert_eq!(punted.verdict, Verdict::Punt(PuntReason::TtlExpired));
    assert_eq!((punted.group, punted.adjacency), (Some(group), Some(adjacency)));
    assert_eq!((punted.bytes(), punted.sent()), (&from_cloud(1)[..], &[][..]));
    router.assert_adds_up();
}

#[test]
fn places_and_expressions_choose() {
    let mut router = router();
    let lan = Place::SubInterface(PortId(0), SubIfId(0));
    let cloud = Place::SubInterface(PortId(1), SubIfId(1));
    let tagged: &[Op] = &[Op::Ask(Term::Outer(10))];
    let sessions = [
        (ALL, lan, &[][..]),
        (ALL, cloud, tagged),
        (What::Trace, lan, &[Op::Ask(Term::Dropped)]),
        (DROP, Place::Port(PortId(1)), &[Op::Ask(Term::DroppedFor(DropReason::UnknownTag))]),
    ];
    let sessions = watch(&router, &sessions, 64);
    router.receive(1, &from_cloud(64));
    router.receive(1, &unknown_tag());
    router.receive(0, &to_cloud());
    router.run();
    let seen = |session: &Session| -> Vec<_> {
        records(session).iter().map(|record| (record.kind, record.port.0, record.verdict)).collect()
    };
    let dropped = Verdict::Drop(DropReason::UnknownTag);
    assert_eq!(
        seen(&sessions[0]),
        [(Kind::Received, 0, Verdict::Forward), (Kind::Sent, 0, Verdict::Forward)]
    );
    assert_eq!(
        seen(&sessions[1]),
        [(Kind::Sent, 1, Verdict::Forward), (Kind::Received, 1, Verdict::Forward)]
    );
    assert_eq!(seen(&sessions[2]), []);
    assert_eq!(seen(&sessions[3]), [(Kind::Received, 1, dropped)]);
}

#[test]
fn a_full_queue_drops_what_was_to_be_sent() {
    let mut router = router();
    let sessions = [
        (ALL, Place::Anywhere, &[][..]),
        (DROP, Place::Port(PortId(0)), &[]),
        (OUT, Place::Anywhere, &[]),
        (What::Trace, Place::Port(PortId(0)), &[Op::Ask(Term::DroppedFor(DropReason::TxQueueFull))]),
    ];
    let sessions = watch(&router, &sessions, 64);
    router.io.0.lock().unwrap().tx_room = 1;
    let full = Verdict::Drop(DropReason::TxQueueFull);
    // All on one way, and with others between them.
    for between in [None, Some(unknown_tag())] {
        for frame in [Some(from_cloud(64)), between.clone(), Some(from_cloud(63))].into_iter().flatten() {
            router.receive(1, &frame);
        }
        router.run();
        assert_eq!(router.sent(0).len(), 1);
        let all = records(&sessions[0]);
        let ends = |kind| all.iter().filter(|r| r.kind == kind).map(|r| r.verdict).collect::<Vec<_>>();
        let unknown = between.map(|_| Verdict::Drop(DropReason::UnknownTag));
        let expected: Vec<_> = [Some(Verdict::Forward), unknown, Some(full)].into_iter().flatten().collect();
        assert_eq!(ends(Kind::Received), expected);
        assert_eq!(ends(Kind::Sent), [Verdict::Forward, full]);
        let refused = records(&sessions[1]).remove(0);
        assert_eq!((refused.kind, refused.verdict, refused.port), (Kind::Sent, full, PortId(0)));
        // As it would have been sent: untagged, its TTL less by one.
        assert_eq!((refused.bytes()[12..14].to_vec(), refused.bytes()[22]), (vec![8, 0], 62));
        assert_eq!(records(&sessions[2]).iter().map(|r| r.verdict).collect::<Vec<_>>(), [Verdict::Forward]);
        let traced = records(&sessions[3]).remove(0);
        assert_eq!((traced.verdict, traced.bytes()), (full, &from_cloud(63)[..]));
        assert!(router.worker.round() || router.io.0.lock().unwrap().rx[1].is_empty());
    }
    router.assert_adds_up();
}

#[test]
fn packets_over_their_punt_budget_were_dropped() {
    let mut router = router();
    let session = watch(&router, &[(DROP, Place::Anywhere, &[])], 4096).remove(0);
    for _ in 0..2000 {
        router.receive(1, &from_cloud(1));
    }
    router.run();
    let policed = router.ends(1).iter().find(|(name, _)| *name == "punt_policed").unwrap().1;
    assert!(policed > 0);
    let all = records(&session);
    assert_eq!(all.len() as u64, policed);
    assert!(all.iter().all(|record| record.verdict == Verdict::Drop(DropReason::PuntPoliced)));
    assert_eq!(counts(&session), Counts { matched: policed, missed: 0 });
}

#[test]
fn injected_packets_are_sent_or_dropped() {
    let mut router = router();
    let sessions =
        [(ALL, Place::Anywhere, &[][..]), (What::Trace, Place::Anywhere, &[]), (IN, Place::Anywhere, &[])];
    let sessions = watch(&router, &sessions, 64);
    let inject = |router: &Router| {
        let packet = HeapPacket::new(&to_cloud());
        let injected =
            Injected { packet, port: PortId(1), sub_if: SubIfId(1), l3_len: 58, tag_by_nic: false };
        assert!(router.rings.inject.push(injected).is_ok());
    };
    inject(&router);
    router.run();
    for session in &sessions[..2] {
        let record = records(session).remove(0);
        assert_eq!((record.kind, record.verdict, record.port), (Kind::Injected, Verdict::Forward, PortId(1)));
        assert_eq!((record.bytes(), record.sub_if), (&to_cloud()[..], Some(SubIfId(1))));
    }
    assert_eq!(records(&sessions[2]).len(), 0);
    router.io.0.lock().unwrap().tx_room = 0;
    inject(&router);
    router.run();
    // It was tried again and again, and is recorded once.
    let record = records(&sessions[0]);
    assert_eq!(record.len(), 1);
    assert_eq!(record[0].verdict, Verdict::Drop(DropReason::TxQueueFull));
    assert_eq!(counts(&sessions[0]), Counts { matched: 2, missed: 0 });
}

#[test]
fn tags_that_the_nic_took_off_are_put_back() {
    let mut router = router();
    let sessions = watch(&router, &[(IN, Place::Anywhere, &[Op::Ask(Term::Inner(100))])], 64);
    let mut frame = from_cloud(64);
    frame.drain(12..20);
    let mut packet = HeapPacket::new(&frame);
    packet.stripped = StrippedTags::Two { outer: 0xa00a, inner: 100 };
    router.receive_packet(1, packet);
    router.run();
    assert_eq!(records(&sessions[0])[0].bytes(), from_cloud(64));
}

#[test]
fn tags_that_the_nic_took_off_are_none_of_a_frame_that_leaves() {
    let mut router = router();
    let inner: &[Op] = &[Op::Ask(Term::Inner(100))];
    let sessions = watch(&router, &[(OUT, Place::Anywhere, &[]), (OUT, Place::Anywhere, inner)], 64);
    let stripped = || {
        let mut frame = from_cloud(64);
        frame.drain(12..20);
        let mut packet = HeapPacket::new(&frame);
        packet.stripped = StrippedTags::Two { outer: 0xa00a, inner: 100 };
        packet
    };
    router.receive_packet(1, stripped());
    router.run();
    let sent = router.sent(0);
    assert_eq!(records(&sessions[0])[0].bytes(), sent[0], "it left without tags");
    // One that a TX queue had no room for, and one of the control thread in such a buffer.
    let dropped = watch(&router, &[(DROP, Place::Anywhere, &[]), (DROP, Place::Anywhere, inner)], 64);
    router.io.0.lock().unwrap().tx_room = 0;
    router.receive_packet(1, stripped());
    router.run();
    assert_eq!(records(&dropped[0])[0].bytes(), sent[0]);
    router.io.0.lock().unwrap().tx_room = usize::MAX;
    let own = watch(&router, &[(OUT, Place::Anywhere, &[]), (OUT, Place::Anywhere, inner)], 64);
    let injected =
        Injected { packet: stripped(), port: PortId(0), sub_if: SubIfId(0), l3_len: 50, tag_by_nic: false };
    assert!(router.rings.inject.push(injected).is_ok());
    router.run();
    assert_eq!(records(&own[0])[0].bytes(), stripped().bytes());
    let unmatched = [&sessions[1], &dropped[1], &own[1]].map(|session| counts(session).matched);
    assert_eq!(unmatched, [0, 0, 0], "no tag of it is looked at");
}

#[test]
fn a_closed_session_costs_and_records_nothing() {
    let mut router = router();
    let session = watch(&router, &[(ALL, Place::Anywhere, &[])], 64).remove(0);
    session.close();
    router.receive(1, &from_cloud(64));
    router.run();
    assert_eq!((records(&session).len(), counts(&session)), (0, Counts::default()));
    let weak = Arc::downgrade(&session);
    drop(session);
    router.domain.publish(router.domain_tables.clone());
    router.run();
    router.domain.collect();
    assert!(weak.upgrade().is_none(), "its memory goes with the tables that named it");
}

#[test]
fn an_adjacency_from_an_earlier_burst_is_not_taken_for_chosen() {
    let mut router = router();
    let session = watch(&router, &[(What::Trace, Place::Anywhere, &[])], 64).remove(0);
    router.receive(1, &from_cloud(64));
    router.run();
    router.receive(1, &[ethernet(&[(0x8100, 10), (0x8100, 100)], 0x0806), vec![0; 28]].concat());
    router.run();
    let all = records(&session);
    assert_eq!(all[0].adjacency.map(|id| id >= AdjId::FIRST_FREE), Some(true));
    assert_eq!((all[1].verdict, all[1].adjacency), (Verdict::Punt(PuntReason::Arp), None));
}

/// A frame of one of the kinds above, by number.
fn any_frame(kind: u8) -> (usize, Vec<u8>) {
    match kind % 5 {
        0 => (1, from_cloud(64)),
        1 => (1, unknown_tag()),
        2 => (1, from_cloud(1)),
        3 => (0, to_cloud()),
        _ => (0, vec![kind; usize::from(kind)]),
    }
}

proptest! {
    /// Whatever comes, however small the room and however often it is emptied: captured + missed = matched, matched is
    /// what a simple count says, and packets go the way that they go unwatched.
    #[test]
    fn captured_and_missed_are_all_that_matched(
        bursts in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..100), 1..12),
        records_each in 1usize..80,
        drained in any::<u16>(),
        tx_room in prop_oneof![Just(usize::MAX), 0usize..40],
    ) {
        let (mut plain, mut watched) = (router(), router());
        let udp: &[Op] = &[Op::Ask(Term::Protocol(17))];
        let sessions = [
            (ALL, Place::Anywhere, &[][..]),
            (What::Trace, Place::Anywhere, udp),
            (IN, Place::Port(PortId(1)), udp),
            (DROP, Place::Anywhere, &[]),
        ];
        let sessions = watch(&watched, &sessions, records_each);
        let (mut captured, mut udp_seen, mut udp_on_1) = ([0u64; 4], 0, 0);
        for (number, burst) in bursts.iter().enumerate() {
            for router in [&plain, &watched] {
                router.io.0.lock().unwrap().tx_room = tx_room;
                for kind in burst {
                    let (port, frame) = any_frame(*kind);
                    router.receive(port, &frame);
                }
            }
            for kind in burst {
                let (port, frame) = any_frame(*kind);
                let is_udp = Fields::of(&frame, StrippedTags::None).protocol == Some(17);
                udp_seen += u64::from(is_udp);
                udp_on_1 += u64::from(is_udp && port == 1);
            }
            plain.run();
            watched.run();
            for port in 0..2 {
                prop_assert_eq!(plain.sent(port), watched.sent(port));
            }
            if drained >> number & 1 == 1 {
                for (session, captured) in sessions.iter().zip(&mut captured) {
                    *captured += records(session).len() as u64;
                }
            }
        }
        for port in 0..2 {
            prop_assert_eq!(plain.ends(port), watched.ends(port));
        }
        watched.assert_adds_up();
        let sum = |of: &dyn Fn(&dataplane::counters::PortCounters) -> u64| -> u64 {
            (0..2).map(|port| of(watched.counters.port(PortId(port)))).sum()
        };
        let received = sum(&|c| c.received.get());
        let sent = sum(&|c| c.sent.get());
        let dropped = sum(&|c| c.dropped.iter().map(dataplane::counters::Counter::get).sum());
        let full = sum(&|c| c.dropped[DropReason::TxQueueFull.index()].get());
        let matched: Vec<u64> = sessions.iter().map(|session| counts(session).matched).collect();
        prop_assert_eq!(matched, vec![received + sent + full, udp_seen, udp_on_1, dropped]);
        for (session, captured) in sessions.iter().zip(&mut captured) {
            *captured += records(session).len() as u64;
            let Counts { matched, missed } = counts(session);
            prop_assert_eq!(*captured + missed, matched);
        }
    }
}
