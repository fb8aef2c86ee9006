//! Which stage an instruction belongs to. The stages are inlined into one another; the debugging information knows for
//! each address through which functions it came there, and in which files those are.

use std::collections::{BTreeSet, HashMap};
use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};

use super::PARTS;
use super::profile::{Function, Profile};

/// Where, in [`PARTS`], what is in one of these files belongs. The first that fits counts.
const FILES: &[(&str, &str)] = &[
    ("pipeline/stages/replay.rs", "ports_rx"),
    ("dataplane/src/stage/rx.rs", "rx"),
    ("dataplane/src/stage/parse.rs", "parse"),
    ("dataplane/src/stage/wide.rs", "parse"),
    ("dataplane/src/stage/classify.rs", "parse"),
    ("dataplane/src/stage/validate.rs", "parse"),
    ("dataplane/src/stage/lookup.rs", "lookup"),
    ("dataplane/src/stage/transmit.rs", "transmit"),
    // Whatever else there is between look-up and transmission.
    ("dataplane/src/stage/", "rewrite"),
];

/// Instructions by part of the way, in the order of [`PARTS`]. What is not in a stage's files counts where it was called
/// from; the rest is the worker's own.
pub fn by_part(profile: &Profile, program: &Path) -> Result<[u64; PARTS.len()], String> {
    let object = program.to_string_lossy();
    let own = profile.own.iter().filter(|(function, _)| function.object == object);
    let costs = own.flat_map(|(_, costs)| costs.iter().map(|(address, _)| *address));
    let calls = profile.calls.values().flatten().filter(|call| call.caller.object == object);
    let addresses: BTreeSet<u64> = costs.chain(calls.map(|call| call.address)).collect();
    let places = Places { of: resolve(program, &addresses)?, object: object.into_owned(), profile };
    let mut counted = [0.0; PARTS.len()];
    for (function, costs) in &profile.own {
        for (address, cost) in costs {
            let shares = places.shares(function, *address, 0);
            counted.iter_mut().zip(shares).for_each(|(count, share)| *count += *cost as f64 * share);
        }
    }
    Ok(counted.map(|count| count.round() as u64))
}

/// What part each address belongs to.
struct Places<'a> {
    of: HashMap<u64, usize>,
    object: String,
    profile: &'a Profile,
}

/// The worker's own part.
const WORKER: usize = PARTS.len() - 2;

/// Calls within calls that are followed up to a stage.
const DEPTH: usize = 8;

impl Places<'_> {
    /// Which parts an instruction works for: the stage that it is in, or those that its function was called from.
    fn shares(&self, function: &Function, address: u64, depth: usize) -> [f64; PARTS.len()] {
        let mut shares = [0.0; PARTS.len()];
        if let Some(part) = self.of.get(&address).filter(|_| function.object == self.object) {
            shares[*part] = 1.0;
            return shares;
        }
        let calls = self.profile.calls.get(function).map_or(&[][..], Vec::as_slice);
        let all: u64 = calls.iter().map(|call| call.instructions).sum();
        if all == 0 || depth == DEPTH {
            shares[WORKER] = 1.0;
            return shares;
        }
        for call in calls {
            let share = call.instructions as f64 / all as f64;
            let above = self.shares(&call.caller, call.address, depth + 1);
            shares.iter_mut().zip(above).for_each(|(to, from)| *to += share * from);
        }
        shares
    }
}

/// The part of each address that is in a stage.
fn resolve(program: &Path, addresses: &BTreeSet<u64>) -> Result<HashMap<u64, usize>, String> {
    let failed = |error| format!("cannot run addr2line (Debian: apt-get install binutils): {error}");
    let mut command = Command::new("addr2line");
    command.args(["--addresses", "--inlines", "--exe"]).arg(program);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
    let mut child = command.spawn().map_err(failed)?;
    let mut input = child.stdin.take().ok_or("addr2line has no standard input")?;
    let questions = addresses.iter().fold(String::new(), |text, address| text + &format!("{address:#x}\n"));
    // It answers while it is asked: both must go on.
    let asking = std::thread::spawn(move || input.write_all(questions.as_bytes()));
    let output = child.wait_with_output().map_err(failed)?;
    let asked = asking.join().map_err(|_| "addr2line was not asked to the end")?;
    asked.map_err(|error| format!("addr2line does not listen: {error}"))?;
    Ok(read(&String::from_utf8_lossy(&output.stdout)))
}

/// Reads `addr2line --addresses --inlines`: the address, then a file and line for each function from the innermost out.
fn read(text: &str) -> HashMap<u64, usize> {
    let mut parts = HashMap::new();
    let mut address = 0;
    for line in text.lines() {
        if let Some(hex) = line.strip_prefix("0x") {
            address = u64::from_str_radix(hex, 16).unwrap_or(0);
        } else if let Some(part) = part_of(line) {
            // The outermost counts: what a stage calls is its own. But all stages are within `stage/mod.rs`.
            let general = line.contains("dataplane/src/stage/mod.rs");
            if !general || !parts.contains_key(&address) {
                parts.insert(address, part);
            }
        }
    }
    parts
}

fn part_of(line: &str) -> Option<usize> {
    let (_, name) = FILES.iter().find(|(file, _)| line.contains(file))?;
    PARTS.iter().position(|part| part == name)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn part(name: &str) -> usize {
        PARTS.iter().position(|part| *part == name).unwrap()
    }

    #[test]
    fn the_outermost_stage_counts() {
        let text = "0x0000000000000010\n/rustc/core/slice.rs:5\n/w/dataplane/src/stage/select.rs:9\n\
                    /w/dataplane/src/stage/validate.rs:7\n/w/dataplane/src/stage/mod.rs:3\n/w/dataplane/src/worker.rs:1\n\
                    0x20\n/w/dataplane/src/stage/mod.rs:70 (discriminator 2)\n/w/dataplane/src/worker.rs:1\n\
                    0x30\n/w/dataplane/src/fib/v4.rs:8\n0x40\n??:0\n";
        let parts = read(text);
        assert_eq!(parts.get(&0x10), Some(&part("parse")));
        assert_eq!(parts.get(&0x20), Some(&part("rewrite")));
        assert_eq!((parts.get(&0x30), parts.get(&0x40)), (None, None));
    }

    #[test]
    fn what_is_called_counts_where_it_is_called_from() {
        let text = "ob=/perf\nfn=poll\n0x10 1 100\n0x11 1 4\ncfn=look_up\ncalls=1 0x20 0\n0x10 1 50\ncob=/libc\n\
                    cfn=memcpy\ncalls=1 0x90 0\n0x12 1 30\n\nfn=look_up\n0x20 1 40\ncob=/libc\ncfn=memcpy\n\
                    calls=1 0x90 0\n0x21 1 10\n\nob=/libc\nfn=memcpy\n0x90 1 40\n";
        let profile = Profile::parse(text).unwrap();
        let of = HashMap::from([(0x10, part("lookup")), (0x12, part("transmit"))]);
        let places = Places { of, object: "/perf".into(), profile: &profile };
        let memcpy = Function { object: "/libc".into(), name: "memcpy".into() };
        let shares = places.shares(&memcpy, 0x90, 0);
        // 30 of 40 from the transmission, 10 through the look-up.
        assert!(
            (shares[part("transmit")] - 0.75).abs() < 1e-9 && (shares[part("lookup")] - 0.25).abs() < 1e-9
        );
        let nobody = Function { object: "/perf".into(), name: "poll".into() };
        assert!((places.shares(&nobody, 0x11, 0)[WORKER] - 1.0).abs() < 1e-9);
    }
}
