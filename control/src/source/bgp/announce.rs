//! What a peer is told: the prefixes of `[[bgp.announce]]`, within what its circuit takes, as UPDATE messages.

use std::net::{IpAddr, Ipv6Addr};

use ipnetwork::IpNetwork;

use super::protocol::{HEADER_LENGTH, Negotiated};
use crate::config::model::{AnnounceLimits, Announcement};
use crate::source::Family;

/// Prefixes in a message: so many of the longest kind, with all attributes, stay below 4096 bytes.
const PREFIXES: usize = 150;

/// What one session announces, from when its connection stands.
#[derive(Clone, Debug, Default)]
pub(super) struct Announcer {
    pub local_asn: u32,
    pub external: bool,
    pub list: Vec<Announcement>,
    pub limits: Option<AnnounceLimits>,
    /// Our address of the connection.
    pub local: Option<IpAddr>,
}

/// What came of it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Announced {
    /// UPDATE messages.
    pub messages: Vec<Vec<u8>>,
    /// Prefixes in them.
    pub prefixes: usize,
    /// What is not announced, and why.
    pub refused: Vec<(IpNetwork, &'static str)>,
}

const BEYOND: &str =
    "beyond what the circuit takes: its far side would drop the session; list fewer, larger prefixes";
const NO_NEXT_HOP: &str = "no next hop of its family: give `next_hop`";
const NOT_NEGOTIATED: &str = "the peer does not take this family";

impl Announcer {
    /// The messages that announce all of a family.
    pub(super) fn family(&self, family: Family, negotiated: &Negotiated) -> Announced {
        let of_family = |a: &&Announcement| a.prefix.is_ipv4() == (family == Family::Ipv4);
        let limit = self.limits.map_or(usize::MAX, |limits| match family {
            Family::Ipv4 => limits.ipv4,
            Family::Ipv6 => limits.ipv6,
        });
        let mut result = Announced::default();
        // By (next hop, communities), in the order of the configuration.
        let mut groups: Vec<(IpAddr, &[u32], Vec<IpNetwork>)> = Vec::new();
        for announcement in self.list.iter().filter(of_family) {
            let prefix = announcement.prefix;
            if !negotiated.families.contains(&family) {
                result.refused.push((prefix, NOT_NEGOTIATED));
                continue;
            }
            let Some(next_hop) = self.next_hop(announcement, negotiated) else {
                result.refused.push((prefix, NO_NEXT_HOP));
                continue;
            };
            if result.prefixes >= limit {
                result.refused.push((prefix, BEYOND));
                continue;
            }
            result.prefixes += 1;
            let communities = announcement.communities.as_slice();
            match groups.iter_mut().find(|group| group.0 == next_hop && group.1 == communities) {
                Some(group) => group.2.push(prefix),
                None => groups.push((next_hop, communities, vec![prefix])),
            }
        }
        for (next_hop, communities, prefixes) in groups {
            for chunk in prefixes.chunks(PREFIXES) {
                result.messages.push(self.update(next_hop, communities, chunk, negotiated));
            }
        }
        result
    }

    /// The configured next hop, or our own address, if the peer can take it for this prefix.
    fn next_hop(&self, announcement: &Announcement, negotiated: &Negotiated) -> Option<IpAddr> {
        let usable = |address: &IpAddr| match (announcement.prefix, address) {
            (IpNetwork::V4(_), IpAddr::V4(_)) | (IpNetwork::V6(_), IpAddr::V6(_)) => true,
            (IpNetwork::V4(_), IpAddr::V6(_)) => negotiated.ipv6_next_hops,
            (IpNetwork::V6(_), IpAddr::V4(_)) => false,
        };
        announcement.next_hop.or(self.local).filter(usable)
    }

    fn update(
        &self,
        next_hop: IpAddr,
        communities: &[u32],
        prefixes: &[IpNetwork],
        negotiated: &Negotiated,
    ) -> Vec<u8> {
        let nlri: Vec<u8> = prefixes.iter().flat_map(|prefix| encode(*prefix)).collect();
        // ORIGIN IGP; AS_PATH: ourselves to the outside, empty within our AS.
        let mut attributes = vec![0x40, 1, 1, 0];
        attributes.extend(match (self.external, negotiated.four_byte_as) {
            (false, _) => vec![0x40, 2, 0],
            (true, true) => [&[0x40, 2, 6, 2, 1], self.local_asn.to_be_bytes().as_slice()].concat(),
            // AS_TRANS stands for a 4-byte number (RFC 6793).
            (true, false) => {
                let asn = u16::try_from(self.local_asn).unwrap_or(23_456);
                [&[0x40, 2, 4, 2, 1], asn.to_be_bytes().as_slice()].concat()
            }
        });
        let classic = match (next_hop, prefixes.first()) {
            (IpAddr::V4(address), Some(IpNetwork::V4(_))) => {
                attributes.extend([0x40, 3, 4]);
                attributes.extend(address.octets());
                true
            }
            _ => false,
        };
        if !self.external {
            attributes.extend([0x40, 5, 4, 0, 0, 0, 100]);
        }
        if !communities.is_empty() {
            let bytes: Vec<u8> = communities.iter().flat_map(|c| c.to_be_bytes()).collect();
            attributes.extend(attribute(0xc0, 8, &bytes));
        }
        if let (IpAddr::V6(address), Some(first)) = (next_hop, prefixes.first()) {
            attributes.extend(attribute(0x80, 14, &reach(address, first.is_ipv4(), &nlri)));
        }
        let mut body = vec![0, 0];
        body.extend((attributes.len() as u16).to_be_bytes());
        body.extend(attributes);
        if classic {
            body.extend(&nlri);
        }
        let mut message = vec![0xff; 16];
        message.extend(((HEADER_LENGTH + body.len()) as u16).to_be_bytes());
        message.push(2);
        message.extend(body);
        message
    }
}

