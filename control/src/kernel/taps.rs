//! All TAPs of the program: one thread reads what the kernel sends, the control thread writes.

use std::collections::HashMap;
use std::os::fd::AsFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::JoinHandle;

use crossbeam::channel::Sender;
use dataplane::ids::SubIfId;
use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;

use super::error::KernelError;
use super::tap::Tap;
use super::wake::Wake;

/// No frame is longer: the MTU of a TAP ends at 65521.
const LONGEST_FRAME: usize = 65536;

/// Frames read from one TAP before the next has its turn.
const TURN: usize = 32;

/// An Ethernet frame that the kernel sent on a TAP.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TapFrame {
    /// The sub-interface of the TAP.
    pub interface: SubIfId,
    /// From the destination MAC on, without FCS.
    pub frame: Vec<u8>,
}

/// What became of a frame for the kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum WriteOutcome {
    /// The kernel has it.
    Written,
    /// The kernel had no room; the frame is lost.
    Full,
    /// The TAP is administratively down; the frame is lost.
    Down,
    /// The kernel did not take it for a frame (shorter than an Ethernet header); it is lost.
    Malformed,
    /// The sub-interface has no TAP, or somebody deleted it; the frame is lost.
    NoTap,
}

/// What went over one TAP.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TapCounters {
    /// Frames that the kernel sent, and that were handed on.
    pub from_kernel: u64,
    /// Frames that the kernel sent, lost since the channel was full.
    pub overflowed: u64,
    /// Frames that the kernel took.
    pub to_kernel: u64,
    /// Frames that the kernel did not take.
    pub refused: u64,
}

#[derive(Debug, Default)]
struct Counters {
    from_kernel: AtomicU64,
    overflowed: AtomicU64,
    to_kernel: AtomicU64,
    refused: AtomicU64,
}

#[derive(Debug)]
struct Port {
    interface: SubIfId,
    tap: Tap,
    counters: Counters,
}

/// The TAPs with their thread. Dropping it ends the thread, then removes the TAPs.
#[derive(Debug)]
pub(super) struct Taps {
    ports: Arc<[Port]>,
    position: HashMap<SubIfId, usize>,
    wake: Arc<Wake>,
    thread: Option<JoinHandle<()>>,
}

impl Taps {
    /// Starts to read `taps`; frames go to `frames`.
    pub(super) fn start(taps: Vec<(SubIfId, Tap)>, frames: Sender<TapFrame>) -> Result<Self, KernelError> {
        let thread_error = |source| KernelError::Thread { name: "taps".into(), source };
        let ports: Arc<[Port]> = taps
            .into_iter()
            .map(|(interface, tap)| Port { interface, tap, counters: Counters::default() })
            .collect();
        let position = ports.iter().enumerate().map(|(at, port)| (port.interface, at)).collect();
        let wake = Arc::new(Wake::new().map_err(thread_error)?);
        let thread = std::thread::Builder::new()
            .name("taps".into())
            .spawn({
                let (ports, wake) = (Arc::clone(&ports), Arc::clone(&wake));
                move || read_all(&ports, &wake, &frames)
            })
            .map_err(thread_error)?;
        Ok(Self { ports, position, wake, thread: Some(thread) })
    }

    fn port(&self, interface: SubIfId) -> Option<&Port> {
        self.ports.get(*self.position.get(&interface)?)
    }

    /// Hands a frame to the kernel as received on the sub-interface. Does not block.
    pub(super) fn write(&self, interface: SubIfId, frame: &[u8]) -> WriteOutcome {
        let Some(port) = self.port(interface) else { return WriteOutcome::NoTap };
        let outcome = match port.tap.write(frame) {
            Ok(()) => WriteOutcome::Written,
            Err(Errno::IO) => WriteOutcome::Down,
            Err(Errno::INVAL) => WriteOutcome::Malformed,
            Err(Errno::BADFD) => WriteOutcome::NoTap,
            Err(_) => WriteOutcome::Full,
        };
        let counter = match outcome {
            WriteOutcome::Written => &port.counters.to_kernel,
            _ => &port.counters.refused,
        };
        counter.fetch_add(1, Ordering::Relaxed);
        outcome
    }

    /// Raises or drops the TAP's carrier.
    pub(super) fn set_carrier(&self, interface: SubIfId, up: bool) -> Result<(), KernelError> {
        let port = self.port(interface).ok_or(KernelError::UnknownInterface(interface))?;
        port.tap
            .set_carrier(up)
            .map_err(|errno| KernelError::Tap { name: port.tap.name().into(), source: errno.into() })
    }

    /// What went over each TAP so far.
    pub(super) fn counters(&self) -> Vec<(SubIfId, TapCounters)> {
        let load = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let counters = |port: &Port| TapCounters {
            from_kernel: load(&port.counters.from_kernel),
            overflowed: load(&port.counters.overflowed),
            to_kernel: load(&port.counters.to_kernel),
            refused: load(&port.counters.refused),
        };
        self.ports.iter().map(|port| (port.interface, counters(port))).collect()
    }
}

impl Drop for Taps {
    fn drop(&mut self) {
        self.wake.stop();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// The thread: reads every TAP that has something until told to stop.
fn read_all(ports: &[Port], wake: &Wake, frames: &Sender<TapFrame>) {
    let mut buffer = vec![0; LONGEST_FRAME];
    let mut live: Vec<&Port> = ports.iter().collect();
    let mut waiting: Vec<PollFd<'_>> = Vec::with_capacity(live.len() + 1);
    while !wake.stopping() {
        waiting.clear();
        waiting.push(PollFd::from_borrowed_fd(wake.as_fd(), PollFlags::IN));
        waiting.extend(live.iter().map(|port| PollFd::from_borrowed_fd(port.tap.as_fd(), PollFlags::IN)));
        match poll(&mut waiting, None) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(errno) => {
                tracing::error!(
                    "cannot wait for the TAPs: {errno}; the kernel's own packets are not sent any more"
                );
                return;
            }
        }
        let mut ready = waiting.iter().skip(1).map(|fd| !fd.revents().is_empty());
        live.retain(|port| !ready.next().unwrap_or(false) || read_turn(port, &mut buffer, frames));
    }
}

/// Reads what a TAP has, up to a [`TURN`]; false when the TAP is lost.
fn read_turn(port: &Port, buffer: &mut [u8], frames: &Sender<TapFrame>) -> bool {
    for _ in 0..TURN {
        match port.tap.read(buffer) {
            Ok(length) => {
                let frame = buffer.get(..length).unwrap_or_default().to_vec();
                let counter = match frames.try_send(TapFrame { interface: port.interface, frame }) {
                    Ok(()) => &port.counters.from_kernel,
                    Err(_) => &port.counters.overflowed,
                };
                counter.fetch_add(1, Ordering::Relaxed);
            }
            Err(Errno::AGAIN) => return true,
            Err(errno) => {
                tracing::error!(
                    "the TAP `{}` is lost ({errno}): somebody deleted it or its namespace; restart turnpike to have \
                     it again",
                    port.tap.name()
                );
                return false;
            }
        }
    }
    true
}
