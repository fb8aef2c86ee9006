//! `wide`: the work of `parse` on a processor with AVX-512, sixteen packets at a time. As a rule the packets of a burst
//! are of one kind (family and number of tags), which is seen while their places are noted; a mixed burst takes one more
//! pass over its L2 headers.

use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};

use crate::burst::{BURST, Bits, Burst, IN_ORDER, ROOM, of_whole};
use crate::expected::HEAD;
use crate::header::places::{Difference, Places};
use crate::header::wide::{Found, Layers, end_of, headers, layers, look};
use crate::header::{be16, ethernet};
use crate::ids::SubIfId;
use crate::packet::{Oddities, Packet};
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

#[allow(unsafe_code)]
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx2,bmi1,bmi2,lzcnt,movbe,popcnt")]
fn expected<P: Packet>(burst: &mut Burst<P>, regular: Regular<'_>, longest_l2: u8) -> Option<u64> {
    let len = burst.len.min(BURST);
    let mut frames = Places::unset();
    frames.end_at(len);
    let packets = &burst.packets[..len];
    let first = packets.first()?.as_ref()?.bytes().first_chunk::<HEAD>()?;
    let kind = kind_of(first).and_then(|kind| Some((kind, regular.head(kind)?)));
    let outer = be16(first, 14);
    let (difference, doubt) = gather(packets, first, &mut frames, &mut burst.frame_len)?;
    burst.vouched &= !doubt;
    let least = |lens: &[u16]| lens.iter().fold(u16::MAX, |least, len| least.min(*len));
    let shortest = of_whole(&burst.frame_len[..len], least);
    let right = match kind {
        Some((kind, head)) if difference.is_none_from(head) && usize::from(shortest) >= end_of(kind) => {
            let outer = difference.is_none_in_tci().then_some(outer);
            // SAFETY: all places are set, the frames are of this kind, and long enough. Nothing was done to the packets
            // since their bytes were looked up: `Packet` promises that those stay.
            unsafe {
                fetch_fronts(&frames, len, usize::from(longest_l2).saturating_sub(14 + 4 * (kind % 3)));
                match kind {
                    0 => of_one_kind::<P, 0, false>(burst, &frames, regular, outer),
                    1 => of_one_kind::<P, 1, false>(burst, &frames, regular, outer),
                    2 => of_one_kind::<P, 2, false>(burst, &frames, regular, outer),
                    3 => of_one_kind::<P, 0, true>(burst, &frames, regular, outer),
                    4 => of_one_kind::<P, 1, true>(burst, &frames, regular, outer),
                    _ => of_one_kind::<P, 2, true>(burst, &frames, regular, outer),
                }
            }
        }
        // SAFETY: all places are set, and all frames have 34 bytes; as above.
        _ => unsafe { mixed(burst, &frames, regular, longest_l2) },
    };
    burst.fetched = true;
    match regular.vrf() {
        Some(vrf) => burst.vrf.fill(vrf),
        None => {
            for (vrf, sub_if) in burst.vrf.iter_mut().zip(&burst.sub_if) {
                *vrf = regular.vrf_of(*sub_if);
            }
        }
    }
    Some(burst.all() & !right)
}

/// What kind a frame is of, by the ethertypes in it.
#[inline(always)]
fn kind_of(head: &[u8; HEAD]) -> Option<usize> {
    for tags in 0..3 {
        match be16(head, 12 + 4 * tags) {
            ethernet::IPV4 => return Some(tags),
            ethernet::IPV6 => return Some(tags + 3),
            _ => {}
        }
    }
    None
}

/// Notes where the packets' frames are and how long. Returns how they differ from the first, and whether there is any
/// whose checksum the NIC does not call right; `None` if any is odd, or too short for any IP packet.
#[allow(unsafe_code)]
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx2,bmi1,bmi2,lzcnt,movbe,popcnt")]
fn gather<P: Packet>(
    packets: &[Option<P>],
    first: &[u8; HEAD],
    frames: &mut Places,
    lens: &mut [u16; ROOM],
) -> Option<(Difference, bool)> {
    let (mut difference, mut oddities) = (Difference::to(first), P::Oddities::default());
    for ((packet, place), len) in packets.iter().zip(frames.to_set()).zip(lens) {
        let packet = packet.as_ref()?;
        oddities.add(packet);
        let bytes = packet.bytes();
        if bytes.len() < HEAD {
            return None;
        }
        place.write(bytes.as_ptr());
        *len = bytes.len() as u16;
        // SAFETY: there are 34 bytes.
        unsafe { difference.add(bytes.as_ptr()) };
    }
    // In a closure they would not stay in registers.
    if oddities.any_odd() {
        return None;
    }
    Some((difference, oddities.any_doubt()))
}

