//! `perf routes`: a full table over one BGP session, announced, churned and withdrawn, ours and what a user could take
//! instead, one after the other with the same feed; by FPM too. Then what packets see of it: repair, and zero loss.
//!
//! Each subject runs in a network namespace of its own, the sender in another. Ours is a `turnpike run` on virtual
//! ports, and its time ends when a packet to the last route was forwarded and its FIBs hold all. The time of the others
//! ends when their own table, or the kernel's, holds all.

mod churn;
mod feed;
mod fpm;
mod lab;
mod ours;
mod peers;
mod probe;
mod progress;
mod repair;
mod report;
mod rig;
mod rounds;
mod speaker;
mod subject;
mod zero_loss;

use std::net::{Ipv4Addr, Ipv6Addr};
use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

use feed::{Feed, NextHops};
use lab::{Lab, Stop, usage};
use ours::Turnpike;
use peers::Peer;
use probe::Probes;
use progress::Progress;
use report::{Report, Row};
use speaker::Speaker;
use subject::{Kind, Subject};

use crate::lpm::{Family, routes::routes};

/// What to measure.
#[derive(clap::Args)]
pub struct Args {
    /// IPv4 routes.
    #[arg(long, default_value_t = 1_000_000)]
    v4: usize,
    /// IPv6 routes.
    #[arg(long, default_value_t = 160_000)]
    v6: usize,
    /// Different sets of attributes among them.
    #[arg(long, default_value_t = 10_000)]
    paths: usize,
    /// Only these cases; may be given several times.
    #[arg(long, value_enum)]
    case: Vec<Case>,
    /// Only these subjects; may be given several times.
    #[arg(long)]
    subject: Vec<Kind>,
    /// Seconds of churn, of ours; 0: none.
    #[arg(long, default_value_t = 60)]
    churn: u64,
    /// Changes a second.
    #[arg(long, default_value_t = 100_000)]
    rate: usize,
    /// Longest time for one step of a peer, in seconds; then it is said and left.
    #[arg(long, default_value_t = 180)]
    patience: u64,
    /// One JSON object a row instead of a table.
    #[arg(long)]
    json: bool,
    /// Where the real Internet tables are.
    #[arg(long, default_value = concat!(env!("CARGO_MANIFEST_DIR"), "/../../shared/data"))]
    data: PathBuf,
    /// The core of our worker.
    #[arg(long, default_value_t = 1)]
    core: usize,
    /// Workers in `zero-loss`: with two, the second shares its core with control, and the first with the generator.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u8).range(1..=2))]
    workers: u8,
    /// Goes on with the table of another run.
    #[arg(long, hide = true)]
    continued: bool,
}

/// The cases that there are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Case {
    /// A full table comes and goes, with churn between for ours: all subjects.
    Table,
    /// FRR's zebra sends its table over FPM: into ours, and to a receiver that only drains.
    Fpm,
    /// What leads over a neighbour, link or session that is lost goes on over another: how long packets take to follow.
    Repair,
    /// Traffic through ours while a full table comes, changes its next hop and goes: not a packet lost.
    ZeroLoss,
}

const HOPS: NextHops =
    NextHops { v4: Ipv4Addr::new(198, 51, 100, 2), v6: Ipv6Addr::new(0x2001, 0xdb8, 0xffff, 0, 0, 0, 0, 2) };
const SENDER: Ipv4Addr = Ipv4Addr::new(10, 99, 0, 2);

impl Case {
    /// Its name as an argument.
    fn name(self) -> &'static str {
        match self {
            Self::Table => "table",
            Self::Fpm => "fpm",
            Self::Repair => "repair",
            Self::ZeroLoss => "zero-loss",
        }
    }
}

