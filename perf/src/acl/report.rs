//! The figures, as a table for people or one JSON object a figure.

use std::time::Duration;

use serde_json::json;

use crate::lpm::{Family, measure, ring};

/// Columns: alone, and in situ with each size of ring.
const COLUMNS: usize = 1 + ring::MEGABYTES.len();

/// What was measured in each round, in nanoseconds a packet.
#[derive(Default)]
pub struct Rows(Vec<(String, [Vec<f64>; COLUMNS])>);

impl Rows {
    pub fn add(&mut self, name: &str, column: usize, nanoseconds: f64) {
        let at = self.0.iter().position(|row| row.0 == name).unwrap_or_else(|| {
            self.0.push((name.to_owned(), Default::default()));
            self.0.len() - 1
        });
        self.0[at].1[column].push(nanoseconds);
    }

    /// Shows the medians, each with its ratio to that of the row `unit`.
    pub fn report(
        self,
        json: bool,
        family: Family,
        rules: usize,
        unit: &str,
        built: &[(&str, Duration)],
        memory: usize,
    ) {
        let family = family.name();
        if !json {
            println!("\n## {family}, {rules} rules\n");
        }
        for (name, time) in built {
            let seconds = time.as_secs_f64();
            if json {
                println!(
                    "{}",
                    json!({ "acl": name, "family": family, "rules": rules, "compile_s": seconds })
                );
            } else {
                println!("  {name} compiled in {:.1} ms", seconds * 1e3);
            }
        }
        let rows = self.0.into_iter().map(|(name, columns)| {
            (
                name,
                columns.map(
                    |mut rounds| if rounds.is_empty() { (0.0, 0.0) } else { measure::summary(&mut rounds) },
                ),
            )
        });
        let rows: Vec<_> = rows.collect();
        let of_unit = rows.iter().find(|row| row.0 == unit).map_or([(1.0, 0.0); COLUMNS], |row| row.1);
        if !json {
            let columns = ring::MEGABYTES.map(|megabytes| format!("in situ {megabytes} MB"));
            println!("  turnpike's tables: {} KB", memory.div_ceil(1000));
            println!(
                "  nanoseconds a packet (spread), and against a {unit}\n    {:36} {:>20} {:>20} {:>20} {:>20}",
                "", "alone", columns[0], columns[1], columns[2]
            );
        }
        for (name, columns) in &rows {
            let mut line = format!("    {name:36}");
            for (column, ((nanoseconds, spread), of)) in columns.iter().zip(of_unit).enumerate() {
                let ratio = nanoseconds / of.0;
                line += &format!(" {nanoseconds:7.2} ({:3.0}%) {ratio:4.2}x", spread * 100.0);
                if json {
                    let megabytes = column.checked_sub(1).map_or(0, |at| ring::MEGABYTES[at]);
                    let row = json!({ "acl": name, "family": family, "rules": rules, "in_situ_mb": megabytes,
                        "ns": nanoseconds, "spread": spread, "look_ups": ratio });
                    println!("{row}");
                }
            }
            if !json {
                println!("{line}");
            }
        }
    }
}
