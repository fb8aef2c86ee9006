//! Repair: flows go over two neighbours on two links, to all the routes of a feed. Then one neighbour is lost, in each of
//! the ways there are, with ten routes and with all: how long it takes until the flows that went over it come out over
//! the other. Every frame has a sequence number.
//!
//! The routes have one recursive next hop that resolves to both neighbours; or two sessions bring them all, each over a
//! neighbour of its own, and a lost session's routes go at once. The time is counted from just before the event is
//! caused, so the asking, the word to an `ip` that runs, and the socket are in it.
//!
//! The worker sleeps when it is idle, and shares its core with the generator, which rests when it has nothing to do: so the
//! generator sees what comes within some tenths of a millisecond, and control, the sessions' threads and the kernel have
//! the other core.

use std::net::Ipv4Addr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use super::feed::{self, Feed, NextHops, Path, Prefix};
use super::lab::{Lab, Stop, WaitingIp, usage};
use super::ours::{Turnpike, bgp_section};
use super::report::{Frames, Report, Row};
use super::rig::{self, Cables, Cores, Rig, neighbour_mac};
use super::speaker::Speaker;
use super::subject::{Kind, Subject as _};
use super::{Args, HOPS, SENDER};
use crate::traffic::{Arrival, Cable, Flow, Length, Observer, Stamp, Verdict};

const FLOWS: usize = 64;
/// Frames a second: each flow has one every half a millisecond.
const RATE: f64 = 2000.0 * FLOWS as f64;
/// The next hop of all routes.
const NEXT_HOP: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 1);
/// The neighbours; the one that is lost is on the port 2.
const STAYS: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 2);
const LOST: Ipv4Addr = Ipv4Addr::new(198, 51, 101, 2);
const LOST_PORT: usize = 2;
/// The sender whose session is lost.
const SECOND: Ipv4Addr = Ipv4Addr::new(10, 99, 0, 3);

/// How it is lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Event {
    /// By `turnpike neighbour ... down`, as BFD would have it.
    Order,
    /// The kernel has it no more.
    Neighbour,
    /// The session that brought the routes breaks. They stay: no flow has to move.
    Session,
    /// One of two sessions breaks that brought the same routes over different next hops. Its routes go.
    OneOfTwo,
    /// The cable is pulled. The last, since it stays so.
    Link,
}

impl Event {
    fn name(self) -> &'static str {
        match self {
            Self::Order => "repair-bfd",
            Self::Neighbour => "repair-neighbour",
            Self::Session => "repair-session-stays",
            Self::OneOfTwo => "repair-session-goes",
            Self::Link => "repair-link",
        }
    }
}

/// How the routes lead over both neighbours.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Setting {
    /// By one session, over a recursive next hop.
    Recursive,
    /// By two sessions.
    TwoSessions,
}

