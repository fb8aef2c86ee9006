//! The whole worker on good and bad packets: each ends with the verdict that its fault asks for, and the
//! counters add up.

mod common;

use common::{Router, Routes, Target, ethernet, ipv4, ipv6, set_ipv4_checksum, sub_if, tag};
use dataplane::burst::BURST;
use dataplane::ids::{PortId, SubIfId};
use dataplane::packet::{HeapPacket, Packet};
use dataplane::punt::Injected;
use dataplane::sub_interface::Tags;
use proptest::prelude::*;

const CLOUD: [u8; 4] = [10, 1, 2, 3];
const HOST: [u8; 4] = [192, 0, 2, 1];

/// Port 0: LAN, untagged, VRF 0. Port 1: a circuit, QinQ, VRF 0, and another peering, VRF 1.
fn router() -> Router {
    let qinq = |inner| Tags::Two(tag(0x8100, 100), tag(0x8100, inner));
    let sub_ifs = vec![sub_if(0, Tags::Untagged, 0), sub_if(1, qinq(10), 0), sub_if(1, qinq(20), 1)];
    let routes = Routes {
        v4: vec![
            (0, 0x0a01_0000, 16, Target::Via(vec![1])),
            (0, 0x0a02_0000, 16, Target::Discard),
            (0, 0x0a03_0000, 16, Target::Unresolved),
            (0, 0xc000_0201, 32, Target::Local),
            (0, 0xa9fe_0000, 16, Target::Via(vec![1])),
            (0, 0xa9fe_0001, 32, Target::Local),
            (1, 0x0a01_0000, 16, Target::Via(vec![2])),
        ],
        v6: vec![
            (0, 0x2001_0db8 << 96, 32, Target::Via(vec![1])),
            (0, 0xfd00 << 112 | 1, 128, Target::Local),
        ],
    };
    Router::new(2, sub_ifs, &routes)
}

fn v4_frame(destination: [u8; 4], change: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
    let mut packet = ipv4([192, 0, 2, 77], destination, 64, 20);
    change(&mut packet);
    [ethernet(&[], 0x0800), packet].concat()
}

/// What becomes of one frame received on port 0: "forward", or the reason's name.
fn fate(frame: &[u8]) -> String {
    let mut router = router();
    router.receive(0, frame);
    router.run();
    router.assert_adds_up();
    let sent: usize = (0..2).map(|port| router.sent(port).len()).sum();
    match (sent, router.ends(0).as_slice()) {
        (1, []) => "forward".into(),
        (0, [(name, 1)]) => (*name).into(),
        other => format!("{other:?}"),
    }
}

#[test]
fn only_what_brings_packets_is_busy() {
    let mut router = router();
    let busy = |router: &Router| router.counters.work.busy_cycles.get();
    for _ in 0..100 {
        assert!(!router.worker.round());
    }
    assert_eq!(busy(&router), 0);
    // Each look at the clock takes a thousand: neither what came before nor the other queue counts.
    for packets in 1..=3 {
        router.receive(1, &v4_frame(CLOUD, |_| {}));
        let before = busy(&router);
        assert!(router.worker.round());
        let taken = busy(&router) - before;
        assert!((1000..5000).contains(&taken), "{taken} cycles for packet {packets}");
        router.worker.round();
        assert_eq!(busy(&router), before + taken, "an empty round");
    }
    router.assert_adds_up();
}

