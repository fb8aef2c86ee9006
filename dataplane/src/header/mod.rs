//! Header fields at their offsets, and the arithmetic on them. Each function takes the bytes from the start of
//! its header and is given enough of them; offsets are those of the RFC it names.

pub mod checksum;
pub mod ethernet;
pub mod flow;
pub mod ipv4;
pub mod ipv6;
pub mod options;
#[cfg(all(target_arch = "x86_64", not(miri)))]
pub mod places;
pub mod tcp;
#[cfg(all(target_arch = "x86_64", not(miri)))]
pub mod transpose;
#[cfg(all(target_arch = "x86_64", not(miri)))]
pub mod wide;

/// The big-endian `u16` at `at`, or 0 past the end.
pub(crate) fn be16(bytes: &[u8], at: usize) -> u16 {
    match bytes.get(at..at + 2) {
        Some(b) => u16::from_be_bytes([b[0], b[1]]),
        None => 0,
    }
}

/// The big-endian `u32` at `at`, or 0 past the end.
pub(crate) fn be32(bytes: &[u8], at: usize) -> u32 {
    match bytes.get(at..at + 4) {
        Some(b) => u32::from_be_bytes([b[0], b[1], b[2], b[3]]),
        None => 0,
    }
}

/// The big-endian `u128` at `at`, or 0 past the end.
pub(crate) fn be128(bytes: &[u8], at: usize) -> u128 {
    bytes.get(at..).and_then(<[u8]>::first_chunk::<16>).map_or(0, |b| u128::from_be_bytes(*b))
}
