//! Waits until the kernel takes packets for new IPv6 addresses.
//!
//! Even without DAD, the kernel only notes a new address at first: a worker of its own joins the solicited-node group
//! and makes the local route some milliseconds later, and notifies of the address then. Until it has, the address can
//! be bound, but solicitations for it are not answered, and what is sent to it is lost.

use std::collections::HashSet;
use std::io;
use std::net::{IpAddr, Ipv6Addr};
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use netlink_packet_core::NetlinkPayload;
use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::address::{AddressAttribute, AddressMessage};
use netlink_sys::Socket;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;

use super::netlink::{DATAGRAM, messages, subscribe};

/// The multicast group of notifications of IPv6 addresses.
const RTNLGRP_IPV6_IFADDR: u32 = 9;

/// Room for some thousand notifications.
const RECEIVE_BUFFER: usize = 2 * 1024 * 1024;

/// Hears of addresses from when it was made.
pub(super) struct Ready {
    notifications: Socket,
}

impl Ready {
    /// In the calling thread's namespace. To be made before the addresses are.
    pub(super) fn new() -> io::Result<Self> {
        Ok(Self { notifications: subscribe(RTNLGRP_IPV6_IFADDR, RECEIVE_BUFFER)? })
    }

    /// Waits for all of `wanted` (interface index and address), at most `time`; returns what did not come.
    ///
    /// The worker still has the kernel's RTNL lock when it notifies: any request that takes that lock returns only
    /// when the address is ready.
    pub(super) fn wait(
        &self,
        mut wanted: HashSet<(u32, Ipv6Addr)>,
        time: Duration,
    ) -> io::Result<HashSet<(u32, Ipv6Addr)>> {
        let deadline = Instant::now() + time;
        let mut buffer = vec![0; DATAGRAM];
        while !wanted.is_empty() {
            let left = deadline.saturating_duration_since(Instant::now());
            let timeout =
                Timespec { tv_sec: left.as_secs().cast_signed(), tv_nsec: left.subsec_nanos().into() };
            let mut waiting = [PollFd::from_borrowed_fd(self.notifications.as_fd(), PollFlags::IN)];
            match poll(&mut waiting, Some(&timeout)) {
                Ok(0) => break,
                Ok(_) => {}
                Err(Errno::INTR) => continue,
                Err(errno) => return Err(errno.into()),
            }
            let (length, from) = self.notifications.recv_from(&mut &mut buffer[..], 0)?;
            if from.port_number() != 0 {
                continue;
            }
            for message in messages(buffer.get(..length).unwrap_or_default()).flatten() {
                if let NetlinkPayload::InnerMessage(RouteNetlinkMessage::NewAddress(message)) =
                    message.payload
                {
                    address_of(&message).map(|address| wanted.remove(&(message.header.index, address)));
                }
            }
        }
        Ok(wanted)
    }
}

fn address_of(message: &AddressMessage) -> Option<Ipv6Addr> {
    message.attributes.iter().find_map(|attribute| match attribute {
        AddressAttribute::Address(IpAddr::V6(address)) => Some(*address),
        _ => None,
    })
}
