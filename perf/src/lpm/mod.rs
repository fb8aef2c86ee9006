//! `perf lpm`: look-ups, updates, loading and memory of ours and DPDK's tables, in one process, interleaved.

pub mod measure;
mod memory;
mod peers;
pub mod random;
mod report;
pub mod ring;
pub mod routes;
pub mod table;
mod update;
pub mod workload;

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use clap::ValueEnum;
use dataplane::grace::{GracePeriod, NoReaders};
use dpdk_sys::Eal;

use measure::Setting;
use peers::{Kind, Peer};
use report::Report;
use ring::Ring;
use routes::Route;
use table::{BURST, Ours, Table};
use workload::{ADDRESSES, Addresses, Workload};

/// An address family.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Family {
    V4,
    V6,
}

impl Family {
    pub fn name(self) -> &'static str {
        match self {
            Self::V4 => "ipv4",
            Self::V6 => "ipv6",
        }
    }
}

/// What to measure.
#[derive(clap::Args)]
#[allow(clippy::struct_excessive_bools)] // Each is a switch of its own.
pub struct Args {
    /// One family only.
    #[arg(long)]
    family: Option<Family>,
    /// Routes in the table, may be given several times [default: 4000, 10000, 1000000, 2000000 for IPv4; 10000,
    /// 240000, 500000 for IPv6].
    #[arg(long)]
    routes: Vec<usize>,
    /// Only these workloads; may be given several times.
    #[arg(long)]
    workload: Vec<Workload>,
    /// Rounds; the median counts.
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..))]
    rounds: u32,
    /// One JSON object a row instead of a table.
    #[arg(long)]
    json: bool,
    /// Leave out peers whose name contains this; may be given several times. (`rte_lpm` takes minutes to load a
    /// full table.)
    #[arg(long)]
    skip: Vec<String>,
    /// Give each route a random next hop, instead of one by its origin: the hardest case for ours.
    #[arg(long)]
    scatter: bool,
    /// Only updates, loading and memory; no look-ups.
    #[arg(long)]
    updates_only: bool,
    /// No updates.
    #[arg(long)]
    no_updates: bool,
    /// Where the real Internet tables are.
    #[arg(long, default_value = concat!(env!("CARGO_MANIFEST_DIR"), "/../../shared/data"))]
    data: PathBuf,
    /// The core to run on.
    #[arg(long, default_value_t = 0)]
    core: usize,
    /// The core to write from while the other looks up.
    #[arg(long, default_value_t = 1)]
    writer_core: usize,
    /// Keep the writer's core busy with nothing while look-ups are timed. Under `chrt -f` that keeps other programs
    /// off it, and what they would do to shared caches.
    #[arg(long)]
    hold: bool,
    /// Arguments for DPDK. `--force-max-simd-bitwidth=512` lets its tables use AVX-512.
    #[arg(
        long,
        default_value = "--in-memory --no-pci --no-telemetry --force-max-simd-bitwidth=512 --log-level=1"
    )]
    eal: String,
}

/// Runs all that the arguments ask for.
pub fn run(args: &Args) -> Result<(), String> {
    let mut eal_args: Vec<String> = args.eal.split_whitespace().map(str::to_owned).collect();
    if dpdk_sys::free_huge_pages().pages == 0 && !eal_args.iter().any(|arg| arg == "--no-huge") {
        eprintln!("perf: no huge pages, so the peers run on ordinary ones; grant some for their best");
        eal_args.retain(|arg| arg != "--in-memory");
        eal_args.extend(["--no-huge", "-m", "4096"].map(str::to_owned));
    }
    let eal = Eal::init(&eal_args).map_err(|error| error.to_string())?;
    pin(args.core);
    let mut report = Report::new(args.json);
    for (family, sizes) in
        [(Family::V4, &[4_000, 10_000, 1_000_000, 2_000_000][..]), (Family::V6, &[10_000, 240_000, 500_000])]
    {
        if args.family.is_some_and(|only| only != family) {
            continue;
        }
        let sizes = if args.routes.is_empty() { sizes } else { &args.routes };
        for &size in sizes {
            compare(args, &eal, family, size, &mut report)?;
        }
    }
    Ok(())
}

pub fn pin(core: usize) {
    if !core_affinity::set_for_current(core_affinity::CoreId { id: core }) {
        eprintln!("perf: cannot pin to core {core}; figures will vary more");
    }
}

