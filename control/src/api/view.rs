//! What the API shows, as it stands in its JSON.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// A port. `received = forwarded + punted + dropped`, exactly, whenever no burst is under way.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Port {
    /// Its name.
    pub name: String,
    /// PCI address or vdev string.
    pub device: String,
    /// DPDK driver.
    pub driver: String,
    /// MAC address.
    pub mac: String,
    /// Whether the link is up.
    pub link_up: bool,
    /// Link speed, in Mbit/s; 0: unknown.
    pub speed_mbps: u32,
    /// Largest IP packet, in bytes.
    pub mtu: u16,
    /// RX queues, one for each worker that polls it.
    pub rx_queues: u16,
    /// Packets received.
    pub received: u64,
    /// Bytes received.
    pub received_bytes: u64,
    /// Packets received here and sent on.
    pub forwarded: u64,
    /// Packets received here and handed to the control thread.
    pub punted: u64,
    /// Packets received here and dropped.
    pub dropped: u64,
    /// Packets sent from here, the control thread's included.
    pub sent: u64,
    /// Bytes sent.
    pub sent_bytes: u64,
    /// Packets of the control thread that the TX queue had no room for.
    pub inject_dropped: u64,
    /// Packets that the NIC dropped before we saw them: no free descriptor, or no buffer.
    pub missed: u64,
    /// Frames that the NIC received with errors, and dropped.
    pub receive_errors: u64,
    /// Packets that the NIC could not send.
    pub transmit_errors: u64,
    /// Its offloads: `in use`, and for what not, or `software` and why.
    pub offloads: BTreeMap<String, String>,
}

/// A sub-interface.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Interface {
    /// Its name.
    pub name: String,
    /// Its port's name.
    pub port: String,
    /// Its tags, e.g. `100.10`, or `-`.
    pub tags: String,
    /// Its VRF's name.
    pub vrf: String,
    /// The name of the circuit that it is a link of; empty if of none.
    pub circuit: String,
    /// Its TAP's name; empty without one.
    pub tap: String,
    /// Our addresses.
    pub addresses: Vec<String>,
    /// Largest IP packet, in bytes.
    pub mtu: u16,
    /// Whether its link is up.
    pub up: bool,
    /// Received.
    pub received: Traffic,
    /// Sent.
    pub sent: Traffic,
}

/// Packets and bytes in one direction.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Traffic {
    /// Packets.
    pub packets: u64,
    /// Bytes of the frames, tags included, FCS not.
    pub l2_bytes: u64,
    /// Bytes of the IP packets.
    pub l3_bytes: u64,
}

/// How long something took, in nanoseconds, each time.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Times {
    /// Half of them took no longer.
    pub p50_ns: u64,
    /// All but one in a thousand took no longer.
    pub p999_ns: u64,
    /// The longest.
    pub max_ns: u64,
    /// All of them, as (time, how many took so long or up to an eighth less).
    pub histogram: Vec<(u64, u64)>,
}

/// A worker.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Worker {
    /// Its core.
    pub core: usize,
    /// Packets it handled.
    pub packets: u64,
    /// Packets it handed to other workers.
    pub handed: u64,
    /// Packets that other workers handed to it.
    pub taken: u64,
    /// RX polls.
    pub polls: u64,
    /// RX polls that brought nothing.
    pub empty_polls: u64,
    /// Share of polls that brought nothing, in percent.
    pub empty_percent: f64,
    /// Packets in a burst, on average.
    pub packets_per_burst: f64,
    /// Cycles from poll to transmission, for each packet.
    pub cycles_per_packet: f64,
    /// Share of cycles spent on packets, in percent.
    pub busy_percent: f64,
    /// Cycles spent on packets.
    pub busy_cycles: u64,
    /// Cycles in all.
    pub cycles: u64,
    /// Time from one look at its queues to the next, sleep aside.
    pub rounds: Times,
}

/// Workers, and the pool that all of them share.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Workers {
    /// Each worker.
    pub workers: Vec<Worker>,
    /// Turns of the control thread: so long did its other work have to wait.
    pub control_turns: Times,
    /// Cycles in a second.
    pub tsc_hz: u64,
    /// Packet buffers in the pool.
    pub pool_size: u32,
    /// Packet buffers that are free.
    pub pool_available: u32,
    /// Whether the memory is on huge pages.
    pub huge_pages: bool,
}

/// Drops and punts of a port, by reason; reasons that did not occur are left out.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Drops {
    /// The port's name.
    pub port: String,
    /// Packets dropped.
    pub dropped: BTreeMap<String, u64>,
    /// Packets handed to the control thread.
    pub punted: BTreeMap<String, u64>,
}

/// What became of punted packets in the control thread.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Control {
    /// By outcome.
    pub outcomes: BTreeMap<String, u64>,
}

/// `show drops`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct DropReport {
    /// Each port.
    pub ports: Vec<Drops>,
    /// The control thread.
    pub control: Control,
}

