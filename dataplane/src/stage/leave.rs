//! `leave`: the second half of `depart`: writes the new L2 header, and one off the TTL, over a frame's start at once.

use crate::adjacency::{MAX_L2_LEN, priority};
use crate::burst::{BURST, Bits, Burst, common, of_whole};
use crate::exits::{Exit, Exits, Line};
use crate::header::{ethernet, ipv4, ipv6};
use crate::packet::{LEAD, Packet};

/// Gives each packet whose exit is known its new L2 header, and takes one off its TTL. Returns those that are ready to
/// leave, as bits; the others have no exit, or too little room. `only`: the exit of all, if it is one. `WIDE`: the caller
/// is compiled for, and runs on, a processor with the features of `worker::Instructions::Avx512`.
#[inline(always)]
pub(crate) fn run<P: Packet, const WIDE: bool>(
    burst: &mut Burst<P>,
    chosen: &[Exit; BURST],
    only: Option<Exit>,
    exits: &Exits,
) -> u64 {
    let len = burst.len.min(BURST);
    let left = if let Some(shape) = Shape::of(burst, &chosen[..len]) {
        fetch_fronts(burst, usize::try_from(shape.growth).unwrap_or(0));
        if burst.v6.len == len {
            let written = alike::<P, true, WIDE>(burst, shape, chosen, only, exits);
            if written == len { burst.all() } else { burst.v6.first(written) }
        } else {
            let written = alike::<P, false, WIDE>(burst, shape, chosen, only, exits);
            if written == len { burst.all() } else { burst.v4.first(written) }
        }
    } else {
        fetch_fronts(burst, usize::from(exits.longest_l2).saturating_sub(ethernet::HEADER_LEN));
        mixed::<P, false, WIDE>(burst, chosen, exits) | mixed::<P, true, WIDE>(burst, chosen, exits)
    };
    if is_special(burst) {
        finish(burst, chosen, exits, left);
    }
    left
}

/// Asks for so many bytes before frames that may grow, if nobody has: they are in no near cache.
#[inline(always)]
fn fetch_fronts<P: Packet>(burst: &Burst<P>, before: usize) {
    if burst.fetched || before == 0 {
        return;
    }
    for packet in burst.packets[..burst.len.min(BURST)].iter().flatten() {
        packet.prefetch_front(before);
    }
}

/// Lengths of L2 headers, the same for all of a burst's packets.
#[derive(Clone, Copy)]
struct Shape {
    /// What it is, in bytes.
    l2_len: u8,
    /// By how much longer it is than it was, in bytes.
    growth: i16,
}

impl Shape {
    #[inline(always)]
    fn new(exit: Exit, l3_offset: u8) -> Self {
        Self { l2_len: exit.l2_len(), growth: i16::from(exit.l2_len()) - i16::from(l3_offset) }
    }

    /// That of all, if it is one, and they are of one family.
    #[inline(always)]
    fn of<P>(burst: &Burst<P>, chosen: &[Exit]) -> Option<Self> {
        if burst.v4.len.max(burst.v6.len) != chosen.len() {
            return None;
        }
        let first = *chosen.first()?;
        let differ =
            |all: &[Exit]| all.iter().fold(0, |differ, exit| differ | (exit.l2_len() ^ first.l2_len()));
        let differ = of_whole(chosen, differ);
        let l3_offset = common(&burst.l3_offset[..chosen.len()])?;
        (differ == 0).then(|| Self::new(first, l3_offset))
    }
}

/// Where all packets are of one family and shape. Returns how many were written; the next has no exit, or too little room.
#[inline(always)]
fn alike<P: Packet, const V6: bool, const WIDE: bool>(
    burst: &mut Burst<P>,
    shape: Shape,
    chosen: &[Exit; BURST],
    only: Option<Exit>,
    exits: &Exits,
) -> usize {
    let line = |exit: Exit| exits.lines.get(exit.adjacency().0 as usize);
    match only {
        Some(exit) => {
            // A copy, so that nothing that is written to packets could change it.
            let Some(only) = line(exit).copied() else { return 0 };
            of_shape::<P, V6, WIDE>(burst, shape, |_| Some(&only))
        }
        None => of_shape::<P, V6, WIDE>(burst, shape, |i| line(chosen[i])),
    }
}

