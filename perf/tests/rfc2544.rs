//! `perf rfc2544` end to end: through a real turnpike over shared memory, looped back, and where it must refuse.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test")]

use std::io::{BufRead as _, BufReader, Read as _};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

fn perf() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_perf"));
    command.arg("rfc2544").stdin(Stdio::null());
    command
}

/// The turnpike of the same build, made if it is not there: `cargo test -p perf` builds perf only.
fn turnpike() -> PathBuf {
    static BUILT: std::sync::Once = std::sync::Once::new();
    let beside = Path::new(env!("CARGO_BIN_EXE_perf")).with_file_name("turnpike");
    BUILT.call_once(|| {
        if !beside.exists() {
            let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
            let target = beside.ancestors().nth(2).unwrap();
            let built =
                Command::new(cargo).args(["build", "-p", "control", "--target-dir"]).arg(target).status();
            assert!(built.unwrap().success(), "turnpike does not build");
        }
    });
    beside
}

/// One turnpike at a time: tester and device each want a core.
static ONE: std::sync::Mutex<()> = std::sync::Mutex::new(());

/// What the tester says when it could not send what it was to send.
const LIMIT: &str = "the tester is the limit";

/// Runs a measurement; again if the tester could not keep up, which on a busy machine is no fault of its own.
fn run(command: &mut Command) -> (Output, Vec<Value>) {
    patiently(|| command.output().unwrap())
}

/// The same, however it is run.
fn patiently(mut measure: impl FnMut() -> Output) -> (Output, Vec<Value>) {
    let kept_up = |output: &Output| !String::from_utf8_lossy(&output.stderr).contains(LIMIT);
    let mut output = measure();
    for _ in 0..7 {
        if kept_up(&output) {
            break;
        }
        output = measure();
    }
    let text = String::from_utf8_lossy(&output.stdout);
    let rows = text.lines().map(|line| serde_json::from_str(line).expect(line)).collect();
    (output, rows)
}

fn of<'a>(rows: &'a [Value], test: &str) -> Vec<&'a Value> {
    rows.iter().filter(|row| row["test"] == test).collect()
}

/// A rate that any machine forwards, so low that the tester catches up with a delay of 60 ms, and the loss that a busy one
/// may have: what counts here is that each measurement is made through a real forwarder, and that nothing comes back wrong.
#[test]
fn through_a_real_turnpike() {
    let _one = ONE.lock();
    let (output, rows) = run(perf()
        .args(["--dut", "turnpike", "--quick", "--duration", "0.2", "--latency-duration", "0.2", "--json"])
        .args([
            "--size",
            "128",
            "--size",
            "imix",
            "--a-tags",
            "30",
            "--b-tags",
            "88a8:100.10",
            "--bidirectional",
        ])
        .args([
            "--flows",
            "64",
            "--max-rate",
            "1000",
            "--loss",
            "50",
            "--bursts",
            "1",
            "--burst-seconds",
            "0.01",
        ])
        .arg("--turnpike")
        .arg(turnpike()));
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{errors}");
    assert!(!errors.contains("panicked"), "{errors}");
    let throughputs = of(&rows, "throughput");
    assert_eq!(throughputs.len(), 4, "two families, two sizes: {rows:#?}");
    for row in &throughputs {
        assert!(row["received"].as_u64().unwrap() > 0, "{row}");
        for wrong in ["corrupt", "duplicates", "reordered", "misdirected"] {
            assert_eq!(row[wrong], 0, "{wrong}: {row}");
        }
        assert_eq!(
            (&row["tags_in"], &row["tags_out"], &row["directions"]),
            (&1.into(), &2.into(), &2.into())
        );
    }
    assert_eq!(of(&rows, "latency").len(), 12);
    for row in of(&rows, "latency") {
        let at = |name: &str| row[name].as_f64().unwrap();
        assert!(at("min_us") > 0.0 && at("min_us") <= at("p50_us") && at("p50_us") <= at("p999_us"), "{row}");
        assert!(at("p999_us") <= at("max_us") * 1.001 && row["samples"].as_u64().unwrap() > 0, "{row}");
    }
    assert!(of(&rows, "loss").len() >= 8);
    assert_eq!(of(&rows, "back_to_back").len(), 4);
    assert_eq!(of(&rows, "end")[0]["partial"], false);
}

