//! `wide`: the work of `parse` on a processor with AVX-512, sixteen packets at a time. The packets of a burst that are
//! of several kinds (family and number of tags) are first lined up by kind, each flow's in their order.

use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};

use crate::burst::{BURST, Bits, Burst, IN_ORDER, ROOM};
use crate::expected::HEAD;
use crate::header::wide::{Found, Frames, KINDS, end_of, kinds, look};
use crate::packet::Packet;
use crate::sub_interface::{NONE, Regular};

/// Takes the packets that are as expected. Returns the others, as bits; `None`: this burst is not for here, and nothing
/// was done. `longest_l2`: length of the longest L2 header that any may get, in bytes.
///
/// # Safety
/// The processor has the features of `worker::Instructions::Avx512`.
#[allow(unsafe_code)] // Called after a check for the features.
#[inline(always)]
pub unsafe fn run<P: Packet>(burst: &mut Burst<P>, regular: Regular<'_>, longest_l2: u8) -> Option<u64> {
    // SAFETY: the caller says so.
    unsafe { expected(burst, regular, longest_l2) }
}

/// The packets from one number to the next that are of one kind.
type Ends = [usize; KINDS];

#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx2,bmi1,bmi2,lzcnt,movbe,popcnt")]
fn expected<P: Packet>(burst: &mut Burst<P>, regular: Regular<'_>, longest_l2: u8) -> Option<u64> {
    let len = burst.len.min(BURST);
    let mut frames = Frames::none();
    let (packets, lens) = (&burst.packets[..len], &mut burst.frame_len);
    if !burst.vouched || gather::<P, true>(packets, &mut frames, lens)? != 0 {
        burst.vouched = false;
        if gather::<P, false>(packets, &mut frames, lens)? != 0 {
            return None;
        }
    }
    let mut right = 0;
    let mut ends = [0; KINDS];
    // As a rule a port's packets are alike.
    match only_kind(&frames, &burst.frame_len, len) {
        Some(kind) => {
            ends[kind..].fill(len);
            right = every(burst, &frames, ends, regular);
        }
        None if burst.pinned => return None,
        None => {}
    }
    if right != burst.all() && !burst.pinned {
        ends = line_up(burst, &mut frames);
        right = every(burst, &frames, ends, regular);
    }
    fetch_fronts(&frames, ends, longest_l2);
    burst.fetched = true;
    Some(lanes(burst, ends, right, regular))
}

/// Notes where the packets' frames are and how long; those too short for any IP packet are left out. Returns 0 if none of
/// them is odd, and with `VOUCHED` the NIC calls all their checksums right.
#[inline(always)]
fn gather<P: Packet, const VOUCHED: bool>(
    packets: &[Option<P>],
    frames: &mut Frames,
    lens: &mut [u16; ROOM],
) -> Option<u64> {
    let mut oddity = 0;
    for (i, packet) in packets.iter().enumerate() {
        let packet = packet.as_ref()?;
        packet.prefetch();
        oddity |= if VOUCHED { packet.oddity_or_doubt() } else { packet.oddity() };
        let bytes = packet.bytes();
        lens[i] = 0;
        if bytes.len() >= HEAD {
            (frames.0[i], lens[i]) = (bytes.as_ptr(), bytes.len() as u16);
        }
    }
    Some(oddity)
}

/// The kind of all frames, as far as the first sixteen tell, if all are long enough for it.
#[allow(unsafe_code)]
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl")]
fn only_kind(frames: &Frames, lens: &[u16; ROOM], len: usize) -> Option<usize> {
    // SAFETY: frames have 34 bytes, and where there is none there are as many; nothing was done to a packet since they
    // were looked up.
    let kinds = unsafe { kinds(frames, lens, 0) };
    let first = u16::MAX >> (16 - len.clamp(1, 16));
    let kind = kinds.iter().position(|kind| *kind & first == first)?;
    let shortest = lens[..len].iter().fold(u16::MAX, |shortest, len| shortest.min(*len));
    (usize::from(shortest) >= end_of(kind)).then_some(kind)
}

