//! A mirror of the kernel's neighbour table (ARP and ND) in one namespace: a dump, then its notifications.
//!
//! The thread blocks on the notifications, and on the consumer when its channel is full. When the socket overflows
//! meanwhile (ENOBUFS), it throws away what is still queued, reads the whole table again and reports the difference.
//!
//! The order matters. What is queued at an overflow may be older than the notifications that were lost, so it must not
//! be applied after the dump. Emptying the queue also re-arms ENOBUFS: while the socket is congested, the kernel loses
//! more without saying so again. After that, whatever changes during the dump either queues a notification, which is
//! read behind it, or is announced by the next ENOBUFS.

mod request;
mod table;

use std::io;
use std::os::fd::AsFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use crossbeam::channel::{SendTimeoutError, Sender};
use dataplane::ids::SubIfId;
use netlink_packet_core::NetlinkPayload;
use netlink_sys::{Socket, SocketAddr};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;

use super::error::KernelError;
use super::netlink::{DATAGRAM, Netlink, messages, subscribe};
use super::netns::{Place, run_in};
use super::wake::Wake;
use request::dump;
pub(super) use request::{is_permanent, use_request};
use table::{Entry, Table, entry};
pub use table::{NeighbourEvent, NeighbourState};

/// The multicast group of the neighbour table's notifications.
const RTNLGRP_NEIGH: u32 = 3;

/// Room for some thousand notifications.
pub const RECEIVE_BUFFER: usize = 2 * 1024 * 1024;

/// How long a full channel blocks before we look whether to stop.
const STOP_CHECK: Duration = Duration::from_millis(50);

/// How long a failed dump waits for the next try.
const RETRY: Duration = Duration::from_millis(100);

/// What a mirror has met.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MirrorCounters {
    /// Times the notifications overflowed and the table was read again.
    pub resyncs: u64,
    /// Notifications that could not be understood, and were skipped.
    pub malformed: u64,
}

#[derive(Debug, Default)]
struct Counters {
    resyncs: AtomicU64,
    malformed: AtomicU64,
}

/// The mirror of one namespace: its thread ends when this is dropped.
#[derive(Debug)]
pub struct Mirror {
    counters: Arc<Counters>,
    wake: Arc<Wake>,
    thread: Option<JoinHandle<()>>,
}

impl Mirror {
    /// Starts to follow the neighbours on `interfaces` (kernel index and our number) in `namespace`. What is in the
    /// table already comes as the first events. `receive_buffer` (bytes) is [`RECEIVE_BUFFER`] but in tests.
    ///
    /// # Errors
    /// The namespace cannot be entered, the kernel refuses the subscription or the dump, or the thread cannot start.
    pub fn start(
        namespace: Option<&str>,
        interfaces: impl IntoIterator<Item = (u32, SubIfId)>,
        events: Sender<NeighbourEvent>,
        receive_buffer: usize,
    ) -> Result<Self, KernelError> {
        let place = Place(namespace.map(Into::into));
        let (notifications, mut requests) = run_in(namespace, || {
            subscribe(RTNLGRP_NEIGH, receive_buffer)
                .and_then(|notifications| Ok((notifications, Netlink::open()?)))
                .map_err(|source| KernelError::refused("follow the neighbour table", &place, source))
        })?;
        let snapshot = dump(&mut requests)
            .map_err(|source| KernelError::refused("read the neighbour table", &place, source))?;

        let name = format!("neigh-{}", namespace.unwrap_or("main"));
        let thread_error = |source| KernelError::Thread { name: name.clone(), source };
        let wake = Arc::new(Wake::new().map_err(thread_error)?);
        let counters = Arc::new(Counters::default());
        let mut follower = Follower {
            notifications,
            requests,
            table: Table::new(interfaces),
            events,
            counters: Arc::clone(&counters),
            wake: Arc::clone(&wake),
        };
        let thread = std::thread::Builder::new()
            .name(name.clone())
            .spawn(move || {
                if let Err(error) = follower.run(snapshot) {
                    tracing::error!(
                        "lost the neighbour table of {place}: {error}; neighbours there are frozen"
                    );
                }
            })
            .map_err(thread_error)?;
        Ok(Self { counters, wake, thread: Some(thread) })
    }

