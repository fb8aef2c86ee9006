//! RFC 7606, section by section: what of an UPDATE is malformed, and what follows from it. A peer sends each over real TCP:
//! the route is withdrawn, the attribute is left out, or the session ends; nothing else changes.
#![allow(missing_docs, reason = "tests")]
#![allow(clippy::unwrap_used, clippy::panic, reason = "tests fail by panicking")]

mod bgp_common;

use bgp_common::yard::{ID, Yard, logged};
use bgp_common::{Script, attributes, message, open, sent, up, update};
use control::source::RouteEvent;

/// What is due.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verdict {
    /// Treat-as-withdraw.
    Withdraw,
    /// Attribute discard: the route is taken without it.
    Discard,
}

use Verdict::{Discard, Withdraw};

/// 10.1.0.0/16, which each case is about, and 10.2.0.0/16, which nobody touches.
const PREFIX: [u8; 3] = [16, 10, 1];
const BYSTANDER: [u8; 3] = [16, 10, 2];

/// An attribute with a length of one byte.
fn attribute(flags: u8, kind: u8, value: &[u8]) -> Vec<u8> {
    let mut bytes = vec![flags, kind, value.len() as u8];
    bytes.extend(value);
    bytes
}

/// ORIGIN, `AS_PATH`, `NEXT_HOP` and `LOCAL_PREF`, with one of them replaced, or left out.
fn with(kind: u8, replaced: &[u8]) -> Vec<u8> {
    let good = attributes(1);
    let (mut all, mut rest) = (Vec::new(), good.as_slice());
    while !rest.is_empty() {
        let (this, next) = rest.split_at(3 + usize::from(rest[2]));
        all.extend_from_slice(if this[1] == kind { replaced } else { this });
        rest = next;
    }
    all
}

/// The good attributes and one more.
fn and(more: &[u8]) -> Vec<u8> {
    [&attributes(1), more].concat()
}

/// An `AS_PATH` of these bytes.
fn path(value: &[u8]) -> Vec<u8> {
    with(2, &attribute(0x40, 2, value))
}

/// The cases that leave the session: RFC 7606's section, what is wrong, the attributes, what follows.
fn cases() -> Vec<(&'static str, &'static str, Vec<u8>, Verdict)> {
    let good = attributes(1);
    let overrun = [&good[..], &[0xc0, 8, 200, 1, 2, 3, 4]].concat();
    let stub = [&good[..], &[0xc0, 8]].concat();
    vec![
        ("3.c", "ORIGIN marked optional", with(1, &attribute(0xc0, 1, &[0])), Withdraw),
        ("3.c", "AS_PATH not transitive", with(2, &attribute(0x00, 2, &[])), Withdraw),
        ("3.c", "MULTI_EXIT_DISC marked well-known", and(&attribute(0x40, 4, &[0; 4])), Withdraw),
        ("3.c", "COMMUNITIES marked well-known", and(&attribute(0x40, 8, &[0; 4])), Withdraw),
        ("3.d", "no ORIGIN", with(1, &[]), Withdraw),
        ("3.d", "no AS_PATH", with(2, &[]), Withdraw),
        ("3.d", "no NEXT_HOP", with(3, &[]), Withdraw),
        ("3.g", "MULTI_EXIT_DISC twice", and(&attribute(0x80, 4, &[0; 4]).repeat(2)), Discard),
        ("3.g", "COMMUNITIES twice", and(&attribute(0xc0, 8, &[1; 4]).repeat(2)), Discard),
        ("4", "an attribute longer than all of them", overrun, Withdraw),
        ("4", "an attribute without a length", stub, Withdraw),
        ("7.1", "ORIGIN of 0 bytes", with(1, &attribute(0x40, 1, &[])), Withdraw),
        ("7.1", "ORIGIN of 2 bytes", with(1, &attribute(0x40, 1, &[0, 0])), Withdraw),
        ("7.1", "ORIGIN 3", with(1, &attribute(0x40, 1, &[3])), Withdraw),
        ("7.2", "AS_PATH segment of type 9", path(&[9, 1, 0, 0, 0, 1]), Withdraw),
        ("7.2", "AS_PATH segment beyond the attribute", path(&[2, 2, 0, 0, 0, 1]), Withdraw),
        ("7.2", "a byte behind the AS_PATH's segments", path(&[2, 1, 0, 0, 0, 1, 2]), Withdraw),
        ("7.2", "AS_PATH segment of no AS", path(&[2, 0]), Withdraw),
        ("RFC 9774", "AS_SET", path(&[1, 1, 0, 0, 0, 1]), Withdraw),
        ("7.3", "NEXT_HOP 127.0.2.1", with(3, &attribute(0x40, 3, &[127, 0, 2, 1])), Withdraw),
        ("7.3", "NEXT_HOP of 3 bytes", with(3, &attribute(0x40, 3, &[192, 0, 2])), Withdraw),
        ("7.3", "NEXT_HOP of 16 bytes", with(3, &attribute(0x40, 3, &[1; 16])), Withdraw),
        ("7.4", "MULTI_EXIT_DISC of 3 bytes", and(&attribute(0x80, 4, &[0; 3])), Withdraw),
        ("7.5", "LOCAL_PREF of 5 bytes", with(5, &attribute(0x40, 5, &[0; 5])), Withdraw),
        ("7.6", "ATOMIC_AGGREGATE of 1 byte", and(&attribute(0x40, 6, &[0])), Discard),
        ("7.7", "AGGREGATOR of 6 bytes beside 4-byte ASs", and(&attribute(0xc0, 7, &[0; 6])), Discard),
        ("7.8", "COMMUNITIES of 3 bytes", and(&attribute(0xc0, 8, &[1, 2, 3])), Withdraw),
        ("7.8", "COMMUNITIES of 0 bytes", and(&attribute(0xc0, 8, &[])), Withdraw),
        ("7.9", "ORIGINATOR_ID of 5 bytes", and(&attribute(0x80, 9, &[1; 5])), Withdraw),
        ("7.10", "CLUSTER_LIST of 6 bytes", and(&attribute(0x80, 10, &[1; 6])), Withdraw),
        ("7.14", "extended communities of 7 bytes", and(&attribute(0xc0, 16, &[0; 7])), Withdraw),
        // RFC 4271, section 6.3 would end the session; see `source::bgp::update`.
        ("RFC 4271, 6.3", "well-known attribute 99", and(&attribute(0x40, 99, &[1])), Withdraw),
        ("RFC 8092, 5", "LARGE_COMMUNITY of 11 bytes", and(&attribute(0xc0, 32, &[0; 11])), Withdraw),
    ]
}

