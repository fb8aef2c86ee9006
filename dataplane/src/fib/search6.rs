//! The IPv6 look-up of a burst, in short passes, each of which does one thing for all addresses: the root, the tables,
//! the tables under tables for the few that are at one, then the leaf of each. The processor sees far enough ahead for
//! the whole burst to wait for memory together, and but for those few no branch depends on an address. What needs no
//! table is done in passes of its own, for 8 or 16 addresses at once.
#![allow(unsafe_code)] // Reads that are not checked, see `view6`.
#![allow(clippy::needless_range_loop)] // Each pass goes over several arrays at once.

use std::sync::atomic::Ordering;

use super::node6::{
    BEHIND, BLOCKS, CODE, MIDDLE, Node, PARTS, TABLE, TOP_BITS, escape, first_bits, is_escape, key,
};
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

/// The look-up with a given way to do each pass that is done for several addresses at once, and the comparison with the
/// leaves. `$addrs` and `$out` are arrays; of the addresses, the first `$lanes` are looked up.
macro_rules! search {
    ($fib:expr, $addrs:expr, $out:expr, $lanes:expr, $split:path, $entries:path, $take:path, $below:path, $values:path) => {{
        let (fib, addrs, out): (&Fib6, &[u128; BATCH], &mut [GroupId; BATCH]) = ($fib, $addrs, $out);
        let lanes: usize = $lanes;
        let view = View::of(&fib.pages);
        let (mut keys, mut nodes, mut places, mut found) = (Lanes::ZERO, Lanes::ZERO, Lanes::ZERO, Lanes::ZERO);
        loop {
            let seen = fib.default.seen();
            $split(addrs, &mut places, &mut keys, lanes);
            for at in 0..lanes {
                let top = (addrs[at] >> (128 - TOP_BITS)) as u16;
                // SAFETY: `split` leaves no more bits than that.
                nodes.0[at] = unsafe { view.root(top, places.0[at]) };
            }
            // Where a table has what comes next. For a leaf, somewhere at the beginning of its line.
            $entries(&nodes, &keys, &mut places, view.mask(), lanes);
            for at in 0..lanes {
                // SAFETY: cut with the mask, and a multiple of 4.
                places.0[at] = unsafe { view.word(places.0[at]) };
            }
            // Who is at a table still, one bit each; and the line of each leaf.
            let mut tables: u64 = $take(&mut nodes, &mut places, view.mask(), lanes);
            while tables != 0 {
                let mut left = tables;
                tables = 0;
                while left != 0 {
                    let at = left.trailing_zeros() as usize % BATCH;
                    left &= left - 1;
                    // SAFETY: cut with the mask, and a multiple of 4.
                    let next = unsafe { view.word(entry(nodes.0[at], keys.0[at], view.mask())) };
                    (nodes.0[at], places.0[at]) = (next, next & view.mask() & !CODE);
                    tables |= u64::from(next & CODE >= TABLE) << at;
                }
            }
            $below(view, &places, &keys, &mut found, lanes);
            // Where each leaf has the value of its run.
            $values(&nodes, &found, &mut places, view.mask(), lanes);
            for at in 0..lanes {
                // SAFETY: a line cut with the mask, behind it up to 32 words to where the values begin, and 16 more.
                found.0[at] = unsafe { view.half(places.0[at]) }.into();
            }
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
    ($fib:expr, $addrs:expr, $out:expr, $($how:path),+) => {{
        match (<&[u128; BATCH]>::try_from($addrs), <&mut [GroupId; BATCH]>::try_from(&mut *$out)) {
            (Ok(addrs), Ok(out)) => search!($fib, addrs, out, BATCH, $($how),+),
            _ => {
                let count = $addrs.len().min($out.len()).min(BATCH);
                let mut addrs = [0; BATCH];
                addrs[..count].copy_from_slice(&$addrs[..count]);
                let mut out = [GroupId(0); BATCH];
                search!($fib, &addrs, &mut out, count.next_multiple_of(GROUP).min(BATCH), $($how),+);
                $out[..count].copy_from_slice(&out[..count]);
            }
        }
    }};
}

/// The bits of each address that index the second part of the root, and those that its first tree looks at.
#[inline(always)]
fn split(addrs: &[u128; BATCH], seconds: &mut Lanes, keys: &mut Lanes, lanes: usize) {
    for at in 0..lanes {
        seconds.0[at] = first_bits(addrs[at]) % MIDDLE as u32;
        keys.0[at] = key(addrs[at], 0);
    }
}

/// Where a table has its entry for a key, in bytes. For a leaf, somewhere at the beginning of its line.
#[inline(always)]
fn entry(node: u32, key: u32, mask: u32) -> u32 {
    let behind = BEHIND[(node & CODE) as usize] % 32;
    (node & !CODE).wrapping_add(key >> behind << 2) & mask & !3
}

/// The same for all.
#[inline(always)]
fn entries(nodes: &Lanes, keys: &Lanes, places: &mut Lanes, mask: u32, lanes: usize) {
    for at in 0..lanes {
        places.0[at] = entry(nodes.0[at], keys.0[at], mask);
    }
}

/// Takes what was read for those that were at a table. Returns who is at one then, one bit each; for the others, what
/// was read becomes the line where the leaf is.
#[inline(always)]
fn take(nodes: &mut Lanes, read: &mut Lanes, mask: u32, lanes: usize) -> u64 {
    let mut tables = 0;
    for at in 0..lanes {
        nodes.0[at] = if nodes.0[at] & CODE < TABLE { nodes.0[at] } else { read.0[at] };
        read.0[at] = nodes.0[at] & mask & !CODE;
        tables |= u64::from(nodes.0[at] & CODE >= TABLE) << at;
    }
    tables
}

/// Which words of each leaf's line are below the key, one bit each.
#[inline(always)]
fn below(view: View<'_>, lines: &Lanes, keys: &Lanes, found: &mut Lanes, lanes: usize) {
    for at in 0..lanes {
        // SAFETY: `take` has cut it with the mask, and left no bits of the code.
        let line = unsafe { view.line(lines.0[at]) };
        let lasts = line.iter().enumerate();
        found.0[at] = lasts.map(|(n, last)| u32::from(last.load(Ordering::Relaxed) < keys.0[at]) << n).sum();
    }
}

/// Where the values of the leaves' runs are, in 16-bit words, given which words of their lines are below the keys.
#[inline(always)]
fn values(nodes: &Lanes, below: &Lanes, places: &mut Lanes, mask: u32, lanes: usize) {
    for at in 0..lanes {
        let node = nodes.0[at];
        let parts = PARTS[(node & CODE) as usize];
        let rank = (below.0[at] & parts & 0xFFFF).count_ones();
        places.0[at] = (node & mask & !CODE) / 2 + (parts >> 16) + rank;
    }
}

#[inline(always)]
fn portable(fib: &Fib6, addrs: &[u128], out: &mut [GroupId]) {
    full_or_not!(fib, addrs, out, split, entries, take, below, values);
}

#[cfg(not(all(target_arch = "x86_64", not(miri))))]
pub(super) fn batch(fib: &Fib6, addrs: &[u128], out: &mut [GroupId]) {
    portable(fib, addrs, out);
}

#[cfg(all(target_arch = "x86_64", not(miri)))]
pub(super) use x86::batch;

#[cfg(all(target_arch = "x86_64", not(miri)))]
mod x86;