#[test]
fn each_fault_has_its_reason() {
    let sum = |packet: &mut Vec<u8>| set_ipv4_checksum(packet);
    let with = |change: &dyn Fn(&mut Vec<u8>)| {
        fate(&v4_frame(CLOUD, |p| {
            change(p);
            sum(p);
        }))
    };
    assert_eq!(with(&|_| {}), "forward");
    assert_eq!(with(&|p| p[0] = 0x55), "ipv4_header");
    assert_eq!(with(&|p| p[0] = 0x44), "ipv4_header");
    assert_eq!(with(&|p| p[2..4].copy_from_slice(&19u16.to_be_bytes())), "ipv4_length");
    assert_eq!(with(&|p| p[2..4].copy_from_slice(&49u16.to_be_bytes())), "ipv4_length");
    assert_eq!(fate(&v4_frame(CLOUD, |p| p[11] ^= 1)), "ipv4_checksum");
    assert_eq!(with(&|p| p[8] = 1), "ttl_expired");
    assert_eq!(with(&|p| p[8] = 0), "ttl_expired");
    assert_eq!(with(&|p| p[8] = 2), "forward");
    for source in [[0, 1, 2, 3], [127, 0, 0, 1], [224, 0, 0, 1], [240, 0, 0, 1], [255; 4]] {
        assert_eq!(with(&|p| p[12..16].copy_from_slice(&source)), "martian_source");
    }
    for destination in [[0, 1, 2, 3], [127, 0, 0, 1], [240, 0, 0, 1]] {
        assert_eq!(with(&|p| p[16..20].copy_from_slice(&destination)), "martian_destination");
    }
    assert_eq!(with(&|p| p[16..20].copy_from_slice(&[224, 0, 0, 5])), "multicast");
    assert_eq!(with(&|p| p[16..20].fill(255)), "multicast");
    assert_eq!(with(&|p| p[16..20].copy_from_slice(&HOST)), "local");
    assert_eq!(with(&|p| p[16..20].copy_from_slice(&[10, 2, 0, 1])), "discard_route");
    assert_eq!(with(&|p| p[16..20].copy_from_slice(&[10, 3, 0, 1])), "unresolved");
    assert_eq!(with(&|p| p[16..20].copy_from_slice(&[11, 0, 0, 1])), "no_route");
    assert_eq!(with(&|p| p[12..14].copy_from_slice(&[169, 254])), "link_local_source");
}

#[test]
fn link_local_addresses_of_ipv4_stay_on_their_link() {
    let from_to = |source: [u8; 4], destination: [u8; 4]| {
        fate(&v4_frame(destination, |p| {
            p[12..16].copy_from_slice(&source);
            set_ipv4_checksum(p);
        }))
    };
    assert_eq!(from_to(HOST, [169, 254, 7, 7]), "link_local_destination");
    assert_eq!(from_to([169, 254, 7, 7], CLOUD), "link_local_source");
    // A link may have such addresses: to us they come.
    assert_eq!(from_to([169, 254, 0, 2], [169, 254, 0, 1]), "local");
}

#[test]
fn ipv4_options_are_forwarded_punted_or_dropped_by_what_they_ask_for() {
    let with = |options: &[u8]| {
        let mut packet = ipv4([192, 0, 2, 77], CLOUD, 64, 8);
        packet[0] += (options.len() / 4) as u8;
        packet.splice(20..20, options.iter().copied());
        let len = packet.len() as u16;
        packet[2..4].copy_from_slice(&len.to_be_bytes());
        let mut frame = [ethernet(&[], 0x0800), packet].concat();
        set_ipv4_checksum(&mut frame[14..]);
        fate(&frame)
    };
    assert_eq!(with(&[1, 1, 1, 0]), "forward");
    assert_eq!(with(&[130, 4, 0, 0]), "forward");
    assert_eq!(with(&[7, 7, 4, 0, 0, 0, 0, 0]), "ip_options");
    assert_eq!(with(&[68, 8, 5, 0, 0, 0, 0, 0]), "ip_options");
    assert_eq!(with(&[148, 4, 0, 0]), "ip_options");
    assert_eq!(with(&[130, 5, 0, 0]), "ip_options");
    assert_eq!(with(&[131, 7, 4, 1, 2, 3, 4, 0]), "source_route");
    assert_eq!(with(&[137, 7, 4, 1, 2, 3, 4, 0]), "source_route");
}

#[test]
fn each_kind_of_local_packet_has_its_reason() {
    let local = |protocol: u8, source: u16, destination: u16, ttl: u8| {
        fate(&v4_frame(HOST, |p| {
            (p[8], p[9]) = (ttl, protocol);
            p[20..22].copy_from_slice(&source.to_be_bytes());
            p[22..24].copy_from_slice(&destination.to_be_bytes());
            set_ipv4_checksum(p);
        }))
    };
    // A TTL of 1 is right for external BGP.
    assert_eq!(local(6, 50000, 179, 1), "bgp");
    assert_eq!(local(6, 179, 50000, 255), "bgp");
    assert_eq!(local(17, 49152, 3784, 255), "bfd");
    assert_eq!(local(17, 49152, 53, 64), "local");
    assert_eq!(local(1, 0, 0, 64), "local");
}

