//! What must hold between sub-interfaces: devices, tags, VRFs, prefixes.

use std::collections::BTreeMap;
use std::net::IpAddr;

use dataplane::ids::{PortId, VrfId};
use ipnetwork::IpNetwork;

use super::circuit::kind_word;
use super::draft::{Port, Sub};
use super::errors::{At, Place, Report};
use super::model::{Encapsulation, PeeringKind, SubInterface, Vrf};

/// The sub-interfaces as read and as they will be; a model is `None` where something in it was wrong.
pub(super) struct Subs<'a> {
    pub drafts: &'a [Sub],
    pub models: &'a [Option<SubInterface>],
}

impl<'a> Subs<'a> {
    /// Those that are whole, with their index.
    pub fn whole(&self) -> impl Iterator<Item = (usize, &'a Sub, &'a SubInterface)> + use<'a> {
        let pairs = self.drafts.iter().zip(self.models).enumerate();
        pairs.filter_map(|(index, (draft, model))| Some((index, draft, model.as_ref()?)))
    }
}

/// Each device serves one port.
pub(super) fn devices(ports: &[Port], report: &mut Report<'_>) {
    let mut seen: BTreeMap<&str, Place> = BTreeMap::new();
    for device in ports.iter().filter_map(|p| p.device.as_ref()) {
        let name = device.value.split(',').next().unwrap_or_default();
        if let Some(first) = seen.get(name) {
            let line = report.line(*first);
            report.error(device.place, format!("{name:?} serves another port already (line {line})"));
        } else {
            seen.insert(name, device.place);
        }
    }
}

/// Each (port, outer, inner) belongs to one sub-interface. A single-tagged and a double-tagged one may share
/// their (outer) VLAN id: the frames differ.
pub(super) fn tags(subs: &Subs<'_>, report: &mut Report<'_>) {
    let mut seen: BTreeMap<(PortId, u16, u16), (&SubInterface, Place)> = BTreeMap::new();
    for (_, draft, model) in subs.whole() {
        let (outer, inner, what) = match model.encapsulation {
            Encapsulation::Untagged => (0, 0, "untagged".to_owned()),
            Encapsulation::Dot1q(tag) => (tag.vid, 0, format!("VLAN {}", tag.vid)),
            Encapsulation::QinQ { outer, inner } => {
                (outer.vid, inner.vid, format!("S-tag {} with C-tag {}", outer.vid, inner.vid))
            }
        };
        let Some(place) = draft.encapsulation.map(|e| e.place) else { continue };
        let port = draft.port.as_ref().map(|p| p.value.as_str()).unwrap_or_default();
        if let Some((other, first)) = seen.get(&(model.port, outer, inner)) {
            let line = report.line(*first);
            let message = format!(
                "{what} on port {port:?} belongs to {:?} (line {line}): use another tag or port",
                other.name
            );
            report.error_once(place, message);
        } else {
            seen.insert((model.port, outer, inner), (model, place));
        }
    }
}

/// Private and Microsoft peering never share a VRF.
pub(super) fn peering_vrfs(subs: &Subs<'_>, report: &mut Report<'_>) {
    let mut seen: BTreeMap<VrfId, (PeeringKind, Place)> = BTreeMap::new();
    for (_, draft, model) in subs.whole() {
        let (Some(link), Some(vrf)) = (model.link, &draft.vrf) else { continue };
        let (kind, first) = *seen.entry(model.vrf).or_insert((link.peering, vrf.place));
        if kind != link.peering {
            let line = report.line(first);
            let message = format!(
                "VRF {:?} holds a {} peering (line {line}), which must not meet {} peering: give each its own VRF",
                vrf.value,
                kind_word(kind),
                kind_word(link.peering)
            );
            // Both links of a peering share its `vrf`; the report keeps one of two equal errors.
            report.error(vrf.place, message);
        }
    }
}

