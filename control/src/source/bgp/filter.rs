//! What is taken from a peer: the filter of the configuration, applied to one UPDATE at a time, with a count for
//! each rule. Conditions on attributes are asked once for an UPDATE, those on prefixes for each prefix.

use std::collections::BTreeMap;
use std::sync::Arc;

use ipnetwork::IpNetwork;

use super::status::{Counter, FilterHits};
use crate::config::model::{CommunityMatch, Filter, PrefixMatch, Rule};
use crate::source::{Attributes, Nlri, RouteEvent};

/// A filter in use.
#[derive(Debug)]
pub(super) struct Import {
    filter: Arc<Filter>,
    /// For each rule, then for the rest.
    hits: Vec<Counter>,
}

impl Import {
    pub(super) fn new(filter: Arc<Filter>) -> Self {
        let hits = std::iter::repeat_with(Counter::default).take(filter.rules.len() + 1).collect();
        Self { filter, hits }
    }

    /// What it applies.
    pub(super) fn filter(&self) -> Arc<Filter> {
        Arc::clone(&self.filter)
    }

    /// How often each rule decided, for output.
    pub(super) fn hits(&self) -> FilterHits {
        let mut hits: Vec<u64> = self.hits.iter().map(Counter::get).collect();
        let rest = hits.pop().unwrap_or_default();
        FilterHits { filter: self.filter.name.clone(), rules: hits, rest }
    }

    /// Puts in the place of an UPDATE what is left of it: prefixes with the attributes that their rules give them,
    /// and those that are denied as withdrawals, since they may have been permitted before.
    pub(super) fn apply(&self, event: RouteEvent) -> Vec<RouteEvent> {
        let RouteEvent::Update { mut withdrawn, announced, attributes } = event else { return vec![event] };
        if announced.is_empty() {
            return vec![RouteEvent::Update { withdrawn, announced, attributes }];
        }
        let possible: Vec<usize> = (0..self.filter.rules.len())
            .filter(|index| attributes_match(&self.filter.rules[*index], &attributes))
            .collect();
        let mut by_rule: BTreeMap<usize, Vec<Nlri>> = BTreeMap::new();
        for nlri in announced {
            let of_prefix = |index: &&usize| {
                let wanted = &self.filter.rules[**index].prefixes;
                wanted.is_empty() || wanted.iter().any(|wanted| prefix_matches(wanted, nlri.prefix))
            };
            let decided = possible.iter().find(of_prefix).copied().unwrap_or(self.filter.rules.len());
            by_rule.entry(decided).or_default().push(nlri);
        }
        let mut permitted = Vec::new();
        for (index, prefixes) in by_rule {
            self.hits[index].add(prefixes.len());
            let rule = self.filter.rules.get(index);
            if rule.map_or(self.filter.permit_rest, |rule| rule.permit) {
                permitted.push((
                    prefixes,
                    rule.map_or_else(|| Arc::clone(&attributes), |rule| set(rule, &attributes)),
                ));
            } else {
                withdrawn.extend(prefixes);
            }
        }
        let mut events = Vec::with_capacity(permitted.len());
        for (announced, attributes) in permitted {
            let withdrawn = std::mem::take(&mut withdrawn);
            events.push(RouteEvent::Update { withdrawn, announced, attributes });
        }
        if !withdrawn.is_empty() {
            events.push(RouteEvent::Update { withdrawn, announced: Vec::new(), attributes });
        }
        events
    }
}

fn prefix_matches(wanted: &PrefixMatch, prefix: IpNetwork) -> bool {
    let length = (wanted.ge..=wanted.le).contains(&prefix.prefix());
    length && wanted.prefix.is_ipv4() == prefix.is_ipv4() && wanted.prefix.contains(prefix.network())
}