#[test]
fn faults_of_the_link_layer() {
    let good = v4_frame(CLOUD, |_| {});
    let with = |change: &dyn Fn(&mut Vec<u8>)| {
        let mut frame = good.clone();
        change(&mut frame);
        fate(&frame)
    };
    assert_eq!(with(&|f| f[5] ^= 1), "wrong_destination_mac");
    assert_eq!(with(&|f| f[..6].fill(0xff)), "link_broadcast");
    assert_eq!(with(&|f| f[12..14].copy_from_slice(&[0x08, 0x06])), "arp");
    assert_eq!(with(&|f| f[12..14].copy_from_slice(&[0x88, 0xcc])), "link_control");
    assert_eq!(with(&|f| f[12..14].copy_from_slice(&[0x88, 0x47])), "unknown_ethertype");
    assert_eq!(with(&|f| f[12..14].copy_from_slice(&[0x00, 0x26])), "unknown_ethertype");
    let mut segments = HeapPacket::new(&good);
    segments.segments = 2;
    let mut router = router();
    router.receive_packet(0, segments);
    router.run();
    assert_eq!(router.ends(0), [("multi_segment", 1)]);
}

#[test]
fn faults_of_ipv6() {
    let cloud: u128 = 0x2001_0db8 << 96 | 7;
    let host: u128 = 0xfd00 << 112 | 7;
    let with = |source, destination, hops, change: &dyn Fn(&mut Vec<u8>)| {
        let mut packet = ipv6(source, destination, hops, 20);
        change(&mut packet);
        fate(&[ethernet(&[], 0x86dd), packet].concat())
    };
    assert_eq!(with(host, cloud, 64, &|_| {}), "forward");
    assert_eq!(with(host, cloud, 1, &|_| {}), "ttl_expired");
    assert_eq!(with(host, cloud, 0, &|_| {}), "ttl_expired");
    assert_eq!(with(host, cloud, 64, &|p| p[0] = 0x40), "ipv6_header");
    assert_eq!(with(host, cloud, 64, &|p| p.truncate(39)), "ipv6_header");
    assert_eq!(with(host, cloud, 64, &|p| p.truncate(67)), "ipv6_length");
    assert_eq!(with(0, cloud, 64, &|_| {}), "martian_source");
    assert_eq!(with(1, cloud, 64, &|_| {}), "martian_source");
    assert_eq!(with(0xff02 << 112 | 1, cloud, 64, &|_| {}), "martian_source");
    assert_eq!(with(host, 0, 64, &|_| {}), "martian_destination");
    assert_eq!(with(host, 1, 64, &|_| {}), "martian_destination");
    assert_eq!(with(0xfe80 << 112 | 1, cloud, 64, &|_| {}), "link_local_source");
    assert_eq!(with(0xfe80 << 112 | 1, 0xfd00 << 112 | 1, 64, &|_| {}), "local");
    assert_eq!(with(host, 0xfe80 << 112 | 1, 64, &|_| {}), "local");
    assert_eq!(with(host, 0xff02 << 112 | 5, 64, &|_| {}), "multicast");
    let solicit = |p: &mut Vec<u8>| (p[6], p[40]) = (58, 135);
    assert_eq!(with(host, 0xff02 << 112 | 5, 255, &solicit), "neighbour_discovery");
    assert_eq!(with(host, 0xfd00 << 112 | 1, 255, &solicit), "neighbour_discovery");
    assert_eq!(with(host, 5 << 112, 64, &|_| {}), "no_route");
    assert_eq!(with(0xffff << 32 | 7, cloud, 64, &|_| {}), "martian_source");
    assert_eq!(with(host, 0xffff << 32 | 7, 64, &|_| {}), "martian_destination");
    assert_eq!(with(host, cloud, 64, &|p| p[6] = 0), "hop_by_hop");
    for next in [43, 44, 50, 51, 59, 60, 135, 139, 140, 253, 200] {
        assert_eq!(with(host, cloud, 64, &|p| p[6] = next), "forward", "next header {next}");
    }
}

