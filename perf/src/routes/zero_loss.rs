//! Zero loss: a full table comes, changes its next hop and goes, and the API is asked all the time, while workers
//! forward at 80 % of their no-loss rate. Every frame has a sequence number, and none may be lost, come twice or out of
//! order, or go to a next hop that was right neither before nor after. The no-loss rate is found on the same rig, with an
//! idle table and the same questions. Then the same trial again, with the full table and no change: what is lost there is not
//! lost by changes.
//!
//! One worker has a core of its own. The generator has another, and shares it with the rest of turnpike, the sender and
//! whoever asks. Of two workers on two cores one shares its core with the generator, and the other with all the rest; so
//! they sleep when they are idle, and go before all others when something has come. While the generator is off its core it
//! sends nothing, which is told as frames not sent; the ports' queues hold what is under way meanwhile. A frame that the
//! generator's port refused found its ring full: the worker was away for longer than the ring holds.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use super::feed::{Feed, NextHops, Prefix};
use super::lab::{Lab, Stop, usage};
use super::ours::{Turnpike, bgp_section};
use super::report::{Frames, Report, Row};
use super::rig::{self, Cables, Cores, Rig, neighbour_mac};
use super::rounds::{Kept, Rounds};
use super::speaker::Speaker;
use super::subject::{Kind, Subject};
use super::{Args, HOPS, SENDER, probe};
use crate::traffic::{Arrival, Flow, Length, Observer, Outcome, Stamp, Verdict};

const FLOWS: usize = 1000;
/// The neighbour that each stage leads to: nothing there, announced, changed, withdrawn.
const STAGES: [u8; 4] = [0, 1, 2, 0];
/// The neighbour on the LAN.
const HOST: u8 = 9;
/// How long a trial for the no-loss rate is.
const TRIAL: Duration = Duration::from_secs(5);
/// The share of a trial's frames that the generator may be unable to send, since others have its core.
const SHORTFALL: f64 = 0.05;

fn configuration(cables: &Cables, cores: &[usize]) -> String {
    let mut text =
        cables.ports(&[("lan", r#""192.0.2.1/24""#), ("wan", r#""198.51.100.1/24", "2001:db8:ffff::1/64""#)]);
    let gateways = [("198.51.100.4", 0), ("198.51.100.2", 1), ("198.51.100.3", 2), ("2001:db8:ffff::2", 1)];
    for (address, number) in gateways {
        text += &rig::neighbour("wan", address, neighbour_mac(number));
    }
    text += &rig::neighbour("lan", "192.0.2.10", neighbour_mac(HOST));
    let idle = if cores.len() > 1 { "sleep" } else { "poll" };
    text += &format!(
        "[[route]]\nprefix = \"0.0.0.0/0\"\nvia = \"{}\"\n[workers]\ncores = {cores:?}\nidle = \"{idle}\"\n\
         [kernel]\ntaps = false\n[memory]\nbuffers = {}\n[api]\nsocket = \"{}\"\n{}",
        gateways[0].0,
        131_072 * cores.len(),
        cables.lab.path("turnpike.sock").display(),
        bgp_section(None, &[SENDER]),
    );
    text
}

/// Watches by which neighbour each flow's frames go: only forward from stage to stage, and never ahead of the feed.
struct Watch<'a> {
    /// How far the feed may have come.
    stage: &'a AtomicU8,
    flows: Vec<u8>,
    wrong: u64,
}

impl Observer for Watch<'_> {
    #[inline]
    fn arrived(&mut self, arrival: &Arrival<'_>, stamp: Stamp, _: usize, verdict: Verdict, _: u64) {
        if !matches!(verdict, Verdict::Good(_)) {
            return;
        }
        let Some(at) = self.flows.get_mut(stamp.flow as usize) else {
            // On its way back.
            self.wrong += u64::from(arrival.dst_mac() != neighbour_mac(HOST));
            return;
        };
        let goes_by = |stage: u8| neighbour_mac(STAGES[usize::from(stage)]) == arrival.dst_mac();
        if goes_by(*at) {
            return;
        }
        let furthest = self.stage.load(Ordering::Acquire);
        match (*at + 1..=furthest).find(|stage| goes_by(*stage)) {
            Some(stage) => *at = stage,
            None => self.wrong += 1,
        }
    }
}

/// Flows to prefixes all over the table; with two workers the same ones back too, which are the second worker's.
fn flows(feed: &Feed, workers: usize) -> Vec<Flow> {
    let v4: Vec<Prefix> = feed.prefixes.iter().copied().filter(|p| matches!(p, Prefix::V4(..))).collect();
    let step = (v4.len() / FLOWS).max(1);
    let spread = v4.iter().step_by(step).take(FLOWS).enumerate();
    let mut flows: Vec<Flow> = spread.map(|(i, prefix)| rig::flow(i, *prefix, 1 << 1)).collect();
    if workers > 1 {
        let back: Vec<Flow> = flows.iter().map(rig::back).collect();
        flows.extend(back);
    }
    flows
}

/// What a trial is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Plan {
    /// The table comes, changes and goes.
    Change,
    /// It stays as it is for so long.
    Rest(Duration),
}

