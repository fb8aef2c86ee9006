//! All metrics as text, family by family.

use std::collections::BTreeMap;

use dataplane::verdict::{DropReason, PuntReason};

use super::exposition::{Kind, Labels, Text};
use super::families::{FIBS, INTERFACES, PORTS, SESSION_FAMILIES, SESSIONS, SOURCES, WORKERS, each, truth};
use super::{Notifications, Session, Snapshot};
use crate::api::view::{Interface, Source, Times};
use crate::source::bgp::State;

/// The families' names, and the labels for them.
const FAMILIES: [&str; 2] = ["ipv4", "ipv6"];

/// Bounds of the histograms, in nanoseconds and as labels in seconds.
const BOUNDS: [(u64, &str); 9] = [
    (1_000, "0.000001"),
    (5_000, "0.000005"),
    (20_000, "0.00002"),
    (100_000, "0.0001"),
    (500_000, "0.0005"),
    (1_000_000, "0.001"),
    (5_000_000, "0.005"),
    (20_000_000, "0.02"),
    (100_000_000, "0.1"),
];

/// All metrics, as Prometheus reads them.
pub fn render(snapshot: &Snapshot) -> String {
    let mut text = Text::default();
    program(&mut text, snapshot);
    let labels: Vec<_> = snapshot.ports.iter().map(|p| Labels::of("port", &p.name)).collect();
    each(&mut text, PORTS, &snapshot.ports, &labels);
    drops(&mut text, snapshot);
    let interface = |i: &Interface| {
        Labels::of("interface", &i.name).and("port", &i.port).and("vrf", &i.vrf).and("circuit", &i.circuit)
    };
    let labels: Vec<_> = snapshot.interfaces.iter().map(interface).collect();
    each(&mut text, INTERFACES, &snapshot.interfaces, &labels);
    workers(&mut text, snapshot);
    routes(&mut text, snapshot);
    sessions(&mut text, snapshot);
    neighbours(&mut text, snapshot);
    text.finish()
}

/// A family of one sample.
fn one(text: &mut Text, name: &str, kind: Kind, help: &str, value: f64) {
    text.family(name, kind, help);
    text.sample(name, &Labels::default(), value);
}

fn program(text: &mut Text, snapshot: &Snapshot) {
    let name = "turnpike_build_info";
    text.family(name, Kind::Gauge, "The versions that run; always 1.");
    let versions = Labels::of("version", &snapshot.version).and("dpdk", &snapshot.dpdk);
    text.sample(name, &versions, 1.0);
    one(
        text,
        "turnpike_start_time_seconds",
        Kind::Gauge,
        "When the program started, in seconds since 1970.",
        snapshot.started as f64,
    );
}

/// Drops and punts by port and reason, those that did not occur included, and what became of punts.
fn drops(text: &mut Text, snapshot: &Snapshot) {
    let name = "turnpike_port_dropped_packets_total";
    text.family(name, Kind::Counter, "Packets received here and dropped, by reason.");
    for port in &snapshot.drops.ports {
        by_reason(text, name, &port.port, DropReason::ALL.iter().map(|reason| reason.name()), &port.dropped);
    }
    let name = "turnpike_port_punted_packets_total";
    text.family(name, Kind::Counter, "Packets received here and handed to the control thread, by reason.");
    for port in &snapshot.drops.ports {
        by_reason(text, name, &port.port, PuntReason::ALL.iter().map(|reason| reason.name()), &port.punted);
    }
    let name = "turnpike_punt_budget_packets_per_second";
    text.family(
        name,
        Kind::Gauge,
        "What each worker hands to the control thread of a port at most, by reason.",
    );
    for (reason, rate) in &snapshot.punt_budgets {
        text.sample(name, &Labels::of("reason", reason), f64::from(*rate));
    }
    let name = "turnpike_control_outcomes_total";
    text.family(
        name,
        Kind::Counter,
        "What the control thread did with punted packets and its own, by outcome.",
    );
    for (outcome, count) in &snapshot.drops.control.outcomes {
        text.sample(name, &Labels::of("outcome", outcome), *count as f64);
    }
}

/// A port's sample for each of these reasons.
fn by_reason(
    text: &mut Text,
    name: &str,
    port: &str,
    reasons: impl Iterator<Item = &'static str>,
    counts: &BTreeMap<String, u64>,
) {
    for reason in reasons {
        let count = counts.get(reason).copied().unwrap_or(0);
        text.sample(name, &Labels::of("port", port).and("reason", reason), count as f64);
    }
}

fn workers(text: &mut Text, snapshot: &Snapshot) {
    let all = &snapshot.workers;
    let labels: Vec<_> = all.workers.iter().map(|w| Labels::of("core", &w.core.to_string())).collect();
    each(text, WORKERS, &all.workers, &labels);
    let name = "turnpike_worker_round_seconds";
    text.family(name, Kind::Histogram, "Time from one look at the queues to the next, sleep aside.");
    for (worker, labels) in all.workers.iter().zip(&labels) {
        histogram(text, name, labels, &worker.rounds);
    }
    let name = "turnpike_control_turn_seconds";
    text.family(
        name,
        Kind::Histogram,
        "How long a turn of the control thread took: all else waited so long.",
    );
    histogram(text, name, &Labels::default(), &all.control_turns);
    let gauges = [
        (
            "turnpike_control_turn_max_seconds",
            "Longest turn of the control thread since the start.",
            all.control_turns.max_ns as f64 / 1e9,
        ),
        ("turnpike_tsc_frequency_hertz", "Cycles in a second.", all.tsc_hz as f64),
        ("turnpike_packet_buffers", "Packet buffers in the pool.", f64::from(all.pool_size)),
        ("turnpike_packet_buffers_free", "Packet buffers that are free.", f64::from(all.pool_available)),
        ("turnpike_huge_pages", "Whether packet buffers are on huge pages.", truth(all.huge_pages)),
    ];
    for (name, help, value) in gauges {
        one(text, name, Kind::Gauge, help, value);
    }
}

