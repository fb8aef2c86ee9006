//! Namespaces that go away by themselves, and a started kernel side with its channels.

use std::io::Write;
use std::net::IpAddr;
use std::process::{Command, Output, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{PoisonError, RwLock};
use std::time::{Duration, Instant};

use control::kernel::{KernelSide, NeighbourEvent, NeighbourState, TapFrame, TapSpec};
use crossbeam::channel::{Receiver, bounded};
use dataplane::ids::SubIfId;

use crate::frames::Frame;

pub const MAC: [u8; 6] = [0x02, 0x54, 0x50, 0x00, 0x00, 0x01];
pub const PEER_MAC: [u8; 6] = [0x02, 0xee, 0xee, 0x00, 0x00, 0x02];
pub const A: SubIfId = SubIfId(7);
pub const B: SubIfId = SubIfId(3);

/// A network namespace, removed when dropped, even by a failing test.
pub struct Namespace(pub String);

impl Namespace {
    pub fn new() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        assert!(
            rustix::process::geteuid().is_root(),
            "these tests make network namespaces and TAPs: run them as root"
        );
        let name = format!("tpk-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        run("ip", &["netns", "add", &name]);
        Self(name)
    }

    /// `ip -n NAME ...`; its output.
    pub fn ip(&self, arguments: &str) -> String {
        let mut all = vec!["-n", self.0.as_str()];
        all.extend(arguments.split_whitespace());
        run("ip", &all)
    }

    /// The same with `-j`, parsed.
    pub fn json(&self, arguments: &str) -> serde_json::Value {
        let output = self.ip(&format!("-j {arguments}"));
        serde_json::from_str(&output).unwrap_or_else(|error| panic!("{error} in {output:?}"))
    }

    pub fn has_link(&self, name: &str) -> bool {
        self.json("link show").as_array().unwrap().iter().any(|link| link["ifname"] == name)
    }

    pub fn spec(&self, interface: SubIfId, name: &str, addresses: &[&str]) -> TapSpec {
        TapSpec {
            interface,
            name: name.into(),
            namespace: Some(self.0.clone()),
            mac: MAC,
            mtu: 1500,
            addresses: addresses.iter().map(|address| address.parse().unwrap()).collect(),
        }
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        if !run_with_input(Command::new("ip").args(["netns", "delete", &self.0]), b"").status.success() {
            eprintln!("could not delete the network namespace {}", self.0);
        }
    }
}

/// Until its exec is through, a child of another test holds our TAPs open, too, and a TAP that is removed meanwhile
/// goes only with that child's copy. (`spawn` returns before the child has closed what is close-on-exec.) Whoever has a
/// child takes this for reading, who looks whether TAPs go, for writing.
static CHILDREN: RwLock<()> = RwLock::new(());

/// Runs a program to its end, with this input.
pub fn run_with_input(command: &mut Command, input: &[u8]) -> Output {
    let _child = CHILDREN.read().unwrap_or_else(PoisonError::into_inner);
    let mut child =
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(input).unwrap();
    child.wait_with_output().unwrap()
}

/// Runs `work`, which removes TAPs, while no test has a child.
pub fn without_children<T>(work: impl FnOnce() -> T) -> T {
    let _alone = CHILDREN.write().unwrap_or_else(PoisonError::into_inner);
    work()
}

pub fn run(program: &str, arguments: &[&str]) -> String {
    let output = run_with_input(Command::new(program).args(arguments), b"");
    assert!(
        output.status.success(),
        "{program} {arguments:?}: {}",
        String::from_utf8_lossy(&output.stderr).trim()
    );
    String::from_utf8(output.stdout).unwrap()
}

/// A kernel side with the far ends of its channels.
pub struct Started {
    pub side: KernelSide,
    pub frames: Receiver<TapFrame>,
    pub neighbours: Receiver<NeighbourEvent>,
}

pub fn start(specs: Vec<TapSpec>) -> Started {
    start_with_room(specs, 1024)
}

pub fn start_with_room(specs: Vec<TapSpec>, room: usize) -> Started {
    let (frame_sender, frames) = bounded(room);
    let (neighbour_sender, neighbours) = bounded(1024);
    let side =
        KernelSide::start(specs, frame_sender, neighbour_sender).unwrap_or_else(|error| panic!("{error}"));
    Started { side, frames, neighbours }
}

impl Started {
    /// The next frame of `interface` that `pick` likes, within a time that is long; others are passed over.
    pub fn frame<T>(&self, interface: SubIfId, what: &str, pick: impl Fn(&Frame<'_>) -> Option<T>) -> T {
        self.frame_within(Duration::from_secs(20), interface, pick)
            .unwrap_or_else(|| panic!("no {what} came"))
    }

    pub fn frame_within<T>(
        &self,
        time: Duration,
        interface: SubIfId,
        pick: impl Fn(&Frame<'_>) -> Option<T>,
    ) -> Option<T> {
        let deadline = Instant::now() + time;
        while let Ok(received) = self.frames.recv_deadline(deadline) {
            if received.interface == interface
                && let Some(found) = pick(&Frame(&received.frame))
            {
                return Some(found);
            }
        }
        None
    }

    pub fn write(&self, interface: SubIfId, frame: &[u8]) {
        assert_eq!(self.side.write(interface, frame), control::kernel::WriteOutcome::Written);
    }

    /// Waits until the neighbour has a state that `wanted` likes; passes over others.
    pub fn neighbour(
        &self,
        time: Duration,
        interface: SubIfId,
        address: IpAddr,
        wanted: impl Fn(NeighbourState) -> bool,
    ) -> NeighbourState {
        let deadline = Instant::now() + time;
        let mut seen = Vec::new();
        while let Ok(event) = self.neighbours.recv_deadline(deadline) {
            if event.interface == interface && event.address == address && wanted(event.state) {
                return event.state;
            }
            seen.push(event);
        }
        panic!("{address} did not come to the wanted state; there came {seen:?}");
    }
}
