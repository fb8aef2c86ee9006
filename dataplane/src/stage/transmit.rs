//! `transmit`: hands each packet to its port's TX queue or to the control thread, or ends it, and counts all of
//! it.

use crate::adjacency::Adjacency;
use crate::burst::{BURST, Bits, Burst, common};
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
    /// Which packet of the burst each is.
    index: [u8; BURST],
    len: usize,
}

/// Scratch space of this stage, one batch for each port; empty between bursts.
pub struct Outbound<P> {
    ports: Box<[Batch<P>]>,
}

impl<P: Packet> Outbound<P> {
    /// Space for so many ports.
    pub fn new(ports: usize) -> Self {
        let batch = || Batch { packets: [const { None }; BURST], index: [0; BURST], len: 0 };
        Self { ports: (0..ports).map(|_| batch()).collect() }
    }
}

/// Empties the burst.
#[inline(always)]
pub fn run<I: PortIo>(
    io: &mut I,
    burst: &mut Burst<I::Packet>,
    tables: &Tables,
    outbound: &mut Outbound<I::Packet>,
    punts: &mut PuntPath<I::Packet>,
    counters: &WorkerCounters,
) {
    count_received(burst, counters);
    if burst.alive == burst.all()
        && let Some(port) = common(&burst.out_port[..burst.len.min(BURST)])
        && usize::from(port.0) < outbound.ports.len()
    {
        all_to(io, port, burst, counters);
    } else {
        apart(io, burst, tables, outbound, punts, counters);
    }
}

/// Sends the whole burst on one port.
#[inline(always)]
fn all_to<I: PortIo>(io: &mut I, port: PortId, burst: &mut Burst<I::Packet>, counters: &WorkerCounters) {
    let len = burst.len.min(BURST);
    let sent = io.tx(port, &mut burst.packets[..len]).min(len);
    let about = (0..sent).map(|i| (burst.out_sub_if[i], burst.out_len[i], burst.l3_len[i]));
    let count = |sub_if, run: Run| counters.sub_interface(sub_if).sent.add(run.packets, run.l2, run.l3);
    let bytes = if let Some(sub_if) = common(&burst.out_sub_if[..sent]) {
        let run = Run::of(&burst.out_len[..sent], &burst.l3_len[..sent]);
        count(sub_if, run);
        run.l2
    } else {
        count_runs(about, count)
    };
    count_sent(port, burst.port, sent, bytes, counters);
    if sent < len {
        drop_unsent(&mut burst.packets[sent..len], burst.port, counters);
    }
}

/// Sends packets that go to different ports, or do not all go on.
#[inline(never)]
fn apart<I: PortIo>(
    io: &mut I,
    burst: &mut Burst<I::Packet>,
    tables: &Tables,
    outbound: &mut Outbound<I::Packet>,
    punts: &mut PuntPath<I::Packet>,
    counters: &WorkerCounters,
) {
    punts.tick(io.cycles());
    for i in Bits(burst.all() & !burst.alive) {
        finish(burst, i, punts, counters);
    }
    for i in Bits(burst.alive) {
        let Some(packet) = burst.packets[i].take() else { continue };
        let Adjacency::Forward(adjacency) = tables.adjacency(burst.adjacency[i]) else { continue };
        let Some(batch) = outbound.ports.get_mut(usize::from(adjacency.port.0)) else {
            counters.port(burst.port).dropped[DropReason::InterfaceDown.index()].add(1);
            continue;
        };
        batch.index[batch.len] = i as u8;
        batch.packets[batch.len] = Some(packet);
        batch.len += 1;
    }
    for (port, batch) in outbound.ports.iter_mut().enumerate() {
        if batch.len == 0 {
            continue;
        }
        let (port, len) = (PortId(port as u16), batch.len);
        batch.len = 0;
        let sent = io.tx(port, &mut batch.packets[..len]).min(len);
        let about = batch.index[..sent].iter().map(|i| usize::from(*i) & (BURST - 1));
        let about = about.map(|i| (burst.out_sub_if[i], burst.out_len[i], burst.l3_len[i]));
        let bytes = count_runs(about, |sub_if, run| {
            counters.sub_interface(sub_if).sent.add(run.packets, run.l2, run.l3)
        });
        count_sent(port, burst.port, sent, bytes, counters);
        if sent < len {
            drop_unsent(&mut batch.packets[sent..len], burst.port, counters);
        }
    }
}

#[inline(always)]
fn count_sent(port: PortId, ingress: PortId, sent: usize, bytes: u64, counters: &WorkerCounters) {
    let out = counters.port(port);
    out.sent.add(sent as u64);
    out.sent_bytes.add(bytes);
    counters.port(ingress).forwarded.add(sent as u64);
}

/// Frees what a queue had no room for.
#[cold]
#[inline(never)]
fn drop_unsent<P: Packet>(packets: &mut [Option<P>], ingress: PortId, counters: &WorkerCounters) {
    counters.port(ingress).dropped[DropReason::TxQueueFull.index()].add(packets.len() as u64);
    packets.fill_with(|| None);
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

/// Counts what came in on the port and on each sub-interface, whatever becomes of it.
#[inline(always)]
fn count_received<P: Packet>(burst: &Burst<P>, counters: &WorkerCounters) {
    let port = counters.port(burst.port);
    let about = |i: usize| (burst.sub_if[i], burst.frame_len[i], burst.l3_len[i]);
    let count = |sub_if, run: Run| counters.sub_interface(sub_if).received.add(run.packets, run.l2, run.l3);
    let mut bytes = if burst.classified == burst.all()
        && let Some(sub_if) = common(&burst.sub_if[..burst.len.min(BURST)])
    {
        let len = burst.len.min(BURST);
        let run = Run::of(&burst.frame_len[..len], &burst.l3_len[..len]);
        count(sub_if, run);
        run.l2
    } else if burst.classified == burst.all() {
        count_runs((0..burst.len.min(BURST)).map(about), count)
    } else {
        count_runs(Bits(burst.classified).map(about), count)
    };
    for i in Bits(burst.all() & !burst.classified) {
        bytes += u64::from(burst.frame_len[i]);
    }
    port.received.add(burst.len as u64);
    port.received_bytes.add(bytes);
}

/// Packets in a row on the same sub-interface.
#[derive(Clone, Copy, Default)]
struct Run {
    packets: u64,
    l2: u64,
    l3: u64,
}

impl Run {
    /// Packets of these lengths.
    #[inline(always)]
    fn of(l2: &[u16], l3: &[u16]) -> Self {
        let sum = |lengths: &[u16]| u64::from(lengths.iter().map(|len| u32::from(*len)).sum::<u32>());
        Self { packets: l2.len() as u64, l2: sum(l2), l3: sum(l3) }
    }
}

/// Sums up runs of packets of the same sub-interface, so that a burst of one costs one count. Returns the L2 bytes of
/// all.
#[inline(always)]
fn count_runs(about: impl Iterator<Item = (SubIfId, u16, u16)>, count: impl Fn(SubIfId, Run)) -> u64 {
    let mut last = SubIfId(0);
    let mut run = Run::default();
    let mut bytes = 0;
    for (sub_if, l2, l3) in about {
        if sub_if != last {
            if run.packets > 0 {
                count(last, run);
            }
            bytes += run.l2;
            run = Run::default();
            last = sub_if;
        }
        run = Run { packets: run.packets + 1, l2: run.l2 + u64::from(l2), l3: run.l3 + u64::from(l3) };
    }
    if run.packets > 0 {
        count(last, run);
    }
    bytes + run.l2
}
