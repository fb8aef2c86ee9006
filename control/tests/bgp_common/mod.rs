//! What the tests of the BGP speaker share: a speaker on a port of its own, and a peer that is scripted by bytes.
#![allow(dead_code, missing_docs, reason = "each test program uses its part")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests fail by panicking")]

pub mod daemon;
pub mod yard;

use std::cell::RefCell;
use std::collections::VecDeque;
use std::io::{ErrorKind, Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use control::config::model::{Bgp, BgpPeer};
use control::source::bgp::{BgpSpeaker, Limits, PeerStatus, State};
use control::source::queue::Inbox;
use control::source::{RouteEvent, SourceEvent, SourceId};
use dataplane::ids::VrfId;
use socket2::{Domain, Socket, Type};

pub const ASN: u32 = 65_010;
/// Longer than anything takes on a busy machine.
pub const WAIT: Duration = Duration::from_mins(1);

pub fn peer(name: &str, address: &str, asn: u32) -> BgpPeer {
    BgpPeer::new(name.to_owned(), address.parse().unwrap(), asn, VrfId(3))
}

pub fn config(listen: &str, peers: Vec<BgpPeer>) -> Bgp {
    Bgp {
        listen: vec![listen.parse().unwrap()],
        asn: ASN,
        router_id: Ipv4Addr::new(10, 255, 0, 1),
        retain: Duration::from_mins(1),
        hold_time: Duration::from_secs(90),
        peers,
    }
}

/// The far end of a speaker's queues, one event at a time.
pub struct Events {
    inbox: RefCell<Inbox>,
    taken: RefCell<VecDeque<SourceEvent>>,
}

impl Events {
    pub fn recv_timeout(&self, patience: Duration) -> Option<SourceEvent> {
        let end = Instant::now() + patience;
        loop {
            if let Some(event) = self.taken.borrow_mut().pop_front() {
                return Some(event);
            }
            self.taken.borrow_mut().extend(self.inbox.borrow_mut().take(1));
            if !self.taken.borrow().is_empty() {
                continue;
            }
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return None;
            }
            let _ = self.inbox.borrow().ready().recv_timeout(left);
        }
    }

    pub fn is_empty(&self) -> bool {
        self.taken.borrow().is_empty() && self.inbox.borrow().is_empty()
    }
}

/// A speaker on 127.0.0.1 and the far end of its queues.
pub struct Rig {
    pub speaker: BgpSpeaker,
    pub events: Events,
    pub address: SocketAddr,
}

impl Rig {
    pub fn new(peers: Vec<BgpPeer>) -> Self {
        Self::with(&config("127.0.0.1:0", peers), Limits::default(), 4096)
    }

    pub fn with(config: &Bgp, limits: Limits, capacity: usize) -> Self {
        let mut inbox = Inbox::new();
        let feeds = config.peers.iter().map(|_| inbox.feed_of(capacity)).collect();
        let speaker = BgpSpeaker::start_with(config, SourceId(7), feeds, limits).unwrap();
        // Who only calls listens nowhere.
        let nowhere = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        let address = speaker.listening().first().copied().unwrap_or(nowhere);
        let events = Events { inbox: inbox.into(), taken: RefCell::default() };
        Self { speaker, events, address }
    }

    /// The next event, which must come.
    pub fn next(&self) -> RouteEvent {
        self.next_from().1
    }

    pub fn next_from(&self) -> (SourceId, RouteEvent) {
        loop {
            let event = self.events.recv_timeout(WAIT).expect("an event within a minute");
            assert_eq!(event.vrf, VrfId(3));
            // Who speaks has a test of its own.
            if !matches!(event.event, RouteEvent::Speaker(_)) {
                return (event.source, event.event);
            }
        }
    }

    pub fn peer(&self, name: &str) -> PeerStatus {
        self.speaker.status().into_iter().find(|peer| peer.name == name).unwrap()
    }

