//! The whole worker with access lists: bursts of packets that meet different lists, or none, on their way in and out.
#![allow(clippy::unwrap_used)] // helpers of tests

mod common;

use std::sync::Arc;

use common::{Router, Routes, Target, ethernet, ipv4, ipv6, sub_if, tag};
use dataplane::acl::{Acl, Action, Addresses, Rule, UDP};
use dataplane::ids::AclId;
use dataplane::policy::Policies;
use dataplane::sub_interface::Tags;
use proptest::prelude::*;

/// The lists: `0` denies sources 10.0.0.0/25 and `fd00::/65` and counts all before that, `1` permits UDP that came by VLAN
/// 101 or 102 only, `2` permits all.
fn lists() -> Vec<Arc<Acl>> {
    let low = Addresses { v4: vec![(0x0a00_0000, 25)], v6: vec![(0xfd00 << 112, 65)] };
    let tags = Rule { protocols: vec![UDP], outer_vlans: vec![(101, 102)], ..Rule::any(Action::Permit) };
    let rules = [
        vec![
            Rule::any(Action::Count),
            Rule { source: Some(low), ..Rule::any(Action::Deny) },
            Rule::any(Action::Permit),
        ],
        vec![tags],
        vec![Rule::any(Action::Permit)],
    ];
    // 4 counters for the first list, 2 for each of the others.
    let counters: [&[u16]; 3] = [&[0, 1, 2, 3], &[4, 5], &[6, 7]];
    rules.iter().zip(counters).map(|(rules, counters)| Arc::new(Acl::new(rules, counters).unwrap())).collect()
}

/// Sub-interfaces 0 to 3: VLANs 100 to 103 of port 0, with lists 0, 1, none and 2 on the way in. 4 and 5: port 1, VLANs 200
/// and 201, with list 1 and none on the way out.
fn router() -> Router {
    let vlan = |port, vid| sub_if(port, Tags::One(tag(0x8100, vid)), 0);
    let sub_ifs = vec![vlan(0, 100), vlan(0, 101), vlan(0, 102), vlan(0, 103), vlan(1, 200), vlan(1, 201)];
    let routes = Routes {
        v4: vec![(0, 0x0a01_0000, 24, Target::Via(vec![4])), (0, 0x0a01_0100, 24, Target::Via(vec![5]))],
        v6: vec![(0, 0xfd01 << 112, 16, Target::Via(vec![4])), (0, 0xfd02 << 112, 16, Target::Via(vec![5]))],
    };
    let list = |id: u16| Some(AclId(id));
    let access =
        vec![[list(0), None], [list(1), None], [None, None], [list(2), None], [None, list(1)], [None, None]];
    Router::with_policies(2, sub_ifs, &routes, Policies::default().with_access(access, lists()))
}

/// One packet: the VLAN less 100, the lowest byte of its source, whether it is IPv6, where it goes, and its payload.
type Spec = (u16, u8, bool, u16, usize);

fn frame(spec: Spec) -> Vec<u8> {
    let (vlan, low, is_v6, to, payload) = spec;
    let packet = if is_v6 {
        let source = 0xfd00 << 112 | u128::from(low & 0x80) << 56 | u128::from(low);
        ipv6(source, u128::from(0xfd01 + to) << 112 | 9, 64, payload)
    } else {
        ipv4([10, 0, 0, low], [10, 1, to as u8, 9], 64, payload)
    };
    [ethernet(&[(0x8100, 100 + vlan)], if is_v6 { 0x86dd } else { 0x0800 }), packet].concat()
}

/// What becomes of it, and the counters that it moves on its way in and out.
fn expected(spec: Spec) -> (&'static str, Vec<u16>) {
    let (vlan, low, _, to, _) = spec;
    let (denied, mut counted) = match vlan {
        0 => (low < 128, if low < 128 { vec![0, 1] } else { vec![0, 2] }),
        1 => (false, vec![4]),
        2 => (false, vec![]),
        _ => (false, vec![6]),
    };
    if denied {
        return ("acl_denied_in", counted);
    }
    if to == 1 {
        return ("forward", counted);
    }
    let passes = (1..=2).contains(&vlan);
    counted.push(if passes { 4 } else { 5 });
    (if passes { "forward" } else { "acl_denied_out" }, counted)
}

