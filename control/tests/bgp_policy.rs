//! Who connects, what guards the connection, how much is taken and what is told, over real TCP.
#![allow(missing_docs, reason = "tests")]
#![allow(clippy::unwrap_used, clippy::panic, reason = "tests fail by panicking")]

mod bgp_common;

use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bgp_common::yard::{logged, start_log};
use bgp_common::{
    ASN, Rig, Script, WAIT, attributes, config, keepalive, message, open, peer, sent, up, update,
};
use control::config::model::{
    AnnounceLimits, Announcement, BgpMode, BgpPeer, Filter, MaxPrefix, MaxPrefixAction, Password,
    PrefixMatch, Rule,
};
use control::source::bgp::{BgpSpeaker, Limits, State};
use control::source::queue::Inbox;
use control::source::{RouteEvent, SourceId, Speaker};

const PEER: &str = "127.0.0.2";
const ID: [u8; 4] = [10, 255, 0, 2];
const LOW: [u8; 4] = [1, 0, 0, 1];

fn rig(change: impl FnOnce(&mut BgpPeer)) -> Rig {
    let mut peer = peer("p", PEER, ASN);
    change(&mut peer);
    Rig::new(vec![peer])
}

/// A socket that stands for a peer that is called.
fn called() -> (TcpListener, u16) {
    let listener = TcpListener::bind(format!("{PEER}:0")).unwrap();
    let port = listener.local_addr().unwrap().port();
    (listener, port)
}

fn accept(listener: &TcpListener) -> (Script, SocketAddr) {
    let (stream, from) = listener.accept().unwrap();
    stream.set_read_timeout(Some(WAIT)).unwrap();
    (Script { stream }, from)
}

fn calls(port: u16, mode: BgpMode) -> Rig {
    rig(|peer| {
        peer.mode = mode;
        peer.port = port;
        peer.local_address = Some("127.0.0.77".parse().unwrap());
        peer.connect_retry = Duration::from_secs(1);
    })
}

fn prefixes(event: &RouteEvent) -> (Vec<String>, Vec<String>) {
    let RouteEvent::Update { withdrawn, announced, .. } = event else { panic!("{event:?}") };
    let text = |list: &[control::source::Nlri]| list.iter().map(|nlri| nlri.prefix.to_string()).collect();
    (announced.iter().map(|nlri| nlri.prefix.to_string()).collect(), text(withdrawn))
}

#[test]
fn we_call_and_call_again() {
    let (listener, port) = called();
    let rig = calls(port, BgpMode::Active);
    for _ in 0..2 {
        let (mut script, from) = accept(&listener);
        assert_eq!(from.ip().to_string(), "127.0.0.77");
        script.send(&open(ASN, 30, ID));
        assert_eq!((script.receive().0, script.receive().0), (1, 4));
        script.send(&keepalive());
        assert_eq!(rig.next(), RouteEvent::Up);
        let status = rig.until("p", up);
        assert_eq!(status.connected_by_us, Some(true));
        script.send(&update(&[], &attributes(1), &[16, 10, 1]));
        assert_eq!(prefixes(&rig.next()).0, ["10.1.0.0/16"]);
        drop(script);
        assert!(matches!(rig.next(), RouteEvent::Down { .. }));
    }
    // Nobody takes the call: counted, told, and tried again.
    drop(listener);
    let _nobody = nobody(port);
    let status = rig.until("p", |status| status.failed_calls >= 2);
    assert!(status.last_error.unwrap().contains(&format!("cannot connect to {PEER} port {port}")));
}

#[test]
fn a_pause_between_calls_does_not_hold_up_the_end() {
    let nobody = nobody(0);
    let port = nobody.local_addr().unwrap().as_socket().unwrap().port();
    let rig = rig(|peer| {
        (peer.mode, peer.port, peer.connect_retry) = (BgpMode::Active, port, Duration::from_mins(2));
    });
    rig.until("p", |status| status.failed_calls >= 1);
    let start = Instant::now();
    rig.speaker.stop();
    assert!(start.elapsed() < Duration::from_mins(1));
}

/// A place where nobody listens, nor does any other test meanwhile; at a port of the kernel's choice for 0.
fn nobody(port: u16) -> socket2::Socket {
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    socket.set_reuse_address(true).unwrap();
    socket.bind(&SocketAddr::new(PEER.parse().unwrap(), port).into()).unwrap();
    socket
}

