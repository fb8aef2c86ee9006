//! Commits in slices: no slice does more than its share, whatever came at once; and a repair comes with the next
//! slice, be there ten routes or a million.

use super::scale::{Counter, feed_some};
use super::*;

/// Most entries that a slice without time looks at, for each table: what `write` works out at a time.
const SHARE: usize = 1024;

/// Slices until all is done. Gives how many there were, and how many times entries were written in the longest.
fn slices(rib: &mut Rib, fib: &mut Counter) -> (usize, usize) {
    let (mut count, mut most) = (0, 0);
    while rib.is_dirty() {
        let before = fib.inserts + fib.removes;
        // Time for one look only: one step of a pass, or one plan.
        let mut looks = 0;
        let _ = rib.commit_slice(&mut |_| {}, fib, &mut || {
            looks += 1;
            looks <= 1
        });
        most = most.max(fib.inserts + fib.removes - before);
        count += 1;
        assert!(count < 10_000, "it does not end");
    }
    (count, most)
}

#[test]
fn a_table_that_comes_and_goes_at_once_is_worked_off_in_slices() {
    const ROUTES: u32 = 100_000;
    let (mut rib, _) = two_links();
    let mut fib = Counter::default();
    let _ = rib.commit(&mut |_| {}, &mut fib);
    let base = fib.inserts;
    feed_some(&mut rib, 2, "10.0.0.2", ROUTES);
    assert_eq!(rib.backlog(), ROUTES as usize);
    let (count, most) = slices(&mut rib, &mut fib);
    assert_eq!(fib.inserts - base, ROUTES as usize);
    assert!(most <= 2 * SHARE && count >= ROUTES as usize / SHARE / 2, "{count} slices, {most} in one");
    // All stale at once: the sweep is a pass in steps, and so are the removals.
    rib.source_down(SourceId(2));
    rib.sweep_source(SourceId(2));
    assert_eq!(rib.route_count(VRF, Family::Ipv4), ROUTES as usize + 10);
    let (_, most) = slices(&mut rib, &mut fib);
    assert!(most <= 2 * SHARE, "{most}");
    assert_eq!(fib.removes, ROUTES as usize);
    assert_eq!(rib.route_count(VRF, Family::Ipv4), 10);
    assert_eq!(rib.backlog(), 0);
}

#[test]
fn what_comes_again_during_a_sweep_stays() {
    let (mut rib, _) = two_links();
    let mut fib = Counter::default();
    feed_some(&mut rib, 2, "10.0.0.2", 50_000);
    let _ = rib.commit(&mut |_| {}, &mut fib);
    let (inserts, removes) = (fib.inserts, fib.removes);
    rib.source_down(SourceId(2));
    rib.sweep_source(SourceId(2));
    // The sweep has begun, the source is back, and brings all again before it is through.
    let _ = rib.commit_slice(&mut |_| {}, &mut fib, &mut || false);
    send(&mut rib, 2, RouteEvent::Up);
    feed_some(&mut rib, 2, "10.0.0.2", 50_000);
    slices(&mut rib, &mut fib);
    assert_eq!(rib.route_count(VRF, Family::Ipv4), 50_000 + 10);
    // Few were taken out and came again; nothing else was written.
    assert!(fib.removes - removes <= SHARE && fib.inserts - inserts == fib.removes - removes);
}

#[test]
fn ten_changes_between_commits_cost_one_write() {
    let (mut rib, mut plain) = two_links();
    let _ = plain.commit(&mut rib);
    let before = plain.inserts;
    for i in 0..10 {
        let next_hop = if i % 2 == 0 { "10.0.0.2" } else { "10.0.1.2" };
        announce(&mut rib, 2, &["192.0.2.0/24"], Attributes { med: i, ..via(&[next_hop]) });
    }
    let _ = plain.commit(&mut rib);
    assert_eq!(plain.inserts - before, 1);
    announce(&mut rib, 2, &["192.0.2.0/24"], via(&["10.0.0.2"]));
    withdraw(&mut rib, 2, &["192.0.2.0/24"]);
    announce(&mut rib, 2, &["192.0.2.0/24"], Attributes { med: 9, ..via(&["10.0.1.2"]) });
    let _ = plain.commit(&mut rib);
    assert_eq!(plain.inserts - before, 1, "it leads where it led before");
}

