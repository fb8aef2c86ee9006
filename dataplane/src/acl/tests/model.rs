//! What a list says of a packet, by trying one rule after another, and the comparison of compiled lists with it: random
//! rules, and packets at the edges of what they ask for.

use proptest::prelude::*;

use crate::acl::address::Address;
use crate::acl::keys::{State, kind};
use crate::acl::{Acl, Action, Addresses, Classifier, Family, HAS_PORTS, ICMP, ICMPV6, Keys, Rule, TCP, UDP};
use crate::burst::BURST;
#[cfg(all(target_arch = "x86_64", not(miri)))]
use crate::worker::Instructions;

/// The fields of one packet.
#[derive(Clone, Copy, Debug)]
struct Sample<A> {
    source: A,
    destination: A,
    protocol: u8,
    state: State,
    ports: (u16, u16),
    dscp: u8,
    vlans: (u16, u16),
}

trait Model: Address {
    fn covers(addresses: &Addresses, address: Self) -> bool;
    fn from_bits(bits: u128) -> Self;
}

impl Model for u32 {
    fn covers(addresses: &Addresses, address: Self) -> bool {
        addresses.v4.iter().any(|&(prefix, len)| len == 0 || (prefix ^ address) >> (32 - len) == 0)
    }
    fn from_bits(bits: u128) -> Self {
        (bits >> 96) as u32
    }
}

impl Model for u128 {
    fn covers(addresses: &Addresses, address: Self) -> bool {
        addresses.v6.iter().any(|&(prefix, len)| len == 0 || (prefix ^ address) >> (128 - len) == 0)
    }
    fn from_bits(bits: u128) -> Self {
        bits
    }
}

fn matches<A: Model>(rule: &Rule, packet: &Sample<A>) -> bool {
    let within = |ranges: &[(u16, u16)], value: u16| {
        ranges.is_empty() || ranges.iter().any(|range| (range.0..=range.1).contains(&value))
    };
    let whole = matches!(packet.state, State::Whole | State::Established);
    rule.family.is_none_or(|family| family == A::FAMILY)
        && rule.source.as_ref().is_none_or(|some| A::covers(some, packet.source))
        && rule.destination.as_ref().is_none_or(|some| A::covers(some, packet.destination))
        && (rule.protocols.is_empty() || rule.protocols.contains(&packet.protocol))
        && (rule.source_ports.is_empty() || whole && within(&rule.source_ports, packet.ports.0))
        && (rule.destination_ports.is_empty() || whole && within(&rule.destination_ports, packet.ports.1))
        && (rule.icmp.is_empty() || whole && within(&rule.icmp, packet.ports.0))
        && (rule.dscp.is_empty() || rule.dscp.contains(&packet.dscp))
        && within(&rule.outer_vlans, packet.vlans.0)
        && within(&rule.inner_vlans, packet.vlans.1)
        && (!rule.established || packet.state == State::Established)
        && (!rule.fragments || packet.state == State::LaterFragment)
}

/// The number of the rule that ends the packet's way (that of the implicit end is the number of rules), whether it is
/// denied, and the rules that count it.
fn judge<A: Model>(rules: &[Rule], packet: &Sample<A>) -> (u16, bool, Vec<u16>) {
    let mut counted = Vec::new();
    for (number, rule) in rules.iter().enumerate() {
        if matches(rule, packet) {
            match rule.action {
                Action::Permit => return (number as u16, false, counted),
                Action::Deny => return (number as u16, true, counted),
                Action::Count => counted.push(number as u16),
            }
        }
    }
    (rules.len() as u16, true, counted)
}

/// With which instructions.
#[derive(Clone, Copy, Debug)]
enum Way {
    Portable,
    Avx2,
    Best,
}

/// Compares the compiled list with the model.
fn compare<A: Model>(rules: &[Rule], classifier: &Classifier<A>, packets: &[Sample<A>]) {
    for packets in packets.chunks(BURST) {
        let mut keys = Keys::<A> { len: packets.len(), ..Keys::default() };
        for (at, packet) in packets.iter().enumerate() {
            keys.source[at] = packet.source;
            keys.destination[at] = packet.destination;
            keys.kind[at] = kind(packet.protocol, packet.state);
            (keys.source_port[at], keys.destination_port[at]) = packet.ports;
            keys.dscp[at] = packet.dscp;
            (keys.outer_vlan[at], keys.inner_vlan[at]) = packet.vlans;
        }
        for way in [Way::Portable, Way::Avx2, Way::Best] {
            let mut ends = [0; BURST];
            let mut counted = vec![Vec::new(); BURST];
            let count = |at: usize, counter| counted[at].push(counter);
            let denied = match way {
                Way::Portable => classifier.portable(&keys, &mut ends, count),
                #[cfg(all(target_arch = "x86_64", not(miri)))]
                Way::Avx2 if Instructions::of_this_processor() != Instructions::Baseline => {
                    // SAFETY: the processor has the features.
                    #[allow(unsafe_code)]
                    unsafe {
                        match &classifier.counts {
                            None => classifier.with_avx2(&keys, &mut ends),
                            Some(some) => classifier.counting_with_avx2(&keys, &mut ends, some, count),
                        }
                    }
                }
                _ => classifier.classify(&keys, &mut ends, count),
            };
            for (at, packet) in packets.iter().enumerate() {
                let got = (ends[at] & 0x7fff, (denied >> at) & 1 == 1, std::mem::take(&mut counted[at]));
                assert_eq!(got, judge(rules, packet), "{packet:?}, {way:?}");
                assert_eq!(got.1, ends[at] >> 15 == 1);
            }
            assert_eq!(denied.checked_shr(packets.len() as u32).unwrap_or(0), 0);
        }
    }
}

