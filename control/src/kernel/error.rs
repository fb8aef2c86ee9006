//! What can go wrong on the kernel's side, each with its way out.

use std::io;
use std::net::IpAddr;

use dataplane::ids::SubIfId;

use super::netns::{NetnsError, Place};

/// Why the kernel's side could not start, or refused a request.
#[derive(Debug, thiserror::Error)]
pub enum KernelError {
    /// The namespace cannot be entered.
    #[error(transparent)]
    Namespace(#[from] NetnsError),
    /// We lack the privilege.
    #[error(
        "{action} is not permitted: run turnpike as root, or with CAP_NET_ADMIN and, for named network namespaces, \
         CAP_SYS_ADMIN"
    )]
    NotPermitted {
        /// What was tried.
        action: String,
    },
    /// The kernel has no TUN/TAP device.
    #[error(
        "cannot open /dev/net/tun: {source}; load the driver with `modprobe tun`, and if the file is missing still: \
         `mkdir -p /dev/net && mknod /dev/net/tun c 10 200`"
    )]
    NoTun {
        /// What the system said.
        source: io::Error,
    },
    /// There is an interface of that name.
    #[error(
        "cannot make the TAP `{name}`: {place} has an interface of that name already; name the TAP differently, or \
         remove that one with `ip link delete {name}` there (another turnpike may be running)"
    )]
    NameTaken {
        /// The TAP's name.
        name: String,
        /// Where.
        place: Place,
    },
    /// Not a name that an interface can have.
    #[error("`{name}` cannot name a TAP: {reason}")]
    InvalidName {
        /// The name.
        name: String,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// Two TAPs for one sub-interface.
    #[error("sub-interface number {} has two TAPs, `{first}` and `{second}`: give it one", interface.0)]
    Duplicate {
        /// The sub-interface.
        interface: SubIfId,
        /// One TAP.
        first: String,
        /// The other.
        second: String,
    },
    /// The TAP could not be made for another reason.
    #[error("cannot make the TAP `{name}`: {source}")]
    Tap {
        /// The TAP's name.
        name: String,
        /// What the system said.
        source: io::Error,
    },
    /// A setting under `/proc/sys` could not be made.
    #[error("cannot set {path} to {value}: {source}; is /proc/sys writable here?")]
    Sysctl {
        /// The file.
        path: String,
        /// The value that it should have.
        value: &'static str,
        /// What the system said.
        source: io::Error,
    },
    /// IPv6 addresses on a TAP that cannot have any.
    #[error("the TAP `{name}` cannot have the IPv6 address {address}: {reason}")]
    NoIpv6 {
        /// The TAP's name.
        name: String,
        /// The first such address.
        address: IpAddr,
        /// Why, with the way out.
        reason: &'static str,
    },
    /// The kernel refused a request over rtnetlink.
    #[error("cannot {action} in {place}: {source}")]
    Refused {
        /// What was tried, e.g. "give the TAP `lan` the MTU 9000".
        action: String,
        /// Where.
        place: Place,
        /// What the kernel said.
        source: io::Error,
    },
    /// No TAP belongs to this sub-interface.
    #[error("sub-interface number {} has no TAP", .0.0)]
    UnknownInterface(SubIfId),
    /// A thread or its wake-up descriptor could not be made.
    #[error(
        "cannot start the thread `{name}`: {source}; raise the limits on threads and open files (`ulimit -u -n`)"
    )]
    Thread {
        /// The thread's name.
        name: String,
        /// What the system said.
        source: io::Error,
    },
}

impl KernelError {
    /// `source` as [`KernelError::NotPermitted`] when it is one, else as [`KernelError::Refused`].
    pub(super) fn refused(action: impl Into<String>, place: &Place, source: io::Error) -> Self {
        let action = action.into();
        if source.kind() == io::ErrorKind::PermissionDenied {
            return Self::NotPermitted { action: format!("to {action} in {place}") };
        }
        Self::Refused { action, place: place.clone(), source }
    }
}
