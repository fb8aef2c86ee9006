//! Routes take effect in time: announced, withdrawn, and drained by prepending with the session up. The time counts
//! from when the edge has taken the command, so it is that of BGP over all three routers.

use std::time::{Duration, Instant};

use crate::circuit::{Circuit, QUIET};
use crate::plan::{CLOUD, LATER, Site};
use crate::scenarios::{PRIVATE, is_request, stream, wait_for_both_links};
use crate::suite::{ROUTE, SOON, Undo, assert_once_within};
use crate::wait;
use crate::wire::Way;

/// A prefix that nobody announced is not reached; announced it is within a second, withdrawn it is gone within one.
fn announced_is_used(circuit: &Circuit, site: Site) {
    let what = ["from the announcement to the first packet", "from the withdrawal to the last packet"];
    assert_once_within(ROUTE, what, || announced_and_withdrawn(circuit, site));
}

/// How long both took.
fn announced_and_withdrawn(circuit: &Circuit, site: Site) -> [Duration; 2] {
    let peering = &circuit.peerings[PRIVATE];
    let stream = stream(peering, site.address());
    wait::pause(QUIET);
    assert!(stream.last_arrival().is_none(), "{} is reached before anybody announced it", site.prefix);

    let start = Instant::now();
    let undo = Undo(|| peering.edges.iter().for_each(|e| e.announce(site.prefix, false)));
    peering.edges[0].announce(site.prefix, true);
    let told = Instant::now();
    let what = format!("the first packet to {} after its announcement", site.prefix);
    let first = wait::until(SOON, &what, || stream.first_arrival(start));
    let announced = first.saturating_duration_since(told);
    peering.edges[1].announce(site.prefix, true);
    wait_for_both_links(circuit, peering.plan.marker);

    let start = Instant::now();
    drop(undo);
    let told = Instant::now();
    let quiet = || stream.last_arrival().is_some_and(|last| last.elapsed() > ROUTE);
    wait::until_true(SOON, "the last packet", quiet);
    let outcome = stream.stop();
    let last = outcome.samples.iter().filter(|s| s.arrived.is_some()).map(|s| s.sent).max().unwrap();
    let between = outcome.samples.iter().filter(|s| s.sent > first && s.sent < start && s.arrived.is_none());
    assert_eq!(between.count(), 0, "packets lost while {} was announced", site.prefix);
    [announced, last.saturating_duration_since(told)]
}

/// IPv4.
pub fn announced_is_used_v4(circuit: &mut Circuit) {
    announced_is_used(circuit, LATER[0]);
}

/// IPv6.
pub fn announced_is_used_v6(circuit: &mut Circuit) {
    announced_is_used(circuit, LATER[1]);
}

/// When one of two edges withdraws a prefix, its traffic moves to the other within a second, and not a packet is
/// lost: the edge still forwards.
pub fn withdrawn_by_one_edge_moves(circuit: &mut Circuit) {
    drained(circuit, CLOUD[0], &|edge, drain| edge.announce(CLOUD[0].prefix, !drain));
}

/// Before maintenance Microsoft prepends its AS eight times: the link's traffic moves away within a second without
/// loss, with its session up, and comes back when the prepending ends. IPv4.
pub fn prepended_path_drains_v4(circuit: &mut Circuit) {
    drained(circuit, CLOUD[0], &crate::edge::Edge::prepend);
}

/// The same for IPv6.
pub fn prepended_path_drains_v6(circuit: &mut Circuit) {
    drained(circuit, CLOUD[1], &crate::edge::Edge::prepend);
}

fn drained(circuit: &Circuit, site: Site, drain: &dyn Fn(&crate::edge::Edge, bool)) {
    let what = ["from the drain to the last packet on the primary link"];
    assert_once_within(ROUTE, what, || [drain_time(circuit, site, drain)]);
}

fn drain_time(circuit: &Circuit, site: Site, drain: &dyn Fn(&crate::edge::Edge, bool)) -> Duration {
    let peering = &circuit.peerings[PRIVATE];
    let edge = &peering.edges[0];
    let stream = stream(peering, site.address());
    wait_for_both_links(circuit, peering.plan.marker);
    let primary = circuit.link_wire(0).record();

    let undo = Undo(|| drain(edge, false));
    drain(edge, true);
    let start = Instant::now();
    wait::pause(ROUTE + QUIET);
    let requests = primary.frames(Way::FromRouter, |f| is_request(f, peering.plan.marker));
    let last = requests.iter().map(|s| s.at).max().unwrap_or(start);
    let took = last.saturating_duration_since(start);
    let up = edge.established();
    drop(primary);
    drop(undo);
    wait_for_both_links(circuit, peering.plan.marker);

    assert!(up, "the session went down");
    stream.assert_lossless();
    took
}