#[test]
fn looped_back_to_itself() {
    let _one = ONE.lock();
    let (output, rows) = run(perf()
        .args([
            "--dut",
            "loopback",
            "--no-huge",
            "--quick",
            "--duration",
            "0.1",
            "--json",
            "--test",
            "throughput",
        ])
        .args(["--size", "84", "--max-rate", "1000", "--loss", "50", "--flows", "7", "--a-tags", "7"]));
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let rows = of(&rows, "throughput");
    assert_eq!(rows.len(), 2);
    assert!(rows.iter().all(|row| row["received"].as_u64().unwrap() > 0 && row["corrupt"] == 0), "{rows:?}");
}

/// Ctrl-C in a long run: what was measured stays, the end says that it is partial, and turnpike is gone.
#[test]
fn an_interrupted_run_is_partial() {
    let _one = ONE.lock();
    let (output, rows) = patiently(interrupted);
    assert_eq!(of(&rows, "end").len(), 1, "{rows:?} {}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(of(&rows, "end")[0]["partial"], true, "{rows:?}");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

/// A long run that gets its Ctrl-C.
fn interrupted() -> Output {
    let mut child = perf()
        .args([
            "--dut",
            "turnpike",
            "--json",
            "--test",
            "loss",
            "--max-rate",
            "1000",
            "--size",
            "128",
            "--family",
            "v4",
        ])
        .args(["--verbose", "--drain", "0.1", "--duration", "5"])
        .arg("--turnpike")
        .arg(turnpike())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // Once it has started it says how things are set up; it would take many seconds to end by itself.
    let mut text = String::new();
    let mut said = BufReader::new(child.stdout.take().unwrap());
    said.read_line(&mut text).unwrap();
    std::thread::sleep(Duration::from_secs(2));
    let pid = rustix::process::Pid::from_child(&child);
    rustix::process::kill_process(pid, rustix::process::Signal::INT).unwrap();
    let start = Instant::now();
    said.read_to_string(&mut text).unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(start.elapsed() < Duration::from_secs(40));
    Output { stdout: text.into_bytes(), ..output }
}

/// What it says where it cannot run.
#[test]
fn refusals_say_the_way_out() {
    let _one = ONE.lock();
    let cases: [(&[&str], &str); 6] = [
        (&[], "name the two ports"),
        (
            &["0000:ff:1f.7", "0000:ff:1f.6", "--no-huge", "--a-gateway", "02:00:00:00:00:01"],
            "no such PCI device",
        ),
        (&["net_null0", "net_null1", "--no-huge"], "--a-gateway"),
        (
            &["--dut", "turnpike", "--turnpike", "/nowhere/turnpike", "--no-huge"],
            "/nowhere/turnpike does not start",
        ),
        (
            &[
                "net_memif0,role=server,socket=/tmp/perf-nobody.sock,socket-abstract=no",
                "net_null0",
                "--no-huge",
                "--a-gateway",
                "02:00:00:00:00:01",
                "--b-gateway",
                "02:00:00:00:00:02",
            ],
            "link is down",
        ),
        (
            &[
                "net_null0,no-rx=1",
                "net_null1,no-rx=1",
                "--no-huge",
                "--a-gateway",
                "02:00:00:00:00:01",
                "--b-gateway",
                "02:00:00:00:00:02",
            ],
            "nothing comes back from net_null1",
        ),
    ];
    for (args, expected) in cases {
        let output = perf().args(args).output().unwrap();
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(!output.status.success(), "{args:?}");
        let right = errors.contains(expected) && !errors.contains("panicked");
        assert!(right, "{args:?}: {}: {errors}", output.status);
    }
}

#[test]
fn a_rate_beyond_the_tester_is_said_to_be() {
    let _one = ONE.lock();
    let output = perf()
        .args(["--dut", "loopback", "--no-huge", "--quick", "--json", "--test", "throughput"])
        .args(["--family", "v4", "--size", "1518", "--max-rate", "1e9", "--flows", "16"])
        .output()
        .unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success() && errors.contains(LIMIT), "{errors}");
}
