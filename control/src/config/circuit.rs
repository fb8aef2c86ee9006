//! `[[circuit]]` and `[[circuit.peering]]`: the provider's words, turned into sub-interfaces.

use ipnetwork::IpNetwork;
use toml_span::Value;

use super::address::{link_address, network, split_for_links};
use super::draft::{NamedCircuit, Sub};
use super::errors::{At, Place};
use super::model::{Billing, Circuit, CircuitLink, Encapsulation, LinkRole, PeeringKind, Tag};
use super::policy::{PolicyDraft, policy};
use super::section::{Section, read};
use super::values::{TPID_DOT1Q, asn, bandwidth, boolean, choice, mtu, name, pcp, tap, tpid, vlan_id};

/// AS of the Microsoft edge.
const MICROSOFT_ASN: u32 = 12076;

/// The smallest peering, for messages.
const PEERING_EXAMPLE: &str = "peering = [{ kind = \"private\", c_tag = 100, v4 = \"10.0.0.0/29\", \
     primary = { port = \"wan0\" }, secondary = { port = \"wan1\" } }]";

#[derive(Clone, Copy, PartialEq)]
enum Tags {
    Single,
    Double,
}

/// What the peerings of a circuit share.
struct Shared {
    index: usize,
    name: Option<String>,
    tags: Option<Tags>,
    s_tag: Option<u16>,
    outer_tpid: Option<u16>,
}

/// Reads one `[[circuit]]`, the `index`-th, and adds its links to `subs`.
pub(super) fn circuit(s: &mut Section<'_, '_, '_>, index: usize, subs: &mut Vec<Sub>) -> NamedCircuit {
    let name = s.need("name", "\"er1\"", name);
    let mbps = s.need("bandwidth", "\"10G\"", bandwidth);
    let billing = s.need(
        "billing",
        "\"metered\"",
        choice(&[("metered", Billing::Metered), ("unlimited", Billing::Unlimited)]),
    );
    let tags =
        s.need("encapsulation", "\"qinq\"", choice(&[("dot1q", Tags::Single), ("qinq", Tags::Double)]));
    let tags = tags.map(|t| t.value);
    let s_tag = match tags {
        Some(Tags::Double) => s.need("s_tag", "10", vlan_id),
        _ => s.opt("s_tag", vlan_id),
    };
    let outer_tpid = s.opt_or("outer_tpid", TPID_DOT1Q, tpid);
    let premium = s.value_or("premium", false, boolean);
    if tags == Some(Tags::Single) {
        for key in ["s_tag", "outer_tpid"] {
            if s.has(key) {
                s.error(
                    key,
                    "is for encapsulation = \"qinq\": in dot1q the C-tag is the only tag; remove it",
                );
            }
        }
    }
    let shared = Shared {
        index,
        name: name.as_ref().map(|n| n.value.clone()),
        tags,
        s_tag: s_tag.map(|t| t.value),
        outer_tpid: outer_tpid.map(|t| t.value),
    };
    let peerings = s.tables("peering");
    if peerings.is_empty() && !s.has("peering") {
        s.error(
            "peering",
            format!("a circuit without a peering carries nothing; the smallest: {PEERING_EXAMPLE}"),
        );
    }
    let mut kinds: Vec<PeeringKind> = Vec::new();
    for value in peerings {
        let kind = read("circuit.peering", Some(value), s.report, |p| peering(p, &shared, subs));
        if let Some(kind) = kind {
            if kinds.contains(&kind.value) {
                let word = kind_word(kind.value);
                s.report
                    .error(kind.place, format!("the circuit has a {word} peering already: one of each kind"));
            }
            kinds.push(kind.value);
        }
    }
    let model = Circuit {
        name: shared.name.unwrap_or_default(),
        bandwidth_mbps: mbps.map_or(0, |m| m.value),
        billing: billing.map_or(Billing::Metered, |b| b.value),
        premium,
    };
    NamedCircuit { name, model }
}

/// What the two links of a peering share.
struct Peering {
    kind: Option<PeeringKind>,
    encapsulation: Option<At<Encapsulation>>,
    vrf: Option<At<String>>,
    peer_asn: Option<u32>,
    pcp: Option<u8>,
    policy: PolicyDraft,
    acls: [Option<At<String>>; 2],
    mtu: Option<At<u16>>,
    mtu_place: Place,
    /// The halves of `v4` and `v6`, where they are given over both links.
    halves: [Option<[At<IpNetwork>; 2]>; 2],
    /// Whether `v4` and `v6` are there, right or wrong.
    given: [bool; 2],
}

