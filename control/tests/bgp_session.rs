//! A session in good order, over real TCP: what comes out of the channel is what the peer said.
#![allow(missing_docs, reason = "tests")]
#![allow(clippy::unwrap_used, clippy::panic, reason = "tests fail by panicking")]

mod bgp_common;

use std::net::Ipv4Addr;
use std::os::fd::AsFd;
use std::time::Duration;

use bgp_common::{ASN, Rig, Script, attributes, config, keepalive, message, open, peer, up, update};
use control::config::model::Bgp;
use control::source::bgp::demo::{DemoRoute, DemoSpeaker};
use control::source::bgp::{BgpSpeaker, Limits};
use control::source::queue::Inbox;
use control::source::{Attributes, Family, NextHop, Nlri, RouteEvent, RouteSource, SourceId};
use ipnetwork::IpNetwork;

fn nlri(prefix: &str, path_id: u32) -> Nlri {
    Nlri { prefix: prefix.parse().unwrap(), path_id }
}

fn route(prefix: &str, next_hops: &[&str]) -> DemoRoute {
    let next_hops = next_hops.iter().map(|next_hop| next_hop.parse().unwrap()).collect();
    DemoRoute { prefix: prefix.parse().unwrap(), next_hops }
}

fn announced(event: &RouteEvent) -> (Vec<Nlri>, Vec<NextHop>) {
    match event {
        RouteEvent::Update { announced, attributes, .. } => (announced.clone(), attributes.next_hops.clone()),
        other => panic!("not an update: {other:?}"),
    }
}

fn withdrawn(event: &RouteEvent) -> Vec<Nlri> {
    match event {
        RouteEvent::Update { withdrawn, announced, .. } if announced.is_empty() => withdrawn.clone(),
        other => panic!("not a withdrawal: {other:?}"),
    }
}

#[test]
fn the_demo_speaker_announces_withdraws_and_closes() {
    let rig = Rig::new(vec![peer("demo", "127.0.0.1", ASN)]);
    let demo = DemoSpeaker::connect(rig.address, ASN, Ipv4Addr::new(10, 255, 0, 2)).unwrap();
    assert_eq!(rig.next(), RouteEvent::Up);
    demo.announce(&[
        route("10.1.0.0/16", &["192.0.2.1", "192.0.2.5"]),
        route("10.2.0.0/16", &["192.0.2.1"]),
        route("2001:db8:1::/48", &["2001:db8::1", "2001:db8::5"]),
    ])
    .unwrap();
    demo.end_of_rib().unwrap();
    let hop = |address: &str| vec![NextHop::new(address.parse().unwrap())];
    let first = rig.next();
    assert_eq!(announced(&first), (vec![nlri("10.1.0.0/16", 1), nlri("10.2.0.0/16", 1)], hop("192.0.2.1")));
    let RouteEvent::Update { attributes, .. } = first else { unreachable!() };
    let expected = Attributes {
        next_hops: hop("192.0.2.1"),
        local_pref: 100,
        as_path: vec![12_076],
        as_path_len: 1,
        ..Attributes::default()
    };
    assert_eq!(*attributes, expected);
    assert_eq!(announced(&rig.next()), (vec![nlri("10.1.0.0/16", 2)], hop("192.0.2.5")));
    assert_eq!(announced(&rig.next()), (vec![nlri("2001:db8:1::/48", 1)], hop("2001:db8::1")));
    assert_eq!(announced(&rig.next()), (vec![nlri("2001:db8:1::/48", 2)], hop("2001:db8::5")));
    assert_eq!(rig.next(), RouteEvent::EndOfRib(Family::Ipv4));
    assert_eq!(rig.next(), RouteEvent::EndOfRib(Family::Ipv6));
    let status = rig.peer("demo");
    assert_eq!((status.prefixes, status.announced, status.withdrawn), (5, 5, 0));
    let negotiated = status.negotiated.unwrap();
    assert_eq!(negotiated.add_path_receive, [Family::Ipv4, Family::Ipv6]);
    assert_eq!(negotiated.hold_time, 30);
    assert!(negotiated.four_byte_as && negotiated.extended_messages && negotiated.route_refresh);

    // Fewer next hops: the path that is gone is withdrawn.
    demo.announce(&[route("10.1.0.0/16", &["192.0.2.5"])]).unwrap();
    assert_eq!(withdrawn(&rig.next()), [nlri("10.1.0.0/16", 2)]);
    assert_eq!(announced(&rig.next()), (vec![nlri("10.1.0.0/16", 1)], hop("192.0.2.5")));
    let gone: Vec<IpNetwork> = vec!["10.1.0.0/16".parse().unwrap(), "2001:db8:1::/48".parse().unwrap()];
    demo.withdraw(&gone).unwrap();
    assert_eq!(withdrawn(&rig.next()), [nlri("10.1.0.0/16", 1)]);
    assert_eq!(withdrawn(&rig.next()), [nlri("2001:db8:1::/48", 1), nlri("2001:db8:1::/48", 2)]);
    demo.close();
    let RouteEvent::Down { reason, .. } = rig.next() else { panic!() };
    assert!(reason.contains("6/2"), "{reason}");
    let status = rig.until("demo", |status| !up(status));
    assert_eq!((status.prefixes, status.notifications_received.len()), (0, 1));
    rig.speaker.stop();
}

