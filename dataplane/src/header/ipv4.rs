//! IPv4 (RFC 791, section 3.1).

use super::{be16, be32, checksum, tcp};

/// Length of a header without options, in bytes.
pub const MIN_HEADER_LEN: usize = 20;
/// Offset of the TTL.
pub const TTL: usize = 8;
/// Offset of the header checksum.
pub const CHECKSUM: usize = 10;

/// Header length, in bytes, as the header states it.
pub fn header_len(header: &[u8]) -> usize {
    header.first().map_or(0, |b| usize::from(b & 0x0f) * 4)
}

/// Total length, in bytes.
pub fn total_len(header: &[u8]) -> u16 {
    be16(header, 2)
}

/// Flags and fragment offset.
pub fn fragment_field(header: &[u8]) -> u16 {
    be16(header, 6)
}

/// Whether it is a fragment, the first included.
pub fn is_fragment(header: &[u8]) -> bool {
    fragment_field(header) & 0x3fff != 0
}

/// Whether it must not be fragmented.
pub fn dont_fragment(header: &[u8]) -> bool {
    fragment_field(header) & 0x4000 != 0
}

/// Whether an address, host byte order, is link-local (RFC 3927).
pub const fn is_link_local(address: u32) -> bool {
    address >> 16 == 0xa9fe
}

/// Protocol.
pub fn protocol(header: &[u8]) -> u8 {
    header.get(9).copied().unwrap_or(0)
}

/// Source address, host byte order.
pub fn source(header: &[u8]) -> u32 {
    be32(header, 12)
}

/// Destination address, host byte order.
pub fn destination(header: &[u8]) -> u32 {
    be32(header, 16)
}

/// Whether an address, host byte order, is for private use (RFC 1918), or shared within a provider (RFC 6598).
pub const fn is_private_or_shared(address: u32) -> bool {
    address >> 24 == 10 || address >> 20 == 0xac1 || address >> 16 == 0xc0a8 || address >> 22 == 0x6440 >> 6
}

/// The TOS byte: DSCP and, in its two low bits, ECN.
pub fn tos(header: &[u8]) -> u8 {
    header.get(1).copied().unwrap_or(0)
}

/// Sets the TOS byte, and mends the checksum (RFC 1624).
pub fn set_tos(header: &mut [u8], tos: u8) {
    let Some(header) = header.first_chunk_mut::<MIN_HEADER_LEN>() else { return };
    let old = u16::from_be_bytes([header[0], header[1]]);
    header[1] = tos;
    let sum = checksum::update(be16(header, CHECKSUM), old, u16::from_be_bytes([header[0], tos]));
    header[CHECKSUM..CHECKSUM + 2].copy_from_slice(&sum.to_be_bytes());
}

/// Where the TCP header of a packet starts; `None` if it has none.
pub fn tcp(packet: &[u8]) -> Option<usize> {
    (protocol(packet) == tcp::PROTOCOL && fragment_field(packet) & 0x1fff == 0).then(|| header_len(packet))
}

/// What [`aged`] makes of a header's TTL and checksum.
pub fn aged_of(header: &[u8]) -> u32 {
    header.get(TTL..).and_then(<[u8]>::first_chunk).map_or(0, |word| aged(u32::from_le_bytes(*word)))
}

/// Takes one off the TTL of a header with a TTL of 1 or more, and mends its checksum (RFC 1624).
pub fn decrement_ttl(header: &mut [u8]) {
    let Some(field) = header.get_mut(TTL..CHECKSUM + 2).and_then(<[u8]>::first_chunk_mut::<4>) else {
        return;
    };
    *field = aged(u32::from_le_bytes(*field)).to_le_bytes();
}

/// Bytes 8 to 12 of a header, TTL, protocol and checksum, as a little-endian word, with one taken off the TTL.
#[inline(always)]
pub fn aged(word: u32) -> u32 {
    // RFC 1624, equation 3, for a word that falls by 0x0100, in the byte order of the wire: the terms other than the
    // old checksum make 0xfeff.
    let sum = (!word >> 16) + 0xfffe;
    let sum = !(sum + (sum >> 16)) << 16;
    (word & 0xffff).wrapping_sub(1) & 0xffff | sum
}

/// What is needed of a header that is as nearly every one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Expected {
    /// Total length, in bytes.
    pub len: u16,
    /// Destination, host byte order.
    pub destination: u32,
    /// What [`aged`] makes of its TTL and checksum.
    pub aged: u32,
}

