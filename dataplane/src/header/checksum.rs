//! The Internet checksum (RFC 1071) and its incremental update (RFC 1624).

/// One's complement sum of `bytes` as big-endian 16-bit words, folded; an odd last byte counts as the high half
/// of a word. The checksum of a header is the complement of this; over a header with a right checksum it is
/// `0xffff`.
pub fn sum(bytes: &[u8]) -> u16 {
    let mut total = 0u64;
    let mut words = bytes.chunks_exact(4);
    for word in &mut words {
        total += u64::from(u32::from_be_bytes([word[0], word[1], word[2], word[3]]));
    }
    total += match *words.remainder() {
        [a, b, c] => (u64::from(a) << 8 | u64::from(b)) + (u64::from(c) << 8),
        [a, b] => u64::from(a) << 8 | u64::from(b),
        [a] => u64::from(a) << 8,
        _ => 0,
    };
    fold(total)
}

fn fold(mut total: u64) -> u16 {
    total = (total & 0xffff_ffff) + (total >> 32);
    total = (total & 0xffff) + (total >> 16);
    total = (total & 0xffff) + (total >> 16);
    total = (total & 0xffff) + (total >> 16);
    total as u16
}

/// The checksum after one 16-bit word of its header changed from `old` to `new` (RFC 1624, equation 3).
pub fn update(checksum: u16, old: u16, new: u16) -> u16 {
    !fold(u64::from(!checksum) + u64::from(!old) + u64::from(new))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// The definition, word by word.
    fn plain_sum(bytes: &[u8]) -> u16 {
        let mut total = 0u32;
        for pair in bytes.chunks(2) {
            total += u32::from(pair[0]) << 8 | pair.get(1).map_or(0, |b| u32::from(*b));
            total = (total & 0xffff) + (total >> 16);
        }
        total as u16
    }

    #[test]
    fn the_example_of_rfc_1071() {
        assert_eq!(sum(&[0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7]), 0xddf2);
    }

    proptest! {
        #[test]
        fn sums_as_defined(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            prop_assert_eq!(sum(&bytes), plain_sum(&bytes));
        }

        #[test]
        fn an_update_equals_recomputation(mut words in prop::collection::vec(any::<u16>(), 2..30), at: usize, new: u16) {
            let bytes = |words: &[u16]| words.iter().flat_map(|w| w.to_be_bytes()).collect::<Vec<_>>();
            // Word 0 is the checksum. RFC 1624 needs one word that is not zero, as every IP header has.
            words[0] = 0;
            words[1] |= 0x4000;
            let checksum = !sum(&bytes(&words));
            let at = 1 + at % (words.len() - 1);
            let new = if at == 1 { new | 0x4000 } else { new };
            let updated = update(checksum, words[at], new);
            words[at] = new;
            prop_assert_eq!(updated, !sum(&bytes(&words)));
        }
    }
}
