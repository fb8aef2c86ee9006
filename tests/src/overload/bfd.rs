//! FRR's bfdd over turnpike's TAPs, at 300 ms × 3, while one worker forwards as fast as it can and a million routes come
//! and go: no session flaps, and a link that falls silent is left within a second.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use super::feed::Feed;
use super::{FLOODED_MAC, Load, Overload, SUNK, load_time};
use crate::counters::Counters;
use crate::frame;
use crate::plan::{CLOUD, PRIVATE};
use crate::stream::{Plan, Stream};
use crate::suite::{ROUTE, SOON, Step, assert_once, assert_once_within};
use crate::wait;
use crate::wire::Way;

/// Flows of the load.
const FLOWS: u16 = 1024;
/// Routes that come and go for a few seconds, and for longer.
const ROUTES: [u32; 2] = [100_000, 1_000_000];

/// What is forwarded.
pub const LOAD: Load = Load { name: "bfd", punts: &[], frames: flows };

/// The steps, in order.
pub const STEPS: &[Step<Overload>] = &[
    ("no_flap_under_load_and_route_updates", no_flap_under_load_and_route_updates),
    ("a_silent_link_is_left_within_a_second", a_silent_link_is_left_within_a_second),
];

fn flows() -> Vec<Vec<u8>> {
    let one = |n: u16| {
        let [high, low] = n.to_be_bytes();
        let from = ([10, 99, 1, 1].into(), 1024 + n);
        let packet = frame::udp(from, ([172, 20, high, low].into(), 5000), 64, &[0x55; 200]);
        frame::build(FLOODED_MAC, [2, 0, 0, 0x99, 1, 1], &[], frame::IPV4, &packet)
    };
    (0..FLOWS).map(one).collect()
}

/// No session goes down while the worker is busy all the time, and routes come and go as fast as they are taken. A machine
/// that stands still for a second ends sessions, too, so it has to go well once.
fn no_flap_under_load_and_route_updates(overload: &mut Overload) {
    assert_once(|| no_flap(overload));
}

/// Yields the sessions before and after that time if they are not the same.
fn no_flap(overload: &mut Overload) -> Result<(), String> {
    overload.bfd_is_up();
    overload.settle();
    let time = load_time(5);
    let routes = ROUTES[usize::from(time > Duration::from_secs(30))];
    let before = overload.sessions();
    assert!(before.iter().all(|(_, bfd)| !bfd.is_empty()), "BFD sessions are missing: {before:?}");
    let feed = Feed::start(&overload.vrf, routes, SUNK.1.parse().expect("an address"));
    let start = Instant::now();
    let counted = Counters::read(overload.router());
    let mut told = start;
    while start.elapsed() < time || (feed.sent() < routes.into() && start.elapsed() < time + SOON) {
        wait::pause(Duration::from_millis(500));
        if told.elapsed() > Duration::from_mins(1) {
            told = Instant::now();
            let same = overload.sessions() == before;
            println!("    after {:.0} s: sessions as before: {same}", start.elapsed().as_secs_f64());
        }
    }
    let forwarded = Counters::read(overload.router()).since(&counted, "flooded").forwarded;
    let took = start.elapsed();
    let (sent, lives) = (feed.sent(), feed.lives());
    drop(feed);
    println!(
        "    {:.1} s with {:.2} M packets/s forwarded, and {:.2} M routes of {routes} announced and withdrawn",
        took.as_secs_f64(),
        forwarded as f64 / took.as_secs_f64() / 1e6,
        sent as f64 / 1e6
    );
    let after = overload.sessions();
    if after != before || !lives {
        return Err(format!("{before:?}\n{after:?}\nthe one that announces routes lives: {lives}"));
    }
    assert!(sent >= routes.into(), "{sent} routes of {routes} came");
    assert!(forwarded > 0, "nothing was forwarded");
    Ok(())
}

/// When the primary link loses every frame, with no link going down, traffic moves to the other within a second, both
/// ways. BFD alone takes 0.6 to 0.9 of it.
fn a_silent_link_is_left_within_a_second(overload: &mut Overload) {
    assert_once_within(ROUTE, ["from the cut to the last packet without an answer"], || [repair(overload)]);
}

/// Cuts the primary link, and mends it: from the cut to the last packet without an answer.
fn repair(overload: &Overload) -> Duration {
    let records = [overload.wires[1].record(), overload.wires[2].record()];
    let stream = Stream::start(Plan {
        from: &overload.lan,
        to: &overload.cloud,
        target: SocketAddr::new(CLOUD[0].address(), 7000),
        flows: 32,
        every: Duration::from_millis(2),
        marker: PRIVATE.marker,
    });
    let passes = |record: &crate::wire::Recording<'_>| {
        record.count(Way::FromRouter, |f| {
            frame::ip(f).is_some_and(|ip| ip.ports().is_some_and(|p| p.1 == 7000))
        }) > 0
    };
    wait::until_true(SOON, "traffic on both links", || records.iter().all(passes));
    drop(records);
    let start = Instant::now();
    let cut = overload.wires[1].cut();
    wait::pause(ROUTE * 2);
    let outcome = stream.stop_passing();
    drop(cut);
    assert!(outcome.lost() > 0, "a cut link lost nothing: the stream did not use it");
    overload.bfd_is_up();
    overload.settle();
    outcome.repair(start)
}
