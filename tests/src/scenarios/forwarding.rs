//! Packets of all sorts go from the LAN to the cloud and back, and look on the wire as they must.

use std::collections::HashMap;
use std::time::Duration;

use crate::circuit::Circuit;
use crate::echo;
use crate::frame::{self, ethernet, ip};
use crate::host;
use crate::plan::{CLOUD, LAN};
use crate::scenarios::{PRIVATE, is_request, stream};
use crate::wire::{Recording, Way};

/// ICMP payload of a packet of 1500 bytes, IPv4 and IPv6.
const FULL: [u16; 2] = [1472, 1452];
/// The first ping after a while may wait for a neighbour; it must come all the same.
const COUNT: u32 = 5;

/// Small and full-size pings, both families, both peerings, from either side.
pub fn ping_both_ways(circuit: &mut Circuit) {
    for peering in &circuit.peerings {
        for ((lan, cloud), full) in LAN.iter().zip(CLOUD).zip(FULL) {
            for size in [56, full] {
                echo::assert_pings(&peering.lan, None, cloud.address(), size, COUNT);
                echo::assert_pings(&peering.cloud, Some(cloud.address()), lan.address(), size, COUNT);
            }
        }
    }
}

/// Full-size pings have the right tags, TPIDs, lengths, TTL and checksums on the circuit and on the LAN.
pub fn full_size_frames_on_the_wire(circuit: &mut Circuit) {
    let lan = circuit.lan_wire().record();
    let links = [circuit.link_wire(0).record(), circuit.link_wire(1).record()];
    for (number, peering) in circuit.peerings.iter().enumerate() {
        for ((site, cloud), full) in LAN.iter().zip(CLOUD).zip(FULL) {
            lan.restart();
            links.iter().for_each(Recording::restart);
            echo::assert_pings(&peering.lan, None, cloud.address(), full, COUNT);
            let tags = circuit.circuit_tags(number);
            let request = |f: &[u8]| ip(f).is_some_and(|p| p.dst == cloud.address() && p.length == 1500);
            let reply = |f: &[u8]| ip(f).is_some_and(|p| p.dst == site.address() && p.length == 1500);
            let out: Vec<_> = links.iter().flat_map(|l| l.frames(Way::FromRouter, request)).collect();
            assert_eq!(out.len(), COUNT as usize, "requests on the circuit");
            for seen in &out {
                let (e, p) = (ethernet(&seen.frame).unwrap(), ip(&seen.frame).unwrap());
                assert_eq!(e.tags, tags, "tags of a request on the circuit");
                assert_eq!(seen.frame.len(), 14 + 8 + 1500, "length of a request on the circuit");
                assert!(p.checksum_right, "IPv4 checksum of a request on the circuit");
                assert_eq!(p.ttl, 63, "TTL after one hop");
            }
            let back = lan.frames(Way::FromRouter, reply);
            assert_eq!(back.len(), COUNT as usize, "replies on the LAN");
            let vlan: Vec<_> =
                circuit.variant.lan_vlan(number).map(|v| frame::Tag::new(0x8100, v)).into_iter().collect();
            for seen in &back {
                let (e, p) = (ethernet(&seen.frame).unwrap(), ip(&seen.frame).unwrap());
                assert_eq!(e.tags, vlan, "tags of a reply on the LAN");
                assert_eq!(seen.frame.len(), 14 + 4 * vlan.len() + 1500, "length of a reply on the LAN");
                assert!(p.checksum_right, "IPv4 checksum of a reply on the LAN");
                assert_eq!(p.ttl, 62, "TTL after the edge and us");
            }
        }
    }
}

/// Packets that their host had to fragment arrive whole.
pub fn fragments(circuit: &mut Circuit) {
    for peering in &circuit.peerings {
        for cloud in CLOUD {
            let plan = echo::Plan {
                source: None,
                target: cloud.address(),
                size: 4000,
                count: COUNT,
                patience: echo::PATIENCE,
                fragments: true,
            };
            let got = echo::send(&peering.lan, &plan);
            assert_eq!(got, echo::Pings { sent: COUNT, answered: COUNT, duplicates: 0 }, "to {}", cloud.host);
        }
    }
}

