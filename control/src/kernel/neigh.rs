//! A mirror of the kernel's neighbour table (ARP and ND) in one namespace: a dump, then its notifications.
//!
//! The thread blocks on the notifications, and on the consumer when its channel is full. When the socket overflows
//! meanwhile (ENOBUFS), it reads the whole table again and reports the difference. That is right without further
//! care: notifications are read only after the dump, and whatever changes during the dump queues one behind it.

use std::collections::HashMap;
use std::io;
use std::net::IpAddr;
use std::os::fd::AsFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use crossbeam::channel::{SendTimeoutError, Sender};
use dataplane::ids::SubIfId;
use netlink_packet_core::NetlinkPayload;
use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::neighbour::{self, NeighbourAddress, NeighbourAttribute, NeighbourMessage};
use netlink_sys::protocols::NETLINK_ROUTE;
use netlink_sys::{Socket, SocketAddr};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;
use rustix::net::sockopt::{set_socket_recv_buffer_size, set_socket_recv_buffer_size_force};

use super::error::KernelError;
use super::netlink::{DATAGRAM, Netlink, messages};
use super::netns::{Place, run_in};
use super::wake::Wake;

/// The multicast group of the neighbour table's notifications.
const RTNLGRP_NEIGH: u32 = 3;

/// Room for some thousand notifications.
pub const RECEIVE_BUFFER: usize = 2 * 1024 * 1024;

/// How long a full channel blocks before we look whether to stop.
const STOP_CHECK: Duration = Duration::from_millis(50);

/// What the kernel knows of a neighbour.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum NeighbourState {
    /// The kernel is asking, and has no MAC yet.
    Incomplete,
    /// Confirmed of late, or set by hand for good.
    Reachable {
        /// Its MAC.
        mac: [u8; 6],
    },
    /// Not confirmed of late: good for sending, and to be refreshed (`KernelSide::resolve`) while in use.
    Stale {
        /// Its MAC.
        mac: [u8; 6],
    },
    /// Being confirmed: good for sending until it becomes reachable or fails.
    Probing {
        /// Its MAC.
        mac: [u8; 6],
    },
    /// It did not answer.
    Failed,
    /// The kernel has forgotten it, or it was deleted.
    Gone,
}

impl NeighbourState {
    /// The MAC to send to, if there is one.
    pub fn mac(self) -> Option<[u8; 6]> {
        match self {
            Self::Reachable { mac } | Self::Stale { mac } | Self::Probing { mac } => Some(mac),
            Self::Incomplete | Self::Failed | Self::Gone => None,
        }
    }
}

/// A neighbour's new state. States that repeat are not reported again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct NeighbourEvent {
    /// The sub-interface it is on.
    pub interface: SubIfId,
    /// Its address.
    pub address: IpAddr,
    /// Its state.
    pub state: NeighbourState,
}

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
            subscribe(receive_buffer)
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
                    tracing::error!("lost the neighbour table of {place}: {error}; neighbours there are frozen");
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

/// A socket that gets the notifications, in the calling thread's namespace.
fn subscribe(receive_buffer: usize) -> io::Result<Socket> {
    let mut socket = Socket::new(NETLINK_ROUTE)?;
    // The forced form goes beyond net.core.rmem_max; it needs CAP_NET_ADMIN of the first user namespace, which a
    // container's root lacks.
    if set_socket_recv_buffer_size_force(&socket, receive_buffer).is_err() {
        set_socket_recv_buffer_size(&socket, receive_buffer)?;
    }
    socket.bind_auto()?;
    socket.add_membership(RTNLGRP_NEIGH)?;
    Ok(socket)
}

/// The whole table of the socket's namespace.
fn dump(requests: &mut Netlink) -> io::Result<Vec<Entry>> {
    let answers = requests.dump(&RouteNetlinkMessage::GetNeighbour(NeighbourMessage::default()))?;
    Ok(answers.iter().filter_map(entry).collect())
}

/// Whether the kernel has `address` on the interface `index` as set by hand for good. NTF_USE would spoil such an
/// entry: the kernel makes an ordinary one of it.
pub(super) fn is_permanent(requests: &mut Netlink, index: u32, address: IpAddr) -> io::Result<bool> {
    let mut message = NeighbourMessage::default();
    message.header.family = family(address);
    message.header.ifindex = index;
    message.attributes.push(NeighbourAttribute::Destination(address.into()));
    let found = requests.get(RouteNetlinkMessage::GetNeighbour(message))?;
    Ok(matches!(
        found,
        Some(RouteNetlinkMessage::NewNeighbour(message))
            if message.header.state == neighbour::NeighbourState::Permanent
    ))
}

/// The request that makes the kernel find out or confirm a neighbour's MAC, as if it had a packet for it.
pub(super) fn use_request(index: u32, address: IpAddr) -> RouteNetlinkMessage {
    let mut message = NeighbourMessage::default();
    message.header.family = family(address);
    message.header.ifindex = index;
    message.header.flags = neighbour::NeighbourFlags::Use;
    message.attributes.push(NeighbourAttribute::Destination(address.into()));
    RouteNetlinkMessage::NewNeighbour(message)
}

