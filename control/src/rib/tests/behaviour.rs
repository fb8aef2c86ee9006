//! What the RIB does, case by case.

use super::*;

#[test]
fn an_interface_brings_its_prefix_addresses_and_neighbours() {
    let (mut rib, mut plain) = two_links();
    let _ = plain.commit(&mut rib);
    assert_eq!(plain.forwards("10.0.0.0/30"), [("glean 0".into(), 1)]);
    assert_eq!(plain.forwards("10.0.0.1/32"), [("local".into(), 1)]);
    assert_eq!(plain.forwards("10.0.0.2/32"), [("forward 0 10.0.0.2 2".into(), 1)]);
    assert_eq!(plain.group("10.0.0.0/32"), Some(GroupId::DISCARD));
    assert_eq!(plain.group("10.0.0.3/32"), Some(GroupId::DISCARD));
    rib.set_neighbour(SubIfId(0), ip("10.0.0.2"), Neighbour::Gone).unwrap();
    rib.set_link(SubIfId(1), false).unwrap();
    let _ = plain.commit(&mut rib);
    assert_eq!(plain.group("10.0.0.2/32"), None);
    assert_eq!(plain.group("10.0.1.0/30"), None);
    assert_eq!(plain.group("10.0.1.2/32"), None);
    assert_eq!(plain.group("10.0.1.1/32"), Some(GroupId::LOCAL));
    assert_all_returns(rib, plain, 2);
}

#[test]
fn link_local_addresses_are_not_routed() {
    let mut rib = rib();
    let mut plain = Plain::default();
    rib.add_interface(SubIfId(0), &interface(VRF, &["fe80::1/64", "2001:db8::1/126"]), true).unwrap();
    reachable(&mut rib, 0, "fe80::2", 9);
    announce(&mut rib, 2, &["fe80::/64"], via(&["2001:db8::2"]));
    let _ = plain.commit(&mut rib);
    let all: Vec<String> = plain.entries.keys().map(|(_, p)| p.to_string()).collect();
    assert_eq!(all, ["2001:db8::/126", "2001:db8::1/128"]);
    assert_eq!(rib.ignored(), 1);
}

#[test]
fn a_link_local_next_hop_is_on_the_link_that_it_came_with() {
    let (mut rib, mut plain) = two_links();
    reachable(&mut rib, 0, "fe80::2", 7);
    reachable(&mut rib, 1, "fe80::2", 8);
    let on = |interfaces: &[u16]| {
        let hop = |i: &u16| NextHop { interface: Some(SubIfId(*i)), ..NextHop::new(ip("fe80::2")) };
        Attributes { next_hops: interfaces.iter().map(hop).collect(), ..Attributes::default() }
    };
    announce(&mut rib, 2, &["2001:db8:1::/48", "192.0.2.0/24"], on(&[0, 1]));
    announce(&mut rib, 3, &["2001:db8:2::/48"], via(&["fe80::2"]));
    let _ = plain.commit(&mut rib);
    let both = [("forward 0 fe80::2 7".to_string(), 32), ("forward 1 fe80::2 8".to_string(), 32)];
    assert_eq!(plain.forwards("2001:db8:1::/48"), both);
    assert_eq!(plain.forwards("192.0.2.0/24"), both, "IPv4 over an IPv6 next hop");
    assert_eq!(plain.group("2001:db8:2::/48"), None, "on no known link");
    rib.set_link(SubIfId(0), false).unwrap();
    let _ = plain.commit(&mut rib);
    assert_eq!(plain.forwards("2001:db8:1::/48"), [("forward 1 fe80::2 8".into(), 64)]);
    announce(&mut rib, 2, &["192.0.2.0/24"], on(&[0]));
    let _ = plain.commit(&mut rib);
    assert_eq!(plain.group("192.0.2.0/24"), None, "its link is down");
    rib.set_link(SubIfId(0), true).unwrap();
    let _ = plain.commit(&mut rib);
    assert_eq!(plain.forwards("192.0.2.0/24"), [("forward 0 fe80::2 7".into(), 1)]);
    assert_all_returns(rib, plain, 2);
}

