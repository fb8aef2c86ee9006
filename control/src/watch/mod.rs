//! `turnpike trace` and `turnpike capture`: what is asked for, the stream of answers, and its formats.

pub mod expression;
mod pcapng;
pub mod stream;
pub mod view;

use std::net::IpAddr;
use std::sync::Arc;

use dataplane::ids::{AdjId, GroupId, VrfId};
use dataplane::watch::{Place, Program, Session, What};
use serde::{Deserialize, Serialize};

/// What to look at.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WatchRequest {
    /// How.
    pub watch: Kind,
    /// On this sub-interface only, by its name, or on this port.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub interface: Option<String>,
    /// A match expression.
    #[serde(default, rename = "match", skip_serializing_if = "Option::is_none")]
    pub expression: Option<String>,
    /// End after so many packets.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit: Option<u64>,
    /// For a capture: which frames; all by default.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub directions: Vec<Direction>,
    /// For a capture: bytes of each frame; whole ones by default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub snaplen: Option<usize>,
}

/// A way to look at packets.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// What is decided about each packet, as JSON.
    Trace,
    /// Frames, as pcapng.
    Capture,
}

/// Frames that a capture may have.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "snake_case")]
pub enum Direction {
    /// As received.
    In,
    /// As sent.
    Out,
    /// Dropped.
    Drop,
}

/// What a session needs, as the control thread worked it out.
pub struct WatchPlan {
    /// What is recorded.
    pub what: What,
    /// Where.
    pub place: Place,
    /// Which packets.
    pub program: Program,
    /// Records of each worker.
    pub records: usize,
    /// Bytes that there is room for of each frame.
    pub snaplen: usize,
    /// What things are called.
    pub names: Names,
    /// Cycles of the workers' clock in a second.
    pub hz: u64,
}

impl WatchPlan {
    /// The session, with all its memory. No worker knows of it yet.
    pub fn watching(self) -> Watching {
        let Self { what, place, program, records, snaplen, names, hz } = self;
        let (workers, ports) = (names.cores.len(), names.ports.len());
        let session = Arc::new(Session::new(what, place, program, workers, ports, records, snaplen));
        Watching { session, names, hz, snaplen }
    }
}

/// A session. Dropping it ends it.
pub struct Watching {
    /// The workers' side.
    pub session: Arc<Session>,
    /// What things are called.
    pub names: Names,
    /// Cycles of the workers' clock in a second.
    pub hz: u64,
    /// Bytes that there is room for of each frame.
    pub snaplen: usize,
}

impl Drop for Watching {
    fn drop(&mut self) {
        self.session.close();
    }
}

/// The names behind the data plane's numbers.
#[derive(Clone, Debug, Default)]
pub struct Names {
    /// Of ports.
    pub ports: Vec<String>,
    /// Of sub-interfaces.
    pub interfaces: Vec<String>,
    /// Of VRFs.
    pub vrfs: Vec<String>,
    /// The core of each worker.
    pub cores: Vec<usize>,
}

impl Names {
    /// The name at `index`, or the number where there is none.
    fn of(list: &[String], index: u16) -> String {
        list.get(usize::from(index)).cloned().unwrap_or_else(|| index.to_string())
    }
}

/// What a trace asks of the RIB: what lies behind a worker's decision.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Question {
    /// Where the packet was routed.
    pub vrf: VrfId,
    /// Where to.
    pub destination: IpAddr,
    /// What the FIB said.
    pub group: GroupId,
    /// What was chosen.
    pub adjacency: Option<AdjId>,
}
