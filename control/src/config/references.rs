//! Static routes and static neighbours: what each says about interfaces and VRFs.

use std::collections::BTreeMap;
use std::net::IpAddr;

use dataplane::ids::{SubIfId, VrfId};
use ipnetwork::IpNetwork;

use super::address::{is_broadcast_address, is_network_address};
use super::check::Subs;
use super::draft::{Leak, Neighbour, Route};
use super::errors::{Place, Report};
use super::model::{self, StaticNeighbour, StaticRoute, SubInterface, Target};
use super::names::Names;
use super::vrfs::Vrfs;

/// `[[route]]`: each (VRF, prefix) once, gateways that are not ourselves.
pub(super) fn routes(
    routes: &[Route],
    subs: &Subs<'_>,
    vrfs: &Vrfs,
    report: &mut Report<'_>,
) -> Vec<Option<StaticRoute>> {
    let mut seen: BTreeMap<(VrfId, IpNetwork), Place> = BTreeMap::new();
    let mut resolve = |route: &Route| {
        let vrf = route.vrf.as_ref().and_then(|vrf| vrfs.resolve(vrf, report));
        let target = route.target.as_ref()?;
        let (vrf, prefix) = (vrf?, route.prefix?);
        if let Target::Via(gateways) = &target.value {
            let in_vrf = || subs.whole().map(|(_, _, model)| model).filter(|model| model.vrf == vrf);
            for gateway in gateways {
                if let Some(own) = in_vrf().find(|m| m.addresses.iter().any(|a| a.ip() == *gateway)) {
                    let message =
                        format!("{gateway} is our own address on {:?}: give the next router's", own.name);
                    report.error(target.place, message);
                }
            }
        }
        if let Some(first) = seen.get(&(vrf, prefix.value)) {
            let line = report.line(*first);
            let message = format!(
                "{} has a route in this VRF already (line {line}): list all gateways in one `via`",
                prefix.value
            );
            report.error(prefix.place, message);
        } else {
            seen.insert((vrf, prefix.value), prefix.place);
        }
        Some(StaticRoute { vrf, prefix: prefix.value, target: target.value.clone() })
    };
    routes.iter().map(&mut resolve).collect()
}

/// `[[leak]]`: from one VRF to another.
pub(super) fn leaks(leaks: &[Leak], vrfs: &Vrfs, report: &mut Report<'_>) -> Vec<Option<model::Leak>> {
    let mut resolve = |leak: &Leak| {
        let [from, to] =
            [&leak.from, &leak.to].map(|name| name.as_ref().and_then(|name| vrfs.resolve(name, report)));
        if let (Some(_), true, Some(name)) = (from, from == to, &leak.to) {
            report
                .error(name.place, format!("routes of {:?} are there already: name another VRF", name.value));
        }
        let prefixes = leak.prefixes.iter().map(|prefix| Some(prefix.as_ref()?.value));
        Some(model::Leak {
            from: from?,
            to: to?,
            prefixes: prefixes.collect::<Option<_>>()?,
            exact: leak.exact,
        })
    };
    leaks.iter().map(&mut resolve).collect()
}

/// `[[neighbour]]`: a host on its interface, each once.
pub(super) fn neighbours(
    neighbours: &[Neighbour],
    subs: &Subs<'_>,
    names: &Names,
    report: &mut Report<'_>,
) -> Vec<Option<StaticNeighbour>> {
    let mut seen: BTreeMap<(SubIfId, IpAddr), Place> = BTreeMap::new();
    let mut resolve = |neighbour: &Neighbour| {
        let index = neighbour.interface.as_ref().and_then(|name| names.resolve(name, report));
        let (index, address, mac) = (index?, neighbour.address?, neighbour.mac?);
        let sub = subs.models.get(index)?.as_ref()?;
        if subs.drafts.get(index).is_some_and(|draft| draft.addresses_whole)
            && let Err(message) = check_on_interface(sub, address.value)
        {
            report.error(address.place, message);
        }
        let interface = SubIfId(u16::try_from(index).ok()?);
        if let Some(first) = seen.get(&(interface, address.value)) {
            let line = report.line(*first);
            report
                .error(address.place, format!("{} has a MAC already (line {line}): keep one", address.value));
        } else {
            seen.insert((interface, address.value), address.place);
        }
        Some(StaticNeighbour { interface, address: address.value, mac })
    };
    neighbours.iter().map(&mut resolve).collect()
}

fn check_on_interface(sub: &SubInterface, address: IpAddr) -> Result<(), String> {
    if sub.addresses.iter().any(|own| own.ip() == address) {
        return Err(format!("{address} is our own address on {:?}: give the neighbour's", sub.name));
    }
    if matches!(address, IpAddr::V6(v6) if v6.is_unicast_link_local()) {
        return Ok(());
    }
    let Some(own) = sub.addresses.iter().find(|own| own.contains(address)) else {
        let prefixes: Vec<String> =
            sub.addresses.iter().map(|own| format!("{}/{}", own.network(), own.prefix())).collect();
        return Err(format!("{address} is not on {:?}, which has {}", sub.name, prefixes.join(", ")));
    };
    let there = IpNetwork::new(address, own.prefix()).map_err(|e| e.to_string())?;
    if is_network_address(there) || is_broadcast_address(there) {
        return Err(format!("{address} is no host of {there}: it is the subnet's own or broadcast address"));
    }
    Ok(())
}
