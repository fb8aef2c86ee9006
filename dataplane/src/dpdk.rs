//! The adapter to DPDK: its mbufs as packets, its queues as a worker's ports.

use std::sync::Arc;

use dpdk_sys::{Mbuf, RxQueue, TxQueue};

use crate::ids::PortId;
use crate::io::PortIo;
use crate::offload::PortOffloads;
use crate::offload::insert::{self, TagQueue, Which};
use crate::packet::{Checksum, LEAD, Oddities, Packet, StrippedTags};

// SAFETY: an mbuf is a pointer to a buffer that it owns alone; only its own methods move the start or the length of it.
#[allow(unsafe_code)]
unsafe impl Packet for Mbuf {
    type Oddities = dpdk_sys::Oddities;

    #[inline]
    fn bytes(&self) -> &[u8] {
        Mbuf::bytes(self)
    }

    #[inline]
    fn bytes_mut(&mut self) -> &mut [u8] {
        Mbuf::bytes_mut(self)
    }

    #[inline]
    fn prepend(&mut self, count: usize) -> bool {
        Mbuf::prepend(self, count).is_some()
    }

    #[inline]
    fn trim_front(&mut self, count: usize) -> bool {
        Mbuf::trim_front(self, count)
    }

    #[inline]
    fn truncate(&mut self, length: usize) {
        Mbuf::truncate(self, length);
    }

    #[inline]
    fn segments(&self) -> u16 {
        Mbuf::segments(self)
    }

    #[inline]
    fn stripped_tags(&self) -> StrippedTags {
        match (self.stripped_qinq(), self.stripped_vlan()) {
            (Some((outer, inner)), _) => StrippedTags::Two { outer, inner },
            (None, Some(tci)) => StrippedTags::One(tci),
            (None, None) => StrippedTags::None,
        }
    }

    #[inline]
    fn checksum(&self) -> Checksum {
        match Mbuf::checksum(self) {
            dpdk_sys::Checksum::Unknown => Checksum::Unknown,
            dpdk_sys::Checksum::Right => Checksum::Right,
            dpdk_sys::Checksum::Wrong => Checksum::Wrong,
        }
    }

    #[inline(always)]
    fn reframe(&mut self, l3_offset: usize, l3_len: usize, l2_len: usize) -> Option<&mut [u8]> {
        self.move_start(l3_offset, l2_len, l2_len + l3_len)
    }

    #[inline(always)]
    fn regrow(&mut self, growth: i16, sparing: bool) -> Option<&mut [u8; LEAD]> {
        Mbuf::regrow(self, growth, sparing)
    }

    #[inline]
    fn prefetch(&self) {
        Mbuf::prefetch(self);
    }

    #[inline(always)]
    fn prefetch_front(&self, count: usize) {
        Mbuf::prefetch_front(self, count);
    }
}

impl Oddities<Mbuf> for dpdk_sys::Oddities {
    #[inline(always)]
    fn add(&mut self, packet: &Mbuf) {
        dpdk_sys::Oddities::add(self, packet);
    }

    #[inline(always)]
    fn any_odd(&self) -> bool {
        dpdk_sys::Oddities::any_odd(self)
    }

    #[inline(always)]
    fn any_doubt(&self) -> bool {
        dpdk_sys::Oddities::any_doubt(self)
    }
}

/// A worker's way out of a port.
pub struct Outlet {
    /// Its TX queue there.
    pub queue: TxQueue,
    /// The port's offloads, if it was set up to put tags on.
    pub puts_tags_on: Option<Arc<PortOffloads>>,
}

impl From<TxQueue> for Outlet {
    fn from(queue: TxQueue) -> Self {
        Self { queue, puts_tags_on: None }
    }
}

impl TagQueue for TxQueue {
    type Packet = Mbuf;

    fn told_tag(packet: &Mbuf) -> Option<u16> {
        packet.vlan_to_insert()
    }

    fn tell_tag(packet: &mut Mbuf, tci: Option<u16>) {
        packet.set_vlan_to_insert(tci);
    }

    fn prepare(&mut self, packets: &mut [Option<Mbuf>]) -> usize {
        TxQueue::prepare(self, packets)
    }

    fn burst(&mut self, packets: &mut [Option<Mbuf>]) -> usize {
        TxQueue::burst(self, packets)
    }
}

/// Sends on a port that puts tags on, or may once it is seen to. Out of the way of all others.
#[cold]
#[inline(never)]
fn with_tags(queue: &mut TxQueue, offloads: &PortOffloads, packets: &mut [Option<Mbuf>]) -> usize {
    if offloads.puts_tags_on() { insert::send(queue, packets, Which::Ip) } else { queue.burst(packets) }
}

/// A worker's queues: those it receives from, each with its port, and one to send on for every port.
pub struct DpdkIo {
    /// RX queues with their ports.
    pub rx: Vec<(PortId, RxQueue)>,
    /// Ways out; the index is the [`PortId`].
    pub tx: Vec<Outlet>,
}

impl PortIo for DpdkIo {
    type Packet = Mbuf;

    fn rx_queues(&self) -> usize {
        self.rx.len()
    }

    fn rx_port(&self, queue: usize) -> PortId {
        self.rx[queue].0
    }

    fn tx_ports(&self) -> usize {
        self.tx.len()
    }

    #[inline]
    fn rx(&mut self, queue: usize, out: &mut [Option<Mbuf>]) -> usize {
        self.rx[queue].1.burst(out)
    }

    #[inline(always)]
    fn tx(&mut self, port: PortId, packets: &mut [Option<Mbuf>]) -> usize {
        match self.tx.get_mut(usize::from(port.0)) {
            Some(Outlet { queue, puts_tags_on: None }) => queue.burst(packets),
            Some(Outlet { queue, puts_tags_on: Some(offloads) }) => with_tags(queue, offloads, packets),
            None => 0,
        }
    }

    #[cold]
    fn tx_tag_by_nic(&mut self, port: PortId, packets: &mut [Option<Mbuf>]) -> usize {
        match self.tx.get_mut(usize::from(port.0)) {
            Some(Outlet { queue, puts_tags_on: Some(_) }) => insert::send(queue, packets, Which::Any),
            _ => self.tx(port, packets),
        }
    }

    #[inline]
    fn cycles(&self) -> u64 {
        dpdk_sys::cycles()
    }
}
