//! What can go wrong with the speaker as a whole. What goes wrong with one session is not an error of ours: it
//! ends the session, with a reason in the log and in the status.

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;

/// Why the speaker, or the demo's speaker, did not start.
#[derive(Debug, thiserror::Error)]
pub enum BgpError {
    /// The listening socket could not be made.
    #[error("BGP cannot listen on {address}{}: {source}; is another BGP daemon on this address, or is the port below 1024 without CAP_NET_BIND_SERVICE? Change [bgp] listen, or stop the other one", in_namespace(.namespace.as_deref()))]
    Listen {
        /// The address from `[bgp] listen`.
        address: SocketAddr,
        /// The namespace, if not the one we started in.
        namespace: Option<String>,
        /// What the system said.
        source: io::Error,
    },
    /// A peer's network namespace could not be entered.
    #[error("network namespace {name:?} of a BGP peer: {}: {source}; make it by `ip netns add {name}`, run as root, or leave `namespace` out", path.display())]
    Namespace {
        /// Its name.
        name: String,
        /// Its file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The hold time cannot be put on the wire.
    #[error(
        "[bgp] hold_time of {seconds} s is not a BGP hold time: give 0 (no keepalives) or 3 to 65535 seconds"
    )]
    HoldTime {
        /// As configured.
        seconds: u64,
    },
    /// The caller gave another number of queues than there are peers.
    #[error("{feeds} queues for {peers} BGP peers: give one for each")]
    Feeds {
        /// How many there are.
        feeds: usize,
        /// How many there should be.
        peers: usize,
    },
    /// A thread or wake-up descriptor could not be made.
    #[error(
        "BGP cannot start {what}: {source}; the limits of threads or open files (`ulimit -u`, `ulimit -n`) may be too low"
    )]
    Resources {
        /// What was to be started.
        what: &'static str,
        /// What the system said.
        source: io::Error,
    },
    /// [`DemoSpeaker`](super::demo::DemoSpeaker) could not reach its peer.
    #[error(
        "cannot connect to the BGP speaker at {address}: {source}; does turnpike listen there ([bgp] listen)?"
    )]
    Connect {
        /// Whom we called.
        address: SocketAddr,
        /// What the system said.
        source: io::Error,
    },
    /// [`DemoSpeaker`](super::demo::DemoSpeaker) reached its peer but got no session, or lost it.
    #[error("no BGP session with {address}: {reason}; does [[bgp.peer]] allow our address and AS?")]
    Session {
        /// Whom we called.
        address: SocketAddr,
        /// Why not.
        reason: String,
    },
}

fn in_namespace(name: Option<&str>) -> String {
    name.map(|name| format!(" in namespace {name}")).unwrap_or_default()
}
