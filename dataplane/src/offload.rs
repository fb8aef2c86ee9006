//! Offloads: what a NIC does of a packet's work, and whether its word is to be taken. Until a NIC was seen to do right,
//! and now and then after that, software decides and what the NIC says is held against it. What is found wrong once is
//! not used again.

pub mod insert;
mod rss;
mod tags;

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering::Relaxed};

use crate::burst::{Bits, Burst};
use crate::packet::{Checksum, Packet};
use crate::verdict::{DropReason, Verdict};

pub use rss::Kinds;
use rss::Rss;
pub use tags::ENOUGH_TAGS;
use tags::Tags;

/// Something that a NIC may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Offload {
    /// Checks IPv4 header checksums of what it receives.
    RxChecksum,
    /// Deals flows out to several RX queues.
    Rss,
    /// Takes the outermost VLAN tag off what it receives.
    VlanStrip,
    /// Puts the VLAN tag on what it sends.
    VlanInsert,
}

impl Offload {
    /// All of them, in the order of their indices.
    pub const ALL: [Self; 4] = [Self::RxChecksum, Self::Rss, Self::VlanStrip, Self::VlanInsert];

    /// Its name in the configuration and in `turnpike show ports`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::RxChecksum => "rx_checksum",
            Self::Rss => "rss",
            Self::VlanStrip => "vlan_strip",
            Self::VlanInsert => "vlan_insert",
        }
    }
}

/// Whether a port's offload is used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum State {
    /// Nobody asked for it.
    NotAsked,
    /// The NIC cannot do it.
    NotGranted,
    /// Software decides, and what the NIC says is compared.
    Checking,
    /// It was seen to do right, and is used.
    InUse,
    /// It called a wrong checksum right.
    FalselyRight,
    /// It called a right checksum wrong.
    FalselyWrong,
    /// It says nothing.
    Silent,
    /// It gave packets of one flow to two queues.
    FlowSplit,
    /// It gave all flows to one queue.
    OneQueue,
    /// It told of another tag than the packets of that flow have.
    OtherTag,
    /// It leaves tags on.
    LeftOn,
    /// It cannot be told to begin while it runs.
    Fixed,
    /// Neighbours did not answer what it put the tag on.
    Unanswered,
}

impl State {
    const ALL: [Self; 13] = [
        Self::NotAsked,
        Self::NotGranted,
        Self::Checking,
        Self::InUse,
        Self::FalselyRight,
        Self::FalselyWrong,
        Self::Silent,
        Self::FlowSplit,
        Self::OneQueue,
        Self::OtherTag,
        Self::LeftOn,
        Self::Fixed,
        Self::Unanswered,
    ];

    /// Why it is not used; `None` where it is.
    pub const fn why_not(self) -> Option<&'static str> {
        Some(match self {
            Self::InUse => return None,
            Self::NotAsked => "not asked for",
            Self::NotGranted => "the port cannot",
            Self::Checking => "being checked",
            Self::FalselyRight => "failed: called a wrong checksum right",
            Self::FalselyWrong => "failed: called a right checksum wrong",
            Self::Silent => "failed: says nothing of checksums",
            Self::FlowSplit => "failed: gave one flow to two queues",
            Self::OneQueue => "failed: gave all flows to one queue",
            Self::OtherTag => "failed: told of another tag than a packet had",
            Self::LeftOn => "failed: left tags on",
            Self::Fixed => "failed: the port does not change it while it runs",
            Self::Unanswered => "failed: neighbours answer only what software tagged",
        })
    }

    /// Whether it did wrong.
    pub const fn failed(self) -> bool {
        self as u8 >= Self::FalselyRight as u8
    }
}

/// Packets whose checksums the NIC must have judged as software does before its word is taken.
pub const ENOUGH: u64 = 1024;
/// So many without a word of it before that are too many.
const SILENCE: u64 = 4 * ENOUGH;
/// One burst of so many is looked at in software all the same.
const AUDIT: u32 = 64;

/// A port's offloads, and what was seen of them. All workers share it.
#[derive(Debug)]
pub struct PortOffloads {
    states: [AtomicU8; Offload::ALL.len()],
    /// Checksums that the NIC judged as software did.
    agreed: AtomicU64,
    /// Checksums of which it said nothing.
    silent: AtomicU64,
    rss: Rss,
    tags: Tags,
}

impl PortOffloads {
    /// Offloads in these states, in the order of [`Offload::ALL`].
    pub fn new(states: [State; Offload::ALL.len()]) -> Self {
        Self {
            states: states.map(|state| AtomicU8::new(state as u8)),
            agreed: AtomicU64::new(0),
            silent: AtomicU64::new(0),
            rss: Rss::new(),
            tags: Tags::new(),
        }
    }

    /// Whether an offload is used.
    pub fn state(&self, offload: Offload) -> State {
        let state = self.states[offload as usize].load(Relaxed);
        State::ALL.get(usize::from(state)).copied().unwrap_or(State::NotGranted)
    }

    /// Whether the NIC is to take tags off now: it is left to do so only once there are packets to compare with.
    pub fn wants_tags_off(&self) -> bool {
        match self.state(Offload::VlanStrip) {
            State::Checking => self.tags.knows_enough(),
            State::InUse => true,
            _ => false,
        }
    }

    /// The NIC takes tags off from now on, or (`false`) it does not do as it is told.
    pub fn takes_tags_off(&self, so: bool) {
        if so {
            self.tags.compare();
        } else {
            self.set(Offload::VlanStrip, State::Fixed);
        }
    }

