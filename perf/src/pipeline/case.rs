//! The cases: each a network of two ports, routes over it, and the frames that the ports receive. Everything is drawn
//! from a fixed seed, so that a case is the same in every process and every run.

use std::path::Path;

use dataplane::header::ipv4::is_link_local;
use dataplane::ids::{PortId, VrfId};
use dataplane::sub_interface::{SubInterface, Tag, Tags};

use super::capture::{Addresses, frame};
use crate::lpm::Family;
use crate::lpm::random::Random;
use crate::lpm::routes::{Route, routes};

/// One row of the report.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Case {
    /// Untagged IPv4, two routes.
    Untagged,
    /// dot1q to QinQ and QinQ to untagged, 10,000 routes, 64 sub-interfaces.
    Tagged,
    /// The same with 65,536 destinations of the full table.
    TaggedWide,
    /// The same capture with the full table of a million routes.
    TaggedFull,
    /// IPv6 dot1q to QinQ, 10,000 routes.
    Ipv6,
    /// All of these together, sizes by IMIX.
    Mix,
}

impl Case {
    pub const ALL: [Self; 6] =
        [Self::Untagged, Self::Tagged, Self::TaggedWide, Self::TaggedFull, Self::Ipv6, Self::Mix];

    /// Its name in the report.
    pub fn title(self) -> &'static str {
        match self {
            Self::Untagged => "untagged IPv4, 2 routes",
            Self::Tagged => "dot1q to QinQ and QinQ to untagged, 10 k routes",
            Self::TaggedWide => "the same, 65,536 destinations, 10 k routes",
            Self::TaggedFull => "the same, 65,536 destinations, 1 M routes",
            Self::Ipv6 => "IPv6 dot1q to QinQ, 10 k routes",
            Self::Mix => "all of these, IMIX sizes",
        }
    }

    /// Its name on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Self::Untagged => "untagged",
            Self::Tagged => "tagged",
            Self::TaggedWide => "tagged-wide",
            Self::TaggedFull => "tagged-full",
            Self::Ipv6 => "ipv6",
            Self::Mix => "mix",
        }
    }

    /// The case whose capture files it uses.
    pub fn capture(self) -> Self {
        if self == Self::TaggedWide { Self::TaggedFull } else { self }
    }

    /// Frames in each capture file.
    pub fn frames(self) -> usize {
        match self {
            Self::Untagged | Self::Tagged | Self::Ipv6 => 512,
            Self::TaggedWide | Self::TaggedFull | Self::Mix => 65_536,
        }
    }

    /// The network of the case.
    pub fn network(self, source: Routes<'_>) -> Result<Network, String> {
        match self {
            Self::Untagged => Ok(untagged()),
            Self::Tagged | Self::TaggedWide => tagged(self, 10_000, source),
            Self::TaggedFull => tagged(self, 1_000_000, source),
            Self::Ipv6 => ipv6(source),
            Self::Mix => mix(source),
        }
    }

    /// So many frames each of what ports 0 and 1 receive.
    pub fn captures(self, source: Routes<'_>, frames: usize) -> Result<[Vec<Vec<u8>>; 2], String> {
        let case = self.capture();
        let network = case.network(source)?;
        let mut random = Random::new(42);
        Ok([0, 1].map(|port| {
            let shape = Shape::of(case, &network, port);
            (0..frames).map(|_| shape.draw(&mut random)).collect()
        }))
    }
}

/// Where routes come from.
#[derive(Clone, Copy, Debug)]
pub enum Routes<'a> {
    /// The real Internet tables in this folder, or generated ones where they are not there.
    In(&'a Path),
    /// Generated, the same on any machine; full tables a tenth as large.
    Generated,
}

impl Routes<'_> {
    fn take(self, family: Family, count: usize) -> Result<Vec<Route>, String> {
        let (folder, count) = match self {
            Self::In(folder) => (folder, count),
            Self::Generated if count > 10_000 => (Path::new("/nonexistent"), count / 10),
            Self::Generated => (Path::new("/nonexistent"), count),
        };
        Ok(routes(family, count, folder, false)?.0)
    }
}

