//! The top of the text: which sections there are, and all of them but circuits and BGP.

use std::net::IpAddr;

use dpdk_sys::Offloads;
use ipnetwork::IpNetwork;
use toml_span::Value;

use super::acl;
use super::address::{host, interface_address, mac, prefix, socket_address};
use super::bgp::bgp;
use super::circuit::circuit;
use super::draft::{Draft, Leak, Neighbour, Port, Route, Sub, Vrf};
use super::errors::{At, Report};
use super::limits;
use super::model::{Api, Encapsulation, HugePages, Idle, Kernel, Memory, Sources, Tag, Target, Workers};
use super::policy::policy;
use super::section::{Section, read};
use super::tables;
use super::values::{
    TPID_DOT1Q, boolean, choice, descriptors, device, integer, mtu, name, namespace, pcp, tap, text, tpid,
    vlan_id,
};

/// Smallest examples, for messages; each works as it stands at the top of a file.
pub(super) const PORT_EXAMPLE: &str = r#"port = [{ name = "lan0", device = "net_tap0,iface=turnpike0" }]"#;
pub(super) const INTERFACE_EXAMPLE: &str =
    r#"interface = [{ name = "lan", port = "lan0", addresses = ["192.0.2.1/24"] }]"#;

/// Longest path that a unix socket's address holds, less the final zero.
const LONGEST_SOCKET: usize = 107;
/// Packet buffers: more than this is a slip of the hand, not a pool.
const MOST_BUFFERS: i64 = 16_777_216;

/// Reads a whole text.
pub(super) fn document(root: &Value<'_>, report: &mut Report<'_>) -> Draft {
    read("", Some(root), report, |top| {
        let ports = each(top, "port", port);
        let vrfs = each(top, "vrf", vrf);
        let mut subs = Vec::new();
        let mut index = 0;
        let circuits = each(top, "circuit", |s| {
            let read = circuit(s, index, &mut subs);
            index += 1;
            read
        });
        subs.extend(each(top, "interface", interface));
        if ports.is_empty() && !top.has("port") {
            top.error("port", format!("there is no [[port]] to receive on; the smallest: {PORT_EXAMPLE}"));
        }
        if subs.is_empty() && !top.has("interface") && !top.has("circuit") {
            top.error(
                "interface",
                format!("there is no [[interface]] and no [[circuit]]; the smallest: {INTERFACE_EXAMPLE}"),
            );
        }
        let acls = each(top, "acl", acl::list);
        let routes = each(top, "route", route);
        let leaks = each(top, "leak", leak);
        let neighbours = each(top, "neighbour", neighbour);
        let bgp = bgp(top);
        let (fpm, fpm_tables) = tables::fpm(top);
        let (netlink, netlink_tables) = tables::netlink(top);
        Draft {
            ports,
            vrfs,
            circuits,
            subs,
            acls,
            routes,
            leaks,
            neighbours,
            bgp: bgp.speaker,
            bgp_peers: bgp.peers,
            bgp_filters: bgp.filters,
            bgp_announce: bgp.announce,
            fpm,
            fpm_tables,
            netlink,
            netlink_tables,
            workers: one(top, "workers", workers),
            sources: one(top, "routes", sources),
            kernel: one(top, "kernel", |s| Kernel { taps: s.value_or("taps", true, boolean) }),
            api: one(top, "api", api),
            icmp: one(top, "icmp", limits::icmp),
            punt: one(top, "punt", limits::punt),
            memory: one(top, "memory", memory),
        }
    })
}