/// Runs all that the arguments ask for.
pub fn run(args: &Args) -> Result<(), String> {
    let stop = Stop::watch()?;
    let has = |case: &Case| args.case.is_empty() || args.case.contains(case);
    let cases = [Case::Table, Case::Fpm, Case::Repair, Case::ZeroLoss].into_iter().filter(has);
    let cases: Vec<Case> = cases.collect();
    let chosen = if args.subject.is_empty() { Kind::ALL.to_vec() } else { args.subject.clone() };
    let mut progress = Progress::new(args, &cases, &chosen);
    let feed = make_feed(args)?;
    let mut report = Report::new(args.json, args.continued);
    let with_dpdk = cases.iter().filter(|case| matches!(case, Case::Repair | Case::ZeroLoss)).count();
    for case in cases {
        if case != Case::Table {
            progress.next(case.name());
        }
        match case {
            Case::Table => table(args, &chosen, &feed, &mut report, &mut progress, &stop)?,
            Case::Fpm => fpm::run(args, &feed, &mut report, &stop)?,
            // DPDK starts once in a process.
            Case::Repair | Case::ZeroLoss if with_dpdk > 1 => apart(args, case, &mut report, &stop)?,
            Case::Repair => repair::run(args, &feed, &mut report, &stop)?,
            Case::ZeroLoss => zero_loss::run(args, &feed, &mut report, &stop)?,
        }
    }
    Ok(())
}

/// Runs a case in a process of its own, with the same feed.
fn apart(args: &Args, case: Case, report: &mut Report, stop: &Stop) -> Result<(), String> {
    let program = std::env::current_exe().map_err(|error| format!("cannot find this program: {error}"))?;
    let mut command = Command::new(program);
    command.args(["routes", "--case", case.name(), "--data"]).arg(&args.data);
    for (name, value) in [
        ("--v4", args.v4),
        ("--v6", args.v6),
        ("--paths", args.paths),
        ("--core", args.core),
        ("--workers", args.workers.into()),
        ("--patience", args.patience as usize),
    ] {
        command.args([name, &value.to_string()]);
    }
    if args.json {
        command.arg("--json");
    }
    if report.begin() {
        command.arg("--continued");
    }
    let mut child = command.spawn().map_err(|error| format!("cannot start myself again: {error}"))?;
    loop {
        match child.try_wait() {
            Ok(Some(status)) if status.success() => return Ok(()),
            Ok(Some(_)) => return Err(format!("{} failed, see above", case.name())),
            Ok(None) => {}
            Err(error) => return Err(format!("{}: {error}", case.name())),
        }
        if let Err(why) = stop.sleep(Duration::from_millis(100)) {
            // It cleans up, as at its own Ctrl-C.
            if let Some(pid) = rustix::process::Pid::from_raw(child.id().cast_signed()) {
                let _ = rustix::process::kill_process(pid, rustix::process::Signal::TERM);
            }
            let _ = child.wait();
            return Err(why);
        }
    }
}

/// The whole table, one subject after the other.
fn table(
    args: &Args,
    chosen: &[Kind],
    feed: &Feed,
    report: &mut Report,
    progress: &mut Progress,
    stop: &Stop,
) -> Result<(), String> {
    for (i, kind) in chosen.iter().enumerate() {
        stop.check()?;
        progress.next(kind.name());
        if let Some(how) = peers::missing(*kind) {
            eprintln!("perf: {} is not installed ({how}): left out", kind.name());
            continue;
        }
        match subject(args, *kind, i, feed, report, stop) {
            Ok(()) => {}
            Err(error) if *kind == Kind::Turnpike => return Err(error),
            Err(error) => {
                stop.check()?;
                eprintln!("perf: {}: left: {error}", kind.name());
            }
        }
    }
    Ok(())
}

