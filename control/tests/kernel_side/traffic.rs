//! Frames in both directions: what the kernel sends comes out, what is written is received.

use std::net::{Ipv4Addr, Ipv6Addr, UdpSocket};
use std::time::Duration;

use control::kernel::netns::run_in;
use control::kernel::{NetnsError, WriteOutcome};
use dataplane::ids::SubIfId;

use crate::frames::*;
use crate::harness::*;

const OURS: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);
const THEIRS: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 2);
const OURS6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1);
const THEIRS6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 2);
const QUIET: Duration = Duration::from_millis(300);

fn send_udp(ns: &Namespace, to: &str, data: &[u8]) {
    run_in::<_, NetnsError>(Some(&ns.0), || {
        let from = if to.starts_with('[') { "[::]:0" } else { "0.0.0.0:0" };
        UdpSocket::bind(from).unwrap().send_to(data, to).unwrap();
        Ok(())
    })
    .unwrap();
}

/// Two neighbours set by hand, so that nothing but the test's frames is on the way.
fn with_neighbours(ns: &Namespace) -> Started {
    let started = start(vec![ns.spec(A, "lan", &["192.0.2.1/30", "2001:db8::1/126"])]);
    for neighbour in ["192.0.2.2", "2001:db8::2"] {
        ns.ip(&format!("neigh add {neighbour} dev lan lladdr 02:ee:ee:00:00:02 nud permanent"));
    }
    started
}

#[test]
fn what_the_kernel_sends_arrives_whole_with_checksums() {
    let ns = Namespace::new();
    let started = with_neighbours(&ns);
    let data = vec![0xa5; 1472];
    send_udp(&ns, "192.0.2.2:9", &data);
    started.frame(A, "UDP over IPv4", |frame| {
        let (17, source, destination, udp) = frame.ipv4()? else { return None };
        assert_eq!((frame.destination(), frame.source()), (PEER_MAC, MAC));
        assert_eq!((source, destination), (OURS, THEIRS));
        assert_eq!(checksum4(source, destination, 17, udp), 0, "UDP checksum");
        assert_eq!(&udp[8..], data);
        Some(())
    });
    send_udp(&ns, "[2001:db8::2]:9", &data[..1452]);
    started.frame(A, "UDP over IPv6", |frame| {
        let (17, source, destination, udp) = frame.ipv6()? else { return None };
        assert_eq!((source, destination), (OURS6, THEIRS6));
        assert_eq!(checksum6(source, destination, 17, udp), 0, "UDP checksum");
        assert_eq!(&udp[8..], &data[..1452]);
        Some(())
    });
}

#[test]
fn arp_and_nd_requests_for_us_are_answered() {
    let ns = Namespace::new();
    let started = start(vec![ns.spec(A, "lan", &["192.0.2.1/30", "2001:db8::1/126"])]);
    started.write(A, &arp(1, (PEER_MAC, THEIRS), ([0; 6], OURS), BROADCAST));
    let reply = started.frame(A, "ARP reply", |frame| frame.arp().filter(|arp| arp.0 == 2));
    assert_eq!(reply, (2, MAC, OURS, PEER_MAC, THEIRS));

    started.write(A, &solicit(PEER_MAC, THEIRS6, OURS6));
    started.frame(A, "neighbour advertisement", |frame| {
        let (136, source, destination, message) = frame.icmp6()? else { return None };
        assert_eq!((source, destination), (OURS6, THEIRS6));
        assert_eq!(&message[8..24], &OURS6.octets());
        assert_eq!(&message[24..], [&[2, 1][..], &MAC].concat());
        Some(())
    });
}