/// Asks for what lies before frames that may grow, which is in no near cache.
#[inline(always)]
fn fetch_fronts(frames: &Frames, ends: Ends, longest_l2: u8) {
    let mut start = 0;
    for (kind, end) in ends.into_iter().enumerate() {
        let grows = usize::from(longest_l2).saturating_sub(14 + 4 * (kind % 3));
        if grows > 0 {
            for frame in &frames.0[start..end.max(start)] {
                // SAFETY: a prefetch is a hint, whatever the address.
                #[allow(unsafe_code)]
                unsafe {
                    _mm_prefetch::<_MM_HINT_T0>(frame.wrapping_sub(grows).cast());
                }
            }
        }
        start = end;
    }
}

/// Puts the packets of each kind together, those of none at the end.
#[allow(unsafe_code)]
#[inline(never)]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx2,bmi1,bmi2,lzcnt,popcnt")]
fn line_up<P: Packet>(burst: &mut Burst<P>, frames: &mut Frames) -> Ends {
    let mut of_kind = [0; KINDS];
    for from in (0..burst.len.min(BURST)).step_by(16) {
        // SAFETY: as above; `from` is less than 64. Packets are moved only further below, and `Packet` promises that
        // their bytes stay where they are.
        let sixteen = unsafe { kinds(frames, &burst.frame_len, from) };
        for (all, sixteen) in of_kind.iter_mut().zip(sixteen) {
            *all |= u64::from(sixteen) << from;
        }
    }
    let (mut order, mut ends, mut count) = ([0; BURST], [0; KINDS], 0);
    let none = burst.all() & !of_kind.iter().fold(0, |any, kind| any | kind);
    for (kind, bits) in of_kind.into_iter().chain([none]).enumerate() {
        for i in Bits(bits) {
            order[count & (BURST - 1)] = i as u8;
            count += 1;
        }
        if kind < KINDS {
            ends[kind] = count;
        }
    }
    let (mut lined_up, lens) = (Frames::none(), burst.frame_len);
    for (to, from) in order[..count.min(BURST)].iter().enumerate() {
        let from = usize::from(*from) & (BURST - 1);
        std::mem::swap(&mut burst.spare[to], &mut burst.packets[from]);
        (lined_up.0[to], burst.frame_len[to]) = (frames.0[from], lens[from]);
    }
    std::mem::swap(&mut burst.spare, &mut burst.packets);
    *frames = lined_up;
    ends
}

/// Looks at all packets, which are lined up by kind. Returns those that are right, as bits.
#[inline(always)]
fn every<P: Packet>(burst: &mut Burst<P>, frames: &Frames, ends: Ends, regular: Regular<'_>) -> u64 {
    let (mut start, mut right, first6) = (0, 0, ends[2]);
    for (kind, end) in ends.into_iter().enumerate() {
        if start < end {
            // SAFETY: `line_up` and `only_kind` saw that the frames are long enough. Packets may have been moved since
            // their bytes were looked up, and nothing else was done to them: `Packet` promises that those stay.
            #[allow(unsafe_code)]
            unsafe {
                right |= match kind {
                    0 => of_kind::<P, 0, false>(burst, frames, start, end, first6, regular),
                    1 => of_kind::<P, 1, false>(burst, frames, start, end, first6, regular),
                    2 => of_kind::<P, 2, false>(burst, frames, start, end, first6, regular),
                    3 => of_kind::<P, 0, true>(burst, frames, start, end, first6, regular),
                    4 => of_kind::<P, 1, true>(burst, frames, start, end, first6, regular),
                    _ => of_kind::<P, 2, true>(burst, frames, start, end, first6, regular),
                }
            }
        }
        start = end;
    }
    right
}

