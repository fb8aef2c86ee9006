//! How a worker reaches its ports: implemented by the DPDK adapter, and by plain queues in tests.

use crate::ids::PortId;
use crate::packet::Packet;
use crate::stage::Stage;

/// The RX queues that one worker polls, and its TX queue on every port.
pub trait PortIo {
    /// Its packet buffers.
    type Packet: Packet;

    /// RX queues it polls, numbered from 0.
    fn rx_queues(&self) -> usize;

    /// The port of an RX queue.
    fn rx_port(&self, queue: usize) -> PortId;

    /// Ports it can send on, numbered from 0.
    fn tx_ports(&self) -> usize;

    /// Receives into the front of `out`, whose slots are empty; returns how many.
    fn rx(&mut self, queue: usize, out: &mut [Option<Self::Packet>]) -> usize;

    /// Sends the packets at the front of `packets`, up to the first empty slot. Returns how many were taken:
    /// their slots are empty now, the others are left.
    fn tx(&mut self, port: PortId, packets: &mut [Option<Self::Packet>]) -> usize;

    /// The same for packets whose tag the port is to put on, to see whether it does.
    fn tx_tag_by_nic(&mut self, port: PortId, packets: &mut [Option<Self::Packet>]) -> usize {
        self.tx(port, packets)
    }

    /// The time-stamp counter, in cycles.
    fn cycles(&self) -> u64;

    /// Told when a stage is done with a burst. A benchmark looks at the clock here; ports have nothing to do.
    #[inline(always)]
    fn stage_done(&mut self, _stage: Stage) {}
}