#[test]
fn a_tap_does_not_answer_for_the_address_of_another() {
    let ns = Namespace::new();
    let other = Ipv4Addr::new(198, 51, 100, 1);
    let started = start(vec![ns.spec(A, "one", &["192.0.2.1/30"]), ns.spec(B, "two", &["198.51.100.1/30"])]);
    started.write(A, &arp(1, (PEER_MAC, THEIRS), ([0; 6], other), BROADCAST));
    assert!(started.frame_within(QUIET, A, |frame| frame.arp().filter(|arp| arp.0 == 2)).is_none());
    started.write(B, &arp(1, (PEER_MAC, Ipv4Addr::new(198, 51, 100, 2)), ([0; 6], other), BROADCAST));
    started.frame(B, "ARP reply on the right TAP", |frame| frame.arp().filter(|arp| arp.0 == 2));
}

#[test]
fn ping_is_answered() {
    let ns = Namespace::new();
    let started = with_neighbours(&ns);
    started.write(A, &ping4((MAC, PEER_MAC), THEIRS, OURS, b"turnpike"));
    started.frame(A, "echo reply", |frame| {
        let (1, source, destination, icmp) = frame.ipv4()? else { return None };
        assert_eq!((source, destination, icmp[0]), (OURS, THEIRS, 0));
        assert_eq!(checksum(&[icmp]), 0, "ICMP checksum");
        assert_eq!(&icmp[4..], b"\x12\x34\0\x01turnpike");
        Some(())
    });
    started.write(A, &ping6((MAC, PEER_MAC), THEIRS6, OURS6, b"turnpike"));
    started.frame(A, "ICMPv6 echo reply", |frame| {
        let (129, source, destination, icmp) = frame.icmp6()? else { return None };
        assert_eq!((source, destination), (OURS6, THEIRS6));
        assert_eq!(&icmp[4..], b"\x12\x34\0\x01turnpike");
        Some(())
    });
    // With another destination MAC it is not for us.
    started.write(A, &ping4((PEER_MAC, PEER_MAC), THEIRS, OURS, b"astray"));
    assert!(started.frame_within(QUIET, A, |frame| frame.ipv4().filter(|ip| ip.0 == 1).map(drop)).is_none());
}

#[test]
fn router_advertisements_are_not_believed() {
    let ns = Namespace::new();
    let started = start(vec![ns.spec(A, "lan", &["2001:db8::1/126"])]);
    let router = "fe80::ee:eeff:fe00:2".parse().unwrap();
    // A default router, with an on-link prefix for SLAAC (RFC 4861, section 4.2).
    let prefix = Ipv6Addr::new(0x2001, 0xdb8, 0xbad, 0, 0, 0, 0, 0);
    let message = [
        &[134, 0, 0, 0, 64, 0, 0x07, 0x08, 0, 0, 0, 0, 0, 0, 0, 0][..],
        &[3, 4, 64, 0xc0, 0, 0, 0x0e, 0x10, 0, 0, 0x0e, 0x10, 0, 0, 0, 0],
        &prefix.octets(),
    ]
    .concat();
    let all_nodes = "ff02::1".parse().unwrap();
    started.write(A, &icmp6(([0x33, 0x33, 0, 0, 0, 1], PEER_MAC), router, all_nodes, 255, &message));
    std::thread::sleep(QUIET);
    assert_eq!(ns.ip("-6 route show default"), "");
    assert!(!ns.ip("-6 addr show dev lan").contains("bad"));
}

#[test]
fn namespaces_with_the_same_addresses_are_apart() {
    let (one, two) = (Namespace::new(), Namespace::new());
    let addresses = &["192.0.2.1/30", "2001:db8::1/126"];
    let started = start(vec![one.spec(A, "lan", addresses), two.spec(B, "lan", addresses)]);
    for (ns, at, not_at) in [(&one, A, B), (&two, B, A)] {
        ns.ip("neigh add 192.0.2.2 dev lan lladdr 02:ee:ee:00:00:02 nud permanent");
        let event = started.neighbours.recv_timeout(Duration::from_secs(20)).unwrap();
        assert_eq!((event.interface, event.state.mac()), (at, Some(PEER_MAC)));
        let data = format!("for {}", at.0);
        send_udp(ns, "192.0.2.2:9", data.as_bytes());
        let is_it = |frame: &Frame<'_>| {
            frame.ipv4().filter(|ip| ip.0 == 17 && ip.3.ends_with(data.as_bytes())).map(drop)
        };
        started.frame(at, "the datagram", is_it);
        assert!(started.frame_within(QUIET, not_at, is_it).is_none());
    }
}