#[test]
fn a_peer_that_cannot_be_called_is_told_of_once() {
    start_log();
    let nobody = nobody(0);
    let port = nobody.local_addr().unwrap().as_socket().unwrap().port();
    let rig = rig(|peer| {
        (peer.name, peer.mode, peer.port) = ("nobody".to_owned(), BgpMode::Active, port);
        peer.connect_retry = Duration::from_millis(100);
    });
    let status = rig.until("nobody", |status| status.failed_calls >= 5);
    assert_eq!(logged("nobody").len(), 1, "as long as the reason is the same");
    assert!(status.last_error.unwrap().contains("refused"));
}

#[test]
fn who_is_called_only_may_not_connect() {
    let (_listener, port) = called();
    let mut active = peer("a", PEER, ASN);
    (active.mode, active.port) = (BgpMode::Active, port);
    let rig = Rig::new(vec![active, peer("b", "127.0.0.3", ASN)]);
    Script::connect(PEER, rig.address).closed();
    rig.until("a", |_| rig.speaker.refused() == 1);
}

/// Both sides connect at once; the connection of the higher router id is kept, ours being 10.255.0.1.
#[test]
fn of_two_connections_the_one_of_the_higher_id_is_kept() {
    for (id, ours_is_kept) in [(LOW, true), (ID, false)] {
        for ours_is_first in [true, false] {
            let (listener, port) = called();
            let rig = calls(port, BgpMode::Both);
            let (mut outgoing, _) = accept(&listener);
            let mut incoming = Script::connect(PEER, rig.address);
            assert_eq!((outgoing.receive().0, incoming.receive().0), (1, 1), "both OPENs of ours");
            let (first, second) =
                if ours_is_first { (&mut outgoing, &mut incoming) } else { (&mut incoming, &mut outgoing) };
            first.send(&open(ASN, 30, id));
            assert_eq!(first.receive().0, 4, "the first is in OpenConfirm");
            second.send(&open(ASN, 30, id));
            let (mut kept, lost) = if ours_is_kept { (outgoing, incoming) } else { (incoming, outgoing) };
            assert_eq!(lost.notification(), (6, 7, vec![]), "{id:?} {ours_is_first}");
            if ours_is_kept != ours_is_first {
                assert_eq!(kept.receive().0, 4);
            }
            kept.send(&keepalive());
            assert_eq!(rig.next(), RouteEvent::Up);
            let status = rig.until("p", up);
            assert_eq!(status.connected_by_us, Some(ours_is_kept));
            // An established session stays, and nothing was told of the other one.
            kept.send(&update(&[], &attributes(1), &[16, 10, 1]));
            assert_eq!(prefixes(&rig.next()).0, ["10.1.0.0/16"]);
            assert_eq!(rig.peer("p").established, 1);
        }
    }
}

#[test]
fn who_speaks_is_told() {
    let rig = rig(|_| {});
    let _script = Script::establish(PEER, rig.address, &open(ASN, 30, ID));
    let told: Vec<RouteEvent> = (0..2).map(|_| rig.events.recv_timeout(WAIT).unwrap().event).collect();
    let speaker = Speaker { external: false, router_id: ID.into(), address: PEER.parse().unwrap() };
    assert_eq!(told, [RouteEvent::Up, RouteEvent::Speaker(speaker)]);
    assert!(rig.events.recv_timeout(Duration::from_millis(200)).is_none());
}

#[test]
fn md5_signatures_on_both_ends_or_no_session() {
    let secret = |peer: &mut BgpPeer| peer.password = Password::new("a secret".to_owned());
    let passive = rig(secret);
    // Two speakers of ours: the second calls the first.
    let call = |password: Option<&str>| {
        let mut other = peer("first", "127.0.0.1", ASN);
        other.mode = BgpMode::Active;
        other.port = passive.address.port();
        other.local_address = Some(PEER.parse().unwrap());
        other.connect_retry = Duration::from_secs(1);
        other.password = password.and_then(|text| Password::new(text.to_owned()));
        let mut config = config("127.0.0.9:0", vec![other]);
        config.router_id = ID.into();
        let mut inbox = Inbox::new();
        let feeds = vec![inbox.feed()];
        (BgpSpeaker::start(&config, SourceId(0), feeds).unwrap(), inbox)
    };
    for wrong in [None, Some("another")] {
        let (caller, _inbox) = call(wrong);
        // The kernel says nothing: we name what it may be.
        let end = Instant::now() + 3 * WAIT;
        while !caller.status()[0].last_error.as_ref().is_some_and(|why| why.contains("`password`")) {
            assert!(Instant::now() < end, "{:?}", caller.status()[0].last_error);
            std::thread::sleep(Duration::from_millis(50));
        }
        assert_eq!(caller.status()[0].established, 0, "{wrong:?}");
        assert_eq!(passive.peer("p").messages, 0);
        caller.stop();
    }
    let (caller, _inbox) = call(Some("a secret"));
    assert_eq!(passive.next(), RouteEvent::Up);
    caller.stop();
    while !matches!(passive.next(), RouteEvent::Down { .. }) {}
    assert!(!format!("{:?}", passive.peer("p")).contains("a secret"));
}

