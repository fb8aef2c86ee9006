//! Has a NIC put on the tag of frames that leave: right before a frame is sent, its tag is taken out and told to the NIC.
//! The stages, the counters and whoever watches see frames with their tags. What is not sent has its tag again.

use crate::header::{be16, ethernet, ipv6};
use crate::packet::Packet;

/// A TX queue of a port that may put tags on.
pub trait TagQueue {
    /// Its packet buffers.
    type Packet: Packet;

    /// The TCI of the tag that it is to put on a packet, in host byte order.
    fn told_tag(packet: &Self::Packet) -> Option<u16>;

    /// Has it put on a tag of this TCI, or none.
    fn tell_tag(packet: &mut Self::Packet, tci: Option<u16>);

    /// Has the driver do beforehand what it does in software. Returns how many packets at the front are ready; the
    /// driver refuses the one behind.
    fn prepare(&mut self, packets: &mut [Option<Self::Packet>]) -> usize;

    /// As [`PortIo::tx`](crate::io::PortIo::tx).
    fn burst(&mut self, packets: &mut [Option<Self::Packet>]) -> usize;
}

/// Which frames have their tag put on by the NIC, of those that have one tag, of TPID 0x8100. Others leave as they are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Which {
    /// IP packets, but not neighbour discovery. What finds neighbours does not depend on the NIC.
    Ip,
    /// All.
    Any,
}

/// Sends packets as [`PortIo::tx`](crate::io::PortIo::tx) does.
pub fn send<Q: TagQueue>(queue: &mut Q, packets: &mut [Option<Q::Packet>], which: Which) -> usize {
    for packet in packets.iter_mut().flatten() {
        take_tag::<Q>(packet, which);
    }
    let ready = queue.prepare(packets).min(packets.len());
    let sent = queue.burst(&mut packets[..ready]);
    if sent < packets.len() { unsent(queue, packets, ready, sent) } else { sent }
}

/// Gives what was not sent its tag again. What the driver refuses is sent so.
#[cold]
#[inline(never)]
fn unsent<Q: TagQueue>(queue: &mut Q, packets: &mut [Option<Q::Packet>], ready: usize, sent: usize) -> usize {
    let Some(rest) = packets.get_mut(sent..) else { return sent };
    rest.iter_mut().flatten().for_each(put_back::<Q>);
    if sent == ready { sent + queue.burst(rest) } else { sent }
}

fn take_tag<Q: TagQueue>(packet: &mut Q::Packet, which: Which) {
    let Some((header, rest)) = packet.bytes_mut().split_first_chunk_mut::<18>() else { return };
    let (tci, ethertype) = (be16(header, 14), be16(header, 16));
    let fits = match which {
        Which::Ip if ethertype == ethernet::IPV6 => !ipv6::is_neighbour_discovery(rest),
        Which::Ip => ethertype == ethernet::IPV4,
        Which::Any => !ethernet::is_tpid(ethertype),
    };
    if be16(header, 12) != ethernet::TPID_8021Q || !fits {
        return;
    }
    header.copy_within(..12, 4);
    // It is long enough.
    if packet.trim_front(4) {
        Q::tell_tag(packet, Some(tci));
    }
}

