//! Repair: flows go over two neighbours on two links, to all the routes of a feed, which have one recursive next hop
//! that resolves to both. Then one neighbour is lost, in each of the ways there are, with ten routes and with all: how
//! long it takes until the flows that went over it come out over the other. Every frame has a sequence number.
//!
//! The time is counted from just before the event is caused, so the asking, `ip`, and the socket are in it.

use std::net::Ipv4Addr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use super::feed::{self, Feed, NextHops, Path, Prefix};
use super::lab::{Lab, Stop, favour_workers, usage};
use super::ours::Turnpike;
use super::report::{Frames, Report, Row};
use super::speaker::{ASN, Speaker};
use super::subject::{Kind, Subject as _};
use super::{Args, HOPS, SENDER, probe};
use crate::traffic::{
    self, Arrival, Cable, Flow, Layer2, Length, Live, Load, Observer, Setup, Sizes, Stamp, Station, Traffic,
    Verdict, WhenFull,
};

const FLOWS: usize = 64;
const FRAME: u16 = 128;
/// Frames a second: each flow has one every half a millisecond.
const RATE: f64 = 2000.0 * FLOWS as f64;
/// The next hop of all routes.
const NEXT_HOP: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 1);
/// The tester's ports, turnpike's, and the neighbours beyond the second and third.
const TESTER: [[u8; 6]; 3] = [[2, 0, 0, 0, 0xa, 2], [2, 0, 0, 0, 0xb, 2], [2, 0, 0, 0, 0xd, 2]];
const ROUTER: [[u8; 6]; 3] = [[2, 0, 0, 0, 0xa, 1], [2, 0, 0, 0, 0xb, 1], [2, 0, 0, 0, 0xd, 1]];
const NEIGHBOURS: [[u8; 6]; 2] = [[2, 0, 0, 0, 0xc, 1], [2, 0, 0, 0, 0xc, 2]];
/// The one that is lost is on the port 2.
const LOST: &str = "198.51.101.2";
const LOST_PORT: usize = 2;

/// How it is lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Event {
    /// By `turnpike neighbour ... down`, as BFD would have it.
    Order,
    /// The kernel has it no more.
    Neighbour,
    /// The session that brought the routes breaks. They stay: no flow has to move.
    Session,
    /// The cable is pulled. The last, since it stays so.
    Link,
}

const EVENTS: [(Event, &str); 4] = [
    (Event::Order, "repair-bfd"),
    (Event::Neighbour, "repair-neighbour"),
    (Event::Session, "repair-session"),
    (Event::Link, "repair-link"),
];

fn mac(bytes: [u8; 6]) -> String {
    bytes.map(|byte| format!("{byte:02x}")).join(":")
}

/// A port's device string, at the tester's end of the cable or at ours.
fn device(lab: &Lab, side: usize, tester: bool) -> String {
    let (role, own) = if tester { ("server", TESTER[side]) } else { ("client", ROUTER[side]) };
    let socket = lab.path(&format!("repair{side}.sock"));
    format!(
        "net_memif{side},role={role},id={side},socket={},socket-abstract=no,rsize=12,mac={}",
        socket.display(),
        mac(own)
    )
}

