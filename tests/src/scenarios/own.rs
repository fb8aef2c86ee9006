//! What is turnpike's own: how it treats priorities and neighbours, how long it keeps routes, how it counts, and how
//! it ends.

use std::collections::BTreeSet;
use std::net::UdpSocket;
use std::time::{Duration, Instant};

use serde_json::json;

use crate::circuit::{Circuit, QUIET};
use crate::counters::Counters;
use crate::echo;
use crate::edge::{self, COMMUNITY, REGION};
use crate::frame::{ethernet, ip};
use crate::plan::{CLOUD, LAN, NETDEVS};
use crate::scenarios::{PRIVATE, is_marked, is_request, stream, wait_for_all_flows, wait_for_both_links};
use crate::settings::RETAIN;
use crate::stream::Sample;
use crate::suite::{ROUTE, SOON, Undo, assert_once_within};
use crate::wait;
use crate::wire::Way;

/// Addresses that no host has, on the LAN.
const ABSENT: [&str; 2] = ["192.0.2.99", "2001:db8:1a0::99"];
/// Addresses that the LAN host gets for one test.
const FRESH: [&str; 2] = ["192.0.2.77", "2001:db8:1a0::77"];

/// The priority of a received tag is on every tag that the packet leaves with.
pub fn pcp_is_carried(circuit: &mut Circuit) {
    let peering = &circuit.peerings[1 - PRIVATE];
    let links = [circuit.link_wire(0).record(), circuit.link_wire(1).record()];
    let lan = circuit.lan_wire().record();
    let undo = Undo(|| {
        peering.lan_end.set_pcp(0);
        peering.edges.iter().for_each(|e| e.end.set_pcp(0));
    });
    peering.lan_end.set_pcp(5);
    peering.edges.iter().for_each(|e| e.end.set_pcp(3));
    for cloud in CLOUD {
        echo::assert_pings(&peering.lan, None, cloud.address(), 56, 5);
        for (record, wanted, address) in [(&links[0], 5, true), (&links[1], 5, true), (&lan, 3, false)] {
            let ours = |f: &[u8]| {
                ip(f).is_some_and(
                    |p| if address { p.dst == cloud.address() } else { p.src == cloud.address() },
                )
            };
            for seen in record.frames(Way::FromRouter, ours) {
                let tags = ethernet(&seen.frame).unwrap().tags;
                assert!(
                    !tags.is_empty() && tags.iter().all(|t| t.pcp == wanted),
                    "{tags:?}, not priority {wanted}"
                );
            }
        }
    }
    drop(undo);
}

/// The first packet to a host that was never heard of waits for its MAC address, and is not lost.
pub fn first_packet_waits_for_its_neighbour(circuit: &mut Circuit) {
    let peering = &circuit.peerings[PRIVATE];
    for (address, (site, cloud)) in FRESH.iter().zip(LAN.iter().zip(CLOUD)) {
        peering.lan.address("eth0", &format!("{address}/{}", site.length));
        let target: std::net::IpAddr = address.parse().unwrap();
        // The kernel takes an IPv6 address into use, and joins its multicast group, in its own time.
        let group = "ff02::1:ff00:77";
        wait::until_true(SOON, "the address to be in use", || {
            target.is_ipv4() || peering.lan.ip("maddr show dev eth0").contains(group)
        });
        echo::assert_pings(&peering.cloud, Some(cloud.address()), target, 56, 1);
        peering.lan.ip(&format!("addr del {address}/{} dev eth0", site.length));
    }
}

/// A host that does not answer ARP or ND is reported to the sender as unreachable.
pub fn absent_host_is_unreachable(circuit: &mut Circuit) {
    let peering = &circuit.peerings[PRIVATE];
    for (address, cloud) in ABSENT.iter().zip(CLOUD) {
        // The edge takes one off the TTL. A packet that ends here is answered before anybody is looked for.
        for (ttl, answer) in [("2", "exceeded"), ("64", "nreachable")] {
            let mut command = peering.cloud.command("ping");
            command.args(["-n", "-c", "1", "-t", ttl, "-W", "20", "-w", "20", "-I", cloud.host, address]);
            let output = crate::process::output(&mut command);
            let text = String::from_utf8_lossy(&output.stdout);
            assert!(text.contains(answer), "ping of an address that nobody has, TTL {ttl}:\n{text}");
        }
    }
}