/// What covers an address is there before what covered it goes, however small the slices.
#[test]
fn nothing_is_uncovered_on_the_way() {
    let (mut rib, mut plain) = two_links();
    let halves: Vec<String> = (0..3000u32)
        .flat_map(|i| [0, 128].map(|low| format!("100.{}.{}.{low}/25", i / 256, i % 256)))
        .collect();
    let wholes: Vec<String> = (0..3000u32).map(|i| format!("100.{}.{}.0/24", i / 256, i % 256)).collect();
    let refs = |texts: &'static [String]| texts.iter().map(String::as_str).collect::<Vec<_>>();
    let (halves, wholes): (&'static [String], &'static [String]) = (halves.leak(), wholes.leak());
    announce(&mut rib, 2, &refs(wholes), via(&["10.0.0.2"]));
    let _ = plain.commit(&mut rib);
    withdraw(&mut rib, 2, &refs(wholes));
    announce(&mut rib, 2, &refs(halves), via(&["10.0.1.2"]));
    while rib.is_dirty() {
        let _ = plain.slice(&mut rib, 1);
        for (i, whole) in wholes.iter().enumerate() {
            let covered = |text: &str| plain.group(text).is_some();
            let split = covered(&halves[2 * i]) && covered(&halves[2 * i + 1]);
            assert!(covered(whole) || split, "{whole} is uncovered");
        }
    }
    assert!(wholes.iter().all(|whole| plain.group(whole).is_none()));
}

#[test]
fn a_backup_takes_over_in_the_next_slice_with_ten_routes_and_with_a_million() {
    for routes in [10, 1_000_000] {
        let (mut rib, _) = two_links();
        let mut fib = Counter::default();
        feed_some(&mut rib, 2, "10.0.0.2", routes);
        // A longer path: it is the backup.
        let longer = Attributes { as_path_len: 9, ..via(&["10.0.1.2"]) };
        for chunk in (0..routes).collect::<Vec<_>>().chunks(500) {
            let prefix = |i: &u32| IpNetwork::new(Ipv4Addr::from_bits(0x2000_0000 + (i << 8)).into(), 24);
            let announced = chunk.iter().map(|i| Nlri { prefix: prefix(i).unwrap(), path_id: 0 }).collect();
            let attributes = Arc::new(longer.clone());
            send(&mut rib, 3, RouteEvent::Update { withdrawn: vec![], announced, attributes });
        }
        let _ = rib.commit(&mut |_| {}, &mut fib);
        let group = rib.lookup(VRF, ip("32.0.0.1")).unwrap().group.unwrap();
        // Link down: the connected prefix goes, and with it the next hop of all first paths.
        let writes = fib.inserts + fib.removes;
        rib.set_link(SubIfId(0), false).unwrap();
        let mut seen = GroupsSnapshot::default();
        let done = rib.commit_slice(&mut |groups| seen = groups.clone(), &mut fib, &mut || false);
        assert!(done.published >= 1);
        let desc = seen.groups[group as usize];
        for bucket in desc.first_bucket..desc.first_bucket + desc.buckets {
            let adj = seen.buckets[bucket as usize];
            assert_eq!(describe(seen.adjacencies[adj.0 as usize]), "forward 1 10.0.1.2 3", "{routes}");
        }
        // That was in the groups alone; the prefixes are worked off afterwards.
        assert!(fib.inserts + fib.removes - writes <= 2 * SHARE);
        slices(&mut rib, &mut fib);
        let view = rib.lookup(VRF, ip("32.0.0.1")).unwrap();
        assert!(view.members.iter().all(|member| member.subif == 1 && !member.backup));
        // And back: the first path again, with the second in wait.
        rib.set_link(SubIfId(0), true).unwrap();
        let _ = rib.commit(&mut |_| {}, &mut fib);
        let view = rib.lookup(VRF, ip("32.0.0.1")).unwrap();
        let members: Vec<_> = view.members.iter().map(|m| (m.subif, m.backup, m.buckets > 0)).collect();
        assert_eq!(members, [(0, false, true), (1, true, false)]);
        assert!(view.paths.iter().any(|path| path.backup && !path.used));
    }
}

