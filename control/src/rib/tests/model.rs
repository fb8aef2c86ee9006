//! Random sequences of all that can happen, against a model that works everything out from scratch: no levels
//! stored, no dependencies, no interning, no groups.

use std::collections::{BTreeSet, HashMap};

use proptest::prelude::*;
use proptest::sample::select;

use super::*;
use crate::source::Origin;

const PREFIXES: &[&str] = &[
    "0.0.0.0/0",
    "10.0.0.0/8",
    "10.0.0.0/24",
    "10.0.0.0/25",
    "10.0.0.2/32",
    "10.0.0.130/32",
    "10.1.0.0/31",
    "10.2.0.0/16",
    "10.2.0.0/24",
    "10.2.0.1/32",
    "10.3.0.0/24",
    "10.4.0.0/24",
    "::/0",
    "2001:db8::/32",
    "2001:db8:1::/64",
    "2001:db8:2::/48",
    "2001:db8:1::2/128",
];
const NEXT_HOPS: &[&str] = &[
    "10.0.0.1",
    "10.0.0.2",
    "10.0.0.3",
    "10.0.0.130",
    "10.1.0.2",
    "10.2.0.1",
    "10.3.0.1",
    "10.4.0.1",
    "192.0.2.1",
    "2001:db8:1::2",
    "2001:db8:2::2",
    "fe80::2",
];
const NEIGHBOURS: &[&str] =
    &["10.0.0.2", "10.0.0.3", "10.0.0.130", "10.1.0.2", "2001:db8:1::2", "192.0.2.1", "fe80::2"];
/// Sub-interfaces: the second's prefix lies within the first's.
const INTERFACES: [&[&str]; 3] =
    [&["10.0.0.1/24"], &["10.0.0.129/25", "fe80::1/64"], &["10.1.0.1/30", "2001:db8:1::1/64"]];

#[derive(Clone, Debug)]
enum Op {
    Announce(u32, Vec<usize>, u32, Attributes),
    Withdraw(u32, Vec<usize>, u32),
    Up(u32),
    Down(u32),
    EndOfRib(u32, Family),
    Sweep(u32),
    Link(u16, bool),
    Remove(u16),
    Add(u16, bool),
    Neighbour(u16, usize, Option<u8>, bool),
    Hold(u16, usize, bool),
    Commit,
    /// A commit with little time.
    Slice(usize),
    FailingCommit(usize),
    Reclaim,
}

fn attributes() -> impl Strategy<Value = Attributes> {
    let next_hops = prop::collection::vec((select(NEXT_HOPS), 1u8..3), 0..4);
    (next_hops, 100u32..102, prop::collection::vec(1u32..3, 0..3), 0u32..2, any::<bool>()).prop_map(
        |(next_hops, local_pref, as_path, med, igp)| Attributes {
            next_hops: next_hops
                .into_iter()
                .map(|(address, weight)| NextHop { weight, ..NextHop::new(ip(address)) })
                .collect(),
            local_pref,
            as_path_len: as_path.len() as u32,
            as_path,
            origin: if igp { Origin::Igp } else { Origin::Incomplete },
            med,
            ..Attributes::default()
        },
    )
}

fn op() -> impl Strategy<Value = Op> {
    let source = || 1u32..=3;
    let prefixes = || prop::collection::vec(0..PREFIXES.len(), 1..4);
    let family = prop_oneof![Just(Family::Ipv4), Just(Family::Ipv6)];
    prop_oneof![
        12 => (source(), prefixes(), 0u32..2, attributes()).prop_map(|(s, p, i, a)| Op::Announce(s, p, i, a)),
        5 => (source(), prefixes(), 0u32..2).prop_map(|(s, p, i)| Op::Withdraw(s, p, i)),
        1 => source().prop_map(Op::Up),
        1 => source().prop_map(Op::Down),
        1 => (source(), family).prop_map(|(s, f)| Op::EndOfRib(s, f)),
        1 => source().prop_map(Op::Sweep),
        3 => (0u16..3, any::<bool>()).prop_map(|(s, up)| Op::Link(s, up)),
        1 => (0u16..3).prop_map(Op::Remove),
        1 => (0u16..3, any::<bool>()).prop_map(|(s, up)| Op::Add(s, up)),
        5 => (0u16..3, 0..NEIGHBOURS.len(), prop::option::of(0u8..2), any::<bool>())
            .prop_map(|(s, n, mac, failed)| Op::Neighbour(s, n, mac, failed)),
        2 => (0u16..3, 0..NEIGHBOURS.len(), any::<bool>()).prop_map(|(s, n, down)| Op::Hold(s, n, down)),
        6 => Just(Op::Commit),
        4 => (1usize..6).prop_map(Op::Slice),
        2 => (1usize..5).prop_map(Op::FailingCommit),
        2 => Just(Op::Reclaim),
    ]
}

