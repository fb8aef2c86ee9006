//! The worker loop: polls its RX queues, takes each burst through the stages, sends what control has to send,
//! and reports itself quiescent once per round.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use crate::burst::{BURST, Burst};
use crate::counters::WorkerCounters;
use crate::hand_over::HandOver;
use crate::io::PortIo;
use crate::offload::Checks;
use crate::packet::Packet;
use crate::punt::{Injected, PuntPath, Rings};
use crate::qsbr::Reader;
use crate::stage::{self, Stage, rx, transmit, transmit::Outbound};
use crate::tables::Tables;
use crate::verdict::{DropReason, Verdict};
use crate::watch::Observer;

/// Empty rounds in a row after which a worker that may sleep does.
const IDLE_ROUNDS: u32 = 1000;
/// It sleeps for this part of the time that nothing has come, so that a packet after a pause waits for a small part of
/// the pause,
const NAP_SHARE: u64 = 256;
/// for at least so long,
const SHORTEST_NAP: Duration = Duration::from_micros(10);
/// and for at most so long: then the queue has to hold what comes in half a millisecond.
const LONGEST_NAP: Duration = Duration::from_micros(500);

/// Rounds in which a packet of the control thread is tried again on a full queue.
const INJECT_TRIES: u32 = 100;
/// How long a worker that ends waits for what another has announced: one that ended by a fault never brings it.
const LAST: Duration = Duration::from_secs(1);

/// One worker: all that it needs to run on its core.
pub struct Worker<I: PortIo> {
    io: I,
    tables: Reader<Tables>,
    inject: Arc<crossbeam::queue::ArrayQueue<Injected<I::Packet>>>,
    punts: PuntPath<I::Packet>,
    counters: Arc<WorkerCounters>,
    burst: Box<Burst<I::Packet>>,
    outbound: Outbound<I::Packet>,
    may_sleep: bool,
    /// Cycles of `io`'s clock in a microsecond.
    cycles_per_us: u64,
    /// What the processor can do.
    #[cfg(all(target_arch = "x86_64", not(miri)))]
    instructions: Instructions,
    /// The clock when it was last looked at: at the end of each poll, so that the next need not look where it starts.
    seen: u64,
    /// A packet of the control thread that its port had no room for, and how often it was tried.
    unsent: Option<(Injected<I::Packet>, u32)>,
    observer: Observer,
    hand_over: Option<HandOver<I::Packet>>,
    checks: Option<Box<Checks>>,
}

/// Where a burst comes from.
#[derive(Clone, Copy)]
enum Source {
    /// An RX queue, by its number.
    Queue(usize),
    /// Other workers.
    Inbox,
}

impl<I: PortIo> Worker<I> {
    /// A worker on `io`. `hz`: cycles per second of `io`'s clock. `may_sleep`: whether it sleeps when idle
    /// instead of polling on.
    pub fn new(
        io: I,
        tables: Reader<Tables>,
        rings: &Rings<I::Packet>,
        counters: Arc<WorkerCounters>,
        hz: u64,
        may_sleep: bool,
    ) -> Self {
        // It may send on every port, so it knows of all.
        let seen = io.cycles();
        let punts = PuntPath::new(rings, io.tx_ports(), hz, seen);
        let outbound = Outbound::new(io.tx_ports());
        let inject = Arc::clone(&rings.inject);
        let mut burst = Box::<Burst<I::Packet>>::default();
        burst.rule_counters = Some(Arc::clone(&counters.rules));
        let observer = Observer::new(tables.slot());
        Self {
            io,
            tables,
            inject,
            punts,
            counters,
            burst,
            outbound,
            may_sleep,
            cycles_per_us: (hz / 1_000_000).max(1),
            #[cfg(all(target_arch = "x86_64", not(miri)))]
            instructions: Instructions::of_this_processor(),
            seen,
            unsent: None,
            observer,
            hand_over: None,
            checks: None,
        }
    }

    /// Has it share its ports' flows with other workers.
    #[must_use]
    pub fn with_hand_over(mut self, hand_over: Option<HandOver<I::Packet>>) -> Self {
        self.hand_over = hand_over;
        self
    }

    /// Has it look at its ports' offloads.
    #[must_use]
    pub fn with_checks(mut self, checks: Option<Box<Checks>>) -> Self {
        self.checks = checks;
        self
    }

    /// Ends the worker, and hands back its ports and its way to the tables.
    pub fn into_parts(self) -> (I, Reader<Tables>) {
        (self.io, self.tables)
    }

