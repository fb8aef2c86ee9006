//! A configured peer and its connections: at most one that holds the session and one that wants it.
//!
//! Since we only listen, two connections of a peer mean that it lost the older one, or that two speakers share its
//! address. So (RFC 4271, section 6.8, and RFC 4724, section 4.2, leave it to us):
//! - A connection becomes the session's once its OPEN is accepted; until then it is the candidate. A second
//!   candidate is refused with Cease / Connection Rejected: a peer costs at most two threads.
//! - A candidate with the router id of the session is the same speaker come back. It takes over at once; the old
//!   connection ends with Cease / Connection Collision Resolution, its loss told before the new session is up.
//! - A candidate with another router id takes over only when the session was silent for two thirds of its hold
//!   time; else it is refused. So two speakers behind one address do not push each other out in turns.

use std::net::Ipv4Addr;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use super::limit::RateLimit;
use super::protocol::{Negotiated, State};
use super::status::{Counters, PeerStatus};
use super::wake::Waker;
use super::{BgpError, lock};
use crate::config::model::BgpPeer;
use crate::source::SourceId;
use crate::source::queue::Feed;

/// How long a candidate waits for the connection it replaces to take leave.
const TAKE_OVER: Duration = Duration::from_secs(5);

/// A configured peer.
#[derive(Debug)]
pub(super) struct Peer {
    pub config: BgpPeer,
    pub source: SourceId,
    /// Where its routes go.
    pub feed: Feed,
    pub counters: Counters,
    /// For lines that the peer can cause.
    pub log: Mutex<RateLimit>,
    slots: Mutex<Slots>,
    left: Condvar,
}

#[derive(Debug)]
struct Slots {
    candidate: Option<Occupant>,
    session: Option<Occupant>,
    idle_since: SystemTime,
    last_error: Option<String>,
}

#[derive(Debug)]
struct Occupant {
    control: Arc<Control>,
    state: State,
    since: SystemTime,
    negotiated: Option<Negotiated>,
}

/// What a session thread is asked to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub(super) enum Command {
    None = 0,
    /// Make room for the peer's new connection.
    Replace = 1,
    /// The speaker stops.
    Shutdown = 2,
}

/// How other threads reach a session thread, and see that its peer is alive.
#[derive(Debug)]
pub(super) struct Control {
    pub waker: Waker,
    command: AtomicU8,
    started: Instant,
    /// Milliseconds after `started` at which the last message came.
    heard: AtomicU64,
}

impl Control {
    pub(super) fn new() -> Result<Arc<Self>, BgpError> {
        let waker = Waker::new().map_err(|source| BgpError::Resources { what: "a BGP session", source })?;
        let (command, heard) = (AtomicU8::new(Command::None as u8), AtomicU64::new(0));
        Ok(Arc::new(Self { waker, command, started: Instant::now(), heard }))
    }

    /// The strongest command given so far.
    pub(super) fn command(&self) -> Command {
        match self.command.load(Ordering::Acquire) {
            0 => Command::None,
            1 => Command::Replace,
            _ => Command::Shutdown,
        }
    }

    pub(super) fn give(&self, command: Command) {
        self.command.fetch_max(command as u8, Ordering::AcqRel);
        self.waker.wake();
    }

    pub(super) fn hear(&self) {
        self.heard.store(self.started.elapsed().as_millis() as u64, Ordering::Relaxed);
    }

    fn silence(&self) -> Duration {
        self.started.elapsed().saturating_sub(Duration::from_millis(self.heard.load(Ordering::Relaxed)))
    }
}

impl Peer {
    pub(super) fn new(config: BgpPeer, source: SourceId, feed: Feed) -> Self {
        let slots = Slots { candidate: None, session: None, idle_since: SystemTime::now(), last_error: None };
        Self {
            config,
            source,
            feed,
            counters: Counters::default(),
            log: Mutex::new(RateLimit::new(Instant::now())),
            slots: Mutex::new(slots),
            left: Condvar::new(),
        }
    }

