//! What an idle worker costs, and what it misses: not of RFC 2544, but asked with the same frames. After silence comes a
//! burst at full speed; a worker that sleeps must be back before the queue is full.

use std::time::Duration;

use super::args::Args;
use super::error::Error;
use super::measure::Measurement;
use super::output::{Output, Percentiles};
use super::rig::Rig;
use crate::traffic::Length;

/// For how long the idle worker is watched.
const WATCH: Duration = Duration::from_secs(3);
/// Frames of a burst, as shares of what the queue holds.
const SHARES: [f64; 3] = [1.0 / 16.0, 0.25, 0.75];
/// Bursts of each length.
const BURSTS: u32 = 200;

/// What bursts of one length gave.
#[derive(Clone, Copy, Debug)]
pub struct Woken {
    /// What the worker does when idle, as `[workers] idle`.
    pub idle: &'static str,
    /// The share of its core that it took while nothing came, 0 to 1.
    pub share: Option<f64>,
    /// Silence before each burst, in milliseconds.
    pub pause: u64,
    /// Frames of a burst.
    pub frames: u64,
    /// Bursts.
    pub bursts: u32,
    /// The fastest burst, in frames a second.
    pub fps: f64,
    /// Frames that were lost, of all bursts.
    pub lost: u64,
    /// Bursts of which some were.
    pub damaged: u32,
    /// The slowest frame of a burst in microseconds: of the middle burst, and of the worst.
    pub slowest_us: [f64; 2],
}

/// How long it will take, in seconds, roughly.
pub fn seconds(args: &Args) -> f64 {
    WATCH.as_secs_f64() + SHARES.len() as f64 * f64::from(BURSTS) * (args.pause as f64 + 5.0) / 1e3
}

/// Watches the idle worker, then wakes it again and again.
///
/// # Errors
/// As a trial.
pub fn measure(of: &Measurement<'_>, rig: &mut Rig, output: &mut Output) -> Result<(), Error> {
    let share = rig.idle_share(WATCH);
    let queue = rig.queue();
    for part in SHARES {
        let frames = (queue * part) as u64;
        let pause = of.args.pause;
        let mut woken = Woken {
            idle: of.args.dut_idle.name(),
            share,
            pause,
            frames,
            bursts: BURSTS,
            fps: 0.0,
            lost: 0,
            damaged: 0,
            slowest_us: [0.0; 2],
        };
        let mut slowest = Vec::new();
        for _ in 0..BURSTS {
            std::thread::sleep(Duration::from_millis(pause));
            let outcome = rig.trial(&of.traffic, f64::INFINITY, Length::Frames(frames), Some(1))?;
            woken.fps = woken.fps.max(outcome.offered());
            woken.lost += outcome.total.lost();
            woken.damaged += u32::from(outcome.total.lost() > 0);
            slowest.extend(Percentiles::of(&outcome).map(|latency| latency.max));
        }
        slowest.sort_by(f64::total_cmp);
        if let (Some(middle), Some(worst)) = (slowest.get(slowest.len() / 2), slowest.last()) {
            woken.slowest_us = [*middle, *worst];
        }
        rig.progress.clear();
        output.woken(&of.case, &woken);
    }
    Ok(())
}