#[test]
fn a_thousand_routes_come_whole() {
    let rig = Rig::new(vec![peer("demo", "127.0.0.1", ASN)]);
    let demo = DemoSpeaker::connect(rig.address, ASN, Ipv4Addr::new(10, 255, 0, 2)).unwrap();
    let v4 = |i: u32| format!("10.{}.{}.0/24", i / 256, i % 256);
    let v6 = |i: u32| format!("2001:db8:{i:x}::/48");
    let routes: Vec<DemoRoute> =
        (0..1000).flat_map(|i| [route(&v4(i), &["192.0.2.1"]), route(&v6(i), &["2001:db8::1"])]).collect();
    demo.announce(&routes).unwrap();
    demo.end_of_rib().unwrap();
    let mut got = Vec::new();
    loop {
        match rig.next() {
            RouteEvent::Up | RouteEvent::EndOfRib(Family::Ipv4) => {}
            RouteEvent::EndOfRib(Family::Ipv6) => break,
            update => got.extend(announced(&update).0),
        }
    }
    let wanted: Vec<Nlri> =
        (0..1000).map(|i| nlri(&v4(i), 1)).chain((0..1000).map(|i| nlri(&v6(i), 1))).collect();
    assert_eq!(got, wanted);
}

#[test]
fn the_demo_speaker_says_why_it_gets_no_session() {
    let rig = Rig::new(vec![peer("demo", "127.0.0.1", ASN + 1)]);
    let error = DemoSpeaker::connect(rig.address, ASN, Ipv4Addr::new(10, 255, 0, 2)).unwrap_err();
    assert!(error.to_string().contains("2/2"), "{error}");
    let status = rig.until("demo", |status| status.last_error.is_some());
    assert!(status.last_error.unwrap().contains("AS 65010"));
    assert!(rig.events.is_empty(), "no session, no event");
    let address = rig.address;
    rig.speaker.stop();
    let error = DemoSpeaker::connect(address, ASN, Ipv4Addr::new(10, 255, 0, 2)).unwrap_err();
    assert!(error.to_string().contains("does turnpike listen there"), "{error}");
}

