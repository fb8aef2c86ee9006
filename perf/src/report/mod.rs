//! `perf report`: one HTML file, complete in itself, from the JSON of earlier runs.

mod cost;
mod data;
mod forwarding;
mod page;
mod rates;
mod svg;

use std::path::PathBuf;
use std::time::{Duration, Instant};

use data::Data;
use page::{Table, page, paragraph, section};

/// A report as one HTML file from the results of `lpm`, `pipeline`, `rfc2544` and `routes`, each with `--json`.
#[derive(clap::Args)]
pub struct Args {
    /// Files of results; which part of the program wrote them is seen from what is in them.
    #[arg(required = true)]
    files: Vec<PathBuf>,
    /// Where the report goes.
    #[arg(long, short, default_value = "report.html")]
    output: PathBuf,
    /// Its title.
    #[arg(long, default_value = "turnpike: what it forwards, and what that costs")]
    title: String,
    /// Clock of the machine that was measured, in GHz [default: that of this machine's time-stamp counter].
    #[arg(long)]
    ghz: Option<f64>,
}

/// Writes the report.
pub fn run(args: &Args) -> Result<(), String> {
    let mut data = Data::default();
    for file in &args.files {
        let text = std::fs::read_to_string(file).map_err(|error| format!("{}: {error}", file.display()))?;
        data.read(&file.display().to_string(), &text)?;
    }
    let hz = match args.ghz {
        Some(ghz) if ghz > 0.0 && ghz < 100.0 => ghz * 1e9,
        Some(ghz) => return Err(format!("--ghz {ghz}: a clock of 0 to 100 GHz is meant")),
        None => clock(),
    };
    let html = html(&args.title, &data, hz)?;
    std::fs::write(&args.output, html).map_err(|error| format!("{}: {error}", args.output.display()))?;
    println!("{}", args.output.display());
    Ok(())
}

/// The whole page.
///
/// # Errors
/// There is nothing to report.
fn html(title: &str, data: &Data, hz: f64) -> Result<String, String> {
    let sections = [
        forwarding::rfc2544(data),
        cost::pipeline(data),
        cost::stages(data),
        cost::look_ups(data),
        routes(data),
        notes(data),
    ];
    if sections.iter().all(String::is_empty) {
        return Err("the files hold no results: give files that `perf ... --json` has written".into());
    }
    let [rfc2544, pipeline, rest @ ..] = sections;
    let line_rate = cost::line_rate(data, hz);
    let body = [rfc2544, pipeline, line_rate].into_iter().chain(rest).collect::<String>();
    let lead = format!(
        "Measured by turnpike's own benchmarks (perf {}). Ratios compare runs on the same machine at the same time.",
        env!("CARGO_PKG_VERSION")
    );
    Ok(page(title, &lead, &body))
}

/// Whatever `perf routes` measured, as a table of all that it says.
fn routes(data: &Data) -> String {
    let mut titles: Vec<String> = Vec::new();
    for row in data.routes.iter().filter_map(serde_json::Value::as_object) {
        for key in row.keys().filter(|key| *key != "benchmark") {
            if !titles.contains(key) {
                titles.push(key.clone());
            }
        }
    }
    if titles.is_empty() {
        return String::new();
    }
    let mut table = Table::new(titles.iter().map(|title| title.replace('_', " ")));
    for row in &data.routes {
        table.row(titles.iter().map(|title| match data::number(row, title) {
            Some(value) => svg::short(value),
            None => data::text(row, title),
        }));
    }
    section("Routes that change", &format!("<div class=\"wide\">{}</div>", table.html()))
}

fn notes(data: &Data) -> String {
    section("Remarks of the runs", &data.notes.iter().map(|note| paragraph(note)).collect::<String>())
}

/// The clock of the time-stamp counter, in Hz.
fn clock() -> f64 {
    let (start, from) = (Instant::now(), dpdk_sys::cycles());
    while start.elapsed() < Duration::from_millis(50) {
        std::hint::spin_loop();
    }
    (dpdk_sys::cycles() - from) as f64 / start.elapsed().as_secs_f64()
}

#[cfg(test)]
mod tests {
    use super::*;

    const RESULTS: &str = include_str!("tests/results.json");

    fn report(text: &str) -> String {
        let mut data = Data::default();
        data.read("results.json", text).unwrap();
        html("A title", &data, 2.6e9).unwrap()
    }

    /// Tags that are opened are closed, in order: no text has broken out.
    fn assert_well_formed(html: &str) {
        let mut open: Vec<&str> = Vec::new();
        let mut rest = html;
        while let Some(at) = rest.find('<') {
            let end = at + rest[at..].find('>').unwrap();
            let tag = &rest[at + 1..end];
            rest = &rest[end + 1..];
            let name = tag.trim_start_matches('/').split([' ', '/']).next().unwrap();
            if tag.starts_with('/') {
                assert_eq!(open.pop(), Some(name), "before {rest:.60}");
            } else if !tag.ends_with('/') && !["!DOCTYPE", "meta"].contains(&name) {
                open.push(name);
            }
        }
        assert!(open.is_empty(), "{open:?}");
    }