fn any_action() -> impl Strategy<Value = Action> {
    prop_oneof![5 => Just(Action::Permit), 4 => Just(Action::Deny), 2 => Just(Action::Count)]
}

/// Few upper bits differ, so that prefixes lie within and beside each other.
fn any_bits() -> impl Strategy<Value = u128> {
    (0..4u128, 0..3u128, any::<u128>(), 0..128u32).prop_map(|(top, middle, low, shift)| {
        top << 126 | middle << 100 | middle << 64 | (low >> shift) & ((1 << 60) - 1)
    })
}

fn any_addresses() -> impl Strategy<Value = Option<Addresses>> {
    let v4 = prop::collection::vec(
        (any_bits().prop_map(|bits| (bits >> 96) as u32 | bits as u32), 0..=32u8),
        0..3,
    );
    let v6 = prop::collection::vec((any_bits(), prop_oneof![0..=128u8, Just(64), Just(128)]), 0..3);
    prop_oneof![
        Just(None),
        (v4, v6).prop_map(|(v4, v6)| {
            let none = v4.is_empty() && v6.is_empty();
            (!none).then_some(Addresses { v4, v6 })
        })
    ]
}

fn any_ranges(top: u16) -> impl Strategy<Value = Vec<(u16, u16)>> {
    let range = (0..=top, 0..40u16, any::<bool>()).prop_map(move |(first, more, wide)| {
        let last = if wide { top } else { first.saturating_add(more).min(top) };
        (first, last)
    });
    prop_oneof![2 => Just(vec![]), 1 => prop::collection::vec(range, 1..3)]
}

fn any_rule() -> impl Strategy<Value = Rule> {
    let protocols = prop_oneof![
        Just(vec![]),
        Just(vec![TCP]),
        Just(vec![TCP, UDP]),
        Just(vec![ICMP, ICMPV6]),
        prop::collection::vec(any::<u8>(), 1..3)
    ];
    let dscp = prop_oneof![3 => Just(vec![]), 1 => prop::collection::vec(0..64u8, 1..4)];
    let family = prop_oneof![4 => Just(None), 1 => Just(Some(Family::V4)), 1 => Just(Some(Family::V6))];
    let ranges = (any_ranges(u16::MAX), any_ranges(u16::MAX), any_ranges(4095), any_ranges(4095));
    (
        (any_action(), family, any_addresses(), any_addresses(), protocols),
        (ranges, dscp, any::<bool>(), 0..8u8),
    )
        .prop_map(|((action, family, source, destination, protocols), (ranges, dscp, tags, how))| {
            let mut rule = Rule { family, source, destination, protocols, dscp, ..Rule::any(action) };
            if !rule.protocols.is_empty() && rule.protocols.iter().all(|p| HAS_PORTS.contains(p)) {
                (rule.source_ports, rule.destination_ports) = (ranges.0, ranges.1);
            } else if rule.protocols == [ICMP, ICMPV6] {
                rule.icmp = ranges.0;
            }
            if tags {
                (rule.outer_vlans, rule.inner_vlans) = (ranges.2, ranges.3);
            }
            rule.established = how == 0 && (rule.protocols.is_empty() || rule.protocols == [TCP]);
            rule.fragments = how == 1 && !rule.needs_transport();
            rule
        })
}

/// Picks from what is at the edges of a rule's demands.
struct Picker {
    state: u64,
}

impl Picker {
    fn below(&mut self, bound: usize) -> usize {
        self.state =
            self.state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        ((self.state >> 33) as usize) % bound.max(1)
    }

    /// In a range, or just beside it.
    fn port(&mut self, ranges: &[(u16, u16)]) -> u16 {
        if ranges.is_empty() {
            return self.below(65_536) as u16;
        }
        let (first, last) = ranges[self.below(ranges.len())];
        [first, last, first.wrapping_sub(1), last.wrapping_add(1)][self.below(4)]
    }

    fn address<A: Model>(&mut self, addresses: Option<&Addresses>) -> A {
        let ranges = addresses.map(A::ranges).unwrap_or_default();
        if ranges.is_empty() {
            let bits = (0..4).fold(0u128, |bits, _| bits << 32 | self.below(1 << 31) as u128);
            return A::from_bits(bits);
        }
        let (first, last) = ranges[self.below(ranges.len())];
        [first, last, first.before(), last.after().unwrap_or_default()][self.below(4)]
    }

