//! Tests of what the metrics say, by a snapshot with something of everything.

use std::collections::BTreeSet;

use dataplane::verdict::{DropReason, PuntReason};

use super::{Fib, Notifications, Session, Snapshot, render};
use crate::api::view::{Drops, Interface, Port, Source, Times, Worker, Workers};

/// Something of everything.
fn full() -> Snapshot {
    let port = Port { name: "wan0".into(), received: 7, link_up: true, ..Port::default() };
    let interface = Interface {
        name: "er1-private-primary".into(),
        port: "wan0".into(),
        vrf: "private".into(),
        circuit: "er1".into(),
        ..Interface::default()
    };
    let drops = Drops { port: "wan0".into(), dropped: [("no_route".into(), 3)].into(), ..Drops::default() };
    let rounds = Times {
        max_ns: 2_000_000,
        histogram: vec![(900, 2), (1_100, 3), (2_000_000, 1)],
        ..Times::default()
    };
    let worker = Worker { core: 3, polls: 10, empty_polls: 4, rounds, ..Worker::default() };
    let source =
        Source { name: "frr".into(), kind: "bgp".into(), lag_ms: Some(2.0), ipv4: 5, ..Source::default() };
    let mut session = Session { peer: "frr".into(), state: "Established".into(), ..Session::default() };
    session.families[1].limit = Some(100);
    session.notifications_sent = vec![Notifications(6, 2, 4)];
    let mut snapshot = Snapshot {
        version: "0.1.0".into(),
        ports: vec![port],
        interfaces: vec![interface],
        punt_budgets: [("bgp".into(), 20_000)].into(),
        workers: Workers { workers: vec![worker], ..Workers::default() },
        sources: vec![source],
        fibs: vec![Fib { vrf: "private".into(), family: "ipv4".into(), routes: 5, block_bytes: 9 }],
        sessions: vec![session],
        neighbours: [("stale".into(), 2)].into(),
        ..Snapshot::default()
    };
    snapshot.drops.ports = vec![drops];
    snapshot.drops.control.outcomes = [("to_kernel".into(), 8)].into();
    snapshot
}

#[test]
fn values_stand_where_they_belong() {
    let text = render(&full());
    for line in [
        "turnpike_port_received_packets_total{port=\"wan0\"} 7",
        "turnpike_port_dropped_packets_total{port=\"wan0\",reason=\"no_route\"} 3",
        "turnpike_control_outcomes_total{outcome=\"to_kernel\"} 8",
        "turnpike_interface_received_l3_bytes_total{interface=\"er1-private-primary\",port=\"wan0\",\
         vrf=\"private\",circuit=\"er1\"} 0",
        "turnpike_worker_bursts_total{core=\"3\"} 6",
        "turnpike_worker_round_seconds_bucket{core=\"3\",le=\"0.000001\"} 2",
        "turnpike_worker_round_seconds_bucket{core=\"3\",le=\"0.000005\"} 5",
        "turnpike_worker_round_seconds_bucket{core=\"3\",le=\"0.005\"} 6",
        "turnpike_worker_round_seconds_bucket{core=\"3\",le=\"+Inf\"} 6",
        "turnpike_worker_round_seconds_count{core=\"3\"} 6",
        "turnpike_worker_round_max_seconds{core=\"3\"} 0.002",
        "turnpike_source_lag_seconds{source=\"frr\",kind=\"bgp\"} 0.002",
        "turnpike_rib_paths{source=\"frr\",kind=\"bgp\",family=\"ipv4\"} 5",
        "turnpike_fib_block_bytes{vrf=\"private\",family=\"ipv4\"} 9",
        "turnpike_bgp_session_up{peer=\"frr\"} 1",
        "turnpike_bgp_session_state{peer=\"frr\",state=\"Active\"} 0",
        "turnpike_bgp_prefix_limit{peer=\"frr\",family=\"ipv6\"} 100",
        "turnpike_bgp_notifications_sent_total{peer=\"frr\",code=\"6\",subcode=\"2\"} 4",
        "turnpike_neighbours{state=\"stale\"} 2",
    ] {
        assert!(text.lines().any(|found| found == line), "{line}\n{text}");
    }
}

#[test]
fn every_reason_is_there_whether_it_occurred_or_not() {
    let text = render(&full());
    let reasons = |family: &str| -> BTreeSet<String> {
        let of_family = text.lines().filter(|line| line.starts_with(&format!("{family}{{")));
        of_family
            .filter_map(|line| Some(line.split_once("reason=\"")?.1.split_once('"')?.0.to_owned()))
            .collect()
    };
    let dropped: BTreeSet<_> = DropReason::ALL.iter().map(|reason| reason.name().to_owned()).collect();
    assert_eq!(reasons("turnpike_port_dropped_packets_total"), dropped);
    let punted: BTreeSet<_> = PuntReason::ALL.iter().map(|reason| reason.name().to_owned()).collect();
    assert_eq!(reasons("turnpike_port_punted_packets_total"), punted);
}

#[test]
fn names_keep_to_the_rules_and_the_page_has_them_all() {
    let page = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/metrics.md");
    let page = std::fs::read_to_string(page).unwrap();
    let text = render(&full());
    let mut families = BTreeSet::new();
    let mut samples = BTreeSet::new();
    let mut family = ("", "");
    for line in text.lines() {
        if let Some(help) = line.strip_prefix("# HELP ") {
            let (name, help) = help.split_once(' ').unwrap();
            assert!(families.insert(name), "{name} stands twice");
            assert!(name.starts_with("turnpike_") && !help.is_empty());
            assert!(name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_'));
            family = (name, help);
        } else if let Some(kind) = line.strip_prefix("# TYPE ") {
            let kind = kind.strip_prefix(family.0).unwrap().trim();
            assert_eq!(kind == "counter", family.0.ends_with("_total"), "{}", family.0);
            let row = format!("| `{}` | {kind} | ", family.0);
            let row = page.lines().find(|line| line.starts_with(&row)).unwrap_or_else(|| panic!("{row}"));
            assert!(row.ends_with(&format!(" | {} |", family.1)), "{row}: {}", family.1);
        } else {
            let (sample, value) = line.rsplit_once(' ').unwrap();
            assert!(sample.starts_with(family.0), "{line}");
            assert!(samples.insert(sample), "{sample} stands twice");
            assert!(value.parse::<f64>().is_ok_and(f64::is_finite), "{line}");
            // Each label is in the page's row.
            let start = format!("| `{}` |", family.0);
            let row = page.lines().find(|line| line.starts_with(&start)).unwrap();
            for label in sample.split(['{', ',']).skip(1).filter_map(|label| label.split_once('=')) {
                assert!(label.0 == "le" || row.contains(&format!("`{}`", label.0)), "{line}: {row}");
            }
        }
    }
    let rows = page.lines().filter_map(|line| line.strip_prefix("| `turnpike_")?.split_once('`'));
    let told: BTreeSet<_> = rows.map(|(name, _)| format!("turnpike_{name}")).collect();
    assert_eq!(told, families.into_iter().map(str::to_owned).collect());
}
