//! The native BGP speaker (RFC 4271) for external routers that push their routes to us, FRR or BIRD for example.
//!
//! It accepts configured peers and calls those it is told to call, and announces nothing but what the configuration
//! lists. One thread accepts, one for each peer calls; each connection has a
//! thread that reads it, runs the protocol machine ([`protocol`] is the seam to the library) and hands on
//! [`super::RouteEvent`]s over a bounded queue of its own. Nothing that a peer sends can make it panic or grow without bound:
//! a bad peer loses its session with the NOTIFICATION that is due, a line in the log and a counter.

mod announce;
mod collision;
mod connection;
pub mod demo;
mod dial;
mod error;
mod filter;
mod frame;
pub mod fuzz;
mod gate;
mod listen;
mod peer;
mod prefixes;
mod protocol;
mod rate;
mod rustbgpd;
mod session;
mod status;
mod tcp_options;
mod update;
mod wake;

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{Builder, JoinHandle};
use std::time::{Duration, Instant};

pub use self::error::BgpError;
use self::gate::Gate;
use self::listen::{Acceptor, Listener};
use self::peer::Peer;
pub use self::protocol::{Negotiated, Notification, State};
pub use self::status::{FilterHits, MaxPrefixStatus, NotificationCount, PeerStatus, Told};
use self::wake::Waker;
use super::limit::RateLimit;
use super::queue::Feed;
use super::{RouteSource, SourceId, SourceKind, SourceStatus};
use crate::config::model::{Bgp, BgpMode, BgpPeer, Filter};

/// What a peer may cost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// How long a connection may take for its OPEN, and then for its first KEEPALIVE; 1 to 240 seconds.
    pub open_time: Duration,
    /// How many prefixes (with add-path: paths) a session may hold, before it ends with Cease / Maximum Number of
    /// Prefixes Reached. A full table of both families has some 1.2 million.
    pub max_prefixes: usize,
    /// How much memory the attributes of a peer's routes may take, in bytes, before its session ends with Cease / Out
    /// of Resources. A full table's take some 100 MB.
    pub attribute_bytes: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self { open_time: Duration::from_secs(15), max_prefixes: 8_000_000, attribute_bytes: 256 << 20 }
    }
}

/// The running speaker: its listening sockets and threads.
#[derive(Debug)]
pub struct BgpSpeaker {
    gate: Arc<Gate>,
    listening: Vec<SocketAddr>,
    acceptor: Option<JoinHandle<Vec<JoinHandle<()>>>>,
    dialers: Vec<JoinHandle<()>>,
}

impl BgpSpeaker {
    /// Listens on all of `config.listen`, in each namespace that a peer names. Peer `i` is source `first_source + i`.
    /// Its events go into `feeds[i]`; when that is full, reading from this peer stops, and TCP slows it down.
    ///
    /// # Errors
    ///
    /// [`BgpError`], if the hold time is none, a socket cannot be made, or a thread not started. Nothing is left
    /// running then.
    pub fn start(config: &Bgp, first_source: SourceId, feeds: Vec<Feed>) -> Result<Self, BgpError> {
        Self::start_with(config, first_source, feeds, Limits::default())
    }

    /// [`start`](Self::start), with other limits.
    ///
    /// # Errors
    ///
    /// As [`start`](Self::start).
    pub fn start_with(
        config: &Bgp,
        first_source: SourceId,
        feeds: Vec<Feed>,
        limits: Limits,
    ) -> Result<Self, BgpError> {
        let seconds = config.hold_time.as_secs();
        if matches!(seconds, 1 | 2) || seconds > u64::from(u16::MAX) {
            return Err(BgpError::HoldTime { seconds });
        }
        if feeds.len() != config.peers.len() {
            return Err(BgpError::Feeds { feeds: feeds.len(), peers: config.peers.len() });
        }
        let numbered = (first_source.0..).zip(&config.peers).zip(feeds);
        let new = |((id, peer), feed): ((u32, &BgpPeer), Feed)| Peer::new(peer.clone(), SourceId(id), feed);
        let peers = numbered.map(|of_peer| Arc::new(new(of_peer))).collect();
        let listeners = listen_all(config)?;
        let waker =
            Waker::new().map_err(|source| BgpError::Resources { what: "its accepting thread", source })?;
        let gate = Arc::new(Gate {
            waker,
            closing: AtomicBool::new(false),
            refused: AtomicU64::new(0),
            peers,
            config: config.clone(),
            limits,
        });
        let listening = listeners.iter().filter_map(|listener| listener.socket.local_addr().ok()).collect();
        // From here on an early return drops it, which ends what was started.
        let mut speaker = Self { gate, listening, acceptor: None, dialers: Vec::new() };
        let acceptor =
            Acceptor { gate: Arc::clone(&speaker.gate), listeners, log: RateLimit::new(Instant::now()) };
        let thread = Builder::new().name("bgp-accept".to_owned()).spawn(move || acceptor.run());
        speaker.acceptor =
            Some(thread.map_err(|source| BgpError::Resources { what: "its accepting thread", source })?);
        for peer in &speaker.gate.peers {
            if peer.config.mode != BgpMode::Passive {
                let dialer = dial::start(Arc::clone(&speaker.gate), Arc::clone(peer))?;
                speaker.dialers.push(dialer);
            }
        }
        Ok(speaker)
    }

