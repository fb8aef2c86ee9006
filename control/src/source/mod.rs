//! Route sources: what announces and withdraws routes, and the one form in which all of them say it.

pub mod bgp;
pub mod charge;
pub mod fpm;
pub(crate) mod limit;
pub mod netlink;
pub mod queue;
mod receive_buffer;
pub mod rtnl;
mod tcp;
pub(crate) mod threads;

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::time::Duration;

use dataplane::ids::{SubIfId, VrfId};
use ipnetwork::IpNetwork;

/// Number of one source instance: the connected routes, the static ones, or one BGP session.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SourceId(pub u32);

/// The kinds of source, for output and administrative distance.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum SourceKind {
    /// The sub-interfaces' own prefixes.
    Connected,
    /// `[[route]]`.
    Static,
    /// A session of the native BGP speaker.
    Bgp,
    /// FRR's zebra, over its Forwarding Plane Manager protocol.
    Fpm,
    /// A routing table of the Linux kernel, over rtnetlink.
    Netlink,
    /// Routes of another VRF.
    Leak,
}

impl SourceKind {
    /// Its name in output.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Connected => "connected",
            Self::Static => "static",
            Self::Bgp => "bgp",
            Self::Fpm => "fpm",
            Self::Netlink => "netlink",
            Self::Leak => "leak",
        }
    }
}

/// Address families, as BGP's AFI with SAFI unicast (RFC 4760).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Family {
    /// IPv4 unicast.
    Ipv4,
    /// IPv6 unicast.
    Ipv6,
}

impl Family {
    /// Its name in output.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Ipv4 => "ipv4",
            Self::Ipv6 => "ipv6",
        }
    }
}

/// BGP's ORIGIN (RFC 4271, section 5.1.1); lower is preferred.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub enum Origin {
    /// Interior to the originating AS.
    #[default]
    Igp,
    /// Learned by EGP.
    Egp,
    /// By some other means.
    Incomplete,
}

/// One next hop as the source named it, before resolution.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct NextHop {
    /// Gateway.
    pub address: IpAddr,
    /// Relative share of flows, 1 or more.
    pub weight: u8,
    /// The sub-interface of a link-local gateway, which its address does not tell; others are found by their address.
    pub interface: Option<SubIfId>,
}

impl NextHop {
    /// A gateway that is found by its address, with a share of 1.
    pub const fn new(address: IpAddr) -> Self {
        Self { address, weight: 1, interface: None }
    }
}

/// Next hops that a source gave a number to: when it changes them, all its routes over them follow at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct HopSet {
    /// Whose.
    pub source: SourceId,
    /// Its number, which never means another set.
    pub number: u64,
}

/// What one or many prefixes share: where they lead, and by what they are preferred. Shared by `Arc`, since a
/// BGP UPDATE brings many prefixes with the same attributes.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Default)]
pub struct Attributes {
    /// Next hops as learned; empty means discard, unless there is a set.
    pub next_hops: Vec<NextHop>,
    /// A set of next hops, in the place of those.
    pub hop_set: Option<HopSet>,
    /// `LOCAL_PREF`; higher is preferred. 100 where the source has none.
    pub local_pref: u32,
    /// `AS_PATH` flattened for display, in order, sets included.
    pub as_path: Vec<u32>,
    /// Length of the `AS_PATH` for comparison (RFC 4271, section 9.1.2.2 a: a set counts as 1, confederation
    /// segments as 0).
    pub as_path_len: u32,
    /// ORIGIN.
    pub origin: Origin,
    /// `MULTI_EXIT_DISC`; lower is preferred, compared between the same neighbouring AS only.
    pub med: u32,
    /// COMMUNITIES (RFC 1997).
    pub communities: Vec<u32>,
    /// `LARGE_COMMUNITY` (RFC 8092).
    pub large_communities: Vec<[u32; 3]>,
    /// A preference of this router's own, set by a filter; higher is preferred, before `LOCAL_PREF`. 0 where nobody
    /// set one.
    pub weight: u32,
    /// Administrative distance in place of the source's, set by a filter.
    pub distance: Option<u8>,
    /// What it costs to reach the next hop, as far as the source knows; lower is preferred. 0 where it does not.
    pub metric: u32,
    /// `ORIGINATOR_ID` of a reflected route (RFC 4456), which counts in place of the speaker's router id.
    pub originator: Option<Ipv4Addr>,
    /// Length of the `CLUSTER_LIST` (RFC 4456); shorter is preferred.
    pub cluster_len: u32,
    /// To whom its memory is booked.
    pub charge: charge::Charge,
}

/// Who speaks on a BGP session: what best-path selection asks about a path and is not in its attributes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Speaker {
    /// Whether it is in another AS than we are (eBGP).
    pub external: bool,
    /// Its router id, from its OPEN.
    pub router_id: Ipv4Addr,
    /// Its address.
    pub address: IpAddr,
}

impl Default for Speaker {
    /// What stands for a source that is no BGP session.
    fn default() -> Self {
        let nobody = Ipv4Addr::UNSPECIFIED;
        Self { external: false, router_id: nobody, address: nobody.into() }
    }
}