    /// What it has met so far.
    pub fn counters(&self) -> MirrorCounters {
        MirrorCounters {
            resyncs: self.counters.resyncs.load(Ordering::Relaxed),
            malformed: self.counters.malformed.load(Ordering::Relaxed),
        }
    }
}

impl Drop for Mirror {
    fn drop(&mut self) {
        self.wake.stop();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// What the thread owns.
struct Follower {
    notifications: Socket,
    requests: Netlink,
    table: Table,
    events: Sender<NeighbourEvent>,
    counters: Arc<Counters>,
    wake: Arc<Wake>,
}

impl Follower {
    /// Until told to stop, the consumer hangs up, or the socket breaks.
    fn run(&mut self, snapshot: Vec<Entry>) -> io::Result<()> {
        let mut open = self.report_all(&snapshot);
        drop(snapshot);
        let mut buffer = vec![0; DATAGRAM];
        while open {
            let mut waiting = [
                PollFd::from_borrowed_fd(self.notifications.as_fd(), PollFlags::IN),
                PollFd::from_borrowed_fd(self.wake.as_fd(), PollFlags::IN),
            ];
            match poll(&mut waiting, None) {
                Ok(_) | Err(Errno::INTR) => {}
                Err(errno) => return Err(errno.into()),
            }
            if self.wake.stopping() {
                break;
            }
            open = match self.receive(&mut buffer) {
                Ok(length) => self.take(buffer.get(..length).unwrap_or_default()),
                Err(error) => match Errno::from_io_error(&error) {
                    Some(Errno::AGAIN | Errno::INTR) => true,
                    Some(Errno::NOBUFS) => {
                        self.counters.resyncs.fetch_add(1, Ordering::Relaxed);
                        self.resync(&mut buffer)?
                    }
                    _ => return Err(error),
                },
            };
        }
        Ok(())
    }

    /// One datagram of the kernel's, without blocking; of another sender's, none.
    fn receive(&self, mut buffer: &mut [u8]) -> io::Result<usize> {
        let flags = rustix::net::RecvFlags::DONTWAIT.bits().cast_signed();
        let (length, from): (usize, SocketAddr) = self.notifications.recv_from(&mut buffer, flags)?;
        Ok(if from.port_number() == 0 { length } else { 0 })
    }

    /// Empties the queue, then reads the whole table and reports the difference.
    fn resync(&mut self, buffer: &mut [u8]) -> io::Result<bool> {
        while !self.wake.stopping() {
            match self.receive(buffer).map_err(|error| (Errno::from_io_error(&error), error)) {
                Ok(_) | Err((Some(Errno::NOBUFS | Errno::INTR), _)) => {}
                Err((Some(Errno::AGAIN), _)) => break,
                Err((_, error)) => return Err(error),
            }
        }
        let mut said = false;
        while !self.wake.stopping() {
            match dump(&mut self.requests) {
                Ok(snapshot) => return Ok(self.report_all(&snapshot)),
                // Memory is short, or the table changes too fast: the mirror has a gap now, so it must succeed some
                // time.
                Err(error) if !said => tracing::warn!("cannot read the neighbour table: {error}; trying on"),
                Err(_) => {}
            }
            said = true;
            std::thread::sleep(RETRY);
        }
        Ok(false)
    }

    fn report_all(&mut self, snapshot: &[Entry]) -> bool {
        self.table.replace(snapshot).into_iter().all(|event| self.report(event))
    }

    /// Takes one datagram of notifications; false when it is time to end.
    fn take(&mut self, datagram: &[u8]) -> bool {
        for message in messages(datagram) {
            let Ok(message) = message else {
                self.counters.malformed.fetch_add(1, Ordering::Relaxed);
                continue;
            };
            let NetlinkPayload::InnerMessage(message) = message.payload else { continue };
            let event = entry(&message).and_then(|entry| self.table.apply(entry));
            if event.is_some_and(|event| !self.report(event)) {
                return false;
            }
        }
        true
    }

    /// Blocks while the channel is full; false when it is time to end.
    fn report(&self, mut event: NeighbourEvent) -> bool {
        loop {
            match self.events.send_timeout(event, STOP_CHECK) {
                Ok(()) => return true,
                Err(SendTimeoutError::Disconnected(_)) => return false,
                Err(SendTimeoutError::Timeout(_)) if self.wake.stopping() => return false,
                Err(SendTimeoutError::Timeout(again)) => event = again,
            }
        }
    }
}