/// Looks at the packets `start..end`, which are of one kind. Returns those that are right, as bits.
///
/// # Safety
/// `start < end <= 64`, `first6 <= start` of IPv6, the frames are as long as their kind's headers, and the processor has
/// the features.
#[allow(unsafe_code)]
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx2,bmi1,bmi2,lzcnt,movbe,popcnt")]
#[allow(clippy::needless_bitwise_bool)] // A lazy operator is a branch.
unsafe fn of_kind<P: Packet, const TAGS: usize, const V6: bool>(
    burst: &mut Burst<P>,
    frames: &Frames,
    start: usize,
    end: usize,
    first6: usize,
    regular: Regular<'_>,
) -> u64 {
    let Some(pattern) = regular.pattern(TAGS) else { return 0 };
    let sum = !burst.vouched;
    let mut found = Found {
        vids: &mut burst.vids,
        pcp: &mut burst.pcp,
        l3_len: &mut burst.l3_len,
        destination4: &mut burst.v4.destination,
        aged: &mut burst.aged,
        destination6: &mut burst.v6.destination,
        first6,
    };
    let mut right = 0;
    for from in (start..end).step_by(16) {
        // SAFETY: the caller says so.
        let sixteen = unsafe {
            let to = end.min(from + 16);
            look::<TAGS, V6>(frames, &burst.frame_len, from, to, pattern, sum, &mut found)
        };
        right |= u64::from(sixteen) << from;
    }
    burst.l3_offset[start..end].fill(14 + 4 * TAGS as u8);
    let sub_if = &mut burst.sub_if[start..end];
    if TAGS == 0 {
        sub_if.fill(regular.find::<0>(0, 0));
    } else {
        let [outer, inner] = found.vids;
        for ((sub_if, outer), inner) in sub_if.iter_mut().zip(&outer[start..]).zip(&inner[start..]) {
            *sub_if = regular.find::<TAGS>(*outer, *inner);
        }
    }
    if sub_if.iter().fold(false, |any, sub_if| any | (*sub_if == NONE)) {
        for (i, sub_if) in (start..).zip(sub_if) {
            right &= !(u64::from(*sub_if == NONE) << i);
        }
    }
    right
}

/// Lines those that are right up for the look-up. Returns the others, as bits.
#[inline(always)]
fn lanes<P: Packet>(burst: &mut Burst<P>, ends: Ends, right: u64, regular: Regular<'_>) -> u64 {
    let (four, six) = (ends[2].min(BURST), ends[5].min(BURST));
    match regular.vrf() {
        Some(vrf) => burst.vrf.fill(vrf),
        None => {
            for (vrf, sub_if) in burst.vrf.iter_mut().zip(&burst.sub_if) {
                *vrf = regular.vrf_of(*sub_if);
            }
        }
    }
    if four > 0 {
        burst.v4.packet = IN_ORDER;
        burst.v4.len = four;
    }
    if six > four {
        burst.v6.packet[..six - four].copy_from_slice(&IN_ORDER[four..six]);
        burst.v6.len = six - four;
    }
    let odd = burst.all() & !right;
    if odd != 0 {
        leave_out(burst, right);
    }
    odd
}

