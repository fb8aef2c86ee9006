//! The results, as tables for people or one JSON object a row.

use serde_json::{Value, json};

use super::args::{Family, Test};
use super::search::{Found, Limit};
use super::wake::Woken;
use crate::traffic::{Outcome, Sizes};

/// What a row is about.
#[derive(Clone, Debug)]
pub struct Case {
    /// Address family.
    pub family: Family,
    /// Frame sizes.
    pub sizes: Sizes,
    /// Mean frame in bytes, with the check sequence, without tags.
    pub mean: f64,
    /// Tags towards the device, and from it.
    pub tags: [usize; 2],
    /// What a frame takes on the wire where it has the more tags, in bits, on the average.
    pub wire_bits: f64,
    /// Ports that send.
    pub senders: usize,
}

impl Case {
    fn frame(&self) -> Value {
        match self.sizes {
            Sizes::Fixed(size) => json!(size),
            Sizes::Imix => json!("imix"),
        }
    }

    /// The frame size as text.
    pub fn size(&self) -> String {
        match self.sizes {
            Sizes::Fixed(size) => size.to_string(),
            Sizes::Imix => "imix".into(),
        }
    }

    fn json(&self, test: &str) -> serde_json::Map<String, Value> {
        let value = json!({ "benchmark": "rfc2544", "test": test, "family": self.family.name(), "frame": self.frame(),
            "mean_frame": self.mean, "tags_in": self.tags[0], "tags_out": self.tags[1], "wire_bits": self.wire_bits,
            "directions": self.senders });
        match value {
            Value::Object(map) => map,
            _ => serde_json::Map::new(),
        }
    }

    /// Bit/s on the wire (with preamble and gap) at so many frames a second.
    pub fn bits(&self, fps: f64) -> f64 {
        fps * self.wire_bits
    }
}

/// Latencies of a trial, in microseconds.
#[derive(Clone, Copy, Debug)]
pub struct Percentiles {
    /// Frames measured.
    pub samples: u64,
    /// The least.
    pub min: f64,
    /// 50 %: RFC 8219's typical latency.
    pub p50: f64,
    /// 90 %.
    pub p90: f64,
    /// 99 %.
    pub p99: f64,
    /// 99.9 %: RFC 8219's worst-case latency.
    pub p999: f64,
    /// The highest.
    pub max: f64,
}

impl Percentiles {
    /// Of a trial that measured latencies.
    pub fn of(outcome: &Outcome) -> Option<Self> {
        let histogram = outcome.latency.as_ref().filter(|h| !h.is_empty())?;
        let us = |ticks: u64| ticks as f64 / outcome.hz as f64 * 1e6;
        let at = |quantile| us(histogram.value_at_quantile(quantile));
        Some(Self {
            samples: histogram.len(),
            min: us(histogram.min()),
            p50: at(0.5),
            p90: at(0.9),
            p99: at(0.99),
            p999: at(0.999),
            max: us(histogram.max()),
        })
    }
}

/// Where the results go.
#[derive(Debug)]
pub struct Output {
    json: bool,
    /// The table that is being printed.
    heading: Option<(Test, Family)>,
}

impl Output {
    /// As JSON, or as tables.
    pub fn new(json: bool) -> Self {
        Self { json, heading: None }
    }

    /// What was tested, and how.
    pub fn set_up(&self, facts: &Value) {
        if self.json {
            println!("{facts}");
            return;
        }
        println!("RFC 2544 with {}", facts["setup"].as_str().unwrap_or_default());
        println!("{}", facts["method"].as_str().unwrap_or_default());
    }

    /// A remark.
    pub fn note(&mut self, note: &str) {
        if self.json {
            println!("{}", json!({ "benchmark": "rfc2544", "note": note }));
        } else {
            println!("  note: {note}");
        }
    }

