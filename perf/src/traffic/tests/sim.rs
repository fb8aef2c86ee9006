//! A device in simulated time: a queue, a rate at which it forwards, a delay, and faults by plan.

use std::collections::BTreeMap;

use dataplane::header::checksum;

use crate::traffic::stamp::PATTERN;
use crate::traffic::wire::Wire;

/// What the device does to a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    None,
    Drop,
    /// Comes a second time, so many nanoseconds later.
    Duplicate(u64),
    /// One bit of one byte of the IP packet is changed.
    Corrupt(usize),
    /// Comes so many nanoseconds later.
    Delay(u64),
    /// Comes on the port it was sent on.
    WrongPort,
}

/// How the device behaves.
pub struct Device {
    /// Frames a second.
    pub capacity: f64,
    /// Frames that can wait.
    pub queue: u64,
    /// Nanoseconds that forwarding takes beside waiting.
    pub delay: u64,
    /// Whether its limit is the queue that the tester writes to, so that the port refuses frames.
    pub refuses: bool,
    /// The fault of each frame, by its number.
    pub fault: Box<dyn FnMut(u64) -> Fault>,
}

impl Default for Device {
    fn default() -> Self {
        Self { capacity: 1e9, queue: 1024, delay: 1000, refuses: false, fault: Box::new(|_| Fault::None) }
    }
}

/// Two ports with a device between them.
pub struct Sim {
    pub device: Device,
    /// Nanoseconds that the generator needs for each frame it sends.
    pub cost: u64,
    /// At this time the generator is stalled for so long, once.
    pub stall: Option<(u64, u64)>,
    now: u64,
    /// When the device is done with all it has, in nanoseconds.
    busy_until: f64,
    number: u64,
    coming: BTreeMap<(u64, u64), (usize, Vec<u8>)>,
    pub faults: BTreeMap<&'static str, u64>,
}

impl Sim {
    pub fn new(device: Device) -> Self {
        Self {
            device,
            cost: 20,
            stall: None,
            now: 0,
            busy_until: 0.0,
            number: 0,
            coming: BTreeMap::new(),
            faults: BTreeMap::new(),
        }
    }

    fn waiting(&self) -> f64 {
        (self.busy_until - self.now as f64).max(0.0) * self.device.capacity / 1e9
    }

    fn forward(&mut self, port: usize, mut frame: Vec<u8>) {
        let number = self.number;
        self.number += 1;
        self.busy_until = self.busy_until.max(self.now as f64) + 1e9 / self.device.capacity;
        let mut at = self.busy_until as u64 + self.device.delay;
        let mut out = 1 - port;
        route(&mut frame);
        let fault = (self.device.fault)(number);
        let name = match fault {
            Fault::None => "none",
            Fault::Drop => "drop",
            Fault::Duplicate(_) => "duplicate",
            Fault::Corrupt(_) => "corrupt",
            Fault::Delay(_) => "delay",
            Fault::WrongPort => "wrong port",
        };
        *self.faults.entry(name).or_default() += 1;
        match fault {
            Fault::None => {}
            Fault::Drop => return,
            Fault::Duplicate(later) => {
                self.coming.insert((at + later, number), (out, frame.clone()));
            }
            Fault::Corrupt(byte) => {
                let l3 = 14 + 4 * tags(&frame);
                // Not what says that it is UDP in IP, nor the port that test frames are known by, nor the traffic
                // class, which a router may change.
                let sacred: &[usize] = if frame[l3] >> 4 == 6 { &[0, 1, 6, 42, 43] } else { &[0, 9, 22, 23] };
                let byte = byte % (frame.len() - l3);
                frame[l3 + if sacred.contains(&byte) { 30 } else { byte }] ^= 0x10;
            }
            Fault::Delay(later) => at += later,
            Fault::WrongPort => out = port,
        }
        self.coming.insert((at, number + (1 << 40)), (out, frame));
    }
}

fn tags(frame: &[u8]) -> usize {
    (0..2).take_while(|i| frame[12 + 4 * i..14 + 4 * i] == [0x81, 0]).count()
}

/// What a router does to an IP header.
fn route(frame: &mut [u8]) {
    let l3 = 14 + 4 * tags(frame);
    if frame[l3] >> 4 == 6 {
        frame[l3 + 7] -= 1;
        return;
    }
    frame[l3 + 8] -= 1;
    frame[l3 + 10..l3 + 12].fill(0);
    let sum = !checksum::sum(&frame[l3..l3 + 20]);
    frame[l3 + 10..l3 + 12].copy_from_slice(&sum.to_be_bytes());
}

impl Wire for Sim {
    fn now(&mut self) -> u64 {
        self.now += 50;
        if let Some((_, length)) = self.stall.take_if(|(at, _)| self.now >= *at) {
            self.now += length;
        }
        self.now
    }

    fn hz(&self) -> u64 {
        1_000_000_000
    }

    fn room(&mut self, _: usize, most: usize) -> usize {
        most
    }

    fn send(&mut self, port: usize, lens: &[u16], mut fill: impl FnMut(usize, &mut [u8])) -> usize {
        let mut refused = 0;
        for (i, len) in lens.iter().enumerate() {
            let mut frame = PATTERN[..usize::from(*len)].to_vec();
            fill(i, &mut frame);
            self.now += self.cost;
            if self.waiting() < self.device.queue as f64 {
                self.forward(port, frame);
            } else if self.device.refuses {
                refused += 1;
            }
        }
        refused
    }

    fn receive(&mut self, port: usize, mut each: impl FnMut(&[u8], u64)) -> usize {
        let mut n = 0;
        while n < 64 {
            let Some(entry) = self.coming.first_entry().filter(|entry| entry.key().0 <= self.now) else {
                break;
            };
            // All that has come is for one port or the other: each is asked in turn.
            if entry.get().0 != port {
                break;
            }
            each(&entry.remove().1, self.now);
            n += 1;
        }
        n
    }
}
