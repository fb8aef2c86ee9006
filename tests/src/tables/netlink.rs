//! BIRD and `ip` write into the kernel's table.

use std::fmt::Write as _;
use std::process::Command;

use serde_json::Value;

use super::{FAR, GATEWAYS, MANY, Route, Yard, block, hurry, many};
use crate::bird::Bird;
use crate::lab::Netns;
use crate::process::run;
use crate::suite::{SOON, Step};
use crate::wait;

/// All of them.
pub const STEPS: &[Step<Yard>] = &[
    ("dumps_are_equal", dumps_are_equal),
    ("own_prefixes_are_not_learned_again", own_prefixes_are_not_learned_again),
    ("changes_lose_no_packet", changes_lose_no_packet),
    ("next_hop_objects", next_hop_objects),
    ("metrics_and_protocols", metrics_and_protocols),
    ("killed_bird_comes_back_without_loss", killed_bird_comes_back_without_loss),
    ("what_goes_with_an_interface_is_gone", what_goes_with_an_interface_is_gone),
    ("an_overflow_is_followed_by_a_resync", an_overflow_is_followed_by_a_resync),
];

/// Whose routes the page's configuration takes.
const PROTOCOLS: [&str; 3] = ["bird", "static", "boot"];

/// Starts turnpike and BIRD, both as the page says, and waits for packets.
pub fn start(yard: &mut Yard) {
    // As small a buffer as there may be, so that it overflows when a test wants that.
    yard.start(&hurry(&block("toml netlink"), "receive_buffer = 16777216", "receive_buffer = 65536"));
    let config = format!("router id 10.1.0.1;\n{}\n{}", block("bird kernel"), statics(0));
    yard.bird = Some(Bird::start(&yard.lab, &yard.vrf, "kernel", &config));
    yard.wait_for(0);
}

/// BIRD's static protocols: the many prefixes, and what is behind link `link`.
fn statics(link: usize) -> String {
    let mut text = String::new();
    for (family, name) in ["ipv4", "ipv6"].iter().enumerate() {
        let _ = writeln!(text, "protocol static s{family} {{\n  {name};");
        for (prefix, hops) in many().into_iter().filter(|(prefix, _)| prefix.contains(':') == (family == 1)) {
            let _ = writeln!(text, "  route {prefix} via {};", hops[0]);
        }
        let _ = writeln!(text, "  route {} via {};", FAR[family], GATEWAYS[link][family]);
        if family == 0 {
            let _ = writeln!(
                text,
                "  route 192.0.2.0/24 blackhole;\n  route 203.0.113.0/24 via 10.2.0.2 via 10.3.0.2;"
            );
        }
        text += "}\n";
    }
    text
}

/// The kernel's own dump of a family in `netns`: the used route of each prefix, of the protocols that are taken.
#[track_caller]
pub fn kernels(netns: &Netns, v6: bool) -> Vec<Route> {
    let family = if v6 { "-6" } else { "-4" };
    let printed = run(Command::new("ip").args([
        "-n",
        netns.name(),
        "-j",
        "-N",
        family,
        "route",
        "show",
        "table",
        "254",
    ]));
    let shown: Value = serde_json::from_str(&printed).unwrap_or_else(|e| panic!("{e}\n{printed}"));
    let number = |name: &str| match name {
        "bird" => "12",
        "static" => "4",
        _ => "3",
    };
    let mut all: Vec<(String, u64, Vec<String>)> = Vec::new();
    for route in shown.as_array().into_iter().flatten() {
        // `ip` leaves `boot` out.
        let protocol = route["protocol"].as_str().unwrap_or("3");
        if !PROTOCOLS.iter().any(|name| protocol == number(name)) {
            continue;
        }
        let mut prefix = route["dst"].as_str().expect("a destination").to_owned();
        if !prefix.contains('/') {
            prefix += if v6 { "/128" } else { "/32" };
        }
        let hop = |hop: &Value| hop["gateway"].as_str().map(ToOwned::to_owned);
        let mut hops: Vec<String> = match route["nexthops"].as_array() {
            Some(hops) => hops.iter().filter_map(hop).collect(),
            None => hop(route).into_iter().collect(),
        };
        // By number, since `-N` asks for that: 6 is blackhole.
        if hops.is_empty() && route["type"].as_str().is_some_and(|kind| ["6", "blackhole"].contains(&kind)) {
            hops.push("discard".to_owned());
        }
        hops.sort();
        all.push((prefix, route["metric"].as_u64().unwrap_or(0), hops));
    }
    all.sort();
    all.dedup_by(|b, a| a.0 == b.0);
    all.into_iter().map(|(prefix, _, hops)| (prefix, hops)).collect()
}

