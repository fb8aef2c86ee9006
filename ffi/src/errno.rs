//! Error numbers as DPDK gives them, and their texts.

use std::ffi::CStr;
use std::fmt;

use crate::sys;

/// An `errno` value, positive; shown as text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Errno(pub i32);

/// No such file, device or port.
pub(crate) const ENOENT: Errno = Errno(2);
/// Not enough memory.
pub(crate) const ENOMEM: Errno = Errno(12);
/// Not enough memory, in the words of the mempool library.
pub(crate) const ENOBUFS: Errno = Errno(105);
/// It is there already.
pub(crate) const EEXIST: Errno = Errno(17);
/// Another process has it.
pub(crate) const EACCES: Errno = Errno(13);
/// The EAL was given arguments that it does not understand.
pub(crate) const EINVAL: Errno = Errno(22);
/// The driver has no such operation (`EOPNOTSUPP` is the same number on Linux).
pub(crate) const ENOTSUP: Errno = Errno(95);
/// The system call or operation is not implemented.
pub(crate) const ENOSYS: Errno = Errno(38);

impl Errno {
    /// `Err` when a DPDK function returned a negative errno.
    pub(crate) fn check(ret: i32) -> Result<i32, Self> {
        if ret < 0 { Err(Self(-ret)) } else { Ok(ret) }
    }

    /// What the last failed DPDK call of this thread left in `rte_errno`.
    pub(crate) fn last() -> Self {
        // SAFETY: reads a thread-local variable of DPDK.
        Self(unsafe { sys::shim_errno() })
    }

    /// Whether the driver does not have the operation, which is harmless for some.
    pub(crate) fn is_unsupported(self) -> bool {
        self == ENOTSUP || self == ENOSYS
    }
}

impl fmt::Display for Errno {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // SAFETY: rte_strerror returns a constant or a thread-local, NUL-terminated string, which no other call
        // of this thread overwrites before it is copied out below.
        let text = unsafe { CStr::from_ptr(sys::rte_strerror(self.0)) };
        write!(f, "{} (errno {})", text.to_string_lossy(), self.0)
    }
}
