//! What the stages need of a packet buffer, and the plain heap buffer that tests use.

use crate::adjacency::MAX_L2_LEN;

/// Bytes of the longest L2 header and of an IPv4 header up to its checksum. No frame with an IP header is shorter.
pub const LEAD: usize = MAX_L2_LEN + 12;

/// VLAN tags that a NIC took off the frame and reported beside it, as TCIs in host byte order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum StrippedTags {
    /// The frame still has all its tags.
    #[default]
    None,
    /// The outermost tag was taken off.
    One(u16),
    /// Both tags were taken off.
    Two {
        /// TCI of the outer tag.
        outer: u16,
        /// TCI of the inner tag.
        inner: u16,
    },
}

/// What a NIC says of a packet's IPv4 header checksum.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Checksum {
    /// Nothing.
    #[default]
    Unknown,
    /// It is right.
    Right,
    /// It is wrong.
    Wrong,
}

/// What is unusual about any of a burst's packets.
pub trait Oddities<P>: Default {
    /// Adds what is unusual about one more.
    fn add(&mut self, packet: &P);

    /// Whether any is not in one piece, or the NIC took a tag off.
    fn any_odd(&self) -> bool;

    /// Whether there is any whose IPv4 header checksum the NIC does not call right.
    fn any_doubt(&self) -> bool;
}

/// The same by asking each packet.
#[derive(Clone, Copy, Debug, Default)]
pub struct Asked {
    odd: bool,
    doubt: bool,
}

impl<P: Packet> Oddities<P> for Asked {
    #[inline(always)]
    fn add(&mut self, packet: &P) {
        self.odd |= packet.segments() != 1 || packet.stripped_tags() != StrippedTags::None;
        self.doubt |= packet.checksum() != Checksum::Right;
    }

    fn any_odd(&self) -> bool {
        self.odd
    }

    fn any_doubt(&self) -> bool {
        self.doubt
    }
}

/// A packet buffer: one Ethernet frame without FCS, in one piece.
///
/// # Safety
/// A packet owns its bytes, and they lie behind a pointer: [`Self::bytes`] gives the same place and length each time,
/// until it is dropped or one of the methods that take `&mut self` was called. `stage::wide` reads by the places that it
/// noted before.
#[allow(unsafe_code)] // The contract above; there is no unsafe code in what it asks for.
pub unsafe trait Packet: Sized {
    /// How what is unusual about any of a burst's packets is found out.
    type Oddities: Oddities<Self>;

    /// The bytes of the first segment, from the Ethernet header on.
    fn bytes(&self) -> &[u8];

    /// The same, to write.
    fn bytes_mut(&mut self) -> &mut [u8];

    /// Grows the frame by `count` bytes at the front; their content is unspecified. `false`: no headroom, and
    /// nothing changed.
    #[must_use]
    fn prepend(&mut self, count: usize) -> bool;

    /// Takes `count` bytes off the front. `false`: the frame is shorter than that, and nothing changed.
    #[must_use]
    fn trim_front(&mut self, count: usize) -> bool;

    /// Shortens the frame to `length` bytes; does nothing if it is not longer.
    fn truncate(&mut self, length: usize);

    /// Segments the frame is spread over; the stages take frames of one segment only.
    fn segments(&self) -> u16;

    /// Tags that the NIC took off.
    fn stripped_tags(&self) -> StrippedTags;

    /// What the NIC says of its IPv4 header checksum.
    fn checksum(&self) -> Checksum;

    /// Makes the frame that of the `l3_len` bytes from `l3_offset` on, behind `l2_len` bytes for a new L2 header, and
    /// returns it. The last two of the `l2_len`, the ethertype, stay as they were, the others are unspecified. For
    /// frames of one segment. `None`: no headroom or fewer bytes than that, and nothing changed.
    fn reframe(&mut self, l3_offset: usize, l3_len: usize, l2_len: usize) -> Option<&mut [u8]> {
        if l3_offset + l3_len > self.bytes().len() {
            return None;
        }
        let room = if l2_len > l3_offset {
            self.prepend(l2_len - l3_offset)
        } else {
            self.trim_front(l3_offset - l2_len)
        };
        if !room {
            return None;
        }
        self.truncate(l2_len + l3_len);
        Some(self.bytes_mut())
    }

