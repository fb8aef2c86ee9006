//! BGP's order of preference among paths to one prefix (RFC 4271, section 9.1, with RFC 4456, section 9).
//!
//! 1. the highest weight, this router's own (no RFC); 2. the highest `LOCAL_PREF` (9.1.1); 3. the shortest `AS_PATH`
//!    (9.1.2.2 a); 4. the lowest ORIGIN (b);
//! 5. the lowest MED among paths from the same neighbouring AS (c); 6. eBGP before iBGP (d);
//! 7. the lowest cost to the next hop, as far as it is known (e).
//!
//! What is equal up to here may be used together (multipath). When more are equal than may be used, or only one may,
//! the tie-break says which: 8. the lowest router id, or `ORIGINATOR_ID` (f); 9. the shortest `CLUSTER_LIST`;
//! 10. the lowest peer address (g); 11. the lowest path identifier, as one session may bring several.
//!
//! A function of the set of paths alone: it does not depend on which came first.

use std::cmp::Reverse;

use crate::source::{Attributes, Speaker};

/// A path with what its rank depends on.
pub(super) struct Candidate<'a> {
    pub attributes: &'a Attributes,
    pub speaker: &'a Speaker,
    pub path_id: u32,
}

impl Candidate<'_> {
    /// Steps 1 to 4; smaller is better.
    fn preference(&self) -> impl Ord + use<> {
        let a = self.attributes;
        (Reverse(a.weight), Reverse(a.local_pref), a.as_path_len, a.origin)
    }

    /// The neighbouring AS, and MED within it. A path with an empty `AS_PATH` is from our own AS.
    fn med(&self) -> (Option<u32>, u32) {
        (self.attributes.as_path.first().copied(), self.attributes.med)
    }

    /// Steps 6 and 7; smaller is better.
    fn distance(&self) -> impl Ord + use<> {
        (!self.speaker.external, self.attributes.metric)
    }

    /// Steps 8 to 11; smaller is better.
    fn tie_break(&self) -> impl Ord + use<> {
        let router_id = self.attributes.originator.unwrap_or(self.speaker.router_id);
        (router_id, self.attributes.cluster_len, self.speaker.address, self.path_id)
    }
}

/// Keeps in `paths` those to use: the best and what is equal to it, at most `limit`. All must have a candidate.
pub(super) fn best_paths<'a, P>(paths: &mut Vec<P>, limit: usize, of: impl Fn(&P) -> Option<Candidate<'a>>) {
    keep_least(paths, |path| of(path).map(|c| c.preference()));
    if paths.len() > 1 {
        keep_least_med(paths, &of);
        keep_least(paths, |path| of(path).map(|c| c.distance()));
    }
    if paths.len() > limit.max(1) {
        paths.sort_by_cached_key(|path| of(path).map(|c| c.tie_break()));
        paths.truncate(limit.max(1));
    }
}

fn keep_least<P, K: Ord>(paths: &mut Vec<P>, key: impl Fn(&P) -> K) {
    if let Some(least) = paths.iter().map(&key).min() {
        paths.retain(|path| key(path) == least);
    }
}

