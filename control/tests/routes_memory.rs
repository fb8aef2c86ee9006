//! What a full table takes of memory: RIB and FIB together, as they are in the program, with a million IPv4 and 240,000
//! IPv6 routes in 10,000 different sets of attributes. A process of its own, since it is the kernel that is asked.

#![allow(clippy::unwrap_used, reason = "a test: what is not there fails it")]

use std::net::{Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

use control::config::model::Sources;
use control::rib::{Change, FibSink, FibSinkError, Neighbour, Rib};
use control::source::{Attributes, NextHop, Nlri, RouteEvent, SourceEvent, SourceId, SourceKind};
use dataplane::fib::{Fib4Writer, Fib6Writer};
use dataplane::grace::NoReaders;
use dataplane::ids::{SubIfId, VrfId};
use ipnetwork::{IpNetwork, Ipv4Network, Ipv6Network};

const MEGABYTE: u64 = 1 << 20;
const SOURCE: SourceId = SourceId(2);
const VRF: VrfId = VrfId(0);

/// Resident bytes of this process.
fn resident() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.split_whitespace().next().unwrap().parse::<u64>().unwrap() * 1024
}

struct Fibs {
    v4: Fib4Writer,
    v6: Fib6Writer,
}

impl FibSink for Fibs {
    fn write4(&mut self, _: VrfId, changes: &[Change<u32>]) -> Result<(), (usize, FibSinkError)> {
        self.v4.apply(changes).map_err(|(at, error)| (at, error.into()))
    }

    fn write6(&mut self, _: VrfId, changes: &[Change<u128>]) -> Result<(), (usize, FibSinkError)> {
        self.v6.apply(changes).map_err(|(at, error)| (at, error.into()))
    }
}

fn rib() -> Rib {
    let mut rib = Rib::new(1, &Sources::default());
    rib.add_source(SOURCE, SourceKind::Bgp);
    let text = "[[port]]\nname = \"p\"\ndevice = \"net_null0\"\n[[interface]]\nname = \"wan\"\nport = \"p\"\n\
                addresses = [\"10.0.0.1/24\", \"fd00::1/64\"]\n[workers]\ncores = [1]\n";
    let config = control::config::parse("test", text).unwrap();
    let interface = config.sub_interfaces[0].clone();
    rib.add_interface(SubIfId(0), &interface, true).unwrap();
    for address in ["10.0.0.2", "fd00::2"] {
        let reachable = Neighbour::Reachable([2, 0, 0, 0, 0, 9]);
        rib.set_neighbour(SubIfId(0), address.parse().unwrap(), reachable).unwrap();
    }
    rib
}

/// Announces `count` prefixes in sets of attributes of about a hundred, and brings the FIB up to date as it goes.
fn announce(rib: &mut Rib, fibs: &mut Fibs, count: u32, next_hop: &str, prefix: impl Fn(u32) -> IpNetwork) {
    for first in (0..count).step_by(124) {
        let announced = (first..count.min(first + 124)).map(|i| Nlri { prefix: prefix(i), path_id: 0 });
        let attributes = Arc::new(Attributes {
            next_hops: vec![NextHop::new(next_hop.parse().unwrap())],
            local_pref: 100,
            as_path: vec![12_076, 3356, 4_200_000_000 + first / 64, 100_000 + first],
            as_path_len: 4,
            communities: vec![12_076 * 65_536 + 51_004],
            ..Attributes::default()
        });
        let event = RouteEvent::Update { withdrawn: Vec::new(), announced: announced.collect(), attributes };
        rib.apply(&SourceEvent { source: SOURCE, vrf: VRF, event }).unwrap();
        if first % (124 * 64) == 0 {
            let done = rib.commit(&mut |_| {}, fibs);
            assert_eq!(done.pending, 0);
        }
    }
    let done = rib.commit(&mut |_| {}, fibs);
    assert_eq!(done.pending, 0);
}

#[test]
fn a_full_table_takes_less_than_200_megabytes() {
    let before = resident();
    let grace = Arc::new(NoReaders);
    let mut fibs = Fibs { v4: Fib4Writer::new(grace.clone()).unwrap(), v6: Fib6Writer::new(grace).unwrap() };
    let mut rib = rib();
    let empty = resident();
    // As in the Internet's: /24s for the most part, in runs, and shorter ones.
    announce(&mut rib, &mut fibs, 1_000_000, "10.0.0.2", |i| {
        let length = if i % 5 == 0 { 22 } else { 24 };
        let address = 0x1000_0000 + ((i / 5) << 12) + ((i % 5) << 8);
        Ipv4Network::new(Ipv4Addr::from_bits(address), length).unwrap().into()
    });
    let v4 = resident();
    announce(&mut rib, &mut fibs, 240_000, "fd00::2", |i| {
        let length = if i % 3 == 0 { 44 } else { 48 };
        let address = (0x2400_u128 << 112) + (u128::from(i / 3) << 88) + (u128::from(i % 3) << 80);
        Ipv6Network::new(Ipv6Addr::from_bits(address), length).unwrap().into()
    });
    let all = resident();
    assert!(fibs.v4.len() >= 1_000_000 && fibs.v6.len() >= 240_000);
    let (of_v4, of_v6) = (v4 - empty, all - v4);
    println!(
        "RIB and FIB: {} MB before any route, {} MB of IPv4, {} MB of IPv6",
        (empty - before) / MEGABYTE,
        of_v4 / MEGABYTE,
        of_v6 / MEGABYTE
    );
    assert!(all - before <= 200 * MEGABYTE, "{} MB", (all - before) / MEGABYTE);
}
