//! `perf rfc2544`: benchmarks of a device between two ports by RFC 2544, with RFC 5180's and RFC 8219's IPv6.

mod args;
mod dut;
mod error;
mod measure;
mod output;
mod progress;
mod rig;
mod search;
mod topology;
mod wake;

use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Instant;

use serde_json::json;
use signal_hook::consts::{SIGINT, SIGTERM};

pub use args::Args;
use args::{Dut, Test};
use error::Error;
use measure::Measurement;
use output::{Case, Output};
use rig::Rig;

use crate::traffic::{Sizes, least_size};

/// Runs all that the arguments ask for. Ended by Ctrl-C, it leaves what it has measured, and says so.
pub fn run(args: &Args) -> Result<(), String> {
    let args = completed(args);
    let start = Instant::now();
    let mut output = Output::new(args.json);
    let result = measure_all(&args, &mut output);
    let seconds = start.elapsed().as_secs_f64();
    match result {
        Ok(()) => output.end(false, seconds),
        Err(Error::Interrupted) => output.end(true, seconds),
        Err(error) => {
            output.end(true, seconds);
            return Err(error.to_string());
        }
    }
    Ok(())
}

/// The arguments that others imply.
fn completed(args: &Args) -> Args {
    let mut args = args.clone();
    if args.self_test {
        args.dut = Some(Dut::Turnpike);
        args.quick = true;
        if args.size.is_empty() {
            args.size = vec![Sizes::Fixed(128), Sizes::Imix];
        }
        if args.a_tags.count() == 0 && args.b_tags.count() == 0 {
            args.a_tags = args::TagList::dot1q(30);
            args.b_tags = args::TagList::qinq(100, 10);
        }
        args.bursts = args.bursts.or(Some(2));
        args.attempts = args.attempts.or(Some(2));
        args.resolution = args.resolution.max(2.0);
        // Whoever tries it may have other programs on the same cores.
        args.loss = args.loss.max(0.1);
    }
    if args.dut == Some(Dut::Loopback) {
        // The frame comes back as it went, so both sides are alike.
        args.b_tags = args.a_tags;
        args.bidirectional = false;
    }
    args
}

fn measure_all(args: &Args, output: &mut Output) -> Result<(), Error> {
    let stop = Arc::new(AtomicBool::new(false));
    for signal in [SIGINT, SIGTERM] {
        signal_hook::flag::register(signal, Arc::clone(&stop)).map_err(Error::Signals)?;
    }
    let sizes = args.families().into_iter().flat_map(|family| args.sizes(family));
    let longest =
        sizes.map(|sizes| if let Sizes::Fixed(size) = sizes { size } else { 1518 }).max().unwrap_or(1518);
    // Without the Ethernet header and the check sequence.
    let packet = longest - 18;
    let mut rig = Rig::open(args, packet, stop)?;
    // Not before: what DPDK and turnpike start is to run elsewhere.
    crate::lpm::pin(args.core);
    output.set_up(&facts(args, &rig));
    let mut cases = Vec::new();
    for family in args.families() {
        for sizes in args.sizes(family) {
            let least = least_size(family == args::Family::V6);
            match sizes {
                Sizes::Fixed(size) if size < least => {
                    output
                        .note(&format!("{}: no frames of {size} bytes, the least is {least}", family.name()));
                }
                _ => cases.push((family, sizes)),
            }
        }
    }
    rig.progress.plan(Measurement::plan(args) * cases.len() as f64);
    let mut reached = None;
    for (family, sizes) in cases {
        if reached != Some(family) {
            rig.reach(args, family)?;
            reached = Some(family);
        }
        let traffic = topology::traffic(args, &rig.sides, family, sizes)?;
        let least = least_size(family == args::Family::V6);
        let senders = if args.bidirectional && rig.sides.len() == 2 { 2 } else { 1 };
        let tags = [args.a_tags.count(), args.b_tags.count()];
        let wire_bits = sizes.wire_bits(least, tags[0].max(tags[1]));
        let case = Case { family, sizes, mean: sizes.mean(least), tags, wire_bits, senders };
        Measurement { args, case, traffic }.run(&mut rig, output)?;
    }
    Ok(())
}

/// What is tested and how, for the head of the report.
fn facts(args: &Args, rig: &Rig) -> serde_json::Value {
    let device = match args.dut {
        Some(Dut::Turnpike) => "a turnpike of its own",
        Some(Dut::Loopback) => "no device (the tester's own limit)",
        None => "the device between the ports",
    };
    let ports: Vec<_> =
        rig.devices.iter().map(|device| device.split(',').next().unwrap_or_default()).collect();
    let direction = if args.bidirectional { "both ways" } else { "from A to B" };
    let setup = format!(
        "{device}, ports {} ({}), {} flows {direction}, tags {} to {}",
        ports.join(" and "),
        rig.drivers().join(" and "),
        args.flows,
        args.a_tags.count(),
        args.b_tags.count()
    );
    let method = format!(
        "trials of {} s, loss allowed {} %, resolution {} %, tester on core {}{}",
        args.trial_time().as_secs_f64(),
        args.loss,
        args.resolution,
        args.core,
        if args.dut == Some(Dut::Turnpike) {
            format!(", turnpike on core {}", args.dut_core)
        } else {
            String::new()
        }
    );
    let tests = args.tests().into_iter().map(|test| match test {
        Test::Throughput => "throughput",
        Test::Latency => "latency",
        Test::Loss => "loss",
        Test::BackToBack => "back_to_back",
        Test::Wake => "wake",
    });
    json!({ "benchmark": "rfc2544", "test": "set_up", "setup": setup, "method": method, "ports": ports,
        "drivers": rig.drivers(), "flows": args.flows, "bidirectional": args.bidirectional, "tests": tests.collect::<Vec<_>>(),
        "link_bps": rig.speed(), "duration_s": args.trial_time().as_secs_f64() })
}