/// A histogram's samples. Its times are known to an eighth of themselves, and count as the longest that they may be.
fn histogram(text: &mut Text, name: &str, labels: &Labels, times: &Times) {
    let bucket = format!("{name}_bucket");
    for (bound, label) in BOUNDS {
        let within = times.histogram.iter().filter(|(time, _)| *time <= bound);
        let count: u64 = within.map(|(_, count)| count).sum();
        text.sample(&bucket, &labels.clone().and("le", label), count as f64);
    }
    let count: u64 = times.histogram.iter().map(|(_, count)| count).sum();
    let sum: f64 = times.histogram.iter().map(|(time, count)| *time as f64 * *count as f64).sum();
    text.sample(&bucket, &labels.clone().and("le", "+Inf"), count as f64);
    text.sample(&format!("{name}_sum"), labels, sum / 1e9);
    text.sample(&format!("{name}_count"), labels, count as f64);
}

fn routes(text: &mut Text, snapshot: &Snapshot) {
    let all = &snapshot.sources;
    let source = |s: &Source| Labels::of("source", &s.name).and("kind", &s.kind).and("vrf", &s.vrf);
    let labels: Vec<_> = all.iter().map(source).collect();
    each(text, SOURCES, all, &labels);
    let name = "turnpike_source_lag_seconds";
    text.family(name, Kind::Gauge, "How long the last change waited for the control thread.");
    for (source, labels) in all.iter().zip(&labels) {
        if let Some(ms) = source.lag_ms {
            text.sample(name, labels, ms / 1e3);
        }
    }
    let name = "turnpike_rib_paths";
    text.family(name, Kind::Gauge, "Paths in the RIB; with add-path a prefix may have several of a source.");
    for (source, labels) in all.iter().zip(&labels) {
        for (family, paths) in FAMILIES.iter().zip([source.ipv4, source.ipv6]) {
            text.sample(name, &labels.clone().and("family", family), paths as f64);
        }
    }
    let labels: Vec<_> =
        snapshot.fibs.iter().map(|f| Labels::of("vrf", &f.vrf).and("family", &f.family)).collect();
    each(text, FIBS, &snapshot.fibs, &labels);
}

fn sessions(text: &mut Text, snapshot: &Snapshot) {
    let all = &snapshot.sessions;
    let labels: Vec<_> = all.iter().map(|s| Labels::of("peer", &s.peer).and("vrf", &s.vrf)).collect();
    each(text, SESSIONS, all, &labels);
    let name = "turnpike_bgp_session_state";
    text.family(name, Kind::Gauge, "1 for the state that the session is in, 0 for the others.");
    for (session, labels) in all.iter().zip(&labels) {
        for state in State::ALL.map(State::name) {
            text.sample(name, &labels.clone().and("state", state), truth(session.state == state));
        }
    }
    let by_family = |labels: &Labels| FAMILIES.map(|family| labels.clone().and("family", family));
    let labels_of_families: Vec<_> = labels.iter().flat_map(by_family).collect();
    let families: Vec<_> = all.iter().flat_map(|session| session.families.clone()).collect();
    each(text, SESSION_FAMILIES, &families, &labels_of_families);
    let name = "turnpike_bgp_prefix_limit";
    text.family(name, Kind::Gauge, "Most prefixes that the peer may announce, where a limit is configured.");
    for (family, labels) in families.iter().zip(&labels_of_families) {
        if let Some(limit) = family.limit {
            text.sample(name, labels, f64::from(limit));
        }
    }
    let sent: (_, _, fn(&Session) -> &Vec<Notifications>) =
        ("turnpike_bgp_notifications_sent_total", "NOTIFICATIONs sent, by code and subcode.", |s| {
            &s.notifications_sent
        });
    let received: (_, _, fn(&Session) -> &Vec<Notifications>) =
        ("turnpike_bgp_notifications_received_total", "NOTIFICATIONs received, by code and subcode.", |s| {
            &s.notifications_received
        });
    for (name, help, counts) in [sent, received] {
        text.family(name, Kind::Counter, help);
        for (session, labels) in all.iter().zip(&labels) {
            for Notifications(code, subcode, count) in counts(session) {
                let labels =
                    labels.clone().and("code", &code.to_string()).and("subcode", &subcode.to_string());
                text.sample(name, &labels, *count as f64);
            }
        }
    }
}

fn neighbours(text: &mut Text, snapshot: &Snapshot) {
    let name = "turnpike_neighbours";
    text.family(name, Kind::Gauge, "Neighbours, by state.");
    for (state, count) in &snapshot.neighbours {
        text.sample(name, &Labels::of("state", state), *count as f64);
    }
    one(
        text,
        "turnpike_neighbour_held_packets",
        Kind::Gauge,
        "Packets that wait for a neighbour.",
        snapshot.held as f64,
    );
}
