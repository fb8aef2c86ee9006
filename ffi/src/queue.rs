//! Queues of a started port: owned handles, one user each.

use std::fmt;
use std::marker::PhantomData;
use std::ptr;
use std::sync::Arc;

use crate::port::PortInner;
use crate::{Mbuf, sys};

/// What both kinds of queue are. `Cell` makes them `Send` but not `Sync`.
struct Queue {
    port: u16,
    index: u16,
    inner: Arc<PortInner>,
    _not_sync: PhantomData<std::cell::Cell<()>>,
}

impl Queue {
    fn new(inner: &Arc<PortInner>, index: u16) -> Self {
        Self { port: inner.id(), index, inner: Arc::clone(inner), _not_sync: PhantomData }
    }
}

/// The right to receive from one queue. Keeps its port open.
pub struct RxQueue(Queue);

/// The right to send on one queue. Keeps its port open.
pub struct TxQueue(Queue);

impl RxQueue {
    /// # Safety
    /// The port must be started with more than `index` RX queues and stay so while `inner` lives; at most one
    /// handle for each queue.
    pub(crate) unsafe fn new(inner: &Arc<PortInner>, index: u16) -> Self {
        Self(Queue::new(inner, index))
    }

    /// Receives at most `out.len()` packets into the front of `out`, and returns how many. Slots should be `None`;
    /// packets left in them are dropped.
    #[inline]
    pub fn burst(&mut self, out: &mut [Option<Mbuf>]) -> usize {
        // Without an early exit this is a few vector instructions.
        if out.iter().fold(false, |any, slot| any | slot.is_some()) {
            empty(out);
        }
        let n = u16::try_from(out.len()).unwrap_or(u16::MAX);
        // SAFETY: the queue exists while the port lives, and this is its only handle. `Option<Mbuf>` is a nullable
        // pointer, DPDK writes at most `n` of them, and each is a live packet that is now ours. The others stay
        // `None`. What DPDK overwrites owns nothing.
        usize::from(unsafe { sys::shim_rx_burst(self.0.port, self.0.index, out.as_mut_ptr().cast(), n) })
    }

    /// Its number on the port.
    pub fn index(&self) -> u16 {
        self.0.index
    }
}

#[cold]
#[inline(never)]
fn empty(slots: &mut [Option<Mbuf>]) {
    slots.fill_with(|| None);
}

#[cold]
#[inline(never)]
fn leading(packets: &[Option<Mbuf>]) -> usize {
    packets.iter().position(Option::is_none).unwrap_or(packets.len())
}

impl TxQueue {
    /// # Safety
    /// As for [`RxQueue::new`], with TX queues.
    pub(crate) unsafe fn new(inner: &Arc<PortInner>, index: u16) -> Self {
        Self(Queue::new(inner, index))
    }

    /// Has the driver make the leading run of `Some` ready to be sent, as offloads of their packets may need it, and
    /// returns how many are; it refuses the one behind.
    pub fn prepare(&mut self, packets: &mut [Option<Mbuf>]) -> usize {
        let n = u16::try_from(leading(packets)).unwrap_or(u16::MAX);
        // SAFETY: the queue exists while the port lives, and this is its only handle. The first `n` slots are pointers
        // to live packets, and stay so; all remain ours.
        usize::from(unsafe {
            sys::shim_tx_prepare(self.0.port, self.0.index, packets.as_mut_ptr().cast(), n)
        })
    }

    /// Sends from the leading run of `Some`, and returns how many packets the NIC took: their slots are `None`
    /// afterwards, the others as they were.
    #[inline(always)]
    #[allow(clippy::inline_always, reason = "in every packet's way")]
    pub fn burst(&mut self, packets: &mut [Option<Mbuf>]) -> usize {
        // Without an early exit this is a few vector instructions; a gap is rare.
        let full = packets.iter().fold(true, |all, slot| all & slot.is_some());
        let run = if full { packets.len() } else { leading(packets) };
        let n = u16::try_from(run).unwrap_or(u16::MAX);
        // SAFETY: the queue exists while the port lives, and this is its only handle. The first `n` slots are
        // pointers to live packets; DPDK takes over those that it counts as sent and leaves the array as it is.
        let sent = usize::from(unsafe {
            sys::shim_tx_burst(self.0.port, self.0.index, packets.as_mut_ptr().cast(), n)
        });
        for slot in packets.iter_mut().take(sent) {
            // SAFETY: the slot is valid for a write. It is not dropped: the packet is DPDK's now.
            unsafe { ptr::write(slot, None) };
        }
        sent
    }

    /// Its number on the port.
    pub fn index(&self) -> u16 {
        self.0.index
    }
}

impl fmt::Debug for RxQueue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "RxQueue({} {})", self.0.inner.device(), self.0.index)
    }
}

impl fmt::Debug for TxQueue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TxQueue({} {})", self.0.inner.device(), self.0.index)
    }
}