    /// Forwards until `stop` is set; then sends what control has left in the ring, and ends.
    pub fn run(&mut self, stop: &AtomicBool) {
        self.tables.online();
        if let Some(hand_over) = &self.hand_over {
            hand_over.open();
        }
        let mut idle = 0u32;
        self.seen = self.io.cycles();
        let (mut last, mut busy) = (self.seen, self.seen);
        let mut slept = false;
        while !stop.load(Ordering::Relaxed) {
            let worked = self.round();
            let now = self.seen;
            let round = now.saturating_sub(last);
            self.counters.work.cycles.add(round);
            if !std::mem::take(&mut slept) {
                self.counters.work.rounds.record(round);
            }
            last = now;
            (idle, busy) = if worked { (0, now) } else { (idle.saturating_add(1), busy) };
            if self.may_sleep && idle >= IDLE_ROUNDS {
                self.tables.offline();
                std::thread::sleep(nap(now.saturating_sub(busy) / self.cycles_per_us));
                self.tables.online();
                self.seen = self.io.cycles();
                slept = true;
            }
        }
        while self.drain_injected() {}
        self.take_the_last();
        self.tables.offline();
    }

    /// Takes what other workers have handed over, after which they cannot any more.
    fn take_the_last(&mut self) {
        if let Some(hand_over) = &self.hand_over {
            hand_over.close();
        }
        let start = Instant::now();
        while self.hand_over.as_ref().is_some_and(|hand_over| !hand_over.is_empty()) && start.elapsed() < LAST
        {
            self.seen = self.io.cycles();
            if !self.poll(Source::Inbox) {
                // Another worker is about to put it there.
                std::thread::yield_now();
            }
        }
    }

    /// Polls each RX queue once and sends what control injected. Returns whether there was anything to do.
    /// The worker must be online.
    pub fn round(&mut self) -> bool {
        // A worker that has no queue to poll must come round as well.
        let _ = self.tables.snapshot();
        // Taking from the ring is a fence, even where there is nothing.
        let is_waiting = self.unsent.is_some() || !self.inject.is_empty();
        let mut worked = is_waiting && self.drain_injected();
        let queues = self.io.rx_queues();
        if is_waiting || queues == 0 {
            self.seen = self.io.cycles();
        }
        for queue in 0..queues {
            worked |= self.poll(Source::Queue(queue));
        }
        if self.hand_over.is_some() {
            worked |= self.poll(Source::Inbox);
        }
        worked
    }

    /// Polls one queue, or what other workers have handed over, and takes what came through the stages.
    #[cfg(all(target_arch = "x86_64", not(miri)))]
    fn poll(&mut self, source: Source) -> bool {
        /// The same, compiled with the instructions that processors since 2013 have.
        #[target_feature(enable = "avx2,bmi1,bmi2,lzcnt,movbe,popcnt")]
        fn with_avx2<I: PortIo>(worker: &mut Worker<I>, source: Source) -> bool {
            worker.poll_with::<false>(source)
        }
        #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx2,bmi1,bmi2,lzcnt,movbe,popcnt")]
        fn with_avx512<I: PortIo>(worker: &mut Worker<I>, source: Source) -> bool {
            worker.poll_with::<true>(source)
        }
        // SAFETY: `instructions` says that the processor has the features that the function is compiled with.
        #[allow(unsafe_code)]
        unsafe {
            match self.instructions {
                Instructions::Baseline => self.poll_with::<false>(source),
                Instructions::Avx2 => with_avx2(self, source),
                Instructions::Avx512 => with_avx512(self, source),
            }
        }
    }

    #[cfg(not(all(target_arch = "x86_64", not(miri))))]
    fn poll(&mut self, source: Source) -> bool {
        self.poll_with::<false>(source)
    }

    #[inline(always)]
    fn poll_with<const WIDE: bool>(&mut self, source: Source) -> bool {
        let Some(tables) = self.tables.snapshot() else { return false };
        let work = &self.counters.work;
        let start = self.seen;
        let received = match source {
            Source::Queue(queue) => {
                work.polls.add(1);
                let received = rx::run(&mut self.io, queue, &mut self.burst);
                if received == 0 {
                    work.empty_polls.add(1);
                    self.seen = self.io.cycles();
                    return false;
                }
                if let Some(checks) = &self.checks {
                    checks.received(&self.burst, queue);
                }
                match &mut self.hand_over {
                    Some(hand_over) => hand_over.share(&mut self.burst, &self.counters),
                    None => received,
                }
            }
            Source::Inbox => {
                let hand_over = self.hand_over.as_mut();
                let taken = hand_over.map_or(0, |hand_over| hand_over.take(&mut self.burst));
                if taken == 0 {
                    return false;
                }
                work.polls.add(1);
                work.taken.add(taken as u64);
                taken
            }
        };
        if received == 0 {
            self.seen = self.io.cycles();
            work.busy_cycles.add(self.seen.saturating_sub(start));
            return true;
        }
        if let Some(checks) = &mut self.checks {
            checks.begin(&mut self.burst);
        }
        if let Some(watch) = &tables.watch {
            self.observer.received(watch, &mut self.burst, start);
        }
        self.io.stage_done(Stage::Rx);
        let (io, burst, outbound, punts) =
            (&mut self.io, &mut self.burst, &mut self.outbound, &mut self.punts);
        stage::decide_with::<I::Packet, WIDE>(burst, tables, |stage| io.stage_done(stage));
        if let Some(checks) = &self.checks {
            checks.decided(burst);
        }
        match tables.watch.as_deref() {
            None => transmit::run::<I, WIDE>(io, burst, tables, outbound, punts, &self.counters),
            Some(watch) => self.observer.transmit(watch, io, burst, tables, outbound, punts, &self.counters),
        }
        self.io.stage_done(Stage::Transmit);
        work.packets.add(received as u64);
        self.seen = self.io.cycles();
        work.busy_cycles.add(self.seen.saturating_sub(start));
        true
    }

