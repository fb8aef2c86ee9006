//! All that a packet meets: header views, sub-interfaces, FIB, next-hop groups, the stages, the worker loop
//! and its counters.
//!
//! Nothing here allocates, locks, logs or makes a system call on a packet's way, and nothing here knows of
//! BGP, configuration files or sockets. The crate builds and tests without DPDK; the adapter to DPDK's ports
//! is the module `dpdk`, behind the feature of that name.

pub mod fib;
pub mod grace;
pub mod ids;