#[test]
fn equal_paths_of_two_sessions_share_and_a_worse_one_waits() {
    let (mut rib, mut plain) = two_links();
    announce(&mut rib, 2, &["192.0.2.0/24"], via(&["10.0.0.2"]));
    announce(&mut rib, 3, &["192.0.2.0/24"], via(&["10.0.1.2"]));
    let _ = plain.commit(&mut rib);
    let both = [("forward 0 10.0.0.2 2".to_string(), 32), ("forward 1 10.0.1.2 3".to_string(), 32)];
    assert_eq!(plain.forwards("192.0.2.0/24"), both);
    // A path drained by prepending, the session up.
    let prepended = Attributes { as_path: vec![12076; 9], as_path_len: 9, ..via(&["10.0.0.2"]) };
    announce(&mut rib, 2, &["192.0.2.0/24"], prepended);
    let _ = plain.commit(&mut rib);
    assert_eq!(plain.forwards("192.0.2.0/24"), [("forward 1 10.0.1.2 3".into(), 1)]);
    withdraw(&mut rib, 3, &["192.0.2.0/24"]);
    let _ = plain.commit(&mut rib);
    assert_eq!(plain.forwards("192.0.2.0/24"), [("forward 0 10.0.0.2 2".into(), 1)]);
    // Static wins by distance.
    rib.set_static_routes(&[StaticRoute {
        vrf: VRF,
        prefix: prefix("192.0.2.0/24"),
        target: StaticTarget::Discard,
    }])
    .unwrap();
    let _ = plain.commit(&mut rib);
    assert_eq!(plain.group("192.0.2.0/24"), Some(GroupId::DISCARD));
    rib.set_static_routes(&[]).unwrap();
    let _ = plain.commit(&mut rib);
    assert_eq!(plain.forwards("192.0.2.0/24"), [("forward 0 10.0.0.2 2".into(), 1)]);
    assert_all_returns(rib, plain, 2);
}

#[test]
fn bgp_decides_in_the_order_of_rfc_4271() {
    let (mut rib, mut plain) = two_links();
    let first = "forward 0 10.0.0.2 2";
    let second = "forward 1 10.0.1.2 3";
    let base = |nh: &str| Attributes { as_path: vec![1, 2], as_path_len: 2, med: 5, ..via(&[nh]) };
    let cases: [(&str, Attributes, &[&str]); 7] = [
        ("higher LOCAL_PREF", Attributes { local_pref: 99, as_path_len: 1, ..base("10.0.1.2") }, &[first]),
        ("shorter AS_PATH", Attributes { as_path_len: 1, med: 9, ..base("10.0.1.2") }, &[second]),
        ("lower ORIGIN", Attributes { origin: Origin::Egp, med: 0, ..base("10.0.1.2") }, &[first]),
        ("lower MED of one AS", Attributes { med: 4, ..base("10.0.1.2") }, &[second]),
        ("higher MED of one AS", Attributes { med: 6, ..base("10.0.1.2") }, &[first]),
        (
            "MED of another AS",
            Attributes { as_path: vec![3, 2], med: 9, ..base("10.0.1.2") },
            &[first, second],
        ),
        ("all equal", base("10.0.1.2"), &[first, second]),
    ];
    announce(&mut rib, 2, &["192.0.2.0/24"], base("10.0.0.2"));
    for (what, other, expected) in cases {
        announce(&mut rib, 3, &["192.0.2.0/24"], other);
        let _ = plain.commit(&mut rib);
        let used: Vec<String> = plain.forwards("192.0.2.0/24").into_iter().map(|(kind, _)| kind).collect();
        assert_eq!(used, expected, "{what}");
    }
}