/// Everything about one size of table.
fn compare(args: &Args, eal: &Eal, family: Family, size: usize, report: &mut Report) -> Result<(), String> {
    let (routes, real) = routes::routes(family, size, &args.data, args.scatter)?;
    report.heading(family, &routes, real);
    let mut tables = tables(args, eal, family, &routes, report)?;
    if !args.updates_only {
        let chosen = |workload: &Workload| args.workload.is_empty() || args.workload.contains(workload);
        for workload in Workload::ALL.into_iter().filter(chosen) {
            let addresses = Addresses::new(family, workload, &routes)?;
            agree(&mut tables, &addresses)?;
            let stop = AtomicBool::new(!args.hold);
            std::thread::scope(|scope| {
                scope.spawn(|| hold(args.writer_core, &stop));
                let result = look_up(args, family, &routes, workload, &addresses, &mut tables, report);
                stop.store(true, Ordering::Relaxed);
                result
            })?;
        }
    }
    if !args.no_updates {
        for table in &mut tables {
            if table.name() == "turnpike, prefetched" || (table.name().contains("rte_lpm") && size > 20_000) {
                continue;
            }
            // A peer may run out of its second-level tables on the way: that says something about it, not about the run.
            match update::alone(table.as_mut(), &routes, 1) {
                Ok(rate) => report.updates(family, table.name(), "one by one", routes.len(), rate),
                Err(error) => report.note(&format!("{}: no updates: {error}", table.name())),
            }
            if table.name() == "turnpike" {
                let rate = update::alone(table.as_mut(), &routes, update::BATCH)?;
                report.updates(family, table.name(), "in batches", routes.len(), rate);
            }
        }
        drop(tables);
        update::with_readers(args, family, &routes, report)?;
    }
    Ok(())
}

/// Does nothing, as gently as can be, until told to stop.
fn hold(core: usize, stop: &AtomicBool) {
    if !stop.load(Ordering::Relaxed) {
        pin(core);
    }
    while !stop.load(Ordering::Relaxed) {
        std::hint::spin_loop();
    }
}

/// Ours and all peers that can hold the routes, loaded.
fn tables(
    args: &Args,
    eal: &Eal,
    family: Family,
    routes: &[Route],
    report: &mut Report,
) -> Result<Vec<Box<dyn Table>>, String> {
    let grace: Arc<dyn GracePeriod> = Arc::new(NoReaders);
    let mut tables: Vec<Box<dyn Table>> = Vec::new();
    for prefetch in [false, true] {
        tables.push(Box::new(Ours::new(family, &grace, prefetch)?));
    }
    for &kind in Kind::all(family) {
        if args.skip.iter().any(|skip| kind.name().contains(skip.as_str())) {
            continue;
        }
        match Peer::new(kind, routes.len(), eal) {
            Some(peer) => tables.push(Box::new(peer)),
            None => report.note(&format!("{}: DPDK cannot make it", kind.name())),
        }
    }
    tables.retain_mut(|table| {
        let start = Instant::now();
        match table.load(routes) {
            Ok(()) => {
                report.loaded(family, table.as_ref(), routes.len(), start.elapsed());
                true
            }
            Err(error) => {
                report.note(&format!("{}: left out: {error}", table.name()));
                false
            }
        }
    });
    Ok(tables)
}

/// Every table must give the answers of ours.
fn agree(tables: &mut [Box<dyn Table>], addresses: &Addresses) -> Result<(), String> {
    let Some((ours, peers)) = tables.split_first_mut() else { return Ok(()) };
    for from in (0..ADDRESSES).step_by(BURST) {
        ours.lookup(addresses, from);
        for peer in &mut *peers {
            peer.lookup(addresses, from);
            for at in 0..BURST {
                if ours.hop(at) != peer.hop(at) {
                    let (us, them) = (ours.hop(at), peer.hop(at));
                    return Err(format!("{} finds {them} at {from}+{at}, ours {us}", peer.name()));
                }
            }
        }
    }
    Ok(())
}

/// One workload over all tables in all settings, round by round.
fn look_up(
    args: &Args,
    family: Family,
    routes: &[Route],
    workload: Workload,
    addresses: &Addresses,
    tables: &mut [Box<dyn Table>],
    report: &mut Report,
) -> Result<(), String> {
    let rounds = args.rounds as usize;
    let in_situ: &[usize] = if workload == Workload::InPrefixes { &ring::MEGABYTES } else { &[] };
    for setting in Setting::CLEAN.into_iter().chain(in_situ.iter().copied().map(Setting::InSitu)) {
        let mut ring = match setting {
            Setting::InSitu(megabytes) => Some(Ring::new(megabytes)?),
            Setting::Streamed | Setting::AtHand => None,
        };
        let mut rates = vec![Vec::with_capacity(rounds); tables.len()];
        for round in 0..rounds {
            for (table, rates) in tables.iter_mut().zip(&mut rates) {
                if ring.is_none() && table.name() == "turnpike, prefetched" {
                    continue;
                }
                rates.push(if setting == Setting::Streamed {
                    measure::streamed(table.as_mut(), addresses)
                } else {
                    measure::at_hand(table.as_mut(), addresses, ring.as_mut(), round)
                });
            }
        }
        let rates = tables.iter().zip(&mut rates).filter(|(_, rates)| !rates.is_empty());
        let rows: Vec<_> =
            rates.map(|(table, rates)| (table.name().to_owned(), measure::summary(rates))).collect();
        report.look_ups(family, routes.len(), workload, setting, &rows);
    }
    Ok(())
}
