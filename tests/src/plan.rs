//! Who has which address in the circuit scenario. Both peerings use the same prefixes on purpose, on the LAN and in
//! the cloud: whatever leaks from one VRF to the other finds a host that would take it.

use std::net::{IpAddr, SocketAddr};

/// AS of the customer, and of turnpike's own session with the customer's router.
pub const CUSTOMER_AS: u32 = 65_010;
/// AS of the circuit's far side.
pub const MICROSOFT_AS: u32 = 12_076;
/// S-tag of the circuit.
pub const S_TAG: u16 = 100;
/// Port on which turnpike listens for the customer's router, in the namespace of each VRF.
pub const RELAY_PORT: u16 = 1790;

/// The addresses of one relay session, both on the loopback of the VRF's namespace.
#[derive(Clone, Copy, Debug)]
pub struct Relay {
    /// The customer's router's.
    pub customer: &'static str,
    /// turnpike's.
    pub turnpike: &'static str,
    /// What it carries.
    pub families: &'static [&'static str],
}

/// What BIRD needs: one session over 127.0.0.1 with both families.
pub const ONE_RELAY: &[Relay] =
    &[Relay { customer: "127.0.0.1", turnpike: "127.0.0.1", families: &["ipv4", "ipv6"] }];

/// What FRR needs. It does not count 127.0.0.0/8 and `::1` as addresses of an interface, so a session to them waits
/// for ever for its next hop; it refuses an address of its own as a neighbour's; and (8.4) it names an IPv4-mapped
/// next hop for IPv6 routes on a session over IPv4. So: one session for each family, between two addresses of a prefix
/// on loopback, of which only FRR's is configured as an address.
pub const TWO_RELAYS: &[Relay] = &[
    Relay { customer: "10.255.255.1", turnpike: "10.255.255.2", families: &["ipv4"] },
    Relay { customer: "fd00:255::1", turnpike: "fd00:255::2", families: &["ipv6"] },
];

/// One family's addresses of a link, with their length.
#[derive(Clone, Copy, Debug)]
pub struct Ends {
    /// The prefix, as the configuration names it.
    pub prefix: &'static str,
    /// Our end.
    pub ours: &'static str,
    /// The edge's end.
    pub edge: &'static str,
    /// Prefix length.
    pub length: u8,
}

/// One link of a peering.
#[derive(Clone, Copy, Debug)]
pub struct LinkPlan {
    /// `primary` or `secondary`: also the name of turnpike's port.
    pub role: &'static str,
    /// IPv4.
    pub v4: Ends,
    /// IPv6.
    pub v6: Ends,
}

/// One peering with all that is behind it.
#[derive(Clone, Copy, Debug)]
pub struct PeeringPlan {
    /// `private` or `microsoft`: also the name of its VRF.
    pub kind: &'static str,
    /// Short for it in names of namespaces.
    pub letter: &'static str,
    /// C-tag.
    pub c_tag: u16,
    /// VLAN of its LAN.
    pub lan_vlan: u16,
    /// First bytes of all its test datagrams.
    pub marker: [u8; 8],
    /// Primary, then secondary.
    pub links: [LinkPlan; 2],
}

const fn v4(prefix: &'static str, ours: &'static str, edge: &'static str) -> Ends {
    Ends { prefix, ours, edge, length: 30 }
}

const fn v6(prefix: &'static str, ours: &'static str, edge: &'static str) -> Ends {
    Ends { prefix, ours, edge, length: 126 }
}

/// Private peering.
pub const PRIVATE: PeeringPlan = PeeringPlan {
    kind: "private",
    letter: "p",
    c_tag: 10,
    lan_vlan: 30,
    marker: *b"private!",
    links: [
        LinkPlan {
            role: "primary",
            v4: v4("172.16.0.0/30", "172.16.0.1", "172.16.0.2"),
            v6: v6("fd00:16::/126", "fd00:16::1", "fd00:16::2"),
        },
        LinkPlan {
            role: "secondary",
            v4: v4("172.16.0.4/30", "172.16.0.5", "172.16.0.6"),
            v6: v6("fd00:16::4/126", "fd00:16::5", "fd00:16::6"),
        },
    ],
};

/// Microsoft peering.
pub const MICROSOFT: PeeringPlan = PeeringPlan {
    kind: "microsoft",
    letter: "m",
    c_tag: 20,
    lan_vlan: 40,
    marker: *b"microsft",
    links: [
        LinkPlan {
            role: "primary",
            v4: v4("203.0.113.0/30", "203.0.113.1", "203.0.113.2"),
            v6: v6("2001:db8:ff::/126", "2001:db8:ff::1", "2001:db8:ff::2"),
        },
        LinkPlan {
            role: "secondary",
            v4: v4("203.0.113.4/30", "203.0.113.5", "203.0.113.6"),
            v6: v6("2001:db8:ff::4/126", "2001:db8:ff::5", "2001:db8:ff::6"),
        },
    ],
};

/// Both, in the order in which [`crate::circuit::Circuit`] holds them.
pub const PEERINGS: [PeeringPlan; 2] = [PRIVATE, MICROSOFT];

/// A host with its prefix and the router before it, in one family.
#[derive(Clone, Copy, Debug)]
pub struct Site {
    /// Its prefix.
    pub prefix: &'static str,
    /// Prefix length.
    pub length: u8,
    /// The host.
    pub host: &'static str,
    /// Its router.
    pub router: &'static str,
}

/// The LAN, IPv4 then IPv6.
pub const LAN: [Site; 2] = [
    Site { prefix: "192.0.2.0/24", length: 24, host: "192.0.2.10", router: "192.0.2.1" },
    Site { prefix: "2001:db8:1a0::/64", length: 64, host: "2001:db8:1a0::10", router: "2001:db8:1a0::1" },
];

/// What both edges announce from the start, IPv4 then IPv6. The host has the addresses on its loopback, so it has
/// no router here.
pub const CLOUD: [Site; 2] = [
    Site { prefix: "198.51.100.0/24", length: 24, host: "198.51.100.10", router: "" },
    Site { prefix: "2001:db8:c10d::/48", length: 48, host: "2001:db8:c10d::10", router: "" },
];

/// What is there behind the edges, but announced only by tests, IPv4 then IPv6.
pub const LATER: [Site; 2] = [
    Site { prefix: "10.60.9.0/24", length: 24, host: "10.60.9.1", router: "" },
    Site { prefix: "2001:db8:6009::/48", length: 48, host: "2001:db8:6009::1", router: "" },
];

impl Site {
    /// The host's address.
    pub fn address(&self) -> IpAddr {
        self.host.parse().expect("the plan's addresses are right")
    }

    /// The host's address with a port.
    pub fn socket(&self, port: u16) -> SocketAddr {
        SocketAddr::new(self.address(), port)
    }

    /// The router's address.
    pub fn router_address(&self) -> IpAddr {
        self.router.parse().expect("asked of sites with a router only")
    }
}

/// The wire netdevs' names: LAN, primary, secondary.
pub const NETDEVS: [&str; 3] = ["tpl0", "tpp0", "tps0"];

/// The cloud host's and edge `number`'s (0 or 1) addresses on their veth, IPv4 then IPv6, without lengths.
pub fn cloud_veth(number: usize) -> [(String, String); 2] {
    [
        (format!("10.255.{number}.1"), format!("10.255.{number}.2")),
        (format!("fd00:ff:{number}::1"), format!("fd00:ff:{number}::2")),
    ]
}
