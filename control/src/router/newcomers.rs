//! How many new neighbours a link may bring to the kernel's table. It holds 1024 of each family by default, of all
//! namespaces together, and each ARP request or packet to us from a new address on a link takes a place: a flood of
//! such would leave no room for those who are there for good. Neighbours that are known are not held up.

use std::net::IpAddr;
use std::time::Instant;

use dataplane::header::{ipv4, ipv6};
use dataplane::ids::SubIfId;
use dataplane::verdict::PuntReason;

use super::icmp::Bucket;
use super::links::Links;
use super::neighbours::Stranger;

/// Packets of new senders a second, and at once, of one kind.
#[derive(Clone, Copy)]
struct Limit {
    /// On one sub-interface.
    each: u32,
    /// On all of them.
    all: u32,
}

/// Who the kernel would take for a neighbour, were it given their packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Newcomer {
    /// Senders of ARP and neighbour discovery, who give their MAC address with it; and of BGP and BFD, which must not
    /// wait behind packets that are passed on, and whose answers are no ICMP.
    Asking,
    /// Senders to groups. Few of these are answered, but an answer waits in the kernel until its receiver is found.
    Calling,
}

impl Newcomer {
    /// Of what is punted for `reason`; `None` for what the kernel answers, which is held until its sender is resolved.
    pub const fn of(reason: PuntReason) -> Option<Self> {
        match reason {
            PuntReason::Arp | PuntReason::NeighbourDiscovery | PuntReason::Bgp | PuntReason::Bfd => {
                Some(Self::Asking)
            }
            PuntReason::Multicast | PuntReason::LinkControl => Some(Self::Calling),
            _ => None,
        }
    }

    const fn limit(self) -> Limit {
        match self {
            // What the kernel forgets again while a flood lasts is some ten times this.
            Self::Asking => Limit { each: 50, all: 80 },
            // An answer waits up to three seconds, and some hundred may wait in all.
            Self::Calling => Limit { each: 10, all: 15 },
        }
    }
}

/// The limits, by kind, and who is on which link.
pub struct Newcomers {
    links: Links,
    asking: Buckets,
    calling: Buckets,
}

struct Buckets {
    all: Bucket,
    each: Vec<Bucket>,
}

impl Newcomers {
    /// The limits for these links.
    pub fn new(links: Links, now: Instant) -> Self {
        let buckets = |kind: Newcomer| {
            let Limit { each, all } = kind.limit();
            Buckets { all: Bucket::full(all, now), each: vec![Bucket::full(each, now); links.count()] }
        };
        Self { asking: buckets(Newcomer::Asking), calling: buckets(Newcomer::Calling), links }
    }

    /// Whether one more of `kind` is let through on `sub_if`. If so, it counts.
    pub fn allows(&mut self, kind: Newcomer, sub_if: SubIfId, now: Instant) -> bool {
        let Buckets { all, each } = match kind {
            Newcomer::Asking => &mut self.asking,
            Newcomer::Calling => &mut self.calling,
        };
        let Some(each) = each.get_mut(usize::from(sub_if.0)) else { return false };
        let limit = kind.limit();
        let allowed = each.has_token(limit.each, now) && all.has_token(limit.all, now);
        if allowed {
            each.take();
            all.take();
        }
        allowed
    }