/// One prefix of a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Nlri {
    /// Destination, host bits zero.
    pub prefix: IpNetwork,
    /// Path identifier (RFC 7911); 0 without add-path.
    pub path_id: u32,
}

/// What a source says, in the order in which it says it.
#[derive(Clone, Debug, PartialEq)]
pub enum RouteEvent {
    /// The source (re)connected: what it announced before is stale until announced again or swept.
    Up,
    /// Who speaks, right after [`Self::Up`]; only BGP sessions say it.
    Speaker(Speaker),
    /// Withdrawn and announced prefixes of one message; within it the withdrawals come first.
    Update {
        /// Prefixes that go.
        withdrawn: Vec<Nlri>,
        /// Prefixes that come or change, all with `attributes`.
        announced: Vec<Nlri>,
        /// Shared by `announced`.
        attributes: Arc<Attributes>,
    },
    /// A numbered set of next hops comes or changes: before the first route over it.
    HopSet {
        /// Its number; the source is the event's.
        number: u64,
        /// Its next hops; without one, it leads nowhere.
        next_hops: Vec<NextHop>,
    },
    /// No further route will be over this set.
    HopSetGone {
        /// Its number.
        number: u64,
    },
    /// All of this family has been announced (RFC 4724): what is still stale goes.
    EndOfRib(Family),
    /// The source was lost: its routes stay for its retain time, then go.
    Down {
        /// Why, for people.
        reason: String,
        /// How long its routes stay, if it knows better than the configuration: the peer's own restart time (RFC 4724),
        /// or not at all after it was shut down for what it sent.
        retain: Option<Duration>,
    },
}

/// A [`RouteEvent`] with where it comes from.
#[derive(Clone, Debug, PartialEq)]
pub struct SourceEvent {
    /// Which source.
    pub source: SourceId,
    /// Its table.
    pub vrf: VrfId,
    /// What it says.
    pub event: RouteEvent,
}

/// What any source can tell about one of its instances.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct SourceStatus {
    /// Number of the instance.
    pub id: u32,
    /// Its name in output.
    pub name: String,
    /// Its kind.
    pub kind: SourceKind,
    /// Number of the VRF that its routes go to.
    pub vrf: u16,
    /// Whether it is connected and may announce.
    pub up: bool,
    /// Routes that it has announced and not withdrawn; with add-path each path counts.
    pub routes: u64,
    /// Prefixes announced or changed since the start of the program.
    pub announced: u64,
    /// Prefixes withdrawn since the start of the program.
    pub withdrawn: u64,
    /// Prefixes that changed and that the control thread has not taken yet.
    pub waiting: u64,
    /// Routes that were not taken, since they lead nowhere that we can send to.
    pub refused: u64,
    /// Messages that could not be read.
    pub malformed: u64,
    /// Connections, sessions, or readings of the whole table.
    pub starts: u64,
    /// How long the last change waited for the control thread, in microseconds, where that is known.
    pub lag_us: Option<u64>,
    /// The last thing that went wrong with it, if anything did.
    pub last_error: Option<String>,
}

impl SourceStatus {
    /// Of an instance that has done nothing yet; its kind is its name.
    pub fn new(id: u32, kind: SourceKind, vrf: VrfId) -> Self {
        Self {
            id,
            name: kind.name().to_owned(),
            kind,
            vrf: vrf.0,
            up: false,
            routes: 0,
            announced: 0,
            withdrawn: 0,
            waiting: 0,
            refused: 0,
            malformed: 0,
            starts: 0,
            lag_us: None,
            last_error: None,
        }
    }

    /// With these counters.
    fn with(mut self, stats: &rtnl::Stats, queue: &queue::FeedStats) -> Self {
        let get = |counter: &std::sync::atomic::AtomicU64| counter.load(std::sync::atomic::Ordering::Relaxed);
        self.up = stats.up.load(std::sync::atomic::Ordering::Relaxed);
        self.routes = get(&stats.routes);
        self.announced = get(&stats.announced);
        self.withdrawn = get(&stats.withdrawn);
        self.waiting = get(&stats.pending) + queue.prefixes as u64;
        self.refused = get(&stats.refused);
        self.malformed = get(&stats.malformed);
        self.starts = get(&stats.starts);
        self.lag_us = Some((stats.lag() + queue.lag).as_micros() as u64);
        self.last_error = stats.last_error();
        self
    }
}

/// A running route source. It was given its end of a [`queue`] for each instance when it was started, and
/// does its blocking input on threads of its own; this is what the rest of the program holds of it.
pub trait RouteSource: Send {
    /// Its name in output.
    fn name(&self) -> &str;
    /// Its kind.
    fn kind(&self) -> SourceKind;
    /// One entry for each instance: a session, a connection, a table.
    fn status(&self) -> Vec<SourceStatus>;
    /// Takes leave of whoever is at the other end and joins the threads. Waits for no consumer: what does not fit
    /// into the queue any more is dropped.
    fn stop(self: Box<Self>);
}
