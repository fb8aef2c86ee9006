//! Churn: so many changes a second for as long as asked, with markers on the way that are probed: the lag is the time
//! from when a marker was written into the session until a packet to it was forwarded.

use std::time::{Duration, Instant};

use super::feed::{Feed, NextHops, Path, Prefix, announce, withdraw};
use super::lab::Stop;
use super::probe::Probes;
use super::speaker::Speaker;

/// Changes in a block; blocks are spread evenly over time.
const BLOCK: usize = 100;
/// Changes in an UPDATE.
const UPDATE: usize = 10;
/// From one marker to the next.
const MARK: Duration = Duration::from_millis(50);
/// After so long a marker counts as lost.
const LOST: Duration = Duration::from_secs(5);

/// What was seen.
#[derive(Debug, Default)]
pub struct Outcome {
    pub changes: usize,
    pub seconds: f64,
    /// Lags of the markers, sorted, in seconds.
    pub lags: Vec<f64>,
    /// Resident megabytes after a tenth of the time, and at the end.
    pub rss: (f64, f64),
}

impl Outcome {
    /// The lag that a share of the markers did not pass.
    pub fn lag(&self, quantile: f64) -> f64 {
        let at = (self.lags.len() as f64 * quantile).ceil() as usize;
        self.lags.get(at.saturating_sub(1)).copied().unwrap_or(0.0)
    }
}

/// Blocks of changes: each prefix in turn changes its next hop, goes, and comes back as it was.
fn blocks(feed: &Feed, hops: NextHops) -> Vec<Vec<u8>> {
    let v4: Vec<Prefix> = feed.prefixes.iter().copied().filter(|p| matches!(p, Prefix::V4(..))).collect();
    // Spread over the whole table.
    let step = (v4.len() / 100_000).max(1);
    let chosen: Vec<Prefix> = v4.iter().copied().step_by(step).take(100_000).collect();
    let other = NextHops { v4: std::net::Ipv4Addr::new(198, 51, 100, 3), ..hops };
    let mut blocks = Vec::new();
    for phase in 0..3u32 {
        for (i, chunk) in chosen.chunks(BLOCK).enumerate() {
            let mut block = Vec::new();
            for (j, part) in chunk.chunks(UPDATE).enumerate() {
                let number = (i * BLOCK / UPDATE + j) as u32;
                match phase {
                    0 => announce(part, Path { number, med: 1, next_hops: other }, &mut block),
                    1 => withdraw(part, &mut block),
                    _ => announce(part, Path { number, med: 0, next_hops: hops }, &mut block),
                }
            }
            blocks.push(block);
        }
    }
    blocks
}

/// Runs it; ends with the table as it was.
pub fn run(
    speaker: &mut Speaker,
    probes: &mut Probes,
    feed: &Feed,
    hops: NextHops,
    (rate, seconds): (usize, u64),
    rss: impl Fn() -> f64,
    stop: &Stop,
) -> Result<Outcome, String> {
    let blocks = blocks(feed, hops);
    let interval = Duration::from_secs_f64(BLOCK as f64 / rate as f64);
    let total = (seconds as f64 / interval.as_secs_f64()) as usize;
    // Whole cycles, so that all is as it was.
    let total = total.div_ceil(blocks.len()) * blocks.len();
    let mut outcome = Outcome::default();
    let mut marks: Vec<(u64, Instant)> = Vec::new();
    let (start, mut next_mark, mut marker, mut said) = (Instant::now(), Instant::now(), 0u32, 0);
    for i in 0..total {
        let due = start + interval * i as u32;
        loop {
            let left = due.saturating_duration_since(Instant::now());
            if left.is_zero() {
                break;
            }
            std::thread::sleep(left.min(Duration::from_millis(1)));
        }
        speaker.send(&blocks[i % blocks.len()])?;
        if Instant::now() >= next_mark {
            next_mark = Instant::now() + MARK;
            stop.check()?;
            // 240.0.0.0/4 is in no feed, but also in no router; 100.64.0.0/10 is.
            let prefix = Prefix::V4(0x6440_0000 + (marker % 0x3f_ffff), 32);
            marker += 1;
            let mut bytes = Vec::new();
            announce(&[prefix], Path { number: 0, med: marker, next_hops: hops }, &mut bytes);
            let sent = Instant::now();
            speaker.send(&bytes)?;
            marks.push((probes.watch(prefix), sent));
        }
        if i == total / 10 {
            outcome.rss.0 = rss();
        }
        let elapsed = start.elapsed().as_secs();
        if elapsed / 5 > said {
            said = elapsed / 5;
            eprintln!("perf:   churn: {elapsed} s of {seconds} s");
        }
    }
    outcome.seconds = start.elapsed().as_secs_f64();
    outcome.changes = total * BLOCK;
    outcome.rss.1 = rss();
    let end = Instant::now() + LOST;
    while Instant::now() < end && marks.iter().any(|(number, _)| probes.arrived(*number).is_none()) {
        stop.sleep(Duration::from_millis(5))?;
    }
    probes.forget();
    for (number, sent) in &marks {
        let lag = probes.arrived(*number).map_or(LOST, |at| at.saturating_duration_since(*sent));
        outcome.lags.push(lag.as_secs_f64());
    }
    outcome.lags.sort_by(f64::total_cmp);
    let prefixes: Vec<Prefix> = (0..marker).map(|i| Prefix::V4(0x6440_0000 + (i % 0x3f_ffff), 32)).collect();
    let mut bytes = Vec::new();
    withdraw(&prefixes, &mut bytes);
    speaker.send(&bytes)?;
    Ok(outcome)
}