#[test]
fn larger_than_the_egress_mtu_is_punted_unchanged() {
    let mut frame = [ethernet(&[], 0x0800), ipv4([192, 0, 2, 77], CLOUD, 64, 1473)].concat();
    let mut router = router();
    router.receive(0, &frame);
    router.run();
    assert_eq!(router.ends(0), [("fragment", 1)]);
    frame[20] = 0x40;
    set_ipv4_checksum(&mut frame[14..]);
    let mut router = self::router();
    router.receive(0, &frame);
    router.run();
    assert_eq!(router.ends(0), [("exceeds_mtu", 1)]);
    let punted = router.rings.punt.pop().unwrap();
    assert_eq!(punted.packet.bytes(), frame);
    assert_eq!(punted.sub_if, SubIfId(0));
    assert_eq!(punted.l3_offset, 14);
}

#[test]
fn truncated_frames_of_every_length() {
    let frames = [
        v4_frame(CLOUD, |_| {}),
        [ethernet(&[], 0x86dd), ipv6(0xfd00 << 112 | 7, 0x2001_0db8 << 96, 64, 20)].concat(),
        [ethernet(&[(0x8100, 100), (0x8100, 10)], 0x0800), ipv4(HOST, CLOUD, 64, 20)].concat(),
    ];
    for frame in frames {
        let mut router = router();
        for port in 0..2 {
            for len in 0..=frame.len() {
                router.receive(port, &frame[..len]);
            }
        }
        router.run();
        router.assert_adds_up();
        let forwarded: u64 = (0..2).map(|port| router.counters.port(PortId(port)).forwarded.get()).sum();
        assert!(forwarded <= 1, "only the whole frame can go on");
    }
}

#[test]
fn vrfs_do_not_mix_in_one_burst() {
    let mut router = router();
    for i in 0..100u8 {
        let inner = if i % 3 == 0 { 10 } else { 20 };
        let packet = ipv4([192, 0, 2, 77], [10, 1, 0, i], 64, 4);
        router.receive(1, &[ethernet(&[(0x8100, 100), (0x8100, inner)], 0x0800), packet].concat());
    }
    router.run();
    for frame in router.sent(1) {
        let (inner, last) = (frame[19], frame[22 + 19]);
        assert_eq!(inner, if last % 3 == 0 { 10 } else { 20 }, "a packet left in another VRF");
    }
    assert_eq!(router.counters.port(PortId(1)).forwarded.get(), 100);
}

#[test]
fn flows_spread_over_members_and_each_keeps_to_one() {
    let qinq = |port, inner| sub_if(port, Tags::Two(tag(0x8100, 100), tag(0x8100, inner)), 0);
    let routes = Routes { v4: vec![(0, 0, 0, Target::Via(vec![1, 2, 1, 2]))], v6: vec![] };
    let mut router = Router::new(3, vec![sub_if(0, Tags::Untagged, 0), qinq(1, 10), qinq(2, 10)], &routes);
    for _ in 0..3 {
        for flow in 0..200u8 {
            let frame = [ethernet(&[], 0x0800), ipv4([192, 0, 2, flow], CLOUD, 64, 4)].concat();
            router.receive(0, &frame);
        }
    }
    router.run();
    let flows = |port| router.sent(port).iter().map(|f| f[22 + 15]).collect::<Vec<_>>();
    let (first, second) = (flows(1), flows(2));
    assert_eq!(first.len() + second.len(), 600);
    assert!(first.len() > 200 && second.len() > 200, "{} and {}", first.len(), second.len());
    assert!(first.iter().all(|flow| !second.contains(flow)), "a flow took both members");
}

