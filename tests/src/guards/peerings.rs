//! What a peering keeps from leaving, refuses, or changes.

use std::net::IpAddr;

use super::{CLOUD, Guards, MACS, MICROSOFT, MICROSOFT_LAN, PRIVATE, PRIVATE_LAN, udp};
use crate::frame::{self, Tag};

/// Private and shared sources are dropped by their own reason, towards Microsoft only, and their sender is told.
pub fn private_sources(guards: &mut Guards) {
    let refused: Vec<_> =
        ["10.40.0.9", "172.20.1.1", "192.168.7.7", "100.64.3.3"].map(|s| udp(s, CLOUD[0])).into();
    guards.assert_dropped(MICROSOFT_LAN, "private_source", &refused);
    guards.assert_dropped(
        MICROSOFT_LAN,
        "private_source",
        &[udp("fd40::9", CLOUD[1]), udp("fc00::1", CLOUD[1])],
    );
    let public = [udp("198.18.40.9", CLOUD[0]), udp("2001:db8:40::9", CLOUD[1])];
    let (counted, seen) = guards.pass(MICROSOFT_LAN, MICROSOFT, &public, 2);
    assert_eq!((counted.forwarded, seen.len()), (2, 2), "{counted:?}");
    // Private peering has no such guard.
    let private = [udp("192.0.2.9", CLOUD[0]), udp("2001:db8:30::9", CLOUD[1])];
    let (counted, seen) = guards.pass(PRIVATE_LAN, PRIVATE, &private, 2);
    assert_eq!((counted.forwarded, seen.len()), (2, 2), "{counted:?}");
    // The error: type and code, from our address on the LAN.
    for (source, to, want, ours) in
        [("10.40.0.9", CLOUD[0], [3, 13], "198.18.40.1"), ("fd40::9", CLOUD[1], [1, 1], "2001:db8:40::1")]
    {
        let packet = udp(source, to);
        let (_, seen) = guards.pass(MICROSOFT_LAN, MICROSOFT_LAN, std::slice::from_ref(&packet), 1);
        assert_eq!(seen.len(), 1, "one error to {source}");
        let error = frame::ip(&seen[0].frame).expect("an IP packet");
        assert_eq!((error.src, error.dst), (address(ours), address(source)));
        assert_eq!(error.payload[..2], want);
        assert_eq!(error.payload[8..8 + packet.len()], packet, "it quotes the packet as it was");
    }
}

/// The speaker's default routes lead over the Microsoft peering: they are not used, counted, and told of.
pub fn default_route(guards: &mut Guards) {
    let routes = guards.router().show("routes");
    let mut defaults = 0;
    for route in routes.as_array().into_iter().flatten().filter(|route| route["vrf"] == "microsoft") {
        if route["prefix"] == "0.0.0.0/0" || route["prefix"] == "::/0" {
            assert_eq!(route["installed"], false, "{route}");
            defaults += 1;
        }
    }
    assert_eq!(defaults, 2, "both are known: {routes}");
    let elsewhere = [udp("198.18.40.9", "9.9.9.9"), udp("2001:db8:40::9", "2620:fe::9")];
    let (counted, seen) = guards.pass(MICROSOFT_LAN, MICROSOFT, &elsewhere, 0);
    assert_eq!((counted.ended("no_route"), seen.len()), (2, 0), "{counted:?}");
    let sources = guards.router().show("sources");
    let speaker = sources.as_array().into_iter().flatten().find(|source| source["name"] == "speaker");
    assert_eq!(speaker.map(|speaker| &speaker["refused"]), Some(&2.into()), "{sources}");
    let drops = guards.router().show("drops");
    assert_eq!(drops["control"]["outcomes"]["default_route_refused"], 2, "{drops}");
    let log = guards.router.as_mut().expect("it runs").daemon().log();
    for prefix in ["0.0.0.0/0", "::/0"] {
        let line = format!("default route {prefix} of speaker in VRF microsoft leads over");
        assert!(log.contains(&line), "{log}");
    }
}

