//! Hand-over: where a port has fewer RX queues than there are workers, or gives all flows to one of them, the worker that
//! polls a queue hands its flows to the others, by hash. A flow always goes to the same worker, over an inbox that keeps
//! the order, so its packets stay in order. What is handed over is counted as received by the worker that takes it.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use crossbeam::queue::ArrayQueue;
use crossbeam::utils::CachePadded;

use crate::burst::{BURST, Burst};
use crate::counters::WorkerCounters;
use crate::header::flow;
use crate::ids::PortId;
use crate::offload::{Kinds, PortOffloads};
use crate::packet::Packet;
use crate::verdict::DropReason;

/// Packets that wait for one worker at most.
pub const INBOX: usize = 128 * BURST;

/// Packets in a batch at most: with more, a packet that comes alone would take up more room.
const BATCH: usize = 16;

/// When a port's flows are shared out.
#[derive(Clone, Debug)]
pub enum Shared {
    /// Never.
    Never,
    /// Always: it has fewer RX queues than there are workers.
    Always,
    /// If it cannot deal flows out to its queues, or was seen to give all to one. Where it does so only with frames of
    /// some number of tags, only those are shared out: NICs may not look behind two tags.
    WithoutRss(Arc<PortOffloads>),
}

/// Packets of one port on their way to another worker.
struct Batch<P> {
    port: PortId,
    len: usize,
    packets: [Option<P>; BATCH],
}

/// What waits for one worker. Batches go round: from `free` to whoever fills them, over `full` to the worker, and back.
struct Inbox<P> {
    full: ArrayQueue<Box<Batch<P>>>,
    /// There are as many batches as packets may wait, so that each may be alone in one.
    free: ArrayQueue<Box<Batch<P>>>,
    /// Packets that wait or are about to, and [`CLOSED`] once the worker takes no more.
    waiting: CachePadded<AtomicUsize>,
}

/// Whoever finds this in `waiting` keeps away.
const CLOSED: usize = 1 << (usize::BITS - 1);

impl<P> Inbox<P> {
    fn new() -> Self {
        let waiting = CachePadded::new(AtomicUsize::new(0));
        let this = Self { full: ArrayQueue::new(INBOX), free: ArrayQueue::new(INBOX), waiting };
        for _ in 0..INBOX {
            let batch = Batch { port: PortId(0), len: 0, packets: [const { None }; BATCH] };
            // There is room for as many.
            let _ = this.free.push(Box::new(batch));
        }
        this
    }

    /// Sees to room for `wanted` packets, or for as many as there is room for. Returns how many.
    fn reserve(&self, wanted: usize) -> usize {
        let room = |waiting: usize| wanted.min(INBOX.saturating_sub(waiting));
        let more = |waiting| Some(waiting + room(waiting)).filter(|after| *after > waiting);
        // With `CLOSED` in it there is none.
        self.waiting.fetch_update(Ordering::AcqRel, Ordering::Acquire, more).map_or(0, room)
    }

    /// Ends what was reserved.
    fn release(&self, count: usize) {
        self.waiting.fetch_sub(count, Ordering::AcqRel);
    }
}

/// What is being filled for a worker.
struct Open<P> {
    /// Packets that are still to come, and have room.
    room: usize,
    batch: Option<Box<Batch<P>>>,
}

/// One worker's part in it.
pub struct HandOver<P> {
    /// By worker.
    inboxes: Arc<[Inbox<P>]>,
    worker: usize,
    /// By port.
    shared: Box<[Shared]>,
    /// By worker.
    open: Box<[Open<P>]>,
    /// The batch that did not go into the last burst.
    next: Option<Box<Batch<P>>>,
}

impl<P: Packet> HandOver<P> {
    /// For each of `workers` workers its part. `shared`: when a port's flows are shared out, by port.
    pub fn among(workers: usize, shared: &[Shared]) -> Vec<Self> {
        let inboxes: Arc<[_]> = (0..workers).map(|_| Inbox::new()).collect();
        let part = |worker| {
            let (inboxes, shared) = (Arc::clone(&inboxes), shared.into());
            let open = (0..workers).map(|_| Open { room: 0, batch: None }).collect();
            Self { inboxes, worker, shared, open, next: None }
        };
        (0..workers).map(part).collect()
    }

    /// From here on others may hand packets to this worker.
    pub fn open(&self) {
        self.inboxes[self.worker].waiting.fetch_and(!CLOSED, Ordering::AcqRel);
    }

