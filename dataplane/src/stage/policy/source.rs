//! Checks of source addresses: whether a route leads back (RFC 3704), and whether a private one would get out.

use crate::burst::{BURST, Bits, Burst, Lane};
use crate::fib::{Fib4, Fib6};
use crate::header::{ipv4, ipv6};
use crate::ids::{GroupId, SubIfId};
use crate::packet::Packet;
use crate::policy::ReversePath;
use crate::stage::lookup;
use crate::stage::policy::refuse;
use crate::tables::Tables;
use crate::verdict::DropReason;

/// Drops those of `packets` whose source no route leads back to as their sub-interface wants it.
pub fn reverse_path<P: Packet>(burst: &mut Burst<P>, tables: &Tables, packets: u64) {
    if packets == 0 {
        return;
    }
    let mut v4 = sources(burst, &burst.v4, packets, ipv4::source);
    lookup::in_several(&mut v4, &burst.vrf, tables, |vrf| &*vrf.v4, Fib4::lookup_batch);
    check(burst, tables, &v4);
    let mut v6 = sources(burst, &burst.v6, packets, ipv6::source);
    lookup::in_several(&mut v6, &burst.vrf, tables, |vrf| &*vrf.v6, Fib6::lookup_batch);
    check(burst, tables, &v6);
}

/// The sources of those of `packets` that are in `lane`, to be looked up.
fn sources<P: Packet, A: Copy + Default>(
    burst: &Burst<P>,
    lane: &Lane<A>,
    packets: u64,
    source: impl Fn(&[u8]) -> A,
) -> Lane<A> {
    let mut sources = Lane::new();
    for (_, i) in lane.of(packets) {
        sources.push(i, source(burst.l3(i)));
    }
    sources
}

fn check<P: Packet, A: Copy + Default>(burst: &mut Burst<P>, tables: &Tables, sources: &Lane<A>) {
    for (at, i) in sources.of(u64::MAX) {
        if !leads_back(burst.sub_if[i], sources.group[at & (BURST - 1)], tables) {
            burst.drop_packet(i, DropReason::ReversePath);
        }
    }
}

/// Whether a source whose best route is `group` may come in on `sub_if`.
fn leads_back(sub_if: SubIfId, group: GroupId, tables: &Tables) -> bool {
    match tables.policies.get(sub_if).map_or(ReversePath::Off, |policy| policy.reverse_path) {
        ReversePath::Off => true,
        ReversePath::Loose => !matches!(group, GroupId::NO_ROUTE | GroupId::DISCARD | GroupId::LOCAL),
        ReversePath::Strict => tables.reverse_paths.of(group).contains(&sub_if),
    }
}

/// Refuses those of `packets` that have a private or shared source.
pub fn public<P: Packet>(burst: &mut Burst<P>, tables: &Tables, packets: u64) {
    let v6 = burst.v6.bits();
    for i in Bits(packets) {
        let private = if v6 >> i & 1 == 1 {
            ipv6::is_unique_local(ipv6::source(burst.l3(i)))
        } else {
            ipv4::is_private_or_shared(ipv4::source(burst.l3(i)))
        };
        if private {
            refuse(burst, tables, i, DropReason::PrivateSource);
        }
    }
}
