//! Tests of whole tables, the same for both families: every operation against a plain model, readers that race
//! the writer, the real Internet table, memory that runs out.

mod exhaustion;
mod fewest;
// Miri gives a table 1 MB.
#[cfg(not(miri))]
mod large;
mod model;
mod operations;
mod race;
mod real;
