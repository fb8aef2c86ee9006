//! The queues between route sources and the control thread: one for each instance, so that none waits for another.
//!
//! A source's thread puts events in ([`Feed`]), several at once where it has read several; the control thread takes
//! from each queue in turn ([`Inbox`]). A queue is bounded by the prefixes in it, not by its events, so that long
//! messages cost no more than short ones: the source that finds its queue full waits, stops reading its peer, and TCP
//! slows the peer down. What waits is taken out in one go and applied before the FIB is written, so that many changes
//! to a prefix cost one write.

use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crossbeam::channel::{Receiver, Sender, bounded};

use super::{Nlri, RouteEvent, SourceEvent};

/// Prefixes that may wait in a queue before its source has to; one batch more may come on top.
pub const CAPACITY: usize = 32 * 1024;
/// Most prefixes of one event in a queue: between two of them the control thread looks at its clock.
const PIECE: usize = 1024;
/// How long a delay stays in [`FeedStats::max_lag`], at least.
const LAG_MEMORY: Duration = Duration::from_secs(10);

/// A source's end of its queue.
#[derive(Clone, Debug)]
pub struct Feed(Arc<Queue>);

/// The control thread's end of all queues.
#[derive(Debug)]
pub struct Inbox {
    queues: Vec<Arc<Queue>>,
    /// Whose turn it is.
    next: usize,
    alarm: Sender<()>,
    alarmed: Receiver<()>,
}

#[derive(Debug)]
struct Queue {
    capacity: usize,
    state: Mutex<State>,
    room: Condvar,
    /// Tells the control thread that there is something.
    alarm: Sender<()>,
}

#[derive(Debug)]
struct State {
    batches: VecDeque<Batch>,
    /// Prefixes in `batches`.
    prefixes: usize,
    events: usize,
    /// Whether the inbox is gone.
    closed: bool,
    last_lag: Duration,
    max_lag: (Duration, Instant),
}

#[derive(Debug)]
struct Batch {
    at: Instant,
    events: Vec<SourceEvent>,
    prefixes: usize,
}

/// How a queue does.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FeedStats {
    /// Events that wait.
    pub events: usize,
    /// Prefixes in them.
    pub prefixes: usize,
    /// How long what waits has waited, or what was taken last had.
    pub lag: Duration,
    /// The longest of the last ten seconds.
    pub max_lag: Duration,
}

/// Why events could not be put into a queue; they are given back.
#[derive(Debug, PartialEq)]
pub enum FeedError {
    /// It stayed full.
    Full(Vec<SourceEvent>),
    /// Nobody takes from it any more.
    Closed,
}

/// The same in events of no more than [`PIECE`] prefixes each.
fn in_pieces(events: Vec<SourceEvent>) -> Vec<SourceEvent> {
    if events.iter().all(|event| weight(event) <= PIECE) {
        return events;
    }
    let mut pieces = Vec::new();
    for event in events {
        let SourceEvent { source, vrf, event: RouteEvent::Update { withdrawn, announced, attributes } } =
            event
        else {
            pieces.push(event);
            continue;
        };
        let mut push = |withdrawn: &[Nlri], announced: &[Nlri]| {
            let (withdrawn, announced) = (withdrawn.to_vec(), announced.to_vec());
            let event = RouteEvent::Update { withdrawn, announced, attributes: Arc::clone(&attributes) };
            pieces.push(SourceEvent { source, vrf, event });
        };
        // Withdrawals come first within an event, and so they do here.
        withdrawn.chunks(PIECE).for_each(|piece| push(piece, &[]));
        announced.chunks(PIECE).for_each(|piece| push(&[], piece));
    }
    pieces
}

/// Prefixes of an event, at least 1.
fn weight(event: &SourceEvent) -> usize {
    match &event.event {
        RouteEvent::Update { withdrawn, announced, .. } => (withdrawn.len() + announced.len()).max(1),
        RouteEvent::HopSet { next_hops, .. } => next_hops.len().max(1),
        _ => 1,
    }
}