#[test]
fn next_hops_resolve_recursively_and_follow() {
    let (mut rib, mut plain) = two_links();
    announce(&mut rib, 3, &["172.16.0.0/24"], via(&["10.0.0.2"]));
    announce(&mut rib, 2, &["192.0.2.0/24", "198.51.100.0/24"], via(&["172.16.0.9"]));
    let _ = plain.commit(&mut rib);
    assert_eq!(plain.forwards("192.0.2.0/24"), [("forward 0 10.0.0.2 2".into(), 1)]);
    let (inserts, group) = (plain.inserts, plain.group("192.0.2.0/24"));
    announce(&mut rib, 3, &["172.16.0.0/24"], via(&["10.0.1.2"]));
    let _ = plain.commit(&mut rib);
    assert_eq!(plain.forwards("192.0.2.0/24"), [("forward 1 10.0.1.2 3".into(), 1)]);
    // The prefixes that rest on it were not touched: one write, for 172.16.0.0/24 itself.
    assert_eq!((plain.inserts - inserts, plain.group("192.0.2.0/24")), (1, group));
    let view = rib.lookup(VRF, ip("192.0.2.7")).unwrap();
    assert_eq!(view.prefix, prefix("192.0.2.0/24"));
    assert_eq!(view.paths[0].next_hops[0].address, ip("172.16.0.9"));
    assert_eq!(view.paths[0].next_hops[0].resolved[0].gateway, ip("10.0.1.2"));
    assert_eq!(view.members[0].state, "live");
    withdraw(&mut rib, 3, &["172.16.0.0/24"]);
    let _ = plain.commit(&mut rib);
    assert_eq!(plain.group("192.0.2.0/24"), None);
    // The two that lost their next hop are kept, beside the ten of the interfaces.
    assert_eq!(rib.route_count(VRF, Family::Ipv4), 2 + 10);
    announce(&mut rib, 3, &["172.16.0.0/16"], via(&["10.0.0.2"]));
    let _ = plain.commit(&mut rib);
    assert_eq!(plain.forwards("198.51.100.0/24"), [("forward 0 10.0.0.2 2".into(), 1)]);
    assert_all_returns(rib, plain, 2);
}

#[test]
fn loops_own_addresses_and_the_default_route_resolve_nothing() {
    let (mut rib, mut plain) = two_links();
    announce(&mut rib, 2, &["172.16.0.0/24"], via(&["172.16.1.1"]));
    announce(&mut rib, 2, &["172.16.1.0/24"], via(&["172.16.0.1"]));
    announce(&mut rib, 2, &["172.16.2.0/24"], via(&["172.16.2.1"]));
    announce(&mut rib, 2, &["172.16.3.0/24"], via(&["10.0.0.1"]));
    announce(&mut rib, 2, &["0.0.0.0/0"], via(&["10.0.0.2"]));
    announce(&mut rib, 2, &["172.16.4.0/24"], via(&["203.0.113.1"]));
    let _ = plain.commit(&mut rib);
    for i in 0..=4 {
        assert_eq!(plain.group(&format!("172.16.{i}.0/24")), None, "{i}");
    }
    assert_eq!(plain.forwards("0.0.0.0/0"), [("forward 0 10.0.0.2 2".into(), 1)]);
    // A more specific route over its own next hop is no loop: the connected prefix still resolves it.
    announce(&mut rib, 2, &["10.0.0.2/31"], via(&["10.0.0.2"]));
    let _ = plain.commit(&mut rib);
    assert_eq!(plain.forwards("10.0.0.2/31"), [("forward 0 10.0.0.2 2".into(), 1)]);
    assert_all_returns(rib, plain, 2);
}

