//! What a replica makes of what zebra or the kernel says, as a RIB behind it would see it.

mod kernel;

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use dataplane::ids::{SubIfId, VrfId};
use proptest::prelude::*;

use super::encode::*;
use super::message::{NLM_F_APPEND, NLM_F_MULTI, NLM_F_REPLACE};
use super::{Manners, Protocols, Replica, Stats, Table, Tables, decode, messages};
use crate::source::{NextHop, RouteEvent, SourceId};

/// Table 254 for VRF 1, table 1001 for VRF 2; TAPs 7 and 8 are sub-interfaces 70 and 80.
fn replica(manners: Manners) -> Replica {
    let table = |number: u32, vrf: u16, protocols| Table {
        number,
        vrf: VrfId(vrf),
        source: SourceId(u32::from(vrf)),
        protocols,
        interfaces: HashMap::from([(7, SubIfId(70)), (8, SubIfId(80))]),
        any_interface: manners == Manners::Zebra,
    };
    let made = if manners == Manners::Zebra { Protocols::All } else { Protocols::Made };
    let tables = Tables::new(vec![table(254, 1, made), table(1001, 2, Protocols::Only(vec![12]))]);
    Replica::new(manners, tables, vec![Arc::default(), Arc::default()])
}

/// The routes as a RIB has them: (VRF, prefix) → next hops, and how many changes came.
#[derive(Default)]
struct Rib {
    /// A set of next hops is a `#` and its number.
    routes: BTreeMap<(u16, String), Vec<String>>,
    sets: BTreeMap<String, Vec<String>>,
    changes: usize,
}

impl Rib {
    fn drain(&mut self, replica: &mut Replica) -> usize {
        let before = self.changes;
        while let Some(batch) = replica.news() {
            for event in batch.events {
                assert_eq!(u32::from(event.vrf.0), event.source.0);
                let (withdrawn, announced, attributes) = match event.event {
                    RouteEvent::Update { withdrawn, announced, attributes } => {
                        (withdrawn, announced, attributes)
                    }
                    RouteEvent::HopSet { number, next_hops } => {
                        self.sets.insert(format!("#{number}"), next_hops.iter().map(show).collect());
                        continue;
                    }
                    RouteEvent::HopSetGone { number } => {
                        assert!(self.sets.remove(&format!("#{number}")).is_some(), "{number} was not there");
                        continue;
                    }
                    _ => panic!(),
                };
                let key = |prefix: ipnetwork::IpNetwork| (event.vrf.0, prefix.to_string());
                self.changes += withdrawn.len() + announced.len();
                for nlri in withdrawn {
                    assert!(self.routes.remove(&key(nlri.prefix)).is_some(), "{} was not there", nlri.prefix);
                }
                for nlri in announced {
                    let hops = match attributes.hop_set {
                        Some(set) => {
                            assert_eq!(set.source, event.source);
                            let name = format!("#{}", set.number);
                            assert!(self.sets.contains_key(&name), "{name} was not told before its route");
                            vec![name]
                        }
                        None => attributes.next_hops.iter().map(show).collect(),
                    };
                    self.routes.insert(key(nlri.prefix), hops);
                }
            }
        }
        self.changes - before
    }

    fn of(&self, prefix: &str) -> Option<String> {
        self.routes.get(&(1, prefix.to_owned())).map(|hops| self.hops(hops).join(" "))
    }

    fn hops<'a>(&'a self, hops: &'a Vec<String>) -> &'a Vec<String> {
        hops.first().and_then(|first| self.sets.get(first)).unwrap_or(hops)
    }
}

fn show(hop: &NextHop) -> String {
    let on = hop.interface.map(|i| format!("%{}", i.0)).unwrap_or_default();
    let weight = if hop.weight == 1 { String::new() } else { format!("*{}", hop.weight) };
    format!("{}{on}{weight}", hop.address)
}

fn say(replica: &mut Replica, bytes: &[Vec<u8>]) {
    for message in messages(&bytes.concat()) {
        replica.take(&decode(&message.unwrap()).unwrap());
    }
}

