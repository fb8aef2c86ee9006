//! Longest-prefix match: per VRF one [`Fib4`] and one [`Fib6`], read by all workers, each with one writer.
