//! Peers that are hostile, broken or slow, over real TCP. Each ends with the NOTIFICATION that is due, one line in
//! the log and a counter; a good peer beside it keeps its session and its routes.
#![allow(missing_docs, reason = "tests")]
#![allow(clippy::unwrap_used, clippy::panic, reason = "tests fail by panicking")]

mod bgp_common;

use std::io::{ErrorKind, Write};
use std::net::Shutdown;
use std::sync::{Mutex, Once};
use std::time::{Duration, Instant};

use bgp_common::{ASN, Rig, Script, attributes, config, keepalive, message, open, peer, sent, up, update};
use control::source::bgp::Limits;
use control::source::{RouteEvent, SourceId};
use socket2::SockRef;

const BAD: &str = "127.0.0.66";
const GOOD: &str = "127.0.0.2";
const ID: [u8; 4] = [10, 255, 0, 66];

static LOG: Mutex<Vec<u8>> = Mutex::new(Vec::new());

struct Log;

impl Write for Log {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        LOG.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// The lines about this peer so far.
fn logged(peer: &str) -> Vec<String> {
    let log = String::from_utf8(LOG.lock().unwrap().clone()).unwrap();
    log.lines().filter(|line| line.contains(&format!("peer={peer} "))).map(str::to_owned).collect()
}

/// A speaker with a good peer, whose session is up and who has announced 10.0.0.0/8, and a bad one, by name.
struct Yard {
    rig: Rig,
    bad: &'static str,
    good: Script,
}

impl Yard {
    fn new(bad: &'static str) -> Self {
        Self::with(bad, Limits::default())
    }

    fn with(bad: &'static str, limits: Limits) -> Self {
        static START: Once = Once::new();
        START.call_once(|| tracing_subscriber::fmt().with_ansi(false).with_writer(|| Log).init());
        let peers = vec![peer("good", GOOD, ASN), peer(bad, BAD, ASN)];
        let rig = Rig::with(&config("127.0.0.1:0", peers), limits, 4096);
        let mut good = Script::establish(GOOD, rig.address, &open(ASN, 90, [10, 255, 0, 2]));
        good.send(&update(&[], &attributes(2), &[8, 10]));
        assert_eq!(rig.next_from(), (SourceId(7), RouteEvent::Up));
        assert!(matches!(rig.next_from(), (SourceId(7), RouteEvent::Update { .. })));
        Self { rig, bad, good }
    }

    fn connect(&self) -> Script {
        Script::connect(BAD, self.rig.address)
    }

    fn establish(&self, hold_time: u16) -> Script {
        let script = Script::establish(BAD, self.rig.address, &open(ASN, hold_time, ID));
        assert_eq!(self.rig.next_from(), (SourceId(8), RouteEvent::Up));
        script
    }

    /// The bad peer's loss is told, once; returns why.
    fn down(&self) -> String {
        match self.rig.next_from() {
            (SourceId(8), RouteEvent::Down { reason }) => reason,
            other => panic!("{other:?}"),
        }
    }

    /// The bad peer is gone with this NOTIFICATION counted, in one line of the log; the good one never noticed.
    fn unharmed(mut self, code: u8, subcode: u8) {
        let status = self.rig.until(self.bad, |status| status.last_error.is_some() && !up(status));
        assert_eq!(sent(&status), [(code, subcode, 1)], "{status:?}");
        let lines = logged(self.bad);
        let ends: Vec<_> = lines.iter().filter(|line| !line.contains("session up")).collect();
        assert_eq!(ends.len(), 1, "{lines:?}");
        assert!(ends[0].contains(&format!("{code}/{subcode}")), "{lines:?}");
        self.good_still_works();
    }

