//! The thread of one connection: reads, feeds the protocol machine, does what it says, hands on the routes.
//!
//! What one read brought is handed on together, so that ten changes to a prefix cost one write of the FIB.
//!
//! Back pressure: the queue of events is bounded, and a full one stops the reading, so that TCP slows the peer down. Keepalives go out meanwhile, and the hold timer is only asked when there was nothing to read, so that our
//! own slowness ends no session.

use std::io;
use std::net::Ipv4Addr;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::{Duration, Instant};

use ipnetwork::IpNetwork;

use super::collision::Identity;
use super::connection::{Connection, Ready, is_retry};
use super::filter::Import;
use super::peer::{Command, Control, Peer};
use super::prefixes::Prefixes;
use super::protocol::{Cease, Ending, Negotiated, Notification, Output, Protocol, State, Timer};
use super::{Limits, lock};
use crate::config::model::MaxPrefixAction;
use crate::source::queue::FeedError;
use crate::source::{Attributes, Family, RouteEvent, SourceEvent, Speaker};

/// How long one attempt to hand on an event blocks, before keepalives and commands are looked after.
const SEND_SLICE: Duration = Duration::from_millis(100);

/// One connection of a peer.
pub(super) struct SessionThread {
    pub peer: Arc<Peer>,
    pub control: Arc<Control>,
    pub connection: Connection,
    pub protocol: Box<dyn Protocol>,
    pub limits: Limits,
    /// Our router id and AS.
    pub identity: Identity,
    /// Whether the peer is in another AS.
    pub external: bool,
}

struct Session {
    thread: SessionThread,
    prefixes: Prefixes,
    established: bool,
    negotiated: Option<Negotiated>,
    import: Option<Arc<Import>>,
    /// IPv4 and IPv6: whether it was warned that the limit is near, and that it is passed.
    warned: [[bool; 2]; 2],
    /// How long its routes stay after the end, where that is not the configured time.
    retain: Option<Duration>,
    /// What is to be handed on.
    batch: Vec<SourceEvent>,
}

type Step = ControlFlow<Ending>;

impl SessionThread {
    /// Runs the connection to its end.
    pub(super) fn run(self) {
        let (peer, control) = (Arc::clone(&self.peer), Arc::clone(&self.control));
        let import = peer.import();
        let mut session = Session {
            thread: self,
            prefixes: Prefixes::default(),
            established: false,
            negotiated: None,
            import,
            warned: [[false; 2]; 2],
            retain: None,
            batch: Vec::new(),
        };
        let ending = session.run();
        session.finish(&ending);
        if matches!(ending, Ending::Sent(..)) && control.command() != Command::Replace {
            session.thread.connection.linger();
        }
        peer.leave(&control);
    }
}

impl Session {
    fn run(&mut self) -> Ending {
        let mut flow = self.protocol(|protocol, out| protocol.connected(out));
        loop {
            if flow.is_continue() {
                flow = self.turn();
            }
            if let ControlFlow::Break(ending) = flow {
                return ending;
            }
        }
    }

    /// Consumes what is there, then waits for more.
    fn turn(&mut self) -> Step {
        self.obey()?;
        self.consume()?;
        if self.established && self.thread.control.wants_refresh() {
            self.refresh()?;
        }
        if self.thread.connection.expired(Timer::Keepalive) {
            self.protocol(|protocol, out| protocol.expired(Timer::Keepalive, out))?;
        }
        match self.thread.connection.wait(&self.thread.control.waker) {
            Ok(Ready::Input) => self.read(),
            Ok(Ready::Other) if self.thread.connection.expired(Timer::Hold) => {
                self.protocol(|protocol, out| protocol.expired(Timer::Hold, out))
            }
            Ok(Ready::Other) => Step::Continue(()),
            Err(error) => lost(&error),
        }
    }

    fn read(&mut self) -> Step {
        match self.thread.connection.read() {
            Ok(0) => Step::Break(Ending::Silent("the peer closed the connection".to_owned())),
            Ok(_) => Step::Continue(()),
            Err(error) if is_retry(&error) => Step::Continue(()),
            Err(error) => lost(&error),
        }
    }

