//! Which VRF reaches which, by packets: every pair, both families. Each VRF has a sub-interface on the LAN's wire, and
//! one on the other with a host and a prefix behind it that no other VRF has.

use super::{Guards, PORTS, Side, q, udp};
use crate::bench::send;

const NAMES: [&str; 3] = ["red", "blue", "green"];
const ENTRIES: [Side; 3] =
    [Side { port: 0, tags: &[q(51)] }, Side { port: 0, tags: &[q(52)] }, Side { port: 0, tags: &[q(53)] }];
const EXITS: [Side; 3] =
    [Side { port: 1, tags: &[q(61)] }, Side { port: 1, tags: &[q(62)] }, Side { port: 1, tags: &[q(63)] }];

/// A host on the way in, on the way out, and behind the latter, of each family.
fn hosts(vrf: usize, v6: bool) -> [String; 3] {
    let n = vrf + 1;
    if v6 {
        [format!("fd51:{n}::9"), format!("fd61:{n}::9"), format!("fd71:{n}::9")]
    } else {
        [format!("10.51.{n}.9"), format!("10.61.{n}.9"), format!("10.71.{n}.9")]
    }
}

/// The VRFs in the configuration. `leaks`: `red` and `blue` leak to each other what is on and behind their exits.
pub fn config(leaks: bool) -> String {
    let mut text = String::new();
    for (vrf, name) in NAMES.iter().enumerate() {
        let n = vrf + 1;
        for (side, port, vlan) in [("in", "lan", 50 + n), ("out", "wan", 60 + n)] {
            let net = if side == "in" { 51 } else { 61 };
            text += &format!(
                "[[interface]]\nname = \"{name}-{side}\"\nport = \"{port}\"\nvlan = {vlan}\nvrf = \"{name}\"\n\
                 addresses = [\"10.{net}.{n}.1/24\", \"fd{net}:{n}::1/64\"]\n"
            );
            if (side, *name) == ("in", "green") {
                text += "reverse_path = \"loose\"\n";
            }
            let at = usize::from(side == "out");
            let addresses = [false, true].map(|v6| hosts(vrf, v6)[at].clone());
            text += &super::neighbours(&format!("{name}-{side}"), &addresses.each_ref().map(String::as_str));
        }
        for (prefix, via) in [
            (format!("10.71.{n}.0/24"), format!("10.61.{n}.9")),
            (format!("fd71:{n}::/48"), format!("fd61:{n}::9")),
        ] {
            text += &format!("[[route]]\nvrf = \"{name}\"\nprefix = \"{prefix}\"\nvia = \"{via}\"\n");
        }
        for prefix in [format!("10.71.{n}.128/25"), format!("fd71:{n}:0:8000::/49")] {
            text += &format!("[[route]]\nvrf = \"{name}\"\nprefix = \"{prefix}\"\ndiscard = true\n");
        }
    }
    let leak = |from: &str, to: &str, n: usize| {
        format!(
            "[[leak]]\nfrom = \"{from}\"\nto = \"{to}\"\n\
             prefixes = [\"10.61.{n}.0/24\", \"10.71.{n}.0/24\", \"fd61:{n}::/64\", \"fd71:{n}::/48\"]\n"
        )
    };
    if leaks { text + &leak("red", "blue", 1) + &leak("blue", "red", 2) } else { text }
}

/// Without leaks each VRF reaches itself alone.
pub fn isolated(guards: &mut Guards) {
    matrix(guards, |from, to| from == to);
}

/// With them, `red` and `blue` reach each other too; `green` is as alone as before.
pub fn leaked(guards: &mut Guards) {
    matrix(guards, |from, to| from == to || (from < 2 && to < 2));
    // Traffic back: what leaves `blue` for `red`'s exit is answered from there.
    for v6 in [false, true] {
        let (there, back) = (hosts(1, v6), hosts(0, v6));
        let (counted, seen) = guards.pass(EXITS[1], EXITS[0], &[udp(&there[2], &back[2])], 1);
        assert_eq!((counted.forwarded, seen.len()), (1, 1), "{counted:?}");
        let (counted, seen) = guards.pass(EXITS[0], EXITS[1], &[udp(&back[2], &there[2])], 1);
        assert_eq!((counted.forwarded, seen.len()), (1, 1), "{counted:?}");
    }
}

/// With loose reverse paths, sources may be behind any link of the VRF, but not nowhere.
pub fn loose_reverse_paths(guards: &mut Guards) {
    const GREEN: usize = 2;
    let to = [false, true].map(|v6| hosts(GREEN, v6)[2].clone());
    let known = ["10.51.3.9", "10.71.3.9", "fd51:3::9", "fd71:3::9"];
    let unknown = ["11.0.0.1", "10.71.1.9", "2001:db9::1", "fd71:1::9"];
    let packets = |sources: [&str; 4]| sources.map(|s| udp(s, &to[usize::from(s.contains(':'))]));
    let (counted, seen) = guards.pass(ENTRIES[GREEN], EXITS[GREEN], &packets(known), 4);
    assert_eq!((counted.forwarded, seen.len()), (4, 4), "{counted:?}");
    guards.assert_dropped(ENTRIES[GREEN], "reverse_path", &packets(unknown));
    // Elsewhere it is off: from anywhere.
    let (counted, seen) = guards.pass(ENTRIES[0], EXITS[0], &[udp("11.0.0.1", "10.71.1.9")], 1);
    assert_eq!((counted.forwarded, seen.len()), (1, 1), "{counted:?}");
}

/// A discard route drops in its own VRF and in the one that it is leaked to.
pub fn discard(guards: &mut Guards) {
    for (entry, name) in ENTRIES.iter().zip(NAMES).take(2) {
        let discarded = [udp("10.51.1.9", "10.71.1.200"), udp("fd51:1::9", "fd71:1:0:8000::9")];
        guards.assert_dropped(*entry, "discard_route", &discarded);
        println!("    discarded in {name}");
    }
}

/// Sends from every VRF to the hosts of every VRF, in both families: what is to arrive does, in its own VRF and nowhere
/// else; the rest has no route.
fn matrix(guards: &Guards, reaches: impl Fn(usize, usize) -> bool) {
    for from in 0..NAMES.len() {
        for to in 0..NAMES.len() {
            let packets: Vec<_> = [false, true]
                .into_iter()
                .flat_map(|v6| {
                    let (source, there) = (hosts(from, v6), hosts(to, v6));
                    [udp(&source[0], &there[1]), udp(&source[0], &there[2])]
                })
                .collect();
            let pair = format!("{} to {}", NAMES[from], NAMES[to]);
            if reaches(from, to) {
                let (counted, seen) = guards.pass(ENTRIES[from], EXITS[to], &packets, packets.len());
                assert_eq!(counted.forwarded, 4, "{pair}: {counted:?}");
                assert_eq!(seen.len(), 4, "{pair}");
            } else {
                let frames: Vec<_> = packets.iter().map(|packet| ENTRIES[from].frame(packet)).collect();
                let counted = send(guards.router(), &guards.wires[0], PORTS[0], &frames);
                assert_eq!((counted.ended("no_route"), counted.forwarded), (4, 0), "{pair}: {counted:?}");
            }
        }
    }
}
