//! A small set-up for what a router must not let through, or must change: a Microsoft and a private peering with their
//! LANs, and three more VRFs that see each other only by leaks. Frames are made by hand on two wires, neighbours are
//! given, and a real BGP speaker announces what is in the cloud, and a default route.

pub mod peerings;
pub mod vrfs;

use std::net::IpAddr;

use crate::bench::send;
use crate::bird::Bird;
use crate::counters::{Counters, Port};
use crate::frame::{self, Mac, Tag};
use crate::lab::{Lab, Netns};
use crate::plan::{CUSTOMER_AS, RELAY_PORT};
use crate::router::Router;
use crate::settings;
use crate::suite::{Fixture, SOON, Step};
use crate::wait;
use crate::wire::{Seen, Way, Wire};

/// The ports by name: the LANs, and the circuit with what is behind it.
const PORTS: [&str; 2] = ["lan", "wan"];
const MACS: [Mac; 2] = [[2, 0, 0x5e, 0, 2, 0xa], [2, 0, 0x5e, 0, 2, 0xb]];

/// A sub-interface, as the frames on its wire are made.
#[derive(Clone, Copy, Debug)]
pub struct Side {
    /// Number of its port.
    port: usize,
    tags: &'static [Tag],
}

const fn q(vid: u16) -> Tag {
    Tag::new(0x8100, vid)
}

/// The LAN of private peering: 192.0.2.0/24 and `2001:db8:30::/64`, with strict reverse path checks.
const PRIVATE_LAN: Side = Side { port: 0, tags: &[q(30)] };
/// The LAN of Microsoft peering: 198.18.40.0/24 and `2001:db8:40::/64`, and the private 10.40.0.0/24 and
/// `fd40::/64`.
const MICROSOFT_LAN: Side = Side { port: 0, tags: &[q(40)] };
/// The only link of each peering.
const PRIVATE: Side = Side { port: 1, tags: &[q(100), q(10)] };
const MICROSOFT: Side = Side { port: 1, tags: &[q(100), q(20)] };
/// What the speaker announces of both: what is in the cloud.
const CLOUD: [&str; 2] = ["198.51.100.9", "2001:db8:c10d::9"];

/// Steps with the peerings, where no VRF leaks.
pub const STEPS: &[Step<Guards>] = &[
    ("private_sources_do_not_leave_to_microsoft", peerings::private_sources),
    ("a_default_route_from_microsoft_is_refused", peerings::default_route),
    ("dscp_and_priority", peerings::dscp_and_priority),
    ("reverse_paths", peerings::reverse_paths),
    ("segment_sizes", peerings::segment_sizes),
    ("loose_reverse_paths", vrfs::loose_reverse_paths),
    ("no_vrf_reaches_another", vrfs::isolated),
];

/// Steps with leaks from `red` to `blue` and back.
pub const LEAK_STEPS: &[Step<Guards>] = &[
    ("leaked_vrfs_reach_each_other_and_no_others", vrfs::leaked),
    ("discard_routes_leak_too", vrfs::discard),
];

/// The set-up. Its parts go in the order in which they stand here.
#[derive(Debug)]
pub struct Guards {
    wires: Vec<Wire>,
    speaker: Option<Bird>,
    router: Option<Router>,
    outside: Netns,
    lab: Lab,
    leaks: bool,
}

impl Guards {
    /// The namespace only. `leaks`: whether `red` and `blue` are to see each other.
    #[track_caller]
    pub fn new(leaks: bool) -> Self {
        let lab = Lab::new();
        let outside = lab.netns("R");
        outside.sysctl("ipv6/conf/default/disable_ipv6", "1");
        Self { wires: Vec::new(), speaker: None, router: None, outside, lab, leaks }
    }