fn attributes_match(rule: &Rule, attributes: &Attributes) -> bool {
    let any = |list: &[u32], of: &dyn Fn(&u32) -> bool| list.is_empty() || list.iter().any(of);
    let community = rule.communities.is_empty()
        || rule.communities.iter().any(|wanted| match wanted {
            CommunityMatch::Standard([high, low]) => attributes.communities.iter().any(|community| {
                high.is_none_or(|high| community >> 16 == u32::from(high))
                    && low.is_none_or(|low| community & 0xffff == u32::from(low))
            }),
            CommunityMatch::Large(parts) => attributes.large_communities.iter().any(|community| {
                parts.iter().zip(community).all(|(wanted, part)| wanted.is_none_or(|wanted| wanted == *part))
            }),
        });
    community
        && any(&rule.as_path, &|asn| attributes.as_path.contains(asn))
        && any(&rule.origin_as, &|asn| attributes.as_path.last() == Some(asn))
}

/// The attributes with what the rule sets in them.
fn set(rule: &Rule, attributes: &Arc<Attributes>) -> Arc<Attributes> {
    if rule.local_pref.is_none() && rule.weight.is_none() && rule.distance.is_none() {
        return Arc::clone(attributes);
    }
    let mut own = (**attributes).clone();
    own.local_pref = rule.local_pref.unwrap_or(own.local_pref);
    own.weight = rule.weight.unwrap_or(own.weight);
    own.distance = rule.distance.or(own.distance);
    Arc::new(own)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn nlri(prefix: &str) -> Nlri {
        Nlri { prefix: prefix.parse().unwrap(), path_id: 0 }
    }

    fn attributes() -> Arc<Attributes> {
        Arc::new(Attributes {
            local_pref: 100,
            as_path: vec![12_076, 8075],
            communities: vec![0x2f2c_c73c],
            large_communities: vec![[65_010, 1, 2]],
            ..Attributes::default()
        })
    }

    fn within(prefix: &str, ge: u8, le: u8) -> Vec<PrefixMatch> {
        vec![PrefixMatch { prefix: prefix.parse().unwrap(), ge, le }]
    }

    fn import(rules: Vec<Rule>, permit_rest: bool) -> Import {
        Import::new(Arc::new(Filter { name: "f".into(), rules, permit_rest }))
    }

    fn permit(change: impl FnOnce(&mut Rule)) -> Rule {
        let mut rule = Rule { permit: true, ..Rule::default() };
        change(&mut rule);
        rule
    }

    fn update(announced: &[&str]) -> RouteEvent {
        let announced = announced.iter().map(|prefix| nlri(prefix)).collect();
        RouteEvent::Update { withdrawn: vec![nlri("9.9.9.9/32")], announced, attributes: attributes() }
    }

    #[test]
    fn the_first_rule_that_matches_decides() {
        let rules = vec![
            Rule { prefixes: within("10.1.0.0/16", 16, 32), ..Rule::default() },
            permit(|rule| {
                rule.prefixes = within("10.0.0.0/8", 16, 24);
                rule.local_pref = Some(300);
                rule.distance = Some(5);
            }),
            permit(|rule| rule.weight = Some(7)),
        ];
        let import = import(rules, false);
        let events = import.apply(update(&["10.1.2.0/24", "10.2.0.0/16", "192.0.2.0/24", "10.2.0.0/30"]));
        let [RouteEvent::Update { withdrawn, announced, attributes: second }, third] = events.as_slice()
        else {
            panic!("{events:?}")
        };
        assert_eq!(withdrawn, &[nlri("9.9.9.9/32"), nlri("10.1.2.0/24")]);
        assert_eq!(announced, &[nlri("10.2.0.0/16")]);
        assert_eq!((second.local_pref, second.distance, second.weight), (300, Some(5), 0));
        let RouteEvent::Update { announced, attributes: third, .. } = third else { panic!() };
        assert_eq!(announced, &[nlri("192.0.2.0/24"), nlri("10.2.0.0/30")]);
        assert_eq!((third.local_pref, third.weight), (100, 7));
        let hits = import.hits();
        assert_eq!((hits.rules, hits.rest), (vec![1, 1, 2], 0));
    }

    #[test]
    fn each_kind_of_condition() {
        let community = |wanted| permit(|rule| rule.communities = vec![wanted]);
        let cases: [(Rule, bool); 11] = [
            (community(CommunityMatch::Standard([Some(12_076), Some(51_004)])), true),
            (community(CommunityMatch::Standard([Some(12_076), None])), true),
            (community(CommunityMatch::Standard([None, Some(1)])), false),
            (community(CommunityMatch::Large([Some(65_010), None, Some(2)])), true),
            (community(CommunityMatch::Large([Some(65_010), None, Some(3)])), false),
            (permit(|rule| rule.as_path = vec![1, 8075]), true),
            (permit(|rule| rule.as_path = vec![1]), false),
            (permit(|rule| rule.origin_as = vec![8075]), true),
            (permit(|rule| rule.origin_as = vec![12_076]), false),
            (permit(|rule| rule.prefixes = within("::/0", 0, 128)), false),
            (
                permit(|rule| {
                    rule.as_path = vec![8075];
                    rule.prefixes = within("10.0.0.0/8", 9, 16);
                }),
                true,
            ),
        ];
        for (rule, wanted) in cases {
            let events = import(vec![rule.clone()], false).apply(update(&["10.2.0.0/16"]));
            let taken = matches!(&events[0], RouteEvent::Update { announced, .. } if announced.len() == 1);
            assert_eq!(taken, wanted, "{rule:?}");
        }
    }

    proptest! {
        /// Each prefix comes out once, announced or withdrawn, as the plain reading of the rules has it.
        #[test]
        fn as_read_rule_by_rule(
            rules in proptest::collection::vec((0u8..4, 0u8..9, 0u8..9, any::<bool>()), 0..5),
            prefixes in proptest::collection::hash_set((any::<u8>(), 0u8..9), 0..20),
            permit_rest in any::<bool>(),
        ) {
            let network = |byte: u8, length: u8| {
                let bits = if length == 0 { 0 } else { byte & (0xff << (8 - length)) };
                IpNetwork::new([bits, 0, 0, 0].into(), length).unwrap()
            };
            let rules: Vec<Rule> = rules.into_iter().map(|(byte, ge, le, permit)| Rule {
                prefixes: vec![PrefixMatch { prefix: network(byte << 6, 2), ge, le }],
                permit,
                ..Rule::default()
            }).collect();
            let announced: Vec<Nlri> =
                prefixes.iter().map(|(byte, length)| Nlri { prefix: network(*byte, *length), path_id: 0 }).collect();
            let wanted = |nlri: &Nlri| {
                for rule in &rules {
                    let PrefixMatch { prefix, ge, le } = rule.prefixes[0];
                    let length = nlri.prefix.prefix();
                    if prefix.contains(nlri.prefix.ip()) && length >= ge && length <= le {
                        return rule.permit;
                    }
                }
                permit_rest
            };
            let mut permitted: Vec<Nlri> = announced.iter().filter(|nlri| wanted(nlri)).copied().collect();
            let mut denied: Vec<Nlri> = announced.iter().filter(|nlri| !wanted(nlri)).copied().collect();
            let event = RouteEvent::Update { withdrawn: vec![], announced, attributes: attributes() };
            let (mut got, mut gone) = (Vec::new(), Vec::new());
            for event in import(rules.clone(), permit_rest).apply(event) {
                let RouteEvent::Update { withdrawn, announced, .. } = event else { panic!() };
                got.extend(announced);
                gone.extend(withdrawn);
            }
            for list in [&mut permitted, &mut denied, &mut got, &mut gone] {
                list.sort_by_key(|nlri| nlri.prefix);
            }
            prop_assert_eq!(got, permitted);
            prop_assert_eq!(gone, denied);
        }
    }
}