#[test]
fn each_case_withdraws_or_discards_and_leaves_the_session() {
    let mut yard = Yard::new("rfc7606");
    let mut script = yard.establish(90);
    let mut wrong = Vec::new();
    let next = |yard: &Yard| match yard.rig.next_from().1 {
        RouteEvent::Update { withdrawn, announced, .. } => (withdrawn.len(), announced.len()),
        other => panic!("{other:?}"),
    };
    script.send(&update(&[], &attributes(1), &BYSTANDER));
    assert_eq!(next(&yard), (0, 1));
    let cases = cases();
    for (index, (section, name, attributes, verdict)) in cases.iter().enumerate() {
        script.send(&update(&[], &bgp_common::attributes(1), &PREFIX));
        assert_eq!(next(&yard), (0, 1), "{name}: the good route before it");
        script.send(&update(&[], attributes, &PREFIX));
        let got = match next(&yard) {
            (1, 0) => Withdraw,
            (0, 1) => Discard,
            other => panic!("{name}: {other:?}"),
        };
        let status = yard.rig.peer("rfc7606");
        let held = if got == Withdraw { 1 } else { 2 };
        let counted = (status.malformed, status.prefixes);
        if got != *verdict || counted != (index as u64 + 1, held) {
            wrong.push(format!("section {section}, {name}: {got:?}, {counted:?}"));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
    let status = yard.rig.peer("rfc7606");
    assert!(up(&status) && status.established == 1 && sent(&status).is_empty(), "{status:?}");
    let lines = logged("rfc7606");
    let lines: Vec<_> = lines.iter().filter(|line| line.contains("session stays")).collect();
    assert!((10..cases.len()).contains(&lines.len()), "at a bounded rate: {lines:#?}");
    drop(script);
    yard.down();
    yard.good_still_works();
}

/// What external peers say of `LOCAL_PREF`, `ORIGINATOR_ID` and `CLUSTER_LIST` does not count, be it ever so wrong (sections
/// 7.5, 7.9 and 7.10).
#[test]
fn what_is_for_internal_peers_is_left_out_from_others() {
    let peers = vec![bgp_common::peer("external", bgp_common::yard::BAD, 64_999)];
    let rig = bgp_common::Rig::new(peers);
    let mut script = Script::establish(bgp_common::yard::BAD, rig.address, &open(64_999, 90, ID));
    assert_eq!(rig.next(), RouteEvent::Up);
    for (kind, flags) in [(5, 0x40), (9, 0x80), (10, 0x80)] {
        let mut bytes = with(2, &attribute(0x40, 2, &[2, 1, 0, 0, 0xfd, 0xe7]));
        if kind == 5 {
            bytes.truncate(bytes.len() - 7);
        }
        bytes.extend(attribute(flags, kind, &[1; 3]));
        script.send(&update(&[], &bytes, &PREFIX));
        let RouteEvent::Update { announced, attributes, .. } = rig.next() else { panic!() };
        assert_eq!((announced.len(), attributes.local_pref), (1, 100), "attribute {kind}");
    }
    assert!(up(&rig.peer("external")));
}

/// The cases in which the routes cannot be told any more.
#[test]
fn what_hides_the_routes_ends_the_session() {
    let good = attributes(1);
    let v6 = |hop: &[u8], more: &[u8]| {
        let head = [&[0, 2, 1, hop.len() as u8], hop, &[0]].concat();
        attribute(0x80, 14, &[&head, more].concat())
    };
    let reach = v6(&[0x20; 16], &[16, 0x20, 1]);
    let mut lengths = update(&[], &good, &PREFIX);
    let beyond = (lengths.len() as u16).to_be_bytes();
    lengths[21..23].copy_from_slice(&beyond);
    let unreach = attribute(0x80, 15, &[0, 2]);
    let mut withdrawn = update(&[], &good, &PREFIX);
    withdrawn[20] = 200;
    let reach_of = |value: &[u8]| update(&[], &[&attribute(0x80, 14, value), &good[..]].concat(), &[]);
    let reach_129 = [&[0, 2, 1, 16], &[0x20; 16][..], &[0, 129], &[1; 17][..]].concat();
    let cases: [(&'static str, Vec<u8>, u8); 12] = [
        ("withdrawn-beyond", withdrawn, 1),
        ("attributes-beyond", lengths, 1),
        ("prefix-33", update(&[], &good, &[33, 10, 1, 0, 0, 0]), 10),
        ("prefix-cut", update(&[], &good, &[24, 10]), 10),
        ("withdrawn-33", update(&[33, 10, 1, 0, 0, 0], &[], &[]), 10),
        ("reach-cut", reach_of(&[0, 2, 1, 16, 1, 2]), 9),
        ("reach-129", reach_of(&reach_129), 9),
        // With no route to withdraw, the fault may hide the routes themselves (section 5.2).
        ("no-routes", update(&[], &with(1, &attribute(0x40, 1, &[9])), &[]), 1),
        ("reach-twice", update(&[], &[&good[..], &reach, &reach].concat(), &[]), 1),
        ("next-hop-15", update(&[], &[&good[..], &v6(&[0x20; 15], &[16, 0x20, 1])].concat(), &[]), 9),
        ("next-hop-0", update(&[], &[&good[..], &v6(&[], &[16, 0x20, 1])].concat(), &[]), 9),
        ("unreach-2", update(&[], &unreach, &[]), 5),
    ];
    for (name, bytes, subcode) in cases {
        let yard = Yard::new(name);
        let mut script = yard.establish(90);
        script.send(&bytes);
        let (code, got, _) = script.notification();
        assert_eq!((code, got), (3, subcode), "{name}");
        assert!(yard.down().contains(&format!("3/{subcode}")), "{name}");
        yard.unharmed(3, subcode);
    }
}

/// Communities of 64 KB on one route (RFC 8654) are taken, and what they took is given back with it.
#[test]
fn a_route_with_64_kb_of_communities() {
    let mut yard = Yard::new("bomb64");
    let mut script = yard.establish(90);
    let many: Vec<u8> = (0..16_000u32).flat_map(u32::to_be_bytes).collect();
    let mut bytes = attributes(1);
    bytes.extend([0xd0, 8]);
    bytes.extend((many.len() as u16).to_be_bytes());
    bytes.extend(many);
    script.send(&update(&[], &bytes, &PREFIX));
    let (_, RouteEvent::Update { announced, attributes: taken, .. }) = yard.rig.next_from() else { panic!() };
    assert_eq!((announced.len(), taken.communities.len()), (1, 16_000));
    assert!((64_000..70_000).contains(&yard.rig.peer("bomb64").attribute_bytes));
    drop(taken);
    script.send(&update(&PREFIX, &[], &[]));
    yard.rig.next_from();
    script.send(&update(&[], &attributes(1), &PREFIX));
    yard.rig.next_from();
    let status = yard.rig.until("bomb64", |status| status.attribute_bytes < 4096);
    assert!(up(&status) && status.malformed == 0, "{status:?}");
    script.send(&message(3, &[6, 2]));
    yard.down();
    yard.good_still_works();
}
