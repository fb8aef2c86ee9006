//! Our side of a run, as a process of its own: the real worker on two `net_pcap` ports. It measures whenever its
//! standard input says so, and forwards nothing in between.

use std::io::{BufRead, Write};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{JoinHandle, sleep};
use std::time::{Duration, Instant};

use dataplane::counters::WorkerCounters;
use dataplane::dpdk::DpdkIo;
use dataplane::ids::PortId;
use dataplane::io::PortIo;
use dataplane::punt::{PUNT_RING, Rings};
use dataplane::qsbr::{Domain, Reader};
use dataplane::tables::Tables;
use dataplane::verdict::{DropReason, PuntReason};
use dataplane::watch::Session;
use dataplane::worker::Worker;
use dpdk_sys::{Eal, Mbuf, Mempool, Port, PortConfig};
use serde_json::json;

use super::case::{Case, Routes};
use super::peer::{MBUFS_BESIDE, device};
use super::setup;
use super::stages::timed::{Cycles, Timed, look};
use super::watched::{self, Watched};

/// What the parent passes on.
#[derive(clap::Args)]
pub struct ChildArgs {
    #[arg(long)]
    case: Case,
    #[arg(long)]
    captures: PathBuf,
    #[arg(long)]
    data: PathBuf,
    #[arg(long)]
    cores: Vec<usize>,
    #[arg(long)]
    eal: String,
    #[arg(long)]
    stages: bool,
}

/// Serves the parent until it closes the pipe.
pub fn child(args: &ChildArgs) -> Result<(), String> {
    if !args.stages {
        return serve(args, |io| io, |_| None::<[f64; 0]>);
    }
    let look = look();
    serve(args, Timed::new, |seats| {
        let mut all = Cycles::default();
        for (io, _) in seats.iter_mut().filter_map(|seat| seat.work.as_mut()) {
            all.add(&io.take());
        }
        Some(all.a_packet(look))
    })
}

/// Serves the parent with workers on ports that `wrap` makes; `parts` tells what was spent where in a run.
fn serve<I: PortIo<Packet = Mbuf> + Send + 'static, const PARTS: usize>(
    args: &ChildArgs,
    wrap: fn(DpdkIo) -> I,
    parts: impl Fn(&mut [Seat<I>]) -> Option<[f64; PARTS]>,
) -> Result<(), String> {
    let network = args.case.network(Routes::In(&args.data))?;
    let loaded = setup::tables(&network)?;
    let eal_args: Vec<String> = args.eal.split_whitespace().map(str::to_owned).collect();
    let eal = Arc::new(Eal::init(&eal_args).map_err(|error| error.to_string())?);
    let (_ports, ios) = open(args, &eal)?;
    let (domain, readers) = Domain::new(loaded.tables.clone(), ios.len());
    let sub_interfaces = network.sub_interfaces.len();
    let seats = ios.into_iter().zip(readers).zip(&args.cores);
    let mut seats: Vec<Seat<I>> = seats
        .map(|((io, reader), core)| Seat {
            core: *core,
            work: Some((wrap(io), reader)),
            counters: Arc::new(WorkerCounters::new(2, sub_interfaces)),
            eal: Arc::clone(&eal),
        })
        .collect();
    drop(network);
    answer(&json!({ "ready": true }))?;
    for line in std::io::stdin().lock().lines() {
        let line = line.map_err(|error| format!("cannot read the parent's order: {error}"))?;
        let times: Vec<f64> = line.split_whitespace().filter_map(|word| word.parse().ok()).collect();
        let [warm_up, seconds, watched] = times[..] else { return Err(format!("not an order: {line:?}")) };
        let watched = Watched::ALL.get(watched as usize).copied().unwrap_or(Watched::Off);
        let session = watched.session(seats.len())?;
        let mut tables = loaded.tables.clone();
        tables.watch = watched::watch(session.as_ref());
        domain.publish(tables);
        let mut figures = measure_watched(&mut seats, warm_up, seconds, session.as_deref())?;
        domain.collect();
        figures["parts"] = json!(parts(&mut seats).map(|parts| parts.to_vec()));
        answer(&figures)?;
    }
    Ok(())
}

fn answer(value: &serde_json::Value) -> Result<(), String> {
    let mut out = std::io::stdout().lock();
    writeln!(out, "{value}").and_then(|()| out.flush()).map_err(|error| format!("cannot answer: {error}"))
}

fn open(args: &ChildArgs, eal: &Arc<Eal>) -> Result<(Vec<Port>, Vec<DpdkIo>), String> {
    let queues = args.cores.len();
    let buffers = 2 * queues * args.case.frames() + MBUFS_BESIDE;
    let pool = Mempool::new(eal, "packets", buffers as u32, 256, 2048, None).map_err(|e| e.to_string())?;
    let mut ios: Vec<_> = (0..queues).map(|_| DpdkIo { rx: Vec::new(), tx: Vec::new() }).collect();
    let mut ports = Vec::new();
    for index in 0..2 {
        let device = device(index, &args.captures, args.case, queues);
        let mut port = Port::open(eal, &device).map_err(|error| error.to_string())?;
        let queues = queues as u16;
        let config = PortConfig { rx_queues: queues, tx_queues: queues, ..PortConfig::default() };
        port.configure(&config, &pool).map_err(|error| error.to_string())?;
        let (rx, tx) = port.start().map_err(|error| error.to_string())?;
        for ((io, rx), tx) in ios.iter_mut().zip(rx).zip(tx) {
            io.rx.push((PortId(index as u16), rx));
            io.tx.push(tx.into());
        }
        ports.push(port);
    }
    Ok((ports, ios))
}

