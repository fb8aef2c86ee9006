//! The thread that serves one namespace's zebra.

use std::io;
use std::net::TcpListener;
use std::os::fd::AsFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;

use super::connection::{Connection, Ending};
use crate::config::model;
use crate::kernel::netns::Place;
use crate::kernel::wake::Wake;
use crate::source::limit::RateLimit;
use crate::source::rtnl::feed::add;
use crate::source::rtnl::{Outlet, Replica};

pub(super) const BACKLOG: i32 = 8;
/// Bytes that may wait in the connection; the system doubles it for its own needs. zebra has a buffer of about a
/// megabyte itself, and when that is full, its walk over the table rests for a whole second.
pub(super) const RECEIVE_BUFFER: usize = 32 << 20;
/// How long until it is looked again whether the control thread has room.
const NO_ROOM: Duration = Duration::from_millis(1);
/// A zebra that never falls silent is looked after all the same, after so many quiet times.
const LATEST: u32 = 10;

/// Connections that were closed for another one's sake, of all threads.
#[derive(Debug, Default)]
pub(super) struct Closed {
    /// While a zebra was there.
    pub refused: AtomicU64,
    /// After they had said nothing.
    pub silent: AtomicU64,
}

/// What the thread owns.
pub(super) struct Server {
    listener: TcpListener,
    place: Place,
    wake: Arc<Wake>,
    replica: Replica,
    outlet: Outlet,
    quiet: Duration,
    retain: Duration,
    connection: Option<Connection>,
    /// When the last connection was lost, while what it told is kept for that.
    lost: Option<Instant>,
    closed: Arc<Closed>,
    log: RateLimit,
}

impl Server {
    pub(super) fn new(
        listener: TcpListener,
        place: Place,
        config: &model::Fpm,
        wake: Arc<Wake>,
        replica: Replica,
        outlet: Outlet,
        closed: Arc<Closed>,
    ) -> Self {
        let log = RateLimit::new(Instant::now());
        let (quiet, retain) = (config.quiet, config.retain);
        let (connection, lost) = (None, None);
        Self { listener, place, wake, replica, outlet, quiet, retain, connection, lost, closed, log }
    }

    /// Until told to stop, or nobody takes the routes any more.
    pub(super) fn run(mut self) {
        loop {
            let (new, input) = match self.wait() {
                Ok(ready) => ready,
                Err(error) => {
                    tracing::error!(%error, "FPM stops; its routes stay as they are");
                    return;
                }
            };
            if self.wake.stopping() {
                return;
            }
            if new {
                self.accept();
            }
            if input {
                self.read();
            }
            self.timers(Instant::now());
            let replica = &mut self.replica;
            if !self.outlet.fill(|| replica.news()) {
                return;
            }
            if let Some((prefix, why)) = self.replica.take_problem()
                && let Some(suppressed) = self.log.pass(Instant::now())
            {
                tracing::warn!(%prefix, suppressed, "route from zebra is not used: {why}");
            }
        }
    }

