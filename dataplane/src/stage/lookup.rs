//! `lookup`: destinations → next-hop groups, in the FIB of the VRF that each packet's sub-interface is in; all
//! packets of one VRF and family at once.

use crate::burst::{BURST, Bits, Burst};
use crate::ids::{GroupId, VrfId};
use crate::packet::Packet;
use crate::tables::Tables;

/// Looks up each packet's destination.
pub fn run<P: Packet>(burst: &mut Burst<P>, tables: &Tables) {
    let vrf_of = |burst: &Burst<P>, i: usize| {
        tables.sub_interfaces.get(burst.sub_if[i]).map_or(VrfId(0), |sub_if| sub_if.vrf)
    };
    let mut left = burst.alive;
    while left != 0 {
        let vrf = vrf_of(burst, left.trailing_zeros() as usize);
        let same = Bits(left).fold(0, |set, i| set | u64::from(vrf_of(burst, i) == vrf) << i);
        left &= !same;
        let Some(vrf) = tables.vrf(vrf) else {
            Bits(same).for_each(|i| burst.group[i] = GroupId::NO_ROUTE);
            continue;
        };
        let (v4, v6) = (same & !burst.ipv6, same & burst.ipv6);
        batch(v4, &burst.dst4, &mut burst.group, |addresses, out| vrf.v4.lookup_batch(addresses, out));
        batch(v6, &burst.dst6, &mut burst.group, |addresses, out| vrf.v6.lookup_batch(addresses, out));
    }
}

/// Looks up the addresses at the set bits, and puts what is found at the same places.
fn batch<A: Copy + Default>(
    set: u64,
    addresses: &[A; BURST],
    groups: &mut [GroupId; BURST],
    look_up: impl Fn(&[A], &mut [GroupId]),
) {
    if set == 0 {
        return;
    }
    let len = set.count_ones() as usize;
    if set.trailing_ones() as usize == len {
        // From the front without a gap: no need to gather.
        return look_up(&addresses[..len], &mut groups[..len]);
    }
    let (mut gathered, mut found) = ([A::default(); BURST], [GroupId::NO_ROUTE; BURST]);
    for (to, from) in Bits(set).enumerate() {
        gathered[to] = addresses[from];
    }
    look_up(&gathered[..len], &mut found[..len]);
    for (from, to) in Bits(set).enumerate() {
        groups[to] = found[from];
    }
}