proptest! {
    #[test]
    fn each_packet_meets_the_lists_of_its_own_way(
        specs in prop::collection::vec((0..4u16, any::<u8>(), any::<bool>(), 0..2u16, 0..200usize), 1..150),
    ) {
        let mut router = router();
        let (mut forwarded, mut denied) = (0, [0u64; 2]);
        let mut counters = [[0u64; 2]; 8];
        for spec in &specs {
            router.receive(0, &frame(*spec));
            let (fate, counted) = expected(*spec);
            match fate {
                "forward" => forwarded += 1,
                "acl_denied_in" => denied[0] += 1,
                _ => denied[1] += 1,
            }
            for counter in counted {
                counters[usize::from(counter)][0] += 1;
                counters[usize::from(counter)][1] += spec.4 as u64 + if spec.2 { 48 } else { 28 };
            }
        }
        router.run();
        router.assert_adds_up();
        prop_assert_eq!(router.sent(1).len(), forwarded);
        let ends: Vec<(&str, u64)> = [("acl_denied_in", denied[0]), ("acl_denied_out", denied[1])]
            .into_iter()
            .filter(|end| end.1 > 0)
            .collect();
        prop_assert_eq!(router.ends(0), ends);
        for (at, counter) in counters.iter().enumerate() {
            let got = router.counters.rules.get(at as u16);
            prop_assert_eq!([got.packets.get(), got.bytes.get()], *counter, "counter {}", at);
        }
    }
}

#[test]
fn lists_change_from_one_burst_to_the_next() {
    let mut router = router();
    let denied: Spec = (0, 5, false, 1, 20);
    router.receive(0, &frame(denied));
    router.run();
    assert_eq!(router.ends(0), [("acl_denied_in", 1)]);
    // The same list, with its first rule gone: another snapshot, the same counters.
    let permit = Arc::new(Acl::new(&[Rule::any(Action::Permit)], &[2, 3]).unwrap());
    let policies = Policies::default().with_access(vec![[Some(AclId(0)), None]], vec![permit]);
    let mut tables = router.domain_tables.clone();
    tables.policies = Arc::new(policies);
    router.domain.publish(tables);
    router.receive(0, &frame(denied));
    router.run();
    assert_eq!((router.sent(1).len(), router.ends(0)), (1, vec![("acl_denied_in", 1)]));
    assert_eq!(router.counters.rules.get(2).packets.get(), 1);
}

#[test]
fn a_refused_packet_is_told_of_where_that_is_wanted() {
    let mut router = router();
    let mut tables = router.domain_tables.clone();
    let mut policies = (*tables.policies).clone();
    policies.tell = true;
    tables.policies = Arc::new(policies);
    router.domain.publish(tables);
    router.receive(0, &frame((0, 5, true, 1, 20)));
    router.run();
    assert_eq!(router.ends(0), [("acl_denied_in", 1)]);
    assert_eq!(router.rings.punt.len(), 1);
}

#[test]
fn neighbour_discovery_is_not_judged_whatever_its_addresses() {
    let mut router = router();
    let solicitation = |hop_limit| {
        let mut packet = ipv6(0xfd00 << 112 | 5, 0xfd02 << 112 | 9, hop_limit, 20);
        (packet[6], packet[40]) = (58, 135);
        [ethernet(&[(0x8100, 100)], 0x86dd), packet].concat()
    };
    router.receive(0, &solicitation(255));
    router.run();
    assert_eq!((router.sent(1).len(), router.ends(0)), (1, vec![]));
    router.receive(0, &solicitation(64));
    router.run();
    assert_eq!(router.ends(0), [("acl_denied_in", 1)], "it came over a router");
}
