//! The seam between a session's input and output and the BGP library: a synchronous protocol machine that is fed
//! bytes and timer expiries, and answers with what is to be done. It opens no socket, starts no thread and reads
//! no clock, so that it can be tested and fuzzed alone, and replaced.

use std::fmt;
use std::net::Ipv4Addr;
use std::time::Duration;

use ipnetwork::IpNetwork;

use super::announce::Announcer;
use crate::source::charge::Account;
use crate::source::{Family, RouteEvent};

/// Length of a BGP message's header in bytes (RFC 4271, section 4.1).
pub(super) const HEADER_LENGTH: usize = 19;
/// Longest message, with extended messages (RFC 8654).
pub(super) const MAX_LENGTH: usize = 65_535;

/// What one session is configured with.
#[derive(Clone, Debug)]
pub(super) struct SessionConfig {
    pub local_asn: u32,
    pub peer_asn: u32,
    pub router_id: Ipv4Addr,
    /// Seconds; 0 or 3 and more.
    pub hold_time: u16,
    /// Seconds until the peer's OPEN must have come.
    pub open_time: u16,
    pub add_path: AddPath,
    /// What we tell the peer.
    pub announcer: Announcer,
    /// To whom the attributes' memory is booked.
    pub account: Account,
}

/// Which half of add-path (RFC 7911) we offer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum AddPath {
    Off,
    Receive,
    Send,
}

/// The session's timers (RFC 4271, section 8). The connect-retry timer is missing: who connects sees to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Timer {
    Hold,
    Keepalive,
}

/// A session's state (RFC 4271, section 8.2.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, serde::Serialize)]
pub enum State {
    /// It is kept out.
    Idle,
    /// No connection: we wait for the peer's, or call it.
    Active,
    /// Connected, our OPEN is sent.
    OpenSent,
    /// The peer's OPEN was accepted, its KEEPALIVE is awaited.
    OpenConfirm,
    /// Routes are exchanged.
    Established,
}

impl State {
    /// All of them.
    pub const ALL: [Self; 5] =
        [Self::Idle, Self::Active, Self::OpenSent, Self::OpenConfirm, Self::Established];

    /// Its name in output.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Idle => "Idle",
            Self::Active => "Active",
            Self::OpenSent => "OpenSent",
            Self::OpenConfirm => "OpenConfirm",
            Self::Established => "Established",
        }
    }
}

/// What both sides agreed upon in their OPENs.
#[expect(clippy::struct_excessive_bools, reason = "each is a capability of its own")]
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Negotiated {
    /// The peer's router id.
    pub router_id: Ipv4Addr,
    /// Hold time in seconds; 0: none.
    pub hold_time: u16,
    /// Address families (RFC 4760).
    pub families: Vec<Family>,
    /// Families on which the peer may send us several paths for a prefix (RFC 7911).
    pub add_path_receive: Vec<Family>,
    /// Families on which we may send the peer several paths.
    pub add_path_send: Vec<Family>,
    /// 4-byte AS numbers (RFC 6793).
    pub four_byte_as: bool,
    /// Messages of up to 65535 bytes in both directions (RFC 8654).
    pub extended_messages: bool,
    /// Route refresh (RFC 2918).
    pub route_refresh: bool,
    /// Refreshes are marked by begin and end (RFC 7313).
    pub enhanced_route_refresh: bool,
    /// IPv4 routes may have IPv6 next hops (RFC 8950).
    pub ipv6_next_hops: bool,
    /// The peer can restart gracefully (RFC 4724); its restart time in seconds.
    pub graceful_restart: Option<u16>,
    /// Families over which it can do so; without any it only helps others.
    pub graceful_families: Vec<Family>,
}

/// A NOTIFICATION's code and subcode (RFC 4271, section 4.5).
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Notification {
    /// Error code.
    pub code: u8,
    /// Error subcode; 0 where the code has none.
    pub subcode: u8,
}

impl Notification {
    /// Cease, of our own accord.
    pub(super) const fn cease(cease: Cease) -> Self {
        Self { code: 6, subcode: cease as u8 }
    }
}

