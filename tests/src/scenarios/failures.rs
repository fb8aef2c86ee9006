//! Things die: an edge's session, a link, the customer's router.

use std::time::{Duration, Instant};

use crate::circuit::Circuit;
use crate::plan::CLOUD;
use crate::scenarios::{PRIVATE, stream, wait_for_all_flows, wait_for_both_links};
use crate::stream::Outcome;
use crate::suite::{SOON, Undo, assert_once_within};
use crate::wait;

/// How long the loss of a port's link may go unnoticed: links are looked at ten times a second.
const LINK: Duration = Duration::from_millis(300);
/// The BGP hold time of all sessions here.
const HOLD: Duration = Duration::from_secs(9);
/// What telling and doing may take: less than the hold time, which runs from the last message, so 6 s at least are left.
const SLACK: Duration = Duration::from_secs(5);

/// When the primary edge's bgpd is killed, traffic moves to the other link, and comes back with it.
pub fn killed_session_moves_traffic(circuit: &mut Circuit) {
    let stream = stream(&circuit.peerings[PRIVATE], CLOUD[0].address());
    wait_for_both_links(circuit, circuit.peerings[PRIVATE].plan.marker);
    let start = Instant::now();
    circuit.peerings[PRIVATE].edges[0].frr.kill_bgpd();
    super::wait_for_link(circuit, 1);
    let outcome = stream.stop_passing();
    circuit.peerings[PRIVATE].edges[0].frr.resume();
    circuit.settle();
    assert_repaired(SLACK, &outcome, start, "from the kill to the last packet without an answer");
}

/// When the primary link loses every frame, the hold time ends its sessions, and traffic moves to the other link.
pub fn cut_link_moves_traffic(circuit: &mut Circuit) {
    let peering = &circuit.peerings[PRIVATE];
    let stream = stream(peering, CLOUD[0].address());
    wait_for_both_links(circuit, peering.plan.marker);
    let start = Instant::now();
    let cut = circuit.link_wire(0).cut();
    wait_for_all_flows(circuit);
    let outcome = stream.stop_passing();
    drop(cut);
    circuit.settle();
    assert!(outcome.lost() > 0, "a cut link lost nothing: the streams did not use it");
    assert_repaired(HOLD + SLACK, &outcome, start, "from the cut to the last packet without an answer");
}

/// When the primary port's link goes down, what goes to the cloud moves to the other link at once, without waiting
/// for BGP.
pub fn link_down_moves_traffic(circuit: &mut Circuit) {
    let peering = &circuit.peerings[PRIVATE];
    assert_once_within(LINK, ["from the link's loss to the last packet lost"], || {
        let stream = stream(peering, CLOUD[0].address());
        wait_for_both_links(circuit, peering.plan.marker);
        let undo = Undo(|| drop(circuit.outside.ip("link set tpp0 up")));
        let start = Instant::now();
        circuit.outside.ip("link set tpp0 down");
        super::wait_for_link(circuit, 1);
        // The way back waits for BGP.
        let outcome = stream.stop();
        drop(undo);
        circuit.settle();
        [outcome.repair_one_way(start)]
    });
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
    let outcome = stream.stop_passing();
    assert_eq!(outcome.lost(), 0, "of {} packets to the cloud", outcome.samples.len());
}

/// Fails when datagrams went unanswered for longer than `limit`, and says which.
#[track_caller]
fn assert_repaired(limit: Duration, outcome: &Outcome, start: Instant, what: &str) {
    let took = outcome.repair(start);
    assert!(took <= limit, "{what}: {:.3} s\n{}", took.as_secs_f64(), outcome.describe(start));
    println!("    {what}: {:.3} s", took.as_secs_f64());
}
