//! Counters: written by one worker each, read and summed by control at any time.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use crossbeam::utils::CachePadded;

use crate::acl::RuleCounters;
use crate::burst::of_whole;
use crate::histogram::Histogram;
use crate::ids::{PortId, SubIfId};
use crate::verdict::{DropReason, PuntReason};

/// A counter with one writer. It may be read by anyone, and wraps after 2⁶⁴.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// Adds `n`. Only the owning worker calls this: it is a load and a store, not a locked instruction.
    pub fn add(&self, n: u64) {
        self.0.store(self.0.load(Relaxed).wrapping_add(n), Relaxed);
    }

    /// Puts `n` in the place of its value. Only its writer calls this.
    pub fn set(&self, n: u64) {
        self.0.store(n, Relaxed);
    }

    /// Its value.
    pub fn get(&self) -> u64 {
        self.0.load(Relaxed)
    }
}

/// What one worker counts of one port, for packets received there. At any moment when the worker is between
/// bursts: `received = forwarded + punted + sum(dropped)`.
#[derive(Debug)]
pub struct PortCounters {
    /// Packets received.
    pub received: Counter,
    /// Bytes received, L2 without FCS.
    pub received_bytes: Counter,
    /// Packets received here and handed to a TX queue of any port.
    pub forwarded: Counter,
    /// Packets received here and handed to the control thread, by reason.
    pub punted: [Counter; PuntReason::COUNT],
    /// Packets received here and dropped, by reason.
    pub dropped: [Counter; DropReason::COUNT],
    /// Packets handed to this port's TX queue, the control thread's included.
    pub sent: Counter,
    /// Bytes handed to this port's TX queue, L2 without FCS.
    pub sent_bytes: Counter,
    /// Packets of the control thread that this port's TX queue had no room for.
    pub inject_dropped: Counter,
}

impl Default for PortCounters {
    fn default() -> Self {
        Self {
            received: Counter::default(),
            received_bytes: Counter::default(),
            forwarded: Counter::default(),
            punted: std::array::from_fn(|_| Counter::default()),
            dropped: std::array::from_fn(|_| Counter::default()),
            sent: Counter::default(),
            sent_bytes: Counter::default(),
            inject_dropped: Counter::default(),
        }
    }
}

/// Packets and bytes in one direction.
#[derive(Debug, Default)]
#[repr(C, align(32))]
pub struct Traffic {
    /// Packets.
    pub packets: Counter,
    /// Bytes of the frames, without FCS, with tags.
    pub l2_bytes: Counter,
    /// Bytes of the IP packets.
    pub l3_bytes: Counter,
    /// So that one addition of a vector counts a packet.
    spare: Counter,
}

/// One packet as [`Traffic`] counts it: 1, its L2 and its L3 bytes, in 16 bits each from the lowest on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(transparent)]
pub struct Counted(u64);

impl Counted {
    /// A packet of these lengths, in bytes.
    #[inline(always)]
    pub fn new(l2: u16, l3: u16) -> Self {
        Self(1 | u64::from(l2) << 16 | u64::from(l3) << 32)
    }
}

impl Traffic {
    /// Counts `packets` packets of so many bytes in all.
    pub fn add(&self, packets: u64, l2_bytes: u64, l3_bytes: u64) {
        self.packets.add(packets);
        self.l2_bytes.add(l2_bytes);
        self.l3_bytes.add(l3_bytes);
    }

    /// Counts one packet. `WIDE`: the caller is compiled for, and runs on, a processor with AVX2.
    #[inline(always)]
    pub fn add_one<const WIDE: bool>(&self, packet: &Counted) {
        #[cfg(all(target_arch = "x86_64", not(miri)))]
        if WIDE {
            // SAFETY: the caller says that the processor has AVX2.
            #[allow(unsafe_code)]
            unsafe {
                return self.add_vector(packet);
            }
        }
        self.add(1, packet.0 >> 16 & 0xffff, packet.0 >> 32 & 0xffff);
    }

    #[cfg(all(target_arch = "x86_64", not(miri)))]
    #[inline]
    #[target_feature(enable = "avx2")]
    fn add_vector(&self, packet: &Counted) {
        use std::arch::x86_64::{_mm_cvtsi64_si128, _mm256_cvtepu16_epi64};
        let packet = _mm256_cvtepu16_epi64(_mm_cvtsi64_si128(packet.0.cast_signed()));
        // SAFETY: adds to the 32 bytes of `self`. Others may read its words meanwhile; Rust's rules forbid a plain wide
        // store then, so this is assembly, which does no more than four relaxed atomic loads and stores in some order could:
        // the processor writes each aligned word as a whole. This thread is the only writer.
        #[allow(unsafe_code)]
        unsafe {
            std::arch::asm!(
                "vpaddq {sum}, {sum}, ymmword ptr [{row}]",
                "vmovdqa ymmword ptr [{row}], {sum}",
                sum = inout(ymm_reg) packet => _,
                row = in(reg) std::ptr::from_ref(self),
                options(nostack, preserves_flags),
            );
        }
    }
}

