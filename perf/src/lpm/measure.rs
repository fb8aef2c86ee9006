//! How long look-ups take: clean, or in situ between bursts that write packet memory.

use std::hint::black_box;
use std::time::Instant;

use super::table::{BURST, Table};
use super::workload::{ADDRESSES, Addresses};

/// What a worker touches of a packet, in bytes: its mbuf and the first two lines of its data. (The rest goes from
/// the NIC to memory and back past this core.) The ring has one after the other.
const PACKET: usize = 256;
/// Addresses of one in-situ round: the writes between bursts take most of the time.
const IN_SITU: usize = 1 << 18;

/// Packet memory that bursts wash through the caches.
pub struct Ring {
    bytes: Vec<u8>,
    next: usize,
}

impl Ring {
    pub fn new(megabytes: usize) -> Self {
        Self { bytes: vec![0; megabytes << 20], next: 0 }
    }

    /// Writes a burst of packets.
    fn receive(&mut self, fill: u8) {
        for _ in 0..BURST {
            self.bytes[self.next..self.next + PACKET].fill(fill);
            self.next = (self.next + PACKET) % self.bytes.len();
        }
    }

    /// Reads the headers of the burst that was received last, as a forwarder's parser does.
    fn parse(&self) -> u64 {
        let mut sum = 0;
        let mut at = self.next;
        for _ in 0..BURST {
            at = (at + self.bytes.len() - PACKET) % self.bytes.len();
            let header = &self.bytes[at..at + 40];
            sum += header.iter().map(|&byte| u64::from(byte)).sum::<u64>();
        }
        sum
    }
}

/// Million look-ups a second over all addresses of the workload.
pub fn clean(table: &mut dyn Table, addresses: &Addresses) -> f64 {
    let start = Instant::now();
    for from in (0..ADDRESSES).step_by(BURST) {
        table.lookup(addresses, from);
        black_box(table.hop(0));
    }
    ADDRESSES as f64 / start.elapsed().as_secs_f64() / 1e6
}

/// The same with packet memory written before each burst; only the look-up (and prefetch) is timed.
pub fn in_situ(table: &mut dyn Table, addresses: &Addresses, ring: &mut Ring, round: usize) -> f64 {
    let mut ticks = 0;
    let begin = (round * IN_SITU) % ADDRESSES;
    let (start, from_tick) = (Instant::now(), dpdk_sys::cycles());
    for from in (begin..begin + IN_SITU).step_by(BURST) {
        ring.receive(from as u8);
        // The addresses were just read from the headers, so they are in the first-level cache.
        black_box(warm(addresses, from));
        let before = dpdk_sys::cycles();
        table.prefetch(addresses, from);
        let between = dpdk_sys::cycles();
        black_box(ring.parse());
        let after = dpdk_sys::cycles();
        table.lookup(addresses, from);
        ticks += dpdk_sys::cycles() - after + (between - before);
        black_box(table.hop(0));
    }
    let hz = (dpdk_sys::cycles() - from_tick) as f64 / start.elapsed().as_secs_f64();
    IN_SITU as f64 / (ticks as f64 / hz) / 1e6
}

fn warm(addresses: &Addresses, from: usize) -> u64 {
    let burst = from..from + BURST;
    let v4 = addresses.v4.get(burst.clone()).map_or(0, |v4| v4.iter().map(|&a| u64::from(a)).sum());
    let v6 = addresses.v6.get(burst.clone()).map_or(0, |v6| v6.iter().map(|&a| a as u64 >> 8).sum::<u64>());
    let bytes = addresses.bytes.get(burst).map_or(0, |b| b.iter().map(|a| u64::from(a[0])).sum::<u64>());
    v4 ^ v6 ^ bytes
}

/// The median, and how far the extremes lie apart in relation to it.
pub fn summary(values: &mut [f64]) -> (f64, f64) {
    values.sort_by(f64::total_cmp);
    let median = values[values.len() / 2];
    (median, (values[values.len() - 1] - values[0]) / median)
}
