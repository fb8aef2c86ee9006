//! The thread that follows one namespace's routes.
//!
//! The order matters. What is queued at an overflow may be older than what was lost, so it is thrown away before the
//! tables are read: that also makes the kernel tell of the next overflow. What changes while they are read either
//! queues a notification, which is applied behind it, or overflows again.

use std::collections::HashMap;
use std::io;
use std::os::fd::AsFd;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;

use super::socket::{DATAGRAM, Notifications, Requests, What};
use crate::kernel::netns::Place;
use crate::kernel::wake::Wake;
use crate::source::limit::RateLimit;
use crate::source::rtnl::feed::add;
use crate::source::rtnl::message::NLM_F_DUMP_INTR;
use crate::source::rtnl::{Event, Link, Outlet, Replica, decode, messages};

/// Datagrams that are read before what they changed is handed on.
const TURN: usize = 256;
/// How long until it is looked again whether the control thread has room.
const NO_ROOM: Duration = Duration::from_millis(1);
/// How long a change of interfaces may have others behind it, before the tables are read again.
const SETTLE: Duration = Duration::from_millis(50);
/// The least time from one reading for such a cause to the next.
const PACE: Duration = Duration::from_millis(500);
/// How often a dump is tried that the kernel marks as inconsistent, until it is taken as it is.
const ATTEMPTS: usize = 4;
/// How long a failed reading waits for the next try.
const RETRY: Duration = Duration::from_secs(1);

/// What the thread owns.
pub(super) struct Follower {
    notifications: Notifications,
    requests: Requests,
    place: Place,
    wake: Arc<Wake>,
    replica: Replica,
    outlet: Outlet,
    /// Whether interfaces are up, by index.
    links: HashMap<u32, bool>,
    /// When the tables are to be read again.
    due: Option<Instant>,
    finished: Instant,
    log: RateLimit,
}

/// How a dump went.
enum Dump {
    Whole,
    /// The tables changed meanwhile: something may be missing.
    Interrupted,
    /// Told to stop, or nobody takes the routes any more.
    Ended,
}

impl Follower {
    pub(super) fn new(
        notifications: Notifications,
        requests: Requests,
        place: Place,
        wake: Arc<Wake>,
        replica: Replica,
        outlet: Outlet,
    ) -> Self {
        let now = Instant::now();
        Self {
            notifications,
            requests,
            place,
            wake,
            replica,
            outlet,
            links: HashMap::new(),
            due: Some(now),
            finished: now,
            log: RateLimit::new(now),
        }
    }

    /// Until told to stop, nobody takes the routes any more, or the socket breaks.
    pub(super) fn run(mut self) {
        if let Err(error) = self.follow() {
            let what = format!("the routes of {} are not followed any more: {error}", self.place);
            for stats in self.replica.stats() {
                stats.up.store(false, Ordering::Relaxed);
                stats.set_error(what.clone());
            }
            tracing::error!("netlink: {what}; they stay as they are: start turnpike again");
        }
    }

    fn follow(&mut self) -> io::Result<()> {
        let mut buffer = vec![0; DATAGRAM];
        loop {
            let input = self.wait()?;
            if self.wake.stopping() {
                return Ok(());
            }
            if input {
                self.read(&mut buffer)?;
            }
            if self.replica.take_doubt() {
                self.read_again_soon();
            }
            if self.due.is_some_and(|due| due <= Instant::now()) && !self.resync(&mut buffer)? {
                return Ok(());
            }
            let replica = &mut self.replica;
            if !self.outlet.fill(|| replica.news()) {
                return Ok(());
            }
            if let Some((prefix, why)) = self.replica.take_problem()
                && let Some(suppressed) = self.log.pass(Instant::now())
            {
                tracing::warn!(%prefix, place = %self.place, suppressed, "kernel route is not used: {why}");
            }
        }
    }

    /// Waits for whatever comes first; whether there is something to read.
    fn wait(&self) -> io::Result<bool> {
        let mut fds = [
            PollFd::from_borrowed_fd(self.notifications.as_fd(), PollFlags::IN),
            PollFd::from_borrowed_fd(self.wake.as_fd(), PollFlags::IN),
        ];
        let now = Instant::now();
        let room = self.outlet.is_waiting().then(|| now + NO_ROOM);
        let timeout = self.due.into_iter().chain(room).min().map(|at| {
            let left = at.saturating_duration_since(now);
            Timespec { tv_sec: left.as_secs().cast_signed(), tv_nsec: left.subsec_nanos().into() }
        });
        match poll(&mut fds, timeout.as_ref()) {
            Ok(_) | Err(Errno::INTR) => Ok(!fds[0].revents().is_empty()),
            Err(errno) => Err(errno.into()),
        }
    }

    /// Reads notifications, a bounded number.
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<()> {
        self.replica.arrives(Instant::now());
        for _ in 0..TURN {
            match self.notifications.receive(buffer) {
                Ok(length) => {
                    let datagram = buffer.get(..length).unwrap_or_default();
                    for message in messages(datagram) {
                        match message.and_then(|message| decode(&message)) {
                            Ok(event) => self.take(&event),
                            Err(error) => self.malformed(&error.to_string()),
                        }
                    }
                }
                Err(error) => match Errno::from_io_error(&error) {
                    Some(Errno::AGAIN) => break,
                    Some(Errno::INTR) => {}
                    Some(Errno::NOBUFS) => {
                        self.warn(
                            "notifications overflowed, and all routes are read anew; `receive_buffer` in [netlink] \
                             says how many may wait",
                        );
                        self.due = Some(Instant::now());
                        break;
                    }
                    _ => return Err(error),
                },
            }
        }
        Ok(())
    }

