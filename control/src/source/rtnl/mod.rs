//! rtnetlink's routes and next hops, as the kernel and FRR's zebra tell of them: decoded, and gathered into what the
//! RIB is to know.
//!
//! - `message`: a datagram's messages. `attributes`: what they consist of. `decode`: what they say.
//! - `leads`: where routes lead, with next-hop objects. `routes`, `order`: prefixes. `replica`: both; `news`: what of them
//!   is to be told.
//! - `tables`: which tables are followed. `feed`: the way to the control thread's queue, with counters.
//!
//! Everything here takes hostile input: it is pure, bounded, and ends in a typed error.

pub mod attributes;
pub mod decode;
#[cfg(test)]
pub(crate) mod encode;
pub mod feed;
mod leads;
pub mod message;
mod news;
mod order;
pub mod replica;
mod routes;
pub mod tables;
#[cfg(test)]
mod tests;

pub use decode::{Event, Hop, Lead, Link, Object, ObjectKind, Route, RouteKind, decode};
pub use feed::{Batch, Outlet, Stats};
pub use message::{Message, messages};
pub use order::Manners;
pub use replica::{Counts, Replica};
pub use tables::{Followed, Protocols, Table, Tables};

/// What is wrong with a netlink message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RtnlError {
    /// Its length is less than its header's, or more than there is.
    #[error("a netlink message says that it has {said} bytes, and there are {left}")]
    Length {
        /// What it says.
        said: usize,
        /// What there is.
        left: usize,
    },
    /// Its body is shorter than the structure that its type begins with.
    #[error("a netlink message of type {kind} has {length} bytes, fewer than its fixed part")]
    Short {
        /// Its type.
        kind: u16,
        /// Bytes of its body.
        length: usize,
    },
    /// An attribute's length is less than its header's, or more than there is.
    #[error("an attribute says that it has {said} bytes, and there are {left}")]
    Attribute {
        /// What it says.
        said: usize,
        /// What there is.
        left: usize,
    },
    /// An attribute is not of its type's length.
    #[error("attribute {kind} has {length} bytes")]
    Value {
        /// Its type.
        kind: u16,
        /// Bytes of its value.
        length: usize,
    },
    /// A prefix length beyond the address.
    #[error("a prefix length of {length} for an address of {bits} bits")]
    Prefix {
        /// What it says.
        length: u8,
        /// Bits of an address of the family.
        bits: u8,
    },
    /// A next-hop object without its number.
    #[error("a next-hop object without an id")]
    NoId,
}
