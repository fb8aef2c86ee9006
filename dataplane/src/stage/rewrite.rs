//! `rewrite`: TTL and checksum, then the adjacency's L2 header in place of the received one, in one go.

use crate::adjacency::{Adjacency, Forward};
use crate::burst::{Bits, Burst};
use crate::header::{ethernet, ipv4, ipv6};
use crate::packet::Packet;
use crate::tables::Tables;
use crate::verdict::{DropReason, PuntReason, Verdict};

/// Makes each packet ready to leave. A packet that cannot leave is as it came.
pub fn run<P: Packet>(burst: &mut Burst<P>, tables: &Tables) {
    for i in Bits(burst.alive) {
        let Adjacency::Forward(adjacency) = tables.adjacency(burst.adjacency[i]) else { continue };
        match rewrite(burst, i, adjacency) {
            Verdict::Forward => {}
            Verdict::Drop(reason) => burst.drop_packet(i, reason),
            Verdict::Punt(reason) => burst.punt(i, reason),
        }
    }
}

fn rewrite<P: Packet>(burst: &mut Burst<P>, i: usize, adjacency: &Forward) -> Verdict {
    let is_ipv6 = burst.is_ipv6(i);
    let (l3_offset, l3_len) = (usize::from(burst.l3_offset[i]), burst.l3_len[i]);
    let link_local = burst.link_local >> i & 1 == 1;
    let ttl_at = l3_offset + if is_ipv6 { ipv6::HOP_LIMIT } else { ipv4::TTL };
    let Some(packet) = &mut burst.packets[i] else { return Verdict::Forward };
    if packet.bytes().get(ttl_at).is_none_or(|ttl| *ttl <= 1) {
        return Verdict::Punt(PuntReason::TtlExpired);
    }
    if link_local {
        return Verdict::Drop(beyond_link(&packet.bytes()[l3_offset..], is_ipv6));
    }
    if l3_len > adjacency.mtu {
        let whole = is_ipv6 || ipv4::dont_fragment(&packet.bytes()[l3_offset..]);
        return Verdict::Punt(if whole { PuntReason::ExceedsMtu } else { PuntReason::Fragment });
    }
    let l2_len = usize::from(adjacency.l2_len);
    // Padding of a short frame must not go on: behind more tags it would no longer be padding.
    packet.truncate(l3_offset + usize::from(l3_len));
    let room = if l2_len > l3_offset {
        packet.prepend(l2_len - l3_offset)
    } else {
        packet.trim_front(l3_offset - l2_len)
    };
    if !room {
        return Verdict::Drop(DropReason::NoHeadroom);
    }
    let bytes = packet.bytes_mut();
    if is_ipv6 {
        bytes[l2_len + ipv6::HOP_LIMIT] -= 1;
    } else {
        ipv4::decrement_ttl(&mut bytes[l2_len..]);
    }
    write_l2(bytes, adjacency, burst.pcp[i], is_ipv6);
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

/// Writes the L2 header at the front of `frame`.
fn write_l2(frame: &mut [u8], adjacency: &Forward, pcp: u8, is_ipv6: bool) {
    let mut l2 = adjacency.l2;
    if adjacency.carry_pcp {
        l2[14] |= pcp << 5;
        if adjacency.l2_len == 22 {
            l2[18] |= pcp << 5;
        }
    }
    let ethertype = if is_ipv6 { ethernet::IPV6 } else { ethernet::IPV4 }.to_be_bytes();
    // Constant lengths, so that each is a few stores and not a call.
    match adjacency.l2_len {
        22 => {
            l2[20..22].copy_from_slice(&ethertype);
            frame[..22].copy_from_slice(&l2);
        }
        18 => {
            l2[16..18].copy_from_slice(&ethertype);
            frame[..18].copy_from_slice(&l2[..18]);
        }
        _ => {
            l2[12..14].copy_from_slice(&ethertype);
            frame[..14].copy_from_slice(&l2[..14]);
        }
    }
}
