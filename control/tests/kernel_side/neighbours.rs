//! Neighbours: resolution by the kernel, and its table as events.

use std::collections::HashMap;
use std::fmt::Write as _;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::process::Command;
use std::time::{Duration, Instant};

use control::kernel::neigh::Mirror;
use control::kernel::netns::run_in;
use control::kernel::{KernelError, NeighbourState, NetnsError};
use crossbeam::channel::bounded;

use crate::frames::*;
use crate::harness::*;

const OURS: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);
const THEIRS: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 2);
const THEIRS6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 2);
const SOON: Duration = Duration::from_secs(20);
/// Three requests, one second apart, and some.
const GIVES_UP: Duration = Duration::from_secs(30);

fn lan(ns: &Namespace) -> Started {
    start(vec![ns.spec(A, "lan", &["192.0.2.1/24", "2001:db8::1/64"])])
}

#[test]
fn arp_resolves() {
    let ns = Namespace::new();
    let started = lan(&ns);
    started.side.resolve(A, THEIRS.into()).unwrap();
    let request = started.frame(A, "ARP request", |frame| {
        assert_eq!(frame.arp().map_or(BROADCAST, |_| frame.destination()), BROADCAST);
        frame.arp()
    });
    assert_eq!(request, (1, MAC, OURS, [0; 6], THEIRS));
    // Asking again while the kernel is at it changes nothing.
    started.side.resolve(A, THEIRS.into()).unwrap();
    started.write(A, &arp(2, (PEER_MAC, THEIRS), (MAC, OURS), MAC));
    let state = started.neighbour(SOON, A, THEIRS.into(), |state| state.mac().is_some());
    assert_eq!(state, NeighbourState::Reachable { mac: PEER_MAC });
}

#[test]
fn nd_resolves_global_and_link_local() {
    let ns = Namespace::new();
    let started = lan(&ns);
    for target in [THEIRS6, "fe80::ee:eeff:fe00:2".parse().unwrap()] {
        started.side.resolve(A, target.into()).unwrap();
        let (source, _, _) = started.frame(A, "neighbour solicitation", |frame| {
            frame.solicitation().filter(|solicitation| solicitation.2 == target)
        });
        started.write(A, &advertise((MAC, PEER_MAC), target, source));
        let state = started.neighbour(SOON, A, target.into(), |state| state.mac().is_some());
        assert_eq!(state, NeighbourState::Reachable { mac: PEER_MAC });
    }
}

#[test]
fn unanswered_fails_and_can_be_asked_again() {
    let ns = Namespace::new();
    let started = lan(&ns);
    for address in [IpAddr::from(THEIRS), THEIRS6.into()] {
        let before = Instant::now();
        started.side.resolve(A, address).unwrap();
        started.neighbour(GIVES_UP, A, address, |state| state == NeighbourState::Failed);
        assert!(before.elapsed() > Duration::from_secs(1), "it asks more than once");
    }
    started.side.resolve(A, THEIRS.into()).unwrap();
    while started.frames.try_recv().is_ok() {}
    started.side.resolve(A, THEIRS.into()).unwrap();
    started.frame(A, "ARP request once more", |frame| frame.arp().filter(|arp| arp.4 == THEIRS));
    started.write(A, &arp(2, (PEER_MAC, THEIRS), (MAC, OURS), MAC));
    started.neighbour(SOON, A, THEIRS.into(), |state| state == NeighbourState::Reachable { mac: PEER_MAC });
}

#[test]
fn deletion_and_a_new_mac_are_reported() {
    let ns = Namespace::new();
    let started = lan(&ns);
    for (address, mac) in [(IpAddr::from(THEIRS), "02:ee:ee:00:00:02"), (THEIRS6.into(), "02:ee:ee:00:00:02")]
    {
        ns.ip(&format!("neigh replace {address} dev lan lladdr {mac} nud reachable"));
        started.neighbour(SOON, A, address, |state| state == NeighbourState::Reachable { mac: PEER_MAC });
        ns.ip(&format!("neigh replace {address} dev lan lladdr 02:aa:aa:00:00:09 nud reachable"));
        let moved = NeighbourState::Reachable { mac: [0x02, 0xaa, 0xaa, 0, 0, 9] };
        started.neighbour(SOON, A, address, |state| state == moved);
        ns.ip(&format!("neigh delete {address} dev lan"));
        started.neighbour(SOON, A, address, |state| state == NeighbourState::Gone);
    }
}

