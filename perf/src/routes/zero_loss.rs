//! Zero loss: a full table comes, changes its next hop and goes, and the API is asked all the time, while a worker
//! forwards at 80 % of its no-loss rate. Every frame has a sequence number, and none may be lost, come twice or out of
//! order, or go to a next hop that was right neither before nor after.
//!
//! It takes two cores: the worker has one. The generator has the other, and shares it with the rest of turnpike, the
//! sender and whoever asks. While it is off its core it sends nothing, which is told as frames not sent; the ports'
//! queues hold what is under way meanwhile.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use super::feed::{Feed, NextHops, Prefix};
use super::lab::{Lab, Stop, favour_workers, usage};
use super::ours::Turnpike;
use super::report::{Frames, Report, Rounds, Row};
use super::speaker::{ASN, Speaker};
use super::subject::{Kind, Subject};
use super::{Args, HOPS, SENDER, probe};
use crate::traffic::{
    self, Arrival, Flow, Layer2, Length, Live, Load, Observer, Outcome, Setup, Sizes, Stamp, Station,
    Traffic, Verdict, WhenFull,
};

const FLOWS: usize = 1000;
const FRAME: u16 = 128;
/// The tester's ports, turnpike's, and the neighbours beyond: of the default route, of the feed, and of its change.
const TESTER: [[u8; 6]; 2] = [[2, 0, 0, 0, 0xa, 2], [2, 0, 0, 0, 0xb, 2]];
const ROUTER: [[u8; 6]; 2] = [[2, 0, 0, 0, 0xa, 1], [2, 0, 0, 0, 0xb, 1]];
const NEIGHBOURS: [[u8; 6]; 3] = [[2, 0, 0, 0, 0xc, 0], [2, 0, 0, 0, 0xc, 1], [2, 0, 0, 0, 0xc, 2]];
/// The neighbour that each stage leads to: nothing there, announced, changed, withdrawn.
const STAGES: [usize; 4] = [0, 1, 2, 0];

fn mac(bytes: [u8; 6]) -> String {
    bytes.map(|byte| format!("{byte:02x}")).join(":")
}

/// A port's device string; `side` of the cable, and whether it is the tester's end.
fn device(lab: &Lab, side: usize, tester: bool) -> String {
    let (role, own) = if tester { ("server", TESTER[side]) } else { ("client", ROUTER[side]) };
    let socket = lab.path(["a.sock", "b.sock"][side]);
    format!(
        "net_memif{side},role={role},id={side},socket={},socket-abstract=no,rsize=14,mac={}",
        socket.display(),
        mac(own)
    )
}

