//! The passes of a look-up, for any processor.

use std::sync::atomic::Ordering;

use super::super::node6::{CODE, MIDDLE, PARTS, TABLE, TOP_BITS, first_bits, key};
use super::super::v6::BATCH;
use super::super::view6::View;
use super::{Lanes, entry};

/// The bits of each address that index the second part of the root, and those that its first tree looks at.
#[inline(always)]
pub(super) fn split(addrs: &[u128; BATCH], seconds: &mut Lanes, keys: &mut Lanes, lanes: usize) {
    for at in 0..lanes {
        seconds.0[at] = first_bits(addrs[at]) % MIDDLE as u32;
        keys.0[at] = key(addrs[at], 0);
    }
}

/// The handle of each address's tree.
#[inline(always)]
pub(super) unsafe fn root(
    view: View<'_>,
    addrs: &[u128; BATCH],
    seconds: &Lanes,
    nodes: &mut Lanes,
    lanes: usize,
) {
    for at in 0..lanes {
        // SAFETY: as the caller vouches for.
        nodes.0[at] = unsafe { view.root((addrs[at] >> (128 - TOP_BITS)) as u16, seconds.0[at]) };
    }
}

/// Where a table has the entry for each key, in bytes. For a leaf, somewhere at the beginning of its line.
#[inline(always)]
pub(super) fn entries(view: View<'_>, nodes: &Lanes, keys: &Lanes, places: &mut Lanes, lanes: usize) {
    for at in 0..lanes {
        places.0[at] = entry(nodes.0[at], keys.0[at], view.mask());
    }
}

/// Reads the 32-bit words at these places.
#[inline(always)]
pub(super) unsafe fn words(view: View<'_>, places: &mut Lanes, lanes: usize) {
    for at in 0..lanes {
        // SAFETY: as the caller vouches for.
        places.0[at] = unsafe { view.word(places.0[at]) };
    }
}

/// Takes what was read for those that were at a table. Returns who is at one then, one bit each; for the others, what
/// was read becomes the line where the leaf is.
#[inline(always)]
pub(super) fn take(view: View<'_>, nodes: &mut Lanes, read: &mut Lanes, lanes: usize) -> u64 {
    let mut tables = 0;
    for at in 0..lanes {
        nodes.0[at] = if nodes.0[at] & CODE < TABLE { nodes.0[at] } else { read.0[at] };
        read.0[at] = nodes.0[at] & view.mask() & !CODE;
        tables |= u64::from(nodes.0[at] & CODE >= TABLE) << at;
    }
    tables
}

/// Which words of each leaf's line are below the key, one bit each.
#[inline(always)]
pub(super) unsafe fn below(view: View<'_>, lines: &Lanes, keys: &Lanes, found: &mut Lanes, lanes: usize) {
    for at in 0..lanes {
        // SAFETY: as the caller vouches for.
        let line = unsafe { view.line(lines.0[at]) };
        let lasts = line.iter().enumerate();
        found.0[at] = lasts.map(|(n, last)| u32::from(last.load(Ordering::Relaxed) < keys.0[at]) << n).sum();
    }
}

/// Where the values of the leaves' runs are, in 16-bit words, given which words of their lines are below the keys.
#[inline(always)]
pub(super) fn values(view: View<'_>, nodes: &Lanes, below: &Lanes, places: &mut Lanes, lanes: usize) {
    for at in 0..lanes {
        let node = nodes.0[at];
        let parts = PARTS[(node & CODE) as usize];
        let rank = (below.0[at] & parts & 0xFFFF).count_ones();
        places.0[at] = (node & view.mask() & !CODE) / 2 + (parts >> 16) + rank;
    }
}

/// Reads the 16-bit words at these places.
#[inline(always)]
pub(super) unsafe fn halves(view: View<'_>, places: &Lanes, found: &mut Lanes, lanes: usize) {
    for at in 0..lanes {
        // SAFETY: as the caller vouches for.
        found.0[at] = unsafe { view.half(places.0[at]) }.into();
    }
}
