//! What `[bgp]` says about other things by name: VRFs, filters, peers, and the circuit that a peer is on.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use super::check::Subs;
use super::draft::{Announce, Draft, Peer};
use super::errors::{At, Place, Report};
use super::model::{AnnounceLimits, Announcement, BgpPeer, Filter, PeeringKind};
use super::names::Names;
use super::vrfs::Vrfs;

/// The peers with all that concerns them.
pub(super) fn peers(
    draft: &Draft,
    subs: &Subs<'_>,
    vrfs: &Vrfs,
    report: &mut Report<'_>,
) -> Vec<Option<BgpPeer>> {
    let names = Names::index("a [[bgp.filter]]", draft.bgp_filters.iter().map(|f| f.name.as_ref()), report);
    let filters: Vec<Arc<Filter>> = draft.bgp_filters.iter().map(|f| Arc::new(f.filter.clone())).collect();
    let mut peers = named(&draft.bgp_peers, vrfs, report);
    for (peer, of) in peers.iter_mut().zip(&draft.bgp_peers) {
        let import = of.import.as_ref().and_then(|name| names.resolve(name, report));
        let Some(peer) = peer else { continue };
        peer.import = import.and_then(|index| filters.get(index).cloned());
        peer.announce_limits = peer.announce_limits.or_else(|| circuit_limits(peer, draft, subs));
    }
    for announce in &draft.bgp_announce {
        announce_to(announce, &mut peers, vrfs, report);
    }
    peers
}

/// Told apart by name, and by address within a namespace.
fn named(drafts: &[Peer], vrfs: &Vrfs, report: &mut Report<'_>) -> Vec<Option<BgpPeer>> {
    let mut names: BTreeMap<String, Place> = BTreeMap::new();
    let mut addresses: BTreeMap<(Option<&str>, IpAddr), Place> = BTreeMap::new();
    let mut resolved = Vec::with_capacity(drafts.len());
    for peer in drafts {
        let vrf = peer.vrf.as_ref().and_then(|vrf| vrfs.resolve(vrf, report));
        let Some(address) = peer.address else {
            resolved.push(None);
            continue;
        };
        let namespace = peer.rest.namespace.as_deref();
        let same_address = addresses.get(&(namespace, address.value)).copied();
        let name = peer.name.as_ref().map_or_else(|| address.value.to_string(), |n| n.value.clone());
        let name_place = peer.name.as_ref().map_or(address.place, |n| n.place);
        if let Some(first) = same_address {
            let line = report.line(first);
            let message = format!(
                "{} is a peer already (line {line}), and a connection says no more than its address: give one of \
                 them another address or namespace",
                address.value
            );
            report.error(address.place, message);
        } else if let Some(first) = names.get(&name) {
            let line = report.line(*first);
            let message =
                format!("{name:?} is the name of a peer already (line {line}): set `name` to another");
            report.error(name_place, message);
        }
        if let Some(local) = peer.rest.local_address
            && local.is_ipv4() != address.value.is_ipv4()
        {
            let message = format!("its `local_address` {local} is not of the family of {}", address.value);
            report.error(address.place, message);
        }
        addresses.entry((namespace, address.value)).or_insert(address.place);
        names.entry(name.clone()).or_insert(name_place);
        resolved.push(vrf.zip(peer.asn).map(|(vrf, asn)| BgpPeer {
            name,
            address: address.value,
            asn,
            vrf,
            ..peer.rest.clone()
        }));
    }
    resolved
}

/// The limits of the peering whose far end the peer is.
fn circuit_limits(peer: &BgpPeer, draft: &Draft, subs: &Subs<'_>) -> Option<AnnounceLimits> {
    let on_link = |address: &At<ipnetwork::IpNetwork>| address.value.contains(peer.address);
    let far_end = subs.whole().find(|(_, sub, model)| {
        model.link.is_some() && model.vrf == peer.vrf && sub.addresses.iter().any(on_link)
    });
    let link = far_end?.2.link?;
    let premium = draft.circuits.get(link.circuit).is_some_and(|circuit| circuit.model.premium);
    Some(match link.peering {
        PeeringKind::Microsoft => AnnounceLimits::MICROSOFT,
        PeeringKind::Private if premium => AnnounceLimits::PRIVATE_PREMIUM,
        PeeringKind::Private => AnnounceLimits::PRIVATE,
    })
}

fn announce_to(announce: &Announce, peers: &mut [Option<BgpPeer>], vrfs: &Vrfs, report: &mut Report<'_>) {
    let Some(vrf) = announce.vrf.as_ref().and_then(|vrf| vrfs.resolve(vrf, report)) else { return };
    for wanted in &announce.peers {
        let known = peers.iter().flatten().any(|peer| peer.name == wanted.value && peer.vrf == vrf);
        // A peer that could not be read is reported already.
        if !known && peers.iter().all(Option::is_some) {
            let message = format!("no [[bgp.peer]] of this VRF has the name {:?}", wanted.value);
            report.error(wanted.place, message);
        }
    }
    let to = |peer: &&mut BgpPeer| {
        let named = announce.peers.iter().any(|wanted| wanted.value == peer.name);
        peer.vrf == vrf && (named || announce.peers.is_empty())
    };
    for peer in peers.iter_mut().flatten().filter(to) {
        for prefix in &announce.prefixes {
            if peer.announce.iter().any(|known| known.prefix == prefix.value) {
                report.error_once(
                    prefix.place,
                    format!("{} is announced to {:?} already", prefix.value, peer.name),
                );
                continue;
            }
            let (next_hop, communities) = (announce.next_hop, announce.communities.clone());
            peer.announce.push(Announcement { prefix: prefix.value, next_hop, communities });
        }
    }
}