#[test]
fn what_the_queue_has_no_room_for_is_counted_and_freed() {
    let mut router = router();
    router.io.0.lock().unwrap().tx_room = 10;
    for _ in 0..BURST {
        router.receive(0, &v4_frame(CLOUD, |_| {}));
    }
    router.run();
    assert_eq!(router.ends(0), [("tx_queue_full", 54)]);
    assert_eq!(router.sent(1).len(), 10);
    router.assert_adds_up();
}

/// Has the control thread send a frame on port 1.
fn inject(router: &Router, frame: &[u8]) {
    let packet = HeapPacket::new(frame);
    let (port, sub_if) = (PortId(1), SubIfId(1));
    let injected = Injected { packet, port, sub_if, l3_len: 48, tag_by_nic: false };
    assert!(router.rings.inject.push(injected).is_ok());
}

#[test]
fn injected_frames_leave_and_are_counted_as_sent() {
    let mut router = router();
    let frame = v4_frame(CLOUD, |_| {});
    inject(&router, &frame);
    router.run();
    assert_eq!(router.sent(1), std::slice::from_ref(&frame));
    assert_eq!(router.counters.port(PortId(1)).sent.get(), 1);
    assert_eq!(router.counters.port(PortId(1)).sent_bytes.get(), frame.len() as u64);
    assert_eq!(router.counters.sub_interface(SubIfId(1)).sent.l3_bytes.get(), 48);
    router.assert_adds_up();
}

#[test]
fn a_worker_without_queues_comes_round() {
    use dataplane::grace::GracePeriod;
    let mut router = Router::new(0, vec![], &Routes::default());
    assert!(!router.worker.round());
    let ticket = router.domain.publish(router.domain_tables.clone());
    assert!(!router.domain.has_passed(ticket));
    router.worker.round();
    assert!(router.domain.has_passed(ticket));
}

#[test]
fn an_injected_frame_waits_for_room_and_is_not_lost() {
    let mut router = router();
    router.io.0.lock().unwrap().tx_room = 0;
    let frame = v4_frame(CLOUD, |_| {});
    inject(&router, &frame);
    router.worker.round();
    assert!(router.sent(1).is_empty());
    router.io.0.lock().unwrap().tx_room = 1;
    router.run();
    assert_eq!(router.sent(1), std::slice::from_ref(&frame));
    assert_eq!(router.counters.port(PortId(1)).inject_dropped.get(), 0);
}

fn any_frame() -> impl Strategy<Value = Vec<u8>> {
    let start = prop_oneof![
        Just(v4_frame(CLOUD, |_| {})),
        Just([ethernet(&[], 0x86dd), ipv6(0xfd00 << 112 | 7, 0x2001_0db8 << 96, 64, 20)].concat()),
        Just([ethernet(&[(0x8100, 100), (0x8100, 10)], 0x0800), ipv4(HOST, CLOUD, 64, 20)].concat()),
        prop::collection::vec(any::<u8>(), 0..100),
    ];
    let changes = prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..4);
    (start, changes, 0..120usize).prop_map(|(mut frame, changes, len)| {
        for (at, value) in changes {
            if !frame.is_empty() {
                let at = at.index(frame.len());
                frame[at] = value;
            }
        }
        frame.truncate(len);
        frame
    })
}

proptest! {
    #[test]
    fn whatever_comes_is_counted_once(frames in prop::collection::vec((0..2usize, any_frame()), 1..200)) {
        let mut router = router();
        for (port, frame) in &frames {
            router.receive(*port, frame);
        }
        router.run();
        router.assert_adds_up();
        let received: u64 = (0..2).map(|p| router.counters.port(PortId(p)).received.get()).sum();
        prop_assert_eq!(received, frames.len() as u64);
        let sent: usize = (0..2).map(|port| router.sent(port).len()).sum();
        let forwarded: u64 = (0..2).map(|p| router.counters.port(PortId(p)).forwarded.get()).sum();
        prop_assert_eq!(sent as u64, forwarded);
        let punted: u64 =
            (0..2).flat_map(|p| &router.counters.port(PortId(p)).punted).map(dataplane::counters::Counter::get).sum();
        prop_assert_eq!((router.rings.punt.len() + router.rings.urgent.len()) as u64, punted);
    }
}