/// Connects with this TTL on all that is sent.
fn connect_with_ttl(ttl: u32, to: SocketAddr) -> Option<Script> {
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    socket.set_ttl_v4(ttl).unwrap();
    socket.bind(&format!("{PEER}:0").parse::<SocketAddr>().unwrap().into()).unwrap();
    socket.connect_timeout(&to.into(), Duration::from_millis(700)).ok()?;
    let stream: TcpStream = socket.into();
    stream.set_read_timeout(Some(WAIT)).unwrap();
    Some(Script { stream })
}

#[test]
fn gtsm_drops_what_comes_from_further_off() {
    let guarded = |peer: &mut BgpPeer| peer.ttl_security = Some(2);
    let rig = rig(guarded);
    assert!(connect_with_ttl(253, rig.address).is_none(), "three hops away: not even TCP");
    for near in [254, 255] {
        let mut script = connect_with_ttl(near, rig.address).unwrap();
        script.send(&open(ASN, 30, ID));
        assert_eq!((script.receive().0, script.receive().0), (1, 4));
        script.send(&keepalive());
        rig.until("p", up);
    }
    // Beside a peer that is not guarded the connection comes about, and no session.
    let mut mixed = peer("p", PEER, ASN);
    guarded(&mut mixed);
    let rig = Rig::new(vec![mixed, peer("free", "127.0.0.3", ASN)]);
    let mut far = connect_with_ttl(64, rig.address).unwrap();
    rig.until("p", |status| status.state == State::OpenSent);
    far.send(&open(ASN, 30, ID));
    std::thread::sleep(Duration::from_millis(300));
    assert_eq!(rig.peer("p").messages, 0);
    let _free = Script::establish("127.0.0.3", rig.address, &open(ASN, 30, [10, 255, 0, 3]));
    rig.until("free", up);
}

fn slash_24(third: u8) -> Vec<u8> {
    update(&[], &attributes(1), &[24, 10, 1, third])
}

fn limited(action: MaxPrefixAction) -> Rig {
    rig(|peer| peer.max_prefix = MaxPrefix { ipv4: Some(4), ipv6: None, warning: 50, action })
}

#[test]
fn over_the_limit_with_a_warning_only() {
    let rig = limited(MaxPrefixAction::Warn);
    let mut script = Script::establish(PEER, rig.address, &open(ASN, 30, ID));
    assert_eq!(rig.next(), RouteEvent::Up);
    for third in 0..6 {
        script.send(&slash_24(third));
        rig.next();
    }
    let status = rig.peer("p");
    assert_eq!((status.max_prefix.ipv4, status.max_prefix.ipv4_limit), (6, Some(4)));
    assert_eq!((status.max_prefix.warnings, up(&status)), (1, true));
}

#[test]
fn over_the_limit_it_is_shut_until_it_is_reset() {
    let rig = limited(MaxPrefixAction::Shut);
    let mut script = Script::establish(PEER, rig.address, &open(ASN, 30, ID));
    for third in 0..5 {
        script.send(&slash_24(third));
    }
    assert_eq!(script.notification(), (6, 1, vec![]));
    let down = std::iter::from_fn(|| Some(rig.next())).find(|event| matches!(event, RouteEvent::Down { .. }));
    let Some(RouteEvent::Down { retain, .. }) = down else { unreachable!() };
    assert_eq!(retain, Some(Duration::ZERO), "its routes do not stay");
    let status = rig.until("p", |status| status.state == State::Idle);
    assert!(status.max_prefix.kept_out);
    let again = Script::connect(PEER, rig.address);
    assert_eq!(again.notification(), (6, 5, vec![]));
    rig.speaker.reset("p").unwrap();
    let _script = Script::establish(PEER, rig.address, &open(ASN, 30, ID));
    assert_eq!(rig.next(), RouteEvent::Up);
    assert!(rig.speaker.reset("q").unwrap_err().contains("there are p"));
}