/// The same; `line` says which header is each packet's.
#[inline(always)]
fn of_shape<'a, P: Packet, const V6: bool, const WIDE: bool>(
    burst: &mut Burst<P>,
    shape: Shape,
    line: impl Fn(usize) -> Option<&'a Line>,
) -> usize {
    // A growth that is known at compile time is not asked about for each packet.
    match shape.growth {
        0 => each::<P, V6, WIDE>(burst, Shape { growth: 0, ..shape }, line),
        _ => each::<P, V6, WIDE>(burst, shape, line),
    }
}

#[inline(always)]
fn each<'a, P: Packet, const V6: bool, const WIDE: bool>(
    burst: &mut Burst<P>,
    shape: Shape,
    line: impl Fn(usize) -> Option<&'a Line>,
) -> usize {
    let change = Change::new::<V6>(shape.l2_len);
    let len = burst.len.min(BURST);
    for i in 0..len {
        let (Some(line), Some(packet)) = (line(i), &mut burst.packets[i]) else { return i };
        let Some(lead) = packet.regrow(shape.growth, true) else { return i };
        change.write::<WIDE>(lead, line);
        if !V6 {
            age(lead, shape.l2_len, burst.aged[i]);
        }
    }
    len
}

/// Any packets of a family. Returns those that were written, as bits.
#[inline(always)]
fn mixed<P: Packet, const V6: bool, const WIDE: bool>(
    burst: &mut Burst<P>,
    chosen: &[Exit; BURST],
    exits: &Exits,
) -> u64 {
    let len = if V6 { burst.v6.len } else { burst.v4.len }.min(BURST);
    let mut left = 0;
    for at in 0..len {
        let i = if V6 { burst.v6.at(at) } else { burst.v4.at(at) };
        let exit = chosen[i];
        let line = exits.lines.get(exit.adjacency().0 as usize);
        let (Some(line), Some(packet)) = (line, &mut burst.packets[i]) else { continue };
        let shape = Shape::new(exit, burst.l3_offset[i]);
        let Some(lead) = packet.regrow(shape.growth, false) else { continue };
        Change::new::<V6>(shape.l2_len).write::<WIDE>(lead, line);
        if !V6 {
            age(lead, shape.l2_len, burst.aged[at]);
        }
        left |= 1 << i;
    }
    left
}

/// Puts TTL and checksum as they are to leave into an IPv4 header.
#[inline(always)]
fn age(lead: &mut [u8; LEAD], l2_len: u8, aged: u32) {
    let ttl = usize::from(l2_len).min(MAX_L2_LEN) + ipv4::TTL;
    lead[ttl..ttl + 4].copy_from_slice(&aged.to_le_bytes());
}

/// Words of a frame's start that are written at once.
#[derive(Clone, Copy)]
#[repr(align(32))]
struct Start([u64; 4]);

/// What becomes of the start of frames with L2 headers of a length.
#[derive(Clone, Copy)]
struct Change {
    /// What stays: the ethertype, and what is behind it.
    kept: &'static Start,
    /// What is taken off that: 1 off an IPv6 hop limit.
    off: Option<&'static Start>,
}

/// Where the tables have a length of L2 headers: 18 bytes at 0, 22 at 1, 14 at 3.
const fn place_of(l2_len: u8) -> usize {
    (l2_len >> 2 & 3) as usize
}

impl Change {
    #[inline(always)]
    fn new<const V6: bool>(l2_len: u8) -> Self {
        let at = place_of(l2_len);
        Self { kept: &KEPT[at], off: V6.then_some(&HOP[at]) }
    }

    /// Makes it that of a frame with this L2 header. An IPv6 hop limit is not 0.
    #[inline(always)]
    fn write<const WIDE: bool>(self, lead: &mut [u8; LEAD], line: &Line) {
        let Some(start) = lead.first_chunk_mut() else { return };
        #[cfg(all(target_arch = "x86_64", not(miri)))]
        if WIDE {
            // SAFETY: the caller says that the processor has the features.
            #[allow(unsafe_code)]
            return unsafe { self.write_wide(start, line) };
        }
        for (k, (word, line)) in
            start.as_chunks_mut::<8>().0.iter_mut().zip(line.0.as_chunks::<8>().0).enumerate()
        {
            // No borrow leaves the hop limit.
            let old = u64::from_le_bytes(*word).wrapping_sub(self.off.map_or(0, |off| off.0[k]));
            let kept = self.kept.0[k];
            *word = (u64::from_le_bytes(*line) & !kept | old & kept).to_le_bytes();
        }
    }