#[test]
fn a_stale_neighbour_is_confirmed_on_request() {
    let ns = Namespace::new();
    let started = lan(&ns);
    // The kernel waits this long for a higher layer's confirmation before it asks.
    run_in::<_, NetnsError>(Some(&ns.0), || {
        std::fs::write("/proc/sys/net/ipv4/neigh/lan/delay_first_probe_time", "1").unwrap();
        Ok(())
    })
    .unwrap();
    ns.ip("neigh replace 192.0.2.2 dev lan lladdr 02:ee:ee:00:00:02 nud stale");
    started.neighbour(SOON, A, THEIRS.into(), |state| state == NeighbourState::Stale { mac: PEER_MAC });
    started.side.resolve(A, THEIRS.into()).unwrap();
    let probe = started
        .frame_within(GIVES_UP, A, |frame| frame.arp().map(|arp| (frame.destination(), arp.4)))
        .expect("a probe");
    assert_eq!(probe, (PEER_MAC, THEIRS), "unicast to the MAC that it knows");
    started.neighbour(SOON, A, THEIRS.into(), |state| state == NeighbourState::Probing { mac: PEER_MAC });
    started.write(A, &arp(2, (PEER_MAC, THEIRS), (MAC, OURS), MAC));
    started.neighbour(SOON, A, THEIRS.into(), |state| state == NeighbourState::Reachable { mac: PEER_MAC });
}

#[test]
fn a_neighbour_set_by_hand_stays_when_resolved() {
    let ns = Namespace::new();
    let started = lan(&ns);
    for address in [IpAddr::from(THEIRS), THEIRS6.into()] {
        ns.ip(&format!("neigh add {address} dev lan lladdr 02:ee:ee:00:00:02 nud permanent"));
        started.neighbour(SOON, A, address, |state| state == NeighbourState::Reachable { mac: PEER_MAC });
        started.side.resolve(A, address).unwrap();
        assert!(ns.ip(&format!("neigh show {address} dev lan")).contains("PERMANENT"));
    }
    assert!(started.neighbours.recv_timeout(Duration::from_millis(200)).is_err());
}

#[test]
fn resolving_where_it_cannot_be_is_an_error() {
    let ns = Namespace::new();
    let started = lan(&ns);
    assert!(matches!(started.side.resolve(B, THEIRS.into()), Err(KernelError::UnknownInterface(B))));
    ns.ip("link delete lan");
    let error = started.side.resolve(A, THEIRS.into()).unwrap_err();
    assert!(matches!(error, KernelError::Refused { .. }), "{error}");
    assert!(
        error.to_string().contains("resolve 192.0.2.2 on the TAP `lan` in the network namespace `tpk-"),
        "{error}"
    );
}

#[test]
fn what_is_there_before_comes_first_and_other_interfaces_do_not_count() {
    let ns = Namespace::new();
    let started = start(vec![ns.spec(A, "lan", &["192.0.2.1/24"]), ns.spec(B, "wan", &["198.51.100.1/24"])]);
    ns.ip("neigh add 192.0.2.2 dev lan lladdr 02:ee:ee:00:00:02 nud permanent");
    ns.ip("neigh add 198.51.100.2 dev wan lladdr 02:ee:ee:00:00:03 nud permanent");
    let (sender, events) = bounded(16);
    let index = started.side.kernel_index(A).unwrap();
    let mirror =
        Mirror::start(Some(&ns.0), [(index, A)], sender, control::kernel::neigh::RECEIVE_BUFFER).unwrap();
    let first = events.recv_timeout(SOON).unwrap();
    assert_eq!((first.interface, first.address), (A, THEIRS.into()));
    ns.ip("neigh add 198.51.100.3 dev wan lladdr 02:ee:ee:00:00:03 nud permanent");
    assert!(events.recv_timeout(Duration::from_millis(200)).is_err());
    assert_eq!(mirror.counters(), control::kernel::MirrorCounters::default());
}