fn id(id: u32) -> Vec<u8> {
    number(30, id)
}

fn new(prefix: &str, lead: &[u8]) -> Vec<u8> {
    route(NEW, prefix, Plan::default(), lead)
}

fn gone(prefix: &str, lead: &[u8]) -> Vec<u8> {
    route(DELETE, prefix, Plan::default(), lead)
}

#[test]
fn a_change_in_two_messages_is_one_upsert() {
    let (mut zebra, mut rib) = (replica(Manners::Zebra), Rib::default());
    say(&mut zebra, &[object(5, "10.0.0.2", 7), new("192.0.2.0/24", &id(5))]);
    assert_eq!(rib.drain(&mut zebra), 1);
    assert_eq!(rib.of("192.0.2.0/24").as_deref(), Some("10.0.0.2"));
    let change = [object(6, "10.0.0.6", 7), gone("192.0.2.0/24", &id(5)), new("192.0.2.0/24", &id(6))];
    say(&mut zebra, &change);
    assert_eq!(rib.drain(&mut zebra), 1, "no withdrawal");
    assert_eq!(rib.of("192.0.2.0/24").as_deref(), Some("10.0.0.6"));
    // Ten changes, of which the last counts, and one that came and went.
    for n in 0..10 {
        say(&mut zebra, &[new("192.0.2.0/24", &via(&format!("10.0.0.{n}"), 7))]);
    }
    say(&mut zebra, &[new("198.51.100.0/24", &id(6)), gone("198.51.100.0/24", &id(6))]);
    assert_eq!(rib.drain(&mut zebra), 1);
    assert_eq!(rib.of("192.0.2.0/24").as_deref(), Some("10.0.0.9"));
    say(&mut zebra, &[gone("192.0.2.0/24", &id(6))]);
    assert_eq!(rib.drain(&mut zebra), 1);
    assert!(rib.routes.is_empty());
    assert_eq!(zebra.counts().routes, 0);
}

#[test]
fn groups_come_in_any_order_and_change_in_place() {
    let (mut zebra, mut rib) = (replica(Manners::Zebra), Rib::default());
    say(&mut zebra, &[group(9, &[(5, 1), (6, 3)]), new("192.0.2.0/24", &id(9)), object(5, "10.0.0.2", 7)]);
    assert_eq!(rib.drain(&mut zebra), 0, "a member is missing");
    say(&mut zebra, &[object(6, "10.0.0.6", 7), new("198.51.100.0/24", &id(9))]);
    assert_eq!(rib.drain(&mut zebra), 2);
    assert_eq!(rib.of("192.0.2.0/24").as_deref(), Some("10.0.0.2 10.0.0.6*3"));
    say(&mut zebra, &[group(9, &[(6, 1)])]);
    assert_eq!(rib.drain(&mut zebra), 0, "the group changes, and no route");
    assert_eq!(rib.of("198.51.100.0/24").as_deref(), Some("10.0.0.6"));
    // A member changes, and then goes without a word of the group.
    say(&mut zebra, &[group(9, &[(5, 1), (6, 1)]), object(6, "10.0.0.10", 7)]);
    assert_eq!(rib.drain(&mut zebra), 0);
    assert_eq!(rib.of("192.0.2.0/24").as_deref(), Some("10.0.0.2 10.0.0.10"));
    say(&mut zebra, &[no_object(6)]);
    assert_eq!(rib.drain(&mut zebra), 0);
    assert_eq!(rib.of("192.0.2.0/24").as_deref(), Some("10.0.0.2"));
    // One that its routes outlive: zebra moves them, in its own time.
    say(&mut zebra, &[no_object(9)]);
    assert_eq!(rib.drain(&mut zebra), 0);
    assert_eq!(rib.of("192.0.2.0/24").as_deref(), Some("10.0.0.2"));
}

