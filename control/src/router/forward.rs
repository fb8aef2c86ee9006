//! The control thread's own way to forward: packets that waited for a neighbour, and ICMP errors, take the same
//! stages as all others, one at a time; frames of the kernel get their tags. All of it leaves over a worker.

use std::sync::Arc;

use dataplane::acl::RuleCounters;
use dataplane::adjacency::Adjacency;
use dataplane::burst::{Burst, SeenTo};
use dataplane::ids::SubIfId;
use dataplane::policy::Features;
use dataplane::punt::{Injected, Punted, Rings};
use dataplane::stage;
use dataplane::sub_interface::{SubInterface, Tags};
use dataplane::tables::Tables;
use dataplane::verdict::{DropReason, PuntReason, Verdict};
use dpdk_sys::{Mbuf, Mempool};

use super::fragment;

/// What became of a packet that was to be forwarded.
#[derive(Debug)]
pub enum Decided {
    /// It left, or ended.
    Done(Outcome),
    /// It is for the control thread once more, as a worker would have punted it.
    Punted(Punted<Mbuf>),
    /// It ended for this reason, and its sender is to be told that it is prohibited.
    Refused(DropReason, Punted<Mbuf>),
}

/// What has been done of a packet that control forwards.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// Its options are seen to, nothing else.
    Received,
    /// It passed the checks of what comes in, and those of its options or the wait for a neighbour.
    Admitted,
    /// A worker's checks found it too large for its link. Where it leaves may have changed meanwhile: the checks of what
    /// goes out are made anew, without being counted again, and then it is cut.
    TooLarge,
    /// It is our own.
    Ours,
}

impl From<Stage> for SeenTo {
    fn from(stage: Stage) -> Self {
        Self {
            options: true,
            ingress: stage != Stage::Received,
            egress: stage == Stage::Ours,
            size: stage == Stage::TooLarge,
        }
    }
}

/// What became of a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// On its way out.
    Sent,
    /// Ended, for the reason of this name.
    Ended(&'static str),
}

/// A packet that is ready to leave, and how.
struct Ready {
    frame: Injected<Mbuf>,
    /// Length of its L2 header, in bytes.
    l2_len: usize,
    /// The largest IP packet that may leave there, in bytes.
    mtu: u16,
}

/// The L2 header of a frame to ourselves on `sub_if`, of priority `pcp`.
pub fn header(ethertype: u16, pcp: u8, sub_if: &SubInterface) -> Vec<u8> {
    let len = sub_if.tags.l2_len();
    let mut l2 = dataplane::adjacency::Forward::new(SubIfId(0), sub_if, sub_if.mac).l2[..len].to_vec();
    if sub_if.tags != Tags::Untagged {
        l2[14] = l2[14] & 0x1f | pcp << 5;
    }
    l2[len - 2..].copy_from_slice(&ethertype.to_be_bytes());
    l2
}

/// The control thread's forwarder.
pub struct Forwarder {
    pool: Arc<Mempool>,
    rings: Vec<Rings<Mbuf>>,
    burst: Box<Burst<Mbuf>>,
    rule_counters: Arc<RuleCounters>,
}

impl Forwarder {
    /// Where rules of access lists count what this thread forwards.
    pub fn rule_counters(&self) -> &Arc<RuleCounters> {
        &self.rule_counters
    }

    /// A forwarder that takes buffers from `pool` and leaves over the workers of `rings`.
    pub fn new(pool: Arc<Mempool>, rings: Vec<Rings<Mbuf>>) -> Self {
        let rule_counters = Arc::<RuleCounters>::default();
        Self { pool, rings, burst: Box::default(), rule_counters }
    }

    /// Checks of what comes in, for a frame that was received on the port of `sub_if` and whose options are to be looked
    /// at: a worker leaves them undone.
    ///
    /// # Errors
    /// What became of a packet that did not pass.
    pub fn admit(&mut self, packet: Mbuf, sub_if: &SubInterface, tables: &Tables) -> Result<Mbuf, Decided> {
        self.begin(packet, Stage::Received, sub_if);
        stage::parse::run::<Mbuf, false>(&mut self.burst, tables);
        if tables.policies.any().any_of(Features::INGRESS) {
            stage::policy::ingress(&mut self.burst, tables);
        }
        self.end(sub_if, tables)
    }

