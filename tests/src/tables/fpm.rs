//! FRR pushes over FPM.

use std::fmt::Write as _;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use super::{FAR, GATEWAYS, MANY, Route, Yard, block, hurry, many};
use crate::bird::Bird;
use crate::process::status_of;
use crate::suite::{SOON, Step};
use crate::wait;
use crate::zebra::Zebra;

/// How long the routes of a lost zebra stay, in seconds.
const RETAIN: u64 = 15;
/// A prefix of its own.
const EXTRA: &str = "203.0.115.0/24";
/// Prefixes that FRR has in all: behind them the two of both links, what is far, and two static ones.
const ALL: usize = MANY[0] + MANY[1] + 7;
/// The quiet time, in seconds.
const QUIET: u64 = 2;
/// Connections of those who are no zebra, and how much memory they may take, in kB.
const ATTEMPTS: usize = 10_000;
const MEMORY: u64 = 16 * 1024;

/// All of them.
pub const STEPS: &[Step<Yard>] = &[
    ("dumps_are_equal", dumps_are_equal),
    ("what_it_shows_is_right", what_it_shows_is_right),
    ("changes_lose_no_packet", changes_lose_no_packet),
    ("withdrawn_is_gone", withdrawn_is_gone),
    ("without_next_hop_groups", without_next_hop_groups),
    ("lost_connection_comes_back_without_loss", lost_connection_comes_back_without_loss),
    ("killed_frr_comes_back_without_loss", killed_frr_comes_back_without_loss),
    ("hostile_connections_harm_nobody", hostile_connections_harm_nobody),
    ("dead_zebras_routes_go_after_the_retain_time", dead_zebras_routes_go_after_the_retain_time),
];

/// Starts turnpike and FRR, both as the page says, and the far host's BIRD as its neighbour on both links, and waits
/// for packets.
pub fn start(yard: &mut Yard) {
    let config = hurry(&block("toml fpm"), "quiet = 5", &format!("quiet = {QUIET}"));
    yard.start(&hurry(&config, "retain = 120", &format!("retain = {RETAIN}")));
    yard.bird = Some(Bird::start(&yard.lab, &yard.far, "far", &far()));
    let statics = "ip route 192.0.2.0/24 blackhole\nip route 203.0.114.0/24 10.2.0.2\n";
    let configs = [block("frr zebra"), bgpd(), statics.to_owned()];
    yard.zebra = Some(Zebra::start(&yard.lab, &yard.vrf, configs.each_ref().map(String::as_str)));
    yard.wait_for(0);
}

/// FRR's side: a session for each link and family.
fn bgpd() -> String {
    let mut text = "router bgp 65010\n bgp router-id 10.1.0.1\n no bgp ebgp-requires-policy\n".to_owned();
    for neighbour in GATEWAYS.concat() {
        for words in ["remote-as 12076", "timers 3 9", "timers connect 1", "advertisement-interval 0"] {
            let _ = writeln!(text, " neighbor {neighbour} {words}");
        }
    }
    text += " address-family ipv6 unicast\n";
    for [_, neighbour] in GATEWAYS {
        let _ = writeln!(text, "  neighbor {neighbour} activate");
    }
    text
}

