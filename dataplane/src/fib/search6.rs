//! The IPv6 look-up of a burst, in short passes, each of which does one thing for all addresses: the root, the tables,
//! the tables under tables for the few that are at one, then the leaf of each. The processor sees far enough ahead for
//! the whole burst to wait for memory together, and but for those few no branch depends on an address. What needs no
//! table is done in passes of its own, for several addresses at once. With AVX-512 the look-up is one of its own, of the
//! same steps.
#![allow(unsafe_code)] // Reads that are not checked, see `view6`.
#![allow(clippy::needless_range_loop)] // Each pass goes over several arrays at once.
#![allow(clippy::missing_safety_doc)] // Passes are told what places are good for: see where the look-up calls them.

use super::node6::{BEHIND, BLOCKS, CODE, Node, TABLE, escape, is_escape};
use super::v6::{BATCH, Fib6};
use super::view6::View;
use crate::ids::GroupId;

/// A 32-bit word for each address of a burst, on cache lines of their own.
#[repr(align(64))]
struct Lanes([u32; BATCH]);

impl Lanes {
    const ZERO: Self = Self([0; BATCH]);
}

/// The addresses of a burst are looked up in whole groups of this many.
const GROUP: usize = 16;

/// The look-up by the passes of a module. `$addrs` and `$out` are arrays; of the addresses, the first `$lanes` are
/// looked up.
macro_rules! search {
    ($how:ident, $fib:expr, $addrs:expr, $out:expr, $lanes:expr) => {{
        let (fib, addrs, out): (&Fib6, &[u128; BATCH], &mut [GroupId; BATCH]) = ($fib, $addrs, $out);
        let lanes: usize = $lanes;
        let view = View::of(&fib.pages);
        let (mut keys, mut nodes, mut places, mut found) = (Lanes::ZERO, Lanes::ZERO, Lanes::ZERO, Lanes::ZERO);
        loop {
            let seen = fib.default.seen();
            $how::split(addrs, &mut places, &mut keys, lanes);
            // SAFETY: `split` leaves 12 bits of each.
            unsafe { $how::root(view, addrs, &places, &mut nodes, lanes) };
            $how::entries(view, &nodes, &keys, &mut places, lanes);
            // SAFETY: `entries` has cut them with the mask, and to multiples of 4.
            unsafe { $how::words(view, &mut places, lanes) };
            // Who is at a table still, one bit each.
            let tables: u64 = $how::take(view, &mut nodes, &mut places, lanes);
            deeper(view, &mut nodes.0, &keys.0, &mut places.0, tables);
            // SAFETY: `take` and `deeper` have cut them with the mask, and to multiples of 64.
            unsafe { $how::below(view, &places, &keys, &mut found, lanes) };
            $how::values(view, &nodes, &found, &mut places, lanes);
            // SAFETY: a line cut with the mask, behind it up to 32 words to where the values begin, and 16 more.
            unsafe { $how::halves(view, &places, &mut found, lanes) };
            let mut any = 0;
            for at in 0..lanes {
                out[at] = seen.group(found.0[at]);
                any |= found.0[at];
            }
            if is_escape(any as u16) {
                for at in 0..lanes {
                    let said = found.0[at] as u16;
                    if is_escape(said) {
                        let blocks = &fib.pages.heads()[BLOCKS..];
                        out[at] = seen.group(escape(blocks, Node(nodes.0[at]), said, addrs[at], 0));
                    }
                }
            }
            if fib.default.held(seen) {
                break;
            }
        }
    }};
}

/// Calls the look-up with the burst, filled up to whole groups where it is not full. A full burst is what matters: as
/// its length is known, its loops are unrolled.
macro_rules! full_or_not {
    ($how:ident, $fib:expr, $addrs:expr, $out:expr) => {{
        match (<&[u128; BATCH]>::try_from($addrs), <&mut [GroupId; BATCH]>::try_from(&mut *$out)) {
            (Ok(addrs), Ok(out)) => search!($how, $fib, addrs, out, BATCH),
            _ => {
                let count = $addrs.len().min($out.len()).min(BATCH);
                let mut addrs = [0; BATCH];
                addrs[..count].copy_from_slice(&$addrs[..count]);
                let mut out = [GroupId(0); BATCH];
                search!($how, $fib, &addrs, &mut out, count.next_multiple_of(GROUP).min(BATCH));
                $out[..count].copy_from_slice(&out[..count]);
            }
        }
    }};
}

/// Where a table has its entry for a key, in bytes. For a leaf, somewhere at the beginning of its line.
#[inline(always)]
fn entry(node: u32, key: u32, mask: u32) -> u32 {
    let behind = BEHIND[(node & CODE) as usize] % 32;
    (node & !CODE).wrapping_add(key >> behind << 2) & mask & !3
}

/// Leads those that are at a table (one bit each) on until they are at a leaf: their nodes, and the lines where those are.
#[inline(always)]
fn deeper(view: View<'_>, nodes: &mut [u32], keys: &[u32], lines: &mut [u32], mut tables: u64) {
    while tables != 0 {
        let mut left = tables;
        tables = 0;
        while left != 0 {
            let at = left.trailing_zeros() as usize % BATCH;
            left &= left - 1;
            // SAFETY: cut with the mask, and a multiple of 4.
            let next = unsafe { view.word(entry(nodes[at], keys[at], view.mask())) };
            (nodes[at], lines[at]) = (next, next & view.mask() & !CODE);
            tables |= u64::from(next & CODE >= TABLE) << at;
        }
    }
}

#[inline(always)]
fn plain(fib: &Fib6, addrs: &[u128], out: &mut [GroupId]) {
    full_or_not!(portable, fib, addrs, out);
}

#[cfg(not(all(target_arch = "x86_64", not(miri))))]
pub(super) fn batch(fib: &Fib6, addrs: &[u128], out: &mut [GroupId]) {
    plain(fib, addrs, out);
}

#[cfg(all(target_arch = "x86_64", not(miri)))]
pub(super) use x86::batch;

#[cfg(all(target_arch = "x86_64", not(miri)))]
mod avx2;
#[cfg(all(target_arch = "x86_64", not(miri)))]
mod avx512;
mod portable;
#[cfg(all(target_arch = "x86_64", not(miri)))]
mod x86;