fn assert_equal(yard: &Yard) {
    yard.assert_equal("netlink", &|v6| kernels(&yard.vrf, v6));
}

/// turnpike's routes are those of the kernel's own dump.
fn dumps_are_equal(yard: &mut Yard) {
    wait::until_true(SOON, "all of BIRD's routes", || {
        yard.count("netlink", "routes") as usize >= MANY[0] + MANY[1] + 4
    });
    assert_equal(yard);
    let source = yard.source("netlink");
    assert_eq!(
        (&source["up"], &source["malformed"], &source["distance"]),
        (&true.into(), &0.into(), &160.into())
    );
}

/// The prefixes of our own TAPs are in the kernel's table, and are connected here.
fn own_prefixes_are_not_learned_again(yard: &mut Yard) {
    let shown = yard.vrf.ip("route show 10.2.0.0/24");
    assert!(shown.contains("proto kernel"), "{shown}");
    let routes = yard.router().show("routes");
    let own = routes.as_array().expect("routes").iter().find(|route| route["prefix"] == "10.2.0.0/24");
    assert_eq!(own.map(|route| &route["source"]), Some(&"connected".into()));
}

/// A next hop changes under traffic, by BIRD and by hand: no packet is lost.
fn changes_lose_no_packet(yard: &mut Yard) {
    let stream = yard.stream();
    for link in [1, 0] {
        let config = format!("router id 10.1.0.1;\n{}\n{}", block("bird kernel"), statics(link));
        let bird = yard.bird.as_ref().expect("BIRD");
        bird.configure(&config);
        yard.wait_for(link);
    }
    for (family, prefix) in FAR.iter().enumerate() {
        // A lower metric than BIRD's.
        yard.vrf.ip(&format!("route add {prefix} via {} metric 5 proto static", GATEWAYS[1][family]));
    }
    yard.wait_for(1);
    assert_equal(yard);
    for (family, prefix) in FAR.iter().enumerate() {
        yard.vrf.ip(&format!("route del {prefix} via {} metric 5", GATEWAYS[1][family]));
    }
    yard.wait_for(0);
    stream.assert_lossless();
    assert_equal(yard);
}

/// Next-hop objects: single, in groups, changed in place, and gone with their routes.
fn next_hop_objects(yard: &mut Yard) {
    let ip = |words: &str| drop(yard.vrf.ip(words));
    ip("nexthop add id 1 via 10.2.0.2 dev one");
    ip("nexthop add id 2 via 10.3.0.2 dev two");
    ip("nexthop add id 9 group 1/2");
    ip("route add 100.64.0.0/16 nhid 9");
    ip("route add 100.65.0.0/16 nhid 1");
    assert_equal(yard);
    let hops = |prefix: &str| {
        yard.routes("netlink", false).into_iter().find(|(known, _)| known == prefix).map(|(_, hops)| hops)
    };
    assert_eq!(hops("100.64.0.0/16").map(|hops| hops.len()), Some(2));
    ip("nexthop replace id 9 group 2");
    assert_equal(yard);
    assert_eq!(hops("100.64.0.0/16"), Some(vec!["10.3.0.2".to_owned()]));
    // Routes that go with their object, of which the kernel says nothing.
    ip("nexthop del id 1");
    ip("nexthop del id 2");
    assert_equal(yard);
    assert_eq!((hops("100.64.0.0/16"), hops("100.65.0.0/16")), (None, None));
}