    /// What a reader looks for is there, with the figures that follow from the input.
    #[test]
    fn the_report_says_what_was_measured() {
        let html = report(RESULTS);
        assert_well_formed(&html);
        for expected in [
            "<h2>Forwarding by RFC 2544</h2>",
            "<h3>Throughput</h3>",
            "100G line rate",
            "<h3>Latency</h3>",
            "p99.9",
            "<h2>The packet path</h2>",
            "<h2>Cost by stage</h2>",
            // Both directions of the ports together; instructions beside.
            "<td>untagged IPv4, 2 routes</td><td>37.9</td><td>8.5</td><td>6.2</td><td>52.6</td><td>56.1</td>",
            "<td>untagged IPv4, 2 routes</td><td>111.9</td><td>22.9</td><td>4.7</td><td>139.6</td>",
            "<h3>Bursts after silence</h3>",
            "<td>3.7 %</td>",
            "<h2>Look-ups</h2>",
            "<h2>Routes that change</h2>",
            // 2.6 GHz / 40 Mpps = 65 cycles; 148.81 Mpps take 3.72 such cores. testpmd's 64 Mpps are 40.6 cycles.
            "148.81 million",
            "135.87 with QinQ",
            "32.74 of IMIX",
            "65 cycles a packet",
            "41 cycles for the ports (62\u{a0}%)",
            "<td>3.72</td>",
            "the ports are the limit",
            "run was ended early",
            "a remark",
            "<td>0.625</td><td>1.0 %</td>",
            "<td>0.600</td><td>one round</td>",
            // 500 M/s against 250 M/s.
            "<td>2.00</td>",
        ] {
            assert!(html.contains(expected), "{expected}");
        }
    }

    #[test]
    fn nothing_is_fetched_and_nothing_runs() {
        let html = report(RESULTS);
        for foreign in ["<script", "http://", "https://", "@import", "url(", "<link", "<img", "<iframe"] {
            assert!(!html.contains(foreign), "{foreign}");
        }
        assert!(html.contains("@media print"));
    }

    #[test]
    fn each_part_may_be_missing() {
        let lines: Vec<&str> = RESULTS.lines().collect();
        for line in &lines {
            let mut data = Data::default();
            data.read("one.json", line).unwrap();
            // A file with nothing but the end of a run has nothing to report; all others have.
            if let Ok(html) = html("t", &data, 2.6e9) {
                assert_well_formed(&html);
                assert!(!html.contains("NaN") && !html.contains("inf\""), "{line}");
            } else {
                assert!(line.contains("\"end\""), "{line}");
            }
        }
        assert!(html("t", &Data::default(), 2.6e9).is_err());
    }

    #[test]
    fn hostile_names_stay_text() {
        let evil = r#"</td><script>alert(1)</script>\"'&"#;
        let rows = format!(
            r#"{{"case":"{evil}","mpps":1.0,"peer":"{evil}","peer_mpps":2.0,"ratio":0.5,"spread":0.0}}
{{"stage":"parse","case":"{evil}","cycles_per_packet":3.5}}
{{"stage":"{evil}","case":"{evil}","cycles_per_packet":3.5}}
{{"table":"{evil}","family":"{evil}","routes":1,"workload":"{evil}","in_situ_mb":0,"mlps":5.0}}
{{"table":"turnpike","family":"{evil}","routes":1,"workload":"{evil}","in_situ_mb":0,"mlps":5.0}}
{{"benchmark":"rfc2544","test":"set_up","setup":"{evil}","method":"{evil}"}}
{{"benchmark":"rfc2544","test":"throughput","family":"{evil}","frame":"{evil}","mpps":1.0,"wire_gbps":2.0,"limit":"{evil}"}}
{{"benchmark":"rfc2544","test":"latency","family":"{evil}","frame":"{evil}","load":90,"p50_us":1.0}}
{{"benchmark":"routes","{evil}":"{evil}"}}
{{"note":"{evil}"}}"#
        );
        let html = report(&rows);
        assert_well_formed(&html);
        assert!(!html.contains("<script"));
        assert!(html.contains("&lt;script&gt;alert(1)&lt;/script&gt;&quot;&#39;&amp;"));
    }

    /// The drawing of a plot, as it was looked at and found good.
    #[test]
    fn plots_are_as_they_were() {
        let bar = |name: &str, value: f64| svg::Bar {
            name: name.into(),
            value,
            note: svg::short(value),
            colour: 0,
        };
        let mark = svg::Mark { name: "peer".into(), value: 1.0 };
        // Far from the mark, right before it, on it, behind it.
        let all = [bar("first", 0.5), bar("second", 0.96), bar("third", 1.0), bar("fourth", 2.0)];
        let bars = svg::bars("Ratios", "ratio", &all, Some(mark));
        let lines = svg::Lines {
            title: "Rates",
            unit: "Gbit/s",
            across: "size",
            categories: vec!["64".into(), "IMIX".into()],
            series: vec![svg::Series { name: "IPv4".into(), values: vec![Some(3.0), Some(30.0)] }],
            marks: vec![svg::Mark { name: "10G".into(), value: 10.0 }],
        };
        let drawn = format!("{bars}\n{}\n", lines.draw());
        let golden = concat!(env!("CARGO_MANIFEST_DIR"), "/src/report/tests/plots.svg");
        if std::env::var_os("UPDATE_GOLDEN").is_some() {
            std::fs::write(golden, &drawn).unwrap();
        }
        let expected = std::fs::read_to_string(golden).unwrap();
        assert!(
            drawn == expected,
            "plots differ from {golden}: look at them, then UPDATE_GOLDEN=1 cargo test -p perf"
        );
    }
}
