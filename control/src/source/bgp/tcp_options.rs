//! Socket options that guard a session: TCP MD5 signatures (RFC 2385) and GTSM (RFC 5082).
#![allow(unsafe_code)]
// setsockopt with a structure (TCP_MD5SIG) or an option that no safe wrapper of ours has (IP_MINTTL).

use std::io;
use std::net::IpAddr;
use std::os::fd::{AsFd, AsRawFd};

use libc::c_int;

use crate::config::model::Password;

/// Linux's `struct tcp_md5sig` (linux/tcp.h).
#[repr(C)]
struct Md5Signature {
    /// A `struct sockaddr_storage`: 128 bytes, aligned to 8.
    address: Address,
    flags: u8,
    prefix_length: u8,
    key_length: u16,
    interface: c_int,
    key: [u8; Password::LONGEST],
}

#[repr(C, align(8))]
struct Address([u8; 128]);

const _: () = assert!(size_of::<Md5Signature>() == 216);

/// Signs and checks each segment from and to `peer` on this socket, a listening one included. `peer` must be of the
/// socket's family.
pub(super) fn set_md5(socket: &impl AsFd, peer: IpAddr, password: &Password) -> io::Result<()> {
    let mut option = Md5Signature {
        address: Address([0; 128]),
        flags: 0,
        prefix_length: 0,
        key_length: password.bytes().len() as u16,
        interface: 0,
        key: [0; Password::LONGEST],
    };
    option.key[..password.bytes().len()].copy_from_slice(password.bytes());
    // sockaddr_in: family, port, address at 4; sockaddr_in6: family, port, flow, address at 8. The port is not asked.
    let (family, at, address) = match peer {
        IpAddr::V4(v4) => (libc::AF_INET, 4, v4.octets().to_vec()),
        IpAddr::V6(v6) => (libc::AF_INET6, 8, v6.octets().to_vec()),
    };
    option.address.0[..2].copy_from_slice(&(family as u16).to_ne_bytes());
    option.address.0[at..at + address.len()].copy_from_slice(&address);
    set(socket, libc::IPPROTO_TCP, libc::TCP_MD5SIG, &option)
}

/// Sends with the greatest TTL, as GTSM asks of both sides.
pub(super) fn set_ttl_255(socket: &impl AsFd, ipv6: bool) -> io::Result<()> {
    let (level, option) =
        if ipv6 { (libc::IPPROTO_IPV6, libc::IPV6_UNICAST_HOPS) } else { (libc::IPPROTO_IP, libc::IP_TTL) };
    set(socket, level, option, &(255 as c_int))
}

/// Has the kernel drop segments that came over more than `hops` hops. On a connected socket.
pub(super) fn set_gtsm(socket: &impl AsFd, ipv6: bool, hops: u8) -> io::Result<()> {
    set_ttl_255(socket, ipv6)?;
    let least = c_int::from(255 - hops.saturating_sub(1).min(254));
    let (level, option) =
        if ipv6 { (libc::IPPROTO_IPV6, libc::IPV6_MINHOPCOUNT) } else { (libc::IPPROTO_IP, libc::IP_MINTTL) };
    set(socket, level, option, &least)
}

fn set<T>(socket: &impl AsFd, level: c_int, option: c_int, value: &T) -> io::Result<()> {
    // SAFETY: `value` is a live, initialised value of the length said, of which the kernel only reads that many bytes;
    // the descriptor is borrowed for the call.
    let done = unsafe {
        libc::setsockopt(
            socket.as_fd().as_raw_fd(),
            level,
            option,
            std::ptr::from_ref(value).cast(),
            size_of::<T>() as libc::socklen_t,
        )
    };
    if done == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}
