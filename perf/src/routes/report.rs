//! The rows of a run, for people or as JSON.

use std::collections::BTreeMap;

use serde::Serialize;

use super::rounds::{Kept, Rounds};

/// One row.
#[derive(Debug, Default, Serialize)]
pub struct Row {
    /// `announce`, `withdraw`, `churn`, `fpm`, `repair-...` or `zero-loss`.
    pub case: &'static str,
    pub subject: &'static str,
    pub routes: usize,
    /// From the first byte, on a session that has just come up, until all is done; of churn, its length.
    pub seconds: f64,
    /// Of all its processes, workers aside.
    pub cpu_seconds: f64,
    /// Resident, at the end.
    pub rss_mb: f64,
    /// Until the sender had written all.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sent_seconds: Option<f64>,
    /// Changes a second that were sustained.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub changes_per_second: Option<f64>,
    /// From a route's announcement to its first packet forwarded.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lag_p50_ms: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lag_p99_ms: Option<f64>,
    /// How much larger its memory was at the end than after a tenth of the time.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub grown_mb: Option<f64>,
    /// The longest turn of the control thread so far: so long did TAPs and neighbours wait.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub control_pause_ms: Option<f64>,
    /// How often zebra found its buffer full, and rested a second for it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub buffer_full: Option<u64>,
    /// From the event until the last flow that it concerns went another way.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub repair_ms: Option<f64>,
    /// Until half of them did.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub repair_p50_ms: Option<f64>,
    /// Frames sent through the router meanwhile, and what was wrong with those that came back, or did not.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub frames: Option<Frames>,
    /// The workers' time from one look at their queues to the next.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rounds: Option<Rounds>,
    /// What kept them from their cores.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kept: Option<Kept>,
}

/// What became of test frames.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Frames {
    /// The highest rate at which a trial without changes lost none.
    pub no_loss_per_second: f64,
    /// The rate of this trial while the generator ran.
    pub rate_per_second: f64,
    pub sent: u64,
    pub lost: u64,
    /// Of the lost: those that the generator's port had no room for.
    pub refused: u64,
    /// Of the lost: those that the router says that it dropped, by reason.
    pub dropped: BTreeMap<String, u64>,
    pub reordered: u64,
    pub duplicated: u64,
    pub corrupt: u64,
    /// To a next hop that was right neither before nor after.
    pub wrong_next_hop: u64,
    /// Not sent, since the generator had to share its core.
    pub not_sent: u64,
    /// Questions to the API that were answered meanwhile.
    pub questions: u64,
    /// Times that the metrics were read over HTTP meanwhile.
    pub scrapes: u64,
}

/// Prints rows as they come.
pub struct Report {
    json: bool,
    begun: bool,
}

impl Report {
    /// `begun`: the head of the table stands already.
    pub fn new(json: bool, begun: bool) -> Self {
        Self { json, begun }
    }

    /// Prints the head of the table unless it stands already, or there is none. Whether there is one.
    pub fn begin(&mut self) -> bool {
        if !self.json && !std::mem::replace(&mut self.begun, true) {
            println!(
                "{:<20} {:<12} {:>10} {:>9} {:>9} {:>9}",
                "case", "subject", "routes", "seconds", "CPU s", "RSS MB"
            );
        }
        !self.json
    }

    pub fn row(&mut self, row: &Row) -> Result<(), String> {
        if self.json {
            println!("{}", serde_json::to_string(row).map_err(|error| error.to_string())?);
            return Ok(());
        }
        self.begin();
        let mut more = String::new();
        let mut add = |what: &str, value: Option<f64>| {
            if let Some(value) = value {
                more.push_str(&format!("  {what} {value:.1}"));
            }
        };
        add("changes/s", row.changes_per_second);
        add("lag p50 ms", row.lag_p50_ms);
        add("p99 ms", row.lag_p99_ms);
        add("grown MB", row.grown_mb);
        add("longest control turn ms", row.control_pause_ms);
        add("zebra's rests", row.buffer_full.map(|n| n as f64));
        add("repair ms", row.repair_ms);
        add("p50 ms", row.repair_p50_ms);
        if let Some(frames) = &row.frames {
            more.push_str(&format!("\n  {frames:?}"));
        }
        if let (Some(rounds), Some(kept)) = (&row.rounds, &row.kept) {
            more.push_str(&format!(
                "\n  between polls 99.9 % up to {:.1} us, longest {:.1} us; {kept:?}",
                rounds.p999_us, rounds.max_us
            ));
        }
        println!(
            "{:<20} {:<12} {:>10} {:>9.3} {:>9.2} {:>9.1}{more}",
            row.case, row.subject, row.routes, row.seconds, row.cpu_seconds, row.rss_mb
        );
        Ok(())
    }

    /// Text between rows, for people only: as JSON it is in the rows.
    pub fn text(&self, text: &str) {
        if !self.json {
            println!("{text}");
        }
    }
}
