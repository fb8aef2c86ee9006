//! What all threads of the speaker share, and how a TCP connection becomes a session's.

use std::io;
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64};

use super::Limits;
use super::announce::Announcer;
use super::connection::Connection;
use super::peer::{Control, Peer};
use super::protocol::{AddPath, SessionConfig};
use super::rustbgpd::Rustbgpd;
use super::session::SessionThread;
use super::tcp_options;
use super::wake::Waker;
use crate::config::model::Bgp;

/// The speaker, as its threads see it.
#[derive(Debug)]
pub(super) struct Gate {
    /// Wakes all threads but the sessions', once and for good.
    pub waker: Waker,
    pub closing: AtomicBool,
    pub refused: AtomicU64,
    pub peers: Vec<Arc<Peer>>,
    pub config: Bgp,
    pub limits: Limits,
}

impl Gate {
    /// A session over `stream`, ready to run.
    pub(super) fn session(
        &self,
        stream: TcpStream,
        peer: &Arc<Peer>,
        control: &Arc<Control>,
    ) -> io::Result<SessionThread> {
        let local = stream.local_addr().ok().map(|address: SocketAddr| address.ip());
        if let Some(hops) = peer.config.ttl_security {
            tcp_options::set_gtsm(&stream, peer.config.address.is_ipv6(), hops)?;
        }
        let external = self.config.asn != peer.config.asn;
        let config = SessionConfig {
            local_asn: self.config.asn,
            peer_asn: peer.config.asn,
            router_id: self.config.router_id,
            hold_time: self.config.hold_time.as_secs() as u16,
            open_time: self.limits.open_time.as_secs().clamp(1, 240) as u16,
            add_path: if peer.config.add_path { AddPath::Receive } else { AddPath::Off },
            announcer: Announcer {
                local_asn: self.config.asn,
                external,
                list: peer.config.announce.clone(),
                limits: peer.config.announce_limits,
                local,
            },
            account: peer.account.clone(),
        };
        Ok(SessionThread {
            peer: Arc::clone(peer),
            control: Arc::clone(control),
            connection: Connection::new(stream)?,
            protocol: Box::new(Rustbgpd::new(config)),
            limits: self.limits,
            identity: (self.config.router_id, self.config.asn),
            external,
        })
    }
}
