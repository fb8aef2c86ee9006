//! The figures, as a table for people or one JSON object a row.

use std::time::Duration;

use serde_json::json;

use super::Family;
use super::measure::Setting;
use super::routes::Route;
use super::table::Table;
use super::workload::Workload;

pub struct Report {
    json: bool,
}

impl Report {
    pub fn new(json: bool) -> Self {
        Self { json }
    }

    pub fn heading(&self, family: Family, routes: &[Route], real: bool) {
        if !self.json {
            let origin = if real { "the real table, cut or grown" } else { "generated" };
            println!("\n## {}, {} routes ({origin})\n", family.name(), routes.len());
        }
    }

    pub fn note(&self, note: &str) {
        if self.json {
            println!("{}", json!({ "note": note }));
        } else {
            println!("  note: {note}");
        }
    }

    pub fn loaded(&self, family: Family, table: &dyn Table, routes: usize, time: Duration) {
        let (memory, control) = (table.memory(), table.control_memory());
        if self.json {
            println!(
                "{}",
                json!({ "table": table.name(), "family": family.name(), "routes": routes, "load_s": time.as_secs_f64(),
                    "memory": memory, "control_memory": control })
            );
            return;
        }
        let megabytes =
            |bytes: Option<usize>| bytes.map_or("-".into(), |b| format!("{:.2} MB", b as f64 / 1e6));
        println!(
            "  {:24} loaded in {:8.3} s, table {:>9}, control {:>9}",
            table.name(),
            time.as_secs_f64(),
            megabytes(memory),
            megabytes(control)
        );
    }

    /// One workload: a row for each table, ours first.
    pub fn look_ups(
        &self,
        family: Family,
        routes: usize,
        workload: Workload,
        setting: Setting,
        rows: &[(String, (f64, f64))],
    ) {
        let best =
            rows.iter().filter(|row| !row.0.contains("turnpike")).map(|row| row.1.0).fold(0.0, f64::max);
        if !self.json {
            let how = match setting {
                Setting::InSitu(megabytes) => format!("in situ {megabytes} MB"),
                Setting::Streamed | Setting::AtHand => setting.addresses().to_owned(),
            };
            println!(
                "  {}, {how}: million look-ups a second (spread), against the best peer",
                workload.name()
            );
        }
        for (table, (mlps, spread)) in rows {
            if self.json {
                println!(
                    "{}",
                    json!({ "table": table, "family": family.name(), "routes": routes, "workload": workload.name(),
                        "addresses": setting.addresses(), "in_situ_mb": setting.megabytes(), "mlps": mlps,
                        "spread": spread })
                );
                continue;
            }
            let ratio = if best > 0.0 { format!("{:.2}x", mlps / best) } else { String::new() };
            println!("    {table:24} {mlps:8.1} ({:3.0}%) {ratio}", spread * 100.0);
        }
    }

    pub fn updates(&self, family: Family, table: &str, how: &str, routes: usize, rate: f64) {
        if self.json {
            println!(
                "{}",
                json!({ "table": table, "family": family.name(), "routes": routes, "updates": how, "per_second": rate })
            );
        } else {
            println!("  {table:24} updates {how}: {:.3} M/s", rate / 1e6);
        }
    }

    /// Look-ups while routes change: what share of the undisturbed rate is lost.
    pub fn loss(&self, family: Family, routes: usize, per_second: f64, quiet: f64, loss: f64) {
        if self.json {
            println!(
                "{}",
                json!({ "table": "turnpike", "family": family.name(), "routes": routes, "updates_per_second": per_second,
                    "quiet_mlps": quiet, "loss": loss })
            );
        } else {
            println!(
                "  turnpike                 look-ups at {per_second:.0} updates/s: {:.1}% of {quiet:.1} M/s lost",
                loss * 100.0
            );
        }
    }
}
