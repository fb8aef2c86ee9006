//! Packet memory that bursts wash through the caches: a ring on DPDK's huge pages, as packets are.
#![allow(unsafe_code)] // DPDK's allocator is a C function; each block says why it is sound.

use std::ffi::c_void;
use std::ptr::NonNull;

use super::table::BURST;

/// What a worker touches of a packet, in bytes: its mbuf and the first two lines of its data. (The rest goes from
/// the NIC to memory and back past this core.) The ring has one after the other.
const PACKET: usize = 256;

/// Sizes of rings that look-ups are measured with, in MB: within the second-level cache, about the third-level one, beyond.
pub const MEGABYTES: [usize; 3] = [2, 8, 32];

unsafe extern "C" {
    fn packet_memory(bytes: usize) -> *mut c_void;
    fn free_packet_memory(memory: *mut c_void);
}

/// The ring.
pub struct Ring {
    memory: NonNull<u8>,
    bytes: usize,
    next: usize,
}

impl Ring {
    /// # Errors
    /// DPDK has no memory for it.
    pub fn new(megabytes: usize) -> Result<Self, String> {
        let bytes = megabytes << 20;
        // SAFETY: allocates memory of its own.
        let memory = NonNull::new(unsafe { packet_memory(bytes.max(PACKET)) });
        let Some(memory) = memory else {
            return Err(format!(
                "no memory for a ring of {megabytes} MB: grant more huge pages (vm.nr_hugepages)"
            ));
        };
        Ok(Self { memory: memory.cast(), bytes, next: 0 })
    }

    fn memory(&mut self) -> &mut [u8] {
        // SAFETY: `bytes` zeroed bytes that are this value's alone while it lives.
        unsafe { std::slice::from_raw_parts_mut(self.memory.as_ptr(), self.bytes) }
    }

    /// Writes a burst of packets.
    pub fn receive(&mut self, fill: u8) {
        for _ in 0..BURST {
            let from = self.next;
            self.memory()[from..from + PACKET].fill(fill);
            self.next = (from + PACKET) % self.bytes;
        }
    }

    /// Reads the headers of the burst that was received last, as a forwarder's parser does.
    pub fn parse(&mut self) -> u64 {
        let mut sum = 0;
        let mut at = self.next;
        for _ in 0..BURST {
            at = (at + self.bytes - PACKET) % self.bytes;
            let header = &self.memory()[at..at + 40];
            sum += header.iter().map(|&byte| u64::from(byte)).sum::<u64>();
        }
        sum
    }
}

impl Drop for Ring {
    fn drop(&mut self) {
        // SAFETY: the memory that `new` allocated, of which no slice is left.
        unsafe { free_packet_memory(self.memory.as_ptr().cast()) }
    }
}
