//! Our own addresses, and those at which a link's broadcasts arrive: found in a time that does not grow with the number
//! of sub-interfaces, since packets of whoever likes ask for them.

use std::collections::HashSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use dataplane::ids::{SubIfId, VrfId};
use ipnetwork::IpNetwork;

use crate::config::model::Config;

/// The addresses of all sub-interfaces.
pub struct OwnAddresses {
    ours: HashSet<(VrfId, IpAddr)>,
    broadcast: HashSet<(VrfId, Ipv4Addr)>,
    /// By [`SubIfId`].
    links: Vec<Link>,
}

/// What a sub-interface has.
struct Link {
    vrf: VrfId,
    first_v4: Option<Ipv4Addr>,
    first_v6: Option<Ipv6Addr>,
}

impl OwnAddresses {
    /// Those of a configuration.
    pub fn new(config: &Config) -> Self {
        let mut this = Self { ours: HashSet::new(), broadcast: HashSet::new(), links: Vec::new() };
        for sub_if in &config.sub_interfaces {
            let vrf = sub_if.vrf;
            this.ours.extend(sub_if.addresses.iter().map(|address| (vrf, address.ip())));
            let mut link = Link { vrf, first_v4: None, first_v6: None };
            for address in &sub_if.addresses {
                match address {
                    IpNetwork::V4(v4) => {
                        link.first_v4.get_or_insert(v4.ip());
                        if v4.prefix() <= 30 {
                            this.broadcast.extend([(vrf, v4.broadcast()), (vrf, v4.network())]);
                        }
                    }
                    IpNetwork::V6(v6) => {
                        link.first_v6.get_or_insert(v6.ip());
                    }
                }
            }
            this.links.push(link);
        }
        this
    }

    /// Whether it is ours, in the VRF of a sub-interface.
    pub fn is_ours(&self, sub_if: SubIfId, address: IpAddr) -> bool {
        self.link(sub_if).is_some_and(|link| self.ours.contains(&(link.vrf, address)))
    }

    /// Whether it is the broadcast address of a link of ours, in the VRF of a sub-interface, or the network's own
    /// address, which was one once (RFC 1812, section 5.3.5.3): no error is due from or to it (section 4.3.2.7).
    pub fn is_broadcast(&self, sub_if: SubIfId, address: Ipv4Addr) -> bool {
        self.link(sub_if).is_some_and(|link| self.broadcast.contains(&(link.vrf, address)))
    }

    /// The first IPv4 address of a sub-interface.
    pub fn first_v4(&self, sub_if: SubIfId) -> Option<Ipv4Addr> {
        self.link(sub_if)?.first_v4
    }

    /// Our address that an error about a packet to `destination` comes from: the one that it was sent to (RFC 4443,
    /// section 2.2 (a)), or else that of the sub-interface that it came in on (RFC 1812, section 4.3.2.4).
    pub fn error_source(&self, from: SubIfId, destination: IpAddr) -> Option<IpAddr> {
        if self.is_ours(from, destination) {
            return Some(destination);
        }
        let link = self.link(from)?;
        match destination {
            IpAddr::V4(_) => link.first_v4.map(IpAddr::V4),
            IpAddr::V6(_) => link.first_v6.map(IpAddr::V6),
        }
    }

    fn link(&self, sub_if: SubIfId) -> Option<&Link> {
        self.links.get(usize::from(sub_if.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn own() -> OwnAddresses {
        let text = r#"
            port = [{ name = "p", device = "net_null0" }]
            interface = [
                { name = "lan", port = "p", addresses = ["192.0.2.1/24", "2001:db8::1/64"] },
                { name = "link", port = "p", vlan = 2, addresses = ["10.0.0.0/31", "10.9.0.1/30", "fd00::1/126"] },
                { name = "other", port = "p", vlan = 3, vrf = "other", addresses = ["198.51.100.1/25"] },
            ]
        "#;
        OwnAddresses::new(&crate::config::parse("test", text).unwrap())
    }

    const LAN: SubIfId = SubIfId(0);
    const LINK: SubIfId = SubIfId(1);
    const OTHER: SubIfId = SubIfId(2);

    #[test]
    fn broadcast_addresses_are_those_of_connected_prefixes() {
        let own = own();
        let is = |sub_if, address: &str| own.is_broadcast(sub_if, address.parse().unwrap());
        assert!(is(LAN, "192.0.2.255") && is(LINK, "192.0.2.0") && is(LAN, "10.9.0.3"));
        assert!(!is(LAN, "192.0.2.254") && !is(LINK, "10.0.0.1") && !is(LINK, "10.0.0.0"));
        assert!(is(OTHER, "198.51.100.127") && !is(LAN, "198.51.100.127") && !is(OTHER, "192.0.2.255"));
        assert!(!is(SubIfId(9), "192.0.2.255"));
    }

    #[test]
    fn an_error_comes_from_the_address_that_was_sent_to() {
        let own = own();
        let source = |from, to: &str| own.error_source(from, to.parse().unwrap()).map(|ip| ip.to_string());
        assert_eq!(source(LAN, "10.9.0.1").as_deref(), Some("10.9.0.1"), "another of ours");
        assert_eq!(source(LAN, "10.9.0.2").as_deref(), Some("192.0.2.1"), "none of ours");
        assert_eq!(source(LAN, "198.51.100.1").as_deref(), Some("192.0.2.1"), "ours in another VRF");
        assert_eq!(source(LINK, "192.0.2.9").as_deref(), Some("10.0.0.0"), "the first of two");
        assert_eq!(source(LAN, "fd00::1").as_deref(), Some("fd00::1"));
        assert_eq!(source(LAN, "fd00::2").as_deref(), Some("2001:db8::1"));
        assert_eq!(source(OTHER, "fd00::1"), None, "no address of that family");
        assert_eq!(own.first_v4(LINK), Some(Ipv4Addr::new(10, 0, 0, 0)));
    }

    #[test]
    fn each_sub_interface_has_its_own_answer_among_many() {
        let mut text = String::from("port = [{ name = \"p\", device = \"net_null0\" }]\n");
        for n in 0..4000 {
            let (high, low) = (n / 256, n % 256);
            text += &format!(
                "[[interface]]\nname = \"i{n}\"\nport = \"p\"\nvlan = {}\naddresses = [\"10.{high}.{low}.1/24\"]\n",
                n + 1
            );
        }
        let own = OwnAddresses::new(&crate::config::parse("test", &text).unwrap());
        assert_eq!((own.ours.len(), own.broadcast.len()), (4000, 8000));
        for n in [0, 1, 2000, 3999u16] {
            let [high, low] = n.to_be_bytes();
            let at = |last| Ipv4Addr::new(10, high, low, last);
            assert_eq!(own.error_source(SubIfId(n), at(7).into()), Some(at(1).into()));
            assert!(own.is_broadcast(SubIfId(5), at(255)) && !own.is_broadcast(SubIfId(5), at(254)));
        }
    }
}