    fn good_still_works(&mut self) {
        assert!(self.rig.events.is_empty(), "{:?}", self.rig.events.recv());
        self.good.send(&update(&[8, 10], &[], &[]));
        assert!(matches!(self.rig.next_from(), (SourceId(7), RouteEvent::Update { .. })));
        let good = self.rig.peer("good");
        assert!(up(&good));
        assert_eq!((good.announced, good.withdrawn, good.established), (1, 1, 1));
    }
}

#[test]
fn who_is_not_configured_is_closed_and_counted() {
    let mut yard = Yard::new("nobody");
    for address in ["127.0.0.99", "127.0.0.100"] {
        Script::connect(address, yard.rig.address).closed();
    }
    assert_eq!(yard.rig.speaker.refused(), 2);
    let log = String::from_utf8(LOG.lock().unwrap().clone()).unwrap();
    let lines = log.lines().filter(|line| line.contains("127.0.0.99:") && line.contains("[[bgp.peer]]"));
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
        let mut script = yard.connect();
        script.send(bytes);
        let start = Instant::now();
        assert_eq!(script.notification(), (4, 0, vec![]), "{name}");
        assert!((900..3000).contains(&start.elapsed().as_millis()), "{name}");
        yard.unharmed(4, 0);
    }
}

#[test]
fn half_a_message_then_nothing() {
    let yard = Yard::new("halfway");
    let mut script = yard.establish(3);
    let whole = update(&[], &attributes(1), &[16, 10, 1]);
    script.send(&whole);
    script.send(&whole[..30]);
    let start = Instant::now();
    assert_eq!(script.notification(), (4, 0, vec![]));
    assert!((2500..5000).contains(&start.elapsed().as_millis()));
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
        if script.stream.write_all(&[*byte]).is_err() || start.elapsed() > Duration::from_secs(4) {
            break;
        }
        std::thread::sleep(Duration::from_millis(200));
    }
    assert!(yard.down().contains("4/0"));
    assert!(start.elapsed() < Duration::from_secs(6));
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

#[test]
fn malformed_attributes_withdraw_the_route_and_leave_the_session() {
    let mut yard = Yard::new("malformed");
    let mut script = yard.establish(90);
    let good = attributes(1);
    let with = |change: &dyn Fn(&mut Vec<u8>)| {
        let mut bytes = good.clone();
        change(&mut bytes);
        bytes
    };
    let cases: [(&str, Vec<u8>); 9] = [
        ("ORIGIN 3", with(&|bytes| bytes[3] = 3)),
        ("ORIGIN with wrong flags", with(&|bytes| bytes[0] = 0xc0)),
        ("AS_PATH segment longer than the attribute", with(&|bytes| bytes[8] = 2)),
        ("AS_PATH segment of type 9", with(&|bytes| bytes[7] = 9)),
        ("AS_SET", with(&|bytes| bytes[7] = 1)),
        ("NEXT_HOP 127.0.2.1", with(&|bytes| bytes[16] = 127)),
        ("no NEXT_HOP", [&good[..13], &good[20..]].concat()),
        ("an attribute longer than all of them", with(&|bytes| bytes[22] = 200)),
        ("COMMUNITIES of 3 bytes", [&good[..], &[0xc0, 8, 3, 1, 2, 3]].concat()),
    ];
    let prefix = [16, 10, 1];
    for (index, (name, attributes)) in cases.iter().enumerate() {
        script.send(&update(&[], &good, &prefix));
        script.send(&update(&[], attributes, &prefix));
        let (_, RouteEvent::Update { announced, .. }) = yard.rig.next_from() else { panic!("{name}") };
        assert_eq!(announced.len(), 1, "{name}");
        let (_, RouteEvent::Update { announced: again, withdrawn, .. }) = yard.rig.next_from() else {
            panic!("{name}")
        };
        assert_eq!((again, withdrawn), (vec![], announced), "{name}");
        let status = yard.rig.peer("malformed");
        assert_eq!((status.malformed, status.prefixes), (index as u64 + 1, 0), "{name}");
    }
    // What only adorns a route is left out, and the route stays: AGGREGATOR of 3 bytes.
    script.send(&update(&[], &[&good[..], &[0xc0, 7, 3, 1, 2, 3]].concat(), &prefix));
    let (_, RouteEvent::Update { announced, .. }) = yard.rig.next_from() else { panic!() };
    assert_eq!(announced.len(), 1);
    assert!(up(&yard.rig.peer("malformed")));
    let lines = logged("malformed");
    assert!(lines.iter().any(|line| line.contains("session stays")), "{lines:?}");
    assert_eq!(sent(&yard.rig.peer("malformed")), []);
    drop(script);
    yard.down();
    yard.good_still_works();
}

