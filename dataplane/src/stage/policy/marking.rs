//! DSCP (RFC 2474), and the priority that follows from it, of what leaves. ECN (RFC 3168) stays as it is.

use crate::burst::{BURST, Bits, Burst};
use crate::header::{ipv4, ipv6};
use crate::packet::Packet;
use crate::tables::Tables;

/// Marks those of `packets` as the sub-interface that each leaves by wants it.
pub fn run<P: Packet>(burst: &mut Burst<P>, tables: &Tables, packets: u64) {
    for at in 0..burst.v4.len.min(BURST) {
        let i = burst.v4.at(at);
        if packets >> i & 1 == 1
            && let Some(aged) = mark::<P, false>(burst, tables, i)
        {
            burst.aged[at] = aged;
        }
    }
    for i in Bits(burst.v6.bits() & packets) {
        mark::<P, true>(burst, tables, i);
    }
}

/// Marks packet `i`. `Some`: its IPv4 header was changed, and this is what is to leave in place of [`Burst::aged`].
fn mark<P: Packet, const V6: bool>(burst: &mut Burst<P>, tables: &Tables, i: usize) -> Option<u32> {
    let policy = tables.policies.get(burst.out_sub_if[i])?;
    let l3_offset = usize::from(burst.l3_offset[i]);
    let header = burst.packets[i].as_mut()?.bytes_mut().get_mut(l3_offset..)?;
    let old = if V6 { ipv6::traffic_class(header) } else { ipv4::tos(header) };
    let dscp = policy.dscp.limit(old >> 2);
    if let Some(pcp) = &policy.pcp_from_dscp {
        burst.pcp[i] = pcp[usize::from(dscp & 63)];
    }
    let new = dscp << 2 | old & 3;
    if new == old {
        return None;
    }
    if V6 {
        ipv6::set_traffic_class(header, new);
        return None;
    }
    ipv4::set_tos(header, new);
    Some(ipv4::aged_of(header))
}
