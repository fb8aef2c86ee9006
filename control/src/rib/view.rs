//! Answers for the API: routes with their whole chain, groups, neighbours, sources.

use std::net::IpAddr;

use dataplane::ids::{AdjId, GroupId, SubIfId, VrfId};
use ipnetwork::IpNetwork;
use serde::Serialize;

use super::Rib;
use super::adjacency::{AdjKey, Fitness, Neighbour};
use super::attrs::{Own, Target};
use super::groups::{GroupKey, Member};
use super::prefix::{AnyPrefix, Prefix, V4, V6, with_prefix};
use super::resolve::Hop;
use super::table::{Entry, Path};
use crate::prefix::Prefix as _;
use crate::source::{Family, Origin, SourceId};

/// A (sub-interface, gateway) pair that a next hop resolves to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct HopView {
    /// Number of the sub-interface.
    pub subif: u16,
    /// Whom packets are sent to there.
    pub gateway: IpAddr,
    /// Relative share.
    pub weight: u16,
}

/// A next hop as learned.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct NextHopView {
    /// Its address.
    pub address: IpAddr,
    /// Relative share.
    pub weight: u8,
    /// Where it leads; empty if it is unresolved.
    pub resolved: Vec<HopView>,
}

/// One path of a prefix.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct PathView {
    /// Number of its source.
    pub source: u32,
    /// `connected`, `static`, `bgp`, `fpm` or `netlink`; `local` for our own addresses, `neighbour` for resolved neighbours.
    pub kind: &'static str,
    /// Administrative distance.
    pub distance: u8,
    /// RFC 7911's path identifier.
    pub path_id: u32,
    /// Whether it is used: the best, or one of several that are equal.
    pub used: bool,
    /// Whether it stands ready to take over from those that are used.
    pub backup: bool,
    /// Whether its source went since it was announced.
    pub stale: bool,
    /// `discard`, `local`, `connected`, `neighbour` or `via`.
    pub target: &'static str,
    /// The sub-interface of a connected prefix or neighbour.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub subif: Option<u16>,
    /// Next hops as learned, and what they resolve to.
    pub next_hops: Vec<NextHopView>,
    /// `LOCAL_PREF`.
    pub local_pref: u32,
    /// `AS_PATH`.
    pub as_path: Vec<u32>,
    /// `igp`, `egp` or `incomplete`.
    pub origin: &'static str,
    /// `MULTI_EXIT_DISC`.
    pub med: u32,
    /// COMMUNITIES, as `asn:value`.
    pub communities: Vec<String>,
}

/// A prefix with its paths and what the FIB holds for it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct RouteView {
    /// The table.
    pub vrf: u16,
    /// The prefix.
    #[serde(serialize_with = "text")]
    pub prefix: IpNetwork,
    /// All paths, used or not.
    pub paths: Vec<PathView>,
    /// The group that its FIB entry points to; none: it is not in the FIB.
    pub group: Option<u32>,
    /// That group's members.
    pub members: Vec<MemberView>,
}

/// A part of a table.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Page {
    /// The prefixes, in order.
    pub routes: Vec<RouteView>,
    /// Where the next page starts, if there is one.
    #[serde(serialize_with = "optional_text")]
    pub next: Option<IpNetwork>,
}

/// A member of a group.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct MemberView {
    /// Number of its adjacency.
    pub adjacency: u32,
    /// Its sub-interface.
    pub subif: u16,
    /// Its gateway; none for a connected prefix.
    pub gateway: Option<IpAddr>,
    /// Relative share.
    pub weight: u16,
    /// Whether it only stands in when no other member sends.
    pub backup: bool,
    /// `live`, `unresolved` or `down`.
    pub state: &'static str,
    /// How many of the group's buckets it has.
    pub buckets: usize,
}

/// A next-hop group.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct GroupView {
    /// Its number.
    pub id: u32,
    /// `connected`, `neighbour` or `via`.
    pub kind: &'static str,
    /// What refers to it: FIB entries, and attributes that lead there.
    pub references: u32,
    /// How many buckets it has.
    pub buckets: u32,
    /// Its members.
    pub members: Vec<MemberView>,
}

/// A neighbour.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct NeighbourView {
    /// Its sub-interface.
    pub subif: u16,
    /// Its address.
    pub address: IpAddr,
    /// Its MAC address, if it is resolved.
    pub mac: Option<String>,
    /// `reachable`, `failed` or `incomplete`.
    pub state: &'static str,
}

/// A source in a VRF.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct SourceView {
    /// Its number.
    pub source: u32,
    /// Its table.
    pub vrf: u16,
    /// `connected`, `static`, `bgp`, `fpm`, `netlink` or `leak`.
    pub kind: &'static str,
    /// Administrative distance.
    pub distance: u8,
    /// IPv4 paths.
    pub ipv4: usize,
    /// Those of them that are stale.
    pub ipv4_stale: usize,
    /// IPv6 paths.
    pub ipv6: usize,
    /// Those of them that are stale.
    pub ipv6_stale: usize,
    /// Default routes that were refused; see `docs/routes.md`.
    pub refused_defaults: u64,
}