#[test]
fn a_zebra_that_comes_back_numbers_anew_and_disturbs_nothing() {
    let (mut zebra, mut rib) = (replica(Manners::Zebra), Rib::default());
    zebra.begin();
    say(&mut zebra, &[object(5, "10.0.0.2", 7), object(6, "10.0.0.6", 7)]);
    let prefixes = ["192.0.2.0/24", "198.51.100.0/24", "203.0.113.0/24"];
    let routes: Vec<_> = prefixes.iter().map(|prefix| new(prefix, &id(5))).collect();
    say(&mut zebra, &routes);
    assert_eq!(rib.drain(&mut zebra), 3);
    zebra.begin();
    assert_eq!(zebra.told_and_stale(), (0, 3));
    // What 5 was is 6 now, and the other way round; one route does not come again.
    say(&mut zebra, &[object(5, "10.0.0.6", 7), object(6, "10.0.0.2", 7), new(prefixes[0], &id(6))]);
    rib.drain(&mut zebra);
    assert!(prefixes.iter().all(|prefix| rib.of(prefix).as_deref() == Some("10.0.0.2")), "{:?}", rib.routes);
    say(&mut zebra, &[new(prefixes[1], &id(5))]);
    rib.drain(&mut zebra);
    assert_eq!(rib.of(prefixes[1]).as_deref(), Some("10.0.0.6"));
    assert_eq!((zebra.told_and_stale(), zebra.sweep()), ((2, 1), 1));
    assert_eq!(rib.drain(&mut zebra), 1);
    assert_eq!(rib.of(prefixes[2]), None);
    zebra.clear();
    rib.drain(&mut zebra);
    assert!(rib.routes.is_empty());
}

#[test]
fn tables_families_and_kinds() {
    let (mut zebra, mut rib) = (replica(Manners::Zebra), Rib::default());
    let plan = Plan::default();
    say(
        &mut zebra,
        &[
            new("2001:db8:1::/48", &via("fe80::2", 7)),
            new("2001:db8:2::/48", &via("fe80::2", 99)),
            new(
                "192.0.2.0/24",
                &attribute(
                    18,
                    &[&10u16.to_ne_bytes()[..], &[0x20, 1, 0xd, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2]]
                        .concat(),
                ),
            ),
            route(NEW, "198.51.100.0/24", Plan { kind: 6, ..plan }, &[]),
            route(NEW, "198.51.101.0/24", Plan { kind: 7, ..plan }, &[]),
            route(NEW, "198.51.102.0/24", Plan { kind: 2, ..plan }, &number(4, 7)),
            route(NEW, "203.0.113.0/24", Plan { table: 1001, protocol: 12, ..plan }, &via("10.0.0.2", 7)),
            route(NEW, "203.0.114.0/24", Plan { table: 1001, protocol: 4, ..plan }, &via("10.0.0.2", 7)),
            route(NEW, "203.0.115.0/24", Plan { table: 99, ..plan }, &via("10.0.0.2", 7)),
            new("203.0.116.0/24", &number(4, 7)),
            new("203.0.117.0/24", &via("169.254.0.1", 7)),
            new("0.0.0.0/0", &multipath(&[("10.0.0.2", 7, 2), ("10.0.0.6", 8, 1)])),
        ],
    );
    rib.drain(&mut zebra);
    let all: Vec<String> =
        rib.routes.iter().map(|((vrf, p), hops)| format!("{vrf} {p} {}", rib.hops(hops).join(" "))).collect();
    assert_eq!(
        all,
        [
            "1 0.0.0.0/0 10.0.0.2*2 10.0.0.6",
            "1 192.0.2.0/24 2001:db8::2",
            "1 198.51.100.0/24 ",
            "1 198.51.101.0/24 ",
            "1 2001:db8:1::/48 fe80::2%70",
            "2 203.0.113.0/24 10.0.0.2",
        ]
    );
    let (_, why) = zebra.take_problem().unwrap();
    assert!(["use-next-hop-groups", "no TAP"].iter().any(|part| why.to_string().contains(part)), "{why}");
    let stats: Vec<Arc<Stats>> = zebra.stats().to_vec();
    let count =
        |i: usize, of: fn(&Stats) -> &std::sync::atomic::AtomicU64| of(&stats[i]).load(Ordering::Relaxed);
    assert_eq!((count(0, |s| &s.routes), count(1, |s| &s.routes), count(0, |s| &s.refused)), (5, 1, 2));
    // A route that becomes one that we cannot use takes the one before with it.
    say(&mut zebra, &[new("0.0.0.0/0", &via("169.254.0.1", 7))]);
    rib.drain(&mut zebra);
    assert_eq!(rib.of("0.0.0.0/0"), None);
    assert!(zebra.take_problem().unwrap().1.to_string().contains("fpm use-next-hop-groups"));
    assert!(stats[0].last_error().unwrap().contains("0.0.0.0/0"));
}