/// (source, path id) → attributes, and whether it is stale.
type ModelPaths = BTreeMap<(u32, u32), (Attributes, bool)>;

#[derive(Default)]
struct Model {
    routes: BTreeMap<IpNetwork, ModelPaths>,
    /// Sub-interfaces that exist, with their links.
    links: BTreeMap<u16, bool>,
    neighbours: BTreeMap<(u16, IpAddr), Neighbour>,
    held_down: BTreeSet<(u16, IpAddr)>,
}

type Set = BTreeMap<(u16, IpAddr), u16>;

/// Where a prefix leads.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Leads {
    Local,
    Discard,
    Glean(u16),
    /// Over these; and over those when none of these answers.
    Via(Set, Set),
}

fn merge(into: &mut Set, from: &Set, weight: u8) {
    for (member, w) in from {
        let w = w.saturating_mul(u16::from(weight));
        let old = into.entry(*member).or_default();
        *old = w.max(*old);
    }
}

impl Model {
    fn apply(&mut self, op: &Op) {
        match op {
            Op::Announce(source, prefixes, id, attributes) => {
                for i in prefixes {
                    let paths = self.routes.entry(prefix(PREFIXES[*i])).or_default();
                    paths.insert((*source, *id), (attributes.clone(), false));
                }
            }
            Op::Withdraw(source, prefixes, id) => {
                for i in prefixes {
                    self.routes.entry(prefix(PREFIXES[*i])).or_default().remove(&(*source, *id));
                }
            }
            Op::Up(source) | Op::Down(source) => {
                for ((s, _), (_, stale)) in self.routes.values_mut().flatten() {
                    *stale |= s == source;
                }
            }
            Op::EndOfRib(source, family) => self.sweep(*source, |p| p.is_ipv4() == (*family == Family::Ipv4)),
            Op::Sweep(source) => self.sweep(*source, |_| true),
            Op::Link(subif, up) => {
                self.links.entry(*subif).and_modify(|link| *link = *up);
            }
            Op::Remove(subif) => {
                self.links.remove(subif);
                self.neighbours.retain(|(s, _), _| s != subif);
                self.held_down.retain(|(s, _)| s != subif);
            }
            Op::Add(subif, up) => {
                self.links.insert(*subif, *up);
            }
            Op::Hold(subif, i, true) if self.links.contains_key(subif) => {
                self.held_down.insert((*subif, ip(NEIGHBOURS[*i])));
            }
            Op::Hold(subif, i, false) => {
                self.held_down.remove(&(*subif, ip(NEIGHBOURS[*i])));
            }
            Op::Neighbour(subif, i, mac, failed) if self.links.contains_key(subif) => {
                let state = neighbour_state(*mac, *failed);
                self.neighbours.insert((*subif, ip(NEIGHBOURS[*i])), state);
            }
            _ => {}
        }
    }

    fn sweep(&mut self, source: u32, of: impl Fn(&IpNetwork) -> bool) {
        for (_, paths) in self.routes.iter_mut().filter(|(p, _)| of(p)) {
            paths.retain(|(s, _), (_, stale)| *s != source || !*stale);
        }
    }

    /// What the interfaces themselves lead to for exactly this prefix.
    fn own(&self, prefix: IpNetwork) -> Option<Leads> {
        let mut gleans = BTreeSet::new();
        let mut broadcast = false;
        for (subif, up) in &self.links {
            for text in INTERFACES[usize::from(*subif)] {
                let address: IpNetwork = text.parse().unwrap();
                if text.starts_with("fe80") {
                    continue;
                }
                if IpNetwork::from(address.ip()) == prefix {
                    return Some(Leads::Local);
                }
                if !up {
                    continue;
                }
                if address.network() == prefix.ip() && address.prefix() == prefix.prefix() {
                    gleans.insert(*subif);
                }
                let edge =
                    address.is_ipv4() && [address.network(), address.broadcast()].contains(&prefix.ip());
                broadcast |= edge && prefix.prefix() == 32;
            }
        }
        if broadcast { Some(Leads::Discard) } else { gleans.first().map(|s| Leads::Glean(*s)) }
    }

