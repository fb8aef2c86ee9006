//! Routes become UPDATE messages, as many prefixes in each as share a next hop and fit.

use std::collections::BTreeMap;
use std::net::IpAddr;

use ipnetwork::IpNetwork;
use rustbgpd_wire::{
    Afi, AsPath, AsPathSegment, EncodeError, Ipv4NlriEntry, Ipv4Prefix, Ipv4UnicastMode, Ipv6Prefix, Message,
    MpReachNlri, MpUnreachNlri, NlriEntry, Origin, PathAttribute, Prefix, Safi, UpdateMessage,
    encode_message,
};

use crate::source::Family;
use crate::source::bgp::protocol::Negotiated;

/// Prefixes in a message: 150 of the longest kind (21 bytes with their path identifier) stay below 4096 bytes.
const PREFIXES: usize = 150;
/// Whom the demo's routes come from: the AS of the far side of every circuit.
const FAR_AS: u32 = 12_076;

/// One path of a prefix.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::source::bgp) struct Path {
    pub prefix: IpNetwork,
    /// Path identifier (RFC 7911), sent where add-path was negotiated.
    pub id: u32,
    pub next_hop: IpAddr,
}

/// A prefix's family.
pub(super) fn family(prefix: IpNetwork) -> Family {
    if prefix.is_ipv4() { Family::Ipv4 } else { Family::Ipv6 }
}

/// The UPDATEs that announce `paths`; those of families that the peer does not take, or whose next hop is of the
/// other family, are left out.
pub(in crate::source::bgp) fn announcements(paths: &[Path], negotiated: &Negotiated) -> Vec<Vec<u8>> {
    let mut groups: BTreeMap<(bool, IpAddr), Vec<NlriEntry>> = BTreeMap::new();
    for path in paths.iter().filter(|path| path.prefix.is_ipv4() == path.next_hop.is_ipv4()) {
        let entries = groups.entry((path.prefix.is_ipv6(), path.next_hop)).or_default();
        entries.push(entry(path.prefix, path.id));
    }
    let mut messages = Vec::new();
    for ((_, next_hop), entries) in &groups {
        for chunk in entries.chunks(PREFIXES) {
            messages.push(announcement(*next_hop, chunk, negotiated));
        }
    }
    encoded(messages, negotiated)
}

/// The UPDATEs that withdraw these paths.
pub(in crate::source::bgp) fn withdrawals(
    paths: &[(IpNetwork, u32)],
    negotiated: &Negotiated,
) -> Vec<Vec<u8>> {
    let mut messages = Vec::new();
    for wanted in [Family::Ipv4, Family::Ipv6] {
        let entries: Vec<NlriEntry> = paths
            .iter()
            .filter(|(prefix, _)| family(*prefix) == wanted)
            .map(|(prefix, id)| entry(*prefix, *id))
            .collect();
        for chunk in entries.chunks(PREFIXES) {
            messages.push(match wanted {
                Family::Ipv4 => build(&[], &classic(chunk), &[], wanted, negotiated),
                Family::Ipv6 => build(&[], &[], &[unreach(chunk)], wanted, negotiated),
            });
        }
    }
    encoded(messages, negotiated)
}

type Built = (Family, Result<UpdateMessage, EncodeError>);

fn announcement(next_hop: IpAddr, entries: &[NlriEntry], negotiated: &Negotiated) -> Built {
    let mut attributes = vec![
        PathAttribute::Origin(Origin::Igp),
        PathAttribute::AsPath(AsPath { segments: vec![AsPathSegment::AsSequence(vec![FAR_AS])] }),
        PathAttribute::LocalPref(100),
    ];
    match next_hop {
        IpAddr::V4(address) => {
            attributes.push(PathAttribute::NextHop(address));
            build(&classic(entries), &[], &attributes, Family::Ipv4, negotiated)
        }
        IpAddr::V6(_) => {
            attributes.push(reach(next_hop, entries));
            build(&[], &[], &attributes, Family::Ipv6, negotiated)
        }
    }
}

fn build(
    announced: &[Ipv4NlriEntry],
    withdrawn: &[Ipv4NlriEntry],
    attributes: &[PathAttribute],
    family: Family,
    negotiated: &Negotiated,
) -> Built {
    let add_path = negotiated.add_path_send.contains(&family);
    let mode = Ipv4UnicastMode::Body;
    let four_byte_as = negotiated.four_byte_as;
    (family, UpdateMessage::try_build(announced, withdrawn, attributes, four_byte_as, add_path, mode))
}

fn encoded(messages: Vec<Built>, negotiated: &Negotiated) -> Vec<Vec<u8>> {
    let taken = messages.into_iter().filter(|(family, _)| negotiated.families.contains(family));
    let bytes = taken.filter_map(|(_, message)| {
        let bytes = message.and_then(|message| encode_message(&Message::Update(message)));
        bytes.inspect_err(|error| tracing::error!(%error, "demo UPDATE could not be encoded")).ok()
    });
    bytes.map(|bytes| bytes.to_vec()).collect()
}

fn entry(prefix: IpNetwork, path_id: u32) -> NlriEntry {
    let prefix = match prefix {
        IpNetwork::V4(prefix) => Prefix::V4(Ipv4Prefix::new(prefix.ip(), prefix.prefix())),
        IpNetwork::V6(prefix) => Prefix::V6(Ipv6Prefix::new(prefix.ip(), prefix.prefix())),
    };
    NlriEntry { path_id, prefix }
}

fn classic(entries: &[NlriEntry]) -> Vec<Ipv4NlriEntry> {
    let ipv4 = |entry: &NlriEntry| match entry.prefix {
        Prefix::V4(prefix) => Some(Ipv4NlriEntry { path_id: entry.path_id, prefix }),
        Prefix::V6(_) => None,
    };
    entries.iter().filter_map(ipv4).collect()
}

fn reach(next_hop: IpAddr, entries: &[NlriEntry]) -> PathAttribute {
    PathAttribute::MpReachNlri(Box::new(MpReachNlri {
        afi: Afi::Ipv6,
        safi: Safi::Unicast,
        next_hop,
        link_local_next_hop: None,
        announced: entries.to_vec(),
        flowspec_announced: Vec::new(),
        evpn_announced: Vec::new(),
        bgpls_announced: Vec::new(),
        vpn_announced: Vec::new(),
        labeled_announced: Vec::new(),
        rtc_announced: Vec::new(),
    }))
}

fn unreach(entries: &[NlriEntry]) -> PathAttribute {
    PathAttribute::MpUnreachNlri(Box::new(MpUnreachNlri {
        afi: Afi::Ipv6,
        safi: Safi::Unicast,
        withdrawn: entries.to_vec(),
        flowspec_withdrawn: Vec::new(),
        evpn_withdrawn: Vec::new(),
        bgpls_withdrawn: Vec::new(),
        vpn_withdrawn: Vec::new(),
        labeled_withdrawn: Vec::new(),
        rtc_withdrawn: Vec::new(),
    }))
}
