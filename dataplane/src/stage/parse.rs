//! `parse`: one pass over a burst's L2 headers and one over its IP headers. A packet that is as its sub-interface
//! expects it, which nearly all are, is known by a few comparisons; any other goes through `classify` and `validate`,
//! which know what it is.

use crate::burst::{BURST, Bits, Burst, IN_ORDER, Lane, ROOM};
use crate::expected::{Arrival, Frame, HEAD, OnPort, outer_pcp};
use crate::header::{ipv4, ipv6};
use crate::ids::{SubIfId, VrfId};
use crate::packet::{Oddities, Packet};
use crate::stage::{classify, validate};
use crate::tables::Tables;
use crate::verdict::Verdict;

/// Finds each packet's sub-interface, checks its headers, and lines it up for the look-up. `WIDE`: the caller is compiled
/// for, and runs on, a processor with the features of `worker::Instructions::Avx512`.
#[inline(always)]
pub fn run<P: Packet, const WIDE: bool>(burst: &mut Burst<P>, tables: &Tables) {
    let odd = wide::<P, WIDE>(burst, tables).unwrap_or_else(|| {
        let on_port = tables.sub_interfaces.expected().on(burst.port);
        on_port.map_or(burst.all(), |on_port| expected(burst, on_port))
    });
    burst.odd = odd;
    burst.classified = burst.all() & !odd;
    for i in Bits(odd) {
        long_way(burst, i, tables);
    }
}

/// The same as [`expected`], if the processor and the port's sub-interfaces are such that it can be done faster.
#[inline(always)]
fn wide<P: Packet, const WIDE: bool>(burst: &mut Burst<P>, tables: &Tables) -> Option<u64> {
    #[cfg(all(target_arch = "x86_64", not(miri)))]
    if WIDE {
        let regular = tables.sub_interfaces.regular(burst.port)?;
        // SAFETY: the caller says that the processor has the features.
        #[allow(unsafe_code)]
        unsafe {
            return crate::stage::wide::run(burst, regular, tables.exits().longest_l2);
        }
    }
    let _ = (burst, tables);
    None
}

