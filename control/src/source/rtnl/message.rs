//! The messages of a datagram or frame (RFC 3549, section 2.3.2), in the byte order of this machine.

use super::RtnlError;

/// Bytes of a message's header.
pub const HEADER: usize = 16;
/// It is part of a dump.
pub const NLM_F_MULTI: u16 = 2;
/// The dump that it is part of is not consistent.
pub const NLM_F_DUMP_INTR: u16 = 0x10;
/// It takes the place of what there was.
pub const NLM_F_REPLACE: u16 = 0x100;
/// It comes behind what there was.
pub const NLM_F_APPEND: u16 = 0x800;

/// One message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Message<'a> {
    /// `RTM_…`.
    pub kind: u16,
    /// `NLM_F_…`.
    pub flags: u16,
    /// The request that it answers.
    pub sequence: u32,
    /// What follows the header.
    pub body: &'a [u8],
}

/// The messages in `bytes`. After one with a wrong length nothing can be found any more: it is the last item.
pub fn messages(bytes: &[u8]) -> impl Iterator<Item = Result<Message<'_>, RtnlError>> {
    let mut rest = bytes;
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        let left = std::mem::take(&mut rest);
        let said = field(left).map_or(0, |length| u32::from_ne_bytes(length) as usize);
        let Some(message) = left.get(..said).filter(|m| m.len() >= HEADER) else {
            return Some(Err(RtnlError::Length { said, left: left.len() }));
        };
        rest = left.get(said.next_multiple_of(4)..).unwrap_or_default();
        Some(Ok(Message {
            kind: u16::from_ne_bytes([message[4], message[5]]),
            flags: u16::from_ne_bytes([message[6], message[7]]),
            sequence: u32::from_ne_bytes([message[8], message[9], message[10], message[11]]),
            body: &message[HEADER..],
        }))
    })
}

/// The first bytes as an array.
pub(super) fn field<const N: usize>(bytes: &[u8]) -> Option<[u8; N]> {
    bytes.first_chunk().copied()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn any_bytes_end(mut bytes in proptest::collection::vec(any::<u8>(), 0..200), length in 0u32..64) {
            if let Some(head) = bytes.first_chunk_mut() {
                *head = length.to_ne_bytes();
            }
            prop_assert!(messages(&bytes).count() <= bytes.len() / HEADER + 1);
        }
    }

    #[test]
    fn two_messages_then_a_stray_byte() {
        let mut noop = vec![17, 0, 0, 0, 1, 0, 0, 0, 7, 0, 0, 0, 0, 0, 0, 0, 42, 0, 0, 0];
        noop.extend(noop.clone());
        noop.push(9);
        let all: Vec<_> = messages(&noop).collect();
        assert_eq!(all[0], Ok(Message { kind: 1, flags: 0, sequence: 7, body: &[42] }));
        assert_eq!(all[1], all[0]);
        assert_eq!(all[2..], [Err(RtnlError::Length { said: 0, left: 1 })]);
    }
}
