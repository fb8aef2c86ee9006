//! Peers that send what they must not, or not all of it, over real TCP. Each ends with the NOTIFICATION that is
//! due, one line in the log and a counter; a good peer beside it keeps its session and its routes.
#![allow(missing_docs, reason = "tests")]
#![allow(clippy::unwrap_used, clippy::panic, reason = "tests fail by panicking")]

mod bgp_common;

use std::io::Write;
use std::net::Shutdown;
use std::time::{Duration, Instant};

use bgp_common::yard::{ID, Yard, lines};
use bgp_common::{ASN, Script, attributes, keepalive, message, open, up, update};
use control::source::bgp::Limits;
use control::source::{RouteEvent, SourceId};
use socket2::SockRef;

#[test]
fn who_is_not_configured_is_closed_and_counted() {
    let mut yard = Yard::new("nobody");
    for address in ["127.0.0.99", "127.0.0.100"] {
        Script::connect(address, yard.rig.address).closed();
    }
    yard.rig.until("nobody", |_| yard.rig.speaker.refused() == 2);
    yard.rig.until("nobody", |_| lines().iter().any(|line| line.contains("127.0.0.99:")));
    let lines =
        lines().into_iter().filter(|line| line.contains("127.0.0.99:") && line.contains("[[bgp.peer]]"));
    assert_eq!(lines.count(), 1);
    yard.good_still_works();
}

#[test]
fn garbage_instead_of_a_header() {
    let yard = Yard::new("garbage");
    let mut script = yard.connect();
    script.send(b"GET / HTTP/1.1\r\nHost: turnpike\r\n\r\n");
    assert_eq!(script.notification(), (1, 1, vec![]));
    yard.unharmed(1, 1);
}

#[test]
fn garbage_in_an_established_session() {
    let yard = Yard::new("late-garbage");
    let mut script = yard.establish(90);
    script.send(&[0; 4096]);
    assert_eq!(script.notification(), (1, 1, vec![]));
    assert!(yard.down().contains("1/1"));
    yard.unharmed(1, 1);
}

