//! A configured peer and its connections: at most one that holds the session, and one in each direction that wants it
//! ([`super::collision`] decides between them). A further candidate is refused with Cease / Connection Rejected: a
//! peer costs at most three threads.

use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use ipnetwork::IpNetwork;

use super::collision::{Direction, Held, Identity, Refusal, Side, takes_over};
use super::filter::Import;
use super::protocol::{Cease, Negotiated, State};
use super::rate::Rate;
use super::status::{Counters, PeerStatus, Told};
use super::wake::Waker;
use super::{BgpError, lock};
use crate::config::model::{BgpPeer, Filter};
use crate::source::charge::Account;
use crate::source::limit::RateLimit;
use crate::source::queue::Feed;
use crate::source::{Family, SourceId};

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
    /// Prefixes that come and go.
    pub rate: Mutex<Rate>,
    /// The memory of its routes' attributes.
    pub account: Account,
    /// For lines that the peer can cause.
    pub log: Mutex<RateLimit>,
    import: Mutex<Option<Arc<Import>>>,
    slots: Mutex<Slots>,
    left: Condvar,
}

#[derive(Debug)]
struct Slots {
    /// Incoming, outgoing.
    candidates: [Option<Occupant>; 2],
    session: Option<Occupant>,
    idle_since: SystemTime,
    last_error: Option<String>,
    held: Option<Hold>,
    told: Told,
}

/// Kept out after it announced too much.
#[derive(Clone, Copy, Debug)]
struct Hold {
    /// `None`: until it is reset by hand.
    until: Option<Instant>,
}

#[derive(Debug)]
struct Occupant {
    control: Arc<Control>,
    state: State,
    since: SystemTime,
    direction: Direction,
    started: Instant,
    established: Option<Instant>,
    negotiated: Option<Negotiated>,
}

/// What a session thread is asked to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub(super) enum Command {
    None = 0,
    /// End, to begin anew.
    Reset = 1,
    /// Make room for another connection with the peer.
    Replace = 2,
    /// The speaker stops.
    Shutdown = 3,
}

/// How other threads reach a session thread, and see that its peer is alive.
#[derive(Debug)]
pub(super) struct Control {
    pub waker: Waker,
    command: AtomicU8,
    refresh: AtomicBool,
    started: Instant,
    /// Milliseconds after `started` at which the last message came.
    heard: AtomicU64,
}

impl Control {
    pub(super) fn new() -> Result<Arc<Self>, BgpError> {
        let waker = Waker::new().map_err(|source| BgpError::Resources { what: "a BGP session", source })?;
        let (command, heard) = (AtomicU8::new(Command::None as u8), AtomicU64::new(0));
        let refresh = AtomicBool::new(false);
        Ok(Arc::new(Self { waker, command, refresh, started: Instant::now(), heard }))
    }

    /// The strongest command given so far.
    pub(super) fn command(&self) -> Command {
        match self.command.load(Ordering::Acquire) {
            0 => Command::None,
            1 => Command::Reset,
            2 => Command::Replace,
            _ => Command::Shutdown,
        }
    }

    pub(super) fn give(&self, command: Command) {
        self.command.fetch_max(command as u8, Ordering::AcqRel);
        self.waker.wake();
    }

    /// Whether the peer is to be asked for all its routes; asked once.
    pub(super) fn wants_refresh(&self) -> bool {
        let wanted = self.refresh.swap(false, Ordering::AcqRel);
        if wanted {
            self.waker.reset();
            // A command may have come with it.
            if self.command() != Command::None {
                self.waker.wake();
            }
        }
        wanted
    }

    fn ask_refresh(&self) {
        self.refresh.store(true, Ordering::Release);
        self.waker.wake();
    }

    pub(super) fn hear(&self) {
        self.heard.store(self.started.elapsed().as_millis() as u64, Ordering::Relaxed);
    }

    fn silence(&self) -> Duration {
        self.started.elapsed().saturating_sub(Duration::from_millis(self.heard.load(Ordering::Relaxed)))
    }
}

impl Occupant {
    fn held(&self) -> Option<Held> {
        let negotiated = self.negotiated.as_ref()?;
        let limit = Duration::from_secs(negotiated.hold_time.into()) * 2 / 3;
        let silent = !limit.is_zero() && self.control.silence() > limit;
        let side = Side { direction: self.direction, router_id: negotiated.router_id };
        Some(Held { side, established: self.established, silent })
    }
}

