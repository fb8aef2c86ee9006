//! `perf pipeline`: the whole packet path on virtual ports, against `testpmd --forward-mode=io` on the same ports,
//! which does nothing and so shows what the ports alone allow.

mod capture;
mod case;
pub mod ours;
mod peer;
mod report;
mod setup;
pub mod stages;
mod watched;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use case::{Case, Routes};
use peer::{Ours, Testpmd, capture_file};
use report::{PEER, Report, Row, Series};

/// What to measure.
#[derive(clap::Args)]
#[allow(clippy::struct_excessive_bools, reason = "each is a switch of its own")]
pub struct Args {
    /// Only these cases; may be given several times.
    #[arg(long)]
    case: Vec<Case>,
    /// How often both sides are started: how fast a process is depends on where its buffers happen to lie.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..), conflicts_with_all = ["stages", "watched"])]
    starts: u32,
    /// Rounds, of each start; the median of all counts.
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..))]
    rounds: u32,
    /// Seconds of each measurement.
    #[arg(long, default_value_t = 1.0)]
    seconds: f64,
    /// Seconds before each measurement in which nothing is counted.
    #[arg(long, default_value_t = 0.3)]
    warm_up: f64,
    /// What each stage costs, in cycles and in instructions a packet (with valgrind, and with AVX-512).
    #[arg(long)]
    stages: bool,
    /// With --stages: only count instructions, and fail where they are more than 2 % over the baseline.
    #[arg(long, requires = "stages", conflicts_with = "renew")]
    check: bool,
    /// With --stages: only count instructions, and make them the baseline.
    #[arg(long, requires = "stages")]
    renew: bool,
    /// What a trace or a capture costs while it runs, against none in the same run.
    #[arg(long, conflicts_with = "stages")]
    watched: bool,
    /// The baseline: instructions a packet by compiler, case and stage.
    #[arg(long, default_value = concat!(env!("CARGO_MANIFEST_DIR"), "/baselines/instructions.json"))]
    baseline: PathBuf,
    /// One JSON object a row instead of a table.
    #[arg(long)]
    json: bool,
    /// Leave out the runs on two cores.
    #[arg(long)]
    no_scaling: bool,
    /// The core to forward on.
    #[arg(long, default_value_t = 0)]
    core: usize,
    /// The core of everything else, and of the second worker.
    #[arg(long, default_value_t = 1)]
    control_core: usize,
    /// The `testpmd` to compare with [default: `dpdk-testpmd` or `testpmd` in the PATH].
    #[arg(long)]
    testpmd: Option<PathBuf>,
    /// Keep the capture files in this folder, and use those that are there [default: a temporary folder].
    #[arg(long)]
    captures: Option<PathBuf>,
    /// Where the real Internet tables are.
    #[arg(long, default_value = concat!(env!("CARGO_MANIFEST_DIR"), "/../../shared/data"))]
    data: PathBuf,
    /// Arguments for DPDK, on both sides. Without huge pages: `--no-huge -m 2048` and a `--file-prefix` are taken.
    #[arg(long, default_value = "--in-memory --no-pci --no-telemetry --log-level=3")]
    eal: String,
}

/// Runs all that the arguments ask for.
pub fn run(args: &Args) -> Result<(), String> {
    if args.stages {
        return stages::run(args);
    }
    let stop = interrupted()?;
    if args.watched {
        return watched::run(args, &stop);
    }
    let testpmd = Testpmd::find(args);
    let mut report = Report::new(args.json, PEER);
    if testpmd.is_none() {
        report.note(
            "no dpdk-testpmd on this machine (Debian: apt-get install dpdk-dev), so ours runs alone and nothing is compared",
        );
    }
    let temporary =
        tempfile::tempdir().map_err(|error| format!("cannot make a temporary folder: {error}"))?;
    let folder = args.captures.as_deref().unwrap_or(temporary.path());
    let runs = plan(args);
    let mut progress = Progress { start: Instant::now(), done: 0, all: runs.len() };
    for run in &runs {
        progress.show(run);
        let row = compare(args, run, folder, testpmd.as_deref(), &stop)?;
        report.row(row);
        progress.done += 1;
        if stop.load(Ordering::Relaxed) {
            report.note("stopped: what was not measured is not here");
            break;
        }
    }
    report.finish();
    Ok(())
}

