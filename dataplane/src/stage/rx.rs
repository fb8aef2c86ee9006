//! `rx`: one poll of one RX queue.

use crate::burst::Burst;
use crate::io::PortIo;

/// Polls `queue` into `burst`, whose slots are empty. Returns how many packets came.
#[inline(always)]
pub fn run<I: PortIo>(io: &mut I, queue: usize, burst: &mut Burst<I::Packet>) -> usize {
    let received = io.rx(queue, &mut burst.packets);
    if received == 0 {
        return 0;
    }
    let port = io.rx_port(queue);
    burst.begin(port, received);
    received
}
