//! `rx`: one poll of one RX queue. Frames in several buffers end here.

use crate::burst::Burst;
use crate::counters::WorkerCounters;
use crate::io::PortIo;
use crate::packet::Packet;
use crate::verdict::DropReason;

/// Polls `queue` into `burst`, whose slots are empty. Returns how many packets came.
pub fn run<I: PortIo>(
    io: &mut I,
    queue: usize,
    burst: &mut Burst<I::Packet>,
    counters: &WorkerCounters,
) -> usize {
    let received = io.rx(queue, &mut burst.packets);
    if received == 0 {
        return 0;
    }
    let port = io.rx_port(queue);
    burst.begin(port, received);
    let mut bytes = 0;
    for packet in burst.packets[..burst.len].iter().flatten() {
        packet.prefetch();
    }
    for i in 0..burst.len {
        let Some(packet) = &burst.packets[i] else { continue };
        let len = packet.bytes().len();
        burst.frame_len[i] = len as u16;
        bytes += len as u64;
        if packet.segments() != 1 {
            burst.drop_packet(i, DropReason::MultiSegment);
        }
    }
    let port = counters.port(port);
    port.received.add(received as u64);
    port.received_bytes.add(bytes);
    received
}