#[test]
fn we_announce_nothing_but_the_ends_of_our_rib() {
    let rig = Rig::new(vec![peer("script", "127.0.0.2", ASN)]);
    let mut script = Script::establish("127.0.0.2", rig.address, &open(ASN, 30, [10, 255, 0, 2]));
    assert_eq!(script.receive(), (2, vec![0, 0, 0, 0]), "End-of-RIB for IPv4");
    assert_eq!(script.receive(), (2, vec![0, 0, 0, 6, 0x80, 15, 3, 0, 2, 1]), "End-of-RIB for IPv6");
    assert_eq!(rig.next_from(), (SourceId(7), RouteEvent::Up));
    // A stop is told to the peer.
    rig.speaker.stop();
    assert_eq!(script.notification(), (6, 2, vec![]));
    let rest: Vec<_> = std::iter::from_fn(|| rig.events.recv_timeout(Duration::from_millis(100))).collect();
    let [speaker, down] = rest.as_slice() else { panic!("{rest:?}") };
    assert!(matches!(speaker.event, RouteEvent::Speaker(_)), "{rest:?}");
    assert!(matches!(down.event, RouteEvent::Down { .. }), "told once");
}

#[test]
fn attributes_are_read() {
    let rig = Rig::new(vec![peer("script", "127.0.0.2", ASN)]);
    let mut script = Script::establish("127.0.0.2", rig.address, &open(ASN, 30, [10, 255, 0, 2]));
    assert_eq!(rig.next(), RouteEvent::Up);
    // AS_PATH: a sequence of 3; MED 7; COMMUNITIES 12076:5010 and 12076:51004.
    let mut bytes = vec![0x40, 1, 1, 2, 0x40, 2, 14, 2, 3];
    for asn in [12_076u32, 4_200_000_000, 8075] {
        bytes.extend(asn.to_be_bytes());
    }
    bytes.extend([0x40, 3, 4, 192, 0, 2, 1, 0x80, 4, 4, 0, 0, 0, 7, 0x40, 5, 4, 0, 0, 0, 200]);
    bytes.extend([0xc0, 8, 8, 0x2f, 0x2c, 0x13, 0x92, 0x2f, 0x2c, 0xc7, 0x3c]);
    script.send(&update(&[24, 10, 9, 9], &bytes, &[16, 10, 1]));
    let RouteEvent::Update { withdrawn, announced, attributes } = rig.next() else { panic!() };
    assert_eq!((withdrawn, announced), (vec![nlri("10.9.9.0/24", 0)], vec![nlri("10.1.0.0/16", 0)]));
    let expected = Attributes {
        next_hops: vec![NextHop::new("192.0.2.1".parse().unwrap())],
        local_pref: 200,
        as_path: vec![12_076, 4_200_000_000, 8075],
        as_path_len: 3,
        origin: control::source::Origin::Incomplete,
        med: 7,
        communities: vec![0x2f2c_1392, 0x2f2c_c73c],
        ..Attributes::default()
    };
    assert_eq!(*attributes, expected);
}

/// `MP_REACH_NLRI` for IPv6 unicast with this next hop field, and for `2001:db8:1::/48`.
fn reach_ipv6(next_hop: &[u8]) -> Vec<u8> {
    let mut value = vec![0, 2, 1, next_hop.len() as u8];
    value.extend(next_hop);
    value.extend([0, 48, 0x20, 1, 0x0d, 0xb8, 0, 1]);
    let mut bytes = vec![0x80, 14, value.len() as u8];
    bytes.extend(value);
    bytes.extend([0x40, 1, 1, 0, 0x40, 2, 0, 0x40, 5, 4, 0, 0, 0, 100]);
    bytes
}

#[test]
fn ipv6_next_hops_global_or_link_local() {
    let rig = Rig::new(vec![peer("script", "127.0.0.2", ASN)]);
    let mut script = Script::establish("127.0.0.2", rig.address, &open(ASN, 30, [10, 255, 0, 2]));
    assert_eq!(rig.next(), RouteEvent::Up);
    let global = "2001:db8::1".parse::<std::net::Ipv6Addr>().unwrap().octets();
    let local = "fe80::1".parse::<std::net::Ipv6Addr>().unwrap().octets();
    let none = [0; 16];
    for (field, wanted) in [
        (global.to_vec(), "2001:db8::1"),
        ([global, local].concat(), "2001:db8::1"),
        ([none, local].concat(), "fe80::1"),
        ([local, local].concat(), "fe80::1"),
        (local.to_vec(), "fe80::1"),
    ] {
        script.send(&update(&[], &reach_ipv6(&field), &[]));
        let (prefixes, next_hops) = announced(&rig.next());
        assert_eq!(prefixes, [nlri("2001:db8:1::/48", 0)]);
        assert_eq!(next_hops[0].address.to_string(), wanted);
    }
    // No next hop at all is a withdrawal.
    script.send(&update(&[], &reach_ipv6(&none), &[]));
    assert_eq!(withdrawn(&rig.next()), [nlri("2001:db8:1::/48", 0)]);
    assert_eq!(rig.peer("script").malformed, 1);
}