    /// Starts turnpike and the speaker.
    #[track_caller]
    pub fn start(&mut self) {
        let socket = self.lab.path("turnpike.sock");
        let text = config(self.leaks) + &settings::common(&socket);
        self.router = Some(Router::start(&self.lab, &self.outside, &text, &socket));
        self.wires = ["tpl0", "tpw0"].iter().map(|netdev| Wire::attach(&self.outside, netdev, &[])).collect();
        let family = |v6: bool| {
            let (family, next_hop) = if v6 { ("ipv6", "2001:db8:ff::2") } else { ("ipv4", "203.0.113.2") };
            format!(
                "  {family} {{ import none; export filter {{ bgp_next_hop = {next_hop}; accept; }}; }};\n"
            )
        };
        let speaker = format!(
            "router id 10.0.0.3;
protocol device {{ }}
protocol static {{ ipv4; route 198.51.100.0/24 blackhole; route 0.0.0.0/0 blackhole; }}
protocol static {{ ipv6; route 2001:db8:c10d::/48 blackhole; route ::/0 blackhole; }}
protocol bgp relay {{
  local 127.0.0.1 as {CUSTOMER_AS};
  neighbor 127.0.0.1 port {RELAY_PORT} as {CUSTOMER_AS};
  connect retry time 1; connect delay time 1; error wait time 1, 2;
{}{}}}
",
            family(false),
            family(true)
        );
        let speaker = Bird::start(&self.lab, &self.outside, "speaker", &speaker);
        wait::until_true(SOON, "the speaker's session", || speaker.established("relay"));
        self.speaker = Some(speaker);
        wait::until_true(SOON, "the speaker's routes", || {
            let routes = self.router().show("routes");
            let has = |prefix| {
                let mut all = routes.as_array().into_iter().flatten();
                all.any(|r| r["vrf"] == "microsoft" && r["prefix"] == prefix && r["installed"] == true)
            };
            let known = |prefix| routes.as_array().into_iter().flatten().any(|r| r["prefix"] == prefix);
            has("198.51.100.0/24") && has("2001:db8:c10d::/48") && known("0.0.0.0/0") && known("::/0")
        });
        Counters::settled(self.router());
    }

    #[track_caller]
    fn router(&self) -> &Router {
        self.router.as_ref().expect("turnpike has been started")
    }

    /// Sends packets on a side; what its port counted, and what turnpike sent on the other's wire, once `count` came.
    #[track_caller]
    fn pass(&self, from: Side, to: Side, packets: &[Vec<u8>], count: usize) -> (Port, Vec<Seen>) {
        let record = self.wires[to.port].record();
        let frames: Vec<_> = packets.iter().map(|packet| from.frame(packet)).collect();
        let counted = send(self.router(), &self.wires[from.port], PORTS[from.port], &frames);
        let wanted = |frame: &[u8]| to.is_from(frame);
        wait::within(SOON, &mut || (record.count(Way::FromRouter, wanted) >= count).then_some(()));
        (counted, record.frames(Way::FromRouter, wanted))
    }

    /// Sends packets of which each must be dropped for this reason.
    #[track_caller]
    fn assert_dropped(&self, from: Side, reason: &str, packets: &[Vec<u8>]) {
        let frames: Vec<_> = packets.iter().map(|packet| from.frame(packet)).collect();
        let counted = send(self.router(), &self.wires[from.port], PORTS[from.port], &frames);
        let want = [(reason.to_owned(), frames.len() as u64)].into();
        assert_eq!((&counted.drops, counted.forwarded), (&want, 0), "{reason}: {counted:?}");
    }
}

impl Side {
    /// A packet in a frame as it arrives on it.
    fn frame(self, packet: &[u8]) -> Vec<u8> {
        let ethertype = if packet[0] >> 4 == 6 { frame::IPV6 } else { frame::IPV4 };
        frame::build(MACS[self.port], [2, 0, 0, 0, 0, 9], self.tags, ethertype, packet)
    }

    /// Whether turnpike sent a frame on it.
    fn is_from(self, frame: &[u8]) -> bool {
        frame::ethernet(frame).is_some_and(|ethernet| {
            ethernet.tags.len() == self.tags.len()
                && ethernet.tags.iter().zip(self.tags).all(|(a, b)| a.same_vlan(*b))
        })
    }
}