    fn consume(&mut self) -> Step {
        let mut out = Vec::new();
        loop {
            let length = self.thread.protocol.receive(self.thread.connection.input(), &mut out);
            if length == 0 {
                return self.flush();
            }
            self.thread.connection.consume(length);
            self.thread.control.hear();
            self.thread.peer.counters.messages.add(1);
            self.perform(&mut out)?;
        }
    }

    fn obey(&mut self) -> Step {
        let (cease, detail) = match self.thread.control.command() {
            Command::None => return Step::Continue(()),
            Command::Reset => (Cease::Reset, "it is reset by hand"),
            Command::Replace => (Cease::Collision, "replaced by the peer's new connection"),
            Command::Shutdown => (Cease::Shutdown, "turnpike stops"),
        };
        self.protocol(|protocol, out| protocol.cease(cease, detail.to_owned(), out))
    }

    fn protocol(&mut self, act: impl FnOnce(&mut dyn Protocol, &mut Vec<Output>)) -> Step {
        let mut out = Vec::new();
        act(&mut *self.thread.protocol, &mut out);
        self.perform(&mut out)
    }

    /// Does what the protocol machine wants done, in its order, and empties `out`.
    fn perform(&mut self, out: &mut Vec<Output>) -> Step {
        for output in out.drain(..) {
            match output {
                Output::Send(bytes) => {
                    if let Err(error) = self.thread.connection.write(&bytes) {
                        return lost(&error);
                    }
                }
                Output::Start(timer, after) => self.thread.connection.start_timer(timer, after),
                Output::Stop(timer) => self.thread.connection.stop_timer(timer),
                Output::State(state) => self.state(state)?,
                Output::Opened(negotiated) => self.opened(&negotiated)?,
                Output::Update(events) => self.update(events)?,
                Output::Malformed(detail) => self.malformed(&detail),
                Output::Announced { family, prefixes, refused } => self.announced(family, prefixes, &refused),
                Output::Looped => self.thread.peer.counters.looped.add(1),
                Output::RefreshBegins(family) => self.prefixes.begin_refresh(family),
                Output::RefreshEnds(family) => self.end_refresh(family),
                Output::Close(ending) => return Step::Break(ending),
            }
        }
        Step::Continue(())
    }

    fn opened(&mut self, negotiated: &Negotiated) -> Step {
        self.negotiated = Some(negotiated.clone());
        match self.thread.peer.claim(&self.thread.control, negotiated, self.thread.identity) {
            Ok(()) => Step::Continue(()),
            Err((cease, reason)) => {
                self.thread.peer.counters.rejected.add(1);
                self.cease(cease, reason)
            }
        }
    }

    fn state(&mut self, state: State) -> Step {
        if state == State::Active {
            return Step::Continue(());
        }
        self.thread.peer.set_state(&self.thread.control, state);
        if state == State::Established {
            self.established = true;
            self.thread.peer.counters.established.add(1);
            let peer = &self.thread.peer.config;
            let speaker = Speaker {
                external: self.thread.external,
                router_id: self.negotiated.as_ref().map_or(Ipv4Addr::UNSPECIFIED, |n| n.router_id),
                address: peer.address,
            };
            self.deliver(RouteEvent::Up);
            self.deliver(RouteEvent::Speaker(speaker));
            let peer = &self.thread.peer.config;
            tracing::info!(peer = %peer.name, address = %peer.address, asn = peer.asn, "BGP session up");
        }
        Step::Continue(())
    }

    fn update(&mut self, events: Vec<RouteEvent>) -> Step {
        let counters = &self.thread.peer.counters;
        counters.updates.add(1);
        for event in &events {
            if let RouteEvent::Update { withdrawn, announced, .. } = event {
                let changes = withdrawn.len() + announced.len();
                lock(&self.thread.peer.rate).add(Instant::now(), changes);
                counters.withdrawn.add(withdrawn.len());
                counters.announced.add(announced.len());
                for nlri in withdrawn {
                    self.prefixes.withdraw(nlri);
                }
                for nlri in announced {
                    self.prefixes.announce(nlri);
                }
            }
        }
        self.count();
        for event in events {
            let filtered = match &self.import {
                Some(import) => import.apply(event),
                None => vec![event],
            };
            for event in filtered {
                self.deliver(event);
            }
        }
        self.check_prefixes()?;
        if self.thread.peer.account.bytes() > self.thread.limits.attribute_bytes {
            self.retain = Some(Duration::ZERO);
            let limit = self.thread.limits.attribute_bytes >> 20;
            let detail = format!("the attributes of its routes take more than {limit} MB");
            return self.cease(Cease::OutOfResources, detail);
        }
        Step::Continue(())
    }