/// The far host's side: for each link and family a table with half of the prefixes, one that both links have, one that
/// may go, and what is behind the links, which `birdc` moves from one to the other.
fn far() -> String {
    let mut text = "router id 10.2.0.2;\nprotocol device { }\n".to_owned();
    for (link, gateways) in GATEWAYS.iter().enumerate() {
        for (family, gateway) in gateways.iter().enumerate() {
            let (name, table) = (["ipv4", "ipv6"][family], format!("t{family}{link}"));
            let _ = writeln!(text, "{name} table {table};");
            let mut fixed = |what: &str, prefixes: &[&str], disabled: bool| {
                let disabled = if disabled { "disabled;" } else { "" };
                let _ = writeln!(
                    text,
                    "protocol static {what}{family}{link} {{ {disabled} {name} {{ table {table}; }};"
                );
                for prefix in prefixes {
                    let _ = writeln!(text, "  route {prefix} blackhole;");
                }
                text += "}\n";
            };
            let half = many().into_iter().filter(|(_, hops)| hops[0] == *gateway).map(|(prefix, _)| prefix);
            let half: Vec<String> = half.collect();
            fixed("many", &half.iter().map(String::as_str).collect::<Vec<_>>(), false);
            fixed("both", &[["203.0.113.0/24", "2001:db8:b::/48"][family]], false);
            fixed("far", &[FAR[family]], link == 1);
            if (family, link) == (0, 0) {
                fixed("extra", &[EXTRA], false);
            }
            let ours = gateway.replace("::2", "::1").replace(".0.2", ".0.1");
            let _ = writeln!(
                text,
                "protocol bgp b{family}{link} {{
  local {gateway} as 12076; neighbor {ours} as 65010;
  hold time 9; keepalive time 3; connect retry time 1; connect delay time 1; error wait time 1, 2;
  {name} {{ table {table}; import none; export all; next hop self; }};
}}"
            );
        }
    }
    text
}

/// Has what is behind the links announced over `link`, and then no longer over the other.
#[track_caller]
fn move_to(yard: &Yard, link: usize) {
    for (word, link) in [("enable", link), ("disable", 1 - link)] {
        for family in 0..2 {
            tell_far(yard, word, &format!("far{family}{link}"));
        }
        if word == "enable" {
            // Both for a while.
            let both =
                || yard.routes("fpm", false).iter().any(|(prefix, hops)| prefix == FAR[0] && hops.len() == 2);
            wait::until_true(SOON, "both links", both);
        }
    }
}

#[track_caller]
fn tell_far(yard: &Yard, word: &str, protocol: &str) {
    let said = yard.bird.as_ref().expect("BIRD").birdc(&format!("{word} {protocol}"));
    assert!(said.contains("abled"), "{said}");
}

fn zebra(yard: &Yard) -> &Zebra {
    yard.zebra.as_ref().expect("zebra has been started")
}

fn frrs(yard: &Yard) -> impl Fn(bool) -> Vec<Route> {
    |v6| zebra(yard).routes(if v6 { "ipv6" } else { "ip" })
}

/// turnpike's routes are those that FRR itself tells, next hops and all.
fn dumps_are_equal(yard: &mut Yard) {
    wait::until_true(SOON, "all of FRR's routes", || yard.count("fpm", "routes") as usize == ALL);
    yard.assert_equal("fpm", &frrs(yard));
    let shared = yard.routes("fpm", false).into_iter().find(|(prefix, _)| prefix == "203.0.113.0/24");
    assert_eq!(shared.map(|(_, hops)| hops.len()), Some(2), "two gateways");
}

/// `show sources` and `show routes` say what is.
fn what_it_shows_is_right(yard: &mut Yard) {
    wait::until_true(SOON, "no change to wait", || yard.count("fpm", "waiting") == 0);
    let source = yard.source("fpm");
    assert_eq!(
        (&source["up"], &source["vrf"], &source["distance"]),
        (&true.into(), &"private".into(), &150.into())
    );
    assert_eq!(source["routes"].as_u64(), Some(ALL as u64), "{source}");
    assert_eq!(
        (&source["malformed"], &source["refused"], &source["waiting"]),
        (&0.into(), &0.into(), &0.into())
    );
    assert!(source["lag_ms"].as_f64().is_some_and(|lag| lag < 1000.0), "{source}");
    let table = yard.router().table("sources");
    assert!(["connected", "fpm", "private", "lag ms"].iter().all(|part| table.contains(part)), "{table}");
}

/// A next hop changes under traffic, back and forth: no packet is lost.
fn changes_lose_no_packet(yard: &mut Yard) {
    let stream = yard.stream();
    for link in [1, 0, 1, 0] {
        move_to(yard, link);
        yard.wait_for(link);
    }
    stream.assert_lossless();
    yard.assert_equal("fpm", &frrs(yard));
}

/// A withdrawn route is gone, and packets with it; the same announced again is there again.
fn withdrawn_is_gone(yard: &mut Yard) {
    tell_far(yard, "disable", "far00");
    yard.wait_for_none();
    tell_far(yard, "enable", "far00");
    yard.wait_for(0);
    yard.assert_equal("fpm", &frrs(yard));
}

