//! What route sources say, on its way into the RIB: a bounded time of it in a turn; and what is done of it later, when a
//! lost source's retain time is over, or some time after an end-of-RIB mark.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use super::control::Control;
use crate::source::{RouteEvent, SourceEvent, SourceId};

/// Prefixes that are taken from each source at a time.
const TURN: usize = 2048;
/// How long events are taken in in a turn.
const SLICE: Duration = Duration::from_millis(1);

/// A loss of a source: what it had announced in generations before `generation` goes then.
#[derive(Clone, Copy, Debug)]
struct Sweep {
    at: Instant,
    source: SourceId,
    generation: u64,
    /// Whether the source came back meanwhile: that gives what is stale more time, once.
    extended: bool,
}

/// Losses of one source that are remembered each; of more, the last ones share the last one's time.
const MAX_SWEEPS: usize = 16;

/// How long after an end-of-RIB mark stale routes go: FRR marks the end before it has announced the networks of
/// its own configuration.
const QUIET: Duration = Duration::from_secs(3);

/// What sources said and what is to be done of it later.
#[derive(Debug, Default)]
pub struct RouteEvents {
    /// Taken from the queues, and not yet taken in.
    taken: VecDeque<SourceEvent>,
    /// Losses of sources whose retain time is not over.
    sweeps: Vec<Sweep>,
    /// End-of-RIB marks, and when they count.
    marks: Vec<(Instant, SourceEvent)>,
}

impl Control {
    /// Takes in what the sources say, as far as a turn's time goes; at least one event. The rest is first next time.
    pub(super) fn routes(&mut self) -> bool {
        let start = Instant::now();
        if self.route_events.taken.is_empty() {
            self.route_events.taken = self.inputs.routes.take(TURN).into();
        }
        let mut worked = false;
        while let Some(event) = self.route_events.taken.pop_front() {
            worked = true;
            self.route_event(event);
            if start.elapsed() >= SLICE {
                break;
            }
        }
        worked
    }

    fn route_event(&mut self, event: SourceEvent) {
        if let RouteEvent::EndOfRib(_) = event.event {
            // One of each is enough, however many a peer sends.
            let marks = &mut self.route_events.marks;
            if !marks.iter().any(|(_, mark)| *mark == event) {
                marks.push((Instant::now() + QUIET, event));
            }
            return;
        }
        self.apply(&event);
        self.source_timers(&event);
    }

    fn apply(&mut self, event: &SourceEvent) {
        if let Err(error) = self.rib.apply(event) {
            tracing::error!("a route event was refused: {error}");
        }
    }

    /// What a source had announced before it was lost goes after its retain time, unless it was announced again.
    fn source_timers(&mut self, event: &SourceEvent) {
        if let RouteEvent::Up | RouteEvent::Down { .. } = event.event {
            self.route_events.marks.retain(|(_, mark)| mark.source != event.source);
        }
        let configured = self.config.bgp.as_ref().map_or(Duration::ZERO, |bgp| bgp.retain);
        if let RouteEvent::Up = event.event {
            // It is back: what it announced before has until its end mark, and if none comes, this long.
            let at = Instant::now() + configured;
            for sweep in self
                .route_events
                .sweeps
                .iter_mut()
                .filter(|sweep| sweep.source == event.source && !sweep.extended)
            {
                sweep.at = sweep.at.max(at);
                sweep.extended = true;
            }
        }
        if let RouteEvent::Down { retain, .. } = event.event {
            // What the source asks for counts where it is shorter: the configured time is the longest.
            let retain = retain.map_or(configured, |asked| asked.min(configured));
            let generation = self.rib.generation(event.source);
            if retain.is_zero() {
                self.rib.sweep_before(event.source, generation);
                return;
            }
            let of_source = |sweep: &&Sweep| sweep.source == event.source;
            if self.route_events.sweeps.iter().filter(of_source).count() >= MAX_SWEEPS
                && let Some(newest) =
                    self.route_events.sweeps.iter().rposition(|sweep| sweep.source == event.source)
            {
                self.route_events.sweeps.remove(newest);
            }
            self.route_events.sweeps.push(Sweep {
                at: Instant::now() + retain,
                source: event.source,
                generation,
                extended: false,
            });
        }
    }

    /// Does what is due: sweeps what is stale of lost sources, and behind marks.
    pub(super) fn route_timers(&mut self, now: Instant) {
        let (due, later): (Vec<_>, _) =
            std::mem::take(&mut self.route_events.sweeps).into_iter().partition(|sweep| sweep.at <= now);
        self.route_events.sweeps = later;
        for Sweep { source, generation, .. } in due {
            self.rib.sweep_before(source, generation);
        }
        let (due, later) =
            std::mem::take(&mut self.route_events.marks).into_iter().partition(|(at, _)| *at <= now);
        self.route_events.marks = later;
        for (_, mark) in due {
            self.apply(&mark);
        }
    }
}
