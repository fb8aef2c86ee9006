//! The sections on RFC 2544: throughput against line rates, latency, loss, bursts.

use serde_json::Value;

use super::data::{Data, distinct, number, text};
use super::page::{Table, figure, paragraph, section};
use super::svg::{Lines, Mark, Series, short};

/// All that `perf rfc2544` measured.
pub fn rfc2544(data: &Data) -> String {
    let mut body = String::new();
    let mut set_ups: Vec<String> = Vec::new();
    for row in data.test("set_up") {
        let set_up = format!("Tested: {}; {}.", text(row, "setup"), text(row, "method"));
        if !set_ups.contains(&set_up) {
            body += &paragraph(&set_up);
            set_ups.push(set_up);
        }
    }
    for name in &data.partial {
        body += &format!(
            "<p class=\"warn\">{}</p>",
            super::svg::escape(&format!("{name}: this run was ended early; what it had measured is here."))
        );
    }
    body += &throughput(data);
    body += &latency(data);
    body += &loss(data);
    body += &bursts(data);
    body += &wakes(data);
    section("Forwarding by RFC 2544", &body)
}

fn frame(row: &Value) -> String {
    let frame = text(row, "frame");
    if frame == "imix" { "IMIX".into() } else { frame }
}

/// The last row for each of `categories` that `wanted` picks.
fn values<'a>(
    rows: &(impl Iterator<Item = &'a Value> + Clone),
    categories: &[String],
    key: &str,
    wanted: impl Fn(&Value) -> bool,
) -> Vec<Option<f64>> {
    let one = |category: &String| rows.clone().filter(|row| frame(row) == *category && wanted(row)).last();
    categories.iter().map(|category| one(category).and_then(|row| number(row, key))).collect()
}

/// Frame sizes in ascending order, mixes last.
fn frames<'a>(rows: impl Iterator<Item = &'a Value>) -> Vec<String> {
    let mut all: Vec<String> = Vec::new();
    for name in rows.map(frame) {
        if !all.contains(&name) {
            all.push(name);
        }
    }
    all.sort_by_key(|name| name.parse().unwrap_or(u32::MAX));
    all
}

fn throughput(data: &Data) -> String {
    let rows = || data.test("throughput");
    if rows().next().is_none() {
        return String::new();
    }
    let categories = frames(rows());
    let series = distinct(rows(), "family").into_iter().map(|family| Series {
        values: values(&rows(), &categories, "wire_gbps", |row| text(row, "family") == family),
        name: family_name(&family).into(),
    });
    let marks =
        [10.0, 25.0, 40.0, 100.0].map(|gbps| Mark { name: format!("{gbps}G line rate"), value: gbps });
    let plot = Lines {
        title: "Throughput by frame size against line rates",
        unit: "Gbit/s on the wire",
        across: "frame size in bytes, with check sequence, without tags",
        series: series.collect(),
        categories,
        marks: marks.into(),
    };
    let mut table = Table::new([
        "family",
        "frame",
        "tags in",
        "tags out",
        "Mpps",
        "Gbit/s on the wire",
        "loss allowed",
        "limit",
        "reordered",
        "duplicates",
        "corrupt",
    ]);
    for row in rows() {
        let loss = number(row, "loss_allowed").unwrap_or(0.0) * 100.0;
        table.row([
            family_name(&text(row, "family")).to_owned(),
            frame(row),
            text(row, "tags_in"),
            text(row, "tags_out"),
            figures(row, "mpps", 3),
            figures(row, "wire_gbps", 2),
            format!("{} %", short(loss)),
            text(row, "limit"),
            text(row, "reordered"),
            text(row, "duplicates"),
            text(row, "corrupt"),
        ]);
    }
    let tester = rows().filter(|row| row["limit"] == "tester").count();
    let note = if tester == 0 {
        String::new()
    } else {
        paragraph(&format!(
            "In {tester} of these the tester could not send faster: the device may do more than is shown."
        ))
    };
    format!(
        "<h3>Throughput</h3>{}<div class=\"wide\">{}</div>{note}",
        figure(
            &plot.draw(),
            "The highest rate without more loss than allowed. Wire bits count preamble, gap, check sequence and tags, so \
             that a full link is at its line rate whatever the frame size."
        ),
        table.html()
    )
}