#[test]
fn ipv4_routes_over_ipv6_next_hops() {
    let rig = Rig::new(vec![peer("script", "127.0.0.2", ASN)]);
    let mut script = Script::establish("127.0.0.2", rig.address, &open(ASN, 30, [10, 255, 0, 2]));
    assert_eq!(rig.next(), RouteEvent::Up);
    let mut value = vec![0, 1, 1, 16];
    value.extend("2001:db8::1".parse::<std::net::Ipv6Addr>().unwrap().octets());
    value.extend([0, 16, 10, 7]);
    let mut bytes = vec![0x80, 14, value.len() as u8];
    bytes.extend(value);
    bytes.extend([0x40, 1, 1, 0, 0x40, 2, 0, 0x40, 5, 4, 0, 0, 0, 100]);
    // With classic NLRI of another next hop in the same message: two events.
    bytes.extend([0x40, 3, 4, 192, 0, 2, 1]);
    script.send(&update(&[], &bytes, &[16, 10, 8]));
    let (prefixes, next_hops) = announced(&rig.next());
    assert_eq!(
        (prefixes, next_hops[0].address.to_string()),
        (vec![nlri("10.8.0.0/16", 0)], "192.0.2.1".to_owned())
    );
    let (prefixes, next_hops) = announced(&rig.next());
    assert_eq!(
        (prefixes, next_hops[0].address.to_string()),
        (vec![nlri("10.7.0.0/16", 0)], "2001:db8::1".to_owned())
    );
}

#[test]
fn an_external_peers_local_pref_and_our_own_as_do_not_count() {
    let rig = Rig::new(vec![peer("edge", "127.0.0.2", 12_076)]);
    let mut script = Script::establish("127.0.0.2", rig.address, &open(12_076, 30, [10, 255, 0, 2]));
    assert_eq!(rig.next(), RouteEvent::Up);
    script.send(&update(&[], &attributes(1), &[16, 10, 1]));
    let RouteEvent::Update { attributes: got, .. } = rig.next() else { panic!() };
    assert_eq!(got.local_pref, 100);
    let mut looped = vec![0x40, 1, 1, 0, 0x40, 2, 10, 2, 2];
    looped.extend([12_076u32.to_be_bytes(), ASN.to_be_bytes()].concat());
    looped.extend([0x40, 3, 4, 192, 0, 2, 1]);
    script.send(&update(&[], &looped, &[16, 10, 1]));
    assert_eq!(withdrawn(&rig.next()), [nlri("10.1.0.0/16", 0)]);
    assert_eq!((rig.peer("edge").looped, rig.peer("edge").prefixes), (1, 0));
}

#[test]
fn what_comes_back_from_a_route_reflector_does_not_count() {
    let rig = Rig::new(vec![peer("rr", "127.0.0.2", ASN)]);
    let mut script = Script::establish("127.0.0.2", rig.address, &open(ASN, 30, [10, 255, 0, 2]));
    assert_eq!(rig.next(), RouteEvent::Up);
    let by = |originator: [u8; 4]| {
        let mut bytes = attributes(1);
        bytes.extend([0x80, 9, 4]);
        bytes.extend(originator);
        bytes
    };
    script.send(&update(&[], &by([10, 255, 0, 9]), &[16, 10, 1]));
    assert_eq!(announced(&rig.next()).0, [nlri("10.1.0.0/16", 0)]);
    script.send(&update(&[], &by([10, 255, 0, 1]), &[16, 10, 1]));
    assert_eq!(withdrawn(&rig.next()), [nlri("10.1.0.0/16", 0)]);
    assert_eq!((rig.peer("rr").looped, rig.peer("rr").prefixes), (1, 0));
}