/// An access list.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Acl {
    /// Its name.
    pub name: String,
    /// The sub-interfaces that it is in force on for what comes in.
    pub inbound: Vec<String>,
    /// Those for what goes out.
    pub outbound: Vec<String>,
    /// Its rules in order, and last what none of them matched.
    pub rules: Vec<AclRule>,
}

/// A rule of an access list.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct AclRule {
    /// The rule.
    pub rule: String,
    /// Packets that it was the first to match; of a `count` rule, all that came to it and matched.
    pub packets: u64,
    /// Bytes of their IP packets.
    pub bytes: u64,
}

/// What came of a reload of the access lists.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct AclReload {
    /// Lists in force.
    pub lists: usize,
    /// Rules in them.
    pub rules: usize,
    /// Rules that stood before, and count on.
    pub kept: usize,
}

/// A neighbour.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Neighbour {
    /// The sub-interface it is on.
    pub interface: String,
    /// Its address.
    pub address: String,
    /// Its MAC address; empty while unknown.
    pub mac: String,
    /// `static`, `reachable`, `stale`, `probing`, `failed` or `incomplete`; `held_down` by `turnpike neighbour`.
    pub state: String,
    /// Packets held until it is resolved.
    pub held: usize,
    /// The address and MAC address that an IPv4 neighbour's link shows instead, while it does not answer; else empty.
    #[serde(default)]
    pub seen: String,
}

/// A member of a next-hop group.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Member {
    /// The sub-interface it is on.
    pub interface: String,
    /// Its address; empty for glean.
    pub gateway: String,
    /// Its MAC address; empty while unknown.
    pub mac: String,
    /// Relative share.
    pub weight: u16,
    /// Buckets it has.
    pub buckets: usize,
    /// `live`, `unresolved` or `down`.
    pub state: String,
}

/// A next-hop group.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Group {
    /// Its number.
    pub id: u32,
    /// What it is for: `connected`, `neighbour` or `via`.
    pub kind: String,
    /// FIB entries, and route attributes, that lead to it.
    pub references: u32,
    /// Its members.
    pub members: Vec<Member>,
}

/// A route source in a VRF.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Source {
    /// Its name: `connected`, `static`, a BGP peer's, `fpm` or `netlink`.
    pub name: String,
    /// Its kind: `connected`, `static`, `bgp`, `fpm` or `netlink`.
    pub kind: String,
    /// The name of the VRF that its routes go to.
    pub vrf: String,
    /// Whether it is connected and may announce.
    pub up: bool,
    /// Administrative distance; the lowest wins.
    pub distance: u8,
    /// IPv4 and IPv6 paths that the RIB has from it.
    pub routes: u64,
    /// The IPv4 paths of them.
    pub ipv4: u64,
    /// The IPv6 paths.
    pub ipv6: u64,
    /// Those of them that were not announced again since it was lost; only of BGP.
    pub stale: u64,
    /// Prefixes announced or withdrawn in the last second.
    pub changes_per_second: f64,
    /// Prefixes announced or changed since the start of the program.
    pub announced: u64,
    /// Prefixes withdrawn since the start of the program.
    pub withdrawn: u64,
    /// Prefixes that changed and wait for the control thread.
    pub waiting: u64,
    /// How long the last change waited for the control thread, in milliseconds; none where that is not measured.
    pub lag_ms: Option<f64>,
    /// Routes that were not taken, since they lead nowhere that we can send to.
    pub refused: u64,
    /// Messages that could not be read.
    pub malformed: u64,
    /// Connections, sessions, or readings of the whole table.
    pub starts: u64,
    /// The last thing that went wrong with it.
    pub last_error: Option<String>,
}

/// A route in a listing.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Route {
    /// Its VRF's name.
    pub vrf: String,
    /// Destination.
    pub prefix: String,
    /// Source: `connected`, `static`, `fpm`, `netlink`, or a BGP peer's name.
    pub source: String,
    /// Whether it is in the FIB.
    pub installed: bool,
    /// Next hops as learned.
    pub via: Vec<String>,
    /// Sub-interfaces that packets to it leave by now; a backup that stands ready is none of them.
    pub interfaces: Vec<String>,
    /// AS path, for routes from BGP.
    pub as_path: Vec<u32>,
    /// The group it leads to.
    pub group: u32,
}

/// A page of routes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Routes {
    /// The routes.
    pub routes: Vec<Route>,
    /// The cursor for the next page, if there is one.
    pub next: Option<String>,
    /// Routes in all tables together.
    pub total: usize,
}

/// What the live table of `make run` shows.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Summary {
    /// Ports.
    pub ports: Vec<Port>,
    /// Sub-interfaces.
    pub interfaces: Vec<Interface>,
    /// Workers and pool.
    pub workers: Workers,
    /// Drops and punts.
    pub drops: DropReport,
    /// Paths by source; with add-path a prefix may have several.
    pub paths: BTreeMap<String, usize>,
    /// Routes in all FIBs together.
    pub routes: usize,
    /// BGP sessions that are established.
    pub bgp_established: usize,
}
