//! The small sending speaker of `turnpike demo`: takes the place of the router that would push routes to us. It
//! connects over TCP like any peer, so that the demo's routes come the whole way.

pub(super) mod encode;

use std::collections::{HashMap, VecDeque};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread::{Builder, JoinHandle};
use std::time::Duration;

use crossbeam::channel::{Receiver, Sender, bounded};
use ipnetwork::IpNetwork;
use socket2::{Domain, Socket, Type};

use self::encode::Path;
use super::announce::Announcer;
use super::connection::{Connection, Ready, is_retry};
use super::protocol::{AddPath, Cease, Negotiated, Output, Protocol, SessionConfig, State, Timer};
use super::rustbgpd::{Rustbgpd, end_of_rib};
use super::wake::Waker;
use super::{BgpError, lock};
use crate::source::charge::Account;

/// How long TCP, and then the exchange of OPENs, may take.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
const HOLD_TIME: u16 = 30;

/// A route to announce.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DemoRoute {
    /// Destination.
    pub prefix: IpNetwork,
    /// Its next hops, of the prefix's family. More than the first only reach a peer that takes add-path.
    pub next_hops: Vec<IpAddr>,
}

fn connect_tcp(from: IpAddr, address: SocketAddr) -> std::io::Result<TcpStream> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, None)?;
    socket.bind(&SocketAddr::new(from, 0).into())?;
    socket.connect_timeout(&address.into(), CONNECT_TIMEOUT)?;
    Ok(socket.into())
}

/// An iBGP session that announces what it is told to. Dropping it ends the session.
#[derive(Debug)]
pub struct DemoSpeaker {
    address: SocketAddr,
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Debug)]
struct Shared {
    waker: Waker,
    orders: Mutex<Orders>,
}

#[derive(Debug, Default)]
struct Orders {
    queue: VecDeque<Order>,
    /// Why the session ended, once it has.
    ended: Option<String>,
}

#[derive(Debug)]
enum Order {
    Announce(Vec<DemoRoute>),
    Withdraw(Vec<IpNetwork>),
    EndOfRib,
    Close,
}

impl DemoSpeaker {
    /// Connects to the speaker at `address` as a router of AS `asn`, and waits until the session is established.
    ///
    /// # Errors
    ///
    /// [`BgpError::Connect`] if nobody listens there, [`BgpError::Session`] if he does not want us.
    pub fn connect(address: SocketAddr, asn: u32, router_id: Ipv4Addr) -> Result<Self, BgpError> {
        let any = if address.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
        Self::connect_from(any, address, asn, router_id)
    }

    /// As [`Self::connect`], from one of this machine's addresses: by it the peer knows who we are.
    ///
    /// # Errors
    ///
    /// As [`Self::connect`].
    pub fn connect_from(
        from: IpAddr,
        address: SocketAddr,
        asn: u32,
        router_id: Ipv4Addr,
    ) -> Result<Self, BgpError> {
        let failed = |source| BgpError::Connect { address, source };
        let stream = connect_tcp(from, address).map_err(failed)?;
        let connection = Connection::new(stream).map_err(failed)?;
        let resources = |source| BgpError::Resources { what: "the demo's BGP speaker", source };
        let waker = Waker::new().map_err(resources)?;
        let shared = Arc::new(Shared { waker, orders: Mutex::default() });
        let config = SessionConfig {
            local_asn: asn,
            peer_asn: asn,
            router_id,
            hold_time: HOLD_TIME,
            open_time: CONNECT_TIMEOUT.as_secs() as u16,
            add_path: AddPath::Send,
            announcer: Announcer::default(),
            account: Account::default(),
        };
        let (established, result) = bounded(1);
        let worker = Worker {
            shared: Arc::clone(&shared),
            connection,
            protocol: Rustbgpd::new(config),
            negotiated: None,
            established: Some(established),
            paths: HashMap::new(),
        };
        let thread =
            Builder::new().name("bgp-demo".to_owned()).spawn(move || worker.run()).map_err(resources)?;
        let mut speaker = Self { address, shared, thread: Some(thread) };
        speaker.wait(&result)?;
        Ok(speaker)
    }

