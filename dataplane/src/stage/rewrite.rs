//! `rewrite`: TTL and checksum, then the adjacency's L2 header in place of the received one, in three stores.

use crate::adjacency::{Forward, priority};
use crate::burst::Burst;
use crate::header::{ipv4, ipv6};
use crate::packet::{LEAD, Packet};
use crate::verdict::{DropReason, PuntReason, Verdict};

/// Makes packet `i` ready to leave. A packet that cannot leave is as it came, and ends. `aged`: see
/// [`Burst::aged`]; of no matter for IPv6. `ODD`: it may be an odd packet.
#[inline(always)]
pub fn run<P: Packet, const V6: bool, const ODD: bool>(
    burst: &mut Burst<P>,
    i: usize,
    aged: u32,
    adjacency: &Forward,
) {
    let l3_len = burst.l3_len[i];
    let odd = ODD && burst.odd >> i & 1 == 1;
    if l3_len > adjacency.mtu || odd {
        let verdict = may_leave::<P, V6>(burst, i, adjacency);
        if verdict != Verdict::Forward {
            return end(burst, i, verdict);
        }
    }
    let left = match adjacency.l2_len {
        22 => leave::<P, V6, 22>(burst, i, aged, odd, adjacency),
        18 => leave::<P, V6, 18>(burst, i, aged, odd, adjacency),
        _ => leave::<P, V6, 14>(burst, i, aged, odd, adjacency),
    };
    if !left {
        return end(burst, i, Verdict::Drop(DropReason::NoHeadroom));
    }
    burst.out_sub_if[i] = adjacency.sub_if;
    burst.out_len[i] = u16::from(adjacency.l2_len) + l3_len;
    burst.out_port[i] = adjacency.port;
}

/// Gives packet `i` its new L2 header of `L2` bytes, and takes one off its TTL. `false`: no room for it.
#[inline(always)]
fn leave<P: Packet, const V6: bool, const L2: usize>(
    burst: &mut Burst<P>,
    i: usize,
    aged: u32,
    odd: bool,
    adjacency: &Forward,
) -> bool {
    let (l3_offset, l3_len) = (usize::from(burst.l3_offset[i]), usize::from(burst.l3_len[i]));
    let pcp = burst.pcp[i];
    let Some(packet) = &mut burst.packets[i] else { return true };
    // Padding of a short frame must not go on: behind more tags it would no longer be padding.
    let Some(frame) = packet.reframe(l3_offset, l3_len, L2) else { return false };
    if let Some(start) = frame.first_chunk_mut() {
        write::<V6, L2>(start, adjacency, pcp, (!odd).then_some(aged));
    }
    true
}

/// Ends packet `i` if it cannot leave over `adjacency`.
pub fn stays<P: Packet, const V6: bool>(burst: &mut Burst<P>, i: usize, adjacency: &Forward) {
    if burst.l3_len[i] > adjacency.mtu || burst.odd >> i & 1 == 1 {
        let verdict = may_leave::<P, V6>(burst, i, adjacency);
        end(burst, i, verdict);
    }
}

/// What was not checked of a packet that is not as expected, or that is larger than the MTU.
#[cold]
#[inline(never)]
fn may_leave<P: Packet, const V6: bool>(burst: &Burst<P>, i: usize, adjacency: &Forward) -> Verdict {
    let ttl = burst.l3(i).get(if V6 { ipv6::HOP_LIMIT } else { ipv4::TTL });
    if ttl.is_none_or(|ttl| *ttl <= 1) {
        return Verdict::Punt(PuntReason::TtlExpired);
    }
    if burst.link_local >> i & 1 == 1 {
        return Verdict::Drop(beyond_link(burst.l3(i), V6));
    }
    if burst.l3_len[i] > adjacency.mtu && !burst.seen_to.size {
        let whole = V6 || ipv4::dont_fragment(burst.l3(i));
        return Verdict::Punt(if whole { PuntReason::ExceedsMtu } else { PuntReason::Fragment });
    }
    Verdict::Forward
}

/// Why a packet with a link-local address does not go beyond the link.
#[cold]
fn beyond_link(packet: &[u8], is_ipv6: bool) -> DropReason {
    if is_ipv6 || ipv4::is_link_local(ipv4::source(packet)) {
        DropReason::LinkLocalSource
    } else {
        DropReason::LinkLocalDestination
    }
}

#[cold]
#[inline(never)]
fn end<P: Packet>(burst: &mut Burst<P>, i: usize, verdict: Verdict) {
    match verdict {
        Verdict::Forward => {}
        Verdict::Drop(reason) => burst.drop_packet(i, reason),
        Verdict::Punt(reason) => burst.punt(i, reason),
        Verdict::Refuse(reason) => burst.refuse_packet(i, reason),
    }
}

/// Writes an L2 header of `L2` bytes up to its ethertype, which stays, at the start of a frame, and takes one off the
/// TTL behind.
#[inline(always)]
fn write<const V6: bool, const L2: usize>(
    start: &mut [u8; LEAD],
    adjacency: &Forward,
    pcp: u8,
    aged: Option<u32>,
) {
    start[..8].copy_from_slice(&adjacency.l2[..8]);
    if L2 == 22 {
        start[8..12].copy_from_slice(&adjacency.l2[8..12]);
    }
    // The last eight bytes before the ethertype, which overlap the first eight where there is no tag.
    let tail = L2 - 10;
    if let (Some(to), Some(from)) = (start[tail..].first_chunk_mut(), adjacency.l2[tail..].first_chunk()) {
        let bits = if L2 == 14 { 0 } else { priority(pcp) & adjacency.pcp_bits };
        *to = (u64::from_le_bytes(*from) | bits).to_le_bytes();
    }
    let header = &mut start[L2..];
    if V6 {
        header[ipv6::HOP_LIMIT] = header[ipv6::HOP_LIMIT].wrapping_sub(1);
    } else if let Some(aged) = aged {
        header[ipv4::TTL..ipv4::TTL + 4].copy_from_slice(&aged.to_le_bytes());
    } else {
        ipv4::decrement_ttl(header);
    }
}