/// `MP_REACH_NLRI` (RFC 4760, section 3), without its header.
fn reach(next_hop: Ipv6Addr, ipv4: bool, nlri: &[u8]) -> Vec<u8> {
    let mut value = vec![0, if ipv4 { 1 } else { 2 }, 1, 16];
    value.extend(next_hop.octets());
    value.push(0);
    value.extend(nlri);
    value
}

/// An attribute with a length of two bytes where it needs one.
fn attribute(flags: u8, kind: u8, value: &[u8]) -> Vec<u8> {
    let mut bytes = if let Ok(length) = u8::try_from(value.len()) {
        vec![flags, kind, length]
    } else {
        let [high, low] = (value.len() as u16).to_be_bytes();
        vec![flags | 0x10, kind, high, low]
    };
    bytes.extend(value);
    bytes
}

/// Length in bits, and as many bytes as that takes.
fn encode(prefix: IpNetwork) -> Vec<u8> {
    let mut bytes = vec![prefix.prefix()];
    let length = usize::from(prefix.prefix()).div_ceil(8);
    match prefix {
        IpNetwork::V4(v4) => bytes.extend(&v4.network().octets()[..length]),
        IpNetwork::V6(v6) => bytes.extend(&v6.network().octets()[..length]),
    }
    bytes
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use ipnetwork::{Ipv4Network, Ipv6Network};

    use super::*;

    fn negotiated() -> Negotiated {
        Negotiated {
            router_id: Ipv4Addr::LOCALHOST,
            hold_time: 90,
            families: vec![Family::Ipv4, Family::Ipv6],
            add_path_receive: vec![],
            add_path_send: vec![],
            four_byte_as: true,
            extended_messages: false,
            route_refresh: true,
            enhanced_route_refresh: false,
            ipv6_next_hops: false,
            graceful_restart: None,
            graceful_families: vec![],
        }
    }

    fn list(ipv4: u32, ipv6: u128) -> Vec<Announcement> {
        let v4 = (0..ipv4).map(|i| Ipv4Network::new((0x0a00_0000 + (i << 8)).into(), 24).unwrap().into());
        let base = u128::from(Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 0));
        let v6 = (0..ipv6).map(|i| Ipv6Network::new((base + (i << 64)).into(), 64).unwrap().into());
        let all: Vec<IpNetwork> = v4.chain(v6).collect();
        all.into_iter().map(|prefix| Announcement { prefix, next_hop: None, communities: vec![] }).collect()
    }

    fn announcer(list: Vec<Announcement>, limits: AnnounceLimits, local: &str) -> Announcer {
        let local = Some(local.parse().unwrap());
        Announcer { local_asn: 65_010, external: true, list, limits: Some(limits), local }
    }

    #[test]
    fn the_circuits_limits_are_kept_and_the_rest_is_refused() {
        for (limits, v4, v6) in [
            (AnnounceLimits::PRIVATE, 4000, 100),
            (AnnounceLimits::PRIVATE_PREMIUM, 10_000, 100),
            (AnnounceLimits::MICROSOFT, 200, 200),
        ] {
            let all = list(10_003, 0);
            let told = announcer(all, limits, "192.0.2.1").family(Family::Ipv4, &negotiated());
            assert_eq!((told.prefixes, told.refused.len()), (v4, 10_003 - v4));
            assert!(told.refused.iter().all(|(_, why)| *why == BEYOND));
            assert!(told.messages.iter().all(|message| message.len() <= 4096));
            let told = announcer(list(0, 203), limits, "2001:db8::1").family(Family::Ipv6, &negotiated());
            assert_eq!((told.prefixes, told.refused.len()), (v6, 203 - v6));
            assert!(told.messages.iter().all(|message| message.len() <= 4096));
        }
    }

    #[test]
    fn a_next_hop_of_the_other_family_is_refused_unless_it_was_negotiated() {
        let v6 = announcer(list(0, 1), AnnounceLimits::PRIVATE, "192.0.2.1");
        assert_eq!(v6.family(Family::Ipv6, &negotiated()).refused[0].1, NO_NEXT_HOP);
        let v4 = announcer(list(1, 0), AnnounceLimits::PRIVATE, "2001:db8::1");
        assert_eq!(v4.family(Family::Ipv4, &negotiated()).refused[0].1, NO_NEXT_HOP);
        let extended = Negotiated { ipv6_next_hops: true, ..negotiated() };
        assert_eq!(v4.family(Family::Ipv4, &extended).prefixes, 1);
        let mut given = list(0, 1);
        given[0].next_hop = Some("2001:db8::9".parse().unwrap());
        let given = announcer(given, AnnounceLimits::PRIVATE, "192.0.2.1");
        assert_eq!(given.family(Family::Ipv6, &negotiated()).prefixes, 1);
        let only_v4 = Negotiated { families: vec![Family::Ipv4], ..negotiated() };
        assert_eq!(given.family(Family::Ipv6, &only_v4).refused[0].1, NOT_NEGOTIATED);
    }
}
