//! Listening and admission: the sockets, one in each namespace that has a peer, and the thread that accepts.
//! Whoever is not configured is closed at once and counted; nobody gets a thread before his address is known.

use std::collections::VecDeque;
use std::io::{self, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread::{Builder, JoinHandle};
use std::time::{Duration, Instant};

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use super::collision::Direction;
use super::gate::Gate;
use super::peer::{Control, Peer};
use super::protocol::{Cease, Notification};
use super::wake::wait;
use super::{BgpError, tcp_options};
use crate::config::model::{BgpMode, BgpPeer};
use crate::source::limit::RateLimit;
use crate::source::tcp;

const NAMESPACES: &str = "/run/netns";
const BACKLOG: i32 = 128;
/// Connections that were refused by a NOTIFICATION stay open a moment, so that it arrives: so many, so long.
const FAREWELLS: usize = 16;
const FAREWELL: Duration = Duration::from_millis(500);

/// A socket that listens, and where.
#[derive(Debug)]
pub(super) struct Listener {
    pub socket: TcpListener,
    pub namespace: Option<String>,
}

/// The accepting thread.
pub(super) struct Acceptor {
    pub gate: Arc<Gate>,
    pub listeners: Vec<Listener>,
    pub log: RateLimit,
}

/// Listens on `address` in `namespace`, for those of `peers` that are there and may connect. The address need not
/// exist yet: a TAP may bring it later.
pub(super) fn listen(
    address: SocketAddr,
    namespace: Option<&str>,
    peers: &[BgpPeer],
) -> Result<Listener, BgpError> {
    let here: Vec<&BgpPeer> = peers
        .iter()
        .filter(|peer| {
            peer.namespace.as_deref() == namespace
                && peer.mode != BgpMode::Active
                && peer.address.is_ipv4() == address.is_ipv4()
        })
        .collect();
    let guard = |socket: TcpListener| {
        for peer in &here {
            if let Some(password) = &peer.password {
                tcp_options::set_md5(&socket, peer.address, password)?;
            }
            if peer.ttl_security.is_some() {
                tcp_options::set_ttl_255(&socket, address.is_ipv6())?;
            }
        }
        // With a peer that is not guarded, the others are guarded from when their connection is accepted.
        let all: Option<Vec<u8>> = here.iter().map(|peer| peer.ttl_security).collect();
        if let Some(hops) = all.and_then(|all| all.into_iter().max()) {
            tcp_options::set_gtsm(&socket, address.is_ipv6(), hops)?;
        }
        Ok(socket)
    };
    let socket = match namespace {
        None => tcp::listen(address, BACKLOG),
        Some(name) => {
            let path = namespace_path(name);
            // Only a thread as a whole can be in another namespace, so a short-lived one makes the socket.
            let inside = std::thread::scope(|scope| {
                scope
                    .spawn(|| enter(&path).map(|()| tcp::listen(address, BACKLOG)))
                    .join()
                    .map_err(|_| io::Error::other("panic"))
            });
            inside.and_then(|inside| inside).map_err(|source| namespace_error(name, path, source))?
        }
    };
    let namespace = namespace.map(str::to_owned);
    match socket.and_then(guard) {
        Ok(socket) => Ok(Listener { socket, namespace }),
        Err(source) => Err(BgpError::Listen { address, namespace, source }),
    }
}

/// The file of a namespace, as `ip netns` has it.
pub(super) fn namespace_path(name: &str) -> PathBuf {
    Path::new(NAMESPACES).join(name)
}

fn namespace_error(name: &str, path: PathBuf, source: io::Error) -> BgpError {
    BgpError::Namespace { name: name.to_owned(), path, source }
}

pub(super) fn enter(path: &Path) -> io::Result<()> {
    let file = std::fs::File::open(path)?;
    Ok(move_into_link_name_space(file.as_fd(), Some(LinkNameSpaceType::Network))?)
}

impl Acceptor {
    /// Accepts until the gate closes; returns the session threads that are left to join.
    pub(super) fn run(mut self) -> Vec<JoinHandle<()>> {
        let mut threads: Vec<JoinHandle<()>> = Vec::new();
        let mut farewells: VecDeque<(Instant, TcpStream)> = VecDeque::new();
        while !self.gate.closing.load(Ordering::Acquire) {
            let inputs: Vec<_> = self.listeners.iter().map(|listener| listener.socket.as_fd()).collect();
            let deadline = farewells.front().map(|(deadline, _)| *deadline);
            let ready = match wait(&self.gate.waker, &inputs, deadline) {
                Ok(ready) => ready,
                Err(error) => {
                    tracing::error!(%error, "BGP stops accepting connections");
                    break;
                }
            };
            let now = Instant::now();
            farewells.retain(|(deadline, _)| *deadline > now);
            threads.retain(|thread| !thread.is_finished());
            for (index, _) in ready.iter().enumerate().filter(|(_, ready)| **ready) {
                let Some((stream, from)) = self.accept(index) else { continue };
                match self.admit(index, stream, from) {
                    Ok(thread) => threads.extend(thread),
                    Err(stream) => {
                        if farewells.len() == FAREWELLS {
                            farewells.pop_front();
                        }
                        farewells.push_back((now + FAREWELL, stream));
                    }
                }
            }
        }
        threads
    }

    fn accept(&mut self, index: usize) -> Option<(TcpStream, SocketAddr)> {
        match self.listeners[index].socket.accept() {
            Ok(accepted) => Some(accepted),
            Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) => {
                None
            }
            Err(error) => {
                // Out of descriptors, or the connection is gone already: not at full speed again.
                if let Some(suppressed) = self.log.pass(Instant::now()) {
                    tracing::warn!(%error, suppressed, "BGP connection could not be accepted");
                }
                std::thread::sleep(Duration::from_millis(10));
                None
            }
        }
    }

    /// Gives the connection a thread, or drops it. `Err`: it was told why not, and should stay open a moment.
    fn admit(
        &mut self,
        index: usize,
        stream: TcpStream,
        from: SocketAddr,
    ) -> Result<Option<JoinHandle<()>>, TcpStream> {
        let namespace = &self.listeners[index].namespace;
        let known = |peer: &&Arc<Peer>| {
            let config = &peer.config;
            config.address == from.ip() && config.namespace == *namespace && config.mode != BgpMode::Active
        };
        let Some(peer) = self.gate.peers.iter().find(known).cloned() else {
            self.gate.refused.fetch_add(1, Ordering::Relaxed);
            self.refusal(from, "no [[bgp.peer]] that may connect has this address");
            return Ok(None);
        };
        let Ok(control) = Control::new() else {
            self.refusal(from, "out of file descriptors");
            return Ok(None);
        };
        if let Err(reason) = peer.enter(&control, Direction::Incoming) {
            peer.counters.rejected.add(1);
            self.refusal(from, reason);
            return reject(stream, &peer);
        }
        match self.spawn(stream, &peer, &control) {
            Ok(thread) => Ok(Some(thread)),
            Err(error) => {
                peer.leave(&control);
                self.refusal(from, &error.to_string());
                Ok(None)
            }
        }
    }

    fn spawn(
        &self,
        stream: TcpStream,
        peer: &Arc<Peer>,
        control: &Arc<Control>,
    ) -> io::Result<JoinHandle<()>> {
        let session = self.gate.session(stream, peer, control)?;
        // The system shows 15 bytes of it; a name with a NUL would be none.
        let name = format!("bgp-{}", peer.config.name.replace('\0', ""));
        Builder::new().name(name).spawn(move || session.run())
    }

    fn refusal(&mut self, from: SocketAddr, reason: &str) {
        if let Some(suppressed) = self.log.pass(Instant::now()) {
            tracing::warn!(%from, reason, suppressed, "BGP connection refused");
        }
    }
}

/// Cease / Connection Rejected, without waiting.
fn reject(mut stream: TcpStream, peer: &Peer) -> Result<Option<JoinHandle<()>>, TcpStream> {
    let notification = Notification::cease(Cease::Rejected);
    let mut message = [0xff; 21];
    message[16..].copy_from_slice(&[0, 21, 3, notification.code, notification.subcode]);
    let told = stream.set_nonblocking(true).and_then(|()| stream.write_all(&message));
    if told.is_err() {
        return Ok(None);
    }
    peer.counters.sent.add(notification);
    // Best effort: if the peer is gone, so is the connection.
    let _ = stream.shutdown(Shutdown::Write);
    Err(stream)
}
