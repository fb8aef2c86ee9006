//! `depart`: `select` and `rewrite` for a burst of packets that are all as expected, without a branch on where any of
//! them leaves.

use crate::adjacency::MAX_L2_LEN;
use crate::burst::{BURST, Burst, Lane, common};
use crate::exits::{Exit, Exits, Line};
use crate::header::{ipv4, ipv6};
use crate::ids::GroupId;
use crate::packet::Packet;
use crate::stage::{rewrite, select};
use crate::tables::Tables;

/// The exit of each packet.
type Chosen = [Exit; BURST];

/// Chooses each packet's adjacency, and makes it ready to leave over it. `false`: a packet may be over an MTU, and
/// nothing was done.
#[allow(clippy::needless_bitwise_bool)] // A lazy operator is a branch.
#[inline(always)]
pub fn run<P: Packet>(burst: &mut Burst<P>, tables: &Tables) -> bool {
    let exits = tables.exits();
    let len = burst.len.min(BURST);
    let longest = burst.l3_len[..len].iter().fold(0, |longest: u16, len| longest.max(*len));
    if longest > exits.least_mtu {
        return false;
    }
    let mut chosen = [Exit::NONE; BURST];
    choose(&burst.v4, len, exits, &mut chosen);
    choose(&burst.v6, len, exits, &mut chosen);
    let all = |chosen: &Chosen| chosen[..len].iter().fold(true, |all, exit| all & exit.is_known());
    let mut complete = all(&chosen);
    if !complete {
        by_hash::<P, _, false>(burst, |burst| &burst.v4, tables, &mut chosen);
        by_hash::<P, _, true>(burst, |burst| &burst.v6, tables, &mut chosen);
        complete = all(&chosen);
    }
    note(burst, &chosen);
    let (shortest, longest) =
        chosen[..len].iter().fold((u8::MAX, 0), |(shortest, longest): (u8, u8), exit| {
            (shortest.min(exit.l2_len()), longest.max(exit.l2_len()))
        });
    if burst.l3_offset[..len].iter().fold(false, |any, offset| any | (*offset < longest)) {
        prefetch(burst, &chosen);
    }
    match shortest {
        14 if longest == 14 => leave::<P, 14>(burst, &chosen, tables),
        18 if longest == 18 => leave::<P, 18>(burst, &chosen, tables),
        22 if longest == 22 => leave::<P, 22>(burst, &chosen, tables),
        _ => leave_of::<P, ANY, false>(burst, &chosen, tables),
    }
    if !complete {
        the_others::<P, false>(burst, &chosen, tables);
        the_others::<P, true>(burst, &chosen, tables);
    }
    true
}

/// By group, for groups of one member. `len`: packets in the burst.
#[inline(always)]
fn choose<A>(lane: &Lane<A>, len: usize, exits: &Exits, chosen: &mut Chosen) {
    let of = |group: &GroupId| exits.by_group.get(group.0 as usize).copied().unwrap_or(Exit::NONE);
    let groups = &lane.group[..lane.len.min(BURST)];
    if groups.len() < len {
        for (i, group) in lane.packet.iter().zip(groups) {
            chosen[usize::from(*i) & (BURST - 1)] = of(group);
        }
    } else if let Some(group) = common(groups) {
        chosen[..len].fill(of(&group));
    } else {
        for (exit, group) in chosen.iter_mut().zip(groups) {
            *exit = of(group);
        }
    }
}

/// By group and flow, for the packets whose exit is not known. They are gathered first: that a packet is among them
/// cannot be foreseen.
#[inline(never)]
fn by_hash<P: Packet, A, const V6: bool>(
    burst: &Burst<P>,
    lane: impl Fn(&Burst<P>) -> &Lane<A>,
    tables: &Tables,
    chosen: &mut Chosen,
) {
    let lane = lane(burst);
    let (mut places, mut count) = ([0; BURST], 0);
    for at in 0..lane.len.min(BURST) {
        places[count & (BURST - 1)] = at as u8;
        count += usize::from(!chosen[usize::from(lane.packet[at]) & (BURST - 1)].is_known());
    }
    for at in places[..count.min(BURST)].iter().map(|at| usize::from(*at) & (BURST - 1)) {
        let i = usize::from(lane.packet[at]) & (BURST - 1);
        let group = tables.group(lane.group[at]);
        let member = tables.member(group, select::hash::<P, V6>(burst, i));
        chosen[i] = tables.exits().of_adjacency(member);
    }
}

/// Notes what the chosen exits say.
#[inline(always)]
fn note<P>(burst: &mut Burst<P>, chosen: &Chosen) {
    for (i, exit) in chosen.iter().enumerate() {
        burst.adjacency[i] = exit.adjacency();
    }
    for (i, exit) in chosen.iter().enumerate() {
        burst.out_sub_if[i] = exit.sub_if();
    }
    for (i, exit) in chosen.iter().enumerate() {
        burst.out_port[i] = exit.port();
    }
    for (i, exit) in chosen.iter().enumerate() {
        burst.out_len[i] = u16::from(exit.l2_len()).wrapping_add(burst.l3_len[i]);
    }
}