#[test]
fn over_the_limit_it_may_come_back_after_a_while() {
    let rig = limited(MaxPrefixAction::Restart(Duration::from_secs(5)));
    let mut script = Script::establish(PEER, rig.address, &open(ASN, 30, ID));
    for third in 0..5 {
        script.send(&slash_24(third));
    }
    assert_eq!(script.notification(), (6, 1, vec![]));
    let status = rig.until("p", |status| status.state == State::Idle);
    assert_eq!(sent(&status), [(6, 1, 1)]);
    rig.until("p", |status| status.state == State::Active);
    let _script = Script::establish(PEER, rig.address, &open(ASN, 30, ID));
    rig.until("p", up);
}

fn only(prefix: &str, local_pref: Option<u32>) -> Arc<Filter> {
    let prefixes = vec![PrefixMatch { prefix: prefix.parse().unwrap(), ge: 8, le: 24 }];
    let rule = Rule { prefixes, permit: true, local_pref, ..Rule::default() };
    Arc::new(Filter { name: "only".to_owned(), rules: vec![rule], permit_rest: false })
}

#[test]
fn a_filter_decides_and_a_new_one_asks_for_all_routes_again() {
    let rig = rig(|peer| peer.import = Some(only("10.0.0.0/8", Some(700))));
    // With route refresh (capability 2).
    let mut hello = open(ASN, 30, ID);
    hello.extend([2, 2, 2, 0]);
    let length = hello.len() as u16;
    hello[16..18].copy_from_slice(&length.to_be_bytes());
    hello[28] += 4;
    let mut script = Script::establish(PEER, rig.address, &hello);
    assert_eq!(rig.next(), RouteEvent::Up);
    let routes = update(&[], &attributes(1), &[16, 10, 1, 16, 192, 168]);
    script.send(&routes);
    let event = rig.next();
    assert_eq!(prefixes(&event), (vec!["10.1.0.0/16".to_owned()], vec!["192.168.0.0/16".to_owned()]));
    let RouteEvent::Update { attributes, .. } = event else { unreachable!() };
    assert_eq!(attributes.local_pref, 700);
    let hits = rig.peer("p").import.unwrap();
    assert_eq!((hits.rules, hits.rest), (vec![1], 1));

    assert_eq!((script.receive().0, script.receive().0), (2, 2), "End-of-RIB");
    rig.speaker.set_filters(vec![Some(only("192.168.0.0/16", None))]);
    assert_eq!(script.receive(), (5, vec![0, 1, 0, 1]), "ROUTE-REFRESH for IPv4");
    assert_eq!(script.receive(), (5, vec![0, 2, 0, 1]), "ROUTE-REFRESH for IPv6");
    script.send(&routes);
    assert_eq!(prefixes(&rig.next()), (vec!["192.168.0.0/16".to_owned()], vec!["10.1.0.0/16".to_owned()]));
    // The same filter once more changes nothing, and asks for nothing.
    rig.speaker.set_filters(vec![Some(only("192.168.0.0/16", None))]);
    rig.speaker.refresh("p").unwrap();
    assert_eq!((script.receive().0, script.receive().0), (5, 5));
    rig.until("p", |status| status.refreshes == 2);
}

#[test]
fn a_peer_that_cannot_be_asked_begins_anew() {
    let rig = rig(|_| {});
    let script = Script::establish(PEER, rig.address, &open(ASN, 30, ID));
    rig.until("p", up);
    rig.speaker.set_filters(vec![Some(only("10.0.0.0/8", None))]);
    assert_eq!(script.notification(), (6, 4, vec![]));
}

fn announcement(prefix: &str, communities: Vec<u32>) -> Announcement {
    Announcement { prefix: prefix.parse().unwrap(), next_hop: None, communities }
}