impl Fixture for Guards {
    fn diagnose(&mut self) -> String {
        let Some(router) = &mut self.router else { return String::new() };
        let mut text = String::new();
        for what in ["drops", "routes", "sources"] {
            let shown = router.try_show(what).map_or_else(|| "no answer".to_owned(), |v| v.to_string());
            text += &format!("-- turnpike show {what}: {shown}\n");
        }
        text + &format!("-- turnpike:\n{}\n", router.daemon().log_tail(30))
    }
}

/// A UDP packet between two addresses.
fn udp(from: &str, to: &str) -> Vec<u8> {
    let address = |text: &str| -> IpAddr { text.parse().expect("an address") };
    frame::udp((address(from), 4000), (address(to), 5000), 64, b"guarded")
}

fn config(leaks: bool) -> String {
    let mut text = String::new();
    for (n, (port, netdev)) in PORTS.iter().zip(["tpl0", "tpw0"]).enumerate() {
        let mac = MACS[n].map(|b| format!("{b:02x}")).join(":");
        let device = format!("net_tap{n},iface={netdev},mac={mac}");
        text += &format!("[[port]]\nname = \"{port}\"\ndevice = \"{device}\"\n");
    }
    text += &format!(
        r#"
[[circuit]]
name = "er"
bandwidth = "1G"
encapsulation = "qinq"
s_tag = 100
billing = "metered"
[[circuit.peering]]
kind = "private"
c_tag = 10
mtu = 1400
mss_v4 = 1300
mss_v6 = "auto"
primary = {{ port = "wan", v4 = "172.16.0.0/30", v6 = "fd00:16::/126" }}
[[circuit.peering]]
kind = "microsoft"
c_tag = 20
mss_v4 = "auto"
mss_v6 = 1280
pcp_from_dscp = {{ 46 = 5, 34 = 4, 0 = 1 }}
primary = {{ port = "wan", v4 = "203.0.113.0/30", v6 = "2001:db8:ff::/126" }}
[[interface]]
name = "lan-private"
port = "lan"
vlan = 30
vrf = "private"
reverse_path = "strict"
addresses = ["192.0.2.1/24", "2001:db8:30::1/64"]
[[interface]]
name = "lan-microsoft"
port = "lan"
vlan = 40
vrf = "microsoft"
addresses = ["198.18.40.1/24", "2001:db8:40::1/64", "10.40.0.1/24", "fd40::1/64"]
[[route]]
vrf = "private"
prefix = "198.51.100.0/24"
via = "172.16.0.2"
[[route]]
vrf = "private"
prefix = "2001:db8:c10d::/48"
via = "fd00:16::2"
[kernel]
taps = false
[bgp]
listen = "127.0.0.1:{RELAY_PORT}"
asn = {CUSTOMER_AS}
router_id = "10.0.0.2"
[[bgp.peer]]
name = "speaker"
address = "127.0.0.1"
asn = {CUSTOMER_AS}
vrf = "microsoft"
"#
    );
    for (interface, addresses) in [
        ("er-private-primary", &["172.16.0.2", "fd00:16::2"][..]),
        ("er-microsoft-primary", &["203.0.113.2", "2001:db8:ff::2"]),
        ("lan-private", &["192.0.2.9", "2001:db8:30::9"]),
        ("lan-microsoft", &["198.18.40.9", "2001:db8:40::9", "10.40.0.9", "fd40::9"]),
    ] {
        text += &neighbours(interface, addresses);
    }
    text + &vrfs::config(leaks)
}

fn neighbours(interface: &str, addresses: &[&str]) -> String {
    let one = |address: &&str| {
        format!(
            "[[neighbour]]\ninterface = \"{interface}\"\naddress = \"{address}\"\nmac = \"02:00:00:00:00:09\"\n"
        )
    };
    addresses.iter().map(one).collect()
}
