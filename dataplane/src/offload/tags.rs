//! Whether a NIC tells rightly of the tags that it takes off. What it took off is gone, so packets are looked at first
//! while it leaves tags on: which VLAN each flow is in. Then it takes them off, and what it says of packets of the same
//! flows must be that.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};

use super::State;
use crate::header::{be16, ethernet, flow};
use crate::packet::{Packet, StrippedTags};

/// Packets that are looked at first, and that must be told of rightly then.
pub const ENOUGH_TAGS: u64 = 256;
/// Packets with a tag that are too many when tags are taken off.
const TOO_MANY: u64 = 4096;
/// Flows that are remembered, by the low bits of their fingerprints.
const PLACES: usize = 1024;
/// The VLAN of a flow that was seen in several.
const SEVERAL: u64 = 0xffff;

/// What was seen of a port's tags.
#[derive(Debug)]
pub(super) struct Tags {
    /// 48 bits of a flow's fingerprint, then its outermost VLAN id, or [`SEVERAL`]; 0 where there is none.
    flows: Box<[AtomicU64]>,
    /// Packets that were looked at while tags were left on.
    learned: AtomicU64,
    /// Whether tags are taken off.
    comparing: AtomicBool,
    /// Packets that were told of rightly.
    agreed: AtomicU64,
    /// Packets that still had their tag.
    left_on: AtomicU64,
}

impl Tags {
    pub(super) fn new() -> Self {
        Self {
            flows: (0..PLACES).map(|_| AtomicU64::new(0)).collect(),
            learned: AtomicU64::new(0),
            comparing: AtomicBool::new(false),
            agreed: AtomicU64::new(0),
            left_on: AtomicU64::new(0),
        }
    }

    /// Whether there are packets enough to compare with.
    pub(super) fn knows_enough(&self) -> bool {
        self.learned.load(Relaxed) >= ENOUGH_TAGS
    }

    /// Tags are taken off from now on.
    pub(super) fn compare(&self) {
        self.comparing.store(true, Relaxed);
    }

    /// Looks at a packet; what it decides, if it does.
    pub(super) fn look<P: Packet>(&self, packet: &P) -> Option<State> {
        let frame = packet.bytes();
        let tagged = be16(frame, 12) == ethernet::TPID_8021Q;
        let vid = |tci| Some(u64::from(ethernet::vid(tci))).filter(|vid| *vid != 0);
        let (vid, off) = match packet.stripped_tags() {
            StrippedTags::None if tagged => (vid(be16(frame, 14))?, false),
            StrippedTags::None => return None,
            StrippedTags::One(tci) | StrippedTags::Two { outer: tci, .. } => (vid(tci)?, true),
        };
        if off != self.comparing.load(Relaxed) {
            // On its way when the NIC was told, or the NIC does not do as it is told.
            let left_on = !off && self.left_on.fetch_add(1, Relaxed) >= TOO_MANY;
            return left_on.then_some(State::LeftOn);
        }
        // The same addresses may be in several VLANs, but seldom of the same station.
        let station = frame.get(6..12)?.iter().fold(0, |station, byte| station << 8 | u64::from(*byte));
        let flow = flow::fingerprint(frame)? ^ station.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let place = &self.flows[flow as usize % PLACES];
        let (entry, old) = (flow & !0xffff | vid, place.load(Relaxed));
        let same_flow = old != 0 && old >> 16 == entry >> 16;
        if !off {
            if old == 0 {
                place.store(entry, Relaxed);
            } else if same_flow && old != entry {
                place.store(old | SEVERAL, Relaxed);
            }
            self.learned.fetch_add(1, Relaxed);
            return None;
        }
        if !same_flow || old & SEVERAL == SEVERAL {
            return None;
        }
        if old != entry {
            return Some(State::OtherTag);
        }
        (self.agreed.fetch_add(1, Relaxed) + 1 >= ENOUGH_TAGS).then_some(State::InUse)
    }
}