    /// Checks of what goes out by `exit`, for a packet that was received on the port of `sub_if` and is not to leave.
    ///
    /// # Errors
    /// What became of a packet that did not pass.
    pub fn judge(
        &mut self,
        packet: Mbuf,
        sub_if: &SubInterface,
        exit: SubIfId,
        tables: &Tables,
    ) -> Result<Mbuf, Decided> {
        self.begin(packet, Stage::Admitted, sub_if);
        stage::parse::run::<Mbuf, false>(&mut self.burst, tables);
        if tables.policies.any().any_of(Features::EGRESS) {
            stage::policy::leaving_by(&mut self.burst, tables, exit);
        }
        self.end(sub_if, tables)
    }

    /// Forwards a frame that was received on the port of `sub_if`, or as if it had been, from `stage` on.
    /// `record` writes into the IPv4 options of a packet that leaves over the sub-interface it is given.
    pub fn forward(
        &mut self,
        packet: Mbuf,
        stage: Stage,
        sub_if: &SubInterface,
        tables: &Tables,
        record: impl FnOnce(SubIfId, &mut [u8]),
    ) -> Decided {
        match self.decide(packet, stage, sub_if, tables, record) {
            Ok(ready) => Decided::Done(self.inject(ready.frame)),
            Err(decided) => decided,
        }
    }

    /// The same for an IPv4 packet that is too large for its link: cuts it into fragments, which all leave where the
    /// packet would, so that what was checked is what leaves. What became of each.
    ///
    /// # Errors
    /// What became of the packet, if not that.
    pub fn fragment(
        &mut self,
        packet: Mbuf,
        sub_if: &SubInterface,
        tables: &Tables,
        record: impl FnOnce(SubIfId, &mut [u8]),
    ) -> Result<Vec<Outcome>, Decided> {
        let ready = self.decide(packet, Stage::TooLarge, sub_if, tables, record)?;
        let Injected { packet, port, sub_if, .. } = ready.frame;
        let (l2, packet) = packet.bytes().split_at_checked(ready.l2_len).unwrap_or((&[], &[]));
        let Some(fragments) = fragment::fragments(packet, ready.mtu) else {
            return Err(Decided::Done(Outcome::Ended("not_to_be_fragmented")));
        };
        let send = |fragment: Vec<u8>| match self.wrap(l2, &fragment) {
            Ok(packet) => self.inject(Injected {
                packet,
                port,
                sub_if,
                l3_len: fragment.len() as u16,
                tag_by_nic: false,
            }),
            Err(outcome) => outcome,
        };
        Ok(fragments.into_iter().map(send).collect())
    }

    /// Takes a packet through all stages but the last.
    fn decide(
        &mut self,
        packet: Mbuf,
        stage: Stage,
        sub_if: &SubInterface,
        tables: &Tables,
        record: impl FnOnce(SubIfId, &mut [u8]),
    ) -> Result<Ready, Decided> {
        self.begin(packet, stage, sub_if);
        stage::decide(&mut *self.burst, tables);
        let mut packet = self.end(sub_if, tables)?;
        let burst = &*self.burst;
        let Adjacency::Forward(adjacency) = tables.adjacency(burst.adjacency[0]) else {
            return Err(Decided::Done(Outcome::Ended("no_route")));
        };
        if let Some(packet) = packet.bytes_mut().get_mut(usize::from(adjacency.l2_len)..)
            && packet.first().is_some_and(|first| first >> 4 == 4 && first & 0xf > 5)
        {
            record(adjacency.sub_if, packet);
        }
        let (port, sub_if, l3_len) = (adjacency.port, adjacency.sub_if, burst.l3_len[0]);
        let frame = Injected { packet, port, sub_if, l3_len, tag_by_nic: false };
        Ok(Ready { frame, l2_len: usize::from(adjacency.l2_len), mtu: adjacency.mtu })
    }

    fn begin(&mut self, packet: Mbuf, stage: Stage, sub_if: &SubInterface) {
        let burst = &mut *self.burst;
        burst.frame_len[0] = packet.bytes().len() as u16;
        burst.packets[0] = Some(packet);
        burst.begin(sub_if.port, 1);
        burst.seen_to = stage.into();
        let counts = stage != Stage::TooLarge;
        burst.rule_counters = counts.then(|| Arc::clone(&self.rule_counters));
    }

