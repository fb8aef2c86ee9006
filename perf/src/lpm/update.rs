//! How fast routes change, alone and under look-ups, and what that costs the look-ups.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use dataplane::grace::GracePeriod;
use dataplane::ids::GroupId;

use super::random::Random;
use super::report::Report;
use super::routes::Route;
use super::table::{BURST, Ours, Table};
use super::workload::{ADDRESSES, Addresses, Workload};
use super::{Args, Family, measure, pin};

/// Changes that a control plane hands over at once: what some BGP messages carry.
pub const BATCH: usize = 128;

/// Random withdrawals and announcements: each step takes a random route, and withdraws it when it is there and
/// announces it, by another next hop, when it is not.
struct Churn<'a> {
    routes: &'a [Route],
    present: Vec<bool>,
    random: Random,
    batch: Vec<(Route, bool)>,
}

impl<'a> Churn<'a> {
    fn new(routes: &'a [Route]) -> Self {
        Self { routes, present: vec![true; routes.len()], random: Random::new(13), batch: Vec::new() }
    }

    /// The next changes, into the batch.
    fn draw(&mut self, count: usize) -> &[(Route, bool)] {
        self.batch.clear();
        for _ in 0..count {
            let at = self.random.below(self.routes.len());
            self.present[at] = !self.present[at];
            let (prefix, len, _) = self.routes[at];
            let hop = self.random.below(256) as u32 + 1;
            self.batch.push(((prefix, len, hop), self.present[at]));
        }
        &self.batch
    }

    /// Everything as it was.
    fn settle(&self, table: &mut dyn Table) -> Result<(), String> {
        self.routes.iter().try_for_each(|&route| table.insert(route))
    }
}

/// Changes drawn at a time, so that reading the clock costs nothing.
const BLOCK: usize = 4096;

/// Updates a second with nobody looking, in batches of this size; drawing them is not timed. The table ends as it
/// began.
pub fn alone(table: &mut dyn Table, routes: &[Route], batch: usize) -> Result<f64, String> {
    let steps = 400_000;
    let mut churn = Churn::new(routes);
    let mut time = Duration::ZERO;
    for _ in 0..steps / BLOCK {
        let changes = churn.draw(BLOCK);
        let start = Instant::now();
        changes.chunks(batch).try_for_each(|changes| table.apply(changes))?;
        time += start.elapsed();
    }
    churn.settle(table)?;
    Ok((steps / BLOCK * BLOCK) as f64 / time.as_secs_f64())
}

/// Changes a second while the look-ups' loss is measured, how many at once, and in how many turns of which length.
const PACE: f64 = 100_000.0;
const PACED: usize = 32;
const PAIRS: usize = 30;
const TURN: Duration = Duration::from_millis(50);

/// The grace period of one reader: it counts its bursts, and a ticket has passed when it has ended one since.
#[derive(Default)]
struct OneReader {
    bursts: AtomicU64,
}

impl GracePeriod for OneReader {
    fn ticket(&self) -> u64 {
        std::sync::atomic::fence(Ordering::SeqCst);
        self.bursts.load(Ordering::Acquire) + 2
    }

    fn has_passed(&self, ticket: u64) -> bool {
        self.bursts.load(Ordering::Acquire) >= ticket
    }
}

/// What the reader's thread and this one share.
#[derive(Default)]
struct Shared {
    grace: Arc<OneReader>,
    stop: AtomicBool,
}

/// Updates with look-ups running on the other core: as fast as they go, and at 100,000 a second.
pub fn with_readers(
    args: &Args,
    family: Family,
    routes: &[Route],
    report: &mut Report,
) -> Result<(), String> {
    let shared = Shared::default();
    let grace: Arc<dyn GracePeriod> = Arc::clone(&shared.grace) as Arc<dyn GracePeriod>;
    let mut ours = Ours::new(family, &grace, false)?;
    // Nobody reads yet, and the load leaves nothing behind that waits.
    ours.load(routes)?;
    let addresses = Addresses::new(family, Workload::InPrefixes, routes)?;
    let readers = ours.readers();
    std::thread::scope(|scope| {
        let reader = scope.spawn(|| {
            pin(args.core);
            look_up(family, &readers, &addresses, &shared);
        });
        let result = writes(args, family, routes, &mut ours, &shared, report);
        shared.stop.store(true, Ordering::Relaxed);
        let ended = reader.join();
        pin(args.core);
        result.and_then(|()| ended.map_err(|_| "the reader's thread ended badly".to_owned()))
    })
}

fn writes(
    args: &Args,
    family: Family,
    routes: &[Route],
    ours: &mut Ours,
    shared: &Shared,
    report: &mut Report,
) -> Result<(), String> {
    pin(args.writer_core);
    let mut churn = Churn::new(routes);
    let (mut time, mut steps) = (Duration::ZERO, 0);
    while time < Duration::from_secs(1) {
        let changes = churn.draw(4096);
        let start = Instant::now();
        changes.chunks(BATCH).try_for_each(|changes| ours.apply(changes))?;
        time += start.elapsed();
        steps += changes.len();
    }
    let rate = steps as f64 / time.as_secs_f64();
    report.updates(family, ours.name(), "in batches, with look-ups on the other core", routes.len(), rate);

    // Quiet and busy in turns, so that what else the machine does meets both; the median pair counts.
    let (mut losses, mut done, mut time) = (Vec::new(), 0, 0.0);
    let (mut quiet_rates, mut pair) = (Vec::new(), [0.0; 2]);
    for turn in 0..2 * PAIRS {
        let busy = turn % 2 == 1;
        let (begin, before, mut steps) = (Instant::now(), shared.grace.bursts.load(Ordering::Relaxed), 0);
        while begin.elapsed() < TURN {
            if busy && f64::from(steps) < PACE * begin.elapsed().as_secs_f64() {
                ours.apply(churn.draw(PACED))?;
                steps += PACED as u32;
            } else {
                std::hint::spin_loop();
            }
        }
        let seconds = begin.elapsed().as_secs_f64();
        let bursts = shared.grace.bursts.load(Ordering::Relaxed) - before;
        pair[usize::from(busy)] = (bursts as usize * BURST) as f64 / seconds / 1e6;
        if busy {
            losses.push(1.0 - pair[1] / pair[0]);
            quiet_rates.push(pair[0]);
            done += steps;
            time += seconds;
        }
    }
    let (loss, _) = measure::summary(&mut losses);
    let (quiet, _) = measure::summary(&mut quiet_rates);
    report.loss(family, routes.len(), f64::from(done) / time, quiet, loss);
    Ok(())
}

/// Looks up until told to stop, and says after each burst that it holds nothing.
fn look_up(
    family: Family,
    (v4, v6): &(Arc<dataplane::fib::Fib4>, Arc<dataplane::fib::Fib6>),
    addresses: &Addresses,
    shared: &Shared,
) {
    let mut out = [GroupId(0); BURST];
    let mut bursts = 0;
    while !shared.stop.load(Ordering::Relaxed) {
        let from = bursts as usize * BURST % ADDRESSES;
        match family {
            Family::V4 => v4.lookup_batch(&addresses.v4[from..from + BURST], &mut out),
            Family::V6 => v6.lookup_batch(&addresses.v6[from..from + BURST], &mut out),
        }
        std::hint::black_box(&out);
        bursts += 1;
        shared.grace.bursts.store(bursts, Ordering::Release);
    }
}
