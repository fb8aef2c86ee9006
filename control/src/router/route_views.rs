//! `show routes`: pages of a table, and the whole chain behind an address or prefix.

use std::net::IpAddr;

use dataplane::ids::{AdjId, SubIfId, VrfId};
use ipnetwork::IpNetwork;
use serde_json::Value;

use super::control::Control;
use super::views::json;
use crate::api::view;
use crate::rib::{AdjacencyDesc, MemberView, RouteView};
use crate::source::{Family, SourceId};

/// Routes on a page: so few that the control thread is not held up.
const PAGE: usize = 250;

/// What is asked.
pub struct Question<'a> {
    /// Of this VRF only.
    pub vrf: Option<&'a str>,
    /// An address or prefix.
    pub target: Option<&'a str>,
    /// Of this source only.
    pub source: Option<&'a str>,
    /// The cursor that the last page gave.
    pub after: Option<&'a str>,
}

impl Control {
    /// Answers it.
    pub(super) fn route_views(&self, question: &Question) -> Result<Value, String> {
        match question.target {
            Some(target) => self.route_chain(question, target),
            None => self.route_page(question).and_then(|page| json(&page)),
        }
    }

    /// One page of routes: VRF by VRF, IPv4 before IPv6. A cursor is `VRF number/family/prefix`.
    fn route_page(&self, question: &Question) -> Result<view::Routes, String> {
        let vrfs = self.vrfs_of(question)?;
        let only = self.sources_of(question)?;
        let mut tables = vrfs.iter().flat_map(|vrf| [(*vrf, Family::Ipv4), (*vrf, Family::Ipv6)]);
        let (mut table, mut start) = (tables.next(), None);
        if let Some(cursor) = question.after {
            let (at, prefix) = parse_cursor(cursor).ok_or("the cursor is not one that a page gave")?;
            while table.is_some_and(|table| table != at) {
                table = tables.next();
            }
            start = prefix;
        }
        let mut page = view::Routes { total: self.fibs.len(), ..view::Routes::default() };
        while let Some((vrf, family)) = table {
            let limit = PAGE - page.routes.len();
            let part = self.rib.routes(vrf, family, start, limit, only.as_deref());
            page.routes.extend(part.routes.iter().map(|route| self.route(route)));
            if let Some(next) = part.next {
                page.next = Some(cursor(vrf, family, Some(next)));
                return Ok(page);
            }
            (table, start) = (tables.next(), None);
            if page.routes.len() >= PAGE {
                page.next = table.map(|(vrf, family)| cursor(vrf, family, None));
                return Ok(page);
            }
        }
        Ok(page)
    }

    fn route(&self, route: &RouteView) -> view::Route {
        // What is used comes first; a route that is not in the FIB shows what it would be.
        let used: Vec<_> = route.paths.iter().filter(|path| path.used).collect();
        let shown = if used.is_empty() { route.paths.iter().collect() } else { used };
        let mut sources: Vec<_> = shown.iter().map(|path| self.path_source(path)).collect();
        sources.dedup();
        let via = shown.iter().flat_map(|path| path.next_hops.iter().map(|hop| hop.address.to_string()));
        // Where packets go now: not a backup that only stands ready.
        let is_used = |member: &&MemberView| member.buckets > 0;
        let used = route.members.iter().filter(is_used);
        let mut interfaces: Vec<_> = used.map(|member| self.sub_if_name(SubIfId(member.subif))).collect();
        interfaces.dedup();
        view::Route {
            vrf: self.vrf_name(VrfId(route.vrf)),
            prefix: route.prefix.to_string(),
            source: sources.join(" "),
            installed: route.group.is_some(),
            via: if shown.iter().all(|path| path.target == "via") {
                via.collect()
            } else {
                shown.iter().map(|path| path.target.to_string()).collect()
            },
            interfaces,
            as_path: shown.first().map(|path| path.as_path.clone()).unwrap_or_default(),
            group: route.group.unwrap_or(0),
        }
    }

    pub(super) fn path_source(&self, path: &crate::rib::PathView) -> String {
        match path.kind {
            "bgp" => self.source_name(path.source),
            kind => kind.to_string(),
        }
    }