/// When an edge's MAC address changes (its line card was replaced), traffic follows within a second.
pub fn moved_neighbour_is_followed(circuit: &mut Circuit) {
    let peering = &circuit.peerings[PRIVATE];
    let edge = &peering.edges[0].netns;
    edge.sysctl("ipv4/conf/er0/arp_notify", "1");
    edge.sysctl("ipv6/conf/er0/ndisc_notify", "1");
    let mut number = 0;
    assert_once_within(ROUTE, ["from the new MAC address to the last packet lost"], || {
        let stream = stream(peering, CLOUD[0].address());
        wait_for_both_links(circuit, peering.plan.marker);
        let start = Instant::now();
        number += 1;
        edge.ip(&format!("link set er0 address 02:00:5e:00:53:0{number}"));
        wait::pause(ROUTE + QUIET);
        wait_for_all_flows(circuit);
        let outcome = stream.stop_passing();
        circuit.settle();
        [outcome.repair_one_way(start)]
    });
}

/// When the customer's router dies and stays away, its routes are used for the retain time, and then no longer.
pub fn dead_speakers_routes_go_after_the_retain_time(circuit: &mut Circuit) {
    let what = ["the use of routes after the retain time"];
    assert_once_within(ROUTE, what, || [use_after_the_retain_time(circuit)]);
}

/// Kills it, and has it come back: how long routes were used after the retain time.
fn use_after_the_retain_time(circuit: &mut Circuit) -> Duration {
    let retain = Duration::from_secs(RETAIN);
    let stream = stream(&circuit.peerings[PRIVATE], CLOUD[0].address());
    wait_for_both_links(circuit, circuit.peerings[PRIVATE].plan.marker);
    let start = Instant::now();
    circuit.peerings[PRIVATE].customer.as_mut().unwrap().kill();
    wait::pause(retain);
    let quiet = || stream.last_arrival().is_some_and(|last| last.elapsed() > ROUTE);
    wait::until_true(SOON, "the last packet", quiet);
    let before = Counters::read(circuit.turnpike());
    wait::until_true(SOON, "packets without a route to be counted", || {
        Counters::read(circuit.turnpike()).since(&before, "lan").ended("no_route") > 50
    });
    let outcome = stream.stop();
    circuit.peerings[PRIVATE].customer.as_mut().unwrap().resume();
    circuit.settle();

    let sent = |s: &Sample| s.sent.saturating_duration_since(start);
    let last = outcome.samples.iter().filter(|s| s.arrived.is_some()).map(sent).max().unwrap_or_default();
    let lost = outcome.samples.iter().filter(|s| s.sent >= start && s.arrived.is_none());
    let first = lost.map(sent).min().expect("packets were lost in the end");
    println!("    routes were used for another {:.2} s", last.as_secs_f64());
    assert!(
        first + QUIET > retain,
        "first loss after {:.2} s, not {RETAIN} s\n{}",
        first.as_secs_f64(),
        outcome.describe(start)
    );
    last.saturating_sub(retain)
}