    fn heading(&mut self, test: Test, family: Family) {
        if self.json || self.heading == Some((test, family)) {
            return;
        }
        self.heading = Some((test, family));
        let (title, columns) = match test {
            Test::Throughput => (
                "throughput",
                format!(
                    "{:>5}  {:>9}  {:>8}  {:>9}  {:>10}  {:>7}  limit",
                    "frame", "Mpps", "Gbit/s", "reordered", "duplicates", "corrupt"
                ),
            ),
            Test::Latency => (
                "latency in microseconds",
                format!(
                    "{:>5}  {:>5}  {:>9}  {:>8}  {:>8}  {:>8}  {:>8}  {:>8}  {:>8}  {:>8}",
                    "frame", "load", "Mpps", "min", "p50", "p90", "p99", "p99.9", "max", "pdv"
                ),
            ),
            Test::Loss => (
                "frame loss",
                format!("{:>5}  {:>5}  {:>9}  {:>9}  {:>10}", "frame", "load", "Mpps", "back", "loss"),
            ),
            Test::BackToBack => (
                "back-to-back bursts",
                format!(
                    "{:>5}  {:>9}  {:>10}  {:>10}  {:>10}  {:>9}",
                    "frame", "Mpps", "frames", "least", "most", "buffer ms"
                ),
            ),
            Test::Wake => (
                "bursts after silence",
                format!(
                    "{:>5}  {:>5}  {:>8}  {:>8}  {:>6}  {:>6}  {:>8}  {:>8}  {:>8}  {:>10}  {:>10}",
                    "frame",
                    "idle",
                    "of core",
                    "pause",
                    "burst",
                    "bursts",
                    "Mpps",
                    "lost",
                    "damaged",
                    "slowest us",
                    "at worst"
                ),
            ),
        };
        println!("\n## {}, {title}\n\n  {columns}", family.name());
    }

    /// A throughput; `allowed` is the share that may be lost.
    pub fn throughput(&mut self, case: &Case, found: &Found, allowed: f64) {
        self.heading(Test::Throughput, case.family);
        let total = found.outcome.as_ref().map(|o| o.total).unwrap_or_default();
        let seconds = found.outcome.as_ref().map_or(0.0, |o| o.seconds);
        let fps = found.rate * case.senders as f64;
        let (foreign, stragglers) = found.outcome.as_ref().map_or((0, 0), |o| (o.foreign, o.stragglers));
        let lossy =
            found.outcome.as_ref().map_or(0, |o| o.flows.iter().filter(|flow| flow.lost() > 0).count());
        if self.json {
            let mut row = case.json("throughput");
            let more = json!({ "fps": fps, "mpps": fps / 1e6, "wire_gbps": case.bits(fps) / 1e9,
                "loss_allowed": allowed, "loss": total.loss(), "limit": found.limit.name(), "trials": found.trials,
                "seconds": seconds, "sent": total.sent, "received": total.received, "reordered": total.reordered,
                "duplicates": total.duplicates, "corrupt": total.corrupt, "misdirected": total.misdirected,
                "disturbed": found.disturbed, "foreign": foreign, "stragglers": stragglers, "lossy_flows": lossy });
            extend(&mut row, more);
            println!("{}", Value::Object(row));
            return;
        }
        let limit = match found.limit {
            Limit::Device => "the device",
            Limit::Tester => "the tester: the device may do more",
            Limit::Rate => "the highest rate allowed",
        };
        println!(
            "  {:>5}  {:>9.4}  {:>8.3}  {:>9}  {:>10}  {:>7}  {limit}",
            case.size(),
            fps / 1e6,
            case.bits(fps) / 1e9,
            total.reordered,
            total.duplicates,
            total.corrupt
        );
    }

    /// Latencies at a share (in percent) of the throughput.
    pub fn latency(&mut self, case: &Case, load: u32, fps: f64, p: &Percentiles, loss: f64) {
        self.heading(Test::Latency, case.family);
        let pdv = p.p999 - p.min;
        if self.json {
            let mut row = case.json("latency");
            let more = json!({ "load": load, "fps": fps, "samples": p.samples, "min_us": p.min, "p50_us": p.p50,
                "p90_us": p.p90, "p99_us": p.p99, "p999_us": p.p999, "max_us": p.max, "pdv_us": pdv, "loss": loss });
            extend(&mut row, more);
            println!("{}", Value::Object(row));
            return;
        }
        println!(
            "  {:>5}  {load:>4}%  {:>9.4}  {:>8.1}  {:>8.1}  {:>8.1}  {:>8.1}  {:>8.1}  {:>8.1}  {pdv:>8.1}",
            case.size(),
            fps / 1e6,
            p.min,
            p.p50,
            p.p90,
            p.p99,
            p.p999,
            p.max
        );
    }

