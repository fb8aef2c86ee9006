//! A worker's part of it: copies what sessions want of a burst. All of it is off a packet's way as long as there is no
//! session.
//!
//! A received frame is copied before the stages change it, which is before it is known what becomes of it. So a record
//! is taken for each packet that may match, and given back if in the end it does not. Frames that are sent are copied
//! behind the stages, and handed over once their TX queue has taken them.

use super::fields::Fields;
use super::record::{Kind, Out, Record};
use super::session::{Session, What};
use super::{MAX_SESSIONS, Watch};
use crate::burst::{BURST, Bits, Burst};
use crate::counters::WorkerCounters;
use crate::header::ethernet::TPID_8021Q;
use crate::ids::{AdjId, GroupId, PortId, SubIfId};
use crate::io::PortIo;
use crate::packet::{Packet, StrippedTags};
use crate::punt::PuntPath;
use crate::stage::transmit::{self, Outbound};
use crate::tables::Tables;
use crate::verdict::Verdict;

/// What stands for «none chosen» while a burst is watched; no table is that long.
const NO_ADJACENCY: AdjId = AdjId(u32::MAX);

/// Packets of a burst that a session may want, as bits, and their records, where there were free ones.
struct Wanted {
    packets: u64,
    records: [Option<Box<Record>>; BURST],
}

impl Wanted {
    fn new() -> Self {
        Self { packets: 0, records: [const { None }; BURST] }
    }

    fn add(&mut self, i: usize, record: Option<Box<Record>>) {
        self.packets |= 1 << i;
        self.records[i] = record;
    }
}

/// What of a burst one session may want.
struct Pending {
    received: Wanted,
    sent: Wanted,
}

/// Where a worker's records come from, and when it looked.
#[derive(Clone, Copy)]
struct Source {
    worker: usize,
    now: u64,
}

impl Source {
    /// A record of a frame as it is now, if one is free.
    fn record<P: Packet>(self, session: &Session, packet: &P, kind: Kind) -> Option<Box<Record>> {
        let mut record = session.free(self.worker)?;
        let frame = packet.bytes();
        let (addresses, rest) = frame.split_at(frame.len().min(12));
        let mut tags = [0; 8];
        let count = put_tags(packet.stripped_tags(), &mut tags);
        record.begin(self.now, kind, [addresses, &tags[..count], rest]);
        Some(record)
    }

    /// Hands over the record of what matched on `port`, or gives it back.
    fn settle(
        self,
        session: &Session,
        matched: bool,
        port: PortId,
        mut record: Option<Box<Record>>,
        fill: impl FnOnce(&mut Record),
    ) {
        if matched {
            if let Some(record) = &mut record {
                record.port = port;
                fill(record);
            }
            session.hand_over(self.worker, port, record);
        } else if let Some(record) = record {
            session.give_back(self.worker, record);
        }
    }
}

/// Puts back tags that the NIC took off. It does not tell their TPIDs; ExpressRoute's default is 0x8100 on both.
fn put_tags(stripped: StrippedTags, to: &mut [u8; 8]) -> usize {
    let (tags, count) = match stripped {
        StrippedTags::None => ([0, 0], 0),
        StrippedTags::One(tci) => ([tci, 0], 4),
        StrippedTags::Two { outer, inner } => ([outer, inner], 8),
    };
    for (to, tci) in to.chunks_exact_mut(4).zip(tags) {
        to[..2].copy_from_slice(&TPID_8021Q.to_be_bytes());
        to[2..].copy_from_slice(&tci.to_be_bytes());
    }
    count
}

/// What a worker keeps for the sessions of one burst.
pub(crate) struct Observer {
    source: Source,
    /// Of the burst's packets as received; of an injected one in the first place.
    fields: Box<[Fields; BURST]>,
    /// Of its packets as they leave, where a session wants those.
    sent_fields: Box<[Fields; BURST]>,
    /// By the session's place.
    pending: Box<[Pending]>,
}

impl Observer {
    /// For the worker of that number.
    pub(crate) fn new(worker: usize) -> Self {
        let pending = || Pending { received: Wanted::new(), sent: Wanted::new() };
        Self {
            source: Source { worker, now: 0 },
            fields: Box::new([Fields::default(); BURST]),
            sent_fields: Box::new([Fields::default(); BURST]),
            pending: (0..MAX_SESSIONS).map(|_| pending()).collect(),
        }
    }

    /// Looks at a burst that was just received, `now` by the worker's clock.
    #[cold]
    #[inline(never)]
    pub(crate) fn received<P: Packet>(&mut self, watch: &Watch, burst: &mut Burst<P>, now: u64) {
        self.source.now = now;
        burst.adjacency.fill(NO_ADJACENCY);
        burst.keep_unsent = true;
        // What is noted here of a packet is by its place.
        burst.pinned = true;
        for pending in &mut self.pending {
            pending.received.packets = 0;
            pending.sent.packets = 0;
        }
        let port = burst.port;
        let wants = |session: &Session| match session.what() {
            What::Trace => true,
            What::Capture { received, .. } => received && session.place().may_be(port),
        };
        let mut wanting =
            watch.sessions().filter(|(_, session)| session.is_open() && wants(session)).peekable();
        if wanting.peek().is_some() {
            note_fields(&mut self.fields, burst, burst.all());
        }
        for (place, session) in wanting {
            for i in Bits(burst.all()) {
                if let Some(packet) = &burst.packets[i]
                    && session.program().matches(&self.fields[i], None) != Some(false)
                {
                    let record = self.source.record(session, packet, Kind::Received);
                    self.pending[place].received.add(i, record);
                }
            }
        }
    }