    /// Whom the kernel would take for a neighbour, and on which sub-interface, were it given this packet (from its IP or
    /// ARP header on), received on `from`. The source need not be on that link: an answer goes where the address is.
    pub fn sender(&self, packet: &[u8], reason: PuntReason, from: SubIfId) -> Option<(SubIfId, IpAddr)> {
        if reason == PuntReason::Arp {
            return Stranger::of_arp(packet).map(|sender| (from, sender.address.into()));
        }
        let source = match packet.first()? >> 4 {
            4 => IpAddr::V4(ipv4::source(packet).into()),
            6 => IpAddr::V6(ipv6::source(packet).into()),
            _ => return None,
        };
        if matches!(source, IpAddr::V6(v6) if v6.is_unicast_link_local()) {
            return Some((from, source));
        }
        // Whoever is on no link of the VRF is answered by way of a router, who is a neighbour already.
        self.links.find(from, source).map(|sub_if| (sub_if, source))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn a_link_leaves_the_others_their_share() {
        let start = Instant::now();
        let text = r#"
            port = [{ name = "p", device = "net_null0" }]
            interface = [
                { name = "a", port = "p", addresses = ["192.0.2.1/24"] },
                { name = "b", port = "p", vlan = 2, addresses = ["198.51.100.1/24"] },
            ]
        "#;
        let mut newcomers = Newcomers::new(Links::new(&crate::config::parse("test", text).unwrap()), start);
        let mut flood = |kind, sub_if, now| {
            (0..1000).filter(|_| newcomers.allows(kind, SubIfId(sub_if), now)).count() as u32
        };
        let later = start + Duration::from_millis(500);
        for kind in [Newcomer::Asking, Newcomer::Calling] {
            let Limit { each, all } = kind.limit();
            assert_eq!(flood(kind, 0, start), each);
            assert_eq!(flood(kind, 1, start), all - each);
            assert_eq!(flood(kind, 2, start), 0, "there is no such sub-interface");
            assert_eq!(flood(kind, 0, later), each / 2);
        }
    }

    #[test]
    fn senders_on_the_link_become_neighbours() {
        let text = r#"
            port = [{ name = "p", device = "net_null0" }]
            interface = [
                { name = "lan", port = "p", addresses = ["192.0.2.1/24", "192.0.2.129/25", "2001:db8::1/64"] },
                { name = "more", port = "p", vlan = 2, addresses = ["10.0.0.1/30"] },
                { name = "far", port = "p", vlan = 3, vrf = "far", addresses = ["203.0.113.1/24"] },
            ]
        "#;
        let config = crate::config::parse("test", text).unwrap();
        let on = |name| config.sub_interfaces.iter().position(|link| link.name == name).unwrap() as u16;
        let lan = SubIfId(on("lan"));
        let newcomers = Newcomers::new(Links::new(&config), Instant::now());
        let of = |packet: &[u8], reason| newcomers.sender(packet, reason, lan);
        let near = |address: IpAddr| Some((lan, address));
        let v4 = |source: [u8; 4]| [&[0x45; 12][..], &source, &[192, 0, 2, 1]].concat();
        assert_eq!(of(&v4([192, 0, 2, 9]), PuntReason::Local), near([192, 0, 2, 9].into()));
        let elsewhere = |address: [u8; 4]| Some((SubIfId(on("more")), address.into()));
        assert_eq!(of(&v4([10, 0, 0, 2]), PuntReason::Local), elsewhere([10, 0, 0, 2]), "on another link");
        assert_eq!(of(&v4([198, 51, 100, 9]), PuntReason::Local), None, "behind a router");
        assert_eq!(of(&v4([203, 0, 113, 9]), PuntReason::Local), None, "on a link of another VRF");
        let v6 = |source: u128| [&[0x60; 8][..], &source.to_be_bytes(), &[0; 16]].concat();
        let (on_link, far) = (0x2001_0db8_u128 << 96 | 9, 0x2001_0db8_u128 << 96 | 9 << 64);
        assert_eq!(of(&v6(on_link), PuntReason::Bgp), near(IpAddr::V6(on_link.into())));
        assert_eq!(of(&v6(far), PuntReason::Bgp), None);
        let link_local = 0xfe80_u128 << 112 | 9;
        assert_eq!(of(&v6(link_local), PuntReason::NeighbourDiscovery), near(IpAddr::V6(link_local.into())));
        assert_eq!(of(&v6(0), PuntReason::NeighbourDiscovery), None, "duplicate address detection");
        // Linux makes neighbours of ARP senders with any address.
        let arp = [&[0, 1, 8, 0, 6, 4, 0, 1, 2, 0, 0, 0, 0, 9][..], &[198, 51, 100, 9], &[0; 10]].concat();
        assert_eq!(of(&arp, PuntReason::Arp), near([198, 51, 100, 9].into()));
        assert_eq!(of(&[], PuntReason::Local), None);
    }
}