/// Sub-interfaces, neighbours and routes.
pub struct Network {
    pub sub_interfaces: Vec<SubInterface>,
    /// By group: the sub-interfaces of its members, a power of two of them. Each has one neighbour.
    pub groups: Vec<Vec<u16>>,
    /// Prefix, left-aligned in 128 bits; length; index into `groups`.
    pub v4: Vec<(u128, u8, u32)>,
    /// The same.
    pub v6: Vec<(u128, u8, u32)>,
}

/// The MAC address that DPDK gives its `port`th `net_pcap` device.
pub fn port_mac(port: u16) -> [u8; 6] {
    [0x02, b'p', b'c', b'a', b'p', port as u8]
}

/// The neighbour on every sub-interface.
pub const PEER_MAC: [u8; 6] = [2, 0, 0, 0, 0, 0x99];

fn sub_interface(port: u16, tags: Tags) -> SubInterface {
    SubInterface { port: PortId(port), tags, vrf: VrfId(0), mac: port_mac(port), mtu: 1500, pcp: None }
}

fn dot1q(vid: u16) -> Tags {
    Tags::One(Tag { tpid: 0x8100, vid })
}

fn qinq(inner: u16) -> Tags {
    Tags::Two(Tag { tpid: 0x8100, vid: 100 }, Tag { tpid: 0x8100, vid: inner })
}

/// The port that an address is behind: by a bit that lies within every prefix.
fn side(family: Family, address: u128) -> usize {
    match family {
        Family::V4 => (address >> 120 & 1) as usize,
        Family::V6 => (address >> 100 & 1) as usize,
    }
}

/// Whether a route is at least so long, and not loopback's.
fn forwardable(route: &Route, least: u8) -> bool {
    route.1 >= least && route.0 >> 120 != 127
}

/// Two routes: 10.0.0.0/16 behind port 0, 11.0.0.0/16 behind port 1.
fn untagged() -> Network {
    Network {
        sub_interfaces: vec![sub_interface(0, Tags::Untagged), sub_interface(1, Tags::Untagged)],
        groups: vec![vec![0], vec![1]],
        v4: vec![(0x0a00 << 112, 16, 0), (0x0b00 << 112, 16, 1)],
        v6: vec![],
    }
}

/// Port 0: untagged, and 31 VLANs. Port 1: 32 VLANs in QinQ. What is behind port 0 is reached untagged, what is behind
/// port 1 by any of its sub-interfaces.
fn tagged(case: Case, count: usize, source: Routes<'_>) -> Result<Network, String> {
    let mut sub_interfaces = vec![sub_interface(0, Tags::Untagged)];
    sub_interfaces.extend((1..32).map(|vid| sub_interface(0, dot1q(vid))));
    sub_interfaces.extend((0..32).map(|inner| sub_interface(1, qinq(10 + inner))));
    let groups = (0..33).map(|group| vec![if group == 32 { 0 } else { 32 + group }]).collect();
    let group = |route: &Route| if side(Family::V4, route.0) == 0 { 32 } else { route.2 % 32 };
    // A small table covers what the full one does: by a /8 where it has nothing longer.
    let cover = if case == Case::TaggedWide { (1..224).collect() } else { vec![] };
    let own = source.take(Family::V4, count - cover.len())?;
    let cover = cover.into_iter().map(|octet: u32| (u128::from(octet) << 120, 8, octet));
    let own = own.into_iter().filter(|route| forwardable(route, 9));
    let mut v4: Vec<Route> = own.chain(cover).collect();
    for route in &mut v4 {
        route.2 = group(route);
    }
    Ok(Network { sub_interfaces, groups, v4, v6: vec![] })
}

/// Both ports: 16 VLANs, and 16 in QinQ. Everything leaves in QinQ.
fn ipv6(source: Routes<'_>) -> Result<Network, String> {
    let one = |port| {
        let single = (0..16).map(move |vid| sub_interface(port, dot1q(200 + vid)));
        single.chain((0..16).map(move |inner| sub_interface(port, qinq(10 + inner))))
    };
    let sub_interfaces = (0..2).flat_map(one).collect();
    let groups = (0..32).map(|group| vec![if group < 16 { 16 + group } else { 32 + group }]).collect();
    let group = |route: &Route| side(Family::V6, route.0) as u32 * 16 + route.2 % 16;
    let own = source.take(Family::V6, 10_000)?;
    let mut v6: Vec<Route> = own.into_iter().filter(|route| route.1 >= 28).collect();
    for route in &mut v6 {
        route.2 = group(route);
    }
    Ok(Network { sub_interfaces, groups, v4: vec![], v6 })
}