/// The gateways of a prefix's group that have buckets, as published last.
fn carriers(seen: &GroupsSnapshot, group: u32) -> Vec<String> {
    let desc = seen.groups[group as usize];
    let buckets = &seen.buckets[desc.first_bucket as usize..(desc.first_bucket + desc.buckets) as usize];
    let mut all: Vec<String> = buckets.iter().map(|adj| describe(seen.adjacencies[adj.0 as usize])).collect();
    all.sort();
    all.dedup();
    all
}

#[test]
fn a_lost_session_is_left_in_the_next_slice_with_ten_routes_and_with_a_million() {
    let (over0, over1) = ("forward 0 10.0.0.2 2", "forward 1 10.0.1.2 3");
    for routes in [10, 1_000_000] {
        for shared in [true, false] {
            let (mut rib, _) = two_links();
            let mut fib = Counter::default();
            feed_some(&mut rib, 2, "10.0.0.2", routes);
            // Equal, or longer: then it is a backup only.
            let longer = Attributes { as_path_len: u32::from(!shared), ..via(&["10.0.1.2"]) };
            let other = Attributes { as_path: vec![12076, 0], ..longer };
            for chunk in (0..routes).collect::<Vec<_>>().chunks(500) {
                let prefix = |i: &u32| IpNetwork::new(Ipv4Addr::from_bits(0x2000_0000 + (i << 8)).into(), 24);
                let announced = chunk.iter().map(|i| Nlri { prefix: prefix(i).unwrap(), path_id: 0 });
                let (announced, attributes) = (announced.collect(), Arc::new(other.clone()));
                send(&mut rib, 3, RouteEvent::Update { withdrawn: vec![], announced, attributes });
            }
            // One that only the session that is lost has.
            announce(&mut rib, 2, &["203.0.113.0/24"], via(&["10.0.0.2"]));
            let mut seen = GroupsSnapshot::default();
            let _ = rib.commit(&mut |groups| seen = groups.clone(), &mut fib);
            let group = rib.lookup(VRF, ip("32.0.0.1")).unwrap().group.unwrap();
            let alone = rib.lookup(VRF, ip("203.0.113.1")).unwrap().group.unwrap();
            let before = if shared { vec![over0, over1] } else { vec![over0] };
            assert_eq!(carriers(&seen, group), before);
            let writes = fib.inserts + fib.removes;
            send(&mut rib, 2, RouteEvent::Down { reason: "cut".into(), retain: None });
            rib.sweep_source(SourceId(2));
            let _ = rib.commit_slice(&mut |groups| seen = groups.clone(), &mut fib, &mut || false);
            assert_eq!(carriers(&seen, group), [over1], "{routes} routes");
            assert_eq!(carriers(&seen, alone), [over0], "it has no other way, and goes in its turn");
            assert!(fib.inserts + fib.removes - writes <= 2 * SHARE);
            slices(&mut rib, &mut fib);
            assert!(rib.lookup(VRF, ip("203.0.113.1")).is_none());
            let view = rib.lookup(VRF, ip("32.0.0.1")).unwrap();
            assert!(view.members.len() == 1 && view.members[0].subif == 1);
        }
    }
}