/// Set by Ctrl-C and SIGTERM.
fn interrupted() -> Result<Arc<AtomicBool>, String> {
    let stop = Arc::new(AtomicBool::new(false));
    for signal in [signal_hook::consts::SIGINT, signal_hook::consts::SIGTERM] {
        signal_hook::flag::register(signal, Arc::clone(&stop))
            .map_err(|error| format!("cannot wait for signals: {error}"))?;
    }
    Ok(stop)
}

/// A case on so many cores.
struct Run {
    case: Case,
    cores: Vec<usize>,
}

fn plan(args: &Args) -> Vec<Run> {
    let chosen = |case: &Case| args.case.is_empty() || args.case.contains(case);
    let cases: Vec<Case> = Case::ALL.into_iter().filter(chosen).collect();
    let mut runs: Vec<Run> = cases.iter().map(|case| Run { case: *case, cores: vec![args.core] }).collect();
    if !args.no_scaling && args.core != args.control_core {
        let small = cases.iter().filter(|case| matches!(case, Case::Untagged | Case::Tagged));
        runs.extend(small.map(|case| Run { case: *case, cores: vec![args.core, args.control_core] }));
    }
    runs
}

/// How far it is, on standard error.
struct Progress {
    start: Instant,
    done: usize,
    all: usize,
}

impl Progress {
    fn show(&self, run: &Run) {
        let left = match self.done {
            0 => String::new(),
            done => {
                let each = self.start.elapsed() / done as u32;
                format!(", some {} s left", (each * (self.all - done) as u32).as_secs())
            }
        };
        let cores = if run.cores.len() > 1 { " on two cores" } else { "" };
        eprintln!("perf: {}/{}: {}{cores}{left}", self.done + 1, self.all, run.case.title());
    }
}

/// One case, round by round, ours and the peer in turns.
fn compare(
    args: &Args,
    run: &Run,
    folder: &Path,
    testpmd: Option<&Path>,
    stop: &AtomicBool,
) -> Result<Row, String> {
    write_captures(args, run.case, folder)?;
    let mut row = Row {
        case: run.case,
        cores: run.cores.len(),
        mpps: Series::default(),
        cycles: Series::default(),
        peer_mpps: Series::default(),
    };
    for _ in 0..args.starts {
        let mut ours = Ours::start(args, run.case, folder, &run.cores, false)?;
        let start = |program| Testpmd::start(program, args, run.case, folder, &run.cores);
        let mut peer = testpmd.map(start).transpose()?;
        for _ in 0..args.rounds {
            let figures = ours.measure(args)?;
            row.mpps.push(figures.mpps);
            row.cycles.push(figures.cycles.unwrap_or_default());
            if let Some(peer) = &mut peer {
                row.peer_mpps.push(peer.measure(args)?.mpps);
            }
            if stop.load(Ordering::Relaxed) {
                return Ok(row);
            }
            // The other side's threads have ended by then.
            std::thread::sleep(Duration::from_millis(20));
        }
    }
    Ok(row)
}

/// Writes a case's capture files unless they are there.
fn write_captures(args: &Args, case: Case, folder: &Path) -> Result<(), String> {
    let files = [0, 1].map(|port| capture_file(folder, case, port));
    if files.iter().all(|file| file.exists()) {
        return Ok(());
    }
    for (file, frames) in files.iter().zip(case.captures(Routes::In(&args.data), case.frames())?) {
        capture::write(file, &frames).map_err(|error| format!("cannot write {}: {error}", file.display()))?;
    }
    Ok(())
}