impl Peer {
    pub(super) fn new(config: BgpPeer, source: SourceId, feed: Feed) -> Self {
        let import = config.import.clone().map(|filter| Arc::new(Import::new(filter)));
        let slots = Slots {
            candidates: [None, None],
            session: None,
            idle_since: SystemTime::now(),
            last_error: None,
            held: None,
            told: Told { limits: config.announce_limits, ..Told::default() },
        };
        Self {
            config,
            source,
            feed,
            counters: Counters::default(),
            rate: Mutex::new(Rate::new(Instant::now())),
            account: Account::default(),
            log: Mutex::new(RateLimit::new(Instant::now())),
            import: Mutex::new(import),
            slots: Mutex::new(slots),
            left: Condvar::new(),
        }
    }

    /// A new connection asks to be a candidate; why it may not.
    pub(super) fn enter(&self, control: &Arc<Control>, direction: Direction) -> Result<(), &'static str> {
        let mut slots = lock(&self.slots);
        if slots.is_held() {
            return Err("the peer announced too many prefixes, and is kept out");
        }
        if direction == Direction::Outgoing && slots.session.is_some() {
            return Err("the peer has a session");
        }
        let slot = &mut slots.candidates[direction as usize];
        if slot.is_some() {
            return Err("the peer is already connecting");
        }
        *slot = Some(Occupant {
            control: Arc::clone(control),
            state: State::OpenSent,
            since: SystemTime::now(),
            direction,
            started: Instant::now(),
            established: None,
            negotiated: None,
        });
        Ok(())
    }

    /// Whether we should call it.
    pub(super) fn wants_call(&self) -> bool {
        let mut slots = lock(&self.slots);
        slots.session.is_none() && !slots.is_held()
    }

    /// The candidate's OPEN was accepted: it becomes the session, or is told why not.
    pub(super) fn claim(
        &self,
        control: &Arc<Control>,
        negotiated: &Negotiated,
        ours: Identity,
    ) -> Result<(), Refusal> {
        let deadline = Instant::now() + TAKE_OVER;
        let theirs = (negotiated.router_id, self.config.asn);
        let mut slots = lock(&self.slots);
        let of = |slots: &Slots| {
            let own = slots.candidates.iter().flatten().find(|c| Arc::ptr_eq(&c.control, control))?;
            Some((own.direction, own.started))
        };
        let Some((direction, started)) = of(&slots) else {
            return Err((Cease::Rejected, "it is no candidate any more".to_owned()));
        };
        let side = Side { direction, router_id: negotiated.router_id };
        while let Some(holder) = &slots.session {
            if let Some(held) = holder.held() {
                takes_over(&held, side, started, ours, theirs)?;
            }
            holder.control.give(Command::Replace);
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() || control.command() != Command::None {
                let late = "the connection it replaces did not end in time".to_owned();
                return Err((Cease::Rejected, late));
            }
            let slice = left.min(Duration::from_millis(100));
            slots = self.left.wait_timeout(slots, slice).unwrap_or_else(PoisonError::into_inner).0;
        }
        if let Some(mut occupant) = slots.candidates[direction as usize].take() {
            occupant.negotiated = Some(negotiated.clone());
            slots.session = Some(occupant);
        }
        Ok(())
    }

    pub(super) fn set_state(&self, control: &Arc<Control>, state: State) {
        let mut slots = lock(&self.slots);
        let Slots { candidates, session, .. } = &mut *slots;
        for occupant in candidates.iter_mut().flatten().chain(session) {
            if Arc::ptr_eq(&occupant.control, control) && occupant.state != state {
                (occupant.state, occupant.since) = (state, SystemTime::now());
                if state == State::Established {
                    occupant.established = Some(Instant::now());
                }
            }
        }
    }

    /// The connection is over.
    pub(super) fn leave(&self, control: &Arc<Control>) {
        let mut slots = lock(&self.slots);
        let Slots { candidates, session, idle_since, told, .. } = &mut *slots;
        for candidate in candidates {
            candidate.take_if(|candidate| Arc::ptr_eq(&candidate.control, control));
        }
        if session.take_if(|session| Arc::ptr_eq(&session.control, control)).is_some() {
            *idle_since = SystemTime::now();
            *told = Told { limits: told.limits, ..Told::default() };
        }
        self.left.notify_all();
    }

    pub(super) fn set_error(&self, error: String) {
        lock(&self.slots).last_error = Some(error);
    }

    /// Keeps it out for a while, or until it is reset.
    pub(super) fn hold(&self, time: Option<Duration>) {
        lock(&self.slots).held = Some(Hold { until: time.map(|time| Instant::now() + time) });
    }

    /// Notes what it was told of a family.
    pub(super) fn told(&self, family: Family, prefixes: usize, refused: &[(IpNetwork, &'static str)]) {
        let mut slots = lock(&self.slots);
        let told = &mut slots.told;
        match family {
            Family::Ipv4 => (told.ipv4, told.ipv4_refused) = (prefixes, refused.len()),
            Family::Ipv6 => (told.ipv6, told.ipv6_refused) = (prefixes, refused.len()),
        }
        if let Some((prefix, why)) = refused.first() {
            told.alarm = Some(format!("{prefix} is not announced: {why}"));
        }
    }

    /// The filter for what it announces.
    pub(super) fn import(&self) -> Option<Arc<Import>> {
        lock(&self.import).clone()
    }

    /// Puts another filter in the place of the one it has, and has the peer asked for its routes again.
    pub(super) fn set_import(&self, filter: Option<Arc<Filter>>) {
        *lock(&self.import) = filter.map(|filter| Arc::new(Import::new(filter)));
        self.ask_refresh();
    }

    /// Has the peer asked for its routes again; whether there is a session.
    pub(super) fn ask_refresh(&self) -> bool {
        let slots = lock(&self.slots);
        if let Some(session) = &slots.session {
            session.control.ask_refresh();
        }
        slots.session.is_some()
    }

    /// Ends its session and lets it in again.
    pub(super) fn reset(&self) {
        let mut slots = lock(&self.slots);
        slots.held = None;
        for occupant in slots.occupants() {
            occupant.control.give(Command::Reset);
        }
    }

    /// Tells all its connections to take leave.
    pub(super) fn shut_down(&self) {
        for occupant in lock(&self.slots).occupants() {
            occupant.control.give(Command::Shutdown);
        }
    }

    pub(super) fn status(&self) -> PeerStatus {
        let import = self.import().map(|import| import.hits());
        let mut slots = lock(&self.slots);
        let held = slots.is_held();
        let occupant = slots.session.as_ref().or_else(|| slots.candidates.iter().flatten().next());
        let since = occupant.map_or(slots.idle_since, |occupant| occupant.since);
        let established = occupant.and_then(|occupant| occupant.established);
        let idle = if held { State::Idle } else { State::Active };
        let counters = &self.counters;
        let queue = self.feed.stats();
        PeerStatus {
            source: self.source.0,
            name: self.config.name.clone(),
            address: self.config.address,
            namespace: self.config.namespace.clone(),
            asn: self.config.asn,
            vrf: self.config.vrf.0,
            mode: self.config.mode,
            state: occupant.map_or(idle, |occupant| occupant.state),
            since: since.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs()),
            uptime: established.map(|at| at.elapsed().as_secs()),
            connected_by_us: occupant.map(|occupant| occupant.direction == Direction::Outgoing),
            negotiated: occupant.and_then(|occupant| occupant.negotiated.clone()),
            prefixes: counters.ipv4.get() + counters.ipv6.get(),
            max_prefix: counters.max_prefix(&self.config.max_prefix, held),
            messages: counters.messages.get(),
            updates: counters.updates.get(),
            announced: counters.announced.get(),
            withdrawn: counters.withdrawn.get(),
            prefixes_per_second: lock(&self.rate).per_second(Instant::now()),
            waiting: queue.prefixes,
            lag_ms: queue.lag.as_millis() as u64,
            max_lag_ms: queue.max_lag.as_millis() as u64,
            attribute_bytes: self.account.bytes(),
            import,
            told: slots.told.clone(),
            malformed: counters.malformed.get(),
            looped: counters.looped.get(),
            refreshes: counters.refreshes.get(),
            established: counters.established.get(),
            rejected: counters.rejected.get(),
            failed_calls: counters.failed_calls.get(),
            notifications_sent: counters.sent.get(),
            notifications_received: counters.received.get(),
            last_error: slots.last_error.clone(),
        }
    }
}

impl Slots {
    /// Whether it is kept out; a time that is over ends that.
    fn is_held(&mut self) -> bool {
        self.held.take_if(|hold| hold.until.is_some_and(|until| until <= Instant::now()));
        self.held.is_some()
    }

    fn occupants(&self) -> impl Iterator<Item = &Occupant> {
        self.candidates.iter().flatten().chain(&self.session)
    }
}