/// Both ports: untagged, 15 VLANs, and 16 in QinQ; full tables of both families. A quarter of the groups has two
/// members.
fn mix(source: Routes<'_>) -> Result<Network, String> {
    let one = |port| {
        let single = (1..16).map(move |vid| sub_interface(port, dot1q(200 + vid)));
        let double = (0..16).map(move |inner| sub_interface(port, qinq(10 + inner)));
        std::iter::once(sub_interface(port, Tags::Untagged)).chain(single).chain(double)
    };
    let sub_interfaces = (0..2).flat_map(one).collect();
    let members = |group: u16| {
        let other = group & !31 | (group + 7) & 31;
        if group.is_multiple_of(4) { vec![group, other] } else { vec![group] }
    };
    let load = |family, count, least: u8| {
        let own = source.take(family, count)?.into_iter().filter(|route| forwardable(route, least));
        let group = |route: &Route| side(family, route.0) as u32 * 32 + route.2 % 32;
        Ok::<_, String>(own.map(|route| (route.0, route.1, group(&route))).collect())
    };
    Ok(Network {
        sub_interfaces,
        groups: (0..64).map(members).collect(),
        v4: load(Family::V4, 1_000_000, 9)?,
        v6: load(Family::V6, 240_000, 28)?,
    })
}

/// What a port receives.
struct Shape<'a> {
    case: Case,
    port: u16,
    /// Routes to the other port.
    v4: Vec<&'a Route>,
    v6: Vec<&'a Route>,
    /// Sub-interfaces that frames come in on.
    from: Vec<&'a SubInterface>,
}

impl<'a> Shape<'a> {
    fn of(case: Case, network: &'a Network, port: u16) -> Self {
        let other = usize::from(1 - port);
        let from = network.sub_interfaces.iter().filter(|sub_if| sub_if.port.0 == port);
        let from = from.filter(|sub_if| match (case, sub_if.tags) {
            (Case::Tagged | Case::TaggedWide | Case::TaggedFull, Tags::Untagged) => false,
            (Case::Ipv6, tags) => matches!(tags, Tags::One(_)),
            _ => true,
        });
        Self {
            case,
            port,
            v4: network.v4.iter().filter(|route| side(Family::V4, route.0) == other).collect(),
            v6: network.v6.iter().filter(|route| side(Family::V6, route.0) == other).collect(),
            from: from.collect(),
        }
    }

    fn draw(&self, random: &mut Random) -> Vec<u8> {
        let sub_if = self.from[random.below(self.from.len())];
        let size = match (self.case, random.below(48)) {
            (Case::Mix, 28..44) => 566,
            (Case::Mix, 44..) => 1514,
            _ => 60,
        };
        // In the mix, what comes untagged is IPv4, and half of what comes in one tag is IPv6.
        let ipv6 = self.v4.is_empty()
            || (self.case == Case::Mix && matches!(sub_if.tags, Tags::One(_)) && random.below(2) == 0);
        let within = |random: &mut Random, routes: &[&Route]| loop {
            let (prefix, len, _) = *routes[random.below(routes.len())];
            let address = prefix | random.bits128() & u128::MAX.checked_shr(u32::from(len)).unwrap_or(0);
            // 169.254.0.0/16 stays on its link.
            if ipv6 || !is_link_local((address >> 96) as u32) {
                break address;
            }
        };
        let addresses = if ipv6 {
            let source = 0x2001_0db8 << 96 | random.bits128() >> 64;
            Addresses::V6 { source, destination: within(random, &self.v6) }
        } else {
            let source = 0x0a00_0000 | random.bits64() as u32 & 0x00ff_ffff;
            Addresses::V4 { source, destination: (within(random, &self.v4) >> 96) as u32 }
        };
        let ports = random.bits64() as u32;
        frame(port_mac(self.port), PEER_MAC, sub_if.tags, addresses, ports, size)
    }
}