/// zebra in its other mode, which names gateways in each route: it connects anew, and nothing is lost.
fn without_next_hop_groups(yard: &mut Yard) {
    let stream = yard.stream();
    for command in ["no fpm use-next-hop-groups", "fpm use-next-hop-groups"] {
        let (starts, told) = (yard.count("fpm", "starts"), tellings(yard));
        zebra(yard).vtysh("zebra", &["configure terminal", command]);
        let what = format!("a new connection after `{command}`");
        wait::until_true(SOON, &what, || {
            yard.count("fpm", "starts") > starts && yard.source("fpm")["up"] == true
        });
        wait_for_telling(yard, told);
        yard.assert_equal("fpm", &frrs(yard));
    }
    stream.assert_lossless();
}

/// The connection is lost and comes back; zebra tells all again but for a route that went meanwhile. That one goes
/// after the quiet time, and nobody notices anything else.
fn lost_connection_comes_back_without_loss(yard: &mut Yard) {
    let stream = yard.stream();
    disconnect(yard);
    tell_far(yard, "disable", "extra00");
    wait::pause(Duration::from_secs(1));
    assert!(yard.routes("fpm", false).iter().any(|(known, _)| known == EXTRA), "nothing goes at once");
    connect(yard);
    yard.assert_equal("fpm", &frrs(yard));
    assert!(yard.routes("fpm", false).iter().all(|(known, _)| known != EXTRA), "it went");
    stream.assert_lossless();
    tell_far(yard, "enable", "extra00");
    wait::until_true(SOON, "its return", || {
        yard.routes("fpm", false).iter().any(|(known, _)| known == EXTRA)
    });
}

/// Has zebra close its connection.
#[track_caller]
fn disconnect(yard: &Yard) {
    zebra(yard).vtysh("zebra", &["configure terminal", "no fpm address"]);
    wait::until_true(SOON, "the loss", || yard.source("fpm")["up"] == false);
}

/// Has it connect again, and waits until it has told all, which ends the retain time of its last loss.
#[track_caller]
fn connect(yard: &Yard) {
    let told = tellings(yard);
    zebra(yard).vtysh("zebra", &["configure terminal", "fpm address 127.0.0.1"]);
    wait_for_return(yard);
    wait_for_telling(yard, told);
}

/// How many times zebra has told all its routes after a connection, says the log.
fn tellings(yard: &Yard) -> usize {
    yard.log().matches("zebra has told all its routes again").count()
}

/// Waits until it has done so more than `told` times.
#[track_caller]
fn wait_for_telling(yard: &Yard, told: usize) {
    wait::until_true(2 * SOON, "all to be told again", || tellings(yard) > told);
}

/// All of FRR is killed and comes back: until its sessions are up, for longer than the quiet time, zebra has little to
/// tell. Not a packet is lost.
fn killed_frr_comes_back_without_loss(yard: &mut Yard) {
    let (stream, told) = (yard.stream(), tellings(yard));
    yard.zebra.as_mut().expect("zebra").kill();
    wait::until_true(SOON, "the loss", || yard.source("fpm")["up"] == false);
    let start = Instant::now();
    yard.zebra.as_mut().expect("zebra").resume();
    wait_for_return(yard);
    println!("    all was there again after {:.1} s", start.elapsed().as_secs_f64());
    wait_for_telling(yard, told);
    stream.assert_lossless();
    yard.assert_equal("fpm", &frrs(yard));
}

/// Waits until zebra is connected again and its daemons have told it all: bgpd tries every ten seconds.
#[track_caller]
fn wait_for_return(yard: &Yard) {
    wait::until_true(SOON, "zebra's return", || yard.source("fpm")["up"] == true);
    wait::until_true(2 * SOON, "all of FRR's routes", || {
        frrs(yard)(false).len() > MANY[0] + 3 && frrs(yard)(true).len() > MANY[1]
    });
}