    /// Where a prefix leads, given where next hops lead. `None`: nowhere.
    fn leads(&self, prefix: IpNetwork, next_hop: &mut dyn FnMut(IpAddr) -> Set) -> Option<Leads> {
        if let Some(own) = self.own(prefix) {
            return Some(own);
        }
        let mut paths: Vec<(u32, &Attributes, Set)> = Vec::new();
        for ((source, _), (attributes, _)) in self.routes.get(&prefix)? {
            let mut set = Set::new();
            for nh in &attributes.next_hops {
                merge(&mut set, &next_hop(nh.address), nh.weight);
            }
            if attributes.next_hops.is_empty() || !set.is_empty() {
                // Source 1 is static, the others are BGP.
                paths.push((u32::from(*source != 1), attributes, set));
            }
        }
        let better = |a: &(u32, &Attributes, Set), b: &(u32, &Attributes, Set)| {
            let key = |(distance, a, _): &(u32, &Attributes, Set)| {
                (*distance, u32::MAX - a.local_pref, a.as_path_len, a.origin)
            };
            key(a) < key(b)
        };
        let med_better = |a: &(u32, &Attributes, Set), b: &(u32, &Attributes, Set)| {
            a.1.as_path.first() == b.1.as_path.first() && a.1.med < b.1.med
        };
        let best = |among: &[usize]| -> Vec<usize> {
            let is_best = |i: &&usize| !among.iter().any(|j| better(&paths[*j], &paths[**i]));
            let top: Vec<usize> = among.iter().filter(is_best).copied().collect();
            let is_best = |i: &&usize| !top.iter().any(|j| med_better(&paths[*j], &paths[**i]));
            top.iter().filter(is_best).copied().collect()
        };
        let merged = |of: &[usize]| {
            let mut all = Set::new();
            for i in of {
                merge(&mut all, &paths[*i].2, 1);
            }
            all
        };
        let top = best(&(0..paths.len()).collect::<Vec<_>>());
        if top.is_empty() {
            return None;
        }
        let all = merged(&top);
        if all.is_empty() {
            return Some(Leads::Discard);
        }
        // What leads over the same next hops only is no backup of theirs.
        let named = |i: usize| paths[i].1.next_hops.iter().map(|nh| nh.address);
        let of_top: BTreeSet<IpAddr> = top.iter().flat_map(|i| named(*i)).collect();
        let mut rest: Vec<usize> = (0..paths.len()).collect();
        rest.retain(|i| !paths[*i].2.is_empty() && named(*i).any(|address| !of_top.contains(&address)));
        let mut backup = Set::new();
        if top.iter().all(|i| !paths[*i].2.is_empty()) {
            backup = merged(&best(&rest));
            backup.retain(|member, _| !all.contains_key(member));
        }
        Some(Leads::Via(all, backup))
    }

    /// All prefixes that there are, by interfaces or sources.
    fn prefixes(&self) -> BTreeSet<IpNetwork> {
        let mut all: BTreeSet<IpNetwork> = self.routes.keys().copied().collect();
        for subif in self.links.keys() {
            for text in INTERFACES[usize::from(*subif)] {
                let a: IpNetwork = text.parse().unwrap();
                all.insert(IpNetwork::from(a.ip()));
                all.insert(IpNetwork::new(a.network(), a.prefix()).unwrap());
                if a.is_ipv4() {
                    all.insert(IpNetwork::from(a.network()));
                    all.insert(IpNetwork::from(a.broadcast()));
                }
            }
        }
        all
    }

    /// Where a next hop leads at a level, by the rule in `resolve.rs`.
    fn next_hop(&self, address: IpAddr, level: usize, memo: &mut HashMap<(IpAddr, usize), Set>) -> Set {
        if let Some(set) = memo.get(&(address, level)) {
            return set.clone();
        }
        let mut covering: Vec<IpNetwork> = self.prefixes().into_iter().collect();
        covering.retain(|p| p.contains(address) && p.prefix() > 0);
        covering.sort_by_key(|p| std::cmp::Reverse(p.prefix()));
        let mut set = Set::new();
        for prefix in covering {
            let mut below = |nh| match level {
                0 => Set::new(),
                _ => self.next_hop(nh, level - 1, memo),
            };
            match self.leads(prefix, &mut below) {
                None => continue,
                Some(Leads::Glean(subif)) => set = Set::from([((subif, address), 1)]),
                Some(Leads::Via(via, _)) => set = via,
                Some(Leads::Local | Leads::Discard) => {}
            }
            break;
        }
        memo.insert((address, level), set.clone());
        set
    }

