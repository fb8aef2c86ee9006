//! `perf pipeline --stages`: what each stage costs. Cycles are taken on the ports of the other runs, with a look at the
//! clock after each stage of a burst. Instructions are counted over packets in memory, by `callgrind` and step by step: they
//! are the same on a busy machine, so that CI can hold them against a baseline.

mod attribute;
mod baseline;
mod callgrind;
pub mod count;
mod profile;
mod replay;
mod stepping;
mod steps;
pub mod timed;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use baseline::{ALL, Baselines, Counts};
use count::Counter;
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
    for counter in Counter::ALL {
        let key = baseline::key(counter.level());
        if let Some(missing) = counter.missing() {
            if counter == Counter::Callgrind {
                return Err(missing);
            }
            println!("{key}: not renewed: {missing}");
            continue;
        }
        let counts = kept(&counted(counter, cases, stop)?);
        for (case, parts) in &counts {
            let before = baselines.get(&key).and_then(|before| before.get(case)?.get(ALL).copied());
            println!("{}", line(counter, case, parts[ALL], before));
        }
        baselines.renew(key.clone(), counts, &args.baseline)?;
        println!("{}: renewed for {key}", args.baseline.display());
    }
    Ok(())
}

fn line(counter: Counter, case: &str, now: f64, before: Option<f64>) -> String {
    let before = before.map_or("none".into(), |before| format!("{before:.2}"));
    format!("{:8} {case:12} {now:8.2} instructions a packet, {before:>8} in the baseline", counter.level())
}

fn check(args: &Args, cases: &[Case], stop: &AtomicBool) -> Result<(), String> {
    let baselines = Baselines::load(&args.baseline)?;
    let mut regressions = Vec::new();
    for counter in Counter::ALL {
        let key = baseline::key(counter.level());
        // What a processor lacks is no fault of the machine's, other than what can be installed.
        if let Some(missing) = counter.missing().filter(|_| counter == Counter::Steps) {
            println!("perf: instructions with {} not checked: {missing}", counter.level());
            continue;
        }
        let Some(before) = baselines.get(&key) else {
            println!(
                "perf: instructions not checked: {} has no baseline for {key} (it has: {}). `{RENEW}` makes one.",
                args.baseline.display(),
                baselines.keys().join("; ")
            );
            continue;
        };
        if let Some(missing) = counter.missing() {
            return Err(missing);
        }
        let now = kept(&counted(counter, cases, stop)?);
        for (case, parts) in &now {
            let before = before.get(case).and_then(|parts| parts.get(ALL)).copied();
            println!("{}", line(counter, case, parts[ALL], before));
        }
        let more = baseline::regressions(&now, before);
        regressions.extend(more.into_iter().map(|line| format!("{}, {line}", counter.level())));
    }
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
fn counted(counter: Counter, cases: &[Case], stop: &AtomicBool) -> Result<Counted, String> {
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
                    let result = counter.count(*case, folder.path()).map(|parts| (case.name(), parts));
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
    note(
        "instructions are those of packets in memory and generated tables of at most 100,000 and 24,000 routes, ports left \
         out; cycles are those of the fastest path that this processor has, ports included",
    );
    let mut instructions = Vec::new();
    for counter in Counter::ALL {
        if let Some(missing) = counter.missing() {
            note(&format!("instructions with {} are not counted: {missing}", counter.level()));
        } else {
            eprintln!("perf: counting instructions with {}", counter.level());
            instructions.push((counter, counted(counter, cases, stop)?));
        }
    }
    let temporary =
        tempfile::tempdir().map_err(|error| format!("cannot make a temporary folder: {error}"))?;
    let folder = args.captures.as_deref().unwrap_or(temporary.path());
    if !args.json {
        let levels =
            Counter::ALL.map(|counter| format!(" {:>20}", format!("{} instr.", counter.level()))).concat();
        println!("{:50} {:>10} {:>8} {:>7}{levels}", "case", "part", "cycles", "share");
    }
    for (done, case) in cases.iter().enumerate() {
        eprintln!("perf: {}/{}: {}", done + 1, cases.len(), case.title());
        let (parts, plain) = cycles(args, *case, folder, stop)?;
        print(args.json, *case, &parts, plain, &instructions);
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
    instructions: &[(Counter, Counted)],
) {
    let sum: f64 = cycles.iter().sum();
    // What the ports in memory take says nothing.
    let own = |part: &str| !part.starts_with("ports");
    let counted = |counter: Counter| instructions.iter().find(|(of, _)| *of == counter)?.1.get(case.name());
    let row = |part: &str, cycles: Option<f64>, instructions: [Option<f64>; Counter::ALL.len()]| {
        if as_json {
            let rounded = |value: Option<f64>| value.map(|value| (value * 100.0).round() / 100.0);
            let mut row =
                json!({ "case": case.title(), "stage": part, "cycles_per_packet": rounded(cycles) });
            for (counter, count) in Counter::ALL.iter().zip(instructions) {
                row[counter.field()] = json!(rounded(count));
            }
            println!("{row}");
            return;
        }
        let number = |value: Option<f64>| value.map_or("-".into(), |value| format!("{value:.1}"));
        let share = cycles.map_or("-".into(), |cycles| format!("{:.0} %", cycles / sum * 100.0));
        let counts = instructions.map(|count| format!(" {:>20}", number(count))).concat();
        println!("{:50} {part:>10} {:>8} {share:>7}{counts}", case.title(), number(cycles));
    };
    for (at, part) in PARTS.iter().enumerate() {
        // The loop's own cycles lie between the looks at the clock.
        let cycles = (*part != "worker").then_some(cycles[at]);
        row(part, cycles, Counter::ALL.map(|counter| Some(counted(counter)?[at]).filter(|_| own(part))));
    }
    let all = |counts: &[f64; PARTS.len()]| {
        PARTS.iter().zip(counts).filter(|(part, _)| own(part)).map(|(_, count)| count).sum()
    };
    row(ALL, Some(sum), Counter::ALL.map(|counter| counted(counter).map(all)));
    row("untimed", Some(plain), Counter::ALL.map(|_| None));
}