impl Feed {
    /// Puts in `events`, in their order, when there is room within `patience`.
    ///
    /// # Errors
    ///
    /// [`FeedError`]; nothing was put in.
    pub fn send(&self, events: Vec<SourceEvent>, patience: Duration) -> Result<(), FeedError> {
        if events.is_empty() {
            return Ok(());
        }
        let events = in_pieces(events);
        let deadline = Instant::now() + patience;
        let mut state = self.0.lock();
        while state.prefixes >= self.0.capacity && !state.closed {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(FeedError::Full(events));
            }
            state = self.0.room.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0;
        }
        if state.closed {
            return Err(FeedError::Closed);
        }
        let prefixes = events.iter().map(weight).sum();
        state.prefixes += prefixes;
        state.events += events.len();
        state.batches.push_back(Batch { at: Instant::now(), events, prefixes });
        drop(state);
        // Full: it is told already.
        let _ = self.0.alarm.try_send(());
        Ok(())
    }

    /// How the queue does.
    pub fn stats(&self) -> FeedStats {
        let state = self.0.lock();
        let waiting = state.batches.front().map(|batch| batch.at.elapsed());
        let recent =
            if state.max_lag.1.elapsed() < 2 * LAG_MEMORY { state.max_lag.0 } else { state.last_lag };
        let lag = waiting.unwrap_or(state.last_lag);
        FeedStats { events: state.events, prefixes: state.prefixes, lag, max_lag: recent.max(lag) }
    }
}

impl Queue {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes batches until they hold `most` prefixes or more, or none are left.
    fn take(&self, most: usize, out: &mut Vec<SourceEvent>) -> bool {
        let now = Instant::now();
        let mut state = self.lock();
        let mut taken = 0;
        while taken < most
            && let Some(batch) = state.batches.pop_front()
        {
            taken += batch.prefixes;
            state.prefixes -= batch.prefixes;
            state.events -= batch.events.len();
            state.last_lag = now.saturating_duration_since(batch.at);
            if state.last_lag > state.max_lag.0 || now.saturating_duration_since(state.max_lag.1) > LAG_MEMORY
            {
                state.max_lag = (state.last_lag, now);
            }
            out.extend(batch.events);
        }
        let more = !state.batches.is_empty();
        drop(state);
        self.room.notify_all();
        more
    }
}

impl Inbox {
    /// Without queues.
    pub fn new() -> Self {
        let (alarm, alarmed) = bounded(1);
        Self { queues: Vec::new(), next: 0, alarm, alarmed }
    }

    /// Adds a queue, and gives its other end, for one source instance.
    pub fn feed(&mut self) -> Feed {
        self.feed_of(CAPACITY)
    }

    /// As [`Self::feed`], for so many prefixes.
    pub fn feed_of(&mut self, capacity: usize) -> Feed {
        let state = State {
            batches: VecDeque::new(),
            prefixes: 0,
            events: 0,
            closed: false,
            last_lag: Duration::ZERO,
            max_lag: (Duration::ZERO, Instant::now()),
        };
        let (state, room) = (Mutex::new(state), Condvar::new());
        let queue = Arc::new(Queue { capacity, state, room, alarm: self.alarm.clone() });
        self.queues.push(Arc::clone(&queue));
        Feed(queue)
    }

    /// Takes what waits, from each queue about `most` prefixes. Every queue has its turn in each call.
    pub fn take(&mut self, most: usize) -> Vec<SourceEvent> {
        let mut events = Vec::new();
        // Before the queues are looked into: what comes while they are raises it again.
        let _ = self.alarmed.try_recv();
        let count = self.queues.len();
        let mut more = false;
        for offset in 0..count {
            more |= self.queues[(self.next + offset) % count].take(most, &mut events);
        }
        self.next = (self.next + 1) % count.max(1);
        if more {
            let _ = self.alarm.try_send(());
        }
        events
    }

    /// Ready when something may wait, for a `Select`.
    pub fn ready(&self) -> &Receiver<()> {
        &self.alarmed
    }

    /// Whether nothing waits.
    pub fn is_empty(&self) -> bool {
        self.queues.iter().all(|queue| queue.lock().batches.is_empty())
    }
}

impl Default for Inbox {
    fn default() -> Self {
        Self::new()
    }
}

