//! The sections on what a packet costs: the pipeline, its stages, look-ups, and what that means for 100 Gbit/s.

use serde_json::Value;

use super::data::{Data, distinct, number, text};
use super::forwarding::{family_name, figures};
use super::page::{Table, figure, paragraph, section};
use super::rates::{Cost, SIZES, mpps_at_100g, name};
use super::svg::{Bar, Mark, bars, stacked};
use crate::traffic::Sizes;

/// Whether a row compares other rows: what stands there as the peer is ours, or on fewer cores.
fn is_derived(row: &Value) -> bool {
    let peer = text(row, "peer");
    peer.starts_with("turnpike") || peer.contains("1 core")
}

/// `perf pipeline`: rates and ratios.
pub fn pipeline(data: &Data) -> String {
    if data.pipeline.is_empty() {
        return String::new();
    }
    let mut table = Table::new(["case", "Mpps", "peer", "peer Mpps", "ratio", "spread", "cycles"]);
    let mut all = Vec::new();
    for row in &data.pipeline {
        let case = text(row, "case");
        table.row([
            case.clone(),
            figures(row, "mpps", 2),
            text(row, "peer"),
            figures(row, "peer_mpps", 2),
            figures(row, "ratio", 3),
            number(row, "spread").map_or("one round".into(), |s| format!("{:.1} %", s * 100.0)),
            figures(row, "cycles_per_packet", 1),
        ]);
        if let Some(ratio) = number(row, "ratio").filter(|_| !is_derived(row)) {
            all.push(Bar { name: case, value: ratio, note: format!("{ratio:.2}"), colour: 0 });
        }
    }
    let mark = Mark { name: "the peer: ports alone".into(), value: 1.0 };
    let plot = bars("Packet rate in relation to the ports alone", "ratio", &all, Some(mark));
    let caption = "The whole packet path in relation to a peer on the same ports in the same run.";
    section(
        "The packet path",
        &format!("{}<div class=\"wide\">{}</div>", figure(&plot, caption), table.html()),
    )
}

/// Parts of a packet's way in `perf pipeline --stages`, and what they are called here.
const PARTS: [(&str, &str); 6] = [
    ("ports", "ports"),
    ("rx", "rx"),
    ("parse", "parse, classify, validate"),
    ("lookup", "look-up"),
    ("rewrite", "select, rewrite"),
    ("transmit", "transmit, count"),
];

/// `perf pipeline --stages`: cost by stage.
pub fn stages(data: &Data) -> String {
    let cases = distinct(&data.stages, "case");
    // Ports are told apart by direction there.
    let cost = |case: &str, part: &str, key: &str| {
        let here = |row: &&Value| {
            let stage = text(row, "stage");
            text(row, "case") == case && (stage == part || (part == "ports" && stage.starts_with("ports_")))
        };
        data.stages.iter().filter(here).filter_map(|row| number(row, key)).reduce(|a, b| a + b)
    };
    let mut body = String::new();
    let of_case = |case: &String| {
        let parts = PARTS.map(|(part, _)| cost(case, part, "cycles_per_packet").unwrap_or(0.0));
        (case.clone(), parts.to_vec())
    };
    let plot = stacked(
        "Cycles a packet by stage",
        "cycles a packet",
        &cases.iter().map(of_case).collect::<Vec<_>>(),
        &PARTS.map(|(_, name)| name),
    );
    body += &figure(
        &plot,
        "Where a packet's cycles go. The clock is read after each stage of a burst; its own cost is taken off.",
    );
    let tables = [
        ("cycles_per_packet", "Cycles a packet"),
        ("avx512_instructions_per_packet", "Instructions a packet, AVX-512"),
        ("instructions_per_packet", "Instructions a packet, counted by callgrind (no AVX-512)"),
    ];
    for (key, unit) in tables {
        let others = [("worker", "the loop"), ("all", "all of these"), ("untimed", "without the clock")];
        let filled = |(part, _): &(&str, &str)| cases.iter().any(|case| cost(case, part, key).is_some());
        let columns: Vec<_> = PARTS.into_iter().chain(others).filter(filled).collect();
        if columns.is_empty() {
            continue;
        }
        let mut table = Table::new(std::iter::once(unit).chain(columns.iter().map(|(_, name)| *name)));
        for case in &cases {
            let cell = |(part, _): &(&str, &str)| {
                cost(case, part, key).map_or(String::new(), |value| format!("{value:.1}"))
            };
            table.row(std::iter::once(case.clone()).chain(columns.iter().map(cell)));
        }
        body += &format!("<div class=\"wide\">{}</div>", table.html());
    }
    section("Cost by stage", &body)
}

