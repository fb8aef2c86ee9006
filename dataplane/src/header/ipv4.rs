//! IPv4 (RFC 791, section 3.1).

use super::{be16, be32, checksum};

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

/// Takes one off the TTL of a header with a TTL of 1 or more, and mends its checksum (RFC 1624).
pub fn decrement_ttl(header: &mut [u8]) {
    let Some([ttl, protocol, high, low]) = header.get_mut(TTL..CHECKSUM + 2) else { return };
    let old = u16::from_be_bytes([*ttl, *protocol]);
    let new = old.wrapping_sub(0x0100);
    let sum = checksum::update(u16::from_be_bytes([*high, *low]), old, new).to_be_bytes();
    *ttl = ttl.wrapping_sub(1);
    (*high, *low) = (sum[0], sum[1]);
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
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
