//! The IPv6 look-up of a burst, in short passes, each of which does one thing for all addresses: the root, the tables,
//! the forks level by level for those that are at one, then the leaf of each. The processor sees far enough ahead for
//! the whole burst to wait for memory together, and but for the forks no branch depends on an address. What needs no
//! table is done in passes of its own, for 8 or 16 addresses at once.
//!
//! What differs by processor is how a key is ranked in a node: by halving, or against all words of a line at once.
#![allow(unsafe_code)] // Reads that are not checked, see `view6`.
#![allow(clippy::needless_range_loop)] // Each pass goes over several arrays at once.

use std::sync::atomic::{AtomicU32, Ordering};

use super::node6::{
    BLOCKS, CODE, FORK, FORK_LINKS, LINE, Node, PARTS, SHIFT, TABLE, TOP_BITS, escape, first_bits, is_escape,
    key,
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

/// The look-up with a given way to find who is at a fork, to rank a key in a fork and in a leaf, and to find out where
/// leaves have their values. `$addrs` and `$out` are arrays; of the addresses, the first `$lanes` are looked up.
macro_rules! search {
    ($fib:expr, $addrs:expr, $out:expr, $lanes:expr, $split:path, $forks:path, $child:path, $below:path, $values:path) => {{
        let (fib, addrs, out): (&Fib6, &[u128; BATCH], &mut [GroupId; BATCH]) = ($fib, $addrs, $out);
        let lanes: usize = $lanes;
        let view = View::of(&fib.pages);
        let (mut firsts, mut keys, mut nodes) = (Lanes::ZERO, Lanes::ZERO, Lanes::ZERO);
        let (mut places, mut found) = (Lanes::ZERO, Lanes::ZERO);
        let line_mask = view.mask() & !CODE;
        loop {
            let seen = fib.default.seen();
            $split(addrs, &mut firsts, &mut keys, lanes);
            for at in 0..lanes {
                nodes.0[at] = view.root((addrs[at] >> (128 - TOP_BITS)) as u16, firsts.0[at]);
            }
            // Where a table has what comes next. For what is no table, somewhere at the beginning of its line.
            for at in 0..lanes {
                let behind = (SHIFT - (nodes.0[at] & CODE)).min(31);
                places.0[at] = (nodes.0[at] & !CODE).wrapping_add(keys.0[at] >> behind << 2) & view.mask() & !3;
            }
            for at in 0..lanes {
                // SAFETY: cut with the mask, and a multiple of 4.
                places.0[at] = unsafe { view.word(places.0[at]) };
            }
            for at in 0..lanes {
                let is_table = nodes.0[at] & CODE >= TABLE;
                nodes.0[at] = if is_table { places.0[at] } else { nodes.0[at] };
            }
            // Who is at a fork, one bit each.
            let mut forks: u64 = $forks(&nodes, lanes);
            while forks != 0 {
                let mut left = forks;
                forks = 0;
                while left != 0 {
                    let at = left.trailing_zeros() as usize % BATCH;
                    left &= left - 1;
                    // SAFETY: cut with the mask, and no bits of the code left.
                    let line = unsafe { view.line(nodes.0[at] & line_mask) };
                    let child = $child(line, keys.0[at]) as usize % FORK_LINKS;
                    let next = line[FORK_LINKS + child].load(Ordering::Acquire);
                    nodes.0[at] = next;
                    forks |= u64::from(next & CODE == FORK) << at;
                }
            }
            for at in 0..lanes {
                // SAFETY: cut with the mask, and no bits of the code left.
                found.0[at] = $below(unsafe { view.line(nodes.0[at] & line_mask) }, keys.0[at]);
            }
            // Where each leaf has the value of its run.
            $values(&nodes, &found, &mut places, line_mask, lanes);
            for at in 0..lanes {
                // SAFETY: a line cut with the mask, behind it up to 31 words to where the values begin, and 16 more.
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

/// The bits of each address that index the root, and those that its first tree looks at.
#[inline(always)]
fn split(addrs: &[u128; BATCH], firsts: &mut Lanes, keys: &mut Lanes, lanes: usize) {
    for at in 0..lanes {
        firsts.0[at] = first_bits(addrs[at]);
        keys.0[at] = key(addrs[at], 0);
    }
}

/// Which nodes are forks, one bit each.
fn forks(nodes: &Lanes, lanes: usize) -> u64 {
    let nodes = nodes.0.iter().enumerate().take(lanes);
    nodes.map(|(at, node)| u64::from(node & CODE == FORK) << at).sum()
}

/// The child of a fork that `key` belongs to: by halving, without a branch.
#[inline(always)]
fn child(line: &[AtomicU32; LINE], key: u32) -> u32 {
    let mut below = 0;
    for step in [4, 2, 1] {
        below += u32::from(line[(below + step - 1) as usize & 15].load(Ordering::Relaxed) < key) * step;
    }
    below
}

/// Which words of a line are below `key`, one bit each.
#[inline(always)]
fn below(line: &[AtomicU32; LINE], key: u32) -> u32 {
    let bits = line.iter().enumerate();
    bits.map(|(at, last)| u32::from(last.load(Ordering::Relaxed) < key) << at).sum()
}

/// Where the values of the leaves' runs are, in 16-bit words, given which words of their lines are below the keys.
#[inline(always)]
fn values(nodes: &Lanes, below: &Lanes, places: &mut Lanes, line_mask: u32, lanes: usize) {
    for at in 0..lanes {
        let node = nodes.0[at];
        let parts = PARTS[(node & CODE) as usize];
        let rank = (below.0[at] & parts & 0xFFFF).count_ones();
        places.0[at] = (node & line_mask) / 2 + (parts >> 16) + rank;
    }
}

#[inline(always)]
fn portable(fib: &Fib6, addrs: &[u128], out: &mut [GroupId]) {
    full_or_not!(fib, addrs, out, split, forks, child, below, values);
}

#[cfg(not(all(target_arch = "x86_64", not(miri))))]
pub(super) fn batch(fib: &Fib6, addrs: &[u128], out: &mut [GroupId]) {
    portable(fib, addrs, out);
}

#[cfg(all(target_arch = "x86_64", not(miri)))]
pub(super) use x86::batch;

#[cfg(all(target_arch = "x86_64", not(miri)))]
mod x86;