fn metric(metric: u32, flags: u16) -> Plan {
    Plan { metric, flags, ..Plan::default() }
}

#[test]
fn the_kernels_lowest_metric_counts_and_the_next_takes_over() {
    let (mut kernel, mut rib) = (replica(Manners::Kernel), Rib::default());
    let p = "192.0.2.0/24";
    let via = |n: u8| via(&format!("10.0.0.{n}"), 7);
    let mut expect = |kernel: &mut Replica, said: &[Vec<u8>], hops: Option<&str>| {
        say(kernel, said);
        rib.drain(kernel);
        assert_eq!(rib.of(p).as_deref(), hops);
    };
    expect(&mut kernel, &[route(NEW, p, metric(20, 0), &via(2))], Some("10.0.0.2"));
    expect(&mut kernel, &[route(NEW, p, metric(10, 0), &via(1))], Some("10.0.0.1"));
    expect(&mut kernel, &[route(NEW, p, metric(10, NLM_F_APPEND), &via(5))], Some("10.0.0.1"));
    expect(&mut kernel, &[route(NEW, p, metric(10, NLM_F_REPLACE), &via(6))], Some("10.0.0.6"));
    expect(&mut kernel, &[route(NEW, p, metric(10, 0), &via(7))], Some("10.0.0.7"));
    expect(&mut kernel, &[route(DELETE, p, metric(10, 0), &via(7))], Some("10.0.0.6"));
    expect(&mut kernel, &[route(DELETE, p, metric(10, 0), &via(6))], Some("10.0.0.5"));
    // One of somebody else's takes its place.
    let other = Plan { protocol: 2, ..metric(10, NLM_F_REPLACE) };
    expect(&mut kernel, &[route(NEW, p, other, &via(9))], Some("10.0.0.2"));
    // Read again: the order is the kernel's, and what is not there goes.
    kernel.begin();
    let dumped = |m: u32, n: u8| route(NEW, p, metric(m, NLM_F_MULTI), &via(n));
    expect(&mut kernel, &[dumped(20, 2), dumped(20, 3)], Some("10.0.0.2"));
    kernel.sweep();
    expect(&mut kernel, &[], Some("10.0.0.2"));
    kernel.begin();
    expect(&mut kernel, &[dumped(20, 3)], Some("10.0.0.3"));
    kernel.sweep();
    expect(&mut kernel, &[], Some("10.0.0.3"));
    // On an interface that is none of ours.
    expect(&mut kernel, &[route(NEW, p, metric(1, 0), &super::encode::via("10.0.0.2", 99))], None);
    expect(
        &mut kernel,
        &[route(DELETE, p, metric(1, 0), &super::encode::via("10.0.0.2", 99))],
        Some("10.0.0.3"),
    );
    assert_eq!(kernel.counts().routes, 1);
}

