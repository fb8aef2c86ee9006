//! Routes of one VRF in another.

use super::scale::feed_some;
use super::*;
use crate::config::model::Leak;

const OTHER: VrfId = VrfId(1);

fn leak(from: VrfId, to: VrfId, prefixes: &[&str], exact: bool) -> Leak {
    Leak { from, to, prefixes: prefixes.iter().map(|p| prefix(p)).collect(), exact }
}

/// As [`two_links`], with leaks.
fn with(leaks: &[Leak]) -> (Rib, Plain) {
    let mut rib = rib();
    rib.set_leaks(leaks).unwrap();
    rib.add_interface(SubIfId(0), &interface(VRF, &["10.0.0.1/30"]), true).unwrap();
    rib.add_interface(SubIfId(1), &interface(VRF, &["10.0.1.1/30"]), true).unwrap();
    rib.add_interface(SubIfId(2), &interface(OTHER, &["192.0.2.1/24"]), true).unwrap();
    reachable(&mut rib, 0, "10.0.0.2", 2);
    reachable(&mut rib, 1, "10.0.1.2", 3);
    reachable(&mut rib, 2, "192.0.2.9", 9);
    (rib, Plain::default())
}

fn in_other(plain: &Plain) -> Vec<String> {
    let own = |p: &IpNetwork| prefix("192.0.2.0/24").contains(p.ip());
    let all = plain.entries.keys().filter(|(vrf, p)| *vrf == OTHER && !own(p));
    all.map(|(_, p)| p.to_string()).collect()
}

/// Each entry of the other VRF that is not its own leads where it leads at home.
fn same(plain: &Plain, prefixes: &[&str]) {
    assert_eq!(in_other(plain), prefixes);
    for text in prefixes {
        assert_eq!(plain.entries.get(&(OTHER, prefix(text))), plain.entries.get(&(VRF, prefix(text))));
    }
}

#[test]
fn what_is_within_the_prefixes_follows_its_own_vrf() {
    let (mut rib, mut plain) = with(&[leak(VRF, OTHER, &["10.0.0.0/24", "198.51.100.0/24"], false)]);
    announce(&mut rib, 2, &["198.51.100.0/25", "203.0.113.0/24"], via(&["10.0.0.2"]));
    let _ = plain.commit(&mut rib);
    let connected = ["10.0.0.0/30", "10.0.0.0/32", "10.0.0.1/32", "10.0.0.2/32", "10.0.0.3/32"];
    let all = [&connected[..], &["198.51.100.0/25"]].concat();
    same(&plain, &all);
    // A better path, another next hop, a neighbour that is lost, a link that is lost, all that again.
    announce(&mut rib, 3, &["198.51.100.0/25"], Attributes { local_pref: 200, ..via(&["10.0.1.2"]) });
    let _ = plain.commit(&mut rib);
    same(&plain, &all);
    rib.hold_down(SubIfId(1), ip("10.0.1.2"), true).unwrap();
    let _ = plain.commit(&mut rib);
    same(&plain, &all);
    assert_eq!(plain.forwards("198.51.100.0/25"), [("forward 0 10.0.0.2 2".into(), 1)], "the backup");
    rib.hold_down(SubIfId(1), ip("10.0.1.2"), false).unwrap();
    rib.set_neighbour(SubIfId(0), ip("10.0.0.2"), Neighbour::Gone).unwrap();
    rib.set_link(SubIfId(1), false).unwrap();
    let _ = plain.commit(&mut rib);
    same(&plain, &["10.0.0.0/30", "10.0.0.0/32", "10.0.0.1/32", "10.0.0.3/32", "198.51.100.0/25"]);
    rib.set_link(SubIfId(0), false).unwrap();
    let _ = plain.commit(&mut rib);
    same(&plain, &["10.0.0.1/32"]);
    rib.set_link(SubIfId(0), true).unwrap();
    reachable(&mut rib, 0, "10.0.0.2", 2);
    let _ = plain.commit(&mut rib);
    same(&plain, &all);
    withdraw(&mut rib, 2, &["198.51.100.0/25"]);
    withdraw(&mut rib, 3, &["198.51.100.0/25"]);
    let _ = plain.commit(&mut rib);
    same(&plain, &connected);
    assert_all_returns(rib, plain, 3);
}