fn make_feed(args: &Args) -> Result<Feed, String> {
    let family = |family: Family, count: usize| -> Result<_, String> {
        // Some are martians, or the laboratory's own.
        let (mut all, real) = routes(family, count + count / 20 + 100, &args.data, false)?;
        all.retain(|route| feed::is_usable(route, family == Family::V4));
        if all.len() < count {
            return Err(format!("only {} usable {} routes could be made", all.len(), family.name()));
        }
        // The surplus goes evenly, so that no part of the address space does.
        let (have, mut at) = (all.len(), 0);
        all.retain(|_| {
            at += 1;
            at * count / have > (at - 1) * count / have
        });
        Ok((all, real))
    };
    let ((v4, real4), (v6, real6)) = (family(Family::V4, args.v4)?, family(Family::V6, args.v6)?);
    let feed = Feed::new(&v4, &v6, args.paths, HOPS);
    let kind = if real4 && real6 { "from the Internet's, grown to size" } else { "generated" };
    eprintln!(
        "perf: {} IPv4 and {} IPv6 routes ({kind}), {} sets of attributes, {:.1} MB of UPDATEs",
        v4.len(),
        v6.len(),
        feed.paths,
        feed.announce.len() as f64 / 1e6
    );
    Ok(feed)
}

/// All steps of one subject.
fn subject(
    args: &Args,
    kind: Kind,
    number: usize,
    feed: &Feed,
    report: &mut Report,
    stop: &Stop,
) -> Result<(), String> {
    let lab = Lab::new(number)?;
    if kind == Kind::Turnpike {
        let mut turnpike = Turnpike::start(&lab, args.core, stop)?;
        let mut speaker = Speaker::connect(&lab.sender, turnpike.address(), SENDER, stop)?;
        ours(args, &lab, &mut turnpike, &mut speaker, feed, report, stop)
    } else {
        let mut peer = Peer::start(kind, &lab, &[], stop)?;
        let mut speaker = Speaker::connect(&lab.sender, peer.address(), SENDER, stop)?;
        let run = Run { args, kind, lab: &lab, feed, stop };
        run.announce(&mut peer, &mut speaker, None, report)?;
        run.withdraw(&mut peer, &mut speaker, report)
    }
}

fn ours(
    args: &Args,
    lab: &Lab,
    turnpike: &mut Turnpike,
    speaker: &mut Speaker,
    feed: &Feed,
    report: &mut Report,
    stop: &Stop,
) -> Result<(), String> {
    let run = Run { args, kind: Kind::Turnpike, lab, feed, stop };
    let mut probes = Probes::start(&lab.subject)?;
    run.announce(turnpike, speaker, Some(&mut probes), report)?;
    pauses(turnpike)?;
    if args.churn > 0 {
        let pids = turnpike.pids();
        let before = usage(&pids, turnpike.leave_out()).0;
        let rss = || usage(&pids, "").1;
        let out = churn::run(speaker, &mut probes, feed, HOPS, (args.rate, args.churn), rss, stop)?;
        let (cpu, rss) = usage(&pids, turnpike.leave_out());
        report.row(&Row {
            case: "churn",
            subject: Kind::Turnpike.name(),
            routes: feed.prefixes.len(),
            seconds: out.seconds,
            cpu_seconds: cpu - before,
            rss_mb: rss,
            changes_per_second: Some(out.changes as f64 / out.seconds),
            lag_p50_ms: Some(out.lag(0.5) * 1e3),
            lag_p99_ms: Some(out.lag(0.99) * 1e3),
            grown_mb: Some(out.rss.1 - out.rss.0),
            control_pause_ms: Some(turnpike.turns()?.1 as f64 / 1e6),
            ..Row::default()
        })?;
        pauses(turnpike)?;
    }
    run.withdraw(turnpike, speaker, report)?;
    pauses(turnpike)
}

fn pauses(turnpike: &Turnpike) -> Result<(), String> {
    let (turn, longest) = turnpike.turns()?;
    let ms = |ns: u64| ns as f64 / 1e6;
    eprintln!("perf:   control's turns so far: p99.9 {:.3} ms, longest {:.3} ms", ms(turn), ms(longest));
    Ok(())
}

/// The steps that are the same for all.
struct Run<'a> {
    args: &'a Args,
    kind: Kind,
    lab: &'a Lab,
    feed: &'a Feed,
    stop: &'a Stop,
}