#[test]
fn the_kernels_ipv6_routes_lose_hops_one_by_one() {
    let (mut kernel, mut rib) = (replica(Manners::Kernel), Rib::default());
    let p = "2001:db8::/48";
    say(&mut kernel, &[new(p, &multipath(&[("fd00::1", 7, 1), ("fd00::2", 8, 1), ("fd00::3", 8, 1)]))]);
    rib.drain(&mut kernel);
    assert_eq!(rib.of(p).as_deref(), Some("fd00::1 fd00::2 fd00::3"));
    say(&mut kernel, &[gone(p, &via("fd00::2", 8))]);
    rib.drain(&mut kernel);
    assert_eq!(rib.of(p).as_deref(), Some("fd00::1 fd00::3"));
    say(
        &mut kernel,
        &[route(NEW, p, metric(0, NLM_F_APPEND), &multipath(&[("fd00::1", 7, 1), ("fd00::4", 8, 1)]))],
    );
    rib.drain(&mut kernel);
    assert_eq!(rib.of(p).as_deref(), Some("fd00::1 fd00::4"));
    say(&mut kernel, &[gone(p, &multipath(&[("fd00::1", 7, 1), ("fd00::4", 8, 1)]))]);
    rib.drain(&mut kernel);
    assert_eq!(rib.of(p), None);
}

#[test]
fn the_kernels_objects_take_their_routes_with_them() {
    let (mut kernel, mut rib) = (replica(Manners::Kernel), Rib::default());
    say(
        &mut kernel,
        &[
            object(5, "10.0.0.2", 7),
            group(9, &[(5, 1)]),
            new("192.0.2.0/24", &id(5)),
            new("198.51.100.0/24", &id(9)),
        ],
    );
    assert_eq!(rib.drain(&mut kernel), 2);
    say(&mut kernel, &[object(5, "10.0.0.6", 7)]);
    assert_eq!(rib.drain(&mut kernel), 0, "the object changes, and no route");
    assert_eq!(rib.of("198.51.100.0/24").as_deref(), Some("10.0.0.6"));
    // Read again with one object less.
    kernel.begin();
    say(&mut kernel, &[object(5, "10.0.0.6", 7), new("192.0.2.0/24", &id(5))]);
    assert_eq!(rib.drain(&mut kernel), 0);
    kernel.sweep();
    assert_eq!(rib.drain(&mut kernel), 1);
    assert_eq!(rib.of("198.51.100.0/24"), None);
    say(&mut kernel, &[no_object(5)]);
    assert_eq!(rib.drain(&mut kernel), 1);
    assert!(rib.routes.is_empty());
}

#[test]
fn leads_that_nobody_uses_are_forgotten() {
    let (mut zebra, mut rib) = (replica(Manners::Zebra), Rib::default());
    for n in 0..40_000u32 {
        let [_, a, b, c] = n.to_be_bytes();
        say(&mut zebra, &[new("192.0.2.0/24", &via(&format!("10.{a}.{b}.{c}"), 7))]);
    }
    rib.drain(&mut zebra);
    assert_eq!(rib.of("192.0.2.0/24").as_deref(), Some("10.0.156.63"));
    assert!(zebra.leads_kept() < 10_000, "{}", zebra.leads_kept());
}

/// A step of a peer that does what it likes.
#[derive(Clone, Debug)]
enum Step {
    Object(u32, u8),
    Group(u32, Vec<u32>),
    NoObject(u32),
    Route(u8, u32),
    Direct(u8, u8),
    NoRoute(u8),
    Begin,
    Sweep,
    Drain,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        (0..6u32, 0..4u8).prop_map(|(id, n)| Step::Object(id, n)),
        (0..6u32, proptest::collection::vec(0..6u32, 0..4)).prop_map(|(id, m)| Step::Group(id, m)),
        (0..6u32).prop_map(Step::NoObject),
        (0..8u8, 0..6u32).prop_map(|(p, id)| Step::Route(p, id)),
        (0..8u8, 0..4u8).prop_map(|(p, n)| Step::Direct(p, n)),
        (0..8u8).prop_map(Step::NoRoute),
        Just(Step::Begin),
        Just(Step::Sweep),
        Just(Step::Drain),
    ]
}

