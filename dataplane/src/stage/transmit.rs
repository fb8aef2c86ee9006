//! `transmit`: hands each packet to its port's TX queue or to the control thread, or ends it, and counts all of
//! it.

use crate::adjacency::Adjacency;
use crate::burst::{BURST, Bits, Burst};
use crate::counters::WorkerCounters;
use crate::ids::{PortId, SubIfId};
use crate::io::PortIo;
use crate::packet::Packet;
use crate::punt::{PuntPath, Punted};
use crate::tables::Tables;
use crate::verdict::{DropReason, Verdict};

/// Packets of a burst on their way to one port.
struct Batch<P> {
    packets: [Option<P>; BURST],
    /// Egress sub-interface, frame and IP length of each, in bytes.
    about: [(SubIfId, u16, u16); BURST],
    len: usize,
}

/// Scratch space of this stage, one batch for each port; empty between bursts.
pub struct Outbound<P> {
    ports: Box<[Batch<P>]>,
}

impl<P: Packet> Outbound<P> {
    /// Space for so many ports.
    pub fn new(ports: usize) -> Self {
        let batch = || Batch { packets: [const { None }; BURST], about: [(SubIfId(0), 0, 0); BURST], len: 0 };
        Self { ports: (0..ports).map(|_| batch()).collect() }
    }
}

/// Empties the burst.
pub fn run<I: PortIo>(
    io: &mut I,
    burst: &mut Burst<I::Packet>,
    tables: &Tables,
    outbound: &mut Outbound<I::Packet>,
    punts: &mut PuntPath<I::Packet>,
    counters: &WorkerCounters,
) {
    count_received(burst, counters);
    let all = if burst.len == BURST { u64::MAX } else { (1 << burst.len) - 1 };
    for i in Bits(all & !burst.alive) {
        finish(burst, i, punts, counters);
    }
    for i in Bits(burst.alive) {
        let Some(packet) = burst.packets[i].take() else { continue };
        let Adjacency::Forward(adjacency) = tables.adjacency(burst.adjacency[i]) else { continue };
        let Some(batch) = outbound.ports.get_mut(usize::from(adjacency.port.0)) else {
            counters.port(burst.port).dropped[DropReason::InterfaceDown.index()].add(1);
            continue;
        };
        batch.about[batch.len] = (adjacency.sub_if, packet.bytes().len() as u16, burst.l3_len[i]);
        batch.packets[batch.len] = Some(packet);
        batch.len += 1;
    }
    for (port, batch) in outbound.ports.iter_mut().enumerate() {
        if batch.len > 0 {
            send(io, PortId(port as u16), batch, burst.port, counters);
        }
    }
}

/// Sends a batch, and drops what the queue has no room for.
fn send<I: PortIo>(
    io: &mut I,
    port: PortId,
    batch: &mut Batch<I::Packet>,
    ingress: PortId,
    counters: &WorkerCounters,
) {
    let sent = io.tx(port, &mut batch.packets[..batch.len]).min(batch.len);
    let mut bytes = 0;
    count_runs(batch.about[..sent].iter().copied(), |sub_if, packets, l2, l3| {
        counters.sub_interface(sub_if).sent.add(packets, l2, l3);
        bytes += l2;
    });
    let (out, ingress) = (counters.port(port), counters.port(ingress));
    out.sent.add(sent as u64);
    out.sent_bytes.add(bytes);
    ingress.forwarded.add(sent as u64);
    if sent < batch.len {
        ingress.dropped[DropReason::TxQueueFull.index()].add((batch.len - sent) as u64);
        batch.packets[sent..batch.len].fill_with(|| None);
    }
    batch.len = 0;
}

/// Ends a packet that is not forwarded: frees it, or gives it to the control thread.
fn finish<P: Packet>(burst: &mut Burst<P>, i: usize, punts: &mut PuntPath<P>, counters: &WorkerCounters) {
    let port = counters.port(burst.port);
    let Some(packet) = burst.packets[i].take() else { return };
    let reason = match burst.verdict[i] {
        // A packet that is not alive has one of the other two.
        Verdict::Forward => return,
        Verdict::Drop(reason) => reason,
        Verdict::Punt(reason) => {
            let punted = Punted {
                packet,
                reason,
                port: burst.port,
                sub_if: burst.sub_if[i],
                l3_offset: burst.l3_offset[i],
                adjacency: burst.adjacency[i],
            };
            match punts.give(punted) {
                Ok(()) => return port.punted[reason.index()].add(1),
                Err(dropped) => dropped,
            }
        }
    };
    port.dropped[reason.index()].add(1);
}

/// Counts what came in on each sub-interface, whatever becomes of it.
fn count_received<P: Packet>(burst: &Burst<P>, counters: &WorkerCounters) {
    let about = Bits(burst.classified).map(|i| (burst.sub_if[i], burst.frame_len[i], burst.l3_len[i]));
    count_runs(about, |sub_if, packets, l2, l3| counters.sub_interface(sub_if).received.add(packets, l2, l3));
}

/// Sums up runs of packets of the same sub-interface, so that a burst of one costs one count.
fn count_runs(
    about: impl Iterator<Item = (SubIfId, u16, u16)>,
    mut count: impl FnMut(SubIfId, u64, u64, u64),
) {
    let mut run = (SubIfId(0), 0, 0, 0);
    for (sub_if, l2, l3) in about {
        if sub_if != run.0 && run.1 > 0 {
            count(run.0, run.1, run.2, run.3);
            run = (sub_if, 0, 0, 0);
        }
        run = (sub_if, run.1 + 1, run.2 + u64::from(l2), run.3 + u64::from(l3));
    }
    if run.1 > 0 {
        count(run.0, run.1, run.2, run.3);
    }
}