/// A worker's place, and what it works with while it does not work.
struct Seat<I> {
    core: usize,
    work: Option<(I, Reader<Tables>)>,
    counters: Arc<WorkerCounters>,
    eal: Arc<Eal>,
}

impl<I: PortIo<Packet = Mbuf> + Send + 'static> Seat<I> {
    fn start(&mut self, stop: &Arc<AtomicBool>) -> Result<JoinHandle<(I, Reader<Tables>)>, String> {
        let (io, reader) = self.work.take().ok_or("the last run ended badly")?;
        let (core, stop) = (self.core, Arc::clone(stop));
        let (eal, counters) = (Arc::clone(&self.eal), Arc::clone(&self.counters));
        let body = move || {
            crate::lpm::pin(core);
            let guard = dpdk_sys::register_thread(&eal);
            if let Err(error) = &guard {
                eprintln!("perf: {error}");
            }
            let rings = Rings::new(PUNT_RING);
            let mut worker = Worker::new(io, reader, &rings, counters, eal.tsc_hz(), false);
            worker.run(&stop);
            worker.into_parts()
        };
        std::thread::Builder::new().spawn(body).map_err(|error| format!("cannot start a thread: {error}"))
    }
}

/// What the workers have counted so far.
struct Count {
    at: Instant,
    received: u64,
    forwarded: u64,
    busy: u64,
    polls: u64,
    empty: u64,
}

fn count<I>(seats: &[Seat<I>]) -> Count {
    let at = Instant::now();
    let ports = || seats.iter().flat_map(|seat| (0..2).map(|port| seat.counters.port(PortId(port))));
    let work = || seats.iter().map(|seat| &seat.counters.work);
    Count {
        at,
        received: ports().map(|port| port.received.get()).sum(),
        forwarded: ports().map(|port| port.forwarded.get()).sum(),
        busy: work().map(|work| work.busy_cycles.get()).sum(),
        polls: work().map(|work| work.polls.get()).sum(),
        empty: work().map(|work| work.empty_polls.get()).sum(),
    }
}

/// Measures while a session runs, if there is one.
fn measure_watched<I: PortIo<Packet = Mbuf> + Send + 'static>(
    seats: &mut [Seat<I>],
    warm_up: f64,
    seconds: f64,
    session: Option<&Session>,
) -> Result<serde_json::Value, String> {
    let Some(session) = session else { return measure(seats, warm_up, seconds) };
    let done = AtomicBool::new(false);
    let mut figures = std::thread::scope(|scope| {
        scope.spawn(|| watched::drain(session, &done));
        let figures = measure(seats, warm_up, seconds);
        done.store(true, Ordering::Relaxed);
        figures
    })?;
    let [matched, missed] = watched::counts(session);
    figures["missed"] = json!(missed as f64 / matched.max(1) as f64);
    Ok(figures)
}

fn measure<I: PortIo<Packet = Mbuf> + Send + 'static>(
    seats: &mut [Seat<I>],
    warm_up: f64,
    seconds: f64,
) -> Result<serde_json::Value, String> {
    let stop = Arc::new(AtomicBool::new(false));
    let mut threads = Vec::new();
    for seat in &mut *seats {
        threads.push(seat.start(&stop)?);
    }
    sleep(Duration::from_secs_f64(warm_up));
    let before = count(seats);
    sleep(Duration::from_secs_f64(seconds));
    let after = count(seats);
    stop.store(true, Ordering::Relaxed);
    for (seat, thread) in seats.iter_mut().zip(threads) {
        seat.work = Some(thread.join().map_err(|_| "a worker ended by a fault of its own")?);
    }
    let (received, forwarded) = (after.received - before.received, after.forwarded - before.forwarded);
    // Counted at slightly different moments, so compared at the end.
    let end = count(seats);
    if end.received != end.forwarded {
        return Err(format!("not everything was forwarded: {}", ends(seats)));
    }
    let polls = (after.polls - before.polls - (after.empty - before.empty)).max(1);
    Ok(json!({
        "mpps": forwarded as f64 / (after.at - before.at).as_secs_f64() / 1e6,
        "cycles_per_packet": (after.busy - before.busy) as f64 / received.max(1) as f64,
        "packets_per_burst": received as f64 / polls as f64,
    }))
}

/// The reasons for which packets were not forwarded.
fn ends<I>(seats: &[Seat<I>]) -> String {
    let mut text = Vec::new();
    for port in seats.iter().flat_map(|seat| (0..2).map(|port| seat.counters.port(PortId(port)))) {
        let drops = DropReason::ALL.iter().map(|reason| (reason.name(), port.dropped[reason.index()].get()));
        let punts = PuntReason::ALL.iter().map(|reason| (reason.name(), port.punted[reason.index()].get()));
        text.extend(drops.chain(punts).filter(|(_, n)| *n > 0).map(|(name, n)| format!("{name} {n}")));
    }
    text.join(", ")
}
