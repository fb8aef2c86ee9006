//! All speakers together: they bring some prefixes all of them, are killed one after the other, and come back.

use std::net::IpAddr;
use std::time::{Duration, Instant};

use super::route::{Route, gateway_mac};
use super::who::{BIRD, EXABGP, FPM, FRR, GOBGP, KERNEL, OPENBGPD, Who};
use super::yard::{RETAIN, Yard};
use crate::frame::Mac;
use crate::process::run;
use crate::suite::SOON;
use crate::wait;

/// In the order in which they are preferred: by distance, then by `LOCAL_PREF`.
const ORDER: [Who; 7] = [FPM, KERNEL, FRR, BIRD, GOBGP, EXABGP, OPENBGPD];
/// Between two kills.
const APART: Duration = Duration::from_millis(500);

/// Addresses behind the prefixes that all bring.
fn shared(yard: &Yard) -> Vec<IpAddr> {
    let all = yard.routes[FPM.index].iter().filter(|route| route.shared());
    all.step_by(7).map(Route::address).collect()
}

/// Whether all packets went by this one's gateway, by the MAC addresses that they were sent on to.
fn all_by(macs: &[Option<Mac>], who: Who) -> bool {
    macs.iter().all(|mac| *mac == Some(gateway_mac(who.gateway())))
}

/// Whether packets to all of them go by this one's gateway; none may go nowhere.
fn goes_by(yard: &Yard, addresses: &[IpAddr], who: Who) -> bool {
    let macs = yard.probe(addresses);
    if let Some(lost) = macs.iter().position(Option::is_none) {
        panic!("a packet was lost: {}", yard.chain(addresses[lost]));
    }
    all_by(&macs, who)
}

/// Of what all bring the best is used, and each has the rest of its routes.
pub fn the_best_of_all_is_used(yard: &mut Yard) {
    let shared = shared(yard);
    assert!(shared.len() > 10, "{shared:?}");
    wait::until_true(SOON, "the routes of FPM", || goes_by(yard, &shared, FPM));
    for who in ORDER {
        yard.holds(who);
    }
}

/// Killed, each leaves its routes in force for the retain time, and then to the next; those of the last go. What the
/// kernel's table has stays when its BIRD is killed, until somebody takes it out.
pub fn killed_one_by_one(yard: &mut Yard) {
    let shared = shared(yard);
    let before: Vec<_> = ORDER.iter().map(|who| yard.installed(*who)).collect();
    let mut killed = Vec::new();
    for who in ORDER {
        yard.kill(who);
        killed.push(Instant::now());
        wait::pause(APART);
    }
    for (who, before) in ORDER.iter().zip(&before) {
        assert_eq!(yard.installed(*who), *before, "{}: they stay", who.name());
    }
    assert!(goes_by(yard, &shared, FPM), "a dead one's routes are as good as before");
    for (n, who) in ORDER.iter().enumerate() {
        if who.index == KERNEL.index {
            assert!(yard.installed(KERNEL).len() > before[n].len(), "the kernel's stay, and are used");
            yard.site.inside.ip("route flush proto bird");
            run(std::process::Command::new("ip").args([
                "-n",
                yard.site.inside.name(),
                "-6",
                "route",
                "flush",
                "proto",
                "bird",
            ]));
        }
        let Some(next) = ORDER.get(n + 1) else { break };
        let what = format!("{} to take over from {}", next.name(), who.name());
        wait::until_true(SOON, &what, || {
            let macs = yard.probe(&shared);
            // The next one is in use for half a second: on a machine that stood still that may have passed unseen.
            let late = next.index != KERNEL.index
                && killed[n + 1].elapsed() + APART / 2 >= Duration::from_secs(RETAIN);
            assert!(late || macs.iter().all(Option::is_some), "packets were lost: {macs:02x?}");
            all_by(&macs, *next) || (late && !all_by(&macs, *who))
        });
        let stayed = killed[n].elapsed().as_secs_f64();
        assert!(
            who.index == KERNEL.index || stayed > RETAIN as f64 - 2.0,
            "{}'s routes went after {stayed:.1} s",
            who.name()
        );
        wait::until_true(SOON, &format!("the last of {} to go", who.name()), || {
            yard.installed(*who).is_empty()
        });
    }
    wait::until_true(SOON, "the last routes to go", || yard.installed(OPENBGPD).is_empty());
    let macs = yard.probe(&shared);
    assert!(macs.iter().all(Option::is_none), "{macs:02x?}");
}

/// Two come back, the lesser one first.
pub fn comes_back(yard: &mut Yard) {
    let shared = shared(yard);
    for who in [BIRD, FRR] {
        yard.launch(who, who.feed());
        yard.wait_for(who);
        let by_it = || all_by(&yard.probe(&shared), who);
        wait::until_true(SOON, &format!("packets to go by {}", who.name()), by_it);
        yard.holds(who);
    }
}

/// turnpike ends its sessions by the book.
pub fn takes_leave(yard: &mut Yard) {
    assert!(yard.is_up("edge"), "there is a session to be ended");
    assert_eq!(yard.router_mut().stop(libc::SIGTERM).code(), Some(0));
    let edge = yard.edge.as_ref().expect("started");
    let said = || edge.log_tail(50).contains("Administrative shutdown");
    wait::until_true(SOON, "BIRD to hear the Cease", said);
}