    /// Transmits a burst, and looks at what becomes of it.
    #[cold]
    #[inline(never)]
    #[expect(clippy::too_many_arguments, reason = "those of the stage, and itself")]
    pub(crate) fn transmit<I: PortIo>(
        &mut self,
        watch: &Watch,
        io: &mut I,
        burst: &mut Burst<I::Packet>,
        tables: &Tables,
        outbound: &mut Outbound<I::Packet>,
        punts: &mut PuntPath<I::Packet>,
        counters: &WorkerCounters,
    ) {
        self.source.now = io.cycles();
        self.decided(watch, burst);
        let decided = Decided { leaving: burst.alive, groups: groups(burst) };
        transmit::run::<I, false>(io, burst, tables, outbound, punts, counters);
        self.ended(watch, burst, &decided);
        burst.packets.fill_with(|| None);
        burst.keep_unsent = false;
    }

    /// Copies frames that are about to be sent, and those that end here, which are as they came.
    fn decided<P: Packet>(&mut self, watch: &Watch, burst: &Burst<P>) {
        let ended = burst.all() & !burst.alive;
        let open = || watch.sessions().filter(|(_, session)| session.is_open());
        if open().any(|(_, session)| only_dropped(session)) {
            note_fields(&mut self.fields, burst, ended);
        }
        if open().any(|(_, session)| matches!(session.what(), What::Capture { sent: true, .. })) {
            note_fields(&mut self.sent_fields, burst, burst.alive);
        }
        for (place, session) in open() {
            let Pending { received, sent } = &mut self.pending[place];
            if only_dropped(session) {
                for i in Bits(ended) {
                    if let Some(packet) = &burst.packets[i]
                        && session.place().is(burst.port, sub_if(burst, i))
                        && session.program().matches(&self.fields[i], None) != Some(false)
                    {
                        received.add(i, self.source.record(session, packet, Kind::Received));
                    }
                }
            }
            for i in Bits(burst.alive) {
                let Some(packet) = &burst.packets[i] else { continue };
                match session.what() {
                    What::Trace => {
                        if let Some(record) = &mut received.records[i] {
                            record.set_sent(packet.bytes());
                        }
                    }
                    What::Capture { sent: true, .. } => {
                        if session.place().is(burst.out_port[i], Some(burst.out_sub_if[i]))
                            && session.program().matches(&self.sent_fields[i], None) != Some(false)
                        {
                            sent.add(i, self.source.record(session, packet, Kind::Sent));
                        }
                    }
                    What::Capture { .. } => break,
                }
            }
        }
    }

    /// Hands over what matched, now that it is known how each packet ended.
    fn ended<P: Packet>(&mut self, watch: &Watch, burst: &Burst<P>, decided: &Decided) {
        for (place, session) in watch.sessions() {
            let (source, pending) = (self.source, &mut self.pending[place]);
            for i in Bits(std::mem::take(&mut pending.received.packets)) {
                let verdict = verdict(burst, i);
                let matched = session.program().matches(&self.fields[i], Some(verdict)) == Some(true)
                    && wants_received(session, burst, i, decided, verdict);
                let record = pending.received.records[i].take();
                source.settle(session, matched, burst.port, record, |record| {
                    record.verdict = verdict;
                    decided.tell(burst, i, record);
                });
            }
            let What::Capture { sent, dropped, .. } = session.what() else { continue };
            for i in Bits(std::mem::take(&mut pending.sent.packets)) {
                let verdict = verdict(burst, i);
                let matched = (dropped || verdict == Verdict::Forward)
                    && session.program().matches(&self.sent_fields[i], Some(verdict)) == Some(true);
                let record = pending.sent.records[i].take();
                source.settle(session, matched, burst.out_port[i], record, |record| {
                    record.verdict = verdict;
                    record.sub_if = Some(burst.out_sub_if[i]);
                });
            }
            if sent || !dropped {
                continue;
            }
            // What a TX queue had no room for, of a session that did not want it as long as it might have been sent.
            for i in Bits(decided.leaving & !burst.alive) {
                let Some(packet) = &burst.packets[i] else { continue };
                let (verdict, port) = (verdict(burst, i), burst.out_port[i]);
                let fields = Fields::of(packet.bytes(), StrippedTags::None);
                if session.place().is(port, Some(burst.out_sub_if[i]))
                    && session.program().matches(&fields, Some(verdict)) == Some(true)
                {
                    let record = source.record(session, packet, Kind::Sent);
                    source.settle(session, true, port, record, |record| {
                        record.verdict = verdict;
                        record.sub_if = Some(burst.out_sub_if[i]);
                    });
                }
            }
        }
    }

