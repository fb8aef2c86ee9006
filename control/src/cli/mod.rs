//! The command line of `turnpike`.

pub mod check;
pub mod run;
pub mod show;
pub mod table;

use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand, ValueEnum};

/// The data plane of a customer-edge router in front of a private cloud circuit.
#[derive(Debug, Parser)]
#[command(name = "turnpike", version, disable_version_flag = true)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Forward packets, by a configuration file, until SIGINT or SIGTERM.
    Run {
        /// The configuration file (TOML).
        #[arg(long, short)]
        config: PathBuf,
    },
    /// Check a configuration file, and list every error in it.
    Check {
        /// The configuration file (TOML).
        file: PathBuf,
    },
    /// Ask a running turnpike.
    Show(Show),
    /// Forward built-in traffic between virtual ports, with routes from a built-in BGP speaker, and show it live.
    Demo {
        /// End after so many seconds; 0: on Ctrl-C.
        #[arg(long, default_value_t = 0)]
        seconds: u64,
    },
    /// The version of turnpike and of DPDK.
    Version,
}

/// What to ask, and of whom.
#[derive(Debug, Args)]
pub struct Show {
    /// What to show.
    pub what: What,
    /// For `routes`: an address or prefix, to see its whole chain.
    pub target: Option<String>,
    /// For `routes`: of this VRF only.
    #[arg(long)]
    pub vrf: Option<String>,
    /// Print JSON instead of a table.
    #[arg(long)]
    pub json: bool,
    /// The socket of the turnpike to ask.
    #[arg(long, default_value = crate::config::DEFAULT_SOCKET)]
    pub socket: PathBuf,
}

/// What `turnpike show` can show.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum What {
    /// Ports with their counters.
    Ports,
    /// Sub-interfaces with their counters.
    Interfaces,
    /// Routes.
    Routes,
    /// Neighbours.
    Neighbours,
    /// Next-hop groups.
    Groups,
    /// Workers and how they spend their time.
    Workers,
    /// Drops and punts by port and reason.
    Drops,
    /// BGP sessions.
    Bgp,
    /// Route sources: state, counts, rates, lag, last error.
    Sources,
}

/// Writes to standard output. A reader that has seen enough (`| head`) ends the program, and is no error.
///
/// # Errors
/// Standard output cannot be written.
pub fn print(text: &str) -> Result<(), String> {
    let mut out = std::io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Ok(()) => Ok(()),
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => std::process::exit(0),
        Err(error) => Err(format!("cannot write to standard output: {error}")),
    }
}

/// Runs the command that the arguments name.
pub fn main() -> ExitCode {
    let result = match Cli::parse().command {
        Command::Run { config } => run::run(&config),
        Command::Check { file } => check::check(&file),
        Command::Show(show) => show::show(&show),
        Command::Demo { seconds } => crate::demo::run(seconds),
        Command::Version => {
            print(&format!("turnpike {} with DPDK {}\n", env!("CARGO_PKG_VERSION"), dpdk_sys::DPDK_VERSION))
        }
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            eprintln!("turnpike: {message}");
            ExitCode::FAILURE
        }
    }
}