    /// Shows how many prefixes there are.
    fn count(&self) {
        let counters = &self.thread.peer.counters;
        counters.ipv4.set(self.prefixes.len_of(Family::Ipv4));
        counters.ipv6.set(self.prefixes.len_of(Family::Ipv6));
    }

    /// The configured limits of each family, and the one for all.
    fn check_prefixes(&mut self) -> Step {
        let peer = Arc::clone(&self.thread.peer);
        let max = &peer.config.max_prefix;
        let families = [(Family::Ipv4, "IPv4", max.ipv4), (Family::Ipv6, "IPv6", max.ipv6)];
        for (index, (family, word, limit)) in families.into_iter().enumerate() {
            let Some(limit) = limit.map(|limit| limit as usize) else { continue };
            let count = self.prefixes.len_of(family);
            if count * 100 >= limit * usize::from(max.warning) && !self.warned[0][index] {
                self.warned[0][index] = true;
                peer.counters.prefix_warnings.add(1);
                let name = &peer.config.name;
                tracing::warn!(peer = %name, count, limit, "BGP peer nears its limit of {word} prefixes");
            }
            if count <= limit {
                continue;
            }
            let detail = format!("it announced more than {limit} {word} prefixes");
            let (restart, until) = match max.action {
                MaxPrefixAction::Shut => (None, format!("until `turnpike bgp reset {}`", peer.config.name)),
                MaxPrefixAction::Restart(time) => (Some(time), format!("for {} s", time.as_secs())),
                MaxPrefixAction::Warn => {
                    if !std::mem::replace(&mut self.warned[1][index], true) {
                        tracing::warn!(peer = %peer.config.name, detail, "BGP peer is over its limit, session stays");
                    }
                    continue;
                }
            };
            peer.hold(restart);
            self.retain = Some(Duration::ZERO);
            return self.cease(Cease::TooManyPrefixes, format!("{detail}, and is kept out {until}"));
        }
        if self.prefixes.len() > self.thread.limits.max_prefixes {
            let detail = format!("it announced more than {} prefixes", self.thread.limits.max_prefixes);
            self.retain = Some(Duration::ZERO);
            return self.cease(Cease::TooManyPrefixes, detail);
        }
        Step::Continue(())
    }

    /// Takes the filter as it is now, and has the peer send all its routes again; if it cannot, the session has to
    /// begin anew.
    fn refresh(&mut self) -> Step {
        self.import = self.thread.peer.import();
        let mut out = Vec::new();
        let asked = self.thread.protocol.refresh(&mut out);
        self.perform(&mut out)?;
        if asked {
            self.thread.peer.counters.refreshes.add(1);
            return Step::Continue(());
        }
        self.cease(Cease::Reset, "its filter changed, and it takes no ROUTE-REFRESH".to_owned())
    }

