//! Hand-over: where a port has fewer RX queues than there are workers, or gives all flows to one of them, the worker that
//! polls a queue hands its flows to the others, by hash. A flow always goes to the same worker, over an inbox that keeps
//! the order, so its packets stay in order. What is handed over is counted as received by the worker that takes it.

use std::sync::Arc;

use crossbeam::queue::ArrayQueue;

use crate::burst::{BURST, Burst};
use crate::counters::WorkerCounters;
use crate::header::flow;
use crate::ids::PortId;
use crate::offload::{Offload, PortOffloads, State};
use crate::packet::Packet;
use crate::verdict::DropReason;

/// Batches that wait for one worker at most; each is what one poll brought for it.
pub const INBOX: usize = 128;

/// When a port's flows are shared out.
#[derive(Clone, Debug)]
pub enum Shared {
    /// Never.
    Never,
    /// Always: it has fewer RX queues than there are workers.
    Always,
    /// If it cannot deal flows out to its queues, or once it was seen to give all to one, as NICs do that do not look
    /// behind two tags.
    WithoutRss(Arc<PortOffloads>),
}

/// Packets of one port on their way to another worker.
struct Batch<P> {
    port: PortId,
    len: usize,
    packets: [Option<P>; BURST],
}

/// What waits for one worker. Batches go round: from `free` to whoever fills them, over `full` to the worker, and back.
struct Inbox<P> {
    full: ArrayQueue<Box<Batch<P>>>,
    free: ArrayQueue<Box<Batch<P>>>,
}

impl<P> Inbox<P> {
    fn new() -> Self {
        let this = Self { full: ArrayQueue::new(INBOX), free: ArrayQueue::new(INBOX) };
        for _ in 0..INBOX {
            let batch = Batch { port: PortId(0), len: 0, packets: [const { None }; BURST] };
            // There is room for as many.
            let _ = this.free.push(Box::new(batch));
        }
        this
    }
}

/// One worker's part in it.
pub struct HandOver<P> {
    /// By worker.
    inboxes: Arc<[Inbox<P>]>,
    worker: usize,
    /// By port.
    shared: Box<[Shared]>,
    /// What is being filled for each worker.
    open: Box<[Option<Box<Batch<P>>>]>,
}

impl<P: Packet> HandOver<P> {
    /// For each of `workers` workers its part. `shared`: when a port's flows are shared out, by port.
    pub fn among(workers: usize, shared: &[Shared]) -> Vec<Self> {
        let inboxes: Arc<[_]> = (0..workers).map(|_| Inbox::new()).collect();
        let part = |worker| {
            let (inboxes, shared) = (Arc::clone(&inboxes), shared.into());
            let open = (0..workers).map(|_| None).collect();
            Self { inboxes, worker, shared, open }
        };
        (0..workers).map(part).collect()
    }

    /// Hands those of a burst that was just received to other workers which are theirs. Returns how many are left.
    pub fn share(&mut self, burst: &mut Burst<P>, counters: &WorkerCounters) -> usize {
        let shared = match self.shared.get(usize::from(burst.port.0)) {
            Some(Shared::Always) => true,
            Some(Shared::WithoutRss(offloads)) => {
                matches!(offloads.state(Offload::Rss), State::OneQueue | State::NotGranted)
            }
            Some(Shared::Never) | None => false,
        };
        if !shared {
            return burst.len;
        }
        let (port, len) = (burst.port, burst.len.min(BURST));
        let (mut kept, mut lost, mut lost_bytes) = (0, 0, 0);
        for i in 0..len {
            let Some(packet) = burst.packets[i].take() else { continue };
            let home = self.home(&packet);
            if home == self.worker {
                burst.packets[kept] = Some(packet);
                kept += 1;
            } else if let Err(packet) = self.add(home, port, packet) {
                lost += 1;
                lost_bytes += packet.bytes().len() as u64;
            }
        }
        let mut handed = 0;
        for (inbox, open) in self.inboxes.iter().zip(&mut self.open) {
            if let Some(batch) = open.take() {
                handed += batch.len as u64;
                // There are no more batches than it has room for.
                let _ = inbox.full.push(batch);
            }
        }
        counters.work.handed.add(handed);
        if lost > 0 {
            let port = counters.port(port);
            port.received.add(lost);
            port.received_bytes.add(lost_bytes);
            port.dropped[DropReason::HandOverFull.index()].add(lost);
        }
        burst.begin(port, kept);
        kept
    }

    /// Takes a batch that was handed over into `burst`, whose slots are empty. Returns how many packets.
    pub fn take(&mut self, burst: &mut Burst<P>) -> usize {
        let inbox = &self.inboxes[self.worker];
        let Some(mut batch) = inbox.full.pop() else { return 0 };
        let len = batch.len.min(BURST);
        for (to, from) in burst.packets.iter_mut().zip(&mut batch.packets[..len]) {
            *to = from.take();
        }
        burst.begin(batch.port, len);
        batch.len = 0;
        // There are no more batches than it has room for.
        let _ = inbox.free.push(batch);
        len
    }

    /// The worker whose flow a packet is of. What is no IP stays.
    fn home(&self, packet: &P) -> usize {
        // By the high bits: the low ones choose the members of next-hop groups.
        let by_hash = |flow: flow::Flow| ((u64::from(flow.hash) * self.inboxes.len() as u64) >> 32) as usize;
        flow::of_frame(packet.bytes()).map_or(self.worker, by_hash)
    }

    /// Adds a packet to what is being filled for a worker, or gives it back if there is no room.
    fn add(&mut self, home: usize, port: PortId, packet: P) -> Result<(), P> {
        let (Some(open), Some(inbox)) = (self.open.get_mut(home), self.inboxes.get(home)) else {
            return Err(packet);
        };
        let batch = match open {
            Some(batch) => batch,
            None => match inbox.free.pop() {
                Some(batch) => open.insert(batch),
                None => return Err(packet),
            },
        };
        batch.port = port;
        batch.packets[batch.len & (BURST - 1)] = Some(packet);
        batch.len += 1;
        Ok(())
    }
}