/// Packets without a route are counted as just that, each.
pub fn packets_without_a_route_are_counted(circuit: &mut Circuit) {
    let before = Counters::adding_up(circuit.turnpike());
    let peering = &circuit.peerings[PRIVATE];
    // Prefixes that nobody announces.
    let sockets = peering.lan.enter(|| [UdpSocket::bind("0.0.0.0:0"), UdpSocket::bind("[::]:0")]);
    let count = 300;
    for (socket, target) in sockets.iter().zip(["10.99.0.1:9", "[2001:db8:99::1]:9"]) {
        let socket = socket.as_ref().unwrap();
        // An ICMP error of an earlier one may show on a later one: that one is sent again.
        (0..count).for_each(|_| while socket.send_to(b"to nowhere", target).is_err() {});
    }
    wait::until_true(SOON, "all to be counted", || {
        Counters::read(circuit.turnpike()).since(&before, "lan").ended("no_route") >= 2 * count
    });
    wait::pause(QUIET);
    let counted = Counters::adding_up(circuit.turnpike()).since(&before, "lan");
    assert_eq!(counted.ended("no_route"), 2 * count, "{counted:?}");
    // Nothing else is lost; the errors that are told may need a neighbour, whose answer is punted.
    let lost = counted.drops.get("no_route").copied().unwrap_or(0);
    assert_eq!((counted.dropped, counted.forwarded), (lost, 0), "{counted:?}");
}

/// While packets pass, and after: received = forwarded + punted + dropped, reason by reason; and what passes is
/// forwarded by turnpike, packet by packet, and not by a kernel behind it.
pub fn counters_add_up(circuit: &mut Circuit) {
    let before = Counters::adding_up(circuit.turnpike());
    let peering = &circuit.peerings[PRIVATE];
    let marker = peering.plan.marker;
    let lan = circuit.lan_wire().record();
    let stream = stream(peering, CLOUD[0].address());
    stream.wait_for(400);
    stream.assert_lossless();
    let requests = lan.count(Way::ToRouter, |f| is_request(f, marker)) as u64;
    let echoes = lan.count(Way::FromRouter, |f| is_marked(f, marker)) as u64;
    assert!(requests > 100 && requests == echoes, "{requests} requests, {echoes} echoes on the LAN");
    drop(lan);
    let after = Counters::adding_up(circuit.turnpike());
    let lan = after.since(&before, "lan");
    let links = [after.since(&before, "primary"), after.since(&before, "secondary")];
    let forwarded: u64 = links.iter().map(|l| l.forwarded).sum();
    assert!(lan.forwarded >= requests && forwarded >= echoes, "LAN {lan:?}, links {links:?}");
    assert_eq!((lan.missed, lan.dropped), (0, 0), "{lan:?}");
}

/// `turnpike show` has the routes with all their links and the region's with its community, sub-interfaces with their
/// tags, and neighbours with MACs.
pub fn what_it_shows_is_right(circuit: &mut Circuit) {
    let kinds = [PRIVATE, 1 - PRIVATE].map(|number| circuit.peerings[number].plan.kind);
    let routes = wait::until(SOON, "all of the region by both links", || {
        let routes = circuit.turnpike().show("routes");
        let all = kinds.iter().all(|kind| [false, true].iter().all(|v6| has_region(&routes, kind, *v6)));
        all.then_some(routes)
    });
    let (interfaces, neighbours) =
        (circuit.turnpike().show("interfaces"), circuit.turnpike().show("neighbours"));
    let way = |kind: &str, v6| json!({"show": "routes", "target": edge::region(v6, 7), "vrf": kind});
    let questions: Vec<_> = kinds.into_iter().flat_map(|kind| [way(kind, false), way(kind, true)]).collect();
    let mut ways = circuit.turnpike().ask(questions).into_iter();
    for peering in &circuit.peerings {
        let kind = peering.plan.kind;
        for (number, cloud) in CLOUD.iter().enumerate() {
            let fits = |r: &&serde_json::Value| r["prefix"] == cloud.prefix && r["vrf"] == kind;
            let found: Vec<_> = routes.as_array().unwrap().iter().filter(fits).collect();
            assert_eq!(found.len(), 1, "routes to {} in {kind}: {found:?}", cloud.prefix);
            let mut via: Vec<_> =
                found[0]["via"].as_array().unwrap().iter().filter_map(|v| v.as_str()).collect();
            via.sort_unstable();
            let edges = peering.plan.links.map(|l| [l.v4, l.v6][number].edge);
            assert!(
                found[0]["installed"] == true && via == edges,
                "not installed by both links: {}",
                found[0]
            );
        }
        for _ in [false, true] {
            let shown = ways.next().flatten().expect("the region's route");
            let paths = shown[0]["paths"].as_array().expect("its paths");
            assert!(
                paths.len() == 2 && paths.iter().all(|path| path["communities"] == json!([COMMUNITY])),
                "two paths with the region's community: {shown:#}"
            );
        }
        for link in peering.plan.links {
            let name = format!("er1-{kind}-{}", link.role);
            let fits = |i: &&serde_json::Value| i["name"] == name.as_str();
            let shown = interfaces.as_array().unwrap().iter().find(fits).expect("the link's sub-interface");
            let tags = format!("{}.{}", crate::plan::S_TAG, peering.plan.c_tag);
            assert!(shown["tags"] == tags.as_str() && shown["vrf"] == kind, "{shown}");
            let near =
                |n: &&serde_json::Value| n["interface"] == name.as_str() && n["address"] == link.v4.edge;
            let edge = neighbours.as_array().unwrap().iter().find(near).expect("the edge as a neighbour");
            assert!(edge["mac"].as_str().is_some_and(|m| m.len() == 17), "{edge}");
        }
    }
    for what in ["ports", "interfaces", "routes", "neighbours", "groups", "workers", "drops"] {
        assert!(circuit.turnpike().table(what).lines().count() > 1, "`turnpike show {what}` shows nothing");
    }
}

