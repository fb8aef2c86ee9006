//! Much at once: frames damaged at random, and floods of what the control thread has to see.

use crate::bench::{Bench, KINDS, MACS, host, ours, their_mac, theirs};
use crate::counters::Port;
use crate::frame;

/// Damaged frames in all.
const MUTATIONS: usize = 20_000;
/// Frames of a flood.
const FLOOD: u16 = 6_000;

/// A generator whose numbers are the same in each run (xorshift64*).
#[derive(Debug)]
pub struct Random(u64);

impl Random {
    /// Begins anew.
    pub fn new(seed: u64) -> Self {
        Self(seed.max(1))
    }

    /// A number below `limit`.
    pub fn below(&mut self, limit: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) as usize % limit
    }
}

/// Right frames with a few bytes changed, cut or grown: whatever becomes of them, each is counted once, and nothing
/// breaks.
pub fn mutated_frames(bench: &mut Bench) {
    let mut random = Random::new(0x7472_6e70);
    let mut seeds = Vec::new();
    for kind in 0..KINDS.len() {
        for v6 in [false, true] {
            seeds.push(Bench::wrap(kind, &Bench::packet(kind, 2, v6, 64, &[0x55; 64])));
            let to_us = frame::udp((theirs(0, kind, v6), 4000), (ours(0, kind, v6), 179), 64, &[0x55; 20]);
            seeds.push(Bench::wrap(kind, &to_us));
        }
        seeds.push(arp_request(kind, 2));
    }
    let mut frames = Vec::with_capacity(MUTATIONS);
    for _ in 0..MUTATIONS {
        let mut frame = seeds[random.below(seeds.len())].clone();
        for _ in 0..=random.below(6) {
            // Mostly in the headers, where it matters; the destination MAC stays right in most.
            let at = if random.below(8) == 0 {
                random.below(12)
            } else {
                12 + random.below(60.min(frame.len() - 12))
            };
            frame[at] = random.below(256) as u8;
        }
        match random.below(6) {
            0 => frame.truncate(14 + random.below(frame.len() - 14)),
            1 => frame.extend((0..random.below(1400)).map(|_| 0xaa)),
            _ => {}
        }
        frames.push(frame);
    }
    let counted = bench.send(&frames);
    println!("    {counted:?}");
    bench.assert_unharmed();
}

/// Packets to thousands of addresses that nobody has: few wait, all are counted, and none is kept for ever.
pub fn flood_of_unresolved(bench: &mut Bench) {
    let frames: Vec<_> = (0..FLOOD)
        .map(|n| {
            let v6 = n % 2 == 0;
            let target = host(1, 2, v6, if v6 { n + 3 } else { 3 + n % 250 });
            Bench::wrap(1, &frame::udp((theirs(0, 1, v6), 4000), (target, 5000), 64, b"anybody?"))
        })
        .collect();
    assert_policed(&bench.send(&frames), "unresolved");
    bench.assert_unharmed();
}

/// Packets to our own address, as many as the wire brings.
pub fn flood_of_local(bench: &mut Bench) {
    let frames: Vec<_> = (0..FLOOD)
        .map(|n| {
            let v6 = n % 2 == 0;
            Bench::wrap(2, &frame::udp((theirs(0, 2, v6), 4000), (ours(0, 2, v6), 9), 64, b"knock"))
        })
        .collect();
    assert_policed(&bench.send(&frames), "local");
    bench.assert_unharmed();
}

/// ARP requests, as many as the wire brings.
pub fn flood_of_arp(bench: &mut Bench) {
    let frames: Vec<_> = (0..FLOOD).map(|n| arp_request(1, 3 + (n % 250) as u8)).collect();
    assert_policed(&bench.send(&frames), "arp");
    bench.assert_unharmed();
}

/// Every packet was either handed up for this reason, or dropped as too many for the control thread.
#[track_caller]
fn assert_policed(counted: &Port, reason: &str) {
    println!("    {counted:?}");
    let known = ["punt_policed", "punt_ring_full"];
    assert!(counted.punts.keys().all(|r| r == reason), "{counted:?}");
    assert!(counted.drops.keys().all(|r| known.contains(&r.as_str())), "{counted:?}");
    assert!(counted.punted > 0, "{counted:?}");
}

/// Somebody on a kind of port `a` asks for our MAC address.
fn arp_request(kind: usize, sender: u8) -> Vec<u8> {
    let mac = their_mac(0, kind);
    let mut body = vec![0, 1, 8, 0, 6, 4, 0, 1];
    body.extend(mac);
    body.extend([10, 1, kind as u8, sender]);
    body.extend([0; 6]);
    body.extend([10, 1, kind as u8, 1]);
    // Some ask by unicast, as to renew what they know.
    let to = if sender.is_multiple_of(2) { [0xff; 6] } else { MACS[0] };
    frame::build(to, mac, KINDS[kind].tags, 0x0806, &body)
}