fn put_back<Q: TagQueue>(packet: &mut Q::Packet) {
    // The driver may have done it already.
    let Some(tci) = Q::told_tag(packet) else { return };
    Q::tell_tag(packet, None);
    // It was there before.
    if packet.prepend(4) {
        let frame = packet.bytes_mut();
        frame.copy_within(4..16, 0);
        frame[12..14].copy_from_slice(&ethernet::TPID_8021Q.to_be_bytes());
        frame[14..16].copy_from_slice(&tci.to_be_bytes());
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::packet::{HeapPacket, StrippedTags};

    /// A driver that sends so many, refuses to prepare the one of that place, and puts tags on at either time.
    struct Driver {
        room: usize,
        refuses: usize,
        while_preparing: bool,
        sent: Vec<(Vec<u8>, bool)>,
    }

    fn insert(packet: &HeapPacket) -> HeapPacket {
        let mut bytes = packet.bytes().to_vec();
        if let Some(tci) = Driver::told_tag(packet) {
            bytes.splice(12..12, [0x81, 0, (tci >> 8) as u8, tci as u8]);
        }
        HeapPacket::new(&bytes)
    }

    impl TagQueue for Driver {
        type Packet = HeapPacket;

        // What is told to a NIC on the way out stands where a NIC tells of it on the way in.
        fn told_tag(packet: &HeapPacket) -> Option<u16> {
            match packet.stripped {
                StrippedTags::One(tci) => Some(tci),
                _ => None,
            }
        }

        fn tell_tag(packet: &mut HeapPacket, tci: Option<u16>) {
            packet.stripped = tci.map_or(StrippedTags::None, StrippedTags::One);
        }

        fn prepare(&mut self, packets: &mut [Option<HeapPacket>]) -> usize {
            let ready = packets.len().min(self.refuses);
            if self.while_preparing {
                packets[..ready].iter_mut().flatten().for_each(|packet| *packet = insert(packet));
            }
            ready
        }

        fn burst(&mut self, packets: &mut [Option<HeapPacket>]) -> usize {
            let sent = packets.len().min(self.room);
            for packet in packets[..sent].iter_mut().filter_map(Option::take) {
                self.sent.push((insert(&packet).bytes().to_vec(), Driver::told_tag(&packet).is_some()));
            }
            self.room -= sent;
            sent
        }
    }

    /// A frame with these tags (TPID and TCI), this ethertype and so many bytes behind.
    fn frame(tags: &[(u16, u16)], ethertype: u16, len: usize) -> Vec<u8> {
        let mut frame: Vec<u8> = (1..=12).collect();
        for (tpid, tci) in tags {
            frame.extend(tpid.to_be_bytes());
            frame.extend(tci.to_be_bytes());
        }
        frame.extend(ethertype.to_be_bytes());
        frame.extend((0..len).map(|i| i as u8));
        frame
    }

    fn any_frame() -> impl Strategy<Value = Vec<u8>> {
        let tpid = prop_oneof![4 => Just(0x8100u16), 1 => Just(0x88a8), 1 => any::<u16>()];
        let ethertype = prop_oneof![Just(0x0800u16), Just(0x86dd), Just(0x0806), Just(0x8100), any::<u16>()];
        let tags = prop::collection::vec((tpid, any::<u16>()), 0..3);
        (tags, ethertype, 0..80usize, 0..100usize, any::<bool>()).prop_map(
            |(tags, ethertype, len, cut, discovery)| {
                let mut frame = frame(&tags, ethertype, len);
                if discovery && len > 40 {
                    let start = frame.len() - len;
                    (frame[start + 6], frame[start + 40]) = (58, 135);
                }
                // A few are shorter than a header.
                frame.truncate(if cut < 20 { cut } else { frame.len() });
                frame
            },
        )
    }

    proptest! {
        #[test]
        fn frames_leave_as_they_would_with_tags_by_software(
            frames in prop::collection::vec(any_frame(), 0..70),
            room in 0..80usize,
            refuses in 0..80usize,
            while_preparing in any::<bool>(),
            any in any::<bool>(),
        ) {
            let mut driver = Driver { room, refuses, while_preparing, sent: Vec::new() };
            let mut packets: Vec<_> = frames.iter().map(|frame| Some(HeapPacket::new(frame))).collect();
            let sent = send(&mut driver, &mut packets, if any { Which::Any } else { Which::Ip });
            prop_assert_eq!(sent, frames.len().min(room));
            let sent_frames: Vec<_> = driver.sent.iter().map(|(frame, _)| frame.clone()).collect();
            prop_assert_eq!(&sent_frames[..], &frames[..sent]);
            prop_assert!(packets[..sent].iter().all(Option::is_none));
            for (packet, frame) in packets[sent..].iter().flatten().zip(&frames[sent..]) {
                prop_assert_eq!(packet.bytes(), &frame[..]);
                prop_assert_eq!(Driver::told_tag(packet), None);
            }
        }
    }

    #[test]
    fn the_nic_puts_on_the_tag_of_ip_packets_with_one() {
        let one = [(0x8100, 0x6005)];
        let two = [(0x8100, 7), (0x8100, 5)];
        let discovery = [frame(&one, 0x86dd, 6), vec![58, 255], vec![0; 32], vec![135], vec![0; 23]].concat();
        for (which, by_nic) in [(Which::Ip, false), (Which::Any, true)] {
            let mut driver =
                Driver { room: 1, refuses: usize::MAX, while_preparing: false, sent: Vec::new() };
            assert_eq!(send(&mut driver, &mut [Some(HeapPacket::new(&discovery))], which), 1);
            assert_eq!(driver.sent, [(discovery.clone(), by_nic)], "neighbour discovery, {which:?}");
        }
        for (tags, ethertype, which, by_nic) in [
            (&one[..], 0x0800, Which::Ip, true),
            (&one, 0x86dd, Which::Ip, true),
            (&one, 0x0806, Which::Ip, false),
            (&one, 0x0806, Which::Any, true),
            (&[], 0x0800, Which::Any, false),
            (&[(0x88a8, 5)], 0x0800, Which::Any, false),
            (&two, 0x0800, Which::Any, false),
        ] {
            let frame = frame(tags, ethertype, 46);
            let mut driver =
                Driver { room: 1, refuses: usize::MAX, while_preparing: false, sent: Vec::new() };
            assert_eq!(send(&mut driver, &mut [Some(HeapPacket::new(&frame))], which), 1);
            assert_eq!(driver.sent, [(frame, by_nic)], "{tags:?} {ethertype:#x} {which:?}");
        }
    }
}
