//! The worker threads: each pinned to its core, known to DPDK, and running the data plane's loop.

use std::num::NonZeroU64;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;

use core_affinity::CoreId;
use crossbeam::channel::{Receiver, Sender, bounded};
use dataplane::counters::WorkerCounters;
use dataplane::dpdk::DpdkIo;
use dataplane::hand_over::{HandOver, Shared};
use dataplane::offload::Checks;
use dataplane::punt::{PUNT_RING, Rings};
use dataplane::qsbr::Reader;
use dataplane::tables::Tables;
use dataplane::worker::Worker;
use dpdk_sys::{Eal, Mbuf};

use super::error::RouterError;
use super::hardware::{Hardware, OpenPort};
use crate::config::model::{Config, Idle};

/// All workers. Dropping it stops them.
pub struct Workers {
    /// Each worker's core.
    pub cores: Vec<usize>,
    /// Each worker's counters.
    pub counters: Vec<Arc<WorkerCounters>>,
    /// Each worker's rings.
    pub rings: Vec<Rings<Mbuf>>,
    stop: Arc<AtomicBool>,
    /// The threads poll once it is gone.
    held: Option<Sender<()>>,
    threads: Vec<JoinHandle<()>>,
}

/// The cores that the configuration names, or else the last one that this process may use. Isolated cores
/// (`isolcpus`) are not among those that a process may use until it asks for them, as a worker does.
///
/// # Errors
/// A core that is not there.
pub fn cores(config: &Config) -> Result<Vec<usize>, RouterError> {
    if config.workers.cores.is_empty() {
        let allowed = core_affinity::get_core_ids().unwrap_or_default();
        return Ok(vec![allowed.iter().map(|core| core.id).max().unwrap_or(0)]);
    }
    // Without the file, the worker's own attempt is the judge.
    let Ok(online) = std::fs::read_to_string("/sys/devices/system/cpu/online") else {
        return Ok(config.workers.cores.clone());
    };
    let online = online.trim();
    match config.workers.cores.iter().find(|core| !in_list(online, **core)) {
        None => Ok(config.workers.cores.clone()),
        Some(core) => Err(RouterError::Core { core: *core, online: online.to_string() }),
    }
}

/// Whether `core` is in a list such as `0-3,8,10-11`.
fn in_list(list: &str, core: usize) -> bool {
    list.split(',').any(|part| {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        matches!((first.parse::<usize>(), last.parse::<usize>()), (Ok(first), Ok(last)) if (first..=last).contains(&core))
    })
}

impl Workers {
    /// Starts one worker for each core, with its queues and its reader of the tables. They poll from [`Self::go`] on.
    ///
    /// # Errors
    /// A thread cannot be started, pinned, or made known to DPDK; those that were are stopped again.
    pub fn start(
        config: &Config,
        cores: Vec<usize>,
        ios: Vec<DpdkIo>,
        readers: Vec<Reader<Tables>>,
        hardware: &Hardware,
    ) -> Result<Self, RouterError> {
        let mut parts = hand_overs(config, hardware, cores.len()).into_iter();
        let offloads: Vec<_> = hardware.ports.iter().map(|port| Arc::clone(&port.offloads)).collect();
        let (held, hold) = bounded(0);
        let mut this = Self {
            cores: cores.clone(),
            counters: Vec::new(),
            rings: Vec::new(),
            stop: Arc::new(AtomicBool::new(false)),
            held: Some(held),
            threads: Vec::new(),
        };
        for (number, ((core, io), reader)) in cores.into_iter().zip(ios).zip(readers).enumerate() {
            let counters = Arc::new(WorkerCounters::new(config.ports.len(), config.sub_interfaces.len()));
            let rings = Rings::with_budgets(PUNT_RING, config.punt);
            let (ready, is_ready) = bounded(1);
            let seat = Seat {
                core,
                eal: Arc::clone(&hardware.eal),
                stop: Arc::clone(&this.stop),
                hold: hold.clone(),
                may_sleep: config.workers.idle == Idle::Sleep,
                hand_over: parts.next(),
                checks: Checks::new(&offloads, number),
            };
            let thread = {
                let (counters, rings) = (Arc::clone(&counters), rings.clone());
                let body = move || seat.run(io, reader, &rings, counters, &ready);
                std::thread::Builder::new().name(format!("worker-{core}")).spawn(body)
            };
            let failed = |why: String| RouterError::Worker { core, why };
            this.threads.push(thread.map_err(|error| failed(error.to_string()))?);
            let started = is_ready.recv().unwrap_or_else(|_| Err("its thread ended".into()));
            started.map_err(failed)?;
            this.counters.push(counters);
            this.rings.push(rings);
        }
        Ok(this)
    }
}

