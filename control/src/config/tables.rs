//! `[fpm]` and `[netlink]`: the routing tables that others fill.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use dataplane::ids::VrfId;
use toml_span::Value;

use super::address::socket_address;
use super::draft::RouteTable;
use super::errors::{Place, Report};
use super::model::{Fpm, FpmTable, Netlink, NetlinkTable};
use super::section::{Section, read};
use super::suggest::hint;
use super::values::{integer, name, namespace, seconds};
use super::vrfs::Vrfs;

/// The main routing table (`RT_TABLE_MAIN`).
const MAIN: u32 = 254;
/// The port that zebra connects to unless told otherwise.
const FPM_PORT: u16 = 2620;
/// The longest time for which a lost connection's routes may stay: a day.
const LONGEST_RETAIN: u64 = 86_400;
/// The longest quiet time: ten minutes.
const LONGEST_QUIET: u64 = 600;
const RECEIVE_BUFFER: usize = 16 << 20;

/// The names of `RTPROT_…` numbers, as `ip route` has them.
const PROTOCOLS: [(&str, u8); 22] = [
    ("redirect", 1),
    ("kernel", 2),
    ("boot", 3),
    ("static", 4),
    ("gated", 8),
    ("ra", 9),
    ("mrt", 10),
    ("zebra", 11),
    ("bird", 12),
    ("xorp", 14),
    ("dhcp", 16),
    ("keepalived", 18),
    ("babel", 42),
    ("openr", 99),
    ("bgp", 186),
    ("isis", 187),
    ("ospf", 188),
    ("rip", 189),
    ("eigrp", 192),
    ("sharp", 194),
    ("pbr", 195),
    ("zstatic", 196),
];

/// Reads `[fpm]` from the top of the text: itself without its tables, and the tables.
pub(super) fn fpm(top: &mut Section<'_, '_, '_>) -> (Option<Fpm>, Vec<RouteTable>) {
    let Some(value) = top.table("fpm") else { return (None, Vec::new()) };
    read("fpm", Some(value), top.report, |s| {
        let tables = tables(s, "fpm.table", false);
        let default = SocketAddr::from((Ipv4Addr::LOCALHOST, FPM_PORT));
        let fpm = Fpm {
            listen: s.value_or("listen", default, socket_address),
            quiet: s.value_or("quiet", Duration::from_secs(5), |value| {
                let quiet = seconds(LONGEST_QUIET)(value)?;
                if quiet.is_zero() {
                    return Err(
                        "must be at least 1 second: zebra does not mark the end of its replay".to_owned()
                    );
                }
                Ok(quiet)
            }),
            retain: s.value_or("retain", Duration::from_mins(2), seconds(LONGEST_RETAIN)),
            tables: Vec::new(),
        };
        (Some(fpm), tables)
    })
}

/// Reads `[netlink]` from the top of the text: itself without its tables, and the tables.
pub(super) fn netlink(top: &mut Section<'_, '_, '_>) -> (Option<Netlink>, Vec<RouteTable>) {
    let Some(value) = top.table("netlink") else { return (None, Vec::new()) };
    read("netlink", Some(value), top.report, |s| {
        let tables = tables(s, "netlink.table", true);
        let receive_buffer = s.value_or("receive_buffer", RECEIVE_BUFFER, integer(65_536..=1 << 30));
        (Some(Netlink { receive_buffer, tables: Vec::new() }), tables)
    })
}

fn tables(s: &mut Section<'_, '_, '_>, section: &'static str, with_protocols: bool) -> Vec<RouteTable> {
    if s.is_absent_or_empty("table") {
        s.error("table", format!("there is no table to take routes from; the smallest: [[{section}]]"));
    }
    let one = |s: &mut Section<'_, '_, '_>| RouteTable {
        vrf: s.opt_or("vrf", "default".to_owned(), name),
        table: s.opt_or("table", MAIN, integer(1..=i64::from(u32::MAX))),
        namespace: s.opt("namespace", namespace).map(|n| n.value),
        protocols: if with_protocols { protocols(s) } else { None },
    };
    s.tables("table").into_iter().map(|value| read(section, Some(value), s.report, one)).collect()
}

fn protocols(s: &mut Section<'_, '_, '_>) -> Option<Vec<u8>> {
    let list: Vec<u8> = s.list("protocols", protocol)?.into_iter().flatten().map(|p| p.value).collect();
    if s.is_absent_or_empty("protocols") {
        s.error("protocols", "holds none: name some, for example protocols = [\"bird\", \"static\"]");
    }
    Some(list)
}

fn protocol(value: &Value<'_>) -> Result<u8, String> {
    let Some(word) = value.as_str() else { return integer(0..=255)(value) };
    PROTOCOLS.iter().find(|(name, _)| *name == word).map(|(_, number)| *number).ok_or_else(|| {
        let hint = hint(word, PROTOCOLS.iter().map(|(name, _)| *name));
        format!("{word:?} is no routing protocol by name{hint}; a number from 0 to 255 is taken, too")
    })
}

/// Each VRF takes one table, each table goes to one VRF. Without a namespace of its own a table is in its VRF's.
pub(super) fn resolve(drafts: &[RouteTable], vrfs: &Vrfs, report: &mut Report<'_>) -> Vec<NetlinkTable> {
    let mut by_vrf: BTreeMap<VrfId, Place> = BTreeMap::new();
    let mut by_table: BTreeMap<(Option<String>, u32), Place> = BTreeMap::new();
    let mut tables = Vec::with_capacity(drafts.len());
    for draft in drafts {
        let (Some(name), Some(number)) = (&draft.vrf, draft.table) else { continue };
        let Some(vrf) = vrfs.resolve(name, report) else { continue };
        if let Some(first) = by_vrf.insert(vrf, name.place) {
            let line = report.line(first);
            report.error(
                name.place,
                format!("VRF {:?} has a table already (line {line}): keep one", name.value),
            );
        }
        let of_vrf = vrfs.list.get(usize::from(vrf.0)).and_then(|vrf| vrf.namespace.clone());
        let namespace = draft.namespace.clone().or(of_vrf);
        if let Some(first) = by_table.insert((namespace.clone(), number.value), number.place) {
            let line = report.line(first);
            let message = format!(
                "table {} of that namespace goes to another VRF already (line {line}): give each its own table or \
                 namespace",
                number.value
            );
            report.error_once(number.place, message);
        }
        let protocols = draft.protocols.clone();
        tables.push(NetlinkTable { vrf, table: number.value, namespace, protocols });
    }
    tables
}

impl From<NetlinkTable> for FpmTable {
    fn from(table: NetlinkTable) -> Self {
        Self { vrf: table.vrf, table: table.table, namespace: table.namespace }
    }
}