    /// The whole FIB.
    fn fib(&self) -> BTreeMap<IpNetwork, Leads> {
        let mut memo = HashMap::new();
        let mut fib = BTreeMap::new();
        for prefix in self.prefixes() {
            let mut resolved = |nh| self.next_hop(nh, 8, &mut memo);
            if let Some(leads) = self.leads(prefix, &mut resolved) {
                fib.insert(prefix, leads);
            }
        }
        let mut hosts = BTreeMap::new();
        for ((subif, address), state) in &self.neighbours {
            let host = IpNetwork::from(*address);
            let longest = fib.iter().filter(|(p, _)| p.contains(*address)).max_by_key(|(p, _)| p.prefix());
            if matches!(state, Neighbour::Reachable(_))
                && longest.is_some_and(|(_, leads)| *leads == Leads::Glean(*subif))
            {
                hosts.insert(host, Leads::Via(Set::from([((*subif, *address), 1)]), Set::new()));
            }
        }
        fib.extend(hosts);
        fib
    }

    fn fitness(&self, subif: u16, address: IpAddr) -> u8 {
        let up = self.links.get(&subif).copied().unwrap_or(false);
        let up = up && !self.held_down.contains(&(subif, address));
        match self.neighbours.get(&(subif, address)) {
            Some(Neighbour::Reachable(_)) if up => 0,
            None | Some(Neighbour::Gone) if up => 1,
            _ => 2,
        }
    }

    /// What the buckets of a set of members with a backup are to do.
    fn buckets(&self, set: &Set, backup: &Set) -> BTreeSet<String> {
        let all = set.keys().map(|m| (m, false)).chain(backup.keys().map(|m| (m, true)));
        let standing = |((s, a), backup): ((u16, IpAddr), bool)| (self.fitness(s, a), backup);
        let best = all.clone().map(|(m, backup)| standing((*m, backup))).min();
        let usable = all.filter(|(m, backup)| Some(standing((**m, *backup))) == best);
        let text =
            |((subif, address), _): (&(u16, IpAddr), bool)| match self.neighbours.get(&(*subif, *address)) {
                Some(Neighbour::Reachable(mac)) if best.is_some_and(|(fitness, _)| fitness == 0) => {
                    format!("forward {subif} {address} {}", mac[5])
                }
                _ => format!("incomplete {subif} {address}"),
            };
        usable.map(text).collect()
    }
}

fn neighbour_state(mac: Option<u8>, failed: bool) -> Neighbour {
    match mac {
        Some(mac) => Neighbour::Reachable([2, 0, 0, 0, 0, mac]),
        None if failed => Neighbour::Failed,
        None => Neighbour::Gone,
    }
}

fn run(rib: &mut Rib, op: &Op) {
    match op {
        Op::Announce(source, prefixes, path_id, attributes) => {
            let announced =
                prefixes.iter().map(|i| Nlri { prefix: prefix(PREFIXES[*i]), path_id: *path_id }).collect();
            let attributes = Arc::new(attributes.clone());
            send(rib, *source, RouteEvent::Update { withdrawn: vec![], announced, attributes });
        }
        Op::Withdraw(source, prefixes, path_id) => {
            let withdrawn =
                prefixes.iter().map(|i| Nlri { prefix: prefix(PREFIXES[*i]), path_id: *path_id }).collect();
            send(
                rib,
                *source,
                RouteEvent::Update { withdrawn, announced: vec![], attributes: Arc::default() },
            );
        }
        Op::Up(source) => send(rib, *source, RouteEvent::Up),
        Op::Down(source) => send(rib, *source, RouteEvent::Down { reason: String::new(), retain: None }),
        Op::EndOfRib(source, family) => send(rib, *source, RouteEvent::EndOfRib(*family)),
        Op::Sweep(source) => rib.sweep_source(SourceId(*source)),
        Op::Link(subif, up) => drop(rib.set_link(SubIfId(*subif), *up)),
        Op::Remove(subif) => rib.remove_interface(SubIfId(*subif)),
        Op::Add(subif, up) => {
            let config = interface(VRF, INTERFACES[usize::from(*subif)]);
            rib.add_interface(SubIfId(*subif), &config, *up).unwrap();
        }
        Op::Neighbour(subif, i, mac, failed) => {
            let state = neighbour_state(*mac, *failed);
            let _ = rib.set_neighbour(SubIfId(*subif), ip(NEIGHBOURS[*i]), state);
        }
        Op::Hold(subif, i, down) => drop(rib.hold_down(SubIfId(*subif), ip(NEIGHBOURS[*i]), *down)),
        Op::Commit | Op::Slice(_) | Op::FailingCommit(_) | Op::Reclaim => {}
    }
}

