//! DPDK for turnpike: bindings of a short allow-list, and safe types on top that own what they wrap.
//!
//! | type | owns |
//! |---|---|
//! | [`Eal`] | DPDK's process-wide environment |
//! | [`Mempool`] | a pool of packet buffers |
//! | [`Mbuf`] | one packet |
//! | [`Port`] | a NIC or virtual device, until it and its queues are dropped |
//! | [`RxQueue`], [`TxQueue`] | the right to poll one queue |
//! | [`ThreadGuard`] | the calling thread's lcore id, and with it a mempool cache |
//!
//! Whatever is inside DPDK keeps alive what it needs by `Arc`, so drop order never matters.
#![allow(
    unsafe_code,
    reason = "this crate is where turnpike meets a C library; every block says why it is sound"
)]

mod clock;
mod eal;
mod errno;
mod layout;
pub mod log;
mod mbuf;
mod mempool;
mod port;
mod queue;
mod sys;
mod thread;

pub use clock::{cycles, fenced_cycles};
pub use eal::{Eal, EalError, FreeHugePages, free_huge_pages};
pub use errno::Errno;
pub use mbuf::{Checksum, Mbuf, Oddities};
pub use mempool::{Mempool, MempoolError};
pub use port::{Link, Offloads, Port, PortConfig, PortError, PortInfo, PortStats};
pub use queue::{RxQueue, TxQueue};
pub use thread::{ThreadError, ThreadGuard, lcore_id, register_thread};

/// The version of DPDK that this crate was built against, e.g. `22.11.11`.
pub const DPDK_VERSION: &str = env!("DPDK_SYS_VERSION");

/// Bytes in front of a packet in a fresh buffer (`RTE_PKTMBUF_HEADROOM`): what [`Mbuf::prepend`] can take.
pub const HEADROOM: u16 = sys::DPDK_SYS_HEADROOM;