/// Each hop shows itself: the router in the middle with its LAN address, one of the edges, the cloud host.
pub fn traceroute(circuit: &mut Circuit) {
    for peering in &circuit.peerings {
        for (number, (lan, cloud)) in LAN.iter().zip(CLOUD).enumerate() {
            let hops = host::traceroute(&peering.lan, cloud.address());
            let edges = peering.plan.links.map(|l| [l.v4, l.v6][number].edge.parse().ok());
            assert_eq!(hops.len(), 3, "hops to {}: {hops:?}", cloud.host);
            assert_eq!(hops[0], Some(lan.router_address()), "first hop to {}", cloud.host);
            assert!(
                edges.contains(&hops[1]),
                "second hop to {}: {:?}, not one of {edges:?}",
                cloud.host,
                hops[1]
            );
            assert_eq!(hops[2], Some(cloud.address()), "last hop");
        }
    }
}

/// TCP carries bytes there and back unchanged.
pub fn tcp_bulk(circuit: &mut Circuit) {
    for peering in &circuit.peerings {
        for cloud in CLOUD {
            let rate = host::tcp_there_and_back(&peering.lan, &peering.cloud, cloud.socket(7001), 4 << 20);
            println!("    {} {}: {rate:.0} Mbit/s", peering.plan.kind, cloud.host);
        }
    }
}

/// A few thousand full-size datagrams arrive, either way. Some may be lost: the hosts share the machine.
pub fn udp_bulk(circuit: &mut Circuit) {
    let count = 3000;
    let peering = &circuit.peerings[PRIVATE];
    for ((lan, cloud), full) in LAN.iter().zip(CLOUD).zip(FULL) {
        let ways = [
            (&peering.lan, &peering.cloud, cloud.socket(7002)),
            (&peering.cloud, &peering.lan, lan.socket(7002)),
        ];
        for (from, to, target) in ways {
            let got = host::udp_one_way(from, to, target, full.into(), count, Duration::from_millis(2));
            assert!(
                got >= count * 99 / 100,
                "{got} of {count} datagrams of {full} bytes arrived at {target}"
            );
        }
    }
}

/// Many flows use both links, and each keeps to one.
pub fn flows_spread_and_stay(circuit: &mut Circuit) {
    for peering in &circuit.peerings {
        for cloud in CLOUD {
            let links = [circuit.link_wire(0).record(), circuit.link_wire(1).record()];
            let stream = stream(peering, cloud.address());
            stream.wait_for(300);
            stream.assert_lossless();
            let mut link_of: HashMap<u16, usize> = HashMap::new();
            for (number, link) in links.iter().enumerate() {
                for seen in link.frames(Way::FromRouter, |f| is_request(f, peering.plan.marker)) {
                    let (port, _) = ip(&seen.frame).and_then(|p| p.ports()).unwrap();
                    let first = *link_of.entry(port).or_insert(number);
                    assert_eq!(first, number, "the flow from port {port} changed its link");
                }
            }
            let on_primary = link_of.values().filter(|n| **n == 0).count();
            assert!(
                (1..link_of.len()).contains(&on_primary),
                "{on_primary} of {} flows to {} on the primary link",
                link_of.len(),
                cloud.host
            );
        }
    }
}

/// The middle's own addresses answer to the LAN and to the edges.
pub fn own_addresses_answer(circuit: &mut Circuit) {
    for peering in &circuit.peerings {
        for site in LAN {
            echo::assert_pings(&peering.lan, None, site.router_address(), 56, COUNT);
        }
        for edge in &peering.edges {
            for ours in [edge.link.v4.ours, edge.link.v6.ours] {
                echo::assert_pings(&edge.netns, None, ours.parse().unwrap(), 56, COUNT);
            }
        }
    }
}
