//! The metrics with a value for each of many things: names, types and meanings, and where the values stand.

use super::exposition::{Kind, Labels, Text};
use super::{Fib, Session, SessionFamily};
use crate::api::view::{Interface, Port, Source, Worker};
use crate::source::bgp::State;

/// A family with a value for each of some things.
pub struct Family<T> {
    name: &'static str,
    kind: Kind,
    help: &'static str,
    value: fn(&T) -> f64,
}

const fn counter<T>(name: &'static str, help: &'static str, value: fn(&T) -> f64) -> Family<T> {
    Family { name, kind: Kind::Counter, help, value }
}

const fn gauge<T>(name: &'static str, help: &'static str, value: fn(&T) -> f64) -> Family<T> {
    Family { name, kind: Kind::Gauge, help, value }
}

/// Of each port.
pub const PORTS: &[Family<Port>] = &[
    gauge("turnpike_port_up", "Whether the link is up.", |p| truth(p.link_up)),
    gauge("turnpike_port_speed_bytes_per_second", "Speed of the link; 0 if it is not known.", |p| {
        f64::from(p.speed_mbps) * 125_000.0
    }),
    counter("turnpike_port_received_packets_total", "Packets received.", |p| p.received as f64),
    counter("turnpike_port_received_bytes_total", "Bytes of the frames received, without FCS.", |p| {
        p.received_bytes as f64
    }),
    counter("turnpike_port_forwarded_packets_total", "Packets received here and sent on.", |p| {
        p.forwarded as f64
    }),
    counter(
        "turnpike_port_sent_packets_total",
        "Packets sent from here, the control thread's included.",
        |p| p.sent as f64,
    ),
    counter("turnpike_port_sent_bytes_total", "Bytes of the frames sent, without FCS.", |p| {
        p.sent_bytes as f64
    }),
    counter(
        "turnpike_port_inject_dropped_packets_total",
        "Packets of the control thread that the TX queue had no room for.",
        |p| p.inject_dropped as f64,
    ),
    counter(
        "turnpike_port_missed_packets_total",
        "Packets that the NIC dropped: no free descriptor, or no buffer.",
        |p| p.missed as f64,
    ),
    counter("turnpike_port_receive_errors_total", "Frames that the NIC received with errors.", |p| {
        p.receive_errors as f64
    }),
    counter("turnpike_port_transmit_errors_total", "Packets that the NIC could not send.", |p| {
        p.transmit_errors as f64
    }),
];

/// Of each sub-interface.
pub const INTERFACES: &[Family<Interface>] = &[
    gauge("turnpike_interface_up", "Whether the link of the sub-interface's port is up.", |i| truth(i.up)),
    counter("turnpike_interface_received_packets_total", "Packets received.", |i| i.received.packets as f64),
    counter(
        "turnpike_interface_received_l2_bytes_total",
        "Bytes of the frames received, with tags, without FCS.",
        |i| i.received.l2_bytes as f64,
    ),
    counter(
        "turnpike_interface_received_l3_bytes_total",
        "Bytes of the IP packets received; on a circuit's links, the metered direction.",
        |i| i.received.l3_bytes as f64,
    ),
    counter("turnpike_interface_sent_packets_total", "Packets sent.", |i| i.sent.packets as f64),
    counter(
        "turnpike_interface_sent_l2_bytes_total",
        "Bytes of the frames sent, with tags, without FCS.",
        |i| i.sent.l2_bytes as f64,
    ),
    counter("turnpike_interface_sent_l3_bytes_total", "Bytes of the IP packets sent.", |i| {
        i.sent.l3_bytes as f64
    }),
];

/// Of each worker.
pub const WORKERS: &[Family<Worker>] = &[
    counter("turnpike_worker_packets_total", "Packets handled.", |w| w.packets as f64),
    counter("turnpike_worker_polls_total", "RX polls.", |w| w.polls as f64),
    counter("turnpike_worker_empty_polls_total", "RX polls that brought nothing.", |w| w.empty_polls as f64),
    counter("turnpike_worker_bursts_total", "RX polls that brought packets.", |w| {
        w.polls.saturating_sub(w.empty_polls) as f64
    }),
    counter("turnpike_worker_handed_packets_total", "Packets handed to other workers.", |w| w.handed as f64),
    counter("turnpike_worker_taken_packets_total", "Packets taken over from other workers.", |w| {
        w.taken as f64
    }),
    counter("turnpike_worker_busy_cycles_total", "Cycles of the time-stamp counter spent on packets.", |w| {
        w.busy_cycles as f64
    }),
    counter("turnpike_worker_cycles_total", "Cycles of the time-stamp counter in all.", |w| w.cycles as f64),
    gauge(
        "turnpike_worker_round_max_seconds",
        "Longest time from one look at the queues to the next since the start, sleep aside.",
        |w| w.rounds.max_ns as f64 / 1e9,
    ),
];

