//! Lists of routes in the kernel that are out of the ordinary, each message as Linux 6.18 sends it.

use super::*;

const LAST: u16 = NLM_F_APPEND;
const IN_PLACE: u16 = NLM_F_REPLACE;

/// What packets to a prefix meet after these messages.
fn after(kernel: &mut Replica, rib: &mut Rib, prefix: &str, said: &[Vec<u8>]) -> Option<String> {
    say(kernel, said);
    rib.drain(kernel);
    rib.of(prefix)
}

#[test]
fn a_next_hop_named_twice_has_the_share_of_both() {
    let (mut kernel, mut rib) = (replica(Manners::Kernel), Rib::default());
    let p = "192.0.2.0/24";
    let twice = multipath(&[("10.0.0.2", 7, 1), ("10.0.0.6", 8, 3), ("10.0.0.2", 7, 2)]);
    let had = after(&mut kernel, &mut rib, p, &[new(p, &twice)]);
    assert_eq!(had.as_deref(), Some("10.0.0.2*3 10.0.0.6*3"));
    let objects = [object(1, "10.0.0.2", 7), object(2, "10.0.0.2", 7), group(9, &[(1, 200), (2, 200)])];
    say(&mut kernel, &objects);
    let had = after(&mut kernel, &mut rib, p, &[route(NEW, p, metric(0, IN_PLACE), &id(9))]);
    assert_eq!(had.as_deref(), Some("10.0.0.2*255"), "as much as there can be");
}

#[test]
fn throw_drops_and_what_drops_by_an_object_goes_with_it() {
    let (mut kernel, mut rib) = (replica(Manners::Kernel), Rib::default());
    let p = "192.0.2.0/24";
    let kind = |kind: u8| Plan { kind, ..Plan::default() };
    let had = after(&mut kernel, &mut rib, p, &[route(NEW, p, kind(libc::RTN_THROW), &[])]);
    assert_eq!(had.as_deref(), Some(""), "no route before it is looked for");
    let had = after(&mut kernel, &mut rib, p, &[route(DELETE, p, kind(libc::RTN_THROW), &[])]);
    assert_eq!(had, None);
    // A group may have a single member that drops.
    let dropping = || message(104, 0, &[vec![0; 8], number(1, 4), attribute(4, &[])].concat());
    let by_group = [dropping(), group(9, &[(4, 1)]), route(NEW, p, kind(libc::RTN_BLACKHOLE), &id(9))];
    assert_eq!(after(&mut kernel, &mut rib, p, &by_group).as_deref(), Some(""));
    // The kernel takes the route out without a word.
    assert_eq!(after(&mut kernel, &mut rib, p, &[no_object(9)]), None);
    let by_object = [dropping(), route(NEW, p, kind(libc::RTN_BLACKHOLE), &id(4))];
    assert_eq!(after(&mut kernel, &mut rib, p, &by_object).as_deref(), Some(""));
    assert_eq!(after(&mut kernel, &mut rib, p, &[no_object(4)]), None);
}

#[test]
fn a_changed_object_leaves_its_route_behind_others() {
    for (p, hops) in [
        ("192.0.2.0/24", ["10.0.0.2", "10.0.0.6", "10.0.0.10"]),
        ("2001:db8::/48", ["fd00::2", "fd00::6", "fd00::a"]),
    ] {
        let (mut kernel, mut rib) = (replica(Manners::Kernel), Rib::default());
        let over = |n: usize| via(hops[n], 7);
        let first = [object(5, hops[1], 7), new(p, &over(0)), route(NEW, p, metric(0, LAST), &id(5))];
        assert_eq!(after(&mut kernel, &mut rib, p, &first).as_deref(), Some(hops[0]));
        // Its object changes: the kernel says that the route takes its own place.
        let changed = [object(5, hops[2], 7), route(NEW, p, metric(0, IN_PLACE), &id(5))];
        assert_eq!(after(&mut kernel, &mut rib, p, &changed).as_deref(), Some(hops[0]), "{p}");
        assert_eq!(after(&mut kernel, &mut rib, p, &[gone(p, &over(0))]).as_deref(), Some(hops[2]), "{p}");
        assert!(!kernel.take_doubt());
    }
}

#[test]
fn ipv6_routes_of_a_metric_stand_beside_each_other_unless_they_have_hops() {
    let (mut kernel, mut rib) = (replica(Manners::Kernel), Rib::default());
    let p = "2001:db8::/48";
    let mut expect = |said: &[Vec<u8>], hops: Option<&str>| {
        let had = after(&mut kernel, &mut rib, p, said);
        assert_eq!(had.as_deref(), hops);
        assert!(!kernel.take_doubt());
    };
    let discard = |kind| route(kind, p, Plan { kind: libc::RTN_BLACKHOLE, ..Plan::default() }, &[]);
    expect(&[object(5, "fd00::5", 7), new(p, &id(5))], Some("fd00::5"));
    expect(&[new(p, &via("fd00::1", 7))], Some("fd00::5"));
    expect(&[discard(NEW)], Some("fd00::5"));
    // One more hop of the second, which is told with the new one first.
    expect(&[new(p, &multipath(&[("fd00::2", 8, 3), ("fd00::1", 7, 1)]))], Some("fd00::5"));
    expect(&[gone(p, &id(5))], Some("fd00::1 fd00::2*3"));
    // It is gone in another order, or hop by hop, the last one with no weight.
    expect(&[gone(p, &via("fd00::1", 7))], Some("fd00::2"));
    expect(&[gone(p, &via("fd00::2", 8))], Some(""));
    expect(&[new(p, &multipath(&[("fd00::2", 8, 1), ("fd00::1", 7, 1)]))], Some(""));
    expect(&[discard(DELETE)], Some("fd00::1 fd00::2"));
    expect(&[gone(p, &multipath(&[("fd00::1", 7, 1), ("fd00::2", 8, 1)]))], None);
}

#[test]
fn what_does_not_fit_has_the_tables_read_whose_order_counts() {
    let (mut kernel, mut rib) = (replica(Manners::Kernel), Rib::default());
    let p = "192.0.2.0/24";
    let via = |n: u8| via(&format!("10.0.0.{n}"), 7);
    say(&mut kernel, &[new(p, &via(2)), route(NEW, p, metric(0, LAST), &via(6))]);
    assert!(!kernel.take_doubt());
    // Nobody said that there was one over this.
    say(&mut kernel, &[gone(p, &via(10))]);
    assert!(kernel.take_doubt() && !kernel.take_doubt());
    kernel.begin();
    let dumped = |n| route(NEW, p, metric(0, NLM_F_MULTI), &via(n));
    let had = after(&mut kernel, &mut rib, p, &[dumped(6), dumped(2)]);
    assert_eq!(had.as_deref(), Some("10.0.0.6"), "the first");
    // Once more from the start, since something changed meanwhile.
    let had = after(&mut kernel, &mut rib, p, &[dumped(6), dumped(14), dumped(2)]);
    assert_eq!(had.as_deref(), Some("10.0.0.6"));
    kernel.sweep();
    for (n, left) in [(6, Some("10.0.0.14")), (14, Some("10.0.0.2")), (2, None)] {
        assert_eq!(after(&mut kernel, &mut rib, p, &[gone(p, &via(n))]).as_deref(), left);
    }
}
