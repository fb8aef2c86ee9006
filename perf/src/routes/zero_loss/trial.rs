//! Trials: so many frames a second, while the table changes or rests, and questions are asked all the time.

use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};
use std::time::Duration;

use super::driver::Driver;
use super::questions::{self, Answers};
use super::watch::Watch;
use crate::routes::feed::Feed;
use crate::routes::lab::{Lab, Stop, usage};
use crate::routes::ours::Turnpike;
use crate::routes::report::{Frames, Row};
use crate::routes::rig::Rig;
use crate::routes::rounds::{Kept, Rounds};
use crate::routes::speaker::Speaker;
use crate::routes::subject::{Kind, Subject as _};
use crate::traffic::{Length, Outcome};

/// How long a trial for the no-loss rate is.
const TRIAL: Duration = Duration::from_secs(5);
/// The share of a trial's frames that the generator may be unable to send, since others have its core.
const SHORTFALL: f64 = 0.05;

/// What a trial is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Plan {
    /// The table comes, changes and goes.
    Change,
    /// It stays as it is for so long.
    Rest(Duration),
}

/// What came of one.
pub struct Trial {
    pub outcome: Outcome,
    /// How far each flow came.
    pub flows: Vec<u8>,
    wrong: u64,
    pub rounds: Rounds,
    kept: Kept,
    dropped: std::collections::BTreeMap<String, u64>,
    pub questions: u64,
    pub scrapes: u64,
    cpu: f64,
    rss: f64,
}

impl Trial {
    pub fn is_clean(&self) -> bool {
        self.outcome.total.is_clean() && self.wrong == 0
    }

    pub fn row(&self, case: &'static str, routes: usize, no_loss: f64) -> Row {
        let total = self.outcome.total;
        Row {
            case,
            subject: Kind::Turnpike.name(),
            routes,
            seconds: self.outcome.seconds,
            cpu_seconds: self.cpu,
            rss_mb: self.rss,
            frames: Some(Frames {
                no_loss_per_second: no_loss,
                rate_per_second: 0.8 * no_loss,
                sent: total.sent,
                lost: total.lost(),
                refused: self.outcome.refused,
                dropped: self.dropped.clone(),
                reordered: total.reordered,
                duplicated: total.duplicates + total.stale,
                corrupt: total.corrupt + total.misdirected,
                wrong_next_hop: self.wrong,
                not_sent: self.outcome.missed,
                questions: self.questions,
                scrapes: self.scrapes,
            }),
            rounds: Some(self.rounds.clone()),
            kept: Some(self.kept),
            ..Row::default()
        }
    }
}

/// A turnpike at the rig, and whoever talks to it.
pub struct Bench<'a> {
    pub turnpike: Turnpike,
    pub speaker: Speaker,
    pub rig: Rig,
    pub feed: &'a Feed,
    pub lab: &'a Lab,
    pub stop: &'a Stop,
    pub patience: Duration,
    /// Flows whose next hops are watched.
    pub watched: usize,
}

impl Bench<'_> {
    /// One trial at so many frames a second from each port that sends. The API is asked all the time.
    pub fn trial(&mut self, rate: f64, plan: Plan) -> Result<Trial, String> {
        let (stage, done, answers) = (AtomicU8::new(0), AtomicBool::new(false), Answers::default());
        let mut watch = Watch { stage: &stage, flows: vec![0; self.watched], wrong: 0 };
        if plan != Plan::Change && self.turnpike.count(self.lab, 0)? > 0 {
            // All that is announced leads on.
            stage.store(1, Ordering::Release);
        }
        self.speaker.keepalive()?;
        let pids = self.turnpike.pids();
        let (rounds, kept) = (self.turnpike.round_counts()?, Kept::read(&pids));
        let (dropped, cpu) = (self.turnpike.dropped()?, usage(&pids, self.turnpike.leave_out()).0);
        let (driven, outcome) = std::thread::scope(|scope| {
            let (done, answers, socket, stage) = (&done, &answers, self.turnpike.socket(), &stage);
            let inside = &self.lab.subject;
            scope.spawn(move || inside.run(|| questions::ask(&socket, done, answers)));
            let mut driver = Driver {
                turnpike: &mut self.turnpike,
                speaker: &mut self.speaker,
                feed: self.feed,
                lab: self.lab,
                stop: self.stop,
                stage,
            };
            let patience = self.patience;
            let drive = scope.spawn(move || {
                let result = match plan {
                    Plan::Change => driver.change(patience),
                    Plan::Rest(time) => driver.stop.sleep(time),
                };
                done.store(true, Ordering::Release);
                result
            });
            let outcome = self.rig.run(rate, Length::UntilStopped, done, &mut watch);
            (drive.join(), outcome)
        });
        driven.map_err(|_| "the sender's thread ended".to_owned())??;
        let after = self.turnpike.dropped()?;
        let added = |(reason, count): (String, u64)| {
            let count = count - dropped.get(&reason).copied().unwrap_or(0);
            (count > 0).then_some((reason, count))
        };
        let (cpu_now, rss) = usage(&pids, self.turnpike.leave_out());
        Ok(Trial {
            outcome,
            flows: watch.flows,
            wrong: watch.wrong,
            rounds: Rounds::between(&rounds, &self.turnpike.round_counts()?),
            kept: Kept::read(&pids).since(kept),
            dropped: after.into_iter().filter_map(added).collect(),
            questions: answers.questions(),
            scrapes: answers.scrapes(),
            cpu: cpu_now - cpu,
            rss,
        })
    }

    /// The highest rate of those tried, each a fifth lower, at which a trial without changes is clean: what the generator
    /// really sent then.
    pub fn no_loss_rate(&mut self) -> Result<f64, String> {
        let flat_out = self.trial(f64::INFINITY, Plan::Rest(Duration::from_secs(1)))?;
        if flat_out.outcome.total.received == 0 {
            return Err("no frame comes through the router".into());
        }
        let senders = if flat_out.outcome.flows.len() > self.watched { 2.0 } else { 1.0 };
        let mut rate = flat_out.outcome.delivered() / senders;
        for _ in 0..12 {
            let trial = self.trial(rate, Plan::Rest(TRIAL))?;
            if trial.is_clean() && trial.outcome.shortfall() < SHORTFALL {
                return Ok(trial.outcome.offered() / senders);
            }
            let Outcome { total, refused, .. } = &trial.outcome;
            eprintln!(
                "perf:   {rate:.0} frames/s: {} lost, {refused} of them refused; {:.1} % not sent; {:?}",
                total.lost(),
                trial.outcome.shortfall() * 100.0,
                trial.kept
            );
            rate *= 0.8;
        }
        Err("there is no rate at which nothing is lost, even without changes: is the worker alone on its core?"
            .into())
    }
}
