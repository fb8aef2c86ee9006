//! Lists as they are in the field, and packets that their rules are about.

use dataplane::acl::{Action, Addresses, Rule, TCP, UDP};
use dataplane::burst::BURST;

use crate::lpm::Family;
use crate::lpm::random::Random;

/// Ports that rules name most.
const PORTS: [u16; 12] = [22, 25, 53, 80, 123, 161, 443, 445, 1433, 3306, 3389, 8080];
/// Packets of a case: many more than a branch predictor learns by heart.
pub const PACKETS: usize = 16_384;

/// Up to `count` different rules: half of them permit, none repeats, and each looks at addresses, nearly all at a
/// protocol and most at a port.
pub fn rules(family: Family, count: usize, random: &mut Random) -> Vec<Rule> {
    let sites: Vec<u128> = (0..24).map(|_| site(family, random)).collect();
    let mut rules: Vec<Rule> = Vec::with_capacity(count);
    while rules.len() < count {
        let rule = rule(family, &sites, random);
        if !rules.contains(&rule) {
            rules.push(rule);
        }
    }
    rules
}

/// The upper bits of one of the places that a list is about.
fn site(family: Family, random: &mut Random) -> u128 {
    match family {
        Family::V4 => (10u128 << 24 | (random.below(256) as u128) << 16) << 96,
        Family::V6 => (0x2001_0db8u128 << 32 | (random.below(1 << 16) as u128) << 16) << 64,
    }
}

fn rule(family: Family, sites: &[u128], random: &mut Random) -> Rule {
    let action = if random.below(2) == 0 { Action::Permit } else { Action::Deny };
    let mut rule = Rule::any(action);
    rule.source = (random.below(5) > 0).then(|| prefix(family, sites, random));
    rule.destination = Some(prefix(family, sites, random));
    match random.below(10) {
        0 => {}
        1..=2 => rule.protocols = vec![UDP],
        _ => rule.protocols = vec![TCP],
    }
    if rule.protocols.is_empty() {
        return rule;
    }
    match random.below(20) {
        0 => rule.source_ports = vec![(1024, u16::MAX)],
        1 => rule.source_ports = vec![port(random)],
        _ => {}
    }
    match random.below(10) {
        0..=5 => rule.destination_ports = vec![port(random)],
        6 => {
            let first = random.below(60_000) as u16;
            rule.destination_ports = vec![(first, first + random.below(2000) as u16)];
        }
        _ => {}
    }
    rule
}

fn port(random: &mut Random) -> (u16, u16) {
    let port =
        if random.below(2) == 0 { PORTS[random.below(PORTS.len())] } else { random.below(65_536) as u16 };
    (port, port)
}

fn prefix(family: Family, sites: &[u128], random: &mut Random) -> Addresses {
    let site = sites[random.below(sites.len())];
    let lens: &[(u8, u32)] = match family {
        Family::V4 => &[(16, 1), (20, 2), (22, 2), (24, 8), (26, 2), (28, 3), (30, 1), (32, 6)],
        Family::V6 => &[(48, 2), (52, 1), (56, 4), (60, 1), (64, 10), (128, 4)],
    };
    let len = random.weighted(lens);
    let host = random.bits128() >> if family == Family::V4 { 16 } else { 48 };
    let mut address = site | host & !(u128::MAX.checked_shr(u32::from(len)).unwrap_or(0));
    if family == Family::V6 && len == 128 {
        // Servers have small numbers.
        address = address >> 64 << 64 | random.below(256) as u128;
    }
    match family {
        Family::V4 => Addresses { v4: vec![((address >> 96) as u32, len)], v6: vec![] },
        Family::V6 => Addresses { v4: vec![], v6: vec![(address, len)] },
    }
}

/// IP and transport headers, one packet after another: nine in ten within what a random rule asks for, the others
/// anywhere.
pub fn packets(family: Family, rules: &[Rule], random: &mut Random) -> Vec<Packet> {
    (0..PACKETS)
        .map(|_| {
            let any = Rule::any(Action::Permit);
            let rule = if random.below(10) > 0 { &rules[random.below(rules.len())] } else { &any };
            packet(family, rule, random)
        })
        .collect()
}

/// Headers of a packet: 64 bytes are enough for both families' addresses and TCP's flags.
#[derive(Clone, Copy)]
#[repr(C, align(64))]
pub struct Packet(pub [u8; 64]);

impl Packet {
    /// Bytes in it that count.
    pub const fn len(family: Family) -> usize {
        match family {
            Family::V4 => 40,
            Family::V6 => 60,
        }
    }
}

/// Reads the headers of a burst.
pub fn touch(packets: &[Packet], burst: usize) -> u64 {
    packets[burst * BURST..(burst + 1) * BURST].iter().map(|packet| u64::from(packet.0[9])).sum()
}

fn packet(family: Family, rule: &Rule, random: &mut Random) -> Packet {
    let mut address = |addresses: Option<&Addresses>| {
        let prefix = match (family, addresses) {
            (_, None) => (0, 0),
            (Family::V4, Some(some)) => some.v4.first().map_or((0, 0), |p| (u128::from(p.0) << 96, p.1)),
            (Family::V6, Some(some)) => some.v6.first().map_or((0, 0), |p| (p.0, p.1)),
        };
        prefix.0 | random.bits128() & u128::MAX.checked_shr(u32::from(prefix.1)).unwrap_or(0)
    };
    let (source, destination) = (address(rule.source.as_ref()), address(rule.destination.as_ref()));
    let protocol = rule.protocols.first().copied().unwrap_or([TCP, UDP][random.below(2)]);
    let mut port = |ranges: &[(u16, u16)]| match ranges.first() {
        Some((first, last)) => first + random.below(usize::from(last - first) + 1) as u16,
        None => random.below(65_536) as u16,
    };
    let ports = [port(&rule.source_ports), port(&rule.destination_ports)];
    let mut bytes = [0; 64];
    let transport = match family {
        Family::V4 => {
            bytes[0] = 0x45;
            bytes[3] = 40;
            bytes[9] = protocol;
            bytes[12..16].copy_from_slice(&source.to_be_bytes()[..4]);
            bytes[16..20].copy_from_slice(&destination.to_be_bytes()[..4]);
            20
        }
        Family::V6 => {
            bytes[0] = 0x60;
            bytes[5] = 20;
            bytes[6] = protocol;
            bytes[8..24].copy_from_slice(&source.to_be_bytes());
            bytes[24..40].copy_from_slice(&destination.to_be_bytes());
            40
        }
    };
    bytes[transport..transport + 2].copy_from_slice(&ports[0].to_be_bytes());
    bytes[transport + 2..transport + 4].copy_from_slice(&ports[1].to_be_bytes());
    Packet(bytes)
}
