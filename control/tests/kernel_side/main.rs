//! The kernel's side against the real kernel: TAPs in network namespaces of their own, frames written and read raw.
//! Needs root, and says so rather than skip.

#![expect(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

mod failures;
mod frames;
mod harness;
mod neighbours;
mod setup;
mod traffic;
