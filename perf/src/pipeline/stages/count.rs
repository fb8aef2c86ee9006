//! Counting instructions: the real worker over packets in memory, as a process of its own that `callgrind` watches, or
//! that steps itself. Tables and frames are made from a fixed seed, so that the same program counts the same anywhere.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;

use dataplane::burst::BURST;
use dataplane::counters::WorkerCounters;
use dataplane::offload::{Checks, PortOffloads, State};
use dataplane::punt::{PUNT_RING, Rings};
use dataplane::qsbr::Domain;
use dataplane::worker::Worker;

use super::profile::Profile;
use super::replay::Replay;
use super::steps::{self, Objects};
use super::{PARTS, attribute, stepping};
use crate::pipeline::case::{Case, Routes};
use crate::pipeline::setup;

/// Rounds that `callgrind` counts; each takes a burst from both ports.
const ROUNDS: usize = 100;
/// Rounds that are stepped, as a step takes some microseconds.
const STEPPED: usize = 4;
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
    /// Steps itself, and prints the instructions of each part.
    #[arg(long)]
    step: bool,
}

/// Forwards a case's packets once.
pub fn child(args: &ChildArgs) -> Result<(), String> {
    let network = args.case.network(Routes::Generated)?;
    let loaded = setup::tables(&network)?;
    let rounds = if args.step { STEPPED } else { ROUNDS };
    let packets = (WARM_UP + rounds) * BURST;
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
    let mut count = || the_rounds_that_are_counted(&mut worker, rounds);
    let taken = if args.step {
        stepping::steps(count)?
    } else {
        count();
        Vec::new()
    };
    let sent = worker.into_parts().0.sent();
    if sent != 2 * packets {
        return Err(format!("{sent} of {} packets were forwarded", 2 * packets));
    }
    if args.step {
        let maps = std::fs::read_to_string("/proc/self/maps").map_err(|e| format!("/proc/self/maps: {e}"))?;
        let (mut profile, program) = (steps::profile(&taken, &Objects::read(&maps)), myself()?);
        // What libc takes differs by processor model: it has its own choice of ways to copy.
        profile.own.retain(|function, _| Path::new(&function.object) == program);
        println!("{}", serde_json::json!(attribute::by_part(&profile, &program)?));
    }
    Ok(())
}

/// `callgrind` counts from when this is called to when it returns.
#[inline(never)]
fn the_rounds_that_are_counted(worker: &mut Worker<Replay>, rounds: usize) {
    for _ in 0..rounds {
        worker.round();
    }
}

/// Who counts, and so which of the worker's ways: it takes the widest that it is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Counter {
    /// `valgrind --tool=callgrind`, which has no AVX-512.
    Callgrind,
    /// The program itself, step by step, with all that the processor has.
    Steps,
}

impl Counter {
    pub const ALL: [Self; 2] = [Self::Callgrind, Self::Steps];

    /// The instructions that the worker uses.
    pub fn level(self) -> &'static str {
        match self {
            Self::Callgrind if has_avx2() => "AVX2",
            Self::Callgrind => "baseline",
            Self::Steps => "AVX-512",
        }
    }

    /// What its counts are called in JSON.
    pub fn field(self) -> &'static str {
        match self {
            Self::Callgrind => "instructions_per_packet",
            Self::Steps => "avx512_instructions_per_packet",
        }
    }

    /// Why it cannot count on this machine.
    pub fn missing(self) -> Option<String> {
        match self {
            Self::Callgrind => valgrind().is_none().then(|| {
                "no valgrind on this machine, which counts the instructions (Debian: apt-get install valgrind)".into()
            }),
            Self::Steps => lacks()
                .map(|feature| format!("this processor has no {feature}"))
                .or_else(|| stepping::steps(|| ()).err()),
        }
    }

    /// Instructions a packet, by part of the way in the order of [`PARTS`]. The ports are those in memory: they say nothing.
    pub fn count(self, case: Case, folder: &Path) -> Result<[f64; PARTS.len()], String> {
        let (counted, rounds) = match self {
            Self::Callgrind => (under_callgrind(case, folder)?, ROUNDS),
            Self::Steps => (by_steps(case)?, STEPPED),
        };
        Ok(counted.map(|instructions| instructions as f64 / (rounds * 2 * BURST) as f64))
    }
}

fn myself() -> Result<PathBuf, String> {
    std::env::current_exe().map_err(|error| format!("cannot find myself: {error}"))
}

/// Runs what counts a case, and returns what it prints.
fn run(case: Case, command: &mut Command, more: &[&str]) -> Result<Vec<u8>, String> {
    command.args(["pipeline-count", "--case", case.name()]).args(more).stdin(Stdio::null());
    let output = command
        .output()
        .map_err(|error| format!("cannot run {}: {error}", command.get_program().display()))?;
    if output.status.success() {
        return Ok(output.stdout);
    }
    let error = String::from_utf8_lossy(&output.stderr);
    let last: Vec<&str> = error.lines().rev().take(6).collect();
    let last: Vec<&str> = last.into_iter().rev().collect();
    Err(format!("{}: counting failed ({}):\n  {}", case.name(), output.status, last.join("\n  ")))
}

fn under_callgrind(case: Case, folder: &Path) -> Result<[u64; PARTS.len()], String> {
    let program = myself()?;
    let out = folder.join(format!("{}.callgrind", case.name()));
    let mut command = Command::new("valgrind");
    command.args(["--tool=callgrind", "--dump-instr=yes", "--compress-strings=no", "--compress-pos=no"]);
    command.args(["--collect-atstart=no", "--toggle-collect=*the_rounds_that_are_counted*"]);
    command.arg(format!("--callgrind-out-file={}", out.display())).arg(&program);
    run(case, &mut command, &[])?;
    let text = std::fs::read_to_string(&out).map_err(|error| format!("{}: {error}", out.display()))?;
    let profile = Profile::parse(&text).map_err(|error| format!("{}: {error}", out.display()))?;
    attribute::by_part(&profile, &program)
}

fn by_steps(case: Case) -> Result<[u64; PARTS.len()], String> {
    let printed = run(case, &mut Command::new(myself()?), &["--step"])?;
    serde_json::from_slice(&printed).map_err(|error| format!("{}: not counts: {error}", case.name()))
}

/// `valgrind`, if the machine has it.
fn valgrind() -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path).map(|dir| dir.join("valgrind")).find(|program| program.is_file())
}

/// Whether the worker takes its AVX2 way under valgrind, which shows a program AVX2 where the processor has it.
fn has_avx2() -> bool {
    #[cfg(target_arch = "x86_64")]
    let has = is_x86_feature_detected!("avx2") && is_x86_feature_detected!("bmi2");
    #[cfg(not(target_arch = "x86_64"))]
    let has = false;
    has
}

/// What this processor lacks of what any part of the AVX-512 way asks for. One with only some of it takes a way of its own,
/// which is not counted.
#[cfg(target_arch = "x86_64")]
fn lacks() -> Option<&'static str> {
    macro_rules! which {
        ($($feature:tt)*) => {
            [$((is_x86_feature_detected!($feature), $feature)),*]
        };
    }
    let features = which!(
        "avx512f" "avx512bw" "avx512cd" "avx512dq" "avx512vl" "avx512vpopcntdq" "avx2" "bmi1" "bmi2" "lzcnt" "movbe"
        "popcnt"
    );
    features.into_iter().find(|(has, _)| !has).map(|(_, feature)| feature)
}

#[cfg(not(target_arch = "x86_64"))]
fn lacks() -> Option<&'static str> {
    Some("avx512f")
}