fn latency(data: &Data) -> String {
    const PERCENTILES: [(&str, &str); 5] =
        [("p50_us", "p50"), ("p90_us", "p90"), ("p99_us", "p99"), ("p999_us", "p99.9"), ("max_us", "max")];
    let rows = || data.test("latency");
    let mut body = String::new();
    for family in distinct(rows(), "family") {
        let here = || rows().filter(|row| text(row, "family") == family);
        let categories = frames(here());
        for load in [90, 100] {
            let series = PERCENTILES.map(|(key, name)| Series {
                name: name.into(),
                values: values(&here(), &categories, key, |row| row["load"] == load),
            });
            let plot = Lines {
                title: "Latency percentiles by frame size",
                unit: "microseconds",
                across: "frame size in bytes",
                categories: categories.clone(),
                series: series.into(),
                marks: Vec::new(),
            };
            let caption = format!("{}: latency at {load} % of the throughput.", family_name(&family));
            body += &figure(&plot.draw(), &caption);
        }
        let titles = ["frame", "load", "Mpps", "min", "p50", "p90", "p99", "p99.9", "max", "PDV"];
        let mut table = Table::new(titles);
        for row in here() {
            let mut cells = vec![frame(row), format!("{} %", text(row, "load"))];
            cells.push(figures(
                &serde_json::json!({ "mpps": number(row, "fps").map(|f| f / 1e6) }),
                "mpps",
                3,
            ));
            for key in ["min_us", "p50_us", "p90_us", "p99_us", "p999_us", "max_us", "pdv_us"] {
                cells.push(figures(row, key, 1));
            }
            table.row(cells);
        }
        body += &format!("<div class=\"wide\">{}</div>", table.html());
    }
    if body.is_empty() {
        return body;
    }
    let note = "In microseconds, from when a frame is given to the tester's port until the tester has it back. PDV is the \
                delay variation of RFC 8219: p99.9 less the least.";
    format!("<h3>Latency</h3>{}{body}", paragraph(note))
}

fn loss(data: &Data) -> String {
    let rows = || data.test("loss");
    if rows().next().is_none() {
        return String::new();
    }
    let mut table = Table::new(["family", "frame", "load", "offered Mpps", "back Mpps", "loss"]);
    for row in rows() {
        table.row([
            family_name(&text(row, "family")).to_owned(),
            frame(row),
            format!("{} %", text(row, "load")),
            number(row, "offered_fps").map_or(String::new(), |f| format!("{:.3}", f / 1e6)),
            number(row, "delivered_fps").map_or(String::new(), |f| format!("{:.3}", f / 1e6)),
            number(row, "loss").map_or(String::new(), |f| format!("{:.4} %", f * 100.0)),
        ]);
    }
    format!("<h3>Frame loss</h3><div class=\"wide\">{}</div>", table.html())
}

fn bursts(data: &Data) -> String {
    let rows = || data.test("back_to_back");
    if rows().next().is_none() {
        return String::new();
    }
    let titles = ["family", "frame", "Mpps in the burst", "frames", "least", "most", "buffer in ms"];
    let mut table = Table::new(titles);
    for row in rows() {
        let unlimited = row["unlimited"] == true;
        table.row([
            family_name(&text(row, "family")).to_owned(),
            frame(row),
            number(row, "fps").map_or(String::new(), |f| format!("{:.3}", f / 1e6)),
            number(row, "frames")
                .map_or(String::new(), |f| format!("{}{f:.0}", if unlimited { "≥ " } else { "" })),
            text(row, "least"),
            text(row, "most"),
            number(row, "buffer_ms").map_or("no limit".into(), |ms| format!("{ms:.3}")),
        ]);
    }
    format!("<h3>Back-to-back bursts</h3><div class=\"wide\">{}</div>", table.html())
}

fn wakes(data: &Data) -> String {
    let rows = || data.test("wake");
    if rows().next().is_none() {
        return String::new();
    }
    let titles = [
        "idle workers",
        "of a core",
        "silence",
        "burst",
        "bursts",
        "Mpps in it",
        "lost",
        "slowest µs",
        "worst µs",
    ];
    let mut table = Table::new(titles);
    for row in rows() {
        table.row([
            text(row, "idle"),
            number(row, "core_share").map_or(String::new(), |share| format!("{:.1} %", share * 100.0)),
            format!("{} ms", text(row, "pause_ms")),
            text(row, "burst"),
            text(row, "bursts"),
            number(row, "fps").map_or(String::new(), |f| format!("{:.2}", f / 1e6)),
            text(row, "lost"),
            figures(row, "slowest_us", 0),
            figures(row, "slowest_us_worst", 0),
        ]);
    }
    format!("<h3>Bursts after silence</h3><div class=\"wide\">{}</div>", table.html())
}

/// A family as people write it.
pub fn family_name(family: &str) -> &str {
    match family {
        "ipv4" => "IPv4",
        "ipv6" => "IPv6",
        other => other,
    }
}

/// A number with so many decimals, or nothing.
pub fn figures(row: &Value, key: &str, decimals: usize) -> String {
    number(row, key).map_or(String::new(), |value| format!("{value:.decimals$}"))
}
