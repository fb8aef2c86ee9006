//! One wrong thing at a time: its place, its key, what is said.
