//! Longest-prefix match: the IPv4 and IPv6 tables of one VRF, read by workers while one writer changes them.
//!
//! [`Fib4`] and [`Fib6`] are what workers read; [`Fib4Writer`] and [`Fib6Writer`] own the routes and publish
//! each change. A look-up yields the [`GroupId`](crate::ids::GroupId) of the longest prefix that covers the
//! address, or [`GroupId::NO_ROUTE`](crate::ids::GroupId::NO_ROUTE).

#![allow(clippy::inline_always)] // What a look-up does for each address must not become a call.

mod arena;
mod build6;
mod chunks;
mod default;
mod error;
mod front;
#[cfg(all(target_arch = "x86_64", not(miri)))]
mod lanes;
mod memory;
mod node6;
mod pages;
#[cfg(all(target_arch = "x86_64", not(miri)))]
mod processor;
mod routes;
mod search6;
mod shape;
mod shape4;
mod shape6;
mod sweep;
#[cfg(test)]
mod tests;
mod v4;
mod v6;
mod view6;
mod writer;

pub use error::FibError;
pub use front::{FibWriter, Table};
pub use v4::{Fib4, Fib4Writer};
pub use v6::{Fib6, Fib6Writer};

use crate::ids::GroupId;

/// The largest group that a table can hold. Those below 2^15 - 1 take the shortest way.
pub const MAX_GROUP: GroupId = GroupId((1 << 24) - 1);

/// Asks for the cache line of a word.
#[inline(always)]
fn prefetch<T>(word: *const T) {
    #[cfg(all(target_arch = "x86_64", not(miri)))]
    // SAFETY: a prefetch is a hint: it reads nothing into the program and cannot fault, whatever the address.
    #[allow(unsafe_code)]
    unsafe {
        use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        _mm_prefetch::<_MM_HINT_T0>(word.cast());
    }
    #[cfg(not(all(target_arch = "x86_64", not(miri))))]
    let _ = word;
}