/// Asks for so many bytes before frames that may grow, which are in no near cache.
///
/// # Safety
/// All places are set.
#[allow(unsafe_code)]
#[inline(always)]
unsafe fn fetch_fronts(frames: &Places, len: usize, before: usize) {
    if before > 0 {
        // SAFETY: the caller says so.
        for frame in &unsafe { frames.all() }[..len] {
            // SAFETY: a prefetch is a hint, whatever the address.
            unsafe { _mm_prefetch::<_MM_HINT_T0>(frame.wrapping_sub(before).cast()) };
        }
    }
}

/// Takes a burst of one kind. Returns the packets that are right, as bits; those are lined up for the look-up. `outer`:
/// the TCI of the outer tag, if it is that of all.
///
/// # Safety
/// All places are set, the frames are of the kind, and as long as its headers, and the processor has the features.
#[allow(unsafe_code)]
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx2,bmi1,bmi2,lzcnt,movbe,popcnt")]
unsafe fn of_one_kind<P: Packet, const TAGS: usize, const V6: bool>(
    burst: &mut Burst<P>,
    frames: &Places,
    regular: Regular<'_>,
    outer: Option<u16>,
) -> u64 {
    let (len, sum) = (burst.len.min(BURST), !burst.vouched);
    let (mut found, lens) = found(burst);
    // SAFETY: the caller says so.
    let right = unsafe { look::<TAGS, V6>(frames, lens, len, [sum, outer.is_some()], &mut found) };
    burst.l3_offset = [14 + 4 * TAGS as u8; BURST];
    if TAGS == 0 {
        burst.pcp.fill(0);
    } else if let Some(outer) = outer {
        burst.pcp.fill((outer >> 13) as u8);
    }
    regular.find_all::<TAGS>(outer, &burst.vids, len, &mut burst.sub_if);
    let right = right & !without(&burst.sub_if[..len]);
    if V6 {
        (burst.v6.packet, burst.v6.len) = (IN_ORDER, len);
    } else {
        (burst.v4.packet, burst.v4.len) = (IN_ORDER, len);
    }
    if right != burst.all() {
        leave_out(burst, right);
    }
    right
}

/// Where what is found of a burst's packets goes, and how long their frames are.
#[inline(always)]
pub(crate) fn found<P>(burst: &mut Burst<P>) -> (Found<'_>, &[u16; ROOM]) {
    let found = Found {
        vids: &mut burst.vids,
        pcp: &mut burst.pcp,
        l3_offset: &mut burst.l3_offset,
        l3_len: &mut burst.l3_len,
        v4: &mut burst.v4,
        aged: &mut burst.aged,
        v6: &mut burst.v6,
    };
    (found, &burst.frame_len)
}

/// The packets that have no sub-interface, as bits.
#[inline(always)]
#[allow(clippy::needless_bitwise_bool)] // A lazy operator is a branch.
fn without(sub_if: &[SubIfId]) -> u64 {
    // Without an early exit this is a few vector instructions.
    if !of_whole(sub_if, |all| all.iter().fold(false, |any, sub_if| any | (*sub_if == NONE))) {
        return 0;
    }
    sub_if.iter().enumerate().fold(0, |none, (i, sub_if)| none | u64::from(*sub_if == NONE) << i)
}

/// Takes a burst of several kinds. Returns the packets that are right, as bits; those are lined up for the look-up.
///
/// # Safety
/// All places are set, the frames have 34 bytes, and the processor has the features.
#[allow(unsafe_code)]
#[inline(never)]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx2,bmi1,bmi2,lzcnt,movbe,popcnt")]
unsafe fn mixed<P: Packet>(
    burst: &mut Burst<P>,
    frames: &Places,
    regular: Regular<'_>,
    longest_l2: u8,
) -> u64 {
    let (len, sum) = (burst.len.min(BURST), !burst.vouched);
    let patterns = [regular.pattern(0), regular.pattern(1), regular.pattern(2)];
    let (mut found, lens) = found(burst);
    // SAFETY: the caller says so.
    let Layers { tags, six } = unsafe { layers(frames, lens, len, patterns, &mut found) };
    if longest_l2 > 14 {
        // SAFETY: as above.
        for (frame, l3_offset) in unsafe { frames.all() }[..len].iter().zip(&burst.l3_offset) {
            // Of frames that do not grow, that is no more than their headers.
            let front = frame.wrapping_add((*l3_offset).into()).wrapping_sub(longest_l2.into());
            _mm_prefetch::<_MM_HINT_T0>(front.cast());
        }
    }
    let ([outer, inner], sub_if) = (&burst.vids, &mut burst.sub_if);
    sub_if.fill(regular.find::<0>(0, 0));
    for i in Bits(tags[1]) {
        sub_if[i] = regular.find::<1>(outer[i], 0);
    }
    for i in Bits(tags[2]) {
        sub_if[i] = regular.find::<2>(outer[i], inner[i]);
    }
    let right = (tags[0] | tags[1] | tags[2]) & !without(&sub_if[..len]);
    let (mut found, lens) = self::found(burst);
    // SAFETY: `layers` has seen that those are there.
    unsafe { headers(frames, lens, [right & !six, right & six], sum, &mut found) }
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
mod tests;