fn configuration(lab: &Lab, core: usize) -> String {
    let mut text = String::new();
    for (side, (name, address)) in
        [("lan", "192.0.2.1/24"), ("wana", "198.51.100.1/24"), ("wanb", "198.51.101.1/24")]
            .into_iter()
            .enumerate()
    {
        text += &format!(
            "[[port]]\nname = \"p{side}\"\ndevice = \"{}\"\ndescriptors = 4096\n[[interface]]\nname = \"{name}\"\n\
             port = \"p{side}\"\naddresses = [\"{address}\"]\n",
            device(lab, side, false)
        );
    }
    text += &format!(
        "[[neighbour]]\ninterface = \"wana\"\naddress = \"198.51.100.2\"\nmac = \"{}\"\n\
         [[route]]\nprefix = \"{NEXT_HOP}/32\"\nvia = [\"198.51.100.2\", \"{LOST}\"]\n\
         [workers]\ncores = [{core}]\n[memory]\nbuffers = 32768\n[api]\nsocket = \"{}\"\n\
         [bgp]\nlisten = [\"10.99.0.1:1790\"]\nasn = {ASN}\nrouter_id = \"10.99.0.1\"\n\
         [[bgp.peer]]\nname = \"feed\"\naddress = \"10.99.0.2\"\nasn = {ASN}\n",
        mac(NEIGHBOURS[0]),
        lab.path("turnpike.sock").display(),
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

/// All that the trials share.
struct Rig {
    station: Station,
    traffic: Traffic,
    number: u16,
}

impl Rig {
    fn run(&mut self, length: Length, stop: &AtomicBool, watch: &mut Watch) -> traffic::Outcome {
        self.number += 1;
        let drain = Duration::from_millis(200);
        let load = Load { rate: RATE, length, drain, latency_every: None, hops: 1, receive: 0b110 };
        traffic::run(&mut self.station, &self.traffic, self.number, &load, stop, &Live::default(), watch)
    }

    /// By which port each flow comes; an error if some do not.
    fn ports(&mut self) -> Result<Vec<usize>, String> {
        let (event, never) = (AtomicU64::new(0), AtomicBool::new(false));
        let mut watch = Watch::new(&event, vec![usize::MAX; FLOWS]);
        self.run(Length::Time(Duration::from_millis(300)), &never, &mut watch);
        if watch.port.contains(&usize::MAX) {
            return Err("not all flows come through before the event".into());
        }
        Ok(watch.port)
    }
}

/// So many IPv4 routes of the feed, over the recursive next hop.
fn announcements(feed: &Feed, count: usize) -> (Vec<Prefix>, Vec<u8>) {
    let v4 = feed.prefixes.iter().copied().filter(|prefix| matches!(prefix, Prefix::V4(..)));
    let v4: Vec<Prefix> = v4.collect();
    let step = (v4.len() / count.max(1)).max(1);
    let chosen: Vec<Prefix> = v4.into_iter().step_by(step).take(count).collect();
    let mut bytes = Vec::new();
    for (i, run) in chosen.chunks(100).enumerate() {
        let path = Path { number: i as u32, med: 0, next_hops: NextHops { v4: NEXT_HOP, ..HOPS } };
        feed::announce(run, path, &mut bytes);
    }
    (chosen, bytes)
}

fn flows(prefixes: &[Prefix]) -> Vec<Flow> {
    let step = (prefixes.len() / FLOWS).max(1);
    let spread = prefixes.iter().step_by(step).cycle().take(FLOWS);
    let flow = |(i, prefix): (usize, &Prefix)| Flow {
        from: 0,
        to: 0b110,
        l2: Layer2 { dst: ROUTER[0], src: TESTER[0], tags: [None; 2] },
        src: Ipv4Addr::new(192, 0, 2, 10).into(),
        dst: probe::address(*prefix),
        src_port: 20_000 + i as u16,
        dst_port: 7,
        hop_limit: 64,
    };
    spread.enumerate().map(flow).collect()
}

/// Runs the case: with ten routes, then with all.
pub fn run(args: &Args, feed: &Feed, report: &mut Report, stop: &Stop) -> Result<(), String> {
    let other = usize::from(args.core == 0);
    eprintln!("perf: repair: the worker has core {}; all else shares core {other}", args.core);
    crate::lpm::pin(other);
    // Control is to have the core when it has something to do, not when the generator's time is over.
    let _ = rustix::process::setpriority_process(None, 15);
    let lab = Lab::new(700)?;
    let setup = Setup {
        devices: (0..TESTER.len()).map(|side| device(&lab, side, true)).collect(),
        eal_args: "--in-memory --no-pci --no-telemetry --log-level=1".split(' ').map(str::to_owned).collect(),
        descriptors: 4096,
        packet: 1500,
        no_huge: false,
        when_full: WhenFull::Drop,
    };
    let mut station = Some(Station::open(&setup).map_err(|error| error.to_string())?);
    let all = feed.prefixes.iter().filter(|prefix| matches!(prefix, Prefix::V4(..))).count();
    for count in [10, all] {
        let last = count == all;
        let (prefixes, bytes) = announcements(feed, count);
        let Some(taken) = station.take() else { break };
        let traffic =
            Traffic::new(flows(&prefixes), Sizes::Fixed(FRAME)).map_err(|error| error.to_string())?;
        let mut bench = Bench::start(args, &lab, Rig { station: taken, traffic, number: 0 }, stop)?;
        bench.announce(prefixes.len(), &bytes)?;
        for (event, name) in EVENTS {
            // The cable cannot be put in again.
            if event != Event::Link || last {
                bench.lose(event, name, prefixes.len(), report)?;
            }
        }
        station = Some(bench.rig.station);
    }
    Ok(())
}

/// A running turnpike between the tester's ports.
struct Bench<'a> {
    args: &'a Args,
    lab: &'a Lab,
    stop: &'a Stop,
    turnpike: Turnpike,
    speaker: Option<Speaker>,
    rig: Rig,
}

impl<'a> Bench<'a> {
    fn start(args: &'a Args, lab: &'a Lab, rig: Rig, stop: &'a Stop) -> Result<Self, String> {
        let text = configuration(lab, args.core);
        let turnpike = Turnpike::start_with(lab, &text, Some(usize::from(args.core == 0)), stop)?;
        favour_workers(&turnpike.pids());
        rig.station
            .wait_for_links(Duration::from_secs(10), || Ok::<(), traffic::StationError>(()))
            .map_err(|error| error.to_string())?;
        let bench = Self { args, lab, stop, turnpike, speaker: None, rig };
        bench.neighbour()?;
        Ok(bench)
    }

    /// Gives the kernel the neighbour that is to be lost.
    fn neighbour(&self) -> Result<(), String> {
        let mac = mac(NEIGHBOURS[1]);
        let command = format!("neighbour replace {LOST} lladdr {mac} dev wanb nud permanent");
        self.lab.subject.ip(&command).map(|_| ())
    }

    fn announce(&mut self, count: usize, bytes: &[u8]) -> Result<(), String> {
        let mut speaker = Speaker::connect(&self.lab.sender, self.turnpike.address(), SENDER, self.stop)?;
        speaker.send(bytes)?;
        let deadline = Instant::now() + Duration::from_secs(self.args.patience);
        while self.turnpike.count(self.lab, count)? < count {
            if Instant::now() > deadline {
                return Err(format!("ours does not come to {count} routes"));
            }
            self.stop.sleep(Duration::from_millis(20))?;
        }
        self.speaker = Some(speaker);
        Ok(())
    }

    /// Loses the neighbour in this way, with traffic, and puts it back.
    fn lose(
        &mut self,
        event: Event,
        name: &'static str,
        routes: usize,
        report: &mut Report,
    ) -> Result<(), String> {
        self.stop.sleep(Duration::from_millis(300))?;
        let before = self.rig.ports()?;
        let concerned: Vec<usize> = (0..FLOWS).filter(|flow| before[*flow] == LOST_PORT).collect();
        if concerned.is_empty() {
            return Err("no flow goes over the neighbour that is to be lost".into());
        }
        let at = AtomicU64::new(0);
        let mut cable = if event == Event::Link { self.rig.station.take_last() } else { None };
        let mut watch = Watch::new(&at, before);
        let done = AtomicBool::new(false);
        let mut speaker = self.speaker.take();
        let (caused, outcome) = std::thread::scope(|scope| {
            let (at, done, this) = (&at, &done, (&self.turnpike, self.lab));
            let (cable, speaker) = (&mut cable, &mut speaker);
            let rig = &mut self.rig;
            let driver = scope.spawn(move || {
                let _ = rustix::process::setpriority_process(None, 0);
                std::thread::sleep(Duration::from_millis(300));
                let result = cause(event, this, at, cable, speaker);
                std::thread::sleep(Duration::from_millis(700));
                done.store(true, Ordering::Release);
                result
            });
            let outcome = rig.run(Length::UntilStopped, done, &mut watch);
            (driver.join(), outcome)
        });
        caused.map_err(|_| "the thread that causes events has ended".to_owned())??;
        self.speaker = speaker;
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
            Event::Session | Event::Link => Ok(()),
        }
    }
}

fn order(down: bool) -> String {
    format!(r#"{{"do":"neighbour","address":"{LOST}","down":{down}}}"#)
}

/// Has the event happen, and notes when.
fn cause(
    event: Event,
    (turnpike, lab): (&Turnpike, &Lab),
    at: &AtomicU64,
    cable: &mut Option<Cable>,
    speaker: &mut Option<Speaker>,
) -> Result<(), String> {
    at.store(dpdk_sys::cycles(), Ordering::Release);
    match event {
        Event::Order => turnpike.ask(&order(true)).map(|_| ()),
        Event::Neighbour => lab.subject.ip(&format!("neighbour delete {LOST} dev wanb")).map(|_| ()),
        Event::Session => {
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
