//! `rewrite`: TTL and checksum, then the adjacency's L2 header in place of the received one, in three stores.

use crate::adjacency::Forward;
use crate::burst::Burst;
use crate::expected::HEAD;
use crate::header::{ipv4, ipv6};
use crate::packet::Packet;
use crate::verdict::{DropReason, PuntReason, Verdict};

/// Makes packet `i` ready to leave. A packet that cannot leave is as it came, and ends. `aged`: see
/// [`Burst::aged`]; of no matter for IPv6 and for odd packets.
#[inline(always)]
pub fn run<P: Packet, const V6: bool>(burst: &mut Burst<P>, i: usize, aged: u32, adjacency: &Forward) {
    let l3_len = burst.l3_len[i];
    let odd = burst.odd >> i & 1 == 1;
    if l3_len > adjacency.mtu || odd {
        let verdict = may_leave::<P, V6>(burst, i, adjacency);
        if verdict != Verdict::Forward {
            return end(burst, i, verdict);
        }
    }
    let (l3_offset, l2_len) = (usize::from(burst.l3_offset[i]), usize::from(adjacency.l2_len));
    let out_len = l2_len as u16 + l3_len;
    let pcp = burst.pcp[i];
    let Some(packet) = &mut burst.packets[i] else { return };
    // Padding of a short frame must not go on: behind more tags it would no longer be padding.
    let fits = l2_len == l3_offset && out_len == burst.frame_len[i];
    if !fits && !packet.reframe(l3_offset, usize::from(l3_len), l2_len) {
        return end(burst, i, Verdict::Drop(DropReason::NoHeadroom));
    }
    if let Some(head) = packet.bytes_mut().first_chunk_mut() {
        write::<V6>(head, l2_len, adjacency, pcp, (!odd).then_some(aged));
    }
    burst.out_sub_if[i] = adjacency.sub_if;
    burst.out_len[i] = out_len;
    burst.out_ports.add(adjacency.port.0);
    burst.out_sub_ifs.add(adjacency.sub_if.0);
}

/// What was not checked of a packet that is not as expected, or that is larger than the MTU.
#[cold]
#[inline(never)]
fn may_leave<P: Packet, const V6: bool>(burst: &Burst<P>, i: usize, adjacency: &Forward) -> Verdict {
    let ttl = burst.l3(i).get(if V6 { ipv6::HOP_LIMIT } else { ipv4::TTL });
    if ttl.is_none_or(|ttl| *ttl <= 1) {
        return Verdict::Punt(PuntReason::TtlExpired);
    }
    if burst.link_local_source >> i & 1 == 1 {
        return Verdict::Drop(DropReason::LinkLocalSource);
    }
    if burst.l3_len[i] > adjacency.mtu {
        return Verdict::Punt(PuntReason::ExceedsMtu);
    }
    Verdict::Forward
}

#[cold]
#[inline(never)]
fn end<P: Packet>(burst: &mut Burst<P>, i: usize, verdict: Verdict) {
    match verdict {
        Verdict::Forward => {}
        Verdict::Drop(reason) => burst.drop_packet(i, reason),
        Verdict::Punt(reason) => burst.punt(i, reason),
    }
}

/// Writes the L2 header up to its ethertype, which stays, at the front of a frame, and takes one off the TTL behind.
#[inline(always)]
fn write<const V6: bool>(
    head: &mut [u8; HEAD],
    l2_len: usize,
    adjacency: &Forward,
    pcp: u8,
    aged: Option<u32>,
) {
    // The last eight bytes before the ethertype, which may overlap the first eight.
    let tail = l2_len.wrapping_sub(10);
    let (Some(to), Some(from)) =
        (chunk(head, tail), adjacency.l2.get(tail..).and_then(<[u8]>::first_chunk::<8>))
    else {
        return;
    };
    let priority = u64::from(pcp) * 0x0020_0000_0020_0000 & adjacency.pcp_bits;
    *to = (u64::from_le_bytes(*from) | priority).to_le_bytes();
    head[..8].copy_from_slice(&adjacency.l2[..8]);
    if tail > 8 {
        head[8..12].copy_from_slice(&adjacency.l2[8..12]);
    }
    if V6 {
        if let Some(hops) = head.get_mut(l2_len + ipv6::HOP_LIMIT) {
            *hops = hops.wrapping_sub(1);
        }
    } else if let Some(aged) = aged {
        if let Some(field) = head.get_mut(l2_len + ipv4::TTL..).and_then(<[u8]>::first_chunk_mut) {
            *field = aged.to_le_bytes();
        }
    } else if let Some(header) = head.get_mut(l2_len..) {
        ipv4::decrement_ttl(header);
    }
}

/// Eight bytes of a header.
#[inline(always)]
fn chunk(head: &mut [u8; HEAD], at: usize) -> Option<&mut [u8; 8]> {
    head.get_mut(at..).and_then(<[u8]>::first_chunk_mut)
}
