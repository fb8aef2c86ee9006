//! `select`: next-hop group → the member that this flow takes → adjacency. A flow always takes the same member.

use crate::adjacency::Adjacency;
use crate::burst::{Bits, Burst};
use crate::header::{be16, flow, ipv4, ipv6};
use crate::packet::Packet;
use crate::tables::Tables;
use crate::verdict::PuntReason;

/// Chooses the adjacency of each packet, and ends those whose adjacency drops or punts.
pub fn run<P: Packet>(burst: &mut Burst<P>, tables: &Tables) {
    for i in Bits(burst.alive) {
        let group = tables.group(burst.group[i]);
        let hash = match group.mask {
            0 => 0,
            _ if burst.is_ipv6(i) => flow::hash6(burst.l3(i)),
            _ => flow::hash4(burst.l3(i)),
        };
        let adjacency = tables.member(group, hash);
        burst.adjacency[i] = adjacency;
        match tables.adjacency(adjacency) {
            Adjacency::Forward(_) => {}
            Adjacency::Drop(reason) => burst.drop_packet(i, *reason),
            Adjacency::Punt(PuntReason::Local) => {
                let reason = local_reason(burst.l3(i), burst.is_ipv6(i));
                burst.punt(i, reason);
            }
            Adjacency::Punt(reason) => burst.punt(i, *reason),
        }
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
