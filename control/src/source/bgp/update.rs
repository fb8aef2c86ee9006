//! One UPDATE becomes route events: NLRI of both kinds, attributes, and RFC 7606's verdict on what is malformed.
//!
//! Chosen here where the standards leave a choice:
//! - An IPv6 next hop of 32 bytes (RFC 2545): the global address, or the link-local one where the global is `::`.
//! - A path with our own AS from an external peer is withdrawn (RFC 4271, section 9.1.2). From an internal peer it
//!   is kept: that router has decided, and we pass nothing on. One that comes back to us from a route reflector, with
//!   our identifier as `ORIGINATOR_ID`, is withdrawn (RFC 4456, section 8).
//! - A path with an `AS_SET` is withdrawn, as RFC 9774 has it.
//! - A well-known attribute that we do not know withdraws the route, as what is malformed does (RFC 7606); RFC 4271,
//!   section 6.3 would end the session.
//! - `LOCAL_PREF` counts from internal peers only; missing, or from an external one, it is 100.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use bytes::Bytes;
use ipnetwork::{IpNetwork, Ipv4Network, Ipv6Network};
use rustbgpd_wire::notification::{NotificationCode, update_subcode};
use rustbgpd_wire::validate::validate_update_attributes_with_options;
use rustbgpd_wire::{
    Afi, AsPath, AsPathSegment, DecodeError, ErrorDisposition, Ipv4NlriEntry, LargeCommunity, MpReachNlri,
    NlriEntry, Origin as WireOrigin, ParsedUpdate, PathAttribute, Prefix, RevisedParsedUpdate, Safi,
    UpdateMessage, UpdateValidationOptions,
};

use super::protocol::Output;
use crate::source::charge::Account;
use crate::source::{Attributes, Family, NextHop, Nlri, Origin, RouteEvent};

const DEFAULT_LOCAL_PREF: u32 = 100;

/// Decodes the UPDATEs of one session.
#[derive(Debug)]
pub(super) struct UpdateDecoder {
    pub ibgp: bool,
    pub local_asn: u32,
    pub router_id: Ipv4Addr,
    pub four_byte_as: bool,
    pub families: Vec<Family>,
    pub add_path: Vec<(Afi, Safi)>,
    /// The attributes of the UPDATE before, shared again where they are equal: speakers send in that order.
    pub last: Arc<Attributes>,
    /// To whom the attributes' memory is booked.
    pub account: Account,
}

/// An UPDATE that ends the session: the NOTIFICATION that is due.
#[derive(Debug)]
pub(super) struct Reset {
    pub code: NotificationCode,
    pub subcode: u8,
    pub data: Bytes,
    pub detail: String,
}

impl From<DecodeError> for Reset {
    fn from(error: DecodeError) -> Self {
        let (code, subcode, data) = error.to_notification();
        Self { code, subcode, data, detail: error.to_string() }
    }
}

/// The prefixes of one UPDATE, sorted by what happens to them.
#[derive(Debug, Default)]
struct Reach {
    withdrawn: Vec<Nlri>,
    classic: Vec<Nlri>,
    classic_next_hop: Option<IpAddr>,
    multi: Vec<Nlri>,
    multi_next_hop: Option<IpAddr>,
}

impl Reach {
    /// What becomes of the announced prefixes, for whoever reads the log.
    fn outcome(&self, withdraw: bool) -> String {
        let done = if withdraw { "withdrawn" } else { "left out of" };
        match (self.classic.iter().chain(&self.multi).next(), self.classic.len() + self.multi.len()) {
            (None, _) => "no route was announced with it".to_owned(),
            (Some(first), 1) => format!("{done}: {}", first.prefix),
            (Some(first), count) => format!("{done}: {} and {} more", first.prefix, count - 1),
        }
    }
}

impl UpdateDecoder {
    /// Decodes `update` and appends what follows from it.
    pub(super) fn decode(&mut self, update: &UpdateMessage, out: &mut Vec<Output>) -> Result<(), Reset> {
        let add_path_ipv4 = self.add_path.contains(&(Afi::Ipv4, Safi::Unicast));
        let RevisedParsedUpdate { update: mut parsed, malformed } =
            update.parse_revised(self.four_byte_as, self.ibgp, add_path_ipv4, &self.add_path)?;
        if malformed.is_empty()
            && let Some(family) = end_of_rib(&parsed)
        {
            if self.families.contains(&family) {
                out.push(Output::Update(vec![RouteEvent::EndOfRib(family)]));
            }
            return Ok(());
        }
        parsed.attributes.iter_mut().for_each(choose_next_hop);
        let mut flaw = malformed
            .iter()
            .max_by_key(|flaw| flaw.disposition)
            .map(|flaw| (flaw.disposition, format!("attribute {}: {}", flaw.type_code, flaw.error)));
        if let Some(invalid) = invalid(&parsed)?
            && flaw.as_ref().is_none_or(|flaw| flaw.0 < invalid.0)
        {
            flaw = Some(invalid);
        }
        let reach = self.reach(&parsed);
        let unusable = flaw.as_ref().is_some_and(|flaw| flaw.0 >= ErrorDisposition::TreatAsWithdraw);
        if let Some((_, detail)) = flaw {
            if unusable && !carries_routes(&parsed) {
                // RFC 7606, section 5.2: with no route to withdraw, the fault may hide the routes themselves.
                let code = NotificationCode::UpdateMessage;
                let subcode = update_subcode::MALFORMED_ATTRIBUTE_LIST;
                return Err(Reset { code, subcode, data: Bytes::new(), detail });
            }
            out.push(Output::Malformed(format!("{detail}; {}", reach.outcome(unusable))));
        }
        let looped = !unusable && self.looped(&parsed.attributes);
        if looped {
            out.push(Output::Looped);
        }
        out.push(Output::Update(self.events(reach, &parsed.attributes, unusable || looped)));
        Ok(())
    }