impl Drop for Inbox {
    fn drop(&mut self) {
        for queue in &self.queues {
            queue.lock().closed = true;
            queue.room.notify_all();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::thread;

    use dataplane::ids::VrfId;

    use super::*;
    use crate::source::{Attributes, Nlri, SourceId};

    fn update(source: u32, prefixes: usize) -> SourceEvent {
        let nlri = Nlri { prefix: "10.0.0.0/8".parse().unwrap(), path_id: source };
        let (withdrawn, announced) = (Vec::new(), vec![nlri; prefixes]);
        let event = RouteEvent::Update { withdrawn, announced, attributes: Attributes::default().into() };
        SourceEvent { source: SourceId(source), vrf: VrfId(0), event }
    }

    const NOW: Duration = Duration::ZERO;

    #[test]
    fn a_full_queue_stops_its_own_source_only() {
        let mut inbox = Inbox::new();
        let (flood, calm) = (inbox.feed_of(10), inbox.feed_of(10));
        assert_eq!(flood.send(vec![update(1, 9)], NOW), Ok(()));
        assert_eq!(flood.send(vec![update(1, 9)], NOW), Ok(()));
        let third = vec![update(1, 1)];
        assert_eq!(flood.send(third.clone(), NOW), Err(FeedError::Full(third)));
        assert_eq!(calm.send(vec![update(2, 1)], NOW), Ok(()));
        assert_eq!(flood.stats().prefixes, 18);
        // One turn: a part of the flood, and all of the calm one.
        let sources: Vec<u32> = inbox.take(5).iter().map(|event| event.source.0).collect();
        assert_eq!(sources, [1, 2]);
        assert!(!inbox.is_empty());
        assert!(inbox.ready().try_recv().is_ok(), "what is left raises the alarm again");
        assert_eq!(inbox.take(5).len(), 1);
        assert!(inbox.is_empty());
        assert_eq!(flood.stats().prefixes, 0);
    }

    #[test]
    fn a_waiting_source_goes_on_when_there_is_room() {
        let mut inbox = Inbox::new();
        let feed = inbox.feed_of(1);
        feed.send(vec![update(1, 1)], NOW).unwrap();
        let sender = thread::spawn(move || feed.send(vec![update(1, 2)], Duration::from_secs(20)));
        while !sender.is_finished() {
            inbox.ready().recv_timeout(Duration::from_secs(20)).unwrap();
            inbox.take(usize::MAX);
            thread::sleep(Duration::from_millis(1));
        }
        sender.join().unwrap().unwrap();
    }

    #[test]
    fn an_inbox_that_is_gone_is_told() {
        let mut inbox = Inbox::new();
        let feed = inbox.feed_of(1);
        feed.send(vec![update(1, 1)], NOW).unwrap();
        let sender = {
            let feed = feed.clone();
            thread::spawn(move || feed.send(vec![update(1, 1)], Duration::from_secs(20)))
        };
        thread::sleep(Duration::from_millis(20));
        drop(inbox);
        assert_eq!(sender.join().unwrap(), Err(FeedError::Closed));
        assert_eq!(feed.send(vec![update(1, 1)], NOW), Err(FeedError::Closed));
    }

    #[test]
    fn an_event_of_many_prefixes_is_taken_in_pieces_in_the_same_order() {
        let mut inbox = Inbox::new();
        let feed = inbox.feed();
        let numbered = |count: u32| -> Vec<Nlri> {
            (0..count).map(|i| Nlri { prefix: "10.0.0.0/8".parse().unwrap(), path_id: i }).collect()
        };
        // What fits into one BGP message of 65,535 bytes, and more.
        let (withdrawn, announced) = (numbered(20_000), numbered(30_000));
        let event = RouteEvent::Update {
            withdrawn: withdrawn.clone(),
            announced: announced.clone(),
            attributes: Attributes::default().into(),
        };
        feed.send(vec![SourceEvent { source: SourceId(1), vrf: VrfId(0), event }], NOW).unwrap();
        assert_eq!(feed.stats().prefixes, 50_000);
        let (mut gone, mut come) = (Vec::new(), Vec::new());
        for event in inbox.take(usize::MAX) {
            assert!(weight(&event) <= PIECE);
            let RouteEvent::Update { withdrawn, announced, .. } = event.event else { panic!() };
            assert!(withdrawn.is_empty() || come.is_empty(), "withdrawals come first");
            gone.extend(withdrawn);
            come.extend(announced);
        }
        assert_eq!((gone, come), (withdrawn, announced));
    }

    #[test]
    fn lag_is_how_long_it_waited() {
        let mut inbox = Inbox::new();
        let feed = inbox.feed();
        feed.send(vec![update(1, 1)], NOW).unwrap();
        thread::sleep(Duration::from_millis(30));
        assert!(feed.stats().lag >= Duration::from_millis(30));
        inbox.take(1);
        // The next one waits for less, unless this thread has to wait itself.
        let shorter = (0..100).any(|_| {
            feed.send(vec![update(1, 1)], NOW).unwrap();
            inbox.take(1);
            feed.stats().lag < feed.stats().max_lag
        });
        assert!(shorter && feed.stats().max_lag >= Duration::from_millis(30), "{:?}", feed.stats());
    }
}
