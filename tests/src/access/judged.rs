//! What lists say of packets, and what becomes of those that are denied.

use std::net::IpAddr;

use super::{FROM_A, Gate, TO_B};
use crate::frame::{self, Tag, UDP};
use crate::suite::SOON;
use crate::wait;
use crate::wire::Way;

const TCP: u8 = 6;
const VLAN: &[Tag] = &[Tag::new(0x8100, 30)];
/// What a case is, its tags, the packet, the rule of `from-a` that decides, and what the packet ends by if it does: the
/// reason, and the rule of its list.
type Case = (&'static str, &'static [Tag], Vec<u8>, usize, Option<(&'static str, usize)>);
const THROUGH: Option<(&str, usize)> = None;

fn ip(text: &str) -> IpAddr {
    text.parse().expect("an address")
}

/// A TCP segment with these flags.
fn tcp(from: &str, to: &str, port: u16, flags: u8) -> Vec<u8> {
    let mut segment = vec![0; 20];
    segment[..2].copy_from_slice(&40_000u16.to_be_bytes());
    segment[2..4].copy_from_slice(&port.to_be_bytes());
    (segment[12], segment[13]) = (0x50, flags);
    frame::packet(ip(from), ip(to), TCP, 64, &segment)
}

pub(super) fn udp(from: &str, to: &str, port: u16) -> Vec<u8> {
    frame::udp((ip(from), 40_000), (ip(to), port), 64, b"by a list")
}

/// The same IPv4 packet with this TOS.
fn marked(mut packet: Vec<u8>, tos: u8) -> Vec<u8> {
    packet[1] = tos;
    frame::renew_checksum(&mut packet);
    packet
}

/// The same IPv4 packet as a fragment: its flags and offset.
fn fragment(mut packet: Vec<u8>, field: u16) -> Vec<u8> {
    packet[6..8].copy_from_slice(&field.to_be_bytes());
    frame::renew_checksum(&mut packet);
    packet
}

/// The same IPv4 packet with these options.
fn with_options(packet: &[u8], options: [u8; 4]) -> Vec<u8> {
    let mut packet = packet.to_vec();
    packet.splice(20..20, options);
    packet[0] = 0x46;
    let length = (packet.len() as u16).to_be_bytes();
    packet[2..4].copy_from_slice(&length);
    frame::renew_checksum(&mut packet);
    packet
}

/// IPv6 with a header before the transport header.
fn extended(packet: &[u8], kind: u8, header: [u8; 8]) -> Vec<u8> {
    let mut packet = packet.to_vec();
    packet.splice(40..40, header);
    let length = (packet.len() as u16 - 40).to_be_bytes();
    packet[4..6].copy_from_slice(&length);
    packet[6] = kind;
    packet
}

/// Permit, deny, count, established, fragments, tags, DSCP, both families, in and out; each packet's fate, and the rule
/// that it is counted by.
pub fn rules_decide_and_count(gate: &mut Gate) {
    let (syn, ack, rst) = (0x02, 0x10, 0x04);
    let (a, b, a6, b6) = ("10.1.0.2", "10.2.0.2", "fd00:1::2", "fd00:2::2");
    let ssh = tcp(a6, b6, 22, syn);
    let echo6 = |to: &str, kind: u8| frame::packet(ip(a6), ip(to), 58, 64, &[kind, 0, 0, 0, 0, 1, 0, 1]);
    let (in_, out) = ("acl_denied_in", "acl_denied_out");
    let end = FROM_A.len();
    let cases: Vec<Case> = vec![
        ("https", &[], tcp(a, b, 443, syn), 0, THROUGH),
        ("a port of the range", &[], tcp(a, b, 8010, syn), 0, THROUGH),
        ("beyond the range", &[], tcp(a, b, 8011, syn), end, Some((in_, end))),
        ("an answer", &[], tcp(a, b, 8011, ack), 1, THROUGH),
        ("a reset", &[], tcp(a, b, 8011, rst), 1, THROUGH),
        ("an answer to another host", &[], tcp(a, "10.2.0.7", 8011, ack), end, Some((in_, end))),
        ("from elsewhere", &[], tcp("10.9.0.2", b, 443, syn), end, Some((in_, end))),
        ("dns", &[], udp(a, b, 53), 3, Some((in_, 3))),
        ("a voice packet", &[], marked(udp(a, b, 5000), 46 << 2), 4, THROUGH),
        ("the same, not marked", &[], udp(a, b, 5000), end, Some((in_, end))),
        ("a first fragment", &[], fragment(udp(a, b, 53), 0x2000), 3, Some((in_, 3))),
        // Without ports it is not what a rule with ports is about; what the bytes there look like does not matter.
        ("a later fragment", &[], fragment(udp(a, b, 7000), 0x2001), end, Some((in_, end))),
        ("a later fragment that may pass", &[], fragment(udp("10.1.0.7", b, 53), 0x2001), 5, THROUGH),
        ("a later fragment with an ACK", &[], fragment(tcp(a, b, 8011, ack), 0x2001), end, Some((in_, end))),
        (
            "a header cut short",
            &[],
            frame::packet(ip(a), ip(b), TCP, 64, &[0x9c, 0x40]),
            end,
            Some((in_, end)),
        ),
        ("ssh over IPv6", &[], ssh.clone(), 6, THROUGH),
        ("ssh behind options", &[], extended(&ssh, 60, [TCP, 0, 1, 4, 0, 0, 0, 0]), 6, THROUGH),
        (
            "a later fragment of ssh",
            &[],
            extended(&ssh, 44, [TCP, 0, 0, 8, 0, 0, 0, 1]),
            end,
            Some((in_, end)),
        ),
        ("an echo request", &[], echo6(b6, 128), 7, THROUGH),
        ("an echo reply", &[], echo6(b6, 129), end, Some((in_, end))),
        ("port 6000 by VLAN 30", VLAN, udp("10.3.0.2", b, 6000), 8, THROUGH),
        ("port 6000 untagged", &[], udp(a, b, 6000), end, Some((in_, end))),
        ("denied on its way out", &[], udp(a, b, 9000), 9, Some((out, 0))),
        ("denied out by IPv6 address", &[], echo6("fd00:2::bad", 128), 7, Some((out, 1))),
    ];
    for (what, tags, packet, rule, fate) in cases {
        let before = [gate.hits("from-a"), gate.hits("to-b")];
        let counted = gate.send(tags, &packet);
        let drops: Vec<_> = counted.drops.iter().map(|(reason, count)| (reason.as_str(), *count)).collect();
        match fate {
            None => assert_eq!((counted.forwarded, drops), (1, vec![]), "{what}"),
            Some((reason, _)) => assert_eq!((counted.forwarded, drops), (0, vec![(reason, 1)]), "{what}"),
        }
        let after = [gate.hits("from-a"), gate.hits("to-b")];
        let moved = |list: usize| -> Vec<usize> {
            let pairs = before[list].iter().zip(&after[list]).enumerate();
            pairs.filter(|(_, (before, after))| *before + 1 == **after).map(|(at, _)| at).collect()
        };
        // Every UDP packet that came as far is counted by the rule for that, too.
        let is_udp = packet[0] >> 4 == 4 && packet[9] == UDP;
        let want: Vec<usize> = if is_udp && rule > 2 { vec![2, rule] } else { vec![rule] };
        assert_eq!(moved(0), want, "{what}: rules of from-a");
        let out_rule = match fate {
            None => vec![TO_B.len() - 1],
            Some((reason, rule)) if reason == out => vec![rule],
            Some(_) => vec![],
        };
        assert_eq!(moved(1), out_rule, "{what}: rules of to-b");
    }
    let table = gate.router().table("acls");
    for part in ["from-a: in a a30, out -", "to-b: in -, out b", "(no rule matched: deny)", FROM_A[6]] {
        assert!(table.contains(part), "{part:?} is not in\n{table}");
    }
}

/// The sender of what is denied hears of it (RFC 1812, section 5.2.7.1: code 13; RFC 4443, section 3.1: code 1), and of
/// nothing else, whatever is wrong with its options.
pub fn senders_are_told(gate: &mut Gate) {
    let (v4, v6) = (udp("10.1.0.2", "10.2.0.2", 53), udp("fd00:1::2", "fd00:2::2", 53));
    // Record route, too short; a hop-by-hop option that is not known and must be.
    let wrong4 = with_options(&v4, [7, 2, 0, 0]);
    let wrong6 = extended(&v6, 0, [UDP, 0, 0x9e, 4, 0, 0, 0, 0]);
    for (packet, kind) in [(v4, [3, 13]), (v6, [1, 1]), (wrong4, [3, 13]), (wrong6, [1, 1])] {
        let record = gate.wires[0].record();
        gate.send(&[], &packet);
        let told = |seen: &[u8]| {
            frame::ip(seen).is_some_and(|ip| [1, 58].contains(&ip.protocol) && ip.payload[0] < 128)
        };
        wait::until_true(SOON, "the ICMP error", || record.count(Way::FromRouter, told) > 0);
        let errors = record.frames(Way::FromRouter, told);
        let said: Vec<_> =
            errors.iter().filter_map(|seen| frame::ip(&seen.frame)?.payload.get(..2)).collect();
        assert_eq!(said, [kind], "about {packet:?}");
    }
}

/// What is for us is judged as it comes in; ARP and neighbour discovery are not judged.
pub fn to_us_and_past_the_lists(gate: &mut Gate) {
    let counted = gate.send(&[], &udp("10.1.0.2", "10.1.0.1", 53));
    assert_eq!((counted.punted, counted.drops.get("acl_denied_in")), (0, Some(&1)), "{counted:?}");
    let counted = gate.send(&[], &udp("10.1.0.2", "10.1.0.1", 7000));
    assert_eq!((counted.punted, counted.dropped), (1, 0), "{counted:?}");
    let solicitation = frame::packet(ip("fd00:1::2"), ip("ff02::1:ff00:1"), 58, 255, &[135; 24]);
    let counted = gate.send(&[], &solicitation);
    assert_eq!((counted.punted, counted.dropped), (1, 0), "{counted:?}");
}