/// Takes the packets that are as expected. Returns the others, as bits.
#[inline(always)]
fn expected<P: Packet>(burst: &mut Burst<P>, on_port: OnPort<'_>) -> u64 {
    let (mut headers, mut room): (Headers<'_>, _) = ([&[0; ipv4::MIN_HEADER_LEN]; BURST], [0; BURST]);
    let len = burst.len.min(BURST);
    let mut oddities = P::Oddities::default();
    for packet in burst.packets[..len].iter().flatten() {
        packet.prefetch();
        oddities.add(packet);
    }
    let plain = !oddities.any_odd();
    let vouched = burst.vouched && plain && !oddities.any_doubt();
    let mut pass = Pass {
        packets: &burst.packets,
        on_port,
        headers: &mut headers,
        room: &mut room,
        v4: &mut burst.v4,
        v6: &mut burst.v6,
        frame_len: &mut burst.frame_len,
        l3_offset: &mut burst.l3_offset,
        l3_len: &mut burst.l3_len,
        sub_if: &mut burst.sub_if,
        vrf: &mut burst.vrf,
        pcp: &mut burst.pcp,
    };
    // As a rule a port's packets are alike: what the first one is, is the best guess for the others.
    let alike = match pass.look(0) {
        Some(Arrival { l3_offset: 14, ipv6: false, .. }) if plain => pass.alike4::<0, 34>(len),
        Some(Arrival { l3_offset: 18, ipv6: false, .. }) if plain => pass.alike4::<1, 38>(len),
        Some(Arrival { l3_offset: 22, ipv6: false, .. }) if plain => pass.alike4::<2, 42>(len),
        Some(Arrival { l3_offset: 14, .. }) if plain => pass.alike6::<0, 54>(len),
        Some(Arrival { l3_offset: 18, .. }) if plain => pass.alike6::<1, 58>(len),
        Some(Arrival { l3_offset: 22, .. }) if plain => pass.alike6::<2, 62>(len),
        _ => 0,
    };
    let mut odd = 0;
    for i in alike..len {
        odd |= u64::from(!pass.any(i)) << i;
    }

    let count = burst.v4.len.min(BURST);
    if count == 0 {
        return odd;
    }
    let all = if count == BURST { u64::MAX } else { (1 << count) - 1 };
    let mut lens = [0; ROOM];
    // Without gaps, packets have the numbers of their places in the lane.
    let in_place = count == len;
    let found_len = if in_place { &mut burst.l3_len } else { &mut lens };
    let (lane, aged) = (&mut burst.v4.destination, &mut burst.aged);
    let right = if vouched {
        headers4::<false>(&headers, &room, count, lane, found_len, aged)
    } else {
        headers4::<true>(&headers, &room, count, lane, found_len, aged)
    };
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

/// Looks at the first `count` IPv4 headers. Returns the places of those that are as expected, as bits. `SUM`: their
/// checksums are looked at, too.
#[inline(always)]
fn headers4<const SUM: bool>(
    headers: &Headers<'_>,
    room: &[u16; BURST],
    count: usize,
    destination: &mut [u32; ROOM],
    l3_len: &mut [u16; ROOM],
    aged: &mut [u32; ROOM],
) -> u64 {
    let mut right = 0;
    for k in 0..count.min(BURST) {
        if let Some(header) = ipv4::expected::<SUM>(headers[k], room[k]) {
            destination[k] = header.destination;
            l3_len[k] = header.len;
            aged[k] = header.aged;
            right |= 1 << k;
        }
    }
    right
}

/// Keeps only these entries of a lane. Returns the packets of the others, as bits.
#[cold]
#[inline(never)]
fn keep(lane: &mut Lane<u32>, aged: &mut [u32; ROOM], right: u64) -> u64 {
    lane.keep(right, |from, to| aged[to] = aged[from])
}

/// A burst's IPv4 headers, those of its lane from the front.
type Headers<'a> = [&'a [u8; ipv4::MIN_HEADER_LEN]; BURST];

/// The pass over the L2 headers: what it reads and what it fills.
struct Pass<'a, 'b, P> {
    packets: &'a [Option<P>; BURST],
    on_port: OnPort<'a>,
    headers: &'b mut Headers<'a>,
    room: &'b mut [u16; BURST],
    v4: &'b mut Lane<u32>,
    v6: &'b mut Lane<u128>,
    frame_len: &'b mut [u16; ROOM],
    l3_offset: &'b mut [u8; BURST],
    l3_len: &'b mut [u16; ROOM],
    sub_if: &'b mut [SubIfId; BURST],
    vrf: &'b mut [VrfId; BURST],
    pcp: &'b mut [u8; ROOM],
}

impl<P: Packet> Pass<'_, '_, P> {
    /// What packet `i` is by its L2 header.
    #[inline(always)]
    fn look(&self, i: usize) -> Option<Arrival> {
        self.on_port.find(self.packets.get(i)?.as_ref()?.bytes().first_chunk::<HEAD>()?)
    }

    /// Takes packets as long as they are IPv4 with so many tags. Returns how many. `END`: where the IPv4 header ends.
    #[inline(always)]
    fn alike4<const TAGS: usize, const END: usize>(&mut self, len: usize) -> usize {
        const L3: usize = ipv4::MIN_HEADER_LEN;
        let untagged = self.on_port.guess::<0>(&[0; HEAD]);
        let mut done = 0;
        for i in 0..len.min(BURST) {
            let Some(packet) = &self.packets[i] else { break };
            let bytes = packet.bytes();
            let Some(start) = bytes.first_chunk::<END>() else { break };
            let (Some(head), Some(header)) = (start.first_chunk(), start[END - L3..].first_chunk()) else {
                break;
            };
            let guess = if TAGS == 0 { untagged } else { self.on_port.guess::<TAGS>(head) };
            let Some(frame) = guess else { break };
            if !self.on_port.is::<TAGS, false>(head, frame) {
                break;
            }
            self.headers[i] = header;
            self.note::<TAGS>(i, bytes, head, frame);
            done = i + 1;
        }
        self.same::<TAGS>(done, untagged);
        for (room, len) in self.room.iter_mut().zip(&*self.frame_len) {
            *room = len.wrapping_sub((END - L3) as u16);
        }
        self.v4.packet = IN_ORDER;
        self.v4.len = done;
        done
    }

    /// The same for IPv6.
    #[inline(always)]
    fn alike6<const TAGS: usize, const END: usize>(&mut self, len: usize) -> usize {
        const L3: usize = ipv6::HEADER_LEN;
        let untagged = self.on_port.guess::<0>(&[0; HEAD]);
        let mut done = 0;
        for i in 0..len.min(BURST) {
            let Some(packet) = &self.packets[i] else { break };
            let bytes = packet.bytes();
            let Some(start) = bytes.first_chunk::<END>() else { break };
            let (Some(head), Some(header)) = (start.first_chunk(), start[END - L3..].first_chunk()) else {
                break;
            };
            let guess = if TAGS == 0 { untagged } else { self.on_port.guess::<TAGS>(head) };
            let Some(frame) = guess else { break };
            if !self.on_port.is::<TAGS, true>(head, frame) {
                break;
            }
            let Some(header) = ipv6::expected(header, bytes.len() - (END - L3)) else { break };
            self.v6.destination[i] = header.destination;
            self.l3_len[i] = header.len;
            self.note::<TAGS>(i, bytes, head, frame);
            done = i + 1;
        }
        self.same::<TAGS>(done, untagged);
        self.v6.packet = IN_ORDER;
        self.v6.len = done;
        done
    }

    /// What differs from packet to packet.
    #[inline(always)]
    fn note<const TAGS: usize>(&mut self, i: usize, bytes: &[u8], head: &[u8; HEAD], frame: &Frame) {
        self.frame_len[i] = bytes.len() as u16;
        if TAGS > 0 {
            self.sub_if[i] = frame.sub_if();
            self.vrf[i] = frame.vrf();
            self.pcp[i] = outer_pcp(head);
        }
    }

    /// What the first `done` packets have in common.
    #[inline(always)]
    fn same<const TAGS: usize>(&mut self, done: usize, untagged: Option<&Frame>) {
        self.l3_offset[..done].fill((14 + 4 * TAGS) as u8);
        if TAGS == 0
            && let Some(frame) = untagged
        {
            self.sub_if[..done].fill(frame.sub_if());
            self.vrf[..done].fill(frame.vrf());
            self.pcp[..done].fill(0);
        }
    }

    /// Takes packet `i`, whatever it is. `false`: it is not as expected.
    #[inline(always)]
    fn any(&mut self, i: usize) -> bool {
        let i = i & (BURST - 1);
        let Some(packet) = &self.packets[i] else { return false };
        let frame = packet.bytes();
        let Some(arrival) = frame.first_chunk().and_then(|head| self.on_port.find(head)) else {
            return false;
        };
        let Some(l3) = frame.get(usize::from(arrival.l3_offset)..) else { return false };
        let mut oddities = P::Oddities::default();
        oddities.add(packet);
        if oddities.any_odd() {
            return false;
        }
        if arrival.ipv6 {
            let Some(header) = l3.first_chunk().and_then(|header| ipv6::expected(header, l3.len())) else {
                return false;
            };
            self.v6.push(i, header.destination);
            self.l3_len[i] = header.len;
        } else {
            let Some(header) = l3.first_chunk() else { return false };
            let at = self.v4.len & (BURST - 1);
            self.headers[at] = header;
            self.room[at] = l3.len() as u16;
            self.v4.packet[at] = i as u8;
            self.v4.len = at + 1;
        }
        self.l3_offset[i] = arrival.l3_offset;
        self.frame_len[i] = frame.len() as u16;
        self.sub_if[i] = arrival.sub_if;
        self.vrf[i] = arrival.vrf;
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
        let sub_if = tables.sub_interfaces.get(burst.sub_if[i]);
        burst.vrf[i] = sub_if.map_or(VrfId(0), |sub_if| sub_if.vrf);
    }
    if verdict == Verdict::Forward {
        verdict = validate::run(burst, i);
    }
    match verdict {
        Verdict::Forward => {}
        Verdict::Drop(reason) => burst.drop_packet(i, reason),
        Verdict::Punt(reason) => burst.punt(i, reason),
        Verdict::Refuse(reason) => burst.refuse_packet(i, reason),
    }
}
