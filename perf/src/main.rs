//! Benchmarks of turnpike, side by side with what a user could pick instead.

mod lpm;

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
    /// Longest-prefix match: ours and DPDK's tables in one process, on the same routes and addresses.
    Lpm(lpm::Args),
}

fn main() -> ExitCode {
    let result = match Cli::parse().command {
        Command::Lpm(args) => lpm::run(&args),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("perf: {error}");
            ExitCode::FAILURE
        }
    }
}
