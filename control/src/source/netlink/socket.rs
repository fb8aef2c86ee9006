//! The two sockets of a namespace: one for notifications, one for dumps. Both belong to the namespace of the thread
//! that opened them.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::time::Duration;

use netlink_sys::protocols::NETLINK_ROUTE;
use netlink_sys::{Socket, SocketAddr};
use rustix::net::RecvFlags;
use rustix::net::sockopt::{Timeout, set_socket_timeout};

use crate::source::receive_buffer;

/// More than the kernel puts into one datagram.
pub(super) const DATAGRAM: usize = 256 * 1024;

const RTNLGRP_LINK: u32 = 1;
const RTNLGRP_IPV4_IFADDR: u32 = 5;
const RTNLGRP_IPV4_ROUTE: u32 = 7;
const RTNLGRP_IPV6_ROUTE: u32 = 11;
const RTNLGRP_NEXTHOP: u32 = 32;

const NLM_F_REQUEST: u16 = 1;
const NLM_F_DUMP: u16 = 0x300;

/// What is dumped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum What {
    /// Next-hop objects.
    Objects,
    /// IPv4 routes.
    Routes4,
    /// IPv6 routes.
    Routes6,
}

/// The socket for notifications; it does not block.
#[derive(Debug)]
pub(super) struct Notifications(Socket);

impl Notifications {
    /// Subscribes to all that concerns routes. `receive_buffer`: bytes that may wait.
    pub(super) fn open(receive_buffer: usize) -> io::Result<Self> {
        let mut socket = Socket::new(NETLINK_ROUTE)?;
        receive_buffer::set(&socket, receive_buffer)?;
        socket.bind_auto()?;
        let groups = [RTNLGRP_LINK, RTNLGRP_IPV4_IFADDR, RTNLGRP_IPV4_ROUTE, RTNLGRP_IPV6_ROUTE];
        for group in groups {
            socket.add_membership(group)?;
        }
        // Kernels before 5.3 have no next-hop objects, and so no such group.
        let _ = socket.add_membership(RTNLGRP_NEXTHOP);
        Ok(Self(socket))
    }

    /// One datagram of the kernel's; of another sender's, none of it.
    pub(super) fn receive(&self, buffer: &mut [u8]) -> io::Result<usize> {
        receive(&self.0, buffer, RecvFlags::DONTWAIT)
    }
}

impl AsFd for Notifications {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// The socket for dumps; it blocks.
#[derive(Debug)]
pub(super) struct Requests {
    socket: Socket,
    sequence: u32,
}

impl Requests {
    pub(super) fn open() -> io::Result<Self> {
        let mut socket = Socket::new(NETLINK_ROUTE)?;
        socket.bind_auto()?;
        // The kernel answers within the system call; this only keeps a broken one from hanging us.
        set_socket_timeout(&socket, Timeout::Recv, Some(Duration::from_secs(5)))?;
        Ok(Self { socket, sequence: 0 })
    }

    /// Asks for all there is; returns the sequence number of the answers.
    pub(super) fn ask(&mut self, what: What) -> io::Result<u32> {
        self.sequence = self.sequence.wrapping_add(1);
        let (kind, family, length) = match what {
            What::Objects => (106_u16, libc::AF_UNSPEC, 8),
            What::Routes4 => (26, libc::AF_INET, 12),
            What::Routes6 => (26, libc::AF_INET6, 12),
        };
        let mut request = Vec::with_capacity(28);
        request.extend((16 + length as u32).to_ne_bytes());
        request.extend(kind.to_ne_bytes());
        request.extend((NLM_F_REQUEST | NLM_F_DUMP).to_ne_bytes());
        request.extend(self.sequence.to_ne_bytes());
        request.extend([0; 4]);
        // struct rtmsg or nhmsg: the family, and nothing more.
        request.push(family as u8);
        request.resize(16 + length, 0);
        self.socket.send_to(&request, &SocketAddr::new(0, 0), 0)?;
        Ok(self.sequence)
    }

    /// One datagram of the answer.
    pub(super) fn receive(&self, buffer: &mut [u8]) -> io::Result<usize> {
        receive(&self.socket, buffer, RecvFlags::empty())
    }
}

fn receive(socket: &Socket, mut buffer: &mut [u8], flags: RecvFlags) -> io::Result<usize> {
    let (length, from): (usize, SocketAddr) = socket.recv_from(&mut buffer, flags.bits().cast_signed())?;
    Ok(if from.port_number() == 0 { length } else { 0 })
}
