//! The way between workers and the control thread: punted packets up, over two bounded rings and policed by reason,
//! and the control thread's own packets down. What keeps links and neighbours alive has a ring of its own, so that
//! a flood to our addresses cannot make it wait.

use std::sync::Arc;

use crossbeam::queue::ArrayQueue;

use crate::ids::{AdjId, PortId, SubIfId};
use crate::verdict::{DropReason, PuntReason};

/// A packet for the control thread, as it was received.
#[derive(Debug)]
pub struct Punted<P> {
    /// The frame, tags included unless the NIC took them off.
    pub packet: P,
    /// Why it is here.
    pub reason: PuntReason,
    /// Where it was received.
    pub port: PortId,
    /// The sub-interface it was received on.
    pub sub_if: SubIfId,
    /// Where its IP (or ARP) header starts, in bytes.
    pub l3_offset: u8,
    /// The adjacency that its route led to; meaningful for reasons that arise after the look-up.
    pub adjacency: AdjId,
    /// The MTU of that adjacency when the packet met it, in bytes: by the time that the sender is told, there may be
    /// another in its place. 0 where there is none.
    pub mtu: u16,
}

/// A frame of the control thread, ready to leave.
pub struct Injected<P> {
    /// The frame with its tags.
    pub packet: P,
    /// The port to send it on.
    pub port: PortId,
    /// The sub-interface it is counted on.
    pub sub_if: SubIfId,
    /// Its length without the L2 header, in bytes.
    pub l3_len: u16,
    /// Whether the port is to put its tag on, to see whether it does; else what the port does for all.
    pub tag_by_nic: bool,
}

/// The budget of each reason, by [`PuntReason::index`].
pub type Budgets = [Budget; PuntReason::COUNT];

/// The budgets of all reasons, unless something else was configured.
pub fn default_budgets() -> Budgets {
    std::array::from_fn(|i| default_budget(PuntReason::ALL[i]))
}

/// The rings between one worker and the control thread.
pub struct Rings<P> {
    /// What the worker may send up.
    pub budgets: Budgets,
    /// Worker to control, for urgent reasons: emptied before `punt`.
    pub urgent: Arc<ArrayQueue<Punted<P>>>,
    /// Worker to control.
    pub punt: Arc<ArrayQueue<Punted<P>>>,
    /// Control to worker.
    pub inject: Arc<ArrayQueue<Injected<P>>>,
}

impl<P> Clone for Rings<P> {
    fn clone(&self) -> Self {
        Self {
            budgets: self.budgets,
            urgent: Arc::clone(&self.urgent),
            punt: Arc::clone(&self.punt),
            inject: Arc::clone(&self.inject),
        }
    }
}

impl<P> Rings<P> {
    /// Rings of the given capacity, in packets, with the default budgets.
    pub fn new(capacity: usize) -> Self {
        Self::with_budgets(capacity, default_budgets())
    }

    /// Rings of the given capacity, in packets, with these budgets.
    pub fn with_budgets(capacity: usize, budgets: Budgets) -> Self {
        let ring = || Arc::new(ArrayQueue::new(capacity));
        Self { budgets, urgent: ring(), punt: ring(), inject: Arc::new(ArrayQueue::new(capacity)) }
    }
}

/// What one reason may send up: a token bucket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Budget {
    /// Packets per second, sustained.
    pub rate: u32,
    /// Packets at once.
    pub burst: u32,
}

/// The budget that each worker starts with for a reason on a port. The bursts of all reasons of one port together take
/// three quarters of the rings at most, whose size is [`PUNT_RING`].
pub const fn default_budget(reason: PuntReason) -> Budget {
    match reason {
        PuntReason::Bgp => Budget { rate: 20_000, burst: 2048 },
        PuntReason::Bfd => Budget { rate: 10_000, burst: 1024 },
        PuntReason::Arp | PuntReason::NeighbourDiscovery => Budget { rate: 2_000, burst: 512 },
        PuntReason::Local => Budget { rate: 10_000, burst: 1024 },
        PuntReason::Multicast | PuntReason::LinkControl => Budget { rate: 1_000, burst: 256 },
        PuntReason::Unresolved => Budget { rate: 2_000, burst: 512 },
        PuntReason::TtlExpired | PuntReason::ExceedsMtu => Budget { rate: 2_000, burst: 512 },
        PuntReason::Fragment => Budget { rate: 10_000, burst: 256 },
        PuntReason::NoRoute | PuntReason::Prohibited => Budget { rate: 500, burst: 128 },
        PuntReason::IpOptions | PuntReason::HopByHop => Budget { rate: 2_000, burst: 256 },
    }
}