/// Checks a header for all that can be wrong with it at once: `Some` if it has no options, no fault, unicast addresses
/// and a TTL above 1, as nearly every one. `room`: bytes from the header to the end of the frame. `SUM`: the checksum is
/// looked at, too.
#[inline(always)]
pub fn expected<const SUM: bool>(header: &[u8; MIN_HEADER_LEN], room: u16) -> Option<Expected> {
    let word = |at: usize| header[at..].first_chunk().map_or(0, |bytes| u64::from_le_bytes(*bytes));
    let (first, second) = (word(0), word(8));
    let destination = u32::from_le_bytes([header[16], header[17], header[18], header[19]]);
    let len = ((first >> 16) as u16).swap_bytes();
    let no_options = first as u8 == 0x45;
    let len_right = usize::from(len) >= MIN_HEADER_LEN && len <= room;
    // The one's complement sum of 16-bit words, in whatever byte order, from wider ones (RFC 1071, section 2).
    let (sum, carry) = first.overflowing_add(second);
    let (sum, carry) = sum.carrying_add(u64::from(destination), carry);
    let sum = sum + u64::from(carry);
    let sum = (sum.wrapping_add(sum.rotate_left(32)) >> 32) as u32;
    let sum_right = !SUM || sum.wrapping_add(sum.rotate_left(16)) >> 16 == 0xffff;
    // Read as they lie, 169.254/16 is 0xfea9 in the low half.
    let link_local = (second >> 32) as u16 == 0xfea9 || destination as u16 == 0xfea9;
    let special = link_local || SPECIAL[usize::from(header[12])] | SPECIAL[usize::from(header[16])];
    let lives = second as u8 > 1;
    if no_options && len_right && sum_right && !special && lives {
        return Some(Expected { len, destination: destination.swap_bytes(), aged: aged(second as u32) });
    }
    None
}

/// First bytes of the addresses that need a closer look: 0/8, 127/8, multicast and 240/4.
static SPECIAL: [bool; 256] = {
    let mut special = [false; 256];
    (special[0], special[127]) = (true, true);
    let mut octet = 224;
    while octet < 256 {
        special[octet] = true;
        octet += 1;
    }
    special
};

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn private_and_shared_addresses() {
        let is = |a: [u8; 4]| is_private_or_shared(u32::from_be_bytes(a));
        for inside in [
            [10, 0, 0, 0],
            [10, 255, 255, 255],
            [172, 16, 0, 0],
            [172, 31, 255, 255],
            [192, 168, 0, 0],
            [192, 168, 255, 255],
            [100, 64, 0, 0],
            [100, 127, 255, 255],
        ] {
            assert!(is(inside), "{inside:?}");
        }
        for outside in [
            [9, 255, 255, 255],
            [11, 0, 0, 0],
            [172, 15, 255, 255],
            [172, 32, 0, 0],
            [192, 167, 255, 255],
            [192, 169, 0, 0],
            [100, 63, 255, 255],
            [100, 128, 0, 0],
        ] {
            assert!(!is(outside), "{outside:?}");
        }
    }

    proptest! {
        #[test]
        fn the_tos_is_set_and_the_checksum_stays_right(mut header: [u8; 20], tos: u8) {
            header[0] = 0x45;
            header[CHECKSUM..CHECKSUM + 2].fill(0);
            let sum = !checksum::sum(&header);
            header[CHECKSUM..CHECKSUM + 2].copy_from_slice(&sum.to_be_bytes());
            let before = header;
            set_tos(&mut header, tos);
            prop_assert_eq!(header[1], tos);
            prop_assert_eq!(aged_of(&header).to_le_bytes()[0], header[TTL].wrapping_sub(1));
            let got = be16(&header, CHECKSUM);
            header[CHECKSUM..CHECKSUM + 2].fill(0);
            prop_assert_eq!(got, !checksum::sum(&header));
            header[1] = before[1];
            header[CHECKSUM..CHECKSUM + 2].copy_from_slice(&before[CHECKSUM..CHECKSUM + 2]);
            prop_assert_eq!(header, before);
        }

        #[test]
        fn the_ttl_goes_down_and_the_checksum_stays_right(mut header: [u8; 20]) {
            header[0] = 0x45;
            header[TTL] = header[TTL].max(1);
            header[CHECKSUM..CHECKSUM + 2].fill(0);
            let sum = !checksum::sum(&header);
            header[CHECKSUM..CHECKSUM + 2].copy_from_slice(&sum.to_be_bytes());
            let ttl = header[TTL];
            decrement_ttl(&mut header);
            prop_assert_eq!(header[TTL], ttl - 1);
            prop_assert_eq!(checksum::sum(&header), 0xffff);
            // Equal to what recomputation gives, not only valid.
            let got = be16(&header, CHECKSUM);
            header[CHECKSUM..CHECKSUM + 2].fill(0);
            prop_assert_eq!(got, !checksum::sum(&header));
        }
    }
}
