//! `parse`: one pass over a burst's L2 headers and one over its IP headers. A packet that is as its sub-interface
//! expects it, which nearly all are, is known by a few comparisons; any other goes through `classify` and `validate`,
//! which know what it is.

use crate::burst::{Agreement, BURST, Bits, Burst, Lane};
use crate::expected::{Arrival, HEAD, OnPort};
use crate::header::batch4::{self, Found, Headers};
use crate::header::{ipv4, ipv6};
use crate::ids::SubIfId;
use crate::packet::Packet;
use crate::stage::{classify, validate};
use crate::tables::Tables;
use crate::verdict::Verdict;

/// Finds each packet's sub-interface, checks its headers, and lines it up for the look-up. `WIDE`: see
/// [`batch4::expected`].
#[inline(always)]
pub fn run<P: Packet, const WIDE: bool>(burst: &mut Burst<P>, tables: &Tables) {
    let odd = match tables.sub_interfaces.expected().on(burst.port) {
        Some(on_port) => expected::<P, WIDE>(burst, on_port),
        None => burst.all(),
    };
    burst.odd = odd;
    burst.classified = burst.all() & !odd;
    for i in Bits(odd) {
        long_way(burst, i, tables);
    }
}

/// Takes the packets that are as expected. Returns the others, as bits.
#[inline(always)]
fn expected<P: Packet, const WIDE: bool>(burst: &mut Burst<P>, on_port: OnPort<'_>) -> u64 {
    let (mut headers, mut room): (Headers<'_>, _) = ([&[0; ipv4::MIN_HEADER_LEN]; BURST], [0; BURST]);
    let len = burst.len.min(BURST);
    let mut pass = Pass {
        packets: &burst.packets,
        on_port,
        headers: &mut headers,
        room: &mut room,
        odd: 0,
        v4: &mut burst.v4,
        v6: &mut burst.v6,
        vrfs: burst.vrfs,
        sub_ifs: burst.sub_ifs,
        frame_len: &mut burst.frame_len,
        l3_offset: &mut burst.l3_offset,
        l3_len: &mut burst.l3_len,
        sub_if: &mut burst.sub_if,
        pcp: &mut burst.pcp,
    };
    // As a rule a port's packets are alike: what the first one is, is the best guess for the others.
    let alike = match pass.look(0) {
        Some(Arrival { l3_offset: 14, ipv6: false, .. }) => pass.alike::<0, false>(len),
        Some(Arrival { l3_offset: 18, ipv6: false, .. }) => pass.alike::<1, false>(len),
        Some(Arrival { l3_offset: 22, ipv6: false, .. }) => pass.alike::<2, false>(len),
        Some(Arrival { l3_offset: 14, .. }) => pass.alike::<0, true>(len),
        Some(Arrival { l3_offset: 18, .. }) => pass.alike::<1, true>(len),
        Some(Arrival { l3_offset: 22, .. }) => pass.alike::<2, true>(len),
        _ => 0,
    };
    for i in alike..len {
        pass.any(i);
    }
    let (vrfs, sub_ifs, mut odd) = (pass.vrfs, pass.sub_ifs, pass.odd);
    (burst.vrfs, burst.sub_ifs) = (vrfs, sub_ifs);

    let count = burst.v4.len.min(BURST);
    if count == 0 {
        return odd;
    }
    let all = if count == BURST { u64::MAX } else { (1 << count) - 1 };
    let mut lens = [0; BURST];
    // Without gaps, packets have the numbers of their places in the lane.
    let in_place = count == len;
    let found_len = if in_place { &mut burst.l3_len } else { &mut lens };
    let mut found = Found { destination: &mut burst.v4.destination, len: found_len, aged: &mut burst.aged };
    let right = batch4::expected::<WIDE>(&headers, &room, count, &mut found);
    if !in_place {
        for (packet, len) in burst.v4.packet[..count].iter().zip(&lens) {
            burst.l3_len[usize::from(*packet) & (BURST - 1)] = *len;
        }
    }
    if right != all {
        odd |= keep(&mut burst.v4, &mut burst.aged, right);
    }
    odd
}

/// Keeps only these entries of a lane. Returns the packets of the others, as bits.
#[cold]
#[inline(never)]
fn keep(lane: &mut Lane<u32>, aged: &mut [u32; BURST], right: u64) -> u64 {
    let mut others = 0;
    let mut to = 0;
    for from in 0..lane.len.min(BURST) {
        if right >> from & 1 == 1 {
            lane.packet[to] = lane.packet[from];
            lane.destination[to] = lane.destination[from];
            aged[to] = aged[from];
            to += 1;
        } else {
            others |= 1 << lane.packet[from];
        }
    }
    lane.len = to;
    others
}

/// The pass over the L2 headers: what it reads and what it fills.
struct Pass<'a, 'b, P> {
    packets: &'a [Option<P>; BURST],
    on_port: OnPort<'a>,
    headers: &'b mut Headers<'a>,
    room: &'b mut [u16; BURST],
    odd: u64,
    v4: &'b mut Lane<u32>,
    v6: &'b mut Lane<u128>,
    vrfs: Agreement,
    sub_ifs: Agreement,
    frame_len: &'b mut [u16; BURST],
    l3_offset: &'b mut [u8; BURST],
    l3_len: &'b mut [u16; BURST],
    sub_if: &'b mut [SubIfId; BURST],
    pcp: &'b mut [u8; BURST],
}

impl<'a, P: Packet> Pass<'a, '_, P> {
    /// What packet `i` is by its L2 header.
    #[inline(always)]
    fn look(&self, i: usize) -> Option<Arrival> {
        self.on_port.find(self.packets.get(i)?.as_ref()?.bytes().first_chunk::<HEAD>()?)
    }

    /// Takes packets as long as they have so many tags and are of this family. Returns how many.
    #[inline(always)]
    fn alike<const TAGS: usize, const V6: bool>(&mut self, len: usize) -> usize {
        for i in 0..len.min(BURST) {
            let Some(packet) = &self.packets[i] else { return i };
            let frame = packet.bytes();
            let Some(head) = frame.first_chunk::<HEAD>() else { return i };
            let Some(arrival) = self.on_port.find_like::<TAGS, V6>(head) else { return i };
            if !packet.is_plain() || !self.take(i, frame, arrival) {
                return i;
            }
        }
        len
    }

    /// Takes packet `i`, whatever it is; what is not as expected is odd.
    #[inline(always)]
    fn any(&mut self, i: usize) {
        let taken = self.packets[i & (BURST - 1)].as_ref().is_some_and(|packet| {
            let frame = packet.bytes();
            let arrival = frame.first_chunk::<HEAD>().and_then(|head| self.on_port.find(head));
            arrival.is_some_and(|arrival| packet.is_plain() && self.take(i & (BURST - 1), frame, arrival))
        });
        self.odd |= u64::from(!taken) << i;
    }

    /// Lines packet `i` up.
    #[inline(always)]
    fn take(&mut self, i: usize, frame: &'a [u8], arrival: Arrival) -> bool {
        let Some(l3) = frame.get(usize::from(arrival.l3_offset)..) else { return false };
        if arrival.ipv6 {
            let Some(packet) = ipv6::expected(l3) else { return false };
            self.v6.push(i, packet.destination);
            self.l3_len[i] = packet.len;
        } else {
            let Some(header) = l3.first_chunk() else { return false };
            let at = self.v4.len & (BURST - 1);
            self.headers[at] = header;
            self.room[at] = l3.len() as u16;
            self.v4.packet[at] = i as u8;
            self.v4.len = at + 1;
        }
        self.vrfs.add(arrival.vrf.0);
        self.sub_ifs.add(arrival.sub_if.0);
        self.frame_len[i] = frame.len() as u16;
        self.l3_offset[i] = arrival.l3_offset;
        self.sub_if[i] = arrival.sub_if;
        self.pcp[i] = arrival.pcp;
        true
    }
}

/// Takes packet `i` the long way.
#[cold]
#[inline(never)]
fn long_way<P: Packet>(burst: &mut Burst<P>, i: usize, tables: &Tables) {
    burst.frame_len[i] = burst.packets[i].as_ref().map_or(0, |packet| packet.bytes().len() as u16);
    let mut verdict = classify::run(burst, i, tables);
    if burst.classified >> i & 1 == 1 {
        burst.sub_ifs.add(burst.sub_if[i].0);
    }
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
