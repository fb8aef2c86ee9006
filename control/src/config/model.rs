//! The configuration as the rest of the program sees it: checked, complete, in indices instead of names.

mod bgp;

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use dataplane::ids::{PortId, SubIfId, VrfId};
use dataplane::policy::Policy;
use dataplane::punt::Budgets;
use dpdk_sys::Offloads;
use ipnetwork::IpNetwork;

pub use bgp::{
    AnnounceLimits, Announcement, Bgp, BgpMode, BgpPeer, CommunityMatch, Filter, MaxPrefix, MaxPrefixAction,
    Password, PrefixMatch, Rule,
};

/// A whole configuration. Every index in it is valid.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    /// NICs and virtual devices; the index is the `PortId`.
    pub ports: Vec<Port>,
    /// Routing tables; the index is the `VrfId`. Number 0 is always `default`.
    pub vrfs: Vec<Vrf>,
    /// Every (port, outer, inner) that carries traffic, from `[[circuit]]` and `[[interface]]` alike; the index
    /// is the `SubIfId`.
    pub sub_interfaces: Vec<SubInterface>,
    /// The circuits, for what concerns them as a whole.
    pub circuits: Vec<Circuit>,
    /// `[[acl]]`: the access lists.
    pub acls: Vec<AccessList>,
    /// `[[route]]`.
    pub routes: Vec<StaticRoute>,
    /// `[[leak]]`.
    pub leaks: Vec<Leak>,
    /// `[[neighbour]]`.
    pub neighbours: Vec<StaticNeighbour>,
    /// `[workers]`.
    pub workers: Workers,
    /// `[routes]`.
    pub sources: Sources,
    /// `[bgp]`, if there is one.
    pub bgp: Option<Bgp>,
    /// `[fpm]`, if there is one.
    pub fpm: Option<Fpm>,
    /// `[netlink]`, if there is one.
    pub netlink: Option<Netlink>,
    /// `[kernel]`.
    pub kernel: Kernel,
    /// `[icmp]`.
    pub icmp: Icmp,
    /// `[punt]`: what each worker may send to the control thread, by reason.
    pub punt: Budgets,
    /// `[api]`.
    pub api: Api,
    /// `[memory]`.
    pub memory: Memory,
}

impl Config {
    /// Our addresses in a VRF, with their prefix lengths.
    pub fn addresses_in(&self, vrf: VrfId) -> impl Iterator<Item = &IpNetwork> {
        self.sub_interfaces
            .iter()
            .filter(move |sub_if| sub_if.vrf == vrf)
            .flat_map(|sub_if| &sub_if.addresses)
    }
}

/// `[[port]]`: one NIC or DPDK virtual device.
#[derive(Clone, Debug, PartialEq)]
pub struct Port {
    /// Its name in this configuration and in all output.
    pub name: String,
    /// A PCI address (`0000:3b:00.0`) or a DPDK vdev string (`net_tap0,iface=lan0`).
    pub device: String,
    /// RX queues; `None`: one for each worker.
    pub queues: Option<u16>,
    /// Largest IP packet of its sub-interfaces, in bytes; frames may be longer by the L2 header and two tags.
    pub mtu: u16,
    /// RX and TX descriptors a queue.
    pub descriptors: u16,
    /// What its NIC is to do of the work, once it was seen to do it right.
    pub offloads: Offloads,
}

/// `[[vrf]]`, or one that an interface or peering names.
#[derive(Clone, Debug, PartialEq)]
pub struct Vrf {
    /// Its name.
    pub name: String,
    /// The network namespace of its TAPs, by name under `/run/netns`; `None`: the one turnpike started in.
    pub namespace: Option<String>,
}

/// One 802.1Q tag.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Tag {
    /// Ethertype that announces it, e.g. 0x8100 or 0x88a8.
    pub tpid: u16,
    /// VLAN id, 1 to 4094.
    pub vid: u16,
}

/// What stands between the MAC addresses and the IP header.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Encapsulation {
    /// No tag (priority tags with VID 0 are accepted).
    Untagged,
    /// One tag.
    Dot1q(Tag),
    /// Two tags: S-tag, then C-tag.
    QinQ {
        /// The circuit's S-tag.
        outer: Tag,
        /// The peering's C-tag, unique within its S-tag only.
        inner: Tag,
    },
}