#[test]
fn sources_that_share_a_next_hop_and_are_lost_together_are_left_in_the_next_slice() {
    let (over0, over1) = ("forward 0 10.0.0.2 2", "forward 1 10.0.1.2 3");
    // The second one's paths are equal to the first one's, or next best, before the way that is left.
    for (routes, second) in [(10, 0), (10, 1), (300_000, 0), (300_000, 1)] {
        let (mut rib, _) = two_links();
        rib.add_source(SourceId(4), SourceKind::Bgp);
        let mut fib = Counter::default();
        for (source, as_path_len, gateway) in
            [(2, 0, "10.0.0.2"), (3, second, "10.0.0.2"), (4, 2, "10.0.1.2")]
        {
            let attributes = Arc::new(Attributes { as_path_len, ..via(&[gateway]) });
            for chunk in (0..routes).collect::<Vec<_>>().chunks(500) {
                let prefix = |i: &u32| IpNetwork::new(Ipv4Addr::from_bits(0x2000_0000 + (i << 8)).into(), 24);
                let announced = chunk.iter().map(|i| Nlri { prefix: prefix(i).unwrap(), path_id: 0 });
                let (announced, attributes) = (announced.collect(), Arc::clone(&attributes));
                send(&mut rib, source, RouteEvent::Update { withdrawn: vec![], announced, attributes });
            }
        }
        let mut seen = GroupsSnapshot::default();
        let _ = rib.commit(&mut |groups| seen = groups.clone(), &mut fib);
        let group = rib.lookup(VRF, ip("32.0.0.1")).unwrap().group.unwrap();
        let writes = fib.inserts + fib.removes;
        for (lost, carrier) in [(2, over0), (3, over1)] {
            send(&mut rib, lost, RouteEvent::Down { reason: "cut".into(), retain: None });
            rib.sweep_source(SourceId(lost));
            let _ = rib.commit_slice(&mut |groups| seen = groups.clone(), &mut fib, &mut || false);
            assert_eq!(carriers(&seen, group), [carrier], "{routes} routes, without {lost}");
        }
        assert!(fib.inserts + fib.removes - writes <= 4 * SHARE);
        slices(&mut rib, &mut fib);
        let view = rib.lookup(VRF, ip("32.0.0.1")).unwrap();
        assert!(view.members.len() == 1 && view.members[0].subif == 1);
    }
}

#[test]
fn what_rests_on_routes_of_a_lost_source_leads_elsewhere_with_the_next_slice() {
    for routes in [10, 100_000] {
        let (mut rib, mut plain) = two_links();
        feed_some(&mut rib, 2, "10.0.0.2", routes);
        // The last of its table bears the next hop of another source, on which a further one rests.
        announce(&mut rib, 2, &["198.18.0.0/16"], via(&["10.0.0.2"]));
        announce(&mut rib, 3, &["198.0.0.0/8"], via(&["10.0.1.2"]));
        announce(&mut rib, 3, &["192.0.2.0/24"], via(&["198.18.0.1"]));
        announce(&mut rib, 3, &["203.0.113.0/24"], via(&["192.0.2.1"]));
        let _ = plain.commit(&mut rib);
        for prefix in ["192.0.2.0/24", "203.0.113.0/24"] {
            assert_eq!(plain.forwards(prefix), [("forward 0 10.0.0.2 2".into(), 1)], "{routes} {prefix}");
        }
        let writes = plain.inserts + plain.removes;
        send(&mut rib, 2, RouteEvent::Down { reason: "cut".into(), retain: None });
        rib.sweep_source(SourceId(2));
        let _ = plain.slice(&mut rib, 1);
        for prefix in ["192.0.2.0/24", "203.0.113.0/24"] {
            assert_eq!(plain.forwards(prefix), [("forward 1 10.0.1.2 3".into(), 1)], "{routes} {prefix}");
        }
        assert!(plain.inserts + plain.removes - writes <= 4 * SHARE);
        let _ = plain.commit(&mut rib);
        assert_eq!(plain.group("198.18.0.0/16"), None);
        assert_all_returns(rib, plain, 2);
    }
}

#[test]
fn who_vouched_last_and_withdraws_leaves_the_next_hop_to_the_lost_one() {
    let (mut rib, mut plain) = two_links();
    let more: Vec<String> = (0..5000u32).map(|i| format!("100.{}.{}.0/24", i / 256, i % 256)).collect();
    let more: Vec<&str> = more.iter().map(String::as_str).collect();
    announce(&mut rib, 2, &more, via(&["10.0.0.2"]));
    announce(&mut rib, 3, &more, via(&["10.0.1.2"]));
    announce(&mut rib, 3, &["198.51.100.0/24"], via(&["10.0.0.2"]));
    let _ = plain.commit(&mut rib);
    rib.source_down(SourceId(2));
    rib.sweep_source(SourceId(2));
    withdraw(&mut rib, 3, &["198.51.100.0/24"]);
    let _ = plain.slice(&mut rib, 1);
    assert_eq!(plain.forwards(more[4999]), [("forward 1 10.0.1.2 3".into(), 64)]);
    let _ = plain.commit(&mut rib);
    assert_all_returns(rib, plain, 2);
}

