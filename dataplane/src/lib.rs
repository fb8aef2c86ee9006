//! All that a packet meets: header views, sub-interfaces, FIB, next-hop groups, the stages, the worker loop
//! and its counters.
//!
//! Nothing here allocates, locks, logs or makes a system call on a packet's way, and nothing here knows of
//! BGP, configuration files or sockets. The crate builds and tests without DPDK; the adapter to DPDK's ports
//! is the module `dpdk`, behind the feature of that name.

pub mod acl;
pub mod adjacency;
pub mod burst;
pub mod counters;
#[cfg(feature = "dpdk")]
pub mod dpdk;
pub mod exits;
pub mod expected;
pub mod fib;
pub mod grace;
pub mod hand_over;
pub mod header;
pub mod histogram;
pub mod ids;
pub mod io;
pub mod offload;
pub mod packet;
pub mod policy;
pub mod punt;
pub mod qsbr;
pub mod stage;
pub mod sub_interface;
pub mod tables;
pub mod verdict;
pub mod watch;
pub mod worker;