fn configuration(cables: &Cables, setting: Setting, core: usize) -> String {
    let mut text = cables.ports(&[
        ("lan", r#""192.0.2.1/24""#),
        ("wana", r#""198.51.100.1/24""#),
        ("wanb", r#""198.51.101.1/24""#),
    ]);
    text += &rig::neighbour("wana", &STAYS.to_string(), neighbour_mac(1));
    text += &match setting {
        Setting::Recursive => {
            format!("[[route]]\nprefix = \"{NEXT_HOP}/32\"\nvia = [\"{STAYS}\", \"{LOST}\"]\n")
        }
        Setting::TwoSessions => rig::neighbour("wanb", &LOST.to_string(), neighbour_mac(2)),
    };
    let (retain, senders) = match setting {
        Setting::Recursive => (None, &[SENDER][..]),
        Setting::TwoSessions => (Some(0), &[SENDER, SECOND][..]),
    };
    text += &format!(
        "[workers]\ncores = [{core}]\nidle = \"sleep\"\n[memory]\nbuffers = 32768\n[api]\nsocket = \"{}\"\n{}",
        cables.lab.path("turnpike.sock").display(),
        bgp_section(retain, senders),
    );
    text
}

/// Notes for each flow by which port it came last, and when it first came by another one after the event.
struct Watch<'a> {
    /// In ticks; 0: not yet.
    event: &'a AtomicU64,
    port: Vec<usize>,
    moved: Vec<u64>,
}

impl<'a> Watch<'a> {
    fn new(event: &'a AtomicU64, port: Vec<usize>) -> Self {
        Self { event, moved: vec![0; port.len()], port }
    }
}

impl Observer for Watch<'_> {
    #[inline]
    fn arrived(&mut self, _: &Arrival<'_>, stamp: Stamp, port: usize, verdict: Verdict, _: u64) {
        let flow = stamp.flow as usize;
        if matches!(verdict, Verdict::Good(_)) && self.port[flow] != port {
            self.port[flow] = port;
            if self.event.load(Ordering::Acquire) != 0 {
                self.moved[flow] = dpdk_sys::cycles();
            }
        }
    }
}

/// By which port each flow comes; an error if some do not.
fn ports(rig: &mut Rig) -> Result<Vec<usize>, String> {
    let (event, never) = (AtomicU64::new(0), AtomicBool::new(false));
    let mut watch = Watch::new(&event, vec![usize::MAX; FLOWS]);
    rig.run(RATE, Length::Time(Duration::from_millis(300)), &never, &mut watch);
    if watch.port.contains(&usize::MAX) {
        return Err("not all flows come through before the event".into());
    }
    Ok(watch.port)
}

/// So many IPv4 routes of the feed.
fn choose(feed: &Feed, count: usize) -> Vec<Prefix> {
    let v4 = feed.prefixes.iter().copied().filter(|prefix| matches!(prefix, Prefix::V4(..)));
    let v4: Vec<Prefix> = v4.collect();
    let step = (v4.len() / count.max(1)).max(1);
    v4.into_iter().step_by(step).take(count).collect()
}

/// Announces these routes over a next hop.
fn announcement(prefixes: &[Prefix], next_hop: Ipv4Addr) -> Vec<u8> {
    let mut bytes = Vec::new();
    for (i, run) in prefixes.chunks(100).enumerate() {
        let path = Path { number: i as u32, med: 0, next_hops: NextHops { v4: next_hop, ..HOPS } };
        feed::announce(run, path, &mut bytes);
    }
    bytes
}

fn flows(prefixes: &[Prefix]) -> Vec<Flow> {
    let step = (prefixes.len() / FLOWS).max(1);
    let spread = prefixes.iter().step_by(step).cycle().take(FLOWS);
    spread.enumerate().map(|(i, prefix)| rig::flow(i, *prefix, 0b110)).collect()
}

/// Runs the case: with ten routes, then with all.
pub fn run(args: &Args, feed: &Feed, report: &mut Report, stop: &Stop) -> Result<(), String> {
    let other = usize::from(args.core == 0);
    eprintln!("perf: repair: worker and generator share core {}, all else core {other}", args.core);
    crate::lpm::pin(other);
    let lab = Lab::new(700)?;
    lab.sender.ip(&format!("address add {SECOND}/24 dev feed0"))?;
    let cables = Cables { lab: &lab, ring: 12, workers: 1 };
    let mut station = cables.open(3).map_err(|error| error.to_string())?;
    let all = feed.prefixes.iter().filter(|prefix| matches!(prefix, Prefix::V4(..))).count();
    let some = [Event::Order, Event::Neighbour, Event::Session];
    // The cable cannot be put in again.
    let and_link = [Event::Order, Event::Neighbour, Event::Session, Event::Link];
    let runs: [(usize, Setting, &[Event]); 4] = [
        (10, Setting::TwoSessions, &[Event::OneOfTwo]),
        (all, Setting::TwoSessions, &[Event::OneOfTwo]),
        (10, Setting::Recursive, &some),
        (all, Setting::Recursive, &and_link),
    ];
    let cores = Cores { generator: args.core, rest: other };
    for (count, setting, events) in runs {
        let prefixes = choose(feed, count);
        let rig = Rig::new(station, flows(&prefixes), 0b110, Duration::from_millis(200), cores)?;
        let text = configuration(&cables, setting, args.core);
        let mut turnpike = Turnpike::start_with(&lab, &text, Some(other), stop)?;
        let _favour = rig.connect(&mut turnpike, stop)?;
        let mut bench = Bench { args, lab: &lab, stop, turnpike, speakers: Vec::new(), rig };
        match setting {
            Setting::Recursive => {
                bench.neighbour()?;
                bench.announce(SENDER, count, &announcement(&prefixes, NEXT_HOP))?;
            }
            Setting::TwoSessions => {
                bench.announce(SENDER, count, &announcement(&prefixes, STAYS))?;
                bench.announce(SECOND, count, &announcement(&prefixes, LOST))?;
                bench.wait_for_both(&prefixes)?;
            }
        }
        for event in events {
            bench.lose(*event, prefixes.len(), report)?;
        }
        station = bench.rig.station;
    }
    Ok(())
}

/// A running turnpike between the tester's ports.
struct Bench<'a> {
    args: &'a Args,
    lab: &'a Lab,
    stop: &'a Stop,
    turnpike: Turnpike,
    speakers: Vec<Speaker>,
    rig: Rig,
}