fn peering(s: &mut Section<'_, '_, '_>, circuit: &Shared, subs: &mut Vec<Sub>) -> Option<At<PeeringKind>> {
    let kind = s.need(
        "kind",
        "\"private\"",
        choice(&[("private", PeeringKind::Private), ("microsoft", PeeringKind::Microsoft)]),
    );
    let c_tag = s.need("c_tag", "100", vlan_id);
    let default_vrf = kind.map(|k| k.with(kind_word(k.value).to_owned()));
    let own_vrf = s.opt("vrf", name);
    let vrf = if s.has("vrf") { own_vrf } else { default_vrf };
    let peering = Peering {
        kind: kind.map(|k| k.value),
        encapsulation: c_tag.and_then(|c_tag| encapsulation(circuit, c_tag)),
        vrf,
        peer_asn: s.opt_or("peer_asn", MICROSOFT_ASN, asn).map(|a| a.value),
        pcp: s.opt("pcp", pcp).map(|p| p.value),
        policy: policy(s, kind.map(|k| k.value), true),
        acls: ["acl_in", "acl_out"].map(|key| s.opt(key, name)),
        mtu: s.opt("mtu", mtu),
        mtu_place: s.place("mtu"),
        halves: [whole(s, "v4"), whole(s, "v6")],
        given: [s.has("v4"), s.has("v6")],
    };
    let links = [("primary", LinkRole::Primary), ("secondary", LinkRole::Secondary)];
    if links.iter().all(|(key, _)| !s.has(key)) {
        let message = "missing; give both links, for example primary = { port = \"wan0\" }, \
                       secondary = { port = \"wan1\" } with v4 = \"10.0.0.0/29\" on the peering";
        s.error("primary", message);
    }
    for (key, role) in links {
        let Some(value) = s.table(key) else { continue };
        let path = match role {
            LinkRole::Primary => "circuit.peering.primary",
            LinkRole::Secondary => "circuit.peering.secondary",
        };
        subs.push(read(path, Some(value), s.report, |l| link(l, circuit, &peering, role)));
    }
    kind
}

fn encapsulation(circuit: &Shared, c_tag: At<u16>) -> Option<At<Encapsulation>> {
    let inner = Tag { tpid: TPID_DOT1Q, vid: c_tag.value };
    let encapsulation = match circuit.tags? {
        Tags::Single => Encapsulation::Dot1q(inner),
        Tags::Double => {
            Encapsulation::QinQ { outer: Tag { tpid: circuit.outer_tpid?, vid: circuit.s_tag? }, inner }
        }
    };
    Some(c_tag.with(encapsulation))
}

/// A /29 or /125 over both links.
fn whole(s: &mut Section<'_, '_, '_>, key: &'static str) -> Option<[At<IpNetwork>; 2]> {
    let halves = s.opt(key, |value| split_for_links(family(key, value)?))?;
    Some(halves.value.map(|half| halves.with(half)))
}

fn family(key: &str, value: &Value<'_>) -> Result<IpNetwork, String> {
    let given = network(value)?;
    if given.is_ipv4() == (key == "v4") {
        return Ok(given);
    }
    let right = if given.is_ipv4() { "v4" } else { "v6" };
    Err(format!("{given} is of the other family: put it under `{right}`"))
}

fn link(s: &mut Section<'_, '_, '_>, circuit: &Shared, peering: &Peering, role: LinkRole) -> Sub {
    let port = s.need("port", "\"wan0\"", name);
    let mut addresses = Vec::new();
    let (mut any, mut whole) = (false, true);
    for ((key, halves), given) in ["v4", "v6"].into_iter().zip(peering.halves).zip(peering.given) {
        let own = s.opt(key, |value| link_address(family(key, value)?));
        any |= s.has(key) || given;
        whole &= own.is_some() == s.has(key) && halves.is_some() == given;
        if let (true, Some(halves)) = (s.has(key), halves) {
            let line = s.report.line(halves[0].place);
            s.error(key, format!("is given twice: here and on the peering (line {line}); keep one"));
        } else if let Some(halves) = halves {
            let half = halves[role as usize];
            match link_address(half.value) {
                Ok(address) => addresses.push(half.with(address)),
                Err(message) => s.report.error_once(half.place, message),
            }
        }
        addresses.extend(own);
    }
    if !any {
        let here = s.here();
        let message = "has no address: add v4 = \"10.0.0.0/30\" (or v6 = \"2001:db8::/126\") here, or a /29 \
                       (/125) on the peering";
        s.report.error(here, message);
    }
    let (role_word, role_letter) = match role {
        LinkRole::Primary => ("primary", "p"),
        LinkRole::Secondary => ("secondary", "s"),
    };
    let kind_word = peering.kind.map_or("", kind_word);
    let short = match peering.kind {
        Some(PeeringKind::Microsoft) => "msf",
        _ => "prv",
    };
    let here = s.here();
    let full = circuit.name.as_ref().filter(|_| peering.kind.is_some());
    Sub {
        name: full.map(|c| At { value: format!("{c}-{kind_word}-{role_word}"), place: here }),
        tap: s.opt("tap", tap),
        tap_stem: (circuit.name.clone().unwrap_or_default(), format!("-{short}-{role_letter}")),
        port,
        encapsulation: peering.encapsulation,
        vrf: peering.vrf.clone(),
        addresses,
        addresses_whole: whole,
        mtu: peering.mtu,
        mtu_place: peering.mtu_place,
        pcp: peering.pcp,
        policy: peering.policy.clone(),
        acls: peering.acls.clone(),
        link: peering.kind.zip(peering.peer_asn).map(|(kind, peer_asn)| CircuitLink {
            circuit: circuit.index,
            peering: kind,
            role,
            peer_asn,
        }),
    }
}

/// The kind as the configuration spells it; also its default VRF.
pub(super) fn kind_word(kind: PeeringKind) -> &'static str {
    match kind {
        PeeringKind::Private => "private",
        PeeringKind::Microsoft => "microsoft",
    }
}
