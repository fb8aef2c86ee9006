//! `policy`: what sub-interfaces do besides forwarding. One part between validation and look-up checks what came in, one
//! between selection and rewrite checks and changes what goes out. Neither runs where no sub-interface has anything for
//! it, and each part of it looks only at the packets of those that do.
//!
//! Checks end a packet by [`Burst::drop_packet`], or by [`refuse`] where its sender may be told. Changes are made to
//! packets only that are about to leave, so that what goes to the control thread is as it was received.

mod access;
mod marking;
mod mss;
mod source;

use crate::adjacency::Adjacency;
use crate::burst::{BURST, Bits, Burst, common};
use crate::header::ipv6;
use crate::ids::SubIfId;
use crate::packet::Packet;
use crate::policy::{Direction, Features, OfPackets};
use crate::stage::{rewrite, select};
use crate::tables::Tables;
use crate::verdict::DropReason;

/// Checks what came in.
#[inline(never)]
pub fn ingress<P: Packet>(burst: &mut Burst<P>, tables: &Tables) {
    if burst.seen_to.ingress {
        return;
    }
    let of = tables.policies.of(&burst.sub_if, burst.alive);
    let before = burst.alive;
    // No route leads to an IPv6 link-local source; such a packet is for us, or ends as one of those.
    let from_link = burst.link_local & burst.ipv6;
    source::reverse_path(burst, tables, of.having(Features::REVERSE_PATH) & !from_link);
    let judged = of.having(Features::ACCESS_IN) & burst.alive;
    access::run(burst, tables, Direction::In, judged & !discovery(burst, judged));
    if burst.alive != before {
        burst.close_ranks();
    }
}

/// Checks what would leave by `exit`, all packets of the burst: for the control thread, where no adjacency says so yet.
pub fn leaving_by<P: Packet>(burst: &mut Burst<P>, tables: &Tables, exit: SubIfId) {
    burst.out_sub_if.fill(exit);
    let of = tables.policies.of(&burst.out_sub_if, burst.alive);
    egress(burst, tables, &of);
}

/// Checks what is to leave, by the sub-interface that each packet leaves by.
fn egress<P: Packet>(burst: &mut Burst<P>, tables: &Tables, of: &OfPackets) {
    source::public(burst, tables, of.having(Features::PUBLIC_SOURCES));
    access::run(burst, tables, Direction::Out, of.having(Features::ACCESS_OUT) & burst.alive);
}

/// Those of `packets` that are neighbour discovery, to whatever address, as bits. Their hop limit is 255 (RFC 4861,
/// section 7.1): what came over a router has less, so what a forged one is sent on as is not neighbour discovery.
fn discovery<P: Packet>(burst: &Burst<P>, packets: u64) -> u64 {
    let is_discovery =
        |packet: &[u8]| packet.get(ipv6::HOP_LIMIT) == Some(&255) && ipv6::is_neighbour_discovery(packet);
    let found = burst.v6.of(packets).filter(|(_, i)| is_discovery(burst.l3(*i)));
    found.fold(0, |bits, (_, i)| bits | 1 << i)
}

/// `select` and `rewrite` with checks and changes of what goes out in between.
#[inline(never)]
pub fn forward<P: Packet>(burst: &mut Burst<P>, tables: &Tables) {
    if nothing_to_do(burst, tables) {
        return super::forward::<P, false>(burst, tables);
    }
    select_each::<P, false>(burst, tables);
    select_each::<P, true>(burst, tables);
    let of = tables.policies.of(&burst.out_sub_if, burst.alive);
    if !burst.seen_to.egress {
        egress(burst, tables, &of);
    }
    let marked = of.having(Features::MARKING) & burst.alive;
    let clamped = if tables.policies.any().any_of(Features::MSS) {
        let came = tables.policies.of(&burst.sub_if, burst.alive);
        (of.having(Features::MSS) | came.having(Features::MSS)) & burst.alive
    } else {
        0
    };
    if marked | clamped != 0 {
        stay_behind(burst, tables, marked | clamped);
        marking::run(burst, tables, marked & burst.alive);
        mss::run(burst, tables, clamped & burst.alive);
    }
    rewrite_each::<P, false>(burst, tables);
    rewrite_each::<P, true>(burst, tables);
}

/// Ends packet `i`, which is forbidden to go on, for `reason`; its sender is told where that is configured.
pub fn refuse<P: Packet>(burst: &mut Burst<P>, tables: &Tables, i: usize, reason: DropReason) {
    if tables.policies.tell {
        burst.refuse_packet(i, reason);
    } else {
        burst.drop_packet(i, reason);
    }
}

/// Whether all packets are IPv4 and leave over one adjacency, by a sub-interface that wants nothing of them.
fn nothing_to_do<P: Packet>(burst: &Burst<P>, tables: &Tables) -> bool {
    let groups = &burst.v4.group[..burst.v4.len.min(BURST)];
    // What limits segment sizes may be the sub-interface that they came in on.
    if groups.len() < burst.len || tables.policies.any().any_of(Features::MSS) {
        return false;
    }
    let only = common(groups).and_then(|group| select::only(group, tables));
    only.is_some_and(|(_, adjacency)| !tables.policies.features(adjacency.sub_if).any_of(Features::EGRESS))
}

/// Finds each packet's adjacency, and the sub-interface that it leaves by.
fn select_each<P: Packet, const V6: bool>(burst: &mut Burst<P>, tables: &Tables) {
    let len = if V6 { burst.v6.len } else { burst.v4.len };
    for at in 0..len.min(BURST) {
        let (i, group) =
            if V6 { (burst.v6.at(at), burst.v6.group[at]) } else { (burst.v4.at(at), burst.v4.group[at]) };
        if let Some(adjacency) = select::run::<P, V6>(burst, i, group, tables) {
            burst.out_sub_if[i] = adjacency.sub_if;
        }
    }
}

/// Ends those of `packets` that cannot leave, while they are as they came.
fn stay_behind<P: Packet>(burst: &mut Burst<P>, tables: &Tables, packets: u64) {
    let v6 = burst.v6.bits();
    for i in Bits(packets) {
        let Adjacency::Forward(adjacency) = tables.adjacency(burst.adjacency[i]) else { continue };
        if v6 >> i & 1 == 1 {
            rewrite::stays::<P, true>(burst, i, adjacency);
        } else {
            rewrite::stays::<P, false>(burst, i, adjacency);
        }
    }
}

/// Makes each packet ready to leave.
fn rewrite_each<P: Packet, const V6: bool>(burst: &mut Burst<P>, tables: &Tables) {
    let len = if V6 { burst.v6.len } else { burst.v4.len };
    for at in 0..len.min(BURST) {
        let (i, aged) = if V6 { (burst.v6.at(at), 0) } else { (burst.v4.at(at), burst.aged[at]) };
        if burst.alive >> i & 1 == 1
            && let Adjacency::Forward(adjacency) = tables.adjacency(burst.adjacency[i])
        {
            rewrite::run::<P, V6, true>(burst, i, aged, adjacency);
        }
    }
}