#[test]
fn a_chain_of_eight_resolves_and_one_of_nine_does_not() {
    let (mut rib, mut plain) = two_links();
    announce(&mut rib, 2, &["172.16.1.0/24"], via(&["10.0.0.2"]));
    for i in 2..=10 {
        announce(&mut rib, 2, &[&format!("172.16.{i}.0/24")], via(&[&format!("172.16.{}.1", i - 1)]));
    }
    let _ = plain.commit(&mut rib);
    // 172.16.9.0/24 leads over 172.16.8.1, which is eight recursions from 10.0.0.2.
    assert_eq!(plain.forwards("172.16.9.0/24"), [("forward 0 10.0.0.2 2".into(), 1)]);
    assert_eq!(plain.group("172.16.10.0/24"), None);
}

#[test]
fn a_lost_neighbour_or_link_touches_its_groups_only() {
    let (mut rib, mut plain) = two_links();
    announce(&mut rib, 2, &["192.0.2.0/24"], via(&["10.0.0.2", "10.0.1.2"]));
    announce(&mut rib, 2, &["198.51.100.0/24"], via(&["10.0.1.2"]));
    let _ = plain.commit(&mut rib);
    let group = plain.group("192.0.2.0/24").unwrap();
    let before = plain.buckets(group).to_vec();
    let (writes, refreshed) = (plain.inserts, rib.groups.refreshed);
    rib.set_neighbour(SubIfId(0), ip("10.0.0.2"), Neighbour::Failed).unwrap();
    // Two groups hold it: this one, and that of its own host route.
    assert_eq!(rib.groups.refreshed - refreshed, 2);
    let done = plain.commit(&mut rib);
    assert_eq!(plain.forwards("192.0.2.0/24"), [("forward 1 10.0.1.2 3".into(), 64)]);
    // The host route goes; no other prefix is touched.
    assert_eq!((plain.inserts - writes, done.removed), (0, 1));
    reachable(&mut rib, 0, "10.0.0.2", 2);
    let _ = plain.commit(&mut rib);
    let after = plain.buckets(group);
    assert_eq!(before.iter().filter(|b| **b == before[0]).count(), 32);
    assert_eq!(after.iter().filter(|b| **b == before[0]).count(), 32);
    // Both down: what is left asks for resolution.
    rib.set_neighbour(SubIfId(0), ip("10.0.0.2"), Neighbour::Failed).unwrap();
    rib.set_neighbour(SubIfId(1), ip("10.0.1.2"), Neighbour::Gone).unwrap();
    let _ = plain.commit(&mut rib);
    assert_eq!(plain.forwards("192.0.2.0/24"), [("incomplete 1 10.0.1.2".into(), 64)]);
    let wanted: Vec<_> = rib.wanted().collect();
    assert_eq!(wanted.len(), 2);
    reachable(&mut rib, 0, "10.0.0.2", 2);
    rib.set_link(SubIfId(1), false).unwrap();
    let _ = plain.commit(&mut rib);
    assert_eq!(plain.forwards("192.0.2.0/24"), [("forward 0 10.0.0.2 2".into(), 64)]);
    assert_eq!(plain.group("198.51.100.0/24"), None);
    assert_eq!(rib.wanted().count(), 0);
    assert_all_returns(rib, plain, 2);
}

#[test]
fn a_lost_source_forwards_until_it_is_swept() {
    let (mut rib, mut plain) = two_links();
    announce(&mut rib, 2, &["192.0.2.0/24", "198.51.100.0/24", "203.0.113.0/24"], via(&["10.0.0.2"]));
    announce(&mut rib, 3, &["203.0.113.0/24"], Attributes { local_pref: 50, ..via(&["10.0.1.2"]) });
    let _ = plain.commit(&mut rib);
    let (inserts, removes) = (plain.inserts, plain.removes);
    send(&mut rib, 2, RouteEvent::Down { reason: "hold timer".into(), retain: None });
    let _ = plain.commit(&mut rib);
    send(&mut rib, 2, RouteEvent::Up);
    announce(&mut rib, 2, &["192.0.2.0/24"], via(&["10.0.0.2"]));
    let _ = plain.commit(&mut rib);
    assert_eq!((plain.inserts, plain.removes), (inserts, removes), "a flap writes nothing");
    assert!(rib.route(VRF, prefix("198.51.100.0/24")).unwrap().paths[0].stale);
    send(&mut rib, 2, RouteEvent::EndOfRib(Family::Ipv6));
    send(&mut rib, 2, RouteEvent::EndOfRib(Family::Ipv4));
    let _ = plain.commit(&mut rib);
    assert!(plain.group("192.0.2.0/24").is_some());
    assert_eq!(plain.group("198.51.100.0/24"), None);
    assert_eq!(plain.forwards("203.0.113.0/24"), [("forward 1 10.0.1.2 3".into(), 1)]);
    rib.source_down(SourceId(2));
    rib.sweep_source(SourceId(2));
    let _ = plain.commit(&mut rib);
    assert_eq!(plain.group("192.0.2.0/24"), None);
    assert_all_returns(rib, plain, 2);
}