impl fmt::Display for Notification {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let meaning = match (self.code, self.subcode) {
            (1, 1) => "connection not synchronised",
            (1, 2) => "bad message length",
            (1, 3) => "bad message type",
            (1, _) => "message header error",
            (2, 1) => "unsupported version",
            (2, 2) => "bad peer AS",
            (2, 3) => "bad BGP identifier",
            (2, 4) => "unsupported optional parameter",
            (2, 6) => "unacceptable hold time",
            (2, 7) => "unsupported capability",
            (2, _) => "OPEN message error",
            (3, 1) => "malformed attribute list",
            (3, 9) => "optional attribute error",
            (3, 10) => "invalid network field",
            (3, _) => "UPDATE message error",
            (4, _) => "hold timer expired",
            (5, _) => "finite state machine error",
            (6, 1) => "maximum number of prefixes reached",
            (6, 2) => "administrative shutdown",
            (6, 3) => "peer de-configured",
            (6, 4) => "administrative reset",
            (6, 5) => "connection rejected",
            (6, 6) => "other configuration change",
            (6, 7) => "connection collision resolution",
            (6, 8) => "out of resources",
            (6, 9) => "hard reset",
            (6, 10) => "BFD down",
            (6, _) => "cease",
            (7, _) => "ROUTE-REFRESH message error",
            (8, _) => "send hold timer expired",
            _ => "unknown code",
        };
        write!(f, "{}/{} ({meaning})", self.code, self.subcode)
    }
}

/// Why we end a session of our own accord (RFC 4486).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Cease {
    TooManyPrefixes = 1,
    Shutdown = 2,
    Reset = 4,
    Rejected = 5,
    Collision = 7,
    OutOfResources = 8,
}

/// Why a session ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Ending {
    /// We sent a NOTIFICATION; with what we saw.
    Sent(Notification, String),
    /// The peer sent one.
    Received(Notification),
    /// What the peer sent could not even be answered.
    Silent(String),
}

impl fmt::Display for Ending {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Sent(notification, detail) => write!(f, "we sent NOTIFICATION {notification}: {detail}"),
            Self::Received(notification) => write!(f, "the peer sent NOTIFICATION {notification}"),
            Self::Silent(detail) => f.write_str(detail),
        }
    }
}

/// What is to be done, in this order.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Output {
    /// Write these bytes.
    Send(Vec<u8>),
    /// (Re)start a timer.
    Start(Timer, Duration),
    /// Stop a timer.
    Stop(Timer),
    /// The state changed.
    State(State),
    /// The peer's OPEN is acceptable. Comes before our KEEPALIVE is sent, so that the session can still be refused.
    Opened(Box<Negotiated>),
    /// One UPDATE, decoded: up to two events (classic and multiprotocol NLRI may differ in next hop).
    Update(Vec<RouteEvent>),
    /// Something in an UPDATE was wrong, and handled without ending the session (RFC 7606).
    Malformed(String),
    /// An UPDATE's routes have our own AS in their path, and came as withdrawals.
    Looped,
    /// What we tell the peer of a family was sent: so many prefixes; and what was refused, with the reason.
    Announced { family: Family, prefixes: usize, refused: Vec<(IpNetwork, &'static str)> },
    /// The peer begins to send all of a family again (RFC 7313).
    RefreshBegins(Family),
    /// It has done so: what it did not send again is gone.
    RefreshEnds(Family),
    /// Close the connection, once everything before this is written. Nothing follows.
    Close(Ending),
}

/// One session's protocol machine.
pub(super) trait Protocol: Send {
    /// The TCP connection stands, whoever made it.
    fn connected(&mut self, out: &mut Vec<Output>);
    /// Takes at most one message from the front of `input`. Returns how many bytes it took; 0: more are needed.
    /// It never asks for more than [`MAX_LENGTH`] bytes in all.
    fn receive(&mut self, input: &[u8], out: &mut Vec<Output>) -> usize;
    /// A timer expired.
    fn expired(&mut self, timer: Timer, out: &mut Vec<Output>);
    /// Ends the session from our side; `detail` is for our own log.
    fn cease(&mut self, cease: Cease, detail: String, out: &mut Vec<Output>);
    /// Asks the peer to send all its routes again (RFC 2918). Returns whether it can be asked.
    fn refresh(&mut self, out: &mut Vec<Output>) -> bool;
}
