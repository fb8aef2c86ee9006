//! `[bgp]` and `[[bgp.peer]]`: the native speaker and who may push routes to it.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use toml_span::Value;

use super::address::{address, host, socket_address};
use super::draft::Peer;
use super::errors::At;
use super::model::Bgp;
use super::section::{Section, read};
use super::values::{asn, boolean, hold_time, name, namespace, seconds};

/// The longest time for which a lost session's routes may stay: a day.
const LONGEST_RETAIN: u64 = 86_400;

/// Reads `[bgp]` from the top of the text: the speaker without its peers, and the peers.
pub(super) fn bgp(top: &mut Section<'_, '_, '_>) -> (Option<Bgp>, Vec<Peer>) {
    let Some(value) = top.table("bgp") else { return (None, Vec::new()) };
    read("bgp", Some(value), top.report, |s| {
        let peers: Vec<Peer> =
            s.tables("peer").into_iter().map(|value| read("bgp.peer", Some(value), s.report, peer)).collect();
        let asn = s.need("asn", "64512", asn);
        let router_id = s.need("router_id", "\"192.0.2.1\"", router_id);
        let bgp = Bgp {
            listen: listen(s),
            asn: asn.map_or(0, |a| a.value),
            router_id: router_id.map_or(Ipv4Addr::UNSPECIFIED, |r| r.value),
            retain: s.value_or("retain", Duration::from_mins(2), seconds(LONGEST_RETAIN)),
            hold_time: s.value_or("hold_time", Duration::from_secs(90), hold_time),
            peers: Vec::new(),
        };
        (Some(bgp), peers)
    })
}

fn listen(s: &mut Section<'_, '_, '_>) -> Vec<SocketAddr> {
    let Some(list) = s.list("listen", socket_address) else {
        return vec![SocketAddr::from((Ipv4Addr::LOCALHOST, 1790))];
    };
    let mut seen = Vec::new();
    for At { value, place } in list.into_iter().flatten() {
        if seen.contains(&value) {
            s.report.error(place, format!("{value} is listed twice: remove one"));
        }
        seen.push(value);
    }
    seen
}

fn router_id(value: &Value<'_>) -> Result<Ipv4Addr, String> {
    match address(value)? {
        std::net::IpAddr::V4(id) if !id.is_unspecified() => Ok(id),
        other => Err(format!("{other}: must be written as an IPv4 address other than 0.0.0.0 (RFC 6286)")),
    }
}

fn peer(s: &mut Section<'_, '_, '_>) -> Peer {
    Peer {
        name: s.opt("name", name),
        // The peer connects from the loopback as a rule.
        address: s.need("address", "\"127.0.0.1\"", |value| {
            let ip = address(value)?;
            if ip.is_loopback() { Ok(ip) } else { host(value) }
        }),
        asn: s.need("asn", "64512", asn).map(|a| a.value),
        vrf: s.opt_or("vrf", "default".to_owned(), name),
        add_path: s.value_or("add_path", true, boolean),
        namespace: s.opt("namespace", namespace).map(|n| n.value),
    }
}
