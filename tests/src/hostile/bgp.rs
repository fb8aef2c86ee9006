//! BGP peers that misbehave: each loses its connection with the right NOTIFICATION, and nobody else anything.

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use serde_json::Value;
use socket2::{Domain, Socket, Type};

use crate::bench::{Bench, ROGUES, ours, theirs};
use crate::hostile::floods::Random;
use crate::lab::Netns;
use crate::plan::{CUSTOMER_AS, RELAY_PORT};
use crate::process::status_of;
use crate::suite::SOON;
use crate::{frame, sys, wait};

/// An address that no `[[bgp.peer]]` has.
const STRANGER: &str = "127.0.0.3";
/// How long turnpike waits for an OPEN, with some slack.
const OPEN_TIME: Duration = Duration::from_secs(30);

/// Sooner than turnpike has waited for an OPEN in vain.
const AT_ONCE: Duration = Duration::from_secs(10);

const OPEN: u8 = 1;
pub(crate) const UPDATE: u8 = 2;
const NOTIFICATION: u8 = 3;
pub(crate) const KEEPALIVE: u8 = 4;

/// A BGP message (RFC 4271, section 4.1).
pub(crate) fn message(kind: u8, body: &[u8]) -> Vec<u8> {
    let mut message = vec![0xff; 16];
    message.extend((19 + body.len() as u16).to_be_bytes());
    message.push(kind);
    message.extend(body);
    message
}

/// An OPEN without capabilities.
fn open(version: u8, asn: u16, hold_time: u16, router_id: [u8; 4]) -> Vec<u8> {
    let mut body = vec![version];
    body.extend(asn.to_be_bytes());
    body.extend(hold_time.to_be_bytes());
    body.extend(router_id);
    body.push(0);
    message(OPEN, &body)
}

/// A right OPEN.
pub(crate) fn right_open() -> Vec<u8> {
    open(4, CUSTOMER_AS as u16, 9, [10, 0, 0, 66])
}

/// Connects to turnpike's BGP port on loopback in `netns`, from `source`.
#[track_caller]
pub(crate) fn connect(netns: &Netns, source: &str) -> TcpStream {
    netns.enter(|| {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
        let from = SocketAddr::new(source.parse().expect("an address"), 0);
        socket.bind(&from.into()).expect("a loopback address");
        let to = SocketAddr::from(([127, 0, 0, 1], RELAY_PORT));
        socket.connect(&to.into()).unwrap_or_else(|e| panic!("connect from {source}: {e}"));
        TcpStream::from(socket)
    })
}

/// A connection of ours, from an address of our choice.
struct Peer(TcpStream);

impl Peer {
    /// Connects from `source`, in the VRF's namespace.
    #[track_caller]
    fn connect(bench: &Bench, source: &str) -> Self {
        let stream = connect(&bench.vrf, source);
        stream.set_read_timeout(Some(Duration::from_millis(100))).expect("a time limit");
        Self(stream)
    }

    /// Sends, unless the other side has closed already.
    fn send(&mut self, bytes: &[u8]) {
        let _ = self.0.write_all(bytes);
    }

    /// All that comes until the other side closes; panics when it does not in time.
    #[track_caller]
    fn read_to_end(&mut self, limit: Duration) -> Vec<u8> {
        let mut all = Vec::new();
        let mut buffer = [0; 4096];
        wait::until(limit, "turnpike to close the connection", || match self.0.read(&mut buffer) {
            Ok(0) => Some(()),
            Ok(n) => {
                all.extend(&buffer[..n]);
                None
            }
            Err(e)
                if matches!(
                    e.kind(),
                    ErrorKind::WouldBlock | ErrorKind::TimedOut | ErrorKind::Interrupted
                ) =>
            {
                None
            }
            // A reset is an end as well.
            Err(_) => Some(()),
        });
        all
    }

    /// Goes up to Established by the book.
    #[track_caller]
    fn establish(&mut self, bench: &Bench, source: &str) {
        self.send(&right_open());
        self.send(&message(KEEPALIVE, &[]));
        wait::until_true(SOON, "our session to be established", || {
            status(bench, source)["state"] == "Established"
        });
    }
}

/// Codes of the NOTIFICATION in what a peer received, if there is one.
fn notification(bytes: &[u8]) -> Option<(u8, u8)> {
    let mut rest = bytes;
    while rest.len() >= 19 {
        let length = usize::from(u16::from_be_bytes([rest[16], rest[17]]));
        if rest[18] == NOTIFICATION {
            return Some((*rest.get(19)?, *rest.get(20)?));
        }
        rest = rest.get(length.max(19)..)?;
    }
    None
}

/// What turnpike says of the peer at `address`.
#[track_caller]
fn status(bench: &Bench, address: &str) -> Value {
    let shown = bench.router().show("bgp");
    let peer = shown.as_array().and_then(|all| all.iter().find(|p| p["address"] == address)).cloned();
    peer.unwrap_or_else(|| panic!("`show bgp` does not know {address}: {shown}"))
}