#[test]
fn each_loss_has_its_own_retain_time() {
    let (mut rib, mut plain) = two_links();
    let lose = |rib: &mut Rib| {
        send(rib, 2, RouteEvent::Down { reason: "killed".into(), retain: None });
        rib.generation(SourceId(2))
    };
    announce(&mut rib, 2, &["192.0.2.0/24", "198.51.100.0/24"], via(&["10.0.0.2"]));
    let first = lose(&mut rib);
    send(&mut rib, 2, RouteEvent::Up);
    announce(&mut rib, 2, &["198.51.100.0/24"], via(&["10.0.0.2"]));
    let second = lose(&mut rib);
    let _ = plain.commit(&mut rib);
    assert!(plain.group("192.0.2.0/24").is_some() && plain.group("198.51.100.0/24").is_some());
    rib.sweep_before(SourceId(2), first);
    let _ = plain.commit(&mut rib);
    assert_eq!(plain.group("192.0.2.0/24"), None, "not announced since the first loss");
    assert!(plain.group("198.51.100.0/24").is_some(), "announced between: it has until the second time");
    rib.sweep_before(SourceId(2), second);
    let _ = plain.commit(&mut rib);
    assert_eq!(plain.group("198.51.100.0/24"), None);
    assert_all_returns(rib, plain, 2);
}

#[test]
fn generations_wrap_without_harm() {
    let (mut rib, mut plain) = two_links();
    announce(&mut rib, 2, &["192.0.2.0/24"], via(&["10.0.0.2"]));
    for _ in 0..=u32::from(u16::MAX) {
        send(&mut rib, 2, RouteEvent::Up);
    }
    announce(&mut rib, 2, &["198.51.100.0/24"], via(&["10.0.0.2"]));
    send(&mut rib, 2, RouteEvent::EndOfRib(Family::Ipv4));
    let _ = plain.commit(&mut rib);
    assert_eq!(plain.group("192.0.2.0/24"), None);
    assert!(plain.group("198.51.100.0/24").is_some());
}

#[test]
fn a_failed_write_is_told_and_tried_again() {
    let (mut rib, mut plain) = two_links();
    let prefixes: Vec<String> = (0..200).map(|i| format!("192.0.{i}.0/24")).collect();
    let prefixes: Vec<&str> = prefixes.iter().map(String::as_str).collect();
    let _ = plain.commit(&mut rib);
    announce(&mut rib, 2, &prefixes, via(&["10.0.0.2"]));
    plain.failing = usize::MAX;
    let done = plain.commit(&mut rib);
    assert_eq!((done.inserted, done.pending), (0, 200));
    let text = done.failure.unwrap().to_string();
    assert!(text.contains("192.0.") && text.contains("no room") && text.contains("VRF 0"), "{text}");
    // No more tries than a few while there is no room.
    assert_eq!(usize::MAX - plain.failing, 64);
    plain.failing = 1;
    let done = plain.commit(&mut rib);
    assert_eq!(done.pending, 1);
    let done = plain.commit(&mut rib);
    assert_eq!((done.pending, done.failure), (0, None));
    assert!(prefixes.iter().all(|p| plain.group(p).is_some()));
    // A removal that fails too.
    withdraw(&mut rib, 2, &prefixes);
    plain.failing = 3;
    assert_eq!(plain.commit(&mut rib).pending, 3);
    assert_eq!(plain.commit(&mut rib).pending, 0);
    assert!(prefixes.iter().all(|p| plain.group(p).is_none()));
    assert_all_returns(rib, plain, 2);
}

