//! DPDK's tables, by the shim in `shim/peers.c`.
#![allow(unsafe_code)] // The peers are a C library; each block says why it is sound.

use std::ffi::{c_int, c_void};
use std::ptr::NonNull;

use dpdk_sys::Eal;

use super::Family;
use super::routes::Route;
use super::table::{BURST, Table};
use super::workload::Addresses;

/// The tables, in the order of `enum peer_kind`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub enum Kind {
    Fib2,
    Fib4,
    Fib2Scalar,
    Fib4Scalar,
    Lpm,
    LpmX4,
    Fib6By2,
    Fib6By4,
    Fib6By2Scalar,
    Fib6By4Scalar,
    Lpm6,
}

type Lookup4 = extern "C" fn(*mut c_void, *const u32, *mut u64, u32);
type Lookup6 = extern "C" fn(*mut c_void, *const [u8; 16], *mut u64, u32);

unsafe extern "C" {
    fn peer_create(kind: Kind, routes: u32, tbl8s: u32) -> *mut c_void;
    fn peer_free(kind: Kind, table: *mut c_void);
    fn peer_add4(kind: Kind, table: *mut c_void, ip: u32, depth: u8, hop: u32) -> c_int;
    fn peer_delete4(kind: Kind, table: *mut c_void, ip: u32, depth: u8) -> c_int;
    fn peer_add6(kind: Kind, table: *mut c_void, ip: *const u8, depth: u8, hop: u32) -> c_int;
    fn peer_delete6(kind: Kind, table: *mut c_void, ip: *const u8, depth: u8) -> c_int;
    fn peer_lookup4_of(kind: Kind) -> Lookup4;
    fn peer_lookup6_of(kind: Kind) -> Lookup6;
    fn peer_hop(kind: Kind, hops: *const u64, at: u32) -> u32;
}

impl Kind {
    pub fn all(family: Family) -> &'static [Self] {
        match family {
            Family::V4 => {
                &[Self::Fib2, Self::Fib4, Self::Fib2Scalar, Self::Fib4Scalar, Self::Lpm, Self::LpmX4]
            }
            Family::V6 => {
                &[Self::Fib6By2, Self::Fib6By4, Self::Fib6By2Scalar, Self::Fib6By4Scalar, Self::Lpm6]
            }
        }
    }

    pub fn name(self) -> &'static str {
        match self {
            Self::Fib2 => "rte_fib 2-byte avx512",
            Self::Fib4 => "rte_fib 4-byte avx512",
            Self::Fib2Scalar => "rte_fib 2-byte scalar",
            Self::Fib4Scalar => "rte_fib 4-byte scalar",
            Self::Lpm => "rte_lpm bulk",
            Self::LpmX4 => "rte_lpm x4",
            Self::Fib6By2 => "rte_fib6 2-byte avx512",
            Self::Fib6By4 => "rte_fib6 4-byte avx512",
            Self::Fib6By2Scalar => "rte_fib6 2-byte scalar",
            Self::Fib6By4Scalar => "rte_fib6 4-byte scalar",
            Self::Lpm6 => "rte_lpm6 bulk",
        }
    }

    /// Second-level tables to make room for.
    fn tbl8s(self, routes: usize) -> u32 {
        match self {
            Self::Fib4 | Self::Fib4Scalar | Self::Lpm | Self::LpmX4 => 65_536,
            // 15 bits of a 2-byte entry name a table.
            Self::Fib2 | Self::Fib2Scalar | Self::Fib6By2 | Self::Fib6By2Scalar => 32_767,
            Self::Fib6By4 | Self::Fib6By4Scalar => (routes * 5 / 2).max(20_000) as u32,
            Self::Lpm6 => (routes * 5 / 2).clamp(20_000, (1 << 21) - 1) as u32,
        }
    }
}

/// One of DPDK's tables.
pub struct Peer {
    kind: Kind,
    table: NonNull<c_void>,
    hops: [u64; BURST],
}

impl Peer {
    /// An empty table; `None` when DPDK cannot make it. The `Eal` says that DPDK runs.
    pub fn new(kind: Kind, routes: usize, _eal: &Eal) -> Option<Self> {
        // SAFETY: DPDK was started. The rest is plain numbers.
        let table = unsafe { peer_create(kind, routes as u32 + 1024, kind.tbl8s(routes)) };
        Some(Self { kind, table: NonNull::new(table)?, hops: [0; BURST] })
    }

    fn outcome(&self, what: &str, (prefix, len, _): Route, result: c_int) -> Result<(), String> {
        if result == 0 {
            return Ok(());
        }
        Err(format!("{} cannot {what} {prefix:x}/{len}: error {result}", self.kind.name()))
    }

    fn is_v6(&self) -> bool {
        Kind::all(Family::V6).contains(&self.kind)
    }
}

impl Table for Peer {
    fn name(&self) -> &str {
        self.kind.name()
    }

    fn lookup(&mut self, addresses: &Addresses, from: usize) {
        // SAFETY: the table is of this kind; both arrays have room for a burst, which the slices check.
        unsafe {
            if self.is_v6() {
                let ips = addresses.bytes[from..from + BURST].as_ptr();
                peer_lookup6_of(self.kind)(self.table.as_ptr(), ips, self.hops.as_mut_ptr(), BURST as u32);
            } else {
                let ips = addresses.v4[from..from + BURST].as_ptr();
                peer_lookup4_of(self.kind)(self.table.as_ptr(), ips, self.hops.as_mut_ptr(), BURST as u32);
            }
        }
    }

    fn hop(&self, at: usize) -> u32 {
        assert!(at < BURST);
        // SAFETY: `at` is within the array.
        unsafe { peer_hop(self.kind, self.hops.as_ptr(), at as u32) }
    }

    fn insert(&mut self, route: Route) -> Result<(), String> {
        let (prefix, len, hop) = route;
        let bytes = prefix.to_be_bytes();
        // SAFETY: the table is of this kind; the address is 16 bytes.
        let result = unsafe {
            if self.is_v6() {
                peer_add6(self.kind, self.table.as_ptr(), bytes.as_ptr(), len, hop)
            } else {
                peer_add4(self.kind, self.table.as_ptr(), (prefix >> 96) as u32, len, hop)
            }
        };
        self.outcome("add", route, result)
    }

    fn remove(&mut self, route: Route) -> Result<(), String> {
        let (prefix, len, _) = route;
        let bytes = prefix.to_be_bytes();
        // SAFETY: as in `insert`.
        let result = unsafe {
            if self.is_v6() {
                peer_delete6(self.kind, self.table.as_ptr(), bytes.as_ptr(), len)
            } else {
                peer_delete4(self.kind, self.table.as_ptr(), (prefix >> 96) as u32, len)
            }
        };
        self.outcome("delete", route, result)
    }

    fn memory(&self) -> Option<usize> {
        None
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        // SAFETY: made by `peer_create` with this kind, and freed once.
        unsafe { peer_free(self.kind, self.table.as_ptr()) };
    }
}
