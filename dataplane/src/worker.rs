//! The worker loop: polls its RX queues, takes each burst through the stages, sends what control has to send,
//! and reports itself quiescent once per round.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use crate::burst::{BURST, Burst};
use crate::counters::WorkerCounters;
use crate::io::PortIo;
use crate::packet::Packet;
use crate::punt::{Injected, PuntPath, Rings};
use crate::qsbr::Reader;
use crate::stage::{self, rx, transmit, transmit::Outbound};
use crate::tables::Tables;

/// Empty rounds in a row after which a worker that may sleep does.
const IDLE_ROUNDS: u32 = 1000;
/// How long it sleeps at a time.
const IDLE_SLEEP: Duration = Duration::from_micros(20);

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
        let punts = PuntPath::new(Arc::clone(&rings.punt), hz, io.cycles());
        let outbound = Outbound::new(io.tx_ports());
        let inject = Arc::clone(&rings.inject);
        Self { io, tables, inject, punts, counters, burst: Box::default(), outbound, may_sleep }
    }

    /// Forwards until `stop` is set; then sends what control has left in the ring, and ends.
    pub fn run(&mut self, stop: &AtomicBool) {
        self.tables.online();
        let mut idle = 0;
        let mut last = self.io.cycles();
        while !stop.load(Ordering::Relaxed) {
            let worked = self.round();
            let now = self.io.cycles();
            self.counters.work.cycles.add(now.saturating_sub(last));
            last = now;
            idle = if worked { 0 } else { idle + 1 };
            if self.may_sleep && idle >= IDLE_ROUNDS {
                self.tables.offline();
                std::thread::sleep(IDLE_SLEEP);
                self.tables.online();
            }
        }
        self.drain_injected();
        self.tables.offline();
    }

    /// Polls each RX queue once and sends what control injected. Returns whether there was anything to do.
    /// The worker must be online.
    pub fn round(&mut self) -> bool {
        let mut worked = self.drain_injected();
        for queue in 0..self.io.rx_queues() {
            let Some(tables) = self.tables.snapshot() else { return worked };
            let work = &self.counters.work;
            let start = self.io.cycles();
            work.polls.add(1);
            let received = rx::run(&mut self.io, queue, &mut self.burst, &self.counters);
            if received == 0 {
                work.empty_polls.add(1);
                continue;
            }
            worked = true;
            self.punts.tick(start);
            stage::decide(&mut self.burst, tables);
            transmit::run(
                &mut self.io,
                &mut self.burst,
                tables,
                &mut self.outbound,
                &mut self.punts,
                &self.counters,
            );
            work.packets.add(received as u64);
            work.busy_cycles.add(self.io.cycles().saturating_sub(start));
        }
        worked
    }

    /// Sends up to a burst of the control thread's packets.
    fn drain_injected(&mut self) -> bool {
        let mut worked = false;
        for _ in 0..BURST {
            let Some(injected) = self.inject.pop() else { break };
            worked = true;
            let counters = self.counters.port(injected.port);
            let len = injected.packet.bytes().len() as u64;
            if self.io.tx(injected.port, &mut [Some(injected.packet)]) == 1 {
                counters.sent.add(1);
                counters.sent_bytes.add(len);
                let sub_if = self.counters.sub_interface(injected.sub_if);
                sub_if.sent.add(1, len, u64::from(injected.l3_len));
            } else {
                counters.inject_dropped.add(1);
            }
        }
        worked
    }
}
