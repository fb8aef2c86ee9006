//! Default routes over Microsoft peerings.

use super::*;
use crate::config::model::{CircuitLink, LinkRole, PeeringKind};

/// As [`two_links`], but the second is a link of a Microsoft peering, and both have IPv6.
fn one_microsoft_link() -> (Rib, Plain) {
    let mut rib = rib();
    let link =
        CircuitLink { circuit: 0, peering: PeeringKind::Microsoft, role: LinkRole::Primary, peer_asn: 12076 };
    rib.add_interface(SubIfId(0), &interface(VRF, &["10.0.0.1/30", "fd00::1/126"]), true).unwrap();
    let microsoft = SubInterface { link: Some(link), ..interface(VRF, &["10.0.1.1/30", "fd00:1::1/126"]) };
    rib.add_interface(SubIfId(1), &microsoft, true).unwrap();
    for (subif, address) in [(0, "10.0.0.2"), (0, "fd00::2"), (1, "10.0.1.2"), (1, "fd00:1::2")] {
        reachable(&mut rib, subif, address, subif as u8 + 2);
    }
    (rib, Plain::default())
}

fn refused(rib: &Rib, source: u32) -> u64 {
    rib.sources().filter(|view| view.source == source).map(|view| view.refused_defaults).sum()
}

#[test]
fn a_default_route_over_it_is_refused_counted_and_told_once() {
    let (mut rib, mut plain) = one_microsoft_link();
    announce(&mut rib, 2, &["0.0.0.0/0", "192.0.2.0/24"], via(&["10.0.1.2"]));
    announce(&mut rib, 2, &["::/0"], via(&["fd00:1::2"]));
    let _ = plain.commit(&mut rib);
    assert_eq!((plain.group("0.0.0.0/0"), plain.group("::/0")), (None, None));
    assert_eq!(plain.forwards("192.0.2.0/24"), [("forward 1 10.0.1.2 3".into(), 1)]);
    let news = rib.refused_defaults();
    let told: Vec<_> = news.iter().map(|news| (news.family, news.source, news.sub_if)).collect();
    let expected = |family| (family, SourceId(2), SubIfId(1));
    assert_eq!(told, [expected(Family::Ipv4), expected(Family::Ipv6)]);
    // Told again by the peer it is no news, withdrawn and announced anew it is.
    announce(&mut rib, 2, &["0.0.0.0/0"], Attributes { med: 7, ..via(&["10.0.1.2"]) });
    let _ = plain.commit(&mut rib);
    assert_eq!((rib.refused_defaults(), refused(&rib, 2)), (vec![], 2));
    withdraw(&mut rib, 2, &["0.0.0.0/0"]);
    let _ = plain.commit(&mut rib);
    announce(&mut rib, 2, &["0.0.0.0/0"], via(&["10.0.1.2"]));
    let _ = plain.commit(&mut rib);
    assert_eq!((rib.refused_defaults().len(), refused(&rib, 2)), (1, 3));
    assert_eq!(plain.group("0.0.0.0/0"), None);
    assert_all_returns(rib, plain, 2);
}