    /// Waits until the peer's status is as `wanted`.
    pub fn until(&self, name: &str, wanted: impl Fn(&PeerStatus) -> bool) -> PeerStatus {
        let end = Instant::now() + WAIT;
        loop {
            let status = self.peer(name);
            if wanted(&status) {
                return status;
            }
            assert!(Instant::now() < end, "still {status:?}");
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

pub fn sent(status: &PeerStatus) -> Vec<(u8, u8, u64)> {
    status.notifications_sent.iter().map(|n| (n.notification.code, n.notification.subcode, n.count)).collect()
}

/// A message with its header.
pub fn message(kind: u8, body: &[u8]) -> Vec<u8> {
    let mut bytes = vec![0xff; 16];
    bytes.extend((19 + body.len() as u16).to_be_bytes());
    bytes.push(kind);
    bytes.extend(body);
    bytes
}

pub fn keepalive() -> Vec<u8> {
    message(4, &[])
}

/// An OPEN with IPv4 and IPv6 unicast and 4-byte AS.
pub fn open(asn: u32, hold_time: u16, router_id: [u8; 4]) -> Vec<u8> {
    let mut body = vec![4];
    body.extend(u16::try_from(asn).unwrap_or(23_456).to_be_bytes());
    body.extend(hold_time.to_be_bytes());
    body.extend(router_id);
    let mut capabilities = vec![1, 4, 0, 1, 0, 1, 1, 4, 0, 2, 0, 1, 65, 4];
    capabilities.extend(asn.to_be_bytes());
    body.extend([capabilities.len() as u8 + 2, 2, capabilities.len() as u8]);
    body.extend(capabilities);
    message(1, &body)
}

/// An UPDATE of its three parts.
pub fn update(withdrawn: &[u8], attributes: &[u8], nlri: &[u8]) -> Vec<u8> {
    let mut body = (withdrawn.len() as u16).to_be_bytes().to_vec();
    body.extend(withdrawn);
    body.extend((attributes.len() as u16).to_be_bytes());
    body.extend(attributes);
    body.extend(nlri);
    message(2, &body)
}

/// `ORIGIN` IGP, `AS_PATH` 12076, `NEXT_HOP` 192.0.2.`next_hop`, `LOCAL_PREF` 200.
pub fn attributes(next_hop: u8) -> Vec<u8> {
    let mut bytes = vec![0x40, 1, 1, 0, 0x40, 2, 6, 2, 1];
    bytes.extend(12_076u32.to_be_bytes());
    bytes.extend([0x40, 3, 4, 192, 0, 2, next_hop, 0x40, 5, 4, 0, 0, 0, 200]);
    bytes
}

/// A peer of the speaker that sends what it is told to.
pub struct Script {
    pub stream: TcpStream,
}

impl Script {
    pub fn connect(from: &str, to: SocketAddr) -> Self {
        let socket = Socket::new(Domain::for_address(to), Type::STREAM, None).unwrap();
        socket.bind(&SocketAddr::new(from.parse::<IpAddr>().unwrap(), 0).into()).unwrap();
        socket.connect(&to.into()).unwrap();
        let stream: TcpStream = socket.into();
        stream.set_read_timeout(Some(WAIT)).unwrap();
        stream.set_nodelay(true).unwrap();
        Self { stream }
    }

    /// Connects and brings the session up.
    pub fn establish(from: &str, to: SocketAddr, open: &[u8]) -> Self {
        let mut script = Self::connect(from, to);
        script.send(open);
        assert_eq!(script.receive().0, 1, "OPEN");
        assert_eq!(script.receive().0, 4, "KEEPALIVE");
        script.send(&keepalive());
        script
    }

    pub fn send(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).unwrap();
    }

    /// The next message: type and body.
    pub fn receive(&mut self) -> (u8, Vec<u8>) {
        self.try_receive().expect("a message, not the end of the connection")
    }

    pub fn try_receive(&mut self) -> Option<(u8, Vec<u8>)> {
        let mut header = [0; 19];
        match self.stream.read_exact(&mut header) {
            Ok(()) => {}
            Err(error) if matches!(error.kind(), ErrorKind::UnexpectedEof | ErrorKind::ConnectionReset) => {
                return None;
            }
            Err(error) => panic!("nothing came: {error}"),
        }
        let length = u16::from_be_bytes([header[16], header[17]]);
        let mut body = vec![0; usize::from(length) - 19];
        self.stream.read_exact(&mut body).unwrap();
        Some((header[18], body))
    }

    /// Reads to the NOTIFICATION, which must come, and to the end of the connection, which must follow.
    pub fn notification(mut self) -> (u8, u8, Vec<u8>) {
        loop {
            let (kind, body) = self.receive();
            if kind == 3 {
                assert_eq!(self.try_receive(), None, "closed after the NOTIFICATION");
                return (body[0], body[1], body[2..].to_vec());
            }
        }
    }

    /// Reads to the end of the connection; no NOTIFICATION may come before it.
    pub fn closed(mut self) {
        while let Some((kind, _)) = self.try_receive() {
            assert_ne!(kind, 3);
        }
    }
}

/// Whether the peer's session is up.
pub fn up(status: &PeerStatus) -> bool {
    status.state == State::Established
}
