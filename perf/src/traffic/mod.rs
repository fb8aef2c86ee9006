//! The traffic generator and checker: flows of sequence-numbered, time-stamped frames out of one or more ports, and a
//! judgement of each frame that comes back.
//!
//! How to use it:
//!
//! 1. Describe the flows ([`Flow`]): the port that sends, the ports on which its frames may come back (none, if they
//!    must not), tags, addresses. [`Traffic::new`] makes the heads of all frames.
//! 2. Open the ports ([`Station::open`]) on the thread that is to run the loop. That thread does nothing else.
//! 3. [`run`] one trial ([`Load`]: rate, length, hops) and read its [`Outcome`]: for all flows and for each flow what was
//!    sent, lost, reordered (RFC 4737), duplicated, misdirected, corrupt; latencies as a histogram.
//!
//! Another thread may watch the trial by [`Live`] and end it by its stop flag; with [`Length::UntilStopped`] that is how
//! it ends. Who wants to know more of each frame, such as the next hop that a router chose for it (destination MAC
//! address and tags), passes an [`Observer`].
//!
//! What is counted as received is exact: a frame counts once, intact to the last byte, on a right port. A frame that is
//! so late that the window of its flow has forgotten it counts as lost and as `stale`.

mod check;
mod frame;
mod generator;
mod pace;
mod plan;
mod sequence;
mod stamp;
mod station;
#[cfg(test)]
pub mod tests;
mod wire;

#[allow(unused_imports, reason = "for whoever looks at single flows")]
pub use check::Counts;
pub use check::{Observer, Verdict};
pub use frame::{Arrival, Flow, Layer2, Tag, Tags, least_size};
pub use generator::{Length, Live, Load, Outcome, run};
pub use plan::{Sizes, Traffic, TrafficError, line_rate};
pub use stamp::Stamp;
pub use station::{Cable, Setup, Station, StationError, WhenFull, is_pci};