    /// Waits for whatever comes first: whether somebody connects, and whether there is something to read.
    fn wait(&self) -> io::Result<(bool, bool)> {
        let mut fds = vec![
            PollFd::from_borrowed_fd(self.wake.as_fd(), PollFlags::IN),
            PollFd::from_borrowed_fd(self.listener.as_fd(), PollFlags::IN),
        ];
        fds.extend(self.connection.iter().map(|c| PollFd::from_borrowed_fd(c.as_fd(), PollFlags::IN)));
        let now = Instant::now();
        let kept = self.lost.filter(|_| self.connection.is_none()).map(|lost| lost + self.retain);
        let look = self.connection.as_ref().and_then(|c| c.look);
        let room = self.outlet.is_waiting().then(|| now + NO_ROOM);
        let timeout = [kept, look, room].into_iter().flatten().min().map(|at| {
            // Not a moment too early, or it would be in vain.
            let left = at.saturating_duration_since(now) + Duration::from_micros(100);
            Timespec { tv_sec: left.as_secs().cast_signed(), tv_nsec: left.subsec_nanos().into() }
        });
        match poll(&mut fds, timeout.as_ref()) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(errno) => return Err(errno.into()),
        }
        let ready = |i: usize| fds.get(i).is_some_and(|fd| !fd.revents().is_empty());
        Ok((ready(1), ready(2)))
    }

    fn accept(&mut self) {
        let (stream, from) = match self.listener.accept() {
            Ok(accepted) => accepted,
            Err(error) => {
                if error.kind() != io::ErrorKind::WouldBlock {
                    self.warn(&format!("a connection could not be accepted: {error}"));
                    std::thread::sleep(Duration::from_millis(10));
                }
                return;
            }
        };
        // One that says nothing keeps nobody out.
        if self.connection.as_ref().is_some_and(Connection::has_spoken) {
            add(&self.closed.refused, 1);
            self.warn(&format!(
                "a second connection, from {from}, was refused: one zebra for each namespace"
            ));
            return;
        }
        if self.connection.take().is_some() {
            add(&self.closed.silent, 1);
            self.warn(&format!("a connection that said nothing was closed for one from {from}"));
        }
        match Connection::new(stream, self.quiet) {
            Ok(connection) => self.connection = Some(connection),
            Err(error) => return self.warn(&format!("a connection could not be set up: {error}")),
        }
        self.replica.begin();
        for stats in self.replica.stats() {
            stats.up.store(true, Ordering::Relaxed);
            add(&stats.starts, 1);
        }
        if let Some(suppressed) = self.log.pass(Instant::now()) {
            tracing::info!(%from, place = %self.place, suppressed, "FPM: zebra is connected");
        }
    }

    fn read(&mut self) {
        let Some(connection) = &mut self.connection else { return };
        match connection.read(&mut self.replica) {
            Ok((0, _)) => {}
            Ok((wrong, error)) => {
                for stats in self.replica.stats() {
                    add(&stats.malformed, wrong);
                }
                let error = error.map(|error| error.to_string()).unwrap_or_default();
                self.warn(&format!("a message of zebra's could not be read: {error}"));
            }
            Err(ending) => self.lose(&ending),
        }
    }

    fn lose(&mut self, ending: &Ending) {
        self.connection = None;
        // A zebra that comes and goes does not make what it told before its first loss stay for ever.
        self.lost.get_or_insert_with(Instant::now);
        for stats in self.replica.stats() {
            stats.up.store(false, Ordering::Relaxed);
        }
        self.warn(&format!("{ending}; its routes stay for {} s", self.retain.as_secs()));
    }

    /// Says something, at a bounded rate, and notes it for whoever asks.
    fn warn(&mut self, what: &str) {
        for stats in self.replica.stats() {
            stats.set_error(what.to_owned());
        }
        if let Some(suppressed) = self.log.pass(Instant::now()) {
            tracing::warn!(place = %self.place, suppressed, "FPM: {what}");
        }
    }

    fn timers(&mut self, now: Instant) {
        let Some(connection) = &mut self.connection else {
            if self.lost.is_some_and(|lost| now >= lost + self.retain) {
                self.lost = None;
                self.replica.clear();
                tracing::warn!(place = %self.place, "FPM: zebra has not come back, and its routes go");
            }
            return;
        };
        let Some(look) = connection.look.filter(|look| now >= *look) else { return };
        let next = connection.heard + self.quiet;
        if now < next && now < connection.since + self.quiet * LATEST {
            connection.look = Some(next);
            return;
        }
        let (told, stale) = self.replica.told_and_stale();
        // A zebra that is back has that time once more, but not each time that it comes back.
        let deadline = self.lost.map(|lost| (connection.since + self.retain).min(lost + 2 * self.retain));
        if stale > told && deadline.is_some_and(|deadline| now < deadline) {
            connection.look = Some(look + self.quiet);
            return;
        }
        connection.look = None;
        self.lost = None;
        let swept = self.replica.sweep();
        tracing::info!(place = %self.place, told, swept, "FPM: zebra has told all its routes again");
    }
}