#[test]
fn a_route_refresh_sweeps_what_did_not_come_again() {
    let rig = Rig::new(vec![peer("script", "127.0.0.2", ASN)]);
    let mut script = Script::establish("127.0.0.2", rig.address, &open(ASN, 30, [10, 255, 0, 2]));
    script.send(&update(&[], &attributes(1), &[16, 10, 1, 16, 10, 2]));
    script.send(&message(5, &[0, 1, 1, 1]));
    script.send(&update(&[], &attributes(1), &[16, 10, 2]));
    script.send(&message(5, &[0, 1, 2, 1]));
    script.send(&keepalive());
    assert_eq!(rig.next(), RouteEvent::Up);
    assert_eq!(announced(&rig.next()).0.len(), 2);
    assert_eq!(announced(&rig.next()).0, [nlri("10.2.0.0/16", 0)]);
    assert_eq!(withdrawn(&rig.next()), [nlri("10.1.0.0/16", 0)]);
    // Asked to send our routes again, we answer, and stay up.
    script.send(&message(5, &[0, 1, 0, 1]));
    script.send(&update(&[16, 10, 2], &[], &[]));
    assert_eq!(withdrawn(&rig.next()), [nlri("10.2.0.0/16", 0)]);
    assert!(up(&rig.peer("script")));
}

#[test]
fn the_speaker_is_a_route_source() {
    let rig = Rig::new(vec![peer("a", "127.0.0.2", ASN), peer("b", "127.0.0.3", ASN)]);
    let _script = Script::establish("127.0.0.3", rig.address, &open(ASN, 30, [10, 255, 0, 3]));
    assert_eq!(rig.next_from(), (SourceId(8), RouteEvent::Up));
    let shown = serde_json::to_value(rig.speaker.status()).unwrap();
    assert_eq!((&shown[0]["state"], &shown[1]["state"]), (&"Active".into(), &"Established".into()));
    assert_eq!(shown[1]["negotiated"]["families"], serde_json::json!(["ipv4", "ipv6"]));
    let source: Box<dyn RouteSource> = Box::new(rig.speaker);
    let states: Vec<_> = source.status().into_iter().map(|s| (s.id, s.name, s.up)).collect();
    assert_eq!(states, [(7, "a".to_owned(), false), (8, "b".to_owned(), true)]);
    source.stop();
}

#[test]
fn a_peer_in_a_namespace_is_met_there_only() {
    if !rustix::process::geteuid().is_root() {
        assert!(std::env::var_os("TURNPIKE_REQUIRE_PEERS").is_none(), "namespaces need root");
        eprintln!("\n*** SKIPPED: namespaces need root; this test shows nothing ***\n");
        return;
    }
    let namespace = Namespace::new();
    let mut inside = peer("inside", "127.0.0.1", ASN);
    inside.namespace = Some(namespace.0.clone());
    let outside = peer("outside", "127.0.0.1", ASN);
    let rig = Rig::new(vec![inside, outside]);
    let [outer, inner] = rig.speaker.listening() else { panic!("{:?}", rig.speaker.listening()) };
    let (outer, inner) = (*outer, *inner);
    let there = namespace.0.clone();
    let demo = std::thread::spawn(move || {
        let file = std::fs::File::open(format!("/run/netns/{there}")).unwrap();
        rustix::thread::move_into_link_name_space(file.as_fd(), None).unwrap();
        DemoSpeaker::connect(inner, ASN, Ipv4Addr::new(10, 255, 0, 2)).unwrap()
    });
    let demo = demo.join().unwrap();
    assert_eq!(rig.next_from(), (SourceId(7), RouteEvent::Up), "the peer inside");
    let other = DemoSpeaker::connect(outer, ASN, Ipv4Addr::new(10, 255, 0, 3)).unwrap();
    assert_eq!(rig.next_from(), (SourceId(8), RouteEvent::Up), "the peer outside");
    demo.announce(&[route("10.1.0.0/16", &["192.0.2.1"])]).unwrap();
    assert_eq!(rig.next_from().0, SourceId(7));
    drop(other);
    assert!(matches!(rig.next_from(), (SourceId(8), RouteEvent::Down { .. })));
}