/// While zebra is away: whoever speaks something else is sent away, with a line in the log, and ten thousand that
/// come, say nothing and go do no harm. While it is there: nobody else gets in.
fn hostile_connections_harm_nobody(yard: &mut Yard) {
    let attempt = || yard.vrf.enter(|| TcpStream::connect("127.0.0.1:2620")).expect("a connection");
    let closed = |mut stream: TcpStream| {
        stream.set_read_timeout(Some(SOON)).expect("a time limit");
        // The end, or a reset since nobody read what we sent.
        assert!(matches!(stream.read(&mut [0; 1]), Ok(0) | Err(_)), "it was answered");
    };
    let refused = closed_of(yard, "refused");
    closed(attempt());
    assert_eq!(yard.source("fpm")["up"], true);
    wait::until_true(SOON, "the refusal to be counted", || closed_of(yard, "refused") == refused + 1);
    disconnect(yard);
    let start = Instant::now();
    let mut stream = attempt();
    stream.write_all(b"GET / HTTP/1.0\r\n\r\n").expect("some bytes");
    closed(stream);
    let mut stream = attempt();
    // A frame whose only message is longer than the frame.
    stream.write_all(&[1, 1, 0, 20, 255, 0, 0, 0, 24, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]).expect("some bytes");
    wait::until_true(SOON, "the malformed message", || yard.count("fpm", "malformed") == 1);
    drop(stream);
    let pid = yard.pid();
    let memory = status_of(pid, "VmRSS");
    let mut silent = std::collections::VecDeque::new();
    for n in 0..ATTEMPTS {
        // The last hundred stay open and say nothing.
        silent.push_back(yard.vrf.enter(|| TcpStream::connect("127.0.0.1:2620")));
        if silent.len() > 100 {
            silent.pop_front();
        }
        if n % 2500 == 2499 {
            yard.assert_reaches_over(0, false, &format!("forwarding after {n} connections"));
        }
    }
    let grown = status_of(pid, "VmRSS").saturating_sub(memory);
    assert!(grown < MEMORY, "{grown} kB more memory");
    // Each but the last made room for the next.
    wait::until_true(SOON, "all to be counted", || closed_of(yard, "silent") >= ATTEMPTS as u64 - 1);
    println!("    after {:.1} s of that:", start.elapsed().as_secs_f64());
    connect(yard);
    yard.assert_equal("fpm", &frrs(yard));
    let log = yard.log();
    let lines = log.lines().filter(|line| line.contains("FPM: ")).count();
    assert!(lines < 200, "{lines} lines in the log");
    for what in ["a second connection, from", "a connection that said nothing was closed"] {
        assert!(log.contains(what), "no line about {what:?}:\n{log}");
    }
    assert!(log.contains("version 71 of the FPM protocol"), "what was wrong is not in the log:\n{log}");
    assert!(!log.contains("panicked"), "{log}");
}

/// How many connections were closed for this reason.
fn closed_of(yard: &Yard, why: &str) -> u64 {
    let drops = yard.router().show("drops");
    drops["control"]["outcomes"][format!("fpm_connection_{why}")].as_u64().unwrap_or(0)
}

/// A zebra that stays away takes its routes with it, after the retain time and not before.
fn dead_zebras_routes_go_after_the_retain_time(yard: &mut Yard) {
    let start = Instant::now();
    yard.zebra.as_mut().expect("zebra").kill();
    wait::pause(Duration::from_secs(RETAIN - 2));
    let reached = wait::within(Duration::from_secs(3), &mut || yard.reaches_over(0, false).then_some(()));
    // Not at fault: a machine that stood still until then.
    let late = start.elapsed().as_secs() >= RETAIN;
    assert!(reached.is_some() || late, "its routes went too soon");
    wait::until_true(SOON, "the end of its routes", || yard.routes("fpm", false).is_empty());
    let took = start.elapsed().as_secs();
    assert!((RETAIN..RETAIN + 5).contains(&took), "after {took} s");
    assert_eq!(yard.count("fpm", "routes"), 0);
    yard.zebra.as_mut().expect("zebra").resume();
    wait_for_return(yard);
    yard.wait_for(0);
    yard.assert_equal("fpm", &frrs(yard));
}
