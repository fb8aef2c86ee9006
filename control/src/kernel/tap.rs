//! One TAP: an Ethernet interface of the kernel whose wire is a file descriptor. It lives as long as the value.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::OpenOptionsExt;

use rustix::fs::OFlags;
use rustix::io::Errno;

use super::error::KernelError;
use super::netns::Place;
use super::tun_ioctl;

/// A TAP. Closing its descriptor removes the interface.
#[derive(Debug)]
pub(super) struct Tap {
    name: String,
    file: File,
}

impl Tap {
    /// Makes a TAP in the calling thread's namespace; `place` is that namespace's name for errors.
    pub(super) fn create(name: &str, place: &Place) -> Result<Self, KernelError> {
        let padded = padded(name)?;
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .custom_flags(OFlags::NONBLOCK.bits().cast_signed())
            .open("/dev/net/tun")
            .map_err(|source| match source.kind() {
                io::ErrorKind::PermissionDenied => {
                    KernelError::NotPermitted { action: "opening /dev/net/tun".into() }
                }
                _ => KernelError::NoTun { source },
            })?;
        tun_ioctl::set_interface(file.as_fd(), padded).map_err(|errno| match errno {
            Errno::PERM => {
                KernelError::NotPermitted { action: format!("making the TAP `{name}` in {place}") }
            }
            Errno::BUSY => KernelError::NameTaken { name: name.into(), place: place.clone() },
            _ => KernelError::Tap { name: name.into(), source: errno.into() },
        })?;
        Ok(Self { name: name.into(), file })
    }

    /// The interface's name.
    pub(super) fn name(&self) -> &str {
        &self.name
    }

    /// Reads one frame that the kernel sent; `AGAIN` when there is none, `BADFD` when somebody deleted the interface.
    pub(super) fn read(&self, buffer: &mut [u8]) -> Result<usize, Errno> {
        rustix::io::retry_on_intr(|| rustix::io::read(&self.file, &mut *buffer))
    }

    /// Hands one frame to the kernel as received; `IO` when the interface is administratively down.
    pub(super) fn write(&self, frame: &[u8]) -> Result<(), Errno> {
        rustix::io::retry_on_intr(|| rustix::io::write(&self.file, frame)).map(drop)
    }

    /// Raises or drops the carrier.
    pub(super) fn set_carrier(&self, up: bool) -> Result<(), Errno> {
        tun_ioctl::set_carrier(self.file.as_fd(), up)
    }
}

impl AsFd for Tap {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

/// The name as the ioctl wants it. The kernel would expand a `%d`, so that is refused, too.
fn padded(name: &str) -> Result<[u8; 16], KernelError> {
    let reason = if name.is_empty() || name.len() > 15 {
        "a name has 1 to 15 bytes"
    } else if name == "." || name == ".." {
        "`.` and `..` are not names"
    } else if name
        .bytes()
        .any(|byte| byte.is_ascii_whitespace() || byte.is_ascii_control() || b"/:%".contains(&byte))
    {
        "a name has no white space, `/`, `:` or `%`"
    } else {
        let mut padded = [0; 16];
        padded[..name.len()].copy_from_slice(name.as_bytes());
        return Ok(padded);
    };
    Err(KernelError::InvalidName { name: name.into(), reason })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_checked_and_padded() {
        assert_eq!(&padded("lan").unwrap(), b"lan\0\0\0\0\0\0\0\0\0\0\0\0\0");
        assert!(padded("exactly15bytes-").is_ok());
        for name in ["", "sixteen-bytes-ab", ".", "..", "a/b", "a b", "tap%d", "a:1", "a\0b", "a\n"] {
            assert!(matches!(padded(name), Err(KernelError::InvalidName { .. })), "{name:?}");
        }
    }
}