fn configuration(lab: &Lab, core: usize) -> String {
    let mut text = String::new();
    for (side, (name, addresses)) in
        [("lan", r#""192.0.2.1/24""#), ("wan", r#""198.51.100.1/24", "2001:db8:ffff::1/64""#)]
            .into_iter()
            .enumerate()
    {
        text += &format!(
            "[[port]]\nname = \"p{side}\"\ndevice = \"{}\"\ndescriptors = 16384\n[[interface]]\nname = \"{name}\"\n\
             port = \"p{side}\"\naddresses = [{addresses}]\n",
            device(lab, side, false)
        );
    }
    let gateways = ["198.51.100.4", "198.51.100.2", "198.51.100.3", "2001:db8:ffff::2"];
    for (i, address) in gateways.iter().enumerate() {
        let mac = mac(NEIGHBOURS[if i < 3 { i } else { 1 }]);
        text += &format!("[[neighbour]]\ninterface = \"wan\"\naddress = \"{address}\"\nmac = \"{mac}\"\n");
    }
    text += &format!(
        "[[route]]\nprefix = \"0.0.0.0/0\"\nvia = \"{}\"\n[workers]\ncores = [{core}]\n[kernel]\ntaps = false\n\
         [memory]\nbuffers = 131072\n[api]\nsocket = \"{}\"\n[bgp]\nlisten = [\"10.99.0.1:1790\"]\nasn = {ASN}\n\
         router_id = \"10.99.0.1\"\n[[bgp.peer]]\nname = \"feed\"\naddress = \"10.99.0.2\"\nasn = {ASN}\n",
        gateways[0],
        lab.path("turnpike.sock").display(),
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
        let Some(at) = self.flows.get_mut(stamp.flow as usize) else { return };
        let goes_by = |stage: u8| NEIGHBOURS[STAGES[usize::from(stage)]] == arrival.dst_mac();
        if !matches!(verdict, Verdict::Good(_)) || goes_by(*at) {
            return;
        }
        let furthest = self.stage.load(Ordering::Acquire);
        match (*at + 1..=furthest).find(|stage| goes_by(*stage)) {
            Some(stage) => *at = stage,
            None => self.wrong += 1,
        }
    }
}

/// Everything that a trial needs.
struct Rig {
    station: Station,
    traffic: Traffic,
    number: u16,
}

impl Rig {
    fn run(&mut self, rate: f64, length: Length, stop: &AtomicBool, watch: &mut Watch) -> Outcome {
        self.number += 1;
        let drain = Duration::from_millis(500);
        let load = Load { rate, length, drain, latency_every: None, hops: 1, receive: 2 };
        traffic::run(&mut self.station, &self.traffic, self.number, &load, stop, &Live::default(), watch)
    }
}

fn flows(feed: &Feed) -> Vec<Flow> {
    let v4: Vec<Prefix> = feed.prefixes.iter().copied().filter(|p| matches!(p, Prefix::V4(..))).collect();
    let step = (v4.len() / FLOWS).max(1);
    let flow = |(i, prefix): (usize, &Prefix)| Flow {
        from: 0,
        to: 1 << 1,
        l2: Layer2 { dst: ROUTER[0], src: TESTER[0], tags: [None; 2] },
        src: Ipv4Addr::new(192, 0, 2, 10).into(),
        dst: probe::address(*prefix),
        src_port: 20_000 + i as u16,
        dst_port: 7,
        hop_limit: 64,
    };
    v4.iter().step_by(step).take(FLOWS).enumerate().map(flow).collect()
}

/// How long a trial without changes is: as long as one with them, or what disturbs a worker now and then is not seen.
const TRIAL: Duration = Duration::from_secs(5);

/// The highest rate of those tried, each a fifth lower, at which a trial is clean.
fn no_loss_rate(rig: &mut Rig, stop: &Stop) -> Result<f64, String> {
    let (stage, never) = (AtomicU8::new(0), AtomicBool::new(false));
    let mut watch = Watch { stage: &stage, flows: vec![0; FLOWS], wrong: 0 };
    let flat_out = rig.run(f64::INFINITY, Length::Time(Duration::from_secs(1)), &never, &mut watch);
    if flat_out.total.received == 0 {
        return Err("no frame comes through the router".into());
    }
    let mut rate = flat_out.delivered();
    for _ in 0..12 {
        stop.check()?;
        let trial = rig.run(rate, Length::Time(TRIAL), &never, &mut watch);
        if trial.total.is_clean() && trial.shortfall() < 0.02 && watch.wrong == 0 {
            return Ok(rate);
        }
        rate *= 0.8;
    }
    Err("there is no rate at which nothing is lost, even without changes: is the worker alone on its core?"
        .into())
}

/// Runs the case.
pub fn run(args: &Args, feed: &Feed, report: &mut Report, stop: &Stop) -> Result<(), String> {
    let other = usize::from(args.core == 0);
    eprintln!(
        "perf: zero loss: the worker has core {}; generator, control, sender and questions share core {other}",
        args.core
    );
    crate::lpm::pin(other);
    let lab = Lab::new(900)?;
    let setup = Setup {
        devices: vec![device(&lab, 0, true), device(&lab, 1, true)],
        eal_args: "--in-memory --no-pci --no-telemetry --log-level=1".split(' ').map(str::to_owned).collect(),
        descriptors: 16384,
        packet: 1500,
        no_huge: false,
        when_full: WhenFull::Drop,
    };
    let station = Station::open(&setup).map_err(|error| error.to_string())?;
    let turnpike = Turnpike::start_with(&lab, &configuration(&lab, args.core), Some(other), stop)?;
    station
        .wait_for_links(Duration::from_secs(10), || Ok::<(), crate::traffic::StationError>(()))
        .map_err(|error| error.to_string())?;
    favour_workers(&turnpike.pids());
    let flows = flows(feed);
    let count = flows.len();
    let traffic = Traffic::new(flows, Sizes::Fixed(FRAME)).map_err(|error| error.to_string())?;
    let mut rig = Rig { station, traffic, number: 0 };
    let rate = no_loss_rate(&mut rig, stop)?;
    eprintln!("perf:   no loss at {rate:.0} frames/s; the trial has 80% of it");
    let before = turnpike.round_counts()?;
    let (stage, never) = (AtomicU8::new(0), AtomicBool::new(false));
    let mut watch = Watch { stage: &stage, flows: vec![0; count], wrong: 0 };
    rig.run(0.8 * rate, Length::Time(Duration::from_secs(3)), &never, &mut watch);
    let quiet = turnpike.round_counts()?;
    let speaker = Speaker::connect(&lab.sender, turnpike.address(), SENDER, stop)?;
    let done = AtomicBool::new(false);
    let questions = AtomicU64::new(0);
    let mut driver = Driver { turnpike, speaker, feed, lab: &lab, stop, stage: &stage };
    let start = Instant::now();
    let (driven, outcome) = std::thread::scope(|scope| {
        let (done, questions, socket) = (&done, &questions, driver.turnpike.socket());
        scope.spawn(move || ask(&socket, done, questions));
        let drive = scope.spawn(move || {
            let result = driver.run(args.patience);
            done.store(true, Ordering::Release);
            result.map(|()| driver)
        });
        let outcome = rig.run(0.8 * rate, Length::UntilStopped, done, &mut watch);
        (drive.join(), outcome)
    });
    let driver = driven.map_err(|_| "the sender's thread ended".to_owned())??;
    let changing = driver.turnpike.round_counts()?;
    let pids = driver.turnpike.pids();
    let (cpu, rss) = usage(&pids, driver.turnpike.leave_out());
    let total = outcome.total;
    let frames = Frames {
        no_loss_per_second: rate,
        rate_per_second: 0.8 * rate,
        sent: total.sent,
        lost: total.lost(),
        reordered: total.reordered,
        duplicated: total.duplicates + total.stale,
        corrupt: total.corrupt + total.misdirected,
        wrong_next_hop: watch.wrong,
        not_sent: outcome.missed,
        questions: questions.load(Ordering::Relaxed),
    };
    report.row(&Row {
        case: "zero-loss",
        subject: Kind::Turnpike.name(),
        routes: feed.prefixes.len(),
        seconds: start.elapsed().as_secs_f64(),
        cpu_seconds: cpu,
        rss_mb: rss,
        frames: Some(frames),
        rounds: Some([between(&before, &quiet), between(&quiet, &changing)]),
        control_pause_ms: Some(driver.turnpike.turns()?.1 as f64 / 1e6),
        ..Row::default()
    })?;
    let moved = watch.flows.iter().filter(|stage| usize::from(**stage) == STAGES.len() - 1).count();
    if !total.is_clean() || watch.wrong > 0 {
        return Err(format!("zero loss: the trial was not clean: {frames:?}"));
    }
    if moved < count {
        return Err(format!(
            "zero loss: only {moved} of {count} flows went all the way from next hop to next hop"
        ));
    }
    Ok(())
}

/// What was added between two looks at a histogram.
fn between(before: &[(u64, u64)], after: &[(u64, u64)]) -> Rounds {
    let had = |time: u64| before.iter().find(|(at, _)| *at == time).map_or(0, |(_, count)| *count);
    let added: Vec<(u64, u64)> = after
        .iter()
        .map(|(time, count)| (*time, count.saturating_sub(had(*time))))
        .filter(|(_, n)| *n > 0)
        .collect();
    let total: u64 = added.iter().map(|(_, count)| count).sum();
    let mut left = (total as f64 * 0.999).ceil() as u64;
    let mut rounds = Rounds::default();
    for (time, count) in added {
        if left > 0 && count >= left {
            rounds.p999_us = time as f64 / 1e3;
        }
        left = left.saturating_sub(count);
        rounds.max_us = time as f64 / 1e3;
    }
    rounds
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
    turnpike: Turnpike,
    speaker: Speaker,
    feed: &'a Feed,
    lab: &'a Lab,
    stop: &'a Stop,
    stage: &'a AtomicU8,
}

impl Driver<'_> {
    fn run(&mut self, patience: u64) -> Result<(), String> {
        let deadline = Instant::now() + Duration::from_secs(patience);
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