    fn wait(&mut self, established: &Receiver<()>) -> Result<(), BgpError> {
        // The worker drops its end when the session fails, and fails by its own timers.
        if established.recv_timeout(CONNECT_TIMEOUT * 3).is_ok() {
            return Ok(());
        }
        let reason = lock(&self.shared.orders).ended.clone();
        let reason = reason.unwrap_or_else(|| "it was not established in time".to_owned());
        Err(BgpError::Session { address: self.address, reason })
    }

    /// Announces routes; one that was announced before is replaced.
    ///
    /// # Errors
    ///
    /// [`BgpError::Session`] if the session is lost.
    pub fn announce(&self, routes: &[DemoRoute]) -> Result<(), BgpError> {
        self.order(Order::Announce(routes.to_vec()))
    }

    /// Withdraws all paths of these prefixes.
    ///
    /// # Errors
    ///
    /// As [`announce`](Self::announce).
    pub fn withdraw(&self, prefixes: &[IpNetwork]) -> Result<(), BgpError> {
        self.order(Order::Withdraw(prefixes.to_vec()))
    }

    /// Says that everything has been announced, for both families (RFC 4724): what the receiver holds from an
    /// earlier session and was not announced again goes.
    ///
    /// # Errors
    ///
    /// As [`announce`](Self::announce).
    pub fn end_of_rib(&self) -> Result<(), BgpError> {
        self.order(Order::EndOfRib)
    }

    /// Ends the session with Cease / Administrative Shutdown, after what was ordered before.
    pub fn close(mut self) {
        self.end();
    }

    fn order(&self, order: Order) -> Result<(), BgpError> {
        let mut orders = lock(&self.shared.orders);
        if let Some(reason) = &orders.ended {
            return Err(BgpError::Session { address: self.address, reason: reason.clone() });
        }
        orders.queue.push_back(order);
        self.shared.waker.wake();
        Ok(())
    }

