//! Calling a peer: one thread for each peer that we may call. It connects, runs the session, and calls again after a
//! while, when there is no session by then.

use std::hash::{BuildHasher, RandomState};
use std::io;
use std::net::{SocketAddr, TcpStream};
use std::os::fd::AsFd;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread::{Builder, JoinHandle};
use std::time::{Duration, Instant};

use socket2::{Domain, Protocol as IpProtocol, Socket, Type};

use super::collision::Direction;
use super::gate::Gate;
use super::peer::{Control, Peer};
use super::wake::{wait, wait_writable};
use super::{BgpError, listen, lock, tcp_options};
use crate::config::model::BgpPeer;

/// How long TCP may take to connect.
const CONNECT_TIME: Duration = Duration::from_secs(5);
/// How often the log tells of a peer that cannot be called, as long as the reason is the same.
const REMIND: Duration = Duration::from_mins(1);

/// Starts the thread that calls `peer`.
pub(super) fn start(gate: Arc<Gate>, peer: Arc<Peer>) -> Result<JoinHandle<()>, BgpError> {
    let namespace = peer.config.namespace.clone().map(|name| (listen::namespace_path(&name), name));
    // Looked at before the start, so that a wrong name ends it; each call looks again.
    if let Some((path, name)) = &namespace {
        std::fs::File::open(path).map_err(|source| BgpError::Namespace {
            name: name.clone(),
            path: path.clone(),
            source,
        })?;
    }
    let path = namespace.map(|(path, _)| path);
    let name = format!("bgp-{}", peer.config.name.replace('\0', ""));
    let mut dialer = Dialer { gate, peer, path, told: None };
    Builder::new()
        .name(name)
        .spawn(move || dialer.run())
        .map_err(|source| BgpError::Resources { what: "a calling thread", source })
}

struct Dialer {
    gate: Arc<Gate>,
    peer: Arc<Peer>,
    /// The namespace to call from.
    path: Option<PathBuf>,
    /// The last failure that the log was told of, and when.
    told: Option<(String, Instant)>,
}

impl Dialer {
    fn run(&mut self) {
        if let Some(path) = &self.path
            && let Err(error) = listen::enter(path)
        {
            return self.failed(&error);
        }
        while !self.gate.closing.load(Ordering::Acquire) {
            if self.peer.wants_call() {
                self.call();
            }
            let end = Instant::now() + self.pause();
            if self.gate.closing.load(Ordering::Acquire) || wait(&self.gate.waker, &[], Some(end)).is_err() {
                return;
            }
        }
    }

    /// The time to the next call, less up to a quarter: two routers shall not call each other in step for ever.
    fn pause(&self) -> Duration {
        let random = RandomState::new().hash_one(self.peer.source.0) % 256;
        self.peer.config.connect_retry.mul_f64(1.0 - random as f64 / 1024.0)
    }

    fn call(&mut self) {
        let stream = match self.connect() {
            Ok(Some(stream)) => stream,
            Ok(None) => return,
            Err(error) => return self.failed(&error),
        };
        self.told = None;
        let Ok(control) = Control::new() else {
            return self.failed(&io::Error::other("out of file descriptors"));
        };
        // The peer may have come meanwhile: then ours is not needed.
        if self.peer.enter(&control, Direction::Outgoing).is_err() {
            return;
        }
        match self.gate.session(stream, &self.peer, &control) {
            Ok(session) => {
                // A stop that did not see this connection yet.
                if self.gate.closing.load(Ordering::Acquire) {
                    self.peer.shut_down();
                }
                session.run();
            }
            Err(error) => {
                self.peer.leave(&control);
                self.failed(&error);
            }
        }
    }

    /// `None`: the speaker stops, or the time was over.
    fn connect(&self) -> io::Result<Option<TcpStream>> {
        let config = &self.peer.config;
        let address = SocketAddr::new(config.address, config.port);
        let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(IpProtocol::TCP))?;
        if let Some(password) = &config.password {
            tcp_options::set_md5(&socket, config.address, password)?;
        }
        if config.ttl_security.is_some() {
            tcp_options::set_ttl_255(&socket, address.is_ipv6())?;
        }
        if let Some(local) = config.local_address {
            socket.bind(&SocketAddr::new(local, 0).into())?;
        }
        socket.set_nonblocking(true)?;
        match socket.connect(&address.into()) {
            Ok(()) => return Ok(Some(socket.into())),
            Err(error) if error.raw_os_error() == Some(libc::EINPROGRESS) => {}
            Err(error) => return Err(error),
        }
        if !wait_writable(&self.gate.waker, socket.as_fd(), Instant::now() + CONNECT_TIME)? {
            if self.gate.closing.load(Ordering::Acquire) {
                return Ok(None);
            }
            return Err(io::ErrorKind::TimedOut.into());
        }
        match socket.take_error()? {
            None => Ok(Some(socket.into())),
            Some(error) => Err(error),
        }
    }

    fn failed(&mut self, error: &io::Error) {
        let config = &self.peer.config;
        let reason = reason(config, error);
        self.peer.counters.failed_calls.add(1);
        let now = Instant::now();
        let is_new = self.told.as_ref().is_none_or(|(told, at)| *told != reason || now >= *at + REMIND);
        if is_new && let Some(suppressed) = lock(&self.peer.log).pass(now) {
            tracing::warn!(peer = %config.name, suppressed, reason, "BGP peer cannot be called");
            self.told = Some((reason.clone(), now));
        }
        self.peer.set_error(reason);
    }
}

/// Why it cannot be called. A system that finds another password or too low a TTL does not answer.
fn reason(config: &BgpPeer, error: &io::Error) -> String {
    let silent = error.kind() == io::ErrorKind::TimedOut;
    let hint =
        if silent { ": nobody is there, or `password` or `ttl_security` do not fit its side" } else { "" };
    format!("cannot connect to {} port {}: {error}{hint}", config.address, config.port)
}
