//! The real Internet table.