/// Whether packets of this reason go before others: links and neighbours die without them.
pub const fn is_urgent(reason: PuntReason) -> bool {
    matches!(
        reason,
        PuntReason::Bfd | PuntReason::Arp | PuntReason::NeighbourDiscovery | PuntReason::LinkControl
    )
}

/// Capacity of a ring, in packets.
pub const PUNT_RING: usize = 8192;

/// A token bucket in cycles: no division on the way of a packet.
#[derive(Clone, Copy, Debug)]
struct Bucket {
    /// Credit, in cycles.
    credit: u64,
    /// Cycles that one packet costs.
    cost: u64,
    /// Most credit.
    limit: u64,
    /// What is kept for sub-interfaces that took little of late.
    kept: u64,
    /// Packets of a sub-interface in a [`PERIODS`]th of a second that are little.
    little: u16,
}

/// Parts of a second by which it is reckoned what a sub-interface took.
const PERIODS: u64 = 4;
/// Sub-interfaces are told apart by so many of their numbers' low bits; those of one port mostly follow one another.
const PLACES: usize = 256;

/// The buckets of one port.
#[derive(Clone, Debug)]
struct Policer {
    buckets: [Bucket; PuntReason::COUNT],
    /// When they were credited last.
    last: u64,
    /// By sub-interface: packets of each reason in this period.
    taken: Box<[[u16; PuntReason::COUNT]]>,
    /// Where the period ends.
    ends: u64,
}

/// One worker's way up: its rings, and a policer for each port, so that a flood on one takes nothing from another. Of what
/// a reason may send at once on a port, a quarter is kept for sub-interfaces that took little of late: a flood on one
/// sub-interface has what is left of the rate, and leaves the others room.
pub struct PuntPath<P> {
    urgent: Arc<ArrayQueue<Punted<P>>>,
    ring: Arc<ArrayQueue<Punted<P>>>,
    ports: Box<[Policer]>,
    /// How long a period is.
    period: u64,
}

impl<P> PuntPath<P> {
    /// The way over `rings`, with their budgets, for packets of `ports` ports. `hz`: cycles per second of the clock
    /// given to [`Self::tick`], whose value is `now`.
    pub fn new(rings: &Rings<P>, ports: usize, hz: u64, now: u64) -> Self {
        let bucket = |i: usize| {
            let budget = rings.budgets[i];
            let cost = (hz / u64::from(budget.rate.max(1))).max(1);
            let limit = cost * u64::from(budget.burst);
            // At least a packet is left for whoever took more.
            let kept = (limit / 4).min(limit.saturating_sub(cost));
            Bucket { credit: limit, cost, limit, kept, little: (budget.burst / 16).clamp(1, 1 << 15) as u16 }
        };
        let period = hz / PERIODS;
        let policer = Policer {
            buckets: std::array::from_fn(bucket),
            last: now,
            taken: vec![[0; PuntReason::COUNT]; PLACES].into(),
            ends: now.saturating_add(period),
        };
        Self {
            urgent: Arc::clone(&rings.urgent),
            ring: Arc::clone(&rings.punt),
            ports: vec![policer; ports].into(),
            period,
        }
    }

    /// Credits a port with the time since the last call for it; before the packets of a burst are given.
    pub fn tick(&mut self, port: PortId, now: u64) {
        let Some(policer) = self.ports.get_mut(usize::from(port.0)) else { return };
        let passed = now.saturating_sub(policer.last);
        policer.last = now;
        for bucket in &mut policer.buckets {
            bucket.credit = bucket.credit.saturating_add(passed).min(bucket.limit);
        }
        if now >= policer.ends {
            policer.ends = now.saturating_add(self.period);
            policer.taken.fill([0; PuntReason::COUNT]);
        }
    }

