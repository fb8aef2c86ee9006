//! What can go wrong before or during a run, with the way out.

use std::path::PathBuf;

use crate::traffic::{StationError, TrafficError};

/// Why a run ended without, or before, all its results.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The tester's own ports.
    #[error(transparent)]
    Station(#[from] StationError),
    /// Flows that cannot be.
    #[error(transparent)]
    Traffic(#[from] TrafficError),
    /// No ports.
    #[error(
        "name the two ports to test between (PCI addresses or DPDK virtual devices), or give --self-test, --dut \
         turnpike or --dut loopback"
    )]
    NoPorts,
    /// The MAC address of the device is missing.
    #[error(
        "frames need the MAC address of the device's port that faces port {port}: give --{option}-gateway (in turnpike: \
         `turnpike show ports`)"
    )]
    NoGateway {
        /// `A` or `B`.
        port: char,
        /// `a` or `b`.
        option: char,
    },
    /// Addresses of the wrong family, or too many.
    #[error("--{option}-hosts: {why}")]
    Hosts {
        /// `a` or `b`.
        option: char,
        /// What is wrong.
        why: String,
    },
    /// Nothing came back.
    #[error("nothing comes back from {to}: {sent} frames were sent out of {from} in {seconds} s. {check}")]
    NothingBack {
        /// The port that sent.
        from: String,
        /// The port where they should have come.
        to: String,
        /// Frames.
        sent: u64,
        /// How long was tried.
        seconds: u64,
        /// What to look at, by what was seen instead.
        check: String,
    },
    /// Frames come back with the wrong tags or MAC address.
    #[error(
        "{frames} of {received} frames came back with other tags or another destination MAC address than the tester's \
         port should get: check --a-tags and --b-tags, --a-mac and --b-mac, and the device's neighbour towards B"
    )]
    WrongHeader {
        /// How many.
        frames: u64,
        /// Of how many.
        received: u64,
    },
    /// The rate is more than the tester can do.
    #[error(
        "the tester is the limit: it sends {reached:.0} of {asked:.0} frames/s of {frame} bytes. Lower --max-rate, or give \
         it a faster core, fewer --flows, or more testers"
    )]
    TooSlow {
        /// What it did.
        reached: f64,
        /// What was asked.
        asked: f64,
        /// Frame size.
        frame: String,
    },
    /// No turnpike to start.
    #[error(
        "no program turnpike beside this one or in PATH: build it (`cargo build --release -p control`), or give \
         --turnpike PATH"
    )]
    NoTurnpike,
    /// It does not start.
    #[error("{program} does not start: {source}", program = program.display())]
    Start {
        /// The program.
        program: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// It ended by itself.
    #[error("the turnpike under test has ended ({status}). Its last words:\n{log}")]
    Ended {
        /// How.
        status: String,
        /// The end of its log.
        log: String,
    },
    /// A file of the run.
    #[error("{path}: {source}", path = path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// No handler for Ctrl-C.
    #[error("cannot handle signals: {0}")]
    Signals(std::io::Error),
    /// Ctrl-C: not an error as such, it ends the run where it is.
    #[error("interrupted")]
    Interrupted,
}