/// Most prefixes that are looked at for a page.
const LOOKED: usize = 4096;

fn text<S: serde::Serializer>(prefix: &IpNetwork, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(prefix)
}

#[expect(clippy::ref_option, reason = "serde asks for this form")]
fn optional_text<S: serde::Serializer>(prefix: &Option<IpNetwork>, serializer: S) -> Result<S::Ok, S::Error> {
    match prefix {
        Some(prefix) => serializer.collect_str(prefix),
        None => serializer.serialize_none(),
    }
}

impl Rib {
    /// At most `limit` prefixes of a table in order, from `start` on (`None`: the first). With `only`, those that one
    /// of these sources announced: then a page may have fewer, even none, as no more than a few thousand prefixes are
    /// looked at.
    pub fn routes(
        &self,
        vrf: VrfId,
        family: Family,
        start: Option<IpNetwork>,
        limit: usize,
        only: Option<&[SourceId]>,
    ) -> Page {
        match (start.map(AnyPrefix::from), family) {
            (Some(AnyPrefix::V4(start)), Family::Ipv4) => self.page(vrf, start, limit, only),
            (_, Family::Ipv4) => self.page(vrf, V4::new(0, 0), limit, only),
            (Some(AnyPrefix::V6(start)), Family::Ipv6) => self.page(vrf, start, limit, only),
            (_, Family::Ipv6) => self.page(vrf, V6::new(0, 0), limit, only),
        }
    }

    fn page<K: Prefix>(&self, vrf: VrfId, start: K, limit: usize, only: Option<&[SourceId]>) -> Page {
        let mut page = Page { routes: Vec::new(), next: None };
        let Some(tables) = self.vrfs.get(usize::from(vrf.0)) else { return page };
        let wanted = |path: &Path| only.is_none_or(|ids| ids.contains(&self.sources.get(path.source).id));
        for (looked, (key, entry)) in K::afi(tables).table.iter_from(start).enumerate() {
            if page.routes.len() >= limit || looked >= LOOKED {
                page.next = Some(key.network());
                break;
            }
            if entry.paths.as_slice().iter().any(wanted) {
                page.routes.push(self.route_view(vrf, key, entry));
            }
        }
        page
    }

    /// How many prefixes a table has.
    pub fn route_count(&self, vrf: VrfId, family: Family) -> usize {
        let Some(tables) = self.vrfs.get(usize::from(vrf.0)) else { return 0 };
        match family {
            Family::Ipv4 => tables.v4.table.len(),
            Family::Ipv6 => tables.v6.table.len(),
        }
    }

    /// The route of exactly this prefix.
    pub fn route(&self, vrf: VrfId, prefix: IpNetwork) -> Option<RouteView> {
        let tables = self.vrfs.get(usize::from(vrf.0))?;
        with_prefix!(AnyPrefix::from(prefix), p => {
            Prefix::afi(tables).table.get(p).map(|entry| self.route_view(vrf, p, entry))
        })
    }

    /// The route that packets to `address` take: the longest match in the FIB.
    pub fn lookup(&self, vrf: VrfId, address: IpAddr) -> Option<RouteView> {
        with_prefix!(AnyPrefix::host(address), p => self.longest(vrf, p))
    }

    /// The route that packets to a whole prefix take, where there is none more specific: the longest in the FIB that
    /// covers it.
    pub fn cover(&self, vrf: VrfId, prefix: IpNetwork) -> Option<RouteView> {
        with_prefix!(AnyPrefix::from(prefix), p => self.longest(vrf, p))
    }

    fn longest<K: Prefix>(&self, vrf: VrfId, of: K) -> Option<RouteView> {
        let table = &K::afi(self.vrfs.get(usize::from(vrf.0))?).table;
        let mut covering = table.covering(of.first(), 0, of.len());
        let (key, entry) = covering.find(|(_, entry)| entry.installed != GroupId::NO_ROUTE)?;
        Some(self.route_view(vrf, key, entry))
    }

    fn route_view<K: Prefix>(&self, vrf: VrfId, key: K, entry: &Entry) -> RouteView {
        let (mut best, mut backup) = (Vec::new(), Vec::new());
        self.used_paths(vrf, key, &mut best, &mut backup);
        let path = |p: &Path| self.path_view(*p, best.contains(p), backup.contains(p));
        RouteView {
            vrf: vrf.0,
            prefix: key.network(),
            paths: entry.paths.as_slice().iter().map(path).collect(),
            group: (entry.installed != GroupId::NO_ROUTE).then_some(entry.installed.0),
            members: self.members(entry.installed),
        }
    }