/// `perf lpm`: look-ups in relation to the best peer.
pub fn look_ups(data: &Data) -> String {
    let mut all = Vec::new();
    let mut table =
        Table::new(["family", "routes", "addresses", "M look-ups/s", "best peer", "its M/s", "ratio"]);
    let key =
        |row: &Value| ["family", "routes", "workload", "addresses", "in_situ_mb"].map(|key| text(row, key));
    let mut seen: Vec<[String; 5]> = Vec::new();
    for row in &data.lpm {
        if seen.contains(&key(row)) {
            continue;
        }
        seen.push(key(row));
        let group = || data.lpm.iter().filter(|other| key(other) == key(row));
        let best = |ours: bool| {
            let rows = group().filter(|row| text(row, "table").starts_with("turnpike") == ours);
            rows.filter_map(|row| Some((number(row, "mlps")?, text(row, "table"))))
                .max_by(|a, b| a.0.total_cmp(&b.0))
        };
        let (Some((ours, _)), [family, routes, workload, how, in_situ]) = (best(true), key(row)) else {
            continue;
        };
        let place = if in_situ == "0" { format!(", {how}") } else { format!(", in situ {in_situ} MB") };
        let what = format!("{} {workload}{place}", family_name(&family));
        let peer = best(false);
        let ratio = peer.as_ref().filter(|peer| peer.0 > 0.0).map(|peer| ours / peer.0);
        table.row([
            family_name(&family).to_owned(),
            routes.clone(),
            format!("{workload}{place}"),
            format!("{ours:.1}"),
            peer.as_ref().map_or("none".into(), |peer| peer.1.clone()),
            peer.as_ref().map_or(String::new(), |peer| format!("{:.1}", peer.0)),
            ratio.map_or(String::new(), |ratio| format!("{ratio:.2}")),
        ]);
        if let Some(value) = ratio {
            let colour = usize::from(family == "ipv6");
            all.push(Bar { name: format!("{what}, {routes}"), value, note: format!("{value:.2}"), colour });
        }
    }
    if seen.is_empty() {
        return String::new();
    }
    let mark = Mark { name: "the best peer".into(), value: 1.0 };
    let plot = bars("Look-ups in relation to the best peer", "ratio", &all, Some(mark));
    let caption = "Longest-prefix match: our look-ups in relation to the fastest of DPDK's tables, by family, addresses \
                   and number of routes.";
    section("Look-ups", &format!("{}<div class=\"wide\">{}</div>", figure(&plot, caption), table.html()))
}

/// What one core does, and how many a full link takes.
pub fn line_rate(data: &Data, hz: f64) -> String {
    let rows: Vec<(&Value, Cost)> = data
        .pipeline
        .iter()
        .filter(|row| !text(row, "case").contains("cores") && !is_derived(row))
        .filter_map(|row| {
            let mpps = number(row, "mpps").filter(|mpps| *mpps > 0.0)?;
            Some((row, Cost::new(hz, mpps, number(row, "peer_mpps"))))
        })
        .collect();
    let mut body = paragraph(&format!(
        "A frame takes 20 bytes more on the wire than its size, and 4 more for each tag. 100 Gbit/s are then {:.2} million \
         frames of 64 bytes a second untagged, {:.2} with QinQ, and {:.2} of IMIX with QinQ. The table says how many cores \
         of this machine ({:.2} GHz) that takes at the measured cycles per packet. A packet is taken to cost the same \
         whatever its size, as only its headers are touched; cores are taken to add up, as long as memory and ports do not \
         limit them.",
        mpps_at_100g(SIZES[0], 0),
        mpps_at_100g(SIZES[0], 2),
        mpps_at_100g(SIZES[7], 2),
        hz / 1e9
    ));
    let mut table = Table::new(std::iter::once("bytes in a frame".to_owned()).chain(SIZES.map(name)));
    let mut line = |title: String, value: &dyn Fn(Sizes) -> f64| {
        table.row(std::iter::once(title).chain(SIZES.map(|sizes| format!("{:.2}", value(sizes)))));
    };
    line("Mpps, untagged".into(), &|sizes| mpps_at_100g(sizes, 0));
    line("Mpps with QinQ".into(), &|sizes| mpps_at_100g(sizes, 2));
    for (row, cost) in &rows {
        let case = text(row, "case");
        let tags = if case.starts_with("untagged") { 0 } else { 2 };
        line(format!("cores: {case}"), &|sizes| cost.cores(hz, mpps_at_100g(sizes, tags)));
    }
    body += &format!("<div class=\"wide\">{}</div>", table.html());
    if rows.is_empty() {
        body += &paragraph(
            "Without rows of `perf pipeline --json` there are no cycles per packet to reckon with.",
        );
    } else {
        body += &paragraph("Cases but untagged ones are reckoned with two tags on the wire.");
        body += &limits(&rows);
    }
    section("What 100 Gbit/s takes", &body)
}

/// Where the cycles go: ports, our own work, memory.
fn limits(rows: &[(&Value, Cost)]) -> String {
    let mut body = String::from("<h3>Where the limit lies</h3><ul>");
    for (row, cost) in rows {
        let share = match cost.ports {
            None => "no peer was measured, so the ports' part is not known".to_owned(),
            Some(ports) => {
                let own = (cost.cycles - ports).max(0.0);
                let of = |part: f64| part / cost.cycles * 100.0;
                let most = if ports >= own { "the ports are the limit" } else { "our own work is the limit" };
                format!(
                    "{:.0} cycles for the ports ({:.0} %), {:.0} for our work ({:.0} %): {most}",
                    ports,
                    of(ports).min(100.0),
                    own,
                    of(own)
                )
            }
        };
        let text = format!("{}: {:.0} cycles a packet, {share}.", text(row, "case"), cost.cycles);
        let text = text.replace(" %", "\u{a0}%");
        body += &format!("<li>{}</li>", super::svg::escape(&text));
    }
    // The same traffic with a small and a full table: what differs is memory.
    let find = |part: &str| rows.iter().find(|(row, _)| text(row, "case").contains(part));
    if let (Some(small), Some(full)) = (find("destinations, 10 k routes"), find("1 M routes")) {
        let more = full.1.cycles - small.1.cycles;
        let text = format!(
            "Memory: the full table costs {more:.0} cycles a packet more than 10,000 routes on the same traffic ({:.0} %).",
            more / small.1.cycles * 100.0
        );
        body += &format!("<li>{}</li>", super::svg::escape(&text));
    }
    let bytes = "Memory traffic: 100 Gbit/s each way is 12.5 GB/s that NICs write and 12.5 GB/s that they read; what fits \
                 the last-level cache does not go further.";
    body + &format!("<li>{}</li></ul>", super::svg::escape(bytes))
}
