//! The steps of the circuit scenario. Each takes the whole circuit and leaves it as it found it. What holds of any
//! right router is here for turnpike and for Linux in its place.

pub mod failures;
pub mod forwarding;
pub mod own;
pub mod routes;
pub mod separation;

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::time::Duration;

use crate::circuit::{Circuit, Peering};
use crate::frame::{Ip, ip};
use crate::stream::{Plan, Stream};
use crate::suite::Step;
use crate::wire::{Recording, Seen, Way};

/// Number of the private peering.
pub const PRIVATE: usize = 0;
/// Number of the Microsoft peering.
pub const MICROSOFT: usize = 1;
/// Where the streams go to, in the cloud.
const STREAM_PORT: u16 = 7000;
/// Flows of a stream: enough that both links get some but for one case in 2^31.
const FLOWS: u16 = 32;

/// What any right router passes.
pub const ANY_ROUTER: &[Step<Circuit>] = &[
    ("ping_both_ways", forwarding::ping_both_ways),
    ("full_size_frames_on_the_wire", forwarding::full_size_frames_on_the_wire),
    ("fragments", forwarding::fragments),
    ("traceroute", forwarding::traceroute),
    ("tcp_bulk", forwarding::tcp_bulk),
    ("udp_bulk", forwarding::udp_bulk),
    ("flows_spread_and_stay", forwarding::flows_spread_and_stay),
    ("own_addresses_answer", forwarding::own_addresses_answer),
    ("overlapping_vrfs_stay_apart", separation::overlapping_vrfs_stay_apart),
    ("a_route_of_one_vrf_is_none_of_the_other", separation::a_route_of_one_vrf_is_none_of_the_other),
    ("announced_is_used_v4", routes::announced_is_used_v4),
    ("announced_is_used_v6", routes::announced_is_used_v6),
    ("withdrawn_by_one_edge_moves", routes::withdrawn_by_one_edge_moves),
    ("prepended_path_drains_v4", routes::prepended_path_drains_v4),
    ("prepended_path_drains_v6", routes::prepended_path_drains_v6),
    ("killed_session_moves_traffic", failures::killed_session_moves_traffic),
    ("cut_link_moves_traffic", failures::cut_link_moves_traffic),
];

/// What turnpike must pass besides, last that which stops it.
pub const TURNPIKE: &[Step<Circuit>] = &[
    ("what_it_shows_is_right", own::what_it_shows_is_right),
    ("pcp_is_carried", own::pcp_is_carried),
    ("first_packet_waits_for_its_neighbour", own::first_packet_waits_for_its_neighbour),
    ("absent_host_is_unreachable", own::absent_host_is_unreachable),
    ("moved_neighbour_is_followed", own::moved_neighbour_is_followed),
    ("packets_without_a_route_are_counted", own::packets_without_a_route_are_counted),
    ("counters_add_up", own::counters_add_up),
    ("link_down_moves_traffic", failures::link_down_moves_traffic),
    // The Linux router's own routes go with the speaker.
    ("speaker_restarts_without_loss", failures::speaker_restarts_without_loss),
    ("dead_speakers_routes_go_after_the_retain_time", own::dead_speakers_routes_go_after_the_retain_time),
];

/// Starts a stream from a peering's LAN host to an address of its cloud host, one datagram every 2 ms.
#[track_caller]
fn stream(peering: &Peering, target: std::net::IpAddr) -> Stream {
    Stream::start(Plan {
        from: &peering.lan,
        to: &peering.cloud,
        target: SocketAddr::new(target, STREAM_PORT),
        flows: FLOWS,
        every: Duration::from_millis(2),
        marker: peering.plan.marker,
    })
}

/// Whether a frame carries a datagram of that marker towards the cloud.
fn is_request(frame: &[u8], marker: [u8; 8]) -> bool {
    datagram(frame).is_some_and(|(ip, data)| {
        data.starts_with(&marker) && ip.ports().is_some_and(|(_, to)| to == STREAM_PORT)
    })
}

/// Whether a frame carries a datagram of that marker, either way.
fn is_marked(frame: &[u8], marker: [u8; 8]) -> bool {
    datagram(frame).is_some_and(|(_, data)| data.starts_with(&marker))
}

/// The IP header and the data of a UDP datagram.
fn datagram(frame: &[u8]) -> Option<(Ip<'_>, &[u8])> {
    let ip = ip(frame)?;
    let data = (ip.protocol == crate::frame::UDP).then(|| ip.payload.get(8..))??;
    Some((ip, data))
}

/// Waits until the requests of the private peering's stream leave by this link alone.
#[track_caller]
fn wait_for_link(circuit: &Circuit, link: usize) {
    let marker = circuit.peerings[PRIVATE].plan.marker;
    let records = [circuit.link_wire(link).record(), circuit.link_wire(1 - link).record()];
    crate::wait::until_true(crate::suite::SOON, "traffic on one link only", || {
        records.iter().for_each(Recording::restart);
        crate::wait::pause(Duration::from_millis(300));
        let [here, there] = records.each_ref().map(|r| r.count(Way::FromRouter, |f| is_request(f, marker)));
        here > usize::from(FLOWS) && there == 0
    });
}

/// Waits until each flow of the private peering's stream has its echoes, from now on, and a little longer, so that its
/// last datagrams have them, too.
#[track_caller]
fn wait_for_all_flows(circuit: &Circuit) {
    let marker = circuit.peerings[PRIVATE].plan.marker;
    let lan = circuit.lan_wire().record();
    crate::wait::until_true(crate::suite::SOON, "echoes of all flows", || {
        let echoes = lan.frames(Way::FromRouter, |f| is_marked(f, marker));
        let port = |seen: &Seen| ip(&seen.frame)?.ports().map(|(_, to)| to);
        echoes.iter().filter_map(port).collect::<BTreeSet<_>>().len() == usize::from(FLOWS)
    });
    crate::wait::pause(Duration::from_millis(200));
}

/// Waits until the requests of a stream have left by both links.
#[track_caller]
fn wait_for_both_links(circuit: &Circuit, marker: [u8; 8]) {
    let records = [circuit.link_wire(0).record(), circuit.link_wire(1).record()];
    crate::wait::until_true(crate::suite::SOON, "traffic on both links", || {
        records.iter().all(|r| r.count(Way::FromRouter, |f| is_request(f, marker)) > 0)
    });
}
