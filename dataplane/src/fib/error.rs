//! What can be wrong with a change of a table.

use std::net::{Ipv4Addr, Ipv6Addr};

use super::MAX_GROUP;
use crate::ids::GroupId;

/// Why a table refused a change. Nothing has changed then.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FibError {
    /// The prefix length is over 32 or 128.
    #[error("prefix length {len} is over {max}: give one from 0 to {max}")]
    Length {
        /// The length that was given.
        len: u8,
        /// 32 or 128.
        max: u8,
    },
    /// An IPv4 prefix with bits set beyond its length.
    #[error("{prefix}/{len} has host bits set: clear the bits beyond the first {len}")]
    HostBits4 {
        /// The prefix that was given.
        prefix: Ipv4Addr,
        /// Its length.
        len: u8,
    },
    /// An IPv6 prefix with bits set beyond its length.
    #[error("{prefix}/{len} has host bits set: clear the bits beyond the first {len}")]
    HostBits6 {
        /// The prefix that was given.
        prefix: Ipv6Addr,
        /// Its length.
        len: u8,
    },
    /// The group is larger than a table entry can hold.
    #[error("next-hop group {} is over {}: share groups between routes or free unused ones", .group.0, MAX_GROUP.0)]
    Group {
        /// The group that was given.
        group: GroupId,
    },
    /// The table's memory cannot grow by what the change needs.
    #[error("no memory for {bytes} more bytes of routing table: free memory or carry fewer routes")]
    Memory {
        /// How much was asked for.
        bytes: usize,
    },
}
