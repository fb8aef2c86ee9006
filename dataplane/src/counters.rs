//! Counters: written by one worker each, read and summed by control at any time.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use crossbeam::utils::CachePadded;

use crate::histogram::Histogram;
use crate::ids::{PortId, SubIfId};
use crate::verdict::{DropReason, PuntReason};

/// A counter with one writer. It may be read by anyone, and wraps after 2⁶⁴.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// Adds `n`. Only the owning worker calls this: it is a load and a store, not a locked instruction.
    pub fn add(&self, n: u64) {
        self.0.store(self.0.load(Relaxed).wrapping_add(n), Relaxed);
    }

    /// Puts `n` in the place of its value. Only its writer calls this.
    pub fn set(&self, n: u64) {
        self.0.store(n, Relaxed);
    }

    /// Its value.
    pub fn get(&self) -> u64 {
        self.0.load(Relaxed)
    }
}

/// What one worker counts of one port, for packets received there. At any moment when the worker is between
/// bursts: `received = forwarded + punted + sum(dropped)`.
#[derive(Debug)]
pub struct PortCounters {
    /// Packets received.
    pub received: Counter,
    /// Bytes received, L2 without FCS.
    pub received_bytes: Counter,
    /// Packets received here and handed to a TX queue of any port.
    pub forwarded: Counter,
    /// Packets received here and handed to the control thread, by reason.
    pub punted: [Counter; PuntReason::COUNT],
    /// Packets received here and dropped, by reason.
    pub dropped: [Counter; DropReason::COUNT],
    /// Packets handed to this port's TX queue, the control thread's included.
    pub sent: Counter,
    /// Bytes handed to this port's TX queue, L2 without FCS.
    pub sent_bytes: Counter,
    /// Packets of the control thread that this port's TX queue had no room for.
    pub inject_dropped: Counter,
}

impl Default for PortCounters {
    fn default() -> Self {
        Self {
            received: Counter::default(),
            received_bytes: Counter::default(),
            forwarded: Counter::default(),
            punted: std::array::from_fn(|_| Counter::default()),
            dropped: std::array::from_fn(|_| Counter::default()),
            sent: Counter::default(),
            sent_bytes: Counter::default(),
            inject_dropped: Counter::default(),
        }
    }
}

/// Packets and bytes in one direction.
#[derive(Debug, Default)]
pub struct Traffic {
    /// Packets.
    pub packets: Counter,
    /// Bytes of the frames, without FCS, with tags.
    pub l2_bytes: Counter,
    /// Bytes of the IP packets.
    pub l3_bytes: Counter,
}

impl Traffic {
    /// Counts `packets` packets of so many bytes in all.
    pub fn add(&self, packets: u64, l2_bytes: u64, l3_bytes: u64) {
        self.packets.add(packets);
        self.l2_bytes.add(l2_bytes);
        self.l3_bytes.add(l3_bytes);
    }
}

/// What one worker counts of one sub-interface.
#[derive(Debug, Default)]
pub struct SubInterfaceCounters {
    /// Received, whatever became of it.
    pub received: Traffic,
    /// Sent.
    pub sent: Traffic,
}

/// How one worker spends its time.
#[derive(Debug, Default)]
pub struct WorkCounters {
    /// RX polls.
    pub polls: Counter,
    /// RX polls that brought nothing.
    pub empty_polls: Counter,
    /// Packets received.
    pub packets: Counter,
    /// Cycles (of the time-stamp counter) in polls that brought packets, from poll to transmission.
    pub busy_cycles: Counter,
    /// Cycles in all.
    pub cycles: Counter,
    /// Cycles from one round of polls to the next, sleep aside: what passes between looks at the queues.
    pub rounds: Histogram,
}

/// All that one worker counts.
#[derive(Debug)]
pub struct WorkerCounters {
    ports: Box<[CachePadded<PortCounters>]>,
    sub_interfaces: Box<[CachePadded<SubInterfaceCounters>]>,
    /// How it spends its time.
    pub work: CachePadded<WorkCounters>,
    spare_port: CachePadded<PortCounters>,
    spare_sub_interface: CachePadded<SubInterfaceCounters>,
}

impl WorkerCounters {
    /// Counters for so many ports and sub-interfaces.
    pub fn new(ports: usize, sub_interfaces: usize) -> Self {
        Self {
            ports: (0..ports).map(|_| CachePadded::default()).collect(),
            sub_interfaces: (0..sub_interfaces).map(|_| CachePadded::default()).collect(),
            work: CachePadded::default(),
            spare_port: CachePadded::default(),
            spare_sub_interface: CachePadded::default(),
        }
    }

    /// Those of a port. An id out of range gets counters that nobody shows.
    pub fn port(&self, id: PortId) -> &PortCounters {
        self.ports.get(usize::from(id.0)).unwrap_or(&self.spare_port)
    }

    /// Those of a sub-interface. An id out of range gets counters that nobody shows.
    pub fn sub_interface(&self, id: SubIfId) -> &SubInterfaceCounters {
        self.sub_interfaces.get(usize::from(id.0)).unwrap_or(&self.spare_sub_interface)
    }
}