    /// Collects the prefixes of the families that were negotiated; others are ignored (RFC 4760, section 8).
    fn reach(&self, parsed: &ParsedUpdate) -> Reach {
        let mut reach = Reach::default();
        if self.families.contains(&Family::Ipv4) {
            reach.withdrawn = parsed.withdrawn.iter().filter_map(classic_nlri).collect();
            reach.classic = parsed.announced.iter().filter_map(classic_nlri).collect();
        }
        for attribute in &parsed.attributes {
            match attribute {
                PathAttribute::NextHop(address) => reach.classic_next_hop = Some(IpAddr::V4(*address)),
                PathAttribute::MpReachNlri(mp) if self.takes(mp.afi, mp.safi) => {
                    reach.multi = mp.announced.iter().filter_map(multi_nlri).collect();
                    reach.multi_next_hop = Some(mp.next_hop);
                }
                PathAttribute::MpUnreachNlri(mp) if self.takes(mp.afi, mp.safi) => {
                    reach.withdrawn.extend(mp.withdrawn.iter().filter_map(multi_nlri));
                }
                _ => {}
            }
        }
        reach
    }

    fn takes(&self, afi: Afi, safi: Safi) -> bool {
        family(afi, safi).is_some_and(|family| self.families.contains(&family))
    }

    fn looped(&self, attributes: &[PathAttribute]) -> bool {
        attributes.iter().any(|attribute| match attribute {
            PathAttribute::AsPath(path) => !self.ibgp && path.contains_asn(self.local_asn),
            PathAttribute::OriginatorId(originator) => self.ibgp && *originator == self.router_id,
            _ => false,
        })
    }

    fn events(&mut self, reach: Reach, attributes: &[PathAttribute], withdraw: bool) -> Vec<RouteEvent> {
        let Reach { mut withdrawn, classic, classic_next_hop, multi, multi_next_hop } = reach;
        if withdraw {
            withdrawn.extend(classic);
            withdrawn.extend(multi);
            return self.event(withdrawn, Vec::new(), None, attributes).into_iter().collect();
        }
        if classic.is_empty() {
            return self.event(withdrawn, multi, multi_next_hop, attributes).into_iter().collect();
        }
        let first = self.event(withdrawn, classic, classic_next_hop, attributes);
        let second = self.event(Vec::new(), multi, multi_next_hop, attributes);
        first.into_iter().chain(second).collect()
    }

    /// `None` if nothing comes and nothing goes.
    fn event(
        &mut self,
        withdrawn: Vec<Nlri>,
        announced: Vec<Nlri>,
        next_hop: Option<IpAddr>,
        attributes: &[PathAttribute],
    ) -> Option<RouteEvent> {
        if withdrawn.is_empty() && announced.is_empty() {
            return None;
        }
        if !announced.is_empty() {
            let mut new = self.attributes(next_hop, attributes);
            if *self.last != new {
                new.charge = self.account.charge(size(&new));
                self.last = Arc::new(new);
            }
        }
        Some(RouteEvent::Update { withdrawn, announced, attributes: Arc::clone(&self.last) })
    }

    fn attributes(&self, next_hop: Option<IpAddr>, attributes: &[PathAttribute]) -> Attributes {
        let mut result = Attributes {
            next_hops: next_hop.map(NextHop::new).into_iter().collect(),
            local_pref: DEFAULT_LOCAL_PREF,
            ..Attributes::default()
        };
        for attribute in attributes {
            match attribute {
                PathAttribute::Origin(origin) => {
                    result.origin = match origin {
                        WireOrigin::Igp => Origin::Igp,
                        WireOrigin::Egp => Origin::Egp,
                        WireOrigin::Incomplete => Origin::Incomplete,
                    };
                }
                PathAttribute::AsPath(path) => {
                    result.as_path = path.asns().collect();
                    result.as_path_len = path_length(path);
                }
                PathAttribute::LocalPref(value) if self.ibgp => result.local_pref = *value,
                PathAttribute::Med(value) => result.med = *value,
                PathAttribute::OriginatorId(originator) if self.ibgp => result.originator = Some(*originator),
                PathAttribute::ClusterList(list) if self.ibgp => result.cluster_len = list.len() as u32,
                other => {
                    if let Some(communities) = other.communities() {
                        result.communities = communities.to_vec();
                    }
                    if let Some(large) = other.large_communities() {
                        let parts = |c: &LargeCommunity| [c.global_admin, c.local_data1, c.local_data2];
                        result.large_communities = large.iter().map(parts).collect();
                    }
                }
            }
        }
        result
    }
}

