//! Tests of whole tables, the same for both families: every operation against a plain model, readers that race
//! the writer, the real Internet table, memory that runs out.

mod exhaustion;
mod fewest;
// Not under Miri, which gives a table 1 MB: `large`, `small`.
#[cfg(not(miri))]
mod large;
mod model;
mod operations;
mod race;
mod real;
#[cfg(not(miri))]
mod small;