#[test]
fn bad_lengths() {
    // Type and length: shorter than a header, longer than an OPEN can be, the longest of all, a KEEPALIVE with a
    // body, an UPDATE too short for its own length fields.
    let cases: [(&'static str, u8, u16); 5] = [
        ("length-18", 4, 18),
        ("length-4097", 1, 4097),
        ("length-65535", 2, 65535),
        ("length-20", 4, 20),
        ("length-22", 2, 22),
    ];
    for (name, kind, length) in cases {
        let yard = Yard::new(name);
        let mut script = yard.connect();
        let mut header = vec![0xff; 16];
        header.extend(length.to_be_bytes());
        header.push(kind);
        script.send(&header);
        assert_eq!(script.notification(), (1, 2, length.to_be_bytes().to_vec()), "{name}");
        yard.unharmed(1, 2);
    }
}

#[test]
fn an_unknown_type() {
    let yard = Yard::new("type-9");
    let mut script = yard.connect();
    script.send(&message(9, &[1, 2, 3]));
    assert_eq!(script.notification(), (1, 3, vec![9]));
    yard.unharmed(1, 3);
}

#[test]
fn unacceptable_opens() {
    let mut version = open(ASN, 90, ID);
    version[19] = 5;
    let cases: [(&'static str, Vec<u8>, u8, Vec<u8>); 6] = [
        ("version-5", version, 1, vec![0, 4]),
        ("wrong-as", open(ASN + 1, 90, ID), 2, vec![]),
        ("router-id-0", open(ASN, 90, [0; 4]), 3, vec![]),
        ("our-router-id", open(ASN, 90, [10, 255, 0, 1]), 3, vec![]),
        ("hold-time-1", open(ASN, 1, ID), 6, vec![]),
        ("hold-time-2", open(ASN, 2, ID), 6, vec![]),
    ];
    for (name, open, subcode, data) in cases {
        let yard = Yard::new(name);
        let mut script = yard.connect();
        script.send(&open);
        assert_eq!(script.notification(), (2, subcode, data), "{name}");
        yard.unharmed(2, subcode);
    }
}

#[test]
fn messages_at_the_wrong_time() {
    // A KEEPALIVE before the OPEN; a second OPEN in an established session.
    let yard = Yard::new("early-keepalive");
    let mut script = yard.connect();
    script.send(&keepalive());
    assert_eq!(script.notification().0, 5);
    yard.unharmed(5, 0);

    let yard = Yard::new("second-open");
    let mut script = yard.establish(90);
    script.send(&open(ASN, 90, ID));
    assert_eq!(script.notification().0, 5);
    yard.down();
    yard.unharmed(5, 0);
}

fn impatient() -> Limits {
    Limits { open_time: Duration::from_secs(1), ..Limits::default() }
}

#[test]
fn no_open_no_whole_open_no_confirmation() {
    let whole = open(ASN, 0, ID);
    let cases: [(&'static str, &[u8]); 3] =
        [("silent", &[]), ("half-open", &whole[..30]), ("unconfirmed", &whole)];
    for (name, bytes) in cases {
        let yard = Yard::with(name, impatient());
        let start = Instant::now();
        let mut script = yard.connect();
        script.send(bytes);
        assert_eq!(script.notification(), (4, 0, vec![]), "{name}");
        // Not for as long as an OPEN is waited for otherwise.
        assert!((900..12_000).contains(&start.elapsed().as_millis()), "{name}");
        yard.unharmed(4, 0);
    }
}

#[test]
fn half_a_message_then_nothing() {
    let yard = Yard::new("halfway");
    let mut script = yard.establish(3);
    let whole = update(&[], &attributes(1), &[16, 10, 1]);
    let start = Instant::now();
    script.send(&whole);
    script.send(&whole[..30]);
    assert_eq!(script.notification(), (4, 0, vec![]));
    assert!((2500..20_000).contains(&start.elapsed().as_millis()));
    assert!(matches!(yard.rig.next_from(), (SourceId(8), RouteEvent::Update { .. })), "the whole one counts");
    assert!(yard.down().contains("hold timer"));
    yard.unharmed(4, 0);
}

#[test]
fn a_message_byte_by_byte_does_not_hold_the_session() {
    let yard = Yard::new("dripping");
    let mut script = yard.establish(3);
    let bytes = update(&[], &attributes(1), &[16, 10, 1]);
    let start = Instant::now();
    for byte in &bytes {
        if script.stream.write_all(&[*byte]).is_err() {
            break;
        }
        std::thread::sleep(Duration::from_millis(200));
    }
    // The whole message would have taken longer.
    assert!(start.elapsed() < Duration::from_millis(200) * bytes.len() as u32);
    assert!(yard.down().contains("4/0"));
    yard.unharmed(4, 0);
}

#[test]
fn a_dead_connection_is_a_loss_told_once() {
    let yard = Yard::new("reset");
    let script = yard.establish(90);
    SockRef::from(&script.stream).set_linger(Some(Duration::ZERO)).unwrap();
    drop(script);
    assert!(yard.down().contains("connection"));
    let script = yard.establish(90);
    script.stream.shutdown(Shutdown::Write).unwrap();
    assert!(yard.down().contains("closed"));
    let mut yard = yard;
    yard.rig.until("reset", |status| !up(status));
    yard.good_still_works();
}

#[test]
fn a_notification_ends_the_session_unanswered() {
    let mut yard = Yard::new("notifier");
    for (body, wanted) in [(vec![6, 4], "6/4"), (vec![200, 7, 1, 2], "200/7"), (vec![6, 2, 255, 1], "6/2")] {
        let mut script = yard.establish(90);
        script.send(&message(3, &body));
        script.closed();
        let reason = yard.down();
        assert!(reason.contains(wanted), "{reason}");
        yard.rig.until("notifier", |status| !up(status));
    }
    assert_eq!(yard.rig.peer("notifier").notifications_received.len(), 3);
    yard.good_still_works();
}