/// What a set of attributes takes of memory, in bytes, with its share of the tables that hold it.
fn size(attributes: &Attributes) -> usize {
    let lists = 4 * (attributes.as_path.len() + attributes.communities.len());
    2 * size_of::<Attributes>() + lists + 12 * attributes.large_communities.len()
}

/// What is wrong with the attributes as a set, if it does not end the session.
fn invalid(parsed: &ParsedUpdate) -> Result<Option<(ErrorDisposition, String)>, Reset> {
    let has_body = !parsed.announced.is_empty();
    let has_nlri = carries_routes(parsed);
    // Link-local next hops are let through: whether one is of use is for next-hop resolution to say.
    let mut options = UpdateValidationOptions::default();
    options.allow_ipv4_link_local_mp_reach_next_hop = true;
    options.link_local_next_hop = true;
    let valid = validate_update_attributes_with_options(
        &parsed.attributes,
        has_nlri,
        has_body,
        // The library asks for NEXT_HOP on external sessions only; RFC 4271, section 5.1.3 always does.
        true,
        options,
    );
    match valid {
        Ok(()) => Ok(None),
        Err(error) if error.disposition == ErrorDisposition::SessionReset => Err(Reset {
            code: NotificationCode::UpdateMessage,
            subcode: error.subcode,
            data: Bytes::from(error.data),
            detail: format!("invalid attributes (subcode {})", error.subcode),
        }),
        Err(error) => {
            let detail = match error.subcode {
                update_subcode::MISSING_WELLKNOWN => {
                    format!("mandatory attribute {:?} is missing", error.data)
                }
                update_subcode::INVALID_NEXT_HOP => unusable_next_hop(&error.data),
                update_subcode::UNRECOGNIZED_WELLKNOWN => "unknown well-known attribute".to_owned(),
                subcode => format!("invalid attributes (subcode {subcode})"),
            };
            Ok(Some((error.disposition, detail)))
        }
    }
}

fn unusable_next_hop(bytes: &[u8]) -> String {
    let v6 = || bytes.first_chunk().map(|octets: &[u8; 16]| IpAddr::from(*octets));
    let address = <[u8; 4]>::try_from(bytes).map(IpAddr::from).ok().or_else(v6);
    address.map_or_else(|| format!("unusable next hop {bytes:?}"), |a| format!("unusable next hop {a}"))
}

/// The family that we know under AFI and SAFI.
pub(super) fn family(afi: Afi, safi: Safi) -> Option<Family> {
    match (afi, safi) {
        (Afi::Ipv4, Safi::Unicast) => Some(Family::Ipv4),
        (Afi::Ipv6, Safi::Unicast) => Some(Family::Ipv6),
        _ => None,
    }
}

/// RFC 4724, section 2: nothing in it at all, or only an empty `MP_UNREACH_NLRI`.
fn end_of_rib(parsed: &ParsedUpdate) -> Option<Family> {
    if !parsed.withdrawn.is_empty() || !parsed.announced.is_empty() {
        return None;
    }
    match parsed.attributes.as_slice() {
        [] => Some(Family::Ipv4),
        [PathAttribute::MpUnreachNlri(mp)] if mp.withdrawn.is_empty() => family(mp.afi, mp.safi),
        _ => None,
    }
}

fn choose_next_hop(attribute: &mut PathAttribute) {
    if let PathAttribute::MpReachNlri(mp) = attribute
        && let MpReachNlri { next_hop: IpAddr::V6(global), link_local_next_hop: Some(local), .. } = **mp
        && global.is_unspecified()
    {
        mp.next_hop = IpAddr::V6(local);
    }
}

fn carries_routes(parsed: &ParsedUpdate) -> bool {
    !parsed.announced.is_empty()
        || parsed.attributes.iter().any(|attribute| matches!(attribute, PathAttribute::MpReachNlri(_)))
}

/// RFC 4271, section 9.1.2.2 a.
fn path_length(path: &AsPath) -> u32 {
    let length = |segment: &AsPathSegment| match segment {
        AsPathSegment::AsSequence(asns) => asns.len() as u32,
        AsPathSegment::AsSet(_) => 1,
    };
    path.segments.iter().map(length).sum()
}

fn classic_nlri(entry: &Ipv4NlriEntry) -> Option<Nlri> {
    let prefix = Ipv4Network::new(entry.prefix.addr, entry.prefix.len).ok()?;
    Some(Nlri { prefix: IpNetwork::V4(prefix), path_id: entry.path_id })
}

fn multi_nlri(entry: &NlriEntry) -> Option<Nlri> {
    let prefix = match entry.prefix {
        Prefix::V4(prefix) => IpNetwork::V4(Ipv4Network::new(prefix.addr, prefix.len).ok()?),
        Prefix::V6(prefix) => IpNetwork::V6(Ipv6Network::new(prefix.addr, prefix.len).ok()?),
    };
    Some(Nlri { prefix, path_id: entry.path_id })
}
