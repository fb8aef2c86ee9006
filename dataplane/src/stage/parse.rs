//! `parse`: one pass over a burst's headers. A packet that is as its sub-interface expects it, which nearly all are, is
//! known by a few comparisons; any other goes through `classify` and `validate`, which know what it is.

use crate::burst::{BURST, Burst};
use crate::expected::{HEAD, OnPort};
use crate::header::{ipv4, ipv6};
use crate::packet::Packet;
use crate::stage::{classify, validate};
use crate::tables::Tables;
use crate::verdict::Verdict;

/// Finds each packet's sub-interface, checks its headers, and lines it up for the look-up.
#[inline(always)]
pub fn run<P: Packet>(burst: &mut Burst<P>, tables: &Tables) {
    let Some(on_port) = tables.sub_interfaces.expected().on(burst.port) else {
        (0..burst.len.min(BURST)).for_each(|i| odd(burst, i, tables));
        return;
    };
    for i in 0..burst.len.min(BURST) {
        if !expected(burst, i, &on_port) {
            odd(burst, i, tables);
        }
    }
}

/// Takes packet `i` if it is as expected.
#[inline(always)]
fn expected<P: Packet>(burst: &mut Burst<P>, i: usize, on_port: &OnPort<'_>) -> bool {
    let Some(packet) = &burst.packets[i] else { return false };
    let frame = packet.bytes();
    let Some(head) = frame.first_chunk::<HEAD>() else { return false };
    if !packet.is_plain() {
        return false;
    }
    let Some(arrival) = on_port.find(head) else { return false };
    let Some(l3) = frame.get(usize::from(arrival.l3_offset)..) else { return false };
    let l3_len = if arrival.ipv6 {
        let Some(packet) = ipv6::expected(l3) else { return false };
        burst.v6.push(i, packet.destination);
        packet.len
    } else {
        let Some(packet) = ipv4::expected(l3) else { return false };
        burst.v4.push(i, packet.destination);
        packet.len
    };
    burst.vrfs.add(arrival.vrf.0);
    burst.classified |= 1 << i;
    burst.frame_len[i] = frame.len() as u16;
    burst.l3_offset[i] = arrival.l3_offset;
    burst.l3_len[i] = l3_len;
    burst.sub_if[i] = arrival.sub_if;
    burst.pcp[i] = arrival.pcp;
    true
}

/// Takes packet `i` the long way.
#[cold]
#[inline(never)]
fn odd<P: Packet>(burst: &mut Burst<P>, i: usize, tables: &Tables) {
    burst.odd |= 1 << i;
    burst.frame_len[i] = burst.packets[i].as_ref().map_or(0, |packet| packet.bytes().len() as u16);
    let mut verdict = classify::run(burst, i, tables);
    if verdict == Verdict::Forward {
        verdict = validate::run(burst, i);
    }
    match verdict {
        Verdict::Forward => {
            let sub_if = tables.sub_interfaces.get(burst.sub_if[i]);
            burst.vrfs.add(sub_if.map_or(0, |sub_if| sub_if.vrf.0));
        }
        Verdict::Drop(reason) => burst.drop_packet(i, reason),
        Verdict::Punt(reason) => burst.punt(i, reason),
    }
}
