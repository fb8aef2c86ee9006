//! `[bgp]`, `[[bgp.peer]]`, `[[bgp.announce]]`: the native speaker, who may push routes to it, what they are told.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use dataplane::ids::VrfId;
use ipnetwork::IpNetwork;
use toml_span::Value;

use super::address::{address, host, prefix, socket_address};
use super::bgp_filter;
use super::draft::{Announce, NamedFilter, Peer};
use super::errors::At;
use super::model::{AnnounceLimits, Bgp, BgpMode, BgpPeer, MaxPrefix, MaxPrefixAction, Password};
use super::section::{Section, read};
use super::values::{asn, boolean, choice, hold_time, integer, name, namespace, seconds, text};

/// The longest time for which a lost session's routes may stay: a day.
const LONGEST_RETAIN: u64 = 86_400;

/// What `[bgp]` says, section by section.
#[derive(Default)]
pub(super) struct BgpDraft {
    /// Without its peers; `None`: there is no `[bgp]`.
    pub speaker: Option<Bgp>,
    pub peers: Vec<Peer>,
    pub filters: Vec<NamedFilter>,
    pub announce: Vec<Announce>,
}

/// Reads `[bgp]` from the top of the text.
pub(super) fn bgp(top: &mut Section<'_, '_, '_>) -> BgpDraft {
    let Some(value) = top.table("bgp") else { return BgpDraft::default() };
    read("bgp", Some(value), top.report, |s| {
        let mut draft = BgpDraft::default();
        for value in s.tables("peer") {
            draft.peers.push(read("bgp.peer", Some(value), s.report, peer));
        }
        for value in s.tables("filter") {
            draft.filters.push(read("bgp.filter", Some(value), s.report, bgp_filter::filter));
        }
        for value in s.tables("announce") {
            draft.announce.push(read("bgp.announce", Some(value), s.report, announce));
        }
        let asn = s.need("asn", "64512", asn);
        let router_id = s.need("router_id", "\"192.0.2.1\"", router_id);
        draft.speaker = Some(Bgp {
            listen: listen(s),
            asn: asn.map_or(0, |a| a.value),
            router_id: router_id.map_or(Ipv4Addr::UNSPECIFIED, |r| r.value),
            retain: s.value_or("retain", Duration::from_mins(2), seconds(LONGEST_RETAIN)),
            hold_time: s.value_or("hold_time", Duration::from_secs(90), hold_time),
            peers: Vec::new(),
        });
        draft
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
    const MODES: [(&str, BgpMode); 3] =
        [("passive", BgpMode::Passive), ("active", BgpMode::Active), ("both", BgpMode::Both)];
    const CIRCUITS: [(&str, AnnounceLimits); 3] = [
        ("private", AnnounceLimits::PRIVATE),
        ("private-premium", AnnounceLimits::PRIVATE_PREMIUM),
        ("microsoft", AnnounceLimits::MICROSOFT),
    ];
    let default = BgpPeer::new(String::new(), Ipv4Addr::UNSPECIFIED.into(), 0, VrfId(0));
    let rest = BgpPeer {
        add_path: s.value_or("add_path", true, boolean),
        namespace: s.opt("namespace", namespace).map(|n| n.value),
        mode: s.value_or("mode", BgpMode::Passive, choice(&MODES)),
        port: s.value_or("port", default.port, integer(1..=65535)),
        local_address: s.opt("local_address", peer_address).map(|a| a.value),
        connect_retry: s.value_or("connect_retry", default.connect_retry, connect_retry),
        password: s.opt("password", password).map(|p| p.value),
        ttl_security: s.opt("ttl_security", integer(1..=254)).map(|t| t.value),
        max_prefix: max_prefix(s),
        announce_limits: s.opt("announce_limits", choice(&CIRCUITS)).map(|l| l.value),
        ..default
    };
    Peer {
        name: s.opt("name", name),
        // The peer connects from the loopback as a rule.
        address: s.need("address", "\"127.0.0.1\"", peer_address),
        asn: s.need("asn", "64512", asn).map(|a| a.value),
        vrf: s.opt_or("vrf", "default".to_owned(), name),
        import: s.opt("import", name),
        rest,
    }
}

fn peer_address(value: &Value<'_>) -> Result<IpAddr, String> {
    let ip = address(value)?;
    if ip.is_loopback() { Ok(ip) } else { host(value) }
}

fn connect_retry(value: &Value<'_>) -> Result<Duration, String> {
    let time = seconds(3600)(value)?;
    if time.is_zero() { Err("must be at least 1 second".to_owned()) } else { Ok(time) }
}

fn password(value: &Value<'_>) -> Result<Password, String> {
    let wrong = || format!("must have 1 to {} bytes (RFC 2385)", Password::LONGEST);
    Password::new(text(value)?).ok_or_else(wrong)
}

fn max_prefix(s: &mut Section<'_, '_, '_>) -> MaxPrefix {
    let Some(value) = s.table("max_prefix") else { return MaxPrefix::default() };
    read("bgp.peer.max_prefix", Some(value), s.report, |s| {
        let ipv4 = s.opt("ipv4", integer(1..=8_000_000)).map(|n| n.value);
        let ipv6 = s.opt("ipv6", integer(1..=8_000_000)).map(|n| n.value);
        let action = s.value_or("action", 1, choice(&[("warn", 0), ("shut", 1), ("restart", 2)]));
        let restart = s.value_or("restart", Duration::from_mins(5), seconds(86_400));
        if s.has("restart") && action != 2 {
            s.error("restart", "is for action = \"restart\": set that, or remove it");
        }
        let action = match action {
            0 => MaxPrefixAction::Warn,
            1 => MaxPrefixAction::Shut,
            _ => MaxPrefixAction::Restart(restart),
        };
        MaxPrefix { ipv4, ipv6, warning: s.value_or("warning", 75, integer(1..=100)), action }
    })
}

fn announce(s: &mut Section<'_, '_, '_>) -> Announce {
    if s.is_absent_or_empty("prefix") {
        s.error("prefix", "missing; add for example prefix = \"192.0.2.0/24\", or a list");
    }
    let all = |list: Option<Vec<Option<At<IpNetwork>>>>| list.into_iter().flatten().flatten().collect();
    Announce {
        prefixes: all(s.list("prefix", prefix)),
        vrf: s.opt_or("vrf", "default".to_owned(), name),
        peers: s.list("peer", text).into_iter().flatten().flatten().collect(),
        next_hop: s.opt("next_hop", host).map(|n| n.value),
        communities: s
            .list("communities", bgp_filter::community)
            .into_iter()
            .flatten()
            .flatten()
            .map(|c| c.value)
            .collect(),
    }
}
