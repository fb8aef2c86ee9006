//! Whether a NIC deals flows out to its queues, and keeps each on one. NICs differ in how many tags they look behind, so
//! frames without, with one and with two tags are judged each by themselves.

use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering::Relaxed};

use super::State;
use crate::header::{be16, ethernet, flow};
use crate::packet::{Packet, StrippedTags};

/// Flows of a kind after which it must have been seen that they are dealt out.
const FLOWS: u64 = 256;
/// Flows that are remembered, by the low bits of their fingerprints.
const PLACES: usize = 1024;

/// A kind of frames, by their tags.
#[derive(Clone, Copy, Debug)]
#[repr(u8)]
enum Kind {
    /// Without any.
    Untagged,
    /// With one.
    OneTag,
    /// With two or more.
    TwoTags,
}

impl Kind {
    /// All of them.
    const ALL: [Self; 3] = [Self::Untagged, Self::OneTag, Self::TwoTags];

    /// What such frames have, in words.
    const fn name(self) -> &'static str {
        match self {
            Self::Untagged => "no tag",
            Self::OneTag => "one tag",
            Self::TwoTags => "two tags",
        }
    }

    /// That of a frame as it was on the wire, and the VLAN ids of its two outer tags.
    fn of<P: Packet>(packet: &P) -> (Self, u64) {
        let add = |(tags, vids), tci| (tags + 1, vids << 12 | u64::from(ethernet::vid(tci)));
        let mut found = match packet.stripped_tags() {
            StrippedTags::None => (0, 0),
            StrippedTags::One(tci) => add((0, 0), tci),
            StrippedTags::Two { outer, inner } => add(add((0, 0), outer), inner),
        };
        for at in [12, 16] {
            if found.0 >= 2 || !ethernet::is_tpid(be16(packet.bytes(), at)) {
                break;
            }
            found = add(found, be16(packet.bytes(), at + 2));
        }
        (Self::ALL[found.0.min(2)], found.1)
    }
}

/// Some kinds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Kinds(u8);

impl Kinds {
    /// None.
    pub const NONE: Self = Self(0);
    /// All.
    pub const ALL: Self = Self(7);

    /// Whether a kind is among them.
    const fn contains(self, kind: Kind) -> bool {
        self.0 >> kind as u8 & 1 == 1
    }

    /// What frames of these kinds have, in words; `None` where there are none.
    pub fn names(self) -> Option<String> {
        let names: Vec<_> =
            Kind::ALL.into_iter().filter(|kind| self.contains(*kind)).map(Kind::name).collect();
        (!names.is_empty()).then(|| names.join(" or "))
    }

    /// Whether a frame's kind is among them.
    #[inline]
    pub fn contain_kind_of<P: Packet>(self, packet: &P) -> bool {
        self == Self::ALL || self.contains(Kind::of(packet).0)
    }
}

/// What was seen of a kind.
#[derive(Debug)]
struct Seen {
    /// Flows, each with the queue that it came on: 48 bits of its fingerprint, then queue and 1; 0 where there is none.
    flows: Box<[AtomicU64]>,
    /// How many there are.
    count: AtomicU64,
    /// The first one's queue and 1, or 0.
    first: AtomicU64,
    /// Whether another has another queue.
    dealt: AtomicBool,
}

impl Seen {
    fn nothing() -> Self {
        Self {
            flows: (0..PLACES).map(|_| AtomicU64::new(0)).collect(),
            count: AtomicU64::new(0),
            first: AtomicU64::new(0),
            dealt: AtomicBool::new(false),
        }
    }
}

/// What was seen of the queues that a port's flows came on.
#[derive(Debug)]
pub(super) struct Rss {
    /// By kind.
    seen: [Seen; Kind::ALL.len()],
    /// [`Kinds`] of which all flows were seen on one queue.
    lone: AtomicU8,
}

impl Rss {
    pub(super) fn new() -> Self {
        Self { seen: Kind::ALL.map(|_| Seen::nothing()), lone: AtomicU8::new(0) }
    }

    /// The kinds of which all flows were seen on one queue. They stay: flows do not change workers to and fro.
    #[inline]
    pub(super) fn lone(&self) -> Kinds {
        Kinds(self.lone.load(Relaxed))
    }

    /// Looks at a packet that came on a queue; what it says of its kind, if it does, or that a flow was split.
    pub(super) fn look<P: Packet>(&self, packet: &P, queue: u16) -> Option<State> {
        let (kind, vids) = Kind::of(packet);
        let seen = &self.seen[kind as usize];
        // The same addresses and ports in another VLAN may hash otherwise, and are a flow of their own.
        let fingerprint = flow::fingerprint(packet.bytes())? ^ vids.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let place = &seen.flows[fingerprint as usize % PLACES];
        let queue = u64::from(queue) + 1;
        let entry = fingerprint & !0xffff | queue & 0xffff;
        let old = place.load(Relaxed);
        if old != 0 {
            return (old >> 16 == entry >> 16 && old != entry).then_some(State::FlowSplit);
        }
        place.store(entry, Relaxed);
        let count = seen.count.fetch_add(1, Relaxed) + 1;
        if seen.first.compare_exchange(0, queue, Relaxed, Relaxed).is_err_and(|first| first != queue) {
            seen.dealt.store(true, Relaxed);
        }
        if count < FLOWS {
            None
        } else if seen.dealt.load(Relaxed) && !self.lone().contains(kind) {
            Some(State::InUse)
        } else {
            self.lone.fetch_or(1 << kind as u8, Relaxed);
            Some(State::OneQueue)
        }
    }
}
