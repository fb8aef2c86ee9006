//! The set-up of a run: the tester's ports, the device if it is ours, and the trials through them.

use std::io::IsTerminal as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use super::args::{Args, Dut, Family};
use super::dut::{self, Sockets, Turnpike};
use super::error::Error;
use super::progress::Progress;
use super::topology::{Side, traffic};
use crate::traffic::{
    Arrival, Length, Live, Load, Observer, Outcome, Setup, Sizes, Stamp, Station, StationError, Tag, Tags,
    Traffic, Verdict, is_pci, run,
};

/// How long links may take to come up, and the device to forward.
const PATIENCE: Duration = Duration::from_secs(10);

/// All that a run needs.
pub struct Rig {
    station: Station,
    turnpike: Option<Turnpike>,
    /// The sides of the device; one when frames come back on the port that sent them.
    pub sides: Vec<Side>,
    /// The names of the ports.
    pub devices: Vec<String>,
    /// Whether the ports are physical.
    pub physical: bool,
    /// Routers on the way.
    hops: u8,
    stop: Arc<AtomicBool>,
    number: u16,
    /// Progress and time left.
    pub progress: Progress,
    drain: Duration,
    wrong: WrongHeader,
    verbose: bool,
}

/// Notes frames that came back intact, but not as the tester's port should get them.
#[derive(Debug)]
struct WrongHeader {
    /// Tags and MAC address that frames must have on each port.
    right: Vec<(Tags, [u8; 6])>,
    frames: u64,
}

impl Observer for WrongHeader {
    #[inline]
    fn arrived(&mut self, arrival: &Arrival<'_>, _: Stamp, port: usize, _: Verdict, _: u64) {
        let right = self.right.get(port).is_some_and(|(tags, mac)| {
            // The device may set priorities: only type and VLAN id count.
            let id = |tag: Tag| (tag.tpid, tag.tci & 0xfff);
            arrival.dst_mac() == *mac && arrival.tags().map(|tag| tag.map(id)) == tags.map(|tag| tag.map(id))
        });
        self.frames += u64::from(!right);
    }
}

impl Rig {
    /// Opens the ports, and starts the device if it is ours.
    ///
    /// # Errors
    /// See [`Error`].
    pub fn open(args: &Args, packet: u16, stop: Arc<AtomicBool>) -> Result<Self, Error> {
        let sockets = match args.dut {
            Some(Dut::Turnpike) => Some(Sockets::new(args.link)?),
            _ => None,
        };
        let devices = match (&sockets, args.dut) {
            (Some(sockets), _) => sockets.tester_devices(),
            (None, Some(Dut::Loopback)) => vec!["net_ring0".to_owned()],
            (None, _) if args.ports.len() == 2 => args.ports.clone(),
            (None, _) => return Err(Error::NoPorts),
        };
        let mut eal_args: Vec<String> = args.eal.split_whitespace().map(str::to_owned).collect();
        if devices.iter().any(|device| device.starts_with("net_virtio_user")) {
            // Each vhost region is one file, of which there can be eight.
            eal_args.push("--single-file-segments".into());
        }
        let setup = Setup {
            devices: devices.clone(),
            eal_args,
            descriptors: args.descriptors,
            rx_queues: 1,
            packet,
            no_huge: args.no_huge,
            when_full: args.when_full,
        };
        let loopback = args.dut == Some(Dut::Loopback);
        let mut sides = Vec::new();
        if let Some(sockets) = &sockets {
            for (i, mac) in dut::TESTER.into_iter().enumerate() {
                sides.push(Side::new(args, i, mac, Some(sockets.gateway(i)))?);
            }
        }
        let mut sockets = sockets;
        let mut turnpike = None;
        if let Some(first) = sockets.take_if(|sockets| sockets.turnpike_first()) {
            turnpike =
                Some(listening(Turnpike::start(args, first, &sides, packet.max(1500))?, &devices, &stop)?);
        }
        let station = Station::open(&setup)?;
        if let Some(second) = sockets {
            turnpike = Some(Turnpike::start(args, second, &sides, packet.max(1500))?);
        } else if turnpike.is_none() {
            for (i, info) in station.infos().enumerate() {
                sides.push(Side::new(args, i, info.mac, loopback.then_some(info.mac))?);
            }
        }
        // In a loop the frame comes back to the "gateway", which is the port itself.
        let right =
            sides.iter().map(|side| (side.tags.0, if loopback { side.gateway } else { side.mac })).collect();
        let mut rig = Self {
            station,
            turnpike,
            sides,
            physical: devices.iter().any(|device| is_pci(device)),
            devices,
            hops: if loopback { 0 } else { args.hops },
            stop,
            number: 0,
            progress: Progress::new(std::io::stderr().is_terminal()),
            drain: args.drain_time(),
            wrong: WrongHeader { right, frames: 0 },
            verbose: args.verbose,
        };
        let (station, turnpike, stop) = (&rig.station, &mut rig.turnpike, &rig.stop);
        station.wait_for_links(PATIENCE, || alive(turnpike.as_mut(), stop))?;
        Ok(rig)
    }

