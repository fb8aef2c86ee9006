//! The four measurements of RFC 2544, for one family and frame size at a time.

use std::time::Duration;

use super::args::{Args, Test};
use super::error::Error;
use super::output::{Case, Output, Percentiles};
use super::rig::Rig;
use super::search::{self, Found, Goal, Limit, SHORTFALL};
use super::wake;
use crate::traffic::{Length, Traffic, line_rate};

/// Shares of the throughput at which latency is measured, in percent.
const LATENCY_LOADS: [u32; 3] = [50, 90, 100];
/// Latencies taken a second, at most: each takes time of the tester.
const SAMPLES: f64 = 500_000.0;
/// A rate that the user asks for and of which the tester misses more than this share is refused at once. With less, the
/// results say that the tester is the limit.
const TOO_SLOW: f64 = 0.2;
/// Trials that a search takes, to plan by.
const SEARCH_TRIALS: f64 = 9.0;
/// Trials that a loss curve takes, to plan by.
const LOSS_TRIALS: f64 = 6.0;

/// What is known of one family and size.
pub struct Measurement<'a> {
    /// What the user wants.
    pub args: &'a Args,
    /// What the rows are about.
    pub case: Case,
    /// The frames.
    pub traffic: Traffic,
}

impl Measurement<'_> {
    /// How long it will take, in seconds, roughly.
    pub fn plan(args: &Args) -> f64 {
        args.tests().into_iter().map(|test| Self::plan_test(args, test)).sum()
    }

    fn plan_test(args: &Args, test: Test) -> f64 {
        let drain = args.drain_time().as_secs_f64();
        let trial = args.trial_time().as_secs_f64() + drain;
        match test {
            Test::Throughput => SEARCH_TRIALS * trial,
            Test::Latency => LATENCY_LOADS.len() as f64 * (args.latency_time().as_secs_f64() + drain),
            Test::Loss => LOSS_TRIALS * trial,
            // A search by halving for the first, fewer trials for the others; most lose frames, and wait for them.
            Test::BackToBack => args.burst_seconds + (20.0 + 8.0 * f64::from(args.burst_count())) * drain,
            Test::Wake => wake::seconds(args),
        }
    }

    fn begin(&self, rig: &mut Rig, test: Test) {
        let name = match test {
            Test::Throughput => "throughput",
            Test::Latency => "latency",
            Test::Loss => "loss",
            Test::BackToBack => "back-to-back",
            Test::Wake => "wake",
        };
        let label = format!("{}, {} bytes, {name}", self.case.family.name(), self.case.size());
        rig.progress.begin(label, Self::plan_test(self.args, test));
    }

    /// All tests that were asked for.
    ///
    /// # Errors
    /// See [`Error`]; what was measured before stands in the output.
    pub fn run(&self, rig: &mut Rig, output: &mut Output) -> Result<(), Error> {
        let tests = self.args.tests();
        let max = self.highest_rate(rig)?;
        let mut found = None;
        if tests.contains(&Test::Throughput) || tests.contains(&Test::Latency) {
            found = Some(self.throughput(rig, output, max, tests.contains(&Test::Throughput))?);
        }
        let rate = found.as_ref().map(|found| found.rate);
        if let (Some(rate), true) = (rate, tests.contains(&Test::Latency)) {
            self.latency(rig, output, rate)?;
        }
        if tests.contains(&Test::Loss) {
            self.loss(rig, output, max)?;
        }
        if tests.contains(&Test::BackToBack) {
            self.back_to_back(rig, output, max, rate)?;
        }
        if tests.contains(&Test::Wake) {
            self.begin(rig, Test::Wake);
            wake::measure(self, rig, output)?;
        }
        Ok(())
    }

    /// The highest rate on each port that is worth a try: the user's, the link's, or what the tester can send.
    fn highest_rate(&self, rig: &mut Rig) -> Result<f64, Error> {
        if let Some(max) = self.args.max_rate {
            // The best of some: a tester that was kept from its work for a moment is not too slow.
            let mut reached = 0.0_f64;
            for _ in 0..3 {
                let outcome =
                    rig.trial(&self.traffic, max, Length::Time(Duration::from_millis(200)), None)?;
                reached = reached.max(outcome.offered() / self.case.senders as f64);
                if reached >= max * (1.0 - SHORTFALL) {
                    break;
                }
            }
            if reached < max * (1.0 - TOO_SLOW) {
                return Err(Error::TooSlow { reached, asked: max, frame: self.case.size() });
            }
            return Ok(max);
        }
        if let Some(speed) = rig.speed() {
            let tags = self.case.tags[0].max(self.case.tags[1]);
            return Ok(line_rate(speed, self.case.sizes, self.least(), tags));
        }
        let flood =
            rig.trial(&self.traffic, f64::INFINITY, Length::Time(Duration::from_millis(500)), None)?;
        Ok(flood.offered() / self.case.senders as f64)
    }

    fn least(&self) -> u16 {
        crate::traffic::least_size(self.case.family == super::args::Family::V6)
    }

    fn throughput(&self, rig: &mut Rig, output: &mut Output, max: f64, show: bool) -> Result<Found, Error> {
        self.begin(rig, Test::Throughput);
        let attempts = self.args.attempts.unwrap_or(if rig.physical { 1 } else { 3 });
        let goal = Goal {
            loss: self.args.loss / 100.0,
            resolution: (self.args.resolution / 100.0).max(1e-6),
            attempts,
            queue: rig.queue(),
        };
        let length = Length::Time(self.args.trial_time());
        let mut found = search::throughput(max, self.case.senders, &goal, |rate| {
            rig.trial(&self.traffic, rate, length, None)
        })?;
        // Without a rate of the user's or the link's, the highest is what the tester could send.
        if found.limit == Limit::Rate && self.args.max_rate.is_none() && rig.speed().is_none() {
            found.limit = Limit::Tester;
        }
        rig.progress.clear();
        if show {
            output.throughput(&self.case, &found, goal.loss);
        }
        Ok(found)
    }

    fn latency(&self, rig: &mut Rig, output: &mut Output, throughput: f64) -> Result<(), Error> {
        self.begin(rig, Test::Latency);
        for load in LATENCY_LOADS {
            let rate = throughput * f64::from(load) / 100.0;
            if rate <= 0.0 {
                continue;
            }
            let every = (rate * self.case.senders as f64 / SAMPLES).ceil().max(1.0) as u32;
            // No share of the flows may be left out for good.
            let every = if self.args.flows.is_multiple_of(every) { every + 1 } else { every };
            let every = if rate < SAMPLES { 1 } else { every };
            let length = Length::Time(self.args.latency_time());
            let outcome = rig.trial(&self.traffic, rate, length, Some(every))?;
            rig.progress.clear();
            let Some(percentiles) = Percentiles::of(&outcome) else { continue };
            output.latency(&self.case, load, outcome.offered(), &percentiles, outcome.total.loss());
        }
        Ok(())
    }

    /// From the highest rate down in steps of a tenth, until two trials in a row lose nothing.
    fn loss(&self, rig: &mut Rig, output: &mut Output, max: f64) -> Result<(), Error> {
        self.begin(rig, Test::Loss);
        let mut clean = 0;
        for load in (1..=10).rev().map(|tenth| tenth * 10) {
            let rate = max * f64::from(load) / 100.0;
            let outcome = rig.trial(&self.traffic, rate, Length::Time(self.args.trial_time()), None)?;
            rig.progress.clear();
            output.loss(&self.case, load, &outcome);
            clean = if outcome.total.lost() == 0 { clean + 1 } else { 0 };
            if clean == 2 {
                break;
            }
        }
        Ok(())
    }

    fn back_to_back(
        &self,
        rig: &mut Rig,
        output: &mut Output,
        max: f64,
        throughput: Option<f64>,
    ) -> Result<(), Error> {
        self.begin(rig, Test::BackToBack);
        let most = ((max * self.args.burst_seconds) as u64).max(1);
        let (mut bursts, mut fps, mut unlimited) = (Vec::new(), 0.0_f64, false);
        let mut start = most / 16;
        for _ in 0..self.args.burst_count() {
            let mut speed = 0.0;
            let whole = |frames: u64| {
                let outcome = rig.trial(&self.traffic, f64::INFINITY, Length::Frames(frames), None)?;
                speed = outcome.offered();
                Ok::<_, Error>(outcome.total.lost() == 0 && outcome.total.sent > 0)
            };
            let (frames, all) = search::burst(most, start, whole)?;
            bursts.push(frames);
            fps = fps.max(speed);
            unlimited |= all;
            start = frames.max(1);
        }
        rig.progress.clear();
        let throughput = throughput.map(|rate| rate * self.case.senders as f64);
        output.bursts(&self.case, &bursts, fps, unlimited, throughput);
        Ok(())
    }
}