    fn path_view(&self, path: Path, used: bool, backup: bool) -> PathView {
        let source = self.sources.get(path.source);
        let slot = self.slots.get(path.slot);
        let attributes = slot.attributes().map(|a| (**a).clone()).unwrap_or_default();
        let (kind, target, subif) = match &slot.target {
            Target::Own(Own::Local) => ("local", "local", None),
            Target::Own(Own::Broadcast) => ("connected", "discard", None),
            Target::Own(Own::Glean(subif)) => ("connected", "connected", Some(subif.0)),
            Target::Own(Own::Host(subif, _)) => ("neighbour", "neighbour", Some(subif.0)),
            Target::Discard => (source.kind.name(), "discard", None),
            Target::Via(_) => (source.kind.name(), "via", None),
        };
        let named = slot.legs().iter().flat_map(|leg| self.next_hops.named(leg));
        let next_hops = named.map(|(tracked, weight)| NextHopView {
            address: tracked.address,
            weight,
            resolved: tracked.hops().iter().map(hop_view).collect(),
        });
        PathView {
            source: source.id.0,
            kind,
            distance: self.sources.distance(source.kind),
            path_id: path.path_id,
            used,
            backup,
            stale: path.stamp != source.stamp(),
            target,
            subif,
            next_hops: next_hops.collect(),
            local_pref: attributes.local_pref,
            as_path: attributes.as_path,
            origin: match attributes.origin {
                Origin::Igp => "igp",
                Origin::Egp => "egp",
                Origin::Incomplete => "incomplete",
            },
            med: attributes.med,
            communities: attributes
                .communities
                .iter()
                .map(|c| format!("{}:{}", c >> 16, c & 0xffff))
                .collect(),
        }
    }

    fn members(&self, id: GroupId) -> Vec<MemberView> {
        let Some(group) = self.groups.get(id) else { return Vec::new() };
        let buckets = self.buckets(id);
        let member = |Member { adj, weight, backup, .. }: &Member| {
            let (subif, gateway) = match self.groups.adjacencies.get(*adj)?.key {
                AdjKey::Glean(subif) => (subif, None),
                AdjKey::Neighbour(subif, address) => (subif, Some(address)),
            };
            Some(MemberView {
                adjacency: adj.0,
                subif: subif.0,
                gateway,
                weight: *weight,
                backup: *backup,
                state: match self.groups.adjacencies.fitness(*adj) {
                    Fitness::Live => "live",
                    Fitness::Unresolved => "unresolved",
                    Fitness::Down => "down",
                },
                buckets: buckets.iter().filter(|b| *b == adj).count(),
            })
        };
        group.members.iter().filter_map(member).collect()
    }

    /// A group's buckets.
    fn buckets(&self, id: GroupId) -> &[AdjId] {
        let snapshot = self.groups.snapshot();
        snapshot.groups.get(id.0 as usize).map_or(&[], |desc| {
            &snapshot.buckets[desc.first_bucket as usize..(desc.first_bucket + desc.buckets) as usize]
        })
    }

    /// The groups that are referred to, in order of their numbers.
    pub fn groups(&self) -> impl Iterator<Item = GroupView> {
        self.groups.iter().filter(|(_, group)| group.refs > 0).map(|(id, group)| GroupView {
            id: id.0,
            kind: match group.key {
                GroupKey::Glean(_) => "connected",
                GroupKey::Host(..) => "neighbour",
                GroupKey::Via { .. } => "via",
            },
            references: group.refs,
            buckets: self.buckets(id).len() as u32,
            members: self.members(id),
        })
    }

    /// The neighbours that are known or wanted.
    pub fn neighbours(&self) -> impl Iterator<Item = NeighbourView> {
        let known = self.groups.adjacencies.neighbours();
        let unknown = (self.groups.wanted().map(|(s, a)| (s, a, Neighbour::Gone)))
            .filter(|(s, a, _)| self.groups.adjacencies.neighbour(*s, *a) == Neighbour::Gone);
        known.chain(unknown).map(|(subif, address, state)| {
            let (mac, state) = match state {
                Neighbour::Reachable(m) => (Some(m.map(|b| format!("{b:02x}")).join(":")), "reachable"),
                Neighbour::Failed => (None, "failed"),
                Neighbour::Gone => (None, "incomplete"),
            };
            NeighbourView { subif: subif.0, address, mac, state }
        })
    }

    /// The gateways that control is to resolve: a group in use leads over them and there is no MAC address.
    pub fn wanted(&self) -> impl Iterator<Item = (SubIfId, IpAddr)> {
        self.groups.wanted()
    }

    /// All sources that announced something, by VRF.
    pub fn sources(&self) -> impl Iterator<Item = SourceView> {
        self.sources.iter().map(|source| {
            let (v4, v6) = (source.count(Family::Ipv4), source.count(Family::Ipv6));
            SourceView {
                source: source.id.0,
                vrf: source.vrf.0,
                kind: source.kind.name(),
                distance: self.sources.distance(source.kind),
                ipv4: v4.total,
                ipv4_stale: v4.stale,
                ipv6: v6.total,
                ipv6_stale: v6.stale,
                refused_defaults: source.refused_defaults,
            }
        })
    }
}

fn hop_view(hop: &Hop) -> HopView {
    HopView { subif: hop.subif.0, gateway: hop.gateway, weight: hop.weight }
}
