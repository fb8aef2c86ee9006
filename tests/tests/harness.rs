//! The harness itself: what it makes it removes, its wires carry and show what they should, its streams see losses.

use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use tests::echo;
use tests::frame::{self, Tag};
use tests::lab::{Lab, Netns};
use tests::stream::{Plan, Stream};
use tests::suite::{SOON, assert_once};
use tests::wait;
use tests::wire::{End, Way, Wire};

/// Two namespaces whose TAPs are joined by two wires back to back, with these tags in between.
struct Pair {
    wires: [Wire; 2],
    hosts: [Netns; 2],
    _outside: Netns,
    _lab: Lab,
}

const HOSTS: [&str; 2] = ["192.0.2.1", "192.0.2.2"];

fn pair(tags: &[Tag]) -> Pair {
    let lab = Lab::new();
    let outside = lab.netns("R");
    outside.sysctl("ipv6/conf/default/disable_ipv6", "1");
    outside.ip("link add w0 type veth peer name w1");
    let hosts = ["A", "B"].map(|name| lab.netns(name));
    let ends = [&hosts[0], &hosts[1]].map(|netns| End::new(netns, "eth0", tags));
    for (netns, address) in hosts.iter().zip(HOSTS) {
        netns.address("eth0", &format!("{address}/24"));
    }
    ends[0].set_pcp(5);
    let wires = [0, 1].map(|n| Wire::attach(&outside, &format!("w{n}"), &[ends[n].clone()]));
    Pair { wires, hosts, _outside: outside, _lab: lab }
}

#[test]
fn wires_put_tags_on_and_take_them_off() {
    let stacks: [&[Tag]; 4] = [
        &[],
        &[Tag::new(0x8100, 30)],
        &[Tag::new(0x8100, 100), Tag::new(0x8100, 10)],
        &[Tag::new(0x88a8, 100), Tag::new(0x8100, 10)],
    ];
    for tags in stacks {
        let pair = pair(tags);
        let record = pair.wires[1].record();
        echo::assert_pings(&pair.hosts[0], None, HOSTS[1].parse().unwrap(), 1472, 5);
        let is_request = |f: &[u8]| frame::ip(f).is_some_and(|p| p.dst.to_string() == HOSTS[1]);
        let seen = record.frames(Way::FromRouter, is_request);
        assert_eq!(seen.len(), 5);
        for seen in seen {
            let want: Vec<Tag> = tags.iter().map(|t| t.with_pcp(5)).collect();
            assert_eq!(frame::ethernet(&seen.frame).unwrap().tags, want);
            assert_eq!(seen.frame.len(), 14 + 4 * tags.len() + 1500);
        }
        assert_eq!(pair.wires.each_ref().map(|w| (w.unclaimed(), w.lost())), [(0, 0), (0, 0)]);
    }
}

#[test]
fn frames_with_other_tags_reach_nobody() {
    let pair = pair(&[Tag::new(0x8100, 30)]);
    let strange = frame::build([0xff; 6], [2; 6], &[Tag::new(0x8100, 31)], frame::IPV4, &[0; 46]);
    pair.wires[0].inject(&strange);
    wait::until_true(SOON, "the frame", || pair.wires[1].unclaimed() == 1);
}

#[test]
fn a_stream_sees_what_a_cut_wire_loses() {
    assert_once(losses_of_a_cut_wire);
}

/// What is not as it should when a wire is cut for 400 ms.
fn losses_of_a_cut_wire() -> Result<(), String> {
    let pair = pair(&[Tag::new(0x8100, 100), Tag::new(0x8100, 10)]);
    let stream = Stream::start(Plan {
        from: &pair.hosts[0],
        to: &pair.hosts[1],
        target: SocketAddr::from(([192, 0, 2, 2], 7000)),
        flows: 4,
        every: Duration::from_millis(2),
        marker: *b"harness!",
    });
    wait::pause(Duration::from_millis(300));
    let start = Instant::now();
    let cut = pair.wires[0].cut();
    wait::pause(Duration::from_millis(400));
    drop(cut);
    wait::pause(Duration::from_millis(300));
    let outcome = stream.stop();
    let before = outcome.samples.iter().filter(|s| s.sent < start && s.echoed.is_none()).count();
    let (lost, repair) = (outcome.lost(), outcome.repair_one_way(start));
    // Only one can have been under way.
    let right = before <= 1
        && lost > 100
        && (Duration::from_millis(300)..Duration::from_millis(600)).contains(&repair);
    right.then_some(()).ok_or_else(|| format!("{before} lost before the cut, {lost} in all, for {repair:?}"))
}

#[test]
fn a_panic_leaves_nothing_behind() {
    let mut names = Vec::new();
    let mut dir = None;
    let mut pid = 0;
    let panic = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        let lab = Lab::new();
        let netns = lab.netns("X");
        names.push(netns.name().to_owned());
        dir = Some(lab.dir().to_owned());
        let log = lab.path("log");
        let mut sleeper =
            tests::process::Daemon::start("a sleeper", netns.command("sleep").arg("1000"), &log);
        sleeper.assert_alive();
        pid = sleeper.pid();
        panic!("as a test that fails");
    }));
    assert!(panic.is_err());
    assert!(names.iter().all(|n| !Path::new("/run/netns").join(n).exists()), "{names:?}");
    assert!(dir.is_some_and(|d| !d.exists()));
    assert!(!Path::new(&format!("/proc/{pid}")).exists(), "the child lives on");
}

#[test]
fn what_a_killed_run_left_is_swept() {
    // A process that has ended: its id is free, and so are the namespaces under it.
    let mut ended = Command::new("true").spawn().unwrap();
    ended.wait().unwrap();
    let name = format!("tpe{}-0-R", ended.id());
    tests::process::run(Command::new("ip").args(["netns", "add", &name]));
    tests::lab::sweep();
    assert!(!Path::new("/run/netns").join(name).exists());
}
