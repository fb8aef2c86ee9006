//! The stages that a burst passes, one file each, in the order in which a packet meets them.

pub mod classify;
pub mod depart;
pub mod leave;
pub mod lookup;
pub mod parse;
pub mod policy;
pub mod rewrite;
pub mod rx;
pub mod select;
pub mod transmit;
pub mod validate;
#[cfg(all(target_arch = "x86_64", not(miri)))]
pub mod wide;

use crate::burst::{BURST, Burst};
use crate::packet::Packet;
use crate::policy::Features;
use crate::tables::Tables;

/// A part of a burst's way, as benchmarks tell its cost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// The poll of the RX queue.
    Rx,
    /// L2 and IP headers: sub-interface and checks, and what policies say before the look-up.
    Parse,
    /// Destinations to next-hop groups.
    Lookup,
    /// The member of the group, policies, and the packet made ready to leave over it.
    Rewrite,
    /// TX queues, and counters.
    Transmit,
}

/// Takes a burst from its received frames to its verdicts: all that lies between `rx` and `transmit`. Packets
/// that are still alive afterwards are ready to be sent.
#[inline(always)]
pub fn decide<P: Packet>(burst: &mut Burst<P>, tables: &Tables) {
    decide_with::<P, false>(burst, tables, |_| {});
}

/// The same; `done` is told of each stage when it is. `WIDE`: the caller is compiled for, and runs on, a processor with
/// the features of `worker::Instructions::Avx512`.
#[inline(always)]
pub(crate) fn decide_with<P: Packet, const WIDE: bool>(
    burst: &mut Burst<P>,
    tables: &Tables,
    mut done: impl FnMut(Stage),
) {
    parse::run::<P, WIDE>(burst, tables);
    let features = tables.policies.any();
    if features.any_of(Features::INGRESS) {
        policy::ingress(burst, tables);
    }
    done(Stage::Parse);
    lookup::run(burst, tables);
    done(Stage::Lookup);
    if features.any_of(Features::EGRESS) {
        policy::forward(burst, tables);
    } else {
        forward::<P, WIDE>(burst, tables);
    }
    done(Stage::Rewrite);
}

/// Chooses each packet's adjacency, and makes it ready to leave over it.
#[inline(always)]
fn forward<P: Packet, const WIDE: bool>(burst: &mut Burst<P>, tables: &Tables) {
    if burst.odd != 0 {
        each::<P, false, true>(burst, tables);
        each::<P, true, true>(burst, tables);
    } else if !depart::run::<P, WIDE>(burst, tables) {
        each::<P, false, false>(burst, tables);
        each::<P, true, false>(burst, tables);
    }
}

/// One packet after another. `ODD`: there may be odd ones among them.
#[inline(always)]
fn each<P: Packet, const V6: bool, const ODD: bool>(burst: &mut Burst<P>, tables: &Tables) {
    let len = if V6 { burst.v6.len } else { burst.v4.len };
    for at in 0..len.min(BURST) {
        let (i, group, aged) = if V6 {
            (burst.v6.packet[at], burst.v6.group[at], 0)
        } else {
            (burst.v4.packet[at], burst.v4.group[at], burst.aged[at])
        };
        let i = usize::from(i) & (BURST - 1);
        if let Some(adjacency) = select::run::<P, V6>(burst, i, group, tables) {
            rewrite::run::<P, V6, ODD>(burst, i, aged, adjacency);
        }
    }
}
