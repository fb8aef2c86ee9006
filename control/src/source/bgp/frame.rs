//! Where a BGP message ends, and whether its header can be believed (RFC 4271, sections 4.1 and 6.1).

use rustbgpd_wire::DecodeError;

use super::protocol::HEADER_LENGTH;

const MARKER_LENGTH: usize = 16;
/// OPEN and KEEPALIVE are never extended (RFC 8654, section 3).
const MAX_OPEN_LENGTH: usize = 4096;

/// The kinds of message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Open,
    Update,
    Notification,
    Keepalive,
    RouteRefresh,
}

/// What the front of the input is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Frame {
    /// Fine so far, but not all there.
    Incomplete,
    /// A whole message, of `length` bytes with its header.
    Message { kind: Kind, length: usize },
}

/// Judges the front of `input`, by as much of the header as is there: a wrong marker is told from its first byte.
pub(super) fn check(input: &[u8], limit: usize) -> Result<Frame, DecodeError> {
    if input.iter().take(MARKER_LENGTH).any(|byte| *byte != 0xff) {
        return Err(DecodeError::InvalidMarker);
    }
    let Some(&[high, low, kind]) = input.get(MARKER_LENGTH..HEADER_LENGTH) else {
        return Ok(Frame::Incomplete);
    };
    let wire_length = u16::from_be_bytes([high, low]);
    let length = usize::from(wire_length);
    let bad_length = Err(DecodeError::InvalidLength { length: wire_length });
    if length < HEADER_LENGTH || length > limit {
        return bad_length;
    }
    let (kind, minimum, maximum) = match kind {
        1 => (Kind::Open, 29, MAX_OPEN_LENGTH),
        2 => (Kind::Update, 23, limit),
        3 => (Kind::Notification, 21, limit),
        4 => (Kind::Keepalive, HEADER_LENGTH, HEADER_LENGTH),
        5 => (Kind::RouteRefresh, 23, limit),
        other => return Err(DecodeError::UnknownMessageType(other)),
    };
    if !(minimum..=maximum).contains(&length) {
        return bad_length;
    }
    Ok(if input.len() < length { Frame::Incomplete } else { Frame::Message { kind, length } })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header(length: u16, kind: u8) -> Vec<u8> {
        let mut bytes = vec![0xff; MARKER_LENGTH];
        bytes.extend(length.to_be_bytes());
        bytes.push(kind);
        bytes
    }

    #[test]
    fn lengths_are_checked_against_the_type() {
        let bad = |length| Err(DecodeError::InvalidLength { length });
        for (length, kind) in
            [(18, 4), (0, 2), (20, 4), (28, 1), (22, 2), (20, 3), (22, 5), (4097, 2), (65535, 2)]
        {
            assert_eq!(check(&header(length, kind), 4096), bad(length), "{length} {kind}");
        }
        assert_eq!(check(&header(4097, 1), 65535), bad(4097));
        assert_eq!(check(&header(65535, 2), 65535), Ok(Frame::Incomplete));
        assert_eq!(check(&header(19, 4), 4096), Ok(Frame::Message { kind: Kind::Keepalive, length: 19 }));
        assert_eq!(check(&header(19, 6), 4096), Err(DecodeError::UnknownMessageType(6)));
    }

    #[test]
    fn a_wrong_marker_is_told_from_its_first_byte() {
        assert_eq!(check(b"G", 4096), Err(DecodeError::InvalidMarker));
        assert_eq!(check(&[0xff; 5], 4096), Ok(Frame::Incomplete));
        assert_eq!(check(&[], 4096), Ok(Frame::Incomplete));
    }
}