    fn packet<A: Model>(&mut self, rules: &[Rule]) -> Sample<A> {
        let none = Rule::any(Action::Permit);
        let rule = rules.get(self.below(rules.len() + 1)).unwrap_or(&none);
        let other = rules.get(self.below(rules.len() * 4 + 1)).unwrap_or(rule);
        let protocols = [ICMP, TCP, UDP, ICMPV6, 47, 33];
        let protocol = match rule.protocols.as_slice() {
            [] => protocols[self.below(protocols.len())],
            some => some[self.below(some.len())].wrapping_add(u8::from(self.below(9) == 0)),
        };
        let first = if rule.icmp.is_empty() { &rule.source_ports } else { &rule.icmp };
        let state = match self.below(if rule.fragments || rule.established { 4 } else { 12 }) {
            0 => State::LaterFragment,
            1 => State::CutOff,
            2 if protocol == TCP => State::Established,
            3 if protocol == TCP => State::Established,
            _ => State::Whole,
        };
        let dscp = match rule.dscp.as_slice() {
            [] => self.below(64) as u8,
            some => (some[self.below(some.len())] + u8::from(self.below(4) == 0)) & 63,
        };
        let vlan = |picker: &mut Self, ranges: &[(u16, u16)]| picker.port(ranges) & 0xfff;
        let whole = matches!(state, State::Whole | State::Established);
        Sample {
            source: self.address(rule.source.as_ref()),
            destination: self.address(other.destination.as_ref()),
            protocol,
            state,
            ports: if whole { (self.port(first), self.port(&other.destination_ports)) } else { (0, 0) },
            dscp,
            vlans: (vlan(self, &rule.outer_vlans), vlan(self, &rule.inner_vlans)),
        }
    }
}

fn check(rules: &[Rule], packets: usize, seed: u64) {
    let counters: Vec<u16> = (0..=rules.len() as u16).collect();
    let acl = Acl::new(rules, &counters).unwrap();
    let mut picker = Picker { state: seed };
    let v4: Vec<Sample<u32>> = (0..packets).map(|_| picker.packet(rules)).collect();
    let v6: Vec<Sample<u128>> = (0..packets).map(|_| picker.packet(rules)).collect();
    compare(rules, &acl.v4, &v4);
    compare(rules, &acl.v6, &v6);
}

proptest! {
    #[test]
    fn short_lists_say_what_their_rules_say(
        rules in prop::collection::vec(any_rule(), 0..12),
        packets in 1..200usize,
        seed: u64,
    ) {
        check(&rules, packets, seed);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(12))]
    #[test]
    fn long_lists_say_what_their_rules_say(rules in prop::collection::vec(any_rule(), 400..1300), seed: u64) {
        check(&rules, 400, seed);
        // Rows are of another width up to 63, 255, 511 and 1,023 rules; without counting rules the search is another one.
        for count in [63, 64, 255, 256] {
            check(&rules[..count], 100, seed);
        }
        let deciding: Vec<Rule> = rules.into_iter().filter(|rule| rule.action != Action::Count).collect();
        for count in [63, 64, 255, 256, 511, 512, 513, deciding.len()] {
            check(&deciding[..count.min(deciding.len())], 200, seed);
        }
    }
}

#[test]
fn a_list_of_4096_rules_stays_small_and_right() {
    let prefix = |at: u32| Addresses {
        v4: vec![(0x0a00_0000 + at * 256, 24)],
        v6: vec![((0x2001_0db8 << 16 | u128::from(at)) << 80, 48)],
    };
    let rules: Vec<Rule> = (0..4096)
        .map(|at| Rule {
            source: Some(prefix(at)),
            destination: Some(prefix(at * 7 % 4096)),
            protocols: vec![TCP],
            destination_ports: vec![(at as u16, at as u16 + 100)],
            ..Rule::any(if at % 3 == 0 { Action::Deny } else { Action::Permit })
        })
        .collect();
    check(&rules, 2000, 7);
    let counters: Vec<u16> = (0..=4096).collect();
    let acl = Acl::new(&rules, &counters).unwrap();
    assert!(acl.memory() < 24 << 20, "{} bytes", acl.memory());
}

/// Rules by one port each, or by ranges that begin at each, in both places.
fn by_ports(count: u16) -> Vec<Rule> {
    let ports = |at: u16| vec![(at * 37, at * 37 + at % 5)];
    let rule = |at: u16| Rule {
        protocols: vec![if at.is_multiple_of(3) { UDP } else { TCP }],
        source_ports: if at.is_multiple_of(2) { ports(at) } else { vec![] },
        destination_ports: ports(at / 2),
        ..Rule::any(if at.is_multiple_of(7) { Action::Deny } else { Action::Permit })
    };
    (1..=count).map(rule).collect()
}

#[test]
fn ports_are_found_however_many_rules_tell_apart() {
    // Few intervals of the first port are put together with protocols; many of either port are a table of all values.
    for count in [1, 20, 30, 31, 32, 33, 60, 63, 64, 127, 128, 300, 1000] {
        check(&by_ports(count), 300, u64::from(count));
    }
}

#[test]
fn the_empty_list_denies_everything() {
    check(&[], 100, 1);
}
