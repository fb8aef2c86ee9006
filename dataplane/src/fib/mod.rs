//! Longest-prefix match: the IPv4 and IPv6 tables of one VRF, read by workers while one writer changes them.
//!
//! [`Fib4`] and [`Fib6`] are what workers read; [`Fib4Writer`] and [`Fib6Writer`] own the routes and publish
//! each change. A look-up yields the [`GroupId`](crate::ids::GroupId) of the longest prefix that covers the
//! address, or [`GroupId::NO_ROUTE`](crate::ids::GroupId::NO_ROUTE).

mod error;
mod v4;
mod v6;

pub use error::FibError;
pub use v4::{Fib4, Fib4Writer};
pub use v6::{Fib6, Fib6Writer};

use crate::ids::GroupId;

/// The largest group that a table can hold.
pub const MAX_GROUP: GroupId = GroupId((1 << 15) - 1);
