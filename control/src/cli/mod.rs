//! The command line of `turnpike`.

pub mod acl;
pub mod capture;
pub mod check;
pub mod run;
pub mod show;
pub mod table;
pub mod trace;

use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand, ValueEnum};

use crate::api::client::Client;
use crate::api::{BgpOrder, Order};

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
    /// Do something with a BGP session of a running turnpike.
    Bgp {
        /// What to do.
        order: BgpVerb,
        /// The peer's name in the configuration.
        peer: String,
        /// The socket of the turnpike to ask.
        #[arg(long, default_value = crate::config::DEFAULT_SOCKET)]
        socket: PathBuf,
    },
    /// Access lists of a running turnpike.
    Acl {
        #[command(subcommand)]
        order: AclOrder,
    },
    /// Take a neighbour for dead, or no longer: for BFD, or whoever knows it sooner than ARP and ND do. Its traffic goes
    /// to the other members of its groups, or to their backup, at once.
    Neighbour {
        /// Its address.
        address: std::net::IpAddr,
        /// Whether it is dead, or left to the kernel again.
        state: Holding,
        /// The sub-interface it is on, for an address that is in several; by default each in whose prefixes it is.
        #[arg(long)]
        interface: Option<String>,
        /// The socket of the turnpike to tell.
        #[arg(long, default_value = crate::config::DEFAULT_SOCKET)]
        socket: PathBuf,
    },
    /// Print each packet's way through a running turnpike: what it was, and what was decided about it, stage by stage.
    Trace(trace::Trace),
    /// Write frames that a running turnpike receives, sends and drops to a file that Wireshark and tshark read.
    Capture(capture::Capture),
    /// Forward built-in traffic between virtual ports, with routes from a built-in BGP speaker, and show it live.
    Demo {
        /// End after so many seconds; 0: on Ctrl-C.
        #[arg(long, default_value_t = 0)]
        seconds: u64,
    },
    /// The version of turnpike and of DPDK.
    Version,
}

/// What can be done with a BGP session.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum BgpVerb {
    /// Ask the peer for all its routes again.
    Refresh,
    /// End the session; let the peer in again if it was kept out for announcing too much.
    Reset,
}

/// What can be done with access lists.
#[derive(Debug, Subcommand)]
enum AclOrder {
    /// Read them anew from the configuration file, and put all of them in force at once. If anything is wrong with the
    /// file, nothing changes.
    Reload {
        /// The configuration file; by default that which turnpike was started with.
        file: Option<PathBuf>,
        /// The socket of the turnpike to tell.
        #[arg(long, default_value = crate::config::DEFAULT_SOCKET)]
        socket: PathBuf,
    },
}

/// What to take a neighbour for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Holding {
    /// Dead.
    Down,
    /// What the kernel says.
    Up,
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
    /// For `routes`: of this source only, by its name or kind.
    #[arg(long)]
    pub source: Option<String>,
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
    /// Access lists, and what each rule matched.
    Acls,
    /// BGP sessions.
    Bgp,
    /// Route sources: state, counts, rates, lag, last error.
    Sources,
    /// All numbers, as Prometheus reads them.
    Metrics,
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

fn bgp(order: BgpVerb, peer: String, socket: &std::path::Path) -> Result<(), String> {
    let order = match order {
        BgpVerb::Refresh => BgpOrder::Refresh,
        BgpVerb::Reset => BgpOrder::Reset,
    };
    give(&Order::Bgp { peer, order }, socket)
}

fn give(order: &Order, socket: &std::path::Path) -> Result<(), String> {
    let done = Client::connect(socket).and_then(|mut client| client.ask(order));
    done.map(|_| ()).map_err(|error| error.to_string())
}

/// Runs the command that the arguments name.
pub fn main() -> ExitCode {
    let result = match Cli::parse().command {
        Command::Run { config } => run::run(&config),
        Command::Check { file } => check::check(&file),
        Command::Show(show) => show::show(&show),
        Command::Bgp { order, peer, socket } => bgp(order, peer, &socket),
        Command::Neighbour { address, state, interface, socket } => {
            give(&Order::Neighbour { address, interface, down: state == Holding::Down }, &socket)
        }
        Command::Trace(trace) => trace::trace(&trace),
        Command::Capture(capture) => capture::capture(&capture),
        Command::Acl { order: AclOrder::Reload { file, socket } } => acl::reload(file.as_deref(), &socket),
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