/// Keeps only these packets in the lanes.
#[cold]
#[inline(never)]
fn leave_out<P: Packet>(burst: &mut Burst<P>, right: u64) {
    let aged = &mut burst.aged;
    burst.v4.keep(burst.v4.places(right), |from, to| aged[to] = aged[from]);
    burst.v6.keep(burst.v6.places(right), |_, _| {});
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::sync::Arc;

    use proptest::prelude::*;

    use super::*;
    use crate::header::{checksum, ethernet};
    use crate::ids::{PortId, VrfId};
    use crate::packet::{Checksum, HeapPacket};
    use crate::stage::parse;
    use crate::sub_interface::{SubInterface, SubInterfaces, Tag, Tags};
    use crate::tables::Tables;

    const OURS: [u8; 6] = [2, 0, 0, 0, 0, 1];

    /// Port 0 is regular and in two VRFs, port 1 in one, port 2 is not regular.
    fn tables() -> Tables {
        let tag = |tpid, vid| Tag { tpid, vid };
        let on = |port, tags, vrf, mac| SubInterface {
            port: PortId(port),
            tags,
            vrf: VrfId(vrf),
            mac,
            mtu: 1500,
            pcp: None,
        };
        let all = vec![
            on(0, Tags::Untagged, 0, OURS),
            on(0, Tags::One(tag(0x8100, 1)), 0, OURS),
            on(0, Tags::One(tag(0x8100, 2)), 1, OURS),
            on(0, Tags::Two(tag(0x88a8, 2), tag(0x8100, 1)), 1, OURS),
            on(0, Tags::Two(tag(0x88a8, 3), tag(0x8100, 3)), 0, OURS),
            on(1, Tags::One(tag(0x8100, 2)), 0, OURS),
            on(1, Tags::Two(tag(0x8100, 1), tag(0x8100, 3)), 0, OURS),
            on(2, Tags::One(tag(0x8100, 1)), 0, OURS),
            on(2, Tags::One(tag(0x88a8, 2)), 0, OURS),
        ];
        Tables::new(Arc::new(SubInterfaces::new(all).unwrap()), Arc::new([]))
    }

    /// A frame that is right but for its VLAN ids, and then a byte of it changed, or its end cut off. Bytes 6 and 7
    /// are its number.
    fn any_frame() -> impl Strategy<Value = Vec<u8>> {
        let vid = || prop_oneof![0..5u16, any::<u16>()];
        let tpid = || prop_oneof![4 => Just(0x8100u16), 2 => Just(0x88a8), 1 => any::<u16>()];
        let change =
            prop_oneof![6 => Just(None), 1 => (0..64usize, any::<u8>(), any::<bool>()).prop_map(Some)];
        let cut = prop_oneof![9 => Just(100usize), 1 => 0..80usize];
        (0..3usize, any::<bool>(), [tpid(), tpid()], [vid(), vid()], any::<[u8; 60]>(), change, cut).prop_map(
            |(tags, ipv6, tpids, vids, bytes, change, cut)| {
                let mut frame = OURS.to_vec();
                frame.extend(&bytes[..6]);
                for (tpid, vid) in tpids.iter().zip(vids).take(tags) {
                    frame.extend(tpid.to_be_bytes());
                    frame.extend(vid.to_be_bytes());
                }
                frame.extend(if ipv6 { ethernet::IPV6 } else { ethernet::IPV4 }.to_be_bytes());
                let l3 = frame.len();
                frame.extend(bytes);
                if ipv6 {
                    frame[l3..l3 + 8].copy_from_slice(&[0x60, 0, 0, 0, 0, bytes[5] % 30, 17, bytes[7]]);
                    frame[l3 + 8] = 0x20;
                    frame[l3 + 24] = 0x20;
                } else {
                    frame[l3..l3 + 4].copy_from_slice(&[0x45, 0, 0, 20 + bytes[3] % 50]);
                    (frame[l3 + 12], frame[l3 + 16]) = (10, 11);
                }
                let mend = |frame: &mut Vec<u8>| {
                    if !ipv6 {
                        frame[l3 + 10..l3 + 12].fill(0);
                        let sum = !checksum::sum(&frame[l3..l3 + 20]);
                        frame[l3 + 10..l3 + 12].copy_from_slice(&sum.to_be_bytes());
                    }
                };
                mend(&mut frame);
                if let Some((at, value, again)) = change {
                    // Bytes that matter are changed to values that matter now and then.
                    let value = if value < 100 {
                        [0, 1, 127, 169, 224, 254, 255][usize::from(value % 7)]
                    } else {
                        value
                    };
                    frame[at] = value;
                    if again {
                        mend(&mut frame);
                    }
                }
                frame.truncate(cut);
                frame
            },
        )
    }

    /// What is known of a packet after `parse`, in words. `odd`: whether it is odd, too.
    fn outcome(burst: &Burst<HeapPacket>, i: usize, odd: bool) -> String {
        let at = |lane: &[u8]| lane.iter().position(|packet| usize::from(*packet) == i);
        let v4 = at(&burst.v4.packet[..burst.v4.len]).map(|at| {
            let aged = if !odd || burst.odd >> i & 1 == 1 { 0 } else { burst.aged[at] };
            (burst.v4.destination[at], aged)
        });
        let v6 = at(&burst.v6.packet[..burst.v6.len]).map(|at| burst.v6.destination[at]);
        let bit = |bits: u64| bits >> i & 1;
        let verdict = (bit(burst.alive) == 0).then(|| burst.verdict[i]);
        let arrival = (bit(burst.classified) == 1)
            .then(|| (burst.sub_if[i], burst.vrf[i], burst.l3_offset[i], burst.pcp[i]));
        let l3_len = (bit(burst.classified) == 1 && bit(burst.alive) == 1).then_some(burst.l3_len[i]);
        let odd = odd && bit(burst.odd) == 1;
        format!("{odd} {verdict:?} {arrival:?} {l3_len:?} {} {v4:?} {v6:?}", burst.frame_len[i])
    }

    fn outcomes<const WIDE: bool>(
        tables: &Tables,
        port: u16,
        frames: &[Vec<u8>],
        pinned: bool,
    ) -> Vec<(Vec<u8>, String)> {
        outcomes_with::<WIDE>(tables, port, frames, pinned, &[])
    }

    /// `said`: what the NIC says of their checksums, if its word counts.
    fn outcomes_with<const WIDE: bool>(
        tables: &Tables,
        port: u16,
        frames: &[Vec<u8>],
        pinned: bool,
        said: &[Checksum],
    ) -> Vec<(Vec<u8>, String)> {
        let mut burst = Burst::new();
        for (slot, frame) in burst.packets.iter_mut().zip(frames) {
            *slot = Some(HeapPacket::new(frame));
        }
        burst.begin(PortId(port), frames.len());
        for (packet, said) in burst.packets.iter_mut().flatten().zip(said) {
            packet.checksum = *said;
        }
        burst.vouched = !said.is_empty();
        burst.pinned = pinned;
        parse::run::<HeapPacket, WIDE>(&mut burst, tables);
        assert!(burst.spare.iter().all(Option::is_none));
        (0..frames.len())
            .map(|i| (burst.packets[i].as_ref().unwrap().bytes().to_vec(), outcome(&burst, i, !pinned)))
            .collect()
    }

    /// Which packets may be of one flow: those alike in tags and family. `None`: dropped, so its order does not matter
    /// (one that is too short for its headers is found at the end of a burst).
    fn kind((frame, outcome): &(Vec<u8>, String)) -> Option<Vec<u8>> {
        (!outcome.contains("Some(Drop(")).then(|| frame.iter().skip(12).take(14).copied().collect())
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(1000))]
        #[test]
        fn an_honest_nic_changes_nothing(
            frames in prop::collection::vec(any_frame(), 1..=BURST),
            port in 0..3u16,
            right_only in any::<bool>(),
            of_ipv6 in any::<bool>(),
        ) {
            let tables = tables();
            let wrong = |outcome: &String| outcome.contains("Ipv4Checksum");
            let portable = outcomes::<false>(&tables, port, &frames, true);
            let kept = |(_, (_, outcome)): &(&Vec<u8>, &(_, String))| !right_only || !wrong(outcome);
            let frames: Vec<_> = frames.iter().zip(&portable).filter(kept).map(|(frame, _)| frame.clone()).collect();
            let portable = outcomes::<false>(&tables, port, &frames, true);
            let said: Vec<_> = portable
                .iter()
                .map(|(_, outcome)| match outcome {
                    outcome if wrong(outcome) => Checksum::Wrong,
                    // Drivers differ in whether they call the checksum right of a packet that has none.
                    _ if of_ipv6 => Checksum::Right,
                    outcome if outcome.ends_with("None None") => Checksum::Unknown,
                    _ => Checksum::Right,
                })
                .collect();
            prop_assert_eq!(&outcomes_with::<false>(&tables, port, &frames, true, &said), &portable);
            if crate::worker::has_avx512() && is_x86_feature_detected!("bmi2") {
                prop_assert_eq!(&outcomes_with::<true>(&tables, port, &frames, true, &said), &portable);
            }
        }

        #[test]
        fn what_is_found_is_what_the_portable_way_finds(
            kinds in prop::collection::vec(any_frame(), 1..=BURST),
            port in 0..3u16,
            repeat in any::<bool>(),
            count in 1..=BURST,
            pinned in any::<bool>(),
        ) {
            if crate::worker::Instructions::of_this_processor() != crate::worker::Instructions::Avx512 {
                return Ok(());
            }
            // Bursts of one kind too, with some others between.
            let frames: Vec<_> = if repeat {
                (0..count).map(|i| kinds[if i % 29 == 28 { i % kinds.len() } else { 0 }].clone()).collect()
            } else {
                kinds
            };
            let tables = tables();
            let portable = outcomes::<false>(&tables, port, &frames, pinned);
            let wide = outcomes::<true>(&tables, port, &frames, pinned);
            prop_assert!(portable.iter().map(|(frame, _)| frame).eq(&frames));
            // Those of another kind than the first are odd then.
            if pinned {
                prop_assert_eq!(&wide, &portable);
            }
            // The same packets with the same outcomes, those that may be of one flow in their order.
            let by_kind = |all: &[(Vec<u8>, String)]| {
                let mut kinds: BTreeMap<_, Vec<_>> = BTreeMap::new();
                for packet in all {
                    kinds.entry(kind(packet)).or_default().push(packet.clone());
                }
                if let Some(dropped) = kinds.get_mut(&None) {
                    dropped.sort();
                }
                kinds
            };
            prop_assert_eq!(by_kind(&wide), by_kind(&portable));
        }
    }
}
