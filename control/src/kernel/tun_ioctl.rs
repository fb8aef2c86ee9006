//! The two ioctls of `/dev/net/tun` that we need (`linux/if_tun.h`).
#![allow(unsafe_code)] // An ioctl has no safe form: only the caller knows what its number expects.

use std::os::fd::BorrowedFd;

use rustix::io::Errno;
use rustix::ioctl::{Opcode, Setter, Updater, ioctl, opcode};

const TUNSETIFF: Opcode = opcode::write::<i32>(b'T', 202);
const TUNSETCARRIER: Opcode = opcode::write::<i32>(b'T', 226);

const IFF_TAP: u16 = 0x0002;
const IFF_NO_PI: u16 = 0x1000;
/// Fail with EBUSY rather than attach to an interface that exists.
const IFF_TUN_EXCL: u16 = 0x8000;

/// `struct ifreq` of a 64-bit kernel, as TUNSETIFF uses it.
#[repr(C)]
struct InterfaceRequest {
    name: [u8; 16],
    flags: u16,
    rest: [u8; 22],
}

const _: () = assert!(size_of::<usize>() == 8 && size_of::<InterfaceRequest>() == 40);

/// Makes a new TAP called `name` (NUL-padded, at most 15 bytes before the NUL) out of a just opened `/dev/net/tun`.
pub(super) fn set_interface(tun: BorrowedFd<'_>, name: [u8; 16]) -> Result<(), Errno> {
    let mut request = InterfaceRequest { name, flags: IFF_TAP | IFF_NO_PI | IFF_TUN_EXCL, rest: [0; 22] };
    // SAFETY: TUNSETIFF takes a pointer to a `struct ifreq`, reads it and writes it back; ours has its size (asserted
    // above), every bit pattern is valid for its fields, and it outlives the call. On a descriptor that is not a
    // tun device the ioctl fails with ENOTTY.
    unsafe { ioctl(tun, Updater::<TUNSETIFF, InterfaceRequest>::new(&mut request)) }
}

/// Raises or drops the TAP's carrier, as a cable would.
pub(super) fn set_carrier(tap: BorrowedFd<'_>, up: bool) -> Result<(), Errno> {
    // SAFETY: TUNSETCARRIER takes a pointer to an `int` and only reads it; the `Setter` holds it during the call.
    unsafe { ioctl(tap, Setter::<TUNSETCARRIER, i32>::new(i32::from(up))) }
}
