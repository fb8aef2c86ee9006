//! Packet memory that bursts wash through the caches: a ring on DPDK's huge pages, as packets are.

use super::memory::PacketMemory;
use super::table::BURST;

/// What a worker touches of a packet, in bytes: its mbuf and the first two lines of its data. (The rest goes from
/// the NIC to memory and back past this core.) The ring has one after the other.
const PACKET: usize = 256;

/// Sizes of rings that look-ups are measured with, in MB: within the second-level cache, about the third-level one, beyond.
pub const MEGABYTES: [usize; 3] = [2, 8, 32];

/// The ring.
pub struct Ring {
    memory: PacketMemory<u8>,
    next: usize,
}

impl Ring {
    /// A ring of this size, which is not 0.
    ///
    /// # Errors
    /// DPDK has no memory for it.
    pub fn new(megabytes: usize) -> Result<Self, String> {
        Ok(Self { memory: PacketMemory::filled(megabytes << 20, 0)?, next: 0 })
    }

    /// Writes a burst of packets.
    pub fn receive(&mut self, fill: u8) {
        for _ in 0..BURST {
            let from = self.next;
            self.memory[from..from + PACKET].fill(fill);
            self.next = (from + PACKET) % self.memory.len();
        }
    }

    /// Reads the headers of the burst that was received last, as a forwarder's parser does.
    pub fn parse(&self) -> u64 {
        let mut sum = 0;
        let mut at = self.next;
        for _ in 0..BURST {
            at = (at + self.memory.len() - PACKET) % self.memory.len();
            let header = &self.memory[at..at + 40];
            sum += header.iter().map(|&byte| u64::from(byte)).sum::<u64>();
        }
        sum
    }
}