    #[cfg(all(target_arch = "x86_64", not(miri)))]
    #[inline]
    #[target_feature(enable = "avx512f,avx512vl")]
    fn write_wide(self, start: &mut [u8; 32], line: &Line) {
        use std::arch::x86_64::{
            _mm256_load_si256, _mm256_loadu_si256, _mm256_storeu_si256, _mm256_sub_epi64,
            _mm256_ternarylogic_epi64,
        };
        /// Bits of the second where the first has one, else of the third.
        const SELECT: i32 = 0b1100_1010;
        // SAFETY: reads and writes of 32 bytes each, three of them aligned by their type.
        #[allow(unsafe_code)]
        unsafe {
            let kept = _mm256_load_si256(self.kept.0.as_ptr().cast());
            let line = _mm256_load_si256(line.0.as_ptr().cast());
            let mut old = _mm256_loadu_si256(start.as_ptr().cast());
            if let Some(off) = self.off {
                old = _mm256_sub_epi64(old, _mm256_load_si256(off.0.as_ptr().cast()));
            }
            _mm256_storeu_si256(
                start.as_mut_ptr().cast(),
                _mm256_ternarylogic_epi64::<SELECT>(kept, old, line),
            );
        }
    }
}

/// For each length of L2 headers, 14, 18 and 22 bytes, by [`place_of`]: `value` in `count` bytes, from byte `from`
/// behind an untagged header's start on, or as much further as the header is longer.
const fn bytes_from(from: usize, count: usize, value: u64) -> [Start; 4] {
    let mut all = [Start([0; 4]); 4];
    let mut l2_len = 14;
    while l2_len <= MAX_L2_LEN {
        let start = from + l2_len - 14;
        let mut at = start;
        while at < 32 && at < start + count {
            all[place_of(l2_len as u8)].0[at / 8] |= value << (at % 8 * 8);
            at += 1;
        }
        l2_len += 4;
    }
    all
}

static KEPT: [Start; 4] = bytes_from(14 - 2, 32, 0xff);
static HOP: [Start; 4] = bytes_from(14 + ipv6::HOP_LIMIT, 1, 1);

/// 0 if packet `i` ends where its IP packet does; anything else if it is padded.
#[inline(always)]
fn padding<P>(burst: &Burst<P>, i: usize) -> u16 {
    burst.frame_len[i] ^ burst.l3_len[i].wrapping_add(burst.l3_offset[i].into())
}

/// Whether any packet is padded, or has a priority.
#[inline(always)]
fn is_special<P>(burst: &Burst<P>) -> bool {
    let any = |len: usize| (0..len).fold(0, |any, i| any | padding(burst, i) | u16::from(burst.pcp[i]));
    // Of a whole burst the compiler knows how many there are.
    let any = if burst.len == BURST { any(BURST) } else { any(burst.len.min(BURST)) };
    any != 0
}

/// Carries packets' priorities on, and takes their padding off: behind more tags it would no longer be padding. `left`:
/// those that are ready but for that.
#[inline(never)]
fn finish<P: Packet>(burst: &mut Burst<P>, chosen: &[Exit; BURST], exits: &Exits, left: u64) {
    for i in Bits(left) {
        if burst.pcp[i] == 0 && padding(burst, i) == 0 {
            continue;
        }
        let exit = chosen[i];
        let Some(line) = exits.lines.get(exit.adjacency().0 as usize) else { continue };
        let Some(packet) = &mut burst.packets[i] else { continue };
        packet.truncate(burst.out_len[i].into());
        // The last eight bytes before the ethertype.
        let tail = usize::from(exit.l2_len()).saturating_sub(10);
        if let Some(tail) = packet.bytes_mut().get_mut(tail..).and_then(|tail| tail.first_chunk_mut()) {
            let bits = line.pcp_bits() & priority(burst.pcp[i]);
            *tail = (u64::from_le_bytes(*tail) | bits).to_le_bytes();
        }
    }
}

#[cfg(test)]
mod tests;