    /// Makes the frame `growth` bytes longer at its front, or shorter if it is negative, and returns its first [`LEAD`]
    /// bytes; those that are new are unspecified. For frames of one segment. `None`: no headroom, or the frame would be
    /// shorter than that, and nothing changed. `sparing`: nothing is written to the buffer's description where `growth` is 0;
    /// worth it where that can be foreseen.
    fn regrow(&mut self, growth: i16, sparing: bool) -> Option<&mut [u8; LEAD]>;

    /// Hints that the headers are about to be read.
    fn prefetch(&self) {}

    /// Hints that so many bytes in front of the frame are about to be written.
    fn prefetch_front(&self, _count: usize) {}
}

/// A packet on the heap, for unit tests, property tests, fuzzing and Miri.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HeapPacket {
    buffer: Vec<u8>,
    start: usize,
    /// What `segments` reports.
    pub segments: u8,
    /// What `stripped_tags` reports.
    pub stripped: StrippedTags,
    /// What `checksum` reports.
    pub checksum: Checksum,
}

impl HeapPacket {
    /// Headroom in front of a new packet, in bytes; DPDK's default.
    pub const HEADROOM: usize = 128;

    /// A packet with `frame` in it and [`Self::HEADROOM`] in front.
    pub fn new(frame: &[u8]) -> Self {
        Self::with_headroom(frame, Self::HEADROOM)
    }

    /// The same with so many bytes in front.
    pub fn with_headroom(frame: &[u8], headroom: usize) -> Self {
        let mut buffer = vec![0; headroom];
        buffer.extend_from_slice(frame);
        Self {
            buffer,
            start: headroom,
            segments: 1,
            stripped: StrippedTags::None,
            checksum: Checksum::Unknown,
        }
    }
}

// SAFETY: its bytes are those of a vector of its own, on the heap.
#[allow(unsafe_code)]
unsafe impl Packet for HeapPacket {
    type Oddities = Asked;

    fn bytes(&self) -> &[u8] {
        &self.buffer[self.start..]
    }

    fn bytes_mut(&mut self) -> &mut [u8] {
        &mut self.buffer[self.start..]
    }

    fn prepend(&mut self, count: usize) -> bool {
        let Some(start) = self.start.checked_sub(count) else { return false };
        self.start = start;
        true
    }

    fn trim_front(&mut self, count: usize) -> bool {
        if count > self.bytes().len() {
            return false;
        }
        self.start += count;
        true
    }

    fn truncate(&mut self, length: usize) {
        self.buffer.truncate(self.start + length);
    }

    fn regrow(&mut self, growth: i16, _sparing: bool) -> Option<&mut [u8; LEAD]> {
        let start = self.start.checked_add_signed(-isize::from(growth))?;
        let lead = self.buffer.get_mut(start..)?.first_chunk_mut()?;
        self.start = start;
        Some(lead)
    }

    fn segments(&self) -> u16 {
        self.segments.into()
    }

    fn stripped_tags(&self) -> StrippedTags {
        self.stripped
    }

    fn checksum(&self) -> Checksum {
        self.checksum
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn grows_and_shrinks_within_its_room() {
        let mut packet = HeapPacket::new(&[1, 2, 3, 4]);
        assert!(packet.prepend(2));
        assert_eq!(packet.bytes().len(), 6);
        assert!(packet.trim_front(3));
        assert_eq!(packet.bytes(), &[2, 3, 4]);
        packet.truncate(10);
        assert_eq!(packet.bytes(), &[2, 3, 4]);
        packet.truncate(1);
        assert_eq!(packet.bytes(), &[2]);
        assert!(!packet.trim_front(2));
        assert!(!packet.prepend(1000));
        assert_eq!(packet.bytes(), &[2]);
    }

    #[test]
    fn grows_at_its_front_as_far_as_there_is_room() {
        let frame: Vec<u8> = (0..60).collect();
        for growth in [0, 4, 8, -4, -8, 128, -26] {
            let mut packet = HeapPacket::new(&frame);
            let lead = packet.regrow(growth, true).unwrap();
            lead[0] = 99;
            assert_eq!(
                (packet.bytes()[0], packet.bytes().len()),
                (99, 60usize.wrapping_add_signed(growth.into()))
            );
            assert_eq!(packet.bytes().last(), Some(&59));
        }
        let mut packet = HeapPacket::new(&frame);
        for growth in [129, -27, -60, -61, i16::MAX, i16::MIN] {
            assert_eq!(packet.regrow(growth, true), None);
            assert_eq!(packet.bytes(), frame);
        }
    }
}