#[test]
fn a_next_hop_that_somebody_vouches_for_is_not_left() {
    let (mut rib, mut plain) = two_links();
    let both = [("forward 0 10.0.0.2 2".to_string(), 32), ("forward 1 10.0.1.2 3".to_string(), 32)];
    let set_up = |rib: &mut Rib| {
        announce(rib, 2, &["192.0.2.0/24"], via(&["10.0.0.2"]));
        announce(rib, 3, &["192.0.2.0/24"], via(&["10.0.1.2"]));
    };
    set_up(&mut rib);
    announce(&mut rib, 3, &["198.51.100.0/24"], via(&["10.0.0.2"]));
    let _ = plain.commit(&mut rib);
    assert_eq!(plain.forwards("192.0.2.0/24"), both);
    // The other session has a route over the same next hop: this one's prefixes are looked at, each in its turn.
    rib.source_down(SourceId(2));
    rib.sweep_source(SourceId(2));
    let _ = plain.slice(&mut rib, 1);
    assert_eq!(plain.forwards("192.0.2.0/24"), both);
    let _ = plain.commit(&mut rib);
    assert_eq!(plain.forwards("192.0.2.0/24"), [("forward 1 10.0.1.2 3".into(), 1)]);
    // It is left, and the source is back before its routes are gone: it is used again.
    withdraw(&mut rib, 3, &["198.51.100.0/24"]);
    set_up(&mut rib);
    let _ = plain.commit(&mut rib);
    rib.source_down(SourceId(2));
    rib.sweep_source(SourceId(2));
    let _ = plain.slice(&mut rib, 1);
    assert_eq!(plain.forwards("192.0.2.0/24"), [("forward 1 10.0.1.2 3".into(), 64)]);
    send(&mut rib, 2, RouteEvent::Up);
    set_up(&mut rib);
    let _ = plain.commit(&mut rib);
    assert_eq!(plain.forwards("192.0.2.0/24"), both);
    // What was announced again before the retain time was over is a reason to stay.
    rib.source_down(SourceId(2));
    send(&mut rib, 2, RouteEvent::Up);
    set_up(&mut rib);
    rib.sweep_source(SourceId(2));
    let _ = plain.slice(&mut rib, 1);
    assert_eq!(plain.forwards("192.0.2.0/24"), both);
    assert_all_returns(rib, plain, 2);
}

#[test]
fn however_often_a_source_is_lost_no_turn_is_long() {
    const ROUTES: u32 = 100_000;
    let (mut rib, _) = two_links();
    let mut fib = Counter::default();
    feed_some(&mut rib, 2, "10.0.0.2", ROUTES);
    let _ = rib.commit(&mut |_| {}, &mut fib);
    let mut most = 0;
    // Twice as often as a path's stamp can tell.
    for _ in 0..=2 * u32::from(u16::MAX) {
        let (count, writes) = (rib.route_count(VRF, Family::Ipv4), fib.inserts + fib.removes);
        send(&mut rib, 2, RouteEvent::Up);
        assert_eq!(rib.route_count(VRF, Family::Ipv4), count, "the loss itself takes nothing out");
        announce(&mut rib, 2, &["203.0.113.0/24"], via(&["10.0.0.2"]));
        let mut looks = 0;
        let _ = rib.commit_slice(&mut |_| {}, &mut fib, &mut || {
            looks += 1;
            looks <= 1
        });
        most = most.max(fib.inserts + fib.removes - writes);
    }
    assert!(most <= 2 * SHARE, "{most}");
    // What was not announced for so long is gone, the rest is there.
    assert_eq!(rib.route_count(VRF, Family::Ipv4), 10 + 1);
    assert!(rib.lookup(VRF, ip("203.0.113.1")).is_some());
}
