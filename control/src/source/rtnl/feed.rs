//! The way to the control thread, and what is counted on it.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::source::SourceEvent;
use crate::source::queue::{Feed, FeedError};

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
    /// Prefixes that wait for room in the queue.
    pub pending: AtomicU64,
    /// Routes that were not taken, since they lead nowhere that we can send to.
    pub refused: AtomicU64,
    /// Messages that could not be read.
    pub malformed: AtomicU64,
    /// Connections, or reads of the whole table.
    pub starts: AtomicU64,
    /// How long the last change waited for room in the queue, in microseconds.
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

    /// How long the last change waited for room in the queue.
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
    /// What changes, of all its tables.
    pub events: Vec<SourceEvent>,
    /// When the oldest of it came.
    pub since: Instant,
    /// The counters of its tables.
    pub stats: Vec<Arc<Stats>>,
}

/// A source's way to its queue, which it fills without ever waiting for room.
#[derive(Debug)]
pub struct Outlet {
    feed: Feed,
    /// What there was no room for.
    next: Option<Batch>,
}

impl Outlet {
    /// Into this queue.
    pub fn new(feed: Feed) -> Self {
        Self { feed, next: None }
    }

    /// Sends what `make` gives until it has no more, or the queue has no room. Whether the control thread is there.
    pub fn fill(&mut self, mut make: impl FnMut() -> Option<Batch>) -> bool {
        while let Some(mut batch) = self.next.take().or_else(&mut make) {
            match self.feed.send(std::mem::take(&mut batch.events), Duration::ZERO) {
                Ok(()) => {
                    let lag = batch.since.elapsed().as_micros() as u64;
                    batch.stats.iter().for_each(|stats| stats.lag.store(lag, Ordering::Relaxed));
                }
                Err(FeedError::Full(events)) => {
                    self.next = Some(Batch { events, ..batch });
                    return true;
                }
                Err(FeedError::Closed) => return false,
            }
        }
        true
    }

    /// Whether something waits for room.
    pub fn is_waiting(&self) -> bool {
        self.next.is_some()
    }
}
