//! Ports in memory for counting instructions: they give out packets that were made before, and keep what is sent.

use std::vec::IntoIter;

use dataplane::ids::PortId;
use dataplane::io::PortIo;
use dataplane::packet::{Checksum, HeapPacket, StrippedTags};

/// Two ports, as long as their packets last.
pub struct Replay {
    rx: [IntoIter<HeapPacket>; 2],
    sent: [Vec<HeapPacket>; 2],
}

impl Replay {
    /// Ports that receive `count` packets each, these frames again and again. `vouched`: they call all checksums right.
    /// `stripped`: they take the outermost tag off.
    pub fn new(frames: &[Vec<Vec<u8>>; 2], count: usize, vouched: bool, stripped: bool) -> Self {
        let packet = |frame: &Vec<u8>| {
            let mut packet = HeapPacket::new(frame);
            if let (true, Some(&[0x81, 0, high, low])) = (stripped, frame.get(12..16)) {
                packet = HeapPacket::new(&[&frame[..12], &frame[16..]].concat());
                packet.stripped = StrippedTags::One(u16::from_be_bytes([high, low]));
            }
            packet.checksum = if vouched { Checksum::Right } else { Checksum::Unknown };
            packet
        };
        let packets = |frames: &[Vec<u8>]| {
            let packets: Vec<_> = frames.iter().cycle().take(count).map(packet).collect();
            packets.into_iter()
        };
        Self {
            rx: [packets(&frames[0]), packets(&frames[1])],
            sent: std::array::from_fn(|_| Vec::with_capacity(2 * count)),
        }
    }

    /// Packets that were sent.
    pub fn sent(&self) -> usize {
        self.sent.iter().map(Vec::len).sum()
    }
}

impl PortIo for Replay {
    type Packet = HeapPacket;

    fn rx_queues(&self) -> usize {
        self.rx.len()
    }

    fn rx_port(&self, queue: usize) -> PortId {
        PortId(queue as u16)
    }

    fn tx_ports(&self) -> usize {
        self.sent.len()
    }

    // Not inlined: the stages are what is counted, and must not be mixed up with this.
    #[inline(never)]
    fn rx(&mut self, queue: usize, out: &mut [Option<HeapPacket>]) -> usize {
        let mut received = 0;
        for (slot, packet) in out.iter_mut().zip(self.rx[queue].by_ref()) {
            *slot = Some(packet);
            received += 1;
        }
        received
    }

    #[inline(never)]
    fn tx(&mut self, port: PortId, packets: &mut [Option<HeapPacket>]) -> usize {
        let Some(sent) = self.sent.get_mut(usize::from(port.0)) else { return 0 };
        let before = sent.len();
        sent.extend(packets.iter_mut().map_while(Option::take));
        sent.len() - before
    }

    fn cycles(&self) -> u64 {
        0
    }
}

#[cfg(test)]
mod tests {
    use dataplane::packet::Packet as _;

    use super::*;

    #[test]
    fn each_packet_is_given_out_once() {
        let mut io = Replay::new(&[vec![vec![1], vec![2]], vec![vec![3]]], 3, false, false);
        let mut slots = [const { None }; 2];
        assert_eq!(io.rx(0, &mut slots), 2);
        assert_eq!(slots[1].as_ref().unwrap().bytes(), [2]);
        assert_eq!(io.tx(PortId(1), &mut slots), 2);
        // One more than asked for must not be lost.
        assert_eq!(io.rx(0, &mut slots), 1);
        assert_eq!(slots[0].as_ref().unwrap().bytes(), [1]);
        assert_eq!((io.rx(0, &mut [None]), io.sent()), (0, 2));
    }
}
