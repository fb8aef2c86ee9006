//! Floods of what the control thread has to see, at the speed of memory: BGP and BFD sessions over other ports stay up,
//! pings there are answered, hosts there are found, and memory does not grow.

use std::net::{IpAddr, Ipv4Addr};
use std::time::{Duration, Instant};

use super::{FLOODED, FLOODED_MAC, Load, Overload, load_time};
use crate::counters::Counters;
use crate::frame;
use crate::plan::{CLOUD, LAN};
use crate::suite::{Step, assert_once};
use crate::wait;

/// Frames of a flood's file: each from another sender.
const FRAMES: u16 = 1024;
/// Pings to one address while a flood lasts.
const PINGS: u32 = 200;
/// How much more of turnpike may be resident after a flood than at its begin, in bytes.
const GROWTH: u64 = 4 << 20;

/// Each, and all at once.
pub const FLOODS: &[Load] = &[
    Load { name: "arp", punts: &["arp"], frames: arp },
    Load { name: "ttl", punts: &["ttl_expired"], frames: ttl },
    Load { name: "local", punts: &["local"], frames: local },
    Load { name: "unresolved", punts: &["unresolved"], frames: unresolved },
    Load { name: "mixed", punts: &["arp", "ttl_expired", "local", "unresolved"], frames: mixed },
];

/// The steps of each.
pub const STEPS: &[Step<Overload>] = &[("all_else_goes_on", all_else_goes_on)];

/// Address and MAC address of sender `n` on the flooded link.
fn sender(n: u16) -> (Ipv4Addr, [u8; 6]) {
    let n = n.wrapping_mul(40_503).max(256);
    let [high, low] = n.to_be_bytes();
    (Ipv4Addr::new(10, 99, high, low), [2, 0, 0, 0x99, high, low])
}

fn ours() -> IpAddr {
    FLOODED.0.parse().expect("an address")
}

fn to_us(n: u16, packet: &[u8]) -> Vec<u8> {
    frame::build(FLOODED_MAC, sender(n).1, &[], frame::IPV4, packet)
}

/// Requests for our MAC address, broadcast.
fn arp() -> Vec<Vec<u8>> {
    let request = |n| {
        let (address, mac) = sender(n);
        let body =
            [&[0, 1, 8, 0, 6, 4, 0, 1][..], &mac, &address.octets(), &[0; 6], &[10, 99, 0, 1]].concat();
        frame::build([0xff; 6], mac, &[], 0x0806, &body)
    };
    (0..FRAMES).map(request).collect()
}

/// Packets to the cloud on their last hop.
fn ttl() -> Vec<Vec<u8>> {
    let last = |n| frame::udp((sender(n).0.into(), 4000), (CLOUD[0].address(), 33_434), 1, b"where am I");
    (0..FRAMES).map(|n| to_us(n, &last(n))).collect()
}

/// Datagrams that nobody waits for and echo requests, to our own address; by their sources from this link and from
/// another, where nobody answers.
fn local() -> Vec<Vec<u8>> {
    let one = |n: u16| {
        let [_, _, high, low] = sender(n).0.octets();
        let from = Ipv4Addr::new(10, if n % 4 < 2 { 99 } else { 98 }, high, low).into();
        if n.is_multiple_of(2) {
            return frame::udp((from, 4000), (ours(), 9), 64, b"knock");
        }
        let mut echo = vec![8, 0, 0, 0, 0, 1, 0, 1];
        let checksum = frame::checksum(&echo).to_be_bytes();
        echo[2..4].copy_from_slice(&checksum);
        frame::packet(from, ours(), 1, 64, &echo)
    };
    (0..FRAMES).map(|n| to_us(n, &one(n))).collect()
}

/// Packets to addresses of the LAN that nobody has.
fn unresolved() -> Vec<Vec<u8>> {
    let one = |n: u16| {
        let [high, low] = n.wrapping_mul(40_503).max(256).to_be_bytes();
        let absent = Ipv4Addr::new(10, 98, high, low).into();
        frame::udp((sender(n).0.into(), 4000), (absent, 5000), 64, b"anybody?")
    };
    (0..FRAMES).map(|n| to_us(n, &one(n))).collect()
}

