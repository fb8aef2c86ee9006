//! `depart`: `select` and `rewrite` for a burst of packets that are all as expected, without a branch on where any of
//! them leaves.

use crate::adjacency::MAX_L2_LEN;
use crate::burst::{BURST, Burst, Lane, common};
use crate::exits::{Exit, Exits, Line};
use crate::header::{ipv4, ipv6};
use crate::packet::{IP_LEAD, Packet};
use crate::stage::{rewrite, select};
use crate::tables::Tables;

/// The exit of each packet.
#[repr(align(64))]
struct Chosen([Exit; BURST]);

/// Chooses each packet's adjacency, and makes it ready to leave over it. `false`: a packet may be over an MTU, and
/// nothing was done.
#[inline(always)]
pub fn run<P: Packet>(burst: &mut Burst<P>, tables: &Tables) -> bool {
    let exits = tables.exits();
    let len = burst.len.min(BURST);
    if greatest(&burst.l3_len[..len]) > exits.least_mtu {
        return false;
    }
    match only_exit(burst, exits) {
        Some(exit) => {
            note_only(burst, exit);
            let l2_len = exit.l2_len();
            with_length::<P, ONE_EXIT>(burst, &Chosen([exit; BURST]), tables, [l2_len, l2_len]);
        }
        None => to_several(burst, tables),
    }
    true
}

/// Where packets leave by different exits.
#[inline(always)]
fn to_several<P: Packet>(burst: &mut Burst<P>, tables: &Tables) {
    let (len, exits) = (burst.len.min(BURST), tables.exits());
    let mut chosen = Chosen([Exit::NONE; BURST]);
    choose(&burst.v4, len, exits, &mut chosen);
    choose(&burst.v6, len, exits, &mut chosen);
    let mut l2_lens = l2_lens(&chosen);
    if least(&l2_lens[..len]) == 0 {
        by_hash::<P, _, false>(burst, |burst| &burst.v4, tables, &mut chosen);
        by_hash::<P, _, true>(burst, |burst| &burst.v6, tables, &mut chosen);
        l2_lens = self::l2_lens(&chosen);
    }
    note(burst, &chosen, &l2_lens);
    let range = [least(&l2_lens[..len]), greatest(&l2_lens[..len])];
    if burst.v4.len.max(burst.v6.len) == len {
        with_length::<P, ONE_FAMILY>(burst, &chosen, tables, range);
    } else {
        with_length::<P, MIXED>(burst, &chosen, tables, range);
    }
    if range[0] == 0 {
        the_others::<P, false>(burst, &chosen, tables);
        the_others::<P, true>(burst, &chosen, tables);
    }
}

/// A loop is a few vector instructions; a fold with a closure is a call for each.
#[inline(always)]
fn greatest<T: Copy + Ord + Default>(all: &[T]) -> T {
    let mut greatest = T::default();
    for one in all {
        greatest = greatest.max(*one);
    }
    greatest
}

#[inline(always)]
fn least(all: &[u8]) -> u8 {
    let mut least = u8::MAX;
    for one in all {
        least = least.min(*one);
    }
    least
}

/// By exit; 0 where it is not known.
#[inline(always)]
fn l2_lens(chosen: &Chosen) -> [u8; BURST] {
    let mut lens = [0; BURST];
    for (len, exit) in lens.iter_mut().zip(&chosen.0) {
        *len = exit.l2_len();
    }
    lens
}

/// The exit of all, if it is one and known.
#[inline(always)]
fn only_exit<P>(burst: &Burst<P>, exits: &Exits) -> Option<Exit> {
    let len = burst.len.min(BURST);
    let of_one_family = if burst.v4.len == len {
        &burst.v4.group
    } else if burst.v6.len == len {
        &burst.v6.group
    } else {
        return None;
    };
    Some(exits.of_group(common(&of_one_family[..len])?)).filter(|exit| exit.is_known())
}

