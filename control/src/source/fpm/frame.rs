//! FPM's frames (FRR, fpm/fpm.h): version, type, length with the header in network byte order, then netlink messages.

/// Bytes of a frame's header.
pub const HEADER: usize = 4;
/// The longest frame.
pub const MAX_FRAME: usize = u16::MAX as usize;

/// A header that is none of ours: from here on the stream cannot be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    /// Another version.
    #[error("version {0} of the FPM protocol, not 1: is it zebra that connects?")]
    Version(u8),
    /// Another encoding.
    #[error("messages of type {0}, not 1 (netlink): load zebra with `-M dplane_fpm_nl`, not `-M fpm`")]
    Type(u8),
    /// A length that does not hold the header.
    #[error("a frame of {0} bytes, fewer than its header")]
    Length(u16),
}

/// The first frame of `bytes`: its netlink messages, and the bytes that it takes; `None` while it is not whole.
///
/// # Errors
/// The header is wrong.
pub fn frame(bytes: &[u8]) -> Result<Option<(&[u8], usize)>, FrameError> {
    match bytes {
        [version, ..] if *version != 1 => Err(FrameError::Version(*version)),
        [_, kind, ..] if *kind != 1 => Err(FrameError::Type(*kind)),
        [_, _, high, low, ..] => {
            let length = u16::from_be_bytes([*high, *low]);
            if usize::from(length) < HEADER {
                return Err(FrameError::Length(length));
            }
            let whole = bytes.get(HEADER..usize::from(length));
            Ok(whole.map(|messages| (messages, usize::from(length))))
        }
        _ => Ok(None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_frame_is_whole_or_waited_for() {
        let bytes = [1, 1, 0, 6, 7, 8, 1];
        assert_eq!(frame(&bytes), Ok(Some((&[7, 8][..], 6))));
        assert_eq!(frame(&bytes[6..]), Ok(None));
        for part in 0..6 {
            assert_eq!(frame(&bytes[..part]), Ok(None));
        }
        assert_eq!(frame(&[1, 1, 0, 4]), Ok(Some((&[][..], 4))));
    }

    #[test]
    fn a_wrong_header_is_told_as_soon_as_it_shows() {
        assert_eq!(frame(&[2]), Err(FrameError::Version(2)));
        assert_eq!(frame(&[1, 2]), Err(FrameError::Type(2)));
        assert_eq!(frame(&[1, 1, 0, 3]), Err(FrameError::Length(3)));
    }

    proptest! {
        #[test]
        fn any_bytes_end(bytes in proptest::collection::vec(any::<u8>(), 0..64)) {
            if let Ok(Some((messages, taken))) = frame(&bytes) {
                prop_assert!(taken >= HEADER && taken <= bytes.len() && messages.len() == taken - HEADER);
            }
        }
    }
}