/// One (port, outer, inner) with its addresses.
#[derive(Clone, Debug, PartialEq)]
pub struct SubInterface {
    /// Its name, e.g. `er1-private-primary` or `lan`.
    pub name: String,
    /// The name of its TAP, at most 15 bytes, unique.
    pub tap: String,
    /// The port under it.
    pub port: PortId,
    /// Its tags.
    pub encapsulation: Encapsulation,
    /// The VRF that packets received here are routed in.
    pub vrf: VrfId,
    /// Our addresses with their prefix lengths (host address and length, not masked).
    pub addresses: Vec<IpNetwork>,
    /// Largest IP packet, in bytes.
    pub mtu: u16,
    /// PCP to set on what is sent here; `None`: carried over from the received tag, else 0.
    pub pcp: Option<u8>,
    /// What it does with packets besides forwarding them.
    pub policy: Policy,
    /// The access list for what comes in, an index into `Config::acls`.
    pub acl_in: Option<usize>,
    /// The access list for what goes out.
    pub acl_out: Option<usize>,
    /// The circuit link it is, if any.
    pub link: Option<CircuitLink>,
}

/// `[[acl]]`: an access list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AccessList {
    /// Its name.
    pub name: String,
    /// Its rules; the first that matches decides, and what none matches is denied.
    pub rules: Vec<AccessRule>,
}

/// A rule, as it is written and as it is meant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AccessRule {
    /// The text, with single spaces.
    pub text: String,
    /// What it says.
    pub rule: dataplane::acl::Rule,
}

/// Which link of which circuit a sub-interface is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CircuitLink {
    /// Index into `Config::circuits`.
    pub circuit: usize,
    /// Private or Microsoft.
    pub peering: PeeringKind,
    /// Primary or secondary.
    pub role: LinkRole,
    /// The far side's AS.
    pub peer_asn: u32,
}

/// The kinds of peering a circuit has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum PeeringKind {
    /// Azure private peering: virtual networks.
    Private,
    /// Microsoft peering: public services.
    Microsoft,
}

/// The two links of a peering; both are active.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum LinkRole {
    /// The first link.
    Primary,
    /// The second link.
    Secondary,
}

/// `[[circuit]]`, for what concerns it as a whole.
#[derive(Clone, Debug, PartialEq)]
pub struct Circuit {
    /// Its name.
    pub name: String,
    /// The bandwidth that was bought, in Mbit/s.
    pub bandwidth_mbps: u32,
    /// How its data is billed.
    pub billing: Billing,
    /// Whether it has the premium add-on: private peering then takes 10,000 IPv4 prefixes, not 4,000.
    pub premium: bool,
}

/// How a circuit's data is billed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Billing {
    /// By the byte, from the cloud to us.
    Metered,
    /// Flat.
    Unlimited,
}

/// Where a static route leads.
#[derive(Clone, Debug, PartialEq)]
pub enum Target {
    /// Over these gateways, shared equally.
    Via(Vec<IpAddr>),
    /// Silently dropped, counted.
    Discard,
}

/// `[[route]]`.
#[derive(Clone, Debug, PartialEq)]
pub struct StaticRoute {
    /// Its table.
    pub vrf: VrfId,
    /// Destination, host bits zero.
    pub prefix: IpNetwork,
    /// Where it leads.
    pub target: Target,
}

/// `[[leak]]`: routes of one VRF that are another's as well.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Leak {
    /// Whose they are.
    pub from: VrfId,
    /// Where they are used as well.
    pub to: VrfId,
    /// Which: those within these prefixes.
    pub prefixes: Vec<IpNetwork>,
    /// Whether they are these prefixes only, and not what is within them.
    pub exact: bool,
}

/// `[[neighbour]]`: an address whose MAC is given, not asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StaticNeighbour {
    /// The sub-interface it is on.
    pub interface: SubIfId,
    /// Its IP address, within one of the sub-interface's prefixes or link-local.
    pub address: IpAddr,
    /// Its MAC address.
    pub mac: [u8; 6],
}

