//! The stages that a burst passes, one file each, in the order in which a packet meets them.

pub mod classify;
pub mod lookup;
pub mod rewrite;
pub mod rx;
pub mod select;
pub mod transmit;
pub mod validate;

use crate::burst::Burst;
use crate::packet::Packet;
use crate::tables::Tables;

/// Takes a burst from its received frames to its verdicts: all that lies between `rx` and `transmit`. Packets
/// that are still alive afterwards are ready to be sent.
pub fn decide<P: Packet>(burst: &mut Burst<P>, tables: &Tables) {
    classify::run(burst, tables);
    validate::run(burst);
    lookup::run(burst, tables);
    select::run(burst, tables);
    rewrite::run(burst, tables);
}
