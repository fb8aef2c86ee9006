//! How many new neighbours a link may bring to the kernel's table. It holds 1024 of each family by default, of all
//! namespaces together, and each ARP request or packet to us from a new address on a link takes a place: a flood of
//! such would leave no room for those who are there for good. Neighbours that are known are not held up.

use std::net::IpAddr;
use std::time::Instant;

use dataplane::header::{ipv4, ipv6};
use dataplane::ids::SubIfId;
use dataplane::verdict::PuntReason;

use super::icmp::Bucket;
use super::neighbours::Stranger;
use crate::config::model::Config;

/// New neighbours a second, and at once, on one sub-interface.
const EACH: u32 = 50;
/// And on all of them: what the kernel forgets again while a flood lasts is some ten times this.
const ALL: u32 = 80;

/// The limits.
pub struct Newcomers {
    all: Bucket,
    each: Vec<Bucket>,
}

impl Newcomers {
    /// The limits for so many sub-interfaces.
    pub fn new(sub_interfaces: usize, now: Instant) -> Self {
        Self { all: Bucket::full(ALL, now), each: vec![Bucket::full(EACH, now); sub_interfaces] }
    }

    /// Whether one more is let through on `sub_if`. If so, it counts.
    pub fn allows(&mut self, sub_if: SubIfId, now: Instant) -> bool {
        let Some(each) = self.each.get_mut(usize::from(sub_if.0)) else { return false };
        let allowed = each.has_token(EACH, now) && self.all.has_token(ALL, now);
        if allowed {
            each.take();
            self.all.take();
        }
        allowed
    }
}

/// Whom the kernel would take for a neighbour on `sub_if`, were it given this packet (from its IP or ARP header on).
pub fn sender(packet: &[u8], reason: PuntReason, sub_if: SubIfId, config: &Config) -> Option<IpAddr> {
    if reason == PuntReason::Arp {
        return Stranger::of_arp(packet).map(|sender| sender.address.into());
    }
    let source = match packet.first()? >> 4 {
        4 => IpAddr::V4(ipv4::source(packet).into()),
        6 => IpAddr::V6(ipv6::source(packet).into()),
        _ => return None,
    };
    // Whoever is not on the link is answered by way of a router, who is a neighbour already.
    let on_link = match source {
        IpAddr::V6(v6) if v6.is_unicast_link_local() => true,
        _ => {
            let addresses = &config.sub_interfaces.get(usize::from(sub_if.0))?.addresses;
            addresses.iter().any(|prefix| prefix.contains(source))
        }
    };
    on_link.then_some(source)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn a_link_leaves_the_others_their_share() {
        let start = Instant::now();
        let mut newcomers = Newcomers::new(2, start);
        let flood = |newcomers: &mut Newcomers, sub_if, now| {
            (0..1000).filter(|_| newcomers.allows(SubIfId(sub_if), now)).count() as u32
        };
        assert_eq!(flood(&mut newcomers, 0, start), EACH);
        assert_eq!(flood(&mut newcomers, 1, start), ALL - EACH);
        assert_eq!(flood(&mut newcomers, 2, start), 0, "there is no such sub-interface");
        let later = start + Duration::from_millis(500);
        assert_eq!(flood(&mut newcomers, 0, later), EACH / 2);
    }

    #[test]
    fn senders_on_the_link_become_neighbours() {
        let text = r#"
            port = [{ name = "p", device = "net_null0" }]
            interface = [{ name = "lan", port = "p", addresses = ["192.0.2.1/24", "2001:db8::1/64"] }]
        "#;
        let config = crate::config::parse("test", text).unwrap();
        let of = |packet: &[u8], reason| sender(packet, reason, SubIfId(0), &config);
        let v4 = |source: [u8; 4]| [&[0x45; 12][..], &source, &[192, 0, 2, 1]].concat();
        assert_eq!(of(&v4([192, 0, 2, 9]), PuntReason::Local), Some([192, 0, 2, 9].into()));
        assert_eq!(of(&v4([198, 51, 100, 9]), PuntReason::Local), None, "behind a router");
        let v6 = |source: u128| [&[0x60; 8][..], &source.to_be_bytes(), &[0; 16]].concat();
        let (near, far) = (0x2001_0db8_u128 << 96 | 9, 0x2001_0db8_u128 << 96 | 9 << 64);
        assert_eq!(of(&v6(near), PuntReason::Bgp), Some(IpAddr::V6(near.into())));
        assert_eq!(of(&v6(far), PuntReason::Bgp), None);
        let link_local = 0xfe80_u128 << 112 | 9;
        assert_eq!(of(&v6(link_local), PuntReason::NeighbourDiscovery), Some(IpAddr::V6(link_local.into())));
        assert_eq!(of(&v6(0), PuntReason::NeighbourDiscovery), None, "duplicate address detection");
        // Linux makes neighbours of ARP senders with any address.
        let arp = [&[0, 1, 8, 0, 6, 4, 0, 1, 2, 0, 0, 0, 0, 9][..], &[198, 51, 100, 9], &[0; 10]].concat();
        assert_eq!(of(&arp, PuntReason::Arp), Some([198, 51, 100, 9].into()));
        assert_eq!(of(&[], PuntReason::Local), None);
    }
}