/// How often turnpike has sent a NOTIFICATION to the peer at `address`.
#[track_caller]
fn sent(bench: &Bench, address: &str, (code, subcode): (u8, u8)) -> u64 {
    let status = status(bench, address);
    let all = status["notifications_sent"].as_array().cloned().unwrap_or_default();
    let found = all.iter().find(|n| n["code"] == code && n["subcode"] == subcode);
    found.and_then(|n| n["count"].as_u64()).unwrap_or(0)
}

/// Sends `bytes` right after connecting; the connection must end with this NOTIFICATION, counted as sent.
#[track_caller]
fn assert_refused(bench: &Bench, what: &str, bytes: &[u8], want: (u8, u8)) {
    let source = ROGUES[0];
    wait::until_true(SOON, "the last connection to be forgotten", || {
        status(bench, source)["state"] == "Active"
    });
    let before = sent(bench, source, want);
    let mut peer = Peer::connect(bench, source);
    peer.send(bytes);
    let got = notification(&peer.read_to_end(SOON));
    assert_eq!(got, Some(want), "NOTIFICATION after {what}");
    wait::until_true(SOON, "the NOTIFICATION to be counted", || sent(bench, source, want) == before + 1);
}

/// A connection from an address that is not configured ends at once, with a line in the log; what it has to say is
/// not even read.
pub fn from_a_stranger(bench: &mut Bench) {
    let mut peer = Peer::connect(bench, STRANGER);
    peer.send(&right_open());
    let got = peer.read_to_end(AT_ONCE);
    assert!(matches!(notification(&got), None | Some((6, 5))), "a stranger was told {got:02x?}");
    let log = bench.router.as_mut().expect("turnpike runs").daemon();
    wait::until_true(SOON, "a line about the stranger", || log.log().contains(STRANGER));
    bench.assert_unharmed();
}

/// What is no BGP at all, or breaks off the framing.
pub fn garbage(bench: &mut Bench) {
    assert_refused(bench, "an HTTP request", b"GET / HTTP/1.1\r\nHost: turnpike\r\n\r\n", (1, 1));
    assert_refused(bench, "zeros", &[0; 64], (1, 1));
    let mut random = Random::new(0xb6b);
    let noise: Vec<u8> = (0..4096).map(|_| random.below(256) as u8).collect();
    assert_refused(bench, "noise", &noise, (1, 1));
    let with_length = |kind: u8, length: u16| {
        let mut bytes = message(kind, &[0; 32]);
        bytes[16..18].copy_from_slice(&length.to_be_bytes());
        bytes
    };
    assert_refused(bench, "a length of 0", &with_length(OPEN, 0), (1, 2));
    assert_refused(bench, "a length of 18", &with_length(KEEPALIVE, 18), (1, 2));
    assert_refused(bench, "an OPEN of 28 bytes", &with_length(OPEN, 28), (1, 2));
    assert_refused(bench, "an unknown type", &message(9, &[]), (1, 3));
    bench.assert_unharmed();
}

/// OPENs that cannot be accepted.
pub fn wrong_opens(bench: &mut Bench) {
    let asn = CUSTOMER_AS as u16;
    assert_refused(bench, "BGP version 3", &open(3, asn, 9, [10, 0, 0, 66]), (2, 1));
    assert_refused(bench, "another AS", &open(4, asn + 1, 9, [10, 0, 0, 66]), (2, 2));
    assert_refused(bench, "BGP identifier 0", &open(4, asn, 9, [0; 4]), (2, 3));
    assert_refused(bench, "a hold time of 1 s", &open(4, asn, 1, [10, 0, 0, 66]), (2, 6));
    bench.assert_unharmed();
}

/// Two peers fall silent halfway through a message, one before its OPEN, one in an established session with a route:
/// both end by their timers, and the route goes after the retain time.
pub fn half_a_message_then_silence(bench: &mut Bench) {
    for rogue in ROGUES {
        wait::until_true(SOON, "earlier connections to be forgotten", || {
            status(bench, rogue)["state"] == "Active"
        });
    }
    let mut early = Peer::connect(bench, ROGUES[0]);
    early.send(&right_open()[..10]);
    let mut late = Peer::connect(bench, ROGUES[1]);
    late.establish(bench, ROGUES[1]);
    // The hold time runs from here at the earliest.
    let start = Instant::now();
    late.send(&update());
    wait::until_true(SOON, "the route of the session", || knows(bench, "198.20.0.0/16"));
    late.send(&update()[..25]);
    let got = notification(&late.read_to_end(OPEN_TIME));
    let held = start.elapsed();
    assert_eq!(got, Some((4, 0)), "NOTIFICATION after half an UPDATE and silence");
    assert!(held >= Duration::from_secs(9), "the hold time of 9 s ended after {:.1} s", held.as_secs_f64());
    assert!(knows(bench, "198.20.0.0/16"), "its route must stay for the retain time");
    let got = notification(&early.read_to_end(OPEN_TIME));
    assert!(matches!(got, Some((4 | 5, _))), "NOTIFICATION after half an OPEN and silence: {got:?}");
    wait::until_true(SOON, "the lost session's route to go", || !knows(bench, "198.20.0.0/16"));
    bench.assert_unharmed();
}