#[test]
fn numbers_rest_until_they_are_reclaimed() {
    let (mut rib, mut plain) = two_links();
    announce(&mut rib, 2, &["192.0.2.0/24"], via(&["10.0.0.2", "10.0.1.2"]));
    let _ = plain.commit(&mut rib);
    let old = plain.group("192.0.2.0/24").unwrap();
    withdraw(&mut rib, 2, &["192.0.2.0/24"]);
    let ticket = plain.commit(&mut rib).ticket;
    // A worker that read the old number still forwards.
    assert_eq!(plain.buckets(old).len(), 64);
    rib.reclaim(|t| t < ticket);
    announce(&mut rib, 2, &["198.51.100.0/24"], via(&["10.0.1.2"]));
    let _ = plain.commit(&mut rib);
    assert_ne!(plain.group("198.51.100.0/24"), Some(old));
    rib.reclaim(|t| t <= ticket);
    announce(&mut rib, 2, &["203.0.113.0/24"], via(&["10.0.0.2"]));
    let _ = plain.commit(&mut rib);
    assert_eq!(plain.group("203.0.113.0/24"), Some(old));
    assert_all_returns(rib, plain, 2);
}

#[test]
fn vrfs_are_apart() {
    let mut rib = rib();
    let mut plain = Plain::default();
    for vrf in 0..2 {
        rib.add_interface(SubIfId(vrf), &interface(VrfId(vrf), &["10.0.0.1/30"]), true).unwrap();
        reachable(&mut rib, vrf, "10.0.0.2", vrf as u8);
    }
    announce(&mut rib, 2, &["192.0.2.0/24"], via(&["10.0.0.2"]));
    let _ = plain.commit(&mut rib);
    assert_eq!(plain.forwards("192.0.2.0/24"), [("forward 0 10.0.0.2 0".into(), 1)]);
    assert!(rib.lookup(VrfId(1), ip("192.0.2.1")).is_none());
    assert_eq!(rib.lookup(VrfId(1), ip("10.0.0.2")).unwrap().members[0].subif, 1);
    assert_all_returns(rib, plain, 2);
}

#[test]
fn paths_of_a_prefix_are_bounded() {
    let (mut rib, mut plain) = two_links();
    let announced =
        (0..1000).map(|path_id| Nlri { prefix: prefix("192.0.2.0/24"), path_id }).collect::<Vec<_>>();
    let event = RouteEvent::Update { withdrawn: vec![], announced, attributes: Arc::new(via(&["10.0.0.2"])) };
    send(&mut rib, 2, event);
    let _ = plain.commit(&mut rib);
    assert_eq!(rib.route(VRF, prefix("192.0.2.0/24")).unwrap().paths.len(), 256);
    assert_eq!(rib.ignored(), 744);
    assert_all_returns(rib, plain, 2);
}

#[test]
fn connected_prefixes_find_room_whatever_peers_announce() {
    let (mut rib, mut plain) = two_links();
    let announced = (0..300).map(|path_id| Nlri { prefix: prefix("10.0.1.0/30"), path_id }).collect();
    let event = RouteEvent::Update { withdrawn: vec![], announced, attributes: Arc::new(via(&["10.0.0.2"])) };
    rib.set_link(SubIfId(1), false).unwrap();
    let _ = plain.commit(&mut rib);
    send(&mut rib, 2, event);
    rib.set_link(SubIfId(1), true).unwrap();
    let _ = plain.commit(&mut rib);
    assert_eq!(plain.forwards("10.0.1.0/30"), [("glean 1".into(), 1)]);
    assert_all_returns(rib, plain, 2);
}