    /// From here on nobody can, and drops them instead. What was handed over is still to be taken, as long as
    /// [`Self::is_empty`] says that there is any.
    pub fn close(&self) {
        self.inboxes[self.worker].waiting.fetch_or(CLOSED, Ordering::AcqRel);
    }

    /// Whether nothing waits, nor is about to.
    pub fn is_empty(&self) -> bool {
        self.inboxes[self.worker].waiting.load(Ordering::Acquire) & !CLOSED == 0
    }

    /// Hands those of a burst that was just received to other workers which are theirs. Returns how many are left.
    pub fn share(&mut self, burst: &mut Burst<P>, counters: &WorkerCounters) -> usize {
        let shared = match self.shared.get(usize::from(burst.port.0)) {
            Some(Shared::Always) => Kinds::ALL,
            Some(Shared::WithoutRss(offloads)) => offloads.not_dealt_out(),
            Some(Shared::Never) | None => Kinds::NONE,
        };
        if shared == Kinds::NONE {
            return burst.len;
        }
        let (port, len) = (burst.port, burst.len.min(BURST));
        let mut homes = [self.worker; BURST];
        for (home, packet) in homes.iter_mut().zip(burst.packets[..len].iter().flatten()) {
            if shared.contain_kind_of(packet) {
                *home = self.home(packet);
            }
            self.open[*home].room += 1;
        }
        let mut handed = 0;
        for (home, (inbox, open)) in self.inboxes.iter().zip(&mut self.open).enumerate() {
            if home != self.worker && open.room > 0 {
                open.room = inbox.reserve(open.room);
                handed += open.room as u64;
            }
        }
        self.open[self.worker].room = 0;
        let (mut kept, mut lost, mut lost_bytes) = (0, 0, 0);
        for (i, home) in homes[..len].iter().enumerate() {
            let Some(packet) = burst.packets[i].take() else { continue };
            if *home == self.worker {
                burst.packets[kept] = Some(packet);
                kept += 1;
            } else if let Err(packet) = self.add(*home, port, packet) {
                lost += 1;
                lost_bytes += packet.bytes().len() as u64;
            }
        }
        for (inbox, open) in self.inboxes.iter().zip(&mut self.open) {
            if let Some(batch) = open.batch.take() {
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

    /// Takes what was handed over into `burst`, whose slots are empty: as many batches of one port as it has room for.
    /// Returns how many packets.
    pub fn take(&mut self, burst: &mut Burst<P>) -> usize {
        let inbox = &self.inboxes[self.worker];
        let (mut port, mut count) = (PortId(0), 0);
        while let Some(mut batch) = self.next.take().or_else(|| inbox.full.pop()) {
            let len = batch.len.min(BATCH);
            if count > 0 && (batch.port != port || count + len > BURST) {
                self.next = Some(batch);
                break;
            }
            for (to, from) in burst.packets[count..].iter_mut().zip(&mut batch.packets[..len]) {
                *to = from.take();
            }
            port = batch.port;
            count += len;
            batch.len = 0;
            // There are no more batches than it has room for.
            let _ = inbox.free.push(batch);
        }
        if count > 0 {
            inbox.release(count);
            burst.begin(port, count);
        }
        count
    }

    /// The worker whose flow a packet is of. What is no IP stays.
    fn home(&self, packet: &P) -> usize {
        // By the high bits: the low ones choose the members of next-hop groups.
        let by_hash = |hash| ((u64::from(hash) * self.inboxes.len() as u64) >> 32) as usize;
        flow::of_frame(packet.bytes()).map_or(self.worker, by_hash)
    }

    /// Adds a packet to what is being filled for a worker, or gives it back if there is no room.
    fn add(&mut self, home: usize, port: PortId, packet: P) -> Result<(), P> {
        let (Some(open), Some(inbox)) = (self.open.get_mut(home), self.inboxes.get(home)) else {
            return Err(packet);
        };
        if open.room == 0 {
            return Err(packet);
        }
        open.room -= 1;
        // Each batch that is not free has a packet that was reserved for, and is free before that is released: there
        // is one.
        let Some(mut batch) = open.batch.take().or_else(|| inbox.free.pop()) else {
            inbox.release(1);
            return Err(packet);
        };
        batch.port = port;
        batch.packets[batch.len % BATCH] = Some(packet);
        batch.len += 1;
        if batch.len == BATCH {
            // There are no more batches than it has room for.
            let _ = inbox.full.push(batch);
        } else {
            open.batch = Some(batch);
        }
        Ok(())
    }
}
