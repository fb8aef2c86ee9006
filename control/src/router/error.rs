//! Why a router does not start.

use crate::api::server::ServerError;
use crate::kernel::KernelError;
use crate::metrics::MetricsError;
use crate::rib::RibError;
use crate::source::bgp::BgpError;
use crate::source::fpm::FpmError;
use crate::source::netlink::NetlinkError;

/// Why a router does not start. Each says what to do about it.
#[derive(Debug, thiserror::Error)]
pub enum RouterError {
    /// The configuration asks for huge pages, and none are free.
    #[error(
        "no free huge pages, and `[memory] huge_pages = \"require\"`: grant some with \
         `sysctl vm.nr_hugepages=1024` (2 MiB each), or let it be \"auto\" or \"never\""
    )]
    NoHugePages,
    /// DPDK does not start.
    #[error(transparent)]
    Eal(#[from] dpdk_sys::EalError),
    /// A port does not open.
    #[error("port `{name}`: {source}")]
    Port {
        /// Its name in the configuration.
        name: String,
        /// What is wrong.
        source: dpdk_sys::PortError,
    },
    /// No memory for packets.
    #[error("{0}")]
    Mempool(#[from] dpdk_sys::MempoolError),
    /// A core that is not there.
    #[error("core {core} (`[workers] cores`) is not there: this machine has cores {online}")]
    Core {
        /// The core.
        core: usize,
        /// The cores that there are, as the kernel lists them.
        online: String,
    },
    /// A worker's thread ended while it should forward.
    #[error("the worker on core {core} ended by a fault of its own: its queues are not served any more")]
    WorkerEnded {
        /// Its core.
        core: usize,
    },
    /// A worker did not start.
    #[error("the worker on core {core} did not start: {why}")]
    Worker {
        /// Its core.
        core: usize,
        /// What went wrong.
        why: String,
    },
    /// The TAPs.
    #[error(transparent)]
    Kernel(#[from] KernelError),
    /// The BGP speaker.
    #[error(transparent)]
    Bgp(#[from] BgpError),
    /// The FPM server.
    #[error(transparent)]
    Fpm(#[from] FpmError),
    /// The kernel's tables.
    #[error(transparent)]
    Netlink(#[from] NetlinkError),
    /// The API's socket.
    #[error(transparent)]
    Api(#[from] ServerError),
    /// The metrics.
    #[error(transparent)]
    Metrics(#[from] MetricsError),
    /// The look-up tables.
    #[error("no memory for the look-up tables: {0}")]
    Fib(#[from] dataplane::fib::FibError),
    /// The access lists.
    #[error("{0}")]
    AccessLists(String),
    /// The sub-interfaces.
    #[error("the sub-interfaces cannot be: {0}")]
    SubInterfaces(#[from] dataplane::sub_interface::SubInterfaceError),
    /// The RIB.
    #[error(transparent)]
    Rib(#[from] RibError),
}