/// Each worker's part in handing flows over; none where nobody wants it.
fn hand_overs(config: &Config, hardware: &Hardware, workers: usize) -> Vec<HandOver<Mbuf>> {
    if !config.workers.hand_over || workers < 2 {
        return Vec::new();
    }
    let shared = |port: &OpenPort| {
        if usize::from(port.rx_queues) < workers {
            Shared::Always
        } else {
            Shared::WithoutRss(Arc::clone(&port.offloads))
        }
    };
    HandOver::among(workers, &hardware.ports.iter().map(shared).collect::<Vec<_>>())
}

impl Workers {
    /// The core of a worker whose thread has ended, if there is one: a fault of ours.
    pub fn dead(&self) -> Option<usize> {
        let ended = self.threads.iter().position(JoinHandle::is_finished)?;
        self.cores.get(ended).copied()
    }

    /// Lets them poll: the tables are ready.
    pub fn go(&mut self) {
        self.held = None;
    }

    /// Ends all threads. Each finishes the burst it is at, so that the counters add up.
    pub fn stop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        self.go();
        for thread in self.threads.drain(..) {
            if thread.join().is_err() {
                tracing::error!("a worker ended by a fault of its own; its queues were not served since");
            }
        }
    }
}

impl Drop for Workers {
    fn drop(&mut self) {
        self.stop();
        // What is left in the rings goes back to the pool.
        for rings in &self.rings {
            while rings.urgent.pop().is_some() {}
            while rings.punt.pop().is_some() {}
            while rings.inject.pop().is_some() {}
        }
    }
}

/// Where a worker sits.
struct Seat {
    core: usize,
    eal: Arc<Eal>,
    stop: Arc<AtomicBool>,
    hold: Receiver<()>,
    may_sleep: bool,
    hand_over: Option<HandOver<Mbuf>>,
    checks: Option<Box<Checks>>,
}

impl Seat {
    fn run(
        self,
        io: DpdkIo,
        reader: Reader<Tables>,
        rings: &Rings<Mbuf>,
        counters: Arc<WorkerCounters>,
        ready: &Sender<Result<(), String>>,
    ) {
        if !core_affinity::set_for_current(CoreId { id: self.core }) {
            // The receiver waits for this one message; if it is gone, so is the router.
            let _ = ready.send(Err("it cannot be pinned to its core".into()));
            return;
        }
        let guard = match dpdk_sys::register_thread(&self.eal) {
            Ok(guard) => guard,
            Err(error) => {
                let _ = ready.send(Err(error.to_string()));
                return;
            }
        };
        // By default the kernel lets a sleep of microseconds take 50 more. Where it cannot be told not to, wakes are late.
        let _ = rustix::thread::set_current_timer_slack(NonZeroU64::new(1));
        let mut worker = Worker::new(io, reader, rings, counters, self.eal.tsc_hz(), self.may_sleep)
            .with_hand_over(self.hand_over)
            .with_checks(self.checks);
        let _ = ready.send(Ok(()));
        // It ends when the sender is gone.
        let _ = self.hold.recv();
        worker.run(&self.stop);
        drop(worker);
        drop(guard);
    }
}

#[cfg(test)]
mod tests {
    use super::in_list;

    #[test]
    fn lists_of_cores_are_read() {
        for (core, there) in [(0, true), (3, true), (4, false), (8, true), (11, true), (12, false)] {
            assert_eq!(in_list("0-3,8,10-11", core), there, "{core}");
        }
        assert!(!in_list("", 0));
    }
}