    fn take(&mut self, event: &Event) {
        match event {
            Event::Link(link) => self.link(*link),
            Event::AddressChanged => self.read_again_soon(),
            Event::Overrun => self.due = Some(Instant::now()),
            event => self.replica.take(event),
        }
    }

    /// Of IPv4 routes that go with their interface, the kernel says nothing; nor of single hops that go and come with it.
    fn link(&mut self, link: Link) {
        if self.turned(link) {
            self.read_again_soon();
        }
    }

    /// Notes an interface's state; whether it is another one than before.
    fn turned(&mut self, link: Link) -> bool {
        self.links.insert(link.index, link.up) != Some(link.up)
    }

    fn read_again_soon(&mut self) {
        let soon = (Instant::now() + SETTLE).max(self.finished + PACE);
        self.due = Some(self.due.map_or(soon, |due| due.min(soon)));
    }

    /// Throws away what is queued, reads all tables, and lets go of what is not there. False: it is to end.
    fn resync(&mut self, buffer: &mut [u8]) -> io::Result<bool> {
        self.due = None;
        while !self.wake.stopping() {
            match self.notifications.receive(buffer) {
                Ok(length) => self.note_links(buffer.get(..length).unwrap_or_default()),
                Err(error) => match Errno::from_io_error(&error) {
                    Some(Errno::NOBUFS | Errno::INTR) => {}
                    Some(Errno::AGAIN) => break,
                    _ => return Err(error),
                },
            }
        }
        self.replica.begin();
        let mut whole = true;
        for what in [What::Objects, What::Routes4, What::Routes6] {
            match self.dump(what, buffer) {
                Ok(Dump::Whole) => {}
                Ok(Dump::Interrupted) => whole = false,
                Ok(Dump::Ended) => return Ok(false),
                // A kernel without next-hop objects.
                Err(error) if what == What::Objects && is_unknown(&error) => {}
                Err(error) => {
                    self.warn(&format!("the tables could not be read: {error}; it is tried again"));
                    self.due = Some(Instant::now() + RETRY);
                    return Ok(true);
                }
            }
        }
        if whole {
            self.replica.sweep();
        } else {
            self.warn("the tables change faster than they can be read; it is tried again");
            self.due = Some(Instant::now() + RETRY);
        }
        self.finished = Instant::now();
        for stats in self.replica.stats() {
            stats.up.store(true, Ordering::Relaxed);
            add(&stats.starts, 1);
        }
        Ok(true)
    }

    fn note_links(&mut self, datagram: &[u8]) {
        for message in messages(datagram).flatten() {
            if let Ok(Event::Link(link)) = decode(&message) {
                self.turned(link);
            }
        }
    }

    fn dump(&mut self, what: What, buffer: &mut [u8]) -> io::Result<Dump> {
        for _ in 0..ATTEMPTS {
            match self.dump_once(what, buffer)? {
                Dump::Interrupted => {}
                end => return Ok(end),
            }
        }
        Ok(Dump::Interrupted)
    }

    fn dump_once(&mut self, what: What, buffer: &mut [u8]) -> io::Result<Dump> {
        let sequence = self.requests.ask(what)?;
        let mut consistent = true;
        loop {
            let length = self.requests.receive(buffer)?;
            self.replica.arrives(Instant::now());
            for message in messages(buffer.get(..length).unwrap_or_default()) {
                let message = match message {
                    Ok(message) if message.sequence == sequence => message,
                    Ok(_) => continue,
                    Err(error) => return Err(io::Error::new(io::ErrorKind::InvalidData, error)),
                };
                consistent &= message.flags & NLM_F_DUMP_INTR == 0;
                match decode(&message) {
                    Ok(Event::Done) => {
                        return Ok(if consistent { Dump::Whole } else { Dump::Interrupted });
                    }
                    Ok(Event::Error(code)) => return Err(io::Error::from_raw_os_error(code)),
                    Ok(event) => self.replica.take(&event),
                    Err(error) => self.malformed(&error.to_string()),
                }
            }
            let replica = &mut self.replica;
            if !self.outlet.fill(|| replica.news()) || self.wake.stopping() {
                return Ok(Dump::Ended);
            }
        }
    }

    fn malformed(&mut self, error: &str) {
        for stats in self.replica.stats() {
            add(&stats.malformed, 1);
        }
        self.warn(&format!("a message could not be read: {error}"));
    }

    /// Says something, at a bounded rate, and notes it for whoever asks.
    fn warn(&mut self, what: &str) {
        for stats in self.replica.stats() {
            stats.set_error(what.to_owned());
        }
        if let Some(suppressed) = self.log.pass(Instant::now()) {
            tracing::warn!(place = %self.place, suppressed, "netlink: {what}");
        }
    }
}

fn is_unknown(error: &io::Error) -> bool {
    matches!(Errno::from_io_error(error), Some(Errno::OPNOTSUPP | Errno::INVAL))
}
