//! How long the packets of a case take: alone, or in between of bursts that write packet memory.

use std::hint::black_box;
use std::time::{Duration, Instant};

use dataplane::burst::BURST;

use super::rules::PACKETS;
use crate::lpm::measure::Stopwatch;
use crate::lpm::ring::Ring;

const BURSTS: usize = PACKETS / BURST;

/// Nanoseconds a packet in `list`. `search` judges a burst; `touch` reads what it begins with, which a worker has just
/// read itself.
pub fn search<L>(
    ring: Option<&mut Ring>,
    list: &mut L,
    touch: impl Fn(&L, usize) -> u64,
    search: impl FnMut(&mut L, usize) -> u64,
) -> f64 {
    match ring {
        None => alone(list, search),
        Some(ring) => in_situ(ring, list, touch, search),
    }
}

/// Over all packets for a while.
fn alone<L>(list: &mut L, mut search: impl FnMut(&mut L, usize) -> u64) -> f64 {
    let mut pass = || {
        for burst in 0..BURSTS {
            black_box(search(list, burst));
        }
    };
    pass();
    let (start, mut passes) = (Instant::now(), 0);
    while start.elapsed() < Duration::from_millis(30) {
        pass();
        passes += 1;
    }
    start.elapsed().as_secs_f64() * 1e9 / (passes * PACKETS) as f64
}

/// Passes over all packets, before the clock runs (in which the largest ring is written once), and after.
const WARM_UP: usize = 8;
const PASSES: usize = 32;

/// With packet memory written before each burst; only the search is timed.
fn in_situ<L>(
    ring: &mut Ring,
    list: &mut L,
    touch: impl Fn(&L, usize) -> u64,
    mut search: impl FnMut(&mut L, usize) -> u64,
) -> f64 {
    let mut watch = Stopwatch::new();
    for pass in 0..WARM_UP + PASSES {
        if pass == WARM_UP {
            watch.clear();
        }
        for burst in 0..BURSTS {
            ring.receive(burst as u8);
            black_box(touch(list, burst));
            watch.time(|| {
                black_box(search(list, burst));
            });
        }
    }
    watch.seconds() * 1e9 / (PASSES * PACKETS) as f64
}
