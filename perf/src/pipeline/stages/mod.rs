//! `perf pipeline --stages`: what each stage costs. Cycles are taken on the ports of the other runs, with a look at the
//! clock after each stage of a burst. Instructions are counted by `callgrind` over packets in memory: they are the same
//! on a busy machine, so that CI can hold them against a baseline.

mod attribute;
mod baseline;
mod callgrind;
pub mod count;
mod replay;
pub mod timed;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use baseline::{ALL, Baselines, Counts};
use serde_json::json;

use super::case::Case;
use super::peer::Ours;
use super::report::Series;
use super::{Args, interrupted, write_captures};

/// The parts of a packet's way, in order. `worker` is the loop around the stages.
pub const PARTS: [&str; 8] =
    ["ports_rx", "rx", "parse", "lookup", "rewrite", "transmit", "worker", "ports_tx"];

/// What to run, and on which cases.
pub fn run(args: &Args) -> Result<(), String> {
    let stop = interrupted()?;
    let cases: Vec<Case> =
        Case::ALL.into_iter().filter(|case| args.case.is_empty() || args.case.contains(case)).collect();
    if args.renew {
        return renew(args, &cases, &stop);
    }
    if args.check {
        return check(args, &cases, &stop);
    }
    show(args, &cases, &stop)
}

/// How to make a new baseline.
const RENEW: &str = "cargo run --release -p perf -- pipeline --stages --renew";

fn renew(args: &Args, cases: &[Case], stop: &AtomicBool) -> Result<(), String> {
    let mut baselines = Baselines::load(&args.baseline)?;
    let counts = kept(&counted(cases, stop)?);
    let key = baseline::key();
    if let Some(before) = baselines.get(&key) {
        for (case, parts) in &counts {
            let was = before.get(case).and_then(|parts| parts.get(ALL));
            let was = was.map_or("none".into(), |was| format!("{was:.2}"));
            println!("{case}: {:.2} instructions a packet (before: {was})", parts[ALL]);
        }
    }
    baselines.renew(key.clone(), counts, &args.baseline)?;
    println!("{}: renewed for {key}", args.baseline.display());
    Ok(())
}

fn check(args: &Args, cases: &[Case], stop: &AtomicBool) -> Result<(), String> {
    let baselines = Baselines::load(&args.baseline)?;
    let key = baseline::key();
    let Some(before) = baselines.get(&key) else {
        println!(
            "perf: instructions not checked: {} has no baseline for {key} (it has: {}). `{RENEW}` makes one.",
            args.baseline.display(),
            baselines.keys().join("; ")
        );
        return Ok(());
    };
    if count::valgrind().is_none() {
        return Err(
            "no valgrind on this machine, which counts the instructions (Debian: apt-get install valgrind)"
                .into(),
        );
    }
    let now = kept(&counted(cases, stop)?);
    for (case, parts) in &now {
        let was = before.get(case).and_then(|parts| parts.get(ALL)).copied().unwrap_or_default();
        println!("{case:12} {:8.2} instructions a packet, {was:8.2} in the baseline", parts[ALL]);
    }
    let regressions = baseline::regressions(&now, before);
    if regressions.is_empty() {
        return Ok(());
    }
    Err(format!(
        "the packet path takes more instructions than the baseline allows (2 %):\n  {}\nIf the change is meant, renew the \
         baseline and commit it with the change: {RENEW}",
        regressions.join("\n  ")
    ))
}

type Counted = BTreeMap<&'static str, [f64; PARTS.len()]>;

fn kept(counted: &Counted) -> Counts {
    counted.iter().map(|(case, parts)| ((*case).to_owned(), baseline::rounded(parts))).collect()
}

/// Counts all cases, as many at a time as there are processors: time is of no matter here.
fn counted(cases: &[Case], stop: &AtomicBool) -> Result<Counted, String> {
    let folder = tempfile::tempdir().map_err(|error| format!("cannot make a temporary folder: {error}"))?;
    let (next, results) = (AtomicUsize::new(0), Mutex::new(Vec::new()));
    let at_a_time = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        for _ in 0..at_a_time.min(cases.len()) {
            scope.spawn(|| {
                while let Some(case) = cases.get(next.fetch_add(1, Ordering::Relaxed)) {
                    if stop.load(Ordering::Relaxed) {
                        return;
                    }
                    let result = count::count(*case, folder.path()).map(|parts| (case.name(), parts));
                    results.lock().unwrap_or_else(std::sync::PoisonError::into_inner).push(result);
                }
            });
        }
    });
    let results = results.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner);
    let counted: Counted = results.into_iter().collect::<Result<_, String>>()?;
    if counted.len() == cases.len() { Ok(counted) } else { Err("stopped".into()) }
}

