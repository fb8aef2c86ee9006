//! `depart`: `select` and `rewrite` for a burst of packets that are all as expected, without a branch on where any of
//! them leaves.

use crate::burst::{BURST, Burst, Lane, common, of_whole};
use crate::exits::{Exit, Exits};
use crate::packet::Packet;
use crate::stage::{leave, rewrite, select};
use crate::tables::Tables;

/// The exit of each packet.
#[repr(align(64))]
struct Chosen([Exit; BURST]);

/// Chooses each packet's adjacency, and makes it ready to leave over it. `false`: a packet may be over an MTU, and
/// nothing was done. `WIDE`: the caller is compiled for, and runs on, a processor with the features of
/// `worker::Instructions::Avx512`.
#[inline(always)]
pub(crate) fn run<P: Packet, const WIDE: bool>(burst: &mut Burst<P>, tables: &Tables) -> bool {
    #[cfg(all(target_arch = "x86_64", not(miri)))]
    if WIDE {
        // SAFETY: the caller says that the processor has the features.
        #[allow(unsafe_code)]
        unsafe {
            return wide(burst, tables);
        }
    }
    any::<P, false>(burst, tables)
}

/// Out of line, so that the loops have all registers for themselves.
#[cfg(all(target_arch = "x86_64", not(miri)))]
#[inline(never)]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx2,bmi1,bmi2,lzcnt,movbe,popcnt")]
fn wide<P: Packet>(burst: &mut Burst<P>, tables: &Tables) -> bool {
    any::<P, true>(burst, tables)
}

#[inline(always)]
fn any<P: Packet, const WIDE: bool>(burst: &mut Burst<P>, tables: &Tables) -> bool {
    let exits = tables.exits();
    if greatest(&burst.l3_len[..burst.len.min(BURST)]) > exits.least_mtu {
        return false;
    }
    let only = only_exit(burst, exits);
    let chosen = match only {
        Some(exit) => {
            note_only(burst, exit);
            Chosen([exit; BURST])
        }
        None => to_several(burst, tables),
    };
    let left = leave::run::<P, WIDE>(burst, &chosen.0, only, exits);
    if left != burst.all() {
        the_others::<P, false>(burst, left, tables);
        the_others::<P, true>(burst, left, tables);
    }
    true
}

/// Where packets leave by different exits.
#[inline(always)]
fn to_several<P: Packet>(burst: &mut Burst<P>, tables: &Tables) -> Chosen {
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
    chosen
}

#[inline(always)]
fn greatest(all: &[u16]) -> u16 {
    of_whole(all, |all| all.iter().fold(0, |greatest: u16, one| greatest.max(*one)))
}

#[inline(always)]
fn least(all: &[u8]) -> u8 {
    of_whole(all, |all| all.iter().fold(u8::MAX, |least, one| least.min(*one)))
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

/// The packets whose exit is not known, or that have too little room. `left`: those that are ready to leave, as bits.
#[cold]
#[inline(never)]
fn the_others<P: Packet, const V6: bool>(burst: &mut Burst<P>, left: u64, tables: &Tables) {
    let len = if V6 { burst.v6.len } else { burst.v4.len };
    for at in 0..len.min(BURST) {
        let i = usize::from(if V6 { burst.v6.packet[at] } else { burst.v4.packet[at] }) & (BURST - 1);
        if left >> i & 1 == 0 {
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