#[test]
fn what_is_unknown_is_refused() {
    let mut rib = rib();
    let event =
        |source, vrf| SourceEvent { source: SourceId(source), vrf: VrfId(vrf), event: RouteEvent::Up };
    assert_eq!(rib.apply(&event(9, 0)), Err(RibError::UnknownSource { source_id: 9 }));
    assert_eq!(rib.apply(&event(2, 7)), Err(RibError::UnknownVrf { vrf: 7, count: 2 }));
    assert_eq!(rib.set_link(SubIfId(4), true), Err(RibError::UnknownInterface { subif: 4 }));
    assert!(rib.set_neighbour(SubIfId(4), ip("10.0.0.1"), Neighbour::Failed).is_err());
    assert!(rib.add_interface(SubIfId(4), &interface(VrfId(7), &[]), true).is_err());
}

#[test]
fn tables_are_read_by_the_page() {
    let (mut rib, mut plain) = two_links();
    let prefixes: Vec<String> = (0..100).map(|i| format!("192.0.{i}.0/24")).collect();
    announce(&mut rib, 2, &prefixes.iter().map(String::as_str).collect::<Vec<_>>(), via(&["10.0.0.2"]));
    let _ = plain.commit(&mut rib);
    let mut seen = Vec::new();
    let mut start = None;
    loop {
        let page = rib.routes(VRF, Family::Ipv4, start, 7, None);
        assert!(page.routes.len() <= 7);
        seen.extend(page.routes.into_iter().map(|r| r.prefix));
        start = page.next;
        if start.is_none() {
            break;
        }
    }
    assert_eq!(seen.len(), rib.route_count(VRF, Family::Ipv4));
    assert!(seen.is_sorted());
    // Of one source only; and what covers a prefix that is no route itself.
    let only = rib.routes(VRF, Family::Ipv4, None, 1000, Some(&[SourceId(2)]));
    assert_eq!((only.routes.len(), only.next), (100, None));
    assert!(rib.routes(VRF, Family::Ipv4, None, 1000, Some(&[SourceId(3)])).routes.is_empty());
    assert_eq!(rib.cover(VRF, prefix("192.0.7.64/26")).unwrap().prefix, prefix("192.0.7.0/24"));
    assert_eq!(rib.cover(VRF, prefix("192.0.0.0/16")), None);
    let json = serde_json::to_value(rib.route(VRF, prefix("192.0.7.0/24")).unwrap()).unwrap();
    assert_eq!(json["prefix"], "192.0.7.0/24");
    assert_eq!(json["paths"][0]["kind"], "bgp");
    assert_eq!(json["members"][0]["gateway"], "10.0.0.2");
}

#[test]
fn so_many_neighbours_are_held_down_and_no_more() {
    let mut rib = rib();
    rib.add_interface(SubIfId(0), &interface(VRF, &["10.0.0.1/16"]), true).unwrap();
    let address = |i: usize| IpAddr::from(Ipv4Addr::from_bits(0x0a00_0002 + i as u32));
    for i in 0..MOST_HELD {
        rib.hold_down(SubIfId(0), address(i), true).unwrap();
    }
    rib.hold_down(SubIfId(0), address(0), true).unwrap();
    let error = rib.hold_down(SubIfId(0), address(MOST_HELD), true).unwrap_err();
    assert!(
        error.to_string().contains("4096") && error.to_string().contains("neighbour ADDRESS up"),
        "{error}"
    );
    rib.hold_down(SubIfId(0), address(7), false).unwrap();
    rib.hold_down(SubIfId(0), address(MOST_HELD), true).unwrap();
    assert!(!rib.is_held_down(SubIfId(0), address(7)) && rib.is_held_down(SubIfId(0), address(MOST_HELD)));
}
