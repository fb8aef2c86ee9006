//! Things die: an edge's session, a link, the customer's router.

use std::time::{Duration, Instant};

use crate::circuit::Circuit;
use crate::plan::CLOUD;
use crate::scenarios::{PRIVATE, stream, wait_for_both_links};
use crate::suite::{SOON, assert_within};
use crate::wait;

/// The BGP hold time of all sessions here.
const HOLD: Duration = Duration::from_secs(9);
/// What noticing, telling and doing may take on top of it.
const SLACK: Duration = Duration::from_secs(2);

/// When the primary edge's bgpd is killed, traffic moves to the other link, and comes back with it.
pub fn killed_session_moves_traffic(circuit: &mut Circuit) {
    let stream = stream(&circuit.peerings[PRIVATE], CLOUD[0].address());
    wait_for_both_links(circuit, circuit.peerings[PRIVATE].plan.marker);
    let start = Instant::now();
    circuit.peerings[PRIVATE].edges[0].frr.kill_bgpd();
    let primary = circuit.link_wire(0).record();
    wait::pause(SLACK);
    primary.restart();
    wait::pause(Duration::from_millis(300));
    let marker = circuit.peerings[PRIVATE].plan.marker;
    let late = primary.count(crate::wire::Way::FromRouter, |f| super::is_request(f, marker));
    drop(primary);
    let outcome = stream.stop();
    circuit.peerings[PRIVATE].edges[0].frr.resume();
    circuit.settle();
    assert_eq!(late, 0, "packets on the primary link {SLACK:?} after its session ended");
    assert_within(SLACK, outcome.repair(start), "from the kill to the last packet without an answer");
}

/// When the primary link loses every frame, the hold time ends its sessions, and traffic moves to the other link.
pub fn cut_link_moves_traffic(circuit: &mut Circuit) {
    let peering = &circuit.peerings[PRIVATE];
    let stream = stream(peering, CLOUD[0].address());
    wait_for_both_links(circuit, peering.plan.marker);
    let start = Instant::now();
    let cut = circuit.link_wire(0).cut();
    wait::pause(HOLD + SLACK + SLACK);
    let outcome = stream.stop();
    drop(cut);
    circuit.settle();
    assert!(outcome.lost() > 0, "a cut link lost nothing: the streams did not use it");
    assert_within(HOLD + SLACK, outcome.repair(start), "from the cut to the last packet without an answer");
}

/// When the customer's router is killed and comes back within the retain time, what it relayed stays in use all the
/// while: not a packet is lost.
pub fn speaker_restarts_without_loss(circuit: &mut Circuit) {
    let stream = stream(&circuit.peerings[PRIVATE], CLOUD[0].address());
    wait_for_both_links(circuit, circuit.peerings[PRIVATE].plan.marker);
    let start = Instant::now();
    let customer = circuit.peerings[PRIVATE].customer.as_mut().unwrap();
    customer.kill();
    wait::pause(Duration::from_secs(1));
    customer.resume();
    wait::until_true(SOON, "the relay session", || customer.relays());
    println!("    the relay session was away for {:.1} s", start.elapsed().as_secs_f64());
    circuit.settle();
    wait::pause(Duration::from_secs(1));
    let outcome = stream.stop();
    assert_eq!(outcome.lost(), 0, "of {} packets to the cloud", outcome.samples.len());
}
