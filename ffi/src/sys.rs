//! The generated bindings, as bindgen writes them.
#![allow(
    missing_docs,
    non_camel_case_types,
    non_snake_case,
    non_upper_case_globals,
    dead_code,
    unsafe_op_in_unsafe_fn,
    clippy::all,
    clippy::pedantic,
    clippy::undocumented_unsafe_blocks,
    reason = "generated from DPDK's headers; the allow-list brings a few types that only other types refer to"
)]

include!(concat!(env!("OUT_DIR"), "/bindings.rs"));