/// DSCP is kept on private peering, and limited to Microsoft's set on the other; ECN stays; priorities follow.
pub fn dscp_and_priority(guards: &mut Guards) {
    for (from, to, microsoft) in [(PRIVATE_LAN, PRIVATE, false), (MICROSOFT_LAN, MICROSOFT, true)] {
        for v6 in [false, true] {
            let source = match (microsoft, v6) {
                (false, false) => "192.0.2.9",
                (false, true) => "2001:db8:30::9",
                (true, false) => "198.18.40.9",
                (true, true) => "2001:db8:40::9",
            };
            let marked = |tos: u8, ttl: u8| {
                let mut packet = udp(source, CLOUD[usize::from(v6)]);
                if v6 {
                    (packet[0], packet[1], packet[7]) = (0x60 | tos >> 4, tos << 4, ttl);
                } else {
                    (packet[1], packet[8]) = (tos, ttl);
                    frame::renew_checksum(&mut packet);
                }
                packet
            };
            let all: Vec<u8> = (0..=255).collect();
            let packets: Vec<_> = all.iter().map(|tos| marked(*tos, 64)).collect();
            let (counted, seen) = guards.pass(from, to, &packets, packets.len());
            assert_eq!((counted.forwarded, seen.len()), (256, 256), "{counted:?}");
            for (tos, seen) in all.into_iter().zip(seen) {
                let kept = !microsoft || [46, 34, 18, 10, 0].contains(&(tos >> 2));
                let new = if kept { tos } else { tos & 3 };
                let pcp = match (microsoft, new >> 2) {
                    (true, 46) => 5,
                    (true, 34) => 4,
                    (true, 0) => 1,
                    _ => 0,
                };
                let tags: Vec<Tag> = to.tags.iter().map(|tag| tag.with_pcp(pcp)).collect();
                let ethertype = if v6 { frame::IPV6 } else { frame::IPV4 };
                let want = frame::build([2, 0, 0, 0, 0, 9], MACS[1], &tags, ethertype, &marked(new, 63));
                assert_eq!(seen.frame, want, "TOS {tos:#x}, Microsoft {microsoft}");
            }
        }
    }
}

/// Only sources that the LAN's routes lead back to come in on it; the circuit has no such check.
pub fn reverse_paths(guards: &mut Guards) {
    let spoofed = [
        udp("198.51.100.7", CLOUD[0]),
        udp("11.0.0.1", CLOUD[0]),
        udp("192.0.2.1", CLOUD[0]),
        udp("2001:db8:c10d::7", CLOUD[1]),
        udp("2001:db9::1", CLOUD[1]),
    ];
    guards.assert_dropped(PRIVATE_LAN, "reverse_path", &spoofed);
    // A neighbour that is not known yet has a route back as well.
    let right = [udp("192.0.2.9", CLOUD[0]), udp("192.0.2.200", CLOUD[0]), udp("2001:db8:30::77", CLOUD[1])];
    let (counted, seen) = guards.pass(PRIVATE_LAN, PRIVATE, &right, 3);
    assert_eq!((counted.forwarded, seen.len()), (3, 3), "{counted:?}");
    let from_anywhere = [udp("11.0.0.1", "192.0.2.9"), udp("2001:db9::1", "2001:db8:30::9")];
    let (counted, seen) = guards.pass(PRIVATE, PRIVATE_LAN, &from_anywhere, 2);
    assert_eq!((counted.forwarded, seen.len()), (2, 2), "{counted:?}");
}

/// SYN and SYN-ACK over a peering tell of no more than its limit, or than fits where that is automatic, in both
/// directions; their checksum is right. Private peering has 1,400 bytes, the other 1,500.
pub fn segment_sizes(guards: &mut Guards) {
    for (v6, lan, limit, sides) in [
        (false, "192.0.2.9", 1300, [PRIVATE_LAN, PRIVATE]),
        (true, "2001:db8:30::9", 1400 - 60, [PRIVATE_LAN, PRIVATE]),
        (false, "198.18.40.9", 1500 - 40, [MICROSOFT_LAN, MICROSOFT]),
        (true, "2001:db8:40::9", 1280, [MICROSOFT_LAN, MICROSOFT]),
    ] {
        let cloud = CLOUD[usize::from(v6)];
        let [inside, outside] = sides;
        for (from, to, ends) in [(inside, outside, [lan, cloud]), (outside, inside, [cloud, lan])] {
            let cases = [(2, 8960, limit), (0x12, 1461, limit), (2, 1000, 1000), (0x10, 8960, 8960)];
            let packets: Vec<_> = cases.iter().map(|(flags, size, _)| tcp(ends, *flags, *size)).collect();
            let (counted, seen) = guards.pass(from, to, &packets, packets.len());
            assert_eq!(counted.forwarded, 4, "{counted:?}");
            assert_eq!(seen.len(), 4);
            for ((flags, size, want), seen) in cases.into_iter().zip(seen) {
                let ip = frame::ip(&seen.frame).expect("an IP packet");
                let expected = tcp(ends, flags, want);
                let header = if v6 { 40 } else { 20 };
                assert_eq!(ip.payload, &expected[header..], "flags {flags:#x}, size {size}");
            }
        }
    }
}

/// A TCP segment with a segment size at an odd place of its options, its checksum worked out in whole.
fn tcp(ends: [&str; 2], flags: u8, size: u16) -> Vec<u8> {
    let [source, destination] = ends.map(address);
    let mut segment = vec![0x30, 0x39, 0, 80, 0, 0, 0, 1, 0, 0, 0, 2, 0x70, flags, 0xff, 0xff, 0, 0, 0, 0];
    segment.extend([1, 2, 4]);
    segment.extend(size.to_be_bytes());
    segment.extend([1, 1, 0]);
    let checksum = frame::transport_checksum(source, destination, frame::TCP, &segment);
    segment[16..18].copy_from_slice(&checksum.to_be_bytes());
    frame::packet(source, destination, frame::TCP, 64, &segment)
}

fn address(text: &str) -> IpAddr {
    text.parse().expect("an address")
}