    /// A new connection asks to be the candidate.
    pub(super) fn enter(&self, control: &Arc<Control>) -> bool {
        let mut slots = lock(&self.slots);
        if slots.candidate.is_some() {
            return false;
        }
        slots.candidate = Some(Occupant {
            control: Arc::clone(control),
            state: State::OpenSent,
            since: SystemTime::now(),
            negotiated: None,
        });
        true
    }

    /// The candidate's OPEN was accepted: it becomes the session, or is told why not.
    pub(super) fn claim(&self, control: &Arc<Control>, negotiated: &Negotiated) -> Result<(), String> {
        let deadline = Instant::now() + TAKE_OVER;
        let mut slots = lock(&self.slots);
        while let Some(holder) = &slots.session {
            check_claim(holder, negotiated.router_id)?;
            holder.control.give(Command::Replace);
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() || control.command() != Command::None {
                return Err("the connection it replaces did not end in time".to_owned());
            }
            let slice = left.min(Duration::from_millis(100));
            slots = self.left.wait_timeout(slots, slice).unwrap_or_else(std::sync::PoisonError::into_inner).0;
        }
        if let Some(mut occupant) =
            slots.candidate.take_if(|candidate| Arc::ptr_eq(&candidate.control, control))
        {
            occupant.negotiated = Some(negotiated.clone());
            slots.session = Some(occupant);
        }
        Ok(())
    }

    pub(super) fn set_state(&self, control: &Arc<Control>, state: State) {
        let mut slots = lock(&self.slots);
        let Slots { candidate, session, .. } = &mut *slots;
        for occupant in candidate.iter_mut().chain(session) {
            if Arc::ptr_eq(&occupant.control, control) && occupant.state != state {
                (occupant.state, occupant.since) = (state, SystemTime::now());
            }
        }
    }

    /// The connection is over.
    pub(super) fn leave(&self, control: &Arc<Control>) {
        let mut slots = lock(&self.slots);
        let Slots { candidate, session, idle_since, .. } = &mut *slots;
        candidate.take_if(|candidate| Arc::ptr_eq(&candidate.control, control));
        if session.take_if(|session| Arc::ptr_eq(&session.control, control)).is_some() {
            *idle_since = SystemTime::now();
        }
        self.left.notify_all();
    }

    pub(super) fn set_error(&self, error: String) {
        lock(&self.slots).last_error = Some(error);
    }

    /// Tells all its connections to take leave.
    pub(super) fn shut_down(&self) {
        let slots = lock(&self.slots);
        for occupant in slots.candidate.iter().chain(&slots.session) {
            occupant.control.give(Command::Shutdown);
        }
    }

    pub(super) fn status(&self) -> PeerStatus {
        let slots = lock(&self.slots);
        let occupant = slots.session.as_ref().or(slots.candidate.as_ref());
        let since = occupant.map_or(slots.idle_since, |occupant| occupant.since);
        let counters = &self.counters;
        PeerStatus {
            source: self.source.0,
            name: self.config.name.clone(),
            address: self.config.address,
            namespace: self.config.namespace.clone(),
            asn: self.config.asn,
            vrf: self.config.vrf.0,
            state: occupant.map_or(State::Active, |occupant| occupant.state),
            since: since.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs()),
            negotiated: occupant.and_then(|occupant| occupant.negotiated.clone()),
            prefixes: counters.prefixes.get(),
            messages: counters.messages.get(),
            updates: counters.updates.get(),
            announced: counters.announced.get(),
            withdrawn: counters.withdrawn.get(),
            malformed: counters.malformed.get(),
            looped: counters.looped.get(),
            established: counters.established.get(),
            rejected: counters.rejected.get(),
            notifications_sent: counters.sent.get(),
            notifications_received: counters.received.get(),
            last_error: slots.last_error.clone(),
        }
    }
}

fn check_claim(holder: &Occupant, router_id: Ipv4Addr) -> Result<(), String> {
    let Some(held) = &holder.negotiated else { return Ok(()) };
    let limit = Duration::from_secs(held.hold_time.into()) * 2 / 3;
    let silent = !limit.is_zero() && holder.control.silence() > limit;
    if held.router_id == router_id || silent {
        return Ok(());
    }
    Err(format!("it has a session already, with router id {} instead of {router_id}", held.router_id))
}
