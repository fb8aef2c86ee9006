//! The rig: a generator of numbered frames on cables to a turnpike's ports, for the cases in which frames are counted.
//! The generator shares a core with all but the worker, or, where that is to be told apart from its own waiting, with a
//! worker that sleeps when it has nothing to do.

use std::net::Ipv4Addr;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use super::feed::Prefix;
use super::lab::{Favour, Lab, Stop};
use super::ours::Turnpike;
use super::probe;
use super::subject::Subject as _;
use crate::traffic::{
    self, Flow, Layer2, Length, Live, Load, Observer, Outcome, Setup, Sizes, Station, StationError, Traffic,
    WhenFull,
};

/// Bytes of a frame.
const FRAME: u16 = 128;
/// How long the generator rests when it has nothing to do and shares a core with a worker; the system makes it about twice
/// as long.
const REST: Duration = Duration::from_micros(50);

/// The MAC address of a port: turnpike's, and the tester's at the other end of the cable.
fn port_mac(side: usize, tester: bool) -> [u8; 6] {
    [2, 0, 0, 1, side as u8, 1 + u8::from(tester)]
}

/// The MAC address of a neighbour beyond the tester's ports.
pub fn neighbour_mac(number: u8) -> [u8; 6] {
    [2, 0, 0, 2, 0, number]
}

/// As configurations and `ip` have it.
pub fn mac_text(bytes: [u8; 6]) -> String {
    bytes.map(|byte| format!("{byte:02x}")).join(":")
}

/// Cables (memif), whose rings hold two to the power of `ring` frames.
pub struct Cables<'a> {
    pub lab: &'a Lab,
    pub ring: u8,
    /// Workers of the turnpike, each of which has a queue of its own on each port.
    pub workers: usize,
}

impl Cables<'_> {
    /// A port's device string, at the tester's end of a cable or at ours.
    fn device(&self, side: usize, tester: bool) -> String {
        let role = if tester { "server" } else { "client" };
        format!(
            "net_memif{side},role={role},id={side},socket={},socket-abstract=no,rsize={},mac={}",
            self.lab.path(&format!("cable{side}.sock")).display(),
            self.ring,
            mac_text(port_mac(side, tester))
        )
    }

    /// The tester's ends of so many.
    pub fn open(&self, count: usize) -> Result<Station, StationError> {
        let arguments = "--in-memory --no-pci --no-telemetry --log-level=1";
        Station::open(&Setup {
            devices: (0..count).map(|side| self.device(side, true)).collect(),
            eal_args: arguments.split(' ').map(str::to_owned).collect(),
            descriptors: 1 << self.ring,
            rx_queues: self.workers as u16,
            packet: 1500,
            no_huge: false,
            when_full: WhenFull::Drop,
        })
    }

    /// turnpike's ports, each with an interface: its name and addresses, as TOML has them.
    pub fn ports(&self, interfaces: &[(&str, &str)]) -> String {
        let port = |(side, (name, addresses)): (usize, &(&str, &str))| {
            format!(
                "[[port]]\nname = \"p{side}\"\ndevice = \"{}\"\nqueues = 1\ndescriptors = {}\n[[interface]]\n\
                 name = \"{name}\"\nport = \"p{side}\"\naddresses = [{addresses}]\n",
                self.device(side, false),
                1 << self.ring
            )
        };
        interfaces.iter().enumerate().map(port).collect()
    }
}

/// A neighbour that the configuration has.
pub fn neighbour(interface: &str, address: &str, mac: [u8; 6]) -> String {
    let mac = mac_text(mac);
    format!("[[neighbour]]\ninterface = \"{interface}\"\naddress = \"{address}\"\nmac = \"{mac}\"\n")
}

/// Flow `number`, in at the first port, to an address of `prefix`; out at one of the ports `to` (bits).
pub fn flow(number: usize, prefix: Prefix, to: u32) -> Flow {
    Flow {
        from: 0,
        to,
        l2: Layer2 { dst: port_mac(0, false), src: port_mac(0, true), tags: [None; 2] },
        src: Ipv4Addr::new(192, 0, 2, 10).into(),
        dst: probe::address(prefix),
        src_port: 20_000 + number as u16,
        dst_port: 7,
        hop_limit: 64,
    }
}

/// The same flow the other way: in at the second port, to the host from which it came.
pub fn back(flow: &Flow) -> Flow {
    Flow {
        from: 1,
        to: 1,
        l2: Layer2 { dst: port_mac(1, false), src: port_mac(1, true), tags: [None; 2] },
        src: flow.dst,
        dst: flow.src,
        // The ports stay: a test frame is known by the one that it goes to.
        src_port: flow.src_port,
        dst_port: flow.dst_port,
        hop_limit: 64,
    }
}

/// The generator with what it sends.
pub struct Rig {
    pub station: Station,
    traffic: Traffic,
    /// Ports on which frames come back, as bits.
    receive: u32,
    drain: Duration,
    cores: Cores,
    number: u16,
}

/// Where the generator runs, and where the thread that is the generator is before and after.
#[derive(Clone, Copy, Debug)]
pub struct Cores {
    pub generator: usize,
    pub rest: usize,
}

impl Rig {
    pub fn new(
        station: Station,
        flows: Vec<Flow>,
        receive: u32,
        drain: Duration,
        cores: Cores,
    ) -> Result<Self, String> {
        let traffic = Traffic::new(flows, Sizes::Fixed(FRAME)).map_err(|error| error.to_string())?;
        Ok(Self { station, traffic, receive, drain, cores, number: 0 })
    }

    /// Waits for the links, and lets the workers go before all others for as long as is kept what this gives.
    pub fn connect(&self, turnpike: &mut Turnpike, stop: &Stop) -> Result<Favour, String> {
        self.station
            .wait_for_links(Duration::from_secs(10), || Ok::<(), StationError>(()))
            .map_err(|error| error.to_string())?;
        turnpike.settle(stop)?;
        Ok(Favour::workers(&turnpike.pids()))
    }

    /// One trial, with so many frames a second on each port that sends.
    pub fn run(
        &mut self,
        rate: f64,
        length: Length,
        stop: &AtomicBool,
        watch: &mut impl Observer,
    ) -> Outcome {
        self.number += 1;
        let drain = self.drain;
        // A worker that shares the core wakes every few microseconds to look for frames, and would have no time for it.
        let rest = (self.cores.generator != self.cores.rest).then_some(REST);
        let load = Load { rate, length, drain, latency_every: None, hops: 1, receive: self.receive, rest };
        crate::lpm::pin(self.cores.generator);
        let outcome =
            traffic::run(&mut self.station, &self.traffic, self.number, &load, stop, &Live::default(), watch);
        crate::lpm::pin(self.cores.rest);
        outcome
    }
}
