//! DPDK's `rte_acl`, by the shim in `shim/acl.c`.
#![allow(unsafe_code)] // The peer is a C library; each block says why it is sound.

use std::ffi::{c_int, c_void};
use std::ptr::NonNull;

use dataplane::acl::{Addresses, Rule};
use dpdk_sys::Eal;

use crate::lpm::Family;

/// `struct acl_peer_rule`.
#[repr(C)]
struct PeerRule {
    source: [u8; 16],
    destination: [u8; 16],
    source_len: u8,
    destination_len: u8,
    protocol: u8,
    protocol_mask: u8,
    source_ports: [u16; 2],
    destination_ports: [u16; 2],
}

unsafe extern "C" {
    fn acl_peer_create(v6: c_int, rules: *const PeerRule, count: u32) -> *mut c_void;
    fn acl_peer_free(acl: *mut c_void);
    fn acl_peer_use(acl: *mut c_void, algorithm: c_int) -> c_int;
    fn acl_peer_classify(acl: *mut c_void, packets: *const *const u8, results: *mut u32, n: u32) -> c_int;
}

/// Ways to search, by their numbers in `enum rte_acl_classify_alg`.
pub const ALGORITHMS: [(&str, c_int); 3] =
    [("rte_acl avx2", 3), ("rte_acl avx512x16", 6), ("rte_acl avx512x32", 7)];

/// One of DPDK's lists.
pub struct Peer(NonNull<c_void>);

impl Peer {
    /// The list of these rules; `None` when DPDK cannot make it. The `Eal` says that DPDK runs.
    pub fn new(family: Family, rules: &[Rule], _eal: &Eal) -> Option<Self> {
        let rules: Vec<PeerRule> = rules.iter().map(|rule| peer_rule(family, rule)).collect();
        // SAFETY: DPDK was started; the rules are there for the time of the call.
        let acl =
            unsafe { acl_peer_create(c_int::from(family == Family::V6), rules.as_ptr(), rules.len() as u32) };
        NonNull::new(acl).map(Self)
    }

    /// Chooses how to search. `false`: this processor cannot.
    pub fn search_by(&mut self, algorithm: c_int) -> bool {
        // SAFETY: the list is this value's alone.
        unsafe { acl_peer_use(self.0.as_ptr(), algorithm) == 0 }
    }

    /// Finds each packet's first rule, counted from 1; 0 for none.
    pub fn classify(&self, packets: &[*const u8], results: &mut [u32]) {
        let count = packets.len().min(results.len()) as u32;
        // SAFETY: each pointer is to the headers of a packet that outlives the call, 64 bytes; both arrays have `count`.
        let result =
            unsafe { acl_peer_classify(self.0.as_ptr(), packets.as_ptr(), results.as_mut_ptr(), count) };
        assert_eq!(result, 0, "rte_acl_classify");
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        // SAFETY: made by `acl_peer_create`, and freed once.
        unsafe { acl_peer_free(self.0.as_ptr()) }
    }
}

fn peer_rule(family: Family, rule: &Rule) -> PeerRule {
    let prefix = |addresses: Option<&Addresses>| {
        let mut bytes = [0; 16];
        let len = match family {
            Family::V4 => addresses.and_then(|a| a.v4.first()).map(|(address, len)| {
                bytes[..4].copy_from_slice(&address.to_be_bytes());
                *len
            }),
            Family::V6 => addresses.and_then(|a| a.v6.first()).map(|(address, len)| {
                bytes = address.to_be_bytes();
                *len
            }),
        };
        (bytes, len.unwrap_or(0))
    };
    let ports = |ranges: &[(u16, u16)]| ranges.first().map_or([0, u16::MAX], |range| [range.0, range.1]);
    let ((source, source_len), (destination, destination_len)) =
        (prefix(rule.source.as_ref()), prefix(rule.destination.as_ref()));
    let protocol = rule.protocols.first().copied();
    PeerRule {
        source,
        destination,
        source_len,
        destination_len,
        protocol: protocol.unwrap_or(0),
        protocol_mask: if protocol.is_some() { 0xff } else { 0 },
        source_ports: ports(&rule.source_ports),
        destination_ports: ports(&rule.destination_ports),
    }
}