#[test]
fn another_one_takes_its_place_and_what_comes_to_lead_there_is_refused() {
    let (mut rib, mut plain) = one_microsoft_link();
    announce(&mut rib, 2, &["0.0.0.0/0"], Attributes { local_pref: 200, ..via(&["10.0.1.2"]) });
    announce(&mut rib, 3, &["0.0.0.0/0"], via(&["10.0.0.2"]));
    let _ = plain.commit(&mut rib);
    assert_eq!(plain.forwards("0.0.0.0/0"), [("forward 0 10.0.0.2 2".into(), 1)], "worse, but it may");
    assert_eq!((refused(&rib, 2), refused(&rib, 3)), (1, 0));
    // One over both is refused as well, and one whose next hop moves to the peering while it stays resolved.
    announce(&mut rib, 3, &["0.0.0.0/0"], via(&["10.0.0.2", "10.0.1.2"]));
    let _ = plain.commit(&mut rib);
    assert_eq!((plain.group("0.0.0.0/0"), refused(&rib, 3)), (None, 1));
    announce(&mut rib, 3, &["198.51.100.0/24"], via(&["10.0.0.2"]));
    announce(&mut rib, 3, &["0.0.0.0/0"], via(&["198.51.100.1"]));
    let _ = plain.commit(&mut rib);
    assert_eq!(plain.forwards("0.0.0.0/0"), [("forward 0 10.0.0.2 2".into(), 1)]);
    announce(&mut rib, 3, &["198.51.100.0/24"], via(&["10.0.1.2"]));
    let _ = plain.commit(&mut rib);
    assert_eq!((plain.group("0.0.0.0/0"), refused(&rib, 3)), (None, 2));
    announce(&mut rib, 3, &["198.51.100.0/24"], via(&["10.0.0.2"]));
    let _ = plain.commit(&mut rib);
    assert_eq!(plain.forwards("0.0.0.0/0"), [("forward 0 10.0.0.2 2".into(), 1)], "and back");
    assert_all_returns(rib, plain, 2);
}

#[test]
fn what_comes_to_lead_there_is_refused_before_other_routes_have_their_turn() {
    let (mut rib, mut plain) = one_microsoft_link();
    announce(&mut rib, 3, &["198.51.100.0/24"], via(&["10.0.0.2"]));
    announce(&mut rib, 3, &["2001:db8:1::/48"], via(&["fd00::2"]));
    announce(&mut rib, 3, &["0.0.0.0/0"], via(&["198.51.100.1"]));
    announce(&mut rib, 2, &["0.0.0.0/0"], Attributes { local_pref: 1, ..via(&["10.0.0.2"]) });
    announce(&mut rib, 3, &["::/0"], via(&["2001:db8:1::1"]));
    let _ = plain.commit(&mut rib);
    assert_eq!(plain.forwards("0.0.0.0/0"), [("forward 0 10.0.0.2 2".into(), 1)]);
    let many: Vec<String> = (0..5000).map(|i| format!("20.{}.{}.0/24", i / 256, i % 256)).collect();
    for prefix in &many {
        announce(&mut rib, 2, &[prefix.as_str()], via(&["10.0.0.2"]));
    }
    withdraw(&mut rib, 2, &["0.0.0.0/0"]);
    announce(&mut rib, 3, &["198.51.100.0/24"], via(&["10.0.1.2"]));
    announce(&mut rib, 3, &["2001:db8:1::/48"], via(&["fd00:1::2"]));
    let _ = plain.slice(&mut rib, 1);
    assert!(rib.backlog() > 3000, "{}", rib.backlog());
    assert_eq!((plain.group("0.0.0.0/0"), plain.group("::/0")), (None, None), "at once");
    assert_eq!(rib.refused_defaults().len(), 2);
    let _ = plain.commit(&mut rib);
    assert_eq!((plain.group("0.0.0.0/0"), plain.group("::/0")), (None, None));
    assert_eq!(plain.forwards("20.19.135.0/24"), [("forward 0 10.0.0.2 2".into(), 1)]);
    assert_all_returns(rib, plain, 2);
}

#[test]
fn it_is_no_backup_either() {
    let (mut rib, mut plain) = one_microsoft_link();
    announce(&mut rib, 2, &["0.0.0.0/0"], Attributes { local_pref: 200, ..via(&["10.0.0.2"]) });
    announce(&mut rib, 3, &["0.0.0.0/0"], via(&["10.0.1.2"]));
    let _ = plain.commit(&mut rib);
    rib.hold_down(SubIfId(0), ip("10.0.0.2"), true).unwrap();
    let _ = plain.commit(&mut rib);
    let out = plain.forwards("0.0.0.0/0");
    assert!(out.iter().all(|(member, _)| !member.contains("10.0.1.2")), "{out:?}");
    assert_all_returns(rib, plain, 2);
}
