//! A worker's part of it: copies what sessions want of a burst. All of it is off a packet's way as long as there is no
//! session.
//!
//! A received frame is copied before the stages change it, which is before it is known what becomes of it. So a record
//! is taken for each packet that may match, and given back if in the end it does not. Frames that are sent are copied
//! behind the stages, and handed over once their TX queue has taken them.

use super::decided::{Decided, NO_ADJACENCY, sub_if, verdict};
use super::fields::Fields;
use super::record::Kind;
use super::session::{Session, What};
use super::wanted::{Pending, Source, Wanted};
use super::{MAX_SESSIONS, Watch};
use crate::burst::{BURST, Bits, Burst};
use crate::counters::WorkerCounters;
use crate::ids::{PortId, SubIfId};
use crate::io::PortIo;
use crate::packet::{Packet, StrippedTags};
use crate::punt::PuntPath;
use crate::stage::transmit::{self, Outbound};
use crate::tables::Tables;
use crate::verdict::Verdict;

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
            note_fields(&mut self.fields, burst, burst.all(), P::stripped_tags);
        }
        for (place, session) in wanting {
            for i in Bits(burst.all()) {
                if let Some(packet) = &burst.packets[i]
                    && session.program().matches(&self.fields[i], None) != Some(false)
                {
                    let record = self.source.record(session, packet, packet.stripped_tags(), Kind::Received);
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
        let decided = Decided::of(burst);
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
            note_fields(&mut self.fields, burst, ended, P::stripped_tags);
        }
        if open().any(|(_, session)| matches!(session.what(), What::Capture { sent: true, .. })) {
            // What the NIC took off was received: a frame that leaves has its own tags.
            note_fields(&mut self.sent_fields, burst, burst.alive, |_| StrippedTags::None);
        }
        for (place, session) in open() {
            let Pending { received, sent } = &mut self.pending[place];
            if only_dropped(session) {
                for i in Bits(ended) {
                    if let Some(packet) = &burst.packets[i]
                        && session.place().is(burst.port, sub_if(burst, i))
                        && session.program().matches(&self.fields[i], None) != Some(false)
                    {
                        let tags = packet.stripped_tags();
                        received.add(i, self.source.record(session, packet, tags, Kind::Received));
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
                            sent.add(i, self.source.record(session, packet, StrippedTags::None, Kind::Sent));
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
                    let record = source.record(session, packet, StrippedTags::None, Kind::Sent);
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
                wanted.add(0, self.source.record(session, packet, StrippedTags::None, Kind::Injected));
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

/// Reads what matching needs of these packets, as bits. `tags`: those that a packet has beside its bytes.
fn note_fields<P: Packet>(
    fields: &mut [Fields; BURST],
    burst: &Burst<P>,
    of: u64,
    tags: impl Fn(&P) -> StrippedTags,
) {
    for i in Bits(of) {
        if let Some(packet) = &burst.packets[i] {
            fields[i] = Fields::of(packet.bytes(), tags(packet));
        }
    }
}
