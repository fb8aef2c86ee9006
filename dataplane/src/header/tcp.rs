//! TCP (RFC 9293, section 3.1): as much of it as a router touches.

use super::{be16, checksum, options};

/// Length of a header without options, in bytes.
pub const MIN_HEADER_LEN: usize = 20;
/// The protocol number.
pub const PROTOCOL: u8 = 6;
const CHECKSUM: usize = 16;
const SYN: u8 = 0x02;
/// Maximum segment size: type, length (4), and the size in two bytes.
const MSS: u8 = 2;

/// Lowers each segment size in the options of a SYN or SYN-ACK, from its header on, to `limit`, and mends the checksum
/// (RFC 1624). A segment whose options are malformed, or cut short, stays as it is.
pub fn clamp_mss(segment: &mut [u8], limit: u16) {
    if segment.len() < MIN_HEADER_LEN || segment[13] & SYN == 0 {
        return;
    }
    let header_len = usize::from(segment[12] >> 4) * 4;
    let Some(header) = segment.get_mut(..header_len).filter(|header| header.len() > MIN_HEADER_LEN) else {
        return;
    };
    let right =
        |found: Result<options::Found, _>| found.is_ok_and(|found| found.kind != MSS || found.len == 4);
    if !options::walk(&header[MIN_HEADER_LEN..]).all(right) {
        return;
    }
    let mut from = MIN_HEADER_LEN;
    while let Some(at) = next_mss(&header[from..]).map(|at| from + at) {
        lower(header, at + 2, limit);
        from = at + 4;
    }
}

/// Where the next segment size option starts.
fn next_mss(options: &[u8]) -> Option<usize> {
    options::walk(options).flatten().find(|found| found.kind == MSS).map(|found| found.at)
}

/// Lowers the two bytes at `at`, which may be the last of one word of the checksum and the first of the next.
fn lower(header: &mut [u8], at: usize, limit: u16) {
    let old = be16(header, at);
    if old <= limit {
        return;
    }
    header[at..at + 2].copy_from_slice(&limit.to_be_bytes());
    let (old, new) = if at.is_multiple_of(2) { (old, limit) } else { (old.swap_bytes(), limit.swap_bytes()) };
    let sum = checksum::update(be16(header, CHECKSUM), old, new);
    header[CHECKSUM..CHECKSUM + 2].copy_from_slice(&sum.to_be_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn segment(flags: u8, options: &[u8]) -> Vec<u8> {
        let mut segment = vec![0x12, 0x34, 0, 80, 0, 0, 0, 1, 0, 0, 0, 2, 0, flags, 0xff, 0xff, 0, 0, 0, 0];
        segment[12] = (((20 + options.len()) / 4) << 4) as u8;
        segment.extend(options);
        segment
    }

    fn clamped(flags: u8, options: &[u8], limit: u16) -> Vec<u8> {
        let mut segment = segment(flags, options);
        clamp_mss(&mut segment, limit);
        segment[20..].to_vec()
    }

    #[test]
    fn sizes_are_lowered_never_raised_and_only_where_a_connection_opens() {
        let offer = [2, 4, 0x05, 0xb4];
        for syn in [0x02, 0x12] {
            assert_eq!(clamped(syn, &offer, 1360), [2, 4, 0x05, 0x50]);
            assert_eq!(clamped(syn, &offer, 1460), offer);
            assert_eq!(clamped(syn, &offer, 9000), offer);
        }
        for other in [0x10, 0x04, 0x18] {
            assert_eq!(clamped(other, &offer, 1360), offer);
        }
        // At an odd place, and one of several.
        assert_eq!(clamped(2, &[1, 2, 4, 0x05, 0xb4, 1, 1, 0], 1360), [1, 2, 4, 0x05, 0x50, 1, 1, 0]);
        let two = [4, 2, 2, 4, 0x05, 0xb4, 2, 4, 0x23, 0x28, 1, 0];
        assert_eq!(clamped(2, &two, 1360), [4, 2, 2, 4, 0x05, 0x50, 2, 4, 0x05, 0x50, 1, 0]);
        // Behind the end of the list there are no options.
        assert_eq!(clamped(2, &[0, 2, 4, 0x05, 0xb4, 0, 0, 0], 1360), [0, 2, 4, 0x05, 0xb4, 0, 0, 0]);
    }

    #[test]
    fn what_is_malformed_stays() {
        for options in [
            &[2, 3, 0x05, 0xb4][..],
            &[2, 4, 0x05, 0xb4, 8, 1, 0, 0],
            &[2, 4, 0x05, 0xb4, 8, 9, 0, 0],
            &[2, 4, 0x05, 0xb4, 1, 1, 1, 8],
            &[2, 4, 0x05, 0xb4, 2, 6, 9, 9],
            &[1, 1, 2, 4],
        ] {
            assert_eq!(clamped(2, options, 500), options, "{options:?}");
        }
        // A header that is longer than the segment, or shorter than a header is.
        for (offset, len) in [(0xf0, 24), (0x40, 24), (0x50, 24), (0x60, 23), (0x60, 19), (0x60, 0)] {
            let mut short = segment(2, &[2, 4, 0x05, 0xb4]);
            short[12] = offset;
            short.truncate(len);
            let before = short.clone();
            clamp_mss(&mut short, 500);
            assert_eq!(short, before, "{offset:x}, {len}");
        }
    }

    proptest! {
        /// Whatever the options are, nothing but the sizes and the checksum changes, and a right checksum stays right.
        #[test]
        fn the_checksum_stays_right(
            options in prop::collection::vec(prop_oneof![Just(0u8), Just(1), Just(2), Just(4), any::<u8>()], 0..=10),
            payload in prop::collection::vec(any::<u8>(), 0..9),
            limit: u16,
        ) {
            let options = [&options[..], &vec![1; options.len().next_multiple_of(4) - options.len()]].concat();
            let mut packet = segment(2, &options);
            packet.extend(payload);
            let sum = !checksum::sum(&packet);
            packet[16..18].copy_from_slice(&sum.to_be_bytes());
            let before = packet.clone();
            clamp_mss(&mut packet, limit);
            prop_assert_eq!(checksum::sum(&packet), 0xffff);
            for (at, (old, new)) in before.iter().zip(&packet).enumerate() {
                prop_assert!(old == new || (16..18).contains(&at) || (20..20 + options.len()).contains(&at));
            }
        }

        #[test]
        fn arbitrary_bytes_do_no_harm(mut bytes in prop::collection::vec(any::<u8>(), 0..80), limit: u16) {
            if let Some(flags) = bytes.get_mut(13) {
                *flags |= SYN;
            }
            clamp_mss(&mut bytes, limit);
        }
    }
}