#[test]
fn updates_whose_routes_cannot_be_told_end_the_session() {
    let good = attributes(1);
    let mut lengths = update(&[], &good, &[16, 10, 1]);
    lengths[20] = 200;
    let reach = |value: &[u8]| [&[0x80, 14, value.len() as u8], value, &good].concat();
    let origin = [&[0x40, 1, 1, 9], &good[4..]].concat();
    let cases: [(&'static str, Vec<u8>, u8); 7] = [
        ("length-fields", lengths, 1),
        ("prefix-33", update(&[], &good, &[33, 10, 1, 0, 0, 0]), 10),
        ("prefix-cut", update(&[], &good, &[24, 10]), 10),
        ("withdrawn-33", update(&[33, 10, 1, 0, 0, 0], &[], &[]), 10),
        ("reach-cut", update(&[], &reach(&[0, 2, 1, 16, 1, 2]), &[]), 9),
        (
            "reach-129",
            update(&[], &reach(&[&[0, 2, 1, 16], &[0x20; 16][..], &[0, 129], &[1; 17][..]].concat()), &[]),
            10,
        ),
        ("no-routes", update(&[], &origin, &[]), 1),
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

#[test]
fn too_many_prefixes() {
    let yard = Yard::with("greedy", Limits { max_prefixes: 100, ..Limits::default() });
    let mut script = yard.establish(90);
    for third in 0..=100 {
        script.send(&update(&[], &attributes(1), &[24, 10, 1, third]));
    }
    assert_eq!(script.notification(), (6, 1, vec![]));
    for _ in 0..=100 {
        assert!(matches!(yard.rig.next_from(), (SourceId(8), RouteEvent::Update { .. })));
    }
    assert!(yard.down().contains("more than 100 prefixes"));
    yard.unharmed(6, 1);
}

#[test]
fn a_restarted_peer_is_let_in_at_once() {
    let mut yard = Yard::new("restarted");
    let old = yard.establish(90);
    // The old connection is still open, as after a power cut.
    let start = Instant::now();
    let new = Script::establish(BAD, yard.rig.address, &open(ASN, 90, ID));
    assert!(yard.down().contains("replaced"));
    assert_eq!(yard.rig.next_from(), (SourceId(8), RouteEvent::Up));
    assert!(start.elapsed() < Duration::from_secs(1));
    assert_eq!(old.notification(), (6, 7, vec![]));
    assert!(up(&yard.rig.peer("restarted")));
    drop(new);
    yard.down();
    yard.good_still_works();
}

#[test]
fn another_speaker_behind_the_same_address_is_rejected() {
    let mut yard = Yard::new("twins");
    let old = yard.establish(90);
    let mut other = yard.connect();
    other.send(&open(ASN, 90, [10, 255, 0, 77]));
    assert_eq!(other.notification(), (6, 5, vec![]));
    let status = yard.rig.until("twins", |status| status.rejected == 1);
    assert!(up(&status));
    assert!(status.last_error.unwrap().contains("10.255.0.66 instead of 10.255.0.77"));
    drop(old);
    yard.down();
    yard.good_still_works();
}

#[test]
fn another_speaker_takes_over_from_a_silent_one() {
    let yard = Yard::new("heir");
    let _old = yard.establish(6);
    std::thread::sleep(Duration::from_millis(4500));
    let _new = Script::establish(BAD, yard.rig.address, &open(ASN, 90, [10, 255, 0, 77]));
    assert!(yard.down().contains("replaced"));
    assert_eq!(yard.rig.next_from(), (SourceId(8), RouteEvent::Up));
}

fn threads() -> usize {
    std::fs::read_dir("/proc/self/task")
        .unwrap()
        .filter(|task| {
            let name = std::fs::read_to_string(task.as_ref().unwrap().path().join("comm"));
            name.is_ok_and(|name| name.starts_with("bgp-storm"))
        })
        .count()
}

#[test]
fn a_thousand_connections_cost_two_threads() {
    let mut yard = Yard::new("storm");
    let established = yard.establish(90);
    // 500 from the peer's own address, kept open, and 500 from nobody's.
    let mut open = Vec::new();
    for _ in 0..500 {
        open.push(yard.connect());
        Script::connect("127.0.0.9", yard.rig.address).closed();
        assert!(threads() <= 2);
    }
    yard.rig.until("storm", |status| status.rejected == 499);
    assert_eq!(yard.rig.speaker.refused(), 500);
    let log = String::from_utf8(LOG.lock().unwrap().clone()).unwrap();
    let lines = log.lines().filter(|line| line.contains("already connecting")).count();
    assert!((1..100).contains(&lines), "{lines} lines");
    assert!(up(&yard.rig.peer("storm")));
    drop(open);
    drop(established);
    yard.down();
    yard.good_still_works();
}

#[test]
fn a_flood_waits_for_a_slow_consumer() {
    let peers = vec![peer("flood", BAD, ASN)];
    let rig = Rig::with(&config("127.0.0.1:0", peers), Limits::default(), 8);
    let mut script = Script::establish(BAD, rig.address, &open(ASN, 3, ID));
    assert_eq!(rig.next(), RouteEvent::Up);
    script.receive();
    script.receive();
    // Writes until nothing goes through for a second: the buffers of TCP and of the session, and no more.
    script.stream.set_write_timeout(Some(Duration::from_secs(1))).unwrap();
    let batch: Vec<Vec<u8>> =
        (0..=255).map(|third| update(&[], &attributes(1), &[24, 10, 1, third])).collect();
    let (mut written, mut rest) = (0usize, None);
    'flood: for _ in 0.. {
        for bytes in &batch {
            match script.stream.write(bytes) {
                Ok(length) if length == bytes.len() => written += 1,
                Ok(length) => {
                    rest = Some(bytes[length..].to_vec());
                    break 'flood;
                }
                Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                    break 'flood;
                }
                Err(error) => panic!("{error}"),
            }
        }
        assert!(written < 2_000_000, "somebody takes it all");
    }
    assert!(rig.peer("flood").updates <= 10);
    // We are the slow ones: the session outlives its hold time, and our keepalives go out.
    let start = Instant::now();
    while start.elapsed() < Duration::from_secs(5) {
        assert_eq!(script.receive(), (4, vec![]));
    }
    assert!(up(&rig.peer("flood")));
    // The consumer wakes up: everything is there, in order.
    script.stream.set_write_timeout(None).unwrap();
    let total = written + usize::from(rest.is_some());
    let sender = std::thread::spawn(move || {
        script.send(&rest.unwrap_or_default());
        script.send(&keepalive());
        script
    });
    for got in 0..total {
        let RouteEvent::Update { announced, .. } = rig.next() else { panic!("{got} of {total}") };
        assert_eq!(announced[0].prefix.to_string(), format!("10.1.{}.0/24", got % 256));
    }
    let _script = sender.join().unwrap();
    let status = rig.until("flood", |status| status.messages == total as u64 + 3);
    assert!(rig.events.is_empty());
    assert!(up(&status));
}

#[test]
fn a_stop_does_not_wait_for_a_consumer() {
    let peers = vec![peer("stopped", BAD, ASN)];
    let rig = Rig::with(&config("127.0.0.1:0", peers), Limits::default(), 2);
    let mut script = Script::establish(BAD, rig.address, &open(ASN, 90, ID));
    for third in 0..100 {
        script.send(&update(&[], &attributes(1), &[24, 10, 1, third]));
    }
    rig.until("stopped", |status| status.updates > 0);
    let start = Instant::now();
    rig.speaker.stop();
    assert!(start.elapsed() < Duration::from_secs(2), "{:?}", start.elapsed());
    assert_eq!(script.notification(), (6, 2, vec![]));
}

#[test]
fn a_consumer_that_is_gone_ends_the_session() {
    let rig = Rig::new(vec![peer("orphan", BAD, ASN)]);
    let mut script = Script::establish(BAD, rig.address, &open(ASN, 90, ID));
    assert_eq!(rig.next(), RouteEvent::Up);
    drop(rig.events);
    script.send(&update(&[], &attributes(1), &[16, 10, 1]));
    assert_eq!(script.notification(), (6, 8, vec![]));
    rig.speaker.stop();
}