/// Reads each table of `[[key]]`.
fn each<'v, 't, T>(
    top: &mut Section<'v, '_, 't>,
    key: &'static str,
    mut convert: impl FnMut(&mut Section<'v, '_, 't>) -> T,
) -> Vec<T> {
    top.tables(key).into_iter().map(|value| read(key, Some(value), top.report, &mut convert)).collect()
}

/// Reads `[key]`, which may be absent.
fn one<'v, 't, T>(
    top: &mut Section<'v, '_, 't>,
    key: &'static str,
    convert: impl FnOnce(&mut Section<'v, '_, 't>) -> T,
) -> T {
    let value = top.table(key);
    read(key, value, top.report, convert)
}

fn port(s: &mut Section<'_, '_, '_>) -> Port {
    Port {
        name: s.need("name", "\"wan0\"", name),
        device: s.need("device", "\"0000:3b:00.0\"", device),
        queues: s.opt("queues", integer(1..=1024)).map(|q| q.value),
        mtu: s.opt_or("mtu", 1500, mtu),
        descriptors: s.value_or("descriptors", 1024, descriptors),
        offloads: offloads(s),
    }
}

fn offloads(s: &mut Section<'_, '_, '_>) -> Offloads {
    let none = Offloads::default();
    let words = [
        ("rx_checksum", Offloads { rx_checksum: true, ..none }),
        ("vlan_strip", Offloads { vlan_strip: true, ..none }),
        ("vlan_insert", Offloads { vlan_insert: true, ..none }),
    ];
    let asked = s.list("offloads", choice(&words)).into_iter().flatten().flatten();
    asked.fold(Offloads::default(), |all, one| all.or(one.value))
}

fn vrf(s: &mut Section<'_, '_, '_>) -> Vrf {
    Vrf {
        name: s.need("name", "\"private\"", name),
        namespace: s.opt("namespace", namespace).map(|n| n.value),
    }
}

fn interface(s: &mut Section<'_, '_, '_>) -> Sub {
    let name_ = s.need("name", "\"lan\"", name);
    let port = s.need("port", "\"lan0\"", name);
    let encapsulation = interface_tags(s);
    let addresses = s.list("addresses", interface_address).unwrap_or_default();
    if s.is_absent_or_empty("addresses") {
        s.error("addresses", "missing; add for example addresses = [\"192.0.2.1/24\", \"2001:db8::1/64\"]");
    }
    let pcp = s.opt("pcp", pcp);
    let tagged = !matches!(encapsulation, Some(At { value: Encapsulation::Untagged, .. }));
    if let Some(pcp) = pcp
        && !tagged
    {
        s.report.error(pcp.place, "there is no tag to carry it: add `vlan`, or remove `pcp`");
    }
    Sub {
        tap: s.opt("tap", tap),
        tap_stem: (name_.as_ref().map(|n| n.value.clone()).unwrap_or_default(), String::new()),
        name: name_,
        port,
        encapsulation,
        vrf: s.opt_or("vrf", "default".to_owned(), name),
        addresses_whole: addresses.iter().all(Option::is_some),
        addresses: addresses.into_iter().flatten().collect(),
        mtu: s.opt("mtu", mtu),
        mtu_place: s.place("mtu"),
        pcp: pcp.map(|p| p.value),
        policy: policy(s, None, tagged),
        acls: ["acl_in", "acl_out"].map(|key| s.opt(key, name)),
        link: None,
    }
}

/// `vlan`, or `s_tag` with `c_tag`, or neither.
fn interface_tags(s: &mut Section<'_, '_, '_>) -> Option<At<Encapsulation>> {
    let vlan = s.opt("vlan", vlan_id);
    let s_tag = s.opt("s_tag", vlan_id);
    let c_tag = s.opt("c_tag", vlan_id);
    let outer_tpid = s.opt_or("outer_tpid", TPID_DOT1Q, tpid);
    if s.has("vlan") && (s.has("s_tag") || s.has("c_tag")) {
        s.error("vlan", "is the only tag: give either `vlan`, or `s_tag` with `c_tag`");
        return None;
    }
    for (one, other) in [("s_tag", "c_tag"), ("c_tag", "s_tag")] {
        if s.has(one) && !s.has(other) {
            s.error(one, format!("needs `{other}` beside it; for a single tag write `vlan`"));
            return None;
        }
    }
    if s.has("outer_tpid") && !s.has("s_tag") {
        s.error("outer_tpid", "is for two tags, `s_tag` with `c_tag`: remove it");
    }
    let tag = |tpid, vid| Tag { tpid, vid };
    if s.has("vlan") {
        return vlan.map(|v| v.with(Encapsulation::Dot1q(tag(TPID_DOT1Q, v.value))));
    }
    if s.has("s_tag") {
        let (s_tag, c_tag, tpid) = (s_tag?, c_tag?, outer_tpid?.value);
        let (outer, inner) = (tag(tpid, s_tag.value), tag(TPID_DOT1Q, c_tag.value));
        return Some(c_tag.with(Encapsulation::QinQ { outer, inner }));
    }
    Some(At { value: Encapsulation::Untagged, place: s.place("port") })
}

fn route(s: &mut Section<'_, '_, '_>) -> Route {
    let prefix = s.need("prefix", "\"10.0.0.0/8\"", prefix);
    let vrf = s.opt_or("vrf", "default".to_owned(), name);
    let via = s.list("via", gateway);
    let discard = s.opt("discard", boolean);
    let place = s.place(if via.is_some() { "via" } else { "discard" });
    let target = match (via, discard.map(|d| d.value)) {
        (Some(_), Some(true)) => {
            s.error("discard", "a route either leads `via` gateways or discards: remove one of the two");
            None
        }
        (Some(via), _) => gateways(s, via, prefix.as_ref()),
        (None, Some(true)) => Some(Target::Discard),
        (None, _) => {
            s.error("via", "missing; add via = \"192.0.2.254\" (a list shares the load), or discard = true");
            None
        }
    };
    Route { prefix, vrf, target: target.map(|value| At { value, place }) }
}

fn gateway(value: &Value<'_>) -> Result<IpAddr, String> {
    let ip = host(value)?;
    match ip {
        IpAddr::V6(v6) if v6.is_unicast_link_local() => {
            Err(format!("{ip} is link-local, so it does not say on which interface: give a global address"))
        }
        _ => Ok(ip),
    }
}

fn gateways(
    s: &mut Section<'_, '_, '_>,
    via: Vec<Option<At<IpAddr>>>,
    to: Option<&At<IpNetwork>>,
) -> Option<Target> {
    if via.is_empty() {
        s.error("via", "holds no gateway: give one, or write discard = true instead");
        return None;
    }
    let mut seen: Vec<IpAddr> = Vec::new();
    let whole = via.iter().all(Option::is_some);
    for gateway in via.into_iter().flatten() {
        let ip = gateway.value;
        if let Some(to) = to
            && to.value.is_ipv4() != ip.is_ipv4()
        {
            let message = format!("{ip} is not of the family of {}: give a gateway of the same", to.value);
            s.report.error(gateway.place, message);
        }
        if seen.contains(&ip) {
            s.report.error(gateway.place, format!("{ip} is in the list already: remove it"));
        }
        seen.push(ip);
    }
    whole.then_some(Target::Via(seen))
}

fn leak(s: &mut Section<'_, '_, '_>) -> Leak {
    let from = s.need("from", "\"private\"", name);
    let to = s.need("to", "\"default\"", name);
    let prefixes = s.list("prefixes", prefix);
    if s.is_absent_or_empty("prefixes") {
        s.error("prefixes", "missing; add for example prefixes = [\"10.0.0.0/8\"]");
    }
    Leak { from, to, prefixes: prefixes.unwrap_or_default(), exact: s.value_or("exact", false, boolean) }
}

fn neighbour(s: &mut Section<'_, '_, '_>) -> Neighbour {
    Neighbour {
        interface: s.need("interface", "\"lan\"", name),
        address: s.need("address", "\"192.0.2.10\"", host),
        mac: s.need("mac", "\"00:53:00:00:00:01\"", mac).map(|m| m.value),
    }
}

fn workers(s: &mut Section<'_, '_, '_>) -> Workers {
    let mut cores: Vec<usize> = Vec::new();
    for core in s.list("cores", integer(0..=4095)).into_iter().flatten().flatten() {
        if cores.contains(&core.value) {
            s.report.error(core.place, format!("core {} is listed twice: one worker a core", core.value));
        }
        cores.push(core.value);
    }
    let idle = s.value_or("idle", Idle::Poll, choice(&[("poll", Idle::Poll), ("sleep", Idle::Sleep)]));
    Workers { cores, idle, hand_over: s.value_or("hand_over", false, boolean) }
}

fn sources(s: &mut Section<'_, '_, '_>) -> Sources {
    const KEYS: [&str; 4] = ["static_distance", "bgp_distance", "fpm_distance", "netlink_distance"];
    let default = Sources::default();
    let defaults =
        [default.static_distance, default.bgp_distance, default.fpm_distance, default.netlink_distance];
    let mut distances = [0; KEYS.len()];
    let mut sources = [None; KEYS.len()];
    for (i, (key, default)) in KEYS.into_iter().zip(defaults).enumerate() {
        sources[i] = s.opt_or(key, default, integer(1..=255)).map(|d| d.value);
        distances[i] = sources[i].unwrap_or(default);
        let Some(distance) = sources[i] else { continue };
        if let Some(twin) = sources[..i].iter().position(|d| *d == Some(distance)) {
            let key = if s.has(key) { key } else { KEYS[twin] };
            s.error(
                key,
                format!("two sources have distance {distance}; give each its own, the lower one wins"),
            );
        }
    }
    let max_paths = s.value_or("max_paths", default.max_paths, integer(1..=64));
    let [static_distance, bgp_distance, fpm_distance, netlink_distance] = distances;
    Sources { static_distance, bgp_distance, fpm_distance, netlink_distance, max_paths }
}

fn api(s: &mut Section<'_, '_, '_>) -> Api {
    let socket = s.value_or("socket", super::DEFAULT_SOCKET.to_owned(), |value| {
        let path = text(value)?;
        if !path.starts_with('/') || path.len() > LONGEST_SOCKET {
            let wanted = format!(
                "an absolute path of at most {LONGEST_SOCKET} bytes, such as {}",
                super::DEFAULT_SOCKET
            );
            return Err(format!("{path:?}: must be {wanted}"));
        }
        Ok(path)
    });
    Api { socket: socket.into(), metrics: s.opt("metrics", socket_address).map(|metrics| metrics.value) }
}

fn memory(s: &mut Section<'_, '_, '_>) -> Memory {
    let words = [("auto", HugePages::Auto), ("require", HugePages::Require), ("never", HugePages::Never)];
    Memory {
        huge_pages: s.value_or("huge_pages", HugePages::Auto, choice(&words)),
        buffers: s.opt("buffers", integer(1024..=MOST_BUFFERS)).map(|b| b.value),
        eal_args: s.list("eal_args", text).into_iter().flatten().flatten().map(|a| a.value).collect(),
    }
}