/// Whether all of the region's prefixes of a family, and the cloud's, are used by both links in a VRF.
fn has_region(routes: &serde_json::Value, vrf: &str, v6: bool) -> bool {
    let mut region: BTreeSet<_> = (0..REGION[usize::from(v6)]).map(|n| edge::region(v6, n)).collect();
    region.insert(CLOUD[usize::from(v6)].prefix.to_owned());
    let both = |r: &&serde_json::Value| r["via"].as_array().is_some_and(|via| via.len() == 2);
    let fits = |r: &&serde_json::Value| r["vrf"] == vrf && r["installed"] == true && both(r);
    let found = routes.as_array().into_iter().flatten().filter(fits).filter_map(|r| r["prefix"].as_str());
    found.filter(|prefix| region.contains(*prefix)).count() == region.len()
}

/// SIGTERM ends it cleanly, and it starts again as if nothing had been.
pub fn ends_cleanly_on_sigterm(circuit: &mut Circuit) {
    ends_cleanly(circuit, libc::SIGTERM);
    // Long enough that the customer's router has tried to connect in vain.
    wait::pause(Duration::from_secs(3));
    circuit.start_turnpike();
    circuit.settle();
}

/// So does Ctrl-C.
pub fn ends_cleanly_on_sigint(circuit: &mut Circuit) {
    ends_cleanly(circuit, libc::SIGINT);
}

/// Exit code 0; ports, TAPs and socket are gone.
fn ends_cleanly(circuit: &mut Circuit, signal: i32) {
    let socket = circuit.turnpike().socket().to_owned();
    assert!(socket.exists() && circuit.outside.has_link(NETDEVS[0]), "it is not running");
    let vrfs: Vec<_> = circuit.peerings.iter().map(|p| p.vrf.links()).collect();
    assert!(vrfs.iter().all(|links| links.len() == 3), "TAPs of the VRFs: {vrfs:?}");
    let start = Instant::now();
    let status = circuit.turnpike().stop(signal);
    println!("    ended in {:.2} s", start.elapsed().as_secs_f64());
    let log = circuit.turnpike().daemon().log();
    assert!(status.success(), "exit {status}:\n{log}");
    assert!(!log.contains("panicked"), "{log}");
    assert!(!socket.exists(), "{} is still there", socket.display());
    wait::until_true(SOON, "ports and TAPs to go", || {
        circuit.outside.links().is_empty() && circuit.peerings.iter().all(|p| p.vrf.links().is_empty())
    });
    circuit.wires.clear();
    circuit.middle = None;
}
