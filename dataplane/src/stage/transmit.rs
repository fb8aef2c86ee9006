//! `transmit`: hands each packet to its port's TX queue or to the control thread, or ends it, and counts all of
//! it.

use crate::adjacency::Adjacency;
use crate::burst::{BURST, Bits, Burst, common, of_whole};
use crate::counters::{Counted, Rows, SubInterfaceCounters, Traffic, WorkerCounters};
use crate::ids::{PortId, SubIfId};
use crate::io::PortIo;
use crate::packet::Packet;
use crate::punt::{PuntPath, Punted};
use crate::tables::Tables;
use crate::verdict::{DropReason, PuntReason, Verdict};

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
pub fn run<I: PortIo, const WIDE: bool>(
    io: &mut I,
    burst: &mut Burst<I::Packet>,
    tables: &Tables,
    outbound: &mut Outbound<I::Packet>,
    punts: &mut PuntPath<I::Packet>,
    counters: &WorkerCounters,
) {
    count_received::<I::Packet, WIDE>(burst, counters);
    if burst.alive == burst.all()
        && let Some(port) = common(&burst.out_port[..burst.len.min(BURST)])
        && usize::from(port.0) < outbound.ports.len()
    {
        all_to::<I, WIDE>(io, port, burst, counters);
    } else {
        apart::<I, WIDE>(io, burst, tables, outbound, punts, counters);
    }
}

/// Sends the whole burst on one port.
#[inline(always)]
fn all_to<I: PortIo, const WIDE: bool>(
    io: &mut I,
    port: PortId,
    burst: &mut Burst<I::Packet>,
    counters: &WorkerCounters,
) {
    let len = burst.len.min(BURST);
    let sent = io.tx(port, &mut burst.packets[..len]).min(len);
    let l2 = &burst.out_len;
    count::<WIDE>(&burst.out_sub_if[..sent], l2, &burst.l3_len, counters.rows(), |row| &row.sent);
    count_sent(port, burst.port, sent, sum(&l2[..sent]), counters);
    if sent < len {
        for i in sent..len {
            let packet = burst.packets[i].take();
            drop_unsent(burst, i, packet, DropReason::TxQueueFull, counters);
        }
    }
}

/// Sends packets that go to different ports, or do not all go on.
#[inline(never)]
fn apart<I: PortIo, const WIDE: bool>(
    io: &mut I,
    burst: &mut Burst<I::Packet>,
    tables: &Tables,
    outbound: &mut Outbound<I::Packet>,
    punts: &mut PuntPath<I::Packet>,
    counters: &WorkerCounters,
) {
    punts.tick(burst.port, io.cycles());
    for i in Bits(burst.all() & !burst.alive) {
        finish(burst, i, tables, punts, counters);
    }
    for i in Bits(burst.alive) {
        let Some(packet) = burst.packets[i].take() else { continue };
        let Adjacency::Forward(adjacency) = tables.adjacency(burst.adjacency[i]) else { continue };
        let Some(batch) = outbound.ports.get_mut(usize::from(adjacency.port.0)) else {
            drop_unsent(burst, i, Some(packet), DropReason::InterfaceDown, counters);
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
        let mut bytes = 0;
        for i in batch.index[..sent].iter().map(|i| usize::from(*i) & (BURST - 1)) {
            let packet = Counted::new(burst.out_len[i], burst.l3_len[i]);
            counters.sub_interface(burst.out_sub_if[i]).sent.add_one::<WIDE>(&packet);
            bytes += u64::from(burst.out_len[i]);
        }
        count_sent(port, burst.port, sent, bytes, counters);
        if sent < len {
            for (i, packet) in batch.index[sent..len].iter().zip(&mut batch.packets[sent..len]) {
                let i = usize::from(*i) & (BURST - 1);
                drop_unsent(burst, i, packet.take(), DropReason::TxQueueFull, counters);
            }
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

/// Ends packet `i`, which was to be sent.
#[cold]
#[inline(never)]
fn drop_unsent<P: Packet>(
    burst: &mut Burst<P>,
    i: usize,
    packet: Option<P>,
    reason: DropReason,
    counters: &WorkerCounters,
) {
    counters.port(burst.port).dropped[reason.index()].add(1);
    burst.drop_packet(i, reason);
    burst.packets[i] = packet.filter(|_| burst.keep_unsent);
}

/// Ends a packet that is not forwarded: frees it, or gives it to the control thread.
fn finish<P: Packet>(
    burst: &mut Burst<P>,
    i: usize,
    tables: &Tables,
    punts: &mut PuntPath<P>,
    counters: &WorkerCounters,
) {
    let port = counters.port(burst.port);
    let Some(packet) = burst.packets[i].take() else { return };
    let punted = |packet, reason| Punted {
        packet,
        reason,
        port: burst.port,
        sub_if: burst.sub_if[i],
        l3_offset: burst.l3_offset[i],
        adjacency: burst.adjacency[i],
        mtu: tables.mtu(burst.adjacency[i]),
    };
    let reason = match burst.verdict[i] {
        // A packet that is not alive has one of the others.
        Verdict::Forward => return,
        Verdict::Drop(reason) => reason,
        Verdict::Punt(reason) => match punts.give(punted(packet, reason)) {
            Ok(()) => return port.punted[reason.index()].add(1),
            Err(dropped) => dropped,
        },
        Verdict::Refuse(reason) => {
            // It is dropped; over the budget its sender is not told.
            let _ = punts.give(punted(packet, PuntReason::Prohibited));
            reason
        }
    };
    port.dropped[reason.index()].add(1);
    burst.verdict[i] = Verdict::Drop(reason);
}

/// Counts what came in on the port and on each sub-interface, whatever becomes of it.
#[inline(always)]
fn count_received<P: Packet, const WIDE: bool>(burst: &Burst<P>, counters: &WorkerCounters) {
    let port = counters.port(burst.port);
    let rows = counters.rows();
    let len = burst.len.min(BURST);
    let l2 = &burst.frame_len;
    port.received.add(len as u64);
    port.received_bytes.add(sum(&l2[..len]));
    if burst.classified == burst.all() {
        count::<WIDE>(&burst.sub_if[..len], l2, &burst.l3_len, rows, |row| &row.received);
    } else {
        for i in Bits(burst.classified) {
            let packet = Counted::new(burst.frame_len[i], burst.l3_len[i]);
            rows.get(burst.sub_if[i]).received.add_one::<WIDE>(&packet);
        }
    }
}

/// Counts packets of these sub-interfaces, all at once where they are of one. The lengths begin with
/// those of these packets, and may be more.
#[inline(always)]
fn count<const WIDE: bool>(
    sub_if: &[SubIfId],
    l2: &[u16],
    l3: &[u16],
    rows: Rows<'_>,
    direction: impl Fn(&SubInterfaceCounters) -> &Traffic,
) {
    if let Some(id) = common(sub_if) {
        let len = sub_if.len();
        return direction(rows.get(id)).add(len as u64, sum(&l2[..len]), sum(&l3[..len]));
    }
    // Of whole bursts, which takes no loop.
    let mut packets = [Counted::default(); BURST];
    for ((packet, l2), l3) in packets.iter_mut().zip(l2).zip(l3) {
        *packet = Counted::new(*l2, *l3);
    }
    rows.add_each::<WIDE>(sub_if, &packets, direction);
}

#[inline(always)]
fn sum(lengths: &[u16]) -> u64 {
    u64::from(of_whole(lengths, |lengths| lengths.iter().map(|len| u32::from(*len)).sum::<u32>()))
}