/// What came of one.
struct Trial {
    outcome: Outcome,
    /// How far each flow came.
    flows: Vec<u8>,
    wrong: u64,
    rounds: Rounds,
    kept: Kept,
    dropped: std::collections::BTreeMap<String, u64>,
    questions: u64,
    cpu: f64,
    rss: f64,
}

impl Trial {
    fn is_clean(&self) -> bool {
        self.outcome.total.is_clean() && self.wrong == 0
    }

    fn row(&self, case: &'static str, routes: usize, no_loss: f64) -> Row {
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
            }),
            rounds: Some(self.rounds.clone()),
            kept: Some(self.kept),
            ..Row::default()
        }
    }
}

/// A turnpike at the rig, and whoever talks to it.
struct Bench<'a> {
    turnpike: Turnpike,
    speaker: Speaker,
    rig: Rig,
    feed: &'a Feed,
    lab: &'a Lab,
    stop: &'a Stop,
    patience: Duration,
    /// Flows whose next hops are watched.
    watched: usize,
}

impl Bench<'_> {
    /// One trial at so many frames a second from each port that sends. The API is asked all the time.
    fn trial(&mut self, rate: f64, plan: Plan) -> Result<Trial, String> {
        let (stage, done, questions) = (AtomicU8::new(0), AtomicBool::new(false), AtomicU64::new(0));
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
            let (done, questions, socket, stage) = (&done, &questions, self.turnpike.socket(), &stage);
            scope.spawn(move || ask(&socket, done, questions));
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
            questions: questions.load(Ordering::Relaxed),
            cpu: cpu_now - cpu,
            rss,
        })
    }

    /// The highest rate of those tried, each a fifth lower, at which a trial without changes is clean: what the generator
    /// really sent then.
    fn no_loss_rate(&mut self) -> Result<f64, String> {
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

/// Runs the case.
pub fn run(args: &Args, feed: &Feed, report: &mut Report, stop: &Stop) -> Result<(), String> {
    let other = usize::from(args.core == 0);
    let cores = &[args.core, other][..usize::from(args.workers)];
    let places = Cores { generator: if cores.len() > 1 { args.core } else { other }, rest: other };
    eprintln!(
        "perf: zero loss: workers on cores {cores:?}; the generator on core {}; control, sender and questions on core \
         {other}",
        places.generator
    );
    crate::lpm::pin(other);
    let lab = Lab::new(900)?;
    let cables = Cables { lab: &lab, ring: 14, workers: cores.len() };
    let station = cables.open(2).map_err(|error| error.to_string())?;
    let mut turnpike = Turnpike::start_with(&lab, &configuration(&cables, cores), Some(other), stop)?;
    let flows = flows(feed, cores.len());
    let watched = flows.len() / cores.len();
    let rig = Rig::new(station, flows, 0b11, Duration::from_millis(500), places)?;
    let _favour = rig.connect(&mut turnpike, stop)?;
    let speaker = Speaker::connect(&lab.sender, turnpike.address(), SENDER, stop)?;
    let patience = Duration::from_secs(args.patience);
    let mut bench = Bench { turnpike, speaker, rig, feed, lab: &lab, stop, patience, watched };
    let rate = bench.no_loss_rate()?;
    eprintln!("perf:   no loss at {rate:.0} frames/s from a port; the trials have 80% of it");
    let routes = feed.prefixes.len();
    let changing = bench.trial(0.8 * rate, Plan::Change)?;
    report.row(&changing.row("zero-loss", routes, rate))?;
    bench.speaker.send(&feed.announce)?;
    let deadline = Instant::now() + patience;
    while bench.turnpike.count(&lab, routes)? < routes && Instant::now() < deadline {
        stop.sleep(Duration::from_millis(20))?;
    }
    let idle = bench.trial(0.8 * rate, Plan::Rest(Duration::from_secs_f64(changing.outcome.seconds)))?;
    report.row(&idle.row("zero-loss-idle", routes, rate))?;
    report.text(&Rounds::table(&[("without changes", &idle.rounds), ("with them", &changing.rounds)]));
    if !changing.is_clean() {
        return Err("zero loss: the trial was not clean; see its row".into());
    }
    let moved = changing.flows.iter().filter(|stage| usize::from(**stage) == STAGES.len() - 1).count();
    if moved < watched {
        return Err(format!(
            "zero loss: only {moved} of {watched} flows went all the way from next hop to next hop"
        ));
    }
    Ok(())
}

/// Asks ten times a second, until it is done.
fn ask(socket: &std::path::Path, done: &AtomicBool, questions: &AtomicU64) {
    let all = [r#"{"show":"routes"}"#, r#"{"show":"drops"}"#, r#"{"show":"summary"}"#];
    while !done.load(Ordering::Acquire) {
        for question in all {
            if super::ours::ask(socket, question).is_ok() {
                questions.fetch_add(1, Ordering::Relaxed);
            }
        }
        std::thread::sleep(Duration::from_millis(100));
    }
}

/// Brings the table, changes it, and takes it.
struct Driver<'a> {
    turnpike: &'a mut Turnpike,
    speaker: &'a mut Speaker,
    feed: &'a Feed,
    lab: &'a Lab,
    stop: &'a Stop,
    stage: &'a AtomicU8,
}

impl Driver<'_> {
    fn change(&mut self, patience: Duration) -> Result<(), String> {
        let deadline = Instant::now() + patience;
        let settled = Duration::from_millis(300);
        self.stop.sleep(settled)?;
        let (all, last) = (self.feed.prefixes.len(), self.last());
        let other = NextHops { v4: Ipv4Addr::new(198, 51, 100, 3), ..HOPS };
        let changed = self.feed.announced_by(other);
        for stage in 1..=3u8 {
            self.stage.store(stage, Ordering::Release);
            let bytes = [&self.feed.announce, &changed, &self.feed.withdraw][usize::from(stage) - 1];
            self.speaker.send(bytes)?;
            loop {
                let have = self.turnpike.count(self.lab, all)?;
                let there = match stage {
                    1 => have == all,
                    2 => self.leads_to(last, other.v4.into())?,
                    _ => have == 0,
                };
                if there {
                    break;
                }
                if Instant::now() > deadline {
                    return Err(format!("stage {stage} does not end: {have} of {all} routes"));
                }
                self.stop.sleep(Duration::from_millis(20))?;
            }
            self.stop.sleep(settled)?;
        }
        Ok(())
    }

    fn last(&self) -> IpAddr {
        let v4 = self.feed.prefixes.iter().rev().find(|p| matches!(p, Prefix::V4(..)));
        v4.map_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED), |prefix| probe::address(*prefix))
    }

    fn leads_to(&self, address: IpAddr, gateway: IpAddr) -> Result<bool, String> {
        let chain = self.turnpike.ask(&format!(r#"{{"show":"routes","target":"{address}"}}"#))?;
        Ok(chain[0]["members"][0]["gateway"] == gateway.to_string())
    }
}
