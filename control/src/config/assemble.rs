//! From drafts to the model: names become indices, and what concerns one thing in the light of another is checked.

use std::collections::BTreeSet;

use dataplane::ids::PortId;

use super::draft::{Draft, Port, Sub};
use super::errors::Report;
use super::model::{self, Config, SubInterface};
use super::names::Names;
use super::vrfs::Vrfs;
use super::{acl, bgp_references, check, references, tables, tap};

/// IPv6's least MTU (RFC 8200, section 5).
const IPV6_MIN_MTU: u16 = 1280;
/// What a circuit carries unless told otherwise, where the port can.
const CIRCUIT_MTU: u16 = 1500;

/// The configuration that `draft` says; `None` when `report` holds an error, or when there is more of something
/// than the data plane has numbers for.
pub(super) fn assemble(mut draft: Draft, report: &mut Report<'_>) -> Option<Config> {
    let port_names = Names::index("a port", draft.ports.iter().map(|p| p.name.as_ref()), report);
    let _ = Names::index("a circuit", draft.circuits.iter().map(|c| c.name.as_ref()), report);
    forget_repeated_links(&mut draft.subs);
    let sub_names = Names::index("an interface", draft.subs.iter().map(|s| s.name.as_ref()), report);
    let vrfs = Vrfs::collect(&draft, report);
    let acl_names = Names::index("an access list", draft.acls.iter().map(|a| a.name.as_ref()), report);
    let acls = acl::lists(std::mem::take(&mut draft.acls), report);
    let taps = tap::names(&draft.subs, &draft.ports, report);

    let ports = ports(&draft.ports);
    let subs: Vec<Option<SubInterface>> = draft
        .subs
        .iter()
        .zip(taps)
        .map(|(sub, tap)| sub_interface(sub, tap, [&port_names, &acl_names], &draft.ports, &vrfs, report))
        .collect();
    let seen = check::Subs { drafts: &draft.subs, models: &subs };
    check::devices(&draft.ports, report);
    check::tags(&seen, report);
    check::peering_vrfs(&seen, report);
    check::overlaps(&seen, &vrfs.list, draft.kernel.taps, report);
    let routes = references::routes(&draft.routes, &seen, &vrfs, report);
    let leaks = references::leaks(&draft.leaks, &vrfs, report);
    let neighbours = references::neighbours(&draft.neighbours, &seen, &sub_names, report);
    let peers = bgp_references::peers(&draft, &seen, &vrfs, report);
    let fpm_tables = tables::resolve(&draft.fpm_tables, &vrfs, report);
    let netlink_tables = tables::resolve(&draft.netlink_tables, &vrfs, report);

    if !report.is_clean() {
        return None;
    }
    Some(Config {
        ports: ports.into_iter().collect::<Option<_>>()?,
        vrfs: vrfs.list,
        sub_interfaces: subs.into_iter().collect::<Option<_>>()?,
        circuits: draft.circuits.into_iter().map(|c| c.model).collect(),
        acls: acls?,
        routes: routes.into_iter().collect::<Option<_>>()?,
        leaks: leaks.into_iter().collect::<Option<_>>()?,
        neighbours: neighbours.into_iter().collect::<Option<_>>()?,
        workers: draft.workers,
        sources: draft.sources,
        bgp: match draft.bgp {
            Some(bgp) => Some(model::Bgp { peers: peers.into_iter().collect::<Option<_>>()?, ..bgp }),
            None => None,
        },
        fpm: draft
            .fpm
            .map(|fpm| model::Fpm { tables: fpm_tables.into_iter().map(Into::into).collect(), ..fpm }),
        netlink: draft.netlink.map(|netlink| model::Netlink { tables: netlink_tables, ..netlink }),
        kernel: draft.kernel,
        api: draft.api,
        icmp: draft.icmp,
        punt: draft.punt,
        memory: draft.memory,
    })
}

/// Two circuits of one name, or two peerings of one kind, give the same names to their links. That has been
/// reported where it stands, so the links need not be reported as well.
fn forget_repeated_links(subs: &mut [Sub]) {
    let mut seen: BTreeSet<String> = BTreeSet::new();
    for sub in subs.iter_mut().filter(|sub| sub.link.is_some()) {
        sub.name = sub.name.take().filter(|name| seen.insert(name.value.clone()));
    }
}

fn ports(drafts: &[Port]) -> Vec<Option<model::Port>> {
    drafts
        .iter()
        .map(|port| {
            Some(model::Port {
                name: port.name.as_ref()?.value.clone(),
                device: port.device.as_ref()?.value.clone(),
                queues: port.queues,
                mtu: port.mtu?.value,
                descriptors: port.descriptors,
                offloads: port.offloads,
            })
        })
        .collect()
}

fn sub_interface(
    sub: &Sub,
    tap: String,
    [names, acls]: [&Names; 2],
    ports: &[Port],
    vrfs: &Vrfs,
    report: &mut Report<'_>,
) -> Option<SubInterface> {
    let port = sub.port.as_ref().and_then(|port| names.resolve(port, report));
    let port_mtu = port.and_then(|index| ports.get(index)).and_then(|port| port.mtu);
    if let (Some(own), Some(port)) = (sub.mtu, port_mtu)
        && own.value > port.value
    {
        let message = format!(
            "{} is larger than its port's {} (line {}): lower it, or raise the port's",
            own.value,
            port.value,
            report.line(port.place)
        );
        report.error_once(own.place, message);
    }
    let default = |port: u16| if sub.link.is_some() { port.min(CIRCUIT_MTU) } else { port };
    let mtu = sub.mtu.map(|m| m.value).or(port_mtu.map(|p| default(p.value)));
    let has_v6 = sub.addresses.iter().any(|a| a.value.is_ipv6());
    if let Some(mtu) = mtu.filter(|mtu| has_v6 && *mtu < IPV6_MIN_MTU) {
        let message =
            format!("{mtu} is too small for its IPv6 addresses: at least {IPV6_MIN_MTU} (RFC 8200)");
        report.error_once(sub.mtu_place, message);
    }
    let [acl_in, acl_out] =
        sub.acls.each_ref().map(|name| name.as_ref().and_then(|name| acls.resolve(name, report)));
    Some(SubInterface {
        name: sub.name.as_ref()?.value.clone(),
        tap,
        port: PortId(u16::try_from(port?).ok()?),
        encapsulation: sub.encapsulation?.value,
        vrf: vrfs.of(sub)?,
        addresses: sub.addresses.iter().map(|a| a.value).collect(),
        mtu: mtu?,
        pcp: sub.pcp,
        policy: sub.policy.with_mtu(mtu?),
        acl_in,
        acl_out,
        link: sub.link,
    })
}