    /// Looks at a packet of the control thread before it is sent.
    #[cold]
    #[inline(never)]
    pub(crate) fn injecting<P: Packet>(
        &mut self,
        watch: &Watch,
        packet: &P,
        port: PortId,
        sub_if: SubIfId,
        now: u64,
    ) {
        self.source.now = now;
        self.fields[0] = Fields::of(packet.bytes(), StrippedTags::None);
        for (place, session) in watch.sessions() {
            let wanted = &mut self.pending[place].sent;
            wanted.packets = 0;
            let may_want = match session.what() {
                What::Trace => true,
                What::Capture { sent, dropped, .. } => sent || dropped,
            };
            if may_want
                && session.is_open()
                && session.place().is(port, Some(sub_if))
                && session.program().matches(&self.fields[0], None) != Some(false)
            {
                wanted.add(0, self.source.record(session, packet, Kind::Injected));
            }
        }
    }

    /// Hands it over, if it was sent or dropped. Without a verdict it waits, and is looked at again.
    #[cold]
    #[inline(never)]
    pub(crate) fn injected(
        &mut self,
        watch: &Watch,
        port: PortId,
        sub_if: SubIfId,
        verdict: Option<Verdict>,
    ) {
        for (place, session) in watch.sessions() {
            let wanted = &mut self.pending[place].sent;
            if std::mem::take(&mut wanted.packets) == 0 {
                continue;
            }
            let matched = verdict.is_some_and(|verdict| {
                let wants = match (session.what(), verdict) {
                    (What::Trace, _) => true,
                    (What::Capture { sent, .. }, Verdict::Forward) => sent,
                    (What::Capture { dropped, .. }, _) => dropped,
                };
                wants && session.program().matches(&self.fields[0], Some(verdict)) == Some(true)
            });
            self.source.settle(session, matched, port, wanted.records[0].take(), |record| {
                record.verdict = verdict.unwrap_or(Verdict::Forward);
                record.sub_if = Some(sub_if);
            });
        }
    }
}

/// What is known of a burst's packets once it has passed the stages.
struct Decided {
    /// Those that were to leave, as bits.
    leaving: u64,
    /// What the FIB said of each that was looked up.
    groups: [Option<GroupId>; BURST],
}

impl Decided {
    /// Writes down what was decided of packet `i`.
    fn tell<P: Packet>(&self, burst: &Burst<P>, i: usize, record: &mut Record) {
        record.sub_if = sub_if(burst, i);
        record.vrf = record.sub_if.map(|_| burst.vrf[i]);
        record.group = self.groups[i];
        record.adjacency = Some(burst.adjacency[i]).filter(|id| *id != NO_ADJACENCY);
        record.out = self.out(burst, i);
    }

    fn out<P: Packet>(&self, burst: &Burst<P>, i: usize) -> Option<Out> {
        let leaving = self.leaving >> i & 1 == 1;
        leaving.then(|| Out { port: burst.out_port[i], sub_if: burst.out_sub_if[i], len: burst.out_len[i] })
    }
}

/// Whether a session captures frames that were dropped, but not all that were received.
fn only_dropped(session: &Session) -> bool {
    matches!(session.what(), What::Capture { received: false, dropped: true, .. })
}

/// Whether a session wants packet `i`, as received, that ended so.
fn wants_received<P: Packet>(
    session: &Session,
    burst: &Burst<P>,
    i: usize,
    decided: &Decided,
    verdict: Verdict,
) -> bool {
    let here = session.place().is(burst.port, sub_if(burst, i));
    match session.what() {
        What::Trace => {
            here || decided.out(burst, i).is_some_and(|out| session.place().is(out.port, Some(out.sub_if)))
        }
        What::Capture { received, .. } => here && (received || matches!(verdict, Verdict::Drop(_))),
    }
}

fn note_fields<P: Packet>(fields: &mut [Fields; BURST], burst: &Burst<P>, of: u64) {
    for i in Bits(of) {
        if let Some(packet) = &burst.packets[i] {
            fields[i] = Fields::of(packet.bytes(), packet.stripped_tags());
        }
    }
}

/// What the FIB said of each packet that was looked up.
fn groups<P: Packet>(burst: &Burst<P>) -> [Option<GroupId>; BURST] {
    let mut groups = [None; BURST];
    let v4 = burst.v4.packet.iter().zip(&burst.v4.group).take(burst.v4.len);
    let v6 = burst.v6.packet.iter().zip(&burst.v6.group).take(burst.v6.len);
    for (i, group) in v4.chain(v6) {
        groups[usize::from(*i) & (BURST - 1)] = Some(*group);
    }
    groups
}

fn sub_if<P: Packet>(burst: &Burst<P>, i: usize) -> Option<SubIfId> {
    (burst.classified >> i & 1 == 1).then(|| burst.sub_if[i])
}

fn verdict<P: Packet>(burst: &Burst<P>, i: usize) -> Verdict {
    if burst.alive >> i & 1 == 1 { Verdict::Forward } else { burst.verdict[i] }
}
