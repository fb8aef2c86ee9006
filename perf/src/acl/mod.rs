//! `perf acl`: what a packet costs in an access list of so many rules; ours, DPDK's `rte_acl`, and beside them our own
//! look-up of a route, in one process, interleaved; alone, and in between of bursts that write packet memory.

mod ours;
mod peer;
mod report;
mod rules;
mod time;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

use dataplane::acl::{Action, Rule};
use dataplane::burst::BURST;
use dataplane::grace::{GracePeriod, NoReaders};
use dpdk_sys::Eal;

use crate::lpm::random::Random;
use crate::lpm::ring::Ring;
use crate::lpm::table::Table;
use crate::lpm::workload::{Addresses, Workload};
use crate::lpm::{Family, measure, pin, ring, routes, table};
use ours::Ours;
use peer::{ALGORITHMS, Peer};
use report::Rows;
use rules::PACKETS;

/// What to measure.
#[derive(clap::Args)]
pub struct Args {
    /// One family only.
    #[arg(long)]
    family: Option<Family>,
    /// Rules in the list; may be given several times.
    #[arg(long, default_values_t = [10, 100, 500, 1000], value_parser = rule_count)]
    rules: Vec<usize>,
    /// Rounds; the median counts.
    #[arg(long, default_value_t = 7, value_parser = clap::value_parser!(u32).range(1..))]
    rounds: u32,
    /// One JSON object a row instead of a table.
    #[arg(long)]
    json: bool,
    /// Where the real Internet tables are.
    #[arg(long, default_value = concat!(env!("CARGO_MANIFEST_DIR"), "/../../shared/data"))]
    data: PathBuf,
    /// The core to run on.
    #[arg(long, default_value_t = 0)]
    core: usize,
    /// Arguments for DPDK. `--force-max-simd-bitwidth=512` lets `rte_acl` use AVX-512.
    #[arg(
        long,
        default_value = "--in-memory --no-pci --no-telemetry --force-max-simd-bitwidth=512 --log-level=1"
    )]
    eal: String,
}

fn rule_count(text: &str) -> Result<usize, String> {
    let count = text.parse().map_err(|_| "not a number".to_owned())?;
    if (1..=dataplane::acl::MAX_RULES).contains(&count) {
        return Ok(count);
    }
    Err(format!("from 1 to {}", dataplane::acl::MAX_RULES))
}

/// Runs all that the arguments ask for.
pub fn run(args: &Args) -> Result<(), String> {
    let mut eal_args: Vec<String> = args.eal.split_whitespace().map(str::to_owned).collect();
    if dpdk_sys::free_huge_pages().pages == 0 && !eal_args.iter().any(|arg| arg == "--no-huge") {
        eal_args.retain(|arg| arg != "--in-memory");
        eal_args.extend(["--no-huge", "-m", "512"].map(str::to_owned));
    }
    let eal = Eal::init(&eal_args).map_err(|error| error.to_string())?;
    pin(args.core);
    // The first stands for none: nothing is written in between.
    let mut rings = vec![None];
    for megabytes in ring::MEGABYTES {
        rings.push(Some(Ring::new(megabytes)?));
    }
    for (family, sizes) in [(Family::V4, [10_000, 1_000_000]), (Family::V6, [10_000, 240_000])] {
        if args.family.is_some_and(|only| only != family) {
            continue;
        }
        let mut fibs = Vec::new();
        for size in sizes {
            fibs.push(Fib::new(args, family, size)?);
        }
        for &count in &args.rules {
            compare(args, &eal, family, count, &mut fibs, &mut rings)?;
        }
    }
    Ok(())
}

/// A table of routes, and addresses in their prefixes: what a look-up costs.
struct Fib {
    name: String,
    table: table::Ours,
    addresses: Addresses,
}

impl Fib {
    fn new(args: &Args, family: Family, size: usize) -> Result<Self, String> {
        let (routes, _) = routes::routes(family, size, &args.data, false)?;
        let grace: Arc<dyn GracePeriod> = Arc::new(NoReaders);
        let mut table = table::Ours::new(family, &grace, false)?;
        table.load(&routes)?;
        let addresses = Addresses::new(family, Workload::InPrefixes, &routes)?;
        Ok(Self { name: format!("route look-up, {size} routes"), table, addresses })
    }

