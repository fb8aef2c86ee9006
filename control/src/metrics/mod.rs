//! The metrics: what `turnpike show` tells as numbers, for monitoring. They are gathered from the control thread in
//! steps that are short however many sub-interfaces there are, and put into Prometheus' text by whoever asked.

mod connection;
mod exposition;
mod families;
mod http;
mod render;
mod server;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use crossbeam::channel::Sender;
use serde::{Deserialize, Serialize};

use crate::api::server::{Call, call};
use crate::api::view::{DropReport, Interface, Port, Source, Workers};

pub use render::render;
pub use server::{MetricsError, Scrapes, Server};

/// All that the metrics tell, and `turnpike show metrics --json` prints.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Snapshot {
    /// The version that runs.
    pub version: String,
    /// DPDK's.
    pub dpdk: String,
    /// When it started, in seconds since 1970.
    pub started: u64,
    /// `show ports`.
    pub ports: Vec<Port>,
    /// `show interfaces`.
    pub interfaces: Vec<Interface>,
    /// `show drops`.
    pub drops: DropReport,
    /// What each worker hands to the control thread of a port at most, in packets a second, by reason.
    pub punt_budgets: BTreeMap<String, u32>,
    /// `show workers`.
    pub workers: Workers,
    /// `show sources`.
    pub sources: Vec<Source>,
    /// The FIBs.
    pub fibs: Vec<Fib>,
    /// Of `show bgp`.
    pub sessions: Vec<Session>,
    /// How many neighbours are in each state.
    pub neighbours: BTreeMap<String, usize>,
    /// Packets that wait for neighbours.
    pub held: usize,
}

/// The look-up table of a VRF and family.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fib {
    /// The VRF's name.
    pub vrf: String,
    /// `ipv4` or `ipv6`.
    pub family: String,
    /// Routes in it.
    pub routes: usize,
    /// Bytes of its blocks.
    pub block_bytes: usize,
}

/// A BGP session.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Session {
    /// The peer's name.
    pub peer: String,
    /// The name of the VRF that its routes go to.
    pub vrf: String,
    /// Its state, as `show bgp` has it.
    pub state: String,
    /// Since when, in seconds since 1970.
    pub since: u64,
    /// Whether the peer is kept out, for announcing too much.
    pub kept_out: bool,
    /// By family, IPv4 first.
    pub families: [SessionFamily; 2],
    /// Messages received.
    pub messages: u64,
    /// UPDATEs received.
    pub updates: u64,
    /// UPDATEs with a malformed attribute.
    pub malformed: u64,
    /// UPDATEs with our own AS in the path.
    pub looped: u64,
    /// Sessions that were established.
    pub established: u64,
    /// Connections that were refused.
    pub rejected: u64,
    /// Calls of ours that it did not take.
    pub failed_calls: u64,
    /// NOTIFICATIONs sent.
    pub notifications_sent: Vec<Notifications>,
    /// NOTIFICATIONs received.
    pub notifications_received: Vec<Notifications>,
}

/// NOTIFICATIONs of a kind: code, subcode, and how many.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Notifications(pub u8, pub u8, pub u64);

/// A family of a BGP session.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SessionFamily {
    /// Prefixes that the peer has announced, and not withdrawn.
    pub prefixes: u64,
    /// Most of them that it may.
    pub limit: Option<u32>,
    /// Prefixes that it is told.
    pub told: usize,
    /// Prefixes that it is not told, since its circuit takes no more.
    pub refused: usize,
}

/// Has the control thread tell all of it: sub-interfaces page by page, so that it has turns for everything else
/// between.
///
/// # Errors
/// The control thread does not answer.
pub(crate) fn gather(calls: &Sender<Call>) -> Result<Snapshot, &'static str> {
    let mut snapshot = *call(calls, |reply| Call::Metrics { reply })?;
    loop {
        let from = snapshot.interfaces.len();
        let page = call(calls, |reply| Call::Interfaces { from, reply })?;
        if page.is_empty() {
            return Ok(snapshot);
        }
        snapshot.interfaces.extend(page);
    }
}