/// An established peer sends UPDATEs with something wrong in them. Those that RFC 7606 lets pass as withdrawals must
/// not end the session, the others end it; whichever, others are not disturbed.
pub fn random_bytes_after_open(bench: &mut Bench) {
    let source = ROGUES[0];
    let mut random = Random::new(0x7606);
    let mut ended = 0;
    for round in 0..60 {
        wait::until_true(SOON, "the last connection to be forgotten", || {
            status(bench, source)["state"] == "Active"
        });
        let mut peer = Peer::connect(bench, source);
        peer.establish(bench, source);
        for _ in 0..50 {
            let mut bytes = update();
            for _ in 0..=random.below(3) {
                let at = 19 + random.below(bytes.len() - 19);
                bytes[at] = random.below(256) as u8;
            }
            peer.send(&bytes);
        }
        if round % 2 == 0 {
            peer.send(&vec![0xff; 16 + random.below(40)]);
        } else {
            peer.send(&message(9, &[]));
        }
        drop(peer.0.shutdown(std::net::Shutdown::Write));
        ended += u32::from(notification(&peer.read_to_end(SOON)).is_some());
    }
    println!("    {ended} of 60 sessions ended with a NOTIFICATION");
    let malformed = status(bench, source)["malformed"].as_u64();
    assert!(malformed > Some(0), "no UPDATE was counted as malformed: {malformed:?}");
    bench.assert_unharmed();
}

/// Two hundred connections at once, from strangers and from a peer that is allowed one: the rest are refused, and
/// when all are gone the peer gets its session as ever.
pub fn crowd(bench: &mut Bench) {
    let source = ROGUES[0];
    wait::until_true(SOON, "the last connection to be forgotten", || {
        status(bench, source)["state"] == "Active"
    });
    let crowd: Vec<_> =
        (0..200).map(|n| Peer::connect(bench, if n % 2 == 0 { STRANGER } else { source })).collect();
    assert!(bench.knows_the_learned_route());
    drop(crowd);
    wait::until_true(SOON, "the crowd to be forgotten", || status(bench, source)["state"] == "Active");
    let mut peer = Peer::connect(bench, source);
    peer.establish(bench, source);
    drop(peer);
    bench.assert_unharmed();
}

/// Attempts at a connection, each second one of which is kept open.
const ATTEMPTS: usize = 10_000;
/// How much memory they may take, in kB, and how many threads.
const MEMORY: u64 = 16 * 1024;
const THREADS: u64 = 3;

/// Ten thousand connections from strangers and from a peer that is allowed one; half of them stay open and say nothing. It
/// takes no memory to speak of, all are counted, and packets and the established session do not notice.
pub fn ten_thousand_connections(bench: &mut Bench) {
    sys::allow_open_files(ATTEMPTS as u64).expect("as many open files");
    let source = ROGUES[0];
    wait::until_true(SOON, "the last connection to be forgotten", || {
        status(bench, source)["state"] == "Active"
    });
    let strangers = |bench: &Bench| {
        bench.router().show("drops")["control"]["outcomes"]["bgp_connection_refused"].as_u64().unwrap_or(0)
    };
    let rejected = |bench: &Bench| status(bench, source)["rejected"].as_u64().expect("a counter");
    let pid = bench.router.as_mut().expect("turnpike runs").daemon().pid();
    let before = (strangers(bench), rejected(bench));
    let (memory, threads) = (status_of(pid, "VmRSS"), status_of(pid, "Threads"));
    let frames = vec![Bench::wrap(0, &Bench::packet(0, 0, false, 64, b"crowd")); 20];
    let lines = refusals(bench);
    let start = Instant::now();
    let mut silent = Vec::new();
    for n in 0..ATTEMPTS {
        let stranger = format!("127.0.1.{}", n % 200 + 1);
        let stream = connect(&bench.vrf, if n % 4 == 0 { source } else { &stranger });
        if n % 2 == 0 {
            silent.push(stream);
        }
        if n % 2500 == 2499 {
            assert_eq!(bench.forwarded(&frames).1.len(), frames.len(), "forwarded after {n} connections");
        }
    }
    let all = ATTEMPTS as u64;
    wait::until_true(SOON, "all strangers to be counted", || strangers(bench) == before.0 + all * 3 / 4);
    // One of the peer's is its candidate, and some more after that was given up.
    let more = || rejected(bench) - before.1;
    wait::until_true(SOON, "the peer's to be rejected", || more() >= all / 4 - 10);
    let more = more();
    assert!(more < all / 4, "{more} of the peer's connections were rejected");
    let grown = status_of(pid, "VmRSS").saturating_sub(memory);
    assert!(grown < MEMORY, "{grown} kB more memory");
    let grown = status_of(pid, "Threads").saturating_sub(threads);
    assert!(grown <= THREADS, "{grown} threads more");
    let told = refusals(bench) - lines;
    let took = start.elapsed().as_secs_f64();
    assert!((1..=20 + took as usize).contains(&told), "{told} lines in {took:.1} s");
    println!("    {took:.1} s, {told} lines in the log");
    bench.assert_unharmed();
    drop(silent);
    wait::until_true(SOON, "them to be forgotten", || status(bench, source)["state"] == "Active");
    let mut peer = Peer::connect(bench, source);
    peer.establish(bench, source);
    drop(peer);
    bench.assert_unharmed();
}