/// What one worker counts of one sub-interface.
#[derive(Debug, Default)]
pub struct SubInterfaceCounters {
    /// Received, whatever became of it.
    pub received: Traffic,
    /// Sent.
    pub sent: Traffic,
}

/// How one worker spends its time.
#[derive(Debug, Default)]
pub struct WorkCounters {
    /// RX polls.
    pub polls: Counter,
    /// RX polls that brought nothing.
    pub empty_polls: Counter,
    /// Packets handled, from its own queues and from other workers.
    pub packets: Counter,
    /// Packets of its own queues that it handed to other workers.
    pub handed: Counter,
    /// Packets that other workers handed to it.
    pub taken: Counter,
    /// Cycles (of the time-stamp counter) in polls that brought packets, from the end of the poll before to transmission.
    pub busy_cycles: Counter,
    /// Cycles in all.
    pub cycles: Counter,
    /// Cycles from one round of polls to the next, sleep aside: what passes between looks at the queues.
    pub rounds: Histogram,
}

/// All that one worker counts.
#[derive(Debug)]
pub struct WorkerCounters {
    ports: Box<[CachePadded<PortCounters>]>,
    sub_interfaces: Box<[CachePadded<SubInterfaceCounters>]>,
    /// How it spends its time.
    pub work: CachePadded<WorkCounters>,
    /// What it counts of each rule of the access lists.
    pub rules: Arc<RuleCounters>,
    spare_port: CachePadded<PortCounters>,
    spare_sub_interface: CachePadded<SubInterfaceCounters>,
}

impl WorkerCounters {
    /// Counters for so many ports and sub-interfaces.
    pub fn new(ports: usize, sub_interfaces: usize) -> Self {
        Self {
            ports: (0..ports).map(|_| CachePadded::default()).collect(),
            sub_interfaces: (0..sub_interfaces).map(|_| CachePadded::default()).collect(),
            work: CachePadded::default(),
            rules: Arc::default(),
            spare_port: CachePadded::default(),
            spare_sub_interface: CachePadded::default(),
        }
    }

    /// Those of a port. An id out of range gets counters that nobody shows.
    pub fn port(&self, id: PortId) -> &PortCounters {
        self.ports.get(usize::from(id.0)).unwrap_or(&self.spare_port)
    }

    /// Those of a sub-interface. An id out of range gets counters that nobody shows.
    pub fn sub_interface(&self, id: SubIfId) -> &SubInterfaceCounters {
        self.rows().get(id)
    }

    /// Those of all sub-interfaces.
    #[inline(always)]
    pub(crate) fn rows(&self) -> Rows<'_> {
        Rows { all: &self.sub_interfaces, spare: &self.spare_sub_interface }
    }
}

/// The counters of all sub-interfaces, at hand for a burst: nothing that is counted could change where they are.
#[derive(Clone, Copy)]
pub(crate) struct Rows<'a> {
    all: &'a [CachePadded<SubInterfaceCounters>],
    spare: &'a SubInterfaceCounters,
}

impl<'a> Rows<'a> {
    /// As [`WorkerCounters::sub_interface`].
    #[inline(always)]
    pub(crate) fn get(self, id: SubIfId) -> &'a SubInterfaceCounters {
        self.all.get(usize::from(id.0)).map_or(self.spare, |row| row)
    }

    /// Counts packets of these sub-interfaces. `WIDE`: as for [`Traffic::add_one`].
    #[inline(always)]
    pub(crate) fn add_each<const WIDE: bool>(
        self,
        sub_if: &[SubIfId],
        packets: &[Counted],
        direction: impl Fn(&SubInterfaceCounters) -> &Traffic,
    ) {
        let greatest = of_whole(sub_if, |all| all.iter().fold(0, |greatest, id| id.0.max(greatest)));
        if usize::from(greatest) < self.all.len() {
            for (id, packet) in sub_if.iter().zip(packets) {
                // SAFETY: none is greater than the greatest.
                #[allow(unsafe_code)]
                let row = unsafe { self.all.get_unchecked(usize::from(id.0)) };
                direction(row).add_one::<WIDE>(packet);
            }
        } else {
            for (id, packet) in sub_if.iter().zip(packets) {
                direction(self.get(*id)).add_one::<WIDE>(packet);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_vector_counts_as_words_do() {
        let (words, vectors) = (Traffic::default(), Traffic::default());
        for (l2, l3) in [(60, 46), (0, 0), (u16::MAX, 1), (9018, u16::MAX)] {
            words.add_one::<false>(&Counted::new(l2, l3));
            #[cfg(all(target_arch = "x86_64", not(miri)))]
            if is_x86_feature_detected!("avx2") {
                vectors.add_one::<true>(&Counted::new(l2, l3));
                let all = |t: &Traffic| [t.packets.get(), t.l2_bytes.get(), t.l3_bytes.get(), t.spare.get()];
                assert_eq!(all(&vectors), all(&words));
            }
        }
        assert_eq!((words.packets.get(), words.l2_bytes.get()), (4, 60 + 65_535 + 9018));
        assert_eq!(words.l3_bytes.get(), 46 + 1 + 65_535);
        let _ = vectors;
    }
}