    /// Whether the NIC puts on tags now.
    #[inline]
    pub fn puts_tags_on(&self) -> bool {
        self.states[Offload::VlanInsert as usize].load(Relaxed) == State::InUse as u8
    }

    /// Notes what was seen of the tags that the NIC put on: [`State::InUse`], or a state that has failed.
    pub fn found_tags_put_on(&self, found: State) {
        self.set(Offload::VlanInsert, found);
    }

    /// The kinds of frames whose flows the NIC does not deal out to its queues, as far as is known.
    #[inline]
    pub fn not_dealt_out(&self) -> Kinds {
        match self.state(Offload::Rss) {
            State::OneQueue | State::NotGranted => Kinds::ALL,
            State::InUse => self.rss.lone(),
            _ => Kinds::NONE,
        }
    }

    /// Whether any needs, or may need, a worker to look at what it receives.
    fn any(&self) -> bool {
        let received = [Offload::RxChecksum, Offload::Rss, Offload::VlanStrip];
        received.iter().any(|offload| matches!(self.state(*offload), State::Checking | State::InUse))
    }

    /// Changes a state, unless it has failed.
    fn set(&self, offload: Offload, to: State) {
        let change = |old| (!State::ALL[usize::from(old)].failed()).then_some(to as u8);
        // An error is a state that stays.
        let _ = self.states[offload as usize].fetch_update(Relaxed, Relaxed, change);
    }

    /// Notes what was seen of the checksums of a burst.
    fn checksums(&self, seen: Seen) {
        let state = self.state(Offload::RxChecksum);
        if let Some(fault) = seen.fault {
            return self.set(Offload::RxChecksum, fault);
        }
        if state != State::Checking {
            return;
        }
        let agreed = self.agreed.fetch_add(seen.agreed, Relaxed) + seen.agreed;
        let silent = self.silent.fetch_add(seen.silent, Relaxed) + seen.silent;
        if agreed >= ENOUGH {
            self.set(Offload::RxChecksum, State::InUse);
        } else if silent >= SILENCE {
            self.set(Offload::RxChecksum, State::Silent);
        }
    }
}

/// What was seen of the checksums of a burst.
#[derive(Clone, Copy, Debug, Default)]
struct Seen {
    agreed: u64,
    silent: u64,
    fault: Option<State>,
}

/// One worker's checks of its ports' offloads.
pub struct Checks {
    ports: Box<[Arc<PortOffloads>]>,
    worker: usize,
    bursts: u32,
    /// Whether the burst that is under way is compared.
    compare: bool,
}

impl Checks {
    /// For the worker of that number, on these ports; `None` where there is nothing to look at.
    pub fn new(ports: &[Arc<PortOffloads>], worker: usize) -> Option<Box<Self>> {
        let any = ports.iter().any(|port| port.any());
        any.then(|| Box::new(Self { ports: ports.into(), worker, bursts: 0, compare: false }))
    }

    /// Looks at which queue a burst's flows come on, and at the tags that the NIC took off, before any of it is handed
    /// over. One packet of each burst is enough, since this goes on.
    pub fn received<P: Packet>(&self, burst: &Burst<P>, queue: usize) {
        let (Some(port), Some(Some(packet))) =
            (self.ports.get(usize::from(burst.port.0)), burst.packets.first())
        else {
            return;
        };
        if matches!(port.state(Offload::Rss), State::Checking | State::InUse)
            && let Some(found) = port.rss.look(packet, (self.worker << 8 | queue & 0xff) as u16)
            // Others are dealt out, as another worker may have seen just now.
            && (port.state(Offload::Rss), found) != (State::InUse, State::OneQueue)
        {
            port.set(Offload::Rss, found);
        }
        if port.state(Offload::VlanStrip) == State::Checking
            && let Some(found) = port.tags.look(packet)
        {
            port.set(Offload::VlanStrip, found);
        }
    }

    /// Decides whether the NIC's word counts for a burst.
    pub fn begin<P: Packet>(&mut self, burst: &mut Burst<P>) {
        self.compare = false;
        let Some(port) = self.ports.get(usize::from(burst.port.0)) else { return };
        match port.state(Offload::RxChecksum) {
            State::Checking => self.compare = true,
            State::InUse => {
                self.bursts = self.bursts.wrapping_add(1);
                self.compare = self.bursts.is_multiple_of(AUDIT);
                burst.vouched = !self.compare;
            }
            _ => {}
        }
    }

    /// Compares, once software has decided.
    #[inline(always)]
    pub fn decided<P: Packet>(&self, burst: &Burst<P>) {
        if self.compare {
            self.compare_checksums(burst);
        }
    }

    #[cold]
    #[inline(never)]
    fn compare_checksums<P: Packet>(&self, burst: &Burst<P>) {
        let Some(port) = self.ports.get(usize::from(burst.port.0)) else { return };
        let right = burst.v4.bits();
        let mut seen = Seen::default();
        for i in Bits(burst.all()) {
            let Some(packet) = &burst.packets[i] else { continue };
            let wrong =
                burst.alive >> i & 1 == 0 && burst.verdict[i] == Verdict::Drop(DropReason::Ipv4Checksum);
            if !wrong && right >> i & 1 == 0 {
                continue;
            }
            match (packet.checksum(), wrong) {
                (Checksum::Unknown, _) => seen.silent += 1,
                (Checksum::Right, true) => seen.fault = Some(State::FalselyRight),
                (Checksum::Wrong, false) => seen.fault = Some(State::FalselyWrong),
                _ => seen.agreed += 1,
            }
        }
        port.checksums(seen);
    }
}