/// `[api]`: where those are answered who ask.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Api {
    /// The unix socket.
    pub socket: PathBuf,
    /// Where the metrics are to be had over HTTP, if anywhere.
    pub metrics: Option<SocketAddr>,
}

/// `[workers]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Workers {
    /// One worker for each core listed; empty: one worker on the last core.
    pub cores: Vec<usize>,
    /// What a worker does when there is nothing to receive.
    pub idle: Idle,
    /// Whether a worker hands flows of a port with fewer RX queues than workers to the others.
    pub hand_over: bool,
}

/// What a worker does when there is nothing to receive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Idle {
    /// Polls again at once: the lowest latency, a core at 100%.
    Poll,
    /// Backs off in microsecond sleeps.
    Sleep,
}

/// `[routes]`: which sources may install routes, with their administrative distances (lower wins).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sources {
    /// Distance of `[[route]]`.
    pub static_distance: u8,
    /// Distance of routes from `[bgp]`.
    pub bgp_distance: u8,
    /// Distance of routes from `[fpm]`.
    pub fpm_distance: u8,
    /// Distance of routes from `[netlink]`.
    pub netlink_distance: u8,
    /// How many equal paths of a prefix are used together, 1 to 64.
    pub max_paths: u8,
}

impl Default for Sources {
    fn default() -> Self {
        Self {
            static_distance: 1,
            bgp_distance: 200,
            fpm_distance: 150,
            netlink_distance: 160,
            max_paths: 64,
        }
    }
}

/// `[fpm]`: where FRR's zebra connects to with its routes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fpm {
    /// Where to listen, in the namespace of each table.
    pub listen: SocketAddr,
    /// How long nothing must come after a connection until what was not told again goes.
    pub quiet: Duration,
    /// How long a lost connection's routes stay, counted from the loss.
    pub retain: Duration,
    /// Which tables are taken.
    pub tables: Vec<FpmTable>,
}

/// `[[fpm.table]]`: one table of one zebra.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FpmTable {
    /// Where its routes go.
    pub vrf: VrfId,
    /// Its number; 254 is the main table.
    pub table: u32,
    /// The namespace that zebra connects in, by name; `None`: the one turnpike started in.
    pub namespace: Option<String>,
}

/// `[netlink]`: the kernel's tables that are followed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Netlink {
    /// Bytes of notifications that may wait.
    pub receive_buffer: usize,
    /// Which tables are followed.
    pub tables: Vec<NetlinkTable>,
}

/// `[[netlink.table]]`: one of the kernel's tables.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NetlinkTable {
    /// Where its routes go.
    pub vrf: VrfId,
    /// Its number; 254 is the main table.
    pub table: u32,
    /// The namespace that it is in, by name; `None`: the one turnpike started in.
    pub namespace: Option<String>,
    /// Whose routes are taken, by `RTPROT_…`; `None`: everybody's, but for what the kernel made by itself.
    pub protocols: Option<Vec<u8>>,
}

/// `[kernel]`: the TAPs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Kernel {
    /// Whether each sub-interface has a TAP. Without one there is no ARP, ND, ping or BGP over it: give
    /// `[[neighbour]]`s.
    pub taps: bool,
}

/// `[icmp]`: what errors we send, and how many of each kind a second; 0: no limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Icmp {
    /// About what came in on one sub-interface.
    pub per_interface: u32,
    /// About what came in on one sub-interface, to one IPv4 address or IPv6 /64.
    pub per_destination: u32,
    /// Whether senders are told of what a guard or an access list refuses.
    pub prohibited: bool,
}

/// `[memory]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Memory {
    /// Huge pages: required, or used when there are any, or not at all.
    pub huge_pages: HugePages,
    /// Packet buffers in the pool; `None`: from ports, queues and descriptors.
    pub buffers: Option<u32>,
    /// Further EAL arguments, as given.
    pub eal_args: Vec<String>,
}

/// How huge pages are used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HugePages {
    /// Use them when there are any, with a warning when not.
    Auto,
    /// Refuse to start without.
    Require,
    /// Ordinary pages (`--no-huge`); physical NICs need an IOMMU then.
    Never,
}