impl Run<'_> {
    /// Waits until the subject has `count` routes; gives when it was seen.
    fn wait(
        &self,
        subject: &mut dyn Subject,
        speaker: &mut Speaker,
        count: usize,
    ) -> Result<Instant, String> {
        let start = Instant::now();
        let patience = Duration::from_secs(self.args.patience);
        let mut said = start;
        loop {
            let asked = Instant::now();
            let have = subject.count(self.lab, count)?;
            if have == count {
                return Ok(Instant::now());
            }
            speaker.check()?;
            if start.elapsed() > patience {
                return Err(format!("after {} s it has {have} of {count} routes", patience.as_secs()));
            }
            if said.elapsed() > Duration::from_secs(5) {
                said = Instant::now();
                speaker.keepalive()?;
                eprintln!("perf:   {have} routes, for {count}; at most {} s more", {
                    patience.saturating_sub(start.elapsed()).as_secs()
                });
            }
            // Asking costs whoever is asked: no more than a tenth of the time. Ours only waits for its turn to answer.
            let longest = if self.kind == Kind::Turnpike { 10 } else { 500 };
            let pause = asked.elapsed() * 9;
            self.stop.sleep(pause.clamp(Duration::from_millis(5), Duration::from_millis(longest)))?;
        }
    }

    fn announce(
        &self,
        subject: &mut dyn Subject,
        speaker: &mut Speaker,
        probes: Option<&mut Probes>,
        report: &mut Report,
    ) -> Result<(), String> {
        let pids = subject.pids();
        let before = usage(&pids, subject.leave_out()).0;
        let mut watched = Vec::new();
        let mut probes = probes;
        if let Some(probes) = &mut probes {
            let last = |v4: bool| {
                let of = |p: &&feed::Prefix| matches!(p, feed::Prefix::V4(..)) == v4;
                self.feed.prefixes.iter().rev().find(of).copied()
            };
            watched = [last(true), last(false)].into_iter().flatten().map(|p| probes.watch(p)).collect();
        }
        // Nothing was sent since the session came up: the clock starts with the first byte, for all alike.
        let start = Instant::now();
        let sent = speaker.send(&self.feed.announce)?;
        let mut end = self.wait(subject, speaker, self.feed.prefixes.len())?;
        if let Some(probes) = &probes {
            let patience = Instant::now() + Duration::from_secs(10);
            for number in watched {
                let at = loop {
                    if let Some(at) = probes.arrived(number) {
                        break at;
                    }
                    if Instant::now() > patience {
                        return Err("all routes are there, but no probe came through".into());
                    }
                    self.stop.sleep(Duration::from_millis(1))?;
                };
                end = end.max(at);
            }
        }
        let (cpu, rss) = usage(&pids, subject.leave_out());
        report.row(&Row {
            case: "announce",
            subject: self.kind.name(),
            routes: self.feed.prefixes.len(),
            seconds: (end - start).as_secs_f64(),
            cpu_seconds: cpu - before,
            rss_mb: rss,
            sent_seconds: Some(sent.as_secs_f64()),
            ..Row::default()
        })
    }

    fn withdraw(
        &self,
        subject: &mut dyn Subject,
        speaker: &mut Speaker,
        report: &mut Report,
    ) -> Result<(), String> {
        let pids = subject.pids();
        let before = usage(&pids, subject.leave_out()).0;
        let start = Instant::now();
        let sent = speaker.send(&self.feed.withdraw)?;
        let end = self.wait(subject, speaker, 0)?;
        let (cpu, rss) = usage(&pids, subject.leave_out());
        report.row(&Row {
            case: "withdraw",
            subject: self.kind.name(),
            routes: self.feed.prefixes.len(),
            seconds: (end - start).as_secs_f64(),
            cpu_seconds: cpu - before,
            rss_mb: rss,
            sent_seconds: Some(sent.as_secs_f64()),
            ..Row::default()
        })
    }
}