    fn nanoseconds(&mut self, ring: Option<&mut Ring>, round: usize) -> f64 {
        1e3 / match ring {
            None => measure::streamed(&mut self.table, &self.addresses),
            ring => measure::at_hand(&mut self.table, &self.addresses, ring, round),
        }
    }
}

/// One list: all ways to search it, and the look-ups, round by round.
fn compare(
    args: &Args,
    eal: &Eal,
    family: Family,
    count: usize,
    fibs: &mut [Fib],
    rings: &mut [Option<Ring>],
) -> Result<(), String> {
    let mut random = Random::new(count as u64);
    let rules = rules::rules(family, count, &mut random);
    let packets = rules::packets(family, &rules, &mut random);
    let pointers: Vec<*const u8> = packets.iter().map(|packet| packet.0.as_ptr()).collect();
    let start = Instant::now();
    let mut ours = Ours::new(family, &rules, &packets)?;
    let built = start.elapsed();
    let with_count: Vec<_> = [Rule::any(Action::Count)].into_iter().chain(rules.clone()).collect();
    let mut counting = Ours::new(family, &with_count[..count.min(with_count.len())], &packets)?;
    let start = Instant::now();
    let mut peer = Peer::new(family, &rules, eal);
    let peer_built = start.elapsed();
    if let Some(peer) = &peer {
        agree(&mut ours, peer, &pointers, count)?;
    }

    let mut rows = Rows::default();
    for round in 0..args.rounds as usize {
        for (column, ring) in rings.iter_mut().enumerate() {
            let touch = |ours: &Ours<'_>, burst| ours.touch_fields(burst);
            let search = |ours: &mut Ours<'_>, burst| ours.by_fields(burst);
            rows.add("turnpike, from fields", column, time::search(ring.as_mut(), &mut ours, touch, search));
            let touch = |_: &Ours<'_>, burst| rules::touch(&packets, burst);
            let search = |ours: &mut Ours<'_>, burst| ours.by_packets(burst);
            rows.add("turnpike, from packets", column, time::search(ring.as_mut(), &mut ours, touch, search));
            let nanoseconds = time::search(ring.as_mut(), &mut counting, touch, search);
            rows.add("turnpike, behind a rule that counts", column, nanoseconds);
            for (name, algorithm) in ALGORITHMS {
                let Some(peer) = peer.as_mut() else { continue };
                if !peer.search_by(algorithm) {
                    continue;
                }
                let search = |peer: &mut Peer, burst: usize| {
                    let mut results = [0; BURST];
                    peer.classify(&pointers[burst * BURST..(burst + 1) * BURST], &mut results);
                    u64::from(results[0])
                };
                let touch = |_: &Peer, burst| rules::touch(&packets, burst);
                rows.add(name, column, time::search(ring.as_mut(), peer, touch, search));
            }
            for fib in &mut *fibs {
                rows.add(&fib.name.clone(), column, fib.nanoseconds(ring.as_mut(), round));
            }
        }
    }
    let full = fibs.last().map_or("", |fib| &fib.name);
    rows.report(
        args.json,
        family,
        count,
        full,
        &[("turnpike", built), ("rte_acl", peer_built)],
        ours.memory(),
    );
    Ok(())
}

/// Both must find the same rule for each packet.
fn agree(ours: &mut Ours<'_>, peer: &Peer, pointers: &[*const u8], count: usize) -> Result<(), String> {
    for burst in 0..PACKETS / BURST {
        let mut results = [0; BURST];
        peer.classify(&pointers[burst * BURST..(burst + 1) * BURST], &mut results);
        for by_packets in [false, true] {
            if by_packets {
                ours.by_packets(burst)
            } else {
                ours.by_fields(burst)
            };
            for (at, (end, theirs)) in ours.ends.iter().zip(results).enumerate() {
                let ours = usize::from(end & 0x7fff);
                let theirs = if theirs == 0 { count } else { theirs as usize - 1 };
                if ours != theirs {
                    return Err(format!("rte_acl finds rule {theirs} at {burst}:{at}, ours {ours}"));
                }
            }
        }
    }
    Ok(())
}