    fn announced(&self, family: Family, prefixes: usize, refused: &[(IpNetwork, &'static str)]) {
        let peer = &self.thread.peer;
        peer.told(family, prefixes, refused);
        if let Some((prefix, reason)) = refused.first()
            && let Some(suppressed) = lock(&peer.log).pass(Instant::now())
        {
            let (name, refused) = (&peer.config.name, refused.len());
            tracing::error!(
                peer = %name, %prefix, reason, refused, prefixes, suppressed,
                "ALARM: BGP announcements are refused"
            );
        }
    }

    fn end_refresh(&mut self, family: Family) {
        let withdrawn = self.prefixes.end_refresh(family);
        if withdrawn.is_empty() {
            return;
        }
        self.count();
        let attributes = Arc::new(Attributes::default());
        self.deliver(RouteEvent::Update { withdrawn, announced: Vec::new(), attributes });
    }

    fn malformed(&self, detail: &str) {
        let peer = &self.thread.peer;
        peer.counters.malformed.add(1);
        if let Some(suppressed) = lock(&peer.log).pass(Instant::now()) {
            tracing::warn!(peer = %peer.config.name, suppressed, detail, "malformed BGP UPDATE, session stays");
        }
    }

    fn cease(&mut self, cease: Cease, detail: String) -> Step {
        let mut out = Vec::new();
        self.thread.protocol.cease(cease, detail, &mut out);
        self.perform(&mut out)
    }

    /// Notes an event, to be handed on with others.
    fn deliver(&mut self, event: RouteEvent) {
        let event = self.source_event(event);
        self.batch.push(event);
    }

    /// Hands on what was noted, however long it takes, unless a command comes.
    fn flush(&mut self) -> Step {
        let mut events = std::mem::take(&mut self.batch);
        let mut waited = false;
        loop {
            events = match self.thread.peer.feed.send(events, SEND_SLICE) {
                Ok(()) => {
                    if waited {
                        // What the peer sent meanwhile may still be on its side of a full window.
                        self.thread.connection.renew_hold();
                    }
                    return Step::Continue(());
                }
                Err(FeedError::Full(events)) => events,
                Err(FeedError::Closed) => {
                    return self.cease(Cease::OutOfResources, "nobody takes its routes any more".to_owned());
                }
            };
            waited = true;
            self.obey()?;
            if self.thread.connection.expired(Timer::Keepalive) {
                self.protocol(|protocol, out| protocol.expired(Timer::Keepalive, out))?;
            }
        }
    }

    fn source_event(&self, event: RouteEvent) -> SourceEvent {
        SourceEvent { source: self.thread.peer.source, vrf: self.thread.peer.config.vrf, event }
    }

    /// How long the peer's routes stay after this end, where that is not the configured time (RFC 4724, section 4.2;
    /// RFC 8538 for the hard reset).
    fn restart_time(&self, ending: &Ending) -> Option<Duration> {
        match ending {
            Ending::Received(Notification { code: 6, subcode: 9 }) => Some(Duration::ZERO),
            Ending::Silent(_) => {
                let restarts = |n: &&Negotiated| !n.graceful_families.is_empty();
                let seconds = self.negotiated.as_ref().filter(restarts)?.graceful_restart?;
                Some(Duration::from_secs(seconds.into()))
            }
            _ => None,
        }
    }

    /// Counts, logs and tells the end.
    fn finish(&mut self, ending: &Ending) {
        let peer = Arc::clone(&self.thread.peer);
        match ending {
            Ending::Sent(notification, _) => peer.counters.sent.add(*notification),
            Ending::Received(notification) => peer.counters.received.add(*notification),
            Ending::Silent(_) => {}
        }
        let reason = ending.to_string();
        peer.set_error(reason.clone());
        if self.established {
            peer.counters.ipv4.set(0);
            peer.counters.ipv6.set(0);
            self.retain = self.retain.or_else(|| self.restart_time(ending));
            tracing::info!(peer = %peer.config.name, address = %peer.config.address, reason, "BGP session down");
            self.tell_loss(reason);
            // Who takes it in goes first, where both share a core: what is left here is to free a table's worth of memory.
            std::thread::yield_now();
        } else if let Some(suppressed) = lock(&peer.log).pass(Instant::now()) {
            let (name, address) = (&peer.config.name, peer.config.address);
            tracing::warn!(peer = %name, %address, suppressed, reason, "BGP session not established");
        }
    }

    /// The loss, and what came before it, is told even to a slow consumer, except when the whole speaker stops.
    fn tell_loss(&mut self, reason: String) {
        self.deliver(RouteEvent::Down { reason, retain: self.retain });
        let mut events = std::mem::take(&mut self.batch);
        while let Err(FeedError::Full(again)) = self.thread.peer.feed.send(events, SEND_SLICE) {
            if self.thread.control.command() == Command::Shutdown {
                return;
            }
            events = again;
        }
    }
}

fn lost(error: &io::Error) -> Step {
    Step::Break(Ending::Silent(format!("the connection was lost: {error}")))
}