impl Bench<'_> {
    /// Gives the kernel the neighbour that is to be lost.
    fn neighbour(&self) -> Result<(), String> {
        let mac = rig::mac_text(neighbour_mac(2));
        let command = format!("neighbour replace {LOST} lladdr {mac} dev wanb nud permanent");
        self.lab.subject.ip(&command).map(|_| ())
    }

    fn announce(&mut self, from: Ipv4Addr, count: usize, bytes: &[u8]) -> Result<(), String> {
        let mut speaker = Speaker::connect(&self.lab.sender, self.turnpike.address(), from, self.stop)?;
        speaker.send(bytes)?;
        let deadline = Instant::now() + Duration::from_secs(self.args.patience);
        while self.turnpike.count(self.lab, count)? < count {
            if Instant::now() > deadline {
                return Err(format!("ours does not come to {count} routes"));
            }
            self.stop.sleep(Duration::from_millis(20))?;
        }
        self.speakers.push(speaker);
        Ok(())
    }

    /// Waits until the last of the routes leads over both neighbours.
    fn wait_for_both(&self, prefixes: &[Prefix]) -> Result<(), String> {
        let Some(last) = prefixes.last().map(|prefix| super::probe::address(*prefix)) else { return Ok(()) };
        let deadline = Instant::now() + Duration::from_secs(self.args.patience);
        loop {
            let chain = self.turnpike.ask(&format!(r#"{{"show":"routes","target":"{last}"}}"#))?;
            if chain[0]["members"].as_array().is_some_and(|members| members.len() == 2) {
                return Ok(());
            }
            if Instant::now() > deadline {
                return Err(format!("{last} does not come to lead over both neighbours"));
            }
            self.stop.sleep(Duration::from_millis(20))?;
        }
    }

    /// Loses the neighbour in this way, with traffic, and puts it back.
    fn lose(&mut self, event: Event, routes: usize, report: &mut Report) -> Result<(), String> {
        let name = event.name();
        self.stop.sleep(Duration::from_millis(300))?;
        let before = ports(&mut self.rig)?;
        let concerned: Vec<usize> = (0..FLOWS).filter(|flow| before[*flow] == LOST_PORT).collect();
        if concerned.is_empty() {
            return Err("no flow goes over the neighbour that is to be lost".into());
        }
        let at = AtomicU64::new(0);
        let mut cable = if event == Event::Link { self.rig.station.take_last() } else { None };
        let mut watch = Watch::new(&at, before);
        let done = AtomicBool::new(false);
        let mut speaker =
            if matches!(event, Event::Session | Event::OneOfTwo) { self.speakers.pop() } else { None };
        let mut ip = if event == Event::Neighbour { Some(self.lab.subject.waiting_ip()?) } else { None };
        let (caused, outcome) = std::thread::scope(|scope| {
            let (at, done, turnpike) = (&at, &done, &self.turnpike);
            let (ip, cable, speaker) = (&mut ip, &mut cable, &mut speaker);
            let rig = &mut self.rig;
            let driver = scope.spawn(move || {
                std::thread::sleep(Duration::from_millis(300));
                let result = cause(event, turnpike, at, ip, cable, speaker);
                std::thread::sleep(Duration::from_millis(700));
                done.store(true, Ordering::Release);
                result
            });
            let outcome = rig.run(RATE, Length::UntilStopped, done, &mut watch);
            (driver.join(), outcome)
        });
        caused.map_err(|_| "the thread that causes events has ended".to_owned())??;
        let event_at = at.load(Ordering::Acquire);
        let moved: Vec<u64> = concerned.iter().map(|flow| watch.moved[*flow]).collect();
        let stayed = moved.iter().filter(|at| **at == 0).count();
        if event != Event::Session && stayed > 0 {
            return Err(format!("{name}: {stayed} of {} flows did not move", concerned.len()));
        }
        let mut times: Vec<f64> = moved
            .iter()
            .filter(|at| **at != 0)
            .map(|at| at.saturating_sub(event_at) as f64 / outcome.hz as f64 * 1e3)
            .collect();
        times.sort_by(f64::total_cmp);
        let total = outcome.total;
        let (cpu, rss) = usage(&self.turnpike.pids(), self.turnpike.leave_out());
        report.row(&Row {
            case: name,
            subject: Kind::Turnpike.name(),
            routes,
            seconds: outcome.seconds,
            cpu_seconds: cpu,
            rss_mb: rss,
            repair_ms: Some(times.last().copied().unwrap_or(0.0)),
            repair_p50_ms: Some(times.get(times.len() / 2).copied().unwrap_or(0.0)),
            frames: Some(Frames {
                rate_per_second: RATE,
                sent: total.sent,
                lost: total.lost(),
                reordered: total.reordered,
                duplicated: total.duplicates + total.stale,
                corrupt: total.corrupt + total.misdirected,
                refused: outcome.refused,
                not_sent: outcome.missed,
                ..Frames::default()
            }),
            ..Row::default()
        })?;
        self.undo(event)
    }

    fn undo(&mut self, event: Event) -> Result<(), String> {
        match event {
            Event::Order => self.turnpike.ask(&order(false)).map(|_| ()),
            Event::Neighbour => self.neighbour(),
            // The routes have two minutes, which is more than what is left to do.
            Event::Session | Event::OneOfTwo | Event::Link => Ok(()),
        }
    }
}

fn order(down: bool) -> String {
    format!(r#"{{"do":"neighbour","address":"{LOST}","down":{down}}}"#)
}

/// Has the event happen, and notes when.
fn cause(
    event: Event,
    turnpike: &Turnpike,
    at: &AtomicU64,
    ip: &mut Option<WaitingIp>,
    cable: &mut Option<Cable>,
    speaker: &mut Option<Speaker>,
) -> Result<(), String> {
    at.store(dpdk_sys::cycles(), Ordering::Release);
    match event {
        Event::Order => turnpike.ask(&order(true)).map(|_| ()),
        Event::Neighbour => {
            ip.as_mut().map_or(Ok(()), |ip| ip.tell(&format!("neighbour delete {LOST} dev wanb")))
        }
        Event::Session | Event::OneOfTwo => {
            if let Some(speaker) = speaker.take() {
                speaker.cut();
            }
            Ok(())
        }
        Event::Link => {
            drop(cable.take());
            Ok(())
        }
    }
}