    /// The loss at a share (in percent) of the highest rate.
    pub fn loss(&mut self, case: &Case, load: u32, outcome: &Outcome) {
        self.heading(Test::Loss, case.family);
        let (offered, delivered, loss) = (outcome.offered(), outcome.delivered(), outcome.total.loss());
        if self.json {
            let mut row = case.json("loss");
            let more = json!({ "load": load, "offered_fps": offered, "delivered_fps": delivered, "loss": loss,
                "reordered": outcome.total.reordered, "duplicates": outcome.total.duplicates,
                "corrupt": outcome.total.corrupt, "shortfall": outcome.shortfall() });
            extend(&mut row, more);
            println!("{}", Value::Object(row));
            return;
        }
        println!(
            "  {:>5}  {load:>4}%  {:>9.4}  {:>9.4}  {:>9.4}%",
            case.size(),
            offered / 1e6,
            delivered / 1e6,
            loss * 100.0
        );
    }

    /// The longest bursts without loss, at so many frames a second; `unlimited` when the longest that was tried is
    /// among them. `throughput` is the device's, where it is known.
    pub fn bursts(
        &mut self,
        case: &Case,
        bursts: &[u64],
        fps: f64,
        unlimited: bool,
        throughput: Option<f64>,
    ) {
        self.heading(Test::BackToBack, case.family);
        let (least, most) =
            (bursts.iter().min().copied().unwrap_or(0), bursts.iter().max().copied().unwrap_or(0));
        let mean = bursts.iter().sum::<u64>() as f64 / bursts.len().max(1) as f64;
        // RFC 9004, section 6.4: what the buffer holds of the burst while frames leave at the throughput.
        let leaving = throughput.map_or(0.0, |t| (t / fps).min(1.0));
        let buffer = (!unlimited && fps > 0.0).then(|| mean / fps * (1.0 - leaving) * 1e3);
        if self.json {
            let mut row = case.json("back_to_back");
            let more = json!({ "fps": fps, "bursts": bursts.len(), "frames": mean, "least": least, "most": most,
                "unlimited": unlimited, "buffer_ms": buffer });
            extend(&mut row, more);
            println!("{}", Value::Object(row));
            return;
        }
        let buffer = buffer.map_or("no limit".into(), |ms| format!("{ms:.3}"));
        println!(
            "  {:>5}  {:>9.4}  {mean:>10.0}  {least:>10}  {most:>10}  {buffer:>9}",
            case.size(),
            fps / 1e6
        );
    }

    /// Bursts of one length after silence.
    pub fn woken(&mut self, case: &Case, woken: &Woken) {
        self.heading(Test::Wake, case.family);
        let [middle, worst] = woken.slowest_us;
        if self.json {
            let mut row = case.json("wake");
            let more = json!({ "idle": woken.idle, "core_share": woken.share, "pause_ms": woken.pause,
                "burst": woken.frames, "bursts": woken.bursts, "fps": woken.fps, "lost": woken.lost,
                "damaged": woken.damaged, "slowest_us": middle, "slowest_us_worst": worst });
            extend(&mut row, more);
            println!("{}", Value::Object(row));
            return;
        }
        let share = woken.share.map_or("-".into(), |share| format!("{:.1} %", share * 100.0));
        println!(
            "  {:>5}  {:>5}  {share:>8}  {:>5} ms  {:>6}  {:>6}  {:>8.2}  {:>8}  {:>8}  {middle:>10.0}  {worst:>10.0}",
            case.size(),
            woken.idle,
            woken.pause,
            woken.frames,
            woken.bursts,
            woken.fps / 1e6,
            woken.lost,
            woken.damaged
        );
    }

    /// The end, with whether all was done.
    pub fn end(&self, partial: bool, seconds: f64) {
        if self.json {
            println!(
                "{}",
                json!({ "benchmark": "rfc2544", "test": "end", "partial": partial, "seconds": seconds })
            );
        } else if partial {
            println!(
                "\nPartial: the run was ended after {seconds:.0} s, before all measurements. What stands above is whole."
            );
        } else {
            println!("\nComplete, in {seconds:.0} s.");
        }
    }
}

fn extend(row: &mut serde_json::Map<String, Value>, more: Value) {
    if let Value::Object(more) = more {
        row.extend(more);
    }
}