fn family(address: IpAddr) -> netlink_packet_route::AddressFamily {
    match address {
        IpAddr::V4(_) => netlink_packet_route::AddressFamily::Inet,
        IpAddr::V6(_) => netlink_packet_route::AddressFamily::Inet6,
    }
}

/// One line of the kernel's table, or of a change to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Entry {
    index: u32,
    address: IpAddr,
    state: NeighbourState,
}

/// What a message says of a neighbour; `None` for what is none (multicast, broadcast, bridge entries, proxies).
fn entry(message: &RouteNetlinkMessage) -> Option<Entry> {
    use neighbour::NeighbourState as Kernel;
    let (message, deleted) = match message {
        RouteNetlinkMessage::NewNeighbour(message) => (message, false),
        RouteNetlinkMessage::DelNeighbour(message) => (message, true),
        _ => return None,
    };
    if message.header.flags.contains(neighbour::NeighbourFlags::Proxy) {
        return None;
    }
    let mut address: Option<IpAddr> = None;
    let mut mac: Option<[u8; 6]> = None;
    for attribute in &message.attributes {
        match attribute {
            NeighbourAttribute::Destination(NeighbourAddress::Inet(v4)) => address = Some((*v4).into()),
            NeighbourAttribute::Destination(NeighbourAddress::Inet6(v6)) => address = Some((*v6).into()),
            NeighbourAttribute::LinkLayerAddress(bytes) => mac = bytes.as_slice().try_into().ok(),
            _ => {}
        }
    }
    let state = match (message.header.state, mac) {
        _ if deleted => NeighbourState::Gone,
        // The kernel's own: the MAC follows from the address.
        (Kernel::Noarp, _) => return None,
        (Kernel::Reachable | Kernel::Permanent, Some(mac)) => NeighbourState::Reachable { mac },
        (Kernel::Stale, Some(mac)) => NeighbourState::Stale { mac },
        (Kernel::Delay | Kernel::Probe, Some(mac)) => NeighbourState::Probing { mac },
        (Kernel::Failed, _) => NeighbourState::Failed,
        _ => NeighbourState::Incomplete,
    };
    Some(Entry { index: message.header.ifindex, address: address?, state })
}

/// The mirror itself: what was last reported, for the interfaces that are ours.
#[derive(Debug)]
struct Table {
    interfaces: HashMap<u32, SubIfId>,
    states: HashMap<(u32, IpAddr), NeighbourState>,
}

impl Table {
    fn new(interfaces: impl IntoIterator<Item = (u32, SubIfId)>) -> Self {
        Self { interfaces: interfaces.into_iter().collect(), states: HashMap::new() }
    }

    /// Takes a change, and returns what to report of it.
    fn apply(&mut self, entry: Entry) -> Option<NeighbourEvent> {
        let Entry { index, address, state } = entry;
        let interface = *self.interfaces.get(&index)?;
        let before = match state {
            NeighbourState::Gone => self.states.remove(&(index, address)),
            _ => self.states.insert((index, address), state),
        };
        (before.unwrap_or(NeighbourState::Gone) != state).then_some(NeighbourEvent { interface, address, state })
    }

    /// Takes the whole table, and returns what to report: first what vanished, then what is new or has changed.
    fn replace(&mut self, snapshot: &[Entry]) -> Vec<NeighbourEvent> {
        let present: std::collections::HashSet<_> =
            snapshot.iter().map(|entry| (entry.index, entry.address)).collect();
        let vanished: Vec<_> = self.states.keys().filter(|key| !present.contains(key)).copied().collect();
        let gone = vanished.into_iter().map(|(index, address)| Entry { index, address, state: NeighbourState::Gone });
        gone.chain(snapshot.iter().copied()).filter_map(|entry| self.apply(entry)).collect()
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
                        self.resync()?
                    }
                    _ => return Err(error),
                },
            };
        }
        Ok(())
    }

    /// One datagram of the kernel's, without blocking; of another sender's, none.
    fn receive(&self, mut buffer: &mut [u8]) -> io::Result<usize> {
        let flags = rustix::net::RecvFlags::DONTWAIT.bits() as i32;
        let (length, from): (usize, SocketAddr) = self.notifications.recv_from(&mut buffer, flags)?;
        Ok(if from.port_number() == 0 { length } else { 0 })
    }

    /// Reads the whole table and reports the difference.
    fn resync(&mut self) -> io::Result<bool> {
        match dump(&mut self.requests) {
            Ok(snapshot) => Ok(self.report_all(&snapshot)),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {
                // It changes too fast; while it does, the notifications overflow again, and we come back.
                tracing::warn!("cannot read the neighbour table: {error}");
                Ok(true)
            }
            Err(error) => Err(error),
        }
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