/// The FIB and the published buckets are what the model says.
fn compare(rib: &Rib, plain: &Plain, model: &Model) {
    let expected = model.fib();
    let have: BTreeSet<IpNetwork> = plain.entries.keys().map(|(_, p)| *p).collect();
    assert_eq!(have, expected.keys().copied().collect::<BTreeSet<_>>());
    for (prefix, leads) in expected {
        let group = plain.entries[&(VRF, prefix)];
        let adjacencies = plain.buckets(group).iter().map(|adj| plain.published.adjacencies[adj.0 as usize]);
        let buckets: BTreeSet<String> = adjacencies.map(describe).collect();
        let members = |backup| -> Set { rib.members_of(group, backup).into_iter().collect() };
        match leads {
            Leads::Local => assert_eq!(group, GroupId::LOCAL, "{prefix}"),
            Leads::Discard => assert_eq!(group, GroupId::DISCARD, "{prefix}"),
            Leads::Glean(s) => assert_eq!(buckets, BTreeSet::from([format!("glean {s}")]), "{prefix}"),
            Leads::Via(set, backup) => {
                assert_eq!(buckets, model.buckets(&set, &backup), "{prefix}");
                assert_eq!(members(false), set, "{prefix}");
                assert_eq!(members(true), backup, "{prefix}");
            }
        }
    }
}

impl Rib {
    fn members_of(&self, group: GroupId, backup: bool) -> Vec<((u16, IpAddr), u16)> {
        let views = self.groups().filter(|g| g.id == group.0).flat_map(|g| g.members);
        let views = views.filter(|m| m.backup == backup);
        views.filter_map(|m| Some(((m.subif, m.gateway?), m.weight))).collect()
    }
}

/// The other VRF, to which everything is leaked, has what the first one has.
fn follows(plain: &Plain) {
    let of =
        |vrf| plain.entries.iter().filter(move |((v, _), _)| *v == vrf).map(|((_, p), group)| (p, group));
    assert_eq!(of(VrfId(1)).collect::<Vec<_>>(), of(VRF).collect::<Vec<_>>());
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 600, ..ProptestConfig::default() })]
    #[test]
    fn the_fib_is_what_the_routes_say(ops in prop::collection::vec(op(), 1..80)) {
        let mut rib = rib();
        let everything = ["0.0.0.0/0", "::/0"].map(prefix).to_vec();
        let leak = crate::config::model::Leak { from: VRF, to: VrfId(1), prefixes: everything, exact: false };
        rib.set_leaks(&[leak]).unwrap();
        let mut plain = Plain::default();
        let mut model = Model::default();
        for i in 0..3 {
            run(&mut rib, &Op::Add(i, true));
            model.apply(&Op::Add(i, true));
        }
        for op in ops {
            run(&mut rib, &op);
            model.apply(&op);
            match op {
                Op::FailingCommit(failing) => {
                    plain.failing = failing;
                    let _ = plain.commit(&mut rib);
                    plain.failing = 0;
                }
                Op::Slice(times) => {
                    prop_assert_eq!(plain.slice(&mut rib, times).failure, None);
                }
                Op::Commit => {
                    let done = plain.commit(&mut rib);
                    prop_assert_eq!((done.pending, done.failure), (0, None));
                    compare(&rib, &plain, &model);
                    follows(&plain);
                    prop_assert!(!rib.is_dirty());
                    let (published, writes) = (plain.publishes, plain.inserts + plain.removes);
                    let _ = plain.commit(&mut rib);
                    prop_assert_eq!((published, writes), (plain.publishes, plain.inserts + plain.removes));
                }
                Op::Reclaim => rib.reclaim(|_| true),
                _ => {}
            }
        }
        let done = plain.commit(&mut rib);
        prop_assert_eq!(done.pending, 0);
        compare(&rib, &plain, &model);
                    follows(&plain);
        assert_all_returns(rib, plain, 3);
    }
}