proptest! {
    /// Whatever is said: a RIB behind it is never told of a withdrawal that it knows nothing of, and in the end, when
    /// all objects are there, has what a plain map of the last words has.
    #[test]
    fn in_the_end_the_last_word_counts(steps in proptest::collection::vec(step(), 0..120), kernel in any::<bool>()) {
        let manners = if kernel { Manners::Kernel } else { Manners::Zebra };
        let (mut replica, mut rib) = (replica(manners), Rib::default());
        let gateway = |n: u8| format!("10.0.0.{n}");
        let prefix = |n: u8| format!("10.{n}.0.0/16");
        for step in steps {
            match step {
                Step::Object(id, n) => say(&mut replica, &[object(id, &gateway(n), 7)]),
                Step::Group(id, members) => {
                    let members: Vec<_> = members.into_iter().map(|member| (member, 1)).collect();
                    say(&mut replica, &[group(id, &members)]);
                }
                Step::NoObject(id) => say(&mut replica, &[no_object(id)]),
                Step::Route(p, object) => say(&mut replica, &[route(NEW, &prefix(p), metric(0, NLM_F_REPLACE), &id(object))]),
                Step::Direct(p, n) => say(&mut replica, &[route(NEW, &prefix(p), metric(0, NLM_F_REPLACE), &via(&gateway(n), 7))]),
                Step::NoRoute(p) => say(&mut replica, &[gone(&prefix(p), &id(0))]),
                Step::Begin => replica.begin(),
                Step::Sweep => drop(replica.sweep()),
                Step::Drain => drop(rib.drain(&mut replica)),
            }
        }
        replica.begin();
        let mut wanted = BTreeMap::new();
        for n in 0..6u32 {
            say(&mut replica, &[object(n, &gateway(n as u8), 7)]);
        }
        for p in 0..5u8 {
            say(&mut replica, &[route(NEW, &prefix(p), metric(0, NLM_F_REPLACE), &id(u32::from(p)))]);
            wanted.insert((1, prefix(p)), vec![gateway(p)]);
        }
        replica.sweep();
        rib.drain(&mut replica);
        let had: BTreeMap<_, _> =
            rib.routes.iter().map(|(key, hops)| (key.clone(), rib.hops(hops).clone())).collect();
        prop_assert_eq!(&had, &wanted);
        prop_assert_eq!(replica.stats()[0].routes.load(Ordering::Relaxed), 5);
        prop_assert_eq!(replica.counts().waiting, 0);
    }

    /// Any bytes, right and wrong ones mixed.
    #[test]
    fn any_messages_end(
        kind in prop_oneof![Just(24u16), Just(25), Just(104), Just(105), Just(16), Just(17), 0u16..110],
        body in proptest::collection::vec(any::<u8>(), 0..200),
        flags: u16,
        kernel: bool,
    ) {
        let mut replica = replica(if kernel { Manners::Kernel } else { Manners::Zebra });
        for message in messages(&message(kind, flags, &body)).flatten() {
            if let Ok(event) = decode(&message) {
                replica.take(&event);
            }
        }
        while replica.news().is_some() {}
    }

    /// A right message with some bytes changed.
    #[test]
    fn changed_messages_end(changes in proptest::collection::vec((any::<proptest::sample::Index>(), any::<u8>()), 0..8)) {
        let hops = multipath(&[("10.0.0.2", 7, 2), ("10.0.0.6", 8, 1)]);
        let mut bytes = [object(5, "10.0.0.2", 7), group(9, &[(5, 1), (6, 3)]), new("192.0.2.0/24", &id(9)), new("10.0.0.0/8", &hops), new("fd00::/8", &via("fe80::1", 7)), gone("192.0.2.0/24", &id(9)), no_object(5)].concat();
        for (at, value) in changes {
            let at = at.index(bytes.len());
            bytes[at] = value;
        }
        let mut replica = replica(Manners::Zebra);
        for message in messages(&bytes).flatten() {
            if let Ok(event) = decode(&message) {
                replica.take(&event);
            }
        }
        while replica.news().is_some() {}
    }
}
