//! `lookup`: destinations → next-hop groups, in the FIB of the VRF that each packet's sub-interface is in; all
//! packets of one VRF and family at once.

use crate::burst::{BURST, Burst, Lane, common};
use crate::fib::{Fib4, Fib6};
use crate::ids::{GroupId, VrfId};
use crate::packet::Packet;
use crate::tables::{Tables, VrfTables};

/// Looks up each packet's destination.
#[inline(always)]
pub fn run<P: Packet>(burst: &mut Burst<P>, tables: &Tables) {
    let Burst { len, v4, v6, vrf, .. } = burst;
    // Packets that are looked up in none have whatever VRF; then the long way is right too.
    if let Some(vrf) = common(&vrf[..(*len).min(BURST)]) {
        let vrf = tables.vrf(vrf);
        in_one(v4, vrf.map(|vrf| &*vrf.v4), Fib4::lookup_batch);
        in_one(v6, vrf.map(|vrf| &*vrf.v6), Fib6::lookup_batch);
    } else {
        in_several(v4, vrf, tables, |vrf| &vrf.v4, Fib4::lookup_batch);
        in_several(v6, vrf, tables, |vrf| &vrf.v6, Fib6::lookup_batch);
    }
}

/// Where all packets are in one VRF.
#[inline(always)]
fn in_one<A, F>(lane: &mut Lane<A>, fib: Option<&F>, look_up: impl Fn(&F, &[A], &mut [GroupId])) {
    let len = lane.len.min(BURST);
    match fib {
        Some(fib) if len > 0 => look_up(fib, &lane.destination[..len], &mut lane.group[..len]),
        _ => lane.group[..len].fill(GroupId::NO_ROUTE),
    }
}

/// Where they are in several: gathers those of one VRF after another.
#[inline(never)]
pub(super) fn in_several<A: Copy + Default, F>(
    lane: &mut Lane<A>,
    vrf_of: &[VrfId; BURST],
    tables: &Tables,
    fib: impl Fn(&VrfTables) -> &F,
    look_up: impl Fn(&F, &[A], &mut [GroupId]),
) {
    let len = lane.len.min(BURST);
    let mut vrfs = [VrfId(0); BURST];
    for (vrf, packet) in vrfs.iter_mut().zip(&lane.packet[..len]) {
        *vrf = vrf_of[usize::from(*packet) & (BURST - 1)];
    }
    let vrfs = &vrfs[..len];
    for (first, vrf) in vrfs.iter().enumerate() {
        if vrfs[..first].contains(vrf) {
            continue;
        }
        let (mut gathered, mut found) = ([A::default(); BURST], [GroupId::NO_ROUTE; BURST]);
        let members = || (first..len).filter(|at| vrfs[*at] == *vrf);
        for (to, from) in gathered.iter_mut().zip(members()) {
            *to = lane.destination[from];
        }
        let count = members().count();
        if let Some(vrf) = tables.vrf(*vrf) {
            look_up(fib(vrf), &gathered[..count], &mut found[..count]);
        }
        for (from, to) in found.iter().zip(members()) {
            lane.group[to] = *from;
        }
    }
}