    /// Puts other filters in the place of those that the peers have: `filters[i]` for peer `i`. A peer whose filter
    /// changed is asked for all its routes again (RFC 2918); one that cannot be asked has its session reset.
    pub fn set_filters(&self, filters: Vec<Option<Arc<Filter>>>) {
        for (peer, filter) in self.gate.peers.iter().zip(filters) {
            if peer.import().map(|import| import.filter()) != filter {
                peer.set_import(filter);
            }
        }
    }

    /// Asks a peer for all its routes again.
    ///
    /// # Errors
    ///
    /// There is no such peer, or it has no session; for people.
    pub fn refresh(&self, peer: &str) -> Result<(), String> {
        let peer = self.peer(peer)?;
        if peer.ask_refresh() {
            Ok(())
        } else {
            Err(format!("BGP peer `{}` has no session", peer.config.name))
        }
    }

    /// Ends a peer's session with Cease / Administrative Reset, and lets it in again if it was kept out.
    ///
    /// # Errors
    ///
    /// There is no such peer; for people.
    pub fn reset(&self, peer: &str) -> Result<(), String> {
        self.peer(peer)?.reset();
        Ok(())
    }

    fn peer(&self, name: &str) -> Result<&Arc<Peer>, String> {
        self.gate.peers.iter().find(|peer| peer.config.name == name).ok_or_else(|| {
            let names: Vec<&str> = self.gate.peers.iter().map(|peer| peer.config.name.as_str()).collect();
            format!("there is no BGP peer `{name}`; there are {}", names.join(", "))
        })
    }

    /// Where it listens, namespace by namespace; with the port that the system chose where port 0 was configured.
    pub fn listening(&self) -> &[SocketAddr] {
        &self.listening
    }

    /// One entry for each configured peer, in configuration order.
    pub fn status(&self) -> Vec<PeerStatus> {
        self.gate.peers.iter().map(|peer| peer.status()).collect()
    }

    /// Connections that were closed at once, since no peer has their address.
    pub fn refused(&self) -> u64 {
        self.gate.refused.load(Ordering::Relaxed)
    }

    /// Ends every session with Cease / Administrative Shutdown and joins all threads. The loss of a session is
    /// told by `Down` as far as its queue has room.
    pub fn stop(mut self) {
        self.end();
    }

    fn end(&mut self) {
        self.gate.closing.store(true, Ordering::Release);
        self.gate.waker.wake();
        // A thread that panicked was logged by the panic hook; the others are joined all the same.
        let sessions = self.acceptor.take().and_then(|acceptor| acceptor.join().ok()).unwrap_or_default();
        self.gate.peers.iter().for_each(|peer| peer.shut_down());
        for session in sessions.into_iter().chain(std::mem::take(&mut self.dialers)) {
            let _ = session.join();
        }
    }
}

/// A socket for each address, in each namespace where somebody may connect.
fn listen_all(config: &Bgp) -> Result<Vec<Listener>, BgpError> {
    let listens = |peer: &&BgpPeer| peer.mode != BgpMode::Active;
    let mut namespaces: Vec<Option<&str>> =
        config.peers.iter().filter(listens).map(|peer| peer.namespace.as_deref()).collect();
    namespaces.sort_unstable();
    namespaces.dedup();
    let mut listeners = Vec::new();
    for namespace in namespaces {
        for address in &config.listen {
            listeners.push(listen::listen(*address, namespace, &config.peers)?);
            tracing::info!(%address, namespace = namespace.unwrap_or("(own)"), "BGP listens");
        }
    }
    Ok(listeners)
}

impl Drop for BgpSpeaker {
    fn drop(&mut self) {
        self.end();
    }
}

impl RouteSource for BgpSpeaker {
    fn name(&self) -> &'static str {
        "bgp"
    }

    fn kind(&self) -> SourceKind {
        SourceKind::Bgp
    }

    fn status(&self) -> Vec<SourceStatus> {
        let entry = |peer: PeerStatus| SourceStatus {
            name: peer.name,
            up: peer.state == State::Established,
            routes: peer.prefixes,
            announced: peer.announced,
            withdrawn: peer.withdrawn,
            malformed: peer.malformed,
            starts: peer.established,
            last_error: peer.last_error,
            ..SourceStatus::new(peer.source, SourceKind::Bgp, dataplane::ids::VrfId(peer.vrf))
        };
        BgpSpeaker::status(self).into_iter().map(entry).collect()
    }

    fn stop(self: Box<Self>) {
        BgpSpeaker::stop(*self);
    }
}

/// Locks; a thread that panicked with the lock held leaves counters and slots that are still whole.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