    /// Hands a packet to the control thread.
    ///
    /// # Errors
    /// The reason for which it was dropped instead: over its budget, or no room in the ring.
    pub fn give(&mut self, punted: Punted<P>) -> Result<(), DropReason> {
        // What matters to people of those without a route is that they had nowhere to go.
        let no_route = punted.reason == PuntReason::NoRoute;
        let policed = if no_route { DropReason::NoRoute } else { DropReason::PuntPoliced };
        let policer = self.ports.get_mut(usize::from(punted.port.0)).ok_or(policed)?;
        let reason = punted.reason.index();
        let bucket = &mut policer.buckets[reason];
        let taken = &mut policer.taken[usize::from(punted.sub_if.0) % PLACES][reason];
        let kept = if *taken >= bucket.little { bucket.kept } else { 0 };
        if bucket.credit < bucket.cost + kept {
            return Err(policed);
        }
        let ring = if is_urgent(punted.reason) { &self.urgent } else { &self.ring };
        ring.push(punted).map_err(|_| DropReason::PuntRingFull)?;
        bucket.credit -= bucket.cost;
        *taken = taken.saturating_add(1);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn punted(reason: PuntReason) -> Punted<u32> {
        let adjacency = AdjId(0);
        Punted { packet: 0, reason, port: PortId(0), sub_if: SubIfId(0), l3_offset: 14, adjacency, mtu: 0 }
    }

    #[test]
    fn a_flood_of_one_reason_leaves_the_others_their_budget() {
        let rings = Rings::new(PUNT_RING);
        let hz = 1_000_000_000;
        let mut path = PuntPath::new(&rings, 2, hz, 0);
        let mut taken = 0;
        for _ in 0..100_000 {
            taken += u32::from(path.give(punted(PuntReason::Arp)).is_ok());
        }
        assert_eq!(taken, default_budget(PuntReason::Arp).burst * 3 / 4);
        assert_eq!(path.give(punted(PuntReason::Arp)), Err(DropReason::PuntPoliced));
        assert_eq!(path.give(punted(PuntReason::Bgp)), Ok(()));
        path.tick(PortId(0), hz);
        let more = (0..10_000).filter(|_| path.give(punted(PuntReason::Arp)).is_ok()).count();
        assert_eq!(more, 512 * 3 / 4, "a second's credit, but no more than the burst without what is kept");
    }

    #[test]
    fn a_flood_on_one_sub_interface_leaves_the_others_of_its_port_theirs() {
        let rings = Rings::new(1 << 16);
        let hz = 1_000_000_000;
        let mut path = PuntPath::new(&rings, 1, hz, 0);
        let from = |sub_if| Punted { sub_if: SubIfId(sub_if), ..punted(PuntReason::Arp) };
        let Budget { rate, .. } = default_budget(PuntReason::Arp);
        let (mut flood, mut others) = (0, [0; 3]);
        // For ten seconds, each millisecond 1,000 packets of one; of each other one ten a second.
        for ms in 0..10_000u64 {
            path.tick(PortId(0), ms * hz / 1000);
            flood += (0..1000).filter(|_| path.give(from(7)).is_ok()).count();
            for (n, other) in others.iter_mut().enumerate() {
                if ms % 100 == 0 {
                    *other += usize::from(path.give(from(20 + n as u16)).is_ok());
                }
            }
        }
        assert_eq!(others, [100; 3], "nothing of theirs is lost");
        let least = (rate as usize - 3 * 10) * 10;
        assert!((least..least + 1000).contains(&flood), "it has the rest: {flood}");
    }

    #[test]
    fn a_budget_of_one_packet_lets_it_pass() {
        let mut budgets = default_budgets();
        budgets[PuntReason::Arp.index()] = Budget { rate: 1, burst: 1 };
        let rings = Rings::with_budgets(64, budgets);
        let mut path = PuntPath::new(&rings, 1, 1000, 0);
        for second in 0..5 {
            path.tick(PortId(0), second * 1000);
            assert_eq!(path.give(punted(PuntReason::Arp)), Ok(()), "{second}");
            assert_eq!(path.give(punted(PuntReason::Arp)), Err(DropReason::PuntPoliced));
        }
    }

    #[test]
    fn a_flood_on_one_port_leaves_the_others_their_budget() {
        let rings = Rings::new(PUNT_RING);
        let mut path = PuntPath::new(&rings, 2, 1_000_000_000, 0);
        while path.give(punted(PuntReason::Arp)).is_ok() {}
        let on = |port| Punted { port: PortId(port), ..punted(PuntReason::Arp) };
        assert_eq!(path.give(on(1)), Ok(()));
        assert_eq!(path.give(on(2)), Err(DropReason::PuntPoliced), "there is no such port");
        path.tick(PortId(1), 1_000_000_000);
        assert_eq!(path.give(on(0)), Err(DropReason::PuntPoliced), "each has its own clock");
    }

    #[test]
    fn all_bursts_together_leave_room_in_the_rings() {
        let sum = |urgent: bool| -> u32 {
            let reasons = PuntReason::ALL.iter().filter(|reason| is_urgent(**reason) == urgent);
            reasons.map(|reason| default_budget(*reason).burst).sum()
        };
        assert!(sum(true) as usize <= PUNT_RING * 3 / 4);
        assert!(sum(false) as usize <= PUNT_RING * 3 / 4);
    }

    #[test]
    fn a_full_ring_is_a_named_drop() {
        let rings = Rings::new(1);
        let mut path = PuntPath::new(&rings, 1, 1_000_000, 0);
        assert_eq!(path.give(punted(PuntReason::Bfd)), Ok(()));
        assert_eq!(path.give(punted(PuntReason::Bfd)), Err(DropReason::PuntRingFull));
    }
}