/// Of each source in a VRF.
pub const SOURCES: &[Family<Source>] = &[
    gauge("turnpike_source_up", "Whether the source is connected and may announce.", |s| truth(s.up)),
    gauge(
        "turnpike_source_stale_paths",
        "Paths that were not announced again since the source was lost; of BGP only.",
        |s| s.stale as f64,
    ),
    counter("turnpike_source_announced_prefixes_total", "Prefixes announced or changed.", |s| {
        s.announced as f64
    }),
    counter("turnpike_source_withdrawn_prefixes_total", "Prefixes withdrawn.", |s| s.withdrawn as f64),
    gauge(
        "turnpike_source_waiting_prefixes",
        "Prefixes that changed and wait for the control thread.",
        |s| s.waiting as f64,
    ),
    counter("turnpike_source_refused_routes_total", "Routes that lead nowhere that can be sent to.", |s| {
        s.refused as f64
    }),
    counter("turnpike_source_malformed_messages_total", "Messages that could not be read.", |s| {
        s.malformed as f64
    }),
    counter("turnpike_source_starts_total", "Connections, sessions, or readings of the whole table.", |s| {
        s.starts as f64
    }),
];

/// Of each BGP session.
pub const SESSIONS: &[Family<Session>] = &[
    gauge("turnpike_bgp_session_up", "Whether the session is established.", |s| {
        truth(s.state == State::Established.name())
    }),
    gauge(
        "turnpike_bgp_session_state_since_seconds",
        "When the session came to its state, in seconds since 1970.",
        |s| s.since as f64,
    ),
    gauge("turnpike_bgp_peer_kept_out", "Whether the peer is kept out, for announcing too much.", |s| {
        truth(s.kept_out)
    }),
    counter(
        "turnpike_bgp_sessions_established_total",
        "Sessions that were established: more than one, and it has flapped.",
        |s| s.established as f64,
    ),
    counter("turnpike_bgp_messages_received_total", "Messages received.", |s| s.messages as f64),
    counter("turnpike_bgp_updates_received_total", "UPDATEs received.", |s| s.updates as f64),
    counter("turnpike_bgp_malformed_updates_total", "UPDATEs with a malformed attribute (RFC 7606).", |s| {
        s.malformed as f64
    }),
    counter("turnpike_bgp_looped_updates_total", "UPDATEs with our own AS in the path.", |s| s.looped as f64),
    counter(
        "turnpike_bgp_rejected_connections_total",
        "Connections refused, since the peer had one already.",
        |s| s.rejected as f64,
    ),
    counter("turnpike_bgp_failed_calls_total", "Calls of ours that the peer did not take.", |s| {
        s.failed_calls as f64
    }),
];

/// Of each family of a BGP session.
pub const SESSION_FAMILIES: &[Family<SessionFamily>] = &[
    gauge("turnpike_bgp_prefixes", "Prefixes announced by the peer and not withdrawn.", |f| {
        f.prefixes as f64
    }),
    gauge("turnpike_bgp_told_prefixes", "Prefixes announced to the peer.", |f| f.told as f64),
    gauge(
        "turnpike_bgp_untold_prefixes",
        "Prefixes not announced to the peer, since its circuit takes no more.",
        |f| f.refused as f64,
    ),
];

/// Of each look-up table.
pub const FIBS: &[Family<Fib>] = &[
    gauge("turnpike_fib_routes", "Routes in the look-up table.", |f| f.routes as f64),
    gauge("turnpike_fib_block_bytes", "Bytes of the look-up table's blocks, its root aside.", |f| {
        f.block_bytes as f64
    }),
];

/// 1 or 0.
pub fn truth(yes: bool) -> f64 {
    f64::from(u8::from(yes))
}

/// Each family with a sample for each thing.
pub fn each<T>(text: &mut Text, families: &[Family<T>], things: &[T], labels: &[Labels]) {
    for family in families {
        text.family(family.name, family.kind, family.help);
        for (thing, labels) in things.iter().zip(labels) {
            text.sample(family.name, labels, (family.value)(thing));
        }
    }
}