/// A path goes if another from the same neighbouring AS has a lower MED.
fn keep_least_med<'a, P>(paths: &mut Vec<P>, of: &impl Fn(&P) -> Option<Candidate<'a>>) {
    let med = |path: &P| of(path).map(|c| c.med());
    // The common case: one neighbouring AS, one MED.
    let first = paths.first().and_then(med);
    if paths.iter().all(|path| med(path) == first) {
        return;
    }
    let mut least: Vec<(Option<u32>, u32)> = paths.iter().filter_map(med).collect();
    least.sort_unstable();
    least.dedup_by_key(|(neighbour, _)| *neighbour);
    paths.retain(|path| med(path).is_none_or(|med| least.binary_search(&med).is_ok()));
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use proptest::prelude::*;

    use super::*;
    use crate::source::Origin;

    #[derive(Clone, Debug, PartialEq)]
    struct Route {
        name: &'static str,
        attributes: Attributes,
        speaker: Speaker,
        path_id: u32,
    }

    fn route(name: &'static str, change: impl FnOnce(&mut Route)) -> Route {
        let attributes =
            Attributes { local_pref: 100, as_path: vec![12_076], as_path_len: 1, ..Attributes::default() };
        let speaker = Speaker {
            external: true,
            router_id: Ipv4Addr::new(10, 0, 0, 9),
            address: Ipv4Addr::new(192, 0, 2, 9).into(),
        };
        let mut route = Route { name, attributes, speaker, path_id: 0 };
        change(&mut route);
        route
    }

    fn keep_best<'a>(paths: &mut Vec<&'a Route>, limit: usize) {
        best_paths(paths, limit, |route: &&'a Route| {
            let (attributes, speaker) = (&route.attributes, &route.speaker);
            Some(Candidate { attributes, speaker, path_id: route.path_id })
        });
    }

    fn best(routes: &[Route], limit: usize) -> Vec<&'static str> {
        let mut paths: Vec<&Route> = routes.iter().collect();
        keep_best(&mut paths, limit);
        let mut names: Vec<_> = paths.into_iter().map(|route| route.name).collect();
        names.sort_unstable();
        names
    }

    /// Each step decides, against every later step at once.
    #[test]
    fn the_order_of_the_steps() {
        let worse = |route: &mut Route, from: usize| {
            let worsen: [fn(&mut Route); 11] = [
                |r| r.attributes.weight = 0,
                |r| r.attributes.local_pref = 50,
                |r| r.attributes.as_path_len = 9,
                |r| r.attributes.origin = Origin::Incomplete,
                |r| r.attributes.med = 77,
                |r| r.speaker.external = false,
                |r| r.attributes.metric = 7,
                |r| r.speaker.router_id = Ipv4Addr::new(10, 0, 0, 200),
                |r| r.attributes.cluster_len = 3,
                |r| r.speaker.address = Ipv4Addr::new(192, 0, 2, 200).into(),
                |r| r.path_id = 5,
            ];
            worsen[from](route);
        };
        for step in 0..11 {
            let good = route("good", |r| {
                r.attributes.weight = 10;
                (step + 1..11).for_each(|later| worse(r, later));
            });
            let bad = route("bad", |r| {
                r.attributes.weight = 10;
                worse(r, step);
            });
            let both = [bad, good];
            assert_eq!(best(&both, 1), ["good"], "step {}", step + 1);
            let several = best(&both, 8);
            if step < 7 {
                assert_eq!(several, ["good"], "step {}", step + 1);
            } else {
                assert_eq!(several, ["bad", "good"], "step {} only breaks ties", step + 1);
            }
        }
    }

    #[test]
    fn med_counts_within_a_neighbouring_as_only() {
        let med = |name, asn, med| {
            route(name, move |r| {
                r.attributes.as_path = vec![asn];
                r.attributes.med = med;
            })
        };
        let routes = [med("a low", 1, 5), med("a high", 1, 9), med("b", 2, 100)];
        assert_eq!(best(&routes, 8), ["a low", "b"]);
    }

    #[test]
    fn eight_times_prepended_is_left() {
        let drained = route("drained", |r| {
            r.attributes.as_path = vec![12_076; 9];
            r.attributes.as_path_len = 9;
        });
        let routes = [drained.clone(), route("other link", |_| {})];
        assert_eq!(best(&routes, 8), ["other link"]);
        assert_eq!(best(&[drained], 8), ["drained"]);
    }

    #[test]
    fn the_originator_counts_in_place_of_the_reflector() {
        let by = |name, originator: [u8; 4], reflector: [u8; 4]| {
            route(name, move |r| {
                r.attributes.originator = Some(originator.into());
                r.speaker.router_id = reflector.into();
            })
        };
        let routes = [by("first", [1, 1, 1, 1], [9, 9, 9, 9]), by("second", [2, 2, 2, 2], [1, 0, 0, 0])];
        assert_eq!(best(&routes, 1), ["first"]);
    }

    fn any_route() -> impl Strategy<Value = Route> {
        let small = || 0u32..3;
        (small(), small(), small(), small(), small(), any::<bool>(), small(), small(), small(), 1u32..3)
            .prop_map(|(weight, pref, len, origin, med, external, metric, id, path_id, asn)| {
                route("", |r| {
                    r.attributes.weight = weight;
                    r.attributes.local_pref = pref;
                    r.attributes.as_path_len = len;
                    r.attributes.as_path = vec![asn];
                    r.attributes.origin = [Origin::Igp, Origin::Egp, Origin::Incomplete][origin as usize];
                    r.attributes.med = med;
                    r.attributes.metric = metric;
                    r.speaker.external = external;
                    r.speaker.router_id = id.into();
                    r.path_id = path_id;
                })
            })
    }

    /// The RFC's text, step by step: each removes what is not best by it.
    fn by_the_book(routes: &[Route]) -> Vec<Route> {
        let mut left = routes.to_vec();
        let keep = |left: &mut Vec<Route>, better: &dyn Fn(&Route, &Route) -> bool| {
            let all = left.clone();
            left.retain(|route| !all.iter().any(|other| better(other, route)));
        };
        keep(&mut left, &|a, b| a.attributes.weight > b.attributes.weight);
        keep(&mut left, &|a, b| a.attributes.local_pref > b.attributes.local_pref);
        keep(&mut left, &|a, b| a.attributes.as_path_len < b.attributes.as_path_len);
        keep(&mut left, &|a, b| a.attributes.origin < b.attributes.origin);
        keep(&mut left, &|a, b| {
            a.attributes.as_path == b.attributes.as_path && a.attributes.med < b.attributes.med
        });
        keep(&mut left, &|a, b| a.speaker.external && !b.speaker.external);
        keep(&mut left, &|a, b| a.attributes.metric < b.attributes.metric);
        left
    }

    proptest! {
        #[test]
        fn as_the_book_has_it(routes in proptest::collection::vec(any_route(), 1..7), limit in 1usize..5) {
            let mut paths: Vec<&Route> = routes.iter().collect();
            keep_best(&mut paths, usize::MAX);
            let book = by_the_book(&routes);
            prop_assert_eq!(paths.iter().copied().cloned().collect::<Vec<_>>(), book.clone());
            keep_best(&mut paths, limit);
            prop_assert_eq!(paths.len(), book.len().min(limit));
            let key = |r: &Route| (r.speaker.router_id, r.path_id);
            let worst = paths.iter().map(|r| key(r)).max();
            let left_out = book.iter().filter(|r| !paths.contains(r)).map(key).min();
            prop_assert!(left_out.is_none() || worst <= left_out);
        }
    }
}