/// Calls from the wire that nobody goes on with.
const HALF_OPEN: u16 = 3000;
/// How many of them the kernel remembers: our backlog, and some.
const REMEMBERED: usize = 300;

/// A neighbour on the wire calls our BGP port again and again, and never answers (SYN only). Few are remembered, they take
/// no memory and no thread, packets and the session do not notice, and who calls rightly meanwhile is heard.
pub fn half_open_connections(bench: &mut Bench) {
    let (IpAddr::V4(from), IpAddr::V4(to)) = (theirs(0, 1, false), ours(0, 1, false)) else {
        panic!("no IPv4 addresses")
    };
    let pid = bench.router.as_mut().expect("turnpike runs").daemon().pid();
    let (memory, threads) = (status_of(pid, "VmRSS"), status_of(pid, "Threads"));
    let lines = refusals(bench);
    let calls: Vec<_> =
        (0..HALF_OPEN).map(|n| Bench::wrap(1, &frame::syn((from, 10_000 + n), (to, RELAY_PORT)))).collect();
    let counted = bench.send(&calls);
    println!("    {counted:?}");
    assert!(counted.punts.keys().all(|reason| reason == "local") && counted.punted > 0, "{counted:?}");
    // Sockets of the namespace, with the state in the fourth column: 03 is SYN-RECV.
    let half_open = || {
        let sockets = bench.vrf.enter(|| std::fs::read_to_string("/proc/thread-self/net/tcp"));
        let sockets = sockets.expect("its sockets");
        sockets.lines().filter(|line| line.split_whitespace().nth(3) == Some("03")).count()
    };
    wait::until_true(SOON, "calls to be remembered", || half_open() > 0);
    let half_open = half_open();
    assert!(half_open <= REMEMBERED, "{half_open} are half open");
    let mut stranger = bench.vrf.enter(|| TcpStream::connect((to, RELAY_PORT))).expect("a connection");
    stranger.set_read_timeout(Some(SOON)).expect("a time limit");
    assert!(matches!(stranger.read(&mut [0; 1]), Ok(0) | Err(_)), "a stranger was answered");
    wait::until_true(SOON, "a line about the stranger", || refusals(bench) > lines);
    assert!(refusals(bench) <= lines + 2, "a line for who never was there");
    let grown = status_of(pid, "VmRSS").saturating_sub(memory);
    assert!(grown < MEMORY, "{grown} kB more memory");
    // Those that served the API for a moment may be among either.
    wait::until_true(SOON, "no more threads", || status_of(pid, "Threads") <= threads);
    bench.assert_unharmed();
}

/// Lines about refused connections in the log.
fn refusals(bench: &mut Bench) -> usize {
    let log = bench.router.as_mut().expect("turnpike runs").daemon().log();
    log.lines().filter(|line| line.contains("BGP connection refused")).count()
}

/// Whether a route to `prefix` is in the FIB.
#[track_caller]
fn knows(bench: &Bench, prefix: &str) -> bool {
    let routes = bench.router().show("routes");
    routes.as_array().is_some_and(|all| all.iter().any(|r| r["prefix"] == prefix && r["installed"] == true))
}

/// An UPDATE that announces 198.20.0.0/16 by the neighbour on `b-qinq`.
fn update() -> Vec<u8> {
    let mut body = vec![0, 0];
    let mut attributes = vec![0x40, 1, 1, 0, 0x40, 2, 0, 0x40, 3, 4, 10, 2, 2, 2, 0x40, 5, 4, 0, 0, 0, 100];
    body.extend((attributes.len() as u16).to_be_bytes());
    body.append(&mut attributes);
    body.extend([16, 198, 20]);
    message(UPDATE, &body)
}
