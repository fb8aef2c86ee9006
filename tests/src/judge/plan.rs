//! What both routers have: the same sub-interfaces, addresses, neighbours and routes.

use std::net::IpAddr;

use crate::frame::{Mac, Tag};

/// MAC addresses of the two ports: those that DPDK's `net_pcap` gives its first two devices.
pub const MACS: [Mac; 2] = [[2, 0x70, 0x63, 0x61, 0x70, 0], [2, 0x70, 0x63, 0x61, 0x70, 1]];
/// Largest IP packet of a port, in bytes.
pub const PORT_MTU: u16 = 9000;
/// Where addresses lead that must not be forwarded to: Linux has routes for them, so that it would.
pub const MARTIANS: [&str; 5] = ["0.0.0.0/9", "240.0.0.0/5", "::/127", "::ffff:0:0/97", "fe80::/10"];
/// The sub-interface that they lead to.
pub const FIRST: Place = Place { port: 0, kind: 0 };
/// What is dropped without a word.
pub const DISCARDED: [&str; 2] = ["203.0.113.0/24", "2001:db8:dead::/48"];

/// One kind of sub-interface; each port has one of each.
#[derive(Clone, Copy, Debug)]
pub struct Kind {
    /// Short for it.
    pub name: &'static str,
    /// The tags of its frames.
    pub tags: &'static [Tag],
    /// Its keys in turnpike's configuration.
    pub keys: &'static str,
    /// Its MTU.
    pub mtu: u16,
    /// Priority of all that it sends; without one the received one is kept.
    pub pcp: Option<u8>,
    /// Whether it has IPv6, which a link of less than 1280 bytes cannot have.
    pub v6: bool,
}

/// All kinds: every combination of tags, and every MTU that matters.
pub const KINDS: [Kind; 6] = [
    Kind { name: "plain", tags: &[], keys: "", mtu: 9000, pcp: None, v6: true },
    Kind { name: "vlan", tags: &[Tag::new(0x8100, 30)], keys: "vlan = 30", mtu: 1500, pcp: None, v6: true },
    Kind {
        name: "qinq",
        tags: &[Tag::new(0x8100, 100), Tag::new(0x8100, 10)],
        keys: "s_tag = 100\nc_tag = 10",
        mtu: 1500,
        pcp: None,
        v6: true,
    },
    Kind {
        name: "qinq-ad",
        tags: &[Tag::new(0x88a8, 200), Tag::new(0x8100, 10)],
        keys: "s_tag = 200\nc_tag = 10\nouter_tpid = 0x88a8",
        mtu: 1280,
        pcp: None,
        v6: true,
    },
    Kind {
        name: "vlan-pcp",
        tags: &[Tag::new(0x8100, 31)],
        keys: "vlan = 31\npcp = 3",
        mtu: 9000,
        pcp: Some(3),
        v6: true,
    },
    Kind { name: "small", tags: &[Tag::new(0x8100, 32)], keys: "vlan = 32", mtu: 576, pcp: None, v6: false },
];

/// A sub-interface: the numbers of its port and kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Place {
    /// Port, 0 or 1.
    pub port: usize,
    /// Index into [`KINDS`].
    pub kind: usize,
}

impl Place {
    /// All of them.
    pub fn all() -> impl Iterator<Item = Self> {
        (0..MACS.len()).flat_map(|port| (0..KINDS.len()).map(move |kind| Self { port, kind }))
    }

    /// Its kind.
    pub fn kind(self) -> &'static Kind {
        &KINDS[self.kind]
    }

    /// Its name in both routers.
    pub fn name(self) -> String {
        format!("{}-{}", ["a", "b"][self.port], self.kind().name)
    }

    /// Address number `host` on it.
    pub fn host(self, v6: bool, host: u8) -> IpAddr {
        if v6 {
            IpAddr::from([0xfd00, self.port as u16 + 1, self.kind as u16, 0, 0, 0, 0, u16::from(host)])
        } else {
            IpAddr::from([10, self.port as u8 + 1, self.kind as u8, host])
        }
    }

    /// The router's address on it.
    pub fn ours(self, v6: bool) -> IpAddr {
        self.host(v6, 1)
    }

    /// The MAC address of the neighbour there, which is host 2.
    pub fn neighbour_mac(self) -> Mac {
        [2, 0, 0, self.port as u8, self.kind as u8, 2]
    }

    /// Addresses on the link that Linux would send packets to, and turnpike must not: Linux gets neighbours for them, so
    /// that it does.
    pub fn silent(self, v6: bool) -> Vec<IpAddr> {
        if v6 { vec![self.link_local()] } else { vec![self.host(false, 0)] }
    }

    /// The link-local address of the neighbour.
    pub fn link_local(self) -> IpAddr {
        IpAddr::from([0xfe80, 0, 0, 0, 0, 0, self.number() as u16, 2])
    }

    fn number(self) -> usize {
        self.port * 16 + self.kind
    }

    /// An address behind the neighbour; `low` chooses it.
    pub fn beyond(self, v6: bool, low: u16) -> IpAddr {
        if v6 {
            IpAddr::from([0x2a00, self.number() as u16, 0, 0, 0, 0, 0, low])
        } else {
            let [high, low] = low.to_be_bytes();
            IpAddr::from([20, self.number() as u8, high, low])
        }
    }

    /// The prefixes behind the neighbour: a large one, and within the next sub-interface's a longer one.
    pub fn prefixes(self, v6: bool) -> Vec<String> {
        let next = Self { kind: (self.kind + 1) % KINDS.len(), ..self };
        if v6 {
            let longer = next.kind().v6.then(|| format!("2a00:{:x}::c000/115", next.number()));
            [Some(format!("2a00:{:x}::/32", self.number())), longer].into_iter().flatten().collect()
        } else {
            let mut all =
                vec![format!("20.{}.0.0/16", self.number()), format!("20.{}.192.0/19", next.number())];
            // Half of the link-local addresses, so that some have a route and some have none.
            if self == FIRST {
                all.push("169.254.128.0/17".to_owned());
            }
            all
        }
    }

    /// The place whose frames have these tags (TPID and VLAN id), on a port.
    pub fn by_tags(port: usize, tags: &[(u16, u16)]) -> Option<Self> {
        let same = |kind: &Kind| {
            kind.tags.len() == tags.len() && kind.tags.iter().zip(tags).all(|(a, b)| (a.tpid, a.vid) == *b)
        };
        KINDS.iter().position(same).map(|kind| Self { port, kind })
    }
}

/// Whether an address is one of the router's.
pub fn is_ours(address: IpAddr) -> bool {
    Place::all().any(|place| place.ours(address.is_ipv6()) == address)
}