/// `ip -batch` of one command per line.
fn batch(ns: &Namespace, commands: &str) {
    let output = run_with_input(Command::new("ip").args(["-n", &ns.0, "-batch", "-"]), commands.as_bytes());
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn an_overflow_of_notifications_ends_in_the_kernels_own_table() {
    let ns = Namespace::new();
    let started = start(vec![ns.spec(A, "lan", &["10.0.0.1/8"])]);
    let index = started.side.kernel_index(A).unwrap();
    // A channel of one event stops the mirror at once, and the least buffer that the kernel allows overflows then.
    let (sender, events) = bounded(1);
    let mirror = Mirror::start(Some(&ns.0), [(index, A)], sender, 1).unwrap();

    let mut commands = String::new();
    for host in 0..600u32 {
        let address = Ipv4Addr::from_bits(0x0a01_0000 + host);
        writeln!(commands, "neigh replace {address} dev lan lladdr 02:00:00:00:00:01 nud permanent").unwrap();
    }
    for host in 0..300u32 {
        let address = Ipv4Addr::from_bits(0x0a01_0000 + host);
        writeln!(commands, "neigh delete {address} dev lan").unwrap();
    }
    for host in 250..500u32 {
        let address = Ipv4Addr::from_bits(0x0a01_0000 + host);
        writeln!(commands, "neigh replace {address} dev lan lladdr 02:00:00:00:00:02 nud permanent").unwrap();
    }
    batch(&ns, &commands);

    let expected: HashMap<IpAddr, [u8; 6]> = (250..600u32)
        .map(|host| {
            let last = if host < 500 { 2 } else { 1 };
            (Ipv4Addr::from_bits(0x0a01_0000 + host).into(), [2, 0, 0, 0, 0, last])
        })
        .collect();
    let mut mirrored: HashMap<IpAddr, NeighbourState> = HashMap::new();
    let mut follow = |until: &HashMap<IpAddr, [u8; 6]>| {
        let deadline = Instant::now() + GIVES_UP;
        let right = |address: &IpAddr, state: &NeighbourState| state.mac().as_ref() == until.get(address);
        loop {
            let Ok(event) = events.recv_timeout(Duration::from_millis(500)) else {
                // Nothing comes any more, or not yet.
                let same = mirrored.len() == until.len();
                if (same && mirrored.iter().all(|(address, state)| right(address, state)))
                    || Instant::now() > deadline
                {
                    break;
                }
                continue;
            };
            let before = match event.state {
                NeighbourState::Gone => mirrored.remove(&event.address),
                state => mirrored.insert(event.address, state),
            };
            assert_ne!(before.unwrap_or(NeighbourState::Gone), event.state, "{event:?} says nothing new");
            assert!(Instant::now() < deadline, "the events do not end");
        }
        let wrong: Vec<_> = mirrored.iter().filter(|(address, state)| !right(address, state)).collect();
        assert!(wrong.is_empty(), "these are not so in the kernel: {wrong:?}");
        assert_eq!(mirrored.len(), until.len());
    };
    follow(&expected);
    assert!(mirror.counters().resyncs > 0, "{:?}", mirror.counters());

    // What vanishes during an overflow is reported, too: the blocked mirror sees none of these one by one.
    let before = mirror.counters().resyncs;
    let mut commands = String::new();
    for host in 250..600u32 {
        let address = Ipv4Addr::from_bits(0x0a01_0000 + host);
        writeln!(commands, "neigh delete {address} dev lan").unwrap();
    }
    batch(&ns, &commands);
    follow(&HashMap::new());
    assert!(mirror.counters().resyncs > before, "{:?}", mirror.counters());

    // The program's own mirror, with its buffer, has lost nothing of the same storm.
    assert_eq!(started.side.mirror_counters(), control::kernel::MirrorCounters::default());
}
