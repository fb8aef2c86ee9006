//! The routes that the speakers bring, in the one form in which a speaker's dump and turnpike's are compared.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv6Addr};

use serde_json::Value;

use crate::frame::Mac;

/// What a set of routes is.
pub type Routes = BTreeSet<Route>;

/// A route. What a speaker does not say has its default.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Route {
    /// As text, in the standard's short form.
    pub prefix: String,
    /// Its next hop.
    pub hop: String,
    /// `LOCAL_PREF`.
    pub local_pref: u32,
    /// `MULTI_EXIT_DISC`.
    pub med: u32,
    /// COMMUNITIES, as `asn:value`.
    pub communities: Vec<String>,
}

/// Gateways on the WAN.
pub const GATEWAYS: usize = 9;
/// The gateway that only changed routes lead over.
pub const SPARE: usize = GATEWAYS - 1;
/// Routes that all speakers bring.
pub const SHARED: [usize; 2] = [60, 30];
/// The second byte of the shared ones.
const SHARED_NUMBER: u8 = 120;

/// Address of gateway `n`, in the family of `v6`.
pub fn gateway(n: usize, v6: bool) -> String {
    if v6 { format!("2001:db8:2::{:x}", 0xfe - n) } else { format!("192.0.2.{}", 254 - n) }
}

/// Its MAC address.
pub fn gateway_mac(n: usize) -> Mac {
    [2, 0, 0, 0, 0, 0xfe - n as u8]
}

/// The MAC address behind a next hop.
#[track_caller]
pub fn mac_of(hop: &str) -> Mac {
    let v6 = hop.contains(':');
    let number = (0..GATEWAYS).find(|n| gateway(*n, v6) == hop);
    gateway_mac(number.unwrap_or_else(|| panic!("no gateway has {hop}")))
}

/// Number `i` of the IPv4 prefixes of `number`: some of /24, then some of /32.
fn ipv4(number: u8, i: usize) -> String {
    if i < 200 {
        return format!("10.{number}.{i}.0/24");
    }
    format!("10.{number}.{}.{}/32", 200 + (i - 200) / 250, (i - 200) % 250)
}

/// Number `i` of the IPv6 prefixes of `number`.
fn ipv6(number: u8, i: usize) -> String {
    format!("{}/64", Ipv6Addr::from([0x2001, 0xdb8, hex(number), i as u16 + 1, 0, 0, 0, 0]))
}

/// 100 as 0x100, so that the number can be read in an IPv6 address as well.
fn hex(number: u8) -> u16 {
    u16::from_str_radix(&number.to_string(), 16).expect("decimal digits are hexadecimal ones")
}

/// The two routes of the page, over its gateway.
pub fn of_the_page(number: u8) -> [Route; 2] {
    let prefixes = [format!("10.{number}.0.0/16"), format!("2001:db8:{number}::/48")];
    [false, true].map(|v6| Route::plain(prefixes[usize::from(v6)].clone(), gateway(0, v6)))
}

/// The routes of a speaker: those of the page, `own` ones of IPv4 and IPv6, and the shared ones, the latter two over its
/// gateway and with its preference.
pub fn feed(number: u8, hop: usize, local_pref: u32, own: [usize; 2]) -> Routes {
    let mut all: Routes = of_the_page(number).into();
    let mut add = |prefix: String| {
        let hop = gateway(hop, prefix.contains(':'));
        all.insert(Route { local_pref, ..Route::plain(prefix, hop) });
    };
    (0..own[0]).for_each(|i| add(ipv4(number, i)));
    (0..own[1]).for_each(|i| add(ipv6(number, i)));
    (0..SHARED[0]).for_each(|i| add(ipv4(SHARED_NUMBER, i)));
    (0..SHARED[1]).for_each(|i| add(ipv6(SHARED_NUMBER, i)));
    all
}

impl Route {
    /// With nothing but a next hop.
    pub fn plain(prefix: String, hop: String) -> Self {
        Self { prefix, hop, local_pref: 100, med: 0, communities: Vec::new() }
    }

    /// Whether it is one of IPv6.
    pub fn v6(&self) -> bool {
        self.prefix.contains(':')
    }

    /// Whether all speakers bring it.
    pub fn shared(&self) -> bool {
        let word = format!("{SHARED_NUMBER}");
        self.prefix.starts_with(&format!("10.{word}."))
            || self.prefix.starts_with(&format!("2001:db8:{word}:"))
    }

    /// Whether the page has it.
    pub fn on_page(&self) -> bool {
        self.prefix.ends_with("/16") || self.prefix.ends_with("/48")
    }

    /// An address in it that no longer prefix of these routes covers.
    #[track_caller]
    pub fn address(&self) -> IpAddr {
        let base: IpAddr = self.prefix.split('/').next().and_then(|a| a.parse().ok()).expect("a prefix");
        match base {
            IpAddr::V4(base) if self.prefix.ends_with("/16") => {
                let [a, b, ..] = base.octets();
                [a, b, 255, 9].into()
            }
            IpAddr::V4(base) if self.prefix.ends_with("/32") => base.into(),
            IpAddr::V4(base) => (u32::from(base) + 9).to_be_bytes().into(),
            IpAddr::V6(base) if self.prefix.ends_with("/48") => {
                (u128::from(base) + (0xffff << 64) + 9).to_be_bytes().into()
            }
            IpAddr::V6(base) => (u128::from(base) + 9).to_be_bytes().into(),
        }
    }

    /// One path of turnpike's, of the route of this prefix; none if it leads to more or fewer next hops than one.
    pub fn of_turnpike(prefix: &str, path: &Value) -> Option<Self> {
        let [hop] = path["next_hops"].as_array()?.as_slice() else { return None };
        let number = |key: &str| Some(path[key].as_u64()? as u32);
        let communities = path["communities"].as_array()?.iter();
        Some(Self {
            prefix: prefix.to_owned(),
            hop: hop["address"].as_str()?.to_owned(),
            local_pref: if path["kind"] == "bgp" { number("local_pref")? } else { 100 },
            med: number("med")?,
            communities: communities.filter_map(|c| Some(c.as_str()?.to_owned())).collect(),
        })
    }
}

/// Changes two thirds of the routes that are a speaker's own: every third leads over another gateway, every third gets
/// other attributes if there are any.
pub fn changed(routes: &Routes, attributes: bool) -> Routes {
    let change = |(i, route): (usize, &Route)| {
        let mut route = route.clone();
        match i % 3 {
            _ if route.on_page() || route.shared() => {}
            1 => route.hop = gateway(SPARE, route.v6()),
            2 if attributes => {
                route.med = 50;
                route.communities = vec!["65010:7".to_owned(), "65010:8".to_owned()];
            }
            _ => {}
        }
        route
    };
    routes.iter().enumerate().map(change).collect()
}

/// Takes out every tenth of the routes that are a speaker's own, beginning with number `first`.
pub fn thinned(routes: &Routes, first: usize) -> Routes {
    let stays = |(i, route): &(usize, &Route)| route.on_page() || route.shared() || i % 10 != first;
    routes.iter().enumerate().filter(stays).map(|(_, route)| route.clone()).collect()
}