/// What lies before a frame that grows is in no near cache.
#[inline(always)]
fn prefetch<P: Packet>(burst: &Burst<P>, chosen: &Chosen) {
    for (i, packet) in burst.packets[..burst.len.min(BURST)].iter().enumerate() {
        if let Some(packet) = packet {
            packet.prefetch_front(usize::from(chosen[i].l2_len().wrapping_sub(burst.l3_offset[i])));
        }
    }
}

/// In the place of a length of L2 headers: they differ.
const ANY: usize = 0;

/// Gives each packet whose exit is known its new L2 header of so many bytes, and takes one off its TTL.
#[inline(always)]
fn leave<P: Packet, const L2: usize>(burst: &mut Burst<P>, chosen: &Chosen, tables: &Tables) {
    match common(&chosen[..burst.len.min(BURST)]) {
        Some(_) => leave_of::<P, L2, true>(burst, chosen, tables),
        None => leave_of::<P, L2, false>(burst, chosen, tables),
    }
}

/// The same. `ALIKE`: all exits are the same.
#[inline(always)]
fn leave_of<P: Packet, const L2: usize, const ALIKE: bool>(
    burst: &mut Burst<P>,
    chosen: &Chosen,
    tables: &Tables,
) {
    family::<P, false, L2, ALIKE>(burst, chosen, tables);
    family::<P, true, L2, ALIKE>(burst, chosen, tables);
}

#[inline(always)]
fn family<P: Packet, const V6: bool, const L2: usize, const ALIKE: bool>(
    burst: &mut Burst<P>,
    chosen: &Chosen,
    tables: &Tables,
) {
    let lines = &tables.exits().lines[..];
    // A copy, so that nothing that is written to packets could change it.
    let Some(first) =
        (if ALIKE { lines.get(chosen[0].adjacency().0 as usize).copied() } else { Some(Line::default()) })
    else {
        return;
    };
    let len = if V6 { burst.v6.len } else { burst.v4.len };
    for at in 0..len.min(BURST) {
        let i = usize::from(if V6 { burst.v6.packet[at] } else { burst.v4.packet[at] }) & (BURST - 1);
        let exit = chosen[i];
        let line = if ALIKE {
            &first
        } else {
            let Some(line) = lines.get(exit.adjacency().0 as usize) else { continue };
            line
        };
        let (l3_offset, l3_len) = (usize::from(burst.l3_offset[i]), usize::from(burst.l3_len[i]));
        let l2_len = if L2 == ANY { usize::from(exit.l2_len()).min(MAX_L2_LEN) } else { L2 };
        let Some(packet) = &mut burst.packets[i] else { continue };
        // Padding of a short frame must not go on: behind more tags it would no longer be padding.
        let Some(around) = packet.reframe_around(l3_offset, l3_len, l2_len, L2 != ANY) else {
            short_of_room::<P, V6>(burst, i, at, tables);
            continue;
        };
        // Nothing is written before the frame's start, which may be in a cache line of its own. The ethertype stays.
        let tail = MAX_L2_LEN - 10;
        if L2 == 22 {
            around[..16].copy_from_slice(&line.l2[..16]);
        } else {
            let start = (MAX_L2_LEN - l2_len).min(8);
            around[start..start + 8].copy_from_slice(&line.l2[start..start + 8]);
            if L2 == ANY {
                around[8..16].copy_from_slice(&line.l2[8..16]);
            }
        }
        if let (Some(to), Some(from)) = (around[tail..].first_chunk_mut(), line.l2[tail..].first_chunk()) {
            let priority = (u64::from(burst.pcp[i]) * 0x0020_0000_0020_0000) & line.pcp_bits;
            *to = (u64::from_le_bytes(*from) | priority).to_le_bytes();
        }
        let header = &mut around[MAX_L2_LEN..];
        if V6 {
            header[ipv6::HOP_LIMIT] = header[ipv6::HOP_LIMIT].wrapping_sub(1);
        } else {
            header[ipv4::TTL..ipv4::TTL + 4].copy_from_slice(&burst.aged[at].to_le_bytes());
        }
    }
}

/// A packet with too little room for the longest header may have enough for its own.
#[cold]
#[inline(never)]
fn short_of_room<P: Packet, const V6: bool>(burst: &mut Burst<P>, i: usize, at: usize, tables: &Tables) {
    one::<P, V6>(burst, i, at, tables);
}

/// The packets whose exit is not known.
#[cold]
#[inline(never)]
fn the_others<P: Packet, const V6: bool>(burst: &mut Burst<P>, chosen: &Chosen, tables: &Tables) {
    let len = if V6 { burst.v6.len } else { burst.v4.len };
    for at in 0..len.min(BURST) {
        let i = usize::from(if V6 { burst.v6.packet[at] } else { burst.v4.packet[at] }) & (BURST - 1);
        if !chosen[i].is_known() {
            one::<P, V6>(burst, i, at, tables);
        }
    }
}

/// One packet the long way.
fn one<P: Packet, const V6: bool>(burst: &mut Burst<P>, i: usize, at: usize, tables: &Tables) {
    let (group, aged) = if V6 { (burst.v6.group[at], 0) } else { (burst.v4.group[at], burst.aged[at]) };
    if let Some(adjacency) = select::run::<P, V6>(burst, i, group, tables) {
        rewrite::run::<P, V6, false>(burst, i, aged, adjacency);
    }
}
