//! Ports with a clock: what passes in each stage, and in the ports themselves.

use dataplane::ids::PortId;
use dataplane::io::PortIo;
use dataplane::stage::Stage;

use super::PARTS;

/// Cycles by part of the way, in the order of [`PARTS`]; the clock's own are taken off.
#[derive(Clone, Copy, Debug, Default)]
pub struct Cycles {
    spent: [u64; PARTS.len()],
    /// Looks at the clock, by the part that they delayed.
    looks: [u64; PARTS.len()],
    packets: u64,
}

const PORTS_RX: usize = 0;
const PORTS_TX: usize = PARTS.len() - 1;

fn part(stage: Stage) -> usize {
    match stage {
        Stage::Rx => 1,
        Stage::Parse => 2,
        Stage::Lookup => 3,
        Stage::Rewrite => 4,
        Stage::Transmit => 5,
    }
}

impl Cycles {
    fn spend(&mut self, part: usize, cycles: u64) {
        self.spent[part] += cycles;
        self.looks[part] += 1;
    }

    /// Adds another worker's.
    pub fn add(&mut self, other: &Self) {
        self.packets += other.packets;
        for (to, from) in self.spent.iter_mut().zip(other.spent) {
            *to += from;
        }
        for (to, from) in self.looks.iter_mut().zip(other.looks) {
            *to += from;
        }
    }

    /// Cycles a packet, by part. `look`: what a look at the clock takes.
    pub fn a_packet(&self, look: f64) -> [f64; PARTS.len()] {
        std::array::from_fn(|part| {
            let own = self.spent[part] as f64 - self.looks[part] as f64 * look;
            own.max(0.0) / self.packets.max(1) as f64
        })
    }
}

/// What a look at the clock takes, in cycles: the least of some series, as anything that interrupts one adds to it.
pub fn look() -> f64 {
    const LOOKS: u64 = 1000;
    let series = || {
        let start = dpdk_sys::cycles();
        for _ in 1..LOOKS {
            std::hint::black_box(dpdk_sys::cycles());
        }
        dpdk_sys::cycles() - start
    };
    (0..100).map(|_| series()).min().unwrap_or(0) as f64 / LOOKS as f64
}

/// The ports of `I`, timed.
pub struct Timed<I> {
    io: I,
    last: u64,
    cycles: Cycles,
}

impl<I> Timed<I> {
    pub fn new(io: I) -> Self {
        Self { io, last: 0, cycles: Cycles::default() }
    }

    /// What was spent since the last time.
    pub fn take(&mut self) -> Cycles {
        std::mem::take(&mut self.cycles)
    }
}

impl<I: PortIo> PortIo for Timed<I> {
    type Packet = I::Packet;

    fn rx_queues(&self) -> usize {
        self.io.rx_queues()
    }

    fn rx_port(&self, queue: usize) -> PortId {
        self.io.rx_port(queue)
    }

    fn tx_ports(&self) -> usize {
        self.io.tx_ports()
    }

    #[inline]
    fn rx(&mut self, queue: usize, out: &mut [Option<I::Packet>]) -> usize {
        let start = self.io.cycles();
        let received = self.io.rx(queue, out);
        self.last = self.io.cycles();
        if received > 0 {
            self.cycles.packets += received as u64;
            self.cycles.spend(PORTS_RX, self.last - start);
        }
        received
    }

    #[inline]
    fn tx(&mut self, port: PortId, packets: &mut [Option<I::Packet>]) -> usize {
        let start = self.io.cycles();
        self.cycles.spend(part(Stage::Transmit), start - self.last);
        let sent = self.io.tx(port, packets);
        self.last = self.io.cycles();
        self.cycles.spend(PORTS_TX, self.last - start);
        sent
    }

    #[inline]
    fn cycles(&self) -> u64 {
        self.io.cycles()
    }

    #[inline]
    fn stage_done(&mut self, stage: Stage) {
        let now = self.io.cycles();
        self.cycles.spend(part(stage), now - self.last);
        self.last = now;
    }
}
