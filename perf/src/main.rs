//! Benchmarks of turnpike, side by side with what a user could pick instead.

mod acl;
mod lpm;
mod pipeline;
mod report;
mod rfc2544;
mod routes;
mod traffic;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// Benchmarks of turnpike.
#[derive(Parser)]
#[command(version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Access lists: ours and DPDK's `rte_acl` on the same rules and packets, beside our look-up of a route.
    Acl(acl::Args),
    /// Longest-prefix match: ours and DPDK's tables in one process, on the same routes and addresses.
    Lpm(lpm::Args),
    /// The whole packet path on virtual ports, against what `testpmd` does on them, which is nothing.
    Pipeline(pipeline::Args),
    /// Our side of `pipeline`, as a process of its own.
    #[command(hide = true)]
    PipelineWorker(pipeline::ours::ChildArgs),
    /// What `pipeline --stages` counts the instructions of.
    #[command(hide = true)]
    PipelineCount(pipeline::stages::count::ChildArgs),
    /// A report as one HTML file, from the JSON of earlier runs.
    Report(report::Args),
    /// RFC 2544: throughput, latency, frame loss and back-to-back bursts between two ports.
    Rfc2544(Box<rfc2544::Args>),
    /// A full table over BGP: announced, churned and withdrawn; ours, and BIRD, FRR and `GoBGP` beside it.
    Routes(routes::Args),
}

fn main() -> ExitCode {
    let result = match Cli::parse().command {
        Command::Acl(args) => acl::run(&args),
        Command::Lpm(args) => lpm::run(&args),
        Command::Pipeline(args) => pipeline::run(&args),
        Command::PipelineWorker(args) => pipeline::ours::child(&args),
        Command::PipelineCount(args) => pipeline::stages::count::child(&args),
        Command::Report(args) => report::run(&args),
        Command::Rfc2544(args) => rfc2544::run(&args),
        Command::Routes(args) => routes::run(&args),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("perf: {error}");
            ExitCode::FAILURE
        }
    }
}