    fn end(&mut self) {
        // An error: it has ended already.
        let _ = self.order(Order::Close);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

impl Drop for DemoSpeaker {
    fn drop(&mut self) {
        self.end();
    }
}

/// The thread.
struct Worker {
    shared: Arc<Shared>,
    connection: Connection,
    protocol: Rustbgpd,
    negotiated: Option<Negotiated>,
    /// Taken when the session is established.
    established: Option<Sender<()>>,
    /// How many paths each prefix has with the peer.
    paths: HashMap<IpNetwork, u32>,
}

type Ended = String;

impl Worker {
    fn run(mut self) {
        let reason = match self.session() {
            Ok(()) => "it was closed".to_owned(),
            Err(reason) => reason,
        };
        tracing::debug!(reason, "demo BGP session ended");
        let mut orders = lock(&self.shared.orders);
        orders.queue.clear();
        orders.ended = Some(reason);
        drop(orders);
        drop(self.established.take());
        self.connection.linger();
    }

    /// Runs until it is closed (`Ok`) or lost (`Err`: why).
    fn session(&mut self) -> Result<(), Ended> {
        self.protocol(Protocol::connected)?;
        loop {
            if self.connection.expired(Timer::Keepalive) {
                self.protocol(|protocol, out| protocol.expired(Timer::Keepalive, out))?;
            }
            match self.connection.wait(&self.shared.waker).map_err(|error| error.to_string())? {
                Ready::Input => self.read()?,
                Ready::Other if self.connection.expired(Timer::Hold) => {
                    self.protocol(|protocol, out| protocol.expired(Timer::Hold, out))?;
                }
                Ready::Other => {}
            }
            if self.obey()? {
                return Ok(());
            }
        }
    }

    fn read(&mut self) -> Result<(), Ended> {
        match self.connection.read() {
            Ok(0) => return Err("the peer closed the connection".to_owned()),
            Ok(_) => {}
            Err(error) if is_retry(&error) => {}
            Err(error) => return Err(error.to_string()),
        }
        let mut out = Vec::new();
        loop {
            let length = self.protocol.receive(self.connection.input(), &mut out);
            self.connection.consume(length);
            self.perform(&mut out)?;
            if length == 0 {
                return Ok(());
            }
        }
    }

    fn protocol(&mut self, act: impl FnOnce(&mut Rustbgpd, &mut Vec<Output>)) -> Result<(), Ended> {
        let mut out = Vec::new();
        act(&mut self.protocol, &mut out);
        self.perform(&mut out)
    }

    fn perform(&mut self, out: &mut Vec<Output>) -> Result<(), Ended> {
        for output in out.drain(..) {
            match output {
                Output::Send(bytes) => self.connection.write(&bytes).map_err(|error| error.to_string())?,
                Output::Start(timer, after) => self.connection.start_timer(timer, after),
                Output::Stop(timer) => self.connection.stop_timer(timer),
                Output::Opened(negotiated) => self.negotiated = Some(*negotiated),
                Output::State(State::Established) => {
                    if let Some(established) = self.established.take() {
                        // Whoever gave up waiting ends the session as well.
                        let _ = established.send(());
                    }
                }
                Output::Close(ending) => return Err(ending.to_string()),
                _ => {}
            }
        }
        Ok(())
    }

    /// Carries out the orders; returns whether the session was closed.
    fn obey(&mut self) -> Result<bool, Ended> {
        loop {
            let Some(negotiated) = self.negotiated.clone().filter(|_| self.established.is_none()) else {
                return Ok(false);
            };
            let order = {
                let mut orders = lock(&self.shared.orders);
                let order = orders.queue.pop_front();
                if order.is_none() {
                    self.shared.waker.reset();
                }
                order
            };
            let messages = match order {
                None => return Ok(false),
                Some(Order::Announce(routes)) => self.announce(&routes, &negotiated),
                Some(Order::Withdraw(prefixes)) => self.withdraw(&prefixes, &negotiated),
                Some(Order::EndOfRib) => {
                    negotiated.families.iter().map(|family| end_of_rib(*family)).collect()
                }
                Some(Order::Close) => {
                    let closed = self
                        .protocol(|protocol, out| protocol.cease(Cease::Shutdown, "closed".to_owned(), out));
                    return Ok(closed.is_err());
                }
            };
            for message in messages {
                self.connection.write(&message).map_err(|error| error.to_string())?;
            }
        }
    }

    fn announce(&mut self, routes: &[DemoRoute], negotiated: &Negotiated) -> Vec<Vec<u8>> {
        let (mut announced, mut withdrawn) = (Vec::new(), Vec::new());
        for route in routes {
            let several = negotiated.add_path_send.contains(&encode::family(route.prefix));
            let next_hops = route.next_hops.iter().take(if several { usize::MAX } else { 1 });
            let paths = next_hops.zip(1..).map(|(next_hop, id)| Path {
                prefix: route.prefix,
                id,
                next_hop: *next_hop,
            });
            let before = announced.len();
            announced.extend(paths);
            let count = (announced.len() - before) as u32;
            let had = self.paths.insert(route.prefix, count).unwrap_or(0);
            withdrawn.extend((count + 1..=had).map(|id| (route.prefix, id)));
        }
        let mut messages = encode::withdrawals(&withdrawn, negotiated);
        messages.extend(encode::announcements(&announced, negotiated));
        messages
    }

    fn withdraw(&mut self, prefixes: &[IpNetwork], negotiated: &Negotiated) -> Vec<Vec<u8>> {
        let mut withdrawn = Vec::new();
        for prefix in prefixes {
            let had = self.paths.remove(prefix).unwrap_or(0);
            withdrawn.extend((1..=had).map(|id| (*prefix, id)));
        }
        encode::withdrawals(&withdrawn, negotiated)
    }
}
