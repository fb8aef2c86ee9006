//! `[[bgp.filter]]`: ordered rules on what is taken from a peer.

use toml_span::Value;

use super::address::prefix;
use super::draft::NamedFilter;
use super::errors::At;
use super::model::{CommunityMatch, Filter, PrefixMatch, Rule};
use super::section::{Section, read};
use super::values::{choice, integer, name, string};

const WORDS: [(&str, bool); 2] = [("permit", true), ("deny", false)];

/// Reads one filter.
pub(super) fn filter(s: &mut Section<'_, '_, '_>) -> NamedFilter {
    let name = s.need("name", "\"from-edge\"", name);
    let rules: Vec<Rule> = s
        .tables("rule")
        .into_iter()
        .map(|value| read("bgp.filter.rule", Some(value), s.report, rule))
        .collect();
    let permit_rest = s.value_or("rest", false, choice(&WORDS));
    let own = name.as_ref().map(|n| n.value.clone()).unwrap_or_default();
    NamedFilter { name, filter: Filter { name: own, rules, permit_rest } }
}

fn rule(s: &mut Section<'_, '_, '_>) -> Rule {
    let numbers = |list: Option<Vec<Option<At<u32>>>>| -> Vec<u32> {
        list.into_iter().flatten().flatten().map(|n| n.value).collect()
    };
    let asns = || integer(0..=i64::from(u32::MAX));
    let permit = s.need("action", "\"permit\"", choice(&WORDS)).is_none_or(|a| a.value);
    let rule = Rule {
        prefixes: prefixes(s),
        communities: s
            .list("community", community_match)
            .into_iter()
            .flatten()
            .flatten()
            .map(|c| c.value)
            .collect(),
        as_path: numbers(s.list("as_path", asns())),
        origin_as: numbers(s.list("origin_as", asns())),
        permit,
        local_pref: s.opt("local_pref", asns()).map(|n| n.value),
        weight: s.opt("weight", asns()).map(|n| n.value),
        distance: s.opt("distance", integer(1..=255)).map(|n| n.value),
    };
    for key in ["local_pref", "weight", "distance"] {
        if !permit && s.has(key) {
            s.error(key, "is of no use on a route that is denied: remove it");
        }
    }
    rule
}

/// `prefix` with `ge` and `le`.
fn prefixes(s: &mut Section<'_, '_, '_>) -> Vec<PrefixMatch> {
    let given: Vec<_> = s.list("prefix", prefix).into_iter().flatten().flatten().collect();
    let ge: Option<At<u8>> = s.opt("ge", integer(0..=128));
    let le: Option<At<u8>> = s.opt("le", integer(0..=128));
    if let (true, Some(bound)) = (given.is_empty(), ge.or(le)) {
        s.report.error(
            bound.place,
            "is a bound on the length of a `prefix`: give one, for example \"0.0.0.0/0\"",
        );
    }
    let mut matches = Vec::new();
    for At { value: prefix, place } in given {
        let (own, most) = (prefix.prefix(), if prefix.is_ipv4() { 32 } else { 128 });
        let (from, to) = match (ge.map(|g| g.value), le.map(|l| l.value)) {
            (None, None) => (own, own),
            (Some(ge), None) => (ge, most),
            (None, Some(le)) => (own, le),
            (Some(ge), Some(le)) => (ge, le),
        };
        if !(own <= from && from <= to && to <= most) {
            let message = format!("{prefix}: lengths from {from} to {to} are not within {own} to {most}");
            s.report.error(place, message);
        }
        matches.push(PrefixMatch { prefix, ge: from, le: to });
    }
    matches
}

/// `AS:value`.
pub(super) fn community(value: &Value<'_>) -> Result<u32, String> {
    match community_match(value)? {
        CommunityMatch::Standard([Some(high), Some(low)]) => Ok(u32::from(high) << 16 | u32::from(low)),
        _ => Err("must be one community, such as \"65010:100\"".to_owned()),
    }
}

/// `AS:value` or `AS:value:value`; `*` stands for any number.
fn community_match(value: &Value<'_>) -> Result<CommunityMatch, String> {
    let text = string(value)?;
    let wrong = || {
        format!("{text:?} is no community: write \"12076:51004\", \"12076:*\", or a large one, \"65010:1:2\"")
    };
    let parts: Vec<&str> = text.split(':').collect();
    match parts.as_slice() {
        [a, b] => {
            let part = |part: &str| -> Result<Option<u16>, String> {
                if part == "*" { Ok(None) } else { part.parse().map(Some).map_err(|_| wrong()) }
            };
            Ok(CommunityMatch::Standard([part(a)?, part(b)?]))
        }
        [a, b, c] => {
            let part = |part: &str| -> Result<Option<u32>, String> {
                if part == "*" { Ok(None) } else { part.parse().map(Some).map_err(|_| wrong()) }
            };
            Ok(CommunityMatch::Large([part(a)?, part(b)?, part(c)?]))
        }
        _ => Err(wrong()),
    }
}