/// A network namespace with its loopback up, gone when dropped.
struct Namespace(String);

impl Namespace {
    fn new() -> Self {
        let name = format!("turnpike-bgp-{}", std::process::id());
        let ip = |arguments: &[&str]| {
            let status = std::process::Command::new("ip").args(arguments).status().unwrap();
            assert!(status.success(), "ip {arguments:?}");
        };
        ip(&["netns", "add", &name]);
        ip(&["-n", &name, "link", "set", "lo", "up"]);
        Self(name)
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        let _ = std::process::Command::new("ip").args(["netns", "del", &self.0]).status();
    }
}

#[test]
fn what_cannot_be_listened_on_is_named() {
    let mut inbox = Inbox::new();
    let mut start = |config: &Bgp| {
        let feeds = config.peers.iter().map(|_| inbox.feed()).collect();
        BgpSpeaker::start(config, SourceId(0), feeds).unwrap_err().to_string()
    };
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let error = start(&config(&address, vec![peer("a", "127.0.0.2", ASN)]));
    assert!(error.contains(&address) && error.contains("Change [bgp] listen"), "{error}");
    let mut lost = peer("a", "127.0.0.2", ASN);
    lost.namespace = Some("no-such-namespace".to_owned());
    let error = start(&config("127.0.0.1:0", vec![lost]));
    assert!(error.contains("\"no-such-namespace\"") && error.contains("ip netns add"), "{error}");
    let mut odd = config("127.0.0.1:0", vec![]);
    odd.hold_time = Duration::from_secs(2);
    assert!(start(&odd).contains("hold_time of 2 s"));
    // No peer: nobody to listen for.
    let speaker = BgpSpeaker::start(&config("127.0.0.1:0", vec![]), SourceId(0), vec![]).unwrap();
    assert!(speaker.listening().is_empty());
}

#[test]
fn a_session_over_ipv6() {
    let rig = Rig::with(&config("[::1]:0", vec![peer("six", "::1", ASN)]), Limits::default(), 16);
    let demo = DemoSpeaker::connect(rig.address, ASN, Ipv4Addr::new(10, 255, 0, 2)).unwrap();
    assert_eq!(rig.next(), RouteEvent::Up);
    demo.announce(&[route("10.1.0.0/16", &["192.0.2.1"])]).unwrap();
    assert_eq!(announced(&rig.next()).0, [nlri("10.1.0.0/16", 1)]);
}

#[test]
fn a_family_that_was_not_negotiated_is_ignored() {
    let rig = Rig::new(vec![peer("script", "127.0.0.2", ASN)]);
    // An OPEN with no capability but the 4-byte AS: IPv4 only.
    let mut body = vec![4];
    body.extend((ASN as u16).to_be_bytes());
    body.extend([0, 30, 10, 255, 0, 2, 8, 2, 6, 65, 4]);
    body.extend(ASN.to_be_bytes());
    let mut script = Script::establish("127.0.0.2", rig.address, &message(1, &body));
    assert_eq!(rig.next(), RouteEvent::Up);
    assert_eq!(rig.peer("script").negotiated.unwrap().families, [Family::Ipv4]);
    script.send(&update(&[], &reach_ipv6(&[0x20; 16]), &[]));
    script.send(&update(&[], &[0x80, 15, 3, 0, 2, 1], &[]));
    script.send(&update(&[], &attributes(1), &[16, 10, 1]));
    assert_eq!(announced(&rig.next()).0, [nlri("10.1.0.0/16", 0)], "the first event after Up");
}
