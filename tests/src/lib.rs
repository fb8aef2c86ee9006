//! The harness of the end-to-end suites: network namespaces, wires, real peers, and the `turnpike` program between
//! them, all driven from outside.
//!
//! A check that does not hold panics: that is how a test fails. What was made is undone by `Drop`, so a panic leaves
//! nothing behind.

#![allow(
    clippy::expect_used,
    clippy::unwrap_used,
    clippy::panic,
    reason = "this crate is tests; a panic with a message is their way to fail"
)]

pub mod access;
pub mod bench;
pub mod bird;
pub mod circuit;
pub mod cloud;
#[cfg(test)]
mod conformance;
pub mod counters;
pub mod customer;
pub mod echo;
pub mod edge;
pub mod frame;
pub mod frr;
pub mod guards;
pub mod host;
pub mod hostile;
pub mod judge;
pub mod lab;
pub mod overload;
pub mod paths;
pub mod pcap;
pub mod plan;
pub mod process;
pub mod refusals;
pub mod replay;
pub mod router;
pub mod scenarios;
pub mod settings;
pub mod speakers;
pub mod standin;
pub mod stream;
pub mod suite;
pub mod sys;
pub mod tables;
pub mod wait;
pub mod watching;
pub mod wire;
pub mod zebra;