#[test]
fn a_full_channel_drops_and_counts() {
    let ns = Namespace::new();
    let started = start_with_room(vec![ns.spec(A, "lan", &["192.0.2.1/30"])], 4);
    ns.ip("neigh add 192.0.2.2 dev lan lladdr 02:ee:ee:00:00:02 nud permanent");
    for _ in 0..50 {
        send_udp(&ns, "192.0.2.2:9", b"more");
    }
    let deadline = std::time::Instant::now() + Duration::from_secs(20);
    loop {
        let (A, counters) = started.side.counters()[0] else { panic!("one TAP") };
        if counters.from_kernel == 4 && counters.overflowed >= 46 {
            break;
        }
        assert!(std::time::Instant::now() < deadline, "{counters:?}");
        std::thread::sleep(Duration::from_millis(10));
    }
    assert_eq!(started.frames.len(), 4);
}

#[test]
fn writes_that_cannot_be_are_told_apart_and_counted() {
    let ns = Namespace::new();
    let started = start(vec![ns.spec(A, "lan", &["192.0.2.1/30"]), ns.spec(B, "wan", &["198.51.100.1/30"])]);
    let frame = arp(1, (PEER_MAC, THEIRS), ([0; 6], OURS), BROADCAST);
    assert_eq!(started.side.write(A, &frame), WriteOutcome::Written);
    for length in 0..14 {
        assert_eq!(started.side.write(A, &frame[..length]), WriteOutcome::Malformed, "{length} bytes");
    }
    for length in 14..=frame.len() {
        started.write(A, &frame[..length]);
    }
    assert_eq!(started.side.write(SubIfId(99), &frame), WriteOutcome::NoTap);
    ns.ip("link set lan down");
    assert_eq!(started.side.write(A, &frame), WriteOutcome::Down);
    ns.ip("link set lan up");
    started.write(A, &frame);
    ns.ip("link delete lan");
    assert_eq!(started.side.write(A, &frame), WriteOutcome::NoTap);
    let counters: std::collections::HashMap<_, _> = started.side.counters().into_iter().collect();
    assert_eq!((counters[&A].to_kernel, counters[&A].refused), (2 + 47, 14 + 2));

    // The other TAP goes on, and the thread does not spin on the lost one.
    started.write(
        B,
        &arp(
            1,
            (PEER_MAC, Ipv4Addr::new(198, 51, 100, 2)),
            ([0; 6], Ipv4Addr::new(198, 51, 100, 1)),
            BROADCAST,
        ),
    );
    started.frame(B, "ARP reply", |frame| frame.arp().filter(|arp| arp.0 == 2));
    let before = cpu_ticks_of("taps");
    std::thread::sleep(Duration::from_millis(500));
    assert!(cpu_ticks_of("taps").saturating_sub(before) < 10);
}

/// CPU time, in ticks of 10 ms, of all threads of this process with this name. Other tests have such threads, too,
/// but they sleep but for moments.
fn cpu_ticks_of(name: &str) -> u64 {
    let mut sum = 0;
    for task in std::fs::read_dir("/proc/self/task").unwrap().flatten() {
        let stat = std::fs::read_to_string(task.path().join("stat")).unwrap_or_default();
        if let Some((head, tail)) = stat.rsplit_once(')')
            && head.ends_with(&format!("({name}"))
        {
            let fields: Vec<&str> = tail.split_whitespace().collect();
            sum += fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap();
        }
    }
    sum
}
