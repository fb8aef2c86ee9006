//! What a peering or an interface does with packets besides forwarding them: the keys that `[[circuit.peering]]` and
//! `[[interface]]` share.

use dataplane::policy::{DscpSet, MssClamp, Policy, ReversePath};
use toml_span::Value;

use super::model::PeeringKind;
use super::section::Section;
use super::values::{boolean, choice, integer};

/// The DSCP values that Microsoft's services look at.
const MICROSOFT_DSCP: [u8; 5] = [46, 34, 18, 10, 0];
/// The headers in front of a TCP segment without options, in bytes, with TCP's own.
const HEADERS: [u16; 2] = [40, 60];

/// The largest TCP segment of a family.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Mss {
    /// As it is.
    Kept,
    /// What fits into the MTU.
    Auto,
    /// So many bytes.
    At(u16),
}

/// A policy whose segment sizes may still depend on the MTU.
#[derive(Clone, Debug)]
pub(super) struct PolicyDraft {
    policy: Policy,
    /// IPv4's and IPv6's.
    mss: [Mss; 2],
}

impl PolicyDraft {
    /// The policy on a sub-interface of that MTU.
    pub fn with_mtu(&self, mtu: u16) -> Policy {
        let size = |family: usize| match self.mss[family] {
            Mss::Kept => u16::MAX,
            Mss::Auto => mtu.saturating_sub(HEADERS[family]),
            Mss::At(bytes) => bytes,
        };
        Policy { mss: MssClamp { v4: size(0), v6: size(1) }, ..self.policy.clone() }
    }
}

/// Reads the keys. `peering`: the kind of peering, if it is one. `tagged`: whether there is a tag.
pub(super) fn policy(s: &mut Section<'_, '_, '_>, peering: Option<PeeringKind>, tagged: bool) -> PolicyDraft {
    let microsoft = peering == Some(PeeringKind::Microsoft);
    let pcp_from_dscp = s.opt("pcp_from_dscp", pcp_table);
    if s.has("pcp_from_dscp") && s.has("pcp") {
        s.error("pcp_from_dscp", "and `pcp` exclude each other: the priority follows from DSCP or is set");
    } else if pcp_from_dscp.is_some() && !tagged {
        s.error("pcp_from_dscp", "there is no tag to carry the priority: add `vlan`, or remove it");
    }
    let words = [("off", ReversePath::Off), ("loose", ReversePath::Loose), ("strict", ReversePath::Strict)];
    let policy = Policy {
        reverse_path: s.value_or("reverse_path", ReversePath::Off, choice(&words)),
        public_sources: !s.value_or("private_sources", !microsoft, boolean),
        dscp: dscp(s, microsoft),
        pcp_from_dscp: pcp_from_dscp.map(|table| table.value),
        mss: MssClamp::default(),
    };
    let mss = [s.value_or("mss_v4", Mss::Kept, mss), s.value_or("mss_v6", Mss::Kept, mss)];
    PolicyDraft { policy, mss }
}

/// `"keep"`, or the values that may leave.
fn dscp(s: &mut Section<'_, '_, '_>, microsoft: bool) -> DscpSet {
    let default = if microsoft { MICROSOFT_DSCP.into_iter().collect() } else { DscpSet::ALL };
    let keep = |value: &Value<'_>| value.as_str().is_some();
    let list = s.list("dscp", |value| {
        if keep(value) {
            return choice(&[("keep", None)])(value);
        }
        integer(0..=63)(value).map(Some)
    });
    let Some(list) = list else { return default };
    let values: Vec<Option<u8>> = list.into_iter().flatten().map(|at| at.value).collect();
    match values.as_slice() {
        [None] => DscpSet::ALL,
        values if values.contains(&None) => {
            s.error("dscp", "\"keep\" stands alone: give it, or a list of values from 0 to 63");
            default
        }
        values => values.iter().copied().flatten().collect(),
    }
}

/// `"precedence"`, the three high bits of DSCP; or a table from DSCP to PCP, in which what is absent has 0.
fn pcp_table(value: &Value<'_>) -> Result<Box<[u8; 64]>, String> {
    if value.as_str().is_some() {
        choice(&[("precedence", ())])(value)?;
        return Ok(Box::new(std::array::from_fn(|dscp| dscp as u8 >> 3)));
    }
    let wanted = "must be \"precedence\", or a table such as { 46 = 5, 34 = 4 }: DSCP 0 to 63 = PCP 0 to 7";
    let table = value.as_table().ok_or_else(|| wanted.to_owned())?;
    let mut pcps = Box::new([0; 64]);
    let mut seen = 0u64;
    for (key, pcp) in table {
        let dscp = key.name.parse::<usize>().ok().filter(|dscp| *dscp < 64);
        let dscp = dscp.ok_or_else(|| format!("{:?} is no DSCP value; {wanted}", key.name))?;
        if seen >> dscp & 1 == 1 {
            return Err(format!("DSCP {dscp} is given twice: keep one"));
        }
        seen |= 1 << dscp;
        pcps[dscp] = integer(0..=7)(pcp).map_err(|error| format!("PCP of DSCP {dscp}: {error}"))?;
    }
    Ok(pcps)
}

/// `"auto"`, or a size in bytes.
fn mss(value: &Value<'_>) -> Result<Mss, String> {
    if value.as_str().is_some() {
        return choice(&[("auto", Mss::Auto)])(value);
    }
    integer(216..=9560)(value).map(Mss::At).map_err(|error| format!("{error}, or \"auto\""))
}