#[test]
fn exact_ones_are_leaked_alone_and_discard_routes_too() {
    let (mut rib, mut plain) = with(&[leak(VRF, OTHER, &["0.0.0.0/0", "198.51.100.0/24"], true)]);
    announce(&mut rib, 2, &["0.0.0.0/0", "198.51.100.0/25"], via(&["10.0.0.2"]));
    announce(&mut rib, 2, &["198.51.100.0/24"], Attributes::default());
    let _ = plain.commit(&mut rib);
    same(&plain, &["0.0.0.0/0", "198.51.100.0/24"]);
    assert_eq!(plain.group("198.51.100.0/24"), Some(GroupId::DISCARD));
    assert_all_returns(rib, plain, 3);
}

#[test]
fn the_vrfs_own_route_wins_and_nothing_is_leaked_on() {
    let all = ["0.0.0.0/0"];
    let leaks = [leak(VRF, OTHER, &all, false), leak(OTHER, VRF, &all, false)];
    let (mut rib, mut plain) = with(&leaks);
    announce(&mut rib, 2, &["198.51.100.0/24"], via(&["10.0.0.2"]));
    let own = StaticRoute {
        vrf: OTHER,
        prefix: prefix("198.51.100.0/24"),
        target: StaticTarget::Via(vec![ip("192.0.2.9")]),
    };
    rib.set_static_routes(&[own]).unwrap();
    let _ = plain.commit(&mut rib);
    let group = |plain: &Plain, vrf| {
        let group = plain.entries[&(vrf, prefix("198.51.100.0/24"))];
        describe(plain.published.adjacencies[plain.buckets(group)[0].0 as usize])
    };
    assert_eq!(group(&plain, VRF), "forward 0 10.0.0.2 2");
    assert_eq!(group(&plain, OTHER), "forward 2 192.0.2.9 9");
    withdraw(&mut rib, 2, &["198.51.100.0/24"]);
    let _ = plain.commit(&mut rib);
    assert_eq!(group(&plain, VRF), "forward 2 192.0.2.9 9", "now the other's is leaked here");
    rib.set_static_routes(&[]).unwrap();
    let _ = plain.commit(&mut rib);
    let gone = plain.entries.keys().all(|(_, p)| *p != prefix("198.51.100.0/24"));
    assert!(gone, "neither keeps the other's alive");
    assert_all_returns(rib, plain, 3);
}

#[test]
fn without_a_leak_there_is_nothing_and_unknown_vrfs_are_refused() {
    let (mut rib, mut plain) = with(&[]);
    announce(&mut rib, 2, &["0.0.0.0/0", "198.51.100.0/24"], via(&["10.0.0.2"]));
    let _ = plain.commit(&mut rib);
    same(&plain, &[]);
    assert!(rib.set_leaks(&[leak(VRF, VrfId(7), &[], false)]).is_err());
    assert_all_returns(rib, plain, 3);
}

#[test]
fn a_home_that_changes_back_before_its_turn_is_followed_back() {
    let (mut rib, mut plain) = with(&[leak(VRF, OTHER, &["198.51.100.0/24"], true)]);
    announce(&mut rib, 2, &["198.51.100.0/24"], via(&["10.0.0.2"]));
    let _ = plain.commit(&mut rib);
    // At home its change waits behind others; where it is leaked to, it is looked at at once.
    feed_some(&mut rib, 2, "10.0.0.2", 5000);
    announce(&mut rib, 2, &["198.51.100.0/24"], via(&["10.0.1.2"]));
    let there = |withdrawn, announced| {
        let event = RouteEvent::Update { withdrawn, announced, attributes: Arc::new(via(&["192.0.2.9"])) };
        SourceEvent { source: SourceId(3), vrf: OTHER, event }
    };
    rib.apply(&there(vec![], vec![nlri("198.51.100.0/24")])).unwrap();
    rib.apply(&there(vec![nlri("198.51.100.0/24")], vec![])).unwrap();
    let key = |vrf| (vrf, prefix("198.51.100.0/24"));
    let before = plain.entries[&key(VRF)];
    let _ = plain.slice(&mut rib, 1);
    assert_eq!(plain.entries[&key(VRF)], before, "its turn has not come");
    assert_ne!(plain.entries[&key(OTHER)], before);
    announce(&mut rib, 2, &["198.51.100.0/24"], via(&["10.0.0.2"]));
    let _ = plain.commit(&mut rib);
    same(&plain, &["198.51.100.0/24"]);
}
