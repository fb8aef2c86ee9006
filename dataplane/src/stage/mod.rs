//! The stages that a burst passes, one file each, in the order in which a packet meets them.

pub mod classify;
pub mod lookup;
pub mod parse;
pub mod rewrite;
pub mod rx;
pub mod select;
pub mod transmit;
pub mod validate;

use crate::burst::{BURST, Burst};
use crate::packet::Packet;
use crate::tables::Tables;

/// Takes a burst from its received frames to its verdicts: all that lies between `rx` and `transmit`. Packets
/// that are still alive afterwards are ready to be sent.
#[inline(always)]
pub fn decide<P: Packet>(burst: &mut Burst<P>, tables: &Tables) {
    decide_with::<P, false>(burst, tables);
}

/// The same. `WIDE`: the caller is compiled for, and runs on, a processor with AVX-512 F, BW, DQ and VL.
#[inline(always)]
pub(crate) fn decide_with<P: Packet, const WIDE: bool>(burst: &mut Burst<P>, tables: &Tables) {
    parse::run::<P, WIDE>(burst, tables);
    lookup::run(burst, tables);
    forward(burst, tables);
}

/// Chooses each packet's adjacency, and makes it ready to leave over it.
#[inline(always)]
fn forward<P: Packet>(burst: &mut Burst<P>, tables: &Tables) {
    for at in 0..burst.v4.len.min(BURST) {
        let (i, group) = (usize::from(burst.v4.packet[at]) & (BURST - 1), burst.v4.group[at]);
        let aged = burst.aged[at];
        if let Some(adjacency) = select::run::<P, false>(burst, i, group, tables) {
            rewrite::run::<P, false>(burst, i, aged, adjacency);
        }
    }
    for at in 0..burst.v6.len.min(BURST) {
        let (i, group) = (usize::from(burst.v6.packet[at]) & (BURST - 1), burst.v6.group[at]);
        if let Some(adjacency) = select::run::<P, true>(burst, i, group, tables) {
            rewrite::run::<P, true>(burst, i, 0, adjacency);
        }
    }
}