    /// Speed of the slower link in bit/s, where it is known.
    pub fn speed(&self) -> Option<f64> {
        (0..self.devices.len()).filter_map(|port| self.station.speed(port)).reduce(f64::min)
    }

    /// Frames that the tester's receive queue holds.
    pub fn queue(&self) -> f64 {
        let memif =
            self.turnpike.is_some() && self.devices.iter().all(|device| device.starts_with("net_memif"));
        if memif { f64::from(1 << dut::RSIZE) } else { f64::from(self.station.descriptors()) }
    }

    /// The names of the drivers.
    pub fn drivers(&self) -> Vec<String> {
        self.station.infos().map(|info| info.driver.clone()).collect()
    }

    /// What share of its core the worker of our own turnpike takes while nothing comes, 0 to 1.
    pub fn idle_share(&self, during: Duration) -> Option<f64> {
        let (start, before) = (Instant::now(), self.turnpike.as_ref()?.worker_time()?);
        std::thread::sleep(during);
        let after = self.turnpike.as_ref()?.worker_time()?;
        Some((after.saturating_sub(before)).as_secs_f64() / start.elapsed().as_secs_f64())
    }

    /// Where our own turnpike can be asked.
    pub fn api(&self) -> Option<std::path::PathBuf> {
        self.turnpike.as_ref().map(Turnpike::api)
    }

    /// Runs one trial.
    ///
    /// # Errors
    /// [`Error::Interrupted`], or the device has ended.
    pub fn trial(
        &mut self,
        traffic: &Traffic,
        rate: f64,
        length: Length,
        latency_every: Option<u32>,
    ) -> Result<Outcome, Error> {
        let outcome = self.unchecked(traffic, rate, length, latency_every, self.drain);
        if self.verbose {
            self.progress.clear();
            eprintln!("perf: {}", told(rate, &outcome));
        }
        alive(self.turnpike.as_mut(), &self.stop)?;
        // A signal that came as the trial ended has not changed it.
        if outcome.stopped { Err(Error::Interrupted) } else { Ok(outcome) }
    }

    fn unchecked(
        &mut self,
        traffic: &Traffic,
        rate: f64,
        length: Length,
        latency_every: Option<u32>,
        drain: Duration,
    ) -> Outcome {
        self.number = self.number.wrapping_add(1);
        let receive = (1 << self.sides.len()) - 1;
        let load = Load { rate, length, drain, latency_every, hops: self.hops, receive, rest: None };
        let live = Live::default();
        let (station, stop, number) = (&mut self.station, &self.stop, self.number);
        let expected = match length {
            Length::Time(time) => time,
            _ => Duration::ZERO,
        };
        self.wrong.frames = 0;
        let wrong = &mut self.wrong;
        self.progress.during(&live, expected, || run(station, traffic, number, &load, stop, &live, wrong))
    }

