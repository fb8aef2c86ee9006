//! How long look-ups take: streamed, with the addresses at hand, and in situ between bursts that write packet memory.

use std::hint::black_box;
use std::sync::atomic::{Ordering, fence};
use std::time::Instant;

use super::ring::Ring;
use super::table::{BURST, Table};
use super::workload::{ADDRESSES, Addresses};

/// Addresses that are looked up before the clock runs: the table before left nothing of this one in the caches.
const WARM_UP: usize = 1 << 18;

/// How look-ups are timed.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Setting {
    /// Back to back over all addresses, which come from the third-level cache or memory.
    Streamed,
    /// Each burst by itself, its addresses just read, as a forwarder has read them from the headers.
    AtHand,
    /// The same, with this many MB of packet memory that bursts are written to.
    InSitu(usize),
}

impl Setting {
    pub const CLEAN: [Self; 2] = [Self::AtHand, Self::Streamed];

    /// How the look-ups come by their addresses.
    pub fn addresses(self) -> &'static str {
        if self == Self::Streamed { "streamed" } else { "at hand" }
    }

    /// The ring's size, 0 for none.
    pub fn megabytes(self) -> usize {
        if let Self::InSitu(megabytes) = self { megabytes } else { 0 }
    }
}

/// Million look-ups a second over all addresses of the workload, back to back. So the addresses' own way through the
/// caches is timed with them, and a burst begins while the one before it ends.
pub fn streamed(table: &mut dyn Table, addresses: &Addresses) -> f64 {
    for from in (0..WARM_UP).step_by(BURST) {
        table.lookup(addresses, from);
    }
    let start = Instant::now();
    for from in (0..ADDRESSES).step_by(BURST) {
        table.lookup(addresses, from);
        black_box(table.hop(0));
    }
    ADDRESSES as f64 / start.elapsed().as_secs_f64() / 1e6
}

/// Million look-ups a second where each burst's addresses were just read and, with a ring, packet memory was written
/// before that. Only the look-up (and prefetch) is timed, each burst from its start to its end.
pub fn at_hand(
    table: &mut dyn Table,
    addresses: &Addresses,
    mut ring: Option<&mut Ring>,
    round: usize,
) -> f64 {
    let mut watch = Stopwatch::new();
    let ahead = table.name().ends_with("prefetched");
    let begin = (round * WARM_UP) % ADDRESSES;
    for at in (0..WARM_UP + ADDRESSES).step_by(BURST) {
        if at == WARM_UP {
            watch.clear();
        }
        let from = (begin + at) % ADDRESSES;
        if let Some(ring) = &mut ring {
            ring.receive(from as u8);
        }
        black_box(read(addresses, from));
        if ahead {
            watch.time(|| table.prefetch(addresses, from));
            black_box(ring.as_ref().map(|ring| ring.parse()));
        }
        watch.time(|| table.lookup(addresses, from));
        black_box(table.hop(0));
    }
    ADDRESSES as f64 / watch.seconds() / 1e6
}

/// Adds up the time of short parts of what a core does, by its cycle counter.
pub struct Stopwatch {
    ticks: u64,
    /// What timing itself takes.
    overhead: u64,
    start: Instant,
    from_tick: u64,
}

impl Stopwatch {
    pub fn new() -> Self {
        Self { ticks: 0, overhead: overhead(), start: Instant::now(), from_tick: dpdk_sys::cycles() }
    }

    /// Forgets what was timed.
    pub fn clear(&mut self) {
        self.ticks = 0;
    }

    /// Times a part, once all stores before it have left the core's buffer: they would compete with what is timed.
    pub fn time(&mut self, part: impl FnOnce()) {
        fence(Ordering::SeqCst);
        let before = dpdk_sys::fenced_cycles();
        part();
        self.ticks += (dpdk_sys::fenced_cycles() - before).saturating_sub(self.overhead);
    }

    /// What was timed, in seconds.
    pub fn seconds(&self) -> f64 {
        let hz = (dpdk_sys::cycles() - self.from_tick) as f64 / self.start.elapsed().as_secs_f64();
        self.ticks as f64 / hz
    }
}

/// What timing itself takes: the least of many times nothing.
fn overhead() -> u64 {
    (0..1000)
        .map(|_| {
            let before = dpdk_sys::fenced_cycles();
            dpdk_sys::fenced_cycles() - before
        })
        .min()
        .unwrap_or(0)
}

/// Reads a burst's addresses in every form, whoever looks them up: they are in the first-level cache then.
fn read(addresses: &Addresses, from: usize) -> u64 {
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