/// The lowest metric counts, the next takes over, and what others made is not taken.
fn metrics_and_protocols(yard: &mut Yard) {
    let ip = |words: &str| drop(yard.vrf.ip(words));
    for (metric, gateway) in [(20, "10.2.0.2"), (10, "10.3.0.2")] {
        ip(&format!("route add 100.66.0.0/16 via {gateway} metric {metric} proto static"));
    }
    ip("route add 100.67.0.0/16 via 10.2.0.2 proto 99");
    ip("route add unreachable 100.68.0.0/16 proto static");
    let hops = |prefix: &str| {
        yard.routes("netlink", false)
            .into_iter()
            .find(|(known, _)| known == prefix)
            .map(|(_, hops)| hops.join(" "))
    };
    wait::until_true(SOON, "the discard route", || hops("100.68.0.0/16").as_deref() == Some("discard"));
    assert_eq!(hops("100.66.0.0/16").as_deref(), Some("10.3.0.2"));
    assert_eq!(hops("100.67.0.0/16"), None);
    ip("route del 100.66.0.0/16 metric 10");
    wait::until_true(SOON, "the next metric", || hops("100.66.0.0/16").as_deref() == Some("10.2.0.2"));
    for prefix in ["100.66.0.0/16", "100.67.0.0/16", "100.68.0.0/16"] {
        ip(&format!("route del {prefix}"));
    }
    assert_equal(yard);
}

/// BIRD is killed and comes back: its routes stay in the kernel, and so here.
fn killed_bird_comes_back_without_loss(yard: &mut Yard) {
    let stream = yard.stream();
    let bird = yard.bird.as_mut().expect("BIRD");
    bird.kill();
    wait::pause(std::time::Duration::from_secs(1));
    bird.resume(false);
    wait::until_true(SOON, "BIRD's routes", || kernels(&yard.vrf, false).len() >= MANY[0] + 3);
    assert_equal(yard);
    stream.assert_lossless();
}

/// The kernel takes IPv4 routes out with an interface and does not say so.
fn what_goes_with_an_interface_is_gone(yard: &mut Yard) {
    yard.vrf.ip("route add 100.69.0.0/16 via 10.3.0.2 proto static");
    assert_equal(yard);
    let before = yard.count("netlink", "routes");
    yard.vrf.ip("link set two down");
    let kernels = kernels(&yard.vrf, false).len();
    assert!(kernels < MANY[0], "{kernels} routes are left");
    wait::until_true(SOON, "that they are gone here", || {
        yard.count("netlink", "routes") < before - MANY[0] as u64 / 3
    });
    yard.vrf.ip("link set two up");
    // The kernel forgets IPv6 addresses with the link; BIRD puts its routes back when it scans.
    yard.vrf.try_ip("addr add fd00:3::1/64 dev two nodad");
    let bird = yard.bird.as_ref().expect("BIRD");
    wait::until_true(SOON, "BIRD's routes", || {
        bird.birdc("reload all");
        self::kernels(&yard.vrf, false).len() >= MANY[0] + 3
    });
    assert_equal(yard);
}

/// More at once than the buffer holds: all is read anew, and nothing is missing or left over.
fn an_overflow_is_followed_by_a_resync(yard: &mut Yard) {
    let starts = yard.count("netlink", "starts");
    let path = yard.lab.path("batch");
    for words in ["add", "del"] {
        let mut batch = String::new();
        for n in 0..20_000 {
            let _ =
                writeln!(batch, "route {words} 11.{}.{}.0/24 via 10.2.0.2 proto static", n / 250, n % 250);
        }
        std::fs::write(&path, batch).expect("a batch");
        // Else it depends on the machine who is faster.
        yard.signal(libc::SIGSTOP);
        run(Command::new("ip").args(["-n", yard.vrf.name(), "-batch"]).arg(&path));
        yard.signal(libc::SIGCONT);
        assert_equal(yard);
    }
    let more = yard.count("netlink", "starts") - starts;
    println!("    read anew {more} times");
    assert!(more > 0, "the buffer never overflowed: the test shows nothing");
    assert!(yard.log().contains("notifications overflowed"), "not a word in the log");
}
