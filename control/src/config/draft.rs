//! What the sections hold before names become indices: values with their places, `None` where one was wrong.

use dataplane::punt::Budgets;
use dpdk_sys::Offloads;
use ipnetwork::IpNetwork;
use std::net::IpAddr;

use super::errors::{At, Place};
use super::model::{
    AccessRule, Api, Bgp, BgpPeer, Circuit, CircuitLink, Encapsulation, Filter, Fpm, Icmp, Kernel, Memory,
    Netlink, Sources, Target, Workers,
};
use super::policy::PolicyDraft;

/// A whole text, section by section.
pub(super) struct Draft {
    pub ports: Vec<Port>,
    pub vrfs: Vec<Vrf>,
    pub circuits: Vec<NamedCircuit>,
    /// Of circuits, then of `[[interface]]`.
    pub subs: Vec<Sub>,
    pub acls: Vec<NamedList>,
    pub routes: Vec<Route>,
    pub leaks: Vec<Leak>,
    pub neighbours: Vec<Neighbour>,
    pub workers: Workers,
    pub sources: Sources,
    /// Without its peers.
    pub bgp: Option<Bgp>,
    pub bgp_peers: Vec<Peer>,
    pub bgp_filters: Vec<NamedFilter>,
    pub bgp_announce: Vec<Announce>,
    /// Without its tables.
    pub fpm: Option<Fpm>,
    pub fpm_tables: Vec<RouteTable>,
    /// Without its tables.
    pub netlink: Option<Netlink>,
    pub netlink_tables: Vec<RouteTable>,
    pub kernel: Kernel,
    pub api: Api,
    pub icmp: Icmp,
    pub punt: Budgets,
    pub memory: Memory,
}

/// `[[port]]`.
pub(super) struct Port {
    pub name: Option<At<String>>,
    pub device: Option<At<String>>,
    pub queues: Option<u16>,
    pub mtu: Option<At<u16>>,
    pub descriptors: u16,
    pub offloads: Offloads,
}

/// `[[vrf]]`.
pub(super) struct Vrf {
    pub name: Option<At<String>>,
    pub namespace: Option<String>,
}

/// `[[circuit]]`, with the place of its name.
pub(super) struct NamedCircuit {
    pub name: Option<At<String>>,
    pub model: Circuit,
}

/// A sub-interface, from either section.
pub(super) struct Sub {
    pub name: Option<At<String>>,
    /// The TAP's name as given.
    pub tap: Option<At<String>>,
    /// What the TAP's name is made of otherwise: a name that may be long, and an ending that is kept.
    pub tap_stem: (String, String),
    pub port: Option<At<String>>,
    pub encapsulation: Option<At<Encapsulation>>,
    pub vrf: Option<At<String>>,
    pub addresses: Vec<At<IpNetwork>>,
    /// Whether `addresses` are all that were meant: none was wrong.
    pub addresses_whole: bool,
    pub mtu: Option<At<u16>>,
    /// Where the MTU stands, or would stand.
    pub mtu_place: Place,
    pub pcp: Option<u8>,
    pub policy: PolicyDraft,
    /// The names of the access lists for what comes in, and for what goes out.
    pub acls: [Option<At<String>>; 2],
    pub link: Option<CircuitLink>,
}

/// `[[acl]]`, with the place of its rules.
pub(super) struct NamedList {
    pub name: Option<At<String>>,
    pub rules: Vec<Option<AccessRule>>,
    /// Whether `rules` are all that were meant.
    pub whole: bool,
    pub place: Place,
}

/// `[[route]]`.
pub(super) struct Route {
    pub prefix: Option<At<IpNetwork>>,
    pub vrf: Option<At<String>>,
    pub target: Option<At<Target>>,
}

/// `[[leak]]`.
pub(super) struct Leak {
    pub from: Option<At<String>>,
    pub to: Option<At<String>>,
    pub prefixes: Vec<Option<At<IpNetwork>>>,
    pub exact: bool,
}

/// `[[neighbour]]`.
pub(super) struct Neighbour {
    pub interface: Option<At<String>>,
    pub address: Option<At<IpAddr>>,
    pub mac: Option<[u8; 6]>,
}

/// `[[bgp.peer]]`.
pub(super) struct Peer {
    pub name: Option<At<String>>,
    pub address: Option<At<IpAddr>>,
    pub asn: Option<u32>,
    pub vrf: Option<At<String>>,
    pub import: Option<At<String>>,
    /// The rest, under a name, address, AS and VRF that stand for those above.
    pub rest: BgpPeer,
}

/// `[[bgp.filter]]`, with the place of its name.
pub(super) struct NamedFilter {
    pub name: Option<At<String>>,
    pub filter: Filter,
}

/// `[[bgp.announce]]`.
pub(super) struct Announce {
    pub prefixes: Vec<At<IpNetwork>>,
    pub vrf: Option<At<String>>,
    /// Names of peers; none: all of the VRF.
    pub peers: Vec<At<String>>,
    pub next_hop: Option<IpAddr>,
    pub communities: Vec<u32>,
}

/// `[[fpm.table]]` or `[[netlink.table]]`.
pub(super) struct RouteTable {
    pub vrf: Option<At<String>>,
    pub table: Option<At<u32>>,
    pub namespace: Option<String>,
    /// Only of `[[netlink.table]]`.
    pub protocols: Option<Vec<u8>>,
}
