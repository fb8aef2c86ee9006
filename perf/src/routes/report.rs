//! The rows of a run, for people or as JSON.

use serde::Serialize;

/// One row.
#[derive(Debug, Default, Serialize)]
pub struct Row {
    /// `announce`, `withdraw` or `churn`.
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
}

/// Prints rows as they come.
pub struct Report {
    json: bool,
    begun: bool,
}

impl Report {
    pub fn new(json: bool) -> Self {
        Self { json, begun: false }
    }

    pub fn row(&mut self, row: &Row) -> Result<(), String> {
        if self.json {
            println!("{}", serde_json::to_string(row).map_err(|error| error.to_string())?);
            return Ok(());
        }
        if !std::mem::replace(&mut self.begun, true) {
            println!(
                "{:<10} {:<12} {:>10} {:>9} {:>9} {:>9}",
                "case", "subject", "routes", "seconds", "CPU s", "RSS MB"
            );
        }
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
        println!(
            "{:<10} {:<12} {:>10} {:>9.3} {:>9.2} {:>9.1}{more}",
            row.case, row.subject, row.routes, row.seconds, row.cpu_seconds, row.rss_mb
        );
        Ok(())
    }
}