#[test]
fn what_is_listed_is_announced_and_nothing_else() {
    let rig = rig(|peer| {
        peer.asn = 12_076;
        peer.announce = vec![
            announcement("192.0.2.0/24", vec![0xfdf2_0001]),
            announcement("198.51.100.0/25", vec![]),
            announcement("2001:db8::/32", vec![]),
        ];
        peer.announce_limits = Some(AnnounceLimits { ipv4: 1, ipv6: 100 });
    });
    let mut script = Script::establish(PEER, rig.address, &open(12_076, 30, ID));
    let mut wanted = vec![0x40, 1, 1, 0, 0x40, 2, 6, 2, 1];
    wanted.extend(ASN.to_be_bytes());
    wanted.extend([0x40, 3, 4, 127, 0, 0, 1, 0xc0, 8, 4, 0xfd, 0xf2, 0, 1]);
    let wanted = message(2, &[&[0, 0, 0, wanted.len() as u8], wanted.as_slice(), &[24, 192, 0, 2]].concat());
    assert_eq!(script.receive(), (2, wanted[19..].to_vec()));
    assert_eq!(script.receive(), (2, vec![0, 0, 0, 0]), "then End-of-RIB: the second is beyond the limit");
    assert_eq!(script.receive(), (2, vec![0, 0, 0, 6, 0x80, 15, 3, 0, 2, 1]));
    let status = rig.until("p", |status| status.told.ipv4 == 1);
    assert_eq!((status.told.ipv4_refused, status.told.ipv6_refused, status.told.ipv6), (1, 1, 0));
    assert!(status.told.alarm.unwrap().contains("no next hop of its family"));
    // Asked for all again, we say the same.
    script.send(&message(5, &[0, 1, 0, 1]));
    assert_eq!(script.receive(), (2, wanted[19..].to_vec()));
}

#[test]
fn a_peers_own_restart_time_counts() {
    let rig = rig(|_| {});
    // Graceful restart (capability 64), 77 seconds, IPv4 unicast.
    let mut hello = open(ASN, 30, ID);
    hello.extend([2, 8, 64, 6, 0, 77, 0, 1, 1, 0]);
    let length = hello.len() as u16;
    hello[16..18].copy_from_slice(&length.to_be_bytes());
    hello[28] += 10;
    for (last_word, wanted) in
        [(None, Some(Duration::from_secs(77))), (Some([6, 2]), None), (Some([6, 9]), Some(Duration::ZERO))]
    {
        let mut script = Script::establish(PEER, rig.address, &hello);
        assert_eq!(rig.next(), RouteEvent::Up);
        if let Some(word) = last_word {
            script.send(&message(3, &word));
        }
        drop(script);
        let RouteEvent::Down { retain, .. } = rig.next() else { panic!() };
        assert_eq!(retain, wanted, "{last_word:?}");
        rig.until("p", |status| !up(status));
    }
}

/// Each route has long attributes of its own: the session ends before they take more than they may.
#[test]
fn attribute_bombs_are_bounded() {
    let peers = vec![peer("bomb", PEER, ASN)];
    let limits = Limits { attribute_bytes: 8 << 20, ..Limits::default() };
    let rig = Rig::with(&config("127.0.0.1:0", peers), limits, 1 << 20);
    let mut script = Script::establish(PEER, rig.address, &open(ASN, 30, ID));
    rig.until("bomb", up);
    script.stream.set_write_timeout(Some(WAIT)).unwrap();
    let mut kept = Vec::new();
    for number in 0u32.. {
        let [_, _, high, low] = number.to_be_bytes();
        // 900 communities, as a COMMUNITIES attribute of extended length.
        let communities: Vec<u8> = (0..900u32).flat_map(|i| (number * 900 + i).to_be_bytes()).collect();
        let mut bytes = attributes(1);
        bytes.extend([0xd0, 8]);
        bytes.extend((communities.len() as u16).to_be_bytes());
        bytes.extend(communities);
        if std::io::Write::write_all(&mut script.stream, &update(&[], &bytes, &[24, 10, high, low])).is_err()
        {
            break;
        }
        while let Some(event) = rig.events.recv_timeout(Duration::ZERO) {
            kept.push(event);
        }
        assert!(number < 20_000, "it takes all of it");
        if rig.peer("bomb").state != State::Established {
            break;
        }
    }
    let status = rig.until("bomb", |status| !up(status));
    assert_eq!(sent(&status), [(6, 8, 1)]);
    assert!(status.last_error.unwrap().contains("more than 8 MB"));
    while !kept.last().is_some_and(|event| matches!(event.event, RouteEvent::Down { .. })) {
        kept.push(rig.events.recv_timeout(WAIT).unwrap());
    }
    let Some(RouteEvent::Down { retain, .. }) = kept.last().map(|event| &event.event) else { panic!() };
    assert_eq!(*retain, Some(Duration::ZERO));
    assert!(rig.peer("bomb").attribute_bytes < 9 << 20);
    drop(kept);
    assert!(rig.peer("bomb").attribute_bytes < 64 << 10, "what is dropped is given back");
}
