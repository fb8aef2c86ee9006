//! What was decided of a burst's packets, as records tell it.

use super::record::{Out, Record};
use crate::burst::{BURST, Burst};
use crate::ids::{AdjId, GroupId, SubIfId};
use crate::verdict::Verdict;

/// What stands for «none chosen» while a burst is watched; no table is that long.
pub(super) const NO_ADJACENCY: AdjId = AdjId(u32::MAX);

/// What is known of a burst's packets once it has passed the stages.
pub(super) struct Decided {
    /// Those that were to leave, as bits.
    pub(super) leaving: u64,
    /// What the FIB said of each that was looked up.
    groups: [Option<GroupId>; BURST],
}

impl Decided {
    /// Of a burst that has passed the stages, and is not sent yet.
    pub(super) fn of<P>(burst: &Burst<P>) -> Self {
        Self { leaving: burst.alive, groups: groups(burst) }
    }

    /// Writes down what was decided of packet `i`.
    pub(super) fn tell<P>(&self, burst: &Burst<P>, i: usize, record: &mut Record) {
        record.sub_if = sub_if(burst, i);
        record.vrf = record.sub_if.map(|_| burst.vrf[i]);
        record.group = self.groups[i];
        record.adjacency = Some(burst.adjacency[i]).filter(|id| *id != NO_ADJACENCY);
        record.out = self.out(burst, i);
    }

    pub(super) fn out<P>(&self, burst: &Burst<P>, i: usize) -> Option<Out> {
        let leaving = self.leaving >> i & 1 == 1;
        leaving.then(|| Out { port: burst.out_port[i], sub_if: burst.out_sub_if[i], len: burst.out_len[i] })
    }
}

/// What the FIB said of each packet that was looked up.
fn groups<P>(burst: &Burst<P>) -> [Option<GroupId>; BURST] {
    let mut groups = [None; BURST];
    let v4 = burst.v4.packet.iter().zip(&burst.v4.group).take(burst.v4.len);
    let v6 = burst.v6.packet.iter().zip(&burst.v6.group).take(burst.v6.len);
    for (i, group) in v4.chain(v6) {
        groups[usize::from(*i) & (BURST - 1)] = Some(*group);
    }
    groups
}

/// The sub-interface that packet `i` came in on, if that is known.
pub(super) fn sub_if<P>(burst: &Burst<P>, i: usize) -> Option<SubIfId> {
    (burst.classified >> i & 1 == 1).then(|| burst.sub_if[i])
}

/// How packet `i` ends, as far as is known.
pub(super) fn verdict<P>(burst: &Burst<P>, i: usize) -> Verdict {
    if burst.alive >> i & 1 == 1 { Verdict::Forward } else { burst.verdict[i] }
}