    /// The routes of an address or prefix, with their whole chains: in one VRF, or in each that has one. Of a prefix that
    /// is no route itself, the route that covers it.
    fn route_chain(&self, question: &Question, target: &str) -> Result<Value, String> {
        let only = self.sources_of(question)?;
        let in_vrf = |vrf: &VrfId| -> Result<Option<RouteView>, String> {
            if target.contains('/') {
                let prefix: IpNetwork = target.parse().map_err(|_| format!("`{target}` is not a prefix"))?;
                Ok(self.rib.route(*vrf, prefix).or_else(|| self.rib.cover(*vrf, prefix)))
            } else {
                let address: IpAddr = target.parse().map_err(|_| format!("`{target}` is not an address"))?;
                Ok(self.rib.lookup(*vrf, address))
            }
        };
        let found = self.vrfs_of(question)?.iter().map(in_vrf).collect::<Result<Vec<_>, _>>()?;
        let mut found: Vec<_> = found.into_iter().flatten().collect();
        if let Some(only) = &only {
            for route in &mut found {
                route.paths.retain(|path| only.contains(&SourceId(path.source)));
            }
            found.retain(|route| !route.paths.is_empty());
        }
        if found.is_empty() {
            let place = question.vrf.map_or("any VRF".to_string(), |name| format!("VRF `{name}`"));
            let whose = question.source.map_or(String::new(), |name| format!(" from `{name}`"));
            return Err(format!("no route for {target}{whose} in {place}"));
        }
        let mut value = json(&found)?;
        for (route, value) in found.iter().zip(value.as_array_mut().into_iter().flatten()) {
            let members = value.get_mut("members").and_then(Value::as_array_mut).into_iter().flatten();
            for (member, value) in route.members.iter().zip(members) {
                self.describe_member(member, value);
            }
        }
        self.put_names(&mut value);
        Ok(value)
    }

    /// Adds to a member what its adjacency does: the MAC address that it sends to, and what its sub-interface sent.
    fn describe_member(&self, member: &MemberView, value: &mut Value) {
        let Value::Object(value) = value else { return };
        let mac = match self.adjacency(AdjId(member.adjacency)) {
            AdjacencyDesc::Forward { mac, .. } => super::views::mac(mac).into(),
            _ => Value::Null,
        };
        value.insert("mac".into(), mac);
        let sent = self.workers.counters.iter();
        let sent = sent.map(|worker| worker.sub_interface(SubIfId(member.subif)).sent.packets.get());
        value.insert("packets_sent_there".into(), sent.sum::<u64>().into());
    }

    fn vrfs_of(&self, question: &Question) -> Result<Vec<VrfId>, String> {
        match question.vrf {
            Some(name) => Ok(vec![self.vrf_by_name(name)?]),
            None => Ok((0..self.config.vrfs.len()).map(|i| VrfId(i as u16)).collect()),
        }
    }

    /// The sources of the name, or kind, that is asked for.
    fn sources_of(&self, question: &Question) -> Result<Option<Vec<SourceId>>, String> {
        let Some(wanted) = question.source else { return Ok(None) };
        let mut known: Vec<(SourceId, String, &str)> = Vec::new();
        for source in self.rib.sources() {
            known.push((SourceId(source.source), self.source_name(source.source), source.kind));
        }
        let named = known.iter().filter(|(_, name, kind)| name == wanted || *kind == wanted);
        let ids: Vec<SourceId> = named.map(|(id, ..)| *id).collect();
        if ids.is_empty() {
            let mut names: Vec<_> = known.into_iter().map(|(_, name, _)| name).collect();
            names.sort_unstable();
            names.dedup();
            return Err(format!(
                "no source `{wanted}` has announced anything; those that have: {}",
                names.join(", ")
            ));
        }
        Ok(Some(ids))
    }
}

fn cursor(vrf: VrfId, family: Family, prefix: Option<IpNetwork>) -> String {
    let family = if family == Family::Ipv4 { 4 } else { 6 };
    format!("{}/{family}/{}", vrf.0, prefix.map(|p| p.to_string()).unwrap_or_default())
}

fn parse_cursor(cursor: &str) -> Option<((VrfId, Family), Option<IpNetwork>)> {
    let mut parts = cursor.splitn(3, '/');
    let vrf = VrfId(parts.next()?.parse().ok()?);
    let family = match parts.next()? {
        "4" => Family::Ipv4,
        "6" => Family::Ipv6,
        _ => return None,
    };
    let prefix = match parts.next()? {
        "" => None,
        prefix => Some(prefix.parse().ok()?),
    };
    Some(((vrf, family), prefix))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cursor_is_read_as_it_was_written() {
        let prefix: IpNetwork = "10.1.0.0/16".parse().unwrap();
        for (family, prefix) in [(Family::Ipv4, Some(prefix)), (Family::Ipv6, None)] {
            let text = cursor(VrfId(3), family, prefix);
            assert_eq!(parse_cursor(&text), Some(((VrfId(3), family), prefix)));
        }
        for bad in ["", "1", "1/5/", "x/4/", "1/4/nonsense"] {
            assert_eq!(parse_cursor(bad), None);
        }
    }
}
