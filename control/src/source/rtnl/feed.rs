//! The way to the control thread: a bounded channel for each source's thread, and what is counted on the way.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use crossbeam::channel::{Receiver, Sender, TrySendError, bounded};

use crate::source::SourceEvent;

/// Batches that wait for the control thread. What comes beyond waits in the source, where changes to a prefix become
/// one.
const WAITING: usize = 16;

/// What one source has done, for whoever shows it.
#[derive(Debug, Default)]
pub struct Stats {
    /// Whether it is connected.
    pub up: AtomicBool,
    /// Prefixes that it has announced and not withdrawn.
    pub routes: AtomicU64,
    /// Prefixes announced, or changed.
    pub announced: AtomicU64,
    /// Prefixes withdrawn.
    pub withdrawn: AtomicU64,
    /// Prefixes that wait for the control thread.
    pub pending: AtomicU64,
    /// Routes that were not taken, since they lead nowhere that we can send to.
    pub refused: AtomicU64,
    /// Messages that could not be read.
    pub malformed: AtomicU64,
    /// Connections, or reads of the whole table.
    pub starts: AtomicU64,
    /// How long the last change waited until the control thread took it, in microseconds.
    lag: AtomicU64,
    last_error: Mutex<Option<String>>,
}

impl Stats {
    /// Notes what went wrong.
    pub fn set_error(&self, error: String) {
        *self.last_error.lock().unwrap_or_else(PoisonError::into_inner) = Some(error);
    }

    /// What went wrong last.
    pub fn last_error(&self) -> Option<String> {
        self.last_error.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// How long the last change waited.
    pub fn lag(&self) -> Duration {
        Duration::from_micros(self.lag.load(Ordering::Relaxed))
    }
}

/// Adds to a counter.
pub(crate) fn add(counter: &AtomicU64, n: usize) {
    counter.fetch_add(n as u64, Ordering::Relaxed);
}

/// Some changes of a source, on their way.
#[derive(Debug)]
pub struct Batch {
    /// What changes.
    pub event: SourceEvent,
    /// When the oldest of it came.
    pub since: Instant,
    /// The source's counters.
    pub stats: Arc<Stats>,
}

impl Batch {
    /// The control thread has taken it.
    pub fn taken(&self) {
        self.stats.lag.store(self.since.elapsed().as_micros() as u64, Ordering::Relaxed);
    }
}

/// The source's end of the channel.
#[derive(Debug)]
pub struct Feed {
    sender: Sender<Batch>,
    next: Option<Batch>,
}

impl Feed {
    /// A channel.
    pub fn new() -> (Self, Receiver<Batch>) {
        let (sender, receiver) = bounded(WAITING);
        (Self { sender, next: None }, receiver)
    }

    /// Sends what `make` gives until it has no more, or the channel has no room. Whether the control thread is there.
    pub fn fill(&mut self, mut make: impl FnMut() -> Option<Batch>) -> bool {
        while let Some(batch) = self.next.take().or_else(&mut make) {
            match self.sender.try_send(batch) {
                Ok(()) => {}
                Err(TrySendError::Full(batch)) => {
                    self.next = Some(batch);
                    return true;
                }
                Err(TrySendError::Disconnected(_)) => return false,
            }
        }
        true
    }

    /// Whether something waits for room.
    pub fn is_waiting(&self) -> bool {
        self.next.is_some()
    }
}
