//! How much may wait in a socket until we read it.

use std::io;
use std::os::fd::AsFd;

use rustix::net::sockopt::{set_socket_recv_buffer_size, set_socket_recv_buffer_size_force};

/// Lets `bytes` wait, or as many as the system allows (`net.core.rmem_max`) where we may not go beyond that.
///
/// # Errors
/// The socket does not take it.
pub(crate) fn set(socket: impl AsFd, bytes: usize) -> io::Result<()> {
    // The forced form goes beyond net.core.rmem_max; it needs CAP_NET_ADMIN of the first user namespace, which a
    // container's root lacks.
    if set_socket_recv_buffer_size_force(&socket, bytes).is_err() {
        set_socket_recv_buffer_size(&socket, bytes)?;
    }
    Ok(())
}