    /// The packet, if it goes on, or what became of it.
    fn end(&mut self, sub_if: &SubInterface, tables: &Tables) -> Result<Mbuf, Decided> {
        let burst = &mut *self.burst;
        let Some(packet) = burst.packets[0].take() else {
            return Err(Decided::Done(Outcome::Ended("lost")));
        };
        let verdict = if burst.alive == 1 { Verdict::Forward } else { burst.verdict[0] };
        let punted = |packet, reason| Punted {
            packet,
            reason,
            port: sub_if.port,
            sub_if: burst.sub_if[0],
            l3_offset: burst.l3_offset[0],
            adjacency: burst.adjacency[0],
            mtu: tables.mtu(burst.adjacency[0]),
        };
        match verdict {
            Verdict::Forward => Ok(packet),
            Verdict::Drop(reason) => Err(Decided::Done(Outcome::Ended(reason.name()))),
            Verdict::Punt(reason) => Err(Decided::Punted(punted(packet, reason))),
            Verdict::Refuse(reason) => Err(Decided::Refused(reason, punted(packet, PuntReason::Prohibited))),
        }
    }

    /// Sends an untagged Ethernet frame, as the kernel made it, on a sub-interface with that one's tags.
    pub fn send_from_kernel(&mut self, frame: &[u8], id: SubIfId, sub_if: &SubInterface) -> Outcome {
        self.send_with_tags(frame, id, sub_if, false)
    }

    /// The same; `tag_by_nic`: the port is to put the tag on, to see whether it does.
    pub fn send_with_tags(
        &mut self,
        frame: &[u8],
        id: SubIfId,
        sub_if: &SubInterface,
        tag_by_nic: bool,
    ) -> Outcome {
        let Some((addresses, rest)) = frame.split_at_checked(12) else {
            return Outcome::Ended("frame_too_short");
        };
        if rest.len() < 2 {
            return Outcome::Ended("frame_too_short");
        }
        let mut packet = match self.buffer(frame.len() + sub_if.tags.l2_len() - 14) {
            Ok(packet) => packet,
            Err(outcome) => return outcome,
        };
        let bytes = packet.bytes_mut();
        let mut at = 0;
        let mut put = |part: &[u8]| {
            bytes[at..at + part.len()].copy_from_slice(part);
            at += part.len();
        };
        put(addresses);
        let priority = u16::from(sub_if.pcp.unwrap_or(0)) << 13;
        let tags = match sub_if.tags {
            Tags::Untagged => [None, None],
            Tags::One(tag) => [Some(tag), None],
            Tags::Two(outer, inner) => [Some(outer), Some(inner)],
        };
        for tag in tags.into_iter().flatten() {
            put(&tag.tpid.to_be_bytes());
            put(&(tag.vid | priority).to_be_bytes());
        }
        put(rest);
        let l3_len = (rest.len() - 2) as u16;
        self.inject(Injected { packet, port: sub_if.port, sub_if: id, l3_len, tag_by_nic })
    }

    /// An Ethernet frame to ourselves: the L2 header `l2` as [`header`] gives it or as it was received, and an IP
    /// packet. [`Self::forward`] takes packets that we made in this form.
    ///
    /// # Errors
    /// No buffer, as an outcome.
    pub fn wrap(&mut self, l2: &[u8], packet: &[u8]) -> Result<Mbuf, Outcome> {
        let mut frame = self.buffer(l2.len() + packet.len())?;
        let (header, rest) = frame.bytes_mut().split_at_mut(l2.len());
        header.copy_from_slice(l2);
        rest.copy_from_slice(packet);
        Ok(frame)
    }

    fn buffer(&mut self, len: usize) -> Result<Mbuf, Outcome> {
        let mut packet = self.pool.alloc().ok_or(Outcome::Ended("no_buffer"))?;
        match packet.append(len) {
            Some(_) => Ok(packet),
            None => Err(Outcome::Ended("too_long")),
        }
    }

    /// One worker sends for a sub-interface, so that its packets keep their order.
    fn inject(&mut self, injected: Injected<Mbuf>) -> Outcome {
        let worker = usize::from(injected.sub_if.0) % self.rings.len().max(1);
        match self.rings.get(worker).map(|rings| rings.inject.push(injected)) {
            Some(Ok(())) => Outcome::Sent,
            _ => Outcome::Ended("inject_ring_full"),
        }
    }
}