/// A connected prefix, with what tells apart those that may not overlap: `owner`s within one `group`.
#[derive(Clone, Copy)]
struct Connected<'a> {
    group: usize,
    owner: usize,
    name: &'a str,
    address: At<IpNetwork>,
}

/// Prefixes of two sub-interfaces in one VRF must not overlap; nor those of two VRFs whose TAPs share a
/// namespace, since its kernel could not tell them apart.
pub(super) fn overlaps(subs: &Subs<'_>, vrfs: &[Vrf], taps: bool, report: &mut Report<'_>) {
    let in_vrf = connected(subs, |index, model| (usize::from(model.vrf.0), index));
    for (later, earlier) in overlapping(in_vrf) {
        let line = report.line(earlier.address.place);
        let message = format!(
            "{} overlaps {} of {:?} (line {line}) in the same VRF: use another prefix or VRF",
            later.address.value, earlier.address.value, earlier.name
        );
        report.error(later.address.place, message);
    }
    if !taps {
        return;
    }
    let namespace_of = |vrf: usize| vrfs.get(vrf).and_then(|v| v.namespace.as_ref());
    let group =
        |vrf: usize| vrfs.iter().position(|v| v.namespace.as_ref() == namespace_of(vrf)).unwrap_or(vrf);
    let in_namespace = connected(subs, |_, model| {
        let vrf = usize::from(model.vrf.0);
        (group(vrf), vrf)
    });
    for (later, earlier) in overlapping(in_namespace) {
        let line = report.line(earlier.address.place);
        let vrf = |c: &Connected<'_>| vrfs.get(c.owner).map_or("", |v| v.name.as_str()).to_owned();
        let message = format!(
            "{} overlaps {} of {:?} (line {line}), and VRFs {:?} and {:?} share a network namespace: give each VRF \
             its own, for example [[vrf]] name = {:?}, namespace = {:?}",
            later.address.value,
            earlier.address.value,
            earlier.name,
            vrf(&later),
            vrf(&earlier),
            vrf(&later),
            vrf(&later)
        );
        report.error(later.address.place, message);
    }
}

fn connected<'a>(
    subs: &Subs<'a>,
    key: impl Fn(usize, &SubInterface) -> (usize, usize),
) -> Vec<Connected<'a>> {
    subs.whole()
        .flat_map(|(index, draft, model)| {
            let (group, owner) = key(index, model);
            draft.addresses.iter().map(move |address| Connected {
                group,
                owner,
                name: model.name.as_str(),
                address: *address,
            })
        })
        .collect()
}

/// Pairs of overlapping prefixes of different owners in one group: the later in the text, then the earlier. Each
/// prefix is paired once.
fn overlapping(mut all: Vec<Connected<'_>>) -> Vec<(Connected<'_>, Connected<'_>)> {
    // Prefixes either nest or are apart: sorted by start, the widest first, the one that covers the next prefix
    // is the one that reached furthest so far.
    let range = |c: &Connected<'_>| {
        let network = c.address.value;
        (number(network.network()), number(network.broadcast()))
    };
    all.sort_by_key(|c| {
        let (start, end) = range(c);
        (c.group, c.address.value.is_ipv6(), start, u128::MAX - end)
    });
    let mut pairs = Vec::new();
    let mut widest: Option<&Connected<'_>> = None;
    for here in &all {
        match widest {
            Some(wide)
                if wide.group == here.group
                    && wide.address.value.is_ipv6() == here.address.value.is_ipv6()
                    && range(here).0 <= range(wide).1 =>
            {
                if wide.owner != here.owner {
                    let in_order = wide.address.place.offset <= here.address.place.offset;
                    pairs.push(if in_order { (*here, *wide) } else { (*wide, *here) });
                }
            }
            _ => widest = Some(here),
        }
    }
    pairs
}

fn number(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(v4) => u128::from(u32::from(v4)),
        IpAddr::V6(v6) => u128::from(v6),
    }
}
