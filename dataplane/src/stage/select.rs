//! `select`: next-hop group → the member that this flow takes → adjacency. A flow always takes the same member.

use crate::adjacency::{Adjacency, Forward};
use crate::burst::Burst;
use crate::header::{be16, flow, ipv4, ipv6};
use crate::ids::{AdjId, GroupId};
use crate::packet::Packet;
use crate::tables::Tables;
use crate::verdict::PuntReason;

/// The adjacency of a group with only one member.
#[inline(always)]
pub fn only(group: GroupId, tables: &Tables) -> Option<(AdjId, &Forward)> {
    let group = tables.group(group);
    let id = tables.member(group, 0);
    match tables.adjacency(id) {
        Adjacency::Forward(adjacency) if group.mask == 0 => Some((id, adjacency)),
        _ => None,
    }
}

/// Chooses the adjacency of packet `i`; `None` ends a packet whose adjacency drops or punts.
#[inline(always)]
pub fn run<'a, P: Packet, const V6: bool>(
    burst: &mut Burst<P>,
    i: usize,
    group: GroupId,
    tables: &'a Tables,
) -> Option<&'a Forward> {
    let group = tables.group(group);
    let hash = if group.mask == 0 { 0 } else { hash::<P, V6>(burst, i) };
    let id = tables.member(group, hash);
    burst.adjacency[i] = id;
    match tables.adjacency(id) {
        Adjacency::Forward(adjacency) => Some(adjacency),
        other => {
            end::<P, V6>(burst, i, other);
            None
        }
    }
}

/// Hash of the flow that packet `i` belongs to.
#[inline(always)]
pub(super) fn hash<P: Packet, const V6: bool>(burst: &Burst<P>, i: usize) -> u32 {
    if V6 { flow::hash6(burst.l3(i)) } else { flow::hash4(burst.l3(i)) }
}

/// Ends packet `i` as its adjacency says.
#[cold]
#[inline(never)]
fn end<P: Packet, const V6: bool>(burst: &mut Burst<P>, i: usize, adjacency: &Adjacency) {
    match adjacency {
        Adjacency::Forward(_) => {}
        Adjacency::Drop(reason) => burst.drop_packet(i, *reason),
        Adjacency::Punt(PuntReason::Local) => {
            let reason = local_reason(burst.l3(i), V6);
            burst.punt(i, reason);
        }
        Adjacency::Punt(reason) => burst.punt(i, *reason),
    }
}

/// Which kind of packet to our own address it is, so that each kind has its own budget on the way up.
pub(super) fn local_reason(packet: &[u8], is_ipv6: bool) -> PuntReason {
    const TCP: u8 = 6;
    const UDP: u8 = 17;
    let (protocol, l4) = if is_ipv6 {
        (ipv6::next_header(packet), ipv6::HEADER_LEN)
    } else if ipv4::fragment_field(packet) & 0x1fff == 0 {
        (ipv4::protocol(packet), ipv4::header_len(packet))
    } else {
        return PuntReason::Local;
    };
    let (source, destination) = (be16(packet, l4), be16(packet, l4 + 2));
    match protocol {
        TCP if source == 179 || destination == 179 => PuntReason::Bgp,
        UDP if matches!(destination, 3784 | 3785 | 4784) => PuntReason::Bfd,
        ipv6::ICMPV6 if is_ipv6 && ipv6::is_neighbour_discovery(packet) => PuntReason::NeighbourDiscovery,
        _ => PuntReason::Local,
    }
}
