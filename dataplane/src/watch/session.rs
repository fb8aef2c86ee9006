//! One trace or capture: what it wants, and the records that go round between workers and control.

use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use crossbeam::queue::ArrayQueue;
use crossbeam::utils::CachePadded;

use super::program::Program;
use super::record::Record;
use crate::counters::Counter;
use crate::ids::{PortId, SubIfId};

/// What a session wants to have recorded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum What {
    /// Each packet once: as it came, with all that was decided about it.
    Trace,
    /// Frames.
    Capture {
        /// As they were received.
        received: bool,
        /// As they were sent.
        sent: bool,
        /// Those that were dropped: as received, or, where the TX queue had no room, as they were to be sent.
        dropped: bool,
    },
}

/// Where frames are looked at. A packet that is traced is looked at where it came in and where it goes out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// Everywhere.
    Anywhere,
    /// On this port.
    Port(PortId),
    /// On this sub-interface of this port.
    SubInterface(PortId, SubIfId),
}

impl Place {
    /// Whether a frame on this port, and as far as is known on this sub-interface, is there.
    pub(super) fn is(self, port: PortId, sub_if: Option<SubIfId>) -> bool {
        match self {
            Self::Anywhere => true,
            Self::Port(here) => here == port,
            Self::SubInterface(here, id) => here == port && sub_if == Some(id),
        }
    }

    /// Whether a frame on this port may be there, its sub-interface not being known yet.
    pub(super) fn may_be(self, port: PortId) -> bool {
        match self {
            Self::Anywhere => true,
            Self::Port(here) | Self::SubInterface(here, _) => here == port,
        }
    }
}

/// What one worker counts of one port.
#[derive(Debug, Default)]
struct PortCounts {
    matched: Counter,
    missed: Counter,
}

/// Frames that matched and, among them, those for which there was no free record.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Counts {
    /// Frames that matched.
    pub matched: u64,
    /// Those of them that were not recorded.
    pub missed: u64,
}

/// One worker's records.
#[derive(Debug)]
struct Stock {
    free: ArrayQueue<Box<Record>>,
    full: ArrayQueue<Box<Record>>,
    ports: Box<[PortCounts]>,
}

/// A trace or capture that workers serve as long as it is open.
#[derive(Debug)]
pub struct Session {
    what: What,
    place: Place,
    program: Program,
    open: AtomicBool,
    stocks: Box<[CachePadded<Stock>]>,
}

impl Session {
    /// A session for so many workers and ports. Each worker has `records` records of `snaplen` bytes of a frame each;
    /// all of that is allocated here.
    pub fn new(
        what: What,
        place: Place,
        program: Program,
        workers: usize,
        ports: usize,
        records: usize,
        snaplen: usize,
    ) -> Self {
        let stock = || {
            let records = records.max(1);
            let stock = Stock {
                free: ArrayQueue::new(records),
                full: ArrayQueue::new(records),
                ports: (0..ports).map(|_| PortCounts::default()).collect(),
            };
            for _ in 0..records {
                // There is room for as many as there are.
                let _ = stock.free.push(Box::new(Record::new(snaplen)));
            }
            CachePadded::new(stock)
        };
        Self {
            what,
            place,
            program,
            open: AtomicBool::new(true),
            stocks: (0..workers).map(|_| stock()).collect(),
        }
    }

    /// What is recorded.
    pub fn what(&self) -> What {
        self.what
    }

    pub(super) fn place(&self) -> Place {
        self.place
    }

    pub(super) fn program(&self) -> &Program {
        &self.program
    }

    /// Whether workers still look for packets.
    pub fn is_open(&self) -> bool {
        self.open.load(Relaxed)
    }

    /// Workers stop with their next burst.
    pub fn close(&self) {
        self.open.store(false, Relaxed);
    }

    /// How many workers it is for.
    pub fn workers(&self) -> usize {
        self.stocks.len()
    }

    /// Hands up to `limit` records of one worker to `take`, oldest first. Returns how many there were.
    pub fn drain(&self, worker: usize, limit: usize, mut take: impl FnMut(&Record)) -> usize {
        let Some(stock) = self.stocks.get(worker) else { return 0 };
        for count in 0..limit {
            let Some(record) = stock.full.pop() else { return count };
            take(&record);
            let _ = stock.free.push(record);
        }
        limit
    }

    /// What was counted of a port.
    pub fn counts(&self, port: PortId) -> Counts {
        let of_port = self.stocks.iter().filter_map(|stock| stock.ports.get(usize::from(port.0)));
        of_port.fold(Counts::default(), |sum, counts| Counts {
            matched: sum.matched + counts.matched.get(),
            missed: sum.missed + counts.missed.get(),
        })
    }

    /// A free record of this worker.
    pub(super) fn free(&self, worker: usize) -> Option<Box<Record>> {
        self.stocks.get(worker)?.free.pop()
    }

    /// Gives a record back unused.
    pub(super) fn give_back(&self, worker: usize, record: Box<Record>) {
        if let Some(stock) = self.stocks.get(worker) {
            let _ = stock.free.push(record);
        }
    }

    /// Hands over what matched on `port`; without a record it was missed.
    pub(super) fn hand_over(&self, worker: usize, port: PortId, record: Option<Box<Record>>) {
        let Some(stock) = self.stocks.get(worker) else { return };
        let missed = match record {
            Some(record) => stock.full.push(record).is_err(),
            None => true,
        };
        if let Some(counts) = stock.ports.get(usize::from(port.0)) {
            counts.matched.add(1);
            counts.missed.add(u64::from(missed));
        }
    }
}
