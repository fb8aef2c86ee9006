//! The kernel's side of turnpike: a TAP for each sub-interface, and the kernel's neighbour table as events.
//!
//! Packets for ourselves (ARP, ND, ping, BGP, BFD) are written into the sub-interface's TAP, and what the kernel
//! sends on it comes out as [`TapFrame`]s. The kernel resolves neighbours on the TAPs, and each change of its table
//! comes out as a [`NeighbourEvent`].
//!
//! One thread reads all TAPs, one more for each namespace follows its neighbours. Everything else happens in the
//! caller's thread and does not block. `docs/kernel-side.md` says what an operator sees of it.

mod error;
mod link;
pub mod neigh;
mod netlink;
pub mod netns;
mod ready;
mod side;
mod sysctl;
mod tap;
mod taps;
mod tun_ioctl;
pub(crate) mod wake;

pub use error::KernelError;
pub use neigh::{MirrorCounters, NeighbourEvent, NeighbourState};
pub use netns::NetnsError;
pub use side::{KernelSide, TapSpec};
pub use taps::{TapCounters, TapFrame, WriteOutcome};