/// By group, for groups of one member. `len`: packets in the burst.
#[inline(always)]
fn choose<A>(lane: &Lane<A>, len: usize, exits: &Exits, chosen: &mut Chosen) {
    let groups = &lane.group[..lane.len.min(BURST)];
    if groups.len() < len {
        for (i, group) in lane.packet.iter().zip(groups) {
            chosen.0[usize::from(*i) & (BURST - 1)] = exits.of_group(*group);
        }
    } else {
        for (exit, group) in chosen.0.iter_mut().zip(groups) {
            *exit = exits.of_group(*group);
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
        count += usize::from(!chosen.0[usize::from(lane.packet[at]) & (BURST - 1)].is_known());
    }
    for at in places[..count.min(BURST)].iter().map(|at| usize::from(*at) & (BURST - 1)) {
        let i = usize::from(lane.packet[at]) & (BURST - 1);
        let group = tables.group(lane.group[at]);
        let member = tables.member(group, select::hash::<P, V6>(burst, i));
        chosen.0[i] = tables.exits().of_adjacency(member);
    }
}

/// Notes what the chosen exits say.
#[inline(always)]
fn note<P>(burst: &mut Burst<P>, chosen: &Chosen, l2_lens: &[u8; BURST]) {
    for (i, exit) in chosen.0.iter().enumerate() {
        burst.adjacency[i] = exit.adjacency();
    }
    for (i, exit) in chosen.0.iter().enumerate() {
        burst.out_sub_if[i] = exit.sub_if();
    }
    for (i, exit) in chosen.0.iter().enumerate() {
        burst.out_port[i] = exit.port();
    }
    for (i, l2_len) in l2_lens.iter().enumerate() {
        burst.out_len[i] = u16::from(*l2_len).wrapping_add(burst.l3_len[i]);
    }
}

/// The same where it is one.
#[inline(always)]
fn note_only<P>(burst: &mut Burst<P>, exit: Exit) {
    burst.adjacency = [exit.adjacency(); BURST];
    burst.out_sub_if = [exit.sub_if(); BURST];
    burst.out_port = [exit.port(); BURST];
    for (out_len, l3_len) in burst.out_len.iter_mut().zip(&burst.l3_len) {
        *out_len = l3_len.wrapping_add(exit.l2_len().into());
    }
}

/// What lies before a frame that grows is in no near cache.
#[inline(always)]
fn prefetch<P: Packet>(burst: &Burst<P>, chosen: &Chosen) {
    for (i, packet) in burst.packets[..burst.len.min(BURST)].iter().enumerate() {
        if let Some(packet) = packet {
            packet.prefetch_front(usize::from(chosen.0[i].l2_len().wrapping_sub(burst.l3_offset[i])));
        }
    }
}

/// In the place of a length of L2 headers: they differ.
const ANY: usize = 0;

/// What a burst's packets have in common: nothing;
const MIXED: u8 = 0;
/// their family, so that each has the number of its place in the lane;
const ONE_FAMILY: u8 = 1;
/// that, and the exit.
const ONE_EXIT: u8 = 2;

/// Gives each packet whose exit is known its new L2 header, and takes one off its TTL. `range`: the least and the
/// greatest length of the headers, in bytes.
#[inline(always)]
fn with_length<P: Packet, const COMMON: u8>(
    burst: &mut Burst<P>,
    chosen: &Chosen,
    tables: &Tables,
    range: [u8; 2],
) {
    if !burst.fetched && least(&burst.l3_offset[..burst.len.min(BURST)]) < range[1] {
        prefetch(burst, chosen);
    }
    match range {
        [14, 14] => leave::<P, 14, COMMON>(burst, chosen, tables),
        [18, 18] => leave::<P, 18, COMMON>(burst, chosen, tables),
        [22, 22] => leave::<P, 22, COMMON>(burst, chosen, tables),
        _ => leave::<P, ANY, MIXED>(burst, chosen, tables),
    }
}

/// The same for a length.
#[inline(always)]
fn leave<P: Packet, const L2: usize, const COMMON: u8>(
    burst: &mut Burst<P>,
    chosen: &Chosen,
    tables: &Tables,
) {
    family::<P, false, L2, COMMON>(burst, chosen, tables);
    family::<P, true, L2, COMMON>(burst, chosen, tables);
}

#[inline(always)]
fn family<P: Packet, const V6: bool, const L2: usize, const COMMON: u8>(
    burst: &mut Burst<P>,
    chosen: &Chosen,
    tables: &Tables,
) {
    let lines = &tables.exits().lines[..];
    // A copy, so that nothing that is written to packets could change it.
    let Some(first) = (match COMMON {
        ONE_EXIT => lines.get(chosen.0[0].adjacency().0 as usize).copied(),
        _ => Some(Line::default()),
    }) else {
        return;
    };
    let len = if V6 { burst.v6.len } else { burst.v4.len };
    for at in 0..len.min(BURST) {
        let i = match COMMON {
            MIXED => usize::from(if V6 { burst.v6.packet[at] } else { burst.v4.packet[at] }) & (BURST - 1),
            _ => at,
        };
        let exit = chosen.0[i];
        let line = if COMMON == ONE_EXIT {
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
        line.write::<L2>(around, l2_len, burst.pcp[i]);
        let header = &mut around[MAX_L2_LEN..];
        if V6 {
            header[ipv6::HOP_LIMIT] = header[ipv6::HOP_LIMIT].wrapping_sub(1);
        } else {
            header[ipv4::TTL..ipv4::TTL + 4].copy_from_slice(&burst.aged[at].to_le_bytes());
        }
    }
}

impl Line {
    /// Writes the L2 header, but for the ethertype, before the IP header. Nothing is written before the frame's start,
    /// which may be in a cache line of its own. `L2`: its length, or [`ANY`].
    #[inline(always)]
    fn write<const L2: usize>(&self, around: &mut [u8; IP_LEAD], l2_len: usize, pcp: u8) {
        const TAIL: usize = MAX_L2_LEN - 10;
        match L2 {
            14 => around[8..TAIL].copy_from_slice(&self.l2[8..TAIL]),
            18 => around[4..TAIL].copy_from_slice(&self.l2[4..TAIL]),
            22 => around[..16].copy_from_slice(&self.l2[..16]),
            _ => {
                let start = (MAX_L2_LEN - l2_len).min(8);
                around[start..start + 8].copy_from_slice(&self.l2[start..start + 8]);
                around[8..16].copy_from_slice(&self.l2[8..16]);
            }
        }
        if let (Some(to), Some(from)) = (around[TAIL..].first_chunk_mut(), self.l2[TAIL..].first_chunk()) {
            // Without a tag no bit is set in `pcp_bits`.
            let priority =
                if L2 == 14 { 0 } else { (u64::from(pcp) * 0x0020_0000_0020_0000) & self.pcp_bits };
            *to = (u64::from_le_bytes(*from) | priority).to_le_bytes();
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
        if !chosen.0[i].is_known() {
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
