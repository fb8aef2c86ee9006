//! What each test frame carries behind its UDP header: a stamp that tells the frame from all others, then a fixed
//! pattern. Both are checked to the last byte when the frame comes back.

/// Bytes of a stamp: what a 64-byte IPv4 frame, or an 84-byte IPv6 frame, has room for.
pub const LEN: usize = 18;
/// Values that a stamp's clock can have; ticks of the time-stamp counter wrap here (after six minutes at 3 GHz).
pub const CLOCK_MASK: u64 = (1 << 40) - 1;
/// Sequence numbers that a stamp can have: enough for a day of 10 million frames a second.
pub const SEQ_MASK: u64 = (1 << 40) - 1;

/// Which frame this is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stamp {
    /// The trial, so that stragglers of an earlier one are told apart.
    pub trial: u16,
    /// The flow's number.
    pub flow: u32,
    /// Its place in the flow, from 0, cut to [`SEQ_MASK`].
    pub seq: u64,
    /// When it was handed to the port, in ticks, cut to [`CLOCK_MASK`].
    pub time: u64,
}

impl Stamp {
    /// Writes the stamp. Its last two bytes make the one's complement sum of all `0xffff` (the checksum complement of
    /// RFC 7820), so that it adds nothing to the UDP checksum, which can thus be ready-made.
    #[inline]
    pub fn write(self, to: &mut [u8; LEN]) {
        let high = u64::from(self.trial) << 48 | u64::from(self.flow) << 16 | (self.seq & SEQ_MASK) >> 24;
        let low = self.seq << 40 | self.time & CLOCK_MASK;
        to[..8].copy_from_slice(&high.to_be_bytes());
        to[8..16].copy_from_slice(&low.to_be_bytes());
        to[16..].copy_from_slice(&(!sum(high, low)).to_be_bytes());
    }

    /// Reads a stamp; `None` when its sum is wrong.
    #[inline]
    pub fn read(from: &[u8; LEN]) -> Option<Self> {
        let (words, complement) = from.split_at(16);
        let word = |at: usize| words[at..].first_chunk().map_or(0, |bytes| u64::from_be_bytes(*bytes));
        let (high, low) = (word(0), word(8));
        (complement == (!sum(high, low)).to_be_bytes()).then_some(Self {
            trial: (high >> 48) as u16,
            flow: (high >> 16) as u32,
            seq: (high & 0xffff) << 24 | low >> 40,
            time: low & CLOCK_MASK,
        })
    }
}

/// The one's complement sum of eight 16-bit words.
#[inline]
fn sum(a: u64, b: u64) -> u16 {
    let total = (a >> 32) + (a & 0xffff_ffff) + (b >> 32) + (b & 0xffff_ffff);
    let total = (total >> 16) + (total & 0xffff);
    let total = (total >> 16) + (total & 0xffff);
    ((total >> 16) + (total & 0xffff)) as u16
}

/// Ticks from one clock value of a stamp to a later one.
#[inline]
pub fn ticks_between(sent: u64, now: u64) -> u64 {
    now.wrapping_sub(sent) & CLOCK_MASK
}

/// Longest frame, in bytes without the check sequence: 9,000 bytes of IP with two tags.
pub const LONGEST: usize = 9022;

/// What every frame buffer holds from its first byte on, wherever header and stamp do not cover it. It does not repeat,
/// so that bytes which were moved are noticed.
pub static PATTERN: [u8; LONGEST] = pattern();

const fn pattern() -> [u8; LONGEST] {
    let mut bytes = [0; LONGEST];
    let mut state = 0x9e37_79b9_u32;
    let mut i = 0;
    while i < LONGEST {
        // Marsaglia's xorshift32.
        state ^= state << 13;
        state ^= state >> 17;
        state ^= state << 5;
        bytes[i] = (state >> 24) as u8;
        i += 1;
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn written(stamp: Stamp) -> [u8; LEN] {
        let mut bytes = [0; LEN];
        stamp.write(&mut bytes);
        bytes
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(trial: u16, flow: u32, seq in 0..=SEQ_MASK, time in 0..=CLOCK_MASK) {
            let stamp = Stamp { trial, flow, seq, time };
            prop_assert_eq!(Stamp::read(&written(stamp)), Some(stamp));
        }

        #[test]
        fn a_stamp_adds_nothing_to_a_checksum(trial: u16, flow: u32, seq in 0..=SEQ_MASK, time in 0..=CLOCK_MASK) {
            let sum = dataplane::header::checksum::sum(&written(Stamp { trial, flow, seq, time }));
            prop_assert_eq!(sum, 0xffff);
        }

        #[test]
        fn a_changed_bit_is_noticed(trial: u16, flow: u32, seq in 0..=SEQ_MASK, time in 0..=CLOCK_MASK, bit in 0..LEN * 8) {
            let mut bytes = written(Stamp { trial, flow, seq, time });
            bytes[bit / 8] ^= 1 << (bit % 8);
            prop_assert_eq!(Stamp::read(&bytes), None);
        }
    }

    #[test]
    fn clocks_wrap() {
        assert_eq!(ticks_between(CLOCK_MASK - 1, 3), 5);
        assert_eq!(ticks_between(CLOCK_MASK, (CLOCK_MASK + 1) * 7 + 1), 2);
    }
}