/// Both costs, as a table or as JSON.
fn show(args: &Args, cases: &[Case], stop: &AtomicBool) -> Result<(), String> {
    let note = |note: &str| {
        if args.json { println!("{}", json!({ "note": note })) } else { println!("note: {note}") }
    };
    let instructions = if count::valgrind().is_some() {
        eprintln!("perf: counting instructions under valgrind");
        note(
            "instructions are those of the AVX2 path, as valgrind has no AVX-512, on packets in memory and generated tables \
             of at most 100,000 and 24,000 routes; cycles are those of the fastest path that this processor has, ports \
             included",
        );
        counted(cases, stop)?
    } else {
        note("no valgrind on this machine (Debian: apt-get install valgrind): instructions are not counted");
        Counted::new()
    };
    let temporary =
        tempfile::tempdir().map_err(|error| format!("cannot make a temporary folder: {error}"))?;
    let folder = args.captures.as_deref().unwrap_or(temporary.path());
    if !args.json {
        println!("{:50} {:>10} {:>8} {:>7} {:>13}", "case", "part", "cycles", "share", "instructions");
    }
    for (done, case) in cases.iter().enumerate() {
        eprintln!("perf: {}/{}: {}", done + 1, cases.len(), case.title());
        let (parts, plain) = cycles(args, *case, folder, stop)?;
        print(args.json, *case, &parts, plain, instructions.get(case.name()));
        if stop.load(Ordering::Relaxed) {
            note("stopped: what was not measured is not here");
            break;
        }
    }
    Ok(())
}

/// Cycles a packet by part, and without the clock in between; medians over the rounds.
fn cycles(
    args: &Args,
    case: Case,
    folder: &Path,
    stop: &AtomicBool,
) -> Result<([f64; PARTS.len()], f64), String> {
    write_captures(args, case, folder)?;
    let mut timed = Ours::start(args, case, folder, &[args.core], true)?;
    let mut plain = Ours::start(args, case, folder, &[args.core], false)?;
    let mut all = Series::default();
    let mut parts: [Series; PARTS.len()] = std::array::from_fn(|_| Series::default());
    for _ in 0..args.rounds {
        all.push(plain.measure(args)?.cycles.unwrap_or_default());
        let figures = timed.measure(args)?.parts.ok_or("our side did not tell the stages")?;
        parts.iter_mut().zip(figures).for_each(|(series, part)| series.push(part));
        if stop.load(Ordering::Relaxed) {
            break;
        }
    }
    Ok((parts.map(|series| series.median().unwrap_or_default()), all.median().unwrap_or_default()))
}

fn print(
    as_json: bool,
    case: Case,
    cycles: &[f64; PARTS.len()],
    plain: f64,
    instructions: Option<&[f64; PARTS.len()]>,
) {
    let sum: f64 = cycles.iter().sum();
    let own = |part: &str| !part.starts_with("ports");
    let all = instructions.map(|counts| {
        PARTS.iter().zip(counts).filter(|(part, _)| own(part)).map(|(_, count)| count).sum::<f64>()
    });
    let row = |part: &str, cycles: Option<f64>, instructions: Option<f64>| {
        if as_json {
            let rounded = |value: Option<f64>| value.map(|value| (value * 100.0).round() / 100.0);
            println!(
                "{}",
                json!({ "case": case.title(), "stage": part, "cycles_per_packet": rounded(cycles),
                    "instructions_per_packet": rounded(instructions) })
            );
            return;
        }
        let number = |value: Option<f64>| value.map_or("-".into(), |value| format!("{value:.1}"));
        let share = cycles.map_or("-".into(), |cycles| format!("{:.0} %", cycles / sum * 100.0));
        println!(
            "{:50} {part:>10} {:>8} {share:>7} {:>13}",
            case.title(),
            number(cycles),
            number(instructions)
        );
    };
    for (at, part) in PARTS.iter().enumerate() {
        // The loop's own cycles lie between the looks at the clock; ports in memory say nothing.
        let cycles = (*part != "worker").then_some(cycles[at]);
        row(part, cycles, instructions.map(|counts| counts[at]).filter(|_| own(part)));
    }
    row(ALL, Some(sum), all);
    row("untimed", Some(plain), None);
}
