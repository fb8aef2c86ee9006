//! Tests of the RIB as a whole, against a FIB that is a plain map.

mod behaviour;
mod guards;
mod leaks;
mod model;
mod scale;
mod slices;

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

use dataplane::ids::{AdjId, GroupId, PortId, SubIfId, VrfId};
use dataplane::policy::Policy;
use ipnetwork::IpNetwork;

use super::*;
use crate::config::model::{Encapsulation, Sources as Distances, SubInterface};
use crate::source::{Family, Origin};

const VRF: VrfId = VrfId(0);

fn prefix(text: &str) -> IpNetwork {
    text.parse().unwrap()
}

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

/// A FIB that is a plain map, and that checks the order of what the RIB does.
#[derive(Default)]
struct Plain {
    entries: BTreeMap<(VrfId, IpNetwork), GroupId>,
    /// As published last.
    published: GroupsSnapshot,
    inserts: usize,
    removes: usize,
    publishes: usize,
    /// How many of the next writes fail.
    failing: usize,
}

struct Sink<'a> {
    plain: &'a mut Plain,
    published: &'a std::cell::RefCell<GroupsSnapshot>,
}

impl Sink<'_> {
    fn write(&mut self, vrf: VrfId, prefix: IpNetwork, group: Option<GroupId>) -> Result<(), FibSinkError> {
        if let Some(group) = group {
            let published = self.published.borrow();
            assert!(
                (group.0 as usize) < published.groups.len(),
                "{group:?} is written before it is published"
            );
            assert_ne!(group, GroupId::NO_ROUTE);
        }
        if self.plain.failing > 0 {
            self.plain.failing -= 1;
            return Err("no room".into());
        }
        if let Some(group) = group {
            self.plain.inserts += 1;
            let old = self.plain.entries.insert((vrf, prefix), group);
            assert_ne!(old, Some(group), "a write that changes nothing: {prefix}");
        } else {
            self.plain.removes += 1;
            assert!(self.plain.entries.remove(&(vrf, prefix)).is_some(), "{prefix} is not in the FIB");
        }
        Ok(())
    }
}

impl FibSink for Sink<'_> {
    fn write4(&mut self, vrf: VrfId, changes: &[Change<u32>]) -> Result<(), (usize, FibSinkError)> {
        for (i, (addr, len, group)) in changes.iter().enumerate() {
            let prefix = IpNetwork::new(Ipv4Addr::from_bits(*addr).into(), *len).unwrap();
            self.write(vrf, prefix, *group).map_err(|error| (i, error))?;
        }
        Ok(())
    }

    fn write6(&mut self, vrf: VrfId, changes: &[Change<u128>]) -> Result<(), (usize, FibSinkError)> {
        for (i, (addr, len, group)) in changes.iter().enumerate() {
            let prefix = IpNetwork::new(Ipv6Addr::from_bits(*addr).into(), *len).unwrap();
            self.write(vrf, prefix, *group).map_err(|error| (i, error))?;
        }
        Ok(())
    }
}

impl Plain {
    fn commit(&mut self, rib: &mut Rib) -> Commit {
        rib.retry();
        self.slice(rib, usize::MAX)
    }

    /// A commit that ends when it has asked so many times whether there is more time.
    fn slice(&mut self, rib: &mut Rib, mut times: usize) -> Commit {
        let published = std::cell::RefCell::new(std::mem::take(&mut self.published));
        let mut publishes = 0;
        let done = rib.commit_slice(
            &mut |snapshot| {
                check_snapshot(snapshot);
                published.replace(snapshot.clone());
                publishes += 1;
            },
            &mut Sink { plain: self, published: &published },
            &mut || {
                times = times.saturating_sub(1);
                times > 0
            },
        );
        self.published = published.into_inner();
        self.publishes += publishes;
        done
    }

    fn group(&self, text: &str) -> Option<GroupId> {
        self.entries.get(&(VRF, prefix(text))).copied()
    }

    fn buckets(&self, group: GroupId) -> &[AdjId] {
        let desc = self.published.groups[group.0 as usize];
        &self.published.buckets[desc.first_bucket as usize..(desc.first_bucket + desc.buckets) as usize]
    }

    /// What the buckets of a prefix's group do, each kind once, with its number of buckets.
    fn forwards(&self, text: &str) -> Vec<(String, usize)> {
        let mut kinds = BTreeMap::new();
        for adj in self.group(text).map_or(&[][..], |group| self.buckets(group)) {
            *kinds.entry(describe(self.published.adjacencies[adj.0 as usize])).or_insert(0) += 1;
        }
        kinds.into_iter().collect()
    }
}

/// An adjacency in short.
fn describe(desc: AdjacencyDesc) -> String {
    match desc {
        AdjacencyDesc::NoRoute => "no route".into(),
        AdjacencyDesc::Discard => "discard".into(),
        AdjacencyDesc::Local => "local".into(),
        AdjacencyDesc::Glean { subif } => format!("glean {}", subif.0),
        AdjacencyDesc::Incomplete { subif, address } => format!("incomplete {} {address}", subif.0),
        AdjacencyDesc::Forward { subif, address, mac } => format!("forward {} {address} {}", subif.0, mac[5]),
    }
}

