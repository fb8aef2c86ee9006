//! rtnetlink (RFC 3549): a blocking socket for requests, where each waits for the kernel's answer, and one for
//! notifications.

use std::io;
use std::time::Duration;

use netlink_packet_core::{
    DecodeError, NLM_F_ACK, NLM_F_DUMP, NLM_F_DUMP_INTR, NLM_F_REQUEST, NetlinkHeader, NetlinkMessage,
    NetlinkPayload,
};
use netlink_packet_route::RouteNetlinkMessage;
use netlink_sys::protocols::NETLINK_ROUTE;
use netlink_sys::{Socket, SocketAddr};
use rustix::net::sockopt::{
    Timeout, set_socket_recv_buffer_size, set_socket_recv_buffer_size_force, set_socket_timeout,
};

/// More than the kernel puts in one datagram.
pub(super) const DATAGRAM: usize = 64 * 1024;

/// How often a dump that the kernel marks as inconsistent is tried again.
const DUMP_ATTEMPTS: usize = 8;

/// The socket. It belongs to the namespace of the thread that opened it.
pub(super) struct Netlink {
    socket: Socket,
    sequence: u32,
    buffer: Vec<u8>,
}

impl Netlink {
    /// Opens it in the calling thread's namespace.
    pub(super) fn open() -> io::Result<Self> {
        let mut socket = Socket::new(NETLINK_ROUTE)?;
        socket.bind_auto()?;
        // The kernel answers within the system call; this only keeps a broken one from hanging us.
        set_socket_timeout(&socket, Timeout::Recv, Some(Duration::from_secs(5)))?;
        Ok(Self { socket, sequence: 0, buffer: vec![0; DATAGRAM] })
    }

    /// Sends a request with `flags` (besides REQUEST and ACK) and waits until the kernel has done it.
    pub(super) fn request(&mut self, message: RouteNetlinkMessage, flags: u16) -> io::Result<()> {
        self.exchange(message, NLM_F_ACK | flags, &mut drop).map(drop)
    }

    /// Asks for one thing; `None` when the kernel has none (ENOENT).
    pub(super) fn get(&mut self, message: RouteNetlinkMessage) -> io::Result<Option<RouteNetlinkMessage>> {
        let mut found = None;
        match self.exchange(message, NLM_F_ACK, &mut |answer| found = Some(answer)) {
            Ok(_) => Ok(found),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Asks for all there is.
    pub(super) fn dump(&mut self, message: &RouteNetlinkMessage) -> io::Result<Vec<RouteNetlinkMessage>> {
        for _ in 0..DUMP_ATTEMPTS {
            let mut all = Vec::new();
            if self.exchange(message.clone(), NLM_F_DUMP, &mut |answer| all.push(answer))? {
                return Ok(all);
            }
        }
        Err(io::Error::new(io::ErrorKind::Interrupted, "the table changes faster than it can be read"))
    }

    /// Sends `message` and hands over all answers; false when the kernel marked them as inconsistent.
    fn exchange(
        &mut self,
        message: RouteNetlinkMessage,
        flags: u16,
        each: &mut dyn FnMut(RouteNetlinkMessage),
    ) -> io::Result<bool> {
        self.sequence = self.sequence.wrapping_add(1);
        let mut header = NetlinkHeader::default();
        header.flags = NLM_F_REQUEST | flags;
        header.sequence_number = self.sequence;
        let mut request = NetlinkMessage::new(header, NetlinkPayload::from(message));
        request.finalize();
        let mut bytes = vec![0; request.buffer_len()];
        request.serialize(&mut bytes);
        self.socket.send_to(&bytes, &SocketAddr::new(0, 0), 0)?;

        let mut consistent = true;
        loop {
            let (length, from) = self.socket.recv_from(&mut &mut self.buffer[..], 0)?;
            if from.port_number() != 0 {
                continue;
            }
            for answer in messages(self.buffer.get(..length).unwrap_or_default()) {
                let answer = answer.map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))?;
                if answer.header.sequence_number != self.sequence {
                    continue;
                }
                consistent &= answer.header.flags & NLM_F_DUMP_INTR == 0;
                match answer.payload {
                    NetlinkPayload::InnerMessage(inner) => each(inner),
                    NetlinkPayload::Error(error) if error.code.is_some() => return Err(error.to_io()),
                    NetlinkPayload::Done(done) if done.code < 0 => {
                        return Err(io::Error::from_raw_os_error(-done.code));
                    }
                    NetlinkPayload::Error(_) | NetlinkPayload::Done(_) => return Ok(consistent),
                    _ => {}
                }
            }
        }
    }
}

/// A socket that gets the notifications of a multicast group, in the calling thread's namespace.
pub(super) fn subscribe(group: u32, receive_buffer: usize) -> io::Result<Socket> {
    let mut socket = Socket::new(NETLINK_ROUTE)?;
    // The forced form goes beyond net.core.rmem_max; it needs CAP_NET_ADMIN of the first user namespace, which a
    // container's root lacks.
    if set_socket_recv_buffer_size_force(&socket, receive_buffer).is_err() {
        set_socket_recv_buffer_size(&socket, receive_buffer)?;
    }
    socket.bind_auto()?;
    socket.add_membership(group)?;
    Ok(socket)
}

/// The messages of one datagram. Ends at the first that does not fit.
pub(super) fn messages(
    mut datagram: &[u8],
) -> impl Iterator<Item = Result<NetlinkMessage<RouteNetlinkMessage>, DecodeError>> {
    std::iter::from_fn(move || {
        let length = u32::from_ne_bytes(*datagram.first_chunk()?) as usize;
        if length < 16 || length > datagram.len() {
            return None;
        }
        let message = NetlinkMessage::deserialize(&datagram[..length]);
        datagram = datagram.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some(message)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn any_bytes_end(bytes in proptest::collection::vec(any::<u8>(), 0..200), length in 0u32..64) {
            let mut bytes = bytes;
            if let Some(head) = bytes.first_chunk_mut() {
                *head = length.to_ne_bytes();
            }
            prop_assert!(messages(&bytes).count() <= bytes.len() / 16);
        }
    }

    #[test]
    fn two_messages_in_a_datagram() {
        let mut noop = vec![16, 0, 0, 0, 1, 0, 0, 0, 7, 0, 0, 0, 0, 0, 0, 0];
        noop.extend(noop.clone());
        noop.push(9);
        let all: Vec<_> = messages(&noop).map(|message| message.unwrap().header.sequence_number).collect();
        assert_eq!(all, [7, 7]);
    }
}