    /// Sends a few frames of every flow until all come back.
    ///
    /// # Errors
    /// [`Error::NothingBack`] when none does within some seconds.
    pub fn reach(&mut self, args: &Args, family: Family) -> Result<(), Error> {
        let traffic = traffic(args, &self.sides, family, Sizes::Fixed(128))?;
        let start = Instant::now();
        let frames = u64::from(args.flows);
        let mut sent = 0;
        loop {
            let outcome =
                self.unchecked(&traffic, 1e5, Length::Frames(frames), None, Duration::from_millis(50));
            alive(self.turnpike.as_mut(), &self.stop)?;
            sent += outcome.total.sent;
            if outcome.total.received > 0 && self.wrong.frames > 0 {
                return Err(Error::WrongHeader {
                    frames: self.wrong.frames,
                    received: outcome.total.received,
                });
            }
            if outcome.total.received > 0 && (outcome.total.is_clean() || start.elapsed() > PATIENCE / 2) {
                return Ok(());
            }
            if start.elapsed() > PATIENCE {
                let port =
                    |i: usize| self.devices.get(i).or(self.devices.last()).cloned().unwrap_or_default();
                let short = |device: String| device.split(',').next().unwrap_or_default().to_owned();
                let (from, to) = (short(port(0)), short(port(1)));
                let check = self.advice(&outcome, family);
                return Err(Error::NothingBack { from, to, sent, seconds: PATIENCE.as_secs(), check });
            }
            std::thread::sleep(Duration::from_millis(100));
        }
    }

    /// What to look at when nothing comes back, by what does.
    fn advice(&self, outcome: &Outcome, family: Family) -> String {
        let family = family.name();
        if outcome.refused == outcome.total.sent {
            return "The port takes no frames: nobody reads at its other end.".into();
        }
        if outcome.total.misdirected > 0 {
            return "They come back on the port that sent them: check the device's routes, and the order of A and B."
                .into();
        }
        if outcome.total.corrupt > 0 {
            return "They come back changed: check --hops (the number of routers on the way), and that nothing \
                    translates addresses."
                .into();
        }
        let seen = if outcome.foreign > 0 {
            format!(" ({} other frames came, so the cable is not the reason)", outcome.foreign)
        } else {
            String::new()
        };
        format!(
            "Check{seen}: the tags (--a-tags, --b-tags), the device's MAC address (--a-gateway), its {family} route \
             towards B and its neighbour there, and what it drops: `turnpike show drops`{}",
            self.api().map(|api| format!(" --socket {}", api.display())).unwrap_or_default()
        )
    }
}

/// Waits until a turnpike listens on both links.
fn listening(mut turnpike: Turnpike, devices: &[String], stop: &AtomicBool) -> Result<Turnpike, Error> {
    let start = Instant::now();
    while !turnpike.listens() {
        alive(Some(&mut turnpike), stop)?;
        if start.elapsed() > PATIENCE {
            let check = "turnpike runs, but does not listen there";
            let device = devices.join(" and ");
            return Err(StationError::LinkDown { device, seconds: PATIENCE.as_secs(), check }.into());
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    Ok(turnpike)
}

/// A trial in a line.
fn told(rate: f64, outcome: &Outcome) -> String {
    format!(
        "asked {:.4} Mpps, sent {:.4} for {:.3} s, back {:.4}, lost {} ({} refused), reordered {}, duplicates {}, corrupt \
         {}, stragglers {}, foreign {}; the tester missed {:.2} %, longest gap {:.0} us",
        rate / 1e6,
        outcome.offered() / 1e6,
        outcome.seconds,
        outcome.delivered() / 1e6,
        outcome.total.lost(),
        outcome.refused,
        outcome.total.reordered,
        outcome.total.duplicates,
        outcome.total.corrupt,
        outcome.stragglers,
        outcome.foreign,
        outcome.shortfall() * 100.0,
        outcome.longest_gap * 1e6
    )
}

fn alive(turnpike: Option<&mut Turnpike>, stop: &AtomicBool) -> Result<(), Error> {
    if stop.load(Ordering::Relaxed) {
        return Err(Error::Interrupted);
    }
    turnpike.map_or(Ok(()), Turnpike::alive)
}