/// What must hold of every snapshot: all indices valid, sizes powers of two, no two groups on the same buckets.
fn check_snapshot(snapshot: &GroupsSnapshot) {
    let mut used = vec![0; snapshot.buckets.len()];
    for desc in &snapshot.groups {
        assert!(desc.buckets.is_power_of_two());
        for bucket in desc.first_bucket..desc.first_bucket + desc.buckets {
            used[bucket as usize] += 1;
        }
    }
    // Bucket 0 also serves unused group numbers.
    assert!(used[1..].iter().all(|n| *n <= 1));
    assert!(snapshot.buckets.iter().all(|adj| (adj.0 as usize) < snapshot.adjacencies.len()));
}

fn rib() -> Rib {
    let mut rib = Rib::new(2, &Distances { bgp_distance: 20, ..Distances::default() });
    rib.add_source(SourceId(2), SourceKind::Bgp);
    rib.add_source(SourceId(3), SourceKind::Bgp);
    rib
}

fn interface(vrf: VrfId, addresses: &[&str]) -> SubInterface {
    SubInterface {
        name: "test".into(),
        tap: "test".into(),
        port: PortId(0),
        encapsulation: Encapsulation::Untagged,
        vrf,
        addresses: addresses.iter().map(|a| prefix(a)).collect(),
        mtu: 1500,
        pcp: None,
        policy: Policy::default(),
        acl_in: None,
        acl_out: None,
        link: None,
    }
}

fn via(next_hops: &[&str]) -> Attributes {
    let next_hops = next_hops.iter().map(|a| NextHop::new(ip(a))).collect();
    Attributes { next_hops, local_pref: 100, ..Attributes::default() }
}

fn nlri(text: &str) -> Nlri {
    Nlri { prefix: prefix(text), path_id: 0 }
}

fn send(rib: &mut Rib, source: u32, event: RouteEvent) {
    rib.apply(&SourceEvent { source: SourceId(source), vrf: VRF, event }).unwrap();
}

fn announce(rib: &mut Rib, source: u32, prefixes: &[&str], attributes: Attributes) {
    let announced = prefixes.iter().map(|p| nlri(p)).collect();
    let event = RouteEvent::Update { withdrawn: vec![], announced, attributes: Arc::new(attributes) };
    send(rib, source, event);
}

fn withdraw(rib: &mut Rib, source: u32, prefixes: &[&str]) {
    let withdrawn = prefixes.iter().map(|p| nlri(p)).collect();
    send(rib, source, RouteEvent::Update { withdrawn, announced: vec![], attributes: Arc::default() });
}

fn reachable(rib: &mut Rib, subif: u16, address: &str, mac: u8) {
    rib.set_neighbour(SubIfId(subif), ip(address), Neighbour::Reachable([2, 0, 0, 0, 0, mac])).unwrap();
}

/// Two uplinks (sub-interfaces 0 and 1) with resolved gateways 10.0.0.2 and 10.0.1.2.
fn two_links() -> (Rib, Plain) {
    let mut rib = rib();
    rib.add_interface(SubIfId(0), &interface(VRF, &["10.0.0.1/30"]), true).unwrap();
    rib.add_interface(SubIfId(1), &interface(VRF, &["10.0.1.1/30"]), true).unwrap();
    reachable(&mut rib, 0, "10.0.0.2", 2);
    reachable(&mut rib, 1, "10.0.1.2", 3);
    (rib, Plain::default())
}

/// Takes all away that a test put in, and checks that nothing is left.
fn assert_all_returns(mut rib: Rib, mut plain: Plain, interfaces: u16) {
    for source in 1..=3 {
        rib.source_down(SourceId(source));
        rib.sweep_source(SourceId(source));
    }
    (0..interfaces).for_each(|i| rib.remove_interface(SubIfId(i)));
    let done = plain.commit(&mut rib);
    assert_eq!((done.failure, done.pending), (None, 0));
    assert!(plain.entries.is_empty(), "{:?}", plain.entries);
    assert_eq!(rib.groups().count(), 0);
    // Group numbers first, then the adjacencies that they let go of.
    rib.reclaim(|_| true);
    rib.reclaim(|_| true);
    assert_eq!((rib.slots.len(), rib.next_hops.len(), rib.groups.iter().count()), (0, 0, 0));
    assert_eq!(rib.groups.adjacencies.iter().count(), 0);
    for vrf in [VRF, VrfId(1)] {
        assert_eq!(rib.route_count(vrf, Family::Ipv4) + rib.route_count(vrf, Family::Ipv6), 0);
    }
    assert!(rib.sources().all(|s| s.ipv4 + s.ipv6 + s.ipv4_stale + s.ipv6_stale == 0));
}