/// Some of each in turn.
fn mixed() -> Vec<Vec<u8>> {
    let all = [arp(), ttl(), local(), unresolved()];
    (0..usize::from(FRAMES)).map(|n| all[n % all.len()][n].clone()).collect()
}

/// What must hold while the flood that turnpike was started with lasts. A machine that stands still for a second ends BFD
/// sessions, too, so it has to go well once.
fn all_else_goes_on(overload: &mut Overload) {
    assert_once(|| undisturbed(overload));
}

/// Yields what was disturbed in that time.
fn undisturbed(overload: &mut Overload) -> Result<(), String> {
    overload.bfd_is_up();
    overload.settle();
    let time = load_time(3);
    let before = overload.sessions();
    let resident = overload.resident();
    let start = Instant::now();
    let counted = Counters::read(overload.router());
    let worked = overload.control_time();
    let mut lost = Vec::new();
    let mut rounds = 0;
    while start.elapsed() < time {
        rounds += 1;
        // A LAN host that is not known yet, on either side.
        for site in LAN {
            overload.vrf.ip(&format!("neigh flush dev lan to {}", site.host));
        }
        overload.lan.ip("neigh flush dev eth0");
        for target in [LAN[0].router, LAN[1].router, CLOUD[0].host] {
            let answered = overload.pings(target.parse().expect("an address"), PINGS);
            lost.push((target, PINGS - answered));
        }
        wait::pause(Duration::from_millis(100));
    }
    let flooded = Counters::read(overload.router()).since(&counted, "flooded");
    let took = start.elapsed();
    let worked = overload.control_time().saturating_sub(worked).as_secs_f64() / took.as_secs_f64();
    let grown = overload.resident().saturating_sub(resident);
    let after = overload.sessions();
    println!(
        "    {:.2} M packets/s on the flooded port for {:.1} s ({:.0} handed up a second, control thread busy {:.0}% of \
         its time); lost of {PINGS} pings: {lost:?}; {} KiB grown",
        flooded.received as f64 / took.as_secs_f64() / 1e6,
        took.as_secs_f64(),
        flooded.punted as f64 / took.as_secs_f64(),
        worked * 100.0,
        grown >> 10
    );
    let all: u32 = lost.iter().map(|(_, lost)| lost).sum();
    assert!(grown < GROWTH, "{} KiB more are resident", grown >> 10);
    for reason in overload.load.punts {
        assert!(flooded.punts.contains_key(*reason), "no packet was handed up as {reason}: {flooded:?}");
    }
    assert!(flooded.drops.contains_key("punt_policed"), "it was no flood: {flooded:?}");
    overload.router.as_mut().expect("started").daemon().assert_alive();
    let right = after == before && all * 100 < PINGS * 3 * rounds;
    right.then_some(()).ok_or_else(|| format!("pings lost: {lost:?}, sessions {before:?} and {after:?}"))
}

impl Overload {
    /// Bytes of turnpike in memory.
    #[track_caller]
    fn resident(&mut self) -> u64 {
        let pid = self.router.as_mut().expect("started").daemon().pid();
        let text = std::fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).expect("turnpike's memory");
        let line = text.lines().find_map(|line| line.strip_prefix("Rss:")).expect("its resident size");
        line.trim().trim_end_matches(" kB").parse::<u64>().expect("a number") << 10
    }

    /// Processor time of turnpike's control thread, with what the kernel does for it: TAPs deliver in its time.
    #[track_caller]
    fn control_time(&mut self) -> Duration {
        let pid = self.router.as_mut().expect("started").daemon().pid();
        let stat =
            std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/stat")).expect("turnpike's first thread");
        // Behind the name, which may hold anything: user and system time are the 12th and 13th, in hundredths.
        let fields = stat.rsplit(')').next().unwrap_or_default().split_whitespace();
        let ticks: u64 = fields.skip(11).take(2).filter_map(|field| field.parse::<u64>().ok()).sum();
        Duration::from_millis(ticks * 10)
    }
}