    /// Sends up to a burst of the control thread's packets.
    fn drain_injected(&mut self) -> bool {
        let mut worked = false;
        for _ in 0..BURST {
            let Some((injected, tries)) =
                self.unsent.take().or_else(|| self.inject.pop().map(|injected| (injected, 0)))
            else {
                break;
            };
            worked = true;
            if !self.send_injected(injected, tries) {
                break;
            }
        }
        worked
    }

    /// Sends one packet of the control thread. `false`: its port's queue is full, and it waits for the next round.
    #[inline(never)]
    fn send_injected(&mut self, injected: Injected<I::Packet>, tries: u32) -> bool {
        let Injected { packet, port, sub_if, l3_len, tag_by_nic } = injected;
        let len = packet.bytes().len() as u64;
        let watch = self.tables.snapshot().and_then(|tables| tables.watch.as_deref());
        if let Some(watch) = watch {
            self.observer.injecting(watch, &packet, port, sub_if, self.io.cycles());
        }
        let mut slot = [Some(packet)];
        let sent =
            if tag_by_nic { self.io.tx_tag_by_nic(port, &mut slot) } else { self.io.tx(port, &mut slot) };
        let taken = sent == 1;
        if let Some(watch) = watch {
            let refused = (tries >= INJECT_TRIES).then_some(Verdict::Drop(DropReason::TxQueueFull));
            let verdict = if taken { Some(Verdict::Forward) } else { refused };
            self.observer.injected(watch, port, sub_if, verdict);
        }
        if taken {
            let counters = self.counters.port(port);
            counters.sent.add(1);
            counters.sent_bytes.add(len);
            self.counters.sub_interface(sub_if).sent.add(1, len, u64::from(l3_len));
            return true;
        }
        match slot {
            [Some(packet)] if tries < INJECT_TRIES => {
                self.unsent = Some((Injected { packet, port, sub_if, l3_len, tag_by_nic }, tries + 1));
                false
            }
            _ => {
                self.counters.port(port).inject_dropped.add(1);
                true
            }
        }
    }
}

/// How long to sleep when nothing has come for so many microseconds.
fn nap(idle_us: u64) -> Duration {
    Duration::from_micros(idle_us / NAP_SHARE).clamp(SHORTEST_NAP, LONGEST_NAP)
}

/// The instructions that the stages are compiled with: beside those of all processors AVX2, BMI1, BMI2, LZCNT, MOVBE and
/// POPCNT, and with AVX-512 its F, BW, DQ and VL as well.
#[cfg(all(target_arch = "x86_64", not(miri)))]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Instructions {
    Baseline,
    Avx2,
    Avx512,
}

#[cfg(all(target_arch = "x86_64", not(miri)))]
impl Instructions {
    pub(crate) fn of_this_processor() -> Self {
        let avx2 = is_x86_feature_detected!("avx2")
            && is_x86_feature_detected!("bmi1")
            && is_x86_feature_detected!("bmi2")
            && is_x86_feature_detected!("lzcnt")
            && is_x86_feature_detected!("movbe")
            && is_x86_feature_detected!("popcnt");
        match avx2 {
            true if has_avx512() => Self::Avx512,
            true => Self::Avx2,
            false => Self::Baseline,
        }
    }
}

/// Whether the processor has AVX-512 F, BW, CD, DQ and VL; of others it says nothing.
#[cfg(all(target_arch = "x86_64", not(miri)))]
pub(crate) fn has_avx512() -> bool {
    is_x86_feature_detected!("avx512f")
        && is_x86_feature_detected!("avx512bw")
        && is_x86_feature_detected!("avx512cd")
        && is_x86_feature_detected!("avx512dq")
        && is_x86_feature_detected!("avx512vl")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn naps_are_a_small_part_of_the_pause() {
        let all = [0, 100, 10_000, 100_000, 10_000_000, u64::MAX].map(|idle| nap(idle).as_micros());
        assert_eq!(all, [10, 10, 39, 390, 500, 500]);
    }
}
