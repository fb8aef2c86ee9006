//! Counting instructions: the real worker over packets in memory, as a process of its own that `callgrind` watches.
//! Tables and frames are made from a fixed seed, so that the same program counts the same anywhere.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;

use dataplane::burst::BURST;
use dataplane::counters::WorkerCounters;
use dataplane::offload::{Checks, PortOffloads, State};
use dataplane::punt::{PUNT_RING, Rings};
use dataplane::qsbr::Domain;
use dataplane::worker::Worker;

use super::callgrind::Profile;
use super::replay::Replay;
use super::{PARTS, attribute};
use crate::pipeline::case::{Case, Routes};
use crate::pipeline::setup;

/// Rounds that are counted; each takes a burst from both ports.
const ROUNDS: usize = 100;
/// Rounds before.
const WARM_UP: usize = 4;

/// What the parent passes on.
#[derive(clap::Args)]
pub struct ChildArgs {
    #[arg(long)]
    case: Case,
    /// Has the ports call all checksums right, and their word count.
    #[arg(long)]
    vouched: bool,
    /// Has the ports take off the outermost tag of each packet.
    #[arg(long)]
    stripped: bool,
}

/// Forwards a case's packets once.
pub fn child(args: &ChildArgs) -> Result<(), String> {
    let network = args.case.network(Routes::Generated)?;
    let loaded = setup::tables(&network)?;
    let packets = (WARM_UP + ROUNDS) * BURST;
    let frames = args.case.captures(Routes::Generated, args.case.frames().min(packets))?;
    let io = Replay::new(&frames, packets, args.vouched, args.stripped);
    let (_domain, mut readers) = Domain::new(loaded.tables.clone(), 1);
    let mut reader = readers.pop().ok_or("no reader")?;
    reader.online();
    let rings = Rings::new(PUNT_RING);
    let counters = Arc::new(WorkerCounters::new(2, network.sub_interfaces.len()));
    let state = if args.vouched { State::InUse } else { State::NotAsked };
    let offloads = [0; 2]
        .map(|_| Arc::new(PortOffloads::new([state, State::NotAsked, State::NotAsked, State::NotAsked])));
    let mut worker = Worker::new(io, reader, &rings, counters, 1_000_000_000, false)
        .with_checks(Checks::new(&offloads, 0));
    for _ in 0..WARM_UP {
        worker.round();
    }
    the_rounds_that_are_counted(&mut worker);
    let sent = worker.into_parts().0.sent();
    if sent == 2 * packets {
        Ok(())
    } else {
        Err(format!("{sent} of {} packets were forwarded", 2 * packets))
    }
}

/// `callgrind` counts from when this is called to when it returns.
#[inline(never)]
fn the_rounds_that_are_counted(worker: &mut Worker<Replay>) {
    for _ in 0..ROUNDS {
        worker.round();
    }
}

/// Instructions a packet, by part of the way in the order of [`PARTS`]. The ports are those in memory: they say nothing.
pub fn count(case: Case, folder: &Path) -> Result<[f64; PARTS.len()], String> {
    let program = std::env::current_exe().map_err(|error| format!("cannot find myself: {error}"))?;
    let out = folder.join(format!("{}.callgrind", case.name()));
    let mut command = Command::new("valgrind");
    command.args(["--tool=callgrind", "--dump-instr=yes", "--compress-strings=no", "--compress-pos=no"]);
    command.args(["--collect-atstart=no", "--toggle-collect=*the_rounds_that_are_counted*"]);
    command.arg(format!("--callgrind-out-file={}", out.display()));
    command.arg(&program).args(["pipeline-count", "--case", case.name()]).stdin(Stdio::null());
    let output = command.output().map_err(|error| format!("cannot run valgrind: {error}"))?;
    if !output.status.success() {
        let error = String::from_utf8_lossy(&output.stderr);
        let last: Vec<&str> = error.lines().rev().take(6).collect();
        let last: Vec<&str> = last.into_iter().rev().collect();
        return Err(format!("{}: counting under valgrind failed:\n  {}", case.name(), last.join("\n  ")));
    }
    let text = std::fs::read_to_string(&out).map_err(|error| format!("{}: {error}", out.display()))?;
    let profile = Profile::parse(&text).map_err(|error| format!("{}: {error}", out.display()))?;
    let counted = attribute::by_part(&profile, &program)?;
    Ok(counted.map(|instructions| instructions as f64 / (ROUNDS * 2 * BURST) as f64))
}

/// `valgrind`, if the machine has it.
pub fn valgrind() -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path).map(|dir| dir.join("valgrind")).find(|program| program.is_file())
}
